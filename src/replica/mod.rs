//! # replica
pub mod handle;
pub mod log;
pub mod mailbox;
pub use handle::{Handle, Leadership, PeerView, Poison};
