//! `armilla ctl scan`, `count`, `delete-range`: ranges of keys, read page by page, so that memory stays bounded however
//! large the range is.

use std::io::IsTerminal as _;

use armilla::client::{Error, Failed, RawClient, Space, Txn, Why};
use armilla::types::limits::KEY_BYTES_MAX;
use bytes::Bytes;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Map, Value, json};

use super::show::{self, Table};
use super::{Ctl, Form};
use crate::failure::Failure;

/// Approximate bytes of keys and values in one page.
const PAGE_BYTES: usize = 4 << 20;
/// Maximum number of pairs in one page: a key has up to 8 KiB.
const PAGE_PAIRS: usize = 4096;
/// How many pairs the first page asks for, when the size of the values is not known yet.
const FIRST_PAGE_PAIRS: usize = 64;

type Pairs = Vec<(Bytes, Bytes)>;

/// A range of keys.
#[derive(clap::Args, Debug)]
pub struct RangeArgs {
    /// The first key [default: the smallest key]
    start: Option<String>,
    /// The key to stop before [default: after the last key]
    end: Option<String>,
    /// All keys that begin with PREFIX, instead of START and END [default: none]
    #[arg(long, value_name = "PREFIX", conflicts_with_all = ["start", "end"])]
    prefix: Option<String>,
}

impl RangeArgs {
    /// Returns the range. Its end is exclusive; an empty end is plus infinity.
    pub fn range(&self, form: Form) -> Result<(Bytes, Bytes), Failure> {
        match &self.prefix {
            Some(prefix) => Ok(range_of_prefix(&form.key(prefix)?)),
            None => {
                let key = |text: &Option<String>| form.key(text.as_deref().unwrap_or_default());
                Ok((key(&self.start)?, key(&self.end)?))
            }
        }
    }

    /// Returns whether both ends, or a prefix, were given.
    fn is_explicit(&self) -> bool {
        self.prefix.is_some() || (self.start.is_some() && self.end.is_some())
    }
}

/// Returns the range of the keys that begin with `prefix`.
fn range_of_prefix(prefix: &[u8]) -> (Bytes, Bytes) {
    // The smallest key behind the range: 0xff cannot be incremented, so it is removed.
    let mut end = prefix.to_vec();
    while end.last() == Some(&0xff) {
        end.pop();
    }
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    (Bytes::copy_from_slice(prefix), end.into())
}

/// The range to read, and how to read it.
#[derive(clap::Args, Debug)]
pub struct ScanArgs {
    #[command(flatten)]
    range: RangeArgs,
    /// Maximum number of pairs to list.
    #[arg(long, default_value_t = 100)]
    limit: usize,
    /// List in descending order, beginning with the largest key.
    #[arg(long)]
    reverse: bool,
    /// List keys without values.
    #[arg(long)]
    keys_only: bool,
}

/// What pages are read from.
enum Source<'a> {
    Raw(&'a RawClient),
    Txn(&'a Txn),
}

/// A range that is read page by page.
pub(super) struct Pages<'a> {
    source: Source<'a>,
    start: Bytes,
    end: Bytes,
    reverse: bool,
    keys_only: bool,
    /// How many pairs the next page asks for.
    page: usize,
    over: bool,
}

impl<'a> Pages<'a> {
    fn new(raw: &'a RawClient, (start, end): (Bytes, Bytes), reverse: bool, keys_only: bool) -> Pages<'a> {
        let page = if keys_only { PAGE_PAIRS } else { FIRST_PAGE_PAIRS };
        Pages { source: Source::Raw(raw), start, end, reverse, keys_only, page, over: false }
    }

    /// Creates the pages of what a transaction sees.
    pub(super) fn of_txn(txn: &'a Txn, (start, end): (Bytes, Bytes), reverse: bool) -> Pages<'a> {
        Pages { source: Source::Txn(txn), start, end, reverse, keys_only: false, page: FIRST_PAGE_PAIRS, over: false }
    }

    /// Returns the next page, which has at most `max` pairs; empty at the end of the range.
    async fn next(&mut self, max: usize) -> Result<Pairs, Failure> {
        if self.over || max == 0 || (!self.end.is_empty() && self.start >= self.end) {
            return Ok(Pairs::new());
        }
        let asked = self.page.min(max);
        let pairs = match self.read(asked).await {
            // Values may be so large that a page of them does not fit in a message.
            Err(Unread::TooLong(_)) if asked > 1 => {
                self.page = 1;
                self.read(1).await
            }
            pairs => pairs,
        };
        let pairs = pairs.map_err(Unread::failure)?;
        let Some((last, _)) = pairs.last() else {
            self.over = true;
            return Ok(pairs);
        };
        self.over = pairs.len() < asked.min(self.page);
        if self.reverse {
            self.end = last.clone();
        } else {
            self.start = [&last[..], &[0]].concat().into();
        }
        let bytes: usize = pairs.iter().map(|(key, value)| key.len() + value.len()).sum();
        self.page = (PAGE_BYTES / (bytes / pairs.len()).max(1)).clamp(1, PAGE_PAIRS);
        Ok(pairs)
    }

    async fn read(&self, pairs: usize) -> Result<Pairs, Unread> {
        let (start, end) = (self.start.clone(), self.end.clone());
        match &self.source {
            Source::Raw(raw) if self.reverse => Ok(raw.scan_reverse(start, end, pairs, self.keys_only).await?),
            Source::Raw(raw) => Ok(raw.scan(start, end, pairs, self.keys_only).await?),
            Source::Txn(txn) => Ok(txn.scan(&start, &end, pairs as u32, self.reverse).await?),
        }
    }
}

/// Why a page was not read.
enum Unread {
    /// The servers refused it, perhaps because it does not fit in a message.
    TooLong(Failure),
    Other(Failure),
}

impl Unread {
    fn failure(self) -> Failure {
        match self {
            Unread::TooLong(failure) | Unread::Other(failure) => failure,
        }
    }
}

impl From<Error> for Unread {
    fn from(error: Error) -> Unread {
        match error {
            Error::Refused(_) => Unread::TooLong(error.into()),
            error => Unread::Other(error.into()),
        }
    }
}

impl From<Failed> for Unread {
    fn from(failed: Failed) -> Unread {
        match &failed {
            Failed::Aborted(abort) if abort.why == Why::Refused => Unread::TooLong(failed.into()),
            _ => Unread::Other(failed.into()),
        }
    }
}

/// Prints pairs: as a table, or as a JSON list that is written while it is read.
struct Printer {
    form: Form,
    keys_only: bool,
    /// How many pairs were printed.
    count: usize,
    /// Width of the first page's keys.
    width: u16,
}

impl Printer {
    fn print(&mut self, pairs: &[(Bytes, Bytes)]) -> Result<(), Failure> {
        if self.form.json {
            for (key, value) in pairs {
                let mut object = Map::new();
                self.form.insert(&mut object, "key", key);
                if !self.keys_only {
                    self.form.insert(&mut object, "value", value);
                }
                let begin = if self.count == 0 { "{\n  \"pairs\": [\n    " } else { ",\n    " };
                say_part!("{begin}{}", Value::from(object));
                self.count += 1;
            }
            return Ok(());
        }
        let mut table = Table::new(if self.keys_only { &["key"][..] } else { &["key", "value"] });
        for (key, value) in pairs {
            // Keys are not cut, so that they can be typed back in.
            let mut row = vec![self.form.text(key)];
            if !self.keys_only {
                row.push(show::cut(self.form.text(value)));
            }
            table.row(row);
        }
        if self.count == 0 {
            self.width = table.width();
            table.print();
        } else {
            table.widen(self.width);
            table.print_rows();
        }
        self.count += pairs.len();
        Ok(())
    }

    /// Ends the listing. `next`: the name and the value of the boundary at which it continues, if there is more.
    fn end(&mut self, next: Option<(&str, Bytes)>) -> Result<(), Failure> {
        if !self.form.json {
            if self.count == 0 {
                self.print(&[])?;
            }
            return Ok(());
        }
        let mut rest = Map::new();
        rest.insert("more".into(), next.is_some().into());
        if let Some((name, key)) = next {
            self.form.insert(&mut rest, name, &key);
        }
        let rest: Vec<String> =
            rest.iter().map(|(name, value)| format!("  {}: {value}", Value::from(&**name))).collect();
        let begin = if self.count == 0 { "{\n  \"pairs\": [" } else { "\n  " };
        say!("{begin}],\n{}\n}}", rest.join(",\n"));
        Ok(())
    }
}

impl Ctl {
    pub(super) async fn scan(&self, args: &ScanArgs) -> Result<(), Failure> {
        let pages = Pages::new(&self.raw, args.range.range(self.form)?, args.reverse, args.keys_only);
        self.list(pages, args.limit, "scan").await
    }

    /// Prints the first `limit` pairs. `command` continues the listing.
    pub(super) async fn list(&self, mut pages: Pages<'_>, limit: usize, command: &str) -> Result<(), Failure> {
        let (start, end, reverse, keys_only) = (pages.start.clone(), pages.end.clone(), pages.reverse, pages.keys_only);
        let mut printer = Printer { form: self.form, keys_only, count: 0, width: 0 };
        let mut last = None;
        let mut next = None;
        loop {
            // Ask for one more than is shown, to find out whether there are more.
            let left = limit - printer.count;
            let mut pairs = pages.next(left.saturating_add(1)).await?;
            if pairs.is_empty() {
                break;
            }
            let beyond = (pairs.len() > left).then(|| pairs.pop()).flatten();
            if let Some((key, _)) = pairs.last() {
                last = Some(key.clone());
                printer.print(&pairs)?;
            }
            if let Some((key, _)) = beyond {
                next = Some(if reverse { last.clone().unwrap_or_else(|| end.clone()) } else { key });
                break;
            }
        }
        let Some(next) = next else { return printer.end(None) };
        if self.form.json {
            return printer.end(Some((if reverse { "next_end" } else { "next_start" }, next)));
        }
        printer.end(None)?;
        let (from, to) = if reverse { (start, next) } else { (next, end) };
        let mut command = format!("{command} {}", self.form.argument(&from));
        if !to.is_empty() {
            command += &format!(" {}", self.form.argument(&to));
        }
        command += if reverse { " --reverse" } else { "" };
        command += if keys_only { " --keys-only" } else { "" };
        eprintln!("reached --limit {limit}, there are more: continue with `{command}`");
        Ok(())
    }

    pub(super) async fn count(&self, range: &RangeArgs) -> Result<(), Failure> {
        let mut pages = Pages::new(&self.raw, range.range(self.form)?, false, true);
        let bar = ProgressBar::no_length();
        let seen = !self.form.json && std::io::stderr().is_terminal();
        bar.set_draw_target(if seen { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() });
        bar.set_style(ProgressStyle::with_template("{human_pos} keys so far").expect("a sound template"));
        let mut keys = 0u64;
        loop {
            let page = pages.next(usize::MAX).await?;
            if page.is_empty() {
                break;
            }
            keys += page.len() as u64;
            bar.set_position(keys);
        }
        bar.finish_and_clear();
        if self.form.json {
            return show::print_json(&json!({ "keys": keys }));
        }
        say!("{keys}");
        Ok(())
    }

    pub(super) async fn delete_range(&self, range: &RangeArgs, everything: bool) -> Result<(), Failure> {
        let (start, end) = range.range(self.form)?;
        let all = start.is_empty() && end.is_empty();
        if everything != all || !(everything || range.is_explicit()) {
            return Err(Failure::usage("delete-range: give START and END, or --prefix, or only --everything"));
        }
        if !end.is_empty() && start >= end {
            return Err(Failure::usage("delete-range: START must be before END"));
        }
        // TiKV refuses an end that is empty or longer than a key may be, so the largest key is deleted separately.
        // With API V2 the end of the keyspace is one.
        let greatest = Bytes::from(vec![0xff; KEY_BYTES_MAX]);
        let open = end.is_empty() && start <= greatest && self.raw.space() == Space::V1;
        let until = if open { greatest.clone() } else { end };
        let removed = match self.raw.delete_range(start, until).await {
            Ok(()) if open => self.raw.delete(greatest).await,
            removed => removed,
        };
        match removed {
            Ok(()) => self.done(json!({ "ok": true })),
            Err(error @ Error::Unknown(_)) => {
                Err(Failure::new(error).hint("part of the range may be deleted: run it again with a longer --timeout"))
            }
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_a_range() {
        for (prefix, end) in [
            (&b"a"[..], &b"b"[..]),
            (b"user:", b"user;"),
            (b"a\xff", b"b"),
            (b"\xff\xff", b""),
            (b"", b""),
            (b"\xfe\xff\xff", b"\xff"),
        ] {
            assert_eq!(range_of_prefix(prefix), (Bytes::copy_from_slice(prefix), Bytes::copy_from_slice(end)));
        }
    }
}
