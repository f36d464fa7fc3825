//! The placement driver's service, as TiKV's clients know it.
//!
//! Members of the placement driver answer from their [`PdServer`]; on a member that does not lead, calls for the leader end with
//! UNAVAILABLE "not leader", after which clients ask GetMembers and go where it says. A node without a member answers GetMembers
//! too, through its [`PdFront`], so that any node's address is an endpoint that a client may be given.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use futures::future::BoxFuture;
use tonic::{Request, Response, Status, Streaming};

use crate::pd::{PdError, PdServer, RegionInfo};
use crate::proto::armilla::pd::OverviewReply;
use crate::proto::metapb::StoreState;
use crate::proto::pdpb::pd_server::Pd;
use crate::proto::pdpb::{
    self, ErrorType, GetAllStoresRequest, GetAllStoresResponse, GetClusterInfoRequest, GetClusterInfoResponse,
    GetGcSafePointRequest, GetGcSafePointResponse, GetMembersRequest, GetMembersResponse, GetRegionByIdRequest,
    GetRegionRequest, GetRegionResponse, GetStoreRequest, GetStoreResponse, Member, RequestHeader, ResponseHeader,
    ScanRegionsRequest, ScanRegionsResponse, ServiceMode, TsoRequest, TsoResponse, UpdateGcSafePointRequest,
    UpdateGcSafePointResponse,
};
use crate::types::{NODE_CALLER, Result as StoreResult};

use super::metrics::{Method, Observer};
use super::tso;

/// Who the placement driver's members are, and who leads as far as known.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Members {
    /// All of them.
    pub members: Vec<Member>,
    /// The leader.
    pub leader: Option<Member>,
}

/// How a node without a member of the placement driver learns about it: by asking.
pub trait PdFront: Send + Sync + 'static {
    /// The members, and the leader if one of them knows.
    fn members(&self) -> BoxFuture<'_, StoreResult<Members>>;
    /// The cluster as the leader sees it.
    fn overview(&self) -> BoxFuture<'_, StoreResult<OverviewReply>>;
}

/// Where this node stands to the placement driver. Clones share it.
#[derive(Clone)]
pub enum Seat {
    /// It carries a member.
    Member(PdServer),
    /// It does not.
    Outside {
        /// The cluster; never 0.
        cluster_id: u64,
        /// The way to the members.
        front: Arc<dyn PdFront>,
    },
}

impl std::fmt::Debug for Seat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Seat::Member(_) => "Member",
            Seat::Outside { .. } => "Outside",
        })
    }
}

impl Seat {
    /// The cluster's id.
    pub fn cluster_id(&self) -> u64 {
        match self {
            Seat::Member(server) => server.cluster_id(),
            Seat::Outside { cluster_id, .. } => *cluster_id,
        }
    }

    /// This node's member.
    pub(super) fn server(&self) -> Result<&PdServer, Status> {
        match self {
            Seat::Member(server) => Ok(server),
            Seat::Outside { .. } => {
                Err(Status::unavailable("not leader: this node has no member of the placement driver"))
            }
        }
    }
}

/// The status that tells a client about `error`. All that may be better a moment later is UNAVAILABLE, which every client
/// answers by looking for the leader again.
pub(super) fn status(error: PdError) -> Status {
    let text = error.to_string();
    match error {
        PdError::NotLeader(_) | PdError::NotBootstrapped | PdError::Unavailable(_) => Status::unavailable(text),
        PdError::ClusterMismatch { .. } => Status::failed_precondition(text),
        PdError::Invalid(_) => Status::invalid_argument(text),
    }
}

/// `pdpb.PD` of a node. Clones share it.
#[derive(Clone, Debug)]
pub struct PdService {
    seat: Seat,
    observer: Observer,
}

/// Whether a request's header is of this cluster.
///
/// A header without an id (0) is taken by every call. TiKV's placement driver takes it in GetMembers only; nothing is lost by
/// being generous, and clients that leave the id out keep working. A header of another cluster is refused by every call.
fn check(cluster_id: u64, header: Option<&RequestHeader>) -> Result<(), Status> {
    match header.map_or(0, |header| header.cluster_id) {
        0 => Ok(()),
        asked if asked == cluster_id => Ok(()),
        asked => Err(status(PdError::ClusterMismatch { asked, actual: cluster_id })),
    }
}

impl PdService {
    /// The service of a node that stands so to the placement driver.
    pub fn new(seat: Seat, observer: Observer) -> PdService {
        PdService { seat, observer }
    }

    fn header(&self) -> ResponseHeader {
        ResponseHeader { cluster_id: self.seat.cluster_id(), error: None }
    }

    fn refusal(&self, kind: ErrorType, message: String) -> Option<ResponseHeader> {
        Some(ResponseHeader { error: Some(pdpb::Error { r#type: kind as i32, message }), ..self.header() })
    }

    /// Answers a request for the leader: checks its header, then runs `ask` over this node's member.
    async fn lead<'a, T, R, F>(
        &'a self,
        method: Method,
        header: Option<&RequestHeader>,
        ask: impl FnOnce(&'a PdServer) -> F,
        reply: impl FnOnce(Option<ResponseHeader>, T) -> R,
    ) -> Result<Response<R>, Status>
    where
        F: Future<Output = Result<T, PdError>>,
    {
        let work = async {
            check(self.seat.cluster_id(), header)?;
            let answer = ask(self.seat.server()?).await.map_err(status)?;
            Ok(reply(Some(self.header()), answer))
        };
        self.observer.call(method, work).await
    }
}

/// What a node without a member answers: what it is told, unless it is a node that asks. That one asks the members itself; two
/// nodes without a member (founders whose disks are new) would ask each other without end.
pub(super) async fn outside<'a, T>(
    by_node: bool,
    ask: impl FnOnce() -> BoxFuture<'a, StoreResult<T>>,
) -> Result<T, Status> {
    if by_node {
        return Err(Status::unavailable("this node has no member of the placement driver"));
    }
    ask().await.map_err(|error| Status::unavailable(error.to_string()))
}

/// What GetRegion and its like answer.
fn region(header: Option<ResponseHeader>, found: Option<RegionInfo>) -> GetRegionResponse {
    match (header, found) {
        (Some(header), Some(info)) => info.into_response(header),
        (header, _) => GetRegionResponse { header, ..GetRegionResponse::default() },
    }
}

type Answer<R> = Result<Response<R>, Status>;

#[tonic::async_trait]
impl Pd for PdService {
    async fn get_members(&self, request: Request<GetMembersRequest>) -> Answer<GetMembersResponse> {
        let work = async {
            let header = request.get_ref().header.as_ref();
            check(self.seat.cluster_id(), header)?;
            let by_node = header.is_some_and(|header| header.caller_component == NODE_CALLER);
            let Members { members, leader } = match &self.seat {
                Seat::Member(server) => Members { members: server.members(), leader: server.leader() },
                Seat::Outside { front, .. } => outside(by_node, || front.members()).await?,
            };
            Ok(GetMembersResponse {
                header: Some(self.header()),
                members,
                etcd_leader: leader.clone(),
                leader,
                ..GetMembersResponse::default()
            })
        };
        self.observer.call(Method::GetMembers, work).await
    }

    type TsoStream = Pin<Box<dyn Stream<Item = Result<TsoResponse, Status>> + Send>>;

    async fn tso(&self, request: Request<Streaming<TsoRequest>>) -> Answer<Self::TsoStream> {
        let server = self.seat.server()?.clone();
        let (cluster_id, observer) = (self.seat.cluster_id(), self.observer.clone());
        let answers = tso::answer(
            request.into_inner(),
            self.header(),
            move |request| check(cluster_id, request.header.as_ref()),
            move |count| {
                let (server, observer) = (server.clone(), observer.clone());
                async move {
                    let grant = async { server.tso(count).await.map_err(status) };
                    observer.call(Method::Tso, grant).await.map(Response::into_inner)
                }
            },
        );
        Ok(Response::new(Box::pin(answers)))
    }

    async fn get_region(&self, request: Request<GetRegionRequest>) -> Answer<GetRegionResponse> {
        let r = request.get_ref();
        self.lead(Method::GetRegion, r.header.as_ref(), |pd| pd.get_region(&r.region_key), region).await
    }

    async fn get_prev_region(&self, request: Request<GetRegionRequest>) -> Answer<GetRegionResponse> {
        let r = request.get_ref();
        self.lead(Method::GetPrevRegion, r.header.as_ref(), |pd| pd.get_prev_region(&r.region_key), region).await
    }

    async fn get_region_by_id(&self, request: Request<GetRegionByIdRequest>) -> Answer<GetRegionResponse> {
        let r = request.get_ref();
        self.lead(Method::GetRegionByID, r.header.as_ref(), |pd| pd.get_region_by_id(r.region_id), region).await
    }

    async fn scan_regions(&self, request: Request<ScanRegionsRequest>) -> Answer<ScanRegionsResponse> {
        let r = request.get_ref();
        let ask = |pd| PdServer::scan_regions(pd, &r.start_key, &r.end_key, r.limit);
        self.lead(Method::ScanRegions, r.header.as_ref(), ask, |header, found| ScanRegionsResponse {
            header,
            // Old clients read these two, new ones `regions`.
            region_metas: found.iter().map(|info| info.region.clone()).collect(),
            leaders: found.iter().map(|info| info.leader.unwrap_or_default()).collect(),
            regions: found.into_iter().map(RegionInfo::into_pdpb).collect(),
        })
        .await
    }

    async fn get_store(&self, request: Request<GetStoreRequest>) -> Answer<GetStoreResponse> {
        let r = request.get_ref();
        let id = r.store_id;
        let answer = self
            .lead(
                Method::GetStore,
                r.header.as_ref(),
                |pd| pd.get_store(id),
                |header, found| match found {
                    // client-rust panics on a reply with neither store nor error.
                    None => {
                        let header = self.refusal(ErrorType::EntryNotFound, format!("there is no store {id}"));
                        GetStoreResponse { header, ..Default::default() }
                    }
                    Some((store, _)) if store.state() == StoreState::Tombstone => {
                        let header = self.refusal(ErrorType::StoreTombstone, format!("store {id} is gone"));
                        GetStoreResponse { header, ..Default::default() }
                    }
                    Some((store, stats)) => GetStoreResponse { header, store: Some(store), stats: Some(stats) },
                },
            )
            .await?;
        if answer.get_ref().store.as_ref().is_some_and(|store| store.address.is_empty()) {
            // Another store took its address; its regions get other leaders in a moment.
            return Err(Status::unavailable(format!("store {id} has no address")));
        }
        Ok(answer)
    }

    async fn get_all_stores(&self, request: Request<GetAllStoresRequest>) -> Answer<GetAllStoresResponse> {
        let r = request.get_ref();
        let ask = |pd| PdServer::get_all_stores(pd, r.exclude_tombstone_stores);
        self.lead(Method::GetAllStores, r.header.as_ref(), ask, |header, stores| GetAllStoresResponse {
            header,
            stores,
        })
        .await
    }

    async fn update_gc_safe_point(
        &self,
        request: Request<UpdateGcSafePointRequest>,
    ) -> Answer<UpdateGcSafePointResponse> {
        let r = request.get_ref();
        let ask = |pd| PdServer::update_gc_safe_point(pd, r.safe_point);
        self.lead(Method::UpdateGCSafePoint, r.header.as_ref(), ask, |header, new_safe_point| {
            UpdateGcSafePointResponse { header, new_safe_point }
        })
        .await
    }

    async fn get_gc_safe_point(&self, request: Request<GetGcSafePointRequest>) -> Answer<GetGcSafePointResponse> {
        let r = request.get_ref();
        self.lead(Method::GetGCSafePoint, r.header.as_ref(), PdServer::gc_safe_point, |header, safe_point| {
            GetGcSafePointResponse { header, safe_point }
        })
        .await
    }

    /// One service for everything: there are no separate timestamp servers.
    async fn get_cluster_info(&self, _request: Request<GetClusterInfoRequest>) -> Answer<GetClusterInfoResponse> {
        Ok(Response::new(GetClusterInfoResponse {
            header: Some(self.header()),
            service_modes: vec![ServiceMode::PdSvcMode as i32],
            tso_urls: vec![],
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_other_clusters_are_refused() {
        let header = |cluster_id| RequestHeader { cluster_id, ..RequestHeader::default() };
        assert!(check(7, None).is_ok());
        assert!(check(7, Some(&header(0))).is_ok());
        assert!(check(7, Some(&header(7))).is_ok());
        assert_eq!(check(7, Some(&header(8))).unwrap_err().code(), tonic::Code::FailedPrecondition);
    }

    #[test]
    fn clients_look_for_the_leader_when_they_should() {
        for (error, code, text) in [
            (PdError::NotLeader(None), tonic::Code::Unavailable, "not leader"),
            (PdError::NotBootstrapped, tonic::Code::Unavailable, "not bootstrapped"),
            (PdError::Unavailable("later".into()), tonic::Code::Unavailable, "later"),
            (PdError::Invalid("wrong".into()), tonic::Code::InvalidArgument, "wrong"),
        ] {
            let status = status(error);
            assert_eq!(status.code(), code);
            assert!(status.message().contains(text), "{}", status.message());
        }
    }
}
