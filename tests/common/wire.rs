//! A client over the generated stubs that tries every operation ONCE: a history must record what happened, and a client
//! that repeats a write whose reply was lost turns it into two writes.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use armilla::proto::kvrpcpb::{self, Context};
use armilla::proto::metapb::{Peer, Region};
use armilla::proto::pdpb::pd_client::PdClient;
use armilla::proto::tikvpb::tikv_client::TikvClient;
use armilla::proto::{errorpb, pdpb};
use armilla::types::region::holds;
use bytes::Bytes;
use tonic::transport::{Channel, Endpoint};

/// Time limit of one call, after which its outcome is unknown.
const CALL: Duration = Duration::from_secs(3);

/// The outcome of an operation, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<T> {
    /// It took effect.
    Done(T),
    /// It did not take effect and never will.
    Refused(String),
    /// It may have taken effect, or may still.
    Unknown(String),
}

/// The region of a key, its leader and the leader's address.
#[derive(Clone, Debug)]
struct Place {
    region: Region,
    leader: Peer,
    addr: String,
}

/// A client of one cluster, to be shared by reference.
pub struct Wire {
    pds: Vec<String>,
    channels: Mutex<BTreeMap<String, Channel>>,
    places: Mutex<Vec<Place>>,
}

/// The common parts of raw requests and replies.
macro_rules! call {
    ($wire:expr, $key:expr, $method:ident, $request:expr) => {{
        let place = match $wire.locate($key).await {
            Ok(place) => place,
            Err(why) => return Outcome::Refused(why),
        };
        let mut request = $request;
        request.context = Some(Wire::context(&place));
        let mut client = TikvClient::new($wire.channel(&place.addr)).max_decoding_message_size(64 << 20);
        match tokio::time::timeout(CALL, client.$method(request)).await {
            Err(_) => {
                $wire.forget(&place);
                return Outcome::Unknown(format!("no answer from {} in {CALL:?}", place.addr));
            }
            Ok(Err(status)) => {
                $wire.forget(&place);
                return Outcome::Unknown(format!("{}: {status}", place.addr));
            }
            Ok(Ok(reply)) => {
                let reply = reply.into_inner();
                if let Some(error) = &reply.region_error {
                    $wire.forget(&place);
                    let text = format!("{error:?}");
                    // Two kinds of errors do not exclude that the write took effect.
                    let open = error.undetermined_result.is_some() || error.stale_command.is_some();
                    return if open { Outcome::Unknown(text) } else { Outcome::Refused(text) };
                }
                reply
            }
        }
    }};
}

impl Wire {
    /// Creates a client that finds the cluster through any of `pds` (`HOST:PORT`).
    pub fn new(pds: Vec<String>) -> Wire {
        Wire { pds, channels: Mutex::default(), places: Mutex::default() }
    }

    /// Returns a shared connection, which is made at the first use.
    pub fn channel(&self, addr: &str) -> Channel {
        let mut channels = self.channels.lock().expect("no holder panics");
        let connect = || {
            Endpoint::from_shared(format!("http://{addr}"))
                .expect("an address")
                .connect_timeout(Duration::from_millis(500))
                .tcp_nodelay(true)
                .connect_lazy()
        };
        channels.entry(addr.to_owned()).or_insert_with(connect).clone()
    }

    fn forget(&self, place: &Place) {
        self.places.lock().expect("no holder panics").retain(|known| known.region.id != place.region.id);
        self.channels.lock().expect("no holder panics").remove(&place.addr);
    }

    fn context(place: &Place) -> Context {
        Context {
            region_id: place.region.id,
            region_epoch: place.region.region_epoch,
            peer: Some(place.leader),
            ..Context::default()
        }
    }

    /// Sends a request to the placement driver's leader, whichever node that is.
    pub async fn ask_pd<T, F>(
        &self,
        mut ask: impl FnMut(PdClient<Channel>, pdpb::RequestHeader) -> F,
    ) -> Result<T, String>
    where
        F: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    {
        let mut last = "no placement driver".to_owned();
        for addr in &self.pds {
            let client = PdClient::new(self.channel(addr));
            let members = match tokio::time::timeout(
                CALL,
                client.clone().get_members(pdpb::GetMembersRequest::default()),
            )
            .await
            {
                Ok(Ok(members)) => members.into_inner(),
                Ok(Err(status)) => {
                    last = format!("{addr}: {status}");
                    continue;
                }
                Err(_) => continue,
            };
            let Some(leader) = members.leader.as_ref().and_then(|leader| leader.client_urls.first()) else { continue };
            let cluster_id = members.header.as_ref().map_or(0, |header| header.cluster_id);
            let header = pdpb::RequestHeader { cluster_id, ..Default::default() };
            let client = PdClient::new(self.channel(leader.trim_start_matches("http://")));
            match tokio::time::timeout(CALL, ask(client, header)).await {
                Ok(Ok(reply)) => return Ok(reply.into_inner()),
                Ok(Err(status)) => last = format!("{leader}: {status}"),
                Err(_) => last = format!("{leader}: no answer in {CALL:?}"),
            }
        }
        Err(last)
    }

    /// Returns every region with its leader, in order of keys.
    pub async fn regions(&self) -> Result<Vec<(Region, Option<Peer>)>, String> {
        let reply = self
            .ask_pd(|mut client, header| async move {
                let request = pdpb::ScanRegionsRequest { header: Some(header), limit: 1000, ..Default::default() };
                client.scan_regions(request).await
            })
            .await?;
        Ok(reply
            .regions
            .into_iter()
            .filter_map(|r| Some((r.region?, r.leader.filter(|leader| leader.id != 0))))
            .collect())
    }

    /// Returns all stores' addresses, by id.
    pub async fn stores(&self) -> Result<BTreeMap<u64, String>, String> {
        let reply = self
            .ask_pd(|mut client, header| async move {
                client.get_all_stores(pdpb::GetAllStoresRequest { header: Some(header), ..Default::default() }).await
            })
            .await?;
        Ok(reply.stores.into_iter().map(|store| (store.id, store.address)).collect())
    }

    /// Returns the address of the node that leads the placement driver.
    pub async fn pd_leader_addr(&self) -> Result<String, String> {
        let reply = self
            .ask_pd(|mut client, _| async move { client.get_members(pdpb::GetMembersRequest::default()).await })
            .await?;
        let urls = reply.leader.map(|leader| leader.client_urls).unwrap_or_default();
        let url = urls.first().ok_or("the placement driver has no leader")?;
        Ok(url.trim_start_matches("http://").to_owned())
    }

    /// Returns whether every region has a leader that serves a read.
    pub async fn all_led(&self) -> bool {
        let Ok(regions) = self.regions().await else { return false };
        if regions.is_empty() {
            return false;
        }
        for (region, _) in &regions {
            let led = match self.get(&region.start_key).await {
                Outcome::Done(_) => true,
                // A boundary need not be a key there, but every region can tell its locks.
                Outcome::Refused(why) if why.contains("serves version 2") => self.tells_locks(&region.start_key).await,
                _ => false,
            };
            if !led {
                return false;
            }
        }
        true
    }

    /// Returns whether the region of a boundary answers requests of API version 2.
    async fn tells_locks(&self, boundary: &[u8]) -> bool {
        let Ok((context, addr)) = self.context_for(boundary).await else { return false };
        let context = Some(Context { api_version: 2, ..context });
        let request = kvrpcpb::ScanLockRequest { context, max_version: 1, ..Default::default() };
        let mut stub = TikvClient::new(self.channel(&addr));
        match tokio::time::timeout(CALL, stub.kv_scan_lock(request)).await {
            Ok(Ok(reply)) => reply.get_ref().region_error.is_none(),
            _ => false,
        }
    }

    /// Returns the address of the node that leads the region of `key`, according to the placement driver.
    pub async fn leader_addr(&self, key: &[u8]) -> Result<String, String> {
        self.places.lock().expect("no holder panics").clear();
        Ok(self.locate(key).await?.addr)
    }

    async fn locate(&self, key: &[u8]) -> Result<Place, String> {
        let known = self.places.lock().expect("no holder panics").iter().find(|p| holds(&p.region, key)).cloned();
        if let Some(place) = known {
            return Ok(place);
        }
        let key = Bytes::copy_from_slice(key);
        let reply = self
            .ask_pd(|mut client, header| {
                let region_key = key.clone();
                async move {
                    client
                        .get_region(pdpb::GetRegionRequest { header: Some(header), region_key, ..Default::default() })
                        .await
                }
            })
            .await?;
        let region = reply.region.ok_or("the placement driver knows no such region")?;
        let leader = reply.leader.filter(|leader| leader.id != 0).ok_or("the region has no leader")?;
        let reply = self
            .ask_pd(|mut client, header| async move {
                client.get_store(pdpb::GetStoreRequest { header: Some(header), store_id: leader.store_id }).await
            })
            .await?;
        let addr = reply.store.ok_or("the placement driver knows no such store")?.address;
        let place = Place { region, leader, addr };
        self.places.lock().expect("no holder panics").push(place.clone());
        Ok(place)
    }

    /// Reads a key.
    pub async fn get(&self, key: &[u8]) -> Outcome<Option<Bytes>> {
        let request = kvrpcpb::RawGetRequest { key: Bytes::copy_from_slice(key), ..Default::default() };
        let reply = call!(self, key, raw_get, request);
        match (reply.error.is_empty(), reply.not_found) {
            (false, _) => Outcome::Refused(reply.error),
            (true, true) => Outcome::Done(None),
            (true, false) => Outcome::Done(Some(reply.value)),
        }
    }

    /// Sets a key.
    pub async fn put(&self, key: &[u8], value: &[u8]) -> Outcome<()> {
        let (k, value) = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
        let reply =
            call!(self, key, raw_put, kvrpcpb::RawPutRequest { key: k, value, for_cas: true, ..Default::default() });
        done(reply.error, reply.outcome_unknown, ())
    }

    /// Removes a key.
    pub async fn delete(&self, key: &[u8]) -> Outcome<()> {
        let k = Bytes::copy_from_slice(key);
        let reply =
            call!(self, key, raw_delete, kvrpcpb::RawDeleteRequest { key: k, for_cas: true, ..Default::default() });
        done(reply.error, reply.outcome_unknown, ())
    }

    /// Compares and swaps. Returns whether the value was swapped, and the previous value.
    pub async fn swap(&self, key: &[u8], expected: Option<&[u8]>, new: &[u8]) -> Outcome<(bool, Option<Bytes>)> {
        let request = kvrpcpb::RawCasRequest {
            key: Bytes::copy_from_slice(key),
            value: Bytes::copy_from_slice(new),
            previous_not_exist: expected.is_none(),
            previous_value: Bytes::copy_from_slice(expected.unwrap_or_default()),
            ..Default::default()
        };
        let reply = call!(self, key, raw_compare_and_swap, request);
        let previous = (!reply.previous_not_exist).then_some(reply.previous_value);
        done(reply.error, reply.outcome_unknown, (reply.succeed, previous))
    }

    /// Sends one unmodified request to one node and returns the region error, for tests of refusals.
    pub async fn raw_put_to(
        &self,
        addr: &str,
        request: kvrpcpb::RawPutRequest,
    ) -> Result<kvrpcpb::RawPutResponse, tonic::Status> {
        Ok(TikvClient::new(self.channel(addr)).raw_put(request).await?.into_inner())
    }

    /// Returns the context that a request for `key` needs, and the node to send it to.
    pub async fn context_for(&self, key: &[u8]) -> Result<(Context, String), String> {
        let place = self.locate(key).await?;
        Ok((Wire::context(&place), place.addr))
    }
}

/// Returns the outcome that a write's reply reports.
fn done<T>(error: String, in_doubt: bool, answer: T) -> Outcome<T> {
    match (error.is_empty(), in_doubt) {
        (true, _) => Outcome::Done(answer),
        (false, true) => Outcome::Unknown(error),
        (false, false) => Outcome::Refused(error),
    }
}

/// Returns the name of a region error, for reports.
pub fn region_error_name(error: &errorpb::Error) -> String {
    format!("{error:?}")
}
