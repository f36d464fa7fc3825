//! Spreads leaders evenly over the stores that are alive.
//!
//! A leader moves only if the store it leaves has at least [`GAP_MIN`] leaders more than the one it goes to, so that a move
//! always makes the cluster more even and none is ever undone by the next. Leaders on their way count where they go.

use std::collections::BTreeMap;

use crate::proto::armilla::pd::LeaderOrder;

/// The smallest difference in leaders between two stores that is worth a move.
pub const GAP_MIN: u64 = 2;

/// A region's leadership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    /// The region.
    pub region: u64,
    /// The store that leads it.
    pub leader: u64,
    /// The stores that could.
    pub voters: Vec<u64>,
    /// The store it is moving to.
    pub moving_to: Option<u64>,
    /// It moves, or moved lately: leave it alone.
    pub rests: bool,
}

/// At most `max` moves away from store `from`, the most useful first; among equals the smallest ids, so that the same input
/// gives the same answer everywhere. `stores` are those that may lead.
pub fn propose(from: u64, stores: &[u64], seats: &[Seat], max: usize) -> Vec<LeaderOrder> {
    let mut leaders: BTreeMap<u64, u64> = stores.iter().map(|store| (*store, 0)).collect();
    for seat in seats {
        if let Some(count) = leaders.get_mut(&seat.moving_to.unwrap_or(seat.leader)) {
            *count += 1;
        }
    }
    let mut movable: Vec<&Seat> = seats.iter().filter(|seat| seat.leader == from && !seat.rests).collect();
    movable.sort_by_key(|seat| seat.region);
    let mut orders = Vec::new();
    while orders.len() < max {
        let Some(here) = leaders.get(&from).copied() else { break };
        let moves = movable.iter().enumerate().flat_map(|(at, seat)| {
            let targets = seat.voters.iter().filter(|to| **to != from);
            targets.filter_map(|to| leaders.get(to).map(|count| (*count, *to, at))).collect::<Vec<_>>()
        });
        let Some((there, to, at)) = moves.min() else { break };
        if here < there + GAP_MIN {
            break;
        }
        let seat = movable.remove(at);
        assert!(seat.leader == from && to != from, "region {}: a leader moves away from where it is", seat.region);
        *leaders.get_mut(&from).expect("it was just read") -= 1;
        *leaders.get_mut(&to).expect("it was just read") += 1;
        orders.push(LeaderOrder { region_id: seat.region, to_store: to });
    }
    orders
}
