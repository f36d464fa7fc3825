//! Tests the raft log against power losses: one node writes random batches to a log on the simulated disk, dies at
//! random moments and is opened again.
//!
//! The judge keeps the last acknowledged state and every later state with which the log may legally come back. After
//! each start the log must be exactly one of them: no acknowledged batch is lost and no batch is half applied. A
//! refusal to open is a failure. Each planted bug of the module is hunted in a separate process and must be found.

use std::sync::{Arc, Mutex};

use armilla::replica::log::{LogOptions, MUTANTS, RaftLog};
use armilla::rt::Env;
use armilla::rt::rng::Rng;
use armilla::rt::sim::World;
use armilla::types::Error;

#[path = "../../../tests/log_model/mod.rs"]
mod model;

use model::{State, contents, difference, draw};

#[derive(Default)]
struct Judge {
    /// The states that the log may have after a restart: the last acknowledged one, then one for each later batch.
    legal: Vec<State>,
    violation: Option<String>,
    opened: u32,
    acknowledged: u32,
    freed: u64,
    recycled: u64,
}

/// Runs one incarnation of the node: opens the log, has its contents judged, and writes until the node is killed or the
/// disk fails.
async fn life(env: Env, judge: Arc<Mutex<Judge>>, mut rng: Rng) {
    let options = LogOptions {
        dir: "/node/log".into(),
        segment_bytes: 32 << 10,
        spare_segments_max: 2,
        live_bytes_soft_max: 64 << 10,
        boot: 0,
        boot_min: 0,
    };
    let violate = |what: String| {
        judge.lock().unwrap().violation.get_or_insert(what);
    };
    let mut log = match RaftLog::open(env.disk.clone(), options).await {
        Ok(log) => log,
        // A sync was made to fail, or the node was killed.
        Err(Error::Io(_) | Error::Stopped(_)) => return,
        Err(error) => return violate(format!("the log refuses to open: {error}")),
    };
    let mut state = match contents(&log, &mut rng).await {
        Ok(state) => state,
        Err(Error::Io(_)) => return,
        Err(error) => return violate(format!("after the start: {error}")),
    };
    {
        let mut judge = judge.lock().unwrap();
        judge.opened += 1;
        if !judge.legal.contains(&state) {
            let acknowledged = judge.legal.first().expect("a state was acknowledged");
            let what = format!("the log lost or invented something: {}", difference(&state, acknowledged));
            judge.violation.get_or_insert(what);
            return;
        }
        judge.legal = vec![state.clone()];
    }
    loop {
        let (batch, next) = draw(&mut rng, &state);
        judge.lock().unwrap().legal.push(next.clone());
        let sync = rng.chance(0.7);
        match log.write(&batch, sync).await {
            Ok(()) => {}
            Err(Error::Stopped(_)) => {
                // A poisoned log must reject every further write.
                assert!(matches!(log.write(&batch, true).await, Err(Error::Stopped(_))));
                return;
            }
            Err(error) => return violate(format!("a legal write fails: {error}")),
        }
        state = next;
        if sync {
            let mut judge = judge.lock().unwrap();
            judge.legal = vec![state.clone()];
            judge.acknowledged += 1;
            let stats = log.stats();
            judge.recycled = judge.recycled.max(stats.recycled);
            judge.freed = judge.freed.max(stats.rewritten_bytes);
        }
        if rng.chance(0.05) {
            match contents(&log, &mut rng).await {
                Ok(read) if read == state => {}
                Ok(read) => return violate(format!("the log reads wrong: {}", difference(&read, &state))),
                Err(Error::Io(_)) => return,
                Err(error) => return violate(format!("a read fails: {error}")),
            }
        }
        while rng.chance(0.5) {
            match log.maintain().await {
                Ok(true) => {}
                Ok(false) => break,
                Err(Error::Stopped(_) | Error::Io(_)) => return,
                Err(error) => return violate(format!("housekeeping fails: {error}")),
            }
        }
    }
}

/// Runs one seed. Returns the number of starts, acknowledged batches, recycled segments and moved bytes, or the
/// violation.
fn run(seed: u64) -> Result<(u32, u32, u64, u64), String> {
    let runtime = madsim::runtime::Runtime::with_seed_and_config(seed, madsim::Config::default());
    runtime.block_on(async move {
        let world = World::new(seed);
        let node = world.node(1, "n1", "n1:1");
        let mut rng = Rng::fork(seed, "log-crash");
        let judge = Arc::new(Mutex::new(Judge { legal: vec![State::new()], ..Judge::default() }));
        for round in 0..12 {
            let task = node.spawn(life(node.env(), judge.clone(), Rng::fork(seed, &format!("life-{round}"))));
            // The kill comes between the middle of the opening and a few hundred batches later.
            let micros = 100 << rng.below(12);
            // A random stream of its own, so that the other draws stay the same.
            let mut short = Rng::fork(seed, &format!("short-{round}"));
            if short.chance(0.2) {
                let error = if short.chance(0.5) { Some(libc::EIO) } else { None };
                node.disk().shorten_write(short.between(1, 30) as u32, short.below(1000) as u32, error);
            }
            world.sleep_ns(rng.between(1, micros) * 1000).await;
            if rng.chance(0.2) {
                node.disk().fail_next_sync();
                world.sleep_ns(rng.between(1, 1_000_000)).await;
            }
            node.kill();
            drop(task);
            if rng.chance(0.8) {
                node.crash_disk(&mut rng);
            }
            if let Some(what) = judge.lock().unwrap().violation.take() {
                return Err(format!("seed {seed} round {round}: {what}"));
            }
        }
        let judge = judge.lock().unwrap();
        Ok((judge.opened, judge.acknowledged, judge.recycled, judge.freed))
    })
}

fn seeds() -> u64 {
    std::env::var("ARMILLA_LOG_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(400)
}

#[test]
fn power_losses_take_nothing_acknowledged() {
    let mut sum = (0, 0, 0, 0);
    for seed in 1..=seeds() {
        let (opened, acknowledged, recycled, moved) = run(seed).unwrap_or_else(|what| panic!("{what}"));
        sum = (sum.0 + opened, sum.1 + acknowledged, sum.2 + recycled, sum.3 + moved);
    }
    println!("{} starts, {} acknowledged batches, {} recycled segments, {} bytes moved", sum.0, sum.1, sum.2, sum.3);
    // The runs must have exercised restarts, writes, recycling and rewriting.
    assert!(sum.0 as u64 > 4 * seeds() && sum.1 as u64 > 50 * seeds() && sum.2 > seeds() && sum.3 > seeds());
}

/// Hunts one planted bug in a separate process; see the next test.
#[test]
#[ignore = "started by planted_bugs_are_found"]
fn hunt() {
    let id = std::env::var("ARMILLA_LOG_MUTANT").expect("the bug to plant");
    armilla::rt::mutant::plant(&id);
    let found = (1..=seeds()).find_map(|seed| run(seed).err().map(|what| (seed, what)));
    let (seed, what) = found.expect("the planted bug is found");
    println!(
        "HUNT {id}: seed {seed}: {}",
        what.lines().next().unwrap_or_default().chars().take(200).collect::<String>()
    );
}

#[test]
fn planted_bugs_are_found() {
    let mut missed = Vec::new();
    for (id, what) in MUTANTS {
        let output = crate::cli::executable::own()
            .args(["scenario::log_crash_tests::hunt", "--exact", "--ignored", "--nocapture"])
            .env("ARMILLA_LOG_MUTANT", id)
            .output()
            .expect("a child process");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        match text.lines().find_map(|line| line.find("HUNT").map(|at| &line[at..])) {
            Some(line) => println!("{line}"),
            None => {
                let error = String::from_utf8_lossy(&output.stderr).into_owned();
                missed.push(format!("{id} ({what}): {}", error.chars().take(600).collect::<String>()));
            }
        }
    }
    assert!(missed.is_empty(), "not found: {missed:#?}");
}
