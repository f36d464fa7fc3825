//! Counts splits, merges and membership changes, each once for the cluster and not once for every replica.

use std::collections::{BTreeMap, BTreeSet};

use armilla::rt::probe::Event;
use armilla::types::region;

use crate::oracle::ranges;

/// What happened to the regions of a run.
#[derive(Debug, Default)]
pub struct Operations {
    born: BTreeSet<u64>,
    absorbed: BTreeSet<u64>,
    /// By region, the placement driver's among them: every `conf_ver` that a peer has shown.
    memberships: BTreeMap<u64, BTreeSet<u64>>,
}

impl Operations {
    /// Notes one event of a node.
    pub fn observe(&mut self, event: &Event) {
        match event {
            Event::Note { what: "born", a: group, .. } => {
                self.born.insert(*group);
            }
            Event::Note { what: "absorbed", a: group, .. } => {
                self.absorbed.insert(*group);
            }
            Event::Region { group, descriptor, .. } => {
                let conf_ver = region::epoch(&ranges::decode(descriptor)).conf_ver;
                self.memberships.entry(*group).or_default().insert(conf_ver);
            }
            _ => {}
        }
    }

    /// Returns the numbers of the kinds, by the names under which a run reports them.
    pub fn counts(&self) -> [(&'static str, u64); 3] {
        let changes = self.memberships.values().map(|shown| shown.len() as u64 - 1).sum();
        [("splits", self.born.len() as u64), ("merges", self.absorbed.len() as u64), ("membership_changes", changes)]
    }
}
