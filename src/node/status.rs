//! What the status page is told about a node.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock, RwLock};
use std::time::Duration;

use crate::client::pd::PdClient;
use crate::engine::{self, Engine};
use crate::replica::Handle;
use crate::rt::clock::{Clock, Instant};
use crate::rt::sync::watch;
use crate::service::status::{Figures, NodeStatus, PeerStatus, StatusSource};

use super::config::Config;
use super::ident::Ident;
use super::metrics::NodeMetrics;

/// How long the status page waits for PD.
const PATIENCE: Duration = Duration::from_millis(800);

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
        }
    }

    /// `lost` says how many regions count on a replica that was on the disk which this node's replaces.
    pub fn told_of_loss_by(&self, lost: watch::Receiver<Option<u64>>) {
        let _ = self.lost_replicas.set(lost);
    }

    /// The store runs from now on.
    pub fn attach(&self, handle: Handle, engine: Engine, pd: PdClient) {
        let _ = self.running.set(Running { handle, engine, pd: pd.with_deadline(PATIENCE) });
    }
}

impl Source {
    fn lost(&self) -> u64 {
        self.lost_replicas.get().and_then(|lost| *lost.borrow()).unwrap_or(0)
    }

    /// The figures of the rooms below, which `/status` and `/metrics` show alike.
    fn figures(&self) -> BTreeMap<&'static str, Figures> {
        let Some(running) = self.running.get() else { return BTreeMap::new() };
        let mut log = running.handle.log_figures();
        let mut engine = engine::figures(&running.engine);
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
                figures: self.figures(),
            }
        })
    }

    fn measure(&self) {
        self.numbers.stands(self.serving().is_ok(), self.running.get().is_some_and(|r| r.handle.poisoned().is_some()));
        for (room, figures) in self.figures() {
            self.numbers.show(room, &figures);
        }
        if let Some(usage) = crate::rt::process::usage() {
            self.numbers.show_process(&usage);
        }
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
