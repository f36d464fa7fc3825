//! Reads: at a snapshot, or of the newest value; locks in the way are ended, passed or opened.

use std::collections::BTreeSet;

use armilla::proto::kvrpcpb::{BatchGetRequest, GetRequest, KeyError, ScanRequest};
use armilla::rt::rng::Rng;
use bytes::Bytes;

use super::ask::Settled;
use super::send::{Place, send};
use super::table::Fate;
use super::{PATIENCE_NS, Worker};

/// How often a read is tried.
const TRIES: u32 = 6;
/// The pause before a read is tried again, ns.
const PAUSE_NS: u64 = 10_000_000;

/// The locks that a read need not wait for.
#[derive(Default)]
struct Passes {
    later: BTreeSet<u64>,
    committed: BTreeSet<u64>,
}

/// What a read found: values, or the locks in its way.
type Found = Result<Vec<(Bytes, Option<Bytes>)>, Vec<KeyError>>;

impl Worker {
    /// Reads: the snapshot of a transaction, of a new timestamp, or the newest value.
    pub(super) async fn read(&self, number: Option<usize>, rng: &mut Rng) {
        let key = rng.pick(&self.keys).clone();
        self.read_at(number, &key, rng).await;
    }

    /// Reads a key at a new timestamp.
    pub(super) async fn read_key(&self, key: &Bytes, rng: &mut Rng) {
        self.read_at(None, key, rng).await;
    }

    async fn read_at(&self, number: Option<usize>, key: &Bytes, rng: &mut Rng) {
        let asked_ns = self.now();
        let newest = number.is_none() && rng.chance(0.25);
        let at = match number {
            Some(number) => self.entry(number).start,
            None if newest => u64::MAX,
            None => match self.pd.tso(1).await {
                Ok(at) => at.0,
                Err(_) => return,
            },
        };
        let mut passes = Passes::default();
        let kind = if newest { 0 } else { rng.below(3) };
        for _ in 0..TRIES {
            let Some(place) = self.sender.place(key) else { return };
            let found = match kind {
                0 => self.get(place, key, at, &passes).await,
                1 => self.batch_get(place, at, &passes).await,
                _ => self.scan(place, at, &passes, rng.chance(0.4)).await,
            };
            match found {
                None => return,
                Some(Ok(found)) if newest => {
                    let found = found.into_iter().next();
                    return self.with(|table| {
                        if let Some((key, value)) = found {
                            table.read_newest(key, asked_ns, value);
                        }
                    });
                }
                Some(Ok(found)) => return self.with(|table| table.read(self.number, asked_ns, at, found)),
                Some(Err(errors)) => {
                    for error in errors {
                        // Any other error ends the read: it may be too old.
                        let Some(lock) = error.locked else { return };
                        self.behind(&lock.key, lock.lock_version, at, &mut passes, rng).await;
                    }
                }
            }
        }
    }

    /// Reads below a point up to which old versions were removed somewhere: every region must refuse it.
    pub(super) async fn read_below(&self, rng: &mut Rng) -> Option<()> {
        let collected = self.sender.0.monitor.with(|seen| seen.collected);
        let version = collected.checked_sub(1)?;
        let key = rng.pick(&self.keys).clone();
        let place = self.sender.place(&key)?;
        let region = place.region.id;
        let request = GetRequest { key, version, ..GetRequest::default() };
        let reply = send!(place, self.sender, PATIENCE_NS, kv_get, request)?;
        if reply.error.is_none() {
            self.fails(format!("region {region} served a read at {version}, where versions may have been removed"));
        }
        Some(())
    }

    /// Deals with a lock in the way of a read.
    async fn behind(&self, key: &Bytes, start: u64, at: u64, passes: &mut Passes, rng: &mut Rng) {
        let Some(number) = self.with(|table| table.number(start)) else { return };
        match self.settle(number, at, rng).await {
            Settled::Alive => self.sender.0.world.sleep_ns(PAUSE_NS).await,
            Settled::Later => drop(passes.later.insert(start)),
            Settled::Fate(_) if rng.chance(0.4) => drop(self.resolve_one(number, key, rng).await),
            Settled::Fate(Fate::Committed(commit)) if commit <= at => drop(passes.committed.insert(start)),
            Settled::Fate(_) => drop(passes.later.insert(start)),
        }
    }

    async fn get(&self, place: Place, key: &Bytes, version: u64, passes: &Passes) -> Option<Found> {
        let context = Some(place.passing(&passes.later, &passes.committed));
        let request = GetRequest { context, key: key.clone(), version, ..GetRequest::default() };
        let reply = send!(place, self.sender, PATIENCE_NS, kv_get, request)?;
        Some(match reply.error {
            Some(error) => Err(vec![*error]),
            None => Ok(vec![(key.clone(), (!reply.not_found).then_some(reply.value))]),
        })
    }

    async fn batch_get(&self, place: Place, version: u64, passes: &Passes) -> Option<Found> {
        let keys = place.own(&self.keys);
        let context = Some(place.passing(&passes.later, &passes.committed));
        let request = BatchGetRequest { context, keys: keys.clone(), version, ..BatchGetRequest::default() };
        let reply = send!(place, self.sender, PATIENCE_NS, kv_batch_get, request)?;
        if let Some(error) = reply.error {
            return Some(Err(vec![*error]));
        }
        Some(self.found(keys, reply.pairs))
    }

    async fn scan(&self, place: Place, version: u64, passes: &Passes, reverse: bool) -> Option<Found> {
        let mut keys = place.own(&self.keys);
        keys.sort();
        let (first, last) = (keys.first()?.clone(), keys.last()?.clone());
        let end: Bytes = [&last[..], b"\0"].concat().into();
        if place.own(std::slice::from_ref(&end)).is_empty() {
            return None;
        }
        let (start_key, end_key) = if reverse { (end, first) } else { (first, end) };
        let context = Some(place.passing(&passes.later, &passes.committed));
        let request =
            ScanRequest { context, start_key, end_key, limit: 10_000, version, reverse, ..ScanRequest::default() };
        let reply = send!(place, self.sender, PATIENCE_NS, kv_scan, request)?;
        if let Some(error) = reply.error {
            return Some(Err(vec![*error]));
        }
        Some(self.found(keys, reply.pairs))
    }

    /// Returns the values of keys in pairs, in which those of other clients may be as well.
    fn found(&self, keys: Vec<Bytes>, pairs: Vec<armilla::proto::kvrpcpb::KvPair>) -> Found {
        let mut errors: Vec<KeyError> = pairs.iter().filter_map(|pair| pair.error.as_deref().cloned()).collect();
        let is_own = |error: &KeyError| error.locked.as_ref().is_none_or(|lock| keys.contains(&lock.key));
        errors.retain(is_own);
        if !errors.is_empty() {
            return Err(errors);
        }
        let value = |key: &Bytes| pairs.iter().find(|pair| pair.key == *key).map(|pair| pair.value.clone());
        Ok(keys.iter().map(|key| (key.clone(), value(key))).collect())
    }
}
