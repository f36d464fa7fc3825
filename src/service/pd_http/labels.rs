//! Labels in the bodies of requests.
//!
//! A body comes **in**, labels go **out**. **Never**: a label that PD would not take, as tools that read it expect.

use serde_json::Value;

use super::answer::Answer;
use super::request::{Request, mistyped};
use crate::proto::metapb::StoreLabel;

/// The forms of keys and values, as PD's errors show them.
const KEY: &str = "^[$]?[A-Za-z0-9]([-A-Za-z0-9_./]*[A-Za-z0-9])?$";
const VALUE: &str = "^[-A-Za-z0-9_./]*$";

fn is_inner(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_./".contains(&byte)
}

/// Returns whether a text has the form [`KEY`].
fn is_key(text: &str) -> bool {
    let text = text.strip_prefix('$').unwrap_or(text).as_bytes();
    let (Some(first), Some(last)) = (text.first(), text.last()) else { return false };
    first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() && text.iter().all(|byte| is_inner(*byte))
}

fn misformed(text: &str, form: &str) -> Answer {
    Answer::input(misfit(text, form))
}

fn misfit(text: &str, form: &str) -> String {
    format!("{text} does not match format {form:?}")
}

/// Returns why a text cannot be the key of a label, if it cannot.
pub(super) fn wrong_name(text: &str) -> Option<String> {
    (!is_key(text)).then(|| misfit(text, KEY))
}

/// Returns the labels of `POST /store/S/label`: `{"zone": "z1"}`.
///
/// # Errors
/// Returns PD's answer.
pub(super) fn given(request: &Request) -> Result<Vec<StoreLabel>, Answer> {
    let label = |(key, value): (String, Value)| {
        let Value::String(value) = value else { return Err(mistyped(&value, "string")) };
        if !is_key(&key) {
            return Err(misformed(&key, KEY));
        }
        if !value.bytes().all(is_inner) {
            return Err(misformed(&value, VALUE));
        }
        Ok(StoreLabel { key, value })
    };
    request.object_of("string")?.into_iter().map(label).collect()
}

/// Returns the key of `DELETE /store/S/label`: `"zone"`.
///
/// # Errors
/// Returns PD's answer.
pub(super) fn deleted(request: &Request) -> Result<String, Answer> {
    match request.json()? {
        Value::String(key) if is_key(&key) => Ok(key),
        Value::String(key) => Err(misformed(&key, KEY)),
        other => Err(mistyped(&other, "string")),
    }
}

#[cfg(test)]
mod tests {
    //! Goal: PD's forms. Method: texts inside and outside of them.

    use super::*;

    fn body(text: &str) -> Request {
        Request { body: text.to_owned().into(), ..Request::default() }
    }

    #[test]
    fn labels_have_pds_forms() {
        let labels = given(&body(r#"{"zone":"z1","$mode":"","a.b/c-d_e":"-"}"#)).unwrap();
        let shown: Vec<_> = labels.iter().map(|label| (&label.key[..], &label.value[..])).collect();
        assert_eq!(shown, [("$mode", ""), ("a.b/c-d_e", "-"), ("zone", "z1")]);
        for (wrong, why) in [
            (r#"{"zo ne":"a"}"#, r#"zo ne does not match format \"^[$]?[A-Za-z0-9]([-A-Za-z0-9_./]*[A-Za-z0-9])?$\""#),
            (r#"{"":"a"}"#, "does not match format"),
            (r#"{"-a":"a"}"#, "-a does not match format"),
            (r#"{"a-":"a"}"#, "a- does not match format"),
            (r#"{"a":"b c"}"#, r#"b c does not match format \"^[-A-Za-z0-9_./]*$\""#),
            (r#"{"a":1}"#, "Go value of type string"),
            ("x", "invalid character 'x'"),
        ] {
            let refused = given(&body(wrong)).unwrap_err();
            let shown = String::from_utf8(refused.body).unwrap();
            assert!(refused.status == 400 && shown.contains(why), "{wrong}: {shown}");
        }
        assert_eq!(deleted(&body("\"zone\"")).unwrap(), "zone");
        for wrong in ["\"zo ne\"", "{}", "7", "x", "", "\"\\xff\""] {
            assert_eq!(deleted(&body(wrong)).unwrap_err().status, 400, "{wrong}");
        }
    }
}
