//! # Fence: what a request has decided from a snapshot still holds when it is applied
//!
//! **What is modelled.** One key, two nodes. A request takes the key's latch on the leader's node, reads a snapshot,
//! decides, and proposes; its latch stands until its fate is known. Leaders change at any moment, also back to the
//! same node; entries that are not committed then are kept or lost. A split gives the key to another region, which
//! has latches of its own.
//!
//! ```text
//!   latch ─▶ snapshot (term, version) ─▶ entry ─▶ apply: entry's term = snapshot's, version unchanged ─▶ unlatch
//! ```
//!
//! **Bounds.** `requests`, `terms`, `splits`.
//!
//! **Invariant.** An entry that is applied finds the value that its request has read. *Progress*: every request ends.

use crate::flaws;
use crate::protocol::{Bound, Bounds, Protocol};
use crate::search::{Model, Outcome, Steps, search};

/// The model, for the command line and the tests.
pub const PROTOCOL: Protocol = Protocol {
    name: "fence",
    about: "latches, snapshots and fences of requests that write",
    bounds: &[
        Bound { name: "requests", about: "requests that write the key", quick: 2, large: 3, min: 1, max: 4 },
        Bound { name: "terms", about: "terms", quick: 3, large: 3, min: 1, max: 4 },
        Bound { name: "splits", about: "splits of the region", quick: 1, large: 1, min: 0, max: 2 },
    ],
    cases: &[&[], &[("requests", 3), ("terms", 2), ("splits", 0)]],
    flaws: FLAWS,
    search: |bounds: &Bounds, flaw: Option<&str>, states_max: usize| -> Outcome {
        let (requests, terms, splits) = (bounds.get("requests"), bounds.get("terms"), bounds.get("splits"));
        let requests = usize::from(requests);
        search(&Fences { requests, terms, splits, flaw: flaw.map(Flaw::named) }, states_max)
    },
};

flaws! {
    TermUnchecked "fence-term-unchecked" [] 19 "another value" =
        "the term of the snapshot is not compared with that of the entry";
    VersionUnchecked "fence-version-unchecked" [] 15 "another value" =
        "the version of the snapshot is not compared with the region's";
    Early "latch-released-early" [] 12 "another value" =
        "a latch is released when its request has proposed";
    NotReady "snapshot-before-the-first-entry" [] 15 "another value" =
        "a new leader serves snapshots before it has applied an entry of its own term";
    NoLatch "no-latch" [] 12 "another value" =
        "two requests decide about one key at the same time";
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Stage {
    New,
    /// Has the latch of its node, in the region of this version.
    Latched,
    /// Has read a value in this term and version.
    Decided {
        term: u8,
        version: u8,
        read: u8,
    },
    /// Has proposed in this term.
    Proposed {
        term: u8,
    },
    Over,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Request {
    node: u8,
    /// The region's version when it took the latch: which table of latches it is in.
    region: u8,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum What {
    /// The first entry of a leader.
    First,
    Split,
    /// A write, with what it was decided from.
    Write {
        request: u8,
        term: u8,
        version: u8,
        read: u8,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Entry {
    term: u8,
    what: What,
}

/// What a node has applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Node {
    applied: u8,
    value: u8,
    version: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    term: u8,
    leader: u8,
    log: Vec<Entry>,
    committed: u8,
    nodes: [Node; 2],
    requests: Vec<Request>,
    splits: u8,
    wrong: Option<&'static str>,
}

#[derive(Debug)]
struct Fences {
    requests: usize,
    terms: u8,
    splits: u8,
    flaw: Option<Flaw>,
}

impl World {
    /// Whether a node leads and has applied an entry of its own term.
    fn is_ready(&self, node: u8) -> bool {
        let applied = usize::from(self.nodes[usize::from(node)].applied);
        let own = |at: usize| self.log.get(at).is_some_and(|entry| entry.term == self.term);
        self.leader == node && (0..applied).any(own)
    }

    fn is_latched(&self, node: u8, region: u8) -> bool {
        let holds = |one: &Request| !matches!(one.stage, Stage::New | Stage::Over);
        self.requests.iter().any(|one| (one.node, one.region) == (node, region) && holds(one))
    }
}

impl Fences {
    fn has(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    fn request_steps(&self, world: &World, at: usize, steps: &mut Steps<World>) {
        let Request { node, region, stage } = world.requests[at];
        let here = world.nodes[usize::from(node)];
        let mut next = world.clone();
        let own = &mut next.requests[at];
        let may_read = world.is_ready(node) || (self.has(Flaw::NotReady) && world.leader == node);
        match stage {
            Stage::New => {
                for node in 0..2 {
                    let version = world.nodes[usize::from(node)].version;
                    let free = !world.is_latched(node, version) || self.has(Flaw::NoLatch);
                    let first = at == 0 || world.requests[at - 1].stage != Stage::New;
                    if world.leader == node && free && first {
                        let mut next = world.clone();
                        next.requests[at] = Request { node, region: version, stage: Stage::Latched };
                        steps.step(next, format_args!("request {at} takes the latch on node {node}"));
                    }
                }
            }
            // A request for a region that has changed is refused.
            Stage::Latched if may_read && here.version == region => {
                own.stage = Stage::Decided { term: world.term, version: here.version, read: here.value };
                steps.step(next, format_args!("request {at} reads {} in term {}", here.value, world.term));
            }
            Stage::Latched => {
                own.stage = Stage::Over;
                steps.step(next, format_args!("request {at} is refused: its node leads no more, or another region"));
            }
            Stage::Decided { term, version, read } if world.leader == node => {
                next.log.push(Entry { term: world.term, what: What::Write { request: at as u8, term, version, read } });
                next.requests[at].stage =
                    if self.has(Flaw::Early) { Stage::Over } else { Stage::Proposed { term: world.term } };
                steps.step(next, format_args!("request {at} proposes in term {}", world.term));
            }
            Stage::Decided { .. } => {
                own.stage = Stage::Over;
                steps.step(next, format_args!("request {at} cannot propose: node {node} leads no more"));
            }
            Stage::Proposed { term } if world.term != term => {
                own.stage = Stage::Over;
                steps.step(
                    next,
                    format_args!("request {at} ends, its outcome is unknown: node {node} has lost its term"),
                );
            }
            Stage::Proposed { .. } | Stage::Over => {}
        }
    }

    fn apply_step(&self, world: &World, node: usize, steps: &mut Steps<World>) {
        let at = world.nodes[node].applied;
        if at >= world.committed {
            return;
        }
        let Entry { term, what } = world.log[usize::from(at)];
        let mut next = world.clone();
        next.nodes[node].applied += 1;
        let here = &mut next.nodes[node];
        match what {
            What::First => {}
            What::Split => here.version += 1,
            What::Write { request, term: seen, version, read } => {
                let term_fits = term == seen || self.has(Flaw::TermUnchecked);
                let version_fits = version == here.version || self.has(Flaw::VersionUnchecked);
                if term_fits && version_fits {
                    if here.value != read {
                        next.wrong = Some("a write is applied to another value than the one it was decided from");
                    }
                    next.nodes[node].value += 1;
                }
                let own = &mut next.requests[usize::from(request)];
                if usize::from(own.node) == node && own.stage == (Stage::Proposed { term }) {
                    own.stage = Stage::Over;
                }
            }
        }
        steps.step(next, format_args!("node {node} applies entry {at}: {what:?}"));
    }

    fn raft_steps(&self, world: &World, steps: &mut Steps<World>) {
        if usize::from(world.committed) < world.log.len() {
            let mut next = world.clone();
            next.committed += 1;
            steps.step(next, format_args!("entry {} is committed", world.committed));
        }
        if world.splits < self.splits && world.is_ready(world.leader) {
            let mut next = world.clone();
            next.splits += 1;
            next.log.push(Entry { term: world.term, what: What::Split });
            steps.step(next, format_args!("the leader proposes a split"));
        }
        if world.term < self.terms {
            for leader in 0..2 {
                for kept in usize::from(world.committed)..=world.log.len() {
                    let mut next = world.clone();
                    (next.term, next.leader) = (world.term + 1, leader);
                    next.log.truncate(kept);
                    next.log.push(Entry { term: world.term + 1, what: What::First });
                    steps.fault(next, format_args!("node {leader} leads term {}, with {kept} entries", world.term + 1));
                }
            }
        }
    }
}

impl Model for Fences {
    type State = World;

    fn initial(&self) -> Vec<World> {
        let request = Request { node: 0, region: 0, stage: Stage::New };
        vec![World {
            term: 1,
            leader: 0,
            log: vec![Entry { term: 1, what: What::First }],
            committed: 0,
            nodes: [Node::default(); 2],
            requests: vec![request; self.requests],
            splits: 0,
            wrong: None,
        }]
    }

    fn steps(&self, world: &World, steps: &mut Steps<World>) {
        for at in 0..self.requests {
            self.request_steps(world, at, steps);
        }
        for node in 0..2 {
            self.apply_step(world, node, steps);
        }
        self.raft_steps(world, steps);
    }

    fn check(&self, world: &World) -> Option<String> {
        world.wrong.map(str::to_owned)
    }

    fn progress(&self) -> Option<&'static str> {
        Some("every request has ended")
    }

    fn settled(&self, world: &World) -> bool {
        world.requests.iter().all(|one| one.stage == Stage::Over)
    }

    fn show(&self, world: &World) -> String {
        let request = |one: &Request| format!("{:?} on {}", one.stage, one.node);
        let requests: Vec<String> = world.requests.iter().map(request).collect();
        let World { term, leader, nodes, committed, .. } = world;
        let node = |one: &Node| format!("value {} version {} applied {}", one.value, one.version, one.applied);
        format!(
            "term {term} led by {leader}; {}; {}; {committed} of {} committed; {}",
            node(&nodes[0]),
            node(&nodes[1]),
            world.log.len(),
            requests.join("; ")
        )
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
