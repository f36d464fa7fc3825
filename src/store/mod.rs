//! # store
pub mod kv;
pub use kv::{Kv, RegionRead};
