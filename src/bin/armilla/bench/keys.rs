//! Keys that are spread evenly over the key space, so that evenly split regions have the same load.

use armilla::rt::rng::{Rng, mix};

use super::Distribution;

/// The length of a key in bytes.
pub const KEY_BYTES: usize = 16;

/// How skewed the zipfian choice is.
const THETA: f64 = 0.99;

/// The keys of a run, and how they are chosen.
#[derive(Debug)]
pub struct Keys {
    count: u64,
    zipf: Option<Zipf>,
}

impl Keys {
    /// Creates `count` keys.
    pub fn new(count: u64, distribution: Distribution) -> Keys {
        Keys { count, zipf: (distribution == Distribution::Zipfian).then(|| Zipf::new(count)) }
    }

    /// Returns the `n`th key: eight pseudorandom bytes, then the number.
    #[inline]
    pub fn key(&self, n: u64) -> [u8; KEY_BYTES] {
        let mut key = [0; KEY_BYTES];
        // `mix` maps zero to zero.
        key[..8].copy_from_slice(&mix(n + 1).to_be_bytes());
        key[8..].copy_from_slice(&n.to_be_bytes());
        key
    }

    /// Returns a random key.
    #[inline]
    pub fn draw(&self, rng: &mut Rng) -> [u8; KEY_BYTES] {
        match &self.zipf {
            None => self.key(rng.below(self.count)),
            Some(zipf) => self.key(zipf.draw(rng)),
        }
    }
}

/// Zipf's law over `0..count`, by the approximation of Gray et al., "Quickly generating billion-record synthetic
/// databases".
#[derive(Debug)]
struct Zipf {
    count: u64,
    zeta: f64,
    alpha: f64,
    eta: f64,
}

impl Zipf {
    fn new(count: u64) -> Zipf {
        let zeta = zeta(count);
        let alpha = 1.0 / (1.0 - THETA);
        let eta = (1.0 - (2.0 / count as f64).powf(1.0 - THETA)) / (1.0 - zeta_sum(2) / zeta);
        Zipf { count, zeta, alpha, eta }
    }

    fn draw(&self, rng: &mut Rng) -> u64 {
        let u = rng.unit();
        let scaled = u * self.zeta;
        if scaled < 1.0 || self.count == 1 {
            return 0;
        }
        if scaled < 1.0 + 0.5f64.powf(THETA) || self.count == 2 {
            return 1;
        }
        let n = self.count as f64 * (self.eta * u - self.eta + 1.0).powf(self.alpha);
        (n as u64).min(self.count - 1)
    }
}

/// How many terms are summed exactly; the rest of the sum is approximated by an integral.
const EXACT: u64 = 1 << 20;

fn zeta_sum(count: u64) -> f64 {
    (1..=count).map(|i| (i as f64).powf(-THETA)).sum()
}

fn zeta(count: u64) -> f64 {
    let tail = |from: f64, to: f64| (to.powf(1.0 - THETA) - from.powf(1.0 - THETA)) / (1.0 - THETA);
    let exact = zeta_sum(count.min(EXACT));
    if count > EXACT { exact + tail(EXACT as f64 + 0.5, count as f64 + 0.5) } else { exact }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ_and_spread() {
        let keys = Keys::new(10_000, Distribution::Uniform);
        let mut all: Vec<_> = (0..10_000).map(|n| keys.key(n)).collect();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 10_000);
        let upper_half = all.iter().filter(|key| key[0] >= 0x80).count();
        assert!((4_700..5_300).contains(&upper_half), "{upper_half}");
    }

    #[test]
    fn zipf_is_skewed_and_in_range() {
        let zipf = Zipf::new(1000);
        let mut rng = Rng::new(3);
        let mut counts = vec![0u32; 1000];
        for _ in 0..100_000 {
            counts[zipf.draw(&mut rng) as usize] += 1;
        }
        // The first of 1,000 has 1/zeta(1000, 0.99) = 12.9 % of all draws.
        assert!((12_000..14_000).contains(&counts[0]), "{}", counts[0]);
        assert!(counts[0] > counts[1] && counts[1] > counts[10] && counts[10] > counts[500].max(1));
        for count in [1, 2, 3] {
            let zipf = Zipf::new(count);
            assert!((0..1000).all(|_| zipf.draw(&mut rng) < count));
        }
    }

    #[test]
    fn the_integral_continues_the_sum() {
        let (n, more) = (EXACT, EXACT + 1000);
        let added: f64 = (n + 1..=more).map(|i| (i as f64).powf(-THETA)).sum();
        assert!((zeta(more) - zeta(n) - added).abs() < 1e-9);
    }
}
