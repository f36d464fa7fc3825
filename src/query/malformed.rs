//! What is wrong with a request, and where.

/// Characters of a line that are shown on each side of the place.
const SHOWN: usize = 60;

/// `why`, with the place in `text` (a byte offset) pointed at. `what` names the text: `where`, `select[1]`, `the request`.
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

/// The byte offset of a line and column, both from 1, the column in bytes, as serde_json counts.
pub(super) fn offset(text: &str, line: usize, column: usize) -> usize {
    let start = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum::<usize>();
    (start + column.saturating_sub(1)).min(text.len())
}
