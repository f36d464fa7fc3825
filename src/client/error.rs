//! Errors, grouped by what the caller knows afterwards.

use tonic::{Code, Status};

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The request is wrong and will always be wrong. It had no effect.
    #[error("{0}")]
    Refused(String),
    /// No server could take the request before the deadline. It had no effect and never will have one.
    #[error("not served: {0}")]
    Unavailable(String),
    /// It is not known whether the request had an effect or will have one later. Part of a batch may have had an
    /// effect.
    #[error("outcome unknown: {0}")]
    Unknown(String),
}

impl Error {
    /// Returns whether the request may have had an effect.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Error::Unknown(_))
    }
}

/// The result of a client's request.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a failed call says about its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The server received the request and will never accept it.
    Refused,
    /// The request never left this machine.
    NotSent,
    /// The request may have been carried out.
    Lost,
}

/// Classifies a gRPC status.
pub(crate) fn failure(status: &Status) -> Failure {
    match status.code() {
        Code::InvalidArgument | Code::Unimplemented | Code::OutOfRange | Code::FailedPrecondition => Failure::Refused,
        Code::Unauthenticated | Code::PermissionDenied => Failure::Refused,
        _ if refused_connection(status) => Failure::NotSent,
        _ => Failure::Lost,
    }
}

/// Returns whether nothing listened at the address, so that no byte of the request was sent.
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
