//! Gradient accumulation and data parallelism: the gradient of a mean over rows from parts of a batch,
//! one after the other on one device or side by side on several.
//!
//! ```text
//! L = (1 / n) sum_i l_i        part p: n_p rows, L_p = (1 / n_p) sum_{i in p} l_i
//!
//! L = sum_p (n_p / n) L_p      dL = sum_p (n_p / n) dL_p
//! ```
//!
//! Both hold only where a row's loss does not depend on the other rows of its batch. Where rows are
//! compared with each other [`cached_backward`](crate::cached_backward) gives the gradient of the whole
//! batch instead.
//!
//! Every device has a replica of the module, made anew for every batch from the parameters on the main
//! device (`Module::fork`, as burn's own data-parallel strategy makes it), and gradients are added up on
//! the main device, part by part, in their order: the result does not depend on which device is the
//! fastest. One thread hands out the work. On devices that queue it, as GPUs do, the parts of a round
//! overlap, because nothing is read back here before all of them are handed out (and as long as the loss
//! reads nothing either); a CPU computes them one after the other.

use std::ops::Range;

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::container::TensorContainer;
use burn::tensor::{Device, Gradients, Tensor};

use crate::grad_cache::{add_gradient, add_gradients};

/// Rows `0..rows` in at most `parts` parts, in order, whose lengths differ by one at most. A part is
/// never empty: fewer rows than parts make as many parts as there are rows.
///
/// ```
/// assert_eq!(training::row_parts(7, 3), [0..2, 2..4, 4..7]);
/// assert_eq!(training::row_parts(2, 3), [0..1, 1..2]);
/// ```
pub fn row_parts(rows: usize, parts: usize) -> Vec<Range<usize>> {
    let parts = parts.clamp(1, rows.max(1));
    let cut = |part: usize| (part as u128 * rows as u128 / parts as u128) as usize;
    (0..parts)
        .map(|part| cut(part)..cut(part + 1))
        .filter(|part| !part.is_empty())
        .collect()
}

/// Value and gradients of a batch.
#[allow(missing_debug_implementations)]
pub struct AccumulatedBackward {
    /// The loss, `[1]`, on the main device, without gradient.
    pub loss: Tensor<1>,
    /// Gradients of every parameter of the module, on the main device.
    pub gradients: Gradients,
}

/// Value and gradients of a mean over the rows of all `parts`, each with the number of its rows.
///
/// Part `p` is computed on device `p mod (1 + others)`: 0 is the main device, that of `module`, and
/// `others` follow. As many parts as there are devices make a round, whose activations are held at the
/// same time. `loss` gives the mean loss `[1]` of a part from the replica on a device; whatever it draws
/// has to be seeded by the index of the part. `None` without parts.
///
/// # Errors
///
/// Those of `loss`.
///
/// # Example
///
/// ```
/// use burn::module::{Module, Param};
/// use burn::tensor::{Device, Tensor};
/// use training::accumulated_backward;
///
/// #[derive(Module, Debug)]
/// struct Scale { w: Param<Tensor<1>> }
///
/// # fn main() -> Result<(), String> {
/// let device = Device::flex();
/// let module = Scale { w: Param::from_tensor(Tensor::from_floats([2.0], &device.clone().autodiff())) };
/// // rows 1, 2 and 6; L = mean of w x, dL/dw = mean of x = 3; a second replica on the same device
/// let parts = [(2, vec![1.0f32, 2.0]), (1, vec![6.0])];
/// let done = accumulated_backward(&module, &device, &[device.clone()], &parts, |module, device, _, x| {
///     let x = Tensor::<1>::from_floats(x.as_slice(), device).autodiff();
///     Ok::<_, String>((x * module.w.val()).mean())
/// })?
/// .ok_or("no parts")?;
/// assert_eq!(done.loss.into_scalar::<f32>(), 6.0);
/// let gradient = module.w.val().grad(&done.gradients).ok_or("no gradient")?;
/// assert_eq!(gradient.into_scalar::<f32>(), 3.0);
/// # Ok(())
/// # }
/// ```
pub fn accumulated_backward<M: Module, P, E>(
    module: &M,
    main: &Device,
    others: &[Device],
    parts: &[(usize, P)],
    mut loss: impl FnMut(&M, &Device, usize, &P) -> Result<Tensor<1>, E>,
) -> Result<Option<AccumulatedBackward>, E> {
    let main = main.clone().inner();
    let rows: usize = parts.iter().map(|(rows, _)| rows).sum();
    // Parameters reach the other devices once a batch; a device without a part needs none.
    let used = others.len().min(parts.len().saturating_sub(1));
    let replicas: Vec<(Device, M)> = others
        .iter()
        .take(used)
        .map(|device| (device.clone().inner(), module.clone().fork(device)))
        .collect();
    let mut done: Option<AccumulatedBackward> = None;
    for (round, parts) in parts.chunks(1 + replicas.len()).enumerate() {
        let mut pending = Vec::with_capacity(parts.len());
        for (at, (count, part)) in parts.iter().enumerate() {
            let index = round * (1 + replicas.len()) + at;
            let replica = at.checked_sub(1).and_then(|at| replicas.get(at));
            let (device, model) =
                replica.map_or((&main, module), |(device, model)| (device, model));
            let share = *count as f64 / rows as f64;
            let worth = loss(model, device, index, part)?.mul_scalar(share);
            let gradients = worth.backward();
            pending.push((replica, worth.without_autodiff(), gradients));
        }
        for (replica, worth, gradients) in pending {
            let worth = worth.to_device(&main);
            done = Some(match (done, replica) {
                // The first part of a round is computed on the main device.
                (None, _) => AccumulatedBackward {
                    loss: worth,
                    gradients,
                },
                (Some(mut sum), None) => {
                    add_gradients(module, &mut sum.gradients, gradients);
                    sum.loss = sum.loss + worth;
                    sum
                }
                (Some(mut sum), Some((_, model))) => {
                    add_replica(module, &mut sum.gradients, model, gradients, &main);
                    sum.loss = sum.loss + worth;
                    sum
                }
            });
        }
    }
    Ok(done)
}

/// Adds the gradients of a replica of `module` on another device to those in `total`.
fn add_replica<M: Module>(
    module: &M,
    total: &mut Gradients,
    replica: &M,
    mut gradients: Gradients,
    main: &Device,
) {
    let mut moved = TensorContainer::new();
    replica.visit(&mut Move {
        gradients: &mut gradients,
        main,
        moved: &mut moved,
    });
    module.visit(&mut Add {
        total,
        moved: &mut moved,
    });
}

/// Gradients of a replica by the ids of its parameters, which are those of the original.
struct Move<'g> {
    gradients: &'g mut Gradients,
    main: &'g Device,
    moved: &'g mut TensorContainer<ParamId>,
}

impl ModuleVisitor for Move<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = param.base().grad_remove(self.gradients) {
            self.moved.register(param.id, gradient.to_device(self.main));
        }
    }
}

struct Add<'g> {
    total: &'g mut Gradients,
    moved: &'g mut TensorContainer<ParamId>,
}

impl ModuleVisitor for Add<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(more) = self.moved.remove::<Tensor<D>>(&param.id) {
            add_gradient(&param.base(), self.total, more);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::convert::Infallible;

    use burn::tensor::TensorData;
    use proptest::prelude::*;

    use super::*;
    use crate::{AdamW, AdamWConfig, named_tensors};

    #[derive(Module, Debug)]
    struct Two {
        first: Param<Tensor<2>>,
        second: Param<Tensor<2>>,
        unused: Param<Tensor<1>>,
    }

    fn waves(rows: usize, columns: usize, offset: f64) -> Vec<f32> {
        (0..rows * columns)
            .map(|at| (0.7 * at as f64 + offset).sin() as f32)
            .collect()
    }

    fn module(device: &Device) -> Two {
        let tensor = |rows, columns, offset| {
            let data = TensorData::new(waves(rows, columns, offset), [rows, columns]);
            Param::from_tensor(Tensor::from_data(data, device))
        };
        Two {
            first: tensor(3, 8, 0.1),
            second: tensor(8, 1, 0.9),
            unused: Param::from_tensor(Tensor::zeros([2], device)),
        }
    }

    /// Mean over rows `[rows, 3]` of a squared score: no row knows of another one.
    fn loss(
        module: &Two,
        device: &Device,
        _: usize,
        rows: &TensorData,
    ) -> Result<Tensor<1>, Infallible> {
        let rows = Tensor::<2>::from_data(rows.clone(), device).autodiff();
        let scores = rows.matmul(module.first.val()).tanh();
        Ok(scores.matmul(module.second.val()).powi_scalar(2).mean())
    }

    fn parts(sizes: &[usize]) -> Vec<(usize, TensorData)> {
        let mut values = waves(sizes.iter().sum(), 3, 0.3).into_iter();
        sizes
            .iter()
            .map(|rows| {
                let part: Vec<f32> = values.by_ref().take(3 * rows).collect();
                (*rows, TensorData::new(part, [*rows, 3]))
            })
            .collect()
    }

    /// Loss, gradients, and the module after a step of AdamW.
    fn stepped(module: &Two, sizes: &[usize], others: usize) -> (f32, [Vec<f32>; 2], Vec<f32>) {
        let device = Device::flex();
        let others = vec![device.clone(); others];
        let done = accumulated_backward(module, &device, &others, &parts(sizes), loss);
        let AccumulatedBackward {
            loss,
            mut gradients,
        } = done.unwrap().unwrap();
        assert!(module.unused.val().grad(&gradients).is_none());
        let of_each = [&module.first, &module.second].map(|param| {
            let gradient = param.val().grad(&gradients).unwrap();
            gradient.into_data().iter::<f32>().collect::<Vec<_>>()
        });
        // The first step of AdamW is nearly the sign of a gradient, which rounding decides around 0.
        let config = AdamWConfig {
            eps: 1e-4,
            ..AdamWConfig::default()
        };
        let mut optimizer = AdamW::new(config).unwrap();
        let after = optimizer.step(0.01, module.clone(), &mut gradients, 1.0);
        let tensors = named_tensors(&after.unwrap()).unwrap();
        let after = tensors.values().flat_map(|data| data.iter::<f32>());
        (loss.into_scalar(), of_each, after.collect())
    }

    fn close(a: &[f32], b: &[f32]) -> bool {
        let largest = b.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        a.len() == b.len()
            && a.iter()
                .zip(b)
                .all(|(a, b)| (a - b).abs() <= 1e-5 * largest)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// Ragged parts, in turn and on replicas, against one pass over the whole batch.
        #[test]
        fn equals_the_whole_batch(sizes in proptest::collection::vec(1usize..6, 1..6)) {
            let module = module(&Device::flex().autodiff());
            let whole = stepped(&module, &[sizes.iter().sum()], 0);
            let in_turn = stepped(&module, &sizes, 0);
            prop_assert!((in_turn.0 - whole.0).abs() <= 1e-5 * whole.0.abs());
            for (found, expected) in in_turn.1.iter().zip(&whole.1) {
                prop_assert!(close(found, expected));
            }
            prop_assert!(close(&in_turn.2, &whole.2));
            // The order of the sum is that of the parts, wherever they are computed.
            for others in 1..4 {
                prop_assert_eq!(&stepped(&module, &sizes, others), &in_turn);
            }
        }

        #[test]
        fn parts_cover_all_rows_and_are_balanced(rows in 0usize..200, parts in 0usize..40) {
            let found = row_parts(rows, parts);
            let all: Vec<usize> = found.iter().cloned().flatten().collect();
            prop_assert_eq!(all, (0..rows).collect::<Vec<_>>());
            prop_assert_eq!(found.len(), parts.max(1).min(rows));
            let lengths = || found.iter().map(ExactSizeIterator::len);
            if let (Some(least), Some(most)) = (lengths().min(), lengths().max()) {
                prop_assert!(least >= 1 && most - least <= 1);
            }
        }
    }

    #[test]
    fn a_short_part_counts_by_its_rows() {
        // A mean of the parts' means would weigh the last row as much as the other four together.
        let module = module(&Device::flex().autodiff());
        let (whole, ragged) = (stepped(&module, &[5], 0), stepped(&module, &[4, 1], 0));
        assert!(close(&ragged.1[0], &whole.1[0]));
        let each = |part: &(usize, TensorData)| -> f32 {
            let device = Device::flex();
            loss(&module, &device, 0, &part.1).unwrap().into_scalar()
        };
        let unweighted = parts(&[4, 1]).iter().map(each).sum::<f32>() / 2.0;
        assert!((unweighted - whole.0).abs() > 1e-2 * whole.0.abs());
    }

    #[test]
    fn frozen_parameters_stay_frozen_on_replicas() {
        let device = Device::flex();
        let mut module = module(&device.clone().autodiff());
        module.second = module.second.set_require_grad(false);
        let done = accumulated_backward(
            &module,
            &device,
            std::slice::from_ref(&device),
            &parts(&[2, 3]),
            loss,
        );
        let gradients = done.unwrap().unwrap().gradients;
        assert!(module.first.val().grad(&gradients).is_some());
        assert!(module.second.val().grad(&gradients).is_none());
    }

    #[test]
    fn no_parts_have_no_gradient_and_errors_are_kept() {
        let device = Device::flex();
        let module = module(&device.clone().autodiff());
        let none = accumulated_backward(&module, &device, &[], &[], loss);
        assert!(none.unwrap().is_none());
        let failing =
            accumulated_backward(&module, &device, &[], &parts(&[1, 1]), |m, d, at, part| {
                if at == 1 {
                    return Err("second");
                }
                loss(m, d, at, part).map_err(|never| match never {})
            });
        assert_eq!(failing.err(), Some("second"));
    }
}
