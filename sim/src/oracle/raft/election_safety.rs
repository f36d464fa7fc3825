//! Election safety: at most one leader is elected in a term.
//!
//! Source: Ongaro and Ousterhout, "In search of an understandable consensus algorithm (extended version)", section 5.2,
//! figure 3.

use super::state::{Broken, Group, PeerId};

/// The property's name.
pub const NAME: &str = "election-safety";

/// Judges that a peer became leader of `term`.
pub fn check(group: &Group, id: PeerId, term: u64) -> Result<(), Broken> {
    match group.leaders.get(&term) {
        Some(&(store, peer)) if (store, peer) != (id.store, id.peer) => {
            let what = format!("group {} has two leaders in term {term}: peers {peer} and {}", id.group, id.peer);
            Err((NAME, id.store, what))
        }
        _ => Ok(()),
    }
}
