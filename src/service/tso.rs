//! The timestamp stream: requests that wait together are granted together, and answered one by one.

use std::collections::VecDeque;
use std::future::Future;

use futures::FutureExt;
use futures::stream::{self, Stream, StreamExt};
use tonic::Status;

use crate::proto::pdpb::{Timestamp as Wire, TsoRequest, TsoResponse};
use crate::types::Timestamp;
use crate::types::limits::TSO_COUNT_MAX;

/// Splits a grant of `counts.iter().sum()` timestamps, the largest of which is `last`. Returns the largest timestamp of
/// each request's share, in order.
fn shares(last: Timestamp, counts: &[u32]) -> impl Iterator<Item = Timestamp> {
    let total: u64 = counts.iter().map(|count| u64::from(*count)).sum();
    // All shares come from the counter of one millisecond. A grant that overlaps the previous millisecond would repeat
    // timestamps.
    assert!(total <= last.logical() + 1, "a grant of {total} timestamps ends at counter {}", last.logical());
    let before_first = last.0.wrapping_sub(total);
    counts.iter().scan(before_first, |at, count| {
        *at = at.wrapping_add(u64::from(*count));
        Some(Timestamp(*at))
    })
}

/// Returns `timestamp` in the form that clients read.
fn wire(timestamp: Timestamp) -> Wire {
    Wire { physical: timestamp.physical_ms() as i64, logical: timestamp.logical() as i64, suffix_bits: 0 }
}

struct State<In, Check, Grant> {
    inbound: In,
    check: Check,
    grant: Grant,
    /// A request that was read and did not fit into the last grant.
    held: Option<TsoRequest>,
    /// Responses to send and, at the very end, the error that ends the stream.
    out: VecDeque<Result<TsoResponse, Status>>,
    ended: bool,
}

/// Returns the responses to a stream of timestamp requests. `check` validates a request; `grant` returns the largest of
/// the given number of timestamps.
pub(super) fn answer<In, Check, Grant, Fut>(
    inbound: In,
    header: crate::proto::pdpb::ResponseHeader,
    check: Check,
    grant: Grant,
) -> impl Stream<Item = Result<TsoResponse, Status>> + Send + 'static
where
    In: Stream<Item = Result<TsoRequest, Status>> + Unpin + Send + 'static,
    Check: Fn(&TsoRequest) -> Result<(), Status> + Send + 'static,
    Grant: Fn(u32) -> Fut + Send + 'static,
    Fut: Future<Output = Result<Timestamp, Status>> + Send,
{
    let state = State { inbound, check, grant, held: None, out: VecDeque::new(), ended: false };
    stream::unfold((state, header), |(mut state, header)| async move {
        loop {
            if let Some(answer) = state.out.pop_front() {
                return Some((answer, (state, header)));
            }
            if state.ended {
                return None;
            }
            let (counts, broken) = gather(&mut state).await;
            if !counts.is_empty() {
                match (state.grant)(counts.iter().sum()).await {
                    Ok(last) => state.out.extend(counts.iter().zip(shares(last, &counts)).map(|(count, share)| {
                        Ok(TsoResponse { header: Some(header.clone()), count: *count, timestamp: Some(wire(share)) })
                    })),
                    Err(status) => {
                        state.ended = true;
                        state.out.push_back(Err(status));
                        continue;
                    }
                }
            }
            if let Some(status) = broken {
                state.ended = true;
                state.out.push_back(Err(status));
            }
        }
    })
}

/// Returns the counts of the next request and of those that wait behind it, and the error that ends the stream after
/// them.
async fn gather<In, Check, Grant>(state: &mut State<In, Check, Grant>) -> (Vec<u32>, Option<Status>)
where
    In: Stream<Item = Result<TsoRequest, Status>> + Unpin,
    Check: Fn(&TsoRequest) -> Result<(), Status>,
{
    let mut counts: Vec<u32> = Vec::new();
    let mut total = 0;
    let mut next = match state.held.take() {
        Some(request) => Some(Ok(request)),
        None => state.inbound.next().await,
    };
    loop {
        let request = match next {
            None => {
                state.ended = true;
                return (counts, None);
            }
            Some(Err(status)) => return (counts, Some(status)),
            Some(Ok(request)) => request,
        };
        if let Err(status) = (state.check)(&request) {
            return (counts, Some(status));
        }
        if request.count == 0 {
            // PD's own message.
            return (counts, Some(Status::unknown("generate timestamp failed, tso count should be positive")));
        }
        if request.count > TSO_COUNT_MAX {
            let why = format!("requested {} timestamps; a request may ask for 1 to {TSO_COUNT_MAX}", request.count);
            return (counts, Some(Status::invalid_argument(why)));
        }
        if total + request.count > TSO_COUNT_MAX {
            state.held = Some(request);
            return (counts, None);
        }
        counts.push(request.count);
        total += request.count;
        match state.inbound.next().now_or_never() {
            Some(more) => next = more,
            None => return (counts, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::proto::pdpb::ResponseHeader;

    #[test]
    fn shares_are_cut_in_order() {
        let last = Timestamp::new(7, 9);
        let got: Vec<u64> = shares(last, &[1, 4, 2]).map(Timestamp::logical).collect();
        assert_eq!(got, [3, 7, 9]);
        assert_eq!(shares(Timestamp::new(7, 2), &[3]).next(), Some(Timestamp::new(7, 2)));
    }

    #[test]
    #[should_panic(expected = "a grant of 4 timestamps")]
    fn a_grant_over_a_millisecond_is_refused() {
        let _ = shares(Timestamp::new(7, 2), &[4]).count();
    }

    /// Runs requests with these counts, all waiting. Returns the grants, the responses as (count, logical), and the
    /// error.
    fn run(counts: &[u32]) -> (Vec<u32>, Vec<(u32, i64)>, Option<Status>) {
        let requests: Vec<_> = counts.iter().map(|&count| Ok(TsoRequest { count, ..TsoRequest::default() })).collect();
        let grants = Arc::new(Mutex::new(Vec::new()));
        let seen = grants.clone();
        let answers = answer(
            stream::iter(requests),
            ResponseHeader::default(),
            |_| Ok(()),
            move |count| {
                let mut seen = seen.lock().unwrap();
                seen.push(count);
                let last: u32 = seen.iter().sum();
                async move { Ok(Timestamp::new(1, u64::from(last - 1))) }
            },
        );
        let all: Vec<_> = answers.collect().now_or_never().expect("nothing waits");
        let failed = all.last().and_then(|last| last.as_ref().err().cloned());
        let got = all.into_iter().flatten().map(|answer| (answer.count, answer.timestamp.unwrap().logical)).collect();
        (grants.lock().unwrap().clone(), got, failed)
    }

    #[test]
    fn waiting_requests_are_granted_together_and_answered_one_by_one() {
        let (grants, answers, failed) = run(&[1, 4, 2]);
        assert_eq!(grants, [7]);
        assert_eq!(answers, [(1, 0), (4, 4), (2, 6)]);
        assert!(failed.is_none());
    }

    #[test]
    fn a_wrong_count_ends_the_stream_after_the_answers_before_it() {
        for (wrong, code) in [(0, tonic::Code::Unknown), (TSO_COUNT_MAX + 1, tonic::Code::InvalidArgument)] {
            let (_, answers, failed) = run(&[2, wrong, 1]);
            assert_eq!(answers, [(2, 1)]);
            assert_eq!(failed.unwrap().code(), code);
        }
    }

    #[test]
    fn one_grant_is_bounded() {
        let half = TSO_COUNT_MAX / 2;
        let (grants, answers, failed) = run(&[half, 1, half, TSO_COUNT_MAX]);
        assert_eq!(grants, [half + 1, half, TSO_COUNT_MAX]);
        assert_eq!(answers.len(), 4);
        assert!(failed.is_none());
    }
}
