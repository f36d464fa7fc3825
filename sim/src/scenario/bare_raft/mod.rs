//! # bare_raft: raft-rs groups over the simulated network and disk
//!
//! The scenario uses all three kinds of calls that tonic has, clients, and every fault that the world can inject. It
//! contains no line of the store, so that a digest that differs here is the simulator's own fault. Three nodes hold a
//! replica of each group; two clients propose numbered entries through a unary call and remember which ones were
//! acknowledged.
//!
//! **In** comes a seed; **out** goes the verdict: the same entry at the same index everywhere, no acknowledged entry
//! lost, and every group commits again after the faults have stopped. **Never**: any code of the store.

mod replica;
mod truth;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use armilla::rt::Env;
use armilla::rt::probe::{self, Event};
use armilla::rt::rng::Rng;
use armilla::rt::sim::{LinkConfig, NodeHandle, World};

use armilla_proto::health::HealthCheckRequest;
use armilla_proto::health::health_client::HealthClient;
use tonic::Request;

use super::report::Outcome;
use replica::Replica;
use truth::{GROUPS, NODES, Shared, addr};

const CLIENTS: u64 = 2;
const CLIENT_NODE: u64 = 100;
/// Durations of the faults and of the calm after them, in seconds.
const STORM_S: u64 = 60;
const CALM_S: u64 = 40;

/// Runs the scenario in the current world, with faults for `seconds` instead of the usual minute.
pub async fn run(seed: u64, seconds: Option<u64>) -> Outcome {
    let world = World::current().expect("the child makes the world");
    let truth = Shared::default();
    let nodes: Vec<NodeHandle> = (1..=NODES).map(|id| world.node(id, &format!("n{id}"), &addr(id))).collect();
    for node in &nodes {
        start(node, &truth);
    }
    let client = world.node(CLIENT_NODE, "clients", "10.0.1.1:1");
    for id in 0..CLIENTS {
        let (env, truth) = (client.env(), truth.clone());
        client.spawn(propose(env, id, truth));
    }
    client.spawn(watch(client.env(), truth.clone()));

    storm(&world, &nodes, seed, seconds.unwrap_or(STORM_S), &truth).await;

    // Calm: all faults are healed, and every group must commit something new.
    world.net().set_all(LinkConfig::default());
    world.net().heal_all();
    for node in &nodes {
        node.resume();
        node.disk().set_slow(1.0);
        node.clock().set_drift_ppm(0);
        node.set_cpu_factor(1.0);
    }
    let before = heights(&truth);
    let mut outcome = Outcome::default();
    for second in 0..CALM_S {
        world.sleep_ns(1_000_000_000).await;
        let after = heights(&truth);
        if (1..=GROUPS)
            .all(|group| after.get(&group).copied().unwrap_or(0) > before.get(&group).copied().unwrap_or(0) + 3)
        {
            break;
        }
        if second == CALM_S - 1 {
            return Outcome::failed(
                "liveness",
                format!("not every group commits after the faults: {before:?}, then {after:?}"),
                &world,
            );
        }
    }
    let truth = truth.lock().expect("no task panics while holding it");
    let held: BTreeSet<(u64, u64)> = truth.applied.iter().map(|((group, _), number)| (*group, *number)).collect();
    if let Some((oracle, what)) = &truth.violation {
        return Outcome::failed(oracle, what.clone(), &world);
    }
    if let Some((group, number)) = truth.acknowledged.difference(&held).next() {
        return Outcome::failed(
            "durability",
            format!("acknowledged entry {number} of group {group} was never applied"),
            &world,
        );
    }
    for (name, value) in [
        ("applied", truth.applied.len() as u64),
        ("acknowledged", truth.acknowledged.len() as u64),
        ("calls", truth.calls),
        ("failed_calls", truth.failed_calls),
        ("streamed", truth.streamed),
        ("packets", world.net().delivered()),
        ("lives", nodes.iter().map(NodeHandle::epoch).sum()),
    ] {
        outcome.stats.insert(name.to_owned(), value);
    }
    outcome
}

fn heights(truth: &Shared) -> BTreeMap<u64, u64> {
    let truth = truth.lock().expect("no task panics while holding it");
    let mut heights = BTreeMap::new();
    for (group, index) in truth.applied.keys() {
        let height = heights.entry(*group).or_insert(0);
        *height = (*height).max(*index);
    }
    heights
}

/// Starts an incarnation of a node.
fn start(node: &NodeHandle, truth: &Shared) {
    let (env, truth, id) = (node.env(), truth.clone(), node.id());
    node.spawn(async move {
        if let Err(error) = Replica::run(env, id, truth).await {
            probe::emit(|| Event::Poisoned { store: id, why: error.to_string() });
        }
    });
}

/// Injects faults one after another, some of them overlapping.
async fn storm(world: &World, nodes: &[NodeHandle], seed: u64, seconds: u64, truth: &Shared) {
    let mut rng = Rng::fork(seed, "storm");
    let end_ns = world.now_ns() + seconds * 1_000_000_000;
    let second = 1_000_000_000;
    world.sleep_ns(second).await;
    while world.now_ns() < end_ns {
        let node = rng.pick(nodes).clone();
        let other = rng.pick(nodes).clone();
        match rng.below(10) {
            0 | 1 => {
                if rng.chance(0.5) {
                    node.power_off(&mut rng);
                } else {
                    node.kill();
                    if rng.chance(0.4) {
                        node.crash_disk(&mut rng);
                    }
                }
                world.sleep_ns(rng.below(3 * second)).await;
                start(&node, truth);
            }
            2 => {
                node.pause();
                world.sleep_ns(rng.below(4 * second)).await;
                node.resume();
            }
            3 if node.id() != other.id() => {
                world.net().partition(node.id(), other.id());
                world.sleep_ns(rng.below(6 * second)).await;
                world.net().heal(node.id(), other.id());
            }
            4 if node.id() != other.id() => {
                world.net().partition_one_way(node.id(), other.id());
                world.sleep_ns(rng.below(6 * second)).await;
                world.net().heal(node.id(), other.id());
            }
            5 => {
                world.net().isolate(node.id());
                world.sleep_ns(rng.below(6 * second)).await;
                world.net().heal_all();
            }
            6 if node.id() != other.id() => world.net().black_hole(node.id(), other.id()),
            7 => {
                world.net().reset_connections(node.id(), other.id());
                let loss = rng.unit() * 0.05;
                world.net().set_latency(
                    node.id(),
                    other.id(),
                    LinkConfig {
                        latency_us_mean: rng.between(100, 20_000),
                        loss,
                        reset: loss / 20.0,
                        ..LinkConfig::default()
                    },
                );
            }
            8 => {
                node.clock().set_drift_ppm(rng.between(0, 100_000) as i64 - 50_000);
                node.clock().step_ms(rng.between(0, 20_000) as i64 - 10_000);
            }
            _ => {
                node.disk().set_slow(1.0 + rng.unit() * 20.0);
                node.disk().stall(Duration::from_millis(rng.below(1_500)));
            }
        }
        world.sleep_ns(rng.below(2 * second)).await;
    }
    for node in nodes {
        if !node.is_alive() {
            start(node, truth);
        }
    }
}

/// Runs a client that proposes numbered entries, one at a time, to whichever node accepts them.
async fn propose(env: Env, id: u64, truth: Shared) {
    let mut rng = Rng::new(env.seed ^ id);
    let mut clients: Vec<_> =
        (1..=NODES).map(|node| HealthClient::new(env.net.channel(&addr(node)).expect("it is an address"))).collect();
    let mut leaders: BTreeMap<u64, usize> = BTreeMap::new();
    for n in 0.. {
        let group = 1 + rng.below(GROUPS);
        let number = n * CLIENTS + id;
        let at = *leaders.entry(group).or_insert(0);
        let mut request = Request::new(HealthCheckRequest {
            service: format!("{group}:{number}:{}", "x".repeat(rng.below(200) as usize)),
        });
        request.set_timeout(Duration::from_secs(2));
        let answer = clients[at].check(request).await;
        {
            let mut truth = truth.lock().expect("no task panics while holding it");
            truth.calls += 1;
            if answer.is_ok() {
                truth.acknowledged.insert((group, number));
            } else {
                truth.failed_calls += 1;
            }
        }
        if answer.is_err() {
            leaders.insert(group, (at + 1) % clients.len());
        }
        env.clock.sleep(Duration::from_millis(rng.between(5, 60))).await;
    }
}

/// Runs a client that reads a stream of each node in turn.
async fn watch(env: Env, truth: Shared) {
    for n in 0u64.. {
        let channel = env.net.channel(&addr(1 + n % NODES)).expect("it is an address");
        let request = Request::new(HealthCheckRequest { service: "applied".to_owned() });
        if let Ok(stream) = HealthClient::new(channel).watch(request).await {
            let mut stream = stream.into_inner();
            while let Ok(Some(_)) = stream.message().await {
                truth.lock().expect("no task panics while holding it").streamed += 1;
            }
        }
        env.clock.sleep(Duration::from_millis(300)).await;
    }
}
