//! Runs with API V2: which keys are in a region, whether regions without raw keys are served, and whether keyspaces
//! that were created are there.

use std::collections::BTreeSet;

use armilla::client::TxnClient;
use armilla::codec;
use armilla::codec::keyspace::Mode;
use armilla::types::Api;
use bytes::Bytes;

use super::{Run, SECOND, Verdict};
use crate::oracle::{Violation, liveness};
use crate::workload::client::Client;

impl Run {
    /// Returns a raw key at the start of a region, as clients write it; `None` if clients have none there.
    pub(super) fn raw_key_at(&self, start: &Bytes) -> Option<Bytes> {
        let space = self.plan.space();
        let first = |key: Bytes| if key.is_empty() { Bytes::from_static(b"a") } else { key };
        if space.api() == Api::V1 {
            return Some(first(start.clone()));
        }
        let start = codec::bytes::decode(start).ok()?;
        start.starts_with(&space.wire(Mode::Raw, &Bytes::new())).then(|| first(space.own(start)))
    }

    /// Returns the boundaries that there have been, in ascending order, as raw keys of the clients.
    pub(super) fn raw_boundaries(&self) -> Vec<Bytes> {
        let boundaries = self.monitor.with(|observed| observed.ranges.boundaries());
        match self.plan.space().api() {
            Api::V1 => boundaries,
            Api::V2 => boundaries.iter().filter_map(|boundary| self.raw_key_at(boundary)).collect(),
        }
    }

    /// Waits until the region that starts there can be read.
    ///
    /// # Errors
    /// The error of the last attempt.
    pub(super) async fn read_until(&self, admin: &Client, start: &Bytes, until_ns: u64) -> Result<(), String> {
        let client = TxnClient::new(admin.raw().clone());
        loop {
            match client.locks_from(start).await {
                Ok(_) => return Ok(()),
                Err(error) if self.now() >= until_ns => return Err(error.to_string()),
                Err(_) => self.world.sleep_ns(SECOND / 10).await,
            }
        }
    }

    /// Checks that every keyspace whose creation was acknowledged is there, and that none has another one's name or ID.
    pub(super) async fn keyspaces(&mut self, admin: &Client) -> Verdict {
        if self.plan.space().api() == Api::V1 {
            return Ok(());
        }
        let until = self.now() + liveness::bound_ns(&self.plan);
        let found = loop {
            match admin.pd().keyspaces().await {
                Ok(found) => break found.keyspaces,
                Err(error) if self.now() >= until => {
                    let what = format!("the keyspaces cannot be listed: {error}");
                    return Err(Violation::new("liveness", self.now(), 0, what));
                }
                Err(_) => self.guard(self.now() + SECOND / 5).await?,
            }
        };
        let created = self.ledger.keyspaces.lock().expect("nothing panics while holding it").clone();
        self.stats.insert("keyspaces_created".into(), created.len() as u64);
        let names: BTreeSet<&str> = found.iter().map(|keyspace| keyspace.name.as_str()).collect();
        let ids: BTreeSet<u32> = found.iter().map(|keyspace| keyspace.id).collect();
        let lost = created.iter().find(|(name, id)| !found.iter().any(|one| (&one.name, one.id) == (name, *id)));
        let what = match lost {
            Some((name, id)) => format!("the keyspace {name} was created with the ID {id}, and is not there"),
            None if (names.len(), ids.len()) != (found.len(), found.len()) => format!("a keyspace twice: {found:?}"),
            None => return Ok(()),
        };
        Err(Violation::new("keyspaces", self.now(), 0, what))
    }
}
