//! One vector a text from hidden states.

use std::fmt;
use std::str::FromStr;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::batch::TokenBatch;
use crate::bert::{HiddenStates, Linear};
use crate::error::EncoderError;

/// What `cls_mlp` needs.
pub(crate) const POOLER: &str = "a pooler (pooler.dense.weight, or mlp.dense.weight of SimCSE)";

/// How the hidden states of a text become one vector.
///
/// With `h_1` the output of the first layer, `h_last` that of the last:
///
/// | name | value |
/// |---|---|
/// | `cls` (also `cls_before_pooler`) | `h_last[CLS]` |
/// | `cls_mlp` | `tanh(W h_last[CLS] + b)` (SimCSE calls this `cls`; its MLP is stored as the pooler) |
/// | `mean` (also `avg`) | mean of `h_last` over the tokens of the text |
/// | `avg_top2` | mean of `(h_last + h_{last-1}) / 2` |
/// | `avg_first_last` | mean of `(h_1 + h_last) / 2`; not the embedding output |
/// | `mask` | `h_last` of the token before the last, the mask token of a [`Template`](crate::Template) |
///
/// Source: SimCSE (Gao et al., arXiv 2104.08821), section 3 and released code; `mask` as in
/// PromptBERT (Jiang et al., arXiv 2201.04337) and NGCSE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// The first token's last hidden state.
    #[default]
    Cls,
    /// The first token through the pooler's tanh layer.
    ClsMlp,
    /// Mean over real tokens.
    Mean,
    /// Mean of the last two layers.
    AvgTop2,
    /// Mean of the first and the last layer.
    AvgFirstLast,
    /// The mask token at the end of a template.
    Mask,
}

impl Pooling {
    /// All poolings.
    pub const ALL: [Self; 6] = [
        Self::Cls,
        Self::ClsMlp,
        Self::Mean,
        Self::AvgTop2,
        Self::AvgFirstLast,
        Self::Mask,
    ];

    /// `[texts, hidden]` from `[tokens, hidden]` states.
    ///
    /// # Errors
    ///
    /// `cls_mlp` without a pooler in the checkpoint; `mask` with a text of one token.
    pub fn forward(
        self,
        states: &HiddenStates,
        batch: &TokenBatch,
        pooler: Option<&Linear>,
    ) -> Result<Tensor<2>, EncoderError> {
        Ok(match self {
            Self::Cls => first_token(states.last.clone(), batch),
            Self::ClsMlp => {
                let pooler = pooler.ok_or_else(|| self.missing(POOLER))?;
                pooler
                    .forward(first_token(states.last.clone(), batch))
                    .tanh()
            }
            Self::Mean => token_mean(states.last.clone(), batch),
            Self::AvgTop2 => token_mean(
                (states.last.clone() + states.penultimate.clone()).mul_scalar(0.5),
                batch,
            ),
            Self::AvgFirstLast => token_mean(
                (states.last.clone() + states.first.clone()).mul_scalar(0.5),
                batch,
            ),
            Self::Mask => states.last.clone().select(0, batch.rows_before_last()?),
        })
    }

    /// The error for a head or setting that is not there.
    pub(crate) fn missing(self, head: &'static str) -> EncoderError {
        EncoderError::MissingHead {
            pooling: self.to_string(),
            head,
        }
    }
}

impl fmt::Display for Pooling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cls => "cls",
            Self::ClsMlp => "cls_mlp",
            Self::Mean => "mean",
            Self::AvgTop2 => "avg_top2",
            Self::AvgFirstLast => "avg_first_last",
            Self::Mask => "mask",
        })
    }
}

impl FromStr for Pooling {
    type Err = EncoderError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "cls_before_pooler" => return Ok(Self::Cls),
            "avg" => return Ok(Self::Mean),
            _ => {}
        }
        Self::ALL
            .into_iter()
            .find(|pooling| pooling.to_string() == text)
            .ok_or_else(|| EncoderError::Config {
                origin: "pooling".to_owned(),
                field: "pooling",
                found: text.to_owned(),
                expected: "cls, cls_mlp, mean, avg_top2, avg_first_last or mask".to_owned(),
            })
    }
}

/// Row 0 of every text: `[tokens, hidden]` to `[texts, hidden]`.
fn first_token(states: Tensor<2>, batch: &TokenBatch) -> Tensor<2> {
    states.select(0, batch.first_rows())
}

/// Mean over the tokens of each text: `[tokens, hidden]` to `[texts, hidden]`.
fn token_mean(states: Tensor<2>, batch: &TokenBatch) -> Tensor<2> {
    kernels::sequence_mean(states, &batch.sequences)
}
