//! Three real processes under load, killed with SIGKILL at random times.
//!
//! **Goal**: the parts that the simulator leaves out (RocksDB's files, sockets, the kernel's page cache, processes that
//! are killed) keep the same promise: no acknowledged write is lost, every key behaves like one register, and clients
//! continue.
//!
//! **Method**: clients with one attempt per operation record a history; random nodes are killed and restarted in twenty
//! rounds; the history is checked by the same linearizability search as the simulator's. A seed, which is printed,
//! determines which nodes are killed and when (`ARMILLA_SEED=N` repeats the choices, though not the machine's timing).
//! No assertion depends on the machine's speed.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests of the real world")]

mod common;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use armilla::proto::health::HealthCheckRequest;
use armilla::proto::health::health_check_response::ServingStatus;
use armilla::proto::health::health_client::HealthClient;
use armilla::proto::pdpb::pd_client::PdClient;
use armilla::proto::pdpb::{ScatterRegionRequest, SplitAndScatterRegionsRequest, SplitRegionsRequest};
use armilla::rt::rng::Rng;
use armilla::types::region;
use armilla_check::{ABSENT, Action, Judgement, KeyOp, Val};
use bytes::Bytes;
use common::{Cluster, Outcome, Wire, wait_until};

/// Number of rounds, unless `ARMILLA_KILL_ROUNDS` is set (to fewer where an emulator runs the nodes).
const ROUNDS: usize = 20;
/// Number of clients that read and write the same few keys.
const CLIENTS: usize = 6;
/// Number of keys that they share in each region.
const KEYS_A_REGION: usize = 4;
/// Time without a success after a kill after which the cluster counts as stuck.
const STUCK: Duration = Duration::from_secs(40);
/// Maximum number of steps of the search for one key.
const BUDGET: u64 = 50_000_000;

/// The clients' operations, by key.
#[derive(Default)]
struct History {
    ops: Mutex<BTreeMap<Vec<u8>, Vec<KeyOp>>>,
    count: AtomicU64,
}

impl History {
    fn record(&self, key: &[u8], call: u64, ret: Option<u64>, action: Action) {
        let op = self.count.fetch_add(1, Ordering::Relaxed) as usize;
        self.ops.lock().expect("no client panics").entry(key.to_vec()).or_default().push(KeyOp {
            op,
            call,
            ret,
            action,
        });
    }
}

/// The state shared by the clients and the thread that kills nodes.
struct Stage {
    wire: Wire,
    began: Instant,
    history: History,
    stop: AtomicBool,
    /// The next number for a value; each value is written once.
    values: AtomicU64,
    /// Number of successes of all clients.
    successes: AtomicU64,
    /// Keys that were written once and acknowledged.
    kept: Mutex<Vec<(Vec<u8>, Vec<u8>)>>,
}

impl Stage {
    fn now(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }
    fn fresh(&self) -> Val {
        self.values.fetch_add(1, Ordering::Relaxed) as Val + 1
    }
}

fn encode(value: Val) -> Bytes {
    // Long enough that a batch is more than one disk sector.
    Bytes::from(format!("{value:010}{}", "x".repeat(200)))
}

fn decode(bytes: &[u8]) -> Val {
    let digits = std::str::from_utf8(&bytes[..10]).expect("ten digits lead every value");
    assert_eq!(bytes.len(), 210, "a value came back with another length");
    digits.parse().expect("a number")
}

/// Runs one client: one operation after the other on random keys.
async fn client(stage: Arc<Stage>, keys: Arc<Vec<Vec<u8>>>, mut rng: Rng, id: usize) {
    let mut own = 0u64;
    while !stage.stop.load(Ordering::Relaxed) {
        let key = &keys[rng.below(keys.len() as u64) as usize];
        let call = stage.now();
        let (outcome, action) = match rng.below(10) {
            0..=3 => match stage.wire.get(key).await {
                Outcome::Done(seen) => {
                    let seen = seen.map_or(ABSENT, |value| decode(&value));
                    (Outcome::Done(()), Action::Read(seen))
                }
                Outcome::Refused(why) => (Outcome::Refused(why), Action::Read(ABSENT)),
                // A read without a reply changed nothing.
                Outcome::Unknown(why) => (Outcome::Refused(why), Action::Read(ABSENT)),
            },
            4..=6 => {
                let value = stage.fresh();
                (stage.wire.put(key, &encode(value)).await, Action::Write(value))
            }
            7 => (stage.wire.delete(key).await, Action::Write(ABSENT)),
            8 => {
                // Swaps the present value, as far as a read can tell.
                let before = match stage.wire.get(key).await {
                    Outcome::Done(seen) => seen,
                    _ => continue,
                };
                let expected = before.as_deref().map_or(ABSENT, decode);
                let new = stage.fresh();
                let call = stage.now();
                let swap = Action::Swap { expected, new };
                match stage.wire.swap(key, before.as_deref(), &encode(new)).await {
                    Outcome::Done((true, _)) => stage.history.record(key, call, Some(stage.now()), swap),
                    Outcome::Done((false, seen)) => {
                        let seen = seen.map_or(ABSENT, |value| decode(&value));
                        assert_ne!(seen, expected, "a swap failed although it found what it expected");
                        stage.history.record(key, call, Some(stage.now()), Action::Read(seen));
                    }
                    Outcome::Unknown(_) => stage.history.record(key, call, None, swap),
                    Outcome::Refused(_) => {}
                }
                continue;
            }
            _ => {
                // A separate key, written once: it must exist at the end if it was acknowledged.
                own += 1;
                let base = &keys[rng.below(keys.len() as u64) as usize];
                let key = [base.as_slice(), format!("/own/{id}/{own:08}").as_bytes()].concat();
                let value = encode(stage.fresh());
                if matches!(stage.wire.put(&key, &value).await, Outcome::Done(())) {
                    stage.kept.lock().expect("no client panics").push((key, value.to_vec()));
                    stage.successes.fetch_add(1, Ordering::Relaxed);
                }
                continue;
            }
        };
        match outcome {
            Outcome::Done(()) => {
                stage.history.record(key, call, Some(stage.now()), action);
                stage.successes.fetch_add(1, Ordering::Relaxed);
            }
            Outcome::Unknown(_) => stage.history.record(key, call, None, action),
            Outcome::Refused(_) => tokio::time::sleep(Duration::from_millis(rng.between(2, 20))).await,
        }
        tokio::time::sleep(Duration::from_millis(rng.below(6))).await;
    }
}

/// Returns a few keys in every region.
fn spread(regions: &[Bytes]) -> Vec<Vec<u8>> {
    // Raw keys that begin with a boundary as it is stored would stay together when a region is split.
    let plain = |start: &[u8]| armilla::codec::bytes::decode(start).map_or_else(|_| start.to_vec(), Vec::from);
    let name = |start: &[u8], n| [plain(start), format!("k{n}").into_bytes()].concat();
    regions.iter().flat_map(|start| (0..KEYS_A_REGION).map(move |n| name(start, n))).collect()
}

/// The keys that the clients share.
type Keys = Arc<Vec<Vec<u8>>>;
/// The running clients.
type Clients = Vec<tokio::task::JoinHandle<()>>;

/// Starts the clients on a few keys in every region.
fn begin(wire: Wire, starts: &[Bytes], runtime: &tokio::runtime::Runtime, seed: u64) -> (Arc<Stage>, Keys, Clients) {
    let keys = Arc::new(spread(starts));
    let stage = Arc::new(Stage {
        wire,
        began: Instant::now(),
        history: History::default(),
        stop: AtomicBool::new(false),
        values: AtomicU64::new(0),
        successes: AtomicU64::new(0),
        kept: Mutex::default(),
    });
    let one = |id| client(stage.clone(), keys.clone(), Rng::fork(seed, &format!("client {id}")), id);
    let clients = (0..CLIENTS).map(|id| runtime.spawn(one(id))).collect();
    (stage, keys, clients)
}

#[test]
fn random_nodes_die_under_load_and_nothing_acknowledged_is_lost() {
    let seed = std::env::var("ARMILLA_SEED")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or_else(|| u64::from(std::process::id()));
    println!("ARMILLA_SEED={seed}");
    let rounds =
        std::env::var("ARMILLA_KILL_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().expect("a number of rounds"));
    let mut rng = Rng::new(seed);
    let mut cluster = Cluster::start(3, &["--initial-regions", "4"]);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");

    let wire = Wire::new(cluster.addrs());
    let regions = runtime.block_on(wire.regions()).expect("regions");
    let starts: Vec<Bytes> = regions.iter().map(|(region, _)| region.start_key.clone()).collect();
    assert!(starts.len() >= 2, "a cluster starts with several regions: {starts:?}");
    let (stage, keys, clients) = begin(wire, &starts, &runtime, seed);

    let (mut pauses, mut splits) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        std::thread::sleep(Duration::from_millis(rng.between(100, 900)));
        // A region is split while nodes die.
        splits.push(split_at(&cluster.addrs(), rng.pick::<Vec<u8>>(&keys)));
        let victim = rng.below(3) as usize;
        cluster.kill(victim);
        // One time in four a second node is killed as well: without a quorum the clients must wait for a restart.
        let second = rng.chance(0.25).then(|| (victim + 1 + rng.below(2) as usize) % 3);
        if let Some(second) = second {
            std::thread::sleep(Duration::from_millis(rng.between(0, 300)));
            cluster.kill(second);
            std::thread::sleep(Duration::from_millis(rng.between(0, 500)));
            cluster.restart(second);
        }
        // Two of three nodes are up (again), so clients must continue.
        let killed = Instant::now();
        let before = stage.successes.load(Ordering::Relaxed);
        while stage.successes.load(Ordering::Relaxed) < before + CLIENTS as u64 * 4 {
            assert!(
                killed.elapsed() < STUCK,
                "round {round}: no progress for {STUCK:?} after n{} was killed",
                victim + 1
            );
            cluster.assert_alive();
            std::thread::sleep(Duration::from_millis(10));
        }
        pauses.push(killed.elapsed().as_millis() as u64);
        std::thread::sleep(Duration::from_millis(rng.between(0, 800)));
        cluster.restart(victim);
    }
    stage.stop.store(true, Ordering::Relaxed);
    for client in clients {
        runtime.block_on(client).expect("a client does not panic");
    }
    cluster.wait_ready();
    for split in splits {
        let finished = split.join().expect("a thread that runs a command");
        assert_eq!(finished.code, Some(0), "a region could not be split: {finished:?}");
    }
    let pieces = runtime.block_on(stage.wire.regions()).expect("regions").len();
    println!("{} regions became {pieces}", starts.len());
    assert!(pieces > starts.len(), "no region was split");

    pauses.sort_unstable();
    println!("pauses after a kill: median {} ms, longest {} ms", pauses[pauses.len() / 2], pauses[pauses.len() - 1]);
    judge(&stage, &keys, &runtime, seed, 25 * rounds);
}

/// Reads every key, and all keys that were written once, and checks the history of each key.
fn judge(stage: &Stage, keys: &[Vec<u8>], runtime: &tokio::runtime::Runtime, seed: u64, least: usize) {
    let steadily = async |key: &[u8]| {
        let began = Instant::now();
        loop {
            let call = stage.now();
            match stage.wire.get(key).await {
                Outcome::Done(seen) => return (call, seen),
                Outcome::Refused(why) | Outcome::Unknown(why) => {
                    assert!(began.elapsed() < STUCK, "cannot read {key:?}: {why}");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    };
    runtime.block_on(async {
        for key in keys.iter() {
            let (call, seen) = steadily(key).await;
            stage.history.record(
                key,
                call,
                Some(stage.now()),
                Action::Read(seen.map_or(ABSENT, |value| decode(&value))),
            );
        }
        let kept = stage.kept.lock().expect("no client panics").clone();
        println!("{} keys written once", kept.len());
        for (key, value) in &kept {
            let (_, seen) = steadily(key).await;
            assert_eq!(
                seen.as_deref(),
                Some(value.as_slice()),
                "acknowledged and lost: {:?}",
                String::from_utf8_lossy(key)
            );
        }
    });

    let ops = stage.history.ops.lock().expect("no client panics");
    let total: usize = ops.values().map(Vec::len).sum();
    let unknown: usize = ops.values().flatten().filter(|op| op.ret.is_none()).count();
    println!("{total} operations on {} keys, {unknown} of unknown outcome", ops.len());
    assert!(total > least, "a history of {total} operations proves little");
    for (key, ops) in ops.iter() {
        let verdict = armilla_check::check(ABSENT, ops, BUDGET);
        if let Judgement::Violation { op } = verdict {
            let mut around: Vec<&KeyOp> = ops.iter().collect();
            around.sort_by_key(|o| o.call);
            let at = around.iter().position(|o| o.op == op).unwrap_or(0);
            let near: Vec<String> =
                around[at.saturating_sub(12)..(at + 8).min(around.len())].iter().map(|o| format!("  {o:?}")).collect();
            panic!(
                "ARMILLA_SEED={seed}: {:?} is not linearizable at {op}:\n{}",
                String::from_utf8_lossy(key),
                near.join("\n")
            );
        }
        assert_eq!(verdict, Judgement::Linearizable, "{:?}: the search gave up", String::from_utf8_lossy(key));
    }
}

/// Makes a key the start of a region, in the background.
fn split_at(addrs: &[String], key: &[u8]) -> std::thread::JoinHandle<common::Finished> {
    let (pd, key): (String, String) = (addrs.join(","), key.iter().map(|byte| format!("{byte:02x}")).collect());
    std::thread::spawn(move || {
        let mut command = std::process::Command::new(common::binary());
        command.args(["ctl", "--pd", &pd, "--hex", "--timeout", "50", "region", "split", &key]);
        common::run(command, Duration::from_secs(60))
    })
}

/// Scatters regions. Returns the percentage that is done, or the error.
async fn scatter(wire: &Wire, regions_id: Vec<u64>) -> Result<u64, String> {
    let ask = |mut pd: PdClient<_>, header| {
        let regions_id = regions_id.clone();
        async move {
            pd.scatter_region(ScatterRegionRequest { header: Some(header), regions_id, ..Default::default() }).await
        }
    };
    wire.ask_pd(ask).await.map(|reply| reply.finished_percentage)
}

/// Runs `armilla ctl` with these arguments to its end.
fn ctl(addrs: &[String], args: &[&str]) -> common::Finished {
    let mut command = std::process::Command::new(common::binary());
    command.args(["ctl", "--pd", &addrs.join(","), "--timeout", "50"]).args(args);
    common::run(command, Duration::from_secs(60))
}

/// A store joins and gets replicas, a node loses its disk and is healed, and a store is removed, while clients read and
/// write.
#[test]
fn replicas_move_heal_and_leave_under_load() {
    let seed = u64::from(std::process::id());
    println!("ARMILLA_SEED={seed}");
    let mut cluster = Cluster::start(3, &["--initial-regions", "4"]);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let wire = Wire::new(cluster.addrs());
    let first = runtime.block_on(wire.regions()).expect("regions");
    let starts: Vec<Bytes> = first.iter().map(|(region, _)| region.start_key.clone()).collect();
    let (stage, keys, clients) = begin(Wire::new(cluster.addrs()), &starts, &runtime, seed);
    let store_at = |addr: &str| {
        let stores = runtime.block_on(wire.stores()).unwrap_or_default();
        stores.iter().filter(|(_, at)| *at == addr).map(|(id, _)| *id).next_back()
    };
    let stores_of = |regions: &[(armilla::types::Region, Option<armilla::types::region::Peer>)]| {
        let of = |region: &armilla::types::Region| region.peers.iter().map(|peer| peer.store_id).collect();
        regions.iter().map(|(region, _)| of(region)).collect::<Vec<std::collections::BTreeSet<u64>>>()
    };
    let region_now = |id: u64| {
        let regions = runtime.block_on(wire.regions()).expect("regions");
        regions.into_iter().map(|(region, _)| region).find(|region| region.id == id).expect("a region")
    };
    let now_on = || stores_of(&runtime.block_on(wire.regions()).unwrap_or_default());
    let addrs = cluster.addrs();

    // The fourth store fills up by itself, and then gets a replica of every region.
    let fourth = cluster.join();
    let addr = cluster.addr(fourth).to_owned();
    wait_until("the fourth store is registered", || store_at(&addr).is_some());
    let (second, fourth_store) = (store_at(&addrs[1]).expect("a store"), store_at(&addr).expect("a store"));
    let filled = |on: &[std::collections::BTreeSet<u64>]| on.iter().filter(|on| on.contains(&fourth_store)).count();
    wait_until("the fourth store has its share", || {
        let on = now_on();
        filled(&on) == 3 && on.iter().all(|on| on.len() == 3)
    });
    for (region, _) in &first {
        let now = region_now(region.id);
        if region::peer_on(&now, second).is_none() || region::peer_on(&now, fourth_store).is_some() {
            continue;
        }
        let args = ["region", "move", &region.id.to_string(), &second.to_string(), &fourth_store.to_string()];
        let moved = ctl(&addrs, &args);
        assert_eq!(moved.code, Some(0), "{args:?}: {moved:?}");
    }
    // The placement driver may be moving others, so that all have as many.
    wait_until("the moves end", || now_on().iter().all(|on| on.len() == 3));

    // A node loses its disk: its new store gets what the old one had.
    let third = store_at(&addrs[2]).expect("a store");
    cluster.kill(2);
    cluster.lose_disk(2);
    cluster.restart(2);
    wait_until("the lost replicas are replaced", || {
        let on = now_on();
        !on.is_empty() && on.iter().all(|on| on.len() == 3 && !on.contains(&third))
    });

    // The fourth store leaves again.
    let removed = ctl(&addrs, &["store", "remove", &fourth_store.to_string()]);
    assert_eq!(removed.code, Some(0), "{removed:?}");
    assert_eq!(filled(&now_on()), 0, "no replica is left there");
    wait_until("every region has its replicas", || now_on().iter().all(|on| on.len() == 3));
    wait_until("the removed store stops serving", || cluster.log(fourth).contains("was removed from the cluster"));
    let again = ctl(&addrs, &["store", "remove", &second.to_string()]);
    assert!(again.code == Some(1) && again.text.contains("Add a store first"), "{again:?}");

    stage.stop.store(true, Ordering::Relaxed);
    for client in clients {
        runtime.block_on(client).expect("a client does not panic");
    }
    judge(&stage, &keys, &runtime, seed, 200);
}

/// **Goal**: any node may die for good, three times in a row: nothing of the first three is left in the end.
/// **Method**: each time another node joins first; the placement driver and the regions move to it. Then a node whose
/// configuration and first members name only dead ones starts again, a store with a member of the placement driver is
/// removed, and what was written in the beginning is there.
#[test]
fn all_first_nodes_die_for_good_one_after_the_other() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let config = configured(&dir, "[pd]\nmax_down_s = 5\n");
    let mut cluster = Cluster::start(3, &["--initial-regions", "2", "--config", &config]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(put(&Wire::new(cluster.addrs()), "first", b"value"));
    // The names of the placement driver's members, and the stores of all replicas, as a node reports them.
    let members = |addr: &str| {
        let answer = common::http(addr, "GET", "/pd/api/v1/members", "").map(|(_, body)| body).unwrap_or_default();
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap_or_default();
        let members = answer["members"].as_array().cloned().unwrap_or_default();
        let mut names: Vec<String> = members.iter().filter_map(|m| m["name"].as_str().map(str::to_owned)).collect();
        names.sort();
        names
    };
    let store_at = |cluster: &Cluster, node: usize| {
        let stores = runtime.block_on(Wire::new(cluster.addrs()).stores()).unwrap_or_default();
        stores.iter().filter(|(_, at)| *at == cluster.addr(node)).map(|(id, _)| *id).next_back()
    };
    for lost in 0..3 {
        let newest = cluster.join_by(if lost == 0 { 1 } else { cluster.len() - 1 });
        wait_until("the new store is registered", || store_at(&cluster, newest).is_some());
        let gone = store_at(&cluster, lost).expect("a store");
        cluster.kill(lost);
        let names: Vec<String> = (lost + 2..lost + 5).map(|n| format!("n{n}")).collect();
        wait_until("the placement driver is whole again", || members(cluster.addr(newest)) == names);
        wait_until("the regions are whole again", || {
            let regions = runtime.block_on(Wire::new(cluster.addrs()).regions()).unwrap_or_default();
            let whole =
                |region: &armilla::types::Region| region.peers.len() == 3 && region::peer_on(region, gone).is_none();
            !regions.is_empty() && regions.iter().all(|(region, _)| whole(region))
        });
    }
    let living: Vec<String> = (3..6).map(|node| cluster.addr(node).to_owned()).collect();
    cluster.kill(3);
    cluster.restart(3);
    wait_until("the node finds the cluster", || members(cluster.addr(3)) == ["n4", "n5", "n6"]);
    let seventh = cluster.join_by(3);
    wait_until("the seventh store is registered", || store_at(&cluster, seventh).is_some());
    let fourth = store_at(&cluster, 3).expect("a store").to_string();
    let removed = ctl(&living[1..], &["store", "remove", &fourth]);
    assert_eq!(removed.code, Some(0), "{removed:?}");
    assert_eq!(members(&living[1]), ["n5", "n6", "n7"]);
    let wire = Wire::new(vec![cluster.addr(seventh).to_owned()]);
    let read = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), wire.get(b"first")).await });
    assert_eq!(read, Ok(Outcome::Done(Some(Bytes::from_static(b"value")))));
}

/// **Goal**: regions become one and are split again under load, while a node dies, and clients see only that they wait.
/// **Method**: real processes; neighbours are merged until one region is left, which is split again, several times; the
/// history is linearizable.
#[test]
fn regions_merge_and_split_under_load() {
    let seed = u64::from(std::process::id());
    println!("ARMILLA_SEED={seed}");
    let mut cluster = Cluster::start(3, &["--initial-regions", "4"]);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let wire = Wire::new(cluster.addrs());
    let first = runtime.block_on(wire.regions()).expect("regions");
    let starts: Vec<Bytes> = first.iter().map(|(region, _)| region.start_key.clone()).collect();
    let (stage, keys, clients) = begin(Wire::new(cluster.addrs()), &starts, &runtime, seed);
    let ids = || {
        let regions = runtime.block_on(wire.regions()).unwrap_or_default();
        regions.iter().map(|(region, _)| region.id).collect::<Vec<u64>>()
    };
    let addrs = cluster.addrs();
    let mut merges = 0;
    for round in 0..3 {
        while let [first, second, ..] = ids()[..] {
            // Left into right and right into left.
            let (source, target) = if (round + merges) % 2 == 0 { (first, second) } else { (second, first) };
            let merged = ctl(&addrs, &["region", "merge", &source.to_string(), &target.to_string()]);
            assert_eq!(merged.code, Some(0), "{merged:?}");
            assert!(!ids().contains(&source), "region {source} is still there");
            merges += 1;
        }
        if round == 1 {
            cluster.kill(1);
            cluster.restart(1);
            cluster.wait_ready();
        }
        for key in keys.iter().step_by(keys.len() / 3) {
            split_at(&addrs, key).join().expect("the command ends");
        }
        wait_until("the region is split", || ids().len() > 1);
    }
    let strange = ctl(&addrs, &["region", "merge", "999", "4"]);
    assert!(strange.code == Some(1) && strange.text.contains("no region 999"), "{strange:?}");
    wait_until("the regions are scattered", || runtime.block_on(scatter(&wire, ids())) == Ok(100));
    let unknown = runtime.block_on(scatter(&wire, vec![999]));
    assert!(unknown.as_ref().is_err_and(|why| why.contains("empty region")), "{unknown:?}");
    stage.stop.store(true, Ordering::Relaxed);
    for client in clients {
        runtime.block_on(client).expect("a client does not panic");
    }
    println!("{merges} merges");
    judge(&stage, &keys, &runtime, seed, 200);
}

/// Splits by the placement driver's own calls. Returns the percentage that is done and the new regions, or the error.
async fn split_regions(wire: &Wire, keys: &[&str], scatters: bool) -> Result<(u64, Vec<u64>), String> {
    let split_keys: Vec<Bytes> = keys.iter().map(|key| Bytes::copy_from_slice(key.as_bytes())).collect();
    if scatters {
        let ask = |mut pd: PdClient<_>, header| {
            let split_keys = split_keys.clone();
            async move {
                let header = Some(header);
                pd.split_and_scatter_regions(SplitAndScatterRegionsRequest { header, split_keys, ..Default::default() })
                    .await
            }
        };
        return wire.ask_pd(ask).await.map(|reply| (reply.scatter_finished_percentage, reply.regions_id));
    }
    let ask = |mut pd: PdClient<_>, header| {
        let split_keys = split_keys.clone();
        async move { pd.split_regions(SplitRegionsRequest { header: Some(header), split_keys, ..Default::default() }).await }
    };
    wire.ask_pd(ask).await.map(|reply| (reply.finished_percentage, reply.regions_id))
}

/// A store is drained and lost for good, settings outlive the placement driver's leader, and clients split regions.
#[test]
fn people_drain_replace_and_set() {
    let mut cluster = Cluster::start(4, &["--initial-regions", "4"]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (wire, addrs) = (Wire::new(cluster.addrs()), cluster.addrs());
    wait_until("every node knows settings", || ctl(&addrs, &["setting", "set", "merges_max", "3"]).code == Some(0));
    // A key twice, and one where a region starts already.
    let split = runtime.block_on(split_regions(&wire, &["ka", "kb", "kb"], false)).expect("a split");
    assert_eq!((split.0, split.1.len()), (100, 2), "{split:?}");
    let again = runtime.block_on(split_regions(&wire, &["ka", "kc"], false)).expect("a split");
    assert_eq!((again.0, again.1.len()), (100, 1), "{again:?}");
    let none = runtime.block_on(split_regions(&wire, &["ka"], true));
    assert!(none.as_ref().is_err_and(|why| why.contains("empty region")), "{none:?}");
    wait_until("regions are split and scattered", || {
        let key = format!("ks{}", std::time::UNIX_EPOCH.elapsed().expect("a clock").as_nanos());
        runtime.block_on(split_regions(&wire, &[&key], true)).is_ok_and(|(done, ids)| done == 100 && ids.len() == 1)
    });
    let drained = ctl(&addrs, &["store", "drain", "2"]);
    assert_eq!(drained.code, Some(0), "{drained:?}");
    let regions = runtime.block_on(wire.regions()).expect("regions");
    assert!(regions.iter().all(|(_, leader)| leader.as_ref().is_none_or(|peer| peer.store_id != 2)), "{regions:?}");
    let refused = ctl(&addrs, &["transfer-leader", &regions[0].0.id.to_string(), "2"]);
    assert!(refused.code == Some(1) && refused.text.contains("2"), "{refused:?}");
    for (args, why) in [
        (&["store", "drain", "99"][..], "no store 99"),
        (&["store", "undrain", "3"], "not one of"),
        (&["store", "replace", "1", "--by", "3"], "is alive"),
        (&["setting", "set", "replicas", "0"], "from 1 to 7"),
        (&["scheduler", "pause", "grant-leader", "60"], "no scheduler grant-leader"),
    ] {
        let refused = ctl(&addrs, args);
        assert!(refused.code == Some(1) && refused.text.contains(why), "{args:?}: {refused:?}");
    }
    assert_eq!(ctl(&addrs, &["scheduler", "pause", "balance-region", "600"]).code, Some(0));
    assert_eq!(ctl(&addrs, &["store", "weight", "3", "--leader", "0.5"]).code, Some(0));
    // Each member of the placement driver is lost for a while, so another one leads.
    for node in 0..3 {
        cluster.kill(node);
        cluster.restart(node);
        cluster.wait_ready();
    }
    let settings = ctl(&addrs, &["settings"]);
    assert!(settings.text.lines().any(|line| line.contains("merges_max") && line.contains("set")), "{settings:?}");
    let schedulers = ctl(&addrs, &["schedulers"]);
    assert!(schedulers.text.contains("paused") && schedulers.text.contains("evict-leader"), "{schedulers:?}");
    assert_eq!(ctl(&addrs, &["store", "undrain", "2"]).code, Some(0));
    assert_eq!(ctl(&addrs, &["scheduler", "resume", "balance-region"]).code, Some(0));
    // The fourth store is lost, and the third one is to take what it had.
    cluster.kill(3);
    wait_until("the lost store is replaced", || ctl(&addrs, &["store", "replace", "4", "--by", "3"]).code == Some(0));
    wait_until("no region has a replica there", || {
        let regions = runtime.block_on(wire.regions()).unwrap_or_default();
        !regions.is_empty() && regions.iter().all(|(one, _)| region::peer_on(one, 4).is_none())
    });
}

#[test]
fn a_cluster_stops_cleanly_and_finds_its_data_again() {
    let mut cluster = Cluster::start(3, &[]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let put = async |wire: &Wire, key: &[u8]| {
        let mut outcome = wire.put(key, b"value").await;
        while outcome != Outcome::Done(()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
            outcome = wire.put(key, b"value").await;
        }
    };
    runtime.block_on(put(&Wire::new(cluster.addrs()), b"before"));
    for node in 0..3 {
        assert_eq!(cluster.terminate(node), Some(0), "n{} does not stop cleanly:\n{}", node + 1, cluster.log(node));
    }
    for node in 0..3 {
        cluster.restart(node);
    }
    cluster.wait_ready();
    let wire = Wire::new(cluster.addrs());
    assert_eq!(runtime.block_on(wire.get(b"before")), Outcome::Done(Some(Bytes::from_static(b"value"))));
}

/// **Goal**: a node that is stopped leaves no region to an election. **Method**: SIGTERM to each node that leads a
/// region. The node logs that it handed over all leaders, and at that moment each region's leader is on another store.
#[test]
fn a_node_that_stops_hands_over() {
    let mut cluster = Cluster::start(3, &["--initial-regions", "4"]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for _ in 0..3 {
        let addr = runtime.block_on(Wire::new(cluster.addrs()).leader_addr(b"any")).expect("a leader");
        let node = cluster.node_at(&addr).expect("one of ours");
        let lines = |cluster: &Cluster| cluster.log(node).matches("handed over all leaders").count();
        let before = lines(&cluster);
        assert_eq!(cluster.terminate(node), Some(0), "it does not stop cleanly:\n{}", cluster.log(node));
        assert_eq!(lines(&cluster), before + 1, "it did not hand over:\n{}", cluster.log(node));
        cluster.restart(node);
        cluster.wait_ready();
    }
}

/// **Goal**: a node whose disk was lost is not considered healthy. **Method**: its data directory is removed. It serves
/// as a new store, every health endpoint reports the problem, and the other nodes stay healthy.
#[test]
fn a_node_with_a_lost_disk_is_not_healthy() {
    let mut cluster = Cluster::start(3, &["--initial-regions", "2"]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let serving = |cluster: &Cluster, node: usize| {
        runtime.block_on(async {
            let mut health = HealthClient::new(Wire::new(vec![]).channel(cluster.addr(node)));
            let reply = health.check(HealthCheckRequest::default()).await;
            reply.map(|reply| reply.into_inner().status() == ServingStatus::Serving)
        })
    };
    wait_until("all nodes are healthy", || (0..3).all(|node| matches!(serving(&cluster, node), Ok(true))));
    cluster.kill(2);
    std::fs::remove_dir_all(cluster.data(2)).expect("removable");
    cluster.restart(2);
    wait_until("the node says what it lost", || cluster.log(2).contains("began with an empty disk"));
    assert!(matches!(serving(&cluster, 2), Ok(false)), "it says that it is healthy");
    assert!((0..2).all(|node| matches!(serving(&cluster, node), Ok(true))), "the others are well");
    cluster.assert_alive();
}

#[test]
fn a_node_that_was_away_for_long_catches_up() {
    // A log that keeps very little for nodes that are down, so that they need a snapshot.
    let dir = tempfile::tempdir().expect("a temporary folder");
    let config = dir.path().join("node.toml");
    let short = "[raft]\nlog_keep_entries = 4\nlog_lag_entries_max = 8\nflush_kib = 1024\nflush_interval_ms = 500\n";
    std::fs::write(&config, short).expect("writable");
    let mut cluster = Cluster::start(3, &["--config", config.to_str().expect("text")]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    cluster.kill(2);
    let wire = Wire::new(cluster.addrs());
    // 24 MiB, overwritten many times: more than the log keeps.
    let value = vec![b'v'; 256 << 10];
    runtime.block_on(async {
        for n in 0..96u32 {
            let key = format!("away/{:02}", n % 16);
            while wire.put(key.as_bytes(), &value).await != Outcome::Done(()) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        while wire.put(b"away/last", b"here").await != Outcome::Done(()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    cluster.restart(2);
    cluster.wait_ready();
    // The node that was down must now be able to form a quorum with either of the others, so it has all data.
    for gone in [0, 1] {
        cluster.kill(gone);
        let began = Instant::now();
        let seen = runtime.block_on(async {
            loop {
                let wire = Wire::new(cluster.addrs());
                if let Outcome::Done(seen) = wire.get(b"away/last").await {
                    break seen;
                }
                assert!(began.elapsed() < STUCK, "two of three nodes do not serve");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        assert_eq!(seen, Some(Bytes::from_static(b"here")));
        cluster.restart(gone);
        cluster.wait_ready();
    }
}

/// Writes a key, and retries until it succeeds.
async fn put(wire: &Wire, key: &str, value: &[u8]) {
    let began = Instant::now();
    while wire.put(key.as_bytes(), value).await != Outcome::Done(()) {
        assert!(began.elapsed() < STUCK, "{key} is not written");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Reads a key within `limit` from any node that serves it.
async fn get(cluster: &Cluster, key: &str, limit: Duration) -> Option<Bytes> {
    let began = Instant::now();
    loop {
        if let Outcome::Done(seen) = Wire::new(cluster.addrs()).get(key.as_bytes()).await {
            return seen;
        }
        let logs: Vec<String> = (0..cluster.len()).map(|node| cluster.log(node)).collect();
        assert!(began.elapsed() < limit, "no node serves {key}:\n{}", logs.join("\n---\n"));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn files_bytes(dir: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(dir).expect("a folder").flatten();
    entries.filter_map(|entry| entry.metadata().ok()).filter(|meta| meta.is_file()).map(|meta| meta.len()).sum()
}

/// Writes a configuration file into `dir`.
fn configured(dir: &tempfile::TempDir, text: &str) -> String {
    let path = dir.path().join("node.toml");
    std::fs::write(&path, text).expect("writable");
    path.to_str().expect("text").to_owned()
}

/// **Goal**: a node that is down for long does not fill the disks of the others, and comes back. **Method**: forty
/// times as many bytes are written as the log may keep for it.
#[test]
fn the_log_is_bounded_while_a_node_is_dead() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let config = configured(
        &dir,
        "[raft]\nlog_group_kib_max = 1024\nlog_segment_kib = 1024\nlog_soft_max_kib = 4096\nflush_kib = 1024\n\
         flush_interval_ms = 200\nlog_keep_entries = 4\n",
    );
    let mut cluster = Cluster::start(3, &["--config", &config]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    cluster.kill(2);
    let wire = Wire::new(cluster.addrs());
    let value = vec![b'v'; 64 << 10];
    runtime.block_on(async {
        for n in 0..640u32 {
            put(&wire, &format!("dead/{:02}", n % 16), &value).await;
        }
        put(&wire, "dead/last", b"here").await;
    });
    for node in [0, 1] {
        let log = cluster.data(node).join("raft");
        wait_until("the log is cut", || files_bytes(&log) < 16 << 20);
    }
    cluster.restart(2);
    cluster.wait_ready();
    cluster.kill(0);
    let seen = runtime.block_on(get(&cluster, "dead/last", STUCK));
    assert_eq!(seen, Some(Bytes::from_static(b"here")));
    cluster.assert_alive();
}

/// **Goal**: a process that is suspended for half a minute does no harm and continues. **Method**: SIGSTOP, writes
/// meanwhile, SIGCONT; the writes are then read through every node.
#[test]
fn a_node_that_stands_still_goes_on() {
    let mut cluster = Cluster::start(3, &["--initial-regions", "4"]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for node in 0..3 {
        runtime.block_on(put(&Wire::new(cluster.addrs()), "still", b"before"));
        cluster.signal(node, "STOP");
        let began = Instant::now();
        // A long pause for one of the nodes, short ones for the others.
        let still = if node == 0 { Duration::from_secs(30) } else { Duration::from_secs(5) };
        let mut last = 0u32;
        while began.elapsed() < still {
            last += 1;
            runtime.block_on(put(&Wire::new(cluster.addrs()), "still", &last.to_be_bytes()));
            std::thread::sleep(Duration::from_millis(100));
        }
        cluster.signal(node, "CONT");
        let seen = runtime.block_on(get(&cluster, "still", STUCK));
        assert_eq!(seen, Some(Bytes::copy_from_slice(&last.to_be_bytes())), "a read after it went on is not stale");
        cluster.wait_ready();
    }
    cluster.assert_alive();
}

/// A separate file system for a directory; unmounted when dropped.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(path: &std::path::Path, options: &str) -> bool {
        let mount =
            std::process::Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(path).output();
        mount.is_ok_and(|output| output.status.success())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Unmounted lazily, because the node on it may still be exiting.
        std::process::Command::new("umount").arg("-l").arg(&self.0).status().ok();
    }
}

/// **Goal**: a full disk stops no other node, and its node comes back when there is space. **Method**: one node's data
/// is on a small file system, and more data is written than fits; then the file system grows.
#[test]
fn a_full_disk_stops_nobody_else() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let config = configured(
        &dir,
        "[raft]\nlog_segment_kib = 4096\nlog_soft_max_kib = 16384\nlog_group_kib_max = 8192\nflush_kib = 8192\n",
    );
    let mut cluster = Cluster::start(3, &["--config", &config, "--disk-reserve-mib", "48"]);
    cluster.kill(2);
    // The node's present data moves to the small disk.
    let (data, kept) = (cluster.data(2).to_owned(), cluster.data(2).with_extension("kept"));
    std::fs::rename(&data, &kept).expect("the data moves");
    std::fs::create_dir(&data).expect("a folder");
    let small = SmallDisk(data.clone());
    if !SmallDisk::mount(&data, "size=256m") {
        eprintln!("skipped: this user cannot mount a file system");
        return;
    }
    let copied = std::process::Command::new("cp").arg("-a").arg(format!("{}/.", kept.display())).arg(&data).status();
    assert!(copied.is_ok_and(|status| status.success()), "cp");
    cluster.restart(2);
    cluster.wait_ready();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let wire = Wire::new(cluster.addrs());
    // Incompressible bytes.
    let mut rng = Rng::new(7);
    let mut value = vec![0; 256 << 10];
    runtime.block_on(async {
        for n in 0..1200u32 {
            value.chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&rng.next_u64().to_be_bytes()));
            put(&wire, &format!("full/{n:05}"), &value).await;
        }
        put(&wire, "full/last", b"here").await;
    });
    let log = cluster.log(2);
    assert!(log.contains("room on the disk"), "it did not notice:\n{log}");
    // There is space again: the node starts, if it had to stop, and has all data.
    let grown = std::process::Command::new("mount").args(["-o", "remount,size=2g"]).arg(&data).status();
    assert!(grown.is_ok_and(|status| status.success()), "remount");
    // The write that ran out of space stops the store. The node may be exiting and still report that it is ready.
    std::thread::sleep(Duration::from_secs(2));
    if cluster.log(2).contains("the store stopped serving") {
        let began = Instant::now();
        while !cluster.has_stopped(2) {
            assert!(began.elapsed() < STUCK, "a store that serves no more keeps its process");
            std::thread::sleep(Duration::from_millis(50));
        }
        cluster.restart(2);
    }
    cluster.wait_ready();
    cluster.kill(0);
    let seen = runtime.block_on(get(&cluster, "full/last", 2 * STUCK));
    assert_eq!(seen, Some(Bytes::from_static(b"here")));
    cluster.kill(1);
    cluster.kill(2);
    drop(small);
}
