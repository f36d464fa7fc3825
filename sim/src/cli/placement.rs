//! `sim placement`: what the placement driver costs with many regions.
//!
//! The code is the placement driver's own, its state and its leader's view; the stores are made up. Each reports its
//! regions with its heartbeats, as stores do, and the driver looks for work as with every heartbeat.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use armilla::pd::cluster::{Cluster, ClusterOptions};
use armilla::pd::state::PdState;
use armilla::proto::armilla::pd::pd_command::Op;
use armilla::proto::armilla::pd::{Bootstrap, PdCommand, RegionHeartbeat, StoreHeartbeatRequest};
use armilla::proto::metapb::Store;
use armilla::types::Region;
use armilla::types::region::{Peer, RegionEpoch};
use armilla::types::version::PROTOCOL;

use super::child::cpu_seconds;

/// The time between two heartbeats of a store, ms.
const HEARTBEAT_MS: u64 = 1000;
/// IDs below this are not those of regions and peers.
const FIRST_ID: u64 = 1000;

/// Arguments of `placement`.
#[derive(Debug, clap::Args)]
pub struct PlacementArgs {
    /// Number of regions, of three replicas each.
    #[arg(long, default_value_t = 100_000)]
    regions: u64,
    /// Number of stores.
    #[arg(long, default_value_t = 3)]
    stores: u64,
    /// Number of heartbeats of each store.
    #[arg(long, default_value_t = 120)]
    heartbeats: u64,
}

fn key(number: u64) -> bytes::Bytes {
    if number == 0 { bytes::Bytes::new() } else { format!("key{number:012}").into() }
}

fn regions(args: &PlacementArgs) -> Vec<Region> {
    let region = |number: u64| {
        let id = FIRST_ID + 4 * number;
        let peer = |at: u64| Peer { id: id + 1 + at, store_id: 1 + (number + at) % args.stores, ..Peer::default() };
        Region {
            id,
            start_key: key(number),
            end_key: key((number + 1) % args.regions),
            region_epoch: Some(RegionEpoch { conf_ver: 1, version: 1 }),
            peers: (0..args.stores.min(3)).map(peer).collect(),
            ..Region::default()
        }
    };
    (0..args.regions).map(region).collect()
}

fn state(args: &PlacementArgs) -> Result<PdState, String> {
    let store = |id: u64| Store { id, address: format!("n{id}:1"), ..Store::default() };
    let named = |prefix: &str| (1..=args.stores).map(|id| format!("{prefix}{id}")).collect();
    let bootstrap = Bootstrap {
        stores: (1..=args.stores).map(store).collect(),
        uuids: named("u"),
        names: named("n"),
        regions: regions(args),
        next_id: FIRST_ID + 4 * args.regions,
    };
    let mut state = PdState::new();
    for op in [Op::Bootstrap(bootstrap), Op::ClusterVersion(PROTOCOL)] {
        let (reply, _) = state.apply(PdCommand { op: Some(op) });
        if !reply.refused.is_empty() {
            return Err(reply.refused);
        }
    }
    Ok(state)
}

/// Returns the heartbeat of a store that tells of the regions which it leads, or of none.
fn heartbeat(state: &PdState, store: u64, tells: bool) -> StoreHeartbeatRequest {
    let led = state.regions().filter(|region| tells && region.peers[0].store_id == store);
    let report = |region: &Region| RegionHeartbeat {
        region: Some(region.clone()),
        leader: Some(region.peers[0]),
        term: 6,
        approximate_bytes: 64 << 20,
        approximate_keys: 100_000,
        ..RegionHeartbeat::default()
    };
    StoreHeartbeatRequest {
        store_id: store,
        regions: led.map(report).collect(),
        interval_ms: HEARTBEAT_MS,
        protocol: PROTOCOL,
        ..StoreHeartbeatRequest::default()
    }
}

/// Hears a heartbeat and looks for work, as the placement driver's leader does. Returns the time that this took.
fn hear(cluster: &mut Cluster, state: &PdState, request: StoreHeartbeatRequest, now_ms: u64) -> Duration {
    let (store, began) = (request.store_id, Instant::now());
    let newer = cluster.heartbeat(request, state, now_ms);
    assert!(newer.is_empty(), "the regions do not change");
    cluster.balance_replicas(state, now_ms);
    cluster.balance_hot(state, now_ms);
    cluster.merge_small(state, now_ms);
    let _ = cluster.peers_orders(state, store, now_ms);
    let _ = cluster.orders_for(state, store, true, now_ms);
    let _ = cluster.merge_orders(state, store, now_ms);
    let _ = cluster.take_ended();
    began.elapsed()
}

/// Returns the memory that this process holds, in MiB.
fn memory_mib() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = text.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    (pages * 4096) >> 20
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Measures the placement driver with many regions.
pub fn placement(args: PlacementArgs) -> ExitCode {
    if args.regions == 0 || !(1..=100).contains(&args.stores) {
        eprintln!("error: at least one region, and 1 to 100 stores");
        return ExitCode::from(2);
    }
    let empty_mib = memory_mib();
    let state = match state(&args) {
        Ok(state) => state,
        Err(why) => {
            eprintln!("error: {why}");
            return ExitCode::FAILURE;
        }
    };
    let state_mib = memory_mib() - empty_mib;
    println!("{} regions on {} stores; the replicated state takes {state_mib} MiB", args.regions, args.stores);

    // Another member has become leader: it knows no leaders until every store has told of its regions.
    let mut cluster = Cluster::new(ClusterOptions::default(), 0);
    let (mut whole, mut longest) = (Duration::ZERO, Duration::ZERO);
    for store in 1..=args.stores {
        let took = hear(&mut cluster, &state, heartbeat(&state, store, true), store);
        (whole, longest) = (whole + took, longest.max(took));
    }
    let known = |region: &Region| cluster.by_id(&state, region.id, 10).is_some_and(|info| info.leader.is_some());
    assert!(state.regions().all(known), "every leader is known");
    println!(
        "after a change of leaders: all regions are known after one heartbeat of each store, {:.0} ms of CPU, {:.0} ms \
         for one store at the most; with the leader's view, {} MiB",
        ms(whole),
        ms(longest),
        memory_mib() - empty_mib
    );

    for (what, tells) in [("asleep: no region is told of", false), ("awake: every region is told of", true)] {
        let (mut total, mut longest) = (Duration::ZERO, Duration::ZERO);
        // The second phase follows on the first.
        let begin_ms = HEARTBEAT_MS * (1 + if tells { args.heartbeats } else { 0 });
        for beat in 0..args.heartbeats {
            for store in 1..=args.stores {
                let request = heartbeat(&state, store, tells);
                let took = hear(&mut cluster, &state, request, begin_ms + beat * HEARTBEAT_MS + store);
                (total, longest) = (total + took, longest.max(took));
            }
        }
        let each = ms(total) / args.heartbeats as f64;
        println!(
            "{what}: {each:.1} ms of CPU in a heartbeat interval of {HEARTBEAT_MS} ms for all stores ({:.1} % of a \
             core), {:.0} ms for one heartbeat at the most",
            each / HEARTBEAT_MS as f64 * 100.0,
            ms(longest)
        );
    }
    println!("{} MiB in the end, {:.1} s of CPU in all", memory_mib() - empty_mib, cpu_seconds());
    ExitCode::SUCCESS
}
