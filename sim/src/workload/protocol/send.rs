//! Single requests, each sent once to the leader that the simulator knows.
//!
//! A request goes **in**, its reply comes **out**, or nothing: no answer in time, an error of the region or the
//! network. **Never**: a conclusion from nothing; the request may still have its effect later.

use std::collections::BTreeSet;

use armilla::codec::txn_key;
use armilla::proto::kvrpcpb::Context;
use armilla::proto::tikvpb::tikv_client::TikvClient;
use armilla::types::{Region, region};
use bytes::Bytes;

use crate::workload::insider::Insider;

/// The stub of a store.
pub type Stub = TikvClient<armilla::rt::net::Channel>;

/// The leader of a region.
pub struct Place {
    /// Its stub.
    pub stub: Stub,
    /// The context of requests.
    pub context: Context,
    /// The region.
    pub region: Region,
}

/// Sends requests.
#[derive(Clone)]
pub struct Sender(pub Insider);

/// Sends a request about a key by this method, and waits for the reply for a while.
macro_rules! send {
    ($place:expr, $sender:expr, $wait_ns:expr, $method:ident, $request:expr) => {{
        let mut place: $crate::workload::protocol::send::Place = $place;
        let mut request = $request;
        request.context.get_or_insert_with(|| place.context.clone());
        let world = $sender.0.world.clone();
        armilla::rt_select! {
            reply = place.stub.$method(request) => {
                reply.ok().map(tonic::Response::into_inner).filter(|reply| reply.region_error.is_none())
            },
            () = world.sleep_ns($wait_ns) => None,
        }
    }};
}
pub(super) use send;

impl Sender {
    /// Returns the leader of a key's region.
    pub fn place(&self, key: &Bytes) -> Option<Place> {
        let encoded = txn_key::encode(key);
        let region = self.0.regions().into_iter().find(|region| region::holds(region, &encoded))?;
        let (node, store) = self.0.leader(region.id)?;
        let peer = region::peer_on(&region, store).cloned()?;
        let address = self.0.cluster.addresses().get(node as usize - 1).cloned()?;
        let stub = TikvClient::new(self.0.env.net.channel(&address).ok()?);
        let (region_id, region_epoch) = (region.id, region.region_epoch);
        let context = Context { region_id, region_epoch, peer: Some(peer), ..Context::default() };
        Some(Place { stub, context, region })
    }
}

impl Place {
    /// Returns those keys that the region has.
    pub fn own(&self, keys: &[Bytes]) -> Vec<Bytes> {
        keys.iter().filter(|key| region::holds(&self.region, &txn_key::encode(key))).cloned().collect()
    }

    /// Returns the context of a read that passes the locks of `later` and opens those of `committed`.
    pub fn passing(&self, later: &BTreeSet<u64>, committed: &BTreeSet<u64>) -> Context {
        let (resolved_locks, committed_locks) = (later.iter().copied().collect(), committed.iter().copied().collect());
        Context { resolved_locks, committed_locks, ..self.context.clone() }
    }
}
