//! # node: one process, wired
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
//! **In** come a configuration and a world; **out** comes a running node. The binary and the simulator call the same
//! constructor. **Never**: logic of its own beyond the order above, a global, a second of waiting that the world does not own.

mod belonging;
pub mod config;
pub mod founding;
pub mod ident;
pub mod metrics;
mod status;

use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use futures::future::BoxFuture;

use crate::client::pd::PdClient;
use crate::engine::{self, EngineStorage};
use crate::pd::bootstrap::Founding;
use crate::pd::cluster::ClusterOptions;
use crate::pd::server::{Identity, PdOptions};
use crate::pd::{PdMachine, PdServer, SharedState};
use crate::proto::armilla::pd::{HelloReply, OverviewReply, StoreHeartbeatReply, StoreHeartbeatRequest};
use crate::proto::armilla::raft::Incarnation;
use crate::proto::armilla::raft::transport_server::TransportServer;
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
use crate::service::{Deadlines, Gate, Gates, Metrics, Observer, Redact, routes};
use crate::store::{self, Collector, Heartbeat, PdLink, PdTime, RegionStore, Space, TtlUse};
use crate::types::limits::{LANES_MAX, LOG_SOFT_BYTES_MAX, LOG_SOFT_BYTES_MIN, MESSAGE_BYTES_MAX};
use crate::types::run::History;
use crate::types::{Error, GroupId, Region, Result};

use belonging::Stranger;
pub use config::Config;
use ident::Ident;
use metrics::NodeMetrics;

/// Planted bugs of this room, and what each breaks.
pub const MUTANTS: &[(&str, &str)] = &[
    ("node.directory-of-another", "a node starts with the data directory of another one, as that one"),
    ("node.lost-engine-not-noticed", "a store whose engine is gone goes on with what its raft log holds"),
    ("node.stops-without-hand-over", "a node that is told to stop leaves its regions to an election"),
    ("node.wiped-is-healthy", "a node that began with an empty disk in another one's place says that it is healthy"),
];

/// What a node is given of its world: the seam's part, and where its engine keeps its data.
#[derive(Clone, Debug)]
pub struct NodeEnv {
    /// Tasks, clock, network, disk, randomness.
    pub rt: Env,
    /// The engine's home: options of RocksDB in the real world, what survives a crash in the simulated one.
    pub engine: EngineStorage,
}

/// After a node has handed its leaders over, it goes on answering for so long: clients that still come are told the new leader,
/// and a leader that was on its way here is handed on.
const AFTER_HAND_OVER: Duration = Duration::from_millis(200);
/// How often a node whose disk was lost says so.
const TELL_OF_LOSS: Duration = Duration::from_secs(30);

/// How long a request may wait for a quorum.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// A running node. Dropping it leaves its tasks running; [`Node::stop`] ends them.
#[derive(Debug)]
pub struct Node {
    addr: String,
    cluster: u64,
    store: u64,
    listener: Listener,
    replicas: Replicas,
    pd: Option<PdServer>,
    tasks: Vec<JoinHandle<()>>,
    health: watch::Sender<bool>,
    stopping: watch::Sender<bool>,
    /// How long handing over may take.
    hand_over_max: Duration,
}

/// What all parts of a node's start share.
#[derive(Clone)]
struct Starting {
    env: Env,
    config: Config,
    ident: Arc<RwLock<Ident>>,
    /// When the node started, unix seconds.
    started_s: u64,
    /// This run of the process and those before it, as other nodes are told of them.
    history: Arc<History>,
}

impl Node {
    /// Starts a node; returns when it belongs to a cluster and takes part in its groups (its regions may need a moment more).
    /// The first start of a cluster completes when all nodes of `initial_cluster` are up.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a configuration, a data directory or a cluster that do not fit; [`Error::Io`] for a port that is
    /// taken or a directory that cannot be written; [`Error::Corruption`] for damaged data.
    pub async fn start(env: NodeEnv, config: Config) -> Result<Node> {
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
        source.told_of_loss_by(lost_replicas.subscribe());
        let http = crate::service::status::handler(source.clone(), numbers.registry().clone(), metrics);
        let listener = env
            .net
            .serve(&config.addr, routes, http)
            .await
            .map_err(|error| Error::Io(format!("cannot listen on {}: {error}", config.addr)))?;

        let confirmed = starting.belong().await?;
        let engine = cpu::run(move || engine::open(&home)).await?;
        let founding = starting.founding()?;
        let pd_client = PdClient::new(env.net.clone(), env.clock.clone(), starting.pd_endpoints())
            .seeded(Rng::fork(env.seed, "pd client"))
            .of_node(starting.ident().cluster_id);
        starting.store_id(&founding, &pd_client).await?;

        let ident = starting.ident();
        let (cluster, store) = (ident.cluster_id, ident.store_id);
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
        source.attach(handle.clone(), engine, pd_client.clone());
        let pd = starting.place_driver(&founding, &handle, &pd_state).await?;
        gates.open_pd(match &pd {
            Some(server) => Seat::Member(server.clone()),
            None => Seat::Outside { cluster_id: cluster, front: Arc::new(Front(pd_client.clone())) },
        });

        let kv = RegionStore::new(store, handle.clone(), REQUEST_TIMEOUT);
        let pd_time = PdTime::default();
        let mut tasks = store_tasks(&env, &config, &handle, effects, pd_time.clone());
        let starting = Arc::new(starting);
        let reports = Reports { addresses, health: health.clone(), stopping: stops, lost_replicas, pd_time };
        let serve = starting.clone().serve(kv, gates, pd_client, reports);
        tasks.push(task::spawn(serve));
        if !confirmed {
            tasks.push(task::spawn(starting.ask_on(handle)));
        }
        Ok(Node {
            addr: listener.addr().to_owned(),
            cluster,
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

    /// The address that is served, `host:port`.
    pub fn addr(&self) -> &str {
        &self.addr
    }

    /// The cluster that the node belongs to.
    pub fn cluster_id(&self) -> u64 {
        self.cluster
    }

    /// The node's store.
    pub fn store_id(&self) -> u64 {
        self.store
    }

    /// The front of the node's replicas.
    pub fn handle(&self) -> &Handle {
        &self.replicas.handle
    }

    /// Why the node no longer serves, if so.
    pub fn poisoned(&self) -> Option<String> {
        self.replicas.handle.poisoned()
    }

    /// Hands what this node leads over to other nodes, so that stopping it pauses no region for an election timeout: first the
    /// regions, then the placement driver. The placement driver gives it no leaders meanwhile. What nobody can take over stays;
    /// after two election timeouts all of it does.
    pub async fn drain(&self) {
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
            tracing::warn!(groups = kept, "no other node could take these leaders over: they have to elect new ones");
        }
    }

    /// Stops: no new calls, what is under way ends, a last flush. [`Node::drain`] first spares the others elections.
    pub async fn stop(self) {
        let _ = self.health.send(false);
        for running in &self.tasks {
            running.abort();
        }
        self.listener.stop();
        if let Some(pd) = &self.pd {
            pd.stop();
        }
        self.replicas.stop().await;
    }
}

/// Starts what a store does beside serving: listening to its groups, collecting what has expired, watching its disk.
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

/// The data directory's identity, a new one if it has none, and this run of it, durably counted.
async fn open_directory(env: &Env, config: &Config) -> Result<(Ident, Arc<History>)> {
    let dir = &config.data_dir;
    let named = |error: std::io::Error| Error::Io(format!("data directory {}: {error}", dir.display()));
    env.disk.create_dir_all(dir).await.map_err(named)?;
    // The clocks are in it so that a new directory on the same machine never gets the old uuid, nor a run the nonce of another,
    // whatever the seed.
    let mut rng = Rng::fork(env.seed, &format!("start {} {}", env.clock.wall_ms(), env.clock.now().0));
    if let Some(found) = ident::load(&env.disk, dir).await? {
        if found.name != config.name && !crate::mutant!("node.directory-of-another") {
            crate::reach!("node.directory-of-another");
            return Err(Error::Invalid(format!(
                "the data directory {} is that of node `{}`, this node is called `{}`: give each node its own directory, \
                 and the name that it began with",
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
    // Durable before anybody is told of it.
    ident::save(&env.disk, dir, &new).await?;
    let run = Incarnation { boot: 1, nonce: rng.next_u64() };
    Ok((new, Arc::new(History { run, earlier: Vec::new() })))
}

/// The state machine of each group. The PD group's state is shared with its server.
fn machines(protocol: u32) -> (Machines, Arc<Mutex<Option<SharedState>>>) {
    let shared: Arc<Mutex<Option<SharedState>>> = Arc::default();
    let slot = shared.clone();
    let machines: Machines = Arc::new(move |region: &Region| -> Box<dyn StateMachine> {
        if GroupId(region.id) == GroupId::PD {
            let machine = PdMachine::new(protocol);
            *slot.lock().expect("no holder panics") = Some(machine.shared());
            Box::new(machine)
        } else {
            Box::new(RegionMachine::new(region.clone()))
        }
    });
    (machines, shared)
}

impl Starting {
    fn ident(&self) -> Ident {
        self.ident.read().expect("no writer panics").clone()
    }

    /// Makes a changed identity durable, then everybody's.
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

    /// Before any group runs: all that this store was given must be here, and then this start is remembered as one that wrote to the
    /// log. An older copy of the log is known by that. A start that is refused leaves no trace, so that what was lost can be
    /// brought back.
    fn before_groups_run(&self) -> replica::start::Before {
        let starting = self.clone();
        Box::new(move |held| {
            Box::pin(async move {
                let ident = starting.ident();
                ident.given_groups_are_here(&held, &starting.config.data_dir)?;
                starting.save(Ident { log_boot: ident.boot, ..ident }.told(starting.history.run)).await
            })
        })
    }

    /// Bytes of entries that the logs of all groups may keep.
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
        let stranger = Stranger::new(&self.env.clock);
        Arc::new(move |request| {
            let ident = ident.read().expect("no writer panics");
            stranger.asks(&ident, &request);
            HelloReply {
                name: ident.name.clone(),
                uuid: ident.uuid.clone(),
                cluster_id: ident.cluster_id,
                founders: ident.founders_now(),
                pd_members: if ident.cluster_id == 0 { configured } else { ident.pd_members },
            }
        })
    }

    fn founding(&self) -> Result<Founding> {
        let ident = self.ident();
        Founding::new(&ident.founders_on_wire(), ident.pd_members as usize).map_err(Error::Corruption)
    }

    /// Starts the placement driver where this node carries a member.
    async fn place_driver(
        &self,
        founding: &Founding,
        handle: &Handle,
        state: &Mutex<Option<SharedState>>,
    ) -> Result<Option<PdServer>> {
        let ident = self.ident();
        if !ident.carries_pd() {
            return Ok(None);
        }
        handle.create(vec![founding.pd.clone()]).await?;
        if !ident.pd_created {
            self.save(Ident { pd_created: true, ..ident.clone() }).await?;
        }
        let state = state.lock().expect("no holder panics").clone().expect("the group was created or restored");
        let bootstrap = founding
            .command(self.config.replicas, &boundaries(&self.config))
            .map_err(|why| Error::Invalid(format!("the first regions cannot be: {why}")))?;
        let options = PdOptions {
            bootstrap: Some(bootstrap),
            balance_leaders: self.config.pd.balance_leaders,
            cluster: ClusterOptions {
                alive_ms: self.config.pd.store_alive_ms,
                late_ms: 2 * self.config.pd.store_heartbeat_ms,
                ..ClusterOptions::default()
            },
        };
        let identity = Identity {
            cluster_id: ident.cluster_id,
            members: founding.members.clone(),
            addr: self.config.advertised().to_owned(),
        };
        Ok(Some(PdServer::start(self.env.clock.clone(), handle.clone(), state, identity, options)))
    }

    /// Registers the store, creates its first regions, opens the gate, and reports from then on.
    async fn serve(
        self: Arc<Self>,
        kv: RegionStore,
        gates: Gates<RegionStore>,
        pd: PdClient,
        Reports { addresses, health, stopping, lost_replicas, pd_time }: Reports,
    ) {
        let ident = self.ident();
        let handle = kv.handle().clone();
        let learned = addresses.subscribe();
        let known = ident.regions_created;
        if !self.first_regions(&pd, &handle).await {
            return;
        }
        gates.open_store(kv, ident.cluster_id);
        tracing::info!(store = ident.store_id, "ready to serve");
        let watched =
            watch_health(self.env.clone(), handle.clone(), health, stopping.clone(), lost_replicas.subscribe());
        let stops = handle.clone();
        let heartbeat = Heartbeat {
            protocol: self.config.protocol(),
            incarnation: self.history.run,
            pd_time,
            cluster: ident.cluster_id,
            store: ident.store_id,
            handle,
            clock: self.env.clock.clone(),
            disk: self.env.disk.clone(),
            data_dir: self.config.data_dir.clone(),
            pd: Arc::new(Front(pd.clone())),
            addresses,
            interval: Duration::from_millis(self.config.pd.store_heartbeat_ms),
            stopping,
            lost_replicas,
        };
        let registered = async {
            // PD learns a changed address when it answers; serving does not wait for it.
            if known {
                self.register_again(&pd, &stops).await;
            }
        };
        futures::join!(heartbeat.run(), watched, self.keep_addresses(learned), registered);
    }
}

/// What the serving task tells, and is told.
struct Reports {
    addresses: watch::Sender<Addresses>,
    health: watch::Sender<bool>,
    stopping: watch::Receiver<bool>,
    lost_replicas: watch::Sender<Option<u64>>,
    pd_time: PdTime,
}

/// Turns health on when the store serves and off when it stops serving. A store that began with an empty disk where another one
/// was is not healthy while regions count on what was on that disk; one without any region asks the placement driver first.
async fn watch_health(
    env: Env,
    handle: Handle,
    health: watch::Sender<bool>,
    stopping: watch::Receiver<bool>,
    mut lost_replicas: watch::Receiver<Option<u64>>,
) {
    let mut told = None;
    loop {
        let lost = *lost_replicas.borrow_and_update();
        let empty = || handle.views().iter().all(|view| view.group == GroupId::PD);
        let whole = lost.map_or_else(|| !empty(), |lost| lost == 0) || crate::mutant!("node.wiped-is-healthy");
        let serves =
            whole && handle.poisoned().is_none() && !*stopping.borrow() && handle.room() != replica::Room::Critical;
        health.send_if_modified(|old| std::mem::replace(old, serves) != serves);
        let now = env.clock.now();
        if let Some(regions) = lost.filter(|lost| *lost > 0)
            && told.is_none_or(|at| now.since(at) >= TELL_OF_LOSS)
        {
            tracing::error!("{}", status::loss(regions));
            told = Some(now);
        }
        if handle.poisoned().is_some() {
            return;
        }
        // In time for the next change, at the latest after a second, when the store may have stopped serving.
        let _ = env.clock.timeout(Duration::from_secs(1), lost_replicas.changed()).await;
    }
}

/// Where the first regions of a new cluster begin, encoded.
fn boundaries(config: &Config) -> Vec<bytes::Bytes> {
    if !config.split_keys.is_empty() {
        return config.split_keys.iter().map(|key| crate::codec::bytes::encode(key.as_bytes())).collect();
    }
    let regions = config.initial_regions.max(1);
    // Spread over the first two bytes, which is all that is known of keys to come.
    (1..regions)
        .map(|i| {
            let at = (i * 65536 / regions) as u16;
            crate::codec::bytes::encode(&at.to_be_bytes())
        })
        .collect()
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

/// How many lanes a store has: as configured, or one for every four cores.
fn lanes(configured: usize) -> usize {
    let lanes = if configured == 0 { cpu::cores() / 4 } else { configured };
    lanes.clamp(1, LANES_MAX)
}

fn replica_options(config: &Config, log_store_bytes_max: u64) -> replica::Options {
    let raft = &config.raft;
    replica::Options {
        raft: crate::raft::Options {
            tick_ns: raft.tick().as_nanos() as u64,
            election_ticks: raft.election_ticks,
            heartbeat_ticks: raft.heartbeat_ticks,
            lease_reads: raft.lease_reads,
            append_bytes_max: raft.append_kib_max << 10,
            appends_inflight_max: raft.appends_inflight_max,
            apply_bytes_max: raft.apply_kib_max << 10,
        },
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
        snapshot_chunk_bytes: raft.snapshot_chunk_kib << 10,
        snapshot_bytes_per_s: raft.snapshot_mib_per_s << 20,
    }
}

/// The way to PD for the store and for the services of nodes that carry no member.
struct Front(PdClient);

impl PdLink for Front {
    fn store_heartbeat(&self, request: StoreHeartbeatRequest) -> BoxFuture<'_, Result<StoreHeartbeatReply>> {
        Box::pin(async move { self.0.store_heartbeat(request).await.map_err(|error| Error::Io(error.to_string())) })
    }
}

impl PdProxy for Front {
    fn members(&self) -> BoxFuture<'_, Result<Members>> {
        Box::pin(async move {
            let (members, leader) = self.0.members().await.map_err(|error| Error::Io(error.to_string()))?;
            Ok(Members { members, leader: Some(leader) })
        })
    }

    fn overview(&self) -> BoxFuture<'_, Result<OverviewReply>> {
        Box::pin(async move { self.0.overview().await.map_err(|error| Error::Io(error.to_string())) })
    }
}
