//! The groups of one page, found by their key's value, each with its aggregates.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::types::limits::{QUERY_FRAME_BYTES, QUERY_PAGE_BYTES_MAX};

use super::aggregate::{Partial, check_text};
use super::chunk::{Cells, Chunk};
use super::json;
use super::request::{Aggregate, Column};
use super::scalar::{GroupKey, Number, Scalar};

/// How many bytes an aggregate takes in a page at most, not counting a string.
const PARTIAL_BYTES: usize = 160;
/// How many bytes a group takes in a page, not counting its key and aggregates.
const GROUP_BYTES: usize = 64;
/// How many bytes a byte of a string takes in a page at most.
const ESCAPED: usize = 6;

/// The groups found so far.
#[derive(Debug, Default)]
pub(super) struct Groups {
    null: Option<usize>,
    bools: [Option<usize>; 2],
    numbers: BTreeMap<Number, usize>,
    texts: BTreeMap<Box<str>, usize>,
    list: Vec<(GroupKey, Vec<Partial>)>,
    /// How many bytes the groups take in a page at most.
    bytes: usize,
}

impl Groups {
    fn find(&self, cells: &Cells, row: usize) -> Option<usize> {
        if let Some(number) = cells.number(row) {
            self.numbers.get(&number).copied()
        } else if cells.text.get(row) {
            self.texts.get(cells.string(row)).copied()
        } else if cells.no.get(row) || cells.yes.get(row) {
            self.bools[usize::from(cells.yes.get(row))]
        } else {
            self.null
        }
    }

    fn insert(&mut self, cells: &Cells, row: usize, partials: Vec<Partial>) -> usize {
        let number = self.list.len();
        let key = if let Some(value) = cells.number(row) {
            self.numbers.insert(value, number);
            GroupKey::Number(value)
        } else if cells.text.get(row) {
            self.texts.insert(cells.string(row).into(), number);
            GroupKey::Text(cells.string(row).into())
        } else if cells.no.get(row) || cells.yes.get(row) {
            let value = cells.yes.get(row);
            self.bools[usize::from(value)] = Some(number);
            GroupKey::Bool(value)
        } else {
            self.null = Some(number);
            GroupKey::Null
        };
        self.list.push((key, partials));
        number
    }

    /// Adds a row of a closed chunk to its group. Returns false and adds nothing if the page would become too large.
    pub(super) fn add(
        &mut self,
        aggregates: &[Aggregate<Option<Column>>],
        by: Column,
        chunk: &Chunk,
        row: usize,
    ) -> Result<bool, String> {
        let cells = &chunk.columns[by];
        let found = self.find(cells, row);
        let fresh: Vec<Partial> = match found {
            Some(_) => Vec::new(),
            None => aggregates.iter().map(Aggregate::nothing).collect(),
        };
        let (mut more, mut less) = (0, 0);
        if found.is_none() {
            if !self.list.is_empty() && crate::mutant!("query.second-group-refused") {
                return Err("no memory is left for groups".into());
            }
            let text = if cells.text.get(row) { cells.string(row) } else { "" };
            check_text(text.len(), "the key of a group")?;
            more += GROUP_BYTES + ESCAPED * text.len() + PARTIAL_BYTES * aggregates.len();
        }
        let partials = found.map_or(&fresh, |found| &self.list[found].1);
        for (aggregate, partial) in aggregates.iter().zip(partials) {
            let of = aggregate.path().map(|column| &chunk.columns[column]);
            let (held, after) = partial.texts(of, row)?;
            (more, less) = (more + ESCAPED * after, less + ESCAPED * held);
        }
        let bytes = self.bytes + more - less;
        if bytes > QUERY_PAGE_BYTES_MAX - QUERY_FRAME_BYTES && !self.list.is_empty() {
            return Ok(false);
        }
        self.bytes = bytes;
        let found = found.unwrap_or_else(|| self.insert(cells, row, fresh));
        for (aggregate, partial) in aggregates.iter().zip(&mut self.list[found].1) {
            partial.add(aggregate.path().map(|column| &chunk.columns[column]), row);
        }
        Ok(true)
    }

    /// Returns how many bytes the groups take in a page at most.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the groups in order.
    pub(super) fn sorted(mut self) -> Vec<(GroupKey, Vec<Partial>)> {
        self.list.sort_by(|(a, _), (b, _)| a.cmp(b));
        self.list
    }
}

impl GroupKey {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            GroupKey::Null => out.extend_from_slice(b"null"),
            GroupKey::Bool(value) => out.extend_from_slice(if *value { b"true" } else { b"false" }),
            GroupKey::Number(Number::Int(int)) => out.extend_from_slice(int.to_string().as_bytes()),
            GroupKey::Number(Number::Float(float)) => json::float(*float, out),
            GroupKey::Text(text) => json::string(text, out),
        }
    }

    pub(super) fn to_json(&self) -> Value {
        match self {
            GroupKey::Null => Value::Null,
            GroupKey::Bool(value) => (*value).into(),
            GroupKey::Number(number) => Scalar::Number(*number).to_json(),
            GroupKey::Text(text) => (&**text).into(),
        }
    }

    pub(super) fn from_json(value: &Value) -> GroupKey {
        match (value, Scalar::from_json(value)) {
            (Value::Bool(value), _) => GroupKey::Bool(*value),
            (_, Some(Scalar::Number(number))) => GroupKey::Number(number),
            (_, Some(Scalar::Text(text))) => GroupKey::Text(text),
            (_, None) => GroupKey::Null,
        }
    }
}
