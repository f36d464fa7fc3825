//! The key-value service: the work before and after the handler of every request, in unary calls and in streams.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use futures::Stream;
use futures::future::{Either, select};
use tonic::{Request, Response, Status, Streaming};

use crate::proto::kvrpcpb::{
    self, BroadcastTxnStatusRequest, BroadcastTxnStatusResponse, Context, GetHealthFeedbackRequest,
    GetHealthFeedbackResponse, HealthFeedback, StoreSafeTsRequest, StoreSafeTsResponse,
};
use crate::proto::tikvpb::batch_commands_request::request::Cmd as Command;
use crate::proto::tikvpb::batch_commands_response::{Response as BatchReply, response::Cmd as Reply};
use crate::proto::tikvpb::tikv_server::Tikv;
use crate::proto::tikvpb::{
    BatchCommandsEmptyRequest, BatchCommandsEmptyResponse, BatchCommandsRequest, BatchCommandsResponse,
};
use crate::store::Kv;
use crate::types::{Error, Result as StoreResult};

use super::batch::Commands;
use super::calls::{Call, Handler, refused_command, tikv_calls};
use super::error::{Repeat, refuse, streamed};
use super::intake::refusal::Refusal;
use super::keys;
use super::layer::observe::{Observer, Subject};
use super::layer::quota::Large;
use super::raw::RawService;
use super::txn::TxnService;

/// The service `tikvpb.Tikv` on a store. Clones share its state.
#[derive(Clone, Debug)]
pub struct TikvService<K> {
    kv: K,
    cluster_id: u64,
    pub(super) raw: RawService<K>,
    pub(super) txn: TxnService<K>,
    observer: Observer,
    /// The number of the last health feedback.
    feedback: Arc<AtomicU64>,
}

/// The best slow score (scores are 1 to 100, slow from 80 on). The store does not measure how slow it is.
const HEALTHY: i32 = 1;

impl<K: Kv> TikvService<K> {
    /// Creates the service of the cluster `cluster_id` on `kv`, with the handlers of raw and transactional requests.
    pub fn new(kv: K, cluster_id: u64, raw: RawService<K>, txn: TxnService<K>, observer: Observer) -> TikvService<K> {
        TikvService { kv, cluster_id, raw, txn, observer, feedback: Arc::default() }
    }

    /// Answers a request by its handler, and measures it.
    ///
    /// # Errors
    /// Returns INVALID_ARGUMENT for a request of another cluster.
    pub(super) async fn answer<C: Call>(&self, handler: &impl Handler<C>, mut request: C) -> Result<C::Reply, Status> {
        let context = request.take_context();
        let subject = Subject { region: context.region_id, key: request.key() };
        // Pinned where they are: a future that is passed on by value is copied, and takes its space twice.
        let work = pin!(async {
            self.check_cluster(&context)?;
            let result = match keys::admit(self.raw.api(), &context, &mut request) {
                Ok(()) => {
                    let work = pin!(handler.handle(&context, request));
                    self.in_time(&context, C::REPEAT, work).await
                }
                Err(error) => Err(error),
            };
            Ok(result.unwrap_or_else(|error| refuse(error, context.region_id, C::REPEAT)))
        });
        self.observer.watch(C::METHOD, subject, work).await
    }

    fn check_cluster(&self, context: &Context) -> Result<(), Status> {
        let asked = context.cluster_id;
        if asked != 0 && asked != self.cluster_id {
            return Err(Status::invalid_argument(format!(
                "request for cluster {asked}, this is cluster {}",
                self.cluster_id
            )));
        }
        Ok(())
    }

    /// Runs `work`, whose request may carry a time limit (`max_execution_duration_ms`). A read ends when the limit has
    /// passed, whatever it waits for. The store enforces the limit of a write, because it knows whether the write may
    /// still take effect.
    async fn in_time<T>(
        &self,
        context: &Context,
        repeat: Repeat,
        mut work: Pin<&mut (impl Future<Output = StoreResult<T>> + Send)>,
    ) -> StoreResult<T> {
        let limit_ms = context.max_execution_duration_ms;
        if limit_ms == 0 || repeat != Repeat::Read {
            return work.await;
        }
        // A request that is answered at once starts no timer.
        if let Poll::Ready(result) = poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await {
            return result;
        }
        let timer = pin!(self.kv.sleep(Duration::from_millis(limit_ms)));
        match select(work, timer).await {
            Either::Left((result, _)) => result,
            Either::Right(_) => Err(Error::Deadline(format!("the read took longer than its {limit_ms} ms"))),
        }
    }

    /// Answers a unary call.
    async fn answer_alone<C: Call>(
        &self,
        handler: &impl Handler<C>,
        request: Request<C>,
    ) -> Result<Response<C::Reply>, Status> {
        let reply = self.answer(handler, request.into_inner()).await?;
        let large = C::is_large(&reply);
        let mut response = Response::new(reply);
        if large {
            response.extensions_mut().insert(Large);
        }
        Ok(response)
    }

    /// Answers an empty command, after the delay that it asks for.
    async fn empty(&self, request: BatchCommandsEmptyRequest) -> BatchCommandsEmptyResponse {
        if request.delay_time > 0 {
            self.kv.sleep(Duration::from_millis(request.delay_time)).await;
        }
        BatchCommandsEmptyResponse { test_id: request.test_id }
    }

    /// Returns the store's health feedback. Its number increases with every response, even over restarts.
    fn health_feedback(&self) -> GetHealthFeedbackResponse {
        let now_ms = self.kv.now_s() * 1000;
        let next = |last: u64| Some(now_ms.max(last + 1));
        let last = self.feedback.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).expect("always a next one");
        let feedback_seq_no = now_ms.max(last + 1);
        let feedback = HealthFeedback { store_id: self.kv.store(), feedback_seq_no, slow_score: HEALTHY };
        GetHealthFeedbackResponse { health_feedback: Some(feedback), ..GetHealthFeedbackResponse::default() }
    }
}

macro_rules! commands {
    ($($service:ident { $($name:ident: $function:ident($Request:ident) -> $Reply:ident,
        [$($number:literal $cmd:ident)?] $repeat:ident $key:tt $failure:tt $large:tt;)+ })+) => {
        impl<K: Kv> TikvService<K> {
            /// Answers a command of a stream. Returns `None` if the command is unknown.
            async fn answer_command(&self, command: Command) -> Option<Reply> {
                Some(match command {
                    // Boxed: a stream's commands all have the same type, and one that gets must not be as large as one
                    // that prewrites.
                    $($($(Command::$cmd(request) => {
                        let answer = Box::pin(self.answer(&self.$service, *request));
                        Reply::$cmd(streamed(answer.await))
                    })?)+)+
                    Command::GetHealthFeedback(_) => Reply::GetHealthFeedback(self.health_feedback()),
                    Command::BroadcastTxnStatus(_) => Reply::BroadcastTxnStatus(BroadcastTxnStatusResponse::default()),
                    Command::Empty(request) => Reply::Empty(self.empty(*request).await),
                    Command::NotTaken(note) => return refused_command(note.command, Refusal::of(&note)),
                })
            }
        }
    };
}
tikv_calls!(commands);

type Answer<R> = Result<Response<R>, Status>;

macro_rules! service {
    ($($service:ident { $($name:ident: $function:ident($Request:ident) -> $Reply:ident,
        [$($number:literal $cmd:ident)?] $repeat:ident $key:tt $failure:tt $large:tt;)+ })+) => {
        #[tonic::async_trait]
        impl<K: Kv> Tikv for TikvService<K> {
            $($(
                async fn $function(&self, request: Request<kvrpcpb::$Request>) -> Answer<kvrpcpb::$Reply> {
                    self.answer_alone(&self.$service, request).await
                }
            )+)+

            /// The keys of the range are as in the engine. Regions that sleep do not count: the first stale read in one
            /// asks its leader.
            async fn get_store_safe_ts(&self, request: Request<StoreSafeTsRequest>) -> Answer<StoreSafeTsResponse> {
                let range = request.into_inner().key_range.unwrap_or_default();
                let safe_ts = self.kv.safe_ts(&range.start_key, &range.end_key).await;
                Ok(Response::new(StoreSafeTsResponse { safe_ts }))
            }

            /// Stores keep no statuses: a reader that meets a lock asks its primary key.
            async fn broadcast_txn_status(
                &self,
                _request: Request<BroadcastTxnStatusRequest>,
            ) -> Answer<BroadcastTxnStatusResponse> {
                Ok(Response::new(BroadcastTxnStatusResponse::default()))
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
                Ok(Response::new(Box::pin(self.stream(request.into_inner()))))
            }
        }
    };
}
tikv_calls!(service);

impl<K: Kv> TikvService<K> {
    /// Returns the responses to a stream of commands.
    fn stream(
        &self,
        inbound: Streaming<BatchCommandsRequest>,
    ) -> impl Stream<Item = Result<BatchCommandsResponse, Status>> + Send + 'static {
        let service = self.clone();
        Commands::new(inbound, self.observer.metrics.clone(), move |id, command| {
            let service = service.clone();
            async move {
                let cmd = match command.cmd {
                    Some(command) => service.answer_command(command).await,
                    None => None,
                };
                (id, BatchReply { cmd })
            }
        })
    }
}

#[cfg(test)]
impl<K: Kv> TikvService<K> {
    /// Creates a service of the cluster `cluster_id` with metrics of its own.
    pub(super) fn for_test(kv: K, cluster_id: u64, raw: RawService<K>) -> TikvService<K> {
        use super::layer::{metrics::Metrics, redact::Redact};
        let metrics = Metrics::new(&prometheus::Registry::new()).unwrap();
        let observer = Observer::by(metrics, || crate::rt::clock::Instant(1), Redact::Show);
        let answers = super::layer::quota::MemoryQuota::new(prometheus::IntGauge::new("txn", "of a test").unwrap());
        let options = crate::txn::Options { refuse_future_timestamps: false };
        let txn = TxnService::new(crate::txn::Txn::new(kv.clone(), options), answers);
        TikvService::new(kv, cluster_id, raw, txn, observer)
    }
}

#[cfg(test)]
mod tests {
    //! Goal: the checks that every request passes, whichever handler it has. Method: the service on one region; nothing
    //! waits.

    use futures::FutureExt;
    use prometheus::IntGauge;
    use tonic::Code;

    use super::*;
    use crate::proto::kvrpcpb::{RawGetRequest, RawGetResponse, RawPutRequest, RawScanRequest};
    use crate::service::layer::quota::MemoryQuota;
    use crate::service::layer::slots::Queries;
    use crate::service::one_region::{OneRegion, REGION};

    const CLUSTER: u64 = 77;

    fn service() -> TikvService<OneRegion> {
        let kv = OneRegion::new("", "");
        let gauge = |name: &str| IntGauge::new(name, "of a test").unwrap();
        let raw = RawService::new(
            kv.clone(),
            crate::types::Api::V1,
            MemoryQuota::new(gauge("answers")),
            Queries::new(gauge("queries")),
        );
        TikvService::for_test(kv, CLUSTER, raw)
    }

    fn now<T>(answer: impl Future<Output = T>) -> T {
        answer.now_or_never().expect("nothing waits")
    }

    fn context() -> Context {
        Context { region_id: REGION, ..Context::default() }
    }

    fn get(service: &TikvService<OneRegion>, context: Option<Context>) -> Result<RawGetResponse, Status> {
        let request = RawGetRequest { context, key: "k".into(), ..RawGetRequest::default() };
        now(service.answer(&service.raw, request))
    }

    fn put(service: &TikvService<OneRegion>, context: Context, value: &'static str) -> String {
        let (key, value) = ("k".into(), value.into());
        let request = RawPutRequest { context: Some(context), key, value, ..RawPutRequest::default() };
        now(service.answer(&service.raw, request)).unwrap().error
    }

    #[test]
    fn another_cluster_or_region_is_refused() {
        let service = service();
        let ask = |context| get(&service, context);
        let get = |cluster_id, region_id| ask(Some(Context { cluster_id, region_id, ..context() }));
        assert!(get(CLUSTER, REGION).unwrap().not_found);
        assert_eq!(get(CLUSTER + 1, REGION).unwrap_err().code(), Code::InvalidArgument);
        let unknown = |reply: RawGetResponse| reply.region_error.unwrap().region_not_found.unwrap().region_id;
        assert_eq!(unknown(get(0, 5).unwrap()), 5);
        assert_eq!(unknown(ask(None).unwrap()), 0);
    }

    #[test]
    fn the_other_api_version_is_refused_where_people_see_it() {
        let service = service();
        assert_eq!(put(&service, context(), "v"), "");
        let with = |api_version: i32| Context { api_version, ..context() };
        for (version, served) in [(0, true), (1, false), (2, false), (3, false), (9, false)] {
            let reply = get(&service, Some(with(version))).unwrap();
            assert_eq!((reply.error.is_empty(), reply.value == "v"), (served, served), "{reply:?}");
        }
        assert!(put(&service, with(2), "w").contains("API version 2"));
        let scan = RawScanRequest { context: Some(with(2)), limit: 9, ..RawScanRequest::default() };
        let pairs = now(service.answer(&service.raw, scan)).unwrap().kvs;
        assert!(pairs[0].error.as_ref().unwrap().abort.contains("API version 2"), "{pairs:?}");
        assert_eq!(get(&service, Some(context())).unwrap().value, "v");
    }

    #[test]
    fn a_read_that_waits_longer_than_its_time_is_given_up() {
        let service = service();
        assert_eq!(put(&service, context(), "v"), "");
        let timed = Context { max_execution_duration_ms: 40, ..context() };
        // A request that is answered at once needs no time.
        assert_eq!(get(&service, Some(timed.clone())).unwrap().value, "v");
        // The test's clock ends as soon as anything waits.
        let waits = futures::future::pending::<StoreResult<()>>();
        let late = now(service.in_time(&timed, Repeat::Read, pin!(waits))).unwrap_err();
        let reply: RawGetResponse = refuse(late, REGION, Repeat::Read);
        assert_eq!(reply.region_error.unwrap().server_is_busy.unwrap().reason, "deadline is exceeded");
        let waits = pin!(futures::future::pending::<StoreResult<()>>());
        let write = service.in_time(&timed, Repeat::Same, waits);
        assert!(write.now_or_never().is_none(), "only the store knows whether a write may still happen");
    }
}
