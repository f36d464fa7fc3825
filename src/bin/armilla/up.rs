//! `armilla up`: runs a cluster in one process.

use std::fmt::Display;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use armilla::client::{PdClient, RawClient, RawOptions, Space, TxnClient};
use armilla::node::config::LogConfig;
use armilla::node::{Config, Node, NodeEnv};
use armilla::rt::Env;
use armilla::rt::rng::Rng;
use armilla::types::Api;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::logging;
use crate::process::{self, Signals};
use crate::start;

/// How long a cluster may take until it is ready to serve.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The file in which `up` stores the shape of the cluster in a data directory.
const REMEMBERED: &str = "up.toml";

/// Defaults for a new data directory.
const NODES: u16 = 3;
const HOST: &str = "127.0.0.1";
const BASE_PORT: u16 = 2379;

/// Returns a flag's help, with the value that applies without the flag.
fn help(text: &str, default: impl Display) -> String {
    format!("{text} [default: {default}, or the value stored in the data directory]")
}

/// Every flag has a default.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u16).range(1..=9),
        help = help("Number of nodes, at most 9", NODES)
    )]
    nodes: Option<u16>,
    /// Data directory; node i uses DIR/ni.
    #[arg(long, value_name = "DIR", default_value = "armilla-data")]
    data: PathBuf,
    #[arg(
        long,
        value_name = "PORT",
        help = help("Port of node 1; the other nodes use the ports that follow", BASE_PORT)
    )]
    base_port: Option<u16>,
    #[arg(
        long,
        value_name = "HOST",
        help = help("Address of this machine on which the nodes listen and are reached", HOST)
    )]
    host: Option<String>,
    /// Number of regions of a new cluster.
    #[arg(long, value_name = "N", default_value_t = Config::default().initial_regions)]
    initial_regions: usize,
    /// API version of a new cluster: 1, or 2 for one whose keys belong to keyspaces [default: 1, or the cluster's]
    #[arg(long, value_name = "N")]
    api_version: Option<u32>,
    /// Log level: off, error, warn, info, debug, trace, or directives.
    #[arg(long, value_name = "LEVEL", env = "ARMILLA_LOG", default_value = "warn")]
    log_level: String,
}

/// The shape of the cluster that a data directory holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Remembered {
    nodes: u16,
    host: String,
    base_port: u16,
}

/// Returns the shape of the cluster: the stored one, changed by the flags where that is possible.
fn shape(args: &Args, old: Option<&Remembered>) -> Result<Remembered, Failure> {
    let Some(old) = old else {
        return Ok(Remembered {
            nodes: args.nodes.unwrap_or(NODES),
            host: args.host.clone().unwrap_or_else(|| HOST.into()),
            base_port: args.base_port.unwrap_or(BASE_PORT),
        });
    };
    let data = args.data.display();
    let nodes = args.nodes.unwrap_or(old.nodes);
    if nodes < old.nodes {
        return Err(Failure::usage(format!("{data} holds a cluster of {} nodes, not of {nodes}", old.nodes))
            .hint(format!("start it with --nodes {} or more, or use another --data", old.nodes)));
    }
    let port = args.base_port.unwrap_or(old.base_port);
    let host = args.host.as_ref().unwrap_or(&old.host);
    if port != old.base_port || *host != old.host {
        return Err(Failure::usage(format!(
            "the nodes in {data} use the addresses from {}:{} on, not from {host}:{port} on",
            old.host, old.base_port
        ))
        .hint(format!("start it with --host {} --base-port {}, or use another --data", old.host, old.base_port)));
    }
    Ok(Remembered { nodes, ..old.clone() })
}

fn load(data: &Path) -> Result<Option<Remembered>, Failure> {
    let path = data.join(REMEMBERED);
    match std::fs::read_to_string(&path) {
        Ok(text) => match toml::from_str(&text) {
            Ok(remembered) => Ok(Some(remembered)),
            Err(error) => Err(Failure::new(format!("{}: {error}", path.display()))),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::new(format!("{}: {error}", path.display()))),
    }
}

/// Stores the shape atomically: a directory with a partly written file could not be used any more.
fn save(data: &Path, remembered: &Remembered) -> Result<(), Failure> {
    let text = toml::to_string(remembered).expect("plain fields");
    let failed = |error: std::io::Error| {
        Failure::new(format!("data directory {}: {error}", data.display()))
            .hint("choose another directory (--data), or give this user write permission")
    };
    std::fs::create_dir_all(data).map_err(failed)?;
    let new = data.join(format!("{REMEMBERED}.new"));
    let write = || {
        let mut file = std::fs::File::create(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&new, data.join(REMEMBERED))?;
        std::fs::File::open(data)?.sync_all()
    };
    write().map_err(failed)
}

fn configurations(args: &Args, shape: &Remembered) -> Vec<Config> {
    let addr = |node: u16| format!("{}:{}", shape.host, shape.base_port + node - 1);
    let members: Vec<(String, String)> = (1..=shape.nodes).map(|node| (format!("n{node}"), addr(node))).collect();
    members
        .iter()
        .map(|(name, addr)| Config {
            name: name.clone(),
            data_dir: args.data.join(name),
            addr: addr.clone(),
            initial_cluster: members.clone(),
            initial_regions: args.initial_regions,
            api_version: args.api_version,
            // Several nodes share one disk, and only for a short time.
            disk_reserve_mib: Some(0),
            log: LogConfig { level: args.log_level.clone(), ..LogConfig::default() },
            ..Config::default()
        })
        .collect()
}

/// Runs the cluster until a signal stops it.
pub fn run(args: Args) -> Result<(), Failure> {
    let old = load(&args.data)?;
    let shape = shape(&args, old.as_ref())?;
    if u32::from(shape.base_port) + u32::from(shape.nodes) > 65536 || shape.base_port == 0 {
        return Err(Failure::usage(format!(
            "--base-port {}: needs {} valid ports from there on",
            shape.base_port, shape.nodes
        )));
    }
    if ["0.0.0.0", "[::]"].contains(&&*shape.host) {
        return Err(Failure::usage(format!(
            "--host {}: the nodes cannot reach each other at this address",
            shape.host
        ))
        .hint(
            "give an address of this machine; to listen on all addresses, use `armilla start` with --advertise-addr",
        ));
    }
    let configs = configurations(&args, &shape);
    for config in &configs {
        config.validate().map_err(Failure::usage)?;
        // Find out before anything is written whether a port is in use. Each node binds its own port later.
        if let Err(error) = std::net::TcpListener::bind(&config.addr) {
            let error = armilla::types::Error::Io(format!("cannot listen on {}: {error}", config.addr));
            return Err(Failure::of_node(&config.name, &error));
        }
    }
    logging::init(&configs[0].log)?;
    let open_files = process::descriptors(configs.len() as u64);
    if old.as_ref() != Some(&shape) {
        save(&args.data, &shape)?;
    }
    process::node_runtime()?.block_on(serve(configs, old.is_none(), open_files))
}

async fn serve(configs: Vec<Config>, new: bool, open_files: u32) -> Result<(), Failure> {
    let began = Instant::now();
    let mut signals = Signals::new()?;
    let data = configs[0].data_dir.parent().unwrap_or(Path::new(".")).to_owned();
    let what = if new { "a new cluster" } else { "the cluster" };
    process::say(&format!(
        "armilla {}: {what} of {} node(s), data in {}",
        env!("CARGO_PKG_VERSION"),
        configs.len(),
        data.display()
    ));
    let starting = configs.iter().cloned().map(|config| {
        let env = NodeEnv { rt: Env::real(), engine: process::engine_storage(&config, open_files) };
        async move {
            let name = config.name.clone();
            Node::start(env, config).await.map_err(|error| Failure::of_node(&name, &error))
        }
    });
    let nodes: Vec<Node> = armilla::rt_select! {
        nodes = futures::future::try_join_all(starting) => nodes?,
        () = signals.next() => return Err(Failure::silent(130)),
    };
    let endpoints: Vec<String> = nodes.iter().map(|node| node.addr().to_owned()).collect();
    armilla::rt_select! {
        ready = ready(endpoints.clone(), nodes[0].api()) => {
            if let Err(failure) = ready {
                futures::future::join_all(nodes.into_iter().map(Node::stop)).await;
                return Err(failure);
            }
        }
        () = signals.next() => return start::stop(nodes, &mut signals).await,
    }
    print_welcome(&nodes, began.elapsed());
    let poisoned = watch(&nodes, &mut signals).await;
    process::say("\nshutting down (press Ctrl-C again to stop at once)");
    start::stop(nodes, &mut signals).await?;
    process::say(&format!("stopped; the data is in {}", data.display()));
    match poisoned {
        None => Ok(()),
        Some(why) => Err(Failure::new(why)),
    }
}

/// Waits for a signal, or until all nodes have stopped serving.
async fn watch(nodes: &[Node], signals: &mut Signals) -> Option<String> {
    let mut told = vec![false; nodes.len()];
    loop {
        armilla::rt_select! {
            () = signals.next() => return None,
            () = tokio::time::sleep(Duration::from_millis(500)) => {
                for (node, told) in nodes.iter().zip(&mut told) {
                    if let Some(why) = node.poisoned().filter(|_| !*told) {
                        eprintln!("armilla: the node at {} stopped serving: {why}", node.addr());
                        *told = true;
                    }
                }
                if told.iter().all(|told| *told) {
                    return Some("all nodes have stopped serving".into());
                }
            }
        }
    }
}

/// Waits until every region can be read.
async fn ready(endpoints: Vec<String>, api: Api) -> Result<(), Failure> {
    let env = Env::real();
    let pd = PdClient::new(env.net.clone(), env.clock.clone(), endpoints);
    let options = RawOptions { deadline: Duration::from_secs(2), ..RawOptions::default() };
    let raw = RawClient::new(pd.clone(), env.net, env.clock, Rng::new(env.seed), options).in_space(Space::whole(api));
    let locks = TxnClient::new(raw.clone());
    let began = Instant::now();
    let mut why = "it did not respond".to_owned();
    while began.elapsed() < TIMEOUT {
        match pd.scan_regions(&[], &[], i32::from(u16::MAX)).await {
            Err(error) => why = error.to_string(),
            Ok(regions) if regions.is_empty() => why = "it has no regions yet".into(),
            Ok(regions) => {
                let read = async |key: Bytes| match api {
                    Api::V1 => raw.get(key).await.map(drop),
                    // A boundary need not be a key, but every region can tell its locks.
                    Api::V2 => locks.locks_from(&key).await.map(drop),
                };
                let reads = regions.iter().map(|info| read(info.region.start_key.clone()));
                let failed = futures::future::join_all(reads).await.into_iter().find_map(Result::err);
                match failed {
                    None => return Ok(()),
                    Some(error) => why = error.to_string(),
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(Failure::new(format!("the cluster is not ready to serve after {TIMEOUT:?}: {why}"))
        .hint("start it with --log-level info to see the nodes' logs"))
}

fn print_welcome(nodes: &[Node], took: Duration) {
    let first = nodes[0].addr();
    let all: Vec<String> = nodes.iter().map(|node| format!("\"{}\"", node.addr())).collect();
    let mut out = std::io::stdout().lock();
    let text = format!(
        "ready after {:.1} s, cluster {}\n\n\
         {}\n\
         \x20 status page   http://{first}/\n\
         \x20 status        http://{first}/status\n\
         \x20 metrics       http://{first}/metrics\n\n\
         Python (pip install tikv-client):\n\n\
         \x20   from tikv_client import RawClient\n\
         \x20   client = RawClient.connect([\"{first}\"])\n\
         \x20   client.put(b\"sun\", b\"star\")\n\
         \x20   print(client.get(b\"sun\"))\n\n\
         Rust (cargo add tikv-client):\n\n\
         \x20   let client = tikv_client::RawClient::new(vec![{}]).await?;\n\
         \x20   client.put(\"sun\".to_owned(), \"star\".to_owned()).await?;\n\n\
         Here: armilla ctl --pd {first} put sun star && armilla ctl --pd {first} get sun\n\n\
         Ctrl-C stops the cluster.\n",
        took.as_secs_f64(),
        nodes[0].cluster_id(),
        nodes
            .iter()
            .enumerate()
            .map(|(i, node)| format!("  node n{} (store {})  {}\n", i + 1, node.store_id(), node.addr()))
            .collect::<String>(),
        all.join(", "),
    );
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(nodes: Option<u16>, base_port: Option<u16>) -> Args {
        Args {
            nodes,
            data: "d".into(),
            base_port,
            host: None,
            initial_regions: 1,
            api_version: None,
            log_level: "warn".into(),
        }
    }

    #[test]
    fn a_new_directory_gets_what_was_asked() {
        let shape = shape(&args(None, Some(5000)), None).unwrap();
        assert_eq!((shape.nodes, shape.base_port), (3, 5000));
        let configs = configurations(&args(None, None), &shape);
        assert_eq!(configs[2].addr, "127.0.0.1:5002");
        assert_eq!(configs[2].data_dir, Path::new("d/n3"));
        configs.iter().for_each(|config| config.validate().unwrap());
    }

    #[test]
    fn an_old_directory_keeps_its_shape() {
        let old = Remembered { nodes: 3, host: "127.0.0.1".into(), base_port: 5000 };
        assert_eq!(shape(&args(None, None), Some(&old)).unwrap(), old);
        assert_eq!(shape(&args(Some(5), None), Some(&old)).unwrap().nodes, 5, "more nodes join");
        assert!(shape(&args(Some(1), None), Some(&old)).is_err(), "fewer have no quorum");
        assert!(shape(&args(None, Some(6000)), Some(&old)).is_err(), "the nodes use the old ports");
        let elsewhere = Remembered { host: "localhost".into(), ..old };
        assert_eq!(shape(&args(None, None), Some(&elsewhere)).unwrap(), elsewhere, "the host is stored as well");
        let other = Args { host: Some("127.0.0.1".into()), ..args(None, None) };
        assert!(shape(&other, Some(&elsewhere)).is_err());
    }

    #[test]
    fn what_is_remembered_is_written_whole() {
        let dir = tempfile::tempdir().unwrap();
        let shape = Remembered { nodes: 3, host: "localhost".into(), base_port: 5000 };
        assert_eq!(load(dir.path()).unwrap(), None);
        save(dir.path(), &shape).unwrap();
        assert_eq!(load(dir.path()).unwrap(), Some(shape.clone()));
        // A process that died while writing left a part of the next file behind.
        std::fs::write(dir.path().join("up.toml.new"), "nod").unwrap();
        assert_eq!(load(dir.path()).unwrap(), Some(shape.clone()));
        let wider = Remembered { nodes: 5, ..shape };
        save(dir.path(), &wider).unwrap();
        assert_eq!(load(dir.path()).unwrap(), Some(wider));
    }
}
