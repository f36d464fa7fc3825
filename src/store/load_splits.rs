//! Splits regions that have too much load.
//!
//! Once a second, what requests read and wrote through the regions that this store leads comes **in**; splits go
//! **out**, at keys that divide the load ([`super::load_watch`]). **Never**: requests that are sampled although no
//! region is near a limit.

use std::time::Duration;

use bytes::Bytes;

use crate::replica::PeerView;
use crate::rt::clock::Clock;
use crate::rt::probe::{self, Event as Probe};
use crate::types::{GroupId, Result, region};

use super::kv::Route;
use super::load_watch::{Lasted, LoadLimits, LoadWatch, Seen, Verdict};
use super::region_store::RegionStore;

/// The time between two looks at the load.
const LOOK: Duration = Duration::from_secs(1);

/// The task that splits regions by their load.
#[derive(Debug)]
pub struct LoadSplits {
    /// The store's ID.
    pub store: u64,
    /// The store's regions.
    pub regions: RegionStore,
    /// The node's clock.
    pub clock: Clock,
    /// The load above which a region is split.
    pub limits: LoadLimits,
}

impl LoadSplits {
    /// Runs until it is dropped.
    pub async fn run(self) {
        if self.limits.queries_per_s == 0 && self.limits.bytes_per_s == 0 {
            return std::future::pending().await;
        }
        let mut watch = LoadWatch::new(self.limits);
        loop {
            self.clock.sleep(LOOK).await;
            let (leaders, others): (Vec<_>, Vec<_>) =
                self.regions.handle().views().into_iter().partition(|view| view.group != GroupId::PD && view.leads());
            others.iter().for_each(|view| view.load().sample_every(0));
            watch.retain(|group| leaders.binary_search_by_key(&group, |view| view.group).is_ok());
            for view in leaders {
                self.look(&mut watch, &view).await;
            }
        }
    }

    async fn look(&self, watch: &mut LoadWatch, view: &PeerView) {
        let (region, load) = (view.region(), view.load());
        let seen = Seen { region: &region, sums: load.sums(), samples: load.take_samples() };
        let group = view.group;
        match watch.look(self.clock.now(), seen) {
            Verdict::Sample(every) => load.sample_every(every),
            Verdict::Split(key, Lasted { queries_per_s, bytes_per_s, ms }) => {
                load.sample_every(0);
                let version = region::epoch(&region).version;
                match self.split(group, version, key, ms).await {
                    Ok(false) => {}
                    Ok(true) => {
                        self.regions.handle().count_load_split(true);
                        tracing::info!(%group, queries_per_s, bytes_per_s, "split a region because of its load");
                    }
                    // It is tried again when the load has lasted once more.
                    Err(error) => tracing::debug!(%group, %error, "could not split a region because of its load"),
                }
            }
            Verdict::Indivisible(Lasted { queries_per_s, bytes_per_s, .. }) => {
                crate::reach!("store.load-not-divided");
                load.sample_every(0);
                self.regions.handle().count_load_split(false);
                tracing::info!(
                    %group,
                    queries_per_s,
                    bytes_per_s,
                    "the load of a region is on one key, or on ranges that overlap: it cannot be divided by a split"
                );
            }
        }
    }

    /// Splits a region. Returns whether that was possible.
    async fn split(&self, group: GroupId, version: u64, key: Bytes, ms: u64) -> Result<bool> {
        let Some(route) = self.regions.own_route(group) else { return Ok(false) };
        if region::epoch(route.region()).version != version {
            return Ok(false);
        }
        let (store, data) = (self.store, key.clone());
        probe::emit(|| Probe::Note { store, what: "load-split", a: group.0, b: ms, data });
        route.split(vec![key]).await?;
        crate::reach!("store.load-split");
        Ok(true)
    }
}
