//! A module as named tensors, and named tensors as safetensors bytes.
//!
//! The name of a parameter is its path in the module, parts joined by `.`
//! (`layers.0.attention.query.weight`). Loading is strict: a parameter without a tensor, a tensor
//! without a parameter, and a tensor of another kind or shape are all listed in one error, and
//! nothing is loaded. Whether a parameter requires gradients stays as the module has it.

use std::collections::{BTreeMap, HashMap};

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Bool, DType, Int, Tensor, TensorData};
use safetensors::tensor::{Dtype, TensorView};

use crate::deferred_tensors::DeferredTensors;
use crate::error::{Error, Mismatch, Result};

/// Tensors by name, in the order of the names.
pub type NamedTensors = BTreeMap<String, TensorData>;

/// What to do with NaN and infinity in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NonFinite {
    /// Refuse the file and name the first such element.
    Refuse,
    /// Take it as it is.
    Allow,
}

/// The tensors of a module by parameter path: float parameters as f32, integer ones as i32 or i64
/// (what the device holds), boolean ones as u8.
///
/// # Errors
/// [`Error::ElementType`] if a parameter is stored in another type.
pub fn named_tensors<M: Module>(module: &M) -> Result<NamedTensors> {
    DeferredTensors::of_module(module)?.read()
}

/// Puts tensors into a module of the same structure. `operation` names the loading in errors, such
/// as "load the momentum encoder".
///
/// # Errors
/// [`Error::Tensors`] with every missing, unexpected and mis-shaped name.
pub fn load_named_tensors<M: Module>(
    module: M,
    tensors: NamedTensors,
    operation: &'static str,
) -> Result<M> {
    let mut expected = Shapes::default();
    module.visit(&mut expected);
    let found: BTreeMap<&str, String> = tensors
        .iter()
        .map(|(name, data)| (name.as_str(), describe_data(data)))
        .collect();
    let missing: Vec<String> = expected
        .shapes
        .keys()
        .filter(|name| !found.contains_key(name.as_str()))
        .cloned()
        .collect();
    let unexpected: Vec<String> = found
        .keys()
        .filter(|name| !expected.shapes.contains_key(**name))
        .map(|name| (*name).to_owned())
        .collect();
    let mismatched: Vec<Mismatch> = expected
        .shapes
        .iter()
        .filter_map(|(name, want)| {
            let have = found.get(name.as_str())?;
            (have != want).then(|| Mismatch {
                name: name.clone(),
                expected: want.clone(),
                found: have.clone(),
            })
        })
        .collect();
    if !(missing.is_empty() && unexpected.is_empty() && mismatched.is_empty()) {
        return Err(Error::Tensors {
            operation,
            missing,
            unexpected,
            mismatched,
        });
    }
    Ok(module.map(&mut Replace {
        path: Path::default(),
        tensors,
    }))
}

/// Safetensors bytes of named tensors; the same tensors give the same bytes.
///
/// # Errors
/// [`Error::ElementType`] for anything but f32, i64, i32 and u8.
pub fn to_safetensors(tensors: &NamedTensors) -> Result<Vec<u8>> {
    let operation = "write safetensors";
    let refuse = |reason: String| Error::SafeTensors { operation, reason };
    let mut views = Vec::with_capacity(tensors.len());
    for (name, data) in tensors {
        let dtype = file_type(name, data.dtype())?;
        let view = TensorView::new(dtype, data.shape().to_vec(), data.as_bytes())
            .map_err(|error| refuse(format!("tensor `{name}`: {error}")))?;
        views.push((name.as_str(), view));
    }
    // Readers in Python look for this entry. One entry only: the map has no order.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize(views, Some(metadata)).map_err(|error| refuse(error.to_string()))
}

/// Named tensors of safetensors bytes.
///
/// # Errors
/// [`Error::SafeTensors`] for bytes that are not such a file, [`Error::ElementType`] for other
/// element types, [`Error::NotFiniteTensor`] for NaN or infinity if they are to be refused.
pub fn from_safetensors(bytes: &[u8], non_finite: NonFinite) -> Result<NamedTensors> {
    let operation = "read safetensors";
    let file =
        safetensors::SafeTensors::deserialize(bytes).map_err(|error| Error::SafeTensors {
            operation,
            reason: error.to_string(),
        })?;
    let mut tensors = NamedTensors::new();
    for (name, view) in file.tensors() {
        let dtype = match view.dtype() {
            Dtype::F32 => DType::F32,
            Dtype::I64 => DType::I64,
            Dtype::I32 => DType::I32,
            Dtype::U8 => DType::U8,
            other => return Err(element_type(&name, format!("{other:?}"))),
        };
        if dtype == DType::F32 && non_finite == NonFinite::Refuse {
            refuse_non_finite(&name, view.data())?;
        }
        let data =
            TensorData::try_from_bytes_vec(view.data().to_vec(), view.shape().to_vec(), dtype)
                .map_err(|error| Error::SafeTensors {
                    operation,
                    reason: format!("tensor `{name}`: {error}"),
                })?;
        tensors.insert(name, data);
    }
    Ok(tensors)
}

/// [`named_tensors`] and [`to_safetensors`] in one.
///
/// # Errors
/// As those two.
pub fn save_module<M: Module>(module: &M) -> Result<Vec<u8>> {
    to_safetensors(&named_tensors(module)?)
}

/// [`from_safetensors`] and [`load_named_tensors`] in one.
///
/// # Errors
/// As those two.
pub fn load_module<M: Module>(
    module: M,
    bytes: &[u8],
    non_finite: NonFinite,
    operation: &'static str,
) -> Result<M> {
    load_named_tensors(module, from_safetensors(bytes, non_finite)?, operation)
}

/// The type of a tensor in a safetensors file.
pub(crate) fn file_type(name: &str, dtype: DType) -> Result<Dtype> {
    Ok(match dtype {
        DType::F32 => Dtype::F32,
        DType::I64 => Dtype::I64,
        DType::I32 => Dtype::I32,
        DType::U8 => Dtype::U8,
        other => return Err(element_type(name, format!("{other:?}"))),
    })
}

pub(crate) fn element_type(name: &str, found: String) -> Error {
    Error::ElementType {
        name: name.to_owned(),
        found,
    }
}

fn refuse_non_finite(name: &str, bytes: &[u8]) -> Result<()> {
    let (chunks, _) = bytes.as_chunks::<4>();
    for (index, chunk) in chunks.iter().enumerate() {
        let value = f32::from_le_bytes(*chunk);
        if !value.is_finite() {
            return Err(Error::NotFiniteTensor {
                name: name.to_owned(),
                index,
                value,
            });
        }
    }
    Ok(())
}

fn describe(kind: &str, shape: &[usize]) -> String {
    format!("{kind} {shape:?}")
}

fn describe_data(data: &TensorData) -> String {
    let kind = match data.dtype() {
        DType::F32 => "float",
        DType::I64 | DType::I32 => "int",
        DType::U8 => "bool",
        other => return describe(&format!("{other:?}"), data.shape()),
    };
    describe(kind, data.shape())
}

/// Where a visitor or mapper stands in the module tree.
#[derive(Debug, Default)]
pub(crate) struct Path(Vec<String>);

impl Path {
    pub(crate) fn enter(&mut self, name: &str) {
        self.0.push(name.to_owned());
    }

    pub(crate) fn exit(&mut self) {
        self.0.pop();
    }

    pub(crate) fn name(&self) -> String {
        self.0.join(".")
    }
}

/// Kind and shape of every parameter, without initialising lazy ones.
#[derive(Default)]
struct Shapes {
    path: Path,
    shapes: BTreeMap<String, String>,
}

impl ModuleVisitor for Shapes {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let shape = describe("float", param.lazy_shape().as_slice());
        self.shapes.insert(self.path.name(), shape);
    }

    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
        let shape = describe("int", param.lazy_shape().as_slice());
        self.shapes.insert(self.path.name(), shape);
    }

    fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<D, Bool>>) {
        let shape = describe("bool", param.lazy_shape().as_slice());
        self.shapes.insert(self.path.name(), shape);
    }
}

struct Replace {
    path: Path,
    tensors: NamedTensors,
}

impl ModuleMapper for Replace {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(data) = self.tensors.remove(&self.path.name()) else {
            return param;
        };
        let (id, tensor) = (param.id, Tensor::from_data(data, &param.lazy_device()));
        param.transform_for_load(tensor, id)
    }

    fn map_int<const D: usize>(&mut self, param: Param<Tensor<D, Int>>) -> Param<Tensor<D, Int>> {
        let Some(data) = self.tensors.remove(&self.path.name()) else {
            return param;
        };
        let (id, tensor) = (param.id, Tensor::from_data(data, &param.lazy_device()));
        param.transform_for_load(tensor, id)
    }

    fn map_bool<const D: usize>(
        &mut self,
        param: Param<Tensor<D, Bool>>,
    ) -> Param<Tensor<D, Bool>> {
        let Some(data) = self.tensors.remove(&self.path.name()) else {
            return param;
        };
        let data = data.convert::<bool>();
        let (id, tensor) = (param.id, Tensor::from_data(data, &param.lazy_device()));
        param.transform_for_load(tensor, id)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use burn::module::ParamId;
    use burn::tensor::Device;
    use proptest::prelude::*;

    use super::*;

    #[derive(Module, Debug)]
    struct Inner {
        weight: Param<Tensor<2>>,
        frozen: Param<Tensor<1>>,
    }

    #[derive(Module, Debug)]
    struct Outer {
        layers: Vec<Inner>,
        ids: Param<Tensor<1, Int>>,
        mask: Param<Tensor<1, Bool>>,
    }

    fn outer(first: f32, device: &Device) -> Outer {
        let inner = |x: f32| Inner {
            weight: Param::from_data([[x, x + 0.25, -x]], device),
            frozen: Param::from_data([x * 10.0], device).set_require_grad(false),
        };
        Outer {
            layers: vec![inner(first), inner(first + 1.0)],
            ids: Param::initialized(
                ParamId::new(),
                Tensor::from_data([first as i64, -3, 2_000_000], device),
            ),
            mask: Param::initialized(
                ParamId::new(),
                Tensor::from_data([true, false, first > 0.0], device),
            ),
        }
    }

    fn device() -> Device {
        Device::flex().autodiff()
    }

    #[test]
    fn names_are_paths() {
        let names: Vec<String> = named_tensors(&outer(1.0, &device()))
            .unwrap()
            .into_keys()
            .collect();
        assert_eq!(
            names,
            [
                "ids",
                "layers.0.frozen",
                "layers.0.weight",
                "layers.1.frozen",
                "layers.1.weight",
                "mask"
            ]
        );
    }

    #[test]
    fn a_module_survives_bytes_and_keeps_its_flags() {
        let source = outer(1.0, &device());
        let bytes = save_module(&source).unwrap();
        assert_eq!(bytes, save_module(&source).unwrap());
        for target in [outer(0.0, &device()), outer(0.0, &Device::flex())] {
            let flag = target.layers[0].weight.val().is_require_grad();
            let loaded = load_module(target, &bytes, NonFinite::Refuse, "test").unwrap();
            assert_eq!(save_module(&loaded).unwrap(), bytes);
            assert_eq!(loaded.layers[0].weight.val().is_require_grad(), flag);
            assert!(!loaded.layers[1].frozen.val().is_require_grad());
        }
    }

    #[test]
    fn a_loaded_module_trains() {
        let bytes = save_module(&outer(1.0, &device())).unwrap();
        let loaded = load_module(outer(0.0, &device()), &bytes, NonFinite::Refuse, "test").unwrap();
        let weight = loaded.layers[0].weight.val();
        let grads = (weight.clone() * weight.clone()).sum().backward();
        let grad = weight.grad(&grads).unwrap().into_data();
        // d sum(w^2) / dw = 2 w, w = (1, 1.25, -1)
        assert_eq!(grad.try_to_vec::<f32>().unwrap(), [2.0, 2.5, -2.0]);
    }

    #[test]
    fn all_differences_are_listed_at_once() {
        let module = outer(1.0, &device());
        let mut tensors = named_tensors(&module).unwrap();
        tensors.remove("ids");
        tensors.insert("layers.7.weight".into(), TensorData::from([1.0f32]));
        tensors.insert(
            "layers.0.weight".into(),
            TensorData::from([1.0f32, 2.0, 3.0]),
        );
        tensors.insert("layers.0.frozen".into(), TensorData::from([1i64]));
        let Err(Error::Tensors {
            missing,
            unexpected,
            mismatched,
            ..
        }) = load_named_tensors(module, tensors, "test")
        else {
            panic!("expected a refusal");
        };
        assert_eq!(missing, ["ids"]);
        assert_eq!(unexpected, ["layers.7.weight"]);
        let shown: Vec<String> = mismatched.iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                "layers.0.frozen: expected float [1], found int [1]",
                "layers.0.weight: expected float [1, 3], found float [3]"
            ]
        );
    }

    #[test]
    fn non_finite_weights_are_refused_unless_allowed() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let tensors = NamedTensors::from([("w".into(), TensorData::from([0.0f32, bad]))]);
            let bytes = to_safetensors(&tensors).unwrap();
            let refused = from_safetensors(&bytes, NonFinite::Refuse);
            assert!(
                matches!(&refused, Err(Error::NotFiniteTensor { name, index: 1, .. }) if name == "w"),
                "{refused:?}"
            );
            assert_eq!(from_safetensors(&bytes, NonFinite::Allow).unwrap().len(), 1);
        }
    }

    #[test]
    fn other_element_types_are_refused() {
        let tensors = NamedTensors::from([("w".into(), TensorData::from([1.0f64]))]);
        assert!(
            matches!(to_safetensors(&tensors), Err(Error::ElementType { name, .. }) if name == "w")
        );
        let data = 1.0f64.to_le_bytes();
        let view = TensorView::new(Dtype::F64, vec![1], &data).unwrap();
        let bytes = safetensors::serialize([("w", view)], None).unwrap();
        let refused = from_safetensors(&bytes, NonFinite::Allow);
        assert!(matches!(refused, Err(Error::ElementType { .. })));
    }

    #[test]
    fn a_file_cut_at_any_byte_is_refused() {
        let bytes = save_module(&outer(1.0, &device())).unwrap();
        for cut in 0..bytes.len() {
            let refused = from_safetensors(&bytes[..cut], NonFinite::Refuse);
            assert!(
                matches!(refused, Err(Error::SafeTensors { .. })),
                "cut at {cut}"
            );
        }
        assert!(from_safetensors(&bytes, NonFinite::Refuse).is_ok());
    }

    #[test]
    fn a_huge_header_length_is_refused() {
        let mut bytes = save_module(&outer(1.0, &device())).unwrap();
        bytes[..8].copy_from_slice(&u64::MAX.to_le_bytes());
        let refused = from_safetensors(&bytes, NonFinite::Refuse);
        assert!(matches!(refused, Err(Error::SafeTensors { .. })));
    }

    proptest! {
        #[test]
        fn every_bit_survives(bits in proptest::collection::vec(any::<u32>(), 0..40)) {
            let values: Vec<f32> = bits.iter().map(|b| f32::from_bits(*b)).collect();
            let n = values.len();
            let tensors = NamedTensors::from([("w".into(), TensorData::new(values, [n]))]);
            let bytes = to_safetensors(&tensors).unwrap();
            let back = from_safetensors(&bytes, NonFinite::Allow).unwrap();
            prop_assert_eq!(back["w"].as_bytes(), tensors["w"].as_bytes());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = from_safetensors(&bytes, NonFinite::Refuse);
        }
    }
}
