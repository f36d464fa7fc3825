//! The node that receives a request: what it passes on, what it answers itself, its limit.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;

use crate::proto::armilla::pd::pd_http_reply::Content;
use crate::proto::armilla::pd::{PdHttpReply, PdHttpRequest, PdHttpSplit};
use crate::rt::{HttpRequest, HttpResponse};
use crate::service::pd_http::{PdHttp, PdHttpPeers};
use crate::types::limits::PD_HTTP_RUNNING_MAX;
use crate::types::{Error, Result};

/// Answers as its reply says, and remembers what it was asked.
struct Leader {
    reply: Result<PdHttpReply>,
    asked: Mutex<Vec<PdHttpRequest>>,
}

impl PdHttpPeers for Leader {
    fn lead(&self, request: PdHttpRequest) -> BoxFuture<'_, Result<PdHttpReply>> {
        self.asked.lock().unwrap().push(request);
        std::future::ready(self.reply.clone()).boxed()
    }

    /// The key `x` cannot be made the start of a region, a region starts at `s` already.
    fn split(&self, keys: Vec<Bytes>) -> BoxFuture<'_, Vec<Result<Option<u64>>>> {
        let end = |key: Bytes| match &key[..] {
            b"x" => Err(Error::Io("no leader".into())),
            b"s" => Ok(None),
            _ => Ok(Some(key.len() as u64)),
        };
        std::future::ready(keys.into_iter().map(end).collect()).boxed()
    }
}

fn leader(reply: Result<PdHttpReply>) -> Arc<Leader> {
    Arc::new(Leader { reply, asked: Mutex::default() })
}

fn request(method: &str, path: &str) -> HttpRequest {
    HttpRequest { method: method.into(), path: path.into(), query: "a=b".into(), body: "{}".into() }
}

fn serve(http: &PdHttp, leader: &Arc<Leader>, request: HttpRequest) -> HttpResponse {
    http.serve(Some(leader.clone()), request).now_or_never().expect("nothing waits")
}

#[test]
fn a_request_is_passed_on_as_it_is() {
    let reply = PdHttpReply { status: 404, content: Content::Octets as i32, body: "found".into(), split: None };
    let (http, leader) = (PdHttp::default(), leader(Ok(reply)));
    let path = "/pd/api/v1/region/key/%FF+a%2F";
    let response = serve(&http, &leader, request("GET", path));
    assert_eq!(
        (response.status, response.content_type, &response.body[..]),
        (404, "application/octet-stream", &b"found"[..])
    );
    let asked = leader.asked.lock().unwrap().pop().unwrap();
    assert_eq!((&asked.path[..], &asked.query[..], &asked.body[..]), (path, "a=b", &b"{}"[..]));
}

#[test]
fn what_needs_no_leader_is_answered_here() {
    let (http, leader) = (PdHttp::default(), leader(Err(Error::Io("nobody leads".into()))));
    for (method, path, status) in [
        ("GET", "/pd/api/v1/nothing", 404),
        ("PUT", "/pd/api/v1/stores", 405),
        ("GET", "/pd/api/v1/trend", 501),
        ("GET", "/pd/api/v1/region/key/%f", 400),
        ("GET", "/pd/api/v1/ping", 200),
        ("GET", "/pd/elsewhere", 404),
    ] {
        assert_eq!(serve(&http, &leader, request(method, path)).status, status, "{method} {path}");
    }
    assert!(leader.asked.lock().unwrap().is_empty());
    let response = serve(&http, &leader, request("GET", "/pd/api/v1/stores"));
    assert!(response.status == 503 && response.body.windows(9).any(|text| text == b"no leader"), "{response:?}");
    let alone = http.serve(None, request("GET", "/pd/api/v1/stores")).now_or_never().unwrap();
    assert_eq!(alone.status, 503);
}

#[test]
fn splits_are_made_here() {
    let split = |keys: &[&'static str], by_operator: bool| {
        let split = PdHttpSplit {
            keys: keys.iter().map(|key| Bytes::from_static(key.as_bytes())).collect(),
            by_operator,
            is_answered: false,
        };
        let leader = leader(Ok(PdHttpReply { split: Some(split), ..PdHttpReply::default() }));
        let response = serve(&PdHttp::default(), &leader, request("POST", "/pd/api/v1/regions/split"));
        (response.status, String::from_utf8(response.body.to_vec()).unwrap())
    };
    let done = "{\n  \"processed-percentage\": 75,\n  \"regions-id\": [\n    2,\n    1\n  ]\n}\n";
    assert_eq!(split(&["aa", "x", "b", "s"], false), (200, done.into()));
    assert_eq!(split(&["aa"], true), (200, "\"The operator is created.\"\n".into()));
    let (status, why) = split(&["aa", "x"], true);
    assert!(status == 500 && why.contains("no leader"), "{why}");
}

#[test]
fn answers_that_nobody_reads_are_bounded() {
    let reply = PdHttpReply { status: 200, content: Content::Json as i32, body: "1".into(), split: None };
    let (http, leader) = (PdHttp::default(), leader(Ok(reply)));
    let ask = || serve(&http, &leader, request("GET", "/pd/api/v1/stores"));
    let mut kept: Vec<HttpResponse> = (0..PD_HTTP_RUNNING_MAX).map(|_| ask()).collect();
    assert!(kept.iter().all(|response| response.status == 200));
    assert_eq!(ask().status, 503);
    kept.pop();
    assert_eq!(ask().status, 200, "a body that was sent frees its place");
}

/// Goal: no request makes a node panic. Method: paths of the table and others, with random parts, queries and bodies.
#[test]
fn random_requests_are_answered() {
    use crate::rt::rng::Rng;
    use crate::service::pd_http::accept::{accept, split_keys};
    use crate::service::pd_http::request::{Request, parse_query};
    use crate::service::pd_http::routes::{self, Call};
    use crate::service::pd_http::{labels, tests::documents};

    const PARTS: &[&str] = &[
        "regions",
        "region",
        "key",
        "id",
        "stores",
        "store",
        "check",
        "sibling",
        "stats",
        "operators",
        "records",
        "config",
        "rules",
        "hist-size",
        "size",
        "limit=",
        "&",
        "=",
        "?",
        "%",
        "%00",
        "%ff",
        "+",
        "-1",
        "0",
        "7",
        "200",
        "abc",
        "18446744073709551615",
        "9223372036854775807",
        "-9223372036854775808",
        "bound=",
        "from=",
        "key=",
        "end_key=",
        "state=",
        "format=hex",
        "kind=",
        "object",
        "{",
        "}",
        "[",
        "]",
        "\"",
        ":",
        ",",
        "\"name\"",
        "\"transfer-leader\"",
        "\"region_id\"",
        "\"split-region\"",
        "\"keys\"",
        "\"policy\"",
        "\"usekey\"",
        "\"split_keys\"",
        "1e999",
        "-0.0",
        "null",
        "\u{e9}",
        "/",
        "/",
    ];
    let view = documents::view();
    let mut rng = Rng::new(11);
    let mut answered = 0;
    for _ in 0..20_000 {
        let mut text = |most: u64| -> String {
            (0..rng.below(most)).map(|_| PARTS[rng.below(PARTS.len() as u64) as usize]).collect()
        };
        let (path, query, body) = (format!("/pd/api/v1/{}", text(6)), text(8), text(12));
        let request = |params| Request { params, query: parse_query(&query), body: body.clone().into() };
        for method in ["GET", "POST", "DELETE"] {
            match routes::find(method, &path) {
                Ok((Call::Read(read) | Call::ReadCluster(read), params)) => {
                    let answer = read(&view, &request(params)).unwrap_or_else(|answer| answer);
                    assert!((200..=501).contains(&answer.status), "{path}?{query}");
                    answered += 1;
                }
                Ok(_) => {}
                Err(answer) => assert!(answer.status >= 400 || answer.status == 200, "{path}"),
            }
        }
        let request = request(vec![]);
        let _ = (labels::given(&request), labels::deleted(&request), split_keys(&request));
        let _ = request.object().map(|object| accept(&view, &object));
    }
    assert!(answered > 100, "{answered}");
}
