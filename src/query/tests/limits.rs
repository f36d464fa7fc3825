//! Every limit, with the error that names it.

use super::*;
use crate::types::limits::{
    QUERY_AGGREGATES_MAX, QUERY_DEPTH_MAX, QUERY_JSON_DEPTH_MAX, QUERY_PAGE_BYTES_MAX, QUERY_PAGE_ROWS_MAX,
    QUERY_PATH_STEPS_MAX, QUERY_PATHS_MAX, QUERY_REQUEST_BYTES_MAX, QUERY_TERMS_MAX, QUERY_TEXT_BYTES_MAX,
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
fn a_row_that_no_page_holds_is_named() {
    let value = |n: usize| Bytes::from(format!("{{\"a\":\"{}\",\"b\":1}}", "x".repeat(n)));
    let data: Data = [("k1".into(), value(10)), ("k2".into(), value(QUERY_PAGE_BYTES_MAX))].into();
    let error = ask(&data, Query::default()).unwrap_err();
    assert!(error.contains("at key k2") && error.contains("select less"), "{error}");
    let less = Query { select: Some(vec!["$.b".into()]), ..Query::default() };
    assert_eq!(ask(&data, less).unwrap().0.matched, 2);
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
fn groups_fill_pages_and_are_bounded_in_all() {
    // Keys whose every byte takes six in a page.
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
        ("jso", "1", "no coprocessor \"jso\": there is \"json\", version 1.0.0"),
        ("json", "2", "version 1.0.0, which ^2 does not take"),
        ("json", "", "no version requirement"),
        ("json", "one", "no version requirement"),
    ] {
        let error = check_version(name, requirement).unwrap_err();
        assert!(error.contains(want), "{error}");
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
