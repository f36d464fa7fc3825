//! # node
