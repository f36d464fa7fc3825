//! The code view of a file (comments, strings and test items blanked out, lines kept), and the words and paths in it.

/// Blanks comments and the inside of string and character literals; keeps line ends.
pub fn without_comments(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    let blank = |out: &mut Vec<u8>, from: usize, to: usize| {
        out.extend(bytes[from..to].iter().map(|&b| if b == b'\n' { b'\n' } else { b' ' }));
    };
    while at < bytes.len() {
        let rest = &bytes[at..];
        if rest.starts_with(b"//") {
            let end = rest.iter().position(|&b| b == b'\n').map_or(bytes.len(), |n| at + n);
            blank(&mut out, at, end);
            at = end;
        } else if rest.starts_with(b"/*") {
            let (mut depth, mut end) = (1, at + 2);
            while end < bytes.len() && depth > 0 {
                if bytes[end..].starts_with(b"/*") {
                    (depth, end) = (depth + 1, end + 2);
                } else if bytes[end..].starts_with(b"*/") {
                    (depth, end) = (depth - 1, end + 2);
                } else {
                    end += 1;
                }
            }
            blank(&mut out, at, end);
            at = end;
        } else if let Some(hashes) = raw_string(bytes, at) {
            let open = at + 1 + hashes + 1;
            let close: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
            let end = bytes[open..]
                .windows(close.len())
                .position(|w| w == close)
                .map_or(bytes.len(), |n| open + n + close.len());
            blank(&mut out, at, end);
            at = end;
        } else if bytes[at] == b'"' {
            let mut end = at + 1;
            while end < bytes.len() && bytes[end] != b'"' {
                end += if bytes[end] == b'\\' { 2 } else { 1 };
            }
            let end = (end + 1).min(bytes.len());
            out.push(b'"');
            blank(&mut out, at + 1, end - 1);
            out.push(b'"');
            at = end;
        } else if bytes[at] == b'\'' && char_literal(rest) > 0 {
            let len = char_literal(rest);
            blank(&mut out, at, at + len);
            at += len;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Returns the number of hashes if a raw string begins here.
fn raw_string(bytes: &[u8], at: usize) -> Option<usize> {
    let word_before =
        at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_') && bytes[at - 1] != b'b';
    if bytes[at] != b'r' || word_before {
        return None;
    }
    let hashes = bytes[at + 1..].iter().take_while(|&&b| b == b'#').count();
    (bytes.get(at + 1 + hashes) == Some(&b'"')).then_some(hashes)
}

/// Returns the length of the character literal that begins here; 0 for a lifetime.
fn char_literal(rest: &[u8]) -> usize {
    match rest {
        [b'\'', b'\\', ..] => rest[2..].iter().skip(1).position(|&b| b == b'\'').map_or(0, |n| n + 4),
        [b'\'', _, b'\'', ..] => 3,
        // A character of several bytes.
        [b'\'', lead, ..] if *lead >= 0x80 => rest[1..].iter().take(5).position(|&b| b == b'\'').map_or(0, |n| n + 2),
        _ => 0,
    }
}

/// Blanks items under `#[cfg(test)]`.
pub fn without_tests(code: &str) -> String {
    let mut out = code.to_owned();
    let mut from = 0;
    while let Some(found) = out[from..].find("#[cfg(test)]") {
        let start = from + found;
        let bytes = out.as_bytes();
        let mut end = start + "#[cfg(test)]".len();
        let mut depth = 0usize;
        while end < bytes.len() {
            match bytes[end] {
                b'{' => depth += 1,
                b'}' if depth == 1 => {
                    end += 1;
                    break;
                }
                b'}' => depth = depth.saturating_sub(1),
                b';' if depth == 0 => {
                    end += 1;
                    break;
                }
                _ => {}
            }
            end += 1;
        }
        let blanked: String = out[start..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        out.replace_range(start..end, &blanked);
        from = start + blanked.len();
    }
    out
}

/// Returns every place where `word` is a separate path, as (line, rest of the text after it).
pub fn words<'a>(code: &'a str, word: &str) -> Vec<(usize, &'a str)> {
    let mut found = Vec::new();
    let ident = |c: char| c.is_alphanumeric() || c == '_';
    for (at, _) in code.match_indices(word) {
        let before = code[..at].chars().next_back();
        let rest = &code[at + word.len()..];
        let cut_before = word.starts_with(ident) && before.is_some_and(ident);
        let cut_after = word.ends_with(ident) && rest.starts_with(ident);
        if !cut_before && !cut_after {
            found.push((code[..at].matches('\n').count() + 1, rest));
        }
    }
    found
}

/// Returns the paths that a file names below `root` (`crate::`), with groups expanded: `crate::{a::{b, c}, d}` gives
/// `a::b`, `a::c`, `d`.
pub fn paths(code: &str, root: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (line, rest) in words(code, root) {
        let mut out = Vec::new();
        expand(&mut Tokens { rest }, String::new(), &mut out);
        found.extend(out.into_iter().map(|path| (line, path)));
    }
    found
}

pub struct Tokens<'a> {
    pub rest: &'a str,
}

impl<'a> Tokens<'a> {
    pub fn next(&mut self) -> &'a str {
        self.rest = self.rest.trim_start();
        let ident = |c: char| c.is_alphanumeric() || c == '_';
        let len = if self.rest.starts_with("::") {
            2
        } else if self.rest.starts_with(ident) {
            self.rest.find(|c| !ident(c)).unwrap_or(self.rest.len())
        } else {
            self.rest.chars().next().map_or(0, char::len_utf8)
        };
        let (token, rest) = self.rest.split_at(len);
        self.rest = rest;
        token
    }

    pub fn peek(&self) -> &'a str {
        Tokens { rest: self.rest }.next()
    }
}

/// Parses one path or group after `root::` and adds every leaf to `out`.
pub fn expand(tokens: &mut Tokens<'_>, prefix: String, out: &mut Vec<String>) {
    if tokens.peek() == "{" {
        tokens.next();
        while !matches!(tokens.peek(), "}" | "") {
            expand(tokens, prefix.clone(), out);
            while !matches!(tokens.peek(), "," | "}" | "") {
                tokens.next();
            }
            if tokens.peek() == "," {
                tokens.next();
            }
        }
        tokens.next();
        return;
    }
    let name = tokens.next();
    let path = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}::{name}") };
    if tokens.peek() == "::" {
        let mut ahead = Tokens { rest: tokens.rest };
        ahead.next();
        // A turbofish ends the path.
        if ahead.peek() != "<" {
            tokens.next();
            return expand(tokens, path, out);
        }
    }
    out.push(path);
}

#[test]
fn the_code_view_blanks_what_is_not_code() {
    let text =
        "let a = 'x'; let b: &'static str = \"// no\"; /* y /* z */ */ let c = r#\"\"q\"\"#; // end\nlet d = '\\'';";
    let view = without_comments(text);
    assert_eq!(view.lines().count(), 2);
    assert!(view.contains("&'static str") && view.contains("let c =") && view.contains("let d ="), "{view}");
    assert!(!view.contains("no") && !view.contains('y') && !view.contains("end") && !view.contains('q'), "{view}");
}
