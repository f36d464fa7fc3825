//! Quorum durability: an entry is durable on a majority of the group's peers before any peer applies it.
//!
//! Source: Ongaro and Ousterhout, section 5.3 (an entry is committed once it is replicated on a majority); Ongaro's
//! dissertation, section 10.2.1 (a leader may commit before its own disk has the entry, if a majority has).

use std::collections::BTreeSet;

use super::Members;
use super::state::{Broken, Entry, PeerId};

/// The property's name.
pub const NAME: &str = "quorum-durability";

/// Judges the first apply of an entry, when `holders` of the group's `replicas` peers have it on their disks.
pub fn check(id: PeerId, index: u64, entry: Entry, holders: usize, replicas: usize) -> Result<(), Broken> {
    if holders > replicas / 2 {
        return Ok(());
    }
    let what = format!(
        "group {} entry {index} of term {} is applied but durable on {holders} of {replicas} peers",
        id.group, entry.term
    );
    Err((NAME, id.store, what))
}

/// Judges the first apply of an entry, when `holders` have it on their disks: a quorum of each half of one of the
/// newest memberships.
pub(super) fn check_members(
    id: PeerId,
    index: u64,
    entry: Entry,
    holders: &BTreeSet<u64>,
    members: &[Members],
) -> Result<(), Broken> {
    let held = |half: &Vec<u64>| half.iter().filter(|peer| holders.contains(peer)).count() > half.len() / 2;
    if members.iter().any(|members| members.halves.iter().all(held)) {
        return Ok(());
    }
    let halves = members.iter().take(1).flat_map(|newest| &newest.halves);
    let held = halves.map(|half| {
        let holders = half.iter().filter(|peer| holders.contains(peer)).count();
        format!("{holders} of {} peers", half.len())
    });
    let held = held.collect::<Vec<_>>().join(" and ");
    Err((
        NAME,
        id.store,
        format!("group {} entry {index} of term {} is applied but durable on {held}", id.group, entry.term),
    ))
}
