//! The shape of the text: the width of comments and the length of functions.

use super::law::LONG_FUNCTIONS;
use super::report::{Findings, hold};
use super::source::Source;

/// The columns of a comment, at most. Tables and pictures have the width that they need.
const COMMENT_COLUMNS_MAX: usize = 120;

/// The lines of code of a function, at most.
const FUNCTION_LINES_MAX: usize = 100;

/// Returns whether a comment is a table's row, a picture's line or an address that cannot be wrapped.
fn needs_its_width(comment: &str) -> bool {
    let text = comment.trim_start_matches(['/', '!']);
    text.starts_with(" |") || text.starts_with("   ") || text.contains("http") || !text.is_ascii()
}

/// Limits the width of comments.
pub fn comment_width(source: &Source) -> Findings {
    let mut findings = Vec::new();
    for (at, line) in source.text.lines().enumerate() {
        let comment = line.trim_start();
        let columns = line.chars().count();
        if comment.starts_with("//") && columns > COMMENT_COLUMNS_MAX && !needs_its_width(comment) {
            findings.push(format!(
                "{}:{}: a comment of {columns} columns, at most {COMMENT_COLUMNS_MAX}",
                source.path,
                at + 1
            ));
        }
    }
    findings
}

/// Limits the length of functions: lines of code, without blank lines and comments.
pub fn function_length(source: &Source) -> Findings {
    let mut findings = Vec::new();
    let lines: Vec<&str> = source.code.lines().collect();
    for (start, line) in lines.iter().enumerate() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some(at) = words.iter().position(|word| *word == "fn") else { continue };
        let is_definition =
            words[..at].iter().all(|word| word.starts_with("pub") || word.contains(')') || MODIFIERS.contains(word));
        let Some(name) = words.get(at + 1).filter(|_| is_definition) else { continue };
        // rustfmt ends a function at the indentation at which it begins.
        let indent = line.len() - line.trim_start().len();
        let ends =
            |other: &&str| other.len() - other.trim_start().len() == indent && other.trim_start().starts_with('}');
        if line.trim_end().ends_with(['}', ';']) {
            continue;
        }
        let body: Vec<&str> = lines[start + 1..].iter().copied().take_while(|other| !ends(other)).collect();
        let length = body.iter().filter(|line| !line.trim().is_empty()).count();
        let name = name.split(['(', '<']).next().unwrap_or_default();
        let is_listed = LONG_FUNCTIONS.iter().any(|(file, listed, _)| *file == source.path && *listed == name);
        if length > FUNCTION_LINES_MAX && !is_listed {
            findings.push(format!(
                "{}:{}: `{name}` has {length} lines of code, at most {FUNCTION_LINES_MAX}: split it",
                source.path,
                start + 1
            ));
        }
    }
    findings
}

/// What may stand before `fn`.
const MODIFIERS: [&str; 4] = ["async", "const", "unsafe", "extern"];

const FOLDERS: &[&str] = &["src", "sim/src", "arch/src", "check/src", "models/src", "tests", "benches"];

#[test]
fn comments_have_a_width_that_can_be_read() {
    let wide = format!("fn f() {{}} // short\n/// {}\n", "word ".repeat(30));
    let row = format!("//! | {} |\n", "word ".repeat(30));
    hold(comment_width, "comment width", &[("src/a.rs", &wide)], &[("src/a.rs", &row)], FOLDERS);
}

#[test]
fn functions_are_short_enough_to_read() {
    let long = format!("impl X {{\n    pub(super) async fn f(&self) {{\n{}    }}\n}}\n", "        g();\n".repeat(101));
    let short = format!("fn f() {{\n{}\n{}}}\nfn g();\n", "    g();\n".repeat(100), "    // a comment\n".repeat(50));
    hold(function_length, "function length", &[("src/a.rs", &long)], &[("src/a.rs", &short)], FOLDERS);
}
