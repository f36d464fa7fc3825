//! A short list without a heap: states are copied millions of times.

use std::hash::{Hash, Hasher};
use std::ops::Deref;

/// At most `N` values. Places behind the end hold the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct List<T, const N: usize> {
    len: u8,
    values: [T; N],
}

impl<T: Copy + Default, const N: usize> List<T, N> {
    /// An empty list.
    pub fn new() -> List<T, N> {
        List { len: 0, values: [T::default(); N] }
    }

    /// Adds a value at the end.
    ///
    /// # Panics
    /// When the list is full: the bounds of a model must not allow that.
    pub fn push(&mut self, value: T) {
        self.values[usize::from(self.len)] = value;
        self.len += 1;
    }

    /// Keeps the first `len` values.
    pub fn truncate(&mut self, len: usize) {
        for value in self.values.iter_mut().skip(len) {
            *value = T::default();
        }
        self.len = self.len.min(u8::try_from(len).unwrap_or(u8::MAX));
    }
}

impl<T: Copy + Default, const N: usize> Default for List<T, N> {
    fn default() -> List<T, N> {
        List::new()
    }
}

impl<T: Copy + Default, const N: usize> Extend<T> for List<T, N> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, values: I) {
        values.into_iter().for_each(|value| self.push(value));
    }
}

impl<T: Hash, const N: usize> Hash for List<T, N> {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.deref().hash(hasher);
    }
}

impl<T, const N: usize> Deref for List<T, N> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.values[..usize::from(self.len)]
    }
}
