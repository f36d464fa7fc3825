//! Handlers of transactional requests, API V1. Each request has a `Handler` ([`super::calls`]); what it does is in
//! [`crate::txn`].

use crate::proto::errorpb;
use crate::proto::kvrpcpb::{
    BatchGetRequest, BatchGetResponse, BatchRollbackRequest, BatchRollbackResponse, BufferBatchGetRequest,
    BufferBatchGetResponse, CheckSecondaryLocksRequest, CheckSecondaryLocksResponse, CheckTxnStatusRequest,
    CheckTxnStatusResponse, CleanupRequest, CleanupResponse, CommitRequest, CommitResponse, Context,
    DeleteRangeRequest, DeleteRangeResponse, FlushRequest, FlushResponse, GetRequest, GetResponse, KeyError, KvPair,
    MvccGetByKeyRequest, MvccGetByKeyResponse, MvccGetByStartTsRequest, MvccGetByStartTsResponse,
    PessimisticLockRequest, PessimisticLockResponse, PessimisticRollbackRequest, PessimisticRollbackResponse,
    PrewriteRequest, PrewriteResponse, ResolveLockRequest, ResolveLockResponse, ScanLockRequest, ScanLockResponse,
    ScanRequest, ScanResponse, TxnHeartBeatRequest, TxnHeartBeatResponse, UnsafeDestroyRangeRequest,
    UnsafeDestroyRangeResponse,
};
use crate::store::Kv;
use crate::txn::{Reads, Txn};
use crate::types::{Error, Result, Timestamp};

use super::calls::Handler;
use super::layer::quota::MemoryQuota;

/// Transactional requests of one store. Clones share the state.
#[derive(Clone, Debug)]
pub struct TxnService<K> {
    txn: Txn<K>,
    answers: MemoryQuota,
}

impl<K: Kv> TxnService<K> {
    /// Creates the handlers over `txn`. Large responses reserve memory of `answers`.
    pub fn new(txn: Txn<K>, answers: MemoryQuota) -> TxnService<K> {
        TxnService { txn, answers }
    }

    /// Counts the values of a reply until its client has received them.
    fn counted(&self, mut pairs: Vec<KvPair>) -> Result<Vec<KvPair>> {
        let mut held = self.answers.begin();
        held.grow_to(pairs.iter().map(|pair| pair.key.len() + pair.value.len()).sum())?;
        if let Some(last) = pairs.last_mut() {
            last.value = held.attach(std::mem::take(&mut last.value));
        }
        Ok(pairs)
    }

    /// Returns the pairs and the error of a reply. Older clients look for the error in the first pair.
    fn pairs(&self, found: Reads) -> Result<(Vec<KvPair>, Option<Box<KeyError>>)> {
        match found {
            Ok(pairs) => Ok((self.counted(pairs)?, None)),
            Err(error) => {
                let error = Some(Box::new(error));
                Ok((vec![KvPair { error: error.clone(), ..KvPair::default() }], error))
            }
        }
    }
}

/// Returns the region error of a request that may have committed its transaction: its client must ask before it tells
/// anybody.
fn undetermined(message: String) -> Option<Box<errorpb::Error>> {
    let undetermined_result = Some(errorpb::UndeterminedResult { message: message.clone() });
    Some(errorpb::Error { message, undetermined_result, ..errorpb::Error::default() }.into())
}

impl<K: Kv> Handler<GetRequest> for TxnService<K> {
    async fn handle(&self, context: &Context, request: GetRequest) -> Result<GetResponse> {
        let mut reply = self.txn.get(context, request).await?;
        let mut held = self.answers.begin();
        held.grow_to(reply.value.len())?;
        reply.value = held.attach(std::mem::take(&mut reply.value));
        Ok(reply)
    }
}

impl<K: Kv> Handler<BatchGetRequest> for TxnService<K> {
    async fn handle(&self, context: &Context, request: BatchGetRequest) -> Result<BatchGetResponse> {
        let (pairs, error) = self.pairs(self.txn.batch_get(context, request).await?)?;
        Ok(BatchGetResponse { pairs, error, region_error: None })
    }
}

impl<K: Kv> Handler<ScanRequest> for TxnService<K> {
    async fn handle(&self, context: &Context, request: ScanRequest) -> Result<ScanResponse> {
        let (pairs, error) = self.pairs(self.txn.scan(context, request).await?)?;
        Ok(ScanResponse { pairs, error, region_error: None })
    }
}

impl<K: Kv> Handler<PrewriteRequest> for TxnService<K> {
    async fn handle(&self, context: &Context, request: PrewriteRequest) -> Result<PrewriteResponse> {
        let decides = request.use_async_commit || request.try_one_pc;
        match self.txn.prewrite(context, request).await {
            Err(Error::Unknown(why)) if decides => {
                Ok(PrewriteResponse { region_error: undetermined(why), ..PrewriteResponse::default() })
            }
            done => done,
        }
    }
}

impl<K: Kv> Handler<BufferBatchGetRequest> for TxnService<K> {
    async fn handle(&self, context: &Context, request: BufferBatchGetRequest) -> Result<BufferBatchGetResponse> {
        let pairs = self.counted(self.txn.flushed(context, request).await?)?;
        Ok(BufferBatchGetResponse { pairs, ..BufferBatchGetResponse::default() })
    }
}

impl<K: Kv> Handler<CommitRequest> for TxnService<K> {
    async fn handle(&self, context: &Context, request: CommitRequest) -> Result<CommitResponse> {
        match self.txn.commit(context, request).await {
            Err(Error::Unknown(why)) => {
                Ok(CommitResponse { region_error: undetermined(why), ..CommitResponse::default() })
            }
            done => done,
        }
    }
}

impl<K: Kv> Handler<ScanLockRequest> for TxnService<K> {
    async fn handle(&self, context: &Context, request: ScanLockRequest) -> Result<ScanLockResponse> {
        Ok(match self.txn.scan_locks(context, request).await? {
            Ok(locks) => ScanLockResponse { locks, ..ScanLockResponse::default() },
            Err(error) => ScanLockResponse { error: Some(error.into()), ..ScanLockResponse::default() },
        })
    }
}

impl<K: Kv> Handler<DeleteRangeRequest> for TxnService<K> {
    async fn handle(&self, context: &Context, request: DeleteRangeRequest) -> Result<DeleteRangeResponse> {
        if !request.notify_only {
            self.txn.delete_range(context, request.start_key, request.end_key).await?;
        }
        Ok(DeleteRangeResponse::default())
    }
}

impl<K: Kv> Handler<UnsafeDestroyRangeRequest> for TxnService<K> {
    async fn handle(&self, _: &Context, request: UnsafeDestroyRangeRequest) -> Result<UnsafeDestroyRangeResponse> {
        self.txn.delete_everywhere(request.start_key, request.end_key).await?;
        Ok(UnsafeDestroyRangeResponse::default())
    }
}

impl<K: Kv> Handler<MvccGetByKeyRequest> for TxnService<K> {
    async fn handle(&self, context: &Context, request: MvccGetByKeyRequest) -> Result<MvccGetByKeyResponse> {
        let info = Some(self.txn.everything(context, request.key).await?);
        Ok(MvccGetByKeyResponse { info, ..MvccGetByKeyResponse::default() })
    }
}

impl<K: Kv> Handler<MvccGetByStartTsRequest> for TxnService<K> {
    async fn handle(&self, context: &Context, request: MvccGetByStartTsRequest) -> Result<MvccGetByStartTsResponse> {
        let found = self.txn.written_by(context, Timestamp(request.start_ts)).await?;
        // As TiKV answers: information without a key if nothing was found.
        let (key, info) = found.unwrap_or_default();
        Ok(MvccGetByStartTsResponse { key, info: Some(info), ..MvccGetByStartTsResponse::default() })
    }
}

/// Requests that `Txn` answers as they are.
macro_rules! passed_on {
    ($($Request:ident -> $Reply:ident by $method:ident;)+) => {
        $(impl<K: Kv> Handler<$Request> for TxnService<K> {
            async fn handle(&self, context: &Context, request: $Request) -> Result<$Reply> {
                self.txn.$method(context, request).await
            }
        })+
    };
}
passed_on! {
    FlushRequest -> FlushResponse by flush;
    PessimisticLockRequest -> PessimisticLockResponse by lock_keys;
    PessimisticRollbackRequest -> PessimisticRollbackResponse by pessimistic_rollback;
    TxnHeartBeatRequest -> TxnHeartBeatResponse by heartbeat;
    CheckTxnStatusRequest -> CheckTxnStatusResponse by status;
    CheckSecondaryLocksRequest -> CheckSecondaryLocksResponse by secondaries;
    CleanupRequest -> CleanupResponse by cleanup;
    BatchRollbackRequest -> BatchRollbackResponse by batch_rollback;
    ResolveLockRequest -> ResolveLockResponse by resolve;
}
