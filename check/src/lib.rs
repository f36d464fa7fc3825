//! # check: is there an order that explains what clients saw?
//!
//! **In** comes the history of one key: operations with the times of their calls and returns, and the values that they
//! read or wrote. **Out** goes a [`Judgement`]: linearizable, or the operation that fits nowhere. **Never**: a clock, a
//! random number or any part of the store; simulated and real histories are judged by the same code.
//!
//! The property is linearizability (Herlihy and Wing, "Linearizability: a correctness condition for concurrent
//! objects", TOPLAS 1990). The search is that of Wing and Gong ("Testing and verifying concurrent objects", JPDC 1993)
//! with Lowe's memory of visited configurations ("Testing for linearizability", 2017). It walks the events in order of
//! time, tries to let each operation that has begun take effect now, and backtracks when an operation would end before
//! it took effect. Three facts keep it small:
//! - keys are independent (linearizability is local), so each key is searched alone;
//! - a read that matches the present state can take effect at once, without any alternative to try;
//! - operations of unknown outcome need not take effect, and of several with the same effect the earliest call is tried
//!   first, because they are interchangeable.

#![allow(clippy::disallowed_types, reason = "membership of a set whose hash has fixed keys, never its order")]

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};

/// The number of a value; 0 is "absent".
pub type Val = u32;

/// The number that means "the key does not exist".
pub const ABSENT: Val = 0;

/// The effect of one operation on one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Read this value.
    Read(Val),
    /// Read that there is a value, but not which.
    ReadPresent,
    /// Set this value ([`ABSENT`]: deleted the key).
    Write(Val),
    /// Compared and swapped: the state was `expected` and became `new`. With an unknown outcome, the swap took effect
    /// only if the state was `expected`.
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
    /// The time of the call, ns.
    pub call: u64,
    /// The time of the return, ns; absent if the outcome is unknown: the operation may take effect at any later time or
    /// never.
    pub ret: Option<u64>,
    /// The operation's effect.
    pub action: Action,
}

/// The result of the search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// An order explains all operations.
    Linearizable,
    /// There is no such order. `op` is the operation that could not be placed in the longest attempt.
    Violation {
        /// The operation's number in the history.
        op: usize,
    },
    /// The search was given up because its budget of steps was used up.
    Exhausted,
}

/// Returns the state after `action`, or `None` if the action is impossible in `state`.
fn step(state: Val, action: Action) -> Option<Val> {
    match action {
        Action::Read(seen) => (seen == state).then_some(state),
        Action::ReadPresent => (state != ABSENT).then_some(state),
        Action::Write(new) => Some(new),
        Action::Swap { expected, new } => (state == expected).then_some(new),
    }
}

/// A hasher with fixed keys, so that every process works in the same order.
#[derive(Default)]
struct Fixed(u64);

impl Hasher for Fixed {
    fn finish(&self) -> u64 {
        // The finalizer of SplitMix64.
        let word = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
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

/// Marks the end of the list of events.
const NONE: usize = usize::MAX;

/// An event of the doubly linked list.
#[derive(Clone, Copy, Debug)]
struct Node {
    /// Index of the operation.
    op: usize,
    is_return: bool,
    /// The index of the operation's other event; [`NONE`] for the call of an operation with unknown outcome.
    mate: usize,
    prev: usize,
    next: usize,
}

/// The list of events that are still to be explained. Node 0 is the head.
struct Events {
    nodes: Vec<Node>,
}

impl Events {
    fn new(ops: &[KeyOp]) -> Events {
        // A call at the time of another operation's return comes first, because the two overlap.
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

/// Removes operations that cannot matter: reads of unknown outcome, and writes of unknown outcome whose value was never
/// read.
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

/// Searches within `budget` steps for an order of `ops`, all on one key whose state is `initial` at first.
pub fn check(initial: Val, ops: &[KeyOp], budget: u64) -> Judgement {
    let ops = relevant(ops);
    let mut events = Events::new(&ops);
    let words = ops.len().div_ceil(64);
    let mut done = vec![0u64; words];
    let mut visited = Visited::default();
    let mut state = initial;
    // The calls that took effect, the state before each, and whether it had no alternative.
    let mut stack: Vec<(usize, Val, bool)> = Vec::with_capacity(ops.len());
    let mut open = ops.iter().filter(|op| op.ret.is_some()).count();
    let mut blocked = (0, 0);
    let mut steps = 0u64;

    // Links operations of unknown outcome and equal effect: `twin` is the next earlier call.
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
mod tests;
