//! All services of a node in one router, for a socket or for the simulator.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use http::uri::PathAndQuery;
use http::{Request, Response};
use tonic::body::Body;
use tonic::codec::CompressionEncoding;
use tonic::codegen::BoxFuture;
use tonic::server::NamedService;
use tonic::service::Routes;
use tower::Service;

use crate::proto::armilla::pd::cluster_server::ClusterServer;
use crate::proto::etcdserverpb::cluster_server::ClusterServer as EtcdClusterServer;
use crate::proto::etcdserverpb::kv_server::KvServer as EtcdKvServer;
use crate::proto::health::health_server::HealthServer;
use crate::proto::keyspacepb::keyspace_server::KeyspaceServer;
use crate::proto::meta_storagepb::meta_storage_server::MetaStorageServer;
use crate::proto::pdpb::pd_server::PdServer as PdWire;
use crate::proto::tikvpb::tikv_server::TikvServer;
use crate::store::Kv;
use crate::txn::Txn;
use crate::types::Api;
use crate::types::limits::{MESSAGE_BYTES_MAX, REQUEST_BYTES_MAX, STREAM_BYTES_MAX};

use super::cluster::{ClusterService, Hello};
use super::etcd::EtcdService;
use super::forward;
use super::health::HealthService;
use super::intake::quota::{Intake, Share};
use super::intake::{stream, unary};
use super::keyspaces::KeyspaceService;
use super::layer::deadline::Deadlines;
use super::layer::gate::Gate;
use super::layer::observe::Observer;
use super::layer::quota::{self, MemoryQuota};
use super::layer::slots::Queries;
use super::layer::unbuilt::Spoken;
use super::meta_storage::MetaStorageService;
use super::pd::{PdService, Seat};
use super::raw::RawService;
use super::tikv::TikvService;
use super::txn::TxnService;

macro_rules! sized {
    ($server:expr) => {
        $server
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Deflate)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    };
}

/// Same as `sized!`, for services with short requests.
macro_rules! asked {
    ($server:expr) => {
        sized!($server).max_decoding_message_size(REQUEST_BYTES_MAX)
    };
}

/// The gates that open when the node belongs to a cluster and its store runs.
#[derive(Clone, Debug)]
pub struct Gates<K: Kv> {
    tikv: Gate<BoundedTikv<K>>,
    pd: Gate<PdWire<PdService>>,
    keyspaces: Gate<KeyspaceServer<KeyspaceService>>,
    meta: Gate<MetaStorageServer<MetaStorageService>>,
    etcd_kv: Gate<EtcdKvServer<EtcdService>>,
    etcd_cluster: Gate<EtcdClusterServer<EtcdService>>,
    seat: Arc<OnceLock<Seat>>,
    observer: Observer,
}

impl<K: Kv> Gates<K> {
    /// Opens the placement driver's services. May be called before [`Gates::open_store`], because stores register with
    /// them.
    ///
    /// # Panics
    /// Panics if they are open already.
    pub fn open_pd(&self, seat: Seat) {
        assert!(self.seat.set(seat.clone()).is_ok(), "a gate opens only once");
        let observer = || self.observer.clone();
        self.meta.open(asked!(MetaStorageServer::new(MetaStorageService::new(seat.clone(), observer()))));
        self.keyspaces.open(asked!(KeyspaceServer::new(KeyspaceService::new(seat.clone(), observer()))));
        let etcd = EtcdService::new(seat.clone(), observer());
        self.etcd_kv.open(asked!(EtcdKvServer::new(etcd.clone())));
        self.etcd_cluster.open(asked!(EtcdClusterServer::new(etcd)));
        self.pd.open(asked!(PdWire::new(PdService::new(seat, observer()))));
    }

    /// Opens the key-value service.
    ///
    /// # Panics
    /// Panics if it is open already.
    pub fn open_store(&self, kv: K, txn: Txn<K>, (cluster_id, api): (u64, Api)) {
        let metrics = &self.observer.metrics;
        let answers = MemoryQuota::new(metrics.answer_bytes.clone());
        let intake = Intake::new(metrics.request_bytes.clone());
        let raw = RawService::new(kv.clone(), api, answers.clone(), Queries::new(metrics.queries.clone()));
        let txn = TxnService::new(txn, answers.clone());
        let service = TikvService::new(kv, cluster_id, raw, txn, self.observer.clone());
        let stream = sized!(TikvServer::new(service)).max_decoding_message_size(STREAM_BYTES_MAX);
        let unary = stream.clone().max_decoding_message_size(REQUEST_BYTES_MAX);
        self.tikv.open(BoundedTikv { unary, stream, answers, intake });
    }
}

/// The key-value service with bounded memory: requests are bounded while they arrive, and responses that clients have
/// not received are counted.
#[derive(Clone, Debug)]
struct BoundedTikv<K: Kv> {
    unary: TikvServer<TikvService<K>>,
    stream: TikvServer<TikvService<K>>,
    answers: MemoryQuota,
    intake: Intake,
}

impl<K: Kv> NamedService for BoundedTikv<K> {
    const NAME: &'static str = <TikvServer<TikvService<K>> as NamedService>::NAME;
}

impl<K: Kv> Service<Request<Body>> for BoundedTikv<K> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Counting;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Generated services are always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Counting {
        let answers = self.answers.clone();
        if let Err(status) = forward::meant_for_store(&request) {
            let inner = Box::pin(std::future::ready(Ok(status.into_http())));
            return Counting { inner, answers, unary: None };
        }
        if request.uri().path().ends_with("/BatchCommands") {
            let request = request.map(|body| stream::bounded(&self.intake, body));
            return Counting { inner: self.stream.call(request), answers, unary: None };
        }
        let path = request.uri().path_and_query().cloned();
        let (parts, body) = request.into_parts();
        let (body, call) = unary::bounded(&self.intake, body);
        let inner = self.unary.call(Request::from_parts(parts, body));
        Counting { inner, answers, unary: Some((call, path)) }
    }
}

/// The response of [`BoundedTikv`].
struct Counting {
    inner: BoxFuture<Response<Body>, Infallible>,
    answers: MemoryQuota,
    /// For a unary call: the share of the request, and the path of its method.
    unary: Option<(Arc<Share>, Option<PathAndQuery>)>,
}

impl Future for Counting {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Ok(mut response) = std::task::ready!(self.inner.as_mut().poll(cx));
        if let Some((call, path)) = &self.unary {
            let method = path.as_ref().and_then(|path| path.path().rsplit('/').next()).unwrap_or_default();
            response = unary::answer(call, method, response);
        }
        Poll::Ready(Ok(quota::counted(&self.answers, self.unary.is_none(), response)))
    }
}

/// Creates the router of all services, and the gates of those that open later. `hello` and `health` answer at once.
///
/// Requests may be compressed (gzip, deflate). Replies are not: their content rarely compresses well, and CPU time
/// costs more than network bandwidth. An unknown method gets UNIMPLEMENTED with an explanation. A call whose
/// `grpc-timeout` runs out is ended by `deadlines`. A message that does not decode, or is over [`MESSAGE_BYTES_MAX`],
/// fails its call but not the connection. A request of the key-value service that is over [`REQUEST_BYTES_MAX`] gets a
/// reply that says so ([`super::intake`]).
pub fn routes<K: Kv>(
    hello: Hello,
    health: HealthService,
    observer: Observer,
    deadlines: &Deadlines,
) -> (Routes, Gates<K>) {
    let gates = Gates {
        tikv: Gate::default(),
        pd: Gate::default(),
        keyspaces: Gate::default(),
        meta: Gate::default(),
        etcd_kv: Gate::default(),
        etcd_cluster: Gate::default(),
        seat: Arc::new(OnceLock::new()),
        observer: observer.clone(),
    };
    let cluster = ClusterService::new(hello, gates.seat.clone(), observer);
    let routes = Routes::default()
        .add_service(deadlines.bound(Spoken(gates.tikv.clone())))
        .add_service(deadlines.bound(Spoken(gates.pd.clone())))
        .add_service(deadlines.bound(Spoken(gates.keyspaces.clone())))
        .add_service(deadlines.bound(Spoken(gates.meta.clone())))
        .add_service(deadlines.bound(Spoken(gates.etcd_kv.clone())))
        .add_service(deadlines.bound(Spoken(gates.etcd_cluster.clone())))
        .add_service(deadlines.bound(Spoken(sized!(ClusterServer::new(cluster)))))
        .add_service(deadlines.bound(Spoken(sized!(HealthServer::new(health)))));
    (routes, gates)
}

#[cfg(test)]
mod tests {
    //! Goal: unknown, malformed and early requests get the right status, and the services behave through all of tonic.
    //! Method: generated clients on the router itself; nothing waits, so no runtime is needed.

    use bytes::{BufMut, Bytes, BytesMut};
    use futures::{FutureExt, StreamExt, stream};
    use http_body_util::{BodyExt, Full};
    use prometheus::Registry;
    use tonic::Code;
    use tower::ServiceExt;

    use super::*;
    use crate::proto::armilla::pd::cluster_client::ClusterClient;
    use crate::proto::armilla::pd::{HelloReply, HelloRequest, OverviewReply, OverviewRequest, RegisterStoreRequest};
    use crate::proto::etcdserverpb::cluster_client::ClusterClient as EtcdClusterClient;
    use crate::proto::etcdserverpb::kv_client::KvClient as EtcdKvClient;
    use crate::proto::etcdserverpb::{MemberListRequest, PutRequest, RangeRequest};
    use crate::proto::health::HealthCheckRequest;
    use crate::proto::health::health_client::HealthClient;
    use crate::proto::kvrpcpb::{Context, RawGetRequest, RawPutRequest, RawScanRequest};
    use crate::proto::meta_storagepb::meta_storage_client::MetaStorageClient;
    use crate::proto::pdpb::pd_client::PdClient;
    use crate::proto::pdpb::{GetMembersRequest, GetRegionRequest, Member, RequestHeader, TsoRequest};
    use crate::proto::tikvpb::tikv_client::TikvClient;
    use crate::proto::tikvpb::{
        BatchCommandsEmptyRequest, BatchCommandsRequest, batch_commands_request as request,
        batch_commands_response as response,
    };
    use crate::rt::clock::Instant;
    use crate::rt::sync::watch;
    use crate::service::calls::Method;
    use crate::service::layer::metrics::Metrics;
    use crate::service::layer::redact::Redact;
    use crate::service::one_region::{OneRegion, REGION, STORE, with_large_stack};
    use crate::service::pd::{Members, PdProxy};
    use crate::types::Result;

    struct Elsewhere;

    impl PdProxy for Elsewhere {
        fn members(&self) -> futures::future::BoxFuture<'_, Result<Members>> {
            let leader = Member { name: "n1".into(), member_id: 3, ..Member::default() };
            let members = Members { members: vec![leader.clone()], leader: Some(leader) };
            std::future::ready(Ok(members)).boxed()
        }
        fn known_members(&self) -> Vec<Member> {
            Vec::new()
        }
        fn overview(&self) -> futures::future::BoxFuture<'_, Result<OverviewReply>> {
            std::future::ready(Ok(OverviewReply { cluster_id: 7, ..OverviewReply::default() })).boxed()
        }
        fn safe_point(&self, to: Option<u64>) -> futures::future::BoxFuture<'_, Result<u64>> {
            std::future::ready(Ok(to.unwrap_or(41))).boxed()
        }
        fn split(&self, _: Vec<bytes::Bytes>) -> futures::future::BoxFuture<'_, Vec<Result<()>>> {
            panic!("splits are made by the leader")
        }
    }

    fn node() -> (Routes, Gates<OneRegion>, Metrics) {
        let metrics = Metrics::new(&Registry::new()).unwrap();
        let (_, serving) = watch::channel(true);
        let hello =
            Arc::new(|r: HelloRequest| HelloReply { name: format!("hello {}", r.name), ..HelloReply::default() });
        let observer = Observer::by(metrics.clone(), || Instant(1), Redact::Show);
        let never = |_| futures::future::pending().boxed();
        let deadlines = Deadlines::by(|| Instant(1), never, metrics.deadlines_exceeded.clone());
        let (routes, gates) = routes(hello, HealthService::new(serving), observer, &deadlines);
        (routes, gates, metrics)
    }

    fn open() -> (Routes, Metrics) {
        let (routes, gates, metrics) = node();
        gates.open_pd(Seat::outside(7, Arc::new(Elsewhere)));
        let kv = OneRegion::new("", "");
        let txn = Txn::new(kv.clone(), crate::txn::Options { refuse_future_timestamps: false });
        gates.open_store(kv, txn, (7, Api::V1));
        (routes, metrics)
    }

    fn now<T>(answer: impl Future<Output = T>) -> T {
        answer.now_or_never().expect("nothing waits")
    }

    fn context() -> Option<Context> {
        Some(Context { region_id: REGION, ..Context::default() })
    }

    /// Calls a method with a body as it is. Returns the number of the status.
    fn raw_call(routes: &Routes, path: &str, message: &[u8], claimed: usize) -> String {
        let mut frame = BytesMut::new();
        frame.put_u8(0);
        frame.put_u32(claimed as u32);
        frame.put_slice(message);
        let request = http::Request::post(path)
            .header("content-type", "application/grpc")
            .body(tonic::body::Body::new(Full::new(frame.freeze())))
            .unwrap();
        let answer = now(routes.clone().oneshot(request)).unwrap();
        let head = answer.headers().get("grpc-status").cloned();
        let status = head.or_else(|| {
            let collected = now(answer.into_body().collect()).unwrap();
            collected.trailers().and_then(|trailers| trailers.get("grpc-status").cloned())
        });
        status.expect("a status").to_str().unwrap().to_owned()
    }

    #[test]
    fn before_there_is_a_cluster_only_hello_and_health_answer() {
        let (routes, _gates, _) = node();
        let hello =
            now(ClusterClient::new(routes.clone()).hello(HelloRequest { name: "n2".into(), ..Default::default() }));
        assert_eq!(hello.unwrap().get_ref().name, "hello n2");
        assert!(now(HealthClient::new(routes.clone()).check(HealthCheckRequest::default())).is_ok());
        let get = now(TikvClient::new(routes.clone()).raw_get(RawGetRequest::default()));
        assert_eq!(get.unwrap_err().code(), Code::Unavailable);
        let members = now(PdClient::new(routes.clone()).get_members(GetMembersRequest::default()));
        assert_eq!(members.unwrap_err().code(), Code::Unavailable);
        let register = now(ClusterClient::new(routes).register_store(RegisterStoreRequest::default()));
        assert_eq!(register.unwrap_err().code(), Code::Unavailable);
    }

    #[test]
    fn calls_go_through_and_are_counted() {
        let (routes, metrics) = open();
        let mut tikv = TikvClient::new(routes);
        let put = RawPutRequest { context: context(), key: "k".into(), value: "v".into(), ..Default::default() };
        assert_eq!(now(tikv.raw_put(put)).unwrap().get_ref().error, "");
        let get = RawGetRequest { context: context(), key: "k".into(), ..Default::default() };
        assert_eq!(now(tikv.raw_get(get)).unwrap().get_ref().value, "v");
        let lost = RawGetRequest { key: "k".into(), ..Default::default() };
        assert!(now(tikv.raw_get(lost)).unwrap().get_ref().region_error.is_some());
        assert_eq!((metrics.count(Method::RawPut), metrics.count(Method::RawGet)), (1, 2));
        assert_eq!((metrics.errors(Method::RawPut), metrics.errors(Method::RawGet)), (0, 1));
    }

    #[test]
    fn a_node_without_a_member_names_those_that_have_one() {
        let (routes, _) = open();
        let mut pd = PdClient::new(routes.clone());
        let members = now(pd.get_members(GetMembersRequest::default())).unwrap().into_inner();
        assert_eq!(members.header.unwrap().cluster_id, 7);
        assert_eq!(members.leader.unwrap().member_id, 3);
        let region = now(pd.get_region(GetRegionRequest::default())).unwrap_err();
        assert_eq!(region.code(), Code::Unavailable);
        assert!(region.message().starts_with("not leader"));
        let other = GetMembersRequest { header: Some(RequestHeader { cluster_id: 8, ..Default::default() }) };
        assert!(now(pd.get_members(other)).is_ok(), "clients learn the cluster's id from it");
        let tso = now(pd.tso(stream::iter([TsoRequest { count: 1, ..Default::default() }])));
        assert_eq!(tso.unwrap_err().code(), Code::Unavailable);
        let overview = now(ClusterClient::new(routes).overview(OverviewRequest::default())).unwrap();
        assert_eq!(overview.get_ref().cluster_id, 7);
    }

    #[test]
    fn etcds_clients_learn_the_members_from_any_node() {
        let (routes, _) = open();
        let list = MemberListRequest { linearizable: true };
        let list = now(EtcdClusterClient::new(routes.clone()).member_list(list)).unwrap().into_inner();
        assert_eq!(list.header.unwrap().cluster_id, 7);
        assert_eq!(list.members.len(), 1);
        assert_eq!((list.members[0].name.as_str(), list.members[0].id, list.members[0].is_learner), ("n1", 3, false));
        let key = "/tidb/store/gcworker/saved_safe_point";
        let range = RangeRequest { key: key.into(), ..Default::default() };
        let range = now(EtcdKvClient::new(routes.clone()).range(range)).unwrap().into_inner();
        assert_eq!(range.kvs[0].value, "41", "the leader's");
        let put = PutRequest { key: key.into(), value: "42".into(), ..Default::default() };
        assert!(now(EtcdKvClient::new(routes.clone()).put(put)).is_ok(), "etcd's clients send a write once");
        let (starting, _gates, _) = node();
        let list = now(EtcdClusterClient::new(starting).member_list(MemberListRequest::default()));
        assert_eq!(list.unwrap_err().code(), Code::Unavailable);
    }

    #[test]
    fn keys_for_others_are_neither_kept_nor_taken() {
        use crate::proto::meta_storagepb::{DeleteRequest, GetRequest, PutRequest, WatchRequest};
        let (routes, _) = open();
        let mut meta = MetaStorageClient::new(routes);
        let get = now(meta.get(GetRequest::default())).unwrap_err();
        assert_eq!(get.code(), Code::Unavailable);
        assert!(get.message().starts_with("not leader"), "{get}");
        assert_eq!(now(meta.watch(WatchRequest::default())).unwrap_err().code(), Code::Unavailable);
        for refused in [
            now(meta.put(PutRequest::default())).map(|_| ()).unwrap_err(),
            now(meta.delete(DeleteRequest::default())).map(|_| ()).unwrap_err(),
        ] {
            assert_eq!(refused.code(), Code::Unimplemented);
            assert!(refused.message().contains("does not store keys"), "{refused}");
        }
    }

    #[test]
    fn a_call_for_another_store_is_not_answered_as_if_it_were_for_this_one() {
        let (routes, metrics) = open();
        let mut request = tonic::Request::new(RawGetRequest { context: context(), ..Default::default() });
        request.metadata_mut().insert("tikv-forwarded-host", "h:2".parse().unwrap());
        let refused = now(TikvClient::new(routes).raw_get(request)).unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert!(refused.message().contains("h:2"), "{refused}");
        assert_eq!(metrics.count(Method::RawGet), 0);
    }

    #[test]
    fn a_node_without_a_member_asks_nobody_for_a_node() {
        struct Loop;
        impl PdProxy for Loop {
            fn members(&self) -> futures::future::BoxFuture<'_, Result<Members>> {
                std::future::ready(Err(crate::types::Error::Io("no leader at the moment".into()))).boxed()
            }
            fn known_members(&self) -> Vec<Member> {
                Vec::new()
            }
            fn overview(&self) -> futures::future::BoxFuture<'_, Result<OverviewReply>> {
                panic!("the question was forwarded")
            }
            fn safe_point(&self, _: Option<u64>) -> futures::future::BoxFuture<'_, Result<u64>> {
                panic!("the question was forwarded")
            }
            fn split(&self, _: Vec<bytes::Bytes>) -> futures::future::BoxFuture<'_, Vec<Result<()>>> {
                panic!("splits are made by the leader")
            }
        }
        let (routes, gates, _) = node();
        gates.open_pd(Seat::outside(7, Arc::new(Loop)));
        let ask = |caller_component: &str| {
            let header = RequestHeader { caller_component: caller_component.into(), ..Default::default() };
            now(PdClient::new(routes.clone()).get_members(GetMembersRequest { header: Some(header) })).unwrap_err()
        };
        let (of_client, of_node) = (ask("client"), ask(crate::types::NODE_CALLER));
        assert_eq!((of_client.code(), of_node.code()), (Code::Unavailable, Code::Unavailable));
        assert!(of_client.message().contains("no leader"), "{of_client}");
        assert!(of_node.message().contains("no member"), "{of_node}");
        let overview = now(ClusterClient::new(routes.clone()).overview(OverviewRequest { by_node: true }));
        assert_eq!(overview.unwrap_err().code(), Code::Unavailable);
    }

    #[test]
    fn a_stream_of_commands_is_answered_by_id() {
        with_large_stack(|| {
            use request::request::Cmd;
            let (routes, metrics) = open();
            let command = |cmd| request::Request { cmd };
            let put = RawPutRequest { context: context(), key: "k".into(), value: "v".into(), ..Default::default() };
            let get = RawGetRequest { context: context(), key: "k".into(), ..Default::default() };
            let wrong = RawScanRequest { context: context(), cf: "none".into(), ..Default::default() };
            let first = BatchCommandsRequest {
                requests: vec![
                    command(Some(Cmd::RawPut(put.into()))),
                    command(None),
                    command(Some(Cmd::RawScan(wrong.into()))),
                ],
                request_ids: vec![11, 12, 13],
            };
            let empty = BatchCommandsEmptyRequest { test_id: 99, delay_time: 0 };
            let second = BatchCommandsRequest {
                requests: vec![command(Some(Cmd::RawGet(get.into()))), command(Some(Cmd::Empty(empty.into())))],
                request_ids: vec![21, 22],
            };
            let answers =
                now(TikvClient::new(routes).batch_commands(stream::iter([first, second]))).unwrap().into_inner();
            let mut got = std::collections::BTreeMap::new();
            for message in now(answers.collect::<Vec<_>>()) {
                let message = message.unwrap();
                assert_eq!(message.request_ids.len(), message.responses.len());
                got.extend(message.request_ids.into_iter().zip(message.responses.into_iter().map(|r| r.cmd)));
            }
            use response::response::Cmd as Out;
            assert_eq!(got.keys().copied().collect::<Vec<_>>(), [11, 12, 13, 21, 22]);
            assert!(matches!(&got[&11], Some(Out::RawPut(r)) if r.error.is_empty() && r.region_error.is_none()));
            assert_eq!(got[&12], None, "an unknown command gets an empty response");
            assert!(
                matches!(&got[&13], Some(Out::RawScan(r)) if r.kvs[0].error.as_ref().unwrap().abort.contains("none"))
            );
            assert!(matches!(&got[&21], Some(Out::RawGet(r)) if r.value == "v"));
            assert!(matches!(&got[&22], Some(Out::Empty(r)) if r.test_id == 99));
            assert_eq!(metrics.streams.get(), 0);
        });
    }

    #[test]
    fn a_deadline_reaches_every_service() {
        let (routes, _) = open();
        let timed = |timeout: &str| {
            let mut request = tonic::Request::new(GetMembersRequest::default());
            request.metadata_mut().insert("grpc-timeout", timeout.parse().unwrap());
            now(PdClient::new(routes.clone()).get_members(request))
        };
        assert!(timed("2S").is_ok());
        let status = timed("2s").unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains("grpc-timeout"), "{}", status.message());
        let mut request = tonic::Request::new(RawGetRequest { context: context(), ..Default::default() });
        request.metadata_mut().insert("grpc-timeout", "1".parse().unwrap());
        assert_eq!(now(TikvClient::new(routes.clone()).raw_get(request)).unwrap_err().code(), Code::InvalidArgument);
        let mut request = tonic::Request::new(RawGetRequest { context: context(), ..Default::default() });
        request.set_timeout(std::time::Duration::from_secs(2));
        assert!(now(TikvClient::new(routes).raw_get(request)).unwrap().get_ref().not_found);
    }

    #[test]
    fn a_call_for_another_store_is_not_answered_here() {
        let (routes, _) = open();
        let asked = |host: Option<&'static str>| {
            let get = RawGetRequest { key: "k".into(), context: context(), ..Default::default() };
            let mut request = tonic::Request::new(get);
            if let Some(host) = host {
                request.metadata_mut().insert("tikv-forwarded-host", host.parse().unwrap());
            }
            let origin = "http://n1:20160".parse().unwrap();
            now(TikvClient::with_origin(routes.clone(), origin).raw_get(request))
        };
        assert!(asked(None).is_ok() && asked(Some("n1:20160")).is_ok());
        let status = asked(Some("n2:20160")).unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert!(status.message().contains("n2:20160"), "{}", status.message());
    }

    #[test]
    fn the_health_of_a_store_has_a_rising_number() {
        with_large_stack(|| {
            use request::request::Cmd;
            let (routes, _) = open();
            let command = || request::Request { cmd: Some(Cmd::GetHealthFeedback(Default::default())) };
            let requests = BatchCommandsRequest { requests: vec![command(), command()], request_ids: vec![1, 2] };
            let answers = now(TikvClient::new(routes).batch_commands(stream::iter([requests]))).unwrap().into_inner();
            let mut numbers = Vec::new();
            for reply in now(answers.collect::<Vec<_>>()).into_iter().flat_map(|message| message.unwrap().responses) {
                let Some(response::response::Cmd::GetHealthFeedback(reply)) = reply.cmd else { panic!("{reply:?}") };
                let health = reply.health_feedback.unwrap();
                assert_eq!((health.store_id, health.slow_score), (STORE, 1));
                numbers.push(health.feedback_seq_no);
            }
            assert!(numbers.len() == 2 && numbers[0] < numbers[1] && numbers[0] >= 1_000_000, "{numbers:?}");
        });
    }

    #[test]
    fn what_does_not_decode_costs_only_its_call() {
        let (routes, _) = open();
        assert_eq!(raw_call(&routes, "/tikvpb.Tikv/Raft", b"", 0), (Code::Unimplemented as i32).to_string());
        assert_eq!(raw_call(&routes, "/nothing.Here/Get", b"", 0), (Code::Unimplemented as i32).to_string());
        assert_eq!(raw_call(&routes, "/tikvpb.Tikv/RawGet", b"\xff\xff\xff", 3), (Code::Internal as i32).to_string());
        let too_long = |path, bytes| raw_call(&routes, path, b"", bytes);
        assert_eq!(too_long("/pdpb.PD/GetRegion", MESSAGE_BYTES_MAX + 1), (Code::OutOfRange as i32).to_string());
        // Clients of the key-value service get an error of its own protocol.
        assert_eq!(too_long("/tikvpb.Tikv/RawGet", REQUEST_BYTES_MAX + 1), (Code::Ok as i32).to_string());
        let lost = RawGetRequest { key: Bytes::from_static(b"k"), context: context(), ..Default::default() };
        assert!(now(TikvClient::new(routes).raw_get(lost)).unwrap().get_ref().not_found);
    }
}
