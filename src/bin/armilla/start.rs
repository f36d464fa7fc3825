//! `armilla start`: runs one node.

use std::fmt::Display;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use armilla::node::config::{LogFormat, parse_members};
use armilla::node::{Config, Node, NodeEnv};
use clap::ValueEnum;

use crate::failure::Failure;
use crate::logging;
use crate::process::{self, Signals};

/// The format of logs.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Format {
    /// Lines of text.
    Human,
    /// One JSON object per line.
    Json,
}

impl Format {
    /// Returns the name of a format as the flag spells it.
    fn name(format: LogFormat) -> &'static str {
        match format {
            LogFormat::Human => "human",
            LogFormat::Json => "json",
        }
    }
}

impl From<Format> for LogFormat {
    fn from(format: Format) -> LogFormat {
        match format {
            Format::Human => LogFormat::Human,
            Format::Json => LogFormat::Json,
        }
    }
}

/// Returns the help of the flag for an option, with the value that applies if neither the flag nor the file sets it.
///
/// # Panics
/// Panics if the configuration has no such option.
fn help(key: &str, default: impl Display) -> String {
    let declared = Config::options().find(|declared| declared.key == key);
    let declared = declared.unwrap_or_else(|| panic!("the configuration has no option {key}"));
    format!("{} [default: {default}]", declared.summary())
}

/// The default configuration.
static DEFAULT: LazyLock<Config> = LazyLock::new(Config::default);

/// Flags override the configuration file.
#[derive(clap::Args, Debug, Default)]
pub struct Args {
    /// Configuration file (TOML) [default: none]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[arg(long, help = help("name", &DEFAULT.name))]
    pub name: Option<String>,
    #[arg(long, value_name = "DIR", help = help("data_dir", DEFAULT.data_dir.display()))]
    pub data: Option<PathBuf>,
    #[arg(long, value_name = "HOST:PORT", help = help("addr", &DEFAULT.addr))]
    pub addr: Option<String>,
    #[arg(long, value_name = "HOST:PORT", help = help("advertise_addr", "at --addr"))]
    pub advertise_addr: Option<String>,
    #[arg(
        long,
        value_name = "n1=HOST:PORT,…",
        conflicts_with = "join",
        help = help("initial_cluster", "none")
    )]
    pub initial_cluster: Option<String>,
    #[arg(long, value_name = "HOST:PORT", help = help("join", "none"))]
    pub join: Option<String>,
    #[arg(long, value_name = "N", help = help("replicas", DEFAULT.replicas))]
    pub replicas: Option<usize>,
    #[arg(long, value_name = "N", help = help("initial_regions", DEFAULT.initial_regions))]
    pub initial_regions: Option<usize>,
    #[arg(long, value_name = "KEY,…", value_delimiter = ',', help = help("split_keys", "none"))]
    pub split_keys: Vec<String>,
    #[arg(long, value_name = "N", help = help("api_version", "1 for a new cluster, otherwise the cluster's"))]
    pub api_version: Option<u32>,
    #[arg(long, value_name = "N", help = help("pd_members", DEFAULT.pd_members))]
    pub pd_members: Option<usize>,
    #[arg(
        long,
        value_name = "MIB",
        env = "ARMILLA_DISK_RESERVE_MIB",
        help = help("disk_reserve_mib", "a twentieth of the disk, at most 5120; 0: none")
    )]
    pub disk_reserve_mib: Option<u64>,
    #[arg(long, value_name = "KEY=VALUE,…", value_delimiter = ',', help = help("labels", "none"))]
    pub label: Vec<String>,
    #[arg(long, value_name = "LEVEL", env = "ARMILLA_LOG", help = help("log.level", &DEFAULT.log.level))]
    pub log_level: Option<String>,
    #[arg(long, value_name = "FORMAT", value_enum, help = help("log.format", Format::name(DEFAULT.log.format)))]
    pub log_format: Option<Format>,
    /// Show clients' keys in logs.
    #[arg(long)]
    pub log_keys: bool,
    /// Print the resulting configuration and exit.
    #[arg(long)]
    pub print_config: bool,
}

/// Returns the configuration that the file and the flags result in.
pub fn configuration(args: &Args) -> Result<Config, Failure> {
    let mut config = match &args.config {
        None => Config::default(),
        Some(path) => {
            let source = path.display().to_string();
            let text = std::fs::read_to_string(path)
                .map_err(|error| Failure::usage(format!("{source}: {error}")).hint("--config must name a TOML file"))?;
            Config::from_toml(&text, &source).map_err(Failure::usage)?
        }
    };
    if let Some(name) = &args.name {
        config.name.clone_from(name);
    }
    if let Some(data) = &args.data {
        config.data_dir.clone_from(data);
    }
    if let Some(addr) = &args.addr {
        config.addr.clone_from(addr);
    }
    if args.advertise_addr.is_some() {
        config.advertise_addr.clone_from(&args.advertise_addr);
    }
    if let Some(members) = &args.initial_cluster {
        config.initial_cluster = parse_members(members).map_err(Failure::usage)?;
        config.join = None;
    }
    if let Some(join) = &args.join {
        config.join = Some(join.clone());
        config.initial_cluster.clear();
    }
    config.replicas = args.replicas.unwrap_or(config.replicas);
    config.api_version = args.api_version.or(config.api_version);
    config.pd_members = args.pd_members.unwrap_or(config.pd_members);
    if let Some(regions) = args.initial_regions {
        config.initial_regions = regions;
        config.split_keys.clear();
    }
    if !args.split_keys.is_empty() {
        config.split_keys.clone_from(&args.split_keys);
        config.initial_regions = 1;
    }
    config.disk_reserve_mib = args.disk_reserve_mib.or(config.disk_reserve_mib);
    if !args.label.is_empty() {
        config.labels.clone_from(&args.label);
    }
    if let Some(level) = &args.log_level {
        config.log.level.clone_from(level);
    }
    if let Some(format) = args.log_format {
        config.log.format = format.into();
    }
    config.log.redact_keys &= !args.log_keys;
    config.validate().map_err(Failure::usage)?;
    Ok(config)
}

/// Runs the node until a signal stops it.
pub fn run(args: Args) -> Result<(), Failure> {
    let config = configuration(&args)?;
    if args.print_config {
        process::only_prints();
        print!("{}", config.to_toml());
        return Ok(());
    }
    logging::init(&config.log)?;
    let open_files = process::descriptors(1);
    process::node_runtime()?.block_on(serve(config, open_files))
}

async fn serve(config: Config, open_files: u32) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let name = config.name.clone();
    let env = NodeEnv { rt: armilla::rt::Env::real(), engine: process::engine_storage(&config, open_files) };
    tracing::info!(name, addr = config.addr, data = %config.data_dir.display(), "starting");
    let node = armilla::rt_select! {
        node = Node::start(env, config) => node.map_err(|error| Failure::of_node(&name, &error))?,
        () = signals.next() => {
            eprintln!("armilla: interrupted before the node joined a cluster");
            return Err(Failure::silent(130));
        }
    };
    tracing::info!(
        name,
        addr = node.addr(),
        cluster = node.cluster_id(),
        store = node.store_id(),
        "joined the cluster"
    );
    let poisoned = watch(&node, &mut signals).await;
    tracing::info!(name, "shutting down");
    if poisoned.is_none() {
        armilla::rt_select! {
            () = node.drain() => {}
            () = signals.next() => tracing::warn!(name, "shutting down without handing over leaders"),
        }
    }
    stop(vec![node], &mut signals).await?;
    match poisoned {
        None => Ok(()),
        Some(why) => {
            let failure = Failure::new(format!("node {name} stopped serving: {why}"));
            if ["belongs to cluster", "placement driver refuses"].iter().any(|reason| why.contains(reason)) {
                return Err(failure);
            }
            Err(failure.hint("check the disk (dmesg), then start the node again: the other replicas have the data"))
        }
    }
}

/// Waits for a signal (returns `None`) or until the node has stopped serving (returns the reason).
async fn watch(node: &Node, signals: &mut Signals) -> Option<String> {
    loop {
        armilla::rt_select! {
            () = signals.next() => return None,
            () = tokio::time::sleep(Duration::from_millis(500)) => {
                if let Some(why) = node.poisoned() {
                    return Some(why);
                }
            }
        }
    }
}

/// Stops nodes. A second signal ends the process at once.
pub async fn stop(nodes: Vec<Node>, signals: &mut Signals) -> Result<(), Failure> {
    armilla::rt_select! {
        () = signals.next() => {
            eprintln!("armilla: stopped without a clean shutdown");
            Err(Failure::silent(130))
        }
        _ = futures::future::join_all(nodes.into_iter().map(Node::stop)) => Ok(()),
    }
}
