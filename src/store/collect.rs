//! Collecting what has expired: looks through the regions that this store leads, and proposes to delete what it finds.
//!
//! A round goes through all of them, page by page with a pause after each, and then rests for the interval. A region in which two
//! rounds in a row found no value with an expiry, and to which none was written since, is not looked through again. What a round
//! could not propose (leadership was lost, the region changed, too much is under way) is found again by the next.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::engine::Cf;
use crate::proto::armilla::raft::{Collect, CommandHeader, region_command::Op};
use crate::region::{command, ttl};
use crate::replica::{Handle, PeerView};
use crate::rt::cpu;
use crate::rt::probe::{self, Event as Probe};
use crate::types::limits::COLLECT_KEYS_MAX;
use crate::types::{Error, GroupId, Result, region};

use super::effects::TtlUse;
use super::pd_time::PdTime;

/// Between two pages, so that a round takes little of the disk and of a core.
const PAUSE: Duration = Duration::from_millis(10);
/// The same, after a page that was full of expired values.
const PAUSE_OF_BACKLOG: Duration = Duration::from_millis(1);
/// A proposal that takes longer ends the region's part of the round.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What the collecting loop works with.
#[derive(Debug)]
pub struct Collector {
    /// The driver's front.
    pub handle: Handle,
    /// Where new values with an expiry are counted.
    pub uses: TtlUse,
    /// What time it is, at least.
    pub pd_time: PdTime,
    /// From the end of a round to the begin of the next. Zero: never.
    pub interval: Duration,
    /// Only what expired at least so long ago is collected, so that clocks which differ by less agree that it has expired.
    pub grace: Duration,
}

/// What is known of a region's use of expiries.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// The count at the begin of the last round.
    count: u64,
    /// Rounds in a row that found none.
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
                // Two rounds: a value that was counted but not yet written while the first one looked is seen by the second.
                if before.clean >= 2 && before.count == count && !crate::buggify!("store.collect-anew") {
                    continue;
                }
                match self.region(&view).await {
                    Ok(timed) => {
                        let clean = if timed || before.count != count { 0 } else { before.clean + 1 };
                        known.insert(view.group, Known { count, clean });
                    }
                    Err(error) => {
                        tracing::debug!(group = %view.group, %error, "expired values are left for the next round")
                    }
                }
            }
        }
    }

    /// Goes through one region; whether any value had an expiry.
    async fn region(&self, view: &Arc<PeerView>) -> Result<bool> {
        let mut timed = false;
        for cf in Cf::RAW {
            let mut from = view.region().start_key.clone();
            loop {
                let region = view.region();
                let engine = self.handle.engine().clone();
                let now_ms = self.pd_time.earliest_ms(self.handle.clock());
                let now_ms =
                    now_ms.ok_or_else(|| Error::Timeout("the placement driver has not said what time it is".into()))?;
                let store = view.store;
                probe::emit(|| Probe::Note { store, what: "collects-by", a: now_ms, b: 0, data: Default::default() });
                let now_s = (now_ms / 1000).saturating_sub(self.grace.as_secs());
                let end = region.end_key.clone();
                let page = cpu::run_long(move || ttl::page(&engine, cf, &from, &end, now_s)).await?;
                timed |= page.timed;
                // Where there is much to collect, it is collected faster than it can be written.
                let pause = if page.expired.len() < COLLECT_KEYS_MAX { PAUSE } else { PAUSE_OF_BACKLOG };
                if !page.expired.is_empty() {
                    let collect = Collect { cf: cf as u32, keys: page.expired, now_s };
                    // Decided in this term, from this leader's data: in another one it would be another page.
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
        let reply = reply.map_err(|_| Error::Timeout("a collection was not applied in time".into()))??;
        command::outcome(reply).map(|_| ())
    }
}
