//! The search: every state that a model can reach, breadth first, so that the first counterexample found is a
//! shortest one.
//!
//! A model is a set of initial states and a function from a state to its successors. The search keeps, for each
//! state that it has seen, a fingerprint of 64 bits and the number of the state it was first reached from; whole
//! states live only in the level that is being expanded and in the next. A counterexample is rebuilt by walking back
//! to an initial state and taking the same steps again, this time with their labels. Two states with one fingerprint
//! would be taken for one: with ten million states the odds of any such pair are about 3 in a million.
//!
//! Two kinds of properties:
//! - *safety*: [`Model::check`] holds in every state that is reached;
//! - *progress*: from every state that is reached, a state in which [`Model::settled`] holds can be reached by steps
//!   that are no faults. So a state from which the protocol cannot get on, whatever happens, is found; that it does
//!   get on under a fair schedule is for the simulator to show.

use std::fmt;
use std::hash::{BuildHasherDefault, Hash, Hasher};

/// A protocol within bounds, sound or with one of its rules left out.
pub trait Model {
    /// Everything that decides what can happen next.
    type State: Clone + Eq + Hash;

    /// The states that it may begin in.
    fn initial(&self) -> Vec<Self::State>;

    /// Adds every step that can be taken from `state`.
    fn steps(&self, state: &Self::State, steps: &mut Steps<Self::State>);

    /// What is wrong with `state`, if anything.
    fn check(&self, state: &Self::State) -> Option<String>;

    /// What must stay within reach of every state, for the report. Absent: only safety is checked.
    fn progress(&self) -> Option<&'static str> {
        None
    }

    /// Whether `state` is one of those that must stay within reach.
    fn settled(&self, _state: &Self::State) -> bool {
        true
    }

    /// The state in one line, for the reader of a counterexample.
    fn show(&self, state: &Self::State) -> String;
}

/// The steps from one state. Labels are made only where a counterexample is printed.
#[derive(Debug)]
pub struct Steps<S> {
    list: Vec<Step<S>>,
    labelled: bool,
}

#[derive(Debug)]
struct Step<S> {
    next: S,
    fault: bool,
    label: String,
}

impl<S> Steps<S> {
    fn new(labelled: bool) -> Steps<S> {
        Steps { list: Vec::new(), labelled }
    }

    /// None yet, for steps that are to be worked on before they are added to `other`.
    pub fn like(other: &Steps<S>) -> Steps<S> {
        Steps::new(other.labelled)
    }

    /// Adds the steps of `other`, each state worked on by `change`.
    pub fn extend(&mut self, other: Steps<S>, mut change: impl FnMut(&mut S)) {
        self.list.extend(other.list.into_iter().map(|mut step| {
            change(&mut step.next);
            step
        }));
    }

    /// Adds a step of the protocol.
    pub fn step(&mut self, next: S, label: fmt::Arguments<'_>) {
        self.add(next, false, label);
    }

    /// Adds a step that no peer may count on: a crash, a loss, a delay.
    pub fn fault(&mut self, next: S, label: fmt::Arguments<'_>) {
        self.add(next, true, label);
    }

    fn add(&mut self, next: S, fault: bool, label: fmt::Arguments<'_>) {
        let label = if self.labelled { label.to_string() } else { String::new() };
        self.list.push(Step { next, fault, label });
    }
}

/// What a search came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every state within the bounds was seen, and every property held.
    Holds,
    /// A state that must not be, and the way there.
    Wrong(Counterexample),
    /// A state from which nothing leads on, and the way there.
    Stuck(Counterexample),
    /// There are more states than were allowed.
    TooMany,
}

/// A shortest way to a state that breaks a property.
#[derive(Debug, PartialEq, Eq)]
pub struct Counterexample {
    /// What is broken.
    pub what: String,
    /// The initial state.
    pub start: String,
    /// Each step taken, and the state after it.
    pub steps: Vec<(String, String)>,
}

impl fmt::Display for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "      {}", self.start)?;
        for (number, (label, state)) in self.steps.iter().enumerate() {
            writeln!(f, "  {:2}. {label}\n      {state}", number + 1)?;
        }
        write!(f, "  => {}", self.what)
    }
}

/// The outcome of a search, with its size.
#[derive(Debug)]
pub struct Outcome {
    /// What was found.
    pub verdict: Verdict,
    /// Distinct states seen.
    pub states: usize,
    /// Steps taken, those to states seen before included.
    pub steps: usize,
    /// The longest of the shortest ways to a state.
    pub depth: usize,
}

/// Searches all of `model`, up to `states_max` states.
pub fn search<M: Model>(model: &M, states_max: usize) -> Outcome {
    let mut search = Search { model, seen: Seen::new(), edges: Vec::new(), settled: Vec::new(), steps: 0, depth: 0 };
    let verdict = search.run(states_max);
    Outcome { verdict, states: search.seen.len(), steps: search.steps, depth: search.depth }
}

struct Search<'a, M: Model> {
    model: &'a M,
    seen: Seen,
    /// Steps that are no faults, from and to states by number. Kept only where progress is checked.
    edges: Vec<(u32, u32)>,
    /// The numbers of the settled states.
    settled: Vec<u32>,
    steps: usize,
    depth: usize,
}

impl<M: Model> Search<'_, M> {
    fn run(&mut self, states_max: usize) -> Verdict {
        let keep_edges = self.model.progress().is_some();
        let mut level = Vec::new();
        for state in self.model.initial() {
            if let (number, true) = self.seen.insert(fingerprint(&state), None) {
                if let Some(what) = self.look(number, &state) {
                    return Verdict::Wrong(self.counterexample(number, what));
                }
                level.push((number, state));
            }
        }
        let mut steps = Steps::new(false);
        while !level.is_empty() {
            let mut next_level = Vec::new();
            for (from, state) in level {
                self.model.steps(&state, &mut steps);
                self.steps += steps.list.len();
                for step in steps.list.drain(..) {
                    let (number, new) = self.seen.insert(fingerprint(&step.next), Some(from));
                    if keep_edges && !step.fault && number != from {
                        self.edges.push((from, number));
                    }
                    if !new {
                        continue;
                    }
                    if let Some(what) = self.look(number, &step.next) {
                        self.depth += 1;
                        return Verdict::Wrong(self.counterexample(number, what));
                    }
                    if self.seen.len() > states_max {
                        return Verdict::TooMany;
                    }
                    next_level.push((number, step.next));
                }
            }
            if !next_level.is_empty() {
                self.depth += 1;
            }
            level = next_level;
        }
        self.find_stuck()
    }

    /// Checks a new state.
    fn look(&mut self, number: u32, state: &M::State) -> Option<String> {
        if self.model.progress().is_some() && self.model.settled(state) {
            self.settled.push(number);
        }
        self.model.check(state)
    }

    /// Walks back from the settled states: what is not met is stuck.
    fn find_stuck(&mut self) -> Verdict {
        let Some(goal) = self.model.progress() else { return Verdict::Holds };
        // Sorts the steps by the state they lead to.
        let count = self.seen.len();
        let mut first = vec![0u32; count + 1];
        for (_, to) in &self.edges {
            first[*to as usize + 1] += 1;
        }
        for at in 0..count {
            first[at + 1] += first[at];
        }
        let mut place = first.clone();
        let mut sources = vec![0u32; self.edges.len()];
        for (from, to) in std::mem::take(&mut self.edges) {
            sources[place[to as usize] as usize] = from;
            place[to as usize] += 1;
        }
        let mut met = vec![false; count];
        let mut next = std::mem::take(&mut self.settled);
        next.iter().for_each(|number| met[*number as usize] = true);
        while let Some(at) = next.pop() {
            for source in &sources[first[at as usize] as usize..first[at as usize + 1] as usize] {
                if !std::mem::replace(&mut met[*source as usize], true) {
                    next.push(*source);
                }
            }
        }
        // Numbers rise with the distance, so this is one of the nearest.
        match met.iter().position(|met| !met) {
            Some(number) => {
                let number = u32::try_from(number).expect("states have numbers of 32 bits");
                Verdict::Stuck(self.counterexample(number, format!("nothing leads from here to: {goal}")))
            }
            None => Verdict::Holds,
        }
    }

    /// Takes the steps to state `number` again.
    fn counterexample(&self, number: u32, what: String) -> Counterexample {
        let mut way = vec![number];
        while let Some(parent) = self.seen.parent(way[way.len() - 1]) {
            way.push(parent);
        }
        way.reverse();
        let is = |state: &M::State, number: u32| fingerprint(state) == self.seen.fingerprints[number as usize];
        let initial = self.model.initial();
        let mut state =
            initial.into_iter().find(|state| is(state, way[0])).expect("the first state was an initial one");
        let start = self.model.show(&state);
        let mut steps = Vec::new();
        for number in &way[1..] {
            let mut from_here = Steps::new(true);
            self.model.steps(&state, &mut from_here);
            let step = from_here.list.into_iter().find(|step| is(&step.next, *number));
            let step = step.expect("steps are a function of the state");
            steps.push((step.label, self.model.show(&step.next)));
            state = step.next;
        }
        Counterexample { what, start, steps }
    }
}

/// Marks the initial states among the parents.
const NO_PARENT: u32 = u32::MAX;

/// The states seen: fingerprints by number, the states they were reached from, and a table from fingerprints to
/// numbers.
struct Seen {
    fingerprints: Vec<u64>,
    parents: Vec<u32>,
    /// Numbers plus one; 0 is free. A power of two, at most half full.
    table: Vec<u32>,
}

impl Seen {
    fn new() -> Seen {
        Seen { fingerprints: Vec::new(), parents: Vec::new(), table: vec![0; 1 << 10] }
    }

    fn len(&self) -> usize {
        self.fingerprints.len()
    }

    fn parent(&self, number: u32) -> Option<u32> {
        Some(self.parents[number as usize]).filter(|parent| *parent != NO_PARENT)
    }

    /// The number of a state, and whether it is new.
    fn insert(&mut self, fingerprint: u64, parent: Option<u32>) -> (u32, bool) {
        let slot = self.slot(fingerprint);
        if self.table[slot] != 0 {
            return (self.table[slot] - 1, false);
        }
        let number = u32::try_from(self.len()).expect("states have numbers of 32 bits");
        self.fingerprints.push(fingerprint);
        self.parents.push(parent.unwrap_or(NO_PARENT));
        self.table[slot] = number + 1;
        if self.len() * 2 > self.table.len() {
            self.table = vec![0; self.table.len() * 2];
            for (number, fingerprint) in (1..).zip(&self.fingerprints) {
                let slot = self.slot(*fingerprint);
                self.table[slot] = number;
            }
        }
        (number, true)
    }

    /// Where a fingerprint stands, or the free slot where it belongs.
    fn slot(&self, fingerprint: u64) -> usize {
        let mask = self.table.len() - 1;
        let mut slot = fingerprint as usize & mask;
        while self.table[slot] != 0 && self.fingerprints[self.table[slot] as usize - 1] != fingerprint {
            slot = (slot + 1) & mask;
        }
        slot
    }
}

fn fingerprint<S: Hash>(state: &S) -> u64 {
    use std::hash::BuildHasher as _;
    BuildHasherDefault::<Mixer>::default().hash_one(state)
}

/// A hasher with fixed keys, for searches that give the same numbers everywhere.
#[derive(Default)]
struct Mixer {
    state: u64,
}

impl Mixer {
    #[inline]
    fn mix(&mut self, word: u64) {
        // Each step can be undone, so that no two words are confused by one step.
        self.state = (self.state ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        self.state ^= self.state >> 32;
    }
}

impl Hasher for Mixer {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
    }

    #[inline]
    fn write_u8(&mut self, value: u8) {
        self.mix(u64::from(value));
    }

    #[inline]
    fn write_u32(&mut self, value: u32) {
        self.mix(u64::from(value));
    }

    #[inline]
    fn write_u64(&mut self, value: u64) {
        self.mix(value);
    }

    #[inline]
    fn write_usize(&mut self, value: usize) {
        self.mix(value as u64);
    }

    fn finish(&self) -> u64 {
        let mut word = self.state ^ (self.state >> 31);
        word = word.wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word ^= word >> 27;
        word = word.wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }
}

#[cfg(test)]
mod tests {
    //! The goal: a search that misses nothing and reports the shortest way. The method: puzzles with known answers.

    use super::*;

    /// Two jugs of 3 and 5 litres, and a wish for 4 litres in the second.
    struct Jugs {
        forbidden: u8,
    }

    impl Model for Jugs {
        type State = (u8, u8);

        fn initial(&self) -> Vec<(u8, u8)> {
            vec![(0, 0)]
        }

        fn steps(&self, &(a, b): &(u8, u8), steps: &mut Steps<(u8, u8)>) {
            steps.step((3, b), format_args!("fill the small jug"));
            steps.step((a, 5), format_args!("fill the large jug"));
            steps.step((0, b), format_args!("empty the small jug"));
            steps.step((a, 0), format_args!("empty the large jug"));
            let (right, left) = (a.min(5 - b), b.min(3 - a));
            steps.step((a - right, b + right), format_args!("pour {right} into the large jug"));
            steps.step((a + left, b - left), format_args!("pour {left} into the small jug"));
        }

        fn check(&self, state: &(u8, u8)) -> Option<String> {
            (state.1 == self.forbidden).then(|| format!("{} litres", self.forbidden))
        }

        fn show(&self, state: &(u8, u8)) -> String {
            format!("{state:?}")
        }
    }

    #[test]
    fn the_shortest_way_is_found() {
        let outcome = search(&Jugs { forbidden: 4 }, 1000);
        let Verdict::Wrong(found) = outcome.verdict else { panic!("{outcome:?}") };
        assert_eq!(found.steps.len(), 6, "{found}");
        assert_eq!(found.steps[5], ("pour 1 into the small jug".to_owned(), "(3, 4)".to_owned()));
        assert_eq!(found.what, "4 litres");
    }

    #[test]
    fn every_state_is_seen_once() {
        let outcome = search(&Jugs { forbidden: 6 }, 1000);
        // Of the 24 pairs, those that have both jugs neither empty nor full cannot be reached.
        assert_eq!((outcome.verdict, outcome.states), (Verdict::Holds, 16));
        assert_eq!(search(&Jugs { forbidden: 6 }, 15).verdict, Verdict::TooMany);
    }

    /// A walk on the numbers below 100 that may fall into a hole, from where only a fault leads out.
    struct Walk {
        hole: bool,
    }

    impl Model for Walk {
        type State = u8;

        fn initial(&self) -> Vec<u8> {
            vec![10]
        }

        fn steps(&self, &at: &u8, steps: &mut Steps<u8>) {
            if at == 13 && self.hole {
                steps.fault(0, format_args!("is pulled out"));
                return;
            }
            steps.step((at + 1).min(99), format_args!("up"));
            steps.step(at.saturating_sub(1), format_args!("down"));
        }

        fn check(&self, _: &u8) -> Option<String> {
            None
        }

        fn progress(&self) -> Option<&'static str> {
            Some("zero")
        }

        fn settled(&self, at: &u8) -> bool {
            *at == 0
        }

        fn show(&self, at: &u8) -> String {
            at.to_string()
        }
    }

    #[test]
    fn a_state_that_leads_nowhere_is_found() {
        assert_eq!(search(&Walk { hole: false }, 1000).verdict, Verdict::Holds);
        let outcome = search(&Walk { hole: true }, 1000);
        let Verdict::Stuck(found) = outcome.verdict else { panic!("{outcome:?}") };
        assert_eq!((found.steps.len(), found.steps[2].1.as_str()), (3, "13"));
    }

    #[test]
    fn fingerprints_tell_a_million_states_apart() {
        let mut seen = Seen::new();
        for a in 0..100u8 {
            for b in 0..100u8 {
                for c in 0..100u8 {
                    assert!(seen.insert(fingerprint(&([a, b], c, Some(a))), None).1, "{a} {b} {c}");
                }
            }
        }
        assert!(!seen.insert(fingerprint(&([1u8, 2u8], 3u8, Some(1u8))), None).1);
    }
}
