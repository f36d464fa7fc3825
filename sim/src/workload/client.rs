//! The clients: each runs on its own machine, performs one operation at a time and records all calls with true times.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use armilla::client::pd::RegionInfo;
use armilla::client::{Error, PdClient, PeerChoice, RawClient, RawOptions, Space};
use armilla::proto::armilla::pd::CreateKeyspace;
use armilla::proto::armilla::pd::change_keyspace::Change;
use armilla::rt::rng::Rng;
use armilla::rt::sim::{NodeHandle, World};
use armilla::types::Api;
use armilla::types::limits::TSO_COUNT_MAX;
use bytes::Bytes;

use super::raw::{self, Memory};
use crate::oracle::tso::Grant;
use crate::oracle::ttl::WallClocks;
use crate::plan::{Plan, key};
use crate::workload::history::{Call, Ended, History};

/// Number of client machines besides those of the workload; their numbers follow. Two request timestamps, one sends bad
/// requests and looks up regions, one sends queries, one uses all column families, some run transactions, and one is
/// the administrator's.
pub const OTHERS: u32 = 6 + super::txn::CLIENTS;

/// Probability, in a cluster with keyspaces, that one is created before a lookup.
const P_KEYSPACE: f64 = 0.05;

/// The records of all clients.
#[derive(Clone, Default)]
pub struct Ledger {
    /// Operations.
    pub history: Arc<Mutex<History>>,
    /// Transactions.
    pub transactions: super::txn::Records,
    /// Transactions whose requests several clients send.
    pub protocol: super::protocol::Shared,
    /// The wall clocks of the stores.
    pub wall_clocks: WallClocks,
    /// Keyspaces whose creation was acknowledged: name and ID.
    pub keyspaces: Arc<Mutex<Vec<(String, u32)>>>,
    /// Timestamps.
    pub grants: Arc<Mutex<Vec<Grant>>>,
    /// Region lookups that returned no leader: true time (ns) and region.
    pub leaderless: Arc<Mutex<Vec<(u64, u64)>>>,
    /// Region lookups that returned no region: true time (ns) and key.
    pub holes: Arc<Mutex<Vec<(u64, Bytes)>>>,
}

impl Ledger {
    /// Calls `look` with the history.
    pub fn with<T>(&self, look: impl FnOnce(&mut History) -> T) -> T {
        look(&mut self.history.lock().expect("nothing panics while holding it"))
    }
}

/// A connected client of the cluster.
#[derive(Clone)]
pub struct Client {
    number: u32,
    raw: RawClient,
    /// Reads from any peer of a region.
    near: Option<RawClient>,
    world: World,
    ledger: Ledger,
}

impl Client {
    /// Creates a client on `machine` that knows only the nodes' addresses.
    pub fn new(
        number: u32,
        machine: &NodeHandle,
        endpoints: Vec<String>,
        (deadline_ms, attempt_ms, space): (u64, u64, Space),
        near: bool,
        world: &World,
        ledger: &Ledger,
    ) -> Client {
        let env = machine.env();
        let pd = PdClient::new(env.net.clone(), env.clock.clone(), endpoints).seeded(Rng::fork(env.seed, "pd"));
        let deadline = Duration::from_millis(deadline_ms);
        let attempt = deadline.min(Duration::from_millis(attempt_ms));
        let options = RawOptions { deadline, attempt, ..RawOptions::strict() };
        let near = near.then(|| {
            let options = RawOptions { peers: PeerChoice::Random, replica_reads: true, ..options.clone() };
            RawClient::new(pd.clone(), env.net.clone(), env.clock.clone(), Rng::fork(env.seed, "near"), options)
                .in_space(space)
        });
        let raw = RawClient::new(pd, env.net, env.clock, Rng::fork(env.seed, "raw"), options).in_space(space);
        Client { number, raw, near, world: world.clone(), ledger: ledger.clone() }
    }

    /// Returns the placement driver's client.
    pub fn pd(&self) -> &PdClient {
        self.raw.pd()
    }

    /// Returns the client of raw keys.
    pub fn raw(&self) -> &RawClient {
        &self.raw
    }

    /// Performs one operation and records it.
    pub async fn perform(&self, call: Call) -> Ended {
        self.ledger.wall_clocks.look(&self.world);
        let number = self.ledger.with(|history| history.begin(self.number, call.clone(), self.world.now_ns()));
        let ended = self.ask(call).await;
        self.ledger.with(|history| history.end(number, ended.clone(), self.world.now_ns()));
        self.ledger.wall_clocks.look(&self.world);
        ended
    }

    async fn ask(&self, call: Call) -> Ended {
        let raw = &self.raw;
        let near = self.near.as_ref().unwrap_or(raw);
        let result = match call {
            Call::Get(key) => near.get(key).await.map(Ended::Value),
            Call::BatchGet(keys) => near.batch_get(keys).await.map(Ended::Pairs),
            Call::Put(key, value) => raw.put(key, value, 0).await.map(|()| Ended::Done),
            Call::BatchPut(pairs) => raw.batch_put(pairs, 0).await.map(|()| Ended::Done),
            Call::Delete(key) => raw.delete(key).await.map(|()| Ended::Done),
            Call::BatchDelete(keys) => raw.batch_delete(keys).await.map(|()| Ended::Done),
            Call::DeleteRange(start, end) => raw.delete_range(start, end).await.map(|()| Ended::Done),
            Call::Scan { start, end, limit, reverse: false, key_only } => {
                near.scan(start, end, limit as usize, key_only).await.map(Ended::Pairs)
            }
            Call::Scan { start, end, limit, reverse: true, key_only } => {
                near.scan_reverse(start, end, limit as usize, key_only).await.map(Ended::Pairs)
            }
            Call::Cas { key, expected, new, ttl_s } => {
                let cas = raw.cas(key, expected, new, ttl_s).await;
                cas.map(|cas| Ended::Swapped { succeed: cas.swapped, previous: cas.previous })
            }
            Call::PutTtl(key, value, ttl_s) => raw.put(key, value, ttl_s).await.map(|()| Ended::Done),
        };
        result.unwrap_or_else(|error| match error {
            Error::Refused(why) => Ended::Failed(format!("refused: {why}")),
            Error::Unavailable(why) => Ended::Failed(why),
            Error::Unknown(why) => Ended::Unknown(why),
        })
    }

    /// Runs the plan's operations. None starts after `until_ns`.
    pub async fn run(self, plan: Arc<Plan>, begin_ns: u64, until_ns: u64) {
        let mut memory = Memory::default();
        for n in plan.op_numbers() {
            let at = begin_ns + raw::planned_ms(&plan.workload, self.number, n) * 1_000_000;
            if at > self.world.now_ns() {
                self.world.sleep_until(at).await;
            }
            if self.world.now_ns() > until_ns {
                return;
            }
            let call = raw::call(&plan.workload, self.number, n, &memory);
            let ended = self.perform(call.clone()).await;
            memory.note(&call, &ended);
        }
    }

    /// Requests timestamps until `until_ns`.
    pub async fn timestamps(self, plan: Arc<Plan>, until_ns: u64) {
        let mut rng = Rng::fork(plan.workload.seed ^ u64::from(self.number), "timestamps");
        while self.world.now_ns() < until_ns {
            let count = if rng.chance(plan.workload.tso_many_permille as f64 / 1000.0) {
                rng.between(u64::from(TSO_COUNT_MAX / 2), u64::from(TSO_COUNT_MAX)) as u32
            } else if rng.chance(0.1) {
                rng.between(2, 5000) as u32
            } else {
                1
            };
            let called = self.world.now_ns();
            if let Ok(last) = self.pd().tso(count).await {
                let grant = Grant {
                    client: self.number,
                    called,
                    returned: self.world.now_ns(),
                    first: last.0 - u64::from(count - 1),
                    last: last.0,
                };
                self.ledger.grants.lock().expect("nothing panics while holding it").push(grant);
            }
            self.world.sleep_ns(rng.between(1, plan.workload.tso_ms * 2) * 1_000_000).await;
        }
    }

    /// Looks up regions until `until_ns`. Clients cache the results, so each must contain a leader.
    pub async fn lookups(self, plan: Arc<Plan>, until_ns: u64) {
        let mut rng = Rng::fork(plan.workload.seed ^ u64::from(self.number), "lookups");
        while self.world.now_ns() < until_ns {
            if plan.space().api() == Api::V2 && rng.chance(P_KEYSPACE) {
                self.create_keyspace(&mut rng).await;
            }
            let key = key(rng.below(u64::from(plan.workload.keys)) as u32);
            let found = self.pd().get_region(&key).await;
            let at = self.world.now_ns();
            match found {
                Ok(Some(RegionInfo { region, leader: None })) => {
                    self.ledger.leaderless.lock().expect("nothing panics while holding it").push((at, region.id));
                }
                Ok(None) => self.ledger.holes.lock().expect("nothing panics while holding it").push((at, key)),
                _ => {}
            }
            self.world.sleep_ns(rng.between(1, plan.workload.tso_ms * 2) * 1_000_000).await;
        }
    }

    /// Creates a keyspace with one of a few names.
    async fn create_keyspace(&self, rng: &mut Rng) {
        let name = format!("n{}", rng.below(20));
        let create = CreateKeyspace { name: name.clone(), ..CreateKeyspace::default() };
        // It may be there already, and the version of the cluster's protocol may not allow it yet.
        if let Ok(created) = self.pd().change_keyspace(Change::Create(create)).await {
            self.ledger.keyspaces.lock().expect("nothing panics while holding it").push((name, created.id));
        }
    }

    /// Puts `value` until the put is acknowledged or `until_ns` is reached.
    ///
    /// # Errors
    /// Returns the error of the last attempt.
    pub async fn put_until(&self, key: Bytes, value: &str, until_ns: u64) -> Result<(), String> {
        let mut attempt = 0;
        loop {
            // Every attempt writes a different value, because values are unique.
            let value = Bytes::from(format!("{value}.{attempt}"));
            attempt += 1;
            let why = match self.perform(Call::Put(key.clone(), value)).await {
                Ended::Done => return Ok(()),
                Ended::Failed(why) | Ended::Unknown(why) => why,
                other => unreachable!("a put ends so: {other:?}"),
            };
            if self.world.now_ns() >= until_ns {
                return Err(why);
            }
            self.world.sleep_ns(100_000_000).await;
        }
    }
}
