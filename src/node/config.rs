//! A node's configuration: what may be set, what it means when nothing is said, and what cannot be. Pure.
//!
//! A file (`node.toml`) has the names below, flags override it. Every key has a default; a key that is not known is refused
//! with the nearest that is, so that a typing error never passes for a setting.
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

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::types::version;

pub use check::nearest;

/// A configuration that cannot be, in words that say what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

/// All that a node can be told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The node's name, unique in its cluster.
    pub name: String,
    /// Where everything lies that must survive.
    pub data_dir: PathBuf,
    /// Where to listen, `host:port`: PD, TiKV, raft, health, metrics and status, all on this one port.
    pub addr: String,
    /// Where others reach this node, `host:port`, if that is not `addr`.
    pub advertise_addr: Option<String>,
    /// The members of the cluster's first start, this node among them: name and address. In a file `["n1=host:port", …]`.
    #[serde(with = "members")]
    pub initial_cluster: Vec<(String, String)>,
    /// Any node of the cluster to join instead, `host:port`.
    pub join: Option<String>,
    /// How many of the first members (sorted by name) carry the placement driver: 1, 3, 5 or 7.
    pub pd_members: usize,
    /// Copies of each region, where there are as many stores.
    pub replicas: usize,
    /// Regions that a new cluster begins with (a small one at the very end comes on top).
    pub initial_regions: usize,
    /// Where the first regions of a new cluster begin, as clients write the keys; instead of `initial_regions`.
    pub split_keys: Vec<String>,
    /// MiB of disk that are kept in reserve: with less than twice as much left, writes that add data are refused. A twentieth of the
    /// disk, at most 5120, if it is not given; 0: none, and the disk is not watched.
    pub disk_reserve_mib: Option<u64>,
    /// Consensus and its log.
    pub raft: RaftConfig,
    /// The key-value engine.
    pub engine: EngineConfig,
    /// The placement driver and what is reported to it.
    pub pd: PdConfig,
    /// Values with a time to live.
    pub ttl: TtlConfig,
    /// Logging.
    pub log: LogConfig,
}

/// Consensus and its log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RaftConfig {
    /// Milliseconds of a tick, the unit of the two below.
    pub tick_ms: u64,
    /// Ticks between a leader's heartbeats.
    pub heartbeat_ticks: usize,
    /// Ticks without a leader after which a follower campaigns (randomly up to half as many more). The leader's lease is this
    /// long, less the drift of clocks.
    pub election_ticks: usize,
    /// KiB of entries in one append message.
    pub append_kib_max: u64,
    /// Append messages under way to one follower.
    pub appends_inflight_max: usize,
    /// KiB of committed entries handed out at once.
    pub apply_kib_max: u64,
    /// KiB of commands packed into one entry.
    pub pack_kib_max: usize,
    /// Threads that drive the store's regions, up to 8; 0: one for every four cores. The only one writes the raft log itself; several
    /// have a thread that writes it for all of them.
    pub lanes: usize,
    /// Letters that a lane handles before it writes the log.
    pub letters_max: usize,
    /// KiB of applied entries that a group keeps in memory.
    pub cache_kib_max: usize,
    /// KiB of a log segment; preallocated and recycled.
    pub log_segment_kib: u64,
    /// Freed segments that are kept for recycling.
    pub log_spare_segments_max: usize,
    /// KiB of log beyond which stragglers are rewritten so that old segments can be freed.
    pub log_soft_max_kib: u64,
    /// KiB of entries that one region's log keeps for replicas that lag; one that lacks more gets a snapshot.
    pub log_group_kib_max: u64,
    /// KiB of entries that the logs of all regions keep together; beyond them the longest are cut, whoever lags. 0: 16 GiB, or a
    /// tenth of the disk if that is less.
    pub log_store_kib_max: u64,
    /// Entries behind the applied index that are kept for followers.
    pub log_keep_entries: u64,
    /// Entries that are kept for a follower that lags; beyond them it gets a snapshot.
    pub log_lag_entries_max: u64,
    /// KiB of log since the last flush of the engine that start the next one.
    pub flush_kib: u64,
    /// A flush of the engine happens at the latest after this many milliseconds, if anything was written.
    pub flush_interval_ms: u64,
    /// KiB of pairs in one chunk of a snapshot.
    pub snapshot_chunk_kib: usize,
    /// MiB a second of all snapshots that the store sends, and of all that it receives.
    pub snapshot_mib_per_s: u64,
}

/// The key-value engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EngineConfig {
    /// MiB of uncompressed blocks, index and filters in memory.
    pub block_cache_mib: usize,
    /// MiB of writes in memory before the engine flushes on its own.
    pub write_buffer_mib: usize,
    /// Table files kept open; 0: as many as the process's limit of file descriptors allows.
    pub max_open_files: u32,
    /// Threads that flush (one) and compact (the others, at least one).
    pub background_jobs: u32,
}

/// The placement driver and what is reported to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PdConfig {
    /// The newest version of the cluster's protocol that this node uses; 0: all that it knows. A node that is held back keeps the
    /// whole cluster back, so that it can return to an older version of Armilla.
    pub protocol_max: u32,
    /// Whether leaders are spread evenly over the stores.
    pub balance_leaders: bool,
    /// Milliseconds between a store's reports.
    pub store_heartbeat_ms: u64,
    /// Milliseconds after which a silent store is no longer taken for alive.
    pub store_alive_ms: u64,
}

/// Values with a time to live.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TtlConfig {
    /// Milliseconds between two rounds of collecting what has expired; 0: never. A round looks through every led region that has
    /// such values.
    pub collect_interval_ms: u64,
    /// Milliseconds that a value must have been expired before it is collected: more than the clocks of the nodes differ.
    pub collect_grace_ms: u64,
}

/// How logs look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people.
    Human,
    /// One JSON object a line.
    Json,
}

/// Logging, to standard error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// `off`, `error`, `warn`, `info`, `debug`, `trace`, or directives such as `info,armilla::replica=debug`.
    pub level: String,
    /// `human` or `json`.
    pub format: LogFormat,
    /// Whether clients' keys and values are shown as lengths only.
    pub redact_keys: bool,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            name: "n1".into(),
            data_dir: "armilla-data".into(),
            addr: "127.0.0.1:2379".into(),
            advertise_addr: None,
            initial_cluster: Vec::new(),
            join: None,
            pd_members: 3,
            replicas: 3,
            initial_regions: 1,
            split_keys: Vec::new(),
            disk_reserve_mib: None,
            raft: RaftConfig::default(),
            engine: EngineConfig::default(),
            pd: PdConfig::default(),
            ttl: TtlConfig::default(),
            log: LogConfig::default(),
        }
    }
}

impl Default for RaftConfig {
    fn default() -> RaftConfig {
        RaftConfig {
            tick_ms: 50,
            heartbeat_ticks: 2,
            election_ticks: 20,
            append_kib_max: 1024,
            appends_inflight_max: 256,
            apply_kib_max: 4096,
            pack_kib_max: 256,
            lanes: 0,
            letters_max: 4096,
            cache_kib_max: 8 << 10,
            log_segment_kib: 64 << 10,
            log_spare_segments_max: 4,
            log_soft_max_kib: 1 << 20,
            log_group_kib_max: 64 << 10,
            log_store_kib_max: 0,
            log_keep_entries: 1024,
            log_lag_entries_max: 100_000,
            flush_kib: 64 << 10,
            flush_interval_ms: 30_000,
            snapshot_chunk_kib: 1024,
            snapshot_mib_per_s: 100,
        }
    }
}

impl Default for EngineConfig {
    fn default() -> EngineConfig {
        EngineConfig { block_cache_mib: 256, write_buffer_mib: 128, max_open_files: 0, background_jobs: 2 }
    }
}

impl Default for PdConfig {
    fn default() -> PdConfig {
        PdConfig { protocol_max: 0, balance_leaders: true, store_heartbeat_ms: 1000, store_alive_ms: 5000 }
    }
}

impl Default for TtlConfig {
    fn default() -> TtlConfig {
        TtlConfig { collect_interval_ms: 600_000, collect_grace_ms: 60_000 }
    }
}

impl Default for LogConfig {
    fn default() -> LogConfig {
        LogConfig { level: "info".into(), format: LogFormat::Human, redact_keys: true }
    }
}

impl RaftConfig {
    /// A tick.
    pub fn tick(&self) -> Duration {
        Duration::from_millis(self.tick_ms)
    }
    /// The shortest time without a leader after which a follower campaigns.
    pub fn election(&self) -> Duration {
        self.tick() * self.election_ticks as u32
    }
}

impl Config {
    /// Reads a configuration file's text. `source` (its path) is named in errors. Not yet [`Config::validate`]d: flags may
    /// still override.
    ///
    /// # Errors
    /// [`ConfigError`]: not TOML, an unknown key (with the nearest known one), a value of another type.
    pub fn from_toml(text: &str, source: &str) -> Result<Config, ConfigError> {
        let at = |error: &dyn std::fmt::Display| ConfigError(format!("{source}: {error}"));
        let value: toml::Table = toml::from_str(text).map_err(|error| at(&error.to_string().trim_end()))?;
        check::known_keys(&value, source)?;
        toml::from_str(text).map_err(|error| at(&error.to_string().trim_end()))
    }

    /// This configuration as a file's text.
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).expect("every field has a TOML form")
    }

    /// This configuration as one JSON object, with the keys of the file.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("every field has a JSON form")
    }

    /// The newest version of the cluster's protocol that this node uses.
    pub fn protocol(&self) -> u32 {
        match self.pd.protocol_max {
            0 => version::PROTOCOL,
            max => max.min(version::PROTOCOL),
        }
    }

    /// The address that others use.
    pub fn advertised(&self) -> &str {
        self.advertise_addr.as_deref().unwrap_or(&self.addr)
    }

    /// Whether everything fits together.
    ///
    /// # Errors
    /// [`ConfigError`] with the first thing that does not.
    pub fn validate(&self) -> Result<(), ConfigError> {
        check::validate(self)
    }
}

/// Reads `n1=host:port,n2=host:port`.
///
/// # Errors
/// [`ConfigError`] with the part that is not `name=host:port`.
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

/// Members in a file: a list of `name=host:port`.
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
