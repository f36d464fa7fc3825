//! `armilla ctl query`: rows and aggregates of JSON values, read page by page.

use std::sync::Mutex;

use armilla::client::{GoOn, RawClient};
use armilla::codec::text;
use armilla::query::{self, Aggregate, Answer, Merge, Next, Query};
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::Ctl;
use super::show::{self, Form, Table, print_json};
use crate::failure::Failure;

/// The query.
#[derive(clap::Args, Debug)]
pub struct QueryArgs {
    /// Rows to match, such as '$.a.b[0] >= 3 and $.tag in ["x","y"]' [default: all]
    #[arg(long = "where", value_name = "PREDICATE")]
    filter: Option<String>,
    /// Paths to show, separated by commas ('$.a,$.b.c') [default: the whole value]
    #[arg(long, value_name = "PATHS")]
    select: Option<String>,
    /// Aggregates to compute instead, separated by commas: count, sum, avg, min and max, such as 'count(*),avg($.n)'
    /// [default: none]
    #[arg(long, value_name = "FUNCTIONS", conflicts_with = "select")]
    aggregate: Option<String>,
    /// Compute the aggregates for each value of this path [default: once for all rows]
    #[arg(long, value_name = "PATH", requires = "aggregate")]
    group_by: Option<String>,
    /// The first key [default: the smallest key]
    #[arg(long, value_name = "KEY", default_value = "", hide_default_value = true)]
    start: String,
    /// The key to stop before [default: after the last key]
    #[arg(long, value_name = "KEY", default_value = "", hide_default_value = true)]
    end: String,
    /// Maximum number of rows to show; aggregates use all rows.
    #[arg(long, conflicts_with = "aggregate", default_value_t = 100)]
    limit: u64,
}

/// Splits a list at its commas, except those in brackets, parentheses and quotes. In quotes, a backslash escapes the
/// next character.
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

/// Parses an aggregate such as `count(*)` or `avg($.n)`.
fn function(text: &str) -> Result<Aggregate<String>, Failure> {
    let wrong = || {
        Failure::usage(format!("--aggregate: `{text}` is not count(*), or count, sum, avg, min or max of one ($.path)"))
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
    /// Returns the query.
    pub fn query(&self) -> Result<Query, Failure> {
        let all = |text: &String| parts(text).into_iter().map(str::to_owned).collect();
        let functions = |text: &String| parts(text).into_iter().map(function).collect::<Result<Vec<_>, _>>();
        let aggregate = self.aggregate.as_ref().map(functions).transpose()?;
        Ok(Query {
            filter: self.filter.clone(),
            select: self.select.as_ref().map(all),
            // Ask for one more than is shown, to find out whether there are more.
            limit: if aggregate.is_some() { None } else { Some(self.limit.saturating_add(1)) },
            aggregate,
            group_by: self.group_by.clone(),
            ..Query::default()
        })
    }
}

/// Runs the query and prints the result.
pub async fn run(ctl: &Ctl, args: &QueryArgs) -> Result<(), Failure> {
    let form = ctl.form;
    let range = (form.key(&args.start)?, form.key(&args.end)?);
    let end = range.1.clone();
    let merge = Mutex::new(Merge::new(args.query()?).map_err(Failure::usage)?);
    if let Err(error) = ask(&ctl.raw, &merge, range).await {
        return Err(ctl.of_own("query", "read the values with `scan` and filter them in the client", error).await);
    }
    let mut answer = merge.into_inner().expect("nothing panics while holding it").finish();
    for row in &mut answer.rows {
        row.key = ctl.raw.space().own(std::mem::take(&mut row.key));
    }
    let shown = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let next = answer.rows.get(shown).map(|row| row.key.clone());
    if next.is_some() {
        answer.rows.truncate(shown);
        answer.matched = shown as u64;
    }
    print(&answer, form, next.as_ref())?;
    if let Some(next) = next.filter(|_| !form.json) {
        let end = if end.is_empty() { String::new() } else { format!(" --end {}", form.argument(&end)) };
        let start = form.argument(&next);
        eprintln!("reached --limit {shown}, there are more: continue with the same query and --start {start}{end}");
    }
    Ok(())
}

/// Asks for pages until the result is complete.
async fn ask(raw: &RawClient, merge: &Mutex<Merge>, range: (Bytes, Bytes)) -> armilla::client::Result<()> {
    let with = || merge.lock().expect("nothing panics while holding it");
    let take = |page: Bytes| {
        Ok(match with().take(&page)? {
            Next::From(key) => GoOn::From(key),
            Next::Beyond => GoOn::Beyond,
            Next::Enough => GoOn::Enough,
        })
    };
    if with().enough() {
        return Ok(());
    }
    raw.coprocessor(query::NAME, &format!("^{}", query::VERSION), range, || with().request(), take).await
}

/// Prints the result as a table or as JSON. `next` is the key of the first row that is not shown.
fn print(answer: &Answer, form: Form, next: Option<&Bytes>) -> Result<(), Failure> {
    let heads = &answer.heads;
    let scanned = &answer.scanned;
    if form.json {
        let object = |values: &[Value]| heads.iter().cloned().zip(values.iter().cloned()).collect::<Map<_, _>>();
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
            let row = |row: &query::Found| {
                let mut shown = Map::new();
                form.insert(&mut shown, "key", &row.key);
                shown.insert("values".into(), object(&row.values).into());
                Value::from(shown)
            };
            shown["rows"] = answer.rows.iter().map(row).collect();
            shown["more"] = next.is_some().into();
            if let (Some(next), Some(shown)) = (next, shown.as_object_mut()) {
                form.insert(shown, "next_start", next);
            }
        }
        return print_json(&shown);
    }
    // Strings are shown without quotes in a table.
    let cell = |value: &Value| {
        show::cut(value.as_str().map_or_else(|| value.to_string(), |text| text::escape(text.as_bytes())))
    };
    let key = (!answer.aggregated).then_some("key");
    let names: Vec<&str> = key.into_iter().chain(heads.iter().map(String::as_str)).collect();
    let mut table = Table::with_names(&names);
    answer.groups.iter().for_each(|group| table.row(group.iter().map(cell).collect()));
    for row in &answer.rows {
        table.row(std::iter::once(form.text(&row.key)).chain(row.values.iter().map(cell)).collect());
    }
    table.print();
    let told = |n: u64, what: &str| if n == 0 { String::new() } else { format!(", {n} {what}") };
    let bad = told(scanned.not_json, "not JSON") + &told(scanned.too_long, "too long to parse");
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
