//! # service
