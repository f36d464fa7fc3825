//! One client that makes unary calls.

use std::sync::Arc;
use std::time::{Duration, Instant};

use armilla::codec::txn_key;
use armilla::rt::net::Channel;
use armilla::rt::rng::Rng;
use tonic::client::Grpc;
use tonic::{Request, Status};

use super::routes::Routes;
use super::wire::{Answer, Call, CallCodec};
use super::{Shared, Tally, Verb};

/// How many gets a client makes from one snapshot.
const SNAPSHOT_GETS: u32 = 100;
/// A request without a response for this long counts as an error.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Runs until the time is over.
pub async fn run(shared: Arc<Shared>, client: u32) -> Tally {
    let mut tally = Tally::new();
    let mut rng = Rng::fork(shared.args.seed, &format!("client {client}"));
    let mut routes = shared.routing.get();
    let mut stubs = stubs(&routes, client);
    // One timer for all requests: it is reset only when it has run out.
    let mut snapshot = Snapshot::default();
    let mut alarm = Box::pin(tokio::time::sleep(TIMEOUT));
    while !shared.is_over() {
        let generation = routes.generation;
        shared.routing.update(&mut routes);
        if routes.generation != generation {
            stubs = self::stubs(&routes, client);
        }
        let (verb, key) = shared.next(&mut rng);
        let route = match verb {
            Verb::SnapshotGet => routes.find(&txn_key::encode(&key)),
            _ => routes.find(&key),
        };
        if verb == Verb::SnapshotGet && !snapshot.renew(&shared).await {
            tally.failed(&shared, || "no timestamp".to_owned());
            continue;
        }
        let value = if verb == Verb::Put { shared.value.clone() } else { bytes::Bytes::new() };
        let (context, limit, version) = (route.context.clone(), shared.args.scan_limit, snapshot.version);
        let call = Call { verb, context, key, value, limit, version };
        let sent = Instant::now();
        let exchange = exchange(&mut stubs[route.store], call);
        tokio::pin!(exchange);
        let answer = loop {
            armilla::rt_select! {
                answer = &mut exchange => break answer,
                () = alarm.as_mut() => {
                    let left = TIMEOUT.saturating_sub(sent.elapsed());
                    if left.is_zero() {
                        break Err(Status::deadline_exceeded(format!("no answer within {TIMEOUT:?}")));
                    }
                    alarm.as_mut().reset(tokio::time::Instant::now() + left);
                }
            }
        };
        match answer {
            Ok(Answer::Fine(pairs)) => tally.answered(&shared, sent, Instant::now(), pairs),
            Ok(Answer::Bad(why)) => {
                tally.failed(&shared, || why);
                shared.routing.refresh(routes.generation).await;
            }
            Err(status) => {
                tally.failed(&shared, || status.to_string());
                shared.routing.refresh(routes.generation).await;
            }
        }
    }
    tally
}

/// The snapshot that a client gets keys from.
#[derive(Default)]
struct Snapshot {
    version: u64,
    /// How many more gets it serves.
    left: u32,
}

impl Snapshot {
    /// Takes a new one if this one has served all its gets. Returns whether there is one.
    async fn renew(&mut self, shared: &Shared) -> bool {
        if self.left == 0 {
            let Ok(version) = shared.transactions.timestamp().await else { return false };
            *self = Snapshot { version: version.0, left: SNAPSHOT_GETS };
        }
        self.left -= 1;
        true
    }
}

/// Returns this client's connection to each store.
fn stubs(routes: &Routes, client: u32) -> Vec<Grpc<Channel>> {
    let stub = |channels: &Vec<Channel>| {
        Grpc::new(channels[client as usize % channels.len()].clone()).max_decoding_message_size(64 << 20)
    };
    routes.stores.iter().map(stub).collect()
}

async fn exchange(stub: &mut Grpc<Channel>, call: Call) -> Result<Answer, Status> {
    stub.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let verb = call.verb;
    stub.unary(Request::new(call), Call::path(verb), CallCodec(verb)).await.map(tonic::Response::into_inner)
}
