//! A message with entries has at most `raft.append_kib_max` of them, and one entry more.
//!
//! Source: raft-rs merges what is proposed in one round into one message, of any size; a receiver must be able to bound its memory.

use armilla::rt::probe::Event;

use super::Violation;

/// The oracle.
#[derive(Debug, Default)]
pub struct Appends {
    /// What is configured, bytes; 0: not known yet.
    pub bytes_max: u64,
}

impl Appends {
    /// Judges one event of a node.
    pub fn observe(&self, now_ns: u64, node: u64, event: &Event) -> Result<(), Violation> {
        let Event::Note { store, what: "append", a: bytes, b: last_bytes, .. } = *event else { return Ok(()) };
        // What fits is never cut, an entry without bytes behind the bound included.
        if self.bytes_max == 0 || bytes <= self.bytes_max || bytes - last_bytes < self.bytes_max {
            return Ok(());
        }
        let what = format!(
            "store {store} was sent {bytes} bytes of entries in one message, the last of {last_bytes}; {} are allowed before it",
            self.bytes_max
        );
        Err(Violation::new("appends", now_ns, node, what))
    }
}

#[cfg(test)]
mod tests {
    //! Goal: the entry that passes the bound is the last.
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
