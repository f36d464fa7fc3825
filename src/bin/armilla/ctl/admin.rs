//! `armilla ctl settings`, `setting`, `schedulers`, `scheduler`, and changes of stores and of regions' replicas.
//!
//! Names, numbers and units come **in** as the configuration of a node has them; a change of settings goes **out**, or
//! a request to the placement driver. **Never**: success before the placement driver has taken the change.

use armilla::proto::armilla::pd::change_regions_request::Change;
use armilla::proto::armilla::pd::{
    ChangeScheduler, ChangeSettings, LocationLabels, Pause, PeerOnStore, ScatterRegions, Scheduler, SchedulerKind,
    Settings, SettingsReply, StoreSettings,
};
use clap::{Subcommand, ValueEnum};
use serde_json::{Map, Value, json};

use super::Ctl;
use super::show::{Table, print_json};
use crate::failure::Failure;

/// A setting that can be changed while the cluster runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Setting {
    /// Open orders to move leaders, per store.
    LeaderOrdersMax,
    /// Replicas that move at a time so that stores have about as many each.
    ReplicaMovesMax,
    /// Regions that become part of a neighbour at a time.
    MergesMax,
    /// Operators that spread load at a time.
    HotOperatorsMax,
    /// Seconds without a heartbeat after which a store is gone for good.
    MaxDownS,
    /// Replicas of each region.
    Replicas,
    /// Keys of the labels that say where a store is, the largest place first, with commas.
    LocationLabels,
    /// KiB of data below which a region becomes part of a neighbour; 0: never.
    MergeBelowKib,
    /// Seconds for which the ranges of two regions must not have changed before they are merged.
    MergeRestS,
}

impl Setting {
    /// Its number in the protocol.
    fn field(self) -> u32 {
        self as u32 + 1
    }

    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// Returns its value in settings, in its unit.
    fn shown(self, of: &Settings) -> Option<String> {
        let number = match self {
            Setting::LeaderOrdersMax => of.leader_orders_max,
            Setting::ReplicaMovesMax => of.replica_moves_max,
            Setting::MergesMax => of.merges_max,
            Setting::HotOperatorsMax => of.hot_operators_max,
            Setting::MaxDownS => of.max_down_ms.map(|ms| ms / 1000),
            Setting::Replicas => of.replicas,
            Setting::MergeBelowKib => of.merge_below_bytes.map(|bytes| bytes >> 10),
            Setting::MergeRestS => of.merge_rest_ms.map(|ms| ms / 1000),
            Setting::LocationLabels => return of.location_labels.as_ref().map(|labels| labels.keys.join(",")),
        };
        number.map(|number| number.to_string())
    }

    /// Returns settings with this value.
    fn set(self, value: &str) -> Result<Settings, Failure> {
        let mut set = Settings::default();
        if self == Setting::LocationLabels {
            let keys = value.split(',').map(str::trim).filter(|key| !key.is_empty()).map(str::to_owned).collect();
            set.location_labels = Some(LocationLabels { keys });
            return Ok(set);
        }
        let number: u64 = value
            .parse()
            .map_err(|_| Failure::usage(format!("{}: `{value}` is not a whole number of 0 or more", self.name())))?;
        match self {
            Setting::LeaderOrdersMax => set.leader_orders_max = Some(number),
            Setting::ReplicaMovesMax => set.replica_moves_max = Some(number),
            Setting::MergesMax => set.merges_max = Some(number),
            Setting::HotOperatorsMax => set.hot_operators_max = Some(number),
            Setting::MaxDownS => set.max_down_ms = Some(number.saturating_mul(1000)),
            Setting::Replicas => set.replicas = Some(number),
            Setting::MergeBelowKib => set.merge_below_bytes = Some(number.saturating_mul(1024)),
            Setting::MergeRestS => set.merge_rest_ms = Some(number.saturating_mul(1000)),
            Setting::LocationLabels => {}
        }
        Ok(set)
    }
}

/// Changes of settings.
#[derive(Debug, Subcommand)]
pub enum SettingCommand {
    /// Set a value for the whole cluster, in place of what the nodes' configuration says.
    Set {
        /// The name.
        #[arg(value_enum)]
        name: Setting,
        /// The value, in the unit that the name ends with.
        value: String,
    },
    /// Follow the nodes' configuration again.
    Reset {
        /// The name.
        #[arg(value_enum)]
        name: Setting,
    },
}

/// A scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Name {
    /// Spreads leaders evenly over the stores.
    BalanceLeader,
    /// Spreads replicas evenly over the stores.
    BalanceRegion,
    /// Spreads the load of hot regions.
    BalanceHotRegion,
    /// Moves all leaders away from its stores.
    EvictLeader,
    /// Moves all leaders to its stores.
    GrantLeader,
    /// Moves leaders without a reason, for tests.
    ShuffleLeader,
    /// Moves replicas without a reason, for tests.
    ShuffleRegion,
}

impl Name {
    fn kind(self) -> i32 {
        let kind = match self {
            Name::BalanceLeader => SchedulerKind::BalanceLeader,
            Name::BalanceRegion => SchedulerKind::BalanceRegion,
            Name::BalanceHotRegion => SchedulerKind::BalanceHotRegion,
            Name::EvictLeader => SchedulerKind::EvictLeader,
            Name::GrantLeader => SchedulerKind::GrantLeader,
            Name::ShuffleLeader => SchedulerKind::ShuffleLeader,
            Name::ShuffleRegion => SchedulerKind::ShuffleRegion,
        };
        kind as i32
    }

    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// Changes of schedulers.
#[derive(Debug, Subcommand)]
pub enum SchedulerCommand {
    /// Pause a scheduler: it makes no new orders.
    Pause {
        /// The scheduler.
        #[arg(value_enum)]
        name: Name,
        /// For how many seconds.
        seconds: u64,
    },
    /// End a scheduler's pause.
    Resume {
        /// The scheduler.
        #[arg(value_enum)]
        name: Name,
    },
    /// Add a scheduler, or stores to evict-leader or grant-leader.
    Add {
        /// The scheduler.
        #[arg(value_enum)]
        name: Name,
        /// The stores' ids, for evict-leader and grant-leader.
        stores: Vec<u64>,
    },
    /// Remove a scheduler, or some of its stores.
    Remove {
        /// The scheduler.
        #[arg(value_enum)]
        name: Name,
        /// The stores' ids [default: the whole scheduler]
        stores: Vec<u64>,
    },
}

/// The name of a scheduler that was received.
fn name_of(scheduler: &Scheduler) -> String {
    let all = Name::value_variants();
    all.iter().find(|name| name.kind() == scheduler.kind).map_or_else(|| "unknown".into(), |name| name.name())
}

/// Returns a weight in thousandths.
fn thousandths(weight: f64) -> Result<u32, Failure> {
    if (0.0..=1000.0).contains(&weight) {
        return Ok((weight * 1000.0).round() as u32);
    }
    Err(Failure::usage(format!("a weight of {weight}: it is from 0 to 1000, and 1 is usual")))
}

impl Ctl {
    async fn change(&self, what: &str, instead: &str, change: ChangeSettings) -> Result<SettingsReply, Failure> {
        match self.pd.change_settings(change).await {
            Ok(reply) => Ok(reply),
            Err(error) => Err(self.of_own(what, &format!("with TiKV: pd-ctl {instead}"), error).await),
        }
    }

    async fn in_force(&self, what: &str, instead: &str) -> Result<(Settings, Settings, u64), Failure> {
        let reply = self.change(what, instead, ChangeSettings::default()).await?;
        Ok((reply.set.unwrap_or_default(), reply.in_force.unwrap_or_default(), reply.wall_ms))
    }

    /// Lists the settings in force, and where each comes from.
    pub(super) async fn settings(&self) -> Result<(), Failure> {
        let (set, in_force, _) = self.in_force("settings", "config show").await?;
        let all = Setting::value_variants().iter().map(|setting| {
            (setting.name(), setting.shown(&in_force).unwrap_or_default(), setting.shown(&set).is_some())
        });
        if self.form.json {
            let one = |(name, value, set): (String, String, bool)| {
                let value = value.parse::<u64>().map_or_else(|_| Value::from(value.clone()), Value::from);
                (name, json!({ "value": value, "set": set }))
            };
            return print_json(&json!({ "settings": all.map(one).collect::<Map<_, _>>() }));
        }
        let mut table = Table::new(&["setting", "value", "from"]);
        for (name, value, set) in all {
            table.row(vec![name, value, if set { "set" } else { "configuration" }.into()]);
        }
        table.print();
        Ok(())
    }

    pub(super) async fn setting(&self, command: SettingCommand) -> Result<(), Failure> {
        let change = match &command {
            SettingCommand::Set { name, value } => {
                ChangeSettings { set: Some(name.set(value)?), ..ChangeSettings::default() }
            }
            SettingCommand::Reset { name } => ChangeSettings { reset: vec![name.field()], ..ChangeSettings::default() },
        };
        let reply = self.change("setting", "config set", change).await?;
        let (SettingCommand::Set { name, .. } | SettingCommand::Reset { name }) = command;
        let value = name.shown(&reply.in_force.unwrap_or_default());
        self.done(json!({ "ok": true, "setting": name.name(), "value": value }))
    }

    /// Lists the schedulers that exist.
    pub(super) async fn schedulers(&self) -> Result<(), Failure> {
        let (_, in_force, wall_ms) = self.in_force("schedulers", "scheduler show").await?;
        let paused_s = |one: &Scheduler| one.paused_until_ms.saturating_sub(wall_ms).div_ceil(1000);
        if self.form.json {
            let one =
                |one: &Scheduler| json!({ "name": name_of(one), "paused_s": paused_s(one), "stores": one.stores });
            let all: Vec<Value> = in_force.schedulers.iter().map(one).collect();
            return print_json(&json!({ "schedulers": all }));
        }
        let mut table = Table::new(&["scheduler", "state", "stores"]);
        for one in &in_force.schedulers {
            let stores: Vec<String> = one.stores.iter().map(u64::to_string).collect();
            let state = match paused_s(one) {
                0 => "runs".to_owned(),
                seconds => format!("paused for {seconds} s"),
            };
            table.row(vec![name_of(one), state, if stores.is_empty() { "all".into() } else { stores.join(" ") }]);
        }
        table.print();
        Ok(())
    }

    pub(super) async fn scheduler(&self, command: SchedulerCommand) -> Result<(), Failure> {
        let change = match command {
            SchedulerCommand::Pause { name, seconds } => {
                let (_, _, wall_ms) = self.in_force("scheduler pause", "scheduler pause").await?;
                let until_ms = wall_ms.saturating_add(seconds.saturating_mul(1000));
                let pause = Some(Pause { at_ms: wall_ms, until_ms });
                ChangeScheduler { kind: name.kind(), pause, ..ChangeScheduler::default() }
            }
            SchedulerCommand::Resume { name } => {
                let pause = Some(Pause::default());
                ChangeScheduler { kind: name.kind(), pause, ..ChangeScheduler::default() }
            }
            SchedulerCommand::Add { name, stores } => {
                ChangeScheduler { kind: name.kind(), exists: Some(true), stores, pause: None }
            }
            SchedulerCommand::Remove { name, stores } => {
                ChangeScheduler { kind: name.kind(), exists: Some(false), stores, pause: None }
            }
        };
        self.change_scheduler("scheduler", "scheduler", change).await?;
        self.done(json!({ "ok": true }))
    }

    async fn change_scheduler(&self, what: &str, instead: &str, change: ChangeScheduler) -> Result<(), Failure> {
        let change = ChangeSettings { schedulers: vec![change], ..ChangeSettings::default() };
        self.change(what, instead, change).await.map(|_| ())
    }

    /// Moves all leaders away from a store and keeps them away; waits until it leads nothing.
    pub(super) async fn drain(&self, store: u64) -> Result<(), Failure> {
        let evict = SchedulerKind::EvictLeader as i32;
        let change = ChangeScheduler { kind: evict, exists: Some(true), stores: vec![store], pause: None };
        let instead = format!("scheduler add evict-leader-scheduler {store}");
        self.change_scheduler("store drain", &instead, change).await?;
        let empty = async || {
            let overview = self.overview().await?.unwrap_or_default();
            let mut stores = overview.stores.iter();
            let own = stores.find(|one| one.store.as_ref().is_some_and(|one| one.id == store));
            Ok(own.is_none_or(|own| own.leaders == 0))
        };
        self.until(empty, || format!("store {store} still leads regions: it gets no more, and they go on moving away"))
            .await?;
        self.done(json!({ "ok": true, "store": store }))
    }

    /// Lets a store lead regions again.
    pub(super) async fn undrain(&self, store: u64) -> Result<(), Failure> {
        let evict = SchedulerKind::EvictLeader as i32;
        let change = ChangeScheduler { kind: evict, exists: Some(false), stores: vec![store], pause: None };
        let instead = format!("scheduler remove evict-leader-scheduler-{store}");
        self.change_scheduler("store undrain", &instead, change).await?;
        self.done(json!({ "ok": true, "store": store }))
    }

    /// Declares a store lost for good; its replicas are added elsewhere at once.
    pub(super) async fn replace_store(&self, lost: u64, by: u64) -> Result<(), Failure> {
        match self.pd.replace_store(lost, by).await {
            Ok(regions) => self.done(json!({ "ok": true, "lost": lost, "by": by, "regions": regions })),
            Err(error) => {
                Err(self.of_own("store replace", &format!("with TiKV: pd-ctl store delete {lost}"), error).await)
            }
        }
    }

    /// Sets what a store has of its own.
    async fn own(&self, what: &str, instead: &str, own: StoreSettings) -> Result<(), Failure> {
        let set = Settings { stores: vec![own], ..Settings::default() };
        self.change(what, instead, ChangeSettings { set: Some(set), ..ChangeSettings::default() }).await?;
        self.done(json!({ "ok": true, "store": own.store_id }))
    }

    pub(super) async fn weigh(&self, store: u64, leader: Option<f64>, region: Option<f64>) -> Result<(), Failure> {
        let (leader_weight, region_weight) =
            (leader.map(thousandths).transpose()?, region.map(thousandths).transpose()?);
        let own = StoreSettings { store_id: store, leader_weight, region_weight, ..StoreSettings::default() };
        self.own("store weight", &format!("store weight {store} 1 1"), own).await
    }

    pub(super) async fn limit(&self, store: u64, add: Option<u64>, remove: Option<u64>) -> Result<(), Failure> {
        let own = StoreSettings {
            store_id: store,
            add_peer_per_minute: add,
            remove_peer_per_minute: remove,
            ..StoreSettings::default()
        };
        self.own("store limit", &format!("store limit {store} 15"), own).await
    }

    async fn change_regions(&self, what: &str, instead: &str, change: Change) -> Result<Vec<u64>, Failure> {
        match self.pd.change_regions(change).await {
            Ok(failed) => Ok(failed),
            Err(error) => Err(self.of_own(what, &format!("with TiKV: pd-ctl operator add {instead}"), error).await),
        }
    }

    /// Returns whether a region has a voter, or any peer, on a store; `None` if the region is gone.
    async fn peer_on(&self, region: u64, store: u64) -> Result<Option<(bool, bool)>, Failure> {
        let info = self.pd.get_region_by_id(region).await?;
        Ok(info.map(|info| {
            let peer = info.region.peers.iter().find(|peer| peer.store_id == store);
            (peer.is_some_and(|peer| peer.role == 0), peer.is_some())
        }))
    }

    /// Adds a replica, and waits until it votes.
    pub(super) async fn add_peer(&self, region_id: u64, store_id: u64) -> Result<(), Failure> {
        let instead = format!("add-peer {region_id} {store_id}");
        self.change_regions("region add-peer", &instead, Change::AddPeer(PeerOnStore { region_id, store_id })).await?;
        let there = async || Ok(self.peer_on(region_id, store_id).await?.is_none_or(|(votes, _)| votes));
        self.until(there, || format!("region {region_id} has no replica on store {store_id} yet, it goes on")).await?;
        self.done(json!({ "ok": true, "region": region_id, "store": store_id }))
    }

    /// Removes a replica, and waits until it is gone.
    pub(super) async fn remove_peer(&self, region_id: u64, store_id: u64) -> Result<(), Failure> {
        let instead = format!("remove-peer {region_id} {store_id}");
        let change = Change::RemovePeer(PeerOnStore { region_id, store_id });
        self.change_regions("region remove-peer", &instead, change).await?;
        let gone = async || Ok(self.peer_on(region_id, store_id).await?.is_none_or(|(_, here)| !here));
        self.until(gone, || format!("region {region_id} still has its replica on store {store_id}, it goes on"))
            .await?;
        self.done(json!({ "ok": true, "region": region_id, "store": store_id }))
    }

    /// Spreads regions over the stores.
    pub(super) async fn scatter(&self, region_ids: Vec<u64>, group: String) -> Result<(), Failure> {
        let (count, instead) = (region_ids.len(), format!("scatter-region {}", region_ids[0]));
        let change = Change::Scatter(ScatterRegions { region_ids, group });
        let failed = self.change_regions("region scatter", &instead, change).await?;
        if failed.is_empty() {
            return self.done(json!({ "ok": true, "regions": count }));
        }
        let text: Vec<String> = failed.iter().map(u64::to_string).collect();
        Err(Failure::new(format!(
            "{} of {count} regions cannot be scattered now: {}; they do not exist, have no leader, or are being changed",
            failed.len(),
            text.join(" ")
        )))
    }
}

#[cfg(test)]
mod tests {
    //! Goal: names and units are those of the configuration. Method: each setting there and back.
    use super::*;

    #[test]
    fn settings_are_read_in_the_unit_in_which_they_are_shown() {
        for (at, setting) in (1..).zip(Setting::value_variants()) {
            assert_eq!(setting.field(), at);
            let value = if *setting == Setting::LocationLabels { "zone,host" } else { "7" };
            let set = setting.set(value).unwrap();
            assert_eq!(setting.shown(&set).as_deref(), Some(value), "{}", setting.name());
            let others = Setting::value_variants().iter().filter(|other| *other != setting);
            assert!(others.into_iter().all(|other| other.shown(&set).is_none()));
        }
        assert!(Setting::Replicas.set("three").is_err());
        assert_eq!(Setting::MaxDownS.name(), "max_down_s");
    }

    #[test]
    fn weights_are_thousandths() {
        assert_eq!((thousandths(0.5).ok(), thousandths(1.0).ok()), (Some(500), Some(1000)));
        assert!(thousandths(-1.0).is_err() && thousandths(1001.0).is_err() && thousandths(f64::NAN).is_err());
    }
}
