//! What each failure looks like on the wire. Pure.
//!
//! A reply has up to three places for a failure, and clients act on each in their own way:
//!
//! | our error | in the reply | why |
//! |---|---|---|
//! | `NotLeader` | `not_leader` with the leader if known | with a hint clients go there at once, so the hint must be fresh |
//! | `RegionNotFound`, `EpochNotMatch`, `KeyNotInRegion`, `StoreNotMatch`, `StaleCommand` | the field of that name | clients refresh what they cached and try again |
//! | `EntryTooLarge` | `raft_entry_too_large` | clients give up and tell their caller |
//! | `Busy` | `server_is_busy` | client-rust does not retry it: real overload only |
//! | `Timeout`, `Stopped` | `not_leader` without a leader | nothing happened; every client asks PD and tries again, compare-and-swap too |
//! | `Unknown`, of a put or delete | `stale_command` and `undetermined_result` together | see below |
//! | `Unknown`, of a compare-and-swap | the `error` string | the only answer that no client retries |
//! | `Invalid` | the `error` string, or status INVALID_ARGUMENT where the reply has none | shown to the caller, not retried by clients that look |
//! | `Corruption`, `Io` | the `error` string, or status DATA_LOSS, INTERNAL | the same |
//!
//! **A write whose outcome is unknown.** Clients of TiKV repeat puts and deletes whenever a connection breaks, so to them a put
//! may happen twice; `stale_command` makes them do the same here, after asking PD. Whoever needs to know better (our own client,
//! the linearizability oracle) looks at `undetermined_result` first, and must not repeat the write under the same name. A
//! compare-and-swap must never be repeated blindly: the second run would report a failure that its own first run caused.
//!
//! In a `BatchCommands` stream there is no status for one command: there a status becomes a region error with nothing but its
//! message, which clients retry a few times and then show.

use tonic::{Code, Status};

use crate::proto::errorpb;
use crate::proto::kvrpcpb::{
    RawBatchDeleteResponse, RawBatchGetResponse, RawBatchPutResponse, RawBatchScanResponse, RawCasResponse,
    RawChecksumResponse, RawDeleteRangeResponse, RawDeleteResponse, RawGetKeyTtlResponse, RawGetResponse,
    RawPutResponse, RawScanResponse,
};
use crate::types::Error;

/// A reply that can carry a region error.
pub trait Reply: Default + Send + 'static {
    /// Sets the region error; nothing else is set then.
    fn with_region_error(error: errorpb::Error) -> Self;
    /// Sets the `error` string.
    ///
    /// # Errors
    /// The text, when this reply has no such field.
    fn with_text(text: String) -> Result<Self, String>;
    /// The failure in this reply, if there is one.
    fn failure(&self) -> Option<&str>;
}

macro_rules! replies {
    (with text: $($with:ty),+; without: $($without:ty),+) => {
        $(impl Reply for $with {
            fn with_region_error(error: errorpb::Error) -> Self {
                Self { region_error: Some(error), ..Self::default() }
            }
            fn with_text(text: String) -> Result<Self, String> {
                Ok(Self { error: text, ..Self::default() })
            }
            fn failure(&self) -> Option<&str> {
                match &self.region_error {
                    Some(error) => Some(&error.message),
                    None if !self.error.is_empty() => Some(&self.error),
                    None => None,
                }
            }
        })+
        $(impl Reply for $without {
            fn with_region_error(error: errorpb::Error) -> Self {
                Self { region_error: Some(error), ..Self::default() }
            }
            fn with_text(text: String) -> Result<Self, String> {
                Err(text)
            }
            fn failure(&self) -> Option<&str> {
                self.region_error.as_ref().map(|error| error.message.as_str())
            }
        })+
    };
}

replies! {
    with text: RawGetResponse, RawPutResponse, RawBatchPutResponse, RawDeleteResponse, RawBatchDeleteResponse,
        RawDeleteRangeResponse, RawGetKeyTtlResponse, RawCasResponse, RawChecksumResponse;
    without: RawBatchGetResponse, RawScanResponse, RawBatchScanResponse
}

/// What repeating a request would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// It only reads.
    Read,
    /// It writes, and writing the same again leaves the same.
    Same,
    /// Its answer would change: compare-and-swap.
    Differs,
}

/// The reply, or the status, that tells a client about `error`.
///
/// # Errors
/// The status, for failures that the reply has no place for.
pub fn refuse<R: Reply>(error: Error, region: u64, repeat: Repeat) -> Result<R, Status> {
    match error {
        Error::Unknown(_) if repeat == Repeat::Differs => text(error),
        Error::Invalid(_) | Error::Corruption(_) | Error::Io(_) => text(error),
        error => Ok(R::with_region_error(region_error(error, region))),
    }
}

fn text<R: Reply>(error: Error) -> Result<R, Status> {
    let status = status(&error);
    R::with_text(error.to_string()).map_err(|_| status)
}

/// The reply of a command in a stream, where a status has no place.
pub fn streamed<R: Reply>(result: Result<R, Status>) -> R {
    result.unwrap_or_else(|status| {
        R::with_region_error(errorpb::Error {
            message: format!("{:?}: {}", status.code(), status.message()),
            ..errorpb::Error::default()
        })
    })
}

/// `error` as a region error about `region`.
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
        Error::StaleCommand => out.stale_command = Some(errorpb::StaleCommand {}),
        Error::EntryTooLarge { group, bytes } => {
            out.raft_entry_too_large = Some(errorpb::RaftEntryTooLarge { region_id: group.0, entry_size: bytes });
        }
        Error::Busy(reason) => {
            out.server_is_busy =
                Some(errorpb::ServerIsBusy { reason, backoff_ms: BUSY_BACKOFF_MS, ..errorpb::ServerIsBusy::default() });
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

/// `error` as a gRPC status: for services without region errors (PD, cluster), and for replies without a place for text.
pub fn status(error: &Error) -> Status {
    let code = match error {
        // PD's clients look for this text.
        Error::NotLeader { .. } => return Status::unavailable("not leader"),
        Error::RegionNotFound(_) | Error::Stopped(_) | Error::StaleCommand | Error::Timeout(_) => Code::Unavailable,
        Error::EpochNotMatch(_) | Error::StoreNotMatch { .. } => Code::FailedPrecondition,
        Error::KeyNotInRegion { .. } => Code::OutOfRange,
        Error::EntryTooLarge { .. } | Error::Busy(_) => Code::ResourceExhausted,
        Error::Unknown(_) => Code::Unknown,
        Error::Invalid(_) => Code::InvalidArgument,
        Error::Corruption(_) => Code::DataLoss,
        Error::Io(_) => Code::Internal,
    };
    Status::new(code, error.to_string())
}
