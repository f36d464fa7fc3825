//! Liveness after all faults have ended: within a bound that follows from the plan's timeouts, every pending operation
//! ends, every region accepts writes, and all replicas catch up.
//!
//! Source: availability of Raft while a majority can communicate and timing holds (Ongaro and Ousterhout, section 5.6).

use crate::plan::Plan;
use crate::workload::history::{Ended, History, show};

use super::Violation;

/// Returns how long after healing the cluster must have recovered, ns.
///
/// Election timeouts at most double with each failed round, lost connections are detected within keepalive's 15 s, and
/// clients back off for at most their deadline. A minute is generous for all of this; slow raft clocks and long
/// deadlines are added.
pub fn bound_ns(plan: &Plan) -> u64 {
    let raft = plan.knobs.settings().raft;
    let election_ms = raft.tick_ms * raft.election_ticks as u64;
    (60_000 + 10 * election_ms + 2 * plan.workload.deadline_ms) * 1_000_000
}

/// Judges whether all operations have ended.
pub fn all_ended(history: &History, at: u64) -> Result<(), Violation> {
    match history.records.iter().find(|record| record.returned == u64::MAX) {
        None => Ok(()),
        Some(record) => {
            let what = format!(
                "an operation of client {} never ended: {} since {:.3}s",
                record.client,
                describe(&record.call),
                record.called as f64 / 1e9
            );
            Err(Violation::new("liveness", at, 0, what))
        }
    }
}

/// Describes an operation.
pub fn describe(call: &crate::workload::history::Call) -> String {
    use crate::workload::history::Call;
    match call {
        Call::Get(key) => format!("get {}", show(key)),
        Call::Put(key, _) | Call::PutTtl(key, ..) => format!("put {}", show(key)),
        Call::Delete(key) => format!("delete {}", show(key)),
        Call::Cas { key, .. } => format!("compare-and-swap {}", show(key)),
        Call::BatchGet(keys) | Call::BatchDelete(keys) => format!("batch of {}", keys.len()),
        Call::BatchPut(pairs) => format!("batch put of {}", pairs.len()),
        Call::DeleteRange(start, end) => format!("delete range [{}, {})", show(start), show(end)),
        Call::Scan { start, end, .. } => format!("scan [{}, {})", show(start), show(end)),
    }
}

/// Returns how many operations were served, for the report.
pub fn served(history: &History) -> usize {
    history.records.iter().filter(|record| !matches!(record.ended, Ended::Failed(_) | Ended::Unknown(_))).count()
}

#[cfg(test)]
mod tests {
    //! Goal: an operation that has not ended is found.
    use super::*;
    use crate::workload::history::Call;
    use bytes::Bytes;

    #[test]
    fn under_way() {
        let mut history = History::default();
        let n = history.begin(1, Call::Get(Bytes::from_static(b"k")), 5);
        assert!(all_ended(&history, 9).is_err());
        history.end(n, Ended::Value(None), 7);
        assert!(all_ended(&history, 9).is_ok());
        assert_eq!(served(&history), 1);
    }
}
