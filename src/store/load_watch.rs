//! Which regions have had too much load for a while, and where to split them. Pure.
//!
//! Once a second, the sums of the regions that are led here come **in**, with samples of their requests; **out** go
//! regions that are to be split, each with a key that leaves a near-equal share of the load on either side, and those
//! whose load cannot be divided. **Never**: a key that is not strictly inside the region; a region that is found
//! indivisible over and over.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::codec::txn_key;
use crate::replica::load::Sample;
use crate::rt::clock::Instant;
use crate::types::limits::LOAD_SAMPLED_REGIONS_MAX;
use crate::types::load::Load;
use crate::types::{GroupId, Region, region};

/// The load above which a region is split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadLimits {
    /// Requests per second; 0: any number.
    pub queries_per_s: u64,
    /// Bytes per second that are read and written; 0: any number.
    pub bytes_per_s: u64,
    /// For how many seconds the load must last.
    pub seconds: u64,
}

impl LoadLimits {
    /// Returns whether a load is at least `1 / part` of a limit: by requests, and by bytes.
    fn reached(&self, queries: u64, bytes: u64, part: u64) -> (bool, bool) {
        let reached = |load: u64, limit: u64| limit > 0 && load.saturating_mul(part) >= limit;
        (reached(queries, self.queries_per_s), reached(bytes, self.bytes_per_s))
    }
}

/// How many requests of a region are sampled per second, on average.
const SAMPLES_PER_S: u64 = 32;
/// Fewer samples than these say nothing.
const SAMPLES_MIN: usize = 6;
/// Each side must have at least this part of the load, and at most this part may be of ranges across the key.
const SHARE: u64 = 4;
/// For how many seconds a region whose load cannot be divided is not looked at again.
const REST_S: u64 = 60;

/// One look at a region.
#[derive(Debug)]
struct Second {
    load: Load,
    ms: u64,
    samples: Vec<Sample>,
}

#[derive(Debug)]
struct Watched {
    sums: Load,
    at: Instant,
    version: u64,
    /// While it has a load for which it may be split: the last looks.
    seconds: VecDeque<Second>,
    rests_until: Instant,
}

/// What one region looks like now.
#[derive(Debug)]
pub struct Seen<'r> {
    /// The region.
    pub region: &'r Region,
    /// Its leader's sums since the start.
    pub sums: Load,
    /// The requests that were sampled since the last look.
    pub samples: Vec<Sample>,
}

/// What is to be done with a region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// One of this many requests is to be sampled; 0: none.
    Sample(u64),
    /// It is to be split at this key.
    Split(Bytes, Lasted),
    /// Its load is on one key, or on ranges that cannot be told apart.
    Indivisible(Lasted),
}

/// A load that has lasted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lasted {
    /// Requests per second.
    pub queries_per_s: u64,
    /// Bytes per second.
    pub bytes_per_s: u64,
    /// For how many milliseconds.
    pub ms: u64,
}

/// The regions that are led here.
#[derive(Debug)]
pub struct LoadWatch {
    limits: LoadLimits,
    regions: BTreeMap<GroupId, Watched>,
    /// How many of them are sampled.
    sampled: usize,
}

impl LoadWatch {
    /// Creates a watch that has not seen a region.
    pub fn new(limits: LoadLimits) -> LoadWatch {
        LoadWatch { limits, regions: BTreeMap::new(), sampled: 0 }
    }

    /// Begins a round of looks: forgets the regions that are not led here any more.
    pub fn retain(&mut self, leads: impl Fn(GroupId) -> bool) {
        self.regions.retain(|group, _| leads(*group));
        self.sampled = self.regions.values().filter(|watched| !watched.seconds.is_empty()).count();
    }

    /// Looks at a region that is led here.
    pub fn look(&mut self, now: Instant, seen: Seen<'_>) -> Verdict {
        let Seen { region, sums, samples } = seen;
        let (group, version) = (GroupId(region.id), region::epoch(region).version);
        let new = Watched { sums, at: now, version, seconds: VecDeque::new(), rests_until: Instant(0) };
        let limits = self.limits;
        let watched = self.regions.entry(group).or_insert(new);
        let ms = now.since(watched.at).as_millis() as u64;
        let load = sums.since(watched.sums);
        (watched.sums, watched.at) = (sums, now);
        if watched.version != version {
            // Another range: what was seen says nothing about it.
            (watched.version, watched.rests_until) = (version, Instant(0));
            watched.seconds.clear();
            return Verdict::Sample(0);
        }
        let rate = load.per_second(ms);
        let (queries, bytes) = (rate.queries(), rate.bytes());
        let halfway = limits.reached(queries, bytes, 2);
        let begins = watched.seconds.is_empty();
        let too_many = begins && self.sampled >= LOAD_SAMPLED_REGIONS_MAX;
        if ms == 0 || halfway == (false, false) || now < watched.rests_until || too_many {
            watched.seconds.clear();
            return Verdict::Sample(0);
        }
        self.sampled += usize::from(begins);
        let every = Verdict::Sample((queries / SAMPLES_PER_S).max(1));
        watched.seconds.push_back(Second { load, ms, samples });
        // The requests of the first look were not sampled yet.
        while watched.seconds.len() as u64 > limits.seconds.max(1) + 1 {
            watched.seconds.pop_front();
        }
        if watched.seconds.len() as u64 <= limits.seconds.max(1) {
            return every;
        }
        let lasts = watched.seconds.iter().skip(1);
        let (sum, ms) =
            lasts.clone().fold((Load::default(), 0), |(sum, ms), second| (sum.plus(second.load), ms + second.ms));
        let rate = sum.per_second(ms);
        let lasted = Lasted { queries_per_s: rate.queries(), bytes_per_s: rate.bytes(), ms };
        let (by_queries, by_bytes) = limits.reached(lasted.queries_per_s, lasted.bytes_per_s, 1);
        if !by_queries && !by_bytes {
            return every;
        }
        let samples: Vec<&Sample> = lasts.flat_map(|second| &second.samples).collect();
        if samples.len() < SAMPLES_MIN {
            return every;
        }
        let key = split_key(region, &samples, !by_queries);
        watched.seconds.clear();
        match key {
            Some(key) => Verdict::Split(key, lasted),
            None => {
                watched.rests_until = now.plus(std::time::Duration::from_secs(REST_S));
                Verdict::Indivisible(lasted)
            }
        }
    }
}

/// Returns the key that divides the load of these requests best: the difference between both sides is small, and few
/// ranges cross it. `by_bytes`: the load is bytes, not requests.
fn split_key(region: &Region, samples: &[&Sample], by_bytes: bool) -> Option<Bytes> {
    let weight = |sample: &Sample| if by_bytes { sample.bytes } else { 1 };
    let inside = |key: &Bytes| *key > region.start_key && region::holds(region, key);
    let samples: Vec<&Sample> = samples.iter().copied().filter(|sample| region::holds(region, &sample.from)).collect();
    let total: u64 = samples.iter().map(|sample| weight(sample)).sum();
    let points = samples.iter().flat_map(|sample| [Some(&sample.from), sample.to.as_ref()]).flatten();
    let mut keys: Vec<Bytes> = points.map(boundary).filter(|key| inside(key)).collect();
    keys.sort();
    keys.dedup();
    if crate::mutant!("store.load-split-beside-the-load") {
        return keys.last().map(|key| Bytes::from([&key[..], &[0]].concat())).filter(|key| inside(key));
    }
    // By where they begin, and by where they end: sums from the left.
    let mut begins: Vec<(&Bytes, u64)> = samples.iter().map(|sample| (&sample.from, weight(sample))).collect();
    begins.sort();
    // A single key ends behind itself, so a key that is equal to it leaves it on the right.
    let infinite = |sample: &Sample| sample.to.as_ref().is_some_and(Bytes::is_empty);
    let ranges = samples.iter().filter(|sample| !infinite(sample));
    let mut ends: Vec<(&Bytes, bool, u64)> = ranges
        .map(|sample| match &sample.to {
            Some(to) => (to, false, weight(sample)),
            None => (&sample.from, true, weight(sample)),
        })
        .collect();
    ends.sort();
    let (mut at_begin, mut begun, mut at_end, mut ended) = (0, 0, 0, 0);
    let mut best: Option<(u64, &Bytes)> = None;
    for key in &keys {
        while begins.get(at_begin).is_some_and(|(from, _)| *from < key) {
            begun += begins[at_begin].1;
            at_begin += 1;
        }
        while ends.get(at_end).is_some_and(|(to, single, _)| if *single { *to < key } else { *to <= key }) {
            ended += ends[at_end].2;
            at_end += 1;
        }
        let (left, right, across) = (ended, total - begun, begun - ended);
        let fit = left.min(right).saturating_mul(SHARE) >= total && across.saturating_mul(SHARE) <= total;
        let cost = left.abs_diff(right).saturating_add(across);
        if fit && total > 0 && best.is_none_or(|(least, _)| cost < least) {
            best = Some((cost, key));
        }
    }
    best.map(|(_, key)| key.clone())
}

/// Returns where a region can be split at or below `key`.
fn boundary(key: &Bytes) -> Bytes {
    if crate::mutant!("store.boundary-among-versions") {
        key.clone()
    } else {
        key.slice(..txn_key::boundary(key).len())
    }
}

#[cfg(test)]
mod tests {
    //! Goal: the load is divided near its middle where that is possible, and only after it has lasted. Method: samples
    //! and sums made by hand.
    use super::*;
    use crate::types::region::RegionEpoch;

    fn region(start: &'static str, end: &'static str) -> Region {
        let region_epoch = Some(RegionEpoch { conf_ver: 1, version: 1 });
        Region { id: 7, start_key: start.into(), end_key: end.into(), region_epoch, ..Region::default() }
    }

    fn key(from: &str, bytes: u64) -> Sample {
        Sample { from: Bytes::copy_from_slice(from.as_bytes()), to: None, bytes }
    }

    fn range(from: &str, to: &str) -> Sample {
        Sample { to: Some(Bytes::copy_from_slice(to.as_bytes())), ..key(from, 1) }
    }

    fn split(region: &Region, samples: &[Sample], by_bytes: bool) -> Option<String> {
        let found = split_key(region, &samples.iter().collect::<Vec<_>>(), by_bytes)?;
        assert!(found > region.start_key && region::holds(region, &found), "{found:?}");
        Some(String::from_utf8(found.to_vec()).unwrap())
    }

    #[test]
    fn the_key_is_in_the_middle_of_the_load() {
        let whole = region("", "");
        let row = |keys: &[&str]| keys.iter().map(|one| key(one, 1)).collect::<Vec<_>>();
        assert_eq!(split(&whole, &row(&["a", "b", "c", "d"]), false).as_deref(), Some("c"));
        assert_eq!(split(&whole, &row(&["a", "a", "a", "x"]), false).as_deref(), Some("x"), "a quarter is enough");
        assert_eq!(split(&whole, &row(&["a", "a", "a", "a", "x"]), false), None, "a fifth is not");
        let mut uneven = row(&["a", "b", "c", "d"]);
        uneven[0].bytes = 3;
        assert_eq!(split(&whole, &uneven, true).as_deref(), Some("b"), "by bytes");
    }

    #[test]
    fn load_on_one_key_is_not_divided() {
        let one = vec![key("m", 1); 9];
        assert_eq!(split(&region("", ""), &one, false), None);
        assert_eq!(split(&region("m", "n"), &one, false), None, "nor where the region begins with it");
        let outside = [key("a", 1), key("b", 1), key("z", 1)];
        assert_eq!(split(&region("m", "n"), &outside, false), None, "requests of an earlier range");
        assert_eq!(split(&region("", ""), &[], false), None);
        let encoded = txn_key::encode(b"key");
        let among = |n: u8| Sample { from: [&encoded[..], &[n]].concat().into(), to: None, bytes: 1 };
        let among: Vec<Sample> = (0..9).map(among).collect();
        let begins_there = Region { start_key: encoded, ..region("", "") };
        assert_eq!(split_key(&begins_there, &among.iter().collect::<Vec<_>>(), false), None, "versions stay together");
    }

    #[test]
    fn few_ranges_are_crossed() {
        let whole = region("", "");
        let ranges = [range("a", "d"), range("b", "d"), range("d", "g"), range("e", "h")];
        assert_eq!(split(&whole, &ranges, false).as_deref(), Some("d"));
        assert_eq!(split(&whole, &[range("a", "z"), range("b", "z"), range("c", "")], false), None, "all cross");
        let mixed = [range("a", "z"), key("b", 1), key("c", 1), key("d", 1), key("e", 1)];
        assert_eq!(split(&whole, &mixed, false).as_deref(), Some("d"));
    }

    fn look(watch: &mut LoadWatch, second: u64, reads: u64, keys: &[&str]) -> Verdict {
        let samples = keys.iter().map(|one| key(one, 1)).collect();
        let sums = Load { reads, ..Load::default() };
        watch.look(Instant(second * 1_000_000_000), Seen { region: &region("", ""), sums, samples })
    }

    #[test]
    fn load_must_last() {
        let limits = LoadLimits { queries_per_s: 100, bytes_per_s: 0, seconds: 3 };
        let mut watch = LoadWatch::new(limits);
        let keys = ["a", "b", "c", "d", "e", "f"];
        assert_eq!(look(&mut watch, 0, 5000, &[]), Verdict::Sample(0), "what was before does not count");
        assert_eq!(look(&mut watch, 1, 5200, &[]), Verdict::Sample(6), "now requests are sampled");
        assert_eq!(look(&mut watch, 2, 5400, &keys), Verdict::Sample(6));
        assert_eq!(look(&mut watch, 3, 5401, &keys), Verdict::Sample(0), "it has ended");
        for second in 4..7 {
            assert!(matches!(look(&mut watch, second, 5101 + second * 100, &keys), Verdict::Sample(1..)), "{second}");
        }
        let lasted = Lasted { queries_per_s: 100, bytes_per_s: 0, ms: 3000 };
        assert_eq!(look(&mut watch, 7, 5801, &keys), Verdict::Split("d".into(), lasted), "it has lasted");
        assert!(matches!(look(&mut watch, 8, 5901, &keys), Verdict::Sample(1..)), "it begins anew");
    }

    #[test]
    fn a_region_that_cannot_be_divided_rests() {
        let limits = LoadLimits { queries_per_s: 100, bytes_per_s: 0, seconds: 1 };
        let mut watch = LoadWatch::new(limits);
        let mut ends = Vec::new();
        for second in 0..200 {
            if let Verdict::Indivisible(..) = look(&mut watch, second, second * 500, &["a"; 9]) {
                ends.push(second);
            }
        }
        assert!(ends.len() == 4 && ends.windows(2).all(|pair| pair[1] - pair[0] >= REST_S), "{ends:?}");
    }

    #[test]
    fn the_number_of_sampled_regions_is_bounded() {
        let limits = LoadLimits { queries_per_s: 100, bytes_per_s: 0, seconds: 10 };
        let mut watch = LoadWatch::new(limits);
        let mut sampled = 0;
        for second in 0..2 {
            for id in 0..2 * LOAD_SAMPLED_REGIONS_MAX as u64 {
                let region = Region { id, ..region("", "") };
                let sums = Load { reads: 1000 * second, ..Load::default() };
                let seen = Seen { region: &region, sums, samples: Vec::new() };
                let verdict = watch.look(Instant(second * 1_000_000_000), seen);
                sampled += usize::from(verdict != Verdict::Sample(0));
            }
        }
        assert_eq!(sampled, LOAD_SAMPLED_REGIONS_MAX);
    }
}
