//! The founding of a cluster, and how a node finds out whether it is a founder.
//!
//! At its first start, every node of `initial-cluster` asks all the others for their identity:
//! - if a node already belongs to a cluster and its founders' list **contains my UUID**, I am that founder and was
//!   interrupted;
//! - if a node does and its list does **not** contain my UUID (my disk is new), I join as a new store;
//! - if **all** the others answered and none belongs to a cluster, they and I are the founders. Every founder computes
//!   the same list (sorted by name) and from it the same cluster ID.
//!
//! A node whose disk was lost can therefore never take its old place: that would need all others to be new as well. The
//! price is that the first start of a cluster needs every founder to be up.

use std::time::Duration;

use bytes::Bytes;

use crate::codec;
use crate::codec::keyspace::{self, Mode, Prefix};
use crate::proto::armilla::pd::cluster_client::ClusterClient;
use crate::proto::armilla::pd::{HelloReply, HelloRequest};
use crate::rt::Env;
use crate::rt::rng::hash_label;
use crate::types::{Api, Error, Result};

use super::config::Config;
use super::ident::{Ident, Member};

/// Interval between two rounds of asking.
const RETRY: Duration = Duration::from_millis(200);
/// Timeout of one request.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Returns the cluster's ID. It follows from the founders' UUIDs, from the number of those that run the placement
/// driver and from the API version, so that nodes which disagree on one of them belong to different clusters. It is
/// never 0 and fits into 63 bits.
pub fn cluster_id(founders: &[Member], pd_members: u32, api: Api) -> u64 {
    let id = founders.iter().fold(0x61_726d_696c_6c61, |id, member| hash_label(id, &member.uuid));
    let id = hash_label(id, &format!("pd members {pd_members}"));
    let id = if api == Api::V1 { id } else { hash_label(id, &format!("api version {}", api.number())) };
    (id >> 1).max(1)
}

/// Asks one node for its identity.
///
/// # Errors
/// If the node does not answer.
pub async fn hello(env: &Env, addr: &str, ident: &Ident) -> Result<HelloReply> {
    let mut client = ClusterClient::new(env.net.channel(addr)?);
    let request = HelloRequest { name: ident.name.clone(), cluster_id: ident.cluster_id };
    let reply = env.clock.timeout(TIMEOUT, client.hello(request)).await;
    let reply = reply.map_err(|_| Error::Timeout(format!("{addr} does not answer")))?;
    reply.map(tonic::Response::into_inner).map_err(|status| Error::Io(format!("{addr}: {}", status.message())))
}

/// Adopts the identity of an existing cluster from a member's reply.
fn join(ident: &mut Ident, reply: &HelloReply) {
    ident.cluster_id = reply.cluster_id;
    ident.pd_members = reply.pd_members;
    ident.set_api_version(api_version(reply));
    ident.founders = reply
        .founders
        .iter()
        .map(|f| Member { name: f.name.clone(), uuid: f.uuid.clone(), addr: f.addr.clone() })
        .collect();
}

/// Returns the API version that a node tells.
fn api_version(reply: &HelloReply) -> u32 {
    match reply.api_version {
        0 => Api::V1.number(),
        told => told,
    }
}

/// Checks that this node's configuration does not ask for another API version than the cluster's.
pub fn check_api(config: &Config, cluster: &Ident) -> Result<()> {
    let api = cluster.api()?;
    match config.api_version {
        Some(asked) if asked != api.number() => Err(Error::Invalid(format!(
            "api_version is {asked} at node `{}`, but cluster {} was founded with API version {}, which never changes: \
             remove the option, or found a new cluster and copy the data",
            config.name,
            cluster.cluster_id,
            api.number()
        ))),
        _ => Ok(()),
    }
}

/// Checks that a node which belongs to no cluster is the listed one and can found a cluster with this node.
fn fits(
    ident: &Ident,
    (pd_members, api): (u32, Api),
    (name, addr): &(String, String),
    reply: &HelloReply,
) -> Result<()> {
    if reply.name != *name {
        return Err(Error::Invalid(format!(
            "initial-cluster says that node `{name}` is at {addr}, but the node there is called `{}`: correct the list of \
             node `{}`, or the name there",
            reply.name, ident.name
        )));
    }
    if reply.uuid == ident.uuid {
        return Err(Error::Invalid(format!(
            "node `{name}` at {addr} uses a copy of the data directory of node `{}`: give each node its own",
            ident.name
        )));
    }
    if reply.pd_members != pd_members {
        return Err(Error::Invalid(format!(
            "pd_members is {pd_members} at node `{}`, but {} at node `{name}` ({addr}): all nodes of a first start \
             must use the same value",
            ident.name, reply.pd_members
        )));
    }
    let other = api_version(reply);
    if other != api.number() {
        return Err(Error::Invalid(format!(
            "api_version is {} at node `{}`, but {other} at node `{name}` ({addr}): all nodes of a first start must use \
             the same value",
            api.number(),
            ident.name
        )));
    }
    Ok(())
}

/// Returns the encoded keys at which the first regions of a new cluster start.
pub fn boundaries(config: &Config, api: Api) -> Vec<Bytes> {
    let regions = config.initial_regions.max(1);
    // Spread over the first two bytes, because nothing is known about future keys.
    let spread = || (1..regions).map(|i| Bytes::copy_from_slice(&((i * 65536 / regions) as u16).to_be_bytes()));
    let keys: Vec<Bytes> = match &config.split_keys[..] {
        [] => spread().collect(),
        keys => keys.iter().map(|key| Bytes::copy_from_slice(key.as_bytes())).collect(),
    };
    if api == Api::V1 {
        return keys.iter().map(|key| codec::bytes::encode(key)).collect();
    }
    let modes = [Mode::Raw, Mode::Txn].map(|mode| Prefix { mode, keyspace: keyspace::DEFAULT });
    let inside = modes.iter().flat_map(|prefix| keys.iter().map(|key| codec::bytes::encode(&prefix.on(key))));
    keyspace::boundaries(keyspace::DEFAULT).into_iter().chain(inside).collect()
}

/// Returns how many of the founders run the placement driver.
pub fn pd_members_of(config: &Config) -> u32 {
    config.pd_members.min(config.initial_cluster.len()) as u32
}

/// Finds out which cluster this node belongs to, and keeps asking until it knows.
///
/// # Errors
/// [`Error::Invalid`] if the nodes asked belong to different clusters, if founders disagree on names, addresses, the
/// API version or the number of nodes that run the placement driver, or if the cluster has another API version than
/// this node is configured for.
pub async fn found_or_join(env: &Env, ident: &mut Ident, config: &Config) -> Result<()> {
    let (pd_members, api) = (pd_members_of(config), config.founded_api());
    let others: Vec<(String, String)> = match &config.join {
        Some(addr) => vec![(String::new(), addr.clone())],
        None => config.initial_cluster.iter().filter(|(name, _)| *name != ident.name).cloned().collect(),
    };
    let mut rounds = 0;
    loop {
        let asked = others.iter().map(|(_, addr)| hello(env, addr, ident));
        let replies = futures::future::join_all(asked).await;
        let clusters: std::collections::BTreeSet<u64> =
            replies.iter().flatten().map(|reply| reply.cluster_id).filter(|id| *id != 0).collect();
        if clusters.len() > 1 {
            return Err(Error::Invalid(format!(
                "the nodes of the initial cluster belong to different clusters ({clusters:?}): point them at data \
                 directories of one cluster, or at empty ones"
            )));
        }
        if let Some(reply) = replies.iter().flatten().find(|reply| reply.cluster_id != 0) {
            join(ident, reply);
            return check_api(config, ident);
        }
        if config.join.is_none() {
            for (other, reply) in others.iter().zip(&replies) {
                if let Ok(reply) = reply {
                    fits(ident, (pd_members, api), other, reply)?;
                }
            }
        }
        if config.join.is_none() && replies.iter().all(Result::is_ok) {
            let mut founders: Vec<Member> = others
                .iter()
                .zip(replies.iter().flatten())
                .map(|((name, addr), reply)| Member {
                    name: name.clone(),
                    uuid: reply.uuid.clone(),
                    addr: addr.clone(),
                })
                .collect();
            let own = config.initial_cluster.iter().find(|(name, _)| *name == ident.name);
            let (name, addr) = own.ok_or_else(|| {
                Error::Invalid(format!("initial-cluster does not list this node's own name `{}`", ident.name))
            })?;
            founders.push(Member { name: name.clone(), uuid: ident.uuid.clone(), addr: addr.clone() });
            founders.sort_by(|a, b| a.name.cmp(&b.name));
            ident.cluster_id = cluster_id(&founders, pd_members, api);
            ident.pd_members = pd_members;
            ident.set_api_version(api.number());
            ident.founders = founders;
            return Ok(());
        }
        rounds += 1;
        if rounds % 25 == 5 {
            log_missing_nodes(config, &others, &replies);
        }
        env.clock.sleep(RETRY).await;
    }
}

/// Logs why there is no cluster yet.
fn log_missing_nodes(config: &Config, others: &[(String, String)], replies: &[Result<HelloReply>]) {
    if let Some(addr) = &config.join {
        match &replies[0] {
            Err(error) => tracing::warn!(%error, "waiting for the node to join at {addr}"),
            Ok(reply) => {
                tracing::warn!(node = reply.name, "the node to join at {addr} does not belong to a cluster yet");
            }
        }
        return;
    }
    let missing: Vec<&str> =
        others.iter().zip(replies).filter(|(_, reply)| reply.is_err()).map(|((_, addr), _)| addr.as_str()).collect();
    tracing::info!(?missing, "the first start of a cluster waits for all of its nodes");
}

#[cfg(test)]
mod tests {
    //! **Goal**: nodes that disagree do not found a cluster. **Method**: one disagreement at a time.

    use super::*;

    #[test]
    fn founders_must_agree() {
        let ident = Ident { name: "n1".into(), uuid: "u1".into(), ..Ident::new(String::new(), String::new()) };
        let other = ("n2".to_owned(), "h:2".to_owned());
        let reply = HelloReply { name: "n2".into(), uuid: "u2".into(), pd_members: 3, ..HelloReply::default() };
        fits(&ident, (3, Api::V1), &other, &reply).unwrap();
        let refused = |reply: HelloReply, words: [&str; 2]| {
            let error = fits(&ident, (3, Api::V1), &other, &reply).unwrap_err().to_string();
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
        };
        refused(HelloReply { pd_members: 1, ..reply.clone() }, ["is 3 at node `n1`", "1 at node `n2`"]);
        refused(HelloReply { api_version: 2, ..reply.clone() }, ["api_version is 1 at", "2 at node `n2`"]);
        refused(HelloReply { name: "n3".into(), ..reply.clone() }, ["`n2` is at h:2", "called `n3`"]);
        refused(HelloReply { uuid: "u1".into(), ..reply }, ["copy", "n2"]);
    }

    #[test]
    fn the_api_version_of_a_cluster_never_changes() {
        let of = |api_version| Ident { cluster_id: 7, api_version, ..Ident::new(String::new(), String::new()) };
        let asks = |api_version| Config { api_version, ..Config::default() };
        for (asked, has) in [(None, 1), (None, 2), (Some(1), 1), (Some(2), 2)] {
            check_api(&asks(asked), &of(has)).unwrap();
        }
        for (asked, has) in [(1, 2), (2, 1)] {
            let why = check_api(&asks(Some(asked)), &of(has)).unwrap_err().to_string();
            assert!(why.contains(&format!("api_version is {asked}")), "{why}");
            assert!(why.contains(&format!("API version {has}")), "{why}");
        }
        assert!(check_api(&asks(None), &of(3)).unwrap_err().to_string().contains("newer"));
    }

    #[test]
    fn the_first_regions_are_spread_over_the_keys_that_there_will_be() {
        let config = Config { split_keys: vec!["k".into()], ..Config::default() };
        assert_eq!(boundaries(&config, Api::V1), [codec::bytes::encode(b"k")]);
        let two = boundaries(&config, Api::V2);
        let plain: Vec<Bytes> = two.iter().map(|key| codec::bytes::decode(key).unwrap()).collect();
        let expected: [&[u8]; 6] = [b"r\0\0\0", b"r\0\0\x01", b"x\0\0\0", b"x\0\0\x01", b"r\0\0\0k", b"x\0\0\0k"];
        assert_eq!(plain, expected);
        let spread = Config { initial_regions: 4, ..Config::default() };
        assert_eq!((boundaries(&spread, Api::V1).len(), boundaries(&spread, Api::V2).len()), (3, 4 + 6));
    }

    #[test]
    fn the_id_tells_who_carries_the_placement_driver() {
        let member = |n: &str| Member { name: n.into(), uuid: n.into(), addr: n.into() };
        let founders = [member("a"), member("b"), member("c")];
        let id = |founders: &[Member], pd_members| cluster_id(founders, pd_members, Api::V1);
        assert_ne!(id(&founders, 1), id(&founders, 3));
        assert_ne!(id(&founders, 1), id(&founders[1..], 1));
        assert_ne!(id(&founders, 3), cluster_id(&founders, 3, Api::V2));
        assert_eq!(id(&founders, 3) >> 63, 0);
    }
}
