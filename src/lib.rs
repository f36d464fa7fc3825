//! # Armilla
//!
//! A distributed, transactional key-value store for ARM and x86 servers, wire compatible with TiKV's clients, whose whole
//! store runs unchanged inside a deterministic simulator. The plan of the house is in the rooms' own pages; start with [`rt`]
//! (the seam), then follow a request: [`service`], [`store`], [`replica`], [`raft`], [`region`], [`engine`].
#![deny(unsafe_op_in_unsafe_fn)]

#[macro_use]
pub mod rt;

pub mod client;
pub mod codec;
pub mod docs;
pub mod engine;
#[cfg(test)]
mod golden;
pub mod node;
pub mod pd;
pub mod query;
pub mod raft;
pub mod region;
pub mod replica;
pub mod service;
pub mod store;
pub mod types;

pub use armilla_arch as arch;
pub use armilla_proto as proto;
