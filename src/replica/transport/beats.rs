//! The encoding of heartbeats of many groups; see `RaftBatch` in `armilla_raft.proto`.

use crate::raft::Beat;
use crate::replica::message::GroupBeat;
use crate::types::GroupId;
use crate::types::region::RegionEpoch;

/// How many numbers encode one heartbeat.
const NUMBERS: usize = 7;

/// Encodes heartbeats as numbers.
pub(super) fn encode(beats: &[GroupBeat]) -> Vec<u64> {
    let mut numbers = Vec::with_capacity(beats.len() * NUMBERS);
    for GroupBeat { group, epoch, beat } in beats {
        let Beat { from, to, term, commit } = *beat;
        numbers.extend([group.0, from, to, term, commit, epoch.conf_ver, epoch.version]);
    }
    numbers
}

/// Decodes heartbeats.
///
/// # Errors
/// If the last heartbeat is incomplete, a description of the error.
pub(super) fn decode(numbers: &[u64]) -> Result<Vec<GroupBeat>, String> {
    let (beats, rest) = numbers.as_chunks::<NUMBERS>();
    if !rest.is_empty() {
        return Err(format!("{} numbers of heartbeats are not a multiple of {NUMBERS}", numbers.len()));
    }
    let beat = |[group, from, to, term, commit, conf_ver, version]: &[u64; NUMBERS]| GroupBeat {
        group: GroupId(*group),
        epoch: RegionEpoch { conf_ver: *conf_ver, version: *version },
        beat: Beat { from: *from, to: *to, term: *term, commit: *commit },
    };
    Ok(beats.iter().map(beat).collect())
}

#[cfg(test)]
mod tests {
    //! Goal: decoding returns what was encoded. Method: a round trip.
    use super::*;

    #[test]
    fn there_and_back() {
        let beat = |group: u64| GroupBeat {
            group: GroupId(group),
            epoch: RegionEpoch { conf_ver: group + 5, version: group + 6 },
            beat: Beat { from: group + 1, to: group + 2, term: group + 3, commit: group + 4 },
        };
        let beats = [beat(1), beat(u64::MAX - 6)];
        let numbers = encode(&beats);
        assert_eq!(decode(&numbers), Ok(beats.to_vec()));
        assert!(decode(&numbers[1..]).unwrap_err().contains("13 numbers"));
        assert_eq!(decode(&[]), Ok(vec![]));
    }
}
