//! The body of a command stream. Long messages are parsed while they arrive, so that one command does not end the
//! stream.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http_body::Frame;
use prost::Message as _;
use tonic::Status;
use tonic::body::Body;

use crate::proto::tikvpb::{NotTaken, batch_commands_request as request};
use crate::types::limits::{MESSAGE_BYTES_MAX, REQUEST_BYTES_MAX};

use super::frame::{HEADER, header, keep_prefix, region_of, varint};
use super::quota::{COUNTED, Intake, Share};

/// Returns the body of a command stream with bounded memory.
pub(crate) fn bounded(intake: &Intake, body: Body) -> Body {
    let share = intake.begin();
    let (input, head, output) = (Bytes::new(), BytesMut::new(), VecDeque::new());
    Body::new(StreamBody { inner: body, share, input, head, part: Part::Head, output })
}

/// The body of a command stream.
struct StreamBody {
    inner: Body,
    share: Arc<Share>,
    /// Bytes that have arrived and were not parsed yet.
    input: Bytes,
    /// An incomplete header or number.
    head: BytesMut,
    part: Part,
    /// Data to pass on.
    output: VecDeque<Bytes>,
}

/// The state of the parser in a stream's body.
enum Part {
    /// In a frame header.
    Head,
    /// In a message that is passed on unchanged. `left`: its remaining bytes; `counted`: whether they are counted.
    Pass { left: usize, counted: bool },
    /// In a long message, which is parsed.
    Long(Long),
    /// In an invalid message: the rest of the stream is dropped.
    Broken,
}

/// A long message while it is parsed.
struct Long {
    /// Bytes of the message that were not parsed yet.
    left: usize,
    field: Field,
    kept: VecDeque<Bytes>,
    kept_bytes: usize,
}

/// The state of the parser in a long message. Its fields are commands (number 1), their ids, and unknown ones.
enum Field {
    /// In the tag of a field.
    Tag,
    /// In the length of a field with that tag; the tag is still in `head`.
    Length { tag: u64, tag_bytes: usize },
    /// In a number that is kept.
    Number,
    /// In bytes that are kept.
    Keep { left: usize },
    /// In a command that is dropped; `bytes` is the length that its note reports.
    Skip { left: usize, bytes: u64, prefix: BytesMut },
}

/// The wire type of a field that holds bytes.
const BYTES: u64 = 2;
/// The tag of a command.
const COMMAND: u64 = 1 << 3 | BYTES;

impl Long {
    fn keep(&mut self, bytes: Bytes) {
        self.kept_bytes += bytes.len();
        self.kept.push_back(bytes);
    }

    /// Puts a note in place of a command.
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

/// Returns the length of a field with a fixed-size number, by the wire type in its tag's last three bits.
fn fixed_bytes(tag: u64) -> Option<usize> {
    match tag & 7 {
        1 => Some(8),
        5 => Some(4),
        _ => None,
    }
}

impl StreamBody {
    /// Parses the bytes that have arrived.
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
                    // Single messages of a stream are passed on in any case.
                    self.share.take(data.len());
                }
                let ended = *left == 0;
                self.output.push_back(data);
                if ended {
                    self.share.clear();
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

    /// Returns the next `bytes` bytes once all of them have arrived.
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
        let long = len > REQUEST_BYTES_MAX || (counted && !self.share.intake.has_room());
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

    /// Continues to parse a long message. Returns `None` if it is invalid.
    fn look(&mut self) -> Option<()> {
        let Part::Long(long) = &mut self.part else { return Some(()) };
        match &mut long.field {
            Field::Tag | Field::Length { .. } | Field::Number => {
                // Read numbers byte by byte: they are few compared to the data.
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
                self.share.take(data.len());
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
                let room = self.share.intake.has_room();
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

    /// Passes a long message on once it is parsed completely. Returns `None` if it ends in the middle of a field.
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
        self.share.clear();
        self.part = Part::Head;
        Some(())
    }

    /// Ends the stream with a message that does not decode.
    fn break_off(&mut self) {
        self.share.clear();
        self.part = Part::Broken;
        self.input.clear();
        self.output.push_back(header(1));
        self.output.push_back(Bytes::from_static(&[0xff]));
    }
}

impl http_body::Body for StreamBody {
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
