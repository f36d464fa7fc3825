//! Where replies of the key-value service carry their failures.

use crate::proto::errorpb;
use crate::proto::kvrpcpb::{
    RawBatchDeleteResponse, RawBatchGetResponse, RawBatchPutResponse, RawCasResponse, RawChecksumResponse,
    RawCoprocessorResponse, RawDeleteRangeResponse, RawDeleteResponse, RawGetKeyTtlResponse, RawGetResponse,
    RawPutResponse, RawScanResponse,
};

/// A reply that may carry a failure.
pub(super) trait Reply {
    /// The request went to the wrong place, or at the wrong time.
    fn region_error(&mut self) -> Option<errorpb::Error>;
    /// The request itself failed; empty when it did not.
    fn error(&self) -> &str;
}

macro_rules! replies {
    (with text: $($with:ty),+; without: $($without:ty),+) => {
        $(impl Reply for $with {
            fn region_error(&mut self) -> Option<errorpb::Error> {
                self.region_error.take()
            }
            fn error(&self) -> &str {
                &self.error
            }
        })+
        $(impl Reply for $without {
            fn region_error(&mut self) -> Option<errorpb::Error> {
                self.region_error.take()
            }
            fn error(&self) -> &str {
                ""
            }
        })+
    };
}

replies! {
    with text: RawGetResponse, RawPutResponse, RawBatchPutResponse, RawDeleteResponse, RawBatchDeleteResponse,
        RawDeleteRangeResponse, RawGetKeyTtlResponse, RawCasResponse, RawChecksumResponse, RawCoprocessorResponse;
    without: RawBatchGetResponse, RawScanResponse
}
