//! Kernels on columns of numbers, 64 rows (one word of a set of rows) at a time.

use super::Lanes;
use crate::operands::Cmp;

/// A comparison with a constant.
pub(crate) trait Test {
    /// Whether the result has to be inverted.
    const NOT: bool;

    /// # Safety
    /// The machine must support the instructions of `V`.
    unsafe fn test<V: Lanes>(value: V, rhs: V) -> V;
}

macro_rules! tests {
    ($($name:ident $not:literal |$value:ident, $rhs:ident| $result:expr;)*) => { $(
        pub(crate) struct $name;
        impl Test for $name {
            const NOT: bool = $not;
            #[inline(always)]
            unsafe fn test<V: Lanes>($value: V, $rhs: V) -> V {
                // SAFETY: the caller's promise.
                unsafe { $result }
            }
        }
    )* };
}

tests! {
    EqI false |value, rhs| value.eq_i64(rhs);
    NeI true |value, rhs| value.eq_i64(rhs);
    LtI false |value, rhs| rhs.gt_i64(value);
    LeI true |value, rhs| value.gt_i64(rhs);
    GtI false |value, rhs| value.gt_i64(rhs);
    GeI true |value, rhs| rhs.gt_i64(value);
    EqF false |value, rhs| value.eq_f64(rhs);
    NeF true |value, rhs| value.eq_f64(rhs);
    LtF false |value, rhs| value.lt_f64(rhs);
    LeF false |value, rhs| value.le_f64(rhs);
    GtF false |value, rhs| rhs.lt_f64(value);
    GeF false |value, rhs| rhs.le_f64(value);
}

/// Returns how many of the 64 rows of a word exist.
#[inline(always)]
pub(crate) fn rows_of(len: usize, word: usize) -> usize {
    (len - word * 64).min(64)
}

/// Clears the bits of a word above the lowest `rows` (1 to 64), which stand for no rows.
#[inline(always)]
pub(crate) fn existing(bits: u64, rows: usize) -> u64 {
    bits & (!0 >> (64 - rows))
}

/// # Safety
/// The machine must support the instructions of `V`; `values` must have `len` numbers.
#[inline(always)]
unsafe fn select<V: Lanes, T: Test>(values: *const u64, len: usize, valid: &[u64], rhs: u64, out: &mut [u64]) {
    assert!(valid.len() == len.div_ceil(64) && out.len() == valid.len(), "a bit a row");
    let whole = len / 64;
    // SAFETY: the rows of word `word` begin at 64 * `word`; a whole word has 64 rows, the last one `rows`.
    unsafe {
        let rhs_lanes = V::splat(rhs);
        for (word, (out, valid)) in out.iter_mut().zip(valid).take(whole).enumerate() {
            let bits = V::test64::<T>(values.add(word * 64), rhs_lanes);
            *out = (if T::NOT { !bits } else { bits }) & valid;
        }
        if whole < valid.len() {
            let (from, rows) = (values.add(whole * 64), len % 64);
            let (mut bits, mut at) = (0, 0);
            while at + V::LANES <= rows {
                bits |= T::test(V::load(from.add(at)), rhs_lanes).bits() << at;
                at += V::LANES;
            }
            while at < rows {
                bits |= T::test(One::load(from.add(at)), One(rhs)).bits() << at;
                at += 1;
            }
            out[whole] = (if T::NOT { !bits } else { bits }) & existing(valid[whole], rows);
        }
    }
}

/// # Safety
/// The machine must support the instructions of `V`.
#[inline(always)]
pub(crate) unsafe fn compare_i64<V: Lanes>(values: &[i64], valid: &[u64], cmp: Cmp, rhs: i64, out: &mut [u64]) {
    let (from, len, rhs) = (values.as_ptr().cast::<u64>(), values.len(), rhs as u64);
    // SAFETY: the caller's promise; `values` is a slice.
    unsafe {
        match cmp {
            Cmp::Eq => select::<V, EqI>(from, len, valid, rhs, out),
            Cmp::Ne => select::<V, NeI>(from, len, valid, rhs, out),
            Cmp::Lt => select::<V, LtI>(from, len, valid, rhs, out),
            Cmp::Le => select::<V, LeI>(from, len, valid, rhs, out),
            Cmp::Gt => select::<V, GtI>(from, len, valid, rhs, out),
            Cmp::Ge => select::<V, GeI>(from, len, valid, rhs, out),
        }
    }
}

/// # Safety
/// The machine must support the instructions of `V`.
#[inline(always)]
pub(crate) unsafe fn compare_f64<V: Lanes>(values: &[f64], valid: &[u64], cmp: Cmp, rhs: f64, out: &mut [u64]) {
    let (from, len, rhs) = (values.as_ptr().cast::<u64>(), values.len(), rhs.to_bits());
    // SAFETY: the caller's promise; `values` is a slice.
    unsafe {
        match cmp {
            Cmp::Eq => select::<V, EqF>(from, len, valid, rhs, out),
            Cmp::Ne => select::<V, NeF>(from, len, valid, rhs, out),
            Cmp::Lt => select::<V, LtF>(from, len, valid, rhs, out),
            Cmp::Le => select::<V, LeF>(from, len, valid, rhs, out),
            Cmp::Gt => select::<V, GtF>(from, len, valid, rhs, out),
            Cmp::Ge => select::<V, GeF>(from, len, valid, rhs, out),
        }
    }
}

/// Up to this many rows of a word are processed one by one.
const FEW: usize = 6;

/// Columns of up to this many rows are left to the reference: they would fill a register only once or twice.
const SHORT: usize = 8;

/// The highest bit.
const SIGN: u64 = 1 << 63;

/// Calls `one` with the rows in the set `bits` from row `from` on, in ascending order.
#[inline(always)]
fn each_from(bits: u64, from: usize, mut one: impl FnMut(usize)) {
    let mut bits = if from < 64 { bits & (!0 << from) } else { 0 };
    while bits != 0 {
        one(bits.trailing_zeros() as usize);
        bits &= bits - 1;
    }
}

/// The rows of one word that a kernel processes.
#[derive(Clone, Copy)]
struct Rows {
    /// The rows in the set; all of them exist.
    bits: u64,
    /// The number of rows that fill whole registers.
    filled: usize,
    /// Whether all of these rows are in the set.
    all: bool,
}

impl Rows {
    /// Creates the rows of a word with `exist` rows, which are processed `step` at a time.
    #[inline(always)]
    fn new(bits: u64, exist: usize, step: usize) -> Rows {
        let bits = existing(bits, exist);
        let filled = exist - exist % step;
        let all = filled > 0 && existing(!bits, filled) == 0;
        Rows { bits, filled, all }
    }

    /// Disables the use of registers if few rows are in the set: these are faster one by one.
    #[inline(always)]
    fn unless_few(self) -> Rows {
        if self.bits.count_ones() as usize <= FEW { Rows { filled: 0, all: false, ..self } } else { self }
    }
}

/// Passes the constants `64` and `true` to the compiler where they apply, so that the loop over a whole word has no
/// branches.
macro_rules! specialize {
    ($rows:expr, |$filled:ident, $all:ident| $body:expr) => {
        match ($rows.filled, $rows.all) {
            (64, true) => {
                let ($filled, $all) = (64, true);
                $body
            }
            (64, false) => {
                let ($filled, $all) = (64, false);
                $body
            }
            ($filled, $all) => $body,
        }
    };
}

/// Returns the sum over `rows`. A number is added as its distance from `i64::MIN`, with separate low and high halves,
/// so that nothing wraps.
///
/// # Safety
/// The machine must support the instructions of `V`.
#[inline(always)]
pub(crate) unsafe fn sum_i64<V: Lanes>(values: &[i64], rows: &[u64]) -> i128 {
    assert_eq!(rows.len(), values.len().div_ceil(64), "a bit a row");
    if values.len() <= SHORT {
        return crate::scalar::sum_i64(values, rows);
    }
    // The sums of halves over 2^20 words of 64 rows stay below 2^58 per register and below 2^61 in total.
    const WORDS: usize = 1 << 20;
    let mut total = 0i128;
    for (values, rows) in values.chunks(64 * WORDS).zip(rows.chunks(WORDS)) {
        let from = values.as_ptr().cast::<u64>();
        let mut added = 0u64;
        // SAFETY: registers are filled only with rows that exist; a row that is in the set exists.
        unsafe {
            let (sign, half) = (V::splat(SIGN), V::splat(u64::from(u32::MAX)));
            let (mut low, mut high) = (V::splat(0), V::splat(0));
            for (word, &bits) in rows.iter().enumerate() {
                let from = from.add(word * 64);
                let rows = Rows::new(bits, rows_of(values.len(), word), V::LANES).unless_few();
                specialize!(rows, |filled, all| {
                    for at in (0..filled).step_by(V::LANES) {
                        let mut value = V::load(from.add(at)).xor(sign);
                        if !all {
                            value = value.and(V::mask(rows.bits >> at));
                        }
                        low = low.add_u64(value.and(half));
                        high = high.add_u64(value.high());
                    }
                });
                if rows.filled > 0 {
                    added += u64::from(existing(rows.bits, rows.filled).count_ones());
                }
                each_from(rows.bits, rows.filled, |row| total += i128::from(*from.add(row) as i64));
            }
            total += i128::from(total_of(low)) + (i128::from(total_of(high)) << 32) - (i128::from(added) << 63);
        }
    }
    total
}

/// Returns the sum of the lanes.
///
/// # Safety
/// The machine must support the instructions of `V`.
#[inline(always)]
unsafe fn total_of<V: Lanes>(lanes: V) -> u64 {
    let mut numbers = [0u64; 8];
    // SAFETY: no register has more than 8 lanes.
    unsafe { lanes.store(numbers.as_mut_ptr()) };
    numbers[..V::LANES].iter().sum()
}

/// Adds the values of `rows`, row `i` to lane `i % 8`. Adding 0.0 changes no lane, because none is ever -0.0.
///
/// # Safety
/// The machine must support the instructions of `V`.
#[inline(always)]
pub(crate) unsafe fn sum_f64<V: Lanes>(lanes: &mut [f64; 8], values: &[f64], rows: &[u64]) {
    assert_eq!(rows.len(), values.len().div_ceil(64), "a bit a row");
    if values.len() <= SHORT {
        return crate::scalar::sum_f64(lanes, values, rows);
    }
    let from = values.as_ptr().cast::<u64>();
    let eights = values.len() - values.len() % 8;
    // SAFETY: eight rows are read only where they exist; a row that is in the set exists. The first 8 / LANES registers
    // of `sums` are used.
    unsafe {
        if eights > 0 {
            let held = lanes.as_mut_ptr().cast::<u64>();
            let mut sums = [V::splat(0); 8];
            for (at, sum) in sums.iter_mut().take(8 / V::LANES).enumerate() {
                *sum = V::load(held.add(at * V::LANES));
            }
            for (word, &bits) in rows.iter().enumerate() {
                let from = from.add(word * 64);
                let rows = Rows::new(bits, rows_of(values.len(), word), 8);
                if rows.bits == 0 {
                    continue;
                }
                specialize!(rows, |filled, all| {
                    for eight in (0..filled).step_by(8) {
                        for (at, sum) in sums.iter_mut().take(8 / V::LANES).enumerate() {
                            let row = eight + at * V::LANES;
                            let mut value = V::load(from.add(row));
                            if !all {
                                value = value.and(V::mask(rows.bits >> row));
                            }
                            *sum = sum.add_f64(value);
                        }
                    }
                });
            }
            for (at, sum) in sums.iter().take(8 / V::LANES).enumerate() {
                sum.store(held.add(at * V::LANES));
            }
        }
        if eights < values.len() {
            let word = eights / 64;
            let bits = existing(rows[word], rows_of(values.len(), word));
            each_from(bits, eights % 64, |row| lanes[row % 8] += values[word * 64 + row]);
        }
    }
}

/// Maps a number to a signed integer with the same order (for an `f64`, IEEE 754's total order), inverted for a
/// maximum.
#[inline(always)]
fn place<const FLOAT: bool, const MAX: bool>(bits: u64) -> i64 {
    let mut key = bits as i64;
    if FLOAT {
        key ^= ((key >> 63) as u64 >> 1) as i64;
    }
    if MAX { !key } else { key }
}

/// Number of registers for the best values so far, so that a comparison need not wait for the previous one.
const BEST: usize = 4;

/// Returns the bits of the extreme number of `rows`.
///
/// # Safety
/// The machine must support the instructions of `V`; `values` must have `len` numbers.
#[inline(always)]
unsafe fn extreme<V: Lanes, const FLOAT: bool, const MAX: bool>(
    values: *const u64,
    len: usize,
    rows: &[u64],
) -> Option<u64> {
    assert_eq!(rows.len(), len.div_ceil(64), "a bit a row");
    // The largest integer. No `f64` but a NaN maps to it; for an `i64` that maps to it, the result is the same as
    // without one.
    let mut least = i64::MAX;
    let mut any = 0;
    let mut one = |number: u64| {
        if !FLOAT || !f64::from_bits(number).is_nan() {
            least = least.min(place::<FLOAT, MAX>(number));
        }
    };
    // SAFETY: registers are filled only with rows that exist; a row that is in the set exists.
    unsafe {
        let (ones, zero, worst) = (V::splat(!0), V::splat(0), V::splat(i64::MAX as u64));
        let mut best = [worst; BEST];
        for (word, &bits) in rows.iter().enumerate() {
            let from = values.add(word * 64);
            let rows = Rows::new(bits, rows_of(len, word), V::LANES).unless_few();
            any |= rows.bits;
            specialize!(rows, |filled, all| {
                for at in (0..filled).step_by(V::LANES) {
                    let number = V::load(from.add(at));
                    let mut key = number;
                    if FLOAT {
                        key = key.xor(zero.gt_i64(key).half());
                    }
                    if MAX {
                        key = key.xor(ones);
                    }
                    // Ignored values are replaced before the comparison, which is the step that the next iteration
                    // waits for.
                    if FLOAT {
                        key = number.eq_f64(number).choose(key, worst);
                    }
                    if !all {
                        key = V::mask(rows.bits >> at).choose(key, worst);
                    }
                    let best = &mut best[at / V::LANES % BEST];
                    *best = best.gt_i64(key).choose(key, *best);
                }
            });
            each_from(rows.bits, rows.filled, |row| one(*from.add(row)));
        }
        let (first, second) = (best[0].gt_i64(best[1]), best[2].gt_i64(best[3]));
        let (first, second) = (first.choose(best[1], best[0]), second.choose(best[3], best[2]));
        let mut numbers = [0; 8];
        first.gt_i64(second).choose(second, first).store(numbers.as_mut_ptr());
        least = numbers[..V::LANES].iter().fold(least, |least, number: &u64| least.min(*number as i64));
    }
    let found = if FLOAT { least != i64::MAX } else { any != 0 };
    let key = if MAX { !least } else { least };
    found.then(|| place::<FLOAT, false>(key as u64) as u64)
}

macro_rules! extremes {
    ($($name:ident $ty:ty, $float:literal, $max:literal, $from_bits:expr;)*) => { $(
        /// # Safety
        /// The machine must support the instructions of `V`.
        #[inline(always)]
        pub(crate) unsafe fn $name<V: Lanes>(values: &[$ty], rows: &[u64]) -> Option<$ty> {
            if values.len() <= SHORT {
                return crate::scalar::$name(values, rows);
            }
            // SAFETY: the caller's promise; `values` is a slice.
            unsafe { extreme::<V, $float, $max>(values.as_ptr().cast(), values.len(), rows).map($from_bits) }
        }
    )* };
}

extremes! {
    min_i64 i64, false, false, |bits| bits as i64;
    max_i64 i64, false, true, |bits| bits as i64;
    min_f64 f64, true, false, f64::from_bits;
    max_f64 f64, true, true, f64::from_bits;
}

/// A register of one number, for rows that fill no larger register and for machines without one.
#[derive(Clone, Copy)]
pub(crate) struct One(pub(crate) u64);

impl One {
    #[inline(always)]
    fn of(holds: bool) -> One {
        One((holds as u64).wrapping_neg())
    }

    #[inline(always)]
    fn float(self) -> f64 {
        f64::from_bits(self.0)
    }
}

impl Lanes for One {
    const LANES: usize = 1;

    #[inline(always)]
    unsafe fn load(from: *const u64) -> One {
        // SAFETY: the caller's promise.
        One(unsafe { *from })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut u64) {
        // SAFETY: the caller's promise.
        unsafe { *to = self.0 }
    }

    #[inline(always)]
    unsafe fn splat(number: u64) -> One {
        One(number)
    }

    #[inline(always)]
    unsafe fn eq_i64(self, other: One) -> One {
        One::of(self.0 == other.0)
    }

    #[inline(always)]
    unsafe fn gt_i64(self, other: One) -> One {
        One::of(self.0 as i64 > other.0 as i64)
    }

    #[inline(always)]
    unsafe fn eq_f64(self, other: One) -> One {
        One::of(self.float() == other.float())
    }

    #[inline(always)]
    unsafe fn lt_f64(self, other: One) -> One {
        One::of(self.float() < other.float())
    }

    #[inline(always)]
    unsafe fn le_f64(self, other: One) -> One {
        One::of(self.float() <= other.float())
    }

    #[inline(always)]
    unsafe fn and(self, other: One) -> One {
        One(self.0 & other.0)
    }

    #[inline(always)]
    unsafe fn xor(self, other: One) -> One {
        One(self.0 ^ other.0)
    }

    #[inline(always)]
    unsafe fn add_u64(self, other: One) -> One {
        One(self.0.wrapping_add(other.0))
    }

    #[inline(always)]
    unsafe fn add_f64(self, other: One) -> One {
        One((self.float() + other.float()).to_bits())
    }

    #[inline(always)]
    unsafe fn high(self) -> One {
        One(self.0 >> 32)
    }

    #[inline(always)]
    unsafe fn half(self) -> One {
        One(self.0 >> 1)
    }

    #[inline(always)]
    unsafe fn choose(self, yes: One, no: One) -> One {
        One(if self.0 != 0 { yes.0 } else { no.0 })
    }

    #[inline(always)]
    unsafe fn mask(bits: u64) -> One {
        One((bits & 1).wrapping_neg())
    }

    #[inline(always)]
    unsafe fn bits(self) -> u64 {
        self.0 & 1
    }

    #[inline(always)]
    unsafe fn test64<T: Test>(from: *const u64, rhs: One) -> u64 {
        let mut bytes = [0u8; 64];
        for (at, byte) in bytes.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            *byte = unsafe { T::test(One(*from.add(at)), rhs).bits() as u8 };
        }
        pack(&bytes)
    }
}

/// Packs 64 bytes of 0 or 1 into bits, first byte lowest.
#[inline(always)]
pub(crate) fn pack(bytes: &[u8; 64]) -> u64 {
    let mut bits = 0;
    for (at, eight) in bytes.as_chunks::<8>().0.iter().enumerate() {
        // The product's highest byte collects one bit of each byte.
        let gathered = u64::from_le_bytes(*eight).wrapping_mul(0x0102_0408_1020_4080) >> 56;
        bits |= gathered << (8 * at);
    }
    bits
}
