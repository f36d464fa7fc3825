//! The placement driver's loop and its calls.
//!
//! One task follows the group's leadership. While this node is leader and its state is complete, a `Serving` of that
//! term exists. A call first finds it, then makes sure that this node is *still* leader of that term (by its lease, or
//! by a quorum's confirmation), and then answers from memory or proposes a command. The timestamp window is extended by
//! one proposal at a time, ahead of need.

mod admin;
mod keyspaces;
mod lookups;
mod members;
mod safe_points;
mod settings;
mod stores;

pub use safe_points::SafePointsView;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use bytes::Bytes;
use prost::Message;

use super::cluster::{Cluster, ClusterOptions};
use super::machine::SharedState;
use super::operators::Operators;
use super::state::{self, PdState};
use super::tso::Tso;
use super::waits::Waits;
use crate::proto::armilla::pd::pd_command::Op;
use crate::proto::armilla::pd::{
    AllocIds, Bootstrap, OverviewReply, PdCommand, PdReply, ReportWaitsReply, ReportWaitsRequest, SetStoreState,
};
use crate::proto::metapb::StoreState;
use crate::proto::pdpb::Member;
use crate::raft::frame::Command;
use crate::replica::{Handle, PeerView};
use crate::rt::clock::Clock;
use crate::rt::probe::{self, Event as Probe};
use crate::rt::sync::{Notify, watch};
use crate::rt::task;
use crate::types::limits::{ALLOC_IDS_MAX, TSO_COUNT_MAX};
use crate::types::{Error, GroupId, Region, Timestamp, region, version as types_version};

/// How long to wait before the server's own failed proposal is retried.
const RETRY: Duration = Duration::from_millis(50);
/// How long a call for the members waits for a leader.
const LEADER_WAIT: Duration = Duration::from_secs(1);
/// Poll interval while waiting for a leader.
const POLL: Duration = Duration::from_millis(20);

/// Errors of the placement driver's calls, by what the caller should do.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PdError {
    /// Ask the given member instead; if there is none, retry a little later. (gRPC: UNAVAILABLE.)
    #[error("not leader{}", .0.as_ref().map(|leader| format!(", {} leads", leader.name)).unwrap_or_default())]
    NotLeader(Option<Member>),
    /// The caller belongs to another cluster. (gRPC: FAILED_PRECONDITION.)
    #[error("mismatch cluster id, need {actual} but got {asked}")]
    ClusterMismatch {
        /// The cluster ID in the request.
        asked: u64,
        /// The ID of this cluster.
        actual: u64,
    },
    /// The first stores and regions do not exist yet: retry. (pdpb: NOT_BOOTSTRAPPED.)
    #[error("the cluster is not bootstrapped yet")]
    NotBootstrapped,
    /// The request itself is invalid. (gRPC: INVALID_ARGUMENT.)
    #[error("{0}")]
    Invalid(String),
    /// Not possible now: retry. A requested write may or may not take effect. (gRPC: UNAVAILABLE.)
    #[error("{0}")]
    Unavailable(String),
}

/// The result of a placement driver call.
pub type PdResult<T> = Result<T, PdError>;

/// The identity of the cluster and of its placement driver's members.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The cluster's ID, which is never 0.
    pub cluster_id: u64,
    /// The first members, in the order of the certificate; `member_id` is the ID of the peer in the group.
    pub founders: Vec<Member>,
    /// This node's name.
    pub name: String,
    /// This node's address (host:port). It takes precedence over the registered one, which may be out of date after a
    /// move.
    pub addr: String,
}

/// Options of the server.
#[derive(Clone, Debug)]
pub struct PdOptions {
    /// The bootstrap command, which the first leader proposes if the cluster is not bootstrapped. See
    /// [`super::bootstrap::Founding::command`].
    pub bootstrap: Option<Bootstrap>,
    /// How many members the placement driver is to have.
    pub members: usize,
    /// Timeouts and limits of the view of the cluster.
    pub cluster: ClusterOptions,
}

impl Default for PdOptions {
    fn default() -> PdOptions {
        PdOptions { bootstrap: None, members: 3, cluster: ClusterOptions::default() }
    }
}

/// The placement driver on this node. Clones share it.
#[derive(Clone, Debug)]
pub struct PdServer {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    clock: Clock,
    handle: Handle,
    state: SharedState,
    identity: Identity,
    options: PdOptions,
    serving: RwLock<Option<Arc<Serving>>>,
    task: Mutex<Option<task::JoinHandle<()>>>,
}

/// One leadership of this node.
#[derive(Debug)]
struct Serving {
    term: u64,
    tso: Mutex<Tso>,
    /// The number of window extensions so far; `None` once the leadership has ended.
    windows: watch::Sender<Option<u64>>,
    /// Notified when the window runs low.
    need: Notify,
    /// The number of heartbeats so far, for lookups that wait for one.
    heartbeats: watch::Sender<u64>,
    cluster: Mutex<Cluster>,
    /// When this leadership began, by the monotonic clock.
    since_ms: u64,
    /// Locked before `cluster`.
    operators: Mutex<Operators>,
    /// Whether a change of the placement driver's members is under way.
    changes_members: AtomicBool,
    /// Transactions that wait for each other.
    waits: Mutex<Waits>,
}

fn decode(reply: Bytes) -> PdResult<PdReply> {
    PdReply::decode(reply).map_err(|error| PdError::Unavailable(format!("cannot decode the reply: {error}")))
}

impl PdServer {
    /// Starts following the group's leadership. Calls succeed while this node is leader. A node without a member may
    /// get one, and lose it.
    ///
    /// `state` is that of the machine to which the driver behind `handle` applies commands.
    pub fn start(clock: Clock, handle: Handle, state: SharedState, identity: Identity, options: PdOptions) -> PdServer {
        assert!(identity.cluster_id != 0, "a cluster's id is never 0");
        let inner =
            Inner { clock, handle, state, identity, options, serving: RwLock::new(None), task: Mutex::new(None) };
        let server = PdServer { inner: Arc::new(inner) };
        let run = task::spawn(server.clone().run());
        *server.inner.task.lock().expect("no holder panics") = Some(run);
        server
    }

    /// Stops following the leadership; calls are rejected from now on.
    pub fn stop(&self) {
        if let Some(run) = self.inner.task.lock().expect("no holder panics").take() {
            run.abort();
        }
        self.stop_serving();
    }

    // ---- the loop ----

    async fn run(self) {
        let mut peers = self.inner.handle.pd_changes();
        loop {
            peers.borrow_and_update();
            let view = self.inner.handle.view(GroupId::PD);
            let follow = async {
                match view {
                    Some(view) => self.follow(&view).await,
                    None => std::future::pending().await,
                }
            };
            let another = crate::rt_select! {
                another = peers.changed() => another,
                () = follow => Ok(()),
            };
            self.stop_serving();
            if another.is_err() {
                return;
            }
        }
    }

    /// Serves whenever the peer of `view` is leader. Returns when the peer is gone.
    async fn follow(&self, view: &PeerView) {
        let mut leadership = view.subscribe();
        loop {
            let now = leadership.borrow_and_update().clone();
            if !(now.ready && now.leader == view.peer) {
                if leadership.changed().await.is_err() {
                    return;
                }
                continue;
            }
            let term = now.term;
            let serving = self.start_serving(term);
            tracing::info!(term, bound_ms = self.read(PdState::tso_bound_ms), "became leader of the placement driver");
            let lost = async {
                let still = |now: &crate::replica::Leadership| now.term == term && now.leader == view.peer && now.ready;
                let _ = leadership.wait_for(|now| !still(now)).await;
            };
            crate::rt_select! {
                () = lost => {}
                () = self.lead(&serving, view) => {}
            }
            tracing::info!(term, "no longer leader of the placement driver");
            if crate::mutant!("tso.old-leader-serves") {
                continue;
            }
            self.stop_serving();
        }
    }

    /// Starts to serve calls in `term`. The state is complete: the leader has applied an entry of its own term.
    fn start_serving(&self, term: u64) -> Arc<Serving> {
        let bound_ms = self.read(PdState::tso_bound_ms);
        let mut tso = Tso::new(bound_ms);
        if crate::mutant!("tso.restart-below-bound") {
            tso = Tso::new(self.inner.clock.wall_ms().min(bound_ms));
            tso.extend(bound_ms);
        }
        let since_ms = self.now_ms();
        let serving = Arc::new(Serving {
            term,
            tso: Mutex::new(tso),
            windows: watch::Sender::new(Some(0)),
            need: Notify::new(),
            heartbeats: watch::Sender::new(0),
            cluster: Mutex::new(Cluster::new(self.inner.options.cluster.clone(), since_ms)),
            since_ms,
            operators: Mutex::default(),
            changes_members: AtomicBool::new(false),
            waits: Mutex::default(),
        });
        *self.inner.serving.write().expect("no holder panics") = Some(serving.clone());
        serving
    }

    fn stop_serving(&self) {
        if let Some(serving) = self.inner.serving.write().expect("no holder panics").take() {
            serving.windows.send_replace(None);
        }
    }

    /// Background work of the leader. Never returns.
    async fn lead(&self, serving: &Serving, view: &PeerView) {
        futures::future::join(self.keep_windows(serving, view), self.move_safe_points(serving)).await;
    }

    /// Bootstraps the cluster, then keeps the timestamp window ahead of demand. Never returns.
    async fn keep_windows(&self, serving: &Serving, view: &PeerView) {
        if let Some(bootstrap) = &self.inner.options.bootstrap {
            while let Err(error) = self.bootstrap(bootstrap.clone()).await {
                tracing::warn!(%error, "could not bootstrap the cluster, will retry");
                self.inner.clock.sleep(RETRY).await;
            }
        }
        loop {
            let wall_ms = self.inner.clock.wall_ms();
            let (low, window) = {
                let tso = serving.tso.lock().expect("no holder panics");
                (tso.runs_low(wall_ms), tso.window(wall_ms))
            };
            if !low {
                serving.need.notified().await;
                continue;
            }
            if !crate::mutant!("tso.window-not-persisted")
                && let Err(error) = self.propose(Op::TsoBoundMs(window.to_ms)).await
            {
                tracing::debug!(%error, to_ms = window.to_ms, "could not save the timestamp window, will retry");
                self.inner.clock.sleep(RETRY).await;
                continue;
            }
            // The bound was saved within this term, so every later leader starts above it. If this node had lost the
            // leadership and won it again meanwhile, another leader might have used the window: it is then not used,
            // and this loop is about to be cancelled.
            if self.leads_term(view, serving.term) {
                serving.tso.lock().expect("no holder panics").extend(window.to_ms);
                serving.windows.send_modify(|windows| *windows = windows.map(|count| count + 1));
            } else {
                self.inner.clock.sleep(RETRY).await;
            }
        }
    }

    // ---- helpers of the calls ----

    fn read<T>(&self, look: impl FnOnce(&PdState) -> T) -> T {
        look(&self.inner.state.read().expect("no writer panics"))
    }

    /// Returns the milliseconds of the monotonic clock.
    fn now_ms(&self) -> u64 {
        self.inner.clock.now().0 / 1_000_000
    }

    fn leads_term(&self, view: &PeerView, term: u64) -> bool {
        let now = view.leadership();
        now.term == term && now.leader == view.peer
    }

    fn not_leader(&self) -> PdError {
        PdError::NotLeader(self.leader().filter(|_| !self.leads()))
    }

    fn leads(&self) -> bool {
        self.inner.handle.view(GroupId::PD).is_some_and(|view| view.leads())
    }

    fn serving(&self) -> PdResult<Arc<Serving>> {
        let serving = self.inner.serving.read().expect("no holder panics").clone();
        if crate::buggify!("pd.not-now") {
            return Err(PdError::Unavailable("not ready for calls yet".to_owned()));
        }
        serving.ok_or_else(|| self.not_leader())
    }

    /// Completes once it is certain that this node was leader in the term of `serving` at some moment after the call.
    async fn confirm(&self, serving: &Serving) -> PdResult<()> {
        let view = self.inner.handle.view(GroupId::PD).ok_or_else(|| self.not_leader())?;
        let lease = view.lease(self.inner.clock.now()).filter(|_| !crate::buggify!("pd.confirm-without-lease"));
        if lease == Some(serving.term) && self.leads_term(&view, serving.term) {
            let (store, group, peer, term) = (view.store, view.group.0, view.peer, serving.term);
            probe::emit(|| Probe::LeaseRead { store, group, peer, term });
            return Ok(());
        }
        self.inner.handle.read_barrier(GroupId::PD).await.map_err(|error| self.refusal(error))?;
        if self.leads_term(&view, serving.term) { Ok(()) } else { Err(self.not_leader()) }
    }

    /// Returns the leadership that this call may use, after confirming it.
    async fn confirmed(&self) -> PdResult<Arc<Serving>> {
        let serving = self.serving()?;
        self.confirm(&serving).await?;
        Ok(serving)
    }

    /// As [`PdServer::confirmed`], but fails if the cluster is not bootstrapped.
    async fn confirmed_cluster(&self) -> PdResult<Arc<Serving>> {
        let serving = self.confirmed().await?;
        if self.read(PdState::bootstrapped) { Ok(serving) } else { Err(PdError::NotBootstrapped) }
    }

    fn look<T>(&self, serving: &Serving, look: impl FnOnce(&mut Cluster, &PdState, u64) -> T) -> T {
        let now_ms = self.now_ms();
        // Always lock in this order: the state, then the cluster.
        let state = self.inner.state.read().expect("no writer panics");
        let mut cluster = serving.cluster.lock().expect("no holder panics");
        cluster.follow(state.settings(), self.inner.clock.wall_ms());
        look(&mut cluster, &state, now_ms)
    }

    fn refusal(&self, error: Error) -> PdError {
        match error {
            Error::NotLeader { .. } | Error::RegionNotFound(_) => self.not_leader(),
            Error::Invalid(_) | Error::EntryTooLarge { .. } => PdError::Invalid(error.to_string()),
            other => PdError::Unavailable(other.to_string()),
        }
    }

    async fn propose(&self, op: Op) -> PdResult<PdReply> {
        let command = Command::plain(PdCommand { op: Some(op) }.encode_to_vec());
        let reply = self.inner.handle.propose(GroupId::PD, 0, command).await.map_err(|error| self.refusal(error))?;
        decode(reply)
    }

    /// Proposes a command that is rejected only because of the caller's mistake.
    async fn command(&self, op: Op) -> PdResult<u64> {
        let reply = self.propose(op).await?;
        if reply.refused.is_empty() { Ok(reply.value) } else { Err(PdError::Invalid(reply.refused)) }
    }

    /// Gives out `count` consecutive IDs that were never given out before, and returns the first.
    ///
    /// # Errors
    /// [`PdError::ClusterMismatch`]; [`PdError::Invalid`] if `count` is 0 or more than [`ALLOC_IDS_MAX`].
    pub async fn alloc_ids(&self, cluster: u64, count: u32) -> PdResult<u64> {
        self.check_cluster(cluster)?;
        if count == 0 || count > ALLOC_IDS_MAX {
            return Err(PdError::Invalid(format!(
                "{count} IDs were asked for: 1 to {ALLOC_IDS_MAX} can be given out at once"
            )));
        }
        self.confirmed_cluster().await?;
        self.command(Op::AllocIds(AllocIds { count })).await
    }

    /// Takes over which transactions wait on a store. Returns the circles that are to be opened there.
    ///
    /// # Errors
    /// [`PdError::ClusterMismatch`].
    pub async fn report_waits(&self, request: ReportWaitsRequest) -> PdResult<ReportWaitsReply> {
        self.check_cluster(request.cluster_id)?;
        let serving = self.serving()?;
        let mut waits = serving.waits.lock().expect("no holder panics");
        let circles = waits.report(request.store_id, request.number, request.waits, self.now_ms());
        Ok(ReportWaitsReply { circles })
    }

    // ---- calls that every member serves ----

    /// Returns the cluster's ID.
    pub fn cluster_id(&self) -> u64 {
        self.inner.identity.cluster_id
    }

    /// Checks whether a request for the cluster with the ID `asked` is meant for this one.
    ///
    /// # Errors
    /// [`PdError::ClusterMismatch`].
    pub fn check_cluster(&self, asked: u64) -> PdResult<()> {
        let actual = self.cluster_id();
        if asked == actual { Ok(()) } else { Err(PdError::ClusterMismatch { asked, actual }) }
    }

    /// Returns the leader, as far as this node knows.
    pub fn leader(&self) -> Option<Member> {
        let id = self.inner.handle.view(GroupId::PD)?.leader_peer()?.id;
        self.members().into_iter().find(|member| member.member_id == id)
    }

    /// Returns the members and the leader. Waits up to a second for a leader, because clients cache the answer.
    ///
    /// # Errors
    /// [`PdError::Unavailable`] while there is no leader.
    pub async fn led_members(&self) -> PdResult<(Vec<Member>, Member)> {
        let until = self.inner.clock.now().plus(LEADER_WAIT);
        loop {
            if let Some(leader) = self.leader() {
                return Ok((self.members(), leader));
            }
            if self.inner.clock.now() >= until {
                return Err(PdError::Unavailable("the placement driver has no leader at the moment: try again".into()));
            }
            self.inner.clock.sleep(POLL).await;
        }
    }

    /// Returns the overview that `armilla ctl` and the status page show: everything on the leader, the replicated part
    /// elsewhere.
    pub fn overview(&self) -> OverviewReply {
        let overview = match self.serving() {
            Ok(serving) => self.look(&serving, |cluster, state, now_ms| cluster.overview(state, now_ms)),
            Err(_) => {
                let now_ms = self.now_ms();
                let nothing = Cluster::new(self.inner.options.cluster.clone(), now_ms);
                self.read(|state| nothing.overview(state, now_ms))
            }
        };
        OverviewReply {
            cluster_id: self.cluster_id(),
            members: self.members(),
            leader: self.leader(),
            store_alive_ms: self.inner.options.cluster.alive_ms,
            wall_ms: self.inner.clock.wall_ms(),
            ..overview
        }
    }

    // ---- calls that only the leader serves; each may fail with NotLeader or Unavailable ----

    /// Takes `count` timestamps and returns the largest; the others are the `count - 1` numbers below it.
    ///
    /// # Errors
    /// [`PdError::Invalid`] if `count` is 0 or larger than [`TSO_COUNT_MAX`].
    pub async fn tso(&self, count: u32) -> PdResult<Timestamp> {
        if count == 0 || count > TSO_COUNT_MAX {
            let why = format!("requested {count} timestamps; a request may ask for 1 to {TSO_COUNT_MAX}");
            return Err(PdError::Invalid(why));
        }
        let serving = self.serving()?;
        let mut windows = serving.windows.subscribe();
        loop {
            windows.borrow_and_update();
            if !crate::mutant!("tso.old-leader-serves") {
                self.confirm(&serving).await?;
            }
            // There is no await between the confirmation and this point: the lease is checked when the timestamp is
            // assigned.
            let wall_ms = self.inner.clock.wall_ms();
            let (taken, low) = {
                let mut tso = serving.tso.lock().expect("no holder panics");
                (tso.take(count, wall_ms), tso.runs_low(wall_ms))
            };
            if low {
                serving.need.notify_one();
            }
            if let Ok(last) = taken {
                let store = self.inner.handle.view(GroupId::PD).map_or(0, |view| view.store);
                probe::emit(|| Probe::Tso { store, last: last.0, count });
                return Ok(last);
            }
            if windows.changed().await.is_err() || windows.borrow().is_none() {
                return Err(self.not_leader());
            }
        }
    }

    /// Orders a transfer of a region's leadership to a store, with the leader's next heartbeat; transfers the placement
    /// driver's own group at once.
    ///
    /// # Errors
    /// [`PdError::Invalid`] if the region has no voter there, its leader is not known, or the store cannot accept it:
    /// its heartbeat is late, or its peer of the placement driver is silent.
    pub async fn transfer_leader(&self, region_id: u64, to_store: u64) -> PdResult<()> {
        let serving = self.confirmed_cluster().await?;
        if region_id == GroupId::PD.0 {
            let group = self.inner.handle.view(GroupId::PD).ok_or_else(|| self.not_leader())?.region();
            let peer = region::peer_on(&group, to_store)
                .ok_or_else(|| PdError::Invalid(format!("the placement driver has no member on store {to_store}")))?;
            let begun = self.inner.handle.transfer_leader(GroupId::PD, peer.id).await;
            return begun.map_err(|error| self.refusal(error));
        }
        self.look(&serving, |cluster, state, now_ms| cluster.transfer(state, region_id, to_store, now_ms))
            .map_err(PdError::Invalid)
    }

    /// Moves a region's replica, or a member of the placement driver, from one store to another, step by step with
    /// heartbeats.
    ///
    /// # Errors
    /// [`PdError::Invalid`] if that is not possible, with the reason.
    pub async fn move_peer(&self, region_id: u64, from: u64, to: u64) -> PdResult<()> {
        let serving = self.confirmed_cluster().await?;
        let group = self.inner.handle.view(GroupId::PD).ok_or_else(|| self.not_leader())?.region();
        self.look(&serving, |cluster, state, now_ms| {
            if region_id == GroupId::PD.0 {
                cluster.move_own_member(state, &group, from, to, now_ms)
            } else {
                cluster.move_peer(state, region_id, from, to, now_ms)
            }
        })
        .map_err(PdError::Invalid)
    }

    /// Makes a region part of its neighbour, step by step with its leader's heartbeats.
    ///
    /// # Errors
    /// [`PdError::Invalid`] if that is not possible, with the reason.
    pub async fn merge_regions(&self, source: u64, target: u64) -> PdResult<()> {
        let serving = self.confirmed_cluster().await?;
        self.look(&serving, |cluster, state, now_ms| cluster.merge(state, source, target, now_ms))
            .map_err(PdError::Invalid)
    }

    /// Moves all replicas away from a store, which is removed from the cluster when it has none. Returns how many
    /// regions still have a replica there; a member of the placement driver counts as one.
    ///
    /// # Errors
    /// [`PdError::Invalid`] if there is no such store, or if the rest of the cluster has no place for its replicas.
    pub async fn remove_store(&self, store: u64) -> PdResult<u64> {
        let serving = self.confirmed_cluster().await?;
        let record = self.read(|state| state.store(store).cloned());
        let record = record.ok_or_else(|| PdError::Invalid(format!("there is no store {store}")))?;
        let group = self.inner.handle.view(GroupId::PD).ok_or_else(|| self.not_leader())?.region();
        let version = self.read(PdState::cluster_version);
        let replicas = self.look(&serving, |cluster, _, _| cluster.options().replicas);
        if version < types_version::MEMBERS {
            return Err(PdError::Invalid(format!(
                "stores cannot be removed yet: the cluster uses version {version} of its protocol, that needs version {}",
                types_version::MEMBERS
            )));
        }
        let is_member = region::peer_on(&group, store).is_some();
        if is_member && version < types_version::PD_MEMBERS {
            return Err(PdError::Invalid(format!(
                "store {store} has a member of the placement driver, which cannot be moved yet: the cluster uses version \
                 {version} of its protocol, that needs version {}",
                types_version::PD_MEMBERS
            )));
        }
        if state::is_up(&record) {
            let others = self.read(|state| state.stores().filter(|one| state::is_up(one)).count() - 1);
            if others < replicas {
                return Err(PdError::Invalid(format!(
                    "store {store} cannot be removed: regions have {replicas} replicas, and only {others} other stores are \
                     there. Add a store first"
                )));
            }
            self.command(Op::SetStoreState(SetStoreState { store_id: store, state: StoreState::Offline as i32 }))
                .await?;
            tracing::info!(store, "the store is being removed");
        }
        let here = |region: &&Region| region::peer_on(region, store).is_some();
        Ok(self.read(|state| state.regions().filter(here).count() as u64) + u64::from(is_member))
    }

    /// Creates the cluster's first stores and regions, unless they exist. Returns whether this call created them.
    ///
    /// # Errors
    /// [`PdError::Invalid`] if the command is not valid.
    pub async fn bootstrap(&self, bootstrap: Bootstrap) -> PdResult<bool> {
        self.confirmed().await?;
        if self.read(PdState::bootstrapped) {
            return Ok(false);
        }
        let (stores, regions) = (bootstrap.stores.len(), bootstrap.regions.len());
        match self.command(Op::Bootstrap(bootstrap)).await {
            Ok(_) => {
                tracing::info!(stores, regions, "bootstrapped the cluster");
                Ok(true)
            }
            Err(PdError::Invalid(_)) if self.read(PdState::bootstrapped) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Returns this node's address, `host:port`.
    pub fn addr(&self) -> &str {
        &self.inner.identity.addr
    }

    /// Returns this node's member ID, which is its peer's ID in the group; 0 if it has none.
    pub fn member_id(&self) -> u64 {
        self.inner.handle.view(GroupId::PD).map_or(0, |view| view.peer)
    }

    /// Completes once it is certain that this node was leader of the placement driver at some moment after the call.
    ///
    /// # Errors
    /// None beyond those of every call.
    pub async fn confirm_leader(&self) -> PdResult<()> {
        self.confirmed().await.map(|_| ())
    }
}
