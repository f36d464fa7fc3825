//! The nemesis: carries out a plan's faults at their times.
//!
//! Faults overlap. What is in force at one moment is the union of the active ones, and is worked out anew whenever one begins or
//! ends, so that the end of one partition does not heal another.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use armilla::client::PdClient;
use armilla::rt::rng::Rng;
use armilla::rt::sim::{LinkConfig, NodeHandle, World};

use crate::clients;
use crate::cluster::{CLIENT_BASE, Cluster, link};
use crate::oracle::ttl::Walls;
use crate::plan::{Plan, Target, What};
use crate::watch::Watch;

/// How far each clock may be off. A lease is 0.8 election timeouts of the leader's clock, a promise 1.0 of the voter's; with a leader
/// that is slow by `d` and voters that are fast by `d` the lease ends in time while 0.8 / (1 - d) <= 1 / (1 + d), so up to
/// d = 0.2 / 1.8 = 0.1111: the slower clock then runs at 0.8 of the faster, which is what `CLOCK_DRIFT_PERMILLE` promises.
pub const DRIFT_PPM_MAX: i64 = 111_000;

/// An active fault: what, and the node it was resolved to (0: none in particular).
#[derive(Clone, Debug)]
struct Active {
    what: What,
    node: u64,
}

/// Carries out faults.
pub struct Nemesis {
    world: World,
    watch: Watch,
    cluster: Cluster,
    plan: Plan,
    /// Region groups in order of their keys, without the sentinel.
    groups: Vec<u64>,
    /// Asks for transfers, from its own machine.
    pd: PdClient,
    admin: NodeHandle,
    active: BTreeMap<usize, Active>,
    /// Directed pairs that are cut now.
    cut: BTreeSet<(u64, u64)>,
    paused: BTreeSet<u64>,
    /// How links are now: all of them, and what is added to the latency of some (ms).
    links: (LinkConfig, BTreeMap<(u64, u64), u64>),
    walls: Walls,
    rng: Rng,
    /// The node whose disk was replaced by an empty one, if that happened: its replicas are gone for good.
    pub wiped: Option<u64>,
    /// How many faults struck.
    pub struck: u64,
}

enum Step {
    Begin(usize),
    End(usize),
}

impl Nemesis {
    /// A nemesis for `plan`; `groups` are the regions' ids in order of their keys, `pd` on the machine `admin` asks for transfers.
    pub fn new(
        world: &World,
        watch: &Watch,
        cluster: &Cluster,
        plan: &Plan,
        groups: Vec<u64>,
        (pd, admin): (PdClient, NodeHandle),
        walls: Walls,
    ) -> Nemesis {
        Nemesis {
            world: world.clone(),
            watch: watch.clone(),
            cluster: cluster.clone(),
            plan: plan.clone(),
            groups,
            pd,
            admin,
            active: BTreeMap::new(),
            cut: BTreeSet::new(),
            paused: BTreeSet::new(),
            links: (link(&plan.knobs), BTreeMap::new()),
            walls,
            rng: Rng::fork(plan.schedule_seed, "nemesis"),
            wiped: None,
            struck: 0,
        }
    }

    /// Carries out everything, from `begin_ns` (ghost) on. Ends when the last fault has ended.
    pub async fn run(&mut self, begin_ns: u64) {
        let mut steps: BTreeMap<(u64, usize), Step> = BTreeMap::new();
        for (n, fault) in self.plan.faults.iter().enumerate() {
            steps.insert((begin_ns + fault.at_ms * 1_000_000, n * 2), Step::Begin(n));
        }
        while let Some(((at_ns, order), step)) = steps.pop_first() {
            self.world.sleep_until(at_ns.max(self.world.now_ns())).await;
            match step {
                Step::Begin(n) => {
                    if self.begin(n) {
                        let end_ns = self.world.now_ns() + self.plan.faults[n].what.lasts_ms() * 1_000_000;
                        steps.insert((end_ns, order + 1), Step::End(n));
                    }
                }
                Step::End(n) => self.end(n),
            }
        }
    }

    fn resolve(&self, target: Target) -> u64 {
        let ids = self.cluster.ids();
        let leader = |group: Option<&u64>| {
            let group = group.copied().unwrap_or(0);
            self.watch.with(|heard| heard.leaders.get(&group).map(|(_, node)| *node)).unwrap_or(ids[0])
        };
        match target {
            Target::Node(n) => ids[(n as usize - 1) % ids.len()],
            Target::Leader(region) => leader(self.groups.get(region as usize % self.groups.len().max(1))),
            Target::Follower(region) => {
                let leads = self.resolve(Target::Leader(region));
                ids.iter().copied().find(|id| *id > leads).unwrap_or(ids[0])
            }
            Target::PdLeader => leader(Some(&armilla::types::GroupId::PD.0)),
        }
    }

    /// Starts a fault; true if it has an end.
    fn begin(&mut self, n: usize) -> bool {
        let what = self.plan.faults[n].what.clone();
        let mut rng = Rng::fork(self.plan.schedule_seed ^ self.plan.faults[n].at_ms, "fault");
        let node = match &what {
            What::Crash { node, .. }
            | What::Pause { node, .. }
            | What::SlowCpu { node, .. }
            | What::SlowDisk { node, .. }
            | What::StallDisk { node, .. }
            | What::FailSync { node, .. }
            | What::FullDisk { node, .. }
            | What::Isolate { node, .. }
            | What::OneWay { node, .. }
            | What::Bridge { node, .. }
            | What::CutClients { node, .. }
            | What::Reset { node }
            | What::ClockStep { node, .. }
            | What::ClockDrift { node, .. }
            | What::ClockApart { node, .. }
            | What::Rack { node, .. }
            | What::SlowLink { node, .. }
            | What::Stop { node, .. }
            | What::Wipe { node, .. } => self.resolve(*node),
            What::CrashAll { .. }
            | What::Split { .. }
            | What::Ring { .. }
            | What::Bad { .. }
            | What::Transfer { .. }
            | What::TransferPd { .. } => 0,
        };
        self.struck += 1;
        match &what {
            What::Crash { .. } => {
                let power = rng.chance(0.75);
                self.kill(node, power, &mut rng);
            }
            What::CrashAll { .. } => {
                for id in self.cluster.ids() {
                    self.kill(id, true, &mut rng);
                }
            }
            What::Wipe { .. } => {
                self.kill(node, true, &mut rng);
                self.cluster.wipe(node);
                self.wiped = Some(node);
            }
            What::Stop { .. } => {
                if !self.cluster.is_up(node) {
                    return false;
                }
                self.cluster.stop(node);
            }
            // The supervisor starts it again once its store has stopped.
            What::FailSync { .. } => {
                if !self.cluster.is_up(node) || self.cluster.with(node, |machine| machine.is_armed()) {
                    return false;
                }
                self.cluster.arm(node);
                self.cluster.with(node, |machine| {
                    if rng.chance(0.75) {
                        machine.handle.disk().fail_next_sync();
                    } else {
                        machine.home.fail_next_flush();
                    }
                });
            }
            What::FullDisk { .. } => self.cluster.excuse(node),
            What::StallDisk { for_ms, .. } => {
                self.cluster.with(node, |machine| machine.handle.disk().stall(Duration::from_millis(*for_ms)));
            }
            What::Reset { .. } => {
                for other in self.everyone().into_iter().filter(|other| *other != node) {
                    self.world.net().reset_connections(node, other);
                }
            }
            What::ClockStep { by_ms, .. } => {
                self.walls.look(&self.world);
                self.cluster.with(node, |machine| machine.handle.clock().step_ms(*by_ms));
                self.walls.look(&self.world);
            }
            What::ClockDrift { ppm, .. } => self.drift(node, *ppm),
            What::ClockApart { ppm, .. } => {
                for id in self.cluster.ids() {
                    self.drift(id, if id == node { -*ppm } else { *ppm });
                }
            }
            What::Transfer { region, to } => {
                let group = self.groups.get(*region as usize % self.groups.len().max(1)).copied();
                group.into_iter().for_each(|group| self.transfer(group, *to));
            }
            What::TransferPd { to } => self.transfer(armilla::types::GroupId::PD.0, *to),
            _ => {}
        }
        let graceful = matches!(what, What::Stop { .. });
        if what.lasts_ms() == 0 {
            // Orders and clocks disturb nobody.
            if matches!(what, What::FailSync { .. } | What::Reset { .. }) {
                self.tell_regime();
            }
            return false;
        }
        self.active.insert(n, Active { what, node });
        self.apply();
        if !graceful {
            self.tell_regime();
        }
        true
    }

    /// Tells the oracle of pauses what is wrong now.
    fn tell_regime(&self) {
        let mut dead = Some(self.wiped.into_iter().collect::<BTreeSet<u64>>());
        for active in self.active.values() {
            match active.what {
                What::Crash { .. }
                | What::Wipe { .. }
                | What::Pause { .. }
                | What::Isolate { .. }
                | What::Rack { .. } => {
                    dead.iter_mut().for_each(|dead| {
                        dead.insert(active.node);
                    });
                }
                What::CrashAll { .. } => dead.iter_mut().for_each(|dead| dead.extend(self.cluster.ids())),
                // Its process may be up still, and hands over.
                What::Stop { .. } | What::CutClients { .. } => {}
                _ => dead = None,
            }
        }
        // A sync that is going to fail ends a store at any time.
        if self.cluster.ids().into_iter().any(|id| self.cluster.with(id, |machine| machine.is_armed())) {
            dead = None;
        }
        let now_ns = self.world.now_ns();
        self.watch.with(|heard| heard.pauses.regime(now_ns, dead));
    }

    fn end(&mut self, n: usize) {
        let Some(active) = self.active.remove(&n) else { return };
        self.apply();
        match active.what {
            What::Crash { .. } | What::Wipe { .. } => self.revive(active.node),
            What::CrashAll { .. } => self.cluster.ids().into_iter().for_each(|id| self.revive(id)),
            What::Stop { .. } => {
                // What is left of the process once its node has stopped, or of a node that could not stop.
                let mut rng = Rng::fork(self.rng.next_u64(), "end");
                self.kill(active.node, false, &mut rng);
                self.revive(active.node);
            }
            What::FullDisk { .. } => {
                // Whether or not the store noticed: its process starts again, and trusts nothing that was not synced.
                let mut rng = Rng::fork(self.rng.next_u64(), "end");
                self.kill(active.node, true, &mut rng);
                self.revive(active.node);
            }
            _ => {}
        }
        self.tell_regime();
    }

    fn kill(&mut self, node: u64, power: bool, rng: &mut Rng) {
        if self.cluster.is_up(node) {
            self.paused.remove(&node);
            self.cluster.crash(node, power, rng);
        }
    }

    /// Starts a node, unless another fault still keeps it down.
    fn revive(&mut self, node: u64) {
        let held = self.active.values().any(|active| match active.what {
            What::Crash { .. } | What::Wipe { .. } | What::Stop { .. } => active.node == node,
            What::CrashAll { .. } => true,
            _ => false,
        });
        if !held {
            self.cluster.start(node);
            self.apply();
        }
    }

    fn everyone(&self) -> Vec<u64> {
        let clients = u64::from(self.plan.workload.clients + clients::OTHERS);
        self.cluster.ids().into_iter().chain((1..=clients).map(|n| CLIENT_BASE + n)).collect()
    }

    /// Directed pairs that active faults cut.
    fn cuts(&self) -> BTreeSet<(u64, u64)> {
        let ids = self.cluster.ids();
        let clients: Vec<u64> = self.everyone().into_iter().filter(|id| *id >= CLIENT_BASE).collect();
        let mut cuts = BTreeSet::new();
        let both = |cuts: &mut BTreeSet<(u64, u64)>, a: u64, b: u64| {
            if a != b {
                cuts.insert((a, b));
                cuts.insert((b, a));
            }
        };
        for active in self.active.values() {
            let node = active.node;
            match &active.what {
                What::Isolate { .. } => ids.iter().for_each(|&other| both(&mut cuts, node, other)),
                What::OneWay { deaf, .. } => {
                    for &other in ids.iter().filter(|&&other| other != node) {
                        cuts.insert(if *deaf { (other, node) } else { (node, other) });
                    }
                }
                What::Split { side, .. } => {
                    let inside = |id: u64| side.contains(&(id as u32));
                    for &a in ids.iter().filter(|&&id| inside(id)) {
                        ids.iter().filter(|&&id| !inside(id)).for_each(|&b| both(&mut cuts, a, b));
                    }
                }
                What::Bridge { .. } => {
                    let rest: Vec<u64> = ids.iter().copied().filter(|&id| id != node).collect();
                    let (left, right) = rest.split_at(rest.len() / 2);
                    left.iter().for_each(|&a| right.iter().for_each(|&b| both(&mut cuts, a, b)));
                }
                What::Ring { .. } => {
                    for (i, &a) in ids.iter().enumerate() {
                        for (j, &b) in ids.iter().enumerate() {
                            let apart = i.abs_diff(j);
                            if apart > 1 && apart != ids.len() - 1 {
                                both(&mut cuts, a, b);
                            }
                        }
                    }
                }
                What::Rack { .. } => {
                    let inside = |id: u64| id == node || (id >= CLIENT_BASE && id.is_multiple_of(2));
                    for &a in self.everyone().iter().filter(|&&id| inside(id)) {
                        self.everyone().iter().filter(|&&id| !inside(id)).for_each(|&b| both(&mut cuts, a, b));
                    }
                }
                What::CutClients { .. } => clients.iter().for_each(|&client| both(&mut cuts, node, client)),
                _ => {}
            }
        }
        cuts
    }

    /// Makes the world what the active faults say.
    fn apply(&mut self) {
        let wanted = self.cuts();
        let net = self.world.net().clone();
        let healed: BTreeSet<(u64, u64)> =
            self.cut.difference(&wanted).map(|&(a, b)| if a < b { (a, b) } else { (b, a) }).collect();
        for (a, b) in healed {
            net.heal(a, b);
            self.cut.remove(&(a, b));
            self.cut.remove(&(b, a));
        }
        for &(from, to) in wanted.difference(&self.cut) {
            net.partition_one_way(from, to);
        }
        self.cut = wanted;

        let mut config = link(&self.plan.knobs);
        let ids = self.cluster.ids();
        let mut slow_links = BTreeMap::<(u64, u64), u64>::new();
        let (mut slow_disk, mut slow_cpu) = (BTreeMap::<u64, u32>::new(), BTreeMap::<u64, u32>::new());
        let (mut full, mut paused) = (BTreeSet::new(), BTreeSet::new());
        for active in self.active.values() {
            match active.what {
                What::Bad { loss_permille, delay_ms, .. } => {
                    config.loss = (config.loss + f64::from(loss_permille) / 1000.0).min(0.3);
                    config.reset = config.loss / 50.0;
                    config.latency_us_mean += delay_ms * 1000;
                }
                What::SlowLink { inbound, delay_ms, .. } => {
                    for &other in ids.iter().filter(|&&other| other != active.node) {
                        let link = if inbound { (other, active.node) } else { (active.node, other) };
                        *slow_links.entry(link).or_default() += delay_ms;
                    }
                }
                What::SlowDisk { factor, .. } => {
                    let worst = slow_disk.entry(active.node).or_default();
                    *worst = factor.max(*worst);
                }
                What::SlowCpu { factor, .. } => {
                    let worst = slow_cpu.entry(active.node).or_default();
                    *worst = factor.max(*worst);
                }
                What::FullDisk { .. } => drop(full.insert(active.node)),
                What::Pause { .. } => drop(paused.insert(active.node)),
                _ => {}
            }
        }
        let links = (config, slow_links);
        if links != self.links {
            let (config, slow) = &links;
            net.set_all(config.clone());
            for (&(from, to), delay_ms) in slow {
                let latency_us_min = config.latency_us_min + delay_ms * 1000;
                net.set_latency(from, to, LinkConfig { latency_us_min, ..config.clone() });
            }
            self.links = links;
        }
        for id in ids {
            let handle = self.cluster.with(id, |machine| machine.handle.clone());
            handle.disk().set_slow(slow_disk.get(&id).map_or(1.0, |&factor| f64::from(factor)));
            handle.disk().set_full(full.contains(&id));
            self.cluster.with(id, |machine| machine.full = full.contains(&id));
            handle.set_cpu_factor(slow_cpu.get(&id).map_or(1.0, |&factor| f64::from(factor)));
            match (paused.contains(&id), self.paused.contains(&id)) {
                (true, false) if self.cluster.is_up(id) => {
                    handle.pause();
                    self.paused.insert(id);
                }
                (false, true) => {
                    handle.resume();
                    self.paused.remove(&id);
                }
                _ => {}
            }
        }
    }

    fn drift(&self, node: u64, ppm: i64) {
        let ppm = ppm.clamp(-DRIFT_PPM_MAX, DRIFT_PPM_MAX);
        self.cluster.with(node, |machine| machine.handle.clock().set_drift_ppm(ppm));
    }

    fn transfer(&self, group: u64, to: u32) {
        let node = self.resolve(Target::Node(to));
        let store = self.watch.with(|heard| heard.node_of.iter().find(|(_, n)| **n == node).map(|(store, _)| *store));
        let Some(store) = store else { return };
        let pd = self.pd.with_deadline(Duration::from_secs(2));
        self.admin.spawn(async move {
            // A refusal (the leader just moved) is as good as a transfer.
            let _ = pd.transfer_leader(group, store).await;
        });
    }

    /// Ends every fault; clocks run right again, every process is up.
    pub fn heal(&mut self) {
        self.active.clear();
        self.apply();
        self.world.net().heal_all();
        self.cut.clear();
        for id in self.cluster.ids() {
            self.cluster.with(id, |machine| machine.handle.clock().set_drift_ppm(0));
            self.cluster.start(id);
        }
        self.tell_regime();
    }

    /// Every process dies at once, with all that was not synced, and starts again.
    pub fn last_crash(&mut self) {
        let mut rng = Rng::fork(self.rng.next_u64(), "last crash");
        for id in self.cluster.ids() {
            self.kill(id, true, &mut rng);
        }
        for id in self.cluster.ids() {
            self.cluster.start(id);
        }
        self.tell_regime();
    }
}
