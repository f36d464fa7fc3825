//! Goal: the parts of one group on a store, besides consensus, do what they promise: which caller gets which answer,
//! which messages are accepted, how group states are read from the engine, how snapshots are installed, and which
//! effects reach the store.
//! Method: golden scripts (`scripts/*.txt`) over one peer of region 7: peer 8 on store 1, beside peer 9 on store 2 and
//! peer 10 on store 3. The output of every command ends with the answers that callers received.
//!
//! ```text
//!   queue ID [term=N] [kind=plain|reads|admin] [bytes=N]   queues a caller's command (term: in which it was decided)
//!   gone ID                      that caller gives up
//!   pack TERM [bytes=N] [index=N]    packs the queue into entries of that term, from that index (at first: 6) on
//!   settle INDEX TERM [replies=N]    an entry is applied, with this number of replies
//!   tick leads=0|1 now=MS        checks for lost leadership; the limit is 1000 ms
//!   end                          the store stops
//!   pending                      writes that hold a slot, and their bytes
//!   read ID                      a linearizable read of a caller
//!   reads served=N,... lost=N,...    raft's answers to reads, by their numbers
//!
//!   meant STORE A->B [conf_ver=N]    whether a message of that store, from peer A to B, is meant for this peer
//!   members [conf_ver=N] P@S ... the descriptor's members (at first: 8@1 9@2 10@3, conf_ver 1)
//!
//!   put GROUP PEER [installed=N] [applied=INDEX@TERM]      writes a group's state to the engine
//!   applied GROUP INDEX@TERM     writes the applied index, in a batch of its own
//!   promise MS                   writes the longest promise
//!   damage KEY [HEX]             sets a key of the engine to this value, or deletes it (`a7`: kind and group)
//!   groups                       reads the states from the engine
//!
//!   install begin|run|end|idle [pairs=N]     the steps of installing a snapshot
//!
//!   commit GROUP FIRST LAST [reads=N,...]    commits entries; those with these indexes read a key `kN` that is on disk
//!   apply                        applies what may be applied, and shows which groups wait from which entry on
//!   warm                         begins the warm-ups that may begin
//!   warmed GROUP NUMBER          one has ended
//!   stalled                      the engine stalled writes meanwhile
//!   put-back GROUP INDEX         the entry is not applied after all
//!   forget GROUP                 the group's whole state is replaced
//!   unapplied                    the bytes that wait
//!
//!   tell GROUP wrote|replaced [times=N]      sends an effect
//!   hear [times=N]               what the store receives from the channel; equal effects in a row are counted
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use raft::eraftpb::Entry;

use super::driver::backlog::{Backlog, WarmUp};
use super::effects::{Effects, StoreEffect};
use super::group_state::{self, GroupState};
use super::message::Waiting;
use super::peer::{Install, Packed, Peer, Proposal, Queued};
use super::view::{PeerView, StoreBudgets};
use crate::engine::{Cf, KvEngine, SimEngine, SimStorage, WriteBatch};
use crate::golden::{self, Args};
use crate::raft::frame::{Command, Kind};
use crate::raft::log_view::{self, LogView};
use crate::raft::machine::Effect;
use crate::raft::output::Output;
use crate::raft::{Group, Options, Run, membership};
use crate::region::RegionMachine;
use crate::rt::sync::{mpsc, oneshot};
use crate::types::region::{Peer as Member, RegionEpoch};
use crate::types::{Error, GroupId, Region, Result};

/// A caller that waits for an answer.
enum Caller {
    Write(oneshot::Receiver<Result<Bytes>>),
    Read(oneshot::Receiver<Result<()>>),
}

/// One peer, and its surroundings.
struct World {
    peer: Peer,
    callers: BTreeMap<String, Caller>,
    /// The index of the next entry.
    index: u64,
    engine: SimEngine,
    /// The data that arrives is a number of pairs.
    install: Install<u64>,
    backlog: Backlog,
    /// Group and index of the entries that read a key.
    reading: BTreeSet<(u64, u64)>,
    effects: Effects,
    received: mpsc::Receiver<StoreEffect>,
}

fn region_of(members: &[&str], conf_ver: u64) -> Region {
    let member = |word: &&str| {
        let (id, store) = word.split_once('@').expect("peer@store");
        Member { id: id.parse().unwrap(), store_id: store.parse().unwrap(), ..Member::default() }
    };
    let peers = members.iter().map(member).collect();
    Region { id: 7, peers, region_epoch: Some(RegionEpoch { conf_ver, version: 1 }), ..Region::default() }
}

fn peer_of(region: &Region) -> Peer {
    let options = Options {
        tick_ns: 100_000_000,
        election_ticks: 10,
        heartbeat_ticks: 2,
        append_bytes_max: 1 << 20,
        appends_inflight_max: 64,
        apply_bytes_max: 1 << 20,
        lease_reads: true,
    };
    let view = LogView::new(log_view::Start {
        hard_state: membership::first_hard_state(),
        conf_state: membership::conf_state(region),
        truncated: membership::FIRST,
        runs: vec![],
        last_index: membership::FIRST.0,
        unapplied: vec![],
        applied: membership::FIRST,
        state: Bytes::new(),
        cache_bytes_max: 1 << 20,
    });
    let run = Run { nonce: 5, longest_promise_ns: 0, now_ns: 1 };
    let group = Group::new(GroupId(7), 8, options, view, run).unwrap();
    let view = PeerView::new(1, 8, region.clone(), Default::default(), &StoreBudgets::default());
    Peer::new(group, Arc::new(view), Box::new(RegionMachine::new(region.clone())), membership::FIRST.0)
}

fn place(word: &str) -> (u64, u64) {
    let (index, term) = word.split_once('@').expect("index@term");
    (index.parse().unwrap(), term.parse().unwrap())
}

fn numbers(list: &str) -> Vec<u64> {
    list.split(',').filter(|word| !word.is_empty()).map(|word| word.parse().expect("a number")).collect()
}

/// Returns an entry with 36 bytes of data.
fn entry(index: u64) -> Entry {
    Entry { index, data: Bytes::from_static(&[b'.'; 36]), ..Entry::default() }
}

/// Returns the key of [`Cf::Meta`] for a script's word: the kind's letter, and the group if there is one.
fn meta_key(word: &str) -> Bytes {
    let (kind, group) = word.split_at(1);
    let mut key = BytesMut::from(kind);
    if !group.is_empty() {
        key.put_u64(group.parse().expect("a group's id"));
    }
    key.freeze()
}

fn hex(word: &str) -> Vec<u8> {
    let digits: Vec<u32> = word.chars().map(|digit| digit.to_digit(16).expect("a hexadecimal digit")).collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}

impl World {
    fn new() -> World {
        let (effects, received) = Effects::new();
        World {
            peer: peer_of(&region_of(&["8@1", "9@2", "10@3"], 1)),
            callers: BTreeMap::new(),
            index: membership::FIRST.0 + 1,
            engine: SimEngine::open(&SimStorage::new()).unwrap(),
            install: Install::default(),
            backlog: Backlog::default(),
            reading: BTreeSet::new(),
            effects,
            received,
        }
    }

    fn queue(&mut self, args: &Args<'_>) {
        let id = args.word(0);
        let mut bytes = id.as_bytes().to_vec();
        bytes.resize(bytes.len().max(args.number_or("bytes", 0) as usize), b'.');
        let kind = match args.text_or("kind", "plain") {
            "plain" => Kind::Plain,
            "reads" => Kind::Reads,
            "admin" => Kind::Admin,
            other => panic!("unknown kind {other}"),
        };
        let (reply, answer) = Waiting::new(&self.peer.view, bytes.len()).unwrap();
        let command = Command { kind, bytes: bytes.into() };
        self.peer.proposals.queue(Queued { term: args.number_or("term", 0), command, reply });
        self.callers.insert(id.to_owned(), Caller::Write(answer));
    }

    fn pack(&mut self, args: &Args<'_>) -> String {
        let (term, bytes_max) = (args.number(0), args.number_or("bytes", 1 << 20) as usize);
        self.index = args.number_or("index", self.index);
        let mut out = String::new();
        while let Some(Packed { commands, replies }) = self.peer.proposals.pack(term, bytes_max) {
            assert_eq!(commands.len(), replies.len());
            let name = |command: &Command| String::from_utf8_lossy(&command.bytes).trim_end_matches('.').to_owned();
            let names: Vec<String> = commands.iter().map(name).collect();
            out += &format!("entry {} of term {term}: {}\n", self.index, names.join(" "));
            self.peer.proposals.await_entry(Proposal { index: self.index, term, replies });
            self.index += 1;
        }
        out
    }

    fn read(&mut self, id: &str) {
        let (reply, answer) = oneshot::channel();
        let slot = self.peer.view.take_read_slot().unwrap();
        self.peer.read(reply, slot);
        self.callers.insert(id.to_owned(), Caller::Read(answer));
    }

    /// Returns the answers that callers have received. They no longer wait.
    fn answers(&mut self) -> String {
        let mut out = String::new();
        self.callers.retain(|id, caller| {
            let answer = match caller {
                Caller::Write(answer) => {
                    answer.try_recv().map(|result| result.map(|reply| format!("ok {}", reply.escape_ascii())))
                }
                Caller::Read(answer) => answer.try_recv().map(|result| result.map(|()| "read now".to_owned())),
            };
            let heard = match answer {
                Ok(Ok(heard)) => heard,
                Ok(Err(error)) => format!("error: {error}"),
                Err(oneshot::error::TryRecvError::Closed) => "nothing, ever".to_owned(),
                Err(oneshot::error::TryRecvError::Empty) => return true,
            };
            out += &format!("{id} hears {heard}\n");
            false
        });
        out
    }

    fn meant(&self, args: &Args<'_>) -> String {
        let (from, to) = args.word(1).split_once("->").expect("A->B");
        let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
        let epoch = RegionEpoch { conf_ver: args.number_or("conf_ver", 1), version: 1 };
        (if self.peer.is_meant(args.number(0), epoch, from, to) { "yes" } else { "no" }).to_owned()
    }

    fn engine(&mut self, verb: &str, args: &Args<'_>) {
        let mut batch = WriteBatch::new();
        match verb {
            "put" => {
                let state = GroupState {
                    region: Region {
                        id: args.number(0),
                        peers: vec![Member { id: args.number(1), store_id: 1, ..Member::default() }],
                        ..Region::default()
                    },
                    peer: args.number(1),
                    installed: args.number_or("installed", 0),
                    applied: place(args.text_or("applied", "5@5")),
                    newcomer: args.number_or("newcomer", 0) != 0,
                    ..GroupState::default()
                };
                state.put(&mut batch);
            }
            "applied" => group_state::put_applied(&mut batch, GroupId(args.number(0)), place(args.word(1))),
            "promise" => group_state::put_longest_promise(&mut batch, args.number(0) * 1_000_000),
            _ => match args.plain.get(1) {
                Some(value) => batch.put(Cf::Meta, meta_key(args.word(0)), hex(value)),
                None => batch.delete(Cf::Meta, meta_key(args.word(0))),
            },
        }
        self.engine.write(&batch).unwrap();
    }

    fn groups(&self) -> String {
        let text = |state: GroupState| {
            let GroupState { region, peer, installed, applied: (index, term), newcomer, .. } = state;
            let newcomer = if newcomer { " newcomer" } else { "" };
            format!("group {}: peer {peer} applied {index}@{term} installed {installed}{newcomer}\n", region.id)
        };
        let groups = match group_state::stored(&self.engine) {
            Ok(states) => states.into_iter().map(text).collect(),
            Err(error) => format!("error: {error}\n"),
        };
        let promise = match group_state::longest_promise_ns(&self.engine) {
            Ok(promise_ns) => format!("longest promise {} ms", promise_ns / 1_000_000),
            Err(error) => format!("error: {error}"),
        };
        groups + &promise
    }

    fn install(&mut self, args: &Args<'_>) -> String {
        match args.word(0) {
            "begin" => {
                self.install.begin(args.number_or("pairs", 1));
                String::new()
            }
            "run" => match self.install.run(Output { number: args.number_or("output", 1), ..Output::default() }) {
                Some(pairs) => format!("the engine gets {pairs} pairs"),
                None => "there is no data".into(),
            },
            "end" => match self.install.end() {
                Some(output) => format!("output {} goes on", output.number),
                None => "nothing waited".into(),
            },
            _ => self.install.is_idle().to_string(),
        }
    }

    fn commit(&mut self, args: &Args<'_>) {
        let group = args.number(0);
        self.reading.extend(numbers(args.text_or("reads", "")).into_iter().map(|index| (group, index)));
        for index in args.number(1)..=args.number(2) {
            self.backlog.push(GroupId(group), entry(index));
        }
    }

    fn apply(&mut self) -> String {
        let mut out = String::new();
        while let Some((group, entry)) = self.backlog.pop() {
            if self.reading.contains(&(group.0, entry.index)) && !self.backlog.is_warm(group, entry.index) {
                out += &format!("group {group} waits at {}\n", entry.index);
                self.backlog.hold(group, entry, 0);
            } else {
                out += &format!("group {group} applies {}\n", entry.index);
            }
        }
        out
    }

    fn warm(&mut self) -> String {
        let mut out = String::new();
        let reading = &self.reading;
        let reads = |group: GroupId, entry: &Entry| {
            let reads = reading.contains(&(group.0, entry.index));
            reads.then(|| (Cf::RawDefault, format!("k{}", entry.index).into())).into_iter().collect()
        };
        while let Some(WarmUp { group, number, keys }) = self.backlog.begin(reads) {
            let keys: Vec<String> = keys.iter().map(|(_, key)| key.escape_ascii().to_string()).collect();
            out += &format!("group {group} reads {} (number {number})\n", keys.join(" "));
        }
        out
    }

    fn hear(&mut self, times: u64) -> String {
        let mut heard: Vec<(StoreEffect, u64)> = Vec::new();
        for _ in 0..times {
            match (self.received.try_recv(), heard.last_mut()) {
                (Ok(effect), Some((last, count))) if *last == effect => *count += 1,
                (Ok(effect), _) => heard.push((effect, 1)),
                (Err(_), _) => break,
            }
        }
        if heard.is_empty() {
            return "nothing".into();
        }
        heard.into_iter().map(|(effect, count)| format!("{effect:?} x {count}\n")).collect()
    }

    fn run(&mut self, line: &str) -> String {
        let (verb, args) = Args::parse(line);
        let mut out = String::new();
        match verb {
            "queue" => self.queue(&args),
            "gone" => drop(self.callers.remove(args.word(0))),
            "pack" => out = self.pack(&args),
            "settle" => {
                let replies = (1..=args.number_or("replies", 1)).map(|reply| format!("reply {reply}").into()).collect();
                self.peer.settle(args.number(0), args.number(1), replies);
            }
            "tick" => {
                let (leads, now_ns) = (args.number_or("leads", 0) == 1, args.number_or("now", 0) * 1_000_000);
                let lost = || Error::Unknown("leadership was lost while the write was in flight".into());
                self.peer.proposals.fail_lost(leads, now_ns, 1_000_000_000, lost);
            }
            "end" => self.peer.end(|| Error::Unknown("the store stopped".into())),
            "pending" => {
                let (count, bytes) = self.peer.view.pending();
                out = format!("{count} writes, {bytes} bytes; {} reads", self.peer.view.reads_waiting());
            }
            "read" => self.read(args.word(0)),
            "reads" => {
                let (served, lost) = (numbers(args.text_or("served", "")), numbers(args.text_or("lost", "")));
                self.peer.answer_reads(&served, &lost);
            }
            "meant" => out = self.meant(&args),
            "members" => self.peer = peer_of(&region_of(&args.plain, args.number_or("conf_ver", 1))),
            "put" | "applied" | "promise" | "damage" => self.engine(verb, &args),
            "groups" => out = self.groups(),
            "install" => out = self.install(&args),
            "tell" => {
                let group = GroupId(args.number(0));
                let effect = match args.word(1) {
                    "wrote" => StoreEffect::Applied(group, Effect::WroteExpiring),
                    _ => StoreEffect::Replaced(group),
                };
                (0..args.number_or("times", 1)).for_each(|_| self.effects.send(effect));
            }
            "commit" => self.commit(&args),
            "apply" => out = self.apply(),
            "warm" => out = self.warm(),
            "warmed" => {
                let waited = self.backlog.end(GroupId(args.number(0)), args.number(1));
                out = (if waited { "the group goes on\n" } else { "no group waits for it\n" }).to_owned();
            }
            "stalled" => self.backlog.cool_down(),
            "put-back" => self.backlog.put_back(GroupId(args.number(0)), entry(args.number(1))),
            "forget" => self.backlog.forget(GroupId(args.number(0))),
            "unapplied" => out = format!("{} bytes", self.backlog.bytes()),
            "hear" => out = self.hear(args.number_or("times", 1)),
            other => panic!("unknown command {other}"),
        }
        out + &self.answers()
    }
}

#[test]
fn scripts_hold() {
    golden::check_all("src/replica/scripts", super::MUTANTS, || {
        let mut world = World::new();
        move |line| world.run(line)
    });
}
