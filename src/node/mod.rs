//! # node: assembles one process
//!
//! ```text
//!   Config + NodeEnv ──▶ Node::start
//!     1 data directory: identity (uuid, cluster, founders, store id)          ident
//!     2 port open: hello, health, status; the rest behind gates               service
//!     3 which cluster? found one or join one                                  founding
//!     4 engine, raft log, groups                                              replica
//!     5 placement driver: its group and server, where this node is a founder  pd
//!     6 store: register, create the first regions, open the gate, heartbeat   store
//! ```
//!
//! **In** come a configuration and an environment. **Out** comes a running node. The binary and the simulator call the
//! same constructor. **Never**: logic beyond the order above, a global, or a wait that does not go through the
//! environment's clock.

pub mod config;
pub mod founding;
pub mod ident;
mod joining;
pub mod metrics;
mod pd_http;
mod status;

use std::sync::{Arc, RwLock};
use std::time::Duration;

use futures::future::BoxFuture;
use prometheus::Histogram;

use crate::client::pd::PdClient;
use crate::client::{RawClient, RawOptions, Space as KeySpace, TxnClient};
use crate::engine::{self, EngineStorage};
use crate::pd::bootstrap::Founding;
use crate::pd::cluster::ClusterOptions;
use crate::pd::server::{Identity, PdOptions};
use crate::pd::{self, PdMachine, PdServer, SharedState};
use crate::proto::armilla::pd::{
    Circle, HelloReply, OverviewReply, ReportWaitsRequest, StoreHeartbeatReply, StoreHeartbeatRequest, Wait,
};
use crate::proto::armilla::raft::Incarnation;
use crate::proto::armilla::raft::transport_server::TransportServer;
use crate::proto::kvrpcpb::LockInfo;
use crate::proto::pdpb::Member;
use crate::raft::machine::StateMachine;
use crate::region::RegionMachine;
use crate::replica::log::{LogOptions, RaftLog};
use crate::replica::start::Replicas;
use crate::replica::transport::{Addresses, Inbox};
use crate::replica::{self, Handle, Machines, StoreEffect};
use crate::rt::net::Listener;
use crate::rt::rng::{Rng, hash_label};
use crate::rt::sync::{mpsc, watch};
use crate::rt::task::{self, JoinHandle};
use crate::rt::{Env, cpu};
use crate::service::health::HealthService;
use crate::service::pd::{Members, PdProxy, Seat};
use crate::service::pd_http::PdHttpPeers;
use crate::service::{Deadlines, Gate, Gates, Metrics, Observer, Redact, routes};
use crate::store::{
    self, Alone, ClusterVersion, Collector, Heartbeat, LoadLimits, LoadSplits, Measured, PdLink, PdTime, RegionStore,
    SafePoints, SizeSplits, Space, Splits, TtlUse,
};
use crate::txn::{self, Keeper, KeeperOptions, Others, Txn};
use crate::types::limits::{LANES_MAX, LOG_SOFT_BYTES_MAX, LOG_SOFT_BYTES_MIN, MESSAGE_BYTES_MAX};
use crate::types::run::History;
use crate::types::{Api, Error, GroupId, Region, Result, Timestamp};

pub use config::Config;
use ident::Ident;
use joining::ForeignNodes;
use metrics::NodeMetrics;

/// The planted bugs of this module, and what each of them breaks.
pub const MUTANTS: &[(&str, &str)] = &[
    ("node.directory-of-another", "a node starts with the data directory of another one, as that one"),
    ("node.lost-engine-not-noticed", "a store whose engine was lost continues with the content of its raft log"),
    ("node.stops-without-hand-over", "a node that shuts down leaves its regions to elect new leaders"),
    ("node.asks-first-members-only", "a node that starts looks for the placement driver only at its first members"),
    ("node.wiped-is-healthy", "a node that replaced another one with an empty disk reports that it is healthy"),
];

/// The environment of a node: the outside world, and the storage of its engine.
#[derive(Clone, Debug)]
pub struct NodeEnv {
    /// Tasks, clock, network, disk, randomness.
    pub rt: Env,
    /// The engine's storage: the options of RocksDB in the real world, the data that survives a crash in the simulator.
    pub engine: EngineStorage,
}

/// How long a node continues to answer after it has transferred its leaders: late requests get the new leader's
/// address, and leaders that were on their way to this node are transferred again.
const AFTER_HAND_OVER: Duration = Duration::from_millis(200);
/// Interval between log messages of a node whose disk was lost.
const LOSS_LOG_INTERVAL: Duration = Duration::from_secs(30);

/// How long a request may wait for a quorum.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// A running node. Dropping it leaves its tasks running; [`Node::stop`] ends them.
#[derive(Debug)]
pub struct Node {
    addr: String,
    cluster: u64,
    api: Api,
    store: u64,
    listener: Listener,
    replicas: Replicas,
    pd: PdServer,
    tasks: Vec<JoinHandle<()>>,
    health: watch::Sender<bool>,
    stopping: watch::Sender<bool>,
    /// The maximum duration of the leaders' transfer.
    hand_over_max: Duration,
}

/// The state that all parts of a node's start share.
#[derive(Clone)]
struct Starting {
    env: Env,
    config: Config,
    ident: Arc<RwLock<Ident>>,
    /// When the node started, unix seconds.
    started_s: u64,
    /// The incarnation of this process and the earlier ones, as reported to other nodes.
    history: Arc<History>,
}

impl Node {
    /// Starts a node. Returns once it belongs to a cluster and takes part in its groups (its regions may need a little
    /// longer). The first start of a cluster completes when all nodes of `initial_cluster` are up.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the configuration, the data directory or the cluster do not match; [`Error::Io`] if the
    /// port is in use or the directory cannot be written; [`Error::Corruption`] for damaged data.
    pub fn start(env: NodeEnv, config: Config) -> BoxFuture<'static, Result<Node>> {
        Box::pin(Node::starting(env, config))
    }

    async fn starting(env: NodeEnv, config: Config) -> Result<Node> {
        config.validate().map_err(|error| Error::Invalid(error.to_string()))?;
        let NodeEnv { rt: env, engine: home } = env;
        let reserve = config.disk_reserve_mib.map(|mib| mib << 20);
        store::make_room_for_a_start(&env.disk, &config.data_dir, reserve).await;
        let (first, history) = open_directory(&env, &config).await?;
        let started_s = env.clock.wall_ms() / 1000;
        let ident = Arc::new(RwLock::new(first));
        let starting = Starting { env: env.clone(), config: config.clone(), ident, started_s, history };

        let numbers = NodeMetrics::new(&config.name);
        numbers.started(started_s);
        let metrics = Metrics::new(numbers.registry()).map_err(|error| Error::Invalid(error.to_string()))?;
        let latch_seconds = metrics.latch_seconds();
        let redact = if config.log.redact_keys { Redact::Hide } else { Redact::Show };
        let observer = Observer::new(metrics.clone(), env.clock.clone(), redact);
        let (health, healthy) = watch::channel(false);
        let hello = starting.hello();
        let deadlines = Deadlines::new(env.clock.clone(), metrics.deadlines_exceeded.clone());
        let (routes, gates): (_, Gates<RegionStore>) = routes(hello, HealthService::new(healthy), observer, &deadlines);
        let transport: Gate<TransportServer<Inbox>> = Gate::default();
        let routes = routes.add_service(transport.clone());
        let source =
            Arc::new(status::Source::new(&env.clock, &config, starting.ident.clone(), &numbers, health.subscribe()));
        let (stopping, stops) = watch::channel(false);
        let (lost_replicas, _) = watch::channel(None);
        source.set_lost_replicas(lost_replicas.subscribe());
        let http = crate::service::status::handler(source.clone(), numbers.registry().clone(), metrics);
        let listener = env
            .net
            .serve(&config.addr, routes, http)
            .await
            .map_err(|error| Error::Io(format!("cannot listen on {}: {error}", config.addr)))?;

        let confirmed = starting.resolve_cluster().await?;
        let engine = cpu::run(move || engine::open(&home)).await?;
        let founding = starting.founding()?;
        let pd_client = PdClient::new(env.net.clone(), env.clock.clone(), starting.pd_endpoints())
            .seeded(Rng::fork(env.seed, "pd client"))
            .of_node(starting.ident().cluster_id);
        starting.store_id(&founding, &pd_client).await?;

        let ident = starting.ident();
        let (cluster, store, api) = (ident.cluster_id, ident.store_id, ident.api()?);
        let (addresses, known) = watch::channel(ident.addresses.clone());
        let (machines, pd_state) = machines(config.protocol());
        let log_bytes_max = starting.log_bytes_max().await?;
        let log = starting.open_log().await?;
        let start = replica::Start {
            cluster,
            store,
            history: starting.history.clone(),
            engine: engine.clone(),
            log,
            lanes: lanes(config.raft.lanes),
            options: replica_options(&config, log_bytes_max),
            addresses: known,
            before: starting.before_groups_run(),
        };
        let (replicas, effects) = replica::start(&env, start, machines).await?;
        transport.open(
            TransportServer::new(replicas.inbox.clone())
                .max_decoding_message_size(MESSAGE_BYTES_MAX)
                .max_encoding_message_size(MESSAGE_BYTES_MAX),
        );
        let handle = replicas.handle.clone();
        let rng = Rng::fork(env.seed, "pd http");
        let raw = RawClient::new(pd_client.clone(), env.net.clone(), env.clock.clone(), rng, RawOptions::default())
            .in_space(KeySpace::whole(api));
        let peers = Arc::new(pd_http::Peers::new(raw, env.clock.clone()));
        source.attach(handle.clone(), engine, pd_client.clone(), peers.clone());
        let pd = starting.start_pd(&founding, &handle, pd_state).await?;
        source.set_placement_driver(&pd);
        let proxy = Proxy { pd: Front(pd_client.clone()), peers };
        gates.open_pd(Seat::new(pd.clone(), Arc::new(proxy)));

        let version = ClusterVersion::default();
        let splits = Splits { pd: Arc::new(Front(pd_client.clone())), cluster, version: version.clone() };
        let kv = RegionStore::new(store, handle.clone(), REQUEST_TIMEOUT, splits, replicas.follower_reads.clone());
        let pd_time = PdTime::default();
        let mut tasks = store_tasks(&env, &config, &handle, effects, pd_time.clone());
        let starting = Arc::new(starting);
        let reports = Reports { addresses, health: health.clone(), stopping: stops, lost_replicas, pd_time, version };
        let txn = starting.transactions(kv.clone(), latch_seconds);
        handle.connect_checks(Arc::new(txn.clone()));
        source.set_transactions(txn.clone());
        let serve = starting.clone().serve(kv, txn, gates, pd_client, reports);
        tasks.push(task::spawn(serve));
        if !confirmed {
            tasks.push(task::spawn(starting.keep_asking(handle)));
        }
        Ok(Node {
            addr: listener.addr().to_owned(),
            cluster,
            api,
            store,
            listener,
            replicas,
            pd,
            tasks,
            health,
            stopping,
            hand_over_max: 2 * config.raft.election(),
        })
    }

    /// Returns the address on which the node listens, `host:port`.
    pub fn addr(&self) -> &str {
        &self.addr
    }

    /// Returns the ID of the node's cluster.
    pub fn cluster_id(&self) -> u64 {
        self.cluster
    }

    /// Returns the API version of the node's cluster.
    pub fn api(&self) -> Api {
        self.api
    }

    /// Returns the ID of the node's store.
    pub fn store_id(&self) -> u64 {
        self.store
    }

    /// Returns the handle of the node's replicas.
    pub fn handle(&self) -> &Handle {
        &self.replicas.handle
    }

    /// Returns why the node no longer serves, if it has stopped for good.
    pub fn poisoned(&self) -> Option<String> {
        self.replicas.handle.poisoned()
    }

    /// Transfers leadership of this node's groups to other nodes, so that stopping it does not pause a region for an
    /// election timeout: first the regions, then the placement driver. Meanwhile the placement driver gives it no new
    /// leaders. Gives up on groups without a suitable successor, and on all of them after two election timeouts.
    pub fn drain(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.draining())
    }

    async fn draining(&self) {
        let _ = self.health.send(false);
        let _ = self.stopping.send(true);
        if crate::mutant!("node.stops-without-hand-over") {
            return;
        }
        let handle = &self.replicas.handle;
        if !handle.views().iter().any(|view| view.leads() && view.region().peers.len() > 1) {
            return;
        }
        let kept = handle.hand_over(AFTER_HAND_OVER, self.hand_over_max).await;
        if kept.is_empty() {
            tracing::info!("handed over all leaders");
        } else {
            let kept = kept.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            tracing::warn!(groups = kept, "no other node could take over these leaders: new leaders will be elected");
        }
    }

    /// Stops the node: accepts no new calls, finishes those in progress, and flushes a last time. Call [`Node::drain`]
    /// first to avoid elections.
    pub fn stop(self) -> BoxFuture<'static, ()> {
        Box::pin(self.stopped())
    }

    async fn stopped(self) {
        let _ = self.health.send(false);
        for running in &self.tasks {
            running.abort();
        }
        self.listener.stop();
        self.pd.stop();
        self.replicas.stop().await;
    }
}

/// Starts a store's background tasks: handling the effects of its groups, collecting expired values, watching its disk.
fn store_tasks(
    env: &Env,
    config: &Config,
    handle: &Handle,
    effects: mpsc::Receiver<StoreEffect>,
    pd_time: PdTime,
) -> Vec<JoinHandle<()>> {
    let uses = TtlUse::default();
    let collector = Collector {
        handle: handle.clone(),
        uses: uses.clone(),
        pd_time,
        interval: Duration::from_millis(config.ttl.collect_interval_ms),
        grace: Duration::from_millis(config.ttl.collect_grace_ms),
    };
    let space = Space {
        disk: env.disk.clone(),
        data_dir: config.data_dir.clone(),
        reserve: config.disk_reserve_mib.map(|mib| mib << 20),
        handle: handle.clone(),
        clock: env.clock.clone(),
    };
    vec![task::spawn(store::listen(effects, uses)), task::spawn(collector.run()), task::spawn(space.run())]
}

/// Returns the data directory's identity, which is created if there is none, and the incarnation of this start, which
/// is saved durably.
async fn open_directory(env: &Env, config: &Config) -> Result<(Ident, Arc<History>)> {
    let dir = &config.data_dir;
    let named = |error: std::io::Error| Error::Io(format!("data directory {}: {error}", dir.display()));
    env.disk.create_dir_all(dir).await.map_err(named)?;
    // The clocks are part of the label so that a new directory on the same machine never gets the old UUID, and an
    // incarnation never gets the nonce of another one, whatever the seed.
    let mut rng = Rng::fork(env.seed, &format!("start {} {}", env.clock.wall_ms(), env.clock.now().0));
    if let Some(found) = ident::load(&env.disk, dir).await? {
        if found.name != config.name && !crate::mutant!("node.directory-of-another") {
            crate::reach!("node.directory-of-another");
            return Err(Error::Invalid(format!(
                "the data directory {} is that of node `{}`, but this node is called `{}`: give each node its own \
                 directory, and keep the name of its first start",
                dir.display(),
                found.name,
                config.name
            )));
        }
        let started = Ident { boot: found.boot + 1, ..found };
        ident::save(&env.disk, dir, &started).await?;
        let run = Incarnation { boot: started.boot, nonce: rng.next_u64() };
        let earlier = started.runs.iter().map(|(boot, nonce)| Incarnation { boot: *boot, nonce: *nonce }).collect();
        return Ok((started, Arc::new(History { run, earlier })));
    }
    let uuid = format!("{:016x}{:016x}", rng.next_u64(), rng.next_u64());
    let new = Ident { boot: 1, ..Ident::new(uuid, config.name.clone()) };
    // The identity must be durable before any other node learns of it.
    ident::save(&env.disk, dir, &new).await?;
    let run = Incarnation { boot: 1, nonce: rng.next_u64() };
    Ok((new, Arc::new(History { run, earlier: Vec::new() })))
}

/// Returns the function that creates each group's state machine, and the state of the placement driver's member.
fn machines(protocol: u32) -> (Machines, SharedState) {
    let shared = pd::empty();
    let state = shared.clone();
    let machines: Machines = Arc::new(move |region: &Region| -> Box<dyn StateMachine> {
        if GroupId(region.id) == GroupId::PD {
            Box::new(PdMachine::new(state.clone(), protocol))
        } else {
            Box::new(RegionMachine::of_version(region.clone(), protocol))
        }
    });
    (machines, shared)
}

impl Starting {
    fn ident(&self) -> Ident {
        self.ident.read().expect("no writer panics").clone()
    }

    /// Saves a changed identity durably, then makes it visible to all tasks.
    async fn save(&self, changed: Ident) -> Result<()> {
        ident::save(&self.env.disk, &self.config.data_dir, &changed).await?;
        *self.ident.write().expect("no writer panics") = changed;
        Ok(())
    }

    async fn open_log(&self) -> Result<RaftLog> {
        let ident = self.ident();
        let id = hash_label(0, &ident.uuid);
        RaftLog::open_with_id(self.env.disk.clone(), log_options(&self.config, &ident), id).await
    }

    /// Returns the check that runs before any group: all groups that this store was given must be present; then this
    /// start is recorded as one that wrote to the log, by which an older copy of the log is recognized. A start that is
    /// refused leaves no trace, so that the lost data can still be restored.
    fn before_groups_run(&self) -> replica::start::Before {
        let starting = self.clone();
        Box::new(move |held| {
            Box::pin(async move {
                let ident = starting.ident();
                ident.given_groups_are_here(&held, &starting.config.data_dir)?;
                starting.save(Ident { log_boot: ident.boot, ..ident }.with_run(starting.history.run)).await
            })
        })
    }

    /// Returns how many bytes of entries the logs of all groups may keep.
    async fn log_bytes_max(&self) -> Result<u64> {
        let configured = self.config.raft.log_store_kib_max;
        if configured > 0 {
            return Ok(configured << 10);
        }
        let (capacity, _) = self.env.disk.space(&self.config.data_dir).await?;
        Ok((capacity / 10).clamp(LOG_SOFT_BYTES_MIN, LOG_SOFT_BYTES_MAX))
    }

    fn hello(&self) -> crate::service::cluster::Hello {
        let ident = self.ident.clone();
        let configured = founding::pd_members_of(&self.config);
        let founded_api = self.config.founded_api().number();
        let foreign_nodes = ForeignNodes::new(&self.env.clock);
        Arc::new(move |request| {
            let ident = ident.read().expect("no writer panics");
            foreign_nodes.check(&ident, &request);
            HelloReply {
                name: ident.name.clone(),
                uuid: ident.uuid.clone(),
                cluster_id: ident.cluster_id,
                founders: ident.founders_now(),
                pd_members: if ident.cluster_id == 0 { configured } else { ident.pd_members },
                api_version: if ident.cluster_id == 0 { founded_api } else { ident.api_version },
            }
        })
    }

    fn founding(&self) -> Result<Founding> {
        let ident = self.ident();
        Founding::new(&ident.founders_on_wire(), ident.pd_members as usize).map_err(Error::Corruption)
    }

    /// Starts the placement driver. A node that is one of its first members creates its peer; other nodes may get a
    /// peer later, and any node may lose it.
    async fn start_pd(&self, founding: &Founding, handle: &Handle, state: SharedState) -> Result<PdServer> {
        let ident = self.ident();
        let api = ident.api()?;
        let mut bootstrap = None;
        if ident.carries_pd() {
            handle.create(vec![founding.pd.clone()]).await?;
            if !ident.pd_created {
                self.save(Ident { pd_created: true, ..ident.clone() }).await?;
            }
            let command = founding.command(self.config.replicas, &founding::boundaries(&self.config, api));
            bootstrap = Some(command.map_err(|why| Error::Invalid(format!("cannot create the first regions: {why}")))?);
        }
        let options = PdOptions {
            bootstrap,
            // A node that joined later may be configured for fewer.
            members: self.config.pd_members.max(ident.pd_members as usize),
            cluster: ClusterOptions {
                alive_ms: self.config.pd.store_alive_ms,
                late_ms: 2 * self.config.pd.store_heartbeat_ms,
                max_down_ms: 1000 * self.config.pd.max_down_s,
                replicas: self.config.replicas,
                location_labels: self.config.pd.location_labels.clone(),
                merge_below_bytes: 1024 * self.config.merge_below_kib(),
                merge_below_bytes_max: 1024 * self.config.merge_below_kib_max(),
                balance_leaders: self.config.pd.balance_leaders,
                balance_replicas: self.config.pd.balance_replicas,
                merge_rest_ms: 1000 * self.config.pd.merge_rest_s,
                balance_hot: self.config.pd.balance_hot,
                hot_report_ms: self.config.pd.hot_report_ms,
                hot_queries_min: self.config.pd.hot_queries_per_s_min,
                hot_bytes_min: self.config.pd.hot_kib_per_s_min << 10,
                split_queries_per_s: self.config.regions.split_queries_per_s,
                split_bytes_per_s: self.config.regions.split_kib_per_s << 10,
                patrol_us_per_region: self.config.pd.patrol_us_per_region,
                gc_keep_ms: self.config.pd.keep_versions_ms,
                gc_step_ms: self.config.pd.safe_point_step_ms,
                api,
                ..ClusterOptions::default()
            },
        };
        let identity = Identity {
            cluster_id: ident.cluster_id,
            founders: founding.members.clone(),
            name: ident.name.clone(),
            addr: self.config.advertised().to_owned(),
        };
        Ok(PdServer::start(self.env.clock.clone(), handle.clone(), state, identity, options))
    }

    /// Returns the task that splits regions by their load.
    fn load_splits(&self, regions: RegionStore) -> LoadSplits {
        let config = &self.config.regions;
        let limits = LoadLimits {
            queries_per_s: config.split_queries_per_s,
            bytes_per_s: config.split_kib_per_s << 10,
            seconds: config.split_load_s,
        };
        LoadSplits { store: self.ident().store_id, regions, clock: self.env.clock.clone(), limits }
    }

    /// Returns the task that ends transactions of dead clients, and removes old versions.
    fn keeper(
        &self,
        txn: Txn<RegionStore>,
        pd: &PdClient,
        safe_points: watch::Receiver<SafePoints>,
        reports: store::Reports,
    ) -> Keeper<RegionStore> {
        let Env { net, clock, seed, .. } = self.env.clone();
        let raw = RawClient::new(pd.clone(), net, clock, Rng::fork(seed, "keeper"), RawOptions::default());
        let options = KeeperOptions {
            interval: Duration::from_millis(self.config.txn.look_interval_ms),
            grace: Duration::from_millis(self.config.txn.end_after_ms),
        };
        let Ident { cluster_id: cluster, store_id: store, .. } = self.ident();
        let api = self.ident().api().unwrap_or_default();
        let client = TxnClient::new(raw.in_space(KeySpace::whole(api)));
        txn.connect(Arc::new(OtherStores { client, pd: pd.clone(), cluster, store }));
        Keeper { txn, safe_points, reports, options }
    }

    /// Creates the transactions of the store.
    fn transactions(&self, kv: RegionStore, latch_seconds: Histogram) -> Txn<RegionStore> {
        let refuse_future_timestamps = self.config.txn.refuse_future_timestamps;
        Txn::with_metrics(kv, txn::Options { refuse_future_timestamps }, Some(latch_seconds))
    }

    /// Registers the store, creates its first regions, opens the gate, and then sends heartbeats.
    async fn serve(
        self: Arc<Self>,
        kv: RegionStore,
        txn: Txn<RegionStore>,
        gates: Gates<RegionStore>,
        pd: PdClient,
        Reports { addresses, health, stopping, lost_replicas, pd_time, version }: Reports,
    ) {
        let ident = self.ident();
        let api = match ident.api() {
            Ok(api) => api,
            Err(error) => return kv.handle().stop_serving(error.to_string()),
        };
        let handle = kv.handle().clone();
        let learned = addresses.subscribe();
        let (pd_members, members_learned) = watch::channel(Vec::new());
        let known = ident.regions_created;
        if !self.first_regions(&pd, &handle).await {
            return;
        }
        let (sizes, measured) = watch::channel(Measured::default());
        let bytes_max = self.config.regions.size_max_kib << 10;
        let size_splits = SizeSplits { regions: kv.clone(), sizes: measured, bytes_max };
        let load_splits = self.load_splits(kv.clone());
        let (safe_points, points_told) = watch::channel(SafePoints::default());
        let cleared = store::Reports::default();
        let keeper = self.keeper(txn.clone(), &pd, points_told, cleared.clone());
        gates.open_store(kv, txn, (ident.cluster_id, api));
        tracing::info!(store = ident.store_id, "ready to serve");
        let watched =
            watch_health(self.env.clone(), handle.clone(), health, stopping.clone(), lost_replicas.subscribe());
        let stops = handle.clone();
        let interval = Duration::from_millis(self.config.pd.store_heartbeat_ms);
        let (clock, link) = (self.env.clock.clone(), Arc::new(Front(pd.clone())));
        let alone = Alone { handle: handle.clone(), clock, pd: link, interval };
        let heartbeat = Heartbeat {
            protocol: self.config.protocol(),
            incarnation: self.history.run,
            pd_time,
            version,
            cluster: ident.cluster_id,
            store: ident.store_id,
            handle,
            clock: self.env.clock.clone(),
            disk: self.env.disk.clone(),
            data_dir: self.config.data_dir.clone(),
            pd: Arc::new(Front(pd.clone())),
            addresses,
            interval,
            stopping,
            safe_points,
            cleared,
            lost_replicas,
            sizes,
            load_rest: Duration::from_millis(self.config.pd.hot_report_ms) * 6,
            pd_members,
            labels: self.config.store_labels(),
        };
        let registered = async {
            // PD learns a changed address as soon as it is reachable; serving does not wait for that.
            if known {
                self.register_again(&pd, &stops).await;
            }
        };
        futures::join!(
            heartbeat.run(),
            alone.run(),
            size_splits.run(),
            load_splits.run(),
            keeper.run(),
            watched,
            self.keep_addresses(learned, members_learned, &pd),
            registered
        );
    }
}

/// The other stores, through a client of the cluster.
#[derive(Debug)]
struct OtherStores {
    client: TxnClient,
    pd: PdClient,
    cluster: u64,
    store: u64,
}

/// Returns why another store did not do what it was asked to.
fn elsewhere(error: crate::client::Error) -> Error {
    Error::Timeout(format!("a request to another store: {error}"))
}

impl Others for OtherStores {
    fn end(&self, locks: Vec<LockInfo>) -> BoxFuture<'_, Result<bool>> {
        Box::pin(async move { self.client.finish(&locks).await.map_err(elsewhere) })
    }

    fn report_waits(&self, number: u64, waits: Vec<Wait>) -> BoxFuture<'_, Result<Vec<Circle>>> {
        let request = ReportWaitsRequest { cluster_id: self.cluster, store_id: self.store, waits, number };
        Box::pin(async move { self.pd.report_waits(request).await.map(|reply| reply.circles).map_err(elsewhere) })
    }

    fn delete_range(&self, start: bytes::Bytes, end: bytes::Bytes) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move { self.client.delete_range(&start, &end).await.map_err(elsewhere) })
    }
}

/// The channels between the serving task and the rest of the node.
struct Reports {
    addresses: watch::Sender<Addresses>,
    health: watch::Sender<bool>,
    stopping: watch::Receiver<bool>,
    lost_replicas: watch::Sender<Option<u64>>,
    pd_time: PdTime,
    version: ClusterVersion,
}

/// Sets the health to serving while the store serves, and to not serving when it stops. A store that replaced another
/// one with an empty disk is not healthy while regions rely on the lost replicas; a store without regions asks the
/// placement driver first.
async fn watch_health(
    env: Env,
    handle: Handle,
    health: watch::Sender<bool>,
    stopping: watch::Receiver<bool>,
    mut lost_replicas: watch::Receiver<Option<u64>>,
) {
    let mut logged = None;
    loop {
        let lost = *lost_replicas.borrow_and_update();
        let empty = || handle.views().iter().all(|view| view.group == GroupId::PD);
        let whole = lost.map_or_else(|| !empty(), |lost| lost == 0) || crate::mutant!("node.wiped-is-healthy");
        let serves =
            whole && handle.poisoned().is_none() && !*stopping.borrow() && handle.room() != replica::Room::Critical;
        health.send_if_modified(|old| std::mem::replace(old, serves) != serves);
        let now = env.clock.now();
        if let Some(regions) = lost.filter(|lost| *lost > 0)
            && logged.is_none_or(|at| now.since(at) >= LOSS_LOG_INTERVAL)
        {
            tracing::error!("{}", status::loss(regions));
            logged = Some(now);
        }
        if handle.poisoned().is_some() {
            return;
        }
        // Wakes up at the next change, and at the latest after a second, because the store may have stopped serving.
        let _ = env.clock.timeout(Duration::from_secs(1), lost_replicas.changed()).await;
    }
}

fn log_options(config: &Config, ident: &Ident) -> LogOptions {
    LogOptions {
        boot: ident.boot,
        boot_min: ident.log_boot,
        dir: config.data_dir.join("raft"),
        segment_bytes: config.raft.log_segment_kib << 10,
        spare_segments_max: config.raft.log_spare_segments_max,
        live_bytes_soft_max: config.raft.log_soft_max_kib << 10,
    }
}

/// Returns the number of lanes of a store: the configured number, or one for every four cores.
fn lanes(configured: usize) -> usize {
    let lanes = if configured == 0 { cpu::cores() / 4 } else { configured };
    lanes.clamp(1, LANES_MAX)
}

fn replica_options(config: &Config, log_store_bytes_max: u64) -> replica::Options {
    let raft = &config.raft;
    replica::Options {
        raft: raft.groups(),
        fetch_bytes_max: raft.catch_up_kib_max << 10,
        pack_bytes_max: raft.pack_kib_max << 10,
        batch_messages_max: raft.batch_messages_max,
        cache_bytes_max: raft.cache_kib_max << 10,
        log_keep_entries: raft.log_keep_entries,
        log_lag_entries_max: raft.log_lag_entries_max,
        log_group_bytes_max: raft.log_group_kib_max << 10,
        log_store_bytes_max,
        flush_bytes: raft.flush_kib << 10,
        flush_interval: Duration::from_millis(raft.flush_interval_ms),
        sleep_after: Duration::from_millis(raft.sleep_after_ms),
        snapshot_chunk_bytes: raft.snapshot_chunk_kib << 10,
        snapshot_bytes_per_s: raft.snapshot_mib_per_s << 20,
    }
}

/// PD access for the store, and for the services of nodes without a PD member.
struct Front(PdClient);

impl PdLink for Front {
    fn store_heartbeat(&self, request: StoreHeartbeatRequest) -> BoxFuture<'_, Result<StoreHeartbeatReply>> {
        Box::pin(async move { self.0.store_heartbeat(request).await.map_err(|error| Error::Io(error.to_string())) })
    }

    fn alloc_ids(&self, cluster: u64, count: u32) -> BoxFuture<'_, Result<u64>> {
        Box::pin(async move { self.0.alloc_ids(cluster, count).await.map_err(|error| Error::Io(error.to_string())) })
    }

    fn timestamp(&self) -> BoxFuture<'_, Result<Timestamp>> {
        Box::pin(async move {
            let late = |error| Error::Timeout(format!("the placement driver gave out no timestamp: {error}"));
            self.0.tso(1).await.map_err(late)
        })
    }

    fn region(&self, id: u64) -> BoxFuture<'_, Result<Option<Region>>> {
        Box::pin(async move {
            let found = self.0.get_region_by_id(id).await.map_err(|error| Error::Io(error.to_string()))?;
            Ok(found.map(|found| found.region))
        })
    }
}

/// What the placement driver's service asks of others.
struct Proxy {
    pd: Front,
    peers: Arc<pd_http::Peers>,
}

impl PdProxy for Proxy {
    fn members(&self) -> BoxFuture<'_, Result<Members>> {
        Box::pin(async move {
            let (members, leader) = self.pd.0.members().await.map_err(|error| Error::Io(error.to_string()))?;
            Ok(Members { members, leader: Some(leader) })
        })
    }

    fn known_members(&self) -> Vec<Member> {
        self.pd.0.known_members()
    }

    fn overview(&self) -> BoxFuture<'_, Result<OverviewReply>> {
        Box::pin(async move { self.pd.0.overview().await.map_err(|error| Error::Io(error.to_string())) })
    }

    fn safe_point(&self, to: Option<u64>) -> BoxFuture<'_, Result<u64>> {
        Box::pin(async move { self.pd.0.gc_safe_point(to).await.map_err(|error| Error::Io(error.to_string())) })
    }

    fn split(&self, keys: Vec<bytes::Bytes>) -> BoxFuture<'_, Vec<Result<()>>> {
        Box::pin(async move {
            let ends = PdHttpPeers::split(&*self.peers, keys).await;
            ends.into_iter().map(|end| end.map(|_| ())).collect()
        })
    }
}
