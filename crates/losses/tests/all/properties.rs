//! What has to hold for any input.

use burn::tensor::{Device, Tensor, TensorData};
use losses::{
    AlignmentConfig, AngleConfig, BankInfoNceConfig, BaseParameterization, CosentConfig,
    DiagonalGaussian, Divergence, DnaConfig, EnergyHingeConfig, GistColumns, GistConfig,
    HierarchicalTripletConfig, InfoNceConfig, InputNormalization, KlForm, L1Config, LeftClamp,
    MatryoshkaConfig, MseConfig, MultipleNegativesConfig, NeighbourTargets,
    RankingDistillationConfig, RankingObjective, SmoothK2Config, StarConfig, TranslatedReluConfig,
    UniformityConfig, cosine_scores, l2_normalize, log_sum_exp, symmetric_gaussian_kl,
    symmetric_softmax_kl,
};
use proptest::prelude::*;

type Rows = Vec<Vec<f32>>;
type Neighbours = Vec<Vec<(usize, f32)>>;

fn tensor(rows: &Rows) -> Tensor<2> {
    let flat: Vec<f32> = rows.iter().flatten().copied().collect();
    let shape = [rows.len(), rows[0].len()];
    Tensor::from_data(TensorData::new(flat, shape), &Device::flex())
}

fn floats<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.try_to_vec_as::<f32>().unwrap()
}

fn rows(count: usize, columns: usize, low: f32, high: f32) -> impl Strategy<Value = Rows> {
    prop::collection::vec(prop::collection::vec(low..high, columns), count)
}

/// Queries `[3, 6]`, bank `[11, 6]` and four neighbours each.
fn problem() -> impl Strategy<Value = (Rows, Rows, Neighbours)> {
    let neighbours = prop::collection::vec(prop::collection::vec((0..11usize, 0.01f32..1.0), 4), 3);
    (rows(3, 6, -1.0, 1.0), rows(11, 6, -1.0, 1.0), neighbours)
}

fn gaussian_config() -> StarConfig {
    StarConfig::new(6).with_divergence(Divergence::Gaussian {
        dim: 4,
        var_floor: 1e-6,
        bank_head_grad: true,
    })
}

fn star_loss(config: StarConfig, q: &Rows, h: &Rows, neighbours: &Neighbours) -> Vec<f32> {
    let device = Device::flex();
    let targets = NeighbourTargets::from_rows(neighbours, &device).unwrap();
    let star = config.init(&device, 3).unwrap();
    let items = star
        .forward_per_item(tensor(q), tensor(h), &targets)
        .unwrap();
    floats(items.loss)
}

fn assert_close(got: &[f32], want: &[f32], tolerance: f32) {
    assert_eq!(got.len(), want.len());
    for (g, w) in got.iter().zip(want) {
        assert!(
            (g - w).abs() <= tolerance * (1.0 + w.abs()),
            "{got:?} against {want:?}"
        );
    }
}

proptest! {
    // Each case computes several objectives with gradients: an eighth of the usual number of cases.
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases.div_ceil(8),
        failure_persistence: None,
        ..Default::default()
    })]

    #[test]
    fn the_order_of_the_bank_does_not_matter((q, h, neighbours) in problem(), shift in 1usize..10) {
        let n = h.len();
        let moved: Rows = (0..n).map(|j| h[(j + shift) % n].clone()).collect();
        let renamed: Neighbours = neighbours
            .iter()
            .map(|row| row.iter().map(|(j, w)| ((j + n - shift) % n, *w)).collect())
            .collect();
        let softmax = gaussian_config().with_divergence(Divergence::Softmax {
            temperature: 0.1,
            form: KlForm::Mean,
        });
        for config in [gaussian_config(), softmax] {
            let before = star_loss(config, &q, &h, &neighbours);
            let after = star_loss(config, &q, &moved, &renamed);
            assert_close(&after, &before, 1e-5);
        }
    }

    #[test]
    fn base_one_and_no_divergence_term_is_bank_info_nce((q, h, neighbours) in problem()) {
        let targets = NeighbourTargets::from_rows(&neighbours, &Device::flex()).unwrap();
        let plain = BankInfoNceConfig::new().init().unwrap();
        let want = floats(plain.forward_per_item(tensor(&q), tensor(&h), &targets).unwrap());
        let base_one = gaussian_config()
            .with_base(BaseParameterization::Fixed(1.0))
            .with_gamma(0.0);
        let off = gaussian_config().with_kl_guidance(false).with_kl_term(false);
        assert_close(&star_loss(base_one, &q, &h, &neighbours), &want, 1e-6);
        assert_close(&star_loss(off, &q, &h, &neighbours), &want, 1e-6);
    }

    #[test]
    fn at_a_high_temperature_the_loss_is_the_log_of_the_bank_size((q, h, neighbours) in problem()) {
        let targets = NeighbourTargets::from_rows(&neighbours, &Device::flex()).unwrap();
        let loss = BankInfoNceConfig::new().with_temperature(1e6).init().unwrap();
        let got = floats(loss.forward_per_item(tensor(&q), tensor(&h), &targets).unwrap());
        assert_close(&got, &[11f32.ln(); 3], 1e-5);
    }

    #[test]
    fn at_a_low_temperature_the_nearest_row_decides(q in rows(2, 6, 0.1, 1.0), h in rows(7, 6, 0.1, 1.0)) {
        // ln sum exp(z / tau) tends to max z / tau.
        let device = Device::flex();
        let tau = 1e-4;
        let loss = BankInfoNceConfig::new().with_temperature(tau)
            .with_normalize_inputs(InputNormalization::Both).init().unwrap();
        let targets = NeighbourTargets::from_rows(&vec![vec![(0, 1.0)]; 2], &device).unwrap();
        let got = floats(loss.forward_per_item(tensor(&q), tensor(&h), &targets).unwrap());
        let scores = floats(cosine_scores(tensor(&q), tensor(&h)).unwrap());
        for (row, got) in scores.chunks(7).zip(got) {
            let best = row.iter().copied().fold(f32::MIN, f32::max);
            let gap = f64::from(got) * tau - f64::from(best - row[0]);
            assert!(gap.abs() < 1e-3, "{gap}");
        }
    }

    #[test]
    fn the_length_of_normalised_inputs_does_not_matter((q, h, neighbours) in problem(), factor in 0.1f32..20.0) {
        prop_assume!(q.iter().chain(&h).all(|row| row.iter().map(|v| v * v).sum::<f32>() > 0.01));
        let config = gaussian_config().with_normalize_inputs(InputNormalization::Both);
        let scaled = |rows: &Rows| -> Rows {
            rows.iter().map(|row| row.iter().map(|v| v * factor).collect()).collect()
        };
        let before = star_loss(config, &q, &h, &neighbours);
        let after = star_loss(config, &scaled(&q), &scaled(&h), &neighbours);
        assert_close(&after, &before, 2e-5);
    }

    #[test]
    fn weights_count_relative_to_their_row((q, h, neighbours) in problem(), factor in 0.1f32..50.0) {
        let scaled: Neighbours = neighbours
            .iter()
            .map(|row| row.iter().map(|(j, w)| (*j, w * factor)).collect())
            .collect();
        let before = star_loss(gaussian_config(), &q, &h, &neighbours);
        let after = star_loss(gaussian_config(), &q, &h, &scaled);
        assert_close(&after, &before, 1e-5);
    }

    #[test]
    fn padding_and_repetition_do_not_change_the_loss((q, h, neighbours) in problem()) {
        // The first neighbour split in two halves, and a padded entry with another id.
        let rewritten: Neighbours = neighbours
            .iter()
            .map(|row| {
                let (id, weight) = row[0];
                let mut row = row.clone();
                row[0] = (id, weight / 2.0);
                row.push((id, weight / 2.0));
                row.push(((id + 1) % 11, 0.0));
                row
            })
            .collect();
        let before = star_loss(gaussian_config(), &q, &h, &neighbours);
        let after = star_loss(gaussian_config(), &q, &h, &rewritten);
        assert_close(&after, &before, 1e-5);
    }

    #[test]
    fn dna_is_bank_info_nce_with_equal_weights((q, h, neighbours) in problem()) {
        let device = Device::flex();
        let equal: Neighbours = neighbours
            .iter()
            .map(|row| row.iter().map(|(j, _)| (*j, 0.5)).collect())
            .collect();
        let equal = NeighbourTargets::from_rows(&equal, &device).unwrap();
        let targets = NeighbourTargets::from_rows(&neighbours, &device).unwrap();
        let plain = BankInfoNceConfig::new().init().unwrap();
        let want = floats(plain.forward_per_item(tensor(&q), tensor(&h), &equal).unwrap());
        let dna = DnaConfig::new().init().unwrap();
        let got = floats(dna.forward_per_item(tensor(&q), tensor(&h), &targets).unwrap());
        assert_close(&got, &want, 1e-6);
    }

    #[test]
    fn gaussian_divergence_is_symmetric_zero_on_itself_and_blind_to_a_common_shift(
        mq in rows(4, 5, -2.0, 2.0), vq in rows(4, 5, 0.2, 3.0),
        mh in rows(6, 5, -2.0, 2.0), vh in rows(6, 5, 0.2, 3.0),
        shift in prop::collection::vec(-3.0f32..3.0, 5),
    ) {
        let gaussian = |mean: &Rows, variance: &Rows| DiagonalGaussian {
            mean: tensor(mean),
            variance: tensor(variance),
        };
        let (q, h) = (gaussian(&mq, &vq), gaussian(&mh, &vh));
        let d = floats(symmetric_gaussian_kl(q.clone(), h.clone()).unwrap());
        assert!(d.iter().all(|d| *d >= 0.0));
        let back = symmetric_gaussian_kl(h, q.clone()).unwrap().transpose();
        assert_close(&floats(back), &d, 1e-5);
        let own = floats(symmetric_gaussian_kl(q.clone(), q).unwrap());
        for i in 0..4 {
            assert!(own[i * 4 + i] < 2e-5, "{}", own[i * 4 + i]);
        }
        let shifted = |rows: &Rows| -> Rows {
            rows.iter()
                .map(|row| row.iter().zip(&shift).map(|(m, s)| m + s).collect())
                .collect()
        };
        let moved = symmetric_gaussian_kl(
            gaussian(&shifted(&mq), &vq),
            gaussian(&shifted(&mh), &vh),
        );
        assert_close(&floats(moved.unwrap()), &d, 2e-5);
    }

    #[test]
    fn softmax_divergence_is_symmetric_zero_on_itself_and_blind_to_a_shift_of_a_row(
        q in rows(4, 5, -3.0, 3.0), h in rows(6, 5, -3.0, 3.0), shift in -5.0f32..5.0,
    ) {
        let kl = |a: &Rows, b: &Rows, form| {
            symmetric_softmax_kl(tensor(a), tensor(b), 1.0, form).unwrap()
        };
        let d = floats(kl(&q, &h, KlForm::Sum));
        assert!(d.iter().all(|d| *d >= 0.0));
        assert_close(&floats(kl(&h, &q, KlForm::Sum).transpose()), &d, 1e-5);
        let own = floats(kl(&q, &q, KlForm::Sum));
        for i in 0..4 {
            assert!(own[i * 4 + i] < 5e-6);
        }
        let half: Vec<f32> = d.iter().map(|d| d / 2.0).collect();
        assert_close(&floats(kl(&q, &h, KlForm::Mean)), &half, 1e-6);
        let moved: Rows = q.iter().map(|row| row.iter().map(|v| v + shift).collect()).collect();
        assert_close(&floats(kl(&moved, &h, KlForm::Sum)), &d, 2e-5);
    }

    #[test]
    fn log_sum_exp_lies_between_the_maximum_and_the_maximum_plus_ln_n(x in rows(3, 8, -500.0, 500.0), shift in -100.0f32..100.0) {
        let values = floats(log_sum_exp(tensor(&x)));
        for (row, y) in x.iter().zip(&values) {
            let max = row.iter().copied().fold(f32::MIN, f32::max);
            assert!(*y >= max - 1e-3 && *y <= max + 8f32.ln() + 1e-3);
        }
        let moved: Rows = x.iter().map(|row| row.iter().map(|v| v + shift).collect()).collect();
        let want: Vec<f32> = values.iter().map(|y| y + shift).collect();
        assert_close(&floats(log_sum_exp(tensor(&moved))), &want, 1e-5);
    }

    #[test]
    fn normalised_rows_have_length_one_and_stay_put(x in rows(4, 6, -10.0, 10.0)) {
        prop_assume!(x.iter().all(|row| row.iter().map(|v| v * v).sum::<f32>() > 1e-3));
        let once = l2_normalize(tensor(&x), 1e-12);
        let lengths = floats(once.clone().square().sum_dim(1));
        assert_close(&lengths, &[1.0; 4], 1e-6);
        let twice = floats(l2_normalize(once.clone(), 1e-12));
        assert_close(&twice, &floats(once), 1e-6);
    }

    #[test]
    fn the_order_of_the_batch_does_not_matter(
        a in rows(6, 4, -1.0, 1.0), p in rows(6, 4, -1.0, 1.0), n in rows(6, 4, -1.0, 1.0),
        labels in prop::collection::vec(0..4u8, 6), shift in 1usize..6,
    ) {
        let values = |shift: usize| -> Vec<f32> {
            let moved = |x: &Rows| -> Tensor<2> {
                let mut x = x.clone();
                x.rotate_left(shift);
                tensor(&x)
            };
            let mut labels: Vec<f32> = labels.iter().map(|y| f32::from(*y)).collect();
            labels.rotate_left(shift);
            let labels = || Tensor::<1>::from_floats(labels.as_slice(), &Device::flex());
            let (a, p, n) = (|| moved(&a), || moved(&p), || moved(&n));
            let columns = || GistColumns { anchors: a(), positives: p(), hard_negatives: Some(n()) };
            let guide = GistColumns { anchors: p(), positives: n(), hard_negatives: Some(a()) };
            let options = InfoNceConfig::new().with_symmetric(true).with_include_anchors(true);
            let ranking = MultipleNegativesConfig::new()
                .with_query_to_query(true)
                .with_document_to_query(true)
                .with_document_to_document(true);
            let mle = RankingDistillationConfig::new().with_objective(RankingObjective::ListMle);
            let all = [
                options.init().unwrap().forward(a(), p(), Some(n())),
                options.with_chunk(Some(4)).init().unwrap().forward(a(), p(), Some(n())),
                ranking.init().unwrap().forward(a(), p(), &[n(), n()]),
                GistConfig::new().init().unwrap().forward(columns(), guide),
                EnergyHingeConfig::new().init().unwrap().forward(a(), p(), Some(n())),
                HierarchicalTripletConfig::new().init().unwrap().forward(a(), &[p(), n(), a()]),
                CosentConfig::new().init().unwrap().forward(a(), p(), labels()),
                AngleConfig::new().init().unwrap().forward(a(), p(), labels()),
                AlignmentConfig::new().init().unwrap().forward(a(), p()),
                UniformityConfig::new().init().unwrap().forward(a()),
                RankingDistillationConfig::new().init().unwrap().forward([a(), p()], [p(), n()]),
                mle.init().unwrap().forward([a(), p()], [p(), n()]),
            ];
            all.into_iter().map(|value| value.unwrap().into_scalar()).collect()
        };
        assert_close(&values(shift), &values(0), 2e-5);
    }

    #[test]
    fn both_directions_together_do_not_know_who_is_the_anchor(
        a in rows(5, 4, -1.0, 1.0), p in rows(5, 4, -1.0, 1.0), anchors in any::<bool>(),
    ) {
        let config = InfoNceConfig::new().with_symmetric(true).with_include_anchors(anchors);
        let loss = config.init().unwrap();
        let forth = loss.forward_per_item(tensor(&a), tensor(&p), None).unwrap();
        let back = loss.forward_per_item(tensor(&p), tensor(&a), None).unwrap();
        assert_close(&floats(forth), &floats(back), 1e-5);
    }

    #[test]
    fn more_candidates_cost_more(
        a in rows(5, 4, -1.0, 1.0), p in rows(5, 4, -1.0, 1.0), n in rows(5, 4, -1.0, 1.0),
    ) {
        let config = InfoNceConfig::new();
        let items = |config: InfoNceConfig, hard: Option<Tensor<2>>| {
            let loss = config.init().unwrap();
            floats(loss.forward_per_item(tensor(&a), tensor(&p), hard).unwrap())
        };
        let plain = items(config, None);
        for more in [
            items(config, Some(tensor(&n))),
            items(config.with_include_anchors(true), None),
        ] {
            for (more, plain) in more.iter().zip(&plain) {
                assert!(*more >= plain - 1e-5, "{more} against {plain}");
            }
        }
    }

    #[test]
    fn only_the_order_of_graded_labels_counts(
        s in prop::collection::vec(-1.0f32..1.0, 12), labels in prop::collection::vec(0..5u8, 12),
        scale in 0.1f64..100.0,
    ) {
        let loss = CosentConfig::new().with_scale(scale).init().unwrap();
        let value = |grade: fn(u8) -> f32| {
            let labels: Vec<f32> = labels.iter().map(|y| grade(*y)).collect();
            let vector = |values: &[f32]| Tensor::<1>::from_floats(values, &Device::flex());
            loss.forward_similarities(vector(&s), vector(&labels)).unwrap().into_scalar::<f32>()
        };
        let plain = value(f32::from);
        assert_eq!(value(|y| f32::from(y).exp() - 7.0), plain);
        assert!(plain >= 0.0);
    }

    #[test]
    fn the_length_of_the_embeddings_does_not_matter(
        a in rows(4, 6, -1.0, 1.0), p in rows(4, 6, -1.0, 1.0), factor in 0.05f32..20.0,
    ) {
        prop_assume!(a.iter().chain(&p).all(|row| row.iter().map(|v| v * v).sum::<f32>() > 0.01));
        let labels = || Tensor::<1>::from_floats([0.0, 3.0, 1.0, 3.0], &Device::flex());
        let values = |factor: f32| -> Vec<f32> {
            let a = || tensor(&a).mul_scalar(factor);
            let p = || tensor(&p).mul_scalar(1.0 / factor);
            let inner = InfoNceConfig::new().init().unwrap();
            let nested = MatryoshkaConfig::new(vec![6, 4]).init().unwrap();
            let all = [
                AngleConfig::new().init().unwrap().forward(a(), p(), labels()),
                CosentConfig::new().init().unwrap().forward(a(), p(), labels()),
                EnergyHingeConfig::new().init().unwrap().forward(a(), p(), None),
                AlignmentConfig::new().init().unwrap().forward(a(), p()),
                UniformityConfig::new().init().unwrap().forward(p()),
                nested.forward([a(), p()], |[a, p]| inner.forward(a, p, None)),
            ];
            all.into_iter().map(|value| value.unwrap().into_scalar()).collect()
        };
        assert_close(&values(factor), &values(1.0), 1e-4);
    }

    #[test]
    fn a_perfect_student_costs_nothing(
        t in rows(5, 5, -1.0, 1.0), temperature in 0.02f64..2.0, own in any::<bool>(),
    ) {
        let config = RankingDistillationConfig::new()
            .with_student_temperature(temperature)
            .with_teacher_temperature(temperature)
            .with_exclude_own(own);
        let loss = config.init().unwrap();
        let items = floats(loss.forward_similarities(tensor(&t), tensor(&t)).unwrap());
        assert!(items.iter().all(|item| item.abs() < 2e-5), "{items:?}");
    }

    #[test]
    fn regression_losses_are_special_cases_of_each_other(
        pairs in prop::collection::vec((-1.0f32..6.0, 0..6u8), 8), k in 0.1f64..5.0, x0 in 0.0f64..0.5,
    ) {
        let vector = |values: Vec<f32>| Tensor::<1>::from_floats(values.as_slice(), &Device::flex());
        let scores = || vector(pairs.iter().map(|(s, _)| *s).collect());
        let labels = || vector(pairs.iter().map(|(_, y)| f32::from(*y)).collect());
        for clamp in [LeftClamp::All, LeftClamp::None, LeftClamp::LabelMinOnly(0.0)] {
            let buffered = TranslatedReluConfig::new().with_k(k).with_x0(x0).with_left_clamp(clamp);
            let relu = buffered.init().unwrap().forward_per_item(scores(), labels()).unwrap();
            let squared = SmoothK2Config::new().with_k(k).with_x0(x0).with_left_clamp(clamp);
            let squared = squared.init().unwrap().forward_per_item(scores(), labels()).unwrap();
            // (k m)^2 = k (k m^2) with m the part beyond the buffer.
            assert_close(&floats(relu.square()), &floats(squared.mul_scalar(k)), 1e-5);
            let plain = TranslatedReluConfig::new().with_k(1.0).with_x0(0.0).with_left_clamp(clamp);
            let plain = plain.init().unwrap().forward_per_item(scores(), labels()).unwrap();
            let l1 = L1Config::new().with_left_clamp(clamp).init().unwrap();
            let l1 = floats(l1.forward_per_item(scores(), labels()).unwrap());
            assert_eq!(floats(plain), l1.clone());
            let mse = MseConfig::new().with_left_clamp(clamp).init().unwrap();
            let mse = floats(mse.forward_per_item(scores(), labels()).unwrap());
            let squares: Vec<f32> = l1.iter().map(|x| x * x).collect();
            assert_close(&mse, &squares, 1e-6);
        }
    }
}
