//! Peers of one group in memory. Each has a log and an engine that consists only of an applied index; the network
//! between them is a list of messages that stay until they are delivered or dropped.

use std::collections::{BTreeMap, VecDeque};

use ::raft::eraftpb::{Entry, EntryType, HardState, Message};
use bytes::Bytes;
use prost::Message as _;

use super::text;
use crate::proto::metapb::PeerRole;
use crate::raft::frame::Kind;
use crate::raft::log_view::{LogView, Start};
use crate::raft::output::{Fetch, Output};
use crate::raft::{Beat, Group, Options, Run, membership};
use crate::types::region::Peer as Member;
use crate::types::{Error, GroupId, Region};

/// Returns the descriptor in which the peers have these roles.
fn region_of(peers: u64, roles: &[Option<PeerRole>]) -> Region {
    let member = |id: u64| {
        let role = roles.get(id as usize - 1).copied().unwrap_or(Some(PeerRole::Voter))?;
        Some(Member { id, store_id: id, role: role as i32, ..Member::default() })
    };
    Region { id: 7, peers: (1..=peers).filter_map(member).collect(), ..Region::default() }
}

/// Duration of a tick of the script's clock.
pub const TICK_MS: u64 = 100;
const MS: u64 = 1_000_000;

/// The durable contents of a peer's log.
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

/// One peer and the contents of its store.
pub struct Peer {
    /// `None` if the peer is stopped.
    group: Option<Group>,
    options: Options,
    log: Log,
    applied: (u64, u64),
    /// The applied descriptor.
    region: Region,
    /// Outputs whose log write is not complete yet, in order.
    unwritten: VecDeque<Output>,
    log_waits: bool,
    /// Committed entries that the engine does not hold yet.
    unapplied: VecDeque<Entry>,
    engine_waits: bool,
    /// An output with a snapshot that the engine does not hold yet; until it does, no output is taken from the group.
    installing: Option<Output>,
    fetches: Vec<Fetch>,
    fetch_waits: bool,
    /// Leader and term that were last shown.
    told: (u64, u64),
}

/// Selects messages on the wire.
#[derive(Debug)]
pub struct Filter {
    /// From this peer.
    pub from: Option<u64>,
    /// To this peer.
    pub to: Option<u64>,
    /// Of this kind.
    pub kind: Option<String>,
    /// The maximum number of messages to select.
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

/// The initial settings of a world.
pub struct Settings {
    /// Number of peers; their IDs count from 1.
    pub peers: u64,
    /// The peers' roles; peers without one are voters. `None` for a peer that is no member.
    pub roles: Vec<Option<PeerRole>>,
    /// Election timeouts in ticks, for peers whose timeout is not 10.
    pub election_ticks: BTreeMap<u64, usize>,
    /// Maximum bytes of entries in an append.
    pub append_bytes_max: u64,
    /// Maximum bytes of applied entries kept in memory.
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
    /// Creates a world of peers that never ran, at 1000 ms.
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
                region: region_of(world.settings.peers, &world.settings.roles),
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

    /// Returns the lines written since the last call.
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

    /// Returns a running peer's group.
    pub fn group(&mut self, id: u64) -> &mut Group {
        self.peer(id).group.as_mut().unwrap_or_else(|| panic!("peer {id} is stopped"))
    }

    fn peer(&mut self, id: u64) -> &mut Peer {
        self.peers.get_mut(&id).unwrap_or_else(|| panic!("there is no peer {id}"))
    }

    /// Starts a peer from its log and engine.
    fn start(&mut self, id: u64, run: Run) {
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
            conf_state: membership::conf_state(&peer.region),
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

    /// Restarts a peer: everything that was not durable is lost, and its engine may be back at an earlier index.
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

    /// Removes entries from `from` on from a peer's log, as if its disk had lost them.
    pub fn lose(&mut self, id: u64, from: u64) {
        let lost = self.peer(id).log.entries.split_off(&from);
        let last = lost.last_key_value().map_or(from, |(index, _)| *index);
        self.say(format!("{id} loses entries {}", text::span(from, last)));
    }

    /// Truncates a peer's log up to an index, on disk and in memory.
    pub fn compact(&mut self, id: u64, index: u64) {
        let term = self.group(id).log_mut().truncate_to(index);
        let log = &mut self.peer(id).log;
        log.entries = log.entries.split_off(&(index + 1));
        log.truncated = (index, term);
    }

    /// Advances time without ticks.
    pub fn wait(&mut self, ms: u64) {
        self.now_ms += ms;
    }

    /// Ticks some peers at the current time.
    pub fn tick(&mut self, ids: &[u64]) {
        let now_ns = self.now_ns();
        for id in ids {
            if let Some(group) = &mut self.peer(*id).group {
                group.tick(now_ns);
            }
            self.work(*id);
        }
    }

    /// Delays a peer's log writes, engine or reads of old entries from now on, or completes them.
    pub fn slow(&mut self, id: u64, what: &str, waits: bool) {
        let peer = self.peer(id);
        match what {
            "log" => peer.log_waits = waits,
            "engine" => peer.engine_waits = waits,
            "fetch" => peer.fetch_waits = waits,
            other => panic!("'{other}' cannot be delayed"),
        }
        self.work(id);
    }

    /// Does the work that a peer's group requests, as far as its log and engine allow.
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

    /// Queues an output's writes and committed entries, and shows its reads.
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

    /// Applies, writes and fetches whatever is not delayed.
    fn finish(&mut self, id: u64) {
        while !self.peer(id).engine_waits
            && let Some(entry) = self.peer(id).unapplied.pop_front()
        {
            self.say(format!("{id} applies {}", text::entry(&entry)));
            self.peer(id).applied = (entry.index, entry.term);
            if entry.get_entry_type() == EntryType::EntryConfChangeV2 {
                let to = Region::decode(&entry.context[1..]).expect("a script's descriptor");
                let from = std::mem::replace(&mut self.peer(id).region, to.clone());
                self.group(id).members_changed(&from, &to);
            }
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

    /// Makes an output durable, then sends the messages that waited for it.
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

    /// Proposes that the members have these roles. Returns the refusal, if the group refuses.
    pub fn propose_members(&mut self, id: u64, roles: &[Option<PeerRole>]) -> Option<Error> {
        let (now_ns, peers) = (self.now_ns(), self.settings.peers);
        let (from, to) = (self.peer(id).region.clone(), region_of(peers, roles));
        let mut payload = vec![Kind::Members as u8];
        payload.extend(to.encode_to_vec());
        self.group(id).propose_members(payload.into(), &from, &to, now_ns).err()
    }

    fn send(&mut self, mut messages: Vec<Message>) {
        messages.sort_by_key(|message| message.to);
        for message in messages {
            self.say(text::message(&message));
            self.wire.push(message);
        }
    }

    /// Sends a peer's heartbeats, as the messages that they stand for.
    pub fn beat(&mut self, id: u64) {
        let beats = self.group(id).beats();
        self.send(beats.iter().map(Beat::heartbeat).collect());
    }

    /// Puts a message on the wire that no peer has sent.
    pub fn forge(&mut self, message: Message) {
        self.send(vec![message]);
    }

    /// Keeps matching messages on the wire until a command names them.
    pub fn hold(&mut self, filter: Filter) {
        self.held.push(filter);
    }

    /// Ends all holds.
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

    /// Drops matching messages.
    pub fn discard(&mut self, filter: &Filter) {
        for message in self.take_from_wire(filter, true) {
            self.say(format!("dropped: {}", text::message(&message)));
        }
    }

    /// Delivers matching messages that are on the wire now; returns whether there were any.
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

    /// Returns whether a peer is running.
    pub fn runs(&self, id: u64) -> bool {
        self.peers[&id].group.is_some()
    }

    /// Shows the messages on the wire.
    pub fn show_wire(&mut self) {
        let lines: Vec<String> = self.wire.iter().map(text::message).collect();
        self.lines.extend(lines);
    }
}
