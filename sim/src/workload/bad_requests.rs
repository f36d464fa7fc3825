//! The client that sends bad requests: with a different epoch, to the wrong store or peer, or with a key of another
//! region. They must be refused with the error of the first check that they fail, and never served. Members are not
//! checked: a request whose descriptor has other members than the region is served.
//!
//! The client also proposes commands with a different epoch directly to a leader's replica, like a request whose region
//! changed between its check and its place in the log. They must be refused when they are applied.

use armilla::client::Space;
use armilla::codec::keyspace::{self, Mode};
use armilla::codec::raw;
use armilla::engine::Cf;
use armilla::proto::armilla::raft::CommandHeader;
use armilla::proto::errorpb;
use armilla::proto::kvrpcpb::{
    Context, KeyRange, KvPair, RawBatchDeleteRequest, RawBatchGetRequest, RawBatchPutRequest, RawBatchScanRequest,
    RawCasRequest, RawDeleteRequest, RawGetRequest, RawPutRequest, RawScanRequest,
};
use armilla::proto::tikvpb::tikv_client::TikvClient;
use armilla::region::command;
use armilla::rt::rng::Rng;
use armilla::rt_select;
use armilla::types::region::Peer;
use armilla::types::{Api, GroupId, Region, region};
use bytes::Bytes;
use tonic::Status;

use crate::oracle::Violation;
use crate::plan::key;
use crate::workload::insider::Insider;

/// How far ahead a version is that no split reaches while a request is under way.
const VERSIONS_AHEAD: u64 = 1000;
const TIMEOUT_NS: u64 = 2_000_000_000;

/// The defect of a request, in the order in which stores check; for a write, the region is checked before the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Defect {
    /// None of the defects below.
    Other,
    Store,
    Region,
    Peer,
    Leader,
    Epoch,
    Key,
}

/// Returns whether a request whose only defect is `wrong` passed that check, given that the check `by` refused it.
fn got_past(wrong: Defect, by: Defect, write: bool) -> bool {
    let swapped = write && (wrong, by) == (Defect::Store, Defect::Region);
    by > wrong && !swapped
}

/// Returns the check that refused the request.
fn refused_by(error: &errorpb::Error) -> Defect {
    if error.store_not_match.is_some() {
        Defect::Store
    } else if error.region_not_found.is_some() {
        Defect::Region
    } else if error.not_leader.as_ref().is_some_and(|hint| hint.leader.is_some()) {
        // Without a hint it is the error with which a stopped store refuses every request, before all checks.
        Defect::Leader
    } else if error.mismatch_peer_id.is_some() {
        Defect::Peer
    } else if error.epoch_not_match.is_some() {
        Defect::Epoch
    } else if error.key_not_in_region.is_some() {
        Defect::Key
    } else {
        Defect::Other
    }
}

/// The kind of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Get,
    Put,
    BatchGet,
    BatchPut,
    Delete,
    BatchDelete,
    Cas,
    Scan,
    BatchScan,
}

/// All kinds; those that name single keys come first.
const KINDS: [Kind; 9] = [
    Kind::Get,
    Kind::Put,
    Kind::BatchGet,
    Kind::BatchPut,
    Kind::Delete,
    Kind::BatchDelete,
    Kind::Cas,
    Kind::Scan,
    Kind::BatchScan,
];
/// The number of kinds that name single keys. A scan may begin at the region's end.
const SEEKS: usize = 7;

impl Kind {
    fn is_write(self) -> bool {
        matches!(self, Kind::Put | Kind::BatchPut | Kind::Delete | Kind::BatchDelete | Kind::Cas)
    }
}

type Stub = TikvClient<armilla::rt::net::Channel>;

/// Sends a request. Returns the region error, and the other error of a request without a region error.
async fn request(
    stub: &mut Stub,
    kind: Kind,
    context: Option<Context>,
    key: Bytes,
) -> Result<(Option<errorpb::Error>, String), Status> {
    let value = Bytes::from_static(b"wrong");
    let end_key = Bytes::from([&key[..], b"~"].concat());
    macro_rules! ask {
        ($method:ident, $request:ident { $($field:ident: $value:expr),* }, $reply:ident => $error:expr) => {{
            let $reply = stub.$method($request { context, $($field: $value,)* ..$request::default() }).await?.into_inner();
            let error: String = $error;
            Ok(($reply.region_error.map(|error| *error), error))
        }};
    }
    match kind {
        Kind::Get => ask!(raw_get, RawGetRequest { key: key }, reply => reply.error.clone()),
        Kind::Put => ask!(raw_put, RawPutRequest { key: key, value: value }, reply => reply.error.clone()),
        Kind::BatchGet => ask!(raw_batch_get, RawBatchGetRequest { keys: vec![key] }, reply => {
            // A key of another region gets a separate error.
            reply.pairs.iter().find_map(|pair| pair.error.as_ref()).map(|error| error.abort.clone()).unwrap_or_default()
        }),
        Kind::BatchPut => {
            let pairs = vec![KvPair { key, value, ..KvPair::default() }];
            ask!(raw_batch_put, RawBatchPutRequest { pairs: pairs }, reply => reply.error.clone())
        }
        Kind::Delete => ask!(raw_delete, RawDeleteRequest { key: key }, reply => reply.error.clone()),
        Kind::BatchDelete => {
            ask!(raw_batch_delete, RawBatchDeleteRequest { keys: vec![key] }, reply => reply.error.clone())
        }
        Kind::Cas => ask!(
            raw_compare_and_swap,
            RawCasRequest { key: key, value: value, previous_not_exist: true },
            reply => reply.error.clone()
        ),
        Kind::Scan => {
            ask!(raw_scan, RawScanRequest { start_key: key, end_key: end_key, limit: 1 }, reply => String::new())
        }
        Kind::BatchScan => {
            let ranges = vec![KeyRange { start_key: key, end_key }];
            ask!(raw_batch_scan, RawBatchScanRequest { ranges: ranges, each_limit: 1 }, reply => String::new())
        }
    }
}

/// Sends bad requests.
pub struct BadRequests(pub Insider);

impl BadRequests {
    /// Sends requests until `until_ns` (true time).
    pub async fn run(self, until_ns: u64) {
        let mut rng = Rng::fork(self.0.plan.workload.seed, "wrong");
        loop {
            self.0.world.sleep_ns(rng.between(1, self.0.plan.workload.bad_request_ms * 2) * 1_000_000).await;
            if self.0.world.now_ns() >= until_ns {
                return;
            }
            let region = rng.pick(&self.0.regions()).clone();
            let Some((node, store)) = self.0.leader(region.id) else { continue };
            if rng.chance(0.2) {
                self.propose(node, &region, &mut rng).await;
            } else if self.space().api() == Api::V2 && rng.chance(0.2) {
                self.ask_in_other_mode(node, store, &region, &mut rng).await;
            } else if rng.chance(0.1) {
                self.ask_of_others(node, store, &region, &mut rng).await;
            } else {
                self.ask(node, store, &region, &mut rng).await;
            }
        }
    }

    fn report(&self, node: u64, what: String) {
        self.0.monitor.report(Violation::new("bad-requests", self.0.world.now_ns(), node, what));
    }

    async fn ask(&self, node: u64, store: u64, region: &Region, rng: &mut Rng) {
        let Some(peer) = region::peer_on(region, store).cloned() else { return };
        let mut context = self.context(region, peer);
        let holds = |n: &u32| region::holds(region, &self.routed(&key(*n)));
        let mut keys = 0..self.0.plan.workload.keys;
        let wrong =
            *rng.pick(&[Defect::Store, Defect::Region, Defect::Peer, Defect::Epoch, Defect::Epoch, Defect::Key]);
        let number = if wrong == Defect::Key { keys.find(|n| !holds(n)) } else { keys.find(holds) };
        let Some(number) = number else { return };
        let peer = context.peer.as_mut().expect("just set");
        match wrong {
            Defect::Store => peer.store_id += 1000,
            Defect::Region => context.region_id += 1000,
            Defect::Peer => peer.id += 1000,
            Defect::Epoch => {
                let epoch = context.region_epoch.as_mut().expect("regions have one");
                let shown = self.0.monitor.with(|observed| observed.ranges.shown_version(store, region.id));
                // For a store that lags, the version before may be the right one.
                if rng.chance(0.5) || shown != Some(epoch.version) {
                    epoch.version += VERSIONS_AHEAD;
                } else {
                    epoch.version -= 1;
                }
            }
            Defect::Key | Defect::Leader | Defect::Other => {}
        }
        let address = &self.0.cluster.addresses()[node as usize - 1];
        let mut stub = TikvClient::new(self.0.env.net.channel(address).expect("it is an address"));
        let key = Bytes::from([&key(number)[..], b"~wrong"].concat());
        let kind = if wrong == Defect::Key { *rng.pick(&KINDS[..SEEKS]) } else { *rng.pick(&KINDS) };
        let write = kind.is_write();
        let key = self.wire(&if wrong == Defect::Key { crate::plan::key(number) } else { key });
        let context = Some(context);
        let answer = request(&mut stub, kind, context, key);
        let answer = rt_select! {
            answer = answer => answer,
            () = self.0.world.sleep_ns(TIMEOUT_NS) => return,
        };
        // A request without a response was not served.
        let Ok((refusal, error)) = answer else { return };
        let kind = format!("{kind:?}").to_lowercase();
        match refusal {
            None if error.is_empty() => {
                self.report(node, format!("a {kind} of region {} with a wrong {wrong:?} was served", region.id));
            }
            Some(refusal) if got_past(wrong, refused_by(&refusal), write) => {
                let by = refused_by(&refusal);
                self.report(
                    node,
                    format!("a {kind} of region {} with a wrong {wrong:?} got as far as {by:?}", region.id),
                );
            }
            _ => {}
        }
    }

    fn space(&self) -> Space {
        self.0.plan.space()
    }

    /// Returns a raw key as requests have it.
    fn wire(&self, key: &Bytes) -> Bytes {
        self.space().wire(Mode::Raw, key)
    }

    /// Returns a raw key as regions have it.
    fn routed(&self, key: &Bytes) -> Bytes {
        keyspace::stored(self.space().api(), self.wire(key))
    }

    fn context(&self, region: &Region, peer: Peer) -> Context {
        Context {
            region_id: region.id,
            region_epoch: region.region_epoch,
            peer: Some(peer),
            api_version: self.space().api_version(),
            ..Context::default()
        }
    }

    /// Sends a raw request with keys that raw clients do not have. Keys are checked before everything else, so an error
    /// of a later check means that they were not.
    async fn ask_in_other_mode(&self, node: u64, store: u64, region: &Region, rng: &mut Rng) {
        let Some(peer) = region::peer_on(region, store).cloned() else { return };
        let number = key(rng.below(u64::from(self.0.plan.workload.keys)) as u32);
        let wrong = if rng.chance(0.7) { self.space().wire(Mode::Txn, &number) } else { number };
        let address = &self.0.cluster.addresses()[node as usize - 1];
        let mut stub = TikvClient::new(self.0.env.net.channel(address).expect("it is an address"));
        let kind = *rng.pick(&KINDS[..SEEKS]);
        let answer = rt_select! {
            answer = request(&mut stub, kind, Some(self.context(region, peer)), wrong.clone()) => answer,
            () = self.0.world.sleep_ns(TIMEOUT_NS) => return,
        };
        let Ok((refusal, error)) = answer else { return };
        let passed = refusal.as_ref().map(refused_by).filter(|by| *by != Defect::Other);
        if (refusal.is_none() && error.is_empty()) || passed.is_some() {
            let (kind, end) = (
                format!("{kind:?}").to_lowercase(),
                passed.map_or("was served".into(), |by| format!("got as far as {by:?}")),
            );
            let what =
                format!("a {kind} of region {} with the key {} of another mode {end}", region.id, wrong.escape_ascii());
            self.report(node, what);
        }
    }

    /// Reads with a region descriptor that has other members.
    async fn ask_of_others(&self, node: u64, store: u64, region: &Region, rng: &mut Rng) {
        let Some(peer) = region::peer_on(region, store).cloned() else { return };
        let mut region_epoch = region.region_epoch;
        let conf_ver = &mut region_epoch.as_mut().expect("regions have one").conf_ver;
        *conf_ver = if rng.chance(0.5) { *conf_ver + 1 } else { *conf_ver - 1 };
        let context = Some(Context { region_epoch, ..self.context(region, peer) });
        let key = match self.space().api() {
            Api::V1 => region.start_key.clone(),
            Api::V2 => self.wire(&key(0)),
        };
        if !region::holds(region, &keyspace::stored(self.space().api(), key.clone())) {
            return;
        }
        let address = &self.0.cluster.addresses()[node as usize - 1];
        let mut stub = TikvClient::new(self.0.env.net.channel(address).expect("it is an address"));
        let answer = rt_select! {
            answer = stub.raw_get(RawGetRequest { context, key, ..Default::default() }) => answer,
            () = self.0.world.sleep_ns(TIMEOUT_NS) => return,
        };
        if let Some(refusal) = answer.ok().and_then(|reply| reply.into_inner().region_error)
            && refused_by(&refusal) == Defect::Epoch
            // The node knows the region in the same version: it was not split meanwhile, here or elsewhere.
            && refusal.epoch_not_match.is_some_and(|error| error.current_regions.contains(region))
        {
            self.report(node, format!("a get of region {} with other members was refused for its epoch", region.id));
        }
    }

    async fn propose(&self, node: u64, region: &Region, rng: &mut Rng) {
        let Some(replicas) = self.0.cluster.with(node, |machine| machine.replicas()) else { return };
        let version = region::epoch(region).version;
        let version = if rng.chance(0.5) { version + VERSIONS_AHEAD } else { version - 1 };
        let key = if region.start_key.is_empty() { Bytes::from_static(b"a~wrong") } else { region.start_key.clone() };
        let op = command::write(vec![command::put(Cf::RawDefault, key, raw::encode(b"wrong", None))]);
        let command = command::encode(CommandHeader { version, ..CommandHeader::default() }, op);
        let reply = rt_select! {
            reply = replicas.propose(GroupId(region.id), 0, command) => reply,
            () = self.0.world.sleep_ns(TIMEOUT_NS) => return,
        };
        let served =
            reply.is_ok_and(|reply| !matches!(command::outcome(reply), Err(armilla::types::Error::EpochNotMatch(_))));
        if served {
            self.report(node, format!("region {} applied a command of version {version}", region.id));
        }
    }
}
