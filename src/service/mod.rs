//! # service: what clients and people see of a node
//!
//! ```text
//!   HTTP/2: tikvpb.Tikv      pdpb.PD   armilla.pd.Cluster   grpc.health.v1      HTTP/1: / /status /metrics
//!        |           |          |              |                  |                       |
//!     [tikv]      [batch]   [pd, tso]      [cluster]           [health]               [status]
//!        |  one fn a  |         |              |                  |                       |
//!        +--[raw]-----+         +-- PdServer --+              a watch            a StatusSource
//!              |
//!          trait Kv
//! ```
//!
//! **In** come decoded protocol messages; **out** go replies. [`raw`] holds the meaning of every raw request, once, for the unary
//! calls and for the streamed ones; [`error`] decides what each failure looks like to clients that exist; [`mod@routes`] puts the
//! services together, for a socket or for the simulator; [`meta_storage`] and [`etcd`] are what clients ask PD's etcd for; [`queries`]
//! says how much of the cores queries over JSON take; [`intake`] bounds what arrives; [`deadline`] ends every call when the time that its
//! client gave it is over.
//!
//! **Never**: a region error in a gRPC status (clients would drop the connection); an error and a region error in one reply; a
//! scan that is silently shorter than asked; an answer to a compare-and-swap that makes a client run it twice; a key in a log
//! unless the operator asked for keys.

pub mod answers;
pub mod batch;
pub mod calls;
pub mod cluster;
pub mod deadline;
pub mod error;
pub mod etcd;
pub mod figures;
mod forward;
pub mod gate;
pub mod health;
pub mod intake;
pub mod meta_storage;
pub mod metrics;
#[cfg(test)]
mod one_region;
pub mod pd;
pub mod queries;
mod query_region;
pub mod raw;
pub mod redact;
pub mod routes;
pub mod status;
pub mod tikv;
mod tso;
pub mod unbuilt;

pub use deadline::Deadlines;
pub use metrics::{Metrics, Observer};
pub use pd::{PdFront, Seat};
pub use raw::RawService;
pub use redact::Redact;
pub use routes::{Gates, routes};
pub use tikv::TikvService;
