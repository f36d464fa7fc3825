//! The simulator's allocator. A run allocates about ten thousand small, short-lived objects per simulated second, all
//! on one thread, and ends with its process.
//!
//! Sizes fall into classes. Each thread keeps a list of free blocks for each class and cuts new ones from its chunk. A
//! freed block joins the list of the thread that frees it. Chunks are never returned to the system. Blocks larger than
//! [`LARGEST`], or aligned to more than [`STEP`] bytes, come from the system allocator.
//!
//! **In** come layouts, **out** go blocks of at least that size. **Never**: a run whose outcome depends on an address.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ptr;

/// Classes up to [`FINE`] bytes are multiples of this; every block is aligned to it.
const STEP: usize = 16;
/// Up to this size classes are `STEP` apart; above it there are four for each power of two.
const FINE: usize = 1024;
/// The size of the largest class.
const LARGEST: usize = 64 << 10;
/// The number of classes: 64 fine ones, then four for each of the six powers of two up to 64 KiB.
const CLASSES: usize = FINE / STEP + 4 * 6;
/// Number of bytes to take from the system at a time.
const CHUNK: usize = 1 << 20;

/// Returns the class of a size, and the class's size.
fn class(size: usize) -> (usize, usize) {
    if size <= FINE {
        let steps = size.div_ceil(STEP).max(1);
        return (steps - 1, steps * STEP);
    }
    // For sizes above 1024: the power of two at or below size - 1, in quarters.
    let power = (size - 1).ilog2();
    let quarter = (size - 1) >> (power - 2) & 3;
    let class = FINE / STEP + (power as usize - FINE.ilog2() as usize) * 4 + quarter;
    (class, (quarter + 5) << (power - 2))
}

/// A thread's free lists. A free block holds the address of the next one.
struct Lists {
    free: [Cell<*mut u8>; CLASSES],
    /// The unused part of the chunk.
    next: Cell<*mut u8>,
    left: Cell<usize>,
}

thread_local! {
    static LISTS: Lists = const {
        Lists { free: [const { Cell::new(ptr::null_mut()) }; CLASSES], next: Cell::new(ptr::null_mut()), left: Cell::new(0) }
    };
}

impl Lists {
    fn take(&self, class: usize, size: usize) -> *mut u8 {
        let first = self.free[class].get();
        if first.is_null() {
            return self.cut(size);
        }
        // SAFETY: `give` put the block on the list and wrote the next one's address into it; no other list or user has
        // it.
        self.free[class].set(unsafe { first.cast::<*mut u8>().read() });
        first
    }

    fn give(&self, class: usize, block: *mut u8) {
        // SAFETY: the block is the caller's, of at least `STEP` bytes and aligned to them.
        unsafe { block.cast::<*mut u8>().write(self.free[class].get()) };
        self.free[class].set(block);
    }

    /// Cuts a new block from the chunk.
    #[cold]
    fn cut(&self, size: usize) -> *mut u8 {
        if self.left.get() < size {
            let layout = Layout::from_size_align(CHUNK, STEP).expect("a power of two");
            // SAFETY: the layout is not empty.
            let chunk = unsafe { System.alloc(layout) };
            if chunk.is_null() {
                return chunk;
            }
            self.next.set(chunk);
            self.left.set(CHUNK);
        }
        let block = self.next.get();
        // SAFETY: `left` says that `size` bytes follow in the chunk.
        self.next.set(unsafe { block.add(size) });
        self.left.set(self.left.get() - size);
        block
    }
}

/// The allocator; see the documentation of this module.
pub struct Memory;

/// Returns the class and its size, if the layout has one.
fn classed(layout: Layout) -> Option<(usize, usize)> {
    (layout.size() <= LARGEST && layout.align() <= STEP).then(|| class(layout.size()))
}

// SAFETY: blocks of a class are disjoint parts of chunks that are never given back, at least as large as the layout and
// aligned to `STEP`; a block is on at most one list, and on none while it is used. All other blocks belong to the
// system allocator. The layout alone determines which of the two it is.
unsafe impl GlobalAlloc for Memory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match classed(layout) {
            Some((class, size)) => LISTS.with(|lists| lists.take(class, size)),
            // SAFETY: as the caller promises.
            None => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match classed(layout) {
            Some((class, _)) => LISTS.with(|lists| lists.give(class, block)),
            // SAFETY: as the caller promises; the system allocated the block.
            None => unsafe { System.dealloc(block, layout) },
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller promises that `size`, rounded up to the alignment, fits.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (classed(layout), classed(wanted)) {
            (Some(old), Some(new)) if old == new => block,
            // SAFETY: as the caller promises; the system allocated the block and keeps it.
            (None, None) => unsafe { System.realloc(block, layout, size) },
            _ => {
                // SAFETY: both blocks hold as many bytes as are copied, and they are not the same.
                unsafe {
                    let fresh = self.alloc(wanted);
                    if !fresh.is_null() {
                        ptr::copy_nonoverlapping(block, fresh, layout.size().min(size));
                        self.dealloc(block, layout);
                    }
                    fresh
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: classes hold their sizes, without gaps; blocks of one class do not overlap. Method: all sizes; a thousand
    //! blocks.
    use super::*;

    #[test]
    fn a_class_holds_its_sizes() {
        let mut before = (0, STEP);
        for size in 1..=LARGEST {
            let (number, bytes) = class(size);
            assert!(bytes >= size && bytes.is_multiple_of(STEP) && number < CLASSES, "{size}");
            assert!(bytes - size < STEP.max(size / 4 + 1), "{size}: {bytes} wastes too much");
            assert!((number, bytes) == before || (number == before.0 + 1 && bytes > before.1), "{size}");
            before = (number, bytes);
        }
        assert_eq!(class(LARGEST), (CLASSES - 1, LARGEST));
        assert_eq!(class(0), class(1));
    }

    #[test]
    fn blocks_keep_what_is_written() {
        let sizes = (0..1000).map(|n| n * 83 % 3000 + 1);
        let mut all: Vec<(Vec<u8>, u8)> = sizes.map(|size| (vec![size as u8; size], size as u8)).collect();
        for (bytes, mark) in &mut all {
            assert!(bytes.iter().all(|byte| byte == mark));
            let longer = bytes.len() * 2;
            bytes.resize(longer, *mark);
        }
        assert!(all.iter().all(|(bytes, mark)| bytes.iter().all(|byte| byte == mark)));
    }
}
