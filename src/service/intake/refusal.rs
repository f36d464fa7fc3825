//! Requests that were not taken in, and what their clients are told.

use crate::proto::tikvpb::NotTaken;
use crate::service::error::{Repeat, Reply, refuse};
use crate::types::limits::{REQUEST_BYTES_MAX, REQUESTS_BYTES_MAX};
use crate::types::{Error, GroupId};

/// Why a request was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It has so many bytes, which is over the limit.
    TooLarge { region: u64, bytes: u64 },
    /// The node had no room for it.
    Busy { region: u64 },
}

impl Refusal {
    /// What the note says that was left in the place of a command.
    pub(crate) fn of(note: &NotTaken) -> Refusal {
        match note.bytes {
            0 => Refusal::Busy { region: note.region_id },
            bytes => Refusal::TooLarge { region: note.region_id, bytes },
        }
    }

    /// The reply to a request of that kind.
    pub(crate) fn reply<R: Reply>(self, repeat: Repeat) -> R {
        match self {
            Refusal::TooLarge { region, bytes } if repeat == Repeat::Read => {
                let why = format!(
                    "a request of {bytes} bytes is over the limit of {REQUEST_BYTES_MAX}: ask for less at once"
                );
                refuse(Error::Invalid(why), region, repeat)
            }
            Refusal::TooLarge { region, bytes } => {
                refuse(Error::EntryTooLarge { group: GroupId(region), bytes }, region, repeat)
            }
            Refusal::Busy { region } => {
                let why = format!("requests under way hold {REQUESTS_BYTES_MAX} bytes of memory");
                refuse(Error::Busy(why), region, repeat)
            }
        }
    }
}
