//! The data of the status page.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, RwLock};
use std::time::Duration;

use crate::client::pd::PdClient;
use crate::engine::{self, Engine};
use crate::pd::PdServer;
use crate::replica::Handle;
use crate::rt::clock::{Clock, Instant};
use crate::rt::sync::watch;
use crate::rt::{cpu, task};
use crate::service::pd_http::PdHttpPeers;
use crate::service::status::{Figures, NodeStatus, PeerStatus, StatusSource};
use crate::store::RegionStore;
use crate::txn::Txn;
use crate::types::GroupId;
use crate::types::load::Load;

use super::config::Config;
use super::ident::Ident;
use super::metrics::NodeMetrics;

/// How long a request waits for the engine's statistics.
const ENGINE_TIMEOUT: Duration = Duration::from_millis(300);
/// How long the status page waits for PD.
const TIMEOUT: Duration = Duration::from_millis(800);

/// The engine's last known statistics. Reading them takes the engine's locks, which the engine may hold for long if its
/// disk hangs: a request waits only for a moment, and never on a thread that others need.
#[derive(Clone, Default)]
struct EngineFigures(Arc<Mutex<Found>>);

#[derive(Default)]
struct Found {
    figures: Figures,
    /// The task that reads newer ones, if any; the channel closes when it has ended.
    look: Option<watch::Receiver<()>>,
}

impl EngineFigures {
    /// Waits briefly for the current read of the statistics, or for a new one with `find` if there is none, and returns
    /// the latest statistics.
    async fn now(&self, clock: &Clock, find: impl FnOnce() -> Figures + Send + 'static) -> Figures {
        let mut ended = self.look(find);
        // The task continues after the timeout; meanwhile requests get the previous statistics. The channel carries no
        // value: it closes.
        let _ = clock.timeout(ENGINE_TIMEOUT, ended.changed()).await;
        self.found().figures.clone()
    }

    /// Starts a read unless one is running. The returned channel closes when the read has ended.
    fn look(&self, find: impl FnOnce() -> Figures + Send + 'static) -> watch::Receiver<()> {
        let mut found = self.found();
        // A closed channel means that the task was dropped.
        if let Some(look) = found.look.as_ref().filter(|look| look.has_changed().is_ok()) {
            return look.clone();
        }
        let (looking, ended) = watch::channel(());
        found.look = Some(ended.clone());
        let own = self.clone();
        task::spawn(async move {
            let figures = cpu::run(find).await;
            *own.found() = Found { figures, look: None };
            drop(looking);
        });
        ended
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.0.lock().expect("no holder panics")
    }
}

/// The source of the status page's data; it has more data once the store runs.
pub(super) struct Source {
    clock: Clock,
    started: Instant,
    name: String,
    address: String,
    config: String,
    ident: Arc<RwLock<Ident>>,
    numbers: NodeMetrics,
    healthy: watch::Receiver<bool>,
    lost_replicas: OnceLock<watch::Receiver<Option<u64>>>,
    running: OnceLock<Running>,
    engine_figures: EngineFigures,
    placement: OnceLock<PdServer>,
    transactions: OnceLock<Txn<RegionStore>>,
}

/// Returns the message of a node that replaced a store whose disk was lost.
pub(super) fn loss(regions: u64) -> String {
    format!(
        "this node began with an empty disk in the place of another store: {regions} regions rely on replicas that \
         were lost with the old disk and must be rebuilt; losing one more node may stop them (`armilla ctl \
         stores` names the store)"
    )
}

struct Running {
    handle: Handle,
    engine: Engine,
    pd: PdClient,
    peers: Arc<dyn PdHttpPeers>,
}

impl Source {
    /// Creates the source. `healthy` is the state of the health service.
    pub fn new(
        clock: &Clock,
        config: &Config,
        ident: Arc<RwLock<Ident>>,
        numbers: &NodeMetrics,
        healthy: watch::Receiver<bool>,
    ) -> Source {
        Source {
            clock: clock.clone(),
            started: clock.now(),
            name: config.name.clone(),
            address: config.advertised().to_owned(),
            config: config.to_json(),
            ident,
            numbers: numbers.clone(),
            healthy,
            lost_replicas: OnceLock::new(),
            running: OnceLock::new(),
            engine_figures: EngineFigures::default(),
            placement: OnceLock::new(),
            transactions: OnceLock::new(),
        }
    }

    /// Attaches the placement driver's member of this node.
    pub fn set_placement_driver(&self, pd: &PdServer) {
        let _ = self.placement.set(pd.clone());
    }

    /// Attaches the transactions of the store.
    pub fn set_transactions(&self, txn: Txn<RegionStore>) {
        let _ = self.transactions.set(txn);
    }

    /// Sets the channel that reports how many regions rely on a replica that was lost with the disk replaced by this
    /// node's.
    pub fn set_lost_replicas(&self, lost: watch::Receiver<Option<u64>>) {
        let _ = self.lost_replicas.set(lost);
    }

    /// Attaches the running store.
    pub fn attach(&self, handle: Handle, engine: Engine, pd: PdClient, peers: Arc<dyn PdHttpPeers>) {
        let _ = self.running.set(Running { handle, engine, pd: pd.with_deadline(TIMEOUT), peers });
    }
}

impl Source {
    fn lost(&self) -> u64 {
        self.lost_replicas.get().and_then(|lost| *lost.borrow()).unwrap_or(0)
    }

    /// Returns the statistics of the modules below, which `/status` and `/metrics` both show.
    async fn figures(&self) -> BTreeMap<&'static str, Figures> {
        let Some(running) = self.running.get() else { return BTreeMap::new() };
        let mut log = running.handle.log_figures();
        let engine = running.engine.clone();
        let mut engine = self.engine_figures.now(&self.clock, move || engine::figures(&engine)).await;
        engine.extend(log.remove("engine_flushes").map(|count| ("flushes", count)));
        let load = load_figures(&running.handle);
        let mut figures =
            BTreeMap::from([("raft", running.handle.raft_figures()), ("log", log), ("engine", engine), ("load", load)]);
        figures.extend(self.transactions.get().map(|txn| ("txn", txn.figures())));
        figures.extend(self.placement.get().map(|pd| ("pd", pd.figures())));
        figures
    }
}

/// Returns what requests read and wrote through this store, and how often its regions were split because of that.
fn load_figures(handle: &Handle) -> Figures {
    let mut views = handle.views();
    views.retain(|view| view.group != GroupId::PD);
    let sum = views.iter().fold(Load::default(), |sum, view| sum.plus(view.load().sums()));
    let (splits, indivisible) = handle.load_splits();
    Figures::from([
        ("reads", sum.reads),
        ("read_keys", sum.read_keys),
        ("read_bytes", sum.read_bytes),
        ("writes", sum.writes),
        ("written_keys", sum.written_keys),
        ("written_bytes", sum.written_bytes),
        ("splits", splits),
        ("splits_impossible", indivisible),
    ])
}

impl StatusSource for Source {
    fn status(&self) -> Pin<Box<dyn Future<Output = NodeStatus> + Send + '_>> {
        Box::pin(async move {
            let ident = self.ident.read().expect("no writer panics").clone();
            let running = self.running.get();
            let overview = match running {
                Some(running) => running.pd.overview().await.map_err(|error| error.to_string()),
                None => Err("the node is starting".to_owned()),
            };
            let peers = running.map_or_else(Vec::new, |running| {
                let peer = |view: &Arc<crate::replica::PeerView>| {
                    let leadership = view.leadership();
                    PeerStatus {
                        region: view.region().as_ref().clone(),
                        peer: view.peer,
                        leader: leadership.leader,
                        term: leadership.term,
                        applied: view.applied(),
                    }
                };
                running.handle.views().iter().map(peer).collect()
            });
            NodeStatus {
                name: self.name.clone(),
                address: self.address.clone(),
                cluster_id: ident.cluster_id,
                store_id: ident.store_id,
                uptime: self.clock.now().since(self.started),
                serving: self.serving().is_ok(),
                poisoned: running.and_then(|running| running.handle.poisoned()),
                overview,
                peers,
                figures: self.figures().await,
            }
        })
    }

    fn measure(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            let poisoned = self.running.get().is_some_and(|running| running.handle.poisoned().is_some());
            self.numbers.set_state(self.serving().is_ok(), poisoned);
            for (module, figures) in self.figures().await {
                self.numbers.show(module, &figures);
            }
            if let Some(usage) = crate::rt::process::usage() {
                self.numbers.show_process(&usage);
            }
        })
    }

    fn config(&self) -> String {
        self.config.clone()
    }

    fn placement_driver(&self) -> Option<Arc<dyn PdHttpPeers>> {
        self.running.get().map(|running| running.peers.clone())
    }

    fn alive(&self) -> Result<(), String> {
        self.running.get().and_then(|running| running.handle.poisoned()).map_or(Ok(()), Err)
    }

    fn serving(&self) -> Result<(), String> {
        let Some(running) = self.running.get() else { return Err("the node is starting".into()) };
        match running.handle.poisoned() {
            Some(why) => Err(why),
            None if self.lost() > 0 => Err(loss(self.lost())),
            None if *self.healthy.borrow() => Ok(()),
            None => Err("the node accepts no requests: it is starting or shutting down".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: two requests at the same time share one read, and get its result; a slow read does not make requests wait.
    //! Method: a read that counts its calls, in the world of the build.
    use super::*;

    #[test]
    fn concurrent_requests_share_one_read() {
        crate::rt::testing::run(|env, _| async move {
            let (figures, looks) = (EngineFigures::default(), Arc::new(Mutex::new(0)));
            let find = |looks: &Arc<Mutex<u64>>| {
                let looks = looks.clone();
                move || {
                    let mut looks = looks.lock().unwrap();
                    *looks += 1;
                    Figures::from([("looks", *looks)])
                }
            };
            let look = |n| Figures::from([("looks", n)]);
            let both = futures::join!(figures.now(&env.clock, find(&looks)), figures.now(&env.clock, find(&looks)),);
            assert_eq!(both, (look(1), look(1)), "one read for both");
            assert_eq!(figures.now(&env.clock, find(&looks)).await, look(2), "the next request starts another read");
            // A read that does not end.
            let (never, held) = watch::channel(());
            figures.found().look = Some(held);
            assert_eq!(figures.now(&env.clock, find(&looks)).await, look(2), "the previous result");
            drop(never);
        });
    }
}
