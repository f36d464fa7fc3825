//! Goal: short messages pass unchanged; long ones leave a note and cost no memory, in whatever pieces they arrive.
//! Method: handmade bodies, in pieces of many sizes.

use bytes::{Buf as _, Bytes};
use futures::FutureExt as _;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use prometheus::IntGauge;
use prost::Message as _;
use tonic::Status;
use tonic::body::Body;

use super::frame::{HEADER, header};
use super::quota::{COUNTED, Intake};
use super::refusal::Refusal;
use super::{stream, unary};
use crate::proto::kvrpcpb::{self, Context, RawGetRequest, RawPutRequest};
use crate::proto::tikvpb::batch_commands_request::{self as request, request::Cmd};
use crate::proto::tikvpb::{BatchCommandsRequest, NotTaken, batch_commands_response as response};
use crate::service::calls::refused_command;
use crate::types::limits::{REQUEST_BYTES_MAX, REQUESTS_BYTES_MAX};

fn intake() -> Intake {
    Intake::new(IntGauge::new("bytes", "bytes").unwrap())
}

fn frame(message: &[u8]) -> Vec<u8> {
    [&header(message.len())[..], message].concat()
}

fn pieces(bytes: &[u8], size: usize) -> Body {
    let pieces: Vec<_> = bytes.chunks(size).map(Bytes::copy_from_slice).collect();
    let frames = pieces.into_iter().map(|piece| Ok::<_, Status>(Frame::data(piece)));
    Body::new(StreamBody::new(futures::stream::iter(frames)))
}

fn collect(body: Body) -> Bytes {
    body.collect().now_or_never().unwrap().unwrap().to_bytes()
}

fn put(region_id: u64, bytes: usize) -> RawPutRequest {
    let context = Some(Context { region_id, max_execution_duration_ms: 7, ..Context::default() });
    RawPutRequest { context, key: "k".into(), value: vec![7; bytes].into(), ..RawPutRequest::default() }
}

#[test]
fn a_long_call_is_read_and_dropped() {
    let intake = intake();
    let bytes = frame(&put(300, REQUEST_BYTES_MAX).encode_to_vec());
    for size in [1 << 20, 3, 7] {
        // A short message passes unchanged.
        let short = frame(&put(300, 100).encode_to_vec());
        let (body, call) = unary::bounded(&intake, pieces(&short, size));
        assert_eq!((collect(body), call.refusal.get()), (short.into(), None), "{size}");
        if size < 1 << 20 {
            continue;
        }
        let (body, call) = unary::bounded(&intake, pieces(&bytes, size));
        assert_eq!(collect(body), Bytes::new());
        let long = (bytes.len() - HEADER) as u64;
        assert_eq!(call.refusal.get(), Some(&Refusal::TooLarge { region: 300, bytes: long }));
        let response = unary::answer(&call, "RawPut", Status::internal("no message").into_http());
        let reply = collect(response.into_body());
        let reply = kvrpcpb::RawPutResponse::decode(&reply[HEADER..]).unwrap();
        let error = reply.region_error.unwrap().raft_entry_too_large.unwrap();
        assert_eq!((error.region_id, error.entry_size), (300, long));
    }
    assert_eq!(intake.0.get(), 0);
}

#[test]
fn a_call_is_counted_until_it_is_answered_and_refused_without_room() {
    let intake = intake();
    let bytes = frame(&put(3, 2 * COUNTED).encode_to_vec());
    let (body, call) = unary::bounded(&intake, pieces(&bytes, 1000));
    assert_eq!(collect(body), Bytes::from(bytes.clone()));
    assert_eq!(intake.0.get(), bytes.len() as i64);
    drop(call);
    assert_eq!(intake.0.get(), 0);
    intake.0.set(REQUESTS_BYTES_MAX as i64);
    let (body, call) = unary::bounded(&intake, pieces(&bytes, 1000));
    assert_eq!(collect(body), Bytes::new());
    let reply = collect(unary::answer(&call, "RawGet", Status::internal("cut").into_http()).into_body());
    let reply = kvrpcpb::RawGetResponse::decode(&reply[HEADER..]).unwrap();
    assert!(reply.region_error.unwrap().server_is_busy.is_some());
    drop(call);
    assert_eq!(intake.0.get(), REQUESTS_BYTES_MAX as i64);
}

fn command(cmd: Cmd) -> request::Request {
    request::Request { cmd: Some(cmd) }
}

/// Returns the messages in a body of complete frames.
fn messages(mut bytes: Bytes) -> Vec<BatchCommandsRequest> {
    let mut messages = Vec::new();
    while !bytes.is_empty() {
        bytes.get_u8();
        let len = bytes.get_u32() as usize;
        messages.push(BatchCommandsRequest::decode(bytes.split_to(len)).unwrap());
    }
    messages
}

#[test]
fn of_a_long_command_in_a_stream_only_a_note_is_left() {
    let intake = intake();
    let get = || command(Cmd::RawGet(RawGetRequest { key: "g".into(), ..Default::default() }.into()));
    let long = put(77, REQUEST_BYTES_MAX);
    let bytes = request::Request { cmd: Some(Cmd::RawPut(long.clone().into())) }.encoded_len() as u64;
    let first = BatchCommandsRequest {
        requests: vec![get(), command(Cmd::RawPut(long.into())), get()],
        request_ids: vec![1, 2, 300],
    };
    let second = BatchCommandsRequest { requests: vec![get()], request_ids: vec![4] };
    let bytes_in = [frame(&first.encode_to_vec()), frame(&second.encode_to_vec())].concat();
    for size in [1 << 24, 1 << 20, 65_537] {
        let got = messages(collect(stream::bounded(&intake, pieces(&bytes_in, size))));
        let note = NotTaken { command: 15, region_id: 77, bytes };
        let want = BatchCommandsRequest {
            requests: vec![get(), command(Cmd::NotTaken(note.into())), get()],
            request_ids: vec![1, 2, 300],
        };
        assert_eq!(got, [want, second.clone()], "pieces of {size}");
    }
    assert_eq!(intake.0.get(), 0);
    let reply = refused_command(15, Refusal::of(&NotTaken { command: 15, region_id: 77, bytes })).unwrap();
    let response::response::Cmd::RawPut(reply) = reply else { panic!("a reply of another kind: {reply:?}") };
    assert_eq!(reply.region_error.unwrap().raft_entry_too_large.unwrap().entry_size, bytes);
    assert_eq!(refused_command(5, Refusal::of(&NotTaken { command: 5, region_id: 77, bytes })), None);
}

#[test]
fn a_stream_is_looked_through_byte_by_byte_when_there_is_no_room() {
    let intake = intake();
    let message = BatchCommandsRequest {
        requests: vec![command(Cmd::RawPut(put(5, 2 * COUNTED).into())), command(Cmd::RawPut(put(6, 1).into()))],
        request_ids: vec![9, 10],
    };
    let bytes = frame(&message.encode_to_vec());
    for size in [1, 2, 1000] {
        assert_eq!(messages(collect(stream::bounded(&intake, pieces(&bytes, size)))), std::slice::from_ref(&message));
    }
    intake.0.set(REQUESTS_BYTES_MAX as i64 + 1);
    for size in [1, 2, 1000] {
        let got = messages(collect(stream::bounded(&intake, pieces(&bytes, size)))).remove(0);
        let note = |region_id| command(Cmd::NotTaken(NotTaken { command: 15, region_id, bytes: 0 }.into()));
        assert_eq!(got, BatchCommandsRequest { requests: vec![note(5), note(6)], ..message.clone() });
    }
    // Invalid data must not turn into a valid message.
    let mut broken = frame(&vec![0xff; 2 * COUNTED]);
    broken.extend(&bytes);
    let got = collect(stream::bounded(&intake, pieces(&broken, 1000)));
    assert_eq!(got, Bytes::from_static(&[0, 0, 0, 0, 1, 0xff]));
    assert_eq!(intake.0.get(), REQUESTS_BYTES_MAX as i64 + 1);
}
