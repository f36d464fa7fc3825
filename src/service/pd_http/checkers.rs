//! PD's checkers, which can be paused for a while.
//!
//! A view of the cluster, or a request, comes **in**; PD's document, or a pause, goes **out**. **Never**: a pause of a
//! checker that PD does not have.

use serde::Serialize;

use super::answer::{Answer, Answered};
use super::request::{Request, mistyped};
use crate::pd::Checker;
use crate::pd::view::View;

#[derive(Serialize)]
struct Status {
    paused: bool,
}

fn named(request: &Request) -> Result<Checker, Answer> {
    let name = request.name(0);
    let found = Checker::ALL.into_iter().find(|checker| checker.name() == name);
    found.ok_or_else(|| Answer::error(500, "[PD:checker:ErrCheckerNotFound]checker not found"))
}

/// `GET /checker/NAME`
pub(super) fn one(view: &View, request: &Request) -> Answered {
    let checker = named(request)?;
    Ok(Answer::json(&Status { paused: view.paused_checkers.contains(&checker) }))
}

/// Returns the pause that `POST /checker/NAME` asks for, in milliseconds, and the answer when it is made. No time ends
/// a pause.
///
/// # Errors
/// Returns PD's answer to a request that is not in order.
pub(super) fn paused(request: &Request) -> Result<(Checker, u64, Answer), Answer> {
    let body = request.object_of("int")?;
    if let Some(wrong) = body.values().find(|value| !value.is_i64()) {
        return Err(mistyped(wrong, "int"));
    }
    let delay = body.get("delay").ok_or_else(|| Answer::error(400, "missing pause time"))?;
    let delay_s = u64::try_from(delay.as_i64().unwrap_or(0));
    let delay_s = delay_s.map_err(|_| Answer::error(400, "delay cannot be negative"))?;
    let checker = named(request)?;
    let done = if delay_s == 0 { "Resume the checker successfully." } else { "Pause the checker successfully." };
    Ok((checker, delay_s.saturating_mul(1000), Answer::done(done)))
}
