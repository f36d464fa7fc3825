//! # dispatch: the choice of instructions, made once
//!
//! **In** come the processor's features and the environment variable `ARMILLA_ARCH_TIER`; **out** goes a [`Tier`], the
//! same from the first call to the last. **Never**: a tier that the machine does not have. A `Tier` cannot be made from
//! a name alone, only found ([`tiers`]), so holding one proves that its instructions are there.
//!
//! ```text
//! scalar      the reference: a byte or a row at a time
//! portable    words of 8 bytes, what the compiler makes of them, and crates that choose for themselves
//! sse42       x86-64 with SSE 4.2 and POPCNT (2008)
//! avx2        x86-64 with AVX2, BMI1 and BMI2 (2013)
//! neon        aarch64 with NEON and CRC32 (ARMv8.1, 2014)
//! ```
//! A tier without its own form of a kernel uses the form of the next tier above it in this list. There are no forms for
//! AVX-512 and SVE2; `src/docs/kernels-and-tiers.md` explains why.

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};

/// The environment variable that forces a tier.
pub const TIER_VARIABLE: &str = "ARMILLA_ARCH_TIER";

/// A set of instructions that this machine supports.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tier(Kind);

/// All tiers, whether this machine supports them or not. A later tier contains the earlier ones of its architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Kind {
    Scalar = 1,
    Portable,
    Sse42,
    Avx2,
    Neon,
}

impl Kind {
    const ALL: [Kind; 5] = [Kind::Scalar, Kind::Portable, Kind::Sse42, Kind::Avx2, Kind::Neon];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Scalar => "scalar",
            Kind::Portable => "portable",
            Kind::Sse42 => "sse42",
            Kind::Avx2 => "avx2",
            Kind::Neon => "neon",
        }
    }

    fn is_here(self) -> bool {
        match self {
            Kind::Scalar | Kind::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Kind::Sse42 => is_x86_feature_detected!("sse4.2") && is_x86_feature_detected!("popcnt"),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => {
                Kind::Sse42.is_here()
                    && is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("bmi1")
                    && is_x86_feature_detected!("bmi2")
            }
            #[cfg(target_arch = "aarch64")]
            Kind::Neon => {
                std::arch::is_aarch64_feature_detected!("neon") && std::arch::is_aarch64_feature_detected!("crc")
            }
            #[allow(unreachable_patterns, reason = "the tiers of the other architecture")]
            _ => false,
        }
    }
}

impl Tier {
    /// The reference, which every machine supports.
    pub const SCALAR: Tier = Tier(Kind::Scalar);

    /// Returns the tier's name, as in `ARMILLA_ARCH_TIER`.
    pub fn name(self) -> &'static str {
        self.0.name()
    }

    pub(crate) fn kind(self) -> Kind {
        self.0
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The error of an `ARMILLA_ARCH_TIER` that names no tier of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownTier {
    given: String,
}

impl fmt::Display for UnknownTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let here: Vec<&str> = tiers().into_iter().map(Tier::name).collect();
        let elsewhere = Kind::ALL.iter().any(|kind| kind.name() == self.given);
        let why = if elsewhere { "this machine lacks it" } else { "there is no such tier" };
        write!(
            f,
            "{TIER_VARIABLE}={}: {why}; this machine has {}. Without the variable the last of them is used",
            self.given,
            here.join(", ")
        )
    }
}

impl std::error::Error for UnknownTier {}

/// Returns the tiers of this machine, slowest first.
pub fn tiers() -> Vec<Tier> {
    Kind::ALL.into_iter().filter(|kind| kind.is_here()).map(Tier).collect()
}

/// Returns the tier with this name, or the best one if the name is missing or empty.
///
/// # Errors
/// Returns [`UnknownTier`] if this machine has no tier of this name.
pub fn choose(name: Option<&str>) -> Result<Tier, UnknownTier> {
    let tiers = tiers();
    match name.filter(|name| !name.is_empty()) {
        None => Ok(*tiers.last().expect("scalar is always there")),
        Some(name) => {
            tiers.into_iter().find(|tier| tier.name() == name).ok_or_else(|| UnknownTier { given: name.to_owned() })
        }
    }
}

/// The tier in use; 0 before the first call.
static ACTIVE: AtomicU8 = AtomicU8::new(0);

/// Reads the environment and detects the machine's features, once. A program calls this first, to report a wrong
/// variable before anything else happens. Kernels that run earlier call it themselves.
///
/// # Errors
/// Returns [`UnknownTier`] if `ARMILLA_ARCH_TIER` names no tier of this machine.
pub fn init() -> Result<Tier, UnknownTier> {
    let given = std::env::var_os(TIER_VARIABLE).map(|value| value.to_string_lossy().into_owned());
    let tier = choose(given.as_deref())?;
    // Two threads that arrive at once store the same value.
    ACTIVE.store(tier.0 as u8, Ordering::Relaxed);
    Ok(tier)
}

/// Returns the tier that the kernels use.
///
/// # Panics
/// Panics if `ARMILLA_ARCH_TIER` names no tier of this machine and [`init`] was not called to report it.
#[inline]
pub fn active() -> Tier {
    match ACTIVE.load(Ordering::Relaxed) {
        1 => Tier(Kind::Scalar),
        2 => Tier(Kind::Portable),
        3 => Tier(Kind::Sse42),
        4 => Tier(Kind::Avx2),
        5 => Tier(Kind::Neon),
        _ => first(),
    }
}

#[cold]
fn first() -> Tier {
    init().unwrap_or_else(|error| panic!("{error}"))
}

/// Returns the names of this processor's features that a kernel here, or a crate used for one, depends on.
pub fn features() -> Vec<&'static str> {
    let mut found = Vec::new();
    macro_rules! look {
        ($detected:ident $($name:tt)*) => { $( if $detected!($name) { found.push($name); } )* };
    }
    #[cfg(target_arch = "x86_64")]
    look!(is_x86_feature_detected "sse4.2" "popcnt" "pclmulqdq" "avx" "avx2" "bmi1" "bmi2" "vpclmulqdq" "avx512f"
        "avx512bw" "avx512vl" "avx512vbmi" "aes" "sha");
    #[cfg(target_arch = "aarch64")]
    {
        use std::arch::is_aarch64_feature_detected;
        look!(is_aarch64_feature_detected "neon" "crc" "aes" "pmull" "sha3" "lse" "dotprod" "sve" "sve2");
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a wrong variable is reported with the valid names. Method: the names of this machine, a name of another
    /// machine, and an unknown one.
    #[test]
    fn names() {
        for tier in tiers() {
            assert_eq!(choose(Some(tier.name())), Ok(tier));
        }
        assert_eq!(choose(None), choose(Some("")));
        assert_eq!(choose(None).ok(), tiers().last().copied());
        let error = choose(Some("avx3")).expect_err("no such tier").to_string();
        assert!(
            error.contains("ARMILLA_ARCH_TIER=avx3: there is no such tier; this machine has scalar, portable"),
            "{error}"
        );
        let other = if cfg!(target_arch = "aarch64") { "avx2" } else { "neon" };
        let error = choose(Some(other)).expect_err("another machine's").to_string();
        assert!(error.contains("this machine lacks it; this machine has scalar, portable"), "{error}");
    }

    /// Goal: the requested tier is used. Method: compares the active tier with the variable of this test process.
    #[test]
    fn the_variable_decides() {
        let given = std::env::var(TIER_VARIABLE).ok();
        assert_eq!(active(), choose(given.as_deref()).expect("a tier of this machine"));
        println!("tier {}; this machine has {:?}; features {:?}", active(), tiers(), features());
    }
}
