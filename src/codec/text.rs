//! Keys and values as text that people read, type and paste: one escape format that converts both ways.
//!
//! UTF-8 text is written as it is, except for characters that a terminal or a reader would not show: control and
//! formatting characters, and blanks at either end. Those, backslashes, and bytes that are not UTF-8 are escaped:
//!
//! ```text
//!   \n \r \t \\     a line feed, a carriage return, a tab, a backslash
//!   \xNN            the byte of two hexadecimal digits
//!   \mem{TEXT}      the memcomparable encoding of TEXT: the form of region boundaries in the key space
//! ```
//!
//! **Never**: bytes whose text does not convert back to the same bytes, or a backslash that stands for itself.

use bytes::{BufMut, Bytes, BytesMut};

use super::bytes::{decode, encode_into};
use crate::types::limits::TEXT_DEPTH_MAX;

/// Why a text is not a valid escaped form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EscapeError {
    /// A backslash that does not begin an escape sequence.
    #[error("`{0}` is not an escape sequence: write \\\\ for a backslash, \\xNN for a byte")]
    Unknown(String),
    /// `\x` without two hexadecimal digits.
    #[error("`{0}` is not a byte: write two hexadecimal digits after \\x")]
    Byte(String),
    /// `\mem{` without its closing brace.
    #[error("`{0}` has no closing brace: write \\mem{{TEXT}}, and a brace in TEXT as \\x7d")]
    Open(String),
}

/// Returns whether `c` is visible and needs no escape.
fn is_shown(c: char) -> bool {
    // Soft hyphen, zero-width and direction marks, separators, invisible operators, byte order mark, annotations, tags.
    let invisible = matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}');
    !c.is_control() && !invisible && c != '\\' && (c == ' ' || !c.is_whitespace())
}

/// Returns whether `bytes` are text that a terminal can show unescaped, possibly on several lines.
pub fn is_plain(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| text.chars().all(|c| matches!(c, '\n' | '\t' | '\\') || is_shown(c)))
}

/// Returns `bytes` as escaped text; [`unescape`] converts it back.
pub fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    let mut at = 0;
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            let at_an_end = at == 0 || at + c.len_utf8() == bytes.len();
            match c {
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\\' => out.push_str("\\\\"),
                ' ' if at_an_end => out.push_str("\\x20"),
                c if is_shown(c) => out.push(c),
                c => c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| push_byte(&mut out, byte)),
            }
            at += c.len_utf8();
        }
        chunk.invalid().iter().for_each(|byte| push_byte(&mut out, *byte));
        at += chunk.invalid().len();
    }
    out
}

fn push_byte(out: &mut String, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.push_str("\\x");
    out.push(char::from(DIGITS[usize::from(byte >> 4)]));
    out.push(char::from(DIGITS[usize::from(byte & 15)]));
}

/// Returns a region's boundary as text: `\mem{TEXT}` if it is the memcomparable encoding of TEXT, otherwise the result
/// of [`escape`]. [`unescape`] converts both back.
pub fn boundary(key: &[u8]) -> String {
    match decode(key) {
        Ok(plain) => format!("\\mem{{{}}}", escape(&plain).replace('}', "\\x7d")),
        Err(_) => escape(key),
    }
}

/// Converts text that [`escape`] or [`boundary`] made, or that a person typed, to bytes.
///
/// # Errors
/// Returns an [`EscapeError`] with the part that is not a valid escape sequence.
pub fn unescape(text: &str) -> Result<Bytes, EscapeError> {
    let mut out = BytesMut::with_capacity(text.len());
    unescape_into(&mut out, text, 0)?;
    Ok(out.freeze())
}

fn unescape_into(out: &mut BytesMut, text: &str, depth: usize) -> Result<(), EscapeError> {
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        out.put_slice(before.as_bytes());
        let shown = |chars: usize| format!("\\{}", after.chars().take(chars).collect::<String>());
        let simple = match after.bytes().next() {
            Some(b'n') => Some(b'\n'),
            Some(b'r') => Some(b'\r'),
            Some(b't') => Some(b'\t'),
            Some(b'0') => Some(0),
            Some(same @ (b'\\' | b'"' | b'\'')) => Some(same),
            _ => None,
        };
        if let Some(byte) = simple {
            out.put_u8(byte);
            rest = &after[1..];
        } else if after.starts_with('x') {
            let digits = after.get(1..3).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
            let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
            out.put_u8(byte.ok_or_else(|| EscapeError::Byte(shown(3)))?);
            rest = &after[3..];
        } else if let Some(inner) = after.strip_prefix("mem{").filter(|_| depth < TEXT_DEPTH_MAX) {
            let end = closing(inner).ok_or_else(|| EscapeError::Open(shown(12)))?;
            let mut plain = BytesMut::new();
            unescape_into(&mut plain, &inner[..end], depth + 1)?;
            encode_into(out, &plain);
            rest = &inner[end + 1..];
        } else {
            return Err(EscapeError::Unknown(shown(1)));
        }
    }
    out.put_slice(rest.as_bytes());
    Ok(())
}

/// Returns the position of the brace that closes a `\mem{` whose text begins with `inner`.
fn closing(inner: &str) -> Option<usize> {
    let bytes = inner.as_bytes();
    let (mut open, mut at) = (0, 0);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"\\mem{") {
            open += 1;
            at += 5;
            continue;
        }
        match bytes[at] {
            b'}' if open == 0 => return Some(at),
            b'}' => open -= 1,
            // An escaped character does not close anything.
            b'\\' => at += 1,
            _ => {}
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    //! Goal: text converts back to the same bytes, and errors say what to write instead. Method: examples, then random
    //! bytes chosen mostly from those that are escaped.

    use proptest::prelude::*;

    use super::*;
    use crate::codec::bytes::encode;

    #[test]
    fn text_stands_for_itself_and_the_rest_is_escaped() {
        for (bytes, text) in [
            (&b""[..], ""),
            ("plain ü, путь".as_bytes(), "plain ü, путь"),
            (b"{\"a\":\"b\"}", "{\"a\":\"b\"}"),
            (b"\x00\xffa\\", "\\x00\\xffa\\\\"),
            (b"line\nnext\r\t", "line\\nnext\\r\\t"),
            (b" a b ", "\\x20a b\\x20"),
            (b" ", "\\x20"),
            ("\u{202e}abc".as_bytes(), "\\xe2\\x80\\xaeabc"),
            ("ü\u{ff}".as_bytes(), "üÿ"),
            (b"\xc3", "\\xc3"),
        ] {
            assert_eq!(escape(bytes), text);
            assert_eq!(unescape(text).unwrap(), bytes);
        }
        assert_eq!(unescape("\\0\\\"\\'\\xFF").unwrap(), &b"\0\"'\xff"[..], "as other programs write them");
    }

    #[test]
    fn boundaries_are_shown_decoded_and_converted_back() {
        for (boundary_key, text) in [
            (Bytes::new(), "".to_owned()),
            (encode(b"user:7"), "\\mem{user:7}".to_owned()),
            (encode(b"a}\\"), "\\mem{a\\x7d\\\\}".to_owned()),
            (encode(b"\\mem{"), "\\mem{\\\\mem{}".to_owned()),
            (encode(&encode(b"twice")), "\\mem{twice\\x00\\x00\\x00\\xfc}".to_owned()),
            (Bytes::from_static(b"plain"), "plain".to_owned()),
        ] {
            assert_eq!(boundary(&boundary_key), text);
            assert_eq!(unescape(&text).unwrap(), boundary_key);
        }
        assert_eq!(unescape("\\mem{\\mem{a}}\\x00").unwrap(), [&encode(&encode(b"a"))[..], &[0]].concat());
    }

    #[test]
    fn what_is_no_escape_is_refused_with_what_to_write() {
        for (text, word) in [
            ("C:\\dir", "`\\d`"),
            ("\\x4", "`\\x4`"),
            ("\\xzz", "`\\xzz`"),
            ("a\\", "`\\`"),
            ("\\mem{a", "`\\mem{a`"),
            ("\\xü", "`\\xü`"),
        ] {
            let error = unescape(text).unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
        let deep = "\\mem{".repeat(10_000) + &"}".repeat(10_000);
        assert!(unescape(&deep).is_err(), "depth is bounded");
    }

    #[test]
    fn plain_text_may_have_lines() {
        assert!(is_plain("a\n\tb\\ ü ".as_bytes()) && is_plain(b""));
        assert!(!is_plain(b"\x1b[31m") && !is_plain(b"\xff") && !is_plain(b"a\rb"));
    }

    fn odd_bytes() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![
            Just(b'\\'),
            Just(b' '),
            Just(b'{'),
            Just(b'}'),
            Just(b'm'),
            Just(b'x'),
            Just(0u8),
            Just(0xff),
            Just(0xc3),
            Just(0xbc),
            Just(0xe2),
            Just(0x80),
            any::<u8>()
        ];
        proptest::collection::vec(byte, 0..24)
    }

    proptest! {
        #[test]
        fn bytes_come_back(bytes in odd_bytes()) {
            let text = escape(&bytes);
            prop_assert_eq!(&unescape(&text).unwrap()[..], &bytes[..]);
            prop_assert!(text.chars().all(|c| is_shown(c) || c == '\\'));
            prop_assert_eq!(&unescape(&boundary(&bytes)).unwrap()[..], &bytes[..]);
            let encoded = encode(&bytes);
            // A brace in the condition itself would be taken for a placeholder of the macro's format string.
            let opens = "\\mem{";
            prop_assert!(boundary(&encoded).starts_with(opens));
            prop_assert_eq!(unescape(&boundary(&encoded)).unwrap(), encoded);
        }
    }
}
