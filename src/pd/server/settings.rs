//! Changes that people ask for while the cluster runs: settings, schedulers, lost stores, replicas of regions.
//!
//! A change comes **in**, a command of the replicated state or a request to the view goes **out**. **Never**: a command
//! that some node of the cluster does not know.

use super::{PdError, PdResult, PdServer};
use crate::pd::cluster::{Checker, Wish};
use crate::pd::operators::{Action, placed};
use crate::pd::state::{self, PdState};
use crate::proto::armilla::pd::pd_command::Op;
use crate::proto::armilla::pd::{ChangeSettings, ReplaceStore, SetStoreState, SettingsReply};
use crate::proto::metapb::StoreState;
use crate::types::{GroupId, Region, region, version};

impl PdServer {
    /// Refuses what needs the version of the protocol that has settings, unless every node knows it.
    fn must_know_settings(&self, what: &str) -> PdResult<()> {
        let known = self.read(PdState::cluster_version);
        if known >= version::SETTINGS {
            return Ok(());
        }
        Err(PdError::Invalid(format!(
            "{what} yet: the cluster uses version {known} of its protocol, that needs version {}",
            version::SETTINGS
        )))
    }

    /// Changes settings, all of the change or nothing, and returns those in force. An empty change only shows them.
    ///
    /// # Errors
    /// [`PdError::Invalid`] if the change is not valid, or if a node does not know settings yet; those of every call.
    pub async fn change_settings(&self, change: ChangeSettings) -> PdResult<SettingsReply> {
        let serving = self.confirmed_cluster().await?;
        if change != ChangeSettings::default() {
            self.must_know_settings("settings cannot be changed while the cluster runs")?;
            let op = Op::ChangeSettings(change);
            self.must_know(&op, "this scheduler cannot be added")?;
            self.command(op).await?;
            let set = self.read(|state| state.settings().clone());
            tracing::info!(?set, "settings changed");
        }
        let wall_ms = self.inner.clock.wall_ms();
        Ok(self.look(&serving, |cluster, state, _| SettingsReply {
            set: Some((**state.settings()).clone()),
            in_force: Some(cluster.settings()),
            wall_ms,
        }))
    }

    /// Refuses a command that some node of the cluster does not know.
    fn must_know(&self, op: &Op, what: &str) -> PdResult<()> {
        let (known, needed) = (self.read(PdState::cluster_version), state::since(op));
        if known >= needed {
            return Ok(());
        }
        Err(PdError::Invalid(format!(
            "{what} yet: the cluster uses version {known} of its protocol, that needs version {needed}"
        )))
    }

    /// Takes back the removal of a store: the replicas that it still has stay.
    ///
    /// # Errors
    /// [`PdError::Invalid`] if there is no such store, if it was removed or replaced already, or if a node does not
    /// know this command yet.
    pub async fn take_store_back(&self, store: u64) -> PdResult<()> {
        self.confirmed_cluster().await?;
        let record = self.read(|state| state.store(store).cloned());
        let record = record.ok_or_else(|| PdError::Invalid(format!("there is no store {store}")))?;
        if state::is_up(&record) {
            return Ok(());
        }
        if state::is_tombstone(&record) {
            let why = format!("store {store} was removed from the cluster already: its node can start as a new store");
            return Err(PdError::Invalid(why));
        }
        if let Some(by) = self.read(|state| state.replaced_by(store)) {
            return Err(PdError::Invalid(format!(
                "store {by} has taken the place of store {store}, which is up again when its node starts with its data"
            )));
        }
        let op = Op::SetStoreState(SetStoreState { store_id: store, state: StoreState::Up as i32 });
        self.must_know(&op, "the removal of a store cannot be taken back")?;
        self.command(op).await?;
        tracing::info!(store, "the removal of the store is taken back");
        Ok(())
    }

    /// Pauses a checker for a while, or ends its pause if that is no time.
    ///
    /// # Errors
    /// None beyond those of every call.
    pub async fn pause_checker(&self, checker: Checker, delay_ms: u64) -> PdResult<()> {
        let serving = self.confirmed_cluster().await?;
        self.look(&serving, |cluster, _, now_ms| cluster.pause_checker(checker, now_ms.saturating_add(delay_ms)));
        match delay_ms {
            0 => tracing::info!(checker = checker.name(), "resumed a checker"),
            _ => tracing::info!(checker = checker.name(), delay_ms, "paused a checker"),
        }
        Ok(())
    }

    /// Declares a store lost for good, whose place another one takes: its replicas are replaced at once. Returns how
    /// many regions have one.
    ///
    /// # Errors
    /// [`PdError::Invalid`] if the store is alive, if one of the stores does not exist, or if a node does not know this
    /// command yet; [`PdError::Unavailable`] while it is not known whether the store is alive.
    pub async fn replace_store(&self, lost: u64, by: u64) -> PdResult<u64> {
        let serving = self.confirmed_cluster().await?;
        self.must_know_settings("stores cannot be replaced")?;
        self.look(&serving, |cluster, state, now_ms| {
            let known = |id| state.store(id).is_some_and(|record| !state::is_tombstone(record));
            if !known(lost) {
                return Err(PdError::Invalid(format!("there is no store {lost}")));
            }
            if cluster.alive(lost, now_ms) {
                let age_ms = cluster.heartbeat_age_ms(lost, now_ms).unwrap_or(0);
                return Err(PdError::Invalid(format!(
                    "store {lost} is alive, its last heartbeat came {age_ms} ms ago: only a store that is down can be \
                     replaced, another one can be removed"
                )));
            }
            let (young_ms, alive_ms) = (now_ms.saturating_sub(serving.since_ms), cluster.options().alive_ms);
            if young_ms < alive_ms {
                return Err(PdError::Unavailable(format!(
                    "it is not known yet whether store {lost} is alive: this member has led the placement driver for \
                     {young_ms} ms, try again after {alive_ms} ms"
                )));
            }
            Ok(())
        })?;
        self.command(Op::ReplaceStore(ReplaceStore { lost, by })).await?;
        tracing::warn!(lost, by, "a store is lost for good, and another one takes its place");
        let here = |region: &&Region| region::peer_on(region, lost).is_some();
        Ok(self.read(|state| state.regions().filter(here).count() as u64))
    }

    /// Begins to add, remove or place replicas of a region, step by step with heartbeats.
    ///
    /// # Errors
    /// [`PdError::Invalid`] if that is not possible, with the reason.
    pub async fn change_replicas(&self, region_id: u64, wish: Wish) -> PdResult<()> {
        let serving = self.confirmed_cluster().await?;
        if region_id == GroupId::PD.0 {
            let why = "the placement driver's members are moved, not added or removed: see `member move`";
            return Err(PdError::Invalid(why.into()));
        }
        let action = match &wish {
            Wish::Add(to) => Action::AddPeer { to: *to },
            Wish::Remove(from) => Action::RemovePeer { from: *from },
            Wish::Place { stores, leader } => Action::Place { stores: placed(stores), leader: *leader },
        };
        self.look(&serving, |cluster, state, now_ms| cluster.ask(state, region_id, wish, now_ms))
            .map_err(PdError::Invalid)?;
        self.begin_operator(region_id, action).await
    }
}
