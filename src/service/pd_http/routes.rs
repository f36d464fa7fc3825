//! The table of PD's HTTP interface: what Armilla answers, and what it does not have yet.
//!
//! A method and a path come **in**; a row of the table and the variable parts of the path go **out**. **Never**: 404
//! for a path that PD has: a tool would take the thing asked for as absent, not the call.

use bytes::Bytes;

use super::answer::{Answer, Answered};
use super::change::Change;
use super::request::{Request, percent_decoded};
use super::settings::Scope;
use super::{checkers, checks, config, hotspots, keyspaces, members, operators, regions, schedulers, stores};
use crate::pd::view::View;

/// A call that reads.
pub(super) type Read = fn(&View, &Request) -> Answered;

/// What is done for a call.
#[derive(Clone, Copy)]
pub(super) enum Call {
    /// Answered from the leader's view.
    Read(Read),
    /// The same, once there are stores and regions.
    ReadCluster(Read),
    /// Changes something.
    Change(Change),
    /// Answered by any node.
    Ping,
    /// Not built yet, with what a person should know.
    Unbuilt(&'static str),
}

/// A row: method, path with `*` for each variable part, and the call.
type Row = (&'static str, &'static str, Call);

const NO_FLOWS: &str = "Armilla does not measure the CPU time of a region yet: regions/readquery, regions/readflow and \
                        regions/writeflow have what it measures";
const NO_HISTORY: &str =
    "Armilla does not keep the loads of the past: hotspot/regions/read and hotspot/regions/write have those of now";
const NO_SETTINGS: &str = "Armilla's placement driver does not have this part of PD's configuration: see config/schedule and \
                           config/replicate, and the configuration of its nodes, which the page /config shows";
const NO_LABELS: &str = "Armilla has labels of stores, but neither labels of regions nor properties of labels yet";
const NO_RULES: &str = "Armilla has one placement rule: its number of replicas is max-replicas in config/replicate";
const NO_CONFIGS: &str =
    "Armilla's schedulers have no configurations of their own but the stores of evict-leader and grant-leader";
const NO_SCENES: &str = "Armilla's limits of stores do not depend on how busy the cluster is: see stores/limit";
const NO_SCATTER: &str = "Armilla does not hurry up for a range of keys: regions/scatter spreads regions at once";
const NO_RECOVERY: &str = "Armilla does not recover regions that lost most of their replicas yet";
const NO_MARKERS: &str = "Armilla's placement driver has no part in backups yet";
const NO_PROFILES: &str = "Armilla has no profiles of PD's form: see the page /metrics";
const NO_PRIORITIES: &str = "Armilla's members of the placement driver have no priorities yet";
const NO_PENDING: &str = "Armilla's leaders do not report which of their followers are behind yet";
const NO_SIZES: &str = "Armilla's placement driver does not know when a region is too large: its leader splits it";
const NO_TIMESTAMPS: &str = "Armilla has no resolved timestamps before it has transactions";
const NO_CACHE: &str = "Armilla's placement driver keeps regions in its replicated state: there is no copy to delete";

#[rustfmt::skip]
const ROWS: &[Row] = {
    use Call::{Change as Do, Ping, Read as Of, ReadCluster as Clustered, Unbuilt as No};
    &[
        ("GET", "ping", Ping),
        // The placement driver itself.
        ("GET", "members", Of(members::members)),
        ("DELETE", "members/name/*", Of(members::remove_by_name)),
        ("POST", "members/name/*", No(NO_PRIORITIES)),
        ("DELETE", "members/id/*", Of(members::remove_by_id)),
        ("GET", "leader", Of(members::leader)),
        ("POST", "leader/resign", Do(Change::Resign)),
        ("POST", "leader/transfer/*", Do(Change::TransferMember)),
        ("GET", "health", Of(members::health)),
        ("GET", "version", Of(members::version)),
        ("GET", "status", Of(members::status)),
        ("GET", "cluster", Of(members::cluster)),
        ("GET", "cluster/status", Of(members::cluster_status)),
        // Stores.
        ("GET", "stores", Clustered(stores::all)),
        ("GET", "stores/check", Clustered(stores::by_state)),
        ("GET", "stores/limit", Clustered(stores::limits)),
        ("POST", "stores/limit", Do(Change::LimitAll)),
        ("GET", "stores/limit/scene", No(NO_SCENES)),
        ("POST", "stores/limit/scene", No(NO_SCENES)),
        ("GET", "stores/progress", Clustered(stores::progress)),
        ("DELETE", "stores/remove-tombstone", Do(Change::ForgetStores)),
        ("GET", "store/*", Clustered(stores::one)),
        ("DELETE", "store/*", Do(Change::RemoveStore)),
        ("POST", "store/*/state", Do(Change::StoreState)),
        ("POST", "store/*/label", Do(Change::SetLabels)),
        ("DELETE", "store/*/label", Do(Change::DeleteLabel)),
        ("POST", "store/*/weight", Do(Change::Weigh)),
        ("POST", "store/*/limit", Do(Change::Limit)),
        ("GET", "labels", Clustered(stores::labels)),
        ("GET", "labels/stores", Clustered(stores::by_label)),
        // Regions.
        ("GET", "region/id/*", Clustered(regions::by_id)),
        ("GET", "region/key/*", Clustered(regions::by_key)),
        ("GET", "region/id/*/labels", No(NO_LABELS)),
        ("GET", "region/id/*/label/*", No(NO_LABELS)),
        ("GET", "regions", Clustered(regions::all)),
        ("GET", "regions/count", Clustered(regions::count)),
        ("GET", "regions/key", Clustered(regions::scan)),
        ("GET", "regions/store/*", Clustered(regions::of_store)),
        ("GET", "regions/sibling/*", Clustered(regions::siblings)),
        ("GET", "regions/keyspace/id/*", Clustered(keyspaces::regions)),
        ("GET", "regions/size", Clustered(regions::largest)),
        ("GET", "regions/keys", Clustered(regions::fullest)),
        ("GET", "regions/confver", Clustered(regions::most_moved)),
        ("GET", "regions/version", Clustered(regions::most_split)),
        ("GET", "regions/writeflow", Clustered(regions::most_written)),
        ("GET", "regions/writequery", Clustered(regions::most_writes)),
        ("GET", "regions/readquery", Clustered(regions::most_reads)),
        ("GET", "regions/readflow", Clustered(regions::most_read)),
        ("GET", "regions/cpu", No(NO_FLOWS)),
        ("GET", "regions/check/miss-peer", Clustered(checks::miss_peer)),
        ("GET", "regions/check/extra-peer", Clustered(checks::extra_peer)),
        ("GET", "regions/check/pending-peer", No(NO_PENDING)),
        ("GET", "regions/check/down-peer", Clustered(checks::down_peer)),
        ("GET", "regions/check/learner-peer", Clustered(checks::learner_peer)),
        ("GET", "regions/check/offline-peer", Clustered(checks::offline_peer)),
        ("GET", "regions/check/empty-region", Clustered(checks::empty)),
        ("GET", "regions/check/oversized-region", No(NO_SIZES)),
        ("GET", "regions/check/undersized-region", Clustered(checks::undersized)),
        ("GET", "regions/check/hist-size", Clustered(checks::sizes)),
        ("GET", "regions/check/hist-keys", Clustered(checks::key_counts)),
        ("GET", "regions/range-holes", Clustered(checks::holes)),
        ("GET", "regions/replicated", Clustered(checks::replicated)),
        ("POST", "regions/split", Do(Change::Split)),
        ("POST", "regions/scatter", Do(Change::Scatter)),
        ("POST", "regions/accelerate-schedule", No(NO_SCATTER)),
        ("POST", "regions/accelerate-schedule/batch", No(NO_SCATTER)),
        ("GET", "stats/region", Clustered(checks::sums)),
        ("DELETE", "admin/cache/region/*", No(NO_CACHE)),
        ("DELETE", "admin/cache/regions", No(NO_CACHE)),
        ("DELETE", "admin/storage/region/*", No(NO_CACHE)),
        // Operators and schedulers.
        ("GET", "operators", Clustered(operators::list)),
        ("POST", "operators", Do(Change::BeginOperator)),
        ("DELETE", "operators", Do(Change::CancelOperators)),
        ("GET", "operators/records", Clustered(operators::records)),
        ("GET", "operators/*", Clustered(operators::of_region)),
        ("DELETE", "operators/*", Do(Change::CancelOperator)),
        ("GET", "schedulers", Clustered(schedulers::list)),
        ("POST", "schedulers", Do(Change::AddScheduler)),
        ("DELETE", "schedulers/*", Do(Change::RemoveScheduler)),
        ("POST", "schedulers/*", Do(Change::PauseScheduler)),
        ("GET", "schedulers/diagnostic/*", Clustered(schedulers::diagnosis)),
        ("GET", "scheduler-config", No(NO_CONFIGS)),
        ("GET", "scheduler-config/*", No(NO_CONFIGS)),
        ("GET", "scheduler-config/*/list", Clustered(schedulers::config)),
        ("GET", "scheduler-config/*/roles", Clustered(schedulers::roles)),
        ("POST", "scheduler-config/*/roles", No(NO_CONFIGS)),
        ("POST", "scheduler-config/*/config", Do(Change::ConfigureScheduler)),
        ("DELETE", "scheduler-config/*/delete/*", Do(Change::TakeFromScheduler)),
        ("GET", "checker/*", Clustered(checkers::one)),
        ("POST", "checker/*", Do(Change::PauseChecker)),
        // Configuration.
        ("GET", "config", Of(config::all)),
        ("POST", "config", Do(Change::Configure(Scope::All))),
        ("GET", "config/default", No(NO_SETTINGS)),
        ("GET", "config/schedule", Of(config::scheduling)),
        ("POST", "config/schedule", Do(Change::Configure(Scope::Schedule))),
        ("GET", "config/pd-server", No(NO_SETTINGS)),
        ("GET", "config/replicate", Of(config::replicate)),
        ("POST", "config/replicate", Do(Change::Configure(Scope::Replicate))),
        ("GET", "config/label-property", Of(config::nothing)),
        ("POST", "config/label-property", No(NO_LABELS)),
        ("GET", "config/cluster-version", Of(config::cluster_version)),
        ("POST", "config/cluster-version", No(NO_SETTINGS)),
        ("GET", "config/replication-mode", Of(config::replication_mode)),
        ("POST", "config/replication-mode", No(NO_SETTINGS)),
        ("GET", "config/rules", Clustered(config::rules)),
        ("POST", "config/rules", No(NO_RULES)),
        ("POST", "config/rules/batch", No(NO_RULES)),
        ("GET", "config/rules/group/*", Clustered(config::rules_of_group)),
        ("GET", "config/rules/region/*", Clustered(config::rules_of_region)),
        ("GET", "config/rules/region/*/detail", No(NO_RULES)),
        ("GET", "config/rules/key/*", Clustered(config::rules_of_key)),
        ("GET", "config/rule/*/*", Clustered(config::one_rule)),
        ("POST", "config/rule", No(NO_RULES)),
        ("DELETE", "config/rule/*/*", No(NO_RULES)),
        ("GET", "config/rule_group/*", No(NO_RULES)),
        ("POST", "config/rule_group", No(NO_RULES)),
        ("DELETE", "config/rule_group/*", No(NO_RULES)),
        ("GET", "config/rule_groups", Clustered(config::groups)),
        ("GET", "config/placement-rule", Clustered(config::bundles)),
        ("POST", "config/placement-rule", No(NO_RULES)),
        ("GET", "config/placement-rule/*", Clustered(config::one_bundle)),
        ("POST", "config/placement-rule/*", No(NO_RULES)),
        ("DELETE", "config/placement-rule/*", No(NO_RULES)),
        ("GET", "config/region-label/rules", No(NO_LABELS)),
        ("PATCH", "config/region-label/rules", No(NO_LABELS)),
        ("GET", "config/region-label/rules/ids", No(NO_LABELS)),
        ("GET", "config/region-label/rule/*", No(NO_LABELS)),
        ("POST", "config/region-label/rule", No(NO_LABELS)),
        ("DELETE", "config/region-label/rule/*", No(NO_LABELS)),
        ("GET", "service-middleware/config", No(NO_SETTINGS)),
        ("POST", "service-middleware/config", No(NO_SETTINGS)),
        ("POST", "service-middleware/config/rate-limit", No(NO_SETTINGS)),
        ("POST", "service-middleware/config/grpc-rate-limit", No(NO_SETTINGS)),
        ("POST", "admin/log", No(NO_SETTINGS)),
        // Load.
        ("GET", "hotspot/regions/write", Clustered(hotspots::hot_writes)),
        ("GET", "hotspot/regions/read", Clustered(hotspots::hot_reads)),
        ("GET", "hotspot/regions/history", No(NO_HISTORY)),
        ("GET", "hotspot/stores", Clustered(hotspots::stores)),
        ("GET", "hotspot/buckets", Clustered(config::nothing)),
        ("GET", "trend", No(NO_HISTORY)),
        ("GET", "metric/query", No(NO_PROFILES)),
        ("POST", "metric/query", No(NO_PROFILES)),
        ("GET", "metric/query_range", No(NO_PROFILES)),
        ("POST", "metric/query_range", No(NO_PROFILES)),
        ("GET", "debug/pprof/*", No(NO_PROFILES)),
        // Timestamps, backups, disasters, the rest.
        ("GET", "gc/safepoint", Of(members::safe_point)),
        ("DELETE", "gc/safepoint/*", Do(Change::RemoveSafePoint)),
        ("GET", "min-resolved-ts", No(NO_TIMESTAMPS)),
        ("GET", "min-resolved-ts/*", No(NO_TIMESTAMPS)),
        ("POST", "tso/allocator/transfer/*", No("Armilla has one allocator of timestamps")),
        ("POST", "admin/reset-ts", No(NO_MARKERS)),
        ("POST", "admin/base-alloc-id", No(NO_MARKERS)),
        ("POST", "admin/persist-file/*", No(NO_MARKERS)),
        ("GET", "admin/cluster/markers/snapshot-recovering", No(NO_MARKERS)),
        ("POST", "admin/cluster/markers/snapshot-recovering", No(NO_MARKERS)),
        ("DELETE", "admin/cluster/markers/snapshot-recovering", No(NO_MARKERS)),
        ("POST", "admin/unsafe/remove-failed-stores", No(NO_RECOVERY)),
        ("GET", "admin/unsafe/remove-failed-stores/show", Clustered(config::no_recovery)),
        ("GET", "replication_mode/status", Of(config::replication_status)),
        ("POST", "plugin", No("Armilla has no plugins")),
        ("DELETE", "plugin", No("Armilla has no plugins")),
    ]
};

/// The rows of version 2.
#[rustfmt::skip]
const ROWS_2: &[Row] = {
    use Call::{Change as Do, ReadCluster as Clustered};
    &[
        ("GET", "keyspaces", Clustered(keyspaces::all)),
        ("POST", "keyspaces", Do(Change::CreateKeyspace)),
        ("GET", "keyspaces/*", Clustered(keyspaces::by_name)),
        ("GET", "keyspaces/id/*", Clustered(keyspaces::by_id)),
        ("PUT", "keyspaces/*/state", Do(Change::KeyspaceState)),
        ("PATCH", "keyspaces/*/config", Do(Change::ConfigureKeyspace)),
    ]
};

/// The beginning of the paths of version 1 of PD's interface.
pub(super) const PREFIX: &str = "/pd/api/v1/";
/// The beginning of the paths of version 2.
const PREFIX_2: &str = "/pd/api/v2/";

/// Returns the call for a method and a path, as they were received, and the variable parts of the path.
///
/// # Errors
/// Returns the answer, if no call is needed for it.
pub(super) fn find(method: &str, path: &str) -> Result<(Call, Vec<Bytes>), Answer> {
    let (rows, rest) = match (path.strip_prefix(PREFIX), path.strip_prefix(PREFIX_2)) {
        (Some(rest), _) => (ROWS, rest),
        (None, Some(rest)) if rest.starts_with("keyspaces") => (ROWS_2, rest),
        (None, Some(_)) => {
            return Err(Answer::unbuilt("Armilla has nothing but keyspaces of version 2 of PD's HTTP interface yet"));
        }
        (None, None) => return Err(Answer::not_found()),
    };
    // A slash in a key is encoded, so parts are separated before they are decoded.
    let parts: Vec<&str> = rest.split('/').collect();
    let plus = parts.starts_with(&["region", "key"]);
    let decoded = |part: &&str| percent_decoded(part.as_bytes(), plus);
    let parts: Option<Vec<Bytes>> = parts.iter().map(decoded).collect();
    let parts = parts.ok_or_else(Answer::bad_address)?;
    // Paths that are written out come first: `operators/records` is no region.
    let mut of_path: Vec<&Row> = rows.iter().filter(|(_, pattern, _)| fits(pattern, &parts)).collect();
    of_path.sort_by_key(|(_, pattern, _)| pattern.matches('*').count());
    let Some((_, pattern, _)) = of_path.first() else { return Err(Answer::not_found()) };
    let row = of_path.iter().find(|(other, same, _)| *other == method && same == pattern);
    let (_, pattern, call) = row.ok_or_else(Answer::not_allowed)?;
    if let Call::Unbuilt(why) = call {
        return Err(Answer::unbuilt(why));
    }
    let variable = pattern.split('/').zip(parts).filter(|(name, _)| *name == "*");
    Ok((*call, variable.map(|(_, part)| part).collect()))
}

/// Returns whether a path fits a pattern.
fn fits(pattern: &str, parts: &[Bytes]) -> bool {
    let names: Vec<&str> = pattern.split('/').collect();
    let same = |(name, part): (&&str, &Bytes)| if *name == "*" { !part.is_empty() } else { name.as_bytes() == part };
    names.len() == parts.len() && names.iter().zip(parts).all(same)
}

#[cfg(test)]
mod tests {
    //! Goal: each path of PD leads somewhere, and nothing else does. Method: the table, and paths by hand.

    use super::*;

    fn refusal(method: &str, path: &str) -> u16 {
        find(method, path).err().map_or(0, |answer| answer.status)
    }

    #[test]
    fn paths_are_found_by_their_parts() {
        let params = |path: &str| find("GET", &format!("{PREFIX}{path}")).ok().unwrap().1;
        assert_eq!(params("store/7"), ["7"]);
        assert_eq!(params("region/key/rk6%00%FA")[0], &b"rk6\x00\xfa"[..]);
        assert_eq!(params("region/key/a%2Fb+c"), ["a/b c"]);
        assert_eq!(params("config/rule/pd/default"), ["pd", "default"]);
        assert!(params("operators/records").is_empty(), "no region");
        assert!(params("regions").is_empty());
    }

    #[test]
    fn other_paths_and_methods_are_refused_as_pd_does() {
        for path in ["", "nothing", "stores/", "region/id/", "region/key/a/b", "/stores", "regions/check/foo"] {
            assert_eq!(refusal("GET", &format!("{PREFIX}{path}")), 404, "{path}");
        }
        for path in ["/pd/api/v1", "/pd/", "/pd/api/v3/x"] {
            assert_eq!(refusal("GET", path), 404, "{path}");
        }
        assert_eq!(refusal("GET", "/pd/api/v2/tso/keyspace-groups"), 501);
        assert_eq!((refusal("GET", "/pd/api/v2/keyspaces"), refusal("GET", "/pd/api/v2/keyspaces/a/b")), (0, 404));
        for (method, path) in [("POST", "stores"), ("HEAD", "stores"), ("GET", "regions/split"), ("PUT", "operators")] {
            assert_eq!(refusal(method, &format!("{PREFIX}{path}")), 405, "{method} {path}");
        }
        assert_eq!(refusal("GET", "/pd/api/v1/region/key/%zz"), 400);
        assert_eq!(refusal("GET", "/pd/api/v1/trend"), 501);
    }

    #[test]
    fn every_row_is_reached() {
        let of = |rows: &'static [Row], prefix| rows.iter().map(move |row| (prefix, row));
        for (prefix, (method, pattern, call)) in of(ROWS, PREFIX).chain(of(ROWS_2, PREFIX_2)) {
            let path = format!("{prefix}{}", pattern.replace('*', "7"));
            match (find(method, &path), call) {
                (Err(answer), Call::Unbuilt(why)) => {
                    assert_eq!(answer, Answer::unbuilt(why), "{method} {pattern}");
                    assert!(why.starts_with("Armilla") && why.is_ascii(), "{why}");
                }
                (Ok((_, params)), _) => assert_eq!(params.len(), pattern.matches('*').count(), "{method} {pattern}"),
                (Err(answer), _) => panic!("{method} {pattern}: {answer:?}"),
            }
        }
    }
}
