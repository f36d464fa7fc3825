//! Raft messages between stores: a stream for each pair and direction.
//!
//! Messages may be lost, never altered: raft sends again. A store that cannot be reached costs a bounded queue, nothing more.

mod beats;
mod clocks;
mod inbox;
mod link;
mod outbox;
mod runs;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use armilla_arch::sync::Share;

use crate::proto::armilla::raft::GroupMessage;
use crate::types::run::History;

use super::message::Beats;

pub use inbox::Inbox;
pub(super) use outbox::{Outbox, Sending, SnapshotOut};
pub(super) use runs::Runs;

/// What waits for a store, and its place in the budget.
type Queued = (Outbound, Share);

/// What is sent to a store.
enum Outbound {
    Message(GroupMessage),
    Beats(Beats),
}

/// Addresses of stores, by id.
pub type Addresses = BTreeMap<u64, String>;

/// How often one side of a refused stream is told of it.
const TELL: Duration = Duration::from_secs(10);

/// Who sends from here.
#[derive(Clone, Debug, PartialEq)]
pub struct Local {
    /// The cluster.
    pub cluster: u64,
    /// This store.
    pub store: u64,
    /// The election timeout that its leaders go by, ns.
    pub election_ns: u64,
    /// The run of its process, and those before.
    pub history: Arc<History>,
}
