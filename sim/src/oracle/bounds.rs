//! A store's resources are bounded: its log by the configuration, and an idle store holds nothing that was in progress.
//!
//! Source: a system with limits on everything stays up under load (TigerBeetle's static allocation is the strictest
//! form).
//!
//! The bytes of the log's files are counted on the simulated disk. They are judged once the cluster has recovered:
//! until then a follower that was away, an engine that does not flush, or a start that copies may keep more.

use std::collections::BTreeMap;

use armilla::node::Config;

/// Smaller segments are not judged: releasing a segment takes two ticks and writes two pages, half of a small segment.
const SEGMENT_KIB_MIN: u64 = 64;

/// Returns how many bytes an idle store's log may take, if the configuration bounds it. A record is not split: a file
/// with a large record is longer than a segment, and keeps its length when it is reused.
pub fn log_bytes_max(config: &Config, groups: u64, longest_file: u64) -> Option<u64> {
    let raft = &config.raft;
    if raft.log_segment_kib < SEGMENT_KIB_MIN {
        return None;
    }
    let by_store = Some(raft.log_store_kib_max).filter(|kib| *kib > 0);
    let by_group = Some(groups * raft.log_group_kib_max);
    let live_kib = by_store.into_iter().chain(by_group).min()?;
    // Entries that no flush has made durable are always kept, and a run of entries is not divided.
    let held_kib = raft.log_soft_max_kib.max(2 * (live_kib + raft.flush_kib));
    // The file of a finished segment ends with its last record. The active one and the spares keep their greatest
    // length.
    let files = raft.log_spare_segments_max as u64 + 2;
    Some((held_kib << 10) + files * longest_file.max(raft.log_segment_kib << 10))
}

/// Describes what an idle store still holds, or holds beyond its limit, if there is anything.
pub fn left_over(figures: &BTreeMap<&'static str, u64>, staged: usize, config: &Config) -> Option<String> {
    let held = |name: &str| figures.get(name).copied().filter(|held| *held > 0).map(|held| format!("{name} = {held}"));
    let pending = ["proposals_pending", "proposal_bytes_pending", "entries_unapplied_bytes", "inbox_bytes"]
        .into_iter()
        .find_map(held);
    // Everything is applied: entries in memory are kept for followers.
    let cache_bytes_max = (figures.get("groups").copied().unwrap_or(0) * config.raft.cache_kib_max as u64) << 10;
    let cached = figures.get("entries_cached_bytes").copied().filter(|bytes| *bytes > cache_bytes_max);
    let cached = cached.map(|bytes| format!("{bytes} bytes of entries in memory, {cache_bytes_max} allowed"));
    pending.or(cached).or((staged > 0).then(|| format!("{staged} staged snapshot files")))
}

#[cfg(test)]
mod tests {
    //! Goal: the bound follows from the configuration, and leftovers are named.
    use super::*;

    #[test]
    fn bounds() {
        let mut config = Config::default();
        config.raft.log_segment_kib = 64;
        config.raft.log_spare_segments_max = 1;
        config.raft.log_soft_max_kib = 64;
        config.raft.log_group_kib_max = 1000;
        config.raft.log_store_kib_max = 100;
        config.raft.flush_kib = 10;
        assert_eq!(log_bytes_max(&config, 3, 1000), Some((220 + 192) << 10));
        config.raft.log_store_kib_max = 0;
        config.raft.log_group_kib_max = 1;
        assert_eq!(log_bytes_max(&config, 3, 128 << 10), Some((64 + 3 * 128) << 10));
        config.raft.cache_kib_max = 1;
        let left_over = |name, value, staged| left_over(&[("groups", 3), (name, value)].into(), staged, &config);
        assert!(left_over("proposals_pending", 0, 0).is_none());
        assert!(left_over("proposals_pending", 2, 0).is_some());
        assert!(left_over("proposals_pending", 0, 1).is_some());
        assert!(left_over("entries_cached_bytes", 3 << 10, 0).is_none());
        assert!(left_over("entries_cached_bytes", (3 << 10) + 1, 0).is_some());
    }
}
