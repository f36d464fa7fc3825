//! Every limit, with the error that reports it.

use super::*;
use crate::types::limits::{
    QUERY_AGGREGATES_MAX, QUERY_DEPTH_MAX, QUERY_JSON_DEPTH_MAX, QUERY_LIST_MAX, QUERY_PAGE_BYTES_MAX,
    QUERY_PAGE_ROWS_MAX, QUERY_PATH_STEPS_MAX, QUERY_PATHS_MAX, QUERY_REQUEST_BYTES_MAX, QUERY_TERMS_MAX,
    QUERY_TEXT_BYTES_MAX, QUERY_VALUE_BYTES_MAX,
};

fn refused(query: Query, want: &str) {
    let error = Plan::new(query).expect_err(want);
    assert!(error.contains(want), "{error:?} does not say {want:?}");
}

fn filter(text: String) -> Query {
    Query { filter: Some(text), ..Query::default() }
}

fn counting(by: &str) -> Query {
    Query {
        aggregate: Some(vec![Aggregate::Count("*".into()), Aggregate::Max("$.m".into())]),
        group_by: Some(by.into()),
        ..Query::default()
    }
}

#[test]
fn a_request_is_bounded() {
    let fits = format!("{{{}}}", " ".repeat(QUERY_REQUEST_BYTES_MAX - 2));
    assert!(Plan::decode(fits.as_bytes()).is_ok());
    let error = Plan::decode(format!("{fits} ").as_bytes()).unwrap_err();
    assert!(error.contains("65537 bytes is over the limit of 65536"), "{error}");
    assert!(Plan::decode(b"\xff").unwrap_err().contains("not UTF-8"));

    let nested = |n| format!("{}$.a = 1{}", "(".repeat(n), ")".repeat(n));
    assert!(Plan::new(filter(nested(QUERY_DEPTH_MAX - 1))).is_ok());
    refused(filter(nested(QUERY_DEPTH_MAX)), "32 deep");
    refused(filter(format!("{} $.a = 1", "not ".repeat(100_000 / 4))), "32 deep");

    let terms = |n| vec!["$.a = 1"; n].join(" or ");
    assert!(Plan::new(filter(terms(QUERY_TERMS_MAX))).is_ok());
    refused(filter(terms(QUERY_TERMS_MAX + 1)), "more than 256 comparisons");

    let list = |n| format!("$.a in [{}]", vec!["1"; n].join(","));
    assert!(Plan::new(filter(list(QUERY_LIST_MAX))).is_ok());
    refused(filter(list(QUERY_LIST_MAX + 1)), "line 1, column 2057: more than 1024 values in one list");

    let paths = |n: usize| Some((0..n).map(|n| format!("$.p{n}")).collect());
    assert!(Plan::new(Query { select: paths(QUERY_PATHS_MAX), ..Query::default() }).is_ok());
    refused(Query { select: paths(QUERY_PATHS_MAX + 1), ..Query::default() }, "33 paths");

    let deep = |n| Query { select: Some(vec![format!("${}", ".a".repeat(n))]), ..Query::default() };
    assert!(Plan::new(deep(QUERY_PATH_STEPS_MAX)).is_ok());
    refused(deep(QUERY_PATH_STEPS_MAX + 1), "33 steps");

    let counts = |n| Query { aggregate: Some(vec![Aggregate::Count("*".into()); n]), ..Query::default() };
    assert!(Plan::new(counts(QUERY_AGGREGATES_MAX)).is_ok());
    refused(counts(QUERY_AGGREGATES_MAX + 1), "33 aggregates");

    for rows in [0, QUERY_PAGE_ROWS_MAX + 1] {
        refused(Query { page_rows: Some(rows), ..Query::default() }, "`page_rows`");
    }
}

#[test]
fn a_value_that_is_too_deep_is_no_json() {
    let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
    let data: Data =
        [("a", nested(QUERY_JSON_DEPTH_MAX)), ("b", nested(QUERY_JSON_DEPTH_MAX + 1)), ("c", nested(100_000))]
            .map(|(key, value)| (Bytes::from(key), Bytes::from(value)))
            .into();
    let (answer, _) = ask(&data, Query::default()).unwrap();
    assert_eq!((answer.matched, answer.scanned.not_json), (1, 2));
}

#[test]
fn readers_of_json_read_the_deepest_value() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let value = format!("{}0{}", open.repeat(QUERY_JSON_DEPTH_MAX), close.repeat(QUERY_JSON_DEPTH_MAX));
        let data = Data::from([("k".into(), value.into())]);
        let page = page(&data, b"{}", &Bytes::new()).unwrap();
        let read: serde_json::Value = serde_json::from_slice(&page).expect("a page that others read");
        assert_eq!(read["matched"], 1);
    }
}

#[test]
fn a_value_that_is_too_long_is_counted_and_given_back() {
    // The largest number of nodes that a value of this length can have.
    let dense = |bytes: usize| Bytes::from(format!("[{}1]{}", "1,".repeat(bytes / 2 - 2), " ".repeat(bytes % 2 + 1)));
    let fits = dense(QUERY_VALUE_BYTES_MAX);
    assert_eq!(fits.len(), QUERY_VALUE_BYTES_MAX);
    let long = dense(QUERY_VALUE_BYTES_MAX + 1);
    assert_eq!(long.len(), QUERY_VALUE_BYTES_MAX + 1);
    let data: Data = [("a".into(), fits.clone()), ("b".into(), long), ("c".into(), "{}".into())].into();
    let first = Query { select: Some(vec!["$[0]".into()]), ..Query::default() };
    let exists = Query { filter: Some("exists $".into()), ..first.clone() };
    for query in [first.clone(), exists] {
        let (answer, _) = ask(&data, query).unwrap();
        assert_eq!((answer.matched, answer.scanned.too_long, answer.scanned.not_json), (2, 1, 0));
    }
    let ruled_out = Query { filter: Some("$.rare = 1".into()), ..first.clone() };
    assert_eq!(ask(&data, ruled_out).unwrap().0.scanned.too_long, 0);

    let mut page = Page::new(Arc::new(Plan::new(first).unwrap()));
    page.push(b"a", &fits).unwrap();
    assert!(page.bytes() < 100_000, "the page keeps {} bytes", page.bytes());
}

#[test]
fn columns_are_memory_of_a_page() {
    let sums = |n| (0..n).map(|n| Aggregate::Sum(format!("$.p{n}"))).collect();
    let bytes = |n| {
        let query = Query { aggregate: Some(sums(n)), ..Query::default() };
        Page::new(Arc::new(Plan::new(query).unwrap())).bytes()
    };
    // At least 20 bytes per row and column.
    assert!(bytes(QUERY_AGGREGATES_MAX) - bytes(1) > 31 * 20 * 1024);
    let mut page = Page::new(Arc::new(Plan::new(filter("$.a != 'x'".into())).unwrap()));
    let empty = page.bytes();
    page.push(b"k", format!("{{\"a\":\"{}\"}}", "y".repeat(500_000)).as_bytes()).unwrap();
    assert!(page.bytes() > empty + 1_000_000, "the row waits, and its string is in a column");
}

#[test]
fn a_row_that_no_page_holds_is_named() {
    // Each number takes 19 bytes when written out, instead of 5.
    let value = |n: usize| Bytes::from(format!("{{\"a\":[{}0],\"b\":1}}", "1e15,".repeat(n)));
    let data: Data = [("k1".into(), value(10)), ("k2".into(), value(200_000))].into();
    let select = |paths: &[&str]| {
        let select = Some(paths.iter().map(|&path| path.to_owned()).collect());
        Query { select, ..Query::default() }
    };
    for paths in [&["$.a"][..], &["$", "$", "$", "$"], &["$.a"; QUERY_PATHS_MAX - 1]] {
        for filter in [None, Some("exists $.b".to_owned())] {
            let error = ask(&data, Query { filter, ..select(paths) }).unwrap_err();
            assert!(error.contains("at key k2") && error.contains("select less"), "{error}");
        }
        let mut page = Page::new(Arc::new(Plan::new(select(paths)).unwrap()));
        page.push(b"k2", &value(200_000)).unwrap_err();
        assert!(page.bytes() < 2 * QUERY_PAGE_BYTES_MAX, "{paths:?} took {} bytes", page.bytes());
    }
    assert_eq!(ask(&data, select(&["$.b"])).unwrap().0.matched, 2);
    assert_eq!(ask(&data, select(&["$"])).unwrap().0.matched, 2);
}

#[test]
fn writing_ends_at_its_limit() {
    let mut parser = json::Parser::new();
    for value in [format!("[{}0]", "1e15,".repeat(1000)), format!("[\"{}\",1]", "\\u0001".repeat(500))] {
        let mut out = Vec::new();
        let whole = parser.parse(value.as_bytes(), |nodes| json::write(nodes, 0, &mut out, usize::MAX)).unwrap();
        assert!(whole.is_some() && out.len() > 3000);
        let len = out.len();
        for (max, fits) in [(len, true), (len - 1, false), (100, false)] {
            out.clear();
            let end = parser.parse(value.as_bytes(), |nodes| json::write(nodes, 0, &mut out, max)).unwrap();
            assert_eq!(end.is_some(), fits, "at most {max} of {len}");
            assert!(fits || out.len() <= max + 20, "{} bytes, at most {max}", out.len());
        }
    }
}

#[test]
fn texts_of_groups_and_extremes_are_bounded() {
    let value = |n: usize| Bytes::from(format!("{{\"g\":\"{}\"}}", "x".repeat(n)));
    let data = |n| Data::from([(Bytes::from("k"), value(n))]);
    assert_eq!(ask(&data(QUERY_TEXT_BYTES_MAX), counting("$.g")).unwrap().0.groups.len(), 1);
    let error = ask(&data(QUERY_TEXT_BYTES_MAX + 1), counting("$.g")).unwrap_err();
    assert!(error.contains("key of a group") && error.contains("16385 bytes"), "{error}");
    for of in [Aggregate::Min, Aggregate::Max] {
        let query = |by: Option<&str>| Query {
            aggregate: Some(vec![of("$.g".to_owned())]),
            group_by: by.map(str::to_owned),
            ..Query::default()
        };
        for by in [None, Some("$.h")] {
            assert_eq!(ask(&data(QUERY_TEXT_BYTES_MAX), query(by)).unwrap().0.matched, 1);
            let error = ask(&data(QUERY_TEXT_BYTES_MAX + 1), query(by)).unwrap_err();
            assert!(error.contains("minimum or maximum"), "{error}");
        }
    }
}

#[test]
fn a_long_text_is_an_error_whatever_the_pages() {
    let long = |n: usize| format!("{{\"m\":\"{}\"}}", "x".repeat(n));
    let with = |middle: String| -> Data {
        [
            ("a", "{\"m\":1}".to_owned()),
            ("b", middle),
            ("c", "{\"m\":\"zz\"}".to_owned()),
            ("d", "{\"m\":\"a\"}".to_owned()),
        ]
        .map(|(key, value)| (key.into(), value.into()))
        .into()
    };
    for of in [Aggregate::Min, Aggregate::Max] {
        for by in [None, Some("$.g".to_owned())] {
            for page_rows in [1, 2, 3, 100] {
                let query = Query {
                    aggregate: Some(vec![of("$.m".to_owned())]),
                    group_by: by.clone(),
                    page_rows: Some(page_rows),
                    ..Query::default()
                };
                assert!(ask(&with(long(QUERY_TEXT_BYTES_MAX)), query.clone()).is_ok());
                let error = ask(&with(long(QUERY_TEXT_BYTES_MAX + 1)), query).unwrap_err();
                assert!(error.contains("minimum or maximum") && error.contains("16385 bytes"), "{error}");
            }
        }
    }
}

#[test]
fn an_extreme_that_changes_takes_no_more_of_a_page() {
    let value = |n: usize| Bytes::from(format!("{{\"m\":\"{n:03}{}\"}}", "x".repeat(10_000)));
    let data: Data = (0..300).map(|n| (Bytes::from(format!("k{n:03}")), value(n))).collect();
    let (answer, pages) = ask(&data, counting("$.g")).unwrap();
    assert_eq!((answer.matched, pages), (300, 1));
}

#[test]
fn expired_pairs_end_pages() {
    let plan = |page_rows| Query { page_rows: Some(page_rows), ..Query::default() };
    let mut page = Page::new(Arc::new(Plan::new(plan(3)).unwrap()));
    assert_eq!(
        (page.pass(b"a", 10), page.push(b"b", b"1").unwrap(), page.pass(b"c", 10)),
        (Room::More, Room::More, Room::Full)
    );
    let sent = String::from_utf8(page.finish().unwrap().to_vec()).unwrap();
    assert!(sent.contains("\"rows\":1,\"bytes\":2,") && sent.ends_with("\"next\":\"6300\"}"), "{sent}");
    let mut page = Page::new(Arc::new(Plan::new(plan(QUERY_PAGE_ROWS_MAX)).unwrap()));
    let passed = (0..).take_while(|n: &u32| page.pass(&n.to_be_bytes(), 1 << 20) == Room::More).count();
    assert_eq!(passed, 31, "32 MiB per page");
}

#[test]
fn a_limit_that_is_reached_leads_nowhere() {
    let data: Data = (0..9).map(|n| (Bytes::from(format!("k{n}")), Bytes::from("{\"a\":1}"))).collect();
    for filter in [None, Some("$.a = 1".to_owned())] {
        for (limit, rows, enough) in [(0, 0, true), (1, 1, true), (9, 9, true), (10, 9, false)] {
            let query = Query { filter: filter.clone(), limit: Some(limit), ..Query::default() };
            let request = serde_json::to_vec(&query).unwrap();
            let page: serde_json::Value =
                serde_json::from_slice(&page(&data, &request, &Bytes::new()).unwrap()).unwrap();
            assert_eq!((page["rows"].as_array().unwrap().len(), &page["enough"]), (rows, &enough.into()), "{limit}");
            assert_eq!(page["next"], serde_json::Value::Null);
        }
    }
    // The same number of rows of each region, which are asked at once.
    let query = Query { limit: Some(5), ..Query::default() };
    let mut merge = Merge::new(query).unwrap();
    let of_region = page(&data, &merge.request(), &Bytes::new()).unwrap();
    assert_eq!(merge.take(&of_region), Ok(Next::Enough));
    assert_eq!(merge.take(&of_region), Ok(Next::Enough));
    assert_eq!(Plan::decode(&merge.request()).map(|plan| plan.limit), Ok(0));
    let answer = merge.finish();
    assert_eq!((answer.rows.len(), answer.matched), (5, 5));
}

#[test]
fn groups_fill_pages_and_are_bounded_in_all() {
    // Every byte of these keys takes six bytes in a page.
    let group = |n: usize| Bytes::from(format!("{{\"g\":\"{}{n}\",\"m\":{n}}}", "\\u0001".repeat(8000)));
    let data: Data = (0..200).map(|n| (Bytes::from(format!("k{n:03}")), group(n % 150))).collect();
    let (answer, pages) = ask(&data, counting("$.g")).unwrap();
    assert!(pages > 1, "{pages} page(s)");
    assert_eq!((answer.groups.len(), answer.matched, answer.scanned.rows), (150, 200, 200));
    let rows: u64 = answer.groups.iter().map(|group| group[1].as_u64().unwrap()).sum();
    assert_eq!(rows, 200);

    let first = |max| {
        let mut merge = Merge::new(counting("$.m")).unwrap().with_groups_max(max);
        let page = page(&data, &merge.request(), &Bytes::new()).unwrap();
        merge.take(&page)
    };
    assert!(first(150).is_ok());
    assert!(first(149).unwrap_err().contains("more than 149 groups"));
}

#[test]
fn rows_fill_pages() {
    let value = Bytes::from(format!("{{\"a\":\"{}\"}}", "y".repeat(100_000)));
    let data: Data = (0..100).map(|n| (Bytes::from(format!("k{n:03}")), value.clone())).collect();
    for filter in [None, Some("exists $.a".to_owned())] {
        let (answer, pages) = ask(&data, Query { filter, ..Query::default() }).unwrap();
        assert!(pages >= 3, "{pages} pages for 10 MB");
        assert_eq!((answer.rows.len(), answer.matched, answer.scanned.rows), (100, 100, 100));
        let bytes: usize = data.iter().map(|(key, value)| key.len() + value.len()).sum();
        assert_eq!(answer.scanned.bytes, bytes as u64);
    }
}

#[test]
fn versions_are_matched() {
    for requirement in ["1", "1.0.0", "^1", "*", ">=0.9, <2", "~1.0"] {
        assert_eq!(check_version("json", requirement), Ok(()), "{requirement}");
    }
    for (name, requirement, want) in [
        ("jso", "1", "unknown coprocessor \"jso\": use \"json\", version 1.0.0"),
        ("json", "2", "version 1.0.0, which does not match ^2"),
        ("json", "", "not a version requirement"),
        ("json", "one", "not a version requirement"),
    ] {
        let error = check_version(name, requirement).unwrap_err();
        assert!(error.contains(want), "{error}");
    }
}

#[test]
fn errors_repeat_little_of_a_request() {
    let long = "x".repeat(30_000);
    let both = format!("{long}, expected {long}");
    for request in [
        format!("{{\"{long}\": 1}}"),
        format!("{{\"{both}\": 1}}"),
        format!("{{\"where\": [\"{long}\"]}}"),
        format!("{{\"limit\": \"{long}\"}}"),
        format!("{{\"aggregate\": [{{\"{long}\": \"$\"}}]}}"),
        format!("{{\"where\": \"$.{long}\"}}"),
        format!("{{\"where\": \"{long}\"}}"),
        format!("{{\"from\": \"{long}\"}}"),
    ] {
        let error = Plan::decode(request.as_bytes()).unwrap_err();
        assert!(error.len() < 800, "{} bytes: {}", error.len(), &error[..800]);
    }
    let error = Plan::decode(format!("{{\"{long}\": 1}}").as_bytes()).unwrap_err();
    assert!(error.contains(&format!("unknown field `{}…`, expected one of `where`", "x".repeat(64))), "{error}");
    let pre = format!(">=1.0.0-{long}, ");
    for (name, requirement) in [(&long[..], "1"), ("json", &long[..]), ("json", &format!("2, {}", pre.repeat(3)))] {
        let error = check_version(name, requirement).unwrap_err();
        assert!(error.len() < 300, "{} bytes: {}", error.len(), &error[..300]);
    }
}

#[test]
fn values_without_the_name_are_not_parsed() {
    let data: Data = [
        ("a", "{\"rare\":[1,2]}"),
        ("b", "{\"common\":3} broken"),
        ("c", "broken \\"),
        ("d", "{\"\\u0072are\":[2]}"),
        ("e", "broken \"rare\""),
    ]
    .map(|(key, value)| (key.into(), value.into()))
    .into();
    for (text, matched) in [
        ("exists $.rare", 2),
        ("exists $.rare[1]", 1),
        ("$.rare[0] >= 1", 2),
        ("$.rare[0] in [2, 'x']", 1),
        ("$.rare[1] != 3 and $.rare[0] < 2", 1),
        ("$.rare[1] = 2 or exists $.rarest", 1),
    ] {
        let (answer, _) = ask(&data, filter(text.to_owned())).unwrap();
        assert_eq!((answer.matched, answer.scanned.not_json), (matched, 2), "{text}");
    }
    for text in ["not exists $.rare", "exists $", "$[0] = 1", "exists $.rare or not $.rare = 1"] {
        let (answer, _) = ask(&data, filter(text.to_owned())).unwrap();
        assert_eq!(answer.scanned.not_json, 3, "{text}");
    }
}

#[test]
fn pages_of_another_query_are_refused() {
    let data = Data::from([(Bytes::from("k"), Bytes::from("{}"))]);
    let mut rows = Merge::new(Query::default()).unwrap();
    let mut groups = Merge::new(counting("$.g")).unwrap();
    let (of_rows, of_groups) = (rows.request(), groups.request());
    let page = |request| page(&data, request, &Bytes::new()).unwrap();
    assert!(rows.take(&page(&of_groups)).unwrap_err().contains("another query"));
    assert!(groups.take(&page(&of_rows)).unwrap_err().contains("another query"));
    let other = Query { aggregate: Some(vec![Aggregate::Sum("$.a".into())]), ..Query::default() };
    let other = Merge::new(other).unwrap().request();
    assert!(groups.take(&page(&other)).unwrap_err().contains("other aggregates"));
    assert!(rows.take(b"[").unwrap_err().contains("not JSON"));
}

#[test]
fn numbers_that_no_page_has_are_refused() {
    let scanned = |rows: u64| format!("\"scanned\":{{\"rows\":{rows},\"bytes\":1,\"not_json\":0,\"too_long\":0}}");
    let page = |values: &str, rows: u64, matched: u64| {
        let scanned = scanned(rows);
        format!(
            "{{\"groups\":[{{\"key\":1,\"values\":[{values}]}}],{scanned},\"matched\":{matched},\"enough\":false,\"next\":null}}"
        )
    };
    let count = |n: u64| format!("{{\"count\":{n}}}");
    let sum = |count: u64, int: i128, floats: u64| {
        format!("{{\"count\":{count},\"int\":\"{int}\",\"floats\":{floats},\"float\":\"0.5\"}}")
    };
    let most = u64::MAX;
    for (of, first, second) in [
        (Aggregate::Count("*".into()), page(&count(1), most, 1), page(&count(1), 1, 1)),
        (Aggregate::Count("*".into()), page(&count(1), 1, most), page(&count(1), 1, 1)),
        (Aggregate::Count("*".into()), page(&count(most), 1, 1), page(&count(1), 1, 1)),
        (Aggregate::Sum("$.a".into()), page(&sum(most, 1, 1), 1, 1), page(&sum(1, 1, 1), 1, 1)),
        (Aggregate::Sum("$.a".into()), page(&sum(1, i128::MAX, 1), 1, 1), page(&sum(1, 1, 1), 1, 1)),
        (Aggregate::Avg("$.a".into()), page(&sum(1, i128::MIN, 1), 1, 1), page(&sum(1, -1, 1), 1, 1)),
        (Aggregate::Avg("$.a".into()), page(&sum(1, 1, most), 1, 1), page(&sum(1, 1, 1), 1, 1)),
    ] {
        let query = Query { aggregate: Some(vec![of]), group_by: Some("$.g".into()), ..Query::default() };
        let mut merge = Merge::new(query).unwrap();
        assert_eq!(merge.take(first.as_bytes()), Ok(Next::Beyond));
        assert!(merge.take(second.as_bytes()).unwrap_err().contains("another query"), "{second}");
    }
    let mut merge = Merge::new(Query { limit: Some(3), ..Query::default() }).unwrap();
    let early = format!("{{\"rows\":[],{},\"matched\":0,\"enough\":true,\"next\":null}}", scanned(1));
    assert!(merge.take(early.as_bytes()).unwrap_err().contains("another query"), "the query asks for three rows");
}
