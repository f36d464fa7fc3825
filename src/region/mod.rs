//! # region
