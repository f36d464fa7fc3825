//! State machine safety: no two peers apply different entries at the same index; each applies them in order and without
//! gaps.
//!
//! Source: Ongaro and Ousterhout, section 5.4.3, figure 3; for snapshots section 7.

use super::state::{Broken, Entry, Group, Peer, PeerId};

/// The property's name.
pub const NAME: &str = "state-machine-safety";

/// Judges that a peer applied an entry.
pub fn check(group: &Group, peer: &Peer, id: PeerId, index: u64, entry: Entry) -> Result<(), Broken> {
    if let Some(known) = group.applied.get(&index).filter(|known| **known != entry) {
        let what = format!(
            "group {} index {index}: one peer applied an entry of term {}, another peer one of term {}",
            id.group, known.term, entry.term
        );
        return Err((NAME, id.store, what));
    }
    if group.applied.get(&index.saturating_sub(1)).is_some_and(|before| before.term > entry.term) {
        let what = format!("group {} index {index}: term goes back to {}", id.group, entry.term);
        return Err((NAME, id.store, what));
    }
    if peer.applied != 0 && index != peer.applied + 1 {
        let what = format!("group {} peer {} applied {index} after {}", id.group, id.peer, peer.applied);
        return Err((NAME, id.store, what));
    }
    Ok(())
}

/// Judges that a snapshot replaced a peer's state.
pub fn check_snapshot(group: &Group, peer: &Peer, id: PeerId, index: u64, term: u64) -> Result<(), Broken> {
    if let Some(known) = group.applied.get(&index).filter(|known| known.term != term) {
        let what = format!("group {} snapshot at {index} has term {term}, the entry has term {}", id.group, known.term);
        return Err((NAME, id.store, what));
    }
    if index < peer.applied {
        let what =
            format!("group {} peer {} went back from {} by a snapshot at {index}", id.group, id.peer, peer.applied);
        return Err((NAME, id.store, what));
    }
    Ok(())
}
