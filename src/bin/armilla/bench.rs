//! `armilla bench`: closed-loop load over the wire protocol.
//!
//! ```text
//!   keys (uniform, zipfian) -> request, encoded by hand -> the leader's connection -> reply -> histogram
//!        routes: one lookup in a sorted list, refreshed from PD only after an error
//! ```
//! The load generator shares the machine with the server that it measures, so its own work per request is kept small:
//! one thread, no retries, no allocation for routing, requests written directly into the frame.

mod keys;
mod report;
mod routes;
mod streams;
mod txn;
mod unary;
mod wire;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use armilla::client::{PdClient, RawClient, RawOptions, Why};
use armilla::rt::Env;
use armilla::rt::rng::Rng;
use bytes::Bytes;
use clap::ValueEnum;
use futures::StreamExt as _;
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use crate::failure::Failure;
use crate::process;
use keys::Keys;
use report::Report;
use routes::Routing;
use txn::{Mode, Prevented, Transactions};

/// What the clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Workload {
    /// Put random keys.
    Put,
    /// Get random keys.
    Get,
    /// Put and get; see --read-ratio.
    Mixed,
    /// Scan upwards from random keys; see --scan-limit.
    Scan,
    /// Measure nothing; delete the keys that earlier runs with the same --keys (or fewer) left behind.
    Clean,
    /// Transactions: put a random key.
    TxnPut,
    /// Transactions: get random keys from snapshots.
    TxnGet,
    /// Transactions: insert every key once; the run ends when all are there.
    TxnInsert,
    /// Transactions: read a random key and write it.
    TxnRmw,
    /// Transactions: move an amount between two random keys. The sum of all is checked at the end.
    TxnTransfer,
    /// Transactions: scan upwards from random keys; see --scan-limit.
    TxnScan,
    /// Measure nothing; delete the transactional keys of earlier runs, as clean does with raw ones.
    TxnClean,
}

impl Workload {
    /// Returns whether it runs transactions.
    fn is_transactional(self) -> bool {
        use Workload::{TxnClean, TxnGet, TxnInsert, TxnPut, TxnRmw, TxnScan, TxnTransfer};
        matches!(self, TxnPut | TxnGet | TxnInsert | TxnRmw | TxnTransfer | TxnScan | TxnClean)
    }
}

/// How the clients choose keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Distribution {
    /// Every key equally often.
    Uniform,
    /// A few keys very often (theta 0.99).
    Zipfian,
}

/// Closed loop: each client sends its next request once the last is answered. Exits with code 1 if requests failed.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Address of any node of the cluster; separate several with commas.
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',', default_value = "127.0.0.1:2379", env = "ARMILLA_PD")]
    pd: Vec<String>,
    /// Which requests to send.
    #[arg(long, value_enum, default_value = "put")]
    workload: Workload,
    /// How transactions treat keys that others may write.
    #[arg(long, value_enum, default_value = "optimistic")]
    mode: Mode,
    /// Requests in flight.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65536))]
    clients: u32,
    /// Connections to each store.
    #[arg(long, value_name = "C", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1024))]
    connections: u32,
    /// Send requests on BatchCommands streams, one for each connection, instead of as unary calls.
    #[arg(long)]
    batch: bool,
    /// Size of a value in bytes.
    #[arg(long, value_name = "B", default_value_t = 256, value_parser = clap::value_parser!(u32).range(0..=4 << 20))]
    value_size: u32,
    /// Number of distinct keys.
    #[arg(long, value_name = "K", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=1 << 32))]
    keys: u64,
    /// How keys are chosen.
    #[arg(long, value_enum, default_value = "uniform")]
    distribution: Distribution,
    /// How long to measure, such as 10s, 500ms, 2m.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
    duration: Duration,
    /// How long to run before measuring.
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = parse_duration)]
    warmup: Duration,
    /// Share of gets in the mixed workload.
    #[arg(long, value_name = "SHARE", default_value_t = 0.5, value_parser = parse_share)]
    read_ratio: f64,
    /// Pairs to read in each scan.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_240))]
    scan_limit: u32,
    /// Skip writing the keys before reading them.
    #[arg(long)]
    no_preload: bool,
    /// Delete the run's keys (all --keys of them, no others) at the end, also after Ctrl-C.
    #[arg(long)]
    clean: bool,
    /// Random seed for choosing keys.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().map_err(|_| format!("`{text}` is not a duration such as 10s, 500ms or 2m"))?;
    let seconds = match unit {
        "ms" => number / 1000.0,
        "" | "s" => number,
        "m" => number * 60.0,
        _ => return Err(format!("`{unit}` is not a unit: use ms, s or m")),
    };
    if (0.0..=86_400.0).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err("must be at most a day".into())
    }
}

fn parse_share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("must be a number between 0 and 1".into()),
    }
}

/// State that all clients of a run share.
pub(crate) struct Shared {
    pub(crate) args: Args,
    pub(crate) keys: Keys,
    pub(crate) value: Bytes,
    /// The client for everything that is not measured.
    raw: RawClient,
    pub(crate) routing: Routing,
    pub(crate) transactions: Transactions,
    /// Set while measuring.
    pub(crate) measuring: AtomicBool,
    pub(crate) over: AtomicBool,
    /// How many requests were answered while measuring, for the progress bar.
    pub(crate) done: AtomicU64,
}

/// What one client or stream has measured.
pub(crate) struct Tally {
    pub(crate) latencies_ns: Histogram<u64>,
    pub(crate) errors: u64,
    /// How often transactions were prevented by others, and run again.
    pub(crate) prevented: Prevented,
    pub(crate) pairs: u64,
    pub(crate) first_error: Option<String>,
}

impl Tally {
    pub(crate) fn new() -> Tally {
        let latencies_ns = Histogram::new_with_bounds(1_000, 120_000_000_000, 3).expect("sound bounds");
        Tally { latencies_ns, errors: 0, prevented: Prevented::new(), pairs: 0, first_error: None }
    }

    /// Records the response to a request that was sent at `sent`.
    #[inline]
    pub(crate) fn answered(&mut self, shared: &Shared, sent: Instant, now: Instant, pairs: u64) {
        if shared.measuring.load(Ordering::Relaxed) {
            self.latencies_ns.saturating_record(now.duration_since(sent).as_nanos() as u64);
            self.pairs += pairs;
            shared.done.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn failed(&mut self, shared: &Shared, why: impl FnOnce() -> String) {
        if shared.measuring.load(Ordering::Relaxed) {
            self.errors += 1;
        }
        if self.first_error.is_none() {
            self.first_error = Some(why());
        }
    }

    /// Counts a transaction that others prevented.
    pub(crate) fn prevented(&mut self, shared: &Shared, why: Why) {
        if shared.measuring.load(Ordering::Relaxed) {
            *self.prevented.entry(why).or_default() += 1;
        }
    }

    fn merge(&mut self, other: Tally) {
        self.latencies_ns.add(&other.latencies_ns).expect("the same bounds");
        self.errors += other.errors;
        for (why, count) in other.prevented {
            *self.prevented.entry(why).or_default() += count;
        }
        self.pairs += other.pairs;
        self.first_error = self.first_error.take().or(other.first_error);
    }
}

/// The kind of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Put,
    Get,
    Scan,
    /// Get a transactional key from a snapshot.
    SnapshotGet,
}

impl Shared {
    /// Returns the kind and the key of a client's next request.
    #[inline]
    pub(crate) fn next(&self, rng: &mut Rng) -> (Verb, [u8; keys::KEY_BYTES]) {
        let verb = match self.args.workload {
            Workload::Put => Verb::Put,
            Workload::Get => Verb::Get,
            Workload::Scan => Verb::Scan,
            Workload::TxnGet => Verb::SnapshotGet,
            Workload::Mixed if rng.chance(self.args.read_ratio) => Verb::Get,
            Workload::Mixed => Verb::Put,
            _ => unreachable!("it measures nothing, or transactions"),
        };
        (verb, self.keys.draw(rng))
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

/// How long the last requests of a run may take.
const LAST_REQUESTS: Duration = Duration::from_secs(5);

/// How often the progress bar is updated.
const SHOWN_EVERY: Duration = Duration::from_millis(250);

/// Runs the load and prints the measurements.
pub fn run(args: Args) -> Result<(), Failure> {
    if args.duration.is_zero() {
        return Err(Failure::usage("--duration: must be longer than zero"));
    }
    if args.batch && args.workload.is_transactional() {
        return Err(Failure::usage("--batch: transactions make unary calls"));
    }
    if args.workload == Workload::TxnTransfer && args.keys < 2 {
        return Err(Failure::usage("--keys: transfers need at least two keys"));
    }
    process::descriptors(1);
    process::client_runtime()?.block_on(load(args))
}

async fn load(args: Args) -> Result<(), Failure> {
    let env = Env::real();
    let pd = PdClient::new(env.net.clone(), env.clock.clone(), args.pd.clone());
    let keys = Keys::new(args.keys, args.distribution);
    let value = value(args.value_size as usize, args.seed);
    let raw =
        RawClient::new(pd.clone(), env.net.clone(), env.clock.clone(), Rng::new(args.seed), RawOptions::default());
    // First find out whether there is a cluster.
    let routing = Routing::new(pd.clone(), env.net.clone(), args.connections).await?;
    let found = pd.keyspaces().await?;
    if found.api_version != 1 {
        return Err(Failure::new("the cluster has API version 2, for which bench is not built yet")
            .hint("measure a cluster with API version 1"));
    }
    let transactions = Transactions::new(&pd, &env, &args);
    let loads = !args.no_preload;
    match args.workload {
        Workload::Clean | Workload::TxnClean => {
            remove(&raw, &transactions, &args, &keys).await?;
            print_removed(&args);
            return Ok(());
        }
        Workload::TxnPut | Workload::Put => {}
        workload if loads && workload.is_transactional() => {
            txn::preload(&transactions, &args, &keys, &value).await?;
        }
        _ if loads => preload(&raw, &args, &keys, &value).await?,
        _ => {}
    }
    let measuring = AtomicBool::new(args.warmup.is_zero());
    let shared = Arc::new(Shared {
        args: args.clone(),
        keys,
        value,
        raw,
        routing,
        transactions,
        measuring,
        over: AtomicBool::new(false),
        done: AtomicU64::new(0),
    });
    let runs_transactions = args.workload.is_transactional() && args.workload != Workload::TxnGet;
    let running: Vec<tokio::task::JoinHandle<Tally>> = if runs_transactions {
        (0..args.clients).map(|i| tokio::spawn(txn::run(shared.clone(), i))).collect()
    } else if args.batch {
        let streams = args.connections.min(args.clients);
        let share = |i: u32| args.clients / streams + u32::from(i < args.clients % streams);
        (0..streams).map(|i| tokio::spawn(streams::run(shared.clone(), i, share(i)))).collect()
    } else {
        (0..args.clients).map(|i| tokio::spawn(unary::run(shared.clone(), i))).collect()
    };
    tokio::time::sleep(args.warmup).await;
    shared.measuring.store(true, Ordering::Relaxed);
    let (began, cpu_began) = (Instant::now(), process::cpu_seconds());
    let interrupted = watch(&shared, began).await;
    shared.measuring.store(false, Ordering::Relaxed);
    let (took, cpu) = (began.elapsed(), process::cpu_seconds() - cpu_began);
    shared.over.store(true, Ordering::Relaxed);
    let mut tally = Tally::new();
    // A client whose last request hangs must not delay the report.
    let until = tokio::time::Instant::now() + LAST_REQUESTS;
    for mut client in running {
        match tokio::time::timeout_at(until, &mut client).await {
            Ok(Ok(one)) => tally.merge(one),
            Ok(Err(_)) => {}
            Err(_) => client.abort(),
        }
    }
    let _ = tokio::time::timeout_at(until, shared.transactions.settle()).await;
    let checked = match args.workload {
        Workload::TxnTransfer if loads && !interrupted => txn::check_sum(&shared).await,
        _ => Ok(()),
    };
    let cleaned = if args.clean {
        armilla::rt_select! {
            cleaned = remove(&shared.raw, &shared.transactions, &args, &shared.keys) => cleaned,
            _ = tokio::signal::ctrl_c() => Err(Failure::silent(130)),
        }
    } else {
        Ok(())
    };
    let report = Report::new(&args, &tally, took, cpu);
    process::only_prints();
    if args.json {
        println!("{}", report.json());
    } else {
        print!("{}", report.text());
    }
    checked?;
    cleaned?;
    if interrupted {
        return Err(Failure::silent(130));
    }
    if tally.latencies_ns.is_empty() {
        return Err(Failure::new("no request was answered while measuring"));
    }
    if tally.errors > 0 {
        return Err(Failure::new(format!("{} requests failed while measuring", tally.errors)));
    }
    Ok(())
}

/// Waits until the measuring time is over, or until Ctrl-C (then returns true). Updates the progress bar.
async fn watch(shared: &Shared, began: Instant) -> bool {
    let total = shared.args.duration;
    let bar = bar(shared.args.json, total.as_millis() as u64, "{bar:30} {elapsed}/{msg}");
    let mut last = (began, 0);
    let mut interrupted = false;
    let end = tokio::time::Instant::from_std(began + total);
    loop {
        let step = tokio::time::Instant::now() + Duration::from_millis(50);
        armilla::rt_select! {
            _ = tokio::signal::ctrl_c() => {
                interrupted = true;
                break;
            }
            () = tokio::time::sleep_until(step.min(end)) => {}
        }
        let now = Instant::now();
        if now >= began + total || shared.is_over() {
            break;
        }
        if now.duration_since(last.0) < SHOWN_EVERY {
            continue;
        }
        let done = shared.done.load(Ordering::Relaxed);
        let rate = (done - last.1) as f64 / now.duration_since(last.0).as_secs_f64();
        last = (now, done);
        bar.set_position(began.elapsed().as_millis() as u64);
        bar.set_message(format!("{}s  {} ops/s", total.as_secs(), report::grouped(rate as u64)));
    }
    bar.finish_and_clear();
    interrupted
}

/// Writes every key once.
async fn preload(raw: &RawClient, args: &Args, keys: &Keys, value: &Bytes) -> Result<(), Failure> {
    let per = ((512 << 10) / (u64::from(args.value_size) + 32)).clamp(1, 2048);
    in_chunks(args, "loading keys", per, |numbers| {
        let pairs = numbers.map(|n| (Bytes::copy_from_slice(&keys.key(n)), value.clone())).collect();
        raw.batch_put(pairs, 0)
    })
    .await
}

fn print_removed(args: &Args) {
    process::only_prints();
    match args.json {
        true => println!("{}", json!({ "removed_keys": args.keys })),
        false => println!("removed the {} keys, as far as they existed", report::grouped(args.keys)),
    }
}

/// Deletes the keys of the run, raw or transactional ones.
async fn remove(raw: &RawClient, transactions: &Transactions, args: &Args, keys: &Keys) -> Result<(), Failure> {
    if args.workload.is_transactional() {
        txn::clean(transactions, args, keys).await
    } else {
        clean(raw, args, keys).await
    }
}

/// Deletes the keys of the run, and no others.
async fn clean(raw: &RawClient, args: &Args, keys: &Keys) -> Result<(), Failure> {
    in_chunks(args, "removing keys", 2048, |numbers| {
        raw.batch_delete(numbers.map(|n| Bytes::copy_from_slice(&keys.key(n))).collect())
    })
    .await
}

/// Calls `work` with the numbers of all keys, `per` at a time, and shows the progress.
async fn in_chunks<E: Into<Failure>, F: Future<Output = Result<(), E>>>(
    args: &Args,
    what: &str,
    per: u64,
    work: impl Fn(std::ops::Range<u64>) -> F,
) -> Result<(), Failure> {
    let bar = bar(args.json, args.keys, &format!("{what} {{bar:30}} {{pos}}/{{len}}"));
    let mut chunks = futures::stream::iter((0..args.keys).step_by(per as usize))
        .map(|from| {
            let numbers = from..(from + per).min(args.keys);
            let count = numbers.end - numbers.start;
            let work = work(numbers);
            async move { work.await.map(|()| count) }
        })
        .buffer_unordered(8);
    while let Some(done) = chunks.next().await {
        bar.inc(done.map_err(Into::into)?);
    }
    bar.finish_and_clear();
    Ok(())
}

/// Creates a progress bar on standard error, or a hidden one.
fn bar(hidden: bool, len: u64, template: &str) -> ProgressBar {
    let target = if hidden { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    let bar = ProgressBar::with_draw_target(Some(len), target);
    bar.set_style(ProgressStyle::with_template(template).expect("a sound template"));
    bar
}

/// Returns a value that does not compress.
fn value(bytes: usize, seed: u64) -> Bytes {
    let mut rng = Rng::fork(seed, "value");
    (0..bytes).map(|_| rng.next_u64() as u8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        assert_eq!(parse_duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("3"), Ok(Duration::from_secs(3)));
        assert!(
            parse_duration("10h").is_err() && parse_duration("soon").is_err() && parse_duration("99999999s").is_err()
        );
    }
}
