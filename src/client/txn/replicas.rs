//! Reads through peers that do not lead.
//!
//! **In** come a client's keys and timestamps; **out** go requests to any peer of a region, which asks the leader, or,
//! for a moment that has passed, serves them by itself. **Never**: a write at the timestamp of such a moment.

use futures::future::BoxFuture;
use std::ops::Deref;
use std::time::Duration;

use futures::future::join_all;

use crate::client::error::Result;
use crate::client::raw::{PeerChoice, RawOptions};
use crate::types::Timestamp;

use super::{Txn, TxnClient, TxnOptions};

/// A view of all keys as of a moment that has passed.
#[derive(Debug)]
pub struct Snapshot(Txn);

impl Deref for Snapshot {
    type Target = Txn;

    fn deref(&self) -> &Txn {
        &self.0
    }
}

impl TxnClient {
    /// Returns a client whose transactions read through any peer, which asks the leader.
    #[must_use]
    pub fn reading_anywhere(&self) -> TxnClient {
        let options = RawOptions { peers: PeerChoice::Random, replica_reads: true, ..self.raw.options().clone() };
        TxnClient { reads: self.raw.with_options(options), ..self.clone() }
    }

    /// Returns the view at a timestamp of the past. Any peer serves reads that knows that nothing commits at or below
    /// it any more; if it does not, the leader is asked.
    pub fn as_of(&self, at: Timestamp, patience: Duration) -> Snapshot {
        let options =
            RawOptions { peers: PeerChoice::Random, stale_reads: true, retries: false, ..self.raw.options().clone() };
        let client = TxnClient { stale: Some(self.raw.with_options(options)), ..self.clone() };
        Snapshot(Txn::new(&client, TxnOptions { patience, ..TxnOptions::default() }, at))
    }

    /// Returns the timestamp up to which every store says that its peers can serve reads by themselves. Stores without
    /// a region that is in use say nothing; 0 if none says anything.
    ///
    /// # Errors
    /// [`crate::client::Error::Unavailable`] if the stores are not known, or one does not answer.
    pub fn safe_ts(&self) -> BoxFuture<'_, Result<Timestamp>> {
        Box::pin(async move {
            let stores = self.raw.pd().get_all_stores().await?;
            let told = join_all(stores.iter().map(|store| self.raw.safe_ts_of(store))).await;
            let told = told.into_iter().collect::<Result<Vec<u64>>>()?;
            Ok(Timestamp(told.into_iter().filter(|at| *at > 0).min().unwrap_or_default()))
        })
    }
}
