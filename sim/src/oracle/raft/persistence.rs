//! Persistence: a peer's term, its vote in that term, its commit index and its durable log never go back, even over
//! restarts.
//!
//! Source: Ongaro and Ousterhout, figure 2 ("persistent state on all servers"); Ongaro's dissertation, section 3.8.

use super::state::{Broken, Peer, PeerId};

/// The property's name.
pub const NAME: &str = "persistence";

/// Judges the durable state with which a peer starts.
pub fn check_start(
    peer: &Peer,
    id: PeerId,
    (term, vote, commit): (u64, u64, u64),
    last_index: u64,
) -> Result<(), Broken> {
    let name = format!("group {} peer {}", id.group, id.peer);
    if term < peer.term {
        return Err((NAME, id.store, format!("{name}: term {} became {term} over a restart", peer.term)));
    }
    if term == peer.term && peer.vote != 0 && vote != peer.vote {
        let what = format!("{name}: vote for {} in term {term} became {vote} over a restart", peer.vote);
        return Err((NAME, id.store, what));
    }
    if last_index < peer.last_index_at_least() {
        let what = format!("{name}: durable log up to {} became {last_index} over a restart", peer.last_index());
        return Err((NAME, id.store, what));
    }
    if commit < peer.carried {
        let what = format!(
            "{name}: a record was written after {} was committed, but only {commit} is known after a restart",
            peer.carried
        );
        return Err((NAME, id.store, what));
    }
    Ok(())
}

/// Judges a term, vote and commit index that became durable.
pub fn check(peer: &Peer, id: PeerId, term: u64, vote: u64, commit: u64) -> Result<(), Broken> {
    let name = format!("group {} peer {}", id.group, id.peer);
    if term < peer.term {
        return Err((NAME, id.store, format!("{name}: term {} went back to {term}", peer.term)));
    }
    if term == peer.term && peer.vote != 0 && vote != peer.vote {
        return Err((NAME, id.store, format!("{name}: voted for {} and then {vote} in term {term}", peer.vote)));
    }
    if commit < peer.commit {
        return Err((NAME, id.store, format!("{name}: commit {} went back to {commit}", peer.commit)));
    }
    Ok(())
}
