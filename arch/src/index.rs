//! # index: lookup of the range that holds a key
//!
//! **In** come the sorted first keys of the ranges (1 to 100,000 and more), and keys to look up; **out** goes the
//! position of the last first key that is not greater. The index is rebuilt when the ranges change: it is meant for
//! maps that are read far more often than written. **Never**: a result that differs from that of a binary search over
//! the keys.
//!
//! ```text
//! first keys          shared prefix      8 bytes, big endian        lines of 8 words, every 8th one a level up
//! t…\x05_r0001…   ->  t…\x05_r       ->  0001…                  ->        [0001…            3999… ]
//! t…\x05_r0002…                          0002…                            [0001… 0002… …][3999… …]
//! ```
//! A lookup compares the shared prefix once, then one cache line of words per level, without a branch that depends on
//! the key. Only where several keys have the same word does the search continue behind it, in a separate node.

/// Sorted keys, prepared for lookups of the last key that is not greater than a given one.
#[derive(Clone, Debug, Default)]
pub struct KeyIndex {
    /// The concatenated keys.
    bytes: Vec<u8>,
    /// The end of each key in `bytes`.
    ends: Vec<usize>,
    /// The nodes; the first one is the root.
    nodes: Vec<Node>,
}

/// The error of keys that are not in ascending order, or not distinct.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAscending {
    /// The position of the key that is not greater than its predecessor.
    pub at: usize,
}

impl std::fmt::Display for NotAscending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "key {} is not greater than the one before it", self.at)
    }
}

impl std::error::Error for NotAscending {}

/// Keys that share their first `skip` bytes.
#[derive(Clone, Debug)]
struct Node {
    skip: usize,
    /// The first of the node's keys, and the one behind its last.
    first: usize,
    end: usize,
    words: Words,
    /// The first key of each distinct word, and `end`; empty if every key has a distinct word.
    starts: Vec<u32>,
    /// For words with long keys: the word's position and the node of these keys, ascending.
    children: Vec<(u32, u32)>,
}

impl Node {
    /// Returns the first key of word `at`, and the one behind its last.
    #[inline(always)]
    fn keys_of(&self, at: usize) -> (usize, usize) {
        match self.starts.get(at + 1) {
            Some(end) => (self.starts[at] as usize, *end as usize),
            None => (self.first + at, self.first + at + 1),
        }
    }
}

/// Up to this many keys are compared one by one.
const FEW_KEYS: usize = 2;

/// Up to this many keys with the same word are searched one by one instead of in a separate node.
const FEW: usize = 8;

impl KeyIndex {
    /// Builds the index of these keys.
    ///
    /// # Errors
    /// Returns [`NotAscending`] if a key is not greater than its predecessor.
    pub fn new<K: AsRef<[u8]>>(keys: impl IntoIterator<Item = K>) -> Result<KeyIndex, NotAscending> {
        let mut index = KeyIndex::default();
        for (at, key) in keys.into_iter().enumerate() {
            let key = key.as_ref();
            if at > 0 && index.key(at - 1) >= key {
                return Err(NotAscending { at });
            }
            index.bytes.extend_from_slice(key);
            index.ends.push(index.bytes.len());
        }
        assert!(u32::try_from(index.ends.len()).is_ok(), "more than 2^32 keys");
        if !index.ends.is_empty() {
            index.add_node(0, index.ends.len());
        }
        Ok(index)
    }

    /// Returns the number of keys.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Returns key number `at`.
    ///
    /// # Panics
    /// Panics if there is no such key.
    #[inline]
    pub fn key(&self, at: usize) -> &[u8] {
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.bytes[start..self.ends[at]]
    }

    /// Returns the position of the last key that is not greater than `key`; `None` if all keys are greater.
    #[inline]
    pub fn find(&self, key: &[u8]) -> Option<usize> {
        self.upto(key).checked_sub(1)
    }

    /// Returns the position of the last key below `upper`; `None` if there is none.
    #[inline]
    pub fn find_below(&self, upper: &[u8]) -> Option<usize> {
        let last = self.find(upper)?;
        if self.key(last) == upper { last.checked_sub(1) } else { Some(last) }
    }

    /// Returns how many keys are not greater than `key`.
    #[inline]
    fn upto(&self, key: &[u8]) -> usize {
        if self.ends.len() <= FEW_KEYS {
            return (0..self.ends.len()).take_while(|at| self.key(*at) <= key).count();
        }
        let Some(mut node) = self.nodes.first() else { return 0 };
        let mut checked = 0;
        loop {
            // The part of the node's shared prefix that has not been compared yet.
            let shared = &self.key(node.first)[checked..node.skip];
            let Some(head) = key.get(checked..node.skip) else {
                return if key[checked..] < *shared { node.first } else { node.end };
            };
            if head != shared {
                return if head < shared { node.first } else { node.end };
            }
            let word = word(key, node.skip);
            let Some(at) = node.words.find(word) else { return node.first };
            let (start, end) = node.keys_of(at);
            if node.words.get(at) != word {
                return end;
            }
            if end - start == 1 {
                return start + usize::from(self.key(start) <= key);
            }
            // Here `key` and the keys from `start` to `end` agree in 8 bytes, including the zeros after a key's end.
            let child = node.children.binary_search_by_key(&(at as u32), |(at, _)| *at);
            match child {
                Ok(child) if key.len() >= node.skip + 8 => {
                    // The shorter keys are prefixes of `key`; the node has the others.
                    checked = node.skip + 8;
                    node = &self.nodes[node.children[child].1 as usize];
                }
                _ => return self.search(start, end, key),
            }
        }
    }

    /// Returns how many keys are not greater than `key`, given that those before `start` are not and those from `end`
    /// on are.
    #[inline]
    fn search(&self, mut start: usize, mut end: usize, key: &[u8]) -> usize {
        while start < end {
            let middle = start + (end - start) / 2;
            if self.key(middle) <= key { start = middle + 1 } else { end = middle }
        }
        start
    }

    /// Adds the node of the keys from `first` to `end` and its children. Returns the node's position.
    fn add_node(&mut self, first: usize, end: usize) -> u32 {
        let skip = crate::key::common_prefix(self.key(first), self.key(end - 1));
        let (mut words, mut starts) = (Vec::new(), Vec::new());
        for at in first..end {
            let word = word(self.key(at), skip);
            if words.last() != Some(&word) {
                words.push(word);
                starts.push(at as u32);
            }
        }
        starts.push(end as u32);
        if words.len() == end - first {
            starts = Vec::new();
        }
        let number = self.nodes.len() as u32;
        let node = Node { skip, first, end, words: Words::new(&words), starts, children: Vec::new() };
        self.nodes.push(node);
        let mut children = Vec::new();
        for at in 0..words.len() {
            let (start, end) = self.nodes[number as usize].keys_of(at);
            // Keys that end within the word come before the longer ones.
            let long = (start..end).find(|at| self.key(*at).len() >= skip + 8).unwrap_or(end);
            if end - long > FEW {
                children.push((at as u32, self.add_node(long, end)));
            }
        }
        self.nodes[number as usize].children = children;
        number
    }
}

/// Returns the 8 bytes of `key` from `skip` on, first byte highest, with zeros after the key's end.
#[inline(always)]
fn word(key: &[u8], skip: usize) -> u64 {
    match key[skip..].first_chunk::<8>() {
        Some(eight) => u64::from_be_bytes(*eight),
        None => {
            let rest = &key[skip..];
            let mut eight = [0; 8];
            eight[..rest.len()].copy_from_slice(rest);
            u64::from_be_bytes(eight)
        }
    }
}

/// One cache line.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Line([u64; 8]);

/// Ascending words in levels: the lowest level has all words, each other one has every eighth word of the level below.
#[derive(Clone, Debug)]
struct Words {
    lines: Vec<Line>,
    /// The first line and the number of words of each level, highest level first.
    levels: Vec<(u32, u32)>,
}

impl Words {
    fn new(words: &[u64]) -> Words {
        let mut levels: Vec<Vec<u64>> = vec![words.to_vec()];
        while let Some(below) = levels.last().filter(|level| level.len() > 8) {
            levels.push(below.iter().copied().step_by(8).collect());
        }
        let mut all = Words { lines: Vec::new(), levels: Vec::new() };
        for level in levels.iter().rev() {
            all.levels.push((all.lines.len() as u32, level.len() as u32));
            for words in level.chunks(8) {
                let mut line = Line([u64::MAX; 8]);
                line.0[..words.len()].copy_from_slice(words);
                all.lines.push(line);
            }
        }
        all
    }

    /// Returns the position of the last word that is not greater than `word`.
    #[inline]
    fn find(&self, word: u64) -> Option<usize> {
        let mut at = 0;
        for (first, len) in &self.levels {
            let line = &self.lines[*first as usize + at].0;
            let below: usize = line.iter().map(|other| usize::from(*other <= word)).sum();
            // The padding of the last line is not greater than the largest word.
            at = (at * 8 + below).min(*len as usize).checked_sub(1)?;
        }
        Some(at)
    }

    /// Returns word `at`.
    #[inline]
    fn get(&self, at: usize) -> u64 {
        let first = self.levels.last().map_or(0, |(first, _)| *first as usize);
        self.lines[first + at / 8].0[at % 8]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Looks up every key, its neighbours and other keys, and compares the results with a search over the keys.
    fn check(keys: &BTreeSet<Vec<u8>>) {
        let index = KeyIndex::new(keys).expect("a set is sorted");
        let sorted: Vec<&Vec<u8>> = keys.iter().collect();
        assert_eq!(index.len(), sorted.len());
        let mut asked: Vec<Vec<u8>> = vec![vec![], vec![0], vec![0xff; 40]];
        for (at, key) in sorted.iter().enumerate() {
            assert_eq!(index.key(at), &key[..]);
            asked.push(key.to_vec());
            asked.push([&key[..], &[0]].concat());
            asked.push([&key[..], &[0; 9]].concat());
            asked.push([&key[..], &[0xff; 9]].concat());
            if let Some((last, head)) = key.split_last() {
                asked.push(head.to_vec());
                asked.push([head, &[last.wrapping_sub(1)]].concat());
                asked.push([head, &[last.wrapping_add(1)]].concat());
                asked.push(key[..key.len() / 2].to_vec());
            }
        }
        for key in &asked {
            let upto = sorted.partition_point(|other| *other <= key);
            assert_eq!(index.find(key), upto.checked_sub(1), "{key:?} in {sorted:?}");
            let below = sorted.partition_point(|other| *other < key);
            assert_eq!(index.find_below(key), below.checked_sub(1), "{key:?} in {sorted:?}");
        }
    }

    /// Goal: lookups are right for every shape of keys. Method: keys with long shared prefixes, keys that end within a
    /// word, keys that differ only in zeros at their end, and words of 0xFF; from none to a few thousand.
    #[test]
    fn lookups() {
        check(&BTreeSet::new());
        check(&BTreeSet::from([vec![]]));
        check(&(0..12).map(|n| vec![0; n]).collect());
        check(&(0..40).map(|n| [&b"abc"[..], &vec![0; n]].concat()).collect());
        check(&(0..40).map(|n| vec![0xff; n]).collect());
        for count in [1u64, 2, 3, 7, 8, 9, 63, 64, 65, 72, 73, 511, 513, 3000] {
            check(&(0..count).map(|n| (n * 0x0123_4567_89ab_cdef).to_be_bytes().to_vec()).collect());
            check(&(0..count).map(|n| format!("user{n:020}").into_bytes()).collect());
            // Rows of tables: the keys differ in several places.
            let row = |n: u64| [&b"t"[..], &(n / 100).to_be_bytes(), b"_r", &(n * 7).to_be_bytes()].concat();
            check(&(0..count).map(row).collect());
            check(&(0..count).map(|n| row(n)[..(n as usize % 19)].to_vec()).chain([vec![]]).collect());
            // A small alphabet, all lengths.
            let few = |n: u64| (0..n % 23).map(|at| [0, 1, 0xff][((n * 31) >> at) as usize % 3]).collect();
            check(&(0..count).map(few).collect());
        }
    }

    /// Goal: the index works at the size of real clusters. Method: 100,000 rows of ten tables, and words that are all
    /// the same.
    #[test]
    fn many() {
        let row = |n: u64| [&b"t"[..], &(n % 10).to_be_bytes(), b"_r", &(n * 7).to_be_bytes()].concat();
        check(&(0..100_000).map(row).collect());
        let deep = |n: u64| [&b"same"[..], &[0xff; 8], &(n / 9).to_be_bytes(), &[0; 8][..n as usize % 9]].concat();
        check(&(0..9_000).map(deep).collect());
    }

    /// Goal: unsorted keys are refused. Method: a pair in the wrong order, and a pair of equal keys.
    #[test]
    fn refusals() {
        assert_eq!(KeyIndex::new(["a", "c", "b"]).err(), Some(NotAscending { at: 2 }));
        assert_eq!(KeyIndex::new(["a", "a"]).err(), Some(NotAscending { at: 1 }));
    }
}
