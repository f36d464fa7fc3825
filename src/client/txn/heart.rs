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
use crate::rt::task::{self, JoinHandle};
use crate::types::Timestamp;
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
        if crate::mutant!("client.no-heartbeats") {
            return;
        }
        let (client, start, ttl_ms) = (self.client.clone(), self.start, self.options.ttl_ms);
        self.heart = Some(Heart(task::spawn(async move { client.beat(primary, start, ttl_ms).await })));
    }
}

impl TxnClient {
    async fn beat(self, primary: Bytes, start: Timestamp, ttl_ms: u64) {
        loop {
            self.raw.clock().sleep(Duration::from_millis((ttl_ms / 2).max(1))).await;
            match self.prolong(&primary, start, ttl_ms).await {
                Ok(true) => crate::reach!("client.heartbeat"),
                Ok(false) => {
                    tracing::warn!(%start, "a transaction has been open for an hour: its locks are not kept any longer");
                    return;
                }
                // The primary key may be locked later. If others have ended the transaction, its next request says so.
                Err(error) => tracing::debug!(%start, %error, "a heartbeat failed"),
            }
        }
    }

    /// Sends a heartbeat. Returns false, and sends none, if the transaction is too old.
    async fn prolong(&self, primary: &Bytes, start: Timestamp, ttl_ms: u64) -> Result<bool> {
        // Locks age by the placement driver's clock.
        let age_ms = self.timestamp().await?.physical_ms().saturating_sub(start.physical_ms());
        if u128::from(age_ms) > TXN_HEARTBEATS_MAX.as_millis() {
            return Ok(false);
        }
        self.live()?;
        let call = |mut stub: Stub, context| {
            let request = TxnHeartBeatRequest {
                context,
                primary_lock: primary.clone(),
                start_version: start.0,
                advise_lock_ttl: age_ms.saturating_add(ttl_ms),
                ..TxnHeartBeatRequest::default()
            };
            async move { stub.kv_txn_heart_beat(request).await }
        };
        let reply: TxnHeartBeatResponse = self.raw.one(&encoded(primary), Repeat::Same, call).await?;
        match reply.error {
            None => Ok(true),
            Some(error) => Err(Error::Refused(reason(&error).to_string())),
        }
    }
}
