//! # node

pub mod config;
pub mod metrics;

pub use config::Config;
