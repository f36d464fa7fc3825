//! Version numbers: Armilla's own, and the version of TiKV that Armilla reports to clients.

/// The version of TiKV and PD that stores and members report in `Store.version` and `Member.binary_version`.
///
/// TiKV's clients and tools choose their requests by it, so it names the protocol that is spoken here, not this
/// program:
///
/// - client-java parses it as three numbers and prints a stack trace for anything else ("" or "8.5.0+x"); below 6.1.0
///   it refuses API V2, below 4.0.0 it resolves locks without async commit;
/// - TiKV's backup tools of 8.x want 8.2 or newer, and refuse 9.x as too new;
/// - PD takes the minimum over all stores for the cluster's version and enables features by it.
///
/// It is a plain number without a leading `v` or a suffix, as TiKV itself reports it. The version of Armilla that
/// really runs is in [`BUILD`], which `Store.git_hash` and `Member.git_hash` carry.
pub const TIKV_VERSION: &str = "8.5.0";

/// The version of the cluster's protocol that this build supports: which replicated commands and records it knows.
///
/// The placement driver keeps the version of the cluster, which is the lowest version that any of its nodes supports.
/// Nothing newer is proposed, because an older node would skip it while others apply it. Raise this number for a new
/// command, or for a new field that changes what a command does.
///
/// | version | what is new |
/// |---|---|
/// | 1 | the first version |
/// | 2 | `PdCommand.store_started`: the placement driver remembers the runs of stores |
/// | 3 | `RegionCommand.split` |
/// | 4 | `RegionCommand.change_peers` |
/// | 5 | `RegionCommand.prepare_merge` and the other steps of a merge |
/// | 6 | `PdCommand.set_store_labels` |
/// | 7 | `PdCommand.change_members` |
/// | 8 | `PdCommand.change_settings` and `PdCommand.replace_store` |
/// | 9 | transactional writes; removals of stores that are taken back; the schedulers that shuffle |
/// | 10 | `RegionCommand.collect_versions` and `PdCommand.change_safe_points` |
/// | 11 | `PdCommand.change_keyspace`; API V2, with which a cluster is founded; locks in shared mode |
pub const PROTOCOL: u32 = 11;

/// The version of the protocol that introduced splits of regions.
pub const SPLITS: u32 = 3;

/// The version of the protocol that introduced changes of a region's peers.
pub const MEMBERS: u32 = 4;

/// The version of the protocol that introduced merges of regions.
pub const MERGES: u32 = 5;

/// The version of the protocol that introduced labels of stores.
pub const LABELS: u32 = 6;

/// The version of the protocol that introduced changes of the placement driver's own members.
pub const PD_MEMBERS: u32 = 7;

/// The version of the protocol that introduced settings of the placement driver, and stores that replace lost ones.
pub const SETTINGS: u32 = 8;

/// The version of the protocol that introduced transactions.
pub const TRANSACTIONS: u32 = 9;

/// The version of the protocol that introduced removals of stores that are taken back, and schedulers that shuffle.
pub const TAKEN_BACK: u32 = 9;

/// The version of the protocol that introduced the removal of old versions.
pub const SAFE_POINTS: u32 = 10;

/// The version of the protocol that introduced keyspaces.
pub const KEYSPACES: u32 = 11;

/// The version of the protocol that introduced locks in shared mode.
pub const SHARED_LOCKS: u32 = 11;

/// Armilla's own version, in the form in which `Store.git_hash` and `Member.git_hash` carry it.
pub const BUILD: &str = concat!("armilla-", env!("CARGO_PKG_VERSION"));

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: client-java and PD's tools can parse the version. Method: their rule, which is three numbers and nothing
    /// else.
    #[test]
    fn the_version_is_three_numbers() {
        let numbers: Vec<u32> = TIKV_VERSION.split('.').map(|part| part.parse().expect("a number")).collect();
        assert_eq!(numbers.len(), 3, "{TIKV_VERSION}");
        assert!(numbers[0] == 8 && numbers[1] >= 2, "{TIKV_VERSION}: see the documentation of the constant");
    }
}
