//! Raft messages between stores: one stream for each pair of stores and each direction.
//!
//! Messages may be lost, but are never altered: raft sends them again. An unreachable store costs a bounded queue,
//! nothing more.

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

/// An item that waits to be sent, and its share of the queue's bytes.
type Queued = (Outbound, Share);

/// An item to send to a store.
enum Outbound {
    Message(GroupMessage),
    Beats(Beats),
}

/// Addresses of stores, by store ID.
pub type Addresses = BTreeMap<u64, String>;

/// How often each side of a refused stream logs the refusal.
const REFUSAL_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The identity of the sender.
#[derive(Clone, Debug, PartialEq)]
pub struct Local {
    /// The cluster ID.
    pub cluster: u64,
    /// This store's ID.
    pub store: u64,
    /// The election timeout of this store's leaders, in nanoseconds.
    pub election_ns: u64,
    /// This run of the process, and the runs before it.
    pub history: Arc<History>,
}
