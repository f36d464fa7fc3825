//! Streams of commands: many commands in one stream, and many responses in one stream back.
//!
//! A stream is one task, and its commands have no tasks of their own: they run as futures inside it. When the
//! connection asks for the next message, all responses that are ready leave together. Under load the messages grow by
//! themselves; a single command does not wait for others. There is no timer.
//!
//! ```text
//!   message in -> waiting -> running (at most STREAM_COMMANDS_RUNNING_MAX) -> ready -> message out
//!        ^ not read while commands of one wait: the connection's flow control holds the client back
//! ```
//! Responses leave in the order in which they become ready, each with the id of its command. A command that this
//! version does not know gets an empty response, which the client reports to the one caller that sent it; the stream
//! continues.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::stream::{FuturesUnordered, Stream, StreamExt};
use prost::Message;
use tonic::Status;

use crate::proto::tikvpb::{
    BatchCommandsRequest, BatchCommandsResponse, batch_commands_request, batch_commands_response,
};
use crate::types::limits::{STREAM_ANSWER_BYTES_FULL, STREAM_ANSWERS_MAX, STREAM_COMMANDS_RUNNING_MAX};

use super::layer::metrics::Metrics;

type Command = batch_commands_request::Request;
type Reply = batch_commands_response::Response;

/// The stream of responses. `make` starts a command.
pub(super) struct Commands<In, Make, Fut> {
    inbound: In,
    /// Whether no more commands will come: the client has closed its side, or the stream failed with `broken`.
    ended: bool,
    broken: Option<Status>,
    make: Make,
    /// Commands of the last message that have not been started.
    waiting: VecDeque<(u64, Command)>,
    running: FuturesUnordered<Fut>,
    metrics: Metrics,
}

// No field is pinned: the running commands are boxed.
impl<In, Make, Fut> Unpin for Commands<In, Make, Fut> {}

impl<In, Make, Fut> Commands<In, Make, Fut>
where
    In: Stream<Item = Result<BatchCommandsRequest, Status>> + Unpin,
    Make: Fn(u64, Command) -> Fut,
    Fut: Future<Output = (u64, Reply)>,
{
    /// Creates the stream of responses to the commands of `inbound`.
    pub(super) fn new(inbound: In, metrics: Metrics, make: Make) -> Self {
        metrics.streams.inc();
        let (waiting, running) = (VecDeque::new(), FuturesUnordered::new());
        Commands { inbound, ended: false, broken: None, make, waiting, running, metrics }
    }

    fn take_in(&mut self, cx: &mut Context<'_>) {
        while self.running.len() < STREAM_COMMANDS_RUNNING_MAX {
            if !self.running.is_empty() && crate::buggify!("service.few-commands") {
                break;
            }
            if let Some((id, command)) = self.waiting.pop_front() {
                self.running.push((self.make)(id, command));
                continue;
            }
            if self.ended {
                break;
            }
            match self.inbound.poll_next_unpin(cx) {
                Poll::Pending => break,
                Poll::Ready(Some(Ok(message))) => self.queue(message),
                Poll::Ready(Some(Err(status))) => self.end(Some(status)),
                Poll::Ready(None) => self.end(None),
            }
        }
    }

    fn end(&mut self, why: Option<Status>) {
        self.ended = true;
        self.broken = why;
    }

    fn queue(&mut self, message: BatchCommandsRequest) {
        let BatchCommandsRequest { requests, request_ids } = message;
        self.metrics.commands_in.observe(requests.len() as f64);
        let count = requests.len();
        if count != request_ids.len() {
            // The responses could not be matched to callers.
            let why = format!("{count} commands with {} ids in one message", request_ids.len());
            return self.end(Some(Status::invalid_argument(why)));
        }
        self.waiting.extend(request_ids.into_iter().zip(requests));
    }

    fn give_out(&mut self, cx: &mut Context<'_>) -> BatchCommandsResponse {
        let mut out = BatchCommandsResponse::default();
        let mut bytes = 0;
        while out.responses.len() < STREAM_ANSWERS_MAX && bytes < STREAM_ANSWER_BYTES_FULL {
            let Poll::Ready(Some((id, reply))) = self.running.poll_next_unpin(cx) else { break };
            bytes += reply.encoded_len();
            out.request_ids.push(id);
            out.responses.push(reply);
            if crate::buggify!("service.few-answers") {
                break;
            }
        }
        out
    }
}

impl<In, Make, Fut> Stream for Commands<In, Make, Fut>
where
    In: Stream<Item = Result<BatchCommandsRequest, Status>> + Unpin,
    Make: Fn(u64, Command) -> Fut,
    Fut: Future<Output = (u64, Reply)>,
{
    type Item = Result<BatchCommandsResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        this.take_in(cx);
        let out = this.give_out(cx);
        if !out.responses.is_empty() {
            this.metrics.commands_out.observe(out.responses.len() as f64);
            return Poll::Ready(Some(Ok(out)));
        }
        if this.ended && this.running.is_empty() && this.waiting.is_empty() {
            return Poll::Ready(this.broken.take().map(Err));
        }
        Poll::Pending
    }
}

impl<In, Make, Fut> Drop for Commands<In, Make, Fut> {
    fn drop(&mut self) {
        self.metrics.streams.dec();
    }
}

#[cfg(test)]
mod tests {
    //! Goal: every command gets exactly its own response, in groups of bounded size, in whatever order the commands
    //! complete. Method: commands that complete when the test says so, polled by hand.

    use std::cell::RefCell;
    use std::collections::BTreeMap;
    use std::rc::Rc;

    use futures::FutureExt;
    use futures::channel::{mpsc, oneshot};
    use prometheus::Registry;

    use super::*;
    use crate::proto::tikvpb::BatchCommandsEmptyRequest;

    type Waiting = Rc<RefCell<BTreeMap<u64, oneshot::Sender<()>>>>;

    fn message(ids: std::ops::Range<u64>) -> Result<BatchCommandsRequest, Status> {
        let cmd = |id| {
            batch_commands_request::request::Cmd::Empty(Box::new(BatchCommandsEmptyRequest {
                test_id: id,
                delay_time: 0,
            }))
        };
        Ok(BatchCommandsRequest {
            requests: ids.clone().map(|id| Command { cmd: Some(cmd(id)) }).collect(),
            request_ids: ids.collect(),
        })
    }

    fn stream(
        waiting: &Waiting,
    ) -> (
        mpsc::UnboundedSender<Result<BatchCommandsRequest, Status>>,
        impl Stream<Item = Result<BatchCommandsResponse, Status>> + Unpin,
    ) {
        let (send, inbound) = mpsc::unbounded();
        let waiting = waiting.clone();
        let metrics = Metrics::new(&Registry::new()).unwrap();
        let commands = Commands::new(inbound, metrics, move |id, _command| {
            let (done, ready) = oneshot::channel();
            waiting.borrow_mut().insert(id, done);
            Box::pin(async move {
                ready.await.unwrap();
                (id, Reply { cmd: None })
            })
        });
        (send, commands)
    }

    /// Returns the ids of the next message, if one is ready.
    fn next(stream: &mut (impl Stream<Item = Result<BatchCommandsResponse, Status>> + Unpin)) -> Option<Vec<u64>> {
        let message = stream.next().now_or_never()?.expect("the stream continues").expect("no status");
        assert_eq!(message.responses.len(), message.request_ids.len());
        Some(message.request_ids)
    }

    #[test]
    fn answers_leave_together_and_out_of_order() {
        let waiting = Waiting::default();
        let (send, mut stream) = stream(&waiting);
        send.unbounded_send(message(1..4)).unwrap();
        send.unbounded_send(message(4..6)).unwrap();
        assert_eq!(next(&mut stream), None);
        for id in [5, 2] {
            waiting.borrow_mut().remove(&id).unwrap().send(()).unwrap();
        }
        assert_eq!(next(&mut stream), Some(vec![5, 2]));
        assert_eq!(next(&mut stream), None);
        drop(send);
        for (_, done) in std::mem::take(&mut *waiting.borrow_mut()) {
            done.send(()).unwrap();
        }
        assert_eq!(next(&mut stream), Some(vec![1, 3, 4]));
        assert!(stream.next().now_or_never().unwrap().is_none(), "the stream ends after the last response");
    }

    #[test]
    fn reads_no_more_than_it_may_run() {
        let waiting = Waiting::default();
        let (send, mut stream) = stream(&waiting);
        let max = STREAM_COMMANDS_RUNNING_MAX as u64;
        for i in 0..4 * max {
            send.unbounded_send(message(i..i + 1)).unwrap();
        }
        assert_eq!(next(&mut stream), None);
        assert_eq!(waiting.borrow().len(), STREAM_COMMANDS_RUNNING_MAX);
        waiting.borrow_mut().remove(&0).unwrap().send(()).unwrap();
        assert_eq!(next(&mut stream), Some(vec![0]));
        assert_eq!(next(&mut stream), None);
        assert_eq!(waiting.borrow().len(), STREAM_COMMANDS_RUNNING_MAX, "one more was started");
    }

    #[test]
    fn the_rest_of_a_large_message_waits() {
        let waiting = Waiting::default();
        let (send, mut stream) = stream(&waiting);
        let max = STREAM_COMMANDS_RUNNING_MAX as u64;
        send.unbounded_send(message(0..max + 2)).unwrap();
        send.unbounded_send(message(max + 2..max + 3)).unwrap();
        assert_eq!(next(&mut stream), None);
        assert_eq!(waiting.borrow().len(), STREAM_COMMANDS_RUNNING_MAX);
        for id in 0..3 {
            waiting.borrow_mut().remove(&id).unwrap().send(()).unwrap();
            assert_eq!(next(&mut stream), Some(vec![id]));
        }
        assert_eq!(next(&mut stream), None);
        assert_eq!(
            waiting.borrow().keys().next_back(),
            Some(&(max + 2)),
            "commands start in the order of their messages"
        );
        // The same for a message with very many commands.
        send.unbounded_send(message(10_000..30_000)).unwrap();
        let (mut answered, all) = (3, max + 3 + 20_000);
        while answered < all {
            std::mem::take(&mut *waiting.borrow_mut()).into_values().for_each(|done| done.send(()).unwrap());
            answered += next(&mut stream).map_or(0, |ids| ids.len() as u64);
        }
        assert_eq!(next(&mut stream), None);
        assert_eq!(answered, all);
    }

    #[test]
    fn ids_that_do_not_match_end_the_stream_with_a_reason() {
        let waiting = Waiting::default();
        let (send, mut stream) = stream(&waiting);
        let mut bad = message(0..2).unwrap();
        bad.request_ids.pop();
        send.unbounded_send(Ok(bad)).unwrap();
        let status = stream.next().now_or_never().unwrap().unwrap().unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        assert!(stream.next().now_or_never().unwrap().is_none());
    }
}
