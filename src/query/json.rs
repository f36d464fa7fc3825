//! Values: from bytes to a tape, and from a tape to JSON text.

use std::io::Write as _;

use simd_json::{Buffers, INPUT_PADDING, Node, StaticNode, Tape};

use crate::types::limits::{QUERY_JSON_DEPTH_MAX, QUERY_PARSER_KEPT_BYTES_MAX, QUERY_VALUE_BYTES_MAX};

use super::path::{Path, Step};
use super::scalar::Number;

/// Approximate bytes of memory of a parser without data.
const EMPTY_BYTES: usize = 8 << 10;

/// A parser that keeps its memory from value to value, unless a value was large.
pub(super) struct Parser {
    /// The value, which parsing overwrites, and padding.
    scratch: Vec<u8>,
    buffers: Buffers,
    tape: Option<Tape<'static>>,
    /// The most bytes that a value had since the buffers were created.
    longest: usize,
    /// The most structural characters that a value had since then.
    structures: usize,
}

/// Why a value could not be parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unparsed {
    /// The value is not valid JSON, or is nested too deeply.
    NotJson,
    /// The value has more than [`QUERY_VALUE_BYTES_MAX`] bytes.
    TooLong,
}

impl Parser {
    pub(super) fn new() -> Parser {
        let buffers = Buffers::with_max_depth(4096, QUERY_JSON_DEPTH_MAX);
        Parser { scratch: Vec::new(), buffers, tape: None, longest: 0, structures: 0 }
    }

    /// Returns the approximate bytes of memory that the parser holds between two values.
    pub(super) fn bytes(&self) -> usize {
        // The value, the space for its strings, the positions of its structural characters (4 bytes each), and the
        // tape.
        let tape = self.tape.as_ref().map_or(0, |tape| tape.0.capacity() * size_of::<Node<'_>>());
        EMPTY_BYTES + 2 * self.longest + 4 * self.structures + tape
    }

    /// Parses a value and passes its nodes to `look`.
    ///
    /// # Errors
    /// Returns why the value could not be parsed.
    pub(super) fn parse<T>(&mut self, value: &[u8], look: impl FnOnce(&[Node<'_>]) -> T) -> Result<T, Unparsed> {
        if value.len() > QUERY_VALUE_BYTES_MAX {
            return Err(Unparsed::TooLong);
        }
        self.scratch.clear();
        self.scratch.extend_from_slice(value);
        self.scratch.resize(value.len() + INPUT_PADDING, 0);
        let mut tape = self.tape.take().unwrap_or_else(Tape::null).reset();
        let parsed = simd_json::fill_tape_padded(&mut self.scratch, value.len(), &mut self.buffers, &mut tape);
        let seen = parsed.map(|()| look(&tape.0)).map_err(|_| Unparsed::NotJson);
        self.tape = Some(tape.reset());
        self.longest = self.longest.max(value.len());
        self.structures = self.structures.max(self.buffers.structural_indexes().len());
        if self.bytes() > QUERY_PARSER_KEPT_BYTES_MAX {
            *self = Parser::new();
        }
        seen
    }
}

/// Returns the index of the node behind the value at `at`.
pub(super) fn behind(nodes: &[Node<'_>], at: usize) -> usize {
    match nodes[at] {
        Node::Object { count, .. } | Node::Array { count, .. } => at + 1 + count,
        Node::String(_) | Node::Static(_) => at + 1,
    }
}

/// Returns the number at a node, or `None` if it is not a number.
pub(super) fn number(node: StaticNode) -> Option<Number> {
    match node {
        StaticNode::I64(value) => Some(Number::Int(value)),
        StaticNode::U64(value) => Some(i64::try_from(value).map_or(Number::Float(value as f64), Number::Int)),
        StaticNode::F64(value) => Some(Number::of(value)),
        StaticNode::Bool(_) | StaticNode::Null => None,
    }
}

/// Returns the node that `path` leads to from the value at the root, or `None` if it is missing.
pub(super) fn locate(nodes: &[Node<'_>], path: &Path) -> Option<usize> {
    let mut at = 0;
    for step in &path.steps {
        at = match (step, nodes[at]) {
            (Step::Field(name), Node::Object { len, .. }) => {
                let (mut key, mut found) = (at + 1, None);
                for _ in 0..len {
                    // If a name occurs more than once, its last field counts.
                    if matches!(nodes[key], Node::String(here) if *here == **name) {
                        found = Some(key + 1);
                    }
                    key = behind(nodes, key + 1);
                }
                found?
            }
            (Step::Index(index), Node::Array { len, .. }) if *index < len => {
                (0..*index).fold(at + 1, |element, _| behind(nodes, element))
            }
            _ => return None,
        };
    }
    Some(at)
}

/// Writes the value at `at` as JSON. Returns the index of the node behind it. Returns `None`, with part of the value in
/// `out`, if `out` would get longer than `max` bytes.
pub(super) fn write(nodes: &[Node<'_>], at: usize, out: &mut Vec<u8>, max: usize) -> Option<usize> {
    match nodes[at] {
        // Escapes can make the string six times as long; the length is checked again below.
        Node::String(text) if out.len() + text.len() > max => return None,
        Node::String(text) => string(text, out),
        Node::Static(node) => fixed(node, out),
        Node::Array { len, .. } => {
            out.push(b'[');
            let mut element = at + 1;
            for n in 0..len {
                out.extend_from_slice(if n == 0 { b"" } else { b"," });
                element = write(nodes, element, out, max)?;
            }
            out.push(b']');
        }
        Node::Object { len, .. } => {
            out.push(b'{');
            let mut key = at + 1;
            for n in 0..len {
                out.extend_from_slice(if n == 0 { b"" } else { b"," });
                let value = write(nodes, key, out, max)?;
                out.push(b':');
                key = write(nodes, value, out, max)?;
            }
            out.push(b'}');
        }
    }
    (out.len() <= max).then(|| behind(nodes, at))
}

fn fixed(node: StaticNode, out: &mut Vec<u8>) {
    match node {
        StaticNode::Null => out.extend_from_slice(b"null"),
        StaticNode::Bool(true) => out.extend_from_slice(b"true"),
        StaticNode::Bool(false) => out.extend_from_slice(b"false"),
        StaticNode::I64(value) => write!(out, "{value}").expect("memory takes it"),
        StaticNode::U64(value) => write!(out, "{value}").expect("memory takes it"),
        StaticNode::F64(value) => float(value, out),
    }
}

/// Writes the shortest number that gives the same `f64`; null if it is not finite.
pub(super) fn float(value: f64, out: &mut Vec<u8>) {
    serde_json::to_writer(out, &value).expect("memory takes it");
}

/// Writes a string in quotes.
pub(super) fn string(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("memory takes it");
}

/// Returns a value in serde_json's form, with exact numbers.
pub(super) fn value(nodes: &[Node<'_>], at: usize) -> serde_json::Value {
    use serde_json::Value;
    match nodes[at] {
        Node::String(text) => text.into(),
        Node::Static(StaticNode::Null) => Value::Null,
        Node::Static(StaticNode::Bool(value)) => value.into(),
        Node::Static(StaticNode::I64(value)) => value.into(),
        Node::Static(StaticNode::U64(value)) => value.into(),
        Node::Static(StaticNode::F64(value)) => value.into(),
        Node::Array { len, .. } => {
            let mut element = at + 1;
            let next = |_| {
                let this = element;
                element = behind(nodes, this);
                value(nodes, this)
            };
            Value::Array((0..len).map(next).collect())
        }
        Node::Object { len, .. } => {
            let mut key = at + 1;
            let mut next = |_| {
                let (name, this) = (nodes[key], key + 1);
                key = behind(nodes, this);
                let name = if let Node::String(name) = name { name.to_owned() } else { String::new() };
                (name, value(nodes, this))
            };
            Value::Object((0..len).map(&mut next).collect())
        }
    }
}
