//! # Armilla
//!
//! A distributed, transactional key-value store for ARM and x86 servers, wire compatible with TiKV's clients. The whole
//! store runs unchanged inside a deterministic simulator. What is missing: TLS and authentication, backup.
//!
//! # Where to begin
//!
//! - **To talk to a cluster**: [`client::RawClient`] reads and writes raw keys, [`client::TxnClient`] begins
//!   transactions, [`client::PdClient`] asks the placement driver. [`query`] describes the JSON query language.
//! - **To run a node inside another program**: [`node::Node::start`].
//! - **To read the code**: `ARCHITECTURE.md` in the repository is a guided tour. Every module's page says what comes
//!   in, what goes out and what must never happen. Read them in the order of the table below.
//! - **To change the code**: `CONTRIBUTING.md` and `docs/testing.md` in the repository.
//! - **To learn why something is as it is**: the decision records in [`docs`].
//!
//! # The modules, in the order in which a request meets them
//!
//! | module | what it does |
//! |---|---|
//! | [`rt`] | the seam between the real world and the simulated one: tasks, time, randomness, network, disk |
//! | [`node`] | starts everything below; the binary and the simulator both call it |
//! | [`service`] | decodes, checks and answers the calls of TiKV, PD and the status pages |
//! | [`txn`] | transactions: latches, locks in memory, the actions of every request |
//! | [`store`] | routes a request to a region; reports to the placement driver |
//! | [`replica`] | drives the raft groups of a store: threads, log, transport, snapshots |
//! | [`raft`] | consensus of one group, as data |
//! | [`region`] | the replicated state machine of a region |
//! | [`mvcc`] | versions of transactional keys |
//! | [`engine`] | ordered pairs on disk: RocksDB, or the simulator's engine |
//! | [`pd`] | the placement driver: timestamps, ids, regions, stores, safe points |
//! | [`query`] | JSON queries, evaluated where the data is |
//! | [`client`] | how nodes, the command line and the simulator speak to a cluster |
//! | [`codec`], [`types`] | stored formats; ids, limits and errors that all modules share |
//! | [`arch`] | SIMD kernels |
//! | [`proto`] | the protocol's generated messages |
#![deny(unsafe_op_in_unsafe_fn)]

#[macro_use]
pub mod rt;

pub mod client;
pub mod codec;
pub mod docs;
pub mod engine;
#[cfg(test)]
mod golden;
pub mod mvcc;
pub mod node;
pub mod pd;
pub mod query;
pub mod raft;
pub mod region;
pub mod replica;
pub mod service;
pub mod store;
pub mod txn;
pub mod types;

pub use armilla_arch as arch;
pub use armilla_proto as proto;
