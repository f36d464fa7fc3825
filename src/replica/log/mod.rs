//! # log: the raft log of all groups, which is also the write-ahead log of the store
//!
//! **In** come batches: entries, hard states, truncation marks, resets and removals of any number of groups. **Out** go
//! the confirmation that a whole batch is durable, after ONE write and ONE fdatasync, and old entries when a group asks
//! for them. The same code runs in production and in the simulator: it uses only [`crate::rt::disk`], where the
//! simulator may delay, tear or fail every write and sync.
//!
//! ```text
//!   dir/0000000000000007.log   (numbers below the first live one: spare files, recycled by renaming)
//!   dir/0000000000000008.log   | header page | record | record | record |
//!   dir/0000000000000009.log   | header page | record | rec                     <- the active segment
//!   dir/0000000000000010.new   (a segment being created, renamed when its header is durable)
//!                                 ^            ^ one batch: frame (64 bytes), items, zeroes up to the end of the page
//!                                 where 8 ends, the first sequence number, the first live segment
//! ```
//!
//! ## What must never happen, and why it does not
//!
//! * **An acknowledged batch is lost or incomplete.** `write` returns after fdatasync. A record is accepted only
//!   if its checksum matches, and the name of its segment was durable before the record was acknowledged. After a
//!   failed write or sync the log is *poisoned*: the page cache can no longer be trusted, so every later call fails
//!   with the first reason.
//! * **A write destroys data that was durable before it.** Records begin on page boundaries, so a page that holds
//!   synced data is never written again. Nothing is repaired in place either: a start leaves the old segments as they
//!   are and begins a new one, whose header says where its predecessor ends. A partial record beyond that point is
//!   never read again.
//! * **An old record is mistaken for a new one.** Recycled files are full of old records. Each record carries the log's
//!   ID, the segment number, its own offset and a sequence number without gaps, all covered by its checksum. A segment
//!   number is never reused once a record was written under it.
//! * **Damage is mistaken for a torn tail.** Each record says up to which offset its segment was durable when the
//!   record was written. If a later record says that a damaged place was durable, the log is corrupt and does not open;
//!   the error names the file and the offset. The same holds for anything wrong in a segment that has a successor, and
//!   for a missing file at or above the first live segment.
//! * **A read after a failed fsync is trusted.** The kernel may show pages that never reached the disk, even to the
//!   next process. Every start therefore writes the records that are not known to be durable (nearly always only the
//!   last one) again, into the new segment.
//! * **A segment is freed while it is needed.** A segment is freed once no group has entries in it. Hard states and
//!   marks that exist only there are written again in the record that declares the segment dead, and the file is not
//!   touched until that record is durable.
//!
//! Modules: [`format`](self) defines headers and frames, `batch` the items, `index` keeps the location of everything,
//! `recovery` opens the log, and `housekeeping` implements [`RaftLog::maintain`].

mod batch;
mod format;
mod housekeeping;
mod index;
mod read;
mod recovery;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use raft::eraftpb::Entry;

pub use batch::LogBatch;
pub use index::GroupLog;
pub use read::LogRead;

use crate::rt::disk::{Disk, File};
use crate::types::limits::{LOG_BATCH_BYTES_MAX, LOG_READ_BYTES_MAX, LOG_READ_GAP_BYTES_MAX};
use crate::types::{Error, GroupId, Result};
use batch::Items;
use format::{DATA_START, PAGE, RECORD_HEADER, RecordHeader, SegmentHeader, pages};
use index::{Follow, Index, Run};
use read::Span;

/// The planted bugs of this module, and what each of them breaks.
pub const MUTANTS: &[(&str, &str)] = &[
    ("log.ack-before-fsync", "a batch is acknowledged without its fdatasync"),
    (
        "log.skip-dir-sync-on-new-segment",
        "a new segment's name is not made durable before records in it are acknowledged",
    ),
    ("log.crc-not-verified", "a record is accepted without verifying its checksum"),
    ("log.torn-tail-as-corruption", "a partial record at the end of the last segment keeps the node from starting"),
    ("log.truncate-wrong-index", "truncation drops one entry too many"),
    ("log.hard-state-not-persisted", "term, vote and commit are not written"),
    ("log.recycled-record-accepted", "a record from an earlier use of the file is accepted as a new one"),
    ("log.half-write-taken", "a write that stored only a part of its bytes is taken as complete"),
    ("log.free-segment-too-early", "a segment is freed without rewriting the hard states and marks that live in it"),
];

/// Zeroes to fill files with.
static ZEROES: [u8; 64 << 10] = [0; 64 << 10];

/// Options of a log.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// The log's directory, which nothing else uses; created if it is missing.
    pub dir: PathBuf,
    /// The size of a segment in bytes: 64 MiB in production. A batch that is larger than a segment gets a larger one of
    /// its own.
    pub segment_bytes: u64,
    /// Maximum number of freed segments that are kept for recycling; the others are removed.
    pub spare_segments_max: usize,
    /// When the segments hold more bytes than this and most of them are dead, live entries of the oldest segment are
    /// rewritten.
    pub live_bytes_soft_max: u64,
    /// The number of this start of the data directory, one higher than the number of the start before it.
    pub boot: u64,
    /// The number of the last start that is known to have opened the log. A log that an earlier start left is an older
    /// copy.
    pub boot_min: u64,
}

/// Statistics of a log. Counters start at zero when the log is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogStats {
    /// Segments in use, including the active one.
    pub segments: usize,
    /// Files that wait to be recycled.
    pub spare_segments: usize,
    /// Bytes of entries that are still needed.
    pub live_bytes: u64,
    /// The other bytes in segments: frames, padding, marks, and entries that were truncated or overwritten.
    pub dead_bytes: u64,
    /// Calls of fdatasync, and of fsync on the directory.
    pub syncs: u64,
    /// Bytes written, including padding and preallocation.
    pub bytes_written: u64,
    /// Records written, one for each batch.
    pub records: u64,
    /// Segments created by renaming a spare file.
    pub recycled: u64,
    /// Segments created as new files.
    pub created: u64,
    /// Bytes of entries that [`RaftLog::maintain`] moved to newer segments.
    pub rewritten_bytes: u64,
}

#[derive(Debug)]
struct Segment {
    file: File,
    /// Where the segment's records end, in bytes.
    end: u64,
    /// Held by every reader of the segment.
    readers: Arc<()>,
}

impl Segment {
    fn new(file: File, end: u64) -> Segment {
        Segment { file, end, readers: Arc::default() }
    }

    fn is_read(&self) -> bool {
        Arc::strong_count(&self.readers) > 1
    }
}

/// The raft log of all groups. A single task owns it.
#[derive(Debug)]
pub struct RaftLog {
    disk: Disk,
    options: LogOptions,
    /// The log's ID, which is part of every record.
    id: u64,
    index: Index,
    /// By number, from the first live segment to the active one.
    segments: BTreeMap<u64, Segment>,
    /// Numbers of the files that wait to be recycled.
    spares: Vec<u64>,
    /// The active segment's number.
    active: u64,
    /// The offset of the next record.
    tail: u64,
    /// The active file holds zeroes or old content up to this offset, so that a sync need not allocate blocks.
    filled: u64,
    /// The active segment is durable up to this offset.
    durable: u64,
    /// The next record's sequence number.
    seq: u64,
    /// Segments below this number are dead.
    first_live: u64,
    /// The write buffer, which is reused.
    buffer: BytesMut,
    /// Whether a change is in progress.
    busy: bool,
    /// Why the log no longer works.
    poison: Option<Error>,
    stats: LogStats,
}

/// Returns the name of a segment's file.
fn file_name(number: u64) -> String {
    format!("{number:016}.log")
}

impl RaftLog {
    /// Opens the log in `options.dir`, or creates one there. The ID of a new log, which keeps the files of different
    /// logs apart, is derived from the directory's name; see [`RaftLog::open_with_id`].
    ///
    /// # Errors
    /// [`Error::Corruption`], naming the file and the offset, if the files are damaged; [`Error::Invalid`] if a newer
    /// version wrote them; [`Error::Io`] if the disk fails.
    pub async fn open(disk: Disk, options: LogOptions) -> Result<RaftLog> {
        let id = crate::rt::rng::hash_label(0, &options.dir.to_string_lossy());
        recovery::open(disk, options, recovery::Id::Any(id)).await
    }

    /// Like [`RaftLog::open`], but a new log gets `id`, and an existing log with another ID is not opened: it belongs
    /// to another node, whose promises and entries are not those of this node.
    ///
    /// # Errors
    /// Like [`RaftLog::open`]; also [`Error::Invalid`] if the log has another ID.
    pub async fn open_with_id(disk: Disk, options: LogOptions, id: u64) -> Result<RaftLog> {
        recovery::open(disk, options, recovery::Id::Only(id)).await
    }

    /// Returns the directory of the log's files.
    pub fn dir(&self) -> &Path {
        &self.options.dir
    }

    /// Returns the groups in the log, in ascending order.
    pub fn groups(&self) -> Vec<GroupId> {
        self.index.groups.keys().copied().collect()
    }

    /// Returns the log's state of a group.
    pub fn group(&self, group: GroupId) -> Option<&GroupLog> {
        self.index.groups.get(&group).map(|group| &group.log)
    }

    /// Returns the term of the entry at `index`, or of the last truncated entry, without reading from the disk.
    pub fn term(&self, group: GroupId, index: u64) -> Option<u64> {
        self.index.term(group, index)
    }

    /// Writes a batch with one write. If `sync` is set, makes it and everything before it durable with one fdatasync.
    ///
    /// # Errors
    /// [`Error::Stopped`] with the reason if the disk failed, now or in an earlier call; [`Error::Invalid`] if the
    /// batch is too large or does not continue the log. Every error but that of a batch that is too large poisons the
    /// log: nothing works until it is opened again.
    pub async fn write(&mut self, batch: &LogBatch, sync: bool) -> Result<()> {
        if batch.bytes() > LOG_BATCH_BYTES_MAX {
            // Checked before the index is updated: offsets in a segment have 32 bits.
            return Err(Error::Invalid(format!(
                "a log batch of {} bytes is over the limit of {LOG_BATCH_BYTES_MAX} bytes",
                batch.bytes()
            )));
        }
        self.begin()?;
        let result = self.append(batch.payload(), self.first_live, sync).await;
        self.end(result)
    }

    /// Returns the bytes of entries in a group's log.
    pub fn bytes_of(&self, group: GroupId) -> u64 {
        self.index.groups.get(&group).map_or(0, |group| group.bytes)
    }

    /// Returns the bytes of entries in the logs of all groups.
    pub fn live_bytes(&self) -> u64 {
        self.index.live()
    }

    /// Returns the lowest index from which a group's entries take at most `bytes`. The last run of entries is always
    /// included, even if it is larger.
    pub fn first_within(&self, group: GroupId, bytes: u64) -> u64 {
        let Some(group) = self.index.groups.get(&group) else { return 0 };
        let (mut taken, mut first) = (0, group.log.last_index + 1);
        for run in group.runs.iter().rev() {
            taken += u64::from(run.bytes);
            if taken > bytes && first <= group.log.last_index {
                break;
            }
            first = run.first;
        }
        first
    }

    /// Reads entries `[low, high)` of a group, as many as fit into `max_bytes` but at least one. Entries share the
    /// memory of the read that returned them.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the log does not hold the range; [`Error::Corruption`] if the file is damaged;
    /// [`Error::Stopped`] if the log is poisoned.
    pub async fn read(&self, group: GroupId, low: u64, high: u64, max_bytes: usize) -> Result<Vec<Entry>> {
        self.check()?;
        let read = self.prepare_read(group, low, high, max_bytes);
        let read = read
            .ok_or_else(|| Error::Invalid(format!("group {group}: the log does not hold entries [{low}, {high})")))?;
        read.run().await
    }

    /// Plans what [`RaftLog::read`] would read, so that another task can read it while the log is in use. Returns
    /// `None` if the log does not hold the range. Segments are not freed while they are being read.
    pub fn prepare_read(&self, group: GroupId, low: u64, high: u64, max_bytes: usize) -> Option<LogRead> {
        let state = self.index.groups.get(&group)?;
        if low >= high || state.log.first_index > low || high > state.log.last_index + 1 {
            return None;
        }
        let mut spans: Vec<Span> = Vec::new();
        let mut planned = 0;
        let from = state.runs.partition_point(|run| run.end() <= low);
        for run in state.runs.range(from..).take_while(|run| run.first < high) {
            // Runs that lie close together are read at once.
            let joins = spans.last().is_some_and(|span| {
                let near =
                    u64::from(run.offset) >= span.end && u64::from(run.offset) - span.end <= LOG_READ_GAP_BYTES_MAX;
                let short =
                    run_end(run) - span.start <= LOG_READ_BYTES_MAX.min((max_bytes as u64).saturating_add(PAGE));
                span.segment == u64::from(run.segment) && near && short
            });
            if !joins {
                // Runs beyond the requested bytes are not read.
                if planned > max_bytes as u64 {
                    break;
                }
                let number = u64::from(run.segment);
                let segment = self.segments.get(&number)?;
                spans.push(Span {
                    segment: number,
                    path: self.path(number),
                    file: segment.file.clone(),
                    _reader: segment.readers.clone(),
                    start: u64::from(run.offset),
                    end: 0,
                    runs: Vec::new(),
                });
            }
            let span = spans.last_mut()?;
            span.end = run_end(run);
            span.runs.push(*run);
            planned += u64::from(run.bytes);
        }
        Some(LogRead { group, low, high, max_bytes, spans })
    }

    /// Returns the log's statistics.
    pub fn stats(&self) -> LogStats {
        let held: u64 = self.segments.values().map(|segment| segment.end).sum();
        let live = self.index.live();
        LogStats {
            segments: self.segments.len(),
            spare_segments: self.spares.len(),
            live_bytes: live,
            dead_bytes: held.saturating_sub(live),
            ..self.stats
        }
    }

    fn path(&self, number: u64) -> PathBuf {
        self.options.dir.join(file_name(number))
    }

    fn check(&self) -> Result<()> {
        if self.busy {
            return Err(Error::Stopped("raft log: a write was cancelled before it completed".to_owned()));
        }
        self.poison.as_ref().map_or(Ok(()), |reason| Err(reason.clone()))
    }

    /// Every change runs between `begin` and `end`: a future that is dropped in between leaves the log poisoned.
    fn begin(&mut self) -> Result<()> {
        self.check()?;
        self.busy = true;
        Ok(())
    }

    fn end<T>(&mut self, result: Result<T>) -> Result<T> {
        self.busy = false;
        self.poison = result.as_ref().err().cloned();
        result
    }

    /// Returns the error of a failed disk call, which poisons the log.
    fn failed(&self, what: &str, number: u64, error: &std::io::Error) -> Error {
        Error::Stopped(format!("raft log: {what} {} failed: {error}", self.path(number).display()))
    }

    /// Returns the active segment's file.
    fn file(&self) -> &File {
        &self.segments.get(&self.active).expect("the active segment is there").file
    }

    async fn sync(&mut self) -> Result<()> {
        self.file().sync().await.map_err(|error| self.failed("fdatasync of", self.active, &error))?;
        self.stats.syncs += 1;
        self.durable = self.tail;
        Ok(())
    }

    /// Writes one record. An empty payload only syncs, unless `first_live` changes.
    async fn append(&mut self, payload: &[u8], first_live: u64, sync: bool) -> Result<()> {
        if payload.is_empty() && first_live == self.first_live {
            return if sync && self.durable < self.tail { self.sync().await } else { Ok(()) };
        }
        let len = pages((RECORD_HEADER + payload.len()) as u64);
        let full = self.tail + len > self.options.segment_bytes || crate::buggify!("log.segment-full-early");
        if self.tail > DATA_START && full {
            self.roll().await?;
        }
        let offset = self.tail;
        self.follow(payload, self.active, offset, Follow::Write)?;
        self.put_record(payload, first_live).await?;
        if sync && crate::mutant!("log.ack-before-fsync") {
            self.durable = self.tail;
        } else if sync {
            self.sync().await?;
        }
        Ok(())
    }

    /// Applies a payload, whose record is at `offset` of `segment`, to the index.
    fn follow(&mut self, payload: &[u8], segment: u64, offset: u64, follow: Follow) -> Result<()> {
        let segment_index = u32::try_from(segment).expect("far fewer than 2^32 segments in a log's life");
        for item in Items::new(payload) {
            let place = |at: usize| offset + (RECORD_HEADER + at) as u64;
            let (at, item) = item.map_err(|at| recovery::corrupt(&self.path(segment), place(at), "an unknown item"))?;
            let place = u32::try_from(place(at)).expect("a segment is smaller than 4 GiB");
            self.index.apply(&item, segment_index, place, follow)?;
        }
        Ok(())
    }

    /// Writes a record at the tail of the active segment, with one write and without a sync.
    async fn put_record(&mut self, payload: &[u8], first_live: u64) -> Result<()> {
        assert!(self.durable <= self.tail, "only written bytes are durable");
        assert!(first_live >= self.first_live, "a freed segment is never needed again");
        let header = RecordHeader {
            log: self.id,
            segment: self.active,
            offset: self.tail,
            seq: self.seq,
            durable: self.durable,
            first_live,
            len: u32::try_from(payload.len()).map_err(|_| Error::Invalid("a batch of 4 GiB or more".to_owned()))?,
        };
        let end = header.end();
        u32::try_from(end).map_err(|_| Error::Invalid("a segment of 4 GiB or more".to_owned()))?;
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        buffer.reserve((end - self.tail) as usize);
        buffer.extend_from_slice(&ZEROES[..RECORD_HEADER]);
        buffer.extend_from_slice(payload);
        if crate::mutant!("log.hard-state-not-persisted") {
            batch::blank_hard_states(&mut buffer[RECORD_HEADER..]);
        }
        header.seal(&mut buffer);
        buffer.resize((end - self.tail) as usize, 0);
        let data = buffer.freeze();
        let written = self.file().write_at(self.tail, data.clone()).await;
        if let Err(error) = written {
            crate::reach!("log.write-failed");
            if !crate::mutant!("log.half-write-taken") {
                return Err(self.failed("write to", self.active, &error));
            }
        }
        self.stats.bytes_written += data.len() as u64;
        self.stats.records += 1;
        self.buffer = data.try_into_mut().unwrap_or_default();
        self.tail = end;
        self.seq += 1;
        self.first_live = first_live;
        self.segments.get_mut(&self.active).expect("the active segment is there").end = end;
        if end > self.filled {
            self.fill(end).await?;
        }
        Ok(())
    }

    /// Fills the active file with zeroes for some distance from `from` on, so that later syncs find allocated blocks.
    async fn fill(&mut self, from: u64) -> Result<()> {
        let stretch = (self.options.segment_bytes / 64).clamp(ZEROES.len() as u64, 1 << 20);
        let until = pages((from + stretch).min(self.options.segment_bytes.max(from)));
        let mut at = from;
        while at < until {
            let piece = (until - at).min(ZEROES.len() as u64);
            let zeroes = Bytes::from_static(&ZEROES[..piece as usize]);
            let written = self.file().write_at(at, zeroes).await;
            written.map_err(|error| self.failed("allocating", self.active, &error))?;
            self.stats.bytes_written += piece;
            at += piece;
        }
        self.filled = until;
        Ok(())
    }

    /// Ends the active segment and starts the next one.
    async fn roll(&mut self) -> Result<()> {
        if self.durable < self.tail {
            self.sync().await?;
        }
        let ended = self.active;
        self.start_segment(ended + 1, self.tail, &[]).await?;
        self.cut(ended).await
    }

    /// Calls [`RaftLog::cut`] for every segment but the active one: each start ends a segment early, and may die before
    /// it cuts its file.
    async fn cut_ended(&mut self) -> Result<()> {
        for number in self.first_live..self.active {
            self.cut(number).await?;
        }
        Ok(())
    }

    /// Cuts the file of an ended segment where its records end, so that files take no more space than their records.
    /// Nothing is read beyond that end once the next segment has its name. Not synced: a file that stays too long is
    /// cut at the next start.
    async fn cut(&mut self, number: u64) -> Result<()> {
        let segment = self.segments.get(&number).expect("an ended segment is there");
        let (file, end) = (segment.file.clone(), segment.end);
        let length = file.len().await.map_err(|error| self.failed("reading the length of", number, &error))?;
        if length > end {
            file.set_len(end).await.map_err(|error| self.failed("truncating", number, &error))?;
        }
        Ok(())
    }

    /// Starts segment `number`. Its header and `copy`, which becomes its first record, are durable before the file gets
    /// its name, and the name is durable before anything relies on it: a file with the name of a segment is always
    /// complete.
    async fn start_segment(&mut self, number: u64, previous_end: u64, copy: &[u8]) -> Result<()> {
        let (path, dir) = (self.path(number), self.options.dir.clone());
        let (from, file) = if let Some(spare) = self.spares.pop() {
            crate::reach!("log.segment-recycled");
            self.stats.recycled += 1;
            let from = self.path(spare);
            (from.clone(), self.disk.open(&from).await)
        } else {
            self.stats.created += 1;
            let from = path.with_extension("new");
            (from.clone(), self.disk.create(&from).await)
        };
        let file = file.map_err(|error| self.failed("creating", number, &error))?;
        let length = file.len().await.map_err(|error| self.failed("reading the length of", number, &error))?;
        self.segments.insert(number, Segment::new(file, DATA_START));
        self.active = number;
        self.tail = DATA_START;
        self.durable = DATA_START;
        self.filled = length / PAGE * PAGE;
        let first_seq = self.seq;
        if !copy.is_empty() {
            self.put_record(copy, self.first_live).await?;
        } else if length > DATA_START {
            // A start that died before this one may have written its copy here, under this number.
            let cleared = self.file().write_at(DATA_START, Bytes::from_static(&ZEROES[..PAGE as usize])).await;
            cleared.map_err(|error| self.failed("clearing", number, &error))?;
            self.stats.bytes_written += PAGE;
        }
        let header = SegmentHeader {
            log: self.id,
            number,
            previous_end,
            first_seq,
            first_live: self.first_live,
            durable: self.tail,
            boot: self.options.boot,
        };
        let written = self.file().write_at(0, Bytes::from(header.encode())).await;
        written.map_err(|error| self.failed("writing the header of", number, &error))?;
        self.stats.bytes_written += PAGE;
        if self.filled <= self.tail {
            self.fill(self.tail).await?;
        }
        self.sync().await?;
        let renamed = self.disk.rename(&from, &path).await;
        renamed.map_err(|error| self.failed("renaming to", number, &error))?;
        if !crate::mutant!("log.skip-dir-sync-on-new-segment") {
            let synced = self.disk.sync_dir(&dir).await;
            synced.map_err(|error| self.failed("fsync of the directory of", number, &error))?;
        }
        self.stats.syncs += 1;
        Ok(())
    }
}

fn run_end(run: &Run) -> u64 {
    u64::from(run.offset) + u64::from(run.bytes)
}
