//! `armilla ctl query`: rows and aggregates of JSON values, page after page.

use std::sync::Mutex;

use armilla::client::{GoOn, RawClient};
use armilla::query::{self, Aggregate, Answer, Merge, Next, Query};
use bytes::Bytes;
use serde_json::{Value, json};

use super::show::{self, Table, print_json};
use crate::failure::Failure;

/// What to ask.
#[derive(clap::Args, Debug)]
pub struct QueryArgs {
    /// Rows that count, such as '$.a.b[0] >= 3 and $.tag in ["x","y"]'; all without it.
    #[arg(long = "where", value_name = "PREDICATE")]
    filter: Option<String>,
    /// Paths to show, with commas between ('$.a,$.b.c'); the whole value without it.
    #[arg(long, value_name = "PATHS")]
    select: Option<String>,
    /// What to compute instead, with commas between: count, sum, avg, min and max, such as 'count(*),avg($.n)'.
    #[arg(long, value_name = "FUNCTIONS", conflicts_with = "select")]
    aggregate: Option<String>,
    /// Compute it for each value of this path.
    #[arg(long, value_name = "PATH", requires = "aggregate")]
    group_by: Option<String>,
    /// The first key.
    #[arg(long, default_value = "")]
    start: String,
    /// The key before which to stop; none: after the last.
    #[arg(long, default_value = "")]
    end: String,
    /// At most so many rows (100 if nothing is said; aggregates take all).
    #[arg(long, conflicts_with = "aggregate")]
    limit: Option<u64>,
}

/// Rows shown when nothing else is asked for.
const LIMIT: u64 = 100;

/// The parts of a list with commas, those in brackets, parentheses and quotes left alone. In quotes a backslash escapes what follows.
fn parts(text: &str) -> Vec<&str> {
    let (mut depth, mut quote, mut escaped, mut begin) = (0i32, None, false, 0);
    let mut out = Vec::new();
    for (at, c) in text.char_indices() {
        match (quote, c) {
            _ if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            (None, '[' | '(') => depth += 1,
            (None, ']' | ')') => depth -= 1,
            (None, ',') if depth == 0 => {
                out.push(text[begin..at].trim());
                begin = at + 1;
            }
            _ => {}
        }
    }
    out.push(text[begin..].trim());
    out
}

/// `count(*)`, `avg($.n)`.
fn function(text: &str) -> Result<Aggregate<String>, Failure> {
    let wrong = || {
        Failure::usage(format!("--aggregate: `{text}` is not count(*), or count, sum, avg, min or max of a ($.path)"))
    };
    let (name, rest) = text.split_once('(').ok_or_else(wrong)?;
    let path = rest.strip_suffix(')').ok_or_else(wrong)?.trim().to_owned();
    Ok(match name.trim().to_ascii_lowercase().as_str() {
        "count" => Aggregate::Count(path),
        "sum" => Aggregate::Sum(path),
        "avg" => Aggregate::Avg(path),
        "min" => Aggregate::Min(path),
        "max" => Aggregate::Max(path),
        _ => return Err(wrong()),
    })
}

impl QueryArgs {
    /// The query.
    pub fn query(&self) -> Result<Query, Failure> {
        let all = |text: &String| parts(text).into_iter().map(str::to_owned).collect();
        let functions = |text: &String| parts(text).into_iter().map(function).collect::<Result<Vec<_>, _>>();
        let aggregate = self.aggregate.as_ref().map(functions).transpose()?;
        Ok(Query {
            filter: self.filter.clone(),
            select: self.select.as_ref().map(all),
            limit: if aggregate.is_some() { None } else { Some(self.limit.unwrap_or(LIMIT)) },
            aggregate,
            group_by: self.group_by.clone(),
            ..Query::default()
        })
    }

    /// The range, as written.
    pub fn range(&self) -> (&str, &str) {
        (&self.start, &self.end)
    }
}

/// Asks, until all is there.
pub async fn ask(raw: &RawClient, query: Query, range: (Bytes, Bytes)) -> Result<Answer, Failure> {
    let merge = Mutex::new(Merge::new(query).map_err(Failure::usage)?);
    let with = || merge.lock().expect("nothing panics while holding it");
    let take = |page: Bytes| {
        Ok(match with().take(&page)? {
            Next::From(key) => GoOn::From(key),
            Next::Beyond => GoOn::Beyond,
            Next::Enough => GoOn::Enough,
        })
    };
    if !with().enough() {
        raw.coprocessor(query::NAME, &format!("^{}", query::VERSION), range, || with().request(), take).await?;
    }
    Ok(merge.into_inner().expect("nothing panics while holding it").finish())
}

/// Prints an answer: a table, or JSON; keys as `text` shows them.
pub fn print(answer: &Answer, as_json: bool, text: impl Fn(&[u8]) -> String) -> Result<(), Failure> {
    let heads = &answer.heads;
    let scanned = &answer.scanned;
    if as_json {
        let object =
            |values: &[Value]| heads.iter().cloned().zip(values.iter().cloned()).collect::<serde_json::Map<_, _>>();
        let mut shown = json!({
            "matched": answer.matched,
            "scanned": {
                "rows": scanned.rows,
                "bytes": scanned.bytes,
                "not_json": scanned.not_json,
                "too_long": scanned.too_long,
            },
        });
        if answer.aggregated {
            shown["groups"] = answer.groups.iter().map(|group| Value::from(object(group))).collect();
        } else {
            let row = |row: &query::Found| json!({ "key": text(&row.key), "values": object(&row.values) });
            shown["rows"] = answer.rows.iter().map(row).collect();
        }
        return print_json(&shown);
    }
    // A text is shown without its quotes in a table.
    let cell = |value: &Value| {
        show::cut(value.as_str().map_or_else(|| value.to_string(), |text| show::escape(text.as_bytes())))
    };
    let key = (!answer.aggregated).then_some("key");
    let names: Vec<&str> = key.into_iter().chain(heads.iter().map(String::as_str)).collect();
    let mut table = Table::with_names(&names);
    answer.groups.iter().for_each(|group| table.row(group.iter().map(cell).collect()));
    for row in &answer.rows {
        table.row(std::iter::once(show::cut(text(&row.key))).chain(row.values.iter().map(cell)).collect());
    }
    table.print();
    let told = |n: u64, what: &str| if n == 0 { String::new() } else { format!(", {n} {what}") };
    let bad = told(scanned.not_json, "not JSON") + &told(scanned.too_long, "too long to look into");
    eprintln!("{} of {} rows, {} read{bad}", answer.matched, scanned.rows, show::bytes(scanned.bytes));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_cut_at_their_own_commas() {
        assert_eq!(parts("$.a, $['b,c'] ,$.d"), ["$.a", "$['b,c']", "$.d"]);
        assert_eq!(parts("count(*),max($.a[\",\"])"), ["count(*)", "max($.a[\",\"])"]);
        assert_eq!(parts(r#"$["a\",b"],$.c"#), [r#"$["a\",b"]"#, "$.c"]);
        assert_eq!(parts(r#"$['\\'],$.c"#), [r#"$['\\']"#, "$.c"]);
        assert_eq!(function("Count( * )").ok(), Some(Aggregate::Count("*".into())));
        assert_eq!(function("avg($.n)").ok(), Some(Aggregate::Avg("$.n".into())));
        assert!(function("avg $.n").is_err() && function("median($.n)").is_err());
    }
}
