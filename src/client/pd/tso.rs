//! The timestamp stream: one task with one stream to the leader. All requests that arrive while a response is on its
//! way are combined into the next request.

use std::sync::Arc;

use futures::StreamExt as _;

use crate::proto::pdpb;
use crate::rt::sync::{mpsc, oneshot};
use crate::rt::task;
use crate::types::Timestamp;
use crate::types::limits::TSO_COUNT_MAX;
use crate::types::timestamp::LOGICAL_BITS;

use super::members::{ATTEMPT, Members, describe};

/// A request for timestamps.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) count: u32,
    pub(crate) reply: oneshot::Sender<Result<Timestamp, String>>,
}

/// An open stream to the leader at `addr`.
struct Stream {
    addr: String,
    cluster_id: u64,
    requests: mpsc::UnboundedSender<pdpb::TsoRequest>,
    replies: tonic::Streaming<pdpb::TsoResponse>,
}

/// Starts the task. It ends when the last sender is dropped.
pub(super) fn start(members: Arc<Members>) -> mpsc::UnboundedSender<Ask> {
    let (sender, receiver) = mpsc::unbounded_channel();
    task::spawn(run(members, receiver));
    sender
}

async fn run(members: Arc<Members>, mut asks: mpsc::UnboundedReceiver<Ask>) {
    let mut stream = None;
    while let Some(first) = asks.recv().await {
        let mut batch = vec![first];
        let mut count = batch[0].count;
        while let Ok(ask) = asks.try_recv() {
            if count + ask.count > TSO_COUNT_MAX {
                serve(&members, &mut stream, std::mem::take(&mut batch), count).await;
                count = 0;
            }
            count += ask.count;
            batch.push(ask);
        }
        serve(&members, &mut stream, batch, count).await;
    }
}

/// Gets `count` timestamps and distributes them over `batch`. After a failure every requester gets the error, and the
/// next request opens a new stream.
async fn serve(members: &Arc<Members>, stream: &mut Option<Stream>, batch: Vec<Ask>, count: u32) {
    match fetch(members, stream, count).await {
        Ok(last) => {
            members.served();
            let mut next = last.0 - u64::from(count);
            for ask in batch {
                next += u64::from(ask.count);
                let _ = ask.reply.send(Ok(Timestamp(next)));
            }
        }
        Err(why) => {
            if let Some(broken) = stream.take() {
                members.lost_leader(&broken.addr);
            }
            for ask in batch {
                let _ = ask.reply.send(Err(why.clone()));
            }
        }
    }
}

/// Returns the largest of `count` new timestamps.
async fn fetch(members: &Arc<Members>, stream: &mut Option<Stream>, count: u32) -> Result<Timestamp, String> {
    if stream.is_none() {
        let (addr, cluster_id) = members.leader().await?;
        let opened = members.clock.timeout(ATTEMPT, open(members, &addr, cluster_id, count)).await;
        let opened = opened.unwrap_or_else(|_| Err(format!("Tso at {addr}: no answer within {ATTEMPT:?}")));
        match opened {
            Ok(opened) => *stream = Some(opened),
            Err(why) => {
                members.lost_leader(&addr);
                return Err(why);
            }
        }
    } else if let Some(stream) = stream {
        let header = Some(pdpb::RequestHeader { cluster_id: stream.cluster_id, ..Default::default() });
        let request = pdpb::TsoRequest { header, count, ..Default::default() };
        stream.requests.send(request).map_err(|_| "the timestamp stream is closed".to_owned())?;
    }
    let stream = stream.as_mut().expect("opened above");
    let addr = &stream.addr;
    let reply = members.clock.timeout(ATTEMPT, stream.replies.next()).await;
    let reply = reply.map_err(|_| format!("Tso at {addr}: no answer within {ATTEMPT:?}"))?;
    let reply = reply.ok_or_else(|| format!("Tso at {addr}: the stream ended"))?;
    let reply = reply.map_err(|status| format!("Tso at {addr}: {}", describe(&status)))?;
    if let Some(error) = reply.header.as_ref().and_then(|header| header.error.as_ref()) {
        return Err(format!("Tso at {addr}: {}", error.message));
    }
    let timestamp = reply.timestamp.ok_or_else(|| format!("Tso at {addr}: the response has no timestamp"))?;
    let logical = u64::try_from(timestamp.logical).unwrap_or(u64::MAX);
    if reply.count != count || logical >> LOGICAL_BITS != 0 || timestamp.physical <= 0 {
        return Err(format!("Tso at {addr}: asked for {count}, got {reply:?}"));
    }
    Ok(Timestamp::new(timestamp.physical as u64, logical))
}

/// Opens a stream and sends its first request, for `count` timestamps.
async fn open(members: &Arc<Members>, addr: &str, cluster_id: u64, count: u32) -> Result<Stream, String> {
    let mut stub = members.streams(addr).map_err(|status| status.message().to_owned())?;
    let (requests, outgoing) = mpsc::unbounded_channel();
    let header = Some(pdpb::RequestHeader { cluster_id, ..Default::default() });
    let first = pdpb::TsoRequest { header, count, ..Default::default() };
    requests.send(first).expect("the receiver is right here");
    let outgoing = futures::stream::unfold(outgoing, |mut outgoing| async move {
        outgoing.recv().await.map(|request| (request, outgoing))
    });
    let replies =
        stub.tso(outgoing).await.map_err(|status| format!("Tso at {addr}: {}", describe(&status)))?.into_inner();
    Ok(Stream { addr: addr.to_owned(), cluster_id, requests, replies })
}
