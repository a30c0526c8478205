//! What access to guest memory costs, against a plain copy of as many bytes.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rocinante_dma::{DmaSpace, Gather, MemoryMap, Prot, copy};

const SIZE: u64 = 64 << 20;

/// The memory of a guest after boot: RAM, and some fifty small regions around it.
fn guest() -> Arc<MemoryMap> {
    let mut space = DmaSpace::new();
    let file = tempfile::tempfile().expect("a file");
    file.set_len(SIZE + (1 << 20)).expect("room");
    for i in 0..50u64 {
        let clone = file.try_clone().expect("a descriptor");
        space
            .map(i << 13, 4096, Some(clone), i << 12, Prot::ReadWrite)
            .expect("mapped");
    }
    space
        .map(1 << 20, SIZE, Some(file), 1 << 20, Prot::ReadWrite)
        .expect("mapped")
}

fn copies(c: &mut Criterion) {
    let (a, b) = (guest(), guest());
    let base = 1 << 20;
    for len in [64usize, 4096, 65536] {
        let mut group = c.benchmark_group(format!("copy {len}"));
        group.throughput(Throughput::Bytes(len as u64));
        let source = vec![1u8; len];
        let mut target = vec![0u8; len];
        group.bench_function("plain", |bench| {
            bench.iter(|| black_box(&mut target).copy_from_slice(black_box(&source)));
        });
        group.bench_function("read", |bench| {
            bench.iter(|| a.read(black_box(base), black_box(&mut target)));
        });
        group.bench_function("write", |bench| {
            bench.iter(|| a.write(black_box(base), black_box(&source)));
        });
        group.bench_function("guest to guest", |bench| {
            bench.iter(|| copy(&a, black_box(base), &b, black_box(base + 8), len));
        });
        let mut gather = Gather::new(Arc::clone(&a));
        gather.push(base, (len / 2) as u32);
        gather.push(base + (1 << 20), (len / 2) as u32);
        group.bench_function("gather of 2, clone and copy to guest", |bench| {
            bench.iter(|| {
                gather
                    .clone()
                    .copy_to_guest(0, &b, black_box(base + 8), len)
            });
        });
        group.finish();
    }
}

fn words(c: &mut Criterion) {
    let map = guest();
    let base = 1 << 20;
    c.bench_function("load_be32", |b| {
        b.iter(|| map.load_be32(black_box(base), Ordering::Acquire))
    });
    c.bench_function("store_be32", |b| {
        b.iter(|| map.store_be32(black_box(base), black_box(7), Ordering::Release));
    });
    c.bench_function("read_u64_be", |b| {
        b.iter(|| map.read_u64_be(black_box(base + 4)))
    });
    c.bench_function("fetch_add_u64", |b| {
        b.iter(|| map.fetch_add_u64(black_box(base), 1))
    });
    let mut at = 0;
    c.bench_with_input(
        BenchmarkId::new("load_be32", "another region each time"),
        &(),
        |b, ()| {
            b.iter(|| {
                at = (at + 7 * 8192) % (50 * 8192);
                map.load_be32(black_box(at), Ordering::Acquire)
            });
        },
    );
}

criterion_group!(benches, copies, words);
criterion_main!(benches);
