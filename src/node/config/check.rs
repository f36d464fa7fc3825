//! Checks of a configuration.

use crate::pd::LABEL_REPLACED_BY;
use crate::types::limits::{
    FIRST_REGIONS_MAX, LOCATION_LABELS_MAX, SEPARATE_BYTES_MIN, SPLIT_KEYS_BYTES_MAX, STORE_LABEL_BYTES_MAX,
    STORE_LABELS_MAX,
};
use crate::types::{Api, version};

use super::{Config, ConfigError, MIB_MAX};

fn refuse<T>(text: impl Into<String>) -> Result<T, ConfigError> {
    Err(ConfigError(text.into()))
}

/// Returns the candidate closest to `word`, if any is similar.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let similarity = |candidate: &str| strsim::jaro_winkler(&word.to_lowercase(), candidate);
    let scored = candidates.into_iter().map(|candidate| (similarity(candidate), candidate));
    scored.filter(|(score, _)| *score > 0.7).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, candidate)| candidate)
}

/// Rejects unknown keys.
pub(super) fn known_keys(table: &toml::Table, source: &str) -> Result<(), ConfigError> {
    // An example with every key, including the optional ones.
    let example = Config {
        advertise_addr: Some(String::new()),
        join: Some(String::new()),
        disk_reserve_mib: Some(0),
        api_version: Some(1),
        ..Config::default()
    };
    let example = toml::Table::try_from(example).expect("every field has a TOML form");
    known_in(table, &example, "", source, &example)
}

fn known_in(
    table: &toml::Table,
    example: &toml::Table,
    section: &str,
    source: &str,
    all: &toml::Table,
) -> Result<(), ConfigError> {
    for (key, value) in table {
        let path = format!("{section}{key}");
        match (example.get(key), value) {
            (Some(toml::Value::Table(inner)), toml::Value::Table(given)) => {
                known_in(given, inner, &format!("{path}."), source, all)?;
            }
            (Some(toml::Value::Table(_)), _) => {
                return refuse(format!("{source}: `{path}` is a section: write [{path}]"));
            }
            (Some(_), _) => {}
            (None, _) => {
                let mut text = format!("{source}: unknown key `{path}`");
                let elsewhere = all.iter().find_map(|(name, inner)| {
                    inner.as_table().filter(|inner| inner.contains_key(key)).map(|_| format!("{name}.{key}"))
                });
                if let Some(elsewhere) = elsewhere.or_else(|| all.contains_key(key).then(|| key.clone())) {
                    text += &format!(": did you mean `{elsewhere}`?");
                } else if let Some(near) = nearest(key, example.keys().map(String::as_str)) {
                    text += &format!(": did you mean `{section}{near}`?");
                } else {
                    let names: Vec<&str> = example.keys().map(String::as_str).collect();
                    text += &format!(": known keys here are {}", names.join(", "));
                }
                return refuse(text);
            }
        }
    }
    Ok(())
}

/// Rejects text that is not `host:port`.
pub(super) fn address(what: &str, addr: &str) -> Result<(), ConfigError> {
    let fine = addr.rsplit_once(':').is_some_and(|(host, port)| {
        let bare_v6 = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
        !host.is_empty() && !bare_v6 && !host.contains('/') && port.parse::<u16>().is_ok()
    });
    if fine {
        Ok(())
    } else {
        refuse(format!("{what} `{addr}` is not host:port, such as 127.0.0.1:2379 or [::1]:2379"))
    }
}

pub(super) fn validate(config: &Config) -> Result<(), ConfigError> {
    identity(config)?;
    config.check_bounds()?;
    cluster(config)?;
    labels(config)?;
    config.raft.check_bounds()?;
    raft(config)?;
    config.engine.check_bounds()?;
    config.pd.check_bounds()?;
    config.ttl.check_bounds()?;
    config.regions.check_bounds()?;
    config.values.check_bounds()?;
    config.txn.check_bounds()?;
    let from = config.values.separate_from;
    if (1..SEPARATE_BYTES_MIN).contains(&from) {
        return refuse(format!(
            "values.separate_from = {from}: must be at least {SEPARATE_BYTES_MIN} (bytes), or 0 to store no value apart \
             from its key"
        ));
    }
    config.log.check_bounds()?;
    log_level(&config.log.level)?;
    let interval_ms = config.ttl.collect_interval_ms;
    if (1..100).contains(&interval_ms) {
        return refuse(format!("ttl.collect_interval_ms = {interval_ms}: must be at least 100, or 0 for never"));
    }
    if config.pd.store_alive_ms < 2 * config.pd.store_heartbeat_ms {
        return refuse(format!(
            "pd.store_alive_ms = {} is less than two heartbeats (pd.store_heartbeat_ms = {}): one late heartbeat would \
             make a store look dead",
            config.pd.store_alive_ms, config.pd.store_heartbeat_ms
        ));
    }
    Ok(())
}

/// The log levels, from no messages to all.
const LOG_LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Rejects directives with an unknown level: the logger would treat a mistyped level as the name of a module.
fn log_level(directives: &str) -> Result<(), ConfigError> {
    // Commas inside braces belong to the fields of a span.
    let mut depth = 0i32;
    let is_comma = |c: char| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    };
    for directive in directives.split(is_comma).map(str::trim) {
        let level = directive.rsplit_once('=').map_or(directive, |(_, level)| level);
        if LOG_LEVELS.contains(&level.to_ascii_lowercase().as_str()) {
            continue;
        }
        let meant = nearest(level, LOG_LEVELS).map_or(String::new(), |near| format!("did you mean `{near}`? "));
        return refuse(format!(
            "log.level `{directives}`: `{level}` is not a level: {meant}levels are {}; or give directives such as \
             info,armilla::replica=debug",
            LOG_LEVELS.join(", ")
        ));
    }
    Ok(())
}

fn identity(config: &Config) -> Result<(), ConfigError> {
    if config.name.is_empty() || config.name.contains([',', '=']) || config.name.chars().any(char::is_whitespace) {
        return refuse(format!("name `{}`: must not be empty or contain a comma, equals sign or space", config.name));
    }
    if config.data_dir.as_os_str().is_empty() {
        return refuse("data_dir is empty: give a directory");
    }
    address("addr", &config.addr)?;
    let advertised = config.advertised();
    address("advertise_addr", advertised)?;
    let unreachable = ["0.0.0.0:", "[::]:"].iter().any(|any| advertised.starts_with(any));
    if unreachable {
        return refuse(format!(
            "others cannot reach {advertised}: set advertise_addr (--advertise-addr) to an address of this machine"
        ));
    }
    Ok(())
}

fn cluster(config: &Config) -> Result<(), ConfigError> {
    if let Some(join) = &config.join {
        address("join", join)?;
        if join == config.advertised() {
            return refuse(format!("join {join} is this node's own address: give another node of the cluster"));
        }
        if !config.initial_cluster.is_empty() {
            return refuse("both initial_cluster and join are given: a node either starts a new cluster or joins one");
        }
    } else if config.initial_cluster.is_empty() {
        return refuse(
            "neither initial_cluster nor join is given: give the members of the first start \
             (--initial-cluster n1=host:port,…) or any node of the cluster to join (--join host:port)",
        );
    } else {
        let members = &config.initial_cluster;
        for (at, (name, addr)) in members.iter().enumerate() {
            address("a member's address", addr)?;
            if let Some((other, _)) = members[..at].iter().find(|(n, a)| n == name || a == addr) {
                return refuse(format!("initial_cluster: {name}={addr} has the same name or address as {other}"));
            }
        }
        match members.iter().find(|(name, _)| *name == config.name) {
            None => {
                let names: Vec<&str> = members.iter().map(|(name, _)| name.as_str()).collect();
                return refuse(format!(
                    "initial_cluster ({}) does not contain this node's name `{}`",
                    names.join(", "),
                    config.name
                ));
            }
            Some((_, addr)) if addr != config.advertised() => {
                return refuse(format!(
                    "initial_cluster says that {} is at {addr}, but its own address is {}: make them equal",
                    config.name,
                    config.advertised()
                ));
            }
            Some(_) => {}
        }
    }
    if !matches!(config.pd_members, 1 | 3 | 5 | 7) {
        return refuse(format!("pd_members = {}: must be 1, 3, 5 or 7", config.pd_members));
    }
    if let Some(number) = config.api_version.filter(|number| Api::numbered(*number).is_none()) {
        return refuse(format!("api_version = {number}: must be 1, or 2 for keyspaces"));
    }
    if config.founded_api() == Api::V2 && config.protocol() < version::KEYSPACES {
        return refuse(format!(
            "api_version = 2 needs version {} of the cluster's protocol, but pd.protocol_max is {}",
            version::KEYSPACES,
            config.pd.protocol_max
        ));
    }
    // With API V2 the keys are those of two modes, which have boundaries of their own.
    let (modes, own) = if config.founded_api() == Api::V2 { (2, 4) } else { (1, 0) };
    if modes * config.split_keys.len() + own >= FIRST_REGIONS_MAX {
        return refuse(format!(
            "{} split_keys: a new cluster may have at most {FIRST_REGIONS_MAX} regions",
            config.split_keys.len()
        ));
    }
    if modes * config.initial_regions + own > FIRST_REGIONS_MAX {
        return refuse(format!(
            "initial_regions = {}: a new cluster may have at most {FIRST_REGIONS_MAX} regions, and with API version 2 \
             raw and transactional keys have as many each",
            config.initial_regions
        ));
    }
    let bytes: usize = config.split_keys.iter().map(String::len).sum();
    if modes * bytes > SPLIT_KEYS_BYTES_MAX {
        return refuse(format!(
            "split_keys have {bytes} bytes in total: at most {SPLIT_KEYS_BYTES_MAX}, give fewer or shorter ones"
        ));
    }
    if config.initial_regions > 1 && !config.split_keys.is_empty() {
        return refuse("both initial_regions and split_keys are given: give one of them");
    }
    if let Some(reserve) = config.disk_reserve_mib.filter(|reserve| *reserve > MIB_MAX) {
        return refuse(format!("disk_reserve_mib = {reserve}: must be at most {MIB_MAX}"));
    }
    if config.split_keys.iter().any(String::is_empty) {
        return refuse("split_keys has an empty key: the first region starts there anyway");
    }
    Ok(())
}

/// Checks where the node says that it is, in the forms that PD accepts.
fn labels(config: &Config) -> Result<(), ConfigError> {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
    let is_outer = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    let is_key =
        |key: &str| is_outer(key.bytes().next()) && is_outer(key.bytes().next_back()) && key.bytes().all(is_inner);
    if config.labels.len() > STORE_LABELS_MAX {
        return refuse(format!("{} labels: a store has at most {STORE_LABELS_MAX}", config.labels.len()));
    }
    let mut keys: Vec<String> = Vec::new();
    for label in &config.labels {
        let Some((key, value)) = label.split_once('=').filter(|(key, value)| is_key(key) && !value.is_empty()) else {
            return refuse(format!("labels: `{label}` is not key=value, such as zone=z1"));
        };
        if !value.bytes().all(is_inner) {
            return refuse(format!("labels: the value `{value}` of `{key}` may have letters, digits and -_./ only"));
        }
        if label.len() > STORE_LABEL_BYTES_MAX {
            return refuse(format!("labels: `{key}` has more than {STORE_LABEL_BYTES_MAX} bytes"));
        }
        let key = key.to_ascii_lowercase();
        if key == LABEL_REPLACED_BY {
            return refuse(format!("labels: `{key}` is set by Armilla itself: use another key"));
        }
        if keys.contains(&key) {
            return refuse(format!("labels: `{key}` is given twice"));
        }
        keys.push(key);
    }
    let levels = &config.pd.location_labels;
    if levels.len() > LOCATION_LABELS_MAX {
        return refuse(format!("pd.location_labels has {} keys: at most {LOCATION_LABELS_MAX}", levels.len()));
    }
    if let Some(wrong) = levels.iter().find(|level| !is_key(level)) {
        return refuse(format!("pd.location_labels: `{wrong}` cannot be the key of a label"));
    }
    Ok(())
}

fn raft(config: &Config) -> Result<(), ConfigError> {
    let raft = &config.raft;
    // Two heartbeats may be lost before followers campaign. The lease (the election timeout minus the clock drift) must
    // last longer than the interval between heartbeats, or reads would never find a valid one.
    if raft.election_ticks < 3 * raft.heartbeat_ticks {
        return refuse(format!(
            "raft.election_ticks = {} must be at least three times raft.heartbeat_ticks = {}: otherwise a lost heartbeat \
             starts an election and the leader's lease ends before it is renewed",
            raft.election_ticks, raft.heartbeat_ticks
        ));
    }
    if raft.election() > std::time::Duration::from_secs(600) {
        return refuse(format!(
            "the election timeout is {:?} (tick_ms x election_ticks): must be at most 10 minutes",
            raft.election()
        ));
    }
    if raft.log_soft_max_kib < 2 * raft.log_segment_kib {
        return refuse(format!(
            "raft.log_soft_max_kib = {} must be at least two segments (raft.log_segment_kib = {})",
            raft.log_soft_max_kib, raft.log_segment_kib
        ));
    }
    if raft.log_lag_entries_max < raft.log_keep_entries {
        return refuse(format!(
            "raft.log_lag_entries_max = {} is below raft.log_keep_entries = {}",
            raft.log_lag_entries_max, raft.log_keep_entries
        ));
    }
    Ok(())
}
