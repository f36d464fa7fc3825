//! The service between nodes and the placement driver.
//!
//! `Hello` is answered as soon as a node runs, because founding a cluster needs it. All other calls need the node's
//! [`Seat`], which is set once the node belongs to a cluster.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, OnceLock};

use tonic::{Request, Response, Status};

use crate::pd::{PdError, PdServer, Wish};
use crate::proto::armilla::pd::cluster_server::Cluster;
use crate::proto::armilla::pd::{
    AllocIdsReply, AllocIdsRequest, ChangeKeyspace, ChangeRegionsReply, ChangeRegionsRequest, ChangeSettings,
    HelloReply, HelloRequest, ListKeyspacesReply, ListKeyspacesRequest, MergeRegionsReply, MergeRegionsRequest,
    MovePeerReply, MovePeerRequest, OverviewReply, OverviewRequest, PdHttpReply, PdHttpRequest, RegisterStoreReply,
    RegisterStoreRequest, RemoveStoreReply, RemoveStoreRequest, ReplaceStore, ReplaceStoreReply, ReportWaitsReply,
    ReportWaitsRequest, SettingsReply, StoreHeartbeatReply, StoreHeartbeatRequest, TakeStoreBackReply,
    TakeStoreBackRequest, TransferLeaderReply, TransferLeaderRequest, change_regions_request,
};
use crate::proto::keyspacepb::KeyspaceMeta;

use super::calls::Method;
use super::layer::observe::Observer;
use super::pd::{Seat, outside, status};
use super::pd_http;

/// Returns what this node knows about itself at the moment.
pub type Hello = Arc<dyn Fn(HelloRequest) -> HelloReply + Send + Sync>;

/// The service `armilla.pd.Cluster` of a node. Clones share its state.
#[derive(Clone)]
pub struct ClusterService {
    hello: Hello,
    seat: Arc<OnceLock<Seat>>,
    observer: Observer,
}

impl fmt::Debug for ClusterService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterService").field("seat", &self.seat).finish_non_exhaustive()
    }
}

impl ClusterService {
    /// Creates the service. It answers `hello` at once, and the other calls once `seat` is set.
    pub fn new(hello: Hello, seat: Arc<OnceLock<Seat>>, observer: Observer) -> ClusterService {
        ClusterService { hello, seat, observer }
    }

    fn seat(&self) -> Result<&Seat, Status> {
        self.seat.get().ok_or_else(|| Status::unavailable("this node does not belong to a cluster yet"))
    }

    /// Answers a call that only the leader can answer.
    async fn lead<'a, R, F>(&'a self, method: Method, ask: impl FnOnce(&'a PdServer) -> F) -> Answer<R>
    where
        F: Future<Output = Result<R, PdError>>,
    {
        let work = async { ask(self.seat()?.server()?).await.map_err(status) };
        self.observer.call(method, work).await
    }
}

type Answer<R> = Result<Response<R>, Status>;

#[tonic::async_trait]
impl Cluster for ClusterService {
    async fn hello(&self, request: Request<HelloRequest>) -> Answer<HelloReply> {
        Ok(Response::new((self.hello)(request.into_inner())))
    }

    async fn register_store(&self, request: Request<RegisterStoreRequest>) -> Answer<RegisterStoreReply> {
        self.lead(Method::RegisterStore, |pd| pd.register_store(request.into_inner())).await
    }

    async fn store_heartbeat(&self, request: Request<StoreHeartbeatRequest>) -> Answer<StoreHeartbeatReply> {
        self.lead(Method::StoreHeartbeat, |pd| pd.store_heartbeat(request.into_inner())).await
    }

    async fn change_keyspace(&self, request: Request<ChangeKeyspace>) -> Answer<KeyspaceMeta> {
        let change = request.into_inner().change;
        let change = change.ok_or_else(|| Status::invalid_argument("a change of a keyspace that is not known here"))?;
        self.lead(Method::ChangeKeyspace, |pd| pd.change_keyspace(change)).await
    }

    async fn list_keyspaces(&self, _: Request<ListKeyspacesRequest>) -> Answer<ListKeyspacesReply> {
        self.lead(Method::ListKeyspaces, PdServer::keyspaces).await
    }

    /// Answers with what this member knows (everything, if it is the leader); on other nodes with the leader's answer.
    async fn overview(&self, request: Request<OverviewRequest>) -> Answer<OverviewReply> {
        let work = async {
            let seat = self.seat()?;
            match seat.member() {
                Some(server) => Ok(server.overview()),
                None => outside(request.get_ref().by_node, || seat.front.overview()).await,
            }
        };
        self.observer.call(Method::Overview, work).await
    }

    async fn transfer_leader(&self, request: Request<TransferLeaderRequest>) -> Answer<TransferLeaderReply> {
        let TransferLeaderRequest { region_id, to_store } = request.into_inner();
        self.lead(Method::TransferLeader, |pd| async move {
            pd.transfer_leader(region_id, to_store).await.map(|()| TransferLeaderReply {})
        })
        .await
    }

    async fn move_peer(&self, request: Request<MovePeerRequest>) -> Answer<MovePeerReply> {
        let MovePeerRequest { region_id, from_store, to_store } = request.into_inner();
        self.lead(Method::MovePeer, |pd| async move {
            pd.move_peer(region_id, from_store, to_store).await.map(|()| MovePeerReply {})
        })
        .await
    }

    async fn merge_regions(&self, request: Request<MergeRegionsRequest>) -> Answer<MergeRegionsReply> {
        let MergeRegionsRequest { source_id, target_id } = request.into_inner();
        self.lead(Method::MergeRegions, |pd| async move {
            pd.merge_regions(source_id, target_id).await.map(|()| MergeRegionsReply {})
        })
        .await
    }

    async fn remove_store(&self, request: Request<RemoveStoreRequest>) -> Answer<RemoveStoreReply> {
        let RemoveStoreRequest { store_id } = request.into_inner();
        self.lead(Method::RemoveStore, |pd| async move {
            pd.remove_store(store_id).await.map(|regions| RemoveStoreReply { regions })
        })
        .await
    }

    async fn take_store_back(&self, request: Request<TakeStoreBackRequest>) -> Answer<TakeStoreBackReply> {
        let TakeStoreBackRequest { store_id } = request.into_inner();
        self.lead(Method::TakeStoreBack, |pd| async move {
            pd.take_store_back(store_id).await.map(|()| TakeStoreBackReply {})
        })
        .await
    }

    async fn alloc_ids(&self, request: Request<AllocIdsRequest>) -> Answer<AllocIdsReply> {
        let AllocIdsRequest { cluster_id, count } = request.into_inner();
        self.lead(Method::AllocIds, |pd| async move {
            pd.alloc_ids(cluster_id, count).await.map(|first| AllocIdsReply { first })
        })
        .await
    }

    async fn report_waits(&self, request: Request<ReportWaitsRequest>) -> Answer<ReportWaitsReply> {
        self.lead(Method::ReportWaits, |pd| pd.report_waits(request.into_inner())).await
    }

    async fn change_settings(&self, request: Request<ChangeSettings>) -> Answer<SettingsReply> {
        self.lead(Method::ChangeSettings, |pd| pd.change_settings(request.into_inner())).await
    }

    async fn replace_store(&self, request: Request<ReplaceStore>) -> Answer<ReplaceStoreReply> {
        let ReplaceStore { lost, by } = request.into_inner();
        self.lead(Method::ReplaceStore, |pd| async move {
            pd.replace_store(lost, by).await.map(|regions| ReplaceStoreReply { regions })
        })
        .await
    }

    async fn change_regions(&self, request: Request<ChangeRegionsRequest>) -> Answer<ChangeRegionsReply> {
        use change_regions_request::Change;
        let change = request.into_inner().change;
        self.lead(Method::ChangeRegions, |pd| async move {
            let failed = match change {
                Some(Change::AddPeer(peer)) => {
                    pd.change_replicas(peer.region_id, Wish::Add(peer.store_id)).await.map(|()| vec![])
                }
                Some(Change::RemovePeer(peer)) => {
                    pd.change_replicas(peer.region_id, Wish::Remove(peer.store_id)).await.map(|()| vec![])
                }
                Some(Change::Scatter(scatter)) => pd.scatter(&scatter.region_ids, &scatter.group).await,
                None => Err(PdError::Invalid("the request names no change that this node knows".into())),
            };
            failed.map(|failed| ChangeRegionsReply { failed })
        })
        .await
    }

    async fn pd_http(&self, request: Request<PdHttpRequest>) -> Answer<PdHttpReply> {
        self.lead(Method::PdHttp, |pd| pd_http::lead(pd, request.into_inner())).await
    }
}
