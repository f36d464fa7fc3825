//! Spreads leaders evenly over the stores that are alive.
//!
//! A leader moves only if its store has at least two more leaders than the target store, so that every move makes the
//! cluster more even and no move is undone by the next. With weights, each store's number is divided by its own
//! ([`Weights`]). Leaders that are moving count at their target.

use std::collections::BTreeMap;

use super::weights::Weights;
use crate::proto::armilla::pd::LeaderOrder;

/// The placement of a region's leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderPlacement {
    /// The region's ID.
    pub region: u64,
    /// The store of the region's leader.
    pub leader: u64,
    /// The stores of its voters.
    pub voters: Vec<u64>,
    /// The store that leadership is moving to, if any.
    pub moving_to: Option<u64>,
    /// Whether the leader is moving or moved recently and must stay where it is.
    pub rests: bool,
}

/// Returns at most `max` moves of leaders away from store `from`, the most useful first; ties are broken by the
/// smallest IDs, so that the same input gives the same result everywhere. `stores` are the stores that may lead.
pub fn propose(
    from: u64,
    stores: &[u64],
    placements: &[LeaderPlacement],
    weights: &Weights,
    max: usize,
) -> Vec<LeaderOrder> {
    let mut leaders: BTreeMap<u64, u64> = stores.iter().map(|store| (*store, 0)).collect();
    for placement in placements {
        if let Some(count) = leaders.get_mut(&placement.moving_to.unwrap_or(placement.leader)) {
            *count += 1;
        }
    }
    let mut movable: Vec<&LeaderPlacement> =
        placements.iter().filter(|placement| placement.leader == from && !placement.rests).collect();
    movable.sort_by_key(|placement| placement.region);
    let mut orders = Vec::new();
    while orders.len() < max {
        let Some(here) = leaders.get(&from).copied() else { break };
        let moves = movable.iter().enumerate().flat_map(|(at, placement)| {
            let targets = placement.voters.iter().filter(|to| **to != from);
            targets
                .filter_map(|to| leaders.get(to).map(|count| (weights.share(*to, *count), *to, at)))
                .collect::<Vec<_>>()
        });
        let Some((_, to, at)) = moves.min() else { break };
        let there = leaders.get(&to).copied().unwrap_or(0);
        if !weights.moves((from, here), (to, there)) {
            break;
        }
        let placement = movable.remove(at);
        assert!(
            placement.leader == from && to != from,
            "region {}: a leader moves away from its own store",
            placement.region
        );
        *leaders.get_mut(&from).expect("it was just read") -= 1;
        *leaders.get_mut(&to).expect("it was just read") += 1;
        orders.push(LeaderOrder { region_id: placement.region, to_store: to });
    }
    orders
}
