//! Bytes, sizes, tables and JSON for a terminal.

use armilla::codec;
use armilla::codec::text;
use bytes::Bytes;
use comfy_table::presets::NOTHING;
use comfy_table::{Cell, ColumnConstraint, ContentArrangement, Width};
use serde_json::{Map, Value};

use crate::failure::Failure;

/// How keys and values are read and printed.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    /// Print JSON instead of tables.
    pub json: bool,
    /// Read and print hexadecimal digits.
    pub hex: bool,
    /// Read and print values with escapes, as keys always are.
    pub escape: bool,
}

impl Form {
    /// Returns the bytes of a key from the command line.
    pub fn key(self, text: &str) -> Result<Bytes, Failure> {
        if self.hex { self.digits(text) } else { unescape(text) }
    }

    /// Returns the bytes of a value from the command line, a file or standard input.
    pub fn value(self, given: Bytes) -> Result<Bytes, Failure> {
        if !self.hex && !self.escape {
            return Ok(given);
        }
        let text = std::str::from_utf8(&given).map_err(|_| Failure::usage("the value is not UTF-8 text"))?;
        // A file or pipe may end with a line break.
        let text = text.strip_suffix('\n').unwrap_or(text);
        if self.hex { self.digits(text) } else { unescape(text) }
    }

    fn digits(self, text: &str) -> Result<Bytes, Failure> {
        unhex(text).ok_or_else(|| Failure::usage(format!("`{}` is not hexadecimal (--hex)", cut(text.to_owned()))))
    }

    /// Formats a key or value for a table or sentence; [`Form::key`] converts it back.
    pub fn text(self, bytes: &[u8]) -> String {
        if self.hex { hex(bytes) } else { text::escape(bytes) }
    }

    /// Formats a region's boundary for a table or sentence; [`Form::key`] converts it back.
    pub fn boundary(self, key: &[u8]) -> String {
        if self.hex { hex(key) } else { text::boundary(key) }
    }

    /// Formats a key for a shell's command line, in quotes if necessary.
    pub fn argument(self, key: &[u8]) -> String {
        let text = self.text(key);
        let bare = |c: char| c.is_ascii_alphanumeric() || "_./:,@%+=-".contains(c);
        if !text.is_empty() && !text.starts_with('-') && text.chars().all(bare) {
            return text;
        }
        format!("'{}'", text.replace('\'', "'\\''"))
    }

    /// Adds bytes to a JSON object: as text, or as `NAME_hex` if they are not UTF-8.
    pub fn insert(self, object: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
        match std::str::from_utf8(bytes) {
            _ if self.hex => object.insert(name.to_owned(), hex(bytes).into()),
            Ok(text) => object.insert(name.to_owned(), text.into()),
            Err(_) => object.insert(format!("{name}_hex"), hex(bytes).into()),
        };
    }

    /// Adds a region's boundary to a JSON object, and its `NAME_decoded` form if it is a memcomparable encoding.
    pub fn insert_boundary(self, object: &mut Map<String, Value>, name: &str, key: &[u8]) {
        self.insert(object, name, key);
        if let Ok(plain) = codec::bytes::decode(key) {
            self.insert(object, &format!("{name}_decoded"), &plain);
        }
    }
}

fn unescape(text: &str) -> Result<Bytes, Failure> {
    text::unescape(text)
        .map_err(|error| Failure::usage(error).hint("use --hex to read and print hexadecimal digits instead"))
}

/// A table with a header.
pub struct Table(comfy_table::Table);

impl Table {
    /// Creates a table with a header in capital letters.
    pub fn new(head: &[&str]) -> Table {
        let titles: Vec<String> = head.iter().map(|title| title.to_uppercase()).collect();
        Table::with_names(&titles.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Creates a table whose header has the names as they are.
    pub fn with_names(head: &[&str]) -> Table {
        let mut table = comfy_table::Table::new();
        table.load_preset(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(head.iter().map(Cell::new));
        Table(table)
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<String>) {
        self.0.add_row(cells);
    }

    /// Makes the first column at least `chars` wide.
    pub fn widen(&mut self, chars: u16) {
        if let Some(column) = self.0.column_mut(0) {
            column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(chars)));
        }
    }

    /// Returns the width of the first column, including its padding.
    pub fn width(&self) -> u16 {
        const PADDING: u16 = 2;
        self.0.column_max_content_widths().first().map_or(0, |content| content.saturating_add(PADDING))
    }

    /// Prints the table to standard output.
    pub fn print(&self) {
        self.lines(0);
    }

    /// Prints the rows, without the header, to standard output.
    pub fn print_rows(&self) {
        self.lines(1);
    }

    fn lines(&self, skip: usize) {
        crate::process::only_prints();
        for line in self.0.lines().skip(skip) {
            println!("{}", line.trim_end());
        }
    }
}

/// Prints JSON to standard output.
pub fn print_json(value: &serde_json::Value) -> Result<(), Failure> {
    crate::process::only_prints();
    println!("{}", serde_json::to_string_pretty(value).map_err(|error| Failure::new(format!("JSON: {error}")))?);
    Ok(())
}

/// How many characters of a value a table shows. `get` and JSON print all of it.
const CELL_CHARS_MAX: usize = 80;

/// Returns `text`, cut off if it would make a table too wide.
pub fn cut(text: String) -> String {
    match text.char_indices().nth(CELL_CHARS_MAX) {
        None => text,
        Some((at, _)) => format!("{}… ({} characters)", &text[..at], text.chars().count()),
    }
}

/// Returns two hexadecimal digits for each byte.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the bytes of an even number of hexadecimal digits.
pub fn unhex(text: &str) -> Option<Bytes> {
    let digits: Option<Vec<u8>> = text.chars().map(|c| c.to_digit(16).map(|digit| digit as u8)).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    Some(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

/// Formats a size in the largest unit that leaves a number of at least one.
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

/// Formats milliseconds since 1970 as a date and a time in UTC.
pub fn utc(ms: u64) -> String {
    let (seconds, millis) = (ms / 1000, ms % 1000);
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{millis:03}")
}

/// Returns the year, the month and the day that is this many days after 1970-01-01, by Howard Hinnant's algorithm
/// (`civil_from_days`): years begin in March, so that the leap day is the last one.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_utc() {
        for (ms, shown) in [
            (0, "1970-01-01 00:00:00.000"),
            (951_782_400_000, "2000-02-29 00:00:00.000"),
            (1_709_251_199_999, "2024-02-29 23:59:59.999"),
            (1_767_225_600_000, "2026-01-01 00:00:00.000"),
            (1_796_083_199_042, "2026-11-30 23:59:59.042"),
        ] {
            assert_eq!(utc(ms), shown);
        }
    }

    const PLAIN: Form = Form { json: false, hex: false, escape: false };

    #[test]
    fn keys_have_escapes_and_values_only_when_asked() {
        assert_eq!(PLAIN.key("a\\x00").unwrap(), &b"a\0"[..]);
        assert!(PLAIN.key("C:\\dir").is_err(), "a backslash must be escaped");
        let value = Bytes::from_static(b"C:\\dir\n");
        assert_eq!(PLAIN.value(value.clone()).unwrap(), value);
        assert!(Form { escape: true, ..PLAIN }.value(value).is_err());
        let hex = Form { hex: true, ..PLAIN };
        assert_eq!(
            (hex.key("00ff").unwrap(), hex.value("00ff\n".into()).unwrap()),
            (b"\0\xff"[..].into(), b"\0\xff"[..].into())
        );
        assert!(hex.key("0").is_err() && hex.value("zz".into()).is_err());
    }

    #[test]
    fn arguments_are_quoted_where_a_shell_would_change_them() {
        assert_eq!(PLAIN.argument(b"user:7/a"), "user:7/a");
        assert_eq!(PLAIN.argument(b"\0a"), "'\\x00a'");
        assert_eq!(PLAIN.argument(b"it's"), "'it'\\''s'");
        assert_eq!((PLAIN.argument(b""), PLAIN.argument(b"-a")), ("''".into(), "'-a'".into()));
    }

    #[test]
    fn json_has_the_text_or_says_that_it_is_none() {
        let object = |form: Form, bytes: &[u8]| {
            let mut object = Map::new();
            form.insert_boundary(&mut object, "start", bytes);
            Value::from(object)
        };
        assert_eq!(object(PLAIN, b"a\"\n"), serde_json::json!({ "start": "a\"\n" }));
        assert_eq!(object(PLAIN, b"\xff"), serde_json::json!({ "start_hex": "ff" }));
        let boundary = codec::bytes::encode(b"m");
        assert_eq!(
            object(PLAIN, &boundary),
            serde_json::json!({ "start_hex": "6d00000000000000f8", "start_decoded": "m" })
        );
        assert_eq!(object(Form { hex: true, ..PLAIN }, b"a"), serde_json::json!({ "start": "61" }));
    }

    #[test]
    fn sizes_for_people() {
        assert_eq!((bytes(5), bytes(1536), bytes(3 << 30)), ("5 B".into(), "1.5 KiB".into(), "3.0 GiB".into()));
    }

    #[test]
    fn long_cells_are_cut_between_characters() {
        assert_eq!(cut("ü".repeat(80)), "ü".repeat(80));
        assert_eq!(cut("ü".repeat(81)), format!("{}… (81 characters)", "ü".repeat(80)));
    }

    #[test]
    fn hexadecimal_there_and_back() {
        assert_eq!(hex(b"\x00\xab"), "00ab");
        assert_eq!(unhex("00AB").unwrap(), &b"\x00\xab"[..]);
        assert!(unhex("0").is_none() && unhex("zz").is_none());
        assert_eq!(unhex("").unwrap(), Bytes::new());
    }
}
