//! The end of every run: what was set while the cluster ran is in force on every member of the placement driver, a
//! store that is drained leads no region, and everything can be set back.

use std::collections::BTreeSet;
use std::time::Duration;

use armilla::proto::armilla::pd::{ChangeSettings, SchedulerKind, Settings};
use armilla::types::GroupId;
use armilla::types::limits::STORE_RATE_MAX;

use super::{Run, SECOND, Verdict};
use crate::fault::settings::{drain, limits, number, pause, weights};
use crate::oracle::settings::{About, Value};
use crate::oracle::{Violation, liveness};
use crate::workload::client::Client;

/// The number of the field of settings that says when a silent store is lost.
pub(super) const MAX_DOWN_FIELD: u32 = 5;
/// One in this many seeds drains a store at its end.
const DRAIN_SEEDS: u64 = 8;
/// How long the leaders of a drained store may take to move away, longer than usual, ns.
const DRAIN_NS: u64 = 90 * SECOND;

impl Run {
    /// Checks the settings, and sets everything back.
    pub(super) async fn settings(&mut self, admin: &Client) -> Verdict {
        let drains = self.plan.schedule_seed % DRAIN_SEEDS == 1 && self.heals();
        let acknowledged = self.monitor.with(|observed| observed.settings.changes);
        // A change whose answer was lost may have happened: a store that is drained, or a scheduler that is paused,
        // would remain so.
        if acknowledged == 0 && !drains && self.change(admin, ChangeSettings::default()).await? == Settings::default() {
            return Ok(());
        }
        if drains {
            self.drain_one(admin).await?;
        }
        self.as_set(admin).await?;
        if self.plan.schedule_seed.is_multiple_of(4) {
            self.as_set_on_each(admin).await?;
        }
        self.drained().await?;
        self.set_back(admin).await
    }

    /// Checks the limits of stores and lifts them: with them, replicas that are lost would be replaced too slowly.
    pub(super) async fn lift_limits(&mut self, admin: &Client) -> Verdict {
        if !self.monitor.with(|observed| observed.settings.limits_stores()) {
            return Ok(());
        }
        self.as_set(admin).await?;
        self.monitor.with(|observed| observed.settings.forget_limits());
        let set = self.change(admin, ChangeSettings::default()).await?;
        for store in &set.stores {
            self.change(admin, limits(store.store_id, STORE_RATE_MAX, STORE_RATE_MAX)).await?;
        }
        Ok(())
    }

    /// Drains a store, unless one is drained already.
    async fn drain_one(&mut self, admin: &Client) -> Verdict {
        let (drained, lost) = self
            .monitor
            .with(|observed| (observed.settings.value(About::Drain), observed.settings.is_lost(About::Drain)));
        let living: Vec<u64> = self.living().into_iter().collect();
        if lost || matches!(drained, Some(Value::Number(_))) || living.len() < 2 {
            return Ok(());
        }
        let store = living[(self.plan.schedule_seed / DRAIN_SEEDS) as usize % living.len()];
        // The cluster knows the version of the protocol that this needs once every node has told its own.
        self.change(admin, drain(store, true)).await?;
        let now_ns = self.now();
        self.monitor.with(|observed| {
            observed.settings.begin(About::Drain);
            observed.settings.end(About::Drain, Some(Value::Number(store)), now_ns);
        });
        Ok(())
    }

    /// Returns the stores that run.
    pub(super) fn living(&self) -> BTreeSet<u64> {
        let node_of = self.monitor.with(|observed| observed.node_of.clone());
        let newest = |node: u64| node_of.iter().rfind(|(_, of)| **of == node).map(|(store, _)| *store);
        self.cluster.ids().into_iter().filter_map(newest).collect()
    }

    /// Changes settings, within the time that a healthy cluster may take. Returns what is set then.
    pub(super) async fn change(&mut self, admin: &Client, change: ChangeSettings) -> Result<Settings, Violation> {
        let until = self.now() + liveness::bound_ns(&self.plan);
        let pd = admin.pd().with_deadline(Duration::from_secs(2));
        loop {
            match pd.change_settings(change.clone()).await {
                Ok(reply) => return Ok(reply.set.unwrap_or_default()),
                // A store that was removed meanwhile needs no settings.
                Err(error) if error.to_string().contains("was removed from the cluster") => {
                    return Ok(Settings::default());
                }
                Err(error) if self.now() >= until => {
                    let what = format!("settings cannot be changed although the cluster is healthy: {error}");
                    return Err(Violation::new("liveness", self.now(), 0, what));
                }
                Err(_) => self.guard(self.now() + SECOND / 5).await?,
            }
        }
    }

    /// Checks that what was acknowledged is set.
    async fn as_set(&mut self, admin: &Client) -> Verdict {
        let set = self.change(admin, ChangeSettings::default()).await?;
        // What was set for a store that the placement driver has removed is forgotten.
        let mut living = self.living();
        let node_of = self.monitor.with(|observed| observed.node_of.clone());
        let told = self.monitor.with(|observed| observed.poisoned.clone());
        // A replacement may have happened although its answer was lost.
        let removed = |node: u64| {
            let is_told = told.get(&node).is_some_and(|why| why.contains("was removed from the cluster"));
            is_told || self.cluster.with(node, |machine| machine.may_have_been_removed())
        };
        living.retain(|store| node_of.get(store).is_none_or(|node| !removed(*node)));
        match self.monitor.with(|observed| observed.settings.differs(&set, &living)) {
            Some(what) => Err(Violation::new("settings", self.now(), 0, what)),
            None => Ok(()),
        }
    }

    /// Checks that on each member of the placement driver, which leads it in turn.
    async fn as_set_on_each(&mut self, admin: &Client) -> Verdict {
        let members = self.monitor.with(|observed| observed.pd_group.clone());
        for peer in members.peers {
            let pd = admin.pd().with_deadline(Duration::from_secs(2));
            // It may lead already, or be away.
            let _ = pd.transfer_leader(GroupId::PD.0, peer.store_id).await;
            self.guard(self.now() + SECOND).await?;
            self.as_set(admin).await?;
        }
        Ok(())
    }

    /// Waits until the store that is drained leads no region.
    async fn drained(&mut self) -> Verdict {
        let drained = self.monitor.with(|observed| observed.settings.value(About::Drain));
        let Some(Value::Number(store)) = drained else { return Ok(()) };
        let node = self.monitor.with(|observed| observed.node_of.get(&store).copied());
        let Some(node) = node.filter(|_| self.living().contains(&store)) else { return Ok(()) };
        let until = self.now() + liveness::bound_ns(&self.plan) + DRAIN_NS;
        loop {
            let led = self.monitor.with(|observed| {
                let regions = observed.ranges.regions();
                let leads = |id: u64| observed.leaders.get(&id).is_some_and(|(_, leader)| *leader == node);
                regions.iter().find(|region| leads(region.id)).map(|region| region.id)
            });
            let Some(region) = led else { return Ok(()) };
            if self.now() >= until {
                let what = format!("store {store} is drained, and leads region {region} for long");
                return Err(Violation::new("settings", self.now(), node, what));
            }
            self.guard(self.now() + SECOND).await?;
        }
    }

    /// Sets everything back, so that what follows finds the cluster as it is configured.
    async fn set_back(&mut self, admin: &Client) -> Verdict {
        // What comes is not judged by what was.
        self.monitor.with(|observed| observed.settings.forget());
        let set = self.change(admin, ChangeSettings::default()).await?;
        for scheduler in &set.schedulers {
            if scheduler.kind() == SchedulerKind::EvictLeader {
                for store in &scheduler.stores {
                    self.change(admin, drain(*store, false)).await?;
                }
            } else {
                self.change(admin, pause(scheduler.kind as u64, false)).await?;
            }
        }
        for store in &set.stores {
            self.change(admin, weights(store.store_id, 1000, 1000)).await?;
        }
        for field in 1..=4 {
            self.change(admin, number(field, None)).await?;
        }
        Ok(())
    }
}
