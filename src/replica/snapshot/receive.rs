//! Receiving a snapshot: chunks are verified and written into files as they arrive.

use armilla_arch::sync::Share;

use crate::engine::{Cf, Engine, KvEngine, Stager as _};
use crate::proto::armilla::raft::SnapshotChunk;
use crate::types::limits::SNAPSHOT_CHUNK_BYTES_MAX;
use crate::types::{Error, Result};

use super::{bytes, checksum};

/// A snapshot that arrived completely. Dropping it removes its files, which may block.
#[derive(Debug)]
pub struct Arrived<E: KvEngine = Engine> {
    /// The files with its pairs.
    pub files: E::Staged,
    /// Its slot among the snapshots that the store receives.
    _slot: Share,
}

/// A snapshot that is being received. Its methods block.
pub struct Receiving<E: KvEngine = Engine> {
    stager: E::Stager,
    slot: Share,
    crc: u32,
    whole: bool,
}

impl<E: KvEngine> Receiving<E> {
    /// Begins to receive a snapshot.
    ///
    /// # Errors
    /// If the engine cannot create the files.
    pub fn new(engine: &E, slot: Share) -> Result<Receiving<E>> {
        Ok(Receiving { stager: engine.stager()?, slot, crc: 0, whole: false })
    }

    /// Verifies the next chunk and writes it.
    ///
    /// # Errors
    /// [`Error::Corruption`] if the chunk is not what was sent, [`Error::Invalid`] if it is too large or its keys are
    /// not in order, [`Error::Io`] if it cannot be written.
    pub fn take(&mut self, chunk: &SnapshotChunk) -> Result<()> {
        let bytes = bytes(&chunk.pairs);
        if bytes > SNAPSHOT_CHUNK_BYTES_MAX {
            return Err(Error::Invalid(format!(
                "a snapshot chunk of {bytes} bytes is over the limit of {SNAPSHOT_CHUNK_BYTES_MAX} bytes"
            )));
        }
        self.crc = checksum(self.crc, &chunk.pairs);
        if self.crc != chunk.crc {
            return Err(Error::Corruption("a snapshot chunk does not match its checksum".into()));
        }
        for pair in &chunk.pairs {
            let cf = Cf::from_number(pair.cf).ok_or_else(|| {
                Error::Corruption(format!("a snapshot chunk has a pair of the unknown column family {}", pair.cf))
            })?;
            let put = self.stager.put(cf, &pair.key, &pair.value);
            if !crate::mutant!("replica.snapshot-with-a-hole") {
                put?;
            }
        }
        self.whole |= chunk.last;
        Ok(())
    }

    /// Completes the snapshot. Its files are durable when this returns.
    ///
    /// # Errors
    /// [`Error::Corruption`] if the stream ended early, [`Error::Io`] if the files cannot be written.
    pub fn finish(self) -> Result<Arrived<E>> {
        if !self.whole {
            return Err(Error::Corruption("a snapshot stream ended early".into()));
        }
        Ok(Arrived { files: self.stager.finish()?, _slot: self.slot })
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a complete snapshot is what was sent; anything else is refused, and its files and its slot are released.
    //! Method: hand-made chunks, received into the simulator's engine.

    use armilla_arch::sync::Budget;

    use super::*;
    use crate::engine::{Read as _, SimEngine, SimStorage, WriteBatch};
    use crate::proto::armilla::raft::CfPair;

    struct Scene {
        home: SimStorage,
        engine: SimEngine,
        slots: Budget,
    }

    impl Scene {
        fn new() -> Scene {
            let home = SimStorage::new();
            let engine = SimEngine::open(&home).unwrap();
            Scene { home, engine, slots: Budget::new(1) }
        }

        /// Receives chunks up to the first one that is refused.
        fn receive(&self, chunks: &[SnapshotChunk]) -> Result<Arrived<SimEngine>> {
            let mut receiving = Receiving::new(&self.engine, self.slots.take(1).expect("the slot is free"))?;
            chunks.iter().try_for_each(|chunk| receiving.take(chunk))?;
            receiving.finish()
        }

        fn is_clean(&self) -> bool {
            self.home.staged() == 0 && self.slots.taken() == 0
        }
    }

    fn pair(cf: u32, key: &'static str) -> CfPair {
        CfPair { cf, key: key.into(), value: "v".into() }
    }

    /// Returns a stream of chunks with these pairs.
    fn chunks(pairs: &[&[CfPair]]) -> Vec<SnapshotChunk> {
        let mut crc = 0;
        let mut chunk = |pairs: &&[CfPair]| {
            crc = checksum(crc, pairs);
            SnapshotChunk { pairs: pairs.to_vec(), crc, ..SnapshotChunk::default() }
        };
        let mut chunks: Vec<SnapshotChunk> = pairs.iter().map(&mut chunk).collect();
        chunks.last_mut().expect("a chunk").last = true;
        chunks
    }

    #[test]
    fn a_whole_snapshot_is_what_was_sent() {
        let scene = Scene::new();
        let (default, write) = (Cf::RawDefault as u32, Cf::RawWrite as u32);
        let sent =
            chunks(&[&[], &[pair(default, "a"), pair(default, "b")], &[pair(default, "c")], &[pair(write, "a")]]);
        let arrived = scene.receive(&sent).unwrap();
        assert!(scene.slots.taken() == 1 && scene.engine.get(Cf::RawDefault, b"a").unwrap().is_none());
        assert!(scene.engine.ingest(&[], &arrived.files, &WriteBatch::new()).unwrap());
        let there = |cf, key: &str| scene.engine.get(cf, key.as_bytes()).unwrap().is_some();
        assert!(["a", "b", "c"].iter().all(|key| there(Cf::RawDefault, key)) && there(Cf::RawWrite, "a"));
        drop(arrived);
        assert!(scene.is_clean());
    }

    #[test]
    fn what_is_not_whole_is_refused() {
        let scene = Scene::new();
        let default = Cf::RawDefault as u32;
        let good = chunks(&[&[pair(default, "a")], &[pair(default, "b")]]);
        let large = CfPair { value: vec![0; SNAPSHOT_CHUNK_BYTES_MAX + 1].into(), ..pair(default, "a") };
        let mut changed = good.clone();
        changed[1].pairs[0].key = "c".into();
        let corrupt = [good[..1].to_vec(), good[1..].to_vec(), changed, chunks(&[&[pair(99, "a")]])];
        for chunks in corrupt {
            assert!(matches!(scene.receive(&chunks), Err(Error::Corruption(_))), "{chunks:?}");
            assert!(scene.is_clean());
        }
        for chunks in [chunks(&[&[large]]), chunks(&[&[pair(default, "b"), pair(default, "a")]])] {
            assert!(matches!(scene.receive(&chunks), Err(Error::Invalid(_))));
            assert!(scene.is_clean());
        }
    }
}
