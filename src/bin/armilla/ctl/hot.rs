//! `armilla ctl hot`: the load of each store, and the regions that have most of it.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use armilla::proto::armilla::pd::{OverviewReply, RegionLoad};
use clap::ValueEnum;
use serde_json::{Value, json};

use super::Ctl;
use super::show::{self, Table, print_json};
use crate::failure::Failure;

/// A region is hot after this many reports in a row with much load.
const HITS: u32 = 3;

/// By what regions are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum By {
    /// Requests per second.
    Queries,
    /// Bytes per second.
    Bytes,
    /// Keys per second.
    Keys,
}

/// Reads or writes of a region on a store, per second.
#[derive(Clone, Copy, Debug, Default)]
struct Rate {
    queries: u64,
    keys: u64,
    bytes: u64,
}

impl Rate {
    fn of(load: &RegionLoad, writes: bool) -> Rate {
        match writes {
            false => Rate { queries: load.reads, keys: load.read_keys, bytes: load.read_bytes },
            true => Rate { queries: load.writes, keys: load.written_keys, bytes: load.written_bytes },
        }
    }

    fn by(self, by: By) -> u64 {
        match by {
            By::Queries => self.queries,
            By::Bytes => self.bytes,
            By::Keys => self.keys,
        }
    }
}

/// What one store bears: the sum, and its busiest regions.
#[derive(Debug, Default)]
struct Store<'o> {
    sum: Rate,
    regions: Vec<(&'o RegionLoad, Rate)>,
}

/// Returns what each store bears of reads or writes, with at most `limit` regions.
fn stores(overview: &OverviewReply, writes: bool, by: By, limit: usize) -> BTreeMap<u64, Store<'_>> {
    let all = overview.stores.iter().filter_map(|store| store.store.as_ref());
    let mut stores: BTreeMap<u64, Store<'_>> = all.map(|store| (store.id, Store::default())).collect();
    for load in &overview.loads {
        let rate = Rate::of(load, writes);
        if rate.queries == 0 {
            continue;
        }
        let store = stores.entry(load.store_id).or_default();
        store.sum.queries += rate.queries;
        store.sum.keys += rate.keys;
        store.sum.bytes += rate.bytes;
        store.regions.push((load, rate));
    }
    for store in stores.values_mut() {
        store.regions.sort_by_key(|(load, rate)| (Reverse(rate.by(by)), load.region_id));
        store.regions.truncate(limit);
    }
    stores
}

impl Ctl {
    pub(super) async fn hot(&self, limit: usize, by: By) -> Result<(), Failure> {
        let Some(overview) = self.overview().await? else {
            let why = "hot is a call that only Armilla has, and this cluster (TiKV?) does not";
            return Err(Failure::new(why).hint("with TiKV: pd-ctl hot read, pd-ctl hot write"));
        };
        if self.form.json {
            return print_json(&json!({
                "reads": document(&overview, false, by, limit),
                "writes": document(&overview, true, by, limit),
                "leaders_moved": overview.hot_leaders_moved,
                "replicas_moved": overview.hot_replicas_moved,
            }));
        }
        for (title, writes) in [("reads", false), ("writes", true)] {
            let mut table = Table::new(&["store", title, "hot", "queries/s", "keys/s", "per second"]);
            for (id, store) in stores(&overview, writes, by, limit) {
                table.row(cells(id.to_string(), "all regions".into(), "", store.sum));
                for (load, rate) in &store.regions {
                    let replica = if load.leads { "" } else { " (replica)" };
                    let hot = if hits(load, writes) >= HITS { "yes" } else { "" };
                    table.row(cells(String::new(), format!("region {}{replica}", load.region_id), hot, *rate));
                }
            }
            table.print();
        }
        say!("moved by load: {} leaders, {} replicas", overview.hot_leaders_moved, overview.hot_replicas_moved);
        Ok(())
    }
}

fn hits(load: &RegionLoad, writes: bool) -> u32 {
    if writes { load.write_hits } else { load.read_hits }
}

fn cells(store: String, what: String, hot: &str, rate: Rate) -> Vec<String> {
    vec![store, what, hot.to_owned(), rate.queries.to_string(), rate.keys.to_string(), show::bytes(rate.bytes)]
}

fn document(overview: &OverviewReply, writes: bool, by: By, limit: usize) -> Value {
    let rate = |rate: Rate| json!({ "queries": rate.queries, "keys": rate.keys, "bytes": rate.bytes });
    let region = |(load, of): &(&RegionLoad, Rate)| {
        let mut value = rate(*of);
        value["region"] = load.region_id.into();
        value["leads"] = load.leads.into();
        value["hot"] = (hits(load, writes) >= HITS).into();
        value
    };
    let store = |(id, store): (u64, Store<'_>)| {
        let mut value = rate(store.sum);
        value["store"] = id.into();
        value["regions"] = store.regions.iter().map(region).collect();
        value
    };
    stores(overview, writes, by, limit).into_iter().map(store).collect()
}

#[cfg(test)]
mod tests {
    //! Goal: the busiest regions of each store are listed, within the limit. Method: loads made by hand.
    use super::*;

    #[test]
    fn the_busiest_come_first() {
        let load = |region_id, store_id, reads, read_bytes| RegionLoad {
            region_id,
            store_id,
            leads: true,
            reads,
            read_bytes,
            ..RegionLoad::default()
        };
        let loads = vec![load(7, 1, 10, 900), load(8, 1, 30, 100), load(9, 1, 20, 200), load(5, 2, 0, 0)];
        let overview = OverviewReply { loads, ..OverviewReply::default() };
        let listed = |by| -> Vec<u64> {
            stores(&overview, false, by, 2)[&1].regions.iter().map(|(load, _)| load.region_id).collect()
        };
        assert_eq!((listed(By::Queries), listed(By::Bytes)), (vec![8, 9], vec![7, 9]));
        let found = stores(&overview, false, By::Queries, 2);
        assert_eq!((found[&1].sum.queries, found[&1].sum.bytes, found.len()), (60, 1200, 1));
        assert!(stores(&overview, true, By::Keys, 2).is_empty());
    }
}
