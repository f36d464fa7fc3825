//! Paths into a JSON value: `$.a.b[0]`.

use std::fmt;

use crate::types::limits::QUERY_PATH_STEPS_MAX;

use super::lexer::{Cursor, Failed, plain_name};

/// A step of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// Into the field of an object with this name.
    Field(Box<str>),
    /// Into an element of an array, counted from 0.
    Index(usize),
}

/// A path from a value to one of its parts.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path {
    pub(super) steps: Vec<Step>,
}

impl Path {
    /// Parses a path. `what` names the text in errors.
    ///
    /// # Errors
    /// Returns what is wrong, with its position.
    pub fn parse(what: &str, text: &str) -> Result<Path, String> {
        let mut cursor = Cursor::new(text);
        let path = Path::read(&mut cursor).and_then(|path| cursor.end().map(|()| path));
        path.map_err(|failed| failed.show(what, text))
    }

    pub(super) fn read(cursor: &mut Cursor<'_>) -> Result<Path, Failed> {
        cursor.space();
        let begin = cursor.at;
        if !cursor.take("$") {
            return Err(cursor.expected("a path (`$.name`)"));
        }
        let mut steps = Vec::new();
        loop {
            if cursor.take(".") {
                let name = cursor.word(plain_name);
                if name.is_empty() {
                    return Err(cursor.expected("a name (or write `[\"any name\"]`)"));
                }
                steps.push(Step::Field(name.into()));
            } else if cursor.take("[") {
                cursor.space();
                if matches!(cursor.peek(), Some('"' | '\'')) {
                    steps.push(Step::Field(cursor.text()?.into()));
                } else {
                    let at = cursor.at;
                    let digits = cursor.word(|c| c.is_ascii_digit());
                    if digits.is_empty() {
                        return Err(cursor.expected("an index from 0, or a name in quotes"));
                    }
                    let index = digits.parse().map_err(|_| Failed::new(at, "the index is too large"))?;
                    steps.push(Step::Index(index));
                }
                cursor.space();
                if !cursor.take("]") {
                    return Err(cursor.expected("`]`"));
                }
            } else {
                break;
            }
        }
        if steps.len() > QUERY_PATH_STEPS_MAX {
            let why = format!("a path of {} steps is over the limit of {QUERY_PATH_STEPS_MAX}", steps.len());
            return Err(Failed::new(begin, why));
        }
        Ok(Path { steps })
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("$")?;
        for step in &self.steps {
            match step {
                Step::Field(name) if !name.is_empty() && name.chars().all(plain_name) => write!(f, ".{name}")?,
                Step::Field(name) => write!(f, "[{}]", serde_json::Value::from(&**name))?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}
