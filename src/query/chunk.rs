//! A chunk: up to 1024 rows, stored by column, and the extraction of a value's parts into it.

use simd_json::{Node, StaticNode};

use crate::arch::column::{Bitmap, BytesColumn};
use crate::types::limits::QUERY_COLUMN_KEPT_BYTES_MAX;

use super::json::{behind, number};
use super::path::{Path, Step};
use super::scalar::Number;

/// How many rows one chunk has.
pub(super) const ROWS: usize = 1024;
/// Bytes of a column without its strings.
const COLUMN_BYTES: usize = ROWS * (size_of::<i64>() + size_of::<f64>() + size_of::<u32>()) + 7 * ROWS / 8;

/// The values of one path. At most one of the bitmaps from `null` to `text` is set for a row.
#[derive(Debug)]
pub(super) struct Cells {
    /// Rows in which the path exists, whatever its value is.
    pub(super) present: Bitmap,
    /// Rows with null.
    pub(super) null: Bitmap,
    /// Rows with false.
    pub(super) no: Bitmap,
    /// Rows with true.
    pub(super) yes: Bitmap,
    /// Rows with an integer.
    pub(super) int: Bitmap,
    /// Rows with another number.
    pub(super) float: Bitmap,
    /// Rows with a string.
    pub(super) text: Bitmap,
    /// The integers. Other rows have stale values.
    pub(super) ints: Vec<i64>,
    /// The other numbers. Other rows have stale values.
    pub(super) floats: Vec<f64>,
    /// Where each row's string begins.
    offsets: Vec<u32>,
    /// How many rows have an offset.
    begun: usize,
    /// The strings, concatenated.
    texts: Vec<u8>,
}

impl Cells {
    fn new() -> Cells {
        let none = || Bitmap::zeros(ROWS);
        Cells {
            present: none(),
            null: none(),
            no: none(),
            yes: none(),
            int: none(),
            float: none(),
            text: none(),
            ints: vec![0; ROWS],
            floats: vec![0.0; ROWS],
            offsets: vec![0; ROWS + 1],
            begun: 0,
            texts: Vec::new(),
        }
    }

    fn clear(&mut self) {
        for rows in [
            &mut self.present,
            &mut self.null,
            &mut self.no,
            &mut self.yes,
            &mut self.int,
            &mut self.float,
            &mut self.text,
        ] {
            rows.fill(ROWS, false);
        }
        self.begun = 0;
        self.texts.clear();
        self.texts.shrink_to(QUERY_COLUMN_KEPT_BYTES_MAX);
    }

    fn set(&mut self, row: usize, node: Node<'_>) {
        self.present.set(row, true);
        match node {
            Node::String(text) => {
                self.text.set(row, true);
                self.begin(row + 1);
                self.texts.extend_from_slice(text.as_bytes());
            }
            Node::Static(StaticNode::Null) => self.null.set(row, true),
            Node::Static(StaticNode::Bool(true)) => self.yes.set(row, true),
            Node::Static(StaticNode::Bool(false)) => self.no.set(row, true),
            Node::Static(node) => match number(node) {
                Some(Number::Int(value)) => {
                    self.int.set(row, true);
                    self.ints[row] = value;
                }
                Some(Number::Float(value)) => {
                    self.float.set(row, true);
                    self.floats[row] = value;
                }
                None => {}
            },
            Node::Array { .. } | Node::Object { .. } => {}
        }
    }

    /// Sets the offsets of the first `rows` rows: those without one begin here.
    fn begin(&mut self, rows: usize) {
        let here = self.texts.len() as u32;
        self.offsets[self.begun..rows].fill(here);
        self.begun = self.begun.max(rows);
    }

    /// Returns the strings. [`Chunk::close`] must have set all offsets.
    pub(super) fn strings(&self) -> BytesColumn<'_> {
        BytesColumn::new(&self.offsets, &self.texts)
    }

    /// Returns the string of one row.
    pub(super) fn string(&self, row: usize) -> &str {
        let bytes = &self.texts[self.offsets[row] as usize..self.offsets[row + 1] as usize];
        std::str::from_utf8(bytes).expect("strings are copied whole")
    }

    /// Returns the bytes of the longest string among `rows`, or 0 if all strings together have at most `short` bytes.
    pub(super) fn longest(&self, rows: &Bitmap, short: usize) -> usize {
        if self.texts.len() <= short {
            return 0;
        }
        let len = |row: usize| (self.offsets[row + 1] - self.offsets[row]) as usize;
        rows.iter().filter(|row| self.text.get(*row)).map(len).max().unwrap_or(0)
    }

    /// Returns the number of one row.
    pub(super) fn number(&self, row: usize) -> Option<Number> {
        if self.int.get(row) {
            Some(Number::Int(self.ints[row]))
        } else if self.float.get(row) {
            Some(Number::Float(self.floats[row]))
        } else {
            None
        }
    }
}

/// Rows to which the predicate will be applied.
#[derive(Debug)]
pub(super) struct Chunk {
    /// One column for each path.
    pub(super) columns: Vec<Cells>,
    /// How many rows there are so far.
    pub(super) rows: usize,
}

impl Chunk {
    pub(super) fn new(columns: usize) -> Chunk {
        Chunk { columns: (0..columns).map(|_| Cells::new()).collect(), rows: 0 }
    }

    pub(super) fn clear(&mut self) {
        self.columns.iter_mut().for_each(Cells::clear);
        self.rows = 0;
    }

    /// Adds a row: the value at the root of `nodes`.
    pub(super) fn push(&mut self, trie: &Trie, nodes: &[Node<'_>]) {
        trie.extract(0, nodes, 0, self.rows, &mut self.columns);
        self.rows += 1;
    }

    /// Returns the bytes of the strings in all columns.
    pub(super) fn text_bytes(&self) -> usize {
        self.columns.iter().map(|column| column.texts.len()).sum()
    }

    /// Returns the bytes of memory that the chunk uses.
    pub(super) fn bytes(&self) -> usize {
        self.columns.iter().map(|column| COLUMN_BYTES + column.texts.capacity()).sum()
    }

    /// Closes the chunk: no rows follow, and every row of every column gets its offset.
    pub(super) fn close(&mut self) {
        self.columns.iter_mut().for_each(|column| column.begin(ROWS + 1));
    }

    /// Returns a bitmap of the rows that exist.
    pub(super) fn all(&self) -> Bitmap {
        let mut rows = Bitmap::ones(self.rows);
        while rows.len() < ROWS {
            rows.push(false);
        }
        rows
    }
}

/// Paths, merged by their common prefixes, so that one walk finds all of them.
#[derive(Clone, Debug)]
pub(super) struct Trie {
    nodes: Vec<Branch>,
}

#[derive(Clone, Debug, Default)]
struct Branch {
    column: Option<usize>,
    fields: Vec<(Box<str>, usize)>,
    indexes: Vec<(usize, usize)>,
}

/// How many fields can be searched for in one object at a time.
const FIELDS_MAX: usize = crate::types::limits::QUERY_PATHS_MAX;

impl Trie {
    /// Creates a trie in which path `n` fills column `n`.
    pub(super) fn new(paths: &[Path]) -> Trie {
        let mut trie = Trie { nodes: vec![Branch::default()] };
        for (column, path) in paths.iter().enumerate() {
            let mut at = 0;
            for step in &path.steps {
                let fresh = trie.nodes.len();
                let branch = &mut trie.nodes[at];
                at = match step {
                    Step::Field(name) => match branch.fields.iter().find(|(known, _)| known == name) {
                        Some((_, next)) => *next,
                        None => {
                            branch.fields.push((name.clone(), fresh));
                            fresh
                        }
                    },
                    Step::Index(index) => match branch.indexes.iter().find(|(known, _)| known == index) {
                        Some((_, next)) => *next,
                        None => {
                            branch.indexes.push((*index, fresh));
                            fresh
                        }
                    },
                };
                if at == fresh {
                    trie.nodes.push(Branch::default());
                }
            }
            trie.nodes[at].column = Some(column);
        }
        trie
    }

    fn extract(&self, branch: usize, nodes: &[Node<'_>], at: usize, row: usize, columns: &mut [Cells]) {
        let branch = &self.nodes[branch];
        if let Some(column) = branch.column {
            columns[column].set(row, nodes[at]);
        }
        match nodes[at] {
            Node::Object { len, .. } if !branch.fields.is_empty() => {
                // If a name occurs more than once, its last field counts.
                let mut found = [0usize; FIELDS_MAX];
                let found = &mut found[..branch.fields.len()];
                let mut key = at + 1;
                for _ in 0..len {
                    if let Node::String(name) = nodes[key]
                        && let Some(n) = branch.fields.iter().position(|(field, _)| **field == *name)
                    {
                        found[n] = key + 1;
                    }
                    key = behind(nodes, key + 1);
                }
                for ((_, next), at) in branch.fields.iter().zip(found) {
                    if *at > 0 {
                        self.extract(*next, nodes, *at, row, columns);
                    }
                }
            }
            Node::Array { len, .. } => {
                for (index, next) in &branch.indexes {
                    if *index < len {
                        let element = (0..*index).fold(at + 1, |element, _| behind(nodes, element));
                        self.extract(*next, nodes, element, row, columns);
                    }
                }
            }
            _ => {}
        }
    }
}
