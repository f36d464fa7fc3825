//! Sleep: groups in which nothing happens get no ticks and send no heartbeats.
//!
//! A leader in whose group nothing has happened for a while asks the other peers whether they may sleep. A follower
//! that lacks nothing consents and sleeps at once; when all have consented whose stores are alive, and they are a
//! quorum, the leader sleeps, too. From then on the signs of life of its lane, which every store sends to every other
//! one, are the followers' heartbeats. The leader's lease ends: its next read asks a quorum, and wakes the group.
//!
//! ```text
//!   leader   quiet ── asks ──────────▶ all consent: asleep ── any message, request or order ──▶ awake
//!   follower          └─ consents: asleep ── any message; the leader's lane is silent, or has another run ──▶ awake
//!   a store that was silent, or has another run, wakes the leaders of groups with a peer there
//! ```
//!
//! What sleeps also wakes by itself from time to time, in case this left anything behind.
//!
//! **In** come ticks, questions, consents and signs of life; **out** go groups that sleep, and groups that are awake
//! again. **Never**: a group that sleeps while a peer that is alive lacks an entry; a follower that sleeps although its
//! leader's store is silent or was started again; a lease that a sign of life renews.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::raft::Beat;
use crate::replica::message::{Beats, GroupBeat, Sender};
use crate::replica::peer::Rest;
use crate::replica::signs::Lanes;
use crate::rt::probe::{self, Event as Probe};
use crate::types::limits::{LOST_WAKE_MAX, SLEEP_CHECK_INTERVAL};
use crate::types::{GroupId, region};

use super::Driver;

/// How often a peer that has slept for long wakes by itself, in intervals of [`SLEEP_CHECK_INTERVAL`]: followers later
/// than leaders, whose wake-up wakes them.
const FOLLOWER_CHECKS: u64 = 2;

/// A lane of another store, which peers that sleep here count on.
#[derive(Debug, Default)]
struct Watched {
    /// The nonce of the store's run.
    nonce: u64,
    /// When the last sign of life arrived (node clock, ns), and the number of ticks since.
    at_ns: u64,
    quiet_ticks: usize,
    /// Sleeping followers whose leader the lane drives.
    followers: BTreeSet<GroupId>,
    /// Sleeping leaders of groups with a peer that the lane drives.
    leaders: BTreeSet<GroupId>,
}

/// The groups of a lane, by whether they sleep.
#[derive(Debug, Default)]
pub(super) struct Sleepers {
    /// Groups that get ticks.
    awake: BTreeSet<GroupId>,
    /// By store and lane.
    watched: BTreeMap<(u64, usize), Watched>,
    /// When peers that sleep wake by themselves (node clock, ns).
    checks: BTreeSet<(u64, GroupId)>,
}

impl Sleepers {
    /// Adds a group that is awake.
    pub fn add(&mut self, group: GroupId) {
        self.awake.insert(group);
    }

    /// Returns the groups that are awake.
    pub fn awake(&self) -> Vec<GroupId> {
        self.awake.iter().copied().collect()
    }

    /// Removes a group that has no peer here any more.
    pub fn remove(&mut self, group: GroupId) {
        self.awake.remove(&group);
    }

    /// Counts on a lane's signs of life. Returns false if another run of the store is still to be noticed.
    fn watch(&mut self, store: u64, group: GroupId, lanes: &Lanes, follows: bool) -> bool {
        let Some((lane, sign)) = lanes.of(group) else { return false };
        let begin = || Watched { nonce: lanes.nonce, at_ns: sign.at_ns, ..Watched::default() };
        let watched = self.watched.entry((store, lane)).or_insert_with(begin);
        if watched.nonce != lanes.nonce {
            return false;
        }
        if follows {
            watched.followers.insert(group)
        } else {
            watched.leaders.insert(group)
        };
        true
    }

    fn unwatch(&mut self, group: GroupId) {
        self.watched.retain(|_, watched| {
            watched.followers.remove(&group);
            watched.leaders.remove(&group);
            !(watched.followers.is_empty() && watched.leaders.is_empty())
        });
    }
}

/// Why groups wake.
#[derive(Default)]
struct ToWake {
    groups: Vec<GroupId>,
    /// Followers whose leader is gone.
    lost: Vec<GroupId>,
}

impl Driver {
    /// Wakes a group, if it sleeps: something happens.
    pub(super) fn rouse(&mut self, group: GroupId) {
        let now_ns = self.clock.now().0;
        let Some(peer) = self.peers.get_mut(&group) else { return };
        if let Rest::Awake { .. } = peer.rest {
            return;
        }
        let before = std::mem::replace(&mut peer.rest, Rest::awake(now_ns));
        let due_ns = match before {
            Rest::Awake { .. } => return,
            Rest::Asking { .. } => {
                crate::reach!("driver.disturbed-before-it-slept");
                return;
            }
            Rest::Following { store, lane, due_ns } => {
                let nonce = self.sleepers.watched.get(&(store, lane)).map(|watched| watched.nonce);
                let lanes = self.handle.signs().of(store);
                let sign = lanes.lane(lane).filter(|_| Some(lanes.nonce) == nonce);
                peer.group.wake(sign.map(|sign| (sign.election_ns, sign.at_ns)), now_ns);
                due_ns
            }
            Rest::Leading { due_ns } => {
                let region = peer.view.region();
                for other in &region.peers {
                    let sign = self.handle.signs().of(other.store_id).of(group);
                    let old_ns = 2 * self.options.raft.election_ns();
                    if let Some((_, sign)) = sign.filter(|(_, sign)| now_ns.saturating_sub(sign.at_ns) <= old_ns) {
                        peer.group.note_alive(other.id, sign.at_ns);
                    }
                }
                peer.group.wake(None, now_ns);
                due_ns
            }
        };
        peer.view.show_asleep(false);
        self.sleepers.checks.remove(&(due_ns, group));
        self.sleepers.unwatch(group);
        self.sleepers.awake.insert(group);
        let (store, leads) = (self.store, u64::from(peer.group.leads()));
        probe::emit(|| Probe::Note { store, what: "awake", a: group.0, b: leads, data: Bytes::new() });
        crate::reach!("driver.group-wakes");
    }

    /// Looks for lanes that are silent or have another run, and for peers that have slept for long. Called at every
    /// tick.
    pub(super) fn watch_sleepers(&mut self, now_ns: u64) {
        let mut wake = ToWake::default();
        if !self.sleepers.watched.is_empty() {
            let all = self.handle.signs().all();
            let (ticks, own_ns) = (self.options.raft.election_ticks, self.options.raft.election_ns());
            self.sleepers.watched.retain(|(store, lane), watched| {
                let lanes = all.get(store);
                let same = |lanes: &&Lanes| lanes.nonce == watched.nonce;
                let Some(sign) = lanes.filter(same).and_then(|lanes| lanes.lane(*lane)) else {
                    crate::reach!("driver.woken-by-another-run");
                    wake.lost.extend(&watched.followers);
                    wake.groups.extend(&watched.leaders);
                    return false;
                };
                let silent = watched.quiet_ticks >= 2 * ticks;
                if sign.at_ns != watched.at_ns {
                    (watched.at_ns, watched.quiet_ticks) = (sign.at_ns, 0);
                    if silent {
                        crate::reach!("driver.woken-by-a-store-that-is-back");
                        wake.groups.extend(&watched.leaders);
                    }
                    return true;
                }
                watched.quiet_ticks += 1;
                let promised_ns = own_ns.max(sign.election_ns);
                let over = watched.quiet_ticks >= ticks && now_ns >= sign.at_ns + promised_ns;
                if over && !watched.followers.is_empty() && !crate::mutant!("replica.dead-store-missed-asleep") {
                    crate::reach!("driver.woken-by-silence");
                    let room = LOST_WAKE_MAX.saturating_sub(wake.lost.len());
                    wake.lost.extend(watched.followers.iter().take(room));
                }
                true
            });
        }
        while let Some((due_ns, group)) = self.sleepers.checks.first().copied().filter(|(due_ns, _)| *due_ns <= now_ns)
        {
            self.sleepers.checks.remove(&(due_ns, group));
            crate::reach!("driver.woken-by-its-own-check");
            wake.groups.push(group);
        }
        for group in wake.groups {
            self.rouse(group);
        }
        for group in wake.lost {
            self.rouse(group);
            let Some(peer) = self.peers.get_mut(&group) else { continue };
            let leader = peer.group.leader();
            peer.group.lost(leader);
        }
    }

    /// Adds to `beats` this lane's sign of life, unless its writes to the log hang.
    pub(super) fn give_sign(&self, now_ns: u64, beats: &mut BTreeMap<u64, Beats>) {
        let hangs = self.unwritten.age_ns(now_ns) > self.options.raft.election_ns() / 2;
        if hangs || crate::buggify!("driver.no-sign") {
            return;
        }
        for store in self.outbox.stores() {
            beats.entry(store).or_default().alive_lanes.push(self.lane as u32);
        }
    }

    /// Takes the next step towards sleep of a group that is awake. Called whenever heartbeats are due. Returns whether
    /// its heartbeats must not be sent, because they would wake those who sleep already.
    pub(super) fn seek_sleep(&mut self, group: GroupId, now_ns: u64, beats: &mut BTreeMap<u64, Beats>) -> bool {
        let after_ns = self.options.sleep_after.as_nanos() as u64;
        let election_ns = self.options.raft.election_ns();
        let Some(peer) = self.peers.get_mut(&group) else { return false };
        let seen = peer.seen();
        match &mut peer.rest {
            Rest::Asking { since_ns, .. } => {
                let late = now_ns.saturating_sub(*since_ns) > election_ns / 2;
                if late || !peer.group.leads() {
                    crate::reach!("driver.not-all-consent");
                    peer.rest = Rest::awake(now_ns);
                }
                return !late;
            }
            Rest::Awake { since_ns, seen: before } if *before != seen => {
                (*since_ns, *before) = (now_ns, seen);
                return false;
            }
            Rest::Awake { since_ns, .. } => {
                let quiet = now_ns.saturating_sub(*since_ns) >= after_ns.max(election_ns);
                if !quiet || after_ns == 0 || group == GroupId::PD || !peer.group.leads() || !peer.is_idle() {
                    return false;
                }
            }
            Rest::Leading { .. } | Rest::Following { .. } => return true,
        }
        let (mut waits, mut absent) = (BTreeMap::new(), Vec::new());
        let region = peer.view.region();
        for other in region.peers.iter().filter(|other| other.id != peer.group.peer()) {
            // A store that has never given a sign may be alive without knowing how.
            let Some((_, sign)) = self.handle.signs().of(other.store_id).of(group) else { return false };
            if now_ns.saturating_sub(sign.at_ns) > 2 * election_ns {
                absent.push(other.id);
            } else {
                waits.insert(other.id, other.store_id);
            }
        }
        if !peer.group.is_at_rest(&absent) || !peer.group.is_quorum(waits.keys().copied()) {
            return false;
        }
        let epoch = region::epoch(peer.region());
        for beat in peer.group.ask_to_sleep() {
            if let Some(store) = waits.get(&beat.to) {
                beats.entry(*store).or_default().sleeps.push(GroupBeat { group, epoch, beat });
            }
        }
        peer.rest =
            Rest::Asking { since_ns: now_ns, waits: waits.into_keys().collect(), agreed: BTreeMap::new(), absent };
        self.sleep_if_agreed(group, now_ns);
        true
    }

    /// Handles a leader's question whether this store's peer may sleep. Returns the consent.
    pub(super) fn asked_to_sleep(&mut self, sender: &Sender, ask: &GroupBeat) -> Option<GroupBeat> {
        let GroupBeat { group, beat, .. } = *ask;
        self.rouse(group);
        let lanes = self.handle.signs().of(sender.store);
        let now_ns = self.clock.now().0;
        let (_, sign) = lanes.of(group)?;
        if lanes.nonce != sender.nonce || now_ns.saturating_sub(sign.at_ns) > sender.election_ns {
            return None;
        }
        let due_ns = now_ns + self.check_in(group, FOLLOWER_CHECKS);
        let peer = self.peers.get_mut(&group).filter(|peer| peer.is_idle() && group != GroupId::PD)?;
        let consent = peer.group.agree_to_sleep(&beat, sender.election_ns, sender.arrived.0)?;
        if !self.sleepers.watch(sender.store, group, &lanes, true) {
            return None;
        }
        let (lane, _) = lanes.of(group)?;
        peer.rest = Rest::Following { store: sender.store, lane, due_ns };
        let epoch = region::epoch(peer.region());
        self.fell_asleep(group, due_ns, &[]);
        Some(GroupBeat { group, epoch, beat: consent })
    }

    /// Handles a follower's consent.
    pub(super) fn hear_consent(&mut self, sender: &Sender, consent: &GroupBeat) {
        let GroupBeat { group, beat, .. } = *consent;
        let Some(peer) = self.peers.get_mut(&group) else { return };
        if let Rest::Asking { waits, agreed, .. } = &mut peer.rest
            && waits.contains(&beat.from)
            && peer.group.hear_consent(&beat, sender.arrived.0)
        {
            waits.remove(&beat.from);
            agreed.insert(beat.from, sender.nonce);
            let now_ns = self.clock.now().0;
            self.sleep_if_agreed(group, now_ns);
        }
    }

    /// Lets a leader sleep if all have consented.
    fn sleep_if_agreed(&mut self, group: GroupId, now_ns: u64) {
        let due_ns = now_ns + self.check_in(group, 1);
        let Some(peer) = self.peers.get_mut(&group) else { return };
        let Rest::Asking { waits, agreed, absent, .. } = &peer.rest else { return };
        if !waits.is_empty() {
            return;
        }
        let (agreed, absent, region) = (agreed.clone(), absent.clone(), peer.view.region());
        let rests = peer.is_idle() && peer.group.is_at_rest(&absent);
        let watches = |sleepers: &mut Sleepers, signs: &crate::replica::signs::Signs| {
            region.peers.iter().filter(|other| other.id != peer.group.peer()).all(|other| {
                let lanes = signs.of(other.store_id);
                // A consent is worth nothing if the store was started again since.
                let same = agreed.get(&other.id).is_none_or(|nonce| *nonce == lanes.nonce);
                same && sleepers.watch(other.store_id, group, &lanes, false)
            })
        };
        if !rests || !watches(&mut self.sleepers, self.handle.signs()) {
            peer.rest = Rest::awake(now_ns);
            self.sleepers.unwatch(group);
            return;
        }
        if !absent.is_empty() {
            crate::reach!("driver.sleeps-without-a-store");
        }
        peer.rest = Rest::Leading { due_ns };
        let stores = region.peers.iter().filter(|other| agreed.contains_key(&other.id)).map(|other| other.store_id);
        self.fell_asleep(group, due_ns, &stores.collect::<Vec<_>>());
    }

    /// Notes that a peer sleeps: a leader after the peers on these stores have `consented`.
    fn fell_asleep(&mut self, group: GroupId, due_ns: u64, consented: &[u64]) {
        let Some(peer) = self.peers.get_mut(&group) else { return };
        // Nobody needs it until the group is awake.
        peer.group.log_mut().shrink_cache(0);
        peer.view.show_asleep(true);
        if crate::mutant!("replica.sleeping-leader-keeps-its-lease") && peer.group.leads() {
            peer.view.set_lease(peer.group.term(), crate::rt::clock::Instant(u64::MAX));
        }
        self.sleepers.awake.remove(&group);
        self.sleepers.checks.insert((due_ns, group));
        let (store, applied) = (self.store, peer.group.log().applied().0);
        let data = || consented.iter().flat_map(|store| store.to_be_bytes()).collect();
        probe::emit(|| Probe::Note { store, what: "asleep", a: group.0, b: applied, data: data() });
        crate::reach!("driver.group-sleeps");
    }

    /// Returns when a peer that falls asleep now wakes by itself, in nanoseconds from now.
    fn check_in(&self, group: GroupId, intervals: u64) -> u64 {
        let interval_ns = SLEEP_CHECK_INTERVAL.as_nanos() as u64;
        if crate::buggify!("driver.sleep-check-early") {
            return self.options.raft.election_ns() * 3 * intervals;
        }
        // Spread over half an interval.
        let spread = (group.0 ^ self.nonce ^ self.ticks).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        (interval_ns / 2 + ((interval_ns / 2 * spread) >> 32)) * intervals
    }

    /// Passes on to the peers of a store what it says of sleep.
    pub(super) fn hear_of_sleep(&mut self, sender: &Sender, beats: &Beats) -> Vec<GroupBeat> {
        let meant = |driver: &Driver, of: &GroupBeat| {
            let Beat { from, to, .. } = of.beat;
            driver.peers.get(&of.group).is_some_and(|peer| peer.is_meant(sender.store, of.epoch, from, to))
        };
        let mut consents = Vec::new();
        for ask in beats.sleeps.iter().filter(|_| !crate::buggify!("driver.ignores-a-question")) {
            if meant(self, ask) {
                consents.extend(self.asked_to_sleep(sender, ask));
            }
        }
        for consent in &beats.consents {
            if meant(self, consent) {
                self.hear_consent(sender, consent);
            }
        }
        consents
    }
}
