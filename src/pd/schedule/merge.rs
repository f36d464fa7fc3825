//! Makes small regions part of their neighbours.
//!
//! A region with little data becomes part of a neighbour that has at most [`TIMES`] as much as a small region may have,
//! so that what comes out is far from being split again. Of two neighbours that are both small the smaller one ends.
//! The load of both together must be at most a [`LOAD_PART`]th of the load for which a store splits a region.

use crate::types::load::Load;

/// A neighbour may have this many times the data of a region that is just small enough.
pub const TIMES: u64 = 3;

/// What comes out may have this part, one of that many, of the load for which it would be split.
pub const LOAD_PART: u64 = 2;

/// What a small region is, and what must not come out of a merge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// The data of which a small region has less.
    pub below_bytes: u64,
    /// Requests per second for which a region is split; 0: any number.
    pub queries_per_s: u64,
    /// Bytes per second for which a region is split; 0: any number.
    pub bytes_per_s: u64,
}

impl Limits {
    /// Returns whether two neighbours have so little load that they may become one.
    fn allow(&self, one: &Candidate, other: &Candidate) -> bool {
        let load = one.load.plus(other.load);
        let little = |load: u64, limit: u64| limit == 0 || load.saturating_mul(LOAD_PART) <= limit;
        little(load.queries(), self.queries_per_s) && little(load.bytes(), self.bytes_per_s)
    }
}

/// A region, in the order of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The region's ID.
    pub region: u64,
    /// Its data in bytes.
    pub bytes: u64,
    /// It has all of its peers, its range has not changed for long, and nothing else is done with it.
    pub rests: bool,
    /// It begins where the one before it ends.
    pub meets_last: bool,
    /// Its load per second.
    pub load: Load,
}

/// Returns at most `max` merges, each as (source, target).
pub fn propose(regions: &[Candidate], limits: Limits, max: usize) -> Vec<(u64, u64)> {
    let (mut merges, mut last): (Vec<(u64, u64)>, Option<Candidate>) = (Vec::new(), None);
    for one in regions {
        if merges.len() >= max {
            break;
        }
        let left = last.replace(*one).filter(|left| left.rests && one.rests && one.meets_last);
        let left = left.filter(|left| limits.allow(left, one));
        let Some(left) = left else { continue };
        let (source, target) = if left.bytes <= one.bytes { (left, *one) } else { (*one, left) };
        if source.bytes < limits.below_bytes && target.bytes <= TIMES * limits.below_bytes {
            merges.push((source.region, target.region));
            // Each region takes part in one merge.
            last = None;
        }
    }
    merges
}

#[cfg(test)]
mod tests {
    //! Goal: only small neighbours at rest are merged, each once. Method: by hand.
    use super::*;

    fn propose(regions: &[Candidate], below_bytes: u64, max: usize) -> Vec<(u64, u64)> {
        super::propose(regions, Limits { below_bytes, ..Limits::default() }, max)
    }

    fn row(sizes: &[u64]) -> Vec<Candidate> {
        let one = |(region, bytes): (u64, &u64)| Candidate {
            region,
            bytes: *bytes,
            rests: true,
            meets_last: region > 1,
            load: Load::default(),
        };
        (1..).zip(sizes).map(one).collect()
    }

    #[test]
    fn regions_that_were_split_by_load_stay_apart_while_they_have_it() {
        let limits = Limits { below_bytes: 10, queries_per_s: 100, bytes_per_s: 1000 };
        let mut regions = row(&[1, 1]);
        let mut merges = |reads: u64, read_bytes: u64| {
            regions.iter_mut().for_each(|one| one.load = Load { reads, read_bytes, ..Load::default() });
            super::propose(&regions, limits, 9).len()
        };
        assert_eq!((merges(50, 0), merges(26, 0), merges(25, 0)), (0, 0, 1));
        assert_eq!((merges(0, 251), merges(0, 250)), (0, 1));
    }

    #[test]
    fn small_regions_join_a_neighbour() {
        assert_eq!(propose(&row(&[5, 7]), 10, 9), [(1, 2)]);
        assert_eq!(propose(&row(&[7, 5]), 10, 9), [(2, 1)]);
        assert_eq!(propose(&row(&[5, 31]), 10, 9), [], "it would be large");
        assert_eq!(propose(&row(&[10, 10]), 10, 9), [], "neither is small");
        assert_eq!(propose(&row(&[1, 1, 1, 1, 1]), 10, 9), [(1, 2), (3, 4)]);
        assert_eq!(propose(&row(&[1, 1, 1, 1, 1]), 10, 1), [(1, 2)]);
        assert_eq!(propose(&row(&[40, 1, 40]), 10, 9), []);
        assert_eq!(propose(&row(&[40, 1, 20]), 10, 9), [(2, 3)]);
        let mut regions = row(&[1, 1]);
        regions[0].rests = false;
        assert_eq!(propose(&regions, 10, 9), []);
        let mut regions = row(&[1, 1]);
        regions[1].meets_last = false;
        assert_eq!(propose(&regions, 10, 9), []);
    }
}
