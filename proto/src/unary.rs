//! Unary calls, with one codec for all of them.
//!
//! Typed messages come in and go out; tonic's transport sees bytes. So its code is compiled once, and not once for each
//! pair of messages: that was a quarter of the store's code. `build.rs` puts [`call`] and [`Method`] into the generated
//! clients and servers. Calls with streams use tonic's own codec.
//!
//! A message must never be encoded twice, or copied after it was encoded: it goes into the transport's buffer directly,
//! and what is decoded shares the memory of the frame that it came in.

use std::future::{Future, ready};
use std::pin::Pin;

use bytes::{Buf, Bytes};
use http::uri::PathAndQuery;
use prost::Message;
use tonic::body::Body;
use tonic::client::{Grpc, GrpcService};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::{Body as HttpBody, StdError};
use tonic::server::UnaryService;
use tonic::{Request, Response, Status};

/// A message on its way out.
pub struct Outgoing(Box<dyn Encode>);

trait Encode: Send + Sync {
    fn encode(&self, buf: &mut EncodeBuf<'_>);
}

impl<M: Message> Encode for M {
    fn encode(&self, buf: &mut EncodeBuf<'_>) {
        Message::encode(self, buf).expect("the buffer grows");
    }
}

impl Outgoing {
    fn new(message: impl Message + 'static) -> Outgoing {
        Outgoing(Box::new(message))
    }
}

/// Returns the message that `bytes` encode.
///
/// # Errors
/// Returns INTERNAL, as tonic's own codec does.
fn decode<M: Message + Default>(bytes: Bytes) -> Result<M, Status> {
    M::decode(bytes).map_err(|error| Status::internal(error.to_string()))
}

/// The codec of all unary calls.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shared;

impl Codec for Shared {
    type Encode = Outgoing;
    type Decode = Bytes;
    type Encoder = Shared;
    type Decoder = Shared;

    fn encoder(&mut self) -> Shared {
        Shared
    }

    fn decoder(&mut self) -> Shared {
        Shared
    }
}

impl Encoder for Shared {
    type Item = Outgoing;
    type Error = Status;

    fn encode(&mut self, item: Outgoing, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.0.encode(buf);
        Ok(())
    }
}

impl Decoder for Shared {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buf.copy_to_bytes(buf.remaining())))
    }
}

/// Sends a request and returns its response.
///
/// # Errors
/// Returns the server's error, that of the transport, or INTERNAL for a response that cannot be decoded.
pub async fn call<T, Q, R>(
    channel: &mut Grpc<T>,
    request: Request<Q>,
    path: PathAndQuery,
) -> Result<Response<R>, Status>
where
    T: GrpcService<Body>,
    T::ResponseBody: HttpBody<Data = Bytes> + Send + 'static,
    <T::ResponseBody as HttpBody>::Error: Into<StdError>,
    Q: Message + 'static,
    R: Message + Default,
{
    let response = channel.unary(request.map(Outgoing::new), path, Shared).await?;
    let (metadata, bytes, extensions) = response.into_parts();
    Ok(Response::from_parts(metadata, decode(bytes)?, extensions))
}

type Answer<R> = Pin<Box<dyn Future<Output = Result<Response<R>, Status>> + Send>>;

/// The handler of one call of one request, without its types.
pub struct Method(Box<dyn FnMut(Request<Bytes>) -> Answer<Outgoing> + Send>);

impl Method {
    /// Takes a generated handler.
    pub fn new<Q, S>(mut service: S) -> Method
    where
        S: UnaryService<Q, Future = Answer<<S as UnaryService<Q>>::Response>> + Send + 'static,
        Q: Message + Default + 'static,
        S::Response: Message + 'static,
    {
        Method(Box::new(move |request| {
            let (metadata, extensions, bytes) = request.into_parts();
            match decode(bytes) {
                Ok(message) => {
                    let answer = service.call(Request::from_parts(metadata, extensions, message));
                    Box::pin(async move { Ok(answer.await?.map(Outgoing::new)) })
                }
                Err(status) => Box::pin(ready(Err(status))),
            }
        }))
    }
}

impl UnaryService<Bytes> for Method {
    type Response = Outgoing;
    type Future = Answer<Outgoing>;

    fn call(&mut self, request: Request<Bytes>) -> Answer<Outgoing> {
        (self.0)(request)
    }
}
