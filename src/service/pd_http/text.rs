//! Numbers, sizes and times, read and written as PD does.
//!
//! Texts of requests come **in**, numbers or PD's errors go **out**; numbers come in, texts of answers go out.
//! **Never**: an error in other words than PD's: tools compare them.

use bytes::Bytes;

/// Reads an unsigned number.
///
/// # Errors
/// Returns PD's sentence.
pub(super) fn parse_uint(text: &[u8]) -> Result<u64, String> {
    let shown = String::from_utf8_lossy(text);
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return Err(format!("strconv.ParseUint: parsing {shown:?}: invalid syntax"));
    }
    shown.parse().map_err(|_| format!("strconv.ParseUint: parsing {shown:?}: value out of range"))
}

/// Reads a number with an optional sign.
///
/// # Errors
/// Returns PD's sentence.
pub(super) fn parse_int(text: &[u8]) -> Result<i64, String> {
    let shown = String::from_utf8_lossy(text);
    let digits = text.strip_prefix(b"-").or_else(|| text.strip_prefix(b"+")).unwrap_or(text);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(format!("strconv.Atoi: parsing {shown:?}: invalid syntax"));
    }
    shown.parse().map_err(|_| format!("strconv.Atoi: parsing {shown:?}: value out of range"))
}

/// Returns a key in PD's form: upper-case hex.
pub(super) fn hex(key: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    key.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

/// Reads hex, in either case.
///
/// # Errors
/// Returns PD's sentence.
pub(super) fn parse_hex(text: &[u8]) -> Result<Bytes, String> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    if let Some(wrong) = text.iter().find(|byte| digit(**byte).is_none()) {
        return Err(format!("encoding/hex: invalid byte: U+{wrong:04X} {:?}", char::from(*wrong)));
    }
    if text.len() % 2 == 1 {
        return Err("encoding/hex: odd length hex string".into());
    }
    let byte = |pair: &[u8]| pair.iter().fold(0, |sum, text| sum << 4 | digit(*text).unwrap_or(0) as u8);
    Ok(text.chunks(2).map(byte).collect())
}

/// Returns a size with four digits: `252GiB`, `289.5MiB`, `0B`.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1024.0 {
        value /= 1024.0;
        unit += 1;
    }
    let decimals = match value {
        1000.0.. => 0,
        100.0.. => 1,
        10.0.. => 2,
        _ => 3,
    };
    let digits = format!("{value:.decimals$}");
    let digits = if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { &digits };
    format!("{digits}{}", UNITS[unit])
}

/// Returns a size in MiB as PD keeps it: at least 1.
pub(super) fn mib(bytes: u64) -> u64 {
    (bytes >> 20).max(1)
}

/// Returns a fraction of a second with its point, without zeros at its end; empty if it is 0.
fn fraction(nanos: u64) -> String {
    if nanos == 0 {
        return String::new();
    }
    format!(".{}", format!("{nanos:09}").trim_end_matches('0'))
}

/// Returns a duration: `4m20.378s`, `30m0s`, `22.4ms`, `0s`.
pub(super) fn duration_ms(ms: u64) -> String {
    if ms == 0 {
        return "0s".into();
    }
    if ms < 1000 {
        return format!("{ms}ms");
    }
    let (hours, minutes, seconds) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    let seconds = format!("{seconds}{}s", fraction(ms % 1000 * 1_000_000));
    match (hours, minutes) {
        (0, 0) => seconds,
        (0, minutes) => format!("{minutes}m{seconds}"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
    }
}

/// Parses a duration as PD does: `30m`, `1h30m0s`, `1.5h`, `300ms`. Rounds down to milliseconds.
///
/// # Errors
/// Returns PD's sentence.
pub(super) fn parse_duration_ms(text: &str) -> Result<u64, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Ok(0);
    }
    let mut total_ms = 0.0;
    if rest.is_empty() {
        return Err(invalid());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let number: f64 = number.parse().map_err(|_| invalid())?;
        let letters = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let unit_ms = match unit {
            "h" => 3_600_000.0,
            "m" => 60_000.0,
            "s" => 1000.0,
            "ms" => 1.0,
            "us" | "µs" => 0.001,
            "ns" => 0.000_001,
            "" => return Err(format!("time: missing unit in duration {text:?}")),
            other => return Err(format!("time: unknown unit {other:?} in duration {text:?}")),
        };
        total_ms += number * unit_ms;
        rest = after;
    }
    Ok(total_ms as u64)
}

/// Returns year, month and day of a day since 1970-01-01, which is not before it (H. Hinnant, "chrono-compatible
/// low-level date algorithms").
fn date(day: u64) -> (u64, u64, u64) {
    let shifted = day + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, of_year - (153 * from_march + 2) / 5 + 1)
}

fn moment(unix_ms: u64, between: &str, end: &str) -> String {
    let (year, month, day) = date(unix_ms / 86_400_000);
    let (hour, minute, second) = (unix_ms / 3_600_000 % 24, unix_ms / 60_000 % 60, unix_ms / 1000 % 60);
    let fraction = fraction(unix_ms % 1000 * 1_000_000);
    format!("{year:04}-{month:02}-{day:02}{between}{hour:02}:{minute:02}:{second:02}{fraction}{end}")
}

/// Returns a time as in documents: `2026-11-29T07:49:50.5Z`.
pub(super) fn rfc3339_ms(unix_ms: u64) -> String {
    moment(unix_ms, "T", "Z")
}

/// Returns a time as in the texts of operators: `2026-11-29 07:49:50.5 +0000 UTC`.
pub(super) fn time_ms(unix_ms: u64) -> String {
    moment(unix_ms, " ", " +0000 UTC")
}

#[cfg(test)]
mod tests {
    //! Goal: PD's texts. Method: pairs that were seen on PD 8.0.

    use super::*;

    #[test]
    fn numbers_and_their_errors() {
        assert_eq!(parse_uint(b"18446744073709551615"), Ok(u64::MAX));
        let wrong = |text: &str, why: &str| format!("strconv.ParseUint: parsing \"{text}\": {why}");
        for text in ["abc", "-1", "+1", "1_0", ""] {
            assert_eq!(parse_uint(text.as_bytes()), Err(wrong(text, "invalid syntax")));
        }
        let long = "99999999999999999999";
        assert_eq!(parse_uint(long.as_bytes()), Err(wrong(long, "value out of range")));
        assert_eq!((parse_int(b"-7"), parse_int(b"+7"), parse_int(b"7")), (Ok(-7), Ok(7), Ok(7)));
        assert_eq!(parse_int(b"abc"), Err("strconv.Atoi: parsing \"abc\": invalid syntax".into()));
        assert!(parse_int(b"-").is_err() && parse_int(&[0xff]).is_err());
    }

    #[test]
    fn keys_are_hex_in_either_case() {
        assert_eq!(hex(b"rk6\x00\xfa"), "726B3600FA");
        assert_eq!(parse_hex(b"726b3600FA").unwrap(), &b"rk6\x00\xfa"[..]);
        assert_eq!(parse_hex(b""), Ok(Bytes::new()));
        assert_eq!(parse_hex(b"zz"), Err("encoding/hex: invalid byte: U+007A 'z'".into()));
        assert_eq!(parse_hex(b"726"), Err("encoding/hex: odd length hex string".into()));
    }

    #[test]
    fn sizes_have_four_digits() {
        for (bytes, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1KiB"),
            (270_553_174_016, "252GiB"),
            (56_613_863_424, "52.73GiB"),
            (303_562_752, "289.5MiB"),
            (u64::MAX, "16EiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
        assert_eq!((mib(0), mib(5 << 20)), (1, 5));
    }

    #[test]
    fn durations_are_read_as_they_are_written() {
        for ms in [0, 22, 1000, 21_417, 260_378, 1_800_000, 172_800_000] {
            assert_eq!(parse_duration_ms(&duration_ms(ms)), Ok(ms));
        }
        assert_eq!((parse_duration_ms("1.5h"), parse_duration_ms("0")), (Ok(5_400_000), Ok(0)));
        let wrong = [
            ("5x", "time: unknown unit \"x\" in duration \"5x\""),
            ("", "time: invalid duration \"\""),
            ("-1h", "time: invalid duration \"-1h\""),
            ("7", "time: missing unit in duration \"7\""),
        ];
        for (text, why) in wrong {
            assert_eq!(parse_duration_ms(text), Err(why.into()));
        }
    }

    #[test]
    fn durations_and_times() {
        for (ms, text) in [
            (0, "0s"),
            (22, "22ms"),
            (1000, "1s"),
            (21_417, "21.417s"),
            (260_378, "4m20.378s"),
            (1_800_000, "30m0s"),
            (3_600_000, "1h0m0s"),
            (172_800_000, "48h0m0s"),
        ] {
            assert_eq!(duration_ms(ms), text);
        }
        assert_eq!(rfc3339_ms(1_795_938_590_000), "2026-11-29T07:49:50Z");
        assert_eq!(rfc3339_ms(1_795_938_611_410), "2026-11-29T07:50:11.41Z");
        assert_eq!(time_ms(1_709_208_000_001), "2024-02-29 12:00:00.001 +0000 UTC");
        assert_eq!(rfc3339_ms(0), "1970-01-01T00:00:00Z");
    }
}
