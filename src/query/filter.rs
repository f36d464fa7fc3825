//! The byte filter: what must be among a value's bytes, or the predicate cannot hold.
//!
//! A text of JSON that is equal to a literal without quotes, backslashes and control characters is spelled in one way if it has
//! no escape, and an escape has a backslash. So a value without a backslash and without `"literal"` has no such text. The same is
//! true of the names of fields: whatever is asked of `$.a.rare[0]`, `"rare"` must be there. Numbers have many spellings, so a comparison
//! with one asks for the name alone; what stands under a `not` gives no filter.

use crate::arch::column::{Cmp, Needle};

use super::parse::{Expr, List, Literal};
use super::path::{Path, Step};

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
    pub(super) fn of(expr: &Expr<Path>) -> ByteFilter {
        let mut all = clauses(expr);
        // Texts are in fewer values than names are.
        all.sort_by_key(|clause| clause.names);
        let mut known: Vec<Vec<Vec<u8>>> = Vec::new();
        let mut left = NEEDLES_MAX;
        for Clause { any, .. } in all {
            if any.len() <= left && !known.contains(&any) {
                left -= any.len();
                known.push(any);
            }
        }
        let prepare = |any: Vec<Vec<u8>>| any.iter().map(|text| Needle::new(text)).collect();
        ByteFilter { all: known.into_iter().map(prepare).collect(), ..ByteFilter::default() }
    }

    /// Whether the predicate may hold for this value.
    pub(super) fn takes(&self, value: &[u8]) -> bool {
        self.all.iter().all(|any| any.iter().any(|needle| needle.is_in(value))) || self.backslash.is_in(value)
    }
}

/// A condition: that any of these is there.
struct Clause {
    any: Vec<Vec<u8>>,
    /// Some of them are names of fields.
    names: bool,
}

/// The conditions of a predicate.
fn clauses(expr: &Expr<Path>) -> Vec<Clause> {
    let one = |text: Option<Vec<u8>>| text.map(|text| Clause { any: vec![text], names: false });
    match expr {
        Expr::Compare(path, Cmp::Eq, Literal::Text(text)) => {
            one(needle(text, true)).or_else(|| name(path)).into_iter().collect()
        }
        Expr::Prefix(path, text) => one(needle(text, false)).or_else(|| name(path)).into_iter().collect(),
        Expr::In(path, list) => {
            let List { null, no, yes, numbers, texts, .. } = list;
            let only_texts = !(*null || *no || *yes) && numbers.is_empty();
            let any: Option<Vec<Vec<u8>>> = texts.iter().map(|text| needle(text, true)).collect();
            let any = any.filter(|any| only_texts && any.len() <= NEEDLES_MAX).map(|any| Clause { any, names: false });
            any.or_else(|| name(path)).into_iter().collect()
        }
        // Whatever is asked of it, the path must be there.
        Expr::Exists(path) | Expr::Compare(path, ..) => name(path).into_iter().collect(),
        Expr::And(parts) => parts.iter().flat_map(clauses).collect(),
        Expr::Or(parts) => {
            // Each part must have a condition; any one of them holds then.
            let best = |part| clauses(part).into_iter().min_by_key(|clause| (clause.names, clause.any.len()));
            let each: Option<Vec<Clause>> = parts.iter().map(best).collect();
            let all = |each: Vec<Clause>| Clause {
                names: each.iter().any(|clause| clause.names),
                any: each.into_iter().flat_map(|clause| clause.any).collect(),
            };
            each.map(all).into_iter().collect()
        }
        Expr::Not(_) => Vec::new(),
    }
}

/// That the last name of a path is there; nothing if it has none that is spelled in one way only.
fn name(path: &Path) -> Option<Clause> {
    let last = path.steps.iter().rev().find_map(|step| match step {
        Step::Field(name) => Some(name),
        Step::Index(_) => None,
    });
    last.and_then(|name| needle(name, true)).map(|text| Clause { any: vec![text], names: true })
}

/// The only bytes that spell a text without an escape.
fn needle(text: &str, whole: bool) -> Option<Vec<u8>> {
    if text.bytes().any(|b| b < b' ' || b == b'"' || b == b'\\') {
        return None;
    }
    let end: &[u8] = if whole { b"\"" } else { b"" };
    Some([b"\"", text.as_bytes(), end].concat())
}
