//! What this machine can do: matrix products and memory, for the floor under a training step.
//!
//! ```text
//! cargo run --release -p benches --example floor -- [tokens] [hidden] [intermediate] [runs]
//! ```
//!
//! Products are those of a transformer layer, forward and backward, through burn's flex backend
//! (the `gemm` library): `[tokens, hidden] x [hidden, intermediate]`, its input gradient (right side
//! transposed) and its weight gradient (left side transposed), in f32 and with operands rounded to
//! bfloat16 (the rounding is part of the time, and so is turning the transposed operand). Memory is a copy of 256 MiB by all
//! threads; bytes read and bytes written both count. `benches/peers/floor.py` is PyTorch's.

use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

use burn::tensor::{Device, Tensor, TensorData};
use kernels::{Precision, project};
use rayon::prelude::*;
use serde_json::json;

/// Floats of the copied buffer.
const COPIED: usize = 64 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    kernels::tune_allocator();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: usize| {
        args.get(at)
            .map_or(Ok(default), |text| text.parse::<usize>())
    };
    let (tokens, hidden, inner, runs) = (
        number(0, 2048)?,
        number(1, 384)?,
        number(2, 1536)?,
        number(3, 9)?,
    );
    let device = Device::flex();
    let matrix = |rows: usize, columns: usize| {
        let values: Vec<f32> = (0..rows * columns)
            .map(|at| (at % 251) as f32 / 251.0 - 0.5)
            .collect();
        Tensor::<2>::from_data(TensorData::new(values, [rows, columns]), &device)
    };
    let x = matrix(tokens, hidden);
    let w = matrix(hidden, inner);
    let g = matrix(tokens, inner);
    let products: [(&str, &dyn Fn() -> Tensor<2>); 3] = [
        ("forward", &|| x.clone().matmul(w.clone())),
        ("input_gradient", &|| {
            g.clone().matmul(w.clone().transpose())
        }),
        ("weight_gradient", &|| {
            x.clone().transpose().matmul(g.clone())
        }),
    ];
    let bf16: [(&str, &dyn Fn() -> Tensor<2>); 3] = [
        ("forward_bf16", &|| {
            project(x.clone(), w.clone(), Precision::Bf16)
        }),
        ("input_gradient_bf16", &|| {
            project(g.clone(), w.clone().transpose(), Precision::Bf16)
        }),
        ("weight_gradient_bf16", &|| {
            project(x.clone().transpose(), g.clone(), Precision::Bf16)
        }),
    ];
    let flop = 2.0 * (tokens * hidden * inner) as f64;
    for (name, product) in products.into_iter().chain(bf16) {
        black_box(product());
        for _ in 0..runs {
            let began = Instant::now();
            black_box(product());
            let seconds = began.elapsed().as_secs_f64();
            benches::line(
                &format!("gemm {name} {tokens}x{hidden}x{inner}"),
                seconds * 1e3,
                json!({"gflops": flop / seconds * 1e-9}),
            );
        }
    }

    let source = vec![1.0f32; COPIED];
    let mut target = vec![0.0f32; COPIED];
    let block = COPIED.div_ceil(rayon::current_num_threads());
    for run in 0..=runs {
        let began = Instant::now();
        target
            .par_chunks_mut(block)
            .zip(source.par_chunks(block))
            .for_each(|(to, from)| to.copy_from_slice(from));
        black_box(&mut target);
        let seconds = began.elapsed().as_secs_f64();
        if run > 0 {
            benches::line(
                "memory copy 256MiB",
                seconds * 1e3,
                json!({"gb_s": 2.0 * 4.0 * COPIED as f64 / seconds * 1e-9}),
            );
        }
    }
    Ok(())
}
