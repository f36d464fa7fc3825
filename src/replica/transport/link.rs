//! One direction between two stores: a stream of batches, which is started again whenever it breaks.

use std::time::Duration;

use crate::proto::armilla::raft::RaftBatch;
use crate::proto::armilla::raft::transport_client::TransportClient;
use crate::replica::handle::Handle;
use crate::replica::message::{Beats, Message};
use crate::rt::net::Net;
use crate::rt::sync::{mpsc, watch};
use crate::types::limits::{LINK_BATCH_BYTES_FULL, LINK_BATCHES_MAX, LINK_STILL_MAX, MESSAGE_BYTES_MAX};

use super::{Addresses, Local, Outbound, Queued, REFUSAL_LOG_INTERVAL, beats};

/// The delay between two attempts to reach a store.
const RETRY: Duration = Duration::from_millis(100);

/// How the feeding of a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fed {
    /// The outbox was dropped.
    All,
    /// The stream accepts nothing more.
    Broken,
}

/// Sends to one store.
pub(super) struct Link {
    pub to_store: u64,
    pub local: Local,
    pub net: Net,
    pub addresses: watch::Receiver<Addresses>,
    pub handle: Handle,
}

impl Link {
    /// Sends what is queued until the outbox is dropped.
    pub async fn run(self, mut waiting: mpsc::Receiver<Queued>) {
        let mut logged = None;
        loop {
            let address = self.addresses.borrow().get(&self.to_store).cloned();
            if let Some(Ok(channel)) = address.map(|a| self.net.channel(&a)) {
                let (batches, stream) = mpsc::channel(LINK_BATCHES_MAX);
                let stream =
                    futures::stream::unfold(stream, |mut stream| async move { Some((stream.recv().await?, stream)) });
                let mut client = TransportClient::new(channel)
                    .max_encoding_message_size(MESSAGE_BYTES_MAX)
                    .max_decoding_message_size(MESSAGE_BYTES_MAX);
                let call = client.messages(stream);
                // Whichever ends first: the call (the other store is gone) or the feeding of it (this outbox was
                // dropped).
                crate::rt_select! {
                    ended = call => if let Err(status) = ended {
                        let now = self.handle.clock().now();
                        let refused = status.code() == tonic::Code::FailedPrecondition;
                        if refused && logged.is_none_or(|logged| now.since(logged) >= REFUSAL_LOG_INTERVAL) {
                            logged = Some(now);
                            tracing::warn!(to = self.to_store, why = status.message(), "a node refuses messages from this store");
                        } else {
                            tracing::debug!(to = self.to_store, %status, "the stream to a store broke");
                        }
                    },
                    fed = self.feed(&mut waiting, batches) => if fed == Fed::All {
                        return;
                    },
                }
            }
            self.handle.send_all(|| Message::Unreachable { store: self.to_store });
            self.handle.clock().sleep(RETRY).await;
            // What was queued during the break is old: raft sends again what still matters.
            while waiting.try_recv().is_ok() {}
        }
    }

    /// Sends what is queued through one stream. The first batch states this store's run at once: a store that has not
    /// heard of a run could later take an older copy of its directory for a newer one.
    async fn feed(&self, waiting: &mut mpsc::Receiver<Queued>, batches: mpsc::Sender<RaftBatch>) -> Fed {
        let mut earlier = self.local.history.earlier.clone();
        let mut run_stated = false;
        loop {
            let mut next = if run_stated {
                let Some(first) = waiting.recv().await else { return Fed::All };
                Some(first)
            } else {
                waiting.try_recv().ok()
            };
            run_stated = true;
            let (mut messages, mut beats, mut bytes) = (Vec::new(), Beats::default(), 0);
            while let Some((outbound, _)) = next {
                match outbound {
                    Outbound::Message(message) => {
                        bytes += message.message.len();
                        messages.push(message);
                    }
                    Outbound::Beats(more) => {
                        bytes += more.bytes();
                        beats.join(more);
                    }
                }
                next = if bytes < LINK_BATCH_BYTES_FULL { waiting.try_recv().ok() } else { None };
            }
            let batch = RaftBatch {
                cluster_id: self.local.cluster,
                from_store: self.local.store,
                to_store: self.to_store,
                messages,
                election_ns: self.local.election_ns,
                incarnation: Some(self.local.history.run),
                earlier: std::mem::take(&mut earlier),
                heartbeats: beats::encode(&beats.heartbeats),
                answers: beats::encode(&beats.answers),
                sent_ns: self.handle.clock().now().0,
                sleeps: beats::encode(&beats.sleeps),
                consents: beats::encode(&beats.consents),
                alive_lanes: beats.alive_lanes,
                lanes: self.handle.lanes() as u32,
            };
            // A stream that accepts nothing for a long time counts as broken, whatever the connection says.
            match self.handle.clock().timeout(LINK_STILL_MAX, batches.send(batch)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Fed::Broken,
            }
        }
    }
}
