//! Calls that a client wants forwarded to another node.
//!
//! TiKV's clients may send a call for a node that they cannot reach to one that they can reach. The call's metadata
//! names the intended node: `pd-forwarded-host` for members of the placement driver, `tikv-forwarded-host` for stores.
//! Nodes here do not forward calls: such a call ends with a status, so that the client looks for another way at once.
//! **Never**: an answer as if the call had been meant for this node. The client would take this node for a working way
//! to the other one.

use http::Request;
use tonic::Status;
use tonic::metadata::MetadataMap;

/// The metadata that names a member of the placement driver, as a URL.
const PD_HOST: &str = "pd-forwarded-host";
/// The metadata that names a store, as `host:port`.
const STORE_HOST: &str = "tikv-forwarded-host";

/// Checks whether a call for the placement driver is meant for this node, whose address is `own` (`host:port`). In some
/// calls clients name the leader that they call even when they reach it directly.
///
/// # Errors
/// Returns UNAVAILABLE "not leader …" if not. Clients then ask for the members again.
pub(super) fn meant_for(own: &str, metadata: &MetadataMap) -> Result<(), Status> {
    let Some(host) = metadata.get(PD_HOST) else { return Ok(()) };
    let host = host.to_str().unwrap_or_default();
    let addr = host.split_once("://").map_or(host, |(_, addr)| addr);
    if addr.is_empty() || addr == own {
        return Ok(());
    }
    Err(Status::unavailable(format!("not leader: this member does not forward calls, send them to {host}")))
}

/// Checks whether a call for a store is meant for this one, which the client reached by the request's authority.
///
/// # Errors
/// Returns FAILED_PRECONDITION if not. Clients then try another way.
pub(super) fn meant_for_store<B>(request: &Request<B>) -> Result<(), Status> {
    let Some(host) = request.headers().get(STORE_HOST) else { return Ok(()) };
    let here = request.uri().authority().map_or("", |authority| authority.as_str());
    if host.as_bytes() == here.as_bytes() {
        return Ok(());
    }
    let host = String::from_utf8_lossy(host.as_bytes()).into_owned();
    let why = format!("this store does not forward requests: send them to the store at {host:?}");
    Err(Status::failed_precondition(why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_for_another_member_is_not_answered() {
        let meant = |host: &'static str| {
            let mut metadata = MetadataMap::new();
            metadata.insert(PD_HOST, host.parse().unwrap());
            meant_for("h:1", &metadata)
        };
        assert!(meant_for("h:1", &MetadataMap::new()).is_ok());
        for own in ["http://h:1", "https://h:1", "h:1", ""] {
            assert!(meant(own).is_ok(), "{own}");
        }
        let refused = meant("http://h:11").unwrap_err();
        assert_eq!(refused.code(), tonic::Code::Unavailable);
        assert!(refused.message().starts_with("not leader"), "{refused}");
    }
}
