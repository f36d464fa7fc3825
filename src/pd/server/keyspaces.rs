//! Keyspaces: lookups, and changes that people and clients ask for.
//!
//! A change comes **in**, a command of the replicated state goes **out**. **Never**: a keyspace of a cluster whose
//! clients cannot use one, or a command that some node of the cluster does not know.

use super::{PdError, PdResult, PdServer};
use crate::pd::state::PdState;
use crate::proto::armilla::pd::change_keyspace::Change;
use crate::proto::armilla::pd::pd_command::Op;
use crate::proto::armilla::pd::{ChangeKeyspace, ListKeyspacesReply};
use crate::proto::keyspacepb::KeyspaceMeta;
use crate::types::{Api, version};

impl PdServer {
    /// Returns the API version of the cluster.
    pub fn api(&self) -> Api {
        self.inner.options.cluster.api
    }

    /// Returns all keyspaces in the order of their IDs, and the API version of the cluster.
    ///
    /// # Errors
    /// None beyond those of every call.
    pub async fn keyspaces(&self) -> PdResult<ListKeyspacesReply> {
        self.confirmed_cluster().await?;
        let keyspaces = match self.api() {
            Api::V1 => Vec::new(),
            Api::V2 => self.read(|state| state.keyspaces().cloned().collect()),
        };
        Ok(ListKeyspacesReply { keyspaces, api_version: self.api().number() })
    }

    /// Returns a keyspace as `find` finds it.
    ///
    /// # Errors
    /// [`PdError::Invalid`] if the cluster has no keyspaces.
    pub async fn keyspace(
        &self,
        find: impl FnOnce(&PdState) -> Option<&KeyspaceMeta>,
    ) -> PdResult<Option<KeyspaceMeta>> {
        self.must_have_keyspaces()?;
        self.confirmed_cluster().await?;
        Ok(self.read(|state| find(state).cloned()))
    }

    /// Returns whether there is a keyspace with this ID. Answers from what this member knows.
    pub fn has_keyspace(&self, id: u32) -> bool {
        self.read(|state| state.keyspace(id).is_some())
    }

    /// Creates a keyspace, or changes one, and returns it.
    ///
    /// # Errors
    /// [`PdError::Invalid`] if the change is not possible, or if a node does not know keyspaces yet.
    pub async fn change_keyspace(&self, change: Change) -> PdResult<KeyspaceMeta> {
        self.must_have_keyspaces()?;
        self.confirmed_cluster().await?;
        let known = self.read(PdState::cluster_version);
        if known < version::KEYSPACES {
            return Err(PdError::Invalid(format!(
                "keyspaces cannot be changed yet: the cluster uses version {known} of its protocol, that needs version {}",
                version::KEYSPACES
            )));
        }
        let is_new = matches!(change, Change::Create(_));
        let now_s = i64::try_from(self.inner.clock.wall_ms() / 1000).unwrap_or(i64::MAX);
        let op = Op::ChangeKeyspace(ChangeKeyspace { now_s, change: Some(change) });
        let id = u32::try_from(self.command(op).await?).unwrap_or(u32::MAX);
        let keyspace = self.read(|state| state.keyspace(id).cloned());
        let keyspace = keyspace.ok_or_else(|| PdError::Unavailable(format!("keyspace {id} is not known here yet")))?;
        let name = &keyspace.name;
        match is_new {
            true => tracing::info!(keyspace = id, name, "created a keyspace"),
            false => tracing::info!(keyspace = id, name, state = keyspace.state().as_str_name(), "changed a keyspace"),
        }
        Ok(keyspace)
    }

    fn must_have_keyspaces(&self) -> PdResult<()> {
        match self.api() {
            Api::V2 => Ok(()),
            Api::V1 => Err(PdError::Invalid(
                "this cluster was founded with API version 1, which has no keyspaces: use a client without one, or found a \
                 cluster with api_version = 2"
                    .into(),
            )),
        }
    }
}
