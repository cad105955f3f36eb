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
use crate::module_state::{NamedTensors, Path, element_type, file_type};

/// The header of a safetensors file is padded to a multiple of this many bytes.
const ALIGNMENT: usize = 8;

/// A tensor that stays where it is until it is read.
struct Deferred {
    dtype: DType,
    shape: Vec<usize>,
    read: Box<dyn Fn() -> TensorData>,
}

impl Deferred {
    /// Bytes of the tensor.
    fn size(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.size()
    }

    fn data(&self, name: &str) -> Result<TensorData> {
        let (bytes, _, dtype) = (self.read)().into_parts();
        let (expected, found) = (self.size(), bytes.len());
        let refuse = |reason| Error::SafeTensors {
            operation: "read from the device",
            reason: format!("tensor `{name}`: {reason}"),
        };
        if dtype != self.dtype || found != expected {
            return Err(refuse(format!(
                "expected {expected} bytes of {:?}, found {found} of {dtype:?}",
                self.dtype
            )));
        }
        TensorData::try_from_bytes(bytes, self.shape.clone(), dtype)
            .map_err(|error| refuse(error.to_string()))
    }
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
    ///
    /// # Errors
    /// [`Error::ElementType`] if a parameter is stored in another type.
    pub fn of_module<M: Module>(module: &M) -> Result<Self> {
        let mut visitor = Collect::default();
        module.visit(&mut visitor);
        match visitor.error {
            Some(error) => Err(error),
            None => Ok(visitor.tensors),
        }
    }

    /// All of them, in memory.
    ///
    /// # Errors
    /// [`Error::SafeTensors`] if the device gives another tensor than it said.
    pub fn read(&self) -> Result<NamedTensors> {
        self.tensors
            .iter()
            .map(|(name, tensor)| Ok((name.clone(), tensor.data(name)?)))
            .collect()
    }

    /// Adds a tensor whose elements `read` gives, in any shape.
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
    /// [`Error::ElementType`] for anything but f32, i64, i32 and u8; those of [`read`](Self::read) and of
    /// `out`.
    pub fn write(&self, mut out: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut order = Vec::with_capacity(self.tensors.len());
        for (name, tensor) in &self.tensors {
            order.push((file_type(name, tensor.dtype)?, name, tensor));
        }
        // Largest elements first, so that all are aligned; then by name.
        order.sort_by(|(a, a_name, _), (b, b_name, _)| b.cmp(a).then(a_name.cmp(b_name)));
        out(&header(&order)?)?;
        for (_, name, tensor) in order {
            out(tensor.data(name)?.as_bytes())?;
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

/// Length and text of the header.
fn header(order: &[(Dtype, &String, &Deferred)]) -> Result<Vec<u8>> {
    let refuse = |reason: String| Error::SafeTensors {
        operation: "write safetensors",
        reason,
    };
    let mut begin = 0;
    let infos = order.iter().map(|(dtype, name, tensor)| {
        let end = begin + tensor.size();
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
    error: Option<Error>,
}

impl Collect {
    fn insert(
        &mut self,
        dtype: DType,
        accepted: &[DType],
        shape: &[usize],
        read: impl Fn() -> TensorData + 'static,
    ) {
        let name = self.path.name();
        if accepted.contains(&dtype) {
            self.tensors.insert(name, dtype, shape.to_vec(), read);
        } else {
            self.error
                .get_or_insert_with(|| element_type(&name, format!("{dtype:?}")));
        }
    }
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
        let (dtype, shape) = (tensor.dtype(), tensor.dims());
        self.insert(dtype, &[DType::F32], &shape, move || {
            tensor.clone().into_data()
        });
    }

    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
        let tensor = param.base();
        let (dtype, shape) = (tensor.dtype(), tensor.dims());
        self.insert(dtype, &[DType::I64, DType::I32], &shape, move || {
            tensor.clone().into_data()
        });
    }

    fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<D, Bool>>) {
        let tensor = param.base();
        // How booleans are stored depends on the backend; 0 and 1 as u8 does not.
        self.insert(DType::U8, &[DType::U8], &tensor.dims(), move || {
            tensor.clone().into_data().convert::<u8>()
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use burn::module::ParamId;
    use burn::tensor::Device;
    use proptest::prelude::*;

    use super::*;
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
            let deferred = DeferredTensors::of_module(&module).unwrap();
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
