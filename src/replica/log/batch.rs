//! The payload of one write: a sequence of items, for any number of groups, in the order in which they were added.
//!
//! ```text
//! entries   tag crc32c group first_index term count len | entry…       one term, at most LOG_RUN_BYTES_FULL of entries
//! entry     type context_len data_len context data
//! others    tag group a b …
//! ```
//! Entries have their own checksum besides the record's, so that a read can verify them without the whole record.

use bytes::Bytes;
use raft::eraftpb::{Entry, EntryType, HardState};

use crate::types::GroupId;
use crate::types::limits::{LOG_RUN_BYTES_FULL, LOG_RUN_ENTRIES_MAX};

/// The length of the header of an entries item, in bytes.
pub(super) const RUN_HEADER: usize = 37;
/// The length of the header of an entry, in bytes.
const ENTRY_HEADER: usize = 9;

const TAG_NOTHING: u8 = 0;
const TAG_ENTRIES: u8 = 1;
const TAG_MOVED: u8 = 2;
const TAG_HARD_STATE: u8 = 3;
const TAG_TRUNCATE: u8 = 4;
const TAG_RESET: u8 = 5;
const TAG_REMOVE: u8 = 6;
const TAG_STATE: u8 = 7;

/// A batch under construction. It becomes one record, which is atomic and durable as a whole.
#[derive(Clone, Debug, Default)]
pub struct LogBatch {
    payload: Vec<u8>,
}

/// An item as it is read back.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Item {
    /// Entries of one term. If `moved` is set, they were in the log already and only change their location; otherwise
    /// they replace everything from `first` on.
    Entries { group: GroupId, first: u64, term: u64, count: u16, bytes: u32, moved: bool },
    /// A group's hard state.
    HardState { group: GroupId, term: u64, vote: u64, commit: u64 },
    /// Entries up to and including `index` are no longer needed.
    Truncate { group: GroupId, index: u64, term: u64 },
    /// The log is empty and continues after `index`.
    Reset { group: GroupId, index: u64, term: u64 },
    /// The group is removed.
    Remove { group: GroupId },
    /// Hard state and truncation mark, written again because the segment that held them is about to be freed.
    State { group: GroupId, term: u64, vote: u64, commit: u64, truncated_index: u64, truncated_term: u64 },
    /// An item without effect.
    Nothing,
}

impl LogBatch {
    /// Creates an empty batch.
    pub fn new() -> LogBatch {
        LogBatch::default()
    }

    /// Returns whether the batch has no items.
    pub fn is_empty(&self) -> bool {
        self.payload.is_empty()
    }

    /// Empties the batch but keeps its memory.
    pub fn clear(&mut self) {
        self.payload.clear();
    }

    /// Appends the items of another batch.
    pub fn join(&mut self, other: LogBatch) {
        if self.payload.is_empty() {
            *self = other;
        } else {
            self.payload.extend_from_slice(&other.payload);
        }
    }

    /// Returns the bytes that the batch will take in the log, without frame and padding.
    pub fn bytes(&self) -> usize {
        self.payload.len()
    }

    /// Appends entries to a group. They replace everything in the group's log from `entries[0].index` on.
    ///
    /// # Panics
    /// If the entries' indexes have a gap.
    pub fn append(&mut self, group: GroupId, entries: &[Entry]) {
        self.entries(TAG_ENTRIES, group, entries);
    }

    /// Saves a group's hard state, and creates the group if there is none.
    pub fn hard_state(&mut self, group: GroupId, state: &HardState) {
        self.item(TAG_HARD_STATE, group, &[state.term, state.vote, state.commit]);
    }

    /// Marks entries up to and including `index`, whose term is `term`, as no longer needed. A mark below an earlier
    /// one has no effect.
    pub fn truncate_to(&mut self, group: GroupId, index: u64, term: u64) {
        self.item(TAG_TRUNCATE, group, &[index, term]);
    }

    /// Empties a group's log, which continues after `index` (of term `term`): a snapshot was installed, or the group
    /// begins there.
    pub fn reset(&mut self, group: GroupId, index: u64, term: u64) {
        self.item(TAG_RESET, group, &[index, term]);
    }

    /// Removes a group.
    pub fn remove(&mut self, group: GroupId) {
        self.item(TAG_REMOVE, group, &[]);
    }

    /// Adds entries that only change their location in the files.
    pub(super) fn moved(&mut self, group: GroupId, entries: &[Entry]) {
        self.entries(TAG_MOVED, group, entries);
    }

    /// Adds a group's hard state and truncation mark once more.
    pub(super) fn state(&mut self, group: GroupId, state: &HardState, truncated_index: u64, truncated_term: u64) {
        self.item(TAG_STATE, group, &[state.term, state.vote, state.commit, truncated_index, truncated_term]);
    }

    /// Returns the encoded items.
    pub(super) fn payload(&self) -> &[u8] {
        &self.payload
    }

    fn item(&mut self, tag: u8, group: GroupId, fields: &[u64]) {
        self.payload.push(tag);
        self.payload.extend_from_slice(&group.0.to_le_bytes());
        for field in fields {
            self.payload.extend_from_slice(&field.to_le_bytes());
        }
    }

    fn entries(&mut self, tag: u8, group: GroupId, mut entries: &[Entry]) {
        while let Some(head) = entries.first() {
            let start = self.payload.len();
            self.payload.push(tag);
            self.payload.extend_from_slice(&[0; 4]);
            self.payload.extend_from_slice(&group.0.to_le_bytes());
            self.payload.extend_from_slice(&head.index.to_le_bytes());
            self.payload.extend_from_slice(&head.term.to_le_bytes());
            self.payload.extend_from_slice(&[0; 8]);
            let body = self.payload.len();
            let mut count = 0;
            for entry in entries {
                if entry.term != head.term
                    || self.payload.len() - body >= LOG_RUN_BYTES_FULL
                    || count == LOG_RUN_ENTRIES_MAX
                {
                    break;
                }
                assert_eq!(entry.index, head.index + count as u64, "group {group}: entries have a gap");
                put_entry(&mut self.payload, entry);
                count += 1;
            }
            let len = u32::try_from(self.payload.len() - body).expect("a run is far below 4 GiB");
            self.payload[body - 8..body - 4].copy_from_slice(&(count as u32).to_le_bytes());
            self.payload[body - 4..body].copy_from_slice(&len.to_le_bytes());
            let crc = armilla_arch::crc32c(&self.payload[start + 5..]);
            self.payload[start + 1..start + 5].copy_from_slice(&crc.to_le_bytes());
            entries = &entries[count..];
        }
    }
}

fn put_entry(to: &mut Vec<u8>, entry: &Entry) {
    let kind = match entry.entry_type {
        EntryType::EntryNormal => 0,
        EntryType::EntryConfChange => 1,
        EntryType::EntryConfChangeV2 => 2,
    };
    let length = |bytes: &Bytes| u32::try_from(bytes.len()).expect("an entry is far below 4 GiB").to_le_bytes();
    let mut head = [0; ENTRY_HEADER];
    head[0] = kind;
    head[1..5].copy_from_slice(&length(&entry.context));
    head[5..9].copy_from_slice(&length(&entry.data));
    to.extend_from_slice(&head);
    to.extend_from_slice(&entry.context);
    to.extend_from_slice(&entry.data);
}

/// Reads little-endian fields and never goes beyond its slice.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(len)?)?;
        self.at += len;
        Some(taken)
    }
    fn u8(&mut self) -> Option<u8> {
        Some(self.take(1)?[0])
    }
    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }
    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }
}

/// Iterates over the items of a payload and their offsets. Returns `Err` with the offset at which the bytes are no
/// item.
pub(super) struct Items<'a> {
    cursor: Cursor<'a>,
}

impl<'a> Items<'a> {
    /// Creates an iterator over the items of `payload`.
    pub(super) fn new(payload: &'a [u8]) -> Items<'a> {
        Items { cursor: Cursor { bytes: payload, at: 0 } }
    }

    fn read(&mut self) -> Option<Item> {
        let c = &mut self.cursor;
        let tag = c.u8()?;
        if tag == TAG_ENTRIES || tag == TAG_MOVED {
            c.u32()?;
            let (group, first, term, count, len) = (GroupId(c.u64()?), c.u64()?, c.u64()?, c.u32()?, c.u32()?);
            c.take(len as usize)?;
            let count = u16::try_from(count).ok().filter(|count| *count > 0)?;
            let bytes = u32::try_from(RUN_HEADER).ok()?.checked_add(len)?;
            first.checked_add(u64::from(count))?;
            return Some(Item::Entries { group, first, term, count, bytes, moved: tag == TAG_MOVED });
        }
        let group = GroupId(c.u64()?);
        Some(match tag {
            TAG_HARD_STATE => Item::HardState { group, term: c.u64()?, vote: c.u64()?, commit: c.u64()? },
            TAG_TRUNCATE => Item::Truncate { group, index: c.u64()?, term: c.u64()? },
            TAG_RESET => Item::Reset { group, index: c.u64()?, term: c.u64()? },
            TAG_REMOVE => Item::Remove { group },
            TAG_STATE => Item::State {
                group,
                term: c.u64()?,
                vote: c.u64()?,
                commit: c.u64()?,
                truncated_index: c.u64()?,
                truncated_term: c.u64()?,
            },
            TAG_NOTHING => {
                c.take(24)?;
                Item::Nothing
            }
            _ => return None,
        })
    }
}

impl Iterator for Items<'_> {
    type Item = Result<(usize, Item), usize>;

    fn next(&mut self) -> Option<Self::Item> {
        let at = self.cursor.at;
        if at == self.cursor.bytes.len() {
            return None;
        }
        match self.read() {
            Some(item) => Some(Ok((at, item))),
            None => {
                self.cursor.at = self.cursor.bytes.len();
                Some(Err(at))
            }
        }
    }
}

/// Turns every hard state in `payload` into an item without effect (the planted bug log.hard-state-not-persisted).
pub(super) fn blank_hard_states(payload: &mut [u8]) {
    let places: Vec<usize> = Items::new(payload)
        .filter_map(|item| match item {
            Ok((at, Item::HardState { .. })) => Some(at),
            _ => None,
        })
        .collect();
    for at in places {
        payload[at] = TAG_NOTHING;
    }
}

/// Decodes `run`, an entries item with header and body, and verifies that it was written for this group. The entries
/// share `run`'s memory. Returns `None` if the item is another one or damaged.
pub(super) fn decode_run(run: &Bytes, group: GroupId) -> Option<Vec<Entry>> {
    let mut c = Cursor { bytes: run, at: 0 };
    let tag = c.u8()?;
    if tag != TAG_ENTRIES && tag != TAG_MOVED {
        return None;
    }
    let crc = c.u32()?;
    if crc != armilla_arch::crc32c(run.get(5..)?) && !crate::mutant!("log.crc-not-verified") {
        return None;
    }
    let (of, first, term, count, _len) = (c.u64()?, c.u64()?, c.u64()?, c.u32()?, c.u32()?);
    if of != group.0 {
        return None;
    }
    let mut entries = Vec::with_capacity(count.min(LOG_RUN_ENTRIES_MAX as u32) as usize);
    for i in 0..u64::from(count) {
        let kind = match c.u8()? {
            0 => EntryType::EntryNormal,
            1 => EntryType::EntryConfChange,
            2 => EntryType::EntryConfChangeV2,
            _ => return None,
        };
        let (context_len, data_len) = (c.u32()? as usize, c.u32()? as usize);
        let context_at = c.at;
        c.take(context_len)?;
        let data_at = c.at;
        c.take(data_len)?;
        entries.push(Entry {
            entry_type: kind,
            index: first.checked_add(i)?,
            term,
            context: run.slice(context_at..context_at + context_len),
            data: run.slice(data_at..data_at + data_len),
            ..Entry::default()
        });
    }
    Some(entries)
}
