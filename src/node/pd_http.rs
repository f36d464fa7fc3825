//! How this node's HTTP interface of PD reaches the placement driver's leader, and the leaders of regions.

use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;

use crate::client::RawClient;
use crate::proto::armilla::pd::{PdHttpReply, PdHttpRequest};
use crate::rt::clock::Clock;
use crate::service::pd_http::PdHttpPeers;
use crate::types::{Error, Result};

/// How long the splits of one request may take.
const SPLITS: Duration = Duration::from_secs(10);

/// The node's clients.
pub(super) struct Peers {
    raw: RawClient,
    clock: Clock,
}

impl Peers {
    /// Creates it of a client of this cluster.
    pub fn new(raw: RawClient, clock: Clock) -> Peers {
        Peers { raw, clock }
    }
}

impl PdHttpPeers for Peers {
    fn lead(&self, request: PdHttpRequest) -> BoxFuture<'_, Result<PdHttpReply>> {
        Box::pin(async move { self.raw.pd().http(request).await.map_err(|error| Error::Io(error.to_string())) })
    }

    fn split(&self, keys: Vec<Bytes>) -> BoxFuture<'_, Vec<Result<Option<u64>>>> {
        Box::pin(async move {
            let until = self.clock.now().plus(SPLITS);
            let mut ends = Vec::with_capacity(keys.len());
            for key in keys {
                let left = until.since(self.clock.now());
                let end = match self.clock.timeout(left, self.raw.split_at(&key)).await {
                    Ok(end) => end.map_err(|error| Error::Io(error.to_string())),
                    Err(_) => Err(Error::Io(format!("the splits took longer than {SPLITS:?}"))),
                };
                ends.push(end);
            }
            ends
        })
    }
}
