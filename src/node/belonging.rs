//! Which cluster this node belongs to and what its place there is: asked at the start, and asked on while nobody answers.
//!
//! A node starts alone when the others are down: its data directory says where it belongs. That the directory is that of the
//! configured cluster is checked with the first configured nodes that answer, at the start or later. Of two nodes that name each
//! other and belong to different clusters neither can know which is in the wrong place: the one that starts refuses to, and the one
//! that runs stops, unless a third is of its cluster. Neither could have served, having no quorum.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::client::{Error as ClientError, PdClient};
use crate::pd::bootstrap::Founding;
use crate::proto::armilla::pd::{HelloReply, HelloRequest, RegisterStoreRequest, StoreInfo};
use crate::replica::Handle;
use crate::replica::transport::Addresses;
use crate::rt::clock::{Clock, Instant};
use crate::rt::sync::watch;
use crate::types::{Error, Result, version};

use super::ident::Ident;
use super::{Starting, founding};

/// Between two tries to register with PD, at first and at most.
const REGISTER_RETRY: Duration = Duration::from_millis(100);
const REGISTER_RETRY_MAX: Duration = Duration::from_secs(5);
/// Between two rounds of asking the configured nodes which cluster this is.
const ASK_ON: Duration = Duration::from_secs(1);
/// Rounds in which only nodes of another cluster answered: so many end a start (the own cluster's nodes may be starting, too), so
/// many a store that runs (less, so that it makes way for one that starts).
const OTHERS_AT_START: u32 = 5;
const OTHERS_LATER: u32 = 3;
/// How often somebody who waits is told why.
const TELL: Duration = Duration::from_secs(5);

/// Tells of askers that belong to another cluster.
pub(super) struct Stranger {
    clock: Clock,
    told: Mutex<Option<Instant>>,
}

impl Stranger {
    pub(super) fn new(clock: &Clock) -> Stranger {
        Stranger { clock: clock.clone(), told: Mutex::new(None) }
    }

    /// Somebody asks who this node is.
    pub(super) fn asks(&self, ident: &Ident, request: &HelloRequest) {
        if request.cluster_id == 0 || ident.cluster_id == 0 || request.cluster_id == ident.cluster_id {
            return;
        }
        let now = self.clock.now();
        let mut told = self.told.lock().expect("no holder panics");
        if told.is_none_or(|told| now.since(told) >= TELL) {
            *told = Some(now);
            tracing::warn!(
                "a node `{}` of cluster {} has this node, which belongs to cluster {}, in its configuration: one of the two \
                 has the data directory of another cluster, or the wrong addresses",
                request.name,
                request.cluster_id,
                ident.cluster_id
            );
        }
    }
}

/// Is true every [`TELL`], first after that time.
struct Teller {
    clock: Clock,
    told: Instant,
}

impl Teller {
    fn new(clock: &Clock) -> Teller {
        Teller { clock: clock.clone(), told: clock.now() }
    }

    fn due(&mut self) -> bool {
        let due = self.clock.now().since(self.told) >= TELL;
        if due {
            self.told = self.clock.now();
        }
        due
    }
}

/// What the configured nodes say of this node's cluster.
#[derive(Debug, PartialEq)]
enum Word {
    /// One of them belongs to it.
    Same,
    /// Nobody who belongs to a cluster answered.
    None,
    /// Those who belong to one belong to another; in words.
    Other(String),
}

fn word(ident: &Ident, data_dir: &Path, replies: &[HelloReply]) -> Word {
    let others = replies.iter().filter(|reply| reply.cluster_id != 0);
    let (same, other): (Vec<_>, Vec<_>) = others.partition(|reply| reply.cluster_id == ident.cluster_id);
    let Some(other) = other.first() else { return if same.is_empty() { Word::None } else { Word::Same } };
    let text = format!(
        "the data directory {} belongs to cluster {}, but node `{}` of the configuration to cluster {}: use the directory \
         with its own cluster, or an empty one",
        data_dir.display(),
        ident.cluster_id,
        other.name,
        other.cluster_id
    );
    if same.is_empty() {
        return Word::Other(text);
    }
    tracing::warn!("{text} (other nodes of the configuration belong to the same cluster: this node goes on)");
    Word::Same
}

/// PD's refusal ends the waiting, anything else does not.
fn waits(error: ClientError) -> Result<String> {
    match error {
        ClientError::Refused(why) => Err(Error::Invalid(format!("the placement driver refuses this store: {why}"))),
        error => Ok(error.to_string()),
    }
}

impl Starting {
    /// Finds out which cluster this is, or asks whether it still is the configured one. False when nobody could say.
    pub(super) async fn belong(&self) -> Result<bool> {
        let mut ident = self.ident();
        if ident.cluster_id != 0 {
            let mut others = 0;
            let word = loop {
                match self.ask(&ident).await {
                    Word::Other(text) if others == OTHERS_AT_START => return Err(Error::Invalid(text)),
                    Word::Other(text) if others == 0 => tracing::warn!("{text}"),
                    Word::Other(_) => {}
                    word => break word,
                }
                others += 1;
                self.env.clock.sleep(ASK_ON).await;
            };
            let old = ident.clone();
            ident.take_addresses(&self.config.initial_cluster);
            if ident != old {
                self.save(ident).await?;
            }
            return Ok(word == Word::Same);
        }
        founding::found_or_join(&self.env, &mut ident, &self.config).await?;
        // The list may be older than what a member said: it is no news.
        ident.configured.clone_from(&self.config.initial_cluster);
        ident.take_addresses(&self.config.initial_cluster);
        tracing::info!(cluster = ident.cluster_id, founder = ident.founder_index().is_some(), "belongs to a cluster");
        self.save(ident).await?;
        Ok(true)
    }

    /// Asks the configured nodes once: a data directory of another cluster must not be served as this one's.
    async fn ask(&self, ident: &Ident) -> Word {
        let config = &self.config;
        let others = config.initial_cluster.iter().filter(|(name, _)| *name != ident.name).map(|(_, addr)| addr);
        let asked = others.chain(config.join.as_ref()).map(|addr| founding::hello(&self.env, addr, ident));
        let replies: Vec<HelloReply> = futures::future::join_all(asked).await.into_iter().flatten().collect();
        word(ident, &config.data_dir, &replies)
    }

    /// Asks on until somebody says which cluster this is, and stops the store if it is another.
    pub(super) async fn ask_on(self: Arc<Self>, handle: Handle) {
        if self.config.join.is_none() && self.config.initial_cluster.len() < 2 {
            return;
        }
        let mut others = 0;
        loop {
            self.env.clock.sleep(ASK_ON).await;
            match self.ask(&self.ident()).await {
                Word::None => {}
                Word::Same => return,
                Word::Other(text) => {
                    others += 1;
                    if others == OTHERS_LATER {
                        return handle.stop_serving(text);
                    }
                }
            }
        }
    }

    /// Where the placement driver's members are, as far as known, and the node to join.
    pub(super) fn pd_endpoints(&self) -> Vec<String> {
        let ident = self.ident();
        let own = ident.founder_index();
        let now = ident.founders_now().into_iter().take(ident.pd_members as usize).enumerate();
        let members = now.map(|(index, founder)| match own {
            Some(own) if own == index => self.config.advertised().to_owned(),
            _ => founder.addr,
        });
        members.chain(self.config.join.clone()).collect()
    }

    /// Makes sure that this store has its id: founders know theirs, others ask PD.
    pub(super) async fn store_id(&self, founding: &Founding, pd: &PdClient) -> Result<()> {
        let mut ident = self.ident();
        if ident.store_id != 0 {
            return Ok(());
        }
        if ident.founder_index().is_none() {
            // PD remembers the run that it is told of.
            ident = ident.told(self.history.run);
            self.save(ident.clone()).await?;
        }
        let mut teller = Teller::new(&self.env.clock);
        ident.store_id = match ident.founder_index() {
            Some(index) => founding.stores[index].id,
            None => loop {
                let why = match pd.register_store(self.registration(&ident)).await {
                    Ok(reply) if reply.store_id != 0 => break reply.store_id,
                    Ok(_) => "the cluster is not bootstrapped yet".to_owned(),
                    Err(error) => waits(error)?,
                };
                if teller.due() {
                    tracing::warn!(why, "waits for the placement driver to register this store");
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

    /// Creates what PD gave this store at bootstrap, once; says whether the store can serve.
    pub(super) async fn first_regions(&self, pd: &PdClient, handle: &Handle) -> bool {
        let mut teller = Teller::new(&self.env.clock);
        loop {
            match self.take_first_regions(pd, handle).await {
                Ok(None) => return true,
                Ok(Some(why)) if teller.due() => tracing::warn!(why, "waits for the first regions"),
                Ok(Some(_)) => {}
                Err(error) => handle.stop_serving(error.to_string()),
            }
            if handle.poisoned().is_some() {
                return false;
            }
            self.env.clock.sleep(REGISTER_RETRY).await;
        }
    }

    /// Nothing when it is done, otherwise why it is not done yet.
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

    /// Tells PD where this store is, until PD has heard it.
    pub(super) async fn register_again(&self, pd: &PdClient, handle: &Handle) {
        let ident = self.ident();
        let mut teller = Teller::new(&self.env.clock);
        let mut wait = REGISTER_RETRY;
        loop {
            let why = match pd.register_store(self.registration(&ident)).await {
                Ok(reply) if !reply.must_stop.is_empty() => return handle.stop_serving(reply.must_stop),
                Ok(reply) if reply.store_id == ident.store_id => return,
                Ok(reply) if reply.bootstrapped => {
                    tracing::error!(store = ident.store_id, "PD knows this store as {}", reply.store_id);
                    return;
                }
                Ok(_) => "the cluster is not bootstrapped yet".to_owned(),
                Err(ClientError::Refused(why)) => {
                    tracing::error!(store = ident.store_id, why, "PD refuses to register this store at its address");
                    return;
                }
                Err(error) => error.to_string(),
            };
            if teller.due() {
                tracing::warn!(why, "PD does not know yet that this store is at {}", self.config.advertised());
            }
            self.env.clock.sleep(wait).await;
            wait = (wait * 2).min(REGISTER_RETRY_MAX);
        }
    }

    /// Writes down where the other stores are whenever PD tells something new; ends never. The next start needs it: a quorum of
    /// stores that moved one after the other finds itself only if each remembers where the others went.
    pub(super) async fn keep_addresses(&self, mut learned: watch::Receiver<Addresses>) {
        while learned.changed().await.is_ok() {
            let addresses = learned.borrow_and_update().clone();
            let ident = self.ident();
            if ident.addresses == addresses {
                continue;
            }
            if let Err(error) = self.save(Ident { addresses, ..ident }).await {
                tracing::error!(%error, "the stores' addresses cannot be written down");
            }
        }
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_of_the_own_cluster_counts() {
        let ident = Ident { cluster_id: 7, ..Ident::new("u".into(), "n1".into()) };
        let reply = |name: &str, cluster_id| HelloReply { name: name.into(), cluster_id, ..HelloReply::default() };
        let word = |replies: &[HelloReply]| word(&ident, Path::new("/data"), replies);
        assert_eq!(word(&[]), Word::None);
        assert_eq!(word(&[reply("n2", 0)]), Word::None, "a node that starts knows nothing");
        assert_eq!(word(&[reply("n2", 0), reply("n3", 7)]), Word::Same);
        assert_eq!(word(&[reply("n2", 8), reply("n3", 7)]), Word::Same);
        match word(&[reply("n2", 8), reply("n3", 0)]) {
            Word::Other(text) => {
                assert!(["/data", "cluster 7", "cluster 8", "`n2`"].iter().all(|w| text.contains(w)), "{text}")
            }
            other => panic!("{other:?}"),
        }
    }
}
