//! Aggregates: the partial result of a group in a page, how two partial results are merged, and the final result.

use std::io::Write as _;

use serde_json::Value;

use crate::arch::column::{Bitmap, SumF64, max_f64, max_i64, min_f64, min_i64, sum_i64};
use crate::types::limits::QUERY_TEXT_BYTES_MAX;

use super::chunk::{Cells, Chunk};
use super::json;
use super::request::{Aggregate, Column};
use super::scalar::{Number, Scalar};

/// The partial result of one aggregate over some of a group's rows.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Partial {
    /// The number of rows.
    Count(u64),
    /// Of `sum` and `avg`.
    Sum(Sum),
    /// The smallest so far.
    Min(Option<Scalar>),
    /// The largest so far.
    Max(Option<Scalar>),
}

/// A sum of numbers, with integers separate from other numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sum {
    /// How many numbers there are.
    count: u64,
    /// The exact sum of the integers: 2^64 of them fit.
    ints: i128,
    /// How many numbers are not integers.
    floats: u64,
    /// The sum of the numbers that are not integers.
    float: f64,
}

impl Sum {
    fn add(&mut self, number: Number) {
        self.count += 1;
        match number {
            Number::Int(int) => self.ints += i128::from(int),
            Number::Float(float) => {
                self.floats += 1;
                self.float += float;
            }
        }
    }

    fn total(&self) -> f64 {
        self.ints as f64 + self.float
    }
}

impl<P> Aggregate<P> {
    /// Returns the partial result of no rows.
    pub(super) fn nothing(&self) -> Partial {
        match self {
            Aggregate::Count(_) => Partial::Count(0),
            Aggregate::Sum(_) | Aggregate::Avg(_) => Partial::Sum(Sum::default()),
            Aggregate::Min(_) => Partial::Min(None),
            Aggregate::Max(_) => Partial::Max(None),
        }
    }

    /// Returns the final result.
    pub(super) fn result(&self, partial: &Partial) -> Value {
        match (self, partial) {
            (_, Partial::Count(count)) => (*count).into(),
            (Aggregate::Avg(_), Partial::Sum(sum)) if sum.count == 0 => Value::Null,
            (Aggregate::Avg(_), Partial::Sum(sum)) => (sum.total() / sum.count as f64).into(),
            (_, Partial::Sum(sum)) => match i64::try_from(sum.ints) {
                Ok(exact) if sum.floats == 0 => exact.into(),
                _ => sum.total().into(),
            },
            (_, Partial::Min(scalar) | Partial::Max(scalar)) => scalar.as_ref().map_or(Value::Null, Scalar::to_json),
        }
    }
}

impl Scalar {
    pub(super) fn to_json(&self) -> Value {
        match self {
            Scalar::Number(Number::Int(int)) => (*int).into(),
            Scalar::Number(Number::Float(float)) => (*float).into(),
            Scalar::Text(text) => (&**text).into(),
        }
    }

    pub(super) fn from_json(value: &Value) -> Option<Scalar> {
        match value {
            Value::String(text) => Some(Scalar::Text(text.as_str().into())),
            Value::Number(number) => match number.as_i64() {
                Some(int) => Some(Scalar::Number(Number::Int(int))),
                None => number.as_f64().map(|float| Scalar::Number(Number::of(float))),
            },
            _ => None,
        }
    }
}

/// Refuses a string of `bytes` bytes that is too long for a page.
pub(super) fn check_text(bytes: usize, what: &str) -> Result<(), String> {
    if bytes > QUERY_TEXT_BYTES_MAX {
        return Err(format!("{what} is a string of {bytes} bytes, over the limit of {QUERY_TEXT_BYTES_MAX} bytes"));
    }
    Ok(())
}

/// The name of a string of `min` or `max` in errors.
const EXTREME: &str = "a value of a minimum or maximum";

impl Partial {
    /// Merges the partial result of later rows into this one.
    ///
    /// # Errors
    /// Fails if `later` is of another aggregate, or has numbers that rows cannot give.
    pub(super) fn merge(&mut self, later: Partial) -> Result<(), String> {
        let odd = || "the page belongs to another query: its numbers are too large".to_owned();
        match (&mut *self, later) {
            (Partial::Count(count), Partial::Count(more)) => *count = count.checked_add(more).ok_or_else(odd)?,
            (Partial::Sum(sum), Partial::Sum(more)) => {
                sum.count = sum.count.checked_add(more.count).ok_or_else(odd)?;
                sum.ints = sum.ints.checked_add(more.ints).ok_or_else(odd)?;
                sum.floats = sum.floats.checked_add(more.floats).ok_or_else(odd)?;
                sum.float += more.float;
            }
            (Partial::Min(least), Partial::Min(other)) => {
                if other.is_some() && (least.is_none() || other < *least) {
                    *least = other;
                }
            }
            (Partial::Max(most), Partial::Max(other)) => {
                if other > *most {
                    *most = other;
                }
            }
            _ => return Err("the page has other aggregates than the query".into()),
        }
        Ok(())
    }

    /// Returns whether this scalar would be the new minimum or maximum.
    fn improves(&self, number: Option<Number>, text: Option<&str>) -> bool {
        let better = |best: &Option<Scalar>, wanted: std::cmp::Ordering| match (best, number, text) {
            (None, None, None) => false,
            (None, ..) => true,
            (Some(Scalar::Number(best)), Some(number), _) => number.cmp(best) == wanted,
            (Some(Scalar::Text(best)), _, Some(text)) => text.cmp(best) == wanted,
            (Some(Scalar::Number(_)), None, Some(_)) => wanted == std::cmp::Ordering::Greater,
            (Some(Scalar::Text(_)), Some(_), _) => wanted == std::cmp::Ordering::Less,
            (Some(_), None, None) => false,
        };
        match self {
            Partial::Min(best) => better(best, std::cmp::Ordering::Less),
            Partial::Max(best) => better(best, std::cmp::Ordering::Greater),
            _ => false,
        }
    }

    /// Returns the bytes of strings that this holds now, and that it would hold after a row.
    ///
    /// # Errors
    /// Fails if the row has a string that is too long, even if it would not be held: the result must not depend on the
    /// order of rows.
    pub(super) fn texts(&self, cells: Option<&Cells>, row: usize) -> Result<(usize, usize), String> {
        let (Partial::Min(best) | Partial::Max(best), Some(cells)) = (self, cells) else { return Ok((0, 0)) };
        let held = if let Some(Scalar::Text(text)) = best { text.len() } else { 0 };
        if cells.text.get(row) {
            let text = cells.string(row);
            check_text(text.len(), EXTREME)?;
            return Ok((held, if self.improves(None, Some(text)) { text.len() } else { held }));
        }
        Ok((held, if self.improves(cells.number(row), None) { 0 } else { held }))
    }

    /// Adds a row.
    pub(super) fn add(&mut self, cells: Option<&Cells>, row: usize) {
        let number = cells.and_then(|cells| cells.number(row));
        match self {
            Partial::Count(count) => {
                *count += u64::from(cells.is_none_or(|cells| cells.present.get(row) && !cells.null.get(row)));
            }
            Partial::Sum(sum) => number.into_iter().for_each(|number| sum.add(number)),
            Partial::Min(_) | Partial::Max(_) => {
                let text = cells.filter(|cells| cells.text.get(row)).map(|cells| cells.string(row));
                if self.improves(number, text) {
                    let scalar = match (number, text) {
                        (Some(number), _) => Some(Scalar::Number(number)),
                        (None, text) => text.map(|text| Scalar::Text(text.into())),
                    };
                    if let Partial::Min(best) | Partial::Max(best) = self {
                        *best = scalar;
                    }
                }
            }
        }
    }

    /// Writes the partial result in the form of a page.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Partial::Count(count) => write!(out, "{{\"count\":{count}}}").expect("memory takes it"),
            Partial::Sum(Sum { count, ints, floats, float }) => {
                write!(out, "{{\"count\":{count},\"int\":\"{ints}\",\"floats\":{floats},\"float\":\"{float:?}\"}}")
                    .expect("memory takes it")
            }
            Partial::Min(scalar) | Partial::Max(scalar) => {
                out.extend_from_slice(b"{\"value\":");
                match scalar {
                    None => out.extend_from_slice(b"null"),
                    Some(Scalar::Text(text)) => json::string(text, out),
                    Some(Scalar::Number(Number::Int(int))) => write!(out, "{int}").expect("memory takes it"),
                    Some(Scalar::Number(Number::Float(float))) => json::float(*float, out),
                }
                out.push(b'}');
            }
        }
    }

    /// Reads the partial result of `aggregate` from a page.
    pub(super) fn read<P>(aggregate: &Aggregate<P>, value: &Value) -> Option<Partial> {
        let text = |name: &str| value.get(name).and_then(Value::as_str);
        let number = |name: &str| value.get(name).and_then(Value::as_u64);
        Some(match aggregate {
            Aggregate::Count(_) => Partial::Count(number("count")?),
            Aggregate::Sum(_) | Aggregate::Avg(_) => Partial::Sum(Sum {
                count: number("count")?,
                ints: text("int")?.parse().ok()?,
                floats: number("floats")?,
                float: text("float")?.parse().ok()?,
            }),
            Aggregate::Min(_) => Partial::Min(Scalar::from_json(value.get("value")?)),
            Aggregate::Max(_) => Partial::Max(Scalar::from_json(value.get("value")?)),
        })
    }
}

/// Aggregates without groups, computed on whole columns.
#[derive(Debug)]
pub(super) struct Whole {
    partials: Vec<Partial>,
    lanes: Vec<SumF64>,
}

impl Whole {
    pub(super) fn new(aggregates: &[Aggregate<Option<Column>>]) -> Whole {
        Whole {
            partials: aggregates.iter().map(Aggregate::nothing).collect(),
            lanes: vec![SumF64::new(); aggregates.len()],
        }
    }

    /// Adds `rows` of a closed chunk.
    pub(super) fn add(
        &mut self,
        aggregates: &[Aggregate<Option<Column>>],
        chunk: &Chunk,
        rows: &Bitmap,
    ) -> Result<(), String> {
        for ((aggregate, partial), lanes) in aggregates.iter().zip(&mut self.partials).zip(&mut self.lanes) {
            let cells = aggregate.path().map(|column| &chunk.columns[column]);
            match (&mut *partial, cells) {
                (Partial::Count(count), None) => *count += rows.count() as u64,
                (Partial::Count(count), Some(cells)) => {
                    let mut some = both(&cells.present, rows);
                    some.and_not(&cells.null);
                    *count += some.count() as u64;
                }
                (Partial::Sum(sum), Some(cells)) => {
                    let (int, float) = (both(&cells.int, rows), both(&cells.float, rows));
                    let floats = float.count() as u64;
                    sum.ints += sum_i64(&cells.ints, &int);
                    sum.floats += floats;
                    sum.count += int.count() as u64 + floats;
                    lanes.add(&cells.floats, &float);
                    sum.float = lanes.total();
                }
                (Partial::Min(_) | Partial::Max(_), Some(cells)) => {
                    let best = best(matches!(partial, Partial::Min(_)), cells, rows)?;
                    let best = if matches!(partial, Partial::Min(_)) { Partial::Min(best) } else { Partial::Max(best) };
                    partial.merge(best)?;
                }
                (_, None) => {}
            }
        }
        Ok(())
    }

    pub(super) fn partials(&self) -> &[Partial] {
        &self.partials
    }
}

fn both(a: &Bitmap, b: &Bitmap) -> Bitmap {
    let mut out = a.clone();
    out.and(b);
    out
}

/// Returns the smallest or largest scalar among `rows`.
///
/// # Errors
/// Fails if any string is too long, even one that is neither.
fn best(least: bool, cells: &Cells, rows: &Bitmap) -> Result<Option<Scalar>, String> {
    check_text(cells.longest(rows, QUERY_TEXT_BYTES_MAX), EXTREME)?;
    let (int, float) = (both(&cells.int, rows), both(&cells.float, rows));
    let (ints, floats) = if least {
        (min_i64(&cells.ints, &int), min_f64(&cells.floats, &float))
    } else {
        (max_i64(&cells.ints, &int), max_f64(&cells.floats, &float))
    };
    let numbers = ints.map(Number::Int).into_iter().chain(floats.map(Number::Float));
    let number = if least { numbers.min() } else { numbers.max() };
    // Every number is smaller than every string.
    if least && number.is_some() {
        return Ok(number.map(Scalar::Number));
    }
    let text = both(&cells.text, rows);
    let texts = text.iter().map(|row| cells.string(row));
    match if least { texts.min() } else { texts.max() } {
        None => Ok(number.map(Scalar::Number)),
        Some(text) => Ok(Some(Scalar::Text(text.into()))),
    }
}
