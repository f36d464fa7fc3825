//! Answers in the forms that PD gives them.
//!
//! Values come **in**; a status, a kind of content and bytes go **out**. **Never**: a change of these forms. `pd-ctl`
//! and other tools parse them: JSON is indented by two spaces and ends its line, except answers with regions, which are
//! compact and called octets; an error is a JSON string.

use serde::Serialize;
use serde_json::json;

use crate::pd::PdError;
use crate::proto::armilla::pd::PdHttpReply;
use crate::proto::armilla::pd::pd_http_reply::Content;
use crate::types::limits::PD_HTTP_ANSWER_BYTES_MAX;

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// What the body is.
    pub content: Content,
    /// The body.
    pub body: Vec<u8>,
}

/// The answer to a request: both sides are answers, the error side ends a handler early.
pub(super) type Answered = Result<Answer, Answer>;

impl Answer {
    /// Returns 200 with a JSON document.
    pub fn json(value: &impl Serialize) -> Answer {
        Answer::of(200, value)
    }

    /// Returns a JSON document.
    pub fn of(status: u16, value: &impl Serialize) -> Answer {
        match serde_json::to_vec_pretty(value) {
            Ok(mut body) => {
                body.push(b'\n');
                Answer { status, content: Content::Json, body }.bounded()
            }
            Err(error) => Answer::error(500, error),
        }
    }

    /// Returns 200 with a compact document, as PD does for regions.
    pub fn regions(value: &impl Serialize) -> Answer {
        match serde_json::to_vec(value) {
            Ok(body) => Answer { status: 200, content: Content::Octets, body }.bounded(),
            Err(error) => Answer::error(500, error),
        }
    }

    /// Returns 200 with a JSON string, the answer to a change.
    pub fn done(text: &str) -> Answer {
        Answer::of(200, &text)
    }

    /// Returns an error, a JSON string.
    pub fn error(status: u16, text: impl ToString) -> Answer {
        Answer::of(status, &text.to_string())
    }

    /// Returns the error for input that cannot be read.
    pub fn input(why: impl ToString) -> Answer {
        Answer::of(400, &Input { code: "input", msg: why.to_string(), data: json!({}) })
    }

    /// Returns the error for a body that is not JSON from the byte `offset` on.
    pub fn syntax(why: impl ToString, offset: usize) -> Answer {
        Answer::of(400, &Input { code: "input", msg: why.to_string(), data: json!({ "Offset": offset }) })
    }

    /// Returns the error for a call that PD has and Armilla does not have yet.
    pub fn unbuilt(why: &str) -> Answer {
        Answer::error(501, why)
    }

    /// Returns an answer that is plain text.
    pub fn text(text: &str) -> Answer {
        Answer { status: 200, content: Content::Text, body: text.as_bytes().to_vec() }
    }

    /// Returns the error for an unknown path.
    pub fn not_found() -> Answer {
        Answer { status: 404, content: Content::Text, body: b"404 page not found\n".to_vec() }
    }

    /// Returns the error for an address that is not percent-encoded correctly.
    pub fn bad_address() -> Answer {
        Answer { status: 400, content: Content::Text, body: b"400 Bad Request".to_vec() }
    }

    /// Returns the error for a method that the path does not have.
    pub fn not_allowed() -> Answer {
        Answer { status: 405, content: Content::None, body: Vec::new() }
    }

    /// Returns 200 without a body.
    pub fn empty() -> Answer {
        Answer { status: 200, content: Content::None, body: Vec::new() }
    }

    fn bounded(self) -> Answer {
        if self.body.len() <= PD_HTTP_ANSWER_BYTES_MAX {
            return self;
        }
        let why = format!(
            "the answer has {} bytes, at most {PD_HTTP_ANSWER_BYTES_MAX} are sent: ask for fewer regions (regions/key with a limit)",
            self.body.len()
        );
        Answer::error(500, why)
    }

    /// Returns the answer as a message between nodes.
    pub fn into_reply(self) -> PdHttpReply {
        let Answer { status, content, body } = self;
        PdHttpReply { status: u32::from(status), content: content as i32, body: body.into(), split: None }
    }
}

/// PD's form of an error in the input.
#[derive(Serialize)]
struct Input {
    code: &'static str,
    msg: String,
    data: serde_json::Value,
}

/// Returns the value of `Content-Type`.
pub(super) fn content_type(content: Content) -> &'static str {
    match content {
        Content::None => "",
        Content::Json => "application/json; charset=UTF-8",
        Content::Octets => "application/octet-stream",
        Content::Text => "text/plain; charset=utf-8",
    }
}

/// Returns PD's error for a cluster without stores and regions.
pub(super) fn not_bootstrapped() -> Answer {
    Answer::error(500, "[PD:cluster:ErrNotBootstrapped]TiKV cluster not bootstrapped, please start TiKV first")
}

/// Returns PD's error for an unknown store.
pub(super) fn store_not_found(status: u16, id: u64) -> Answer {
    Answer::error(status, format!("[PD:core:ErrStoreNotFound]store {id} not found"))
}

/// Returns PD's error for an unknown region.
pub(super) fn region_not_found(status: u16, id: u64) -> Answer {
    Answer::error(status, format!("[PD:region:ErrRegionNotFound]region {id} not found"))
}

/// Returns the answer for a refusal of the placement driver.
///
/// # Errors
/// Returns those errors that another member, or another attempt, may not have.
pub(super) fn refused(error: PdError) -> Result<Answer, PdError> {
    match error {
        PdError::Invalid(why) => Ok(Answer::error(500, why)),
        PdError::NotBootstrapped => Ok(not_bootstrapped()),
        PdError::NotLeader(_) | PdError::ClusterMismatch { .. } | PdError::Unavailable(_) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    //! Goal: the forms that PD's tools parse. Method: one answer of each form, byte by byte.

    use super::*;

    #[test]
    fn answers_have_pds_forms() {
        let text = |answer: &Answer| String::from_utf8(answer.body.clone()).unwrap();
        let json = Answer::json(&vec![1, 2]);
        assert_eq!((json.status, &text(&json)[..]), (200, "[\n  1,\n  2\n]\n"));
        assert_eq!(content_type(json.content), "application/json; charset=UTF-8");
        let regions = Answer::regions(&vec![1, 2]);
        assert_eq!((&text(&regions)[..], content_type(regions.content)), ("[1,2]", "application/octet-stream"));
        assert_eq!(text(&Answer::done("The \"x\".")), "\"The \\\"x\\\".\"\n");
        let input = Answer::input("no");
        assert_eq!(input.status, 400);
        assert_eq!(text(&input), "{\n  \"code\": \"input\",\n  \"msg\": \"no\",\n  \"data\": {}\n}\n");
        assert!(text(&Answer::syntax("no", 3)).contains("\"data\": {\n    \"Offset\": 3\n  }"));
        assert_eq!((Answer::not_found().status, content_type(Content::Text)), (404, "text/plain; charset=utf-8"));
        assert_eq!((Answer::not_allowed().status, content_type(Content::None)), (405, ""));
    }

    #[test]
    fn an_answer_that_is_too_long_says_so() {
        let long = Answer::regions(&"x".repeat(PD_HTTP_ANSWER_BYTES_MAX));
        assert_eq!(long.status, 500);
        assert!(String::from_utf8(long.body).unwrap().contains("ask for fewer regions"));
    }
}
