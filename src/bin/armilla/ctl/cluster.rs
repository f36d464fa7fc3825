//! `armilla ctl members`, `stores`, `regions`, `leader`, `status`, `tso`, `transfer-leader`, `region`: what the
//! placement driver knows, and changes of it.
//!
//! TiKV's placement driver answers the same calls, except the one of [`Ctl::overview`]. Statistics are missing then.

use std::collections::BTreeMap;
use std::time::Duration;

use armilla::client::Error;
use armilla::client::pd::RegionInfo;
use armilla::codec::keyspace::Mode;
use armilla::codec::txn_key;
use armilla::proto::armilla::pd::{OverviewReply, StoreOverview};
use armilla::proto::metapb::{Store, StoreState};
use armilla::proto::pdpb::Member;
use armilla::types::{Api, GroupId};
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::Ctl;
use super::show::{self, Table, print_json};
use crate::failure::Failure;

/// Approximate bytes and keys of regions, by region id.
type Sizes = BTreeMap<u64, (u64, u64)>;

/// How many regions one call asks for.
const PAGE: usize = 1024;

/// How often and at what interval the placement driver is asked for a region that was just split off.
const SPLIT_LOOKS: usize = 50;
const SPLIT_LOOK: Duration = Duration::from_millis(100);

/// A summary of a cluster.
#[derive(Debug, Default)]
struct Summary {
    cluster_id: u64,
    pd_leader: String,
    pd_members: usize,
    stores: usize,
    /// Stores whose last heartbeat is too old, as far as PD reports it.
    silent: Vec<u64>,
    regions: usize,
    leaderless: usize,
    /// Reads and writes per second, if the cluster counts them.
    load: Option<(u64, u64)>,
}

impl Summary {
    fn of_overview(overview: &OverviewReply) -> Summary {
        // Older versions do not report how old a heartbeat may be.
        let patience_ms = if overview.store_alive_ms == 0 { 10_000 } else { overview.store_alive_ms };
        let silent = overview.stores.iter().filter(|store| store.heartbeat_age_ms > patience_ms);
        let sum = |of: fn(&StoreOverview) -> u64| overview.stores.iter().map(of).sum::<u64>();
        Summary {
            cluster_id: overview.cluster_id,
            pd_leader: overview.leader.clone().unwrap_or_default().name,
            pd_members: overview.members.len(),
            stores: overview.stores.len(),
            silent: silent.map(|silent| silent.store.as_ref().map_or(0, |store| store.id)).collect(),
            regions: overview.regions.len(),
            leaderless: overview
                .regions
                .iter()
                .filter(|region| region.leader.as_ref().is_none_or(|leader| leader.id == 0))
                .count(),
            load: Some((sum(|store| store.reads_per_s), sum(|store| store.writes_per_s))),
        }
    }

    fn is_well(&self) -> bool {
        // Before the initial stores and regions are decided there are none, and nothing is served.
        self.regions > 0 && self.leaderless == 0 && self.silent.is_empty()
    }
}

impl Ctl {
    /// Returns everything that PD's leader knows, or `None` if the cluster is not Armilla's and does not have the call.
    pub(super) async fn overview(&self) -> Result<Option<OverviewReply>, Failure> {
        match self.pd.overview().await {
            Ok(overview) => Ok(Some(overview)),
            Err(Error::Refused(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Describes the failure of a call that only Armilla has. If another system's cluster refused it, says so.
    pub(super) async fn of_own(&self, what: &str, instead: &str, error: Error) -> Failure {
        if matches!(error, Error::Refused(_)) && matches!(self.overview().await, Ok(None)) {
            let text = format!("{what} is a call that only Armilla has, and this cluster (TiKV?) does not: {error}");
            return Failure::new(text).hint(instead);
        }
        error.into()
    }

    pub(super) async fn members(&self) -> Result<(), Failure> {
        let (members, leader) = self.pd.members().await?;
        if self.form.json {
            let member = |m: &Member| {
                let leads = m.member_id == leader.member_id;
                json!({ "name": m.name, "id": m.member_id.to_string(), "urls": m.client_urls, "leader": leads })
            };
            return print_json(&json!({ "members": members.iter().map(member).collect::<Vec<_>>() }));
        }
        let mut table = Table::new(&["name", "id", "address", "leader"]);
        for m in &members {
            let leads = if m.member_id == leader.member_id { "yes" } else { "" };
            table.row(vec![m.name.clone(), m.member_id.to_string(), m.client_urls.join(" "), leads.into()]);
        }
        table.print();
        Ok(())
    }

    pub(super) async fn stores(&self) -> Result<(), Failure> {
        let stores = self.pd.get_all_stores().await?;
        // Armilla's own clusters report more than TiKV's protocol can express.
        let overview = self.pd.overview().await.ok();
        let more = |id: u64| {
            let stores = overview.as_ref().map(|o| o.stores.as_slice()).unwrap_or_default();
            stores.iter().find(|s| s.store.as_ref().is_some_and(|store| store.id == id))
        };
        if self.form.json {
            let store = |s: &Store| {
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
            "store",
            "address",
            "state",
            "leaders",
            "regions",
            "reads/s",
            "writes/s",
            "used",
            "free",
            "last heartbeat",
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

    pub(super) async fn regions(&self, start: &str, end: &str, limit: usize) -> Result<(), Failure> {
        let (mut from, end) = (self.form.key(start)?, self.form.key(end)?);
        let mut found: Vec<RegionInfo> = Vec::new();
        let mut next = None;
        loop {
            // Ask for one more than is shown, to find out whether there are more.
            let page =
                self.pd.scan_regions(&from, &end, (limit - found.len()).saturating_add(1).min(PAGE) as i32).await?;
            let Some(last) = page.last() else { break };
            from = last.region.end_key.clone();
            found.extend(page);
            if found.len() > limit {
                next = Some(found[limit].region.start_key.clone());
                found.truncate(limit);
                break;
            }
            if from.is_empty() || (!end.is_empty() && from >= end) {
                break;
            }
        }
        let heard = self.overview().await?.map(|overview| overview.regions).unwrap_or_default();
        let sizes: Sizes = heard
            .into_iter()
            .filter(|heard| heard.term != 0)
            .filter_map(|heard| Some((heard.region?.id, (heard.approximate_bytes, heard.approximate_keys))))
            .collect();
        self.region_table(&found, &sizes, next.as_ref())?;
        if let Some(next) = next.filter(|_| !self.form.json) {
            let end = if end.is_empty() { String::new() } else { format!(" {}", self.form.argument(&end)) };
            eprintln!(
                "reached --limit {limit}, there are more: continue with `regions {}{end}`",
                self.form.argument(&next)
            );
        }
        Ok(())
    }

    /// Prints regions. `sizes`: of the regions that PD knows; `next`: the start key of the first region that is not
    /// shown.
    fn region_table(&self, regions: &[RegionInfo], sizes: &Sizes, next: Option<&Bytes>) -> Result<(), Failure> {
        if self.form.json {
            let region = |info: &RegionInfo| {
                let r = &info.region;
                let epoch = r.region_epoch.unwrap_or_default();
                let peer = |p: &armilla::proto::metapb::Peer| json!({ "id": p.id, "store": p.store_id });
                let mut object = Map::new();
                object.insert("id".into(), r.id.into());
                self.form.insert_boundary(&mut object, "start", &r.start_key);
                self.form.insert_boundary(&mut object, "end", &r.end_key);
                object.insert("conf_ver".into(), epoch.conf_ver.into());
                object.insert("version".into(), epoch.version.into());
                object.insert("peers".into(), r.peers.iter().map(peer).collect());
                object.insert("leader".into(), info.leader.as_ref().map(peer).into());
                object.insert("approximate_bytes".into(), sizes.get(&r.id).map(|(bytes, _)| *bytes).into());
                object.insert("approximate_keys".into(), sizes.get(&r.id).map(|(_, keys)| *keys).into());
                Value::from(object)
            };
            let mut answer = Map::new();
            answer.insert("regions".into(), regions.iter().map(region).collect());
            answer.insert("more".into(), next.is_some().into());
            if let Some(next) = next {
                self.form.insert(&mut answer, "next_start", next);
            }
            return print_json(&answer.into());
        }
        let mut table = Table::new(&["region", "from", "to", "epoch", "stores", "leader", "size", "keys"]);
        for info in regions {
            let r = &info.region;
            let epoch = r.region_epoch.unwrap_or_default();
            let boundary =
                |key: &[u8], open: &str| if key.is_empty() { open.to_owned() } else { self.form.boundary(key) };
            let stores: Vec<String> = r.peers.iter().map(|p| p.store_id.to_string()).collect();
            let leader = info.leader.as_ref().map_or("none".into(), |p| format!("store {}", p.store_id));
            table.row(vec![
                r.id.to_string(),
                boundary(&r.start_key, "-∞"),
                boundary(&r.end_key, "∞"),
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

    pub(super) async fn leader(&self, key: &str) -> Result<(), Failure> {
        let info = self.pd.get_region(&self.form.key(key)?).await?;
        let info = info.ok_or_else(|| Failure::new("the placement driver knows no region that holds the key"))?;
        let Some(leader) = info.leader else {
            self.region_table(&[info], &Sizes::new(), None)?;
            return Err(Failure::new("the region has no leader at the moment"));
        };
        let store = self.pd.get_store(leader.store_id).await?.unwrap_or_default();
        if self.form.json {
            return print_json(
                &json!({ "region": info.region.id, "store": leader.store_id, "peer": leader.id, "address": store.address }),
            );
        }
        say!("region {}, led by store {} at {}", info.region.id, leader.store_id, store.address);
        Ok(())
    }

    /// Returns what is known of a cluster that is not Armilla's.
    async fn summary_by_pd(&self) -> Result<Summary, Failure> {
        let (members, leader) = self.pd.members().await?;
        let stores = self.pd.get_all_stores().await?;
        let mut summary = Summary {
            cluster_id: self.pd.cluster_id().await?,
            pd_leader: leader.name,
            pd_members: members.len(),
            stores: stores.iter().filter(|store| store.state() != StoreState::Tombstone).count(),
            ..Summary::default()
        };
        let mut from = Bytes::new();
        loop {
            let page = self.pd.scan_regions(&from, &[], PAGE as i32).await?;
            summary.regions += page.len();
            summary.leaderless += page.iter().filter(|info| info.leader.is_none()).count();
            match page.last() {
                Some(last) if !last.region.end_key.is_empty() => from = last.region.end_key.clone(),
                _ => return Ok(summary),
            }
        }
    }

    pub(super) async fn status(&self) -> Result<(), Failure> {
        let summary = match self.overview().await? {
            Some(overview) => Summary::of_overview(&overview),
            None => self.summary_by_pd().await?,
        };
        let well = summary.is_well();
        if self.form.json {
            print_json(&json!({
                // Most JSON readers are exact only up to 2^53.
                "cluster_id": summary.cluster_id.to_string(), "well": well, "pd_leader": summary.pd_leader,
                "pd_members": summary.pd_members, "stores": summary.stores, "silent_stores": summary.silent,
                "regions": summary.regions, "regions_without_leader": summary.leaderless,
                "reads_per_s": summary.load.map(|load| load.0), "writes_per_s": summary.load.map(|load| load.1),
            }))?;
        } else {
            say!("cluster   {}: {}", summary.cluster_id, if well { "healthy" } else { "UNHEALTHY" });
            say!("pd        {} member(s), leader {}", summary.pd_members, summary.pd_leader);
            let silent: Vec<String> = summary.silent.iter().map(u64::to_string).collect();
            let silent =
                if silent.is_empty() { String::new() } else { format!("; NO HEARTBEAT FROM {}", silent.join(" ")) };
            say!("stores    {}{silent}", summary.stores);
            let led = match summary.leaderless {
                0 => String::new(),
                leaderless => format!("; {leaderless} WITHOUT LEADER"),
            };
            say!("regions   {}{led}", summary.regions);
            match summary.load {
                Some((reads, writes)) => say!("load      {reads} reads/s, {writes} writes/s"),
                None => say!("load      unknown: only Armilla's placement driver reports it"),
            }
        }
        if well { Ok(()) } else { Err(Failure::silent(1)) }
    }

    pub(super) async fn tso(&self, count: u32) -> Result<(), Failure> {
        let last = self.pd.tso(count).await?;
        if self.form.json {
            let first = last.0 - u64::from(count) + 1;
            return print_json(&json!({
                // Most JSON readers are exact only up to 2^53.
                "first": first.to_string(), "last": last.0.to_string(), "count": count,
                "physical_ms": last.physical_ms(), "logical": last.logical(),
            }));
        }
        say!("{} (physical {} ms, logical {})", last.0, last.physical_ms(), last.logical());
        Ok(())
    }

    /// Makes each of the keys the start of a region, and prints these regions when the placement driver knows them.
    pub(super) async fn split(&self, keys: &[String]) -> Result<(), Failure> {
        let mut keys = keys.iter().map(|key| self.form.key(key)).collect::<Result<Vec<_>, _>>()?;
        keys.sort();
        keys.dedup();
        if keys.first().is_some_and(|key| key.is_empty()) {
            return Err(Failure::usage("region split: an empty key is the start of the first region already"));
        }
        let space = self.raw.space();
        let boundaries: Vec<Bytes> = match space.api() {
            Api::V1 => keys,
            Api::V2 => {
                let of = |mode| keys.iter().map(move |key| txn_key::encode(&space.wire(mode, key)));
                of(Mode::Raw).chain(of(Mode::Txn)).collect()
            }
        };
        for boundary in &boundaries {
            self.raw.split_at(boundary).await?;
        }
        let mut found = Vec::new();
        for boundary in &boundaries {
            found.extend(self.starting_at(boundary).await?);
        }
        self.region_table(&found, &Sizes::new(), None)
    }

    /// Returns the region that starts at a key, as soon as the placement driver knows it with its leader.
    async fn starting_at(&self, key: &Bytes) -> Result<Option<RegionInfo>, Failure> {
        let mut last = None;
        for _ in 0..SPLIT_LOOKS {
            last = self.pd.get_region(key).await?.filter(|info| info.region.start_key == *key);
            if last.as_ref().is_some_and(|info| info.leader.is_some()) {
                break;
            }
            self.clock.sleep(SPLIT_LOOK).await;
        }
        Ok(last)
    }

    /// Moves a replica, and waits until the placement driver knows it at its new place.
    pub(super) async fn move_peer(&self, region: u64, from: u64, to: u64) -> Result<(), Failure> {
        if let Err(error) = self.pd.move_peer(region, from, to).await {
            let instead = format!("with TiKV: pd-ctl operator add transfer-peer {region} {from} {to}");
            return Err(self.of_own("region move", &instead, error).await);
        }
        let on = |info: &RegionInfo, store: u64| info.region.peers.iter().any(|peer| peer.store_id == store);
        let arrived = async || {
            let info = self.pd.get_region_by_id(region).await?;
            Ok::<_, Failure>(info.is_none_or(|info| on(&info, to) && !on(&info, from)))
        };
        self.until(arrived, || format!("the replica of region {region} has not arrived on store {to} yet, it goes on"))
            .await?;
        self.done(json!({ "ok": true, "region": region, "from_store": from, "to_store": to }))
    }

    /// Moves a member of the placement driver, and waits until it is there.
    pub(super) async fn move_member(&self, from: u64, to: u64) -> Result<(), Failure> {
        if let Err(error) = self.pd.move_peer(GroupId::PD.0, from, to).await {
            return Err(self
                .of_own("member move", "with PD: start another member, and delete the old one", error)
                .await);
        }
        let stores = self.pd.get_all_stores().await?;
        let address = |id: u64| stores.iter().find(|store| store.id == id).map(|store| store.address.clone());
        let (old, new) = (address(from), address(to));
        let arrived = async || {
            let (members, _) = self.pd.members().await?;
            let on = |address: &Option<String>| {
                let url = address.as_ref().map(|address| format!("http://{address}"));
                url.is_some_and(|url| members.iter().any(|member| member.client_urls.contains(&url)))
            };
            Ok::<_, Failure>(on(&new) && !on(&old))
        };
        self.until(arrived, || format!("the member has not arrived on store {to} yet, it goes on")).await?;
        self.done(json!({ "ok": true, "from_store": from, "to_store": to }))
    }

    /// Makes a region part of its neighbour, and waits until the placement driver knows that it is gone.
    pub(super) async fn merge(&self, source: u64, target: u64) -> Result<(), Failure> {
        if let Err(error) = self.pd.merge_regions(source, target).await {
            let instead = format!("with TiKV: pd-ctl operator add merge-region {source} {target}");
            return Err(self.of_own("region merge", &instead, error).await);
        }
        let gone = async || Ok::<_, Failure>(self.pd.get_region_by_id(source).await?.is_none());
        self.until(gone, || {
            format!("region {source} is not part of region {target} yet, the placement driver goes on")
        })
        .await?;
        self.done(json!({ "ok": true, "region": source, "target": target }))
    }

    /// Removes a store, and waits until it has no replica any more.
    pub(super) async fn remove_store(&self, store: u64) -> Result<(), Failure> {
        let gone = async || match self.pd.remove_store(store).await {
            Ok(regions) => Ok(regions == 0),
            Err(error) => {
                let instead = format!("with TiKV: pd-ctl store delete {store}");
                Err(self.of_own("store remove", &instead, error).await)
            }
        };
        self.until(gone, || format!("store {store} still has replicas: they go on moving away")).await?;
        self.done(json!({ "ok": true, "store": store }))
    }

    /// Takes back the removal of a store.
    pub(super) async fn take_store_back(&self, store: u64) -> Result<(), Failure> {
        if let Err(error) = self.pd.take_store_back(store).await {
            let instead = format!("with TiKV: pd-ctl store cancel-delete {store}");
            return Err(self.of_own("store remove --take-back", &instead, error).await);
        }
        self.done(json!({ "ok": true, "store": store }))
    }

    /// Looks again and again until something is so.
    pub(super) async fn until(
        &self,
        mut is_so: impl AsyncFnMut() -> Result<bool, Failure>,
        late: impl Fn() -> String,
    ) -> Result<(), Failure> {
        let until = self.clock.now().plus(self.timeout);
        while !is_so().await? {
            if self.clock.now() >= until {
                return Err(Failure::new(late()));
            }
            self.clock.sleep(SPLIT_LOOK).await;
        }
        Ok(())
    }

    pub(super) async fn transfer_leader(&self, region: u64, store: u64) -> Result<(), Failure> {
        if let Err(error) = self.pd.transfer_leader(region, store).await {
            let instead = format!("with TiKV: pd-ctl operator add transfer-leader {region} {store}");
            return Err(self.of_own("transfer-leader", &instead, error).await);
        }
        self.done(json!({ "ok": true, "region": region, "to_store": store }))
    }
}
