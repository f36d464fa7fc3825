//! Tests of every kernel on every tier against the reference.
//!
//! **Goal**: every tier returns the same results as `scalar`, and none accesses a byte outside its operands.
//! **Method**: one table of inputs ([`cases`]): lengths 0 to 130, alignments 0 to 63, contents close to the limits of
//! the formats, and longer inputs from a fixed generator; in turn each input ends or begins at an inaccessible page.
//! One macro generates the test of each kernel, and a list that is compared with the table of kernels, so that none is
//! left out.

mod cases;
mod formats;

use std::mem::MaybeUninit;

use crate::column::{BytesColumn, BytesSet, Cmp, Needle};
use crate::dispatch::{Tier, tiers};
use crate::kernels::{KERNELS, run};
use crate::memcomparable::{Invalid, encoded_len};
use cases::{Case, cases};

macro_rules! property {
    ($($name:ident |$tier:ident, $case:ident| $result:expr;)*) => {
        $(
            #[test]
            fn $name() {
                fn result($tier: Tier, $case: &Case<'_>) -> impl PartialEq + std::fmt::Debug {
                    $result
                }
                let (mut ran, mut count) = (Vec::new(), 0u32);
                cases(|case| {
                    count += 1;
                    let reference = result(Tier::SCALAR, case);
                    for tier in tiers() {
                        assert_eq!(result(tier, case), reference, "{tier}: {case:?}");
                        if !ran.contains(&tier) {
                            ran.push(tier);
                        }
                    }
                });
                assert!(count > 9_000, "the table has {count} cases");
                assert_eq!(ran, tiers());
                println!("{}: the same on {ran:?}", stringify!($name));
            }
        )*

        #[test]
        fn no_kernel_is_left_out() {
            let tested = [$(stringify!($name)),*];
            let table: Vec<&str> = KERNELS.iter().map(|(name, _)| *name).collect();
            assert_eq!(tested[..], table[..]);
        }
    };
}

property! {
    crc32c |tier, case| run::crc32c(tier, case.random as u32, case.bytes);
    crc64 |tier, case| run::crc64(tier, case.random, case.bytes);
    encode |tier, case| encoded(tier, case);
    decode |tier, case| decoded(tier, case);
    common_prefix |tier, case| {
        let shorter = case.random as usize % (case.twin.len() + 1);
        // In turn, either end of the twin lies at an inaccessible page.
        let (head, tail) = (&case.twin[..shorter], &case.twin[case.twin.len() - shorter..]);
        [(case.bytes, case.twin), (case.bytes, head), (head, case.bytes), (tail, case.bytes), (case.bytes, tail)]
            .map(|(a, b)| run::common_prefix(tier, a, b))
    };
    count |tier, case| run::count(tier, case.rows);
    compare_i64 |tier, case| {
        let rhs = case.pick(case.ints).unwrap_or(0);
        rows(case, |cmp, out| run::compare_i64(tier, case.ints, case.rows, cmp, rhs, out))
    };
    compare_f64 |tier, case| {
        let rhs = case.pick(case.floats).unwrap_or(0.0);
        rows(case, |cmp, out| run::compare_f64(tier, case.floats, case.rows, cmp, rhs, out))
    };
    sum_i64 |tier, case| run::sum_i64(tier, case.ints, case.rows);
    sum_f64 |tier, case| {
        let mut lanes = [0.0, 1.5, -2.25, 1e300, 0.1, 1e-300, -0.3, 7.0];
        run::sum_f64(tier, &mut lanes, case.floats, case.rows);
        lanes.map(|lane| if lane.is_nan() { None } else { Some(lane.to_bits()) })
    };
    min_i64 |tier, case| run::min_i64(tier, case.ints, case.rows);
    max_i64 |tier, case| run::max_i64(tier, case.ints, case.rows);
    min_f64 |tier, case| run::min_f64(tier, case.floats, case.rows).map(f64::to_bits);
    max_f64 |tier, case| run::max_f64(tier, case.floats, case.rows).map(f64::to_bits);
    compare_bytes |tier, case| Cmp::ALL.map(|cmp| {
        strings(case, |column, rhs, out| run::compare_bytes(tier, column, case.rows, cmp, rhs, out))
    });
    starts_with |tier, case| {
        strings(case, |column, rhs, out| run::starts_with(tier, column, case.rows, &rhs[..rhs.len() / 2], out))
    };
    in_set |tier, case| {
        strings(case, |column, rhs, out| {
            let set = BytesSet::new([rhs, b"", b"a", &rhs[rhs.len() / 2..], b"abcdefgh", rhs]);
            run::in_set(tier, column, case.rows, &set, out);
        })
    };
    find |tier, case| {
        let from = case.random as usize % (case.twin.len() + 1);
        let needle = &case.twin[from..(from + case.random as usize % 5).min(case.twin.len())];
        run::find(tier, case.bytes, &Needle::new(needle))
    };
}

/// Returns the encoding of the case's bytes, in memory that ends at an inaccessible page.
fn encoded(tier: Tier, case: &Case<'_>) -> Vec<u8> {
    case.output(encoded_len(case.bytes.len()), |out| run::encode(tier, case.bytes, out))
}

/// Returns the number of decoded bytes and the string, in memory that ends at an inaccessible page.
fn decoded(tier: Tier, case: &Case<'_>) -> Result<(usize, Vec<u8>), Invalid> {
    let mut taken = Err(Invalid { fault: crate::memcomparable::Fault::Short, at: 0 });
    let out = case.output(case.bytes.len() / 9 * 8, |out| taken = run::decode(tier, case.bytes, out));
    taken.map(|(took, gave)| (took, out[..gave].to_vec()))
}

/// Does the same for any bytes.
fn decoded_bytes(tier: Tier, bytes: &[u8]) -> Result<(usize, Vec<u8>), Invalid> {
    let mut out = vec![MaybeUninit::new(0x5a); bytes.len() / 9 * 8];
    let (took, gave) = run::decode(tier, bytes, &mut out)?;
    // SAFETY: all of it was initialized above.
    Ok((took, out[..gave].iter().map(|byte| unsafe { byte.assume_init() }).collect()))
}

/// Returns the sets of rows that all comparisons select.
fn rows(case: &Case<'_>, mut compare: impl FnMut(Cmp, &mut [u64])) -> Vec<Vec<u64>> {
    let mut one = |cmp| case.words(|out| compare(cmp, out));
    Cmp::ALL.into_iter().map(&mut one).collect()
}

/// Compares a column of strings with one of them and returns the set of rows.
fn strings(case: &Case<'_>, compare: impl FnOnce(BytesColumn<'_>, &[u8], &mut [u64])) -> Vec<u64> {
    let column = BytesColumn::new(case.offsets, case.bytes);
    let rhs = if column.is_empty() { &b"abc"[..] } else { column.get(case.random as usize % column.len()) };
    case.words(|out| compare(column, rhs, out))
}
