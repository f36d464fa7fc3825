//! Errors by what the caller knows afterwards.

use tonic::{Code, Status};

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The request is wrong and will be wrong again. It had no effect.
    #[error("{0}")]
    Refused(String),
    /// Nobody could serve it before the deadline. It had no effect and never will.
    #[error("not served: {0}")]
    Unavailable(String),
    /// Whether it had an effect, or will have one later, is not known; of a batch, a part of it may have.
    #[error("outcome unknown: {0}")]
    Unknown(String),
}

impl Error {
    /// Whether the request may have had an effect.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Error::Unknown(_))
    }
}

/// A result of a client.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a failed call says about its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The server looked at it and will never take it.
    Refused,
    /// It never left this machine.
    NotSent,
    /// It may have been carried out.
    Lost,
}

/// Sorts a gRPC status.
pub(crate) fn failure(status: &Status) -> Failure {
    match status.code() {
        Code::InvalidArgument | Code::Unimplemented | Code::OutOfRange | Code::FailedPrecondition => Failure::Refused,
        Code::Unauthenticated | Code::PermissionDenied => Failure::Refused,
        _ if refused_connection(status) => Failure::NotSent,
        _ => Failure::Lost,
    }
}

/// Whether nobody listened at the address, so that no byte of the request was sent.
fn refused_connection(status: &Status) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(status);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return io.kind() == std::io::ErrorKind::ConnectionRefused;
        }
        cause = error.source();
    }
    false
}
