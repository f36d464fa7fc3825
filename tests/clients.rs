//! Tests of TiKV's clients in other languages, as unmodified programs, against three real processes; and of the
//! placement driver's replies that they rely on, call by call.
//!
//! **Goal**: every raw call that each client offers works over several regions and after the leader's process is
//! killed, and no client logs a complaint about this server. **Method**: the programs of `tests/clients` compare every
//! result with a model and request faults from this test (`tests/common/program.rs`), which reads their output and the
//! clients'. Each is built from its registry. A test is skipped with a message where a toolchain is missing or a
//! registry is out of reach.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests of the real world")]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use armilla::proto::etcdserverpb::cluster_client::ClusterClient as EtcdClusterClient;
use armilla::proto::etcdserverpb::kv_client::KvClient as EtcdKvClient;
use armilla::proto::etcdserverpb::{MemberListRequest, PutRequest, RangeRequest};
use armilla::proto::meta_storagepb::meta_storage_client::MetaStorageClient;
use armilla::proto::meta_storagepb::{GetRequest, WatchRequest};
use armilla::proto::pdpb::pd_client::PdClient;
use armilla::proto::pdpb::{self, ErrorType, RequestHeader};
use common::{Cluster, Wire, binary, converse, run};
use futures::{StreamExt as _, stream};
use tonic::Code;
use tonic::transport::Channel;

/// Each test starts three nodes, which is enough load for two cores.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

/// A longer start means that a request was never answered: PD's clients wait 5 s for that.
const START_MS_MAX: u64 = 4500;

/// Time limit of a build, downloads included.
const BUILD: Duration = Duration::from_secs(580);

// ---------------------------------------------------------------------------------------------------------------------
// Building

fn folder(of: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(of)
}

fn output(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients").join(name)
}

/// Messages of build tools that cannot reach their registry, or whose registry does not serve a version.
const OUT_OF_REACH: &[&str] = &[
    "dial tcp",
    "no such host",
    "i/o timeout",
    "403 Forbidden",
    "is not available",
    "Could not transfer artifact",
    "Unknown host",
    "module lookup disabled",
    "Could not resolve host",
    "failed to download",
];

/// Runs a step of a build. Returns why the build has to be skipped, if its registry is out of reach.
fn step(mut command: Command) -> Result<(), String> {
    command.env("GOTOOLCHAIN", "local");
    let shown = format!("{command:?}");
    let finished = run(command, BUILD);
    if finished.code == Some(0) {
        return Ok(());
    }
    let word = OUT_OF_REACH.iter().find(|word| finished.text.contains(*word));
    assert!(word.is_some(), "{shown} ended with {:?}:\n{}", finished.code, finished.text);
    Err(format!("the registry is out of reach ({})", word.unwrap_or(&"")))
}

/// Checks that `go` is installed in this version or a newer one.
fn has_go(minor: u32) -> Result<(), String> {
    let wanted = format!("go 1.{minor} or newer is not installed");
    let mut command = Command::new("go");
    command.arg("version").env("GOTOOLCHAIN", "local");
    let text = command.output().map_err(|_| wanted.clone())?.stdout;
    let text = String::from_utf8_lossy(&text).into_owned();
    let version = text.split_whitespace().find_map(|word| word.strip_prefix("go1.")).unwrap_or_default();
    let found: u32 = version.split('.').next().and_then(|minor| minor.parse().ok()).unwrap_or(0);
    if found >= minor { Ok(()) } else { Err(wanted) }
}

/// Builds a package of a Go module, with a different module file if one is given.
fn build_go(of: &str, package: &str, modfile: Option<&Path>, name: &str) -> Result<PathBuf, String> {
    let go = |verb: &[&str]| {
        let mut command = Command::new("go");
        command.args(verb).current_dir(folder(of));
        if let Some(modfile) = modfile {
            command.arg(format!("-modfile={}", modfile.display()));
        }
        command
    };
    step(go(&["mod", "download"]))?;
    let program = output(name);
    let mut build = go(&["build"]);
    build.arg("-o").arg(&program).arg(package);
    step(build)?;
    Ok(program)
}

// ---------------------------------------------------------------------------------------------------------------------
// Running

/// A complaint in a client's log that is not a fault of this server, and the reason.
struct Excused {
    /// A part of the complaint's text.
    word: &'static str,
    why: &'static str,
}

/// Returns the complaints that a program printed before it requested a fault. After that a node is dead, and clients
/// complain.
fn complaints(lines: &[String], excused: &[Excused]) -> Vec<String> {
    let healthy = lines.iter().take_while(|line| !line.starts_with("@kill"));
    // A record begins with its level; the lines that follow contain its stack trace.
    let begins = |line: &str| line.starts_with('[') || line.starts_with('@');
    let mut records: Vec<String> = Vec::new();
    for line in healthy {
        match records.last_mut() {
            Some(record) if !begins(line) => *record = format!("{record}\n{line}"),
            _ => records.push(line.clone()),
        }
    }
    let wrong = |record: &String| {
        let bad =
            ["[WARN", "[ERROR", "[FATAL", "] WARN ", "] ERROR ", "Exception", "\n\tat ", "errorVerbose", "panic:"];
        bad.iter().any(|word| record.contains(word))
    };
    records.retain(wrong);
    records.retain(|record| {
        let excuse = excused.iter().find(|excuse| record.contains(excuse.word));
        if let Some(excuse) = excuse {
            println!("excused ({}): {:.200}", excuse.why, record);
        }
        excuse.is_none()
    });
    records
}

/// Runs a program against a separate cluster.
fn program(name: &str, command: Command, excused: &[Excused]) {
    program_in(name, command, excused, Cluster::start(3, &["--initial-regions", "4"]));
}

/// Runs a program against a cluster.
fn program_in(name: &str, command: Command, excused: &[Excused], mut cluster: Cluster) {
    let runtime = runtime();
    // Both streams are merged, so that their order is known.
    let mut merged = Command::new("sh");
    merged.args(["-c", "exec \"$@\" 2>&1", "sh"]).arg(command.get_program()).args(command.get_args());
    let said = converse(name, merged, &runtime, &mut cluster);
    let started_ms = said.started_ms.expect("the program reports when it got its first reply");
    assert!(started_ms < START_MS_MAX, "{name}: {started_ms} ms to the first reply");
    let complaints = complaints(&said.lines, excused);
    assert!(complaints.is_empty(), "{name} complains:\n{}", complaints.join("\n"));
}

/// Builds a program with `build` and runs it, or prints why it is skipped.
fn built(name: &str, build: impl FnOnce() -> Result<PathBuf, String>) {
    built_with(name, &[], &[], build);
}

/// Does the same with additional environment variables, and complaints that are excused.
fn built_with(
    name: &str,
    variables: &[(&str, &str)],
    excused: &[Excused],
    build: impl FnOnce() -> Result<PathBuf, String>,
) {
    let _turn = turn();
    match build() {
        Ok(path) => {
            let mut command = Command::new("env");
            command.args(variables.iter().map(|(name, value)| format!("{name}={value}"))).arg(path);
            program(name, command, excused);
        }
        Err(why) => println!("{name}: skipped: {why}"),
    }
}

#[test]
fn go_client_2_0_7() {
    built("client-go 2.0.7", || {
        has_go(21)?;
        build_go("go", ".", None, "go-2.0.7")
    });
}

/// This version waits for a lost connection to come back by itself, which its gRPC does not do (client-go 2.0.7
/// requests it): it never reconnects to a lost store. Its program ends before the killed node comes back.
#[test]
fn go_client_2_0_4() {
    built_with("client-go 2.0.4", &[("CLIENT_LOSES_STORES", "1")], &[], || {
        has_go(21)?;
        build_go("go", ".", Some(&folder("go").join("go-2.0.4.mod")), "go-2.0.4")
    });
}

/// The registry does not serve the client of August 2026 (commit b75f6efa). `ARMILLA_CLIENT_GO` is the directory of its
/// sources.
#[test]
fn go_client_newest() {
    built("client-go newest", || {
        has_go(25)?;
        let sources = std::env::var("ARMILLA_CLIENT_GO").map_err(|_| {
            "the registry does not serve it, and ARMILLA_CLIENT_GO names no folder with its sources".to_owned()
        })?;
        std::fs::create_dir_all(output("")).expect("a writable target folder");
        let modfile = output("go-newest.mod");
        let text = format!(
            "module armilla.test/clients\n\ngo 1.25.0\n\nrequire github.com/tikv/client-go/v2 v2.0.8\n\n\
             replace github.com/tikv/client-go/v2 => {sources}\n"
        );
        std::fs::write(&modfile, text).expect("a writable target folder");
        let mut tidy = Command::new("go");
        tidy.args(["mod", "tidy"]).arg(format!("-modfile={}", modfile.display())).current_dir(folder("go"));
        step(tidy)?;
        build_go("go", ".", Some(&modfile), "go-newest")
    });
}

#[test]
fn go_client_transactions() {
    let excused = [Excused {
        word: "lock txn not found, lock has expired",
        why: "transactions that met a conflict leave locks, which others end",
    }];
    built_with("client-go 2.0.7, transactions", &[], &excused, || {
        has_go(21)?;
        build_go("go", "./txn", None, "go-txn")
    });
}

#[test]
fn go_client_keyspaces() {
    let _turn = turn();
    let build = || {
        has_go(21)?;
        build_go("go", "./keyspaces", None, "go-keyspaces")
    };
    let path = match build() {
        Ok(path) => path,
        Err(why) => return println!("client-go 2.0.7, keyspaces: skipped: {why}"),
    };
    let cluster = Cluster::start(3, &["--api-version", "2", "--split-keys", "k05,k10"]);
    let mut create = Command::new(binary());
    create.args(["ctl", "--pd", cluster.addr(0), "keyspace", "create", "mine"]);
    let created = run(create, Duration::from_secs(60));
    assert_eq!(created.code, Some(0), "{}", created.text);
    let excused = [Excused {
        word: "lock txn not found, lock has expired",
        why: "transactions that met a conflict leave locks, which others end",
    }];
    program_in("client-go 2.0.7, keyspaces", Command::new(path), &excused, cluster);
}

/// The Rust client that the tests use, as the registry has it.
const CRATE: &str = "tikv-client-0.4.0";

/// Its tests that scan everything.
const SCAN_EVERYTHING: [&str; 2] = ["raw_req", "raw_write_million"];

/// Builds the own integration tests of the crate `tikv-client`, for a cluster with this API version, and returns the
/// folder that they run in and the program.
fn build_crates_tests(api: u32) -> Result<(PathBuf, PathBuf), String> {
    let home = std::env::var("HOME").unwrap_or_default();
    let cargo = std::env::var_os("CARGO_HOME").map_or_else(|| Path::new(&home).join(".cargo"), PathBuf::from);
    let registries = std::fs::read_dir(cargo.join("registry/src")).map_err(|error| error.to_string())?;
    let source = registries.flatten().map(|registry| registry.path().join(CRATE)).find(|path| path.is_dir());
    let source = source.ok_or("cargo keeps its crates elsewhere")?;
    let to = output(&format!("{CRATE}-api-{api}"));
    let _ = std::fs::remove_dir_all(&to);
    let copied = run(
        {
            let mut copy = Command::new("cp");
            copy.args(["-r", "--no-preserve=mode"]).arg(&source).arg(&to);
            copy
        },
        BUILD,
    );
    assert_eq!(copied.code, Some(0), "{}", copied.text);
    let edit = |file: &Path, change: &dyn Fn(String) -> String| {
        let text = std::fs::read_to_string(file).expect("a file of the crate");
        std::fs::write(file, change(text)).expect("a copy can be written");
    };
    // The toolchain is ours, and its HTTP client needs no TLS.
    let _ = std::fs::remove_file(to.join("rust-toolchain.toml"));
    edit(&to.join("Cargo.toml"), &|text| {
        let (before, after) = text.split_once("[dev-dependencies.reqwest]").expect("its HTTP client");
        let (_, after) = after.split_once("\n[").expect("another dependency");
        let http = "[dev-dependencies.reqwest]\nversion = \"0.11\"\ndefault-features = false\nfeatures = [\"json\"]\n";
        format!("{before}{http}\n[{after}\n[workspace]\n")
    });
    if api == 1 {
        for file in ["tests/integration_tests.rs", "tests/common/mod.rs"] {
            edit(&to.join(file), &|text| text.replace(".with_default_keyspace()", ""));
        }
    }
    let target = output("tikv-client-target");
    let mut build = Command::new("cargo");
    build.args(["test", "--features", "integration-tests", "--test", "integration_tests", "--no-run"]);
    build.arg("--target-dir").arg(&target).current_dir(&to);
    step(build)?;
    let deps = std::fs::read_dir(target.join("debug/deps")).map_err(|error| error.to_string())?;
    let built = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.starts_with("integration_tests-") && !name.contains('.')
    };
    let newest = deps.flatten().map(|entry| entry.path()).filter(built).max_by_key(|path| {
        std::fs::metadata(path).and_then(|found| found.modified()).expect("a file that was just built")
    });
    Ok((to, newest.expect("it was built")))
}

/// No region begins within the tests' keys: scans that go down are sent to one region by the crate. With API version 1
/// its raw scans of everything ask the first region only, or the last one, which has no keys here: two tests do that.
#[test]
fn the_crates_own_tests_pass() {
    let _turn = turn();
    let fit = [(2, &["--api-version", "2"][..], &[][..], "27 passed"), (1, &[], &SCAN_EVERYTHING, "25 passed")];
    for (api, options, skipped, all) in fit {
        let (folder, program) = match build_crates_tests(api) {
            Ok(built) => built,
            Err(why) => return println!("{CRATE}'s own tests: skipped: {why}"),
        };
        let mut cluster = Cluster::start(3, options);
        let mut command = Command::new(program);
        command.args(["--test-threads", "1"]).current_dir(folder).env("PD_ADDRS", cluster.addr(0));
        command.args(skipped.iter().flat_map(|name| ["--skip", name]));
        let finished = run(command, Duration::from_secs(400));
        let last = finished.text.lines().find(|line| line.starts_with("test result")).unwrap_or_default();
        println!("{CRATE}'s own tests, API version {api}: {last}");
        assert!(finished.code == Some(0) && last.contains(all), "{}", finished.text);
        cluster.assert_alive();
    }
}

/// PD's client of August 2026, which client-go of that month uses. The registry serves it.
#[test]
fn go_pd_client() {
    built("pd client", || {
        has_go(25)?;
        build_go("go-pd", ".", None, "go-pd")
    });
}

#[test]
fn java_client() {
    java("client-java 3.3.5", "Raw");
}

#[test]
fn java_client_transactions() {
    java("client-java 3.3.5, transactions", "Txn");
}

/// Builds the Java programs and runs one.
fn java(name: &str, class: &str) {
    let _turn = turn();
    let build = || -> Result<PathBuf, String> {
        for tool in ["mvn", "java"] {
            let there = Command::new(tool).arg("-version").output().is_ok_and(|output| output.status.success());
            if !there {
                return Err(format!("{tool} is not installed"));
            }
        }
        let to = output("java");
        let mut maven = Command::new("mvn");
        maven.args(["-q", "-B", "package"]).arg(format!("-Dfolder={}", to.display())).current_dir(folder("java"));
        step(maven)?;
        Ok(to)
    };
    let to = match build() {
        Ok(to) => to,
        Err(why) => return println!("{name}: skipped: {why}"),
    };
    let mut java = Command::new("java");
    java.arg("-cp").arg(format!("{0}/classes:{0}/lib/*", to.display())).arg(class);
    let excuse = |word, why| Excused { word, why };
    let excused = [
        excuse("Unable to find tikv.properties", "it looks for a file of settings"),
        excuse(
            "please enable the config tikv.enable_atomic_for_cas",
            "its warm-up calls putIfAbsent, which it refuses itself while atomic swaps are off",
        ),
        excuse("SlowLogImpl", "it logs swaps that were not done as slow"),
        excuse("NotLeader Error", "leaders spread over the stores while the cluster is young"),
        excuse(
            "DEADLINE_EXCEEDED",
            "it gives a call 200 ms and a health check 100 ms, which a machine under load may miss",
        ),
        excuse("failed without a cause", "how it says so"),
        excuse("it is possible that network partition occurred", "what it makes of that"),
        excuse("No store available, retry", "what it makes of that"),
        excuse("ConcreteBackOffer", "it tries again after a conflict, which does not help"),
        excuse("resolving lock", "it says so when it meets one"),
        excuse("Unable to handle KeyExceptions", "a conflict that the program makes on purpose"),
        excuse("KeyException", "the same"),
    ];
    program(name, java, &excused);
}

#[test]
fn complaints_are_found() {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let said = "[main] INFO a - fine\n[main] INFO a - b fails\njava.lang.Exception: x\n\tat y\n[t] [WARN] [f] [\"hm\"]\n\
                @kill 00\n[main] ERROR z - refused\n";
    assert_eq!(complaints(&lines(said), &[]).len(), 2);
    let excused = [Excused { word: "b fails", why: "a test" }];
    assert_eq!(complaints(&lines(said), &excused), ["[t] [WARN] [f] [\"hm\"]"]);
}

// ---------------------------------------------------------------------------------------------------------------------
// The placement driver's answers

/// A leader and a follower of the placement driver, and the cluster's id.
struct Place {
    leader: PdClient<Channel>,
    follower: PdClient<Channel>,
    leader_addr: String,
    follower_addr: String,
    header: Option<RequestHeader>,
}

async fn place(wire: &Wire, addrs: &[String]) -> Place {
    let members = PdClient::new(wire.channel(&addrs[0]))
        .get_members(pdpb::GetMembersRequest::default())
        .await
        .unwrap()
        .into_inner();
    let leader_addr = members.leader.unwrap().client_urls[0].trim_start_matches("http://").to_owned();
    let follower_addr = addrs.iter().find(|addr| **addr != leader_addr).unwrap().clone();
    let cluster_id = members.header.unwrap().cluster_id;
    Place {
        leader: PdClient::new(wire.channel(&leader_addr)),
        follower: PdClient::new(wire.channel(&follower_addr)),
        leader_addr,
        follower_addr,
        header: Some(RequestHeader { cluster_id, ..RequestHeader::default() }),
    }
}

#[test]
fn the_placement_driver_answers_as_its_clients_expect() {
    let _turn = turn();
    let runtime = runtime();
    let cluster = Cluster::start(3, &["--initial-regions", "4"]);
    let starts = common::starts(&runtime, &cluster);
    runtime.block_on(async {
        let wire = Wire::new(cluster.addrs());
        let mut at = place(&wire, &cluster.addrs()).await;
        lookups(&mut at, &starts).await;
        ranges(&mut at, &starts).await;
        stores(&mut at).await;
        refusals(&mut at).await;
        collection(&mut at, &wire).await;
        keys_of_others(&at, &wire).await;
    });
}

async fn lookups(at: &mut Place, starts: &[Vec<u8>]) {
    let header = at.header.clone();
    let query = |keys: Vec<&[u8]>, prev_keys: Vec<&[u8]>, ids: Vec<u64>| pdpb::QueryRegionRequest {
        header: header.clone(),
        keys: keys.into_iter().map(|key| key.to_vec().into()).collect(),
        prev_keys: prev_keys.into_iter().map(|key| key.to_vec().into()).collect(),
        ids,
    };
    let last = starts.len() - 1;
    let requests = [
        query(vec![], vec![], vec![]),
        query(vec![b"", &starts[1], b"", &starts[last]], vec![&starts[1], b""], vec![]),
    ];
    let answers = at.leader.query_region(stream::iter(requests)).await.unwrap().into_inner();
    let answers: Vec<_> = answers.map(Result::unwrap).collect().await;
    assert_eq!(answers.len(), 2, "one response per request, also for an empty one");
    assert!(answers.iter().all(|answer| answer.header.as_ref().unwrap().cluster_id != 0));
    let found = &answers[1];
    assert_eq!((found.key_id_map.len(), found.prev_key_id_map.len()), (4, 2));
    assert_eq!(found.key_id_map[0], found.key_id_map[2], "duplicates keep their place");
    assert_eq!(found.prev_key_id_map, [found.key_id_map[0], 0], "nothing is before the first region");
    assert_eq!(found.regions_by_id.len(), 3);
    for (id, region) in &found.regions_by_id {
        assert_eq!(region.region.as_ref().unwrap().id, *id);
        assert_ne!(region.leader.unwrap().id, 0);
    }
    let ids = query(vec![], vec![], vec![found.key_id_map[1], 1 << 40]);
    let by_id = at.leader.query_region(stream::iter([ids])).await.unwrap().into_inner().next().await.unwrap().unwrap();
    assert_eq!(by_id.regions_by_id.keys().collect::<Vec<_>>(), [&found.key_id_map[1]], "what is not there is left out");

    let refused = at.follower.query_region(stream::iter([query(vec![b""], vec![], vec![])])).await.unwrap();
    let refused = refused.into_inner().next().await.unwrap().unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.message().starts_with("not leader"), "{refused}");
    let stranger = pdpb::QueryRegionRequest { header: None, ..query(vec![b""], vec![], vec![]) };
    let refused = at.leader.query_region(stream::iter([stranger])).await.unwrap().into_inner().next().await.unwrap();
    assert_eq!(refused.unwrap_err().code(), Code::FailedPrecondition);

    let prev =
        pdpb::GetRegionRequest { header: header.clone(), region_key: starts[0].clone().into(), need_buckets: true };
    let prev = at.leader.get_prev_region(prev).await.unwrap().into_inner();
    assert!(prev.header.unwrap().error.is_none() && prev.region.is_none(), "no result is not an error");
}

async fn ranges(at: &mut Place, starts: &[Vec<u8>]) {
    let header = at.header.clone();
    let scan = |ranges: &[(&[u8], &[u8])], limit| pdpb::BatchScanRegionsRequest {
        header: header.clone(),
        ranges: ranges
            .iter()
            .map(|(start, end)| pdpb::KeyRange { start_key: start.to_vec().into(), end_key: end.to_vec().into() })
            .collect(),
        limit,
        contain_all_key_range: true,
    };
    let mut ask = async |request| at.leader.batch_scan_regions(request).await.unwrap().into_inner();
    let all = ask(scan(&[(b"", &starts[1]), (&starts[1], b"")], 0)).await;
    assert!(all.header.unwrap().error.is_none());
    assert_eq!(all.regions.len(), starts.len());
    assert!(all.regions.iter().all(|region| region.leader.is_some()));
    assert_eq!(ask(scan(&[(b"", b"")], 2)).await.regions.len(), 2);
    assert_eq!(ask(scan(&[], 0)).await.regions.len(), 0);
    for wrong in [&[(&b"b"[..], &b"a"[..])][..], &[(b"b", b"c"), (b"a", b"b")]] {
        let refused = ask(scan(wrong, 0)).await;
        assert_eq!(refused.header.unwrap().error.unwrap().r#type(), ErrorType::Unknown);
    }
    let scan =
        pdpb::ScanRegionsRequest { header, start_key: [&starts[1][..], b"x"].concat().into(), ..Default::default() };
    let found = at.leader.scan_regions(scan).await.unwrap().into_inner();
    assert_eq!(found.regions.len(), starts.len() - 1, "from the region that holds the start, all of them");
    assert_eq!(found.region_metas[0].start_key, starts[1]);
}

async fn stores(at: &mut Place) {
    let header = at.header.clone();
    let all = pdpb::GetAllStoresRequest { header: header.clone(), exclude_tombstone_stores: false };
    let all = at.leader.get_all_stores(all).await.unwrap().into_inner().stores;
    assert_eq!(all.len(), 3);
    // Sizes are reported with heartbeats.
    tokio::time::sleep(Duration::from_secs(1)).await;
    for store in &all {
        let request = pdpb::GetStoreRequest { header: header.clone(), store_id: store.id };
        let found = at.leader.get_store(request).await.unwrap().into_inner();
        let (store, stats) = (found.store.unwrap(), found.stats.unwrap());
        assert_eq!(store.version, armilla::types::version::TIKV_VERSION);
        assert_eq!(store.git_hash, armilla::types::version::BUILD);
        assert!(store.start_timestamp > 1_600_000_000, "{store:?}");
        assert_eq!(stats.start_time, store.start_timestamp as u32);
        assert!(store.last_heartbeat > 1_600_000_000_000_000_000, "{store:?}");
        assert!(Path::new(&store.deploy_path).join("armilla").exists(), "{store:?}");
        assert!(stats.used_size > 0 && stats.capacity > stats.available && stats.available > 0, "{stats:?}");
        assert_eq!(stats.region_count, 5);
    }
    let request = pdpb::GetStoreRequest { header, store_id: 99 };
    let unknown = at.leader.get_store(request).await.unwrap().into_inner();
    let error = unknown.header.unwrap().error.unwrap();
    assert_eq!((error.r#type(), error.message.as_str()), (ErrorType::Unknown, "invalid store ID 99, not found"));
    let members = at.follower.get_members(pdpb::GetMembersRequest::default()).await.unwrap().into_inner().members;
    assert_eq!(members.len(), 3);
    assert!(members.iter().all(|member| member.binary_version == armilla::types::version::TIKV_VERSION), "{members:?}");
}

async fn refusals(at: &mut Place) {
    // Calls without the cluster's id are refused, except the two that return it.
    for header in [None, Some(RequestHeader { cluster_id: 1, ..RequestHeader::default() })] {
        let members = pdpb::GetMembersRequest { header: header.clone() };
        assert!(at.leader.get_members(members).await.is_ok());
        assert!(at.leader.get_cluster_info(pdpb::GetClusterInfoRequest::default()).await.is_ok());
        let region = pdpb::GetRegionRequest { header: header.clone(), ..Default::default() };
        let refused = at.leader.get_region(region).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert!(refused.message().contains("mismatch cluster id, need"), "{refused}");
        let tso = pdpb::TsoRequest { header, count: 1, ..Default::default() };
        let refused = at.leader.tso(stream::iter([tso])).await.unwrap().into_inner().next().await.unwrap().unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
    }
    let tso = |count| stream::iter([pdpb::TsoRequest { header: at.header.clone(), count, ..Default::default() }]);
    let none = at.leader.clone().tso(tso(0)).await.unwrap().into_inner().next().await.unwrap().unwrap_err();
    assert_eq!(none.code(), Code::Unknown);
    assert!(none.message().contains("tso count should be positive"), "{none}");
    let refused = at.follower.clone().tso(tso(1)).await.unwrap().into_inner().next().await.unwrap().unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.message().ends_with("requested pd is not leader of cluster"), "{refused}");

    // A call for another member is refused; one for this member is served, whatever its scheme.
    let region = |host: &str| {
        let request = pdpb::GetRegionRequest { header: at.header.clone(), ..Default::default() };
        let mut request = tonic::Request::new(request);
        request.metadata_mut().insert("pd-forwarded-host", host.parse().unwrap());
        request
    };
    for own in ["http", "https"] {
        let own = format!("{own}://{}", at.leader_addr);
        assert!(at.leader.clone().get_region(region(&own)).await.is_ok());
    }
    let other = region(&format!("http://{}", at.follower_addr));
    assert_eq!(at.leader.clone().get_region(other).await.unwrap_err().code(), Code::Unavailable);
    let through = region(&format!("http://{}", at.leader_addr));
    assert_eq!(at.follower.clone().get_region(through).await.unwrap_err().code(), Code::Unavailable);
}

async fn collection(at: &mut Place, wire: &Wire) {
    let header = at.header.clone();
    let state = |id: Option<u32>| pdpb::GetGcStateRequest {
        header: header.clone(),
        keyspace_scope: id
            .map(|id| pdpb::KeyspaceScope { keyspace: Some(pdpb::keyspace_scope::Keyspace::KeyspaceId(id)) }),
        include_global_gc_barriers: id.is_none(),
        ..Default::default()
    };
    let point = RangeRequest { key: "/tidb/store/gcworker/saved_safe_point".into(), ..Default::default() };
    let mut etcd = EtcdKvClient::new(wire.channel(&at.leader_addr));
    let none = etcd.range(point.clone()).await.unwrap().into_inner();
    assert!(none.kvs.is_empty() && none.header.unwrap().revision >= 1);
    let before = at.leader.get_gc_state(state(None)).await.unwrap().into_inner();
    assert_eq!(before.gc_state.unwrap().gc_safe_point, 0);
    assert!(before.global_gc_barriers.is_some(), "asked for, and there are none");

    let raise = pdpb::UpdateGcSafePointRequest { header: header.clone(), safe_point: 4321 };
    at.leader.update_gc_safe_point(raise).await.unwrap();
    let after = at.leader.get_gc_state(state(Some(u32::MAX))).await.unwrap().into_inner();
    let gc = after.gc_state.unwrap();
    assert_eq!((gc.txn_safe_point, gc.gc_safe_point, gc.is_keyspace_level_gc), (4321, 4321, false));
    assert!(after.global_gc_barriers.is_none(), "not asked for");
    let nowhere = at.leader.get_gc_state(state(Some(5))).await.unwrap().into_inner();
    assert!(nowhere.header.unwrap().error.unwrap().message.contains("keyspace 5"));
    assert_eq!(etcd.range(point.clone()).await.unwrap().into_inner().kvs[0].value, "4321");
    // Older clients write it there; it never falls.
    for (value, then) in [("4320", "4321"), ("4330", "4330")] {
        let put = PutRequest { key: point.key.clone(), value: value.into(), ..Default::default() };
        etcd.put(put).await.unwrap();
        assert_eq!(etcd.range(point.clone()).await.unwrap().into_inner().kvs[0].value, then);
    }
    let gc = at.leader.get_gc_state(state(None)).await.unwrap().into_inner().gc_state.unwrap();
    assert_eq!((gc.txn_safe_point, gc.gc_safe_point), (4330, 4330));
    // Any node asks the leader.
    let mut follower = EtcdKvClient::new(wire.channel(&at.follower_addr));
    let put = PutRequest { key: point.key.clone(), value: "4340".into(), ..Default::default() };
    follower.put(put).await.unwrap();
    assert_eq!(follower.range(point).await.unwrap().into_inner().kvs[0].value, "4340");
    barriers(at).await;
}

/// Barriers hold the safe point of transactions back, those of older clients too.
async fn barriers(at: &mut Place) {
    let header = at.header.clone();
    let set = |barrier_ts| pdpb::SetGcBarrierRequest {
        header: header.clone(),
        barrier_id: "backup".into(),
        barrier_ts,
        ttl_seconds: 600,
        ..Default::default()
    };
    // A new cluster learns within a moment that all its nodes know barriers.
    let info = loop {
        match at.leader.set_gc_barrier(set(5000)).await {
            Ok(reply) => break reply.into_inner().new_barrier_info.unwrap(),
            Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!((&info.barrier_id[..], info.barrier_ts, info.ttl_seconds), ("backup", 5000, 600));
    let advance = |target| pdpb::AdvanceTxnSafePointRequest { header: header.clone(), target, ..Default::default() };
    let held = at.leader.advance_txn_safe_point(advance(6000)).await.unwrap().into_inner();
    assert!(held.new_txn_safe_point == 5000 && held.blocker_description.contains("backup"), "{held:?}");
    let states = pdpb::GetAllKeyspacesGcStatesRequest { header: header.clone(), ..Default::default() };
    let states = at.leader.get_all_keyspaces_gc_states(states).await.unwrap().into_inner();
    assert_eq!(states.gc_states[0].gc_barriers.len(), 1);
    assert!(at.leader.set_gc_barrier(set(4999)).await.unwrap_err().message().contains("below the safe point 5000"));
    let delete =
        pdpb::DeleteGcBarrierRequest { header: header.clone(), barrier_id: "backup".into(), ..Default::default() };
    let deleted = at.leader.delete_gc_barrier(delete.clone()).await.unwrap().into_inner();
    assert_eq!(deleted.deleted_barrier_info.unwrap().barrier_ts, 5000);
    assert_eq!(at.leader.delete_gc_barrier(delete).await.unwrap().into_inner().deleted_barrier_info, None);
    let moved = at.leader.advance_txn_safe_point(advance(6000)).await.unwrap().into_inner();
    assert_eq!((moved.old_txn_safe_point, moved.new_txn_safe_point, &moved.blocker_description[..]), (5000, 6000, ""));
    let service = |safe_point, ttl| pdpb::UpdateServiceGcSafePointRequest {
        header: header.clone(),
        service_id: "br".into(),
        ttl,
        safe_point,
    };
    let kept = at.leader.update_service_gc_safe_point(service(7000, 600)).await.unwrap().into_inner();
    assert_eq!(kept.min_safe_point, 6000);
    let held = at.leader.advance_txn_safe_point(advance(8000)).await.unwrap().into_inner();
    assert_eq!(held.new_txn_safe_point, 7000);
    let late = at.leader.update_service_gc_safe_point(service(6500, 600)).await.unwrap().into_inner();
    assert_eq!(late.min_safe_point, 7000, "it came too late");
    at.leader.update_service_gc_safe_point(service(0, 0)).await.unwrap();
    let target = 9000;
    let above = pdpb::AdvanceGcSafePointRequest { header: header.clone(), target, ..Default::default() };
    assert!(at.leader.advance_gc_safe_point(above).await.unwrap_err().message().contains("safe point of transactions"));
    let global = pdpb::SetGlobalGcBarrierRequest {
        header: header.clone(),
        barrier_id: "all".into(),
        barrier_ts: 7500,
        ttl_seconds: i64::MAX,
    };
    at.leader.set_global_gc_barrier(global).await.unwrap();
    let held = at.leader.advance_txn_safe_point(advance(9000)).await.unwrap().into_inner();
    assert_eq!(held.new_txn_safe_point, 7500);
    let delete = pdpb::DeleteGlobalGcBarrierRequest { header, barrier_id: "all".into() };
    let deleted = at.leader.delete_global_gc_barrier(delete).await.unwrap().into_inner();
    assert_eq!(deleted.deleted_barrier_info.unwrap().ttl_seconds, i64::MAX);
}

async fn keys_of_others(at: &Place, wire: &Wire) {
    for addr in [&at.leader_addr, &at.follower_addr] {
        let list = MemberListRequest { linearizable: true };
        let list = EtcdClusterClient::new(wire.channel(addr)).member_list(list).await.unwrap().into_inner();
        assert_eq!(list.members.len(), 3);
        for member in list.members {
            assert!(!member.name.is_empty() && !member.is_learner && member.client_urls[0].starts_with("http://"));
        }
    }
    let mut meta = MetaStorageClient::new(wire.channel(&at.leader_addr));
    let got = meta.get(GetRequest { key: "/ms/".into(), range_end: "/ms0".into(), ..Default::default() }).await;
    let got = got.unwrap().into_inner();
    let header = got.header.unwrap();
    assert!(got.kvs.is_empty() && header.revision >= 1 && header.cluster_id != 0 && header.error.is_none());
    let mut watch = meta.watch(WatchRequest::default()).await.unwrap().into_inner();
    let told = tokio::time::timeout(Duration::from_millis(300), watch.next()).await;
    assert!(told.is_err(), "a watch is open and silent");
    let refused = MetaStorageClient::new(wire.channel(&at.follower_addr)).get(GetRequest::default()).await.unwrap_err();
    assert!(refused.message().starts_with("not leader"), "{refused}");
}
