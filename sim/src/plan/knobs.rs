//! How nodes are configured: an overlay on the simulator's configuration, with the keys of a node's configuration file.

use armilla::node::Config;
use serde::{Deserialize, Serialize};
use toml::Table;

/// Keys that follow from the plan's topology.
const OF_TOPOLOGY: [&str; 7] = ["name", "data_dir", "addr", "advertise_addr", "initial_cluster", "join", "split_keys"];

/// How the nodes are configured, and what they run on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Knobs {
    /// Mean one-way latency of a link, microseconds.
    pub link_us: u64,
    /// Mean duration of an fsync, microseconds.
    pub fsync_us: u64,
    /// How large each node's disk is, MiB; 0: too large to be filled.
    #[serde(default)]
    pub disk_mib: u64,
    /// Seeds which places of the store do something unusual; 0: none does.
    #[serde(default)]
    pub buggify: u64,
    /// Before the end every process dies once more, with everything that was not synced.
    pub last_crash: bool,
    /// What differs from the default configuration, as in a node's file.
    #[serde(default)]
    pub config: Table,
}

impl Knobs {
    /// Lays the overlay over a configuration.
    ///
    /// # Errors
    /// A key that a node's file does not have, or that follows from the topology; a value that does not fit.
    pub fn node_config(&self, base: Config) -> Result<Config, String> {
        if let Some(key) = OF_TOPOLOGY.iter().find(|key| self.config.contains_key(**key)) {
            return Err(format!("knobs.config: `{key}` follows from the plan's topology"));
        }
        base.overlaid(&self.config, "knobs.config").map_err(|error| error.to_string())
    }

    /// The settings that all nodes have.
    ///
    /// # Panics
    /// If the overlay does not fit: a plan that was read or drawn has one that does.
    pub fn settings(&self) -> Config {
        self.node_config(Config::default()).unwrap_or_else(|why| panic!("{why}"))
    }
}

#[cfg(test)]
mod tests {
    //! Goal: the overlay changes what it names, and a misspelled name is refused.
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
