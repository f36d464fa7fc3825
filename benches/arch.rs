//! Measures the kernels against their scalar references and against the best crate for the same task, interleaved in
//! one run.
//!
//! ```text
//! cargo bench -p armilla-arch --features versus -- table     the table of ratios in docs/performance.md, "Kernels"
//! cargo bench -p armilla-arch --features versus              the same kernels under criterion, bytes a second
//! ```
//! Each line of the table is a contest: the candidates take turns in 41 rounds of about 100 us each, and a ratio is the
//! median over the rounds of (their time / our time). Other load on the machine therefore slows all of them equally.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "benches of the real world")]

use std::alloc::Layout;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::mem::MaybeUninit;
use std::ops::Bound;
use std::time::{Duration, Instant};

use armilla_arch::column::{Bitmap, BytesColumn, BytesSet, Cmp, Needle};
use armilla_arch::{KeyIndex, dispatch, key, memcomparable, run, scalar};
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{Array, BinaryArray, Float64Array, Int64Array};
use criterion::{Criterion, Throughput};
use serde::Serializer as _;

const SIZES: [usize; 5] = [16, 64, 256, 4 << 10, 64 << 10];

/// The work of one candidate in one call.
type Call = Box<dyn FnMut()>;

/// One kernel on one input, with its candidates. Ours comes first, the scalar reference second.
struct Contest {
    kernel: &'static str,
    /// Number of bytes, or of keys of an index.
    size: usize,
    contestants: Vec<(&'static str, Call)>,
}

struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

macro_rules! contest {
    ($contests:ident, $kernel:expr, $size:expr; $($name:literal => $body:expr;)*) => {
        $contests.push(Contest {
            kernel: $kernel,
            size: $size,
            contestants: vec![$(($name, Box::new($body) as Call)),*],
        })
    };
}

fn bytes(len: usize) -> Vec<u8> {
    let mut numbers = Numbers(len as u64 + 1);
    (0..len).map(|_| numbers.next() as u8).collect()
}

/// Returns a copy at the start of a cache line, the same for all candidates, so that alignment does not affect the
/// contest.
fn placed<T: Copy>(values: &[T]) -> &'static [T] {
    let copy = place(values.len(), 0);
    for (to, from) in copy.iter_mut().zip(values) {
        to.write(*from);
    }
    // SAFETY: all of it was written.
    unsafe { copy.assume_init_ref() }
}

/// Returns space for `len` results, at the same position in its page for every candidate.
fn room<T: Copy>(len: usize, zero: T) -> &'static mut [T] {
    let room = place(len, 17 * 64);
    for to in room.iter_mut() {
        to.write(zero);
    }
    // SAFETY: all of it was written.
    unsafe { room.assume_init_mut() }
}

/// Returns memory for `len` values, `offset` bytes behind the start of a page; it is never freed.
fn place<T: Copy>(len: usize, offset: usize) -> &'static mut [MaybeUninit<T>] {
    let layout = Layout::from_size_align(offset + size_of::<T>() * len.max(1), 4096).expect("a size");
    // SAFETY: the layout is not empty; the memory has space for `len` values behind `offset`, a multiple of their
    // alignment.
    unsafe {
        let memory = std::alloc::alloc(layout);
        assert!(!memory.is_null(), "no memory");
        std::slice::from_raw_parts_mut(memory.add(offset).cast(), len)
    }
}

fn checksums(contests: &mut Vec<Contest>) {
    for size in SIZES {
        let data = placed(&bytes(size));
        contest!(contests, "crc32c", size;
            "ours" => move || { black_box(armilla_arch::crc32c(black_box(data))); };
            "scalar" => move || { black_box(scalar::crc32c(0, black_box(data))); };
            "crc-fast" => move || {
                black_box(crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, black_box(data)));
            };
            "crc32c" => move || { black_box(crc32c::crc32c(black_box(data))); };
        );
        contest!(contests, "crc32c_append", size;
            "ours" => move || { black_box(armilla_arch::crc32c_append(7, black_box(data))); };
            "scalar" => move || { black_box(scalar::crc32c(7, black_box(data))); };
            "crc32c" => move || { black_box(crc32c::crc32c_append(7, black_box(data))); };
        );
        contest!(contests, "crc64", size;
            "ours" => move || { black_box(armilla_arch::crc64(&[black_box(data)])); };
            "scalar" => move || { black_box(scalar::crc64(0, black_box(data))); };
            "crc64fast" => move || {
                let mut digest = crc64fast::Digest::new();
                digest.write(black_box(data));
                black_box(digest.sum64());
            };
        );
    }
}

struct Buffer;

impl serde::de::Visitor<'_> for Buffer {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("bytes")
    }

    fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
        Ok(bytes)
    }
}

fn strings(contests: &mut Vec<Contest>) {
    for size in SIZES {
        let plain = placed(&bytes(size));
        let len = memcomparable::encoded_len(size);
        let mut encoding = bytes::BytesMut::new();
        memcomparable::encode_into(&mut encoding, plain);
        let encoding = placed(&encoding);
        let room = || room(len, MaybeUninit::<u8>::uninit());

        let (to_a, to_b, mut to_c) = (room(), room(), Some(Vec::with_capacity(len + 16)));
        contest!(contests, "encode", size;
            "ours" => move || run::encode(dispatch::active(), black_box(plain), black_box(&mut *to_a));
            "scalar" => move || scalar::encode(black_box(plain), black_box(&mut *to_b));
            "memcomparable" => move || {
                let mut out: Vec<u8> = to_c.take().expect("given back");
                out.clear();
                let mut serializer = ::memcomparable::Serializer::new(out);
                serializer.serialize_bytes(black_box(plain)).expect("a vector accepts all bytes");
                to_c = Some(serializer.into_inner());
            };
        );
        let mut serializer = ::memcomparable::Serializer::new(Vec::new());
        serializer.serialize_bytes(plain).expect("a vector accepts all bytes");
        let theirs = placed(&serializer.into_inner());
        let (to_a, to_b) = (room(), room());
        contest!(contests, "decode", size;
            "ours" => move || {
                black_box(run::decode(dispatch::active(), black_box(encoding), black_box(&mut *to_a)).is_ok());
            };
            "scalar" => move || { black_box(scalar::decode(black_box(encoding), black_box(&mut *to_b)).is_ok()); };
            "memcomparable" => move || {
                let mut deserializer = ::memcomparable::Deserializer::new(black_box(theirs));
                let plain = serde::Deserializer::deserialize_byte_buf(&mut deserializer, Buffer);
                black_box(plain.expect("an encoding"));
            };
        );
    }
}

fn keys(contests: &mut Vec<Contest>) {
    for size in SIZES {
        let a = placed(&bytes(size));
        let mut other = a.to_vec();
        *other.last_mut().expect("not empty") ^= 1;
        let b = placed(&other);
        contest!(contests, "common_prefix", size;
            "ours" => move || { black_box(key::common_prefix(black_box(a), black_box(b))); };
            "scalar" => move || { black_box(scalar::common_prefix(black_box(a), black_box(b))); };
        );
    }
}

fn index(contests: &mut Vec<Contest>) {
    for size in [1usize, 10, 100, 1000, 10_000, 100_000] {
        let mut numbers = Numbers(1);
        let mut starts: Vec<Vec<u8>> = (0..size)
            .map(|n| [&b"t\x80\0\0\0\0\0\0"[..], &[(n % 7) as u8], b"_r", &numbers.next().to_be_bytes()].concat())
            .collect();
        starts.sort();
        let asked: Vec<Vec<u8>> = (0..4096)
            .map(|_| [&starts[numbers.next() as usize % size][..], &numbers.next().to_be_bytes()].concat())
            .collect();
        let index = KeyIndex::new(&starts).expect("sorted");
        let map: BTreeMap<bytes::Bytes, usize> =
            starts.iter().enumerate().map(|(at, key)| (bytes::Bytes::from(key.clone()), at)).collect();
        let (a, b, c) = (asked.clone(), asked.clone(), asked);
        let (mut at_a, mut at_b, mut at_c) = (0, 0, 0);
        contest!(contests, "KeyIndex::find", size;
            "ours" => move || {
                at_a = (at_a + 1) % 4096;
                black_box(index.find(black_box(&a[at_a])));
            };
            "partition_point" => move || {
                at_b = (at_b + 1) % 4096;
                let key = black_box(&b[at_b]);
                black_box(starts.partition_point(|start| start <= key));
            };
            "BTreeMap::range" => move || {
                at_c = (at_c + 1) % 4096;
                let range = (Bound::Unbounded, Bound::Included(black_box(&c[at_c][..])));
                black_box(map.range::<[u8], _>(range).next_back());
            };
        );
    }
}

/// Returns a random half of the rows.
fn some_rows(len: usize) -> Bitmap {
    let mut numbers = Numbers(5);
    let mut rows = Bitmap::new();
    (0..len).for_each(|_| rows.push(numbers.next().is_multiple_of(2)));
    rows
}

fn nulls(rows: &Bitmap) -> Vec<bool> {
    (0..rows.len()).map(|row| rows.get(row)).collect()
}

fn columns(contests: &mut Vec<Contest>) {
    for size in SIZES {
        let len = size / 8;
        let mut numbers = Numbers(3);
        let ints: Vec<i64> = (0..len).map(|_| numbers.next() as i64 >> 8).collect();
        let floats: Vec<f64> = ints.iter().map(|int| *int as f64 / 3.0).collect();
        let (ints, floats) = (placed(&ints), placed(&floats));
        let tier = dispatch::active();
        let all = placed(Bitmap::ones(len).words());
        let int_array = Int64Array::from(ints.to_vec());
        let float_array = Float64Array::from(floats.to_vec());

        let c = int_array.clone();
        let (out_a, out_b) = (room(len.div_ceil(64), 0), room(len.div_ceil(64), 0));
        let zero = Int64Array::new_scalar(0);
        contest!(contests, "compare_i64", size;
            "ours" => move || run::compare_i64(tier, black_box(ints), all, Cmp::Lt, black_box(0), black_box(&mut *out_a));
            "scalar" => move || {
                scalar::compare_i64(black_box(ints), all, Cmp::Lt, black_box(0), black_box(&mut *out_b));
            };
            "arrow" => move || { black_box(arrow_ord::cmp::lt(black_box(&c), &zero).is_ok()); };
        );
        let c = float_array.clone();
        let (out_a, out_b) = (room(len.div_ceil(64), 0), room(len.div_ceil(64), 0));
        let zero = Float64Array::new_scalar(0.0);
        contest!(contests, "compare_f64", size;
            "ours" => move || run::compare_f64(tier, black_box(floats), all, Cmp::Lt, black_box(0.0), black_box(&mut *out_a));
            "scalar" => move || {
                scalar::compare_f64(black_box(floats), all, Cmp::Lt, black_box(0.0), black_box(&mut *out_b));
            };
            "arrow" => move || { black_box(arrow_ord::cmp::lt(black_box(&c), &zero).is_ok()); };
        );

        for (rows, names) in [
            (Bitmap::ones(len), ["sum_i64, all rows", "min_i64, all rows", "sum_f64, all rows", "max_f64, all rows"]),
            (some_rows(len), ["sum_i64, half", "min_i64, half", "sum_f64, half", "max_f64, half"]),
        ] {
            let valid = Some(arrow_array::BooleanArray::from(nulls(&rows)).values().clone().into());
            let rows = placed(rows.words());
            let int_array = Int64Array::new(ints.to_vec().into(), valid.clone());
            let float_array = Float64Array::new(floats.to_vec().into(), valid);
            let c = int_array.clone();
            contest!(contests, names[0], size;
                "ours" => move || { black_box(run::sum_i64(tier, black_box(ints), rows)); };
                "scalar" => move || { black_box(scalar::sum_i64(black_box(ints), rows)); };
                "arrow (wraps)" => move || {
                    black_box(arrow_arith::aggregate::sum::<Int64Type>(black_box(&c)));
                };
            );
            let c = int_array;
            contest!(contests, names[1], size;
                "ours" => move || { black_box(run::min_i64(tier, black_box(ints), rows)); };
                "scalar" => move || { black_box(scalar::min_i64(black_box(ints), rows)); };
                "arrow" => move || {
                    black_box(arrow_arith::aggregate::min::<Int64Type>(black_box(&c)));
                };
            );
            let c = float_array.clone();
            let (mut lanes_a, mut lanes_b) = ([0.0; 8], [0.0; 8]);
            contest!(contests, names[2], size;
                "ours" => move || run::sum_f64(tier, black_box(&mut lanes_a), black_box(floats), rows);
                "scalar" => move || scalar::sum_f64(black_box(&mut lanes_b), black_box(floats), rows);
                "arrow (any order)" => move || {
                    black_box(arrow_arith::aggregate::sum::<Float64Type>(black_box(&c)));
                };
            );
            let c = float_array;
            contest!(contests, names[3], size;
                "ours" => move || { black_box(run::max_f64(tier, black_box(floats), rows)); };
                "scalar" => move || { black_box(scalar::max_f64(black_box(floats), rows)); };
                "arrow" => move || {
                    black_box(arrow_arith::aggregate::max::<Float64Type>(black_box(&c)));
                };
            );
        }

        let bits = some_rows(size * 8);
        let theirs = arrow_array::BooleanArray::from(nulls(&bits));
        let bits = placed(bits.words());
        contest!(contests, "count", size;
            "ours" => move || { black_box(run::count(tier, black_box(bits))); };
            "scalar" => move || { black_box(scalar::count(black_box(bits))); };
            "arrow" => move || { black_box(black_box(&theirs).values().count_set_bits()); };
        );
    }
}

fn string_columns(contests: &mut Vec<Contest>) {
    for size in SIZES {
        // Words of 4 to 19 bytes, some of which are the one that is searched for.
        let mut numbers = Numbers(11);
        let (mut offsets, mut data) = (vec![0u32], Vec::new());
        while data.len() < size {
            let word = match numbers.next() % 8 {
                0 => b"status=active".to_vec(),
                1 => b"status=passive".to_vec(),
                _ => bytes(4 + numbers.next() as usize % 16),
            };
            data.extend_from_slice(&word[..word.len().min(size - data.len())]);
            offsets.push(data.len() as u32);
        }
        let len = offsets.len() - 1;
        let valid = placed(Bitmap::ones(len).words());
        let column = BytesColumn::new(placed(&offsets), placed(&data));
        let array = BinaryArray::from_iter_values(column.iter());
        let tier = dispatch::active();
        let outs = || (room(len.div_ceil(64), 0), room(len.div_ceil(64), 0));
        let rhs = BinaryArray::new_scalar(&b"status=active"[..]);
        for (name, cmp) in [("compare_bytes, eq", Cmp::Eq), ("compare_bytes, lt", Cmp::Lt)] {
            let (c, rhs, (out_a, out_b)) = (array.clone(), rhs.clone(), outs());
            contest!(contests, name, size;
                "ours" => move || {
                    run::compare_bytes(tier, black_box(column), valid, cmp, b"status=active", &mut *out_a);
                };
                "scalar" => move || {
                    scalar::compare_bytes(black_box(column), valid, cmp, b"status=active", &mut *out_b);
                };
                "arrow" => move || {
                    let array: &dyn Array = black_box(&c);
                    let result = match cmp {
                        Cmp::Eq => arrow_ord::cmp::eq(&array, &rhs),
                        _ => arrow_ord::cmp::lt(&array, &rhs),
                    };
                    black_box(result.is_ok());
                };
            );
        }
        let (out_a, out_b) = outs();
        contest!(contests, "starts_with", size;
            "ours" => move || {
                run::starts_with(tier, black_box(column), valid, b"status=", &mut *out_a);
            };
            "scalar" => move || {
                scalar::starts_with(black_box(column), valid, b"status=", &mut *out_b);
            };
        );
        let (out_a, out_b) = outs();
        let set = BytesSet::new(["status=active", "status=passive", "status=gone", "none"]);
        let set_b = set.clone();
        contest!(contests, "in_set, 4 members", size;
            "ours" => move || run::in_set(tier, black_box(column), valid, &set, &mut *out_a);
            "scalar" => move || {
                scalar::in_set(black_box(column), valid, &set_b, &mut *out_b);
            };
        );
        let needle = Needle::new(b"\"tag\":\"x\"");
        let data = placed(&bytes(size));
        let (finder, needle_b) = (memchr::memmem::Finder::new(b"\"tag\":\"x\"").into_owned(), needle.clone());
        contest!(contests, "find", size;
            "ours" => move || { black_box(needle.find(black_box(data))); };
            "scalar" => move || { black_box(scalar::find(black_box(data), &needle_b)); };
            "memchr" => move || { black_box(finder.find(black_box(data))); };
        );
    }
}

/// Returns the nanoseconds per call of each candidate, and the median of each one's ratio to the first.
fn hold(contest: &mut Contest) -> Vec<(f64, f64)> {
    const ROUNDS: usize = 41;
    let calls: Vec<u32> = contest
        .contestants
        .iter_mut()
        .map(|(_, call)| {
            let mut calls = 1u32;
            loop {
                let began = Instant::now();
                (0..calls).for_each(|_| call());
                let took = began.elapsed();
                if took > Duration::from_micros(50) || calls > 1 << 24 {
                    return (f64::from(calls) * 1e-4 / took.as_secs_f64()).max(1.0) as u32;
                }
                calls *= 4;
            }
        })
        .collect();
    let mut rounds: Vec<Vec<f64>> = Vec::new();
    for _ in 0..ROUNDS {
        let one = contest.contestants.iter_mut().zip(&calls).map(|((_, call), calls)| {
            let began = Instant::now();
            (0..*calls).for_each(|_| call());
            began.elapsed().as_secs_f64() * 1e9 / f64::from(*calls)
        });
        rounds.push(one.collect());
    }
    let median = |mut numbers: Vec<f64>| {
        numbers.sort_by(f64::total_cmp);
        numbers[numbers.len() / 2]
    };
    (0..contest.contestants.len())
        .map(|who| {
            (
                median(rounds.iter().map(|round| round[who]).collect()),
                median(rounds.iter().map(|round| round[who] / round[0]).collect()),
            )
        })
        .collect()
}

/// Prints one line per kernel and one column per size: our GB/s (for an index, ns), and the ratio to each of the
/// others.
fn table(contests: &mut [Contest]) {
    println!("tier {}, features {}", dispatch::active(), armilla_arch::features().join(" "));
    let mut lines: Vec<(String, Vec<String>)> = Vec::new();
    for contest in contests {
        let results = hold(contest);
        let names: Vec<&str> = contest.contestants.iter().skip(1).map(|(name, _)| *name).collect();
        let ratios: Vec<String> = results.iter().skip(1).map(|(_, ratio)| format!("{ratio:.2}")).collect();
        let ns = results[0].0;
        let ours = if contest.kernel.starts_with("KeyIndex") {
            format!("{ns:.0} ns")
        } else {
            format!("{:.1}", contest.size as f64 / ns)
        };
        let line = format!("| {} | {} ", contest.kernel, names.join(", "));
        let cell = format!("| {ours}: {} ", ratios.join(", "));
        match lines.iter_mut().find(|(known, _)| *known == line) {
            Some((_, cells)) => cells.push(cell),
            None => lines.push((line, vec![cell])),
        }
    }
    println!("| kernel | others | 16 B | 64 B | 256 B | 4 KiB | 64 KiB |");
    println!("|---|---|---|---|---|---|---|");
    for (line, cells) in lines.iter().filter(|(line, _)| !line.contains("KeyIndex")) {
        println!("{line}{}|", cells.concat());
    }
    println!("\n| keys | others | 1 | 10 | 100 | 1,000 | 10,000 | 100,000 |");
    println!("|---|---|---|---|---|---|---|---|");
    for (line, cells) in lines.iter().filter(|(line, _)| line.contains("KeyIndex")) {
        println!("{line}{}|", cells.concat());
    }
}

fn main() {
    let mut contests = Vec::new();
    checksums(&mut contests);
    strings(&mut contests);
    keys(&mut contests);
    index(&mut contests);
    columns(&mut contests);
    string_columns(&mut contests);
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "table") {
        if let Some(only) = arguments.get(at + 1).filter(|argument| !argument.starts_with('-')) {
            contests.retain(|contest| contest.kernel.contains(&only[..]));
        }
        return table(&mut contests);
    }
    let mut criterion = Criterion::default().configure_from_args();
    for mut contest in contests {
        let mut group = criterion.benchmark_group(format!("{}/{}", contest.kernel, contest.size));
        group.throughput(Throughput::Bytes(contest.size as u64));
        for (name, call) in &mut contest.contestants {
            group.bench_function(*name, |b| b.iter(&mut *call));
        }
        group.finish();
    }
    criterion.final_summary();
}
