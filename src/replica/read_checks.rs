//! What a leader's store knows about reads that other stores serve: the interface to its transactions.

use futures::future::BoxFuture;

use crate::proto::armilla::raft::{ReadAt, SafeTime};
use crate::proto::kvrpcpb::LockInfo;
use crate::types::{GroupId, Result};

/// What the transactions of a store say about reads of the regions that it leads.
pub trait ReadChecks: Send + Sync + 'static {
    /// Makes sure that no transaction that is not yet on its way commits at or below the timestamps of these reads.
    /// Returns for each of them a lock of one that is, if it has to wait for it. The caller looks at the commit index,
    /// or at the engine, afterwards.
    fn admit(&self, reads: &[ReadAt]) -> Vec<Option<LockInfo>>;

    /// Returns the safe times of those of these groups that the store leads.
    fn safe_times(&self, groups: Vec<GroupId>) -> BoxFuture<'_, Result<Vec<SafeTime>>>;
}

impl std::fmt::Debug for dyn ReadChecks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ReadChecks")
    }
}
