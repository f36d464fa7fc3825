//! Where replies of the key-value service carry their failures.

use crate::proto::errorpb;
use crate::proto::kvrpcpb::{
    RawBatchDeleteResponse, RawBatchGetResponse, RawBatchPutResponse, RawCasResponse, RawChecksumResponse,
    RawDeleteRangeResponse, RawDeleteResponse, RawGetKeyTtlResponse, RawGetResponse, RawPutResponse, RawScanResponse,
};

/// A reply that may carry a failure.
pub(super) trait Reply {
    /// The request went to the wrong place, or at the wrong time.
    fn region_error(&mut self) -> Option<errorpb::Error>;
    /// What went wrong with the request itself; empty when nothing did.
    fn error(&self) -> &str;
    /// Whether the write that [`Reply::error`] is about may have happened.
    fn in_doubt(&self) -> bool {
        false
    }
}

macro_rules! replies {
    (writes: $($write:ty),+; reads: $($read:ty),+; pairs: $($many:ty, $pairs:ident);+) => {
        $(impl Reply for $write {
            fn region_error(&mut self) -> Option<errorpb::Error> {
                self.region_error.take()
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
                self.region_error.take()
            }
            fn error(&self) -> &str {
                &self.error
            }
        })+
        $(impl Reply for $many {
            fn region_error(&mut self) -> Option<errorpb::Error> {
                self.region_error.take()
            }
            fn error(&self) -> &str {
                self.$pairs.iter().find_map(|pair| pair.error.as_ref()).map_or("", |error| match error.abort.as_str() {
                    "" => "a key of the answer has an error",
                    why => why,
                })
            }
        })+
    };
}

replies! {
    writes: RawPutResponse, RawBatchPutResponse, RawDeleteResponse, RawBatchDeleteResponse, RawDeleteRangeResponse,
        RawCasResponse;
    reads: RawGetResponse, RawGetKeyTtlResponse, RawChecksumResponse;
    pairs: RawBatchGetResponse, pairs; RawScanResponse, kvs
}
