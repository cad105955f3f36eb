//! The modules that train: backbone and heads.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData, activation};
use encoder::BertModel;
use encoder::bert::{Linear, MlmHead, dropout};
use losses::Star;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// A linear map with PyTorch's default initialisation, uniform in `+-1 / sqrt(in)`.
pub(crate) fn uniform_linear(
    input: usize,
    output: usize,
    rng: &mut ChaCha8Rng,
    device: &Device,
) -> Linear {
    let bound = 1.0 / (input as f32).sqrt();
    let mut draw = |count: usize| -> Vec<f32> {
        (0..count)
            .map(|_| (rng.random::<f32>() * 2.0 - 1.0) * bound)
            .collect()
    };
    let weight = draw(input * output);
    let bias = draw(output);
    Linear {
        weight: Param::from_data(TensorData::new(weight, [input, output]), device),
        bias: Param::from_data(TensorData::new(bias, [output]), device),
    }
}

/// Stage 1: backbone, one linear coarse classifier, masked-language-model head.
#[derive(Module, Debug)]
pub(crate) struct PretrainModel {
    pub(crate) backbone: BertModel,
    pub(crate) classifier: Linear,
    pub(crate) mlm: Option<MlmHead>,
}

/// Coarse head of stage 2: `Linear(H,H) - ReLU - Dropout - Linear(H,128) - Linear(128,M)` on the
/// un-normalised vector; the last two maps have no non-linearity between them, as in the released
/// code.
#[derive(Module, Debug)]
pub(crate) struct CoarseHead {
    hidden: Linear,
    bottleneck: Linear,
    output: Linear,
    dropout: f64,
}

impl CoarseHead {
    const BOTTLENECK: usize = 128;

    pub(crate) fn new(
        hidden: usize,
        classes: usize,
        dropout: f64,
        rng: &mut ChaCha8Rng,
        device: &Device,
    ) -> Self {
        Self {
            hidden: uniform_linear(hidden, hidden, rng, device),
            bottleneck: uniform_linear(hidden, Self::BOTTLENECK, rng, device),
            output: uniform_linear(Self::BOTTLENECK, classes, rng, device),
            dropout,
        }
    }

    /// `[batch, hidden]` to logits `[batch, classes]`.
    pub(crate) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let x = dropout(activation::relu(self.hidden.forward(x)), self.dropout);
        self.output.forward(self.bottleneck.forward(x))
    }
}

/// Stage 2: backbone, coarse head and, for STAR, the objective's own parameters.
#[derive(Module, Debug)]
pub(crate) struct ContrastModel {
    pub(crate) backbone: BertModel,
    pub(crate) coarse: CoarseHead,
    pub(crate) star: Option<Star>,
}
