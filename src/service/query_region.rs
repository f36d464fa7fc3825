//! The stream of region lookups: one response for each request, in order.
//!
//! The newest clients look up regions only by this stream, and have one request in progress at a time. A missing or
//! misplaced response would block every later lookup of that client.

use std::future::Future;

use futures::stream::{self, Stream, StreamExt};
use tonic::Status;

use crate::pd::RegionInfo;
use crate::pd::batch::Queried;
use crate::proto::pdpb::{QueryRegionResponse, RegionResponse, ResponseHeader};

/// Returns the responses to `requests`, each by `ask`. The stream ends after the first error of either side.
pub(super) fn answers<Q, In, Ask, Fut>(
    requests: In,
    ask: Ask,
) -> impl Stream<Item = Result<QueryRegionResponse, Status>> + Send + 'static
where
    Q: Send + 'static,
    In: Stream<Item = Result<Q, Status>> + Unpin + Send + 'static,
    Ask: Fn(Q) -> Fut + Send + 'static,
    Fut: Future<Output = Result<QueryRegionResponse, Status>> + Send,
{
    stream::unfold(Some((requests, ask)), |state| async move {
        let (mut requests, ask) = state?;
        let answer = match requests.next().await? {
            Ok(request) => ask(request).await,
            Err(status) => Err(status),
        };
        let next = answer.is_ok().then_some((requests, ask));
        Some((answer, next))
    })
}

/// Returns the response in the form that clients read: one entry for each key, and each region once.
pub(super) fn response(header: ResponseHeader, found: Queried) -> QueryRegionResponse {
    let region = |info: RegionInfo| RegionResponse {
        region: Some(info.region),
        leader: info.leader,
        down_peers: info.down,
        pending_peers: vec![],
    };
    QueryRegionResponse {
        header: Some(header),
        key_id_map: found.of_keys,
        prev_key_id_map: found.of_prev_keys,
        regions_by_id: found.regions.into_iter().map(|(id, info)| (id, region(info))).collect(),
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a client never waits forever, and gets no response twice. Method: streams whose requests are all there
    //! already.

    use std::future::ready;

    use futures::FutureExt;

    use super::*;
    use crate::types::Region;

    fn run(requests: Vec<Result<u64, Status>>) -> Vec<Result<u64, Status>> {
        let ask = |id| {
            let header = ResponseHeader { cluster_id: id, error: None };
            ready(if id == 9 {
                Err(Status::unavailable("not leader"))
            } else {
                Ok(response(header, Queried::default()))
            })
        };
        let all = answers(stream::iter(requests), ask).collect::<Vec<_>>().now_or_never().expect("nothing waits");
        all.into_iter().map(|answer| answer.map(|answer| answer.header.unwrap().cluster_id)).collect()
    }

    #[test]
    fn every_request_is_answered_in_order_also_an_empty_one() {
        let got: Vec<u64> = run(vec![Ok(3), Ok(1), Ok(2)]).into_iter().map(Result::unwrap).collect();
        assert_eq!(got, [3, 1, 2]);
        assert!(run(vec![]).is_empty());
    }

    #[test]
    fn an_error_is_the_last_answer() {
        let got = run(vec![Ok(1), Ok(9), Ok(2)]);
        assert_eq!(got.len(), 2);
        assert_eq!(got[1].as_ref().unwrap_err().code(), tonic::Code::Unavailable);
        let got = run(vec![Ok(1), Err(Status::cancelled("gone")), Ok(2)]);
        assert_eq!(got.len(), 2);
        assert_eq!(got[1].as_ref().unwrap_err().code(), tonic::Code::Cancelled);
    }

    #[test]
    fn a_key_without_a_region_has_its_entry() {
        let region = Region { id: 4, ..Region::default() };
        let info = RegionInfo { region: region.clone(), ..RegionInfo::default() };
        let found = Queried { of_keys: vec![4, 0, 4], of_prev_keys: vec![0], regions: [(4, info)].into() };
        let response = response(ResponseHeader::default(), found);
        assert_eq!(response.key_id_map, [4, 0, 4]);
        assert_eq!(response.prev_key_id_map, [0]);
        assert_eq!(response.regions_by_id[&4].region, Some(region));
    }
}
