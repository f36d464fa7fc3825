//! The meaning of the statistics in `/status`: the help of `/metrics` and the tooltips of the status page.

/// A statistic of a module.
#[derive(Clone, Copy, Debug)]
pub struct Figure {
    /// `raft`, `log`, `engine`, `load`, `txn` or `pd`.
    pub room: &'static str,
    /// The name in `/status`; in `/metrics` it is `armilla_ROOM_NAME`.
    pub name: &'static str,
    /// Whether the value is a counter, which only increases, from 0 at the start of the process.
    pub counts: bool,
    /// What the value means, with its unit.
    pub help: &'static str,
}

const fn gauge(room: &'static str, name: &'static str, help: &'static str) -> Figure {
    Figure { room, name, counts: false, help }
}

const fn counter(room: &'static str, name: &'static str, help: &'static str) -> Figure {
    Figure { room, name, counts: true, help }
}

/// All statistics that have an explanation.
pub const FIGURES: &[Figure] = &[
    gauge("raft", "groups", "Raft groups with a peer on this node: regions and the placement driver's group"),
    gauge("raft", "leaders", "Groups whose leader is on this node"),
    gauge(
        "raft",
        "groups_asleep",
        "Groups with a peer on this node that exchange no heartbeats until the next request",
    ),
    gauge("raft", "groups_without_leader", "Groups with a peer on this node that know no leader and serve no requests"),
    counter("raft", "leader_changes", "How often the known leader of a group on this node changed"),
    counter("raft", "proposals", "Writes proposed to groups whose leader is on this node"),
    gauge("raft", "proposals_pending", "Proposals waiting to be committed"),
    gauge("raft", "proposal_bytes_pending", "Bytes of proposals waiting to be committed"),
    counter("raft", "reads_by_lease", "Reads served under the leader's lease without asking other nodes"),
    counter("raft", "reads_by_quorum", "Reads for which the leader confirmed its leadership with a quorum"),
    gauge("raft", "inbox_bytes", "Bytes of messages from other nodes waiting for the lanes"),
    gauge("raft", "entries_cached_bytes", "Bytes of raft entries kept in memory, applied or not"),
    gauge("raft", "entries_unapplied_bytes", "Bytes of raft entries waiting for the engine or for the log"),
    gauge("raft", "queued_messages", "Messages and requests waiting for the lanes"),
    gauge("raft", "lanes", "Lanes (threads) that drive the store's groups"),
    counter("raft", "clock_losses", "How often this machine was suspended together with its clock"),
    counter("raft", "snapshots_sent", "Snapshots of groups delivered to other stores"),
    counter("raft", "snapshots_received", "Snapshots of groups received completely"),
    counter("raft", "snapshots_refused", "Snapshots refused because this store was already receiving two"),
    counter("raft", "snapshot_bytes", "Bytes of keys and values in snapshots, sent and received"),
    gauge("log", "segments", "Files of the raft log that hold entries"),
    gauge("log", "spare_segments", "Files of the raft log waiting to be reused"),
    gauge("log", "live_bytes", "Bytes of the raft log that are still needed"),
    gauge("log", "dead_bytes", "Bytes of the raft log that are no longer needed"),
    counter("log", "syncs", "How often the raft log was made durable (fdatasync)"),
    counter("log", "bytes_written", "Bytes written to the raft log"),
    counter("log", "records", "Records written to the raft log"),
    counter("log", "recycled", "Log files that were reused"),
    counter("log", "created", "Log files that were created"),
    counter("log", "rewritten_bytes", "Bytes of old entries rewritten to free old log files"),
    counter(
        "engine",
        "flushes",
        "Flushes of the engine's memory to table files, after which older log entries are not needed",
    ),
    gauge("engine", "memtable_bytes", "Bytes of writes in memory, not yet in table files"),
    gauge("engine", "immutable_memtables", "Full tables in memory waiting to be flushed"),
    gauge("engine", "sst_bytes", "Bytes of all table files"),
    gauge("engine", "blob_files", "Files of large values that are stored apart from their keys"),
    gauge("engine", "blob_bytes", "Bytes of all blob files, also of those that wait to be deleted"),
    gauge("engine", "blob_live_bytes", "Bytes of values in blob files that are not known to be overwritten or deleted"),
    gauge("engine", "blob_garbage_bytes", "Bytes in blob files that are known to be garbage"),
    gauge("engine", "live_data_bytes", "Estimated bytes of data that is not overwritten or deleted"),
    gauge("engine", "keys_estimated", "Estimated number of keys"),
    gauge("engine", "compaction_pending_bytes", "Estimated bytes that compaction still has to rewrite"),
    gauge(
        "engine",
        "level0_files",
        "Table files not yet merged into levels; many of them slow down reads and then writes",
    ),
    gauge("engine", "table_reader_bytes", "Bytes of indexes and filters in memory outside the block cache"),
    gauge("engine", "block_cache_bytes", "Bytes in the block cache"),
    gauge("engine", "block_cache_pinned_bytes", "Bytes in the block cache that are currently in use"),
    gauge("engine", "compactions_running", "Running compactions"),
    gauge("engine", "flushes_running", "Running flushes"),
    counter(
        "engine",
        "background_errors",
        "Errors of flushes and compactions; if there are any, check the log and the disk",
    ),
    gauge("engine", "snapshots", "Snapshots of the data that readers hold"),
    gauge("engine", "write_stopped", "1 while the engine accepts no writes until compaction catches up, else 0"),
    gauge(
        "engine",
        "write_delayed_rate_bytes_per_second",
        "Bytes per second to which writes are slowed down; 0 if they are not",
    ),
    gauge(
        "txn",
        "locks_in_memory",
        "Locks of async and one-phase commits that stand in memory while they are being written",
    ),
    gauge("txn", "lock_waiters", "Requests for pessimistic locks that wait until another transaction releases a key"),
    counter("txn", "deadlocks", "Requests for pessimistic locks refused because transactions wait for each other"),
    gauge(
        "pd",
        "hot_read_regions",
        "Regions that are hot by reads, as the placement driver's leader knows; 0 elsewhere",
    ),
    gauge(
        "pd",
        "hot_write_regions",
        "Regions that are hot by writes, as the placement driver's leader knows; 0 elsewhere",
    ),
    gauge(
        "pd",
        "hot_leaders_moved",
        "Leaders moved because of their load since this member began to lead; 0 elsewhere",
    ),
    gauge(
        "pd",
        "hot_replicas_moved",
        "Replicas moved because of their load since this member began to lead; 0 elsewhere",
    ),
    counter("load", "reads", "Requests that read, served by replicas of this node, leaders or not"),
    counter("load", "read_keys", "Keys that these requests found"),
    counter("load", "read_bytes", "Bytes of the keys and values that these requests found"),
    counter(
        "load",
        "writes",
        "Commands that leaders on this node proposed: requests that write, and changes of regions",
    ),
    counter("load", "written_keys", "Keys in requests that write"),
    counter("load", "written_bytes", "Bytes of the commands that leaders on this node proposed"),
    counter("load", "splits", "Regions that this node split because of their load"),
    counter(
        "load",
        "splits_impossible",
        "How often a region had so much load that it had to be split, but the load is on one key, or on ranges that overlap",
    ),
];

/// Returns the statistic with this module and name.
pub fn find(room: &str, name: &str) -> Option<&'static Figure> {
    FIGURES.iter().find(|figure| figure.room == room && figure.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_explained_once() {
        for figure in FIGURES {
            let same = FIGURES.iter().filter(|other| other.room == figure.room && other.name == figure.name);
            assert_eq!(same.count(), 1, "{}.{}", figure.room, figure.name);
            assert!(figure.help.len() > 10 && !figure.help.ends_with('.'), "{}", figure.help);
        }
        assert!(find("log", "syncs").is_some_and(|figure| figure.counts) && find("log", "leaders").is_none());
    }
}
