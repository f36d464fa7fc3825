//! Snapshots: a group's state, streamed to a replica that fell behind the truncated log.
//!
//! The sender freezes the engine when raft emits the message, then streams the group's ranges in chunks with a running
//! checksum. The receiver gathers them, hands all to its driver, and only if raft takes the message are they installed:
//! one write batch (old keys out, new ones in, the group's state), a flush, and then the log starts over behind it.

use bytes::Bytes;
use prost::Message as _;
use protobuf::Message as _;
use raft::eraftpb::{HardState, Message, Snapshot};

use crate::engine::{Cf, Engine, KvEngine, Read, Visit, WriteBatch};
use crate::proto::armilla::raft::transport_client::TransportClient;
use crate::proto::armilla::raft::{CfPair, GroupState, SnapshotChunk, SnapshotHead};
use crate::raft::machine::CfRange;
use crate::rt::net::Channel;
use crate::rt::probe::{self, Event as Probe};
use crate::rt::sync::mpsc;
use crate::rt::{cpu, task};
use crate::types::limits::{MESSAGE_BYTES_MAX, SNAPSHOT_BYTES_MAX};
use crate::types::{Error, GroupId, Result};

use super::apply::state_key;
use super::driver::Driver;

/// A pair of a snapshot.
pub type Pair = (Cf, Bytes, Bytes);

/// The running checksum of a snapshot's stream.
pub fn checksum(crc: u32, pairs: &[CfPair]) -> u32 {
    pairs.iter().fold(crc, |crc, pair| {
        let crc = crate::arch::crc32c_append(crc, &pair.cf.to_be_bytes());
        let crc = crate::arch::crc32c_append(crc, &(pair.key.len() as u32).to_be_bytes());
        crate::arch::crc32c_append(crate::arch::crc32c_append(crc, &pair.key), &pair.value)
    })
}

/// Streams a snapshot to another store.
///
/// # Errors
/// When the connection breaks or the receiver refuses it.
pub async fn send(
    channel: Channel,
    head: SnapshotHead,
    snapshot: <Engine as KvEngine>::Snapshot,
    ranges: Vec<CfRange>,
    chunk_bytes: usize,
) -> Result<()> {
    let (chunks, stream) = mpsc::channel(4);
    let reader = task::spawn(async move { read(snapshot, ranges, chunk_bytes, head, chunks).await });
    let mut client = TransportClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let stream = futures::stream::unfold(stream, |mut stream| async move { Some((stream.recv().await?, stream)) });
    let sent = client.snapshot(stream).await;
    reader.abort();
    sent.map(|_| ()).map_err(|status| Error::Io(format!("snapshot: {status}")))
}

async fn read(
    mut snapshot: <Engine as KvEngine>::Snapshot,
    ranges: Vec<CfRange>,
    chunk_bytes: usize,
    head: SnapshotHead,
    chunks: mpsc::Sender<SnapshotChunk>,
) -> Result<()> {
    let mut head = Some(head);
    let mut crc = 0;
    for range in ranges {
        let mut cursor = range.start.clone();
        loop {
            let (cf, end) = (range.cf, range.end.clone());
            let (back, page) = cpu::run(move || {
                let page = page(&snapshot, cf, &cursor, &end, chunk_bytes);
                (snapshot, page)
            })
            .await;
            snapshot = back;
            let (pairs, next) = page?;
            crc = checksum(crc, &pairs);
            let chunk = SnapshotChunk { head: head.take(), pairs, last: false, crc };
            if chunks.send(chunk).await.is_err() {
                return Ok(());
            }
            match next {
                Some(key) => cursor = key,
                None => break,
            }
        }
    }
    let _ = chunks.send(SnapshotChunk { head: head.take(), pairs: Vec::new(), last: true, crc }).await;
    Ok(())
}

/// One chunk's pairs from `start` on, and where the next chunk begins.
fn page(read: &dyn Read, cf: Cf, start: &[u8], end: &[u8], bytes_max: usize) -> Result<(Vec<CfPair>, Option<Bytes>)> {
    let mut pairs = Vec::new();
    let mut bytes = 0;
    let mut next = None;
    read.scan(cf, start, end, &mut |key, value| {
        if bytes >= bytes_max {
            next = Some(Bytes::copy_from_slice(key));
            return Visit::Stop;
        }
        bytes += key.len() + value.len();
        pairs.push(CfPair { cf: cf as u32, key: Bytes::copy_from_slice(key), value: Bytes::copy_from_slice(value) });
        Visit::More
    })?;
    Ok((pairs, next))
}

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
    /// [`Error::Corruption`] if the stream ended early or its head does not decode.
    pub fn finish(mut self) -> Result<(SnapshotHead, Message, Vec<Pair>)> {
        let head = self.head.take().filter(|_| self.whole);
        let head = head.ok_or_else(|| Error::Corruption("a snapshot's stream ended early".into()))?;
        let message = Message::parse_from_carllerche_bytes(&head.message)
            .map_err(|e| Error::Corruption(format!("a snapshot's message does not decode: {e}")))?;
        if crate::mutant!("replica.snapshot-missing-tail") {
            self.pairs.pop();
        }
        Ok((head, message, self.pairs))
    }
}

impl Driver {
    /// A snapshot has arrived whole: raft decides whether it is wanted.
    pub(super) async fn receive_snapshot(&mut self, group: GroupId, message: Message, pairs: Vec<Pair>) -> Result<()> {
        let now = self.clock.now().0;
        let Some(peer) = self.peers.get_mut(&group) else { return Ok(()) };
        // Taken by `install_snapshot` in this very round, or not at all.
        peer.arrived = Some(pairs);
        peer.group.step(message, now);
        self.touch(group);
        self.round().await?;
        if let Some(peer) = self.peers.get_mut(&group) {
            peer.arrived = None;
        }
        Ok(())
    }

    /// Replaces the group's state. The log starts over only after the engine is durable.
    pub(super) async fn install_snapshot(&mut self, group: GroupId, snapshot: &Snapshot) -> Result<()> {
        let store = self.store;
        let metadata = snapshot.get_metadata();
        let (index, term) = (metadata.index, metadata.term);
        let mut state = GroupState::decode(snapshot.data.clone())
            .map_err(|e| Error::Corruption(format!("group {group}: a snapshot's state does not decode: {e}")))?;
        let peer = self.peers.get_mut(&group).expect("raft took a snapshot for it");
        let pairs = peer.arrived.take().expect("raft takes a snapshot only when its data is here");
        let region = state.region.clone().ok_or_else(|| Error::Corruption("a snapshot without a descriptor".into()))?;
        state.peer_id = peer.group.peer();
        state.applied_index = index;
        state.applied_term = term;
        state.installed_index = index;
        state.conf_state = metadata.get_conf_state().write_to_bytes().expect("a conf state encodes").into();

        let mut batch = WriteBatch::new();
        if !crate::mutant!("replica.snapshot-keeps-old-keys") {
            for range in peer.machine.ranges(&peer.region).into_iter().chain(peer.machine.ranges(&region)) {
                batch.delete_range(range.cf, range.start, range.end);
            }
        }
        for (cf, key, value) in pairs {
            batch.put(cf, key, value);
        }
        batch.put(Cf::Meta, state_key(group), state.encode_to_vec());
        peer.region = region.clone();
        peer.view.set_region(region.clone());
        let engine = self.engine.clone();
        let flush = !crate::mutant!("replica.snapshot-not-flushed");
        cpu::run_long(move || {
            engine.write(&batch)?;
            // The engine has it twice by now.
            drop(batch);
            if flush { engine.flush() } else { Ok(()) }
        })
        .await?;
        let peer = self.peers.get_mut(&group).expect("just seen");
        peer.machine.reload(&region, &self.engine)?;
        peer.durable = index;
        peer.snapshot_index = index;
        peer.view.set_applied(index);
        let encoded = peer.encode_state(index, term);
        // Raft may hear of it only when the log has started over, too.
        peer.installed = Some((index, term, encoded));
        self.batch.reset(group, index, term);
        let mut hard_state = HardState::default();
        hard_state.term = peer.group.term();
        hard_state.vote = peer.group.vote();
        hard_state.commit = index;
        self.batch.hard_state(group, &hard_state);
        let id = peer.group.peer();
        tracing::info!(store, %group, index, "a snapshot is installed");
        probe::emit(|| Probe::Snapshot { store, group: group.0, peer: id, index, term });
        Ok(())
    }
}
