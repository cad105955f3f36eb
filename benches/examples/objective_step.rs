//! Times every objective at paper sizes, forward and backward.
//!
//! ```text
//! cargo run --release -p benches --example objective_step -- NAME RUNS
//! ```
//!
//! The environment variable `DEVICE` chooses the device, flex without it.
//!
//! `NAME` is one of the names in [`OBJECTIVES`] or [`NAMES`], or `all`. One warm-up step, then one
//! JSON line a run. `benches/peers/star_peer.py` and, for [`NAMES`], `sentence_peer.py` do the same
//! with PyTorch on the same inputs, so `value` and `gradient_norm` have to agree between the two.

use std::error::Error;
use std::time::Instant;

use benches::inputs::{indices, scaled, unit_rows};
use benches::sentence_objectives::{NAMES, SentenceObjective};
use burn::module::Param;
use burn::tensor::{Device, Gradients, Int, Tensor};
use losses::{
    BankInfoNce, BankInfoNceConfig, CoarseCrossEntropy, Divergence, Dna, DnaConfig, GaussianHeads,
    InfoNce, InfoNceConfig, KlForm, MaskedLm, NeighbourTargets, Star, StarConfig,
    symmetric_softmax_kl,
};

const BATCH: usize = 64;
const ROWS: usize = 8954;
const HIDDEN: usize = 384;
const DIM: usize = 128;
const TOPK: usize = 120;

const OBJECTIVES: [&str; 13] = [
    "star",
    "star_frozen",
    "star_clinc",
    "star_softmax",
    "softmax_kl",
    "down",
    "dna",
    "down_clinc",
    "info_nce",
    "info_nce_512",
    "info_nce_hard",
    "coarse",
    "mlm",
];

type Failure = Box<dyn Error>;

struct Bank {
    queries: Tensor<2>,
    bank: Tensor<2>,
    targets: NeighbourTargets,
}

impl Bank {
    fn new(rows: usize, hidden: usize, device: &Device) -> Result<Self, Failure> {
        let ids = indices(3, BATCH * (TOPK + 1), rows);
        let neighbours: Vec<Vec<(usize, f32)>> = ids
            .chunks(TOPK + 1)
            .map(|row| {
                let weight = |rank: usize| 150f64.powf(-(rank as f64) / TOPK as f64) as f32;
                row.iter()
                    .enumerate()
                    .map(|(rank, id)| (*id, weight(rank)))
                    .collect()
            })
            .collect();
        Ok(Self {
            queries: unit_rows(1, BATCH, hidden, device).require_grad(),
            bank: unit_rows(2, rows, hidden, device),
            targets: NeighbourTargets::from_rows(&neighbours, device)?,
        })
    }
}

fn gaussian(hidden: usize, bank_head_grad: bool, device: &Device) -> Result<Star, Failure> {
    let divergence = Divergence::Gaussian {
        dim: DIM,
        var_floor: 1e-8,
        bank_head_grad,
    };
    let mut star = StarConfig::new(hidden)
        .with_divergence(divergence)
        .init(device, 0)?;
    let bound = 2.0 / (hidden as f32).sqrt();
    star.heads = Some(GaussianHeads::from_tensors(
        scaled(4, hidden, DIM, bound, device),
        scaled(5, 1, DIM, bound, device).reshape([DIM]),
        scaled(6, hidden, DIM, bound, device),
        scaled(7, 1, DIM, bound, device).reshape([DIM]),
        1e-8,
    )?);
    Ok(star)
}

enum Objective {
    Star(Box<Star>, Bank),
    Down(BankInfoNce, Bank),
    Dna(Dna, Bank),
    SoftmaxKl(Tensor<2>, Tensor<2>),
    InfoNce(InfoNce, Vec<Tensor<2>>),
    Coarse(Tensor<2>, Tensor<1, Int>),
    Mlm(Tensor<2>, Tensor<1, Int>),
    Sentences(SentenceObjective),
}

impl Objective {
    /// The objective called `name` and its description with sizes.
    fn new(name: &str, device: &Device) -> Result<(Self, String), Failure> {
        let (rows, hidden) = if name.ends_with("clinc") {
            (18_000, 768)
        } else {
            (ROWS, HIDDEN)
        };
        let bank_sizes = format!("{BATCH}x{rows}x{hidden}");
        let bank = || Bank::new(rows, hidden, device);
        let in_batch = |batch: usize, inputs: u32| -> Result<Self, Failure> {
            let inputs = (8..8 + inputs)
                .map(|seed| scaled(seed, batch, HIDDEN, 1.0, device).require_grad())
                .collect();
            Ok(Self::InfoNce(InfoNceConfig::new().init()?, inputs))
        };
        let logits = |rows: usize, classes: usize| -> (Tensor<2>, Vec<i64>) {
            let logits = scaled(11, rows, classes, 8.0, device).require_grad();
            (
                logits,
                indices(12, rows, classes)
                    .iter()
                    .map(|label| *label as i64)
                    .collect(),
            )
        };
        let labels = |labels: Vec<i64>| Tensor::from_data(labels.as_slice(), device);
        Ok(match name {
            "star" | "star_clinc" | "star_frozen" => {
                let frozen = name == "star_frozen";
                let star = gaussian(hidden, !frozen, device)?;
                let kind = if frozen { "star_frozen" } else { "star" };
                let what = format!("{kind} {BATCH}x{rows}x({hidden},{DIM})");
                (Self::Star(Box::new(star), bank()?), what)
            }
            "star_softmax" => {
                let divergence = Divergence::Softmax {
                    temperature: 0.05,
                    form: KlForm::Mean,
                };
                let star = StarConfig::new(hidden)
                    .with_divergence(divergence)
                    .init(device, 0)?;
                (
                    Self::Star(Box::new(star), bank()?),
                    format!("star_softmax {bank_sizes}"),
                )
            }
            "softmax_kl" => {
                let queries = unit_rows(1, BATCH, hidden, device).require_grad();
                let bank = unit_rows(2, rows, hidden, device).require_grad();
                (
                    Self::SoftmaxKl(queries, bank),
                    format!("softmax_kl {bank_sizes}"),
                )
            }
            "down" | "down_clinc" => {
                let down = BankInfoNceConfig::new().init()?;
                (Self::Down(down, bank()?), format!("down {bank_sizes}"))
            }
            "dna" => (
                Self::Dna(DnaConfig::new().init()?, bank()?),
                format!("dna {bank_sizes}"),
            ),
            "info_nce" => (in_batch(64, 2)?, format!("info_nce 64x64x{HIDDEN}")),
            "info_nce_512" => (in_batch(512, 2)?, format!("info_nce 512x512x{HIDDEN}")),
            "info_nce_hard" => (in_batch(64, 3)?, format!("info_nce_hard 64x128x{HIDDEN}")),
            "coarse" => {
                let (logits, classes) = logits(64, 18);
                (
                    Self::Coarse(logits, labels(classes)),
                    "coarse 64x18".to_owned(),
                )
            }
            "mlm" => {
                let (logits, mut tokens) = logits(160, 30_522);
                tokens
                    .iter_mut()
                    .step_by(7)
                    .for_each(|label| *label = losses::NOT_SELECTED);
                (
                    Self::Mlm(logits, labels(tokens)),
                    "mlm 160x30522".to_owned(),
                )
            }
            other => match SentenceObjective::new(other, device)? {
                Some(objective) => {
                    let what = format!("{other} {}", objective.sizes);
                    (Self::Sentences(objective), what)
                }
                None => {
                    let known = OBJECTIVES.iter().chain(&NAMES).collect::<Vec<_>>();
                    return Err(format!("no objective `{other}`; there are {known:?}").into());
                }
            },
        })
    }

    fn loss(&self) -> Result<Tensor<1>, Failure> {
        Ok(match self {
            Self::Star(star, x) => {
                star.forward(x.queries.clone(), x.bank.clone(), &x.targets)?
                    .loss
            }
            Self::Down(down, x) => down.forward(x.queries.clone(), x.bank.clone(), &x.targets)?,
            Self::Dna(dna, x) => dna.forward(x.queries.clone(), x.bank.clone(), &x.targets)?,
            Self::SoftmaxKl(q, h) => {
                symmetric_softmax_kl(q.clone(), h.clone(), 0.05, KlForm::Mean)?.mean()
            }
            Self::InfoNce(loss, x) => {
                loss.forward(x[0].clone(), x[1].clone(), x.get(2).cloned())?
            }
            Self::Coarse(logits, labels) => {
                CoarseCrossEntropy.forward(logits.clone(), labels.clone())?
            }
            Self::Mlm(logits, labels) => MaskedLm.forward(logits.clone(), labels.clone())?,
            Self::Sentences(objective) => objective.loss()?,
        })
    }

    /// Euclidean norm of the gradients of all trainable inputs together.
    fn gradient_norm(&self, grads: &Gradients) -> f64 {
        fn square<const D: usize>(x: &Tensor<D>, grads: &Gradients) -> f64 {
            let values = x
                .grad(grads)
                .map(|x| x.try_into_vec_as::<f32>().unwrap_or_default());
            values.iter().flatten().map(|x| f64::from(*x).powi(2)).sum()
        }
        let of = |param: &Param<Tensor<1>>| square(&param.val(), grads);
        let total = match self {
            Self::Star(star, x) => {
                let heads = star
                    .heads
                    .iter()
                    .flat_map(|heads| [&heads.fc_mu, &heads.fc_var]);
                let heads: f64 = heads
                    .map(|head| {
                        square(&head.weight.val(), grads) + head.bias.as_ref().map_or(0.0, of)
                    })
                    .sum();
                square(&x.queries, grads) + of(&star.base) + heads
            }
            Self::Down(_, x) | Self::Dna(_, x) => square(&x.queries, grads),
            Self::SoftmaxKl(q, h) => square(q, grads) + square(h, grads),
            Self::InfoNce(_, x) => x.iter().map(|x| square(x, grads)).sum(),
            Self::Coarse(logits, _) | Self::Mlm(logits, _) => square(logits, grads),
            Self::Sentences(objective) => objective.leaves.iter().map(|x| square(x, grads)).sum(),
        };
        total.sqrt()
    }
}

/// A line of `/proc/self/status` in MB, 0 where there is none.
fn memory(key: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(key));
    let number = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
    number.unwrap_or(0.0) / 1024.0
}

fn run(name: &str, runs: usize) -> Result<(), Failure> {
    let (device, before) = benches::device()?;
    let (objective, what) = Objective::new(name, &device.clone().autodiff())?;
    let what = format!("{before}{what}");
    // Resets the peak on Linux, so that it counts the steps and not the making of the inputs.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    let before = memory("VmRSS");
    for index in 0..=runs {
        let began = Instant::now();
        let loss = objective.loss()?;
        let grads = loss.backward();
        let value: f32 = loss.into_scalar();
        device.sync()?;
        let took = began.elapsed().as_secs_f64() * 1e3;
        let peak = memory("VmHWM");
        if index > 0 {
            println!(
                "{{\"what\": \"{what}\", \"side\": \"ours\", \"ms\": {took:.4}, \"value\": {value}, \
                 \"gradient_norm\": {}, \"peak_rss_mb\": {peak:.1}, \"step_mb\": {:.1}}}",
                objective.gradient_norm(&grads),
                peak - before,
            );
        }
    }
    Ok(())
}

fn main() -> Result<(), Failure> {
    kernels::tune_allocator();
    let mut args = std::env::args().skip(1);
    let usage = "usage: objective_step NAME RUNS";
    let name = args.next().ok_or(usage)?;
    let runs = args.next().ok_or(usage)?.parse()?;
    match name.as_str() {
        "all" => OBJECTIVES
            .iter()
            .chain(&NAMES)
            .try_for_each(|name| run(name, runs)),
        name => run(name, runs),
    }
}
