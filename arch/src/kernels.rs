//! # kernels: the table of kernels and tiers
//!
//! One table lists every kernel, its arguments and the tiers with their own form of it. It generates the functions that
//! choose a form ([`run`]), the list that `/status` prints ([`kernels`](fn@kernels)), and the check that the tests
//! cover every kernel.

use std::mem::MaybeUninit;

use crate::dispatch::{self, Kind, Tier};
use crate::few;
use crate::format::Invalid;
use crate::operands::{BytesColumn, BytesSet, Cmp, Needle};

/// A kernel and the form of it that runs on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// The name of the kernel's function.
    pub name: &'static str,
    /// The tier whose form is used, or the crate and its own choice.
    pub tier: String,
}

/// Returns the result of the form of the first tier that is available.
macro_rules! forms {
    ($arch:ident $kind:ident [$($tier:ident)*] $name:ident $args:tt) => { $(
        if $kind >= crate::$arch::$tier::TIER {
            // SAFETY: a tier is made only of features that were detected.
            return unsafe { crate::$arch::$tier::$name $args };
        }
    )* };
}

/// Returns the result of the form for few rows, if there are few.
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
        /// Each kernel on a tier of the caller's choice, for tests and benchmarks. The store uses the functions that
        /// choose.
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

        /// All kernels with the tiers that have their own form, fastest first.
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
    /// Returns the CRC-32C of the data that `crc` covers followed by `data`.
    fn crc32c(crc: u32, data: &[u8]) -> u32; x86_64: sse42; aarch64: neon;
    /// Returns the CRC-64/XZ of the data that `crc` covers followed by `data`.
    fn crc64(crc: u64, data: &[u8]) -> u64;
    /// Encodes `plain` as memcomparable into `out`, which must have exactly the encoding's length.
    ///
    /// # Panics
    /// Panics if the length of `out` is not [`encoded_len`](crate::format::encoded_len).
    fn encode(plain: &[u8], out: &mut [MaybeUninit<u8>]); x86_64: sse42;
    /// Decodes the memcomparable encoding at the start of `bytes` into `out`. Returns the number of bytes read and the
    /// number of bytes written (these are initialized).
    ///
    /// # Errors
    /// Returns [`Invalid`], which names the error and its offset.
    ///
    /// # Panics
    /// Panics if `out` has less than 8 bytes for each 9 of `bytes`.
    fn decode(bytes: &[u8], out: &mut [MaybeUninit<u8>]) -> Result<(usize, usize), Invalid>; x86_64: sse42; aarch64: neon;
    /// Returns the length of the longest common prefix.
    fn common_prefix(a: &[u8], b: &[u8]) -> usize; x86_64: avx2; aarch64: neon;
    /// Returns the number of set bits.
    fn count(words: &[u64]) -> usize; x86_64: avx2;
    /// Sets the bit of every row of `valid` for which `value cmp rhs` holds. Overwrites every word of `out`.
    fn compare_i64(values: &[i64], valid: &[u64], cmp: Cmp, rhs: i64, out: &mut [u64]); x86_64: avx2; aarch64: neon;
    /// Like [`compare_i64`], in IEEE 754's order.
    fn compare_f64(values: &[f64], valid: &[u64], cmp: Cmp, rhs: f64, out: &mut [u64]); x86_64: avx2; aarch64: neon;
    /// Returns the sum over `rows`.
    fn sum_i64(values: &[i64], rows: &[u64]) -> i128; few: values.len() <= few::ROWS; x86_64: avx2; aarch64: neon;
    /// Adds the values of `rows`, row `i` to lane `i % 8`.
    fn sum_f64(lanes: &mut [f64; 8], values: &[f64], rows: &[u64]); few: values.len() <= few::ROWS; x86_64: avx2;
    /// Returns the minimum over `rows`.
    fn min_i64(values: &[i64], rows: &[u64]) -> Option<i64>; few: values.len() <= few::ROWS; x86_64: avx2; aarch64: neon;
    /// Returns the maximum over `rows`.
    fn max_i64(values: &[i64], rows: &[u64]) -> Option<i64>; few: values.len() <= few::ROWS; x86_64: avx2; aarch64: neon;
    /// Returns the minimum over `rows` in IEEE 754's total order, ignoring NaNs.
    fn min_f64(values: &[f64], rows: &[u64]) -> Option<f64>; few: values.len() <= few::ROWS; x86_64: avx2; aarch64: neon;
    /// Returns the maximum over `rows` in IEEE 754's total order, ignoring NaNs.
    fn max_f64(values: &[f64], rows: &[u64]) -> Option<f64>; few: values.len() <= few::ROWS; x86_64: avx2; aarch64: neon;
    /// Sets the bit of every row of `valid` for which `string cmp rhs` holds. Overwrites every word of `out`.
    fn compare_bytes(column: BytesColumn<'_>, valid: &[u64], cmp: Cmp, rhs: &[u8], out: &mut [u64]); few: column.len() <= few::STRINGS;
    /// Sets the bit of every row of `valid` whose string begins with `prefix`. Overwrites every word of `out`.
    fn starts_with(column: BytesColumn<'_>, valid: &[u64], prefix: &[u8], out: &mut [u64]); few: column.len() <= few::STRINGS;
    /// Sets the bit of every row of `valid` whose string is in `set`. Overwrites every word of `out`.
    fn in_set(column: BytesColumn<'_>, valid: &[u64], set: &BytesSet, out: &mut [u64]); few: column.len() <= few::STRINGS;
    /// Returns the position of the first `needle` in `haystack`.
    fn find(haystack: &[u8], needle: &Needle) -> Option<usize>;
}

/// Returns the kernels of this machine and the tier that each of them runs on, given the tier in use. Columns with few
/// rows use no form, except on the tier `scalar`.
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
