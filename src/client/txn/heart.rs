//! Heartbeats: what keeps the locks of a transaction alive for as long as its client works on it.
//!
//! **In** comes the primary key once it is locked; **out** go requests that prolong its lock, one each half of the time
//! that it lasts. Other locks last as long as the primary one, because a client that meets them asks there.
//!
//! **Never**: a heartbeat of a transaction that has ended or whose client has gone: then others end it.

use std::time::Duration;

use bytes::Bytes;

use crate::client::error::{Error, Result};
use crate::client::raw::{Repeat, Stub};
use crate::proto::kvrpcpb::{TxnHeartBeatRequest, TxnHeartBeatResponse};
use crate::rt::clock::Instant;
use crate::rt::task::{self, JoinHandle};
use crate::types::limits::TXN_HEARTBEATS_MAX;

use super::calls::encoded;
use super::failed::reason;
use super::{Txn, TxnClient};

/// Sends heartbeats until it is dropped.
#[derive(Debug)]
pub(super) struct Heart(JoinHandle<()>);

impl Drop for Heart {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Txn {
    /// Keeps the locks alive from now on, if that is wished.
    pub(super) fn keep_alive(&mut self) {
        let Some(primary) = self.primary.clone().filter(|_| self.heart.is_none() && self.options.heartbeats) else {
            return;
        };
        let (client, start, begun, ttl_ms) = (self.client.clone(), self.start.0, self.begun, self.options.ttl_ms);
        let beat = async move { client.beat(primary, start, begun, ttl_ms).await };
        self.heart = Some(Heart(task::spawn(beat)));
    }
}

impl TxnClient {
    async fn beat(self, primary: Bytes, start: u64, begun: Instant, ttl_ms: u64) {
        let clock = self.raw.clock().clone();
        loop {
            clock.sleep(Duration::from_millis((ttl_ms / 2).max(1))).await;
            let age = clock.now().since(begun);
            if age > TXN_HEARTBEATS_MAX {
                tracing::warn!(start, "a transaction has been open for an hour: its locks are not kept any longer");
                return;
            }
            // The lock's time counts from the start timestamp, which is a little older than `begun`.
            let advise_lock_ttl = u64::try_from(age.as_millis()).unwrap_or(u64::MAX).saturating_add(ttl_ms);
            let request = TxnHeartBeatRequest {
                primary_lock: primary.clone(),
                start_version: start,
                advise_lock_ttl,
                ..TxnHeartBeatRequest::default()
            };
            match self.heart_beat(request).await {
                Ok(TxnHeartBeatResponse { error: None, .. }) => crate::reach!("client.heartbeat"),
                Ok(TxnHeartBeatResponse { error: Some(error), .. }) => {
                    // It is rolled back, or about to be committed.
                    tracing::debug!(start, why = %reason(&error), "no more heartbeats");
                    return;
                }
                Err(Error::Unavailable(why)) => tracing::debug!(start, why, "a heartbeat failed"),
                Err(error) => {
                    tracing::debug!(start, %error, "no more heartbeats");
                    return;
                }
            }
        }
    }

    async fn heart_beat(&self, request: TxnHeartBeatRequest) -> Result<TxnHeartBeatResponse> {
        self.live()?;
        let call = |mut stub: Stub, context| {
            let request = TxnHeartBeatRequest { context, ..request.clone() };
            async move { stub.kv_txn_heart_beat(request).await }
        };
        self.raw.one(&encoded(&request.primary_lock), Repeat::Same, call).await
    }
}
