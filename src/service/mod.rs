//! # service: what clients and people see of a node
//!
//! ```text
//!   HTTP/2: tikvpb.Tikv      pdpb.PD   armilla.pd.Cluster   grpc.health.v1      HTTP/1: / /status /metrics
//!        |           |          |              |                  |                       |
//!     [tikv] <-- [batch]    [pd, tso]      [cluster]           [health]               [status]
//!        |                      |              |                  |                       |
//!     [calls], one table        +-- PdServer --+              a watch            a StatusSource
//!        |
//!      [raw], a handler a call
//!        |
//!     trait Kv
//! ```
//!
//! **In** come decoded protocol messages; **out** go replies. [`calls`] lists what can be called and ties each call to its handler;
//! [`raw`] holds the meaning of every raw request, once, for the unary calls and for the streamed ones; [`error`] decides what each
//! failure looks like to clients that exist; [`mod@routes`] puts the services together, for a socket or for the simulator;
//! [`meta_storage`] and [`etcd`] are what clients ask PD's etcd for; [`intake`] bounds what arrives; [`layer`] has what stands around
//! every call: deadlines, metrics, quotas, the log.
//!
//! **Never**: a region error in a gRPC status (clients would drop the connection); an error and a region error in one reply; a
//! scan that is silently shorter than asked; an answer to a compare-and-swap that makes a client run it twice; a key in a log
//! unless the operator asked for keys.

pub mod batch;
pub mod calls;
pub mod cluster;
pub mod error;
pub mod etcd;
pub mod figures;
mod forward;
pub mod health;
pub mod intake;
pub mod layer;
pub mod meta_storage;
#[cfg(test)]
mod one_region;
pub mod pd;
mod query_region;
pub mod raw;
pub mod routes;
pub mod status;
pub mod tikv;
mod tso;

pub use layer::deadline::Deadlines;
pub use layer::gate::Gate;
pub use layer::metrics::Metrics;
pub use layer::observe::Observer;
pub use layer::redact::Redact;
pub use pd::{PdFront, Seat};
pub use raw::RawService;
pub use routes::{Gates, routes};
pub use tikv::TikvService;
