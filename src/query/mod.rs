//! # query: predicates, projections and aggregates over JSON values, at the data
//!
//! ```text
//!   request (JSON)                    pairs of a range, in order                      pages (JSON)
//!        |                                     |                                           |
//!   +----v----+  Plan   +----------------------v---------------------+  page   +-----------v-----------+
//!   | request |-------->| Page                                       |-------->| Merge                 |
//!   | parse   |         |  bytes -> tape -> columns -> rows or sums  |         |  rows, groups, answer |
//!   +---------+         +--------------------------------------------+         +-----------------------+
//!      both sides          the store that leads the region                       whoever asked
//! ```
//!
//! **In** come a request and the pairs of a range; **out** goes a page: the rows that the predicate selects, or partial
//! aggregates, and the key at which the next page begins. [`Merge`] puts pages together, in order of their keys.
//!
//! **Never**: an effect (the room is pure); a result that depends on the machine, on the tier of a kernel or on a hasher; a
//! page that is larger than clients decode; a pair that is looked at twice, or not at all, where pages meet.
//!
//! ## A request
//! ```json
//! {"where": "$.a.b[0] >= 3 and $.tag in [\"x\", \"y\"]", "select": ["$.a", "$.b.c"], "limit": 100}
//! {"where": "exists $.n", "aggregate": [{"count": "*"}, {"sum": "$.n"}, {"max": "$.at"}], "group_by": "$.tag"}
//! ```
//! All fields may be left out: `where` (every row), `select` (the whole value, `$`, as it is stored), `limit`, `aggregate` (then
//! neither `select` nor `limit`), `group_by` (only with `aggregate`), `from` (hexadecimal; keys below it are left out: where
//! the page before said `next`), `page_rows` (pairs read for one page, at most).
//!
//! `limit` is of one request. A page that has as many rows says `"enough": true` and has no `next`; over several regions each
//! request asks for what is left ([`Merge::request`]), and rows beyond are dropped when regions are asked at once.
//!
//! A predicate has `and`, `or`, `not`, parentheses and terms: `PATH = LITERAL` with `=` `!=` `<` `<=` `>` `>=`, `PATH in [LITERAL, …]`,
//! `PATH prefix "text"`, `exists PATH`. A path is `$`, then `.name`, `["any name"]` and `[0]`. Literals are JSON's, texts also in
//! single quotes.
//!
//! ## What each thing means
//! - *A value that is not JSON*: no row. It is counted in `not_json`, unless the byte filter could rule it out unparsed. Deeper
//!   than [`QUERY_JSON_DEPTH_MAX`](crate::types::limits::QUERY_JSON_DEPTH_MAX) levels, or a number beyond `f64`, is not JSON here.
//! - *A value longer than [`QUERY_VALUE_BYTES_MAX`](crate::types::limits::QUERY_VALUE_BYTES_MAX)*: no row either. It is counted in
//!   `too_long`, unless the byte filter could rule it out.
//! - *A missing path*: a term is false, a projection is null, an aggregate skips the row, a group is that of null.
//! - *Another type than the literal's*: the comparison is false, `!=` too (`not $.a = 3` is true there). `null` is only ever equal
//!   to null, and `exists` holds for it.
//! - *Numbers* compare by value: an integer that fits an `i64` is exact, `1.0` is 1, fractions and integers outside `i64` are the
//!   nearest `f64`. *Texts* compare by their bytes. Of an object's fields with one name the last counts.
//! - *Aggregates*: `count` of `*` counts rows, of a path those where it is there and not null. `sum` and `avg` take numbers and
//!   skip the rest; `min` and `max` take numbers and texts, every number below every text. Of nothing, `sum` is 0, the others null.
//! - *Groups*: null, false, true, numbers, texts, in this order. Arrays and objects are no keys; their rows are in the group of
//!   null.
//! - *Texts longer than [`QUERY_TEXT_BYTES_MAX`](crate::types::limits::QUERY_TEXT_BYTES_MAX)* are an error as a group's key, and in
//!   every selected row of which `min` or `max` is asked, whatever decides: no boundary of a page decides about an error.
//! - *Expired pairs* are no rows and not in `scanned`, but bring the page nearer to its end ([`Page::pass`]).
//!
//! ## What a sum is
//! Integers are added exactly, whatever their number (128 bits). Of `f64`s, those of one page are added in one order (without
//! groups the eight lanes of [`SumF64`](crate::arch::column::SumF64), chunks of 1024 rows that passed the byte filter, or less where they are long; in
//! groups row after row), and pages in the order of their keys. So the same data between the same boundaries of pages and regions
//! gives the same bits, on every architecture; another boundary may change the last ones. An integer sum beyond 64 bits is shown as the nearest
//! `f64` (a page carries it whole); a sum beyond `f64` is null.
//!
//! ## How a page is made
//! A value goes through a byte filter first: where the predicate can only hold if a certain text, or a field of a certain name, is in
//! the value, its bytes must be there (or a backslash, which may hide them). What passes is parsed by simd-json to a tape; one walk over the tape copies the
//! paths of predicate and aggregates into columns of 1024 rows, and the kernels of [`crate::arch::column`] do the rest. Rows that
//! are selected are parsed once more, to be written out.

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

/// The name under which the coprocessor is asked.
pub const NAME: &str = "json";
/// Its version, which a request's requirement is matched against.
pub const VERSION: semver::Version = semver::Version::new(1, 0, 0);

/// Checks what a request asks for: the name, and a version in the notation of semver.
///
/// # Errors
/// What there is instead.
pub fn check_version(name: &str, requirement: &str) -> Result<(), String> {
    if name != NAME {
        let shown = malformed::short(name);
        return Err(format!("no coprocessor {shown:?}: there is {NAME:?}, version {VERSION}"));
    }
    let wanted = semver::VersionReq::parse(requirement).map_err(|error| {
        let (shown, why) = (malformed::short(requirement), malformed::short(&error.to_string()));
        format!("copr_version_req {shown:?} is no version requirement ({why}); try \"1\" or \"*\"")
    })?;
    if wanted.matches(&VERSION) {
        return Ok(());
    }
    let wanted = malformed::short(&wanted.to_string());
    Err(format!("coprocessor {NAME:?} is version {VERSION}, which {wanted} does not take"))
}
