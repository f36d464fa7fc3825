//! The members of PD: which of them is the leader, and how they are asked.
//!
//! All clones of a client share one discovery at a time. A discovery asks one member, and asks the others only if the
//! first does not help or does not answer within a moment. Until a leader has served a call, the pauses between
//! discoveries grow, so that the waiting clients do not flood a cluster whose placement driver has no leader.

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
use crate::types::limits::{MEMBERS_KNOWN_MAX, MESSAGE_BYTES_MAX};

/// How long one call to one member may take.
pub(super) const ATTEMPT: Duration = Duration::from_secs(2);
/// How long a member may take to answer a discovery.
const DISCOVERY: Duration = Duration::from_millis(800);
/// How long the first member may take before the others are asked as well.
const HEDGE: Duration = Duration::from_millis(30);
/// The pause between two discoveries, as long as no leader serves.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);

type Found = Result<pdpb::GetMembersResponse, String>;
type Discovery = BoxFuture<'static, Found>;

/// State that all clones of a client share.
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
    /// The member that last failed to act as the leader.
    failed: Option<String>,
    /// Whether the client belongs to a node: see [`NODE_CALLER`].
    by_node: bool,
    /// Index, in the order of addresses, of the member that is asked first. Increases when that member did not help.
    first: usize,
}

/// The discoveries of a client.
#[derive(Debug)]
struct Search {
    under_way: Option<WeakShared<Discovery>>,
    backoff: Backoff,
    /// The next discovery does not begin earlier.
    not_before: Instant,
}

impl Search {
    fn new() -> Search {
        Search { under_way: None, backoff: Backoff::new(PAUSE_MIN, PAUSE_MAX), not_before: Instant::default() }
    }
}

/// The members that a discovery asks, and what is known before it begins.
struct Round {
    /// The members in the order in which they are asked, without the one that failed.
    addrs: Vec<String>,
    failed: Option<String>,
    cluster_id: u64,
    header: pdpb::RequestHeader,
}

/// The answers of a discovery.
#[derive(Default)]
struct Answers {
    whys: Vec<String>,
    /// An answer that names the leader that has just failed.
    second_best: Option<pdpb::GetMembersResponse>,
    /// Members that were named without a leader.
    named: Vec<pdpb::Member>,
}

impl Answers {
    /// Takes one member's answer. Returns it if it settles who the leader is.
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
            self.whys.push(format!("the answer is from cluster {id}, not from {}", round.cluster_id));
            return None;
        }
        match answer.leader.as_ref().and_then(member_address) {
            None => {
                self.whys.push("the placement driver has no leader at the moment".into());
                self.named.extend(answer.members);
            }
            Some(leader) if round.failed.as_ref() == Some(&leader) => self.second_best = Some(answer),
            Some(_) => return Some(answer),
        }
        None
    }
}

impl Members {
    /// Creates the members of the cluster to which `endpoints` belong. Dials nothing yet.
    pub(super) fn new(net: Net, clock: Clock, endpoints: &[String]) -> Members {
        let endpoints: Vec<String> = endpoints.iter().map(|endpoint| address(endpoint)).collect();
        let rng = Mutex::new(Rng::fork(0, &endpoints.join(",")));
        let search = Mutex::new(Search::new());
        Members { clock, channels: Channels::new(net), endpoints, known: Mutex::default(), search, rng }
    }

    /// Replaces the generator of jitter.
    pub(super) fn seed(&self, mut rng: Rng) {
        // Different clients begin with different members.
        self.known.lock().expect("no holder panics").first = rng.below(1 << 16) as usize;
        *self.rng.lock().expect("no holder panics") = rng;
    }

    /// Notes the members that the leader named.
    pub(super) fn heard_of(&self, members: Vec<pdpb::Member>) {
        if !members.is_empty() && !crate::mutant!("client.keeps-first-members") {
            self.known.lock().expect("no holder panics").members = members;
        }
    }

    /// Notes members that nodes without one named. They may have heard less than this client.
    fn also_heard_of(&self, members: Vec<pdpb::Member>) {
        let mut known = self.known.lock().expect("no holder panics");
        for member in members {
            let is_new = known.members.iter().all(|one| member_address(one) != member_address(&member));
            if is_new && known.members.len() < MEMBERS_KNOWN_MAX && !crate::mutant!("client.keeps-first-members") {
                known.members.push(member);
            }
        }
    }

    /// Returns the members that were named last.
    pub(super) fn known(&self) -> Vec<pdpb::Member> {
        self.known.lock().expect("no holder panics").members.clone()
    }

    /// Marks the client as that of a node of the cluster.
    pub(super) fn of_node(&self, cluster_id: u64) {
        let mut known = self.known.lock().expect("no holder panics");
        known.cluster_id = cluster_id;
        known.by_node = true;
    }

    pub(super) fn is_of_node(&self) -> bool {
        self.known.lock().expect("no holder panics").by_node
    }

    /// Returns the cluster's id; 0 while it is not known.
    pub(super) fn cluster_id(&self) -> u64 {
        self.known.lock().expect("no holder panics").cluster_id
    }

    /// Returns the time left until `until`.
    pub(super) fn left(&self, until: Instant) -> Duration {
        until.since(self.clock.now())
    }

    /// Waits before the next attempt. Fails if the deadline has passed.
    pub(super) async fn wait(&self, backoff: &mut Backoff, until: Instant, at_least: Duration) -> Result<(), ()> {
        let left = self.left(until);
        let wait = backoff.next(&mut self.rng.lock().expect("no holder panics"), left).ok_or(())?;
        self.clock.sleep(wait.max(at_least).min(left)).await;
        if self.left(until).is_zero() { Err(()) } else { Ok(()) }
    }

    /// Makes one call, which may take at most `limit`. Drops the connection if there was no answer.
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

    /// Returns a stub for calls that may take at most `limit`.
    pub(super) fn stub(&self, addr: &str, limit: Duration) -> Result<Stub<Limited>, Status> {
        let channel = Limited::new(self.channel(addr)?, limit);
        Ok(Stub::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX))
    }

    /// Returns a stub for streams.
    pub(super) fn streams(&self, addr: &str) -> Result<Stub<Limited>, Status> {
        Ok(Stub::new(Limited::endless(self.channel(addr)?)).max_decoding_message_size(MESSAGE_BYTES_MAX))
    }

    /// Returns a stub for calls that only Armilla's placement driver has.
    pub(super) fn cluster_stub(&self, addr: &str) -> Result<ClusterClient<Limited>, Status> {
        Ok(ClusterClient::new(Limited::new(self.channel(addr)?, ATTEMPT)).max_decoding_message_size(MESSAGE_BYTES_MAX))
    }

    /// Returns the leader's address and the cluster's id. Asks the members if they are not known.
    pub(super) async fn leader(self: &Arc<Self>) -> Result<(String, u64), String> {
        {
            let known = self.known.lock().expect("no holder panics");
            if let Some(leader) = &known.leader {
                return Ok((leader.clone(), known.cluster_id));
            }
        }
        let answer = self.discover().await?;
        let leader =
            answer.leader.as_ref().and_then(member_address).ok_or("the placement driver's leader has no address")?;
        Ok((leader, answer.header.map_or(0, |header| header.cluster_id)))
    }

    /// Notes that `addr` did not act as the leader.
    pub(super) fn lost_leader(&self, addr: &str) {
        let mut known = self.known.lock().expect("no holder panics");
        if known.leader.as_deref() == Some(addr) {
            known.leader = None;
            known.failed = Some(addr.to_owned());
        }
    }

    /// Notes that the leader served a call: the next discovery, if one is needed, begins at once.
    pub(super) fn served(&self) {
        let mut search = self.search.lock().expect("no holder panics");
        if search.not_before != Instant::default() {
            search.backoff = Backoff::new(PAUSE_MIN, PAUSE_MAX);
            search.not_before = Instant::default();
        }
    }

    /// Finds the leader. Joins the discovery that is in progress, if there is one.
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

    /// Runs one discovery, including the pause before it.
    async fn search(self: Arc<Self>) -> Found {
        let pause = self.left(self.search.lock().expect("no holder panics").not_before);
        if !pause.is_zero() {
            self.clock.sleep(pause).await;
        }
        let found = self.ask().await;
        let mut search = self.search.lock().expect("no holder panics");
        // From here on, callers start a new discovery: this one's result may already be outdated.
        search.under_way = None;
        let pause = search.backoff.next(&mut self.rng.lock().expect("no holder panics"), PAUSE_MAX);
        search.not_before = self.clock.now().plus(pause.unwrap_or(PAUSE_MAX));
        found
    }

    /// Asks one member, then the others. The first answer counts, unless it names the leader that just failed: a member
    /// that is cut off remembers an old leader, so the other answers are awaited.
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
            // The next discovery begins with another member.
            let mut known = self.known.lock().expect("no holder panics");
            known.first = known.first.wrapping_add(1);
        }
        asked.extend(others.map(|addr| self.ask_one(addr, &round)));
        while let Some(answer) = asked.next().await {
            if let Some(found) = answers.take(&round, answer) {
                return Ok(self.learn(found));
            }
        }
        // Nodes that have no member any more name those that they have heard of: the next discovery asks them, too.
        self.also_heard_of(std::mem::take(&mut answers.named));
        // The failed leader itself is asked only if no other member knows a leader.
        if let (Some(failed), None) = (&round.failed, &answers.second_best)
            && let Some(found) = answers.take(&round, self.ask_one(failed, &round).await)
        {
            return Ok(self.learn(found));
        }
        match answers.second_best {
            Some(answer) => Ok(self.learn(answer)),
            None if answers.whys.is_empty() => Err("no placement driver endpoint is configured".into()),
            None => Err(answers.whys.join("; ")),
        }
    }

    /// Returns the members to ask now, in order.
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

    /// Asks one member who the leader is.
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

/// Returns the `host:port` of a URL.
fn address(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.trim_end_matches('/').to_owned()
}

/// Returns a member's address for clients.
pub(super) fn member_address(member: &pdpb::Member) -> Option<String> {
    member.client_urls.first().map(|url| address(url)).filter(|addr| !addr.is_empty())
}

/// Returns a status, and the causes behind it, as text.
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
    //! Goal: members are asked in a useful order, and the right answer counts.
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
            [
                "the placement driver has no leader at the moment",
                "the answer is from cluster 8, not from 7",
                "b:1: refused"
            ]
        );
        assert!(answers.take(&round, answer(7, "b:1")).is_some());
    }
}
