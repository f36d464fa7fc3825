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

/// A snapshot on its way out.
pub struct Outgoing {
    /// What the first chunk says.
    pub head: SnapshotHead,
    /// The engine as it stood.
    pub frozen: <Engine as KvEngine>::Snapshot,
    /// What is sent of it.
    pub ranges: Vec<CfRange>,
    /// Bytes of pairs in one chunk, the last pair aside.
    pub chunk_bytes: usize,
    /// The rate that it shares.
    pub traffic: Traffic,
    /// Counts its bytes.
    pub counts: Arc<Counts>,
    /// The node's clock.
    pub clock: Clock,
}

impl Outgoing {
    /// Streams it to another store.
    ///
    /// # Errors
    /// [`Error::Busy`] when the receiver takes in as many as it may; [`Error::Io`] when the connection breaks, the
    /// receiver refuses it for another reason, or nothing moves for [`SNAPSHOT_STILL_MAX`].
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
                Err(Error::Io(format!("the stream of a snapshot stood still for {} s", SNAPSHOT_STILL_MAX.as_secs())))
            }
        };
        reader.abort();
        sent
    }

    async fn read(self, chunks: mpsc::Sender<SnapshotChunk>, moved: Arc<Moved>) {
        // Without its last chunk the receiver does not take it.
        if let Err(error) = self.read_ranges(chunks, moved).await {
            tracing::error!(%error, "a snapshot cannot be read");
        }
    }

    async fn read_ranges(self, chunks: mpsc::Sender<SnapshotChunk>, moved: Arc<Moved>) -> Result<()> {
        let Outgoing { head, mut frozen, ranges, chunk_bytes, traffic, counts, clock } = self;
        // The head goes alone, so that one that is refused has cost no look at the data.
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

/// When a stream last took a chunk (node clock, ns).
struct Moved(AtomicU64);

impl Moved {
    fn note(&self, now: Instant) {
        self.0.store(now.0, Ordering::Relaxed);
    }

    /// Completes when the stream has taken nothing for too long.
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

/// One chunk's pairs from `start` on, and where the next chunk begins.
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
