//! Parses a request to a [`Plan`], and checks all limits.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::types::limits::{QUERY_AGGREGATES_MAX, QUERY_PAGE_ROWS_MAX, QUERY_PATHS_MAX, QUERY_REQUEST_BYTES_MAX};

use super::chunk::Trie;
use super::filter::ByteFilter;
use super::malformed;
use super::parse::{Expr, predicate};
use super::path::Path;

/// A request as it is written. The page of this module explains the fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Query {
    /// The predicate.
    #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// Paths to show.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub select: Option<Vec<String>>,
    /// Maximum number of rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// What to compute instead of selecting rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aggregate: Option<Vec<Aggregate<String>>>,
    /// The path whose values form the groups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_by: Option<String>,
    /// The smallest key to read, in hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Maximum number of rows read for one page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page_rows: Option<u64>,
}

/// A function over the rows of a group. Its argument is a path, which is text in a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Aggregate<P> {
    /// The number of rows (`*`), or of rows in which the path exists and is not null.
    Count(P),
    /// The sum of the numbers.
    Sum(P),
    /// The mean of the numbers.
    Avg(P),
    /// The smallest number or string.
    Min(P),
    /// The largest number or string.
    Max(P),
}

impl<P> Aggregate<P> {
    /// Returns the same function of another path.
    fn map<Q, E>(&self, of: impl FnOnce(&P) -> Result<Q, E>) -> Result<Aggregate<Q>, E> {
        Ok(match self {
            Aggregate::Count(path) => Aggregate::Count(of(path)?),
            Aggregate::Sum(path) => Aggregate::Sum(of(path)?),
            Aggregate::Avg(path) => Aggregate::Avg(of(path)?),
            Aggregate::Min(path) => Aggregate::Min(of(path)?),
            Aggregate::Max(path) => Aggregate::Max(of(path)?),
        })
    }

    /// Returns the path.
    pub(super) fn path(&self) -> &P {
        match self {
            Aggregate::Count(p) | Aggregate::Sum(p) | Aggregate::Avg(p) | Aggregate::Min(p) | Aggregate::Max(p) => p,
        }
    }

    /// Returns the function's name.
    pub fn name(&self) -> &'static str {
        match self {
            Aggregate::Count(_) => "count",
            Aggregate::Sum(_) => "sum",
            Aggregate::Avg(_) => "avg",
            Aggregate::Min(_) => "min",
            Aggregate::Max(_) => "max",
        }
    }
}

/// The number of a column. `Option<Column>` is `None` for `*`.
pub(super) type Column = usize;

/// A query that is ready to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The query as it was asked.
    pub(super) query: Query,
    /// The predicate over columns.
    pub(super) filter: Option<Expr<Column>>,
    /// The bytes that a value must have.
    pub(super) bytes: ByteFilter,
    /// Finds the columns in a value.
    pub(super) trie: Trie,
    /// The total number of columns.
    pub(super) columns: usize,
    /// The paths to select; `None` if the query has aggregates.
    pub(super) select: Option<Vec<Path>>,
    /// For each path to select, the index of the first path that is the same.
    pub(super) same: Vec<usize>,
    /// The aggregates over columns.
    pub(super) aggregates: Vec<Aggregate<Option<Column>>>,
    /// The column of the groups.
    pub(super) group: Option<Column>,
    /// Maximum number of rows.
    pub(super) limit: u64,
    /// The smallest key to read.
    pub(super) from: Bytes,
    /// Maximum number of rows read for one page.
    pub(super) page_rows: u64,
}

/// Distinct paths; the index of a path is the number of its column.
#[derive(Default)]
struct Columns(Vec<Path>);

impl Columns {
    fn of(&mut self, path: Path) -> Column {
        let known = self.0.iter().position(|known| *known == path);
        known.unwrap_or_else(|| {
            self.0.push(path);
            self.0.len() - 1
        })
    }
}

/// What is wrong with a query.
enum Wrong {
    /// A complete message with a position.
    Placed(String),
    /// The name of the field, and what is wrong with it.
    Field(&'static str, String),
}

impl From<String> for Wrong {
    fn from(placed: String) -> Wrong {
        Wrong::Placed(placed)
    }
}

impl Plan {
    /// Parses a request and plans it.
    ///
    /// # Errors
    /// Returns what is wrong, with its position in the request or in the text of a field.
    pub fn decode(data: &[u8]) -> Result<Plan, String> {
        if data.len() > QUERY_REQUEST_BYTES_MAX {
            return Err(format!(
                "a query of {} bytes is over the limit of {QUERY_REQUEST_BYTES_MAX} bytes",
                data.len()
            ));
        }
        let text = std::str::from_utf8(data).map_err(|error| format!("the request is not UTF-8: {error}"))?;
        let begin = text.len() - text.trim_start().len();
        if !text[begin..].starts_with('{') {
            return Err(malformed::at("the request", text, begin, "expected an object, `{\"where\": …}`"));
        }
        let query = serde_json::from_str(text).map_err(|error| {
            let shown = error.to_string();
            let why = shown.rsplit_once(" at line ").map_or(&shown[..], |(why, _)| why);
            let offset = malformed::offset(text, error.line(), error.column());
            malformed::at("the request", text, offset, &malformed::cut(why))
        })?;
        Plan::build(query).map_err(|wrong| match wrong {
            Wrong::Placed(placed) => placed,
            Wrong::Field(name, why) => {
                malformed::at("the request", text, malformed::field(text, name).unwrap_or(begin), &why)
            }
        })
    }

    /// Plans a query.
    ///
    /// # Errors
    /// Same as [`Plan::decode`], but without a position in the request.
    pub fn new(query: Query) -> Result<Plan, String> {
        Plan::build(query).map_err(|wrong| match wrong {
            Wrong::Placed(why) | Wrong::Field(_, why) => why,
        })
    }

    fn build(query: Query) -> Result<Plan, Wrong> {
        let wrong = |field, why: String| Err(Wrong::Field(field, why));
        let mut columns = Columns::default();
        let parsed = query.filter.as_deref().map(predicate).transpose()?;
        let bytes = parsed.as_ref().map(ByteFilter::of).unwrap_or_default();
        let filter = parsed.map(|expr| expr.map(&mut |path| columns.of(path)));
        if query.aggregate.is_some() && (query.select.is_some() || query.limit.is_some()) {
            return wrong("aggregate", "`aggregate` cannot be combined with `select` or `limit`".into());
        }
        if query.group_by.is_some() && query.aggregate.is_none() {
            return wrong("group_by", "`group_by` needs `aggregate`: what to compute for each group".into());
        }
        let asked = query.aggregate.as_deref().unwrap_or_default();
        if query.aggregate.is_some() && asked.is_empty() {
            let why = "`aggregate` is empty: give count, sum, avg, min or max of a path, or count of `*`";
            return wrong("aggregate", why.into());
        }
        if asked.len() > QUERY_AGGREGATES_MAX {
            let why = format!("{} aggregates are over the limit of {QUERY_AGGREGATES_MAX}", asked.len());
            return wrong("aggregate", why);
        }
        let mut aggregates = Vec::with_capacity(asked.len());
        for (n, aggregate) in asked.iter().enumerate() {
            let what = format!("aggregate[{n}].{}", aggregate.name());
            let of = |path: &String| match (aggregate, path.trim()) {
                (Aggregate::Count(_), "*") => Ok(None),
                _ => Path::parse(&what, path).map(|path| Some(columns.of(path))),
            };
            aggregates.push(aggregate.map(of)?);
        }
        let group = query.group_by.as_deref().map(|path| Path::parse("group_by", path)).transpose()?;
        let group = group.map(|path| columns.of(path));
        let select = match (&query.select, &query.aggregate) {
            (_, Some(_)) => None,
            (None, None) => Some(vec![Path::default()]),
            (Some(paths), None) => {
                let parse = |(n, path): (usize, &String)| Path::parse(&format!("select[{n}]"), path);
                Some(paths.iter().enumerate().map(parse).collect::<Result<Vec<_>, _>>()?)
            }
        };
        let paths = columns.0.len() + select.as_ref().map_or(0, Vec::len);
        if paths > QUERY_PATHS_MAX {
            // The field with most of the paths.
            let field = match (&query.select, &query.aggregate) {
                (Some(select), _) if select.len() >= columns.0.len() => "select",
                (_, Some(_)) => "aggregate",
                _ => "where",
            };
            return wrong(field, format!("{paths} paths in one query are over the limit of {QUERY_PATHS_MAX}"));
        }
        let from = query.from.as_deref().unwrap_or_default();
        let Some(from) = unhex(from) else {
            let bad = from.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(from.len());
            let why = "not hexadecimal: give two digits for each byte of the key";
            return Err(malformed::at("from", from, bad, why).into());
        };
        let page_rows = query.page_rows.unwrap_or(QUERY_PAGE_ROWS_MAX);
        if page_rows == 0 || page_rows > QUERY_PAGE_ROWS_MAX {
            return wrong(
                "page_rows",
                format!("`page_rows` is {page_rows}, but must be from 1 to {QUERY_PAGE_ROWS_MAX}"),
            );
        }
        let shown = select.as_deref().unwrap_or_default();
        let same = shown.iter().map(|path| shown.iter().position(|other| other == path).unwrap_or_default()).collect();
        Ok(Plan {
            filter,
            bytes,
            trie: Trie::new(&columns.0),
            columns: columns.0.len(),
            select,
            same,
            aggregates,
            group,
            limit: query.limit.unwrap_or(u64::MAX),
            from: from.into(),
            page_rows,
            query,
        })
    }

    /// Returns the smallest key to read.
    pub fn from(&self) -> &Bytes {
        &self.from
    }

    /// Returns the column headers of the result: the group's path, then what is selected or computed.
    pub fn heads(&self) -> Vec<String> {
        let aggregate = |aggregate: &Aggregate<String>| format!("{}({})", aggregate.name(), aggregate.path());
        match (&self.select, &self.query.aggregate) {
            (Some(paths), _) => paths.iter().map(Path::to_string).collect(),
            (None, asked) => {
                let asked = asked.as_deref().unwrap_or_default();
                self.query.group_by.iter().cloned().chain(asked.iter().map(aggregate)).collect()
            }
        }
    }
}

/// Appends two hexadecimal digits for each byte.
pub(super) fn hex(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend(bytes.iter().flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]));
}

/// Returns the bytes of an even number of hexadecimal digits.
pub(super) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text.chars().map(|c| c.to_digit(16).map(|digit| digit as u8)).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    Some(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}
