//! Tests of the pure parts: golden scripts (`tests/scripts/pd/*.txt`, see [`crate::golden`]) and properties.

mod cluster;
mod schedule;
mod state;
mod tso;

use bytes::Bytes;

use crate::codec;
use crate::golden::{self, Args};
use crate::pd::bootstrap::{Founding, SENTINEL};
use crate::proto::armilla::pd::{Bootstrap, Founder};
use crate::types::Region;

/// Parses `n1=a1 n2=a2 ... members=2 replicas=3 boundaries=g,p`: the initial content of a cluster with these founders.
/// A founder's UUID is its name after `u-`.
fn founding(args: &Args<'_>) -> Result<(Founding, Bootstrap), String> {
    let named = |key: &&&str| !["members", "replicas", "boundaries"].contains(*key);
    let founders: Vec<Founder> = args
        .named
        .iter()
        .filter(|(key, _)| named(key))
        .map(|(name, addr)| Founder { name: (*name).into(), uuid: format!("u-{name}"), addr: (*addr).into() })
        .collect();
    let founding = Founding::new(&founders, args.number_or("members", 3.min(founders.len() as u64)) as usize)?;
    let boundaries: Vec<Bytes> = args
        .text_or("boundaries", "")
        .split(',')
        .filter(|key| !key.is_empty())
        .map(|key| codec::bytes::encode(key.as_bytes()))
        .collect();
    let command = founding.command(args.number_or("replicas", 3) as usize, &boundaries)?;
    Ok((founding, command))
}

/// Formats a key for scripts: decoded if it is an encoding, `-` if empty.
fn key_text(key: &[u8]) -> String {
    if key.is_empty() {
        return "-".into();
    }
    if key == SENTINEL {
        return "sentinel".into();
    }
    codec::bytes::decode(key)
        .map_or_else(|_| format!("{key:02x?}"), |plain| String::from_utf8_lossy(&plain).into_owned())
}

/// Parses a script's key.
fn key_of(text: &str) -> Bytes {
    match text {
        "-" => Bytes::new(),
        "sentinel" => Bytes::from_static(&SENTINEL),
        "max" => Bytes::from_static(&[0xff; 32]),
        _ => codec::bytes::encode(text.as_bytes()),
    }
}

fn region_text(region: &Region) -> String {
    let epoch = region.region_epoch.unwrap_or_default();
    let peers: Vec<String> = region.peers.iter().map(|peer| format!("{}@{}", peer.id, peer.store_id)).collect();
    let (start, end) = (key_text(&region.start_key), key_text(&region.end_key));
    format!(
        "region {} [{start}, {end}) epoch {}/{} peers {}",
        region.id,
        epoch.conf_ver,
        epoch.version,
        peers.join(" ")
    )
}
