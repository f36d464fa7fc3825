//! Measures how long regions accept no writes when a node dies or is stopped: three processes, five regions, loopback
//! only, in bounded time.
//!
//! ```text
//!   cargo bench --bench pauses -- [--rounds 5]
//! ```
//! On every region a probe puts a key every 25 ms: it sends to the store that responded last, follows the hint of a
//! store that does not lead, and tries the others when one does not respond. A pause is the longest time between two
//! acknowledged puts of a region in the seconds after the event. Each round kills a node that does not lead the
//! placement driver and restarts it, then ends each node in turn by SIGTERM and restarts it. Before each event the
//! leaders have been spread evenly and stable for a while.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "benches of the real world")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use armilla::proto::kvrpcpb::{Context, RawPutRequest};
use armilla::proto::metapb::{Peer, Region};
use armilla::proto::tikvpb::tikv_client::TikvClient;
use common::{Cluster, Wire};
use tonic::transport::Channel;

const EVERY: Duration = Duration::from_millis(25);
/// Timeout of one attempt at one store.
const ATTEMPT: Duration = Duration::from_millis(400);
/// Observation time after an event.
const WATCHED: Duration = Duration::from_secs(8);

/// The times at which each region's puts were acknowledged.
type Heard = Arc<Mutex<BTreeMap<u64, Vec<Instant>>>>;

/// Puts a key of `region` again and again, to whichever store accepts it.
async fn probe(region: Region, stores: BTreeMap<u64, Channel>, heard: Heard) {
    let mut order: Vec<Peer> = region.peers.clone();
    let key = [&region.start_key[..], b"~probe"].concat();
    loop {
        let mut at = 0;
        while at < order.len() {
            let peer = order[at];
            let context = Context {
                region_id: region.id,
                region_epoch: region.region_epoch,
                peer: Some(peer),
                ..Context::default()
            };
            let request = RawPutRequest {
                context: Some(context),
                key: key.clone().into(),
                value: "v".into(),
                ..Default::default()
            };
            let mut client = TikvClient::new(stores[&peer.store_id].clone());
            let mut hint = None;
            if let Ok(Ok(reply)) = tokio::time::timeout(ATTEMPT, client.raw_put(request)).await {
                match reply.into_inner().region_error {
                    None => {
                        heard.lock().expect("no holder panics").entry(region.id).or_default().push(Instant::now());
                        order.swap(0, at);
                        break;
                    }
                    Some(error) => hint = error.not_leader.and_then(|not_leader| not_leader.leader),
                }
            }
            at += 1;
            // The leader that a store names is tried next.
            if let Some(next) = hint.and_then(|hint| order[at..].iter().position(|peer| peer.id == hint.id)) {
                order.swap(at, at + next);
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Returns the longest pause (ms) of each region that began after `from` or was in progress then.
fn pauses(heard: &Heard, from: Instant) -> BTreeMap<u64, u64> {
    let now = Instant::now();
    let heard = heard.lock().expect("no holder panics");
    let longest = |times: &Vec<Instant>| {
        let until = times.iter().copied().chain([now]);
        let gaps = times.iter().copied().zip(until.skip(1)).filter(|(_, end)| *end > from);
        gaps.map(|(begin, end)| (end - begin).as_millis() as u64).max().unwrap_or(0)
    };
    heard.iter().map(|(region, times)| (*region, longest(times))).collect()
}

fn median_and_most(mut values: Vec<u64>) -> String {
    values.sort_unstable();
    match values.last() {
        None => "-".into(),
        Some(most) => {
            format!("{} ms in the median, {most} ms at the most, of {}", values[values.len() / 2], values.len())
        }
    }
}

/// Returns the address of the store that leads each region.
async fn leaders(wire: &Wire) -> BTreeMap<u64, u64> {
    let regions = wire.regions().await.expect("the placement driver answers");
    regions.into_iter().map(|(region, leader)| (region.id, leader.map_or(0, |peer| peer.store_id))).collect()
}

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let rounds = match (args.next().as_deref(), args.next()) {
        (None, _) => 5,
        (Some("--rounds"), Some(rounds)) => rounds.parse::<usize>().expect("a number").clamp(1, 50),
        other => panic!("unknown arguments {other:?}: --rounds N"),
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    // Channels belong to the runtime, wherever they are created.
    let _entered = runtime.enter();
    let mut cluster = Cluster::start(3, &["--initial-regions", "5", "--log-level", "warn"]);
    let addrs = cluster.addrs();
    let wire = Wire::new(addrs.clone());
    let stores: BTreeMap<u64, String> = runtime.block_on(wire.stores()).expect("the placement driver answers");
    let heard = Heard::default();
    let regions = runtime.block_on(wire.regions()).expect("the placement driver answers");
    for (region, _) in regions {
        let channels = stores.iter().map(|(id, addr)| (*id, Wire::new(vec![]).channel(addr))).collect();
        runtime.spawn(probe(region, channels, heard.clone()));
    }
    let (mut elsewhere, mut led_there, mut stopped) = (Vec::new(), Vec::new(), Vec::new());
    let store_of = |node: usize| *stores.iter().find(|(_, addr)| **addr == addrs[node]).expect("a store").0;
    for _ in 0..rounds {
        std::thread::sleep(WATCHED);
        let pd = runtime.block_on(wire.pd_leader_addr()).expect("a leader");
        let victim = (0..3).find(|node| addrs[*node] != pd).expect("three nodes");
        let led = runtime.block_on(leaders(&wire));
        let from = Instant::now();
        cluster.kill(victim);
        std::thread::sleep(WATCHED);
        for (region, pause) in pauses(&heard, from) {
            if led.get(&region) == Some(&store_of(victim)) { led_there.push(pause) } else { elsewhere.push(pause) }
        }
        cluster.restart(victim);
        cluster.wait_ready();
        for node in 0..3 {
            // The balancer gives leaders only to stores that have been alive for ten seconds.
            std::thread::sleep(Duration::from_secs(12));
            let from = Instant::now();
            let code = cluster.terminate(node);
            assert_eq!(code, Some(0), "a node exits cleanly");
            std::thread::sleep(Duration::from_secs(3));
            stopped.extend(pauses(&heard, from).into_values());
            cluster.restart(node);
            cluster.wait_ready();
        }
    }
    println!("{rounds} rounds, 3 nodes, 5 regions, a put every 25 ms on each");
    println!("a node killed, regions led elsewhere: {}", median_and_most(elsewhere));
    println!("a node killed, regions it led:        {}", median_and_most(led_there));
    println!("a node ended by SIGTERM, all regions: {}", median_and_most(stopped));
}
