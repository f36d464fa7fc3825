//! Layers around every service: they bound, measure and refuse calls without knowing what the calls mean.
//!
//! ```text
//!   a call -> [deadline] -> [unbuilt] -> [gate] -> a service -> [observe] -> its handler
//!                                                                   |
//!                                               [metrics]  [redact]
//! ```
//! [`quota`] bounds the memory of responses, [`slots`] the cores that JSON queries use.

pub mod deadline;
pub mod gate;
pub mod metrics;
pub mod observe;
pub mod quota;
pub mod redact;
pub mod slots;
pub mod unbuilt;
