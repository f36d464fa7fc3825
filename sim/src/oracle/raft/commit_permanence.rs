//! Commit permanence: a committed entry is never removed from a log or overwritten there.
//!
//! Source: Ongaro and Ousterhout, section 5.3 (a leader's log only grows, and a follower overwrites only what conflicts
//! with it) and 5.4.3 (so no committed entry ever conflicts).

use super::state::{Broken, Group, Peer, PeerId};

/// The property's name.
pub const NAME: &str = "commit-permanence";

/// Judges that a peer's log is truncated or overwritten from an index on.
pub fn check(group: &Group, peer: &Peer, id: PeerId, from: u64) -> Result<(), Broken> {
    let lost = peer.log.range(from..).find(|(index, entry)| group.applied.get(index) == Some(entry));
    match lost {
        Some((index, entry)) => {
            let what = format!("group {} committed entry {index} of term {} overwritten", id.group, entry.term);
            Err((NAME, id.store, what))
        }
        None => Ok(()),
    }
}
