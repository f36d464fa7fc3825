//! A node: its raft groups, their logs on the simulated disk, and its services.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use armilla::rt::clock::Clock;
use armilla::rt::disk::{Disk, File};
use armilla::rt::probe::{self, Event};
use armilla::rt::rng::mix;
use armilla::rt::sync::{mpsc, oneshot};
use armilla::rt::{Env, HttpResponse, task};
use armilla::rt_select;
use armilla_proto::armilla::raft::transport_client::TransportClient;
use armilla_proto::armilla::raft::transport_server::{Transport, TransportServer};
use armilla_proto::armilla::raft::{DecidedAgainstReply, DecidedAgainstRequest, FateReply, FateRequest};
use armilla_proto::armilla::raft::{Done, GroupMessage, RaftBatch, ReadIndexReply, ReadIndexRequest, SnapshotChunk};
use armilla_proto::armilla::raft::{SafeTimesReply, SafeTimesRequest, WasMergedReply, WasMergedRequest};
use armilla_proto::health::health_check_response::ServingStatus;
use armilla_proto::health::health_server::{Health, HealthServer};
use armilla_proto::health::{HealthCheckRequest, HealthCheckResponse};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::BoxStream;
use protobuf::Message as _;
use raft::eraftpb::{Entry, HardState, Message};
use raft::storage::MemStorage;
use raft::{Config, RawNode, StateRole};
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

use super::truth::{GROUPS, NODES, Shared, TICK, addr};

/// An input of a node's event loop.
enum Input {
    Raft(u64, Message),
    Propose { group: u64, number: u64, data: Vec<u8>, done: oneshot::Sender<bool> },
}

#[derive(Clone)]
struct Service {
    input: mpsc::UnboundedSender<Input>,
    clock: Clock,
}

#[tonic::async_trait]
impl Transport for Service {
    async fn messages(&self, request: Request<Streaming<RaftBatch>>) -> Result<Response<Done>, Status> {
        let mut stream = request.into_inner();
        while let Some(batch) = stream.message().await? {
            for message in batch.messages {
                let mut parsed = Message::default();
                parsed.merge_from_bytes(&message.message).map_err(|e| Status::invalid_argument(e.to_string()))?;
                let _ = self.input.send(Input::Raft(message.group_id, parsed));
            }
        }
        Ok(Response::new(Done {}))
    }

    async fn snapshot(&self, _request: Request<Streaming<SnapshotChunk>>) -> Result<Response<Done>, Status> {
        Err(Status::unimplemented("bare groups have no snapshots: their logs are never cut"))
    }

    async fn read_index(&self, _request: Request<ReadIndexRequest>) -> Result<Response<ReadIndexReply>, Status> {
        Err(Status::unimplemented("bare groups have no followers that serve reads"))
    }

    async fn safe_times(&self, _request: Request<SafeTimesRequest>) -> Result<Response<SafeTimesReply>, Status> {
        Err(Status::unimplemented("bare groups have no transactions"))
    }

    async fn decided_against(
        &self,
        _request: Request<DecidedAgainstRequest>,
    ) -> Result<Response<DecidedAgainstReply>, Status> {
        Err(Status::unimplemented("bare groups are not merged"))
    }

    async fn fate(&self, _request: Request<FateRequest>) -> Result<Response<FateReply>, Status> {
        Err(Status::unimplemented("bare groups do not end"))
    }

    async fn was_merged(&self, _request: Request<WasMergedRequest>) -> Result<Response<WasMergedReply>, Status> {
        Err(Status::unimplemented("bare groups are not merged"))
    }
}

#[tonic::async_trait]
impl Health for Service {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        let text = request.into_inner().service;
        let mut parts = text.splitn(3, ':').map(str::parse::<u64>);
        let (Some(Ok(group)), Some(Ok(number))) = (parts.next(), parts.next()) else {
            return Err(Status::invalid_argument("want group:number:filler"));
        };
        let mut data = number.to_le_bytes().to_vec();
        data.extend_from_slice(text.as_bytes());
        let (done, decided) = oneshot::channel();
        let _ = self.input.send(Input::Propose { group, number, data, done });
        match decided.await {
            Ok(true) => Ok(Response::new(HealthCheckResponse { status: ServingStatus::Serving as i32 })),
            Ok(false) => Err(Status::failed_precondition("not the leader")),
            Err(_) => Err(Status::unknown("the outcome is not known")),
        }
    }

    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn watch(&self, _request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let clock = self.clock.clone();
        let stream = futures::stream::unfold(0, move |n| {
            let clock = clock.clone();
            async move {
                clock.sleep(Duration::from_millis(100)).await;
                (n < 30).then_some((Ok(HealthCheckResponse { status: ServingStatus::Serving as i32 }), n + 1))
            }
        });
        Ok(Response::new(stream.boxed()))
    }
}

/// One group's replica on a node.
struct Group {
    raft: RawNode<MemStorage>,
    log: File,
    log_len: u64,
    leading: bool,
    /// Proposals that wait to be applied, by number.
    waiting: BTreeMap<u64, oneshot::Sender<bool>>,
}

/// All replicas of a node.
pub struct Replica {
    id: u64,
    groups: BTreeMap<u64, Group>,
    peers: BTreeMap<u64, mpsc::UnboundedSender<GroupMessage>>,
    truth: Shared,
}

impl Replica {
    /// Serves until the process dies or the disk fails.
    pub async fn run(env: Env, id: u64, truth: Shared) -> std::io::Result<()> {
        let dir = PathBuf::from("/bare-raft");
        env.disk.create_dir_all(&dir).await?;
        env.disk.sync_dir(std::path::Path::new("/")).await?;
        let mut groups = BTreeMap::new();
        for group in 1..=GROUPS {
            groups.insert(group, Group::open(&env.disk, &dir, id, group).await?);
        }
        let (input, mut inbox) = mpsc::unbounded_channel();
        let mut peers = BTreeMap::new();
        for peer in (1..=NODES).filter(|peer| *peer != id) {
            let (queue, queued) = mpsc::unbounded_channel();
            peers.insert(peer, queue);
            task::spawn(send_to_peer(env.clone(), id, peer, queued));
        }
        let service = Service { input, clock: env.clock.clone() };
        let routes = Routes::new(TransportServer::new(service.clone())).add_service(HealthServer::new(service));
        let nothing = Arc::new(|_| -> std::pin::Pin<Box<dyn Future<Output = HttpResponse> + Send>> {
            Box::pin(std::future::ready(HttpResponse { status: 404, content_type: "text/plain", body: Bytes::new() }))
        });
        let _listener = env.net.serve(&addr(id), routes, nothing).await?;
        let mut replica = Replica { id, groups, peers, truth };
        let mut tick = env.clock.now().plus(TICK);
        loop {
            let wait = tick.since(env.clock.now());
            let first = rt_select! {
                input = inbox.recv() => input,
                () = env.clock.sleep(wait) => None,
            };
            if let Some(input) = first {
                replica.take(input);
                while let Ok(input) = inbox.try_recv() {
                    replica.take(input);
                }
            }
            if env.clock.now() >= tick {
                for group in replica.groups.values_mut() {
                    group.raft.tick();
                }
                tick = env.clock.now().plus(TICK);
            }
            for group in 1..=GROUPS {
                replica.ready(group).await?;
            }
        }
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Raft(group, message) => {
                if let Some(group) = self.groups.get_mut(&group) {
                    let _ = group.raft.step(message);
                }
            }
            Input::Propose { group, number, data, done } => {
                let Some(group) = self.groups.get_mut(&group) else { return };
                if group.raft.raft.state == StateRole::Leader && group.raft.propose(Vec::new(), data).is_ok() {
                    group.waiting.insert(number, done);
                } else {
                    let _ = done.send(false);
                }
            }
        }
    }

    /// Writes, sends and applies everything that a group has ready.
    async fn ready(&mut self, id: u64) -> std::io::Result<()> {
        let group = self.groups.get_mut(&id).expect("all groups exist");
        if !group.raft.has_ready() {
            return Ok(());
        }
        let mut ready = group.raft.ready();
        if let Some(soft) = ready.ss() {
            let (leading, term) = (soft.raft_state == StateRole::Leader, group.raft.raft.term);
            if leading && !group.leading {
                probe::emit(|| Event::Leader { store: self.id, group: id, peer: self.id, term });
            }
            if !leading && group.leading {
                group.waiting.clear();
            }
            group.leading = leading;
        }
        send(&self.peers, id, ready.take_messages());
        apply(&self.truth, self.id, id, &mut group.waiting, ready.take_committed_entries());
        let mut buffer = BytesMut::new();
        for entry in ready.entries() {
            record(&mut buffer, 1, &entry.write_to_bytes().expect("an entry encodes"));
        }
        if let Some(hard) = ready.hs() {
            record(&mut buffer, 2, &hard.write_to_bytes().expect("a hard state encodes"));
        }
        if !buffer.is_empty() {
            let len = buffer.len() as u64;
            group.log.write_at(group.log_len, buffer.freeze()).await?;
            group.log_len += len;
            // The planted bug shows that this scenario can fail.
            if ready.must_sync() && !armilla::mutant!("bare-raft.no-sync") {
                group.log.sync().await?;
            }
        }
        {
            let mut storage = group.raft.mut_store().wl();
            storage.append(ready.entries()).expect("raft appends without gaps");
            if let Some(hard) = ready.hs() {
                storage.set_hardstate(hard.clone());
                let (term, vote, commit) = (hard.term, hard.vote, hard.commit);
                probe::emit(|| Event::HardState { store: self.id, group: id, peer: self.id, term, vote, commit });
            }
        }
        send(&self.peers, id, ready.take_persisted_messages());
        let mut light = group.raft.advance(ready);
        if let Some(commit) = light.commit_index() {
            group.raft.mut_store().wl().mut_hard_state().set_commit(commit);
        }
        send(&self.peers, id, light.take_messages());
        apply(&self.truth, self.id, id, &mut group.waiting, light.take_committed_entries());
        group.raft.advance_apply();
        Ok(())
    }
}

fn send(peers: &BTreeMap<u64, mpsc::UnboundedSender<GroupMessage>>, group: u64, messages: Vec<Message>) {
    for message in messages {
        if let Some(queue) = peers.get(&message.to) {
            let bytes = message.write_to_bytes().expect("a message encodes");
            let _ = queue.send(GroupMessage { group_id: group, message: bytes.into(), epoch: None, region: None });
        }
    }
}

fn apply(
    truth: &Shared,
    store: u64,
    group: u64,
    waiting: &mut BTreeMap<u64, oneshot::Sender<bool>>,
    entries: Vec<Entry>,
) {
    for entry in entries {
        let number = entry.data.first_chunk::<8>().map_or(u64::MAX, |bytes| u64::from_le_bytes(*bytes));
        let hash = entry.data.iter().fold(mix(entry.term), |hash, byte| mix(hash ^ u64::from(*byte)));
        let (index, term) = (entry.index, entry.term);
        probe::emit(|| Event::Apply { store, group, peer: store, index, term, hash });
        {
            let mut truth = truth.lock().expect("no task panics while holding it");
            let known = *truth.applied.entry((group, entry.index)).or_insert(number);
            if known != number && truth.violation.is_none() {
                let what =
                    format!("group {group} index {}: node {store} applied {number}, another {known}", entry.index);
                truth.violation = Some(("state-machine-safety", what));
            }
        }
        if let Some(done) = waiting.remove(&number) {
            let _ = done.send(true);
        }
    }
}

/// Sends messages to one peer over a stream, and opens a new stream when it breaks.
async fn send_to_peer(env: Env, from: u64, to: u64, mut queued: mpsc::UnboundedReceiver<GroupMessage>) {
    let channel = env.net.channel(&addr(to)).expect("it is an address");
    while let Some(first) = queued.recv().await {
        let (batches, stream) = mpsc::channel::<RaftBatch>(16);
        let stream = futures::stream::unfold(stream, async |mut stream| Some((stream.recv().await?, stream)));
        let mut client = TransportClient::new(channel.clone());
        let call = client.messages(stream);
        let feed = async {
            let mut next = Some(first);
            while let Some(message) = next {
                let mut messages = vec![message];
                while messages.len() < 64
                    && let Ok(message) = queued.try_recv()
                {
                    messages.push(message);
                }
                let batch =
                    RaftBatch { cluster_id: 1, from_store: from, to_store: to, messages, ..RaftBatch::default() };
                if batches.send(batch).await.is_err() {
                    return;
                }
                next = queued.recv().await;
            }
        };
        rt_select! {
            _ = call => {}
            () = feed => {}
        }
        // Messages that were queued meanwhile are outdated.
        while queued.try_recv().is_ok() {}
        env.clock.sleep(Duration::from_millis(100)).await;
    }
}

/// Appends a record: length, checksum, kind, bytes.
fn record(out: &mut BytesMut, kind: u8, bytes: &[u8]) {
    let mut body = vec![kind];
    body.extend_from_slice(bytes);
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    out.extend_from_slice(&armilla_arch::crc32c(&body).to_le_bytes());
    out.extend_from_slice(&body);
}

impl Group {
    /// Opens or creates a group's log, and truncates it after the last complete record.
    async fn open(disk: &Disk, dir: &std::path::Path, id: u64, group: u64) -> std::io::Result<Group> {
        let path = dir.join(format!("group-{group}.log"));
        let log = match disk.open(&path).await {
            Ok(log) => log,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let log = disk.create(&path).await?;
                disk.sync_dir(dir).await?;
                log
            }
            Err(error) => return Err(error),
        };
        let bytes = log.read_at(0, log.len().await? as usize).await?;
        let storage = MemStorage::new_with_conf_state(((1..=NODES).collect::<Vec<_>>(), Vec::new()));
        let mut at = 0;
        while let Some(head) = bytes.get(at..at + 8) {
            let len = u32::from_le_bytes(head[..4].try_into().expect("four bytes")) as usize;
            let sum = u32::from_le_bytes(head[4..].try_into().expect("four bytes"));
            let Some(body) = bytes.get(at + 8..at + 8 + len).filter(|body| !body.is_empty()) else { break };
            if armilla_arch::crc32c(body) != sum {
                break;
            }
            let mut storage = storage.wl();
            match body[0] {
                1 => {
                    let mut entry = Entry::default();
                    entry.merge_from_bytes(&body[1..]).expect("its checksum is right");
                    storage.append(&[entry]).expect("logs have no gaps");
                }
                _ => {
                    let mut hard = HardState::default();
                    hard.merge_from_bytes(&body[1..]).expect("its checksum is right");
                    storage.set_hardstate(hard);
                }
            }
            at += 8 + len;
        }
        log.set_len(at as u64).await?;
        log.sync().await?;
        let config = Config {
            id,
            election_tick: 10,
            heartbeat_tick: 3,
            pre_vote: true,
            check_quorum: true,
            max_inflight_msgs: 64,
            max_size_per_msg: 1 << 16,
            ..Config::default()
        };
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let raft = RawNode::new(&config, storage, &logger).expect("the configuration is right");
        Ok(Group { raft, log, log_len: at as u64, leading: false, waiting: BTreeMap::new() })
    }
}
