//! Finds out which cluster this node belongs to: asks the configured nodes at the start, and later on if none of them
//! answered.
//!
//! A node can start alone while the others are down: its data directory says which cluster it belongs to. Whether that
//! is the configured cluster is checked with the first configured nodes that answer, at the start or later. If two
//! nodes name each other in their configurations but belong to different clusters, neither can know which of them is in
//! the wrong place: the one that starts refuses to, and the running one stops, unless a third node belongs to its
//! cluster. Neither could have served requests, because it has no quorum.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::client::{Error as ClientError, PdClient};
use crate::pd::bootstrap::Founding;
use crate::proto::armilla::pd::{HelloReply, HelloRequest, RegisterStoreRequest, StoreInfo};
use crate::proto::pdpb::Member;
use crate::replica::Handle;
use crate::replica::transport::Addresses;
use crate::rt::clock::{Clock, Instant};
use crate::rt::sync::watch;
use crate::types::limits::ENDPOINTS_OTHERS_MAX;
use crate::types::{Error, Result, version};

use super::ident::Ident;
use super::{Starting, founding};

/// Interval between attempts to register with PD, at first and at most.
const REGISTER_RETRY: Duration = Duration::from_millis(100);
const REGISTER_RETRY_MAX: Duration = Duration::from_secs(5);
/// Interval between rounds of asking the configured nodes which cluster this is.
const ASK_INTERVAL: Duration = Duration::from_secs(1);
/// How many rounds in a row may be answered only by nodes of another cluster. `OTHERS_AT_START`: abort the start (nodes
/// of the own cluster may still be starting). `OTHERS_LATER`, which is smaller: stop the running store, so that it
/// yields to one that is starting.
const OTHERS_AT_START: u32 = 5;
const OTHERS_LATER: u32 = 3;
/// Minimum interval between log messages about the same wait.
const LOG_INTERVAL: Duration = Duration::from_secs(5);

/// Logs requests of nodes that belong to another cluster.
pub(super) struct ForeignNodes {
    clock: Clock,
    last: Mutex<Option<Instant>>,
}

impl ForeignNodes {
    pub(super) fn new(clock: &Clock) -> ForeignNodes {
        ForeignNodes { clock: clock.clone(), last: Mutex::new(None) }
    }

    /// Checks a node's request for this node's identity.
    pub(super) fn check(&self, ident: &Ident, request: &HelloRequest) {
        if request.cluster_id == 0 || ident.cluster_id == 0 || request.cluster_id == ident.cluster_id {
            return;
        }
        let now = self.clock.now();
        let mut last = self.last.lock().expect("no holder panics");
        if last.is_none_or(|last| now.since(last) >= LOG_INTERVAL) {
            *last = Some(now);
            tracing::warn!(
                "node `{}` of cluster {} has this node, which belongs to cluster {}, in its configuration: one of the \
                 two uses another cluster's data directory or wrong addresses",
                request.name,
                request.cluster_id,
                ident.cluster_id
            );
        }
    }
}

/// Limits log messages: due once every [`LOG_INTERVAL`], first after that time.
struct LogLimit {
    clock: Clock,
    last: Instant,
}

impl LogLimit {
    fn new(clock: &Clock) -> LogLimit {
        LogLimit { clock: clock.clone(), last: clock.now() }
    }

    fn due(&mut self) -> bool {
        let due = self.clock.now().since(self.last) >= LOG_INTERVAL;
        if due {
            self.last = self.clock.now();
        }
        due
    }
}

/// The configured nodes' answers about this node's cluster.
#[derive(Debug, PartialEq)]
enum ClusterCheck {
    /// At least one of them belongs to the same cluster.
    Same,
    /// No node that belongs to a cluster answered.
    None,
    /// The nodes that belong to a cluster belong to another one; the text explains this.
    Other(String),
}

fn cluster_check(ident: &Ident, data_dir: &Path, replies: &[HelloReply]) -> ClusterCheck {
    let others = replies.iter().filter(|reply| reply.cluster_id != 0);
    let (same, other): (Vec<_>, Vec<_>) = others.partition(|reply| reply.cluster_id == ident.cluster_id);
    let Some(other) = other.first() else {
        return if same.is_empty() { ClusterCheck::None } else { ClusterCheck::Same };
    };
    let text = format!(
        "the data directory {} belongs to cluster {}, but the configured node `{}` belongs to cluster {}: use the \
         directory with its own cluster, or an empty one",
        data_dir.display(),
        ident.cluster_id,
        other.name,
        other.cluster_id
    );
    if same.is_empty() {
        return ClusterCheck::Other(text);
    }
    tracing::warn!("{text} (other configured nodes belong to the same cluster: this node continues)");
    ClusterCheck::Same
}

/// A refusal by PD ends the wait; for any other error, returns the reason for the wait.
fn waits(error: ClientError) -> Result<String> {
    match error {
        ClientError::Refused(why) => Err(Error::Invalid(format!("the placement driver refuses this store: {why}"))),
        error => Ok(error.to_string()),
    }
}

impl Starting {
    /// Finds out which cluster this node belongs to, or confirms that it is the configured one. Returns `false` if no
    /// node could confirm it.
    pub(super) async fn resolve_cluster(&self) -> Result<bool> {
        let mut ident = self.ident();
        if ident.cluster_id != 0 {
            founding::check_api(&self.config, &ident)?;
            let mut others = 0;
            let check = loop {
                match self.ask(&ident).await {
                    ClusterCheck::Other(text) if others == OTHERS_AT_START => return Err(Error::Invalid(text)),
                    ClusterCheck::Other(text) if others == 0 => tracing::warn!("{text}"),
                    ClusterCheck::Other(_) => {}
                    check => break check,
                }
                others += 1;
                self.env.clock.sleep(ASK_INTERVAL).await;
            };
            let old = ident.clone();
            ident.take_addresses(&self.config.initial_cluster);
            if ident != old {
                self.save(ident).await?;
            }
            return Ok(check == ClusterCheck::Same);
        }
        founding::found_or_join(&self.env, &mut ident, &self.config).await?;
        // The list may be older than a member's answer, so it does not count as a change.
        ident.configured.clone_from(&self.config.initial_cluster);
        ident.take_addresses(&self.config.initial_cluster);
        tracing::info!(cluster = ident.cluster_id, founder = ident.founder_index().is_some(), "joined the cluster");
        self.save(ident).await?;
        Ok(true)
    }

    /// Asks the configured nodes once: another cluster's data directory must not be served as this cluster's.
    async fn ask(&self, ident: &Ident) -> ClusterCheck {
        let config = &self.config;
        let others = config.initial_cluster.iter().filter(|(name, _)| *name != ident.name).map(|(_, addr)| addr);
        let asked = others.chain(config.join.as_ref()).map(|addr| founding::hello(&self.env, addr, ident));
        let replies: Vec<HelloReply> = futures::future::join_all(asked).await.into_iter().flatten().collect();
        cluster_check(ident, &config.data_dir, &replies)
    }

    /// Keeps asking until a node knows which cluster this is, and stops the store if it is another one.
    pub(super) async fn keep_asking(self: Arc<Self>, handle: Handle) {
        if self.config.join.is_none() && self.config.initial_cluster.len() < 2 {
            return;
        }
        let mut others = 0;
        loop {
            self.env.clock.sleep(ASK_INTERVAL).await;
            match self.ask(&self.ident()).await {
                ClusterCheck::None => {}
                ClusterCheck::Same => return,
                ClusterCheck::Other(text) => {
                    others += 1;
                    if others == OTHERS_LATER {
                        return handle.stop_serving(text);
                    }
                }
            }
        }
    }

    /// Returns the addresses at which the placement driver is looked for: those of its last known members and of its
    /// first ones, of some other stores, which know its members, and of the node to join.
    pub(super) fn pd_endpoints(&self) -> Vec<String> {
        let ident = self.ident();
        let own = ident.founder_index();
        let now = ident.founders_now().into_iter().take(ident.pd_members as usize).enumerate();
        let first = now.map(|(index, founder)| match own {
            Some(own) if own == index => self.config.advertised().to_owned(),
            _ => founder.addr,
        });
        let others =
            ident.addresses.iter().filter(|(store, _)| **store != ident.store_id).map(|(_, addr)| addr.clone());
        let mut endpoints: Vec<String> = ident.pd_addresses.clone();
        endpoints.extend(first.chain(self.config.join.clone()));
        if !crate::mutant!("node.asks-first-members-only") {
            endpoints.extend(others.take(ENDPOINTS_OTHERS_MAX));
        }
        endpoints
    }

    /// Makes sure that this store has its ID: founders compute theirs, other stores get it from PD.
    pub(super) async fn store_id(&self, founding: &Founding, pd: &PdClient) -> Result<()> {
        let mut ident = self.ident();
        if ident.store_id != 0 {
            return Ok(());
        }
        if ident.founder_index().is_none() {
            // Saved first, because PD records the incarnation in the request.
            ident = ident.with_run(self.history.run);
            self.save(ident.clone()).await?;
        }
        let mut log_limit = LogLimit::new(&self.env.clock);
        ident.store_id = match ident.founder_index() {
            Some(index) => founding.stores[index].id,
            None => loop {
                let why = match pd.register_store(self.registration(&ident)).await {
                    Ok(reply) if reply.store_id != 0 => break reply.store_id,
                    Ok(_) => "the cluster is not bootstrapped yet".to_owned(),
                    Err(error) => waits(error)?,
                };
                if log_limit.due() {
                    tracing::warn!(why, "waiting for the placement driver to register this store");
                }
                self.env.clock.sleep(REGISTER_RETRY).await;
            },
        };
        self.save(ident).await
    }

    fn registration(&self, ident: &Ident) -> RegisterStoreRequest {
        RegisterStoreRequest {
            cluster_id: ident.cluster_id,
            uuid: ident.uuid.clone(),
            name: ident.name.clone(),
            addr: self.config.advertised().to_owned(),
            protocol: self.config.protocol(),
            incarnation: Some(self.history.run),
            earlier: self.history.earlier.clone(),
            info: Some(StoreInfo {
                version: version::TIKV_VERSION.to_owned(),
                git_hash: version::BUILD.to_owned(),
                start_timestamp_s: self.started_s as i64,
                deploy_path: crate::rt::program_dir(),
            }),
        }
    }

    /// Creates the regions that this store got at the bootstrap, once. Returns whether the store can serve.
    pub(super) async fn first_regions(&self, pd: &PdClient, handle: &Handle) -> bool {
        let mut log_limit = LogLimit::new(&self.env.clock);
        loop {
            match self.take_first_regions(pd, handle).await {
                Ok(None) => return true,
                Ok(Some(why)) if log_limit.due() => tracing::warn!(why, "waiting for the first regions"),
                Ok(Some(_)) => {}
                Err(error) => handle.stop_serving(error.to_string()),
            }
            if handle.poisoned().is_some() {
                return false;
            }
            self.env.clock.sleep(REGISTER_RETRY).await;
        }
    }

    /// Returns `None` when the regions exist, otherwise the reason why they do not exist yet.
    async fn take_first_regions(&self, pd: &PdClient, handle: &Handle) -> Result<Option<String>> {
        let mut ident = self.ident();
        if ident.regions_created {
            return Ok(None);
        }
        let reply = match pd.register_store(self.registration(&ident)).await {
            Ok(reply) if reply.bootstrapped => reply,
            Ok(_) => return Ok(Some("the cluster is not bootstrapped yet".to_owned())),
            Err(error) => return waits(error).map(Some),
        };
        if !reply.must_stop.is_empty() {
            return Err(Error::Stopped(reply.must_stop));
        }
        ident.first_regions = reply.first_regions.len() as u64;
        handle.create(reply.first_regions).await?;
        ident.regions_created = true;
        self.save(ident).await?;
        Ok(None)
    }

    /// Registers this store's address with PD, and retries until PD has accepted it.
    pub(super) async fn register_again(&self, pd: &PdClient, handle: &Handle) {
        let ident = self.ident();
        let mut log_limit = LogLimit::new(&self.env.clock);
        let mut wait = REGISTER_RETRY;
        loop {
            let why = match pd.register_store(self.registration(&ident)).await {
                Ok(reply) if !reply.must_stop.is_empty() => return handle.stop_serving(reply.must_stop),
                Ok(reply) if reply.store_id == ident.store_id => return,
                Ok(reply) if reply.bootstrapped => {
                    tracing::error!(store = ident.store_id, "PD has registered this store with ID {}", reply.store_id);
                    return;
                }
                Ok(_) => "the cluster is not bootstrapped yet".to_owned(),
                Err(ClientError::Refused(why)) => {
                    tracing::error!(store = ident.store_id, why, "PD refused to register this store's address");
                    return;
                }
                Err(error) => error.to_string(),
            };
            if log_limit.due() {
                tracing::warn!(why, "could not register this store's address {} with PD yet", self.config.advertised());
            }
            self.env.clock.sleep(wait).await;
            wait = (wait * 2).min(REGISTER_RETRY_MAX);
        }
    }

    /// Saves the other stores' addresses, and those of the placement driver's members, whenever PD reports a change.
    /// Never returns. The next start needs them: stores that moved one after the other form a quorum again only if each
    /// remembers the new addresses of the others, and none of the first members may be there any more.
    pub(super) async fn keep_addresses(
        &self,
        mut learned: watch::Receiver<Addresses>,
        mut members: watch::Receiver<Vec<Member>>,
        pd: &PdClient,
    ) {
        loop {
            let changed = crate::rt_select! {
                changed = learned.changed() => changed,
                changed = members.changed() => changed,
            };
            if changed.is_err() {
                return std::future::pending().await;
            }
            let addresses = learned.borrow_and_update().clone();
            let named = members.borrow_and_update().clone();
            let mut changed = Ident { addresses, ..self.ident() };
            if !named.is_empty() {
                let urls = named.iter().filter_map(|member| member.client_urls.first());
                changed.pd_addresses = urls.map(|url| url.trim_start_matches("http://").to_owned()).collect();
                pd.heard_of_members(named);
            }
            if self.ident() != changed
                && let Err(error) = self.save(changed).await
            {
                tracing::error!(%error, "could not save the stores' addresses");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_the_own_cluster_counts() {
        let ident = Ident { cluster_id: 7, ..Ident::new("u".into(), "n1".into()) };
        let reply = |name: &str, cluster_id| HelloReply { name: name.into(), cluster_id, ..HelloReply::default() };
        let check = |replies: &[HelloReply]| cluster_check(&ident, Path::new("/data"), replies);
        assert_eq!(check(&[]), ClusterCheck::None);
        assert_eq!(check(&[reply("n2", 0)]), ClusterCheck::None, "a starting node belongs to no cluster yet");
        assert_eq!(check(&[reply("n2", 0), reply("n3", 7)]), ClusterCheck::Same);
        assert_eq!(check(&[reply("n2", 8), reply("n3", 7)]), ClusterCheck::Same);
        match check(&[reply("n2", 8), reply("n3", 0)]) {
            ClusterCheck::Other(text) => {
                assert!(["/data", "cluster 7", "cluster 8", "`n2`"].iter().all(|w| text.contains(w)), "{text}")
            }
            other => panic!("{other:?}"),
        }
    }
}
