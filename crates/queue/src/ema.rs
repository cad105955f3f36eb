//! The momentum (exponential moving average) update of a module.

use std::any::Any;
use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::Tensor;

use crate::error::{QueueError, Result};

/// A copy of `online` to start a momentum module from: same values, no autodiff, no gradients.
///
/// The copy shares storage with `online` until one of the two changes.
#[must_use]
pub fn momentum_copy<M: Module>(online: &M) -> M {
    online.valid().no_grad()
}

/// The momentum update of every float parameter:
///
/// ```text
/// theta_m <- m * theta_m + (1 - m) * theta
/// ```
///
/// `theta_m` are the parameters of `momentum`, `theta` those of `online`. They are matched by their
/// path inside the module, not by parameter id, so a momentum module may come from a file. Integer and
/// boolean parameters and everything that is not a parameter stay as they are in `momentum`.
///
/// The result keeps no graph and requires no gradient. Both numbers m and 1 - m are formed in double
/// precision. Hand `momentum` in by value and keep no clone of it: its storage is then scaled in
/// place, and the only temporary is one scaled copy of the parameter at hand.
/// Source: published code of DOWN and STAR (m = 0.99, backbone only: pass the backbone).
///
/// ```
/// use burn::module::{Module, Param};
/// use burn::tensor::{Device, Tensor};
/// use queue::{momentum_copy, update_momentum};
///
/// #[derive(Module, Debug)]
/// struct Scale {
///     weight: Param<Tensor<1>>,
/// }
/// let device = Device::flex();
/// let online = Scale { weight: Param::from_tensor(Tensor::from_floats([1.0, 2.0], &device)) };
/// let slow = Scale { weight: Param::from_tensor(Tensor::zeros([2], &device)) };
/// let slow = update_momentum(momentum_copy(&slow), &online, 0.75)?;
/// assert_eq!(slow.weight.val().into_data().try_to_vec::<f32>().unwrap_or_default(), [0.25, 0.5]);
/// # Ok::<(), queue::QueueError>(())
/// ```
///
/// # Errors
/// [`QueueError::InvalidParameter`] if `m` is not in 0..=1, [`QueueError::ParameterMismatch`] if the
/// two modules differ in their float parameters or shapes.
pub fn update_momentum<M: Module>(momentum: M, online: &M, m: f64) -> Result<M> {
    if !(0.0..=1.0).contains(&m) {
        return Err(QueueError::parameter("momentum", "a number in 0..=1", m));
    }
    let mut source = Collect::default();
    online.visit(&mut source);
    let mut check = Check {
        path: Vec::new(),
        online: &source.tensors,
        seen: 0,
        error: None,
    };
    momentum.visit(&mut check);
    if let Some(error) = check.error {
        return Err(error);
    }
    if check.seen != source.tensors.len() {
        return Err(unknown_parameter(&momentum, &source.tensors));
    }
    let mut average = Average {
        path: Vec::new(),
        online: source.tensors,
        m,
    };
    Ok(momentum.map(&mut average))
}

/// A float tensor of any rank with its shape; the rank is recovered by a downcast.
struct Source {
    tensor: Box<dyn Any>,
    shape: Vec<usize>,
}

/// Collects handles to all float parameters of the online module by path.
#[derive(Default)]
struct Collect {
    path: Vec<String>,
    tensors: BTreeMap<String, Source>,
}

impl ModuleVisitor for Collect {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = param.base().without_autodiff();
        self.tensors.insert(
            self.path.join("."),
            Source {
                shape: tensor.dims().to_vec(),
                tensor: Box::new(tensor),
            },
        );
    }
}

/// Compares the momentum module with what was collected, before anything changes.
struct Check<'a> {
    path: Vec<String>,
    online: &'a BTreeMap<String, Source>,
    seen: usize,
    error: Option<QueueError>,
}

impl ModuleVisitor for Check<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.seen += 1;
        let path = self.path.join(".");
        let shape = param.lazy_shape().to_vec();
        let found = match self.online.get(&path) {
            Some(source) if source.shape == shape => return,
            Some(source) => format!("shape {:?}", source.shape),
            None => "no such parameter in the online module".to_owned(),
        };
        self.error.get_or_insert(QueueError::ParameterMismatch {
            path,
            expected: format!("shape {shape:?}"),
            found,
        });
    }
}

/// Maps every float parameter to its average.
struct Average {
    path: Vec<String>,
    online: BTreeMap<String, Source>,
    m: f64,
}

impl ModuleMapper for Average {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        // Removing the handle lets the online tensor be released as soon as it was used.
        let online = self
            .online
            .remove(&self.path.join("."))
            .and_then(|source| source.tensor.downcast::<Tensor<D>>().ok());
        let Some(online) = online else {
            return param; // unreachable after the check
        };
        let m = self.m;
        param
            .map(|slow| {
                let tracked = slow.is_autodiff();
                let slow = slow.without_autodiff();
                let online = online.to_device(&slow.device()).cast(slow.dtype());
                // m = 1 and m = 0 are exact: 0 * infinity or 0 * NaN must not leak in.
                let next = if m == 1.0 {
                    slow
                } else if m == 0.0 {
                    online
                } else {
                    kernels::lerp(slow, online, m)
                };
                if tracked { next.autodiff() } else { next }
            })
            .set_require_grad(false)
    }
}

/// Names the first parameter that only the online module has.
fn unknown_parameter<M: Module>(momentum: &M, online: &BTreeMap<String, Source>) -> QueueError {
    let mut own = Collect::default();
    momentum.visit(&mut own);
    let extra = online
        .iter()
        .find(|(path, _)| !own.tensors.contains_key(*path));
    let (path, found) = extra.map_or_else(
        || ("".to_owned(), "a different number of parameters".to_owned()),
        |(path, source)| (path.clone(), format!("shape {:?}", source.shape)),
    );
    QueueError::ParameterMismatch {
        path,
        expected: "no such parameter in the momentum module".to_owned(),
        found,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use burn::tensor::{Device, Int, TensorData};
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    #[derive(Module, Debug)]
    struct Layer {
        weight: Param<Tensor<2>>,
        bias: Option<Param<Tensor<1>>>,
        position: Param<Tensor<1, Int>>,
    }

    #[derive(Module, Debug)]
    struct Net {
        layers: Vec<Layer>,
        scale: Param<Tensor<1>>,
    }

    /// `biases[l]` says whether layer l has a bias; layer l is `[3 + l, 2]`.
    fn net(biases: &[bool], seed: u64, device: &Device) -> Net {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut draw =
            |n: usize| -> Vec<f32> { (0..n).map(|_| rng.random_range(-2.0..2.0)).collect() };
        let layers = biases
            .iter()
            .enumerate()
            .map(|(l, &bias)| Layer {
                weight: Param::from_tensor(Tensor::from_data(
                    TensorData::new(draw((3 + l) * 2), [3 + l, 2]),
                    device,
                )),
                bias: bias.then(|| {
                    Param::from_tensor(Tensor::from_data(TensorData::new(draw(2), [2]), device))
                }),
                position: Param::initialized(
                    burn::module::ParamId::new(),
                    Tensor::from_data(TensorData::new(vec![seed as i32], [1]), device),
                ),
            })
            .collect();
        Net {
            layers,
            scale: Param::from_tensor(Tensor::from_data(TensorData::new(draw(1), [1]), device)),
        }
    }

    fn values<const D: usize>(param: &Param<Tensor<D>>) -> Vec<f32> {
        param.val().into_data().try_into_vec().unwrap()
    }

    fn all(net: &Net) -> Vec<f32> {
        let mut out = Vec::new();
        for layer in &net.layers {
            out.extend(values(&layer.weight));
            out.extend(layer.bias.as_ref().map(values).unwrap_or_default());
        }
        out.extend(values(&net.scale));
        out
    }

    #[test]
    fn equals_a_plain_loop_over_many_steps() {
        let device = Device::flex().autodiff();
        for m in [0.0, 0.5, 0.9, 0.99, 0.999, 1.0] {
            let start = net(&[true, false, true], 1, &device);
            let mut expected: Vec<f64> = all(&start).into_iter().map(f64::from).collect();
            let mut slow = momentum_copy(&start);
            for step in 0..25 {
                let online = net(&[true, false, true], 100 + step, &device);
                slow = update_momentum(slow, &online, m).unwrap();
                for (e, o) in expected.iter_mut().zip(all(&online)) {
                    *e = m * *e + (1.0 - m) * f64::from(o);
                }
            }
            let largest = expected.iter().fold(0.0_f64, |a, e| a.max(e.abs()));
            for (got, e) in all(&slow).into_iter().zip(&expected) {
                assert!(
                    (f64::from(got) - e).abs() <= 1e-7 + 1e-6 * largest,
                    "m {m}: {got} {e}"
                );
            }
        }
    }

    #[test]
    fn keeps_no_gradient_and_leaves_the_online_module_alone() {
        let device = Device::flex().autodiff();
        let online = net(&[true], 5, &device);
        let before = all(&online);
        // Both kinds of momentum module: outside autodiff, and on the autodiff device.
        for slow in [
            momentum_copy(&online),
            net(&[true], 6, &device).no_grad(),
            net(&[true], 7, &device),
        ] {
            let tracked = slow.scale.val().is_autodiff();
            let slow = update_momentum(slow, &online, 0.9).unwrap();
            assert_eq!(slow.scale.val().is_autodiff(), tracked);
            assert!(!slow.scale.val().is_require_grad());
            assert!(!slow.scale.val().is_tracked());
            assert!(!slow.layers[0].weight.val().is_require_grad());
            assert!(!slow.train().scale.val().is_require_grad());
        }
        assert!(online.scale.val().is_require_grad());
        assert_eq!(all(&online), before);
    }

    #[test]
    fn is_matched_by_path_and_leaves_integers_alone() {
        let device = Device::flex();
        // Different parameter ids everywhere: only paths agree.
        let (slow, online) = (
            net(&[true, true], 1, &device),
            net(&[true, true], 2, &device),
        );
        let (a, b) = (all(&slow), all(&online));
        let slow = update_momentum(slow, &online, 0.25).unwrap();
        for ((got, a), b) in all(&slow).into_iter().zip(a).zip(b) {
            assert!((got - (0.25 * a + 0.75 * b)).abs() < 1e-6);
        }
        let position: Vec<i32> = slow.layers[1]
            .position
            .val()
            .into_data()
            .iter::<i32>()
            .collect();
        assert_eq!(position, [1]);
    }

    #[test]
    fn the_first_update_of_a_copy_does_not_write_into_the_online_module() {
        let device = Device::flex();
        let online = net(&[true], 3, &device);
        let before = all(&online);
        let slow = momentum_copy(&online);
        let other = net(&[true], 4, &device);
        let slow = update_momentum(slow, &other, 0.5).unwrap();
        assert_eq!(all(&online), before);
        assert_ne!(all(&slow), before);
    }

    #[test]
    fn modules_built_differently_are_refused_by_name() {
        let device = Device::flex();
        let base = || net(&[true, false], 1, &device);
        let cases = [
            (net(&[true, true], 2, &device), "layers.1.bias"),
            (net(&[true], 2, &device), "layers.1.weight"),
            (net(&[false, false], 2, &device), "layers.0.bias"),
            (net(&[true, false, false], 2, &device), "layers.2.weight"),
        ];
        for (online, path) in cases {
            let error = update_momentum(base(), &online, 0.9).unwrap_err();
            assert!(
                matches!(&error, QueueError::ParameterMismatch { path: p, .. } if p == path),
                "{error}"
            );
        }
        let mut wrong = base();
        wrong.scale = Param::from_tensor(Tensor::zeros([4], &device));
        let error = update_momentum(base(), &wrong, 0.9)
            .unwrap_err()
            .to_string();
        assert!(error.contains("scale") && error.contains("[4]"), "{error}");
    }

    #[test]
    fn momentum_must_be_a_fraction() {
        let device = Device::flex();
        for m in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            assert!(update_momentum(net(&[], 1, &device), &net(&[], 2, &device), m).is_err());
        }
    }
}
