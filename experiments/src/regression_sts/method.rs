//! Batches of labelled pairs and the regression loss over them.

use std::collections::BTreeMap;
use std::ops::Range;

use burn::module::Module;
use burn::tensor::{Int, Tensor, TensorData};
use losses::{
    CoarseCrossEntropy, L1, L1Config, LeftClamp, Mse, MseConfig, SiameseHead, SmoothK2,
    SmoothK2Config, TranslatedRelu, TranslatedReluConfig,
};
use training::row_parts;

use super::config::{Objective, StageConfig};
use crate::embedding::{BatchOrder, Method, Part};
use crate::error::RunError;

/// The objective of a stage, built.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Loss {
    /// Smooth K2.
    SmoothK2(SmoothK2),
    /// Translated ReLU.
    TranslatedRelu(TranslatedRelu),
    /// Mean squared error.
    Mse(Mse),
    /// Mean absolute error.
    L1(L1),
    /// Cross entropy over classes.
    CrossEntropy,
}

impl Loss {
    pub(crate) fn new(stage: &StageConfig, left_clamp: LeftClamp) -> Result<Self, RunError> {
        Ok(match stage.loss.parse()? {
            Objective::SmoothK2 => Self::SmoothK2(
                SmoothK2Config::new()
                    .with_k(stage.k)
                    .with_x0(stage.x0)
                    .with_left_clamp(left_clamp)
                    .init()?,
            ),
            Objective::TranslatedRelu => Self::TranslatedRelu(
                TranslatedReluConfig::new()
                    .with_k(stage.k)
                    .with_x0(stage.x0)
                    .with_left_clamp(left_clamp)
                    .init()?,
            ),
            Objective::Mse => Self::Mse(MseConfig::new().with_left_clamp(left_clamp).init()?),
            Objective::L1 => Self::L1(L1Config::new().with_left_clamp(left_clamp).init()?),
            Objective::CrossEntropy => Self::CrossEntropy,
        })
    }
}

/// The head on top of a pair of vectors.
#[derive(Module, Debug)]
pub(crate) struct RegressionHead {
    pub(crate) siamese: SiameseHead,
}

/// The labelled pairs of a stage and the order they come in.
pub(crate) struct Regression {
    /// First and second text of each row.
    pub(crate) columns: [Vec<usize>; 2],
    pub(crate) labels: Vec<f64>,
    pub(crate) batches: BatchOrder,
    pub(crate) loss: Loss,
}

impl Method for Regression {
    type Head = RegressionHead;
    /// Labels of the batch.
    type Batch = Vec<f32>;

    fn steps(&self) -> Option<u64> {
        Some(self.batches.steps())
    }

    fn batch(&mut self, step: u64) -> Result<(Vec<usize>, Vec<f32>), RunError> {
        let rows = self.batches.rows(step)?;
        let texts = self
            .columns
            .iter()
            .flat_map(|column| rows.iter().map(|row| column[*row]))
            .collect();
        let labels = rows.iter().map(|row| self.labels[*row] as f32).collect();
        Ok((texts, labels))
    }

    fn rows(&self, step: u64) -> Result<BTreeMap<String, Vec<usize>>, RunError> {
        let rows = self.batches.rows(step)?.to_vec();
        Ok(BTreeMap::from([("rows".to_owned(), rows)]))
    }

    fn split(
        &self,
        texts: &[usize],
        labels: &Vec<f32>,
        parts: usize,
    ) -> Option<Vec<Part<Vec<f32>>>> {
        let (first, second) = texts.split_at_checked(labels.len())?;
        let part = |rows: Range<usize>| {
            let texts = [first.get(rows.clone())?, second.get(rows.clone())?].concat();
            Some((rows.len(), (texts, labels.get(rows)?.to_vec())))
        };
        row_parts(labels.len(), parts)
            .into_iter()
            .map(part)
            .collect()
    }

    fn loss(
        &self,
        head: &RegressionHead,
        vectors: Tensor<2>,
        labels: &Vec<f32>,
    ) -> Result<Tensor<1>, RunError> {
        let rows = labels.len();
        let device = vectors.device();
        let u = vectors.clone().narrow(0, 0, rows);
        let v = vectors.narrow(0, rows, rows);
        let scores = head.siamese.forward(u, v)?;
        let scalar = |scores: Tensor<2>| scores.squeeze_dim::<1>(1);
        let targets = || {
            let data = TensorData::new(labels.clone(), [rows]);
            Tensor::<1>::from_data(data, &device)
        };
        Ok(match self.loss {
            Loss::SmoothK2(loss) => loss.forward(scalar(scores), targets())?,
            Loss::TranslatedRelu(loss) => loss.forward(scalar(scores), targets())?,
            Loss::Mse(loss) => loss.forward(scalar(scores), targets())?,
            Loss::L1(loss) => loss.forward(scalar(scores), targets())?,
            Loss::CrossEntropy => {
                let classes: Vec<i32> = labels.iter().map(|label| *label as i32).collect();
                let data = TensorData::new(classes, [rows]);
                let classes = Tensor::<1, Int>::from_data(data, &device.inner());
                CoarseCrossEntropy.forward(scores, classes)?
            }
        })
    }
}
