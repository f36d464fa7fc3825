//! The body of a unary call: passed on as it arrives, or read and dropped.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use http::Response;
use http_body::Frame;
use tonic::Status;
use tonic::body::Body;

use crate::service::calls::refused;
use crate::types::limits::REQUEST_BYTES_MAX;

use super::frame::{HEADER, header, keep_prefix, region_of};
use super::quota::{COUNTED, Intake, Share};
use super::refusal::Refusal;

/// Returns the body of a unary call with bounded memory, and the share that will know whether the call was refused.
pub(crate) fn bounded(intake: &Intake, body: Body) -> (Body, Arc<Share>) {
    let share = intake.begin();
    let unary = UnaryBody { inner: body, share: share.clone(), head: BytesMut::new(), state: State::Head };
    (Body::new(unary), share)
}

/// Returns the response to the call: an error of the key-value protocol if the request was refused.
pub(crate) fn answer(share: &Share, method: &str, response: Response<Body>) -> Response<Body> {
    let refusal = share.refusal.get().copied().or_else(|| {
        // The length of a compressed message is known only now.
        let status = Status::from_header_map(response.headers())?;
        let long = status.code() == tonic::Code::ResourceExhausted && status.message().contains("decompressing");
        long.then_some(Refusal::TooLarge { region: 0, bytes: REQUEST_BYTES_MAX as u64 + 1 })
    });
    let Some(reply) = refusal.and_then(|refusal| refused(method, refusal)) else { return response };
    let mut trailers = http::HeaderMap::new();
    trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
    let frame = Bytes::from([&header(reply.len())[..], &reply].concat());
    let frames = [Ok::<_, Status>(Frame::data(frame)), Ok(Frame::trailers(trailers))];
    let body = http_body_util::StreamBody::new(futures::stream::iter(frames));
    let mut response = Response::new(Body::new(body));
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/grpc"));
    response
}

/// The state of a unary call's body.
enum State {
    /// The frame header is not complete.
    Head,
    /// The body is passed on. `counted`: whether its bytes are counted, as those of large bodies are.
    Pass { counted: bool },
    /// The body is read and dropped, because it has this many bytes. The first ones are in `head`.
    TooLarge(u64),
    /// The body is read and dropped, because the node has no room.
    NoRoom,
}

/// The body of a unary call.
struct UnaryBody {
    inner: Body,
    share: Arc<Share>,
    head: BytesMut,
    state: State,
}

impl UnaryBody {
    /// Takes a piece of the body. Returns the data to pass on.
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
            State::Pass { counted: true } if !self.share.take(data.len()) => {
                self.share.clear();
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

    /// Notes at the end of the body why it was refused, if it was.
    fn end(&mut self) {
        let refusal = match self.state {
            State::Head | State::Pass { .. } => return,
            State::TooLarge(bytes) => Refusal::TooLarge { region: region_of(&self.head), bytes },
            State::NoRoom => Refusal::Busy { region: 0 },
        };
        // Polling again after the end changes nothing.
        let _ = self.share.refusal.set(refusal);
    }
}

impl http_body::Body for UnaryBody {
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
