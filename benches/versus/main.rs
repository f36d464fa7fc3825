//! Measures Armilla against etcd on one machine: three processes each, loopback only, bounded, interleaved.
//!
//! ```text
//!   cargo bench --bench versus -- [--etcd PATH] [--reps 5] [--secs 3] [--only put,get,streams,single,failover]
//! ```
//! `benches/versus-etcd.sh` fetches a recent etcd and runs this. One load generator drives both through the same gRPC
//! stack: 8 connections, 256 byte values, 100,000 keys, one operation after the other per client. Every number is the
//! median of the repetitions, in which both take turns; the ratio is the median of the turns' ratios. Server CPU is the
//! time that /proc reports for the three processes during the window. The quorum floor is the speed of three replicas
//! with one fdatasync each and nothing else: no raft, no gRPC, no engine.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "benches of the real world")]

mod floor;
mod keys;
mod load;
mod peers;
mod stream;

use std::time::{Duration, Instant};

use load::{Load, Op, Window};
use peers::{Ours, Peer, Theirs};

struct Options {
    etcd: String,
    reps: usize,
    secs: u64,
    only: Option<Vec<String>>,
}

fn options() -> Options {
    let mut options =
        Options { etcd: std::env::var("ETCD").unwrap_or_else(|_| "etcd".into()), reps: 5, secs: 3, only: None };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().unwrap_or_else(|| panic!("{arg} needs a value"));
        match arg.as_str() {
            // Cargo passes this to every bench.
            "--bench" => {}
            "--etcd" => options.etcd = value(),
            "--reps" => options.reps = value().parse::<usize>().expect("a number").clamp(1, 20),
            "--secs" => options.secs = value().parse::<u64>().expect("a number").clamp(1, 20),
            "--only" => options.only = Some(value().split(',').map(str::to_owned).collect()),
            other => {
                panic!(
                    "unknown argument {other}: --etcd PATH, --reps N, --secs N, --only put,get,streams,single,failover"
                )
            }
        }
    }
    options
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn of<T>(items: &[T], value: impl Fn(&T) -> f64) -> f64 {
    median(items.iter().map(value).collect())
}

/// Prints one row of the table.
fn row(goal: &str, what: &str, ours: String, theirs: String, ratio: f64, gate: &str) {
    println!("| {goal} | {what} | {ours} | {theirs} | {ratio:.2} | {gate} |");
}

fn main() {
    let options = options();
    let wanted = |name: &str| options.only.as_ref().is_none_or(|only| only.iter().any(|n| n == name));
    let dir = tempfile::Builder::new().prefix("armilla-versus-").tempdir().expect("a temporary folder");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let theirs = Theirs::start(&runtime, &options.etcd, &dir.path().join("etcd"), 200, 2000);
    let ours = Ours::start(&runtime, &dir.path().join("armilla"));
    println!("{} against {}", ours.version(), theirs.version());
    println!(
        "{} repetitions of {} s, taking turns; load average before: {}",
        options.reps,
        options.secs,
        std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim()
    );
    println!();

    let measure = |clients: usize, op: Op, streams: bool| -> (Vec<Window>, Vec<Window>) {
        let load = |peer: &dyn Peer| {
            let cpu = peer.cpu_s();
            let targets = if streams { peer.streams() } else { peer.targets() };
            let window = runtime.block_on(Load { clients, op, secs: options.secs }.run(targets));
            window.with_cpu(peer.cpu_s() - cpu)
        };
        let mut windows = (Vec::new(), Vec::new());
        for _ in 0..options.reps {
            windows.1.push(load(&theirs));
            windows.0.push(load(&ours));
            let (a, b) = (windows.0.last().expect("just pushed"), windows.1.last().expect("just pushed"));
            eprintln!("  {op:?} {clients} clients: ours {a}, etcd {b}");
        }
        windows
    };
    let ratios = |a: &[Window], b: &[Window], value: fn(&Window) -> f64| {
        median(a.iter().zip(b).map(|(a, b)| value(a) / value(b)).collect())
    };
    println!("| goal | what | ours | etcd | ratio | gate |\n|---|---|---|---|---|---|");

    // Existing keys for the reads, on both sides.
    runtime.block_on(load::fill(theirs.targets()));
    runtime.block_on(load::fill(ours.targets()));

    if wanted("put") {
        let (a, b) = measure(64, Op::Put, false);
        let figures = |w: &[Window]| {
            format!(
                "{:.0} /s, p50 {:.2} ms, p99 {:.2} ms",
                of(w, |w| w.per_s),
                of(w, |w| w.p50_ms),
                of(w, |w| w.p99_ms)
            )
        };
        row("1", "put, 64 clients", figures(&a), figures(&b), ratios(&a, &b, |w| w.per_s), "2.4");
        let cpu = |w: &[Window]| format!("{:.0} us", of(w, |w| w.cpu_us));
        row("1", "server CPU a put, 64 clients", cpu(&a), cpu(&b), ratios(&a, &b, |w| w.cpu_us), "0.40");
        let spread = |w: &[Window]| of(w, |w| w.p99_ms / w.p50_ms);
        let (a, b) = (spread(&a), spread(&b));
        row("9", "put p99 / p50, 64 clients", format!("{a:.1}"), format!("{b:.1}"), a / b, "ours at most 3.0");
    }
    if wanted("get") {
        let (a, b) = measure(64, Op::Get, false);
        let figures = |w: &[Window]| {
            format!(
                "{:.0} /s, p50 {:.2} ms, p99 {:.2} ms",
                of(w, |w| w.per_s),
                of(w, |w| w.p50_ms),
                of(w, |w| w.p99_ms)
            )
        };
        row("5", "linearizable get, 64 clients", figures(&a), figures(&b), ratios(&a, &b, |w| w.per_s), "2.2");
        let cpu = |w: &[Window]| format!("{:.0} us", of(w, |w| w.cpu_us));
        row("5", "server CPU a get, 64 clients", cpu(&a), cpu(&b), ratios(&a, &b, |w| w.cpu_us), "0.36");
    }
    if wanted("streams") {
        for (op, name, gate) in [(Op::Put, "put", "8"), (Op::Get, "get", "10")] {
            let (a, b) = measure(256, op, true);
            let figures = |w: &[Window]| format!("{:.0} /s, {:.0} us CPU", of(w, |w| w.per_s), of(w, |w| w.cpu_us));
            let what = format!("{name}, 256 in flight: BatchCommands on 2 connections, etcd's unary calls on 8");
            row("1", &what, figures(&a), figures(&b), ratios(&a, &b, |w| w.per_s), gate);
        }
    }
    if wanted("single") {
        let mut floors = Vec::new();
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for _ in 0..options.reps {
            floors.push(floor::p50_ms(&dir.path().join("floor"), Duration::from_secs(options.secs)));
            let one = |peer: &dyn Peer| {
                runtime.block_on(Load { clients: 1, op: Op::Put, secs: options.secs }.run(peer.targets()))
            };
            b.push(one(&theirs));
            a.push(one(&ours));
            eprintln!(
                "  1 client: floor {:.3} ms, ours {}, etcd {}",
                floors[floors.len() - 1],
                a[a.len() - 1],
                b[b.len() - 1]
            );
        }
        let p50 = |w: &[Window]| format!("p50 {:.3} ms", of(w, |w| w.p50_ms));
        let to_floor = median(a.iter().zip(&floors).map(|(w, floor)| w.p50_ms / floor).collect());
        row(
            "3",
            "put p50, 1 client, against the quorum floor",
            p50(&a),
            format!("floor {:.3} ms", median(floors)),
            to_floor,
            "2.0",
        );
        row("3", "put p50, 1 client, against etcd", p50(&a), p50(&b), ratios(&a, &b, |w| w.p50_ms), "0.65");
    }
    drop(theirs);
    drop(ours);
    if wanted("failover") {
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for rep in 0..options.reps.min(5) {
            let home = dir.path().join(format!("failover{rep}"));
            let mut theirs = Theirs::start(&runtime, &options.etcd, &home.join("etcd"), 100, 1000);
            b.push(failover(&runtime, &mut theirs));
            drop(theirs);
            let mut ours = Ours::start(&runtime, &home.join("armilla"));
            a.push(failover(&runtime, &mut ours));
            drop(ours);
            std::fs::remove_dir_all(&home).ok();
            eprintln!("  failover: ours {:.0} ms, etcd {:.0} ms", a[rep], b[rep]);
        }
        let figure = |v: &[f64]| format!("{:.0} ms", median(v.to_vec()));
        let ratio = median(a.clone()) / median(b.clone());
        row(
            "11",
            "first put after SIGKILL of the leader (etcd: election 1000 ms)",
            figure(&a),
            figure(&b),
            ratio,
            "0.6",
        );
    }
}

/// Returns the milliseconds from SIGKILL of the leader to the next put that a survivor acknowledges.
fn failover(runtime: &tokio::runtime::Runtime, peer: &mut dyn Peer) -> f64 {
    // Some traffic first, so that every lease and connection is warm.
    runtime.block_on(Load { clients: 4, op: Op::Put, secs: 1 }.run(peer.targets()));
    peer.kill_leader();
    let began = Instant::now();
    let survivors = {
        let _entered = runtime.enter();
        peer.survivors()
    };
    runtime.block_on(async {
        for attempt in 0.. {
            let target = &survivors[attempt % survivors.len()];
            let put = tokio::time::timeout(Duration::from_millis(150), target.put(keys::key(1), keys::value()));
            if matches!(put.await, Ok(true)) {
                break;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "no survivor accepts a put");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    began.elapsed().as_secs_f64() * 1e3
}
