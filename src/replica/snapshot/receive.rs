//! Receiving a snapshot.

use crate::engine::Cf;
use crate::proto::armilla::raft::{SnapshotChunk, SnapshotHead};
use crate::types::limits::SNAPSHOT_BYTES_MAX;
use crate::types::{Error, Result};

use super::{Pair, checksum};

/// Gathers a stream of chunks and checks it.
#[derive(Debug, Default)]
pub struct Gathering {
    head: Option<SnapshotHead>,
    pairs: Vec<Pair>,
    bytes: usize,
    crc: u32,
    whole: bool,
}

impl Gathering {
    /// Takes the next chunk.
    ///
    /// # Errors
    /// [`Error::Corruption`] if the stream is not what was sent, [`Error::Busy`] if it is too large.
    pub fn take(&mut self, chunk: SnapshotChunk) -> Result<()> {
        if let Some(head) = chunk.head {
            self.head = Some(head);
        }
        self.crc = checksum(self.crc, &chunk.pairs);
        if self.crc != chunk.crc {
            return Err(Error::Corruption("a snapshot's chunk does not have the checksum it was sent with".into()));
        }
        for pair in chunk.pairs {
            let cf = Cf::from_number(pair.cf).ok_or_else(|| {
                Error::Corruption(format!("a snapshot's pair is of the unknown column family {}", pair.cf))
            })?;
            self.bytes += pair.key.len() + pair.value.len();
            self.pairs.push((cf, pair.key, pair.value));
        }
        if self.bytes > SNAPSHOT_BYTES_MAX {
            return Err(Error::Busy(format!("a snapshot of over {SNAPSHOT_BYTES_MAX} bytes does not fit in memory")));
        }
        self.whole |= chunk.last;
        Ok(())
    }

    /// The whole snapshot.
    ///
    /// # Errors
    /// [`Error::Corruption`] if the stream ended early.
    pub fn finish(mut self) -> Result<(SnapshotHead, Vec<Pair>)> {
        let head = self.head.take().filter(|_| self.whole);
        let head = head.ok_or_else(|| Error::Corruption("a snapshot's stream ended early".into()))?;
        if crate::mutant!("replica.snapshot-missing-tail") {
            self.pairs.pop();
        }
        Ok((head, self.pairs))
    }
}
