//! The leader's view of the cluster, and the orders that follow from it.

use std::fmt::Write as _;

use super::{Args, founding, golden, key_of, region_text};
use crate::pd::RegionInfo;
use crate::pd::cluster::{Cluster, ClusterOptions, EndedOrder};
use crate::pd::state::PdState;
use crate::proto::armilla::pd::pd_command::Op;
use crate::proto::armilla::pd::{PdCommand, RefusedOrder, RegionHeartbeat, StoreHeartbeatRequest};
use crate::types::region;

fn info_text(info: Option<RegionInfo>) -> String {
    let Some(info) = info else { return "none".into() };
    let leader = info.leader.map_or("unknown".into(), |peer| format!("{}@{}", peer.id, peer.store_id));
    let down = info.down.iter().map(|stats| {
        let peer = stats.peer.as_ref().unwrap();
        format!(" down {}@{} {} s", peer.id, peer.store_id, stats.down_seconds)
    });
    format!("{} leader {leader}{}\n", region_text(&info.region), down.collect::<String>())
}

/// Parses one report, `REGION@TERM`; the region's epoch gets `version`, and its leader is the peer on `store`.
fn report(state: &PdState, store: u64, word: &str, version: u64, bytes: u64) -> RegionHeartbeat {
    let (id, term) = word.split_once('@').expect("region@term");
    let mut region = state.region(id.parse().unwrap()).expect("a region of the script").clone();
    region.region_epoch.as_mut().unwrap().version = version;
    let leader = region::peer_on(&region, store).cloned();
    RegionHeartbeat {
        region: Some(region),
        leader,
        term: term.parse().unwrap(),
        approximate_bytes: bytes,
        ..RegionHeartbeat::default()
    }
}

/// Runs `heartbeat NOW STORE REGION@TERM... [version=N] [bytes=N] [stopping=1] [refuses=REGION to=STORE]`.
fn heartbeat(cluster: &mut Cluster, state: &PdState, args: &Args<'_>) -> String {
    let store = args.number(1);
    let (version, bytes) = (args.number_or("version", 1), args.number_or("bytes", 0));
    let regions = args.plain[2..].iter().map(|word| report(state, store, word, version, bytes)).collect();
    let request = StoreHeartbeatRequest {
        store_id: store,
        capacity_bytes: 1000,
        regions,
        stopping: args.number_or("stopping", 0) == 1,
        refused_orders: match args.number_or("refuses", 0) {
            0 => vec![],
            region_id => {
                let (to_store, reason) = (args.number_or("to", 0), "peer 7 has been silent".into());
                vec![RefusedOrder { region_id, to_store, reason }]
            }
        },
        ..StoreHeartbeatRequest::default()
    };
    let newer = cluster.heartbeat(request, state, args.number(0));
    newer.iter().map(|region| format!("newer: {}\n", region_text(region))).collect()
}

/// Runs `orders NOW STORE [balance=0]`, which prints the new orders and those that have ended.
fn orders(cluster: &mut Cluster, state: &PdState, args: &Args<'_>) -> String {
    let orders = cluster.orders_for(state, args.number(1), args.number_or("balance", 1) == 1, args.number(0));
    let given = orders.iter().map(|order| format!("region {} to store {}\n", order.region_id, order.to_store));
    let ended = cluster.take_ended().into_iter().map(|order| {
        let EndedOrder { region_id, to_store, carried_out, why } = order;
        assert_eq!(carried_out, why == "carried out");
        format!("ended: region {region_id} to store {to_store}: {why}\n")
    });
    given.chain(ended.collect::<Vec<_>>()).collect()
}

/// Runs `overview NOW`.
fn overview(cluster: &Cluster, state: &PdState, args: &Args<'_>) -> String {
    let overview = cluster.overview(state, args.number(0));
    let mut out = String::new();
    for store in overview.stores {
        let id = store.store.unwrap().id;
        let age = if store.heartbeat_age_ms == u64::MAX { "never".into() } else { store.heartbeat_age_ms.to_string() };
        let (leaders, regions, capacity) = (store.leaders, store.regions, store.capacity_bytes);
        writeln!(out, "store {id}: {leaders} leaders, {regions} regions, {capacity} bytes, heard {age}").unwrap();
    }
    for region in overview.regions {
        let (id, bytes, term) = (region.region.unwrap().id, region.approximate_bytes, region.term);
        let leader = region.leader.map_or(0, |peer| peer.store_id);
        writeln!(out, "region {id}: {bytes} bytes, led by store {leader} in term {term}").unwrap();
    }
    out
}

/// Goal: outdated reports are ignored, lookups fall back to the replicated descriptor, orders start and end. Method:
/// golden script; the first argument of every command is the time in ms.
#[test]
fn cluster() {
    let options = ClusterOptions::default();
    let (mut state, mut cluster) = (PdState::new(), Cluster::new(options.clone(), 0));
    golden::check("tests/scripts/pd/cluster.txt", |line| {
        let (command, args) = Args::parse(line);
        if command == "bootstrap" {
            let (_, bootstrap) = founding(&args).unwrap();
            (state, cluster) = (PdState::new(), Cluster::new(options.clone(), 0));
            let (reply, _) = state.apply(PdCommand { op: Some(Op::Bootstrap(bootstrap)) });
            assert_eq!(reply.refused, "");
            return state.regions().map(|region| region_text(region) + "\n").collect();
        }
        let now_ms = args.number(0);
        match command {
            "new-leader" => {
                cluster = Cluster::new(options.clone(), now_ms);
                String::new()
            }
            "heartbeat" => heartbeat(&mut cluster, &state, &args),
            // A report that claims a leader on a store that did not send it.
            "forged" => {
                let regions = vec![report(&state, args.number(2), args.plain[3], 1, 0)];
                let request =
                    StoreHeartbeatRequest { store_id: args.number(1), regions, ..StoreHeartbeatRequest::default() };
                format!("{} newer", cluster.heartbeat(request, &state, now_ms).len())
            }
            "id" => info_text(cluster.by_id(&state, args.number(1), now_ms)),
            "key" => info_text(cluster.by_key(&state, &key_of(args.plain[1]), now_ms)),
            "before" => info_text(cluster.before(&state, &key_of(args.plain[1]), now_ms)),
            "scan" => {
                let (start, end) = (key_of(args.plain[1]), key_of(args.plain[2]));
                let found = cluster.scan(&state, &start, &end, args.number(3) as usize, now_ms);
                found.into_iter().map(|info| info_text(Some(info))).collect()
            }
            "alive" => cluster.alive(args.number(1), now_ms).to_string(),
            "transfer" => match cluster.transfer(&state, args.number(1), args.number(2), now_ms) {
                Ok(()) => "ok".into(),
                Err(why) => why,
            },
            "orders" => orders(&mut cluster, &state, &args),
            // Whether lookups may return a region: known NOW REGION [strictly=1]
            "known" => {
                let found: Vec<RegionInfo> = cluster.by_id(&state, args.number(1), now_ms).into_iter().collect();
                match cluster.known(&found, args.number_or("strictly", 0) == 1, now_ms) {
                    Ok(()) => "yes".into(),
                    Err(region) => format!("region {region} is not"),
                }
            }
            "stats" => {
                let stats = cluster.stats(&state, args.number(1));
                let (capacity, peers) = (stats.capacity, stats.region_count);
                format!("store {}: {capacity} bytes, {peers} peers", stats.store_id)
            }
            "overview" => overview(&cluster, &state, &args),
            other => panic!("unknown command {other}"),
        }
    });
}
