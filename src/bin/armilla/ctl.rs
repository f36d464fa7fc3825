//! `armilla ctl`: inspects a cluster, and reads and writes keys, raw and transactional.
//!
//! Keys come **in** as text with escapes ([`armilla::codec::text`]), values as they are. Values go **out** as they are,
//! tables with keys that can be typed back in, or JSON. **Never**: a value that is printed differently from how it was
//! put, or a listing that ends at its limit without saying so.

/// Prints a line of the result. Printing must be the last thing that a command does.
macro_rules! say {
    ($($text:tt)*) => {{
        crate::process::only_prints();
        println!($($text)*);
    }};
}

/// Prints a part of a line of the result.
macro_rules! say_part {
    ($($text:tt)*) => {{
        crate::process::only_prints();
        print!($($text)*);
    }};
}

mod admin;
mod cluster;
mod gc;
mod hot;
mod keyspace;
mod listing;
mod mvcc;
mod query;
mod script;
mod show;
mod txn;
mod values;

use std::time::Duration;

use armilla::client::{PdClient, RawClient, RawOptions, Space};
use armilla::rt::Env;
use armilla::rt::clock::Clock;
use armilla::rt::rng::Rng;
use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::process;
use listing::{RangeArgs, ScanArgs};
use show::{Form, print_json};
use values::ValueArgs;

/// How keys and values are written. Printed below the help of every command that takes them.
const BYTES: &str = "\
Keys: type them as scan and regions print them. A backslash begins an escape: \\n, \\r, \\t, \\\\ (a backslash),
\\xNN (a byte), \\mem{TEXT} (the memcomparable encoding of TEXT, as in region boundaries). In a shell, quote them.
Values: read as they are, without escapes; printed by `get` as they are, byte for byte, without a line break at the
end. On a terminal, a line break is added, and a value that is not plain text is shown with escapes.
JSON: \"key\" and \"value\" are the text itself; if it is not UTF-8, \"key_hex\" and \"value_hex\" are used instead.";

/// Prints tables for people, and JSON for programs (`--json`).
#[derive(clap::Args, Debug)]
#[command(after_help = BYTES)]
pub struct Args {
    /// Address of any node of the cluster; separate several with commas.
    #[arg(
        long,
        global = true,
        value_name = "HOST:PORT",
        value_delimiter = ',',
        default_value = "127.0.0.1:2379",
        env = "ARMILLA_PD"
    )]
    pd: Vec<String>,
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
    /// Read and print keys and values in hexadecimal.
    #[arg(long, global = true)]
    hex: bool,
    /// Read and print the values of get, put and cas with escapes, as keys are.
    #[arg(long, global = true, conflicts_with = "hex")]
    escape: bool,
    /// Column family that raw commands use.
    #[arg(long, global = true, value_name = "CF", value_enum, default_value_t = Cf::Default)]
    cf: Cf,
    /// Keyspace whose keys the command uses, in a cluster with API version 2 [default: DEFAULT]
    #[arg(long, global = true, value_name = "NAME")]
    keyspace: Option<String>,
    /// Timeout in seconds; for scan and count, of each page.
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 10.0)]
    timeout: f64,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Cf {
    Default,
    Lock,
    Write,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// List the placement driver's members and its leader.
    Members,
    /// Change the placement driver's members.
    #[command(subcommand)]
    Member(MemberCommand),
    /// List stores with their addresses, load and space.
    Stores,
    /// List regions with their ranges, peers and leaders, from the one that holds START up to END.
    #[command(after_help = BYTES)]
    Regions {
        /// A key in the first region to list [default: the smallest key]
        #[arg(default_value = "", hide_default_value = true)]
        start: String,
        /// The key to stop before [default: after the last region]
        #[arg(default_value = "", hide_default_value = true)]
        end: String,
        /// Maximum number of regions to list.
        #[arg(long, default_value_t = 1000)]
        limit: usize,
    },
    /// List the load of each store, and the regions that have most of it: reads and writes per second.
    Hot {
        /// Maximum number of regions to list for each store.
        #[arg(long, default_value_t = 10)]
        limit: usize,
        /// What to sort by.
        #[arg(long, value_enum, default_value_t = hot::By::Queries)]
        by: hot::By,
    },
    /// Show the region that holds a key, and its leader.
    #[command(after_help = BYTES)]
    Leader {
        /// The key.
        key: String,
    },
    /// Summarize the cluster in a few lines; exits with code 1 if something is wrong.
    Status,
    /// Print a key's value, byte for byte; exits with code 1 if the key does not exist.
    #[command(after_help = BYTES)]
    Get {
        /// The key.
        key: String,
    },
    /// Set a key.
    #[command(after_help = BYTES)]
    Put {
        /// The key.
        key: String,
        #[command(flatten)]
        value: ValueArgs,
        /// Time to live in seconds (0: no expiry).
        #[arg(long, value_name = "SECONDS", default_value_t = 0)]
        ttl: u64,
    },
    /// Delete a key.
    #[command(after_help = BYTES)]
    Delete {
        /// The key.
        key: String,
    },
    /// Delete all keys from START (inclusive) to END (exclusive), or with a prefix.
    #[command(after_help = BYTES)]
    DeleteRange {
        #[command(flatten)]
        range: RangeArgs,
        /// Delete all keys of the column family.
        #[arg(long, conflicts_with_all = ["start", "end", "prefix"])]
        everything: bool,
    },
    /// List pairs from START (inclusive) to END (exclusive), or with a prefix; says so if there are more than --limit.
    #[command(after_help = BYTES)]
    Scan(ScanArgs),
    /// Count the keys from START (inclusive) to END (exclusive), or with a prefix. Reads every key, but no values.
    #[command(after_help = BYTES)]
    Count(RangeArgs),
    /// Print a key's remaining time to live in seconds.
    #[command(after_help = BYTES)]
    Ttl {
        /// The key.
        key: String,
    },
    /// Set KEY to VALUE if its value is PREVIOUS (without --previous: if it does not exist); exits with code 1
    /// otherwise.
    #[command(after_help = BYTES)]
    Cas {
        /// The key.
        key: String,
        #[command(flatten)]
        value: ValueArgs,
        /// The expected value [default: none: the key must not exist]
        #[arg(long, allow_negative_numbers = true)]
        previous: Option<String>,
        /// Time to live in seconds (0: no expiry).
        #[arg(long, value_name = "SECONDS", default_value_t = 0)]
        ttl: u64,
    },
    /// Print the checksum, number and bytes of the pairs from START to END, or with a prefix.
    #[command(after_help = BYTES)]
    Checksum(RangeArgs),
    /// Filter and aggregate JSON values where they are stored: rows, or count, sum, avg, min and max.
    Query(query::QueryArgs),
    /// Read and write transactional keys, which are apart from raw ones.
    #[command(subcommand)]
    Txn(txn::TxnCommand),
    /// Show the lock and all versions of a transactional key, the newest first; exits with code 1 if there are none.
    #[command(after_help = BYTES)]
    Mvcc {
        /// The key.
        #[arg(required_unless_present = "start_ts")]
        key: Option<String>,
        /// Show the first key of each region that the transaction with this start timestamp has written. Reads all
        /// records of the cluster [default: show KEY]
        #[arg(long, value_name = "TS", conflicts_with = "key")]
        start_ts: Option<u64>,
    },
    /// List the oldest locks of transactions.
    #[command(after_help = BYTES)]
    Locks(mvcc::LocksArgs),
    /// Finish transactions whose locks have expired: their locks are committed or rolled back, as their primary keys
    /// say.
    #[command(after_help = BYTES)]
    Resolve(mvcc::ResolveArgs),
    /// Show how far back transactional data go, and what holds the removal of old versions back; hold it back.
    #[command(args_conflicts_with_subcommands = true)]
    Gc {
        #[command(subcommand)]
        command: Option<gc::GcCommand>,
    },
    /// List and create keyspaces, in a cluster with API version 2.
    #[command(subcommand, name = "keyspace")]
    Keyspaces(keyspace::KeyspaceCommand),
    /// Get timestamps from the placement driver.
    Tso {
        /// How many timestamps.
        #[arg(long, value_name = "N", default_value_t = 1)]
        count: u32,
    },
    /// Change regions.
    #[command(subcommand)]
    Region(RegionCommand),
    /// Change the stores.
    #[command(subcommand)]
    Store(StoreCommand),
    /// List the placement driver's settings that can be changed while the cluster runs, and where each comes from.
    Settings,
    /// Change the placement driver's settings.
    #[command(subcommand)]
    Setting(admin::SettingCommand),
    /// List the schedulers that move leaders and replicas by themselves.
    Schedulers,
    /// Pause, resume, add and remove schedulers.
    #[command(subcommand)]
    Scheduler(admin::SchedulerCommand),
    /// Move a region's leadership to a store.
    TransferLeader {
        /// The region's id.
        region: u64,
        /// The store's id.
        store: u64,
    },
}

impl Command {
    /// Returns whether the command reads or writes keys as clients write them.
    fn uses_keys(&self) -> bool {
        matches!(
            self,
            Command::Get { .. }
                | Command::Put { .. }
                | Command::Delete { .. }
                | Command::DeleteRange { .. }
                | Command::Scan(_)
                | Command::Count(_)
                | Command::Ttl { .. }
                | Command::Cas { .. }
                | Command::Checksum(_)
                | Command::Query(_)
                | Command::Txn(_)
                | Command::Mvcc { .. }
                | Command::Locks(_)
                | Command::Resolve(_)
                | Command::Region(RegionCommand::Split { .. })
        )
    }
}

/// A change of regions.
#[derive(Subcommand, Debug)]
enum RegionCommand {
    /// Split regions: make each KEY the start of a region; with API version 2, as a raw and as a transactional key of
    /// the keyspace. Prints the regions that start there.
    #[command(after_help = BYTES)]
    Split {
        /// The keys.
        #[arg(required = true, value_name = "KEY")]
        keys: Vec<String>,
    },
    /// Make a region part of its neighbour, and wait until it is gone. Its replicas move to the neighbour's stores
    /// first.
    Merge {
        /// The id of the region that ends.
        region: u64,
        /// The id of its neighbour, which gets its keys.
        target: u64,
    },
    /// Move a region's replica from one store to another, and wait until it is there.
    Move {
        /// The region's id.
        region: u64,
        /// The id of the store that has the replica.
        from: u64,
        /// The id of the store that is to have it.
        to: u64,
    },
    /// Add a replica of a region on a store, and wait until it votes. If the region then has more than it is to have,
    /// another one goes.
    AddPeer {
        /// The region's id.
        region: u64,
        /// The store's id.
        store: u64,
    },
    /// Remove a region's replica from a store, and wait until it is gone. Another one takes its place first, if there
    /// is a store for it.
    RemovePeer {
        /// The region's id.
        region: u64,
        /// The store's id.
        store: u64,
    },
    /// Spread the leaders and replicas of some regions evenly over the stores.
    Scatter {
        /// The regions' ids.
        #[arg(required = true, value_name = "REGION")]
        regions: Vec<u64>,
        /// Regions of earlier requests with the same name are counted with these.
        #[arg(long, default_value = "", hide_default_value = true)]
        group: String,
    },
}

/// Changes of the placement driver's members.
#[derive(Debug, Subcommand)]
enum MemberCommand {
    /// Move a member from one store to another, and wait until it is there. Members of stores that are lost or removed
    /// move by themselves.
    Move {
        /// The id of the store that has the member.
        from: u64,
        /// The id of the store that is to have it.
        to: u64,
    },
}

/// Changes of the stores.
#[derive(Debug, Subcommand)]
enum StoreCommand {
    /// Move all replicas away from a store, which is removed from the cluster when it has none; wait until it is. A
    /// node that ran it stops, and starts again only with an empty data directory.
    Remove {
        /// The store's id.
        store: u64,
        /// Take the removal back, while the store still has replicas: those that it has stay.
        #[arg(long)]
        take_back: bool,
    },
    /// Move all leaders away from a store and keep them away; wait until it leads nothing. Its replicas stay.
    Drain {
        /// The store's id.
        store: u64,
    },
    /// Let a store that was drained lead regions again.
    Undrain {
        /// The store's id.
        store: u64,
    },
    /// Declare a store lost for good: its replicas are added on other stores at once, first on the one that replaces
    /// it. Only for a store that is down.
    Replace {
        /// The lost store's id.
        lost: u64,
        /// The id of the store that replaces it [default: none: it must be given]
        #[arg(long, value_name = "STORE")]
        by: u64,
    },
    /// Set a store's weights: with twice the weight, it gets twice as many.
    #[command(group = clap::ArgGroup::new("weights").required(true).multiple(true).args(["leader", "region"]))]
    Weight {
        /// The store's id.
        store: u64,
        /// The weight for leaders; 1 is usual [default: as it is]
        #[arg(long, value_name = "WEIGHT")]
        leader: Option<f64>,
        /// The weight for replicas; 1 is usual [default: as it is]
        #[arg(long, value_name = "WEIGHT")]
        region: Option<f64>,
    },
    /// Limit how many replicas a store gets, and gives away, a minute; 100000000: no limit.
    #[command(group = clap::ArgGroup::new("limits").required(true).multiple(true).args(["add", "remove"]))]
    Limit {
        /// The store's id.
        store: u64,
        /// Replicas that it gets a minute [default: as it is]
        #[arg(long, value_name = "N")]
        add: Option<u64>,
        /// Replicas that it gives away a minute [default: as it is]
        #[arg(long, value_name = "N")]
        remove: Option<u64>,
    },
}

/// One run of the command.
struct Ctl {
    clock: Clock,
    pd: PdClient,
    raw: RawClient,
    form: Form,
    /// How long a command may take.
    timeout: Duration,
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), Failure> {
    if !(args.timeout > 0.0 && args.timeout < 86_400.0) {
        return Err(Failure::usage("--timeout: must be more than 0 seconds and less than a day"));
    }
    process::client_runtime()?.block_on(async {
        let env = Env::real();
        let deadline = Duration::from_secs_f64(args.timeout);
        let pd = PdClient::new(env.net.clone(), env.clock.clone(), args.pd.clone()).with_deadline(deadline);
        let cf = match args.cf {
            Cf::Default => "",
            Cf::Lock => "lock",
            Cf::Write => "write",
        };
        // A request for a whole region takes long, and a retry would start from the beginning: give one attempt all the
        // time.
        let whole = matches!(args.command, Command::Checksum { .. } | Command::DeleteRange { .. });
        if matches!(args.command, Command::Checksum { .. }) && args.cf != Cf::Default {
            return Err(Failure::usage("checksum: only the default column family has checksums (--cf default)"));
        }
        let patient = RawOptions { deadline, cf: cf.to_owned(), ..RawOptions::default() };
        let options = if whole { RawOptions { attempt: deadline, ..patient } } else { patient };
        let clock = env.clock.clone();
        let space = match args.command.uses_keys() {
            true => keyspace::space(&pd, args.keyspace.as_deref()).await?,
            false if args.keyspace.is_some() => {
                return Err(Failure::usage("--keyspace: this command uses no keys of a keyspace"));
            }
            false => Space::V1,
        };
        let raw = RawClient::new(pd.clone(), env.net, env.clock, Rng::new(env.seed), options).in_space(space);
        let form = Form { json: args.json, hex: args.hex, escape: args.escape };
        Ctl { clock, pd, raw, form, timeout: deadline }.run(args.command).await
    })
}

impl Ctl {
    async fn run(&self, command: Command) -> Result<(), Failure> {
        match command {
            Command::Members => self.members().await,
            Command::Member(MemberCommand::Move { from, to }) => self.move_member(from, to).await,
            Command::Stores => self.stores().await,
            Command::Regions { start, end, limit } => self.regions(&start, &end, limit).await,
            Command::Hot { limit, by } => self.hot(limit, by).await,
            Command::Leader { key } => self.leader(&key).await,
            Command::Status => self.status().await,
            Command::Get { key } => self.get(&key).await,
            Command::Put { key, value, ttl } => {
                self.raw.put(self.form.key(&key)?, value.read(self.form)?, ttl).await?;
                self.done(json!({ "ok": true }))
            }
            Command::Delete { key } => {
                self.raw.delete(self.form.key(&key)?).await?;
                self.done(json!({ "ok": true }))
            }
            Command::DeleteRange { range, everything } => self.delete_range(&range, everything).await,
            Command::Scan(args) => self.scan(&args).await,
            Command::Count(range) => self.count(&range).await,
            Command::Ttl { key } => self.ttl(&key).await,
            Command::Cas { key, value, previous, ttl } => self.cas(&key, &value, previous, ttl).await,
            Command::Checksum(range) => self.checksum(&range).await,
            Command::Query(args) => self.query(&args).await,
            Command::Txn(command) => self.transaction(command).await,
            Command::Mvcc { key, start_ts } => self.mvcc(key.as_deref(), start_ts).await,
            Command::Locks(args) => self.locks(&args).await,
            Command::Gc { command } => self.gc(command.as_ref()).await,
            Command::Resolve(args) => self.resolve(&args).await,
            Command::Keyspaces(command) => self.keyspace(&command).await,
            Command::Tso { count } => self.tso(count).await,
            Command::Region(RegionCommand::Split { keys }) => self.split(&keys).await,
            Command::Region(RegionCommand::Move { region, from, to }) => self.move_peer(region, from, to).await,
            Command::Region(RegionCommand::Merge { region, target }) => self.merge(region, target).await,
            Command::Region(RegionCommand::AddPeer { region, store }) => self.add_peer(region, store).await,
            Command::Region(RegionCommand::RemovePeer { region, store }) => self.remove_peer(region, store).await,
            Command::Region(RegionCommand::Scatter { regions, group }) => self.scatter(regions, group).await,
            Command::Store(command) => self.store(command).await,
            Command::Settings => self.settings().await,
            Command::Setting(command) => self.setting(command).await,
            Command::Schedulers => self.schedulers().await,
            Command::Scheduler(command) => self.scheduler(command).await,
            Command::TransferLeader { region, store } => self.transfer_leader(region, store).await,
        }
    }

    async fn store(&self, command: StoreCommand) -> Result<(), Failure> {
        match command {
            StoreCommand::Remove { store, take_back: false } => self.remove_store(store).await,
            StoreCommand::Remove { store, take_back: true } => self.take_store_back(store).await,
            StoreCommand::Drain { store } => self.drain(store).await,
            StoreCommand::Undrain { store } => self.undrain(store).await,
            StoreCommand::Replace { lost, by } => self.replace_store(lost, by).await,
            StoreCommand::Weight { store, leader, region } => self.weigh(store, leader, region).await,
            StoreCommand::Limit { store, add, remove } => self.limit(store, add, remove).await,
        }
    }

    fn done(&self, value: Value) -> Result<(), Failure> {
        if self.form.json {
            return print_json(&value);
        }
        say!("ok");
        Ok(())
    }

    async fn query(&self, args: &query::QueryArgs) -> Result<(), Failure> {
        if !self.raw.options().cf.is_empty() {
            return Err(Failure::usage("--cf: queries read the default column family"));
        }
        query::run(self, args).await
    }
}
