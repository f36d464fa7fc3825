//! One file: the contents that readers see now, and which of them would survive a power loss.

use std::collections::{BTreeMap, BTreeSet};

use crate::rt::rng::Rng;

/// Bytes of a sector, the unit that the device writes completely or not at all.
pub(super) const SECTOR: u64 = 512;
const PAGE: u64 = 4096;

type Sector = [u8; SECTOR as usize];

/// Sparse bytes; bytes that were never written are zero.
#[derive(Clone, Default)]
struct Pages {
    map: BTreeMap<u64, Box<[u8; PAGE as usize]>>,
    len: u64,
}

impl Pages {
    fn read(&self, offset: u64, out: &mut [u8]) {
        let mut at = 0;
        while at < out.len() {
            let position = offset + at as u64;
            let (page, inside) = (position / PAGE, (position % PAGE) as usize);
            let n = (PAGE as usize - inside).min(out.len() - at);
            match self.map.get(&page) {
                Some(bytes) => out[at..at + n].copy_from_slice(&bytes[inside..inside + n]),
                None => out[at..at + n].fill(0),
            }
            at += n;
        }
    }

    /// Writes without changing the length.
    fn write(&mut self, offset: u64, data: &[u8]) {
        let mut at = 0;
        while at < data.len() {
            let position = offset + at as u64;
            let (page, inside) = (position / PAGE, (position % PAGE) as usize);
            let n = (PAGE as usize - inside).min(data.len() - at);
            let bytes = self.map.entry(page).or_insert_with(|| Box::new([0; PAGE as usize]));
            bytes[inside..inside + n].copy_from_slice(&data[at..at + n]);
            at += n;
        }
    }

    fn sector(&self, number: u64) -> Sector {
        let mut out = [0; SECTOR as usize];
        self.read(number * SECTOR, &mut out);
        out
    }

    /// Truncates or extends; bytes beyond the end are zero.
    fn set_len(&mut self, len: u64) {
        if len < self.len {
            let first_gone = len.div_ceil(PAGE);
            self.map.split_off(&first_gone);
            if !len.is_multiple_of(PAGE)
                && let Some(bytes) = self.map.get_mut(&(len / PAGE))
            {
                bytes[(len % PAGE) as usize..].fill(0);
            }
        }
        self.len = len;
    }
}

/// A sector that was written since it was last durable.
struct Dirty {
    /// The durable contents; `None` means zeros, because the file did not extend to this sector.
    durable: Option<Box<Sector>>,
    /// Earlier contents, each with the number of the write that made them, oldest first; the current contents are in
    /// the pages.
    history: Vec<(u64, Box<Sector>)>,
    /// The number of the write that made the current contents.
    last_write: u64,
}

/// What a power loss does to unsynced data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashMode {
    /// Each unsynced sector is decided independently: kept, lost, an earlier version, torn, or garbage.
    Random,
    /// Everything unsynced is lost.
    LoseAll,
    /// Everything unsynced happens to have been written already.
    KeepAll,
}

/// A file's contents.
pub(super) struct Image {
    pub(super) id: u64,
    pages: Pages,
    durable_len: u64,
    /// Lengths that the file had since it was last durable, each with the number of the write that made it, oldest
    /// first.
    lens: Vec<(u64, u64)>,
    dirty: BTreeMap<u64, Dirty>,
    /// Sectors whose write-back failed: readers see the new contents, the device holds these, and they will not be
    /// written again.
    dropped: BTreeMap<u64, Option<Box<Sector>>>,
    /// The number of writes so far.
    writes: u64,
    /// Sectors that cannot be read.
    bad: BTreeSet<u64>,
}

impl Image {
    pub(super) fn new(id: u64) -> Image {
        Image {
            id,
            pages: Pages::default(),
            durable_len: 0,
            lens: Vec::new(),
            dirty: BTreeMap::new(),
            dropped: BTreeMap::new(),
            writes: 0,
            bad: BTreeSet::new(),
        }
    }

    pub(super) fn len(&self) -> u64 {
        self.pages.len
    }

    /// Returns how many bytes a sync would have to write.
    pub(super) fn dirty_bytes(&self) -> u64 {
        self.dirty.len() as u64 * SECTOR
    }

    /// Reads up to the file's end; `None` if the range includes a bad sector.
    pub(super) fn read(&self, offset: u64, len: usize) -> Option<Vec<u8>> {
        let end = self.pages.len.min(offset.saturating_add(len as u64));
        let mut out = vec![0; end.saturating_sub(offset) as usize];
        if !out.is_empty() && self.bad.range(offset / SECTOR..=(end - 1) / SECTOR).next().is_some() {
            return None;
        }
        self.pages.read(offset, &mut out);
        Some(out)
    }

    /// Records a sector's contents before the current write.
    fn touch(&mut self, sector: u64) {
        let write = self.writes;
        match self.dirty.get_mut(&sector) {
            Some(dirty) if dirty.last_write == write => {}
            Some(dirty) => {
                dirty.history.push((dirty.last_write, Box::new(self.pages.sector(sector))));
                dirty.last_write = write;
            }
            None => {
                let durable = match self.dropped.remove(&sector) {
                    Some(held) => held,
                    None if sector * SECTOR < self.durable_len => Some(Box::new(self.pages.sector(sector))),
                    None => None,
                };
                self.dirty.insert(sector, Dirty { durable, history: Vec::new(), last_write: write });
            }
        }
        self.bad.remove(&sector);
    }

    pub(super) fn write(&mut self, offset: u64, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        self.writes += 1;
        let end = offset + data.len() as u64;
        for sector in offset / SECTOR..=(end - 1) / SECTOR {
            self.touch(sector);
        }
        if end > self.pages.len {
            self.pages.set_len(end);
            self.lens.push((self.writes, end));
        }
        self.pages.write(offset, data);
    }

    pub(super) fn set_len(&mut self, len: u64) {
        self.writes += 1;
        if len < self.pages.len {
            // The part that is cut off becomes zero; like any write, this is uncertain until it is synced.
            let written: Vec<u64> = self
                .pages
                .map
                .range(len / PAGE..)
                .flat_map(|(page, _)| (page * PAGE / SECTOR)..((page + 1) * PAGE / SECTOR))
                .filter(|sector| (sector + 1) * SECTOR > len && sector * SECTOR < self.pages.len)
                .collect();
            for sector in written {
                self.touch(sector);
            }
        }
        self.pages.set_len(len);
        self.lens.push((self.writes, len));
    }

    /// Returns the number of the last write that a sync starting now will make durable.
    pub(super) fn sync_point(&self) -> u64 {
        self.writes
    }

    /// Marks everything up to `point`, where the completed sync started, as durable.
    pub(super) fn synced(&mut self, point: u64) {
        self.dirty.retain(|_, dirty| {
            if dirty.last_write <= point {
                return false;
            }
            if let Some(newest) = dirty.history.iter().rposition(|(write, _)| *write <= point) {
                dirty.durable = Some(dirty.history.swap_remove(newest).1);
                dirty.history.retain(|(write, _)| *write > point);
                dirty.history.sort_by_key(|(write, _)| *write);
            }
            true
        });
        if let Some((_, len)) = self.lens.iter().rfind(|(write, _)| *write <= point) {
            self.durable_len = *len;
        }
        self.lens.retain(|(write, _)| *write > point);
    }

    /// A sync failed: what it should have written is dropped, and the next sync will report success without it.
    pub(super) fn sync_failed(&mut self) {
        for (sector, dirty) in std::mem::take(&mut self.dirty) {
            self.dropped.insert(sector, dirty.durable);
        }
    }

    /// Simulates a power loss: decides what the device holds now, which is what readers see from then on.
    pub(super) fn crash(&mut self, rng: &mut Rng, mode: CrashMode) {
        let old_len = self.durable_len;
        let len = match mode {
            CrashMode::LoseAll => self.durable_len,
            CrashMode::KeepAll => self.pages.len,
            CrashMode::Random => {
                let choice = rng.below(self.lens.len() as u64 + 1) as usize;
                if choice == 0 { self.durable_len } else { self.lens[choice - 1].1 }
            }
        };
        // The device keeps most, about half, or few of its sectors: independent coin flips alone would hardly ever lose
        // everything.
        let keep = [0.1, 0.5, 0.9][rng.below(3) as usize];
        for (sector, dirty) in std::mem::take(&mut self.dirty) {
            let old = dirty.durable.as_deref().copied().unwrap_or([0; SECTOR as usize]);
            let contents = match mode {
                CrashMode::KeepAll => continue,
                CrashMode::LoseAll => old,
                CrashMode::Random if rng.chance(keep) => continue,
                CrashMode::Random if !dirty.history.is_empty() && rng.chance(0.5) => *rng.pick(&dirty.history).1,
                // Sectors are written whole: one that held synced bytes shows the old or a newer version, never a
                // mixture.
                CrashMode::Random if sector * SECTOR < old_len || rng.chance(0.7) => old,
                CrashMode::Random => {
                    let mut torn = self.pages.sector(sector);
                    let from = rng.below(SECTOR) as usize;
                    let garbage = rng.chance(0.5);
                    for byte in &mut torn[from..] {
                        *byte = if garbage { rng.next_u64() as u8 } else { 0 };
                    }
                    torn
                }
            };
            self.overwrite(sector, &contents);
        }
        for (sector, held) in std::mem::take(&mut self.dropped) {
            let contents = held.as_deref().copied().unwrap_or([0; SECTOR as usize]);
            self.overwrite(sector, &contents);
        }
        // Bytes beyond the old end that come back with a longer length were put in place above.
        let top = self.pages.map.last_key_value().map_or(0, |(page, _)| (page + 1) * PAGE);
        self.pages.len = self.pages.len.max(top).max(len);
        self.pages.set_len(len);
        self.durable_len = len;
        self.lens.clear();
    }

    fn overwrite(&mut self, sector: u64, contents: &Sector) {
        self.pages.write(sector * SECTOR, contents);
    }

    /// Returns a copy that holds what the device holds now, without anything unsynced.
    pub(super) fn durable(&self) -> Image {
        let mut copy = Image::new(self.id);
        copy.pages = self.pages.clone();
        let zero = [0; SECTOR as usize];
        for (sector, dirty) in &self.dirty {
            copy.overwrite(*sector, dirty.durable.as_deref().unwrap_or(&zero));
        }
        for (sector, held) in &self.dropped {
            copy.overwrite(*sector, held.as_deref().unwrap_or(&zero));
        }
        let top = copy.pages.map.last_key_value().map_or(0, |(page, _)| (page + 1) * PAGE);
        copy.pages.len = copy.pages.len.max(top).max(self.durable_len);
        copy.pages.set_len(self.durable_len);
        copy.durable_len = self.durable_len;
        copy.bad = self.bad.clone();
        copy
    }

    /// Flips one bit, both in what readers see and in what is durable. Returns `false` if the file is shorter.
    pub(super) fn flip_bit(&mut self, offset: u64, bit: u8) -> bool {
        if offset >= self.pages.len {
            return false;
        }
        let mut byte = [0];
        self.pages.read(offset, &mut byte);
        byte[0] ^= 1 << (bit % 8);
        self.pages.write(offset, &byte);
        if let Some(dirty) = self.dirty.get_mut(&(offset / SECTOR))
            && let Some(durable) = &mut dirty.durable
        {
            durable[(offset % SECTOR) as usize] ^= 1 << (bit % 8);
        }
        true
    }

    /// Makes a sector unreadable until it is written again.
    pub(super) fn break_sector(&mut self, sector: u64) {
        self.bad.insert(sector);
    }
}
