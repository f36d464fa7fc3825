//! Evaluation of the predicate on one chunk: which rows match.

use crate::arch::column::{Bitmap, Cmp, compare_bytes, compare_f64, compare_i64, in_set, starts_with};

use super::chunk::{Cells, Chunk, ROWS};
use super::parse::{Expr, List, Literal};
use super::request::Column;
use super::scalar::Number;

/// Returns the rows of a closed chunk that match `expr`.
pub(super) fn rows(expr: &Expr<Column>, chunk: &Chunk) -> Bitmap {
    match expr {
        Expr::And(parts) => {
            let mut all = chunk.all();
            for part in parts {
                if !all.any() {
                    break;
                }
                all.and(&rows(part, chunk));
            }
            all
        }
        Expr::Or(parts) => {
            let mut any = Bitmap::zeros(ROWS);
            parts.iter().for_each(|part| any.or(&rows(part, chunk)));
            any
        }
        Expr::Not(part) => {
            let mut all = chunk.all();
            all.and_not(&rows(part, chunk));
            all
        }
        Expr::Exists(column) => chunk.columns[*column].present.clone(),
        Expr::Compare(column, cmp, literal) => compare(&chunk.columns[*column], *cmp, literal),
        Expr::In(column, list) => among(&chunk.columns[*column], list),
        Expr::Prefix(column, text) => {
            let cells = &chunk.columns[*column];
            let mut out = Bitmap::zeros(ROWS);
            starts_with(cells.strings(), &cells.text, text.as_bytes(), &mut out);
            out
        }
    }
}

fn compare(cells: &Cells, cmp: Cmp, literal: &Literal) -> Bitmap {
    match literal {
        Literal::Null => cells.null.clone(),
        Literal::Bool(value) => (if *value == (cmp == Cmp::Eq) { &cells.yes } else { &cells.no }).clone(),
        Literal::Number(number) => {
            let mut out = ints(cells, int_bound(cmp, *number));
            out.or(&floats(cells, float_bound(cmp, *number)));
            out
        }
        Literal::Text(text) => {
            let mut out = Bitmap::zeros(ROWS);
            compare_bytes(cells.strings(), &cells.text, cmp, text.as_bytes(), &mut out);
            out
        }
    }
}

fn among(cells: &Cells, list: &List) -> Bitmap {
    let mut out = Bitmap::zeros(ROWS);
    for (wanted, rows) in [(list.null, &cells.null), (list.no, &cells.no), (list.yes, &cells.yes)] {
        if wanted {
            out.or(rows);
        }
    }
    if !list.numbers.is_empty() {
        let mut look = |row: usize, number| out.set(row, list.numbers.binary_search(&number).is_ok());
        cells.int.iter().for_each(|row| look(row, Number::Int(cells.ints[row])));
        cells.float.iter().for_each(|row| look(row, Number::Float(cells.floats[row])));
    }
    if !list.set.is_empty() {
        let mut equal = Bitmap::zeros(ROWS);
        in_set(cells.strings(), &cells.text, &list.set, &mut equal);
        out.or(&equal);
    }
    out
}

/// A comparison within one type.
#[derive(Debug, PartialEq)]
enum Bound<T> {
    Never,
    Always,
    Against(Cmp, T),
}

/// Returns the comparison of integers that is equivalent to `integer cmp number`.
fn int_bound(cmp: Cmp, number: Number) -> Bound<i64> {
    let float = match number {
        Number::Int(int) => return Bound::Against(cmp, int),
        Number::Float(float) => float,
    };
    // No integer is equal to the number; the integers up to its `floor` are less.
    let below = if float >= i64::MAX as f64 {
        Bound::Always
    } else if float < i64::MIN as f64 {
        Bound::Never
    } else {
        Bound::Against(Cmp::Le, float.floor() as i64)
    };
    match cmp {
        Cmp::Eq => Bound::Never,
        Cmp::Ne => Bound::Always,
        Cmp::Lt | Cmp::Le => below,
        Cmp::Gt | Cmp::Ge => match below {
            Bound::Always => Bound::Never,
            Bound::Never => Bound::Always,
            Bound::Against(_, floor) => Bound::Against(Cmp::Gt, floor),
        },
    }
}

/// Returns the comparison of floats that is equivalent to `float cmp number`, for floats that are not an `i64`.
fn float_bound(cmp: Cmp, number: Number) -> Bound<f64> {
    let int = match number {
        Number::Float(float) => return Bound::Against(cmp, float),
        Number::Int(int) => int,
    };
    // The nearest `f64` may be 2^63, which is above the integer and can be a value in the column.
    let nearest = int as f64;
    let above = i128::from(int) < nearest as i128;
    match cmp {
        Cmp::Eq => Bound::Never,
        Cmp::Ne => Bound::Always,
        Cmp::Lt | Cmp::Le => Bound::Against(Cmp::Lt, nearest),
        Cmp::Gt | Cmp::Ge => Bound::Against(if above { Cmp::Ge } else { Cmp::Gt }, nearest),
    }
}

fn ints(cells: &Cells, bound: Bound<i64>) -> Bitmap {
    match bound {
        Bound::Never => Bitmap::zeros(ROWS),
        Bound::Always => cells.int.clone(),
        Bound::Against(cmp, rhs) => {
            let mut out = Bitmap::zeros(ROWS);
            compare_i64(&cells.ints, &cells.int, cmp, rhs, &mut out);
            out
        }
    }
}

fn floats(cells: &Cells, bound: Bound<f64>) -> Bitmap {
    match bound {
        Bound::Never => Bitmap::zeros(ROWS),
        Bound::Always => cells.float.clone(),
        Bound::Against(cmp, rhs) => {
            let mut out = Bitmap::zeros(ROWS);
            compare_f64(&cells.floats, &cells.float, cmp, rhs, &mut out);
            out
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a bound in one type gives the same result as comparing values. Method: all operators on numbers around
    //! every edge.

    use super::*;

    #[test]
    fn bounds_are_exact() {
        let edge = 2f64.powi(63);
        let ints = [0, 1, -1, 2, i64::MAX, i64::MAX - 1, i64::MIN, i64::MIN + 1, (1 << 53) + 1, -(1 << 53) - 1];
        let floats = [0.5, -0.5, 1.5, edge, edge * 2.0, -edge * 2.0, 1e300, -1e300, 4503599627370495.5, -1.5];
        let numbers: Vec<Number> = ints.map(Number::Int).into_iter().chain(floats.map(Number::of)).collect();
        for cmp in Cmp::ALL {
            for right in &numbers {
                for left in &numbers {
                    let got = match *left {
                        Number::Int(int) => match int_bound(cmp, *right) {
                            Bound::Never => false,
                            Bound::Always => true,
                            Bound::Against(cmp, rhs) => cmp.holds(Some(int.cmp(&rhs))),
                        },
                        Number::Float(float) => match float_bound(cmp, *right) {
                            Bound::Never => false,
                            Bound::Always => true,
                            Bound::Against(cmp, rhs) => cmp.holds(float.partial_cmp(&rhs)),
                        },
                    };
                    assert_eq!(got, cmp.holds(Some(left.cmp(right))), "{left:?} {cmp:?} {right:?}");
                }
            }
        }
    }
}
