//! Time, memory and agreement of the neighbour searches, on real or synthetic unit vectors.
//!
//! ```text
//! cargo run --release -p queue --example neighbour_search -- [--rows N] [--dim D] [--queries M]
//!     [--topk 5,50] [--repeats R] [--vectors FILE] [--skip all,half]
//! cargo run --release -p queue --features hnsw --example neighbour_search -- ...
//!     [--m 16] [--ef-construction 100] [--ef-search 100,200,400] [--parallel-build]
//! ```
//!
//! FILE holds little-endian f32 rows of D values. Without it, N rows around N / 200 random centres
//! are drawn from seed 1 (cosine to the centre about 0.78).
//!
//! Prints the product floor, that is the bare matrix products in the blocks that the search uses;
//! exact search of all rows among each other in f32 and f16 with their agreement; M queries against
//! the bank; and, with the feature, build time, memory, query time and recall of the index.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Instant;

use burn::tensor::{Device, Tensor, TensorData};
use queue::{
    MemoryBank, MemoryBankConfig, NeighbourParams, Neighbours, RowStorage, nearest_neighbours,
    nearest_rows,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

struct Options(Vec<String>);

impl Options {
    fn text(&self, name: &str, default: &str) -> String {
        let at = self.0.iter().position(|argument| argument == name);
        at.and_then(|at| self.0.get(at + 1))
            .map_or_else(|| default.to_owned(), Clone::clone)
    }

    fn numbers(&self, name: &str, default: &str) -> Vec<usize> {
        let text = self.text(name, default);
        text.split(',')
            .map(|part| part.parse().expect(name))
            .collect()
    }

    fn number(&self, name: &str, default: &str) -> usize {
        self.numbers(name, default)[0]
    }
}

fn main() {
    kernels::tune_allocator();
    let options = Options(std::env::args().collect());
    let dim = options.number("--dim", "384");
    let values = match options.text("--vectors", "").as_str() {
        "" => synthetic(options.number("--rows", "10000"), dim),
        path => std::fs::read(path)
            .expect(path)
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect(),
    };
    let n = values.len() / dim;
    let m = options.number("--queries", "64").min(n);
    let repeats = options.number("--repeats", "5");
    let skip = options.text("--skip", "");
    // Queries are rows of the bank, spread evenly.
    let queries: Vec<f32> = (0..m)
        .flat_map(|i| values[i * n / m * dim..][..dim].iter().copied())
        .collect();
    let device = Device::flex();
    let queries = Tensor::<2>::from_data(TensorData::new(queries, [m, dim]), &device);
    let bank = Tensor::<2>::from_data(TensorData::new(values, [n, dim]), &device);
    let half = MemoryBankConfig {
        row_storage: RowStorage::F16,
    };
    let full = MemoryBank::new(bank).unwrap();
    println!("{n} x {dim}, {m} queries; times in ms: min/median/max of {repeats}");
    println!("bank: {:.1} MiB in f32", mib(full.bytes()));

    let topk = options.numbers("--topk", "5,50");
    if !skip.contains("all") {
        let floor = time(repeats, || block_products(&full, 512));
        println!("all rows, products of half the pairs alone: {floor}");
    }
    let half =
        (!skip.contains("half")).then(|| MemoryBank::with_config(full.vectors(), half).unwrap());
    for &k in &topk {
        let exact = nearest_rows(queries.clone(), full.vectors(), k).unwrap();
        let rows = || nearest_rows(queries.clone(), full.vectors(), k).unwrap();
        println!("{m} queries, topk {k}, f32: {}", time(repeats, rows));
        if let Some(bank) = &half {
            let found = nearest_rows(queries.clone(), bank.stored(), k).unwrap();
            let rows = || nearest_rows(queries.clone(), bank.stored(), k).unwrap();
            println!(
                "{m} queries, topk {k}, f16: {}; {:.1} MiB; {}",
                time(repeats, rows),
                mib(bank.bytes()),
                agreement(&exact, &found)
            );
        }
        if skip.contains("all") {
            continue;
        }
        let params = NeighbourParams::new(k);
        let mut exact = None;
        let all = || exact = Some(nearest_neighbours(full.vectors(), &params).unwrap());
        println!("all rows, topk {k}, f32: {}", time(repeats, all));
        if let (Some(bank), Some(exact)) = (&half, &exact) {
            let found = nearest_neighbours(bank.stored(), &params).unwrap();
            let all = || nearest_neighbours(bank.stored(), &params).unwrap();
            println!(
                "all rows, topk {k}, f16: {}; {}",
                time(repeats, all),
                agreement(exact, &found)
            );
        }
    }
    let bare = time(repeats, || {
        queries
            .clone()
            .matmul(full.vectors().transpose())
            .into_data()
    });
    println!("{m} queries, one product alone: {bare}");
    #[cfg(feature = "hnsw")]
    graph(&options, &full, &queries, &topk, repeats);
}

#[cfg(feature = "hnsw")]
fn graph(
    options: &Options,
    bank: &MemoryBank,
    queries: &Tensor<2>,
    topk: &[usize],
    repeats: usize,
) {
    use queue::{HnswIndex, HnswParams};
    let mut params = HnswParams {
        max_connections: options.number("--m", "16"),
        ef_construction: options.number("--ef-construction", "100"),
        parallel_build: options
            .0
            .iter()
            .any(|argument| argument == "--parallel-build"),
        ..HnswParams::default()
    };
    for ef_search in options.numbers("--ef-search", "200") {
        params.ef_search = ef_search;
        let before = resident();
        let began = Instant::now();
        let index = HnswIndex::build(bank.vectors(), &params).unwrap();
        println!(
            "{params:?}: built in {:.1} s; resident memory grew by {:.0} MiB (in a fresh process: of the first index)",
            began.elapsed().as_secs_f64(),
            resident() - before
        );
        for &k in topk {
            let exact = nearest_rows(queries.clone(), bank.vectors(), k).unwrap();
            let found = index.nearest(queries.clone(), k).unwrap();
            let lists = || index.nearest(queries.clone(), k).unwrap();
            println!(
                "topk {k}: {}; {}",
                time(repeats, lists),
                agreement(&exact, &found)
            );
        }
    }
}

/// Resident memory of this process, in MiB; 0 where the system does not say.
#[cfg(feature = "hnsw")]
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

/// What the symmetric search multiplies, and nothing else.
fn block_products(bank: &MemoryBank, rows: usize) {
    let bank = bank.vectors();
    let [n, dim] = bank.dims();
    let block = |at: usize| bank.clone().slice([at..n.min(at + rows), 0..dim]);
    for i in (0..n).step_by(rows) {
        for j in (i..n).step_by(rows) {
            std::hint::black_box(block(i).matmul(block(j).transpose()));
        }
    }
}

fn synthetic(n: usize, dim: usize) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut draw = || rng.random::<f32>() * 2.0 - 1.0;
    let clusters = (n / 200).max(1);
    let centres: Vec<f32> = (0..clusters * dim).map(|_| draw()).collect();
    let mut values = Vec::with_capacity(n * dim);
    for row in 0..n {
        let centre = &centres[row % clusters * dim..][..dim];
        let start = values.len();
        values.extend(centre.iter().map(|c| c + 0.8 * draw()));
        let norm = values[start..].iter().map(|v| v * v).sum::<f32>().sqrt();
        values[start..].iter_mut().for_each(|v| *v /= norm);
    }
    values
}

/// Shared ids of the lists, and lists that are equal in every place.
fn agreement(exact: &Neighbours, found: &Neighbours) -> String {
    let (mut hit, mut all, mut equal) = (0_usize, 0_usize, 0_usize);
    for i in 0..exact.len() {
        let (wanted, list) = (exact.row(i).unwrap(), found.row(i).unwrap());
        hit += wanted.iter().filter(|id| list.contains(id)).count();
        all += wanted.len();
        equal += usize::from(wanted == list);
    }
    format!(
        "{:.5} of the exact neighbours, {:.4} of the lists equal in order",
        hit as f64 / all as f64,
        equal as f64 / exact.len() as f64
    )
}

fn time<T>(repeats: usize, mut run: impl FnMut() -> T) -> String {
    let mut times: Vec<f64> = (0..repeats.max(1))
        .map(|_| {
            let began = Instant::now();
            std::hint::black_box(run());
            began.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    format!(
        "{:.2}/{:.2}/{:.2}",
        times[0],
        times[times.len() / 2],
        times[times.len() - 1]
    )
}

fn mib(bytes: usize) -> f64 {
    bytes as f64 / 1_048_576.0
}
