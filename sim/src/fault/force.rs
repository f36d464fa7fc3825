//! The combined effects of all active faults. They are recomputed whenever a fault begins or ends, so that the end of
//! one partition does not heal another.

use std::collections::{BTreeMap, BTreeSet};

use armilla::rt::sim::{LinkConfig, World};

use crate::cluster::Cluster;

/// The numbers of all machines.
#[derive(Clone, Debug)]
pub struct Machines {
    /// The stores' numbers.
    pub stores: Vec<u64>,
    /// The clients' numbers.
    pub clients: Vec<u64>,
    /// The reserve on each store's disk, KiB; 0 if there is none.
    pub reserve_kib: u64,
}

impl Machines {
    /// Returns all machines.
    pub fn all(&self) -> Vec<u64> {
        self.stores.iter().chain(&self.clients).copied().collect()
    }

    /// Returns all stores except this one.
    pub fn others(&self, node: u64) -> impl Iterator<Item = u64> + '_ {
        self.stores.iter().copied().filter(move |other| *other != node)
    }
}

/// How a link differs from the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkChange {
    /// The latency added, ms.
    pub delay_ms: u64,
    /// The bandwidth in bytes per second, if it is lower than that of the other links.
    pub bandwidth: Option<u64>,
}

impl LinkChange {
    /// Limits the bandwidth to at most this many bytes per second.
    pub fn narrow(&mut self, bandwidth: u64) {
        self.bandwidth = Some(self.bandwidth.map_or(bandwidth, |own| own.min(bandwidth)));
    }
}

/// The combined effects of all active faults.
#[derive(Clone, Debug, PartialEq)]
pub struct Force {
    /// Directed pairs of machines between which nothing is delivered.
    pub cuts: BTreeSet<(u64, u64)>,
    /// The configuration of all links.
    pub link: LinkConfig,
    /// The differences of some directed links.
    pub links: BTreeMap<(u64, u64), LinkChange>,
    /// By node: the factor by which its disk is slower.
    pub slow_disk: BTreeMap<u64, u32>,
    /// By node: the time added before and after the effect of long operations, ms.
    pub long_work_ms: BTreeMap<u64, u32>,
    /// By node: the free space that other data leaves on its disk, KiB.
    pub left_kib: BTreeMap<u64, u64>,
    /// By node: the factor by which its processor is slower.
    pub slow_cpu: BTreeMap<u64, u32>,
    /// Nodes whose disk is full.
    pub full: BTreeSet<u64>,
    /// Nodes whose disk operations do not return.
    pub hung: BTreeSet<u64>,
    /// Nodes whose engine makes writers wait.
    pub stalled: BTreeSet<u64>,
    /// By node: how long a read of its engine from the disk takes, ms.
    pub read_ms: BTreeMap<u64, u32>,
    /// Nodes whose process is suspended.
    pub paused: BTreeSet<u64>,
    /// Nodes whose clocks have stopped.
    pub frozen: BTreeSet<u64>,
    /// Nodes that must not be started.
    pub down: BTreeSet<u64>,
    /// Nodes that are dead, paused or cut off, as reported to the oracle of pauses.
    pub dead: BTreeSet<u64>,
    /// Whether nothing else is wrong, so that the oracle of pauses can judge.
    pub plain: bool,
}

impl Force {
    /// Returns the state without any fault.
    pub fn none(link: LinkConfig) -> Force {
        Force {
            cuts: BTreeSet::new(),
            link,
            links: BTreeMap::new(),
            slow_disk: BTreeMap::new(),
            long_work_ms: BTreeMap::new(),
            left_kib: BTreeMap::new(),
            slow_cpu: BTreeMap::new(),
            full: BTreeSet::new(),
            hung: BTreeSet::new(),
            stalled: BTreeSet::new(),
            read_ms: BTreeMap::new(),
            paused: BTreeSet::new(),
            frozen: BTreeSet::new(),
            down: BTreeSet::new(),
            dead: BTreeSet::new(),
            plain: true,
        }
    }

    /// Cuts the direction from one machine to another.
    pub fn cut_one_way(&mut self, from: u64, to: u64) {
        if from != to {
            self.cuts.insert((from, to));
        }
    }

    /// Cuts two machines off from each other.
    pub fn cut(&mut self, a: u64, b: u64) {
        self.cut_one_way(a, b);
        self.cut_one_way(b, a);
    }

    /// Cuts the machines for which `inside` returns true off from all others.
    pub fn cut_between(&mut self, machines: &[u64], inside: impl Fn(u64) -> bool) {
        let (within, without): (Vec<u64>, Vec<u64>) = machines.iter().partition(|id| inside(**id));
        within.iter().for_each(|&a| without.iter().for_each(|&b| self.cut(a, b)));
    }

    /// Raises a node's factor to at least `factor`.
    pub fn raise(factors: &mut BTreeMap<u64, u32>, node: u64, factor: u32) {
        let worst = factors.entry(node).or_default();
        *worst = factor.max(*worst);
    }

    /// Returns whether a fault affects a node's process, processor or disk.
    fn is_ill(&self, node: u64) -> bool {
        let sets = [&self.full, &self.paused, &self.down, &self.hung];
        sets.iter().any(|set| set.contains(&node))
            || self.slow_disk.contains_key(&node)
            || self.slow_cpu.contains_key(&node)
    }

    /// Returns the nodes whose engine or disk is slow, if nothing else is wrong.
    pub fn only_slow(&self, link: &LinkConfig) -> Option<BTreeSet<u64>> {
        let rest = Force {
            slow_disk: BTreeMap::new(),
            long_work_ms: BTreeMap::new(),
            hung: BTreeSet::new(),
            stalled: BTreeSet::new(),
            read_ms: BTreeMap::new(),
            plain: true,
            ..self.clone()
        };
        let slow = self.slow_disk.keys().chain(self.long_work_ms.keys()).chain(self.read_ms.keys());
        let slow = slow.chain(&self.hung).chain(&self.stalled);
        (rest == Force::none(link.clone())).then(|| slow.copied().collect())
    }

    /// Returns whether nothing but slow engines, disks and links is wrong.
    pub fn is_only_slow(&self, link: &LinkConfig) -> bool {
        let links = Force { links: BTreeMap::new(), ..self.clone() };
        links.only_slow(link).is_some()
    }

    /// Returns the nodes whose engine makes writers or readers wait while nothing is wrong with their processor and
    /// disk.
    pub fn only_slow_engines(&self) -> BTreeSet<u64> {
        self.stalled.iter().chain(self.read_ms.keys()).copied().filter(|node| !self.is_ill(*node)).collect()
    }

    /// Returns the nodes with less free space than this (KiB) while nothing else is wrong with their processor and
    /// disk.
    pub fn only_low(&self, below_kib: u64) -> BTreeSet<u64> {
        let low = self.left_kib.iter().filter(|(_, left_kib)| **left_kib < below_kib);
        low.map(|(node, _)| *node).filter(|node| !self.is_ill(*node)).collect()
    }

    /// Returns the node with less free space than this (KiB), if nothing else is wrong on any node.
    pub fn nothing_but_low(&self, below_kib: u64, link: &LinkConfig) -> BTreeSet<u64> {
        let rest = Force { left_kib: BTreeMap::new(), plain: true, ..self.clone() };
        let alone = rest == Force::none(link.clone()) && self.left_kib.len() == 1;
        if alone { self.only_low(below_kib) } else { BTreeSet::new() }
    }

    /// Applies the effects to a world to which `before` was applied earlier.
    pub fn apply(&self, before: &Force, world: &World, cluster: &Cluster) {
        let net = world.net();
        let order = |&(a, b): &(u64, u64)| if a < b { (a, b) } else { (b, a) };
        // Healing affects both directions; a direction that stays cut is cut again below.
        let healed: BTreeSet<(u64, u64)> = before.cuts.difference(&self.cuts).map(order).collect();
        for &(a, b) in &healed {
            net.heal(a, b);
        }
        let was_cut = |pair: &(u64, u64)| before.cuts.contains(pair) && !healed.contains(&order(pair));
        for &(from, to) in self.cuts.iter().filter(|pair| !was_cut(pair)) {
            net.partition_one_way(from, to);
        }
        if (&self.link, &self.links) != (&before.link, &before.links) {
            net.set_all(self.link.clone());
            for (&(from, to), change) in &self.links {
                let latency_us_min = self.link.latency_us_min + change.delay_ms * 1000;
                let bandwidth = change.bandwidth.unwrap_or(self.link.bandwidth);
                net.set_latency(from, to, LinkConfig { latency_us_min, bandwidth, ..self.link.clone() });
            }
        }
        let factor = |factors: &BTreeMap<u64, u32>, id: u64| factors.get(&id).map_or(1.0, |&factor| f64::from(factor));
        for id in cluster.ids() {
            let handle = cluster.with(id, |machine| machine.handle.clone());
            handle.disk().set_slow(factor(&self.slow_disk, id));
            cluster.with(id, |machine| machine.home.stall(self.stalled.contains(&id)));
            cluster.set_full(id, self.full.contains(&id));
            handle.set_cpu_factor(factor(&self.slow_cpu, id));
            let ms = |times: &BTreeMap<u64, u32>| u64::from(times.get(&id).copied().unwrap_or(0)) * 1_000_000;
            handle.set_long_work_ns(ms(&self.long_work_ms));
            handle.set_read_ns(ms(&self.read_ms));
            if self.left_kib.get(&id) != before.left_kib.get(&id) {
                handle.disk().leave(self.left_kib.get(&id).map(|left_kib| left_kib << 10));
            }
            cluster.set_paused(id, self.paused.contains(&id));
            let frozen = self.frozen.contains(&id);
            if frozen != before.frozen.contains(&id) {
                handle.clock().set_frozen(frozen && cluster.is_up(id));
            }
        }
    }
}
