//! The two sides: three processes of etcd and three of Armilla, on free loopback ports, killed when dropped.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use armilla::proto::kvrpcpb::{Context, RawGetRequest, RawPutRequest};
use armilla::proto::metapb::Region;
use armilla::proto::pdpb::pd_client::PdClient;
use armilla::proto::pdpb::{GetMembersRequest, GetStoreRequest, RequestHeader, ScanRegionsRequest};
use armilla::proto::tikvpb::tikv_client::TikvClient;
use armilla::types::region::holds;
use bytes::Bytes;
use tokio::runtime::Runtime;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use armilla::proto::tikvpb::batch_commands_request::request::Cmd;
use armilla::proto::tikvpb::batch_commands_response::response::Cmd as Answer;

use super::stream::Stream;

/// Number of connections that the clients share.
const CONNECTIONS: usize = 8;
/// Number of connections of the clients that send commands in streams.
const STREAMS: usize = 2;
/// Time limit for a cluster's first response.
const TIMEOUT: Duration = Duration::from_secs(60);

// etcd's messages, as far as a put and a get need them. The field numbers are those of its protocol.
#[derive(Clone, PartialEq, prost::Message)]
struct PutRequest {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}
#[derive(Clone, PartialEq, prost::Message)]
struct RangeRequest {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
}
#[derive(Clone, PartialEq, prost::Message)]
struct Ignored {}
#[derive(Clone, PartialEq, prost::Message)]
struct Header {
    #[prost(uint64, tag = "2")]
    member_id: u64,
}
#[derive(Clone, PartialEq, prost::Message)]
struct StatusReply {
    #[prost(message, optional, tag = "1")]
    header: Option<Header>,
    #[prost(string, tag = "2")]
    version: String,
    #[prost(uint64, tag = "4")]
    leader: u64,
}

fn connect(addr: &str) -> Channel {
    Endpoint::from_shared(format!("http://{addr}"))
        .expect("an address")
        .connect_timeout(Duration::from_millis(500))
        .tcp_nodelay(true)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .connect_lazy()
}

/// One of our regions, its leader, and a connection to that node.
struct Place {
    region: Region,
    context: Context,
    channel: Channel,
    /// The stream for commands, if they are not sent as calls.
    stream: Option<Stream>,
}

/// The target of one client.
pub enum Target {
    /// etcd's leader.
    Etcd(Channel),
    /// Our nodes, with a connection to each region's leader.
    Armilla(Places),
}

/// Our regions, in order of keys.
pub struct Places(Vec<Place>);

impl Places {
    /// Returns targets that send commands in streams, one for each region. Must be called within a runtime.
    fn in_streams(mut self) -> Arc<Target> {
        for place in &mut self.0 {
            place.stream = Some(Stream::open(place.channel.clone()));
        }
        Arc::new(Target::Armilla(self))
    }
}

impl Target {
    /// Sets a key. Returns whether the put was acknowledged.
    pub async fn put(&self, key: Bytes, value: Bytes) -> bool {
        match self {
            Target::Etcd(channel) => {
                let path = http::uri::PathAndQuery::from_static("/etcdserverpb.KV/Put");
                unary::<_, Ignored>(channel, path, PutRequest { key, value }).await.is_some()
            }
            Target::Armilla(places) => {
                let Some(place) = places.0.iter().find(|place| holds(&place.region, &key)) else { return false };
                let request = RawPutRequest { context: Some(place.context.clone()), key, value, ..Default::default() };
                if let Some(stream) = &place.stream {
                    let answer = stream.ask(Cmd::RawPut(Box::new(request))).await;
                    return matches!(answer, Some(Answer::RawPut(reply)) if reply.region_error.is_none() && reply.error.is_empty());
                }
                let reply = TikvClient::new(place.channel.clone()).raw_put(request).await;
                reply.is_ok_and(|reply| reply.get_ref().region_error.is_none() && reply.get_ref().error.is_empty())
            }
        }
    }

    /// Reads a key linearizably. Returns whether the read succeeded.
    pub async fn get(&self, key: Bytes) -> bool {
        match self {
            Target::Etcd(channel) => {
                let path = http::uri::PathAndQuery::from_static("/etcdserverpb.KV/Range");
                unary::<_, Ignored>(channel, path, RangeRequest { key }).await.is_some()
            }
            Target::Armilla(places) => {
                let Some(place) = places.0.iter().find(|place| holds(&place.region, &key)) else { return false };
                let request = RawGetRequest { context: Some(place.context.clone()), key, ..Default::default() };
                if let Some(stream) = &place.stream {
                    let answer = stream.ask(Cmd::RawGet(Box::new(request))).await;
                    return matches!(answer, Some(Answer::RawGet(reply)) if reply.region_error.is_none() && reply.error.is_empty());
                }
                let reply = TikvClient::new(place.channel.clone()).raw_get(request).await;
                reply.is_ok_and(|reply| reply.get_ref().region_error.is_none() && reply.get_ref().error.is_empty())
            }
        }
    }
}

async fn unary<Q, R>(channel: &Channel, path: http::uri::PathAndQuery, request: Q) -> Option<R>
where
    Q: prost::Message + Send + Sync + 'static,
    R: prost::Message + Default + Send + Sync + 'static,
{
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.ok()?;
    let codec = ProstCodec::<Q, R>::default();
    grpc.unary(tonic::Request::new(request), path, codec).await.ok().map(tonic::Response::into_inner)
}

/// One of the two sides.
pub trait Peer {
    /// Returns one target for each connection.
    fn targets(&self) -> &[Arc<Target>];
    /// Returns the targets of clients that send commands in streams, if the protocol has them.
    fn streams(&self) -> &[Arc<Target>];
    /// Returns the CPU seconds that the processes have used.
    fn cpu_s(&self) -> f64;
    /// Kills the leading node with SIGKILL.
    fn kill_leader(&mut self);
    /// Returns the targets for a put now: each node that is left.
    fn survivors(&self) -> Vec<Target>;
}

/// Three processes and their addresses.
struct Nodes {
    children: Vec<Option<Child>>,
    addrs: Vec<String>,
}

impl Nodes {
    fn cpu_s(&self) -> f64 {
        let ticks = |child: &Child| -> f64 {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap_or_default();
            // The name in parentheses may contain spaces; user and system time are the 12th and 13th field after it.
            let fields: Vec<f64> = stat
                .rsplit(')')
                .next()
                .unwrap_or_default()
                .split_whitespace()
                .map(|field| field.parse().unwrap_or(0.0))
                .collect();
            if fields.len() > 13 { fields[11] + fields[12] } else { 0.0 }
        };
        self.children.iter().flatten().map(ticks).sum::<f64>() / 100.0
    }

    fn kill(&mut self, node: usize) {
        if let Some(mut child) = self.children[node].take() {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for node in 0..self.children.len() {
            self.kill(node);
        }
    }
}

fn ports(count: usize) -> Vec<String> {
    let holders: Vec<TcpListener> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port")).collect();
    holders.iter().map(|holder| holder.local_addr().expect("bound").to_string()).collect()
}

fn spawn(command: &mut Command, log: &Path) -> Option<Child> {
    let log = std::fs::File::create(log).expect("a log file");
    command.stdin(Stdio::null()).stdout(log.try_clone().expect("a handle")).stderr(log);
    Some(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
}

/// Three processes of etcd.
pub struct Theirs {
    nodes: Nodes,
    targets: Vec<Arc<Target>>,
    leader: usize,
    version: String,
}

impl Theirs {
    /// Starts three members with fsync on, which is etcd's default.
    pub fn start(runtime: &Runtime, etcd: &str, dir: &Path, heartbeat_ms: u32, election_ms: u32) -> Theirs {
        std::fs::create_dir_all(dir).expect("a folder");
        let addrs = ports(6);
        let (clients, peers) = addrs.split_at(3);
        let list: Vec<String> = peers.iter().enumerate().map(|(n, addr)| format!("n{n}=http://{addr}")).collect();
        let children = (0..3)
            .map(|n| {
                let mut command = Command::new(etcd);
                command.args(["--name", &format!("n{n}"), "--initial-cluster", &list.join(",")]);
                command.arg("--data-dir").arg(dir.join(format!("n{n}")));
                for flag in ["--listen-client-urls", "--advertise-client-urls"] {
                    command.args([flag, &format!("http://{}", clients[n])]);
                }
                for flag in ["--listen-peer-urls", "--initial-advertise-peer-urls"] {
                    command.args([flag, &format!("http://{}", peers[n])]);
                }
                command.args(["--heartbeat-interval", &heartbeat_ms.to_string()]);
                command.args(["--election-timeout", &election_ms.to_string()]);
                command.args(["--quota-backend-bytes", "6442450944"]);
                spawn(&mut command, &dir.join(format!("n{n}.log")))
            })
            .collect();
        let nodes = Nodes { children, addrs: clients.to_vec() };
        let began = Instant::now();
        let (leader, version) = loop {
            let found = runtime.block_on(async {
                for (n, addr) in nodes.addrs.iter().enumerate() {
                    let path = http::uri::PathAndQuery::from_static("/etcdserverpb.Maintenance/Status");
                    let reply = unary::<_, StatusReply>(&connect(addr), path, Ignored {}).await?;
                    if reply.header.is_some_and(|header| header.member_id == reply.leader) {
                        return Some((n, reply.version));
                    }
                }
                None
            });
            if let Some(found) = found {
                break found;
            }
            assert!(began.elapsed() < TIMEOUT, "etcd did not start: see {}", dir.display());
            std::thread::sleep(Duration::from_millis(100));
        };
        let _entered = runtime.enter();
        let targets = (0..CONNECTIONS).map(|_| Arc::new(Target::Etcd(connect(&nodes.addrs[leader])))).collect();
        Theirs { nodes, targets, leader, version }
    }

    /// Returns the version that it reports.
    pub fn version(&self) -> String {
        format!("etcd {}", self.version)
    }
}

impl Peer for Theirs {
    fn targets(&self) -> &[Arc<Target>] {
        &self.targets
    }
    fn streams(&self) -> &[Arc<Target>] {
        &self.targets
    }
    fn cpu_s(&self) -> f64 {
        self.nodes.cpu_s()
    }
    fn kill_leader(&mut self) {
        self.nodes.kill(self.leader);
    }
    fn survivors(&self) -> Vec<Target> {
        let left = (0..3).filter(|&n| n != self.leader);
        left.map(|n| Target::Etcd(connect(&self.nodes.addrs[n]))).collect()
    }
}

/// Three processes of Armilla.
pub struct Ours {
    nodes: Nodes,
    targets: Vec<Arc<Target>>,
    streams: Vec<Arc<Target>>,
    leader: usize,
    /// Every node's address and store id, with the region that the failover measures.
    stores: Vec<(String, u64)>,
    region: Region,
}

impl Ours {
    /// Starts three nodes with the defaults of `armilla start`.
    pub fn start(runtime: &Runtime, dir: &Path) -> Ours {
        std::fs::create_dir_all(dir).expect("a folder");
        let addrs = ports(3);
        let list: Vec<String> = addrs.iter().enumerate().map(|(n, addr)| format!("n{n}={addr}")).collect();
        let children = (0..3)
            .map(|n| {
                let mut command = Command::new(env!("CARGO_BIN_EXE_armilla"));
                command.args(["start", "--name", &format!("n{n}"), "--addr", &addrs[n], "--disk-reserve-mib", "0"]);
                command.args(["--initial-cluster", &list.join(",")]).arg("--data").arg(dir.join(format!("n{n}")));
                spawn(&mut command, &dir.join(format!("n{n}.log")))
            })
            .collect();
        let nodes = Nodes { children, addrs };
        let began = Instant::now();
        loop {
            if let Ok(Some(ours)) =
                runtime.block_on(async { tokio::time::timeout(Duration::from_secs(5), places(&nodes.addrs)).await })
            {
                let (mut sets, stores, region, leader) = ours;
                let streams = {
                    let _entered = runtime.enter();
                    sets.split_off(CONNECTIONS).into_iter().map(Places::in_streams).collect()
                };
                let targets: Vec<Arc<Target>> =
                    sets.into_iter().map(|places| Arc::new(Target::Armilla(places))).collect();
                if runtime.block_on(targets[0].put(super::keys::key(0), super::keys::value())) {
                    let leader = nodes.addrs.iter().position(|addr| *addr == leader).expect("one of ours");
                    return Ours { nodes, targets, streams, leader, stores, region };
                }
            }
            assert!(began.elapsed() < TIMEOUT, "armilla did not start: see {}", dir.display());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Returns the version that it reports.
    pub fn version(&self) -> String {
        format!("armilla {}", env!("CARGO_PKG_VERSION"))
    }
}

type Found = (Vec<Places>, Vec<(String, u64)>, Region, String);

/// Returns all regions with their leaders, over several sets of connections; all stores; the region of the load's keys,
/// and the address of its leader.
async fn places(addrs: &[String]) -> Option<Found> {
    let mut members =
        PdClient::new(connect(&addrs[0])).get_members(GetMembersRequest::default()).await.ok()?.into_inner();
    let header = RequestHeader { cluster_id: members.header.take()?.cluster_id, ..Default::default() };
    let leader = members.leader?.client_urls.first()?.trim_start_matches("http://").to_owned();
    let mut pd = PdClient::new(connect(&leader));
    let request = ScanRegionsRequest { header: Some(header.clone()), limit: 1000, ..Default::default() };
    let regions = pd.scan_regions(request).await.ok()?.into_inner().regions;
    let mut led = Vec::new();
    for found in regions {
        let (region, peer) = (found.region?, found.leader.filter(|peer| peer.id != 0)?);
        let request = GetStoreRequest { header: Some(header.clone()), store_id: peer.store_id };
        let addr = pd.get_store(request).await.ok()?.into_inner().store?.address;
        let context =
            Context { region_id: region.id, region_epoch: region.region_epoch, peer: Some(peer), ..Default::default() };
        led.push((region, context, addr));
    }
    let key = super::keys::key(0);
    let (region, _, leader) = led.iter().find(|(region, _, _)| holds(region, &key))?.clone();
    let mut stores = Vec::new();
    for peer in &region.peers {
        let request = GetStoreRequest { header: Some(header.clone()), store_id: peer.store_id };
        stores.push((pd.get_store(request).await.ok()?.into_inner().store?.address, peer.store_id));
    }
    let set = || {
        let mut channels: std::collections::BTreeMap<String, Channel> = Default::default();
        let place = |(region, context, addr): &(Region, Context, String)| Place {
            region: region.clone(),
            context: context.clone(),
            channel: channels.entry(addr.clone()).or_insert_with(|| connect(addr)).clone(),
            stream: None,
        };
        Places(led.iter().map(place).collect())
    };
    Some(((0..CONNECTIONS + STREAMS).map(|_| set()).collect(), stores, region, leader))
}

impl Peer for Ours {
    fn targets(&self) -> &[Arc<Target>] {
        &self.targets
    }
    fn streams(&self) -> &[Arc<Target>] {
        &self.streams
    }
    fn cpu_s(&self) -> f64 {
        self.nodes.cpu_s()
    }
    fn kill_leader(&mut self) {
        self.nodes.kill(self.leader);
    }
    fn survivors(&self) -> Vec<Target> {
        let left = self.stores.iter().filter(|(addr, _)| *addr != self.nodes.addrs[self.leader]);
        left.map(|(addr, store)| {
            let peer = self.region.peers.iter().find(|peer| peer.store_id == *store).cloned();
            let region = self.region.clone();
            let context =
                Context { region_id: region.id, region_epoch: region.region_epoch, peer, ..Default::default() };
            Target::Armilla(Places(vec![Place { region, context, channel: connect(addr), stream: None }]))
        })
        .collect()
    }
}
