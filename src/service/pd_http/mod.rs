//! # pd_http: PD's HTTP interface, version 1, and the keyspaces of version 2
//!
//! `pd-ctl`, the tool of TiKV's operators, and others ask PD by plain HTTP below `/pd/api/v1`; keyspaces are below
//! `/pd/api/v2`. Every node answers: it passes the request on to the leader of the placement driver, by an RPC of its
//! own, and the answer back.
//!
//! ```text
//!   pd-ctl --HTTP/1--> any node: serve, routes --RPC PdHttp--> the leader: lead
//!                                  |                             |  routes: which call
//!                                  | splits, by the node's       +--> reads:   View -> JSON     (members, stores,
//!                                  | own client                  |             pure              regions, checks,
//!                                  v                             |                               operators, config,
//!                                                                |                               hotspots)
//!                               the regions' leaders             +--> changes: PdServer          (change, accept)
//! ```
//!
//! Requests come **in** as they were received, answers go **out** in PD's form: the facts are in `docs/protocol.md`.
//! A call that PD has and Armilla does not have yet is answered with 501 and a sentence. **Never**: an answer from a
//! member that may have been deposed; a success for something that was not done; an empty list for something that is
//! not known; a panic, whatever the request.

mod accept;
mod answer;
mod change;
mod checkers;
mod checks;
mod config;
mod hotspots;
mod keyspaces;
mod labels;
mod members;
pub(in crate::service) mod operators;
mod regions;
mod request;
mod routes;
mod schedulers;
mod serve;
mod settings;
mod stores;
#[cfg(test)]
mod tests;
mod text;

use crate::pd::{PdError, PdServer};
use crate::proto::armilla::pd::{PdHttpReply, PdHttpRequest};
use crate::rt::cpu;

use answer::{Answer, not_bootstrapped};
use request::{Request, parse_query};
use routes::{Call, Read};

pub(crate) use serve::{PdHttp, PdHttpPeers};

/// From this many regions on, an answer is made on a thread that others do not need.
const INLINE_REGIONS: usize = 256;

/// Answers a request on the placement driver's leader.
///
/// # Errors
/// Returns those errors of [`PdServer`] that another member, or another attempt, may not have.
pub(super) async fn lead(pd: &PdServer, request: PdHttpRequest) -> Result<PdHttpReply, PdError> {
    let PdHttpRequest { method, path, query, body } = request;
    let (call, params) = match routes::find(&method, &path) {
        Ok(found) => found,
        Err(answer) => return Ok(answer.into_reply()),
    };
    let request = Request { params, query: parse_query(&query), body };
    match call {
        Call::Read(read) => look(pd, read, request, false).await,
        Call::ReadCluster(read) => look(pd, read, request, true).await,
        Call::Change(change) => change::carry_out(change, pd, &request).await,
        Call::Ping => Ok(Answer::empty().into_reply()),
        Call::Unbuilt(why) => Ok(Answer::unbuilt(why).into_reply()),
    }
}

/// Answers from the leader's view.
async fn look(pd: &PdServer, read: Read, request: Request, clustered: bool) -> Result<PdHttpReply, PdError> {
    let view = pd.admin_view().await?;
    if clustered && !view.bootstrapped {
        return Ok(not_bootstrapped().into_reply());
    }
    let large = view.regions.len() >= INLINE_REGIONS;
    let answer = move || read(&view, &request).unwrap_or_else(|answer| answer).into_reply();
    Ok(if large { cpu::run(answer).await } else { answer() })
}
