//! Up to 1024 rows, column by column, and how a value's parts get there.

use simd_json::{Node, StaticNode};

use crate::arch::column::{Bitmap, BytesColumn};
use crate::types::limits::QUERY_COLUMN_KEPT_BYTES_MAX;

use super::json::{behind, number};
use super::path::{Path, Step};
use super::scalar::Number;

/// Rows of one chunk.
pub(super) const ROWS: usize = 1024;
/// Bytes of a column without its texts.
const COLUMN_BYTES: usize = ROWS * (size_of::<i64>() + size_of::<f64>() + size_of::<u32>()) + 7 * ROWS / 8;

/// The values of one path. A row has at most one of these; what has none is missing.
#[derive(Debug)]
pub(super) struct Cells {
    /// Rows where the path is there, whatever it leads to.
    pub(super) present: Bitmap,
    /// Null.
    pub(super) null: Bitmap,
    /// false.
    pub(super) no: Bitmap,
    /// true.
    pub(super) yes: Bitmap,
    /// Rows with an integer.
    pub(super) int: Bitmap,
    /// Rows with another number.
    pub(super) float: Bitmap,
    /// Rows with a text.
    pub(super) text: Bitmap,
    /// Integers; whatever was there before in other rows.
    pub(super) ints: Vec<i64>,
    /// Other numbers.
    pub(super) floats: Vec<f64>,
    /// Where each text begins.
    offsets: Vec<u32>,
    /// Rows whose offset is set.
    begun: usize,
    /// Texts, one after the other.
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

    /// Gives the first `rows` rows their offset: what is not set yet begins here.
    fn begin(&mut self, rows: usize) {
        let here = self.texts.len() as u32;
        self.offsets[self.begun..rows].fill(here);
        self.begun = self.begun.max(rows);
    }

    /// The texts, all rows begun by [`Chunk::close`].
    pub(super) fn strings(&self) -> BytesColumn<'_> {
        BytesColumn::new(&self.offsets, &self.texts)
    }

    /// The text of one row.
    pub(super) fn string(&self, row: usize) -> &str {
        let bytes = &self.texts[self.offsets[row] as usize..self.offsets[row + 1] as usize];
        std::str::from_utf8(bytes).expect("texts are copied whole")
    }

    /// Bytes of the longest text among `rows`, or of none if all are short: at most `short`.
    pub(super) fn longest(&self, rows: &Bitmap, short: usize) -> usize {
        if self.texts.len() <= short {
            return 0;
        }
        let len = |row: usize| (self.offsets[row + 1] - self.offsets[row]) as usize;
        rows.iter().filter(|row| self.text.get(*row)).map(len).max().unwrap_or(0)
    }

    /// The number of one row.
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

/// Rows on their way through the predicate.
#[derive(Debug)]
pub(super) struct Chunk {
    /// A column a path.
    pub(super) columns: Vec<Cells>,
    /// Rows so far.
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

    /// Bytes of the texts in all columns.
    pub(super) fn text_bytes(&self) -> usize {
        self.columns.iter().map(|column| column.texts.len()).sum()
    }

    /// Bytes of memory that it takes.
    pub(super) fn bytes(&self) -> usize {
        self.columns.iter().map(|column| COLUMN_BYTES + column.texts.capacity()).sum()
    }

    /// No more rows: every row of every column gets its place.
    pub(super) fn close(&mut self) {
        self.columns.iter_mut().for_each(|column| column.begin(ROWS + 1));
    }

    /// The rows there are.
    pub(super) fn all(&self) -> Bitmap {
        let mut rows = Bitmap::ones(self.rows);
        while rows.len() < ROWS {
            rows.push(false);
        }
        rows
    }
}

/// Paths by their common beginnings, so that one walk finds them all.
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

/// Fields that are looked for in one object at once.
const FIELDS_MAX: usize = crate::types::limits::QUERY_PATHS_MAX;

impl Trie {
    /// Path `n` fills column `n`.
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
                // The last field of one name counts.
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
