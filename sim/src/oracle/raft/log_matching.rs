//! Log matching: two logs that have an entry with the same index and term have the same entry there.
//!
//! Source: Ongaro and Ousterhout, section 5.3, figure 3. (By induction over the same check, all entries before it are
//! the same as well.)

use super::state::{Broken, Entry, Group, PeerId};

/// The property's name.
pub const NAME: &str = "log-matching";

/// Judges an entry that became durable.
pub fn check(group: &Group, id: PeerId, index: u64, entry: Entry) -> Result<(), Broken> {
    match group.entries.get(&(index, entry.term)) {
        Some(known) if *known != entry.hash => {
            let what = format!("group {} entry {index} of term {} has two contents", id.group, entry.term);
            Err((NAME, id.store, what))
        }
        _ => Ok(()),
    }
}
