//! Acknowledged writes are readable at the end.
//!
//! Source: the D of ACID (Haerder and Reuter 1983), for every acknowledged write.
//!
//! After healing (and, in many runs, after every process has crashed once more and lost everything that was not
//! synced), each key is read. The value must not be older than an acknowledged write. Linearizability implies this, but
//! a separate oracle reports lost writes by name.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::Violation;
use crate::workload::history::{Call, Ended, History, show};

/// One write of a key: when it can have taken effect, and the value that it left.
struct Write<'a> {
    called: u64,
    returned: u64,
    acknowledged: bool,
    value: Option<&'a Bytes>,
}

fn writes<'a>(history: &'a History, keys: &'a [Bytes]) -> BTreeMap<&'a Bytes, Vec<Write<'a>>> {
    let mut all: BTreeMap<&Bytes, Vec<Write<'_>>> = BTreeMap::new();
    for record in &history.records {
        let acknowledged = match (&record.call, &record.ended) {
            (_, Ended::Failed(_)) | (Call::Cas { .. }, Ended::Swapped { succeed: false, .. }) => continue,
            (_, Ended::Unknown(_)) => false,
            _ => true,
        };
        let returned = if acknowledged { record.returned } else { u64::MAX };
        let mut add = |key: &'a Bytes, value: Option<&'a Bytes>| {
            all.entry(key).or_default().push(Write { called: record.called, returned, acknowledged, value });
        };
        match &record.call {
            Call::Put(key, value) | Call::Cas { key, new: value, .. } => add(key, Some(value)),
            Call::BatchPut(pairs) => pairs.iter().for_each(|(key, value)| add(key, Some(value))),
            Call::Delete(key) => add(key, None),
            Call::BatchDelete(deleted) => deleted.iter().for_each(|key| add(key, None)),
            Call::DeleteRange(start, end) => {
                keys.iter().filter(|key| *key >= start && *key < end).for_each(|key| add(key, None));
            }
            Call::Get(_) | Call::BatchGet(_) | Call::Scan { .. } | Call::PutTtl(..) => {}
        }
    }
    all
}

/// Judges the keys' final values.
pub fn check(history: &History, keys: &[Bytes], finally: &BTreeMap<Bytes, Bytes>, at: u64) -> Result<(), Violation> {
    let writes = writes(history, keys);
    let none = Vec::new();
    for key in keys {
        let writes = writes.get(key).unwrap_or(&none);
        let found = finally.get(key);
        // The latest time at which the value can have been written. Every key is absent at first.
        let origin = writes.iter().filter(|write| write.value == found).map(|write| write.returned).max();
        let origin = if found.is_none() { Some(origin.unwrap_or(0)) } else { origin };
        let Some(origin) = origin else {
            let what = format!("key {} holds {}, which no client wrote", show(key), show(found.expect("present")));
            return Err(Violation::new("durability", at, 0, what));
        };
        let lost = writes
            .iter()
            .filter(|write| write.acknowledged && write.called > origin && write.value != found)
            .max_by_key(|w| w.called);
        if let Some(lost) = lost {
            let word = |value: Option<&Bytes>| value.map_or("absent".into(), |v| show(v));
            let what = format!(
                "acknowledged write lost: key {} was {} at {:.3}s and is {}",
                show(key),
                word(lost.value),
                lost.returned as f64 / 1e9,
                word(found)
            );
            return Err(Violation::new("durability", at, 0, what));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    //! Goal: a lost write is found, whatever replaced it; a write with an unknown outcome may be there or not.
    use super::*;

    fn b(s: &str) -> Bytes {
        Bytes::copy_from_slice(s.as_bytes())
    }
    fn history() -> History {
        let mut h = History::default();
        let mut put = |value: &str, called, ended: Ended| {
            let n = h.begin(1, Call::Put(b("k"), b(value)), called);
            h.end(n, ended, called + 1);
        };
        put("1", 0, Ended::Done);
        put("2", 10, Ended::Done);
        put("3", 20, Ended::Unknown("?".into()));
        put("4", 30, Ended::Failed("no".into()));
        h
    }
    fn judge(found: Option<&str>) -> bool {
        let finally = found.map(|v| (b("k"), b(v))).into_iter().collect();
        check(&history(), &[b("k")], &finally, 100).is_ok()
    }

    #[test]
    fn lost_and_not_lost() {
        assert!(judge(Some("2")));
        assert!(judge(Some("3")));
        assert!(!judge(Some("1")));
        assert!(!judge(Some("4")));
        assert!(!judge(None));
    }
}
