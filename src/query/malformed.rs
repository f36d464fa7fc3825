//! Errors about a request that show where they occurred.

/// How many characters of a line are shown on each side of the position.
const SHOWN: usize = 60;

/// Formats `why` with a pointer to the position in `text` (a byte offset). `what` names the text: `where`, `select[1]`,
/// `the request`.
pub(super) fn at(what: &str, text: &str, offset: usize, why: &str) -> String {
    if text.trim().is_empty() {
        return format!("{what}, line 1, column 1: {why}");
    }
    let offset = text.floor_char_boundary(offset.min(text.len()));
    let before = &text[..offset];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let line_end = text[offset..].find('\n').map_or(text.len(), |at| offset + at);
    let line = before.matches('\n').count() + 1;
    let column = text[line_start..offset].chars().count() + 1;
    let left: String = text[line_start..offset].chars().rev().take(SHOWN).collect();
    let left: String = left.chars().rev().collect();
    let right: String = text[offset..line_end].chars().take(SHOWN).collect();
    let plain = |part: &str| part.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
    let (cut, indent) = if column - 1 > SHOWN { ("…", SHOWN + 1) } else { ("", column - 1) };
    format!(
        "{what}, line {line}, column {column}: {why}\n  {cut}{}{}\n  {}^",
        plain(&left),
        plain(&right),
        " ".repeat(indent)
    )
}

/// How many characters of a client's text an error repeats.
pub(super) const ECHOED: usize = 64;

/// Returns the first [`ECHOED`] characters.
pub(super) fn short(text: &str) -> String {
    match text.char_indices().nth(ECHOED) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}…", &text[..at]),
    }
}

/// Returns serde's error with the client's text in it cut off: ``unknown field `…`, expected …``, `invalid type: string
/// "…", expected …`.
pub(super) fn cut(why: &str) -> String {
    let (said, expected) = match why.rsplit_once(", expected ") {
        Some((said, expected)) => (said, format!(", expected {expected}")),
        None => (why, String::new()),
    };
    let Some((before, quoted)) = said.find(['`', '"']).and_then(|at| said.split_at_checked(at + 1)) else {
        return why.to_owned();
    };
    let close = if before.ends_with('`') { "`" } else { "\"" };
    match quoted.strip_suffix(close) {
        Some(inner) => format!("{before}{}{close}{expected}", short(inner)),
        None => format!("{before}{}{expected}", short(quoted)),
    }
}

/// Returns the offset of the value of the field `name` in the object that `text` spells, or `None` if it has no such
/// field.
pub(super) fn field(text: &str, name: &str) -> Option<usize> {
    let (mut depth, mut open, mut escaped) = (0, None, false);
    let mut found = false;
    for (at, c) in text.char_indices() {
        match (open, c) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(begin), '"') => {
                // A string before a colon, in the outermost object.
                open = None;
                found = depth == 1 && text[begin + 1..at] == *name && text[at + 1..].trim_start().starts_with(':');
            }
            (Some(_), _) => {}
            (None, ':') if found => {
                let rest = &text[at + 1..];
                return Some(text.len() - rest.trim_start().len());
            }
            (None, '"') => open = Some(at),
            (None, '{' | '[') => depth += 1,
            (None, '}' | ']') => depth -= 1,
            (None, _) => {}
        }
    }
    None
}

/// Returns the byte offset of a line and a column, both counted from 1, and the column in bytes as serde_json counts
/// it.
pub(super) fn offset(text: &str, line: usize, column: usize) -> usize {
    let start = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum::<usize>();
    (start + column.saturating_sub(1)).min(text.len())
}
