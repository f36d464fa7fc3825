//! The final judgement of a run, by the oracles that examine the whole history.

use std::collections::BTreeMap;

use armilla_check::{ABSENT, Action, Judgement};
use bytes::Bytes;

use crate::oracle::{Violation, durability, liveness, scan, tso, ttl};
use crate::plan::Plan;
use crate::workload::client::Ledger;
use crate::workload::history::{self, History};

/// Maximum number of steps of the search for an order of one key's operations.
const SEARCH_STEPS_MAX: u64 = 2_000_000;

/// Judges everything that clients saw; `boundaries` are all boundaries that regions ever had, and `finally` is the
/// content of the keys at the end. Returns the number of keys for which the search for an order was given up.
pub fn judge(
    plan: &Plan,
    ledger: &Ledger,
    boundaries: &[Bytes],
    finally: &BTreeMap<Bytes, Bytes>,
    at: u64,
) -> Result<u64, Violation> {
    let keys = plan.all_keys();
    let grants = ledger.grants.lock().expect("nothing panics while holding it").clone();
    tso::check(&grants)?;
    let leaderless = ledger.leaderless.lock().expect("nothing panics while holding it").first().copied();
    if let Some((at, region)) = leaderless {
        let what = format!("the placement driver returned region {region} without a leader, which clients cache");
        return Err(Violation::new("routing", at, 0, what));
    }
    let hole = ledger.holes.lock().expect("nothing panics while holding it").first().cloned();
    if let Some((at, key)) = hole {
        let what = format!("the placement driver knows no region that holds the key {}", history::show(&key));
        return Err(Violation::new("routing", at, 0, what));
    }
    let expiry = plan.knobs.settings().ttl;
    let collected_s = (expiry.collect_interval_ms > 0).then_some(expiry.collect_grace_ms / 1000);
    ledger.with(|history| {
        liveness::all_ended(history, at)?;
        let own: BTreeMap<Bytes, Bytes> =
            finally.iter().filter(|(key, _)| !key.contains(&b'~')).map(|(k, v)| (k.clone(), v.clone())).collect();
        durability::check(history, &keys, &own, at)?;
        scan::check(history, boundaries)?;
        ttl::check(history, &ledger.wall_clocks, collected_s)?;
        linearizable(history, &keys, at)
    })
}

/// Searches for an order of each key's operations. Returns the number of keys for which the search was given up.
fn linearizable(history: &History, keys: &[Bytes], at: u64) -> Result<u64, Violation> {
    let mut exhausted = 0;
    let (by_key, values) = history.by_key(keys);
    for (key, ops) in by_key.iter().filter(|(key, _)| key.starts_with(b"k")) {
        let op = match armilla_check::check(ABSENT, ops, SEARCH_STEPS_MAX) {
            Judgement::Linearizable => continue,
            Judgement::Exhausted => {
                exhausted += 1;
                continue;
            }
            Judgement::Violation { op } => op,
        };
        let record = &history.records[op];
        let saw = ops.iter().find(|own| own.op == op).map(|own| match own.action {
            Action::Read(value) => format!("read {}", values.show(value)),
            Action::ReadPresent => "saw that it exists".to_owned(),
            Action::Write(value) => format!("wrote {}", values.show(value)),
            Action::Swap { expected, new } => {
                format!("swapped {} for {}", values.show(expected), values.show(new))
            }
        });
        let what = format!(
            "key {} is not linearizable: client {} {} in [{:.3}s, {:.3}s]",
            history::show(key),
            record.client,
            saw.unwrap_or_default(),
            record.called as f64 / 1e9,
            record.returned as f64 / 1e9
        );
        return Err(Violation::new("linearizability", record.returned.min(at), 0, what));
    }
    Ok(exhausted)
}
