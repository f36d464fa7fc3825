//! One page: takes pairs in key order, gives rows or partial aggregates.

use std::io::Write as _;
use std::sync::Arc;

use bytes::Bytes;

use crate::types::limits::{
    QUERY_CHUNK_BYTES_FULL, QUERY_FRAME_BYTES, QUERY_PAGE_BYTES_MAX, QUERY_PAGE_SCAN_BYTES_MAX, QUERY_PATHS_MAX,
};

use super::aggregate::{Partial, Whole};
use super::chunk::{Chunk, ROWS};
use super::eval;
use super::groups::Groups;
use super::json::{self, Parser, Unparsed};
use super::request::{Plan, hex};

/// Maximum bytes of rows in one page.
const ROWS_BYTES_MAX: usize = QUERY_PAGE_BYTES_MAX - QUERY_FRAME_BYTES;

/// Whether a page takes more rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// The page takes the next pair.
    More,
    /// The page takes no more pairs. It says where the next page begins, or that the query has enough rows.
    Full,
}

/// Counts of what was read for a page or a result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scanned {
    /// Pairs that have not expired.
    pub rows: u64,
    /// Bytes of the keys and values of these pairs.
    pub bytes: u64,
    /// Values that were parsed and are not JSON.
    pub not_json: u64,
    /// Values that would have been parsed, but are longer than
    /// [`QUERY_VALUE_BYTES_MAX`](crate::types::limits::QUERY_VALUE_BYTES_MAX).
    pub too_long: u64,
}

/// A row that waits for the end of its chunk.
#[derive(Debug)]
struct Waiting {
    /// Where the row's key begins in the memory of the chunk.
    key: usize,
    /// Where the row's value begins and ends.
    value: usize,
    end: usize,
    /// The counts before this row was read.
    before: Scanned,
    /// Bytes of the row's key and value.
    bytes: u64,
}

#[derive(Debug)]
enum Outcome {
    Rows,
    Whole(Whole),
    Groups(Groups),
}

/// How a page ends before its range does.
#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    /// The next page begins at this key.
    Next(Vec<u8>),
    /// The query has enough rows.
    Enough,
}

/// A page that is being filled.
pub struct Page {
    plan: Arc<Plan>,
    parser: Parser,
    chunk: Chunk,
    waiting: Vec<Waiting>,
    /// Keys and values of the waiting rows.
    memory: Vec<u8>,
    result: Outcome,
    /// Rows in the form in which they are sent, separated by commas.
    out: Vec<u8>,
    scanned: Scanned,
    /// How many pairs and bytes were read, including expired pairs.
    read: (u64, u64),
    matched: u64,
    end: Option<End>,
}

impl Page {
    /// Creates an empty page.
    pub fn new(plan: Arc<Plan>) -> Page {
        let result = match (&plan.select, plan.group) {
            (Some(_), _) => Outcome::Rows,
            (None, None) => Outcome::Whole(Whole::new(&plan.aggregates)),
            (None, Some(_)) => Outcome::Groups(Groups::default()),
        };
        Page {
            chunk: Chunk::new(plan.columns),
            parser: Parser::new(),
            waiting: Vec::new(),
            memory: Vec::new(),
            result,
            out: Vec::new(),
            scanned: Scanned::default(),
            read: (0, 0),
            matched: 0,
            end: (plan.limit == 0).then_some(End::Enough),
            plan,
        }
    }

    /// Returns whether the page takes another pair.
    pub fn room(&self) -> Room {
        if self.end.is_some() { Room::Full } else { Room::More }
    }

    /// Returns the approximate bytes of memory that the page uses: rows or groups, the columns, and the parser's
    /// buffers. While a value is parsed, it takes up to 30 times its length in addition.
    pub fn bytes(&self) -> usize {
        let groups = if let Outcome::Groups(groups) = &self.result { groups.bytes() } else { 0 };
        self.out.capacity() + self.memory.capacity() + groups + self.chunk.bytes() + self.parser.bytes()
    }

    /// Counts a pair towards the page's end. Returns whether it is the last one.
    fn count(&mut self, bytes: u64) -> bool {
        self.read.0 += 1;
        self.read.1 += bytes;
        self.read.0 >= self.plan.page_rows || self.read.1 >= QUERY_PAGE_SCAN_BYTES_MAX
    }

    /// Skips an expired pair of `bytes` bytes with the next larger key. It is not a row, but it took time to read.
    pub fn pass(&mut self, key: &[u8], bytes: usize) -> Room {
        assert!(self.end.is_none(), "a full page takes no more pairs");
        if self.count(bytes as u64) {
            self.end = Some(End::Next(after(key)));
        }
        self.room()
    }

    /// Adds a pair with the next larger key.
    ///
    /// # Errors
    /// Fails if a row or a string does not fit in any page.
    pub fn push(&mut self, key: &[u8], value: &[u8]) -> Result<Room, String> {
        assert!(self.end.is_none(), "a full page takes no more pairs");
        let before = self.scanned;
        let bytes = (key.len() + value.len()) as u64;
        self.scanned.rows += 1;
        self.scanned.bytes += bytes;
        let last = self.count(bytes);
        let dropped = last && crate::mutant!("query.page-drops-last");
        if !dropped && self.plan.bytes.takes(value) {
            if self.plan.filter.is_none() && self.plan.select.is_some() {
                self.show(key, value, before)?;
            } else {
                self.wait(key, value, before)?;
            }
        }
        if last && self.end.is_none() {
            self.end = Some(End::Next(after(key)));
        }
        Ok(self.room())
    }

    /// Counts a value that could not be parsed.
    fn unparsed(&mut self, why: Unparsed) {
        match why {
            Unparsed::NotJson => self.scanned.not_json += 1,
            Unparsed::TooLong => self.scanned.too_long += 1,
        }
    }

    /// Parses the columns of a row. The predicate and the aggregates are evaluated at the end of the chunk.
    fn wait(&mut self, key: &[u8], value: &[u8], before: Scanned) -> Result<(), String> {
        let (chunk, plan) = (&mut self.chunk, &self.plan);
        if let Err(why) = self.parser.parse(value, |nodes| chunk.push(&plan.trie, nodes)) {
            self.unparsed(why);
            return Ok(());
        }
        let at = self.memory.len();
        if !matches!(self.result, Outcome::Whole(_)) {
            self.memory.extend_from_slice(key);
        }
        let begin = self.memory.len();
        if matches!(self.result, Outcome::Rows) {
            self.memory.extend_from_slice(value);
        }
        let bytes = (key.len() + value.len()) as u64;
        self.waiting.push(Waiting { key: at, value: begin, end: self.memory.len(), before, bytes });
        if self.chunk.rows == ROWS || self.memory.len().max(self.chunk.text_bytes()) >= QUERY_CHUNK_BYTES_FULL {
            self.flush()?;
        }
        Ok(())
    }

    /// Ends the chunk.
    fn flush(&mut self) -> Result<(), String> {
        self.chunk.close();
        let rows = match &self.plan.filter {
            Some(filter) => eval::rows(filter, &self.chunk),
            None => self.chunk.all(),
        };
        let plan = self.plan.clone();
        if let Outcome::Whole(whole) = &mut self.result {
            whole.add(&plan.aggregates, &self.chunk, &rows)?;
            self.matched += rows.count() as u64;
        } else {
            let memory = std::mem::take(&mut self.memory);
            let waiting = std::mem::take(&mut self.waiting);
            for row in &rows {
                let Waiting { key, value, end, before, bytes } = waiting[row];
                let (key, value) = (&memory[key..value], &memory[value..end]);
                if let (Outcome::Groups(groups), Some(by)) = (&mut self.result, plan.group) {
                    if groups.add(&plan.aggregates, by, &self.chunk, row)? {
                        self.matched += 1;
                    } else {
                        self.scanned = before;
                        self.end = Some(End::Next(key.to_vec()));
                    }
                } else {
                    let so_far = self.scanned;
                    self.scanned = Scanned { rows: before.rows + 1, bytes: before.bytes + bytes, ..before };
                    self.show(key, value, before)?;
                    if self.end.is_none() {
                        self.scanned = so_far;
                    }
                }
                if self.end.is_some() {
                    break;
                }
            }
            (self.memory, self.waiting) = (memory, waiting);
        }
        self.memory.clear();
        self.memory.shrink_to(2 * QUERY_CHUNK_BYTES_FULL);
        self.waiting.clear();
        self.chunk.clear();
        Ok(())
    }

    /// Adds a selected row. `before` has the counts before it was read; `self.scanned` must be right if the row is the
    /// last one.
    fn show(&mut self, key: &[u8], value: &[u8], before: Scanned) -> Result<(), String> {
        let begin = self.out.len();
        let (out, plan) = (&mut self.out, &self.plan);
        let select = plan.select.as_deref().unwrap_or_default();
        out.extend_from_slice(if begin == 0 { b"" } else { b"," });
        out.extend_from_slice(b"{\"key\":\"");
        hex(key, out);
        out.extend_from_slice(b"\",\"values\":[");
        let shown = self.parser.parse(value, |nodes| {
            // Where the value of each path was written.
            let mut places = [(0, 0); QUERY_PATHS_MAX];
            for (n, path) in select.iter().enumerate() {
                out.extend_from_slice(if n == 0 { b"" } else { b"," });
                let place = out.len();
                // A path that occurred before is copied instead of looked up and written again.
                let (from, to) = if plan.same[n] < n { places[plan.same[n]] } else { (0, 0) };
                if place + (to - from) > ROWS_BYTES_MAX {
                    return false;
                }
                if to > 0 {
                    out.extend_from_within(from..to);
                } else {
                    match json::locate(nodes, path) {
                        // The whole value, as it is stored.
                        Some(0) => out.extend_from_slice(value),
                        Some(at) if json::write(nodes, at, out, ROWS_BYTES_MAX).is_none() => return false,
                        Some(_) => {}
                        None => out.extend_from_slice(b"null"),
                    }
                }
                places[n] = (place, out.len());
            }
            out.extend_from_slice(b"]}");
            out.len() <= ROWS_BYTES_MAX
        });
        let fits = shown.unwrap_or_else(|why| {
            self.unparsed(why);
            self.out.truncate(begin);
            true
        });
        if !fits {
            self.out.truncate(begin);
            self.out.shrink_to(ROWS_BYTES_MAX);
            if begin == 0 {
                let key = key[..key.len().min(32)].escape_ascii();
                return Err(format!(
                    "the selected parts of the value at key {key} need more than the {ROWS_BYTES_MAX} bytes of a page: select less"
                ));
            }
            self.scanned = before;
            self.end = Some(End::Next(key.to_vec()));
            return Ok(());
        }
        if self.out.len() > begin {
            self.matched += 1;
            if self.matched == self.plan.limit {
                self.end = Some(End::Enough);
            }
        }
        Ok(())
    }

    /// Returns the page as it is sent. It is the last one of its range if [`Room::Full`] was never returned, or if the
    /// limit was reached.
    ///
    /// # Errors
    /// Same as [`Page::push`].
    pub fn finish(mut self) -> Result<Bytes, String> {
        self.flush_rest()?;
        let mut out = Vec::with_capacity(self.out.len() + QUERY_FRAME_BYTES);
        match self.result {
            Outcome::Rows => {
                out.extend_from_slice(b"{\"rows\":[");
                out.extend_from_slice(&self.out);
            }
            Outcome::Whole(whole) => {
                out.extend_from_slice(b"{\"groups\":[{\"values\":");
                partials(whole.partials(), &mut out);
                out.push(b'}');
            }
            Outcome::Groups(groups) => {
                out.extend_from_slice(b"{\"groups\":[");
                for (n, (key, values)) in groups.sorted().into_iter().enumerate() {
                    out.extend_from_slice(if n == 0 { b"{\"key\":" } else { b",{\"key\":" });
                    key.write(&mut out);
                    out.extend_from_slice(b",\"values\":");
                    partials(&values, &mut out);
                    out.push(b'}');
                }
            }
        }
        let Scanned { rows, bytes, not_json, too_long } = self.scanned;
        let enough = self.end == Some(End::Enough);
        write!(
            out,
            "],\"scanned\":{{\"rows\":{rows},\"bytes\":{bytes},\"not_json\":{not_json},\"too_long\":{too_long}}},\
             \"matched\":{},\"enough\":{enough},\"next\":",
            self.matched
        )
        .expect("memory takes it");
        match &self.end {
            None | Some(End::Enough) => out.extend_from_slice(b"null}"),
            Some(End::Next(key)) => {
                out.push(b'"');
                hex(key, &mut out);
                out.extend_from_slice(b"\"}");
            }
        }
        assert!(out.len() <= QUERY_PAGE_BYTES_MAX, "a page of {} bytes", out.len());
        Ok(out.into())
    }

    fn flush_rest(&mut self) -> Result<(), String> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        // If rows end the page before its own end, they decide where it ends.
        let end = self.end.take();
        self.flush()?;
        if self.end.is_none() {
            self.end = end;
        }
        Ok(())
    }
}

fn partials(partials: &[Partial], out: &mut Vec<u8>) {
    for (n, partial) in partials.iter().enumerate() {
        out.extend_from_slice(if n == 0 { b"[" } else { b"," });
        partial.write(out);
    }
    out.push(b']');
}

/// Returns the smallest key above `key`.
fn after(key: &[u8]) -> Vec<u8> {
    if crate::mutant!("query.cursor-repeats") { key.to_vec() } else { [key, &[0]].concat() }
}
