//! The key-value service: each call is a function of [`RawService`], measured.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use tonic::{Request, Response, Status, Streaming};

use crate::proto::kvrpcpb::{
    GetHealthFeedbackRequest, GetHealthFeedbackResponse, HealthFeedback, RawBatchDeleteRequest, RawBatchDeleteResponse,
    RawBatchGetRequest, RawBatchGetResponse, RawBatchPutRequest, RawBatchPutResponse, RawBatchScanRequest,
    RawBatchScanResponse, RawCasRequest, RawCasResponse, RawChecksumRequest, RawChecksumResponse,
    RawCoprocessorRequest, RawCoprocessorResponse, RawDeleteRangeRequest, RawDeleteRangeResponse, RawDeleteRequest,
    RawDeleteResponse, RawGetKeyTtlRequest, RawGetKeyTtlResponse, RawGetRequest, RawGetResponse, RawPutRequest,
    RawPutResponse, RawScanRequest, RawScanResponse, StoreSafeTsRequest, StoreSafeTsResponse,
};
use crate::proto::tikvpb::{
    BatchCommandsEmptyRequest, BatchCommandsEmptyResponse, BatchCommandsRequest, BatchCommandsResponse,
    tikv_server::Tikv,
};
use crate::store::Kv;

use super::answers::{Large, counts};
use super::batch;
use super::metrics::{Method, Observer, Subject};
use super::raw::RawService;

/// `tikvpb.Tikv` over a store. Clones share it.
#[derive(Clone, Debug)]
pub struct TikvService<K> {
    raw: RawService<K>,
    pub(super) observer: Observer,
    /// The number of the last health feedback.
    feedback: Arc<AtomicU64>,
}

/// The best of scores (1 to 100; slow from 80 on): nothing here measures how slow a store is, so none is called slow.
const HEALTHY: i32 = 1;

macro_rules! calls {
    ($($name:ident: $Request:ident => $Response:ty, $method:ident, |$request:ident| $key:expr;)+) => {
        $(
            pub(super) async fn $name(&self, $request: $Request) -> Result<$Response, Status> {
                let region = $request.context.as_ref().map_or(0, |context| context.region_id);
                let subject = Subject { region, key: $key };
                self.observer.watch(Method::$method, subject, self.raw.$name($request)).await
            }
        )+
    };
}

impl<K: Kv> TikvService<K> {
    /// The service over `raw`.
    pub fn new(raw: RawService<K>, observer: Observer) -> TikvService<K> {
        TikvService { raw, observer, feedback: Arc::default() }
    }

    /// Answers an empty command, after the time that it asks for.
    pub(super) async fn empty(&self, request: BatchCommandsEmptyRequest) -> BatchCommandsEmptyResponse {
        if request.delay_time > 0 {
            self.raw.sleep(Duration::from_millis(request.delay_time)).await;
        }
        BatchCommandsEmptyResponse { test_id: request.test_id }
    }

    /// The store's health, with a number that rises from answer to answer, from start to start too.
    pub(super) fn health_feedback(&self) -> GetHealthFeedbackResponse {
        let now_ms = self.raw.now_s() * 1000;
        let next = |last: u64| Some(now_ms.max(last + 1));
        let last = self.feedback.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).expect("always a next one");
        let feedback_seq_no = now_ms.max(last + 1);
        let feedback = HealthFeedback { store_id: self.raw.store(), feedback_seq_no, slow_score: HEALTHY };
        GetHealthFeedbackResponse { health_feedback: Some(feedback), ..GetHealthFeedbackResponse::default() }
    }

    calls! {
        raw_get: RawGetRequest => RawGetResponse, RawGet, |r| r.key.clone();
        raw_batch_get: RawBatchGetRequest => RawBatchGetResponse, RawBatchGet, |r| first(&r.keys);
        raw_get_key_ttl: RawGetKeyTtlRequest => RawGetKeyTtlResponse, RawGetKeyTTL, |r| r.key.clone();
        raw_put: RawPutRequest => RawPutResponse, RawPut, |r| r.key.clone();
        raw_batch_put: RawBatchPutRequest => RawBatchPutResponse, RawBatchPut,
            |r| r.pairs.first().map_or_else(Bytes::new, |pair| pair.key.clone());
        raw_delete: RawDeleteRequest => RawDeleteResponse, RawDelete, |r| r.key.clone();
        raw_batch_delete: RawBatchDeleteRequest => RawBatchDeleteResponse, RawBatchDelete, |r| first(&r.keys);
        raw_delete_range: RawDeleteRangeRequest => RawDeleteRangeResponse, RawDeleteRange, |r| r.start_key.clone();
        raw_scan: RawScanRequest => RawScanResponse, RawScan, |r| r.start_key.clone();
        raw_batch_scan: RawBatchScanRequest => RawBatchScanResponse, RawBatchScan,
            |r| r.ranges.first().map_or_else(Bytes::new, |range| range.start_key.clone());
        raw_compare_and_swap: RawCasRequest => RawCasResponse, RawCompareAndSwap, |r| r.key.clone();
        raw_checksum: RawChecksumRequest => RawChecksumResponse, RawChecksum,
            |r| r.ranges.first().map_or_else(Bytes::new, |range| range.start_key.clone());
        raw_coprocessor: RawCoprocessorRequest => RawCoprocessorResponse, RawCoprocessor,
            |r| r.ranges.first().map_or_else(Bytes::new, |range| range.start_key.clone());
    }
}

fn first(keys: &[Bytes]) -> Bytes {
    keys.first().cloned().unwrap_or_default()
}

/// A reply that may be large: its frames are counted.
fn large<R>(reply: R) -> Response<R> {
    let mut response = Response::new(reply);
    response.extensions_mut().insert(Large);
    response
}

type Answer<R> = Result<Response<R>, Status>;

#[tonic::async_trait]
impl<K: Kv> Tikv for TikvService<K> {
    async fn raw_get(&self, request: Request<RawGetRequest>) -> Answer<RawGetResponse> {
        let reply = self.raw_get(request.into_inner()).await?;
        Ok(if counts(reply.value.len()) { large(reply) } else { Response::new(reply) })
    }

    async fn raw_batch_get(&self, request: Request<RawBatchGetRequest>) -> Answer<RawBatchGetResponse> {
        self.raw_batch_get(request.into_inner()).await.map(large)
    }

    async fn raw_put(&self, request: Request<RawPutRequest>) -> Answer<RawPutResponse> {
        self.raw_put(request.into_inner()).await.map(Response::new)
    }

    async fn raw_batch_put(&self, request: Request<RawBatchPutRequest>) -> Answer<RawBatchPutResponse> {
        self.raw_batch_put(request.into_inner()).await.map(Response::new)
    }

    async fn raw_delete(&self, request: Request<RawDeleteRequest>) -> Answer<RawDeleteResponse> {
        self.raw_delete(request.into_inner()).await.map(Response::new)
    }

    async fn raw_batch_delete(&self, request: Request<RawBatchDeleteRequest>) -> Answer<RawBatchDeleteResponse> {
        self.raw_batch_delete(request.into_inner()).await.map(Response::new)
    }

    async fn raw_scan(&self, request: Request<RawScanRequest>) -> Answer<RawScanResponse> {
        self.raw_scan(request.into_inner()).await.map(large)
    }

    async fn raw_delete_range(&self, request: Request<RawDeleteRangeRequest>) -> Answer<RawDeleteRangeResponse> {
        self.raw_delete_range(request.into_inner()).await.map(Response::new)
    }

    async fn raw_batch_scan(&self, request: Request<RawBatchScanRequest>) -> Answer<RawBatchScanResponse> {
        self.raw_batch_scan(request.into_inner()).await.map(large)
    }

    async fn raw_get_key_ttl(&self, request: Request<RawGetKeyTtlRequest>) -> Answer<RawGetKeyTtlResponse> {
        self.raw_get_key_ttl(request.into_inner()).await.map(Response::new)
    }

    async fn raw_compare_and_swap(&self, request: Request<RawCasRequest>) -> Answer<RawCasResponse> {
        let reply = self.raw_compare_and_swap(request.into_inner()).await?;
        Ok(if counts(reply.previous_value.len()) { large(reply) } else { Response::new(reply) })
    }

    async fn raw_checksum(&self, request: Request<RawChecksumRequest>) -> Answer<RawChecksumResponse> {
        self.raw_checksum(request.into_inner()).await.map(Response::new)
    }

    async fn raw_coprocessor(&self, request: Request<RawCoprocessorRequest>) -> Answer<RawCoprocessorResponse> {
        self.raw_coprocessor(request.into_inner()).await.map(large)
    }

    /// No timestamp is safe to read at on a follower: stale reads are not served.
    async fn get_store_safe_ts(&self, _request: Request<StoreSafeTsRequest>) -> Answer<StoreSafeTsResponse> {
        Ok(Response::new(StoreSafeTsResponse { safe_ts: 0 }))
    }

    async fn get_health_feedback(
        &self,
        _request: Request<GetHealthFeedbackRequest>,
    ) -> Answer<GetHealthFeedbackResponse> {
        Ok(Response::new(self.health_feedback()))
    }

    type BatchCommandsStream = Pin<Box<dyn Stream<Item = Result<BatchCommandsResponse, Status>> + Send>>;

    async fn batch_commands(
        &self,
        request: Request<Streaming<BatchCommandsRequest>>,
    ) -> Answer<Self::BatchCommandsStream> {
        Ok(Response::new(Box::pin(batch::answer(self.clone(), request.into_inner()))))
    }
}
