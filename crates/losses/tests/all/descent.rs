//! Plain gradient descent on free embeddings: every objective falls and reaches what it asks for.

use burn::tensor::{Device, Int, Tensor, TensorData};
use losses::{
    AlignmentConfig, AngleConfig, CoarseCrossEntropy, CosentConfig, EmbeddingDistance,
    EmbeddingDistillationConfig, EnergyHingeConfig, GistColumns, GistConfig,
    HierarchicalTripletConfig, InfoNceConfig, L1Config, LeftClamp, LossError, MatryoshkaConfig,
    MseConfig, MultipleNegativesConfig, RankingDistillationConfig, RankingObjective,
    SiameseHeadConfig, SmoothK2Config, TranslatedReluConfig, UniformityConfig, cosine_scores,
    paired_cosine,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const BATCH: usize = 8;
const DIM: usize = 6;

type Sides = [Tensor<2>; 4];

fn device() -> Device {
    Device::flex().autodiff()
}

fn random(seed: u64) -> Sides {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    [(); 4].map(|()| {
        let values: Vec<f32> = (0..BATCH * DIM)
            .map(|_| rng.next_u32() as f32 / u32::MAX as f32 * 2.0 - 1.0)
            .collect();
        Tensor::from_data(TensorData::new(values, [BATCH, DIM]), &device())
    })
}

/// The first and the last value of the loss, and where the embeddings end.
fn descend(rate: f64, loss: impl Fn(Sides) -> Result<Tensor<1>, LossError>) -> (f32, f32, Sides) {
    let mut sides = random(5).map(Tensor::require_grad);
    let first = loss(sides.clone()).unwrap().into_scalar();
    for _ in 0..120 {
        let grads = loss(sides.clone()).unwrap().backward();
        sides = sides.map(|x| match x.grad(&grads) {
            Some(gradient) => {
                let moved = x.without_autodiff() - gradient.mul_scalar(rate);
                let data = moved.into_data();
                Tensor::from_data(data, &device()).require_grad()
            }
            None => x,
        });
    }
    let last = loss(sides.clone()).unwrap().into_scalar();
    (first, last, sides)
}

fn labels() -> Tensor<1> {
    Tensor::from_floats([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 0.0, 3.0], &device())
}

fn floats<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.try_into_vec_as::<f32>().unwrap()
}

#[test]
fn contrasts_find_the_positive() {
    let columns = |[a, p, n, _]: Sides| GistColumns {
        anchors: a,
        positives: p,
        hard_negatives: Some(n),
    };
    let guide = random(77);
    let options = InfoNceConfig::new()
        .with_symmetric(true)
        .with_include_anchors(true);
    let directions = MultipleNegativesConfig::new()
        .with_query_to_query(true)
        .with_document_to_query(true)
        .with_document_to_document(true);
    let inner = InfoNceConfig::new().init().unwrap();
    let plain = inner;
    let options = options.with_chunk(Some(3)).init().unwrap();
    let directions = directions.init().unwrap();
    let gist = GistConfig::new().with_temperature(0.05).init().unwrap();
    let hinge = EnergyHingeConfig::new().init().unwrap();
    let nested = MatryoshkaConfig::new(vec![DIM, 4]).init().unwrap();
    type Objective<'a> = Box<dyn Fn(Sides) -> Result<Tensor<1>, LossError> + 'a>;
    let all: [(&str, f64, Objective<'_>); 6] = [
        (
            "info_nce",
            0.3,
            Box::new(|[a, p, n, _]| plain.forward(a, p, Some(n))),
        ),
        (
            "options",
            0.3,
            Box::new(|[a, p, n, _]| options.forward(a, p, Some(n))),
        ),
        (
            "directions",
            0.3,
            Box::new(|[a, p, n, _]| directions.forward(a, p, &[n])),
        ),
        (
            "gist",
            0.3,
            Box::new(|sides| gist.forward(columns(sides), columns(guide.clone()))),
        ),
        (
            "hinge",
            0.1,
            Box::new(|[a, p, n, _]| hinge.forward(a, p, Some(n))),
        ),
        (
            "matryoshka",
            0.2,
            Box::new(|[a, p, ..]| nested.forward([a, p], |[a, p]| inner.forward(a, p, None))),
        ),
    ];
    for (name, rate, loss) in all {
        let (first, last, [a, p, n, _]) = descend(rate, loss);
        assert!(last < first, "{name}: {first} to {last}");
        if name == "gist" {
            // The guide has struck out some candidates, which may stay where they are.
            continue;
        }
        let hard = (name != "matryoshka").then_some(n);
        let accuracy = inner.accuracy(a, p, hard).unwrap();
        assert_eq!(accuracy.into_scalar::<f32>(), 1.0, "{name}");
    }
}

#[test]
fn levels_end_in_their_order_with_their_margins() {
    let margins = [0.1f32, 0.3];
    let config = HierarchicalTripletConfig::new();
    let config = config.with_margins(margins.map(f64::from).to_vec());
    let loss = config.init().unwrap();
    let objective = |[a, p, m, n]: Sides| loss.forward(a, &[p, m, n]);
    let (first, last, [a, p, m, n]) = descend(2.0, objective);
    assert!(first > 0.1 && last < 1e-3, "{first} to {last}");
    let cosines = [p, m, n].map(|level| floats(paired_cosine(a.clone(), level).unwrap()));
    for (pair, margin) in cosines.windows(2).zip(margins) {
        for (nearer, farther) in pair[0].iter().zip(&pair[1]) {
            assert!(nearer - farther > margin - 0.02, "{nearer} and {farther}");
        }
    }
}

#[test]
fn graded_pairs_end_in_the_order_of_their_labels() {
    let cosent = CosentConfig::new().init().unwrap();
    let angle = AngleConfig::new().init().unwrap();
    let cosines = |x, y| floats(paired_cosine(x, y).unwrap());
    let angles = |x, y| floats(angle.similarities(x, y).unwrap());
    let by_cosine = descend(0.02, |[x, y, ..]| cosent.forward(x, y, labels()));
    let by_angle = descend(0.02, |[x, y, ..]| angle.forward(x, y, labels()));
    let grades = floats(labels());
    let ordered = |name: &str, (first, last, similarities): (f32, f32, Vec<f32>)| {
        assert!(last < 0.2 * first, "{name}: {first} to {last}");
        for i in 0..BATCH {
            for j in 0..BATCH {
                let rises = similarities[i] > similarities[j];
                assert!(rises || grades[i] <= grades[j], "{name}: {similarities:?}");
            }
        }
    };
    let (first, last, [x, y, ..]) = by_cosine;
    ordered("cosent", (first, last, cosines(x, y)));
    let (first, last, [x, y, ..]) = by_angle;
    ordered("angle", (first, last, angles(x, y)));
}

#[test]
fn regression_reaches_the_labels() {
    let head = SiameseHeadConfig::new(DIM).init(&device(), 1).unwrap();
    // With every score below 0 set to 0, rows that begin there never move.
    let clamp = LeftClamp::LabelMinOnly(0.0);
    let relu = TranslatedReluConfig::new().with_left_clamp(clamp);
    let smooth = SmoothK2Config::new().with_left_clamp(clamp);
    let (relu, smooth) = (relu.init().unwrap(), smooth.init().unwrap());
    let l1 = L1Config::new().with_left_clamp(clamp).init().unwrap();
    let mse = MseConfig::new().with_left_clamp(clamp).init().unwrap();
    let labels = || labels().div_scalar(5.0);
    let scores = |[u, v, ..]: Sides| head.scores(u, v).unwrap();
    for (name, rate, (first, last, _)) in [
        (
            "relu",
            1.0,
            descend(1.0, |x| relu.forward(scores(x), labels())),
        ),
        (
            "smooth",
            1.0,
            descend(1.0, |x| smooth.forward(scores(x), labels())),
        ),
        ("l1", 0.5, descend(0.5, |x| l1.forward(scores(x), labels()))),
        (
            "mse",
            1.0,
            descend(1.0, |x| mse.forward(scores(x), labels())),
        ),
    ] {
        assert!(
            last < 0.5 * first,
            "{name} at rate {rate}: {first} to {last}"
        );
    }
    let head = SiameseHeadConfig::new(DIM).with_outputs(3);
    let head = head.init(&device(), 2).unwrap();
    let classes = Tensor::<1, Int>::from_ints([0, 1, 2, 0, 1, 2, 0, 1], &device());
    let (first, last, _) = descend(2.0, |[u, v, ..]| {
        CoarseCrossEntropy.forward(head.forward(u, v)?, classes.clone())
    });
    assert!(last < 0.1 * first, "cross entropy: {first} to {last}");
}

#[test]
fn positives_align_and_rows_spread() {
    let alignment = AlignmentConfig::new().init().unwrap();
    let uniformity = UniformityConfig::new().init().unwrap();
    let (first, last, _) = descend(1.0, |[x, y, ..]| alignment.forward(x, y));
    assert!(first > 1.0 && last < 1e-2, "{first} to {last}");
    let (first, last, _) = descend(1.0, |[x, ..]| uniformity.forward(x));
    assert!(last < first - 0.2, "{first} to {last}");
}

#[test]
fn students_come_to_their_teachers() {
    let teacher = random(31);
    for (distance, rate) in [
        (EmbeddingDistance::MeanSquare, 10.0),
        (EmbeddingDistance::Euclidean, 0.2),
        (EmbeddingDistance::Cosine, 5.0),
    ] {
        let loss = EmbeddingDistillationConfig::new()
            .with_distance(distance)
            .init();
        let (first, last, _) = descend(rate, |[x, ..]| loss.forward(x, teacher[0].clone()));
        assert!(last < 0.05 * first, "{distance}: {first} to {last}");
    }
    let config = RankingDistillationConfig::new().with_student_temperature(0.2);
    let config = config.with_teacher_temperature(0.2);
    let pair = || [teacher[0].clone(), teacher[1].clone()];
    for objective in [RankingObjective::ListNet, RankingObjective::ListMle] {
        let loss = config.with_objective(objective).init().unwrap();
        let (first, last, [x, y, ..]) = descend(0.2, |[x, y, ..]| loss.forward([x, y], pair()));
        assert!(last < 0.5 * first, "{objective}: {first} to {last}");
        // The candidate that the teacher puts first stands first.
        let best = |x: Tensor<2>, y: Tensor<2>| {
            let own = Tensor::<2>::eye(BATCH, &x.device()).mul_scalar(9.0);
            let scores = cosine_scores(x, y).unwrap() - own;
            scores.argmax(1).try_into_vec_as::<i64>().unwrap()
        };
        let [teacher_x, teacher_y] = pair();
        let (ours, theirs) = (best(x, y), best(teacher_x, teacher_y));
        let same = ours.iter().zip(&theirs).filter(|(a, b)| a == b).count();
        assert!(same >= 7, "{objective}: {ours:?} against {theirs:?}");
    }
}
