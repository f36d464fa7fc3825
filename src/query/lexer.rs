//! A cursor that reads a text from left to right, and errors with the position at which they occurred.

use super::malformed;

/// Returns whether a character may occur in a name after a dot without quotes.
pub(super) fn plain_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '-'
}

/// An error at a byte offset.
#[derive(Debug)]
pub(super) struct Failed {
    at: usize,
    why: String,
}

impl Failed {
    pub(super) fn new(at: usize, why: impl Into<String>) -> Failed {
        Failed { at, why: why.into() }
    }

    pub(super) fn show(&self, what: &str, text: &str) -> String {
        malformed::at(what, text, self.at, &self.why)
    }
}

/// A position in a text.
pub(super) struct Cursor<'a> {
    all: &'a str,
    pub(super) at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Cursor<'a> {
        Cursor { all: text, at: 0 }
    }

    pub(super) fn rest(&self) -> &'a str {
        &self.all[self.at..]
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    pub(super) fn space(&mut self) {
        self.at = self.all.len() - self.rest().trim_start().len();
    }

    /// Skips `token` if it follows. Returns whether it did.
    pub(super) fn take(&mut self, token: &str) -> bool {
        let here = self.rest().starts_with(token);
        self.at += if here { token.len() } else { 0 };
        here
    }

    /// Reads the following characters for which `of` holds.
    pub(super) fn word(&mut self, of: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let word = &rest[..rest.find(|c| !of(c)).unwrap_or(rest.len())];
        self.at += word.len();
        word
    }

    /// Skips the keyword if it follows, in upper or lower case. Returns whether it did.
    pub(super) fn keyword(&mut self, keyword: &str) -> bool {
        self.space();
        let begin = self.at;
        let here = self.word(plain_name).eq_ignore_ascii_case(keyword);
        if !here {
            self.at = begin;
        }
        here
    }

    pub(super) fn expected(&self, what: &str) -> Failed {
        let found = match self.peek() {
            None => "the end".to_owned(),
            Some(c) if plain_name(c) => {
                format!(
                    "`{}`",
                    Cursor { all: self.all, at: self.at }.word(plain_name).chars().take(32).collect::<String>()
                )
            }
            Some(c) => format!("`{}`", c.escape_debug()),
        };
        Failed::new(self.at, format!("expected {what}, found {found}"))
    }

    pub(super) fn end(&mut self) -> Result<(), Failed> {
        self.space();
        if self.rest().is_empty() { Ok(()) } else { Err(self.expected("the end")) }
    }

    /// Reads a string in quotes, with JSON's escapes.
    pub(super) fn text(&mut self) -> Result<String, Failed> {
        let begin = self.at;
        let Some(quote @ ('"' | '\'')) = self.peek() else { return Err(self.expected("a string in quotes")) };
        self.at += 1;
        let mut out = String::new();
        loop {
            let at = self.at;
            let Some(c) = self.peek() else { return Err(Failed::new(begin, "this string has no closing quote")) };
            self.at += c.len_utf8();
            match c {
                _ if c == quote => return Ok(out),
                '\\' => out.push(self.escape(at)?),
                c if c < ' ' => return Err(Failed::new(at, "a control character in a string must be escaped")),
                c => out.push(c),
            }
        }
    }

    /// Reads the escape after the backslash at `at`.
    pub(super) fn escape(&mut self, at: usize) -> Result<char, Failed> {
        let bad = |what: &str| Failed::new(at, what);
        let Some(c) = self.peek() else { return Err(bad("nothing follows the backslash")) };
        self.at += c.len_utf8();
        Ok(match c {
            '"' | '\'' | '\\' | '/' => c,
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let high = self.unit().ok_or_else(|| bad("`\\u` must be followed by four hexadecimal digits"))?;
                let pair = |low: u32| 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
                let code = match high {
                    0xd800..0xdc00 => {
                        let low = if self.take("\\u") { self.unit() } else { None };
                        let low = low.filter(|low| (0xdc00..0xe000).contains(low));
                        pair(low.ok_or_else(|| bad("half of a surrogate pair"))?)
                    }
                    code => code,
                };
                char::from_u32(code).ok_or_else(|| bad("half of a surrogate pair"))?
            }
            _ => return Err(bad("unknown escape sequence")),
        })
    }

    pub(super) fn unit(&mut self) -> Option<u32> {
        let digits = self.rest().get(..4).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
        self.at += 4;
        u32::from_str_radix(digits, 16).ok()
    }
}
