//! The placement driver's client: finds the leader, follows it, asks it.

mod members;
mod tso;

use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use tonic::{Code, Response, Status};

use crate::proto::armilla::pd as cluster;
use crate::proto::metapb::{Peer, Region, Store, StoreState};
use crate::proto::pdpb;
use crate::proto::pdpb::pd_client::PdClient as Stub;
use crate::rt::clock::{Clock, Instant};
use crate::rt::net::Net;
use crate::rt::rng::Rng;
use crate::rt::sync::mpsc;

use super::backoff::Backoff;
use super::channels::Limited;
use super::error::{Error, Failure, Result, failure};

pub(super) use members::describe;
use members::{ATTEMPT, Members, member_address};

/// How long a request may take in all, unless [`PdClient::with_deadline`] says otherwise.
const DEADLINE: Duration = Duration::from_secs(5);
/// What is said of a discovery that took longer than its caller had time.
const NOT_TOLD: &str = "no member of the placement driver said who leads before the deadline";
const WAIT_MIN: Duration = Duration::from_millis(10);
const WAIT_MAX: Duration = Duration::from_millis(500);

/// Asks the placement driver. Clones share connections and knowledge.
#[derive(Clone, Debug)]
pub struct PdClient {
    members: Arc<Members>,
    /// The way to the task that keeps the timestamp stream; started at the first timestamp.
    tso: Arc<OnceLock<mpsc::UnboundedSender<tso::Ask>>>,
    deadline: Duration,
}

/// A region and what PD knows of it.
#[derive(Clone, Debug, PartialEq)]
pub struct RegionInfo {
    /// The region.
    pub region: Region,
    /// Its leader, if known.
    pub leader: Option<Peer>,
}

impl PdClient {
    /// A client of the cluster that any of `endpoints` (`host:port`, a scheme is skipped) belongs to. Nothing is dialed yet.
    pub fn new(net: Net, clock: Clock, endpoints: Vec<String>) -> PdClient {
        PdClient { members: Arc::new(Members::new(net, clock, &endpoints)), tso: Arc::default(), deadline: DEADLINE }
    }

    /// Replaces the generator of jitter. For callers that run many clients with the same endpoints.
    #[must_use]
    pub fn seeded(self, rng: Rng) -> PdClient {
        self.members.seed(rng);
        self
    }

    /// The client of a node of that cluster: answers of other clusters are ignored from the first on, and nodes without a member
    /// of the placement driver, this one among them, do not ask others on its behalf.
    #[must_use]
    pub fn of_node(self, cluster_id: u64) -> PdClient {
        self.members.of_node(cluster_id);
        self
    }

    /// A clone whose requests may take `deadline` each, retries included.
    #[must_use]
    pub fn with_deadline(&self, deadline: Duration) -> PdClient {
        PdClient { deadline, ..self.clone() }
    }

    /// The cluster's id.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when no member knows a leader before the deadline.
    pub async fn cluster_id(&self) -> Result<u64> {
        let known = self.members.cluster_id();
        if known != 0 {
            return Ok(known);
        }
        self.members().await?;
        Ok(self.members.cluster_id())
    }

    /// PD's members and the leader among them, asked afresh.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when no member knows a leader before the deadline.
    pub async fn members(&self) -> Result<(Vec<pdpb::Member>, pdpb::Member)> {
        let until = self.until();
        let mut backoff = Backoff::new(WAIT_MIN, WAIT_MAX);
        // What was last wrong: more than that the time is over.
        let mut said = None;
        loop {
            let found = self.members.clock.timeout(self.members.left(until), self.members.discover()).await;
            let why = match found.unwrap_or_else(|_| Err(said.take().unwrap_or_else(|| NOT_TOLD.to_owned()))) {
                Ok(answer) => return Ok((answer.members, answer.leader.unwrap_or_default())),
                Err(why) => why,
            };
            said = Some(why.clone());
            self.members.wait(&mut backoff, until, Duration::ZERO).await.map_err(|()| Error::Unavailable(why))?;
        }
    }

    /// `count` timestamps: the largest is returned, the others are the `count - 1` numbers below it.
    ///
    /// # Errors
    /// [`Error::Unavailable`] after the deadline; [`Error::Refused`] for a count of zero or above the limit.
    pub async fn tso(&self, count: u32) -> Result<crate::types::Timestamp> {
        if count == 0 || count > crate::types::limits::TSO_COUNT_MAX {
            return Err(Error::Refused(format!("{count} timestamps in one request")));
        }
        let until = self.until();
        let mut backoff = Backoff::new(WAIT_MIN, WAIT_MAX);
        let way = self.tso.get_or_init(|| tso::start(self.members.clone())).clone();
        loop {
            let (reply, answer) = crate::rt::sync::oneshot::channel();
            let ask = tso::Ask { count, reply };
            let why = match way.send(ask) {
                Err(_) => "the timestamp stream's task is gone".to_owned(),
                Ok(()) => match self.members.clock.timeout(self.members.left(until), answer).await {
                    Ok(Ok(Ok(timestamp))) => return Ok(timestamp),
                    Ok(Ok(Err(why))) => why,
                    Ok(Err(_)) => "the timestamp stream's task is gone".to_owned(),
                    Err(_) => return Err(Error::Unavailable("no timestamp before the deadline".into())),
                },
            };
            self.members.wait(&mut backoff, until, Duration::ZERO).await.map_err(|()| Error::Unavailable(why))?;
        }
    }

    /// The region that holds `key`; nothing when PD knows none.
    ///
    /// # Errors
    /// [`Error::Unavailable`] after the deadline.
    pub async fn get_region(&self, key: &[u8]) -> Result<Option<RegionInfo>> {
        let key = Bytes::copy_from_slice(key);
        let reply = self.ask("GetRegion", |mut stub, header| {
            let request = pdpb::GetRegionRequest { header, region_key: key.clone(), need_buckets: false };
            async move { stub.get_region(request).await }
        });
        Ok(reply.await?.and_then(region_info))
    }

    /// The region right before the one that holds `key`; nothing when there is none.
    ///
    /// # Errors
    /// [`Error::Unavailable`] after the deadline.
    pub async fn get_prev_region(&self, key: &[u8]) -> Result<Option<RegionInfo>> {
        let key = Bytes::copy_from_slice(key);
        let reply = self.ask("GetPrevRegion", |mut stub, header| {
            let request = pdpb::GetRegionRequest { header, region_key: key.clone(), need_buckets: false };
            async move { stub.get_prev_region(request).await }
        });
        Ok(reply.await?.and_then(region_info))
    }

    /// The region of that id; nothing when there is none.
    ///
    /// # Errors
    /// [`Error::Unavailable`] after the deadline.
    pub async fn get_region_by_id(&self, region_id: u64) -> Result<Option<RegionInfo>> {
        let reply = self.ask("GetRegionByID", |mut stub, header| {
            let request = pdpb::GetRegionByIdRequest { header, region_id, need_buckets: false };
            async move { stub.get_region_by_id(request).await }
        });
        Ok(reply.await?.and_then(region_info))
    }

    /// At most `limit` regions that share keys with `[start, end)` (an empty `end` is plus infinity), in order.
    ///
    /// # Errors
    /// [`Error::Unavailable`] after the deadline.
    pub async fn scan_regions(&self, start: &[u8], end: &[u8], limit: i32) -> Result<Vec<RegionInfo>> {
        let (start, end) = (Bytes::copy_from_slice(start), Bytes::copy_from_slice(end));
        let reply = self.ask("ScanRegions", |mut stub, header| {
            let (start_key, end_key) = (start.clone(), end.clone());
            let request = pdpb::ScanRegionsRequest { header, start_key, end_key, limit };
            async move { stub.scan_regions(request).await }
        });
        let Some(reply) = reply.await? else { return Ok(Vec::new()) };
        if !reply.regions.is_empty() {
            let infos = reply.regions.into_iter().filter_map(|r| {
                r.region.map(|region| RegionInfo { region, leader: r.leader.filter(|leader| leader.id != 0) })
            });
            return Ok(infos.collect());
        }
        // The older form of the answer: two lists side by side.
        let mut leaders = reply.leaders.into_iter();
        let infos = reply
            .region_metas
            .into_iter()
            .map(|region| RegionInfo { region, leader: leaders.next().filter(|leader| leader.id != 0) });
        Ok(infos.collect())
    }

    /// A store; nothing when PD does not know it, or it is gone for good.
    ///
    /// # Errors
    /// [`Error::Unavailable`] after the deadline.
    pub async fn get_store(&self, store_id: u64) -> Result<Option<Store>> {
        let reply = self.ask("GetStore", |mut stub, header| {
            let request = pdpb::GetStoreRequest { header, store_id };
            async move { stub.get_store(request).await }
        });
        Ok(reply.await?.and_then(|reply| reply.store).filter(|store| store.state() != StoreState::Tombstone))
    }

    /// All stores, in order of their ids.
    ///
    /// # Errors
    /// [`Error::Unavailable`] after the deadline.
    pub async fn get_all_stores(&self) -> Result<Vec<Store>> {
        let reply = self.ask("GetAllStores", |mut stub, header| {
            let request = pdpb::GetAllStoresRequest { header, exclude_tombstone_stores: false };
            async move { stub.get_all_stores(request).await }
        });
        let mut stores = reply.await?.map(|reply| reply.stores).unwrap_or_default();
        stores.sort_by_key(|store| store.id);
        Ok(stores)
    }

    /// Gets a store its id. Idempotent by the store's uuid.
    ///
    /// # Errors
    /// [`Error::Unavailable`] after the deadline; [`Error::Refused`] as PD says.
    pub async fn register_store(&self, request: cluster::RegisterStoreRequest) -> Result<cluster::RegisterStoreReply> {
        self.lead("RegisterStore", |addr, _| {
            let (request, stub) = (request.clone(), self.members.cluster_stub(&addr));
            async move { stub?.register_store(request).await }
        })
        .await
    }

    /// Tells PD how a store and the regions it leads are, and gets PD's wishes.
    ///
    /// # Errors
    /// [`Error::Unavailable`] after the deadline; [`Error::Refused`] as PD says.
    pub async fn store_heartbeat(
        &self,
        request: cluster::StoreHeartbeatRequest,
    ) -> Result<cluster::StoreHeartbeatReply> {
        self.lead("StoreHeartbeat", |addr, _| {
            let (request, stub) = (request.clone(), self.members.cluster_stub(&addr));
            async move { stub?.store_heartbeat(request).await }
        })
        .await
    }

    /// Everything that PD knows, for people.
    ///
    /// # Errors
    /// [`Error::Unavailable`] after the deadline; [`Error::Refused`] by a cluster that is not Armilla's.
    pub async fn overview(&self) -> Result<cluster::OverviewReply> {
        let by_node = self.members.is_of_node();
        self.lead("Overview", |addr, _| {
            let stub = self.members.cluster_stub(&addr);
            async move {
                let reply = stub?.overview(cluster::OverviewRequest { by_node }).await?;
                // Members that follow answer too, with the half that is replicated.
                match reply.get_ref().leader.as_ref().and_then(member_address) {
                    Some(leader) if leader == addr => Ok(reply),
                    _ => Err(Status::unavailable("not leader")),
                }
            }
        })
        .await
    }

    /// Asks that a region be led from a store. Best effort: PD passes it on.
    ///
    /// # Errors
    /// [`Error::Unavailable`] after the deadline; [`Error::Refused`] as PD says.
    pub async fn transfer_leader(&self, region_id: u64, to_store: u64) -> Result<()> {
        self.lead("TransferLeader", |addr, _| {
            let stub = self.members.cluster_stub(&addr);
            async move { stub?.transfer_leader(cluster::TransferLeaderRequest { region_id, to_store }).await }
        })
        .await
        .map(|_: cluster::TransferLeaderReply| ())
    }

    fn until(&self) -> Instant {
        self.members.clock.now().plus(self.deadline)
    }

    /// A call of `pdpb.PD` to the leader; nothing when the answer is that there is no such thing.
    async fn ask<A, F, Fut>(&self, what: &'static str, call: F) -> Result<Option<A>>
    where
        A: HasHeader,
        F: Fn(Stub<Limited>, Option<pdpb::RequestHeader>) -> Fut,
        Fut: Future<Output = Result<Response<A>, Status>>,
    {
        self.lead(what, |addr, cluster_id| {
            let header = pdpb::RequestHeader { cluster_id, ..Default::default() };
            let call = self.members.stub(&addr, ATTEMPT.min(self.deadline)).map(|stub| call(stub, Some(header)));
            async move {
                let reply = call?.await?;
                let Some(error) = reply.get_ref().header().and_then(|header| header.error.as_ref()) else {
                    return Ok(Response::new(Some(reply.into_inner())));
                };
                match error.r#type() {
                    pdpb::ErrorType::Ok => Ok(Response::new(Some(reply.into_inner()))),
                    pdpb::ErrorType::RegionNotFound
                    | pdpb::ErrorType::EntryNotFound
                    | pdpb::ErrorType::StoreTombstone => Ok(Response::new(None)),
                    // How GetStore says it.
                    pdpb::ErrorType::Unknown if error.message.starts_with("invalid store ID") => {
                        Ok(Response::new(None))
                    }
                    // Not yet bootstrapped, no longer the leader, …: the leader may know better soon.
                    _ => Err(Status::unavailable(error.message.clone())),
                }
            }
        })
        .await
    }

    /// A call to the leader, repeated until the deadline, at whoever leads then.
    async fn lead<A, F, Fut>(&self, what: &'static str, call: F) -> Result<A>
    where
        F: Fn(String, u64) -> Fut,
        Fut: Future<Output = Result<Response<A>, Status>>,
    {
        let until = self.until();
        let mut backoff = Backoff::new(WAIT_MIN, WAIT_MAX);
        // What was last wrong: more than that the time is over.
        let mut said = None;
        loop {
            let found = self.members.clock.timeout(self.members.left(until), self.members.leader()).await;
            let why = match found.unwrap_or_else(|_| Err(said.take().unwrap_or_else(|| NOT_TOLD.to_owned()))) {
                Err(why) => why,
                Ok((addr, cluster_id)) => {
                    let limit = ATTEMPT.min(self.members.left(until));
                    // One that was found late has too little time to be blamed: the next call begins with it.
                    let fair = limit >= ATTEMPT.min(self.deadline) / 4;
                    match self.members.attempt(&addr, limit, call(addr.clone(), cluster_id)).await {
                        Ok(reply) => {
                            self.members.served();
                            return Ok(reply);
                        }
                        Err(status) if status.code() == Code::Unimplemented => {
                            return Err(Error::Refused(format!(
                                "the placement driver at {addr} does not have the call {what}: {}",
                                describe(&status)
                            )));
                        }
                        Err(status) if failure(&status) == Failure::Refused => {
                            return Err(Error::Refused(format!("{what}: {}", describe(&status))));
                        }
                        Err(status) => {
                            if fair || status.code() != Code::DeadlineExceeded {
                                self.members.lost_leader(&addr);
                            }
                            format!("{what} at {addr}: {}", describe(&status))
                        }
                    }
                }
            };
            said = Some(why.clone());
            self.members.wait(&mut backoff, until, Duration::ZERO).await.map_err(|()| Error::Unavailable(why))?;
        }
    }
}

fn region_info(reply: pdpb::GetRegionResponse) -> Option<RegionInfo> {
    let leader = reply.leader.filter(|leader| leader.id != 0);
    reply.region.map(|region| RegionInfo { region, leader })
}

/// Answers of PD carry a header.
trait HasHeader {
    fn header(&self) -> Option<&pdpb::ResponseHeader>;
}

macro_rules! has_header {
    ($($reply:ident),+) => {
        $(impl HasHeader for pdpb::$reply {
            fn header(&self) -> Option<&pdpb::ResponseHeader> {
                self.header.as_ref()
            }
        })+
    };
}

has_header!(GetRegionResponse, ScanRegionsResponse, GetStoreResponse, GetAllStoresResponse);
