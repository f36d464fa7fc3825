//! # cluster: the whole store under a plan
//!
//! A run has these phases, and ends with a judgement of the clients' history:
//!
//! ```text
//!   founding | clients and faults .... | heal | new writes | all crash, start | read all keys | replicas agree
//!            | watched by the online oracles and, every second, by the oracles of the durable images |
//! ```
//! **In** comes a plan, **out** goes the first violation or none. **Never**: a judgement that relies on the store's own
//! statements, except for its health, which is itself judged.

mod hot;
mod keyspaces;
mod settings;
mod sleep;
mod stores;
mod txn;
mod verdict;
mod waits;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use armilla::client::PdClient;
use armilla::client::pd::RegionInfo;
use armilla::node::Config;
use armilla::proto::health::HealthCheckRequest;
use armilla::proto::health::health_check_response::ServingStatus;
use armilla::proto::health::health_client::HealthClient;
use armilla::rt::rng::Rng;
use armilla::rt::sim::{NodeHandle, World};
use armilla::rt::task::{self, JoinHandle};
use armilla::rt_select;
use armilla::types::{GroupId, Region};
use bytes::Bytes;

use crate::cluster::monitor::{Monitor, Observed};
use crate::cluster::{CLIENT_BASE, Cluster, Setup};
use crate::fault::context::Context;
use crate::fault::force::Machines;
use crate::fault::nemesis::Nemesis;
use crate::fault::repeat;
use crate::oracle::{Violation, bounds, liveness, pause, region, sizes, state, ttl};
use crate::plan::{Plan, nodes};
use crate::scenario::report::{Failure, Options, Outcome};
use crate::workload::client::{Client, Ledger, OTHERS};
use crate::workload::history::{Call, Ended};
use crate::workload::insider::Insider;
use crate::workload::{bad_requests, families, query, raw};

const SECOND: u64 = 1_000_000_000;
/// Time within which a new cluster must serve, ns.
const FOUNDING: u64 = 60 * SECOND;

/// Runs one seed inside the world that the child has made, or the plan that the options name with that seed's schedule.
pub async fn run(seed: u64, options: &Options) -> Outcome {
    let world = World::current().expect("the child makes the world");
    let plan = match &options.plan {
        None => crate::plan::swarm::plan(seed),
        Some(path) => Plan::read(path).unwrap_or_else(|error| panic!("{error}")),
    };
    if let Some(bug) = plan.bug.as_ref().filter(|_| options.mutant.is_none()) {
        armilla::rt::mutant::plant(bug);
    }
    world.net().record_calls(repeat::PATH);
    let mut run = Run::new(world, plan);
    let result = run.all().await;
    let violation = result.err().map(|violation| run.explain(violation));
    run.outcome(violation)
}

struct Run {
    world: World,
    plan: Arc<Plan>,
    monitor: Monitor,
    cluster: Cluster,
    ledger: Ledger,
    regions: region::Regions,
    founded: bool,
    stats: BTreeMap<String, u64>,
}

type Verdict = Result<(), Violation>;

/// Describes the first region whose leader is not the one that the placement driver reports, if there is one.
fn wrong_leader(observed: &mut Observed, infos: &[RegionInfo]) -> Option<String> {
    infos.iter().find_map(|info| {
        let said = info.leader.as_ref().and_then(|leader| observed.node_of.get(&leader.store_id).copied());
        let leads = observed.leaders.get(&info.region.id).map(|(_, node)| *node);
        (said != leads).then(|| {
            let (region, said, leads) = (info.region.id, said.unwrap_or(0), leads.unwrap_or(0));
            format!("the placement driver reports node {said} as leader of region {region}, but node {leads} leads it")
        })
    })
}

impl Run {
    fn new(world: World, plan: Plan) -> Run {
        let monitor = Monitor::listen(&world);
        let setup = Setup {
            configs: (1..=u64::from(plan.topology.stores)).map(|id| nodes::config(&plan, id)).collect(),
            fsync_us: plan.knobs.fsync_us,
            disk_mib: plan.knobs.disk_mib,
            link: nodes::link(&plan.knobs),
        };
        let cluster = Cluster::new(&world, &monitor, setup);
        let stores = plan.topology.stores;
        Run {
            world,
            plan: Arc::new(plan),
            monitor,
            cluster,
            ledger: Ledger { wall_clocks: ttl::WallClocks::new(stores), ..Ledger::default() },
            regions: region::Regions::default(),
            founded: false,
            stats: BTreeMap::new(),
        }
    }

    fn now(&self) -> u64 {
        self.world.now_ns()
    }

    async fn all(&mut self) -> Verdict {
        let others = self.plan.workload.clients + 1;
        let number = self.plan.workload.clients + OTHERS;
        let admin_machine = self.cluster.client_machine(number);
        let admin = self.client(number, &admin_machine);
        self.cluster.ids().into_iter().for_each(|id| self.cluster.start(id));
        let (world, cluster) = (self.world.clone(), self.cluster.clone());
        let mut rng = Rng::fork(self.plan.schedule_seed, "supervisor");
        task::spawn(async move {
            loop {
                world.sleep_ns(SECOND / 2).await;
                cluster.supervise(&mut rng);
            }
        });
        let regions = self.found(&admin).await?;

        armilla::rt::buggify::arm(self.plan.knobs.buggify);
        let begin_ns = self.now() + SECOND / 2;
        let end_ns = begin_ns + self.plan.length_ms() * 1_000_000;
        let mut tasks = self.spawn_clients(begin_ns, end_ns);
        let machine = self.cluster.client_machine(others + 2);
        if self.plan.workload.tso_ms > 0 {
            let client = self.client(others + 2, &machine);
            tasks.push(machine.spawn(client.lookups(self.plan.clone(), end_ns)));
        }
        if self.plan.workload.families_ms > 0 {
            let machine = self.cluster.client_machine(others + 4);
            let client = families::Families(self.insider(&machine));
            tasks.push(machine.spawn(client.run(end_ns)));
        }
        if self.plan.workload.bad_request_ms > 0 {
            let asker = bad_requests::BadRequests(self.insider(&machine));
            tasks.push(machine.spawn(asker.run(end_ns)));
        }
        tasks.extend(self.spawn_transactions(others + 5, end_ns));
        tasks.extend(self.spawn_protocol(number + 1, end_ns));
        let answered = Arc::<AtomicU64>::default();
        let mut asked = None;
        if self.plan.workload.query_ms > 0 {
            let machine = self.cluster.client_machine(others + 3);
            let asker = query::QueryClient {
                raw: self.client(others + 3, &machine).raw().clone(),
                world: self.world.clone(),
                monitor: self.monitor.clone(),
                plan: self.plan.clone(),
                answered: answered.clone(),
            };
            asked = Some((machine.spawn(asker.run(end_ns)), machine));
        }
        let mut nemesis = Nemesis::new(&self.plan, self.context(regions, admin.pd().clone(), admin_machine.clone()));
        let storm = task::spawn(async move {
            nemesis.run(begin_ns).await;
            nemesis
        });
        self.guard(end_ns).await?;
        let mut nemesis = self.wait(storm, end_ns + 30 * SECOND, "the nemesis").await?;
        self.stats.insert("faults".into(), nemesis.struck);

        nemesis.heal();
        // From here on the store behaves as usual, as the time limits require.
        armilla::rt::buggify::arm(0);
        // A replica that lags by now may still get a snapshot, and another one if that was in flight; further ones only
        // after a new entry.
        self.monitor.with(|observed| observed.raft.judge_snapshots());
        self.lift_limits(&admin).await?;
        self.recover(&admin, "healing").await?;
        if self.plan.knobs.last_crash {
            // A moment of rest, so that not everything is in flight.
            self.guard(self.now() + SECOND).await?;
            nemesis.last_crash();
            self.recover(&admin, "the last crash").await?;
        }
        let bound = liveness::bound_ns(&self.plan);
        for task in tasks {
            let until = self.now() + bound;
            if self.wait(task, until, "a client").await.is_err() {
                self.ledger.with(|history| liveness::all_ended(history, self.now()))?;
                self.check_violation()?;
            }
        }
        if let Some((task, machine)) = asked {
            let rest = self.wait(task, self.now() + bound, "the client that asks").await?;
            // The cluster is healthy again, so every query must be answered.
            let until = self.now() + bound;
            let last = machine.spawn(rest.run(until));
            let ended = self.wait(last, until + bound, "the last query").await?;
            self.check_violation()?;
            ended.map_err(|why| Violation::new("liveness", self.now(), 0, why))?;
        }
        self.stats.insert("queries".into(), answered.load(Ordering::Relaxed));
        self.healths(&admin_machine).await?;
        self.sleep(&admin).await?;
        self.every_kind(&admin).await?;
        let finally = self.read_all(&admin).await?;
        self.transactions(&admin).await?;
        self.settings(&admin).await?;
        self.stores(&admin).await?;
        self.converge(&admin).await?;
        self.sizes(&admin).await?;
        self.rest().await?;
        self.hot(&admin).await?;
        self.keyspaces(&admin).await?;
        let boundaries = self.raw_boundaries();
        let exhausted = verdict::judge(&self.plan, &self.ledger, &boundaries, &finally, self.now())?;
        self.stats.insert("linear_exhausted".into(), exhausted);
        Ok(())
    }

    /// Returns the context of a client on that machine that knows more than addresses.
    fn insider(&self, machine: &NodeHandle) -> Insider {
        Insider {
            env: machine.env(),
            world: self.world.clone(),
            monitor: self.monitor.clone(),
            cluster: self.cluster.clone(),
            plan: self.plan.clone(),
        }
    }

    /// Starts the clients of the workload and those that request timestamps.
    fn spawn_clients(&self, begin_ns: u64, end_ns: u64) -> Vec<JoinHandle<()>> {
        let mut tasks = Vec::new();
        for number in 1..=self.plan.workload.clients {
            let machine = self.cluster.client_machine(number);
            let client = self.client(number, &machine);
            tasks.push(machine.spawn(client.run(self.plan.clone(), begin_ns, end_ns)));
        }
        let others = self.plan.workload.clients + 1;
        for number in others..others + 2 {
            let machine = self.cluster.client_machine(number);
            let client = self.client(number, &machine);
            if self.plan.workload.tso_ms > 0 {
                tasks.push(machine.spawn(client.timestamps(self.plan.clone(), end_ns)));
            }
        }
        tasks
    }

    /// Returns the size of the reserve on each store's disk, KiB.
    fn reserve_kib(&self) -> u64 {
        self.plan.knobs.settings().disk_reserve_mib.unwrap_or(0) << 10
    }

    /// Returns the context that faults act on.
    fn context(&self, regions: Vec<Region>, pd: PdClient, admin: NodeHandle) -> Context {
        let clients = u64::from(self.plan.workload.clients + OTHERS);
        Context {
            world: self.world.clone(),
            monitor: self.monitor.clone(),
            cluster: self.cluster.clone(),
            machines: Machines {
                stores: self.cluster.ids(),
                clients: (1..=clients).map(|n| CLIENT_BASE + n).collect(),
                reserve_kib: self.reserve_kib(),
            },
            link: nodes::link(&self.plan.knobs),
            regions,
            space: self.plan.space(),
            pd,
            admin,
            wall_clocks: self.ledger.wall_clocks.clone(),
            rng: Rng::fork(self.plan.schedule_seed, "nemesis"),
            wiped: None,
            replaced: None,
            held: BTreeMap::new(),
            settings_differ: self.plan.knobs.buggify != 0,
            lease_reads: self.plan.knobs.settings().raft.lease_reads,
            keeps_log: {
                let raft = self.plan.knobs.settings().raft;
                raft.log_group_kib_max >= 1 << 10 && (raft.log_store_kib_max == 0 || raft.log_store_kib_max >= 1 << 10)
            },
            unsettled: BTreeMap::new(),
        }
    }

    fn client(&self, number: u32, machine: &armilla::rt::sim::NodeHandle) -> Client {
        Client::new(
            number,
            machine,
            self.cluster.addresses(),
            (self.plan.workload.deadline_ms, self.plan.workload.attempt_ms, self.plan.space()),
            self.plan.workload.replica_reads && number <= self.plan.workload.clients && number % 2 == 1,
            &self.world,
            &self.ledger,
        )
    }

    /// Waits until the new cluster knows its regions and serves each of them. Returns the regions in order of their
    /// keys.
    async fn found(&mut self, admin: &Client) -> Result<Vec<Region>, Violation> {
        let until = self.now() + FOUNDING;
        let mut why = "the placement driver knows no regions".to_owned();
        while self.now() < until {
            self.guard(self.now() + SECOND / 5).await?;
            let pd = admin.pd().with_deadline(std::time::Duration::from_secs(2));
            let infos = match pd.scan_regions(b"", b"", 100).await {
                Ok(infos) if !infos.is_empty() => infos,
                Ok(_) => continue,
                Err(error) => {
                    why = error.to_string();
                    continue;
                }
            };
            let replicas = |observed: &mut Observed| {
                for info in &infos {
                    observed.raft.replicas(info.region.id, info.region.peers.len());
                }
                observed.raft.replicas(GroupId::PD.0, self.plan.topology.stores.min(3) as usize);
            };
            self.monitor.with(replicas);
            for (n, info) in infos.iter().enumerate() {
                let Some(key) = self.raw_key_at(&info.region.start_key) else { continue };
                // A separate key, right behind the region's first.
                let key = Bytes::from([&key[..], b"~founding"].concat());
                admin.put_until(key, &format!("founding.{n}"), until).await.map_err(|why| {
                    Violation::new(
                        "liveness",
                        self.now(),
                        0,
                        format!("region {} of the new cluster takes no write: {why}", info.region.id),
                    )
                })?;
            }
            self.founded = true;
            let knobs = &self.plan.knobs;
            let Config { raft, pd, .. } = knobs.settings();
            let tick_ns = raft.tick_ms * 1_000_000;
            let bounds = pause::Bounds {
                election_ns: tick_ns * raft.election_ticks as u64,
                silence_ns: tick_ns * (2 * raft.heartbeat_ticks as u64 + 1),
                late_ns: 2 * pd.store_heartbeat_ms * 1_000_000,
                slack_ns: tick_ns + 4 * (2 * knobs.link_us + knobs.fsync_us) * 1000 + SECOND / 20,
            };
            let now_ns = self.now();
            let reserve_bytes = self.reserve_kib() << 10;
            let usual = self.plan.knobs.buggify == 0;
            self.monitor.with(|observed| {
                observed.pauses.begin(bounds);
                observed.births.begin(bounds.election_ns, bounds.slack_ns);
                observed.births.judge(now_ns, usual);
                observed.lanes.begin(tick_ns);
                observed.moved.begin(tick_ns * raft.election_ticks as u64, self.plan.topology.stores as usize);
                observed.appends.bytes_max = raft.append_kib_max << 10;
                observed.fetches.bytes_max = (raft.catch_up_kib_max as u64) << 10;
                observed.rooms.reserve_bytes = reserve_bytes;
                observed.pauses.regime(now_ns, usual.then(Default::default));
            });
            self.stats.insert("founding_ms".into(), self.now() / 1_000_000);
            let count = self.plan.topology.splits.len() + 1;
            return Ok(infos.into_iter().map(|info| info.region).take(count).collect());
        }
        self.check_violation()?;
        Err(Violation::new("liveness", self.now(), 0, format!("the new cluster does not come up: {why}")))
    }

    fn check_violation(&self) -> Verdict {
        match self.monitor.violation() {
            Some(violation) => Err(violation),
            None => match self.cluster.stopped_without_reason() {
                Some((node, why)) => Err(Violation::new(
                    "stop",
                    self.now(),
                    node,
                    format!("the store stopped serving without a fault that excuses it: {why}"),
                )),
                None => Ok(()),
            },
        }
    }

    /// Reads the nodes' images and checks them.
    fn check_images(&mut self) -> Verdict {
        let images = self.cluster.images()?;
        state::check(&images, self.now())?;
        let collected = state::collected(&images);
        self.monitor.with(|observed| observed.collected = observed.collected.max(collected));
        let merged = self.monitor.with(|observed| observed.ranges.merged().clone());
        self.regions.observe(&images, &merged, self.founded, self.now())
    }

    /// Waits until `until_ns` and checks for violations meanwhile.
    async fn guard(&mut self, until_ns: u64) -> Verdict {
        loop {
            let now = self.now();
            self.monitor.with(|observed| observed.pauses.look(now))?;
            self.check_violation()?;
            self.check_images()?;
            if now >= until_ns {
                return Ok(());
            }
            let next = until_ns.min(now + SECOND);
            let news = self.monitor.news.clone();
            rt_select! {
                () = news.notified() => {}
                () = self.world.sleep_until(next) => {}
            }
        }
    }

    /// Waits for a task and checks for violations meanwhile.
    async fn wait<T>(&mut self, mut task: JoinHandle<T>, until_ns: u64, who: &str) -> Result<T, Violation> {
        loop {
            let next = (self.now() + SECOND).min(until_ns);
            rt_select! {
                joined = &mut task => return joined.ok_or_else(|| Violation::new("panic", self.now(), 0, format!("{who} died"))),
                () = self.world.sleep_until(next) => {}
            }
            self.guard(self.now()).await?;
            if self.now() >= until_ns {
                return Err(Violation::new("liveness", self.now(), 0, format!("{who} does not end")));
            }
        }
    }

    /// Checks that every region accepts a new write within the time limit.
    async fn recover(&mut self, admin: &Client, after: &str) -> Verdict {
        let began = self.now();
        let until = began + liveness::bound_ns(&self.plan);
        for (n, region) in self.monitor.with(|observed| observed.ranges.regions()).into_iter().enumerate() {
            let result = match self.raw_key_at(&region.start_key) {
                Some(start) => {
                    let key = Bytes::from([&start[..], b"~fresh"].concat());
                    admin.put_until(key, &format!("fresh.{after}.{n}"), until).await
                }
                None => self.read_until(admin, &region.start_key, until).await,
            };
            self.check_violation()?;
            self.check_images()?;
            if let Err(why) = result {
                let what = format!(
                    "region {} takes no write {:.0} s after {after}: {why}",
                    region.id,
                    (self.now() - began) as f64 / 1e9
                );
                return Err(Violation::new("liveness", self.now(), 0, what));
            }
        }
        let took = self.stats.entry("recovery_ms".into()).or_default();
        *took = (*took).max((self.world.now_ns() - began) / 1_000_000);
        Ok(())
    }

    /// Checks that every node reports itself healthy, except one that replaced a store with an empty disk while regions
    /// still rely on the old store's data.
    async fn healths(&mut self, admin: &NodeHandle) -> Verdict {
        let until = self.now() + liveness::bound_ns(&self.plan);
        let images = self.cluster.images()?;
        let regions =
            |image: &state::Image| image.groups.values().map(|(state, _)| state.region.clone()).collect::<Vec<_>>();
        let missed = |node: &u64| {
            images.iter().flat_map(regions).any(|region| region.peers.iter().any(|peer| peer.store_id == *node))
        };
        let heals = self.heals();
        for (node, address) in self.cluster.ids().into_iter().zip(self.cluster.addresses()) {
            let wiped = !heals && self.cluster.with(node, |machine| machine.wiped) && missed(&node);
            let wanted = if wiped { ServingStatus::NotServing } else { ServingStatus::Serving };
            loop {
                let (channel, clock) = (admin.env().net.channel(&address), admin.env().clock.clone());
                let said = admin.spawn(async move {
                    let mut client = HealthClient::new(channel.ok()?);
                    // A node that stops meanwhile and is started again may never answer.
                    let reply = client.check(HealthCheckRequest::default());
                    let reply = clock.timeout(std::time::Duration::from_secs(5), reply).await.ok()?;
                    Some(reply.ok()?.into_inner().status())
                });
                let said = self.wait(said, self.now() + liveness::bound_ns(&self.plan), "a health check").await?;
                // A wiped node also reports itself unhealthy until it has asked PD.
                if said == Some(wanted) {
                    break;
                }
                if self.now() >= until || (said == Some(ServingStatus::Serving) && wiped) {
                    let what = format!("the node reports {said:?}, expected {wanted:?}");
                    return Err(Violation::new("health", self.now(), node, what));
                }
                self.guard(self.now() + SECOND).await?;
            }
        }
        Ok(())
    }

    /// Returns whether replicas that were lost are replaced: every node knows the protocol's newest version.
    fn heals(&self) -> bool {
        self.cluster.ids().into_iter().all(|node| self.cluster.with(node, |machine| machine.is_newest()))
    }

    /// Checks that every kind of operation succeeds.
    async fn every_kind(&mut self, admin: &Client) -> Verdict {
        let until = self.now() + liveness::bound_ns(&self.plan);
        for call in raw::every_kind() {
            loop {
                let ended = admin.perform(call.clone()).await;
                self.check_violation()?;
                let (Ended::Failed(why) | Ended::Unknown(why)) = ended else { break };
                if self.now() >= until {
                    let what = format!("{} fails although the cluster is healthy: {why}", liveness::describe(&call));
                    return Err(Violation::new("liveness", self.now(), 0, what));
                }
                self.guard(self.now() + SECOND / 5).await?;
            }
        }
        Ok(())
    }

    /// Reads every key.
    async fn read_all(&mut self, admin: &Client) -> Result<BTreeMap<Bytes, Bytes>, Violation> {
        let until = self.now() + liveness::bound_ns(&self.plan);
        let (start, end) = (crate::plan::key(0), Bytes::from_static(b"l"));
        loop {
            let call =
                Call::Scan { start: start.clone(), end: end.clone(), limit: 100_000, reverse: false, key_only: false };
            let ended = admin.perform(call).await;
            self.check_violation()?;
            match ended {
                Ended::Pairs(pairs) => return Ok(pairs.into_iter().collect()),
                other if self.now() >= until => {
                    return Err(Violation::new(
                        "liveness",
                        self.now(),
                        0,
                        format!("the last scan does not succeed: {other:?}"),
                    ));
                }
                _ => self.guard(self.now() + SECOND / 5).await?,
            }
        }
    }

    /// Waits until all replicas have the same applied index and data, and PD agrees with the stores about the regions.
    async fn converge(&mut self, admin: &Client) -> Verdict {
        let until = self.now() + liveness::bound_ns(&self.plan);
        loop {
            let images = self.cluster.images()?;
            state::check(&images, self.now())?;
            let merged = self.monitor.with(|observed| observed.ranges.merged().clone());
            self.regions.observe(&images, &merged, true, self.now())?;
            let unborn = self.unborn(&images);
            let (replicas, pd_members) = (self.plan.topology.replicas_each(), self.plan.topology.stores.min(3));
            let unsettled = || state::unsettled(&images, replicas as usize, pd_members as usize, &self.zones());
            let unsettled = if self.heals() { unsettled() } else { None };
            if state::converged(&images) && unborn.is_none() && unsettled.is_none() {
                break;
            }
            if self.now() >= until {
                let behind = if unborn.is_some() { String::new() } else { state::behind(&images) };
                let what = unsettled.unwrap_or_else(|| format!("replicas do not catch up: {behind}"));
                return Err(Violation::new("liveness", self.now(), 0, what));
            }
            self.world.sleep_ns(SECOND / 20).await;
            self.check_violation()?;
        }
        let pd = admin.pd().with_deadline(std::time::Duration::from_secs(10));
        loop {
            let infos = pd.scan_regions(b"", b"", 1000).await;
            let infos = infos.map_err(|e| {
                Violation::new("liveness", self.now(), 0, format!("the placement driver does not answer: {e}"))
            })?;
            let wrong = self.monitor.with(|observed| wrong_leader(observed, &infos));
            let pd: Vec<_> = infos.into_iter().map(|info| info.region).collect();
            let compared = self.regions.compare(&pd, self.now());
            if wrong.is_none() && compared.is_ok() {
                return Ok(());
            }
            if self.now() >= until {
                let wrong = wrong.map(|what| Violation::new("liveness", self.now(), 0, what));
                return wrong.map_or(compared, Err);
            }
            self.guard(self.now() + SECOND / 5).await?;
        }
    }

    /// Returns the zones of the stores that exist, if stores have labels.
    fn zones(&self) -> BTreeMap<u64, u64> {
        let node_of = self.monitor.with(|observed| observed.node_of.clone());
        let living = node_of.iter().filter(|(store, node)| {
            // A later store has taken its place.
            !node_of.iter().any(|(other, of)| of == *node && other > *store)
        });
        living.filter_map(|(store, node)| Some((*store, self.plan.topology.zone_of(*node)?))).collect()
    }

    /// Adds to the description of a region that makes no progress which of its peers was never born.
    fn explain(&self, violation: Violation) -> Violation {
        let stands_still = ["births", "liveness", "pause"].contains(&violation.oracle);
        let unborn = stands_still.then(|| self.cluster.images().ok().and_then(|images| self.unborn(&images))).flatten();
        match unborn {
            Some(unborn) => Violation { what: format!("{} ({unborn})", violation.what), ..violation },
            None => violation,
        }
    }

    /// Describes a peer of a region that has no data on its node, if there is one.
    fn unborn(&self, images: &[state::Image]) -> Option<String> {
        let mut node_of = self.monitor.with(|observed| observed.node_of.clone());
        node_of.retain(|_, node| !self.cluster.with(*node, |machine| machine.wiped));
        state::unborn(images, &node_of)
    }

    /// Checks that the placement driver learns the sizes of the regions. This takes ten heartbeats, so only some runs
    /// do it.
    async fn sizes(&mut self, admin: &Client) -> Verdict {
        if !self.plan.schedule_seed.is_multiple_of(8) {
            return Ok(());
        }
        let heartbeat_ns = self.plan.knobs.settings().pd.store_heartbeat_ms * 1_000_000;
        let until = self.now() + liveness::bound_ns(&self.plan) + 11 * heartbeat_ns;
        let pd = admin.pd().with_deadline(std::time::Duration::from_secs(10));
        loop {
            let held =
                self.cluster.ids().into_iter().map(|id| self.cluster.with(id, |machine| sizes::held(&machine.home)));
            let held: BTreeMap<u64, u64> = held.flatten().collect();
            let wrong = match pd.overview().await {
                Ok(overview) => sizes::wrong(&held, &overview.regions),
                Err(error) => Some(error.to_string()),
            };
            let Some(wrong) = wrong else { return Ok(()) };
            if self.now() >= until {
                return Err(Violation::new("sizes", self.now(), 0, wrong));
            }
            self.guard(self.now() + SECOND / 2).await?;
        }
    }

    /// Waits until every store is at rest: it holds nothing that no request waits for, and its log is as small as it
    /// should be.
    async fn rest(&mut self) -> Verdict {
        let until = self.now() + liveness::bound_ns(&self.plan);
        let (settings, groups) =
            (self.plan.knobs.settings(), self.monitor.with(|observed| observed.ranges.regions().len()));
        let groups = groups as u64 + 1;
        for id in self.cluster.ids() {
            loop {
                let (replicas, staged, (log_bytes, longest)) =
                    self.cluster.with(id, |machine| (machine.replicas(), machine.home.staged(), machine.log_bytes()));
                let held = replicas.and_then(|replicas| bounds::left_over(&replicas.raft_figures(), staged, &settings));
                let large = bounds::log_bytes_max(&settings, groups, longest).filter(|max| log_bytes > *max);
                let large =
                    large.map(|max| format!("{} KiB of log files, at most {} are allowed", log_bytes >> 10, max >> 10));
                let Some(what) = held.or(large) else { break };
                if self.now() >= until {
                    let what = format!("the store does not come to rest: {what}");
                    return Err(Violation::new("bounds", self.now(), id, what));
                }
                self.guard(self.now() + SECOND / 5).await?;
            }
        }
        Ok(())
    }

    fn outcome(mut self, violation: Option<Violation>) -> Outcome {
        // For people who investigate a failure: the whole history, one call per line.
        if let Some(path) = std::env::var_os("ARMILLA_HISTORY") {
            let text: String = self.ledger.with(|history| history.records.iter().map(|record| record.line()).collect());
            let _ = std::fs::write(path, text);
        }
        let (ops, unknown, served) = self.ledger.with(|h| (h.records.len(), h.unknown(), liveness::served(h)));
        let mut put = |name: &str, value: u64| {
            self.stats.insert(name.into(), value);
        };
        put("transactions", self.ledger.transactions.lock().expect("nothing panics while holding it").len() as u64);
        put("ops", ops as u64);
        put("ops_unknown", unknown as u64);
        put("ops_served", served as u64);
        put("starts", self.cluster.starts());
        put("delivered", self.world.net().delivered());
        self.monitor.with(|observed| {
            put("elections", observed.raft.elections);
            put("pause_permille", observed.pauses.worst_permille.0);
            put("stop_pause_permille", observed.pauses.worst_permille.1);
            put("snapshots", observed.raft.snapshots);
            put("snapshots_in_a_row", observed.raft.snapshots_in_a_row());
            put("leases", observed.leases.given);
            put("reads_judged", observed.reads.served);
            put("lease_reads", observed.raft.lease_reads);
            put("index_reads", observed.raft.index_reads);
            put("applies", observed.raft.applies);
            observed.operations.counts().into_iter().for_each(|(kind, count)| put(kind, count));
            put("births_judged", observed.births.judged);
            put("load_splits_judged", observed.loads.splits);
            put("settings_changed", observed.settings.changes);
            put("limited_changes_judged", observed.limits.judged);
            put("regions", observed.ranges.regions().len() as u64);
            put("tso_batches", observed.issued.batches);
        });
        let failure =
            violation.map(|v| Failure { oracle: v.oracle.to_owned(), what: v.what, at_ns: v.at, node: v.node });
        Outcome { failure, stats: self.stats }
    }
}
