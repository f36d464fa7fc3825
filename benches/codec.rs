//! Measures the stored forms in bytes per second: the raw value's tail and the memcomparable encoding of region
//! boundaries. `cargo bench --bench codec`
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "benches of the real world")]

use std::hint::black_box;

use armilla::codec::{bytes, raw};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

fn raw_values(c: &mut Criterion) {
    let mut group = c.benchmark_group("codec/raw");
    for len in [16usize, 256, 4096, 65536] {
        let value = vec![7u8; len];
        let stored = raw::encode(&value, Some(2_000_000_000));
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_with_input(BenchmarkId::new("encode", len), &value, |b, value| {
            b.iter(|| raw::encode(black_box(value), None));
        });
        group.bench_with_input(BenchmarkId::new("live", len), &stored, |b, stored| {
            b.iter(|| raw::live(black_box(stored), 1_900_000_000).expect("a stored form"));
        });
    }
    group.finish();
}

fn memcomparable(c: &mut Criterion) {
    let mut group = c.benchmark_group("codec/memcomparable");
    for len in [7usize, 32, 256, 4096] {
        let plain: Vec<u8> = (0..len).map(|n| (n * 37) as u8).collect();
        let encoded = bytes::encode(&plain);
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_with_input(BenchmarkId::new("encode", len), &plain, |b, plain| {
            b.iter(|| bytes::encode(black_box(plain)));
        });
        group.bench_with_input(BenchmarkId::new("decode", len), &encoded, |b, encoded| {
            b.iter(|| bytes::decode(black_box(encoded)).expect("an encoding"));
        });
    }
    group.finish();
}

criterion_group!(benches, raw_values, memcomparable);
criterion_main!(benches);
