//! The other stores, as transactions of this one need them.

use bytes::Bytes;
use futures::future::BoxFuture;

use crate::proto::armilla::pd::{Circle, Wait};
use crate::proto::kvrpcpb::LockInfo;
use crate::types::Result;

/// The other stores of the cluster, as a client sees them.
pub trait Others: std::fmt::Debug + Send + Sync + 'static {
    /// Ends locks of one transaction, if it is decided or its locks have expired. Returns whether they are gone.
    fn end(&self, locks: Vec<LockInfo>) -> BoxFuture<'_, Result<bool>>;

    /// Tells the placement driver who waits here, in a report with a number above that of all before. Returns the
    /// circles that are to be opened here.
    fn report_waits(&self, number: u64, waits: Vec<Wait>) -> BoxFuture<'_, Result<Vec<Circle>>>;

    /// Removes everything that transactions have stored of the keys in `[start, end)`, wherever that is.
    fn delete_range(&self, start: Bytes, end: Bytes) -> BoxFuture<'_, Result<()>>;
}
