//! The declaration of options: name, type, default, bounds and help in one place. Pure.
//!
//! ```text
//!     /// Duration of a tick in milliseconds, the unit of the next two options.
//!     tick_ms: u64 = 50, 1..=600_000;
//! ```
//! The declarations of a section generate its struct, the defaults, the check of numbers that are too small or too
//! large, and the list from which flags take their help.

use super::ConfigError;

/// A declared option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Declared {
    /// The key in a file, with its section: `raft.tick_ms`.
    pub key: &'static str,
    /// The help text, in sentences.
    pub help: &'static str,
    /// The smallest and the largest allowed number, for options with bounds.
    pub bounds: Option<(u64, u64)>,
}

impl Declared {
    /// Returns the first sentence of the help, without its full stop.
    pub fn summary(&self) -> &'static str {
        let help = self.help.trim();
        help.split_once(". ").map_or(help, |(first, _)| first).trim_end_matches('.')
    }

    /// Rejects a number outside the bounds.
    pub(super) fn check<T: TryInto<u64>>(&self, value: T) -> Result<(), ConfigError> {
        let Some((least, most)) = self.bounds else { return Ok(()) };
        let value = value.try_into().unwrap_or(u64::MAX);
        if value < least {
            return Err(ConfigError(format!("{} = {value}: must be at least {least}", self.key)));
        }
        if value > most {
            return Err(ConfigError(format!("{} = {value}: must be at most {most}", self.key)));
        }
        Ok(())
    }
}

/// Declares the options of a section (see the head of this file): generates a struct with public fields, `Default`, the
/// list `OPTIONS`, and `check_bounds`.
macro_rules! options {
    (
        $(#[doc = $about:literal])+
        $section:ident in $prefix:literal {
            $(
                $(#[doc = $help:literal])+
                $(#[serde($($serde:tt)+)])?
                $option:ident: $type:ty = $default:expr $(, $least:literal..=$most:expr)?;
            )+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $section {
            $(
                $(#[doc = $help])+
                $(#[serde($($serde)+)])?
                pub $option: $type,
            )+
        }

        impl Default for $section {
            fn default() -> $section {
                $section { $($option: $default,)+ }
            }
        }

        impl $section {
            /// The section's declared options.
            pub const OPTIONS: &[Declared] = &[
                $(Declared {
                    key: concat!($prefix, stringify!($option)),
                    help: concat!($($help),+),
                    bounds: options!(@bounds $($least, $most)?),
                },)+
            ];

            /// Rejects the first number that is too small or too large.
            fn check_bounds(&self) -> Result<(), ConfigError> {
                let mut declared = $section::OPTIONS.iter();
                $(options!(@check self, $option, declared.next() $(, $least)?);)+
                Ok(())
            }
        }
    };
    (@bounds) => { None };
    (@bounds $least:literal, $most:expr) => { Some(($least, $most)) };
    (@check $self:ident, $option:ident, $declared:expr) => { let _ = $declared; };
    (@check $self:ident, $option:ident, $declared:expr, $least:literal) => {
        $declared.expect("one declaration for each option").check($self.$option)?;
    };
}

pub(super) use options;
