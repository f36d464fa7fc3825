//! Keyspaces: version 2 of PD's interface, which has nothing else.
//!
//! A request and the leader's view come **in**, keyspaces or what is to change go **out**. **Never**: keyspaces of a
//! cluster with API V1, whose clients cannot use them.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::answer::{Answer, Answered};
use super::regions::{between, list};
use super::request::Request;
use super::text;
use crate::codec::keyspace;
use crate::pd::NO_KEYSPACE;
use crate::pd::view::View;
use crate::proto::armilla::pd::change_keyspace::Change;
use crate::proto::armilla::pd::{CreateKeyspace, SetKeyspaceConfig, SetKeyspaceState};
use crate::proto::keyspacepb::{KeyspaceMeta, KeyspaceState};
use crate::types::Api;

/// A keyspace in PD's form.
#[derive(Serialize)]
struct Keyspace<'v> {
    id: u32,
    name: &'v str,
    state: &'static str,
    created_at: i64,
    state_changed_at: i64,
    #[serde(skip_serializing_if = "Map::is_empty")]
    config: Map<String, Value>,
}

#[derive(Serialize)]
struct Keyspaces<'v> {
    /// `null` if there are none.
    keyspaces: Option<Vec<Keyspace<'v>>>,
    next_page_token: String,
}

fn document(meta: &KeyspaceMeta) -> Keyspace<'_> {
    Keyspace {
        id: meta.id,
        name: &meta.name,
        state: meta.state().as_str_name(),
        created_at: meta.created_at,
        state_changed_at: meta.state_changed_at,
        config: meta.config.iter().map(|(key, value)| (key.clone(), Value::from(value.clone()))).collect(),
    }
}

/// Returns a keyspace as the answer.
pub(super) fn answer(meta: &KeyspaceMeta) -> Answer {
    Answer::json(&document(meta))
}

fn not_found() -> Answer {
    Answer::error(500, NO_KEYSPACE)
}

/// Refuses calls about keyspaces where there are none.
///
/// # Errors
/// The answer.
pub(super) fn exist(view: &View) -> Result<(), Answer> {
    match view.options.api {
        Api::V2 => Ok(()),
        Api::V1 => Err(Answer::error(501, "this cluster was founded with API version 1, which has no keyspaces")),
    }
}

/// Returns the keyspace that the first part of a path names.
///
/// # Errors
/// PD's answer.
pub(super) fn named<'v>(view: &'v View, request: &Request) -> Result<&'v KeyspaceMeta, Answer> {
    exist(view)?;
    let name = request.param(0);
    view.keyspaces.iter().find(|keyspace| keyspace.name.as_bytes() == name).ok_or_else(not_found)
}

/// `GET /keyspaces?page_token=ID&limit=N`
pub(super) fn all(view: &View, request: &Request) -> Answered {
    exist(view)?;
    let limit = request.number_of("limit", 0)?;
    let limit = usize::try_from(limit).ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX);
    let from = match request.query("page_token").filter(|token| !token.is_empty()) {
        Some(token) => text::parse_uint(token).map_err(|why| Answer::error(400, why))?,
        None => 0,
    };
    let mut left = view.keyspaces.iter().filter(|keyspace| u64::from(keyspace.id) >= from);
    let keyspaces: Vec<Keyspace<'_>> = left.by_ref().take(limit).map(document).collect();
    let next_page_token = left.next().map_or_else(String::new, |next| next.id.to_string());
    Ok(Answer::json(&Keyspaces { keyspaces: Some(keyspaces).filter(|found| !found.is_empty()), next_page_token }))
}

/// `GET /keyspaces/NAME`
pub(super) fn by_name(view: &View, request: &Request) -> Answered {
    named(view, request).map(answer)
}

/// `GET /keyspaces/id/ID`
pub(super) fn by_id(view: &View, request: &Request) -> Answered {
    exist(view)?;
    let id = id(request)?;
    view.keyspaces.iter().find(|keyspace| u64::from(keyspace.id) == id).map(answer).ok_or_else(not_found)
}

fn id(request: &Request) -> Result<u64, Answer> {
    let id = text::parse_uint(request.param(0)).ok().filter(|id| *id < u64::from(keyspace::KEYSPACES));
    id.ok_or_else(|| Answer::error(500, "invalid keyspace id"))
}

/// `GET /regions/keyspace/id/ID`, of version 1
pub(super) fn regions(view: &View, request: &Request) -> Answered {
    exist(view)?;
    let [raw, after_raw, txn, after_txn] = keyspace::boundaries(id(request)? as u32);
    Ok(list(between(view, &raw, &after_raw).chain(between(view, &txn, &after_txn))))
}

/// Returns the answer to a body that cannot be read.
fn unreadable() -> Answer {
    Answer::of(400, &json!({}))
}

fn config_of(body: &Map<String, Value>) -> Result<Map<String, Value>, Answer> {
    match body.get("config") {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(config)) => Ok(config.clone()),
        Some(_) => Err(unreadable()),
    }
}

/// Returns what `POST /keyspaces` asks for: `{"name": "NAME", "config": {"KEY": "VALUE"}}`.
///
/// # Errors
/// PD's answer.
pub(super) fn creating(request: &Request) -> Result<Change, Answer> {
    let body = request.object().map_err(|_| unreadable())?;
    let name = match body.get("name") {
        Some(Value::String(name)) => name.clone(),
        None | Some(Value::Null) => String::new(),
        Some(_) => return Err(unreadable()),
    };
    let value = |(key, value): (String, Value)| match value {
        Value::String(value) => Ok((key, value)),
        _ => Err(unreadable()),
    };
    let config = config_of(&body)?.into_iter().map(value).collect::<Result<_, _>>()?;
    Ok(Change::Create(CreateKeyspace { name, config }))
}

/// Returns what `PUT /keyspaces/NAME/state` asks for: `{"state": "DISABLED"}`.
///
/// # Errors
/// PD's answer.
pub(super) fn setting_state(view: &View, request: &Request) -> Result<Change, Answer> {
    let id = named(view, request)?.id;
    let body = request.object().map_err(|_| unreadable())?;
    let state = body.get("state").and_then(Value::as_str).unwrap_or_default().to_ascii_uppercase();
    let state = KeyspaceState::from_str_name(&state).ok_or_else(unreadable)?;
    Ok(Change::SetState(SetKeyspaceState { id, state: state as i32 }))
}

/// Returns what `PATCH /keyspaces/NAME/config` asks for: `{"config": {"KEY": "VALUE", "OTHER": null}}`.
///
/// # Errors
/// PD's answer.
pub(super) fn configuring(view: &View, request: &Request) -> Result<Change, Answer> {
    let id = named(view, request)?.id;
    let body = request.object().map_err(|_| unreadable())?;
    let mut change = SetKeyspaceConfig { id, ..SetKeyspaceConfig::default() };
    for (key, value) in config_of(&body)? {
        match value {
            Value::String(value) => drop(change.set.insert(key, value)),
            Value::Null => change.remove.push(key),
            _ => return Err(unreadable()),
        }
    }
    Ok(Change::SetConfig(change))
}
