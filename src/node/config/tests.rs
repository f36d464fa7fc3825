//! **Goal**: an invalid setting is rejected with a sentence that says what to do; a valid one is accepted unchanged.
//! **Method**: one invalid setting at a time.

use super::*;

fn fine() -> Config {
    Config { initial_cluster: vec![("n1".into(), "127.0.0.1:2379".into())], ..Config::default() }
}

fn refused(change: impl FnOnce(&mut Config)) -> String {
    let mut config = fine();
    change(&mut config);
    config.validate().expect_err("it should be refused").0
}

#[test]
fn the_defaults_are_valid_and_survive_a_file() {
    fine().validate().unwrap();
    assert_eq!(Config::from_toml(&fine().to_toml(), "node.toml").unwrap(), fine());
    let full = Config {
        advertise_addr: Some("h:1".into()),
        join: Some("h:2".into()),
        disk_reserve_mib: Some(64),
        ..Config::default()
    };
    assert_eq!(Config::from_toml(&full.to_toml(), "node.toml").unwrap(), full);
    assert_eq!(Config::from_toml("", "node.toml").unwrap(), Config::default());
}

#[test]
fn a_file_sets_what_it_names() {
    let text =
        "name = \"b\"\ninitial_cluster = [\"b=h:1\", \"c=h:2\"]\n[raft]\ntick_ms = 7\n[log]\nformat = \"json\"\n";
    let config = Config::from_toml(text, "node.toml").unwrap();
    assert_eq!(config.initial_cluster, [("b".into(), "h:1".into()), ("c".into(), "h:2".into())]);
    assert_eq!((config.raft.tick_ms, config.log.format), (7, LogFormat::Json));
    assert_eq!(config.raft.election_ticks, RaftConfig::default().election_ticks);
}

#[test]
fn unknown_keys_name_the_nearest() {
    for (text, key, meant) in [
        ("nmae = \"x\"", "`nmae`", "`name`"),
        ("datadir = \"x\"", "`datadir`", "`data_dir`"),
        ("[raft]\nelection_tick = 3", "`raft.election_tick`", "`raft.election_ticks`"),
        ("[engin]\nblock_cache_mib = 3", "`engin`", "`engine`"),
        ("tick_ms = 3", "`tick_ms`", "`raft.tick_ms`"),
        ("[log]\nname = \"x\"", "`log.name`", "`name`"),
        ("jion = \"h:1\"", "`jion`", "`join`"),
    ] {
        let error = Config::from_toml(text, "node.toml").unwrap_err().0;
        assert!(error.contains("node.toml") && error.contains(key), "{text}: {error}");
        assert!(error.contains(&format!("did you mean {meant}?")), "{text}: {error}");
    }
    let error = Config::from_toml("[log]\nzzzzqqq = 1", "node.toml").unwrap_err().0;
    assert!(error.contains("known keys here are"), "{error}");
}

#[test]
fn wrong_types_and_broken_files_say_where() {
    for text in ["name = 3", "name = ", "[log]\nformat = \"xml\"", "initial_cluster = [\"n1\"]", "raft = 3"] {
        let error = Config::from_toml(text, "node.toml").unwrap_err().0;
        assert!(error.starts_with("node.toml: "), "{text}: {error}");
    }
}

#[test]
fn addresses_and_names() {
    assert!(refused(|c| c.addr = "localhost".into()).contains("host:port"));
    assert!(refused(|c| c.addr = "::1:2379".into()).contains("host:port"));
    assert!(refused(|c| c.addr = "h:99999".into()).contains("host:port"));
    assert!(refused(|c| c.addr = "0.0.0.0:2379".into()).contains("--advertise-addr"));
    assert!(refused(|c| c.name = "a,b".into()).contains("comma"));
    assert!(refused(|c| c.name = "zoe".into()).contains("does not contain this node's name `zoe`"));
    assert!(refused(|c| c.addr = "127.0.0.1:1".into()).contains("make them equal"));
}

#[test]
fn unknown_log_levels_name_the_levels() {
    for level in ["lod", "infos", "", "info,", "armilla=vebrose", "warn,armilla::raft", "7", "[span{a=1,b=2}]"] {
        let error = refused(|c| c.log.level = level.into());
        assert!(
            error.contains("log.level") && error.contains("off, error, warn, info, debug, trace"),
            "{level}: {error}"
        );
    }
    assert!(refused(|c| c.log.level = "debgu".into()).contains("did you mean `debug`?"));
    for level in ["off", "WARN", "info,armilla::replica=debug", "armilla=trace, warn", "warn,[span{a=1,b=2}]=debug"] {
        let mut config = fine();
        config.log.level = level.into();
        assert_eq!(config.validate(), Ok(()), "{level}");
    }
}

#[test]
fn either_a_first_start_or_a_join() {
    assert!(refused(|c| c.initial_cluster.clear()).contains("--join"));
    assert!(refused(|c| c.join = Some("h:1".into())).contains("either"));
    assert!(refused(|c| c.initial_cluster.push(("n1".into(), "h:2".into()))).contains("the same name"));
    assert!(refused(|c| c.initial_cluster.push(("n2".into(), "127.0.0.1:2379".into()))).contains("the same name"));
    let itself = |c: &mut Config| {
        c.initial_cluster.clear();
        c.join = Some(c.addr.clone());
    };
    assert!(refused(itself).contains("own address"));
    let joining = Config { join: Some("h:1".into()), ..Config::default() };
    joining.validate().unwrap();
}

#[test]
fn groups_are_told_what_the_file_says() {
    let text = "[raft]\ntick_ms = 10\nheartbeat_ticks = 3\nelection_ticks = 30\nappend_kib_max = 2\napply_kib_max = 3\n\
                appends_inflight_max = 4\nlease_reads = false";
    let groups = Config::from_toml(text, "node.toml").unwrap().raft.groups();
    assert_eq!((groups.tick_ns, groups.heartbeat_ticks, groups.election_ticks), (10_000_000, 3, 30));
    assert_eq!((groups.append_bytes_max, groups.apply_bytes_max), (2 << 10, 3 << 10));
    assert_eq!((groups.appends_inflight_max, groups.lease_reads), (4, false));
    assert_eq!(groups.election_ns(), 300_000_000);
}

#[test]
fn numbers_that_do_not_fit_together() {
    assert!(refused(|c| c.raft.election_ticks = 5).contains("lease"));
    assert!(refused(|c| c.raft.tick_ms = 0).contains("raft.tick_ms"));
    assert!(refused(|c| c.ttl.collect_interval_ms = 5).contains("ttl.collect_interval_ms"));
    // Also somebody who takes it for KiB.
    for bytes in [1, 32, 1023] {
        let error = refused(|c| c.values.separate_from = bytes);
        assert!(error.contains("values.separate_from") && error.contains("at least 1024 (bytes), or 0"), "{error}");
    }
    for bytes in [0, 1024] {
        let mut config = fine();
        config.values.separate_from = bytes;
        config.validate().unwrap();
    }
    assert!(refused(|c| c.raft.log_soft_max_kib = 1).contains("two segments"));
    assert!(refused(|c| c.raft.log_lag_entries_max = 1).contains("log_keep_entries"));
    assert!(refused(|c| c.pd_members = 2).contains("1, 3, 5 or 7"));
    assert!(refused(|c| c.api_version = Some(3)).contains("api_version = 3"));
    let old = refused(|c| (c.api_version, c.pd.protocol_max) = (Some(2), 10));
    assert!(old.contains("version 11") && old.contains("protocol_max is 10"), "{old}");
    assert!(refused(|c| c.replicas = 0).contains("replicas"));
    assert!(refused(|c| c.initial_regions = 0).contains("regions"));
    assert!(
        refused(|c| {
            c.initial_regions = 2;
            c.split_keys = vec!["k".into()];
        })
        .contains("give one of them")
    );
    assert!(refused(|c| c.split_keys = (0..200).map(|n| format!("{n:06000}")).collect()).contains("bytes in total"));
    assert!(refused(|c| c.pd.store_alive_ms = 1500).contains("two heartbeats"));
}

#[test]
fn numbers_that_are_too_large() {
    type Change = fn(&mut Config);
    let changes: [(&str, Change); 14] = [
        // At and beyond the log's own assertion.
        ("raft.log_segment_kib", |c| {
            c.raft.log_segment_kib = 1 << 21;
            c.raft.log_soft_max_kib = 1 << 22;
        }),
        ("raft.append_kib_max", |c| c.raft.append_kib_max = 65536),
        ("raft.snapshot_chunk_kib", |c| c.raft.snapshot_chunk_kib = 65536),
        ("raft.snapshot_mib_per_s", |c| c.raft.snapshot_mib_per_s = u64::MAX),
        ("raft.pack_kib_max", |c| c.raft.pack_kib_max = 8193),
        ("raft.election_ticks", |c| c.raft.election_ticks = 1 << 32),
        ("raft.heartbeat_ticks", |c| c.raft.heartbeat_ticks = usize::MAX),
        ("raft.tick_ms", |c| c.raft.tick_ms = u64::MAX),
        ("raft.flush_kib", |c| c.raft.flush_kib = u64::MAX),
        ("raft.log_soft_max_kib", |c| c.raft.log_soft_max_kib = u64::MAX),
        ("pd.store_heartbeat_ms", |c| c.pd.store_heartbeat_ms = u64::MAX),
        ("pd.store_alive_ms", |c| c.pd.store_alive_ms = u64::MAX),
        ("values.separate_from", |c| c.values.separate_from = u64::MAX),
        ("engine.block_cache_mib", |c| c.engine.block_cache_mib = usize::MAX),
    ];
    for (key, change) in changes {
        let error = refused(change);
        assert!(error.contains(key) && error.contains("at most"), "{key}: {error}");
    }
    let mut largest = fine();
    largest.raft.log_segment_kib = (1 << 21) - 1;
    largest.raft.log_soft_max_kib = 1 << 40;
    largest.raft.append_kib_max = 32 << 10;
    largest.validate().unwrap();
}

#[test]
fn members_on_the_command_line() {
    assert_eq!(parse_members("a=h:1, b=h:2").unwrap(), [("a".into(), "h:1".into()), ("b".into(), "h:2".into())]);
    for (text, word) in [("a", "name=host:port"), ("=h:1", "no name"), ("a=h", "host:port")] {
        let error = parse_members(text).unwrap_err().0;
        assert!(error.contains(word), "{text}: {error}");
    }
}

#[test]
fn what_is_declared_is_what_a_file_may_have() {
    let mut keys = Vec::new();
    let full = Config {
        advertise_addr: Some("h:1".into()),
        join: Some("h:2".into()),
        disk_reserve_mib: Some(64),
        api_version: Some(1),
        ..Config::default()
    };
    for (key, value) in toml::Table::try_from(&full).unwrap() {
        if let toml::Value::Table(section) = &value {
            keys.extend(section.keys().map(|inner| format!("{key}.{inner}")));
        }
        keys.push(key);
    }
    let mut declared: Vec<String> = Config::options().map(|option| option.key.to_owned()).collect();
    keys.sort();
    declared.sort();
    assert_eq!(declared, keys);
    for option in Config::options() {
        assert!(option.summary().len() > 5 && !option.summary().ends_with('.'), "{}", option.key);
    }
}

#[test]
fn bounds_hold_at_both_ends() {
    for (over, fits) in [
        ("[raft]\nlog_segment_kib = 15", false),
        ("[raft]\nlog_segment_kib = 16", true),
        ("replicas = 7", true),
        ("replicas = 8", false),
        ("[engine]\nbackground_jobs = 0", false),
        ("[pd]\nstore_heartbeat_ms = 0", false),
    ] {
        let over: toml::Table = toml::from_str(over).unwrap();
        let config = fine().overlaid(&over, "flags").unwrap();
        assert_eq!(config.validate().is_ok(), fits, "{over}");
    }
    let unknown = toml::from_str("[raft]\ntick = 3").unwrap();
    assert!(fine().overlaid(&unknown, "flags").unwrap_err().0.starts_with("flags: unknown key"));
}
