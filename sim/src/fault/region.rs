//! Changes of the boundaries of regions, as an operator or a balancer orders them. They are not faults, but the store
//! must handle them at any time.

use serde::{Deserialize, Serialize};

use super::behavior::{Behavior, Hit, Shape};
use super::context::Context;
use super::draw::{Class, Draft, Draw};

/// A change of a boundary.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Kind {
    /// The region that holds the first of the new boundaries is split there, and at those of the others that are inside
    /// it.
    SplitRegion {
        /// The new boundaries, in ascending order, by [`crate::plan::keys::boundary`]'s numbers.
        boundaries: Vec<u32>,
    },
    /// A region becomes part of a neighbour.
    MergeRegion {
        /// The region's number, from 0.
        region: u32,
        /// Of its right neighbour, or else of its left one.
        right: bool,
    },
}

/// The values of `kind`.
pub const NAMES: &[&str] = &["split-region", "merge-region"];

/// The classes from which the swarm draws.
pub const CLASSES: &[Class<Kind>] = &[
    Class {
        name: "split-region",
        per_minute: (1.0, 20.0),
        make: |d| {
            let region = d.region();
            Draft::everywhere(0, split(d, region))
        },
    },
    Class {
        name: "merge-region",
        per_minute: (2.0, 30.0),
        make: |d| {
            let region = d.region();
            Draft::everywhere(0, merge(d, region))
        },
    },
];

/// Draws a merge of a region with a neighbour.
pub fn merge(d: &mut Draw<'_>, region: u32) -> Kind {
    Kind::MergeRegion { region, right: d.rng.chance(0.5) }
}

/// Draws a split of a region.
pub fn split(d: &mut Draw<'_>, region: u32) -> Kind {
    let more = if d.rng.chance(0.3) { d.rng.between(1, 3) } else { 0 };
    let mut boundaries: Vec<u32> = (0..=more).map(|_| d.boundary(region)).collect();
    boundaries.sort_unstable();
    boundaries.dedup();
    Kind::SplitRegion { boundaries }
}

impl Behavior for Kind {
    fn shape(&self) -> Shape {
        Shape { target: false, lasts: false }
    }

    fn strike(&self, _hit: &mut Hit, context: &mut Context) -> bool {
        match self {
            Kind::SplitRegion { boundaries } => context.split(boundaries),
            Kind::MergeRegion { region, right } => {
                context.group(*region).into_iter().for_each(|group| context.merge(group, *right));
            }
        }
        true
    }

    fn check(&self) -> Result<(), String> {
        let Kind::SplitRegion { boundaries } = self else { return Ok(()) };
        let ascend = !boundaries.is_empty() && boundaries.windows(2).all(|pair| pair[0] < pair[1]);
        if ascend { Ok(()) } else { Err(format!("boundaries {boundaries:?} do not ascend, or there are none")) }
    }

    fn disturbs(&self) -> bool {
        // Neither causes a long pause, so the sums continue and are judged.
        false
    }

    fn milder(&self) -> Option<Kind> {
        let Kind::SplitRegion { boundaries } = self else { return None };
        (boundaries.len() > 1).then(|| Kind::SplitRegion { boundaries: boundaries[..1].to_vec() })
    }
}
