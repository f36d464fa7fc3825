//! Splitting a region of which this store's peer is the leader.
//!
//! Keys come **in**; a command with fresh IDs goes **out** to the region's group, in as many steps as the keys need.
//! **Never**: a region that is split at a key outside it, or with IDs that something else has.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;

use crate::codec::txn_key;
use crate::proto::armilla::raft::{NewRegion, Split, region_command};
use crate::region::command;
use crate::types::limits::{KEY_BYTES_MAX, SPLIT_KEYS_BYTES_MAX, SPLIT_KEYS_MAX};
use crate::types::{Error, Region, Result, region, version};

use super::PdLink;

/// The version of the cluster's protocol, as the placement driver last reported it; 0 before that. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct ClusterVersion(Arc<AtomicU32>);

impl ClusterVersion {
    /// Sets the version.
    pub fn set(&self, version: u32) {
        self.0.fetch_max(version, Ordering::Relaxed);
    }

    fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a split needs from outside the store.
#[derive(Clone)]
pub struct Splits {
    /// Gives out IDs.
    pub pd: Arc<dyn PdLink>,
    /// The cluster's ID.
    pub cluster: u64,
    /// The version of the cluster's protocol.
    pub version: ClusterVersion,
}

impl fmt::Debug for Splits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Splits").field("cluster", &self.cluster).field("version", &self.version).finish_non_exhaustive()
    }
}

impl Splits {
    /// Checks that every node of the cluster knows how to split a region.
    ///
    /// # Errors
    /// [`Error::Busy`]: in a new cluster, or after an upgrade, every node knows it soon, so clients try again.
    pub(super) fn check_version(&self) -> Result<()> {
        let cluster = self.version.get();
        if cluster >= version::SPLITS || crate::mutant!("store.version-not-awaited") {
            return Ok(());
        }
        Err(Error::Busy(format!(
            "regions cannot be split yet: the cluster uses version {cluster} of its protocol, splits need version {}. \
             That is over a few seconds after every node runs a version of Armilla that knows it",
            version::SPLITS
        )))
    }

    /// Checks that every node of the cluster knows an operation.
    ///
    /// # Errors
    /// As [`Splits::check_version`].
    pub(super) fn check_known(&self, op: &region_command::Op) -> Result<()> {
        let (cluster, since) = (self.version.get(), command::since(op));
        if since <= 1 || cluster >= since || crate::mutant!("store.version-not-awaited") {
            return Ok(());
        }
        Err(Error::Busy(format!(
            "the cluster uses version {cluster} of its protocol, the request needs version {since}. That is over a few \
             seconds after every node runs a version of Armilla that knows it"
        )))
    }

    /// Returns the command that splits `region` at the first of `keys`, and how many keys that are.
    pub(super) async fn next(&self, region: &Region, keys: &[Bytes]) -> Result<(Split, usize)> {
        let mut bytes = 0;
        let fits = |key: &&Bytes| {
            bytes += key.len();
            bytes <= SPLIT_KEYS_BYTES_MAX
        };
        let count = keys.iter().take(SPLIT_KEYS_MAX).take_while(fits).count().max(1);
        let of_each = 1 + region.peers.len() as u64;
        let ids = (count as u64 * of_each) as u32;
        let first = self.pd.alloc_ids(self.cluster, ids).await;
        let first = first.map_err(|error| Error::Timeout(format!("the placement driver gave out no IDs: {error}")))?;
        let new = |n: u64| {
            let id = first + n * of_each;
            NewRegion { id, peer_ids: (id + 1..id + of_each).collect() }
        };
        Ok((Split { keys: keys[..count].to_vec(), regions: (0..count as u64).map(new).collect() }, count))
    }
}

/// Returns the keys at which `region` is to be split: sorted, each once, without its start key, at which there is a
/// boundary already.
///
/// # Errors
/// [`Error::KeyNotInRegion`]; [`Error::Invalid`] if a key is too long or none is left.
pub(super) fn split_keys(region: &Region, mut keys: Vec<Bytes>) -> Result<Vec<Bytes>> {
    keys.sort();
    keys.dedup();
    if let Some(long) = keys.iter().find(|key| key.len() > KEY_BYTES_MAX) {
        return Err(Error::Invalid(format!(
            "a key of {} bytes is over the limit of {KEY_BYTES_MAX} bytes",
            long.len()
        )));
    }
    if let Some(outside) = keys.iter().find(|key| !key.is_empty() && !region::holds(region, key)) {
        return Err(Error::KeyNotInRegion { key: outside.clone(), region: Box::new(region.clone()) });
    }
    // A boundary never cuts the versions of one key apart.
    if !crate::mutant!("store.boundary-among-versions") {
        keys.iter_mut().for_each(|key| key.truncate(txn_key::boundary(key).len()));
    }
    keys.dedup();
    keys.retain(|key| !key.is_empty() && *key > region.start_key);
    if keys.is_empty() {
        return Err(Error::Invalid(format!(
            "region {} is not split: give at least one key inside it that is not its start key",
            region.id
        )));
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    //! Goal: exactly the keys inside are used. Method: a table.
    use super::*;

    #[test]
    fn keys_inside_the_region_count_once() {
        let region = Region { id: 7, start_key: "b".into(), end_key: "m".into(), ..Region::default() };
        let split = |keys: &[&'static str]| {
            split_keys(&region, keys.iter().map(|key| Bytes::from_static(key.as_bytes())).collect())
        };
        assert_eq!(split(&["d", "c", "d", "b"]).unwrap(), ["c", "d"]);
        for outside in ["a", "m", "z"] {
            assert!(matches!(split(&["c", outside]), Err(Error::KeyNotInRegion { .. })), "{outside}");
        }
        for none in [&[][..], &["b"], &["", "b"]] {
            assert!(matches!(split(none), Err(Error::Invalid(_))), "{none:?}");
        }
        let long = Bytes::from(vec![b'c'; KEY_BYTES_MAX + 1]);
        assert!(matches!(split_keys(&region, vec![long]), Err(Error::Invalid(_))));
    }
}
