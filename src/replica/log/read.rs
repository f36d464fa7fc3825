//! Reads of entries: planned from the index, carried out by the owner of the plan.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use raft::eraftpb::Entry;

use super::index::Run;
use super::{batch, recovery};
use crate::rt::disk::File;
use crate::types::{Error, GroupId, Result};

/// A planned read of a group's entries.
#[derive(Debug)]
pub struct LogRead {
    pub(super) group: GroupId,
    pub(super) low: u64,
    pub(super) high: u64,
    pub(super) max_bytes: usize,
    pub(super) spans: Vec<Span>,
}

/// Runs that lie close together and are read at once.
#[derive(Debug)]
pub(super) struct Span {
    pub segment: u64,
    pub path: PathBuf,
    pub file: File,
    /// Keeps the segment from being freed.
    pub _reader: Arc<()>,
    /// The bytes `[start, end)` of the segment.
    pub start: u64,
    pub end: u64,
    pub runs: Vec<Run>,
}

impl LogRead {
    /// Reads as many entries as fit into the requested bytes, but at least one. They share the memory of the read that
    /// returned them.
    ///
    /// # Errors
    /// [`Error::Corruption`] if the file is damaged; [`Error::Io`] if the disk fails.
    pub async fn run(self) -> Result<Vec<Entry>> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut taken = 0;
        for span in &self.spans {
            let bytes = read_span(&span.file, &span.path, span.start, span.end).await?;
            for run in &span.runs {
                for entry in entries_of(self.group, run, &span.path, &bytes, span.start)? {
                    if entry.index < self.low || entry.index >= self.high {
                        continue;
                    }
                    let bytes = entry.data.len() + entry.context.len() + 32;
                    if !entries.is_empty() && taken + bytes > self.max_bytes {
                        return Ok(entries);
                    }
                    taken += bytes;
                    entries.push(entry);
                }
            }
        }
        Ok(entries)
    }
}

/// Reads the bytes `[start, end)` of a segment's file.
pub(super) async fn read_span(file: &File, path: &Path, start: u64, end: u64) -> Result<Bytes> {
    let span = file.read_at(start, (end - start) as usize).await;
    let span = span.map_err(|error| Error::Io(format!("raft log: {}: {error}", path.display())))?;
    if (span.len() as u64) < end - start {
        return Err(recovery::corrupt(path, start + span.len() as u64, "the file ends too early"));
    }
    Ok(span)
}

/// Decodes the live entries of a run. `span` holds the bytes of the segment from `start` on.
pub(super) fn entries_of(group: GroupId, run: &Run, path: &Path, span: &Bytes, start: u64) -> Result<Vec<Entry>> {
    let at = (u64::from(run.offset) - start) as usize;
    let damaged = || recovery::corrupt(path, u64::from(run.offset), &format!("entries of group {group} are damaged"));
    let mut entries = batch::decode_run(&span.slice(at..at + run.bytes as usize), group).ok_or_else(damaged)?;
    let (skip, count) = (usize::from(run.skip), usize::from(run.count));
    if entries.len() < skip + count {
        return Err(damaged());
    }
    entries.truncate(skip + count);
    entries.drain(..skip);
    if entries.first().map(|entry| (entry.index, entry.term)) != Some((run.first, run.term)) {
        return Err(damaged());
    }
    Ok(entries)
}
