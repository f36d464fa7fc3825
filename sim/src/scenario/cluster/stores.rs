//! The end of some runs: a store whose weights are nothing gives away what it leads and holds, and the replicas of a
//! store that another one replaces are replaced at once.

use std::time::Duration;

use armilla::client::Error;
use armilla::proto::armilla::pd::{ChangeSettings, Settings};
use armilla::rt::rng::Rng;
use armilla::types::region;

use super::settings::MAX_DOWN_FIELD;
use super::{Run, SECOND, Verdict};
use crate::cluster::Death;
use crate::fault::settings::weights;
use crate::oracle::{Violation, liveness};
use crate::workload::client::Client;

/// One in this many seeds tries each.
const SEEDS: u64 = 8;
/// How long leaders and replicas may take to move, longer than usual, ns.
const MOVES_NS: u64 = 90 * SECOND;
/// A store that is silent for so long counts as lost, ms: so late that only the replacement has an effect.
const MAX_DOWN_MS: u64 = 24 * 3600 * 1000;

impl Run {
    /// Checks what weights and replacements do, in some runs. Nothing else is set.
    pub(super) async fn stores(&mut self, admin: &Client) -> Verdict {
        let seed = self.plan.schedule_seed;
        let stores: Vec<u64> = self.living().into_iter().collect();
        if !self.heals() || stores.len() < 3 {
            return Ok(());
        }
        let at = (seed / SEEDS) as usize % stores.len();
        match seed % SEEDS {
            2 => self.weigh_one(admin, stores[at]).await,
            3 if self.has_spare() => self.replace_one(admin, stores[at], stores[(at + 1) % stores.len()]).await,
            _ => Ok(()),
        }
    }

    /// Returns whether there are more stores than replicas of a region.
    fn has_spare(&self) -> bool {
        self.plan.topology.stores > self.plan.topology.replicas_each()
    }

    /// Gives a store weights of nothing, and waits until it leads one region at most and, if the others have places
    /// for them, has one replica at most: it counts as the smallest part of a store.
    async fn weigh_one(&mut self, admin: &Client, store: u64) -> Verdict {
        self.change(admin, weights(store, 0, 0)).await?;
        let Some(node) = self.monitor.with(|observed| observed.node_of.get(&store).copied()) else { return Ok(()) };
        // In zones, replicas stay as far apart as they are.
        let gives_away = self.has_spare() && self.plan.topology.zones == 0;
        let until = self.now() + liveness::bound_ns(&self.plan) + MOVES_NS;
        loop {
            let (led, held) = self.monitor.with(|observed| {
                let regions = observed.ranges.regions();
                let leads = |id: u64| observed.leaders.get(&id).is_some_and(|(_, leader)| *leader == node);
                let held = regions.iter().filter(|region| region::peer_on(region, store).is_some()).count();
                (regions.iter().filter(|region| leads(region.id)).count(), held)
            });
            if led <= 1 && (held <= 1 || !gives_away) {
                break;
            }
            if self.now() >= until {
                let what =
                    format!("store {store} has no weight, but leads {led} regions and has {held} replicas for long");
                return Err(Violation::new("settings", self.now(), node, what));
            }
            self.guard(self.now() + SECOND).await?;
        }
        self.change(admin, weights(store, 1000, 1000)).await?;
        Ok(())
    }

    /// Ends a store, lets another one take its place, and waits until no region counts on it. Then it returns.
    async fn replace_one(&mut self, admin: &Client, lost: u64, by: u64) -> Verdict {
        let late = Settings { max_down_ms: Some(MAX_DOWN_MS), ..Settings::default() };
        self.change(admin, ChangeSettings { set: Some(late), ..ChangeSettings::default() }).await?;
        let Some(node) = self.monitor.with(|observed| observed.node_of.get(&lost).copied()) else { return Ok(()) };
        let now_ns = self.now();
        self.monitor.with(|observed| {
            observed.pauses.regime(now_ns, None);
            observed.births.judge(now_ns, false);
        });
        self.cluster.may_be_removed(node);
        self.cluster.crash(node, Death::PowerOff, &mut Rng::fork(self.plan.schedule_seed, "replace"));
        let pd = admin.pd().with_deadline(Duration::from_secs(2));
        let until = now_ns + liveness::bound_ns(&self.plan) + MOVES_NS;
        let mut refused = String::new();
        let mut replaced = false;
        loop {
            if !replaced {
                match pd.replace_store(lost, by).await {
                    Ok(_) => replaced = true,
                    // An earlier attempt, whose answer was lost, was carried out, and the store has ended since.
                    Err(Error::Refused(why)) if !refused.is_empty() && why.contains("there is no store") => {
                        replaced = true;
                    }
                    Err(error) => refused = error.to_string(),
                }
            }
            let counting = self.monitor.with(|observed| {
                let mut groups = observed.ranges.regions();
                groups.push(observed.pd_group.clone());
                groups.into_iter().find(|group| region::peer_on(group, lost).is_some()).map(|group| group.id)
            });
            if replaced && counting.is_none() {
                break;
            }
            if self.now() >= until {
                let why =
                    counting.filter(|_| replaced).map_or(refused, |id| format!("group {id} counts on it for long"));
                let what = format!("store {lost} is lost, and store {by} is to take its place: {why}");
                return Err(Violation::new("settings", self.now(), node, what));
            }
            self.guard(self.now() + SECOND).await?;
        }
        self.cluster.start(node);
        let usual = ChangeSettings { reset: vec![MAX_DOWN_FIELD], ..ChangeSettings::default() };
        self.change(admin, usual).await?;
        self.recover(admin, "a replacement").await
    }
}
