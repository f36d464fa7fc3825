//! Keyspaces: names for parts of the keys, with API V2.
//!
//! **Never**: two keyspaces with one name or one ID, an ID that returns, or a keyspace that disappears: what is not
//! needed any more becomes a tombstone.

use std::collections::BTreeMap;

use crate::proto::armilla::pd::change_keyspace::Change;
use crate::proto::armilla::pd::{ChangeKeyspace, CreateKeyspace, SetKeyspaceConfig, SetKeyspaceState};
use crate::proto::keyspacepb::{KeyspaceMeta, KeyspaceState};
use crate::types::limits::{KEYSPACE_CONFIG_BYTES_MAX, KEYSPACE_NAME_BYTES_MAX, KEYSPACES_MAX};

use super::{Changed, Outcome, PdState};

/// The name of the keyspace that always exists.
const DEFAULT_KEYSPACE: &str = "DEFAULT";

/// The reason why a keyspace is refused that is not there.
pub const NO_KEYSPACE: &str = "keyspace does not exist";
/// The reason why a keyspace cannot be created that is there.
pub const KEYSPACE_EXISTS: &str = "keyspace already exists";

/// Returns the keyspace that always exists, as it is unless a client has changed it.
fn default_keyspace() -> KeyspaceMeta {
    KeyspaceMeta { name: DEFAULT_KEYSPACE.into(), ..KeyspaceMeta::default() }
}

impl PdState {
    /// Returns all keyspaces, in the order of their IDs.
    pub fn keyspaces(&self) -> impl Iterator<Item = &KeyspaceMeta> {
        self.keyspaces.values()
    }

    /// Returns the keyspace with this ID.
    pub fn keyspace(&self, id: u32) -> Option<&KeyspaceMeta> {
        self.keyspaces.get(&id)
    }

    /// Returns the keyspace with this name.
    pub fn keyspace_named(&self, name: &str) -> Option<&KeyspaceMeta> {
        self.keyspaces.values().find(|keyspace| keyspace.name == name)
    }

    /// Creates a keyspace, or changes one. The value of the outcome is its ID.
    pub(super) fn change_keyspace(&mut self, ChangeKeyspace { now_s, change }: ChangeKeyspace) -> Outcome {
        self.must_be_bootstrapped()?;
        let changed = match change {
            Some(Change::Create(create)) => self.new_keyspace(create, now_s)?,
            Some(Change::SetState(set)) => self.in_state(&set, now_s)?,
            Some(Change::SetConfig(set)) => self.configured(set)?,
            None => return Err("the change of a keyspace is one that this version does not know".into()),
        };
        let id = changed.id;
        if self.keyspaces.get(&id) == Some(&changed) {
            return Ok((u64::from(id), vec![]));
        }
        self.keyspaces.insert(id, changed);
        Ok((u64::from(id), vec![Changed::Keyspace(id)]))
    }

    fn new_keyspace(
        &self,
        CreateKeyspace { name, config }: CreateKeyspace,
        now_s: i64,
    ) -> Result<KeyspaceMeta, String> {
        check_name(&name)?;
        if self.keyspace_named(&name).is_some() {
            return Err(KEYSPACE_EXISTS.into());
        }
        if self.keyspaces.len() >= KEYSPACES_MAX {
            return Err(format!("there are {KEYSPACES_MAX} keyspaces already, which is the most that are possible"));
        }
        check_config(&config)?;
        let last = self.keyspaces.keys().next_back().copied().unwrap_or_default();
        let (created_at, state_changed_at) = (now_s, now_s);
        Ok(KeyspaceMeta { id: last + 1, name, created_at, state_changed_at, config, ..KeyspaceMeta::default() })
    }

    fn in_state(&self, set: &SetKeyspaceState, now_s: i64) -> Result<KeyspaceMeta, String> {
        let then = KeyspaceState::try_from(set.state).map_err(|_| "an unknown state of a keyspace".to_owned())?;
        let known = self.keyspace(set.id).ok_or(NO_KEYSPACE)?;
        if known.name == DEFAULT_KEYSPACE {
            return Err("cannot modify default keyspace's state".into());
        }
        let now = known.state();
        let allowed = match now {
            KeyspaceState::Enabled => [KeyspaceState::Disabled].as_slice(),
            KeyspaceState::Disabled => &[KeyspaceState::Enabled, KeyspaceState::Archived],
            KeyspaceState::Archived => &[KeyspaceState::Tombstone],
            KeyspaceState::Tombstone => &[],
        };
        if now == then {
            return Ok(known.clone());
        }
        if !allowed.contains(&then) {
            let (now, then) = (now.as_str_name(), then.as_str_name());
            return Err(format!("cannot change keyspace state from {now} to {then}"));
        }
        Ok(KeyspaceMeta { state: set.state, state_changed_at: now_s, ..known.clone() })
    }

    fn configured(&self, SetKeyspaceConfig { id, set, remove }: SetKeyspaceConfig) -> Result<KeyspaceMeta, String> {
        let mut changed = self.keyspace(id).ok_or(NO_KEYSPACE)?.clone();
        if matches!(changed.state(), KeyspaceState::Archived | KeyspaceState::Tombstone) {
            return Err(format!(
                "cannot change the configuration of a keyspace that is {}",
                changed.state().as_str_name()
            ));
        }
        changed.config.extend(set);
        changed.config.retain(|key, _| !remove.contains(key));
        check_config(&changed.config)?;
        Ok(changed)
    }

    /// Sets the keyspaces that were saved.
    pub(super) fn restore_keyspaces(&mut self, saved: Vec<KeyspaceMeta>) {
        self.keyspaces = first_keyspaces();
        self.keyspaces.extend(saved.into_iter().map(|keyspace| (keyspace.id, keyspace)));
    }
}

/// Returns the keyspaces with which a cluster begins.
pub(super) fn first_keyspaces() -> BTreeMap<u32, KeyspaceMeta> {
    BTreeMap::from([(0, default_keyspace())])
}

fn check_name(name: &str) -> Result<(), String> {
    let is_named = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if !is_named {
        return Err(format!(
            "illegal keyspace name {name}, should contain only letters, digits, hyphens and underscores"
        ));
    }
    if name.len() > KEYSPACE_NAME_BYTES_MAX {
        return Err(format!("a keyspace's name has {} bytes: at most {KEYSPACE_NAME_BYTES_MAX}", name.len()));
    }
    if name == DEFAULT_KEYSPACE {
        return Err(format!("illegal keyspace name {name}, collides with default keyspace name"));
    }
    Ok(())
}

fn check_config(config: &BTreeMap<String, String>) -> Result<(), String> {
    let bytes: usize = config.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > KEYSPACE_CONFIG_BYTES_MAX {
        return Err(format!("a keyspace's configuration has {bytes} bytes: at most {KEYSPACE_CONFIG_BYTES_MAX}"));
    }
    Ok(())
}
