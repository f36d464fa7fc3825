//! The end of some runs: load on regions that one store leads, until it is spread, and then for a while.
//!
//! All of these regions have the same load, so that the best distribution is known. Nothing else is wrong. In half of
//! these runs one region of each other store has had that load for a while before: it must not move so that stores have
//! as many leaders each.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use armilla::rt::task;
use armilla::types::{Region, region};
use bytes::Bytes;

use super::{Run, SECOND, Verdict};
use crate::oracle::Violation;
use crate::workload::client::Client;

/// How many regions there are, and how many of them get load at most.
const REGIONS: u32 = 24;
const HOT_MAX: usize = 8;
/// Fewer regions of one store say nothing.
const HOT_MIN: usize = 3;
/// How long leaders may take until each store has as many, and loads until they are spread and stay so, ns.
const EVEN_NS: u64 = 60 * SECOND;
const SPREAD_NS: u64 = 200 * SECOND;
/// For how long nothing may move then: longer than a region rests after it was moved, ns.
const QUIET_NS: u64 = 45 * SECOND;
/// For how long a region has a load until the placement driver knows it for certain, ns.
const KNOWN_NS: u64 = 30 * SECOND;

/// A region, and a key in it.
type Loaded = (u64, Bytes);

fn key(number: u32) -> Bytes {
    format!("h{number:02}").into()
}

impl Run {
    /// Checks that the load of regions that one store leads is spread over all stores, and stays so.
    pub(super) async fn hot(&mut self, admin: &Client) -> Verdict {
        if self.plan.workload.hot_per_s == 0 || self.plan.topology.stores != 3 || !self.heals() {
            return Ok(());
        }
        let keys: Vec<Bytes> = (1..REGIONS).map(key).collect();
        let until = self.now() + EVEN_NS;
        while let Err(error) = admin.raw().split(&keys).await {
            if self.now() >= until {
                return Err(Violation::new("liveness", self.now(), 0, format!("regions cannot be split: {error}")));
            }
            self.guard(self.now() + SECOND).await?;
        }
        let mut even = self.now();
        while self.now() < until && self.now() < even + 5 * SECOND {
            if !self.leaders_even() {
                even = self.now();
            }
            self.guard(self.now() + SECOND).await?;
        }
        let (hot, mut steady) = self.regions_of_one_store();
        if self.plan.workload.hot_per_s.is_multiple_of(2) {
            steady.clear();
        }
        if hot.len() < HOT_MIN {
            return Ok(());
        }
        let stop = Arc::new(AtomicBool::new(false));
        self.load(admin, &steady, &stop);
        let known = if steady.is_empty() { 0 } else { KNOWN_NS };
        self.guard(self.now() + known).await?;
        let regions = |loaded: &[Loaded]| loaded.iter().map(|(region, _)| *region).collect::<Vec<_>>();
        let known = regions(&steady);
        self.monitor.with(|observed| observed.loads.steady = known.into_iter().collect());
        self.load(admin, &hot, &stop);
        let judged = self.spread(&regions(&[&hot[..], &steady[..]].concat())).await;
        stop.store(true, Ordering::Relaxed);
        self.monitor.with(|observed| observed.loads.steady.clear());
        judged
    }

    /// Starts to put the plan's load on each of these regions, until `stop` is set.
    fn load(&self, admin: &Client, regions: &[Loaded], stop: &Arc<AtomicBool>) {
        let per_s = u64::from(self.plan.workload.hot_per_s);
        for (number, (_, key)) in regions.iter().enumerate() {
            let (raw, world, key, stop) = (admin.raw().clone(), self.world.clone(), key.clone(), stop.clone());
            let writes = self.plan.workload.seed.is_multiple_of(2);
            task::spawn(async move {
                // Not all at once.
                world.sleep_ns(SECOND * number as u64 / 50).await;
                while !stop.load(Ordering::Relaxed) {
                    // What becomes of them is judged by others.
                    if writes {
                        let _ = raw.put(key.clone(), Bytes::from_static(b"hot"), 0).await;
                    } else {
                        let _ = raw.get(key.clone()).await;
                    }
                    world.sleep_ns(SECOND / per_s).await;
                }
            });
        }
    }

    /// Waits until the load is spread, and then nothing has moved for a while.
    async fn spread(&mut self, regions: &[u64]) -> Verdict {
        let (began, before) = (self.now(), self.moves_of(regions));
        let best = regions.len().div_ceil(3);
        let (mut moves, mut since) = (0, began);
        loop {
            self.guard(self.now() + SECOND / 2).await?;
            let now = self.moves_of(regions) - before;
            let uneven = self.most_of_one_node(regions) > best;
            if now != moves || uneven {
                since = self.now();
            }
            moves = now;
            let why = if moves > 2 * regions.len() as u64 {
                format!("there were {moves} moves")
            } else if self.now() >= began + SPREAD_NS {
                format!("after {} s there were {moves} moves", SPREAD_NS / SECOND)
            } else if self.now() >= since + QUIET_NS {
                break;
            } else {
                continue;
            };
            let what = format!(
                "the load of {} regions is not spread at rest: {why}, and one node leads {} of them",
                regions.len(),
                self.most_of_one_node(regions)
            );
            return Err(Violation::new("loads", self.now(), 0, what));
        }
        self.stats.insert("hot_spread_ms".into(), (since - began) / 1_000_000);
        self.stats.insert("hot_moves".into(), moves);
        Ok(())
    }

    /// Returns how many leaders each node has.
    fn leaders_of(&self, regions: &[u64]) -> Vec<usize> {
        let leads = |observed: &crate::cluster::monitor::Observed, node: u64| {
            let of = |region: &&u64| observed.leaders.get(region).is_some_and(|(_, leader)| *leader == node);
            regions.iter().filter(of).count()
        };
        let nodes = self.cluster.ids();
        self.monitor.with(|observed| nodes.iter().map(|node| leads(observed, *node)).collect())
    }

    fn most_of_one_node(&self, regions: &[u64]) -> usize {
        self.leaders_of(regions).into_iter().max().unwrap_or(0)
    }

    fn leaders_even(&self) -> bool {
        let regions: Vec<u64> =
            self.monitor.with(|observed| observed.ranges.regions().iter().map(|region| region.id).collect());
        let leaders = self.leaders_of(&regions);
        leaders.iter().max().unwrap_or(&0) - leaders.iter().min().unwrap_or(&0) <= 1
    }

    /// Returns the new regions of the node that leads most of them, and the region with the lowest ID of each other
    /// node; each with a key in it.
    fn regions_of_one_store(&self) -> (Vec<Loaded>, Vec<Loaded>) {
        let nodes = self.cluster.ids();
        self.monitor.with(|observed| {
            let led = |region: Region| {
                let (_, node) = observed.leaders.get(&region.id)?;
                let start = if region.start_key.is_empty() { &b"a"[..] } else { &region.start_key[..] };
                let key = Bytes::from([start, b"~hot"].concat());
                region::holds(&region, &key).then_some((region.id, key, *node))
            };
            let led: Vec<(u64, Bytes, u64)> = observed.ranges.regions().into_iter().filter_map(led).collect();
            let new = |node: u64| led.iter().filter(move |(_, key, on)| *on == node && key.starts_with(b"h"));
            let most = nodes.iter().copied().max_by_key(|node| new(*node).count()).unwrap_or(0);
            let lowest = |node: &u64| led.iter().filter(|(.., on)| on == node).min_by_key(|(region, ..)| *region);
            let named = |(region, key, _): &(u64, Bytes, u64)| (*region, key.clone());
            let others = nodes.iter().filter(|node| **node != most).filter_map(lowest);
            (new(most).map(named).take(HOT_MAX).collect(), others.map(named).collect())
        })
    }

    /// Returns how often the leaders of these regions were ordered to move.
    fn moves_of(&self, regions: &[u64]) -> u64 {
        self.monitor.with(|observed| regions.iter().filter_map(|region| observed.loads.moves.get(region)).sum())
    }
}
