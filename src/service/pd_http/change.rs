//! Changes: what people's tools may ask the placement driver to do.
//!
//! Requests come **in**; commands to the placement driver, or a split for the node that received the request, go
//! **out**. **Never**: a change that was only half understood: a request is checked as a whole first.

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value};

use super::accept::{Accepted, accept, not_scattered, scattered, split_keys};
use super::answer::{Answer, not_bootstrapped, refused, store_not_found};
use super::checkers;
use super::keyspaces;
use super::labels;
use super::operators;
use super::request::Request;
use super::schedulers;
use super::settings::{self, Scope};
use super::stores;
use crate::codec::keyspace;
use crate::pd::operators::Action;
use crate::pd::view::View;
use crate::pd::{PdError, PdServer};
use crate::proto::armilla::pd::change_keyspace::Change as KeyspaceChange;
use crate::proto::armilla::pd::{ChangeSettings, PdHttpReply, PdHttpSplit, Settings};
use crate::proto::metapb::{StoreLabel, StoreState};

/// A change that the placement driver's leader can make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// `POST /leader/resign`
    Resign,
    /// `POST /leader/transfer/NAME`
    TransferMember,
    /// `DELETE /store/S`
    RemoveStore,
    /// `POST /store/S/state?state=NAME`
    StoreState,
    /// `POST /store/S/label`
    SetLabels,
    /// `DELETE /store/S/label`
    DeleteLabel,
    /// `DELETE /stores/remove-tombstone`
    ForgetStores,
    /// `POST /operators`
    BeginOperator,
    /// `POST /scheduler-config/NAME/config`
    ConfigureScheduler,
    /// `DELETE /scheduler-config/NAME/delete/S`
    TakeFromScheduler,
    /// `POST /checker/NAME`
    PauseChecker,
    /// `DELETE /operators/R`
    CancelOperator,
    /// `DELETE /operators`
    CancelOperators,
    /// `POST /regions/split`
    Split,
    /// `POST /regions/scatter`
    Scatter,
    /// `POST /config`, `/config/schedule`, `/config/replicate`
    Configure(Scope),
    /// `POST /schedulers`
    AddScheduler,
    /// `DELETE /schedulers/NAME`
    RemoveScheduler,
    /// `DELETE /gc/safepoint/SERVICE`
    RemoveSafePoint,
    /// `POST /schedulers/NAME`
    PauseScheduler,
    /// `POST /store/S/weight`
    Weigh,
    /// `POST /store/S/limit`
    Limit,
    /// `POST /stores/limit`
    LimitAll,
    /// `POST /keyspaces`
    CreateKeyspace,
    /// `PUT /keyspaces/NAME/state`
    KeyspaceState,
    /// `PATCH /keyspaces/NAME/config`
    ConfigureKeyspace,
}

/// The end of a change: an answer (its error side ends the work early), or an error that another member, or another
/// attempt, may not have.
type Changed<T> = Result<Result<T, Answer>, PdError>;

/// Returns the value of a [`Changed`], or ends the function.
macro_rules! go_on {
    ($changed:expr) => {
        match $changed {
            Ok(value) => value,
            Err(answer) => return Ok(Err(answer)),
        }
    };
}

/// Carries out a change.
///
/// # Errors
/// Returns those of [`PdServer`] that another member, or another attempt, may not have.
pub(super) async fn carry_out(change: Change, pd: &PdServer, request: &Request) -> Result<PdHttpReply, PdError> {
    let answer = match change {
        Change::Resign => resign(pd).await?,
        Change::TransferMember => transfer_member(pd, &request.name(0)).await?,
        Change::RemoveStore => remove_store(pd, request).await?,
        Change::StoreState => set_state(pd, request).await?,
        Change::SetLabels => set_labels(pd, request).await?,
        Change::DeleteLabel => delete_label(pd, request).await?,
        Change::ForgetStores => forget_stores(pd).await?,
        Change::CancelOperator => cancel(pd, request).await?,
        Change::CancelOperators => cancel_all(pd).await?,
        Change::BeginOperator => match begin(pd, request).await? {
            Ok(Begun::Here(answer)) => Ok(answer),
            Ok(Begun::Split(keys)) => return Ok(split_reply(keys, true)),
            Err(answer) => Err(answer),
        },
        Change::Split => match split_keys(request) {
            Ok(keys) => return Ok(split_reply(keys, false)),
            Err(answer) => Err(answer),
        },
        Change::Scatter => scatter(pd, request).await?,
        Change::Configure(scope) => configure(pd, scope, request).await?,
        Change::AddScheduler => {
            let adding = |view: &View, body: &_| schedulers::adding(view, body);
            change_settings(pd, request, adding).await?
        }
        Change::RemoveScheduler => remove_scheduler(pd, request).await?,
        Change::RemoveSafePoint => {
            pd.remove_barrier(&request.name(0), false).await?;
            Ok(Answer::done("Delete service GC safepoint successfully."))
        }
        Change::PauseScheduler => {
            let name = request.name(0);
            let pausing = |view: &View, body: &_| {
                let change = schedulers::pausing(view, &name, body)?;
                Ok((change, Answer::done("Pause or resume the scheduler successfully.")))
            };
            change_settings(pd, request, pausing).await?
        }
        Change::ConfigureScheduler => {
            let name = request.name(0);
            change_settings(pd, request, |view: &View, body: &_| schedulers::configuring(view, &name, body)).await?
        }
        Change::CreateKeyspace => match create_keyspace(pd, request).await? {
            Ok((answer, keys)) => {
                let split = Some(PdHttpSplit { keys, is_answered: true, ..PdHttpSplit::default() });
                return Ok(PdHttpReply { split, ..answer.into_reply() });
            }
            Err(answer) => Err(answer),
        },
        Change::KeyspaceState => change_keyspace(pd, request, keyspaces::setting_state).await?,
        Change::ConfigureKeyspace => change_keyspace(pd, request, keyspaces::configuring).await?,
        Change::TakeFromScheduler => take_from_scheduler(pd, request).await?,
        Change::PauseChecker => pause_checker(pd, request).await?,
        Change::Weigh => {
            let weigh = |view: &View, body: &_| {
                let change = settings::weighed(view, request.store_id()?, body)?;
                Ok((change, Answer::done("The store's weight is updated.")))
            };
            change_settings(pd, request, weigh).await?
        }
        Change::Limit => {
            let limit = |view: &View, body: &_| {
                let change = settings::limited(view, request.store_id()?, body)?;
                Ok((change, Answer::done("The store's limit is updated.")))
            };
            change_settings(pd, request, limit).await?
        }
        Change::LimitAll => {
            let limit = |view: &View, body: &_| {
                Ok((settings::all_limited(view, body)?, Answer::done("Set store limit successfully.")))
            };
            change_settings(pd, request, limit).await?
        }
    };
    Ok(answer.unwrap_or_else(|answer| answer).into_reply())
}

/// Returns the answer to an operator that has begun.
pub(super) fn created() -> Answer {
    Answer::done("The operator is created.")
}

/// Returns the reply that lets the node which received the request make the splits.
fn split_reply(keys: Vec<Bytes>, by_operator: bool) -> PdHttpReply {
    PdHttpReply { split: Some(PdHttpSplit { keys, by_operator, is_answered: false }), ..PdHttpReply::default() }
}

/// Returns a view of a cluster that has stores and regions.
async fn view(pd: &PdServer) -> Changed<View> {
    let view = pd.admin_view().await?;
    Ok(if view.bootstrapped { Ok(view) } else { Err(not_bootstrapped()) })
}

/// Returns `text` as the answer if the call succeeded.
fn ended<T>(result: Result<T, PdError>, text: &str) -> Changed<Answer> {
    match result {
        Ok(_) => Ok(Ok(Answer::done(text))),
        Err(error) => refused(error).map(Err),
    }
}

fn no_member() -> Answer {
    Answer::error(500, "no valid pd to transfer etcd leader")
}

async fn resign(pd: &PdServer) -> Changed<Answer> {
    match pd.transfer_member(None).await {
        Err(PdError::Invalid(_)) => Ok(Err(no_member())),
        result => ended(result, "The resign command is submitted."),
    }
}

async fn transfer_member(pd: &PdServer, name: &str) -> Changed<Answer> {
    let view = pd.admin_view().await?;
    let done = "The transfer command is submitted.";
    if view.leader.name == name {
        return Ok(Ok(Answer::done(done)));
    }
    if !view.members.iter().any(|one| one.member.name == name) {
        return Ok(Err(no_member()));
    }
    ended(pd.transfer_member(Some(name)).await, done)
}

/// Returns PD's error for a store that cannot be removed, if it is one of those that PD knows.
fn not_removable(view: &View, id: u64) -> Option<Answer> {
    let Some(store) = stores::find(view, id) else { return Some(store_not_found(404, id)) };
    if store.store.state() == StoreState::Tombstone {
        return Some(Answer::error(410, format!("[PD:core:ErrStoreRemoved]store {id} has been removed")));
    }
    let up = view.stores.iter().filter(|store| store.store.state() == StoreState::Up).count();
    let (left, need) = (up.saturating_sub(1), view.options.replicas);
    (store.store.state() == StoreState::Up && left < need).then(|| {
        let why = format!("can not remove store {id} since the number of up stores would be {left} while need {need}");
        Answer::error(400, format!("[PD:core:ErrStoresNotEnough]{why}"))
    })
}

async fn remove_store(pd: &PdServer, request: &Request) -> Changed<Answer> {
    let id = go_on!(request.store_id());
    let view = go_on!(view(pd).await?);
    if let Some(refused) = not_removable(&view, id) {
        return Ok(Err(refused));
    }
    match pd.remove_store(id).await {
        // Here the reason is in the request.
        Err(PdError::Invalid(why)) => Ok(Err(Answer::error(400, why))),
        result => ended(result, "The store is set as Offline."),
    }
}

async fn set_state(pd: &PdServer, request: &Request) -> Changed<Answer> {
    let id = go_on!(request.store_id());
    let done = "The store's state is updated.";
    let wanted = String::from_utf8_lossy(&request.query_or_empty("state")).into_owned();
    if !["Up", "Offline"].contains(&wanted.as_str()) {
        return Ok(Err(Answer::error(400, format!("invalid state {wanted}"))));
    }
    let view = go_on!(view(pd).await?);
    let Some(store) = stores::find(&view, id) else { return Ok(Err(store_not_found(404, id))) };
    match (wanted.as_str(), store.store.state()) {
        (_, StoreState::Tombstone) => {
            Ok(Err(Answer::error(410, format!("[PD:core:ErrStoreRemoved]store {id} has been removed"))))
        }
        ("Up", StoreState::Up) => Ok(Ok(Answer::done(done))),
        ("Up", StoreState::Offline) => match pd.take_store_back(id).await {
            // Here the reason is in the request.
            Err(PdError::Invalid(why)) => Ok(Err(Answer::error(400, why))),
            result => ended(result, done),
        },
        _ => Ok(remove_store(pd, request).await?.map(|_| Answer::done(done))),
    }
}

/// Returns PD's error for a store that has no labels because it does not exist.
fn no_store_to_label(id: u64) -> Answer {
    Answer::error(500, format!("[PD:cluster:ErrInvalidStoreID]invalid store id {id}, not found"))
}

async fn set_labels(pd: &PdServer, request: &Request) -> Changed<Answer> {
    let id = go_on!(request.store_id());
    let labels = go_on!(labels::given(request));
    let view = go_on!(view(pd).await?);
    if stores::find(&view, id).is_none() {
        return Ok(Err(no_store_to_label(id)));
    }
    let replace = request.query("force").is_some();
    ended(pd.set_store_labels(id, labels, replace).await, "The store's label is updated.")
}

async fn delete_label(pd: &PdServer, request: &Request) -> Changed<Answer> {
    let id = go_on!(request.store_id());
    let key = go_on!(labels::deleted(request));
    let view = go_on!(view(pd).await?);
    let Some(store) = stores::find(&view, id) else { return Ok(Err(no_store_to_label(id))) };
    if !store.store.labels.iter().any(|label| label.key == key) {
        return Ok(Err(Answer::error(500, format!("the label key {key} does not exist"))));
    }
    let done = format!("The label {key} is deleted for store {id}.");
    let label = StoreLabel { key, value: String::new() };
    ended(pd.set_store_labels(id, vec![label], false).await, &done)
}

async fn forget_stores(pd: &PdServer) -> Changed<Answer> {
    let view = go_on!(view(pd).await?);
    let removed = view.stores.iter().filter(|store| store.store.state() == StoreState::Tombstone).count();
    if removed > 0 {
        let why = format!("Armilla keeps the records of removed stores ({removed}), so that their IDs never return");
        return Ok(Err(Answer::unbuilt(&why)));
    }
    Ok(Ok(Answer::done("Remove tombstone successfully.")))
}

async fn cancel(pd: &PdServer, request: &Request) -> Changed<Answer> {
    let id = go_on!(request.region_id());
    match pd.cancel_operators(Some(id)).await {
        Ok(0) => Ok(Err(operators::not_found())),
        result => ended(result, "The pending operator is canceled."),
    }
}

async fn cancel_all(pd: &PdServer) -> Changed<Answer> {
    ended(pd.cancel_operators(None).await, "All pending operators are canceled.")
}

/// Changes settings as a request says; `read` returns the change and the answer to it.
async fn change_settings(
    pd: &PdServer,
    request: &Request,
    read: impl Fn(&View, &Map<String, Value>) -> Result<(ChangeSettings, Answer), Answer>,
) -> Changed<Answer> {
    let body = go_on!(request.object());
    let view = go_on!(view(pd).await?);
    let (change, done) = go_on!(read(&view, &body));
    submit(pd, change, done).await
}

/// Creates a keyspace. Returns the answer, and the keys at which regions are to be split for it.
async fn create_keyspace(pd: &PdServer, request: &Request) -> Changed<(Answer, Vec<Bytes>)> {
    let view = go_on!(view(pd).await?);
    go_on!(keyspaces::exist(&view));
    let change = go_on!(keyspaces::creating(request));
    match pd.change_keyspace(change).await {
        Ok(created) => Ok(Ok((keyspaces::answer(&created), keyspace::boundaries(created.id).to_vec()))),
        Err(error) => refused(error).map(Err),
    }
}

/// Changes a keyspace as a request says; `read` returns the change.
async fn change_keyspace(
    pd: &PdServer,
    request: &Request,
    read: impl Fn(&View, &Request) -> Result<KeyspaceChange, Answer>,
) -> Changed<Answer> {
    let view = go_on!(view(pd).await?);
    let change = go_on!(read(&view, request));
    match pd.change_keyspace(change).await {
        Ok(changed) => Ok(Ok(keyspaces::answer(&changed))),
        Err(error) => refused(error).map(Err),
    }
}

async fn submit(pd: &PdServer, change: ChangeSettings, done: Answer) -> Changed<Answer> {
    match pd.change_settings(change).await {
        Ok(_) => Ok(Ok(done)),
        // Here the reason is in the request.
        Err(PdError::Invalid(why)) => Ok(Err(Answer::error(400, why))),
        Err(error) => refused(error).map(Err),
    }
}

async fn configure(pd: &PdServer, scope: Scope, request: &Request) -> Changed<Answer> {
    let read = |view: &View, body: &_| {
        let change = settings::configured(view, scope, body)?;
        // What changes nothing needs no version of the protocol.
        let nothing = change.set.as_ref().is_none_or(|set| *set == Settings::default());
        let change = if nothing { ChangeSettings::default() } else { change };
        Ok((change, Answer::done("The config is updated.")))
    };
    change_settings(pd, request, read).await
}

async fn take_from_scheduler(pd: &PdServer, request: &Request) -> Changed<Answer> {
    let view = go_on!(view(pd).await?);
    let (change, done) = go_on!(schedulers::taking(&view, request));
    submit(pd, change, done).await
}

async fn pause_checker(pd: &PdServer, request: &Request) -> Changed<Answer> {
    let (checker, delay_ms, done) = go_on!(checkers::paused(request));
    match pd.pause_checker(checker, delay_ms).await {
        Ok(()) => Ok(Ok(done)),
        Err(error) => refused(error).map(Err),
    }
}

async fn remove_scheduler(pd: &PdServer, request: &Request) -> Changed<Answer> {
    let view = go_on!(view(pd).await?);
    let (change, done) = go_on!(schedulers::removing(&view, &request.name(0)));
    submit(pd, change, done).await
}

/// How much of a scatter has begun.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Scattered<'a> {
    processed_percentage: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

async fn scatter(pd: &PdServer, request: &Request) -> Changed<Answer> {
    let view = go_on!(view(pd).await?);
    let (ids, group) = go_on!(scattered(&view, request));
    if let Some(why) = not_scattered(&view, &ids) {
        return Ok(Err(Answer::error(500, why)));
    }
    match pd.scatter(&ids, &group).await {
        Ok(failed) => {
            let processed_percentage = (ids.len() - failed.len().min(ids.len())) * 100 / ids.len();
            Ok(Ok(Answer::json(&Scattered { processed_percentage, error: None })))
        }
        Err(error) => refused(error).map(Err),
    }
}

/// Begins a scatter that was asked for as an operator.
async fn begin_scatter(pd: &PdServer, view: &View, ids: &[u64], group: &str, many: bool) -> Changed<Answer> {
    let why = not_scattered(view, ids);
    let failed = match why {
        Some(_) => ids.len(),
        None => match pd.scatter(ids, group).await {
            Ok(failed) => failed.len().min(ids.len()),
            Err(error) => return refused(error).map(Err),
        },
    };
    if many {
        let processed_percentage = (ids.len() - failed) * 100 / ids.len().max(1);
        let error = Some(why.unwrap_or_default());
        return Ok(Ok(Answer::json(&Scattered { processed_percentage, error })));
    }
    if failed > 0 { Ok(Err(operators::busy())) } else { Ok(Ok(created())) }
}

/// An operator that was accepted.
enum Begun {
    /// It was begun, with this answer.
    Here(Answer),
    /// It is a split at these keys, for the node that received the request.
    Split(Vec<Bytes>),
}

/// Begins an operator.
async fn begin(pd: &PdServer, request: &Request) -> Changed<Begun> {
    let body = go_on!(request.object());
    let view = go_on!(view(pd).await?);
    let accepted = go_on!(accept(&view, &body));
    let (region, action, keys) = match accepted {
        Accepted::Replicas { region, wish } => {
            return match pd.change_replicas(region, wish).await {
                Ok(()) => Ok(Ok(Begun::Here(created()))),
                Err(error) => refused(error).map(Err),
            };
        }
        Accepted::Scatter { ids, group, many } => {
            return Ok(begin_scatter(pd, &view, &ids, &group, many).await?.map(Begun::Here));
        }
        Accepted::Move { region, action } => (region, action, None),
        Accepted::Split { region, version, keys } => (region, Action::Split { version }, Some(keys)),
    };
    let ordered = match action {
        Action::TransferLeader { to, .. } => pd.transfer_leader(region, to).await,
        Action::MovePeer { from, to } => pd.move_peer(region, from, to).await,
        Action::Merge { source, target } => pd.merge_regions(source, target).await,
        // A split is made by the node that received the request; the others are begun above.
        Action::Split { .. }
        | Action::Scatter { .. }
        | Action::AddPeer { .. }
        | Action::RemovePeer { .. }
        | Action::Place { .. } => Ok(()),
    };
    let begun = match ordered {
        Ok(()) => {
            if let Action::Merge { target, .. } = action
                && let Err(error) = pd.begin_operator(target, action).await
            {
                return refused(error).map(Err);
            }
            pd.begin_operator(region, action).await
        }
        Err(error) => Err(error),
    };
    match begun {
        Ok(()) => Ok(Ok(keys.map_or_else(|| Begun::Here(created()), Begun::Split))),
        Err(error) => refused(error).map(Err),
    }
}
