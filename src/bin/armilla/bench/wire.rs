//! Requests, encoded by hand directly into the frame; responses, decoded as far as needed.

use armilla::proto::errorpb;
use armilla::proto::kvrpcpb::{GetResponse, RawGetResponse, RawPutResponse, RawScanResponse};
use bytes::{BufMut, Bytes};
use prost::Message as _;
use prost::encoding::{encode_varint, encoded_len_varint};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

use super::Verb;
use super::keys::KEY_BYTES;

/// A request before it is encoded.
#[derive(Clone, Debug)]
pub struct Call {
    pub verb: Verb,
    /// The encoded context.
    pub context: Bytes,
    pub key: [u8; KEY_BYTES],
    /// The value of a put.
    pub value: Bytes,
    /// The limit of a scan.
    pub limit: u32,
    /// The timestamp of a get from a snapshot.
    pub version: u64,
}

fn field_len(bytes: usize) -> usize {
    1 + encoded_len_varint(bytes as u64) + bytes
}

fn put_field(out: &mut impl BufMut, tag: u8, bytes: &[u8]) {
    out.put_u8(tag << 3 | 2);
    encode_varint(bytes.len() as u64, out);
    out.put_slice(bytes);
}

impl Call {
    /// Returns the path of the gRPC method.
    pub fn path(verb: Verb) -> http::uri::PathAndQuery {
        http::uri::PathAndQuery::from_static(match verb {
            Verb::Put => "/tikvpb.Tikv/RawPut",
            Verb::Get => "/tikvpb.Tikv/RawGet",
            Verb::Scan => "/tikvpb.Tikv/RawScan",
            Verb::SnapshotGet => "/tikvpb.Tikv/KvGet",
        })
    }

    /// Returns the length of the encoded request in bytes.
    pub fn len(&self) -> usize {
        let common = field_len(self.context.len()) + field_len(KEY_BYTES);
        match self.verb {
            Verb::Get => common,
            Verb::Put => common + field_len(self.value.len()),
            Verb::Scan => common + 1 + encoded_len_varint(u64::from(self.limit)),
            Verb::SnapshotGet => common + 1 + encoded_len_varint(self.version),
        }
    }

    /// Encodes the request. In all of these messages, the context is field 1 and the key field 2. A put's value, a
    /// scan's limit and a snapshot's timestamp are field 3.
    pub fn put_to(&self, out: &mut impl BufMut) {
        put_field(out, 1, &self.context);
        put_field(out, 2, &self.key);
        match self.verb {
            Verb::Get => {}
            Verb::Put => put_field(out, 3, &self.value),
            Verb::Scan => {
                out.put_u8(3 << 3);
                encode_varint(u64::from(self.limit), out);
            }
            Verb::SnapshotGet => {
                out.put_u8(3 << 3);
                encode_varint(self.version, out);
            }
        }
    }

    /// Returns the field number of the request in `BatchCommandsRequest.Request`.
    fn batch_tag(&self) -> u32 {
        match self.verb {
            Verb::Get => 13,
            Verb::Put => 15,
            Verb::Scan => 19,
            Verb::SnapshotGet => 1,
        }
    }
}

/// A `BatchCommandsRequest` that is being built.
#[derive(Debug, Default)]
pub struct Batch {
    requests: Vec<u8>,
    ids: Vec<u64>,
}

impl Batch {
    /// Adds a request.
    pub fn push(&mut self, id: u64, call: &Call) {
        let inner = call.len();
        let key = u64::from(call.batch_tag() << 3 | 2);
        let request = encoded_len_varint(key) + encoded_len_varint(inner as u64) + inner;
        self.requests.put_u8(1 << 3 | 2);
        encode_varint(request as u64, &mut self.requests);
        encode_varint(key, &mut self.requests);
        encode_varint(inner as u64, &mut self.requests);
        call.put_to(&mut self.requests);
        self.ids.push(id);
    }

    /// Returns whether the batch has no request.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Returns the encoded message and empties the batch.
    pub fn take(&mut self) -> Bytes {
        let ids: usize = self.ids.iter().map(|id| encoded_len_varint(*id)).sum();
        let mut out = std::mem::take(&mut self.requests);
        out.reserve(ids + 11);
        out.put_u8(2 << 3 | 2);
        encode_varint(ids as u64, &mut out);
        for id in self.ids.drain(..) {
            encode_varint(id, &mut out);
        }
        out.into()
    }
}

/// The result that a response reports.
#[derive(Debug, PartialEq)]
pub enum Answer {
    /// Success, with the number of pairs in the response.
    Fine(u64),
    /// Failure, with the reason.
    Bad(String),
}

fn judge(region_error: Option<Box<errorpb::Error>>, error: &str, pairs: u64) -> Answer {
    match region_error {
        Some(error) => Answer::Bad(error.message),
        None if !error.is_empty() => Answer::Bad(error.to_owned()),
        None => Answer::Fine(pairs),
    }
}

/// Classifies the response to a put.
pub fn judge_put(reply: RawPutResponse) -> Answer {
    judge(reply.region_error, &reply.error, 1)
}

/// Classifies the response to a get.
pub fn judge_get(reply: RawGetResponse) -> Answer {
    judge(reply.region_error, &reply.error, u64::from(!reply.not_found))
}

/// Classifies the response to a scan.
pub fn judge_scan(reply: RawScanResponse) -> Answer {
    let error = reply.kvs.first().and_then(|pair| pair.error.as_ref()).map_or("", |error| error.abort.as_str());
    judge(reply.region_error, error, reply.kvs.len() as u64)
}

/// Classifies the response to a get from a snapshot. A lock in the way is a failure: nothing else writes meanwhile.
pub fn judge_snapshot_get(reply: GetResponse) -> Answer {
    let error = match &reply.error {
        Some(error) if error.locked.is_some() => "a key is locked",
        Some(error) => error.abort.as_str(),
        None => "",
    };
    judge(reply.region_error, error, u64::from(!reply.not_found))
}

/// Encodes a [`Call`] and decodes an [`Answer`].
#[derive(Clone, Copy, Debug)]
pub struct CallCodec(pub Verb);

impl Codec for CallCodec {
    type Encode = Call;
    type Decode = Answer;
    type Encoder = CallCodec;
    type Decoder = CallCodec;
    fn encoder(&mut self) -> CallCodec {
        *self
    }
    fn decoder(&mut self) -> CallCodec {
        *self
    }
}

impl Encoder for CallCodec {
    type Item = Call;
    type Error = Status;
    fn encode(&mut self, call: Call, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.reserve(call.len());
        call.put_to(out);
        Ok(())
    }
}

impl Decoder for CallCodec {
    type Item = Answer;
    type Error = Status;
    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Answer>, Status> {
        let answer = match self.0 {
            Verb::Put => RawPutResponse::decode(buffer).map(judge_put),
            Verb::Get => RawGetResponse::decode(buffer).map(judge_get),
            Verb::Scan => RawScanResponse::decode(buffer).map(judge_scan),
            Verb::SnapshotGet => GetResponse::decode(buffer).map(judge_snapshot_get),
        };
        answer.map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}

/// Sends encoded `BatchCommandsRequest`s and decodes the responses.
#[derive(Clone, Copy, Debug)]
pub struct BatchCodec;

impl Codec for BatchCodec {
    type Encode = Bytes;
    type Decode = armilla::proto::tikvpb::BatchCommandsResponse;
    type Encoder = BatchCodec;
    type Decoder = BatchCodec;
    fn encoder(&mut self) -> BatchCodec {
        BatchCodec
    }
    fn decoder(&mut self) -> BatchCodec {
        BatchCodec
    }
}

impl Encoder for BatchCodec {
    type Item = Bytes;
    type Error = Status;
    fn encode(&mut self, message: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(message);
        Ok(())
    }
}

impl Decoder for BatchCodec {
    type Item = armilla::proto::tikvpb::BatchCommandsResponse;
    type Error = Status;
    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Self::Item>, Status> {
        let reply = armilla::proto::tikvpb::BatchCommandsResponse::decode(buffer);
        reply.map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use armilla::proto::kvrpcpb::{Context, GetRequest, RawGetRequest, RawPutRequest, RawScanRequest};
    use armilla::proto::tikvpb::BatchCommandsRequest;
    use armilla::proto::tikvpb::batch_commands_request::request::Cmd;

    fn call(verb: Verb) -> (Call, Context) {
        let context = Context { region_id: 7, term: 300, ..Context::default() };
        let encoded = context.encode_to_vec().into();
        let value = Bytes::from(vec![9; 300]);
        (Call { verb, context: encoded, key: *b"0123456789abcdef", value, limit: 500, version: 1 << 60 }, context)
    }

    #[test]
    fn what_is_written_by_hand_is_what_prost_reads() {
        let key = Bytes::from_static(b"0123456789abcdef");
        let encoded = |call: &Call| {
            let mut out = Vec::new();
            call.put_to(&mut out);
            assert_eq!(out.len(), call.len());
            Bytes::from(out)
        };
        let (put, context) = call(Verb::Put);
        let expected =
            RawPutRequest { context: Some(context), key: key.clone(), value: put.value.clone(), ..Default::default() };
        assert_eq!(RawPutRequest::decode(encoded(&put)).unwrap(), expected);
        let (get, context) = call(Verb::Get);
        let expected = RawGetRequest { context: Some(context), key: key.clone(), ..Default::default() };
        assert_eq!(RawGetRequest::decode(encoded(&get)).unwrap(), expected);
        let (scan, context) = call(Verb::Scan);
        let expected = RawScanRequest { context: Some(context), start_key: key, limit: 500, ..Default::default() };
        assert_eq!(RawScanRequest::decode(encoded(&scan)).unwrap(), expected);
        let (get, context) = call(Verb::SnapshotGet);
        let key = get.key.to_vec().into();
        let expected = GetRequest { context: Some(context), key, version: 1 << 60, ..Default::default() };
        assert_eq!(GetRequest::decode(encoded(&get)).unwrap(), expected);
    }

    #[test]
    fn a_batch_holds_its_requests_in_order() {
        let mut batch = Batch::default();
        assert!(batch.is_empty());
        batch.push(3, &call(Verb::Put).0);
        batch.push(300, &call(Verb::Get).0);
        batch.push(5, &call(Verb::Scan).0);
        let message = BatchCommandsRequest::decode(batch.take()).unwrap();
        assert_eq!(message.request_ids, [3, 300, 5]);
        let kinds: Vec<_> = message.requests.iter().map(|request| request.cmd.as_ref().unwrap()).collect();
        assert!(matches!(kinds[..], [Cmd::RawPut(_), Cmd::RawGet(_), Cmd::RawScan(_)]), "{kinds:?}");
        assert!(batch.is_empty() && BatchCommandsRequest::decode(batch.take()).unwrap().requests.is_empty());
    }
}
