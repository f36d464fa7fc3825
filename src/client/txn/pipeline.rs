//! Pipelined transactions: what is written goes to the servers before the commit, so that it need not fit into memory.
//!
//! Each flush has a number, its generation: of two writes of a key, the one of the later generation counts, in whatever
//! order they arrive. **In** come the keys that have changed since the last flush; **out** go locks with their values.
//! **Never**: a flush in one transaction with locks of its own taken before, or with a commit in one round.

use futures::future::BoxFuture;
use std::time::Duration;

use bytes::Bytes;

use crate::client::error::{Error, Result};
use crate::client::raw::{Repeat, Stub};
use crate::proto::kvrpcpb::{
    BufferBatchGetRequest, BufferBatchGetResponse, FlushRequest, FlushResponse, KeyError, LockInfo, Mutation,
};

use super::calls::encoded;
use super::failed::{Abort, Done, Failed, Why, aborted, reason};
use super::{CommitBy, Txn, TxnClient, Waiting, Write};

/// How late the simulator repeats a flush.
const LATE: Duration = Duration::from_millis(400);

impl Txn {
    /// Sends what was written since the last flush to the servers. Its values leave this client's memory. The
    /// transaction commits in two phases.
    ///
    /// # Errors
    /// [`Failed::Aborted`]: the transaction cannot commit any more.
    pub fn flush(&mut self) -> BoxFuture<'_, Done<()>> {
        Box::pin(async move {
            if self.options.pessimistic || self.options.commit_by != CommitBy::TwoPhase {
                let why = "only an optimistic transaction that commits in two phases can flush";
                return Err(Failed::Aborted(Abort::new(Why::Refused, why)));
            }
            let Some(primary) = self.primary.clone().filter(|_| !self.dirty.is_empty()) else { return Ok(()) };
            self.generation += 1;
            let template = FlushRequest {
                primary_key: primary,
                start_ts: self.start.0,
                generation: self.generation,
                lock_ttl: self.options.ttl_ms,
                ..FlushRequest::default()
            };
            let mut mutations = self.mutations();
            mutations.retain(|(_, mutation)| self.dirty.contains(&mutation.key));
            let mut waiting = Waiting::new(self);
            loop {
                let replies = self.client.flush(mutations.clone(), &template).await.map_err(aborted)?;
                let errors: Vec<KeyError> = replies.into_iter().flat_map(|reply| reply.errors).collect();
                if let Some(error) = errors.iter().find(|error| error.locked.is_none()) {
                    return Err(Failed::Aborted(reason(error)));
                }
                let locks: Vec<LockInfo> = errors.into_iter().filter_map(|error| error.locked).collect();
                self.keep_alive();
                if locks.is_empty() {
                    break;
                }
                waiting.behind(&locks).await?;
            }
            for key in std::mem::take(&mut self.dirty) {
                self.writes.insert(key, Write::Flushed);
            }
            Ok(())
        })
    }

    /// Returns the value of a key that was flushed; `None` if it was deleted.
    ///
    /// # Errors
    /// [`Failed::Aborted`] if the lock is gone: others have ended the transaction.
    pub(super) async fn read_back(&self, key: &Bytes) -> Done<Option<Bytes>> {
        let reply = self.client.flushed(key, self.start.0).await.map_err(aborted)?;
        if let Some(error) = reply.error {
            return Err(Failed::Aborted(reason(&error)));
        }
        match reply.pairs.into_iter().next() {
            Some(pair) => Ok(Some(pair.value).filter(|value| !value.is_empty())),
            None => Err(Failed::Aborted(Abort::new(Why::RolledBack, "what was flushed is not there any more"))),
        }
    }
}

impl TxnClient {
    async fn flush(&self, mutations: Vec<(Bytes, Mutation)>, template: &FlushRequest) -> Result<Vec<FlushResponse>> {
        self.live()?;
        if crate::buggify!("client.late-flush") {
            let (client, mutations, template) = (self.clone(), mutations.clone(), template.clone());
            drop(crate::rt::task::spawn(async move {
                client.raw.clock().sleep(LATE).await;
                drop(client.send_flush(mutations, &template).await);
            }));
        }
        self.send_flush(mutations, template).await
    }

    async fn send_flush(
        &self,
        mutations: Vec<(Bytes, Mutation)>,
        template: &FlushRequest,
    ) -> Result<Vec<FlushResponse>, Error> {
        let call = |mut stub: Stub, context, group: &[(Bytes, Mutation)]| {
            let mutations = group.iter().map(|(_, mutation)| mutation.clone()).collect();
            let request = FlushRequest { context, mutations, ..template.clone() };
            async move { stub.kv_flush(request).await }
        };
        self.raw.many(mutations, Repeat::Same, |mutation| mutation.value.len(), call).await
    }

    async fn flushed(&self, key: &Bytes, version: u64) -> Result<BufferBatchGetResponse> {
        self.live()?;
        let call = |mut stub: Stub, context| {
            let request = BufferBatchGetRequest { context, keys: vec![key.clone()], version };
            async move { stub.kv_buffer_batch_get(request).await }
        };
        self.raw.one(&encoded(key), Repeat::Read, call).await
    }
}
