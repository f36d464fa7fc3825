//! # Lease: a leader reads alone, over restarts, transfers, splits and merges
//!
//! **What is modelled.** One group P on three stores, each with a clock that runs at 4 or 5 units a tick. A leader
//! that heard a quorum answer what it sent at *s* reads alone until *s* + 8 on its clock; who heard a leader votes
//! for no other peer for 10 units of its own. A restart forgets the promise and makes the longest one again. A transfer
//! makes a vote without asking promises, at any later time. P's log may take a split (or a Prepare: any entry that
//! gives keys away): the store that applies it first may elect a leader of the newborn N at once, which takes writes
//! for keys that P's leader may still believe its own.
//!
//! ```text
//!   leader, slow clock:   sends at s ........ 4 ........ 8 lease over
//!   voter, fast clock:       hears ....... 5 ....... 10 promise over      in true time the lease ends no later
//! ```
//!
//! **Bounds.** `terms`, `restarts`, `transfers`, `split` (1: P's log may take one).
//!
//! **Invariant.** While a leader reads alone, no peer of a higher term leads P; and N has no leader while the leader
//! that reads alone has not applied the split.
//!
//! **Found.** The design holds (I9, and src/docs/leases-and-promises.md). No lease "from the proposal of Prepare on"
//! is the same rule as I9's second half: Prepare is a change of the descriptor that the leader proposed. Not
//! covered: promises of learners and of peers born of a snapshot, machines that are suspended with their clocks.

use crate::flaws;
use crate::protocol::{Bound, Bounds, Protocol};
use crate::search::{Model, Outcome, Steps, search};

/// The model, for the command line and the tests.
pub const PROTOCOL: Protocol = Protocol {
    name: "lease",
    about: "a leader reads alone under a lease, over clock drift, restarts, transfers, splits: never beside another",
    bounds: &[
        Bound { name: "terms", about: "terms, the first leader's is 1", quick: 2, large: 3, min: 1, max: 3 },
        Bound { name: "restarts", about: "restarts of a store", quick: 1, large: 1, min: 0, max: 3 },
        Bound { name: "transfers", about: "1: leaders may hand over", quick: 1, large: 1, min: 0, max: 1 },
        Bound { name: "split", about: "1: P's log may take a split", quick: 0, large: 0, min: 0, max: 1 },
    ],
    cases: &[&[], &[("restarts", 0), ("transfers", 0), ("split", 1)]],
    flaws: FLAWS,
    search: |bounds: &Bounds, flaw: Option<&str>, states_max: usize| -> Outcome {
        let model = Lease {
            terms: bounds.get("terms"),
            restarts: bounds.get("restarts"),
            transfers: bounds.get("transfers") > 0,
            split: bounds.get("split") > 0,
            flaw: flaw.map(Flaw::named),
        };
        search(&model, states_max)
    },
};

flaws! {
    IgnoresDrift "lease-ignores-drift" [] 8 "1 reads alone although 2 leads in a higher term" =
        "the lease is as long as the promise";
    FromAnswer "lease-from-answer" [] 8 "1 reads alone although 2 leads in a higher term" =
        "the lease counts from the answer instead of from what was answered";
    RestartForgets "restart-forgets-promise" [] 7 "1 reads alone although 2 leads in a higher term" =
        "a restarted voter is bound by nothing";
    CampaignsWithin "campaign-within-promise" [] 6 "1 reads alone although 2 leads in a higher term" =
        "a voter campaigns while its own promise binds it";
    KeptInTransfer "lease-kept-in-transfer" [] 7 "1 reads alone although 2 leads in a higher term" =
        "the lease survives the start of a transfer";
    TakenAfterTransfer "lease-taken-after-transfer" [] 7 "1 reads alone although 2 leads in a higher term" =
        "a leader takes a lease again in a term in which it began a transfer";
    TermFenceSkipped "fence-skipped-at-election" [("restarts", 0), ("transfers", 0), ("split", 1)]
        14 "2 reads keys alone that N, split off, writes already" =
        "I9: a new leader reads alone before it has applied its term's first entry";
    SplitFenceSkipped "fence-skipped-at-split" [("restarts", 0), ("transfers", 0), ("split", 1)]
        8 "1 reads keys alone that N, split off, writes already" =
        "I9: a leader reads alone although it has not applied the split that it proposed";
}

const STORES: usize = 3;
/// Units of a promise, and of a lease: a promise less a fifth for drift.
const PROMISE: u8 = 10;
const LEASE: u8 = 8;

/// What a leader has in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Leader {
    /// Units until the lease ends.
    lease: u8,
    /// Units since the last round was sent, and whether a follower heard it: with the leader a majority of three.
    round: Option<(u8, bool)>,
    /// It has begun a transfer.
    forfeited: bool,
    /// It has applied its term's first entry.
    ready: bool,
    /// It has proposed the split itself.
    proposed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Store {
    /// Units that its clock runs in a tick.
    rate: u8,
    term: u8,
    /// Units until its promise ends.
    promise: u8,
    leader: Option<Leader>,
    /// It is a candidate in its term; whether by an order of the old leader.
    candidate: Option<bool>,
    /// The split is in its log; is applied.
    has_split: bool,
    applied: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    stores: [Store; STORES],
    /// By term: whom each store voted for.
    votes: [[Option<u8>; STORES]; 4],
    /// By term: the order to campaign, on its way.
    orders: [Option<u8>; 4],
    committed: bool,
    /// N has a leader.
    newborn_led: bool,
    restarts: u8,
}

#[derive(Debug)]
struct Lease {
    terms: u8,
    restarts: u8,
    transfers: bool,
    split: bool,
    flaw: Option<Flaw>,
}

impl Lease {
    fn has(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    fn length(&self) -> u8 {
        if self.has(Flaw::IgnoresDrift) { PROMISE } else { LEASE }
    }

    /// Whether the leader may read alone now.
    fn reads_alone(&self, store: &Store) -> bool {
        store.leader.is_some_and(|leader| {
            let by_term = leader.ready || self.has(Flaw::TermFenceSkipped);
            let by_split = !leader.proposed || store.applied || self.has(Flaw::SplitFenceSkipped);
            leader.lease > 0 && by_term && by_split
        })
    }

    fn tick(&self, world: &World) -> World {
        let mut next = world.clone();
        for store in &mut next.stores {
            store.promise = store.promise.saturating_sub(store.rate);
            if let Some(leader) = &mut store.leader {
                leader.lease = leader.lease.saturating_sub(store.rate);
                // A round older than a lease is worth nothing.
                leader.round =
                    leader.round.map(|(age, heard)| (age + store.rate, heard)).filter(|(age, _)| *age < PROMISE);
            }
        }
        next
    }

    /// A message of the leader `from` reaches `to`, whose answer may arrive at any time.
    fn deliver(&self, world: &World, from: usize, to: usize) -> World {
        let mut next = world.clone();
        let sender = world.stores[from];
        let receiver = &mut next.stores[to];
        (receiver.term, receiver.leader, receiver.candidate) = (sender.term, None, None);
        receiver.promise = PROMISE;
        if !receiver.applied {
            receiver.has_split = sender.has_split;
        }
        if let Some(Leader { round: Some((_, heard)), .. }) = &mut next.stores[from].leader {
            *heard = true;
        }
        next.committed |= sender.has_split;
        next
    }

    fn leader_steps(&self, world: &World, at: usize, steps: &mut Steps<World>) {
        let store = world.stores[at];
        let (number, term) = (at + 1, store.term);
        let Some(leader) = store.leader else { return };
        let change = |change: &dyn Fn(&mut Store, &mut Leader)| {
            let mut next = world.clone();
            let mut leader = leader;
            change(&mut next.stores[at], &mut leader);
            next.stores[at].leader = Some(leader);
            next
        };
        if leader.round.is_none_or(|(age, _)| age > 0) {
            let next = change(&|_, leader| leader.round = Some((0, false)));
            steps.step(next, format_args!("{number} (leader of term {term}) sends a round"));
        }
        for to in (0..STORES).filter(|to| *to != at && world.stores[*to].term <= term && leader.round.is_some()) {
            let next = self.deliver(world, at, to);
            steps.step(next, format_args!("{} hears {number}", to + 1));
        }
        let answered = leader.round.filter(|(_, heard)| *heard).map(|(age, _)| age);
        let may_take = !leader.forfeited || self.has(Flaw::TakenAfterTransfer);
        if let Some(age) = answered.filter(|_| may_take) {
            let taken = if self.has(Flaw::FromAnswer) { self.length() } else { self.length().saturating_sub(age) };
            if taken > leader.lease {
                let next = change(&|_, leader| leader.lease = taken);
                steps.step(next, format_args!("{number} counts the answer to its round"));
            }
        }
        if !leader.ready && answered.is_some() {
            let next = change(&|store, leader| {
                leader.ready = true;
                store.applied = store.has_split;
            });
            steps.step(next, format_args!("{number} applies the first entry of term {term}"));
        }
        if self.split && !store.has_split && leader.ready {
            let next = change(&|store, leader| (store.has_split, leader.proposed, leader.round) = (true, true, None));
            steps.step(next, format_args!("{number} proposes the split"));
        }
        if self.transfers && world.orders[usize::from(term)].is_none() && term < self.terms {
            for to in (0..STORES).filter(|to| *to != at) {
                let mut next = change(&|_, leader| {
                    leader.forfeited = true;
                    if !self.has(Flaw::KeptInTransfer) {
                        leader.lease = 0;
                    }
                });
                next.orders[usize::from(term)] = Some(to as u8);
                steps.step(next, format_args!("{number} begins to hand over to {}", to + 1));
            }
        }
    }

    fn election_steps(&self, world: &World, at: usize, steps: &mut Steps<World>) {
        let store = world.stores[at];
        let number = at + 1;
        let ordered = world.orders[usize::from(store.term)] == Some(at as u8);
        let free = store.promise == 0 || self.has(Flaw::CampaignsWithin);
        if store.term < self.terms && store.leader.is_none() && (free || ordered) {
            for by_order in [false, true].into_iter().filter(|by_order| if *by_order { ordered } else { free }) {
                let mut next = world.clone();
                let own = &mut next.stores[at];
                (own.term, own.candidate) = (store.term + 1, Some(by_order));
                next.votes[usize::from(store.term + 1)][at] = Some(at as u8);
                let why = if by_order { " by order" } else { "" };
                steps.step(next, format_args!("{number} campaigns{why} in term {}", store.term + 1));
            }
        }
        let Some(by_order) = store.candidate else { return };
        let term = usize::from(store.term);
        for voter in (0..STORES).filter(|voter| *voter != at) {
            let other = world.stores[voter];
            let unbound = other.promise == 0 || by_order;
            let has_no_more = store.has_split || !other.has_split;
            if other.term < store.term && unbound && has_no_more {
                let mut next = world.clone();
                next.votes[term][voter] = Some(at as u8);
                let other = &mut next.stores[voter];
                (other.term, other.leader, other.candidate) = (store.term, None, None);
                steps.step(next, format_args!("{} votes for {number} in term {term}", voter + 1));
            }
        }
        if world.votes[term].iter().filter(|vote| **vote == Some(at as u8)).count() >= 2 {
            let mut next = world.clone();
            next.stores[at].candidate = None;
            next.stores[at].leader =
                Some(Leader { lease: 0, round: None, forfeited: false, ready: false, proposed: false });
            steps.step(next, format_args!("{number} becomes leader of term {term}"));
        }
    }
}

impl Model for Lease {
    type State = World;

    fn initial(&self) -> Vec<World> {
        let leader = Leader { lease: 0, round: None, forfeited: false, ready: true, proposed: false };
        let store = |at: usize, rates: usize| Store {
            rate: if rates & 1 << at == 0 { 4 } else { 5 },
            term: 1,
            promise: 0,
            leader: (at == 0).then_some(leader),
            candidate: None,
            has_split: false,
            applied: false,
        };
        let world = |rates: usize| World {
            stores: [store(0, rates), store(1, rates), store(2, rates)],
            votes: [[None; STORES]; 4],
            orders: [None; 4],
            committed: false,
            newborn_led: false,
            restarts: 0,
        };
        (0..1 << STORES).map(world).collect()
    }

    fn steps(&self, world: &World, steps: &mut Steps<World>) {
        steps.step(self.tick(world), format_args!("a tick of true time"));
        for at in 0..STORES {
            self.leader_steps(world, at, steps);
            self.election_steps(world, at, steps);
            if world.restarts < self.restarts {
                let mut next = world.clone();
                next.restarts += 1;
                let promise = if self.has(Flaw::RestartForgets) { 0 } else { PROMISE };
                next.stores[at] = Store { promise, leader: None, candidate: None, ..world.stores[at] };
                steps.fault(next, format_args!("{} restarts", at + 1));
            }
            if world.committed && world.stores[at].has_split && !world.stores[at].applied {
                let mut next = world.clone();
                next.stores[at].applied = true;
                steps.step(next, format_args!("{} applies the split", at + 1));
            }
        }
        // No peer has promised anything to N yet.
        if !world.newborn_led && world.stores.iter().filter(|store| store.applied).count() >= 2 {
            let mut next = world.clone();
            next.newborn_led = true;
            steps.step(next, format_args!("N elects a leader and takes writes"));
        }
    }

    fn check(&self, world: &World) -> Option<String> {
        for (at, store) in world.stores.iter().enumerate().filter(|(_, store)| self.reads_alone(store)) {
            let higher = world.stores.iter().position(|other| other.leader.is_some() && other.term > store.term);
            if let Some(other) = higher {
                return Some(format!("{} reads alone although {} leads in a higher term", at + 1, other + 1));
            }
            if world.newborn_led && !store.applied {
                return Some(format!("{} reads keys alone that N, split off, writes already", at + 1));
            }
        }
        None
    }

    fn show(&self, world: &World) -> String {
        let one = |(at, store): (usize, &Store)| {
            let leader = store.leader.map_or(String::new(), |leader| {
                let round = leader.round.map_or(String::new(), |(age, heard)| {
                    format!(", round sent {age} ago{}", if heard { " and heard" } else { "" })
                });
                format!(" leads, lease {}{round}", leader.lease)
            });
            let split = match (store.has_split, store.applied) {
                (true, true) => ", split applied",
                (true, false) => ", split in log",
                _ => "",
            };
            format!("{} ({}/tick): term {} promise {}{leader}{split}", at + 1, store.rate, store.term, store.promise)
        };
        world.stores.iter().enumerate().map(one).collect::<Vec<_>>().join("; ")
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
