//! # Reads: followers ask, leaders answer, no client goes back in time
//!
//! **What is modelled.** One group on three stores. Store 1 leads term 1 under a lease; when that is over, 2 or 3
//! may lead term 2. Values are the number of entries applied, so that a read may never see less than what was
//! acknowledged, or seen by any read, before it was called. A leader reads alone what it has applied. A follower
//! asks the leader for its commit index, waits until it has applied that, and reads. Every store applies at its own
//! pace: a follower may be ahead of its leader.
//!
//! ```text
//!   leader:    commit 2, applied 1   (its engine is slow)      a read here, alone, sees 1 ...
//!   follower:  asks, hears 2, applies 2, a client reads 2      ... after a client has seen 2
//! ```
//!
//! **Bounds.** `writes`, `reads` (called at followers; leaders read at any time), `askers` (followers that ask),
//! `terms`.
//!
//! **Invariant.** Linearizability of a register that counts: a read sees at least what was acknowledged or seen
//! before its call.
//!
//! **Found: section 7 of the design has a hole.** The mark ("once asked, a leader reads alone only while applied =
//! committed") binds the leader that was asked. A follower that was answered by the leader of term 1 and then
//! follows the leader of term 2 may apply more than that one has, and read it; the leader of term 2 was never asked
//! and reads less, alone (flaw `answer-outlives-term`, with one follower, one write and no crash).
//!
//! **Mended.** *An answer counts only while the follower is in the term of the leader that gave it*; when the term
//! changes, it asks again. In its old term a follower applies nothing that a new leader past the fence has not. With
//! that the design holds (section 7, I9), with two asking followers too. That a former leader acknowledges its own
//! writes late, when it applies them, is harmless: by I9 a new leader that answers has applied them.

use crate::flaws;
use crate::protocol::{Bound, Bounds, Protocol};
use crate::search::{Model, Outcome, Steps, search};

/// The model, for the command line and the tests.
pub const PROTOCOL: Protocol = Protocol {
    name: "reads",
    about: "followers read what the leader told them is committed, leaders read alone: linearizable",
    bounds: &[
        Bound { name: "writes", about: "writes", quick: 2, large: 3, min: 0, max: 6 },
        Bound { name: "reads", about: "reads called at followers", quick: 2, large: 3, min: 0, max: 6 },
        Bound { name: "askers", about: "followers that ask: 2, or 2 and 3", quick: 1, large: 2, min: 1, max: 2 },
        Bound { name: "terms", about: "terms, the first leader's is 1", quick: 2, large: 2, min: 1, max: 2 },
    ],
    cases: &[&[], &[("askers", 2), ("terms", 1)]],
    flaws: FLAWS,
    search: |bounds: &Bounds, flaw: Option<&str>, states_max: usize| -> Outcome {
        let model = Reads {
            writes: bounds.get("writes"),
            reads: bounds.get("reads"),
            askers: usize::from(bounds.get("askers")),
            terms: bounds.get("terms"),
            flaw: flaw.map(Flaw::named),
        };
        search(&model, states_max)
    },
};

flaws! {
    Unasked "replica-read-unasked" [] 5 "a read saw less" =
        "a follower reads what it has applied without asking";
    JoinsAsk "read-joins-ask" [] 9 "a read saw less" =
        "a read joins an ask that is under way";
    NotAwaited "read-before-applied" [] 8 "a read saw less" =
        "a follower reads before it has applied what the leader told it";
    AnswersApplied "answers-applied" [("askers", 2), ("terms", 1)] 13 "a read saw less" =
        "a leader answers what it has applied instead of what is committed";
    AnswerOutlives "answer-outlives-term" [] 15 "a read saw less" =
        "a follower uses the answer of an older term's leader, as section 7 of the design allowed";
    Unmarked "lease-behind-commit" [] 10 "a read saw less" =
        "a leader that was asked reads alone although it has not applied all that is committed";
    MarkTaken "mark-taken-back" [] 10 "a read saw less" =
        "the mark of a leader that was asked ends when it has applied all that is committed";
    FenceSkipped "fence-skipped" [] 7 "a read saw less" =
        "I9: a new leader answers before it has applied its term's first entry";
    LeaseOutlives "reads-past-lease" [] 6 "a read saw less" =
        "a leader whose lease is over reads alone";
}

const STORES: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Store {
    term: u8,
    /// Entries in its log, and the term of the leader that they came from.
    len: u8,
    log_term: u8,
    commit: u8,
    applied: u8,
    /// The least that the reads here may see: those that wait for the next ask, and those of the ask under way.
    waiting: Option<u8>,
    asking: Option<u8>,
    /// The index that the ask under way was answered with.
    answer: Option<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    stores: [Store; STORES],
    /// The leaders of terms 1 and 2.
    leaders: [Option<u8>; 2],
    /// Whether the leader of term 1 still has its lease.
    lease: bool,
    /// Leaders that were asked.
    marked: [bool; 2],
    /// The index of term 2's first entry.
    first: u8,
    writes: u8,
    reads: u8,
    /// The most that was acknowledged to a writer or seen by a reader.
    seen: u8,
    wrong: Option<&'static str>,
}

#[derive(Debug)]
struct Reads {
    writes: u8,
    reads: u8,
    askers: usize,
    terms: u8,
    flaw: Option<Flaw>,
}

impl Store {
    fn ask_again(&mut self) {
        if let Some(least) = self.asking {
            self.waiting = Some(least.max(self.waiting.unwrap_or(0)));
            (self.asking, self.answer) = (None, None);
        }
    }
}

impl World {
    /// Entries that two of three have from the leader of `term`.
    fn held_by_two(&self, term: u8, at: u8) -> bool {
        self.stores.iter().filter(|store| store.log_term == term && store.len >= at).count() >= 2
    }

    /// A read returned `value`.
    fn returned(&mut self, value: u8, least: u8) {
        if value < least {
            self.wrong.get_or_insert("a read saw less than what was seen or acknowledged before it was called");
        }
        self.seen = self.seen.max(value);
    }
}

impl Reads {
    fn has(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    /// A store hears of a term. The answer of an older leader is worth nothing in a new one: it is asked again.
    fn enter(&self, store: &mut Store, term: u8) {
        if store.term < term && !self.has(Flaw::AnswerOutlives) {
            store.ask_again();
        }
        store.term = store.term.max(term);
    }

    /// Whether the leader of `term` knows that it still leads, by lease or by asking a quorum, and is past the fence.
    fn may_answer(&self, world: &World, term: u8) -> bool {
        let newest = world.leaders[1].is_none() || term == 2 || self.has(Flaw::LeaseOutlives);
        let leader = world.leaders[usize::from(term) - 1].map(|at| world.stores[usize::from(at)]);
        let past_fence = term == 1 || leader.is_some_and(|leader| leader.applied >= world.first);
        newest && (past_fence || self.has(Flaw::FenceSkipped))
    }

    fn leader_steps(&self, world: &World, term: u8, steps: &mut Steps<World>) {
        let Some(at) = world.leaders[usize::from(term) - 1].map(usize::from) else { return };
        let leader = world.stores[at];
        // It has not heard of a newer leader.
        if leader.term > term {
            return;
        }
        let number = at + 1;
        if world.writes < self.writes {
            let mut next = world.clone();
            next.writes += 1;
            next.stores[at].len += 1;
            steps.step(next, format_args!("{number} (leader of term {term}) takes a write"));
        }
        let commit = leader.commit + 1;
        let own_term = term == 1 || commit >= world.first;
        let commit = if own_term { commit } else { world.first };
        if commit <= leader.len && world.held_by_two(term, commit) {
            let mut next = world.clone();
            next.stores[at].commit = commit;
            steps.step(next, format_args!("{number} (leader of term {term}) knows {commit} as committed"));
        }
        for to in (0..STORES).filter(|to| *to != at && world.stores[*to].term <= term) {
            let follower = world.stores[to];
            if (follower.len, follower.log_term) != (leader.len, term) {
                let mut next = world.clone();
                let own = &mut next.stores[to];
                (own.len, own.log_term) = (leader.len, term);
                self.enter(own, term);
                steps.step(next, format_args!("{} gets the log of {number}", to + 1));
            } else if follower.commit < leader.commit {
                let mut next = world.clone();
                next.stores[to].commit = leader.commit;
                steps.step(next, format_args!("{} hears from {number} that {} is committed", to + 1, leader.commit));
            }
        }
        let by_lease = term == 2 || world.lease || self.has(Flaw::LeaseOutlives);
        let marked = world.marked[usize::from(term) - 1] && !self.has(Flaw::Unmarked);
        if by_lease && self.may_answer(world, term) && (!marked || leader.applied == leader.commit) {
            let mut next = world.clone();
            next.returned(leader.applied, world.seen);
            steps.step(next, format_args!("{number} reads {} alone", leader.applied));
        }
        for from in (0..STORES).filter(|from| *from != at) {
            let asker = world.stores[from];
            let hears = asker.term <= term || self.has(Flaw::AnswerOutlives);
            if asker.asking.is_some() && asker.answer.is_none() && hears && self.may_answer(world, term) {
                let mut next = world.clone();
                let index = if self.has(Flaw::AnswersApplied) { leader.applied } else { leader.commit };
                next.stores[from].answer = Some(index);
                next.marked[usize::from(term) - 1] = !(self.has(Flaw::MarkTaken) && leader.applied == leader.commit);
                steps.step(next, format_args!("{number} answers {} with {index}", from + 1));
            }
        }
    }

    fn apply_step(&self, world: &World, at: usize, steps: &mut Steps<World>) {
        let store = world.stores[at];
        if store.applied >= store.commit {
            return;
        }
        let mut next = world.clone();
        next.stores[at].applied += 1;
        let leads = world.leaders.iter().rposition(|leader| *leader == Some(at as u8));
        // The writer hears of it from the leader that took the write, also if that does not lead any more.
        let own = |term: &usize| *term == 1 || world.leaders[1].is_none() || store.applied + 1 < world.first;
        if let Some(term) = leads.filter(own) {
            next.seen = next.seen.max(store.applied + 1);
            if self.has(Flaw::MarkTaken) && store.applied + 1 == store.commit {
                next.marked[term] = false;
            }
        }
        steps.step(next, format_args!("{} applies entry {}", at + 1, store.applied + 1));
    }

    fn asker_steps(&self, world: &World, at: usize, steps: &mut Steps<World>) {
        let (store, number) = (world.stores[at], at + 1);
        if world.leaders.contains(&Some(at as u8)) {
            return;
        }
        if world.reads < self.reads {
            let mut next = world.clone();
            next.reads += 1;
            let own = &mut next.stores[at];
            if self.has(Flaw::Unasked) {
                next.returned(store.applied, world.seen);
                steps.step(next, format_args!("{number} reads {} without asking", store.applied));
            } else {
                let list =
                    if self.has(Flaw::JoinsAsk) && store.asking.is_some() { &mut own.asking } else { &mut own.waiting };
                *list = Some(list.unwrap_or(0).max(world.seen));
                steps.step(next, format_args!("a read is called at {number}: it has to see {} or more", world.seen));
            }
        }
        if let (Some(least), None) = (store.waiting, store.asking) {
            let mut next = world.clone();
            let own = &mut next.stores[at];
            (own.waiting, own.asking, own.answer) = (None, Some(least), None);
            steps.step(next, format_args!("{number} asks"));
        }
        let Some(least) = store.asking else { return };
        if let Some(index) = store.answer
            && (store.applied >= index || self.has(Flaw::NotAwaited))
        {
            let mut next = world.clone();
            (next.stores[at].asking, next.stores[at].answer) = (None, None);
            next.returned(store.applied, least);
            steps.step(next, format_args!("{number} has applied {index} and reads {}", store.applied));
        }
        let mut next = world.clone();
        next.stores[at].ask_again();
        steps.fault(next, format_args!("{number}'s ask or its answer is lost"));
    }

    fn election_steps(&self, world: &World, steps: &mut Steps<World>) {
        if world.lease && self.terms > 1 {
            let mut next = world.clone();
            next.lease = false;
            steps.step(next, format_args!("1's lease ends"));
            return;
        }
        if self.terms < 2 || world.leaders[1].is_some() {
            return;
        }
        for at in 1..STORES {
            let len = world.stores[at].len;
            let voters = (0..STORES).filter(|voter| *voter != at && world.stores[*voter].len <= len);
            for voter in voters {
                let mut next = world.clone();
                self.enter(&mut next.stores[voter], 2);
                next.leaders[1] = Some(at as u8);
                next.first = len + 1;
                (next.stores[at].term, next.stores[at].len, next.stores[at].log_term) = (2, len + 1, 2);
                // Its reads are the leader's now.
                (next.stores[at].waiting, next.stores[at].asking, next.stores[at].answer) = (None, None, None);
                steps.step(
                    next,
                    format_args!(
                        "{} becomes leader of term 2 with {}'s vote, its first entry is {}",
                        at + 1,
                        voter + 1,
                        len + 1
                    ),
                );
            }
        }
    }
}

impl Model for Reads {
    type State = World;

    fn initial(&self) -> Vec<World> {
        vec![World {
            stores: [Store { term: 1, log_term: 1, ..Store::default() }; STORES],
            leaders: [Some(0), None],
            lease: true,
            marked: [false; 2],
            first: 0,
            writes: 0,
            reads: 0,
            seen: 0,
            wrong: None,
        }]
    }

    fn steps(&self, world: &World, steps: &mut Steps<World>) {
        for term in 1..=2 {
            self.leader_steps(world, term, steps);
        }
        for at in 0..STORES {
            self.apply_step(world, at, steps);
        }
        for at in 1..=self.askers {
            self.asker_steps(world, at, steps);
        }
        self.election_steps(world, steps);
    }

    fn check(&self, world: &World) -> Option<String> {
        world.wrong.map(str::to_owned)
    }

    fn progress(&self) -> Option<&'static str> {
        Some("every read has returned")
    }

    fn settled(&self, world: &World) -> bool {
        world.stores.iter().all(|store| store.waiting.is_none() && store.asking.is_none())
    }

    fn show(&self, world: &World) -> String {
        let one = |(at, store): (usize, &Store)| {
            let leads = world.leaders.iter().rposition(|leader| *leader == Some(at as u8));
            let leads = leads.map_or(String::new(), |term| {
                format!(" leads {}{}", term + 1, if world.marked[term] { ", asked" } else { "" })
            });
            let Store { len, commit, applied, .. } = store;
            let ask = store.asking.map_or(String::new(), |least| format!(" asks (at least {least})"));
            format!("{}:{leads} log {len} commit {commit} applied {applied}{ask}", at + 1)
        };
        let stores: Vec<String> = world.stores.iter().enumerate().map(one).collect();
        format!("{}; seen {}", stores.join("; "), world.seen)
    }
}

#[cfg(test)]
mod tests {
    use crate::protocol::{assert_every_rule_is_needed, assert_holds};

    #[test]
    fn the_design_holds() {
        assert_holds(&super::PROTOCOL);
    }

    #[test]
    fn every_rule_is_needed() {
        assert_every_rule_is_needed(&super::PROTOCOL);
    }
}
