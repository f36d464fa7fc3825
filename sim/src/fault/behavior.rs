//! The behavior of a kind of fault.

use armilla::rt::rng::Rng;

use super::context::Context;
use super::force::{Force, Machines};

/// The fields that a fault of some kind has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Whether it strikes one node, named by `target`.
    pub target: bool,
    /// Whether it lasts for `for_ms`; otherwise it is instantaneous.
    pub lasts: bool,
}

/// A fault that begins now.
pub struct Hit {
    /// The node that its target was resolved to; 0 without a target.
    pub node: u64,
    /// How long it lasts, ms.
    pub for_ms: u64,
    /// The fault's own stream of random numbers.
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
/// A fault begins with [`Behavior::strike`]. While it is active, [`Behavior::impose`] adds its effects whenever the
/// combined effects are recomputed. Once it is no longer active, [`Behavior::end`] is called.
pub trait Behavior: Sized {
    /// Returns the fields that such a fault has.
    fn shape(&self) -> Shape;

    /// Carries out what happens once, at the begin. Returns false if the fault cannot strike now; it does not become
    /// active then.
    fn strike(&self, _hit: &mut Hit, _context: &mut Context) -> bool {
        true
    }

    /// Adds the effects that the fault has while it is active to `force`.
    fn impose(&self, _active: Active, _machines: &Machines, _force: &mut Force) {}

    /// Returns when the effects change by themselves next, if they do: ms after the fault's begin, later than
    /// `elapsed_ms`.
    fn changes_at_ms(&self, _elapsed_ms: u64) -> Option<u64> {
        None
    }

    /// Carries out what happens once, at the end. Returns the nodes to start unless another fault keeps them down.
    fn end(&self, _node: u64, _context: &mut Context) -> Vec<u64> {
        Vec::new()
    }

    /// Checks the parameters.
    ///
    /// # Errors
    /// The parameter that is invalid.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    /// Returns whether the oracle of pauses starts its sums again when the fault strikes.
    fn disturbs(&self) -> bool {
        true
    }

    /// Returns the same kind with half of its strength, or `None` if it is already weak.
    fn milder(&self) -> Option<Self> {
        None
    }

    /// Returns whether a parameter names a node with a number above `highest`.
    fn names_node_above(&self, _highest: u32) -> bool {
        false
    }
}

/// Returns half of a number, or `None` if that is below `least`.
pub fn half(number: u64, least: u64) -> Option<u64> {
    Some(number / 2).filter(|half| *half >= least)
}
