//! Removal of expired values: searches the regions that this store leads, and proposes to delete the expired values
//! that it finds.
//!
//! A round reads all led regions, page by page with a pause after each page, and then waits for the interval. A region
//! is skipped if two consecutive rounds found no value with an expiry in it and none was written since. Values whose
//! removal could not be proposed (leadership was lost, the region changed, too many proposals are waiting) are found
//! again by the next round.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::engine::{Cf, KvEngine};
use crate::proto::armilla::raft::{Collect, CommandHeader, region_command::Op};
use crate::region::{command, ttl};
use crate::replica::{Handle, PeerView};
use crate::rt::cpu;
use crate::rt::probe::{self, Event as Probe};
use crate::types::limits::COLLECT_KEYS_MAX;
use crate::types::{Error, GroupId, Result, region};

use super::effects::TtlUse;
use super::pd_time::PdTime;

/// The pause between two pages, so that a round takes only a little of the disk and of a core.
const PAUSE: Duration = Duration::from_millis(10);
/// The pause after a page that was full of expired values.
const PAUSE_OF_BACKLOG: Duration = Duration::from_millis(1);
/// A proposal that takes longer ends the region's part of the round.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The loop that removes expired values.
#[derive(Debug)]
pub struct Collector {
    /// The handle of the store's replicas.
    pub handle: Handle,
    /// Counts new values with an expiry.
    pub uses: TtlUse,
    /// Gives a lower bound of the present time.
    pub pd_time: PdTime,
    /// From the end of one round to the beginning of the next. Zero: never.
    pub interval: Duration,
    /// How long a value must have been expired before it is removed, so that clocks that differ by less agree that it
    /// has expired.
    pub grace: Duration,
}

/// What is known about values with an expiry in a region.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// The count at the beginning of the last round.
    count: u64,
    /// How many rounds in a row found no value with an expiry.
    clean: u32,
}

impl Collector {
    /// Runs until it is dropped.
    pub async fn run(self) {
        if self.interval.is_zero() {
            return std::future::pending().await;
        }
        let mut known: BTreeMap<GroupId, Known> = BTreeMap::new();
        loop {
            self.handle.clock().sleep(self.interval).await;
            for view in self.handle.views() {
                if view.group == GroupId::PD || !view.leads() {
                    continue;
                }
                let count = self.uses.count(view.group);
                let before = known.get(&view.group).copied().unwrap_or_default();
                // Two rounds: the second one sees a value that was counted, but not yet written, while the first one
                // read.
                if before.clean >= 2 && before.count == count && !crate::buggify!("store.collect-anew") {
                    continue;
                }
                match self.region(&view).await {
                    Ok(timed) => {
                        let clean = if timed || before.count != count { 0 } else { before.clean + 1 };
                        known.insert(view.group, Known { count, clean });
                    }
                    Err(error) => {
                        tracing::debug!(group = %view.group, %error, "expired values are left to the next round")
                    }
                }
            }
        }
    }

    /// Removes the expired values of one region. Returns whether any value had an expiry.
    async fn region(&self, view: &Arc<PeerView>) -> Result<bool> {
        let mut timed = false;
        for cf in Cf::RAW {
            let mut from = view.region().start_key.clone();
            loop {
                let region = view.region();
                let snapshot = self.handle.engine().snapshot();
                let now_ms = self.pd_time.earliest_ms(self.handle.clock());
                let now_ms = now_ms
                    .ok_or_else(|| Error::Timeout("the placement driver has not reported its time recently".into()))?;
                let store = view.store;
                probe::emit(|| Probe::Note { store, what: "collects-by", a: now_ms, b: 0, data: Default::default() });
                let now_s = (now_ms / 1000).saturating_sub(self.grace.as_secs());
                let end = region.end_key.clone();
                let page = cpu::run_long(move || ttl::page(&snapshot, cf, &from, &end, now_s)).await?;
                timed |= page.timed;
                // With a backlog, values are removed faster than they can be written.
                let pause = if page.expired.len() < COLLECT_KEYS_MAX { PAUSE } else { PAUSE_OF_BACKLOG };
                if !page.expired.is_empty() {
                    let collect = Collect { cf: cf as u32, keys: page.expired, now_s };
                    // The page was made from this leader's data, so it is valid in this term only.
                    let (version, term) = (region::epoch(&region).version, view.leadership().term);
                    let header = CommandHeader { version, term, ..CommandHeader::default() };
                    crate::reach!("store.values-collected");
                    self.propose(view, header, Op::Collect(collect)).await?;
                }
                self.handle.clock().sleep(pause).await;
                match page.next {
                    Some(next) if view.leads() => from = next,
                    Some(_) => return Err(view.not_leader()),
                    None => break,
                }
            }
        }
        Ok(timed)
    }

    async fn propose(&self, view: &Arc<PeerView>, header: CommandHeader, op: Op) -> Result<()> {
        let proposal = self.handle.propose_to(view, header.term, command::encode(header, op));
        let reply = self.handle.clock().timeout(TIMEOUT, proposal).await;
        let reply =
            reply.map_err(|_| Error::Timeout("the removal of expired values was not applied in time".into()))??;
        command::outcome(reply).map(|_| ())
    }
}
