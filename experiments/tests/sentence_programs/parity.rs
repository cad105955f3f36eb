//! The same batches, the same initial weights, no dropout: the losses of fifty steps are torch's.
//!
//! The expected losses are those of `scripts/oracles/sentence_training.py golden` on the encoder
//! fixture.

use std::fs;

use serde_json::Value;

use crate::common::{Place, Program, RegressionSts, Simcse, check_close, sets};

const GOLDEN: &str = include_str!("../golden/sentence_training.json");

fn numbers(value: &Value) -> Vec<f64> {
    let list = value.as_array().unwrap();
    list.iter().map(|number| number.as_f64().unwrap()).collect()
}

/// A safetensors file of f32 tensors.
pub(crate) fn safetensors(tensors: &[(&str, Vec<usize>, Vec<f64>)]) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    let mut data: Vec<u8> = Vec::new();
    for (name, shape, values) in tensors {
        let begin = data.len();
        data.extend(values.iter().flat_map(|x| (*x as f32).to_le_bytes()));
        header.insert(
            (*name).to_owned(),
            serde_json::json!({"dtype": "F32", "shape": shape, "data_offsets": [begin, data.len()]}),
        );
    }
    let header = Value::Object(header).to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.into_bytes());
    bytes.extend(data);
    bytes
}

/// A place with the rows, batches and head of the golden file.
fn place(program: Program) -> (Place, Value) {
    let golden: Value = serde_json::from_str(GOLDEN).unwrap();
    let golden = golden[program.name()].clone();
    let place = Place::new(program);
    let mut file = String::from(match program {
        Simcse => "sent0\tsent1\thard_neg\n",
        RegressionSts => "label\tpremise\thypothesis\n",
    });
    for row in golden["rows"].as_array().unwrap() {
        let fields: Vec<String> = row
            .as_array()
            .unwrap()
            .iter()
            .map(|field| match field {
                Value::String(text) => text.clone(),
                number => number.to_string(),
            })
            .collect();
        file += &(fields.join("\t") + "\n");
    }
    place.write("golden.tsv", &file);
    place.write("order.json", &golden["order"].to_string());
    if let Some(head) = golden.get("head") {
        let (weight, bias) = (numbers(&head["weight"]), numbers(&head["bias"]));
        let file = safetensors(&[
            ("weight", vec![1, weight.len()], weight),
            ("bias", vec![1], bias),
        ]);
        fs::write(place.at("head.safetensors"), file).unwrap();
    }
    (place, golden)
}

fn losses_are_those_of_torch(program: Program, own: &[&str]) {
    let (place, golden) = place(program);
    let mut settings = vec![
        "batch_order_file=order.json",
        "dropout=0",
        "pooling=mean",
        "max_len=12",
        "selection.every=0",
    ];
    if program == RegressionSts {
        settings.push("left_clamp=all");
    }
    settings.extend(own);
    let (lr, batch) = (&golden["settings"]["lr"], &golden["settings"]["batch"]);
    assert_eq!((batch.as_u64(), lr.is_f64()), (Some(8), true));
    let (rate, stage) = match program {
        Simcse => (format!("lr={lr}"), "train"),
        RegressionSts => (format!("nli.lr={lr}"), "nli"),
    };
    settings.push(&rate);
    let mut more = sets(&settings);
    more.extend(["--data", "golden.tsv", "--stages", stage]);
    place.run_well(&more);
    let expected = numbers(&golden["losses"]);
    assert_eq!(expected.len(), 50);
    check_close(&place.series("out", "loss"), &expected, 1e-3);
}

#[test]
fn fifty_steps_of_supervised_simcse() {
    losses_are_those_of_torch(Simcse, &[]);
}

#[test]
fn fifty_steps_of_supervised_simcse_with_gradient_caching() {
    losses_are_those_of_torch(Simcse, &["micro_batch=7"]);
}

#[test]
fn fifty_steps_of_regression_sts() {
    losses_are_those_of_torch(RegressionSts, &["head_init_file=head.safetensors"]);
}

#[test]
fn another_head_gives_other_losses() {
    // The comparison above can fail.
    let (place, golden) = place(RegressionSts);
    place.run_well(&[
        "--data",
        "golden.tsv",
        "--stages",
        "nli",
        "--set",
        "batch_order_file=order.json",
        "--set",
        "dropout=0",
    ]);
    let found = place.series("out", "loss")[0];
    let expected = numbers(&golden["losses"])[0];
    assert!((found - expected).abs() > 1e-2 * expected, "{found}");
}
