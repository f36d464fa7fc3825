//! The pairs of a scan's reply, with the bytes of all keys and values in one buffer: a scan of many small pairs
//! allocates little.
//!
//! **In** come encoded keys and values where the engine has them; **out** go pairs for the reply. **Never**: a reply
//! over the limit of its bytes.

use bytes::{Bytes, BytesMut};

use crate::codec::txn_key;
use crate::proto::kvrpcpb::{KeyError, KvPair};
use crate::types::limits::REPLY_BYTES_MAX;
use crate::types::{Error, Result};

/// What a pair takes beside its key and value, in bytes.
const PAIR_BYTES: usize = 32;

/// Pairs for a reply.
#[derive(Debug, Default)]
pub struct Page {
    data: BytesMut,
    parts: Vec<Part>,
}

#[derive(Debug)]
enum Part {
    Pair { key: u32, value: u32, commit: u64 },
    Failed(Box<KeyError>),
}

impl Page {
    /// Returns the number of pairs.
    pub fn count(&self) -> usize {
        self.parts.len()
    }

    /// Returns what the pairs take in a reply, in bytes.
    fn bytes(&self) -> usize {
        self.data.len() + self.parts.len() * PAIR_BYTES
    }

    /// Adds a key, given in its encoded form, with its value and its commit timestamp, 0 if that is not wanted.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the reply would be too long, [`Error::Corruption`] if the key cannot be decoded.
    pub fn add(&mut self, encoded: &[u8], value: &[u8], commit: u64) -> Result<()> {
        let before = self.bytes();
        // One growth at most.
        self.data.reserve(encoded.len() + value.len());
        let start = self.data.len();
        txn_key::decode_into(&mut self.data, encoded)?;
        let key = self.data.len() - start;
        check_room(before, key + value.len())?;
        self.data.extend_from_slice(value);
        self.parts.push(Part::Pair { key: key as u32, value: value.len() as u32, commit });
        Ok(())
    }

    /// Adds an error in place of a pair.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the reply would be too long.
    pub fn fail(&mut self, error: KeyError) -> Result<()> {
        check_room(self.bytes(), 0)?;
        self.parts.push(Part::Failed(Box::new(error)));
        Ok(())
    }

    /// Returns the pairs.
    pub fn into_pairs(self) -> Vec<KvPair> {
        let mut data: Bytes = self.data.freeze();
        let pair = |part: Part| match part {
            Part::Pair { key, value, commit } => KvPair {
                key: data.split_to(key as usize),
                value: data.split_to(value as usize),
                commit_ts: commit,
                ..KvPair::default()
            },
            Part::Failed(error) => failed(*error),
        };
        self.parts.into_iter().map(pair).collect()
    }
}

/// Returns a pair that has only an error.
pub fn failed(error: KeyError) -> KvPair {
    KvPair { error: Some(Box::new(error)), ..KvPair::default() }
}

/// Checks that a pair of `bytes` bytes fits a reply that has this many already. Returns what it takes.
///
/// # Errors
/// [`Error::Invalid`].
pub fn check_room(already: usize, bytes: usize) -> Result<usize> {
    let more = bytes + PAIR_BYTES;
    if already + more > REPLY_BYTES_MAX {
        return Err(Error::Invalid(format!(
            "the response would be over the limit of {REPLY_BYTES_MAX} bytes: ask for fewer keys at a time"
        )));
    }
    Ok(more)
}
