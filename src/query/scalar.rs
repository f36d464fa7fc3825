//! Numbers, compared by value, and the types that can be compared.

use std::cmp::Ordering;

/// 2^63, the smallest `f64` that is larger than every `i64`.
const ABOVE: f64 = 9_223_372_036_854_775_808.0;

/// A JSON number by its value: an integer if it is one and fits, however it is written.
#[derive(Clone, Copy, Debug)]
pub(super) enum Number {
    /// An integer.
    Int(i64),
    /// A number that is not an integer, or is outside `i64`. Finite.
    Float(f64),
}

impl Number {
    /// Returns the number of a finite `f64`.
    pub(super) fn of(value: f64) -> Number {
        if value.trunc() == value && (-ABOVE..ABOVE).contains(&value) {
            Number::Int(value as i64)
        } else {
            Number::Float(value)
        }
    }

    /// Parses a text that is known to be a JSON number. Returns `None` if it is beyond `f64`.
    pub(super) fn parse(text: &str) -> Option<Number> {
        if let Ok(int) = text.parse::<i64>() {
            return Some(Number::Int(int));
        }
        text.parse::<f64>().ok().filter(|value| value.is_finite()).map(Number::of)
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Number) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Number {}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Number) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Number) -> Ordering {
        match (self, other) {
            (Number::Int(a), Number::Int(b)) => a.cmp(b),
            (Number::Float(a), Number::Float(b)) => a.total_cmp(b),
            (Number::Int(a), Number::Float(b)) => int_to_float(*a, *b),
            (Number::Float(a), Number::Int(b)) => int_to_float(*b, *a).reverse(),
        }
    }
}

/// Compares an `i64` to the `f64` of a [`Number`]. They are never equal: the `f64` is outside the range or between two
/// integers.
fn int_to_float(int: i64, float: f64) -> Ordering {
    if float >= ABOVE {
        Ordering::Less
    } else if float < -ABOVE {
        Ordering::Greater
    } else if int <= float.floor() as i64 {
        Ordering::Less
    } else {
        Ordering::Greater
    }
}

/// A value for minimum and maximum. Every number is smaller than every string.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scalar {
    /// A number.
    Number(Number),
    /// A string.
    Text(Box<str>),
}

/// The key of a group, in the order in which groups are shown.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum GroupKey {
    /// Null, missing, or a value that cannot be a key.
    Null,
    /// false or true.
    Bool(bool),
    /// A number.
    Number(Number),
    /// A string.
    Text(Box<str>),
}
