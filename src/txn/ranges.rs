//! Ranges that are deleted at once, in one region or in the whole cluster.
//!
//! Boundaries come **in**, one command a region goes **out**. **Never**: what was decided before the deletion and is
//! applied after it: the region's version rises with it.

use bytes::Bytes;

use crate::engine::{Cf, Read, Visit};
use crate::proto::armilla::raft::DeleteVersions;
use crate::proto::armilla::raft::region_command::Op;
use crate::proto::kvrpcpb::Context;
use crate::rt::cpu;
use crate::store::{Kv, Route};
use crate::types::{Error, Region, Result, region};

use super::action::Key;
use super::scheduler::Txn;

impl<K: Kv> Txn<K> {
    /// Removes everything that transactions have stored of the keys in `[start, end)` of one region. Whatever was
    /// decided before is refused.
    ///
    /// # Errors
    /// Those of a route and a write ([`Route`]); [`Error::KeyNotInRegion`] if a boundary is outside the region.
    pub async fn delete_range(&self, context: &Context, start: Bytes, end: Bytes) -> Result<()> {
        let route = self.route(context)?;
        let region = route.region().clone();
        let encoded = |key: Bytes| if key.is_empty() { key } else { Key::new(key).encoded };
        let (from, to) = (encoded(start), encoded(end));
        let outside =
            |key: &Bytes| Error::KeyNotInRegion { key: key.clone(), region: Box::new(Region::clone(&region)) };
        if !region::holds(&region, &from) {
            return Err(outside(&from));
        }
        if !region::ends_by(&region, &to) {
            return Err(outside(&to));
        }
        let seen = route.read().await?;
        let (snapshot, range) = (seen.snapshot.clone(), (from.clone(), to.clone()));
        if cpu::run(move || is_empty(&snapshot, &range)).await? {
            return Ok(());
        }
        crate::reach!("txn.range-deleted");
        let delete = DeleteVersions { start_key: from, end_key: to };
        route.write(Op::DeleteVersions(delete), Some(seen.fence)).await.map(drop)
    }

    /// Removes everything that transactions have stored of the keys in `[start, end)`, on all stores.
    ///
    /// # Errors
    /// If a region cannot be reached in time.
    pub async fn delete_everywhere(&self, start: Bytes, end: Bytes) -> Result<()> {
        self.others()?.delete_range(start, end).await
    }
}

/// Returns whether nothing of a range is stored.
fn is_empty(read: &dyn Read, (start, end): &(Bytes, Bytes)) -> Result<bool> {
    let mut empty = true;
    for cf in Cf::TXN {
        read.scan(cf, start, end, &mut |_, _| {
            empty = false;
            Visit::Stop
        })?;
    }
    Ok(empty)
}
