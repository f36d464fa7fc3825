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
//! **In** come decoded protocol messages; **out** go replies. `calls` lists what can be called and ties each call to its handler;
//! `raw` holds the meaning of every raw request, once, for the unary calls and for the streamed ones; `error` decides what each
//! failure looks like to clients that exist; `routes` puts the services together, for a socket or for the simulator;
//! `meta_storage` and `etcd` are what clients ask PD's etcd for; `intake` bounds what arrives; `layer` has what stands around
//! every call: deadlines, metrics, quotas, the log.
//!
//! **Never**: a region error in a gRPC status (clients would drop the connection); an error and a region error in one reply; a
//! scan that is silently shorter than asked; an answer to a compare-and-swap that makes a client run it twice; a key in a log
//! unless the operator asked for keys.

mod batch;
mod calls;
pub(crate) mod cluster;
mod error;
mod etcd;
pub(crate) mod figures;
mod forward;
pub(crate) mod health;
mod intake;
mod layer;
mod meta_storage;
#[cfg(test)]
mod one_region;
pub(crate) mod pd;
mod query_region;
mod raw;
mod routes;
pub(crate) mod status;
mod tikv;
mod tso;

pub(crate) use layer::deadline::Deadlines;
pub(crate) use layer::gate::Gate;
pub(crate) use layer::metrics::Metrics;
pub(crate) use layer::observe::Observer;
pub(crate) use layer::redact::Redact;
pub(crate) use routes::{Gates, routes};
