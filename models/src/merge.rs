//! # Merge: the source agrees in its own log, the target decides in its own
//!
//! **What is modelled.** S merges into T (and, with `chain`, T into U). Each group's log is atomic: an entry that is
//! appended is committed. Each store applies it when it wants. A peer's log may lag behind its group's (that is what
//! Seal waits for), it may be taken ahead by a snapshot, old ones too, and its engine may fall back in a crash.
//! Orders that were once justified may arrive at any time later: a Commit of an earlier Prepare, a Rollback that was
//! proposed before Seal, a Refuse.
//!
//! ```text
//!   S's log:  Prepare{T's epoch} at p | Seal{p}: all of S's logs hold p | Proved{p}: T decided against it
//!                 freezes S           | or Rollback{p}, the first counts  |
//!   T's log:                            Commit{S, p, epoch} or Refuse{epoch}: the first at that epoch counts
//!   store k:  T applies the Commit: applies S to p, takes its range, destroys it
//! ```
//!
//! **Bounds.** `stores`, `prepares` (of S), `writes` (to S), `splits` (of T), `moves` (T's peer on the last store
//! removed, then added again), `crashes`, `chain` (1: T may merge into U).
//!
//! **Invariants.** No key has two owners: what T took at p, S never serves again. No write of S that was applied is
//! missing in T. T's peer applies the merge only with S's data beside it. No two living peers of a store overlap
//! (I1). The version of what T becomes is above both (I3). A merging region changes nothing after p.
//! **Progress.** From every state S can get on: back to normal on all its stores, or taken over, destroyed
//! everywhere and forgotten.
//!
//! **Found.** The design holds (its section 4). Said here and not there: a snapshot for a *new* peer of T may
//! destroy the local peers that its `absorbed` names, as one for an existing peer does; that it is refused instead
//! is no rule of the merge (nothing breaks without it, up to 2 removals), only of births (`birth`, flaw
//! `snapshot-over-neighbour`). And with a local T, an epoch above the expected one would be proof enough, for T's
//! apply of the merge would have destroyed S: that T's `absorbed` must lack S is needed where S asks a T elsewhere.

use std::cell::{Ref, RefCell};
use std::fmt;

use crate::flaws;
use crate::protocol::{Bound, Bounds, Protocol};
use crate::search::{Model, Outcome, Steps, search};

/// The model, for the command line and the tests.
pub const PROTOCOL: Protocol = Protocol {
    name: "merge",
    about: "S agrees to merge in its log, T decides in its own: no key with two owners, no write lost, no peer stuck",
    bounds: &[
        Bound { name: "stores", about: "stores, each with a peer of every group", quick: 2, large: 3, min: 2, max: 3 },
        Bound { name: "prepares", about: "Prepares in S's log", quick: 2, large: 2, min: 0, max: 3 },
        Bound { name: "writes", about: "writes to S", quick: 1, large: 1, min: 0, max: 2 },
        Bound { name: "splits", about: "splits of T", quick: 1, large: 1, min: 0, max: 2 },
        Bound {
            name: "moves",
            about: "removals of T's peer on the last store, which may be added again",
            quick: 0,
            large: 0,
            min: 0,
            max: 2,
        },
        Bound {
            name: "crashes",
            about: "crashes of a store, back to its last flush",
            quick: 0,
            large: 0,
            min: 0,
            max: 2,
        },
        Bound { name: "chain", about: "1: T may merge into U", quick: 0, large: 0, min: 0, max: 1 },
    ],
    cases: &[
        &[],
        &[("stores", 3), ("prepares", 1), ("writes", 0)],
        &[("stores", 3), ("moves", 1), ("prepares", 1), ("writes", 0), ("splits", 0)],
        &[("crashes", 1), ("prepares", 1), ("writes", 0)],
        &[("chain", 1), ("prepares", 1), ("writes", 0)],
    ],
    flaws: FLAWS,
    search: |bounds: &Bounds, flaw: Option<&str>, states_max: usize| -> Outcome {
        let model = Merge {
            stores: usize::from(bounds.get("stores")),
            prepares: usize::from(bounds.get("prepares")),
            writes: usize::from(bounds.get("writes")),
            splits: usize::from(bounds.get("splits")),
            moves: usize::from(bounds.get("moves")),
            crashes: bounds.get("crashes"),
            chain: bounds.get("chain") > 0,
            flaw: flaw.map(Flaw::named),
            views: RefCell::default(),
        };
        search(&model, states_max)
    },
};

flaws! {
    SealWithoutAll "seal-without-all" [("stores", 3), ("prepares", 1), ("writes", 0), ("splits", 0)]
        6 "without its source's data" =
        "S's leader seals although not every peer's log holds p";
    RollbackAfterSeal "rollback-after-seal" [] 6 "two owners" =
        "one command rolls back before and after Seal";
    RollbackUnproved "rollback-unproved" [] 6 "two owners" =
        "a sealed S rolls back without proof that T decided against it";
    ProofByEpochAlone "proof-by-epoch-alone"
        [("stores", 3), ("moves", 1), ("prepares", 1), ("writes", 0), ("splits", 0)]
        11 "two owners" =
        "an epoch of T above the expected one is taken for proof, whatever T has absorbed";
    ProofByRange "proof-by-range" [("stores", 3), ("moves", 1), ("prepares", 1), ("writes", 0)] 13 "two owners" =
        "proof is sought in the region beside S, which may be a piece split off T";
    CommitAnyEpoch "commit-any-epoch" [] 8 "two owners" =
        "T's apply takes a Commit at any epoch";
    MergingApplies "merging-applies" [] 6 "S changed after 1, at which T took it over" =
        "a merging region applies data";
    MergeVersionLow "merge-version-low" [] 5 "T's version is not above that of S, which it took over (I3)" =
        "T's version rises by 1, not above both";
    SourceKeptByNone "source-not-kept" [("moves", 1), ("prepares", 1), ("writes", 0), ("splits", 0)]
        8 "without its source's data" =
        "\"S merged\" destroys S's peer although T's peer beside it is below the merge";
    CommitWithoutAll "commit-without-all-of-t" [("moves", 1), ("prepares", 1), ("writes", 0), ("splits", 0)]
        14 "without its source's data" =
        "T's leader proposes a Commit while a new peer of T has nothing yet";
    SnapshotLeavesSource "snapshot-leaves-source" [] 7 "S and T overlap on store 2 (I1)" =
        "a snapshot of T for an existing peer leaves the local S, which it covers";
    ForgottenEarly "forget-without-stores" [("stores", 3), ("moves", 1), ("prepares", 1), ("writes", 0), ("splits", 0)]
        14 "every source is normal" =
        "T forgets S once S is gone on T's own stores";
    CollectedEarly "source-collected-early" [("crashes", 1), ("prepares", 1), ("writes", 0), ("splits", 0)]
        7 "start refused: a state without its log" =
        "I4: S's log is removed before the merge is flushed";
    MergingTakesCommit "merging-takes-commit" [("chain", 1), ("prepares", 1), ("writes", 0), ("splits", 0)]
        8 "two owners" =
        "a merging T takes a Commit of S";
    ListNotInherited "list-not-inherited"
        [("stores", 3), ("moves", 1), ("chain", 1), ("prepares", 1), ("writes", 0), ("splits", 0)]
        17 "two owners" =
        "U does not take over what T had absorbed";
    HeirsForgotten "heir-not-asked" [("chain", 1), ("prepares", 1), ("writes", 0), ("splits", 0)]
        10 "every source is normal" =
        "S looks for proof in T only, although T was merged into U";
}

const S: usize = 0;
const T: usize = 1;
const U: usize = 2;
const NAMES: [&str; 3] = ["S", "T", "U"];
/// Versions to begin with: S's is the highest, as after many splits.
const VERSIONS: [u8; 3] = [5, 1, 1];
const STORES_MAX: usize = 3;

/// Version and conf_ver of a region.
type Epoch = (u8, u8);

/// An entry of a group's log. It is in the log whatever it does: its effect is decided at apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Entry {
    Write,
    Split,
    Prepare { expected: Epoch },
    Seal { p: usize },
    Rollback { p: usize },
    Proved { p: usize },
    Commit { p: usize, expected: Epoch },
    Refuse { expected: Epoch },
    Forget { source: usize },
    Remove,
    Add,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Peer {
    Absent,
    Here {
        applied: usize,
    },
    Gone {
        /// No peer that was added before this index may come back (its id is below the tombstone's).
        below: usize,
    },
}

/// What a store has of one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Place {
    peer: Peer,
    /// Entries in its log, which is durable; absent once the log is removed.
    len: Option<usize>,
    /// What a crash leaves of `peer`.
    flushed: Peer,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    logs: Logs,
    places: [[Place; 3]; STORES_MAX],
    crashes: u8,
    wrong: Option<&'static str>,
}

/// What a region is after a prefix of its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct View {
    epoch: Epoch,
    merging: Option<Merging>,
    /// The indexes at which sources were taken, by source.
    took: [Option<usize>; 3],
    /// Sources on the list `absorbed`.
    absorbed: [bool; 3],
    writes: usize,
    /// Whether a split came after the merge: a piece that lists nothing has S's neighbourhood.
    split_after: bool,
    /// Whether the last store has a peer.
    last_member: bool,
    /// The index of the entry that added the last store's peer again.
    added: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Merging {
    p: usize,
    expected: Epoch,
    sealed: bool,
}

type Logs = [Vec<Entry>; 3];

#[derive(Debug)]
struct Merge {
    stores: usize,
    prepares: usize,
    writes: usize,
    splits: usize,
    moves: usize,
    crashes: u8,
    chain: bool,
    flaw: Option<Flaw>,
    /// The logs last looked at, and [`Merge::views`] of them.
    views: RefCell<(Logs, [Vec<View>; 3])>,
}

impl View {
    fn new(group: usize) -> View {
        View {
            epoch: (VERSIONS[group], 1),
            merging: None,
            took: [None; 3],
            absorbed: [false; 3],
            writes: 0,
            split_after: false,
            last_member: true,
            added: 0,
        }
    }
}

impl World {
    fn applied(&self, store: usize, group: usize) -> Option<usize> {
        if let Peer::Here { applied } = self.places[store][group].peer { Some(applied) } else { None }
    }

    fn len(&self, store: usize, group: usize) -> usize {
        self.places[store][group].len.unwrap_or(0)
    }

    fn is_here(&self, store: usize, group: usize) -> bool {
        self.applied(store, group).is_some()
    }
}

impl Merge {
    fn has(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    fn groups(&self) -> std::ops::Range<usize> {
        0..if self.chain { 3 } else { 2 }
    }

    fn is_source(&self, group: usize) -> bool {
        group == S || group == T && self.chain
    }

    /// What `group` is after the first `len` entries of its log.
    fn view(&self, world: &World, group: usize, len: usize) -> View {
        self.views(world)[group][len]
    }

    /// What every group is after every prefix of its log. Most worlds have the logs of the world looked at before.
    fn views(&self, world: &World) -> Ref<'_, [Vec<View>; 3]> {
        let known = |(logs, views): &(Logs, [Vec<View>; 3])| *logs == world.logs && !views[S].is_empty();
        if !known(&self.views.borrow()) {
            let mut views = [Vec::new(), Vec::new(), Vec::new()];
            for (group, log) in world.logs.iter().enumerate() {
                let mut view = View::new(group);
                // U begins where T moves to.
                view.last_member = !(group == U && self.moves > 0);
                let mut prefixes = vec![view];
                for (at, entry) in (1..).zip(log) {
                    self.effect(&views, group, &mut view, at, *entry);
                    prefixes.push(view);
                }
                views[group] = prefixes;
            }
            *self.views.borrow_mut() = (world.logs.clone(), views);
        }
        Ref::map(self.views.borrow(), |views| &views.1)
    }

    /// The effect of the entry at index `at`.
    fn effect(&self, views: &[Vec<View>; 3], group: usize, view: &mut View, at: usize, entry: Entry) {
        // A merging region takes nothing but what ends that.
        let frozen = view.merging.is_some();
        let takes_data = !frozen || self.has(Flaw::MergingApplies);
        match entry {
            Entry::Write if takes_data => view.writes += 1,
            Entry::Split if !frozen => {
                view.epoch.0 += 1;
                view.split_after |= view.took[S].is_some();
            }
            Entry::Prepare { expected } if !frozen => {
                view.merging = Some(Merging { p: at, expected, sealed: false });
                view.epoch = (view.epoch.0 + 1, view.epoch.1 + 1);
            }
            Entry::Seal { p } => {
                if let Some(merging) = &mut view.merging {
                    merging.sealed |= merging.p == p;
                }
            }
            Entry::Rollback { p } | Entry::Proved { p } => {
                let proved = matches!(entry, Entry::Proved { .. });
                let fits = |m: &Merging| m.p == p && (m.sealed == proved || self.has(Flaw::RollbackAfterSeal));
                if view.merging.is_some_and(|merging| fits(&merging)) {
                    view.merging = None;
                    view.epoch.0 += 1;
                }
            }
            Entry::Commit { p, expected } => {
                let fits = view.epoch == expected || self.has(Flaw::CommitAnyEpoch) && view.took[group - 1].is_none();
                let late = frozen && self.has(Flaw::MergingTakesCommit) && view.took[group - 1].is_none();
                if !frozen && fits || late {
                    let source = group - 1;
                    let of_source = views[source][p];
                    let low = view.epoch.0 + 1;
                    let high = view.epoch.0.max(of_source.epoch.0) + 1;
                    view.epoch.0 = if self.has(Flaw::MergeVersionLow) { low } else { high };
                    view.took[source] = Some(p);
                    view.absorbed[source] = true;
                    if !self.has(Flaw::ListNotInherited) {
                        (0..3).for_each(|older| view.absorbed[older] |= of_source.absorbed[older]);
                    }
                }
            }
            Entry::Refuse { expected } if !frozen && view.epoch == expected => view.epoch.0 += 1,
            Entry::Forget { source } if !frozen => view.absorbed[source] = false,
            Entry::Remove if !frozen && view.last_member => {
                (view.last_member, view.epoch.1) = (false, view.epoch.1 + 1);
            }
            Entry::Add if !frozen && !view.last_member => {
                (view.last_member, view.epoch.1, view.added) = (true, view.epoch.1 + 1, at);
            }
            _ => {}
        }
    }

    fn whole(&self, world: &World, group: usize) -> View {
        self.view(world, group, world.logs[group].len())
    }

    /// What the peer on `store` has made of its log.
    fn here(&self, world: &World, store: usize, group: usize) -> Option<View> {
        world.applied(store, group).map(|applied| self.view(world, group, applied))
    }

    /// Whether the last store's peer of `group` is a member, if that is where `store` is.
    fn is_member(&self, view: &View, store: usize) -> bool {
        store + 1 < self.stores || view.last_member
    }

    /// Appends `entry` as the leader on `store`, if a quorum of peers can take it. An entry without effect is left
    /// out: since the log is atomic, what comes before the entry is known.
    fn append(&self, world: &World, group: usize, store: usize, entry: Entry) -> Option<World> {
        let mut view = self.whole(world, group);
        let before = view;
        self.effect(&self.views(world), group, &mut view, world.logs[group].len() + 1, entry);
        if view == before {
            return None;
        }
        let mut next = world.clone();
        next.logs[group].push(entry);
        if self.is_source(group) {
            let whole =
                |store: usize| world.is_here(store, group) && world.len(store, group) == world.logs[group].len();
            // The leader and one more: a majority of two or three.
            let second = (0..self.stores).find(|other| *other != store && whole(*other)).filter(|_| whole(store))?;
            for holder in [store, second] {
                next.places[holder][group].len = Some(world.logs[group].len() + 1);
            }
        }
        Some(next)
    }

    fn count(world: &World, group: usize, which: fn(&Entry) -> bool) -> usize {
        world.logs[group].iter().filter(|entry| which(entry)).count()
    }

    /// What clients, the placement driver and operators may ask for at any time.
    fn orders(&self, world: &World, store: usize, steps: &mut Steps<World>) {
        for group in self.groups().filter(|group| world.is_here(store, *group)) {
            let Some(view) = self.here(world, store, group) else { continue };
            let mut orders = Vec::new();
            if group == S && Merge::count(world, S, |entry| *entry == Entry::Write) < self.writes {
                orders.push(Entry::Write);
            }
            if group == T && Merge::count(world, T, |entry| *entry == Entry::Split) < self.splits {
                orders.push(Entry::Split);
            }
            if group == T && self.moves > 0 && store + 1 < self.stores {
                let more = Merge::count(world, T, |entry| *entry == Entry::Remove) < self.moves;
                orders.push(if view.last_member { Entry::Remove } else { Entry::Add });
                orders.retain(|order| *order != Entry::Remove || more);
            }
            let prepares = if group == S { self.prepares } else { 1 };
            let may_prepare = self.is_source(group) && view.merging.is_none();
            if may_prepare && Merge::count(world, group, |entry| matches!(entry, Entry::Prepare { .. })) < prepares {
                // T's descriptor, as some store has it.
                let targets = (0..self.stores).filter_map(|other| self.here(world, other, group + 1));
                // It is normal and on the same stores.
                let same = |target: &View| target.last_member == view.last_member || group == S;
                let normal = targets.filter(|target| target.merging.is_none() && same(target));
                orders.extend(normal.map(|target| Entry::Prepare { expected: target.epoch }));
            }
            orders.dedup();
            for entry in orders {
                if let Some(next) = self.append(world, group, store, entry) {
                    steps.fault(next, format_args!("{} takes {entry} (store {})", NAMES[group], store + 1));
                }
            }
        }
    }

    /// What a leader of the source `group` on `store` proposes.
    fn source_proposals(&self, world: &World, group: usize, store: usize, steps: &mut Steps<World>) {
        let Some(view) = self.here(world, store, group) else { return };
        let Some(Merging { p, expected, sealed }) = view.merging else { return };
        let members = (0..self.stores).filter(|other| self.is_member(&view, *other));
        let all_hold = members.into_iter().all(|other| world.is_here(other, group) && world.len(other, group) >= p);
        let mut proposals = Vec::new();
        if !sealed && (all_hold || self.has(Flaw::SealWithoutAll)) {
            proposals.push(Entry::Seal { p });
        }
        if !sealed || self.has(Flaw::RollbackAfterSeal) {
            proposals.push(Entry::Rollback { p });
        }
        if sealed && (self.is_proved(world, store, group, expected) || self.has(Flaw::RollbackUnproved)) {
            proposals.push(Entry::Proved { p });
        }
        for entry in proposals {
            if let Some(next) = self.append(world, group, store, entry) {
                steps.step(next, format_args!("{} takes {entry} (store {})", NAMES[group], store + 1));
            }
        }
    }

    /// Whether the source on `store` can know that its target decided against it.
    fn is_proved(&self, world: &World, store: usize, source: usize, expected: Epoch) -> bool {
        let target = source + 1;
        let decided = |view: View| {
            let later = view.epoch.0 > expected.0 || view.epoch.1 > expected.1;
            let lists = view.absorbed[source] && !self.has(Flaw::ProofByEpochAlone);
            // A piece that was split off lists nothing.
            let lists = lists && !(self.has(Flaw::ProofByRange) && view.split_after);
            later && !lists
        };
        let local = self.here(world, store, target);
        let any = || (0..self.stores).any(|other| self.here(world, other, target).is_some_and(decided));
        if let Some(view) = local {
            return decided(view);
        }
        // The heir of the target, at or above that merge, without S: it need not list the target any more.
        let heir = |store: usize| {
            let view = self.here(world, store, U)?;
            (view.took[T].is_some()).then(|| !view.absorbed[source])
        };
        let heirs_say = || match (self.chain, heir(store)) {
            (false, _) => false,
            (true, Some(proved)) => proved,
            (true, None) => (0..self.stores).any(|other| heir(other) == Some(true)),
        };
        any() || source == S && !self.has(Flaw::HeirsForgotten) && heirs_say()
    }

    /// What a leader of the target `group` on `store` proposes.
    fn target_proposals(&self, world: &World, group: usize, store: usize, steps: &mut Steps<World>) {
        let Some(view) = self.here(world, store, group) else { return };
        let source = group - 1;
        // Commits that some peer of the source has handed over, now or long ago.
        let sealed = |at: usize, p: usize| {
            let before = self.view(world, source, at);
            let merging = before.merging.filter(|merging| merging.p == p && merging.sealed);
            let reached = |store: usize| match world.places[store][source].peer {
                Peer::Here { applied } => applied >= at,
                Peer::Gone { .. } => world.len(store, source) >= at,
                Peer::Absent => false,
            };
            merging.filter(|_| (0..self.stores).any(reached))
        };
        let mut proposals = Vec::new();
        for (at, entry) in (1..).zip(&world.logs[source]) {
            let Entry::Seal { p } = *entry else { continue };
            let Some(Merging { expected, .. }) = sealed(at, p) else { continue };
            // The peer that was added last, not the one before it.
            let has_something = |store: usize| {
                let added = if store + 1 == self.stores { view.added } else { 0 };
                !self.is_member(&view, store) || world.applied(store, group) >= Some(added)
            };
            let all = (0..self.stores).all(has_something) || self.has(Flaw::CommitWithoutAll);
            let fits = view.epoch == expected || self.has(Flaw::CommitAnyEpoch);
            let fits = fits || self.has(Flaw::MergingTakesCommit) && view.merging.is_some();
            if fits && all {
                proposals.push(Entry::Commit { p, expected });
            }
            proposals.push(Entry::Refuse { expected });
        }
        for source in (0..group).filter(|source| view.absorbed[*source]) {
            let gone = |store: usize| {
                let Place { peer, flushed, .. } = world.places[store][source];
                let gone = |peer: Peer| matches!(peer, Peer::Gone { .. });
                let own = world.is_here(store, group) || !self.has(Flaw::ForgottenEarly);
                !own || gone(peer) && gone(flushed)
            };
            if (0..self.stores).all(gone) {
                proposals.push(Entry::Forget { source });
            }
        }
        for entry in proposals {
            if let Some(next) = self.append(world, group, store, entry) {
                steps.step(next, format_args!("{} takes {entry} (store {})", NAMES[group], store + 1));
            }
        }
    }

    /// Applies the next entry of `group` on `store`, with all that belongs to it.
    fn apply(&self, world: &mut World, store: usize, group: usize) {
        let Some(applied) = world.applied(store, group) else { return };
        let before = self.view(world, group, applied);
        let after = self.view(world, group, applied + 1);
        world.places[store][group].peer = Peer::Here { applied: applied + 1 };
        if !self.is_source(group) {
            world.places[store][group].len = Some(applied + 1);
        }
        if group > S && before.took[group - 1] != after.took[group - 1] {
            let source = group - 1;
            let p = after.took[source].expect("it was just taken");
            if !world.is_here(store, source) || world.len(store, source) < p {
                world.wrong.get_or_insert("a target applies the merge without its source's data beside it");
                return;
            }
            while world.applied(store, source).is_some_and(|applied| applied < p) {
                self.apply(world, store, source);
            }
            self.destroy(world, store, source);
        }
        if !self.is_member(&after, store) && group == T {
            world.places[store][group].peer = Peer::Gone { below: applied + 1 };
        }
    }

    /// Destroys a peer; its log goes once that is flushed.
    fn destroy(&self, world: &mut World, store: usize, group: usize) {
        world.places[store][group].peer = Peer::Gone { below: usize::MAX };
        if self.has(Flaw::CollectedEarly) {
            world.places[store][group].len = None;
        }
    }

    fn peer_steps(&self, world: &World, store: usize, group: usize, steps: &mut Steps<World>) {
        let (name, number, log_len) = (NAMES[group], store + 1, world.logs[group].len());
        let limit = if self.is_source(group) { world.len(store, group) } else { log_len };
        if let Some(applied) = world.applied(store, group).filter(|applied| *applied < limit) {
            let mut next = world.clone();
            self.apply(&mut next, store, group);
            let entry = world.logs[group][applied];
            steps.step(next, format_args!("{name} on store {number} applies {entry}"));
        }
        if self.is_source(group) && world.is_here(store, group) && world.len(store, group) < log_len {
            let mut next = world.clone();
            next.places[store][group].len = Some(log_len);
            steps.step(next, format_args!("{name} on store {number} gets the log up to {log_len}"));
        }
        self.snapshots(world, store, group, steps);
        // A target's leader (or its heir's) tells the stores of what it absorbed.
        let told = (group + 1..3).any(|heir| {
            let lists = |other: usize| self.here(world, other, heir).is_some_and(|view| view.absorbed[group]);
            (0..self.stores).any(lists)
        });
        let kept = (group + 1..3).any(|target| world.is_here(store, target)) && !self.has(Flaw::SourceKeptByNone);
        if told && !kept && world.is_here(store, group) {
            let mut next = world.clone();
            self.destroy(&mut next, store, group);
            steps.step(next, format_args!("{name} on store {number} is told that it was merged and is destroyed"));
        }
        // A descriptor that does not name the peer, from a peer that has applied it: proof that it is gone.
        let own = self.here(world, store, group).filter(|_| group == T);
        let removal = |at: &usize| {
            let view = self.view(world, T, *at);
            own.as_ref().is_some_and(|own| view.epoch.1 > own.epoch.1) && !self.is_member(&view, store)
        };
        let applied = (0..self.stores).filter_map(|other| world.applied(other, T)).max().unwrap_or(0);
        if let Some(at) = (0..=applied).find(removal) {
            let mut next = world.clone();
            next.places[store][group].peer = Peer::Gone { below: at };
            steps.step(next, format_args!("{name} on store {number} learns that it was removed and is destroyed"));
        }
    }

    /// Snapshots of any state that some peer had, old ones too.
    fn snapshots(&self, world: &World, store: usize, group: usize, steps: &mut Steps<World>) {
        let most = (0..self.stores).filter_map(|other| world.applied(other, group)).max().unwrap_or(0);
        let own = world.applied(store, group).map(|applied| (applied, self.view(world, group, applied).added));
        let below = if let Peer::Gone { below } = world.places[store][group].peer { below } else { 0 };
        for at in 1..=most {
            let view = self.view(world, group, at);
            // A snapshot for an existing peer has to bring news, one for a new peer names it.
            let wanted = match own {
                Some((applied, added)) => applied.max(world.len(store, group)) < at && view.added == added,
                None => group == T && view.added > below,
            };
            if !wanted || !self.is_member(&view, store) {
                continue;
            }
            let covered: Vec<usize> = (0..group).filter(|source| self.covers(world, &view, group, *source)).collect();
            let overlapped: Vec<usize> = covered.into_iter().filter(|source| world.is_here(store, *source)).collect();
            let named = overlapped.iter().all(|source| view.absorbed[*source]);
            let fits = if own.is_some() { named } else { overlapped.is_empty() };
            if !fits {
                continue;
            }
            let mut next = world.clone();
            for source in overlapped {
                if !self.has(Flaw::SnapshotLeavesSource) {
                    self.destroy(&mut next, store, source);
                }
            }
            next.places[store][group].peer = Peer::Here { applied: at };
            next.places[store][group].len = Some(at);
            next.places[store].iter_mut().for_each(|place| place.flushed = place.peer);
            steps.step(next, format_args!("{} on store {} gets a snapshot at {at}", NAMES[group], store + 1));
        }
    }

    /// Whether the range of `group` as in `view` includes that of `source`.
    fn covers(&self, world: &World, view: &View, group: usize, source: usize) -> bool {
        if source + 1 == group {
            return view.took[source].is_some();
        }
        view.took[T].is_some_and(|p| self.view(world, T, p).took[source].is_some())
    }

    fn store_steps(&self, world: &World, store: usize, steps: &mut Steps<World>) {
        let places = &world.places[store];
        if places.iter().any(|place| place.flushed != place.peer) {
            let mut next = world.clone();
            next.places[store].iter_mut().for_each(|place| place.flushed = place.peer);
            steps.step(next, format_args!("store {} flushes", store + 1));
            if world.crashes < self.crashes {
                let mut next = world.clone();
                next.crashes += 1;
                for place in &mut next.places[store] {
                    place.peer = place.flushed;
                    if matches!(place.peer, Peer::Here { .. }) && place.len.is_none() {
                        next.wrong.get_or_insert("start refused: a state without its log");
                    }
                }
                steps.fault(next, format_args!("store {} crashes, back to its last flush", store + 1));
            }
        }
    }
}

impl Model for Merge {
    type State = World;

    fn initial(&self) -> Vec<World> {
        let peer = |there: bool| if there { Peer::Here { applied: 0 } } else { Peer::Absent };
        let place = |there: bool| Place { peer: peer(there), len: there.then_some(0), flushed: peer(there) };
        let groups = self.groups().len();
        let there = |store: usize, group: usize| {
            let moved = group == U && self.moves > 0 && store + 1 == self.stores;
            store < self.stores && group < groups && !moved
        };
        let of_store = |store: usize| [0, 1, 2].map(|group| place(there(store, group)));
        let places = [of_store(0), of_store(1), of_store(2)];
        vec![World { logs: [Vec::new(), Vec::new(), Vec::new()], places, crashes: 0, wrong: None }]
    }

    fn steps(&self, world: &World, steps: &mut Steps<World>) {
        let mut found = Steps::like(steps);
        for store in 0..self.stores {
            self.orders(world, store, &mut found);
            for group in self.groups() {
                if self.is_source(group) {
                    self.source_proposals(world, group, store, &mut found);
                }
                if group > S {
                    self.target_proposals(world, group, store, &mut found);
                }
                self.peer_steps(world, store, group, &mut found);
            }
            if self.crashes > 0 {
                self.store_steps(world, store, &mut found);
            }
        }
        // Without crashes it does not matter what is flushed.
        steps.extend(found, |next| {
            if self.crashes == 0 {
                next.places.iter_mut().flatten().for_each(|place| place.flushed = place.peer);
            }
        });
    }

    fn check(&self, world: &World) -> Option<String> {
        if let Some(wrong) = world.wrong {
            return Some(wrong.to_owned());
        }
        for target in self.groups().skip(1) {
            let source = target - 1;
            let view = self.whole(world, target);
            if let Some(p) = view.took[source] {
                let (at_p, now) = (self.view(world, source, p), self.whole(world, source));
                let (name, target) = (NAMES[source], NAMES[target]);
                if now.merging.is_none_or(|merging| merging.p != p) {
                    return Some(format!("{name} serves again what {target} took over at {p}: two owners"));
                }
                if now.writes != at_p.writes || now.absorbed != at_p.absorbed {
                    return Some(format!("{name} changed after {p}, at which {target} took it over"));
                }
                if view.epoch.0 <= at_p.epoch.0 {
                    return Some(format!("{target}'s version is not above that of {name}, which it took over (I3)"));
                }
            }
            for store in 0..self.stores {
                let Some(view) = self.here(world, store, target) else { continue };
                let overlaps =
                    |source: &usize| self.covers(world, &view, target, *source) && world.is_here(store, *source);
                if let Some(source) = (0..target).find(overlaps) {
                    let (name, target) = (NAMES[source], NAMES[target]);
                    return Some(format!("{name} and {target} overlap on store {} (I1)", store + 1));
                }
            }
        }
        None
    }

    fn progress(&self) -> Option<&'static str> {
        Some("every source is normal on all its stores, or taken over, destroyed and forgotten")
    }

    fn settled(&self, world: &World) -> bool {
        let settled = |source: usize| {
            let log_len = world.logs[source].len();
            let view = self.whole(world, source);
            let mut members = (0..self.stores).filter(|store| self.is_member(&view, *store));
            let whole = members.all(|store| world.applied(store, source) == Some(log_len));
            let gone = (0..self.stores).all(|store| !world.is_here(store, source));
            let listed = self.groups().any(|heir| {
                (0..self.stores).any(|store| self.here(world, store, heir).is_some_and(|view| view.absorbed[source]))
            });
            view.merging.is_none() && whole || gone && !listed
        };
        (0..3).filter(|group| self.is_source(*group)).all(settled)
    }

    fn show(&self, world: &World) -> String {
        let log = |group: usize| {
            let entries: Vec<String> = world.logs[group].iter().map(Entry::to_string).collect();
            let view = self.whole(world, group);
            format!("{}({}.{}) [{}]", NAMES[group], view.epoch.0, view.epoch.1, entries.join(", "))
        };
        let one = |store: usize| {
            let peer = |group: usize| match world.places[store][group].peer {
                Peer::Absent => format!("{} none", NAMES[group]),
                Peer::Here { applied } => format!("{} {applied}/{}", NAMES[group], world.len(store, group)),
                Peer::Gone { .. } => format!("{} gone", NAMES[group]),
            };
            format!("{}: {}", store + 1, self.groups().map(peer).collect::<Vec<_>>().join(" "))
        };
        let logs: Vec<String> = self.groups().map(log).collect();
        let stores: Vec<String> = (0..self.stores).map(one).collect();
        format!("{} | {}", logs.join(" "), stores.join("; "))
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Entry::Write => f.write_str("Write"),
            Entry::Split => f.write_str("Split"),
            Entry::Prepare { expected } => write!(f, "Prepare{{target at {}.{}}}", expected.0, expected.1),
            Entry::Seal { p } => write!(f, "Seal{{{p}}}"),
            Entry::Rollback { p } => write!(f, "Rollback{{{p}}}"),
            Entry::Proved { p } => write!(f, "RollbackProved{{{p}}}"),
            Entry::Commit { p, expected } => write!(f, "Commit{{{p} at {}.{}}}", expected.0, expected.1),
            Entry::Refuse { expected } => write!(f, "Refuse{{{}.{}}}", expected.0, expected.1),
            Entry::Forget { source } => write!(f, "Forget{{{}}}", NAMES[*source]),
            Entry::Remove => f.write_str("RemovePeer"),
            Entry::Add => f.write_str("AddPeer"),
        }
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
