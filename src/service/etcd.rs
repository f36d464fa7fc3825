//! The part of etcd's service that TiKV's clients use on PD's port.
//!
//! PD embeds an etcd, so PD's port is also etcd's. Clients ask it for the members, and read the safe point of garbage
//! collection under the key where TiDB stores it. There is no etcd here: those two questions come **in**, and answers
//! from the placement driver's own state go **out**, in the form of an etcd that holds that one key, once there is a
//! safe point. **Never**: a missing key that readers would act on, or a write.

use bytes::Bytes;
use tonic::{Request, Response, Status};

use crate::proto::etcdserverpb::cluster_server::Cluster;
use crate::proto::etcdserverpb::kv_server::Kv;
use crate::proto::etcdserverpb::{
    KeyValue, Member, MemberListRequest, MemberListResponse, RangeRequest, RangeResponse, ResponseHeader,
};

use super::calls::Method;
use super::layer::observe::Observer;
use super::pd::{Members, Seat, outside, status};

/// The revision of an etcd that was never written to. It is constant here: the safe point changes without a new
/// revision.
pub(super) const REVISION: i64 = 1;

/// The key under which TiDB stores the safe point of garbage collection, as a decimal number.
const SAVED_SAFE_POINT: &[u8] = b"/tidb/store/gcworker/saved_safe_point";

/// The etcd services of a node. Clones share their state.
#[derive(Clone, Debug)]
pub struct EtcdService {
    seat: Seat,
    observer: Observer,
}

impl EtcdService {
    /// Creates the services of a node with this seat.
    pub fn new(seat: Seat, observer: Observer) -> EtcdService {
        EtcdService { seat, observer }
    }

    fn header(&self) -> ResponseHeader {
        let member_id = self.seat.member().map_or(0, |server| server.member_id());
        ResponseHeader { cluster_id: self.seat.cluster_id(), member_id, revision: REVISION, raft_term: 0 }
    }
}

/// Returns whether `key` is in the range that a request names.
fn holds(request: &RangeRequest, key: &[u8]) -> bool {
    match &request.range_end[..] {
        b"" => request.key == key,
        b"\0" => key >= &request.key[..],
        end => key >= &request.key[..] && key < end,
    }
}

/// Returns the answer of an etcd that holds the safe point, if there is one, and nothing else.
fn range(header: ResponseHeader, request: &RangeRequest, safe_point: u64) -> RangeResponse {
    let count = i64::from(safe_point > 0 && holds(request, SAVED_SAFE_POINT));
    let kvs = if count == 0 || request.count_only {
        Vec::new()
    } else {
        let value = if request.keys_only { Bytes::new() } else { safe_point.to_string().into() };
        let key = Bytes::from_static(SAVED_SAFE_POINT);
        vec![KeyValue { key, value, create_revision: REVISION, mod_revision: REVISION, version: 1, lease: 0 }]
    };
    RangeResponse { header: Some(header), kvs, more: false, count }
}

#[tonic::async_trait]
impl Kv for EtcdService {
    /// Only the leader's answer is certain to be current. On other nodes the call is UNAVAILABLE: etcd's clients try
    /// the next member.
    async fn range(&self, request: Request<RangeRequest>) -> Result<Response<RangeResponse>, Status> {
        let work = async {
            let safe_point = self.seat.server()?.gc_safe_point().await.map_err(status)?;
            Ok(range(self.header(), request.get_ref(), safe_point))
        };
        self.observer.call(Method::EtcdRange, work).await
    }
}

#[tonic::async_trait]
impl Cluster for EtcdService {
    /// The members are those that this node has heard of, also with `linearizable`: a client that uses a former member
    /// is sent to the others.
    async fn member_list(&self, _: Request<MemberListRequest>) -> Result<Response<MemberListResponse>, Status> {
        let work = async {
            let Members { members, .. } = match self.seat.member() {
                Some(server) => Members { members: server.members(), leader: None },
                None => outside(false, || self.seat.front.members()).await?,
            };
            let member = |member: crate::proto::pdpb::Member| Member {
                id: member.member_id,
                name: member.name,
                peer_urls: member.peer_urls,
                client_urls: member.client_urls,
                is_learner: false,
            };
            let members = members.into_iter().map(member).collect();
            Ok(MemberListResponse { header: Some(self.header()), members })
        };
        self.observer.call(Method::EtcdMemberList, work).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(key: &'static [u8], range_end: &'static [u8]) -> RangeRequest {
        RangeRequest { key: key.into(), range_end: range_end.into(), ..RangeRequest::default() }
    }

    #[test]
    fn there_is_a_safe_point_once_there_is_one() {
        let request = ask(SAVED_SAFE_POINT, b"");
        let none = range(ResponseHeader::default(), &request, 0);
        assert_eq!((none.kvs.len(), none.count), (0, 0));
        assert!(none.header.is_some());
        let some = range(ResponseHeader::default(), &request, 449_000);
        assert_eq!((some.kvs.len(), some.count), (1, 1));
        assert_eq!(some.kvs[0].value, "449000");
    }

    #[test]
    fn ranges_are_etcds() {
        for (key, end, inside) in [
            (SAVED_SAFE_POINT, &b""[..], true),
            (b"/tidb/", b"", false),
            (b"/tidb/", b"/tidb0", true),
            (b"/tidb/", b"\0", true),
            (b"/u", b"\0", false),
            (b"/tidb/", SAVED_SAFE_POINT, false),
            (b"\0", b"\0", true),
        ] {
            let answer = range(ResponseHeader::default(), &ask(key, end), 5);
            assert_eq!(answer.count == 1, inside, "{key:?} {end:?}");
        }
        let count = range(ResponseHeader::default(), &RangeRequest { count_only: true, ..ask(b"\0", b"\0") }, 5);
        assert_eq!((count.kvs.len(), count.count), (0, 1));
        let keys = range(ResponseHeader::default(), &RangeRequest { keys_only: true, ..ask(b"\0", b"\0") }, 5);
        assert_eq!((&keys.kvs[0].key[..], &keys.kvs[0].value[..]), (SAVED_SAFE_POINT, &b""[..]));
    }
}
