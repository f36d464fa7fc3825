//! Where responses of the key-value service carry their errors.

use crate::proto::errorpb;
use crate::proto::kvrpcpb::{
    RawBatchDeleteResponse, RawBatchGetResponse, RawBatchPutResponse, RawCasResponse, RawChecksumResponse,
    RawCoprocessorResponse, RawDeleteRangeResponse, RawDeleteResponse, RawGetKeyTtlResponse, RawGetResponse,
    RawPutResponse, RawScanResponse, SplitRegionResponse,
};

/// A response that may carry an error.
pub(crate) trait Reply {
    /// Takes the region error: the request went to the wrong place, or came at the wrong time.
    fn region_error(&mut self) -> Option<errorpb::Error>;
    /// Returns what is wrong with the request itself; empty if nothing is.
    fn error(&self) -> &str;
    /// Returns whether the write to which [`Reply::error`] refers may have happened.
    fn in_doubt(&self) -> bool {
        false
    }
}

macro_rules! replies {
    (writes: $($write:ty),+; reads: $($read:ty),+; pairs: $($many:ty, $pairs:ident);+) => {
        $(impl Reply for $write {
            fn region_error(&mut self) -> Option<errorpb::Error> {
                self.region_error.take().map(|error| *error)
            }
            fn error(&self) -> &str {
                &self.error
            }
            fn in_doubt(&self) -> bool {
                self.outcome_unknown
            }
        })+
        $(impl Reply for $read {
            fn region_error(&mut self) -> Option<errorpb::Error> {
                self.region_error.take().map(|error| *error)
            }
            fn error(&self) -> &str {
                &self.error
            }
        })+
        $(impl Reply for $many {
            fn region_error(&mut self) -> Option<errorpb::Error> {
                self.region_error.take().map(|error| *error)
            }
            fn error(&self) -> &str {
                self.$pairs.iter().find_map(|pair| pair.error.as_ref()).map_or("", |error| match error.abort.as_str() {
                    "" => "a key in the response has an error",
                    why => why,
                })
            }
        })+
    };
}

replies! {
    writes: RawPutResponse, RawBatchPutResponse, RawDeleteResponse, RawBatchDeleteResponse, RawDeleteRangeResponse,
        RawCasResponse;
    reads: RawGetResponse, RawGetKeyTtlResponse, RawChecksumResponse, RawCoprocessorResponse;
    pairs: RawBatchGetResponse, pairs; RawScanResponse, kvs
}

impl Reply for SplitRegionResponse {
    fn region_error(&mut self) -> Option<errorpb::Error> {
        self.region_error.take_if(|error| !has_only_a_message(error)).map(|error| *error)
    }
    /// A response to a split has no other place for an error than a region error.
    fn error(&self) -> &str {
        self.region_error.as_ref().map_or("", |error| &error.message)
    }
}

fn has_only_a_message(error: &errorpb::Error) -> bool {
    *error == errorpb::Error { message: error.message.clone(), ..errorpb::Error::default() }
}
