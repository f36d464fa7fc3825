//! The part of etcd's service that TiKV's clients use on PD's port.
//!
//! PD embeds an etcd, so PD's port is also etcd's. Clients ask it for the members, and read and write the safe point of
//! garbage collection under the key where TiDB stores it. There is no etcd here: those three requests come **in**, and
//! answers from the placement driver's own state go **out**, in the form of an etcd that holds that one key, once there
//! is a safe point. **Never**: a missing key that readers would act on, or a write that is not kept.

use bytes::Bytes;
use tonic::{Request, Response, Status};

use crate::proto::etcdserverpb::cluster_server::Cluster;
use crate::proto::etcdserverpb::kv_server::Kv;
use crate::proto::etcdserverpb::{
    KeyValue, Member, MemberListRequest, MemberListResponse, PutRequest, PutResponse, RangeRequest, RangeResponse,
    ResponseHeader,
};

use crate::pd::PdError;

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

    /// Returns the safe point, after moving it up to `to`, if there is one. Asks the leader: etcd's members pass writes
    /// on to theirs, so its clients send a write once, to any of them.
    async fn safe_point(&self, to: Option<u64>) -> Result<u64, Status> {
        if let Some(server) = self.seat.member() {
            let found = match to {
                None => server.gc_safe_point().await,
                Some(to) => server.update_gc_safe_point(to).await,
            };
            if !matches!(found, Err(PdError::NotLeader(_))) {
                return found.map_err(status);
            }
        }
        outside(false, || self.seat.front.safe_point(to)).await
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

/// Returns the safe point that a request writes.
fn written(request: &PutRequest) -> Result<u64, Status> {
    if request.key != SAVED_SAFE_POINT {
        return Err(Status::unimplemented(format!(
            "Put of etcdserverpb.KV: this placement driver keeps no keys for clients but {}",
            String::from_utf8_lossy(SAVED_SAFE_POINT)
        )));
    }
    if request.lease != 0 || request.prev_kv || request.ignore_value || request.ignore_lease {
        let why = "Put of etcdserverpb.KV: the safe point is written without a lease, and its value before is not told";
        return Err(Status::unimplemented(why));
    }
    std::str::from_utf8(&request.value)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| Status::invalid_argument(format!("the safe point is a decimal number, not {:?}", request.value)))
}

#[tonic::async_trait]
impl Kv for EtcdService {
    async fn range(&self, request: Request<RangeRequest>) -> Result<Response<RangeResponse>, Status> {
        let work = async {
            let safe_point = self.safe_point(None).await?;
            Ok(range(self.header(), request.get_ref(), safe_point))
        };
        self.observer.call(Method::EtcdRange, work).await
    }

    /// Moves the safe point up, as `pdpb.PD/UpdateGCSafePoint` does. One that is below stays where it is.
    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        let work = async {
            let to = written(request.get_ref())?;
            self.safe_point(Some(to)).await?;
            Ok(PutResponse { header: Some(self.header()), prev_kv: None })
        };
        self.observer.call(Method::EtcdPut, work).await
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
    fn only_safe_points_are_written() {
        let put = |key: &'static [u8], value: &'static str| PutRequest {
            key: key.into(),
            value: value.into(),
            ..PutRequest::default()
        };
        assert_eq!(written(&put(SAVED_SAFE_POINT, "449000")).unwrap(), 449_000);
        let refusal = |request| written(&request).unwrap_err();
        let message = refusal(put(b"/tidb/server/info", "1")).message().to_owned();
        assert!(message.contains("saved_safe_point"), "{message}");
        for value in ["", "-1", "0x10", "18446744073709551616"] {
            assert_eq!(refusal(put(SAVED_SAFE_POINT, value)).code(), tonic::Code::InvalidArgument, "{value}");
        }
        let leased = PutRequest { lease: 7, ..put(SAVED_SAFE_POINT, "5") };
        assert_eq!(refusal(leased).code(), tonic::Code::Unimplemented);
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
