//! A message contains at most `raft.append_kib_max` of entries, plus one entry.
//!
//! Source: raft-rs merges all proposals of a round into one message of any size; a receiver must be able to bound its
//! memory.

use armilla::rt::probe::Event;

use super::Violation;

/// The oracle.
#[derive(Debug, Default)]
pub struct Appends {
    /// The configured maximum, bytes; 0 if it is not known yet.
    pub bytes_max: u64,
}

impl Appends {
    /// Judges one event of a node.
    pub fn observe(&self, now_ns: u64, node: u64, event: &Event) -> Result<(), Violation> {
        let Event::Note { store, what: "append", a: bytes, b: last_bytes, .. } = *event else { return Ok(()) };
        // A message within the maximum is never cut, even if an entry without bytes follows one that reaches it.
        if self.bytes_max == 0 || bytes <= self.bytes_max || bytes - last_bytes < self.bytes_max {
            return Ok(());
        }
        let what = format!(
            "store {store} was sent {bytes} bytes of entries in one message, of which the last entry has {last_bytes}; at most {} bytes may precede it",
            self.bytes_max
        );
        Err(Violation::new("appends", now_ns, node, what))
    }
}

#[cfg(test)]
mod tests {
    //! Goal: an entry that exceeds the maximum must be the last one.
    use super::*;

    #[test]
    fn one_entry_more() {
        let appends = Appends { bytes_max: 100 };
        let append = |a, b| Event::Note { store: 1, what: "append", a, b, data: Default::default() };
        assert!(appends.observe(0, 1, &append(1099, 1000)).is_ok());
        assert!(appends.observe(0, 1, &append(200, 100)).is_err());
        assert!(appends.observe(0, 1, &append(100, 0)).is_ok(), "it fits, whatever the last entry is");
        assert!(appends.observe(0, 1, &append(101, 0)).is_err());
    }
}
