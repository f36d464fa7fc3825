//! What the figures of `/status` mean: the help of `/metrics` and the tooltips of the page.

/// A figure of a room.
#[derive(Clone, Copy, Debug)]
pub struct Figure {
    /// `raft`, `log` or `engine`.
    pub room: &'static str,
    /// Its name in `/status`; `armilla_ROOM_NAME` in `/metrics`.
    pub name: &'static str,
    /// Whether it only counts up, from 0 at the process's start.
    pub counts: bool,
    /// What it says, with its unit.
    pub help: &'static str,
}

const fn gauge(room: &'static str, name: &'static str, help: &'static str) -> Figure {
    Figure { room, name, counts: false, help }
}

const fn counter(room: &'static str, name: &'static str, help: &'static str) -> Figure {
    Figure { room, name, counts: true, help }
}

/// All figures that have an explanation.
pub const FIGURES: &[Figure] = &[
    gauge("raft", "groups", "Raft groups with a peer on this node: regions, and the placement driver's group"),
    gauge("raft", "leaders", "Groups whose leader is on this node"),
    gauge("raft", "groups_without_leader", "Groups here that know no leader: they take no requests"),
    counter("raft", "leader_changes", "How often a group here learned of another leader"),
    counter("raft", "proposals", "Writes that were proposed to groups led here"),
    gauge("raft", "proposals_pending", "Proposals that wait for their commit"),
    gauge("raft", "proposal_bytes_pending", "Bytes of proposals that wait for their commit"),
    counter("raft", "reads_by_lease", "Reads that the leader's lease allowed without asking others"),
    counter("raft", "reads_by_quorum", "Reads for which the leader asked a majority whether it still leads"),
    gauge("raft", "inbox_bytes", "Bytes of other nodes' messages that wait for the lanes"),
    gauge("raft", "entries_cached_bytes", "Bytes of raft entries in memory, applied or not"),
    gauge("raft", "entries_unapplied_bytes", "Bytes of raft entries that wait for the engine or for the log"),
    gauge("raft", "queued_messages", "Messages and requests that wait for the lanes"),
    gauge("raft", "lanes", "Lanes that drive the store's groups"),
    counter("raft", "clock_losses", "How often this machine stood still together with its clock"),
    counter("raft", "snapshots_sent", "Snapshots of groups that were delivered to other stores"),
    counter("raft", "snapshots_received", "Snapshots of groups that arrived here whole"),
    counter("raft", "snapshots_refused", "Snapshots that were sent away because this store was taking in two already"),
    counter("raft", "snapshot_bytes", "Bytes of keys and values in snapshots, sent and received"),
    gauge("log", "segments", "Files of the raft log that hold entries"),
    gauge("log", "spare_segments", "Files of the raft log that wait to be used again"),
    gauge("log", "live_bytes", "Bytes of the raft log that are still needed"),
    gauge("log", "dead_bytes", "Bytes in the raft log's files that nothing needs any more"),
    counter("log", "syncs", "How often the raft log was made durable (fdatasync)"),
    counter("log", "bytes_written", "Bytes written to the raft log"),
    counter("log", "records", "Records written to the raft log"),
    counter("log", "recycled", "Log files that were used again"),
    counter("log", "created", "Log files that were made"),
    counter("log", "rewritten_bytes", "Bytes of old entries that were written anew to free old log files"),
    counter(
        "engine",
        "flushes",
        "How often the engine's memory was written to table files, after which the log before it is not needed",
    ),
    gauge("engine", "memtable_bytes", "Bytes of writes in memory, not yet in table files"),
    gauge("engine", "immutable_memtables", "Tables in memory that are full and wait for their flush"),
    gauge("engine", "sst_bytes", "Bytes of all table files"),
    gauge("engine", "live_data_bytes", "Bytes of data that are not overwritten or deleted, as the engine estimates"),
    gauge("engine", "keys_estimated", "Keys, as the engine estimates"),
    gauge("engine", "compaction_pending_bytes", "Bytes that compaction has yet to rewrite, as the engine estimates"),
    gauge(
        "engine",
        "level0_files",
        "Table files that are not yet merged into levels; many of them slow reads and then writes down",
    ),
    gauge("engine", "table_reader_bytes", "Bytes of memory for indexes and filters outside the block cache"),
    gauge("engine", "block_cache_bytes", "Bytes in the block cache"),
    gauge("engine", "block_cache_pinned_bytes", "Bytes in the block cache that are in use at the moment"),
    gauge("engine", "compactions_running", "Compactions that run"),
    gauge("engine", "flushes_running", "Flushes that run"),
    counter(
        "engine",
        "background_errors",
        "Errors of flushes and compactions; any is worth a look at the log and the disk",
    ),
    gauge("engine", "snapshots", "Moments of the data that readers hold"),
    gauge("engine", "write_stopped", "1 while the engine takes no writes until compaction catches up, else 0"),
    gauge(
        "engine",
        "write_delayed_rate_bytes_per_second",
        "To how many bytes a second writes are slowed down; 0: not at all",
    ),
];

/// The figure of that room and name.
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
