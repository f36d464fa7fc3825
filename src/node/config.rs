//! A node's configuration: the options, their defaults and their limits. Pure.
//!
//! Each option is declared once, with its type, default, bounds and help; the file format, the flags and the
//! simulator's plans follow from that.
//!
//! A file (`node.toml`) uses the names below; flags override it. Every key has a default. An unknown key is rejected,
//! and the error suggests the closest known key, so that a typing error is never ignored.
//!
//! ```toml
//! name = "n1"
//! data_dir = "/var/lib/armilla/n1"
//! addr = "10.0.0.1:2379"
//! initial_cluster = ["n1=10.0.0.1:2379", "n2=10.0.0.2:2379", "n3=10.0.0.3:2379"]
//!
//! [raft]
//! election_ticks = 20
//! ```

mod check;
mod declare;

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::proto::metapb::StoreLabel;
use crate::raft;
use crate::types::limits::{
    ENTRY_BYTES_MAX, FETCH_QUEUE_BYTES_MAX, FIRST_REGIONS_MAX, LANES_MAX, MESSAGE_BYTES_MAX, SNAPSHOT_CHUNK_BYTES_MAX,
};
use crate::types::{Api, version};

pub use check::nearest;
pub use declare::Declared;
use declare::options;

/// Upper limits: sizes in KiB and MiB up to 1 PiB; times up to a year.
const KIB_MAX: u64 = 1 << 40;
const MIB_MAX: u64 = 1 << 30;
const MS_MAX: u64 = 366 * 24 * 3600 * 1000;

/// An invalid configuration. The text says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

options! {
    /// Configuration of a node.
    Config in "" {
        /// The node's name, unique in its cluster.
        name: String = "n1".into();
        /// Data directory for everything that must survive a restart.
        data_dir: PathBuf = "armilla-data".into();
        /// Address to listen on, `host:port`: PD, TiKV, raft, health, metrics and status all use this one port.
        addr: String = "127.0.0.1:2379".into();
        /// Address at which other nodes reach this node, `host:port`, if it differs from `addr`.
        advertise_addr: Option<String> = None;
        /// Members at the cluster's first start, including this node: name and address. In a file
        /// `["n1=host:port", …]`.
        #[serde(with = "members")]
        initial_cluster: Vec<(String, String)> = Vec::new();
        /// Any node of an existing cluster to join instead.
        join: Option<String> = None;
        /// How many of the first members (sorted by name) run the placement driver: 1, 3, 5 or 7.
        pd_members: usize = 3;
        /// API version of a new cluster: 1, or 2 for one whose keys belong to keyspaces. It never changes; a node that
        /// joins takes the cluster's. Default: 1 for a new cluster, otherwise the cluster's.
        api_version: Option<u32> = None;
        /// Replicas of each region at the cluster's first start, at most the number of stores.
        replicas: usize = 3, 1..=7;
        /// Number of regions of a new cluster (in addition to a small one at the very end). With API version 2: of the
        /// keyspace DEFAULT, for raw keys and for transactional ones each.
        initial_regions: usize = 1, 1..=FIRST_REGIONS_MAX as u64;
        /// Keys at which a new cluster is split into regions, as clients write them; an alternative to
        /// `initial_regions`. With API version 2: keys of the keyspace DEFAULT, raw and transactional.
        split_keys: Vec<String> = Vec::new();
        /// MiB of disk space to keep in reserve: while less than twice this is free, writes that add data are rejected.
        /// Default: a twentieth of the disk, at most 5120. 0: no reserve, and free space is not checked.
        disk_reserve_mib: Option<u64> = None;
        /// Where the node is, `key=value`: replicas are spread over zones, racks and hosts (`pd.location_labels`). In a
        /// file `["zone=z1", "host=h7"]`.
        labels: Vec<String> = Vec::new();
        /// Consensus and its log.
        raft: RaftConfig = RaftConfig::default();
        /// The key-value engine.
        engine: EngineConfig = EngineConfig::default();
        /// The placement driver and the heartbeats to it.
        pd: PdConfig = PdConfig::default();
        /// Values with a time to live.
        ttl: TtlConfig = TtlConfig::default();
        /// See [`RegionsConfig`].
        regions: RegionsConfig = RegionsConfig::default();
        /// Values of the default column family.
        values: ValuesConfig = ValuesConfig::default();
        /// Transactions.
        txn: TxnConfig = TxnConfig::default();
        /// Logging.
        log: LogConfig = LogConfig::default();
    }
}

options! {
    /// Consensus and its log.
    RaftConfig in "raft." {
        /// Duration of a tick in milliseconds, the unit of the next two options.
        tick_ms: u64 = 50, 1..=600_000;
        /// Ticks between a leader's heartbeats.
        heartbeat_ticks: usize = 2, 1..=1_000_000;
        /// Ticks without a leader after which a follower campaigns (plus a random delay of up to half as many). The
        /// leader's lease lasts as long, minus the clock drift.
        election_ticks: usize = 20, 1..=1_000_000;
        /// Whether leaders serve reads by themselves while they hold a lease. Disable it where machines may be
        /// suspended or migrated while running, if their clocks stop meanwhile: each read then asks a quorum.
        lease_reads: bool = true;
        /// Milliseconds after which a region in which nothing happens sleeps: its replicas exchange no heartbeats until
        /// the next request. At least an election timeout counts; 0: regions that this store leads never sleep.
        sleep_after_ms: u64 = 3000, 0..=MS_MAX;
        /// Maximum KiB of entries in one append message.
        // An append is a message between nodes; the other half of the limit is for the rest of the message.
        append_kib_max: u64 = 1024, 1..=(MESSAGE_BYTES_MAX as u64 >> 10) / 2;
        /// Maximum number of append messages in flight to one follower.
        appends_inflight_max: usize = 256, 1..=1 << 20;
        /// Maximum KiB of old entries in flight to one lagging follower store, from the read of the raft log on.
        catch_up_kib_max: usize = FETCH_QUEUE_BYTES_MAX >> 10, 1..=FETCH_QUEUE_BYTES_MAX as u64 >> 10;
        /// Maximum KiB of committed entries to apply at once.
        apply_kib_max: u64 = 4096, 1..=KIB_MAX;
        /// Maximum KiB of commands packed into one entry.
        // An entry of packed commands must also fit into a message.
        pack_kib_max: usize = 256, 1..=ENTRY_BYTES_MAX as u64 >> 10;
        /// Threads that drive the store's regions; 0: one for every four cores. A single one writes the raft log
        /// itself; several share another thread that writes it.
        lanes: usize = 0, 0..=LANES_MAX as u64;
        /// Maximum number of messages that a lane handles before it writes the raft log.
        batch_messages_max: usize = 4096, 1..=1 << 30;
        /// Maximum KiB of applied entries that a group keeps in memory.
        cache_kib_max: usize = 8 << 10, 0..=KIB_MAX;
        /// Size of a log segment in KiB. Segments are preallocated and recycled.
        // Offsets in a segment are numbers of 31 bits.
        log_segment_kib: u64 = 64 << 10, 16..=(1 << 21) - 1;
        /// Maximum number of freed segments that are kept for recycling.
        log_spare_segments_max: usize = 4;
        /// KiB of log above which old entries that are still needed are rewritten, so that old segments can be freed.
        log_soft_max_kib: u64 = 1 << 20, 0..=KIB_MAX;
        /// Maximum KiB of entries that one region's log keeps for lagging replicas; a replica that lacks more gets a
        /// snapshot.
        log_group_kib_max: u64 = 64 << 10, 0..=KIB_MAX;
        /// Maximum KiB of entries that the logs of all regions keep together; above it the longest logs are truncated,
        /// even if replicas lag. 0: 16 GiB, or a tenth of the disk if that is less.
        log_store_kib_max: u64 = 0, 0..=KIB_MAX;
        /// Number of entries before the applied index that are kept for followers.
        log_keep_entries: u64 = 1024, 1..=u64::MAX;
        /// Maximum number of entries that are kept for a lagging follower; one that lacks more gets a snapshot.
        log_lag_entries_max: u64 = 100_000;
        /// KiB written to the log since the last flush of the engine that trigger the next flush.
        flush_kib: u64 = 64 << 10, 1..=KIB_MAX;
        /// Maximum milliseconds between flushes of the engine, if anything was written.
        flush_interval_ms: u64 = 30_000, 1..=MS_MAX;
        /// KiB of key-value pairs in one chunk of a snapshot.
        // A receiver accepts one chunk plus one value.
        snapshot_chunk_kib: usize = 1024, 1..=(SNAPSHOT_CHUNK_BYTES_MAX as u64 >> 10) / 4;
        /// MiB per second for all snapshots that the store sends, and for all that it receives.
        snapshot_mib_per_s: u64 = 100, 1..=MIB_MAX;
    }
}

options! {
    /// The key-value engine.
    EngineConfig in "engine." {
        /// MiB of memory for uncompressed blocks, indexes and filters.
        block_cache_mib: usize = 256, 0..=MIB_MAX;
        /// MiB of memory for writes before the engine flushes them on its own.
        write_buffer_mib: usize = 128, 1..=MIB_MAX;
        /// Maximum number of open table files; 0: as many as the process's limit of file descriptors allows.
        max_open_files: u32 = 0;
        /// Number of threads that flush (one) and compact (the others, at least one).
        background_jobs: u32 = 2, 1..=u32::MAX as u64;
    }
}

options! {
    /// The placement driver and the heartbeats to it.
    PdConfig in "pd." {
        /// The newest version of the cluster's protocol that this node uses; 0: the newest one that it supports. A
        /// limit on one node applies to the whole cluster, so that the node can return to an older version of Armilla.
        protocol_max: u32 = 0;
        /// Whether to spread leaders evenly over the stores.
        balance_leaders: bool = true;
        /// Whether to spread replicas evenly over the stores.
        balance_replicas: bool = true;
        /// The keys of the labels that say where a store is, the largest place first, at most 5: a region's replicas
        /// are kept as far apart as the stores allow. Equal on all nodes.
        location_labels: Vec<String> = ["zone", "rack", "host"].map(str::to_owned).to_vec();
        /// Whether to spread the load of hot regions evenly over the stores.
        balance_hot: bool = true;
        /// Milliseconds of load that make up one report of a region; a region's load is the median of five of them.
        hot_report_ms: u64 = 10_000, 1..=MS_MAX;
        /// Requests per second, reads or writes, from which on a region may be hot.
        hot_queries_per_s_min: u64 = 100, 1..=1_000_000_000;
        /// KiB per second, read or written, from which on a region may be hot.
        hot_kib_per_s_min: u64 = 128, 1..=KIB_MAX;
        /// KiB of data below which a region becomes part of a neighbour that has at most three times as much; 0: never.
        /// At most an eighth of `regions.size_max_kib` counts.
        merge_below_kib: u64 = 48 << 10, 0..=KIB_MAX;
        /// Seconds for which the ranges of two regions must not have changed before they are merged.
        merge_rest_s: u64 = 3600, 0..=MS_MAX / 1000;
        /// Milliseconds for which old versions of transactional keys are kept, and so the longest that a transaction or
        /// a snapshot may last; 0: until a client moves the safe point.
        keep_versions_ms: u64 = 600_000, 0..=MS_MAX;
        /// Milliseconds by which the safe point moves at least: each move looks through all regions that have old
        /// versions.
        safe_point_step_ms: u64 = 300_000, 1..=MS_MAX;
        /// Microseconds between two looks at all regions, for each region: what has changed is looked at with the next
        /// heartbeat, all the others after 1 s if there are 10,000.
        patrol_us_per_region: u64 = 100, 0..=1_000_000;
        /// Milliseconds between a store's heartbeats to the placement driver.
        store_heartbeat_ms: u64 = 1000, 1..=MS_MAX;
        /// Milliseconds without a heartbeat after which a store counts as down.
        store_alive_ms: u64 = 5000, 0..=MS_MAX;
        /// Seconds without a heartbeat after which a store is gone for good: its replicas are replaced on other stores.
        max_down_s: u64 = 1800, 1..=MS_MAX / 1000;
    }
}

options! {
    /// Regions.
    RegionsConfig in "regions." {
        /// KiB of data above which a region is split, into pieces of two thirds of that at most; 0: never.
        size_max_kib: u64 = 384 << 10, 0..=KIB_MAX;
        /// Requests per second above which a region is split where its load divides; 0: any number.
        split_queries_per_s: u64 = 3000, 0..=1_000_000_000;
        /// KiB per second, read and written together, above which a region is split where its load divides; 0: any
        /// number.
        split_kib_per_s: u64 = 30 << 10, 0..=KIB_MAX;
        /// Seconds for which a region must have had such a load before it is split.
        split_load_s: u64 = 10, 1..=3600;
    }
}

options! {
    /// Values of the default column family.
    ValuesConfig in "values." {
        /// Bytes from which a value is stored apart from its key, in blob files; 0: never. Applies to what is written,
        /// flushed or compacted from then on; existing values stay where they are, and readable.
        separate_from: u64 = 32 << 10, 0..=1 << 30;
    }
}

options! {
    /// Transactions.
    TxnConfig in "txn." {
        /// Whether requests with timestamps that the placement driver has not given out yet are refused. They would
        /// make later transactions commit in the future, where reads do not see them.
        refuse_future_timestamps: bool = true;
        /// Milliseconds between two looks at the locks of the regions that are led here.
        look_interval_ms: u64 = 1000, 10..=3_600_000;
        /// Milliseconds after the end of a lock's time to live before this store ends its transaction. A client that
        /// meets the lock does so at once.
        end_after_ms: u64 = 5000, 0..=86_400_000;
    }
}

options! {
    /// Values with a time to live.
    TtlConfig in "ttl." {
        /// Milliseconds between two rounds of collecting expired values; 0: never. A round scans every region that is
        /// led by this store and has values with a time to live.
        collect_interval_ms: u64 = 600_000;
        /// Milliseconds after the expiry of a value before it is collected; choose more than the nodes' clocks may
        /// differ.
        collect_grace_ms: u64 = 60_000;
    }
}

/// The format of log messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines of text for people.
    Human,
    /// One JSON object per line.
    Json,
}

options! {
    /// Logging to standard error.
    LogConfig in "log." {
        /// Log level: off, error, warn, info, debug, trace, or directives such as `info,armilla::replica=debug`.
        level: String = "info".into();
        /// Log format: human or json.
        format: LogFormat = LogFormat::Human;
        /// Whether to log only the lengths of clients' keys and values.
        redact_keys: bool = true;
    }
}

impl RaftConfig {
    /// Returns the duration of a tick.
    pub fn tick(&self) -> Duration {
        Duration::from_millis(self.tick_ms)
    }
    /// Returns the shortest time without a leader after which a follower campaigns.
    pub fn election(&self) -> Duration {
        self.tick() * self.election_ticks as u32
    }

    /// What each raft group is told. The one place that translates options of the file for it.
    pub fn groups(&self) -> raft::Options {
        raft::Options {
            tick_ns: self.tick().as_nanos() as u64,
            election_ticks: self.election_ticks,
            heartbeat_ticks: self.heartbeat_ticks,
            lease_reads: self.lease_reads,
            append_bytes_max: self.append_kib_max << 10,
            appends_inflight_max: self.appends_inflight_max,
            apply_bytes_max: self.apply_kib_max << 10,
        }
    }
}

impl Config {
    /// Parses the text of a configuration file. `source` (its path) is named in errors. The result is not
    /// [`Config::validate`]d yet, because flags may still override it.
    ///
    /// # Errors
    /// [`ConfigError`]: invalid TOML, an unknown key (with the closest known one), or a value of the wrong type.
    pub fn from_toml(text: &str, source: &str) -> Result<Config, ConfigError> {
        let at = |error: &dyn std::fmt::Display| ConfigError(format!("{source}: {error}"));
        let value: toml::Table = toml::from_str(text).map_err(|error| at(&error.to_string().trim_end()))?;
        check::known_keys(&value, source)?;
        toml::from_str(text).map_err(|error| at(&error.to_string().trim_end()))
    }

    /// Returns every declared option, in the order of a file.
    pub fn options() -> impl Iterator<Item = &'static Declared> {
        let sections = [
            Config::OPTIONS,
            RaftConfig::OPTIONS,
            EngineConfig::OPTIONS,
            PdConfig::OPTIONS,
            TtlConfig::OPTIONS,
            RegionsConfig::OPTIONS,
            ValuesConfig::OPTIONS,
            TxnConfig::OPTIONS,
            LogConfig::OPTIONS,
        ];
        sections.into_iter().flatten()
    }

    /// Returns this configuration with some values replaced. `over` has the keys of a file; `source` is named in
    /// errors. The result is not [`Config::validate`]d yet.
    ///
    /// # Errors
    /// Those of [`Config::from_toml`].
    pub fn overlaid(&self, over: &toml::Table, source: &str) -> Result<Config, ConfigError> {
        let mut table = toml::Table::try_from(self).expect("every field has a TOML form");
        lay_over(&mut table, over);
        Config::from_toml(&table.to_string(), source)
    }

    /// Returns this configuration as the text of a file.
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).expect("every field has a TOML form")
    }

    /// Returns this configuration as one JSON object, with the keys of the file.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("every field has a JSON form")
    }

    /// Returns the newest version of the cluster's protocol that this node uses.
    pub fn protocol(&self) -> u32 {
        match self.pd.protocol_max {
            0 => version::PROTOCOL,
            max => max.min(version::PROTOCOL),
        }
    }

    /// Returns the API version of a cluster that this node founds.
    pub fn founded_api(&self) -> Api {
        self.api_version.and_then(Api::numbered).unwrap_or_default()
    }

    /// Returns the address that other nodes use.
    pub fn advertised(&self) -> &str {
        self.advertise_addr.as_deref().unwrap_or(&self.addr)
    }

    /// Returns the KiB of data below which a region becomes part of a neighbour: not more than an eighth of the size at
    /// which regions are split, so that what comes out is far from that.
    pub fn merge_below_kib(&self) -> u64 {
        match self.regions.size_max_kib {
            0 => self.pd.merge_below_kib,
            max => self.pd.merge_below_kib.min(max / 8),
        }
    }

    /// Returns the most that [`Config::merge_below_kib`] returns, whatever is set while the cluster runs.
    pub fn merge_below_kib_max(&self) -> u64 {
        match self.regions.size_max_kib {
            0 => KIB_MAX,
            max => max / 8,
        }
    }

    /// Returns the labels of the node's store.
    pub fn store_labels(&self) -> Vec<StoreLabel> {
        let label = |(key, value): (&str, &str)| StoreLabel { key: key.to_owned(), value: value.to_owned() };
        self.labels.iter().filter_map(|label| label.split_once('=')).map(label).collect()
    }

    /// Checks that all options are valid and consistent.
    ///
    /// # Errors
    /// [`ConfigError`] with the first problem.
    pub fn validate(&self) -> Result<(), ConfigError> {
        check::validate(self)
    }
}

/// Replaces values of `table` by those of `over`, recursively in sections.
fn lay_over(table: &mut toml::Table, over: &toml::Table) {
    for (key, value) in over {
        match (table.get_mut(key), value) {
            (Some(toml::Value::Table(inner)), toml::Value::Table(over)) => lay_over(inner, over),
            _ => drop(table.insert(key.clone(), value.clone())),
        }
    }
}

/// Parses `n1=host:port,n2=host:port`.
///
/// # Errors
/// [`ConfigError`] with the first part that is not `name=host:port`.
pub fn parse_members(text: &str) -> Result<Vec<(String, String)>, ConfigError> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(parse_member).collect()
}

fn parse_member(part: &str) -> Result<(String, String), ConfigError> {
    let (name, addr) = part.split_once('=').ok_or_else(|| {
        ConfigError(format!("`{part}` is not name=host:port: write a list such as n1=10.0.0.1:2379,n2=10.0.0.2:2379"))
    })?;
    let (name, addr) = (name.trim(), addr.trim());
    if name.is_empty() {
        return Err(ConfigError(format!("`{part}` has no name before the `=`")));
    }
    check::address("a member's address", addr)?;
    Ok((name.to_owned(), addr.to_owned()))
}

/// Serializes members in a file as a list of `name=host:port`.
mod members {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(members: &[(String, String)], serializer: S) -> Result<S::Ok, S::Error> {
        members.iter().map(|(name, addr)| format!("{name}={addr}")).collect::<Vec<_>>().serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<(String, String)>, D::Error> {
        let parts = Vec::<String>::deserialize(deserializer)?;
        parts.iter().map(|part| super::parse_member(part).map_err(D::Error::custom)).collect()
    }
}

#[cfg(test)]
mod tests;
