//! The timestamp allocator.

use proptest::prelude::*;

use super::{Args, golden};
use crate::pd::tso::{NeedWindow, Tso};

/// Goal: windows, overflow of the logical part, and clocks that jump forward or back. Method: golden script.
#[test]
fn tso() {
    let mut tso = Tso::new(0);
    golden::check("tests/scripts/pd/tso.txt", |line| {
        let (command, args) = Args::parse(line);
        match command {
            "new" => {
                tso = Tso::new(args.number(0));
                String::new()
            }
            "extend" => {
                tso.extend(args.number(0));
                format!("bound {}", tso.bound_ms())
            }
            "low" => tso.runs_low(args.number(0)).to_string(),
            "window" => tso.window(args.number(0)).to_ms.to_string(),
            "take" => match tso.take(args.number(0) as u32, args.number(1)) {
                Ok(last) => format!("{} + {}", last.physical_ms(), last.logical()),
                Err(NeedWindow { to_ms }) => format!("needs a window to {to_ms}"),
            },
            other => panic!("unknown command {other}"),
        }
    });
}

#[derive(Clone, Debug)]
enum Step {
    /// The leader takes timestamps after its clock moved by `by_ms`.
    Take { count: u32, by_ms: i64 },
    /// The leader saves the window that it needs.
    Save,
    /// The leader is deposed. The new leader's clock differs by `skew_ms`; the old leader does not notice.
    Failover { skew_ms: i64 },
    /// The deposed leader takes timestamps.
    TakeOld { count: u32 },
}

fn step() -> impl Strategy<Value = Step> {
    let count = || prop_oneof![1u32..100, Just(1 << 16), Just(1 << 17), Just(1 << 18)];
    let by_ms = prop_oneof![8 => 0i64..3, 2 => -5_000i64..5_000, 1 => Just(10_000_000i64), 1 => Just(-10_000_000i64)];
    prop_oneof![
        12 => (count(), by_ms).prop_map(|(count, by_ms)| Step::Take { count, by_ms }),
        4 => Just(Step::Save),
        1 => (-10_000i64..10_000).prop_map(|skew_ms| Step::Failover { skew_ms }),
        2 => count().prop_map(|count| Step::TakeOld { count }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    /// Goal: timestamps strictly increase, stay below the saved bound, and never repeat between two leaders, under any
    /// clocks and failovers. Method: random steps against one saved bound, as raft would keep it.
    #[test]
    fn monotone_under_any_clock(steps in proptest::collection::vec(step(), 1..200)) {
        let (mut saved_ms, mut clock_ms) = (0u64, 1_000_000i64);
        let (mut leader, mut old) = (Tso::new(saved_ms), None::<(Tso, u64)>);
        let mut largest = None::<u64>;
        for step in steps {
            match step {
                Step::Take { count, by_ms } => {
                    clock_ms = (clock_ms + by_ms).max(0);
                    if let Ok(last) = leader.take(count, clock_ms as u64) {
                        let first = last.0 - u64::from(count - 1);
                        prop_assert_eq!(first >> 18, last.0 >> 18, "a batch shares its physical part");
                        prop_assert!(last.physical_ms() < saved_ms, "below the saved bound");
                        prop_assert!(largest.is_none_or(|before| before < first), "strictly monotone");
                        largest = Some(last.0);
                    }
                }
                Step::Save => {
                    let NeedWindow { to_ms } = leader.window(clock_ms as u64);
                    saved_ms = saved_ms.max(to_ms);
                    leader.extend(to_ms);
                    prop_assert!(!leader.runs_low(clock_ms as u64));
                    prop_assert!(leader.clone().take(1 << 18, clock_ms as u64).is_ok(), "a saved window serves at once");
                }
                Step::Failover { skew_ms } => {
                    clock_ms = (clock_ms + skew_ms).max(0);
                    old = Some((std::mem::replace(&mut leader, Tso::new(saved_ms)), saved_ms << 18));
                }
                Step::TakeOld { count } => {
                    if let Some((old, floor)) = &mut old
                        && let Ok(last) = old.take(count, clock_ms as u64)
                    {
                        prop_assert!(last.0 < *floor, "below everything that the new leader can give");
                    }
                }
            }
        }
    }
}
