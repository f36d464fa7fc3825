//! The world that faults act on.

use std::collections::BTreeMap;
use std::time::Duration;

use armilla::client::{PdClient, Space};
use armilla::codec;
use armilla::proto::armilla::pd::ChangeSettings;
use armilla::proto::armilla::pd::change_regions_request::Change;
use armilla::proto::armilla::raft::RaftBatch;
use armilla::proto::kvrpcpb::{self, SplitRegionRequest};
use armilla::proto::tikvpb::tikv_client::TikvClient;
use armilla::rt::rng::Rng;
use armilla::rt::sim::{LinkConfig, NodeHandle, World};
use armilla::types::{Api, GroupId, Region, region};
use bytes::Bytes;

use super::force::Machines;
use super::target::Target;
use crate::cluster::monitor::Monitor;
use crate::cluster::{Cluster, Death};
use crate::oracle::settings::{About, Value};
use crate::oracle::ttl::WallClocks;
use crate::plan::keys::boundary as boundary_key;

/// Everything that a fault may act on or must report to.
pub struct Context {
    /// The simulated world.
    pub world: World,
    /// The monitor, which knows each group's leader.
    pub monitor: Monitor,
    /// The stores.
    pub cluster: Cluster,
    /// The numbers of all machines.
    pub machines: Machines,
    /// The configuration of links without faults.
    pub link: LinkConfig,
    /// The first regions, in the order of their keys.
    pub regions: Vec<Region>,
    /// Which keys the clients use.
    pub space: Space,
    /// The client that requests leadership transfers.
    pub pd: PdClient,
    /// The machine on which that client runs.
    pub admin: NodeHandle,
    /// Records the wall clocks before and after a step.
    pub wall_clocks: WallClocks,
    /// The run's stream of random numbers; each fault has its own one.
    pub rng: Rng,
    /// The node whose disk was lost, damaged or replaced: its replicas may be permanently lost, and a new store then
    /// replaces its store.
    pub wiped: Option<u64>,
    /// The node whose store the placement driver was asked to declare lost: no other one may be lost for good.
    pub replaced: Option<u64>,
    /// By node: messages sent to it that will be delivered again, the oldest first.
    pub held: BTreeMap<u64, Vec<Vec<RaftBatch>>>,
    /// Whether some nodes have other timeouts than the plan's, so that the length of a pause has no known bound.
    pub settings_differ: bool,
    /// Whether leaders serve reads under leases, so that no leader's clock may stop.
    pub lease_reads: bool,
    /// Whether logs are large enough to keep the entries that a follower needs after a snapshot.
    pub keeps_log: bool,
    /// By node: until when (true ns) connections to it may hang or lag although it is up.
    pub unsettled: BTreeMap<u64, u64>,
}

/// The longest time after which keepalive closes a broken connection on the calling side.
const KEEPALIVE_NS: u64 = 16_000_000_000;

impl Context {
    /// Creates a new stream of random numbers.
    pub fn fork(&mut self, label: &str) -> Rng {
        Rng::fork(self.rng.next_u64(), label)
    }

    /// Returns the node that a target names now.
    pub fn resolve(&self, target: Target) -> u64 {
        let ids = &self.machines.stores;
        let leader = |group: u64| {
            self.monitor.with(|observed| observed.leaders.get(&group).map(|(_, node)| *node)).unwrap_or(ids[0])
        };
        match target {
            Target::Node(n) => ids[(n as usize - 1) % ids.len()],
            Target::Leader(region) => leader(self.group(region).unwrap_or(0)),
            Target::Follower(region) => {
                let leads = self.resolve(Target::Leader(region));
                ids.iter().copied().find(|id| *id > leads).unwrap_or(ids[0])
            }
            Target::PdLeader => leader(GroupId::PD.0),
        }
    }

    /// Returns the group of the region with this number: as many as there were regions at first have their numbers in
    /// the order of their keys, and keep them when they are split. Higher numbers name the pieces that were born from
    /// them, if there are any.
    pub fn group(&self, number: u32) -> Option<u64> {
        let count = self.regions.len().max(1);
        let first = self.regions.get(number as usize % count)?;
        let mut pieces = self.monitor.with(|observed| observed.ranges.regions());
        pieces.retain(|piece| region::holds(first, &piece.start_key));
        // The last piece is the one with the first region's id.
        let at = number as usize / count % pieces.len().max(1);
        Some(pieces.iter().rev().nth(at).map_or(first.id, |piece| piece.id))
    }

    /// Ends a node's process, if it is up.
    pub fn kill(&mut self, node: u64, death: Death, rng: &mut Rng) {
        if self.cluster.is_up(node) {
            self.cluster.crash(node, death, rng);
            self.monitor.with(|observed| {
                observed.moved.died(node);
                observed.lanes.died(node);
            });
            if death == Death::PowerOff {
                self.unsettle(node);
            }
        }
    }

    /// Cuts the power of a machine. In half of the cases its peers' connections are not closed.
    pub fn cut_power(&mut self, node: u64, rng: &mut Rng) {
        let death = if rng.chance(0.5) { Death::PowerOff } else { Death::PowerLoss };
        self.kill(node, death, rng);
    }

    /// Records that connections to a node may hang or lag from now on, until keepalive closes them.
    pub fn unsettle(&mut self, node: u64) {
        self.unsettled.insert(node, self.world.now_ns() + KEEPALIVE_NS);
    }

    /// Returns whether connections to a node that is up may hang or lag.
    pub fn is_unsettled(&self) -> bool {
        let now_ns = self.world.now_ns();
        self.unsettled.iter().any(|(node, until_ns)| *until_ns > now_ns && self.cluster.is_up(*node))
    }

    /// Asks the placement driver to make another store the leader of a group.
    pub fn transfer(&self, group: u64, to: u32) {
        let node = self.resolve(Target::Node(to));
        let store =
            self.monitor.with(|observed| observed.node_of.iter().find(|(_, n)| **n == node).map(|(store, _)| *store));
        let Some(store) = store else { return };
        let pd = self.pd.with_deadline(Duration::from_secs(2));
        self.admin.spawn(async move {
            // A refusal (the leader just moved) is ignored.
            let _ = pd.transfer_leader(group, store).await;
        });
    }

    /// Returns the newest store of the node with this number.
    pub fn store_on(&self, node: u32) -> Option<u64> {
        let node = self.resolve(Target::Node(node));
        self.monitor.with(|observed| observed.node_of.iter().rfind(|(_, n)| **n == node).map(|(store, _)| *store))
    }

    /// Returns the store of one of a region's peers.
    pub fn store_of_peer(&self, group: u64, peer: u32) -> Option<u64> {
        let regions = self.monitor.with(|observed| observed.ranges.regions());
        let region = regions.iter().find(|region| region.id == group)?;
        region.peers.get(peer as usize % region.peers.len().max(1)).map(|peer| peer.store_id)
    }

    /// Asks the placement driver to change a setting, unless a change of it is under way.
    pub fn change_settings(&self, about: About, value: Value, change: ChangeSettings) {
        if !self.monitor.with(|observed| observed.settings.begin(about)) {
            return;
        }
        let pd = self.pd.with_deadline(Duration::from_secs(2));
        let (monitor, world) = (self.monitor.clone(), self.world.clone());
        self.admin.spawn(async move {
            // After a failure it is not known whether the setting was changed.
            let changed = pd.change_settings(change).await.is_ok();
            monitor.with(|observed| observed.settings.end(about, changed.then_some(value), world.now_ns()));
        });
    }

    /// Returns whether the data of a node may be lost for good: groups survive the loss of one.
    pub fn may_lose(&self, node: u64) -> bool {
        [self.wiped, self.replaced].into_iter().flatten().all(|lost| lost == node)
    }

    /// Asks the placement driver to let a store take the place of another one, which runs on `node` if it still runs.
    pub fn replace_store(&mut self, node: u64, lost: u64, by: u64) {
        self.replaced = Some(node);
        let pd = self.pd.with_deadline(Duration::from_secs(2));
        // If the store returns after it has become empty, the placement driver has removed it.
        self.cluster.may_be_removed(node);
        self.admin.spawn(async move {
            // A refusal (it is alive) is ignored.
            let _ = pd.replace_store(lost, by).await;
        });
    }

    /// Asks the placement driver to add or remove a replica.
    pub fn change_regions(&self, change: Change) {
        if let Change::AddPeer(peer) | Change::RemovePeer(peer) = &change {
            self.monitor.with(|observed| observed.limits.by_hand.insert(peer.region_id));
        }
        let pd = self.pd.with_deadline(Duration::from_secs(2));
        self.admin.spawn(async move {
            // A refusal (it is there already, or the quorum would be lost) is ignored.
            let _ = pd.change_regions(change).await;
        });
    }

    /// Asks the placement driver to move one of a region's replicas, or one of its own members, to a node.
    pub fn move_peer(&self, group: u64, peer: u32, to: u32) {
        let node = self.resolve(Target::Node(to));
        let found = self.monitor.with(|observed| {
            let mut regions = observed.ranges.regions();
            regions.push(observed.pd_group.clone());
            let region = regions.iter().find(|region| region.id == group)?;
            let from = region.peers.get(peer as usize % region.peers.len().max(1))?.store_id;
            // The newest store of the node.
            let (to, _) = observed.node_of.iter().rfind(|(_, n)| **n == node)?;
            Some((from, *to))
        });
        let Some((from, to)) = found else { return };
        let pd = self.pd.with_deadline(Duration::from_secs(2));
        self.admin.spawn(async move {
            // A refusal (it is there already) is ignored.
            let _ = pd.move_peer(group, from, to).await;
        });
    }

    /// Asks the placement driver to make a region part of its left or right neighbour.
    pub fn merge(&self, group: u64, right: bool) {
        let found = self.monitor.with(|observed| {
            let regions = observed.ranges.regions();
            let region = regions.iter().find(|region| region.id == group)?;
            let meets = |other: &&Region| {
                let (left, next) = if right { (region, *other) } else { (*other, region) };
                !left.end_key.is_empty() && left.end_key == next.start_key
            };
            regions.iter().find(meets).map(|target| target.id)
        });
        let Some(target) = found else { return };
        let pd = self.pd.with_deadline(Duration::from_secs(2));
        self.admin.spawn(async move {
            // A refusal (it takes part in another merge) is ignored.
            let _ = pd.merge_regions(group, target).await;
        });
    }

    /// Splits the region that holds the first of these boundaries there and at all others that are inside it. With
    /// API V1, each second boundary is asked for at a raw key that lies among the versions of the key there.
    pub fn split(&self, boundaries: &[u32]) {
        let asked = |number: u32| match self.space.api() {
            Api::V1 if number % 2 == 1 => [&boundary_key(self.space, number)[..], b"~"].concat().into(),
            _ => boundary_key(self.space, number),
        };
        let mut keys: Vec<Bytes> = boundaries.iter().map(|boundary| asked(*boundary)).collect();
        let found = self.monitor.with(|observed| {
            let region = observed.ranges.holding(keys.first()?)?.clone();
            let (_, node) = *observed.leaders.get(&region.id)?;
            let mut peers = region.peers.iter();
            let peer = *peers.rfind(|peer| observed.node_of.get(&peer.store_id) == Some(&node))?;
            Some((region, peer, node))
        });
        let Some((region, peer, node)) = found else { return };
        keys.retain(|key| region::holds(&region, key) && *key > region.start_key);
        let address = &self.cluster.addresses()[node as usize - 1];
        if keys.is_empty() {
            return;
        }
        let Ok(channel) = self.admin.env().net.channel(address) else { return };
        let context = kvrpcpb::Context {
            region_id: region.id,
            region_epoch: region.region_epoch,
            peer: Some(peer),
            api_version: self.space.api_version(),
            ..kvrpcpb::Context::default()
        };
        if self.space.api() == Api::V2 {
            keys.iter_mut().for_each(|key| *key = codec::bytes::decode(key).expect("boundaries are encoded"));
        }
        let request =
            SplitRegionRequest { context: Some(context), split_keys: keys, is_raw_kv: true, ..Default::default() };
        self.admin.spawn(async move {
            // A refusal (the leader or the region just changed) is ignored.
            let _ = TikvClient::new(channel).split_region(request).await;
        });
    }
}
