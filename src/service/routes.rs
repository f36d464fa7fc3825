//! All services of a node in one router, for a socket or for the simulator.

use tonic::service::Routes;

use crate::proto::armilla::pd::cluster_server::ClusterServer;
use crate::proto::health::health_server::HealthServer;
use crate::proto::pdpb::pd_server::PdServer as PdWire;
use crate::proto::tikvpb::tikv_server::TikvServer;
use crate::store::Kv;
use crate::types::limits::MESSAGE_BYTES_MAX;

use super::cluster::ClusterService;
use super::health::HealthService;
use super::pd::PdService;
use super::tikv::TikvService;

/// What [`routes`] puts together.
#[derive(Clone, Debug)]
pub struct Services<K> {
    /// Keys and values.
    pub tikv: TikvService<K>,
    /// The placement driver, as TiKV's clients know it.
    pub pd: PdService,
    /// The placement driver, as nodes know it.
    pub cluster: ClusterService,
    /// Health.
    pub health: HealthService,
}

/// The router of all services. Replies are not compressed: their content rarely shrinks, and a core is dearer than the network.
/// A method that is not here is answered with UNIMPLEMENTED; a message that does not decode, or is over
/// [`MESSAGE_BYTES_MAX`], costs its call and not the connection.
pub fn routes<K: Kv>(services: Services<K>) -> Routes {
    macro_rules! sized {
        ($server:expr) => {
            $server.max_decoding_message_size(MESSAGE_BYTES_MAX).max_encoding_message_size(MESSAGE_BYTES_MAX)
        };
    }
    Routes::default()
        .add_service(sized!(TikvServer::new(services.tikv)))
        .add_service(sized!(PdWire::new(services.pd)))
        .add_service(sized!(ClusterServer::new(services.cluster)))
        .add_service(sized!(HealthServer::new(services.health)))
}
