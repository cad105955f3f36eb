//! Batches of ordinary and generated rows, and the loss over them.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};
use encoder::bert::Linear;
use encoder::{BertModel, Init};
use losses::{GeneratedRows, Ngcse, OrdinaryRows};

use super::composition::MixedBatch;
use super::corpus::TrainingRows;
use super::probe::Recorder;
use crate::embedding::{Method, SentenceModel};
use crate::error::RunError;

/// A linear map behind the pooling that exists in training only.
#[derive(Module, Debug)]
pub(crate) struct NgcseHead {
    pub(crate) mlp: Option<Linear>,
}

impl NgcseHead {
    /// Weights and biases drawn from one normal distribution; `width` 0: no map.
    pub(crate) fn new(hidden: usize, width: usize, init: &mut Init) -> Self {
        let mlp = (width > 0).then(|| {
            let mut mlp = Linear::new(hidden, width, init);
            let bias: Vec<f32> = init.normal([1, width]).val().into_data().iter().collect();
            let device = mlp.bias.val().device();
            mlp.bias = Param::from_data(TensorData::new(bias, [width]), &device);
            mlp
        });
        Self { mlp }
    }
}

/// Rows of a training, the batches they come in, and the objective.
pub(crate) struct NgcseMethod<'r> {
    pub(crate) rows: TrainingRows,
    /// Batches of all steps; generated rows are numbered from 0.
    pub(crate) batches: Vec<MixedBatch>,
    pub(crate) objective: Ngcse,
    /// Weights that the encoder is held to, and how firmly.
    pub(crate) anchor: Option<Anchor>,
    /// Looks at the probes.
    pub(crate) recorder: Option<&'r Recorder>,
}

/// How many rows of each kind a batch has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchShape {
    ordinary: usize,
    generated: usize,
}

impl NgcseMethod<'_> {
    fn of_step(&self, step: u64) -> Result<&MixedBatch, RunError> {
        usize::try_from(step)
            .ok()
            .and_then(|step| self.batches.get(step))
            .ok_or_else(|| RunError::Data(format!("step {step} has no batch")))
    }
}

impl Method for NgcseMethod<'_> {
    type Head = NgcseHead;
    type Batch = BatchShape;

    fn steps(&self) -> Option<u64> {
        Some(self.batches.len() as u64)
    }

    fn batch(&mut self, step: u64) -> Result<(Vec<usize>, BatchShape), RunError> {
        let batch = self.of_step(step)?;
        let mut texts = Vec::new();
        for (columns, rows) in [
            (&self.rows.ordinary, &batch.ordinary),
            (&self.rows.generated, &batch.generated),
        ] {
            for column in columns {
                texts.extend(rows.iter().map(|row| column[*row]));
            }
        }
        let shape = BatchShape {
            ordinary: batch.ordinary.len(),
            generated: batch.generated.len(),
        };
        Ok((texts, shape))
    }

    fn rows(&self, step: u64) -> Result<BTreeMap<String, Vec<usize>>, RunError> {
        let batch = self.of_step(step)?;
        Ok(BTreeMap::from([
            ("ordinary".to_owned(), batch.ordinary.clone()),
            ("generated".to_owned(), batch.generated.clone()),
        ]))
    }

    fn loss(
        &self,
        head: &NgcseHead,
        vectors: Tensor<2>,
        shape: &BatchShape,
    ) -> Result<Tensor<1>, RunError> {
        let vectors = match &head.mlp {
            Some(mlp) => mlp.forward(vectors),
            None => vectors,
        };
        let mut start = 0;
        let mut columns = |count: usize, rows: usize| -> Vec<Tensor<2>> {
            let columns = (0..count).map(|column| {
                let first = start + column * rows;
                vectors.clone().narrow(0, first, rows)
            });
            let columns = if rows == 0 {
                Vec::new()
            } else {
                columns.collect()
            };
            start += count * rows;
            columns
        };
        let mut ordinary = columns(self.rows.ordinary.len(), shape.ordinary).into_iter();
        let mut generated = columns(self.rows.generated.len(), shape.generated).into_iter();
        let ordinary = match (ordinary.next(), ordinary.next()) {
            (Some(anchors), Some(positives)) => Some(OrdinaryRows {
                anchors,
                positives,
                hard_negatives: ordinary.next(),
            }),
            _ => None,
        };
        let generated = generated.next().map(|anchors| GeneratedRows {
            anchors,
            levels: generated.collect(),
        });
        Ok(self.objective.forward(ordinary, generated)?.loss)
    }

    fn auxiliary(
        &self,
        model: &SentenceModel<NgcseHead>,
        _: &[&[u32]],
        _: u64,
        _: u64,
    ) -> Result<Option<(&'static str, Tensor<1>)>, RunError> {
        let anchor = self.anchor.as_ref();
        Ok(anchor.and_then(|anchor| Some(("loss_l2", anchor.term(&model.backbone)?))))
    }

    fn look(
        &self,
        model: &SentenceModel<NgcseHead>,
        done: u64,
    ) -> Result<BTreeMap<String, f64>, RunError> {
        let Some(recorder) = self.recorder else {
            return Ok(BTreeMap::new());
        };
        let probed = recorder.look(&model.backbone, done)?;
        let named = probed.named().map(|(name, value)| (name.to_owned(), value));
        Ok(BTreeMap::from(named))
    }
}

/// Holds an encoder to the weights it started with: `gamma / 2 sum (w - w0)^2` over all weights that
/// learn.
///
/// Source: `use_loss4` of the released code of NGCSE, with gamma 2e-9.
pub(crate) struct Anchor {
    gamma: f64,
    initial: Vec<TensorData>,
}

impl Anchor {
    /// Remembers the weights of `model`; `None` for a `gamma` of 0.
    pub(crate) fn new(model: &BertModel, gamma: f64) -> Option<Self> {
        if gamma == 0.0 {
            return None;
        }
        let mut weights = Weights::default();
        model.visit(&mut weights);
        Some(Self {
            gamma,
            initial: weights.values,
        })
    }

    /// The term, `[1]`; `None` if nothing learns.
    fn term(&self, model: &BertModel) -> Option<Tensor<1>> {
        let mut distance = Distance {
            initial: self.initial.iter(),
            sum: None,
        };
        model.visit(&mut distance);
        Some(distance.sum?.mul_scalar(0.5 * self.gamma))
    }
}

/// Copies all weights.
#[derive(Default)]
struct Weights {
    values: Vec<TensorData>,
}

impl ModuleVisitor for Weights {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.values.push(param.val().into_data());
    }
}

/// Adds up squared distances from the copies, in the same order.
struct Distance<'a> {
    initial: std::slice::Iter<'a, TensorData>,
    sum: Option<Tensor<1>>,
}

impl ModuleVisitor for Distance<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(initial) = self.initial.next() else {
            return;
        };
        let weight = param.val();
        if !weight.is_require_grad() {
            return;
        }
        let initial = Tensor::<D>::from_data(initial.clone(), &weight.device());
        let term = (weight - initial).square().sum();
        self.sum = Some(match self.sum.take() {
            Some(sum) => sum + term,
            None => term,
        });
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use burn::tensor::Device;
    use encoder::BertConfig;
    use losses::{HierarchicalTripletConfig, NgcseConfig};

    use super::*;

    fn vectors(rows: usize) -> Tensor<2> {
        let values: Vec<f32> = (0..rows * 4)
            .map(|i| (1.3 * i as f32 + 0.2).sin())
            .collect();
        Tensor::from_data(TensorData::new(values, [rows, 4]), &Device::flex())
    }

    fn method(objective: NgcseConfig) -> NgcseMethod<'static> {
        NgcseMethod {
            rows: TrainingRows {
                ordinary: vec![vec![0, 1, 2], vec![3, 4, 5]],
                generated: vec![vec![6, 7], vec![8, 9], vec![10, 11], vec![12, 13]],
            },
            batches: vec![
                MixedBatch {
                    ordinary: vec![2, 0],
                    generated: vec![],
                },
                MixedBatch {
                    ordinary: vec![1],
                    generated: vec![1, 0],
                },
                MixedBatch {
                    ordinary: vec![],
                    generated: vec![0, 1],
                },
            ],
            objective: objective.init().unwrap(),
            anchor: None,
            recorder: None,
        }
    }

    #[test]
    fn texts_come_column_by_column() {
        let mut method = method(NgcseConfig::new());
        let mut texts = |step| method.batch(step).unwrap().0;
        assert_eq!(texts(0), [2, 0, 5, 3]);
        assert_eq!(texts(1), [1, 4, 7, 6, 9, 8, 11, 10, 13, 12]);
        assert_eq!(texts(2), [6, 7, 8, 9, 10, 11, 12, 13]);
        assert!(method.batch(3).is_err());
    }

    #[test]
    fn the_loss_is_that_of_the_columns() {
        let triplet = Some(HierarchicalTripletConfig::new());
        let mut method = method(NgcseConfig::new().with_triplet(triplet));
        let (texts, shape) = method.batch(1).unwrap();
        let all = vectors(texts.len());
        let rows = |first: usize, count: usize| all.clone().narrow(0, first, count);
        let expected = method.objective.forward(
            Some(OrdinaryRows {
                anchors: rows(0, 1),
                positives: rows(1, 1),
                hard_negatives: None,
            }),
            Some(GeneratedRows {
                anchors: rows(2, 2),
                levels: vec![rows(4, 2), rows(6, 2), rows(8, 2)],
            }),
        );
        let none = NgcseHead { mlp: None };
        let found: f32 = method
            .loss(&none, all.clone(), &shape)
            .unwrap()
            .into_scalar();
        assert_eq!(found, expected.unwrap().loss.into_scalar::<f32>());
        // A batch of one kind, behind a linear map.
        let mut init = Init::seeded(1, 0.5, &Device::flex());
        let head = NgcseHead::new(4, 3, &mut init);
        let mlp = head.mlp.clone().unwrap();
        for (step, parts) in [(0, (2, 0)), (2, (0, 2))] {
            let (texts, shape) = method.batch(step).unwrap();
            assert_eq!((shape.ordinary, shape.generated), parts);
            let all = vectors(texts.len());
            let mapped = mlp.forward(all.clone());
            let plain = method.loss(&none, mapped, &shape).unwrap();
            let through = method.loss(&head, all, &shape).unwrap();
            assert_eq!(through.into_scalar::<f32>(), plain.into_scalar::<f32>());
        }
    }

    #[test]
    fn the_head_is_normal_in_weights_and_biases() {
        let device = Device::flex().autodiff();
        let mut init = Init::seeded(3, 6e-3, &device);
        let head = NgcseHead::new(64, 96, &mut init);
        let mlp = head.mlp.unwrap();
        assert_eq!(mlp.weight.dims(), [64, 96]);
        for (values, count) in [
            (mlp.weight.val().into_data(), 64 * 96),
            (mlp.bias.val().into_data(), 96),
        ] {
            let values: Vec<f64> = values.iter::<f64>().collect();
            assert_eq!(values.len(), count);
            let square = values.iter().map(|x| x * x).sum::<f64>() / count as f64;
            assert!((square.sqrt() / 6e-3 - 1.0).abs() < 0.25, "{square}");
        }
        assert!(mlp.bias.val().is_require_grad());
        assert!(NgcseHead::new(4, 0, &mut init).mlp.is_none());
    }

    #[test]
    fn the_anchor_pulls_back_to_the_start() {
        let device = Device::flex().autodiff();
        let config = BertConfig::tiny(8);
        let model = BertModel::random(&config, 1, &device).unwrap();
        let anchor = Anchor::new(&model, 0.5).unwrap();
        let value = |model: &BertModel| anchor.term(model).unwrap().into_scalar::<f32>();
        assert_eq!(value(&model), 0.0);
        let mut moved = model.clone();
        let gamma = moved.embeddings.layer_norm.weight.clone();
        let count = gamma.dims()[0] as f32;
        moved.embeddings.layer_norm.weight =
            gamma.map(|weight| weight.add_scalar(0.5).detach().require_grad());
        assert!((value(&moved) - 0.25 * 0.25 * count).abs() < 1e-4);
        let term = anchor.term(&moved).unwrap();
        let gradients = term.backward();
        let weight = moved.embeddings.layer_norm.weight.val();
        let gradient = weight.grad(&gradients).unwrap();
        // gamma (w - w0)
        assert!((gradient.mean().into_scalar::<f32>() - 0.25).abs() < 1e-6);
        assert!(Anchor::new(&model, 0.0).is_none());
    }
}
