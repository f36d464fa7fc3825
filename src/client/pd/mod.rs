//! The placement driver's client: finds the leader, follows it and calls it.

mod members;
mod tso;

use futures::future::BoxFuture;
use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use tonic::{Code, Response, Status};

use crate::proto::armilla::pd as cluster;
use crate::proto::keyspacepb::KeyspaceMeta;
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

/// How long a request may take in total, unless [`PdClient::with_deadline`] changes it.
const DEADLINE: Duration = Duration::from_secs(5);
/// The error of a discovery that did not end before the deadline.
const NO_LEADER_IN_TIME: &str = "no placement driver member named a leader before the deadline";
const WAIT_MIN: Duration = Duration::from_millis(10);
const WAIT_MAX: Duration = Duration::from_millis(500);

/// A client of the placement driver. Clones share connections and what is known about the members.
#[derive(Clone, Debug)]
pub struct PdClient {
    members: Arc<Members>,
    /// Sends requests to the task of the timestamp stream, which starts with the first of them.
    tso: Arc<OnceLock<mpsc::UnboundedSender<tso::Ask>>>,
    deadline: Duration,
}

/// A region and what PD knows about it.
#[derive(Clone, Debug, PartialEq)]
pub struct RegionInfo {
    /// The region.
    pub region: Region,
    /// Its leader, if known.
    pub leader: Option<Peer>,
}

impl PdClient {
    /// Creates a client of the cluster to which `endpoints` (`host:port`; a scheme is ignored) belong. Dials nothing
    /// yet.
    pub fn new(net: Net, clock: Clock, endpoints: Vec<String>) -> PdClient {
        PdClient { members: Arc::new(Members::new(net, clock, &endpoints)), tso: Arc::default(), deadline: DEADLINE }
    }

    /// Replaces the generator of jitter. For callers that run many clients with the same endpoints.
    #[must_use]
    pub fn seeded(self, rng: Rng) -> PdClient {
        self.members.seed(rng);
        self
    }

    /// Makes this the client of a node of the cluster `cluster_id`. It ignores answers from other clusters from the
    /// start. Nodes without a placement driver member, this node included, do not forward its questions.
    #[must_use]
    pub fn of_node(self, cluster_id: u64) -> PdClient {
        self.members.of_node(cluster_id);
        self
    }

    /// Notes the placement driver's members, which are asked for the leader from now on.
    pub fn heard_of_members(&self, members: Vec<pdpb::Member>) {
        self.members.heard_of(members);
    }

    /// Returns the placement driver's members as this client heard of them last. Does not ask.
    pub fn known_members(&self) -> Vec<pdpb::Member> {
        self.members.known()
    }

    /// Returns a clone whose requests may take `deadline` each, including retries.
    #[must_use]
    pub fn with_deadline(&self, deadline: Duration) -> PdClient {
        PdClient { deadline, ..self.clone() }
    }

    /// Returns the cluster's id.
    ///
    /// # Errors
    /// Returns [`Error::Unavailable`] if no member knows a leader before the deadline.
    pub fn cluster_id(&self) -> BoxFuture<'_, Result<u64>> {
        Box::pin(async move {
            let known = self.members.cluster_id();
            if known != 0 {
                return Ok(known);
            }
            self.members().await?;
            Ok(self.members.cluster_id())
        })
    }

    /// Asks for PD's members and the leader among them. Does not use cached members.
    ///
    /// # Errors
    /// Returns [`Error::Unavailable`] if no member knows a leader before the deadline.
    pub fn members(&self) -> BoxFuture<'_, Result<(Vec<pdpb::Member>, pdpb::Member)>> {
        Box::pin(async move {
            let until = self.until();
            let mut backoff = Backoff::new(WAIT_MIN, WAIT_MAX);
            // The last error, which says more than that the deadline has passed.
            let mut said = None;
            loop {
                let found = self.members.clock.timeout(self.members.left(until), self.members.discover()).await;
                let why =
                    match found.unwrap_or_else(|_| Err(said.take().unwrap_or_else(|| NO_LEADER_IN_TIME.to_owned()))) {
                        Ok(answer) => return Ok((answer.members, answer.leader.unwrap_or_default())),
                        Err(why) => why,
                    };
                said = Some(why.clone());
                self.members.wait(&mut backoff, until, Duration::ZERO).await.map_err(|()| Error::Unavailable(why))?;
            }
        })
    }

    /// Gets `count` timestamps. Returns the largest one; the others are the `count - 1` numbers below it.
    ///
    /// # Errors
    /// Returns [`Error::Unavailable`] after the deadline, [`Error::Refused`] if `count` is zero or above the limit.
    pub fn tso(&self, count: u32) -> BoxFuture<'_, Result<crate::types::Timestamp>> {
        Box::pin(async move {
            if count == 0 || count > crate::types::limits::TSO_COUNT_MAX {
                return Err(Error::Refused(format!(
                    "requested {count} timestamps; a request may ask for 1 to {}",
                    crate::types::limits::TSO_COUNT_MAX
                )));
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
        })
    }

    /// Returns the region that holds `key`, or `None` if PD knows none.
    ///
    /// # Errors
    /// Returns [`Error::Unavailable`] after the deadline.
    pub fn get_region<'a>(&'a self, key: &'a [u8]) -> BoxFuture<'a, Result<Option<RegionInfo>>> {
        Box::pin(async move {
            let key = Bytes::copy_from_slice(key);
            let reply = self.ask("GetRegion", |mut stub, header| {
                let request = pdpb::GetRegionRequest { header, region_key: key.clone(), need_buckets: false };
                async move { stub.get_region(request).await }
            });
            Ok(reply.await?.and_then(region_info))
        })
    }

    /// Returns the region before the one that holds `key`, or `None` if there is none.
    ///
    /// # Errors
    /// Returns [`Error::Unavailable`] after the deadline.
    pub fn get_prev_region<'a>(&'a self, key: &'a [u8]) -> BoxFuture<'a, Result<Option<RegionInfo>>> {
        Box::pin(async move {
            let key = Bytes::copy_from_slice(key);
            let reply = self.ask("GetPrevRegion", |mut stub, header| {
                let request = pdpb::GetRegionRequest { header, region_key: key.clone(), need_buckets: false };
                async move { stub.get_prev_region(request).await }
            });
            Ok(reply.await?.and_then(region_info))
        })
    }

    /// Returns the region with the id `region_id`, or `None` if there is none.
    ///
    /// # Errors
    /// Returns [`Error::Unavailable`] after the deadline.
    pub fn get_region_by_id(&self, region_id: u64) -> BoxFuture<'_, Result<Option<RegionInfo>>> {
        Box::pin(async move {
            let reply = self.ask("GetRegionByID", |mut stub, header| {
                let request = pdpb::GetRegionByIdRequest { header, region_id, need_buckets: false };
                async move { stub.get_region_by_id(request).await }
            });
            Ok(reply.await?.and_then(region_info))
        })
    }

    /// Returns the first `limit` regions that overlap `[start, end)`, in key order. An empty `end` is plus infinity.
    ///
    /// # Errors
    /// Returns [`Error::Unavailable`] after the deadline.
    pub fn scan_regions<'a>(
        &'a self,
        start: &'a [u8],
        end: &'a [u8],
        limit: i32,
    ) -> BoxFuture<'a, Result<Vec<RegionInfo>>> {
        Box::pin(async move {
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
            // The older form of the response: two parallel lists.
            let mut leaders = reply.leaders.into_iter();
            let infos = reply
                .region_metas
                .into_iter()
                .map(|region| RegionInfo { region, leader: leaders.next().filter(|leader| leader.id != 0) });
            Ok(infos.collect())
        })
    }

    /// Returns a store, or `None` if PD does not know it or it was removed for good.
    ///
    /// # Errors
    /// Returns [`Error::Unavailable`] after the deadline.
    pub fn get_store(&self, store_id: u64) -> BoxFuture<'_, Result<Option<Store>>> {
        Box::pin(async move {
            let reply = self.ask("GetStore", |mut stub, header| {
                let request = pdpb::GetStoreRequest { header, store_id };
                async move { stub.get_store(request).await }
            });
            Ok(reply.await?.and_then(|reply| reply.store).filter(|store| store.state() != StoreState::Tombstone))
        })
    }

    /// Returns all stores, in the order of their ids.
    ///
    /// # Errors
    /// Returns [`Error::Unavailable`] after the deadline.
    pub fn get_all_stores(&self) -> BoxFuture<'_, Result<Vec<Store>>> {
        Box::pin(async move {
            let reply = self.ask("GetAllStores", |mut stub, header| {
                let request = pdpb::GetAllStoresRequest { header, exclude_tombstone_stores: false };
                async move { stub.get_all_stores(request).await }
            });
            let mut stores = reply.await?.map(|reply| reply.stores).unwrap_or_default();
            stores.sort_by_key(|store| store.id);
            Ok(stores)
        })
    }

    /// Holds the safe point of transactions at a timestamp, or below, for `ttl_s` seconds: what can be read at it
    /// stays. Replaces the barrier of that name.
    ///
    /// # Errors
    /// Returns [`Error::Refused`] if the safe point is above the timestamp already, [`Error::Unavailable`] after the
    /// deadline.
    pub fn set_gc_barrier<'a>(
        &'a self,
        name: &'a str,
        at: crate::types::Timestamp,
        ttl_s: u64,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let ttl_seconds = i64::try_from(ttl_s).unwrap_or(i64::MAX);
            let (barrier_id, barrier_ts) = (name.to_owned(), at.0);
            let call = |mut stub: Stub<Limited>, header| {
                let barrier_id = barrier_id.clone();
                let request =
                    pdpb::SetGcBarrierRequest { header, barrier_id, barrier_ts, ttl_seconds, ..Default::default() };
                async move { stub.set_gc_barrier(request).await }
            };
            self.ask("SetGCBarrier", call).await.map(drop)
        })
    }

    /// Removes a barrier. Returns its timestamp, if there was one.
    ///
    /// # Errors
    /// Returns [`Error::Unavailable`] after the deadline.
    pub fn delete_gc_barrier<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<crate::types::Timestamp>>> {
        Box::pin(async move {
            let barrier_id = name.to_owned();
            let call = |mut stub: Stub<Limited>, header| {
                let barrier_id = barrier_id.clone();
                let request = pdpb::DeleteGcBarrierRequest { header, barrier_id, ..Default::default() };
                async move { stub.delete_gc_barrier(request).await }
            };
            let reply = self.ask("DeleteGCBarrier", call).await?;
            let barrier = reply.and_then(|reply| reply.deleted_barrier_info);
            Ok(barrier.map(|barrier| crate::types::Timestamp(barrier.barrier_ts)))
        })
    }

    /// Returns the safe point of garbage collection, after moving it up to `to`, if there is one. It never falls.
    ///
    /// # Errors
    /// Returns [`Error::Unavailable`] after the deadline.
    pub fn gc_safe_point(&self, to: Option<u64>) -> BoxFuture<'_, Result<u64>> {
        Box::pin(async move {
            let Some(safe_point) = to else {
                let call = |mut stub: Stub<Limited>, header| async move {
                    stub.get_gc_safe_point(pdpb::GetGcSafePointRequest { header }).await
                };
                let reply = self.ask("GetGCSafePoint", call).await?;
                return Ok(reply.map_or(0, |reply| reply.safe_point));
            };
            let call = |mut stub: Stub<Limited>, header| async move {
                stub.update_gc_safe_point(pdpb::UpdateGcSafePointRequest { header, safe_point }).await
            };
            let reply = self.ask("UpdateGCSafePoint", call).await?;
            Ok(reply.map_or(0, |reply| reply.new_safe_point))
        })
    }

    /// Registers a store and gets its id. Idempotent by the store's UUID.
    ///
    /// # Errors
    /// Returns [`Error::Unavailable`] after the deadline, [`Error::Refused`] if PD refuses the store.
    pub fn register_store(
        &self,
        request: cluster::RegisterStoreRequest,
    ) -> BoxFuture<'_, Result<cluster::RegisterStoreReply>> {
        Box::pin(async move {
            self.lead("RegisterStore", |addr, _| {
                let (request, stub) = (request.clone(), self.members.cluster_stub(&addr));
                async move { stub?.register_store(request).await }
            })
            .await
        })
    }

    /// Reports the state of a store and of the regions that it leads to PD. Returns PD's instructions.
    ///
    /// # Errors
    /// Returns [`Error::Unavailable`] after the deadline, [`Error::Refused`] if PD refuses the heartbeat.
    pub fn store_heartbeat(
        &self,
        request: cluster::StoreHeartbeatRequest,
    ) -> BoxFuture<'_, Result<cluster::StoreHeartbeatReply>> {
        Box::pin(async move {
            self.lead("StoreHeartbeat", |addr, _| {
                let (request, stub) = (request.clone(), self.members.cluster_stub(&addr));
                async move { stub?.store_heartbeat(request).await }
            })
            .await
        })
    }

    /// Returns everything that PD knows, for display to people.
    ///
    /// # Errors
    /// Returns [`Error::Unavailable`] after the deadline, [`Error::Refused`] by a cluster that is not Armilla's.
    pub fn overview(&self) -> BoxFuture<'_, Result<cluster::OverviewReply>> {
        Box::pin(async move {
            let by_node = self.members.is_of_node();
            self.lead("Overview", |addr, _| {
                let stub = self.members.cluster_stub(&addr);
                async move {
                    let reply = stub?.overview(cluster::OverviewRequest { by_node }).await?;
                    // Followers answer as well, but with the replicated part only.
                    match reply.get_ref().leader.as_ref().and_then(member_address) {
                        Some(leader) if leader == addr => Ok(reply),
                        _ => Err(Status::unavailable("not leader")),
                    }
                }
            })
            .await
        })
    }

    /// Asks PD to move a region's leadership to a store. Best effort: PD passes the request on.
    ///
    /// # Errors
    /// Returns [`Error::Unavailable`] after the deadline, [`Error::Refused`] if PD refuses.
    pub fn transfer_leader(&self, region_id: u64, to_store: u64) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.lead("TransferLeader", |addr, _| {
                let stub = self.members.cluster_stub(&addr);
                async move { stub?.transfer_leader(cluster::TransferLeaderRequest { region_id, to_store }).await }
            })
            .await
            .map(|_: cluster::TransferLeaderReply| ())
        })
    }

    /// Asks PD to move a region's replica from one store to another. It begins at once and takes a while.
    ///
    /// # Errors
    /// Returns [`Error::Unavailable`] after the deadline, [`Error::Refused`] if PD refuses.
    pub fn move_peer(&self, region_id: u64, from_store: u64, to_store: u64) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.lead("MovePeer", |addr, _| {
                let stub = self.members.cluster_stub(&addr);
                let request = cluster::MovePeerRequest { region_id, from_store, to_store };
                async move { stub?.move_peer(request).await }
            })
            .await
            .map(|_: cluster::MovePeerReply| ())
        })
    }

    /// Asks PD to make a region part of its neighbour. It begins at once and takes a while.
    ///
    /// # Errors
    /// Returns [`Error::Unavailable`] after the deadline, [`Error::Refused`] if PD refuses.
    pub fn merge_regions(&self, source_id: u64, target_id: u64) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.lead("MergeRegions", |addr, _| {
                let stub = self.members.cluster_stub(&addr);
                let request = cluster::MergeRegionsRequest { source_id, target_id };
                async move { stub?.merge_regions(request).await }
            })
            .await
            .map(|_: cluster::MergeRegionsReply| ())
        })
    }

    /// Asks PD to move all replicas away from a store and to remove it then. Returns how many regions still have a
    /// replica there.
    ///
    /// # Errors
    /// Returns [`Error::Unavailable`] after the deadline, [`Error::Refused`] if PD refuses.
    pub fn remove_store(&self, store_id: u64) -> BoxFuture<'_, Result<u64>> {
        Box::pin(async move {
            self.lead("RemoveStore", |addr, _| {
                let stub = self.members.cluster_stub(&addr);
                async move { stub?.remove_store(cluster::RemoveStoreRequest { store_id }).await }
            })
            .await
            .map(|reply: cluster::RemoveStoreReply| reply.regions)
        })
    }

    /// Asks PD to take back the removal of a store.
    ///
    /// # Errors
    /// Returns [`Error::Unavailable`] after the deadline, [`Error::Refused`] if PD refuses.
    pub fn take_store_back(&self, store_id: u64) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.lead("TakeStoreBack", |addr, _| {
                let stub = self.members.cluster_stub(&addr);
                async move { stub?.take_store_back(cluster::TakeStoreBackRequest { store_id }).await }
            })
            .await
            .map(|_: cluster::TakeStoreBackReply| ())
        })
    }

    /// Asks PD for `count` consecutive IDs that were never given out before, and returns the first.
    ///
    /// # Errors
    /// Returns [`Error::Unavailable`] after the deadline, [`Error::Refused`] if PD refuses.
    pub fn alloc_ids(&self, cluster_id: u64, count: u32) -> BoxFuture<'_, Result<u64>> {
        Box::pin(async move {
            self.lead("AllocIds", |addr, _| {
                let stub = self.members.cluster_stub(&addr);
                async move { stub?.alloc_ids(cluster::AllocIdsRequest { cluster_id, count }).await }
            })
            .await
            .map(|reply: cluster::AllocIdsReply| reply.first)
        })
    }

    /// Returns all keyspaces, and the API version of the cluster. A placement driver that does not know the call has
    /// API version 1, which has no keyspaces.
    ///
    /// # Errors
    /// Returns [`Error::Unavailable`] after the deadline, [`Error::Refused`] if PD refuses.
    pub fn keyspaces(&self) -> BoxFuture<'_, Result<cluster::ListKeyspacesReply>> {
        Box::pin(async move {
            let without = || cluster::ListKeyspacesReply { api_version: 1, ..Default::default() };
            let ask = |addr: String, _| {
                let stub = self.members.cluster_stub(&addr);
                async move {
                    let answer = stub?.list_keyspaces(cluster::ListKeyspacesRequest {}).await;
                    answer.or_else(|status| match status.code() {
                        Code::Unimplemented => Ok(Response::new(without())),
                        _ => Err(status),
                    })
                }
            };
            self.lead("ListKeyspaces", ask).await
        })
    }

    /// Creates a keyspace, or changes one, and returns it.
    ///
    /// # Errors
    /// Returns [`Error::Unavailable`] after the deadline, [`Error::Refused`] if PD refuses.
    pub fn change_keyspace(&self, change: cluster::change_keyspace::Change) -> BoxFuture<'_, Result<KeyspaceMeta>> {
        Box::pin(async move {
            self.lead("ChangeKeyspace", |addr, _| {
                let stub = self.members.cluster_stub(&addr);
                let change = cluster::ChangeKeyspace { change: Some(change.clone()), ..Default::default() };
                async move { stub?.change_keyspace(change).await }
            })
            .await
        })
    }

    /// Reports the transactions that wait for locks on a store. Returns the circles that are to be opened there.
    ///
    /// # Errors
    /// Returns [`Error::Unavailable`] after the deadline.
    pub fn report_waits(
        &self,
        request: cluster::ReportWaitsRequest,
    ) -> BoxFuture<'_, Result<cluster::ReportWaitsReply>> {
        Box::pin(async move {
            self.lead("ReportWaits", |addr, _| {
                let (stub, request) = (self.members.cluster_stub(&addr), request.clone());
                async move { stub?.report_waits(request).await }
            })
            .await
        })
    }

    /// Changes settings of PD, all of the change or nothing. Returns those in force; an empty change only shows them.
    ///
    /// # Errors
    /// Returns [`Error::Unavailable`] after the deadline, [`Error::Refused`] if PD refuses.
    pub fn change_settings(&self, change: cluster::ChangeSettings) -> BoxFuture<'_, Result<cluster::SettingsReply>> {
        Box::pin(async move {
            self.lead("ChangeSettings", |addr, _| {
                let (change, stub) = (change.clone(), self.members.cluster_stub(&addr));
                async move { stub?.change_settings(change).await }
            })
            .await
        })
    }

    /// Declares a store lost for good, whose place another one takes. Returns how many regions have a replica there.
    ///
    /// # Errors
    /// Returns [`Error::Unavailable`] after the deadline, [`Error::Refused`] if PD refuses.
    pub fn replace_store(&self, lost: u64, by: u64) -> BoxFuture<'_, Result<u64>> {
        Box::pin(async move {
            self.lead("ReplaceStore", |addr, _| {
                let stub = self.members.cluster_stub(&addr);
                async move { stub?.replace_store(cluster::ReplaceStore { lost, by }).await }
            })
            .await
            .map(|reply: cluster::ReplaceStoreReply| reply.regions)
        })
    }

    /// Asks PD to add or remove a replica, or to scatter regions. Returns the regions that cannot be scattered now.
    ///
    /// # Errors
    /// Returns [`Error::Unavailable`] after the deadline, [`Error::Refused`] if PD refuses.
    pub fn change_regions(&self, change: cluster::change_regions_request::Change) -> BoxFuture<'_, Result<Vec<u64>>> {
        Box::pin(async move {
            self.lead("ChangeRegions", |addr, _| {
                let stub = self.members.cluster_stub(&addr);
                let request = cluster::ChangeRegionsRequest { change: Some(change.clone()) };
                async move { stub?.change_regions(request).await }
            })
            .await
            .map(|reply: cluster::ChangeRegionsReply| reply.failed)
        })
    }

    /// Passes a request to PD's HTTP interface to PD's leader.
    ///
    /// # Errors
    /// Returns [`Error::Unavailable`] after the deadline. An attempt before may have had an effect.
    pub fn http(&self, request: cluster::PdHttpRequest) -> BoxFuture<'_, Result<cluster::PdHttpReply>> {
        Box::pin(async move {
            self.lead("PdHttp", |addr, _| {
                let (request, stub) = (request.clone(), self.members.cluster_stub(&addr));
                async move { stub?.pd_http(request).await }
            })
            .await
        })
    }

    fn until(&self) -> Instant {
        self.members.clock.now().plus(self.deadline)
    }

    /// Makes a call of `pdpb.PD` to the leader. Returns `None` if the response says that the thing asked for does not
    /// exist.
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
                    // GetStore reports an unknown store with this message.
                    pdpb::ErrorType::Unknown if error.message.starts_with("invalid store ID") => {
                        Ok(Response::new(None))
                    }
                    // The cluster is not bootstrapped yet, the member is no longer the leader, or similar: try again.
                    _ => Err(Status::unavailable(error.message.clone())),
                }
            }
        })
        .await
    }

    /// Makes a call to the leader. Repeats it until the deadline, each time to the leader at that moment.
    async fn lead<A, F, Fut>(&self, what: &'static str, call: F) -> Result<A>
    where
        F: Fn(String, u64) -> Fut,
        Fut: Future<Output = Result<Response<A>, Status>>,
    {
        let until = self.until();
        let mut backoff = Backoff::new(WAIT_MIN, WAIT_MAX);
        // The last error, which says more than that the deadline has passed.
        let mut said = None;
        loop {
            let found = self.members.clock.timeout(self.members.left(until), self.members.leader()).await;
            let why = match found.unwrap_or_else(|_| Err(said.take().unwrap_or_else(|| NO_LEADER_IN_TIME.to_owned()))) {
                Err(why) => why,
                Ok((addr, cluster_id)) => {
                    let limit = ATTEMPT.min(self.members.left(until));
                    // A leader that was found late has too little time to answer, so it is not blamed: the next call
                    // goes to it again.
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

/// A response of PD, which carries a header.
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

has_header!(
    GetRegionResponse,
    ScanRegionsResponse,
    GetStoreResponse,
    GetAllStoresResponse,
    SetGcBarrierResponse,
    DeleteGcBarrierResponse,
    GetGcSafePointResponse,
    UpdateGcSafePointResponse
);
