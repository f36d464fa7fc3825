//! What a kind of fault says about itself.

use armilla::rt::rng::Rng;

use super::context::Context;
use super::force::{Force, Machines};

/// Which fields a fault of some kind has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// It strikes one node, which `target` names.
    pub target: bool,
    /// It lasts for `for_ms`; otherwise it happens at one moment.
    pub lasts: bool,
}

/// A fault that begins now.
pub struct Hit {
    /// The node that its target was resolved to; 0 without a target.
    pub node: u64,
    /// How long it lasts, ms.
    pub for_ms: u64,
    /// A stream of its own.
    pub rng: Rng,
}

/// A fault that is active.
#[derive(Clone, Copy, Debug)]
pub struct Active {
    /// The node that its target was resolved to; 0 without a target.
    pub node: u64,
    /// How long it has been active, ms.
    pub elapsed_ms: u64,
}

/// A kind of fault with its parameters.
///
/// A fault begins with [`Behavior::strike`]. While it is active, [`Behavior::impose`] adds its part whenever what is in force is
/// worked out anew. Once it is not active any more, [`Behavior::end`] is called.
pub trait Behavior: Sized {
    /// Says which fields such a fault has.
    fn shape(&self) -> Shape;

    /// Does what happens once, at the begin. Returns false if the fault cannot strike now; it is not active then.
    fn strike(&self, _hit: &mut Hit, _context: &mut Context) -> bool {
        true
    }

    /// Adds what it does while it is active.
    fn impose(&self, _active: Active, _machines: &Machines, _force: &mut Force) {}

    /// When what it does changes by itself, if it does: ms after its begin, beyond `elapsed_ms`.
    fn changes_at_ms(&self, _elapsed_ms: u64) -> Option<u64> {
        None
    }

    /// Does what happens once, at the end. Returns the nodes to start, unless another fault keeps them down.
    fn end(&self, _node: u64, _context: &mut Context) -> Vec<u64> {
        Vec::new()
    }

    /// Whether its parameters make sense.
    ///
    /// # Errors
    /// Which one does not.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    /// Whether the oracle of pauses begins its sums anew when it strikes.
    fn disturbs(&self) -> bool {
        true
    }

    /// The same kind with half of its strength, or nothing if it is weak already.
    fn milder(&self) -> Option<Self> {
        None
    }

    /// Whether a parameter names a node with a number above `highest`.
    fn names_node_above(&self, _highest: u32) -> bool {
        false
    }
}

/// Half of a number, unless that is below `least`.
pub fn half(number: u64, least: u64) -> Option<u64> {
    Some(number / 2).filter(|half| *half >= least)
}
