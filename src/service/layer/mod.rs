//! What stands around every service: it bounds, measures and refuses calls without knowing what they mean.
//!
//! ```text
//!   a call -> [deadline] -> [unbuilt] -> [gate] -> a service -> [observe] -> its handler
//!                                                                   |
//!                                               [metrics]  [redact]
//! ```
//! [`quota`] bounds the memory of answers, [`slots`] the cores that queries over JSON take.

pub mod deadline;
pub mod gate;
pub mod metrics;
pub mod observe;
pub mod quota;
pub mod redact;
pub mod slots;
pub mod unbuilt;
