//! A scan's response has the right shape, and its pairs of one region existed at one moment.
//!
//! `armilla_check` judges whether each key's value fits that key's history
//! ([`crate::workload::history::History::by_key`] turns a scan into a read of every key that it covers). This oracle
//! judges order, bounds, limit, and that a scan of keys returns no values. Within one region, the spans in which the
//! returned values can have been current must also have a moment in common, during the scan.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::Violation;
use crate::workload::history::{Call, Ended, History, Record, show};

/// Judges every scan. `splits` are all boundaries that regions ever had, in ascending order.
pub fn check(history: &History, splits: &[Bytes]) -> Result<(), Violation> {
    let spans = Spans::new(history);
    for record in &history.records {
        let (Call::Scan { .. }, Ended::Pairs(pairs)) = (&record.call, &record.ended) else { continue };
        shape(record, pairs).and_then(|()| one_moment(record, pairs, splits, &spans)).map_err(|what| {
            let Call::Scan { start, end, limit, reverse, .. } = &record.call else { unreachable!() };
            let kind = if *reverse { "reverse scan" } else { "scan" };
            let (start, end, client) = (show(start), show(end), record.client);
            let what = format!("{kind} [{start}, {end}) limit {limit} of client {client}: {what}");
            Violation::new("scan", record.returned, 0, what)
        })?;
    }
    Ok(())
}

fn shape(record: &Record, pairs: &[(Bytes, Bytes)]) -> Result<(), String> {
    let Call::Scan { start, end, limit, reverse, key_only } = &record.call else { return Ok(()) };
    if pairs.len() > *limit as usize {
        return Err(format!("{} pairs", pairs.len()));
    }
    for pair in pairs.windows(2) {
        let ordered = if *reverse { pair[0].0 > pair[1].0 } else { pair[0].0 < pair[1].0 };
        if !ordered {
            return Err(format!("{} then {}", show(&pair[0].0), show(&pair[1].0)));
        }
    }
    for (key, value) in pairs {
        if key < start || key >= end {
            return Err(format!("{} is outside", show(key)));
        }
        if *key_only && !value.is_empty() {
            return Err(format!("{} came with a value", show(key)));
        }
    }
    Ok(())
}

/// One write of a key: called, returned (`u64::MAX` if unknown), acknowledged, value written.
type Write = (u64, u64, bool, Option<Bytes>);

/// The span in which each written value can have been current: from the begin of its write until the end of the first
/// acknowledged write of the key that began after its own write had ended.
struct Spans {
    /// By (key, value): begin and end, true ns.
    of: BTreeMap<(Bytes, Bytes), (u64, u64)>,
}

impl Spans {
    fn new(history: &History) -> Spans {
        // By key.
        let mut writes: BTreeMap<Bytes, Vec<Write>> = BTreeMap::new();
        for record in &history.records {
            let known = !matches!(record.ended, Ended::Unknown(_));
            let ret = if known { record.returned } else { u64::MAX };
            let mut add = |key: &Bytes, value: Option<&Bytes>| {
                writes.entry(key.clone()).or_default().push((record.called, ret, known, value.cloned()));
            };
            match (&record.call, &record.ended) {
                (_, Ended::Failed(_)) | (Call::Cas { .. }, Ended::Swapped { succeed: false, .. }) => {}
                (Call::Put(key, value) | Call::Cas { key, new: value, .. }, _) => add(key, Some(value)),
                (Call::BatchPut(pairs), _) => pairs.iter().for_each(|(key, value)| add(key, Some(value))),
                (Call::Delete(key), _) => add(key, None),
                (Call::BatchDelete(keys), _) => keys.iter().for_each(|key| add(key, None)),
                _ => {}
            }
        }
        let mut of = BTreeMap::new();
        for (key, writes) in writes {
            // Acknowledged writes in the order of their calls, each with the earliest end of itself and all later ones.
            let mut later: Vec<(u64, u64)> = writes.iter().filter(|w| w.2).map(|w| (w.0, w.1)).collect();
            later.sort_unstable();
            let mut least = u64::MAX;
            for entry in later.iter_mut().rev() {
                least = least.min(entry.1);
                entry.1 = least;
            }
            for (called, returned, _, value) in &writes {
                let Some(value) = value else { continue };
                let next = later.partition_point(|&(call, _)| call <= *returned);
                let end = later.get(next).map_or(u64::MAX, |&(_, end)| end);
                of.insert((key.clone(), value.clone()), (*called, end));
            }
        }
        Spans { of }
    }
}

fn one_moment(record: &Record, pairs: &[(Bytes, Bytes)], splits: &[Bytes], spans: &Spans) -> Result<(), String> {
    let Call::Scan { key_only: false, .. } = &record.call else { return Ok(()) };
    let mut window = (record.called, record.returned);
    let mut region = usize::MAX;
    for (key, value) in pairs {
        let here = splits.partition_point(|split| split <= key);
        if here != region {
            region = here;
            window = (record.called, record.returned);
        }
        let Some(&(begin, end)) = spans.of.get(&(key.clone(), value.clone())) else {
            return Err(format!("{} has a value that no client wrote: {}", show(key), show(value)));
        };
        window = (window.0.max(begin), window.1.min(end));
        if window.0 > window.1 {
            return Err(format!("there is no moment at which all pairs up to {} existed", show(key)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    //! Goal: each rule fires on the smallest history that breaks it, and not on the nearest legal one.
    use super::*;

    fn b(s: &str) -> Bytes {
        Bytes::copy_from_slice(s.as_bytes())
    }
    fn put(history: &mut History, key: &str, value: &str, called: u64, returned: u64) {
        let n = history.begin(1, Call::Put(b(key), b(value)), called);
        history.end(n, Ended::Done, returned);
    }
    fn scan(history: &mut History, reverse: bool, limit: u32, pairs: &[(&str, &str)], called: u64, returned: u64) {
        let call = Call::Scan { start: b("a"), end: b("z"), limit, reverse, key_only: false };
        let n = history.begin(2, call, called);
        history.end(n, Ended::Pairs(pairs.iter().map(|(k, v)| (b(k), b(v))).collect()), returned);
    }

    #[test]
    fn order_limit_and_origin() {
        let mut base = History::default();
        put(&mut base, "a", "1", 0, 1);
        put(&mut base, "b", "2", 2, 3);
        let judge = |reverse, limit, pairs: &[(&str, &str)]| {
            let mut history = base.clone();
            scan(&mut history, reverse, limit, pairs, 10, 11);
            check(&history, &[]).is_ok()
        };
        assert!(judge(false, 2, &[("a", "1"), ("b", "2")]));
        assert!(judge(true, 2, &[("b", "2"), ("a", "1")]));
        assert!(!judge(true, 2, &[("a", "1"), ("b", "2")]));
        assert!(!judge(false, 1, &[("a", "1"), ("b", "2")]));
        assert!(!judge(false, 2, &[("a", "9")]));
        assert!(!judge(false, 2, &[("zz", "1")]));
    }

    #[test]
    fn one_region_shows_one_moment() {
        let mut base = History::default();
        put(&mut base, "a", "a1", 0, 1);
        put(&mut base, "b", "b1", 2, 3);
        // During the scan [10, 40]: a is overwritten first, then b.
        put(&mut base, "a", "a2", 12, 14);
        put(&mut base, "b", "b2", 20, 22);
        let judge = |splits: &[Bytes], pairs: &[(&str, &str)]| {
            let mut history = base.clone();
            scan(&mut history, false, 10, pairs, 10, 40);
            check(&history, splits).is_ok()
        };
        assert!(judge(&[], &[("a", "a2"), ("b", "b1")]));
        assert!(!judge(&[], &[("a", "a1"), ("b", "b2")]), "a1 was overwritten before b2 was written");
        assert!(judge(&[b("b")], &[("a", "a1"), ("b", "b2")]), "two regions may show two moments");
    }
}
