//! A storm of changes of regions, made by `armilla ctl` while clients work.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use super::processes::{Cluster, binary, run};

/// How often each kind of change was made.
pub type Changes = BTreeMap<&'static str, u32>;

/// A storm that goes on until it is ended.
pub struct Storm {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Changes>,
}

/// Runs `armilla ctl`, and returns what it printed if it succeeded.
fn ctl(addr: &str, args: &[String]) -> Option<String> {
    let mut command = Command::new(binary());
    command.args(["ctl", "--pd", addr, "--hex", "--json", "--timeout", "10"]).args(args);
    let finished = run(command, Duration::from_secs(30));
    (finished.code == Some(0)).then_some(finished.text)
}

fn ids(list: &Value, name: &str) -> Vec<u64> {
    list.as_array().map_or_else(Vec::new, |all| all.iter().filter_map(|one| one[name].as_u64()).collect())
}

/// Makes one change, and returns its kind if it succeeded. `turn` chooses it.
fn change(addr: &str, keys: &[String], turn: usize) -> Option<&'static str> {
    let text = ctl(addr, &["regions".into(), "--limit".into(), "1000".into()])?;
    let regions: Value = serde_json::from_str(&text).ok()?;
    let mut regions = regions["regions"].as_array()?.clone();
    // The last one is a sentinel.
    regions.pop();
    let mixed = turn.wrapping_mul(2_654_435_761) >> 7;
    let at = mixed % regions.len().max(1);
    let region = regions.get(at)?;
    let (id, peers) = (region["id"].as_u64()?, ids(&region["peers"], "store"));
    let leads = region["leader"]["store"].as_u64()?;
    let args = |words: &[&str], numbers: &[u64]| -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).chain(numbers.iter().map(u64::to_string)).collect()
    };
    let (kind, args) = match turn % 4 {
        0 => ("split", args(&["region", "split", keys.get(mixed % keys.len())?], &[])),
        1 => {
            let to = *peers.iter().find(|store| **store != leads)?;
            ("transfer", args(&["transfer-leader"], &[id, to]))
        }
        2 => {
            let to = (1..=4).find(|store| !peers.contains(store))?;
            ("move", args(&["region", "move"], &[id, peers[mixed % peers.len()], to]))
        }
        _ => {
            let next = regions.get(at + 1).or_else(|| regions.get(at.checked_sub(1)?))?;
            ("merge", args(&["region", "merge"], &[id, next["id"].as_u64()?]))
        }
    };
    ctl(addr, &args).map(|_| kind)
}

impl Storm {
    /// Begins to split regions at these keys, and to merge, move and transfer whatever regions there are.
    pub fn begin(cluster: &Cluster, keys: &[Vec<u8>]) -> Storm {
        let hex = |key: &Vec<u8>| key.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let (addr, keys): (String, Vec<String>) = (cluster.addr(0).to_owned(), keys.iter().map(hex).collect());
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let storm = move || {
            let mut changes = Changes::new();
            for turn in 0.. {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                if let Some(kind) = change(&addr, &keys, turn) {
                    *changes.entry(kind).or_default() += 1;
                }
            }
            changes
        };
        Storm { stop, thread: std::thread::spawn(storm) }
    }

    /// Ends the storm.
    ///
    /// # Panics
    /// Panics if a kind of change was never made.
    pub fn end(self) -> Changes {
        self.stop.store(true, Ordering::Relaxed);
        let changes = self.thread.join().expect("the storm does not panic");
        println!("the storm made these changes: {changes:?}");
        assert_eq!(changes.len(), 4, "every kind of change was made: {changes:?}");
        changes
    }
}
