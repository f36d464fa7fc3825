//! The nodes' configuration: an overlay on the simulator's defaults, with the keys of a node's configuration file.

use armilla::node::Config;
use serde::{Deserialize, Serialize};
use toml::Table;

/// Keys that are derived from the plan's topology.
const OF_TOPOLOGY: [&str; 7] = ["name", "data_dir", "addr", "advertise_addr", "initial_cluster", "join", "split_keys"];

/// The nodes' configuration, and the hardware that they run on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Knobs {
    /// Mean one-way latency of a link, microseconds.
    pub link_us: u64,
    /// Mean duration of an fsync, microseconds.
    pub fsync_us: u64,
    /// Size of each node's disk, MiB; 0: too large to be filled.
    #[serde(default)]
    pub disk_mib: u64,
    /// Seeds the choice of buggify sites that are active; 0: none is.
    #[serde(default)]
    pub buggify: u64,
    /// Before the end of the run every process is killed once more and loses all unsynced data.
    pub last_crash: bool,
    /// The settings that differ from the defaults, as in a node's configuration file.
    #[serde(default)]
    pub config: Table,
}

impl Knobs {
    /// Applies the overlay to a configuration.
    ///
    /// # Errors
    /// Fails if a node's configuration file does not have a key, if a key is derived from the topology, or if a value
    /// is not valid.
    pub fn node_config(&self, base: Config) -> Result<Config, String> {
        if let Some(key) = OF_TOPOLOGY.iter().find(|key| self.config.contains_key(**key)) {
            return Err(format!("knobs.config: `{key}` follows from the plan's topology"));
        }
        base.overlaid(&self.config, "knobs.config").map_err(|error| error.to_string())
    }

    /// Returns the settings that all nodes share.
    ///
    /// # Panics
    /// Panics if the overlay is not valid. Plans are validated when they are read or drawn.
    pub fn settings(&self) -> Config {
        self.node_config(Config::default()).unwrap_or_else(|why| panic!("{why}"))
    }
}

#[cfg(test)]
mod tests {
    //! Goal: the overlay changes the settings that it names, and a misspelled name is refused.
    use super::*;

    fn knobs(config: &str) -> Knobs {
        Knobs {
            link_us: 1,
            fsync_us: 1,
            disk_mib: 0,
            buggify: 0,
            last_crash: false,
            config: toml::from_str(config).unwrap(),
        }
    }

    #[test]
    fn an_overlay_changes_what_it_names() {
        let config = knobs("[raft]\ntick_ms = 77\n").settings();
        let mut expected = Config::default();
        expected.raft.tick_ms = 77;
        assert_eq!(config, expected);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for config in ["[raft]\ntick_msec = 77\n", "[raft]\ntick_ms = \"x\"\n", "name = \"n9\"\n", "[rafd]\n"] {
            assert!(knobs(config).node_config(Config::default()).is_err(), "{config}");
        }
    }
}
