//! Who this node is: a small file in its data directory, written before anything depends on it.
//!
//! The uuid is made at the directory's first start and never again: a node with an empty disk is a new store. The founders'
//! list (the cluster's birth certificate) and the cluster's id follow from the handshake in [`super::founding`].

use std::path::Path;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::proto::armilla::pd::Founder;
use crate::rt::disk::Disk;
use crate::types::{Error, Result};

/// The layout of the data directory that this version writes; it reads this one and no newer.
pub const FORMAT: u32 = 1;

const NAME: &str = "IDENT";
const NEW_NAME: &str = "IDENT.new";

/// A member of the first start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The node's name.
    pub name: String,
    /// Its data directory's uuid.
    pub uuid: String,
    /// Where it is reached, `host:port`.
    pub addr: String,
}

/// The identity of a data directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ident {
    /// See [`FORMAT`].
    pub format: u32,
    /// Random, made at the first start.
    pub uuid: String,
    /// The node's name at the first start.
    pub name: String,
    /// 0 until the node belongs to a cluster.
    pub cluster_id: u64,
    /// 0 until the node has its store id.
    pub store_id: u64,
    /// How many of the founders, from the first, carry PD.
    pub pd_members: u32,
    /// The first regions of this store were created (or it never had any).
    pub regions_created: bool,
    /// The members of the first start, sorted by name.
    pub founders: Vec<Member>,
}

impl Ident {
    /// The founders as the wire has them.
    pub fn founders_on_wire(&self) -> Vec<Founder> {
        let on_wire = |m: &Member| Founder { name: m.name.clone(), uuid: m.uuid.clone(), addr: m.addr.clone() };
        self.founders.iter().map(on_wire).collect()
    }

    /// This node's place among the founders, if it is one.
    pub fn founder_index(&self) -> Option<usize> {
        self.founders.iter().position(|member| member.uuid == self.uuid)
    }

    /// Whether this node carries a peer of the PD group.
    pub fn carries_pd(&self) -> bool {
        self.founder_index().is_some_and(|index| index < self.pd_members as usize)
    }

    /// The founders that carry PD; their peer ids count from 1 in this order, and so do their store ids.
    pub fn pd_founders(&self) -> &[Member] {
        &self.founders[..self.founders.len().min(self.pd_members as usize)]
    }
}

/// Reads the identity of a data directory; nothing if it has none.
///
/// # Errors
/// [`Error::Invalid`] for a newer format, [`Error::Corruption`] for a file that is not one.
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
            "{}: the data directory has format {format}, this version reads formats up to {FORMAT}: start it with the \
             version that wrote it, or a newer one",
            path.display()
        )));
    }
    if head != expected.as_bytes() {
        return Err(bad("its checksum does not fit its content".into()));
    }
    serde_json::from_value(ident).map_err(|e| bad(format!("does not decode: {e}")))
}

/// Makes `ident` the directory's identity, durably.
///
/// # Errors
/// [`Error::Io`] when the disk fails.
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
