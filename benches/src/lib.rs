//! Criterion benches of objectives, clustering and the encoder, and the programs that
//! `benches/peers/run.sh` puts beside PyTorch, scikit-learn and SciPy.
//!
//! Here is what those programs share: the result line, and inputs that both sides make from the same
//! rule.

pub mod inputs;
pub mod sentence_objectives;

use burn::tensor::Device;
use kernels::{DeviceError, DeviceSpec};
use serde_json::{Map, Value, json};

/// The device that the environment variable `DEVICE` names, flex without it, and what goes before the
/// names of its results: nothing for flex, else the device.
///
/// # Errors
///
/// [`DeviceError`] for an unknown name, or a device that this build or machine lacks.
///
/// ```
/// let (_, before) = benches::device()?;
/// assert_eq!(before, "");
/// # Ok::<(), kernels::DeviceError>(())
/// ```
pub fn device() -> Result<(Device, String), DeviceError> {
    let spec = match std::env::var("DEVICE") {
        Ok(name) => name.parse::<DeviceSpec>()?.resolve(),
        Err(_) => DeviceSpec::Flex,
    };
    let before = match spec {
        DeviceSpec::Flex => String::new(),
        other => format!("{other} "),
    };
    Ok((spec.open()?, before))
}

/// Prints one result line: what was measured, the side (`ours`), milliseconds, the largest resident
/// memory of the process so far in MiB, and the members of `more`.
///
/// ```
/// benches::line("forward batch64 length32", 160.0, serde_json::json!({"check": 0.5}));
/// ```
pub fn line(what: &str, ms: f64, more: Value) {
    println!("{}", value(what, ms, training::peak_rss_mb(), more));
}

/// The object [`line()`] prints, for a peak that was read elsewhere.
///
/// ```
/// let line = benches::value("step", 2.0, Some(10.0), serde_json::json!({"runs": 3}));
/// assert_eq!(line["side"], "ours");
/// assert_eq!(line["runs"], 3);
/// ```
#[must_use]
pub fn value(what: &str, ms: f64, peak_rss_mb: Option<f64>, more: Value) -> Value {
    let mut object = Map::new();
    object.insert("what".into(), json!(what));
    object.insert("side".into(), json!("ours"));
    object.insert("ms".into(), json!(ms));
    object.insert("peak_rss_mb".into(), json!(peak_rss_mb));
    if let Value::Object(more) = more {
        object.extend(more);
    }
    Value::Object(object)
}

/// Token ids `[batch][length]`, a fixed pattern over the ordinary vocabulary of BERT:
/// `1000 + (131 row + 17 at) mod 20000`. The peers make the same ids.
///
/// ```
/// assert_eq!(benches::token_rows(2, 2), [[1000, 1017], [1131, 1148]]);
/// ```
#[must_use]
pub fn token_rows(batch: usize, length: usize) -> Vec<Vec<u32>> {
    (0..batch)
        .map(|row| {
            (0..length)
                .map(|at| 1000 + ((row * 131 + at * 17) % 20_000) as u32)
                .collect()
        })
        .collect()
}

/// Sizes of all-MiniLM-L6-v2: vocabulary, hidden, layers, heads, intermediate, positions.
pub const MINILM: [usize; 6] = [30_522, 384, 6, 12, 1536, 512];
