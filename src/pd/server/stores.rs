//! Stores: registration, heartbeats, and the orders and notices that they receive.

use super::{PdError, PdResult, PdServer, Serving};
use crate::pd::cluster::{Cluster, EndedOrder};
use crate::pd::state::{self, PdState};
use crate::proto::armilla::pd::pd_command::Op;
use crate::proto::armilla::pd::{
    AllocIds, LeaderOrder, PutRegion, PutStore, RegisterStoreReply, RegisterStoreRequest, SetStoreLabels,
    SetStoreState, StoreHeartbeatReply, StoreHeartbeatRequest, StoreStarted,
};
use crate::proto::armilla::raft::Incarnation;
use crate::proto::metapb::{NodeState, Store, StoreLabel, StoreState};
use crate::proto::pdpb::StoreStats;
use crate::rt::probe::{self, Event as Probe};
use crate::types::run::{self, History};
use crate::types::{GroupId, Region, region, version};

impl PdServer {
    /// Returns the store with this ID, even if it is gone, and its last reported statistics.
    ///
    /// # Errors
    /// [`PdError::NotBootstrapped`].
    pub async fn get_store(&self, id: u64) -> PdResult<Option<(Store, StoreStats)>> {
        let serving = self.confirmed_cluster().await?;
        let found = self.stores(&serving).into_iter().find(|store| store.id == id);
        let stats = |cluster: &mut Cluster, state: &PdState, _| cluster.stats(state, id);
        Ok(found.map(|store| (store, self.look(&serving, stats))))
    }

    /// Returns the stores that have an address. A store whose address was taken over by another is not included,
    /// because clients dial every store returned; [`PdServer::get_store`] and [`PdServer::overview`] show it.
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

    pub(super) fn stores(&self, serving: &Serving) -> Vec<Store> {
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

    /// Assigns a store its ID, by its UUID, and returns the first regions that it must create.
    ///
    /// # Errors
    /// [`PdError::ClusterMismatch`]; [`PdError::Invalid`] if the UUID or the address is missing;
    /// [`PdError::Unavailable`] while a living store has the address: retry, since that store counts as gone when its
    /// heartbeats stop.
    pub async fn register_store(&self, request: RegisterStoreRequest) -> PdResult<RegisterStoreReply> {
        self.check_cluster(request.cluster_id)?;
        let serving = self.confirmed().await?;
        if !self.read(PdState::bootstrapped) {
            return Ok(RegisterStoreReply::default());
        }
        let RegisterStoreRequest { uuid, name, addr, info, protocol, incarnation, earlier, .. } = request;
        let cluster_version = self.read(PdState::cluster_version);
        if protocol < cluster_version {
            return Err(PdError::Invalid(too_old(cluster_version, protocol)));
        }
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
        // The original descriptors, even of regions that have changed since: the new replica replays the changes from
        // the log.
        let first_regions = self.read(|state| {
            let here = |region: &&Region| region::peer_on(region, id).is_some();
            state.first_regions().filter(here).cloned().collect()
        });
        let must_stop = match incarnation {
            Some(run) => {
                self.tell_of_run("run-asked", id, run);
                let must_stop = self.take_run(&serving, id, History { run, earlier }).await?;
                if must_stop.is_empty() {
                    self.tell_of_run("run-accepted", id, run);
                } else {
                    crate::reach!("pd.older-run-refused");
                }
                must_stop
            }
            None => String::new(),
        };
        Ok(RegisterStoreReply { store_id: id, first_regions, bootstrapped: true, must_stop })
    }

    /// Processes a store's heartbeat. The reply contains the stores with an address, and orders.
    ///
    /// # Errors
    /// [`PdError::ClusterMismatch`]; [`PdError::NotBootstrapped`]; [`PdError::Invalid`] if no such store is registered.
    pub async fn store_heartbeat(&self, request: StoreHeartbeatRequest) -> PdResult<StoreHeartbeatReply> {
        self.check_cluster(request.cluster_id)?;
        let serving = self.confirmed_cluster().await?;
        let id = request.store_id;
        if self.read(|state| state.store(id).is_none()) {
            return Err(PdError::Invalid(format!("store {id} is not registered")));
        }
        if self.read(|state| state.store(id).is_some_and(state::is_tombstone)) {
            let must_stop = format!(
                "store {id} was removed from the cluster: delete its data directory, or start the node with an empty one as a new \
                 store"
            );
            return Ok(StoreHeartbeatReply { must_stop, ..StoreHeartbeatReply::default() });
        }
        let copied = request.incarnation.and_then(|run| self.copied(&serving, id, run));
        if let Some(must_stop) = copied.filter(|_| !crate::mutant!("pd.copies-not-checked")) {
            return Ok(StoreHeartbeatReply { must_stop, ..StoreHeartbeatReply::default() });
        }
        self.take_labels(id, &request.labels).await?;
        let newer = self.look(&serving, |cluster, state, now_ms| cluster.heartbeat(request, state, now_ms));
        self.raise_version(&serving).await?;
        serving.heartbeats.send_modify(|count| *count += 1);
        if !newer.is_empty() {
            for region in newer {
                let reply = self.propose(Op::PutRegion(PutRegion { region: Some(region) })).await?;
                if !reply.refused.is_empty() {
                    tracing::debug!(why = reply.refused, "ignored an outdated region report");
                }
            }
            self.look(&serving, |cluster, state, _| cluster.retain(state));
        }
        self.bury_empty_stores().await?;
        self.heal_members(&serving).await?;
        let (mut change_peers, nameless) = self.look(&serving, |cluster, state, now_ms| {
            cluster.balance_replicas(state, now_ms);
            cluster.balance_hot(state, now_ms);
            cluster.merge_small(state, now_ms);
            cluster.shuffle(state, now_ms);
            cluster.peers_orders(state, id, now_ms)
        });
        if !nameless.is_empty() {
            let first = self.command(Op::AllocIds(AllocIds { count: nameless.len() as u32 })).await?;
            change_peers = self.look(&serving, |cluster, state, now_ms| {
                for ((region, on), peer) in nameless.iter().zip(first..) {
                    cluster.name_learner(state, *region, *on, peer);
                }
                cluster.peers_orders(state, id, now_ms).0
            });
        }
        let view = self.inner.handle.view(GroupId::PD).ok_or_else(|| self.not_leader())?;
        let (group, pd_term) = (view.region(), view.leadership().term);
        let (group, pd_members) = (Region::clone(&group), self.members());
        let (reply, ended) = self.look(&serving, |cluster, state, now_ms| {
            let stores = state.stores().filter_map(|record| record.store.clone());
            let reply = StoreHeartbeatReply {
                stores: stores.filter(|store| !store.address.is_empty()).collect(),
                transfer_leaders: cluster.orders_for(state, id, true, now_ms),
                change_peers,
                merges: cluster.merge_orders(state, id, now_ms),
                lost_replicas: state.lost_replicas(id),
                cluster_version: state.cluster_version(),
                must_stop: String::new(),
                wall_ms: self.inner.clock.wall_ms(),
                pd_group: Some(group),
                pd_members,
                pd_term,
                txn_safe_point: state.safe_points().txn,
                collect_safe_point: state.safe_points().collect,
            };
            (reply, cluster.take_ended())
        });
        let own = self.inner.handle.view(GroupId::PD).map_or(0, |view| view.store);
        probe::emit(|| Probe::Note {
            store: own,
            what: "time-told",
            a: id,
            b: reply.wall_ms,
            data: Default::default(),
        });
        self.tell_of_orders(&reply.transfer_leaders, &ended);
        self.watch_operators(&serving);
        Ok(reply)
    }

    /// Sets the labels that a store has by its configuration, if it has others now.
    async fn take_labels(&self, store_id: u64, labels: &[StoreLabel]) -> PdResult<()> {
        let differ = self.read(|state| {
            let store = state.store(store_id).and_then(|record| record.store.as_ref());
            let has = |label: &StoreLabel| {
                store.is_some_and(|store| {
                    let of_key = |known: &&StoreLabel| known.key.eq_ignore_ascii_case(&label.key);
                    store.labels.iter().find(of_key).is_some_and(|known| known.value == label.value)
                })
            };
            state.cluster_version() >= version::LABELS && !labels.iter().all(has)
        });
        if differ {
            let set = SetStoreLabels { store_id, labels: labels.to_vec(), replace: false };
            let reply = self.propose(Op::SetStoreLabels(set)).await?;
            if !reply.refused.is_empty() {
                tracing::warn!(store_id, why = reply.refused, "the store's labels were refused");
            }
        }
        Ok(())
    }

    /// Makes tombstones of the stores that are being removed, or were replaced, and have no replica any more.
    async fn bury_empty_stores(&self) -> PdResult<()> {
        let empty: Vec<u64> = self.read(|state| {
            if state.cluster_version() < version::MEMBERS {
                return Vec::new();
            }
            let leaves = state.stores().filter(|record| state::is_offline(record)).map(state::store_id);
            leaves.filter(|id| !state.regions().any(|region| region::peer_on(region, *id).is_some())).collect()
        });
        let members = self.inner.handle.view(GroupId::PD).map(|view| view.region());
        for store_id in empty {
            if members.as_ref().is_none_or(|group| region::peer_on(group, store_id).is_some()) {
                continue;
            }
            let state = StoreState::Tombstone as i32;
            let reply = self.propose(Op::SetStoreState(SetStoreState { store_id, state })).await?;
            if reply.refused.is_empty() {
                tracing::info!(store = store_id, "the store has no replica any more and is removed");
            }
        }
        Ok(())
    }

    /// Returns why that incarnation cannot be the store's living one, or `None` if it can.
    fn copied(&self, serving: &Serving, store: u64, run: Incarnation) -> Option<String> {
        self.look(serving, |cluster, state, now_ms| {
            let known = [state.run(store), cluster.living_run(store, now_ms)];
            known.into_iter().flatten().find_map(|known| run::older(store, &known, &run))
        })
    }

    /// Records that a store's process has started, or returns why the store must stop.
    async fn take_run(&self, serving: &Serving, store: u64, history: History) -> PdResult<String> {
        if crate::mutant!("pd.copies-not-checked") {
            return Ok(String::new());
        }
        let History { run, earlier } = history;
        if let Some(why) = self.copied(serving, store, run) {
            return Ok(why);
        }
        let op = Op::StoreStarted(StoreStarted { store_id: store, incarnation: Some(run), earlier });
        let known = self.read(|state| state.run(store) == Some(run) || state.cluster_version() < state::since(&op));
        if known && !crate::mutant!("pd.version-not-awaited") {
            return Ok(String::new());
        }
        Ok(self.propose(op).await?.refused)
    }

    /// Reports to the simulator an incarnation that is recorded or about to be. Protocol versions that do not support
    /// this record none.
    fn tell_of_run(&self, what: &'static str, store: u64, run: Incarnation) {
        let op = Op::StoreStarted(StoreStarted::default());
        if probe::LISTENING && self.read(|state| state.cluster_version() >= state::since(&op)) {
            let own = self.inner.handle.view(GroupId::PD).map_or(0, |view| view.store);
            let data = || run.nonce.to_be_bytes().to_vec().into();
            probe::emit(|| Probe::Note { store: own, what, a: store, b: run.boot, data: data() });
        }
    }

    /// Raises the cluster's protocol version to the newest one that all stores in service know.
    async fn raise_version(&self, serving: &Serving) -> PdResult<()> {
        let known = self.look(serving, |cluster, state, _| {
            cluster.known_to_all(state).filter(|known| *known > state.cluster_version())
        });
        if let Some(version) = known {
            self.propose(Op::ClusterVersion(version)).await?;
            crate::reach!("pd.version-raised");
            tracing::info!(
                version,
                "every node supports a newer version of the cluster's protocol, using it from now on"
            );
        }
        Ok(())
    }

    fn tell_of_orders(&self, given: &[LeaderOrder], ended: &[EndedOrder]) {
        for EndedOrder { region_id, to_store, carried_out, why } in ended {
            if *carried_out {
                crate::reach!("pd.order-carried-out");
                tracing::info!(region_id, to_store, "leadership transferred by order");
            } else {
                crate::reach!("pd.order-without-effect");
                tracing::warn!(region_id, to_store, why, "an order to transfer leadership had no effect");
            }
        }
        let store = self.inner.handle.view(GroupId::PD).map_or(0, |view| view.store);
        for LeaderOrder { region_id, to_store } in given.iter().copied() {
            crate::reach!("pd.leader-ordered");
            probe::emit(|| Probe::Order { store, region: region_id, to_store });
        }
    }
}

/// Returns why a node cannot join the cluster, as a sentence.
fn too_old(cluster: u32, node: u32) -> String {
    format!(
        "the cluster uses version {cluster} of its protocol, this node knows versions up to {node}: start it with a newer version of \
         Armilla ({} here)",
        version::BUILD
    )
}
