//! # raft
pub mod machine;
