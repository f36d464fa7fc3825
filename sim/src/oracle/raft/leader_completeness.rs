//! Leader completeness: an entry that was committed in a term is in the logs of the leaders of all later terms.
//!
//! Source: Ongaro and Ousterhout, section 5.4.3, figure 3.

use super::state::{Broken, Group, Peer, PeerId};

/// The property's name.
pub const NAME: &str = "leader-completeness";

/// Judges that a peer became leader of `term`.
pub fn check(group: &Group, peer: &Peer, id: PeerId, term: u64) -> Result<(), Broken> {
    let missing = group.applied.range(peer.base.0 + 1..).rev().find(|(index, entry)| {
        group.committed_by.get(index).is_some_and(|by| *by < term) && !peer.holds(**index, entry)
    });
    match missing {
        Some((index, entry)) => {
            let what = format!(
                "group {} leader of term {term} lacks committed entry {index} of term {}",
                id.group, entry.term
            );
            Err((NAME, id.store, what))
        }
        None => Ok(()),
    }
}
