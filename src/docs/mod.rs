//! # Decision records
