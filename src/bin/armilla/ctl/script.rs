//! The scripts of `armilla ctl txn run`: one command a line.
//!
//! ```text
//!   begin [optimistic|pessimistic]      get KEY...               scan FROM [TO] [limit N] [reverse]
//!   put KEY VALUE                       insert KEY VALUE         delete KEY...
//!   lock KEY...                         commit                   rollback
//! ```
//! Words are separated by blanks; quotes keep blanks, `#` begins a comment. A script is parsed as a whole, so that one
//! with a mistake does nothing.

use bytes::Bytes;

use super::show::Form;
use crate::failure::Failure;

/// The number of pairs that `scan` shows unless it is told otherwise.
const SCAN_LIMIT: u32 = 100;

/// A line of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its number, from 1.
    pub number: usize,
    /// What it does.
    pub step: Step,
}

/// A command of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Begins a transaction.
    Begin { pessimistic: bool },
    /// Reads keys.
    Get(Vec<Bytes>),
    /// Sets a key.
    Put(Bytes, Bytes),
    /// Sets a key that must not exist.
    Insert(Bytes, Bytes),
    /// Deletes keys.
    Delete(Vec<Bytes>),
    /// Locks keys, and reads their newest values.
    Lock(Vec<Bytes>),
    /// Reads a range.
    Scan { from: Bytes, to: Bytes, limit: u32, reverse: bool },
    /// Commits the transaction.
    Commit,
    /// Ends the transaction without a commit.
    Rollback,
}

/// Returns the lines of a script that do something.
pub fn parse(text: &str, form: Form) -> Result<Vec<Line>, Failure> {
    let mut lines = Vec::new();
    let mut open: Option<usize> = None;
    for (at, line) in text.lines().enumerate() {
        let number = at + 1;
        let wrong = |why: String| Failure::usage(format!("line {number}: {why}"));
        let words = words(line).map_err(wrong)?;
        let Some((name, args)) = words.split_first() else { continue };
        let step = step(name, args, form).map_err(wrong)?;
        match (&step, open) {
            (Step::Begin { .. }, Some(begun)) => {
                return Err(wrong(format!("the transaction of line {begun} is open: commit or roll it back first")));
            }
            (Step::Begin { .. }, None) => open = Some(number),
            (_, None) => return Err(wrong(format!("`{name}` needs a transaction: begin one first"))),
            (Step::Commit | Step::Rollback, Some(_)) => open = None,
            _ => {}
        }
        lines.push(Line { number, step });
    }
    match open {
        Some(begun) => Err(Failure::usage(format!(
            "line {begun}: the transaction that begins here does not end: add `commit` or `rollback`"
        ))),
        None => Ok(lines),
    }
}

fn step(name: &str, args: &[String], form: Form) -> Result<Step, String> {
    let key = |text: &String| form.key(text).map_err(|failure| failure.text().to_owned());
    let keys = || match args {
        [] => Err(format!("`{name}` needs a key")),
        args => args.iter().map(key).collect(),
    };
    let pair = || match args {
        [first, second] => {
            let value = form.value(second.clone().into()).map_err(|failure| failure.text().to_owned())?;
            Ok((key(first)?, value))
        }
        _ => Err(format!("`{name}` needs a key and a value; put a value with blanks in quotes")),
    };
    let alone = |step: Step| match args {
        [] => Ok(step),
        _ => Err(format!("`{name}` stands alone")),
    };
    match name {
        "begin" => match args {
            [] => Ok(Step::Begin { pessimistic: false }),
            [mode] if mode == "optimistic" => Ok(Step::Begin { pessimistic: false }),
            [mode] if mode == "pessimistic" => Ok(Step::Begin { pessimistic: true }),
            _ => Err("`begin` is followed by `optimistic`, `pessimistic` or nothing".to_owned()),
        },
        "get" => keys().map(Step::Get),
        "put" => pair().map(|(key, value)| Step::Put(key, value)),
        "insert" => pair().map(|(key, value)| Step::Insert(key, value)),
        "delete" => keys().map(Step::Delete),
        "lock" => keys().map(Step::Lock),
        "scan" => scan(args, &key),
        "commit" => alone(Step::Commit),
        "rollback" => alone(Step::Rollback),
        _ => {
            Err(format!("`{name}` is no command: use begin, get, put, insert, delete, lock, scan, commit or rollback"))
        }
    }
}

fn scan(args: &[String], key: &impl Fn(&String) -> Result<Bytes, String>) -> Result<Step, String> {
    let (mut ends, mut limit, mut reverse) = (Vec::new(), SCAN_LIMIT, false);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "reverse" => reverse = true,
            "limit" => {
                let number = args.next().and_then(|number| number.parse().ok()).filter(|number| *number > 0);
                limit = number.ok_or("`limit` is followed by a number from 1 on")?;
            }
            _ => ends.push(key(arg)?),
        }
    }
    if ends.is_empty() || ends.len() > 2 {
        return Err("`scan` needs the first key, and at most one to stop before; '' is the smallest key".to_owned());
    }
    let mut ends = ends.into_iter();
    let (from, to) = (ends.next().unwrap_or_default(), ends.next().unwrap_or_default());
    Ok(Step::Scan { from, to, limit, reverse })
}

/// Splits a line into words. Quotes keep blanks and `#`; within them, and elsewhere, a backslash is an ordinary
/// character, because keys have escapes of their own.
fn words(line: &str) -> Result<Vec<String>, String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None::<char>);
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    if let Some(open) = quote {
        return Err(format!("a quote ({open}) is not closed"));
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    //! Goal: every command is understood, and a mistake is told with its line. Method: examples.
    use super::*;

    const PLAIN: Form = Form { json: false, hex: false, escape: false };

    fn steps(text: &str) -> Vec<Step> {
        parse(text, PLAIN).unwrap().into_iter().map(|line| line.step).collect()
    }

    #[test]
    fn every_command_is_understood() {
        let script = "\
            # moves 5 from a to b\n\
            begin pessimistic\n\
            \n\
            lock a b   # both\n\
            get a 'b c' \\x00\n\
            put a \"9 5\"\n\
            insert d ''\n\
            delete e f\n\
            scan a z limit 7 reverse\n\
            scan ''\n\
            commit\n\
            begin\n\
            rollback\n";
        let b = |text: &'static str| Bytes::from(text);
        assert_eq!(
            steps(script),
            [
                Step::Begin { pessimistic: true },
                Step::Lock(vec![b("a"), b("b")]),
                Step::Get(vec![b("a"), b("b c"), b("\0")]),
                Step::Put(b("a"), b("9 5")),
                Step::Insert(b("d"), b("")),
                Step::Delete(vec![b("e"), b("f")]),
                Step::Scan { from: b("a"), to: b("z"), limit: 7, reverse: true },
                Step::Scan { from: b(""), to: b(""), limit: SCAN_LIMIT, reverse: false },
                Step::Commit,
                Step::Begin { pessimistic: false },
                Step::Rollback,
            ]
        );
        let numbers: Vec<usize> = parse(script, PLAIN).unwrap().iter().map(|line| line.number).collect();
        assert_eq!(numbers, [2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]);
    }

    #[test]
    fn values_are_taken_as_they_are_unless_escapes_are_asked_for() {
        let put = |form: Form| match parse("begin\nput a x\\n\ncommit", form).unwrap().swap_remove(1).step {
            Step::Put(_, value) => value,
            other => panic!("{other:?}"),
        };
        assert_eq!(put(PLAIN), "x\\n");
        assert_eq!(put(Form { escape: true, ..PLAIN }), "x\n");
        let hex = parse("begin\nput 61 00ff\ncommit", Form { hex: true, ..PLAIN }).unwrap().swap_remove(1).step;
        assert_eq!(hex, Step::Put("a".into(), Bytes::from_static(b"\0\xff")));
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        for (script, told) in [
            ("begin\nput a\ncommit", "line 2: `put` needs a key and a value"),
            ("begin\n\nfetch a\ncommit", "line 3: `fetch` is no command"),
            ("get a", "line 1: `get` needs a transaction"),
            ("begin\ncommit\ncommit", "line 3: `commit` needs a transaction"),
            ("begin\nbegin", "line 2: the transaction of line 1 is open"),
            ("\nbegin\nput a 1", "line 2: the transaction that begins here does not end"),
            ("begin slowly", "line 1: `begin` is followed by"),
            ("begin\nget 'a", "line 2: a quote (') is not closed"),
            ("begin\nscan a limit 0", "line 2: `limit` is followed by a number"),
            ("begin\nscan a b c", "line 2: `scan` needs the first key"),
            ("begin\nget a\\q", "line 2: `\\q` is not an escape sequence"),
            ("begin\nget\ncommit", "line 2: `get` needs a key"),
            ("begin\ncommit now", "line 2: `commit` stands alone"),
        ] {
            let failure = parse(script, PLAIN).expect_err(script);
            assert!(failure.text().starts_with(told), "{script}: {}", failure.text());
        }
    }
}
