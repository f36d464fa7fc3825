//! Why a transaction did not go on.

use std::fmt;

use crate::client::error::Error;
use crate::proto::kvrpcpb::KeyError;

/// Why a transaction did not go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failed {
    /// It has not committed and never will.
    #[error("aborted: {0}")]
    Aborted(Abort),
    /// It may have committed, may still do so, or never.
    #[error("outcome unknown: {0}")]
    Unknown(String),
}

/// The result of a step.
pub type Done<T> = std::result::Result<T, Failed>;

/// Why a transaction has not committed and never will.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Abort {
    /// The kind of the reason.
    pub why: Why,
    text: String,
    /// Whether servers have nothing of the transaction, and never will.
    pub(super) left_nothing: bool,
}

/// The kind of the reason why a transaction was aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// Another transaction has written a key since this one began, or holds its lock for too long.
    Conflict,
    /// A key to be inserted exists.
    Exists,
    /// Transactions wait for each other.
    Deadlock,
    /// Others have rolled it back.
    RolledBack,
    /// A server refused a request, or could not be reached.
    Refused,
}

impl Abort {
    /// Creates a reason.
    pub fn new(why: Why, text: impl Into<String>) -> Abort {
        Abort { why, text: text.into(), left_nothing: false }
    }
}

impl fmt::Display for Abort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Returns the failure of a transaction that has not tried to commit.
pub(super) fn aborted(error: Error) -> Failed {
    match error {
        Error::Unknown(why) | Error::Refused(why) | Error::Unavailable(why) => {
            Failed::Aborted(Abort::new(Why::Refused, why))
        }
    }
}

/// Returns the failure of a transaction that has tried to commit.
pub(super) fn unknown(error: Error) -> Failed {
    match error {
        Error::Unknown(why) => Failed::Unknown(why),
        // The primary key was not committed, but it may be locked: nobody but this client commits it.
        Error::Refused(why) | Error::Unavailable(why) => Failed::Unknown(why),
    }
}

/// Returns the reason that a key error states.
pub(super) fn reason(error: &KeyError) -> Abort {
    if let Some(one) = &error.conflict {
        let text = format!("a transaction that began at {} has written a key since", one.conflict_ts);
        return Abort::new(Why::Conflict, text);
    }
    if error.already_exist.is_some() {
        return Abort::new(Why::Exists, "a key to be inserted exists");
    }
    if error.deadlock.is_some() {
        return Abort::new(Why::Deadlock, "transactions wait for each other");
    }
    if error.txn_lock_not_found.is_some() {
        return Abort::new(Why::RolledBack, "the transaction was rolled back by others");
    }
    if let Some(expired) = &error.commit_ts_expired {
        let (at, least) = (expired.attempted_commit_ts, expired.min_commit_ts);
        return Abort::new(Why::Refused, format!("a key commits at {least} at the earliest, not at {at}"));
    }
    if let Some(lock) = &error.locked {
        let lock = lock.shared_lock_infos.first().unwrap_or(lock);
        let text = format!("a key is locked by the transaction that began at {}", lock.lock_version);
        return Abort::new(Why::Conflict, text);
    }
    Abort::new(Why::Refused, format!("{} {}", error.abort, error.retryable).trim())
}
