//! Waits between attempts: exponential, with jitter, bounded by the deadline. Pure.

use std::time::Duration;

use crate::rt::rng::Rng;

/// The waits between the attempts of one request.
#[derive(Clone, Debug)]
pub struct Backoff {
    base: Duration,
    max: Duration,
    attempt: u32,
}

impl Backoff {
    /// Creates waits that begin around `base`, double each time and stay below `max`.
    ///
    /// # Panics
    /// Panics if `base` is zero or above `max`.
    pub fn new(base: Duration, max: Duration) -> Backoff {
        assert!(!base.is_zero() && base <= max, "the first wait must be above zero and at most the maximum");
        Backoff { base, max, attempt: 0 }
    }

    /// Returns how many waits [`Backoff::next`] has returned.
    #[cfg(test)]
    pub fn attempts(&self) -> u32 {
        self.attempt
    }

    /// Returns the next wait: between half and all of the exponential step, at most `remaining`. Returns `None` if no
    /// time remains.
    pub fn next(&mut self, rng: &mut Rng, remaining: Duration) -> Option<Duration> {
        if remaining.is_zero() {
            return None;
        }
        let step = self.base.saturating_mul(1u32.checked_shl(self.attempt).unwrap_or(u32::MAX)).min(self.max);
        self.attempt = self.attempt.saturating_add(1);
        let half = step.as_nanos() as u64 / 2;
        let wait = Duration::from_nanos(half + rng.below(half + 1));
        Some(wait.min(remaining))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn doubles_within_its_bounds() {
        let mut rng = Rng::new(7);
        let mut backoff = Backoff::new(ms(2), ms(100));
        for step in [2, 4, 8, 16, 32, 64, 100, 100] {
            let wait = backoff.next(&mut rng, ms(10_000)).unwrap();
            assert!(wait >= ms(step) / 2 && wait <= ms(step), "step {step}: {wait:?}");
        }
        assert_eq!(backoff.attempts(), 8);
    }

    #[test]
    fn ends_with_the_budget() {
        let mut rng = Rng::new(7);
        let mut backoff = Backoff::new(ms(50), ms(100));
        assert_eq!(backoff.next(&mut rng, ms(3)), Some(ms(3)));
        assert_eq!(backoff.next(&mut rng, Duration::ZERO), None);
    }

    #[test]
    fn survives_very_many_attempts() {
        let mut rng = Rng::new(7);
        let mut backoff = Backoff::new(ms(1), ms(10));
        for _ in 0..100 {
            assert!(backoff.next(&mut rng, ms(1000)).unwrap() <= ms(10));
        }
    }

    #[test]
    fn follows_its_seed() {
        let draw = |seed| {
            let (mut rng, mut backoff) = (Rng::new(seed), Backoff::new(ms(10), ms(1000)));
            (0..6).map(|_| backoff.next(&mut rng, ms(1000)).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }
}
