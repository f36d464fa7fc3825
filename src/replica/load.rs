//! What requests read and wrote through a peer, and samples of their keys.
//!
//! Requests count here on their way: additions to numbers that lie in a line of the processor's cache of their own, and
//! now and then a copy of a key, for regions that look as if they had to be split. **In** come requests; **out** go
//! sums since the start, and samples since they were last taken. **Never**: a request that waits for another one.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use crate::rt::rng::mix;
use crate::types::limits::{KEY_BYTES_MAX, LOAD_SAMPLE_BYTES_FULL, LOAD_SAMPLES_MAX};
use crate::types::load::Load;

/// A request that was sampled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The key, or the first key of the range.
    pub from: Bytes,
    /// The end of the range; `None` if the request is for one key. Empty: infinity.
    pub to: Option<Bytes>,
    /// Bytes that the request read or wrote.
    pub bytes: u64,
}

#[derive(Debug, Default)]
struct Samples {
    list: Vec<Sample>,
    key_bytes: usize,
}

/// The counters of a peer.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct PeerLoad {
    reads: AtomicU64,
    read_keys: AtomicU64,
    read_bytes: AtomicU64,
    writes: AtomicU64,
    written_keys: AtomicU64,
    written_bytes: AtomicU64,
    /// One of this many requests is sampled; 0: none.
    sample_every: AtomicU64,
    samples: Mutex<Samples>,
}

impl PeerLoad {
    /// Returns the sums since the start.
    pub fn sums(&self) -> Load {
        let sum = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Load {
            reads: sum(&self.reads),
            read_keys: sum(&self.read_keys),
            read_bytes: sum(&self.read_bytes),
            writes: sum(&self.writes),
            written_keys: sum(&self.written_keys),
            written_bytes: sum(&self.written_bytes),
        }
    }

    /// Counts a request that read `keys` keys with `bytes` bytes: the key `from`, or the range from there up to `to`.
    pub fn count_read(&self, from: &[u8], to: Option<&[u8]>, keys: u64, bytes: u64) {
        let turn = self.reads.fetch_add(1, Ordering::Relaxed);
        self.read_keys.fetch_add(keys, Ordering::Relaxed);
        self.read_bytes.fetch_add(bytes, Ordering::Relaxed);
        if self.is_sampled(turn) {
            self.sample(from, to, bytes);
        }
    }

    /// Counts a command that was proposed.
    pub(super) fn count_write(&self, bytes: usize) {
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.written_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Counts the keys of a request that writes. `key` returns the key with a number below `keys`, and the end of the
    /// range if it is one.
    pub fn count_written_keys<'k>(
        &self,
        keys: usize,
        bytes: usize,
        key: impl FnOnce(usize) -> (&'k [u8], Option<&'k [u8]>),
    ) {
        let turn = self.written_keys.fetch_add(keys as u64, Ordering::Relaxed);
        if keys > 0 && self.is_sampled(turn) {
            let (from, to) = key((mix(turn ^ 1) % keys as u64) as usize);
            self.sample(from, to, bytes as u64);
        }
    }

    /// Samples one of `every` requests from now on, at random, so that no order of requests is missed; 0: none.
    pub fn sample_every(&self, every: u64) {
        self.sample_every.store(every, Ordering::Relaxed);
        if every == 0 {
            self.take_samples();
        }
    }

    /// Returns the samples since the last call.
    pub fn take_samples(&self) -> Vec<Sample> {
        std::mem::take(&mut *self.samples.lock().expect("no holder panics")).list
    }

    fn is_sampled(&self, turn: u64) -> bool {
        let every = self.sample_every.load(Ordering::Relaxed);
        every != 0 && mix(turn).is_multiple_of(every)
    }

    fn sample(&self, from: &[u8], to: Option<&[u8]>, bytes: u64) {
        if from.len() > KEY_BYTES_MAX || to.is_some_and(|to| to.len() > KEY_BYTES_MAX) {
            return;
        }
        // Another request adds its own key at this moment: this one is left out.
        let Ok(mut samples) = self.samples.try_lock() else { return };
        if samples.list.len() < LOAD_SAMPLES_MAX && samples.key_bytes < LOAD_SAMPLE_BYTES_FULL {
            samples.key_bytes += from.len() + to.map_or(0, <[u8]>::len);
            // Copies: a request's key shares the memory of the whole request.
            let (from, to) = (Bytes::copy_from_slice(from), to.map(Bytes::copy_from_slice));
            samples.list.push(Sample { from, to, bytes });
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: everything is counted, and samples are bounded and fair. Method: by hand.
    use super::*;

    #[test]
    fn requests_are_counted_whether_sampled_or_not() {
        let load = PeerLoad::default();
        load.count_read(b"a", None, 1, 10);
        load.count_write(100);
        load.count_written_keys(3, 90, |_| unreachable!("nothing is sampled"));
        assert_eq!(load.take_samples(), []);
        load.sample_every(1);
        load.count_read(b"a", Some(b"c"), 2, 20);
        load.count_written_keys(2, 30, |at| ([&b"d"[..], b"d"][at], None));
        let sums = Load { reads: 2, read_keys: 3, read_bytes: 30, writes: 1, written_keys: 5, written_bytes: 100 };
        assert_eq!(load.sums(), sums);
        let sample = |from: &'static str, to: Option<&'static str>, bytes| Sample {
            from: from.into(),
            to: to.map(Bytes::from),
            bytes,
        };
        assert_eq!(load.take_samples(), [sample("a", Some("c"), 20), sample("d", None, 30)]);
        assert_eq!(load.take_samples(), []);
    }

    #[test]
    fn samples_are_bounded() {
        let load = PeerLoad::default();
        load.sample_every(1);
        (0..2 * LOAD_SAMPLES_MAX).for_each(|_| load.count_read(b"a", None, 1, 1));
        assert_eq!(load.take_samples().len(), LOAD_SAMPLES_MAX);
        let long = vec![b'k'; KEY_BYTES_MAX];
        (0..LOAD_SAMPLES_MAX).for_each(|_| load.count_read(&long, None, 1, 1));
        assert_eq!(load.take_samples().len(), LOAD_SAMPLE_BYTES_FULL / KEY_BYTES_MAX);
        load.count_read(&[&long[..], b"k"].concat(), None, 0, 1);
        assert_eq!(load.take_samples(), [], "no region has such a key");
    }

    #[test]
    fn keys_that_alternate_are_both_sampled() {
        let load = PeerLoad::default();
        load.sample_every(8);
        (0..400).for_each(|n| load.count_read([b"a", b"b"][n % 2], None, 1, 1));
        let samples = load.take_samples();
        let first = samples.iter().filter(|sample| sample.from == "a").count();
        assert!((30..=64).contains(&samples.len()) && first * 3 > samples.len() && first * 3 < 2 * samples.len());
    }
}
