//! Delays before a snapshot that was not delivered is retried.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::rt::rng::Rng;
use crate::types::GroupId;
use crate::types::limits::{SNAPSHOT_PLACE_LOOK, SNAPSHOT_RETRY_MAX, SNAPSHOT_RETRY_MIN};

/// The snapshots that were not delivered, by group and peer. The delay of those that failed grows with each failure.
/// Those that found no free slot are retried soon, but less often the more of them there are: the rate of their
/// attempts is about the same however many groups wait.
#[derive(Debug)]
pub struct Retries {
    rng: Rng,
    failures: BTreeMap<(GroupId, u64), u32>,
    without_slot: BTreeSet<(GroupId, u64)>,
}

impl Retries {
    /// Creates an empty set. Delays are drawn from `rng`.
    pub fn new(rng: Rng) -> Retries {
        Retries { rng, failures: BTreeMap::new(), without_slot: BTreeSet::new() }
    }

    /// Notes that a snapshot found no free slot, here or at the receiver. Returns the delay before the next attempt.
    pub fn no_slot(&mut self, group: GroupId, to_peer: u64) -> Duration {
        self.without_slot.insert((group, to_peer));
        let waiting = u32::try_from(self.without_slot.len()).unwrap_or(u32::MAX);
        let longest = SNAPSHOT_PLACE_LOOK.saturating_mul(waiting.saturating_add(1)).min(SNAPSHOT_RETRY_MAX);
        let ms = self.rng.between(SNAPSHOT_PLACE_LOOK.as_millis() as u64, longest.as_millis() as u64);
        Duration::from_millis(ms)
    }

    /// Notes that a snapshot was not delivered. Returns the delay before the next attempt.
    pub fn failed(&mut self, group: GroupId, to_peer: u64) -> Duration {
        self.without_slot.remove(&(group, to_peer));
        let failures = self.failures.entry((group, to_peer)).or_default();
        *failures = (*failures + 1).min(16);
        let longest = (SNAPSHOT_RETRY_MIN * (1 << *failures)).min(SNAPSHOT_RETRY_MAX);
        let ms = self.rng.between(SNAPSHOT_RETRY_MIN.as_millis() as u64, longest.as_millis() as u64);
        Duration::from_millis(ms)
    }

    /// Notes that a snapshot was delivered.
    pub fn delivered(&mut self, group: GroupId, to_peer: u64) {
        self.failures.remove(&(group, to_peer));
        self.without_slot.remove(&(group, to_peer));
    }
}

#[cfg(test)]
mod tests {
    //! Goal: delays are within the two limits, differ, grow, and start over after a delivery. Method: many draws.

    use super::*;

    #[test]
    fn snapshots_without_a_slot_are_retried_soon() {
        let mut retries = Retries::new(Rng::new(1));
        assert!(retries.no_slot(GroupId(0), 8) <= 2 * SNAPSHOT_PLACE_LOOK);
        let waits: Vec<Duration> = (0..1000).map(|group| retries.no_slot(GroupId(group), 8)).collect();
        assert!(waits.iter().all(|wait| (SNAPSHOT_PLACE_LOOK..=SNAPSHOT_RETRY_MAX).contains(wait)), "{waits:?}");
        assert!(waits[900..].iter().sum::<Duration>() > 100 * SNAPSHOT_RETRY_MAX / 3, "many look less often");
        (0..1000).for_each(|group| retries.delivered(GroupId(group), 8));
        assert!(retries.no_slot(GroupId(0), 8) <= 2 * SNAPSHOT_PLACE_LOOK);
    }

    #[test]
    fn waits_grow_up_to_the_limit() {
        let mut retries = Retries::new(Rng::new(1));
        let wait = |retries: &mut Retries, group| retries.failed(GroupId(group), 8);
        let first: Vec<Duration> = (0..100).map(|group| wait(&mut retries, group)).collect();
        let within = |wait: &Duration, max| (SNAPSHOT_RETRY_MIN..=max).contains(wait);
        assert!(first.iter().all(|wait| within(wait, 2 * SNAPSHOT_RETRY_MIN)) && first[0] != first[1], "{first:?}");
        let later: Vec<Duration> = (0..100).map(|_| wait(&mut retries, 0)).collect();
        assert!(later.iter().all(|wait| within(wait, SNAPSHOT_RETRY_MAX)), "{later:?}");
        assert!(later.iter().any(|wait| *wait > SNAPSHOT_RETRY_MAX / 2), "{later:?}");
        retries.delivered(GroupId(0), 8);
        assert!(within(&wait(&mut retries, 0), 2 * SNAPSHOT_RETRY_MIN));
    }
}
