//! The byte filter: bytes that must occur in a value, or the predicate cannot match.
//!
//! A literal without quotes, backslashes and control characters has only one spelling as a JSON string without escapes,
//! and every escape has a backslash. So a value without a backslash and without `"literal"` does not contain that
//! string. The same is true of field names: whatever the predicate requires of `$.a.rare[0]`, `"rare"` must occur.
//! Numbers have many spellings. For `$.a.n > 3`, the filter reads the number after every `"n":`, at any depth, and one
//! of them must be greater than 3, or nearly, because the comparison uses `f64`. Terms under a `not` contribute nothing
//! to the filter.

use crate::arch::column::{Cmp, Needle};
use crate::types::limits::QUERY_NEEDLES_MAX;

use super::parse::{Expr, List, Literal};
use super::path::{Path, Step};
use super::scalar::Number;

/// Conditions that all must hold. A condition holds if any of its tests does.
#[derive(Clone, Debug)]
pub(super) struct ByteFilter {
    all: Vec<Vec<Test>>,
    backslash: Needle,
}

impl Default for ByteFilter {
    fn default() -> ByteFilter {
        ByteFilter { all: Vec::new(), backslash: Needle::new(b"\\") }
    }
}

/// A test of a value's bytes.
#[derive(Clone, Debug)]
enum Test {
    /// These bytes occur.
    Bytes(Needle),
    /// These bytes occur as the name of a field whose value is a number that compares to the other as given, or nearly.
    Number(Needle, Cmp, f64),
}

impl ByteFilter {
    /// Creates the filter of a predicate. It accepts everything if the predicate requires no particular bytes.
    pub(super) fn of(expr: &Expr<Path>) -> ByteFilter {
        let mut all = clauses(expr);
        // Begin with the conditions that rule values out fastest.
        all.sort_by_key(|clause| clause.kind);
        let mut known: Vec<Vec<Pattern>> = Vec::new();
        let mut left = QUERY_NEEDLES_MAX;
        for Clause { any, .. } in all {
            if any.len() <= left && !known.contains(&any) {
                left -= any.len();
                known.push(any);
            }
        }
        let prepare = |any: Vec<Pattern>| {
            let test = |look: &Pattern| match look {
                Pattern { bytes, number: None } => Test::Bytes(Needle::new(bytes)),
                Pattern { bytes, number: Some((cmp, number)) } => Test::Number(Needle::new(bytes), *cmp, *number),
            };
            any.iter().map(test).collect()
        };
        ByteFilter { all: known.into_iter().map(prepare).collect(), ..ByteFilter::default() }
    }

    /// Returns whether the predicate may match this value.
    pub(super) fn takes(&self, value: &[u8]) -> bool {
        self.all.iter().all(|any| any.iter().any(|test| test.holds(value))) || self.backslash.is_in(value)
    }
}

impl Test {
    fn holds(&self, value: &[u8]) -> bool {
        let (name, cmp, number) = match self {
            Test::Bytes(needle) => return needle.is_in(value),
            Test::Number(name, cmp, number) => (name, *cmp, *number),
        };
        let mut at = 0;
        while let Some(found) = name.find(&value[at..]) {
            // The last quote may be the first one of the next match: the bytes between two strings can also spell a
            // name.
            at += found + name.bytes().len() - 1;
            let behind = value[at + 1..].trim_ascii_start();
            if let Some(behind) = behind.strip_prefix(b":")
                && may_stand(behind.trim_ascii_start(), cmp, number)
            {
                return true;
            }
        }
        false
    }
}

/// Returns whether a number begins here that compares to `other` by `cmp`, or nearly.
fn may_stand(bytes: &[u8], cmp: Cmp, other: f64) -> bool {
    let len = bytes.iter().take_while(|b| b.is_ascii_digit() || matches!(b, b'-' | b'+' | b'.' | b'e' | b'E')).count();
    if len == 0 {
        return false;
    }
    let Some(number) = std::str::from_utf8(&bytes[..len]).ok().and_then(|text| text.parse::<f64>().ok()) else {
        // Rust does not accept the number: let the parser decide.
        return true;
    };
    // This tolerance is far wider than the error of rounding to an `f64`.
    let near = (number - other).abs() <= 1e-12 * number.abs().max(other.abs());
    near || cmp.holds(number.partial_cmp(&other))
}

/// A test before its search is prepared.
#[derive(Clone, Debug, PartialEq)]
struct Pattern {
    bytes: Vec<u8>,
    number: Option<(Cmp, f64)>,
}

impl Pattern {
    fn bytes(bytes: Vec<u8>) -> Pattern {
        Pattern { bytes, number: None }
    }
}

/// A condition: any of these tests holds.
struct Clause {
    any: Vec<Pattern>,
    kind: Kind,
}

/// How a condition rules values out. Strings occur in fewer values than numbers, and field names occur in most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Texts,
    Numbers,
    Names,
}

/// Returns the conditions of a predicate.
fn clauses(expr: &Expr<Path>) -> Vec<Clause> {
    let texts = |any| Clause { any, kind: Kind::Texts };
    let one = |text: Option<Vec<u8>>| text.map(|text| texts(vec![Pattern::bytes(text)]));
    match expr {
        Expr::Compare(path, Cmp::Eq, Literal::Text(text)) => {
            one(needle(text, true)).or_else(|| name(path)).into_iter().collect()
        }
        Expr::Prefix(path, text) => one(needle(text, false)).or_else(|| name(path)).into_iter().collect(),
        Expr::In(path, list) => {
            let List { null, no, yes, numbers, texts: members, .. } = list;
            let only_texts = !(*null || *no || *yes) && numbers.is_empty();
            let any: Option<Vec<Pattern>> = members.iter().map(|text| needle(text, true).map(Pattern::bytes)).collect();
            let any = any.filter(|any| only_texts && any.len() <= QUERY_NEEDLES_MAX).map(texts);
            any.or_else(|| name(path)).into_iter().collect()
        }
        Expr::Compare(path, cmp, Literal::Number(number)) if matches!(path.steps.last(), Some(Step::Field(_))) => {
            let other = match number {
                Number::Int(int) => *int as f64,
                Number::Float(float) => *float,
            };
            let clause = name(path).map(|Clause { any, .. }| {
                let look = |look: Pattern| Pattern { number: Some((*cmp, other)), ..look };
                Clause { any: any.into_iter().map(look).collect(), kind: Kind::Numbers }
            });
            clause.into_iter().collect()
        }
        // The path must exist, whatever the predicate requires of it.
        Expr::Exists(path) | Expr::Compare(path, ..) => name(path).into_iter().collect(),
        Expr::And(parts) => parts.iter().flat_map(clauses).collect(),
        Expr::Or(parts) => {
            // Each part must have a condition. Then at least one of these conditions holds.
            let best = |part| clauses(part).into_iter().min_by_key(|clause| (clause.kind, clause.any.len()));
            let each: Option<Vec<Clause>> = parts.iter().map(best).collect();
            let all = |each: Vec<Clause>| Clause {
                kind: each.iter().map(|clause| clause.kind).max().unwrap_or(Kind::Names),
                any: each.into_iter().flat_map(|clause| clause.any).collect(),
            };
            each.map(all).into_iter().collect()
        }
        Expr::Not(_) => Vec::new(),
    }
}

/// Returns the condition that the last field name of a path occurs, or `None` if it has no name with a single spelling.
fn name(path: &Path) -> Option<Clause> {
    let last = path.steps.iter().rev().find_map(|step| match step {
        Step::Field(name) => Some(name),
        Step::Index(_) => None,
    });
    last.and_then(|name| needle(name, true)).map(|text| Clause { any: vec![Pattern::bytes(text)], kind: Kind::Names })
}

/// Returns the only bytes that spell a string without an escape.
fn needle(text: &str, whole: bool) -> Option<Vec<u8>> {
    if text.bytes().any(|b| b < b' ' || b == b'"' || b == b'\\') {
        return None;
    }
    let end: &[u8] = if whole { b"\"" } else { b"" };
    Some([b"\"", text.as_bytes(), end].concat())
}

#[cfg(test)]
mod tests {
    //! Goal: a value is ruled out only if the predicate cannot match. Method: spellings by hand; `differential` has the
    //! rest.

    use super::*;

    #[test]
    fn numbers_are_read_wherever_the_name_stands() {
        let filter = |cmp| ByteFilter {
            all: vec![vec![Test::Number(Needle::new(b"\"n\""), cmp, 3.0)]],
            ..ByteFilter::default()
        };
        let above = filter(Cmp::Gt);
        for taken in [
            r#"{"n":4}"#,
            r#"{"n" : 3.5}"#,
            r#"{"n":1,"n":9}"#,
            r#"{"a":{"n":30e-1}}"#,
            r#"{"a":"n","n":4}"#,
            r#"["n","n",{"n":99999999999999999999}]"#,
            r#"{"n":3.0000000000000001}"#,
            r#"{"n":4-}"#,
            r#"{"m\u006e":1}"#,
        ] {
            assert!(above.takes(taken.as_bytes()), "{taken}");
        }
        for ruled_out in
            [r#"{"n":2}"#, r#"{"n":"4"}"#, r#"{"n":-4}"#, r#"{"m":4}"#, r#"{"a":"n"}"#, r#"{"n":{"o":4}}"#, r#"{"n":"#]
        {
            assert!(!above.takes(ruled_out.as_bytes()), "{ruled_out}");
        }
        assert!(filter(Cmp::Eq).takes(b"{\"n\":3e0}") && !filter(Cmp::Eq).takes(b"{\"n\":4}"));
        assert!(filter(Cmp::Ne).takes(b"{\"n\":4}") && filter(Cmp::Le).takes(b"{\"n\":2}"));
        // A name that is spelled by the bytes between two strings.
        let comma =
            ByteFilter { all: vec![vec![Test::Number(Needle::new(b"\",\""), Cmp::Eq, 1.0)]], ..ByteFilter::default() };
        assert!(comma.takes(br#"{"a":["x",",",""],",":1}"#));
    }
}
