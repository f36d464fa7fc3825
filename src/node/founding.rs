//! How a cluster begins, and how a node finds out whether it belongs to the beginning.
//!
//! At a first start every node of `initial-cluster` asks all the others who they are:
//! - somebody already belongs to a cluster and its founders' list has **my uuid**: I am that founder and was interrupted;
//! - somebody does and the list does **not** have my uuid (my disk is new): I join as a new store;
//! - **all** the others answered and none belongs to a cluster: those who answered, with me, are the founders. Everybody
//!   computes the same list (sorted by name) and from it the same cluster id.
//!
//! A node whose disk was lost can therefore never take its old place: that needs all others to be new, too. The price is
//! that the first start of a cluster needs every founder up.

use std::time::Duration;

use crate::proto::armilla::pd::cluster_client::ClusterClient;
use crate::proto::armilla::pd::{HelloReply, HelloRequest};
use crate::rt::Env;
use crate::rt::rng::hash_label;
use crate::types::{Error, Result};

use super::ident::{Ident, Member};

/// Between two rounds of asking.
const RETRY: Duration = Duration::from_millis(200);
/// One question.
const PATIENCE: Duration = Duration::from_secs(2);

/// The cluster's id: follows from the founders' uuids, never 0, and fits in 63 bits.
pub fn cluster_id(founders: &[Member]) -> u64 {
    let id = founders.iter().fold(0x61_726d_696c_6c61, |id, member| hash_label(id, &member.uuid));
    (id >> 1).max(1)
}

/// Asks one node who it is.
///
/// # Errors
/// When it does not answer.
pub async fn hello(env: &Env, addr: &str, ident: &Ident) -> Result<HelloReply> {
    let mut client = ClusterClient::new(env.net.channel(addr)?);
    let request = HelloRequest { name: ident.name.clone(), uuid: ident.uuid.clone() };
    let reply = env.clock.timeout(PATIENCE, client.hello(request)).await;
    let reply = reply.map_err(|_| Error::Timeout(format!("{addr} does not answer")))?;
    reply.map(tonic::Response::into_inner).map_err(|status| Error::Io(format!("{addr}: {}", status.message())))
}

/// Takes over what a member of an existing cluster says.
fn join(ident: &mut Ident, reply: &HelloReply) {
    ident.cluster_id = reply.cluster_id;
    ident.pd_members = reply.pd_members;
    ident.founders = reply
        .founders
        .iter()
        .map(|f| Member { name: f.name.clone(), uuid: f.uuid.clone(), addr: f.addr.clone() })
        .collect();
}

/// Finds out which cluster this node belongs to; asks until it knows.
///
/// # Errors
/// [`Error::Invalid`] when the nodes asked belong to different clusters.
pub async fn found_or_join(
    env: &Env,
    ident: &mut Ident,
    initial_cluster: &[(String, String)],
    join_addr: Option<&str>,
    pd_members: usize,
) -> Result<()> {
    let mut told = 0;
    loop {
        let mut others: Vec<(String, String)> =
            initial_cluster.iter().filter(|(name, _)| *name != ident.name).cloned().collect();
        if let Some(addr) = join_addr {
            others = vec![(String::new(), addr.to_owned())];
        }
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
            return Ok(());
        }
        if join_addr.is_none() && replies.iter().all(Result::is_ok) {
            let mut founders: Vec<Member> = others
                .iter()
                .zip(replies.iter().flatten())
                .map(|((name, addr), reply)| Member {
                    name: name.clone(),
                    uuid: reply.uuid.clone(),
                    addr: addr.clone(),
                })
                .collect();
            let own = initial_cluster.iter().find(|(name, _)| *name == ident.name);
            let (name, addr) = own.ok_or_else(|| {
                Error::Invalid(format!("initial-cluster does not list this node's own name `{}`", ident.name))
            })?;
            founders.push(Member { name: name.clone(), uuid: ident.uuid.clone(), addr: addr.clone() });
            founders.sort_by(|a, b| a.name.cmp(&b.name));
            ident.cluster_id = cluster_id(&founders);
            ident.pd_members = pd_members.min(founders.len()) as u32;
            ident.founders = founders;
            return Ok(());
        }
        told += 1;
        if told % 25 == 5 {
            let missing: Vec<&str> =
                others.iter().zip(&replies).filter(|(_, r)| r.is_err()).map(|((_, addr), _)| addr.as_str()).collect();
            tracing::info!(?missing, "the first start of a cluster waits for all of its nodes");
        }
        env.clock.sleep(RETRY).await;
    }
}
