//! # Sleep: a beat a store stands for the heartbeats of every sleeping group
//!
//! **What is modelled.** One group on three stores with drifting clocks (4 or 5 units a tick), awake or asleep. Each
//! store beats the others with its boot id; for a peer that sleeps, a beat of its leader's store in the boot that it
//! fell asleep under renews the promise. It renews no lease: that takes a round that a quorum answers. Beats may be
//! late, stores restart (with a new boot id), stall (their lanes hang) or die. Peers come back awake, knowing no
//! leader.
//!
//! ```text
//!   awake, quiet --Sleep: every peer on a live store agrees--> asleep --message, read, silence, new boot id--> awake
//!   leader's store: beats {boot 7} ...... restarts, beats {boot 8}: forget the leader, keep the promise
//! ```
//!
//! **Bounds.** `terms`, `clocks`, `restarts`, `failures` (stores that stall or die), `writes` (that wake the group
//! and may leave a follower behind).
//!
//! **Invariant.** While a leader reads alone, no peer of a higher term leads.
//! **Progress.** From every state, if no more goes wrong (every live store beats each interval, messages arrive),
//! there is a leader on a live store, and every live peer follows it and has all of its log.
//!
//! **Found.** The design holds (its section 8), and more than was thought may be left out: a peer that is awake and
//! hears no leader campaigns, and its request wakes the others. So a peer that comes back awake needs nobody to notice
//! it; that the others wake because of a new boot id, or of a store that was away, only spares them the requests of
//! all its peers. (Where peers come back asleep, both are needed.) A peer that wakes without a leader wakes the others
//! before it campaigns, for one of them may still lead (else a leader asleep and a follower awake go on side by side
//! until the follower's next term); a request for a pre-vote does that. Not covered: wake-ups by
//! the self-check every 10 minutes.

use crate::flaws;
use crate::protocol::{Bound, Bounds, Protocol};
use crate::search::{Model, Outcome, Steps, search};

/// The model, for the command line and the tests.
pub const PROTOCOL: Protocol = Protocol {
    name: "sleep",
    about: "sleeping groups live on their stores' beats: never two who read alone, never asleep forever",
    bounds: &[
        Bound { name: "terms", about: "terms, the first leader's is 1", quick: 2, large: 3, min: 1, max: 4 },
        Bound {
            name: "clocks",
            about: "0: 1's is slow, the others' fast; 1: every way",
            quick: 0,
            large: 0,
            min: 0,
            max: 1,
        },
        Bound { name: "restarts", about: "restarts of a store", quick: 1, large: 1, min: 0, max: 2 },
        Bound { name: "failures", about: "stores that stall or die", quick: 0, large: 0, min: 0, max: 1 },
        Bound { name: "writes", about: "writes", quick: 0, large: 0, min: 0, max: 2 },
    ],
    cases: &[&[], &[("terms", 3), ("restarts", 0), ("failures", 1)], &[("writes", 1)]],
    flaws: FLAWS,
    search: |bounds: &Bounds, flaw: Option<&str>, states_max: usize| -> Outcome {
        let model = Sleep {
            terms: bounds.get("terms"),
            clocks: bounds.get("clocks") > 0,
            restarts: bounds.get("restarts"),
            failures: bounds.get("failures"),
            writes: bounds.get("writes"),
            flaw: flaw.map(Flaw::named),
        };
        search(&model, states_max)
    },
};

flaws! {
    IgnoresDrift "lease-ignores-drift" [] 8 "1 reads alone although 2 leads in a higher term" =
        "the lease is as long as the promise";
    RestartForgets "restart-forgets-promise" [] 7 "1 reads alone although 2 leads in a higher term" =
        "a restarted voter is bound by nothing";
    CampaignsWithin "campaign-within-promise" [] 6 "1 reads alone although 2 leads in a higher term" =
        "a voter that wakes campaigns within its own promise";
    BootFrees "boot-frees-promise" [("terms", 3)] 13 "2 reads alone although 1 leads in a higher term" =
        "a new boot id of the leader's store ends the promise to it";
    BeatsRenewLeases "beats-renew-leases" [] 6 "1 reads alone although 2 leads in a higher term" =
        "a sleeping leader takes its beats for answered rounds";
    SilenceMissed "dead-store-missed" [("restarts", 0), ("failures", 1)] 2 "a live store leads" =
        "a sleeping peer does not notice that its leader's store is silent";
    BeatsStalled "beats-while-stalled" [("restarts", 0), ("failures", 1)] 2 "a live store leads" =
        "a store beats although its lanes hang";
    SleepsWithLaggard "sleep-with-laggard" [("restarts", 0), ("writes", 1)] 2 "a live store leads" =
        "a leader sleeps although a live follower lags";
}

const STORES: usize = 3;
const PROMISE: u8 = 10;
const LEASE: u8 = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Health {
    Live,
    /// Its lanes hang forever.
    Stalled,
    Dead,
}

/// What a leader has in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Leader {
    lease: u8,
    /// Units since the last round was sent; whether a follower has heard it.
    round: Option<(u8, bool)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Store {
    rate: u8,
    health: Health,
    boot: u8,
    /// The boots of the others as last heard.
    heard: [u8; STORES],
    term: u8,
    awake: bool,
    promise: u8,
    leader: Option<Leader>,
    candidate: bool,
    /// The leader that it follows, by store.
    follows: Option<u8>,
    /// It has the whole log.
    whole: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    stores: [Store; STORES],
    votes: [[Option<u8>; STORES]; 5],
    restarts: u8,
    failures: u8,
    writes: u8,
}

#[derive(Debug)]
struct Sleep {
    terms: u8,
    clocks: bool,
    restarts: u8,
    failures: u8,
    writes: u8,
    flaw: Option<Flaw>,
}

impl Store {
    fn is_live(&self) -> bool {
        self.health == Health::Live
    }

    /// Awake and without a leader.
    fn forget_leader(&mut self) {
        (self.awake, self.follows) = (true, None);
    }
}

impl Sleep {
    fn has(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    fn length(&self) -> u8 {
        if self.has(Flaw::IgnoresDrift) { PROMISE } else { LEASE }
    }

    /// Whether beats leave `store`.
    fn beats(&self, store: &Store) -> bool {
        store.is_live() || store.health == Health::Stalled && self.has(Flaw::BeatsStalled)
    }

    /// True time passes.
    fn tick(&self, world: &mut World) {
        for store in &mut world.stores {
            store.promise = store.promise.saturating_sub(store.rate);
            if let Some(leader) = &mut store.leader {
                leader.lease = leader.lease.saturating_sub(store.rate);
                leader.round =
                    leader.round.map(|(age, heard)| (age + store.rate, heard)).filter(|(age, _)| *age < PROMISE);
            }
            // The leader's store was silent for as long as a promise.
            let silent = !store.awake && store.leader.is_none() && store.follows.is_some() && store.promise == 0;
            if silent && store.is_live() && !self.has(Flaw::SilenceMissed) {
                store.forget_leader();
            }
        }
    }

    /// The last beat of `from` reaches `to`.
    fn beat(&self, world: &mut World, from: usize, to: usize) {
        let boot = world.stores[from].boot;
        let own = &mut world.stores[to];
        let new = boot > own.heard[from];
        own.heard[from] = own.heard[from].max(boot);
        let follows = own.follows == Some(from as u8);
        if new && follows {
            own.forget_leader();
            if self.has(Flaw::BootFrees) {
                own.promise = 0;
            }
        } else if new && !own.awake && !follows {
            // A store that was away: its peer may lag.
            own.awake = own.leader.is_some();
        } else if !own.awake && follows {
            own.promise = PROMISE;
        }
        let sender = &mut world.stores[from];
        if let (Some(leader), false, true) = (&mut sender.leader, sender.awake, self.has(Flaw::BeatsRenewLeases)) {
            leader.lease = self.length();
        }
    }

    /// Every store beats every other, and time passes: the calm.
    fn interval(&self, world: &World) -> World {
        let mut next = world.clone();
        for from in 0..STORES {
            for to in (0..STORES).filter(|to| *to != from) {
                if self.beats(&world.stores[from]) && world.stores[to].is_live() {
                    self.beat(&mut next, from, to);
                }
            }
        }
        self.tick(&mut next);
        next
    }

    fn leader_steps(&self, world: &World, at: usize, steps: &mut Steps<World>) {
        let store = world.stores[at];
        let number = at + 1;
        let Some(leader) = store.leader else { return };
        if !store.awake {
            let mut next = world.clone();
            next.stores[at].awake = true;
            steps.fault(next, format_args!("{number} is woken by a read"));
        }
        if store.awake && leader.round.is_none_or(|(age, _)| age > 0) {
            let mut next = world.clone();
            next.stores[at].leader = Some(Leader { round: Some((0, false)), ..leader });
            steps.step(next, format_args!("{number} (leader of term {}) sends a round", store.term));
        }
        let followers = (0..STORES).filter(|to| *to != at && world.stores[*to].is_live());
        for to in followers.filter(|to| world.stores[*to].term <= store.term && leader.round.is_some()) {
            let mut next = world.clone();
            let own = &mut next.stores[to];
            (own.term, own.leader, own.candidate, own.promise) = (store.term, None, false, PROMISE);
            (own.awake, own.follows, own.whole) = (true, Some(at as u8), store.whole);
            if let Some(Leader { round: Some((_, heard)), .. }) = &mut next.stores[at].leader {
                *heard = true;
            }
            steps.step(next, format_args!("{} hears {number}", to + 1));
        }
        if let Some((age, true)) = leader.round {
            let lease = self.length().saturating_sub(age);
            if lease > leader.lease {
                let mut next = world.clone();
                next.stores[at].leader = Some(Leader { lease, ..leader });
                steps.step(next, format_args!("{number} counts the answer to its round"));
            }
        }
        // Writes of a leader that was replaced come to nothing.
        let replaced = world.stores.iter().any(|other| other.leader.is_some() && other.term > store.term);
        if store.awake && !replaced && world.writes < self.writes {
            let mut next = world.clone();
            next.writes += 1;
            for other in (0..STORES).filter(|other| *other != at) {
                next.stores[other].whole = false;
            }
            steps.fault(next, format_args!("{number} takes a write"));
        }
        // Every peer on a live store agrees, a quorum at least: they follow this leader and have its log.
        let agrees = |other: &Store| {
            let follows =
                other.follows == Some(at as u8) && other.term == store.term && other.candidate == store.candidate;
            follows && other.awake && (other.whole || self.has(Flaw::SleepsWithLaggard))
        };
        let others = || (0..STORES).filter(|other| *other != at).map(|other| &world.stores[other]);
        let all = others().filter(|other| other.is_live()).all(agrees);
        if store.awake && all && others().any(Store::is_live) {
            let mut next = world.clone();
            for other in next.stores.iter_mut().filter(|other| other.is_live()) {
                other.awake = false;
            }
            steps.fault(next, format_args!("{number} and its followers fall asleep"));
        }
    }

    fn election_steps(&self, world: &World, at: usize, steps: &mut Steps<World>) {
        let store = world.stores[at];
        let number = at + 1;
        let free = store.promise == 0 || self.has(Flaw::CampaignsWithin);
        if store.awake && store.leader.is_none() && free && store.term < self.terms {
            let mut next = world.clone();
            let own = &mut next.stores[at];
            (own.term, own.candidate, own.follows) = (store.term + 1, true, None);
            next.votes[usize::from(store.term + 1)][at] = Some(at as u8);
            steps.step(next, format_args!("{number} campaigns in term {}", store.term + 1));
        }
        // Who wakes without a leader wakes the others first: one of them may lead.
        let lost = store.awake && store.leader.is_none() && store.follows.is_none();
        for to in (0..STORES).filter(|to| lost && *to != at && world.stores[*to].is_live()) {
            if !world.stores[to].awake {
                let mut next = world.clone();
                next.stores[to].awake = true;
                steps.step(next, format_args!("{number} wakes {}", to + 1));
            }
        }
        if !store.candidate {
            return;
        }
        let term = usize::from(store.term);
        for voter in (0..STORES).filter(|voter| *voter != at && world.stores[*voter].is_live()) {
            let other = world.stores[voter];
            if other.term < store.term {
                let mut next = world.clone();
                let own = &mut next.stores[voter];
                // Whatever it answers, the message wakes it; who has a leader wakes that one.
                if other.promise == 0 && (store.whole || !other.whole) {
                    (own.term, own.leader, own.candidate, own.follows) = (store.term, None, false, None);
                    own.awake = true;
                    next.votes[term][voter] = Some(at as u8);
                    steps.step(next, format_args!("{} votes for {number} in term {term}", voter + 1));
                } else if !other.awake {
                    own.awake = true;
                    steps.step(next, format_args!("{} is woken by {number}'s request for a vote", voter + 1));
                }
            }
        }
        if world.votes[term].iter().filter(|vote| **vote == Some(at as u8)).count() >= 2 {
            let mut next = world.clone();
            let own = &mut next.stores[at];
            (own.candidate, own.leader) = (false, Some(Leader { lease: 0, round: None }));
            // The log that counts is this leader's.
            for (other, store) in next.stores.iter_mut().enumerate() {
                store.whole = other == at || store.whole && world.stores[at].whole;
            }
            steps.step(next, format_args!("{number} becomes leader of term {term}"));
        }
    }

    /// The model ends here, not the protocol: no peer can win the last term any more.
    fn is_out_of_terms(&self, world: &World) -> bool {
        let last = |store: &&Store| store.term == self.terms;
        let votes = world.votes[usize::from(self.terms)];
        let may_win = |(at, store): (usize, &Store)| {
            let alone = votes.iter().flatten().all(|vote| usize::from(*vote) == at);
            let is_newest = world.stores.iter().all(|other| store.whole || !other.whole);
            store.is_live() && last(&store) && (store.leader.is_some() || store.candidate && is_newest && alone)
        };
        world.stores.iter().any(|store| last(&store)) && !world.stores.iter().enumerate().any(may_win)
    }

    fn faults(&self, world: &World, at: usize, steps: &mut Steps<World>) {
        let store = world.stores[at];
        if world.restarts < self.restarts {
            let mut next = world.clone();
            next.restarts += 1;
            let promise = if self.has(Flaw::RestartForgets) { 0 } else { PROMISE };
            let boot = store.boot + 1;
            next.stores[at] =
                Store { promise, boot, leader: None, candidate: false, follows: None, awake: true, ..store };
            steps.fault(next, format_args!("{} restarts as boot {boot}", at + 1));
        }
        if world.failures < self.failures {
            for health in [Health::Stalled, Health::Dead] {
                let mut next = world.clone();
                next.failures += 1;
                next.stores[at].health = health;
                next.stores[at].leader = None;
                let how = if health == Health::Dead { "dies" } else { "hangs" };
                steps.fault(next, format_args!("{} {how}", at + 1));
            }
        }
        for to in (0..STORES).filter(|to| *to != at && world.stores[*to].is_live()) {
            if self.beats(&store) {
                let mut next = world.clone();
                self.beat(&mut next, at, to);
                steps.fault(next, format_args!("a beat of {} (boot {}) reaches {}", at + 1, store.boot, to + 1));
            }
        }
    }
}

impl Model for Sleep {
    type State = World;

    fn initial(&self) -> Vec<World> {
        let store = |at: usize, rates: usize| Store {
            rate: if rates & 1 << at == 0 { 4 } else { 5 },
            health: Health::Live,
            boot: 1,
            heard: [1; STORES],
            term: 1,
            awake: true,
            promise: 0,
            leader: (at == 0).then_some(Leader { lease: 0, round: None }),
            candidate: false,
            follows: (at != 0).then_some(0),
            whole: true,
        };
        let world = |rates: usize| World {
            stores: [store(0, rates), store(1, rates), store(2, rates)],
            votes: [[None; STORES]; 5],
            restarts: 0,
            failures: 0,
            writes: 0,
        };
        let rates = if self.clocks { 0..1 << STORES } else { 0b110..0b111 };
        rates.map(world).collect()
    }

    fn steps(&self, world: &World, steps: &mut Steps<World>) {
        steps.step(self.interval(world), format_args!("an interval: every store beats, a tick of true time"));
        let mut silent = world.clone();
        self.tick(&mut silent);
        steps.fault(silent, format_args!("a tick of true time, without beats"));
        for at in 0..STORES {
            if world.stores[at].is_live() {
                self.leader_steps(world, at, steps);
                self.election_steps(world, at, steps);
            }
            if world.stores[at].health != Health::Dead {
                self.faults(world, at, steps);
            }
        }
    }

    fn check(&self, world: &World) -> Option<String> {
        for (at, store) in world.stores.iter().enumerate() {
            let higher = world.stores.iter().position(|other| other.leader.is_some() && other.term > store.term);
            if let (true, Some(other)) = (store.leader.is_some_and(|leader| leader.lease > 0), higher) {
                return Some(format!("{} reads alone although {} leads in a higher term", at + 1, other + 1));
            }
        }
        None
    }

    fn progress(&self) -> Option<&'static str> {
        Some("a live store leads, and every live store follows it with its whole log")
    }

    fn settled(&self, world: &World) -> bool {
        if self.is_out_of_terms(world) {
            return true;
        }
        let leads = |at: &usize| world.stores[*at].leader.is_some() && world.stores[*at].is_live();
        (0..STORES).filter(leads).any(|at| {
            let followers = world.stores.iter().enumerate().filter(|(other, store)| *other != at && store.is_live());
            followers.into_iter().all(|(_, store)| store.follows == Some(at as u8) && store.whole)
        })
    }

    fn show(&self, world: &World) -> String {
        let one = |(at, store): (usize, &Store)| {
            let Store { boot, term, promise, .. } = store;
            let leads = store.leader.map_or(String::new(), |leader| format!(" leads, lease {}", leader.lease));
            let follows = store.follows.map_or(String::new(), |leader| format!(" follows {}", leader + 1));
            let state = match (store.health, store.awake) {
                (Health::Live, true) => "awake",
                (Health::Live, false) => "asleep",
                (Health::Stalled, _) => "stalled",
                (Health::Dead, _) => "dead",
            };
            let lags = if store.whole { "" } else { " lags" };
            format!("{}: {state} boot {boot} term {term} promise {promise}{leads}{follows}{lags}", at + 1)
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
