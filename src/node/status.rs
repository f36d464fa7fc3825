//! What the status page is told about a node.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, RwLock};
use std::time::Duration;

use crate::client::pd::PdClient;
use crate::engine::{self, Engine};
use crate::replica::Handle;
use crate::rt::clock::{Clock, Instant};
use crate::rt::sync::watch;
use crate::rt::{cpu, task};
use crate::service::status::{Figures, NodeStatus, PeerStatus, StatusSource};

use super::config::Config;
use super::ident::Ident;
use super::metrics::NodeMetrics;

/// How long whoever asks waits for the engine's figures.
const ENGINE_TIMEOUT: Duration = Duration::from_millis(300);
/// How long the status page waits for PD.
const TIMEOUT: Duration = Duration::from_millis(800);

/// The engine's figures as they were found last. Finding them takes the engine's locks, which an engine whose disk stands still may
/// hold for long: whoever asks waits for a moment at most, and never on a thread that others need.
#[derive(Clone, Default)]
struct EngineFigures(Arc<Mutex<Found>>);

#[derive(Default)]
struct Found {
    figures: Figures,
    /// Somebody looks for newer ones: tells when it has ended.
    look: Option<watch::Receiver<()>>,
}

impl EngineFigures {
    /// Waits for a look that `find` or somebody else's has begun, for a moment at most; gives what was found last.
    async fn now(&self, clock: &Clock, find: impl FnOnce() -> Figures + Send + 'static) -> Figures {
        let mut ended = self.look(find);
        // It goes on if it lasts longer; then whoever waits is given what was found before. The sender says nothing, it goes.
        let _ = clock.timeout(ENGINE_TIMEOUT, ended.changed()).await;
        self.found().figures.clone()
    }

    /// Begins a look, unless one is under way. What is returned closes when it has ended.
    fn look(&self, find: impl FnOnce() -> Figures + Send + 'static) -> watch::Receiver<()> {
        let mut found = self.found();
        // One that is closed was given up.
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

/// Answers for the status page; knows more once the store runs.
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
}

/// What a node says that took the place of one whose disk was lost.
pub(super) fn loss(regions: u64) -> String {
    format!(
        "this node began with an empty disk in the place of another store: {regions} regions count on replicas that were lost with \
         the old disk and must be rebuilt; losing one more node may stop them (`armilla ctl stores` names the store)"
    )
}

struct Running {
    handle: Handle,
    engine: Engine,
    pd: PdClient,
}

impl Source {
    /// `healthy` is what the health service says.
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
        }
    }

    /// `lost` says how many regions count on a replica that was on the disk which this node's replaces.
    pub fn told_of_loss_by(&self, lost: watch::Receiver<Option<u64>>) {
        let _ = self.lost_replicas.set(lost);
    }

    /// The store runs from now on.
    pub fn attach(&self, handle: Handle, engine: Engine, pd: PdClient) {
        let _ = self.running.set(Running { handle, engine, pd: pd.with_deadline(TIMEOUT) });
    }
}

impl Source {
    fn lost(&self) -> u64 {
        self.lost_replicas.get().and_then(|lost| *lost.borrow()).unwrap_or(0)
    }

    /// The figures of the rooms below, which `/status` and `/metrics` show alike.
    async fn figures(&self) -> BTreeMap<&'static str, Figures> {
        let Some(running) = self.running.get() else { return BTreeMap::new() };
        let mut log = running.handle.log_figures();
        let engine = running.engine.clone();
        let mut engine = self.engine_figures.now(&self.clock, move || engine::figures(&engine)).await;
        engine.extend(log.remove("engine_flushes").map(|count| ("flushes", count)));
        [("raft", running.handle.raft_figures()), ("log", log), ("engine", engine)].into()
    }
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
            self.numbers.stands(self.serving().is_ok(), poisoned);
            for (room, figures) in self.figures().await {
                self.numbers.show(room, &figures);
            }
            if let Some(usage) = crate::rt::process::usage() {
                self.numbers.show_process(&usage);
            }
        })
    }

    fn config(&self) -> String {
        self.config.clone()
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
            None => Err("the node takes no requests: it is starting or stopping".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: of two that ask at once, both are given what one look finds, and nobody starts another look meanwhile; a look that lasts
    //! long keeps nobody waiting. Method: a look that counts, in a world of its own.
    use super::*;

    #[test]
    fn whoever_comes_meanwhile_waits_for_the_same_look() {
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
            assert_eq!(both, (look(1), look(1)), "one look for both");
            assert_eq!(figures.now(&env.clock, find(&looks)).await, look(2), "the next who asks looks again");
            // A look that does not end.
            let (never, held) = watch::channel(());
            figures.found().look = Some(held);
            assert_eq!(figures.now(&env.clock, find(&looks)).await, look(2), "what was found before");
            drop(never);
        });
    }
}
