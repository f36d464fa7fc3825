//! Makes small regions part of their neighbours.
//!
//! A region with little data becomes part of a neighbour that has at most [`TIMES`] as much as a small region may have,
//! so that what comes out is far from being split again. Of two neighbours that are both small the smaller one ends.

/// A neighbour may have this many times the data of a region that is just small enough.
pub const TIMES: u64 = 3;

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
}

/// Returns at most `max` merges, each as (source, target). `below_bytes` is the data of which a small region has less.
pub fn propose(regions: &[Candidate], below_bytes: u64, max: usize) -> Vec<(u64, u64)> {
    let (mut merges, mut last): (Vec<(u64, u64)>, Option<Candidate>) = (Vec::new(), None);
    for one in regions {
        if merges.len() >= max {
            break;
        }
        let left = last.replace(*one).filter(|left| left.rests && one.rests && one.meets_last);
        let Some(left) = left else { continue };
        let (source, target) = if left.bytes <= one.bytes { (left, *one) } else { (*one, left) };
        if source.bytes < below_bytes && target.bytes <= TIMES * below_bytes {
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

    fn row(sizes: &[u64]) -> Vec<Candidate> {
        let one =
            |(region, bytes): (u64, &u64)| Candidate { region, bytes: *bytes, rests: true, meets_last: region > 1 };
        (1..).zip(sizes).map(one).collect()
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
