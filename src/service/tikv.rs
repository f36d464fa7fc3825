//! The key-value service: what is done for every request before and after its handler, alone and in a stream.

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
    self, ApiVersion, Context, GetHealthFeedbackRequest, GetHealthFeedbackResponse, HealthFeedback, StoreSafeTsRequest,
    StoreSafeTsResponse,
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
use super::layer::observe::{Observer, Subject};
use super::layer::quota::{Large, counts};
use super::raw::RawService;

/// `tikvpb.Tikv` over a store. Clones share it.
#[derive(Clone, Debug)]
pub struct TikvService<K> {
    kv: K,
    cluster_id: u64,
    pub(super) raw: RawService<K>,
    observer: Observer,
    /// The number of the last health feedback.
    feedback: Arc<AtomicU64>,
}

/// The best of scores (1 to 100; slow from 80 on): nothing here measures how slow a store is, so none is called slow.
const HEALTHY: i32 = 1;

impl<K: Kv> TikvService<K> {
    /// The service of the cluster `cluster_id` over `kv`, whose raw requests `raw` handles.
    pub fn new(kv: K, cluster_id: u64, raw: RawService<K>, observer: Observer) -> TikvService<K> {
        TikvService { kv, cluster_id, raw, observer, feedback: Arc::default() }
    }

    /// Answers a request by its handler, measured.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for a request of another cluster.
    pub(super) async fn answer<C: Call>(&self, handler: &impl Handler<C>, mut request: C) -> Result<C::Reply, Status> {
        let context = request.take_context();
        let subject = Subject { region: context.region_id, key: request.key() };
        let work = async {
            self.check_cluster(&context)?;
            let result = match check_version(&context) {
                Ok(()) => self.in_time(&context, C::REPEAT, handler.handle(&context, request)).await,
                Err(error) => Err(error),
            };
            Ok(result.unwrap_or_else(|error| refuse(error, context.region_id, C::REPEAT)))
        };
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

    /// Runs `work`, whose request may give itself a time (`max_execution_duration_ms`). A read is given up when that is over, from
    /// whatever it waits for; a write's time is kept by the store, which knows whether it may still happen.
    pub(super) async fn in_time<T>(
        &self,
        context: &Context,
        repeat: Repeat,
        work: impl Future<Output = StoreResult<T>> + Send,
    ) -> StoreResult<T> {
        let limit_ms = context.max_execution_duration_ms;
        if limit_ms == 0 || repeat != Repeat::Read {
            return work.await;
        }
        let mut work = pin!(work);
        // What is answered at once starts no timer.
        if let Poll::Ready(result) = poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await {
            return result;
        }
        let timer = pin!(self.kv.sleep(Duration::from_millis(limit_ms)));
        match select(work, timer).await {
            Either::Left((result, _)) => result,
            Either::Right(_) => Err(Error::Deadline(format!("the read took longer than its {limit_ms} ms"))),
        }
    }

    /// Answers a call that came alone.
    async fn answer_alone<C: Call>(
        &self,
        handler: &impl Handler<C>,
        request: Request<C>,
    ) -> Result<Response<C::Reply>, Status> {
        let reply = self.answer(handler, request.into_inner()).await?;
        let large = C::is_large(&reply, counts);
        let mut response = Response::new(reply);
        if large {
            response.extensions_mut().insert(Large);
        }
        Ok(response)
    }

    /// Answers an empty command, after the time that it asks for.
    async fn empty(&self, request: BatchCommandsEmptyRequest) -> BatchCommandsEmptyResponse {
        if request.delay_time > 0 {
            self.kv.sleep(Duration::from_millis(request.delay_time)).await;
        }
        BatchCommandsEmptyResponse { test_id: request.test_id }
    }

    /// The store's health, with a number that rises from answer to answer, from start to start too.
    fn health_feedback(&self) -> GetHealthFeedbackResponse {
        let now_ms = self.kv.now_s() * 1000;
        let next = |last: u64| Some(now_ms.max(last + 1));
        let last = self.feedback.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).expect("always a next one");
        let feedback_seq_no = now_ms.max(last + 1);
        let feedback = HealthFeedback { store_id: self.kv.store(), feedback_seq_no, slow_score: HEALTHY };
        GetHealthFeedbackResponse { health_feedback: Some(feedback), ..GetHealthFeedbackResponse::default() }
    }
}

/// Checks that the request speaks of the keys that this cluster has: with API V2 the same name is another key.
fn check_version(context: &Context) -> StoreResult<()> {
    match ApiVersion::try_from(context.api_version) {
        Ok(ApiVersion::V1) => Ok(()),
        Ok(ApiVersion::V1ttl) => Err(Error::Invalid(
            "the request is of API version V1TTL, this cluster serves V1, in which keys may expire too: use a client of V1".into(),
        )),
        _ => Err(Error::Invalid(format!(
            "the request is of API version {}, this cluster serves version 1: use a client without a keyspace",
            context.api_version
        ))),
    }
}

macro_rules! commands {
    ($($service:ident { $($name:ident: $function:ident($Request:ident) -> $Reply:ident,
        [$($number:literal $cmd:ident)?] $repeat:ident $key:tt $failure:tt $large:tt;)+ })+) => {
        impl<K: Kv> TikvService<K> {
            /// Answers a command of a stream; nothing for one that is not known.
            async fn answer_command(&self, command: Command) -> Option<Reply> {
                Some(match command {
                    $($($(Command::$cmd(request) => Reply::$cmd(streamed(self.answer(&self.$service, *request).await)),)?)+)+
                    Command::GetHealthFeedback(_) => Reply::GetHealthFeedback(self.health_feedback()),
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
                Ok(Response::new(Box::pin(self.stream(request.into_inner()))))
            }
        }
    };
}
tikv_calls!(service);

impl<K: Kv> TikvService<K> {
    /// The answers to a stream of commands.
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
    /// A service of the cluster `cluster_id` that keeps its metrics to itself.
    pub(super) fn for_test(kv: K, cluster_id: u64, raw: RawService<K>) -> TikvService<K> {
        use crate::rt::clock::Instant;
        let metrics = super::layer::metrics::Metrics::new(&prometheus::Registry::new()).unwrap();
        let observer = Observer::by(metrics, || Instant(1), super::layer::redact::Redact::Show);
        TikvService::new(kv, cluster_id, raw, observer)
    }
}
