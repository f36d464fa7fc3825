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

    /// Makes a key the start of a region. Returns the ID of the region before it.
    async fn split_at(&self, key: Bytes) -> Result<u64> {
        let failed = |error: crate::client::Error| Error::Io(error.to_string());
        self.raw.split(std::slice::from_ref(&key)).await.map_err(failed)?;
        let before = self.raw.pd().get_prev_region(&key).await.map_err(failed)?;
        before.map(|before| before.region.id).ok_or_else(|| Error::Io("no region ends at the split key yet".into()))
    }
}

impl PdHttpPeers for Peers {
    fn lead(&self, request: PdHttpRequest) -> BoxFuture<'_, Result<PdHttpReply>> {
        Box::pin(async move { self.raw.pd().http(request).await.map_err(|error| Error::Io(error.to_string())) })
    }

    fn split(&self, keys: Vec<Bytes>) -> BoxFuture<'_, Vec<Result<u64>>> {
        Box::pin(async move {
            let until = self.clock.now().plus(SPLITS);
            let mut ends = Vec::with_capacity(keys.len());
            for key in keys {
                let left = until.since(self.clock.now());
                let end = self.clock.timeout(left, self.split_at(key)).await;
                ends.push(end.unwrap_or_else(|_| Err(Error::Io(format!("the splits took longer than {SPLITS:?}")))));
            }
            ends
        })
    }
}
