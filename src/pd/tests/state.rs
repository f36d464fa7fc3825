//! The replicated state, through the machine and an engine: after every command, loading the engine's content must give
//! exactly the state in memory.

use std::fmt::Write as _;

use prost::Message as _;

use super::{Args, founding, golden, key_of, key_text, region_text};
use crate::engine::{KvEngine, SimEngine, SimStorage, WriteBatch};
use crate::pd::PdMachine;
use crate::pd::bootstrap::{SENTINEL, first_regions};
use crate::pd::state::{self, PdState};
use crate::proto::armilla::pd::change_keyspace::Change;
use crate::proto::armilla::pd::pd_command::Op;
use crate::proto::armilla::pd::{
    AllocIds, Bootstrap, ChangeKeyspace, CreateKeyspace, PdCommand, PdReply, PutRegion, PutStore, ReplaceStore,
    SetKeyspaceConfig, SetKeyspaceState, SetStoreState, StoreInfo, StoreStarted,
};
use crate::proto::armilla::raft::Incarnation;
use crate::proto::keyspacepb::KeyspaceState;
use crate::proto::metapb::{Peer, RegionEpoch, StoreState};
use crate::raft::frame::Command;
use crate::raft::machine::{ApplyContext, StateMachine};
use crate::types::{GroupId, Region, region, version};

/// Parses `boot.nonce`.
fn earlier(run: &str) -> Incarnation {
    let (boot, nonce) = run.split_once('.').expect("boot.nonce");
    Incarnation { boot: boot.parse().unwrap(), nonce: nonce.parse().unwrap() }
}

struct World {
    machine: PdMachine,
    engine: SimEngine,
    index: u64,
    group: Region,
}

impl World {
    fn new() -> World {
        let mut machine = PdMachine::default();
        let engine = SimEngine::open(&SimStorage::new()).expect("an empty storage opens");
        let group = Region { id: GroupId::PD.0, ..Region::default() };
        machine.reload(&group, &Default::default(), &engine).expect("an empty engine loads");
        World { machine, engine, index: 0, group }
    }

    fn read<T>(&self, look: impl FnOnce(&PdState) -> T) -> T {
        look(&self.machine.shared().read().unwrap())
    }

    fn apply(&mut self, op: Op) -> String {
        let before = self.read(PdState::clone);
        self.index += 1;
        let context = ApplyContext { index: self.index, term: 1 };
        let command = Command::plain(PdCommand { op: Some(op) }.encode_to_vec());
        let mut batch = WriteBatch::new();
        let reply = self.machine.apply(context, command, &self.engine, &mut batch).expect("a command of this version");
        let reply = PdReply::decode(reply.reply).expect("a reply");
        self.engine.write(&batch).expect("the engine writes the batch");
        let after = self.read(PdState::clone);
        let mut other = PdMachine::default();
        other.reload(&self.group, &Default::default(), &self.engine).expect("the written state loads");
        assert_eq!(*other.shared().read().unwrap(), after, "the engine and memory hold the same state");
        if reply.refused.is_empty() {
            format!("{} ({} writes)", reply.value, batch.len())
        } else {
            assert!(batch.is_empty() && before == after, "a rejected command must not change anything");
            format!("refused: {}", reply.refused)
        }
    }

    fn show(&self) -> String {
        self.read(|state| {
            let mut out = format!(
                "bootstrapped={} next_id={} tso_bound_ms={} gc_safe_point={}\n",
                state.bootstrapped(),
                state.next_id(),
                state.tso_bound_ms(),
                state.gc_safe_point()
            );
            for record in state.stores() {
                let store = record.store.as_ref().unwrap();
                let labels: Vec<String> = store.labels.iter().map(|l| format!(" {}={}", l.key, l.value)).collect();
                let (id, name, uuid) = (store.id, &record.name, &record.uuid);
                let state = store.state().as_str_name();
                writeln!(out, "store {id} {name} {uuid} '{}' {state}{}", store.address, labels.concat()).unwrap();
            }
            for region in state.regions() {
                writeln!(out, "{}", region_text(region)).unwrap();
            }
            out
        })
    }

    fn run(&mut self, line: &str) -> String {
        let (command, args) = Args::parse(line);
        match command {
            "reset" => {
                *self = World::new();
                String::new()
            }
            "bootstrap" => match founding(&args) {
                Ok((_, mut bootstrap)) => {
                    for fault in &args.plain {
                        spoil(fault, &mut bootstrap);
                    }
                    self.apply(Op::Bootstrap(bootstrap))
                }
                Err(why) => format!("impossible: {why}"),
            },
            "put-store" => self.apply(Op::PutStore(PutStore {
                uuid: args.plain[0].into(),
                name: args.plain[1].into(),
                addr: args.plain.get(2).copied().unwrap_or_default().into(),
                info: args.plain.get(3).map(|version| StoreInfo { version: (*version).into(), ..StoreInfo::default() }),
            })),
            "tso-bound" => self.apply(Op::TsoBoundMs(args.number(0))),
            "gc" => self.apply(Op::GcSafePoint(args.number(0))),
            "cluster-version" => self.apply(Op::ClusterVersion(args.number(0) as u32)),
            "started" => self.apply(Op::StoreStarted(StoreStarted {
                store_id: args.number(0),
                incarnation: Some(Incarnation { boot: args.number(1), nonce: args.number(2) }),
                earlier: args.plain[3..].iter().map(|run| earlier(run)).collect(),
            })),
            "alloc" => self.apply(Op::AllocIds(AllocIds { count: args.number(0) as u32 })),
            "put-region" => {
                let (conf_ver, version) = args.text_or("epoch", "1/1").split_once('/').expect("conf_ver/version");
                let epoch = RegionEpoch { conf_ver: conf_ver.parse().unwrap(), version: version.parse().unwrap() };
                let peers = args.plain[3..].iter().map(|peer| {
                    let (id, store) = peer.split_once('@').expect("peer@store");
                    Peer { id: id.parse().unwrap(), store_id: store.parse().unwrap(), ..Peer::default() }
                });
                self.apply(Op::PutRegion(PutRegion {
                    region: Some(Region {
                        id: args.number(0),
                        start_key: key_of(args.plain[1]),
                        end_key: key_of(args.plain[2]),
                        region_epoch: Some(epoch),
                        peers: peers.collect(),
                        ..Region::default()
                    }),
                }))
            }
            "show" => self.show(),
            "of" => self.read(|state| state.region_of(&key_of(args.plain[0])).map_or("none".into(), region_text)),
            "before" => {
                self.read(|state| state.region_before(&key_of(args.plain[0])).map_or("none".into(), region_text))
            }
            "scan" => self.read(|state| {
                let found = state.scan(&key_of(args.plain[0]), &key_of(args.plain[1]), args.number(2) as usize);
                found.iter().map(|region| format!("{} from {}\n", region.id, key_text(&region.start_key))).collect()
            }),
            other => panic!("unknown command {other}"),
        }
    }
}

/// Plants a fault in a valid bootstrap command.
fn spoil(fault: &str, bootstrap: &mut Bootstrap) {
    let regions = &mut bootstrap.regions;
    match fault {
        "no-regions" => regions.clear(),
        "hole" => {
            regions.remove(1);
        }
        "overlap" => regions[1].start_key = key_of("0"),
        "no-beginning" => regions[0].start_key = key_of("0"),
        "no-end" => regions.last_mut().unwrap().end_key = key_of("~~~~~~~~~~~~~"),
        "id-twice" => regions[1].id = regions[0].id,
        "peer-id-twice" => regions[1].peers[0].id = regions[0].peers[0].id,
        "region-is-pd" => regions[0].id = GroupId::PD.0,
        "unknown-store" => regions[0].peers[0].store_id = 99,
        "two-on-a-store" => regions[0].peers[1].store_id = regions[0].peers[0].store_id,
        "no-peers" => regions[0].peers.clear(),
        "no-epoch" => regions[0].region_epoch = None,
        "next-id-low" => bootstrap.next_id -= 1,
        "uuid-twice" => bootstrap.uuids[1] = bootstrap.uuids[0].clone(),
        "addr-twice" => bootstrap.stores[1].address = bootstrap.stores[0].address.clone(),
        "no-names" => bootstrap.names.clear(),
        other => panic!("unknown fault {other}"),
    }
}

/// Goal: every rule of the replicated state holds. Method: golden script; each command is also checked against the
/// engine.
#[test]
fn state() {
    let mut world = World::new();
    golden::check("tests/scripts/pd/state.txt", |line| world.run(line));
}

/// Goal: a store's reported information is kept, and a command of a version without that information does not erase it.
/// Method: both commands in turn.
#[test]
fn what_runs_a_store_is_kept() {
    let (_, args) = Args::parse("bootstrap n1=a1 n2=a2 n3=a3");
    let mut world = World::new();
    world.apply(Op::Bootstrap(founding(&args).unwrap().1));
    let mut put = |addr: &str, info: Option<StoreInfo>| {
        world.apply(Op::PutStore(PutStore { uuid: "u-n1".into(), name: "n1".into(), addr: addr.into(), info }));
        world.read(|state| state.store(1).unwrap().clone())
    };
    let said =
        StoreInfo { version: "8.5.0".into(), git_hash: "g".into(), start_timestamp_s: 7, deploy_path: "/bin".into() };
    let record = put("a1", Some(said.clone()));
    let store = record.store.as_ref().unwrap();
    assert_eq!((store.version.as_str(), store.git_hash.as_str()), ("8.5.0", "g"));
    assert_eq!((store.start_timestamp, store.deploy_path.as_str()), (7, "/bin"));
    let moved = put("a9", None);
    assert_eq!(state::address(&moved), "a9");
    assert!(state::says(&moved, Some(&said)), "{moved:?}");
    assert!(!state::says(&moved, Some(&StoreInfo { start_timestamp_s: 8, ..said })));
    assert!(state::says(&moved, None), "a command without information changes nothing");
}

/// Goal: the region before a key's region must end where that one starts. Method: regions with a hole between them.
#[test]
fn a_region_before_a_hole_is_not_the_one_before() {
    let region = |id, start: &str, end: &str| Region {
        id,
        start_key: key_of(start),
        end_key: key_of(end),
        region_epoch: Some(RegionEpoch { conf_ver: 1, version: 1 }),
        ..Region::default()
    };
    let regions = vec![region(4, "-", "b"), region(5, "b", "d"), region(6, "f", "-")];
    let state = state::restore(10, regions).unwrap();
    let before = |key: &str| state.region_before(&key_of(key)).map(|region| region.id);
    assert_eq!((before("c"), before("g"), before("e"), before("a")), (Some(4), None, None, None));
}

/// Goal: a tombstone never comes back, and its address is free. Method: set the state as a later version's command
/// would.
#[test]
fn tombstones_stay() {
    let (_, args) = Args::parse("bootstrap n1=a1 n2=a2 n3=a3");
    let (_, mut bootstrap) = founding(&args).unwrap();
    bootstrap.stores[0].set_state(StoreState::Tombstone);
    let mut world = World::new();
    world.apply(Op::Bootstrap(bootstrap));
    let again =
        world.apply(Op::PutStore(PutStore { uuid: "u-n1".into(), name: "n1".into(), addr: "a9".into(), info: None }));
    assert!(again.starts_with("refused: store 1 is a tombstone"), "{again}");
    assert!(world.read(|state| state.store_by_addr("a9").is_none() && !state::is_up(state.store(1).unwrap())));
}

/// Goal: a store that is being removed can stay after all, one that was replaced or removed cannot. Method: states one
/// after the other.
#[test]
fn a_removal_is_taken_back() {
    let mut world = World::new();
    let (_, args) = Args::parse("bootstrap n1=a1 n2=a2 n3=a3");
    world.apply(Op::Bootstrap(founding(&args).unwrap().1));
    let mut set =
        |store_id, state: StoreState| world.apply(Op::SetStoreState(SetStoreState { store_id, state: state as i32 }));
    assert!(!set(1, StoreState::Offline).starts_with("refused") && !set(1, StoreState::Up).starts_with("refused"));
    assert!(set(1, StoreState::Tombstone).starts_with("refused: store 1 is Up"));
    world.apply(Op::ReplaceStore(ReplaceStore { lost: 2, by: 3 }));
    let back = world.apply(Op::SetStoreState(SetStoreState { store_id: 2, state: StoreState::Up as i32 }));
    assert!(back.starts_with("refused: store 2 is Offline"), "{back}");
    assert!(world.read(|state| state::is_up(state.store(1).unwrap()) && !state::is_up(state.store(2).unwrap())));
}

/// Goal: keyspaces have names and IDs of their own, and change as PD lets them. Method: changes one after the other.
#[test]
fn keyspaces_are_created_once_and_never_disappear() {
    let mut world = World::new();
    let change = |change| Op::ChangeKeyspace(ChangeKeyspace { now_s: 7, change: Some(change) });
    let create = |name: &str| {
        change(Change::Create(CreateKeyspace { name: name.into(), config: [("k".into(), "v".into())].into() }))
    };
    let set = |id, state: KeyspaceState| change(Change::SetState(SetKeyspaceState { id, state: state as i32 }));
    assert!(world.apply(create("early")).contains("not bootstrapped"));
    let (_, args) = Args::parse("bootstrap n1=a1 n2=a2 n3=a3");
    world.apply(Op::Bootstrap(founding(&args).unwrap().1));
    let first = world.read(|state| state.keyspace_named("DEFAULT").cloned()).unwrap();
    assert_eq!((first.id, first.state()), (0, KeyspaceState::Enabled));
    assert_eq!([world.apply(create("one")), world.apply(create("two"))], ["1 (1 writes)", "2 (1 writes)"]);
    for (name, why) in [("one", state::KEYSPACE_EXISTS), ("DEFAULT", "collides"), ("", "illegal"), ("a.b", "illegal")] {
        assert!(world.apply(create(name)).contains(why), "{name}");
    }
    let one = world.read(|state| state.keyspace(1).cloned()).unwrap();
    assert_eq!((one.created_at, one.config["k"].as_str()), (7, "v"));
    for state in [KeyspaceState::Archived, KeyspaceState::Tombstone] {
        assert!(world.apply(set(1, state)).contains("cannot change keyspace state from ENABLED"));
    }
    for state in [KeyspaceState::Disabled, KeyspaceState::Archived, KeyspaceState::Tombstone] {
        assert_eq!(world.apply(set(1, state)), "1 (1 writes)");
        assert_eq!(world.apply(set(1, state)), "1 (0 writes)", "it has this state already");
    }
    assert!(world.apply(set(1, KeyspaceState::Enabled)).contains("from TOMBSTONE"));
    assert!(world.apply(set(9, KeyspaceState::Disabled)).contains(state::NO_KEYSPACE));
    assert!(world.apply(set(0, KeyspaceState::Disabled)).contains("default keyspace"));
    assert!(world.apply(create("one")).contains(state::KEYSPACE_EXISTS), "a tombstone keeps its name");
    let configure = |id, set: &str, remove: &str| {
        let set = [(set.to_owned(), "w".to_owned())].into();
        change(Change::SetConfig(SetKeyspaceConfig { id, set, remove: vec![remove.into()] }))
    };
    assert_eq!(world.apply(configure(2, "l", "k")), "2 (1 writes)");
    assert_eq!(world.apply(configure(0, "l", "k")), "0 (1 writes)");
    assert!(world.apply(configure(1, "l", "k")).contains("TOMBSTONE"));
    let config = world.read(|state| state.keyspace(2).unwrap().config.clone());
    assert_eq!(config.into_iter().collect::<Vec<_>>(), [("l".to_owned(), "w".to_owned())]);
    // A member that does not know keyspaces does nothing, and continues.
    let mut old = PdMachine::new(crate::pd::empty(), version::KEYSPACES - 1);
    old.reload(&world.group, &Default::default(), &world.engine).unwrap();
    let command = Command::plain(PdCommand { op: Some(create("three")) }.encode_to_vec());
    let mut batch = WriteBatch::new();
    let applied = old.apply(ApplyContext { index: 99, term: 1 }, command, &world.engine, &mut batch).unwrap();
    assert!(PdReply::decode(applied.reply).unwrap().refused.contains("does not know") && batch.is_empty());
}

/// Goal: a command of a newer version is rejected without any effect, so that a member which does not know it
/// continues; invalid data in the engine stops the node. Method: one of each.
#[test]
fn unknown_commands_are_refused_and_a_damaged_engine_is_an_error() {
    let mut world = World::new();
    let context = ApplyContext { index: 7, term: 1 };
    // Invalid protobuf, an empty command, and a command with field 99.
    for (bad, why) in [(&b"\xff\xff\xff"[..], "decode"), (b"", "does not know"), (b"\x9a\x06\x00", "does not know")] {
        let before = world.read(PdState::clone);
        let mut batch = WriteBatch::new();
        let applied = world.machine.apply(context, Command::plain(bad.to_vec()), &world.engine, &mut batch).unwrap();
        let reply = PdReply::decode(applied.reply).unwrap();
        assert!(reply.refused.contains(why) && batch.is_empty(), "{bad:?}: {reply:?}");
        assert_eq!(world.read(PdState::clone), before);
    }
    for (key, value) in [(&b"\x02"[..], &b"short"[..]), (b"\x7f", b""), (b"\x10\0\0\0\0\0\0\0\x01", b"\xff")] {
        let engine = SimEngine::open(&SimStorage::new()).unwrap();
        let mut batch = WriteBatch::new();
        batch.put(crate::engine::Cf::Pd, key.to_vec(), value.to_vec());
        engine.write(&batch).unwrap();
        let result = PdMachine::default().reload(&world.group, &Default::default(), &engine);
        assert!(matches!(result, Err(crate::types::Error::Corruption(_))), "{key:02x?}: {result:?}");
    }
}

/// Goal: the first regions cover all keys, on all available stores, with rotating leaders. Method: all small sizes.
#[test]
fn first_regions_cover() {
    for stores in 1..=5u64 {
        for count in 0..=4u8 {
            let ids: Vec<u64> = (1..=stores).collect();
            let boundaries: Vec<_> = (0..count).rev().map(|at| crate::codec::bytes::encode(&[b'a' + at])).collect();
            let (regions, next_id) = first_regions(&ids, 3, &boundaries, 100).unwrap();
            assert_eq!(regions.len(), usize::from(count) + 2);
            assert_eq!(regions.last().unwrap().start_key[..], SENTINEL);
            assert_eq!(next_id, 100 + regions.iter().map(|region| 1 + region.peers.len() as u64).sum::<u64>());
            for (at, region) in regions.iter().enumerate() {
                assert_eq!(region.peers.len() as u64, stores.min(3));
                assert_eq!(region.peers[0].store_id, at as u64 % stores + 1, "the intended leader rotates");
                assert!(
                    ids.iter().filter(|id| region::peer_on(region, **id).is_some()).count() as u64 == stores.min(3)
                );
            }
        }
    }
    assert_eq!(SENTINEL[..], crate::codec::bytes::encode(&[0xff; 8])[..]);
    assert!(first_regions(&[], 3, &[], 1).is_err());
    assert!(first_regions(&[1], 3, &["plain".into()], 1).is_err());
    assert!(first_regions(&[1], 3, &[crate::codec::bytes::encode(&[0xff; 9])], 1).is_err());
}
