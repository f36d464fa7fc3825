//! Expands a seed to a plan by swarm testing: each class of faults is enabled or disabled independently, so that runs
//! differ in kind and not only in detail. Intensities are log-uniform, so that rare and dense faults are equally
//! likely.

use armilla::rt::rng::Rng;
use armilla::types::version;
use serde_json::json;
use toml::{Table, Value};

use crate::fault::draw::{Draft, Draw, log_uniform};
use crate::fault::story::STORIES;
use crate::fault::{self, Fault, Target, disk, net, process, settings};
use crate::plan::{Knobs, Mix, Plan, Topology, Workload};

/// The longest planned part of a run, ms; healing comes afterwards.
const FAULTS_MS_MAX: u64 = 90_000;
/// Probabilities of a run without any fault, and of one with a single class.
const P_NO_FAULTS: f64 = 0.05;
const P_ONE_CLASS: f64 = 0.15;
/// Probabilities in the other runs: each class and each story is drawn independently. Many at once would hide the parts
/// of a story.
const P_CLASS: f64 = 0.25;
const P_STORY: f64 = 0.25;
/// Probability, on small disks, that low disk space is the only fault: with others the oracle could not judge leaders.
const P_ROOM_ALONE: f64 = 0.3;
/// Probability that splits are the only faults: newborns must get a leader at once where nothing is wrong.
const P_SPLITS_ALONE: f64 = 0.08;
/// Probability that the placement driver merges small regions by itself, after seconds.
const P_SMALL_REGIONS_MERGE: f64 = 0.2;
/// Probability, where there are more stores than replicas, that the stores are in zones.
const P_ZONES: f64 = 0.5;
/// Probability that stores split regions at a few requests per second, whose range wanders.
const P_LOAD_SPLITS: f64 = 0.4;
/// Probability that the run ends with load on regions that one store leads. It takes two simulated minutes.
const P_HOT: f64 = 0.12;
/// Probability that old versions are removed during a run with transactions.
const P_VERSIONS_COLLECTED: f64 = 0.6;
/// Probability that clients send single transactional requests in any order, and of what makes them more dangerous.
const P_PROTOCOL: f64 = 0.4;
const P_PROTOCOL_UNUSUAL: f64 = 0.6;
const P_PROTOCOL_COLLECTED: f64 = 0.6;
const P_PROTOCOL_STORY: f64 = 0.3;
const P_PROTOCOL_SHARES: f64 = 0.5;
/// What is written late is dangerous if another store has led the region meanwhile.
const P_LATE_IN_TURN: f64 = 0.7;
/// Stories that are told more often then.
const PROTOCOL_STORIES: [&str; 2] = ["leader-to-and-fro", "split-and-merge"];
/// Sites between two steps of transactions, one of which is armed then.
const PROTOCOL_SITES: [&str; 3] = ["txn.late-write", "mvcc.small-batch", "txn.slow-guard"];
/// Probability that nodes which are held at an older version of the protocol know all but the locks in shared mode.
const P_ALMOST_NEWEST: f64 = 0.4;
/// Probability that the cluster is founded with API V2.
const P_API_V2: f64 = 0.1;
/// Probability that a store loses its data or a part of it.
const P_LOSS: f64 = 0.3;

/// Probabilities of a run with queries, and of one of these with many queries in small pages.
const P_QUERIES: f64 = 0.3;
const P_MANY_QUERIES: f64 = 0.1;
/// The smallest page size, in rows, of the other runs with queries.
const QUERY_PAGE_ROWS: u64 = 8;

/// Returns the plan of a seed.
pub fn plan(seed: u64) -> Plan {
    let topology_rng = &mut Rng::fork(seed, "topology");
    let stores = match topology_rng.below(20) {
        0..13 => 3,
        13..16 => 4,
        _ => 5,
    };
    let keys = *topology_rng.pick(&[4, 12, 30, 80]);
    let regions = topology_rng.between(1, 8).min(u64::from(keys)) as u32;
    let splits = (1..regions).map(|n| n * keys / regions).collect();
    // Regions with five replicas cost more than they reveal, so most clusters of five stores have three.
    let replicas = if stores == 5 && topology_rng.chance(0.25) { stores } else { 3 };
    let zones = &mut Rng::fork(seed, "zones");
    let zones = if stores > replicas && zones.chance(P_ZONES) { zones.between(2, u64::from(stores)) as u32 } else { 0 };
    let topology = Topology { stores, replicas, zones, splits };
    let mut workload = workload(&mut Rng::fork(seed, "workload"), keys);
    let length_ms = workload.ops[0][1] as u64 * workload.pace_ms;
    let mut knobs = knobs(&mut Rng::fork(seed, "knobs"));
    let raft = knobs.settings().raft;
    let scene = (stores, regions, keys, raft.tick_ms * raft.election_ticks as u64);
    let room_alone = knobs.disk_mib > 0 && Rng::fork(seed, "room").chance(P_ROOM_ALONE);
    let splits_alone = Rng::fork(seed, "splits").chance(P_SPLITS_ALONE);
    let alone = room_alone.then_some("leader-without-room").or(splits_alone.then_some("split-region"));
    let patience = &mut Rng::fork(seed, "patience");
    if stores > replicas && patience.chance(0.5) {
        // Stores that are dead for a while lose their replicas to others, and come back without knowing it.
        let seconds = Value::Integer(patience.between(4, 15) as i64);
        let pd = knobs.config.get_mut("pd").and_then(Value::as_table_mut);
        pd.expect("a table").insert("max_down_s".to_owned(), seconds);
    }
    if workload.txn_ms > 0 || workload.protocol_ms > 0 {
        versions(&mut Rng::fork(seed, "versions"), &mut knobs);
    }
    if workload.protocol_ms > 0 {
        protocol(&mut Rng::fork(seed, "protocol"), &mut knobs);
    }
    let (merges, load) = (&mut Rng::fork(seed, "merges"), &mut Rng::fork(seed, "load"));
    let pd = knobs.config.get_mut("pd").and_then(Value::as_table_mut).expect("a table");
    if merges.chance(P_SMALL_REGIONS_MERGE) {
        let rest_s = merges.between(1, 10) as i64;
        pd.insert("merge_below_kib".to_owned(), Value::Integer(*merges.pick(&[1, 4, 1 << 16])));
        pd.insert("merge_rest_s".to_owned(), Value::Integer(rest_s));
    }
    let patrol_us = *Rng::fork(seed, "patrol").pick(&[100, 100, 20_000, 300_000]);
    pd.insert("patrol_us_per_region".to_owned(), Value::Integer(patrol_us));
    pd.insert("hot_report_ms".to_owned(), Value::Integer(*load.pick(&[1000, 2000, 3000])));
    let (splits, hot) = (load.chance(P_LOAD_SPLITS), load.chance(P_HOT));
    if splits || hot {
        pd.insert("hot_queries_per_s_min".to_owned(), Value::Integer(1));
    }
    if hot {
        // The regions of that time are small.
        pd.remove("merge_below_kib");
        pd.remove("merge_rest_s");
        workload.hot_per_s = load.between(3, 6) as u32;
    }
    if splits {
        let regions = knobs.config.get_mut("regions").and_then(Value::as_table_mut).expect("a table");
        regions.insert("split_queries_per_s".to_owned(), Value::Integer(*load.pick(&[2, 4, 8])));
        regions.insert("split_load_s".to_owned(), Value::Integer(load.between(1, 4) as i64));
        workload.wander_ops = load.between(10, 80) as u32;
    }
    let mut faults = faults(&mut Rng::fork(seed, "faults"), scene, length_ms, alone);
    if workload.protocol_ms > 0 && alone.is_none() && !faults.is_empty() {
        for name in PROTOCOL_STORIES {
            let is_late = armilla::rt::buggify::is_armed(knobs.buggify, "txn.late-write");
            let p = if is_late && name == "leader-to-and-fro" { P_LATE_IN_TURN } else { P_PROTOCOL_STORY };
            let rng = &mut Rng::fork(seed, name);
            if rng.chance(p) {
                again(rng, name, scene, length_ms, &mut faults);
            }
        }
    }
    if faults.iter().any(|fault| fault.kind == process::Kind::OldCopy { identity: true }.into()) {
        // The first version of the protocol does not remember runs: an older copy is never told to stop.
        knobs.config["pd"]["protocol_max"] = Value::Integer(0);
    }
    if knobs.settings().pd.protocol_max != 0 && Rng::fork(seed, "held version").chance(P_ALMOST_NEWEST) {
        knobs.config["pd"]["protocol_max"] = Value::Integer(i64::from(version::SHARED_LOCKS) - 1);
    }
    if knobs.settings().pd.protocol_max == 0 && Rng::fork(seed, "api").chance(P_API_V2) {
        knobs.config.insert("api_version".to_owned(), Value::Integer(2));
        // These clients make requests by hand, or use families and boundaries that API V2 does not have.
        workload = Workload { families_ms: 0, protocol_ms: 0, hot_per_s: 0, ..workload };
    }
    Plan { schedule_seed: seed, bug: None, expect: None, topology, knobs, workload, faults }
}

/// Draws how long old versions are kept, and when stores end transactions of dead clients.
fn versions(rng: &mut Rng, knobs: &mut Knobs) {
    let number = |ms: u64| Value::Integer(ms as i64);
    let txn = [
        ("look_interval_ms", number(*rng.pick(&[50, 200, 1000, 3000]))),
        ("end_after_ms", number(*rng.pick(&[0, 300, 5000, 3_600_000]))),
    ];
    knobs
        .config
        .insert("txn".to_owned(), Value::Table(txn.map(|(key, ms)| (key.to_owned(), ms)).into_iter().collect()));
    if rng.chance(P_VERSIONS_COLLECTED) {
        let pd = knobs.config.get_mut("pd").and_then(Value::as_table_mut).expect("a table");
        pd.insert("keep_versions_ms".to_owned(), number(*rng.pick(&[100, 500, 2000, 15_000])));
        pd.insert("safe_point_step_ms".to_owned(), number(*rng.pick(&[100, 1000, 4000])));
    }
}

/// Tells a story several times.
fn again(
    rng: &mut Rng,
    name: &str,
    (stores, regions, keys, election_ms): (u32, u32, u32, u64),
    length_ms: u64,
    faults: &mut Vec<Fault>,
) {
    let story = STORIES.iter().find(|story| story.name == name).expect("there is this story");
    for _ in 0..rng.between(2, 12) {
        let begin_ms = rng.below(length_ms);
        let parts = (story.tell)(&mut Draw { rng, stores, regions, keys, pieces: 3, election_ms });
        faults.extend(parts.into_iter().map(|(after_ms, draft)| Fault::new(begin_ms + after_ms, draft)));
    }
    faults.sort_by_key(|fault| fault.at_ms);
}

/// Draws what makes single requests of transactions dangerous: old versions are removed while transactions last, and
/// stores do unusual things between two steps.
fn protocol(rng: &mut Rng, knobs: &mut Knobs) {
    let number = |ms: u64| Value::Integer(ms as i64);
    let pd = knobs.config.get_mut("pd").and_then(Value::as_table_mut).expect("a table");
    let collects = rng.chance(P_PROTOCOL_COLLECTED);
    if collects {
        if rng.chance(0.7) {
            // Regions report what they have cleared with heartbeats.
            pd.insert("store_heartbeat_ms".to_owned(), number(500));
            pd.insert("store_alive_ms".to_owned(), number(2500));
        }
        pd.insert("keep_versions_ms".to_owned(), number(*rng.pick(&[20, 50, 100, 500])));
        pd.insert("safe_point_step_ms".to_owned(), number(*rng.pick(&[20, 100, 500])));
    } else {
        pd.remove("keep_versions_ms");
        pd.remove("safe_point_step_ms");
    }
    if collects && rng.chance(0.7) {
        let txn = knobs.config.get_mut("txn").and_then(Value::as_table_mut).expect("a table");
        txn.insert("look_interval_ms".to_owned(), number(*rng.pick(&[50, 200])));
    }
    if rng.chance(P_PROTOCOL_UNUSUAL) {
        let site = if collects && rng.chance(0.3) { "mvcc.small-batch" } else { *rng.pick(&PROTOCOL_SITES) };
        while !armilla::rt::buggify::is_armed(knobs.buggify, site) {
            knobs.buggify = rng.next_u64() >> 1;
        }
    }
}

fn knobs(rng: &mut Rng) -> Knobs {
    let heartbeat_ticks = rng.between(1, 2);
    let log_keep_entries = *rng.pick(&[4, 16, 64, 512]);
    let tick_ms = *rng.pick(&[50, 100, 100, 200]);
    let election_ticks = heartbeat_ticks * rng.between(5, 10);
    let log_segment_kib = *rng.pick(&[16, 64, 256, 1024]);
    // A separate stream, so that the other draws stay the same.
    let bounds = &mut Rng::fork(rng.clone().next_u64(), "bounds");
    let mut raft = json!({
        "tick_ms": tick_ms,
        "heartbeat_ticks": heartbeat_ticks,
        "election_ticks": election_ticks,
        "log_segment_kib": log_segment_kib,
        "log_soft_max_kib": 4 * log_segment_kib,
        "log_group_kib_max": bounds.pick(&[64 << 10, 64 << 10, 256, 32]),
        "log_store_kib_max": bounds.pick(&[0, 0, 512, 128]),
        "log_keep_entries": log_keep_entries,
        "log_lag_entries_max": log_keep_entries * rng.pick(&[1, 4, 16]),
        "flush_interval_ms": rng.pick(&[100, 500, 2000, 10_000]),
        "flush_kib": rng.pick(&[4, 64, 1024]),
        "snapshot_chunk_kib": rng.between(1, 4),
        "pack_kib_max": rng.pick(&[1, 16, 256]),
        "batch_messages_max": rng.pick(&[1, 16, 4096]),
        "appends_inflight_max": rng.pick(&[2, 16, 256]),
        "append_kib_max": bounds.pick(&[1024, 1024, 16, 1]),
        "cache_kib_max": bounds.pick(&[4096, 4096, 64, 4]),
        "lease_reads": bounds.chance(0.75),
        "catch_up_kib_max": bounds.pick(&[16 << 10, 16 << 10, 64, 4]),
    });
    let store_heartbeat_ms = *rng.pick(&[500, 1000, 3000]);
    // Some clusters begin with nodes that are held at the first version of the protocol; faults release them.
    let protocol_max = if rng.chance(0.2) { 1 } else { 0 };
    let pd = json!({ "protocol_max": protocol_max, "store_heartbeat_ms": store_heartbeat_ms, "store_alive_ms": 5 * store_heartbeat_ms });
    let link_us = log_uniform(rng, 50.0, 3000.0) as u64;
    let fsync_us = log_uniform(rng, 100.0, 5000.0) as u64;
    let last_crash = rng.chance(0.6);
    // Separate streams, so that the other draws stay the same.
    let disks = &mut Rng::fork(rng.clone().next_u64(), "disks");
    let is_small = disks.chance(0.25);
    let disk_mib = if is_small { disks.between(32, 64) } else { 0 };
    let sites = &mut Rng::fork(rng.clone().next_u64(), "buggify");
    let buggify = if sites.chance(0.3) { (sites.next_u64() >> 1).max(1) } else { 0 };
    let ttl = json!({
        "collect_interval_ms": rng.pick(&[0, 200, 1000, 5000]),
        "collect_grace_ms": rng.pick(&[0, 0, 3000]),
    });
    raft["lanes"] = json!(rng.pick(&[1, 1, 2, 3]));
    let sleep = &mut Rng::fork(rng.clone().next_u64(), "sleep");
    raft["sleep_after_ms"] = json!(sleep.pick(&[0, 1, 1, 1, 3000]));
    let regions = &mut Rng::fork(rng.clone().next_u64(), "regions");
    let size_max_kib = if is_small { 0 } else { *regions.pick(&[0, 0, 0, 0, 2, 8, 32]) };
    let regions = json!({ "size_max_kib": size_max_kib });
    let mut config = json!({ "raft": raft, "pd": pd, "ttl": ttl, "regions": regions });
    if is_small {
        let reserve_mib = 2;
        config["disk_reserve_mib"] = json!(reserve_mib);
        // Every start of a store begins a segment: with a reserve of a few segments, a store that is started again and
        // again while other data fills its disk runs out of space (docs/operating.md says how large it must be).
        let segment_kib = log_segment_kib.min(reserve_mib * 1024 / 32);
        config["raft"]["log_segment_kib"] = json!(segment_kib);
        config["raft"]["log_soft_max_kib"] = json!(4 * segment_kib);
    }
    Knobs {
        link_us,
        fsync_us,
        disk_mib,
        buggify,
        last_crash,
        config: Table::try_from(config).expect("an object of numbers is a table"),
    }
}

fn workload(rng: &mut Rng, keys: u32) -> Workload {
    let clients = rng.between(2, 6) as u32;
    let total = log_uniform(rng, 400.0, 1600.0) as u32;
    let each = total / clients;
    let length_ms = rng.between(FAULTS_MS_MAX / 2, FAULTS_MS_MAX);
    // A separate stream, so that the other draws stay the same.
    let mut queries = Rng::fork(rng.clone().next_u64(), "queries");
    let query_ms = if queries.chance(P_QUERIES) { queries.between(1, 20) * 20 } else { 0 };
    // A query over many small pages costs as much as a hundred puts, so most runs have few queries and larger pages.
    let (query_ms, query_page_rows_min) =
        if queries.chance(P_MANY_QUERIES) { (query_ms, 1) } else { (query_ms * 5, QUERY_PAGE_ROWS) };
    let mut families = Rng::fork(rng.clone().next_u64(), "families");
    let mut transactions = Rng::fork(rng.clone().next_u64(), "transactions");
    let mut near = Rng::fork(rng.clone().next_u64(), "near");
    let mut protocol = Rng::fork(rng.clone().next_u64(), "protocol");
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
        bad_request_ms: if rng.chance(0.3) { rng.between(100, 2000) } else { 0 },
        families_ms: if families.chance(0.3) { families.between(50, 500) } else { 0 },
        query_ms,
        query_page_rows_min,
        txn_ms: if transactions.chance(0.5) { transactions.between(20, 250) } else { 0 },
        protocol_ms: if protocol.chance(P_PROTOCOL) { log_uniform(&mut protocol, 4.0, 60.0) as u64 } else { 0 },
        protocol_shares: protocol.chance(P_PROTOCOL_SHARES),
        replica_reads: near.chance(0.4),
        wander_ops: 0,
        hot_per_s: 0,
        mix,
    }
}

/// Draws the faults of a run, only those of the class or story `alone` if it is given.
fn faults(
    rng: &mut Rng,
    (stores, regions, keys, election_ms): (u32, u32, u32, u64),
    length_ms: u64,
    alone: Option<&str>,
) -> Vec<Fault> {
    let kind = rng.unit();
    let classes = fault::classes();
    let only = rng.below((classes.len() + STORIES.len()) as u64) as usize;
    let mut faults = Vec::new();
    // Returns how many faults of this kind the run has, and the kind's own stream, so that adding a kind does not
    // change the others.
    let drawn = |n: usize, name: &str, per_minute: (f64, f64), p: f64| {
        let mut own = Rng::fork(rng.clone().next_u64(), name);
        let active = if let Some(alone) = alone {
            name == alone
        } else if kind < P_NO_FAULTS {
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
    // In a run with splits, faults strike the pieces as well.
    let splits = classes
        .iter()
        .enumerate()
        .any(|(n, class)| class.name == "split-region" && drawn(n, class.name, class.per_minute, P_CLASS).0 > 0);
    let pieces = if splits { 3 } else { 1 };
    for (n, class) in classes.iter().enumerate() {
        let (count, mut own) = drawn(n, class.name, class.per_minute, P_CLASS);
        for _ in 0..count {
            let at_ms = own.below(length_ms);
            faults.push(Fault::new(
                at_ms,
                class.make(&mut Draw { rng: &mut own, stores, regions, keys, pieces, election_ms }),
            ));
        }
    }
    for (n, story) in STORIES.iter().enumerate() {
        let (count, mut own) = drawn(classes.len() + n, story.name, story.per_minute, P_STORY);
        for _ in 0..count {
            let begin_ms = own.below(length_ms);
            let parts = (story.tell)(&mut Draw { rng: &mut own, stores, regions, keys, pieces, election_ms });
            faults.extend(parts.into_iter().map(|(after_ms, draft)| Fault::new(begin_ms + after_ms, draft)));
        }
    }
    // At most one store loses all or a part of its data, in a minority of the runs.
    let mut own = Rng::fork(rng.next_u64(), "loss");
    if kind >= P_NO_FAULTS + P_ONE_CLASS && alone.is_none() && own.chance(P_LOSS) {
        let node = Target::Node(own.below(u64::from(stores)) as u32 + 1);
        let at_ms = own.below(length_ms);
        let loss: fault::Kind = match own.below(12) {
            0 => disk::Kind::LoseEngine {}.into(),
            1 => disk::Kind::LoseLog {}.into(),
            2..=5 => {
                // The peers must have learned of the run that is lost, so no other fault may prevent it.
                faults.clear();
                let identity = own.chance(0.6);
                let away_ms = own.between(5000, 20_000);
                faults.push(Fault::new(at_ms, Draft::at(node, away_ms, process::Kind::OldCopy { identity }.into())));
                // A store with a slow outbound link hears others before they hear it, and must notice the loss itself;
                // with a slow inbound link, the placement driver notices it first.
                let slow = own.unit();
                if slow < 0.8 {
                    let slow = net::Kind::SlowLink { inbound: slow < 0.4, delay_ms: own.between(500, 1500) };
                    let back_ms = at_ms + away_ms - 100;
                    faults.push(Fault::new(back_ms, Draft::at(node, own.between(3000, 6000), slow.into())));
                }
                // In half of these runs all nodes crash, so that what the peers keep in memory does not suffice either.
                if own.chance(0.5) {
                    let after_ms = at_ms + away_ms + own.below(3000);
                    faults.push(Fault::new(after_ms, Draft::everywhere(1000, process::Kind::CrashAll {}.into())));
                }
                return faults;
            }
            6..=8 => disk::Kind::Rot {}.into(),
            _ => process::Kind::Wipe {}.into(),
        };
        faults.push(Fault::new(at_ms, Draft::at(node, own.between(100, 5000), loss)));
        // A region that a person left with two replicas does not survive the loss of one.
        let removes = |fault: &Fault| matches!(fault.kind, fault::Kind::Settings(settings::Kind::RemovePeer { .. }));
        faults.retain(|fault| !removes(fault));
    }
    faults.sort_by_key(|fault| fault.at_ms);
    faults
}

#[cfg(test)]
mod tests {
    //! Goal: a plan survives the round trip through its file, and every seed gives a valid plan.
    use super::*;

    #[test]
    fn files_and_seeds() {
        for seed in 0..300 {
            let plan = plan(seed);
            plan.validate().unwrap_or_else(|e| panic!("seed {seed}: {e}"));
            let text = plan.to_toml();
            let back: Plan = toml::from_str(&text).unwrap_or_else(|e| panic!("seed {seed}: {e}\n{text}"));
            assert_eq!(plan, back, "seed {seed}");
            assert!(plan.faults.is_sorted_by_key(|fault| fault.at_ms));
        }
    }

    #[test]
    fn an_unknown_word_is_refused() {
        let text = plan(1).to_toml().replace("pace_ms", "pace_msec");
        assert!(toml::from_str::<Plan>(&text).is_err());
    }
}
