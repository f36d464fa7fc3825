//! Timestamps are unique, strictly increasing, and respect real time across changes of the placement driver's leader.
//!
//! Source: Peng and Dabek, "Large-scale incremental processing using distributed transactions and notifications"
//! (Percolator, OSDI 2010), section 2.3: the timestamp oracle.

use armilla::rt::probe::Event;

/// A range of timestamps that a client received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The client.
    pub client: u32,
    /// True time of the call, ns.
    pub called: u64,
    /// True time of the return, ns.
    pub returned: u64,
    /// The first timestamp.
    pub first: u64,
    /// The last timestamp.
    pub last: u64,
}

/// The timestamps that PD reports as issued.
#[derive(Debug, Default)]
pub struct Issued {
    last: u64,
    by: u64,
    /// The number of batches.
    pub batches: u64,
}

impl Issued {
    /// Judges a batch when PD issues it: its first timestamp must be larger than every timestamp issued before by any
    /// store.
    pub fn observe(&mut self, event: &Event) -> Result<(), (&'static str, u64, String)> {
        let Event::Tso { store, last, count } = *event else { return Ok(()) };
        self.batches += 1;
        let first = last.saturating_sub(u64::from(count.max(1)) - 1);
        if first <= self.last {
            let what = format!("timestamp {first} issued after {} (by store {})", self.last, self.by);
            return Err(("timestamps", store, what));
        }
        (self.last, self.by) = (last, store);
        Ok(())
    }
}

/// Judges the clients' timestamps: none was issued twice, and a call that began after another had ended received a
/// larger one.
pub fn check(grants: &[Grant]) -> Result<(), super::Violation> {
    let mut by_value: Vec<&Grant> = grants.iter().collect();
    by_value.sort_by_key(|grant| (grant.first, grant.last));
    for pair in by_value.windows(2) {
        if pair[1].first <= pair[0].last {
            let what =
                format!("timestamp {} given to clients {} and {}", pair[1].first, pair[0].client, pair[1].client);
            return Err(super::Violation::new("timestamps", pair[1].returned.max(pair[0].returned), 0, what));
        }
    }
    // In descending order: no call for a larger timestamp may have returned before the call for a smaller one began.
    let mut earliest: Option<&Grant> = None;
    for grant in by_value.iter().rev() {
        if let Some(larger) = earliest.filter(|larger| larger.returned < grant.called) {
            let what = format!(
                "timestamp {} of client {} is below {}, which client {} had before",
                grant.last, grant.client, larger.first, larger.client
            );
            return Err(super::Violation::new("timestamps", grant.returned, 0, what));
        }
        if earliest.is_none_or(|larger| grant.returned < larger.returned) {
            earliest = Some(grant);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    //! Goal: each rule fires on the smallest list that breaks it.
    use super::*;

    fn grant(called: u64, returned: u64, first: u64, last: u64) -> Grant {
        Grant { client: called as u32, called, returned, first, last }
    }

    #[test]
    fn clients() {
        assert!(check(&[grant(0, 1, 10, 12), grant(2, 3, 13, 13)]).is_ok());
        assert!(check(&[grant(0, 5, 13, 13), grant(1, 6, 10, 12)]).is_ok(), "overlapping calls");
        assert!(check(&[grant(0, 1, 10, 12), grant(0, 3, 12, 13)]).is_err(), "twice");
        assert!(check(&[grant(0, 1, 13, 13), grant(2, 3, 10, 12)]).is_err(), "against real time");
        assert!(check(&[grant(0, 9, 20, 20), grant(0, 1, 13, 13), grant(2, 3, 10, 12)]).is_err());
    }

    #[test]
    fn issued() {
        let mut issued = Issued::default();
        let batch = |store, last, count| Event::Tso { store, last, count };
        assert!(issued.observe(&batch(1, 10, 3)).is_ok());
        assert!(issued.observe(&batch(2, 12, 2)).is_ok());
        assert!(issued.observe(&batch(1, 13, 2)).is_err());
    }
}
