//! From a seed to a plan. Swarm testing: each class of faults is in or out for itself, so that runs differ in kind and not only
//! in detail; intensities are log-uniform, so that rare and dense are equally likely.

use armilla::rt::rng::Rng;

use crate::nemesis::DRIFT_PPM_MAX;
use crate::plan::{Fault, Knobs, Mix, Plan, Target, Topology, What, Workload};

/// The longest planned part of a run, ms; healing comes on top.
const FAULTS_MS_MAX: u64 = 90_000;
/// Runs without any fault, and with one class only.
const P_NO_FAULTS: f64 = 0.05;
const P_ONE_CLASS: f64 = 0.10;
/// In the other runs: each class and each story for itself. Many at once would drown a story's parts.
const P_CLASS: f64 = 0.4;
const P_STORY: f64 = 0.2;
/// A disk is replaced by an empty one.
const P_WIPE: f64 = 0.1;

/// A class of faults: its makers are drawn evenly.
struct Class {
    name: &'static str,
    /// How many events a minute at the least and at the most.
    per_minute: (f64, f64),
    make: fn(&mut Draw<'_>) -> What,
}

/// Faults that only together are dangerous: a failure of one part while another is in a certain state, as happens when a rack, a
/// switch or a host is in trouble. Each has its own times after the story's begin, ms.
struct Story {
    name: &'static str,
    /// How many a minute at the least and at the most.
    per_minute: (f64, f64),
    tell: fn(&mut Draw<'_>) -> Vec<(u64, What)>,
}

/// What makers draw from.
struct Draw<'a> {
    rng: &'a mut Rng,
    stores: u32,
    regions: u32,
    /// The election timeout.
    election_ms: u64,
}

impl Draw<'_> {
    fn target(&mut self) -> Target {
        match self.rng.below(10) {
            0..=2 => Target::Leader(self.rng.below(u64::from(self.regions)) as u32),
            3 => Target::PdLeader,
            _ => Target::Node(self.node()),
        }
    }
    /// Somebody who leads something.
    fn leader(&mut self) -> Target {
        if self.rng.chance(0.3) { Target::PdLeader } else { Target::Leader(self.region()) }
    }
    fn region(&mut self) -> u32 {
        self.rng.below(u64::from(self.regions)) as u32
    }
    /// So many percent of an election timeout, ms.
    fn election(&mut self, low: u64, high: u64) -> u64 {
        (self.election_ms * self.rng.between(low, high) / 100).max(1)
    }
    fn node(&mut self) -> u32 {
        self.rng.below(u64::from(self.stores)) as u32 + 1
    }
    fn log(&mut self, low: u64, high: u64) -> u64 {
        log_uniform(self.rng, low as f64, high as f64) as u64
    }
}

fn log_uniform(rng: &mut Rng, low: f64, high: f64) -> f64 {
    // exp and ln differ in the last bit between libraries, which a plan must not: powers of two by halves, then a linear rest.
    let (mut low, mut high) = (low, high);
    while high / low > 2.0 {
        let mut doublings = 0u64;
        let mut top = low;
        while top < high {
            top *= 2.0;
            doublings += 1;
        }
        let slot = rng.below(doublings);
        low *= (1u64 << slot) as f64;
        high = high.min(low * 2.0);
    }
    low + (high - low) * rng.unit()
}

const CLASSES: &[Class] = &[
    Class {
        name: "crash",
        per_minute: (1.0, 12.0),
        make: |d| What::Crash { node: d.target(), down_ms: d.log(100, 15_000) },
    },
    Class { name: "crash-all", per_minute: (0.6, 3.0), make: |d| What::CrashAll { down_ms: d.log(100, 5_000) } },
    Class {
        name: "stop",
        per_minute: (0.6, 4.0),
        make: |d| What::Stop { node: d.target(), down_ms: d.log(3000, 10_000) },
    },
    Class {
        name: "pause",
        per_minute: (1.0, 12.0),
        make: |d| What::Pause { node: d.target(), for_ms: d.log(100, 20_000) },
    },
    Class {
        name: "cpu",
        per_minute: (0.6, 4.0),
        make: |d| What::SlowCpu { node: d.target(), factor: d.log(2, 50) as u32, for_ms: d.log(1000, 20_000) },
    },
    Class {
        name: "slow-disk",
        per_minute: (0.6, 6.0),
        make: |d| match d.rng.below(2) {
            0 => What::SlowDisk { node: d.target(), factor: d.log(4, 200) as u32, for_ms: d.log(500, 20_000) },
            _ => What::StallDisk { node: d.target(), for_ms: d.log(200, 15_000) },
        },
    },
    Class {
        name: "bad-disk",
        per_minute: (0.6, 5.0),
        make: |d| match d.rng.below(3) {
            0 => What::FullDisk { node: d.target(), for_ms: d.log(500, 10_000) },
            _ => What::FailSync { node: d.target() },
        },
    },
    Class {
        name: "partition",
        per_minute: (1.0, 10.0),
        make: |d| {
            let for_ms = d.log(300, 20_000);
            match d.rng.below(8) {
                0..=2 => What::Isolate { node: d.target(), for_ms },
                3 | 4 => What::OneWay { node: d.target(), deaf: d.rng.chance(0.5), for_ms },
                5 => {
                    let side = (1..=d.stores).filter(|_| d.rng.chance(0.5)).collect();
                    What::Split { side, for_ms }
                }
                6 => What::Bridge { node: d.target(), for_ms },
                _ => What::Ring { for_ms },
            }
        },
    },
    Class {
        name: "clients",
        per_minute: (0.6, 6.0),
        make: |d| What::CutClients { node: d.target(), for_ms: d.log(500, 10_000) },
    },
    Class {
        name: "links",
        per_minute: (0.6, 6.0),
        make: |d| match d.rng.below(2) {
            0 => What::Reset { node: d.target() },
            _ => What::Bad { loss_permille: d.log(1, 60) as u32, delay_ms: d.log(1, 300), for_ms: d.log(500, 15_000) },
        },
    },
    Class {
        name: "clock",
        per_minute: (1.0, 8.0),
        make: |d| {
            let sign = if d.rng.chance(0.5) { 1 } else { -1 };
            match d.rng.below(5) {
                0 | 1 => What::ClockStep { node: d.target(), by_ms: sign * d.log(10, 600_000) as i64 },
                2 | 3 => What::ClockDrift { node: d.target(), ppm: sign * d.log(100, DRIFT_PPM_MAX as u64) as i64 },
                _ => What::ClockApart { node: d.target(), ppm: sign * DRIFT_PPM_MAX },
            }
        },
    },
    Class {
        name: "transfer",
        per_minute: (1.0, 20.0),
        make: |d| match d.rng.below(5) {
            0 => What::TransferPd { to: d.node() },
            _ => What::Transfer { region: d.region(), to: d.node() },
        },
    },
    Class {
        name: "rack",
        per_minute: (0.6, 6.0),
        make: |d| What::Rack { node: d.target(), for_ms: d.log(300, 15_000) },
    },
    Class {
        name: "slow-link",
        per_minute: (0.6, 6.0),
        make: |d| What::SlowLink {
            node: d.target(),
            inbound: d.rng.chance(0.5),
            delay_ms: d.log(5, 1500),
            for_ms: d.log(500, 15_000),
        },
    },
];

const STORIES: &[Story] = &[
    // A node is gone for long, while the others are well: what it led is led elsewhere, and nobody hands it anything.
    Story {
        name: "dead-store",
        per_minute: (1.0, 3.0),
        tell: |d| {
            let (node, for_ms) = (Target::Leader(d.region()), d.rng.between(8_000, 15_000));
            let gone = match d.rng.below(3) {
                0 => What::Isolate { node, for_ms },
                _ => What::Crash { node, down_ms: for_ms },
            };
            vec![(0, gone)]
        },
    },
    // Nodes are stopped and started one after the other, as an upgrade does.
    Story {
        name: "rolling-restart",
        per_minute: (0.6, 2.0),
        tell: |d| {
            let first = d.node();
            let stop = |n: u32| What::Stop { node: Target::Node((first + n - 1) % d.stores + 1), down_ms: 4_000 };
            (0..d.stores.min(3)).map(|n| (16_000 * u64::from(n), stop(n))).collect()
        },
    },
    // A leader loses its followers, not its clients; perhaps its clock is slow and theirs are fast.
    Story {
        name: "cut-off-leader",
        per_minute: (1.0, 6.0),
        tell: |d| {
            let (node, mut story) = (d.leader(), Vec::new());
            if d.rng.chance(0.5) {
                story.push((0, What::ClockApart { node, ppm: DRIFT_PPM_MAX }));
            }
            let (at_ms, for_ms) = (d.election(50, 300), d.election(150, 400));
            let cut = match d.rng.below(3) {
                0 => What::Isolate { node, for_ms },
                _ => What::Rack { node, for_ms },
            };
            story.push((at_ms, cut));
            story
        },
    },
    // What a leader hears is old, and then it is not heard any more.
    Story {
        name: "late-acknowledgements",
        per_minute: (1.0, 6.0),
        tell: |d| {
            let node = d.leader();
            let delay_ms = d.election(30, 130);
            let slow = What::SlowLink { node, inbound: true, delay_ms, for_ms: d.election(500, 900) };
            let silent = What::OneWay { node, deaf: false, for_ms: d.election(150, 300) };
            vec![(0, slow), (delay_ms + d.election(50, 300), silent)]
        },
    },
    // Leadership is handed over while the old leader does not hear, or hears late.
    Story {
        name: "deaf-transfer",
        per_minute: (1.0, 6.0),
        tell: |d| {
            let at_ms = d.election(0, 60);
            if d.rng.chance(0.5) {
                let deaf = What::OneWay { node: Target::PdLeader, deaf: true, for_ms: d.election(100, 300) };
                return vec![(0, deaf), (at_ms, What::TransferPd { to: d.node() })];
            }
            let region = d.region();
            let node = Target::Leader(region);
            let slow = What::SlowLink { node, inbound: true, delay_ms: d.election(10, 60), for_ms: 10_000 };
            let mut story = vec![(0, slow)];
            for n in 0..3 {
                story.push((at_ms + 3000 * n, What::Transfer { region, to: d.node() }));
            }
            story
        },
    },
    // A leader and a voter that see each other only through a third; that one may be restarted, and the leader is cut off.
    Story {
        name: "forgetful-voter",
        per_minute: (1.0, 6.0),
        tell: |d| {
            let region = d.region();
            let node = Target::Follower(region);
            let down_ms = d.rng.between(20, 200);
            let at_ms = d.election(50, 250);
            let cut = What::Isolate { node: Target::Leader(region), for_ms: d.election(100, 300) };
            let mut story = vec![(0, What::Bridge { node, for_ms: at_ms + d.election(200, 400) })];
            if d.rng.chance(0.5) {
                story.push((0, What::ClockApart { node: Target::Leader(region), ppm: DRIFT_PPM_MAX }));
            }
            if d.rng.chance(0.7) {
                story.push((at_ms, What::Crash { node, down_ms }));
            }
            story.push((at_ms + down_ms + d.rng.between(1, 300), cut));
            story
        },
    },
];

/// The plan of a seed.
pub fn plan(seed: u64) -> Plan {
    let topology_rng = &mut Rng::fork(seed, "topology");
    let stores = if topology_rng.chance(0.75) { 3 } else { 5 };
    let keys = *topology_rng.pick(&[4, 12, 30, 80]);
    let regions = topology_rng.between(1, 8).min(u64::from(keys)) as u32;
    let splits = (1..regions).map(|n| n * keys / regions).collect();
    let topology = Topology { stores, splits };
    let workload = workload(&mut Rng::fork(seed, "workload"), keys);
    let length_ms = workload.ops[0][1] as u64 * workload.pace_ms;
    let knobs = knobs(&mut Rng::fork(seed, "knobs"));
    let scene = (stores, regions, knobs.tick_ms * knobs.election_ticks);
    let faults = faults(&mut Rng::fork(seed, "faults"), scene, length_ms);
    Plan { schedule_seed: seed, bug: None, expect: None, topology, knobs, workload, faults }
}

fn knobs(rng: &mut Rng) -> Knobs {
    let heartbeat_ticks = rng.between(1, 2);
    let log_keep = *rng.pick(&[4, 16, 64, 512]);
    Knobs {
        tick_ms: *rng.pick(&[50, 100, 100, 200]),
        heartbeat_ticks,
        election_ticks: heartbeat_ticks * rng.between(5, 10),
        segment_kib: *rng.pick(&[16, 64, 256, 1024]),
        log_keep,
        log_lag: log_keep * *rng.pick(&[1, 4, 16]),
        flush_ms: *rng.pick(&[100, 500, 2000, 10_000]),
        flush_kib: *rng.pick(&[4, 64, 1024]),
        snapshot_chunk_kib: rng.between(1, 4) as usize,
        pack_kib: *rng.pick(&[1, 16, 256]),
        letters: *rng.pick(&[1, 16, 4096]),
        inflight: *rng.pick(&[2, 16, 256]),
        pd_heartbeat_ms: *rng.pick(&[500, 1000, 3000]),
        link_us: log_uniform(rng, 50.0, 3000.0) as u64,
        fsync_us: log_uniform(rng, 100.0, 5000.0) as u64,
        last_crash: rng.chance(0.6),
        ttl_collect_ms: *rng.pick(&[0, 200, 1000, 5000]),
        ttl_grace_ms: *rng.pick(&[0, 0, 3000]),
    }
}

fn workload(rng: &mut Rng, keys: u32) -> Workload {
    let clients = rng.between(2, 6) as u32;
    let total = log_uniform(rng, 400.0, 1600.0) as u32;
    let each = total / clients;
    let length_ms = rng.between(FAULTS_MS_MAX / 2, FAULTS_MS_MAX);
    // A stream of its own, so that what else is drawn stays as it was.
    let mut queries = Rng::fork(rng.clone().next_u64(), "queries");
    let mut weight = |p: f64, low: u64, high: u64| if rng.chance(p) { rng.between(low, high) as u32 } else { 0 };
    let mix = Mix {
        get: weight(1.0, 10, 60),
        batch_get: weight(0.5, 1, 15),
        put: weight(1.0, 20, 60),
        batch_put: weight(0.5, 1, 15),
        delete: weight(0.5, 1, 15),
        batch_delete: weight(0.3, 1, 5),
        delete_range: weight(0.3, 1, 3),
        scan: weight(0.6, 2, 15),
        reverse_scan: weight(0.4, 2, 10),
        cas: weight(0.6, 2, 40),
        put_ttl: weight(0.3, 1, 8) + weight(0.1, 20, 60),
        cas_ttl: weight(0.2, 1, 8),
    };
    Workload {
        seed: rng.next_u64() >> 1,
        clients,
        keys,
        ops: vec![[0, each]],
        pace_ms: (length_ms / u64::from(each)).max(1),
        deadline_ms: *rng.pick(&[1000, 3000, 10_000]),
        attempt_ms: *rng.pick(&[200, 600, 2000]),
        value_bytes: *rng.pick(&[8, 16, 100, 1000]),
        tso_ms: if rng.chance(0.7) { rng.between(20, 300) } else { 0 },
        tso_many_permille: if rng.chance(0.3) { rng.between(50, 600) } else { 0 },
        wrong_ms: if rng.chance(0.3) { rng.between(100, 2000) } else { 0 },
        query_ms: if queries.chance(0.3) { queries.between(20, 400) } else { 0 },
        mix,
    }
}

fn faults(rng: &mut Rng, (stores, regions, election_ms): (u32, u32, u64), length_ms: u64) -> Vec<Fault> {
    let kind = rng.unit();
    let only = rng.below((CLASSES.len() + STORIES.len()) as u64) as usize;
    let mut faults = Vec::new();
    // How often this kind comes in the run, and its own stream, so that adding a kind does not change what the others do.
    let drawn = |n: usize, name: &str, per_minute: (f64, f64), p: f64| {
        let mut own = Rng::fork(rng.clone().next_u64(), name);
        let active = if kind < P_NO_FAULTS {
            false
        } else if kind < P_NO_FAULTS + P_ONE_CLASS {
            n == only
        } else {
            own.chance(p)
        };
        let rate = log_uniform(&mut own, per_minute.0, per_minute.1);
        let count = (rate * length_ms as f64 / 60_000.0).ceil() as u64;
        (if active { count } else { 0 }, own)
    };
    for (n, class) in CLASSES.iter().enumerate() {
        let (count, mut own) = drawn(n, class.name, class.per_minute, P_CLASS);
        for _ in 0..count {
            let at_ms = own.below(length_ms);
            let what = (class.make)(&mut Draw { rng: &mut own, stores, regions, election_ms });
            faults.push(Fault { at_ms, what });
        }
    }
    for (n, story) in STORIES.iter().enumerate() {
        let (count, mut own) = drawn(CLASSES.len() + n, story.name, story.per_minute, P_STORY);
        for _ in 0..count {
            let begin_ms = own.below(length_ms);
            let parts = (story.tell)(&mut Draw { rng: &mut own, stores, regions, election_ms });
            faults.extend(parts.into_iter().map(|(after_ms, what)| Fault { at_ms: begin_ms + after_ms, what }));
        }
    }
    // At most one disk is replaced by an empty one, and rarely.
    let mut own = Rng::fork(rng.next_u64(), "wipe");
    if kind >= P_NO_FAULTS + P_ONE_CLASS && own.chance(P_WIPE) {
        let node = Target::Node(own.below(u64::from(stores)) as u32 + 1);
        faults.push(Fault { at_ms: own.below(length_ms), what: What::Wipe { node, down_ms: own.between(100, 5000) } });
    }
    faults.sort_by_key(|fault| fault.at_ms);
    faults
}
