//! The placement driver's state machine: applies raft entries to [`PdState`] and stores each object under its own key
//! of [`Cf::Pd`].
//!
//! | key | value |
//! |---|---|
//! | `01` | one byte: bootstrapped |
//! | `02` | next free id, 8 bytes big endian |
//! | `03` | timestamp bound in ms, 8 bytes big endian |
//! | `04` | safe point of garbage collection, 8 bytes big endian |
//! | `05` | the version of the cluster's protocol, 8 bytes big endian |
//! | `06` | `Settings`, protobuf: what was set while the cluster ran |
//! | `07` | `SafePoints`, protobuf |
//! | `08` id (8 bytes big endian) | `KeyspaceMeta`, protobuf; without the keyspace 0, unless it was changed |
//! | `10` id (8 bytes big endian) | `StoreRecord`, protobuf |
//! | `11` start key | `metapb.Region`, protobuf: the region that starts there, or what newer ones left of it |
//! | `12` id (8 bytes big endian) | `Incarnation` of that store, protobuf |
//! | `13` id (8 bytes big endian) | `metapb.Region`, protobuf: a region as the cluster began |

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

use super::state::{Changed, Numbers, Others, PdState, Regions, since};
use crate::engine::{Cf, Read, Visit, WriteBatch};
use crate::proto::armilla::pd::pd_command::Op;
use crate::proto::armilla::pd::{ChangeMembers, PdCommand, PdReply, SafePoints, Settings, StoreRecord};
use crate::proto::armilla::raft::{ChangePeers, Incarnation, Merges, PeerChange};
use crate::proto::keyspacepb::KeyspaceMeta;
use crate::raft::frame::{Command, Kind};
use crate::raft::machine::{Applied, ApplyContext, CfRange, StateMachine};
use crate::region::members;
use crate::types::{Error, Region, Result, region, version};

const KEY_BOOTSTRAPPED: u8 = 0x01;
const KEY_NEXT_ID: u8 = 0x02;
const KEY_TSO_BOUND: u8 = 0x03;
const KEY_GC_SAFE_POINT: u8 = 0x04;
const KEY_CLUSTER_VERSION: u8 = 0x05;
const KEY_SETTINGS: u8 = 0x06;
const KEY_SAFE_POINTS: u8 = 0x07;
const KEY_KEYSPACE: u8 = 0x08;
const KEY_STORE: u8 = 0x10;
const KEY_REGION: u8 = 0x11;
const KEY_RUN: u8 = 0x12;
const KEY_FIRST_REGION: u8 = 0x13;

/// The state that this node has applied; empty while it has no member. It may lag: a leader's is up to date once the
/// leader is ready, and only while it stays leader. Readers hold the lock for one lookup, never across an await.
pub type SharedState = Arc<RwLock<PdState>>;

/// Returns the state of a node that has no member.
pub fn empty() -> SharedState {
    Arc::new(RwLock::new(PdState::new()))
}

/// The replicated state machine of the placement driver's group.
#[derive(Debug)]
pub struct PdMachine {
    region: Region,
    state: SharedState,
    /// The newest version of the protocol whose commands are known.
    protocol: u32,
}

impl Default for PdMachine {
    fn default() -> PdMachine {
        PdMachine::new(empty(), version::PROTOCOL)
    }
}

impl PdMachine {
    /// Creates a machine that keeps its state in `state`: the driver calls [`StateMachine::reload`] before anything
    /// else. Commands that are newer than `protocol` are rejected as unknown.
    pub fn new(state: SharedState, protocol: u32) -> PdMachine {
        PdMachine { region: Region::default(), state, protocol }
    }

    #[cfg(test)]
    pub fn shared(&self) -> SharedState {
        self.state.clone()
    }
}

impl StateMachine for PdMachine {
    fn region(&self) -> &Region {
        &self.region
    }

    /// None: the state is in memory.
    fn reads(&self, _: &Command) -> Vec<(Cf, Bytes)> {
        Vec::new()
    }

    fn apply(&mut self, _: ApplyContext, command: Command, _: &dyn Read, batch: &mut WriteBatch) -> Result<Applied> {
        let is_of_members = command.kind == Kind::Members;
        let command = match PdCommand::decode(command.bytes) {
            Ok(PdCommand { op: Some(op) }) if since(&op) > self.protocol => PdCommand { op: None },
            Ok(command) => command,
            Err(error) => return Ok(Applied::reply(self.refusal(&format!("the command does not decode: {error}")))),
        };
        if let Some(Op::ChangeMembers(change)) = command.op {
            // Raft knows only of changes of this kind.
            let after = if is_of_members { self.changed(change) } else { Err("it is not of that kind".into()) };
            return Ok(Applied::reply(match after {
                Ok(after) => {
                    let conf_ver = region::epoch(&after).conf_ver;
                    self.region = after;
                    crate::reach!("pd.members-changed");
                    Bytes::from(PdReply { value: conf_ver, refused: String::new() }.encode_to_vec())
                }
                Err(why) => self.refusal(&why),
            }));
        }
        let mut state = self.state.write().expect("no writer panics");
        let (reply, changed) = state.apply(command);
        save(&state, &changed, batch);
        Ok(Applied::reply(reply.encode_to_vec()))
    }

    fn members_after(&self, _: u64, command: &Command) -> Result<Region, Bytes> {
        let after = match PdCommand::decode(command.bytes.clone()) {
            Ok(PdCommand { op: Some(Op::ChangeMembers(change)) }) => self.changed(change),
            Ok(_) => Err("the command changes no members".to_owned()),
            Err(error) => Err(format!("the command does not decode: {error}")),
        };
        after.map_err(|why| self.refusal(&why))
    }

    fn leave_joint(&self) -> Command {
        change_members(&self.region, Vec::new())
    }

    fn refusal(&self, why: &str) -> Bytes {
        PdReply { value: 0, refused: why.to_owned() }.encode_to_vec().into()
    }

    fn ranges(&self, _region: &Region) -> Vec<CfRange> {
        vec![CfRange { cf: Cf::Pd, start: Bytes::new(), end: Bytes::new() }]
    }

    fn reload(&mut self, region: &Region, _: &Merges, read: &dyn Read) -> Result<()> {
        self.region = region.clone();
        *self.state.write().expect("no writer panics") = load(read)?;
        Ok(())
    }
}

impl PdMachine {
    /// Returns the descriptor after a change of the members.
    fn changed(&self, ChangeMembers { conf_ver, changes }: ChangeMembers) -> Result<Region, String> {
        let now = region::epoch(&self.region).conf_ver;
        if conf_ver != now {
            return Err(format!("the members have changed meanwhile: their version is {now}, not {conf_ver}"));
        }
        members::changed(&self.region, &ChangePeers { changes })
    }
}

/// Returns the command that changes the members of the placement driver's group, which has the descriptor `group`.
pub(super) fn change_members(group: &Region, changes: Vec<PeerChange>) -> Command {
    let conf_ver = region::epoch(group).conf_ver;
    let op = Some(Op::ChangeMembers(ChangeMembers { conf_ver, changes }));
    Command { kind: Kind::Members, bytes: PdCommand { op }.encode_to_vec().into() }
}

fn key(kind: u8) -> Bytes {
    Bytes::copy_from_slice(&[kind])
}

fn key_of(kind: u8, id: u64) -> Bytes {
    let mut key = BytesMut::with_capacity(9);
    key.put_u8(kind);
    key.put_u64(id);
    key.freeze()
}

/// Of the region that starts there.
fn key_at(start: &[u8]) -> Bytes {
    let mut key = BytesMut::with_capacity(1 + start.len());
    key.put_u8(KEY_REGION);
    key.put_slice(start);
    key.freeze()
}

fn number(value: u64) -> Bytes {
    Bytes::copy_from_slice(&value.to_be_bytes())
}

/// Writes the current value of the changed objects.
fn save(state: &PdState, changed: &[Changed], batch: &mut WriteBatch) {
    for object in changed {
        match object {
            Changed::Bootstrapped => {
                batch.put(Cf::Pd, key(KEY_BOOTSTRAPPED), Bytes::copy_from_slice(&[u8::from(state.bootstrapped())]));
            }
            Changed::NextId => batch.put(Cf::Pd, key(KEY_NEXT_ID), number(state.next_id())),
            Changed::TsoBound => batch.put(Cf::Pd, key(KEY_TSO_BOUND), number(state.tso_bound_ms())),
            Changed::ClusterVersion => {
                batch.put(Cf::Pd, key(KEY_CLUSTER_VERSION), number(u64::from(state.cluster_version())));
            }
            Changed::Run(id) => {
                let run = state.run(*id).unwrap_or_default();
                batch.put(Cf::Pd, key_of(KEY_RUN, *id), run.encode_to_vec());
            }
            Changed::Settings if crate::mutant!("pd.settings-not-saved") => {}
            Changed::Settings => {
                batch.put(Cf::Pd, key(KEY_SETTINGS), state.settings().encode_to_vec());
            }
            Changed::SafePoints => batch.put(Cf::Pd, key(KEY_SAFE_POINTS), state.safe_points().encode_to_vec()),
            Changed::Keyspace(id) => {
                let keyspace = state.keyspace(*id).expect("keyspaces are never removed");
                batch.put(Cf::Pd, key_of(KEY_KEYSPACE, u64::from(*id)), keyspace.encode_to_vec());
            }
            Changed::GcSafePoint => batch.put(Cf::Pd, key(KEY_GC_SAFE_POINT), number(state.gc_safe_point())),
            Changed::Store(id) => {
                let record = state.store(*id).expect("stores are never removed");
                batch.put(Cf::Pd, key_of(KEY_STORE, *id), record.encode_to_vec());
            }
            Changed::Region(start) => match state.region_at(start) {
                Some(region) => batch.put(Cf::Pd, key_at(start), region.encode_to_vec()),
                None => batch.delete(Cf::Pd, key_at(start)),
            },
            Changed::FirstRegion(id) => {
                let region = state.first_region(*id).expect("the cluster began with it");
                batch.put(Cf::Pd, key_of(KEY_FIRST_REGION, *id), region.encode_to_vec());
            }
        }
    }
}

/// Reads the whole state.
fn load(read: &dyn Read) -> Result<PdState> {
    let empty = PdState::new();
    let mut numbers = Numbers {
        bootstrapped: empty.bootstrapped(),
        next_id: empty.next_id(),
        tso_bound_ms: empty.tso_bound_ms(),
        gc_safe_point: empty.gc_safe_point(),
        cluster_version: empty.cluster_version(),
    };
    let (mut stores, mut regions, mut runs) = (Vec::new(), Regions::default(), BTreeMap::new());
    let mut others = Others::default();
    let mut wrong = None;
    read.scan(Cf::Pd, b"", b"", &mut |key, value| {
        let parsed = match *key {
            [KEY_BOOTSTRAPPED] => {
                value.first().map(|flag| numbers.bootstrapped = *flag != 0).ok_or("no flag".to_owned())
            }
            [KEY_NEXT_ID] => parse(value).map(|value| numbers.next_id = value),
            [KEY_TSO_BOUND] => parse(value).map(|value| numbers.tso_bound_ms = value),
            [KEY_GC_SAFE_POINT] => parse(value).map(|value| numbers.gc_safe_point = value),
            [KEY_CLUSTER_VERSION] => parse(value).and_then(|value| {
                numbers.cluster_version = u32::try_from(value).map_err(|_| format!("a version of {value}"))?;
                Ok(())
            }),
            [KEY_SETTINGS] => Settings::decode(value).map(|value| others.settings = value).map_err(|e| e.to_string()),
            [KEY_SAFE_POINTS] => {
                SafePoints::decode(value).map(|value| others.safe_points = value).map_err(|e| e.to_string())
            }
            [KEY_KEYSPACE, ..] => {
                KeyspaceMeta::decode(value).map(|keyspace| others.keyspaces.push(keyspace)).map_err(|e| e.to_string())
            }
            [KEY_STORE, ..] => StoreRecord::decode(value).map(|record| stores.push(record)).map_err(|e| e.to_string()),
            [KEY_REGION, ..] => Region::decode(value).map(|region| regions.now.push(region)).map_err(|e| e.to_string()),
            [KEY_FIRST_REGION, ..] => {
                Region::decode(value).map(|region| regions.first.push(region)).map_err(|e| e.to_string())
            }
            [KEY_RUN, ref id @ ..] => parse(id).and_then(|id| {
                runs.insert(id, Incarnation::decode(value).map_err(|e| e.to_string())?);
                Ok(())
            }),
            _ => Err("unknown to this version".to_owned()),
        };
        match parsed {
            Ok(()) => Visit::More,
            Err(why) => {
                wrong = Some(Error::Corruption(format!("the placement driver's key {key:02x?}: {why}")));
                Visit::Stop
            }
        }
    })?;
    if let Some(error) = wrong {
        return Err(error);
    }
    PdState::restore(numbers, stores, regions, runs, others)
        .map_err(|why| Error::Corruption(format!("the placement driver's state: {why}")))
}

fn parse(value: &[u8]) -> Result<u64, String> {
    value.try_into().map(u64::from_be_bytes).map_err(|_| format!("a number of {} bytes", value.len()))
}
