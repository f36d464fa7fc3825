//! A request, taken apart.
//!
//! The address and the body come **in** as they were received; raw bytes of parameters, and JSON, go **out**.
//! **Never**: a key that was decoded twice, or as text: keys are any bytes.

use bytes::Bytes;
use serde_json::{Map, Value};

use super::answer::Answer;
use super::text;

/// A request whose path is known.
#[derive(Clone, Debug, Default)]
pub(super) struct Request {
    /// The variable parts of the path, decoded.
    pub params: Vec<Bytes>,
    /// The parameters of the query, decoded.
    pub query: Vec<(Bytes, Bytes)>,
    /// The body.
    pub body: Bytes,
}

impl Request {
    /// Returns a variable part of the path; empty if there are fewer.
    pub fn param(&self, at: usize) -> &[u8] {
        self.params.get(at).map_or(&[], |param| param)
    }

    /// Returns a variable part of the path as text.
    pub fn name(&self, at: usize) -> String {
        String::from_utf8_lossy(self.param(at)).into_owned()
    }

    /// Returns all parameters of the query with this name.
    pub fn queries(&self, name: &str) -> impl Iterator<Item = &Bytes> {
        self.query.iter().filter(move |(other, _)| *other == name.as_bytes()).map(|(_, value)| value)
    }

    /// Returns the first parameter of the query with this name.
    pub fn query(&self, name: &str) -> Option<&Bytes> {
        self.queries(name).next()
    }

    /// Returns a parameter of the query; empty if it is absent.
    pub fn query_or_empty(&self, name: &str) -> Bytes {
        self.query(name).cloned().unwrap_or_default()
    }

    /// Returns the first part of the path as an ID, which PD reports as bad input if it is none.
    ///
    /// # Errors
    /// Returns PD's answer.
    pub fn store_id(&self) -> Result<u64, Answer> {
        text::parse_uint(self.param(0)).map_err(Answer::input)
    }

    /// Returns the first part of the path as an ID, for calls in which PD reports only the sentence if it is none.
    ///
    /// # Errors
    /// Returns PD's answer.
    pub fn region_id(&self) -> Result<u64, Answer> {
        text::parse_uint(self.param(0)).map_err(|why| Answer::error(400, why))
    }

    /// Returns the first part of the path as a number, for calls in which PD reads it so.
    ///
    /// # Errors
    /// Returns PD's answer.
    pub fn number(&self) -> Result<u64, Answer> {
        let number = text::parse_int(self.param(0)).map_err(|why| Answer::error(400, why))?;
        Ok(u64::try_from(number).unwrap_or(0))
    }

    /// Returns a number of the query, or `default` if it is absent.
    ///
    /// # Errors
    /// Returns PD's answer.
    pub fn number_of(&self, name: &str, default: i64) -> Result<i64, Answer> {
        match self.query(name) {
            None => Ok(default),
            Some(value) if value.is_empty() => Ok(default),
            Some(value) => text::parse_int(value).map_err(|why| Answer::error(400, why)),
        }
    }

    /// Reads the body as a JSON object.
    ///
    /// # Errors
    /// Returns PD's answer.
    pub fn object(&self) -> Result<Map<String, Value>, Answer> {
        self.object_of("interface {}")
    }

    /// Reads the body as a JSON object, whose values PD calls `values`.
    ///
    /// # Errors
    /// Returns PD's answer.
    pub fn object_of(&self, values: &str) -> Result<Map<String, Value>, Answer> {
        match self.json()? {
            Value::Object(object) => Ok(object),
            Value::Null => Ok(Map::new()),
            other => Err(mistyped(&other, &format!("map[string]{values}"))),
        }
    }

    /// Reads the body as JSON.
    ///
    /// # Errors
    /// Returns PD's answer.
    pub fn json(&self) -> Result<Value, Answer> {
        let start = self.body.iter().position(|byte| !byte.is_ascii_whitespace());
        let Some(start) = start else { return Err(Answer::syntax("unexpected end of JSON input", 0)) };
        serde_json::from_slice(&self.body).map_err(|error| {
            let first = char::from(self.body[start]);
            if !matches!(first, '{' | '[' | '"' | '-' | '0'..='9' | 't' | 'f' | 'n') {
                let why = format!("invalid character {first:?} looking for beginning of value");
                return Answer::syntax(why, start + 1);
            }
            let why = if error.is_eof() { "unexpected end of JSON input".to_owned() } else { error.to_string() };
            Answer::syntax(why, error.column())
        })
    }
}

/// Returns PD's error for JSON of another type than `wanted`.
pub(super) fn mistyped(value: &Value, wanted: &str) -> Answer {
    let kind = match value {
        Value::Array(_) => "array",
        Value::String(_) => "string",
        Value::Number(_) => "number",
        Value::Bool(_) => "bool",
        Value::Object(_) => "object",
        Value::Null => "null",
    };
    Answer::input(format!("json: cannot unmarshal {kind} into Go value of type {wanted}"))
}

/// Returns an ID in a body: a number, as PD reads it.
pub(super) fn id_in(object: &Map<String, Value>, name: &str) -> Option<u64> {
    let value = object.get(name)?;
    // As PD, which reads every number as a float.
    value.as_u64().or_else(|| value.as_f64().filter(|number| *number >= 0.0).map(|number| number as u64))
}

/// Decodes `%xx`, and `+` as a space if `plus` says so. Returns `None` if a `%` is not followed by two hex digits.
pub(super) fn percent_decoded(text: &[u8], plus: bool) -> Option<Bytes> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'%' => {
                let (pair, after) = rest.split_at_checked(2)?;
                decoded.extend(text::parse_hex(pair).ok()?);
                rest = after;
            }
            b'+' if plus => decoded.push(b' '),
            other => decoded.push(*other),
        }
    }
    Some(decoded.into())
}

/// Returns the parameters of a query. As PD does, leaves out those that are not encoded correctly.
pub(super) fn parse_query(query: &str) -> Vec<(Bytes, Bytes)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty() && !pair.contains(';'));
    let decoded = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Some((percent_decoded(name.as_bytes(), true)?, percent_decoded(value.as_bytes(), true)?))
    };
    pairs.filter_map(decoded).collect()
}

#[cfg(test)]
mod tests {
    //! Goal: keys of any bytes arrive as they were sent; what cannot be read gets PD's answer. Method: encoded texts
    //! and bodies, some of them broken.

    use super::*;

    #[test]
    fn percent_signs_are_decoded_once() {
        let decoded = |text: &str| percent_decoded(text.as_bytes(), false);
        assert_eq!(decoded("rk6%00%00%FA").unwrap(), &b"rk6\x00\x00\xfa"[..]);
        assert_eq!(decoded("a%2Fb%2525+").unwrap(), "a/b%25+");
        assert_eq!(decoded("").unwrap(), "");
        for broken in ["%", "%1", "%zz", "a%4", "%%41"] {
            assert_eq!(decoded(broken), None, "{broken}");
        }
        assert_eq!(percent_decoded(b"a+b%2B", true).unwrap(), "a b+");
        for byte in 0..=u8::MAX {
            assert_eq!(decoded(&format!("%{byte:02x}")).unwrap(), vec![byte]);
        }
    }

    #[test]
    fn a_query_loses_only_its_broken_parts() {
        let query = parse_query("key=%zz&end_key=%FF%00&limit=&&flag&a;b=1&limit=2");
        let names: Vec<&[u8]> = query.iter().map(|(name, _)| &name[..]).collect();
        assert_eq!(names, [&b"end_key"[..], b"limit", b"flag", b"limit"]);
        let request = Request { query, ..Request::default() };
        assert_eq!(request.query_or_empty("end_key"), &b"\xff\x00"[..]);
        assert_eq!(request.number_of("limit", 16).unwrap(), 16);
        assert!(request.query("flag").is_some() && request.query("key").is_none());
    }

    #[test]
    fn bodies_are_objects() {
        let object = |body: &'static str| Request { body: body.into(), ..Request::default() }.object();
        assert_eq!(id_in(&object(r#"{"region_id": 7}"#).unwrap(), "region_id"), Some(7));
        let wrong = object(r#"{"a": "7", "b": -1, "c": 7.9, "d": null, "e": 1e300}"#).unwrap();
        let ids = ["a", "b", "c", "d", "e", "f"].map(|name| id_in(&wrong, name));
        assert_eq!(ids, [None, None, Some(7), None, Some(u64::MAX), None]);
        for (body, text) in [
            ("x", "invalid character 'x' looking for beginning of value"),
            ("", "unexpected end of JSON input"),
            ("  ", "unexpected end of JSON input"),
            ("{", "unexpected end of JSON input"),
            ("[]", "cannot unmarshal array into Go value of type map[string]interface {}"),
            ("{]", "line 1"),
        ] {
            let refused = object(body).unwrap_err();
            let shown = String::from_utf8(refused.body).unwrap();
            assert!(refused.status == 400 && shown.contains(text) && shown.contains("\"input\""), "{body}: {shown}");
        }
        let deep = Request { body: "[".repeat(100_000).into(), ..Request::default() };
        assert_eq!(deep.object().unwrap_err().status, 400, "no overflow of the stack");
    }
}
