//! Many clients behind a few `BatchCommands` streams: each task keeps one stream to each store and one slot for each
//! client. Every response frees slots, whose next requests are then sent together.
//!
//! The requests of a stream do not wait for the response of the call itself: a server may send the headers together
//! with the first responses, as TiKV does.

use std::sync::Arc;
use std::time::{Duration, Instant};

use armilla::proto::tikvpb::BatchCommandsResponse;
use armilla::proto::tikvpb::batch_commands_response::response::Cmd;
use armilla::rt::net::Channel;
use armilla::rt::rng::Rng;
use armilla::rt::sync::mpsc;
use futures::stream::{BoxStream, SelectAll};
use futures::{StreamExt as _, TryFutureExt as _};
use tonic::client::Grpc;
use tonic::{Request, Status};

use super::routes::Routes;
use super::wire::{self, Answer, Batch, BatchCodec, Call};
use super::{Shared, Tally, Verb};

/// If all streams are silent for this long, they are taken for lost.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A sender to each store, and one stream of all responses.
struct Links {
    routes: Arc<Routes>,
    senders: Vec<mpsc::UnboundedSender<bytes::Bytes>>,
    batches: Vec<Batch>,
    replies: SelectAll<Replies>,
}

/// The responses of one stream, including errors of the call.
type Replies = BoxStream<'static, Result<BatchCommandsResponse, Status>>;

/// One client.
#[derive(Clone, Copy)]
struct Slot {
    sent: Instant,
    /// Number of the slot's request in progress. Responses to earlier requests (from before a reconnection) are not
    /// counted.
    turn: u32,
}

/// Runs `clients` clients until the time is over.
pub async fn run(shared: Arc<Shared>, stream: u32, clients: u32) -> Tally {
    let mut tally = Tally::new();
    let mut rng = Rng::fork(shared.args.seed, &format!("stream {stream}"));
    let mut slots = vec![Slot { sent: Instant::now(), turn: 0 }; clients as usize];
    while !shared.is_over() {
        let routes = shared.routing.get();
        let generation = routes.generation;
        let mut links = Links::open(routes, stream);
        if let Err(why) = links.pump(&shared, &mut slots, &mut rng, &mut tally).await {
            tally.failed(&shared, || why);
            shared.routing.refresh(generation).await;
        }
    }
    tally
}

impl Links {
    fn open(routes: Arc<Routes>, stream: u32) -> Links {
        let mut links =
            Links { senders: Vec::new(), batches: Vec::new(), replies: SelectAll::new(), routes: routes.clone() };
        for channels in &routes.stores {
            let channel = channels[stream as usize % channels.len()].clone();
            let (sender, outgoing) = mpsc::unbounded_channel();
            links.senders.push(sender);
            links.batches.push(Batch::default());
            links.replies.push(replies(channel, outgoing));
        }
        links
    }

    /// Sends and receives until the time is over. Returns the reason if a stream or a region fails.
    async fn pump(
        &mut self,
        shared: &Shared,
        slots: &mut [Slot],
        rng: &mut Rng,
        tally: &mut Tally,
    ) -> Result<(), String> {
        for at in 0..slots.len() {
            self.issue(shared, slots, at, rng);
        }
        self.flush()?;
        let mut waiting = slots.len();
        let mut broken = None;
        loop {
            let reply = tokio::time::timeout(TIMEOUT, self.replies.next()).await;
            let reply = reply.map_err(|_| format!("no reply within {TIMEOUT:?}"))?;
            let reply = reply.ok_or("all streams ended")?.map_err(|status| status.to_string())?;
            let now = Instant::now();
            let over = shared.is_over();
            for (response, id) in reply.responses.into_iter().zip(reply.request_ids) {
                let (at, turn) = ((id & 0xffff_ffff) as usize, (id >> 32) as u32);
                let Some(slot) = slots.get(at).filter(|slot| slot.turn == turn) else { continue };
                let answer = match response.cmd {
                    Some(Cmd::RawPut(reply)) => wire::judge_put(reply),
                    Some(Cmd::RawGet(reply)) => wire::judge_get(reply),
                    Some(Cmd::RawScan(reply)) => wire::judge_scan(reply),
                    other => Answer::Bad(format!("a response of an unexpected kind: {other:?}")),
                };
                match answer {
                    Answer::Fine(pairs) => tally.answered(shared, slot.sent, now, pairs),
                    Answer::Bad(why) => {
                        tally.failed(shared, || why.clone());
                        broken = Some(why);
                    }
                }
                waiting -= 1;
                if !over && broken.is_none() {
                    self.issue(shared, slots, at, rng);
                    waiting += 1;
                }
            }
            if over || (broken.is_some() && waiting == 0) {
                return match broken {
                    // The error is already counted: get new routes and continue.
                    Some(_) if !over => {
                        shared.routing.refresh(self.routes.generation).await;
                        Ok(())
                    }
                    _ => Ok(()),
                };
            }
            self.flush()?;
        }
    }

    /// Adds the slot's next request to the batch for its store.
    fn issue(&mut self, shared: &Shared, slots: &mut [Slot], at: usize, rng: &mut Rng) {
        let (verb, key) = shared.next(rng);
        let route = self.routes.find(&key);
        let value = if verb == Verb::Put { shared.value.clone() } else { bytes::Bytes::new() };
        let call = Call { verb, context: route.context.clone(), key, value, limit: shared.args.scan_limit, version: 0 };
        let slot = &mut slots[at];
        slot.turn = slot.turn.wrapping_add(1);
        slot.sent = Instant::now();
        self.batches[route.store].push(u64::from(slot.turn) << 32 | at as u64, &call);
    }

    fn flush(&mut self) -> Result<(), String> {
        for (batch, sender) in self.batches.iter_mut().zip(&self.senders) {
            if !batch.is_empty() {
                sender.send(batch.take()).map_err(|_| "a stream is closed".to_owned())?;
            }
        }
        Ok(())
    }
}

/// Calls `BatchCommands` with the messages of `outgoing`. The call begins when the responses are first polled.
fn replies(channel: Channel, outgoing: mpsc::UnboundedReceiver<bytes::Bytes>) -> Replies {
    let outgoing = futures::stream::unfold(outgoing, |mut outgoing| async move {
        outgoing.recv().await.map(|message| (message, outgoing))
    });
    let called = async move {
        let mut grpc = Grpc::new(channel).max_decoding_message_size(64 << 20);
        let path = http::uri::PathAndQuery::from_static("/tikvpb.Tikv/BatchCommands");
        grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let replies = grpc.streaming(Request::new(outgoing), path, BatchCodec).await?;
        Ok::<_, Status>(replies.into_inner())
    };
    let ended = futures::stream::once(async { Err(Status::unavailable("the store ended a stream")) });
    called.try_flatten_stream().chain(ended).boxed()
}
