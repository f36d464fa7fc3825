//! `armilla ctl keyspace`: the keyspaces of a cluster with API version 2.

use armilla::client::{PdClient, Space};
use armilla::codec::keyspace;
use armilla::proto::armilla::pd::change_keyspace::Change;
use armilla::proto::armilla::pd::{CreateKeyspace, SetKeyspaceState};
use armilla::proto::keyspacepb::{KeyspaceMeta, KeyspaceState};
use armilla::types::Api;
use serde_json::{Value, json};

use super::Ctl;
use super::show::{self, Table, print_json};
use crate::failure::Failure;

/// The keyspace whose keys commands use unless another one is named.
const DEFAULT: &str = "DEFAULT";

/// What can be done about keyspaces.
#[derive(clap::Subcommand, Debug)]
pub enum KeyspaceCommand {
    /// List all keyspaces.
    List,
    /// Create a keyspace, with regions of its own.
    Create {
        /// Its name: letters, digits, hyphens and underscores.
        name: String,
    },
    /// Set a keyspace's state, which clients can look up; its keys are served in every state.
    State {
        /// Its name.
        name: String,
        /// The state. A keyspace is disabled before it is archived, and archived before it becomes a tombstone.
        #[arg(value_enum)]
        state: State,
    },
}

/// The states of a keyspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum State {
    /// It is in use.
    Enabled,
    /// It is not to be used for now.
    Disabled,
    /// It is not to be used any more.
    Archived,
    /// Its keys are gone.
    Tombstone,
}

impl From<State> for KeyspaceState {
    fn from(state: State) -> KeyspaceState {
        match state {
            State::Enabled => KeyspaceState::Enabled,
            State::Disabled => KeyspaceState::Disabled,
            State::Archived => KeyspaceState::Archived,
            State::Tombstone => KeyspaceState::Tombstone,
        }
    }
}

/// Returns the keys that a command uses: with API V1 all keys, with API V2 those of the keyspace `name`.
pub async fn space(pd: &PdClient, name: Option<&str>) -> Result<Space, Failure> {
    let found = pd.keyspaces().await?;
    match (Api::numbered(found.api_version), name) {
        (Some(Api::V1), None) => Ok(Space::V1),
        (Some(Api::V1), Some(name)) => {
            Err(Failure::usage(format!("--keyspace {name}: the cluster has API version 1, which has no keyspaces")))
        }
        (Some(Api::V2), name) => {
            let name = name.unwrap_or(DEFAULT);
            let keyspace = found.keyspaces.iter().find(|keyspace| keyspace.name == name);
            let unknown = || {
                Failure::new(format!("there is no keyspace `{name}`"))
                    .hint("see `armilla ctl keyspace list`, or create it with `armilla ctl keyspace create`")
            };
            keyspace.map(|keyspace| Space::Keyspace(keyspace.id)).ok_or_else(unknown)
        }
        (None, _) => Err(Failure::new(format!(
            "the cluster has API version {}, which this version of Armilla does not know",
            found.api_version
        ))
        .hint("use the program of the cluster's version")),
    }
}

fn document(keyspace: &KeyspaceMeta) -> Value {
    json!({
        "id": keyspace.id,
        "name": keyspace.name,
        "state": keyspace.state().as_str_name(),
        "created_at": keyspace.created_at,
        "state_changed_at": keyspace.state_changed_at,
        "config": keyspace.config,
    })
}

impl Ctl {
    pub(super) async fn keyspace(&self, command: &KeyspaceCommand) -> Result<(), Failure> {
        match command {
            KeyspaceCommand::List => {
                let found = self.pd.keyspaces().await?;
                if found.api_version == Api::V1.number() {
                    let why = "the cluster has API version 1, which has no keyspaces";
                    return Err(Failure::new(why).hint("found a cluster with api_version = 2"));
                }
                self.print_keyspaces(&found.keyspaces)
            }
            KeyspaceCommand::Create { name } => {
                let create = CreateKeyspace { name: name.clone(), ..CreateKeyspace::default() };
                let created = self.pd.change_keyspace(Change::Create(create)).await?;
                // Its keys are served wherever they are.
                if let Err(error) = self.split_off(created.id).await {
                    eprintln!("the regions of the keyspace could not be split off: {error}");
                }
                self.print_keyspaces(&[created])
            }
            KeyspaceCommand::State { name, state } => {
                let Space::Keyspace(id) = space(&self.pd, Some(name)).await? else {
                    return Err(Failure::new("the cluster has no keyspaces"));
                };
                let set = SetKeyspaceState { id, state: KeyspaceState::from(*state) as i32 };
                self.print_keyspaces(&[self.pd.change_keyspace(Change::SetState(set)).await?])
            }
        }
    }

    /// Makes the boundaries of a keyspace, so that its keys are in regions of their own.
    async fn split_off(&self, keyspace: u32) -> armilla::client::Result<()> {
        let raw = self.raw.in_space(Space::V2);
        for boundary in keyspace::boundaries(keyspace) {
            raw.split_at(&boundary).await?;
        }
        Ok(())
    }

    fn print_keyspaces(&self, keyspaces: &[KeyspaceMeta]) -> Result<(), Failure> {
        if self.form.json {
            let all: Value = keyspaces.iter().map(document).collect();
            return print_json(&json!({ "keyspaces": all }));
        }
        let mut table = Table::new(&["id", "name", "state", "created (UTC)"]);
        for keyspace in keyspaces {
            let created_ms = u64::try_from(keyspace.created_at).unwrap_or_default() * 1000;
            let created = if created_ms == 0 { "with the cluster".to_owned() } else { show::utc(created_ms) };
            let state = keyspace.state().as_str_name().to_lowercase();
            table.row(vec![keyspace.id.to_string(), keyspace.name.clone(), state, created]);
        }
        table.print();
        Ok(())
    }
}
