//! Raft messages between stores: a stream for each pair and direction.
//!
//! Messages may be lost, never altered: raft sends again. A store that cannot be reached costs a bounded queue, nothing more.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use armilla_arch::sync::{Budget, Share};
use futures::StreamExt;
use protobuf::Message as _;
use raft::eraftpb::Message;
use tonic::{Request, Response, Status, Streaming};

use crate::engine::{Engine, KvEngine};
use crate::proto::armilla::raft::transport_client::TransportClient;
use crate::proto::armilla::raft::transport_server::Transport;
use crate::proto::armilla::raft::{Done, GroupMessage, RaftBatch, SnapshotChunk, SnapshotHead};
use crate::raft::machine::CfRange;
use crate::rt::clock::Clock;
use crate::rt::net::Net;
use crate::rt::sync::{mpsc, watch};
use crate::rt::task::{self, JoinHandle};
use crate::types::GroupId;
use crate::types::limits::MESSAGE_BYTES_MAX;

use super::handle::Handle;
use super::mailbox::Mail;
use super::snapshot::{self, Gathering};

/// How often one side of a refused stream is told of it.
const TELL: Duration = Duration::from_secs(10);

/// Addresses of stores, by id.
pub type Addresses = BTreeMap<u64, String>;

/// Messages that wait for a store; more are dropped.
const QUEUE_MAX: usize = 4096;
/// Bytes of messages that wait for a store; more are dropped.
const QUEUE_BYTES_MAX: usize = 64 << 20;
/// Bytes of messages in one batch of a stream.
const BATCH_BYTES: usize = 1 << 20;
/// Between two tries to reach a store.
const RETRY: Duration = Duration::from_millis(100);
/// A stream that takes no batch for this long is given up.
const STUCK: Duration = Duration::from_secs(5);
/// Bytes of raft messages from other stores that may wait for the driver; more are dropped.
const INBOX_BYTES_MAX: usize = 256 << 20;

/// Sends to other stores.
pub struct Outbox {
    cluster: u64,
    store: u64,
    net: Net,
    clock: Clock,
    addresses: watch::Receiver<Addresses>,
    lines: BTreeMap<u64, Line>,
    mail: mpsc::UnboundedSender<Mail>,
    chunk_bytes: usize,
}

struct Line {
    queue: mpsc::Sender<Queued>,
    waiting_bytes: Budget,
    task: JoinHandle<()>,
}

/// A message that waits, and its place in the budget.
type Queued = (GroupMessage, Share);

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Outbox {
    /// Sends as `store` of `cluster` to whom `addresses` knows.
    pub fn new(
        (cluster, store): (u64, u64),
        net: Net,
        clock: Clock,
        addresses: watch::Receiver<Addresses>,
        mail: mpsc::UnboundedSender<Mail>,
        chunk_bytes: usize,
    ) -> Outbox {
        Outbox { cluster, store, net, clock, addresses, lines: BTreeMap::new(), mail, chunk_bytes }
    }

    /// Queues a message; drops it when the store's queue is full.
    pub fn send(&mut self, group: GroupId, to_store: u64, message: Message) {
        let Ok(bytes) = message.write_to_bytes() else { return };
        let message = GroupMessage { group_id: group.0, message: bytes.into() };
        let line = self.lines.entry(to_store).or_insert_with(|| {
            let (queue, waiting) = mpsc::channel(QUEUE_MAX);
            let link = Link {
                cluster: self.cluster,
                store: self.store,
                to_store,
                net: self.net.clone(),
                clock: self.clock.clone(),
                addresses: self.addresses.clone(),
                mail: self.mail.clone(),
            };
            Line { queue, waiting_bytes: Budget::new(QUEUE_BYTES_MAX), task: task::spawn(link.run(waiting)) }
        });
        if let Ok(share) = line.waiting_bytes.take(message.message.len()) {
            let _ = line.queue.try_send((message, share));
        }
    }

    /// Streams a snapshot of `ranges` as the engine stands now; the driver hears of the end by letter.
    pub fn send_snapshot(
        &self,
        group: GroupId,
        to_store: u64,
        message: Message,
        engine: &Engine,
        ranges: Vec<CfRange>,
    ) {
        let to_peer = message.to;
        let mail = self.mail.clone();
        let address = self.addresses.borrow().get(&to_store).cloned();
        let (channel, bytes) = match (address.map(|a| self.net.channel(&a)), message.write_to_bytes()) {
            (Some(Ok(channel)), Ok(bytes)) => (channel, bytes),
            _ => {
                let _ = mail.send(Mail::SnapshotSent { group, to_peer, delivered: false });
                return;
            }
        };
        let head = SnapshotHead {
            cluster_id: self.cluster,
            from_store: self.store,
            to_store,
            group_id: group.0,
            message: bytes.into(),
        };
        let (frozen, chunk_bytes) = (engine.snapshot(), self.chunk_bytes);
        task::spawn(async move {
            let sent = snapshot::send(channel, head, frozen, ranges, chunk_bytes).await;
            if let Err(error) = &sent {
                tracing::warn!(%group, to_store, %error, "a snapshot did not arrive");
            }
            let _ = mail.send(Mail::SnapshotSent { group, to_peer, delivered: sent.is_ok() });
        });
    }
}

/// How the feeding of a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fed {
    /// The outbox is gone.
    All,
    /// The stream takes no more.
    Broken,
}

/// One direction between two stores.
struct Link {
    cluster: u64,
    store: u64,
    to_store: u64,
    net: Net,
    clock: Clock,
    addresses: watch::Receiver<Addresses>,
    mail: mpsc::UnboundedSender<Mail>,
}

impl Link {
    async fn run(self, mut waiting: mpsc::Receiver<Queued>) {
        let mut told = None;
        loop {
            let address = self.addresses.borrow().get(&self.to_store).cloned();
            if let Some(Ok(channel)) = address.map(|a| self.net.channel(&a)) {
                let (batches, stream) = mpsc::channel(4);
                let stream =
                    futures::stream::unfold(stream, |mut stream| async move { Some((stream.recv().await?, stream)) });
                let mut client = TransportClient::new(channel)
                    .max_encoding_message_size(MESSAGE_BYTES_MAX)
                    .max_decoding_message_size(MESSAGE_BYTES_MAX);
                let call = client.messages(stream);
                // Whichever ends first: the call (the store is gone) or the feeding of it (this outbox is gone).
                crate::rt_select! {
                    ended = call => if let Err(status) = ended {
                        let now = self.clock.now();
                        let refused = status.code() == tonic::Code::FailedPrecondition;
                        if refused && told.is_none_or(|told| now.since(told) >= TELL) {
                            told = Some(now);
                            tracing::warn!(to = self.to_store, why = status.message(), "a node refuses messages of this store");
                        } else {
                            tracing::debug!(to = self.to_store, %status, "the stream to a store broke");
                        }
                    },
                    fed = self.feed(&mut waiting, batches) => if fed == Fed::All {
                        return;
                    },
                }
            }
            let _ = self.mail.send(Mail::Unreachable { store: self.to_store });
            self.clock.sleep(RETRY).await;
            // What waited through the break is old: raft sends what still matters.
            while waiting.try_recv().is_ok() {}
        }
    }

    async fn feed(&self, waiting: &mut mpsc::Receiver<Queued>, batches: mpsc::Sender<RaftBatch>) -> Fed {
        while let Some((first, _)) = waiting.recv().await {
            let mut bytes = first.message.len();
            let mut messages = vec![first];
            while bytes < BATCH_BYTES {
                let Ok((next, _)) = waiting.try_recv() else { break };
                bytes += next.message.len();
                messages.push(next);
            }
            let batch =
                RaftBatch { cluster_id: self.cluster, from_store: self.store, to_store: self.to_store, messages };
            // A stream that takes nothing for long is as good as broken, whatever the connection says.
            match self.clock.timeout(STUCK, batches.send(batch)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Fed::Broken,
            }
        }
        Fed::All
    }
}

/// The receiving side, served by every node.
#[derive(Clone, Debug)]
pub struct Inbox {
    cluster: u64,
    store: u64,
    handle: Handle,
    waiting_bytes: Budget,
    /// When another cluster's messages were last told of, ns of the node's clock; 0 when never.
    told_ns: Arc<AtomicU64>,
}

impl Inbox {
    /// Receives as `store` of `cluster`.
    pub fn new(cluster: u64, store: u64, handle: Handle) -> Inbox {
        Inbox { cluster, store, handle, waiting_bytes: Budget::new(INBOX_BYTES_MAX), told_ns: Arc::default() }
    }

    #[allow(clippy::result_large_err)] // tonic's own type
    fn check(&self, cluster: u64, from_store: u64, to_store: u64) -> Result<(), Status> {
        if cluster != self.cluster {
            let (now, told) = (self.handle.clock.now().0.max(1), self.told_ns.load(Ordering::Relaxed));
            if told == 0 || now.saturating_sub(told) >= TELL.as_nanos() as u64 {
                self.told_ns.store(now, Ordering::Relaxed);
                tracing::warn!(
                    "store {from_store} of cluster {cluster} sends messages to this node, which belongs to cluster {}: one of \
                     the two has the data directory or the addresses of the other's cluster",
                    self.cluster
                );
            }
            return Err(Status::failed_precondition(format!(
                "this node belongs to cluster {}, the sender to {cluster}",
                self.cluster
            )));
        }
        if to_store != self.store {
            return Err(Status::failed_precondition(format!("this is store {}, not {to_store}", self.store)));
        }
        Ok(())
    }
}

#[tonic::async_trait]
impl Transport for Inbox {
    async fn messages(&self, request: Request<Streaming<RaftBatch>>) -> Result<Response<Done>, Status> {
        let mut stream = request.into_inner();
        while let Some(batch) = stream.next().await {
            let batch = batch?;
            self.check(batch.cluster_id, batch.from_store, batch.to_store)?;
            let bytes: usize = batch.messages.iter().map(|m| m.message.len()).sum();
            // Given back when the driver has taken the letter. Raft sends again what is dropped here.
            let Ok(share) = self.waiting_bytes.take(bytes) else { continue };
            let mut messages = Vec::with_capacity(batch.messages.len());
            for message in batch.messages {
                let decoded = Message::parse_from_carllerche_bytes(&message.message)
                    .map_err(|e| Status::invalid_argument(format!("a raft message does not decode: {e}")))?;
                // A snapshot comes with its data, by its own call.
                if decoded.get_msg_type() != raft::eraftpb::MessageType::MsgSnapshot {
                    messages.push((GroupId(message.group_id), decoded));
                }
            }
            if self.handle.mail.send(Mail::Messages(messages, share)).is_err() {
                return Err(Status::unavailable("the store has stopped"));
            }
        }
        Ok(Response::new(Done {}))
    }

    async fn snapshot(&self, request: Request<Streaming<SnapshotChunk>>) -> Result<Response<Done>, Status> {
        let mut stream = request.into_inner();
        let mut gathering = Gathering::default();
        while let Some(chunk) = stream.next().await {
            let chunk = chunk?;
            if let Some(head) = &chunk.head {
                self.check(head.cluster_id, head.from_store, head.to_store)?;
            }
            gathering.take(chunk).map_err(|e| Status::data_loss(e.to_string()))?;
        }
        let (head, message, pairs) = gathering.finish().map_err(|e| Status::data_loss(e.to_string()))?;
        if self.handle.view(GroupId(head.group_id)).is_none() {
            return Err(Status::not_found(format!("store {} has no replica of group {}", self.store, head.group_id)));
        }
        let letter = Mail::Snapshot { group: GroupId(head.group_id), message: Box::new(message), pairs };
        self.handle.mail.send(letter).map_err(|_| Status::unavailable("the store has stopped"))?;
        Ok(Response::new(Done {}))
    }
}
