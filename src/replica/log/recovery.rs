//! Opening the log: which segments are live, where the last one ends, and the errors for files that are damaged.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::{Bytes, BytesMut};

use super::format::{BadHeader, DATA_START, PAGE, RecordHeader, SegmentHeader, VERSION};
use super::index::{Follow, Index};
use super::{LogOptions, LogStats, RaftLog, file_name};
use crate::rt::disk::{Disk, File};
use crate::types::{Error, Result};

/// Returns the error for a damaged file.
pub(super) fn corrupt(path: &Path, offset: u64, what: &str) -> Error {
    Error::Corruption(format!("raft log: {} at offset {offset}: {what}", path.display()))
}

/// The files that were found.
struct Found {
    disk: Disk,
    options: LogOptions,
    /// The numbers of all files, in ascending order.
    numbers: Vec<u64>,
}

/// The content of the last segment.
struct Tail {
    content: Bytes,
    /// Records that are known to be durable.
    sure: Vec<RecordHeader>,
    /// Complete records after those, which are not known to be durable.
    doubtful: Vec<RecordHeader>,
    /// Where the records known to be durable end, in bytes.
    end: u64,
    /// The first live segment if all records count.
    first_live: u64,
    /// The first live segment if only the records known to be durable count.
    sure_first_live: u64,
    next_seq: u64,
    /// Whether the file has no complete record of this segment at all.
    empty: bool,
}

impl Found {
    async fn open(&self, number: u64) -> Result<File> {
        let path = self.options.dir.join(file_name(number));
        if self.numbers.binary_search(&number).is_err() {
            return Err(corrupt(&path, 0, "the segment is missing"));
        }
        self.disk.open(&path).await.map_err(|error| Error::Io(format!("raft log: {}: {error}", path.display())))
    }

    async fn read(&self, number: u64, file: &File, len: Option<u64>) -> Result<Bytes> {
        let path = self.options.dir.join(file_name(number));
        let say = |error| Error::Io(format!("raft log: {}: {error}", path.display()));
        let len = match len {
            Some(len) => len,
            None => file.len().await.map_err(say)?,
        };
        file.read_at(0, len as usize).await.map_err(say)
    }

    fn corrupt(&self, number: u64, offset: u64, what: &str) -> Error {
        corrupt(&self.options.dir.join(file_name(number)), offset, what)
    }

    /// Reads the header of a segment. It was durable before the file got its name, so a bad header is damage.
    async fn header(&self, number: u64) -> Result<SegmentHeader> {
        let file = self.open(number).await?;
        let page = self.read(number, &file, Some(PAGE)).await?;
        match SegmentHeader::decode(&page) {
            Ok(header) if header.number == number => Ok(header),
            Ok(_) | Err(BadHeader::Damaged) => Err(self.corrupt(number, 0, "the header is damaged")),
            Err(BadHeader::Version(version)) => Err(Error::Invalid(format!(
                "raft log: {} has format {version}, this build reads {VERSION}: it was written by a newer version",
                self.options.dir.join(file_name(number)).display()
            ))),
        }
    }

    /// Checks that the log has the expected ID.
    fn check_id(&self, last: &SegmentHeader, id: &Id) -> Result<()> {
        match id {
            Id::Only(id) if *id != last.log => Err(Error::Invalid(format!(
                "the raft log in {} was created by another node or data directory: each node needs the log that it wrote \
                 itself. Restore that log, or start with an empty data directory as a new store",
                self.options.dir.display()
            ))),
            _ => Ok(()),
        }
    }

    /// Checks that the last segment was created by the start that last wrote to the log, or by a later one.
    fn check_start(&self, last: &SegmentHeader) -> Result<()> {
        let LogOptions { dir, boot_min, .. } = &self.options;
        if last.boot >= *boot_min || crate::mutant!("replica.older-log-taken") {
            return Ok(());
        }
        crate::reach!("log.older-copy-noticed");
        Err(Error::Corruption(format!(
            "the raft log in {} was last written by start {} of this data directory, but start {boot_min} has written to \
             it since: an older copy was put in its place, which lacks what this store has promised and acknowledged \
             since then. Restore the newer log, or start with an empty data directory as a new store",
            dir.display(),
            last.boot
        )))
    }

    /// Reads the last segment and finds its end.
    async fn tail(&self, number: u64, header: &SegmentHeader) -> Result<Tail> {
        let content = self.read(number, &self.open(number).await?, None).await?;
        let (mut records, mut at, mut seq) = (Vec::new(), DATA_START, header.first_seq);
        let (mut durable, mut first_live) = (header.durable, header.first_live);
        while let Some(record) = record_at(&content, header, at, seq) {
            at = record.end();
            seq += 1;
            durable = durable.max(record.durable);
            first_live = first_live.max(record.first_live);
            records.push(record);
        }
        // A hole is a torn tail, unless something after it says that the hole was durable.
        let (mut vouched, mut empty) = (durable, records.is_empty());
        let mut later = at;
        while later < content.len() as u64 {
            if let Some(record) =
                RecordHeader::decode(&content, number, later).filter(|record| record.log == header.log)
            {
                vouched = vouched.max(record.durable);
                empty = false;
            }
            later += PAGE;
        }
        if vouched > at {
            return Err(self.corrupt(number, at, "a durable record is damaged"));
        }
        if crate::mutant!("log.torn-tail-as-corruption")
            && content.get(at as usize..).is_some_and(|rest| rest.iter().any(|b| *b != 0))
        {
            return Err(self.corrupt(number, at, "the last record is damaged"));
        }
        let sure = records.partition_point(|record| record.offset < durable);
        let doubtful = records.split_off(sure);
        let sure_first_live = records.last().map_or(header.first_live, |record| record.first_live);
        let next_seq = header.first_seq + records.len() as u64;
        Ok(Tail { content, sure: records, doubtful, end: durable, first_live, sure_first_live, next_seq, empty })
    }
}

/// Returns the record at `at` if it is the expected one.
fn record_at(content: &[u8], header: &SegmentHeader, at: u64, seq: u64) -> Option<RecordHeader> {
    let record = RecordHeader::decode(content, header.number, at)?;
    let follows = record.log == header.log && record.seq == seq;
    (follows || crate::mutant!("log.recycled-record-accepted")).then_some(record)
}

fn payload<'a>(content: &'a [u8], record: &RecordHeader) -> &'a [u8] {
    let start = record.payload() as usize;
    &content[start..start + record.len as usize]
}

/// The ID that a log gets or must have.
pub(super) enum Id {
    /// A new log gets this ID; an existing log may have any.
    Any(u64),
    /// A new log gets this ID; an existing log must have it.
    Only(u64),
}

/// See [`RaftLog::open_with_id`].
pub(super) async fn open(disk: Disk, options: LogOptions, id: Id) -> Result<RaftLog> {
    assert!(options.segment_bytes >= 4 * PAGE && options.segment_bytes < 1 << 31, "segment size");
    let dir = options.dir.clone();
    let say = |error: std::io::Error| Error::Io(format!("raft log: {}: {error}", dir.display()));
    disk.create_dir_all(&dir).await.map_err(say)?;
    let names = disk.list(&dir).await.map_err(say)?;
    for name in names.iter().filter(|name| name.ends_with(".new")) {
        disk.remove(&dir.join(name)).await.map_err(say)?;
    }
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| number_of(name)).collect();
    numbers.sort_unstable();
    let found = Found { disk: disk.clone(), options: options.clone(), numbers };
    let Some(&last) = found.numbers.last() else {
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            disk.sync_dir(parent).await.map_err(say)?;
        }
        let (Id::Any(id) | Id::Only(id)) = id;
        let mut log = blank(disk, options, id);
        (log.seq, log.first_live) = (1, 1);
        log.start_segment(1, 0, &[]).await?;
        return Ok(log);
    };
    // The previous process may have died, or failed, before the last segment's name was durable.
    disk.sync_dir(&dir).await.map_err(say)?;
    let last_header = found.header(last).await?;
    found.check_id(&last_header, &id)?;
    found.check_start(&last_header)?;
    let tail = found.tail(last, &last_header).await?;
    let mut log = blank(disk, options, last_header.log);
    log.first_live = tail.first_live;
    let mut headers = BTreeMap::new();
    for number in tail.first_live..=last {
        let header = found.header(number).await?;
        if header.log != last_header.log {
            return Err(found.corrupt(number, 0, "the segment belongs to another log"));
        }
        headers.insert(number, header);
    }
    for number in tail.first_live..last {
        let (header, next) = (headers[&number], headers[&(number + 1)]);
        let file = found.open(number).await?;
        let content = found.read(number, &file, Some(next.previous_end)).await?;
        let (mut at, mut seq) = (DATA_START, header.first_seq);
        while at < next.previous_end {
            let record =
                record_at(&content, &header, at, seq).filter(|record| record.end() <= next.previous_end).ok_or_else(
                    || found.corrupt(number, at, "a record is damaged or missing, and a later segment follows"),
                )?;
            log.follow(payload(&content, &record), number, at, Follow::Replay)?;
            at = record.end();
            seq += 1;
        }
        if seq != next.first_seq && !crate::mutant!("log.recycled-record-accepted") {
            return Err(found.corrupt(number + 1, 0, "the segment does not continue the one before it"));
        }
        log.segments.insert(number, super::Segment::new(file, next.previous_end));
    }
    for record in &tail.sure {
        log.follow(payload(&tail.content, record), last, record.offset, Follow::Replay)?;
    }
    log.segments.insert(last, super::Segment::new(found.open(last).await?, tail.end));
    log.seq = tail.next_seq;

    if !tail.doubtful.is_empty() {
        crate::reach!("log.doubtful-records-copied");
    }
    if tail.empty {
        // The previous start got no further than to create this segment. Without records there is nothing to copy, and
        // a supervisor that tries again and again creates no files.
        if let Some(hole) = log.index.find_hole() {
            return Err(Error::Corruption(format!("raft log: {}: {hole}", dir.display())));
        }
        log.spares = found.numbers.iter().copied().filter(|number| *number < tail.first_live).collect();
        // The header has the number of the start that wrote it: a file of this start replaces the segment.
        log.start_segment(last, last_header.previous_end, &[]).await?;
        log.cut_ended().await?;
        log.trim_spares().await?;
        return Ok(log);
    }
    let mut copy = Vec::new();
    for record in &tail.doubtful {
        copy.extend_from_slice(payload(&tail.content, record));
    }
    log.follow(&copy, last + 1, DATA_START, Follow::Replay)?;
    if let Some(hole) = log.index.find_hole() {
        return Err(Error::Corruption(format!("raft log: {}: {hole}", dir.display())));
    }
    let below = |limit: u64| found.numbers.iter().copied().filter(move |number| *number < limit);
    // A segment that only a doubtful record declares dead is not touched before that record is durable.
    log.spares = below(tail.sure_first_live).collect();
    log.start_segment(last + 1, tail.end, &copy).await?;
    log.cut_ended().await?;
    log.spares.extend(below(tail.first_live).filter(|number| *number >= tail.sure_first_live));
    log.trim_spares().await?;
    Ok(log)
}

fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log")?;
    let number = digits.parse().ok()?;
    (file_name(number) == name).then_some(number)
}

fn blank(disk: Disk, options: LogOptions, id: u64) -> RaftLog {
    RaftLog {
        disk,
        options,
        id,
        index: Index::default(),
        segments: BTreeMap::new(),
        spares: Vec::new(),
        active: 0,
        tail: 0,
        filled: 0,
        durable: 0,
        seq: 0,
        first_live: 0,
        buffer: BytesMut::new(),
        busy: false,
        poison: None,
        stats: LogStats::default(),
    }
}
