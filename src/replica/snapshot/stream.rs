//! Sending a snapshot.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;

use crate::engine::{Cf, Engine, KvEngine, Read, Visit};
use crate::proto::armilla::raft::transport_client::TransportClient;
use crate::proto::armilla::raft::{CfPair, SnapshotChunk, SnapshotHead};
use crate::raft::machine::CfRange;
use crate::rt::clock::{Clock, Instant};
use crate::rt::net::Channel;
use crate::rt::sync::mpsc;
use crate::rt::{cpu, task};
use crate::types::limits::{MESSAGE_BYTES_MAX, SNAPSHOT_STILL_MAX};
use crate::types::{Error, Result};

use super::{Counts, Traffic, bytes, checksum};

/// A snapshot that is being sent.
pub struct Outgoing {
    /// The head, which is sent in the first chunk.
    pub head: SnapshotHead,
    /// The engine at the time of the snapshot.
    pub frozen: <Engine as KvEngine>::Snapshot,
    /// The ranges of keys to send.
    pub ranges: Vec<CfRange>,
    /// Maximum bytes of pairs in one chunk, not counting the last pair.
    pub chunk_bytes: usize,
    /// The rate limit, which all snapshots share.
    pub traffic: Traffic,
    /// Counters of the bytes sent.
    pub counts: Arc<Counts>,
    /// The node's clock.
    pub clock: Clock,
}

impl Outgoing {
    /// Streams the snapshot to another store.
    ///
    /// # Errors
    /// [`Error::Busy`] if the receiver has no free slot; [`Error::Io`] if the connection breaks, the receiver refuses
    /// the snapshot for another reason, or nothing is transferred for [`SNAPSHOT_STILL_MAX`].
    pub async fn send(self, channel: Channel) -> Result<()> {
        let (chunks, stream) = mpsc::channel(1);
        let clock = self.clock.clone();
        let moved = Arc::new(Moved(AtomicU64::new(clock.now().0)));
        let reader = task::spawn(self.read(chunks, moved.clone()));
        let mut client = TransportClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let stream = futures::stream::unfold(stream, |mut stream| async move { Some((stream.recv().await?, stream)) });
        let sent = crate::rt_select! {
            sent = client.snapshot(stream) => sent.map(|_| ()).map_err(|status| match status.code() {
                tonic::Code::ResourceExhausted => Error::Busy(status.message().into()),
                _ => Error::Io(format!("snapshot: {status}")),
            }),
            () = moved.stands_still(&clock) => {
                Err(Error::Io(format!("a snapshot stream made no progress for {} s", SNAPSHOT_STILL_MAX.as_secs())))
            }
        };
        reader.abort();
        sent
    }

    async fn read(self, chunks: mpsc::Sender<SnapshotChunk>, moved: Arc<Moved>) {
        // The receiver does not accept a snapshot without its last chunk.
        if let Err(error) = self.read_ranges(chunks, moved).await {
            tracing::error!(%error, "cannot read a snapshot from the engine");
        }
    }

    async fn read_ranges(self, chunks: mpsc::Sender<SnapshotChunk>, moved: Arc<Moved>) -> Result<()> {
        let Outgoing { head, mut frozen, ranges, chunk_bytes, traffic, counts, clock } = self;
        // The head is sent alone, so that nothing is read for a snapshot that is refused.
        let mut next = SnapshotChunk { head: Some(head), ..SnapshotChunk::default() };
        for range in ranges {
            let mut cursor = Some(range.start.clone());
            while let Some(start) = cursor {
                let sent = bytes(&next.pairs);
                let crc = next.crc;
                traffic.pass(sent).await;
                if chunks.send(next).await.is_err() {
                    return Ok(());
                }
                moved.note(clock.now());
                counts.count_bytes(sent);
                let (cf, end) = (range.cf, range.end.clone());
                let (back, page) = cpu::run(move || {
                    let page = page(&frozen, cf, &start, &end, chunk_bytes);
                    (frozen, page)
                })
                .await;
                frozen = back;
                let (mut pairs, beyond) = page?;
                if beyond.is_none() && crate::mutant!("replica.snapshot-missing-tail") {
                    pairs.pop();
                }
                next = SnapshotChunk { head: None, crc: checksum(crc, &pairs), pairs, last: false };
                cursor = beyond;
            }
        }
        let sent = bytes(&next.pairs);
        traffic.pass(sent).await;
        let _ = chunks.send(SnapshotChunk { last: true, ..next }).await;
        moved.note(clock.now());
        counts.count_bytes(sent);
        Ok(())
    }
}

/// When the stream last accepted a chunk (node clock, ns).
struct Moved(AtomicU64);

impl Moved {
    fn note(&self, now: Instant) {
        self.0.store(now.0, Ordering::Relaxed);
    }

    /// Returns once the stream has accepted nothing for [`SNAPSHOT_STILL_MAX`].
    async fn stands_still(&self, clock: &Clock) {
        loop {
            let still = clock.now().since(Instant(self.0.load(Ordering::Relaxed)));
            if still >= SNAPSHOT_STILL_MAX {
                return;
            }
            clock.sleep((SNAPSHOT_STILL_MAX - still).max(Duration::from_millis(1))).await;
        }
    }
}

/// Reads the pairs of one chunk from `start` on. Also returns where the next chunk begins, if there is one.
fn page(read: &dyn Read, cf: Cf, start: &[u8], end: &[u8], bytes_max: usize) -> Result<(Vec<CfPair>, Option<Bytes>)> {
    let bytes_max = if crate::buggify!("snapshot.tiny-chunk") { 1 } else { bytes_max };
    let mut pairs = Vec::new();
    let mut bytes = 0;
    let mut next = None;
    read.scan_once(cf, start, end, &mut |key, value| {
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
