//! Lease reads: a read without a quorum is served by the leader of the lease's term, while no later term has a leader.
//!
//! Source: Ongaro's dissertation, section 6.4.1. The leases themselves are judged by [`crate::oracle::lease`].

use super::state::{Broken, Group, PeerId};

/// The property's name.
pub const NAME: &str = "lease-reads";

/// Judges that a read was served under a lease of `term`.
pub fn check(group: &Group, id: PeerId, term: u64) -> Result<(), Broken> {
    if group.leaders.get(&term) != Some(&(id.store, id.peer)) {
        let what =
            format!("group {} peer {} read under a lease of term {term} that it does not lead", id.group, id.peer);
        return Err((NAME, id.store, what));
    }
    if let Some((&later, &(_, leader))) = group.leaders.last_key_value().filter(|(newest, _)| **newest > term) {
        let what = format!(
            "group {} peer {} read under its lease of term {term} while peer {leader} led term {later}",
            id.group, id.peer
        );
        return Err((NAME, id.store, what));
    }
    Ok(())
}
