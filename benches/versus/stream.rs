//! Commands in a stream (`BatchCommands`), as TiKV's clients send them: requests that arrive meanwhile are sent as one
//! message.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use armilla::proto::tikvpb::batch_commands_request::{Request, request::Cmd};
use armilla::proto::tikvpb::batch_commands_response::response::Cmd as Answer;
use armilla::proto::tikvpb::tikv_client::TikvClient;
use armilla::proto::tikvpb::{BatchCommandsRequest, BatchCommandsResponse};
use tokio::sync::{mpsc, oneshot};
use tonic::transport::Channel;

/// Maximum number of commands in one message.
const COMMANDS_MAX: usize = 128;

type Waiting = Arc<Mutex<BTreeMap<u64, oneshot::Sender<Answer>>>>;

/// A stream of commands.
#[derive(Clone)]
pub struct Stream(mpsc::UnboundedSender<(Cmd, oneshot::Sender<Answer>)>);

impl Stream {
    /// Opens a stream over a connection. Must be called within a runtime.
    pub fn open(channel: Channel) -> Stream {
        let (ask, asked) = mpsc::unbounded_channel();
        tokio::spawn(serve(channel, asked));
        Stream(ask)
    }

    /// Sends a command. Returns the reply, or `None` if the stream broke.
    pub async fn ask(&self, command: Cmd) -> Option<Answer> {
        let (answer, answered) = oneshot::channel();
        self.0.send((command, answer)).ok()?;
        answered.await.ok()
    }
}

async fn serve(channel: Channel, mut asked: mpsc::UnboundedReceiver<(Cmd, oneshot::Sender<Answer>)>) {
    let waiting = Waiting::default();
    let (messages, sent) = mpsc::channel::<BatchCommandsRequest>(4);
    let stream = futures::stream::unfold(sent, |mut sent| async move { Some((sent.recv().await?, sent)) });
    let mut client = TikvClient::new(channel);
    let answers = {
        let waiting = waiting.clone();
        tokio::spawn(async move {
            let Ok(answers) = client.batch_commands(stream).await else { return };
            let mut answers = answers.into_inner();
            while let Ok(Some(BatchCommandsResponse { responses, request_ids, .. })) = answers.message().await {
                let mut waiting = waiting.lock().expect("no holder panics");
                for (id, response) in request_ids.iter().zip(responses) {
                    if let (Some(caller), Some(answer)) = (waiting.remove(id), response.cmd) {
                        let _ = caller.send(answer);
                    }
                }
            }
        })
    };
    let mut next = 0;
    while let Some(first) = asked.recv().await {
        let mut message = BatchCommandsRequest::default();
        let mut taken = Some(first);
        while let Some((command, caller)) = taken.take() {
            next += 1;
            waiting.lock().expect("no holder panics").insert(next, caller);
            message.requests.push(Request { cmd: Some(command) });
            message.request_ids.push(next);
            if message.requests.len() < COMMANDS_MAX {
                taken = asked.try_recv().ok();
            }
        }
        if messages.send(message).await.is_err() {
            break;
        }
    }
    answers.abort();
}
