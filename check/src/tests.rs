//! Goal: the search accepts exactly the histories that some order explains. Method: known histories, then tiny random
//! histories that are compared with a search of all orders.
use super::*;

/// A separate generator, so that this crate has no dependencies (xorshift64*).
struct Rng(u64);

impl Rng {
    fn new(seed: u64) -> Rng {
        Rng(seed.wrapping_mul(2).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }
    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
    fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }
    fn chance(&mut self, probability: f64) -> bool {
        (self.next() as f64) < probability * (1u64 << 53) as f64
    }
}

fn op(call: u64, ret: u64, action: Action) -> KeyOp {
    KeyOp { op: call as usize, call, ret: Some(ret), action }
}
fn lost(call: u64, action: Action) -> KeyOp {
    KeyOp { op: call as usize, call, ret: None, action }
}
fn ok(ops: &[KeyOp]) -> bool {
    match check(ABSENT, ops, 1 << 20) {
        Judgement::Linearizable => true,
        Judgement::Violation { .. } => false,
        Judgement::Exhausted => panic!("a small history must be decided"),
    }
}
use Action::{Read, ReadPresent, Swap, Write};

#[test]
fn sequential_register() {
    assert!(ok(&[op(0, 1, Read(0)), op(2, 3, Write(1)), op(4, 5, Read(1)), op(6, 7, Write(0)), op(8, 9, Read(0))]));
    assert!(!ok(&[op(2, 3, Write(1)), op(4, 5, Read(0))]), "a lost write");
    assert!(!ok(&[op(2, 3, Write(1)), op(4, 5, Read(9))]), "a value from nowhere");
    assert!(!ok(&[op(0, 1, Write(1)), op(2, 3, Write(2)), op(4, 5, Read(1))]), "a stale read");
}

#[test]
fn overlapping_operations_may_go_either_way() {
    assert!(ok(&[op(0, 10, Write(1)), op(1, 9, Write(2)), op(11, 12, Read(1))]));
    assert!(ok(&[op(0, 10, Write(1)), op(1, 9, Write(2)), op(11, 12, Read(2))]));
    assert!(ok(&[op(0, 10, Write(1)), op(2, 3, Read(1)), op(4, 5, Read(1))]));
    assert!(!ok(&[op(0, 10, Write(1)), op(2, 3, Read(1)), op(4, 5, Read(0))]), "read, then absent again");
}

#[test]
fn unknown_outcomes_take_effect_late_or_never() {
    assert!(ok(&[lost(0, Write(1)), op(5, 6, Read(0)), op(7, 8, Read(1))]));
    assert!(ok(&[lost(0, Write(1)), op(5, 6, Read(0))]));
    assert!(!ok(&[lost(0, Write(1)), op(2, 3, Read(1)), op(5, 6, Write(2)), op(7, 8, Read(1))]), "twice");
    assert!(ok(&[op(0, 1, Write(1)), lost(2, Write(0)), lost(3, Write(0)), op(4, 5, Read(1)), op(6, 7, Read(0))]));
    assert!(!ok(&[op(0, 1, Write(1)), op(4, 5, Read(0)), lost(6, Write(0))]), "not before its call");
}

#[test]
fn swaps() {
    assert!(ok(&[op(0, 1, Write(1)), op(2, 3, Swap { expected: 1, new: 2 }), op(4, 5, Read(2))]));
    assert!(!ok(&[op(0, 1, Write(1)), op(2, 3, Swap { expected: 0, new: 2 })]), "swapped what was not there");
    assert!(
        !ok(&[op(0, 9, Swap { expected: 0, new: 1 }), op(1, 8, Swap { expected: 0, new: 2 })]),
        "both cannot find it absent"
    );
    assert!(ok(&[op(0, 1, Write(1)), op(2, 3, ReadPresent)]));
    assert!(!ok(&[op(2, 3, ReadPresent)]));
}

#[test]
fn names_the_operation_that_does_not_fit() {
    let ops = [op(0, 1, Write(1)), op(2, 3, Read(1)), op(4, 5, Write(2)), op(6, 7, Read(1))];
    assert_eq!(check(ABSENT, &ops, 1000), Judgement::Violation { op: 6 });
}

/// Tries every order, as the definition says.
fn brute(state: Val, left: &mut Vec<KeyOp>) -> bool {
    let Some(horizon) = left.iter().filter_map(|op| op.ret).min() else { return true };
    for i in 0..left.len() {
        let op = left[i];
        if op.call > horizon {
            continue;
        }
        if let Some(after) = step(state, op.action) {
            left.remove(i);
            let found = brute(after, left);
            left.insert(i, op);
            if found {
                return true;
            }
        }
    }
    false
}

#[test]
fn agrees_with_the_definition_on_random_histories() {
    let mut verdicts = [0u32; 2];
    for seed in 0..40_000u64 {
        let mut rng = Rng::new(seed);
        let count = rng.between(1, 7);
        let mut ops = Vec::new();
        for n in 0..count {
            let call = rng.below(12);
            let ret = (!rng.chance(0.25)).then(|| call + rng.below(6));
            let v = |rng: &mut Rng| rng.below(3) as Val;
            let action = match rng.below(5) {
                0 | 1 => Read(v(&mut rng)),
                2 => Write(v(&mut rng)),
                3 => Swap { expected: v(&mut rng), new: v(&mut rng) },
                _ if rng.chance(0.2) => ReadPresent,
                _ => Write(n as Val + 1),
            };
            ops.push(KeyOp { op: n as usize, call, ret, action });
        }
        let expected = brute(ABSENT, &mut ops.clone());
        verdicts[usize::from(expected)] += 1;
        assert_eq!(ok(&ops), expected, "seed {seed}: {ops:?}");
    }
    assert!(verdicts.iter().all(|&n| n > 4000), "both verdicts must be tried: {verdicts:?}");
}

#[test]
fn long_histories_are_decided_quickly() {
    let mut rng = Rng::new(7);
    let (mut ops, mut state, mut now) = (Vec::new(), ABSENT, 0u64);
    for n in 0..3000usize {
        now += 10;
        let action = match rng.below(3) {
            0 => Read(state),
            1 => {
                state = n as Val + 1;
                Write(state)
            }
            _ => {
                let new = n as Val + 1;
                let swap = Swap { expected: state, new };
                state = new;
                swap
            }
        };
        let ret = Some(now + rng.below(60));
        ops.push(KeyOp { op: n, call: now - rng.below(60).min(now), ret, action });
        if rng.chance(0.02) {
            ops.push(lost(now, Write(0)));
        }
    }
    assert_eq!(check(ABSENT, &ops, 20_000_000), Judgement::Linearizable);
}
