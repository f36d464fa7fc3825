//! Receiving a snapshot: chunks are checked and written into files as they come.

use armilla_arch::sync::Share;

use crate::engine::{Cf, Engine, KvEngine, Stager as _};
use crate::proto::armilla::raft::SnapshotChunk;
use crate::types::limits::SNAPSHOT_CHUNK_BYTES_MAX;
use crate::types::{Error, Result};

use super::{bytes, checksum};

/// A snapshot that arrived whole. Dropped, its files are removed, which may block.
#[derive(Debug)]
pub struct Arrived {
    /// Its pairs.
    pub files: <Engine as KvEngine>::Staged,
    /// Its place among the snapshots that the store takes in.
    _place: Share,
}

/// A snapshot on its way in. Its methods block.
pub struct Receiving {
    stager: <Engine as KvEngine>::Stager,
    place: Share,
    crc: u32,
    whole: bool,
}

impl Receiving {
    /// Nothing has arrived yet.
    ///
    /// # Errors
    /// When the engine has no room for files.
    pub fn new(engine: &Engine, place: Share) -> Result<Receiving> {
        Ok(Receiving { stager: engine.stager()?, place, crc: 0, whole: false })
    }

    /// Takes the next chunk.
    ///
    /// # Errors
    /// [`Error::Corruption`] if the stream is not what was sent, [`Error::Invalid`] if the chunk is too large or its keys are not in
    /// order, [`Error::Io`] if it cannot be written.
    pub fn take(&mut self, chunk: &SnapshotChunk) -> Result<()> {
        let bytes = bytes(&chunk.pairs);
        if bytes > SNAPSHOT_CHUNK_BYTES_MAX {
            return Err(Error::Invalid(format!(
                "a snapshot's chunk has {bytes} bytes, at most {SNAPSHOT_CHUNK_BYTES_MAX}"
            )));
        }
        self.crc = checksum(self.crc, &chunk.pairs);
        if self.crc != chunk.crc {
            return Err(Error::Corruption("a snapshot's chunk does not have the checksum it was sent with".into()));
        }
        for pair in &chunk.pairs {
            let cf = Cf::from_number(pair.cf).ok_or_else(|| {
                Error::Corruption(format!("a snapshot's pair is of the unknown column family {}", pair.cf))
            })?;
            self.stager.put(cf, &pair.key, &pair.value)?;
        }
        self.whole |= chunk.last;
        Ok(())
    }

    /// The whole snapshot, in files that are durable.
    ///
    /// # Errors
    /// [`Error::Corruption`] if the stream ended early, [`Error::Io`] if the files cannot be written.
    pub fn finish(self) -> Result<Arrived> {
        if !self.whole {
            return Err(Error::Corruption("a snapshot's stream ended early".into()));
        }
        Ok(Arrived { files: self.stager.finish()?, _place: self.place })
    }
}
