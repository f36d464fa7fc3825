//! Golden scripts. A line `> command` is a command; the lines below it, up to a blank one, are its output.
//!
//! ```text
//!   put KEY VALUE            the rest of the line is the value
//!   query REQUEST            the merged result of all pages
//!   page REQUEST             one page as it is sent
//!   plan REQUEST             what is wrong with a request
//! ```
#![allow(clippy::disallowed_methods, reason = "golden scripts are real files")]

use std::path::Path as FilePath;

use super::*;

fn show(answer: Answer, pages: usize) -> String {
    let line =
        |values: &[serde_json::Value]| values.iter().map(serde_json::Value::to_string).collect::<Vec<_>>().join(" | ");
    let mut out = format!("{}\n", answer.heads.join(" | "));
    for Found { key, values } in &answer.rows {
        out += &format!("{}: {}\n", key.escape_ascii(), line(values));
    }
    for group in &answer.groups {
        out += &format!("{}\n", line(group));
    }
    let Scanned { rows, not_json, .. } = answer.scanned;
    out + &format!("({} of {rows} rows, {not_json} not JSON, {pages} page(s))", answer.matched)
}

fn run(data: &mut Data, line: &str) -> Result<String, String> {
    let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
    match command {
        "put" => {
            let (key, value) = rest.split_once(' ').unwrap_or((rest, ""));
            data.insert(key.to_owned().into(), value.to_owned().into());
            Ok(String::new())
        }
        "query" => {
            let query = serde_json::from_str(rest).map_err(|error| error.to_string())?;
            ask(data, query).map(|(answer, pages)| show(answer, pages))
        }
        "page" => {
            let page = page(data, rest.as_bytes(), &Bytes::new())?;
            Ok(String::from_utf8_lossy(&page).into_owned())
        }
        "plan" => Plan::decode(rest.as_bytes()).map(|plan| format!("{:?}", plan.heads())),
        other => panic!("not a command: {other}"),
    }
}

#[test]
fn scripts_hold() {
    let folder = FilePath::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts/query");
    let mut paths: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 4, "scripts in {}", folder.display());
    for path in paths {
        let script = std::fs::read_to_string(&path).unwrap();
        let (mut data, mut out, mut in_output) = (Data::new(), String::new(), false);
        for line in script.lines() {
            if let Some(command) = line.strip_prefix("> ") {
                let output = run(&mut data, command).unwrap_or_else(|error| format!("error: {error}"));
                out += &format!("{line}\n");
                if !output.is_empty() {
                    out += &format!("{output}\n");
                }
                in_output = true;
            } else if line.trim().is_empty() || !in_output {
                out += &format!("{line}\n");
                in_output = false;
            }
        }
        if std::env::var_os("ARMILLA_REWRITE").is_some() {
            std::fs::write(&path, &out).unwrap();
        } else {
            assert!(out == script, "{} gave:\n{out}", path.display());
        }
    }
}
