//! The initial content of a cluster: stores, the placement driver's own group, and the first regions. All of it follows
//! from the founding certificate (the founders, sorted by name) and the boundaries, so that every founder computes the
//! same.

use armilla_arch::memcomparable;
use bytes::{Bytes, BytesMut};

use crate::proto::armilla::pd::{Bootstrap, Founder};
use crate::proto::metapb::{RegionEpoch, Store};
use crate::proto::pdpb::Member;
use crate::types::region::Peer;
use crate::types::{GroupId, Region, version};

/// Start key of the last region: the memcomparable encoding of eight 0xFF bytes. This region always exists, so that a
/// client's bounded raw scan never ends in a region without an end key (some clients would then start over from the
/// beginning).
pub const SENTINEL: [u8; 18] = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0xf7];

/// Returns whether the whole of `boundary` is the memcomparable encoding of a key.
fn is_encoding(boundary: &[u8]) -> bool {
    memcomparable::decode_into(&mut BytesMut::new(), boundary) == Ok(boundary.len())
}

/// Returns the first regions: one more than the number of boundaries, including the sentinel.
///
/// `boundaries` are memcomparable encodings in any order; duplicates count once. Each region gets `min(replicas,
/// stores)` peers, distributed round robin over the stores; the first peer of its list is the intended first leader.
/// IDs (a region's, then its peers') are taken from `first_id` on; the second returned value is the next free ID.
///
/// # Errors
/// A sentence, if there are no stores or if a boundary is not valid.
pub fn first_regions(
    stores: &[u64],
    replicas: usize,
    boundaries: &[Bytes],
    first_id: u64,
) -> Result<(Vec<Region>, u64), String> {
    if stores.is_empty() || replicas == 0 {
        return Err("regions need at least one store and one replica".into());
    }
    let mut boundaries = boundaries.to_vec();
    boundaries.push(Bytes::from_static(&SENTINEL));
    boundaries.sort();
    boundaries.dedup();
    for boundary in &boundaries {
        if !is_encoding(boundary) {
            return Err(format!("the boundary {boundary:?} is not a memcomparable encoding"));
        }
    }
    if boundaries.last().is_some_and(|last| last[..] != SENTINEL) {
        return Err("a boundary lies after eight 0xff bytes, where the last region begins".into());
    }
    let mut next_id = first_id;
    let mut take = || {
        next_id += 1;
        next_id - 1
    };
    let mut regions = Vec::with_capacity(boundaries.len() + 1);
    for at in 0..=boundaries.len() {
        let id = take();
        let on = (0..replicas.min(stores.len())).map(|replica| stores[(at + replica) % stores.len()]);
        regions.push(Region {
            id,
            start_key: if at == 0 { Bytes::new() } else { boundaries[at - 1].clone() },
            end_key: boundaries.get(at).cloned().unwrap_or_default(),
            region_epoch: Some(RegionEpoch { conf_ver: 1, version: 1 }),
            peers: on.map(|store_id| Peer { id: take(), store_id, ..Peer::default() }).collect(),
            ..Region::default()
        });
    }
    Ok((regions, next_id))
}

/// Everything that follows from the founders alone: the IDs of stores and of the placement driver's peers.
#[derive(Clone, Debug, PartialEq)]
pub struct Founding {
    /// The founders in the order of the certificate.
    pub founders: Vec<Founder>,
    /// The founders' stores, in the same order.
    pub stores: Vec<Store>,
    /// The placement driver's group, with peers on the first stores. Its first peer is the intended first leader.
    pub pd: Region,
    /// The placement driver's members; `member_id` is the ID of the peer.
    pub members: Vec<Member>,
    /// The next free ID.
    pub next_id: u64,
}

impl Founding {
    /// Computes IDs from the certificate: store IDs count from 1 in its order, and so do the IDs of PD's peers (unique
    /// in their group, as raft requires) on the first `pd_members` stores. All other IDs follow.
    ///
    /// # Errors
    /// A sentence, if there are no founders or no members among them.
    pub fn new(founders: &[Founder], pd_members: usize) -> Result<Founding, String> {
        if pd_members == 0 || pd_members > founders.len() {
            return Err(format!("{pd_members} members of the placement driver among {} founders", founders.len()));
        }
        let stores: Vec<Store> = (1..).zip(founders).map(|(id, founder)| store_of(id, &founder.addr)).collect();
        let mut pd = Region {
            id: GroupId::PD.0,
            region_epoch: Some(RegionEpoch { conf_ver: 1, version: 1 }),
            ..Region::default()
        };
        let mut members = Vec::new();
        for (founder, store) in founders.iter().zip(&stores).take(pd_members) {
            pd.peers.push(Peer { id: store.id, store_id: store.id, ..Peer::default() });
            members.push(member_of(store.id, &founder.name, &founder.addr));
        }
        let next_id = founders.len() as u64 + 1;
        Ok(Founding { founders: founders.to_vec(), stores, pd, members, next_id })
    }

    /// Returns the bootstrap command, with regions of `replicas` peers split at `boundaries` (memcomparable encodings).
    ///
    /// # Errors
    /// Those of [`first_regions`].
    pub fn command(&self, replicas: usize, boundaries: &[Bytes]) -> Result<Bootstrap, String> {
        let ids: Vec<u64> = self.stores.iter().map(|store| store.id).collect();
        let (regions, next_id) = first_regions(&ids, replicas, boundaries, self.next_id)?;
        Ok(Bootstrap {
            stores: self.stores.clone(),
            uuids: self.founders.iter().map(|founder| founder.uuid.clone()).collect(),
            names: self.founders.iter().map(|founder| founder.name.clone()).collect(),
            regions,
            next_id,
        })
    }
}

/// Returns a store that is in service at `addr` (host:port).
fn store_of(id: u64, addr: &str) -> Store {
    Store {
        id,
        address: addr.to_owned(),
        peer_address: addr.to_owned(),
        status_address: addr.to_owned(),
        ..Store::default()
    }
}

/// Returns a member of the placement driver whose node listens at `addr` (host:port).
pub fn member_of(id: u64, name: &str, addr: &str) -> Member {
    let url = format!("http://{addr}");
    Member {
        name: name.to_owned(),
        member_id: id,
        peer_urls: vec![url.clone()],
        client_urls: vec![url],
        binary_version: version::TIKV_VERSION.to_owned(),
        git_hash: version::BUILD.to_owned(),
        ..Member::default()
    }
}
