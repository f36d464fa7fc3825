//! Tests of node addresses and cluster membership beyond what the swarm varies: addresses that change, new disks, and
//! configurations that contradict each other.
//!
//! **Goal**: a quorum that is up finds its members at whatever addresses they have; nodes that cannot form one cluster
//! report it and do no harm. **Method**: the real `Node::start` on simulated machines, which are killed and started
//! again with other configurations.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use armilla::client::{PdClient, RawClient, RawOptions};
use armilla::engine::SimStorage;
use armilla::node::{Config, Node, NodeEnv};
use armilla::replica::Handle;
use armilla::rt::rng::Rng;
use armilla::rt::sim::{NodeHandle, World};

const SECOND: u64 = 1_000_000_000;
/// Directory of a machine's raft log.
const LOG: &str = "/data/raft";

/// State of a node's last start.
#[derive(Clone)]
enum Start {
    Pending,
    Runs { cluster: u64, replicas: Handle },
    Refused(String),
}

/// A machine, and the configuration of its next start.
struct Machine {
    handle: NodeHandle,
    home: SimStorage,
    config: Config,
    last: Arc<Mutex<Start>>,
}

impl Machine {
    fn start(&self) {
        *self.last.lock().unwrap() = Start::Pending;
        let (env, config, last) = (self.handle.env(), self.config.clone(), self.last.clone());
        let engine = self.home.clone();
        self.handle.spawn(async move {
            match Node::start(NodeEnv { rt: env, engine }, config).await {
                Ok(node) => {
                    let (cluster, replicas) = (node.cluster_id(), node.handle().clone());
                    *last.lock().unwrap() = Start::Runs { cluster, replicas };
                    std::future::pending::<()>().await;
                    drop(node);
                }
                Err(error) => *last.lock().unwrap() = Start::Refused(error.to_string()),
            }
        });
    }

    /// Kills the process. Everything written to the engine and the disk is kept.
    fn kill(&self) {
        self.handle.kill();
        self.home.crash(&mut |bound| bound - 1);
    }

    fn wipe(&self) {
        self.handle.disk().wipe();
        self.home.wipe();
    }

    /// Returns the raft log's files, by name.
    async fn log_files(&self) -> Vec<(String, Vec<u8>)> {
        let disk = self.handle.disk();
        let names = disk.disk().list(LOG.as_ref()).await.unwrap();
        let content = |name: &String| disk.contents(&Path::new(LOG).join(name)).unwrap();
        names.iter().map(|name| (name.clone(), content(name))).collect()
    }

    /// Replaces the raft log's files with these.
    async fn replace_log(&self, files: &[(String, Vec<u8>)]) {
        let disk = self.handle.disk().disk();
        for name in disk.list(LOG.as_ref()).await.unwrap() {
            disk.remove(&Path::new(LOG).join(name)).await.unwrap();
        }
        for (name, content) in files {
            let file = disk.create(&Path::new(LOG).join(name)).await.unwrap();
            file.write_at(0, content.clone().into()).await.unwrap();
        }
    }

    fn refusal(&self) -> Option<String> {
        match &*self.last.lock().unwrap() {
            Start::Refused(why) => Some(why.clone()),
            _ => None,
        }
    }

    fn cluster(&self) -> Option<u64> {
        match &*self.last.lock().unwrap() {
            Start::Runs { cluster, .. } => Some(*cluster),
            _ => None,
        }
    }

    fn poisoned(&self) -> Option<String> {
        match &*self.last.lock().unwrap() {
            Start::Runs { replicas, .. } => replicas.poisoned(),
            _ => None,
        }
    }

    /// Listens on another port from the next start on. Only the node's own configuration contains the new address.
    fn move_to(&mut self, port: u16) {
        let addr = format!("{}:{port}", self.handle.name());
        self.config.addr.clone_from(&addr);
        for (_, member) in self.config.initial_cluster.iter_mut().filter(|(name, _)| *name == self.config.name) {
            member.clone_from(&addr);
        }
    }
}

struct TestCluster {
    world: World,
    client: NodeHandle,
}

impl TestCluster {
    fn new(seed: u64) -> TestCluster {
        let world = World::new(seed);
        let client = world.node(99, "c", "c:1");
        TestCluster { world, client }
    }

    /// Creates `count` machines with one list of members: `a1:1`, `a2:1`, … for the letter `a`.
    fn machines(&self, letter: char, first_id: u64, count: u64) -> Vec<Machine> {
        let name = |n: u64| format!("{letter}{n}");
        let list: Vec<(String, String)> = (1..=count).map(|n| (name(n), format!("{}:1", name(n)))).collect();
        (1..=count)
            .map(|n| {
                let addr = format!("{}:1", name(n));
                let mut config = Config {
                    name: name(n),
                    data_dir: PathBuf::from("/data"),
                    addr: addr.clone(),
                    initial_cluster: list.clone(),
                    ..Config::default()
                };
                config.raft.log_segment_kib = 256;
                config.raft.flush_interval_ms = 500;
                Machine {
                    handle: self.world.node(first_id + n, &name(n), &addr),
                    home: SimStorage::new(),
                    config,
                    last: Arc::new(Mutex::new(Start::Pending)),
                }
            })
            .collect()
    }

    async fn seconds(&self, seconds: u64) {
        self.world.sleep_ns(seconds * SECOND).await;
    }

    fn pd(&self, machines: &[&Machine]) -> PdClient {
        let env = self.client.env();
        let endpoints = machines.iter().map(|machine| machine.config.addr.clone()).collect();
        PdClient::new(env.net.clone(), env.clock.clone(), endpoints).with_deadline(Duration::from_secs(2))
    }

    /// Returns whether a put through these addresses alone succeeds within a minute.
    async fn serves(&self, machines: &[&Machine]) -> Result<(), String> {
        let env = self.client.env();
        let options = RawOptions { deadline: Duration::from_secs(5), ..RawOptions::default() };
        let client = RawClient::new(self.pd(machines), env.net.clone(), env.clock.clone(), Rng::new(1), options);
        let mut why = String::new();
        for _ in 0..12 {
            match client.put("k".into(), "v".into(), 0).await {
                Ok(()) => return Ok(()),
                Err(error) => why = error.to_string(),
            }
        }
        Err(why)
    }

    async fn found(&self, machines: &[Machine]) {
        machines.iter().for_each(Machine::start);
        self.serves(&machines.iter().collect::<Vec<_>>()).await.expect("a new cluster serves");
    }

    /// Waits until every start has succeeded or failed.
    async fn settle(&self, machines: &[&Machine]) {
        for _ in 0..60 {
            if machines.iter().all(|machine| !matches!(*machine.last.lock().unwrap(), Start::Pending)) {
                return;
            }
            self.seconds(1).await;
        }
    }
}

fn run<F: Future<Output = ()>>(scene: impl FnOnce(TestCluster) -> F) {
    let runtime = madsim::runtime::Runtime::with_seed_and_config(7, madsim::Config::default());
    runtime.block_on(async move { scene(TestCluster::new(7)).await });
}

#[test]
fn a_quorum_finds_itself_after_one_of_it_has_moved() {
    run(|cluster| async move {
        let mut nodes = cluster.machines('n', 0, 3);
        cluster.found(&nodes).await;
        nodes[1].kill();
        nodes[1].move_to(2);
        nodes[1].start();
        cluster.seconds(10).await;
        let stores = cluster.pd(&[&nodes[0], &nodes[2]]).get_all_stores().await.expect("PD leads");
        assert_eq!(stores[1].address, "n2:2", "PD learned the new address");
        // Its list is the old one, and only the node that moved is up to correct it.
        nodes[2].kill();
        nodes[0].kill();
        nodes[0].start();
        cluster.serves(&[&nodes[0], &nodes[1]]).await.expect("two of three are up");
    });
}

#[test]
fn a_cluster_comes_back_after_two_have_moved() {
    run(|cluster| async move {
        let mut nodes = cluster.machines('n', 0, 3);
        cluster.found(&nodes).await;
        for moved in 0..2 {
            nodes[moved].kill();
            nodes[moved].move_to(2);
            nodes[moved].start();
            cluster.seconds(15).await;
        }
        nodes.iter().for_each(Machine::kill);
        nodes.iter().for_each(Machine::start);
        cluster.serves(&nodes.iter().collect::<Vec<_>>()).await.expect("all are up");
    });
}

#[test]
fn a_cluster_moves_at_once_when_the_lists_say_so() {
    run(|cluster| async move {
        let mut nodes = cluster.machines('n', 0, 3);
        cluster.found(&nodes).await;
        nodes.iter().for_each(Machine::kill);
        for node in &mut nodes {
            node.move_to(2);
            node.config.initial_cluster = (1..=3).map(|n| (format!("n{n}"), format!("n{n}:2"))).collect();
        }
        nodes.iter().for_each(Machine::start);
        cluster.serves(&nodes.iter().collect::<Vec<_>>()).await.expect("all are up");
        let mut known = Vec::new();
        for _ in 0..10 {
            known = cluster.pd(&[&nodes[0]]).get_all_stores().await.expect("PD leads");
            if known.iter().all(|store| store.address.ends_with(":2")) {
                return;
            }
            cluster.seconds(1).await;
        }
        panic!("PD should know all new addresses: {known:?}");
    });
}

#[test]
fn founders_with_new_disks_do_not_call_each_other_without_end() {
    run(|cluster| async move {
        let mut nodes = cluster.machines('n', 0, 5);
        for node in &mut nodes {
            node.config.pd_members = 5;
            // The placement driver's members do not move yet: those that are lost stay lost.
            node.config.pd.protocol_max = 6;
        }
        cluster.found(&nodes).await;
        for node in &nodes[..2] {
            node.kill();
            node.wipe();
            node.start();
            cluster.settle(&[node]).await;
            assert_eq!(node.cluster(), nodes[4].cluster(), "it joined as a new store");
        }
        // Three of the placement driver's five members are left; with this one gone there are two, and no leader.
        nodes[4].kill();
        cluster.seconds(10).await;
        let before = cluster.world.net().delivered();
        let asked = cluster.pd(&[&nodes[0], &nodes[1]]);
        let error = asked.members().await.expect_err("there is no leader").to_string();
        assert!(error.contains("not served"), "{error}");
        cluster.seconds(10).await;
        let packets = cluster.world.net().delivered() - before;
        // Five nodes look for a leader twice a second, and raft sends pre-votes.
        assert!(packets < 20_000, "{packets} packets in twelve seconds");
        for node in &nodes[..2] {
            assert_eq!((node.refusal(), node.poisoned()), (None, None), "they wait");
        }
    });
}

/// Goal: a store that lost a part of the data behind its promises does not serve. Method: each part is lost in turn, on
/// a store with a member of the placement driver and on one without. The other stores keep serving, and so does this
/// store once its data is restored.
#[test]
fn a_store_that_lost_a_part_of_its_data_does_not_start() {
    run(|cluster| async move {
        let mut nodes = cluster.machines('n', 0, 5);
        nodes.iter_mut().for_each(|node| node.config.pd_members = 3);
        cluster.found(&nodes).await;
        let with_region = cluster.pd(&[&nodes[0]]).get_region(b"k").await.expect("PD leads").expect("one").region.peers;
        let holds = |at: usize| with_region.iter().any(|peer| peer.store_id == at as u64 + 1);
        // One store with a member of the placement driver, and one without that holds the region, if there is one.
        let stores: Vec<usize> = [1].into_iter().chain((3..5).find(|at| holds(*at))).collect();
        for at in stores {
            let node = &nodes[at];
            let others: Vec<&Machine> = nodes.iter().filter(|other| other.config.name != node.config.name).collect();
            node.kill();
            let older = node.log_files().await;
            node.start();
            cluster.seconds(5).await;
            cluster.serves(&others).await.expect("all are up");
            cluster.seconds(5).await;
            node.kill();
            let newest = node.log_files().await;
            for (lost, says) in [
                ("the log", "the raft log in /data/raft does not"),
                ("the log's end", "an older copy was put in its place"),
                ("nothing", ""),
            ] {
                match lost {
                    "the log" => node.replace_log(&[]).await,
                    "the log's end" => node.replace_log(&older).await,
                    _ => node.replace_log(&newest).await,
                }
                node.start();
                cluster.settle(&[node]).await;
                assert_eq!(node.refusal().is_some(), !says.is_empty(), "{at} lost {lost}: {:?}", node.refusal());
                assert!(node.refusal().unwrap_or_default().contains(says), "{at} lost {lost}: {:?}", node.refusal());
                cluster.serves(&others).await.expect("a quorum is up");
                node.kill();
            }
            node.home.wipe();
            node.start();
            cluster.settle(&[node]).await;
            let refusal = node.refusal().expect("a store without its engine refuses to start");
            assert!(refusal.contains("the engine's data was lost"), "{at}: {refusal}");
            node.kill();
            node.replace_log(&[]).await;
            node.start();
            cluster.settle(&[node]).await;
            let refusal = node.refusal().expect("a store without engine and log refuses to start");
            let says = if at < 3 {
                "carries a member of the placement driver"
            } else {
                "was given 1 regions, of which it holds 0"
            };
            assert!(refusal.contains(says), "{at}: {refusal}");
            // The refused starts created no files that a later start would trip over.
            assert!(node.log_files().await.len() <= 1);
            node.kill();
            node.wipe();
            node.start();
            cluster.seconds(5).await;
            assert_eq!(node.refusal(), None, "an empty disk is a new store");
            cluster.serves(&others).await.expect("a quorum is up");
        }
    });
}

#[test]
fn founders_that_do_not_agree_found_nothing() {
    run(|cluster| async move {
        let mut nodes = cluster.machines('n', 0, 3);
        nodes[1].config.pd_members = 1;
        nodes.iter().for_each(Machine::start);
        cluster.seconds(5).await;
        let said = nodes[1].refusal().expect("no other node has this number of members");
        assert!(said.contains("pd_members") && said.contains("is 1 ") && said.contains("but 3 "), "{said}");
        assert!(nodes.iter().all(|node| node.cluster().is_none()));
        // With the mistake corrected, all of them form one cluster.
        nodes[1].config.pd_members = 3;
        nodes.iter().for_each(Machine::kill);
        cluster.found(&nodes).await;

        // In one list two addresses are swapped.
        let mut nodes = cluster.machines('m', 10, 3);
        nodes[2].config.initial_cluster[0].1 = "m2:1".into();
        nodes[2].config.initial_cluster[1].1 = "m1:1".into();
        // Only two of the three are started: if the others founded a cluster before this one asks, their certificate
        // would decide and its list would not matter.
        nodes[1..].iter().for_each(Machine::start);
        cluster.seconds(5).await;
        let said = nodes[2].refusal().expect("its list is wrong");
        assert!(said.contains("`m1` is at m2:1") && said.contains("called `m2`"), "{said}");
    });
}

#[test]
fn a_data_directory_of_another_name_is_refused() {
    run(|cluster| async move {
        let mut nodes = cluster.machines('n', 0, 1);
        cluster.found(&nodes).await;
        nodes[0].kill();
        nodes[0].config.name = "x".into();
        nodes[0].config.initial_cluster[0].0 = "x".into();
        nodes[0].start();
        cluster.seconds(2).await;
        let said = nodes[0].refusal().expect("refused");
        assert!(["/data", "`n1`", "`x`"].iter().all(|word| said.contains(word)), "{said}");
    });
}

#[test]
fn a_node_that_joins_gets_a_place_or_a_reason() {
    run(|cluster| async move {
        let mut nodes = cluster.machines('n', 0, 3);
        cluster.found(&nodes).await;
        // The first node has moved, so no node listens on the address that it had at the founding.
        nodes[0].kill();
        nodes[0].move_to(2);
        nodes[0].start();
        cluster.seconds(10).await;
        let mut joining = cluster.machines('j', 10, 2);
        joining[0].config.initial_cluster.clear();
        joining[0].config.join = Some("n3:1".into());
        joining[0].start();
        cluster.settle(&[&joining[0]]).await;
        assert_eq!(joining[0].cluster(), nodes[0].cluster());
        // It is a member of no quorum, but it remembers the addresses of the other nodes.
        joining[0].kill();
        nodes[1].kill();
        joining[0].start();
        cluster.settle(&[&joining[0]]).await;
        cluster.serves(&[&joining[0]]).await.expect("it knows the two that are up");
    });
}

#[test]
fn another_clusters_directory_is_found_out_when_somebody_answers() {
    run(|cluster| async move {
        let (ours, others) = (cluster.machines('a', 0, 2), cluster.machines('b', 10, 2));
        cluster.found(&ours).await;
        cluster.found(&others).await;
        let ids = [ours[0].cluster().unwrap(), others[0].cluster().unwrap()].map(|id| id.to_string());
        for node in ours.iter().chain(&others) {
            node.kill();
        }
        // The second of the others is configured with our cluster's first node and starts while no other node is up.
        let mut lost = others.into_iter().nth(1).unwrap();
        lost.config.initial_cluster[0] = ("a1".into(), "a1:1".into());
        lost.start();
        cluster.settle(&[&lost]).await;
        assert_eq!(
            lost.cluster().map(|id| id.to_string()),
            Some(ids[1].clone()),
            "alone it has to believe its directory"
        );
        cluster.seconds(20).await;
        assert_eq!(lost.poisoned(), None);
        ours.iter().for_each(Machine::start);
        cluster.serves(&[&ours[0], &ours[1]]).await.expect("our cluster is not disturbed");
        cluster.seconds(10).await;
        let said = lost.poisoned().expect("it has stopped");
        assert!(ids.iter().all(|id| said.contains(id)), "{said}");
        // From now on it refuses to start.
        lost.kill();
        lost.start();
        cluster.settle(&[&lost]).await;
        let said = lost.refusal().expect("refused");
        assert!(ids.iter().all(|id| said.contains(id)), "{said}");
    });
}
