//! Which keys a client uses, and the forms that they have on their way.
//!
//! ```text
//!   own     as the client's user writes them
//!   wire    as they are in requests and replies: with the prefix of the keyspace
//!   routed  as the placement driver knows them: encoded, but for raw keys of API V1
//! ```

use bytes::Bytes;

use crate::codec;
use crate::codec::keyspace::{self, Mode, PREFIX_BYTES, Prefix};
use crate::proto::kvrpcpb::ApiVersion;
use crate::types::Api;

use super::error::{Error, Result};

/// The keys of a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Space {
    /// All keys of a cluster with API V1.
    #[default]
    V1,
    /// All keys of a cluster with API V2, with the prefixes of their keyspaces: for nodes.
    V2,
    /// The keys of the keyspace with this ID, without its prefix.
    Keyspace(u32),
}

impl Space {
    /// Returns all keys of a cluster with this API version.
    pub fn whole(api: Api) -> Space {
        match api {
            Api::V1 => Space::V1,
            Api::V2 => Space::V2,
        }
    }

    /// Returns the API version.
    pub fn api(self) -> Api {
        if self == Space::V1 { Api::V1 } else { Api::V2 }
    }

    /// Returns the API version as requests carry it.
    pub fn api_version(self) -> i32 {
        match self.api() {
            Api::V1 => ApiVersion::V1 as i32,
            Api::V2 => ApiVersion::V2 as i32,
        }
    }

    /// Returns a key in wire form.
    pub fn wire(self, mode: Mode, key: &Bytes) -> Bytes {
        match self {
            Space::V1 | Space::V2 => key.clone(),
            Space::Keyspace(keyspace) => Prefix { mode, keyspace }.on(key),
        }
    }

    /// Returns the upper end of a range in wire form; `None` if it is plus infinity.
    pub fn wire_end(self, mode: Mode, end: &Bytes) -> Option<Bytes> {
        match self {
            Space::Keyspace(keyspace) if end.is_empty() => {
                Some(Bytes::copy_from_slice(&Prefix { mode, keyspace }.end()))
            }
            _ if end.is_empty() => None,
            space => Some(space.wire(mode, end)),
        }
    }

    /// Returns a key in wire form as the client's user knows it. A key of another keyspace keeps its prefix.
    pub fn own(self, wire: Bytes) -> Bytes {
        match self {
            Space::Keyspace(own) if Prefix::of(&wire).is_some_and(|prefix| prefix.keyspace == own) => {
                wire.slice(PREFIX_BYTES..)
            }
            _ => wire,
        }
    }

    /// Returns the routed form of a raw key in wire form.
    pub(super) fn routed(self, wire: &Bytes) -> Bytes {
        keyspace::stored(self.api(), wire.clone())
    }

    /// Returns the wire form of a routed raw key.
    ///
    /// # Errors
    /// [`Error::Refused`] if it is not the routed form of any key.
    pub(super) fn unrouted(self, routed: &Bytes) -> Result<Bytes> {
        match self.api() {
            Api::V1 => Ok(routed.clone()),
            Api::V2 => codec::bytes::decode(routed).map_err(|error| Error::Refused(format!("a boundary: {error}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: keys come back as they were written, and stay inside the keyspace. Method: examples of each space.
    use super::*;

    #[test]
    fn keys_come_back_as_they_were_written() {
        let key = Bytes::from_static(b"k");
        for space in [Space::V1, Space::V2, Space::Keyspace(7)] {
            for mode in [Mode::Raw, Mode::Txn] {
                let wire = space.wire(mode, &key);
                assert_eq!(space.unrouted(&space.routed(&wire)).unwrap(), wire);
                assert_eq!(space.own(wire), key);
            }
        }
        assert_eq!(Space::Keyspace(7).wire(Mode::Raw, &key), &b"r\0\0\x07k"[..]);
        assert_eq!(Space::Keyspace(7).wire_end(Mode::Txn, &Bytes::new()).unwrap(), &b"x\0\0\x08"[..]);
        assert_eq!(Space::Keyspace(7).wire_end(Mode::Txn, &key).unwrap(), &b"x\0\0\x07k"[..]);
        assert_eq!(Space::V1.wire_end(Mode::Raw, &Bytes::new()), None);
        assert_eq!((Space::V1.api_version(), Space::V2.api_version(), Space::Keyspace(0).api_version()), (0, 2, 2));
    }
}
