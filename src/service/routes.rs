//! All services of a node in one router, for a socket or for the simulator.

use std::sync::{Arc, OnceLock};

use tonic::service::Routes;

use crate::proto::armilla::pd::cluster_server::ClusterServer;
use crate::proto::health::health_server::HealthServer;
use crate::proto::pdpb::pd_server::PdServer as PdWire;
use crate::proto::tikvpb::tikv_server::TikvServer;
use crate::store::Kv;
use crate::types::limits::MESSAGE_BYTES_MAX;

use super::cluster::{ClusterService, Hello};
use super::gate::Gate;
use super::health::HealthService;
use super::metrics::Observer;
use super::pd::{PdService, Seat};
use super::raw::RawService;
use super::tikv::TikvService;

macro_rules! sized {
    ($server:expr) => {
        $server.max_decoding_message_size(MESSAGE_BYTES_MAX).max_encoding_message_size(MESSAGE_BYTES_MAX)
    };
}

/// What is opened when the node belongs to a cluster and its store runs.
#[derive(Clone, Debug)]
pub struct Gates<K: Kv> {
    tikv: Gate<TikvServer<TikvService<K>>>,
    pd: Gate<PdWire<PdService>>,
    seat: Arc<OnceLock<Seat>>,
    observer: Observer,
}

impl<K: Kv> Gates<K> {
    /// Opens the placement driver's services. May be before [`Gates::open_store`]: stores register with it.
    ///
    /// # Panics
    /// If they are open already.
    pub fn open_pd(&self, seat: Seat) {
        assert!(self.seat.set(seat.clone()).is_ok(), "a gate opens once");
        self.pd.open(sized!(PdWire::new(PdService::new(seat, self.observer.clone()))));
    }

    /// Opens the key-value service.
    ///
    /// # Panics
    /// If it is open already.
    pub fn open_store(&self, kv: K, cluster_id: u64) {
        let service = TikvService::new(RawService::new(kv, cluster_id), self.observer.clone());
        self.tikv.open(sized!(TikvServer::new(service)));
    }
}

/// The router of all services, and the gates of those that come later. `hello` and `health` answer at once.
///
/// Replies are not compressed: their content rarely shrinks, and a core is dearer than the network. A method that is not here is
/// answered with UNIMPLEMENTED; a message that does not decode, or is over [`MESSAGE_BYTES_MAX`], costs its call and not the
/// connection.
pub fn routes<K: Kv>(hello: Hello, health: HealthService, observer: Observer) -> (Routes, Gates<K>) {
    let gates = Gates {
        tikv: Gate::default(),
        pd: Gate::default(),
        seat: Arc::new(OnceLock::new()),
        observer: observer.clone(),
    };
    let cluster = ClusterService::new(hello, gates.seat.clone(), observer);
    let routes = Routes::default()
        .add_service(gates.tikv.clone())
        .add_service(gates.pd.clone())
        .add_service(sized!(ClusterServer::new(cluster)))
        .add_service(sized!(HealthServer::new(health)));
    (routes, gates)
}
