//! Numbers that no objective can use, and the smallest inputs it can.
//!
//! A temperature (or scale, which is its inverse) that is zero, negative, NaN or infinite is refused when
//! the objective is made, by name. A batch of one has no negatives: a contrast against the batch is then
//! exactly 0 with gradient 0, as `torch.nn.functional.cross_entropy(torch.tensor([[5.0]]),
//! torch.tensor([0]))` is `tensor(0.)`; what is defined over pairs of rows is refused instead.

use burn::tensor::{Device, Tensor};
use losses::{
    AlignmentConfig, AngleConfig, BankInfoNceConfig, CosentConfig, Divergence, DnaConfig,
    EmbeddingDistillationConfig, GeneratedRows, GistColumns, GistConfig, InfoNce, InfoNceConfig,
    KlForm, LossError, MseConfig, MultipleNegativesConfig, NeighbourTargets, NgcseConfig,
    OrdinaryRows, RankingDistillationConfig, StarConfig, UniformityConfig, paired_cosine,
    symmetric_softmax_kl,
};

const IMPOSSIBLE: [f64; 5] = [0.0, -0.05, f64::NAN, f64::INFINITY, f64::NEG_INFINITY];

fn matrix(rows: &[[f32; 3]]) -> Tensor<2> {
    let data: Vec<f32> = rows.iter().flatten().copied().collect();
    Tensor::<1>::from_floats(data.as_slice(), &Device::flex()).reshape([rows.len(), 3])
}

fn vector(values: &[f32]) -> Tensor<1> {
    Tensor::from_floats(values, &Device::flex())
}

fn number(x: Tensor<1>) -> f32 {
    x.into_scalar::<f32>()
}

/// Refused as a parameter of this name.
fn refused<T>(outcome: Result<T, LossError>, name: &str, value: f64) {
    let said = match outcome {
        Ok(_) => "taken".to_owned(),
        Err(error) => error.to_string(),
    };
    assert!(
        said.contains(&format!("`{name}`")),
        "{name} {value}: {said}"
    );
}

#[test]
fn impossible_temperatures_are_refused_by_every_objective() {
    let device = Device::flex();
    let t = "temperature";
    for value in IMPOSSIBLE {
        refused(
            InfoNceConfig::new().with_temperature(value).init(),
            t,
            value,
        );
        refused(
            BankInfoNceConfig::new().with_temperature(value).init(),
            t,
            value,
        );
        refused(DnaConfig::new().with_temperature(value).init(), t, value);
        refused(GistConfig::new().with_temperature(value).init(), t, value);
        refused(NgcseConfig::new().with_temperature(value).init(), t, value);
        refused(
            StarConfig::new(3).with_temperature(value).init(&device, 0),
            t,
            value,
        );
        let softmax = Divergence::Softmax {
            temperature: value,
            form: KlForm::Sum,
        };
        refused(
            StarConfig::new(3).with_divergence(softmax).init(&device, 0),
            "divergence.temperature",
            value,
        );
        let ranking = RankingDistillationConfig::new();
        let student = ranking.with_student_temperature(value).init();
        refused(student, "student_temperature", value);
        let x = matrix(&[[1.0, 0.0, 0.0]]);
        refused(
            symmetric_softmax_kl(x.clone(), x, value, KlForm::Mean),
            t,
            value,
        );
        // The inverses.
        refused(
            MultipleNegativesConfig::new().with_scale(value).init(),
            "scale",
            value,
        );
        refused(CosentConfig::new().with_scale(value).init(), "scale", value);
        refused(AngleConfig::new().with_scale(value).init(), "scale", value);
        refused(UniformityConfig::new().with_t(value).init(), "t", value);
        refused(
            AlignmentConfig::new().with_alpha(value).init(),
            "alpha",
            value,
        );
    }
    for value in [f64::NAN, f64::INFINITY, -1.0] {
        let teacher = RankingDistillationConfig::new()
            .with_teacher_temperature(value)
            .init();
        refused(teacher, "teacher_temperature", value);
    }
}

#[test]
fn a_batch_of_one_contrasts_with_nothing() {
    let x = || matrix(&[[0.3, -0.2, 0.9]]).autodiff().require_grad();
    let y = || matrix(&[[-0.5, 0.1, 0.4]]);
    let check = |name: &str, x: Tensor<2>, loss: Tensor<1>| {
        assert_eq!(number(loss.clone()), 0.0, "{name}");
        let gradients = loss.backward();
        let gradient: Vec<f32> = x.grad(&gradients).unwrap().try_to_vec_as::<f32>().unwrap();
        assert_eq!(gradient, [0.0; 3], "{name}");
    };
    let (a, objective) = (x(), InfoNceConfig::new().init().unwrap());
    check(
        "info_nce",
        a.clone(),
        objective.forward(a, y(), None).unwrap(),
    );
    let (a, objective) = (x(), MultipleNegativesConfig::new().init().unwrap());
    check(
        "multiple_negatives",
        a.clone(),
        objective.forward(a, y(), &[]).unwrap(),
    );
    // The trainer asks first, and is told that nothing can be learned.
    assert!(InfoNce::check_batch(1, false).is_err());
    assert!(InfoNce::check_batch(1, true).is_ok());
    // One pair has no order, so nothing is out of order.
    let (a, objective) = (x(), CosentConfig::new().init().unwrap());
    check(
        "cosent",
        a.clone(),
        objective.forward(a, y(), vector(&[0.5])).unwrap(),
    );
    let columns = |anchors, positives| GistColumns {
        anchors,
        positives,
        hard_negatives: None,
    };
    let (a, objective) = (x(), GistConfig::new().init().unwrap());
    let loss = objective
        .forward(columns(a.clone(), y()), columns(y(), y()))
        .unwrap();
    check("gist", a, loss);
    let (a, objective) = (x(), NgcseConfig::new().init().unwrap());
    let rows = OrdinaryRows {
        anchors: a.clone(),
        positives: y(),
        hard_negatives: None,
    };
    check(
        "ngcse",
        a,
        objective.forward(Some(rows), None).unwrap().loss,
    );
}

#[test]
fn what_needs_two_rows_says_so() {
    let one = || matrix(&[[0.3, -0.2, 0.9]]);
    let error = UniformityConfig::new()
        .init()
        .unwrap()
        .forward(one())
        .unwrap_err();
    assert!(matches!(error, LossError::Count { .. }), "{error}");
    let ranking = RankingDistillationConfig::new().init().unwrap();
    let error = ranking.forward([one(), one()], [one(), one()]).unwrap_err();
    assert!(matches!(error, LossError::Count { .. }), "{error}");
    let ngcse = NgcseConfig::new().init().unwrap();
    assert!(ngcse.forward(None, None).is_err());
    let without_levels = GeneratedRows {
        anchors: one(),
        levels: Vec::new(),
    };
    assert!(ngcse.forward(None, Some(without_levels)).is_err());
}

#[test]
fn constant_labels_and_zero_vectors_stay_finite() {
    // No label is larger than another: log(1 + no terms) = 0.
    let cosent = CosentConfig::new().init().unwrap();
    let x = matrix(&[[0.0; 3], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]);
    let y = matrix(&[[0.0, 1.0, 0.0], [0.0; 3], [0.0, 2.0, 0.0]]);
    let loss = cosent
        .forward(x.clone(), y.clone(), vector(&[2.0; 3]))
        .unwrap();
    assert_eq!(number(loss), 0.0);
    // A vector without direction has the cosine 0 with everything, not NaN.
    let cosines = paired_cosine(x.clone(), y.clone()).unwrap();
    assert_eq!(cosines.try_to_vec_as::<f32>().unwrap(), [0.0, 0.0, 1.0]);
    let tracked = x.clone().autodiff().require_grad();
    let info = InfoNceConfig::new().init().unwrap();
    let loss = info.forward(tracked.clone(), y.clone(), None).unwrap();
    let gradients = loss.backward();
    let gradient = tracked
        .grad(&gradients)
        .unwrap()
        .try_to_vec_as::<f32>()
        .unwrap();
    assert!(number(loss).is_finite());
    assert!(gradient.iter().all(|g| g.is_finite()), "{gradient:?}");
    let zero = matrix(&[[0.0; 3]; 2]);
    let uniformity = UniformityConfig::new()
        .init()
        .unwrap()
        .forward(zero.clone())
        .unwrap();
    assert_eq!(number(uniformity), 0.0);
    let alignment = AlignmentConfig::new().init().unwrap();
    assert_eq!(number(alignment.forward(zero.clone(), zero).unwrap()), 0.0);
}

#[test]
fn labels_and_shapes_that_do_not_fit_are_refused() {
    let cosent = CosentConfig::new().init().unwrap();
    let x = || matrix(&[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]);
    for bad in [f32::NAN, f32::INFINITY] {
        assert!(cosent.forward(x(), x(), vector(&[1.0, bad])).is_err());
    }
    assert!(cosent.forward(x(), x(), vector(&[1.0])).is_err());
    let mse = MseConfig::new().init().unwrap();
    assert!(mse.forward(vector(&[1.0]), vector(&[1.0, 2.0])).is_err());
    let empty = || Tensor::<2>::zeros([0, 3], &Device::flex());
    assert!(
        InfoNceConfig::new()
            .init()
            .unwrap()
            .forward(empty(), empty(), None)
            .is_err()
    );
    assert!(
        EmbeddingDistillationConfig::new()
            .init()
            .forward(empty(), empty())
            .is_err()
    );
    let narrow = Tensor::<2>::zeros([2, 2], &Device::flex());
    assert!(
        EmbeddingDistillationConfig::new()
            .init()
            .forward(x(), narrow)
            .is_err()
    );
    // A neighbour that the bank does not have.
    let targets = NeighbourTargets::from_rows(&vec![vec![(7, 1.0)]; 2], &Device::flex()).unwrap();
    let bank = BankInfoNceConfig::new().init().unwrap();
    assert!(bank.forward(x(), x(), &targets).is_err());
}
