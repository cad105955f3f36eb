//! Tensors that are read from the device one at a time, while their file is written.
//!
//! A checkpoint of a model, its momentum encoder and the moments of the optimiser is as large as all of
//! them together. Held in memory before it is written, it would double what training needs; written
//! from here, it needs the largest tensor.

use std::collections::{BTreeMap, HashMap};

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Bool, DType, Int, Tensor, TensorData};
use safetensors::tensor::{Dtype, Metadata, TensorInfo};

use crate::error::{Error, Result};
use crate::module_state::{NamedTensors, Path, file_type};

/// The header of a safetensors file is padded to a multiple of this many bytes.
const ALIGNMENT: usize = 8;

/// A tensor that stays where it is until it is read.
struct Deferred {
    dtype: DType,
    shape: Vec<usize>,
    read: Box<dyn Fn() -> TensorData>,
}

/// Tensors by name, to be written as a safetensors file.
///
/// ```
/// use burn::tensor::TensorData;
/// use training::{DeferredTensors, NamedTensors, to_safetensors};
///
/// let rows = TensorData::from([[1.0_f32, 2.0]]);
/// let tensors = NamedTensors::from([("rows".to_owned(), rows)]);
/// let mut bytes = Vec::new();
/// DeferredTensors::from(tensors.clone()).write(|part| {
///     bytes.extend_from_slice(part);
///     Ok(())
/// })?;
/// assert_eq!(bytes, to_safetensors(&tensors)?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Default)]
pub struct DeferredTensors {
    tensors: BTreeMap<String, Deferred>,
}

impl std::fmt::Debug for DeferredTensors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.tensors.keys()).finish()
    }
}

impl DeferredTensors {
    /// The parameters of a module under the names and in the types of
    /// [`named_tensors`](crate::named_tensors).
    pub fn of_module<M: Module>(module: &M) -> Self {
        let mut visitor = Collect::default();
        module.visit(&mut visitor);
        visitor.tensors
    }

    /// Adds a tensor that `read` gives when it is written.
    pub(crate) fn insert(
        &mut self,
        name: String,
        dtype: DType,
        shape: Vec<usize>,
        read: impl Fn() -> TensorData + 'static,
    ) {
        let read = Box::new(read);
        let tensor = Deferred { dtype, shape, read };
        self.tensors.insert(name, tensor);
    }

    /// Hands the bytes of the file to `out`, part by part: those of
    /// [`to_safetensors`](crate::to_safetensors), with one tensor in memory at a time.
    ///
    /// # Errors
    /// [`Error::ElementType`] for anything but f32, i64, i32 and u8; those of `out`.
    pub fn write(&self, mut out: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut order = Vec::with_capacity(self.tensors.len());
        for (name, tensor) in &self.tensors {
            order.push((file_type(name, tensor.dtype)?, name, tensor));
        }
        // Largest elements first, so that all are aligned; then by name.
        order.sort_by(|(a, a_name, _), (b, b_name, _)| b.cmp(a).then(a_name.cmp(b_name)));
        out(&header(&order)?)?;
        for (_, name, tensor) in order {
            let data = (tensor.read)();
            let expected = size(tensor);
            if data.dtype() != tensor.dtype || data.as_bytes().len() != expected {
                return Err(Error::SafeTensors {
                    operation: "write safetensors",
                    reason: format!(
                        "tensor `{name}`: expected {expected} bytes of {:?}, found {} of {:?}",
                        tensor.dtype,
                        data.as_bytes().len(),
                        data.dtype()
                    ),
                });
            }
            out(data.as_bytes())?;
        }
        Ok(())
    }
}

/// The tensors in memory.
impl From<NamedTensors> for DeferredTensors {
    fn from(tensors: NamedTensors) -> Self {
        let mut all = Self::default();
        for (name, data) in tensors {
            let (dtype, shape) = (data.dtype(), data.shape().to_vec());
            all.insert(name, dtype, shape, move || data.clone());
        }
        all
    }
}

/// Bytes of a tensor.
fn size(tensor: &Deferred) -> usize {
    tensor.shape.iter().product::<usize>() * tensor.dtype.size()
}

/// Length and text of the header.
fn header(order: &[(Dtype, &String, &Deferred)]) -> Result<Vec<u8>> {
    let refuse = |reason: String| Error::SafeTensors {
        operation: "write safetensors",
        reason,
    };
    let mut begin = 0;
    let infos = order.iter().map(|(dtype, name, tensor)| {
        let end = begin + size(tensor);
        let info = TensorInfo {
            dtype: *dtype,
            shape: tensor.shape.clone(),
            data_offsets: (begin, end),
        };
        begin = end;
        ((*name).clone(), info)
    });
    // As in `to_safetensors`.
    let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let metadata =
        Metadata::new(Some(format), infos.collect()).map_err(|error| refuse(error.to_string()))?;
    let mut text = serde_json::to_vec(&metadata).map_err(|error| refuse(error.to_string()))?;
    text.resize(text.len().next_multiple_of(ALIGNMENT), b' ');
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.append(&mut text);
    Ok(bytes)
}

#[derive(Default)]
struct Collect {
    path: Path,
    tensors: DeferredTensors,
}

impl ModuleVisitor for Collect {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = param.base();
        let (dtype, shape) = (tensor.dtype(), tensor.dims().to_vec());
        let read = move || tensor.clone().into_data();
        self.tensors.insert(self.path.name(), dtype, shape, read);
    }

    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
        let tensor = param.base();
        let (dtype, shape) = (tensor.dtype(), tensor.dims().to_vec());
        let read = move || tensor.clone().into_data();
        self.tensors.insert(self.path.name(), dtype, shape, read);
    }

    fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<D, Bool>>) {
        let tensor = param.base();
        let shape = tensor.dims().to_vec();
        let read = move || tensor.clone().into_data().convert::<u8>();
        self.tensors
            .insert(self.path.name(), DType::U8, shape, read);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use burn::module::ParamId;
    use burn::tensor::Device;
    use proptest::prelude::*;

    use super::*;
    use crate::module_state::element_type;
    use crate::{save_module, to_safetensors};

    fn bytes(tensors: &DeferredTensors) -> Vec<u8> {
        let mut bytes = Vec::new();
        let gather = |part: &[u8]| {
            bytes.extend_from_slice(part);
            Ok(())
        };
        tensors.write(gather).unwrap();
        bytes
    }

    #[derive(Module, Debug)]
    struct Mixed {
        weight: Param<Tensor<2>>,
        ids: Param<Tensor<1, Int>>,
        mask: Param<Tensor<1, Bool>>,
        empty: Param<Tensor<2>>,
    }

    #[test]
    fn a_module_gives_the_bytes_of_save_module() {
        for device in [Device::flex(), Device::flex().autodiff()] {
            let module = Mixed {
                weight: Param::from_data([[1.0_f32, -2.5], [f32::MIN, 4.0]], &device),
                ids: Param::initialized(ParamId::new(), Tensor::from_data([7, -3], &device)),
                mask: Param::initialized(ParamId::new(), Tensor::from_data([true, false], &device)),
                empty: Param::from_tensor(Tensor::zeros([0, 3], &device)),
            };
            let deferred = DeferredTensors::of_module(&module);
            assert_eq!(bytes(&deferred), save_module(&module).unwrap());
        }
    }

    #[test]
    fn a_tensor_that_is_not_what_it_was_said_to_be_is_refused() {
        let mut tensors = DeferredTensors::default();
        tensors.insert("x".to_owned(), DType::F32, vec![2], || {
            TensorData::from([1.0_f32])
        });
        let error = tensors.write(|_| Ok(())).unwrap_err().to_string();
        assert!(
            error.contains("`x`: expected 8 bytes of F32, found 4"),
            "{error}"
        );
        let half = NamedTensors::from([(
            "h".to_owned(),
            TensorData::from([1.0_f32]).convert_dtype(DType::F16),
        )]);
        let error = DeferredTensors::from(half).write(|_| Ok(())).unwrap_err();
        assert!(matches!(error, Error::ElementType { .. }), "{error}");
    }

    #[test]
    fn an_error_of_the_receiver_ends_the_writing() {
        let rows = TensorData::from([1.0_f32]);
        let tensors = DeferredTensors::from(NamedTensors::from([("a".to_owned(), rows)]));
        let mut parts = 0;
        let error = tensors.write(|_| {
            parts += 1;
            Err(element_type("test", String::new()))
        });
        assert!(error.is_err() && parts == 1);
    }

    proptest! {
        #[test]
        fn any_tensors_give_the_bytes_of_to_safetensors(
            shapes in prop::collection::btree_map("[a-z./\"\\\\é]{0,6}", (0_usize..3, 0_usize..4, 0_u8..3), 0..6),
        ) {
            let tensors: NamedTensors = shapes
                .into_iter()
                .map(|(name, (rows, columns, kind))| {
                    let shape = [rows, columns];
                    let data = match kind {
                        0 => TensorData::new(vec![0.5_f32; rows * columns], shape),
                        1 => TensorData::new(vec![-7_i64; rows * columns], shape),
                        _ => TensorData::new(vec![1_u8; rows * columns], shape),
                    };
                    (name, data)
                })
                .collect();
            let deferred = DeferredTensors::from(tensors.clone());
            prop_assert_eq!(bytes(&deferred), to_safetensors(&tensors).unwrap());
        }
    }
}
