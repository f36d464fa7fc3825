//! The receiving side of the transport, served by every node.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::StreamExt;
use protobuf::Message as _;
use raft::eraftpb::{Message as RaftMessage, MessageType};
use tonic::{Request, Response, Status, Streaming};

use crate::proto::armilla::raft::transport_server::Transport;
use crate::proto::armilla::raft::{DecidedAgainstReply, DecidedAgainstRequest, FateReply, FateRequest};
use crate::proto::armilla::raft::{Done, GroupMessage, Incarnation, RaftBatch, SnapshotChunk, SnapshotHead};
use crate::proto::armilla::raft::{ReadIndexReply, ReadIndexRequest, ReadVerdict, SafeTimesReply, SafeTimesRequest};
use crate::proto::armilla::raft::{WasMergedReply, WasMergedRequest};
use crate::replica::claims::Claim;
use crate::replica::handle::{Handle, Room};
use crate::replica::message::{Beats, Message, PeerMessage, Sender};
use crate::replica::promise::LongestPromise;
use crate::replica::snapshot::{Receiving, Traffic};
use crate::rt::clock::Instant;
use crate::rt::{cpu, task};
use crate::types::limits::{SAFE_TIMES_AT_ONCE_MAX, SNAPSHOT_STILL_MAX, SNAPSHOTS_IN_MAX};
use crate::types::run::History;
use crate::types::{Error, GroupId};

use super::clocks::Clocks;
use super::{Local, REFUSAL_LOG_INTERVAL, Runs, beats};

/// Receives messages and snapshots for one store. Clones share it.
#[derive(Clone, Debug)]
pub struct Inbox {
    local: Local,
    handle: Handle,
    /// The limits of incoming snapshots.
    snapshots: Traffic,
    runs: Runs,
    /// The longest promise, which must be durable before a voter here hears of a sender.
    promise: Arc<LongestPromise>,
    /// The clocks of other stores, compared with this node's.
    clocks: Arc<Mutex<Clocks>>,
    /// When the refusal of a sender was last logged.
    logged: Arc<Mutex<Option<Instant>>>,
}

/// The part of a batch that is for one lane.
#[derive(Default)]
struct ForLane {
    messages: Vec<PeerMessage>,
    beats: Beats,
    bytes: usize,
}

/// The origin and destination of a stream, as it states them.
struct Origin {
    cluster: u64,
    from_store: u64,
    to_store: u64,
    run: Incarnation,
}

impl Inbox {
    /// Creates the receiving side of `local`. `snapshots` limits incoming snapshots.
    pub(in crate::replica) fn new(
        local: Local,
        handle: Handle,
        snapshots: Traffic,
        runs: Runs,
        promise: Arc<LongestPromise>,
    ) -> Inbox {
        Inbox { local, handle, snapshots, runs, promise, clocks: Arc::default(), logged: Arc::default() }
    }

    /// Checks that messages of this origin are meant for this store.
    fn is_for_here(&self, origin: &Origin) -> Result<(), String> {
        let Origin { cluster, from_store, to_store, .. } = origin;
        let own = &self.local;
        if *cluster != own.cluster {
            return Err(format!(
                "store {from_store} of cluster {cluster} sends messages to this node, which belongs to cluster {}: one of the \
                 two has the data directory or the addresses of the other's cluster",
                own.cluster
            ));
        }
        if *to_store != own.store {
            crate::reach!("transport.other-store-refused");
            return Err(format!("this is store {}, not {to_store}", own.store));
        }
        Ok(())
    }

    /// Checks that a stream may begin: it must be meant for this store, and come from a run that follows the last one
    /// heard of its store.
    async fn begin(&self, origin: &Origin, earlier: Vec<Incarnation>) -> Result<(), Status> {
        self.is_for_here(origin).map_err(|why| self.refused(why))?;
        let history = History { run: origin.run, earlier };
        let heard = self.runs.hear(self.local.store, origin.from_store, &history).await;
        heard.map_err(|error| self.kept_nothing(error))?.map_err(|why| self.refused(why))
    }

    /// Gives up leases if this node's clock stood still while those of other stores advanced.
    fn compare_clocks(&self, origin: &Origin, sent_ns: u64, arrived: Instant) {
        if sent_ns == 0 {
            return;
        }
        let mut clocks = self.clocks.lock().expect("no holder panics");
        if let Some(lost) = clocks.hear(origin.from_store, origin.run.nonce, sent_ns, arrived) {
            crate::reach!("transport.clock-stood-still");
            let (store, lost_ms) = (origin.from_store, lost.as_millis() as u64);
            tracing::warn!(
                lost_ms,
                by_the_clock_of_store = store,
                "this machine's clock stood still, as when a virtual machine is suspended: all leases were given up. If this \
                 happens while clients read, set raft.lease_reads = false"
            );
            self.handle.clock_stood_still();
        }
    }

    /// Stops the store: an engine that cannot store what was heard cannot store anything.
    fn kept_nothing(&self, error: Error) -> Status {
        self.handle.stop_serving(error.to_string());
        refusal(error)
    }

    /// Makes sure that promises to a sender survive a restart before any voter here hears of it. The lanes do not wait
    /// for this.
    async fn may_promise(&self, election_ns: u64) -> Result<(), Status> {
        if crate::mutant!("replica.promise-waits-in-the-lane") {
            return Ok(());
        }
        self.promise.raise(election_ns).await.map_err(|error| self.kept_nothing(error))
    }

    /// Checks that a stream may continue: no newer run of its store was heard since it began.
    #[allow(clippy::result_large_err)] // tonic's own type
    fn check(&self, origin: &Origin) -> Result<(), Status> {
        let here = self.is_for_here(origin).and_then(|()| self.runs.check(origin.from_store, &origin.run));
        here.map_err(|why| self.refused(why))
    }

    fn refused(&self, why: String) -> Status {
        let (now, mut logged) = (self.handle.clock().now(), self.logged.lock().expect("no holder panics"));
        if logged.is_none_or(|logged| now.since(logged) >= REFUSAL_LOG_INTERVAL) {
            *logged = Some(now);
            tracing::warn!("refusing messages: {why}");
        }
        Status::failed_precondition(why)
    }

    /// Splits a batch by lane.
    #[allow(clippy::result_large_err)] // tonic's own type
    fn by_lane(&self, batch: RaftBatch) -> Result<BTreeMap<usize, ForLane>, Status> {
        let mut lanes: BTreeMap<usize, ForLane> = BTreeMap::new();
        let frame_bytes: usize = batch.messages.iter().map(|message| message.message.len()).sum();
        for message in batch.messages {
            let lane = lanes.entry(self.handle.lane_of(GroupId(message.group_id))).or_default();
            lane.bytes += message.message.len();
            let message = decode(message, frame_bytes)?;
            // Snapshots come with their data, by a call of their own.
            if message.message.get_msg_type() != MessageType::MsgSnapshot {
                lane.messages.push(message);
            }
        }
        for beat in beats::decode(&batch.heartbeats).map_err(Status::invalid_argument)? {
            lanes.entry(self.handle.lane_of(beat.group)).or_default().beats.heartbeats.push(beat);
        }
        for beat in beats::decode(&batch.answers).map_err(Status::invalid_argument)? {
            lanes.entry(self.handle.lane_of(beat.group)).or_default().beats.answers.push(beat);
        }
        for beat in beats::decode(&batch.sleeps).map_err(Status::invalid_argument)? {
            lanes.entry(self.handle.lane_of(beat.group)).or_default().beats.sleeps.push(beat);
        }
        for beat in beats::decode(&batch.consents).map_err(Status::invalid_argument)? {
            lanes.entry(self.handle.lane_of(beat.group)).or_default().beats.consents.push(beat);
        }
        lanes.values_mut().for_each(|lane| lane.bytes += lane.beats.bytes());
        Ok(lanes)
    }

    /// Decides whether a snapshot may come in. If so, returns its message and its receiver.
    async fn accept(&self, head: SnapshotHead) -> Result<Accepted, Status> {
        let SnapshotHead { cluster_id, from_store, to_store, message, election_ns, incarnation, earlier, by_candidate } =
            head;
        let run = incarnation.unwrap_or_default();
        self.begin(&Origin { cluster: cluster_id, from_store, to_store, run }, earlier).await?;
        let message = message.ok_or_else(|| Status::invalid_argument("a snapshot has no raft message"))?;
        let message = PeerMessage { by_candidate, ..decode(message, 0)? };
        let store = self.local.store;
        let mut claim = None;
        if self.handle.view(message.group).is_none() {
            let dead = self.handle.peer_id_min(message.group);
            let region = message.introduces(store).filter(|_| dead <= message.message.to);
            claim = region.and_then(|region| self.handle.claim(region));
            if claim.is_none() {
                let why =
                    format!("store {store} has no replica of group {}, or other groups in its range", message.group);
                return Err(Status::not_found(why));
            }
        }
        if self.handle.room() != Room::Enough {
            self.handle.snapshots().count_refused();
            return Err(Status::failed_precondition(format!("the disk of store {store} is nearly full")));
        }
        let slot = self.snapshots.take_slot().filter(|_| !crate::buggify!("transport.no-place-for-a-snapshot"));
        let Some(slot) = slot else {
            crate::reach!("transport.snapshot-finds-no-place");
            self.handle.snapshots().count_refused();
            let why = format!("store {store} is already receiving {SNAPSHOTS_IN_MAX} snapshots");
            return Err(Status::resource_exhausted(why));
        };
        self.may_promise(election_ns).await?;
        let engine = self.handle.engine().clone();
        let receiving = cpu::run(move || Receiving::new(&engine, slot)).await.map_err(refusal)?;
        let arrived = self.handle.clock().now();
        Ok(Accepted {
            sender: Sender { store: from_store, election_ns, arrived, nonce: run.nonce },
            message,
            receiving,
            claim,
        })
    }

    /// Returns the next chunk of a snapshot, if it arrives in time.
    async fn next_chunk(&self, stream: &mut Streaming<SnapshotChunk>) -> Result<Option<SnapshotChunk>, Status> {
        let next = self.handle.clock().timeout(SNAPSHOT_STILL_MAX, stream.next()).await;
        let still = |_| Status::deadline_exceeded("the snapshot stream made no progress for too long");
        next.map_err(still)?.transpose()
    }
}

/// A snapshot that may come in.
struct Accepted {
    sender: Sender,
    message: PeerMessage,
    receiving: Receiving,
    /// The range that it needs, if the group is not here yet.
    claim: Option<Claim>,
}

/// Converts an error into the status of a refused stream.
fn refusal(error: Error) -> Status {
    match error {
        Error::Corruption(_) => Status::data_loss(error.to_string()),
        Error::Invalid(_) => Status::invalid_argument(error.to_string()),
        _ => Status::unavailable(error.to_string()),
    }
}

#[allow(clippy::result_large_err)] // tonic's own type
fn decode(message: GroupMessage, frame_bytes: usize) -> Result<PeerMessage, Status> {
    let mut decoded = RaftMessage::parse_from_carllerche_bytes(&message.message)
        .map_err(|e| Status::invalid_argument(format!("cannot decode a raft message: {e}")))?;
    for entry in decoded.mut_entries().iter_mut() {
        // An entry is kept for long and shares the memory of the whole frame that it came in, so a small entry gets its
        // own memory.
        if entry.data.len() < frame_bytes / 4 {
            entry.data = Bytes::copy_from_slice(&entry.data);
        }
    }
    let epoch = message.epoch.unwrap_or_default();
    let (group, region) = (GroupId(message.group_id), message.region);
    Ok(PeerMessage { group, epoch, message: decoded, region, by_candidate: false })
}

#[tonic::async_trait]
impl Transport for Inbox {
    async fn messages(&self, request: Request<Streaming<RaftBatch>>) -> Result<Response<Done>, Status> {
        let mut stream = request.into_inner();
        let mut begun = false;
        while let Some(batch) = stream.next().await {
            let mut batch = batch?;
            // The time of arrival, which counts even if a lane that is held up handles the messages later.
            let arrived = self.handle.clock().now();
            let origin = Origin {
                cluster: batch.cluster_id,
                from_store: batch.from_store,
                to_store: batch.to_store,
                run: batch.incarnation.unwrap_or_default(),
            };
            if begun {
                self.check(&origin)?;
            } else {
                self.begin(&origin, std::mem::take(&mut batch.earlier)).await?;
                begun = true;
            }
            self.compare_clocks(&origin, batch.sent_ns, arrived);
            self.may_promise(batch.election_ns).await?;
            if crate::buggify!("transport.inbox-full") {
                continue;
            }
            if crate::buggify!("transport.slow-inbox") {
                task::yield_now().await;
            }
            let nonce = origin.run.nonce;
            let sender = Sender { store: origin.from_store, election_ns: batch.election_ns, arrived, nonce };
            self.handle.signs().hear(&sender, batch.lanes, &batch.alive_lanes);
            for (lane, for_lane) in self.by_lane(batch)? {
                // Released when the lane has taken the messages. Raft sends messages again that are dropped here.
                let Ok(share) = self.handle.inbox().take(for_lane.bytes) else { continue };
                let ForLane { messages, beats, .. } = for_lane;
                if !self.handle.send_to(lane, Message::FromPeers { sender, messages, beats, share }) {
                    return Err(Status::unavailable("the store has stopped"));
                }
            }
        }
        Ok(Response::new(Done {}))
    }

    async fn read_index(&self, request: Request<ReadIndexRequest>) -> Result<Response<ReadIndexReply>, Status> {
        let ReadIndexRequest { cluster_id: cluster, from_store, to_store, group_id, reads } = request.into_inner();
        let origin = Origin { cluster, from_store, to_store, run: Incarnation::default() };
        self.is_for_here(&origin).map_err(|why| self.refused(why))?;
        let (index, locks) = self.handle.index_for_follower(GroupId(group_id), &reads).await.map_err(refusal)?;
        let reads = locks.into_iter().map(|lock| ReadVerdict { lock }).collect();
        Ok(Response::new(ReadIndexReply { index, reads }))
    }

    async fn safe_times(&self, request: Request<SafeTimesRequest>) -> Result<Response<SafeTimesReply>, Status> {
        let SafeTimesRequest { cluster_id: cluster, from_store, to_store, group_ids } = request.into_inner();
        let origin = Origin { cluster, from_store, to_store, run: Incarnation::default() };
        self.is_for_here(&origin).map_err(|why| self.refused(why))?;
        if group_ids.len() > SAFE_TIMES_AT_ONCE_MAX {
            return Err(Status::invalid_argument(format!(
                "the request names {} groups, at most {SAFE_TIMES_AT_ONCE_MAX} may be asked for at once",
                group_ids.len()
            )));
        }
        let times = self.handle.safe_times(group_ids.into_iter().map(GroupId).collect()).await.map_err(refusal)?;
        Ok(Response::new(SafeTimesReply { times }))
    }

    async fn decided_against(
        &self,
        request: Request<DecidedAgainstRequest>,
    ) -> Result<Response<DecidedAgainstReply>, Status> {
        let DecidedAgainstRequest { cluster_id: cluster, from_store, to_store, source_id, merging } =
            request.into_inner();
        let origin = Origin { cluster, from_store, to_store, run: Incarnation::default() };
        self.is_for_here(&origin).map_err(|why| self.refused(why))?;
        let merging = merging.ok_or_else(|| Status::invalid_argument("the question names no merge"))?;
        let against = self.handle.is_decided_against(GroupId(source_id), &merging);
        Ok(Response::new(DecidedAgainstReply { against }))
    }

    async fn fate(&self, request: Request<FateRequest>) -> Result<Response<FateReply>, Status> {
        let FateRequest { cluster_id: cluster, from_store, to_store, group_id } = request.into_inner();
        let origin = Origin { cluster, from_store, to_store, run: Incarnation::default() };
        self.is_for_here(&origin).map_err(|why| self.refused(why))?;
        let (heir, region) = self.handle.fate(GroupId(group_id));
        Ok(Response::new(FateReply { heir_id: heir.map_or(0, |heir| heir.0), region }))
    }

    async fn was_merged(&self, request: Request<WasMergedRequest>) -> Result<Response<WasMergedReply>, Status> {
        let WasMergedRequest { cluster_id: cluster, from_store, to_store, absorbed, heir_id } = request.into_inner();
        let origin = Origin { cluster, from_store, to_store, run: Incarnation::default() };
        self.is_for_here(&origin).map_err(|why| self.refused(why))?;
        let absorbed = absorbed.ok_or_else(|| Status::invalid_argument("the message names no merged region"))?;
        let gone = self.handle.was_merged(absorbed, GroupId(heir_id), false).await;
        Ok(Response::new(WasMergedReply { gone }))
    }

    async fn snapshot(&self, request: Request<Streaming<SnapshotChunk>>) -> Result<Response<Done>, Status> {
        let mut stream = request.into_inner();
        let mut next = self.next_chunk(&mut stream).await?;
        let head = next.as_mut().and_then(|chunk| chunk.head.take());
        let head = head.ok_or_else(|| Status::invalid_argument("a snapshot has no head"))?;
        let Accepted { sender, message, mut receiving, claim } = self.accept(head).await?;
        while let Some(chunk) = next {
            let bytes = chunk.pairs.iter().map(|pair| pair.key.len() + pair.value.len()).sum();
            self.snapshots.pass(bytes).await;
            let taken;
            (receiving, taken) = cpu::run(move || {
                let taken = receiving.take(&chunk);
                (receiving, taken)
            })
            .await;
            taken.map_err(refusal)?;
            self.handle.snapshots().count_bytes(bytes);
            next = self.next_chunk(&mut stream).await?;
        }
        let arrived = cpu::run_long(move || receiving.finish()).await.map_err(refusal)?;
        self.handle.snapshots().count_received();
        let group = message.group;
        if !self.handle.send(group, Message::Snapshot { sender, message: Box::new(message), arrived, claim }) {
            return Err(Status::unavailable("the store has stopped"));
        }
        Ok(Response::new(Done {}))
    }
}
