//! The nemesis, which executes a plan's faults at their times.

use std::collections::{BTreeMap, BTreeSet};

use armilla::rt::rng::Rng;

use crate::fault::Fault;
use crate::fault::behavior::{Active, Hit};
use crate::fault::context::Context;
use crate::fault::force::Force;
use crate::plan::Plan;

const MS: u64 = 1_000_000;
/// The number of order keys that each fault has for steps at the same time: its begin, its end, and a change.
const STEPS: usize = 3;

/// A schedule of faults.
pub struct Nemesis {
    /// The world that the faults act on.
    pub context: Context,
    schedule_seed: u64,
    faults: Vec<Fault>,
    /// The active faults by their index in the plan: the node to which the target was resolved, and when the fault
    /// began (true ns).
    active: BTreeMap<usize, (u64, u64)>,
    /// The effects that are in force.
    force: Force,
    /// The number of faults that began.
    pub struck: u64,
}

enum Step {
    Begin(usize),
    End(usize),
    /// The effects of an active fault change by themselves.
    Change(usize),
    /// Hanging connections have been closed by now: the oracle of pauses may judge again.
    Settle,
}

impl Nemesis {
    /// Creates the nemesis for `plan`.
    pub fn new(plan: &Plan, context: Context) -> Nemesis {
        let force = Force::none(context.link.clone());
        Nemesis {
            context,
            schedule_seed: plan.schedule_seed,
            faults: plan.faults.clone(),
            active: BTreeMap::new(),
            force,
            struck: 0,
        }
    }

    /// Executes all faults, starting at `begin_ns` (true time). Returns when the last fault has ended.
    pub async fn run(&mut self, begin_ns: u64) {
        let mut steps: BTreeMap<(u64, usize), Step> = BTreeMap::new();
        for (n, fault) in self.faults.iter().enumerate() {
            steps.insert((begin_ns + fault.at_ms * MS, n * STEPS), Step::Begin(n));
        }
        let world = self.context.world.clone();
        while steps.values().any(|step| !matches!(step, Step::Settle))
            && let Some(((at_ns, order), step)) = steps.pop_first()
        {
            world.sleep_until(at_ns.max(world.now_ns())).await;
            match step {
                Step::Begin(n) => {
                    if self.begin(n) {
                        let end_ns = world.now_ns() + self.faults[n].for_ms * MS;
                        steps.insert((end_ns, order + 1), Step::End(n));
                        self.plan_change(n, &mut steps);
                    }
                }
                Step::End(n) => self.end(n),
                Step::Change(n) if self.active.contains_key(&n) => {
                    self.enforce();
                    self.plan_change(n, &mut steps);
                }
                Step::Change(_) => {}
                Step::Settle => self.tell_pauses(),
            }
            if let Some(until_ns) = self.context.unsettled.values().copied().find(|until_ns| *until_ns > world.now_ns())
            {
                steps.insert((until_ns, usize::MAX), Step::Settle);
            }
        }
    }

    /// Schedules the next change of an active fault.
    fn plan_change(&self, n: usize, steps: &mut BTreeMap<(u64, usize), Step>) {
        let Some(&(_, since_ns)) = self.active.get(&n) else { return };
        let elapsed_ms = (self.context.world.now_ns() - since_ns) / MS;
        if let Some(at_ms) = self.faults[n].changes_at_ms(elapsed_ms) {
            steps.insert((since_ns + at_ms * MS, n * STEPS + 2), Step::Change(n));
        }
    }

    /// Begins a fault. Returns whether it has an end to be scheduled.
    fn begin(&mut self, n: usize) -> bool {
        let fault = self.faults[n].clone();
        let node = fault.target.map_or(0, |target| self.context.resolve(target));
        let rng = Rng::fork(self.schedule_seed ^ fault.at_ms, "fault");
        self.struck += 1;
        if !fault.strike(&mut Hit { node, for_ms: fault.for_ms, rng }, &mut self.context) {
            return false;
        }
        if fault.for_ms > 0 {
            self.active.insert(n, (node, self.context.world.now_ns()));
            self.enforce();
        }
        if fault.disturbs() {
            self.tell_pauses();
        }
        fault.for_ms > 0
    }

    fn end(&mut self, n: usize) {
        let Some((node, _)) = self.active.remove(&n) else { return };
        self.enforce();
        for id in self.faults[n].clone().end(node, &mut self.context) {
            if !self.force.down.contains(&id) {
                self.context.cluster.start(id);
                self.enforce();
            }
        }
        self.tell_pauses();
    }

    /// Recomputes the effects of the active faults and applies them to the world.
    fn enforce(&mut self) {
        let mut force = Force::none(self.context.link.clone());
        let now_ns = self.context.world.now_ns();
        for (n, &(node, since_ns)) in &self.active {
            let active = Active { node, elapsed_ms: (now_ns - since_ns) / MS };
            self.faults[*n].impose(active, &self.context.machines, &mut force);
        }
        // Work that has begun still takes its time, before and after its effect.
        for (node, by_ms) in &self.force.long_work_ms {
            if force.long_work_ms.get(node).is_none_or(|now_ms| now_ms < by_ms) {
                let until_ns = now_ns + 2 * u64::from(*by_ms) * MS;
                let known = self.context.unsettled.entry(*node).or_default();
                *known = until_ns.max(*known);
            }
        }
        force.apply(&self.force, &self.context.world, &self.context.cluster);
        // A process that is down or starting handles no ticks.
        let cluster = &self.context.cluster;
        let slow = force.only_slow_engines().into_iter();
        let slow = slow.filter(|node| cluster.with(*node, |machine| machine.replicas().is_some()));
        let calls_end = |node: u64| self.context.world.get(node).map_or(0, |node| node.disk().calls_end_ns());
        let slow = slow.map(|node| (node, calls_end(node))).collect();
        if let Err(violation) = self.context.monitor.with(|observed| observed.lanes.judge(now_ns, &slow)) {
            self.context.monitor.report(violation);
        }
        let low = force.only_low(2 * self.context.machines.reserve_kib);
        self.context.monitor.with(|observed| observed.rooms.judge(now_ns, &low));
        self.force = force;
    }

    /// Reports the present faults to the oracle of pauses and to related oracles.
    fn tell_pauses(&self) {
        let Context { cluster, world, monitor, wiped, .. } = &self.context;
        // A pending failure of a sync may end a store at any time.
        let armed = cluster.ids().into_iter().any(|id| cluster.with(id, |machine| machine.is_armed()));
        // A store with a damaged disk may detect this at any time or never; until then its replicas continue.
        let hurt = wiped.filter(|node| !cluster.with(*node, |machine| machine.wiped));
        let armed = armed || hurt.is_some();
        let lost = wiped.filter(|_| hurt.is_none());
        let dead: BTreeSet<u64> = self.force.dead.clone();
        let (now_ns, settings_differ) = (world.now_ns(), self.context.settings_differ);
        let calm = !armed && !settings_differ && !self.context.is_unsettled();
        let slow = self.force.only_slow(&self.context.link).filter(|_| calm);
        let loses_nothing = self.force.plain || self.force.is_only_slow(&self.context.link);
        let plain = self.force.plain && calm;
        let drained = self.force.nothing_but_low(self.context.machines.reserve_kib, &self.context.link);
        let drained = if calm { drained } else { Default::default() };
        let dead = plain.then_some(dead);
        let without: Option<BTreeSet<u64>> = dead.clone().map(|dead| dead.into_iter().chain(lost).collect());
        monitor.with(|observed| {
            observed.births.regime(now_ns, without.as_ref());
            observed.pauses.lost = lost;
            observed.pauses.regime(now_ns, dead);
            // A log with a small limit in bytes may lack the entries after a snapshot.
            observed.raft.judge_snapshots_while(calm && loses_nothing && self.context.keeps_log);
            observed.moved.judge(now_ns, slow);
            observed.rooms.judge_leaders(now_ns, &drained);
        });
    }

    /// Ends every fault, makes clocks run at their normal speed, and starts every process.
    pub fn heal(&mut self) {
        self.active.clear();
        self.enforce();
        self.context.world.net().heal_all();
        let cluster = self.context.cluster.clone();
        for id in cluster.ids() {
            cluster.with(id, |machine| machine.handle.clock().set_drift_ppm(0));
            cluster.start(id);
        }
        self.tell_pauses();
    }

    /// Cuts the power of all machines at once and starts them again.
    pub fn last_crash(&mut self) {
        let mut rng = self.context.fork("last crash");
        let cluster = self.context.cluster.clone();
        for id in cluster.ids() {
            self.context.cut_power(id, &mut rng);
        }
        for id in cluster.ids() {
            cluster.start(id);
        }
        self.tell_pauses();
    }
}
