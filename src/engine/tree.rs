//! An ordered map with cheap copies: a B+ tree of shared nodes, copied on write.
//!
//! A clone shares every node. A change copies only those nodes on its path that are shared with a clone, so that a
//! single writer without snapshots changes its nodes in place. Every branch stores the count, the bytes and a hash of
//! the pairs below each child, so that [`Tree::summary`] of a range costs a walk down two edges of the tree instead of
//! a scan.

use std::sync::Arc;

use bytes::Bytes;

use super::Visit;

/// Maximum number of pairs in a leaf and of children in a branch.
const FANOUT: usize = 32;

/// A summary of the pairs in a range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Number of pairs.
    pub pairs: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// A hash of the set of pairs: equal sets have equal hashes, on every platform.
    pub hash: u64,
}

impl Summary {
    fn add(&mut self, other: Summary) {
        self.pairs += other.pairs;
        self.bytes += other.bytes;
        self.hash = self.hash.wrapping_add(other.hash);
    }

    fn subtract(&mut self, other: Summary) {
        self.pairs -= other.pairs;
        self.bytes -= other.bytes;
        self.hash = self.hash.wrapping_sub(other.hash);
    }
}

#[derive(Clone)]
struct Pair {
    key: Bytes,
    value: Bytes,
    hash: u64,
}

impl Pair {
    fn summary(&self) -> Summary {
        Summary { pairs: 1, bytes: (self.key.len() + self.value.len()) as u64, hash: self.hash }
    }
}

/// A subtree, as stored in its parent. `first` is a lower bound of its keys, except in the first child, where it is
/// meaningless.
#[derive(Clone)]
struct Child {
    first: Bytes,
    summary: Summary,
    node: Arc<Node>,
}

#[derive(Clone)]
enum Node {
    Leaf(Vec<Pair>),
    Branch(Vec<Child>),
}

impl Node {
    fn len(&self) -> usize {
        match self {
            Node::Leaf(pairs) => pairs.len(),
            Node::Branch(children) => children.len(),
        }
    }
}

/// An ordered map of bytes to bytes. See the head of this file.
#[derive(Clone)]
pub struct Tree {
    root: Arc<Node>,
    summary: Summary,
}

impl Default for Tree {
    fn default() -> Tree {
        Tree { root: Arc::new(Node::Leaf(Vec::new())), summary: Summary::default() }
    }
}

impl Tree {
    /// Returns the value of a key.
    pub fn get(&self, key: &[u8]) -> Option<&Bytes> {
        let mut node = &*self.root;
        loop {
            match node {
                Node::Leaf(pairs) => {
                    let at = pairs.binary_search_by(|pair| pair.key.as_ref().cmp(key)).ok()?;
                    return Some(&pairs[at].value);
                }
                Node::Branch(children) => node = &children[child_of(children, key)].node,
            }
        }
    }

    /// Sets a key. Copies the key and the value, so that a small pair does not keep a large buffer alive.
    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        let pair = Pair {
            hash: hash_pair(key, value),
            key: Bytes::copy_from_slice(key),
            value: Bytes::copy_from_slice(value),
        };
        self.summary.add(pair.summary());
        let mut replaced = Summary::default();
        let right = put(&mut self.root, pair, &mut replaced);
        self.summary.subtract(replaced);
        if let Some(right) = right {
            let mut summary = self.summary;
            summary.subtract(right.summary);
            let left = Child { first: Bytes::new(), summary, node: std::mem::take(self).root };
            self.summary = left.summary;
            self.summary.add(right.summary);
            self.root = Arc::new(Node::Branch(vec![left, right]));
        }
    }

    /// Removes a key, if it exists.
    pub fn delete(&mut self, key: &[u8]) {
        // Look the key up first: a missing key must not cause a copy of its path.
        if self.get(key).is_some() {
            let removed = delete(&mut self.root, key);
            self.summary.subtract(removed);
            self.lower_root();
        }
    }

    /// Removes the keys in `[start, end)`; an empty `end` means infinity.
    pub fn delete_range(&mut self, start: &[u8], end: &[u8]) {
        if self.summary(start, end).pairs > 0 {
            let removed = delete_range(&mut self.root, Range { start, end }, Some(&[]), None);
            self.summary.subtract(removed);
            self.lower_root();
        }
    }

    fn lower_root(&mut self) {
        while let Node::Branch(children) = &*self.root {
            match children.as_slice() {
                [] => self.root = Arc::new(Node::Leaf(Vec::new())),
                [only] => self.root = only.node.clone(),
                _ => break,
            }
        }
    }

    /// Returns count, bytes and hash of the pairs in `[start, end)`; an empty `end` means infinity.
    pub fn summary(&self, start: &[u8], end: &[u8]) -> Summary {
        if start.is_empty() && end.is_empty() {
            return self.summary;
        }
        let mut total = Summary::default();
        summarize(&self.root, Range { start, end }, Some(&[]), None, &mut total);
        total
    }

    /// Visits the pairs of `[start, end)` in ascending order until the visitor stops.
    pub fn scan(&self, start: &[u8], end: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit) {
        scan(&self.root, Range { start, end }, visit);
    }

    /// Visits the pairs of `[start, end)` in descending order until the visitor stops.
    pub fn scan_reverse(&self, start: &[u8], end: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit) {
        scan_reverse(&self.root, Range { start, end }, visit);
    }
}

/// The range `[start, end)`; an empty end means infinity.
#[derive(Clone, Copy)]
struct Range<'a> {
    start: &'a [u8],
    end: &'a [u8],
}

impl Range<'_> {
    fn is_below(self, key: &[u8]) -> bool {
        !self.end.is_empty() && self.end <= key
    }

    /// Returns whether the range contains all of `[low, high)`; `None` is an infinite bound.
    fn covers(self, low: Option<&[u8]>, high: Option<&[u8]>) -> bool {
        let low_in = low.is_some_and(|low| self.start <= low);
        let high_in = self.end.is_empty() || high.is_some_and(|high| high <= self.end);
        low_in && high_in
    }

    /// Returns whether the range may contain any part of `[low, high)`.
    fn touches(self, low: Option<&[u8]>, high: Option<&[u8]>) -> bool {
        high.is_none_or(|high| self.start < high) && low.is_none_or(|low| !self.is_below(low))
    }
}

fn child_of(children: &[Child], key: &[u8]) -> usize {
    children[1..].partition_point(|child| child.first.as_ref() <= key)
}

/// Returns the key bounds of a child, given its parent's bounds.
fn bounds<'a>(
    children: &'a [Child],
    at: usize,
    low: Option<&'a [u8]>,
    high: Option<&'a [u8]>,
) -> (Option<&'a [u8]>, Option<&'a [u8]>) {
    let low = if at == 0 { low } else { Some(children[at].first.as_ref()) };
    let high = children.get(at + 1).map_or(high, |next| Some(next.first.as_ref()));
    (low, high)
}

fn put(node: &mut Arc<Node>, pair: Pair, replaced: &mut Summary) -> Option<Child> {
    match Arc::make_mut(node) {
        Node::Leaf(pairs) => {
            let at = match pairs.binary_search_by(|other| other.key.cmp(&pair.key)) {
                Ok(at) => {
                    *replaced = pairs[at].summary();
                    pairs[at] = pair;
                    return None;
                }
                Err(at) => at,
            };
            pairs.insert(at, pair);
            if pairs.len() <= FANOUT {
                return None;
            }
            // When keys arrive in order, the left leaf stays full.
            let middle = if at == FANOUT { FANOUT } else { FANOUT / 2 };
            let right = pairs.split_off(middle);
            let mut summary = Summary::default();
            right.iter().for_each(|pair| summary.add(pair.summary()));
            Some(Child { first: right[0].key.clone(), summary, node: Arc::new(Node::Leaf(right)) })
        }
        Node::Branch(children) => {
            let at = child_of(children, &pair.key);
            let added = pair.summary();
            let right = put(&mut children[at].node, pair, replaced);
            children[at].summary.add(added);
            children[at].summary.subtract(*replaced);
            let right = right?;
            children[at].summary.subtract(right.summary);
            children.insert(at + 1, right);
            if children.len() <= FANOUT {
                return None;
            }
            let middle = if at + 1 == FANOUT { FANOUT } else { FANOUT / 2 };
            let right = children.split_off(middle);
            let mut summary = Summary::default();
            right.iter().for_each(|child| summary.add(child.summary));
            Some(Child { first: right[0].first.clone(), summary, node: Arc::new(Node::Branch(right)) })
        }
    }
}

fn delete(node: &mut Arc<Node>, key: &[u8]) -> Summary {
    match Arc::make_mut(node) {
        Node::Leaf(pairs) => {
            let at = pairs.binary_search_by(|pair| pair.key.as_ref().cmp(key)).expect("looked up before");
            pairs.remove(at).summary()
        }
        Node::Branch(children) => {
            let at = child_of(children, key);
            let removed = delete(&mut children[at].node, key);
            children[at].summary.subtract(removed);
            if children[at].node.len() == 0 {
                children.remove(at);
            } else if at + 1 < children.len() && children[at].node.len() + children[at + 1].node.len() <= FANOUT / 2 {
                merge(children, at);
            } else if at > 0 && children[at - 1].node.len() + children[at].node.len() <= FANOUT / 2 {
                merge(children, at - 1);
            }
            removed
        }
    }
}

/// Moves the content of the child after `at` into the child at `at`.
fn merge(children: &mut Vec<Child>, at: usize) {
    let right = children.remove(at + 1);
    let left = &mut children[at];
    left.summary.add(right.summary);
    match (Arc::make_mut(&mut left.node), &*right.node) {
        (Node::Leaf(left), Node::Leaf(pairs)) => left.extend_from_slice(pairs),
        (Node::Branch(left), Node::Branch(grandchildren)) => {
            let joint = left.len();
            left.extend_from_slice(grandchildren);
            // This was a first child, whose bound is meaningless; now it needs the bound that the parent stored.
            left[joint].first = right.first;
        }
        _ => unreachable!("all leaves are at the same depth"),
    }
}

fn delete_range(node: &mut Arc<Node>, range: Range<'_>, low: Option<&[u8]>, high: Option<&[u8]>) -> Summary {
    let mut removed = Summary::default();
    match Arc::make_mut(node) {
        Node::Leaf(pairs) => pairs.retain(|pair| {
            let gone = range.start <= &pair.key[..] && !range.is_below(&pair.key);
            if gone {
                removed.add(pair.summary());
            }
            !gone
        }),
        Node::Branch(children) => {
            let mut kept = Vec::with_capacity(children.len());
            for at in 0..children.len() {
                let (low, high) = bounds(children, at, low, high);
                if range.covers(low, high) {
                    removed.add(children[at].summary);
                    continue;
                }
                let mut child = children[at].clone();
                if range.touches(low, high) {
                    let (low, high) = (low.map(Bytes::copy_from_slice), high.map(Bytes::copy_from_slice));
                    // Drop the parent's reference to the child, so that the child need not be copied.
                    children[at].node = Arc::new(Node::Leaf(Vec::new()));
                    let gone = delete_range(&mut child.node, range, low.as_deref(), high.as_deref());
                    child.summary.subtract(gone);
                    removed.add(gone);
                }
                if child.node.len() > 0 {
                    kept.push(child);
                }
            }
            *children = kept;
        }
    }
    removed
}

fn summarize(node: &Node, range: Range<'_>, low: Option<&[u8]>, high: Option<&[u8]>, total: &mut Summary) {
    match node {
        Node::Leaf(pairs) => {
            let from = pairs.partition_point(|pair| &pair.key[..] < range.start);
            for pair in pairs[from..].iter().take_while(|pair| !range.is_below(&pair.key)) {
                total.add(pair.summary());
            }
        }
        Node::Branch(children) => {
            for (at, child) in children.iter().enumerate() {
                let (low, high) = bounds(children, at, low, high);
                if range.covers(low, high) {
                    total.add(child.summary);
                } else if range.touches(low, high) {
                    summarize(&child.node, range, low, high, total);
                }
            }
        }
    }
}

fn scan(node: &Node, range: Range<'_>, visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit) -> Visit {
    match node {
        Node::Leaf(pairs) => {
            let from = pairs.partition_point(|pair| &pair.key[..] < range.start);
            for pair in &pairs[from..] {
                if range.is_below(&pair.key) || visit(&pair.key, &pair.value) == Visit::Stop {
                    return Visit::Stop;
                }
            }
        }
        Node::Branch(children) => {
            for child in &children[child_of(children, range.start)..] {
                if scan(&child.node, range, visit) == Visit::Stop {
                    return Visit::Stop;
                }
            }
        }
    }
    Visit::More
}

fn scan_reverse(node: &Node, range: Range<'_>, visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit) -> Visit {
    match node {
        Node::Leaf(pairs) => {
            let to = pairs.partition_point(|pair| !range.is_below(&pair.key));
            for pair in pairs[..to].iter().rev() {
                if &pair.key[..] < range.start || visit(&pair.key, &pair.value) == Visit::Stop {
                    return Visit::Stop;
                }
            }
        }
        Node::Branch(children) => {
            let last = children[1..].partition_point(|child| !range.is_below(&child.first));
            for child in children[..=last].iter().rev() {
                if scan_reverse(&child.node, range, visit) == Visit::Stop {
                    return Visit::Stop;
                }
            }
        }
    }
    Visit::More
}

/// Mixes one word well (the finalizer of MurmurHash3).
pub(super) fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    word = (word ^ (word >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    word ^ (word >> 33)
}

fn hash_bytes(seed: u64, bytes: &[u8]) -> u64 {
    let mut hash = seed ^ (bytes.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        let word = u64::from_le_bytes(word.try_into().expect("a chunk of 8"));
        hash = (hash ^ word).wrapping_mul(0x2545_f491_4f6c_dd1d).rotate_left(29);
    }
    let mut tail = [0; 8];
    tail[..words.remainder().len()].copy_from_slice(words.remainder());
    mix(hash ^ u64::from_le_bytes(tail))
}

fn hash_pair(key: &[u8], value: &[u8]) -> u64 {
    hash_bytes(hash_bytes(0, key), value)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Checks every bound, depth and summary in the tree by computing it again.
    fn check(node: &Node, low: &[u8], high: Option<&[u8]>, depth: usize, depths: &mut Vec<usize>) -> Summary {
        let mut total = Summary::default();
        match node {
            Node::Leaf(pairs) => {
                assert!(pairs.len() <= FANOUT);
                assert!(pairs.is_sorted_by(|a, b| a.key < b.key));
                for pair in pairs {
                    assert!(
                        low <= &pair.key[..] && high.is_none_or(|high| &pair.key[..] < high),
                        "a pair out of bounds"
                    );
                    assert_eq!(pair.hash, hash_pair(&pair.key, &pair.value));
                    total.add(pair.summary());
                }
                depths.push(depth);
            }
            Node::Branch(children) => {
                assert!((1..=FANOUT).contains(&children.len()));
                for (at, child) in children.iter().enumerate() {
                    let (low, high) = bounds(children, at, Some(low), high);
                    assert!(child.node.len() > 0, "an empty child");
                    let summary = check(&child.node, low.unwrap(), high, depth + 1, depths);
                    assert_eq!(summary, child.summary);
                    total.add(summary);
                }
            }
        }
        total
    }

    fn check_tree(tree: &Tree, model: &BTreeMap<Vec<u8>, Vec<u8>>) {
        let mut depths = Vec::new();
        assert_eq!(check(&tree.root, &[], None, 0, &mut depths), tree.summary);
        assert!(depths.iter().all(|depth| *depth == depths[0]), "leaves at different depths");
        let mut pairs = Vec::new();
        tree.scan(&[], &[], &mut |key, value| {
            pairs.push((key.to_vec(), value.to_vec()));
            Visit::More
        });
        assert!(pairs.iter().map(|(k, v)| (k, v)).eq(model.iter()));
        pairs.clear();
        tree.scan_reverse(&[], &[], &mut |key, value| {
            pairs.push((key.to_vec(), value.to_vec()));
            Visit::More
        });
        assert!(pairs.iter().map(|(k, v)| (k, v)).eq(model.iter().rev()));
    }

    /// Goal: the tree is an ordered map, and a clone never changes. Method: thousands of random changes, compared with
    /// a `BTreeMap`; deep enough for three levels; clones are kept with the maps that they must still equal.
    #[test]
    fn equals_an_ordered_map_and_its_clones_stay_as_they_were() {
        let mut state = 7u64;
        let mut draw = |bound: u64| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            mix(state) % bound
        };
        let (mut tree, mut model) = (Tree::default(), BTreeMap::new());
        let mut kept = Vec::new();
        for step in 0..40_000u64 {
            let key = |n: u64| format!("{n:05}").into_bytes();
            // Grow, then shrink, then grow.
            let shrink = (15_000..30_000).contains(&step);
            match draw(100) {
                0 => {
                    let start = draw(8000);
                    let (start, end) = (key(start), key(start + draw(if shrink { 400 } else { 20 })));
                    tree.delete_range(&start, &end);
                    model.retain(|key, _| *key < start || *key >= end);
                }
                1..=30 => {
                    let key = key(draw(8000));
                    tree.delete(&key);
                    model.remove(&key);
                }
                31..=60 if shrink => {
                    let key = key(draw(8000));
                    tree.delete(&key);
                    model.remove(&key);
                }
                _ => {
                    let (key, value) = (key(draw(8000)), step.to_be_bytes());
                    tree.put(&key, &value);
                    model.insert(key, value.to_vec());
                }
            }
            if step % 1999 == 0 {
                check_tree(&tree, &model);
                kept.push((tree.clone(), model.clone()));
            }
        }
        for (tree, model) in &kept {
            check_tree(tree, model);
        }
        tree.delete_range(&[], &[]);
        check_tree(&tree, &BTreeMap::new());
    }

    proptest! {
        #[test]
        fn a_range_summary_is_the_sum_of_its_pairs(
            pairs in proptest::collection::btree_map(proptest::collection::vec(0u8..4, 0..5), any::<[u8; 3]>(), 0..300),
            start in proptest::collection::vec(0u8..5, 0..5),
            end in proptest::collection::vec(0u8..5, 0..5),
        ) {
            let mut tree = Tree::default();
            pairs.iter().for_each(|(key, value)| tree.put(key, value));
            let mut expected = Summary::default();
            for (key, value) in &pairs {
                if *key >= start && (end.is_empty() || *key < end) {
                    expected.add(Summary { pairs: 1, bytes: (key.len() + 3) as u64, hash: hash_pair(key, value) });
                }
            }
            prop_assert_eq!(tree.summary(&start, &end), expected);
            let mut same = Tree::default();
            pairs.iter().rev().for_each(|(key, value)| same.put(key, value));
            prop_assert_eq!(same.summary(&start, &end), expected);
        }
    }
}
