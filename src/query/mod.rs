//! # query: predicates, projections and aggregates over JSON values, evaluated where the data is
//!
//! ```text
//!   request (JSON)                    pairs of a range, in order                      pages (JSON)
//!        |                                     |                                           |
//!   +----v----+  Plan   +----------------------v---------------------+  page   +-----------v-----------+
//!   | request |-------->| Page                                       |-------->| Merge                 |
//!   | parse   |         |  bytes -> tape -> columns -> rows or sums  |         |  rows, groups, answer |
//!   | parse   |         |  bytes -> tape -> columns -> rows or sums  |         |  rows, groups, answer |
//!   +---------+         +--------------------------------------------+         +-----------------------+
//! ```
//!
//! A request and the pairs of a range come **in**. A page goes **out**: the rows that match the predicate, or partial
//! aggregates, and the key at which the next page begins. [`Merge`] combines pages, in key order.
//!
//! **Never**: a side effect (the module is pure); a result that depends on the machine, on the tier of a kernel or on a
//! hasher; a page that is larger than clients decode; a pair that is read twice or not at all where pages meet.
//!
//! ## A request
//! ```json
//! {"where": "$.a.b[0] >= 3 and $.tag in [\"x\", \"y\"]", "select": ["$.a", "$.b.c"], "limit": 100}
//! {"where": "exists $.n", "aggregate": [{"count": "*"}, {"sum": "$.n"}, {"max": "$.at"}], "group_by": "$.tag"}
//! ```
//! All fields are optional: `where` (default: every row), `select` (default: the whole value, `$`, as it is stored),
//! `limit`, `aggregate` (excludes `select` and `limit`), `group_by` (only with `aggregate`), `from` (hexadecimal;
//! smaller keys are left out: the `next` of the previous page), `page_rows` (the maximum number of pairs read for one
//! page).
//!
//! `limit` applies to one request. A page that has that many rows says `"enough": true` and has no `next`. Over several
//! regions, each request asks for the rows that are still missing ([`Merge::request`]), and surplus rows are dropped
//! when several regions are asked at once.
//!
//! A predicate has `and`, `or`, `not`, parentheses and terms: `PATH = LITERAL` with `=` `!=` `<` `<=` `>` `>=`, `PATH
//! in [LITERAL, …]`, `PATH prefix "text"`, `exists PATH`. A path is `$`, followed by `.name`, `["any name"]` and `[0]`.
//! Literals are JSON's; strings may also have single quotes.
//!
//! ## Semantics
//! - *A value that is not JSON* is not a row. It is counted in `not_json`, unless the byte filter rules it out before
//!   parsing. A value that is nested deeper than [`QUERY_JSON_DEPTH_MAX`](crate::types::limits::QUERY_JSON_DEPTH_MAX)
//!   levels, or has a number beyond `f64`, is treated as not JSON.
//! - *A value longer than [`QUERY_VALUE_BYTES_MAX`](crate::types::limits::QUERY_VALUE_BYTES_MAX)* is not a row either.
//!   It is counted in `too_long`, unless the byte filter rules it out.
//! - *A missing path*: a term is false, a projection is null, an aggregate skips the row, and the row is in the group
//!   of null.
//! - *A type other than the literal's*: the comparison is false, and so is `!=` (`not $.a = 3` is true there). `null`
//!   is equal only to null, and `exists` is true for it.
//! - *Numbers* compare by value. Integers that fit in an `i64` are exact, `1.0` is 1, and fractions and integers
//!   outside `i64` are the nearest `f64`. *Strings* compare by their bytes. If an object has several fields with one
//!   name, the last one counts.
//! - *Aggregates*: `count` of `*` counts rows; `count` of a path counts rows in which it exists and is not null. `sum`
//!   and `avg` use numbers and skip other values. `min` and `max` use numbers and strings, and every number is smaller
//!   than every string. Over nothing, `sum` is 0 and the others are null.
//! - *Groups* are ordered: null, false, true, numbers, strings. Arrays and objects cannot be keys; their rows are in
//!   the group of null.
//! - *Strings longer than [`QUERY_TEXT_BYTES_MAX`](crate::types::limits::QUERY_TEXT_BYTES_MAX)* are an error as a
//!   group's key, and in every matching row for `min` and `max`, even if another row decides the result: whether a
//!   query fails must not depend on where pages end.
//! - *Expired pairs* are not rows and are not in `scanned`, but count towards the end of the page ([`Page::pass`]).
//!
//! ## Sums Integers are added exactly, however many there are (128 bits). The `f64`s of one page are added in a fixed
//! order. Without groups, that is the order of the eight lanes of [`SumF64`](crate::arch::column::SumF64), over chunks
//! of 1024 rows that passed the byte filter (fewer if the rows are long). In groups, it is row by row. Pages are added
//! in key order. So the same data with the same boundaries of pages and regions gives the same bits on every
//! architecture; other boundaries may change the last bits. An integer sum beyond 64 bits is shown as the nearest `f64`
//! (pages carry the exact sum); a sum beyond `f64` is null.
//!
//! ## How a page is made A value first goes through a byte filter. If the predicate can match only if the value
//! contains a certain string, or a field with a certain name, then its bytes must occur in the value (or a backslash,
//! which may hide them). Values that pass are parsed by simd-json to a tape. One walk over the tape copies the paths of
//! the predicate and the aggregates into columns of 1024 rows, which the kernels of [`crate::arch::column`] evaluate.
//! Selected rows are parsed once more, to be written out.

mod aggregate;
mod answer;
mod chunk;
mod eval;
mod filter;
mod groups;
mod json;
mod lexer;
mod malformed;
mod page;
mod parse;
mod path;
mod request;
mod scalar;
#[cfg(test)]
mod tests;

pub use answer::{Answer, Found, Merge, Next};
pub use page::{Page, Room, Scanned};
pub use path::Path;
pub use request::{Aggregate, Plan, Query};

/// The name of the coprocessor.
pub const NAME: &str = "json";
/// The version of the coprocessor, which must match the version requirement of a request.
pub const VERSION: semver::Version = semver::Version::new(1, 0, 0);

/// Checks the coprocessor that a request asks for: the name, and a version requirement in the notation of semver.
///
/// # Errors
/// Returns an error that says which coprocessor there is.
pub fn check_version(name: &str, requirement: &str) -> Result<(), String> {
    if name != NAME {
        let shown = malformed::short(name);
        return Err(format!("unknown coprocessor {shown:?}: use {NAME:?}, version {VERSION}"));
    }
    let wanted = semver::VersionReq::parse(requirement).map_err(|error| {
        let (shown, why) = (malformed::short(requirement), malformed::short(&error.to_string()));
        format!("copr_version_req {shown:?} is not a version requirement ({why}); try \"1\" or \"*\"")
    })?;
    if wanted.matches(&VERSION) {
        return Ok(());
    }
    let wanted = malformed::short(&wanted.to_string());
    Err(format!("coprocessor {NAME:?} has version {VERSION}, which does not match {wanted}"))
}
