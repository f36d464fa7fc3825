//! Goal: every command of a region takes effect or reports why it was refused, in the same way on every replica.
//! Method: golden scripts (`scripts/*.txt`) over two replicas on simulated engines, which must agree on every step.
//!
//! ```text
//!   region START END [version=N] [conf_ver=N] [joint=1]  replaces the descriptor (initially: region 7, [a, m), 1 and
//!                                1), with peers 8 and 9 on stores 1 and 2; `joint`: peer 9 is being added
//!   header [version=N] [conf_ver=N] [term=N]     sets the next commands' header (initially: 1, 0 and 0; 0: any)
//!   term N                                       sets the term in which they are applied (initially: 6)
//!   cf N                                         sets their column family's number (initially: 2, raw_default)
//!
//!   write CHANGE, CHANGE, ...    put KEY VALUE [expires=S] | delete KEY | range START END
//!   swap KEY OLD NEW [now=S] [expires=S]         compare-and-swap; `none` is no value
//!   collect KEY ... now=S        deletes the keys whose values have expired
//!   reads COMMAND                shows the keys that a command reads, without applying it
//!   split KEY=ID:PEER:PEER, ...  splits the region; each new region with its ID and those of its peers
//!   prepare ID START END [version=N] [conf_ver=N]   freezes the region for this neighbour on the same stores
//!   seal N | rollback N [proved=1]               of the merge that was prepared at index N (scripts begin at 11)
//!   commit ID START END [version=N] [lists=ID]   takes over this neighbour, which lists a region that it took over
//!   refuse | forget ID                           decides against merges | forgets a region that was taken over
//!   merges                       shows what merges have made of the region
//!   unknown                      applies a command with an operation of a later version
//!   bytes HEX                    applies a command with these bytes
//!
//!   stored KEY VALUE [expires=S] writes a value into the engines, bypassing the state machine
//!   damaged KEY HEX              writes bytes that are not an encoded value into the engines
//!   scan                         shows the engines' contents
//!   page START END now=S         shows what a look for expired values finds
//!   ranges                       shows the ranges that a snapshot of the region contains
//! ```
//!
//! `-` is the empty key, or no bytes. A command prints its changes, its reply, and its effect on the store.

use bytes::Bytes;
use prost::Message as _;

use super::{RegionMachine, command, ttl};
use crate::codec::raw;
use crate::engine::{Cf, KvEngine, Op as Put, Read, SimEngine, SimStorage, Visit, WriteBatch};
use crate::golden::{self, Args};
use crate::proto::armilla::raft::region_command::Op;
use crate::proto::armilla::raft::{
    Absorbed, Change, Collect, CommandHeader, CommitMerge, CompareAndSwap, ForgetAbsorbed, NewRegion, PrepareMerge,
    RefuseMerge, RollBackMerge, SealMerge, Split,
};
use crate::proto::metapb::PeerRole;
use crate::raft::frame::Command;
use crate::raft::machine::{ApplyContext, StateMachine};
use crate::types::region::{self, Peer, RegionEpoch};
use crate::types::{Error, Region};

/// Two replicas of a region, and the header of the next commands.
struct World {
    replicas: [(RegionMachine, SimEngine); 2],
    header: CommandHeader,
    term: u64,
    index: u64,
    cf: u32,
    /// Show what the next command reads instead of applying it.
    only_reads: bool,
}

fn key_of(word: &str) -> Bytes {
    if word == "-" { Bytes::new() } else { Bytes::copy_from_slice(word.as_bytes()) }
}

fn key_text(key: &[u8]) -> String {
    if key.is_empty() { "-".into() } else { key.escape_ascii().to_string() }
}

fn hex(word: &str) -> Vec<u8> {
    let digits: Vec<u32> = word.chars().map(|digit| digit.to_digit(16).expect("a hexadecimal digit")).collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}

fn value_text(stored: &[u8]) -> String {
    match raw::decode(stored) {
        Ok((len, None)) => stored[..len].escape_ascii().to_string(),
        Ok((len, Some(at))) => format!("{} expires={at}", stored[..len].escape_ascii()),
        Err(error) => format!("damaged: {error}"),
    }
}

fn region_of(args: &Args<'_>) -> Region {
    Region {
        id: 7,
        start_key: key_of(args.word(0)),
        end_key: key_of(args.word(1)),
        region_epoch: Some(RegionEpoch {
            conf_ver: args.number_or("conf_ver", 1),
            version: args.number_or("version", 1),
        }),
        peers: vec![peer(8, 1, PeerRole::Voter), {
            let moves = args.number_or("joint", 0) != 0;
            peer(9, 2, if moves { PeerRole::IncomingVoter } else { PeerRole::Voter })
        }],
        ..Region::default()
    }
}

/// Returns a neighbour of the region, on the same stores.
fn neighbour(args: &Args<'_>) -> Region {
    let id = args.number(0);
    Region {
        id,
        start_key: key_of(args.word(1)),
        end_key: key_of(args.word(2)),
        region_epoch: Some(RegionEpoch {
            conf_ver: args.number_or("conf_ver", 1),
            version: args.number_or("version", 1),
        }),
        peers: vec![peer(id * 10 + 1, 1, PeerRole::Voter), peer(id * 10 + 2, 2, PeerRole::Voter)],
        ..Region::default()
    }
}

fn peer(id: u64, store_id: u64, role: PeerRole) -> Peer {
    Peer { id, store_id, role: role as i32, ..Peer::default() }
}

fn expiry(args: &Args<'_>) -> Option<u64> {
    Some(args.number_or("expires", 0)).filter(|at| *at != 0)
}

fn optional(word: &str) -> Option<Bytes> {
    (word != "none").then(|| key_of(word))
}

fn put_text(op: &Put) -> String {
    match op {
        Put::Put(cf, key, value) => format!("{} put {} {}\n", cf.name(), key_text(key), value_text(value)),
        Put::Delete(cf, key) => format!("{} delete {}\n", cf.name(), key_text(key)),
        Put::DeleteRange(cf, start, end) => {
            format!("{} delete range [{}, {})\n", cf.name(), key_text(start), key_text(end))
        }
    }
}

fn descriptor(region: &Region) -> String {
    let epoch = region::epoch(region);
    let (start, end) = (key_text(&region.start_key), key_text(&region.end_key));
    format!("region {} [{start}, {end}) version {} conf_ver {}", region.id, epoch.version, epoch.conf_ver)
}

/// Returns a command's reply as the proposer decodes it.
fn reply_text(reply: Bytes) -> String {
    if let Ok(pieces) = command::pieces(reply.clone()) {
        return format!("split: {}", pieces.iter().map(descriptor).collect::<Vec<_>>().join("; "));
    }
    if let Ok(region) = command::changed(reply.clone()) {
        return format!("now {}", descriptor(&region));
    }
    match command::outcome(reply) {
        Ok(None) => "ok".into(),
        Ok(Some(cas)) => {
            let previous = cas.previous.map_or("none".into(), |value| value.escape_ascii().to_string());
            format!("{}, was {previous}", if cas.succeed { "swapped" } else { "not swapped" })
        }
        Err(Error::EpochNotMatch(current)) => format!("epoch does not match: {}", descriptor(&current[0])),
        Err(Error::KeyNotInRegion { key, region }) => format!("{} is outside {}", key_text(&key), descriptor(&region)),
        Err(error) => error.to_string(),
    }
}

impl World {
    fn new() -> World {
        let region = region_of(&Args::parse("region a m").1);
        let replica = || (RegionMachine::new(region.clone()), SimEngine::open(&SimStorage::new()).unwrap());
        let header = CommandHeader { version: 1, ..CommandHeader::default() };
        World {
            replicas: [replica(), replica()],
            header,
            term: 6,
            index: 10,
            cf: Cf::RawDefault as u32,
            only_reads: false,
        }
    }

    fn engine(&self) -> &SimEngine {
        &self.replicas[0].1
    }

    fn store(&mut self, key: Bytes, stored: Bytes) {
        let mut batch = WriteBatch::new();
        batch.put(Cf::from_number(self.cf).expect("a column family"), key, stored);
        for (_, engine) in &self.replicas {
            engine.write(&batch).unwrap();
        }
    }

    /// Applies a command on both replicas, or only shows the keys that it reads.
    fn apply(&mut self, command: &Command) -> String {
        if self.only_reads {
            let keys = self.replicas[0].0.reads(command).into_iter();
            let text: String = keys.map(|(cf, key)| format!("{} {}\n", cf.name(), key_text(&key))).collect();
            return if text.is_empty() { "nothing".into() } else { text };
        }
        self.index += 1;
        let context = ApplyContext { index: self.index, term: self.term };
        let mut outcomes = Vec::new();
        for (machine, engine) in &mut self.replicas {
            let mut batch = WriteBatch::new();
            let applied = machine.apply(context, command.clone(), engine, &mut batch).unwrap();
            engine.write(&batch).unwrap();
            outcomes.push((applied, batch));
        }
        assert_eq!(outcomes[0], outcomes[1], "replicas agree");
        let (applied, batch) = outcomes.swap_remove(0);
        let changes: String = batch.ops().iter().map(put_text).collect();
        let peer = |peer: &Peer| format!(" {}@{}", peer.id, peer.store_id);
        let peers = |region: &Region| region.peers.iter().map(peer).collect::<String>();
        let born = |region: &Region| format!("born: {}, peers{}\n", descriptor(region), peers(region));
        let changes = changes + &applied.born.iter().map(born).collect::<String>();
        let effect = applied.effect.map_or(String::new(), |effect| format!("\ntells the store: {effect:?}"));
        changes + &reply_text(applied.reply) + &effect
    }

    fn change(&self, text: &str) -> Change {
        let (verb, args) = Args::parse(text);
        let key = key_of(args.word(0));
        let mut change = match verb {
            "put" => command::put(Cf::RawDefault, key, raw::encode(args.word(1).as_bytes(), expiry(&args))),
            "delete" => command::delete(Cf::RawDefault, key),
            "range" => command::delete_range(Cf::RawDefault, key, key_of(args.word(1))),
            other => panic!("unknown change {other}"),
        };
        change.cf = self.cf;
        change
    }

    fn scan(&self) -> String {
        let mut out = String::new();
        for cf in Cf::ALL {
            let mut pair = |key: &[u8], stored: &[u8]| {
                out += &format!("{} {} {}\n", cf.name(), key_text(key), value_text(stored));
                Visit::More
            };
            self.engine().scan(cf, b"", b"", &mut pair).unwrap();
        }
        out
    }

    fn page(&self, args: &Args<'_>) -> String {
        let (start, end) = (key_of(args.word(0)), key_of(args.word(1)));
        let page = ttl::page(self.engine(), Cf::RawDefault, &start, &end, args.number_or("now", 0)).unwrap();
        let expired: Vec<String> = page.expired.iter().map(|key| key_text(key)).collect();
        let next = page.next.map_or("the end".into(), |key| key_text(&key));
        format!("expired: [{}], any expiry: {}, next look from {next}", expired.join(" "), page.timed)
    }

    fn run(&mut self, line: &str) -> String {
        let (verb, args) = Args::parse(line);
        match verb {
            "region" => {
                let region = region_of(&args);
                for (machine, engine) in &mut self.replicas {
                    machine.reload(&region, &Default::default(), engine).unwrap();
                }
                descriptor(self.replicas[0].0.region())
            }
            "header" => {
                let (version, conf_ver) = (args.number_or("version", 1), args.number_or("conf_ver", 0));
                self.header = CommandHeader { version, conf_ver, term: args.number_or("term", 0), oldest_ts: 0 };
                String::new()
            }
            "term" => {
                self.term = args.number(0);
                String::new()
            }
            "cf" => {
                self.cf = args.number(0) as u32;
                String::new()
            }
            "write" => {
                let rest = line.strip_prefix("write").expect("the command");
                let changes = rest.split(',').map(|text| self.change(text)).collect();
                self.apply(&command::encode(self.header, command::write(changes)))
            }
            "split" => {
                let rest = line.strip_prefix("split").expect("the command").trim();
                let mut split = Split::default();
                for (key, ids) in rest.split(", ").map(|piece| piece.split_once('=').unwrap_or((piece, ""))) {
                    split.keys.push(key_of(key));
                    let ids: Vec<u64> = ids.split(':').filter_map(|id| id.parse().ok()).collect();
                    if let [id, peer_ids @ ..] = &ids[..] {
                        split.regions.push(NewRegion { id: *id, peer_ids: peer_ids.to_vec() });
                    }
                }
                self.apply(&command::encode(self.header, Op::Split(split)))
            }
            "prepare" => {
                let target = Some(neighbour(&args));
                self.apply(&command::encode(self.header, Op::PrepareMerge(PrepareMerge { target })))
            }
            "seal" => self.apply(&command::encode(self.header, Op::SealMerge(SealMerge { prepared: args.number(0) }))),
            "rollback" => {
                let (prepared, is_proved) = (args.number(0), args.number_or("proved", 0) != 0);
                self.apply(&command::encode(self.header, Op::RollBackMerge(RollBackMerge { prepared, is_proved })))
            }
            "commit" => {
                let listed = Some(args.number_or("lists", 0)).filter(|id| *id != 0);
                let absorbed = |source_id| Absorbed { source_id, target_id: args.number(0), ..Absorbed::default() };
                let commit = CommitMerge {
                    source: Some(neighbour(&args)),
                    prepared: 20,
                    prepared_term: 6,
                    absorbed: listed.map(absorbed).into_iter().collect(),
                    marks: None,
                };
                let command = command::encode(self.header, Op::CommitMerge(commit));
                let absorbs = self.replicas[0].0.absorbs(self.term, &command).map(|absorbs| absorbs.source.0);
                let reply = self.apply(&command);
                format!("stops first: {absorbs:?}\n{reply}")
            }
            "refuse" => self.apply(&command::encode(self.header, Op::RefuseMerge(RefuseMerge {}))),
            "forget" => {
                let forget = ForgetAbsorbed { source_id: args.number(0) };
                self.apply(&command::encode(self.header, Op::ForgetAbsorbed(forget)))
            }
            "merges" => {
                let merges = self.replicas[0].0.merges();
                let merging = merges.merging.map_or("not merging".into(), |merging| {
                    let sealed = if merging.is_sealed { ", sealed" } else { "" };
                    format!(
                        "merging into {} since {}@{}{sealed}",
                        merging.target_id, merging.prepared, merging.prepared_term
                    )
                });
                let listed: Vec<String> =
                    merges.absorbed.iter().map(|one| format!("{} by {}", one.source_id, one.target_id)).collect();
                format!("{merging}; took over [{}]", listed.join(", "))
            }
            "swap" => {
                let stored = optional(args.word(2)).map(|value| raw::encode(&value, expiry(&args)));
                let op = Op::Cas(CompareAndSwap {
                    cf: self.cf,
                    key: key_of(args.word(0)),
                    expected: optional(args.word(1)),
                    stored,
                    now_s: args.number_or("now", 50),
                });
                self.apply(&command::encode(self.header, op))
            }
            "collect" => {
                let keys = args.plain.iter().map(|word| key_of(word)).collect();
                let op = Op::Collect(Collect { cf: self.cf, keys, now_s: args.number_or("now", 50) });
                self.apply(&command::encode(self.header, op))
            }
            "unknown" => {
                // The header, then field 99: an empty message.
                let header = self.header.encode_to_vec();
                let mut bytes = vec![0x0a, header.len() as u8];
                bytes.extend(header);
                bytes.extend([0x9a, 0x06, 0x00]);
                self.apply(&Command::plain(bytes))
            }
            "bytes" => {
                let bytes = if args.word(0) == "-" { vec![] } else { hex(args.word(0)) };
                self.apply(&Command::plain(bytes))
            }
            "stored" => {
                self.store(key_of(args.word(0)), raw::encode(args.word(1).as_bytes(), expiry(&args)));
                String::new()
            }
            "damaged" => {
                self.store(key_of(args.word(0)), hex(args.word(1)).into());
                String::new()
            }
            "reads" => {
                self.only_reads = true;
                let shown = self.run(line.strip_prefix("reads ").expect("a command"));
                self.only_reads = false;
                shown
            }
            "scan" => self.scan(),
            "page" => self.page(&args),
            "ranges" => {
                let (machine, _) = &self.replicas[0];
                let ranges = machine.ranges(machine.region()).into_iter();
                let text = |range: crate::raft::machine::CfRange| {
                    format!("{} [{}, {})\n", range.cf.name(), key_text(&range.start), key_text(&range.end))
                };
                ranges.map(text).collect()
            }
            other => panic!("unknown command {other}"),
        }
    }
}

#[test]
fn scripts_hold() {
    golden::check_all("src/region/scripts", super::MUTANTS, || {
        let mut world = World::new();
        move |line| world.run(line)
    });
}
