//! `armilla ctl get`, `put`, `cas`, `ttl`, `checksum`: single keys, and values byte for byte.

use std::io::{IsTerminal as _, Read, Write as _};
use std::path::{Path, PathBuf};

use armilla::codec::text;
use armilla::types::limits::MESSAGE_BYTES_MAX;
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::Ctl;
use super::listing::RangeArgs;
use super::show::{Form, print_json};
use crate::failure::Failure;
use crate::process;

/// A value, or where to read it from.
#[derive(clap::Args, Debug)]
pub struct ValueArgs {
    /// The value; `-` reads it from standard input, to its end.
    #[arg(allow_negative_numbers = true, required_unless_present = "file")]
    value: Option<String>,
    /// Read the value from FILE [default: VALUE is the value]
    #[arg(long, value_name = "FILE", conflicts_with = "value")]
    file: Option<PathBuf>,
}

impl ValueArgs {
    /// Returns the value's bytes.
    pub fn read(&self, form: Form) -> Result<Bytes, Failure> {
        let given = match (&self.value, &self.file) {
            (_, Some(file)) => read_file(file)?,
            (Some(value), None) if value == "-" => read_all(std::io::stdin().lock(), "standard input")?,
            (value, None) => Bytes::copy_from_slice(value.as_deref().unwrap_or_default().as_bytes()),
        };
        form.value(given)
    }
}

fn read_file(path: &Path) -> Result<Bytes, Failure> {
    let file =
        std::fs::File::open(path).map_err(|error| Failure::usage(format!("--file {}: {error}", path.display())))?;
    read_all(file, &path.display().to_string())
}

/// Reads to the end, but not more than fits in a message.
pub(super) fn read_all(from: impl Read, name: &str) -> Result<Bytes, Failure> {
    let mut bytes = Vec::new();
    let read = from.take(MESSAGE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| Failure::new(format!("{name}: {error}")))?;
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(Failure::usage(format!(
            "{name}: longer than {} MiB, which is too long for a value",
            MESSAGE_BYTES_MAX >> 20
        )));
    }
    Ok(bytes.into())
}

impl Ctl {
    fn absent(&self, key: &str) -> Result<(), Failure> {
        if self.form.json {
            print_json(&json!({ "found": false }))?;
        } else {
            eprintln!("{key} does not exist");
        }
        Err(Failure::silent(1))
    }

    pub(super) async fn get(&self, key: &str) -> Result<(), Failure> {
        let value = self.raw.get(self.form.key(key)?).await?;
        self.print_value(key, value)
    }

    /// Prints a key's value byte for byte, or that there is none.
    pub(super) fn print_value(&self, key: &str, value: Option<Bytes>) -> Result<(), Failure> {
        match value {
            None => self.absent(key),
            Some(value) if self.form.json => {
                let mut object = Map::from_iter([("found".to_owned(), Value::from(true))]);
                self.form.insert(&mut object, "value", &value);
                print_json(&object.into())
            }
            Some(value) if self.form.hex || self.form.escape => {
                say!("{}", self.form.text(&value));
                Ok(())
            }
            Some(value) if std::io::stdout().is_terminal() => {
                if text::is_plain(&value) {
                    say!("{}", String::from_utf8_lossy(&value));
                } else {
                    // The terminal would interpret control characters.
                    say!("{}", text::escape(&value));
                    eprintln!("(not plain text: shown with escapes; a file or pipe gets the bytes)");
                }
                Ok(())
            }
            Some(value) => {
                process::only_prints();
                let mut out = std::io::stdout().lock();
                let written = out.write_all(&value).and_then(|()| out.flush());
                written.map_err(|error| Failure::new(format!("standard output: {error}")))
            }
        }
    }

    pub(super) async fn ttl(&self, key: &str) -> Result<(), Failure> {
        match self.raw.get_ttl(self.form.key(key)?).await? {
            None => self.absent(key),
            Some(ttl) if self.form.json => print_json(&json!({ "found": true, "ttl_s": ttl })),
            Some(0) => {
                say!("no expiry");
                Ok(())
            }
            Some(ttl) => {
                say!("{ttl} s");
                Ok(())
            }
        }
    }

    pub(super) async fn cas(
        &self,
        key: &str,
        value: &ValueArgs,
        previous: Option<String>,
        ttl_s: u64,
    ) -> Result<(), Failure> {
        let previous = previous.map(|previous| self.form.value(previous.into())).transpose()?;
        let answer = self.raw.cas(self.form.key(key)?, previous, value.read(self.form)?, ttl_s).await?;
        if self.form.json {
            let mut object = Map::from_iter([("swapped".to_owned(), Value::from(answer.swapped))]);
            match &answer.previous {
                Some(previous) => self.form.insert(&mut object, "previous", previous),
                None => drop(object.insert("previous".into(), Value::Null)),
            }
            print_json(&object.into())?;
        } else {
            let found = answer
                .previous
                .map_or("the key did not exist".into(), |value| format!("the value was {}", self.form.text(&value)));
            say!("{}: {found}", if answer.swapped { "swapped" } else { "not swapped" });
        }
        if answer.swapped { Ok(()) } else { Err(Failure::silent(1)) }
    }

    pub(super) async fn checksum(&self, range: &RangeArgs) -> Result<(), Failure> {
        let (start, end) = range.range(self.form)?;
        let sum = self.raw.checksum(start, end).await?;
        if self.form.json {
            let crc = format!("{:016x}", sum.crc64_xor);
            return print_json(&json!({ "crc64_xor": crc, "pairs": sum.pairs, "bytes": sum.bytes }));
        }
        say!("crc64 {:016x}, {} pairs, {} bytes", sum.crc64_xor, sum.pairs, sum.bytes);
        Ok(())
    }
}
