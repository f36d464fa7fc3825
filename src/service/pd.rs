//! The placement driver's service, in the form that TiKV's clients know.
//!
//! Members of the placement driver answer with their [`PdServer`]. On a follower, calls for the leader end with
//! UNAVAILABLE "not leader". Clients then ask GetMembers for the leader and go there. A node without a member also
//! answers GetMembers, through its [`PdProxy`], so that the address of any node is a valid endpoint for clients.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::Stream;
use futures::future::BoxFuture;
use tonic::{Request, Response, Status, Streaming};

use crate::pd::operators::Outcome;
use crate::pd::{PdError, PdServer, RegionInfo};
use crate::proto::armilla::pd::OverviewReply;
use crate::proto::metapb::{Store, StoreState};
use crate::proto::pdpb::pd_server::Pd;
use crate::proto::pdpb::{
    self, AdvanceGcSafePointRequest, AdvanceGcSafePointResponse, AdvanceTxnSafePointRequest,
    AdvanceTxnSafePointResponse, BatchScanRegionsRequest, BatchScanRegionsResponse, DeleteGcBarrierRequest,
    DeleteGcBarrierResponse, DeleteGlobalGcBarrierRequest, DeleteGlobalGcBarrierResponse, ErrorType,
    GetAllKeyspacesGcStatesRequest, GetAllKeyspacesGcStatesResponse, GetAllStoresRequest, GetAllStoresResponse,
    GetClusterInfoRequest, GetClusterInfoResponse, GetGcSafePointRequest, GetGcSafePointResponse, GetGcStateRequest,
    GetGcStateResponse, GetMembersRequest, GetMembersResponse, GetOperatorRequest, GetOperatorResponse,
    GetRegionByIdRequest, GetRegionRequest, GetRegionResponse, GetStoreRequest, GetStoreResponse, KeyRange,
    KeyspaceScope, Member, OperatorStatus, QueryRegionRequest, QueryRegionResponse, RequestHeader, ResponseHeader,
    ScanRegionsRequest, ScanRegionsResponse, ScatterRegionRequest, ScatterRegionResponse, ServiceMode,
    SetGcBarrierRequest, SetGcBarrierResponse, SetGlobalGcBarrierRequest, SetGlobalGcBarrierResponse,
    SplitAndScatterRegionsRequest, SplitAndScatterRegionsResponse, SplitRegionsRequest, SplitRegionsResponse,
    TsoRequest, TsoResponse, UpdateGcSafePointRequest, UpdateGcSafePointResponse, UpdateServiceGcSafePointRequest,
    UpdateServiceGcSafePointResponse,
};
use crate::types::limits::{PD_HTTP_SPLIT_KEYS_MAX, SCATTERED_MAX};
use crate::types::{Api, NODE_CALLER, Result as StoreResult};

use super::calls::Method;
use super::forward;
use super::layer::observe::Observer;
use super::pd_http::operators;
use super::query_region;
use super::safe_points;
use super::tso;

/// The placement driver's members, and the leader if known.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Members {
    /// All members.
    pub members: Vec<Member>,
    /// The leader.
    pub leader: Option<Member>,
}

/// How a node without a placement driver member gets information about it: it asks the members.
pub trait PdProxy: Send + Sync + 'static {
    /// Returns the members, and the leader if one of them knows it.
    fn members(&self) -> BoxFuture<'_, StoreResult<Members>>;
    /// Returns the members that this node heard of last, without asking.
    fn known_members(&self) -> Vec<Member>;
    /// Returns the cluster as the leader sees it.
    fn overview(&self) -> BoxFuture<'_, StoreResult<OverviewReply>>;
    /// Returns the leader's safe point of garbage collection, after moving it up to `to`, if there is one.
    fn safe_point(&self, to: Option<u64>) -> BoxFuture<'_, StoreResult<u64>>;
    /// Asks the regions' leaders to make each of these keys the start of a region. Returns for each whether it is one.
    fn split(&self, keys: Vec<Bytes>) -> BoxFuture<'_, Vec<StoreResult<()>>>;
}

/// The role of this node with regard to the placement driver, which may change. Clones share it.
#[derive(Clone)]
pub struct Seat {
    cluster_id: u64,
    /// Asks the members.
    pub(super) front: Arc<dyn PdProxy>,
    server: Option<PdServer>,
}

impl std::fmt::Debug for Seat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seat").field("is_member", &self.member().is_some()).finish_non_exhaustive()
    }
}

impl Seat {
    /// Creates the role of a node that may have a member now and then.
    pub fn new(server: PdServer, front: Arc<dyn PdProxy>) -> Seat {
        Seat { cluster_id: server.cluster_id(), front, server: Some(server) }
    }

    /// Creates the role of a node that never has a member.
    #[cfg(test)]
    pub fn outside(cluster_id: u64, front: Arc<dyn PdProxy>) -> Seat {
        Seat { cluster_id, front, server: None }
    }

    /// Returns the cluster's id.
    pub fn cluster_id(&self) -> u64 {
        self.cluster_id
    }

    /// Returns this node's member, if it has one now.
    pub(super) fn member(&self) -> Option<&PdServer> {
        self.server.as_ref().filter(|server| server.is_member())
    }

    /// Returns this node's member. Returns UNAVAILABLE "not leader" if it has none.
    pub(super) fn server(&self) -> Result<&PdServer, Status> {
        let none = || Status::unavailable("not leader: this node has no member of the placement driver");
        self.member().ok_or_else(none)
    }
}

/// Returns the status that reports `error` to a client. Temporary errors are UNAVAILABLE: every client then looks for
/// the leader again.
pub(super) fn status(error: PdError) -> Status {
    let text = error.to_string();
    match error {
        PdError::NotLeader(_) | PdError::NotBootstrapped | PdError::Unavailable(_) => Status::unavailable(text),
        PdError::ClusterMismatch { .. } => Status::failed_precondition(text),
        PdError::Invalid(_) => Status::invalid_argument(text),
    }
}

/// Same as [`status`], but in the wording of PD's timestamp stream, which some clients look for.
fn no_timestamp(error: PdError) -> Status {
    match error {
        PdError::NotLeader(_) => Status::unavailable("not leader: requested pd is not leader of cluster"),
        error => status(error),
    }
}

/// The service `pdpb.PD` of a node. Clones share its state.
#[derive(Clone, Debug)]
pub struct PdService {
    seat: Seat,
    observer: Observer,
}

/// Refuses a request whose header does not name this cluster. Only GetMembers and GetClusterInfo do not need the check:
/// clients learn the id from them.
pub(super) fn check(cluster_id: u64, header: Option<&RequestHeader>) -> Result<(), Status> {
    let asked = header.map_or(0, |header| header.cluster_id);
    if asked == cluster_id { Ok(()) } else { Err(status(PdError::ClusterMismatch { asked, actual: cluster_id })) }
}

/// A request that carries a header.
trait HasHeader {
    fn header(&self) -> Option<&RequestHeader>;
}

macro_rules! has_header {
    ($($request:ident),+ $(,)?) => {
        $(impl HasHeader for $request {
            fn header(&self) -> Option<&RequestHeader> {
                self.header.as_ref()
            }
        })+
    };
}

has_header!(
    GetRegionRequest,
    GetRegionByIdRequest,
    ScanRegionsRequest,
    BatchScanRegionsRequest,
    GetStoreRequest,
    GetAllStoresRequest,
    UpdateGcSafePointRequest,
    GetGcSafePointRequest,
    GetGcStateRequest,
    GetAllKeyspacesGcStatesRequest,
    UpdateServiceGcSafePointRequest,
    AdvanceTxnSafePointRequest,
    AdvanceGcSafePointRequest,
    SetGcBarrierRequest,
    DeleteGcBarrierRequest,
    SetGlobalGcBarrierRequest,
    DeleteGlobalGcBarrierRequest,
    ScatterRegionRequest,
    SplitRegionsRequest,
    SplitAndScatterRegionsRequest,
    GetOperatorRequest,
);

/// Returns the header which says that there are no stores and regions yet.
fn not_bootstrapped(cluster_id: u64) -> ResponseHeader {
    refusal(cluster_id, ErrorType::NotBootstrapped, "cluster is not bootstrapped".into())
}

/// Returns a header that refuses the request.
pub(super) fn refusal(cluster_id: u64, kind: ErrorType, message: String) -> ResponseHeader {
    ResponseHeader { cluster_id, error: Some(pdpb::Error { r#type: kind as i32, message }) }
}

impl PdService {
    /// Creates the service of a node with this seat.
    pub fn new(seat: Seat, observer: Observer) -> PdService {
        PdService { seat, observer }
    }

    fn header(&self) -> ResponseHeader {
        ResponseHeader { cluster_id: self.seat.cluster_id(), error: None }
    }

    /// Returns the header that refuses a request about a keyspace which does not exist.
    #[allow(clippy::option_option, reason = "a header is optional in messages")]
    fn unknown(&self, scope: Option<&KeyspaceScope>) -> Option<Option<ResponseHeader>> {
        let known = |id| self.seat.member().is_some_and(|pd| pd.api() == Api::V2 && pd.has_keyspace(id));
        let why = safe_points::unknown_keyspace(scope, known)?;
        Some(self.refusal(ErrorType::Unknown, why))
    }

    fn refusal(&self, kind: ErrorType, message: String) -> Option<ResponseHeader> {
        Some(refusal(self.seat.cluster_id(), kind, message))
    }

    /// Answers a request for the leader: checks that it is meant for this node, then runs `ask` with this node's
    /// member.
    async fn lead<'a, Q, T, R, F>(
        &'a self,
        method: Method,
        request: &'a Request<Q>,
        ask: impl FnOnce(&'a PdServer) -> F,
        reply: impl FnOnce(Option<ResponseHeader>, T) -> R,
    ) -> Result<Response<R>, Status>
    where
        Q: HasHeader,
        T: Default,
        F: Future<Output = Result<T, PdError>>,
    {
        let work = async {
            let server = self.seat.server()?;
            forward::meant_for(server.addr(), request.metadata())?;
            check(self.seat.cluster_id(), request.get_ref().header())?;
            match ask(server).await {
                Ok(answer) => Ok(reply(Some(self.header()), answer)),
                Err(PdError::NotBootstrapped) => {
                    Ok(reply(Some(not_bootstrapped(self.seat.cluster_id())), T::default()))
                }
                Err(error) => Err(status(error)),
            }
        };
        self.observer.call(method, work).await
    }

    /// Makes each of these keys the start of a region. Returns the percentage of keys that are one, and the IDs of the
    /// regions that start at those that were none before. A key that is given twice counts once.
    async fn split(&self, pd: &PdServer, keys: &[Bytes]) -> Result<(u64, Vec<u64>), PdError> {
        let distinct: BTreeSet<Bytes> = keys.iter().cloned().collect();
        let distinct: Vec<Bytes> = distinct.into_iter().collect();
        if distinct.len() > PD_HTTP_SPLIT_KEYS_MAX {
            let why = format!("{} split keys, at most {PD_HTTP_SPLIT_KEYS_MAX} at a time", distinct.len());
            return Err(PdError::Invalid(why));
        }
        let inside = pd.inside_regions(&distinct).await?;
        let ends = self.seat.front.split(inside.clone()).await;
        let failed = ends.iter().filter(|end| end.is_err()).count();
        let made: Vec<Bytes> =
            inside.into_iter().zip(&ends).filter(|(_, end)| end.is_ok()).map(|(key, _)| key).collect();
        Ok((percentage(distinct.len(), failed), pd.starting_at(&made).await?))
    }

    /// Answers one request of the stream of lookups.
    async fn query(&self, request: &QueryRegionRequest) -> Result<QueryRegionResponse, Status> {
        check(self.seat.cluster_id(), request.header.as_ref())?;
        match self.seat.server()?.query_regions(&request.keys, &request.prev_keys, &request.ids).await {
            Ok(found) => Ok(query_region::response(self.header(), found)),
            Err(PdError::NotBootstrapped) => {
                let header = Some(not_bootstrapped(self.seat.cluster_id()));
                Ok(QueryRegionResponse { header, ..QueryRegionResponse::default() })
            }
            Err(error) => Err(status(error)),
        }
    }
}

/// Returns the percentage of `count` things that did not fail; 0 of none.
fn percentage(count: usize, failed: usize) -> u64 {
    (failed.min(count) * 100).checked_div(count).map_or(0, |part| 100 - part as u64)
}

/// Answers on a node without a member: passes the question on, unless a node asked it. That node asks the members
/// itself. Two nodes without a member (founding members whose disks are new) would ask each other forever.
pub(super) async fn outside<'a, T>(
    by_node: bool,
    ask: impl FnOnce() -> BoxFuture<'a, StoreResult<T>>,
) -> Result<T, Status> {
    if by_node {
        return Err(Status::unavailable("this node has no member of the placement driver"));
    }
    ask().await.map_err(|error| Status::unavailable(error.to_string()))
}

/// Answers a node that asks for the members on a node without one: with those that it heard of last, but no leader.
fn members_for_node(seat: &Seat) -> Result<Members, Status> {
    match seat.front.known_members() {
        members if !members.is_empty() => Ok(Members { members, leader: None }),
        _ => Err(Status::unavailable("this node has no member of the placement driver, and has heard of none")),
    }
}

/// Returns the response to GetRegion and similar calls.
fn region(header: Option<ResponseHeader>, found: Option<RegionInfo>) -> GetRegionResponse {
    match (header, found) {
        (Some(header), Some(info)) => info.into_response(header),
        (header, _) => GetRegionResponse { header, ..GetRegionResponse::default() },
    }
}

/// Returns one region of a scan. The leader field is always set, because old clients read it without a check.
fn scanned(info: RegionInfo) -> pdpb::Region {
    let leader = Some(info.leader.unwrap_or_default());
    pdpb::Region { leader, ..info.into_pdpb() }
}

/// The result of a scan of several ranges.
enum Scanned {
    Regions(Vec<RegionInfo>),
    /// The first gap in the ranges that no region covers.
    Hole((Bytes, Bytes)),
    /// The ranges are invalid.
    Wrong(String),
}

impl Default for Scanned {
    fn default() -> Scanned {
        Scanned::Regions(vec![])
    }
}

/// Returns why the ranges are invalid, or `None` if they are valid.
fn wrong_ranges(ranges: &[KeyRange]) -> Option<String> {
    let inverted = |range: &KeyRange| !range.end_key.is_empty() && range.start_key > range.end_key;
    if ranges.iter().any(inverted) {
        return Some("invalid key range, start key > end key".into());
    }
    let overlap = |pair: &[KeyRange]| pair[1].start_key < pair[0].end_key;
    ranges.windows(2).any(overlap).then(|| "invalid key range, ranges overlapped".into())
}

type Answer<R> = Result<Response<R>, Status>;

#[tonic::async_trait]
impl Pd for PdService {
    async fn get_members(&self, request: Request<GetMembersRequest>) -> Answer<GetMembersResponse> {
        let work = async {
            let header = request.get_ref().header.as_ref();
            let by_node = header.is_some_and(|header| header.caller_component == NODE_CALLER);
            let Members { members, leader } = match self.seat.member() {
                // Nodes ask all members in turn. A client goes to the leader that it is given, and keeps it.
                Some(server) if by_node => Members { members: server.members(), leader: server.leader() },
                Some(server) => {
                    let (members, leader) = server.led_members().await.map_err(status)?;
                    Members { members, leader: Some(leader) }
                }
                None if by_node => members_for_node(&self.seat)?,
                None => outside(false, || self.seat.front.members()).await?,
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
        forward::meant_for(server.addr(), request.metadata())?;
        let (cluster_id, observer) = (self.seat.cluster_id(), self.observer.clone());
        let answers = tso::answer(
            request.into_inner(),
            self.header(),
            move |request| check(cluster_id, request.header.as_ref()),
            move |count| {
                let (server, observer) = (server.clone(), observer.clone());
                async move {
                    let grant = async { server.tso(count).await.map_err(no_timestamp) };
                    observer.call(Method::Tso, grant).await.map(Response::into_inner)
                }
            },
        );
        Ok(Response::new(Box::pin(answers)))
    }

    async fn get_region(&self, request: Request<GetRegionRequest>) -> Answer<GetRegionResponse> {
        let r = request.get_ref();
        self.lead(Method::GetRegion, &request, |pd| pd.get_region(&r.region_key), region).await
    }

    async fn get_prev_region(&self, request: Request<GetRegionRequest>) -> Answer<GetRegionResponse> {
        let r = request.get_ref();
        self.lead(Method::GetPrevRegion, &request, |pd| pd.get_prev_region(&r.region_key), region).await
    }

    async fn get_region_by_id(&self, request: Request<GetRegionByIdRequest>) -> Answer<GetRegionResponse> {
        let r = request.get_ref();
        self.lead(Method::GetRegionByID, &request, |pd| pd.get_region_by_id(r.region_id), region).await
    }

    async fn scatter_region(&self, request: Request<ScatterRegionRequest>) -> Answer<ScatterRegionResponse> {
        let r = request.get_ref();
        let ids = if r.regions_id.is_empty() { vec![r.region_id] } else { r.regions_id.clone() };
        let ask = |pd| {
            let (ids, group) = (ids.clone(), r.group.clone());
            async move {
                let mut known = false;
                for id in ids.iter().take(SCATTERED_MAX) {
                    known = known || PdServer::get_region_by_id(pd, *id).await?.is_some();
                }
                let failed = if known { PdServer::scatter(pd, &ids, &group).await? } else { ids.clone() };
                let done = ids.len().saturating_sub(failed.len());
                Ok((known, (done * 100 / ids.len().max(1)) as u64))
            }
        };
        let answer = self
            .lead(Method::ScatterRegion, &request, ask, |header, (known, finished_percentage)| {
                // As long as one of a list is known, the others only count as not finished.
                if !known && header.as_ref().is_some_and(|header| header.error.is_none()) {
                    let header = self.refusal(ErrorType::RegionNotFound, "region not found".into());
                    return ScatterRegionResponse { header, finished_percentage: 0 };
                }
                ScatterRegionResponse { header, finished_percentage }
            })
            .await?;
        let unknown = answer.get_ref().header.as_ref().and_then(|header| header.error.as_ref());
        let unknown = unknown.is_some_and(|error| error.r#type() == ErrorType::RegionNotFound);
        // A list of unknown regions gets PD's other error.
        if unknown && !r.regions_id.is_empty() { Err(Status::unknown("empty region")) } else { Ok(answer) }
    }

    async fn split_regions(&self, request: Request<SplitRegionsRequest>) -> Answer<SplitRegionsResponse> {
        let keys = &request.get_ref().split_keys;
        let ask = |pd| self.split(pd, keys);
        self.lead(Method::SplitRegions, &request, ask, |header, (finished_percentage, regions_id)| {
            SplitRegionsResponse { header, finished_percentage, regions_id }
        })
        .await
    }

    async fn split_and_scatter_regions(
        &self,
        request: Request<SplitAndScatterRegionsRequest>,
    ) -> Answer<SplitAndScatterRegionsResponse> {
        let SplitAndScatterRegionsRequest { split_keys, group, .. } = request.get_ref();
        let ask = |pd| async move {
            let (split, ids) = self.split(pd, split_keys).await?;
            let failed = if ids.is_empty() { vec![] } else { PdServer::scatter(pd, &ids, group).await? };
            let scattered = percentage(ids.len(), failed.len());
            Ok((split, scattered, ids))
        };
        let answer = self
            .lead(Method::SplitAndScatterRegions, &request, ask, |header, (split, scattered, regions_id)| {
                SplitAndScatterRegionsResponse {
                    header,
                    split_finished_percentage: split,
                    scatter_finished_percentage: scattered,
                    regions_id,
                }
            })
            .await?;
        let reply = answer.get_ref();
        let refused = reply.header.as_ref().is_some_and(|header| header.error.is_some());
        // PD's error for a scatter of no region.
        if reply.regions_id.is_empty() && !refused { Err(Status::unknown("empty region")) } else { Ok(answer) }
    }

    async fn get_operator(&self, request: Request<GetOperatorRequest>) -> Answer<GetOperatorResponse> {
        let region_id = request.get_ref().region_id;
        let ask = |pd| PdServer::operator_of(pd, region_id);
        self.lead(Method::GetOperator, &request, ask, |header, found| {
            let Some(operator) = found else {
                let found = header.as_ref().is_none_or(|header| header.error.is_some());
                let none = || self.refusal(ErrorType::RegionNotFound, "Not Found".into());
                let header = if found { header } else { none() };
                return GetOperatorResponse { header, ..GetOperatorResponse::default() };
            };
            let status = match operator.ended {
                None => OperatorStatus::Running,
                Some((_, Outcome::Success)) => OperatorStatus::Success,
                Some((_, Outcome::Canceled)) => OperatorStatus::Cancel,
                Some((_, Outcome::Timeout)) => OperatorStatus::Timeout,
            };
            GetOperatorResponse {
                header,
                region_id,
                desc: operators::desc(&operator).into(),
                status: status as i32,
                kind: operators::kind(&operator).into(),
            }
        })
        .await
    }

    async fn scan_regions(&self, request: Request<ScanRegionsRequest>) -> Answer<ScanRegionsResponse> {
        let r = request.get_ref();
        let ask = |pd| PdServer::scan_regions(pd, &r.start_key, &r.end_key, r.limit);
        self.lead(Method::ScanRegions, &request, ask, |header, found| ScanRegionsResponse {
            header,
            // Old clients read these two fields, new ones read `regions`.
            region_metas: found.iter().map(|info| info.region.clone()).collect(),
            leaders: found.iter().map(|info| info.leader.unwrap_or_default()).collect(),
            regions: found.into_iter().map(scanned).collect(),
        })
        .await
    }

    async fn batch_scan_regions(&self, request: Request<BatchScanRegionsRequest>) -> Answer<BatchScanRegionsResponse> {
        let r = request.get_ref();
        let wrong = wrong_ranges(&r.ranges);
        let ranges: Vec<_> = r.ranges.iter().map(|range| (range.start_key.clone(), range.end_key.clone())).collect();
        let ask = |pd| async move {
            if let Some(why) = wrong {
                PdServer::confirm_leader(pd).await?;
                return Ok(Scanned::Wrong(why));
            }
            let found = PdServer::batch_scan_regions(pd, &ranges, r.limit, r.contain_all_key_range).await?;
            Ok(found.map_or_else(Scanned::Hole, Scanned::Regions))
        };
        self.lead(Method::BatchScanRegions, &request, ask, |header, found| match found {
            Scanned::Regions(found) => {
                BatchScanRegionsResponse { header, regions: found.into_iter().map(scanned).collect() }
            }
            Scanned::Hole((start, end)) => BatchScanRegionsResponse {
                header: self.refusal(
                    ErrorType::RegionsNotContainAllKeyRange,
                    format!("no region holds the keys from {start:?} to {end:?}"),
                ),
                regions: vec![],
            },
            Scanned::Wrong(why) => {
                BatchScanRegionsResponse { header: self.refusal(ErrorType::Unknown, why), regions: vec![] }
            }
        })
        .await
    }

    type QueryRegionStream = Pin<Box<dyn Stream<Item = Result<QueryRegionResponse, Status>> + Send>>;

    async fn query_region(&self, request: Request<Streaming<QueryRegionRequest>>) -> Answer<Self::QueryRegionStream> {
        let service = self.clone();
        service.seat.server()?;
        let ask = move |request: QueryRegionRequest| {
            let service = service.clone();
            async move {
                let work = service.query(&request);
                service.observer.call(Method::QueryRegion, work).await.map(Response::into_inner)
            }
        };
        Ok(Response::new(Box::pin(query_region::answers(request.into_inner(), ask))))
    }

    async fn get_store(&self, request: Request<GetStoreRequest>) -> Answer<GetStoreResponse> {
        let r = request.get_ref();
        let id = r.store_id;
        let answer = self
            .lead(
                Method::GetStore,
                &request,
                |pd| pd.get_store(id),
                |header, found| match found {
                    // client-rust panics on a reply with neither store nor error.
                    None if header.as_ref().is_none_or(|header| header.error.is_none()) => {
                        // client-go looks for both halves of this text: without them it asks again forever.
                        let header = self.refusal(ErrorType::Unknown, format!("invalid store ID {id}, not found"));
                        GetStoreResponse { header, ..Default::default() }
                    }
                    None => GetStoreResponse { header, ..Default::default() },
                    Some((store, stats)) => GetStoreResponse { header, store: Some(store), stats: Some(stats) },
                },
            )
            .await?;
        let nowhere = |store: &Store| store.address.is_empty() && store.state() != StoreState::Tombstone;
        if answer.get_ref().store.as_ref().is_some_and(nowhere) {
            // Another store took over its address; its regions will have other leaders soon.
            return Err(Status::unavailable(format!("store {id} has no address")));
        }
        Ok(answer)
    }

    async fn get_all_stores(&self, request: Request<GetAllStoresRequest>) -> Answer<GetAllStoresResponse> {
        let r = request.get_ref();
        let ask = |pd| PdServer::get_all_stores(pd, r.exclude_tombstone_stores);
        self.lead(Method::GetAllStores, &request, ask, |header, stores| GetAllStoresResponse { header, stores }).await
    }

    async fn update_gc_safe_point(
        &self,
        request: Request<UpdateGcSafePointRequest>,
    ) -> Answer<UpdateGcSafePointResponse> {
        let r = request.get_ref();
        let ask = |pd| PdServer::update_gc_safe_point(pd, r.safe_point);
        self.lead(Method::UpdateGCSafePoint, &request, ask, |header, new_safe_point| UpdateGcSafePointResponse {
            header,
            new_safe_point,
        })
        .await
    }

    async fn get_gc_safe_point(&self, request: Request<GetGcSafePointRequest>) -> Answer<GetGcSafePointResponse> {
        self.lead(Method::GetGCSafePoint, &request, PdServer::gc_safe_point, |header, safe_point| {
            GetGcSafePointResponse { header, safe_point }
        })
        .await
    }

    async fn get_gc_state(&self, request: Request<GetGcStateRequest>) -> Answer<GetGcStateResponse> {
        let r = request.get_ref();
        if let Some(header) = self.unknown(r.keyspace_scope.as_ref()) {
            return Ok(Response::new(GetGcStateResponse { header, ..GetGcStateResponse::default() }));
        }
        self.lead(Method::GetGCState, &request, PdServer::safe_points, |header, view| GetGcStateResponse {
            header,
            gc_state: Some(safe_points::gc_state(&view, !r.exclude_gc_barriers)),
            global_gc_barriers: r.include_global_gc_barriers.then(|| safe_points::global_barriers(&view)),
        })
        .await
    }

    async fn get_all_keyspaces_gc_states(
        &self,
        request: Request<GetAllKeyspacesGcStatesRequest>,
    ) -> Answer<GetAllKeyspacesGcStatesResponse> {
        let r = request.get_ref();
        self.lead(Method::GetAllKeyspacesGCStates, &request, PdServer::safe_points, |header, view| {
            GetAllKeyspacesGcStatesResponse {
                header,
                gc_states: vec![safe_points::gc_state(&view, !r.exclude_gc_barriers)],
                global_gc_barriers: (!r.exclude_global_gc_barriers).then(|| safe_points::global_barriers(&view)),
            }
        })
        .await
    }

    async fn update_service_gc_safe_point(
        &self,
        request: Request<UpdateServiceGcSafePointRequest>,
    ) -> Answer<UpdateServiceGcSafePointResponse> {
        let r = request.get_ref();
        let ask = |pd| safe_points::of_service(pd, r);
        self.lead(Method::UpdateServiceGCSafePoint, &request, ask, |header, min_safe_point| {
            let service_id = safe_points::GC_WORKER.into();
            UpdateServiceGcSafePointResponse { header, service_id, ttl: i64::MAX, min_safe_point }
        })
        .await
    }

    async fn advance_txn_safe_point(
        &self,
        request: Request<AdvanceTxnSafePointRequest>,
    ) -> Answer<AdvanceTxnSafePointResponse> {
        let r = request.get_ref();
        if let Some(header) = self.unknown(r.keyspace_scope.as_ref()) {
            return Ok(Response::new(AdvanceTxnSafePointResponse { header, ..Default::default() }));
        }
        let ask = |pd| PdServer::advance_txn_safe_point(pd, r.target);
        self.lead(Method::AdvanceTxnSafePoint, &request, ask, |header, moved| AdvanceTxnSafePointResponse {
            header,
            old_txn_safe_point: moved.old,
            new_txn_safe_point: moved.new,
            blocker_description: moved.blocker,
        })
        .await
    }

    async fn advance_gc_safe_point(
        &self,
        request: Request<AdvanceGcSafePointRequest>,
    ) -> Answer<AdvanceGcSafePointResponse> {
        let r = request.get_ref();
        if let Some(header) = self.unknown(r.keyspace_scope.as_ref()) {
            return Ok(Response::new(AdvanceGcSafePointResponse { header, ..Default::default() }));
        }
        let ask = |pd| PdServer::advance_gc_safe_point(pd, r.target);
        self.lead(Method::AdvanceGCSafePoint, &request, ask, |header, moved| AdvanceGcSafePointResponse {
            header,
            old_gc_safe_point: moved.old,
            new_gc_safe_point: moved.new,
        })
        .await
    }

    async fn set_gc_barrier(&self, request: Request<SetGcBarrierRequest>) -> Answer<SetGcBarrierResponse> {
        let r = request.get_ref();
        if let Some(header) = self.unknown(r.keyspace_scope.as_ref()) {
            return Ok(Response::new(SetGcBarrierResponse { header, ..Default::default() }));
        }
        let ask = |pd| safe_points::set(pd, (&r.barrier_id, false), r.barrier_ts, r.ttl_seconds);
        self.lead(Method::SetGCBarrier, &request, ask, |header, (barrier, now_ms)| SetGcBarrierResponse {
            header,
            new_barrier_info: Some(safe_points::info(&barrier, now_ms)),
        })
        .await
    }

    async fn delete_gc_barrier(&self, request: Request<DeleteGcBarrierRequest>) -> Answer<DeleteGcBarrierResponse> {
        let r = request.get_ref();
        if let Some(header) = self.unknown(r.keyspace_scope.as_ref()) {
            return Ok(Response::new(DeleteGcBarrierResponse { header, ..Default::default() }));
        }
        let ask = |pd| safe_points::remove(pd, &r.barrier_id, false);
        self.lead(Method::DeleteGCBarrier, &request, ask, |header, (barrier, now_ms)| DeleteGcBarrierResponse {
            header,
            deleted_barrier_info: barrier.map(|barrier| safe_points::info(&barrier, now_ms)),
        })
        .await
    }

    async fn set_global_gc_barrier(
        &self,
        request: Request<SetGlobalGcBarrierRequest>,
    ) -> Answer<SetGlobalGcBarrierResponse> {
        let r = request.get_ref();
        let ask = |pd| safe_points::set(pd, (&r.barrier_id, true), r.barrier_ts, r.ttl_seconds);
        self.lead(Method::SetGlobalGCBarrier, &request, ask, |header, (barrier, now_ms)| SetGlobalGcBarrierResponse {
            header,
            new_barrier_info: Some(safe_points::global_info(&barrier, now_ms)),
        })
        .await
    }

    async fn delete_global_gc_barrier(
        &self,
        request: Request<DeleteGlobalGcBarrierRequest>,
    ) -> Answer<DeleteGlobalGcBarrierResponse> {
        let r = request.get_ref();
        let ask = |pd| safe_points::remove(pd, &r.barrier_id, true);
        self.lead(Method::DeleteGlobalGCBarrier, &request, ask, |header, (barrier, now_ms)| {
            let deleted_barrier_info = barrier.map(|barrier| safe_points::global_info(&barrier, now_ms));
            DeleteGlobalGcBarrierResponse { header, deleted_barrier_info }
        })
        .await
    }

    /// There is one service for everything, without separate timestamp servers.
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
    fn percentages_are_rounded_up_as_in_pd() {
        let all = [(0, 0), (3, 0), (3, 1), (3, 3), (1, 9)].map(|(count, failed)| percentage(count, failed));
        assert_eq!(all, [0, 100, 67, 0, 0]);
    }

    #[test]
    fn headers_of_other_clusters_are_refused() {
        let header = |cluster_id| RequestHeader { cluster_id, ..RequestHeader::default() };
        assert!(check(7, Some(&header(7))).is_ok());
        for (other, named) in [(None, 0), (Some(header(0)), 0), (Some(header(8)), 8)] {
            let refused = check(7, other.as_ref()).unwrap_err();
            assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
            assert_eq!(refused.message(), format!("mismatch cluster id, need 7 but got {named}"));
        }
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
