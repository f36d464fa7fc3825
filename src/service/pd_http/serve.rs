//! PD's HTTP interface on the node that receives a request.
//!
//! A plain HTTP request comes **in**. Out go a question to the placement driver's leader, splits if it asks for them,
//! and the answer. **Never**: more answers in memory than [`PD_HTTP_RUNNING_MAX`], however slowly clients read them.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use serde::Serialize;

use super::answer::{Answer, content_type};
use super::change::created;
use super::routes::{self, Call};
use crate::proto::armilla::pd::{PdHttpReply, PdHttpRequest, PdHttpSplit};
use crate::rt::sync::{OwnedSemaphorePermit, Semaphore};
use crate::rt::{HttpRequest, HttpResponse};
use crate::types::Result as StoreResult;
use crate::types::limits::PD_HTTP_RUNNING_MAX;

/// How a node reaches the placement driver's leader and the regions' leaders.
pub trait PdHttpPeers: Send + Sync + 'static {
    /// Passes a request to the placement driver's leader.
    fn lead(&self, request: PdHttpRequest) -> BoxFuture<'_, StoreResult<PdHttpReply>>;
    /// Makes each of these keys the start of a region. Returns for each the ID of the new region that ends there, or
    /// `None` if a region started at the key already.
    fn split(&self, keys: Vec<Bytes>) -> BoxFuture<'_, Vec<StoreResult<Option<u64>>>>;
}

/// PD's HTTP interface of a node. Clones share the limit of requests.
#[derive(Clone, Debug)]
pub(crate) struct PdHttp {
    running: Arc<Semaphore>,
}

impl Default for PdHttp {
    fn default() -> PdHttp {
        PdHttp { running: Arc::new(Semaphore::new(PD_HTTP_RUNNING_MAX)) }
    }
}

/// The result of splits.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Split {
    processed_percentage: usize,
    regions_id: Vec<u64>,
}

/// A body that counts as running until its last byte was sent.
struct Body {
    bytes: Bytes,
    _place: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl PdHttp {
    /// Returns whether a path belongs to PD's interface.
    pub fn owns(path: &str) -> bool {
        path.starts_with("/pd/")
    }

    /// Answers a request. `peers` is `None` while the node does not belong to a cluster.
    pub async fn serve(&self, peers: Option<Arc<dyn PdHttpPeers>>, request: HttpRequest) -> HttpResponse {
        let Ok(place) = self.running.clone().try_acquire_owned() else {
            let why =
                format!("this node answers {PD_HTTP_RUNNING_MAX} requests to the placement driver already: try again");
            return respond(Answer::error(503, why).into_reply(), None);
        };
        let reply = reply(peers.as_deref(), request).await;
        respond(reply, Some(place))
    }
}

/// Returns a reply as a response over HTTP.
fn respond(reply: PdHttpReply, place: Option<OwnedSemaphorePermit>) -> HttpResponse {
    let content_type = content_type(reply.content());
    let body = match place {
        Some(place) if !reply.body.is_empty() => Bytes::from_owner(Body { bytes: reply.body, _place: place }),
        _ => reply.body,
    };
    HttpResponse { status: u16::try_from(reply.status).unwrap_or(500), content_type, body }
}

async fn reply(peers: Option<&dyn PdHttpPeers>, request: HttpRequest) -> PdHttpReply {
    let HttpRequest { method, path, query, body } = request;
    match routes::find(&method, &path) {
        Err(answer) => return answer.into_reply(),
        Ok((Call::Ping, _)) => return Answer::empty().into_reply(),
        Ok(_) => {}
    }
    let Some(peers) = peers else {
        return Answer::error(503, "no leader: this node does not belong to a cluster yet").into_reply();
    };
    match peers.lead(PdHttpRequest { method, path, query, body }).await {
        Ok(PdHttpReply { split: Some(split), status, content, body }) if split.is_answered => {
            drop(peers.split(split.keys).await);
            PdHttpReply { split: None, status, content, body }
        }
        Ok(PdHttpReply { split: Some(split), .. }) => carry_out(peers, split).await.into_reply(),
        Ok(reply) => reply,
        Err(error) => Answer::error(503, format!("no leader: {error}")).into_reply(),
    }
}

/// Makes the splits that the leader asks for.
async fn carry_out(peers: &dyn PdHttpPeers, split: PdHttpSplit) -> Answer {
    let PdHttpSplit { keys, by_operator, .. } = split;
    let ends = peers.split(keys).await;
    if by_operator {
        let failed = ends.into_iter().find_map(Result::err);
        return failed.map_or_else(created, |error| Answer::error(500, error));
    }
    let processed = ends.iter().filter(|end| end.is_ok()).count();
    let processed_percentage = processed * 100 / ends.len().max(1);
    let regions_id = ends.into_iter().filter_map(|end| end.ok().flatten()).collect();
    Answer::json(&Split { processed_percentage, regions_id })
}
