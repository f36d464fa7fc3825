//! Reduces a failing plan to the parts that the failure needs: delta debugging (Zeller's ddmin) over faults and
//! operations, then over clients, stores, regions, kinds of operations, durations, and settings that differ from the
//! defaults.
//!
//! A smaller plan runs under a different schedule, so each candidate is tried with its own schedule seed and a few
//! others; the seed that fails is kept in the plan. Only a failure of the same oracle counts, so that shrinking does
//! not drift to another bug.

use std::collections::BTreeMap;

use armilla::rt::rng::Rng;

use crate::fault::Fault;
use crate::plan::Plan;

/// Limits of the work that shrinking may do.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Number of runs in all.
    pub runs: u32,
    /// Number of schedule seeds to try for one candidate.
    pub schedules: u32,
}

/// Shrinks a plan. `fails` runs a candidate and returns whether it fails in the same way.
pub fn shrink(plan: Plan, budget: Budget, fails: &mut dyn FnMut(&Plan) -> bool) -> Plan {
    let mut work = Work { best: plan, budget, runs: 0, fails, rng: Rng::new(1) };
    loop {
        let before = work.best.clone();
        work.faults();
        work.length();
        work.ops();
        work.numbers();
        work.strengths();
        work.settings();
        if work.best == before || work.runs >= budget.runs {
            return work.best;
        }
    }
}

struct Work<'a> {
    best: Plan,
    budget: Budget,
    runs: u32,
    fails: &'a mut dyn FnMut(&Plan) -> bool,
    rng: Rng,
}

impl Work<'_> {
    /// Returns whether a candidate fails under one of a few schedules. If it does, it becomes the best plan.
    fn try_plan(&mut self, mut candidate: Plan) -> bool {
        if candidate == self.best || candidate.validate().is_err() {
            return false;
        }
        for attempt in 0..self.budget.schedules {
            if self.runs >= self.budget.runs {
                return false;
            }
            if attempt > 0 {
                candidate.schedule_seed = self.rng.next_u64() >> 1;
            }
            self.runs += 1;
            if (self.fails)(&candidate) {
                self.best = candidate;
                return true;
            }
        }
        false
    }

    /// Runs ddmin: `make(best, kept)` returns the plan with only these of `count` items.
    fn minimize(&mut self, count: usize, make: &dyn Fn(&Plan, &[usize]) -> Plan) {
        let base = self.best.clone();
        let mut kept: Vec<usize> = (0..count).collect();
        let mut parts = 2;
        while !kept.is_empty() {
            let size = kept.len().div_ceil(parts);
            let mut cut = false;
            let mut at = 0;
            while at < kept.len() {
                let mut rest = kept[..at].to_vec();
                rest.extend_from_slice(&kept[(at + size).min(kept.len())..]);
                let mut candidate = make(&base, &rest);
                candidate.schedule_seed = self.best.schedule_seed;
                if self.try_plan(candidate) {
                    kept = rest;
                    cut = true;
                } else {
                    at += size;
                }
            }
            if size == 1 && !cut {
                break;
            }
            if !cut {
                parts = (parts * 2).min(kept.len());
            }
        }
    }

    fn faults(&mut self) {
        self.minimize(self.best.faults.len(), &|plan, kept| {
            let faults = kept.iter().map(|&n| plan.faults[n].clone()).collect();
            Plan { faults, ..plan.clone() }
        });
    }

    /// Cuts operations off the end, which makes every later run cheaper.
    fn length(&mut self) {
        loop {
            let mut candidate = self.best.clone();
            let Some(last) = candidate.workload.ops.last_mut() else { return };
            if last[1] - last[0] < 2 {
                return;
            }
            last[1] -= (last[1] - last[0]) / 2;
            if !self.try_plan(candidate) {
                return;
            }
        }
    }

    fn ops(&mut self) {
        let numbers: Vec<u32> = self.best.op_numbers().collect();
        // Operations are removed in blocks: a single one is rarely worth a run.
        let block = numbers.len().div_ceil(64).max(1);
        let blocks: Vec<&[u32]> = numbers.chunks(block).collect();
        self.minimize(blocks.len(), &|plan, kept| {
            let mut ops: Vec<[u32; 2]> = Vec::new();
            for &number in kept.iter().flat_map(|&n| blocks[n]) {
                match ops.last_mut() {
                    Some(last) if last[1] == number => last[1] += 1,
                    _ => ops.push([number, number + 1]),
                }
            }
            let mut plan = plan.clone();
            plan.workload.ops = ops;
            plan
        });
    }

    fn numbers(&mut self) {
        while self.best.workload.clients > 1 {
            let mut candidate = self.best.clone();
            candidate.workload.clients -= 1;
            if !self.try_plan(candidate) {
                break;
            }
        }
        if self.best.topology.stores > 3 {
            let mut candidate = self.best.clone();
            candidate.topology.stores = 3;
            candidate.topology.replicas = candidate.topology.replicas.min(3);
            candidate.faults.retain(|fault| !fault.names_node_above(3));
            self.try_plan(candidate);
        }
        let mut candidate = self.best.clone();
        candidate.topology.splits.clear();
        self.try_plan(candidate);
        let mut candidate = self.best.clone();
        candidate.workload.tso_ms = 0;
        self.try_plan(candidate);
        let mut candidate = self.best.clone();
        candidate.workload.query_ms = 0;
        self.try_plan(candidate);
        let mut candidate = self.best.clone();
        candidate.workload.families_ms = 0;
        self.try_plan(candidate);
        let mut candidate = self.best.clone();
        candidate.workload.txn_ms = 0;
        self.try_plan(candidate);
        let mut candidate = self.best.clone();
        candidate.knobs.buggify = 0;
        self.try_plan(candidate);
        // Removes each kind of operation on its own.
        let mix = toml::Table::try_from(self.best.workload.mix).expect("a table of numbers");
        let kinds: BTreeMap<String, i64> =
            mix.into_iter().filter_map(|(k, v)| v.as_integer().map(|v| (k, v))).collect();
        for name in kinds.iter().filter(|(_, weight)| **weight > 0).map(|(name, _)| name) {
            let mut candidate = self.best.clone();
            let mut mix = toml::Table::try_from(candidate.workload.mix).expect("a table of numbers");
            mix.insert(name.clone(), 0.into());
            candidate.workload.mix = mix.try_into().expect("the same table");
            self.try_plan(candidate);
        }
    }

    /// Resets settings to their defaults, one after the other: those that remain are needed for the failure.
    fn settings(&mut self) {
        for (table, key) in settings_of(&self.best) {
            let mut candidate = self.best.clone();
            let empty = match candidate.knobs.config.get_mut(&table) {
                Some(toml::Value::Table(inner)) if !key.is_empty() => {
                    inner.remove(&key);
                    inner.is_empty()
                }
                _ => true,
            };
            if empty {
                candidate.knobs.config.remove(&table);
            }
            self.try_plan(candidate);
        }
        let plainer: [fn(&mut Plan); 5] = [
            |plan| plan.knobs.last_crash = false,
            |plan| plan.knobs.disk_mib = 0,
            |plan| plan.workload.bad_request_ms = 0,
            |plan| plan.workload.tso_many_permille = 0,
            |plan| plan.workload.value_bytes = 8,
        ];
        for make in plainer {
            let mut candidate = self.best.clone();
            make(&mut candidate);
            self.try_plan(candidate);
        }
    }

    /// Makes each fault shorter, then milder.
    fn strengths(&mut self) {
        for n in 0..self.best.faults.len() {
            for smaller in [Fault::shorter, Fault::milder] {
                while let Some(fault) = smaller(&self.best.faults[n]) {
                    let mut candidate = self.best.clone();
                    candidate.faults[n] = fault;
                    if !self.try_plan(candidate) {
                        break;
                    }
                }
            }
        }
    }
}

/// Returns every setting of a plan that may differ from the default, as table and key; the key is empty outside tables.
pub fn settings_of(plan: &Plan) -> Vec<(String, String)> {
    let keys = |(name, value): (&String, &toml::Value)| match value {
        toml::Value::Table(table) => table.keys().map(|key| (name.clone(), key.clone())).collect(),
        _ => vec![(name.clone(), String::new())],
    };
    plan.knobs.config.iter().flat_map(keys).collect()
}

#[cfg(test)]
mod tests {
    //! Goal: shrinking keeps the parts that the failure needs and removes the rest. Method: failures made of known
    //! parts of a plan.
    use super::*;

    #[test]
    fn keeps_what_is_needed() {
        let plan = (0..)
            .map(crate::plan::swarm::plan)
            .find(|plan| plan.faults.len() > 25 && plan.workload.clients > 3)
            .expect("one");
        let needed = [plan.faults[3].clone(), plan.faults[17].clone()];
        let op = plan.workload.ops[0][1] / 3;
        let mut runs = 0;
        let mut fails = |candidate: &Plan| {
            runs += 1;
            let at = |ms: u64| candidate.faults.iter().any(|fault| fault.at_ms == ms);
            needed.iter().all(|fault| at(fault.at_ms))
                && candidate.op_numbers().any(|n| n == op)
                && candidate.workload.clients >= 2
                && candidate.knobs.config.get("raft").is_some_and(|raft| raft.get("tick_ms").is_some())
        };
        let small = shrink(plan.clone(), Budget { runs: 2000, schedules: 1 }, &mut fails);
        assert_eq!(small.faults.len(), 2);
        assert_eq!(small.workload.clients, 2);
        assert_eq!(small.op_count(), 2, "{:?}", small.workload.ops);
        assert_eq!(settings_of(&small), [("raft".to_owned(), "tick_ms".to_owned())]);
        assert!(!small.knobs.last_crash && small.knobs.disk_mib == 0);
        assert!(runs < 600, "{runs}");
    }
}
