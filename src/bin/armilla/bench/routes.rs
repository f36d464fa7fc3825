//! The store that serves each key: a sorted list, replaced as a whole after an error.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use armilla::client::PdClient;
use armilla::proto::kvrpcpb::Context;
use armilla::rt::net::{Channel, Net};
use armilla::rt::sync::Mutex;
use bytes::Bytes;
use prost::Message as _;

use crate::failure::Failure;

/// How long a run waits for a cluster that does not respond, or whose regions have no leader.
const CONNECT: Duration = Duration::from_secs(8);

/// One region.
#[derive(Clone, Debug)]
pub struct Route {
    start: Bytes,
    /// The encoded context of requests to the region.
    pub context: Bytes,
    /// Index of the leader's store in [`Routes::stores`].
    pub store: usize,
}

/// All regions at one moment.
#[derive(Debug)]
pub struct Routes {
    /// Increases with every replacement.
    pub generation: u64,
    regions: Vec<Route>,
    /// The connections to each store.
    pub stores: Vec<Vec<Channel>>,
}

impl Routes {
    /// Returns the region of a key.
    #[inline]
    pub fn find(&self, key: &[u8]) -> &Route {
        let at = self.regions.partition_point(|route| route.start[..] <= *key);
        &self.regions[at.saturating_sub(1)]
    }
}

/// The current routes, and how to refresh them.
pub struct Routing {
    pd: PdClient,
    net: Net,
    connections: u32,
    generation: AtomicU64,
    current: RwLock<Arc<Routes>>,
    refreshing: Mutex<()>,
}

impl Routing {
    /// Gets the routes of the cluster. Waits until every region has a leader, at most [`CONNECT`].
    pub async fn new(pd: PdClient, net: Net, connections: u32) -> Result<Routing, Failure> {
        let mut why = None;
        let first = async {
            loop {
                // Each attempt ends early enough to report an error.
                match fetch(&pd.with_deadline(CONNECT / 4), &net, connections, 1).await {
                    Ok(routes) => return routes,
                    Err(failure) => why = Some(failure),
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let Ok(first) = tokio::time::timeout(CONNECT, first).await else {
            return Err(why.unwrap_or_else(|| Failure::new(format!("no response from the cluster within {CONNECT:?}"))));
        };
        Ok(Routing {
            pd,
            net,
            connections,
            generation: AtomicU64::new(1),
            current: RwLock::new(Arc::new(first)),
            refreshing: Mutex::new(()),
        })
    }

    /// Replaces `routes` by the newest ones. Cheap if they already are the newest.
    #[inline]
    pub fn update(&self, routes: &mut Arc<Routes>) {
        if self.generation.load(Ordering::Acquire) != routes.generation {
            *routes = self.get();
        }
    }

    /// Returns the newest routes.
    pub fn get(&self) -> Arc<Routes> {
        self.current.read().expect("no writer panics").clone()
    }

    /// Refreshes the routes, unless that has happened since `generation`. Waits a little, so that errors do not cause a
    /// storm of requests.
    pub async fn refresh(&self, generation: u64) {
        let _one = self.refreshing.lock().await;
        if self.generation.load(Ordering::Acquire) != generation {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        if let Ok(routes) = fetch(&self.pd, &self.net, self.connections, generation + 1).await {
            *self.current.write().expect("no writer panics") = Arc::new(routes);
            self.generation.store(generation + 1, Ordering::Release);
        }
    }
}

async fn fetch(pd: &PdClient, net: &Net, connections: u32, generation: u64) -> Result<Routes, Failure> {
    let mut infos = Vec::new();
    let mut from = Bytes::new();
    loop {
        let page = pd.scan_regions(&from, &[], 1024).await?;
        let Some(last) = page.last() else { break };
        from = last.region.end_key.clone();
        infos.extend(page);
        if from.is_empty() {
            break;
        }
    }
    if infos.is_empty() {
        return Err(Failure::new("the cluster has no regions"));
    }
    let mut ids = Vec::new();
    let mut stores = Vec::new();
    let mut regions = Vec::new();
    for info in infos {
        let region = info.region;
        let leader = info.leader.ok_or_else(|| Failure::new(format!("region {} has no leader", region.id)))?;
        let store = match ids.iter().position(|id| *id == leader.store_id) {
            Some(at) => at,
            None => {
                let store = pd.get_store(leader.store_id).await?.unwrap_or_default();
                let addr = store.address.trim_start_matches("http://");
                let channel =
                    || net.channel(addr).map_err(|error| Failure::new(format!("store {}: {error}", leader.store_id)));
                stores.push((0..connections).map(|_| channel()).collect::<Result<Vec<_>, _>>()?);
                ids.push(leader.store_id);
                ids.len() - 1
            }
        };
        let context = Context {
            region_id: region.id,
            region_epoch: region.region_epoch,
            peer: Some(leader),
            ..Context::default()
        };
        regions.push(Route { start: region.start_key, context: context.encode_to_vec().into(), store });
    }
    regions.sort_by(|a, b| a.start.cmp(&b.start));
    Ok(Routes { generation, regions, stores })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_finds_its_region() {
        let route = |start: &'static str, store| Route { start: start.into(), context: Bytes::new(), store };
        let routes =
            Routes { generation: 1, regions: vec![route("", 0), route("g", 1), route("p", 2)], stores: Vec::new() };
        for (key, store) in [("", 0), ("f", 0), ("g", 1), ("oz", 1), ("p", 2), ("zz", 2)] {
            assert_eq!(routes.find(key.as_bytes()).store, store, "{key}");
        }
    }
}
