//! Measures queries over JSON: the scan speed of a core, and the time that a client saves. `cargo bench --bench query`
//! (core), `cargo bench --bench query -- cluster` (over three nodes in one process)
//!
//! **Core**: the same stored values and the same predicates in the same loop: a page of the module `query` against
//! serde_json's values and a hand-written predicate, taking turns; medians of [`ROUNDS`] rounds. **Cluster**: a query
//! that selects 1 % against fetching the range with scans and filtering in the client, with serde_json's values as an
//! application would do and with the module `query`; over `armilla up`.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "benches of the real world")]

use std::hint::black_box;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use armilla::client::{GoOn, PdClient, RawClient, RawOptions};
use armilla::query::{self, Aggregate, Merge, Next, Page, Plan, Query, Room};
use armilla::rt::Env;
use armilla::rt::rng::Rng;
use bytes::Bytes;

const ROUNDS: usize = 9;
const ROWS: usize = 100_000;

/// Returns a document of about 340 bytes, as an application might store it; one in a hundred is `hot`.
fn doc(n: usize, rng: &mut Rng) -> String {
    let tag = if n.is_multiple_of(100) { "hot" } else { rng.pick(&["cold", "warm", "mild", "cool"]) };
    format!(
        concat!(
            r#"{{"id":{},"tag":"{}","user":{{"name":"user-{}","email":"user-{}@example.org","age":{}}},"score":{}.{:02},"#,
            r#""items":[{{"sku":"A{}","qty":{},"price":{}.99}},{{"sku":"B{}","qty":{},"price":{}.49}}],"#,
            r#""note":"a line of text that nobody asks for, as there are many","active":{},"at":"2026-{:02}-{:02}T12:00:00Z"}}"#
        ),
        n,
        tag,
        rng.below(10_000),
        rng.below(10_000),
        18 + rng.below(60),
        rng.below(100),
        rng.below(100),
        rng.below(1000),
        rng.below(10),
        rng.below(500),
        rng.below(1000),
        rng.below(10),
        rng.below(500),
        rng.chance(0.5),
        1 + rng.below(12),
        1 + rng.below(28),
    )
}

fn data() -> Vec<(Bytes, Bytes)> {
    let mut rng = Rng::new(7);
    (0..ROWS).map(|n| (Bytes::from(format!("bench/{n:08}")), Bytes::from(doc(n, &mut rng)))).collect()
}

/// Returns the number of rows that match, page by page.
fn ours(data: &[(Bytes, Bytes)], query: &Query) -> u64 {
    let mut merge = Merge::new(query.clone()).expect("a query");
    let mut at = 0;
    while at < data.len() {
        let mut page = Page::new(Arc::new(Plan::decode(&merge.request()).expect("a plan")));
        while at < data.len() && page.room() == Room::More {
            page.push(&data[at].0, &data[at].1).expect("JSON");
            at += 1;
        }
        if let Next::From(key) = merge.take(&page.finish().expect("a page")).expect("a page") {
            at = data.partition_point(|(k, _)| *k < key);
        }
    }
    black_box(merge.finish()).matched
}

/// A case: its name, the query, and the same as code over serde_json's value.
struct Case {
    name: &'static str,
    query: Query,
    holds: fn(&serde_json::Value) -> bool,
    sum: bool,
}

fn cases() -> Vec<Case> {
    let rows = |filter: &str| Query {
        filter: Some(filter.into()),
        select: Some(vec!["$.id".into(), "$.user.name".into()]),
        ..Query::default()
    };
    let number: fn(&serde_json::Value) -> bool =
        |v| v["score"].as_f64().is_some_and(|s| s >= 99.0) && v["user"]["age"].as_i64().is_some_and(|a| a > 17);
    vec![
        Case {
            name: "numbers, 1 % of rows",
            query: rows("$.score >= 99 and $.user.age > 17"),
            holds: number,
            sum: false,
        },
        Case {
            name: "a text, 1 % of rows (byte filter)",
            query: rows("$.tag = \"hot\""),
            holds: |v| v["tag"].as_str() == Some("hot"),
            sum: false,
        },
        Case {
            name: "sum and max of all rows",
            query: Query {
                aggregate: Some(vec![Aggregate::Sum("$.score".into()), Aggregate::Max("$.items[0].qty".into())]),
                ..Query::default()
            },
            holds: |_| true,
            sum: true,
        },
    ]
}

fn theirs(data: &[(Bytes, Bytes)], case: &Case) -> u64 {
    let (mut matched, mut sum, mut max) = (0, 0.0, i64::MIN);
    let mut shown = Vec::new();
    for (key, value) in data {
        let Ok(parsed) = serde_json::from_slice::<serde_json::Value>(value) else { continue };
        if !(case.holds)(&parsed) {
            continue;
        }
        matched += 1;
        if case.sum {
            sum += parsed["score"].as_f64().unwrap_or(0.0);
            max = max.max(parsed["items"][0]["qty"].as_i64().unwrap_or(i64::MIN));
        } else {
            shown.push((key.clone(), parsed["id"].clone(), parsed["user"]["name"].clone()));
        }
    }
    black_box((sum, max, shown));
    matched
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn core() {
    let data = data();
    let bytes: usize = data.iter().map(|(_, value)| value.len()).sum();
    println!(
        "{ROWS} values, {} bytes each on average; GB/s of stored JSON on one core, medians of {ROUNDS}",
        bytes / ROWS
    );
    println!("| scan | query | serde_json | ratio |\n|---|---|---|---|");
    for case in cases() {
        let (mut mine, mut other) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let began = Instant::now();
            let matched = ours(&data, &case.query);
            mine.push(began.elapsed());
            let began = Instant::now();
            assert_eq!(matched, theirs(&data, &case), "{}", case.name);
            other.push(began.elapsed());
        }
        let rate = |time: Duration| bytes as f64 / time.as_secs_f64() / 1e9;
        let (mine, other) = (rate(median(mine)), rate(median(other)));
        println!("| {} | {mine:.2} | {other:.2} | {:.1} |", case.name, mine / other);
    }
}

/// `armilla up` as a child process; killed at the end.
struct Up(Child, #[allow(dead_code, reason = "removed when it is dropped")] tempfile::TempDir);

impl Drop for Up {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn up() -> (Up, String) {
    let port = 24_790;
    let dir = tempfile::tempdir().expect("a folder");
    let mut child = Command::new(env!("CARGO_BIN_EXE_armilla"))
        .args(["up", "--base-port", &port.to_string(), "--data"])
        .arg(dir.path().join("data"))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("armilla up");
    let out = BufReader::new(child.stdout.take().expect("piped"));
    let up = Up(child, dir);
    let mut lines = out.lines();
    lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("Ctrl-C"))).expect("it serves").expect("text");
    std::thread::spawn(move || lines.for_each(drop));
    (up, format!("127.0.0.1:{port}"))
}

async fn ask(raw: &RawClient, query: &Query, range: (Bytes, Bytes)) -> u64 {
    let merge = Mutex::new(Merge::new(query.clone()).expect("a query"));
    let take = |page: Bytes| {
        Ok(match merge.lock().expect("no panic").take(&page)? {
            Next::From(key) => GoOn::From(key),
            Next::Beyond => GoOn::Beyond,
            Next::Enough => GoOn::Enough,
        })
    };
    let request = || merge.lock().expect("no panic").request();
    raw.coprocessor(query::NAME, "1", range, request, take).await.expect("an answer");
    merge.into_inner().expect("no panic").finish().matched
}

async fn fetch(raw: &RawClient, range: (Bytes, Bytes)) -> Vec<(Bytes, Bytes)> {
    raw.scan(range.0, range.1, ROWS + 1, false).await.expect("pairs")
}

async fn cluster() {
    let (_up, addr) = up();
    let env = Env::real();
    let pd = PdClient::new(env.net.clone(), env.clock.clone(), vec![addr]);
    let options =
        RawOptions { deadline: Duration::from_secs(60), attempt: Duration::from_secs(20), ..RawOptions::default() };
    let raw = RawClient::new(pd, env.net, env.clock, Rng::new(env.seed), options);
    for pairs in data().chunks(1000) {
        raw.batch_put(pairs.to_vec(), 0).await.expect("written");
    }
    let range = || (Bytes::from_static(b"bench/"), Bytes::from_static(b"bench0"));
    println!("{ROWS} values over three nodes in one process, medians of {ROUNDS} taking turns");
    println!(
        "| query | at the data | fetched, filtered over serde_json's values | ratio | fetched, filtered by our evaluator | ratio |"
    );
    println!("|---|---|---|---|---|---|");
    for case in cases() {
        let (mut mine, mut theirs_too, mut room) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let began = Instant::now();
            let matched = ask(&raw, &case.query, range()).await;
            mine.push(began.elapsed());
            let began = Instant::now();
            assert_eq!(matched, theirs(&fetch(&raw, range()).await, &case), "{}", case.name);
            theirs_too.push(began.elapsed());
            let began = Instant::now();
            assert_eq!(matched, ours(&fetch(&raw, range()).await, &case.query), "{}", case.name);
            room.push(began.elapsed());
        }
        let (mine, theirs, room) = (median(mine), median(theirs_too), median(room));
        let ratio = |other: Duration| other.as_secs_f64() / mine.as_secs_f64();
        println!(
            "| {} | {} ms | {} ms | {:.1} | {} ms | {:.1} |",
            case.name,
            mine.as_millis(),
            theirs.as_millis(),
            ratio(theirs),
            room.as_millis(),
            ratio(room)
        );
    }
}

fn main() {
    // Cargo passes --bench.
    if std::env::args().any(|arg| arg == "cluster") {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        runtime.block_on(cluster());
    } else {
        core();
    }
}
