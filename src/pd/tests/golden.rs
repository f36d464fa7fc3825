//! Golden scripts: blocks of one command, `----`, and what it answers; an empty line ends a block, `#` begins a comment.
#![allow(clippy::disallowed_methods, reason = "golden scripts are real files")]

use std::path::PathBuf;

/// Runs `tests/scripts/pd/<name>.txt` through `run` and compares every answer; with `ARMILLA_REWRITE=1` writes them instead.
pub fn check(name: &str, mut run: impl FnMut(&str) -> String) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/scripts/pd/{name}.txt"));
    let script = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let rewrite = std::env::var("ARMILLA_REWRITE").is_ok_and(|value| value == "1");
    let (mut output, mut commands) = (String::new(), 0);
    let mut lines = script.lines().enumerate().peekable();
    while let Some((at, line)) = lines.next() {
        output.push_str(line);
        output.push('\n');
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        assert_eq!(lines.next().map(|(_, line)| line), Some("----"), "{}:{}: no ---- after it", path.display(), at + 1);
        let mut expected = String::new();
        while let Some((_, line)) = lines.next_if(|(_, line)| !line.trim().is_empty()) {
            expected.push_str(line);
            expected.push('\n');
        }
        let mut answer = run(line);
        if !answer.is_empty() && !answer.ends_with('\n') {
            answer.push('\n');
        }
        commands += 1;
        assert!(
            rewrite || answer == expected,
            "{}:{}: {line}\n-- expected\n{expected}-- got\n{answer}",
            path.display(),
            at + 1
        );
        output.push_str("----\n");
        output.push_str(&answer);
    }
    assert!(commands > 0, "{}: a script without commands proves nothing", path.display());
    if rewrite {
        std::fs::write(&path, output).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}
