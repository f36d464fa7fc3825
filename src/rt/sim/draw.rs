//! Counter-based random draws: each is a pure function of the seed and of its purpose, so that removing one event from
//! a run does not shift the draws of the others. Integers only: a run must be the same on every processor.

use crate::rt::rng;

/// Returns draw number `n` of `site` on `node` in `stream`.
pub(super) fn at(seed: u64, stream: &str, node: u64, site: u64, n: u64) -> u64 {
    let mut h = rng::hash_label(seed, stream);
    for word in [node, site, n] {
        h = rng::mix(h ^ word.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_add(word);
    }
    rng::mix(h)
}

/// Returns a positive number with a mean near `mean` and a long tail: mostly exponential, but one draw in 128 is ten
/// times and one in 4096 fifty times as long.
pub(super) fn long_tail(bits: u64, mean: u64) -> u64 {
    // -log2 of a uniform number: its leading zeros, and the following bits for the fraction (linear between powers).
    let zeroes = u64::from(bits.leading_zeros().min(40));
    let mantissa = (bits << (zeroes + 1).min(63)) >> 56;
    let log2_256ths = (zeroes << 8) + (255 - mantissa);
    // ln 2 = 0.693 = 177/256.
    let body = mean.saturating_mul(log2_256ths * 177) >> 16;
    let luck = rng::mix(bits ^ 0x7461_696c);
    match luck & 0xfff {
        0 => body * 50,
        low if low & 0x7f == 1 => body * 10,
        _ => body,
    }
}

/// Returns whether a draw succeeds, with probability `p`.
pub(super) fn hits(bits: u64, p: f64) -> bool {
    p > 0.0 && ((bits >> 11) as f64) / ((1u64 << 53) as f64) < p
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_of_a_long_tail_is_near_what_was_asked_for() {
        let sum: u64 = (0..100_000).map(|n| long_tail(at(1, "t", 2, 3, n), 1_000)).sum();
        let mean = sum / 100_000;
        assert!((900..1_400).contains(&mean), "{mean}");
    }

    #[test]
    fn draws_differ_by_every_coordinate() {
        let base = at(1, "a", 2, 3, 4);
        for other in
            [at(2, "a", 2, 3, 4), at(1, "b", 2, 3, 4), at(1, "a", 3, 3, 4), at(1, "a", 2, 4, 4), at(1, "a", 2, 3, 5)]
        {
            assert_ne!(base, other);
        }
    }
}
