//! Goal: a group elects, commits, reads, transfers and catches up by snapshot, with nothing but inputs and outputs.
//! Method: three groups in memory; messages are carried by hand, every output is done at once, in the order the room asks for.

use std::collections::BTreeMap;

use ::raft::eraftpb::{HardState, Message, MessageType};
use bytes::Bytes;

use super::log_view::{LogView, Start};
use super::{Group, Options, Run, membership};
use crate::types::region::Peer;
use crate::types::{GroupId, Region};

const TICK: u64 = 100_000_000;

struct Node {
    group: Group,
    applied: Vec<Bytes>,
    reads: Vec<u64>,
    lost: Vec<u64>,
}

struct Net {
    nodes: BTreeMap<u64, Node>,
    cut: Vec<u64>,
    now: u64,
    ticks: u64,
    wire: Vec<Message>,
}

fn options() -> Options {
    Options {
        tick_ns: TICK,
        election_ticks: 10,
        heartbeat_ticks: 2,
        append_bytes_max: 1 << 20,
        appends_inflight_max: 64,
        apply_bytes_max: 1 << 20,
    }
}

fn run(now_ns: u64) -> Run {
    Run { nonce: 5, longest_promise_ns: 0, now_ns }
}

/// A log without entries in a group of three.
fn view(hard_state: HardState) -> LogView {
    let peers = (1..=3).map(|id| Peer { id, store_id: id, ..Peer::default() }).collect();
    let region = Region { id: 7, peers, ..Region::default() };
    LogView::new(Start {
        hard_state,
        conf_state: membership::conf_state(&region),
        truncated: membership::FIRST,
        runs: vec![],
        last_index: membership::FIRST.0,
        unapplied: vec![],
        applied: membership::FIRST,
        state: Bytes::from_static(b"state"),
        cache_bytes_max: 1 << 20,
    })
}

impl Net {
    fn new() -> Net {
        let nodes = (1..=3)
            .map(|id| {
                let view = view(membership::first_hard_state());
                let group = Group::new(GroupId(7), id, options(), view, run(1)).unwrap();
                (id, Node { group, applied: vec![], reads: vec![], lost: vec![] })
            })
            .collect();
        Net { nodes, cut: vec![], now: TICK, ticks: 0, wire: vec![] }
    }

    /// Does all outputs and delivers all messages until nothing moves.
    fn settle(&mut self) {
        loop {
            let mut moved = false;
            for node in self.nodes.values_mut() {
                while let Some(output) = node.group.take(self.now) {
                    moved = true;
                    self.wire.extend(output.messages);
                    self.wire.extend(output.messages_after_persist);
                    if output.number != 0 {
                        node.group.persisted(output.number);
                    }
                    if let Some(snapshot) = output.snapshot {
                        let meta = snapshot.get_metadata();
                        node.applied = vec![snapshot.data.clone()];
                        node.group.applied(meta.index, meta.term);
                    }
                    let last = output.committed.last().map(|e| (e.index, e.term));
                    node.applied.extend(output.committed.into_iter().map(|e| e.data).filter(|d| !d.is_empty()));
                    if let Some((index, term)) = last {
                        node.group.applied(index, term);
                    }
                    node.reads.extend(output.reads);
                    node.lost.extend(output.reads_lost);
                    assert!(output.fetches.is_empty());
                }
            }
            for message in std::mem::take(&mut self.wire) {
                if !self.cut.contains(&message.from) && !self.cut.contains(&message.to) {
                    moved = true;
                    let to = self.nodes.get_mut(&message.to).unwrap();
                    to.group.step(message, TICK * 10, self.now).unwrap();
                }
            }
            if !moved {
                return;
            }
        }
    }

    fn tick(&mut self, ticks: usize) {
        for _ in 0..ticks {
            self.now += TICK;
            self.ticks += 1;
            for node in self.nodes.values_mut() {
                node.group.tick(self.now);
                if self.ticks.is_multiple_of(2) {
                    node.group.heartbeat();
                }
            }
            self.settle();
        }
    }

    fn group(&mut self, id: u64) -> &mut Group {
        &mut self.nodes.get_mut(&id).unwrap().group
    }
}

#[test]
fn elects_commits_and_reads() {
    let mut net = Net::new();
    net.group(1).campaign();
    net.settle();
    assert!(net.group(1).ready() && !net.group(2).leads());
    let now = net.now;
    net.group(1).propose(Bytes::from_static(b"x"), now).unwrap();
    assert!(net.group(2).propose(Bytes::from_static(b"y"), now).is_err());
    net.settle();
    assert_eq!(net.nodes[&1].applied, [Bytes::from_static(b"x")]);
    assert_eq!(net.group(1).lease_until(), now + TICK * 10 / 1000 * 800);
    net.tick(2);
    assert_eq!(net.nodes[&3].applied, [Bytes::from_static(b"x")], "a heartbeat carries the commit");
    net.group(1).read(99);
    net.settle();
    assert_eq!(net.nodes[&1].reads, [99]);
}

#[test]
fn a_cut_off_leader_serves_no_read_and_a_new_one_rises() {
    let mut net = Net::new();
    net.group(1).campaign();
    net.settle();
    net.cut = vec![1];
    net.group(1).read(5);
    // Both may campaign at once and try again, a few times.
    let mut patience = 0..100;
    while patience.next().is_some() && !(net.group(2).ready() || net.group(3).ready()) {
        net.tick(10);
    }
    assert!(net.nodes[&1].reads.is_empty(), "never, although somebody else may lead by now");
    assert_eq!([2, 3].into_iter().filter(|id| net.group(*id).ready()).count(), 1);
    // The old leader looks for its quorum once an election timeout, and its first look still sees the votes: it steps down at the
    // second, which may be after the new one has risen.
    net.tick(20);
    assert!(!net.group(1).leads(), "check quorum");
    assert!(net.nodes[&1].reads.is_empty() && net.nodes[&1].lost == [5]);
}

#[test]
fn a_voter_that_hears_its_leader_votes_for_nobody() {
    let mut net = Net::new();
    net.group(1).campaign();
    net.settle();
    let term = net.group(1).term();
    // Peer 3 campaigns although the leader is well: neither 1 nor 2 may answer.
    net.group(3).campaign();
    net.settle();
    assert_eq!((net.group(1).term(), net.group(2).term()), (term, term));
    assert!(net.group(1).leads());
}

#[test]
fn a_voter_that_hears_its_leader_does_not_campaign_either() {
    let mut net = Net::new();
    net.group(1).campaign();
    net.settle();
    net.tick(2);
    let heard = net.now;
    let mut asked = |now: u64| {
        // Ticks that were held up: many at one instant.
        (0..40).for_each(|_| net.group(2).tick(now));
        let sent = std::iter::from_fn(|| net.group(2).take(now)).flat_map(|output| output.messages_after_persist);
        sent.filter(|message| message.get_msg_type() == MessageType::MsgRequestPreVote).count()
    };
    assert_eq!(asked(heard + TICK * 10 - 1), 0);
    assert_ne!(asked(heard + TICK * 10), 0);
}

#[test]
fn only_who_never_heard_a_leader_promises_nothing() {
    // A leader's term is durable before the first entry is.
    for (term, binds) in [(membership::FIRST.1, false), (membership::FIRST.1 + 1, true)] {
        let mut state = membership::first_hard_state();
        state.term = term;
        let mut voter = Group::new(GroupId(7), 2, options(), view(state), run(TICK)).unwrap();
        let mut request = Message::default();
        request.set_msg_type(MessageType::MsgRequestVote);
        (request.from, request.to, request.term) = (3, 2, term + 1);
        (request.index, request.log_term) = (membership::FIRST.0, membership::FIRST.1);
        voter.step(request, TICK * 10, TICK + 1).unwrap();
        assert_eq!(voter.vote() == 0, binds, "term {term}");
    }
}

#[test]
fn what_no_peer_sends_is_dropped() {
    use MessageType::*;
    let mut net = Net::new();
    net.group(1).campaign();
    net.settle();
    let (now, term) = (net.now, net.group(1).term());
    for (kind, from, to) in [(MsgTransferLeader, 2, 1), (MsgReadIndexResp, 1, 2), (MsgHup, 3, 3)] {
        let mut message = Message::default();
        message.set_msg_type(kind);
        (message.from, message.to, message.term, message.commit) = (from, to, term, 1000);
        net.group(to).step(message, TICK * 10, now).unwrap();
        net.settle();
    }
    assert!(net.group(1).leads() && net.group(1).term() == term);
}

#[test]
fn a_transfer_ends_the_lease_at_once() {
    let mut net = Net::new();
    net.group(1).campaign();
    net.settle();
    let now = net.now;
    net.group(1).propose(Bytes::from_static(b"x"), now).unwrap();
    net.settle();
    assert!(net.group(1).lease_until() > now);
    net.group(1).transfer_leader(2, now).unwrap();
    assert!(!net.group(1).accepts() && net.group(1).propose(Bytes::from_static(b"y"), now).is_err());
    assert_eq!(net.group(1).lease_until(), 0);
    net.settle();
    assert!(net.group(2).ready() && !net.group(1).leads());
}

#[test]
fn a_transfer_to_a_dead_peer_is_refused_and_one_that_fails_is_given_up() {
    let mut net = Net::new();
    net.group(1).campaign();
    net.settle();
    net.tick(4);
    let now = net.now;
    assert_eq!(net.group(1).successors(now), [2, 3]);
    // It dies before the leader can know: proposals go on after half an election timeout, not after a whole one.
    net.cut = vec![3];
    net.group(1).transfer_leader(3, now).unwrap();
    net.tick(4);
    assert!(!net.group(1).accepts());
    net.tick(2);
    let now = net.now;
    assert!(net.group(1).accepts() && net.group(1).propose(Bytes::from_static(b"x"), now).is_ok());
    // Now it is known to be silent.
    let why = net.group(1).transfer_leader(3, now).expect_err("nobody would take over").to_string();
    assert!(why.contains("silent for") && net.group(1).accepts(), "{why}");
    assert_eq!(net.group(1).successors(now), [2]);
    let unreachable = net.group(1).transfer_leader(9, now).expect_err("nobody is there").to_string();
    assert!(unreachable.contains("not a voter"), "{unreachable}");
}

#[test]
fn behind_the_truncated_log_comes_a_snapshot() {
    let mut net = Net::new();
    net.group(1).campaign();
    net.settle();
    net.cut = vec![3];
    for _ in 0..20 {
        let now = net.now;
        net.group(1).propose(Bytes::from_static(b"x"), now).unwrap();
        net.settle();
    }
    let applied = net.group(1).log().applied().0;
    net.group(1).log_mut().truncate_to(applied);
    net.cut.clear();
    net.tick(10);
    assert_eq!(net.group(3).log().applied().0, applied);
    assert_eq!(net.nodes[&3].applied, [Bytes::from_static(b"state")]);
    assert_eq!(net.group(3).log().truncated().0, applied);
}

#[test]
fn the_recovered_commit_is_at_least_what_is_applied() {
    let view = LogView::new(Start {
        hard_state: HardState::default(),
        conf_state: Default::default(),
        truncated: (9, 3),
        runs: vec![],
        last_index: 9,
        unapplied: vec![],
        applied: (9, 3),
        state: Bytes::new(),
        cache_bytes_max: 0,
    });
    let state = ::raft::Storage::initial_state(&view).unwrap();
    assert_eq!(state.hard_state.commit, 9);
}

#[test]
fn a_log_that_lost_what_it_acknowledged_is_told_by_its_leader() {
    let mut net = Net::new();
    net.group(1).campaign();
    net.settle();
    let (now, term, last) = (net.now, net.group(1).term(), net.group(2).log().last());
    let heartbeat = |term, commit| {
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgHeartbeat);
        (message.from, message.to, message.term, message.commit) = (1, 2, term, commit);
        message
    };
    assert!(net.group(2).step(heartbeat(term, last), TICK * 10, now).is_ok());
    let why = net.group(2).step(heartbeat(term, last + 1), TICK * 10, now).unwrap_err().to_string();
    assert!(why.contains("lost what it had acknowledged"), "{why}");
    assert!(net.group(2).step(heartbeat(term + 5, last + 1), TICK * 10, now).is_err(), "of a leader unheard of, too");
    assert!(net.group(2).step(heartbeat(term - 1, last + 1), TICK * 10, now).is_ok(), "an old leader's means nothing");
}
