//! Splits regions that have become too large.
//!
//! Measured sizes of the regions that this store leads come **in**; splits go **out**, at keys that divide the data
//! about evenly. **Never**: two pieces of a region where one would be too large at once: a region of many times the
//! limit is split into many.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::codec::txn_key;
use crate::engine::{Cf, CursorOptions, KvEngine, key_at};
use crate::rt::cpu;
use crate::rt::sync::watch;
use crate::types::limits::SIZE_SPLIT_KEYS_MAX;
use crate::types::{GroupId, Region, Result, region};

use super::heartbeat::Size;
use super::kv::Route;
use super::region_store::RegionStore;

/// Sizes of regions, each with the version in which the region was measured.
pub type Measured = Arc<BTreeMap<GroupId, (u64, Size)>>;

/// The task that splits large regions.
#[derive(Debug)]
pub struct SizeSplits {
    /// The store's regions.
    pub regions: RegionStore,
    /// Receives the sizes of the regions that are led here.
    pub sizes: watch::Receiver<Measured>,
    /// Bytes of data above which a region is split; 0: never.
    pub bytes_max: u64,
}

impl SizeSplits {
    /// Runs until it is dropped.
    pub async fn run(mut self) {
        if self.bytes_max == 0 {
            return std::future::pending().await;
        }
        while self.sizes.changed().await.is_ok() {
            let measured = self.sizes.borrow_and_update().clone();
            for (group, (version, size)) in measured.iter().filter(|(_, (_, size))| size.bytes > self.bytes_max) {
                if let Err(error) = self.split(*group, *version, size.bytes).await {
                    // It is tried again after the next measurement.
                    tracing::debug!(%group, bytes = size.bytes, %error, "could not split a large region");
                }
            }
        }
    }

    async fn split(&self, group: GroupId, version: u64, bytes: u64) -> Result<()> {
        let Some(route) = self.regions.own_route(group) else { return Ok(()) };
        let region = route.region().clone();
        if region::epoch(&region).version != version {
            return Ok(());
        }
        // Pieces of two thirds of the limit at most, so that they can grow before they are split again.
        let pieces = bytes.div_ceil((self.bytes_max * 2 / 3).max(1)).clamp(2, SIZE_SPLIT_KEYS_MAX as u64 + 1);
        let engine = self.regions.handle().engine().clone();
        let keys = cpu::run_long(move || split_keys(&engine, &region, pieces)).await?;
        if keys.is_empty() {
            return Ok(());
        }
        crate::reach!("store.large-region-split");
        tracing::info!(%group, bytes, pieces = keys.len() + 1, "splitting a large region");
        route.split(keys).await.map(drop)
    }
}

/// Returns the keys that divide a region's data into about equal pieces.
fn split_keys(engine: &impl KvEngine, region: &Region, pieces: u64) -> Result<Vec<Bytes>> {
    let (start, end) = (&region.start_key, &region.end_key);
    let mut largest = None;
    for cf in Cf::all_of_regions() {
        let bytes = engine.approximate_bytes(cf, start, end)?;
        if largest.is_none_or(|(_, most)| bytes > most) {
            largest = Some((cf, bytes));
        }
    }
    let Some((cf, bytes)) = largest else { return Ok(Vec::new()) };
    let mut keys = Vec::new();
    for piece in 1..pieces {
        let options = CursorOptions { fill_cache: false, ..CursorOptions::keys_only() };
        let mut cursor = engine.cursor(cf, start, end, options)?;
        let before = |key: &[u8]| engine.approximate_bytes(cf, start, key);
        let found = key_at(&mut *cursor, start, bytes / pieces * piece, before)?;
        // All versions of one key stay together.
        keys.extend(found.map(|key| key.slice(..txn_key::boundary(&key).len())).filter(|key| key > start));
    }
    keys.dedup();
    Ok(keys)
}

#[cfg(test)]
mod tests {
    //! Goal: split keys divide the data evenly and are strictly inside. Method: keys of several forms in the simulated
    //! engine.
    use super::*;
    use crate::engine::{SimEngine, SimStorage, WriteBatch};

    fn engine(keys: &[String], bytes: usize) -> SimEngine {
        let engine = SimEngine::open(&SimStorage::new()).expect("an engine");
        let mut batch = WriteBatch::new();
        for key in keys {
            batch.put(Cf::RawDefault, key.clone(), vec![b'v'; bytes]);
        }
        engine.write(&batch).expect("a write");
        engine
    }

    #[test]
    fn pieces_are_about_equal() {
        let forms: [fn(u32) -> String; 3] =
            [|n| format!("user{n:08}"), |n| format!("{:x}", n * 7919), |n| format!("{}{n}", "p".repeat(100))];
        for form in forms {
            let mut keys: Vec<String> = (0..1000).map(form).collect();
            keys.sort();
            let engine = engine(&keys, 100);
            let region = Region { id: 4, ..Region::default() };
            let keys_found = split_keys(&engine, &region, 4).expect("split keys");
            let place = |split: &Bytes| keys.iter().position(|key| key.as_bytes() == split).expect("a key of the data");
            let places: Vec<usize> = keys_found.iter().map(place).collect();
            let even = |(at, place): (usize, &usize)| place.abs_diff(250 * (at + 1)) <= 50;
            assert!(places.len() == 3 && places.iter().enumerate().all(even), "{places:?}");
        }
    }

    #[test]
    fn one_key_is_not_divided() {
        let engine = engine(&["a".to_owned()], 1 << 20);
        let region = Region { id: 4, start_key: "a".into(), end_key: "b".into(), ..Region::default() };
        assert_eq!(split_keys(&engine, &region, 2), Ok(vec![]));
        let empty = Region { id: 4, start_key: "x".into(), ..Region::default() };
        assert_eq!(split_keys(&engine, &empty, 2), Ok(vec![]));
    }
}
