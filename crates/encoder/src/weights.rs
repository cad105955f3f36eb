//! Weights in and out of safetensors, under the names Hugging Face checkpoints use.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::bert::Linear;
use crate::error::EncoderError;
use crate::families::{Family, Slot};

/// Linear maps are `[in, out]` here and `[out, in]` in checkpoints; tables are the same in both.
fn is_transposed(path: &str, rank: usize) -> bool {
    rank == 2 && !path.starts_with("embeddings.") && !path.starts_with("relative_attention_bias.")
}

/// SimCSE's training code keeps its head under this name; everywhere else it is the pooler.
const SIMCSE_HEAD: &str = "mlp.dense.";

/// The pooler, in every family.
const POOLER: &str = "pooler.dense.";

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
    family: Family,
    tensors: BTreeMap<String, WeightTensor>,
    /// Tensors of which a part was taken.
    taken: BTreeSet<String>,
    problems: Vec<String>,
}

impl Import {
    /// Strips the prefix that checkpoints with a task head carry, and takes a head of SimCSE for
    /// the pooler.
    pub(crate) fn new(tensors: BTreeMap<String, WeightTensor>, family: Family) -> Self {
        let prefix = family.description().prefix;
        let mut tensors: BTreeMap<String, WeightTensor> = tensors
            .into_iter()
            .map(|(name, tensor)| match name.strip_prefix(prefix) {
                Some(rest) => (rest.to_owned(), tensor),
                None => (name, tensor),
            })
            .collect();
        for leaf in ["weight", "bias"] {
            if let Some(head) = tensors.remove(&format!("{SIMCSE_HEAD}{leaf}")) {
                tensors.insert(format!("{POOLER}{leaf}"), head);
            }
        }
        Self {
            family,
            tensors,
            taken: BTreeSet::new(),
            problems: Vec::new(),
        }
    }

    /// Whether the file holds the parameter of this path.
    pub(crate) fn contains(&self, path: &str) -> bool {
        self.family
            .slot(path)
            .is_some_and(|slot| self.tensors.contains_key(&slot.name))
    }

    pub(crate) fn fill<M: Module>(&mut self, module: M) -> M {
        module.map(&mut Filler {
            import: self,
            path: Vec::new(),
        })
    }

    /// Fills a module that is the part `name` of the encoder.
    fn fill_at<M: Module>(&mut self, name: &str, module: M) -> M {
        module.map(&mut Filler {
            import: self,
            path: vec![name.to_owned()],
        })
    }

    /// Notes a problem once: every part of a tensor reports what is wrong with the whole.
    fn report(&mut self, problem: String) {
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    /// Everything left over is unexpected, apart from known buffers.
    pub(crate) fn finish(mut self, path: &Path) -> Result<(), EncoderError> {
        let ignored = self.family.description().ignored;
        for (name, tensor) in &self.tensors {
            let known = ignored.iter().any(|beginning| name.starts_with(beginning));
            if !known && !self.taken.contains(name) {
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
        let Some(Slot { name, part }) = self.import.family.slot(&path) else {
            return param;
        };
        let (index, parts) = part;
        let ours = param.val().dims().to_vec();
        let transposed = is_transposed(&path, D);
        let mut expected = ours.clone();
        if transposed {
            expected.reverse();
        }
        expected[0] *= parts;
        let Some(found) = self.import.tensors.get(&name) else {
            self.import.report(format!("missing {name} {expected:?}"));
            return param;
        };
        if found.shape != expected {
            let problem = format!("{name}: expected {expected:?}, found {:?}", found.shape);
            self.import.report(problem);
            self.import.taken.insert(name);
            return param;
        }
        let mut values = if parts == 1 {
            let whole = self.import.tensors.remove(&name);
            whole.map(|tensor| tensor.values).unwrap_or_default()
        } else {
            let length = found.values.len() / parts;
            let part = found.values[index * length..(index + 1) * length].to_vec();
            self.import.taken.insert(name);
            part
        };
        if transposed {
            values = transpose(&values, ours[1], ours[0]);
        }
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
pub(crate) struct Export {
    family: Family,
    pub(crate) tensors: BTreeMap<String, WeightTensor>,
    path: Vec<String>,
}

impl Export {
    pub(crate) fn new(family: Family) -> Self {
        Self {
            family,
            tensors: BTreeMap::new(),
            path: Vec::new(),
        }
    }

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
        let Some(Slot { name, .. }) = self.family.slot(&path) else {
            return;
        };
        let tensor = param.val();
        let mut shape = tensor.dims().to_vec();
        let mut values: Vec<f32> = tensor.into_data().iter::<f32>().collect();
        if is_transposed(&path, D) {
            values = transpose(&values, shape[0], shape[1]);
            shape.reverse();
        }
        // Parts of one tensor are visited first to last.
        match self.tensors.get_mut(&name) {
            Some(whole) => {
                whole.shape[0] += shape[0];
                whole.values.extend(values);
            }
            None => {
                self.tensors.insert(name, WeightTensor { shape, values });
            }
        }
    }
}

/// A dense module's tensors, `linear.weight` and `linear.bias`, from a map.
pub(crate) fn dense_tensors(map: &Linear) -> BTreeMap<String, WeightTensor> {
    let weight = map.weight.val();
    let [inputs, outputs] = weight.dims();
    let values: Vec<f32> = weight.into_data().iter::<f32>().collect();
    let bias: Vec<f32> = map.bias.val().into_data().iter::<f32>().collect();
    BTreeMap::from([
        (
            "linear.weight".to_owned(),
            WeightTensor {
                shape: vec![outputs, inputs],
                values: transpose(&values, inputs, outputs),
            },
        ),
        (
            "linear.bias".to_owned(),
            WeightTensor {
                shape: vec![outputs],
                values: bias,
            },
        ),
    ])
}

/// The way back from [`dense_tensors`]; `path` is named in errors.
pub(crate) fn fill_dense(
    map: Linear,
    tensors: BTreeMap<String, WeightTensor>,
    path: &Path,
) -> Result<Linear, EncoderError> {
    // Under the name of the pooler the import does the rest.
    let tensors = tensors
        .into_iter()
        .map(|(name, tensor)| (name.replace("linear.", POOLER), tensor))
        .collect();
    let mut import = Import::new(tensors, Family::Bert);
    let map = import.fill_at("pooler", map);
    for problem in &mut import.problems {
        *problem = problem.replace(POOLER, "linear.");
    }
    import.finish(path)?;
    Ok(map)
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
