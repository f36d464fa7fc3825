//! A set of rows of one chunk, with one bit per row in words of 64.

/// A set of rows: row `i` is bit `i % 64` of word `i / 64`. The bits after the last row are always zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bitmap {
    words: Vec<u64>,
    len: usize,
}

impl Bitmap {
    /// Creates a set without rows.
    pub fn new() -> Bitmap {
        Bitmap::default()
    }

    /// Creates a set of `len` rows that contains none of them.
    pub fn zeros(len: usize) -> Bitmap {
        Bitmap { words: vec![0; len.div_ceil(64)], len }
    }

    /// Creates a set of `len` rows that contains all of them.
    pub fn ones(len: usize) -> Bitmap {
        let mut bitmap = Bitmap { words: vec![!0; len.div_ceil(64)], len };
        bitmap.trim();
        bitmap
    }

    /// Removes all rows and keeps the memory.
    pub fn clear(&mut self) {
        self.words.clear();
        self.len = 0;
    }

    /// Replaces the rows with `len` new ones, all of them in the set or none; keeps the memory.
    pub fn fill(&mut self, len: usize, value: bool) {
        self.words.clear();
        self.words.resize(len.div_ceil(64), if value { !0 } else { 0 });
        self.len = len;
        self.trim();
    }

    /// Appends a row, in the set or not.
    pub fn push(&mut self, value: bool) {
        if self.len.is_multiple_of(64) {
            self.words.push(0);
        }
        self.len += 1;
        if value {
            let at = self.len - 1;
            self.words[at / 64] |= 1 << (at % 64);
        }
    }

    /// Returns the number of rows, in the set or not.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether there are no rows at all. [`Bitmap::any`] returns whether any row is in the set.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns whether `row` is in the set.
    ///
    /// # Panics
    /// Panics if there is no such row.
    pub fn get(&self, row: usize) -> bool {
        assert!(row < self.len, "row {row} of {}", self.len);
        self.words[row / 64] >> (row % 64) & 1 == 1
    }

    /// Adds `row` to the set or removes it.
    ///
    /// # Panics
    /// Panics if there is no such row.
    pub fn set(&mut self, row: usize, value: bool) {
        assert!(row < self.len, "row {row} of {}", self.len);
        let bit = 1 << (row % 64);
        if value { self.words[row / 64] |= bit } else { self.words[row / 64] &= !bit }
    }

    /// Returns the words; the first row is the lowest bit of the first word.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// Returns the number of rows in the set.
    pub fn count(&self) -> usize {
        super::count(self)
    }

    /// Returns whether any row is in the set.
    pub fn any(&self) -> bool {
        self.words.iter().any(|word| *word != 0)
    }

    /// Returns whether every row is in the set.
    pub fn all(&self) -> bool {
        self.count() == self.len
    }

    /// Keeps only the rows that are also in `other`.
    ///
    /// # Panics
    /// This and the other operations on two sets panic if their numbers of rows differ.
    pub fn and(&mut self, other: &Bitmap) {
        self.zip(other, |a, b| a & b);
    }

    /// Adds the rows of `other`.
    pub fn or(&mut self, other: &Bitmap) {
        self.zip(other, |a, b| a | b);
    }

    /// Removes the rows of `other`.
    pub fn and_not(&mut self, other: &Bitmap) {
        self.zip(other, |a, b| a & !b);
    }

    /// Inverts the set.
    pub fn not(&mut self) {
        for word in &mut self.words {
            *word = !*word;
        }
        self.trim();
    }

    /// Returns the rows in the set, ascending.
    pub fn iter(&self) -> Rows<'_> {
        Rows { words: &self.words, next: 0, word: 0 }
    }

    /// Returns zeroed words for `len` rows, to be overwritten. The writer must keep the bits after the last row zero.
    pub(crate) fn reset(&mut self, len: usize) -> &mut [u64] {
        self.words.clear();
        self.words.resize(len.div_ceil(64), 0);
        self.len = len;
        &mut self.words
    }

    fn zip(&mut self, other: &Bitmap, op: impl Fn(u64, u64) -> u64) {
        assert_eq!(self.len, other.len, "sets of rows of different chunks");
        for (word, other) in self.words.iter_mut().zip(&other.words) {
            *word = op(*word, *other);
        }
    }

    fn trim(&mut self) {
        if let Some(last) = self.words.last_mut()
            && !self.len.is_multiple_of(64)
        {
            *last &= (1 << (self.len % 64)) - 1;
        }
    }
}

impl<'a> IntoIterator for &'a Bitmap {
    type Item = usize;
    type IntoIter = Rows<'a>;

    fn into_iter(self) -> Rows<'a> {
        self.iter()
    }
}

/// The rows of a set, ascending.
#[derive(Clone, Debug)]
pub struct Rows<'a> {
    words: &'a [u64],
    /// Number of words taken from `words` so far.
    next: usize,
    word: u64,
}

impl Iterator for Rows<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        while self.word == 0 {
            self.word = *self.words.get(self.next)?;
            self.next += 1;
        }
        let bit = self.word.trailing_zeros() as usize;
        self.word &= self.word - 1;
        Some((self.next - 1) * 64 + bit)
    }
}

#[cfg(test)]
mod tests {
    use super::Bitmap;

    /// Goal: a bitmap behaves as a set of rows. Method: every length up to 130, compared with `Vec<bool>`.
    #[test]
    fn against_booleans() {
        for len in 0..=130usize {
            let left: Vec<bool> = (0..len).map(|n| n * n % 7 < 3).collect();
            let right: Vec<bool> = (0..len).map(|n| n % 5 == len % 5).collect();
            let of = |bits: &[bool]| {
                let mut bitmap = Bitmap::new();
                bits.iter().for_each(|bit| bitmap.push(*bit));
                bitmap
            };
            let check = |bitmap: &Bitmap, expected: &dyn Fn(usize) -> bool| {
                assert_eq!(bitmap.len(), len);
                let rows: Vec<usize> = (0..len).filter(|row| expected(*row)).collect();
                assert_eq!(bitmap.iter().collect::<Vec<_>>(), rows);
                assert_eq!(bitmap.count(), rows.len());
                assert_eq!(bitmap.any(), !rows.is_empty());
                assert_eq!(bitmap.all(), rows.len() == len);
                assert!((0..len).all(|row| bitmap.get(row) == expected(row)));
                let bits: u32 = bitmap.words().iter().map(|word| word.count_ones()).sum();
                assert_eq!(bits as usize, rows.len(), "bits after the last row");
            };
            let (a, b) = (of(&left), of(&right));
            check(&a, &|n| left[n]);
            check(&Bitmap::ones(len), &|_| true);
            check(&Bitmap::zeros(len), &|_| false);
            let mut c = a.clone();
            c.and(&b);
            check(&c, &|n| left[n] && right[n]);
            c.clone_from(&a);
            c.or(&b);
            check(&c, &|n| left[n] || right[n]);
            c.clone_from(&a);
            c.and_not(&b);
            check(&c, &|n| left[n] && !right[n]);
            c.clone_from(&a);
            c.not();
            check(&c, &|n| !left[n]);
            c.fill(len, true);
            check(&c, &|_| true);
            for (row, value) in left.iter().enumerate().take(len) {
                c.set(row, *value);
            }
            assert_eq!(c, a);
        }
    }
}
