//! Keys with a time to live are registers whose values expire: a value is visible until the earliest second in which it
//! may have expired, and invisible from the latest.
//!
//! Source: TiKV's RawKV with `api-version = 1ttl`: a value is visible for `ttl` seconds by the serving stores' clocks.
//!
//! The serving store's clock decides which second it is, and clocks differ, drift and are stepped. So the simulator
//! records all stores' wall clocks whenever a call begins or ends and around every step ([`WallClocks`]): the store
//! that served a call read a time between the lowest and the highest that any clock showed during the call. Results
//! that both bounds allow are not judged.
//!
//! Where expired values are collected, a value may be deleted once some leader's clock has shown that it has expired,
//! even if all clocks show less now. The command that deletes it may have been in flight for long, so every earlier
//! second counts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use armilla::rt::sim::World;
use bytes::Bytes;

use super::Violation;
use crate::workload::history::{Call, Ended, History, Record, show};

/// A record of the stores' wall clocks. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct WallClocks {
    stores: u64,
    /// True time (ns) and the lowest and the highest clock (ms), in order of time. No clock was stepped between two of
    /// them.
    seen: Arc<Mutex<Vec<(u64, u64, u64)>>>,
}

impl WallClocks {
    /// Creates the record for the nodes 1 to `stores`.
    pub fn new(stores: u32) -> WallClocks {
        WallClocks { stores: u64::from(stores), seen: Arc::default() }
    }

    /// Records all clocks now.
    pub fn look(&self, world: &World) {
        let shown = (1..=self.stores).filter_map(|id| world.get(id)).map(|node| node.clock().wall_ms());
        let (low, high) = shown.fold((u64::MAX, 0), |(low, high), ms| (low.min(ms), high.max(ms)));
        self.add(world.now_ns(), low, high);
    }

    fn add(&self, at_ns: u64, low: u64, high: u64) {
        self.seen.lock().expect("nothing panics while holding it").push((at_ns, low, high));
    }

    /// Returns the lowest and the highest time (Unix seconds) that any clock showed between two true times at which the
    /// clocks were recorded.
    fn between(&self, from_ns: u64, to_ns: u64) -> (u64, u64) {
        let seen = self.seen.lock().expect("nothing panics while holding it");
        let first = seen.partition_point(|(at, ..)| *at < from_ns);
        let within = seen[first..].iter().take_while(|(at, ..)| *at <= to_ns);
        let (low, high) = within.fold((u64::MAX, 0), |(low, high), look| (low.min(look.1), high.max(look.2)));
        (low / 1000, high / 1000)
    }
}

/// A write of a key.
struct Write {
    called: u64,
    /// `u64::MAX` if the outcome is unknown.
    returned: u64,
    value: Bytes,
    expires_s: (u64, u64),
}

/// Judges all calls on keys that are only ever written with a time to live. If expired values are collected,
/// `collected_s` is how many seconds after their expiry.
pub fn check(history: &History, wall_clocks: &WallClocks, collected_s: Option<u64>) -> Result<(), Violation> {
    let mut writes: BTreeMap<&Bytes, Vec<Write>> = BTreeMap::new();
    for record in &history.records {
        let (key, value, ttl_s) = match (&record.call, &record.ended) {
            (_, Ended::Failed(_)) | (Call::Cas { .. }, Ended::Swapped { succeed: false, .. }) => continue,
            (Call::PutTtl(key, value, ttl_s), _) => (key, value, *ttl_s),
            (Call::Cas { key, new, ttl_s, .. }, _) if *ttl_s > 0 => (key, new, *ttl_s),
            _ => continue,
        };
        let known = !matches!(record.ended, Ended::Unknown(_));
        let returned = if known { record.returned } else { u64::MAX };
        let (low, high) = wall_clocks.between(record.called, returned);
        // A request whose client has given up may be served after the clocks were last recorded.
        let high = if known { high + ttl_s } else { u64::MAX };
        let write = Write { called: record.called, returned, value: value.clone(), expires_s: (low + ttl_s, high) };
        writes.entry(key).or_default().push(write);
    }
    for record in &history.records {
        let (key, seen) = match (&record.call, &record.ended) {
            (Call::Get(key), Ended::Value(value)) => (key, value),
            (Call::Cas { key, .. }, Ended::Swapped { previous, .. }) => (key, previous),
            _ => continue,
        };
        let Some(writes) = writes.get(key) else { continue };
        let (low_s, mut high_s) = wall_clocks.between(record.called, record.returned);
        if let Some(grace_s) = collected_s
            && seen.is_none()
        {
            high_s = high_s.max(wall_clocks.between(0, record.returned).1.saturating_sub(grace_s));
        }
        judge(record, seen.as_ref(), writes, (low_s, high_s)).map_err(|why| {
            let saw = seen.as_ref().map_or("absent".to_owned(), |value| show(value));
            let what = format!("key {} of client {}: {saw}, {why}", show(key), record.client);
            Violation::new("ttl", record.returned, 0, what)
        })?;
    }
    Ok(())
}

fn judge(record: &Record, seen: Option<&Bytes>, writes: &[Write], (low_s, high_s): (u64, u64)) -> Result<(), String> {
    if let (Call::Cas { expected, .. }, Ended::Swapped { succeed, previous }) = (&record.call, &record.ended)
        && *succeed != (expected == previous)
    {
        return Err("but the swap's outcome does not match that value".into());
    }
    // The latest begin of a write that ended before this call began. A write that ended before that was overwritten.
    let before = |write: &&Write| write.returned < record.called;
    let horizon = writes.iter().filter(before).map(|write| write.called).max();
    let current = |write: &Write| write.called < record.returned && horizon.is_none_or(|at| write.returned >= at);
    match seen {
        Some(value) => {
            let own = |ended: &Call| matches!(ended, Call::Cas { new, .. } if new == value);
            let Some(write) = writes.iter().find(|write| write.value == *value) else {
                return Err(if own(&record.call) { "its own value".into() } else { "which no client wrote".into() });
            };
            if !current(write) {
                return Err("which was overwritten before the call, or written after it".into());
            }
            if low_s >= write.expires_s.1 {
                return Err(format!("which expired by {} s, but it was at least {low_s} s", write.expires_s.1));
            }
        }
        None => {
            let alive = |write: &Write| high_s < write.expires_s.0;
            if horizon.is_some() && writes.iter().filter(|write| current(write)).all(alive) {
                return Err(format!("but every value that can be current expires later than {high_s} s"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    //! Goal: values that expire too early or too late are found; results that the clocks allow are not reported.
    use super::*;

    const S: u64 = 1_000_000_000;

    fn b(s: &str) -> Bytes {
        Bytes::copy_from_slice(s.as_bytes())
    }

    /// Judges a put with a time to live of 10 s at second 100 (by clocks that differ by `skew_s`), then a call at
    /// second `at`.
    fn judge(skew_s: u64, at: u64, call: Call, ended: Ended) -> bool {
        judge_collected(None, 0, skew_s, at, call, ended)
    }

    /// Judges the same after a clock has once shown `stepped_s`.
    fn judge_collected(
        collected_s: Option<u64>,
        stepped_s: u64,
        skew_s: u64,
        at: u64,
        call: Call,
        ended: Ended,
    ) -> bool {
        let wall_clocks = WallClocks::new(3);
        wall_clocks.add(S, 1000, stepped_s * 1000);
        let mut history = History::default();
        let mut add = |call, ended, second: u64| {
            for moment in [second * S, second * S + 5] {
                wall_clocks.add(moment, second * 1000, (second + skew_s) * 1000);
            }
            let n = history.begin(1, call, second * S);
            history.end(n, ended, second * S + 5);
        };
        add(Call::PutTtl(b("t"), b("v"), 10), Ended::Done, 100);
        add(call, ended, at);
        check(&history, &wall_clocks, collected_s).is_ok()
    }

    #[test]
    fn gets() {
        let get = |skew, at, seen: Option<&str>| judge(skew, at, Call::Get(b("t")), Ended::Value(seen.map(b)));
        assert!(get(0, 109, Some("v")) && !get(0, 109, None));
        assert!(get(0, 110, None) && !get(0, 110, Some("v")));
        assert!(get(3, 108, None) && get(3, 112, Some("v")), "clocks differ");
        assert!(!get(3, 106, None) && !get(3, 113, Some("v")), "not that much");
        assert!(!get(0, 105, Some("w")), "it was never written");
    }

    #[test]
    fn collected_values_stay_away() {
        let absent =
            |collected, stepped, at| judge_collected(collected, stepped, 0, at, Call::Get(b("t")), Ended::Value(None));
        assert!(!absent(None, 500, 105), "without collection only the seconds of the call count");
        assert!(absent(Some(0), 500, 105) && absent(Some(390), 500, 105));
        assert!(!absent(Some(391), 500, 105) && !absent(Some(0), 0, 105) && absent(Some(0), 0, 110));
    }

    #[test]
    fn swaps() {
        let cas = |at, expected: Option<&str>, succeed, previous: Option<&str>| {
            let call = Call::Cas { key: b("t"), expected: expected.map(b), new: b("w"), ttl_s: 5 };
            judge(0, at, call, Ended::Swapped { succeed, previous: previous.map(b) })
        };
        assert!(cas(105, Some("v"), true, Some("v")));
        assert!(!cas(105, None, true, None), "it was there");
        assert!(cas(120, None, true, None));
        assert!(!cas(120, Some("v"), true, Some("v")), "it had expired");
        assert!(!cas(120, None, false, Some("v")), "it had expired");
        assert!(!cas(105, Some("x"), true, Some("v")), "not what was expected");
    }
}
