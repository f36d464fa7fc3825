//! Tests that wrong flags, directories and requests are refused with clear errors, against real processes.
//!
//! **Goal**: the error for a mistyped name suggests the right one; a data directory is never used by the wrong cluster;
//! a bad request gets the protocol's error and has no other cost for its sender. **Method**: the binary itself, and the
//! wire.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests of the real world")]

mod common;

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use armilla::proto::kvrpcpb::{
    KeyRange, KvPair, RawBatchPutRequest, RawCoprocessorRequest, RawGetRequest, RawPutRequest, RawScanRequest,
};
use armilla::proto::tikvpb::tikv_client::TikvClient;
use armilla::types::limits;
use bytes::Bytes;
use common::{Cluster, Outcome, Wire, binary, free_port, node_command, run};
use tonic::Code;

const LIMIT: Duration = Duration::from_secs(20);

fn armilla(args: &[&str]) -> common::Finished {
    let mut command = Command::new(binary());
    command.args(args);
    run(command, LIMIT)
}

/// Starts a node that should refuse to start, and returns its output.
fn refused_start(data: &std::path::Path, addr: &str) -> String {
    let finished = run(node_command("n1", data, addr, &format!("n1={addr}")), LIMIT);
    assert!(matches!(finished.code, Some(code) if code != 0), "it should refuse to start: {finished:?}");
    assert!(!finished.text.contains("panicked at"), "a refusal is a sentence, not a panic: {}", finished.text);
    finished.text
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

#[test]
fn unknown_flags_name_the_nearest() {
    for (args, meant) in [
        (&["start", "--nmae", "n1"][..], "--name"),
        (&["up", "--node", "3"], "--nodes"),
        (&["bench", "--cleints", "3"], "--clients"),
    ] {
        let finished = armilla(args);
        assert!(matches!(finished.code, Some(code) if code != 0), "{finished:?}");
        assert!(finished.text.contains(meant), "`{}` should name `{meant}`:\n{}", args.join(" "), finished.text);
    }
    let finished = armilla(&["strat"]);
    assert!(finished.code != Some(0) && finished.text.contains("start"), "{finished:?}");
}

#[test]
fn unknown_config_keys_name_the_nearest() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = dir.path().join("node.toml");
    std::fs::write(&file, "nmae = \"n1\"\n").expect("a file");
    let finished = armilla(&["start", "--config", file.to_str().expect("text")]);
    assert!(matches!(finished.code, Some(code) if code != 0), "{finished:?}");
    assert!(finished.text.contains("nmae") && finished.text.contains("name"), "{}", finished.text);
}

#[test]
fn a_taken_port_says_so() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let holder = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = holder.local_addr().expect("bound").to_string();
    let text = refused_start(&dir.path().join("n1"), &addr);
    assert!(text.contains(&addr) || text.contains(addr.rsplit(':').next().expect("a port")), "{text}");
}

#[test]
fn a_read_only_directory_says_so() {
    // Nobody can write below /proc, not even root.
    let text = refused_start(std::path::Path::new("/proc/armilla-test/n1"), &format!("127.0.0.1:{}", free_port()));
    assert!(text.contains("/proc/armilla-test"), "it should name the folder: {text}");
}

#[test]
fn the_data_of_another_cluster_is_refused_with_both_ids() {
    let mut one = Cluster::start(3, &[]);
    let mut other = Cluster::start(3, &[]);
    let runtime = runtime();
    let id = |cluster: &Cluster| {
        let wire = Wire::new(cluster.addrs());
        let reply = runtime.block_on(wire.ask_pd(|mut client, _| async move {
            client.get_members(armilla::proto::pdpb::GetMembersRequest::default()).await
        }));
        reply.expect("members").header.expect("a header").cluster_id
    };
    let (one_id, other_id) = (id(&one), id(&other));
    assert!(one_id != 0 && other_id != 0 && one_id != other_id, "{one_id} {other_id}");
    // The second cluster's data, used as the first cluster's third node.
    one.kill(2);
    other.kill(2);
    let finished = run(node_command("n3", other.data(2), one.addr(2), one.initial_cluster()), LIMIT);
    assert!(matches!(finished.code, Some(code) if code != 0), "it should refuse: {finished:?}");
    for id in [one_id, other_id] {
        assert!(finished.text.contains(&id.to_string()), "it should name cluster {id}: {}", finished.text);
    }
    // The first cluster is unharmed.
    one.restart(2);
    one.wait_ready();
}

#[test]
fn what_a_node_waits_for_is_said_and_health_says_when_it_serves() {
    let mut cluster = Cluster::start(1, &[]);
    let (head, _) = http_get(cluster.addr(0), "/healthz");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    // A node that joins through an address without a node.
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (nobody, addr) = (format!("127.0.0.1:{}", free_port()), format!("127.0.0.1:{}", free_port()));
    let joining = |join: &str| {
        let mut command = Command::new(binary());
        command.args(["start", "--name", "n9", "--addr", &addr, "--join", join]);
        command.arg("--data").arg(dir.path().join("n9"));
        command
    };
    let finished = run(joining(&nobody), Duration::from_secs(4));
    assert_eq!(finished.code, None, "it waits: {finished:?}");
    assert!(finished.text.contains("to join") && finished.text.contains(&nobody), "{}", finished.text);
    let finished = run(joining(&addr), LIMIT);
    assert!(finished.code == Some(2) && finished.text.contains("own address"), "{finished:?}");
    // A node's name must match its directory.
    assert_eq!(cluster.terminate(0), Some(0), "{}", cluster.log(0));
    let addr = cluster.addr(0);
    let finished = run(node_command("n2", cluster.data(0), addr, &format!("n2={addr}")), LIMIT);
    assert!(finished.code == Some(2) && ["`n1`", "`n2`"].iter().all(|n| finished.text.contains(n)), "{finished:?}");
}

#[test]
fn up_says_where_its_nodes_can_be() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let data = dir.path().to_str().expect("text");
    let finished = armilla(&["up", "--data", data, "--host", "0.0.0.0"]);
    assert!(finished.code == Some(2) && finished.text.contains("armilla start"), "{finished:?}");
    std::fs::write(dir.path().join("up.toml"), "nodes = 3\nhost = \"localhost\"\nbase_port = 5000\n").expect("a file");
    let finished = armilla(&["up", "--data", data, "--base-port", "6000"]);
    assert!(finished.code == Some(2), "{finished:?}");
    assert!(finished.text.contains("--host localhost --base-port 5000"), "{}", finished.text);
}

#[test]
fn a_newer_format_is_refused() {
    let mut cluster = Cluster::start(1, &[]);
    let data = cluster.data(0).to_owned();
    assert_eq!(cluster.terminate(0), Some(0), "{}", cluster.log(0));
    // The identity file contains the directory's format; a later version would write a larger number.
    let identity = find_identity(&data);
    let text = std::fs::read_to_string(&identity).expect("the identity is text");
    let newer: String = text
        .lines()
        .map(|line| if line.contains("format") { line.replace('1', "999") + "\n" } else { line.to_owned() + "\n" })
        .collect();
    assert_ne!(text, newer, "no line names the format:\n{text}");
    std::fs::write(&identity, newer).expect("writable");
    let said = refused_start(&data, cluster.addr(0));
    assert!(said.contains("999"), "it should name the format it found: {said}");
}

/// Returns the file in a data directory that contains its cluster and format.
fn find_identity(data: &std::path::Path) -> std::path::PathBuf {
    let mut files: Vec<_> =
        std::fs::read_dir(data).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files
        .into_iter()
        .find(|path| path.is_file() && std::fs::read_to_string(path).is_ok_and(|text| text.contains("format")))
        .expect("a file that names the format")
}

#[test]
fn bad_requests_get_the_protocols_error_and_leave_the_connection_usable() {
    let mut cluster = Cluster::start(3, &[]);
    let wire = Wire::new(cluster.addrs());
    runtime().block_on(async {
        let (context, addr) = wire.context_for(b"k").await.expect("a place");
        let mut client = TikvClient::new(wire.channel(&addr));
        let context = Some(context);

        // A key of the maximum length is accepted; one more byte is not.
        let put = |key: Vec<u8>, value: Vec<u8>| RawPutRequest {
            context: context.clone(),
            key: Bytes::from(key),
            value: Bytes::from(value),
            ..Default::default()
        };
        let reply =
            client.raw_put(put(vec![b'k'; limits::KEY_BYTES_MAX], vec![1])).await.expect("a reply").into_inner();
        assert!(reply.error.is_empty() && reply.region_error.is_none(), "{reply:?}");
        let reply =
            client.raw_put(put(vec![b'k'; limits::KEY_BYTES_MAX + 1], vec![1])).await.expect("a reply").into_inner();
        assert!(reply.error.contains("key"), "{reply:?}");

        // A value larger than the maximum raft entry.
        let reply = client
            .raw_put(put(b"k".to_vec(), vec![7; limits::ENTRY_BYTES_MAX + 1]))
            .await
            .expect("a reply")
            .into_inner();
        let error = reply.region_error.expect("a region error");
        assert!(error.raft_entry_too_large.is_some(), "{error:?}");

        let pair = |n: usize| KvPair {
            key: Bytes::from(format!("k{n}")),
            value: Bytes::from_static(b"v"),
            ..Default::default()
        };
        // No pairs at all.
        let request = RawBatchPutRequest { context: context.clone(), ..Default::default() };
        let reply = client.raw_batch_put(request).await.expect("a reply").into_inner();
        assert!(reply.error.contains("empty"), "{reply:?}");

        // There must be as many ttls as pairs, or one, or none.
        let request = RawBatchPutRequest {
            context: context.clone(),
            pairs: (0..3).map(pair).collect(),
            ttls: vec![1, 2],
            ..Default::default()
        };
        let reply = client.raw_batch_put(request).await.expect("a reply").into_inner();
        assert!(!reply.error.is_empty(), "{reply:?}");

        // A column family that does not exist.
        let request = RawGetRequest { context: context.clone(), key: Bytes::from_static(b"k"), cf: "attic".into() };
        let reply = client.raw_get(request).await.expect("a reply").into_inner();
        assert!(reply.error.contains("attic"), "{reply:?}");

        // Another store, an old epoch, a key of another region, no context at all.
        let mut elsewhere = put(b"k".to_vec(), b"v".to_vec());
        if let Some(peer) = elsewhere.context.as_mut().and_then(|context| context.peer.as_mut()) {
            peer.store_id += 1000;
        }
        let error =
            client.raw_put(elsewhere).await.expect("a reply").into_inner().region_error.expect("a region error");
        assert!(error.store_not_match.is_some(), "{error:?}");
        let mut old = put(b"k".to_vec(), b"v".to_vec());
        if let Some(epoch) = old.context.as_mut().and_then(|context| context.region_epoch.as_mut()) {
            epoch.version += 7;
        }
        let error = client.raw_put(old).await.expect("a reply").into_inner().region_error.expect("a region error");
        assert!(error.epoch_not_match.is_some_and(|e| !e.current_regions.is_empty()), "no current region");
        let outside = put(vec![0xff; 12], b"v".to_vec());
        let error = client.raw_put(outside).await.expect("a reply").into_inner().region_error.expect("a region error");
        assert!(error.key_not_in_region.is_some(), "{error:?}");
        let bare = RawGetRequest { key: Bytes::from_static(b"k"), ..Default::default() };
        match client.raw_get(bare).await {
            Ok(reply) => assert!(reply.into_inner().region_error.is_some(), "a request for no region cannot be served"),
            Err(status) => assert_eq!(status.code(), Code::InvalidArgument, "{status}"),
        }

        // A peer of another incarnation, and no peer.
        let mut stale = put(b"k".to_vec(), b"v".to_vec());
        if let Some(peer) = stale.context.as_mut().and_then(|context| context.peer.as_mut()) {
            peer.id += 1000;
        }
        let error = client.raw_put(stale).await.expect("a reply").into_inner().region_error.expect("a region error");
        assert!(error.mismatch_peer_id.is_some(), "{error:?}");
        let mut peerless = put(b"k".to_vec(), b"v".to_vec());
        peerless.context.as_mut().expect("a context").peer = None;
        let error = client.raw_put(peerless).await.expect("a reply").into_inner().region_error.expect("a region error");
        assert!(error.store_not_match.is_some(), "{error:?}");
        // Different members are not checked.
        let mut members = put(b"k".to_vec(), b"v".to_vec());
        if let Some(epoch) = members.context.as_mut().and_then(|context| context.region_epoch.as_mut()) {
            epoch.conf_ver += 7;
        }
        let reply = client.raw_put(members).await.expect("a reply").into_inner();
        assert!(reply.error.is_empty() && reply.region_error.is_none(), "{reply:?}");

        // A scan of an unknown column family. RawScan's reply has no error field: the error is in the only pair.
        let scan =
            |limit, cf: &str| RawScanRequest { context: context.clone(), limit, cf: cf.into(), ..Default::default() };
        let reply = client.raw_scan(scan(0, "")).await.expect("a reply").into_inner();
        assert!(reply.kvs.is_empty() && reply.region_error.is_none(), "{reply:?}");
        let reply = client.raw_scan(scan(1, "attic")).await.expect("a reply").into_inner();
        let [pair] = &reply.kvs[..] else { panic!("one pair with the error: {reply:?}") };
        let error = pair.error.as_ref().expect("an error");
        assert!(error.abort.contains("attic") && pair.key.is_empty() && reply.region_error.is_none(), "{reply:?}");

        // Wrong JSON queries: another coprocessor, another version, a predicate with the position of the error.
        let ask = |name: &str, version: &str, data: &str, ranges: usize| RawCoprocessorRequest {
            context: context.clone(),
            copr_name: name.to_owned(),
            copr_version_req: version.to_owned(),
            ranges: vec![KeyRange::default(); ranges],
            data: Bytes::copy_from_slice(data.as_bytes()),
        };
        for (request, want) in [
            (ask("xml", "1", "{}", 1), "unknown coprocessor \"xml\": use \"json\""),
            (ask("json", "^2", "{}", 1), "version 1.0.0"),
            (ask("json", "1", r#"{"where": "$.a >> 1"}"#, 1), "where, line 1, column 6"),
            (ask("json", "1", r#"{"page_rows": 0}"#, 1), "the request, line 1, column 15: `page_rows` is 0"),
        ] {
            let reply = client.raw_coprocessor(request).await.expect("a reply").into_inner();
            assert!(reply.error.contains(want) && reply.region_error.is_none(), "{want:?}: {reply:?}");
            assert!(reply.data.is_empty(), "{reply:?}");
        }

        // The other API version, which encodes keys differently.
        let mut other = put(b"k".to_vec(), b"v".to_vec());
        other.context.as_mut().expect("a context").api_version = 2;
        let reply = client.raw_put(other).await.expect("a reply").into_inner();
        assert!(reply.error.contains("API version"), "{reply:?}");

        // The same connection still serves.
        let reply = client.raw_put(put(b"k".to_vec(), b"after".to_vec())).await.expect("a reply").into_inner();
        assert!(reply.error.is_empty() && reply.region_error.is_none(), "{reply:?}");
        assert_eq!(wire.get(b"k").await, Outcome::Done(Some(Bytes::from_static(b"after"))));
    });
    cluster.assert_alive();
}

/// Sends these bytes as the body of a gRPC call and returns the status.
async fn send_bytes(channel: tonic::transport::Channel, path: &'static str, body: &'static [u8]) -> tonic::Status {
    #[derive(Default)]
    struct Plain;
    impl tonic::codec::Codec for Plain {
        type Encode = Bytes;
        type Decode = Bytes;
        type Encoder = Plain;
        type Decoder = Plain;
        fn encoder(&mut self) -> Plain {
            Plain
        }
        fn decoder(&mut self) -> Plain {
            Plain
        }
    }
    impl tonic::codec::Encoder for Plain {
        type Item = Bytes;
        type Error = tonic::Status;
        fn encode(&mut self, item: Bytes, buffer: &mut tonic::codec::EncodeBuf<'_>) -> Result<(), tonic::Status> {
            bytes::BufMut::put(buffer, item);
            Ok(())
        }
    }
    impl tonic::codec::Decoder for Plain {
        type Item = Bytes;
        type Error = tonic::Status;
        fn decode(&mut self, buffer: &mut tonic::codec::DecodeBuf<'_>) -> Result<Option<Bytes>, tonic::Status> {
            let len = bytes::Buf::remaining(buffer);
            Ok(Some(bytes::Buf::copy_to_bytes(buffer, len)))
        }
    }
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.expect("a connection");
    let path = http::uri::PathAndQuery::from_static(path);
    let answer = grpc.unary(tonic::Request::new(Bytes::from_static(body)), path, Plain).await;
    answer.map_or_else(|status| status, |reply| panic!("it was answered: {reply:?}"))
}

#[test]
fn malformed_messages_and_unknown_methods_have_their_status() {
    let mut cluster = Cluster::start(1, &[]);
    let wire = Wire::new(cluster.addrs());
    let addr = cluster.addr(0).to_owned();
    runtime().block_on(async {
        let channel = wire.channel(&addr);
        // Field 1 announces 127 bytes, but none follow.
        let status = send_bytes(channel.clone(), "/tikvpb.Tikv/RawGet", b"\x0a\x7f").await;
        assert!(matches!(status.code(), Code::Internal | Code::InvalidArgument), "{status:?}");
        for path in ["/tikvpb.Tikv/NoSuchCall", "/tikvpb.Tikv/KvFlashbackToVersion", "/no.such.Service/Call"] {
            let status = send_bytes(channel.clone(), path, b"").await;
            assert_eq!(status.code(), Code::Unimplemented, "{path}: {status:?}");
        }
        // The same connection still serves.
        assert!(matches!(wire.get(b"k").await, Outcome::Done(_)));
    });
    cluster.assert_alive();
}

/// Sends an HTTP/1.1 request without a library. Returns the status line with the headers, and the body.
fn http_get(addr: &str, path: &str) -> (String, String) {
    let mut stream = std::net::TcpStream::connect(addr).expect("a connection");
    stream.set_read_timeout(Some(LIMIT)).expect("a socket");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n").expect("sent");
    let mut text = Vec::new();
    stream.read_to_end(&mut text).expect("an answer");
    let text = String::from_utf8_lossy(&text).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
    (head.to_owned(), body.to_owned())
}

#[test]
fn metrics_status_and_page_answer_on_the_same_port() {
    let cluster = Cluster::start(3, &[]);
    for node in 0..3 {
        let (head, body) = http_get(cluster.addr(node), "/metrics");
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert!(body.lines().any(|line| line.starts_with("# TYPE armilla_")), "{body}");
        let (head, body) = http_get(cluster.addr(node), "/status");
        assert!(head.starts_with("HTTP/1.1 200") && head.to_lowercase().contains("application/json"), "{head}");
        assert!(serde_json::from_str::<serde_json::Value>(body.trim()).is_ok_and(|v| v.is_object()), "{body}");
        let (head, body) = http_get(cluster.addr(node), "/");
        assert!(head.starts_with("HTTP/1.1 200") && head.to_lowercase().contains("text/html"), "{head}");
        assert!(body.contains("<html") && !body.contains("https://"), "the page needs nothing from outside");
        let (head, _) = http_get(cluster.addr(node), "/no/such/page");
        assert!(head.starts_with("HTTP/1.1 404"), "{head}");
    }
}
