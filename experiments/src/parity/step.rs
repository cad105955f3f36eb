//! One STAR-DOWN step on one device, every tensor of it copied to the host.

use std::fmt;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Int, Tensor, TensorData, activation};
use encoder::bert::Linear;
use encoder::{BertConfig, BertModel, Init, LoadOptions, Pooling, SentenceEncoder, TokenBatch};
use losses::{CoarseCrossEntropy, NORM_EPS, NeighbourTargets, Star, StarConfig, l2_normalize};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use training::{AdamW, AdamWConfig, NamedTensors, clip, load_named_tensors, named_tensors};

use super::{Options, ParityError};
use crate::error::RunError;

/// Coarse classes of the head.
const CLASSES: usize = 8;
/// Width of the coarse head's bottleneck, as in STAR-DOWN.
const BOTTLENECK: usize = 128;
/// Peak rate and clipping of the published runs.
const LEARNING_RATE: f64 = 5e-5;
const MAX_NORM: f64 = 1.0;

/// What a tensor belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// Hidden states and pooled vectors.
    Forward,
    /// The terms of the loss and the gradient norm.
    Loss,
    /// Gradient of a parameter.
    Gradient,
    /// Parameter after one AdamW step.
    Update,
}

impl Group {
    /// All groups in the order of a step.
    pub const ALL: [Self; 4] = [Self::Forward, Self::Loss, Self::Gradient, Self::Update];
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Forward => "forward",
            Self::Loss => "loss",
            Self::Gradient => "gradient",
            Self::Update => "update",
        })
    }
}

/// One tensor of a step.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// What it belongs to.
    pub group: Group,
    /// Its name; parameters by path.
    pub name: String,
    /// Its elements, row-major.
    pub values: Vec<f32>,
}

/// Everything that a step needs, on the host: equal on every device.
#[derive(Debug)]
pub struct Task {
    config: BertConfig,
    pooling: Pooling,
    pooler: bool,
    weights: NamedTensors,
    texts: Vec<Vec<u32>>,
    labels: Vec<i32>,
    bank: Vec<f32>,
    targets: Vec<Vec<(usize, f32)>>,
}

/// Backbone, coarse head and objective of the contrastive stage; nothing drops out, as no two devices
/// draw the same numbers.
#[derive(Module, Debug)]
struct StepModel {
    backbone: BertModel,
    hidden: Linear,
    bottleneck: Linear,
    output: Linear,
    star: Star,
}

impl StepModel {
    fn new(
        config: &BertConfig,
        pooler: bool,
        seed: u64,
        device: &Device,
    ) -> Result<Self, RunError> {
        let mut backbone = BertModel::random(config, seed, device)?;
        if !pooler {
            backbone.pooler = None;
        }
        let hidden = config.hidden_size;
        let mut init = Init::seeded(seed ^ 1, 0.05, device);
        Ok(Self {
            backbone,
            hidden: Linear::new(hidden, hidden, &mut init),
            bottleneck: Linear::new(hidden, BOTTLENECK, &mut init),
            output: Linear::new(BOTTLENECK, CLASSES, &mut init),
            star: StarConfig::new(hidden).init(device, seed ^ 2)?,
        })
    }
}

impl Task {
    /// Weights and inputs: of the model directory, or of a random encoder with two layers of width
    /// 64, and random ids, labels, bank rows and neighbours from the seed.
    ///
    /// # Errors
    ///
    /// [`ParityError::Setting`] for a size of 0, a text longer than the model's positions or more
    /// neighbours than bank rows; [`ParityError::Step`] if the model cannot be loaded.
    pub fn new(options: &Options, device: &Device) -> Result<Self, ParityError> {
        let failed = |error: RunError| ParityError::Step(Box::new(error));
        let (config, pooling, encoder) = match &options.model {
            Some(model) => {
                let without_dropout = LoadOptions {
                    dropout: Some(0.0),
                    ..LoadOptions::default()
                };
                let encoder = SentenceEncoder::load(model, &without_dropout, device)
                    .map_err(|error| failed(error.into()))?;
                (encoder.config, encoder.pooling, Some(encoder.bert))
            }
            None => (tiny_config(options.length), Pooling::Mean, None),
        };
        options.check(config.max_position_embeddings)?;
        let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
        let pooler = encoder.as_ref().is_none_or(|bert| bert.pooler.is_some());
        let mut model = StepModel::new(&config, pooler, options.seed, device).map_err(failed)?;
        let random = encoder.is_none();
        if let Some(bert) = encoder {
            model.backbone = bert;
        }
        let mut weights = named_tensors(&model).map_err(|error| failed(error.into()))?;
        for (name, tensor) in &mut weights {
            // Biases that begin at zero would make every difference of the update look large.
            let zero = name.ends_with("bias") && tensor.iter::<f32>().all(|x| x == 0.0);
            if zero && (random || !name.starts_with("backbone")) {
                let count = tensor.shape().iter().product();
                let values: Vec<f32> = (0..count).map(|_| rng.random_range(-0.1..0.1)).collect();
                *tensor = TensorData::new(values, tensor.shape().clone());
            }
        }

        let texts = (0..options.batch)
            .map(|text| {
                // Lengths from the whole down to half of it, so that the batch is ragged.
                let length = options.length - text % (options.length / 2 + 1);
                let ids = 0..config.vocab_size as u32;
                (0..length).map(|_| rng.random_range(ids.clone())).collect()
            })
            .collect();
        let labels = (0..options.batch)
            .map(|_| rng.random_range(0..CLASSES as i32))
            .collect();
        let mut bank: Vec<f32> = (0..options.bank * config.hidden_size)
            .map(|_| rng.random_range(-1.0..1.0))
            .collect();
        for row in bank.chunks_mut(config.hidden_size) {
            let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-12);
            row.iter_mut().for_each(|x| *x /= norm);
        }
        let targets = (0..options.batch)
            .map(|_| {
                let first = rng.random_range(0..options.bank);
                // Weights that fall with the rank, as the published schedule has them.
                let weight = |rank: usize| 10f32.powf(-(rank as f32) / options.topk as f32);
                (0..options.topk)
                    .map(|rank| ((first + rank * 7) % options.bank, weight(rank)))
                    .collect()
            })
            .collect();
        Ok(Self {
            config,
            pooling,
            pooler,
            weights,
            texts,
            labels,
            bank,
            targets,
        })
    }

    /// One line for people.
    pub fn describe(&self) -> String {
        let config = &self.config;
        format!(
            "{} layers of width {}, {} texts of {} to {} tokens, bank {} x {}, {} neighbours",
            config.num_hidden_layers,
            config.hidden_size,
            self.texts.len(),
            self.texts.iter().map(Vec::len).min().unwrap_or(0),
            self.texts.iter().map(Vec::len).max().unwrap_or(0),
            self.bank.len() / config.hidden_size,
            config.hidden_size,
            self.targets.first().map_or(0, Vec::len),
        )
    }

    /// The step: encoder, losses, gradients, clipping, one AdamW update.
    ///
    /// # Errors
    ///
    /// Any part refuses its input or the device fails.
    pub fn run(&self, device: &Device) -> Result<Vec<Item>, RunError> {
        let mut items = Vec::new();
        let mut put = |group, name: &str, data: TensorData| {
            items.push(Item {
                group,
                name: name.to_owned(),
                values: data.iter::<f32>().collect(),
            });
        };
        let device = device.clone().autodiff();
        let model = StepModel::new(&self.config, self.pooler, 0, &device)?;
        let model = load_named_tensors(model, self.weights.clone(), "load the parity weights")?;

        let batch = TokenBatch::new(&self.texts, &device)?;
        let states = model.backbone.forward(&batch)?;
        let pooled = self
            .pooling
            .forward(&states, &batch, model.backbone.pooler.as_ref())?;
        for (name, tensor) in [
            ("hidden.first", &states.first),
            ("hidden.penultimate", &states.penultimate),
            ("hidden.last", &states.last),
            ("pooled", &pooled),
        ] {
            put(Group::Forward, name, tensor.to_data());
        }

        let hidden = activation::relu(model.hidden.forward(pooled.clone()));
        let logits = model.output.forward(model.bottleneck.forward(hidden));
        let labels = TensorData::new(self.labels.clone(), [self.labels.len()]);
        let coarse =
            CoarseCrossEntropy.forward(logits, Tensor::<1, Int>::from_data(labels, &device))?;
        let width = self.config.hidden_size;
        let bank = TensorData::new(self.bank.clone(), [self.bank.len() / width, width]);
        let bank = Tensor::<2>::from_data(bank, &device.clone().inner()).autodiff();
        let targets = NeighbourTargets::from_rows(&self.targets, &device)?;
        let queries = l2_normalize(pooled, NORM_EPS);
        let fine = model.star.forward(queries, bank, &targets)?;
        let loss = fine.loss + coarse.clone();
        for (name, tensor) in [
            ("coarse", &coarse),
            ("star.kl", &fine.kl_term),
            ("star.euclidean", &fine.euclidean_term),
            ("total", &loss),
        ] {
            put(Group::Loss, name, tensor.to_data());
        }

        let mut grads = loss.backward();
        let clipped = clip(&model, &grads, Some(MAX_NORM), 0)?;
        let norm = TensorData::new(vec![clipped.norm as f32], [1]);
        put(Group::Loss, "gradient norm", norm);
        let mut visitor = CollectGradients {
            grads: &grads,
            path: Vec::new(),
            found: Vec::new(),
        };
        model.visit(&mut visitor);
        for (name, data) in visitor.found {
            put(Group::Gradient, &name, data);
        }

        let mut optimiser = AdamW::new(AdamWConfig::transformers())?;
        let model = optimiser.step(LEARNING_RATE, model, &mut grads, clipped.scale)?;
        for (name, data) in named_tensors(&model)? {
            put(Group::Update, &name, data);
        }
        Ok(items)
    }
}

/// A BERT for tests of arithmetic: small, but with every kind of layer.
fn tiny_config(length: usize) -> BertConfig {
    BertConfig {
        hidden_size: 64,
        intermediate_size: 256,
        max_position_embeddings: length.max(1),
        // Standard deviation of a trained encoder's weights rather than of a fresh one's.
        initializer_range: 0.05,
        ..BertConfig::tiny(500)
    }
    .with_dropout(0.0)
}

struct CollectGradients<'a> {
    grads: &'a Gradients,
    path: Vec<String>,
    found: Vec<(String, TensorData)>,
}

impl ModuleVisitor for CollectGradients<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        // A parameter that the loss does not reach has no gradient on any device; one that has a
        // gradient on some devices only is reported as missing on the others.
        if let Some(gradient) = param.base().grad(self.grads) {
            self.found.push((self.path.join("."), gradient.into_data()));
        }
    }
}
