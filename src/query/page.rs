//! One page: pairs in, in order of their keys; rows or partial aggregates out.

use std::io::Write as _;
use std::sync::Arc;

use bytes::Bytes;

use crate::types::limits::{QUERY_PAGE_BYTES_MAX, QUERY_PAGE_SCAN_BYTES_MAX};

use super::aggregate::{Partial, Whole};
use super::chunk::{Chunk, ROWS};
use super::eval;
use super::groups::Groups;
use super::json::{self, Parser};
use super::request::{Plan, hex};

/// Bytes of rows that wait for the end of their chunk, at which it ends early.
const CHUNK_BYTES: usize = 1 << 20;
/// Room for what surrounds the rows or groups.
pub(super) const FRAME_BYTES: usize = (16 << 10) + 512;

/// Whether a page takes more rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// The next pair.
    More,
    /// No more: the page says where the next begins.
    Full,
}

/// What was read for a page, or for an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scanned {
    /// Pairs.
    pub rows: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// Values that were parsed and are not JSON.
    pub not_json: u64,
}

/// A row that waits for the end of its chunk.
#[derive(Debug)]
struct Waiting {
    /// Where its key begins in the memory of the chunk.
    key: usize,
    /// Where its value begins, and ends.
    value: usize,
    end: usize,
    /// What had been read before it.
    before: Scanned,
    /// Bytes of its key and value.
    bytes: u64,
}

#[derive(Debug)]
enum Outcome {
    Rows,
    Whole(Whole),
    Groups(Groups),
}

/// A page that is being filled.
pub struct Page {
    plan: Arc<Plan>,
    parser: Parser,
    chunk: Chunk,
    waiting: Vec<Waiting>,
    /// Keys and values of the rows that wait.
    memory: Vec<u8>,
    result: Outcome,
    /// Rows as they are sent, with commas between.
    out: Vec<u8>,
    scanned: Scanned,
    matched: u64,
    next: Option<Vec<u8>>,
}

impl Page {
    /// An empty page.
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
            matched: 0,
            next: (plan.limit == 0).then(|| plan.from.to_vec()),
            plan,
        }
    }

    /// Whether it takes a pair.
    pub fn room(&self) -> Room {
        if self.next.is_some() { Room::Full } else { Room::More }
    }

    /// Bytes of memory that its rows or groups take, about.
    pub fn bytes(&self) -> usize {
        let groups = if let Outcome::Groups(groups) = &self.result { groups.bytes() } else { 0 };
        self.out.len() + self.memory.len() + groups
    }

    /// Adds a pair with the next larger key.
    ///
    /// # Errors
    /// A row or a text that no page can carry.
    pub fn push(&mut self, key: &[u8], value: &[u8]) -> Result<Room, String> {
        assert!(self.next.is_none(), "a full page takes no pair");
        let before = self.scanned;
        let bytes = (key.len() + value.len()) as u64;
        self.scanned.rows += 1;
        self.scanned.bytes += bytes;
        let last = self.scanned.rows >= self.plan.page_rows || self.scanned.bytes >= QUERY_PAGE_SCAN_BYTES_MAX;
        let dropped = last && crate::mutant!("query.page-drops-last");
        if !dropped && self.plan.bytes.takes(value) {
            if self.plan.filter.is_none() && self.plan.select.is_some() {
                self.show(key, value, before)?;
            } else {
                self.wait(key, value, before)?;
            }
        }
        if last && self.next.is_none() {
            self.next = Some(after(key));
        }
        Ok(self.room())
    }

    /// Parses a row's columns, for the predicate and the aggregates at the end of the chunk.
    fn wait(&mut self, key: &[u8], value: &[u8], before: Scanned) -> Result<(), String> {
        let (chunk, plan) = (&mut self.chunk, &self.plan);
        if self.parser.parse(value, |nodes| chunk.push(&plan.trie, nodes)).is_none() {
            self.scanned.not_json += 1;
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
        if self.chunk.rows == ROWS || self.memory.len().max(self.chunk.text_bytes()) >= CHUNK_BYTES {
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
                        self.next = Some(key.to_vec());
                    }
                } else {
                    let so_far = self.scanned;
                    self.scanned = Scanned { rows: before.rows + 1, bytes: before.bytes + bytes, ..before };
                    self.show(key, value, before)?;
                    if self.next.is_none() {
                        self.scanned = so_far;
                    }
                }
                if self.next.is_some() {
                    break;
                }
            }
            (self.memory, self.waiting) = (memory, waiting);
        }
        self.memory.clear();
        self.waiting.clear();
        self.chunk.clear();
        Ok(())
    }

    /// Adds a row that is selected; `before` is what was read before it. What was read is right when it is the last one.
    fn show(&mut self, key: &[u8], value: &[u8], before: Scanned) -> Result<(), String> {
        let begin = self.out.len();
        let (out, select) = (&mut self.out, self.plan.select.as_deref().unwrap_or_default());
        out.extend_from_slice(if begin == 0 { b"" } else { b"," });
        out.extend_from_slice(b"{\"key\":\"");
        hex(key, out);
        out.extend_from_slice(b"\",\"values\":[");
        let written = self.parser.parse(value, |nodes| {
            for (n, path) in select.iter().enumerate() {
                out.extend_from_slice(if n == 0 { b"" } else { b"," });
                match json::locate(nodes, path) {
                    // The whole value, as it is stored.
                    Some(0) => out.extend_from_slice(value),
                    Some(at) => drop(json::write(nodes, at, out)),
                    None => out.extend_from_slice(b"null"),
                }
            }
        });
        out.extend_from_slice(b"]}");
        if written.is_none() {
            self.scanned.not_json += 1;
            self.out.truncate(begin);
            return Ok(());
        }
        let bytes = self.out.len() - begin;
        if self.out.len() > QUERY_PAGE_BYTES_MAX - FRAME_BYTES {
            if begin == 0 {
                let key = key[..key.len().min(32)].escape_ascii();
                return Err(format!(
                    "what is selected of the value at key {key} takes {bytes} bytes, over the limit of {} bytes: select less of it",
                    QUERY_PAGE_BYTES_MAX - FRAME_BYTES
                ));
            }
            self.out.truncate(begin);
            self.scanned = before;
            self.next = Some(key.to_vec());
            return Ok(());
        }
        self.matched += 1;
        if self.matched == self.plan.limit {
            self.next = Some(after(key));
        }
        Ok(())
    }

    /// The page as it is sent. Without [`Room::Full`] it is the last one of its range.
    ///
    /// # Errors
    /// As [`Page::push`].
    pub fn finish(mut self) -> Result<Bytes, String> {
        self.flush_rest()?;
        let mut out = Vec::with_capacity(self.out.len() + FRAME_BYTES);
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
        let Scanned { rows, bytes, not_json } = self.scanned;
        write!(
            out,
            "],\"scanned\":{{\"rows\":{rows},\"bytes\":{bytes},\"not_json\":{not_json}}},\"matched\":{},\"next\":",
            self.matched
        )
        .expect("memory takes it");
        match &self.next {
            None => out.extend_from_slice(b"null}"),
            Some(key) => {
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
        // Rows that end the page before its own end win over it.
        let end = self.next.take();
        self.flush()?;
        if self.next.is_none() {
            self.next = end;
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

/// The smallest key above `key`.
fn after(key: &[u8]) -> Vec<u8> {
    if crate::mutant!("query.cursor-repeats") { key.to_vec() } else { [key, &[0]].concat() }
}
