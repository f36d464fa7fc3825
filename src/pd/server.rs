//! The placement driver's loop and the calls it answers.
//!
//! One task follows who leads the group. While this node does, and its state is complete, a `Serving` of that term exists;
//! a call first finds it, then makes sure that this node *still* leads that term (lease, or a quorum's word), then answers
//! from memory or proposes a command. The timestamp window is extended by one proposal at a time, ahead of need.

use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use bytes::Bytes;
use prost::Message;

use super::batch::{self, Queried, Ranges};
use super::bootstrap::member_of;
use super::cluster::{Cluster, ClusterOptions, EndedOrder, RegionInfo};
use super::machine::SharedState;
use super::state::{self, PdState};
use super::tso::Tso;
use crate::proto::armilla::pd::pd_command::Op;
use crate::proto::armilla::pd::{
    AllocIds, Bootstrap, LeaderOrder, OverviewReply, PdCommand, PdReply, PutRegion, PutStore, RegisterStoreReply,
    RegisterStoreRequest, StoreHeartbeatReply, StoreHeartbeatRequest,
};
use crate::proto::metapb::{NodeState, RegionEpoch, Store, StoreState};
use crate::proto::pdpb::{Member, StoreStats};
use crate::raft::frame::Command;
use crate::replica::{Handle, PeerView};
use crate::rt::clock::Clock;
use crate::rt::probe::{self, Event as Probe};
use crate::rt::sync::{Notify, watch};
use crate::rt::task;
use crate::types::limits::TSO_COUNT_MAX;
use crate::types::{Error, GroupId, Region, Timestamp, region};

/// How long to wait before a failed proposal of the server's own is tried again.
const RETRY: Duration = Duration::from_millis(50);
/// How long a question for the members waits for a leader.
const LEADER_WAIT: Duration = Duration::from_secs(1);
/// How often to look whether this store has its peer of the group, at the start, and whether somebody leads it.
const POLL: Duration = Duration::from_millis(20);
/// How long a lookup waits for a leader to be heard of. Less than the deadlines of clients' calls (2 s and more), so that they
/// get an answer that says what is wrong.
const LOOKUP_WAIT: Duration = Duration::from_millis(1500);

/// What a call of the placement driver ends with, sorted by what the caller should do.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PdError {
    /// Ask that member instead; if it is absent, ask again a little later. (gRPC: UNAVAILABLE.)
    #[error("not leader{}", .0.as_ref().map(|leader| format!(", {} leads", leader.name)).unwrap_or_default())]
    NotLeader(Option<Member>),
    /// The caller belongs to another cluster. (gRPC: FAILED_PRECONDITION.)
    #[error("mismatch cluster id, need {actual} but got {asked}")]
    ClusterMismatch {
        /// The id in the request.
        asked: u64,
        /// This cluster's.
        actual: u64,
    },
    /// The first stores and regions are not decided yet: ask again. (pdpb: NOT_BOOTSTRAPPED.)
    #[error("the cluster is not bootstrapped yet")]
    NotBootstrapped,
    /// The request itself is wrong. (gRPC: INVALID_ARGUMENT.)
    #[error("{0}")]
    Invalid(String),
    /// Not now: try again. What a write asked for may or may not happen. (gRPC: UNAVAILABLE.)
    #[error("{0}")]
    Unavailable(String),
}

/// A result of the placement driver.
pub type PdResult<T> = Result<T, PdError>;

/// Which cluster this is and who its placement driver's members are.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Never 0.
    pub cluster_id: u64,
    /// In the order of the certificate; `member_id` is the peer's id in the group.
    pub members: Vec<Member>,
    /// Where this node is reached (host:port), whatever is registered: it moved, and nobody can hear of it elsewhere.
    pub addr: String,
}

/// How the server behaves.
#[derive(Clone, Debug)]
pub struct PdOptions {
    /// Proposed by whoever leads first, while the cluster is not bootstrapped. See [`super::bootstrap::Founding::command`].
    pub bootstrap: Option<Bootstrap>,
    /// Whether to spread leaders evenly.
    pub balance_leaders: bool,
    /// How patient the view of the cluster is.
    pub cluster: ClusterOptions,
}

impl Default for PdOptions {
    fn default() -> PdOptions {
        PdOptions { bootstrap: None, balance_leaders: true, cluster: ClusterOptions::default() }
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
    /// Counts extended windows; nothing any more when the leadership has ended.
    windows: watch::Sender<Option<u64>>,
    /// The window runs low.
    need: Notify,
    /// Counts heartbeats, for lookups that wait for one.
    heartbeats: watch::Sender<u64>,
    cluster: Mutex<Cluster>,
}

impl PdServer {
    /// Starts following the group's leadership. Calls are answered as soon as this node leads.
    ///
    /// `state` is [`super::PdMachine::shared`] of the machine that the driver behind `handle` applies to.
    pub fn start(clock: Clock, handle: Handle, state: SharedState, identity: Identity, options: PdOptions) -> PdServer {
        assert!(identity.cluster_id != 0, "a cluster's id is never 0");
        let inner =
            Inner { clock, handle, state, identity, options, serving: RwLock::new(None), task: Mutex::new(None) };
        let server = PdServer { inner: Arc::new(inner) };
        let run = task::spawn(server.clone().run());
        *server.inner.task.lock().expect("no holder panics") = Some(run);
        server
    }

    /// Stops following; calls are refused from now on.
    pub fn stop(&self) {
        if let Some(run) = self.inner.task.lock().expect("no holder panics").take() {
            run.abort();
        }
        self.stop_serving();
    }

    // ---- the loop ----

    async fn run(self) {
        let view = loop {
            if let Some(view) = self.inner.handle.view(GroupId::PD) {
                break view;
            }
            self.inner.clock.sleep(POLL).await;
        };
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
            tracing::info!(term, bound_ms = self.read(PdState::tso_bound_ms), "this node leads the placement driver");
            let lost = async {
                let still = |now: &crate::replica::Leadership| now.term == term && now.leader == view.peer && now.ready;
                let _ = leadership.wait_for(|now| !still(now)).await;
            };
            crate::rt_select! {
                () = lost => {}
                () = self.lead(&serving, &view) => {}
            }
            tracing::info!(term, "this node no longer leads the placement driver");
            if crate::mutant!("tso.old-leader-serves") {
                continue;
            }
            self.stop_serving();
        }
    }

    /// The state is complete: the leader has applied an entry of its own term.
    fn start_serving(&self, term: u64) -> Arc<Serving> {
        let bound_ms = self.read(PdState::tso_bound_ms);
        let mut tso = Tso::new(bound_ms);
        if crate::mutant!("tso.restart-below-bound") {
            tso = Tso::new(self.inner.clock.wall_ms().min(bound_ms));
            tso.extend(bound_ms);
        }
        let serving = Arc::new(Serving {
            term,
            tso: Mutex::new(tso),
            windows: watch::Sender::new(Some(0)),
            need: Notify::new(),
            heartbeats: watch::Sender::new(0),
            cluster: Mutex::new(Cluster::new(self.inner.options.cluster, self.now_ms())),
        });
        *self.inner.serving.write().expect("no holder panics") = Some(serving.clone());
        serving
    }

    fn stop_serving(&self) {
        if let Some(serving) = self.inner.serving.write().expect("no holder panics").take() {
            serving.windows.send_replace(None);
        }
    }

    /// What a leader does of its own accord; ends never.
    async fn lead(&self, serving: &Serving, view: &PeerView) {
        if let Some(bootstrap) = &self.inner.options.bootstrap {
            while let Err(error) = self.bootstrap(bootstrap.clone()).await {
                tracing::warn!(%error, "the cluster's bootstrap has to wait");
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
                tracing::debug!(%error, to_ms = window.to_ms, "the timestamp window was not saved");
                self.inner.clock.sleep(RETRY).await;
                continue;
            }
            // Saved within this term, so every later leader starts above it. Had this node lost the leadership and won it
            // again meanwhile, another leader might have used the window: it is left alone then, and this loop is at its end.
            if self.leads_term(view, serving.term) {
                serving.tso.lock().expect("no holder panics").extend(window.to_ms);
                serving.windows.send_modify(|windows| *windows = windows.map(|count| count + 1));
            } else {
                self.inner.clock.sleep(RETRY).await;
            }
        }
    }

    // ---- what calls are made of ----

    fn read<T>(&self, look: impl FnOnce(&PdState) -> T) -> T {
        look(&self.inner.state.read().expect("no writer panics"))
    }

    /// Milliseconds of the monotonic clock.
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
        serving.ok_or_else(|| self.not_leader())
    }

    /// Completes when this node leads the term of `serving` for sure, at some moment after the call.
    async fn confirm(&self, serving: &Serving) -> PdResult<()> {
        let view = self.inner.handle.view(GroupId::PD).ok_or_else(|| self.not_leader())?;
        if view.lease(self.inner.clock.now()) == Some(serving.term) && self.leads_term(&view, serving.term) {
            let (store, group, peer, term) = (view.store, view.group.0, view.peer, serving.term);
            probe::emit(|| Probe::LeaseRead { store, group, peer, term });
            return Ok(());
        }
        self.inner.handle.read_barrier(GroupId::PD).await.map_err(|error| self.refusal(error))?;
        if self.leads_term(&view, serving.term) { Ok(()) } else { Err(self.not_leader()) }
    }

    /// The leadership that this call may answer from.
    async fn confirmed(&self) -> PdResult<Arc<Serving>> {
        let serving = self.serving()?;
        self.confirm(&serving).await?;
        Ok(serving)
    }

    /// As [`PdServer::confirmed`], and the cluster is bootstrapped.
    async fn confirmed_cluster(&self) -> PdResult<Arc<Serving>> {
        let serving = self.confirmed().await?;
        if self.read(PdState::bootstrapped) { Ok(serving) } else { Err(PdError::NotBootstrapped) }
    }

    fn look<T>(&self, serving: &Serving, look: impl FnOnce(&mut Cluster, &PdState, u64) -> T) -> T {
        let now_ms = self.now_ms();
        // Always in this order: state, then cluster.
        let state = self.inner.state.read().expect("no writer panics");
        let mut cluster = serving.cluster.lock().expect("no holder panics");
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
        PdReply::decode(reply).map_err(|error| PdError::Unavailable(format!("a reply that does not decode: {error}")))
    }

    /// Proposes a command whose refusal is the caller's fault.
    async fn command(&self, op: Op) -> PdResult<u64> {
        let reply = self.propose(op).await?;
        if reply.refused.is_empty() { Ok(reply.value) } else { Err(PdError::Invalid(reply.refused)) }
    }

    // ---- calls that any member answers ----

    /// The cluster's id.
    pub fn cluster_id(&self) -> u64 {
        self.inner.identity.cluster_id
    }

    /// Whether a request of a cluster of that id is meant for this one.
    ///
    /// # Errors
    /// [`PdError::ClusterMismatch`].
    pub fn check_cluster(&self, asked: u64) -> PdResult<()> {
        let actual = self.cluster_id();
        if asked == actual { Ok(()) } else { Err(PdError::ClusterMismatch { asked, actual }) }
    }

    /// The placement driver's members, at the addresses where their stores are now.
    pub fn members(&self) -> Vec<Member> {
        let Some(view) = self.inner.handle.view(GroupId::PD) else {
            return self.inner.identity.members.clone();
        };
        let group = view.region();
        let moved = |member: &Member| {
            let peer = region::peer_by_id(&group, member.member_id)?;
            if peer.store_id == view.store {
                return Some(member_of(member.member_id, &member.name, &self.inner.identity.addr));
            }
            self.read(|state| {
                let store = state.store(peer.store_id)?.store.as_ref().filter(|store| !store.address.is_empty())?;
                let mut moved = member_of(member.member_id, &member.name, &store.address);
                if !store.version.is_empty() {
                    moved.binary_version.clone_from(&store.version);
                    moved.git_hash.clone_from(&store.git_hash);
                    moved.deploy_path.clone_from(&store.deploy_path);
                }
                Some(moved)
            })
        };
        self.inner.identity.members.iter().map(|member| moved(member).unwrap_or_else(|| member.clone())).collect()
    }

    /// The leader, as far as this node knows.
    pub fn leader(&self) -> Option<Member> {
        let id = self.inner.handle.view(GroupId::PD)?.leader_peer()?.id;
        self.members().into_iter().find(|member| member.member_id == id)
    }

    /// The members and the leader; waits for one for a second, since clients go where they are told and keep it.
    ///
    /// # Errors
    /// [`PdError::Unavailable`] while nobody leads.
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

    /// What `armilla ctl` and the status page show: everything on the leader, the replicated part elsewhere.
    pub fn overview(&self) -> OverviewReply {
        let overview = match self.serving() {
            Ok(serving) => self.look(&serving, |cluster, state, now_ms| cluster.overview(state, now_ms)),
            Err(_) => {
                let now_ms = self.now_ms();
                let nothing = Cluster::new(self.inner.options.cluster, now_ms);
                self.read(|state| nothing.overview(state, now_ms))
            }
        };
        OverviewReply {
            cluster_id: self.cluster_id(),
            members: self.members(),
            leader: self.leader(),
            store_alive_ms: self.inner.options.cluster.alive_ms,
            ..overview
        }
    }

    // ---- calls that only the leader answers; all may end with NotLeader or Unavailable ----

    /// Takes `count` timestamps; gives the largest, the others are the `count - 1` numbers below it.
    ///
    /// # Errors
    /// [`PdError::Invalid`] when `count` is 0 or over [`TSO_COUNT_MAX`].
    pub async fn tso(&self, count: u32) -> PdResult<Timestamp> {
        if count == 0 || count > TSO_COUNT_MAX {
            return Err(PdError::Invalid(format!("{count} timestamps asked for: from 1 to {TSO_COUNT_MAX} may be")));
        }
        let serving = self.serving()?;
        let mut windows = serving.windows.subscribe();
        loop {
            windows.borrow_and_update();
            if !crate::mutant!("tso.old-leader-serves") {
                self.confirm(&serving).await?;
            }
            // No await between the confirmation and this: the lease is checked when the timestamp is assigned.
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

    /// The region that holds `key`, with its leader.
    ///
    /// # Errors
    /// [`PdError::NotBootstrapped`]; [`PdError::Unavailable`] while the leader is not known.
    pub async fn get_region(&self, key: &[u8]) -> PdResult<Option<RegionInfo>> {
        self.look_up_one(|cluster, state, now_ms| cluster.by_key(state, key, now_ms)).await
    }

    /// The region before the one that holds `key`, with its leader; none before the first.
    ///
    /// # Errors
    /// As [`PdServer::get_region`].
    pub async fn get_prev_region(&self, key: &[u8]) -> PdResult<Option<RegionInfo>> {
        self.look_up_one(|cluster, state, now_ms| cluster.before(state, key, now_ms)).await
    }

    /// The region of that id, with its leader.
    ///
    /// # Errors
    /// As [`PdServer::get_region`].
    pub async fn get_region_by_id(&self, id: u64) -> PdResult<Option<RegionInfo>> {
        self.look_up_one(|cluster, state, now_ms| cluster.by_id(state, id, now_ms)).await
    }

    /// The regions that meet `[start, end)`, in order. `limit` of 0 or below: all of them. A region has no
    /// leader here only if every living store had the time to report it and none did: one region without a quorum must not hide
    /// the others.
    ///
    /// # Errors
    /// [`PdError::NotBootstrapped`]; [`PdError::Unavailable`] while leaders are not known since this leadership is too young.
    pub async fn scan_regions(&self, start: &[u8], end: &[u8], limit: i32) -> PdResult<Vec<RegionInfo>> {
        let limit = usize::try_from(limit).ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX);
        self.look_up(false, |cluster, state, now_ms| cluster.scan(state, start, end, limit, now_ms)).await
    }

    async fn look_up_one(
        &self,
        look: impl Fn(&mut Cluster, &PdState, u64) -> Option<RegionInfo>,
    ) -> PdResult<Option<RegionInfo>> {
        let found =
            self.look_up(true, |cluster, state, now_ms| look(cluster, state, now_ms).into_iter().collect()).await?;
        Ok(found.into_iter().next())
    }

    /// Looks until the leaders of all regions found are known (see [`Cluster::known`]), for [`LOOKUP_WAIT`] at most. Clients keep
    /// what they are told: a region without its leader would stay so for them.
    async fn look_up(
        &self,
        strictly: bool,
        look: impl Fn(&mut Cluster, &PdState, u64) -> Vec<RegionInfo>,
    ) -> PdResult<Vec<RegionInfo>> {
        let until = self.inner.clock.now().plus(LOOKUP_WAIT);
        loop {
            let serving = self.confirmed_cluster().await?;
            let mut heartbeats = serving.heartbeats.subscribe();
            heartbeats.borrow_and_update();
            let unknown = self.look(&serving, |cluster, state, now_ms| {
                let found = look(cluster, state, now_ms);
                cluster.known(&found, strictly, now_ms).map(|()| found)
            });
            let region = match unknown {
                Ok(found) => return Ok(found),
                Err(region) => region,
            };
            let left = until.since(self.inner.clock.now());
            let waited = self.inner.clock.timeout(left, heartbeats.changed()).await;
            if left.is_zero() || waited.is_err() {
                return Err(PdError::Unavailable(format!(
                    "region {region}'s leader is not known yet: no store has reported that it leads it; try again"
                )));
            }
        }
    }

    /// The store of that id, also one that is gone, and what it last told of itself.
    ///
    /// # Errors
    /// [`PdError::NotBootstrapped`].
    pub async fn get_store(&self, id: u64) -> PdResult<Option<(Store, StoreStats)>> {
        let serving = self.confirmed_cluster().await?;
        let found = self.stores(&serving).into_iter().find(|store| store.id == id);
        let stats = |cluster: &mut Cluster, state: &PdState, _| cluster.stats(state, id);
        Ok(found.map(|store| (store, self.look(&serving, stats))))
    }

    /// The stores that have an address. One whose address went to another store is not listed, since clients dial what they
    /// are given; [`PdServer::get_store`] and [`PdServer::overview`] show it.
    ///
    /// # Errors
    /// [`PdError::NotBootstrapped`].
    pub async fn get_all_stores(&self, exclude_tombstone: bool) -> PdResult<Vec<Store>> {
        let serving = self.confirmed_cluster().await?;
        let mut stores = self.stores(&serving);
        stores.retain(|store| !store.address.is_empty());
        stores.retain(|store| !exclude_tombstone || store.state() != StoreState::Tombstone);
        Ok(stores)
    }

    fn stores(&self, serving: &Serving) -> Vec<Store> {
        let wall_ms = self.inner.clock.wall_ms();
        self.look(serving, |cluster, state, now_ms| {
            let stores = state.stores().filter_map(|record| record.store.clone());
            let heard = |mut store: Store| {
                if let Some(age_ms) = cluster.heartbeat_age_ms(store.id, now_ms) {
                    store.last_heartbeat = wall_ms.saturating_sub(age_ms).saturating_mul(1_000_000) as i64;
                }
                store.set_node_state(match store.state() {
                    StoreState::Up => NodeState::Serving,
                    StoreState::Offline => NodeState::Removing,
                    StoreState::Tombstone => NodeState::Removed,
                });
                store
            };
            stores.map(heard).collect()
        })
    }

    /// Gives a store its id, by its uuid, and the first regions that it must create.
    ///
    /// # Errors
    /// [`PdError::ClusterMismatch`]; [`PdError::Invalid`] without uuid or address; [`PdError::Unavailable`] while a store that
    /// is alive has the address: ask again, it counts as gone when its heartbeats stay away.
    pub async fn register_store(&self, request: RegisterStoreRequest) -> PdResult<RegisterStoreReply> {
        self.check_cluster(request.cluster_id)?;
        let serving = self.confirmed().await?;
        if !self.read(PdState::bootstrapped) {
            return Ok(RegisterStoreReply::default());
        }
        let RegisterStoreRequest { uuid, name, addr, info, .. } = request;
        let known = self.read(|state| state.store_by_uuid(&uuid).cloned());
        let unchanged = known
            .filter(|record| record.name == name && state::address(record) == addr && state::is_up(record))
            .filter(|record| state::says(record, info.as_ref()))
            .map(|record| state::store_id(&record));
        let id = match unchanged {
            Some(id) => id,
            None => {
                self.look(&serving, |cluster, state, now_ms| {
                    let holder = state.store_by_addr(&addr).filter(|record| record.uuid != uuid);
                    let alive = holder.filter(|record| cluster.alive(state::store_id(record), now_ms));
                    alive.map_or(Ok(()), |holder| {
                        let (id, name) = (state::store_id(holder), &holder.name);
                        Err(PdError::Unavailable(format!("store {id} ({name}) is alive at {addr}")))
                    })
                })?;
                let id =
                    self.command(Op::PutStore(PutStore { uuid, name: name.clone(), addr: addr.clone(), info })).await?;
                tracing::info!(store = id, name, addr, "store registered");
                id
            }
        };
        // Only as they were born: once a region has changed, a peer that it lacks comes by snapshot.
        let born = Some(RegionEpoch { conf_ver: 1, version: 1 });
        let first_regions = self.read(|state| {
            let here = |region: &&Region| region.region_epoch == born && region::peer_on(region, id).is_some();
            state.regions().filter(here).cloned().collect()
        });
        Ok(RegisterStoreReply { store_id: id, first_regions, bootstrapped: true })
    }

    /// Takes a store's heartbeat; the reply has the stores with an address, and orders.
    ///
    /// # Errors
    /// [`PdError::ClusterMismatch`]; [`PdError::NotBootstrapped`]; [`PdError::Invalid`] when no such store is registered.
    pub async fn store_heartbeat(&self, request: StoreHeartbeatRequest) -> PdResult<StoreHeartbeatReply> {
        self.check_cluster(request.cluster_id)?;
        let serving = self.confirmed_cluster().await?;
        let id = request.store_id;
        if self.read(|state| state.store(id).is_none()) {
            return Err(PdError::Invalid(format!("store {id} is not registered")));
        }
        let newer = self.look(&serving, |cluster, state, now_ms| cluster.heartbeat(request, state, now_ms));
        serving.heartbeats.send_modify(|count| *count += 1);
        if !newer.is_empty() {
            for region in newer {
                let reply = self.propose(Op::PutRegion(PutRegion { region: Some(region) })).await?;
                if !reply.refused.is_empty() {
                    tracing::debug!(why = reply.refused, "a region's report came too late");
                }
            }
            self.look(&serving, |cluster, state, _| cluster.retain(state));
        }
        let balance = self.inner.options.balance_leaders;
        let (reply, ended) = self.look(&serving, |cluster, state, now_ms| {
            let stores = state.stores().filter_map(|record| record.store.clone());
            let reply = StoreHeartbeatReply {
                stores: stores.filter(|store| !store.address.is_empty()).collect(),
                transfer_leaders: cluster.orders_for(state, id, balance, now_ms),
                lost_replicas: state.lost_replicas(id),
            };
            (reply, cluster.take_ended())
        });
        self.tell_of_orders(&reply.transfer_leaders, &ended);
        Ok(reply)
    }

    fn tell_of_orders(&self, given: &[LeaderOrder], ended: &[EndedOrder]) {
        for EndedOrder { region_id, to_store, carried_out, why } in ended {
            if *carried_out {
                tracing::info!(region_id, to_store, "a leader moved by order");
            } else {
                tracing::warn!(region_id, to_store, why, "an order to move a leader ended without effect");
            }
        }
        let store = self.inner.handle.view(GroupId::PD).map_or(0, |view| view.store);
        for LeaderOrder { region_id, to_store } in given.iter().copied() {
            probe::emit(|| Probe::Order { store, region: region_id, to_store });
        }
    }

    /// Takes `count` ids for regions, peers or stores; gives the first.
    ///
    /// # Errors
    /// [`PdError::Invalid`] when `count` is 0.
    pub async fn alloc_ids(&self, count: u32) -> PdResult<u64> {
        self.command(Op::AllocIds(AllocIds { count })).await
    }

    /// The safe point of garbage collection: a timestamp.
    ///
    /// # Errors
    /// None of its own.
    pub async fn gc_safe_point(&self) -> PdResult<u64> {
        self.confirmed().await?;
        Ok(self.read(PdState::gc_safe_point))
    }

    /// Raises the safe point; gives what it is now, which is `to` or higher.
    ///
    /// # Errors
    /// None of its own.
    pub async fn update_gc_safe_point(&self, to: u64) -> PdResult<u64> {
        self.command(Op::GcSafePoint(to)).await
    }

    /// Orders a region's leadership to a store, with the leader's next heartbeat; the placement driver's own group at once.
    ///
    /// # Errors
    /// [`PdError::Invalid`] when the region has no voter there, its leader is not known, or the store cannot take it: its
    /// heartbeat is late, or its peer of the placement driver is silent.
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

    /// Decides the cluster's first stores and regions, unless that was done before; says whether it was done now.
    ///
    /// # Errors
    /// [`PdError::Invalid`] when they cannot be.
    pub async fn bootstrap(&self, bootstrap: Bootstrap) -> PdResult<bool> {
        self.confirmed().await?;
        if self.read(PdState::bootstrapped) {
            return Ok(false);
        }
        let (stores, regions) = (bootstrap.stores.len(), bootstrap.regions.len());
        match self.command(Op::Bootstrap(bootstrap)).await {
            Ok(_) => {
                tracing::info!(stores, regions, "the cluster is bootstrapped");
                Ok(true)
            }
            Err(PdError::Invalid(_)) if self.read(PdState::bootstrapped) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Where this node is reached, `host:port`.
    pub fn addr(&self) -> &str {
        &self.inner.identity.addr
    }

    /// This node's member, as an id of the group; 0 while it has none.
    pub fn member_id(&self) -> u64 {
        self.inner.handle.view(GroupId::PD).map_or(0, |view| view.peer)
    }

    /// Completes when this node leads the placement driver for sure, at some moment after the call.
    ///
    /// # Errors
    /// None of its own.
    pub async fn confirm_leader(&self) -> PdResult<()> {
        self.confirmed().await.map(|_| ())
    }

    /// The regions that hold `keys`, those before the regions that hold `prev_keys`, and those of `ids`, with their leaders. All
    /// of them wait together, as [`PdServer::get_region`] does; a region whose leader is not known then is left out, which makes
    /// clients ask for it again: one region without a leader must not cost them the others.
    ///
    /// # Errors
    /// [`PdError::NotBootstrapped`].
    pub async fn query_regions(&self, keys: &[Bytes], prev_keys: &[Bytes], ids: &[u64]) -> PdResult<Queried> {
        let until = self.inner.clock.now().plus(LOOKUP_WAIT);
        loop {
            let serving = self.confirmed_cluster().await?;
            let mut heartbeats = serving.heartbeats.subscribe();
            heartbeats.borrow_and_update();
            let left = until.since(self.inner.clock.now());
            let (queried, known) = self.query_now(&serving, keys, prev_keys, ids).await;
            if known || left.is_zero() || self.inner.clock.timeout(left, heartbeats.changed()).await.is_err() {
                return Ok(queried);
            }
        }
    }

    /// One look at many regions, and whether the leaders of all of them are known.
    async fn query_now(&self, serving: &Serving, keys: &[Bytes], prev_keys: &[Bytes], ids: &[u64]) -> (Queried, bool) {
        let (mut queried, mut known) = (Queried::default(), true);
        let mut keep = |queried: &mut Queried, look: &dyn Fn(&mut Cluster, &PdState, u64) -> Option<RegionInfo>| {
            let found = self.look(serving, |cluster, state, now_ms| {
                let found = look(cluster, state, now_ms)?;
                let led = cluster.known(std::slice::from_ref(&found), true, now_ms).is_ok();
                Some((found, led))
            });
            let found = found.filter(|(_, led)| {
                known &= *led;
                *led
            });
            queried.keep(found.map(|(info, _)| info))
        };
        for (at, key) in keys.iter().enumerate() {
            breathe(at).await;
            let id = keep(&mut queried, &|cluster, state, now_ms| cluster.by_key(state, key, now_ms));
            queried.of_keys.push(id);
        }
        for (at, key) in prev_keys.iter().enumerate() {
            breathe(at).await;
            let id = keep(&mut queried, &|cluster, state, now_ms| cluster.before(state, key, now_ms));
            queried.of_prev_keys.push(id);
        }
        for (at, id) in ids.iter().enumerate() {
            breathe(at).await;
            if *id != GroupId::PD.0 {
                keep(&mut queried, &|cluster, state, now_ms| cluster.by_id(state, *id, now_ms));
            }
        }
        (queried, known)
    }

    /// The regions that meet the ranges `[start, end)`, in order, each once, at most `limit` (0 or below: no limit). With `whole`,
    /// the first part of a range that no region covers is an error: the outer result is the call's, the inner one names that part.
    ///
    /// # Errors
    /// [`PdError::NotBootstrapped`]; as [`PdServer::scan_regions`].
    pub async fn batch_scan_regions(
        &self,
        ranges: &[(Bytes, Bytes)],
        limit: i32,
        whole: bool,
    ) -> PdResult<Result<Vec<RegionInfo>, (Bytes, Bytes)>> {
        self.confirmed_cluster().await?;
        let mut all = Ranges::new(limit);
        for (at, (start, end)) in ranges.iter().enumerate() {
            breathe(at).await;
            let ask = all.next_limit();
            if ask == 0 {
                break;
            }
            let found = self.scan_regions(start, end, ask).await?;
            let cut = found.len() >= ask as usize;
            if let Some(hole) = batch::hole(start, end, &found, cut).filter(|_| whole) {
                return Ok(Err(hole));
            }
            all.take(found);
        }
        Ok(Ok(all.into_found()))
    }
}

/// Lets other tasks run, now and then, in a long row of lookups that need not wait.
async fn breathe(at: usize) {
    if at % 256 == 255 {
        task::yield_now().await;
    }
}
