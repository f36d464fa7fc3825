//! # service: the interface of a node to clients and people
//!
//! ```text
//!   HTTP/2: tikvpb.Tikv      pdpb.PD   armilla.pd.Cluster   grpc.health.v1      HTTP/1: / /status /metrics
//!        |           |          |              |                  |                       |
//!     [tikv] <-- [batch]    [pd, tso]      [cluster]           [health]               [status]
//!        |                      |              |                  |                       |
//!     [calls], one table        +-- PdServer --+              a watch            a StatusSource
//!        |
//!   [raw] [txn], a handler a call
//!        |
//!     trait Kv
//! ```
//!
//! Decoded protocol messages come **in**, replies go **out**. The parts:
//!
//! - `calls` lists all calls and connects each to its handler.
//! - `keys` checks the API version and the keys of requests, and brings raw keys into stored form.
//! - `raw` implements every raw request, once for both the unary calls and the streams.
//! - `txn` does the same for transactional requests.
//! - `error` decides in which form existing clients see each error.
//! - `routes` combines the services, for a socket or for the simulator.
//! - `meta_storage` and `etcd` answer what clients ask PD's etcd.
//! - `keyspaces` answers clients with API V2 that look for their keyspace.
//! - `pd_http` answers what PD's tools ask it by HTTP.
//! - `intake` bounds the memory of arriving requests.
//! - `layer` has what surrounds every call: deadlines, metrics, quotas, logs.
//!
//! **Never**: a region error in a gRPC status (clients would drop the connection); an error and a region error in one
//! reply; a scan that is silently shorter than requested; a response to a compare-and-swap that makes a client run it
//! twice; a key in a log, unless the operator asked for keys.

mod batch;
mod calls;
pub(crate) mod cluster;
mod error;
mod etcd;
pub(crate) mod figures;
mod forward;
pub(crate) mod health;
mod intake;
mod keys;
mod keyspaces;
mod layer;
mod meta_storage;
#[cfg(test)]
mod one_region;
pub(crate) mod pd;
pub(crate) mod pd_http;
mod query_region;
mod raw;
mod routes;
mod safe_points;
pub(crate) mod status;
mod tikv;
mod tso;
mod txn;

/// The planted bugs of this module, and what each of them breaks.
pub const MUTANTS: &[(&str, &str)] =
    &[("v2.prefix-unchecked", "with API V2, requests with keys of the other mode, or of no keyspace, are served")];

pub(crate) use layer::deadline::Deadlines;
pub(crate) use layer::gate::Gate;
pub(crate) use layer::metrics::Metrics;
pub(crate) use layer::observe::Observer;
pub(crate) use layer::redact::Redact;
pub(crate) use routes::{Gates, routes};
