//! The end of a run without requests: regions sleep, and what wakes them is enough.

use armilla::proto::metapb::PeerRole;
use armilla::rt::rng::Rng;
use armilla::types::region::Peer;
use armilla::types::{GroupId, Region};

use super::{Run, SECOND, Verdict, wrong_leader};
use crate::cluster::Death;
use crate::oracle::{Violation, liveness};
use crate::workload::client::Client;

/// How many election timeouts sleeping regions may take to get another leader, and how much more, ns.
const ELECTIONS_MAX: u64 = 6;
const START_NS: u64 = 2 * SECOND;

impl Run {
    /// Checks that regions sleep if nothing happens, that those of a node that dies get other leaders although nobody
    /// asks, and that they sleep again when it is back.
    pub(super) async fn sleep(&mut self, admin: &Client) -> Verdict {
        if self.plan.knobs.settings().raft.sleep_after_ms == 0 || !self.heals() {
            return Ok(());
        }
        self.all_whole().await?;
        self.all_sleep("healing").await?;
        if !self.plan.schedule_seed.is_multiple_of(3) {
            return Ok(());
        }
        let pd = self.plan.schedule_seed.is_multiple_of(2);
        let led = self.monitor.with(|observed| {
            let of_pd = observed.leaders.get(&GroupId::PD.0).filter(|_| pd);
            of_pd.or_else(|| observed.leaders.values().max_by_key(|(_, node)| *node)).map(|(_, node)| *node)
        });
        let Some(node) = led else { return Ok(()) };
        if pd {
            // Until the placement driver is no longer told of regions that sleep.
            let report_ms = self.plan.knobs.settings().pd.hot_report_ms;
            self.guard(self.now() + 8 * report_ms * 1_000_000).await?;
        }
        if pd && self.plan.schedule_seed.is_multiple_of(4) {
            self.transfer_pd(node).await;
            return self.leaders_known(admin).await;
        }
        // What may be late is judged here.
        let now = self.now();
        self.monitor.with(|observed| observed.pauses.regime(now, None));
        let mut rng = Rng::fork(self.plan.schedule_seed, "sleep");
        let death = if rng.chance(0.5) { Death::PowerOff } else { Death::Killed };
        self.cluster.crash(node, death, &mut rng);
        self.all_led_elsewhere(node).await?;
        self.leaders_known(admin).await?;
        self.cluster.start(node);
        self.all_sleep("a node came back").await?;
        self.recover(admin, "a long sleep").await
    }

    /// Waits until every group has its replicas, on stores that run: without one of two voters it would have no leader.
    async fn all_whole(&mut self) -> Verdict {
        let until = self.now() + liveness::bound_ns(&self.plan);
        let (replicas, members) =
            (self.plan.topology.replicas_each() as usize, self.plan.topology.stores.min(3) as usize);
        loop {
            let living = self.living();
            let lacking = self.monitor.with(|observed| {
                let here = |peer: &&Peer| peer.role() == PeerRole::Voter && living.contains(&peer.store_id);
                let whole = |group: &Region, wanted: usize| {
                    let count = group.peers.iter().filter(here).count();
                    count == group.peers.len() && count >= wanted
                };
                let pd_group = Some(observed.pd_group.clone()).filter(|group| !whole(group, members));
                pd_group.or_else(|| observed.ranges.regions().into_iter().find(|region| !whole(region, replicas)))
            });
            let Some(group) = lacking else { return Ok(()) };
            if self.now() >= until {
                let what = format!("group {} has the peers {:?} long after healing", group.id, group.peers);
                return Err(Violation::new("liveness", self.now(), 0, what));
            }
            self.guard(self.now() + SECOND / 5).await?;
        }
    }

    /// Lets another member lead the placement driver, if one can.
    async fn transfer_pd(&self, node: u64) {
        let Some(replicas) = self.cluster.with(node, |machine| machine.replicas()) else { return };
        let Some(view) = replicas.view(GroupId::PD) else { return };
        for peer in view.region().peers.iter().filter(|peer| peer.id != view.peer) {
            if replicas.transfer_leader(GroupId::PD, peer.id).await.is_ok() {
                return;
            }
        }
    }

    /// Waits until the placement driver knows who leads each region. Nobody asks for them.
    async fn leaders_known(&mut self, admin: &Client) -> Verdict {
        let until = self.now() + liveness::bound_ns(&self.plan);
        let pd = admin.pd().with_deadline(std::time::Duration::from_secs(10));
        loop {
            let wrong = match pd.scan_regions(b"", b"", 1000).await {
                Ok(infos) => self.monitor.with(|observed| wrong_leader(observed, &infos)),
                Err(error) => Some(format!("the placement driver does not answer: {error}")),
            };
            let Some(wrong) = wrong else { return Ok(()) };
            if self.now() >= until {
                return Err(Violation::new(
                    "sleep",
                    self.now(),
                    0,
                    format!("after the placement driver's leader changed, {wrong}"),
                ));
            }
            self.guard(self.now() + SECOND / 5).await?;
        }
    }

    /// Returns the regions of which a replica is awake, with its node.
    fn awake(&self) -> Vec<(u64, u64)> {
        let of = |node: u64| {
            let views = self.cluster.with(node, |machine| machine.replicas()).map(|replicas| replicas.views());
            let mut views = views.unwrap_or_default();
            views.retain(|view| view.group != GroupId::PD && !view.is_asleep());
            views.into_iter().map(move |view| (view.group.0, node))
        };
        self.cluster.ids().into_iter().flat_map(of).collect()
    }

    async fn all_sleep(&mut self, after: &str) -> Verdict {
        let began = self.now();
        let until = began + liveness::bound_ns(&self.plan);
        loop {
            let awake = self.awake();
            if awake.is_empty() {
                break;
            }
            if self.now() >= until {
                let seconds = (self.now() - began) / SECOND;
                let what = format!("{seconds} s after {after} these replicas are awake, as (region, node): {awake:?}");
                return Err(Violation::new("sleep", self.now(), 0, what));
            }
            self.guard(self.now() + SECOND / 5).await?;
        }
        let took = self.stats.entry("asleep_ms".into()).or_default();
        *took = (*took).max((self.world.now_ns() - began) / 1_000_000);
        Ok(())
    }

    /// Waits until another node leads each region of a node that has died. Nobody asks for them.
    async fn all_led_elsewhere(&mut self, dead: u64) -> Verdict {
        let raft = self.plan.knobs.settings().raft;
        let election_ns = raft.tick_ms * raft.election_ticks as u64 * 1_000_000;
        let began = self.now();
        let until = began + ELECTIONS_MAX * election_ns + START_NS;
        loop {
            let regions = self.monitor.with(|observed| {
                let mut regions = observed.ranges.regions();
                regions.retain(|region| observed.leaders.get(&region.id).is_none_or(|(_, node)| *node == dead));
                regions
            });
            if regions.is_empty() {
                break;
            }
            if self.now() >= until {
                let ids: Vec<u64> = regions.iter().map(|region| region.id).collect();
                let ms = (self.now() - began) / 1_000_000;
                let what = format!("{ms} ms after node {dead} died, the regions {ids:?} have no other leader");
                return Err(Violation::new("sleep", self.now(), dead, what));
            }
            self.guard(self.now() + SECOND / 50).await?;
        }
        self.stats.insert("sleepers_led_permille".into(), (self.now() - began) * 1000 / election_ns);
        Ok(())
    }
}
