//! # kernels: who does what on which tier
//!
//! One table names every kernel, its arguments and the tiers that have a form of their own. From it come the functions that
//! choose ([`run`]), the list that `/status` prints ([`kernels`](fn@kernels)), and the check that the tests leave no kernel out.

use std::mem::MaybeUninit;

use crate::dispatch::{self, Kind, Tier};
use crate::few;
use crate::format::Invalid;
use crate::operands::{BytesColumn, BytesSet, Cmp, Needle};

/// A kernel as it runs on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// What it does, by the name of its function.
    pub name: &'static str,
    /// The tier whose form is used, or the crate and what it has chosen.
    pub tier: String,
}

/// Returns from the form of the first tier that is there.
macro_rules! forms {
    ($arch:ident $kind:ident [$($tier:ident)*] $name:ident $args:tt) => { $(
        if $kind >= crate::$arch::$tier::TIER {
            // SAFETY: a tier is made only of features that were detected.
            return unsafe { crate::$arch::$tier::$name $args };
        }
    )* };
}

/// Returns from the form for few rows, where there are few.
macro_rules! few {
    ([] $($rest:tt)*) => {};
    ([$few:expr] $kind:ident $name:ident $args:tt) => {
        if $few && $kind != Kind::Scalar {
            return few::$name $args;
        }
    };
}

macro_rules! kernels {
    ($(
        $(#[$attr:meta])*
        fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $out:ty)?; $(few: $few:expr;)? $(x86_64: $($x86:ident)+;)? $(aarch64: $($arm:ident)+;)?
    )*) => {
        /// Each kernel on a tier of the caller's choice: for tests and benches; the store uses the functions that choose.
        pub mod run {
            use super::*;
            $(
                $(#[$attr])*
                #[inline]
                #[allow(clippy::too_many_arguments, reason = "kernels take plain slices")]
                pub fn $name(tier: Tier, $($arg: $ty),*) $(-> $out)? {
                    let kind = tier.kind();
                    few!([$($few)?] kind $name ($($arg),*));
                    #[cfg(target_arch = "x86_64")]
                    forms!(x86_64 kind [$($($x86)+)?] $name ($($arg),*));
                    #[cfg(target_arch = "aarch64")]
                    forms!(aarch64 kind [$($($arm)+)?] $name ($($arg),*));
                    if kind == Kind::Scalar { crate::scalar::$name($($arg),*) } else { crate::portable::$name($($arg),*) }
                }
            )*
        }

        /// Every kernel with the tiers that have a form of it, fastest first.
        pub(crate) const KERNELS: &[(&str, &[Kind])] = &[$(
            (stringify!($name), &[
                $($( #[cfg(target_arch = "x86_64")] crate::x86_64::$x86::TIER, )+)?
                $($( #[cfg(target_arch = "aarch64")] crate::aarch64::$arm::TIER, )+)?
                Kind::Portable,
                Kind::Scalar,
            ]),
        )*];
    };
}

kernels! {
    /// CRC-32C of what `crc` covers followed by `data`.
    fn crc32c(crc: u32, data: &[u8]) -> u32; x86_64: sse42; aarch64: neon;
    /// CRC-64/XZ of what `crc` covers followed by `data`.
    fn crc64(crc: u64, data: &[u8]) -> u64;
    /// Memcomparable encoding of `plain` into `out`, which has just the room.
    ///
    /// # Panics
    /// When `out` has another length than [`encoded_len`](crate::format::encoded_len) says.
    fn encode(plain: &[u8], out: &mut [MaybeUninit<u8>]); x86_64: sse42;
    /// Decodes the memcomparable encoding at the head of `bytes` into `out`: how many bytes it took, how many it gave (these
    /// are initialized).
    ///
    /// # Errors
    /// [`Invalid`]: what is wrong, and where.
    ///
    /// # Panics
    /// When `out` has less than 8 bytes for each 9 of `bytes`.
    fn decode(bytes: &[u8], out: &mut [MaybeUninit<u8>]) -> Result<(usize, usize), Invalid>; x86_64: sse42; aarch64: neon;
    /// The length of the longest common prefix.
    fn common_prefix(a: &[u8], b: &[u8]) -> usize; x86_64: avx2; aarch64: neon;
    /// The set bits.
    fn count(words: &[u64]) -> usize; x86_64: avx2;
    /// Rows of `valid` whose value stands in `cmp` to `rhs`; every word of `out` is overwritten.
    fn compare_i64(values: &[i64], valid: &[u64], cmp: Cmp, rhs: i64, out: &mut [u64]); x86_64: avx2; aarch64: neon;
    /// As [`compare_i64`], in IEEE 754's order.
    fn compare_f64(values: &[f64], valid: &[u64], cmp: Cmp, rhs: f64, out: &mut [u64]); x86_64: avx2; aarch64: neon;
    /// The sum over `rows`.
    fn sum_i64(values: &[i64], rows: &[u64]) -> i128; few: values.len() <= few::ROWS; x86_64: avx2; aarch64: neon;
    /// Adds the values of `rows`, row `i` to lane `i % 8`.
    fn sum_f64(lanes: &mut [f64; 8], values: &[f64], rows: &[u64]); few: values.len() <= few::ROWS; x86_64: avx2;
    /// The minimum over `rows`.
    fn min_i64(values: &[i64], rows: &[u64]) -> Option<i64>; few: values.len() <= few::ROWS; x86_64: avx2; aarch64: neon;
    /// The maximum over `rows`.
    fn max_i64(values: &[i64], rows: &[u64]) -> Option<i64>; few: values.len() <= few::ROWS; x86_64: avx2; aarch64: neon;
    /// The minimum over `rows` in IEEE 754's total order, NaNs left out.
    fn min_f64(values: &[f64], rows: &[u64]) -> Option<f64>; few: values.len() <= few::ROWS; x86_64: avx2; aarch64: neon;
    /// The maximum over `rows` in IEEE 754's total order, NaNs left out.
    fn max_f64(values: &[f64], rows: &[u64]) -> Option<f64>; few: values.len() <= few::ROWS; x86_64: avx2; aarch64: neon;
    /// Rows of `valid` whose string stands in `cmp` to `rhs`; every word of `out` is overwritten.
    fn compare_bytes(column: BytesColumn<'_>, valid: &[u64], cmp: Cmp, rhs: &[u8], out: &mut [u64]); few: column.len() <= few::STRINGS;
    /// Rows of `valid` whose string begins with `prefix`; every word of `out` is overwritten.
    fn starts_with(column: BytesColumn<'_>, valid: &[u64], prefix: &[u8], out: &mut [u64]); few: column.len() <= few::STRINGS;
    /// Rows of `valid` whose string is in `set`; every word of `out` is overwritten.
    fn in_set(column: BytesColumn<'_>, valid: &[u64], set: &BytesSet, out: &mut [u64]); few: column.len() <= few::STRINGS;
    /// Where `needle` first stands in `haystack`.
    fn find(haystack: &[u8], needle: &Needle) -> Option<usize>;
}

/// The kernels of this machine and the tier that each runs on, under the tier in use. A few rows of a column are done without
/// any form, except on the tier `scalar`.
pub fn kernels() -> Vec<Kernel> {
    let active = dispatch::active().kind();
    KERNELS
        .iter()
        .map(|(name, forms)| {
            let form = forms.iter().copied().find(|form| *form <= active).unwrap_or(Kind::Scalar);
            let tier = match (*name, form) {
                (_, Kind::Scalar) => form.name().to_owned(),
                ("crc32c", Kind::Portable) => crc_fast(crc_fast::CrcAlgorithm::Crc32Iscsi),
                ("crc32c", _) => {
                    let long = crc_fast(crc_fast::CrcAlgorithm::Crc32Iscsi);
                    format!("{} below {} bytes, then {long}", form.name(), crate::short::CHAIN_BELOW)
                }
                ("crc64", _) => {
                    let long = crc_fast(crc_fast::CrcAlgorithm::Crc64Xz);
                    format!("tables below {} bytes, then {long}", crate::short::TABLES_BELOW)
                }
                ("find", _) => "crate memchr".to_owned(),
                (_, form) => form.name().to_owned(),
            };
            Kernel { name, tier }
        })
        .collect()
}

fn crc_fast(algorithm: crc_fast::CrcAlgorithm) -> String {
    format!("crate crc-fast, {}", crc_fast::get_calculator_target(algorithm))
}
