//! **Goal**: the flags in the documents exist, and an error about a wrong flag suggests the nearest one. **Method**:
//! the parser alone.

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
        "armilla ctl scan --prefix user: --limit 3",
        "armilla ctl count",
        "armilla ctl count --prefix user:",
        "armilla ctl delete-range a b",
        "armilla ctl delete-range --prefix user:",
        "armilla ctl delete-range --everything",
        "armilla ctl put k -",
        "armilla ctl put k --file F --ttl 3",
        "armilla ctl put k -5",
        "armilla ctl --escape put k v",
        "armilla ctl cas k v --previous -1 --ttl 9",
        "armilla ctl regions a z --limit 3",
        "armilla ctl checksum --prefix a",
        "armilla bench --workload clean --keys 10",
        "armilla bench --clean",
        "armilla ctl transfer-leader 5 2",
        "armilla ctl tso --count 10",
        "armilla bench --pd h:1 --workload mixed --clients 4 --value-size 10 --keys 100 --distribution zipfian --duration 10s --json",
        "armilla bench --workload put --batch --connections 2 --duration 500ms",
        "armilla ctl txn get a b",
        "armilla ctl txn put a 1 b -2",
        "armilla ctl --json txn scan --prefix user: --limit 3 --reverse",
        "armilla ctl txn run --pd h:1",
        "armilla ctl mvcc --hex 6162",
        "armilla ctl mvcc --start-ts 7",
        "armilla ctl gc --json",
        "armilla ctl gc hold backup --at 7 --for 60",
        "armilla ctl gc release backup",
        "armilla ctl locks a z --limit 3",
        "armilla ctl locks --region 5",
        "armilla ctl resolve --region 5",
        "armilla bench --workload txn-transfer --mode pessimistic --distribution zipfian",
        "armilla completions bash",
        "armilla --version",
        "armilla --version --verbose",
    ] {
        assert!(parse(line).is_ok(), "{line}: {}", parse(line).unwrap_err());
    }
}

/// Splits a line into words as a shell would. Knows quotes and comments, nothing else.
fn shell_words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None::<char>);
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, ' ') => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// Returns the program's command lines in a document: those in fenced blocks, and inline code. Skips lines with
/// placeholders (`…`, alternatives).
fn command_lines(text: &str) -> Vec<String> {
    let joined = text.replace("\\\n", " ");
    let mut lines = Vec::new();
    let mut fenced = false;
    for line in joined.lines() {
        if line.starts_with("```") {
            fenced = !fenced;
        } else if fenced {
            lines.push(line.trim().to_owned());
        } else {
            lines.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    let command = |line: String| {
        let line = line.strip_prefix("cargo armilla ").map(|rest| format!("armilla {rest}")).unwrap_or(line);
        let is_one = ["armilla up", "armilla start ", "armilla ctl ", "armilla bench", "armilla completions "];
        let open =
            ["…", "[", "|", "<"].iter().any(|mark| line.replace("$.a.b[0]", "").replace("[\"", "").contains(mark));
        (is_one.iter().any(|start| line.starts_with(start)) && !open).then_some(line)
    };
    lines.into_iter().filter_map(command).collect()
}

#[test]
fn command_lines_of_documents_parse() {
    assert_eq!(shell_words("a 'b c' \"d\" '' # e"), ["a", "b c", "d", ""]);
    assert_eq!(
        command_lines("`armilla up --data D` x `armilla ctl …`\n```\ncargo armilla ctl get k\n```"),
        ["armilla up --data D", "armilla ctl get k"]
    );
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = 0;
    for folder in ["", "docs"] {
        for file in std::fs::read_dir(root.join(folder)).expect("a folder of the sources") {
            let path = file.expect("a readable folder").path();
            if path.extension().is_none_or(|extension| extension != "md") || path.ends_with("CHANGELOG.md") {
                continue;
            }
            for line in command_lines(&std::fs::read_to_string(&path).expect("a readable document")) {
                let wrong = Cli::try_parse_from(shell_words(&line)).err();
                let wrong = wrong.filter(|error| error.kind() != clap::error::ErrorKind::DisplayHelp);
                assert!(wrong.is_none(), "{}: {line}: {}", path.display(), wrong.expect("just seen"));
                found += 1;
            }
        }
    }
    assert!(found >= 10, "the documents name {found} commands");
}

#[test]
fn the_service_and_the_container_start_what_there_is() {
    let unit = include_str!("../../../armilla.service");
    let line = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).expect("the unit starts something");
    assert!(parse(line).is_ok(), "{line}: {}", parse(line).unwrap_err());
    let keys = unit.lines().filter(|line| !line.starts_with(['#', '[']) && !line.is_empty());
    assert!(keys.into_iter().all(|line| line.contains('=')), "every line of the unit sets a key");
    // The configuration in the unit's comment must be valid.
    let example: Vec<&str> =
        unit.lines().filter_map(|line| line.strip_prefix("#   ")).filter(|line| line.contains(" = ")).collect();
    armilla::node::Config::from_toml(&example.join("\n"), "armilla.service")
        .expect("the unit's example is a configuration");

    let image = include_str!("../../../Containerfile");
    let words = |name: &str| -> Vec<String> {
        let line = image.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("no {name}"));
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{name}{line}: {error}"))
    };
    let line = [words("ENTRYPOINT "), words("CMD ")].concat().join(" ");
    assert!(parse(&line).is_ok(), "{line}: {}", parse(&line).unwrap_err());
    assert!(image.contains("useradd") && image.contains("\nUSER armilla\n"), "the image runs as an unprivileged user");
}

#[test]
fn shells_are_told_every_command() {
    for shell in [clap_complete::Shell::Bash, clap_complete::Shell::Zsh, clap_complete::Shell::Fish] {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "armilla", &mut script);
        let script = String::from_utf8(script).expect("a script is text");
        for word in ["transfer-leader", "initial-cluster", "completions", "mvcc", "txn-transfer", "pessimistic"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
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
fn command_lines_that_contradict_themselves_are_refused() {
    for line in [
        "armilla ctl scan a b --prefix c",
        "armilla ctl count a --prefix c",
        "armilla ctl put k",
        "armilla ctl put k v --file F",
        "armilla ctl --hex --escape get k",
        "armilla ctl delete-range a b --everything",
        "armilla ctl txn put k",
        "armilla ctl mvcc",
        "armilla ctl mvcc k --start-ts 7",
        "armilla ctl locks a --region 5",
    ] {
        assert!(parse(line).is_err(), "{line}");
    }
}

/// Every flag that takes a value and need not be given states its default: in the parser, or in its help.
#[test]
fn every_flag_tells_its_default() {
    fn look(command: &clap::Command, looked_at: &mut usize) {
        for arg in command.get_arguments().filter(|arg| arg.get_action().takes_values() && !arg.is_positional()) {
            if arg.is_required_set() {
                continue;
            }
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            let told = !arg.get_default_values().is_empty() || help.contains("[default: ");
            assert!(told, "{} --{}: {help}", command.get_name(), arg.get_id());
            *looked_at += 1;
        }
        command.get_subcommands().for_each(|inner| look(inner, looked_at));
    }
    let mut looked_at = 0;
    look(&Cli::command(), &mut looked_at);
    assert!(looked_at > 30, "{looked_at}");
    let help = Cli::command().find_subcommand_mut("start").expect("it is there").render_help().to_string();
    let default = armilla::node::Config::default();
    for told in [&default.addr, &default.name, &default.log.level, &default.data_dir.display().to_string()] {
        assert!(help.contains(&format!("[default: {told}]")), "{told}: {help}");
    }
}

#[test]
fn unknown_log_levels_are_refused_wherever_they_stand() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("node.toml");
    std::fs::write(&file, "initial_cluster = [\"n1=127.0.0.1:2379\"]\n[log]\nlevel = \"lod\"\n").unwrap();
    let by_file = start::Args { config: Some(file), ..Default::default() };
    let by_flag = start::Args {
        log_level: Some("lod".into()),
        initial_cluster: Some("n1=127.0.0.1:2379".into()),
        ..Default::default()
    };
    for args in [by_file, by_flag] {
        let failure = format!("{:?}", start::configuration(&args).unwrap_err());
        assert!(failure.contains("off, error, warn, info, debug, trace"), "{failure}");
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
