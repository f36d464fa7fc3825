//! Requests that were refused while they arrived, and the replies to them.

use crate::proto::tikvpb::NotTaken;
use crate::service::error::{Repeat, Reply, refuse};
use crate::types::limits::{REQUEST_BYTES_MAX, REQUESTS_BYTES_MAX};
use crate::types::{Error, GroupId};

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The request has `bytes` bytes, which is over the limit.
    TooLarge { region: u64, bytes: u64 },
    /// The node had no room for the request.
    Busy { region: u64 },
}

impl Refusal {
    /// Returns the refusal that a note in place of a command describes.
    pub(crate) fn of(note: &NotTaken) -> Refusal {
        match note.bytes {
            0 => Refusal::Busy { region: note.region_id },
            bytes => Refusal::TooLarge { region: note.region_id, bytes },
        }
    }

    /// Returns the reply to a request of this kind.
    pub(crate) fn reply<R: Reply>(self, repeat: Repeat) -> R {
        match self {
            Refusal::TooLarge { region, bytes } if repeat == Repeat::Read => {
                let why =
                    format!("a request of {bytes} bytes is over the limit of {REQUEST_BYTES_MAX}: split the request");
                refuse(Error::Invalid(why), region, repeat)
            }
            Refusal::TooLarge { region, bytes } => {
                refuse(Error::EntryTooLarge { group: GroupId(region), bytes }, region, repeat)
            }
            Refusal::Busy { region } => {
                let why = format!("requests in progress use {REQUESTS_BYTES_MAX} bytes of memory");
                refuse(Error::Busy(why), region, repeat)
            }
        }
    }
}
