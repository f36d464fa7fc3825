//! The operations of the clients. Operation `n` of a client is a function of the workload's seed, the client and `n`;
//! only the value that a compare-and-swap expects depends on what the client saw before.

use std::collections::BTreeMap;

use armilla::rt::rng::Rng;
use bytes::Bytes;

use crate::plan::{Mix, Workload, key, op_rng};
use crate::workload::history::{Call, Ended};

/// Number of keys that are written with a time to live. They are outside the key space that linearizability is checked
/// for.
pub const TTL_KEYS: u32 = 4;

/// Returns the TTL key with this number.
pub fn ttl_key(number: u32) -> Bytes {
    format!("t{number}").into()
}

/// One client's memory: the value of each key that it saw last.
#[derive(Debug, Default)]
pub struct Memory {
    seen: BTreeMap<Bytes, Option<Bytes>>,
}

impl Memory {
    /// Remembers the values that a call revealed.
    pub fn note(&mut self, call: &Call, ended: &Ended) {
        match (call, ended) {
            (Call::Get(key), Ended::Value(value)) => drop(self.seen.insert(key.clone(), value.clone())),
            (Call::Put(key, value) | Call::PutTtl(key, value, _), Ended::Done) => {
                drop(self.seen.insert(key.clone(), Some(value.clone())))
            }
            (Call::Delete(key), Ended::Done) => drop(self.seen.insert(key.clone(), None)),
            (Call::Cas { key, new, .. }, Ended::Swapped { succeed, previous }) => {
                let now = if *succeed { Some(new.clone()) } else { previous.clone() };
                self.seen.insert(key.clone(), now);
            }
            (Call::BatchPut(pairs), Ended::Done) => {
                self.seen.extend(pairs.iter().map(|(key, value)| (key.clone(), Some(value.clone()))));
            }
            (Call::Scan { key_only: false, .. }, Ended::Pairs(pairs)) => {
                self.seen.extend(pairs.iter().map(|(key, value)| (key.clone(), Some(value.clone()))));
            }
            _ => {}
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Get,
    BatchGet,
    Put,
    BatchPut,
    Delete,
    BatchDelete,
    DeleteRange,
    Scan,
    ReverseScan,
    Cas,
    PutTtl,
    CasTtl,
}

fn kind(mix: &Mix, rng: &mut Rng) -> Kind {
    let weights = [
        (Kind::Get, mix.get),
        (Kind::BatchGet, mix.batch_get),
        (Kind::Put, mix.put),
        (Kind::BatchPut, mix.batch_put),
        (Kind::Delete, mix.delete),
        (Kind::BatchDelete, mix.batch_delete),
        (Kind::DeleteRange, mix.delete_range),
        (Kind::Scan, mix.scan),
        (Kind::ReverseScan, mix.reverse_scan),
        (Kind::Cas, mix.cas),
        (Kind::PutTtl, mix.put_ttl),
        (Kind::CasTtl, mix.cas_ttl),
    ];
    let sum: u64 = weights.iter().map(|(_, weight)| u64::from(*weight)).sum();
    let mut at = rng.below(sum.max(1));
    for (kind, weight) in weights {
        match at.checked_sub(u64::from(weight)) {
            None => return kind,
            Some(rest) => at = rest,
        }
    }
    Kind::Get
}

/// Returns when operation `n` of a client is planned to start, ms after the workload's start.
pub fn planned_ms(workload: &Workload, client: u32, n: u32) -> u64 {
    let jitter =
        Rng::fork(workload.seed ^ u64::from(client) << 32 ^ u64::from(n), "pace").below(workload.pace_ms.max(1));
    u64::from(n) * workload.pace_ms + jitter
}

/// Returns one operation of every kind, on keys that no other client uses.
pub fn every_kind() -> Vec<Call> {
    let key = |n: u32| Bytes::from(format!("b~every.{n}"));
    let value = |n: u32| Bytes::from(format!("every.{n}"));
    let (start, end) = (key(0), Bytes::from_static(b"b~every/"));
    let scan = |reverse| Call::Scan { start: start.clone(), end: end.clone(), limit: 10, reverse, key_only: false };
    vec![
        Call::Put(key(1), value(1)),
        Call::Get(key(1)),
        Call::BatchPut(vec![(key(2), value(2)), (key(3), value(3))]),
        Call::BatchGet(vec![key(1), key(2), key(4)]),
        Call::Cas { key: key(4), expected: None, new: value(4), ttl_s: 0 },
        Call::PutTtl(Bytes::from_static(b"t~every"), value(5), 10),
        scan(false),
        scan(true),
        Call::Delete(key(1)),
        Call::BatchDelete(vec![key(2), key(3)]),
        Call::DeleteRange(start.clone(), end.clone()),
    ]
}

/// Returns operation `n` of a client.
pub fn call(workload: &Workload, client: u32, n: u32, memory: &Memory) -> Call {
    let rng = &mut op_rng(workload.seed, client, n);
    let kind = kind(&workload.mix, rng);
    let mut part = 0;
    let mut value = || {
        part += 1;
        let mut text = format!("{client}.{n}.{part}").into_bytes();
        text.resize(text.len().max(workload.value_bytes as usize), b'.');
        Bytes::from(text)
    };
    let several = |rng: &mut Rng| -> Vec<Bytes> {
        let mut keys: Vec<Bytes> = (0..rng.between(2, 8)).map(|_| draw_key(workload, n, rng)).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    };
    match kind {
        Kind::Get if workload.mix.put_ttl > 0 && rng.chance(if workload.mix.put_ttl < 20 { 0.1 } else { 0.4 }) => {
            Call::Get(ttl_key(rng.below(u64::from(TTL_KEYS)) as u32))
        }
        Kind::Get => Call::Get(draw_key(workload, n, rng)),
        Kind::BatchGet => Call::BatchGet(several(rng)),
        Kind::Put => Call::Put(draw_key(workload, n, rng), value()),
        Kind::BatchPut => Call::BatchPut(several(rng).into_iter().map(|key| (key, value())).collect()),
        Kind::Delete => Call::Delete(draw_key(workload, n, rng)),
        Kind::BatchDelete => Call::BatchDelete(several(rng)),
        Kind::DeleteRange => {
            let (start, end) = range(workload, n, rng, 8);
            Call::DeleteRange(start, end)
        }
        Kind::Scan | Kind::ReverseScan => {
            let (start, end) = range(workload, n, rng, 20);
            let limit = if rng.chance(0.3) { rng.between(1, 5) as u32 } else { 100 };
            Call::Scan { start, end, limit, reverse: kind == Kind::ReverseScan, key_only: rng.chance(0.15) }
        }
        Kind::Cas => {
            let key = draw_key(workload, n, rng);
            let expected = memory.seen.get(&key).cloned().flatten();
            Call::Cas { key, expected, new: value(), ttl_s: 0 }
        }
        Kind::CasTtl => {
            let key = ttl_key(rng.below(u64::from(TTL_KEYS)) as u32);
            let expected = memory.seen.get(&key).cloned().flatten().filter(|_| rng.chance(0.7));
            Call::Cas { key, expected, new: value(), ttl_s: lifetime_s(rng) }
        }
        Kind::PutTtl => Call::PutTtl(ttl_key(rng.below(u64::from(TTL_KEYS)) as u32), value(), lifetime_s(rng)),
    }
}

/// Draws a time to live in seconds. Most are short, so that values expire, are collected and are written again while
/// others read them.
fn lifetime_s(rng: &mut Rng) -> u64 {
    if rng.chance(0.6) { rng.between(1, 3) } else { rng.between(4, 20) }
}

/// Draws a key. Half of the draws go to a few hot keys, so that operations conflict; where a range wanders, most go to
/// that.
fn draw_key(workload: &Workload, n: u32, rng: &mut Rng) -> Bytes {
    let keys = u64::from(workload.keys);
    let hot = (keys / 8).max(1);
    if let Some(start) = wandering(workload, n).filter(|_| rng.chance(0.7)) {
        return key(((u64::from(start) + rng.below(hot + 2)) % keys) as u32);
    }
    key(if rng.chance(0.5) { rng.below(hot) * (keys / hot) } else { rng.below(keys) } as u32)
}

/// Returns where the range begins that gets most operations of this number.
fn wandering(workload: &Workload, n: u32) -> Option<u32> {
    let stop = n.checked_div(workload.wander_ops)?;
    Some(Rng::fork(workload.seed ^ u64::from(stop), "wander").below(u64::from(workload.keys)) as u32)
}

/// Draws a range of at most `widest` keys.
fn range(workload: &Workload, n: u32, rng: &mut Rng, widest: u64) -> (Bytes, Bytes) {
    let start = match wandering(workload, n).filter(|_| rng.chance(0.7)) {
        Some(start) => start,
        None => rng.below(u64::from(workload.keys)) as u32,
    };
    let end = (start + rng.between(1, widest) as u32).min(workload.keys);
    (key(start), key(end))
}

#[cfg(test)]
mod tests {
    //! Goal: operations do not depend on each other, and no value is written twice.
    use super::*;

    #[test]
    fn values_are_unique_and_calls_reproducible() {
        let mut values = std::collections::BTreeSet::new();
        let mut kinds = std::collections::BTreeSet::new();
        for seed in 0..20 {
            let workload = crate::plan::swarm::plan(seed).workload;
            values.clear();
            for client in 1..=workload.clients {
                for n in 0..100 {
                    let one = call(&workload, client, n, &Memory::default());
                    assert_eq!(one, call(&workload, client, n, &Memory::default()));
                    kinds.insert(format!("{one:?}").split(['(', ' ']).next().map(str::to_owned));
                    let written: Vec<Bytes> = match one {
                        Call::Put(_, value) | Call::Cas { new: value, .. } | Call::PutTtl(_, value, _) => vec![value],
                        Call::BatchPut(pairs) => pairs.into_iter().map(|(_, value)| value).collect(),
                        _ => Vec::new(),
                    };
                    for value in written {
                        assert!(values.insert(value), "seed {seed}: a value twice");
                    }
                    assert!(planned_ms(&workload, client, n) < planned_ms(&workload, client, n + 1) + workload.pace_ms);
                }
            }
        }
        assert_eq!(kinds.len(), 10, "{kinds:?}");
    }
}
