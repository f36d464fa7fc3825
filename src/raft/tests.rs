//! Goal: a group elects, commits, reads, transfers leadership and catches up by snapshot, driven only by inputs and
//! outputs. Method: golden scripts (`scripts/*.txt`) over peers in memory. A script sees every message, log record and
//! applied entry.
//!
//! ```text
//!   peers N [election.2=20] [append_bytes=N] [cache_bytes=N] [roles=voter,incoming,demoting,learner,none]
//!                                starts N peers that never ran, at 1000 ms; 10 ticks of 100 ms are an election
//!                                timeout, 2 ticks a heartbeat interval; without roles, all peers are voters
//!   campaign P                   peer P tries to become leader now
//!   propose P TEXT... [bytes=N] [admin=1]  proposes entries, all in one round; pads shorter ones to N bytes;
//!                                with admin=1 they change the group itself (shown as `\x03`)
//!   members P roles=...          P proposes that the members have these roles
//!   read P ID...                 requests linearizable reads, all in one round
//!   transfer P Q                 P transfers leadership to Q
//!   tick P,Q|all N [beat=1]      N times: 100 ms pass and these peers tick; with beat=1
//!                                they send heartbeats every second time
//!   late P N                     N ticks at the same moment, as if they had been delayed
//!   beat P                       P sends heartbeats, if it is leader
//!   hear A->B [term=N] [commit=N]     B receives a heartbeat of A as numbers, and answers it
//!                                or turns it into a message on the wire
//!   hear-answer A->B [term=N] [commit=N]   the same for a response
//!   wait MS                      time passes without ticks
//!   rest P [absent=Q]            asks the other peers (but Q) whether they may sleep, if P is at rest
//!   wake P [heard=MS]            P wakes; its leader's store was heard last at this time
//!
//!   deliver [A->B] [KIND] [first=N]   delivers the messages that are on the wire now; messages
//!                                sent in response go on the wire
//!   settle                       delivers until only held messages are on the wire
//!   hold [A->B] [KIND]           keeps such messages on the wire until a command names them
//!   release                      ends all holds
//!   drop [A->B] [KIND] [first=N] drops messages that are on the wire now
//!   wire                         shows the messages on the wire
//!   forge KIND A->B term=N [index=N] [log_term=N] [commit=N] [round=N nonce=N]
//!                                a message that no peer has sent; a read's round belongs to B's run with that nonce
//!
//!   slow P log|engine|fetch      log writes, applying, or reads of older entries are delayed from now on
//!   fast P log|engine|fetch      ... and are completed
//!   sent P Q INDEX yes|no        P learns whether its snapshot was delivered to Q
//!   lost P Q                     P learns that messages to Q are being lost
//!   compact P INDEX              P's log truncates entries up to INDEX
//!   lose P INDEX                 P's disk loses the log's entries from INDEX on
//!   restart P [nonce=N] [promise=MS] [applied=INDEX]
//!                                from its durable state; the engine may be back at an earlier index
//!
//!   state [P]                    role, term, commit, applied, last, lease
//!   successors P                 the peers to which P could transfer leadership
//!   quietly COMMAND              runs a command without showing its effects
//! ```
//!
//! `*` stands for any peer in `A->B`. Timeouts are random, so a script makes a peer campaign by command. A voter that
//! has campaigned itself no longer has a leader, and only its promise keeps it from voting.

mod text;
mod world;

use std::collections::BTreeMap;

use ::raft::eraftpb::{HardState, Message, MessageType};
use bytes::Bytes;

use super::Beat;
use super::frame::Kind;
use super::log_view::{LogView, Start};
use super::read::Reads;
use crate::golden::{self, Args};
use crate::proto::metapb::PeerRole;
use world::{Filter, Settings, TICK_MS, World};

/// Parses `A->B`, a kind and `first=N`, in any order, from the plain word `at` on.
fn filter(args: &Args<'_>, at: usize) -> Filter {
    let mut filter = Filter { from: None, to: None, kind: None, first: args.number_or("first", u64::MAX) };
    for word in &args.plain[at..] {
        match word.split_once("->") {
            Some((from, to)) => {
                let peer = |word: &str| (word != "*").then(|| word.parse().expect("a peer's id"));
                (filter.from, filter.to) = (peer(from), peer(to));
            }
            None => filter.kind = Some((*word).to_owned()),
        }
    }
    filter
}

/// Parses the peers' roles; `none` for a peer that is no member.
fn roles(args: &Args<'_>) -> Vec<Option<PeerRole>> {
    let roles = args.text_or("roles", "").split(',').filter(|role| !role.is_empty());
    roles
        .map(|role| match role {
            "voter" => Some(PeerRole::Voter),
            "incoming" => Some(PeerRole::IncomingVoter),
            "demoting" => Some(PeerRole::DemotingVoter),
            "learner" => Some(PeerRole::Learner),
            "none" => None,
            other => panic!("unknown role {other}"),
        })
        .collect()
}

fn begin(args: &Args<'_>) -> World {
    let election = args.named.iter().filter_map(|(name, ticks)| {
        let peer = name.strip_prefix("election.")?;
        Some((peer.parse().expect("a peer's id"), ticks.parse().expect("ticks")))
    });
    World::new(Settings {
        peers: args.number(0),
        roles: roles(args),
        election_ticks: election.collect(),
        append_bytes_max: args.number_or("append_bytes", 1 << 20),
        cache_bytes_max: args.number_or("cache_bytes", 1 << 20) as usize,
    })
}

fn forged(args: &Args<'_>) -> Message {
    let kinds: BTreeMap<String, MessageType> = [
        MessageType::MsgHup,
        MessageType::MsgHeartbeat,
        MessageType::MsgHeartbeatResponse,
        MessageType::MsgReadIndexResp,
        MessageType::MsgRequestVote,
        MessageType::MsgTransferLeader,
        MessageType::MsgTimeoutNow,
    ]
    .into_iter()
    .map(|kind| (format!("{kind:?}"), kind))
    .collect();
    let Filter { from, to, .. } = filter(args, 1);
    let mut message = Message::default();
    message.set_msg_type(kinds[args.word(0)]);
    (message.from, message.to) = (from.expect("a sender"), to.expect("a receiver"));
    (message.term, message.commit) = (args.number_or("term", 0), args.number_or("commit", 0));
    (message.index, message.log_term) = (args.number_or("index", 0), args.number_or("log_term", 0));
    if args.named.contains_key("round") {
        let reads = Reads::new(message.to, args.number_or("nonce", 5));
        message.context = reads.encode(args.number_or("round", 0)).into();
    }
    message
}

/// Describes a peer's state in one line.
fn state(world: &mut World, id: u64) -> String {
    if !world.runs(id) {
        return format!("{id} is stopped");
    }
    let group = world.group(id);
    let role = match (group.leads(), group.ready()) {
        (true, true) => "ready leader".to_owned(),
        (true, false) => "leader".to_owned(),
        (false, _) => format!("follower of {}", group.leader()),
    };
    let (term, commit, applied, last) = (group.term(), group.committed(), group.log().applied().0, group.log().last());
    let lease = match group.lease_until() {
        0 => "none".to_owned(),
        until_ns => format!("until {} ms", until_ns / 1_000_000),
    };
    let taking = if group.leads() && !group.accepts() { ", takes no proposals" } else { "" };
    format!("{id} {role} term {term} commit {commit} applied {applied} last {last} lease {lease}{taking}")
}

/// Runs a `tick` command.
fn tick(world: &mut World, args: &Args<'_>) {
    let ids = match args.word(0) {
        "all" => world.ids(),
        listed => listed.split(',').map(|id| id.parse().expect("a peer's id")).collect(),
    };
    let ids: Vec<u64> = ids.into_iter().filter(|id| world.runs(*id)).collect();
    for tick in 1..=args.number(1) {
        world.wait(TICK_MS);
        world.tick(&ids);
        if args.number_or("beat", 0) == 1 && tick.is_multiple_of(2) {
            for id in &ids {
                world.beat(*id);
                world.work(*id);
            }
        }
    }
}

/// Runs a command that goes directly to a peer's group.
fn order(world: &mut World, command: &str, args: &Args<'_>) {
    let (id, now_ns) = (args.number(0), world.now_ns());
    let group = world.group(id);
    let refused = match command {
        "campaign" => {
            group.campaign();
            None
        }
        "propose" => {
            let bytes = args.number_or("bytes", 0) as usize;
            args.plain[1..].iter().find_map(|text| {
                let mut data = text.as_bytes().to_vec();
                if args.number_or("admin", 0) != 0 {
                    data.insert(0, Kind::Admin as u8);
                }
                data.resize(data.len().max(bytes), b'.');
                group.propose(Bytes::from(data), now_ns).err()
            })
        }
        "read" => {
            (1..args.plain.len()).for_each(|at| group.read(args.number(at)));
            None
        }
        "beat" => {
            world.beat(id);
            None
        }
        "transfer" => group.transfer_leader(args.number(1), now_ns).err(),
        "sent" => {
            group.snapshot_sent(args.number(1), args.number(2), args.word(3) == "yes");
            None
        }
        "lost" => {
            group.unreachable(args.number(1));
            group.lost(args.number(1));
            None
        }
        other => panic!("unknown command {other}"),
    };
    if let Some(error) = refused {
        world.say(format!("{id} refuses: {error}"));
    }
    world.work(id);
}

/// Runs a `rest` command: shows which peers consent to sleep.
fn rest(world: &mut World, args: &Args<'_>) {
    let (id, now_ns, absent) = (args.number(0), world.now_ns(), args.number_or("absent", 0));
    if !world.group(id).is_at_rest(&[absent]) {
        world.say(format!("{id} is not at rest"));
        return;
    }
    let mut consented = Vec::new();
    for ask in world.group(id).ask_to_sleep().into_iter().filter(|ask| ask.to != absent) {
        let consent = world.group(ask.to).agree_to_sleep(&ask, 10 * TICK_MS * 1_000_000, now_ns);
        let counts = consent.is_some_and(|consent| world.group(id).hear_consent(&consent, now_ns));
        world.say(format!("{} {}", ask.to, if counts { "consents" } else { "does not consent" }));
        consented.extend(counts.then_some(ask.to));
    }
    if !world.group(id).is_quorum(consented.into_iter()) {
        world.say("they are no quorum");
    }
}

/// Runs a `hear` or `hear-answer` command: shows the effect of a heartbeat or response sent as numbers.
fn hear(world: &mut World, command: &str, args: &Args<'_>) {
    let Filter { from, to, .. } = filter(args, 0);
    let (from, to) = (from.expect("a sender"), to.expect("a receiver"));
    let beat = Beat { from, to, term: args.number_or("term", 6), commit: args.number_or("commit", 0) };
    let (now_ns, election_ns) = (world.now_ns(), 10 * TICK_MS * 1_000_000);
    let group = world.group(to);
    let said = if command == "hear" {
        let answer = group.hear(&beat, election_ns, now_ns);
        answer.map(|Beat { from, to, term, commit }| format!("{from} answers {to}: term {term} commit {commit}"))
    } else {
        group.hear_answer(&beat, now_ns).then(|| format!("{to} has heard {from}"))
    };
    match said {
        Some(said) => world.say(said),
        None if command == "hear" => world.forge(beat.heartbeat()),
        None => world.forge(beat.answer()),
    }
}

fn run(world: &mut World, line: &str) {
    let (command, args) = Args::parse(line);
    match command {
        "peers" => *world = begin(&args),
        "tick" => tick(world, &args),
        "late" => (0..args.number(1)).for_each(|_| world.tick(&[args.number(0)])),
        "wait" => world.wait(args.number(0)),
        "deliver" => {
            let all = args.plain.is_empty();
            world.deliver(&filter(&args, 0), !all);
        }
        "settle" => while world.deliver(&filter(&args, 0), false) {},
        "hold" => world.hold(filter(&args, 0)),
        "release" => world.release(),
        "drop" => world.discard(&filter(&args, 0)),
        "wire" => world.show_wire(),
        "forge" => world.forge(forged(&args)),
        "rest" => rest(world, &args),
        "wake" => {
            let (heard_ms, now_ns) = (args.number_or("heard", 0), world.now_ns());
            let heard = (heard_ms != 0).then_some((10 * TICK_MS * 1_000_000, heard_ms * 1_000_000));
            world.group(args.number(0)).wake(heard, now_ns);
        }
        "hear" | "hear-answer" => hear(world, command, &args),
        "slow" | "fast" => world.slow(args.number(0), args.word(1), command == "slow"),
        "compact" => world.compact(args.number(0), args.number(1)),
        "lose" => world.lose(args.number(0), args.number(1)),
        "restart" => {
            let applied = args.number_or("applied", 0);
            let (nonce, promise_ms) = (args.number_or("nonce", 6), args.number_or("promise", 0));
            world.restart(args.number(0), nonce, promise_ms, (applied != 0).then_some(applied));
        }
        "state" => {
            let ids = if args.plain.is_empty() { world.ids() } else { vec![args.number(0)] };
            for id in ids {
                let line = state(world, id);
                world.say(line);
            }
        }
        "members" => {
            let refused = world.propose_members(args.number(0), &roles(&args));
            if let Some(error) = refused {
                world.say(format!("{} refuses: {error}", args.number(0)));
            }
            world.work(args.number(0));
        }
        "successors" => {
            let now_ns = world.now_ns();
            let fit = world.group(args.number(0)).successors(now_ns);
            world.say(format!("{fit:?}"));
        }
        _ => order(world, command, &args),
    }
}

#[test]
fn scripts_hold() {
    golden::check_all("src/raft/scripts", super::MUTANTS, || {
        let mut world = begin(&Args::parse("peers 3").1);
        move |line| {
            let (command, quiet) = line.strip_prefix("quietly ").map_or((line, false), |rest| (rest, true));
            run(&mut world, command);
            let lines = world.take_lines();
            if quiet { String::new() } else { lines.join("\n") }
        }
    });
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
