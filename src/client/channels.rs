//! Connections by address, and addresses by store.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderValue, Request, Response};
use tonic::body::Body;
use tower::Service;

use crate::rt::clock::Instant;
use crate::rt::net::{Channel, Net};

/// One connection for each address, dialed at the first call. Clones share the connections.
#[derive(Clone, Debug)]
pub struct Channels {
    net: Net,
    open: Arc<Mutex<BTreeMap<String, Channel>>>,
}

impl Channels {
    /// Creates an empty set of connections.
    pub fn new(net: Net) -> Channels {
        Channels { net, open: Arc::default() }
    }

    /// Returns the connection to `addr` (`host:port`).
    ///
    /// # Errors
    /// Fails if `addr` is not a valid address.
    pub fn get(&self, addr: &str) -> std::io::Result<Channel> {
        let mut open = self.open.lock().expect("no holder panics");
        if let Some(channel) = open.get(addr) {
            return Ok(channel.clone());
        }
        let channel = self.net.channel(addr)?;
        open.insert(addr.to_owned(), channel.clone());
        Ok(channel)
    }

    /// Drops the connection to `addr`, so that the next call dials again. For use after a call without an answer,
    /// because a broken connection may not have been noticed.
    pub fn forget(&self, addr: &str) {
        self.open.lock().expect("no holder panics").remove(addr);
    }
}

/// How long an address that PD gave is used although calls to it fail. Stores seldom move, but often restart.
const BELIEVED: Duration = Duration::from_secs(1);

/// The address at which a store listens.
#[derive(Debug)]
struct Address {
    addr: String,
    /// When PD gave the address.
    learned: Instant,
    /// Whether a call to the address has failed since.
    doubted: bool,
}

/// The addresses of stores, as PD gave them. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    known: Arc<Mutex<BTreeMap<u64, Address>>>,
}

impl Addresses {
    /// Returns the address of a store, or `None` if PD must be asked.
    pub fn get(&self, store: u64, now: Instant) -> Option<String> {
        let known = self.known.lock().expect("no holder panics");
        let found = known.get(&store).filter(|found| !found.doubted || now.since(found.learned) < BELIEVED);
        found.map(|found| found.addr.clone())
    }

    /// Stores an address that PD gave.
    pub fn set(&self, store: u64, addr: String, now: Instant) {
        let address = Address { addr, learned: now, doubted: false };
        self.known.lock().expect("no holder panics").insert(store, address);
    }

    /// Notes that a call to a store failed: PD is asked again, but not at every call.
    pub fn doubt(&self, store: u64) {
        if let Some(known) = self.known.lock().expect("no holder panics").get_mut(&store) {
            known.doubted = true;
        }
    }

    /// Forgets an address that now belongs to another store.
    pub fn forget(&self, store: u64) {
        self.known.lock().expect("no holder panics").remove(&store);
    }
}

/// A connection whose calls tell the server how long the client will wait (`grpc-timeout`), so that the server stops
/// working on a request when the client has given up.
#[derive(Clone, Debug)]
pub struct Limited {
    channel: Channel,
    timeout: Option<HeaderValue>,
}

impl Limited {
    /// Wraps `channel` for calls that the client waits for at most `limit`. The server is told one millisecond more, so
    /// that the client's timeout comes first.
    pub fn new(channel: Channel, limit: Duration) -> Limited {
        // gRPC allows eight digits: 27 hours in milliseconds.
        let ms = (limit.as_millis() + 1).min(99_999_999);
        let timeout = HeaderValue::from_str(&format!("{ms}m")).expect("digits and a letter");
        Limited { channel, timeout: Some(timeout) }
    }

    /// Wraps `channel` for calls without a time limit, such as streams.
    pub fn endless(channel: Channel) -> Limited {
        Limited { channel, timeout: None }
    }
}

impl Service<Request<Body>> for Limited {
    type Response = Response<Body>;
    type Error = <Channel as Service<Request<Body>>>::Error;
    type Future = <Channel as Service<Request<Body>>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.channel.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Some(timeout) = &self.timeout {
            request.headers_mut().insert("grpc-timeout", timeout.clone());
        }
        self.channel.call(request)
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a store that does not answer does not make its clients ask PD at every call.
    use super::*;

    #[test]
    fn a_doubtful_address_is_believed_for_a_while() {
        let addresses = Addresses::default();
        let now = Instant(1_000_000_000);
        addresses.set(1, "a:1".into(), now);
        let later = now.plus(BELIEVED);
        assert_eq!(addresses.get(1, later), Some("a:1".into()));
        addresses.doubt(1);
        assert_eq!(addresses.get(1, now), Some("a:1".into()));
        assert_eq!(addresses.get(1, later), None);
        addresses.set(1, "b:1".into(), later);
        assert_eq!(addresses.get(1, later.plus(BELIEVED)), Some("b:1".into()));
        addresses.forget(1);
        assert_eq!(addresses.get(1, later), None);
    }
}
