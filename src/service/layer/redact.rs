//! Keys and values in logs: only their lengths, unless the operator asked to see them.

use crate::types::limits::LOGGED_BYTES_MAX;
use std::fmt;

/// Whether logs may show clients' data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Redact {
    /// Show only lengths.
    #[default]
    Hide,
    /// Show the bytes, escaped.
    Show,
}

impl Redact {
    /// Returns `key` in the form in which it may be printed.
    pub fn key(self, key: &[u8]) -> Shown<'_> {
        Shown { redact: self, bytes: key }
    }
}

/// Bytes in a log line; see [`Redact::key`].
#[derive(Clone, Copy)]
pub struct Shown<'a> {
    redact: Redact,
    bytes: &'a [u8],
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.redact {
            Redact::Hide => write!(f, "?({} B)", self.bytes.len()),
            Redact::Show if self.bytes.len() > LOGGED_BYTES_MAX => {
                write!(f, "\"{}\"…({} B)", self.bytes[..LOGGED_BYTES_MAX].escape_ascii(), self.bytes.len())
            }
            Redact::Show => write!(f, "\"{}\"", self.bytes.escape_ascii()),
        }
    }
}

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hides_unless_asked() {
        assert_eq!(Redact::default().key(b"secret").to_string(), "?(6 B)");
        assert_eq!(Redact::Show.key(b"a\x00\"").to_string(), r#""a\x00\"""#);
        assert!(Redact::Show.key(&[b'x'; 100]).to_string().ends_with("…(100 B)"));
    }
}
