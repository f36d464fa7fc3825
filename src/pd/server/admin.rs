//! What people's tools ask: a copy of all that the leader knows, operators, the leader's own place.

use std::collections::BTreeMap;

use super::{PdError, PdResult, PdServer, Serving};
use crate::pd::cluster::{HITS, Scattered};
use crate::pd::operators::{Action, Operator, Outcome};
use crate::pd::state::holds;
use crate::pd::view::{MemberView, RegionView, StoreView, View};
use crate::proto::armilla::pd::pd_command::Op;
use crate::proto::armilla::pd::{OverviewReply, RegionLoad, SetStoreLabels};
use crate::proto::metapb::StoreLabel;
use crate::types::{GroupId, region, version};

impl PdServer {
    /// Returns a copy of what the leader knows. Before the cluster is bootstrapped, there are neither stores nor
    /// regions.
    ///
    /// # Errors
    /// None beyond those of every call.
    pub async fn admin_view(&self) -> PdResult<View> {
        let serving = self.confirmed().await?;
        self.watch_operators(&serving);
        let group = self.inner.handle.view(GroupId::PD).ok_or_else(|| self.not_leader())?.region();
        let leader = self.leader().ok_or_else(|| self.not_leader())?;
        let (members, stores) = (self.members(), self.stores(&serving));
        let wall_ms = self.inner.clock.wall_ms();
        let operators = serving.operators.lock().expect("no holder panics").list();
        Ok(self.look(&serving, |cluster, state, now_ms| {
            let overview = cluster.overview(state, now_ms);
            let stores = stores.into_iter().zip(overview.stores).map(|(store, heard)| {
                let age_ms = cluster.heartbeat_age_ms(store.id, now_ms);
                StoreView {
                    heartbeat_age_ms: age_ms,
                    silent_ms: age_ms.unwrap_or_else(|| now_ms.saturating_sub(serving.since_ms)),
                    capacity_bytes: heard.capacity_bytes,
                    available_bytes: heard.available_bytes,
                    used_bytes: heard.used_bytes,
                    store,
                }
            });
            let regions = state.regions().zip(overview.regions).map(|(region, heard)| RegionView {
                info: cluster.info(region, now_ms),
                size: (heard.term != 0).then_some((heard.approximate_bytes, heard.approximate_keys)),
                written_bytes: heard.written_bytes,
                writes: heard.writes,
                reads: heard.reads,
                written_keys: heard.written_keys,
                read_keys: heard.read_keys,
                read_bytes: heard.read_bytes,
                newest: state.region(region.id).is_some_and(|newest| newest.start_key == region.start_key),
            });
            let members = members.into_iter().map(|member| {
                let store = region::peer_by_id(&group, member.member_id).map_or(0, |peer| peer.store_id);
                let healthy = member.member_id == leader.member_id || cluster.alive(store, now_ms);
                MemberView { member, store, healthy }
            });
            View {
                cluster_id: self.cluster_id(),
                wall_ms,
                members: members.collect(),
                leader: leader.clone(),
                bootstrapped: state.bootstrapped(),
                stores: stores.collect(),
                regions: regions.collect(),
                loads: overview.loads,
                operators,
                gc_safe_point: state.gc_safe_point(),
                barriers: state.safe_points().barriers.iter().filter(|one| holds(one, wall_ms)).cloned().collect(),
                keyspaces: state.keyspaces().cloned().collect(),
                options: cluster.options().clone(),
                settings: cluster.settings(),
                paused_checkers: cluster.paused_checkers(now_ms),
            }
        }))
    }

    /// Returns statistics of the leader; zeros on other members.
    pub fn figures(&self) -> BTreeMap<&'static str, u64> {
        let overview = match self.serving() {
            Ok(serving) => self.look(&serving, |cluster, state, now_ms| {
                let mut overview = OverviewReply::default();
                cluster.show_loads(state, now_ms, &mut overview);
                overview
            }),
            Err(_) => OverviewReply::default(),
        };
        let hot = |hits: fn(&RegionLoad) -> u32| overview.loads.iter().filter(|load| hits(load) >= HITS).count() as u64;
        BTreeMap::from([
            ("hot_read_regions", hot(|load| load.read_hits)),
            ("hot_write_regions", hot(|load| load.write_hits)),
            ("hot_leaders_moved", overview.hot_leaders_moved),
            ("hot_replicas_moved", overview.hot_replicas_moved),
        ])
    }

    /// Notes an operator that a person asked for.
    ///
    /// # Errors
    /// None beyond those of every call.
    pub async fn begin_operator(&self, region_id: u64, action: Action) -> PdResult<()> {
        let serving = self.confirmed_cluster().await?;
        let epoch = self.read(|state| state.region(region_id).map(region::epoch).unwrap_or_default());
        let operator = Operator {
            region: region_id,
            action,
            by_admin: true,
            epoch: (epoch.version, epoch.conf_ver),
            begun_ms: self.inner.clock.wall_ms(),
            ended: None,
        };
        serving.operators.lock().expect("no holder panics").begin(operator);
        Ok(())
    }

    /// Begins to spread regions evenly over the stores, together with those of earlier requests of the same group.
    /// Returns the IDs of those that cannot be moved now.
    ///
    /// # Errors
    /// None beyond those of every call.
    pub async fn scatter(&self, ids: &[u64], group: &str) -> PdResult<Vec<u64>> {
        let serving = self.confirmed_cluster().await?;
        let (scattered, failed) =
            self.look(&serving, |cluster, state, now_ms| cluster.scatter(state, ids, group, now_ms));
        for Scattered { region, leader, moved } in scattered {
            self.begin_operator(region, Action::Scatter { leader, moved }).await?;
        }
        Ok(failed)
    }

    /// Returns the running operator of a region, or the one that ended last.
    ///
    /// # Errors
    /// None beyond those of every call.
    pub async fn operator_of(&self, region_id: u64) -> PdResult<Option<Operator>> {
        let serving = self.confirmed_cluster().await?;
        self.watch_operators(&serving);
        let operators = serving.operators.lock().expect("no holder panics").list();
        // The running one is the last.
        Ok(operators.into_iter().rfind(|operator| operator.region == region_id))
    }

    /// Takes back the running operators of a region, or of all regions. Returns how many there were.
    ///
    /// # Errors
    /// None beyond those of every call.
    pub async fn cancel_operators(&self, region_id: Option<u64>) -> PdResult<usize> {
        let serving = self.confirmed_cluster().await?;
        self.watch_operators(&serving);
        let wall_ms = self.inner.clock.wall_ms();
        let mut operators = serving.operators.lock().expect("no holder panics");
        let running = operators.list().into_iter().filter(|operator| operator.ended.is_none());
        let running: Vec<u64> =
            running.map(|operator| operator.region).filter(|id| region_id.is_none_or(|wanted| wanted == *id)).collect();
        for id in &running {
            self.look(&serving, |cluster, _, _| cluster.cancel(*id));
            operators.end(*id, wall_ms, Outcome::Canceled);
        }
        Ok(running.len())
    }

    /// Sets labels of a store, removes those whose value is empty and, with `replace`, all others.
    ///
    /// # Errors
    /// [`PdError::Invalid`] if the store or a label is not valid, or if a node does not know labels yet; those of every
    /// call.
    pub async fn set_store_labels(&self, store_id: u64, labels: Vec<StoreLabel>, replace: bool) -> PdResult<()> {
        self.confirmed_cluster().await?;
        let known = self.read(|state| state.cluster_version());
        if known < version::LABELS {
            return Err(PdError::Invalid(format!(
                "labels cannot be set yet: the cluster uses version {known} of its protocol, they need version {}",
                version::LABELS
            )));
        }
        self.command(Op::SetStoreLabels(SetStoreLabels { store_id, labels, replace })).await.map(|_| ())
    }

    /// Begins to transfer the leadership of the placement driver to the member called `name`, or to any other member.
    ///
    /// # Errors
    /// [`PdError::Invalid`] if no such member can take over at once; those of every call.
    pub async fn transfer_member(&self, name: Option<&str>) -> PdResult<()> {
        self.confirmed().await?;
        let (own, members) = (self.member_id(), self.members());
        let mut last = PdError::Invalid("there is no other member of that name".into());
        for member in members.iter().filter(|member| member.member_id != own) {
            if name.is_some_and(|name| name != member.name) {
                continue;
            }
            match self.inner.handle.transfer_leader(GroupId::PD, member.member_id).await {
                Ok(()) => return Ok(()),
                Err(error) => last = self.refusal(error),
            }
        }
        Err(last)
    }

    /// Follows the operators that are open, and ends those that are over.
    pub(super) fn watch_operators(&self, serving: &Serving) {
        let wall_ms = self.inner.clock.wall_ms();
        let mut operators = serving.operators.lock().expect("no holder panics");
        self.look(serving, |cluster, state, now_ms| {
            let open = cluster.open_operators(state, now_ms, wall_ms);
            operators.observe(&open, wall_ms, |operator| cluster.has_reached(state, operator));
        });
    }
}
