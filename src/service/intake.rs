//! What comes in: requests of the key-value service, bounded while they arrive.
//!
//! ```text
//!   a unary call:  frame header -> over the limit? -> the rest is read and dropped -> the reply says "too large"
//!   a stream:      frame header -> a long message? -> its commands one by one: short ones are kept, of a long one a note
//!   both:          bytes are counted as they arrive; when the node has no room the same happens, and the reply says "busy"
//! ```
//! A message that is too long is an error of its protocol, at once, which clients show: gRPC's own (OUT_OF_RANGE,
//! RESOURCE_EXHAUSTED) is one of the transport to them, which they answer by closing the connection and sending it all again. It is
//! read to its end, so that every client sees the reply, whether it looks for one before it has sent all or not.
//!
//! **Never**: more memory for a request than [`REQUEST_BYTES_MAX`] and what surrounds it; a stream that ends because of one command.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http::Response;
use http_body::Frame;
use prometheus::IntGauge;
use prost::Message as _;
use tonic::Status;
use tonic::body::Body;

use crate::proto::kvrpcpb;
use crate::proto::tikvpb::{NotTaken, batch_commands_request as request, batch_commands_response as response};
use crate::types::limits::{MESSAGE_BYTES_MAX, REQUEST_BYTES_MAX, REQUESTS_BYTES_MAX};
use crate::types::{Error, GroupId};

use super::error::{Repeat, Reply, refuse};

/// Bytes from which on a message is counted.
const COUNTED: usize = 64 << 10;
/// gRPC's frame header: a flag and a length.
const HEADER: usize = 5;
/// What is kept of a request that is not taken, to tell whose it is.
const PREFIX: usize = 512;

/// Bytes of the node's requests that are arriving or being answered. Clones share them.
#[derive(Clone, Debug)]
pub struct Intake(IntGauge);

/// Why a request was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    TooLarge { region: u64, bytes: u64 },
    Busy { region: u64 },
}

impl Refusal {
    fn of(note: &NotTaken) -> Refusal {
        match note.bytes {
            0 => Refusal::Busy { region: note.region_id },
            bytes => Refusal::TooLarge { region: note.region_id, bytes },
        }
    }

    /// The reply to a request of that kind.
    fn reply<R: Reply>(self, repeat: Repeat) -> R {
        match self {
            Refusal::TooLarge { region, bytes } if repeat == Repeat::Read => {
                let why = format!(
                    "a request of {bytes} bytes is over the limit of {REQUEST_BYTES_MAX}: ask for less at once"
                );
                refuse(Error::Invalid(why), region, repeat)
            }
            Refusal::TooLarge { region, bytes } => {
                refuse(Error::EntryTooLarge { group: GroupId(region), bytes }, region, repeat)
            }
            Refusal::Busy { region } => {
                let why = format!("requests under way hold {REQUESTS_BYTES_MAX} bytes of memory");
                refuse(Error::Busy(why), region, repeat)
            }
        }
    }
}

/// Calls `$with!` with every request that may be refused: its method, its number in a stream (0: not in streams), its reply, and
/// what repeating it would do.
macro_rules! refusable {
    ($with:ident) => {
        $with! {
            RawGet 13 RawGetResponse Read, RawBatchGet 14 RawBatchGetResponse Read, RawPut 15 RawPutResponse Same,
            RawBatchPut 16 RawBatchPutResponse Same, RawDelete 17 RawDeleteResponse Same,
            RawBatchDelete 18 RawBatchDeleteResponse Same, RawScan 19 RawScanResponse Read,
            RawDeleteRange 20 RawDeleteRangeResponse Same, RawBatchScan 21 RawBatchScanResponse Read,
            RawCoprocessor 34 RawCoprocessorResponse Read;
            RawGetKeyTTL RawGetKeyTtlResponse Read, RawCompareAndSwap RawCasResponse Differs,
            RawChecksum RawChecksumResponse Read
        }
    };
}

/// The encoded reply of `method` that says `refusal`; nothing if it has none that could.
fn unary_reply(method: &str, refusal: Refusal) -> Option<Vec<u8>> {
    macro_rules! by_name {
        ($($name:ident $number:literal $reply:ident $repeat:ident),+; $($alone:ident $other:ident $again:ident),+) => {
            match method {
                $(stringify!($name) => Some(refusal.reply::<kvrpcpb::$reply>(Repeat::$repeat).encode_to_vec()),)+
                $(stringify!($alone) => Some(refusal.reply::<kvrpcpb::$other>(Repeat::$again).encode_to_vec()),)+
                _ => None,
            }
        };
    }
    refusable!(by_name)
}

/// The answer to a command of a stream that was not taken; nothing for a command that is not known.
pub(super) fn not_taken(note: &NotTaken) -> Option<response::response::Cmd> {
    use response::response::Cmd;
    let refusal = Refusal::of(note);
    macro_rules! by_number {
        ($($name:ident $number:literal $reply:ident $repeat:ident),+; $($alone:ident $other:ident $again:ident),+) => {
            match note.command {
                $($number => Some(Cmd::$name(refusal.reply::<kvrpcpb::$reply>(Repeat::$repeat))),)+
                _ => None,
            }
        };
    }
    refusable!(by_number)
}

/// One call's part of the node's requests; given back when its body and its answer are gone.
#[derive(Debug)]
pub(super) struct Call {
    intake: Intake,
    bytes: AtomicI64,
    refusal: OnceLock<Refusal>,
}

impl Call {
    /// Counts bytes that have arrived; false if the node has no room for them.
    fn take(&self, bytes: usize) -> bool {
        self.bytes.fetch_add(bytes as i64, Ordering::Relaxed);
        self.intake.0.add(bytes as i64);
        self.intake.has_room()
    }

    /// Gives all of it back.
    fn clear(&self) {
        self.intake.0.sub(self.bytes.swap(0, Ordering::Relaxed));
    }

    /// The response to the call: the protocol's error if the request was not taken.
    pub(super) fn answer(&self, method: &str, response: Response<Body>) -> Response<Body> {
        let refusal = self.refusal.get().copied().or_else(|| {
            // Compressed, a message shows its length only here.
            let status = Status::from_header_map(response.headers())?;
            let long = status.code() == tonic::Code::ResourceExhausted && status.message().contains("decompressing");
            long.then_some(Refusal::TooLarge { region: 0, bytes: REQUEST_BYTES_MAX as u64 + 1 })
        });
        let Some(reply) = refusal.and_then(|refusal| unary_reply(method, refusal)) else { return response };
        let mut trailers = http::HeaderMap::new();
        trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
        let frame = Bytes::from([&header(reply.len())[..], &reply].concat());
        let frames = [Ok::<_, Status>(Frame::data(frame)), Ok(Frame::trailers(trailers))];
        let body = http_body_util::StreamBody::new(futures::stream::iter(frames));
        let mut response = Response::new(Body::new(body));
        response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/grpc"));
        response
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.clear();
    }
}

impl Intake {
    /// Counts in `gauge`, which nobody else changes.
    pub fn new(gauge: IntGauge) -> Intake {
        Intake(gauge)
    }

    fn has_room(&self) -> bool {
        self.0.get() <= REQUESTS_BYTES_MAX as i64
    }

    fn begin(&self) -> Arc<Call> {
        Arc::new(Call { intake: self.clone(), bytes: AtomicI64::new(0), refusal: OnceLock::new() })
    }

    /// The body of a unary call, bounded, and what will know how that went.
    pub(super) fn unary(&self, body: Body) -> (Body, Arc<Call>) {
        let call = self.begin();
        let unary = Unary { inner: body, call: call.clone(), head: BytesMut::new(), state: State::Head };
        (Body::new(unary), call)
    }

    /// The body of a stream of commands, bounded.
    pub(super) fn stream(&self, body: Body) -> Body {
        let call = self.begin();
        let (input, head, output) = (Bytes::new(), BytesMut::new(), VecDeque::new());
        Body::new(Commands { inner: body, call, input, head, part: Part::Head, output })
    }
}

/// A gRPC frame's header.
fn header(len: usize) -> Bytes {
    let mut frame = BytesMut::with_capacity(HEADER);
    frame.put_u8(0);
    frame.put_u32(len as u32);
    frame.freeze()
}

/// A variable-length number at the beginning of `bytes`, which are moved past it.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let end = bytes.iter().position(|byte| byte & 0x80 == 0)?;
    let value = bytes[..=end].iter().rev().try_fold(0_u64, |value, byte| {
        let shifted = value.checked_mul(128)?;
        Some(shifted | u64::from(byte & 0x7f))
    })?;
    *bytes = &bytes[end + 1..];
    Some(value)
}

/// The region that a request is for, from its first bytes: its first field is the context, whose first field it is.
fn region_of(mut request: &[u8]) -> u64 {
    const CONTEXT: u64 = 1 << 3 | 2;
    const REGION: u64 = 1 << 3;
    let bytes = &mut request;
    if varint(bytes) != Some(CONTEXT) || varint(bytes).is_none() || varint(bytes) != Some(REGION) {
        return 0;
    }
    varint(bytes).unwrap_or(0)
}

/// Adds `data` to what is kept of a request, as far as it is of use.
fn keep_prefix(prefix: &mut BytesMut, data: &[u8]) {
    let room = PREFIX.saturating_sub(prefix.len());
    prefix.extend_from_slice(&data[..data.len().min(room)]);
}

/// Where a unary call's body stands.
enum State {
    /// Its frame header is not complete.
    Head,
    /// It is passed on; large ones are counted.
    Pass { counted: bool },
    /// It is read and dropped, because it has so many bytes; its first are in `head`.
    TooLarge(u64),
    /// It is read and dropped, because the node has no room.
    NoRoom,
}

/// The body of a unary call.
struct Unary {
    inner: Body,
    call: Arc<Call>,
    head: BytesMut,
    state: State,
}

impl Unary {
    /// Takes a piece of the body; what is passed on of it.
    fn push(&mut self, mut data: Bytes) -> Option<Bytes> {
        if let State::Head = self.state {
            if data.len() < HEADER || !self.head.is_empty() {
                self.head.extend_from_slice(&data);
                if self.head.len() < HEADER {
                    return None;
                }
                data = self.head.split().freeze();
            }
            let bytes = u32::from_be_bytes([data[1], data[2], data[3], data[4]]) as usize;
            if bytes > REQUEST_BYTES_MAX {
                self.state = State::TooLarge(bytes as u64);
                data.advance(HEADER);
            } else {
                self.state = State::Pass { counted: bytes >= COUNTED };
            }
        }
        match self.state {
            State::Pass { counted: true } if !self.call.take(data.len()) => {
                self.call.clear();
                self.state = State::NoRoom;
                None
            }
            State::Pass { .. } => Some(data),
            State::TooLarge(_) => {
                keep_prefix(&mut self.head, &data);
                None
            }
            State::Head | State::NoRoom => None,
        }
    }

    /// The body has ended.
    fn end(&mut self) {
        let refusal = match self.state {
            State::Head | State::Pass { .. } => return,
            State::TooLarge(bytes) => Refusal::TooLarge { region: region_of(&self.head), bytes },
            State::NoRoom => Refusal::Busy { region: 0 },
        };
        // Whoever asks again after the end changes nothing.
        let _ = self.call.refusal.set(refusal);
    }
}

impl http_body::Body for Unary {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        loop {
            let frame = match ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {
                    this.end();
                    return Poll::Ready(None);
                }
            };
            match frame.into_data() {
                Ok(data) => {
                    if let Some(data) = this.push(data) {
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                }
                Err(other) => return Poll::Ready(Some(Ok(other))),
            }
        }
    }
}

/// The body of a stream of commands.
struct Commands {
    inner: Body,
    call: Arc<Call>,
    /// What has arrived and was not looked at.
    input: Bytes,
    /// A header, or a number, that is not complete.
    head: BytesMut,
    part: Part,
    /// What is to be passed on.
    output: VecDeque<Bytes>,
}

/// Where a stream's body stands.
enum Part {
    /// In a frame's header.
    Head,
    /// In a message that is passed on as it is; so many bytes are left, counted or not.
    Pass { left: usize, counted: bool },
    /// In a message that is looked through.
    Long(Long),
    /// In one that makes no sense: the rest of the stream is dropped.
    Broken,
}

/// A message that is looked through.
struct Long {
    /// Bytes of it that have not been looked at.
    left: usize,
    field: Field,
    kept: VecDeque<Bytes>,
    kept_bytes: usize,
}

/// Where a message stands that is looked through. Its fields are commands (number 1), their ids, and what is new.
enum Field {
    /// In a field's tag.
    Tag,
    /// In the length of a field of that tag; the tag is still in `head`.
    Length { tag: u64, tag_bytes: usize },
    /// In a number that is kept.
    Number,
    /// In bytes that are kept.
    Keep { left: usize },
    /// In a command that is not; `bytes` is what its note says.
    Skip { left: usize, bytes: u64, prefix: BytesMut },
}

/// A field that holds bytes, by its tag.
const BYTES: u64 = 2;
/// A command's tag.
const COMMAND: u64 = 1 << 3 | BYTES;

impl Long {
    fn keep(&mut self, bytes: Bytes) {
        self.kept_bytes += bytes.len();
        self.kept.push_back(bytes);
    }

    /// Puts a note in the place of a command.
    fn note(&mut self, bytes: u64, prefix: &[u8]) {
        let rest = &mut &prefix[..];
        let command = varint(rest).map_or(0, |tag| (tag >> 3) as u32);
        let region_id = varint(rest).map_or(0, |_| region_of(rest));
        let cmd = Some(request::request::Cmd::NotTaken(NotTaken { command, region_id, bytes }.into()));
        let note = request::Request { cmd }.encode_length_delimited_to_vec();
        let mut field = BytesMut::with_capacity(1 + note.len());
        field.put_u8(COMMAND as u8);
        field.put_slice(&note);
        self.keep(field.freeze());
    }
}

/// The numbers that fields other than bytes have, by the last three bits of their tags.
fn fixed_bytes(tag: u64) -> Option<usize> {
    match tag & 7 {
        1 => Some(8),
        5 => Some(4),
        _ => None,
    }
}

impl Commands {
    /// Looks at what has arrived.
    fn step(&mut self) {
        match &mut self.part {
            Part::Head => {
                if let Some(head) = self.gather(HEADER) {
                    self.begin(head);
                }
            }
            Part::Pass { left, counted } => {
                let data = self.input.split_to(self.input.len().min(*left));
                *left -= data.len();
                if *counted {
                    // One message of a stream is passed on in any case.
                    self.call.take(data.len());
                }
                let ended = *left == 0;
                self.output.push_back(data);
                if ended {
                    self.call.clear();
                    self.part = Part::Head;
                }
            }
            Part::Long(_) => {
                if self.look().is_none() {
                    self.break_off();
                }
            }
            Part::Broken => self.input.clear(),
        }
    }

    /// The next `bytes` bytes, when they are there.
    fn gather(&mut self, bytes: usize) -> Option<Bytes> {
        if self.head.is_empty() && self.input.len() >= bytes {
            return Some(self.input.split_to(bytes));
        }
        let missing = bytes - self.head.len();
        self.head.extend_from_slice(&self.input.split_to(self.input.len().min(missing)));
        (self.head.len() == bytes).then(|| self.head.split().freeze())
    }

    /// Begins a message.
    fn begin(&mut self, head: Bytes) {
        let len = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let compressed = head[0] != 0;
        let counted = len >= COUNTED;
        let long = len > REQUEST_BYTES_MAX || (counted && !self.call.intake.has_room());
        if long && !compressed {
            let (kept, kept_bytes) = (VecDeque::new(), 0);
            self.part = Part::Long(Long { left: len, field: Field::Tag, kept, kept_bytes });
            return;
        }
        self.output.push_back(head);
        if len > 0 {
            self.part = Part::Pass { left: len, counted };
        }
    }

    /// Looks further through a long message; nothing if it makes no sense.
    fn look(&mut self) -> Option<()> {
        let Part::Long(long) = &mut self.part else { return Some(()) };
        match &mut long.field {
            Field::Tag | Field::Length { .. } | Field::Number => {
                // Numbers come byte by byte: they are few beside what they stand for.
                if long.left == 0 {
                    return None;
                }
                let byte = self.input.get_u8();
                long.left -= 1;
                self.head.put_u8(byte);
                if byte & 0x80 != 0 {
                    return (self.head.len() < 20).then_some(());
                }
            }
            Field::Keep { left } => {
                let data = self.input.split_to(self.input.len().min(*left));
                *left -= data.len();
                long.left -= data.len();
                if *left == 0 {
                    long.field = Field::Tag;
                }
                self.call.take(data.len());
                long.keep(data);
                return self.finish();
            }
            Field::Skip { left, bytes, prefix } => {
                let data = self.input.split_to(self.input.len().min(*left));
                *left -= data.len();
                long.left -= data.len();
                keep_prefix(prefix, &data);
                if *left == 0 {
                    let (bytes, prefix) = (*bytes, std::mem::take(prefix));
                    long.field = Field::Tag;
                    long.note(bytes, &prefix);
                }
                return self.finish();
            }
        }
        // A number is complete.
        match long.field {
            Field::Tag => {
                let tag = varint(&mut &self.head[..])?;
                if tag & 7 == BYTES {
                    long.field = Field::Length { tag, tag_bytes: self.head.len() };
                    return Some(());
                }
                long.keep(self.head.split().freeze());
                long.field = match fixed_bytes(tag) {
                    Some(left) if left <= long.left => Field::Keep { left },
                    None if tag & 7 == 0 => Field::Number,
                    _ => return None,
                };
            }
            Field::Length { tag, tag_bytes } => {
                let len =
                    usize::try_from(varint(&mut &self.head[tag_bytes..])?).ok().filter(|len| *len <= long.left)?;
                let fits = long.kept_bytes + len <= MESSAGE_BYTES_MAX;
                let head = self.head.split().freeze();
                let room = self.call.intake.has_room();
                if tag != COMMAND || (len <= REQUEST_BYTES_MAX && fits && room) {
                    if !fits {
                        return None;
                    }
                    long.keep(head);
                    long.field = if len > 0 { Field::Keep { left: len } } else { Field::Tag };
                } else {
                    let bytes = if len > REQUEST_BYTES_MAX { len as u64 } else { 0 };
                    long.field = Field::Skip { left: len, bytes, prefix: BytesMut::new() };
                }
            }
            Field::Number => {
                long.keep(self.head.split().freeze());
                long.field = Field::Tag;
            }
            Field::Keep { .. } | Field::Skip { .. } => {}
        }
        self.finish()
    }

    /// Passes a long message on when all of it was looked at; nothing if it ends in the middle of a field.
    fn finish(&mut self) -> Option<()> {
        let Part::Long(long) = &mut self.part else { return Some(()) };
        if long.left > 0 {
            return Some(());
        }
        if !matches!(long.field, Field::Tag) || !self.head.is_empty() {
            return None;
        }
        self.output.push_back(header(long.kept_bytes));
        self.output.append(&mut long.kept);
        self.call.clear();
        self.part = Part::Head;
        Some(())
    }

    /// Ends the stream by a message that does not decode.
    fn break_off(&mut self) {
        self.call.clear();
        self.part = Part::Broken;
        self.input.clear();
        self.output.push_back(header(1));
        self.output.push_back(Bytes::from_static(&[0xff]));
    }
}

impl http_body::Body for Commands {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        loop {
            if let Some(data) = this.output.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            if !this.input.is_empty() {
                this.step();
                continue;
            }
            match ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => this.input = data,
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: what is short passes as it came, what is long leaves a note and costs no memory, however it is cut into pieces. Method: bodies of
    //! our own, in pieces of every size.

    use futures::FutureExt as _;
    use http_body_util::{BodyExt as _, StreamBody};

    use super::*;
    use crate::proto::kvrpcpb::{Context, RawGetRequest, RawPutRequest};
    use crate::proto::tikvpb::BatchCommandsRequest;
    use request::request::Cmd;

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
            // A short one passes as it came.
            let short = frame(&put(300, 100).encode_to_vec());
            let (body, call) = intake.unary(pieces(&short, size));
            assert_eq!((collect(body), call.refusal.get()), (short.into(), None), "{size}");
            if size < 1 << 20 {
                continue;
            }
            let (body, call) = intake.unary(pieces(&bytes, size));
            assert_eq!(collect(body), Bytes::new());
            let long = (bytes.len() - HEADER) as u64;
            assert_eq!(call.refusal.get(), Some(&Refusal::TooLarge { region: 300, bytes: long }));
            let response = call.answer("RawPut", Status::internal("no message").into_http());
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
        let (body, call) = intake.unary(pieces(&bytes, 1000));
        assert_eq!(collect(body), Bytes::from(bytes.clone()));
        assert_eq!(intake.0.get(), bytes.len() as i64);
        drop(call);
        assert_eq!(intake.0.get(), 0);
        intake.0.set(REQUESTS_BYTES_MAX as i64);
        let (body, call) = intake.unary(pieces(&bytes, 1000));
        assert_eq!(collect(body), Bytes::new());
        let reply = collect(call.answer("RawGet", Status::internal("cut").into_http()).into_body());
        let reply = kvrpcpb::RawGetResponse::decode(&reply[HEADER..]).unwrap();
        assert!(reply.region_error.unwrap().server_is_busy.is_some());
        drop(call);
        assert_eq!(intake.0.get(), REQUESTS_BYTES_MAX as i64);
    }

    fn command(cmd: Cmd) -> request::Request {
        request::Request { cmd: Some(cmd) }
    }

    /// The messages of a body of whole frames.
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
            let got = messages(collect(intake.stream(pieces(&bytes_in, size))));
            let note = NotTaken { command: 15, region_id: 77, bytes };
            let want = BatchCommandsRequest {
                requests: vec![get(), command(Cmd::NotTaken(note.into())), get()],
                request_ids: vec![1, 2, 300],
            };
            assert_eq!(got, [want, second.clone()], "pieces of {size}");
        }
        assert_eq!(intake.0.get(), 0);
        let reply = not_taken(&NotTaken { command: 15, region_id: 77, bytes }).unwrap();
        let response::response::Cmd::RawPut(reply) = reply else { panic!("another kind: {reply:?}") };
        assert_eq!(reply.region_error.unwrap().raft_entry_too_large.unwrap().entry_size, bytes);
        assert_eq!(not_taken(&NotTaken { command: 3, region_id: 77, bytes }), None);
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
            assert_eq!(messages(collect(intake.stream(pieces(&bytes, size)))), std::slice::from_ref(&message));
        }
        intake.0.set(REQUESTS_BYTES_MAX as i64 + 1);
        for size in [1, 2, 1000] {
            let got = messages(collect(intake.stream(pieces(&bytes, size)))).remove(0);
            let note = |region_id| command(Cmd::NotTaken(NotTaken { command: 15, region_id, bytes: 0 }.into()));
            assert_eq!(got, BatchCommandsRequest { requests: vec![note(5), note(6)], ..message.clone() });
        }
        // What makes no sense does not pass for something that does.
        let mut broken = frame(&vec![0xff; 2 * COUNTED]);
        broken.extend(&bytes);
        let got = collect(intake.stream(pieces(&broken, 1000)));
        assert_eq!(got, Bytes::from_static(&[0, 0, 0, 0, 1, 0xff]));
        assert_eq!(intake.0.get(), REQUESTS_BYTES_MAX as i64 + 1);
    }
}
