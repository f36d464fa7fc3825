//! The table of inputs, and the memory that holds them.

use std::cell::RefCell;
use std::fmt;
use std::mem::MaybeUninit;

/// One input. Every kernel uses the parts that it needs.
pub(super) struct Case<'a> {
    /// Bytes, often a memcomparable encoding or nearly one.
    pub bytes: &'a [u8],
    /// The same bytes, possibly with one of them changed.
    pub twin: &'a [u8],
    /// One number per byte.
    pub ints: &'a [i64],
    pub floats: &'a [f64],
    /// A set of the same number of rows; bits after the last row may be set.
    pub rows: &'a [u64],
    /// Divides the bytes into the same number of strings.
    pub offsets: &'a [u32],
    pub random: u64,
    output: &'a RefCell<Guarded>,
    name: (usize, usize, usize),
}

impl fmt::Debug for Case<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (len, align, contents) = self.name;
        write!(f, "length {len}, alignment {align}, contents {contents}, random {}", self.random)
    }
}

impl Case<'_> {
    /// Returns one number of a column.
    pub fn pick<T: Copy>(&self, column: &[T]) -> Option<T> {
        (!column.is_empty()).then(|| column[self.random as usize % column.len()])
    }

    /// Returns a set of rows that `write` has written directly before an inaccessible page.
    pub fn words(&self, write: impl FnOnce(&mut [u64])) -> Vec<u64> {
        let mut guarded = self.output.borrow_mut();
        let out = guarded.place::<u64>(self.rows.len(), None);
        // Not zero: a kernel must write every word.
        out.fill(0x5a5a);
        write(out);
        out.to_vec()
    }

    /// Returns `len` bytes that `write` has written directly before an inaccessible page.
    pub fn output(&self, len: usize, write: impl FnOnce(&mut [MaybeUninit<u8>])) -> Vec<u8> {
        let mut guarded = self.output.borrow_mut();
        let out = guarded.at_end(len);
        out.fill(0x5a);
        // SAFETY: `u8` and `MaybeUninit<u8>` have the same layout, and a kernel writes only initialized bytes.
        write(unsafe { &mut *(&raw mut *out as *mut [MaybeUninit<u8>]) });
        out.to_vec()
    }
}

/// Memory between two inaccessible pages.
pub(super) struct Guarded {
    base: *mut u8,
    page: usize,
    len: usize,
}

impl Guarded {
    fn new(len: usize) -> Guarded {
        // SAFETY: a query without pointer arguments.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        let len = len.next_multiple_of(page);
        // SAFETY: new anonymous memory, of which all but the first and the last page are then made accessible.
        unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let base = libc::mmap(std::ptr::null_mut(), len + 2 * page, libc::PROT_NONE, flags, -1, 0);
            assert_ne!(base, libc::MAP_FAILED);
            let base = base.cast::<u8>().add(page);
            assert_eq!(libc::mprotect(base.cast(), len, libc::PROT_READ | libc::PROT_WRITE), 0);
            Guarded { base, page, len }
        }
    }

    /// Returns the last `len` bytes.
    fn at_end(&mut self, len: usize) -> &mut [u8] {
        assert!(len <= self.len);
        // SAFETY: within the memory, which only this value points to.
        unsafe { std::slice::from_raw_parts_mut(self.base.add(self.len - len), len) }
    }

    /// Returns `len` numbers of `T`, at the end or `align` bytes after the beginning (as far as `T` allows).
    fn place<T: Copy>(&mut self, len: usize, align: Option<usize>) -> &mut [T] {
        let bytes = len * size_of::<T>();
        let at = align.map_or(self.len - bytes, |align| align / align_of::<T>() * align_of::<T>());
        assert!(at + bytes <= self.len && at.is_multiple_of(align_of::<T>()));
        // SAFETY: within the memory and aligned; any bits are a valid `T` here.
        unsafe { std::slice::from_raw_parts_mut(self.base.add(at).cast::<T>(), len) }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: the memory that `new` has mapped.
        unsafe { libc::munmap(self.base.sub(self.page).cast(), self.len + 2 * self.page) };
    }
}

/// A generator of a fixed sequence of numbers (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn of<T: Copy>(&mut self, choice: &[T]) -> T {
        choice[(self.next() % choice.len() as u64) as usize]
    }
}

const CONTENTS: usize = 6;

/// Calls `check` with every input of the table.
pub(super) fn cases(mut check: impl FnMut(&Case<'_>)) {
    let mut memory = Memory::new();
    for len in 0..=130 {
        for align in 0..64 {
            memory.case(len, Some(align), (len + align) % CONTENTS, &mut check);
        }
        for contents in 0..CONTENTS {
            memory.case(len, None, contents, &mut check);
        }
    }
    // Long enough for the folding of checksums and for many words of rows, with an odd remainder.
    for len in [4097, 8191] {
        for contents in 0..CONTENTS {
            memory.case(len, None, contents, &mut check);
            memory.case(len, Some(contents * 11), contents, &mut check);
        }
    }
    let mut random = Random(1);
    for at in 0..1000 {
        let len = (random.next() % 1500) as usize;
        memory.case(len, (at % 2 == 0).then_some(at % 64), at % CONTENTS, &mut check);
    }
}

struct Memory {
    bytes: Guarded,
    twin: Guarded,
    ints: Guarded,
    floats: Guarded,
    rows: Guarded,
    offsets: Guarded,
    output: RefCell<Guarded>,
}

impl Memory {
    fn new() -> Memory {
        let guarded = || Guarded::new(80 << 10);
        Memory {
            bytes: guarded(),
            twin: guarded(),
            ints: guarded(),
            floats: guarded(),
            rows: guarded(),
            offsets: guarded(),
            output: RefCell::new(guarded()),
        }
    }

    fn case(&mut self, len: usize, align: Option<usize>, contents: usize, check: &mut impl FnMut(&Case<'_>)) {
        let mut random = Random((len * 64 + align.unwrap_or(64)) as u64);
        let bytes = self.bytes.place::<u8>(len, align);
        fill_bytes(bytes, contents, &mut random);
        let twin = self.twin.place::<u8>(len, align.map(|align| 63 - align));
        twin.copy_from_slice(bytes);
        if len > 0 && !random.next().is_multiple_of(4) {
            let at = random.next() as usize % len;
            twin[at] ^= 1 << (random.next() % 8);
        }
        let ints = self.ints.place::<i64>(len, align);
        let extremes = [i64::MIN, i64::MAX, 0, -1, 1, i64::from(u32::MAX), 1 << 32, i64::MIN + 1];
        ints.fill_with(|| match contents {
            0 => i64::MIN,
            1 => i64::MAX,
            2 => random.next() as i64,
            3 => random.of(&extremes),
            _ => random.next() as i64 % 3,
        });
        let floats = self.floats.place::<f64>(len, align);
        let edges = [0.0, -0.0, f64::NAN, -f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MIN_POSITIVE, 5e-324];
        floats.fill_with(|| match contents {
            0 => -0.0,
            1 => f64::NAN,
            2 => f64::from_bits(random.next()),
            3 => random.of(&edges),
            _ => (random.next() as i64 >> 20) as f64 / 1000.0,
        });
        let rows = self.rows.place::<u64>(len.div_ceil(64), align);
        let density = random.next() % 5;
        rows.fill_with(|| match density {
            0 => 0,
            1 => !0,
            2 => random.next() & random.next() & random.next() & random.next(),
            3 => random.next() | random.next() | random.next(),
            _ => random.next(),
        });
        let offsets = self.offsets.place::<u32>(len + 1, align);
        offsets.fill_with(|| (random.next() % (len as u64 + 1)) as u32);
        offsets.sort_unstable();
        let case = Case {
            bytes,
            twin,
            ints,
            floats,
            rows,
            offsets,
            random: random.next(),
            output: &self.output,
            name: (len, align.unwrap_or(64), contents),
        };
        check(&case);
    }
}

fn fill_bytes(bytes: &mut [u8], contents: usize, random: &mut Random) {
    match contents {
        0 => bytes.fill(0),
        1 => bytes.fill(0xff),
        2 => bytes.fill_with(|| random.next() as u8),
        3 => bytes.fill_with(|| random.of(&[0, 1, 0xf7, 0xfe, 0xff, b'a'])),
        _ => {
            // An encoding that ends anywhere, written according to its definition; the last kind of contents has one
            // wrong byte.
            let last = random.next() as usize % (bytes.len() / 9 + 1);
            let padding = random.next() as usize % 8 + 1;
            for (at, byte) in bytes.iter_mut().enumerate() {
                let (group, within) = (at / 9, at % 9);
                *byte = match within {
                    8 if group == last => 0xff - padding as u8,
                    8 => 0xff,
                    _ if group == last && within >= 8 - padding => 0,
                    _ => random.next() as u8,
                };
            }
            if contents == 5 && !bytes.is_empty() {
                let at = random.next() as usize % bytes.len();
                bytes[at] = random.of(&[0, 1, 0xf6, 0xf7, 0xff]);
            }
        }
    }
}
