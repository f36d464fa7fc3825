//! Tests of the guarantees of the simulated world, each by itself.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status};

use super::{CrashMode, LinkConfig, NodeHandle, World};
use crate::proto::health::health_check_response::ServingStatus;
use crate::proto::health::health_client::HealthClient;
use crate::proto::health::health_server::{Health, HealthServer};
use crate::proto::health::{HealthCheckRequest, HealthCheckResponse};
use crate::rt::net::Listener;
use crate::rt::rng::Rng;
use crate::rt::{Env, HttpHandler, HttpResponse, cpu, disk, task};

/// Runs a test inside a world of its own.
fn simulate<F: Future<Output = ()>>(test: impl FnOnce(World) -> F) {
    let runtime = madsim::runtime::Runtime::with_seed_and_config(7, madsim::Config::default());
    runtime.block_on(async move { test(World::new(7)).await });
}

async fn wait_ms(world: &World, ms: u64) {
    world.sleep_ns(ms * 1_000_000).await;
}

/// Answers `check` at once (or after `service` milliseconds, if that is a number) and streams numbered answers, one
/// every millisecond.
#[derive(Clone)]
struct Echo {
    env: Env,
    /// How many handlers ended before they had answered.
    dropped: Arc<Mutex<u32>>,
}

struct CountDrop(Option<Arc<Mutex<u32>>>);

impl Drop for CountDrop {
    fn drop(&mut self) {
        if let Some(count) = &self.0 {
            *count.lock().unwrap() += 1;
        }
    }
}

#[tonic::async_trait]
impl Health for Echo {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        let mut dropped = CountDrop(Some(self.dropped.clone()));
        if let Ok(ms) = request.into_inner().service.parse() {
            self.env.clock.sleep(Duration::from_millis(ms)).await;
        }
        dropped.0 = None;
        Ok(Response::new(HealthCheckResponse { status: ServingStatus::Serving as i32 }))
    }

    type WatchStream = futures::stream::BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn watch(&self, _request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let clock = self.env.clock.clone();
        let numbers = futures::stream::unfold(0, move |n| {
            let clock = clock.clone();
            async move {
                clock.sleep(Duration::from_millis(1)).await;
                (n < 1000).then_some((Ok(HealthCheckResponse { status: n }), n + 1))
            }
        });
        Ok(Response::new(numbers.boxed()))
    }
}

fn nothing() -> HttpHandler {
    Arc::new(|_| -> Pin<Box<dyn Future<Output = HttpResponse> + Send>> {
        Box::pin(std::future::ready(HttpResponse { status: 404, content_type: "text/plain", body: Bytes::new() }))
    })
}

const ADDR: &str = "10.0.0.1:20160";

/// A server on node 1 and a node 2 to call it from.
struct Pair {
    server: NodeHandle,
    client: NodeHandle,
    dropped: Arc<Mutex<u32>>,
}

impl Pair {
    async fn new(world: &World) -> Pair {
        let server = world.node(1, "server", ADDR);
        let client = world.node(2, "client", "10.0.0.2:20160");
        let dropped = Arc::new(Mutex::new(0));
        let pair = Pair { server, client, dropped };
        pair.serve().await;
        pair
    }

    /// Serves in the server's current incarnation.
    async fn serve(&self) {
        let (env, dropped) = (self.server.env(), self.dropped.clone());
        let (bound, waits) = tokio::sync::oneshot::channel();
        self.server.spawn(async move {
            let _listener = listen(&env, dropped).await;
            let _ = bound.send(());
            std::future::pending::<()>().await;
        });
        waits.await.unwrap();
    }

    fn stub(&self) -> HealthClient<crate::rt::net::Channel> {
        HealthClient::new(self.client.env().net.channel(ADDR).unwrap())
    }
}

async fn listen(env: &Env, dropped: Arc<Mutex<u32>>) -> Listener {
    let echo = Echo { env: env.clone(), dropped };
    env.net.serve(ADDR, Routes::new(HealthServer::new(echo)), nothing()).await.unwrap()
}

fn ask(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

#[test]
fn a_call_takes_the_time_of_its_links() {
    simulate(|world| async move {
        let pair = Pair::new(&world).await;
        world.net().set_all(LinkConfig { latency_us_min: 50_000, latency_us_mean: 1, ..LinkConfig::default() });
        let mut stub = pair.stub();
        let began = world.now_ns();
        stub.check(ask("")).await.unwrap();
        let first_ms = (world.now_ns() - began) / 1_000_000;
        // A handshake and a call: two round trips of 100 ms.
        assert!((200..=210).contains(&first_ms), "{first_ms}");
        let began = world.now_ns();
        stub.check(ask("")).await.unwrap();
        let second_ms = (world.now_ns() - began) / 1_000_000;
        assert!((100..=105).contains(&second_ms), "{second_ms}");
    });
}

#[test]
fn a_stream_keeps_its_order_over_a_wild_network() {
    simulate(|world| async move {
        let pair = Pair::new(&world).await;
        world.net().set_all(LinkConfig { latency_us_mean: 30_000, loss: 0.05, ..LinkConfig::default() });
        let mut stream = pair.stub().watch(ask("")).await.unwrap().into_inner();
        for n in 0..1000 {
            assert_eq!(stream.message().await.unwrap().unwrap().status, n);
        }
        assert!(stream.message().await.unwrap().is_none());
    });
}

#[test]
fn streams_overtake_each_other() {
    simulate(|world| async move {
        let pair = Pair::new(&world).await;
        world.net().set_all(LinkConfig { latency_us_mean: 30_000, ..LinkConfig::default() });
        let stub = pair.stub();
        stub.clone().check(ask("")).await.unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        let calls: Vec<_> = (0..20)
            .map(|n| {
                let (mut stub, order) = (stub.clone(), order.clone());
                task::spawn(async move {
                    stub.check(ask("")).await.unwrap();
                    order.lock().unwrap().push(n);
                })
            })
            .collect();
        for call in calls {
            call.await.unwrap();
        }
        assert!(!order.lock().unwrap().is_sorted());
    });
}

#[test]
fn nobody_listening_is_unavailable_and_so_is_a_node_that_is_down() {
    simulate(|world| async move {
        let pair = Pair::new(&world).await;
        let env = pair.client.env();
        for addr in ["10.0.0.1:1", "10.9.9.9:20160"] {
            let error = HealthClient::new(env.net.channel(addr).unwrap()).check(ask("")).await.unwrap_err();
            assert_eq!(error.code(), Code::Unavailable, "{error}");
        }
        assert!(env.net.channel("no port").is_err());
        let mut stub = pair.stub();
        stub.check(ask("")).await.unwrap();
        pair.server.kill();
        assert_eq!(stub.check(ask("")).await.unwrap_err().code(), Code::Unavailable);
        // The next incarnation answers on the same channel.
        pair.serve().await;
        stub.check(ask("")).await.unwrap();
    });
}

#[test]
fn a_kill_breaks_calls_and_streams_soon() {
    simulate(|world| async move {
        let pair = Pair::new(&world).await;
        let mut stub = pair.stub();
        let mut stream = stub.watch(ask("")).await.unwrap().into_inner();
        stream.message().await.unwrap().unwrap();
        let call = task::spawn(async move { stub.check(ask("60000")).await });
        wait_ms(&world, 50).await;
        pair.server.kill();
        let killed = world.now_ns();
        let error = loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("a killed server must not end a stream cleanly"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.code(), Code::Unavailable);
        assert_eq!(call.await.unwrap().unwrap_err().code(), Code::Unavailable);
        assert!(world.now_ns() - killed < 100_000_000);
        assert_eq!(*pair.dropped.lock().unwrap(), 1, "the handler was dropped with its node");
    });
}

#[test]
fn a_short_partition_delays_and_a_long_one_breaks() {
    simulate(|world| async move {
        let pair = Pair::new(&world).await;
        let stub = pair.stub();
        stub.clone().check(ask("")).await.unwrap();
        let call = |mut stub: HealthClient<_>| task::spawn(async move { stub.check(ask("")).await });
        world.net().partition(1, 2);
        let waiting = call(stub.clone());
        wait_ms(&world, 5_000).await;
        assert!(!waiting.is_finished());
        world.net().heal(1, 2);
        waiting.await.unwrap().unwrap();

        world.net().partition(1, 2);
        let began = world.now_ns();
        let error = call(stub.clone()).await.unwrap().unwrap_err();
        let after_s = (world.now_ns() - began) / 1_000_000_000;
        assert_eq!(error.code(), Code::Unavailable);
        assert!((10..=15).contains(&after_s), "keepalive gave up after {after_s} s");
        // Dialing does not get through either.
        let began = world.now_ns();
        assert_eq!(call(stub.clone()).await.unwrap().unwrap_err().code(), Code::Unavailable);
        assert_eq!((world.now_ns() - began) / 1_000_000_000, 2);
        world.net().heal_all();
        call(stub).await.unwrap().unwrap();
    });
}

#[test]
fn one_way_means_that_requests_arrive_and_answers_do_not() {
    simulate(|world| async move {
        let pair = Pair::new(&world).await;
        let mut stub = pair.stub();
        stub.check(ask("")).await.unwrap();
        world.net().partition_one_way(1, 2);
        let seen = Arc::new(Mutex::new(0));
        let count = seen.clone();
        world.probe().add_sink(move |record| {
            if let super::probe::What::Deliver { from: 2, .. } = record.what {
                *count.lock().unwrap() += 1;
            }
        });
        let mut request = Request::new(ask(""));
        request.set_timeout(Duration::from_secs(3));
        let error = stub.check(request).await.unwrap_err();
        assert_eq!(error.code(), Code::Cancelled, "{error}");
        assert_eq!(*seen.lock().unwrap(), 1, "the request arrived");
    });
}

#[test]
fn a_black_hole_is_noticed_by_keepalive_only() {
    simulate(|world| async move {
        let pair = Pair::new(&world).await;
        let mut stub = pair.stub();
        stub.check(ask("")).await.unwrap();
        world.net().black_hole(1, 2);
        let began = world.now_ns();
        assert_eq!(stub.check(ask("")).await.unwrap_err().code(), Code::Unavailable);
        assert!((10..=15).contains(&((world.now_ns() - began) / 1_000_000_000)));
        // A new connection is not affected.
        stub.check(ask("")).await.unwrap();
    });
}

#[test]
fn a_machine_without_power_says_no_farewell() {
    simulate(|world| async move {
        let pair = Pair::new(&world).await;
        let mut stub = pair.stub();
        stub.check(ask("")).await.unwrap();
        let call = task::spawn(async move { stub.check(ask("60000")).await });
        wait_ms(&world, 20).await;
        pair.server.power_off(&mut Rng::new(1));
        pair.serve().await;
        wait_ms(&world, 9_000).await;
        assert!(!call.is_finished());
        wait_ms(&world, 7_000).await;
        assert_eq!(call.await.unwrap().unwrap_err().code(), Code::Unavailable);
        pair.stub().check(ask("")).await.unwrap();
    });
}

#[test]
fn whoever_dials_a_paused_node_gives_up_in_time() {
    simulate(|world| async move {
        let pair = Pair::new(&world).await;
        pair.server.pause();
        let began = world.now_ns();
        assert_eq!(pair.stub().check(ask("")).await.unwrap_err().code(), Code::Unavailable);
        assert!((10..=15).contains(&((world.now_ns() - began) / 1_000_000_000)));
    });
}

#[test]
fn a_deadline_and_a_dropped_call_end_the_handler() {
    simulate(|world| async move {
        let pair = Pair::new(&world).await;
        let mut stub = pair.stub();
        let mut request = Request::new(ask("60000"));
        request.set_timeout(Duration::from_millis(200));
        let began = world.now_ns();
        assert_eq!(stub.check(request).await.unwrap_err().code(), Code::Cancelled);
        assert!((200..=203).contains(&((world.now_ns() - began) / 1_000_000)));
        wait_ms(&world, 20).await;
        assert_eq!(*pair.dropped.lock().unwrap(), 1);
        let call = task::spawn(async move { stub.check(ask("60000")).await });
        wait_ms(&world, 20).await;
        call.abort();
        assert!(call.await.is_none());
        wait_ms(&world, 20).await;
        assert_eq!(*pair.dropped.lock().unwrap(), 2);
    });
}

#[test]
fn a_stopped_listener_lets_calls_end_and_takes_no_new_ones() {
    simulate(|world| async move {
        let server = world.node(1, "server", ADDR);
        let client = world.node(2, "client", "10.0.0.2:20160");
        let listener = listen(&server.env(), Arc::default()).await;
        assert!(server.env().net.serve(ADDR, Routes::default(), nothing()).await.is_err(), "the address is in use");
        assert!(client.env().net.serve(ADDR, Routes::default(), nothing()).await.is_err(), "not this node's address");
        let stub = HealthClient::new(client.env().net.channel(ADDR).unwrap());
        let call =
            |mut stub: HealthClient<_>, text: &'static str| task::spawn(async move { stub.check(ask(text)).await });
        let (short, long) = (call(stub.clone(), "200"), call(stub.clone(), "60000"));
        wait_ms(&world, 20).await;
        listener.stop();
        wait_ms(&world, 20).await;
        assert_eq!(call(stub.clone(), "").await.unwrap().unwrap_err().code(), Code::Unavailable);
        short.await.unwrap().unwrap();
        assert_eq!(long.await.unwrap().unwrap_err().code(), Code::Unavailable);
        assert_eq!(world.net().connections(), 0);
    });
}

#[test]
fn a_paused_node_answers_when_it_resumes() {
    simulate(|world| async move {
        let pair = Pair::new(&world).await;
        let mut stub = pair.stub();
        stub.check(ask("")).await.unwrap();
        pair.server.pause();
        let call = task::spawn(async move { stub.check(ask("")).await });
        wait_ms(&world, 3_000).await;
        assert!(!call.is_finished());
        pair.server.resume();
        call.await.unwrap().unwrap();
    });
}

const LOG: &str = "/data/log";

/// Creates a file whose name is durable, with the synced contents `synced`.
async fn file(node: &NodeHandle, synced: &[u8]) -> disk::File {
    let disk = node.env().disk;
    disk.create_dir_all(Path::new("/data")).await.unwrap();
    let file = disk.create(Path::new(LOG)).await.unwrap();
    disk.sync_dir(Path::new("/data")).await.unwrap();
    file.write_at(0, Bytes::copy_from_slice(synced)).await.unwrap();
    file.sync().await.unwrap();
    file
}

#[test]
fn a_crash_keeps_what_was_synced_and_may_lose_the_rest() {
    simulate(|world| async move {
        let (mut kept, mut lost, mut odd, mut shorter) = (0, 0, 0, 0);
        for round in 0..300 {
            let node = world.node(10 + round, &format!("n{round}"), &format!("10.1.{}.{}:1", round / 200, round % 200));
            let file = file(&node, &[1; 700]).await;
            // Starts in the middle of a sector that holds synced bytes, and fills two more sectors.
            file.write_at(700, Bytes::from(vec![2; 1_336])).await.unwrap();
            node.kill();
            node.crash_disk(&mut Rng::new(round));
            let bytes = node.disk().contents(Path::new(LOG)).unwrap();
            assert_eq!(bytes[..700], [1; 700], "synced bytes survive");
            assert!(bytes.len() == 700 || bytes.len() == 2_036);
            if bytes.len() == 700 {
                shorter += 1;
                continue;
            }
            // The shared sector is old or new, never a mixture.
            assert!(bytes[700..1024].iter().all(|b| *b == bytes[700]) && bytes[700] != 1);
            for sector in [&bytes[1024..1536], &bytes[1536..2036]] {
                match sector {
                    sector if sector.iter().all(|b| *b == 2) => kept += 1,
                    sector if sector.iter().all(|b| *b == 0) => lost += 1,
                    _ => odd += 1,
                }
            }
        }
        assert!(kept > 30 && lost > 30 && odd > 5 && shorter > 50, "{kept} {lost} {odd} {shorter}");
    });
}

#[test]
fn a_process_that_dies_loses_nothing_and_its_handles_fail() {
    simulate(|world| async move {
        let node = world.node(1, "n", ADDR);
        let file = file(&node, b"synced").await;
        file.write_at(6, Bytes::from_static(b" and not")).await.unwrap();
        node.kill();
        assert!(file.write_at(0, Bytes::from_static(b"zombie")).await.is_err());
        assert!(file.sync().await.is_err());
        let again = node.env().disk.open(Path::new(LOG)).await.unwrap();
        assert_eq!(again.read_at(0, 100).await.unwrap(), "synced and not");
        // The data is still unsynced: a power loss takes it.
        node.kill();
        node.disk().crash_with(&mut Rng::new(1), CrashMode::LoseAll);
        assert_eq!(node.disk().contents(Path::new(LOG)).unwrap(), b"synced");
    });
}

#[test]
fn a_sync_covers_what_was_written_before_it_began() {
    simulate(|world| async move {
        let node = world.node(1, "n", ADDR);
        let file = file(&node, b"aaaa").await;
        file.write_at(0, Bytes::from_static(b"bbbb")).await.unwrap();
        node.disk().stall(Duration::from_millis(100));
        let syncing = file.clone();
        let sync = task::spawn(async move { syncing.sync().await });
        wait_ms(&world, 10).await;
        file.write_at(0, Bytes::from_static(b"cccc")).await.unwrap();
        assert_eq!(node.disk().durable_copy().contents(Path::new(LOG)).unwrap(), b"aaaa", "it is not done");
        sync.await.unwrap().unwrap();
        assert_eq!(node.disk().durable_copy().contents(Path::new(LOG)).unwrap(), b"bbbb");
        file.sync().await.unwrap();
        assert_eq!(node.disk().durable_copy().contents(Path::new(LOG)).unwrap(), b"cccc");
    });
}

#[test]
fn a_failed_sync_is_followed_by_one_that_lies() {
    simulate(|world| async move {
        let node = world.node(1, "n", ADDR);
        let file = file(&node, b"old!").await;
        file.write_at(0, Bytes::from_static(b"new!")).await.unwrap();
        node.disk().fail_next_sync();
        assert!(file.sync().await.is_err());
        file.sync().await.unwrap();
        assert_eq!(file.read_at(0, 4).await.unwrap(), "new!", "readers see the cache");
        assert_eq!(node.disk().durable_copy().contents(Path::new(LOG)).unwrap(), b"old!");
        node.kill();
        node.disk().crash_with(&mut Rng::new(1), CrashMode::KeepAll);
        assert_eq!(node.disk().contents(Path::new(LOG)).unwrap(), b"old!");
    });
}

#[test]
fn names_are_durable_with_their_directory_only() {
    simulate(|world| async move {
        let node = world.node(1, "n", ADDR);
        file(&node, b"first").await;
        let disk = node.env().disk;
        let (dir, old, new) = (Path::new("/data"), Path::new(LOG), Path::new("/data/log.new"));
        // The classic replacement by rename, without a sync of the directory at the end.
        let next = disk.create(new).await.unwrap();
        next.write_at(0, Bytes::from_static(b"second")).await.unwrap();
        next.sync().await.unwrap();
        disk.rename(new, old).await.unwrap();
        assert_eq!(node.disk().contents(old).unwrap(), b"second");
        assert_eq!(disk.list(dir).await.unwrap(), ["log"]);
        assert_eq!(node.disk().durable_copy().contents(old).unwrap(), b"first");
        node.kill();
        node.disk().crash_with(&mut Rng::new(1), CrashMode::LoseAll);
        assert_eq!(node.disk().contents(old).unwrap(), b"first");

        // The same with a sync of the directory.
        let disk = node.env().disk;
        let next = disk.create(new).await.unwrap();
        next.write_at(0, Bytes::from_static(b"third")).await.unwrap();
        next.sync().await.unwrap();
        disk.rename(new, old).await.unwrap();
        disk.sync_dir(dir).await.unwrap();
        node.kill();
        node.disk().crash_with(&mut Rng::new(1), CrashMode::LoseAll);
        assert_eq!(node.disk().files(), [(old.to_owned(), 5)]);
        assert_eq!(node.disk().contents(old).unwrap(), b"third");

        // A removal without a sync of the directory may be undone.
        let disk = node.env().disk;
        disk.remove(old).await.unwrap();
        assert!(disk.open(old).await.is_err());
        node.kill();
        node.disk().crash_with(&mut Rng::new(1), CrashMode::LoseAll);
        assert_eq!(node.disk().contents(old).unwrap(), b"third");
    });
}

#[test]
fn a_cut_comes_back_unless_it_was_synced() {
    simulate(|world| async move {
        let node = world.node(1, "n", ADDR);
        let file = file(&node, &[7; 5_000]).await;
        file.set_len(10).await.unwrap();
        assert_eq!(file.len().await.unwrap(), 10);
        file.set_len(6_000).await.unwrap();
        assert_eq!(file.read_at(5, 10).await.unwrap()[..], [7, 7, 7, 7, 7, 0, 0, 0, 0, 0]);
        assert_eq!(node.disk().durable_copy().contents(Path::new(LOG)).unwrap(), [7; 5_000]);
        file.sync().await.unwrap();
        let durable = node.disk().durable_copy().contents(Path::new(LOG)).unwrap();
        assert!(durable.len() == 6_000 && durable[..10] == [7; 10] && durable[10..].iter().all(|b| *b == 0));
    });
}

#[test]
fn media_fail_and_disks_fill() {
    simulate(|world| async move {
        let node = world.node(1, "n", ADDR);
        let file = file(&node, &[0; 2_048]).await;
        assert!(node.disk().break_sector(Path::new(LOG), 600));
        assert_eq!(file.read_at(0, 512).await.unwrap().len(), 512);
        assert_eq!(file.read_at(500, 20).await.unwrap_err().raw_os_error(), Some(libc::EIO));
        file.write_at(512, Bytes::from(vec![1; 512])).await.unwrap();
        assert_eq!(file.read_at(500, 20).await.unwrap().len(), 20, "a rewritten sector can be read again");
        assert!(node.disk().flip_bit(Path::new(LOG), 3, 2));
        assert_eq!(file.read_at(3, 1).await.unwrap()[..], [4]);
        node.disk().set_full(true);
        let error = file.write_at(2_040, Bytes::from(vec![1; 20])).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
        file.write_at(0, Bytes::from(vec![1; 20])).await.unwrap();
        node.disk().set_full(false);
        file.write_at(2_040, Bytes::from(vec![1; 20])).await.unwrap();
    });
}

#[test]
fn clocks_drift_and_step_but_never_run_backwards() {
    simulate(|world| async move {
        let node = world.node(1, "n", ADDR);
        let clock = node.env().clock;
        assert!(clock.now().0 > 0);
        let (local, wall, started) = (clock.now(), clock.wall_ms(), world.now_ns());
        node.clock().set_drift_ppm(100_000);
        wait_ms(&world, 10_000).await;
        let passed_ms = clock.now().since(local).as_millis() as u64;
        let true_ms = (world.now_ns() - started) / 1_000_000;
        assert_eq!(passed_ms, true_ms + true_ms / 10);
        assert_eq!((clock.wall_ms() - wall) / 10, passed_ms / 10);

        let before = clock.now();
        node.clock().set_drift_ppm(-500_000);
        node.clock().step_ms(-3_600_000);
        assert!(clock.now() >= before);
        assert!(clock.wall_ms() < wall);

        // Half speed: a sleep of one second takes two.
        let started = world.now_ns();
        clock.sleep(Duration::from_secs(1)).await;
        assert_eq!((world.now_ns() - started) / 10_000_000, 200);
        assert!(clock.timeout(Duration::from_millis(10), std::future::pending::<()>()).await.is_err());
        assert_eq!(clock.timeout(Duration::from_millis(10), async { 5 }).await, Ok(5));
    });
}

#[test]
fn a_killed_node_runs_no_line_more() {
    simulate(|world| async move {
        let node = world.node(1, "n", ADDR);
        let count = Arc::new(Mutex::new(0));
        let (env, counting) = (node.env(), count.clone());
        let run = node.spawn(async move {
            loop {
                env.clock.sleep(Duration::from_millis(10)).await;
                *counting.lock().unwrap() += 1;
            }
        });
        wait_ms(&world, 105).await;
        node.pause();
        let ran = *count.lock().unwrap();
        assert!((8..=10).contains(&ran), "{ran}");
        wait_ms(&world, 1_000).await;
        node.kill();
        wait_ms(&world, 1_000).await;
        assert_eq!(*count.lock().unwrap(), ran);
        assert!(run.is_finished());
        assert_eq!(Arc::strong_count(&count), 1, "its futures were dropped");
        let next = node.spawn(async { 5 });
        assert_eq!(next.await, Some(5), "a new incarnation begins at once");
    });
}

#[test]
fn blocking_work_takes_time_and_a_slow_node_more() {
    simulate(|world| async move {
        let node = world.node(1, "n", ADDR);
        let mut spent = Vec::new();
        for factor in [1.0, 50.0] {
            node.set_cpu_factor(factor);
            let began = world.now_ns();
            node.spawn(async {
                for n in 0..100 {
                    assert_eq!(cpu::run(move || n + 1).await, n + 1);
                }
            })
            .await
            .unwrap();
            spent.push(world.now_ns() - began);
        }
        assert!(spent[1] > 10 * spent[0], "{spent:?}");
    });
}

#[test]
fn ended_tasks_and_timers_leave_nothing_behind() {
    simulate(|world| async move {
        let pair = Pair::new(&world).await;
        let mut stub = pair.stub();
        for _ in 0..2_000 {
            stub.check(ask("")).await.unwrap();
        }
        let before = world.inner.context.queue.pending();
        assert!(before < 20, "{before} events are still queued");
    });
}
