//! **Goal**: the flags that the documents name exist, and wrong ones name the nearest. **Method**: the parser alone.

use clap::CommandFactory as _;

use super::*;

fn parse(line: &str) -> Result<Cli, String> {
    Cli::try_parse_from(line.split_whitespace()).map_err(|error| error.to_string())
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn documented_command_lines_parse() {
    for line in [
        "armilla up",
        "armilla up --nodes 5 --data /tmp/x --base-port 4000 --initial-regions 4",
        "armilla start --name n1 --data D --addr h:1 --initial-cluster n1=h:1,n2=h:2",
        "armilla start --name n4 --data D --addr h:4 --join h:1",
        "armilla start --config node.toml",
        "armilla ctl members",
        "armilla ctl --pd h:1 --json stores",
        "armilla ctl stores --pd h:1 --json",
        "armilla ctl leader k",
        "armilla ctl put k v --ttl 3 --hex",
        "armilla ctl scan a z --limit 3 --reverse --keys-only",
        "armilla ctl transfer-leader 5 2",
        "armilla ctl tso --count 10",
        "armilla bench --pd h:1 --workload mixed --clients 4 --value-size 10 --keys 100 --distribution zipfian --duration 10s --json",
        "armilla bench --workload put --batch --connections 2 --duration 500ms",
        "armilla --version",
        "armilla --version --verbose",
    ] {
        assert!(parse(line).is_ok(), "{line}: {}", parse(line).unwrap_err());
    }
}

#[test]
fn wrong_flags_name_the_nearest() {
    for (line, meant) in [
        ("armilla start --nmae n1", "--name"),
        ("armilla up --node 3", "--nodes"),
        ("armilla bench --cleints 3", "--clients"),
        ("armilla ctl mebmers", "members"),
        ("armilla strat", "start"),
        ("armilla bench --workload putt", "put"),
    ] {
        let error = parse(line).expect_err(line);
        assert!(error.contains(meant), "{line}: {error}");
    }
}

#[test]
fn flags_override_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("node.toml");
    std::fs::write(&file, "name = \"a\"\naddr = \"h:1\"\ninitial_cluster = [\"a=h:1\"]\n[raft]\ntick_ms = 7\n")
        .unwrap();
    let base = start::Args { config: Some(file), ..Default::default() };
    let config = start::configuration(&base).unwrap();
    assert_eq!((config.name.as_str(), config.addr.as_str(), config.raft.tick_ms), ("a", "h:1", 7));
    let args = start::Args {
        name: Some("b".into()),
        addr: Some("h:2".into()),
        initial_cluster: Some("b=h:2,c=h:3".into()),
        log_keys: true,
        ..base
    };
    let config = start::configuration(&args).unwrap();
    assert_eq!((config.name.as_str(), config.initial_cluster.len(), config.raft.tick_ms), ("b", 2, 7));
    assert!(!config.log.redact_keys);
    let joining = start::Args { join: Some("h:9".into()), initial_cluster: None, ..args };
    let config = start::configuration(&joining).unwrap();
    assert_eq!(
        (config.join.as_deref(), config.initial_cluster.len()),
        (Some("h:9"), 0),
        "--join replaces the file's list"
    );
}
