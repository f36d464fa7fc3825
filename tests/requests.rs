//! Tests of requests as real clients send them, over the real transport: many keys, large values, compressed, cancelled
//! by the hundred.
//!
//! **Goal**: requests that TiKV accepts are accepted, and requests that are too large get the protocol's own error,
//! whichever layer detects them first; no request costs its connection or a stream's other commands. **Method**: one
//! real process, and the wire without a client. Each test was reported by a client.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests of the real world")]

mod common;

use std::time::Duration;

use armilla::proto::health::HealthCheckRequest;
use armilla::proto::health::health_client::HealthClient;
use armilla::proto::kvrpcpb::{
    Context, KvPair, RawBatchDeleteRequest, RawBatchGetRequest, RawBatchPutRequest, RawCasRequest, RawGetRequest,
    RawPutRequest, RawScanRequest,
};
use armilla::proto::pdpb::GetMembersRequest;
use armilla::proto::pdpb::pd_client::PdClient;
use armilla::proto::tikvpb::tikv_client::TikvClient;
use armilla::proto::tikvpb::{
    BatchCommandsRequest, batch_commands_request as request, batch_commands_response as response,
};
use bytes::Bytes;
use common::{Cluster, Wire};
use request::request::Cmd as In;
use response::response::Cmd as Out;
use tonic::codec::CompressionEncoding;
use tonic::transport::Channel;

/// Size limit of requests and replies in these tests, in bytes.
const ANY: usize = 1 << 30;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

/// Returns a client of the store that leads the region of `k…`, and the context of its requests.
async fn place(cluster: &Cluster) -> (TikvClient<Channel>, Option<Context>) {
    let wire = Wire::new(cluster.addrs());
    let (context, addr) = wire.context_for(b"k").await.expect("a place");
    let client = TikvClient::new(wire.channel(&addr)).max_decoding_message_size(ANY).max_encoding_message_size(ANY);
    (client, Some(context))
}

/// Returns a value that compresses badly.
fn noise(bytes: usize) -> Bytes {
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    (0..bytes).map(|_| next()).collect()
}

#[test]
fn only_bytes_bound_a_request() {
    let mut cluster = Cluster::start(1, &[]);
    runtime().block_on(async {
        let (mut client, context) = place(&cluster).await;
        let keys: Vec<Bytes> = (0..99_000).map(|n| Bytes::from(format!("k{n:05}"))).collect();
        let pair = |key: &Bytes| KvPair { key: key.clone(), value: Bytes::from_static(b"v"), ..Default::default() };
        let pairs = keys.iter().map(pair).collect();
        let request = RawBatchPutRequest { context: context.clone(), pairs, ..Default::default() };
        let reply = client.raw_batch_put(request).await.expect("a reply").into_inner();
        assert!(reply.error.is_empty() && reply.region_error.is_none(), "{reply:?}");
        let request = RawBatchGetRequest { context: context.clone(), keys: keys.clone(), ..Default::default() };
        let pairs = client.raw_batch_get(request).await.expect("a reply").into_inner().pairs;
        assert!(pairs.len() == keys.len() && pairs.iter().zip(&keys).all(|(pair, key)| pair.key == key));
        let request = RawScanRequest {
            context: context.clone(),
            start_key: "k".into(),
            end_key: "l".into(),
            limit: u32::MAX,
            ..Default::default()
        };
        assert_eq!(client.raw_scan(request).await.expect("a reply").into_inner().kvs.len(), keys.len());
        let request = RawBatchDeleteRequest { context, keys, ..Default::default() };
        let reply = client.raw_batch_delete(request).await.expect("a reply").into_inner();
        assert!(reply.error.is_empty() && reply.region_error.is_none(), "{reply:?}");
    });
    cluster.assert_alive();
}

#[test]
fn what_is_too_large_is_told_in_the_protocols_words() {
    const MIB: usize = 1 << 20;
    let mut cluster = Cluster::start(1, &[]);
    runtime().block_on(async {
        let (mut client, context) = place(&cluster).await;
        let put =
            |value: Bytes| RawPutRequest { context: context.clone(), key: "k".into(), value, ..Default::default() };
        let get = || RawGetRequest { context: context.clone(), key: "k".into(), ..Default::default() };
        let region = context.as_ref().expect("just made").region_id;
        for size in [8 * MIB, 9 * MIB, 16 * MIB - 100, 16 * MIB, 17 * MIB, 33 * MIB, 64 * MIB, 80 * MIB] {
            let value = Bytes::from(vec![b'v'; size]);
            let reply = client.raw_put(put(value.clone())).await.expect("a reply").into_inner();
            let error = reply.region_error.unwrap_or_else(|| panic!("{size}: {}", reply.error));
            let error = error.raft_entry_too_large.unwrap_or_else(|| panic!("{size}: {}", error.message));
            assert!(error.region_id == region && error.entry_size >= size as u64, "{size}: {error:?}");
            let swap =
                RawCasRequest { context: context.clone(), key: "k".into(), value: value.clone(), ..Default::default() };
            let reply = client.raw_compare_and_swap(swap).await.expect("a reply").into_inner();
            assert!(reply.region_error.expect("refused").raft_entry_too_large.is_some() && !reply.outcome_unknown);

            // In a stream only the command itself is refused, not the others or the stream.
            let command = |cmd| request::Request { cmd: Some(cmd) };
            let long = || command(In::RawPut(put(value.clone()).into()));
            let small = || command(In::RawPut(put(Bytes::from_static(b"small")).into()));
            let (send, receive) = tokio::sync::mpsc::channel(4);
            let requests = vec![small(), long(), long(), command(In::RawGet(get().into()))];
            send.send(BatchCommandsRequest { requests, request_ids: vec![1, 2, 3, 4] }).await.expect("open");
            let inbound = tokio_stream::wrappers::ReceiverStream::new(receive);
            let mut answers = client.batch_commands(inbound).await.expect("a stream").into_inner();
            let mut got = std::collections::BTreeMap::new();
            for round in [4, 5] {
                while got.len() < round {
                    let message = answers.message().await.expect("the stream lives").expect("it goes on");
                    got.extend(message.request_ids.into_iter().zip(message.responses));
                }
                let request_ids = vec![5];
                send.send(BatchCommandsRequest { requests: vec![small()], request_ids }).await.expect("open");
            }
            for id in [1, 5] {
                let Some(Out::RawPut(reply)) = &got[&id].cmd else { panic!("{size}, {id}: {:?}", got[&id]) };
                assert!(reply.error.is_empty() && reply.region_error.is_none(), "{size}, {id}: {reply:?}");
            }
            for id in [2, 3] {
                let Some(Out::RawPut(reply)) = &got[&id].cmd else { panic!("{size}, {id}: {:?}", got[&id]) };
                let error = reply.region_error.as_ref().and_then(|error| error.raft_entry_too_large.as_ref());
                let error = error.unwrap_or_else(|| panic!("{size}, {id}: {reply:?}"));
                assert!(error.region_id == region && error.entry_size >= size as u64, "{size}: {error:?}");
            }
            assert!(matches!(&got[&4].cmd, Some(Out::RawGet(_))), "{:?}", got[&4]);
        }
        assert_eq!(client.raw_get(get()).await.expect("a reply").into_inner().value, "small");
        // A read that is too long creates no entry, so the reply's own error reports it.
        let keys = vec![Bytes::from(vec![b'k'; MIB]); 17];
        let request = RawBatchGetRequest { context: context.clone(), keys, ..Default::default() };
        let pairs = client.raw_batch_get(request).await.expect("a reply").into_inner().pairs;
        let error = pairs[0].error.as_ref().expect("an error");
        assert!(pairs.len() == 1 && error.abort.contains("over the limit"), "{error:?}");
    });
    cluster.assert_alive();
}

#[test]
fn requests_may_be_compressed() {
    let mut cluster = Cluster::start(1, &[]);
    runtime().block_on(async {
        let (client, context) = place(&cluster).await;
        let put =
            |value: Bytes| RawPutRequest { context: context.clone(), key: "k".into(), value, ..Default::default() };
        for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Deflate] {
            let mut client = client.clone().send_compressed(encoding);
            for value in [Bytes::from(vec![b'v'; 10_000]), noise(5 << 20)] {
                let reply = client.raw_put(put(value.clone())).await.expect("a reply").into_inner();
                assert!(reply.error.is_empty() && reply.region_error.is_none(), "{reply:?}");
                let get = RawGetRequest { context: context.clone(), key: "k".into(), ..Default::default() };
                assert_eq!(client.raw_get(get).await.expect("a reply").into_inner().value, value);
            }
            // A small message may decompress to a large one.
            for size in [20 << 20, 64 << 20] {
                let reply = client.raw_put(put(Bytes::from(vec![0; size]))).await.expect("a reply").into_inner();
                let error = reply.region_error.unwrap_or_else(|| panic!("{size}: {}", reply.error));
                assert!(error.raft_entry_too_large.is_some(), "{size}: {}", error.message);
            }
            let small = request::Request { cmd: Some(In::RawPut(put(Bytes::from_static(b"small")).into())) };
            let large = request::Request { cmd: Some(In::RawPut(put(Bytes::from(vec![0; 64 << 20])).into())) };
            let message = BatchCommandsRequest { requests: vec![small, large], request_ids: vec![1, 2] };
            let mut answers =
                client.batch_commands(tokio_stream::iter([message])).await.expect("a stream").into_inner();
            let mut failed = std::collections::BTreeMap::new();
            while let Some(message) = answers.message().await.expect("the stream lives") {
                for (id, reply) in message.request_ids.into_iter().zip(message.responses) {
                    let Some(Out::RawPut(reply)) = reply.cmd else { panic!("{reply:?}") };
                    failed.insert(id, reply.region_error.is_some_and(|error| error.raft_entry_too_large.is_some()));
                }
            }
            assert_eq!(failed.into_values().collect::<Vec<_>>(), [false, true]);
            let wire = Wire::new(cluster.addrs());
            let mut pd = PdClient::new(wire.channel(cluster.addr(0))).send_compressed(encoding);
            assert!(pd.get_members(GetMembersRequest::default()).await.is_ok());
        }
    });
    cluster.assert_alive();
}

#[test]
fn calls_given_up_by_the_hundred_do_not_cost_their_connection() {
    let mut cluster = Cluster::start(1, &[]);
    runtime().block_on(async {
        let (mut client, context) = place(&cluster).await;
        let pair =
            |n: usize| KvPair { key: format!("k{n:05}").into(), value: vec![0; 200].into(), ..Default::default() };
        let pairs = (0..8000).map(pair).collect();
        let request = RawBatchPutRequest { context: context.clone(), pairs, ..Default::default() };
        client.raw_batch_put(request).await.expect("a reply");
        let scan = RawScanRequest {
            context: context.clone(),
            start_key: "k".into(),
            end_key: "l".into(),
            limit: 8000,
            ..Default::default()
        };
        for round in 0..30 {
            let given_up: Vec<_> = (0..400)
                .map(|_| {
                    let (mut client, scan) = (client.clone(), scan.clone());
                    tokio::spawn(async move { client.raw_scan(scan).await })
                })
                .collect();
            let put = RawPutRequest { context: context.clone(), key: "other".into(), ..Default::default() };
            let mut other = client.clone();
            let beside = tokio::spawn(async move { other.raw_put(put).await });
            tokio::time::sleep(Duration::from_millis(round % 6)).await;
            given_up.iter().for_each(tokio::task::JoinHandle::abort);
            let reply = beside.await.expect("no panic");
            assert!(reply.is_ok(), "round {round}: {reply:?}");
        }
    });
    cluster.assert_alive();
}

#[test]
fn what_is_not_built_and_what_is_well_is_said() {
    let mut cluster = Cluster::start(1, &[]);
    runtime().block_on(async {
        let wire = Wire::new(cluster.addrs());
        let channel = wire.channel(cluster.addr(0));
        for (path, want) in [
            ("/tikvpb.Tikv/KvGC", "KvGC"),
            ("/tikvpb.Tikv/KvFlashbackToVersion", "KvFlashbackToVersion"),
            ("/pdpb.PD/NoSuchCall", "NoSuchCall"),
            ("/armilla.pd.Cluster/NoSuchCall", "NoSuchCall"),
            ("/grpc.health.v1.Health/NoSuchCall", "NoSuchCall"),
            ("/nothing.Here/Get", "nothing.Here"),
        ] {
            let mut grpc = tonic::client::Grpc::new(channel.clone());
            grpc.ready().await.expect("a connection");
            let codec = tonic_prost::ProstCodec::<HealthCheckRequest, HealthCheckRequest>::default();
            let path = http::uri::PathAndQuery::from_static(path);
            let status = grpc.unary(tonic::Request::new(HealthCheckRequest::default()), path, codec).await.unwrap_err();
            assert_eq!(status.code(), tonic::Code::Unimplemented);
            assert!(status.message().contains(want), "{status:?}");
        }
        let reply = HealthClient::new(channel).check(HealthCheckRequest::default()).await.expect("a reply");
        assert_eq!(reply.into_inner().status, 1, "SERVING");
    });
    cluster.assert_alive();
}
