//! Bytes, sizes, tables and JSON for a terminal.

use bytes::Bytes;
use comfy_table::presets::NOTHING;
use comfy_table::{Cell, ContentArrangement};

use crate::failure::Failure;

/// A table with a head.
pub struct Table(comfy_table::Table);

impl Table {
    /// Only the head.
    pub fn new(head: &[&str]) -> Table {
        let titles: Vec<String> = head.iter().map(|title| title.to_uppercase()).collect();
        Table::with_names(&titles.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Only the head, its names as they are.
    pub fn with_names(head: &[&str]) -> Table {
        let mut table = comfy_table::Table::new();
        table.load_preset(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(head.iter().map(Cell::new));
        Table(table)
    }

    /// One more row.
    pub fn row(&mut self, cells: Vec<String>) {
        self.0.add_row(cells);
    }

    /// To standard output.
    pub fn print(&self) {
        crate::process::only_prints();
        for line in self.0.lines() {
            println!("{}", line.trim_end());
        }
    }
}

/// To standard output.
pub fn print_json(value: &serde_json::Value) -> Result<(), Failure> {
    crate::process::only_prints();
    println!("{}", serde_json::to_string_pretty(value).map_err(|error| Failure::new(format!("JSON: {error}")))?);
    Ok(())
}

/// Text as it is, where it is plain UTF-8; otherwise with escapes (a backslash is escaped then, too).
pub fn escape(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(|c| c.is_control() || c == '\\') => text.to_owned(),
        _ => bytes.escape_ascii().to_string(),
    }
}

/// Characters of a key or value in a table; JSON has them whole.
const CELL_CHARS_MAX: usize = 80;

/// `text`, cut where a table would get too wide.
pub fn cut(text: String) -> String {
    match text.char_indices().nth(CELL_CHARS_MAX) {
        None => text,
        Some((at, _)) => format!("{}… ({} in all)", &text[..at], text.chars().count()),
    }
}

/// Two digits a byte.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of an even number of hexadecimal digits.
pub fn unhex(text: &str) -> Option<Bytes> {
    let digits: Option<Vec<u8>> = text.chars().map(|c| c.to_digit(16).map(|digit| digit as u8)).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    Some(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

/// A size in the largest unit that leaves a number of at least one.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut value = n as f64;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{n} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_for_people() {
        assert_eq!(escape("plain ü".as_bytes()), "plain ü");
        assert_eq!(escape(b"\x00\xffa\\"), "\\x00\\xffa\\\\");
        assert_eq!(escape(b"a\\b"), "a\\\\b", "a backslash never looks like an escape");
        assert_eq!((bytes(5), bytes(1536), bytes(3 << 30)), ("5 B".into(), "1.5 KiB".into(), "3.0 GiB".into()));
    }

    #[test]
    fn long_cells_are_cut_between_characters() {
        assert_eq!(cut("ü".repeat(80)), "ü".repeat(80));
        assert_eq!(cut("ü".repeat(81)), format!("{}… (81 in all)", "ü".repeat(80)));
    }

    #[test]
    fn hexadecimal_there_and_back() {
        assert_eq!(hex(b"\x00\xab"), "00ab");
        assert_eq!(unhex("00AB").unwrap(), &b"\x00\xab"[..]);
        assert!(unhex("0").is_none() && unhex("zz").is_none());
        assert_eq!(unhex("").unwrap(), Bytes::new());
    }
}
