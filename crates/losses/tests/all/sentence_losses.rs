//! Losses of sentence embeddings against sentence-transformers and torch (`sentence_losses.json`,
//! made by `scripts/oracles/losses.py`).

use burn::tensor::Tensor;
use losses::{
    AngleConfig, CosentConfig, EmbeddingDistance, EmbeddingDistillationConfig, EnergyHingeConfig,
    GistColumns, GistConfig, GistMargin, Hardness, InfoNceConfig, LossError, MatryoshkaConfig,
    MultipleNegativesConfig, Partition, RankingDistillationConfig, RankingObjective,
};
use serde_json::Value;

use crate::golden::Case;

/// Loss and leaves of one case.
type Evaluated = (Tensor<1>, Vec<(&'static str, Tensor<2>)>);

const HARD: [&str; 2] = ["n0", "n1"];
const GUIDE_HARD: [&str; 2] = ["guide_n0", "guide_n1"];

/// The inputs `names` that the case has, as leaves.
fn leaves(case: &Case, names: &[&'static str]) -> Vec<(&'static str, Tensor<2>)> {
    let present = names.iter().filter(|name| case.has(name));
    present.map(|name| (*name, case.leaf::<2>(name))).collect()
}

fn of(leaves: &[(&'static str, Tensor<2>)], name: &str) -> Tensor<2> {
    leaves
        .iter()
        .find(|(key, _)| *key == name)
        .unwrap()
        .1
        .clone()
}

fn graded(
    case: &Case,
    loss: impl Fn(Tensor<2>, Tensor<2>, Tensor<1>) -> Result<Tensor<1>, LossError>,
) -> Evaluated {
    let leaves = leaves(case, &["x", "y"]);
    let value = loss(of(&leaves, "x"), of(&leaves, "y"), case.input("labels"));
    (value.unwrap(), leaves)
}

fn multiple_negatives(case: &Case) -> Evaluated {
    let words: Vec<&str> = match case.param("directions") {
        Value::Array(list) => list.iter().map(|v| v.as_str().unwrap()).collect(),
        _ => vec!["query_to_doc"],
    };
    let strength = case.param("hardness_strength").as_f64().unwrap_or(0.0);
    let hardness = match case.param("hardness_mode").as_str() {
        None => Hardness::None,
        Some("in_batch_negatives") => Hardness::InBatch(strength),
        Some("hard_negatives") => Hardness::Hard(strength),
        Some("all_negatives") => Hardness::All(strength),
        Some(other) => panic!("unknown mode {other}"),
    };
    let partition = match case.param("partition_mode").as_str() {
        Some("per_direction") => Partition::PerDirection,
        _ => Partition::Joint,
    };
    let loss = MultipleNegativesConfig::new()
        .with_query_to_query(words.contains(&"query_to_query"))
        .with_document_to_query(words.contains(&"doc_to_query"))
        .with_document_to_document(words.contains(&"doc_to_doc"))
        .with_partition(partition)
        .with_hardness(hardness)
        .init()
        .unwrap();
    let leaves = leaves(case, &["a", "p", "n0", "n1"]);
    let hard: Vec<Tensor<2>> = leaves[2..].iter().map(|(_, x)| x.clone()).collect();
    let value = loss.forward(of(&leaves, "a"), of(&leaves, "p"), &hard);
    (value.unwrap(), leaves)
}

fn gist(case: &Case) -> Evaluated {
    let margin = case.param("margin").as_f64().unwrap_or(0.0);
    let margin = match case.param("margin_strategy").as_str() {
        Some("relative") => GistMargin::Relative(margin),
        _ => GistMargin::Absolute(margin),
    };
    let flag = |name| case.param(name).as_bool().unwrap_or(true);
    let loss = GistConfig::new()
        .with_temperature(case.number("temperature"))
        .with_margin(margin)
        .with_contrast_anchors(flag("contrast_anchors"))
        .with_contrast_positives(flag("contrast_positives"))
        .init()
        .unwrap();
    let leaves = leaves(case, &["a", "p", "n0"]);
    let model = GistColumns {
        anchors: of(&leaves, "a"),
        positives: of(&leaves, "p"),
        hard_negatives: case.has(HARD[0]).then(|| of(&leaves, HARD[0])),
    };
    let guide = GistColumns {
        anchors: case.input("guide_a"),
        positives: case.input("guide_p"),
        hard_negatives: case.has(GUIDE_HARD[0]).then(|| case.input(GUIDE_HARD[0])),
    };
    (loss.forward(model, guide).unwrap(), leaves)
}

fn energy_hinge(case: &Case) -> Evaluated {
    let loss = EnergyHingeConfig::new()
        .with_margin(case.number("margin"))
        .with_weight(case.number("weight"))
        .init()
        .unwrap();
    let leaves = leaves(case, &["a", "p", "n0"]);
    let hard = case.has(HARD[0]).then(|| of(&leaves, HARD[0]));
    let value = loss.forward(of(&leaves, "a"), of(&leaves, "p"), hard);
    (value.unwrap(), leaves)
}

fn embedding(case: &Case) -> Evaluated {
    let distance = match case.text("distance") {
        "mse" => EmbeddingDistance::MeanSquare,
        "l2" => EmbeddingDistance::Euclidean,
        "cosine" => EmbeddingDistance::Cosine,
        other => panic!("unknown distance {other}"),
    };
    let loss = EmbeddingDistillationConfig::new()
        .with_distance(distance)
        .init();
    let leaves = leaves(case, &["student"]);
    let value = loss.forward(of(&leaves, "student"), case.input("teacher"));
    (value.unwrap(), leaves)
}

fn ranking(case: &Case) -> Evaluated {
    let objective = match case.text("objective") {
        "list_net" => RankingObjective::ListNet,
        "list_mle" => RankingObjective::ListMle,
        other => panic!("unknown objective {other}"),
    };
    let loss = RankingDistillationConfig::new()
        .with_student_temperature(case.number("student_temperature"))
        .with_teacher_temperature(case.number("teacher_temperature"))
        .with_objective(objective)
        .with_exclude_own(!case.param("own").as_bool().unwrap())
        .init()
        .unwrap();
    let leaves = leaves(case, &["x", "y"]);
    let student = [of(&leaves, "x"), of(&leaves, "y")];
    let teacher = ["teacher_x", "teacher_y"].map(|name| case.input(name));
    (loss.forward(student, teacher).unwrap(), leaves)
}

fn matryoshka(case: &Case) -> Evaluated {
    let list = |name| case.param(name).as_array().unwrap().iter();
    let dims = list("dims").map(|v| v.as_u64().unwrap() as usize).collect();
    let weights = list("weights").map(|v| v.as_f64().unwrap()).collect();
    let config = MatryoshkaConfig::new(dims).with_weights(Some(weights));
    let inner = InfoNceConfig::new().init().unwrap();
    let leaves = leaves(case, &["a", "p"]);
    let embeddings = [of(&leaves, "a"), of(&leaves, "p")];
    let value = config
        .init()
        .unwrap()
        .forward(embeddings, |[a, p]| inner.forward(a, p, None));
    (value.unwrap(), leaves)
}

#[test]
fn sentence_losses() {
    let cases = Case::load_from("tests/fixtures", "sentence_losses.json");
    assert_eq!(cases.len(), 27);
    for mut case in cases {
        let (loss, leaves) = match case.text("loss") {
            "cosent" => {
                let config = CosentConfig::new().with_scale(case.number("scale"));
                let loss = config.init().unwrap();
                graded(&case, |x, y, labels| loss.forward(x, y, labels))
            }
            "angle" => {
                let config = AngleConfig::new().with_scale(case.number("scale"));
                let loss = config.init().unwrap();
                graded(&case, |x, y, labels| loss.forward(x, y, labels))
            }
            "multiple_negatives" => multiple_negatives(&case),
            "gist" => gist(&case),
            "energy_hinge" => energy_hinge(&case),
            "embedding" => embedding(&case),
            "ranking" => ranking(&case),
            "matryoshka" => matryoshka(&case),
            other => panic!("{}: unknown loss {other}", case.name()),
        };
        let grads = loss.backward();
        case.record("loss", loss);
        for (name, leaf) in &leaves {
            case.record_gradient(name, leaf, &grads);
        }
        case.finish();
    }
}

/// [`losses::InfoNce`] with its options is one of the forms of the ranking loss.
#[test]
fn info_nce_options_equal_their_ranking_forms() {
    let config = InfoNceConfig::new();
    let mut seen = 0;
    for mut case in Case::load_from("tests/fixtures", "sentence_losses.json") {
        let (_, name) = case.name().rsplit_once('/').unwrap();
        let config = match name {
            "multiple_negatives_plain" => config,
            "multiple_negatives_queries" => config.with_include_anchors(true),
            "multiple_negatives_symmetric" => config.with_symmetric(true),
            _ => continue,
        };
        seen += 1;
        for chunk in [None, Some(4)] {
            let loss = config.with_chunk(chunk).init().unwrap();
            let (a, p) = (case.leaf::<2>("a"), case.leaf::<2>("p"));
            let value = loss.forward(a.clone(), p.clone(), None).unwrap();
            let grads = value.backward();
            case.record("loss", value);
            case.record_gradient("a", &a, &grads);
            case.record_gradient("p", &p, &grads);
            case.finish();
        }
    }
    assert_eq!(seen, 3);
}
