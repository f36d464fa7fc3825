//! Many clients behind a few `BatchCommands` streams: one task keeps one stream to each store and a slot a client. Every
//! reply frees slots; their next requests leave together.

use std::sync::Arc;
use std::time::{Duration, Instant};

use armilla::proto::tikvpb::BatchCommandsResponse;
use armilla::proto::tikvpb::batch_commands_response::response::Cmd;
use armilla::rt::rng::Rng;
use armilla::rt::sync::mpsc;
use futures::StreamExt as _;
use futures::stream::SelectAll;
use tonic::client::Grpc;
use tonic::{Request, Status};

use super::routes::Routes;
use super::wire::{self, Answer, Batch, BatchCodec, Call};
use super::{Shared, Tally, Verb};

/// Silence for so long on all streams counts as their loss.
const PATIENCE: Duration = Duration::from_secs(10);

/// A way to send to each store, and one stream of all replies.
struct Links {
    routes: Arc<Routes>,
    senders: Vec<mpsc::UnboundedSender<bytes::Bytes>>,
    batches: Vec<Batch>,
    replies: SelectAll<tonic::Streaming<BatchCommandsResponse>>,
}

/// One client.
#[derive(Clone, Copy)]
struct Slot {
    sent: Instant,
    /// Which request of the slot is under way; answers to earlier ones (from before a reconnection) are not counted.
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
        let why = match Links::open(routes, stream).await {
            Ok(mut links) => links.pump(&shared, &mut slots, &mut rng, &mut tally).await.err(),
            Err(why) => Some(why),
        };
        if let Some(why) = why {
            tally.failed(&shared, || why);
            shared.routing.refresh(generation).await;
        }
    }
    tally
}

impl Links {
    async fn open(routes: Arc<Routes>, stream: u32) -> Result<Links, String> {
        let mut links =
            Links { senders: Vec::new(), batches: Vec::new(), replies: SelectAll::new(), routes: routes.clone() };
        for channels in &routes.stores {
            let channel = channels[stream as usize % channels.len()].clone();
            let (sender, outgoing) = mpsc::unbounded_channel();
            // A server answers the call with the first reply; an empty request at once lets it say so.
            sender.send(Batch::default().take()).expect("the receiver is right here");
            let outgoing = futures::stream::unfold(outgoing, |mut outgoing| async move {
                outgoing.recv().await.map(|m| (m, outgoing))
            });
            let mut grpc = Grpc::new(channel).max_decoding_message_size(64 << 20);
            let path = http::uri::PathAndQuery::from_static("/tikvpb.Tikv/BatchCommands");
            let opened = async {
                grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
                grpc.streaming(Request::new(outgoing), path, BatchCodec).await
            };
            let opened = tokio::time::timeout(PATIENCE, opened).await;
            let replies =
                opened.map_err(|_| "a stream does not open".to_owned())?.map_err(|status| status.to_string())?;
            links.senders.push(sender);
            links.batches.push(Batch::default());
            links.replies.push(replies.into_inner());
        }
        Ok(links)
    }

    /// Sends and receives until the time is over (fine) or a stream or region fails (why).
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
            let reply = tokio::time::timeout(PATIENCE, self.replies.next()).await;
            let reply = reply.map_err(|_| format!("no reply within {PATIENCE:?}"))?;
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
                    other => Answer::Bad(format!("an answer of another kind: {other:?}")),
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
                    // Counted already: look for new routes and go on.
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

    /// The slot's next request, into the batch for its store.
    fn issue(&mut self, shared: &Shared, slots: &mut [Slot], at: usize, rng: &mut Rng) {
        let (verb, key) = shared.next(rng);
        let route = self.routes.find(&key);
        let value = if verb == Verb::Put { shared.value.clone() } else { bytes::Bytes::new() };
        let call = Call { verb, context: route.context.clone(), key, value, limit: shared.args.scan_limit };
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
