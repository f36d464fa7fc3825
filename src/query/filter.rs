//! The byte filter: what must be among a value's bytes, or the predicate cannot hold.
//!
//! A text of JSON that is equal to a literal without quotes, backslashes and control characters is spelled in one way if it has
//! no escape, and an escape has a backslash. So a value without a backslash and without `"literal"` has no such text. Numbers
//! have many spellings and give no filter; what stands under a `not` gives none either.

use crate::arch::column::{Cmp, Needle};

use super::parse::{Expr, Literal};

/// Texts that are looked for in one value, at most.
const NEEDLES_MAX: usize = 16;

/// Conditions that all must hold; each, that any of its needles is there.
#[derive(Clone, Debug)]
pub(super) struct ByteFilter {
    all: Vec<Vec<Needle>>,
    backslash: Needle,
}

impl Default for ByteFilter {
    fn default() -> ByteFilter {
        ByteFilter { all: Vec::new(), backslash: Needle::new(b"\\") }
    }
}

impl ByteFilter {
    /// The filter of a predicate; it takes everything where the predicate gives none.
    pub(super) fn of<P>(expr: &Expr<P>) -> ByteFilter {
        let mut all = clauses(expr);
        let mut left = NEEDLES_MAX;
        all.retain(|any| {
            let fits = any.len() <= left;
            left -= if fits { any.len() } else { 0 };
            fits
        });
        let prepare = |any: Vec<Vec<u8>>| any.iter().map(|text| Needle::new(text)).collect();
        ByteFilter { all: all.into_iter().map(prepare).collect(), ..ByteFilter::default() }
    }

    /// Whether the predicate may hold for this value.
    pub(super) fn takes(&self, value: &[u8]) -> bool {
        self.all.iter().all(|any| any.iter().any(|needle| needle.is_in(value))) || self.backslash.is_in(value)
    }
}

/// The conditions of a predicate: each a choice of needles.
fn clauses<P>(expr: &Expr<P>) -> Vec<Vec<Vec<u8>>> {
    let one = |needle: Option<Vec<u8>>| needle.map(|needle| vec![vec![needle]]).unwrap_or_default();
    match expr {
        Expr::Compare(_, Cmp::Eq, Literal::Text(text)) => one(needle(text, true)),
        Expr::Prefix(_, text) => one(needle(text, false)),
        Expr::In(_, literals) => {
            let needle = |literal: &Literal| match literal {
                Literal::Text(text) => needle(text, true),
                _ => None,
            };
            let all: Option<Vec<Vec<u8>>> = literals.iter().map(needle).collect();
            all.map(|any| vec![any]).unwrap_or_default()
        }
        Expr::And(parts) => parts.iter().flat_map(clauses).collect(),
        Expr::Or(parts) => {
            // Each part must have a condition; any one of them holds then.
            let shortest = |part| clauses(part).into_iter().min_by_key(Vec::len);
            let each: Option<Vec<Vec<Vec<u8>>>> = parts.iter().map(shortest).collect();
            each.map(|each| vec![each.concat()]).unwrap_or_default()
        }
        Expr::Not(_) | Expr::Exists(_) | Expr::Compare(..) => Vec::new(),
    }
}

/// The only bytes that spell a text without an escape.
fn needle(text: &str, whole: bool) -> Option<Vec<u8>> {
    if text.bytes().any(|b| b < b' ' || b == b'"' || b == b'\\') {
        return None;
    }
    let end: &[u8] = if whole { b"\"" } else { b"" };
    Some([b"\"", text.as_bytes(), end].concat())
}
