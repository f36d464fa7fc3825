//! For tests: one region with the real state machine and the simulator's engine, without replication, so that
//! everything completes at once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;

use crate::engine::{KvEngine, SimEngine, SimStorage, WriteBatch};
use crate::proto::armilla::raft::{CasReply, CommandHeader, Marks, NewRegion, ReadAt, Split, region_command};
use crate::proto::kvrpcpb::{Context, LockInfo};
use crate::proto::metapb::RegionEpoch;
use crate::raft::machine::{ApplyContext, StateMachine};
use crate::region::RegionMachine;
use crate::region::split::pieces;
use crate::rt::clock::Instant;
use crate::store::command;
use crate::store::{Access, Fence, Kv, RegionRead, Route};
use crate::types::{Error, GroupId, Region, Result, Timestamp};

/// The store's id.
pub(super) const STORE: u64 = 3;
/// The region's id.
pub(super) const REGION: u64 = 4;

/// Runs a test on a thread with a stack of 16 MiB: without optimization, serving a call takes more than the 2 MiB of a
/// test's own thread.
pub(super) fn with_large_stack(test: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let room = std::thread::Builder::new().stack_size(16 << 20);
        let run = room.spawn_scoped(scope, test).expect("a thread can be started");
        if let Err(panic) = run.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// One region without replication: commands are applied at once.
#[derive(Clone)]
pub(super) struct OneRegion(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) engine: SimEngine,
    region: Arc<Region>,
    machine: Mutex<(RegionMachine, u64)>,
    pub(super) now_s: AtomicU64,
    /// The error of the next read or write.
    pub(super) next: Mutex<Option<Error>>,
    /// Keys and bytes that the last read counted.
    pub(super) load: Mutex<(usize, usize)>,
}

impl OneRegion {
    pub(super) fn new(start: &str, end: &str) -> OneRegion {
        OneRegion::of(Bytes::copy_from_slice(start.as_bytes()), Bytes::copy_from_slice(end.as_bytes()))
    }

    /// Creates a region with these boundaries.
    pub(super) fn of(start_key: Bytes, end_key: Bytes) -> OneRegion {
        let region = Region {
            id: REGION,
            start_key,
            end_key,
            region_epoch: Some(RegionEpoch { conf_ver: 1, version: 2 }),
            ..Region::default()
        };
        OneRegion(Arc::new(Inner {
            engine: SimEngine::open(&SimStorage::new()).unwrap(),
            machine: Mutex::new((RegionMachine::new(region.clone()), 0)),
            region: Arc::new(region),
            now_s: AtomicU64::new(1000),
            next: Mutex::new(None),
            load: Mutex::default(),
        }))
    }

    fn next(&self) -> Result<()> {
        self.0.next.lock().unwrap().take().map_or(Ok(()), Err)
    }
}

impl Route for OneRegion {
    type Snapshot = <SimEngine as KvEngine>::Snapshot;

    fn region(&self) -> &Arc<Region> {
        &self.0.region
    }

    fn place(&self) -> Option<(u64, u64)> {
        Some((1, self.0.machine.lock().unwrap().1))
    }

    fn count_read(&self, _from: &[u8], _to: Option<&[u8]>, keys: usize, bytes: usize) {
        *self.0.load.lock().unwrap() = (keys, bytes);
    }

    async fn read(&self) -> Result<RegionRead<Self::Snapshot>> {
        self.next()?;
        let fence = Fence { term: 1, version: 2, oldest_ts: 0 };
        let (region, snapshot) = (self.0.region.clone(), self.0.engine.snapshot());
        Ok(RegionRead { region, snapshot, now_s: self.now_s(), fence, marks: Marks::default() })
    }

    fn is_by_replica(&self) -> bool {
        false
    }

    async fn read_at(&self, _read: ReadAt) -> Result<std::result::Result<RegionRead<Self::Snapshot>, LockInfo>> {
        self.read().await.map(Ok)
    }

    async fn read_stale(&self, at: Timestamp) -> Result<RegionRead<Self::Snapshot>> {
        let now = self.timestamp().await?;
        if at > now {
            return Err(Error::DataNotReady { group: GroupId(REGION), peer: 1, safe_ts: now.0 });
        }
        self.read().await
    }

    async fn write(&self, op: region_command::Op, fence: Option<Fence>) -> Result<Option<CasReply>> {
        self.settle(op, fence).await
    }

    fn limit(&self) -> Duration {
        Duration::from_secs(10)
    }

    async fn settle(&self, op: region_command::Op, fence: Option<Fence>) -> Result<Option<CasReply>> {
        self.next()?;
        let mut guard = self.0.machine.lock().unwrap();
        let (machine, index) = &mut *guard;
        *index += 1;
        let term = fence.map_or(0, |fence| fence.term);
        let command = command::encode(CommandHeader { version: 2, term, ..CommandHeader::default() }, op);
        let mut batch = WriteBatch::default();
        let context = ApplyContext { index: *index, term: 1 };
        let applied = machine.apply(context, command, &self.0.engine, &mut batch)?;
        self.0.engine.write(&batch)?;
        command::outcome(applied.reply)
    }

    /// Returns the pieces; the region itself stays as it is.
    async fn split(&self, keys: Vec<Bytes>) -> Result<Vec<Region>> {
        self.next()?;
        let new = |n: usize| NewRegion { id: 100 + n as u64, peer_ids: vec![] };
        let split = Split { regions: (0..keys.len()).map(new).collect(), keys };
        pieces(&self.0.region, &split).map_err(Error::Invalid)
    }
}

impl Kv for OneRegion {
    type Route = OneRegion;

    fn route(&self, context: &Context, _access: Access) -> Result<OneRegion> {
        if context.region_id != REGION {
            return Err(Error::RegionNotFound(GroupId(context.region_id)));
        }
        Ok(self.clone())
    }

    fn led(&self) -> Vec<OneRegion> {
        vec![self.clone()]
    }

    fn own(&self, region: u64) -> Option<OneRegion> {
        (region == REGION).then(|| self.clone())
    }

    async fn safe_ts(&self, _start: &[u8], _end: &[u8]) -> u64 {
        self.timestamp().await.unwrap_or_default().0
    }

    fn now_s(&self) -> u64 {
        self.0.now_s.load(Ordering::Relaxed)
    }

    fn now(&self) -> Instant {
        Instant(self.now_s() * 1_000_000_000)
    }

    fn store(&self) -> u64 {
        STORE
    }

    async fn timestamp(&self) -> Result<Timestamp> {
        Ok(Timestamp::new(self.now_s() * 1000, 0))
    }

    /// Completes at once.
    async fn sleep(&self, _duration: Duration) {}
}
