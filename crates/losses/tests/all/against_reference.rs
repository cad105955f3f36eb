//! Values against slow f64 loops, gradients against finite differences of those loops.

use burn::module::Param;
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use losses::{
    BankInfoNceConfig, BaseParameterization, CosentConfig, DiagonalGaussian, Divergence,
    GaussianHeads, InfoNceConfig, InputNormalization, KlForm, NeighbourTargets, Star, StarConfig,
    UniformityConfig, WeightNormalization, symmetric_gaussian_kl, symmetric_softmax_kl,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::reference::{self, Heads, Layer, Matrix, gaussian_kl, slope, softmax_kl};

type Neighbours = Vec<Vec<(usize, f32)>>;

/// Uniform in `[-scale, scale)`; rounded to f32 so that both sides see the same number.
fn uniform(rng: &mut ChaCha8Rng, scale: f64) -> f64 {
    let unit = f64::from(rng.next_u32()) / f64::from(u32::MAX);
    f64::from(((2.0 * unit - 1.0) * scale) as f32)
}

fn matrix(rng: &mut ChaCha8Rng, rows: usize, columns: usize, scale: f64) -> Matrix {
    (0..rows)
        .map(|_| (0..columns).map(|_| uniform(rng, scale)).collect())
        .collect()
}

/// Rows of length one. Entries keep away from 0, where the heads have a corner that a finite
/// difference must not step over.
fn unit_rows(rng: &mut ChaCha8Rng, rows: usize, columns: usize) -> Matrix {
    let mut rows = matrix(rng, rows, columns, 1.0);
    for row in &mut rows {
        for v in row.iter_mut() {
            *v = v.signum() * v.abs().max(0.02);
        }
        let norm = row.iter().map(|v| v * v).sum::<f64>().sqrt();
        for v in row {
            *v = f64::from((*v / norm) as f32);
        }
    }
    rows
}

fn neighbours(rng: &mut ChaCha8Rng, batch: usize, rows: usize, width: usize) -> Neighbours {
    (0..batch)
        .map(|_| {
            (0..width)
                .map(|rank| {
                    let id = rng.next_u32() as usize % rows;
                    (id, 150f32.powf(-(rank as f32) / width as f32))
                })
                .collect()
        })
        .collect()
}

fn tensor(m: &Matrix, device: &Device) -> Tensor<2> {
    let flat: Vec<f32> = m.iter().flatten().map(|v| *v as f32).collect();
    Tensor::from_data(TensorData::new(flat, [m.len(), m[0].len()]), device)
}

fn vector(v: &[f64], device: &Device) -> Tensor<1> {
    let flat: Vec<f32> = v.iter().map(|v| *v as f32).collect();
    Tensor::from_data(TensorData::new(flat, [v.len()]), device)
}

fn floats<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.try_to_vec_as::<f32>().unwrap()
}

fn random_heads(rng: &mut ChaCha8Rng, hidden: usize, dim: usize, scale: f64) -> Heads {
    let bound = scale / (hidden as f64).sqrt();
    let mut layer = || Layer {
        weight: matrix(rng, hidden, dim, bound),
        bias: matrix(rng, 1, dim, bound).remove(0),
    };
    Heads {
        mean: layer(),
        variance: layer(),
        floor: 1e-8,
    }
}

fn module_heads(heads: &Heads, device: &Device) -> GaussianHeads {
    GaussianHeads::from_tensors(
        tensor(&heads.mean.weight, device),
        vector(&heads.mean.bias, device),
        tensor(&heads.variance.weight, device),
        vector(&heads.variance.bias, device),
        heads.floor,
    )
    .unwrap()
}

fn assert_close(what: &str, got: &[f32], want: &[f64], relative: f64, absolute: f64) {
    assert_eq!(got.len(), want.len(), "{what}");
    let largest = want.iter().fold(0f64, |m, v| m.max(v.abs()));
    for (k, (g, w)) in got.iter().zip(want).enumerate() {
        let difference = (f64::from(*g) - w).abs();
        assert!(
            difference <= absolute + relative * largest,
            "{what}[{k}]: {g} against {w}, off by {difference:e}, largest {largest:e}"
        );
    }
}

/// One small STAR problem, held twice: as f64 rows and as tensors.
struct Problem {
    queries: Matrix,
    bank: Matrix,
    heads: Heads,
    neighbours: Neighbours,
    star: reference::Star,
}

impl Problem {
    fn new(seed: u64, head_scale: f64, base: f64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        Self {
            queries: unit_rows(&mut rng, 4, 10),
            bank: unit_rows(&mut rng, 30, 10),
            heads: random_heads(&mut rng, 10, 5, head_scale),
            neighbours: neighbours(&mut rng, 4, 30, 6),
            star: reference::Star {
                tau: 0.07,
                gamma: 0.05,
                ln_base: base.ln(),
                row_normalized: true,
            },
        }
    }

    fn config(&self, base: BaseParameterization) -> StarConfig {
        StarConfig::new(10)
            .with_base(base)
            .with_normalize_inputs(InputNormalization::None)
            .with_divergence(Divergence::Gaussian {
                dim: 5,
                var_floor: 1e-8,
                bank_head_grad: true,
            })
    }

    fn module(&self, config: StarConfig, device: &Device) -> Star {
        let mut star = config.init(device, 0).unwrap();
        star.heads = Some(module_heads(&self.heads, device));
        star
    }

    fn loss(&self) -> f64 {
        let divergence = self.heads.divergence(&self.queries, &self.bank);
        self.star
            .loss(&self.queries, &self.bank, &divergence, &self.neighbours)
    }

    /// Slopes of the loss in every entry that `entry` reaches.
    fn slopes(
        &self,
        rows: usize,
        columns: usize,
        entry: impl Fn(&mut Self, usize, usize) -> &mut f64,
    ) -> Vec<f64> {
        let mut out = Vec::new();
        for row in 0..rows {
            for column in 0..columns {
                out.push(slope(|h| {
                    let mut moved = Self {
                        queries: self.queries.clone(),
                        bank: self.bank.clone(),
                        heads: self.heads.clone(),
                        neighbours: self.neighbours.clone(),
                        star: self.star.clone(),
                    };
                    *entry(&mut moved, row, column) += h;
                    moved.loss()
                }));
            }
        }
        out
    }
}

fn gradient<const D: usize>(leaf: &Tensor<D>, grads: &Gradients) -> Vec<f32> {
    floats(leaf.grad(grads).unwrap())
}

#[test]
fn star_with_gaussian_heads_equals_the_loops_in_value_and_gradient() {
    let device = Device::flex().autodiff();
    for (seed, head_scale, base) in [
        (1, 1.0, 10.0),
        (2, 3.0, 10.0),
        (3, 2.0, 66.0),
        (4, 1.0, 0.5),
    ] {
        let problem = Problem::new(seed, head_scale, base);
        let star = problem.module(
            problem.config(BaseParameterization::TrainableRaw(base)),
            &device,
        );
        let queries = tensor(&problem.queries, &device).require_grad();
        let bank = tensor(&problem.bank, &device).require_grad();
        let targets = NeighbourTargets::from_rows(&problem.neighbours, &device).unwrap();

        let divergence = problem.heads.divergence(&problem.queries, &problem.bank);
        let got = star.divergence(queries.clone(), bank.clone()).unwrap();
        let want: Vec<f64> = divergence.iter().flatten().copied().collect();
        assert_close("divergence", &floats(got), &want, 2e-6, 2e-6);

        let items = star
            .forward_per_item(queries.clone(), bank.clone(), &targets)
            .unwrap();
        let terms = problem.star.terms(
            &problem.queries,
            &problem.bank,
            &divergence,
            &problem.neighbours,
        );
        let (kl, eu): (Vec<f64>, Vec<f64>) = terms.iter().copied().unzip();
        let both: Vec<f64> = terms.iter().map(|(a, b)| a + b).collect();
        assert_close("kl_term", &floats(items.kl_term), &kl, 2e-5, 1e-6);
        assert_close(
            "euclidean_term",
            &floats(items.euclidean_term),
            &eu,
            2e-6,
            1e-6,
        );
        assert_close("loss", &floats(items.loss), &both, 2e-6, 1e-6);

        let output = star
            .forward(queries.clone(), bank.clone(), &targets)
            .unwrap();
        let grads = output.loss.backward();
        let check = |name: &str, got: Vec<f32>, want: Vec<f64>| {
            assert_close(
                &format!("gradient of {name}, seed {seed}"),
                &got,
                &want,
                5e-5,
                2e-6,
            );
        };
        let heads = star.heads.as_ref().unwrap();
        check(
            "queries",
            gradient(&queries, &grads),
            problem.slopes(4, 10, |p, r, c| &mut p.queries[r][c]),
        );
        check(
            "bank",
            gradient(&bank, &grads),
            problem.slopes(30, 10, |p, r, c| &mut p.bank[r][c]),
        );
        check(
            "fc_mu.weight",
            gradient(&heads.fc_mu.weight.val(), &grads),
            problem.slopes(10, 5, |p, r, c| &mut p.heads.mean.weight[r][c]),
        );
        check(
            "fc_var.weight",
            gradient(&heads.fc_var.weight.val(), &grads),
            problem.slopes(10, 5, |p, r, c| &mut p.heads.variance.weight[r][c]),
        );
        check(
            "fc_var.bias",
            gradient(&heads.fc_var.bias.as_ref().unwrap().val(), &grads),
            problem.slopes(1, 5, |p, _, c| &mut p.heads.variance.bias[c]),
        );
        // Only differences of means enter, so this gradient is rounding noise around 0.
        let bias = gradient(&heads.fc_mu.bias.as_ref().unwrap().val(), &grads);
        assert_close("fc_mu.bias", &bias, &[0.0; 5], 0.0, 2e-5);
        let slope_ln = problem.slopes(1, 1, |p, _, _| &mut p.star.ln_base);
        check(
            "base",
            gradient(&star.base.val(), &grads),
            vec![slope_ln[0] / base],
        );
    }
}

#[test]
fn every_base_parameterization_has_the_slope_of_its_formula() {
    let device = Device::flex().autodiff();
    let problem = Problem::new(5, 3.0, 10.0);
    let targets = NeighbourTargets::from_rows(&problem.neighbours, &device).unwrap();
    let loss_at = |base: f64| {
        let mut star = problem.star.clone();
        star.ln_base = base.ln();
        let divergence = problem.heads.divergence(&problem.queries, &problem.bank);
        star.loss(
            &problem.queries,
            &problem.bank,
            &divergence,
            &problem.neighbours,
        )
    };
    let theta = (9f64.exp() - 1.0).ln();
    let cases = [
        (
            BaseParameterization::TrainableRaw(10.0),
            slope(|h| loss_at(10.0 + h)),
        ),
        (
            BaseParameterization::TrainableLog(10.0),
            slope(|h| loss_at((10f64.ln() + h).exp())),
        ),
        (
            BaseParameterization::TrainableGreaterThanOne(10.0),
            slope(|h| loss_at(1.0 + (theta + h).exp().ln_1p())),
        ),
    ];
    for (parameterization, want) in cases {
        let star = problem.module(problem.config(parameterization), &device);
        let grads = star
            .forward(
                tensor(&problem.queries, &device),
                tensor(&problem.bank, &device),
                &targets,
            )
            .unwrap()
            .loss
            .backward();
        let got = gradient(&star.base.val(), &grads);
        assert!(want > 0.0, "the loss never falls with the base");
        assert_close(&format!("{parameterization}"), &got, &[want], 5e-5, 0.0);
    }
    let fixed = problem.module(problem.config(BaseParameterization::Fixed(10.0)), &device);
    let grads = fixed
        .forward(
            tensor(&problem.queries, &device),
            tensor(&problem.bank, &device),
            &targets,
        )
        .unwrap()
        .loss
        .backward();
    assert!(fixed.base.val().grad(&grads).is_none());
    assert!(
        fixed
            .heads
            .unwrap()
            .fc_mu
            .weight
            .val()
            .grad(&grads)
            .is_some()
    );
}

#[test]
fn without_bank_head_grad_the_heads_learn_from_the_query_side_only() {
    let device = Device::flex().autodiff();
    let problem = Problem::new(6, 2.0, 10.0);
    let targets = NeighbourTargets::from_rows(&problem.neighbours, &device).unwrap();
    let run = |bank_head_grad| {
        let config = problem
            .config(BaseParameterization::TrainableRaw(10.0))
            .with_divergence(Divergence::Gaussian {
                dim: 5,
                var_floor: 1e-8,
                bank_head_grad,
            });
        let star = problem.module(config, &device);
        let loss = star
            .forward(
                tensor(&problem.queries, &device),
                tensor(&problem.bank, &device),
                &targets,
            )
            .unwrap()
            .loss;
        let grads = loss.backward();
        let weight = star.heads.as_ref().unwrap().fc_var.weight.val();
        (floats(loss), gradient(&weight, &grads))
    };
    let (full_loss, full) = run(true);
    let (loss, frozen) = run(false);
    assert_eq!(loss, full_loss);

    // The loops with the bank distributions held fixed.
    let bank: Vec<_> = problem
        .bank
        .iter()
        .map(|h| problem.heads.apply(h))
        .collect();
    let mut want = Vec::new();
    for row in 0..10 {
        for column in 0..5 {
            want.push(slope(|h| {
                let mut heads = problem.heads.clone();
                heads.variance.weight[row][column] += h;
                let divergence: Matrix = problem
                    .queries
                    .iter()
                    .map(|q| {
                        let (mean, variance) = heads.apply(q);
                        bank.iter()
                            .map(|(m, v)| gaussian_kl(&mean, &variance, m, v))
                            .collect()
                    })
                    .collect();
                problem.star.loss(
                    &problem.queries,
                    &problem.bank,
                    &divergence,
                    &problem.neighbours,
                )
            }));
        }
    }
    assert_close("fc_var.weight, query side", &frozen, &want, 5e-5, 2e-6);
    assert_ne!(frozen, full);
}

#[test]
fn divergences_in_the_hundreds_with_base_66_stay_finite_and_right() {
    let device = Device::flex().autodiff();
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let queries = unit_rows(&mut rng, 4, 8);
    let bank = unit_rows(&mut rng, 20, 8);
    let divergence: Matrix = matrix(&mut rng, 4, 20, 300.0)
        .iter()
        .map(|row| row.iter().map(|d| d.abs() + 100.0).collect())
        .collect();
    let neighbours = neighbours(&mut rng, 4, 20, 5);
    let config = StarConfig::new(8)
        .with_base(BaseParameterization::TrainableRaw(66.0))
        .with_divergence(Divergence::Softmax {
            temperature: 1.0,
            form: KlForm::Sum,
        });
    let star = config.init(&device, 0).unwrap();
    let targets = NeighbourTargets::from_rows(&neighbours, &device).unwrap();
    let distances = tensor(&divergence, &device).require_grad();
    let output = star
        .forward_with_divergence(
            tensor(&queries, &device),
            tensor(&bank, &device),
            distances.clone(),
            &targets,
        )
        .unwrap();
    let grads = output.loss.backward();
    let plain = reference::Star {
        tau: 0.07,
        gamma: 0.05,
        ln_base: 66f64.ln(),
        row_normalized: true,
    };
    let want = plain.loss(&queries, &bank, &divergence, &neighbours);
    assert!(want > 1000.0, "the exponential form would overflow");
    assert_close("loss", &floats(output.loss), &[want], 2e-6, 0.0);

    let want = slope(|h| {
        let mut moved = plain.clone();
        moved.ln_base += h;
        moved.loss(&queries, &bank, &divergence, &neighbours)
    });
    assert_close(
        "base",
        &gradient(&star.base.val(), &grads),
        &[want / 66.0],
        1e-5,
        0.0,
    );
    let got = gradient(&distances, &grads);
    assert!(got.iter().all(|g| g.is_finite()));
    let mut want = Vec::new();
    for i in 0..4 {
        for j in 0..20 {
            want.push(slope(|h| {
                let mut moved = divergence.clone();
                moved[i][j] += h;
                plain.loss(&queries, &bank, &moved, &neighbours)
            }));
        }
    }
    assert_close("divergence", &got, &want, 1e-4, 1e-5);
}

#[test]
fn large_head_weights_keep_the_whole_objective_finite() {
    // Head weights 60 times the initial range give divergences in the hundreds.
    let device = Device::flex().autodiff();
    let mut problem = Problem::new(8, 60.0, 66.0);
    problem.heads.floor = 1e-4;
    let config = problem.config(BaseParameterization::TrainableRaw(66.0));
    let star = problem.module(config, &device);
    let queries = tensor(&problem.queries, &device).require_grad();
    let bank = tensor(&problem.bank, &device);
    let targets = NeighbourTargets::from_rows(&problem.neighbours, &device).unwrap();
    let distances = floats(star.divergence(queries.clone(), bank.clone()).unwrap());
    assert!(distances.iter().any(|d| *d > 300.0));
    let output = star.forward(queries.clone(), bank, &targets).unwrap();
    let grads = output.loss.backward();
    assert!(floats(output.loss).iter().all(|v| v.is_finite()));
    assert!(gradient(&queries, &grads).iter().all(|g| g.is_finite()));
    let heads = star.heads.as_ref().unwrap();
    for weight in [&heads.fc_mu.weight, &heads.fc_var.weight] {
        assert!(
            gradient(&weight.val(), &grads)
                .iter()
                .all(|g| g.is_finite())
        );
    }
}

#[test]
fn closed_form_divergence_is_more_accurate_than_it_needs_to_be() {
    // Random unit vectors, 96 -> 64 dimensions. The bounds are far below what the plain expansion
    // (2 dim against 2 dim) would reach at small scales.
    let device = Device::flex();
    for (scale, bound) in [(1.0, 2e-6), (5.0, 5e-6), (20.0, 5e-5)] {
        let mut rng = ChaCha8Rng::seed_from_u64(9);
        let queries = unit_rows(&mut rng, 6, 96);
        let bank = unit_rows(&mut rng, 50, 96);
        let heads = random_heads(&mut rng, 96, 64, scale);
        let module = module_heads(&heads, &device);
        let gaussian = |x: &Matrix| module.forward(tensor(x, &device)).unwrap();
        // Take the f32 outputs of the heads as the input of both sides: this measures the product
        // form alone.
        let (q, h) = (gaussian(&queries), gaussian(&bank));
        let rows = |x: &Tensor<2>| -> Matrix {
            floats(x.clone())
                .chunks(64)
                .map(|row| row.iter().map(|v| f64::from(*v)).collect())
                .collect()
        };
        let (mq, vq) = (rows(&q.mean), rows(&q.variance));
        let (mh, vh) = (rows(&h.mean), rows(&h.variance));
        let mut want = Vec::new();
        for i in 0..6 {
            for j in 0..50 {
                want.push(gaussian_kl(&mq[i], &vq[i], &mh[j], &vh[j]));
            }
        }
        let got = floats(symmetric_gaussian_kl(q, h).unwrap());
        assert_close(&format!("scale {scale}"), &got, &want, 0.0, bound);
    }
}

#[test]
fn softmax_divergence_equals_the_loops() {
    let device = Device::flex();
    let mut rng = ChaCha8Rng::seed_from_u64(10);
    let queries = unit_rows(&mut rng, 5, 40);
    let bank = unit_rows(&mut rng, 9, 40);
    for (temperature, form, factor) in [(1.0, KlForm::Sum, 1.0), (0.05, KlForm::Mean, 0.5)] {
        let mut want = Vec::new();
        for q in &queries {
            for h in &bank {
                want.push(factor * softmax_kl(q, h, temperature));
            }
        }
        let got = symmetric_softmax_kl(
            tensor(&queries, &device),
            tensor(&bank, &device),
            temperature,
            form,
        );
        // At temperature 1 the divergences are about 0.02: the bound is relative to that.
        assert_close("softmax", &floats(got.unwrap()), &want, 2e-6, 5e-9);
    }
}

#[test]
fn bank_info_nce_equals_the_loops_with_and_without_normalised_weights() {
    let device = Device::flex();
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let queries = unit_rows(&mut rng, 6, 12);
    let bank = unit_rows(&mut rng, 40, 12);
    let neighbours = neighbours(&mut rng, 6, 40, 9);
    let nothing: Matrix = vec![vec![0.0; 40]; 6];
    for (normalization, row_normalized) in [
        (WeightNormalization::Row, true),
        (WeightNormalization::None, false),
    ] {
        let plain = reference::Star {
            tau: 0.07,
            gamma: 0.0,
            ln_base: 0.0,
            row_normalized,
        };
        let want: Vec<f64> = plain
            .terms(&queries, &bank, &nothing, &neighbours)
            .iter()
            .map(|(_, eu)| *eu)
            .collect();
        let loss = BankInfoNceConfig::new()
            .with_weight_normalization(normalization)
            .with_normalize_inputs(InputNormalization::None)
            .init()
            .unwrap();
        let targets = NeighbourTargets::from_rows(&neighbours, &device).unwrap();
        let got = loss
            .forward_per_item(tensor(&queries, &device), tensor(&bank, &device), &targets)
            .unwrap();
        assert_close("bank InfoNCE", &floats(got), &want, 3e-6, 0.0);
    }
}

/// A worked example whose digits were computed in f64 outside this crate.
#[test]
fn worked_example() {
    let device = Device::flex().autodiff();
    let matrix = |rows: &[[f64; 2]]| -> Matrix { rows.iter().map(|r| r.to_vec()).collect() };
    let unit = |rows: &[[f64; 2]]| -> Matrix {
        rows.iter()
            .map(|r| {
                let norm = (r[0] * r[0] + r[1] * r[1]).sqrt();
                vec![r[0] / norm, r[1] / norm]
            })
            .collect()
    };
    let queries = tensor(&unit(&[[1.0, 0.2], [0.3, 1.0]]), &device).require_grad();
    let bank = unit(&[[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]);
    let bank = tensor(&bank, &device);
    let mean_q = tensor(&matrix(&[[0.10, -0.20], [0.30, 0.00]]), &device).require_grad();
    let var_q = tensor(&matrix(&[[1.00, 0.50], [0.80, 1.20]]), &device).require_grad();
    let mean_h = [[0.12, -0.25], [0.00, 0.10], [0.35, 0.05], [-0.40, 0.30]];
    let var_h = [[1.10, 0.45], [0.90, 0.90], [0.75, 1.30], [2.00, 0.60]];
    let distances = symmetric_gaussian_kl(
        DiagonalGaussian {
            mean: mean_q.clone(),
            variance: var_q.clone(),
        },
        DiagonalGaussian {
            mean: tensor(&matrix(&mean_h), &device),
            variance: tensor(&matrix(&var_h), &device),
        },
    )
    .unwrap();
    let second = 150f32.powf(-0.5);
    let rows = [vec![(0, 1.0), (1, second)], vec![(2, 1.0), (1, second)]];
    let targets = NeighbourTargets::from_rows(&rows, &device).unwrap();
    let star = StarConfig::new(2)
        .with_normalize_inputs(InputNormalization::None)
        .init(&device, 0)
        .unwrap();
    let output = star
        .forward_with_divergence(queries.clone(), bank.clone(), distances.clone(), &targets)
        .unwrap();
    let grads = output.loss.backward();

    let want = [
        0.007_880_30,
        0.166_944_44,
        0.346_714_74,
        0.456_250_00,
        0.351_216_54,
        0.082_291_67,
        0.005_260_42,
        0.620_625_00,
    ];
    assert_close("d", &floats(distances), &want, 0.0, 3e-7);
    let kl = 0.327_000_991_515_777_66;
    let eu = 0.405_558_709_866_826_85;
    assert_close("kl_term", &floats(output.kl_term), &[0.05 * kl], 5e-6, 0.0);
    assert_close(
        "euclidean_term",
        &floats(output.euclidean_term),
        &[eu],
        5e-6,
        0.0,
    );
    assert_close(
        "loss",
        &floats(output.loss),
        &[0.421_908_759_442_616_85],
        5e-6,
        0.0,
    );
    let want = [0.004_254_338_301_893_586];
    assert_close(
        "base",
        &gradient(&star.base.val(), &grads),
        &want,
        5e-6,
        0.0,
    );
    let want = [-0.349_243_41, 1.047_442_16, 0.145_932_52, -0.143_721_20];
    assert_close("queries", &gradient(&queries, &grads), &want, 5e-6, 0.0);
    let want = [0.023_634_13, -0.084_011_39, -0.029_599_83, -0.058_519_21];
    assert_close("mean_q", &gradient(&mean_q, &grads), &want, 2e-5, 0.0);
    let want = [-0.019_777_93, -0.173_098_18, 0.015_142_20, -0.021_367_85];
    assert_close("var_q", &gradient(&var_q, &grads), &want, 2e-5, 0.0);

    let down = BankInfoNceConfig::new()
        .with_normalize_inputs(InputNormalization::None)
        .init()
        .unwrap()
        .forward(queries, bank, &targets)
        .unwrap();
    assert_close("DOWN", &floats(down), &[0.321_624_716_927_233_4], 5e-6, 0.0);
}

#[test]
fn a_bank_outside_autodiff_counts_as_a_constant() {
    let plain = Device::flex();
    let device = Device::flex().autodiff();
    let problem = Problem::new(12, 2.0, 10.0);
    let config = problem.config(BaseParameterization::TrainableRaw(10.0));
    let star = problem.module(config, &device);
    let run = |bank: Tensor<2>, targets_on: &Device| {
        let queries = tensor(&problem.queries, &device).require_grad();
        let targets = NeighbourTargets::from_rows(&problem.neighbours, targets_on).unwrap();
        let loss = star.forward(queries.clone(), bank, &targets).unwrap().loss;
        let grads = loss.backward();
        let weight = star.heads.as_ref().unwrap().fc_mu.weight.val();
        (
            floats(loss),
            gradient(&queries, &grads),
            gradient(&weight, &grads),
        )
    };
    assert_eq!(
        run(tensor(&problem.bank, &plain), &plain),
        run(tensor(&problem.bank, &device), &device)
    );
}

#[test]
fn a_star_with_a_replaced_base_parameter_uses_it() {
    let device = Device::flex();
    let mut star = StarConfig::new(3).init(&device, 0).unwrap();
    star.base = Param::from_tensor(Tensor::from_floats([4.0], &device));
    assert_close("ln base", &floats(star.ln_base()), &[4f64.ln()], 1e-6, 0.0);
}

/// Every combination of the options of InfoNCE, dense and in blocks.
#[test]
fn info_nce_with_its_options_equals_the_loops_in_value_and_gradient() {
    let device = Device::flex().autodiff();
    let mut rng = ChaCha8Rng::seed_from_u64(13);
    let (batch, dim) = (5, 6);
    let sides = [(); 3].map(|()| matrix(&mut rng, batch, dim, 1.0));
    for at in 0..16 {
        let [symmetric, include_anchors, hard, weighted] = [1, 2, 4, 8].map(|bit| at & bit != 0);
        let plain = reference::InfoNce {
            tau: 0.2,
            weight: if weighted { 1.5 } else { 0.0 },
            symmetric,
            include_anchors,
        };
        let used = if hard { 3 } else { 2 };
        let rows = |sides: &[Matrix; 3]| {
            let none = Matrix::new();
            plain.rows(&sides[0], &sides[1], if hard { &sides[2] } else { &none })
        };
        let config = InfoNceConfig::new()
            .with_temperature(plain.tau)
            .with_hard_negative_weight(plain.weight)
            .with_symmetric(symmetric)
            .with_include_anchors(include_anchors);
        let slopes: Vec<Vec<f64>> = (0..used)
            .map(|side| {
                let entries = (0..batch * dim).map(|entry| {
                    slope(|h| {
                        let mut moved = sides.clone();
                        moved[side][entry / dim][entry % dim] += h;
                        rows(&moved).iter().sum::<f64>() / batch as f64
                    })
                });
                entries.collect()
            })
            .collect();
        for chunk in [None, Some(1), Some(3), Some(5), Some(64)] {
            let loss = config.with_chunk(chunk).init().unwrap();
            let leaves = sides.each_ref().map(|x| tensor(x, &device).require_grad());
            let arguments = || {
                let [a, p, n] = leaves.clone();
                (a, p, hard.then_some(n))
            };
            let (a, p, n) = arguments();
            let items = loss.forward_per_item(a, p, n).unwrap();
            let want = rows(&sides);
            assert_close("rows", &floats(items), &want, 2e-6, 1e-6);
            let (a, p, n) = arguments();
            let mean = loss.forward(a, p, n).unwrap();
            let grads = mean.backward();
            let want = want.iter().sum::<f64>() / batch as f64;
            assert_close("loss", &floats(mean), &[want], 2e-6, 1e-6);
            for (side, want) in slopes.iter().enumerate() {
                let what = format!("side {side}, options {at}, chunk {chunk:?}");
                assert_close(&what, &gradient(&leaves[side], &grads), want, 1e-5, 1e-6);
            }
        }
    }
}

/// The default form is one operation over a bank of positives and negatives, to the last bit.
#[test]
fn info_nce_is_bank_info_nce_with_the_own_row_as_the_only_neighbour() {
    let device = Device::flex().autodiff();
    let mut rng = ChaCha8Rng::seed_from_u64(18);
    let sides = [(); 3].map(|()| matrix(&mut rng, 70, 33, 1.0));
    let own: Neighbours = (0..70).map(|i| vec![(i, 1.0)]).collect();
    let targets = NeighbourTargets::from_rows(&own, &device).unwrap();
    let over_bank = BankInfoNceConfig::new()
        .with_temperature(0.05)
        .with_normalize_inputs(InputNormalization::Both)
        .init()
        .unwrap();
    let in_batch = InfoNceConfig::new().init().unwrap();
    let run = |loss: &dyn Fn([Tensor<2>; 3]) -> Tensor<1>| {
        let leaves = sides.each_ref().map(|x| tensor(x, &device).require_grad());
        let value = loss(leaves.clone());
        let grads = value.backward();
        (floats(value), leaves.map(|leaf| gradient(&leaf, &grads)))
    };
    let got = run(&|[a, p, n]| in_batch.forward(a, p, Some(n)).unwrap());
    let want = run(&|[a, p, n]| {
        let bank = Tensor::cat(vec![p, n], 0);
        over_bank.forward(a, bank, &targets).unwrap()
    });
    assert_eq!(got, want);
}

#[test]
fn info_nce_in_blocks_equals_the_dense_form_on_a_large_batch() {
    let device = Device::flex().autodiff();
    let mut rng = ChaCha8Rng::seed_from_u64(14);
    let sides = [(); 3].map(|()| matrix(&mut rng, 130, 24, 1.0));
    let run = |config: InfoNceConfig| {
        let leaves = sides.each_ref().map(|x| tensor(x, &device).require_grad());
        let [a, p, n] = leaves.clone();
        let loss = config.init().unwrap().forward(a, p, Some(n)).unwrap();
        // A factor behind the loss reaches the gradients.
        let grads = loss.clone().mul_scalar(3.0).backward();
        let mut out = vec![floats(loss)];
        out.extend(leaves.iter().map(|leaf| gradient(leaf, &grads)));
        out
    };
    let config = InfoNceConfig::new();
    let all = config.with_symmetric(true).with_include_anchors(true);
    for config in [config, all.with_hard_negative_weight(0.7)] {
        let dense = run(config);
        for chunk in [32, 130, 1000] {
            let blocks = run(config.with_chunk(Some(chunk)));
            for (blocks, dense) in blocks.iter().zip(&dense) {
                let want: Vec<f64> = dense.iter().map(|v| f64::from(*v)).collect();
                assert_close(&format!("chunk {chunk}"), blocks, &want, 1e-5, 1e-7);
            }
        }
    }
}

#[test]
fn constants_in_blocks_give_the_same_value_and_keep_their_side_out_of_the_gradient() {
    let device = Device::flex().autodiff();
    let mut rng = ChaCha8Rng::seed_from_u64(15);
    let [a, p] = [(); 2].map(|()| matrix(&mut rng, 6, 4, 1.0));
    let loss = InfoNceConfig::new().with_chunk(Some(4)).init().unwrap();
    let plain = Device::flex();
    let value = loss.forward(tensor(&a, &plain), tensor(&p, &plain), None);
    let value = floats(value.unwrap());
    let anchors = tensor(&a, &device).require_grad();
    let one_side = loss.forward(anchors.clone(), tensor(&p, &plain), None);
    let one_side = one_side.unwrap();
    let grads = one_side.backward();
    assert_eq!(floats(one_side), value);
    let positives = tensor(&p, &device).require_grad();
    let both = loss.forward(anchors.clone(), positives.clone(), None);
    let both = both.unwrap().backward();
    assert_eq!(gradient(&anchors, &grads), gradient(&anchors, &both));
    assert!(gradient(&positives, &both).iter().any(|g| *g != 0.0));
}

#[test]
fn cosent_equals_the_sum_over_all_pairs_at_any_scale() {
    let device = Device::flex().autodiff();
    let mut rng = ChaCha8Rng::seed_from_u64(16);
    for (batch, levels, scale) in [
        (1, 1, 20.0),
        (2, 2, 20.0),
        (40, 6, 20.0),
        (40, 1000, 20.0),
        (64, 3, 1.0),
        (64, 9, 1e4),
        (17, 2, 1e-3),
    ] {
        let similarities = matrix(&mut rng, 1, batch, 1.0).remove(0);
        let labels: Vec<f64> = (0..batch)
            .map(|_| f64::from(rng.next_u32() % levels) - 2.0)
            .collect();
        let (want, slopes) = reference::cosent(&similarities, &labels, scale);
        let leaf = vector(&similarities, &device).require_grad();
        let loss = CosentConfig::new().with_scale(scale).init().unwrap();
        let got = loss.forward_similarities(leaf.clone(), vector(&labels, &device));
        let got = got.unwrap();
        let grads = got.backward();
        let what = format!("{batch} pairs, {levels} levels, scale {scale}");
        assert_close(&what, &floats(got), &[want], 1e-6, 1e-9);
        assert_close(&what, &gradient(&leaf, &grads), &slopes, 1e-6, 1e-9);
    }
}

#[test]
fn uniformity_equals_the_loops_in_value_and_gradient() {
    let device = Device::flex().autodiff();
    let mut rng = ChaCha8Rng::seed_from_u64(17);
    for (rows, t) in [(2, 2.0), (7, 2.0), (9, 0.5), (5, 20.0)] {
        let x = matrix(&mut rng, rows, 4, 1.0);
        let leaf = tensor(&x, &device).require_grad();
        let objective = UniformityConfig::new().with_t(t).init().unwrap();
        let got = objective.forward(leaf.clone()).unwrap();
        let grads = got.backward();
        assert_close(
            "value",
            &floats(got),
            &[reference::uniformity(&x, t)],
            5e-6,
            1e-6,
        );
        let slopes: Vec<f64> = (0..rows * 4)
            .map(|entry| {
                slope(|h| {
                    let mut moved = x.clone();
                    moved[entry / 4][entry % 4] += h;
                    reference::uniformity(&moved, t)
                })
            })
            .collect();
        let what = format!("{rows} rows, t {t}");
        assert_close(&what, &gradient(&leaf, &grads), &slopes, 2e-5, 1e-6);
    }
}
