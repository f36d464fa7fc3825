//! The `cf` argument of requests.

use crate::engine::Cf;
use crate::types::{Error, Result};

/// Returns the column family that a request's `cf` names.
///
/// # Errors
/// Returns [`Error::Invalid`] for a name that raw clients cannot use.
pub(super) fn column(name: &str) -> Result<Cf> {
    match name {
        "" | "default" => Ok(Cf::RawDefault),
        "lock" => Ok(Cf::RawLock),
        "write" => Ok(Cf::RawWrite),
        other => {
            let shown: String = other.chars().take(32).collect();
            Err(Error::Invalid(format!("unknown column family {shown:?}: use default, lock or write")))
        }
    }
}
