//! The byte format of a segment: its header page, and the frame around each record.
//!
//! All numbers are little endian. A segment begins with one page that holds the header. Records follow, each of which
//! begins on a page boundary: a page that holds acknowledged data is never written again, so a torn write cannot
//! destroy anything that was durable before it.

/// Records begin at multiples of this number of bytes: the largest unit that a disk or a page cache rewrites as a
/// whole.
pub(super) const PAGE: u64 = 4096;
/// The offset of the first record in a segment.
pub(super) const DATA_START: u64 = PAGE;
/// The length of the frame before a record's payload, in bytes.
pub(super) const RECORD_HEADER: usize = 64;
/// The version of the format that this build writes and reads.
pub(super) const VERSION: u32 = 1;

/// The length of the used part of the header page, in bytes.
const SEGMENT_HEADER: usize = 128;
const SEGMENT_MAGIC: [u8; 8] = *b"ArmilLog";
const RECORD_MAGIC: u32 = u32::from_le_bytes(*b"ArRe");

/// Rounds `len` up to whole pages.
pub(super) fn pages(len: u64) -> u64 {
    len.div_ceil(PAGE) * PAGE
}

/// The header of a segment, which also says where the segment before it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    /// The log that the segment belongs to.
    pub log: u64,
    /// The segment's number, one above its predecessor's. A recycled file gets a new number.
    pub number: u64,
    /// Where the predecessor's records end, in bytes. Anything after that in its file is not part of the log.
    pub previous_end: u64,
    /// The sequence number of the first record.
    pub first_seq: u64,
    /// The lowest segment that the log still needed when this one was started.
    pub first_live: u64,
    /// The offset up to which the segment was durable when the header was written.
    pub durable: u64,
    /// The number of the start of the data directory that created the segment.
    pub boot: u64,
}

/// Why a header page cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadHeader {
    /// Not a header of a segment, or damaged.
    Damaged,
    /// An intact header of a format that this build does not know.
    Version(u32),
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

impl SegmentHeader {
    /// Encodes the header page.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut page = vec![0; PAGE as usize];
        page[0..8].copy_from_slice(&SEGMENT_MAGIC);
        page[12..16].copy_from_slice(&VERSION.to_le_bytes());
        let SegmentHeader { log, number, previous_end, first_seq, first_live, durable, boot } = *self;
        let fields = [log, number, previous_end, first_seq, first_live, durable, boot];
        for (i, field) in fields.into_iter().enumerate() {
            page[16 + 8 * i..24 + 8 * i].copy_from_slice(&field.to_le_bytes());
        }
        let crc = armilla_arch::crc32c(&page[12..SEGMENT_HEADER]);
        page[8..12].copy_from_slice(&crc.to_le_bytes());
        page
    }

    /// Decodes a header page.
    pub(super) fn decode(page: &[u8]) -> Result<SegmentHeader, BadHeader> {
        if page.len() < SEGMENT_HEADER
            || page[0..8] != SEGMENT_MAGIC
            || u32_at(page, 8) != armilla_arch::crc32c(&page[12..SEGMENT_HEADER])
        {
            return Err(BadHeader::Damaged);
        }
        let version = u32_at(page, 12);
        if version != VERSION {
            return Err(BadHeader::Version(version));
        }
        let field = |i: usize| u64_at(page, 16 + 8 * i);
        Ok(SegmentHeader {
            log: field(0),
            number: field(1),
            previous_end: field(2),
            first_seq: field(3),
            first_live: field(4),
            durable: field(5),
            boot: field(6),
        })
    }
}

/// The frame of one record. Its log, segment and offset tell it apart from records of another log, of another place, or
/// of an earlier use of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecordHeader {
    /// The log that the record belongs to.
    pub log: u64,
    /// The segment that the record was written to.
    pub segment: u64,
    /// The record's offset in that segment.
    pub offset: u64,
    /// The sequence number, one above that of the record before it in the whole log.
    pub seq: u64,
    /// The offset up to which the segment was durable when the record was written.
    pub durable: u64,
    /// Segments below this number are no longer needed once this record is durable.
    pub first_live: u64,
    /// The payload's length in bytes.
    pub len: u32,
}

impl RecordHeader {
    /// Returns the offset of the next record.
    pub(super) fn end(&self) -> u64 {
        self.offset + pages(RECORD_HEADER as u64 + u64::from(self.len))
    }

    /// Returns the offset of the payload.
    pub(super) fn payload(&self) -> u64 {
        self.offset + RECORD_HEADER as u64
    }

    /// Fills in the frame at the start of `record` (frame and payload), including the checksum.
    pub(super) fn seal(&self, record: &mut [u8]) {
        assert_eq!(record.len(), RECORD_HEADER + self.len as usize);
        record[0..4].copy_from_slice(&RECORD_MAGIC.to_le_bytes());
        let fields = [self.log, self.segment, self.offset, self.seq, self.durable, self.first_live];
        for (i, field) in fields.into_iter().enumerate() {
            record[8 + 8 * i..16 + 8 * i].copy_from_slice(&field.to_le_bytes());
        }
        record[56..60].copy_from_slice(&self.len.to_le_bytes());
        let crc = armilla_arch::crc32c(&record[8..]);
        record[4..8].copy_from_slice(&crc.to_le_bytes());
    }

    /// Decodes the record at `offset` of `file`, the content of segment `segment` from its start. Returns `None` if
    /// there is no complete record of this segment at this offset.
    pub(super) fn decode(file: &[u8], segment: u64, offset: u64) -> Option<RecordHeader> {
        let bytes = file.get(usize::try_from(offset).ok()?..)?;
        if bytes.len() < RECORD_HEADER || u32_at(bytes, 0) != RECORD_MAGIC {
            return None;
        }
        let field = |i: usize| u64_at(bytes, 8 + 8 * i);
        let header = RecordHeader {
            log: field(0),
            segment: field(1),
            offset: field(2),
            seq: field(3),
            durable: field(4),
            first_live: field(5),
            len: u32_at(bytes, 56),
        };
        let stamped = header.segment == segment && header.offset == offset;
        if !stamped && !crate::mutant!("log.recycled-record-accepted") {
            return None;
        }
        let whole = bytes.get(8..RECORD_HEADER + header.len as usize)?;
        if u32_at(bytes, 4) != armilla_arch::crc32c(whole) && !crate::mutant!("log.crc-not-verified") {
            return None;
        }
        Some(RecordHeader { segment, offset, ..header })
    }
}
