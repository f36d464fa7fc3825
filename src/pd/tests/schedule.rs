//! Scheduling orders that spread leaders evenly.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Args, golden};
use crate::pd::schedule::leader::{GAP_MIN, Seat, propose};

/// Goal: the right moves are proposed, and no others. Method: golden script.
#[test]
fn schedule() {
    let (mut stores, mut seats) = (Vec::new(), Vec::new());
    golden::check("tests/scripts/pd/schedule.txt", |line| {
        let (command, args) = Args::parse(line);
        match command {
            "stores" => {
                stores = (0..args.plain.len()).map(|at| args.number(at)).collect();
                seats.clear();
                String::new()
            }
            // seat REGION LEADER voters=1,2,3 [to=2] [rests=1]
            "seat" => {
                let to = args.number_or("to", 0);
                seats.push(Seat {
                    region: args.number(0),
                    leader: args.number(1),
                    voters: args.text_or("voters", "1,2,3").split(',').map(|id| id.parse().unwrap()).collect(),
                    moving_to: (to != 0).then_some(to),
                    rests: to != 0 || args.number_or("rests", 0) == 1,
                });
                String::new()
            }
            "propose" => {
                let orders = propose(args.number(0), &stores, &seats, args.number_or("max", 4) as usize);
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
        let seat = |(region, leader): (usize, &u64)| Seat {
            region: region as u64, leader: leader % stores + 1, voters: ids.clone(), moving_to: None, rests: false,
        };
        let mut seats: Vec<Seat> = leaders.iter().enumerate().map(seat).collect();
        let mut moves = 0;
        loop {
            let before = moves;
            for from in &ids {
                for order in propose(*from, &ids, &seats, 4) {
                    let seat = seats.iter_mut().find(|seat| seat.region == order.region_id).unwrap();
                    prop_assert_eq!(seat.leader, *from);
                    seat.leader = order.to_store;
                    moves += 1;
                }
            }
            prop_assert!(moves <= leaders.len() * 2, "leaders must not move in circles");
            if moves == before {
                break;
            }
        }
        let mut counts: BTreeMap<u64, u64> = ids.iter().map(|id| (*id, 0)).collect();
        for seat in &seats {
            *counts.get_mut(&seat.leader).unwrap() += 1;
        }
        let (least, most) = (counts.values().min().unwrap(), counts.values().max().unwrap());
        prop_assert!(most - least < GAP_MIN, "{:?}", counts);
    }
}
