//! H1: every key behaves like one register (linearizability), judged from what clients saw.
//!
//! The search is that of Wing and Gong with Lowe's memory of visited configurations: walk the events in order of time, try to
//! let each operation that has begun take effect now, undo when an operation would end before it took effect. Three facts keep
//! it small:
//! - keys are independent (linearizability is local), so each key is searched alone;
//! - a read that fits the present state may take effect at once, there is nothing to try instead;
//! - operations of unknown outcome never have to take effect, and of several with the same effect the first called is tried
//!   first, because they are interchangeable.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};

/// A value by number; 0 is "absent".
pub type Val = u32;

/// The number that means "the key does not exist".
pub const ABSENT: Val = 0;

/// What one operation did to one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Saw this value.
    Read(Val),
    /// Saw that there is a value, but not which.
    ReadPresent,
    /// Set this value ([`ABSENT`]: deleted the key).
    Write(Val),
    /// Compared and swapped: the state was `expected` and became `new`. With an unknown outcome: if it was, then it became.
    Swap {
        /// The state before.
        expected: Val,
        /// The state after.
        new: Val,
    },
}

/// One operation on one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyOp {
    /// The operation's number in the history, for the report.
    pub op: usize,
    /// When it was called (ghost clock, ns).
    pub call: u64,
    /// When it returned (ghost clock, ns); absent when its outcome is unknown: it may take effect at any later time or never.
    pub ret: Option<u64>,
    /// What it did.
    pub action: Action,
}

/// What the search found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// There is an order that explains everything.
    Linearizable,
    /// There is none; `op` is the history's number of the operation that could not be placed in the longest attempt.
    Violation {
        /// The number of that operation in the history.
        op: usize,
    },
    /// The search was given up after its budget of steps.
    Exhausted,
}

/// The state after `action` in `state`, if it is possible there.
fn step(state: Val, action: Action) -> Option<Val> {
    match action {
        Action::Read(seen) => (seen == state).then_some(state),
        Action::ReadPresent => (state != ABSENT).then_some(state),
        Action::Write(new) => Some(new),
        Action::Swap { expected, new } => (state == expected).then_some(new),
    }
}

/// A hasher with fixed keys: the same order of work in every process.
#[derive(Default)]
struct Fixed(u64);

impl Hasher for Fixed {
    fn finish(&self) -> u64 {
        armilla::rt::rng::mix(self.0)
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }
    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }
    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }
}

type Visited = HashSet<(Vec<u64>, Val), BuildHasherDefault<Fixed>>;

/// End of the list of events.
const NONE: usize = usize::MAX;

/// One event of the doubly linked list.
#[derive(Clone, Copy, Debug)]
struct Node {
    /// Index of the operation.
    op: usize,
    is_return: bool,
    /// The operation's other event; [`NONE`] for an unknown outcome's call.
    mate: usize,
    prev: usize,
    next: usize,
}

/// The list of events still to be explained. Node 0 is the head.
struct Events {
    nodes: Vec<Node>,
}

impl Events {
    fn new(ops: &[KeyOp]) -> Events {
        // A call at the moment of another's return comes first: the two overlap.
        let mut order: Vec<(u64, bool, usize)> = Vec::with_capacity(ops.len() * 2);
        for (index, op) in ops.iter().enumerate() {
            order.push((op.call, false, index));
            if let Some(ret) = op.ret {
                order.push((ret, true, index));
            }
        }
        order.sort_unstable();
        let mut nodes = vec![Node { op: NONE, is_return: false, mate: NONE, prev: NONE, next: NONE }];
        let mut call_node = vec![NONE; ops.len()];
        for (_, is_return, op) in order {
            let at = nodes.len();
            let mate = if is_return { call_node[op] } else { NONE };
            if is_return {
                nodes[mate].mate = at;
            } else {
                call_node[op] = at;
            }
            nodes[at - 1].next = at;
            nodes.push(Node { op, is_return, mate, prev: at - 1, next: NONE });
        }
        Events { nodes }
    }
    fn unlink(&mut self, at: usize) {
        let Node { prev, next, .. } = self.nodes[at];
        self.nodes[prev].next = next;
        if next != NONE {
            self.nodes[next].prev = prev;
        }
    }
    fn relink(&mut self, at: usize) {
        let Node { prev, next, .. } = self.nodes[at];
        self.nodes[prev].next = at;
        if next != NONE {
            self.nodes[next].prev = at;
        }
    }
    fn lift(&mut self, call: usize) {
        self.unlink(call);
        if self.nodes[call].mate != NONE {
            self.unlink(self.nodes[call].mate);
        }
    }
    fn unlift(&mut self, call: usize) {
        if self.nodes[call].mate != NONE {
            self.relink(self.nodes[call].mate);
        }
        self.relink(call);
    }
}

/// Leaves out operations that cannot matter: reads without an outcome, and writes without an outcome whose value nobody saw.
fn relevant(ops: &[KeyOp]) -> Vec<KeyOp> {
    let mut seen: Vec<Val> = Vec::new();
    let mut present_seen = false;
    for op in ops {
        match op.action {
            Action::Read(v) => seen.push(v),
            Action::ReadPresent => present_seen = true,
            Action::Swap { expected, .. } => seen.push(expected),
            Action::Write(_) => {}
        }
    }
    seen.sort_unstable();
    seen.dedup();
    let matters = |op: &&KeyOp| match (op.ret, op.action) {
        (Some(_), _) => true,
        (None, Action::Read(_) | Action::ReadPresent) => false,
        (None, Action::Write(new) | Action::Swap { new, .. }) => {
            (present_seen && new != ABSENT) || seen.binary_search(&new).is_ok()
        }
    };
    ops.iter().filter(matters).copied().collect()
}

/// Searches for an order of `ops`, all on one key that begins as `initial`, within `budget` steps.
pub fn check(initial: Val, ops: &[KeyOp], budget: u64) -> Judgement {
    let ops = relevant(ops);
    let mut events = Events::new(&ops);
    let words = ops.len().div_ceil(64);
    let mut done = vec![0u64; words];
    let mut visited = Visited::default();
    let mut state = initial;
    // Calls that took effect, the state before each, and whether there was anything else to try.
    let mut stack: Vec<(usize, Val, bool)> = Vec::with_capacity(ops.len());
    let mut open = ops.iter().filter(|op| op.ret.is_some()).count();
    let mut blocked = (0, 0);
    let mut steps = 0u64;

    // Of unknown operations with one effect, the next earlier called.
    let mut by_call: Vec<usize> = (0..ops.len()).filter(|&i| ops[i].ret.is_none()).collect();
    by_call.sort_by_key(|&i| (ops[i].action, ops[i].call, i));
    let mut twin = vec![NONE; ops.len()];
    for pair in by_call.windows(2) {
        if ops[pair[0]].action == ops[pair[1]].action {
            twin[pair[1]] = pair[0];
        }
    }

    let mut at = events.nodes[0].next;
    while open > 0 {
        steps += 1;
        if steps > budget {
            return Judgement::Exhausted;
        }
        let node = events.nodes[at];
        if !node.is_return {
            let op = ops[node.op];
            let unknown = op.ret.is_none();
            let after = step(state, op.action);
            let useless = unknown
                && (after == Some(state)
                    || (twin[node.op] != NONE && done[twin[node.op] / 64] >> (twin[node.op] % 64) & 1 == 0));
            let Some(after) = after.filter(|_| !useless) else {
                at = node.next;
                continue;
            };
            let forced = matches!(op.action, Action::Read(_) | Action::ReadPresent);
            done[node.op / 64] |= 1 << (node.op % 64);
            if forced || visited.insert((done.clone(), after)) {
                stack.push((at, state, forced));
                state = after;
                events.lift(at);
                open -= usize::from(!unknown);
                at = events.nodes[0].next;
            } else {
                done[node.op / 64] &= !(1 << (node.op % 64));
                at = node.next;
            }
            continue;
        }
        // This operation ended without having taken effect: undo the last choice that had an alternative.
        let progress = stack.len();
        if progress >= blocked.0 {
            blocked = (progress, ops[node.op].op);
        }
        loop {
            let Some((call, before, forced)) = stack.pop() else {
                return Judgement::Violation { op: blocked.1 };
            };
            let op = events.nodes[call].op;
            done[op / 64] &= !(1 << (op % 64));
            events.unlift(call);
            open += usize::from(ops[op].ret.is_some());
            state = before;
            if !forced {
                at = events.nodes[call].next;
                break;
            }
        }
    }
    Judgement::Linearizable
}

#[cfg(test)]
mod tests {
    //! Goal: the search accepts exactly what some order explains. Method: known histories, then tiny random histories against
    //! a search that tries all orders.
    use super::*;
    use armilla::rt::rng::Rng;

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
        assert!(!ok(&[op(0, 10, Write(1)), op(2, 3, Read(1)), op(4, 5, Read(0))]), "seen, then unseen");
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

    /// Tries every order: the definition itself.
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
}
