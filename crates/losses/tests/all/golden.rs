//! Golden cases: values and gradients computed in f64 from f32 inputs by an independent script.
//!
//! An item passes if `max|got - want| <= atol + rtol * max|want|` over the whole tensor.

use std::collections::BTreeMap;
use std::path::Path;

use burn::module::Param;
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use losses::{
    AlignmentConfig, BankInfoNceConfig, BaseParameterization, CoarseCrossEntropy, DiagonalGaussian,
    Divergence, DnaConfig, GaussianHeads, GeneratedRows, HierarchicalTripletConfig, InfoNceConfig,
    InputNormalization, KlForm, L1Config, LeftClamp, LevelReduction, LossError, MseConfig,
    NeighbourTargets, NgcseConfig, OrdinaryRows, SiameseHead, SmoothK2Config, StarConfig,
    TranslatedReluConfig, UniformityConfig, WeightNormalization, paired_cosine,
    symmetric_gaussian_kl, symmetric_softmax_kl,
};
use serde_json::Value;

/// One case of a golden file and the items that were compared so far.
pub(crate) struct Case {
    name: String,
    value: Value,
    device: Device,
    got: BTreeMap<String, Vec<f32>>,
}

impl Case {
    fn load(file: &str) -> Vec<Self> {
        Self::load_from("tests/golden", file)
    }

    /// The cases of a file in a folder of the crate.
    pub(crate) fn load_from(folder: &str, file: &str) -> Vec<Self> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join(folder)
            .join(file);
        let text = std::fs::read_to_string(path).unwrap();
        let value: Value = serde_json::from_str(&text).unwrap();
        let cases = value["cases"].as_array().unwrap();
        assert!(!cases.is_empty());
        cases
            .iter()
            .map(|case| Self {
                name: format!("{file}/{}", case["name"].as_str().unwrap()),
                value: case.clone(),
                device: Device::flex().autodiff(),
                got: BTreeMap::new(),
            })
            .collect()
    }

    pub(crate) fn number(&self, parameter: &str) -> f64 {
        self.value["params"][parameter].as_f64().unwrap()
    }

    pub(crate) fn param(&self, parameter: &str) -> &Value {
        &self.value["params"][parameter]
    }

    /// The case named `file/name`.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn text(&self, parameter: &str) -> &str {
        self.value["params"][parameter].as_str().unwrap()
    }

    pub(crate) fn has(&self, input: &str) -> bool {
        self.value["inputs"].get(input).is_some()
    }

    pub(crate) fn input<const D: usize>(&self, name: &str) -> Tensor<D> {
        let item = &self.value["inputs"][name];
        let shape: Vec<usize> = item["shape"]
            .as_array()
            .unwrap()
            .iter()
            .map(|v| v.as_u64().unwrap() as usize)
            .collect();
        // A scalar is stored with an empty shape.
        let shape = if shape.is_empty() { vec![1] } else { shape };
        let data: Vec<f32> = numbers(&item["data"]).iter().map(|v| *v as f32).collect();
        Tensor::from_data(TensorData::new(data, shape), &self.device)
    }

    pub(crate) fn leaf<const D: usize>(&self, name: &str) -> Tensor<D> {
        self.input::<D>(name).require_grad()
    }

    pub(crate) fn record<const D: usize>(&mut self, item: &str, tensor: Tensor<D>) {
        let values = tensor.try_to_vec_as::<f32>().unwrap();
        self.got.insert(item.to_owned(), values);
    }

    pub(crate) fn record_gradient<const D: usize>(
        &mut self,
        item: &str,
        leaf: &Tensor<D>,
        grads: &Gradients,
    ) {
        let gradient = leaf.grad(grads).expect("a gradient");
        self.record(&format!("grad.{item}"), gradient);
    }

    /// Positions whose gradient is not defined.
    fn ignored(&self, item: &str) -> Vec<usize> {
        let positions = item
            .strip_prefix("grad.")
            .and_then(|leaf| self.value.get("grad_any")?.get(leaf)?.as_array());
        let position = |v: &Value| v.as_u64().unwrap() as usize;
        positions.map_or(Vec::new(), |list| list.iter().map(position).collect())
    }

    /// Compares every expected item; nothing may be missing and nothing may be left over.
    pub(crate) fn finish(&self) {
        let expected = self.value["expected"].as_object().unwrap();
        let names: Vec<&String> = expected.keys().collect();
        for name in self.got.keys() {
            assert!(
                expected.contains_key(name),
                "{}: {name} is not expected",
                self.name
            );
        }
        for name in names {
            let item = &expected[name];
            let want = match item.get("data") {
                Some(data) => numbers(data),
                None => vec![item.as_f64().unwrap()],
            };
            let got = self
                .got
                .get(name)
                .unwrap_or_else(|| panic!("{}: {name} was not computed", self.name));
            assert_eq!(got.len(), want.len(), "{}: size of {name}", self.name);
            let tolerance = self.value["tol"]
                .get(name)
                .unwrap_or(&self.value["tol"]["*"]);
            let largest = want.iter().fold(0f64, |m, v| m.max(v.abs()));
            let allowed =
                tolerance["atol"].as_f64().unwrap() + tolerance["rtol"].as_f64().unwrap() * largest;
            let ignored = self.ignored(name);
            for (position, (got, want)) in got.iter().zip(&want).enumerate() {
                if ignored.contains(&position) {
                    continue;
                }
                let difference = (f64::from(*got) - want).abs();
                assert!(
                    difference <= allowed,
                    "{}: {name}[{position}] is {got}, expected {want}: off by {difference:e}, allowed {allowed:e}",
                    self.name
                );
            }
        }
    }
}

fn numbers(data: &Value) -> Vec<f64> {
    data.as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_f64().unwrap())
        .collect()
}

fn form(text: &str) -> KlForm {
    match text {
        "sum" => KlForm::Sum,
        "mean" => KlForm::Mean,
        other => panic!("unknown form {other}"),
    }
}

#[test]
fn star() {
    let cases = Case::load("star_loss.json");
    assert_eq!(cases.len(), 11);
    for mut case in cases {
        let gaussian = case.text("kl") == "gaussian";
        let queries = case.leaf::<2>("q");
        let base = case.leaf::<1>("base");
        let [_, hidden] = queries.dims();
        let divergence = if gaussian {
            Divergence::Gaussian {
                dim: case.input::<2>("w_mu").dims()[0],
                var_floor: 1e-8,
                bank_head_grad: true,
            }
        } else {
            Divergence::Softmax {
                temperature: 1.0,
                form: form(case.text("kl_form")),
            }
        };
        let normalize_inputs = match &case.value["params"]["normalise_inputs"] {
            Value::Bool(false) => InputNormalization::None,
            Value::Bool(true) => InputNormalization::Both,
            _ => InputNormalization::Queries,
        };
        let weight_normalization = match case.text("weight_norm") {
            "row" => WeightNormalization::Row,
            "none" => WeightNormalization::None,
            other => panic!("unknown weight_norm {other}"),
        };
        let mut star = StarConfig::new(hidden)
            .with_temperature(case.number("tau"))
            .with_gamma(case.number("gamma"))
            .with_divergence(divergence)
            .with_base(BaseParameterization::TrainableRaw(10.0))
            .with_weight_normalization(weight_normalization)
            .with_normalize_inputs(normalize_inputs)
            .init(&case.device, 0)
            .unwrap();
        star.base = Param::from_tensor(base);
        let bank = if gaussian {
            // The files hold PyTorch's layout, [dim, hidden].
            let heads = GaussianHeads::from_tensors(
                case.input::<2>("w_mu").transpose().detach(),
                case.input("b_mu"),
                case.input::<2>("w_sigma").transpose().detach(),
                case.input("b_sigma"),
                1e-8,
            );
            star.heads = Some(heads.unwrap());
            case.input::<2>("h")
        } else {
            case.leaf::<2>("h")
        };
        let targets = NeighbourTargets::from_dense(case.input("w")).unwrap();
        let items = star
            .forward_per_item(queries.clone(), bank.clone(), &targets)
            .unwrap();
        let output = star
            .forward(queries.clone(), bank.clone(), &targets)
            .unwrap();
        let distances = star.divergence(queries.clone(), bank.clone()).unwrap();
        let grads = output.loss.backward();
        case.record("loss", output.loss);
        case.record("term1", output.kl_term);
        case.record("term2", output.euclidean_term);
        case.record("d_kl", distances.clone());
        case.record_gradient("q", &queries, &grads);
        case.record_gradient("base", &star.base.val(), &grads);
        if let Some(heads) = &star.heads {
            let transposed = |weight: Tensor<2>| weight.grad(&grads).unwrap().transpose();
            case.record("grad.w_mu", transposed(heads.fc_mu.weight.val()));
            case.record("grad.w_sigma", transposed(heads.fc_var.weight.val()));
            let bias = heads.fc_mu.bias.as_ref().unwrap().val();
            case.record_gradient("b_mu", &bias, &grads);
            let bias = heads.fc_var.bias.as_ref().unwrap().val();
            case.record_gradient("b_sigma", &bias, &grads);
        } else {
            case.record("term1_rows", items.kl_term);
            case.record("term2_rows", items.euclidean_term);
            case.record_gradient("h", &bank, &grads);
        }

        // The entry with a given divergence has to agree with the entry that computes it; that one
        // adds in another order where it is a single operation.
        let again = star
            .forward_with_divergence(queries, bank, distances, &targets)
            .unwrap();
        let again = again.loss.try_to_vec_as::<f32>().unwrap();
        for (again, got) in again.iter().zip(&case.got["loss"]) {
            approx::assert_relative_eq!(*again, *got, max_relative = 1e-6);
        }
        case.finish();
    }
}

#[test]
fn bidirectional_kl() {
    let cases = Case::load("bidirectional_kl.json");
    assert_eq!(cases.len(), 6);
    for mut case in cases {
        let cotangent = case.input::<2>("cot");
        if case.has("mu_q") {
            let names = ["mu_q", "var_q", "mu_h", "var_h"];
            let leaves = names.map(|name| case.leaf::<2>(name));
            let [mean_q, variance_q, mean_h, variance_h] = leaves.clone();
            let distances = symmetric_gaussian_kl(
                DiagonalGaussian {
                    mean: mean_q,
                    variance: variance_q,
                },
                DiagonalGaussian {
                    mean: mean_h,
                    variance: variance_h,
                },
            )
            .unwrap();
            let loss = (distances.clone() * cotangent).sum();
            let grads = loss.backward();
            case.record("d", distances);
            case.record("loss", loss);
            for (name, leaf) in names.iter().zip(&leaves) {
                case.record_gradient(name, leaf, &grads);
            }
        } else {
            let (queries, bank) = (case.leaf::<2>("q"), case.leaf::<2>("h"));
            let form = form(case.text("kl_form"));
            let distances = symmetric_softmax_kl(queries.clone(), bank.clone(), 1.0, form).unwrap();
            let loss = (distances.clone() * cotangent).sum();
            let grads = loss.backward();
            case.record("d", distances);
            case.record("loss", loss);
            case.record_gradient("q", &queries, &grads);
            case.record_gradient("h", &bank, &grads);
        }
        case.finish();
    }
}

#[test]
fn down() {
    let cases = Case::load("down_loss.json");
    assert_eq!(cases.len(), 4);
    for mut case in cases {
        assert_eq!(case.text("weight_norm"), "row");
        let loss = BankInfoNceConfig::new()
            .with_temperature(case.number("tau"))
            .with_normalize_inputs(InputNormalization::Both)
            .init()
            .unwrap();
        let (queries, bank) = (case.leaf::<2>("q"), case.leaf::<2>("h"));
        let targets = NeighbourTargets::from_dense(case.input("w")).unwrap();
        let rows = loss
            .forward_per_item(queries.clone(), bank.clone(), &targets)
            .unwrap();
        let mean = loss
            .forward(queries.clone(), bank.clone(), &targets)
            .unwrap();
        let grads = mean.backward();
        case.record("rows", rows);
        case.record("loss", mean);
        case.record_gradient("q", &queries, &grads);
        case.record_gradient("h", &bank, &grads);
        case.finish();
    }
}

#[test]
fn dna() {
    let cases = Case::load("dna_loss.json");
    assert_eq!(cases.len(), 2);
    for mut case in cases {
        let loss = DnaConfig::new()
            .with_temperature(case.number("tau"))
            .with_normalize_inputs(InputNormalization::Both)
            .init()
            .unwrap();
        let (queries, bank) = (case.leaf::<2>("q"), case.leaf::<2>("h"));
        let targets = NeighbourTargets::from_dense(case.input("w")).unwrap();
        let rows = loss
            .forward_per_item(queries.clone(), bank.clone(), &targets)
            .unwrap();
        let mean = loss
            .forward(queries.clone(), bank.clone(), &targets)
            .unwrap();
        let grads = mean.backward();
        case.record("rows", rows);
        case.record("loss", mean);
        case.record_gradient("q", &queries, &grads);
        case.record_gradient("h", &bank, &grads);
        case.finish();
    }
}

#[test]
fn info_nce() {
    let mut cases = Case::load("info_nce.json");
    cases.extend(Case::load("info_nce_large.json"));
    assert_eq!(cases.len(), 7);
    for mut case in cases {
        let weight = case.value["params"]["hard_negative_weight"].as_f64();
        let loss = InfoNceConfig::new()
            .with_temperature(case.number("tau"))
            .with_hard_negative_weight(weight.unwrap_or(0.0))
            .init()
            .unwrap();
        let (anchors, positives) = (case.leaf::<2>("z1"), case.leaf::<2>("z2"));
        let negatives = case.has("z3").then(|| case.leaf::<2>("z3"));
        assert_eq!(negatives.is_some(), weight.is_some());
        let arguments = || (anchors.clone(), positives.clone(), negatives.clone());
        let (a, p, n) = arguments();
        let rows = loss.forward_per_item(a, p, n).unwrap();
        let (a, p, n) = arguments();
        let mean = loss.forward(a, p, n).unwrap();
        let (a, p, n) = arguments();
        let accuracy = loss.accuracy(a, p, n).unwrap();
        let grads = mean.backward();
        case.record("rows", rows);
        case.record("loss", mean);
        case.record("accuracy", accuracy);
        case.record_gradient("z1", &anchors, &grads);
        case.record_gradient("z2", &positives, &grads);
        if let Some(negatives) = &negatives {
            case.record_gradient("z3", negatives, &grads);
        }
        case.finish();
    }
}

type PairLoss = Box<dyn Fn(Tensor<1>, Tensor<1>) -> Result<Tensor<1>, LossError>>;

/// Losses per item of the regression objective that the parameters of a case name.
fn regression(case: &Case) -> PairLoss {
    let clamp = LeftClamp::None;
    let (k, x0) = (case.number("k"), case.number("x0"));
    match case.text("kind") {
        "translated_relu" => {
            let config = TranslatedReluConfig::new().with_k(k).with_x0(x0);
            let loss = config.with_left_clamp(clamp).init().unwrap();
            Box::new(move |s, y| loss.forward_per_item(s, y))
        }
        "smooth_k2" => {
            let config = SmoothK2Config::new().with_k(k).with_x0(x0);
            let loss = config.with_left_clamp(clamp).init().unwrap();
            Box::new(move |s, y| loss.forward_per_item(s, y))
        }
        "l1" => {
            let loss = L1Config::new().with_left_clamp(clamp).init().unwrap();
            Box::new(move |s, y| loss.forward_per_item(s, y))
        }
        "mse" => {
            let loss = MseConfig::new().with_left_clamp(clamp).init().unwrap();
            Box::new(move |s, y| loss.forward_per_item(s, y))
        }
        other => panic!("unknown kind {other}"),
    }
}

#[test]
fn regression_losses() {
    let cases = Case::load("regression_losses.json");
    assert_eq!(cases.len(), 21);
    for mut case in cases {
        let scores = case.leaf::<1>("pred");
        let items = regression(&case)(scores.clone(), case.input("label")).unwrap();
        let mean = items.clone().mean();
        let grads = mean.backward();
        case.record("per_item", items);
        case.record("loss", mean);
        case.record_gradient("pred", &scores, &grads);
        case.finish();
    }
}

#[test]
fn siamese_head() {
    let cases = Case::load("siamese_head.json");
    assert_eq!(cases.len(), 5);
    for mut case in cases {
        let (u, v) = (case.leaf::<2>("u"), case.leaf::<2>("v"));
        // The files hold PyTorch's layout, [outputs, 3 dim].
        let weight = case.input::<2>("weight").transpose().detach();
        let head = SiameseHead::from_tensors(weight, case.input("bias")).unwrap();
        let logits = head.forward(u.clone(), v.clone()).unwrap();
        let loss = if case.text("kind") == "cross_entropy" {
            let labels = case.input::<1>("label").int();
            CoarseCrossEntropy.forward(logits.clone(), labels).unwrap()
        } else {
            let scores = head.scores(u.clone(), v.clone()).unwrap();
            let items = regression(&case)(scores, case.input("label"));
            items.unwrap().mean()
        };
        let grads = loss.backward();
        case.record("loss", loss);
        case.record("logits", logits);
        case.record_gradient("u", &u, &grads);
        case.record_gradient("v", &v, &grads);
        let weight = head.linear.weight.val();
        case.record("grad.weight", weight.grad(&grads).unwrap().transpose());
        let bias = head.linear.bias.as_ref().unwrap().val();
        case.record_gradient("bias", &bias, &grads);
        case.finish();
    }
}

#[test]
fn hierarchical_triplet() {
    let cases = Case::load("hierarchical_triplet.json");
    assert_eq!(cases.len(), 4);
    for mut case in cases {
        let margins = vec![case.number("m1"), case.number("m2")];
        let config = HierarchicalTripletConfig::new().with_margins(margins);
        if case.has("o_anchor") {
            ngcse(case, config);
            continue;
        }
        let names = ["anchor", "pos", "mid", "neg"];
        let leaves = names.map(|name| case.leaf::<2>(name));
        let (anchors, levels) = (leaves[0].clone(), &leaves[1..]);
        let sum = config.clone().with_reduction(LevelReduction::Sum);
        let (loss, sum) = (config.init().unwrap(), sum.init().unwrap());
        let hinges = loss.hinges(anchors.clone(), levels).unwrap().mean_dim(0);
        let cosines = levels
            .iter()
            .map(|level| paired_cosine(anchors.clone(), level.clone()).unwrap());
        let mean = loss.forward(anchors.clone(), levels).unwrap();
        let grads = mean.backward();
        case.record("loss", mean);
        case.record("loss_sum", sum.forward(anchors.clone(), levels).unwrap());
        case.record("term_pos_mid", hinges.clone().narrow(1, 0, 1));
        case.record("term_mid_neg", hinges.narrow(1, 1, 1));
        case.record("cos", Tensor::<1>::cat(cosines.collect(), 0));
        for (name, leaf) in names.iter().zip(&leaves) {
            case.record_gradient(name, leaf, &grads);
        }
        case.finish();
    }
}

fn ngcse(mut case: Case, triplet: HierarchicalTripletConfig) {
    let names = ["o_anchor", "o_pos", "g_anchor", "g_pos", "g_mid", "g_neg"];
    let leaves = names.map(|name| case.leaf::<2>(name));
    let [o_anchor, o_pos, g_anchor, g_pos, g_mid, g_neg] = leaves.clone();
    let loss = NgcseConfig::new()
        .with_temperature(case.number("tau"))
        .with_beta(case.number("beta"))
        .with_triplet(Some(triplet))
        .init()
        .unwrap();
    let ordinary = OrdinaryRows {
        anchors: o_anchor,
        positives: o_pos,
        hard_negatives: None,
    };
    let generated = GeneratedRows {
        anchors: g_anchor,
        levels: vec![g_pos, g_mid, g_neg],
    };
    let output = loss.forward(Some(ordinary), Some(generated)).unwrap();
    let grads = output.loss.backward();
    case.record("loss", output.loss);
    case.record("nce", output.contrast);
    case.record("ht", output.triplet);
    for (name, leaf) in names.iter().zip(&leaves) {
        case.record_gradient(name, leaf, &grads);
    }
    case.finish();
}

#[test]
fn alignment_and_uniformity() {
    let cases = Case::load("alignment_uniformity.json");
    // The other cases of the file are about traces of trainings.
    let cases: Vec<Case> = cases.into_iter().filter(|case| case.has("x")).collect();
    assert_eq!(cases.len(), 2);
    for mut case in cases {
        let (x, y) = (case.leaf::<2>("x"), case.leaf::<2>("y"));
        let alignment = AlignmentConfig::new().with_alpha(case.number("alpha"));
        let uniformity = UniformityConfig::new().with_t(case.number("t"));
        let alignment = alignment.init().unwrap();
        let alignment = alignment.forward(x.clone(), y.clone()).unwrap();
        let uniformity = uniformity.init().unwrap().forward(x.clone()).unwrap();
        let loss = alignment.clone() + uniformity.clone();
        let grads = loss.backward();
        case.record("loss", loss);
        case.record("alignment", alignment);
        case.record("uniformity", uniformity);
        case.record_gradient("x", &x, &grads);
        case.record_gradient("y", &y, &grads);
        case.finish();
    }
}
