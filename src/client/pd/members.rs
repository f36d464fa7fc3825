//! PD's members: which of them leads, and how one of them is asked.
//!
//! All clones of a client share one discovery at a time. It asks one member, and the others only when that one does not help
//! or stays silent for a moment. Until a leader has served a call, one discovery begins later after the other, so that a
//! cluster whose placement driver has no leader is not flooded with questions by everyone who waits for it.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt as _, Shared, WeakShared};
use futures::stream::{FuturesUnordered, StreamExt as _};
use tonic::{Response, Status};

use crate::client::backoff::Backoff;
use crate::client::channels::{Channels, Limited};
use crate::proto::armilla::pd::cluster_client::ClusterClient;
use crate::proto::pdpb;
use crate::proto::pdpb::pd_client::PdClient as Stub;
use crate::rt::clock::{Clock, Instant};
use crate::rt::net::{Channel, Net};
use crate::rt::rng::Rng;
use crate::types::NODE_CALLER;
use crate::types::limits::MESSAGE_BYTES_MAX;

/// How long one call to one member may take.
pub(super) const ATTEMPT: Duration = Duration::from_secs(2);
/// How long the members have to say who leads.
const DISCOVERY: Duration = Duration::from_millis(800);
/// How long the member that is asked first has before the others are asked, too.
const HEDGE: Duration = Duration::from_millis(30);
/// From one discovery's end to the next one's begin, as long as no leader serves.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);

type Found = Result<pdpb::GetMembersResponse, String>;
type Discovery = BoxFuture<'static, Found>;

/// What all clones of a client share.
#[derive(Debug)]
pub(super) struct Members {
    pub(super) clock: Clock,
    channels: Channels,
    endpoints: Vec<String>,
    known: Mutex<Known>,
    search: Mutex<Search>,
    rng: Mutex<Rng>,
}

#[derive(Debug, Default)]
struct Known {
    cluster_id: u64,
    members: Vec<pdpb::Member>,
    leader: Option<String>,
    /// Who last failed to act as the leader.
    failed: Option<String>,
    /// A node asks for itself: see [`NODE_CALLER`].
    by_node: bool,
    /// Which of the members is asked first, counted in order of their addresses; grows when that one did not help.
    first: usize,
}

/// The discoveries of a client.
#[derive(Debug)]
struct Search {
    under_way: Option<WeakShared<Discovery>>,
    backoff: Backoff,
    /// The next discovery does not begin before.
    not_before: Instant,
}

impl Search {
    fn new() -> Search {
        Search { under_way: None, backoff: Backoff::new(PAUSE_MIN, PAUSE_MAX), not_before: Instant::default() }
    }
}

/// Whom a discovery asks, and what it knows before it begins.
struct Round {
    /// The member that is asked first, then the others; without the one that failed.
    addrs: Vec<String>,
    failed: Option<String>,
    cluster_id: u64,
    header: pdpb::RequestHeader,
}

/// What the answers of a discovery come to.
#[derive(Default)]
struct Answers {
    whys: Vec<String>,
    /// An answer that names the leader that has just failed.
    second_best: Option<pdpb::GetMembersResponse>,
}

impl Answers {
    /// Takes one member's answer; returns it if it settles who leads.
    fn take(
        &mut self,
        round: &Round,
        answer: Result<pdpb::GetMembersResponse, Status>,
    ) -> Option<pdpb::GetMembersResponse> {
        let answer = match answer {
            Ok(answer) => answer,
            Err(status) => {
                self.whys.push(status.message().to_owned());
                return None;
            }
        };
        let id = answer.header.as_ref().map_or(0, |header| header.cluster_id);
        if id == 0 || (round.cluster_id != 0 && id != round.cluster_id) {
            self.whys.push(format!("an answer of cluster {id}, not of {}", round.cluster_id));
            return None;
        }
        match answer.leader.as_ref().and_then(member_address) {
            None => self.whys.push("no leader of the placement driver at the moment".into()),
            Some(leader) if round.failed.as_ref() == Some(&leader) => self.second_best = Some(answer),
            Some(_) => return Some(answer),
        }
        None
    }
}

impl Members {
    /// Of the cluster that any of `endpoints` belongs to. Nothing is dialed yet.
    pub(super) fn new(net: Net, clock: Clock, endpoints: &[String]) -> Members {
        let endpoints: Vec<String> = endpoints.iter().map(|endpoint| address(endpoint)).collect();
        let rng = Mutex::new(Rng::fork(0, &endpoints.join(",")));
        let search = Mutex::new(Search::new());
        Members { clock, channels: Channels::new(net), endpoints, known: Mutex::default(), search, rng }
    }

    /// Replaces the generator of jitter.
    pub(super) fn seed(&self, mut rng: Rng) {
        // Clients begin with different members.
        self.known.lock().expect("no holder panics").first = rng.below(1 << 16) as usize;
        *self.rng.lock().expect("no holder panics") = rng;
    }

    /// The client belongs to a node of that cluster.
    pub(super) fn of_node(&self, cluster_id: u64) {
        let mut known = self.known.lock().expect("no holder panics");
        known.cluster_id = cluster_id;
        known.by_node = true;
    }

    pub(super) fn is_of_node(&self) -> bool {
        self.known.lock().expect("no holder panics").by_node
    }

    /// The cluster's id; 0 while it is not known.
    pub(super) fn cluster_id(&self) -> u64 {
        self.known.lock().expect("no holder panics").cluster_id
    }

    /// Time until `until`.
    pub(super) fn left(&self, until: Instant) -> Duration {
        until.since(self.clock.now())
    }

    /// Waits before the next attempt; an error when the deadline has come.
    pub(super) async fn wait(&self, backoff: &mut Backoff, until: Instant, at_least: Duration) -> Result<(), ()> {
        let left = self.left(until);
        let wait = backoff.next(&mut self.rng.lock().expect("no holder panics"), left).ok_or(())?;
        self.clock.sleep(wait.max(at_least).min(left)).await;
        if self.left(until).is_zero() { Err(()) } else { Ok(()) }
    }

    /// One call, at most `limit` long. A connection that gave no answer is dropped.
    pub(super) async fn attempt<A>(
        &self,
        addr: &str,
        limit: Duration,
        call: impl Future<Output = Result<Response<A>, Status>>,
    ) -> Result<A, Status> {
        match self.clock.timeout(limit, call).await {
            Ok(Ok(reply)) => Ok(reply.into_inner()),
            Ok(Err(status)) => Err(status),
            Err(_) => {
                self.channels.forget(addr);
                Err(Status::deadline_exceeded(format!("no answer within {limit:?}")))
            }
        }
    }

    fn channel(&self, addr: &str) -> Result<Channel, Status> {
        self.channels.get(addr).map_err(|error| Status::invalid_argument(error.to_string()))
    }

    /// For calls that are waited for at most `limit`.
    pub(super) fn stub(&self, addr: &str, limit: Duration) -> Result<Stub<Limited>, Status> {
        let channel = Limited::new(self.channel(addr)?, limit);
        Ok(Stub::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX))
    }

    /// For streams.
    pub(super) fn streams(&self, addr: &str) -> Result<Stub<Limited>, Status> {
        Ok(Stub::new(Limited::endless(self.channel(addr)?)).max_decoding_message_size(MESSAGE_BYTES_MAX))
    }

    /// For calls that only Armilla's placement driver has.
    pub(super) fn cluster_stub(&self, addr: &str) -> Result<ClusterClient<Limited>, Status> {
        Ok(ClusterClient::new(Limited::new(self.channel(addr)?, ATTEMPT)).max_decoding_message_size(MESSAGE_BYTES_MAX))
    }

    /// The leader's address and the cluster's id; asks the members when not known.
    pub(super) async fn leader(self: &Arc<Self>) -> Result<(String, u64), String> {
        {
            let known = self.known.lock().expect("no holder panics");
            if let Some(leader) = &known.leader {
                return Ok((leader.clone(), known.cluster_id));
            }
        }
        let answer = self.discover().await?;
        let leader = answer.leader.as_ref().and_then(member_address).ok_or("the leader has no address")?;
        Ok((leader, answer.header.map_or(0, |header| header.cluster_id)))
    }

    /// Takes note that `addr` did not act as the leader.
    pub(super) fn lost_leader(&self, addr: &str) {
        let mut known = self.known.lock().expect("no holder panics");
        if known.leader.as_deref() == Some(addr) {
            known.leader = None;
            known.failed = Some(addr.to_owned());
        }
    }

    /// Takes note that the leader served a call: the next discovery, should one be needed, begins at once.
    pub(super) fn served(&self) {
        let mut search = self.search.lock().expect("no holder panics");
        if search.not_before != Instant::default() {
            search.backoff = Backoff::new(PAUSE_MIN, PAUSE_MAX);
            search.not_before = Instant::default();
        }
    }

    /// Finds out who leads. Joins the discovery that is under way, if there is one.
    pub(super) async fn discover(self: &Arc<Self>) -> Found {
        let discovery: Shared<Discovery> = {
            let mut search = self.search.lock().expect("no holder panics");
            let joined = search.under_way.as_ref().and_then(WeakShared::upgrade);
            joined.unwrap_or_else(|| {
                let begun = self.clone().search().boxed().shared();
                search.under_way = begun.downgrade();
                begun
            })
        };
        discovery.await
    }

    /// One discovery, from its pause to its end.
    async fn search(self: Arc<Self>) -> Found {
        let pause = self.left(self.search.lock().expect("no holder panics").not_before);
        if !pause.is_zero() {
            self.clock.sleep(pause).await;
        }
        let found = self.ask().await;
        let mut search = self.search.lock().expect("no holder panics");
        // Who asks from here on has newer news than this discovery.
        search.under_way = None;
        let pause = search.backoff.next(&mut self.rng.lock().expect("no holder panics"), PAUSE_MAX);
        search.not_before = self.clock.now().plus(pause.unwrap_or(PAUSE_MAX));
        found
    }

    /// Asks one member, then the others. The first answer counts, unless it names the one that just failed: then another is
    /// waited for, since a member that is cut off remembers an old leader.
    async fn ask(&self) -> Found {
        let round = self.round();
        let mut answers = Answers::default();
        let mut asked = FuturesUnordered::new();
        let mut others = round.addrs.iter();
        if let Some(first) = others.next() {
            asked.push(self.ask_one(first, &round));
            let answer = rt_select! {
                answer = asked.next() => answer,
                () = self.clock.sleep(HEDGE) => None,
            };
            if let Some(found) = answer.and_then(|answer| answers.take(&round, answer)) {
                return Ok(self.learn(found));
            }
            // Whoever asks next begins with another one.
            let mut known = self.known.lock().expect("no holder panics");
            known.first = known.first.wrapping_add(1);
        }
        asked.extend(others.map(|addr| self.ask_one(addr, &round)));
        while let Some(answer) = asked.next().await {
            if let Some(found) = answers.take(&round, answer) {
                return Ok(self.learn(found));
            }
        }
        // Who failed as the leader is asked itself only when nobody else can tell.
        if let (Some(failed), None) = (&round.failed, &answers.second_best)
            && let Some(found) = answers.take(&round, self.ask_one(failed, &round).await)
        {
            return Ok(self.learn(found));
        }
        match answers.second_best {
            Some(answer) => Ok(self.learn(answer)),
            None if answers.whys.is_empty() => Err("no endpoint of the placement driver is given".into()),
            None => Err(answers.whys.join("; ")),
        }
    }

    /// Whom to ask now, and in which order.
    fn round(&self) -> Round {
        let known = self.known.lock().expect("no holder panics");
        let members = known.members.iter().filter_map(member_address);
        let mut all: BTreeSet<String> = self.endpoints.iter().cloned().chain(members).collect();
        if let Some(failed) = &known.failed {
            all.remove(failed);
        }
        let mut addrs: Vec<String> = all.into_iter().collect();
        if !addrs.is_empty() {
            let first = known.first % addrs.len();
            addrs.rotate_left(first);
        }
        let caller_component = if known.by_node { NODE_CALLER } else { "" };
        let header = pdpb::RequestHeader { caller_component: caller_component.to_owned(), ..Default::default() };
        Round { addrs, failed: known.failed.clone(), cluster_id: known.cluster_id, header }
    }

    /// One member's answer to who leads.
    async fn ask_one(&self, addr: &str, round: &Round) -> Result<pdpb::GetMembersResponse, Status> {
        let mut stub = self.stub(addr, DISCOVERY)?;
        let request = pdpb::GetMembersRequest { header: Some(round.header.clone()) };
        let answer = self.attempt(addr, DISCOVERY, async move { stub.get_members(request).await }).await;
        answer.map_err(|status| Status::new(status.code(), format!("{addr}: {}", describe(&status))))
    }

    fn learn(&self, answer: pdpb::GetMembersResponse) -> pdpb::GetMembersResponse {
        let mut known = self.known.lock().expect("no holder panics");
        known.cluster_id = answer.header.as_ref().map_or(0, |header| header.cluster_id);
        known.members = answer.members.clone();
        known.leader = answer.leader.as_ref().and_then(member_address);
        known.failed = None;
        answer
    }
}

/// `host:port` of a URL.
fn address(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.trim_end_matches('/').to_owned()
}

/// A member's address for clients.
pub(super) fn member_address(member: &pdpb::Member) -> Option<String> {
    member.client_urls.first().map(|url| address(url)).filter(|addr| !addr.is_empty())
}

/// A status in words.
pub(crate) fn describe(status: &Status) -> String {
    let mut text =
        if status.message().is_empty() { format!("{:?}", status.code()) } else { status.message().to_owned() };
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    //! Goal: members are asked in an order that helps, and the answer that counts is the one that should.
    use super::*;

    #[test]
    fn addresses_lose_their_scheme() {
        for (url, addr) in [("http://h:1", "h:1"), ("h:1", "h:1"), ("https://[::1]:2/", "[::1]:2")] {
            assert_eq!(address(url), addr);
        }
    }

    fn answer(cluster_id: u64, leader: &str) -> Result<pdpb::GetMembersResponse, Status> {
        let header = Some(pdpb::ResponseHeader { cluster_id, ..Default::default() });
        let leader = (!leader.is_empty())
            .then(|| pdpb::Member { client_urls: vec![format!("http://{leader}")], ..Default::default() });
        Ok(pdpb::GetMembersResponse { header, leader, ..Default::default() })
    }

    #[test]
    fn an_answer_that_names_the_failed_leader_is_the_second_best() {
        let round = Round {
            addrs: Vec::new(),
            failed: Some("a:1".into()),
            cluster_id: 7,
            header: pdpb::RequestHeader::default(),
        };
        let mut answers = Answers::default();
        assert!(answers.take(&round, answer(7, "a:1")).is_none() && answers.second_best.is_some());
        assert!(answers.take(&round, answer(7, "")).is_none());
        assert!(answers.take(&round, answer(8, "b:1")).is_none());
        assert!(answers.take(&round, Err(Status::unavailable("b:1: refused"))).is_none());
        assert_eq!(
            answers.whys,
            ["no leader of the placement driver at the moment", "an answer of cluster 8, not of 7", "b:1: refused"]
        );
        assert!(answers.take(&round, answer(7, "b:1")).is_some());
    }
}
