//! Records of transactional keys that stores remove, as they show them before.

use std::collections::BTreeMap;

use armilla::client::Space;
use armilla::codec::keyspace;
use armilla::codec::record::{self, RecordKind};
use armilla::proto::kvrpcpb::Op;
use armilla::rt::probe::Event;
use bytes::{Buf, Bytes};

/// A record of a key.
#[derive(Clone, Debug)]
pub struct Version {
    /// Its commit timestamp.
    pub commit: u64,
    /// Its transaction's start timestamp.
    pub start: u64,
    /// What was done.
    pub op: Op,
    /// The value, if it is a put.
    pub value: Option<Bytes>,
}

/// The records that stores have removed, as they showed them before.
#[derive(Clone, Debug, Default)]
pub struct Removed(BTreeMap<Bytes, BTreeMap<u64, Version>>);

impl Removed {
    /// Notes a record that is about to be removed.
    pub fn observe(&mut self, event: &Event) {
        let Event::Note { what: "version-collected", b: commit, data, .. } = event else { return };
        let mut rest = data.clone();
        let mut part = || {
            let length = rest.get_u32() as usize;
            rest.split_to(length)
        };
        let (key, record, value) = (part(), part(), part());
        // Clients do not see the prefix of their keyspace; no key of theirs begins like it.
        let key = Space::Keyspace(keyspace::DEFAULT).own(key);
        let record = record::decode(&record).expect("the store shows what it has decoded");
        let op = match record.kind {
            RecordKind::Put => Op::Put,
            RecordKind::Delete => Op::Del,
            RecordKind::Lock => Op::Lock,
            RecordKind::Rollback => return,
        };
        let value = (op == Op::Put).then_some(value);
        let version = Version { commit: *commit, start: record.start.0, op, value };
        self.0.entry(key).or_default().insert(*commit, version);
    }

    /// Returns how many records were removed, or almost.
    pub fn count(&self) -> u64 {
        self.0.values().map(|versions| versions.len() as u64).sum()
    }

    /// Returns those of a key.
    pub fn of(&self, key: &Bytes) -> impl Iterator<Item = &Version> {
        self.0.get(key).into_iter().flat_map(BTreeMap::values)
    }
}
