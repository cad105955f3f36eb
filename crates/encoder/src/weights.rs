//! Weights in and out of safetensors, under the names Hugging Face checkpoints use.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::error::EncoderError;

/// Path of a parameter here -> name in the checkpoint. Applied in order, on whole path segments;
/// the longer patterns come first because `output` and `layer_norm` mean something else inside
/// `attention` and `embeddings` than directly in a layer.
const NAMES: [(&str, &str); 12] = [
    (
        "layers.*.attention.query",
        "encoder.layer.*.attention.self.query",
    ),
    (
        "layers.*.attention.key",
        "encoder.layer.*.attention.self.key",
    ),
    (
        "layers.*.attention.value",
        "encoder.layer.*.attention.self.value",
    ),
    (
        "layers.*.attention.output",
        "encoder.layer.*.attention.output.dense",
    ),
    (
        "layers.*.attention.layer_norm",
        "encoder.layer.*.attention.output.LayerNorm",
    ),
    (
        "layers.*.intermediate",
        "encoder.layer.*.intermediate.dense",
    ),
    ("layers.*.output", "encoder.layer.*.output.dense"),
    ("layers.*.layer_norm", "encoder.layer.*.output.LayerNorm"),
    ("embeddings.layer_norm", "embeddings.LayerNorm"),
    ("pooler", "pooler.dense"),
    ("transform", "cls.predictions.transform.dense"),
    ("layer_norm", "cls.predictions.transform.LayerNorm"),
];

/// Buffers and heads of older checkpoints that carry no weights of the encoder.
const IGNORED: [&str; 5] = [
    "embeddings.position_ids",
    "embeddings.token_type_ids",
    "cls.predictions.decoder.weight",
    "cls.predictions.decoder.bias",
    "cls.seq_relationship.",
];

/// Checkpoint name of a parameter path such as `layers.0.attention.query.weight`.
pub(crate) fn checkpoint_name(path: &str) -> String {
    if path == "bias" {
        return "cls.predictions.bias".to_owned();
    }
    let segments: Vec<&str> = path.split('.').collect();
    for (ours, theirs) in NAMES {
        let pattern: Vec<&str> = ours.split('.').collect();
        if segments.len() != pattern.len() + 1 {
            continue;
        }
        let mut star = "";
        let fits = pattern.iter().zip(&segments).all(|(pattern, segment)| {
            if *pattern == "*" {
                star = segment;
                true
            } else {
                pattern == segment
            }
        });
        if fits {
            return format!("{}.{}", theirs.replace('*', star), segments[pattern.len()]);
        }
    }
    path.to_owned()
}

/// Linear maps are `[in, out]` here and `[out, in]` in checkpoints; tables are the same in both.
fn is_transposed(path: &str, rank: usize) -> bool {
    rank == 2 && !path.starts_with("embeddings.")
}

/// One tensor of a file, widened to f32.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightTensor {
    /// Dimensions.
    pub shape: Vec<usize>,
    /// Row-major values.
    pub values: Vec<f32>,
}

/// Reads every float tensor of a safetensors file (f32, f16, bf16 and f64 become f32).
///
/// # Errors
///
/// The file cannot be read or is not valid safetensors, or a value is NaN or infinite and
/// `allow_non_finite` is false.
pub fn read_safetensors(
    path: &Path,
    allow_non_finite: bool,
) -> Result<BTreeMap<String, WeightTensor>, EncoderError> {
    let bytes = std::fs::read(path).map_err(EncoderError::io("read", path))?;
    let invalid = |message: String| EncoderError::Safetensors {
        path: path.to_owned(),
        message,
    };
    let file = SafeTensors::deserialize(&bytes).map_err(|error| invalid(error.to_string()))?;
    let mut tensors = BTreeMap::new();
    for (name, view) in file.iter() {
        let data = view.data();
        let values: Vec<f32> = match view.dtype() {
            Dtype::F32 => chunks::<4>(data).map(f32::from_le_bytes).collect(),
            Dtype::F64 => chunks::<8>(data)
                .map(|b| f64::from_le_bytes(b) as f32)
                .collect(),
            Dtype::BF16 => chunks::<2>(data)
                .map(|b| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16))
                .collect(),
            Dtype::F16 => chunks::<2>(data)
                .map(|b| half_to_f32(u16::from_le_bytes(b)))
                .collect(),
            // Position and type ids are buffers; whoever needs a float of that name will miss it.
            _ => continue,
        };
        let count = values.iter().filter(|value| !value.is_finite()).count();
        if count > 0 && !allow_non_finite {
            return Err(EncoderError::NonFinite {
                path: path.to_owned(),
                name: name.to_owned(),
                count,
            });
        }
        tensors.insert(
            name.to_owned(),
            WeightTensor {
                shape: view.shape().to_vec(),
                values,
            },
        );
    }
    Ok(tensors)
}

fn chunks<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> + '_ {
    bytes.chunks_exact(N).map(|chunk| {
        let mut array = [0; N];
        array.copy_from_slice(chunk);
        array
    })
}

/// IEEE 754 binary16 to binary32.
fn half_to_f32(bits: u16) -> f32 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let exponent = i32::from((bits >> 10) & 0x1f);
    let fraction = f32::from(bits & 0x3ff);
    sign * match exponent {
        0 => fraction * 2f32.powi(-24),
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        _ => (1.0 + fraction / 1024.0) * 2f32.powi(exponent - 15),
    }
}

/// Takes tensors out of a file's contents into modules and keeps account of what did not fit.
pub(crate) struct Import {
    tensors: BTreeMap<String, WeightTensor>,
    problems: Vec<String>,
}

impl Import {
    /// Strips the `bert.` prefix that checkpoints with a task head carry.
    pub(crate) fn new(tensors: BTreeMap<String, WeightTensor>) -> Self {
        let tensors = tensors
            .into_iter()
            .map(|(name, tensor)| match name.strip_prefix("bert.") {
                Some(rest) => (rest.to_owned(), tensor),
                None => (name, tensor),
            })
            .collect();
        Self {
            tensors,
            problems: Vec::new(),
        }
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    pub(crate) fn fill<M: Module>(&mut self, module: M) -> M {
        module.map(&mut Filler {
            import: self,
            path: Vec::new(),
        })
    }

    /// Everything left over is unexpected, apart from known buffers.
    pub(crate) fn finish(mut self, path: &Path) -> Result<(), EncoderError> {
        for (name, tensor) in &self.tensors {
            if !IGNORED.iter().any(|ignored| name.starts_with(ignored)) {
                self.problems
                    .push(format!("unexpected {name} {:?}", tensor.shape));
            }
        }
        if self.problems.is_empty() {
            return Ok(());
        }
        Err(EncoderError::Weights {
            path: path.to_owned(),
            problems: self.problems,
        })
    }
}

struct Filler<'a> {
    import: &'a mut Import,
    path: Vec<String>,
}

impl ModuleMapper for Filler<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let path = self.path.join(".");
        let name = checkpoint_name(&path);
        let ours = param.val().dims().to_vec();
        let transposed = is_transposed(&path, D);
        let mut expected = ours.clone();
        if transposed {
            expected.reverse();
        }
        let Some(found) = self.import.tensors.remove(&name) else {
            self.import
                .problems
                .push(format!("missing {name} {expected:?}"));
            return param;
        };
        if found.shape != expected {
            self.import.problems.push(format!(
                "{name}: expected {expected:?}, found {:?}",
                found.shape
            ));
            return param;
        }
        let values = if transposed {
            transpose(&found.values, expected[0], expected[1])
        } else {
            found.values
        };
        param.map(|old| {
            let new = Tensor::<D>::from_data(TensorData::new(values, ours), &old.device().inner());
            let new = if old.is_autodiff() {
                new.autodiff()
            } else {
                new
            };
            new.set_require_grad(old.is_require_grad())
        })
    }
}

/// `[rows, columns]` row-major to `[columns, rows]`.
fn transpose(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut out = vec![0.0; values.len()];
    for (r, row) in values.chunks_exact(columns).enumerate() {
        for (c, value) in row.iter().enumerate() {
            out[c * rows + r] = *value;
        }
    }
    out
}

/// Collects the parameters of modules under their checkpoint names.
#[derive(Default)]
pub(crate) struct Export {
    pub(crate) tensors: BTreeMap<String, WeightTensor>,
    path: Vec<String>,
}

impl Export {
    pub(crate) fn add<M: Module>(&mut self, module: &M) {
        module.visit(self);
    }
}

impl ModuleVisitor for Export {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let path = self.path.join(".");
        let tensor = param.val();
        let mut shape = tensor.dims().to_vec();
        let mut values: Vec<f32> = tensor.into_data().iter::<f32>().collect();
        if is_transposed(&path, D) {
            values = transpose(&values, shape[0], shape[1]);
            shape.reverse();
        }
        self.tensors
            .insert(checkpoint_name(&path), WeightTensor { shape, values });
    }
}

/// Writes tensors as safetensors with the metadata `format = pt` that Python readers expect.
///
/// `position_ids` adds the `[1, n]` integer buffer that older BERT checkpoints carry, so that a
/// file which had it is reproduced byte for byte.
///
/// # Errors
///
/// The file cannot be written.
pub fn write_safetensors(
    path: &Path,
    tensors: &BTreeMap<String, WeightTensor>,
    position_ids: Option<usize>,
) -> Result<(), EncoderError> {
    let mut buffers: BTreeMap<&str, (Dtype, Vec<usize>, Vec<u8>)> = BTreeMap::new();
    for (name, tensor) in tensors {
        let bytes = tensor
            .values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        buffers.insert(name, (Dtype::F32, tensor.shape.clone(), bytes));
    }
    if let Some(count) = position_ids {
        let bytes = (0..count as i64).flat_map(i64::to_le_bytes).collect();
        buffers.insert(
            "embeddings.position_ids",
            (Dtype::I64, vec![1, count], bytes),
        );
    }
    let invalid = |error: safetensors::SafeTensorError| EncoderError::Safetensors {
        path: path.to_owned(),
        message: error.to_string(),
    };
    let views = buffers
        .iter()
        .map(|(name, (dtype, shape, bytes))| {
            TensorView::new(*dtype, shape.clone(), bytes).map(|view| (*name, view))
        })
        .collect::<Result<Vec<_>, _>>()
        .map_err(invalid)?;
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(invalid)?;
    crate::model_dir::write_file(path, &bytes)
}

/// Whether a file carries the position id buffer, and how long it is.
pub(crate) fn position_ids(path: &Path) -> Result<Option<usize>, EncoderError> {
    use std::io::Read;
    // Only the header is needed; it is length-prefixed.
    let mut file = std::fs::File::open(path).map_err(EncoderError::io("read", path))?;
    let mut length = [0; 8];
    file.read_exact(&mut length)
        .map_err(EncoderError::io("read", path))?;
    let mut header = Vec::new();
    file.take(u64::from_le_bytes(length).min(100_000_000))
        .read_to_end(&mut header)
        .map_err(EncoderError::io("read", path))?;
    let header: serde_json::Value = match serde_json::from_slice(&header) {
        Ok(header) => header,
        Err(_) => return Ok(None),
    };
    Ok(header
        .get("embeddings.position_ids")
        .and_then(|entry| entry.get("shape"))
        .and_then(|shape| shape.get(1))
        .and_then(serde_json::Value::as_u64)
        .map(|count| count as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_map_to_the_checkpoint() {
        for (ours, theirs) in [
            (
                "layers.3.attention.query.weight",
                "encoder.layer.3.attention.self.query.weight",
            ),
            (
                "layers.0.attention.output.bias",
                "encoder.layer.0.attention.output.dense.bias",
            ),
            (
                "layers.11.attention.layer_norm.weight",
                "encoder.layer.11.attention.output.LayerNorm.weight",
            ),
            (
                "layers.1.output.weight",
                "encoder.layer.1.output.dense.weight",
            ),
            (
                "layers.1.layer_norm.bias",
                "encoder.layer.1.output.LayerNorm.bias",
            ),
            (
                "embeddings.word_embeddings.weight",
                "embeddings.word_embeddings.weight",
            ),
            (
                "embeddings.layer_norm.weight",
                "embeddings.LayerNorm.weight",
            ),
            ("pooler.weight", "pooler.dense.weight"),
            ("transform.weight", "cls.predictions.transform.dense.weight"),
            (
                "layer_norm.bias",
                "cls.predictions.transform.LayerNorm.bias",
            ),
            ("bias", "cls.predictions.bias"),
        ] {
            assert_eq!(checkpoint_name(ours), theirs);
        }
    }

    #[test]
    fn half_precision_corners() {
        for (bits, value) in [
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x0001, 5.960_464_5e-8),
            (0x7bff, 65504.0),
            (0x8000, -0.0),
        ] {
            assert_eq!(half_to_f32(bits).to_bits(), f32::to_bits(value));
        }
        assert!(half_to_f32(0x7c00).is_infinite() && half_to_f32(0x7e00).is_nan());
    }
}
