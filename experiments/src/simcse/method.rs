//! Batches of rows and the contrastive loss over them.

use std::collections::BTreeMap;

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use encoder::{MlmHead, TextTokenizer, TokenBatch};
use losses::{InfoNce, MaskedLm};
use training::{Streams, stream};

use crate::embedding::{BatchOrder, Method, SentenceModel};
use crate::error::RunError;
use crate::masking::mask_tokens;

/// Key of the dropout of the pass over masked texts, beside the masks themselves.
const DROPOUT: u64 = 1;

/// Parameters beside the encoder: the masked-language-model head, if it is trained.
#[derive(Module, Debug)]
pub(crate) struct SimcseHead {
    pub(crate) mlm: Option<MlmHead>,
}

/// Masked language modelling beside the objective.
pub(crate) struct Masking {
    pub(crate) tokenizer: TextTokenizer,
    pub(crate) mask: u32,
    pub(crate) probability: f64,
    pub(crate) weight: f64,
    pub(crate) streams: Streams,
    pub(crate) device: Device,
}

/// The rows of a training file and the order they come in.
pub(crate) struct Simcse {
    /// Text of each row, column by column: anchors, positives, hard negatives.
    pub(crate) columns: Vec<Vec<usize>>,
    pub(crate) batches: BatchOrder,
    pub(crate) objective: InfoNce,
    pub(crate) masking: Option<Masking>,
}

impl Method for Simcse {
    type Head = SimcseHead;
    /// Rows of the batch.
    type Batch = usize;

    fn steps(&self) -> Option<u64> {
        Some(self.batches.steps())
    }

    fn batch(&mut self, step: u64) -> Result<(Vec<usize>, usize), RunError> {
        let rows = self.batches.rows(step)?;
        let texts = self
            .columns
            .iter()
            .flat_map(|column| rows.iter().map(|row| column[*row]))
            .collect();
        Ok((texts, rows.len()))
    }

    fn rows(&self, step: u64) -> Result<BTreeMap<String, Vec<usize>>, RunError> {
        let rows = self.batches.rows(step)?.to_vec();
        Ok(BTreeMap::from([("rows".to_owned(), rows)]))
    }

    fn loss(
        &self,
        _: &SimcseHead,
        vectors: Tensor<2>,
        rows: &usize,
    ) -> Result<Tensor<1>, RunError> {
        let column = |at: usize| vectors.clone().narrow(0, at * rows, *rows);
        let hard = (self.columns.len() > 2).then(|| column(2));
        Ok(self.objective.forward(column(0), column(1), hard)?)
    }

    fn auxiliary(
        &self,
        model: &SentenceModel<SimcseHead>,
        ids: &[&[u32]],
        part: u64,
        step: u64,
    ) -> Result<Option<(&'static str, Tensor<1>)>, RunError> {
        let (Some(masking), Some(head)) = (&self.masking, &model.head.mlm) else {
            return Ok(None);
        };
        let mut rng = masking.streams.rng(stream::MLM_MASK, &[step, part]);
        let masked: Vec<_> = ids
            .iter()
            .map(|text| {
                mask_tokens(
                    text,
                    masking.tokenizer.special_ids(),
                    masking.tokenizer.vocab_size(),
                    masking.mask,
                    masking.probability,
                    &mut rng,
                )
            })
            .collect();
        let rows: Vec<&[u32]> = masked.iter().map(|text| text.ids.as_slice()).collect();
        let device = masking.device.clone().autodiff();
        device.seed(
            masking
                .streams
                .seed(stream::MLM_MASK, &[step, part, DROPOUT]),
        );
        let tokens = TokenBatch::new(&rows, &device)?;
        let (positions, originals): (Vec<i32>, Vec<i32>) = masked
            .iter()
            .enumerate()
            .flat_map(|(row, text)| {
                text.selected
                    .iter()
                    .map(|(at, id)| (tokens.row(row, *at) as i32, *id as i32))
                    .collect::<Vec<_>>()
            })
            .unzip();
        if positions.is_empty() {
            return Ok(None);
        }
        let ints = |values: Vec<i32>| -> Tensor<1, Int> {
            let count = values.len();
            Tensor::from_data(TensorData::new(values, [count]), &device)
        };
        let states = model.backbone.forward(&tokens)?;
        let table = model.backbone.embeddings.word_embeddings.weight.val();
        let logits = head.forward(states.last, ints(positions), table);
        let loss = MaskedLm.forward(logits, ints(originals))?;
        Ok(Some(("loss_mlm", loss.mul_scalar(masking.weight))))
    }
}
