//! The wire form of each error. Pure.
//!
//! A reply has up to three places for an error, and clients act differently on each:
//!
//! | our error | in the reply | why |
//! |---|---|---|
//! | `NotLeader` | `not_leader` with the leader if known | clients follow the hint at once, so it must be fresh |
//! | `RegionNotFound`, `EpochNotMatch`, `KeyNotInRegion`, `StoreNotMatch`, `PeerNotMatch`, `StaleCommand` | the field of that name (`mismatch_peer_id`) | clients refresh their cache and try again |
//! | `Merging`, `NotReadable` | `proposal_in_merging_mode`, `read_index_not_ready` | clients wait a little and try again |
//! | `DataNotReady` | `data_is_not_ready` | clients ask the leader, for an ordinary read |
//! | `EntryTooLarge` | `raft_entry_too_large` | clients give up and report it to their caller |
//! | `DiskFull` | `disk_full` | clients give up and report it to their caller; deletes are still accepted |
//! | `Busy` | `server_is_busy` | client-rust does not retry it: real overload only |
//! | `Deadline` | `server_is_busy`, its reason "deadline is exceeded" | nothing happened; TiKV's clients know the reason as a timeout |
//! | `Timeout`, `Stopped` | `not_leader` without a leader | nothing happened; every client asks PD and tries again, even a compare-and-swap |
//! | `Unknown`, of a put or delete | `stale_command` and `undetermined_result` together | see below |
//! | `Unknown`, of a compare-and-swap | the `error` string | the only form that no client retries |
//! | `Unknown`, of a transaction's request | `stale_command`; if it may have decided the transaction, `undetermined_result` | clients repeat the one, and ask or report the other |
//! | `Invalid` | the `error` string; a reply of pairs has a pair with `error.abort` instead | shown to the caller, not retried |
//! | `Corruption`, `Io` | the same | the same |
//!
//! **A write whose outcome is unknown.** Clients of TiKV repeat puts and deletes whenever a connection breaks, so they
//! accept that a put may happen twice. `stale_command` makes them repeat here as well, after asking PD. A client that
//! needs to know more (our own client, the linearizability oracle) checks `undetermined_result` first, and must not
//! repeat the write under the same name. A compare-and-swap must never be repeated blindly: the second attempt could
//! report a failure that the first attempt caused. Next to an `error` string, our own field `outcome_unknown` has the
//! same meaning; other clients ignore it.
//!
//! In a `BatchCommands` stream a single command has no status. A status becomes a region error that has only a message,
//! which clients retry a few times and then show.

use tonic::Status;

use crate::proto::errorpb;
use crate::proto::kvrpcpb::{KeyError, KvPair};
use crate::types::Error;

/// A reply that can carry a region error.
pub trait Reply: Default + Send + 'static {
    /// Returns a reply with the region error and nothing else.
    fn with_region_error(error: errorpb::Error) -> Self;
    /// Returns a reply with the `error` string; a reply of pairs gets one pair that has only an error.
    fn with_text(text: String) -> Self;
    /// Marks the write of this reply as one that may have happened. Does nothing to the reply of a read.
    fn with_doubt(self) -> Self;
    /// Returns the error in this reply, if there is one.
    fn failure(&self) -> Option<&str>;
    /// Calls `each` with the errors of keys in this reply.
    fn key_errors(&self, _each: &mut dyn FnMut(&KeyError)) {}
}

/// Implements [`Reply`] for a message, by the place of an error that is not a region error:
///
/// | form | where |
/// |---|---|
/// | `text` | the string `error` |
/// | `write` | the string `error`, and `outcome_unknown` beside it |
/// | `key` | `error.abort` |
/// | `keys` | the only one of `errors` has `abort` |
/// | `message` | a region error that has only a message: the reply has no other place |
/// | `(pairs in kvs)` | `kvs` has one pair, which has only `error.abort` |
/// | `(pairs in pairs and error)` | the same, and `error` |
macro_rules! reply {
    ($Reply:ty, text) => {
        reply!(@text $Reply, |_reply| {});
    };
    ($Reply:ty, write) => {
        reply!(@text $Reply, |reply| reply.outcome_unknown = true);
    };
    ($Reply:ty, key) => {
        impl Reply for $Reply {
            fn with_region_error(error: $crate::proto::errorpb::Error) -> Self {
                Self { region_error: Some(error.into()), ..Self::default() }
            }
            fn with_text(text: String) -> Self {
                let error = $crate::proto::kvrpcpb::KeyError { abort: text, ..Default::default() };
                Self { error: Some(error.into()), ..Self::default() }
            }
            fn with_doubt(self) -> Self {
                self
            }
            fn failure(&self) -> Option<&str> {
                match &self.region_error {
                    Some(error) => Some(&error.message),
                    None => self.error.as_ref().map(|error| error.abort.as_str()),
                }
            }
            fn key_errors(&self, each: &mut dyn FnMut(&$crate::proto::kvrpcpb::KeyError)) {
                self.error.as_deref().into_iter().for_each(each);
            }
        }
    };
    ($Reply:ty, keys) => {
        impl Reply for $Reply {
            fn with_region_error(error: $crate::proto::errorpb::Error) -> Self {
                Self { region_error: Some(error.into()), ..Self::default() }
            }
            fn with_text(text: String) -> Self {
                let error = $crate::proto::kvrpcpb::KeyError { abort: text, ..Default::default() };
                Self { errors: vec![error], ..Self::default() }
            }
            fn with_doubt(self) -> Self {
                self
            }
            fn failure(&self) -> Option<&str> {
                match &self.region_error {
                    Some(error) => Some(&error.message),
                    None => self.errors.first().map(|error| error.abort.as_str()),
                }
            }
            fn key_errors(&self, each: &mut dyn FnMut(&$crate::proto::kvrpcpb::KeyError)) {
                self.errors.iter().for_each(each);
            }
        }
    };
    ($Reply:ty, message) => {
        impl Reply for $Reply {
            fn with_region_error(error: $crate::proto::errorpb::Error) -> Self {
                Self { region_error: Some(error.into()), ..Self::default() }
            }
            fn with_text(text: String) -> Self {
                Self::with_region_error($crate::proto::errorpb::Error { message: text, ..Default::default() })
            }
            fn with_doubt(self) -> Self {
                self
            }
            fn failure(&self) -> Option<&str> {
                self.region_error.as_ref().map(|error| error.message.as_str())
            }
        }
    };
    ($Reply:ty, (pairs in $pairs:ident $(and $error:ident)?)) => {
        impl Reply for $Reply {
            fn with_region_error(error: $crate::proto::errorpb::Error) -> Self {
                Self { region_error: Some(error.into()), ..Self::default() }
            }
            fn with_text(text: String) -> Self {
                let pair = $crate::service::error::failed_pair(text);
                Self { $($error: pair.error.clone(),)? $pairs: vec![pair], ..Self::default() }
            }
            fn with_doubt(self) -> Self {
                self
            }
            fn failure(&self) -> Option<&str> {
                match &self.region_error {
                    Some(error) => Some(&error.message),
                    None => self.$pairs.first()?.error.as_ref().map(|error| error.abort.as_str()),
                }
            }
            fn key_errors(&self, each: &mut dyn FnMut(&$crate::proto::kvrpcpb::KeyError)) {
                self.$pairs.iter().filter_map(|pair| pair.error.as_deref()).for_each(each);
            }
        }
    };
    (@text $Reply:ty, |$this:ident| $doubt:expr) => {
        impl Reply for $Reply {
            fn with_region_error(error: $crate::proto::errorpb::Error) -> Self {
                Self { region_error: Some(error.into()), ..Self::default() }
            }
            fn with_text(text: String) -> Self {
                Self { error: text, ..Self::default() }
            }
            #[allow(unused_mut, reason = "a read has nothing to mark")]
            fn with_doubt(mut self) -> Self {
                let $this = &mut self;
                $doubt;
                self
            }
            fn failure(&self) -> Option<&str> {
                match &self.region_error {
                    Some(error) => Some(&error.message),
                    None if !self.error.is_empty() => Some(&self.error),
                    None => None,
                }
            }
        }
    };
}
pub(super) use reply;

/// Returns a pair that has only an error.
pub(super) fn failed_pair(text: String) -> KvPair {
    let error = Some(Box::new(KeyError { abort: text, ..KeyError::default() }));
    KvPair { error, ..KvPair::default() }
}

/// The effect of repeating a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// It only reads.
    Read,
    /// It writes, and writing the same again has the same result.
    Same,
    /// Its reply could change: compare-and-swap.
    Differs,
    /// It writes, and a repeated one finds what the first has done: a transaction's request.
    Found,
}

/// Returns the reply that reports `error` to a client.
pub fn refuse<R: Reply>(error: Error, region: u64, repeat: Repeat) -> R {
    match error {
        Error::Unknown(_) if repeat == Repeat::Differs => R::with_text(error.to_string()).with_doubt(),
        // Existing clients repeat it; nothing in the reply may look like an end.
        Error::Unknown(message) if repeat == Repeat::Found => {
            let stale_command = Some(errorpb::StaleCommand {});
            R::with_region_error(errorpb::Error { message, stale_command, ..errorpb::Error::default() })
        }
        Error::Invalid(_) => R::with_text(error.to_string()),
        // It is not known how much of a write was done.
        Error::Corruption(_) | Error::Io(_) => R::with_text(error.to_string()).with_doubt(),
        error => R::with_region_error(region_error(error, region)),
    }
}

/// Returns the reply to a command in a stream, where a status has no place.
pub fn streamed<R: Reply>(result: Result<R, Status>) -> R {
    result.unwrap_or_else(|status| {
        R::with_region_error(errorpb::Error {
            message: format!("{:?}: {}", status.code(), status.message()),
            ..errorpb::Error::default()
        })
    })
}

/// Returns `error` as a region error about `region`.
pub fn region_error(error: Error, region: u64) -> errorpb::Error {
    let mut out = errorpb::Error { message: error.to_string(), ..errorpb::Error::default() };
    match error {
        Error::NotLeader { group, leader } => {
            out.not_leader = Some(errorpb::NotLeader { region_id: group.0, leader });
        }
        Error::RegionNotFound(group) => {
            out.region_not_found = Some(errorpb::RegionNotFound { region_id: group.0 });
        }
        Error::EpochNotMatch(current_regions) => {
            out.epoch_not_match = Some(errorpb::EpochNotMatch { current_regions });
        }
        Error::KeyNotInRegion { key, region } => {
            out.key_not_in_region = Some(errorpb::KeyNotInRegion {
                key,
                region_id: region.id,
                start_key: region.start_key,
                end_key: region.end_key,
            });
        }
        Error::StoreNotMatch { asked, actual } => {
            out.store_not_match = Some(errorpb::StoreNotMatch { request_store_id: asked, actual_store_id: actual });
        }
        Error::PeerNotMatch { asked, actual } => {
            out.mismatch_peer_id = Some(errorpb::MismatchPeerId { request_peer_id: asked, store_peer_id: actual });
        }
        Error::StaleCommand => out.stale_command = Some(errorpb::StaleCommand {}),
        Error::EntryTooLarge { group, bytes } => {
            out.raft_entry_too_large = Some(errorpb::RaftEntryTooLarge { region_id: group.0, entry_size: bytes });
        }
        Error::Merging(group) => {
            out.proposal_in_merging_mode = Some(errorpb::ProposalInMergingMode { region_id: group.0 });
        }
        Error::NotReadable(group) => {
            let reason = "the region is being merged".to_owned();
            out.read_index_not_ready = Some(errorpb::ReadIndexNotReady { reason, region_id: group.0 });
        }
        Error::DataNotReady { group, peer, safe_ts } => {
            out.data_is_not_ready = Some(errorpb::DataIsNotReady { region_id: group.0, peer_id: peer, safe_ts });
        }
        Error::Busy(reason) => {
            out.server_is_busy =
                Some(errorpb::ServerIsBusy { reason, backoff_ms: BUSY_BACKOFF_MS, ..errorpb::ServerIsBusy::default() });
        }
        Error::DiskFull { store, reason } => {
            out.disk_full = Some(errorpb::DiskFull { store_id: vec![store], reason });
        }
        Error::Deadline(_) => {
            // TiKV's clients compare this string.
            let reason = "deadline is exceeded".to_owned();
            out.server_is_busy = Some(errorpb::ServerIsBusy { reason, ..errorpb::ServerIsBusy::default() });
        }
        Error::Timeout(_) | Error::Stopped(_) => {
            out.not_leader = Some(errorpb::NotLeader { region_id: region, leader: None });
        }
        Error::Unknown(message) => {
            out.stale_command = Some(errorpb::StaleCommand {});
            out.undetermined_result = Some(errorpb::UndeterminedResult { message });
        }
        Error::Invalid(_) | Error::Corruption(_) | Error::Io(_) => {}
    }
    out
}

/// How long an overloaded store asks clients to wait, in milliseconds.
const BUSY_BACKOFF_MS: u64 = 20;

#[cfg(test)]
mod tests {
    //! Goal: every error appears in exactly the place that clients act on. Method: one table, all errors by all kinds
    //! of reply.

    use super::*;
    use crate::proto::kvrpcpb::{RawBatchGetResponse, RawCasResponse, RawPutResponse, RawScanResponse};
    use crate::proto::metapb::{Peer, Region};
    use crate::types::GroupId;

    fn every() -> Vec<Error> {
        let region = Region { id: 5, start_key: "b".into(), end_key: "d".into(), ..Region::default() };
        vec![
            Error::NotLeader { group: GroupId(5), leader: Some(Peer { id: 8, store_id: 2, ..Peer::default() }) },
            Error::NotLeader { group: GroupId(5), leader: None },
            Error::RegionNotFound(GroupId(5)),
            Error::EpochNotMatch(vec![region.clone()]),
            Error::KeyNotInRegion { key: "a".into(), region: Box::new(region) },
            Error::StoreNotMatch { asked: 1, actual: 2 },
            Error::PeerNotMatch { asked: 7, actual: 8 },
            Error::StaleCommand,
            Error::Merging(GroupId(5)),
            Error::NotReadable(GroupId(5)),
            Error::DataNotReady { group: GroupId(5), peer: 7, safe_ts: 9 },
            Error::EntryTooLarge { group: GroupId(5), bytes: 9 << 20 },
            Error::Busy("full".into()),
            Error::Unknown("leader lost".into()),
            Error::Timeout("no quorum".into()),
            Error::Deadline("no quorum".into()),
            Error::Invalid("no such thing".into()),
            Error::Stopped("fsync failed".into()),
            Error::Corruption("bad tail".into()),
            Error::Io("disk gone".into()),
        ]
    }

    /// Formats the fields of a region error that are set.
    fn fields(error: &errorpb::Error) -> String {
        let mut set = Vec::new();
        if let Some(e) = &error.not_leader {
            set.push(format!("not_leader {} -> {:?}", e.region_id, e.leader.as_ref().map(|p| (p.id, p.store_id))));
        }
        if let Some(e) = &error.region_not_found {
            set.push(format!("region_not_found {}", e.region_id));
        }
        if let Some(e) = &error.key_not_in_region {
            set.push(format!(
                "key_not_in_region {:?} not in {} [{:?}, {:?})",
                e.key, e.region_id, e.start_key, e.end_key
            ));
        }
        if let Some(e) = &error.epoch_not_match {
            set.push(format!("epoch_not_match {:?}", e.current_regions.iter().map(|r| r.id).collect::<Vec<_>>()));
        }
        if let Some(e) = &error.server_is_busy {
            set.push(format!("server_is_busy {} {} ms", e.reason, e.backoff_ms));
        }
        if error.stale_command.is_some() {
            set.push("stale_command".into());
        }
        if let Some(e) = &error.store_not_match {
            set.push(format!("store_not_match {} {}", e.request_store_id, e.actual_store_id));
        }
        if let Some(e) = &error.mismatch_peer_id {
            set.push(format!("mismatch_peer_id {} {}", e.request_peer_id, e.store_peer_id));
        }
        if let Some(e) = &error.proposal_in_merging_mode {
            set.push(format!("proposal_in_merging_mode {}", e.region_id));
        }
        if let Some(e) = &error.read_index_not_ready {
            set.push(format!("read_index_not_ready {} {}", e.region_id, e.reason));
        }
        if let Some(e) = &error.data_is_not_ready {
            set.push(format!("data_is_not_ready {} {} {}", e.region_id, e.peer_id, e.safe_ts));
        }
        if let Some(e) = &error.raft_entry_too_large {
            set.push(format!("raft_entry_too_large {} {}", e.region_id, e.entry_size));
        }
        if let Some(e) = &error.undetermined_result {
            set.push(format!("undetermined_result {}", e.message));
        }
        assert!(!error.message.is_empty());
        set.join(" + ")
    }

    /// The places of a reply: region error, text, doubt.
    type Places<'a> = (Option<&'a errorpb::Error>, &'a str, bool);

    fn shown<R: Reply>(error: Error, repeat: Repeat, places: impl Fn(&R) -> Places<'_>) -> String {
        let reply = refuse::<R>(error, 5, repeat);
        assert!(reply.failure().is_some());
        match places(&reply) {
            (Some(error), "", false) => fields(error),
            (None, text, doubt) if !text.is_empty() => format!("text{}: {text}", if doubt { " + doubt" } else { "" }),
            other => panic!("expected either a region error or a text: {other:?}"),
        }
    }

    fn pair_text(pairs: &[KvPair]) -> &str {
        pairs.first().and_then(|pair| pair.error.as_ref()).map_or("", |error| error.abort.as_str())
    }

    #[test]
    fn each_error_is_where_clients_look() {
        let table: Vec<String> = every()
            .into_iter()
            .map(|error| {
                let write = shown::<RawPutResponse>(error.clone(), Repeat::Same, |r| {
                    (r.region_error.as_deref(), &r.error, r.outcome_unknown)
                });
                let swap = shown::<RawCasResponse>(error.clone(), Repeat::Differs, |r| {
                    (r.region_error.as_deref(), &r.error, r.outcome_unknown)
                });
                let scan = shown::<RawScanResponse>(error.clone(), Repeat::Read, |r| {
                    (r.region_error.as_deref(), pair_text(&r.kvs), false)
                });
                let batch = shown::<RawBatchGetResponse>(error, Repeat::Read, |r| {
                    (r.region_error.as_deref(), pair_text(&r.pairs), false)
                });
                assert_eq!(batch, scan);
                match (swap == write, scan == write) {
                    (true, true) => write,
                    (swap_same, scan_same) => {
                        let differs =
                            |same, name, what| if same { String::new() } else { format!(" | {name}: {what}") };
                        format!("{write}{}{}", differs(swap_same, "swap", swap), differs(scan_same, "scan", scan))
                    }
                }
            })
            .collect();
        let want = [
            "not_leader 5 -> Some((8, 2))",
            "not_leader 5 -> None",
            "region_not_found 5",
            "epoch_not_match [5]",
            r#"key_not_in_region b"a" not in 5 [b"b", b"d")"#,
            "store_not_match 1 2",
            "mismatch_peer_id 7 8",
            "stale_command",
            "proposal_in_merging_mode 5",
            "read_index_not_ready 5 the region is being merged",
            "data_is_not_ready 5 7 9",
            "raft_entry_too_large 5 9437184",
            "server_is_busy full 20 ms",
            "stale_command + undetermined_result leader lost | swap: text + doubt: outcome unknown: leader lost",
            "not_leader 5 -> None",
            "server_is_busy deadline is exceeded 0 ms",
            "text: no such thing",
            "not_leader 5 -> None",
            "text + doubt: corruption: bad tail | scan: text: corruption: bad tail",
            "text + doubt: disk gone | scan: text: disk gone",
        ];
        assert_eq!(table, want);
    }

    #[test]
    fn a_stream_has_no_status() {
        let reply: RawScanResponse = streamed(Err(Status::invalid_argument("limit")));
        let error = reply.region_error.unwrap();
        assert_eq!((fields(&error).as_str(), error.message.as_str()), ("", "InvalidArgument: limit"));
    }
}
