//! Sending a snapshot.

use bytes::Bytes;

use crate::engine::{Cf, Engine, KvEngine, Read, Visit};
use crate::proto::armilla::raft::transport_client::TransportClient;
use crate::proto::armilla::raft::{CfPair, SnapshotChunk, SnapshotHead};
use crate::raft::machine::CfRange;
use crate::rt::net::Channel;
use crate::rt::sync::mpsc;
use crate::rt::{cpu, task};
use crate::types::limits::MESSAGE_BYTES_MAX;
use crate::types::{Error, Result};

use super::checksum;

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
