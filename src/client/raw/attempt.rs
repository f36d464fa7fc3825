//! One attempt, and the loops around it.
//!
//! ```text
//!   key -> locate (cache, else PD) -> address (known, else PD) -> call -> sort the outcome:
//!     Done      the response
//!     Again     nothing happened, another attempt may succeed
//!     Maybe     no response: a write may have happened
//!     Fail      the request is wrong
//! ```

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use tonic::{Response, Status};

use crate::proto::kvrpcpb::{Context, StoreSafeTsRequest};
use crate::proto::metapb::{Region, Store};
use crate::proto::tikvpb::tikv_client::TikvClient;
use crate::rt::clock::Instant;
use crate::types::limits::{CLIENT_BATCH_BYTES_MAX, CLIENT_BATCH_KEYS_MAX, MESSAGE_BYTES_MAX};

use super::reply::Reply;
use super::{PeerChoice, RawClient};
use crate::client::backoff::Backoff;
use crate::client::channels::Limited;
use crate::client::error::{Error, Failure, Result, failure};
use crate::client::pd::{RegionInfo, describe};
use crate::client::region_cache::{Located, Verdict};

/// Whether a request may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// It only reads.
    Read,
    /// It writes, and writing the same again has the same result.
    Same,
    /// It must not be sent again once it may have had an effect.
    Never,
}

pub(crate) type Stub = TikvClient<Limited>;

/// A region, the items for it, and their bytes.
type Group<T> = (Located, Vec<(Bytes, T)>, usize);

/// How one attempt ended.
enum Outcome<A> {
    Done(A),
    /// Nothing happened. Wait at least this long before the next attempt (zero: the usual backoff; `None`: no wait).
    Again(String, Option<Duration>),
    /// The request may have been carried out.
    Maybe(String),
    Fail(Error),
}

/// The attempts of one request.
struct Attempts<'a> {
    client: &'a RawClient,
    repeat: Repeat,
    until: Instant,
    backoff: Backoff,
    /// Whether an earlier attempt may have had an effect.
    tainted: bool,
    /// How many retries in a row were made without a wait.
    hurried: u32,
}

impl<'a> Attempts<'a> {
    fn new(client: &'a RawClient, repeat: Repeat) -> Attempts<'a> {
        let until = client.shared.clock.now().plus(client.options.deadline);
        let backoff = Backoff::new(Duration::from_millis(4), Duration::from_millis(500));
        Attempts { client, repeat, until, backoff, tainted: false, hurried: 0 }
    }

    fn left(&self) -> Duration {
        self.until.since(self.client.shared.clock.now())
    }

    /// Turns a definite error into [`Error::Unknown`] if an earlier attempt may have had an effect.
    fn error(&self, error: Error) -> Error {
        match error {
            Error::Refused(why) | Error::Unavailable(why) if self.tainted => Error::Unknown(why),
            error => error,
        }
    }

    /// Records a failed attempt and waits before the next one.
    async fn after(&mut self, why: String, wait: Option<Duration>, maybe: bool) -> Result<()> {
        let options = &self.client.options;
        if maybe && self.repeat != Repeat::Read {
            self.tainted = true;
            let again = match self.repeat {
                Repeat::Read => true,
                Repeat::Same => options.retry_unknown || crate::mutant!("client.retry-unknown"),
                Repeat::Never => crate::mutant!("client.retry-unknown"),
            };
            if !again {
                crate::reach!("client.outcome-unknown");
                return Err(Error::Unknown(why));
            }
        }
        if !options.retries {
            return Err(self.error(Error::Unavailable(why)));
        }
        // Limits the retries without a wait: leader hints may send a client in circles.
        self.hurried = if wait.is_none() { self.hurried + 1 } else { 0 };
        if wait.is_none() && self.hurried <= 3 && !self.left().is_zero() && !crate::buggify!("client.never-hurry") {
            return Ok(());
        }
        let left = self.left();
        let pause = {
            let mut rng = self.client.shared.rng.lock().expect("no holder panics");
            self.backoff.next(&mut rng, left)
        };
        if let Some(pause) = pause {
            self.client.shared.clock.sleep(pause.max(wait.unwrap_or_default()).min(left)).await;
        }
        if self.left().is_zero() { Err(self.error(Error::Unavailable(why))) } else { Ok(()) }
    }
}

impl RawClient {
    /// Sends a request for one key.
    pub(crate) async fn one<A, F, Fut>(&self, key: &[u8], repeat: Repeat, call: F) -> Result<A>
    where
        A: Reply,
        F: Fn(Stub, Option<Context>) -> Fut,
        Fut: Future<Output = Result<Response<A>, Status>>,
    {
        let mut attempts = Attempts::new(self, repeat);
        loop {
            let outcome = match self.locate(key, attempts.left()).await {
                Ok(located) => self.attempt(&located, repeat, attempts.left(), &call).await,
                Err(outcome) => outcome,
            };
            match self.settle(&mut attempts, outcome).await? {
                Some(answer) => return Ok(answer),
                None => continue,
            }
        }
    }

    /// Sends a read to the region that holds `key`. Also returns the region.
    pub(crate) async fn above<A, F, Fut>(&self, key: &[u8], call: F) -> Result<(A, Region)>
    where
        A: Reply,
        F: Fn(Stub, Option<Context>, &Region) -> Fut,
        Fut: Future<Output = Result<Response<A>, Status>>,
    {
        let mut attempts = Attempts::new(self, Repeat::Read);
        loop {
            let mut region = Region::default();
            let outcome = match self.locate(key, attempts.left()).await {
                Ok(located) => {
                    region = located.region.clone();
                    let call = |stub, context| call(stub, context, &region);
                    self.attempt(&located, Repeat::Read, attempts.left(), &call).await
                }
                Err(outcome) => outcome,
            };
            if let Some(answer) = self.settle(&mut attempts, outcome).await? {
                return Ok((answer, region));
            }
        }
    }

    /// Sends a read to the region that holds the keys right below `upper`. Also returns the region.
    pub(crate) async fn below<A, F, Fut>(&self, upper: &[u8], call: F) -> Result<(A, Region)>
    where
        A: Reply,
        F: Fn(Stub, Option<Context>, &Region) -> Fut,
        Fut: Future<Output = Result<Response<A>, Status>>,
    {
        let mut attempts = Attempts::new(self, Repeat::Read);
        loop {
            let mut region = Region::default();
            let outcome = match self.locate_before(upper, attempts.left()).await {
                Ok(located) => {
                    region = located.region.clone();
                    let call = |stub, context| call(stub, context, &region);
                    self.attempt(&located, Repeat::Read, attempts.left(), &call).await
                }
                Err(outcome) => outcome,
            };
            if let Some(answer) = self.settle(&mut attempts, outcome).await? {
                return Ok((answer, region));
            }
        }
    }

    /// Sends requests for the parts of the raw range `[start, end)`, region by region. `next` gets a response and the
    /// end of the whole range, and may return the key to continue at; otherwise the next request begins at the region's
    /// end. The range is in routed form, and so is the key to continue at; `call` gets its part in wire form.
    pub(crate) async fn upwards<A, F, Fut, N>(
        &self,
        start: Bytes,
        end: Bytes,
        repeat: Repeat,
        call: F,
        next: N,
    ) -> Result<Vec<A>>
    where
        A: Reply,
        F: Fn(Stub, Option<Context>, Bytes, Bytes) -> Fut,
        Fut: Future<Output = Result<Response<A>, Status>>,
        N: Fn(&mut A, &Bytes) -> Option<Bytes>,
    {
        let mut attempts = Attempts::new(self, repeat);
        let mut answers = Vec::new();
        let mut from = start;
        while from < end {
            let mut to = end.clone();
            let outcome = match self.locate(&from, attempts.left()).await {
                Ok(located) => {
                    if !located.region.end_key.is_empty() {
                        to = to.min(located.region.end_key.clone());
                    }
                    let part = (self.unrouted(from.clone()), self.unrouted(to.clone()));
                    let call = |stub, context| call(stub, context, part.0.clone(), part.1.clone());
                    self.attempt(&located, repeat, attempts.left(), &call).await
                }
                Err(outcome) => outcome,
            };
            if let Some(mut answer) = self.settle(&mut attempts, outcome).await? {
                from = next(&mut answer, &end).unwrap_or(to);
                answers.push(answer);
                // From here on the request has been carried out in part.
                attempts.tainted |= repeat != Repeat::Read;
            }
        }
        Ok(answers)
    }

    /// Sends requests for many keys, each with some data. Groups them by region and sends to all regions at the same
    /// time.
    pub(crate) async fn many<T, A, F, Fut>(
        &self,
        items: Vec<(Bytes, T)>,
        repeat: Repeat,
        bytes: impl Fn(&T) -> usize,
        call: F,
    ) -> Result<Vec<A>>
    where
        A: Reply,
        F: Fn(Stub, Option<Context>, &[(Bytes, T)]) -> Fut,
        Fut: Future<Output = Result<Response<A>, Status>>,
    {
        let mut attempts = Attempts::new(self, repeat);
        let mut answers = Vec::new();
        let mut items = items;
        // A stable sort: of two puts of one key, the later one wins.
        items.sort_by(|a, b| a.0.cmp(&b.0));
        while !items.is_empty() {
            // Find every key's region until the deadline. The keys are sorted, so the keys of a region are adjacent.
            let mut groups: Vec<Group<T>> = Vec::new();
            let mut unlocated = None;
            let mut rest = Vec::new();
            for item in std::mem::take(&mut items) {
                if unlocated.is_some() {
                    rest.push(item);
                    continue;
                }
                let size = item.0.len() + bytes(&item.1);
                if let Some((located, group, total)) = groups.last_mut()
                    && crate::types::region::holds(&located.region, &item.0)
                    && group.len() < CLIENT_BATCH_KEYS_MAX
                    && *total + size <= CLIENT_BATCH_BYTES_MAX
                {
                    group.push(item);
                    *total += size;
                    continue;
                }
                match self.locate(&item.0, attempts.left()).await {
                    Ok(located) => groups.push((located, vec![item], size)),
                    Err(outcome) => {
                        unlocated = Some(outcome);
                        rest.push(item);
                    }
                }
            }
            items = rest;
            let left = attempts.left();
            let outcomes = join_all(groups.iter().map(|(located, group, _)| {
                let call = |stub, context| call(stub, context, group);
                async move { self.attempt(located, repeat, left, &call).await }
            }));
            let outcomes = outcomes.await;
            let mut failed = unlocated;
            for (outcome, (_, group, _)) in outcomes.into_iter().zip(groups) {
                match outcome {
                    Outcome::Done(answer) => {
                        answers.push(answer);
                        attempts.tainted |= repeat != Repeat::Read;
                    }
                    outcome => {
                        attempts.tainted |= matches!(outcome, Outcome::Maybe(_)) && repeat != Repeat::Read;
                        items.extend(group);
                        failed = Some(worse(failed, outcome));
                    }
                }
            }
            items.sort_by(|a, b| a.0.cmp(&b.0));
            if let Some(outcome) = failed {
                self.settle::<A>(&mut attempts, outcome).await?;
            }
        }
        Ok(answers)
    }

    /// Returns the response, or `None` if another attempt is due.
    async fn settle<A>(&self, attempts: &mut Attempts<'_>, outcome: Outcome<A>) -> Result<Option<A>> {
        match outcome {
            Outcome::Done(answer) => return Ok(Some(answer)),
            Outcome::Again(why, wait) => attempts.after(why, wait, false).await?,
            Outcome::Maybe(why) => attempts.after(why, Some(Duration::ZERO), true).await?,
            Outcome::Fail(error) => return Err(attempts.error(error)),
        }
        Ok(None)
    }

    /// Makes one call to one peer.
    async fn attempt<A, F, Fut>(&self, located: &Located, repeat: Repeat, left: Duration, call: &F) -> Outcome<A>
    where
        A: Reply,
        F: Fn(Stub, Option<Context>) -> Fut,
        Fut: Future<Output = Result<Response<A>, Status>>,
    {
        let mut located = located.clone();
        if self.options.peers == PeerChoice::Random {
            located.peer = *self.shared.rng.lock().expect("no holder panics").pick(&located.region.peers);
        }
        let region = located.region.id;
        // A store that was removed for good has no address. Bound the wait, so that there is time left to try another
        // peer.
        let addr = match self.address(located.peer.store_id, self.options.attempt.min(left)).await {
            Ok(addr) => addr,
            Err(outcome) => {
                self.shared.cache.lock().expect("no holder panics").rotate(region, &located.peer);
                return outcome;
            }
        };
        let limit = self.options.attempt.min(left);
        let stub = match self.shared.channels.get(&addr) {
            Ok(channel) => TikvClient::new(Limited::new(channel, limit))
                .max_decoding_message_size(MESSAGE_BYTES_MAX)
                .max_encoding_message_size(MESSAGE_BYTES_MAX),
            Err(error) => return Outcome::Fail(Error::Refused(format!("store {}: {error}", located.peer.store_id))),
        };
        let context = Context {
            region_id: region,
            region_epoch: located.region.region_epoch,
            peer: Some(located.peer),
            replica_read: self.options.replica_reads,
            stale_read: self.options.stale_reads,
            api_version: self.space.api_version(),
            ..Default::default()
        };
        let result = self.shared.clock.timeout(limit, call(stub, Some(context))).await;
        let status = match result {
            Ok(Ok(reply)) => return self.judge(&located, repeat, reply.into_inner()),
            Ok(Err(status)) => status,
            Err(_) => Status::deadline_exceeded(format!("no answer within {limit:?}")),
        };
        let why = format!("region {region} at {addr}: {}", describe(&status));
        match failure(&status) {
            Failure::Refused => Outcome::Fail(Error::Refused(why)),
            kind => {
                self.shared.channels.forget(&addr);
                self.shared.addresses.doubt(located.peer.store_id);
                self.shared.cache.lock().expect("no holder panics").rotate(region, &located.peer);
                if kind == Failure::NotSent { Outcome::Again(why, Some(Duration::ZERO)) } else { Outcome::Maybe(why) }
            }
        }
    }

    /// Classifies a reply.
    fn judge<A: Reply>(&self, located: &Located, repeat: Repeat, mut reply: A) -> Outcome<A> {
        let Some(error) = reply.region_error() else {
            return match reply.error() {
                "" => Outcome::Done(reply),
                text => {
                    let text = text.to_owned();
                    if reply.in_doubt() && repeat != Repeat::Read {
                        Outcome::Maybe(text)
                    } else {
                        Outcome::Fail(Error::Refused(text))
                    }
                }
            };
        };
        let why = format!("region {}: {}", located.region.id, error.message);
        if error.store_not_match.is_some() {
            self.shared.addresses.forget(located.peer.store_id);
        }
        match self.shared.cache.lock().expect("no holder panics").on_region_error(located, &error) {
            Verdict::Again => Outcome::Again(why, None),
            Verdict::Later(wait) => Outcome::Again(why, Some(wait)),
            Verdict::Refused => Outcome::Fail(Error::Refused(why)),
            Verdict::Unknown => Outcome::Maybe(why),
        }
    }

    /// Asks a store up to which timestamp its peers can serve reads by themselves.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if it does not answer.
    pub(crate) async fn safe_ts_of(&self, store: &Store) -> Result<u64> {
        let address = store.address.trim_start_matches("http://");
        let failed = |why: String| Error::Unavailable(format!("store {} at {address}: {why}", store.id));
        let channel = self.shared.channels.get(address).map_err(|error| failed(error.to_string()))?;
        let limit = self.options.attempt;
        let mut stub = TikvClient::new(Limited::new(channel, limit));
        let asked = self.shared.clock.timeout(limit, stub.get_store_safe_ts(StoreSafeTsRequest::default())).await;
        let why = match asked {
            Ok(Ok(reply)) => return Ok(reply.into_inner().safe_ts),
            Ok(Err(status)) => describe(&status),
            Err(_) => format!("no answer within {limit:?}"),
        };
        Err(failed(why))
    }

    /// Returns the region of a key.
    async fn locate<A>(&self, key: &[u8], left: Duration) -> Result<Located, Outcome<A>> {
        let known = self.shared.cache.lock().expect("no holder panics").locate(key);
        if let Some(located) = known {
            return Ok(located);
        }
        let info = self.shared.pd.with_deadline(left).get_region(key).await.map_err(pd_failed)?;
        self.learn(info);
        let known = self.shared.cache.lock().expect("no holder panics").locate(key);
        known.ok_or_else(|| {
            Outcome::Again("the placement driver knows no region that holds the key".into(), Some(Duration::ZERO))
        })
    }

    /// Returns the region of the keys right below `upper`.
    /// Returns whether one region has all these keys, as far as this client knows.
    pub(crate) async fn have_one_region(&self, keys: &[Bytes]) -> bool {
        let mut first = None;
        for key in keys {
            match self.locate::<()>(key, self.options.deadline).await {
                Ok(located) if *first.get_or_insert(located.region.id) != located.region.id => return false,
                Ok(_) => {}
                // The region that is asked for the first key knows.
                Err(_) => return true,
            }
        }
        true
    }

    async fn locate_before<A>(&self, upper: &[u8], left: Duration) -> Result<Located, Outcome<A>> {
        let cached = || self.shared.cache.lock().expect("no holder panics").locate_before(upper);
        if let Some(located) = cached() {
            return Ok(located);
        }
        let pd = self.shared.pd.with_deadline(left);
        let mut info = pd.get_region(upper).await.map_err(pd_failed)?;
        if info.as_ref().is_some_and(|info| info.region.start_key[..] == *upper) {
            info = pd.get_prev_region(upper).await.map_err(pd_failed)?;
        }
        self.learn(info);
        cached().ok_or_else(|| {
            Outcome::Again("the placement driver knows no region below the key".into(), Some(Duration::ZERO))
        })
    }

    fn learn(&self, info: Option<RegionInfo>) {
        if let Some(info) = info {
            self.shared.cache.lock().expect("no holder panics").insert(info.region, info.leader.as_ref());
        }
    }

    /// Returns the address of a store.
    async fn address<A>(&self, store: u64, left: Duration) -> Result<String, Outcome<A>> {
        if let Some(addr) = self.shared.addresses.get(store, self.shared.clock.now()) {
            return Ok(addr);
        }
        match self.shared.pd.with_deadline(left).get_store(store).await.map_err(pd_failed)? {
            Some(found) if !found.address.is_empty() => {
                let addr = found.address.trim_start_matches("http://").to_owned();
                self.shared.addresses.set(store, addr.clone(), self.shared.clock.now());
                Ok(addr)
            }
            _ => Err(Outcome::Again(format!("the placement driver knows no store {store}"), Some(Duration::ZERO))),
        }
    }
}

/// Classifies an error of PD: nothing was sent to any store.
fn pd_failed<A>(error: Error) -> Outcome<A> {
    match error {
        Error::Refused(_) => Outcome::Fail(error),
        Error::Unavailable(why) | Error::Unknown(why) => Outcome::Again(why, Some(Duration::ZERO)),
    }
}

/// Returns the outcome that decides how a batch continues: a refusal before a doubt before a plain failure.
fn worse<A>(one: Option<Outcome<A>>, other: Outcome<A>) -> Outcome<A> {
    fn rank<A>(outcome: &Outcome<A>) -> u8 {
        match outcome {
            Outcome::Done(_) => 0,
            Outcome::Again(_, None) => 1,
            Outcome::Again(..) => 2,
            Outcome::Maybe(_) => 3,
            Outcome::Fail(_) => 4,
        }
    }
    match one {
        Some(one) if rank(&one) > rank(&other) => one,
        _ => other,
    }
}
