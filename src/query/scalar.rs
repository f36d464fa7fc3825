//! Numbers by value, and what can be compared at all.

use std::cmp::Ordering;

/// 2^63, the first `f64` above every `i64`.
const ABOVE: f64 = 9_223_372_036_854_775_808.0;

/// A number of JSON by its value: an integer if it is one and fits, however it was spelled.
#[derive(Clone, Copy, Debug)]
pub(super) enum Number {
    /// An integer.
    Int(i64),
    /// Not an integer, or one outside `i64`. Finite.
    Float(f64),
}

impl Number {
    /// The number of a finite `f64`.
    pub(super) fn of(value: f64) -> Number {
        if value.trunc() == value && (-ABOVE..ABOVE).contains(&value) {
            Number::Int(value as i64)
        } else {
            Number::Float(value)
        }
    }

    /// The number that a JSON text spells; nothing if it is beyond `f64`. The text is known to be a number.
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

/// An `f64` of a [`Number`] is never equal to an `i64`: it lies outside of all, or between two.
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

/// What minimum and maximum are taken of: every number is below every text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scalar {
    /// A number.
    Number(Number),
    /// A text.
    Text(Box<str>),
}

/// What rows are grouped by, in the order in which groups are shown.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum GroupKey {
    /// Null, missing, or nothing that can be a key.
    Null,
    /// false, true.
    Bool(bool),
    /// A number.
    Number(Number),
    /// A text.
    Text(Box<str>),
}
