//! Golden vectors: bank overwrite, momentum update, neighbours, rank weights.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};
use queue::{
    DownParams, DownPolicy, MemoryBank, NeighbourParams, NeighbourPolicy, RankWeights,
    RefreshContext, momentum_copy, nearest_neighbours, update_momentum,
};
use serde_json::Value;

#[derive(Module, Debug)]
struct Theta {
    theta: Param<Tensor<1>>,
}

fn theta(values: Vec<f32>) -> Theta {
    let n = values.len();
    let tensor = Tensor::from_data(TensorData::new(values, [n]), &Device::flex().autodiff());
    Theta {
        theta: Param::from_tensor(tensor),
    }
}

fn cases(text: &str) -> Vec<Value> {
    let file: Value = serde_json::from_str(text).unwrap();
    assert_eq!(file["schema"], "golden/1");
    file["cases"].as_array().unwrap().clone()
}

fn numbers(item: &Value) -> Vec<f64> {
    let data = item["data"].as_array().unwrap();
    data.iter().map(|x| x.as_f64().unwrap()).collect()
}

fn floats(item: &Value) -> Vec<f32> {
    numbers(item).into_iter().map(|x| x as f32).collect()
}

fn ints(item: &Value) -> Vec<usize> {
    numbers(item).into_iter().map(|x| x as usize).collect()
}

fn shape(item: &Value) -> Vec<usize> {
    let shape = item["shape"].as_array().unwrap();
    shape.iter().map(|x| x.as_u64().unwrap() as usize).collect()
}

fn matrix(values: &[f32], dim: usize) -> Tensor<2> {
    let data = TensorData::new(values.to_vec(), [values.len() / dim, dim]);
    Tensor::from_data(data, &Device::flex())
}

/// Worst difference against `atol + rtol * max|expected|` of one item.
fn assert_close(case: &Value, item: &str, got: &[f32]) {
    let expected = numbers(&case["expected"][item]);
    let tolerance = &case["tol"][item];
    let largest = expected.iter().fold(0.0_f64, |a, e| a.max(e.abs()));
    let limit = tolerance["atol"].as_f64().unwrap() + tolerance["rtol"].as_f64().unwrap() * largest;
    assert_eq!(got.len(), expected.len());
    for (got, expected) in got.iter().zip(&expected) {
        let difference = (f64::from(*got) - expected).abs();
        assert!(
            difference <= limit,
            "{} {item}: {got} {expected}",
            case["name"]
        );
    }
}

#[test]
fn queue_cases() {
    let cases = cases(include_str!("golden/queue.json"));
    assert_eq!(cases.len(), 2);
    for case in cases {
        let inputs = &case["inputs"];
        let [n, dim] = shape(&inputs["queue0"])[..] else {
            panic!("queue0 is a matrix")
        };
        let mut bank = MemoryBank::new(matrix(&floats(&inputs["queue0"]), dim)).unwrap();
        let mut slow = momentum_copy(&theta(floats(&inputs["theta_m0"])));
        let m = case["params"]["momentum"].as_f64().unwrap();
        let batch = shape(&inputs["index"])[1];
        let (index, rows) = (ints(&inputs["index"]), floats(&inputs["values"]));
        let online = floats(&inputs["theta"]);
        for (round, ids) in index.chunks(batch).enumerate() {
            let rows = &rows[round * batch * dim..(round + 1) * batch * dim];
            bank.update(ids, matrix(rows, dim)).unwrap();
            let online = theta(online[round * dim..(round + 1) * dim].to_vec());
            slow = update_momentum(slow, &online, m).unwrap();
        }

        // Bit for bit: the expected decimals name the f32 that went in.
        let stored: Vec<f32> = bank.to_data().unwrap().try_into_vec().unwrap();
        assert_eq!(stored, floats(&case["expected"]["queue"]));
        let slow: Vec<f32> = slow.theta.val().into_data().try_into_vec().unwrap();
        assert_close(&case, "theta_m", &slow);

        let top = ints(&case["expected"]["top5"]);
        for block_rows in [1, 5, 512] {
            let params = NeighbourParams {
                block_rows,
                ..NeighbourParams::new(4)
            };
            let found = nearest_neighbours(bank.vectors(), &params).unwrap();
            for i in 0..n {
                let list: Vec<usize> = found.row(i).unwrap().iter().map(|&j| j as usize).collect();
                assert_eq!(list, top[i * 5..(i + 1) * 5], "{} row {i}", case["name"]);
            }
        }
    }
}

#[test]
fn neighbour_weight_cases() {
    let cases = cases(include_str!("golden/neighbour_weights.json"));
    assert_eq!(cases.len(), 2);
    for case in cases {
        let params = &case["params"];
        let topk = params["topk"].as_u64().unwrap() as usize;
        let bases: Vec<f64> = params["bases"]
            .as_array()
            .unwrap()
            .iter()
            .map(|b| b.as_f64().unwrap())
            .collect();
        let every = params["epochs_per_base"].as_u64().unwrap() as usize;
        let own = RankWeights::new(topk, bases, every).unwrap();
        let published = RankWeights::published(topk).unwrap();
        let epochs = ints(&case["inputs"]["epoch"]);
        let got: Vec<f32> = epochs.iter().flat_map(|&e| own.weights(e)).collect();
        assert_close(&case, "weights", &got);
        let got: Vec<f32> = epochs.iter().flat_map(|&e| published.weights(e)).collect();
        assert_close(&case, "weights", &got);

        // The policy hands out the same weights.
        let circle: Vec<f32> = (0..topk + 5)
            .flat_map(|i| [(i as f32).cos(), (i as f32).sin()])
            .collect();
        let mut policy = DownPolicy::new(DownParams::new(topk)).unwrap();
        policy
            .refresh(&RefreshContext {
                bank: matrix(&circle, 2),
                coarse: &[],
                refresh: 0,
                clusters: None,
            })
            .unwrap();
        let got: Vec<f32> = epochs
            .iter()
            .flat_map(|&e| policy.targets(&[3], e).unwrap().weights)
            .collect();
        assert_close(&case, "weights", &got);
    }
}
