//! The same queries by a plain evaluator over serde_json's values: one row at a time, without columns, tapes, filters
//! or pages.

use std::cmp::Ordering;

use serde_json::{Value, json};

use super::*;
use crate::rt::rng::Rng;

/// A predicate of the plain evaluator. It is drawn in this form, and given to the module as text.
enum Test {
    And(Vec<Test>),
    Or(Vec<Test>),
    Not(Box<Test>),
    Exists(Vec<Value>),
    Compare(Vec<Value>, &'static str, Value),
    In(Vec<Value>, Vec<Value>),
    Prefix(Vec<Value>, String),
}

/// Field names, some of which need quotes.
const NAMES: [&str; 6] = ["a", "b", "tag", "d e", "n", "ü"];
const TEXTS: [&str; 11] = ["x", "xy", "y", "", "q\"uote", "back\\slash", "ünï", "line\nbreak", "x/y", "n", "tag"];

fn scalar(rng: &mut Rng) -> Value {
    match rng.below(12) {
        0 => Value::Null,
        1 => rng.chance(0.5).into(),
        2 => (*rng.pick(&[i64::MAX, i64::MIN, i64::MAX - 1, 1 << 53, (1 << 53) + 1])).into(),
        3 => (*rng.pick(&[0.5, 1.5, -2.5, 3.0, -0.0, 2f64.powi(70), 2f64.powi(63)])).into(),
        4 => u64::MAX.into(),
        5..=7 => (*rng.pick(&TEXTS)).into(),
        _ => (rng.below(6) as i64 - 2).into(),
    }
}

fn value(rng: &mut Rng, depth: u32) -> Value {
    match if depth == 0 { 9 } else { rng.below(10) } {
        0 | 1 => Value::Array((0..rng.below(4)).map(|_| value(rng, depth - 1)).collect()),
        2 | 3 => {
            let names: Vec<&str> = NAMES.into_iter().filter(|_| rng.chance(0.5)).collect();
            Value::Object(names.into_iter().map(|name| (name.to_owned(), value(rng, depth - 1))).collect())
        }
        _ => scalar(rng),
    }
}

fn row(rng: &mut Rng) -> Value {
    let names: Vec<&str> = NAMES.into_iter().filter(|_| rng.chance(0.7)).collect();
    Value::Object(names.into_iter().map(|name| (name.to_owned(), value(rng, 2))).collect())
}

/// Writes a JSON string, sometimes with needless escapes.
fn spell_text(text: &str, rng: &mut Rng, out: &mut String) {
    let odd = rng.chance(0.2);
    out.push('"');
    for c in text.chars() {
        match c {
            c if odd && rng.chance(0.5) => {
                let mut units = [0; 2];
                c.encode_utf16(&mut units).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
            }
            '"' | '\\' => out.extend(['\\', c]),
            '/' if odd => out.push_str("\\/"),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Writes the value as JSON, with the freedom that JSON allows: white space, escapes, an earlier field of the same
/// name.
fn spell(value: &Value, rng: &mut Rng, out: &mut String) {
    let space = |rng: &mut Rng, out: &mut String| out.push_str(if rng.chance(0.2) { " " } else { "" });
    match value {
        Value::String(text) => spell_text(text, rng, out),
        Value::Array(all) => {
            out.push('[');
            for (n, part) in all.iter().enumerate() {
                out.push_str(if n == 0 { "" } else { "," });
                space(rng, out);
                spell(part, rng, out);
            }
            out.push(']');
        }
        Value::Object(fields) => {
            out.push('{');
            let mut first = true;
            for (name, part) in fields {
                let decoy = if rng.chance(0.05) { Some(scalar(rng)) } else { None };
                for part in decoy.iter().chain([part]) {
                    out.push_str(if first { "" } else { "," });
                    first = false;
                    space(rng, out);
                    spell_text(name, rng, out);
                    space(rng, out);
                    out.push(':');
                    space(rng, out);
                    spell(part, rng, out);
                }
            }
            out.push('}');
        }
        plain => out.push_str(&plain.to_string()),
    }
}

fn path(rng: &mut Rng) -> Vec<Value> {
    let mut steps: Vec<Value> = vec![(*rng.pick(&NAMES)).into()];
    while rng.chance(0.3) {
        steps.push(if rng.chance(0.5) { rng.below(3).into() } else { (*rng.pick(&NAMES)).into() });
    }
    steps
}

fn path_text(path: &[Value]) -> String {
    let step = |step: &Value| match step {
        Value::String(name) if name.chars().all(char::is_alphanumeric) && name.len() % 2 == 1 => format!(".{name}"),
        step => format!("[{step}]"),
    };
    format!("${}", path.iter().map(step).collect::<String>())
}

fn test(rng: &mut Rng, depth: u32) -> Test {
    match if depth == 0 { 3 + rng.below(5) } else { rng.below(8) } {
        0 => Test::And((0..2 + rng.below(2)).map(|_| test(rng, depth - 1)).collect()),
        1 => Test::Or((0..2 + rng.below(2)).map(|_| test(rng, depth - 1)).collect()),
        2 => Test::Not(Box::new(test(rng, depth - 1))),
        3 => Test::Exists(path(rng)),
        4 => Test::In(path(rng), (0..rng.below(4)).map(|_| scalar(rng)).collect()),
        5 => Test::Prefix(path(rng), (*rng.pick(&["", "x", "q\"", "ü", "back\\"])).to_owned()),
        _ => {
            let literal = scalar(rng);
            let operators: &[&'static str] = match &literal {
                Value::Null => &["="],
                Value::Bool(_) => &["=", "!="],
                _ => &["=", "!=", "<", "<=", ">", ">=", "="],
            };
            let operator: &&str = rng.pick(operators);
            Test::Compare(path(rng), operator, literal)
        }
    }
}

impl Test {
    fn text(&self) -> String {
        let join = |parts: &[Test], word: &str| {
            let parts: Vec<String> = parts.iter().map(|part| format!("({})", part.text())).collect();
            parts.join(word)
        };
        match self {
            Test::And(parts) => join(parts, " and "),
            Test::Or(parts) => join(parts, " OR "),
            Test::Not(part) => format!("not ({})", part.text()),
            Test::Exists(path) => format!("exists {}", path_text(path)),
            Test::Compare(path, operator, literal) => format!("{}{operator}{literal}", path_text(path)),
            Test::In(path, literals) => format!("{} in {}", path_text(path), Value::from(literals.clone())),
            Test::Prefix(path, text) => format!("{} prefix {}", path_text(path), Value::from(text.as_str())),
        }
    }

    fn holds(&self, row: &Value) -> bool {
        match self {
            Test::And(parts) => parts.iter().all(|part| part.holds(row)),
            Test::Or(parts) => parts.iter().any(|part| part.holds(row)),
            Test::Not(part) => !part.holds(row),
            Test::Exists(path) => find(row, path).is_some(),
            Test::Compare(path, operator, literal) => {
                let order = find(row, path).and_then(|value| order(value, literal));
                order.is_some_and(|order| match *operator {
                    "=" => order.is_eq(),
                    "!=" => order.is_ne(),
                    "<" => order.is_lt(),
                    "<=" => order.is_le(),
                    ">" => order.is_gt(),
                    _ => order.is_ge(),
                })
            }
            Test::In(path, literals) => find(row, path)
                .is_some_and(|value| literals.iter().any(|literal| order(value, literal) == Some(Ordering::Equal))),
            Test::Prefix(path, text) => {
                find(row, path).and_then(Value::as_str).is_some_and(|value| value.starts_with(text))
            }
        }
    }
}

fn find<'a>(row: &'a Value, path: &[Value]) -> Option<&'a Value> {
    path.iter().try_fold(row, |at, step| match step {
        Value::String(name) => at.as_object()?.get(name),
        step => at.as_array()?.get(step.as_u64()? as usize),
    })
}

/// Returns a number by its value: the whole part and the fraction, exactly.
fn number(value: &Value) -> Option<(i128, f64)> {
    match (value.as_i64(), value.as_f64()) {
        (Some(int), _) if value.is_number() => Some((i128::from(int), 0.0)),
        (_, Some(float)) => Some((float.floor() as i128, float - float.floor())),
        _ => None,
    }
}

/// Compares two values of the same type. Returns `None` if their types differ.
fn order(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::Null, Value::Null) => Some(Ordering::Equal),
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (Value::Number(_), Value::Number(_)) => number(a)?.partial_cmp(&number(b)?),
        _ => None,
    }
}

fn is_int(value: &Value) -> Option<i64> {
    let (whole, rest) = number(value)?;
    (rest == 0.0).then(|| i64::try_from(whole).ok()).flatten()
}

/// Returns the number in the form in which the module shows it.
fn canonical(value: &Value) -> Value {
    match value {
        Value::Number(_) => is_int(value).map_or_else(|| value.as_f64().unwrap().into(), Value::from),
        other => other.clone(),
    }
}

/// Computes one aggregate over values, without the missing ones.
fn compute(function: usize, rows: u64, values: Option<Vec<&Value>>) -> Value {
    let Some(values) = values else { return rows.into() };
    let numbers: Vec<&Value> = values.iter().copied().filter(|value| value.is_number()).collect();
    let ints: i128 = numbers.iter().filter_map(|value| is_int(value)).map(i128::from).sum();
    let floats: Vec<f64> =
        numbers.iter().filter(|value| is_int(value).is_none()).map(|value| value.as_f64().unwrap()).collect();
    let float: f64 = floats.iter().fold(0.0, |sum, value| sum + value);
    // Numbers are smaller than strings.
    let rank = |value: &Value| u8::from(value.is_string());
    let mut scalars: Vec<&Value> =
        values.iter().copied().filter(|value| value.is_number() || value.is_string()).collect();
    scalars.sort_by(|a, b| rank(a).cmp(&rank(b)).then_with(|| order(a, b).unwrap()));
    let shown = |value: Option<&&Value>| value.map_or(Value::Null, |value| canonical(value));
    match function {
        0 => values.iter().filter(|value| !value.is_null()).count().into(),
        1 if floats.is_empty() && i64::try_from(ints).is_ok() => (ints as i64).into(),
        1 => (ints as f64 + float).into(),
        2 if numbers.is_empty() => Value::Null,
        2 => ((ints as f64 + float) / numbers.len() as f64).into(),
        3 => shown(scalars.first()),
        _ => shown(scalars.last()),
    }
}

/// Returns the groups in the module's order, each with its rows.
fn grouped<'a>(rows: Vec<&'a Value>, by: &[Value]) -> Vec<(Value, Vec<&'a Value>)> {
    let mut groups: Vec<(Value, Vec<&Value>)> = Vec::new();
    for row in rows {
        let key = find(row, by).map_or(Value::Null, |value| match value {
            Value::Array(_) | Value::Object(_) => Value::Null,
            scalar => canonical(scalar),
        });
        match groups.iter_mut().find(|(known, _)| order(known, &key) == Some(Ordering::Equal)) {
            Some((_, rows)) => rows.push(row),
            None => groups.push((key, vec![row])),
        }
    }
    let rank = |value: &Value| match value {
        Value::Null => 0,
        Value::Bool(_) => 1,
        Value::Number(_) => 2,
        _ => 3,
    };
    groups.sort_by(|(a, _), (b, _)| rank(a).cmp(&rank(b)).then_with(|| order(a, b).unwrap()));
    groups
}

fn case(seed: u64, rows: u64) {
    let mut rng = Rng::fork(seed, "query");
    let rng = &mut rng;
    let mut data = Data::new();
    let mut plain: Vec<(Bytes, Value)> = Vec::new();
    let mut broken = 0;
    for n in 0..rows {
        let key = Bytes::from(format!("k{n:05}"));
        let row = if rng.chance(0.9) { row(rng) } else { value(rng, 1) };
        let mut text = String::new();
        spell(&row, rng, &mut text);
        if rng.chance(0.05) {
            text = rng.pick(&["", "nope", "{", "{\"a\":1} x", "{\"a\":1,}", "\"x", "[1"]).to_string();
            broken += 1;
        } else {
            plain.push((key.clone(), row));
        }
        data.insert(key, text.into());
    }
    let test = test(rng, 3);
    let text = test.text();
    let page_rows = Some(if rng.chance(0.5) { 1 + rng.below(7) } else { 1 + rng.below(2000) });
    let filter = rng.chance(0.9).then(|| text.clone());
    let kept: Vec<&(Bytes, Value)> = plain.iter().filter(|(_, row)| filter.is_none() || test.holds(row)).collect();

    // Rows.
    let paths: Vec<Vec<Value>> = (0..1 + rng.below(3)).map(|_| path(rng)).collect();
    let limit = rng.chance(0.3).then(|| rng.below(20));
    let query = Query {
        filter: filter.clone(),
        select: Some(paths.iter().map(|path| path_text(path)).collect()),
        limit,
        page_rows,
        ..Query::default()
    };
    let (answer, _) = ask(&data, query).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    let want: Vec<Found> = kept
        .iter()
        .take(limit.map_or(usize::MAX, |limit| limit as usize))
        .map(|(key, row)| Found {
            key: key.clone(),
            values: paths.iter().map(|path| find(row, path).cloned().unwrap_or_default()).collect(),
        })
        .collect();
    assert_eq!(answer.rows, want, "seed {seed}: {text}");
    assert_eq!(answer.matched, want.len() as u64, "seed {seed}: {text}");
    if limit.is_none() {
        assert_eq!(answer.scanned.rows, rows, "seed {seed}: {text}");
        // Values that the byte filter rules out are not parsed.
        assert!(answer.scanned.not_json <= broken, "seed {seed}: {text}");
    }

    // Aggregates.
    let functions = [Aggregate::Count, Aggregate::Sum, Aggregate::Avg, Aggregate::Min, Aggregate::Max];
    let asked: Vec<(usize, Option<Vec<Value>>)> = (0..1 + rng.below(5))
        .map(|_| {
            let function = rng.below(5) as usize;
            (function, if function == 0 && rng.chance(0.5) { None } else { Some(path(rng)) })
        })
        .collect();
    let by = rng.chance(0.6).then(|| path(rng));
    let aggregate = |(function, path): &(usize, Option<Vec<Value>>)| {
        functions[*function](path.as_ref().map_or("*".to_owned(), |path| path_text(path)))
    };
    let query = Query {
        filter: filter.clone(),
        aggregate: Some(asked.iter().map(aggregate).collect()),
        group_by: by.as_deref().map(path_text),
        page_rows,
        ..Query::default()
    };
    let (answer, _) = ask(&data, query).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    let kept: Vec<&Value> = kept.iter().map(|(_, row)| row).collect();
    let groups = match &by {
        Some(by) => grouped(kept, by),
        None => vec![(Value::Null, kept)],
    };
    let want: Vec<Vec<Value>> = groups
        .into_iter()
        .map(|(key, rows)| {
            let values = asked.iter().map(|(function, path)| {
                let values = path.as_ref().map(|path| rows.iter().filter_map(|row| find(row, path)).collect());
                compute(*function, rows.len() as u64, values)
            });
            by.iter().map(|_| key.clone()).chain(values).collect()
        })
        .collect();
    assert_eq!(answer.groups, want, "seed {seed}: {text}");
    if filter.is_none() {
        assert_eq!(answer.scanned.not_json, broken, "seed {seed}");
    }
}

#[test]
fn a_plain_evaluator_says_the_same() {
    (0..1500).for_each(|seed| case(seed, 20));
}

#[test]
fn a_plain_evaluator_says_the_same_over_many_chunks() {
    (0..25).for_each(|seed| case(10_000 + seed, 2_600));
}

#[test]
fn a_sum_has_the_same_bits_in_the_same_pages() {
    let number = |n: u64| (n as f64 * 0.1 + 1.0 / (n + 1) as f64) * if n.is_multiple_of(3) { 1e10 } else { 1e-5 };
    let data: Data = (0..3000)
        .map(|n| (Bytes::from(format!("k{n:05}")), Bytes::from(json!({ "n": number(n), "g": n % 7 }).to_string())))
        .collect();
    let sum = |page_rows, by: Option<&str>| {
        let query = Query {
            aggregate: Some(vec![Aggregate::Sum("$.n".into())]),
            group_by: by.map(str::to_owned),
            page_rows: Some(page_rows),
            ..Query::default()
        };
        let groups = ask(&data, query).unwrap().0.groups;
        groups.iter().map(|group| group.last().unwrap().as_f64().unwrap().to_bits()).collect::<Vec<_>>()
    };
    // The order that the module's page promises, written out. Integers are added separately.
    let apart = |n: u64| if number(n).fract() == 0.0 { (number(n), 0.0) } else { (0.0, number(n)) };
    let ints = |numbers: &mut dyn Iterator<Item = u64>| numbers.map(|n| apart(n).0 as i64).sum::<i64>() as f64;
    let mut l = [0f64; 8];
    (0..3000u64).for_each(|n| l[(n % 1024 % 8) as usize] += apart(n).1);
    let total = ints(&mut (0..3000)) + (((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7])));
    assert_eq!(sum(3000, None), [total.to_bits()]);
    let of = |g: u64| (0..3000u64).filter(move |n| n % 7 == g);
    let in_order = |g: u64| ints(&mut of(g)) + of(g).fold(0.0, |sum, n| sum + apart(n).1);
    assert_eq!(sum(3000, Some("$.g")), (0..7).map(|g| in_order(g).to_bits()).collect::<Vec<_>>());
    assert_eq!(sum(100, None), sum(100, None));
    let near = f64::from_bits(sum(100, None)[0]);
    assert!((near - total).abs() <= total.abs() * 1e-12);
}
