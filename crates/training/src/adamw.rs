//! AdamW over any module, with parameter groups chosen by path.
//!
//! ```text
//! g  <- grad_scale * g                       t = number of updates of this parameter, from 1
//! m  <- beta1 m + (1 - beta1) g              c1 = 1 - beta1^t
//! v  <- beta2 v + (1 - beta2) g^2            c2 = 1 - beta2^t
//!
//! BeforeStep: p <- (1 - lr wd) p;  p <- p - lr (m / c1) / (sqrt(v / c2) + eps)
//! AfterStep:  p <- p - lr sqrt(c2) / c1 m / (sqrt(v) + eps);  p <- (1 - lr wd) p
//! ```
//!
//! `BeforeStep` is Loshchilov and Hutter, "Decoupled Weight Decay Regularization" (2019), as
//! PyTorch computes it. `AfterStep` is what version 4.15 of the transformers package computes, with
//! which DOWN and STAR were trained.
//!
//! A parameter without a gradient is left alone: neither its value nor its moments nor its count of
//! updates change.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{DType, Device, Gradients, Tensor, TensorData};
use kernels::{AdamWUpdate, DecayOrder, adamw_update};

use crate::deferred_tensors::DeferredTensors;
use crate::error::{Error, Mismatch, Result};
use crate::module_state::{NamedTensors, Path};

/// A choice of parameters by path (`layers.0.attention.query.weight`).
#[derive(Clone)]
pub struct PathPredicate {
    name: String,
    test: Arc<dyn Fn(&str) -> bool + Send + Sync>,
}

impl PathPredicate {
    /// Any test; `name` is shown when the predicate is printed.
    pub fn new(
        name: impl Into<String>,
        test: impl Fn(&str) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            test: Arc::new(test),
        }
    }

    /// Paths that contain one of `patterns`, case and all.
    pub fn contains_any(patterns: &[&str]) -> Self {
        let owned: Vec<String> = patterns.iter().map(|&p| p.to_owned()).collect();
        Self::new(format!("contains {patterns:?}"), move |path| {
            owned.iter().any(|p| path.contains(p.as_str()))
        })
    }

    /// Everything below the module `prefix` (whole path parts: `head` does not select `header.w`).
    pub fn below(prefix: &str) -> Self {
        let owned = prefix.to_owned();
        Self::new(format!("below {prefix}"), move |path| {
            path.strip_prefix(owned.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
    }

    /// No parameter.
    pub fn none() -> Self {
        Self::new("none", |_| false)
    }

    /// Biases and the scale and shift of normalisation layers: the last part of the path is `bias`,
    /// `gamma` or `beta`, or some part contains `layernorm` or `layer_norm` in any case.
    ///
    /// On a BERT this selects what the published code selects with the substrings `bias`,
    /// `LayerNorm.bias` and `LayerNorm.weight`.
    pub fn bias_and_norm() -> Self {
        Self::new("bias and norm", |path| {
            let last = path.rsplit('.').next().unwrap_or(path);
            let lower = path.to_ascii_lowercase();
            matches!(last, "bias" | "gamma" | "beta")
                || lower.contains("layernorm")
                || lower.contains("layer_norm")
        })
    }

    /// Whether the parameter at `path` is chosen.
    pub fn matches(&self, path: &str) -> bool {
        (self.test)(path)
    }
}

impl fmt::Debug for PathPredicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PathPredicate({})", self.name)
    }
}

/// Settings of [`AdamW`].
#[derive(Debug, Clone)]
pub struct AdamWConfig {
    /// Decay of the first moment, in `0..1`; 0.9.
    pub beta1: f64,
    /// Decay of the second moment, in `0..1`; 0.999.
    pub beta2: f64,
    /// Added to the root of the second moment; above 0. 1e-8 as in PyTorch; transformers 4.15 has
    /// 1e-6.
    pub eps: f64,
    /// Decoupled weight decay, at least 0; 0.01.
    pub weight_decay: f64,
    /// Order of decay and step.
    pub decay_order: DecayOrder,
    /// Parameters without weight decay; [`PathPredicate::bias_and_norm`].
    pub no_decay: PathPredicate,
    /// Learning-rate multipliers: the first entry that matches a path counts, others get 1.
    pub lr_multipliers: Vec<(PathPredicate, f64)>,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.01,
            decay_order: DecayOrder::BeforeStep,
            no_decay: PathPredicate::bias_and_norm(),
            lr_multipliers: Vec::new(),
        }
    }
}

impl AdamWConfig {
    /// The optimiser of transformers 4.15: `eps` 1e-6 on the uncorrected root, decay after the step.
    pub fn transformers() -> Self {
        Self {
            eps: 1e-6,
            decay_order: DecayOrder::AfterStep,
            ..Self::default()
        }
    }

    fn check(&self) -> Result<()> {
        let refuse = |field: &str, expected: &str, found: f64| {
            Err(Error::Setting {
                operation: "set up AdamW",
                field: field.to_owned(),
                expected: expected.to_owned(),
                found: found.to_string(),
            })
        };
        for (field, beta) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            if !(0.0..1.0).contains(&beta) {
                return refuse(field, "0 up to but not 1", beta);
            }
        }
        if !(self.eps.is_finite() && self.eps > 0.0) {
            return refuse("eps", "a finite number above 0", self.eps);
        }
        if !(self.weight_decay.is_finite() && self.weight_decay >= 0.0) {
            let expected = "a finite number of at least 0";
            return refuse("weight_decay", expected, self.weight_decay);
        }
        for (_, factor) in &self.lr_multipliers {
            if !(factor.is_finite() && *factor >= 0.0) {
                return refuse("lr_multipliers", "finite numbers of at least 0", *factor);
            }
        }
        Ok(())
    }
}

struct Moments {
    m: Tensor<1>,
    v: Tensor<1>,
    shape: Vec<usize>,
    step: u64,
}

/// AdamW with the moments of every parameter that has had a gradient.
pub struct AdamW {
    config: AdamWConfig,
    moments: BTreeMap<String, Moments>,
}

impl fmt::Debug for AdamW {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdamW")
            .field("config", &self.config)
            .field("parameters", &self.moments.len())
            .finish()
    }
}

impl AdamW {
    /// An optimiser without state.
    ///
    /// # Errors
    /// [`Error::Setting`] for a setting outside its range.
    pub fn new(config: AdamWConfig) -> Result<Self> {
        config.check()?;
        Ok(Self {
            config,
            moments: BTreeMap::new(),
        })
    }

    /// One update of every parameter that has an entry in `grads`; entries used are removed.
    /// `grad_scale` comes from [`clip`](crate::clip()).
    ///
    /// # Errors
    /// [`Error::Setting`] for a rate that is negative or not finite; [`Error::Tensors`] if the state
    /// belongs to a module of another shape.
    pub fn step<M: Module>(
        &mut self,
        lr: f64,
        module: M,
        grads: &mut Gradients,
        grad_scale: f32,
    ) -> Result<M> {
        if !(lr.is_finite() && lr >= 0.0) {
            return Err(Error::Setting {
                operation: "AdamW step",
                field: "lr".into(),
                expected: "a finite number of at least 0".into(),
                found: lr.to_string(),
            });
        }
        let mut update = Update {
            optimiser: self,
            grads,
            lr,
            grad_scale,
            path: Path::default(),
            mismatched: Vec::new(),
        };
        let module = module.map(&mut update);
        match update.mismatched {
            mismatched if mismatched.is_empty() => Ok(module),
            mismatched => Err(tensors_error("AdamW step", vec![], vec![], mismatched)),
        }
    }

    /// The state as named tensors: `m/<path>` and `v/<path>` (f32, shape of the parameter) and
    /// `step/<path>` (i64, `[1]`).
    ///
    /// # Errors
    /// [`Error::SafeTensors`] if a moment cannot be read back as f32.
    pub fn state(&self) -> Result<NamedTensors> {
        self.deferred_state().read()
    }

    /// The same tensors, read one at a time while they are written.
    pub fn deferred_state(&self) -> DeferredTensors {
        let mut out = DeferredTensors::default();
        for (path, moments) in &self.moments {
            for (kind, tensor) in [("m", &moments.m), ("v", &moments.v)] {
                let (name, shape) = (format!("{kind}/{path}"), moments.shape.clone());
                let tensor = tensor.clone();
                let read = move || tensor.clone().into_data();
                out.insert(name, DType::F32, shape, read);
            }
            let step = i64::try_from(moments.step).unwrap_or(i64::MAX);
            let read = move || TensorData::new(vec![step], [1]);
            out.insert(format!("step/{path}"), DType::I64, vec![1], read);
        }
        out
    }

    /// Replaces the state by one made with [`state`](Self::state) for a module of the same
    /// structure. Parameters that never had a gradient may be absent.
    ///
    /// # Errors
    /// [`Error::Tensors`] with every incomplete, unknown and mis-shaped entry; the old state stays.
    pub fn load_state<M: Module>(&mut self, module: &M, mut tensors: NamedTensors) -> Result<()> {
        let mut places = Places::default();
        module.visit(&mut places);
        let (mut missing, mut mismatched) = (Vec::new(), Vec::new());
        let mut moments = BTreeMap::new();
        for (path, (shape, device)) in places.places {
            let names = ["m", "v", "step"].map(|kind| format!("{kind}/{path}"));
            let found = names.each_ref().map(|name| tensors.remove(name));
            let [Some(m), Some(v), Some(step)] = found else {
                if found.iter().any(Option::is_some) {
                    let absent = names.iter().zip(&found).filter(|(_, f)| f.is_none());
                    missing.extend(absent.map(|(name, _)| name.clone()));
                }
                continue;
            };
            let [m_name, v_name, step_name] = names;
            let read =
                |name: String, data: TensorData| moment_from_data(name, data, &shape, &device);
            match (
                read(m_name, m),
                read(v_name, v),
                read_step(step_name, &step),
            ) {
                (Ok(m), Ok(v), Ok(step)) => {
                    moments.insert(path, Moments { m, v, shape, step });
                }
                (m, v, step) => {
                    mismatched.extend([m.err(), v.err(), step.err()].into_iter().flatten());
                }
            }
        }
        let unexpected: Vec<String> = tensors.into_keys().collect();
        if !(missing.is_empty() && unexpected.is_empty() && mismatched.is_empty()) {
            let operation = "load the optimiser state";
            return Err(tensors_error(operation, missing, unexpected, mismatched));
        }
        self.moments = moments;
        Ok(())
    }

    fn hyper(&self, path: &str, lr: f64, grad_scale: f32, step: u64) -> AdamWUpdate {
        let config = &self.config;
        let factor = config
            .lr_multipliers
            .iter()
            .find(|(group, _)| group.matches(path))
            .map_or(1.0, |(_, factor)| *factor);
        AdamWUpdate {
            lr: lr * factor,
            beta1: config.beta1,
            beta2: config.beta2,
            eps: config.eps,
            weight_decay: if config.no_decay.matches(path) {
                0.0
            } else {
                config.weight_decay
            },
            order: config.decay_order,
            step,
            grad_scale,
        }
    }
}

fn tensors_error(
    operation: &'static str,
    missing: Vec<String>,
    unexpected: Vec<String>,
    mismatched: Vec<Mismatch>,
) -> Error {
    Error::Tensors {
        operation,
        missing,
        unexpected,
        mismatched,
    }
}

fn moment_from_data(
    name: String,
    data: TensorData,
    shape: &[usize],
    device: &Device,
) -> Result<Tensor<1>, Mismatch> {
    let mismatch = |found: String| Mismatch {
        name: name.clone(),
        expected: format!("F32 {shape:?}"),
        found,
    };
    if data.dtype() != DType::F32 || data.shape().as_slice() != shape {
        let found = format!("{:?} {:?}", data.dtype(), data.shape().as_slice());
        return Err(mismatch(found));
    }
    let (bytes, _, dtype) = data.into_parts();
    let elements = [shape.iter().product::<usize>()];
    let flat = TensorData::try_from_bytes(bytes, elements, dtype)
        .map_err(|error| mismatch(error.to_string()))?;
    Ok(Tensor::from_data(flat, device))
}

fn read_step(name: String, data: &TensorData) -> Result<u64, Mismatch> {
    let value = match data.as_slice::<i64>() {
        Ok([step]) => u64::try_from(*step).ok(),
        _ => None,
    };
    value.ok_or_else(|| Mismatch {
        name,
        expected: "I64 [1], at least 0".to_owned(),
        found: data.to_string(),
    })
}

struct Update<'a> {
    optimiser: &'a mut AdamW,
    grads: &'a mut Gradients,
    lr: f64,
    grad_scale: f32,
    path: Path,
    mismatched: Vec<Mismatch>,
}

impl ModuleMapper for Update<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(grad) = param.base().grad_remove(self.grads) else {
            return param;
        };
        let path = self.path.name();
        let shape = grad.shape();
        let elements = [shape.num_elements()];
        let previous = self.optimiser.moments.remove(&path);
        let (m, v, step) = match previous {
            Some(moments) if moments.shape != shape.as_slice() => {
                self.mismatched.push(Mismatch {
                    name: path,
                    expected: format!("{:?} (optimiser state)", moments.shape),
                    found: format!("{:?} (parameter)", shape.as_slice()),
                });
                return param;
            }
            Some(moments) => (moments.m, moments.v, moments.step),
            None => {
                let zeros = Tensor::zeros(elements, &grad.device());
                (zeros.clone(), zeros, 0)
            }
        };
        let step = step.saturating_add(1);
        let hyper = self.optimiser.hyper(&path, self.lr, self.grad_scale, step);

        // Consuming before the update leaves one owner of the buffer, which can then be reused.
        let (id, value, mapper) = param.consume();
        let checkpointing = value.gradient_checkpointing_strategy();
        let flat = value.inner().reshape(elements);
        let (value, m, v) = adamw_update(flat, grad.reshape(elements), m, v, &hyper);
        let mut value = Tensor::<D>::from_inner(value.reshape(shape.clone()));
        if let Some(strategy) = checkpointing {
            value = value.with_gradient_checkpointing_strategy(strategy);
        }
        let moments = Moments {
            m,
            v,
            shape: shape.as_slice().to_vec(),
            step,
        };
        self.optimiser.moments.insert(path, moments);
        // Only a tensor that required a gradient has one.
        Param::from_mapped_value(id, value.require_grad(), mapper)
    }
}

#[derive(Default)]
struct Places {
    path: Path,
    places: BTreeMap<String, (Vec<usize>, Device)>,
}

impl ModuleVisitor for Places {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let shape = param.lazy_shape().as_slice().to_vec();
        let device = param.lazy_device().without_autodiff();
        self.places.insert(self.path.name(), (shape, device));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::module_state::{named_tensors, save_module};
    use crate::{clip, from_safetensors, to_safetensors};

    // Made by shared tooling with `make_golden.py --seed 7` (formulas in f64, `steps` also checked
    // against torch.optim.AdamW there).
    const GOLDEN: &str = include_str!("../tests/golden/adamw.json");

    #[derive(Module, Debug)]
    struct Regression {
        w: Param<Tensor<1>>,
        bias: Param<Tensor<1>>,
    }

    impl Regression {
        fn new(w: &[f32], b: &[f32], device: &Device) -> Self {
            Self {
                w: Param::from_data(TensorData::new(w.to_vec(), [w.len()]), device),
                bias: Param::from_data(TensorData::new(b.to_vec(), [b.len()]), device),
            }
        }

        /// `mean((X w + b - y)^2)`, x `[n, dim]`, y `[n]`.
        fn loss(&self, x: Tensor<2>, y: Tensor<1>) -> Tensor<1> {
            let error = (x * self.w.val().unsqueeze::<2>())
                .sum_dim(1)
                .squeeze_dim::<1>(1)
                + self.bias.val()
                - y;
            (error.clone() * error).mean()
        }
    }

    fn floats(tensor: &Value) -> Vec<f32> {
        let data = tensor["data"].as_array().unwrap();
        data.iter().map(|v| v.as_f64().unwrap() as f32).collect()
    }

    fn close(name: &str, got: &[f32], expected: &[f64]) {
        assert_eq!(got.len(), expected.len());
        let largest = expected.iter().fold(0f64, |a, b| a.max(b.abs()));
        for (g, e) in got.iter().zip(expected) {
            let error = (f64::from(*g) - e).abs();
            assert!(error <= 1e-6 + 5e-5 * largest, "{name}: {g} against {e}");
        }
    }

    fn tensor<const D: usize>(value: &Value, device: &Device) -> Tensor<D> {
        let shape: Vec<usize> = value["shape"]
            .as_array()
            .unwrap()
            .iter()
            .map(|n| n.as_u64().unwrap() as usize)
            .collect();
        Tensor::from_data(TensorData::new(floats(value), shape), device)
    }

    #[test]
    fn golden() {
        let golden: Value = serde_json::from_str(GOLDEN).unwrap();
        let device = Device::flex().autodiff();
        let mut compared = 0;
        for case in golden["cases"].as_array().unwrap() {
            let (params, inputs) = (&case["params"], &case["inputs"]);
            for (kind, order) in [
                ("steps", DecayOrder::BeforeStep),
                ("steps_alt", DecayOrder::AfterStep),
            ] {
                let mut optimiser = AdamW::new(AdamWConfig {
                    beta1: params["beta1"].as_f64().unwrap(),
                    beta2: params["beta2"].as_f64().unwrap(),
                    eps: params["eps"].as_f64().unwrap(),
                    weight_decay: params["weight_decay_w"].as_f64().unwrap(),
                    decay_order: order,
                    ..AdamWConfig::default()
                })
                .unwrap();
                let mut module =
                    Regression::new(&floats(&inputs["w0"]), &floats(&inputs["b0"]), &device);
                let lr = params["lr"].as_f64().unwrap();
                for (i, step) in case["expected"][kind]
                    .as_array()
                    .unwrap()
                    .iter()
                    .enumerate()
                {
                    let name = format!("{} {kind} {i}", case["name"]);
                    let loss =
                        module.loss(tensor(&inputs["X"], &device), tensor(&inputs["y"], &device));
                    let value = loss.clone().into_data().try_to_vec::<f32>().unwrap();
                    close(&name, &value, &[step["loss"].as_f64().unwrap()]);
                    let mut grads = loss.backward();
                    let clipped =
                        clip(&module, &grads, params["clip_norm"].as_f64(), i as u64).unwrap();
                    let norm = step["grad_norm"].as_f64().unwrap();
                    close(&name, &[clipped.norm as f32], &[norm]);
                    module = optimiser
                        .step(lr, module, &mut grads, clipped.scale)
                        .unwrap();
                    for (key, param) in [("w", &module.w), ("b", &module.bias)] {
                        let expected: Vec<f64> = step[key]["data"]
                            .as_array()
                            .unwrap()
                            .iter()
                            .map(|v| v.as_f64().unwrap())
                            .collect();
                        let got = param.val().into_data().try_to_vec::<f32>().unwrap();
                        close(&name, &got, &expected);
                        compared += 1;
                    }
                }
            }
        }
        assert_eq!(compared, 3 * 2 * 5 * 2);
    }

    #[derive(Module, Debug)]
    struct Groups {
        head: Param<Tensor<2>>,
        layer_norm: Param<Tensor<1>>,
        frozen: Param<Tensor<1>>,
        unused: Param<Tensor<1>>,
    }

    fn groups(device: &Device) -> Groups {
        Groups {
            head: Param::from_data([[2.0f32, -4.0]], device),
            layer_norm: Param::from_data([2.0f32], device),
            frozen: Param::from_data([3.0f32], device).set_require_grad(false),
            unused: Param::from_data([5.0f32], device),
        }
    }

    fn groups_loss(m: &Groups) -> Tensor<1> {
        m.head.val().sum() + m.layer_norm.val().sum() + m.frozen.val().sum()
    }

    fn value<const D: usize>(param: &Param<Tensor<D>>) -> Vec<f32> {
        param.val().into_data().try_to_vec().unwrap()
    }

    #[test]
    fn groups_decay_and_multiply() {
        // Gradient 1 everywhere: the first Adam step has length lr. With wd = 0.5:
        //   head (multiplier 2, lr 0.2): 2 (1 - 0.2 * 0.5) - 0.2 = 1.6;  -4 * 0.9 - 0.2 = -3.8
        //   layer_norm (no decay, lr 0.1): 2 - 0.1 = 1.9
        let device = Device::flex().autodiff();
        let mut optimiser = AdamW::new(AdamWConfig {
            weight_decay: 0.5,
            lr_multipliers: vec![(PathPredicate::below("head"), 2.0)],
            ..AdamWConfig::default()
        })
        .unwrap();
        let module = groups(&device);
        let mut grads = groups_loss(&module).backward();
        let module = optimiser.step(0.1, module, &mut grads, 1.0).unwrap();
        for (got, expected) in value(&module.head).iter().zip([1.6, -3.8]) {
            assert!((got - expected).abs() < 1e-6);
        }
        assert!((value(&module.layer_norm)[0] - 1.9).abs() < 1e-6);
        assert_eq!(value(&module.frozen), [3.0]);
        assert_eq!(value(&module.unused), [5.0]);
        assert!(module.head.val().is_require_grad());
        assert!(!module.frozen.val().is_require_grad());
        let names: Vec<String> = optimiser.state().unwrap().into_keys().collect();
        assert_eq!(
            names,
            [
                "m/head",
                "m/layer_norm",
                "step/head",
                "step/layer_norm",
                "v/head",
                "v/layer_norm"
            ]
        );
    }

    #[test]
    fn predicates() {
        let decay_free = PathPredicate::bias_and_norm();
        for path in [
            "layers.0.query.bias",
            "bias",
            "embeddings.LayerNorm.weight",
            "layers.1.layer_norm.gamma",
            "norm.beta",
        ] {
            assert!(decay_free.matches(path), "{path}");
        }
        for path in [
            "layers.0.query.weight",
            "star.base",
            "beta_head.weight",
            "debiased",
        ] {
            assert!(!decay_free.matches(path), "{path}");
        }
        assert!(PathPredicate::below("head").matches("head.w"));
        assert!(PathPredicate::below("head").matches("head"));
        assert!(!PathPredicate::below("head").matches("header.w"));
        assert!(PathPredicate::contains_any(&["x", "ea"]).matches("head"));
        assert!(!PathPredicate::none().matches("head"));
    }

    fn train(module: Groups, optimiser: &mut AdamW, steps: std::ops::Range<u32>) -> Groups {
        let mut module = module;
        for step in steps {
            let target = step as f32 * 0.37 - 1.0;
            let loss = module.head.val().sub_scalar(target).powi_scalar(2).sum()
                + module
                    .layer_norm
                    .val()
                    .add_scalar(target)
                    .powi_scalar(2)
                    .sum();
            let mut grads = loss.backward();
            module = optimiser.step(0.05, module, &mut grads, 0.7).unwrap();
        }
        module
    }

    #[test]
    fn state_survives_bytes_bit_for_bit() {
        let device = Device::flex().autodiff();
        for config in [AdamWConfig::default(), AdamWConfig::transformers()] {
            let mut straight = AdamW::new(config.clone()).unwrap();
            let expected = train(groups(&device), &mut straight, 0..9);

            let mut first = AdamW::new(config.clone()).unwrap();
            let halfway = train(groups(&device), &mut first, 0..4);
            let weights = save_module(&halfway).unwrap();
            let state = to_safetensors(&first.state().unwrap()).unwrap();

            let fresh =
                crate::load_module(groups(&device), &weights, crate::NonFinite::Refuse, "test")
                    .unwrap();
            let mut second = AdamW::new(config).unwrap();
            let state = from_safetensors(&state, crate::NonFinite::Refuse).unwrap();
            second.load_state(&fresh, state).unwrap();
            let resumed = train(fresh, &mut second, 4..9);

            assert_eq!(
                save_module(&resumed).unwrap(),
                save_module(&expected).unwrap()
            );
            assert_eq!(second.state().unwrap(), straight.state().unwrap());
        }
    }

    #[test]
    fn foreign_state_is_refused_and_the_old_one_kept() {
        let device = Device::flex().autodiff();
        let mut optimiser = AdamW::new(AdamWConfig::default()).unwrap();
        let module = train(groups(&device), &mut optimiser, 0..2);
        let good = optimiser.state().unwrap();

        let mut bad = good.clone();
        bad.remove("v/head");
        bad.insert("m/other".into(), TensorData::from([1.0f32]));
        bad.insert("m/layer_norm".into(), TensorData::from([1.0f32, 2.0]));
        bad.insert("step/layer_norm".into(), TensorData::from([-1i64]));
        let Err(Error::Tensors {
            missing,
            unexpected,
            mismatched,
            ..
        }) = optimiser.load_state(&module, bad)
        else {
            panic!("expected a refusal");
        };
        assert_eq!(missing, ["v/head"]);
        assert_eq!(unexpected, ["m/other"]);
        let names: Vec<&str> = mismatched.iter().map(|m| m.name.as_str()).collect();
        assert_eq!(names, ["m/layer_norm", "step/layer_norm"]);
        assert_eq!(optimiser.state().unwrap(), good);
    }

    #[test]
    fn a_module_of_another_shape_is_refused() {
        let device = Device::flex().autodiff();
        let mut optimiser = AdamW::new(AdamWConfig::default()).unwrap();
        train(groups(&device), &mut optimiser, 0..1);
        let mut other = groups(&device);
        other.head = Param::from_data([[1.0f32], [2.0]], &device);
        let mut grads = groups_loss(&other).backward();
        let refused = optimiser.step(0.1, other, &mut grads, 1.0);
        assert!(matches!(refused, Err(Error::Tensors { .. })));
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        let change: [fn(&mut AdamWConfig); 6] = [
            |c| c.beta1 = 1.0,
            |c| c.beta2 = -0.1,
            |c| c.eps = 0.0,
            |c| c.weight_decay = f64::NAN,
            |c| c.lr_multipliers = vec![(PathPredicate::none(), -1.0)],
            |c| c.beta1 = f64::NAN,
        ];
        for change in change {
            let mut config = AdamWConfig::default();
            change(&mut config);
            assert!(matches!(AdamW::new(config), Err(Error::Setting { .. })));
        }
        let device = Device::flex().autodiff();
        let mut optimiser = AdamW::new(AdamWConfig::default()).unwrap();
        let module = groups(&device);
        let mut grads = groups_loss(&module).backward();
        let refused = optimiser.step(f64::NAN, module, &mut grads, 1.0);
        assert!(matches!(refused, Err(Error::Setting { .. })));
    }

    /// The formulas at the head of this file, element by element in f64.
    fn slow(p: f64, g: f64, m: f64, v: f64, h: &AdamWUpdate) -> (f64, f64, f64) {
        let g = g * f64::from(h.grad_scale);
        let m = h.beta1 * m + (1.0 - h.beta1) * g;
        let v = h.beta2 * v + (1.0 - h.beta2) * g * g;
        let t = h.step as f64;
        let (c1, c2) = (1.0 - h.beta1.powf(t), 1.0 - h.beta2.powf(t));
        let p = match h.order {
            DecayOrder::BeforeStep => {
                let p = p - h.lr * h.weight_decay * p;
                p - h.lr * (m / c1) / ((v / c2).sqrt() + h.eps)
            }
            DecayOrder::AfterStep => {
                let p = p - h.lr * c2.sqrt() / c1 * m / (v.sqrt() + h.eps);
                p - h.lr * h.weight_decay * p
            }
        };
        (p, m, v)
    }

    proptest! {
        #[test]
        fn update_agrees_with_the_slow_form(
            values in proptest::collection::vec((-3f32..3.0, -3f32..3.0, -1f32..1.0, 1e-3f32..2.0), 1..20),
            lr in 0f64..0.1, wd in 0f64..0.5, step in 1u64..5000, scale in 0.1f32..1.0, after: bool,
        ) {
            let hyper = AdamWUpdate {
                lr, beta1: 0.9, beta2: 0.999, eps: 1e-6, weight_decay: wd, step, grad_scale: scale,
                order: if after { DecayOrder::AfterStep } else { DecayOrder::BeforeStep },
            };
            let device = Device::flex();
            let column = |f: fn(&(f32, f32, f32, f32)) -> f32| {
                let data: Vec<f32> = values.iter().map(f).collect();
                let n = data.len();
                Tensor::<1>::from_data(TensorData::new(data, [n]), &device)
            };
            let (p, m, v) = adamw_update(
                column(|x| x.0), column(|x| x.1), column(|x| x.2), column(|x| x.3), &hyper,
            );
            let [p, m, v] = [p, m, v].map(|t| t.into_data().try_to_vec::<f32>().unwrap());
            for (i, x) in values.iter().enumerate() {
                let (ep, em, ev) =
                    slow(x.0.into(), x.1.into(), x.2.into(), x.3.into(), &hyper);
                for (got, expected) in [(p[i], ep), (m[i], em), (v[i], ev)] {
                    prop_assert!((f64::from(got) - expected).abs() < 3e-6 * (1.0 + expected.abs()));
                }
            }
        }

        #[test]
        fn a_rate_of_zero_changes_no_weight(seed in 0u32..50) {
            let device = Device::flex().autodiff();
            let mut optimiser = AdamW::new(AdamWConfig::default()).unwrap();
            let module = groups(&device);
            let before = named_tensors(&module).unwrap();
            let mut grads = (groups_loss(&module) * seed as f32).backward();
            let module = optimiser.step(0.0, module, &mut grads, 1.0).unwrap();
            prop_assert_eq!(named_tensors(&module).unwrap(), before);
        }
    }
}
