//! Every objective, forward and backward.
//!
//! The id of every bench carries its sizes: queries x bank rows x embedding, with Gaussian heads
//! (embedding, Gaussian dimension); for objectives over logits rows x classes. Sizes are those of the
//! papers at MiniLM's width: HWU64 has 8,954 texts in 18 coarse and 64 fine classes, CLINC 18,000;
//! objectives over sentence embeddings at the width of BERT-base.
//! Forward and backward. `benches/peers/run.sh --only objectives` puts PyTorch beside them.
//! `pairwise` is the published expression, a difference tensor for every query, bank row and
//! dimension, evaluated in blocks; it stands beside the closed form at a size where it finishes.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::hint::black_box;
use std::time::Duration;

use benches::inputs::unit_rows;
use benches::sentence_objectives::{NAMES, SentenceObjective};
use burn::tensor::{Device, Int, Tensor, TensorData};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, criterion_group, criterion_main};
use losses::{
    BankInfoNce, BankInfoNceConfig, CoarseCrossEntropy, DiagonalGaussian, Divergence, DnaConfig,
    InfoNceConfig, KlForm, MaskedLm, NeighbourTargets, Star, StarConfig, symmetric_softmax_kl,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const TOPK: usize = 120;
const DIM: usize = 128;

/// Bank rows per block of the pairwise form.
const BLOCK: usize = 256;

struct Problem {
    queries: Tensor<2>,
    bank: Tensor<2>,
    targets: NeighbourTargets,
}

impl Problem {
    fn new(batch: usize, rows: usize, hidden: usize) -> Self {
        let device = Device::flex().autodiff();
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let queries = unit_rows(1, batch, hidden, &device).require_grad();
        let bank = unit_rows(2, rows, hidden, &device);
        let neighbours: Vec<Vec<(usize, f32)>> = (0..batch)
            .map(|_| {
                (0..=TOPK)
                    .map(|rank| {
                        let id = rng.next_u32() as usize % rows;
                        (id, 150f32.powf(-(rank as f32) / TOPK as f32))
                    })
                    .collect()
            })
            .collect();
        let targets = NeighbourTargets::from_rows(&neighbours, &device).unwrap();
        Self {
            queries,
            bank,
            targets,
        }
    }
}

/// Forward and backward.
fn step(loss: Tensor<1>) -> f32 {
    black_box(loss.backward());
    loss.into_scalar()
}

fn gaussian(hidden: usize) -> Star {
    StarConfig::new(hidden)
        .init(&Device::flex().autodiff(), 0)
        .unwrap()
}

fn star_step(star: &Star, problem: &Problem) -> f32 {
    let loss = star
        .forward(
            problem.queries.clone(),
            problem.bank.clone(),
            &problem.targets,
        )
        .unwrap()
        .loss;
    step(loss)
}

fn down_step(loss: &BankInfoNce, problem: &Problem) -> f32 {
    let loss = loss
        .forward(
            problem.queries.clone(),
            problem.bank.clone(),
            &problem.targets,
        )
        .unwrap();
    step(loss)
}

fn dna_step(problem: &Problem) -> f32 {
    let loss = DnaConfig::new()
        .init()
        .unwrap()
        .forward(
            problem.queries.clone(),
            problem.bank.clone(),
            &problem.targets,
        )
        .unwrap();
    step(loss)
}

/// Targets of the prototype policy: at most `TOPK` members of the query's own cluster, so that lists
/// are shorter than those of the neighbour policies where clusters are small.
fn prototype_targets(batch: usize, rows: usize, clusters: usize) -> NeighbourTargets {
    let lists: Vec<Vec<(usize, f32)>> = (0..batch)
        .map(|query| {
            (query..rows)
                .step_by(clusters)
                .take(TOPK + 1)
                .enumerate()
                .map(|(rank, id)| (id, (-0.01 * rank as f32).exp()))
                .collect()
        })
        .collect();
    NeighbourTargets::from_rows(&lists, &Device::flex().autodiff()).unwrap()
}

/// Logits in -4..4 and a label for every row.
fn classification(rows: usize, classes: usize) -> (Tensor<2>, Tensor<1, Int>) {
    let device = Device::flex().autodiff();
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let values: Vec<f32> = (0..rows * classes)
        .map(|_| rng.next_u32() as f32 / u32::MAX as f32 * 8.0 - 4.0)
        .collect();
    let labels: Vec<i32> = (0..rows)
        .map(|_| (rng.next_u32() as usize % classes) as i32)
        .collect();
    (
        Tensor::from_data(TensorData::new(values, [rows, classes]), &device).require_grad(),
        Tensor::from_data(TensorData::new(labels, [rows]), &device),
    )
}

/// Objectives that have no bank.
fn without_bank(group: &mut BenchmarkGroup<'_, WallTime>) {
    let device = Device::flex().autodiff();
    for (batch, negatives) in [(64, false), (64, true), (512, false)] {
        let rows = |seed| unit_rows(seed, batch, 384, &device).require_grad();
        let (anchors, positives) = (rows(3), rows(4));
        let hard = negatives.then(|| rows(5));
        let loss = InfoNceConfig::new().init().unwrap();
        let name = if negatives {
            "info_nce_hard_negatives"
        } else {
            "info_nce"
        };
        let candidates = if negatives { 2 * batch } else { batch };
        group.bench_function(
            BenchmarkId::new(name, format!("{batch}x{candidates}x384")),
            |b| {
                b.iter(|| {
                    let value = loss
                        .forward(anchors.clone(), positives.clone(), hard.clone())
                        .unwrap();
                    step(value)
                });
            },
        );
    }
    let (logits, labels) = classification(64, 18);
    group.bench_function(BenchmarkId::new("coarse_cross_entropy", "64x18"), |b| {
        b.iter(|| {
            let value = CoarseCrossEntropy
                .forward(logits.clone(), labels.clone())
                .unwrap();
            step(value)
        });
    });
    // A quarter of the 640 tokens of 64 texts of length 10.
    let (logits, labels) = classification(160, 30_522);
    group.bench_function(BenchmarkId::new("masked_lm", "160x30522"), |b| {
        b.iter(|| {
            let value = MaskedLm.forward(logits.clone(), labels.clone()).unwrap();
            step(value)
        });
    });
}

/// Objectives over sentence embeddings.
fn of_sentences(group: &mut BenchmarkGroup<'_, WallTime>) {
    let device = Device::flex().autodiff();
    for name in NAMES {
        let objective = SentenceObjective::new(name, &device).unwrap().unwrap();
        group.bench_function(BenchmarkId::new(name, &objective.sizes), |b| {
            b.iter(|| {
                let value = objective.loss().unwrap();
                step(value)
            });
        });
    }
}

/// `1/4 sum_k [ v_i/v_j + v_j/v_i - 2 + (m_i - m_j)^2 (1/v_i + 1/v_j) ]`, term by term.
fn pairwise(queries: &DiagonalGaussian, bank: &DiagonalGaussian) -> Tensor<2> {
    let [rows, _] = bank.mean.dims();
    let m_i = queries.mean.clone().unsqueeze_dim::<3>(1); // [batch, 1, dim]
    let v_i = queries.variance.clone().unsqueeze_dim::<3>(1);
    let blocks = (0..rows)
        .step_by(BLOCK)
        .map(|start| {
            let length = BLOCK.min(rows - start);
            let part = |x: &Tensor<2>| {
                x.clone().narrow(0, start, length).unsqueeze_dim::<3>(0) // [1, block, dim]
            };
            let (m_j, v_j) = (part(&bank.mean), part(&bank.variance));
            let ratio = v_i.clone() / v_j.clone() + v_j.clone() / v_i.clone();
            let inverse = v_i.clone().recip() + v_j.recip();
            let squared = (m_i.clone() - m_j).square();
            (ratio.sub_scalar(2.0) + squared * inverse)
                .sum_dim(2)
                .squeeze_dim::<2>(2)
                .mul_scalar(0.25)
        })
        .collect();
    Tensor::cat(blocks, 1)
}

fn pairwise_step(star: &Star, problem: &Problem) -> f32 {
    let heads = star.heads.as_ref().unwrap();
    let queries = heads.forward(problem.queries.clone()).unwrap();
    let bank = heads.forward(problem.bank.clone()).unwrap();
    let loss = star
        .forward_with_divergence(
            problem.queries.clone(),
            problem.bank.clone(),
            pairwise(&queries, &bank),
            &problem.targets,
        )
        .unwrap()
        .loss;
    step(loss)
}

fn objectives(criterion: &mut Criterion) {
    kernels::tune_allocator();
    let mut group = criterion.benchmark_group("objectives");
    group
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3));
    let id = |name: &str, batch: usize, rows: usize, hidden: usize| {
        BenchmarkId::new(name, format!("{batch}x{rows}x({hidden},{DIM})"))
    };

    let (batch, rows, hidden) = (64, 8954, 384);
    let problem = Problem::new(batch, rows, hidden);
    let star = gaussian(hidden);
    group.bench_function(id("star_gaussian", batch, rows, hidden), |b| {
        b.iter(|| star_step(&star, &problem));
    });
    let frozen = StarConfig::new(hidden)
        .with_divergence(Divergence::Gaussian {
            dim: DIM,
            var_floor: 1e-8,
            bank_head_grad: false,
        })
        .init(&Device::flex().autodiff(), 0)
        .unwrap();
    group.bench_function(
        id("star_gaussian_frozen_bank_heads", batch, rows, hidden),
        |b| b.iter(|| star_step(&frozen, &problem)),
    );
    let softmax = StarConfig::new(hidden)
        .with_divergence(Divergence::Softmax {
            temperature: 0.05,
            form: KlForm::Mean,
        })
        .init(&Device::flex().autodiff(), 0)
        .unwrap();
    group.bench_function(
        BenchmarkId::new("star_softmax", format!("{batch}x{rows}x{hidden}")),
        |b| b.iter(|| star_step(&softmax, &problem)),
    );
    let down = BankInfoNceConfig::new().init().unwrap();
    group.bench_function(
        BenchmarkId::new("down", format!("{batch}x{rows}x{hidden}")),
        |b| b.iter(|| down_step(&down, &problem)),
    );

    group.bench_function(
        BenchmarkId::new("dna", format!("{batch}x{rows}x{hidden}")),
        |b| {
            b.iter(|| dna_step(&problem));
        },
    );
    let prototypes = Problem {
        targets: prototype_targets(batch, rows, 64),
        queries: problem.queries.clone(),
        bank: problem.bank.clone(),
    };
    group.bench_function(
        BenchmarkId::new("prototype_info_nce", format!("{batch}x{rows}x{hidden}")),
        |b| b.iter(|| down_step(&down, &prototypes)),
    );
    group.bench_function(id("prototype_star", batch, rows, hidden), |b| {
        b.iter(|| star_step(&star, &prototypes));
    });
    let divergent = problem.bank.clone().require_grad();
    group.bench_function(
        BenchmarkId::new("softmax_kl", format!("{batch}x{rows}x{hidden}")),
        |b| {
            b.iter(|| {
                let value = symmetric_softmax_kl(
                    problem.queries.clone(),
                    divergent.clone(),
                    0.05,
                    KlForm::Mean,
                )
                .unwrap()
                .mean();
                step(value)
            });
        },
    );

    // CLINC.
    let rows = 18_000;
    let problem = Problem::new(batch, rows, hidden);
    group.bench_function(id("star_gaussian", batch, rows, hidden), |b| {
        b.iter(|| star_step(&star, &problem));
    });
    group.bench_function(
        BenchmarkId::new("down", format!("{batch}x{rows}x{hidden}")),
        |b| {
            b.iter(|| down_step(&down, &problem));
        },
    );
    without_bank(&mut group);
    of_sentences(&mut group);

    // The same loss by both forms, small enough for the difference tensors.
    let (batch, rows) = (16, 1024);
    let problem = Problem::new(batch, rows, hidden);
    group.bench_function(id("star_gaussian", batch, rows, hidden), |b| {
        b.iter(|| star_step(&star, &problem));
    });
    group.bench_function(id("star_pairwise", batch, rows, hidden), |b| {
        b.iter(|| pairwise_step(&star, &problem));
    });
    let (closed, plain) = (star_step(&star, &problem), pairwise_step(&star, &problem));
    assert!(
        (closed - plain).abs() <= 1e-4 * plain.abs(),
        "both forms have to be the same loss: {closed} against {plain}"
    );
    group.finish();
}

criterion_group!(benches, objectives);
criterion_main!(benches);
