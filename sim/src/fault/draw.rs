//! What the swarm draws faults from.

use armilla::rt::rng::Rng;

use super::target::Target;

/// A class of faults, which is in or out of a run as a whole.
pub struct Class<K> {
    /// Seeds the class's own stream of random numbers.
    pub name: &'static str,
    /// How many faults a minute at the least and at the most.
    pub per_minute: (f64, f64),
    /// Draws one fault.
    pub make: fn(&mut Draw<'_>) -> Draft<K>,
}

/// A fault that has no time yet.
#[derive(Clone, Debug)]
pub struct Draft<K> {
    /// How long it lasts, ms.
    pub for_ms: u64,
    /// Which node it strikes.
    pub target: Option<Target>,
    /// What it does.
    pub kind: K,
}

impl<K> Draft<K> {
    /// Strikes one node for a while.
    pub fn at(target: Target, for_ms: u64, kind: K) -> Draft<K> {
        Draft { for_ms, target: Some(target), kind }
    }

    /// Strikes no node in particular, or several.
    pub fn everywhere(for_ms: u64, kind: K) -> Draft<K> {
        Draft { for_ms, target: None, kind }
    }

    /// The same fault as a kind of another type.
    pub fn into<T: From<K>>(self) -> Draft<T> {
        Draft { for_ms: self.for_ms, target: self.target, kind: self.kind.into() }
    }
}

/// A stream of random numbers, and what of the plan faults depend on.
pub struct Draw<'a> {
    /// The stream.
    pub rng: &'a mut Rng,
    /// How many stores the cluster has.
    pub stores: u32,
    /// How many regions it begins with.
    pub regions: u32,
    /// The election timeout, ms.
    pub election_ms: u64,
}

impl Draw<'_> {
    /// Any node.
    pub fn target(&mut self) -> Target {
        match self.rng.below(10) {
            0..=2 => Target::Leader(self.region()),
            3 => Target::PdLeader,
            _ => Target::Node(self.node()),
        }
    }

    /// A node that leads something.
    pub fn leader(&mut self) -> Target {
        if self.rng.chance(0.3) { Target::PdLeader } else { Target::Leader(self.region()) }
    }

    /// A region's number, from 0.
    pub fn region(&mut self) -> u32 {
        self.rng.below(u64::from(self.regions)) as u32
    }

    /// A node's number, from 1.
    pub fn node(&mut self) -> u32 {
        self.rng.below(u64::from(self.stores)) as u32 + 1
    }

    /// Between `low` and `high` percent of an election timeout, ms.
    pub fn election(&mut self, low: u64, high: u64) -> u64 {
        (self.election_ms * self.rng.between(low, high) / 100).max(1)
    }

    /// A number between `low` and `high`, small ones as likely as large ones.
    pub fn log(&mut self, low: u64, high: u64) -> u64 {
        log_uniform(self.rng, low as f64, high as f64) as u64
    }
}

/// Draws a number whose logarithm is evenly distributed.
pub fn log_uniform(rng: &mut Rng, low: f64, high: f64) -> f64 {
    // exp and ln differ in the last bit between libraries, which a plan must not: powers of two by halves, then a linear rest.
    let (mut low, mut high) = (low, high);
    while high / low > 2.0 {
        let mut doublings = 0u64;
        let mut top = low;
        while top < high {
            top *= 2.0;
            doublings += 1;
        }
        let slot = rng.below(doublings);
        low *= (1u64 << slot) as f64;
        high = high.min(low * 2.0);
    }
    low + (high - low) * rng.unit()
}
