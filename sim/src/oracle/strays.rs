//! Messages from or to peers that are not members of the group have no effect.
//!
//! Source: Raft's members are those of the configuration (Ongaro's dissertation, section 4.2.3): servers that were
//! removed must not disrupt the rest.
//!
//! Stray messages are forged with terms that no peer reaches by itself, so a peer with such a term has accepted one.

use armilla::rt::probe::Event;

use super::Violation;

/// Terms from this one on occur only in stray messages.
pub const STRAY_TERM: u64 = 1 << 40;

/// Judges one event of a node.
pub fn observe(now_ns: u64, node: u64, event: &Event) -> Result<(), Violation> {
    let (store, group, term) = match *event {
        Event::HardState { store, group, term, .. }
        | Event::Follow { store, group, term, .. }
        | Event::Leader { store, group, term, .. } => (store, group, term),
        _ => return Ok(()),
    };
    if term < STRAY_TERM {
        return Ok(());
    }
    let what = format!("group {group}: store {store}'s peer accepted the term of a peer that is no member");
    Err(Violation::new("strays", now_ns, node, what))
}

#[cfg(test)]
mod tests {
    //! Goal: a stray term is found.
    use super::*;

    #[test]
    fn terms() {
        let leader = |term| Event::Leader { store: 1, group: 2, peer: 3, term };
        assert!(observe(0, 1, &leader(7)).is_ok() && observe(0, 1, &leader(STRAY_TERM + 1)).is_err());
    }
}
