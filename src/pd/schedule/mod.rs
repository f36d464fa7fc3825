//! Decisions about where leaders and replicas belong. Pure: the same input gives the same result everywhere.
pub mod balance;
pub mod hot;
pub mod isolation;
pub mod leader;
pub mod merge;
pub mod places;
pub mod replica;
pub mod weights;
