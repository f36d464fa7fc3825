//! `armilla ctl`: a look into a cluster, and raw keys by hand.

mod query;
mod show;

use std::time::Duration;

use armilla::client::{PdClient, RawClient, RawOptions};
use armilla::rt::Env;
use armilla::rt::rng::Rng;
use bytes::Bytes;
use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::process;
use show::{Table, print_json};

/// A line of the answer; nothing but printing is left to do.
macro_rules! say {
    ($($text:tt)*) => {{
        crate::process::only_prints();
        println!($($text)*);
    }};
}

/// About how many bytes and keys regions hold, by their ids.
type Sizes = std::collections::BTreeMap<u64, (u64, u64)>;

/// Tables for people, `--json` for programs.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Any node of the cluster; several with commas.
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
    /// Keys and values are hexadecimal, on the way in and out.
    #[arg(long, global = true)]
    hex: bool,
    /// Column family of raw commands: default, lock or write.
    #[arg(long, global = true, value_name = "CF", value_enum)]
    cf: Option<Cf>,
    /// Seconds that a command may take.
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 10.0)]
    timeout: f64,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Cf {
    Default,
    Lock,
    Write,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Members of the placement driver, and who leads.
    Members,
    /// Stores: addresses, load, space.
    Stores,
    /// Regions: ranges, peers, leaders.
    Regions {
        /// Show at most so many.
        #[arg(long, default_value_t = 1000)]
        limit: usize,
    },
    /// The region of a key and its leader.
    Leader { key: String },
    /// The cluster in a few lines; ends with code 1 when something is wrong.
    Status,
    /// The value of a key; ends with code 1 when it does not exist.
    Get { key: String },
    /// Set a key.
    Put {
        key: String,
        value: String,
        /// Seconds until it ends to exist; 0: never.
        #[arg(long, default_value_t = 0)]
        ttl: u64,
    },
    /// Remove a key.
    Delete { key: String },
    /// Pairs from START (inclusive) to END (exclusive); without END: to the last.
    Scan {
        #[arg(default_value = "")]
        start: String,
        #[arg(default_value = "")]
        end: String,
        /// At most so many pairs.
        #[arg(long, default_value_t = 100)]
        limit: usize,
        /// From the largest key down.
        #[arg(long)]
        reverse: bool,
        /// Without values.
        #[arg(long)]
        keys_only: bool,
    },
    /// Seconds that a key has left.
    Ttl { key: String },
    /// Set KEY to VALUE if its value is PREVIOUS (without --previous: if it does not exist).
    Cas {
        key: String,
        value: String,
        #[arg(long)]
        previous: Option<String>,
    },
    /// Checksum, number and bytes of the pairs from START to END.
    Checksum {
        #[arg(default_value = "")]
        start: String,
        #[arg(default_value = "")]
        end: String,
    },
    /// Filter and aggregate JSON values at the data: rows of a predicate, or count, sum, avg, min and max.
    Query(query::QueryArgs),
    /// Timestamps from the placement driver.
    Tso {
        /// How many.
        #[arg(long, default_value_t = 1)]
        count: u32,
    },
    /// Move a region's leadership to a store.
    TransferLeader { region: u64, store: u64 },
}

/// One run of the command.
struct Ctl {
    pd: PdClient,
    raw: RawClient,
    json: bool,
    hex: bool,
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), Failure> {
    if !(args.timeout > 0.0 && args.timeout < 86_400.0) {
        return Err(Failure::usage("--timeout: more than 0 seconds, less than a day"));
    }
    process::client_runtime()?.block_on(async {
        let env = Env::real();
        let deadline = Duration::from_secs_f64(args.timeout);
        let pd = PdClient::new(env.net.clone(), env.clock.clone(), args.pd.clone()).with_deadline(deadline);
        let cf = match args.cf {
            None => "",
            Some(Cf::Default) => "default",
            Some(Cf::Lock) => "lock",
            Some(Cf::Write) => "write",
        };
        // One look at a whole region takes as long as it takes: retries would begin it anew.
        let whole = matches!(args.command, Command::Checksum { .. });
        if whole && matches!(args.cf, Some(Cf::Lock | Cf::Write)) {
            return Err(Failure::usage("checksum: there is one of the default column family only (--cf default)"));
        }
        let patient = RawOptions { deadline, cf: cf.to_owned(), ..RawOptions::default() };
        let options = if whole { RawOptions { attempt: deadline, cf: String::new(), ..patient } } else { patient };
        let raw = RawClient::new(pd.clone(), env.net, env.clock, Rng::new(env.seed), options);
        Ctl { pd, raw, json: args.json, hex: args.hex }.run(args.command).await
    })
}

impl Ctl {
    async fn run(&self, command: Command) -> Result<(), Failure> {
        match command {
            Command::Members => self.members().await,
            Command::Stores => self.stores().await,
            Command::Regions { limit } => self.regions(limit).await,
            Command::Leader { key } => self.leader(&key).await,
            Command::Status => self.status().await,
            Command::Get { key } => self.get(&key).await,
            Command::Put { key, value, ttl } => {
                self.raw.put(self.bytes(&key)?, self.bytes(&value)?, ttl).await?;
                self.done(json!({ "ok": true }))
            }
            Command::Delete { key } => {
                self.raw.delete(self.bytes(&key)?).await?;
                self.done(json!({ "ok": true }))
            }
            Command::Scan { start, end, limit, reverse, keys_only } => {
                let (start, end) = (self.bytes(&start)?, self.bytes(&end)?);
                let pairs = if reverse {
                    self.raw.scan_reverse(start, end, limit, keys_only).await?
                } else {
                    self.raw.scan(start, end, limit, keys_only).await?
                };
                self.pairs(&pairs, keys_only)
            }
            Command::Ttl { key } => self.ttl(&key).await,
            Command::Cas { key, value, previous } => self.cas(&key, &value, previous.as_deref()).await,
            Command::Checksum { start, end } => {
                let sum = self.raw.checksum(self.bytes(&start)?, self.bytes(&end)?).await?;
                if self.json {
                    let crc = format!("{:016x}", sum.crc64_xor);
                    return print_json(&json!({ "crc64_xor": crc, "pairs": sum.pairs, "bytes": sum.bytes }));
                }
                say!("crc64 {:016x}, {} pairs, {} bytes", sum.crc64_xor, sum.pairs, sum.bytes);
                Ok(())
            }
            Command::Query(args) => self.query(&args).await,
            Command::Tso { count } => self.tso(count).await,
            Command::TransferLeader { region, store } => {
                self.pd.transfer_leader(region, store).await?;
                self.done(json!({ "ok": true, "region": region, "to_store": store }))
            }
        }
    }

    /// A key or value from the command line.
    fn bytes(&self, text: &str) -> Result<Bytes, Failure> {
        if self.hex {
            return show::unhex(text).ok_or_else(|| Failure::usage(format!("`{text}` is not hexadecimal (--hex)")));
        }
        Ok(Bytes::copy_from_slice(text.as_bytes()))
    }

    /// A key or value for people and JSON.
    fn text(&self, bytes: &[u8]) -> String {
        if self.hex { show::hex(bytes) } else { show::escape(bytes) }
    }

    fn done(&self, value: Value) -> Result<(), Failure> {
        if self.json {
            return print_json(&value);
        }
        say!("ok");
        Ok(())
    }

    fn absent(&self, key: &str) -> Result<(), Failure> {
        if self.json {
            print_json(&json!({ "found": false }))?;
        } else {
            eprintln!("{key} does not exist");
        }
        Err(Failure::silent(1))
    }

    async fn get(&self, key: &str) -> Result<(), Failure> {
        match self.raw.get(self.bytes(key)?).await? {
            None => self.absent(key),
            Some(value) if self.json => print_json(&json!({ "found": true, "value": self.text(&value) })),
            Some(value) => {
                say!("{}", self.text(&value));
                Ok(())
            }
        }
    }

    async fn ttl(&self, key: &str) -> Result<(), Failure> {
        match self.raw.get_ttl(self.bytes(key)?).await? {
            None => self.absent(key),
            Some(ttl) if self.json => print_json(&json!({ "found": true, "ttl_s": ttl })),
            Some(0) => {
                say!("for ever");
                Ok(())
            }
            Some(ttl) => {
                say!("{ttl} s");
                Ok(())
            }
        }
    }

    async fn cas(&self, key: &str, value: &str, previous: Option<&str>) -> Result<(), Failure> {
        let previous = previous.map(|previous| self.bytes(previous)).transpose()?;
        let answer = self.raw.cas(self.bytes(key)?, previous, self.bytes(value)?, 0).await?;
        let found = answer.previous.as_ref().map(|value| self.text(value));
        if self.json {
            print_json(&json!({ "swapped": answer.swapped, "previous": found }))?;
        } else {
            let found = found.map_or("it did not exist".into(), |value| format!("its value was {value}"));
            say!("{}: {found}", if answer.swapped { "swapped" } else { "not swapped" });
        }
        if answer.swapped { Ok(()) } else { Err(Failure::silent(1)) }
    }

    async fn query(&self, args: &query::QueryArgs) -> Result<(), Failure> {
        if !matches!(self.raw.options().cf.as_str(), "" | "default") {
            return Err(Failure::usage("--cf: queries read the default column family"));
        }
        let (start, end) = args.range();
        let range = (self.bytes(start)?, self.bytes(end)?);
        let answer = query::ask(&self.raw, args.query()?, range).await?;
        query::print(&answer, self.json, |key| self.text(key))
    }

    async fn tso(&self, count: u32) -> Result<(), Failure> {
        let last = self.pd.tso(count).await?;
        if self.json {
            let first = last.0 - u64::from(count) + 1;
            return print_json(&json!({
                // Numbers of most readers end at 2^53.
                "first": first.to_string(), "last": last.0.to_string(), "count": count,
                "physical_ms": last.physical_ms(), "logical": last.logical(),
            }));
        }
        say!("{} (physical {} ms, logical {})", last.0, last.physical_ms(), last.logical());
        Ok(())
    }

    fn pairs(&self, pairs: &[(Bytes, Bytes)], keys_only: bool) -> Result<(), Failure> {
        if self.json {
            let pair = |(key, value): &(Bytes, Bytes)| match keys_only {
                true => json!({ "key": self.text(key) }),
                false => json!({ "key": self.text(key), "value": self.text(value) }),
            };
            return print_json(&json!({ "pairs": pairs.iter().map(pair).collect::<Vec<_>>() }));
        }
        let mut table = Table::new(if keys_only { &["key"][..] } else { &["key", "value"] });
        for (key, value) in pairs {
            let mut row = vec![show::cut(self.text(key))];
            if !keys_only {
                row.push(show::cut(self.text(value)));
            }
            table.row(row);
        }
        table.print();
        Ok(())
    }

    async fn members(&self) -> Result<(), Failure> {
        let (members, leader) = self.pd.members().await?;
        if self.json {
            let member = |m: &armilla::proto::pdpb::Member| json!({ "name": m.name, "id": m.member_id.to_string(), "urls": m.client_urls, "leader": m.member_id == leader.member_id });
            return print_json(&json!({ "members": members.iter().map(member).collect::<Vec<_>>() }));
        }
        let mut table = Table::new(&["name", "id", "address", "leads"]);
        for m in &members {
            let leads = if m.member_id == leader.member_id { "yes" } else { "" };
            table.row(vec![m.name.clone(), m.member_id.to_string(), m.client_urls.join(" "), leads.into()]);
        }
        table.print();
        Ok(())
    }

    async fn stores(&self) -> Result<(), Failure> {
        let stores = self.pd.get_all_stores().await?;
        // More is known of our own clusters than TiKV's protocol can say.
        let overview = self.pd.overview().await.ok();
        let more = |id: u64| {
            let stores = overview.as_ref().map(|o| o.stores.as_slice()).unwrap_or_default();
            stores.iter().find(|s| s.store.as_ref().is_some_and(|store| store.id == id))
        };
        if self.json {
            let store = |s: &armilla::proto::metapb::Store| {
                let mut value =
                    json!({ "id": s.id, "address": s.address, "state": s.state().as_str_name(), "version": s.version });
                if let Some(m) = more(s.id) {
                    value["leaders"] = m.leaders.into();
                    value["regions"] = m.regions.into();
                    value["reads_per_s"] = m.reads_per_s.into();
                    value["writes_per_s"] = m.writes_per_s.into();
                    value["used_bytes"] = m.used_bytes.into();
                    value["available_bytes"] = m.available_bytes.into();
                    value["capacity_bytes"] = m.capacity_bytes.into();
                    value["heartbeat_age_ms"] =
                        if m.heartbeat_age_ms == u64::MAX { Value::Null } else { m.heartbeat_age_ms.into() };
                }
                value
            };
            return print_json(&json!({ "stores": stores.iter().map(store).collect::<Vec<_>>() }));
        }
        let mut table = Table::new(&[
            "store", "address", "state", "leaders", "regions", "reads/s", "writes/s", "used", "free", "heard",
        ]);
        for s in &stores {
            let mut row = vec![s.id.to_string(), s.address.clone(), s.state().as_str_name().to_lowercase()];
            match more(s.id) {
                None => row.extend(std::iter::repeat_n("-".to_owned(), 7)),
                Some(m) => row.extend([
                    m.leaders.to_string(),
                    m.regions.to_string(),
                    m.reads_per_s.to_string(),
                    m.writes_per_s.to_string(),
                    show::bytes(m.used_bytes),
                    show::bytes(m.available_bytes),
                    if m.heartbeat_age_ms == u64::MAX {
                        "never".into()
                    } else {
                        format!("{} ms ago", m.heartbeat_age_ms)
                    },
                ]),
            }
            table.row(row);
        }
        table.print();
        Ok(())
    }

    async fn all_regions(&self, limit: usize) -> Result<Vec<armilla::client::pd::RegionInfo>, Failure> {
        let mut found: Vec<armilla::client::pd::RegionInfo> = Vec::new();
        let mut from = Bytes::new();
        while found.len() < limit {
            let page = self.pd.scan_regions(&from, &[], (limit - found.len()).min(1024) as i32).await?;
            let Some(last) = page.last() else { break };
            from = last.region.end_key.clone();
            found.extend(page);
            if from.is_empty() {
                break;
            }
        }
        Ok(found)
    }

    async fn regions(&self, limit: usize) -> Result<(), Failure> {
        let regions = self.all_regions(limit).await?;
        let heard = self.pd.overview().await?.regions;
        let sizes: Sizes = heard
            .into_iter()
            .filter(|heard| heard.term != 0)
            .filter_map(|heard| Some((heard.region?.id, (heard.approximate_bytes, heard.approximate_keys))))
            .collect();
        self.region_table(&regions, &sizes)
    }

    /// `sizes`: of the regions that PD has heard of.
    fn region_table(&self, regions: &[armilla::client::pd::RegionInfo], sizes: &Sizes) -> Result<(), Failure> {
        if self.json {
            let region = |info: &armilla::client::pd::RegionInfo| {
                let r = &info.region;
                let epoch = r.region_epoch.unwrap_or_default();
                json!({
                    "id": r.id, "start": self.text(&r.start_key), "end": self.text(&r.end_key),
                    "conf_ver": epoch.conf_ver, "version": epoch.version,
                    "peers": r.peers.iter().map(|p| json!({ "id": p.id, "store": p.store_id })).collect::<Vec<_>>(),
                    "leader": info.leader.as_ref().map(|p| json!({ "id": p.id, "store": p.store_id })),
                    "approximate_bytes": sizes.get(&r.id).map(|(bytes, _)| bytes),
                    "approximate_keys": sizes.get(&r.id).map(|(_, keys)| keys),
                })
            };
            return print_json(&json!({ "regions": regions.iter().map(region).collect::<Vec<_>>() }));
        }
        let mut table = Table::new(&["region", "from", "to", "epoch", "stores", "leader", "size", "keys"]);
        for info in regions {
            let r = &info.region;
            let epoch = r.region_epoch.unwrap_or_default();
            let end = if r.end_key.is_empty() { "∞".to_owned() } else { self.text(&r.end_key) };
            let stores: Vec<String> = r.peers.iter().map(|p| p.store_id.to_string()).collect();
            let leader = info.leader.as_ref().map_or("none".into(), |p| format!("store {}", p.store_id));
            table.row(vec![
                r.id.to_string(),
                self.text(&r.start_key),
                end,
                format!("{}/{}", epoch.conf_ver, epoch.version),
                stores.join(" "),
                leader,
                sizes.get(&r.id).map_or("?".into(), |(bytes, _)| format!("~{}", show::bytes(*bytes))),
                sizes.get(&r.id).map_or("?".into(), |(_, keys)| format!("~{keys}")),
            ]);
        }
        table.print();
        Ok(())
    }

    async fn leader(&self, key: &str) -> Result<(), Failure> {
        let info = self.pd.get_region(&self.bytes(key)?).await?;
        let info = info.ok_or_else(|| Failure::new("the placement driver knows no region of the key"))?;
        let Some(leader) = info.leader else {
            self.region_table(&[info], &Sizes::new())?;
            return Err(Failure::new("the region has no leader at the moment"));
        };
        let store = self.pd.get_store(leader.store_id).await?.unwrap_or_default();
        if self.json {
            return print_json(
                &json!({ "region": info.region.id, "store": leader.store_id, "peer": leader.id, "address": store.address }),
            );
        }
        say!("region {}, led by store {} at {}", info.region.id, leader.store_id, store.address);
        Ok(())
    }

    async fn status(&self) -> Result<(), Failure> {
        let overview = self.pd.overview().await?;
        let leaderless =
            overview.regions.iter().filter(|r| r.leader.as_ref().is_none_or(|leader| leader.id == 0)).count();
        // Clusters of older versions do not say how long a store may be silent.
        let patience_ms = if overview.store_alive_ms == 0 { 10_000 } else { overview.store_alive_ms };
        let late = |age: u64| age > patience_ms;
        let silent: Vec<u64> = overview
            .stores
            .iter()
            .filter(|s| late(s.heartbeat_age_ms))
            .map(|s| s.store.as_ref().map_or(0, |store| store.id))
            .collect();
        let well = leaderless == 0 && silent.is_empty();
        let sum =
            |of: fn(&armilla::proto::armilla::pd::StoreOverview) -> u64| overview.stores.iter().map(of).sum::<u64>();
        let (reads, writes) = (sum(|s| s.reads_per_s), sum(|s| s.writes_per_s));
        let leader = overview.leader.clone().unwrap_or_default();
        if self.json {
            print_json(&json!({
                // Numbers of most readers end at 2^53.
                "cluster_id": overview.cluster_id.to_string(), "well": well, "pd_leader": leader.name,
                "pd_members": overview.members.len(), "stores": overview.stores.len(), "silent_stores": silent,
                "regions": overview.regions.len(), "regions_without_leader": leaderless,
                "reads_per_s": reads, "writes_per_s": writes,
            }))?;
        } else {
            say!("cluster   {}: {}", overview.cluster_id, if well { "well" } else { "NOT WELL" });
            say!("pd        {} member(s), led by {}", overview.members.len(), leader.name);
            let silent: Vec<String> = silent.iter().map(u64::to_string).collect();
            let silent = if silent.is_empty() { String::new() } else { format!("; SILENT: {}", silent.join(" ")) };
            say!("stores    {}{silent}", overview.stores.len());
            let led = if leaderless == 0 { String::new() } else { format!("; {leaderless} WITHOUT LEADER") };
            say!("regions   {}{led}", overview.regions.len());
            say!("load      {reads} reads/s, {writes} writes/s");
        }
        if well { Ok(()) } else { Err(Failure::silent(1)) }
    }
}
