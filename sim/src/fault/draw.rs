//! How the swarm draws faults.

use armilla::rt::rng::Rng;

use super::target::Target;

/// A class of faults. A run includes it or not.
pub struct Class<K> {
    /// The name, which also seeds the class's own stream of random numbers.
    pub name: &'static str,
    /// The minimum and the maximum number of faults per minute.
    pub per_minute: (f64, f64),
    /// Draws one fault.
    pub make: fn(&mut Draw<'_>) -> Draft<K>,
}

/// A fault that is not scheduled yet.
#[derive(Clone, Debug)]
pub struct Draft<K> {
    /// How long it lasts, ms.
    pub for_ms: u64,
    /// The node that it strikes, if it strikes a single one.
    pub target: Option<Target>,
    /// The kind of fault.
    pub kind: K,
}

impl<K> Draft<K> {
    /// Creates a fault that strikes one node.
    pub fn at(target: Target, for_ms: u64, kind: K) -> Draft<K> {
        Draft { for_ms, target: Some(target), kind }
    }

    /// Creates a fault that strikes several nodes or no particular one.
    pub fn everywhere(for_ms: u64, kind: K) -> Draft<K> {
        Draft { for_ms, target: None, kind }
    }

    /// Converts the kind to another type.
    pub fn into<T: From<K>>(self) -> Draft<T> {
        Draft { for_ms: self.for_ms, target: self.target, kind: self.kind.into() }
    }
}

/// A stream of random numbers, and the parameters of the plan on which faults depend.
pub struct Draw<'a> {
    /// The stream.
    pub rng: &'a mut Rng,
    /// The number of stores.
    pub stores: u32,
    /// The initial number of regions.
    pub regions: u32,
    /// The number of keys.
    pub keys: u32,
    /// The number of pieces of a region that faults distinguish; 1 in a run without splits.
    pub pieces: u32,
    /// The election timeout, ms.
    pub election_ms: u64,
}

impl Draw<'_> {
    /// Draws any node.
    pub fn target(&mut self) -> Target {
        match self.rng.below(10) {
            0..=2 => Target::Leader(self.region()),
            3 => Target::PdLeader,
            _ => Target::Node(self.node()),
        }
    }

    /// Draws a node that is a leader of some group.
    pub fn leader(&mut self) -> Target {
        if self.rng.chance(0.3) { Target::PdLeader } else { Target::Leader(self.region()) }
    }

    /// Draws the number of a region, from 0. [`super::context::Context::group`] says what the numbers mean.
    pub fn region(&mut self) -> u32 {
        self.rng.below(u64::from(self.regions * self.pieces)) as u32
    }

    /// Draws a new boundary inside a region, as it was at first.
    pub fn boundary(&mut self, region: u32) -> u32 {
        let first_key = |region: u32| u64::from(region) * u64::from(self.keys) / u64::from(self.regions);
        let region = region % self.regions;
        let (low, high) = (2 * first_key(region), 2 * first_key(region + 1));
        self.rng.between(low + 1, (high - 1).max(low + 1)) as u32
    }

    /// Draws the number of a node, from 1.
    pub fn node(&mut self) -> u32 {
        self.rng.below(u64::from(self.stores)) as u32 + 1
    }

    /// Draws a time between `low` and `high` percent of an election timeout, ms.
    pub fn election(&mut self, low: u64, high: u64) -> u64 {
        (self.election_ms * self.rng.between(low, high) / 100).max(1)
    }

    /// Draws a number between `low` and `high` whose logarithm is about evenly distributed.
    pub fn log(&mut self, low: u64, high: u64) -> u64 {
        log_uniform(self.rng, low as f64, high as f64) as u64
    }
}

/// Draws a number whose logarithm is about evenly distributed.
pub fn log_uniform(rng: &mut Rng, low: f64, high: f64) -> f64 {
    // The results of exp and ln differ in the last bit between libraries, but plans must not. So this draws a power of
    // two by halving, and then the rest linearly.
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
