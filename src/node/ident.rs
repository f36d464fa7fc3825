//! The identity of a node: a small file in its data directory, written before anything depends on it.
//!
//! The UUID is created at the directory's first start and never changes: a node with an empty disk is a new store. The
//! founders' list (the founding certificate) and the cluster's ID come from the handshake in [`super::founding`].

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::proto::armilla::pd::Founder;
use crate::proto::armilla::raft::Incarnation;
use crate::rt::disk::Disk;
use crate::types::limits::EARLIER_RUNS_MAX;
use crate::types::{Api, Error, GroupId, Result};

/// The newest layout of the data directory. This version reads it and older ones, but no newer ones. Layout 2 is that
/// of clusters with API V2; versions that know only layout 1 would take their keys for other ones.
pub const FORMAT: u32 = 2;
/// The layout that is written unless something newer is needed.
const FIRST_FORMAT: u32 = 1;

const NAME: &str = "IDENT";
const NEW_NAME: &str = "IDENT.new";

/// A member of the first start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The node's name.
    pub name: String,
    /// The UUID of its data directory.
    pub uuid: String,
    /// The node's address, `host:port`.
    pub addr: String,
}

/// The identity of a data directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ident {
    /// The layout's version, see [`FORMAT`].
    pub format: u32,
    /// A random UUID, created at the first start.
    pub uuid: String,
    /// The node's name at the first start.
    pub name: String,
    /// How many times the directory was started.
    #[serde(default)]
    pub boot: u64,
    /// The number of the last start that opened the raft log.
    #[serde(default)]
    pub log_boot: u64,
    /// The incarnations that were reported to other nodes, as number and nonce, newest first, at most
    /// [`EARLIER_RUNS_MAX`].
    #[serde(default)]
    pub runs: Vec<(u64, u64)>,
    /// The cluster's ID; 0 until the node belongs to a cluster.
    pub cluster_id: u64,
    /// The store's ID; 0 until the node has one.
    pub store_id: u64,
    /// How many of the founders, counted from the first, run PD.
    pub pd_members: u32,
    /// The API version of the cluster. Those of versions that had no other one: 1.
    #[serde(default = "first_api")]
    pub api_version: u32,
    /// Whether the first regions of this store were created (or it never had any).
    pub regions_created: bool,
    /// Whether the peer of the PD group was created here. If it was removed later, a tombstone is here.
    #[serde(default)]
    pub pd_created: bool,
    /// How many of the first regions were created here. They are never removed.
    #[serde(default)]
    pub first_regions: u64,
    /// The members of the first start, sorted by name, with their addresses at that time.
    pub founders: Vec<Member>,
    /// The last known address of each store, by ID. Empty until the node belongs to a cluster.
    #[serde(default)]
    pub addresses: BTreeMap<u64, String>,
    /// The last known addresses of the placement driver's members. Empty until PD reports them.
    #[serde(default)]
    pub pd_addresses: Vec<String>,
    /// `initial_cluster` at the last start, name and address. An entry that differs from it was changed by the
    /// operator.
    #[serde(default)]
    pub configured: Vec<(String, String)>,
}

fn first_api() -> u32 {
    Api::V1.number()
}

impl Ident {
    /// Returns the API version of the cluster.
    ///
    /// # Errors
    /// [`Error::Invalid`] if this version of Armilla does not know it.
    pub fn api(&self) -> Result<Api> {
        Api::numbered(self.api_version).ok_or_else(|| {
            Error::Invalid(format!(
                "the cluster has API version {}, which this version of Armilla does not know: use a newer one",
                self.api_version
            ))
        })
    }

    /// Sets the API version of the cluster that the directory is to belong to.
    pub fn set_api_version(&mut self, number: u32) {
        self.api_version = number;
        self.format = if number == Api::V1.number() { FIRST_FORMAT } else { FORMAT };
    }

    /// Creates the identity of a new directory.
    pub fn new(uuid: String, name: String) -> Ident {
        Ident {
            format: FIRST_FORMAT,
            uuid,
            name,
            boot: 0,
            log_boot: 0,
            runs: Vec::new(),
            cluster_id: 0,
            store_id: 0,
            pd_members: 0,
            api_version: first_api(),
            regions_created: false,
            pd_created: false,
            first_regions: 0,
            founders: Vec::new(),
            addresses: BTreeMap::new(),
            pd_addresses: Vec::new(),
            configured: Vec::new(),
        }
    }

    /// Adds this incarnation to those that are reported to other nodes.
    #[must_use]
    pub fn with_run(mut self, run: Incarnation) -> Ident {
        let own = (run.boot, run.nonce);
        if self.runs.first() != Some(&own) {
            self.runs.insert(0, own);
            self.runs.truncate(EARLIER_RUNS_MAX);
        }
        self
    }

    /// Checks that this store still holds all groups that it was given.
    ///
    /// # Errors
    /// [`Error::Corruption`] if a group is missing: the engine and the raft log were lost together, and with them
    /// promises and votes that other nodes rely on.
    pub fn given_groups_are_here(&self, held: &[GroupId], data_dir: &Path) -> Result<()> {
        let pd = held.contains(&GroupId::PD);
        let regions = held.iter().filter(|group| **group != GroupId::PD).count() as u64;
        let lost = if crate::mutant!("node.lost-engine-not-noticed") {
            return Ok(());
        } else if self.pd_created && !pd {
            "carries a member of the placement driver, whose data is not there".to_owned()
        } else if regions < self.first_regions {
            format!("was given {} regions, of which it holds {regions}", self.first_regions)
        } else {
            return Ok(());
        };
        Err(Error::Corruption(format!(
            "the store in {} {lost}: its engine and raft log were lost, or are not mounted. Restore them, or start \
             with an empty data directory as a new store",
            data_dir.display()
        )))
    }

    /// Returns the founders as protocol messages, with their current addresses as far as known.
    pub fn founders_now(&self) -> Vec<Founder> {
        let mut founders = self.founders_on_wire();
        for (id, founder) in (1..).zip(&mut founders) {
            if let Some(addr) = self.addresses.get(&id) {
                founder.addr.clone_from(addr);
            }
        }
        founders
    }

    /// Updates addresses from a configuration at the start. Known addresses take precedence, because lists are rarely
    /// kept up to date; only an entry that was changed since the last start is newer than the known address.
    pub fn take_addresses(&mut self, initial_cluster: &[(String, String)]) {
        if self.addresses.is_empty() {
            self.addresses = (1..).zip(&self.founders).map(|(id, founder)| (id, founder.addr.clone())).collect();
        }
        for (name, addr) in initial_cluster {
            let founder = (1..).zip(&self.founders).find(|(_, founder)| founder.name == *name);
            let Some((id, founder)) = founder else { continue };
            let last = self.configured.iter().find(|(known, _)| known == name).map_or(&founder.addr, |(_, addr)| addr);
            // A store that is missing in the map was replaced by another one, whose ID does not follow from the name.
            if addr != last
                && let Some(known) = self.addresses.get_mut(&id)
            {
                known.clone_from(addr);
            }
        }
        if !initial_cluster.is_empty() {
            self.configured = initial_cluster.to_vec();
        }
    }

    /// Returns the founders as protocol messages, with their first addresses.
    pub fn founders_on_wire(&self) -> Vec<Founder> {
        let on_wire = |m: &Member| Founder { name: m.name.clone(), uuid: m.uuid.clone(), addr: m.addr.clone() };
        self.founders.iter().map(on_wire).collect()
    }

    /// Returns this node's index among the founders, if it is one.
    pub fn founder_index(&self) -> Option<usize> {
        self.founders.iter().position(|member| member.uuid == self.uuid)
    }

    /// Returns whether this node is one of the first members of the placement driver.
    pub fn carries_pd(&self) -> bool {
        self.founder_index().is_some_and(|index| index < self.pd_members as usize)
    }

    /// Returns the founders that run PD. Both their peer IDs and their store IDs count from 1 in this order.
    pub fn pd_founders(&self) -> &[Member] {
        &self.founders[..self.founders.len().min(self.pd_members as usize)]
    }
}

/// Reads the identity of a data directory; `None` if it has none.
///
/// # Errors
/// [`Error::Invalid`] for a newer format, [`Error::Corruption`] for a damaged file.
pub async fn load(disk: &Disk, dir: &Path) -> Result<Option<Ident>> {
    let path = dir.join(NAME);
    let file = match disk.open(&path).await {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::Io(format!("{}: {error}", path.display()))),
    };
    let len = file.len().await?;
    let bytes = file.read_at(0, len as usize).await?;
    decode(&path, &bytes).map(Some)
}

fn decode(path: &Path, bytes: &[u8]) -> Result<Ident> {
    let bad = |what: String| Error::Corruption(format!("{}: {what}", path.display()));
    let newline = bytes.iter().position(|b| *b == b'\n').ok_or_else(|| bad("no checksum line".into()))?;
    let (head, body) = (&bytes[..newline], &bytes[newline + 1..]);
    let expected = format!("armilla ident crc32c {:08x}", crate::arch::crc32c(body));
    let ident: serde_json::Value = serde_json::from_slice(body).map_err(|e| bad(format!("does not decode: {e}")))?;
    let format = ident.get("format").and_then(serde_json::Value::as_u64).unwrap_or(0);
    if format > u64::from(FORMAT) {
        return Err(Error::Invalid(format!(
            "{}: the data directory has format {format}, but this version reads formats up to {FORMAT}: start it with \
             the version that wrote it, or a newer one",
            path.display()
        )));
    }
    if head != expected.as_bytes() {
        return Err(bad("its checksum does not fit its content".into()));
    }
    serde_json::from_value(ident).map_err(|e| bad(format!("does not decode: {e}")))
}

/// Replaces the directory's identity by `ident`, durably.
///
/// # Errors
/// [`Error::Io`] if the disk fails.
pub async fn save(disk: &Disk, dir: &Path, ident: &Ident) -> Result<()> {
    let body = serde_json::to_vec_pretty(ident).map_err(|e| Error::Io(e.to_string()))?;
    let mut bytes = format!("armilla ident crc32c {:08x}\n", crate::arch::crc32c(&body)).into_bytes();
    bytes.extend_from_slice(&body);
    let (new, path) = (dir.join(NEW_NAME), dir.join(NAME));
    match disk.remove(&new).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let named = |error: std::io::Error| Error::Io(format!("{}: {error}", new.display()));
    let file = disk.create(&new).await.map_err(named)?;
    file.write_at(0, Bytes::from(bytes)).await.map_err(named)?;
    file.sync().await.map_err(named)?;
    disk.rename(&new, &path).await?;
    disk.sync_dir(dir).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    //! **Goal**: an address that a node learned survives its restart, and an operator's change takes effect.
    //! **Method**: a founder that restarts repeatedly.

    use super::*;

    fn pair(name: &str, addr: &str) -> (String, String) {
        (name.to_owned(), addr.to_owned())
    }

    fn founder() -> Ident {
        let member = |n: &str| Member { name: n.into(), uuid: format!("u-{n}"), addr: format!("{n}:1") };
        Ident {
            cluster_id: 7,
            store_id: 1,
            pd_members: 3,
            regions_created: true,
            founders: vec![member("n1"), member("n2"), member("n3")],
            ..Ident::new("u-n1".into(), "n1".into())
        }
    }

    #[test]
    fn what_was_learned_stays_and_what_was_changed_counts() {
        let mut ident = founder();
        let list = [pair("n1", "n1:1"), pair("n2", "n2:1"), pair("n3", "n3:1")];
        ident.take_addresses(&list);
        assert_eq!(ident.addresses[&2], "n2:1");
        // PD reported a move; the list was not changed.
        ident.addresses.insert(2, "n2:9".into());
        ident.take_addresses(&list);
        assert_eq!(ident.addresses[&2], "n2:9");
        assert_eq!(ident.founders_now()[1].addr, "n2:9");
        assert_eq!(ident.founders_on_wire()[1].addr, "n2:1", "the certificate does not change");
        // The operator changes an entry.
        let changed = [pair("n1", "n1:1"), pair("n2", "n2:1"), pair("n3", "n3:5")];
        ident.take_addresses(&changed);
        assert_eq!((&*ident.addresses[&2], &*ident.addresses[&3]), ("n2:9", "n3:5"));
        // Changing it back also counts as a change.
        ident.take_addresses(&list);
        assert_eq!((&*ident.addresses[&2], &*ident.addresses[&3]), ("n2:9", "n3:1"));
        // Without a list, or for a store that was replaced by another, nothing changes.
        ident.take_addresses(&[]);
        ident.addresses.remove(&3);
        ident.take_addresses(&changed);
        assert_eq!(ident.addresses.get(&3), None);
    }

    #[test]
    fn an_identity_without_addresses_is_read() {
        let mut value = serde_json::to_value(founder()).unwrap();
        value.as_object_mut().unwrap().remove("addresses");
        value.as_object_mut().unwrap().remove("configured");
        value.as_object_mut().unwrap().remove("api_version");
        let body = value.to_string();
        let text = format!("armilla ident crc32c {:08x}\n{body}", crate::arch::crc32c(body.as_bytes()));
        let read = decode(Path::new("IDENT"), text.as_bytes()).unwrap();
        assert_eq!(read, founder());
    }
}
