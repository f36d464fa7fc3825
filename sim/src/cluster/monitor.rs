//! Receives every probe event, feeds the online oracles, and tracks each group's leader.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use armilla::proto::metapb::PeerRole;
use armilla::rt::probe::Event;
use armilla::rt::sim::World;
use armilla::rt::sim::probe::{ProbeRecord, What};
use armilla::rt::sync::Notify;
use armilla::types::{GroupId, Region, region};

use super::operations::Operations;
use crate::oracle::appends::Appends;
use crate::oracle::births::Births;
use crate::oracle::collection::Collection;
use crate::oracle::fetches::Fetches;
use crate::oracle::hot::Loads;
use crate::oracle::lanes::Lanes;
use crate::oracle::leaders::Leaders;
use crate::oracle::lease::Leases;
use crate::oracle::limits::Limits;
use crate::oracle::losses::Losses;
use crate::oracle::pause::{self, Pauses};
use crate::oracle::raft::Raft;
use crate::oracle::ranges::{self, Ranges};
use crate::oracle::reads::Reads;
use crate::oracle::removed::Removed;
use crate::oracle::room::Rooms;
use crate::oracle::rounds::Rounds;
use crate::oracle::runs::Runs;
use crate::oracle::settings::Settings;
use crate::oracle::sleep::Sleep;
use crate::oracle::tso::Issued;
use crate::oracle::{Violation, strays};

/// The state of the online oracles, and the facts that the scenario needs.
#[derive(Debug, Default)]
pub struct Observed {
    /// Raft's safety properties.
    pub raft: Raft,
    /// Leases, as they are taken.
    pub leases: Leases,
    /// The ranges of regions, and who serves them.
    pub ranges: Ranges,
    /// Newborn regions, which need a leader.
    pub births: Births,
    /// Reads, as they are served.
    pub reads: Reads,
    /// Timestamps, as they are issued.
    pub issued: Issued,
    /// Lanes of stores whose engine is slow.
    pub lanes: Lanes,
    /// Leaders of healthy stores, which must not move without a reason.
    pub moved: Leaders,
    /// The sizes of append messages.
    pub appends: Appends,
    /// Old entries in flight to lagging stores.
    pub fetches: Fetches,
    /// How long lanes work without checking for messages.
    pub rounds: Rounds,
    /// Stores that are told that they lost entries.
    pub losses: Losses,
    /// Which regions sleep.
    pub sleep: Sleep,
    /// Runs of stores, as their peers know them.
    pub runs: Runs,
    /// Stores with little disk space.
    pub rooms: Rooms,
    /// Loads of regions.
    pub loads: Loads,
    /// Settings of the placement driver.
    pub settings: Settings,
    /// Limits of stores.
    pub limits: Limits,
    /// Collection of expired values.
    pub collection: Collection,
    /// The highest safe point up to which some region has removed old versions.
    pub collected: u64,
    /// Old versions that were removed.
    pub removed: Removed,
    /// Intervals in which a region takes no writes.
    pub pauses: Pauses,
    /// What happened to the regions.
    pub operations: Operations,
    /// The first violation.
    pub violation: Option<Violation>,
    /// By group: the highest term that has a leader, and the leader's node.
    pub leaders: BTreeMap<u64, (u64, u64)>,
    /// By group: when (true time, ns) that leader was elected.
    pub led_since: BTreeMap<u64, u64>,
    /// By store: the node that runs it.
    pub node_of: BTreeMap<u64, u64>,
    /// The newest descriptor of the placement driver's group.
    pub pd_group: Region,
    /// By group whose members have changed: the stores of its voters.
    voters: BTreeMap<u64, Vec<u64>>,
    /// Nodes whose store stopped serving in their present incarnation, and why.
    pub poisoned: BTreeMap<u64, String>,
}

impl Observed {
    /// Returns the node that runs a store, or [`pause::NOWHERE`] if another store has taken its place there.
    fn living_node(&self, store: u64) -> u64 {
        let node = self.node_of.get(&store).copied().unwrap_or(pause::NOWHERE);
        let replaced = self.node_of.iter().any(|(other, of)| *of == node && *other > store);
        if replaced { pause::NOWHERE } else { node }
    }

    /// Notes the node that runs a store.
    fn note_store(&mut self, store: u64, node: u64) {
        if self.node_of.insert(store, node).is_none() {
            // It may have taken the place of another store.
            let groups: Vec<u64> = self.voters.keys().copied().collect();
            groups.into_iter().for_each(|group| self.note_voters(group));
        }
    }

    /// Tells the oracle of pauses where a group's voters are, if its members have changed.
    fn note_voters(&mut self, group: u64) {
        if let Some(voters) = self.voters.get(&group) {
            let nodes = voters.iter().map(|store| self.living_node(*store)).collect();
            self.pauses.members_changed(group, nodes);
        }
    }

    /// Tells the oracles about a region that has been split or born. The first regions are told when the cluster has
    /// been founded.
    fn note_region(&mut self, region: &Region, now_ns: u64) {
        let is_newest = self.raft.members(region);
        if is_newest && region.id == GroupId::PD.0 {
            self.pd_group = region.clone();
        }
        if is_newest && region::epoch(region).conf_ver > 1 {
            let voters = region.peers.iter().filter(|peer| peer.role() != PeerRole::Learner);
            self.voters.insert(region.id, voters.map(|peer| peer.store_id).collect());
            self.note_voters(region.id);
        }
        if region::epoch(region).version > 1 {
            let nodes = region.peers.iter().filter_map(|peer| self.node_of.get(&peer.store_id)).copied();
            self.pauses.born(now_ns, region.id, nodes.collect());
        }
    }
}

/// The observations, shared by the probe's sink and the scenario.
#[derive(Clone, Default)]
pub struct Monitor {
    observed: Arc<Mutex<Observed>>,
    /// Notified of everything that the scenario must react to: a violation or a store that stopped.
    pub news: Arc<Notify>,
}

impl Monitor {
    /// Starts to observe a world.
    pub fn listen(world: &World) -> Monitor {
        let monitor = Monitor::default();
        let (own, clocks) = (monitor.clone(), world.clone());
        world.probe().add_sink(move |record| own.hear(record, &clocks));
        monitor
    }

    /// Calls `look` with the observations.
    pub fn with<T>(&self, look: impl FnOnce(&mut Observed) -> T) -> T {
        look(&mut self.observed.lock().expect("no oracle panics"))
    }

    /// Reports a violation that was found elsewhere. Only the first one is kept.
    pub fn report(&self, violation: Violation) {
        self.with(|observed| observed.violation.get_or_insert(violation).clone());
        self.news.notify_waiters();
    }

    /// Returns the first violation.
    pub fn violation(&self) -> Option<Violation> {
        self.with(|observed| observed.violation.clone())
    }

    fn hear(&self, record: &ProbeRecord<'_>, world: &World) {
        let What::Event(event) = &record.what else { return };
        let mut observed = self.observed.lock().expect("no oracle panics");
        let observed = &mut *observed;
        if observed.violation.is_some() {
            return;
        }
        match event {
            Event::Start { store, .. } => observed.note_store(*store, record.node),
            Event::Leader { group, term, .. } => {
                let newest = observed.leaders.entry(*group).or_default();
                if *term >= newest.0 {
                    *newest = (*term, record.node);
                    observed.led_since.insert(*group, record.at_ns);
                }
            }
            Event::Region { descriptor, .. } => observed.note_region(&ranges::decode(descriptor), record.at_ns),
            Event::Poisoned { why, .. } => {
                observed.poisoned.insert(record.node, why.clone());
                self.news.notify_waiters();
            }
            _ => {}
        }
        observed.operations.observe(event);
        observed.removed.observe(event);
        let clocks = |node: u64| {
            let node = world.get(node).filter(|node| node.is_alive())?;
            Some((node.epoch(), node.clock().local_ns()))
        };
        let judged = observed
            .raft
            .observe(event)
            .and_then(|()| observed.leases.observe(event, record.node, &clocks))
            .and_then(|()| observed.ranges.observe(event, record.node, &observed.leases, &clocks))
            .and_then(|()| observed.reads.observe(event))
            .and_then(|()| observed.issued.observe(event));
        let judged = judged.map_err(|(oracle, _, what)| Violation::new(oracle, record.at_ns, record.node, what));
        let judged = judged.and_then(|()| observed.pauses.observe(record.at_ns, record.node, event, &observed.node_of));
        let (at_ns, node) = (record.at_ns, record.node);
        let judged = judged.and_then(|()| observed.births.observe(at_ns, node, event));
        let judged = judged.and_then(|()| observed.lanes.observe(at_ns, node, event));
        let judged = judged.and_then(|()| observed.moved.observe(at_ns, node, event));
        let judged = judged.and_then(|()| observed.appends.observe(at_ns, node, event));
        let judged = judged.and_then(|()| observed.fetches.observe(at_ns, node, event));
        let judged = judged.and_then(|()| observed.rounds.observe(at_ns, node, event));
        let judged = judged.and_then(|()| observed.losses.observe(at_ns, node, event));
        let judged = judged.and_then(|()| observed.sleep.observe(at_ns, node, event));
        let judged = judged.and_then(|()| observed.runs.observe(at_ns, node, event));
        let judged = judged.and_then(|()| observed.loads.observe(at_ns, node, event));
        let judged = judged.and_then(|()| observed.settings.observe(at_ns, node, event));
        let judged = judged.and_then(|()| observed.limits.observe(at_ns, node, event, &observed.settings));
        let wall_ms = || world.get(node).map_or(0, |node| node.clock().wall_ms());
        let judged = judged.and_then(|()| observed.collection.observe(at_ns, node, event, wall_ms));
        let judged = judged.and_then(|()| strays::observe(at_ns, node, event));
        let available = || world.get(node).map_or(u64::MAX, |node| node.disk().available());
        let judged = judged.and_then(|()| observed.rooms.observe(at_ns, node, event, available));
        if let Err(violation) = judged {
            observed.violation = Some(violation);
            self.news.notify_waiters();
        }
    }
}
