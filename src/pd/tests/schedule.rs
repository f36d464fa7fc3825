//! Scheduling orders that spread leaders evenly.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Args, golden};
use crate::pd::schedule::leader::{LeaderPlacement, propose};
use crate::pd::schedule::weights::Weights;

/// Goal: the right moves are proposed, and no others. Method: golden script.
#[test]
fn schedule() {
    let (mut stores, mut placements) = (Vec::new(), Vec::new());
    golden::check("tests/scripts/pd/schedule.txt", |line| {
        let (command, args) = Args::parse(line);
        match command {
            "stores" => {
                stores = (0..args.plain.len()).map(|at| args.number(at)).collect();
                placements.clear();
                String::new()
            }
            // placement REGION LEADER voters=1,2,3 [to=2] [rests=1]
            "placement" => {
                let to = args.number_or("to", 0);
                placements.push(LeaderPlacement {
                    region: args.number(0),
                    leader: args.number(1),
                    voters: args.text_or("voters", "1,2,3").split(',').map(|id| id.parse().unwrap()).collect(),
                    moving_to: (to != 0).then_some(to),
                    rests: to != 0 || args.number_or("rests", 0) == 1,
                });
                String::new()
            }
            "propose" => {
                let orders = propose(
                    args.number(0),
                    &stores,
                    &placements,
                    &Weights::default(),
                    args.number_or("max", 4) as usize,
                );
                let text =
                    orders.iter().map(|order| format!("region {} to store {}\n", order.region_id, order.to_store));
                text.collect::<String>()
            }
            other => panic!("unknown command {other}"),
        }
    });
}

proptest! {
    /// Goal: moves stop, and leaders are spread evenly, if every store has a peer of every region. Method: carry out
    /// every proposal, store by store, until there are none.
    #[test]
    fn ends_evenly(stores in 2u64..6, leaders in proptest::collection::vec(0u64..5, 1..40)) {
        let ids: Vec<u64> = (1..=stores).collect();
        let placement = |(region, leader): (usize, &u64)| LeaderPlacement {
            region: region as u64, leader: leader % stores + 1, voters: ids.clone(), moving_to: None, rests: false,
        };
        let mut placements: Vec<LeaderPlacement> = leaders.iter().enumerate().map(placement).collect();
        let mut moves = 0;
        loop {
            let before = moves;
            for from in &ids {
                for order in propose(*from, &ids, &placements, &Weights::default(), 4) {
                    let placement = placements.iter_mut().find(|placement| placement.region == order.region_id).unwrap();
                    prop_assert_eq!(placement.leader, *from);
                    placement.leader = order.to_store;
                    moves += 1;
                }
            }
            prop_assert!(moves <= leaders.len() * 2, "leaders must not move in circles");
            if moves == before {
                break;
            }
        }
        let mut counts: BTreeMap<u64, u64> = ids.iter().map(|id| (*id, 0)).collect();
        for placement in &placements {
            *counts.get_mut(&placement.leader).unwrap() += 1;
        }
        let (least, most) = (counts.values().min().unwrap(), counts.values().max().unwrap());
        prop_assert!(most - least < 2, "{:?}", counts);
    }
}
