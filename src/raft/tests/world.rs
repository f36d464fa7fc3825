//! Peers of one group in memory: each with a log, an engine that says only how far it is applied, and a network between
//! them whose messages lie in a list until they are delivered or dropped.

use std::collections::{BTreeMap, VecDeque};

use ::raft::eraftpb::{Entry, HardState, Message};
use bytes::Bytes;

use super::text;
use crate::proto::metapb::PeerRole;
use crate::raft::log_view::{LogView, Start};
use crate::raft::output::{Fetch, Output};
use crate::raft::{Beat, Group, Options, Run, membership};
use crate::types::region::Peer as Member;
use crate::types::{GroupId, Region};

/// A tick of the script's clock.
pub const TICK_MS: u64 = 100;
const MS: u64 = 1_000_000;

/// What a peer's log holds durably.
struct Log {
    hard_state: HardState,
    entries: BTreeMap<u64, Entry>,
    truncated: (u64, u64),
}

impl Log {
    fn last(&self) -> u64 {
        self.entries.last_key_value().map_or(self.truncated.0, |(index, _)| *index)
    }

    fn term_of(&self, index: u64) -> u64 {
        if index == self.truncated.0 { self.truncated.1 } else { self.entries[&index].term }
    }

    fn read(&self, low: u64, high: u64) -> Vec<Entry> {
        self.entries.range(low..high).map(|(_, entry)| entry.clone()).collect()
    }
}

/// One peer and what its store holds.
pub struct Peer {
    /// Nothing: it is stopped.
    group: Option<Group>,
    options: Options,
    log: Log,
    applied: (u64, u64),
    /// Outputs whose log write is not done yet, in order.
    unwritten: VecDeque<Output>,
    log_waits: bool,
    /// Committed entries that the engine does not hold yet.
    unapplied: VecDeque<Entry>,
    engine_waits: bool,
    /// An output with a snapshot that the engine does not hold yet: nothing is taken from the group until it does.
    installing: Option<Output>,
    fetches: Vec<Fetch>,
    fetch_waits: bool,
    /// Leader and term that were last told.
    told: (u64, u64),
}

/// Which messages a command means.
#[derive(Debug)]
pub struct Filter {
    /// From this peer.
    pub from: Option<u64>,
    /// To this peer.
    pub to: Option<u64>,
    /// Of this kind.
    pub kind: Option<String>,
    /// The first so many.
    pub first: u64,
}

impl Filter {
    fn matches(&self, message: &Message) -> bool {
        let kind = format!("{:?}", message.get_msg_type());
        self.from.is_none_or(|from| from == message.from)
            && self.to.is_none_or(|to| to == message.to)
            && self.kind.as_ref().is_none_or(|wanted| *wanted == kind)
    }
}

/// How a world begins.
pub struct Settings {
    /// Peers; their ids count from 1.
    pub peers: u64,
    /// Their roles; those beyond vote.
    pub roles: Vec<PeerRole>,
    /// Election timeouts in ticks of those that differ from 10.
    pub election_ticks: BTreeMap<u64, usize>,
    /// Bytes of an append.
    pub append_bytes_max: u64,
    /// Bytes of applied entries kept in memory.
    pub cache_bytes_max: usize,
}

/// The peers of group 7.
pub struct World {
    peers: BTreeMap<u64, Peer>,
    settings: Settings,
    now_ms: u64,
    wire: Vec<Message>,
    held: Vec<Filter>,
    lines: Vec<String>,
}

impl World {
    /// Peers that never ran, at 1000 ms.
    pub fn new(settings: Settings) -> World {
        let mut world =
            World { peers: BTreeMap::new(), now_ms: 1000, wire: vec![], held: vec![], lines: vec![], settings };
        for id in 1..=world.settings.peers {
            let options = Options {
                tick_ns: TICK_MS * MS,
                election_ticks: world.settings.election_ticks.get(&id).copied().unwrap_or(10),
                heartbeat_ticks: 2,
                append_bytes_max: world.settings.append_bytes_max,
                appends_inflight_max: 64,
                apply_bytes_max: 1 << 20,
                lease_reads: true,
            };
            let hard_state = membership::first_hard_state();
            let log = Log { hard_state, entries: BTreeMap::new(), truncated: membership::FIRST };
            let peer = Peer {
                group: None,
                options,
                log,
                applied: membership::FIRST,
                unwritten: VecDeque::new(),
                log_waits: false,
                unapplied: VecDeque::new(),
                engine_waits: false,
                installing: None,
                fetches: vec![],
                fetch_waits: false,
                told: (0, membership::FIRST.1),
            };
            world.peers.insert(id, peer);
            world.start(id, Run { nonce: 5, longest_promise_ns: 0, now_ns: 1000 * MS });
        }
        world
    }

    /// What happened since the last call.
    pub fn take_lines(&mut self) -> Vec<String> {
        std::mem::take(&mut self.lines)
    }

    pub fn say(&mut self, line: impl Into<String>) {
        self.lines.push(line.into());
    }

    pub fn now_ns(&self) -> u64 {
        self.now_ms * MS
    }

    pub fn ids(&self) -> Vec<u64> {
        self.peers.keys().copied().collect()
    }

    /// A running peer's group.
    pub fn group(&mut self, id: u64) -> &mut Group {
        self.peer(id).group.as_mut().unwrap_or_else(|| panic!("peer {id} is stopped"))
    }

    fn peer(&mut self, id: u64) -> &mut Peer {
        self.peers.get_mut(&id).unwrap_or_else(|| panic!("there is no peer {id}"))
    }

    /// Starts a peer from what its log and engine hold.
    fn start(&mut self, id: u64, run: Run) {
        let member = |id: u64| {
            let role = self.settings.roles.get(id as usize - 1).copied().unwrap_or(PeerRole::Voter);
            Member { id, store_id: id, role: role as i32, ..Member::default() }
        };
        let peers = (1..=self.settings.peers).map(member).collect();
        let region = Region { id: 7, peers, ..Region::default() };
        let cache_bytes_max = self.settings.cache_bytes_max;
        let peer = self.peer(id);
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for entry in peer.log.entries.values() {
            if runs.last().is_none_or(|(_, term)| *term != entry.term) {
                runs.push((entry.index, entry.term));
            }
        }
        let view = LogView::new(Start {
            hard_state: peer.log.hard_state.clone(),
            conf_state: membership::conf_state(&region),
            truncated: peer.log.truncated,
            runs,
            last_index: peer.log.last(),
            unapplied: peer.log.read(peer.applied.0 + 1, u64::MAX),
            applied: peer.applied,
            state: Bytes::from_static(b"state"),
            cache_bytes_max,
        });
        peer.group = Some(Group::new(GroupId(7), id, peer.options.clone(), view, run).unwrap());
    }

    /// Starts a peer again: what was not durable is gone, and its engine may be back at an earlier index.
    pub fn restart(&mut self, id: u64, nonce: u64, longest_promise_ms: u64, applied: Option<u64>) {
        let now_ns = self.now_ns();
        let peer = self.peer(id);
        peer.unwritten.clear();
        peer.unapplied.clear();
        peer.fetches.clear();
        peer.installing = None;
        if let Some(index) = applied {
            peer.applied = (index, peer.log.term_of(index));
        }
        peer.told = (0, peer.log.hard_state.term);
        self.start(id, Run { nonce, longest_promise_ns: longest_promise_ms * MS, now_ns });
    }

    /// The log of a peer loses entries and all that came after them.
    pub fn lose(&mut self, id: u64, from: u64) {
        let lost = self.peer(id).log.entries.split_off(&from);
        let last = lost.last_key_value().map_or(from, |(index, _)| *index);
        self.say(format!("{id} loses entries {}", text::span(from, last)));
    }

    /// A peer forgets entries up to an index, in its log and in memory.
    pub fn compact(&mut self, id: u64, index: u64) {
        let term = self.group(id).log_mut().truncate_to(index);
        let log = &mut self.peer(id).log;
        log.entries = log.entries.split_off(&(index + 1));
        log.truncated = (index, term);
    }

    /// Time passes without ticks.
    pub fn wait(&mut self, ms: u64) {
        self.now_ms += ms;
    }

    /// Ticks of some peers at this moment.
    pub fn tick(&mut self, ids: &[u64]) {
        let now_ns = self.now_ns();
        for id in ids {
            if let Some(group) = &mut self.peer(*id).group {
                group.tick(now_ns);
            }
            self.work(*id);
        }
    }

    /// From now on log writes, the engine or reads of old entries of a peer wait, or go on.
    pub fn slow(&mut self, id: u64, what: &str, waits: bool) {
        let peer = self.peer(id);
        match what {
            "log" => peer.log_waits = waits,
            "engine" => peer.engine_waits = waits,
            "fetch" => peer.fetch_waits = waits,
            other => panic!("'{other}' does not wait"),
        }
        self.work(id);
    }

    /// Does what a peer's group wants done, as far as its log and engine let it.
    pub fn work(&mut self, id: u64) {
        let now_ns = self.now_ns();
        loop {
            let peer = self.peer(id);
            if peer.group.is_none() {
                return;
            }
            if !peer.engine_waits
                && let Some(output) = peer.installing.take()
            {
                self.owe(id, output);
            }
            self.finish(id);
            let peer = self.peer(id);
            if peer.installing.is_some() {
                break;
            }
            let Some(mut output) = peer.group.as_mut().and_then(|group| group.take(now_ns)) else { break };
            let engine_waits = peer.engine_waits;
            self.send(std::mem::take(&mut output.messages));
            if let Some(snapshot) = output.snapshot.as_ref().filter(|_| engine_waits) {
                let metadata = snapshot.get_metadata();
                self.say(format!("{id} begins to install snapshot {}@{}", metadata.index, metadata.term));
                self.peer(id).installing = Some(output);
            } else {
                self.owe(id, output);
            }
        }
        let group = self.group(id);
        let now = (group.leader(), group.term());
        if std::mem::replace(&mut self.peer(id).told, now) != now {
            let (leader, term) = now;
            self.say(match leader {
                0 => format!("{id} knows no leader in term {term}"),
                leader if leader == id => format!("{id} leads in term {term}"),
                leader => format!("{id} follows {leader} in term {term}"),
            });
        }
    }

    /// Gathers what an output wants written, applied and answered.
    fn owe(&mut self, id: u64, mut output: Output) {
        if let Some(snapshot) = &output.snapshot {
            let metadata = snapshot.get_metadata();
            let place = (metadata.index, metadata.term);
            self.say(format!("{id} installs snapshot {}@{}", place.0, place.1));
            self.peer(id).applied = place;
        }
        for (verb, reads) in [("serves", &output.reads), ("loses", &output.reads_lost)] {
            for read in reads {
                self.say(format!("{id} {verb} read {read}"));
            }
        }
        for fetch in &output.fetches {
            self.say(format!("{id} fetches entries {}", text::span(fetch.low, fetch.high - 1)));
        }
        let peer = self.peer(id);
        peer.fetches.append(&mut output.fetches);
        peer.unapplied.extend(std::mem::take(&mut output.committed));
        if output.number != 0 {
            peer.unwritten.push_back(output);
        }
    }

    /// Applies, writes and fetches what may be.
    fn finish(&mut self, id: u64) {
        while !self.peer(id).engine_waits
            && let Some(entry) = self.peer(id).unapplied.pop_front()
        {
            self.say(format!("{id} applies {}", text::entry(&entry)));
            self.peer(id).applied = (entry.index, entry.term);
            self.group(id).applied(entry.index, entry.term);
        }
        while !self.peer(id).log_waits
            && let Some(output) = self.peer(id).unwritten.pop_front()
        {
            self.write(id, output);
        }
        while !self.peer(id).fetch_waits && !self.peer(id).fetches.is_empty() {
            let peer = self.peer(id);
            let fetch = peer.fetches.remove(0);
            let entries = peer.log.read(fetch.low, fetch.high);
            self.group(id).fetched(fetch.context, entries);
        }
    }

    /// Makes an output durable, then does what had to wait for it.
    fn write(&mut self, id: u64, output: Output) {
        let log = &mut self.peer(id).log;
        let snapshot = output.snapshot.as_ref().map(|snapshot| {
            let metadata = snapshot.get_metadata();
            (metadata.index, metadata.term)
        });
        if let Some(place) = snapshot {
            log.entries.clear();
            log.truncated = place;
        }
        if let Some(first) = output.entries.first() {
            log.entries.split_off(&first.index);
            log.entries.extend(output.entries.iter().map(|entry| (entry.index, entry.clone())));
        }
        if let Some(state) = &output.hard_state {
            log.hard_state = state.clone();
        }
        if let Some(record) = text::record(output.hard_state.as_ref(), &output.entries) {
            self.say(format!("{id} writes {record}"));
        }
        self.send(output.messages_after_persist);
        let group = self.group(id);
        group.persisted(output.number);
        if let Some((index, term)) = snapshot {
            group.applied(index, term);
        }
    }

    fn send(&mut self, mut messages: Vec<Message>) {
        messages.sort_by_key(|message| message.to);
        for message in messages {
            self.say(text::message(&message));
            self.wire.push(message);
        }
    }

    /// A peer's heartbeats, as the messages that they stand for.
    pub fn beat(&mut self, id: u64) {
        let beats = self.group(id).beats();
        self.send(beats.iter().map(Beat::heartbeat).collect());
    }

    /// Puts a message on the wire that no peer has sent.
    pub fn forge(&mut self, message: Message) {
        self.send(vec![message]);
    }

    /// Messages that match stay on the wire unless a command names them.
    pub fn hold(&mut self, filter: Filter) {
        self.held.push(filter);
    }

    /// Nothing is held any more.
    pub fn release(&mut self) {
        self.held.clear();
    }

    fn take_from_wire(&mut self, filter: &Filter, also_held: bool) -> Vec<Message> {
        let mut left = filter.first;
        let held = &self.held;
        let take = |message: &mut Message| {
            let free = also_held || !held.iter().any(|held| held.matches(message));
            let taken = left > 0 && free && filter.matches(message);
            left -= u64::from(taken);
            taken
        };
        self.wire.extract_if(.., take).collect()
    }

    /// Drops what matches.
    pub fn discard(&mut self, filter: &Filter) {
        for message in self.take_from_wire(filter, true) {
            self.say(format!("dropped: {}", text::message(&message)));
        }
    }

    /// Delivers what matches and is on the wire now; whether there was any.
    pub fn deliver(&mut self, filter: &Filter, also_held: bool) -> bool {
        let messages = self.take_from_wire(filter, also_held);
        let any = !messages.is_empty();
        for message in messages {
            let now_ns = self.now_ns();
            let (to, election_ns) = (message.to, self.peer(message.from).options.election_ns());
            let Some(group) = &mut self.peer(to).group else { continue };
            if let Err(error) = group.step(message, election_ns, now_ns) {
                self.say(format!("{to} stops: {error}"));
                self.peer(to).group = None;
            }
            self.work(to);
        }
        any
    }

    /// Whether a peer runs.
    pub fn runs(&self, id: u64) -> bool {
        self.peers[&id].group.is_some()
    }

    /// What is on the wire.
    pub fn show_wire(&mut self) {
        let lines: Vec<String> = self.wire.iter().map(text::message).collect();
        self.lines.extend(lines);
    }
}
