//! The student before its first step.

use burn::module::Param;
use burn::tensor::{Device, Tensor, TensorData};
use encoder::{BertConfig, BertModel, Pooling, SentenceEncoder, TextTokenizer};
use serde_json::Value;

use super::config::{StartConfig, StudentConfig};
use super::projection::{Projection, SINKS};
use crate::error::RunError;

/// Sizes as a configuration of BERT.
pub(crate) fn bert_config(student: &StudentConfig, vocab_size: usize) -> BertConfig {
    let mut config = BertConfig::tiny(vocab_size).with_dropout(student.dropout);
    config.hidden_size = student.hidden_size;
    config.num_hidden_layers = student.layers;
    config.num_attention_heads = student.heads;
    config.intermediate_size = student.intermediate_size;
    config.max_position_embeddings = student.positions;
    // Weights may lie in half precision on disk; they are meant to be computed with in single.
    config
        .other
        .insert("dtype".to_owned(), Value::from("float32"));
    config
}

/// A student with random weights, mean pooling and no pooler.
pub(crate) fn random(
    student: &StudentConfig,
    tokenizer: TextTokenizer,
    max_len: usize,
    seed: u64,
    device: &Device,
) -> Result<SentenceEncoder, RunError> {
    let config = bert_config(student, tokenizer.vocab_size());
    let mut encoder = SentenceEncoder::random(config, tokenizer, Pooling::Mean, seed, device)?;
    encoder.bert.pooler = None;
    encoder.max_len = max_len;
    Ok(encoder)
}

/// Gives a student the teacher's knowledge of single word pieces.
///
/// ```text
/// word[w] = [sink, -sink, sif(w) (z(w) - z0)]      z(w): projected teacher vector of the piece's text
/// sif(w)  = a / (a + p(w))                          p(w): share of the piece in the corpus
/// z0      = sum_w p(w) sif(w) z(w) / sum_w p(w) sif(w)
/// ```
///
/// Special tokens have a weight of their own, padding is 0. Positions, segments and the outputs of
/// attention and feed-forward are 0, and the last layer norm hides the two sinks, so that the vector
/// of a text is in direction the weighted sum of its pieces.
pub(crate) fn teach_words(
    student: &mut SentenceEncoder,
    teacher: &SentenceEncoder,
    projection: &Projection,
    ids: &[Vec<u32>],
    start: &StartConfig,
    batch_size: usize,
) -> Result<(), RunError> {
    let table = word_table(
        &student.tokenizer,
        student.config.pad_token_id,
        teacher,
        projection,
        ids,
        start,
        batch_size,
    )?;
    let bert = &mut student.bert;
    let words = &mut bert.embeddings.word_embeddings.weight;
    *words = with_values(words, table);
    silence(bert);
    if let Some(last) = bert.layers.last_mut() {
        let scale = &mut last.layer_norm.weight;
        let [hidden] = scale.val().dims();
        let values = (0..hidden).map(|at| if at < SINKS { 0.0 } else { 1.0 });
        *scale = with_values(scale, values.collect());
    }
    Ok(())
}

/// Leaves nothing but words: no positions, no segments, no outputs of attention and feed-forward.
fn silence(bert: &mut BertModel) {
    for table in [
        &mut bert.embeddings.position_embeddings.weight,
        &mut bert.embeddings.token_type_embeddings.weight,
    ] {
        *table = filled(table, 0.0);
    }
    for layer in &mut bert.layers {
        for output in [&mut layer.attention.output.weight, &mut layer.output.weight] {
            *output = filled(output, 0.0);
        }
    }
}

/// A parameter of the same shape on the same device with other values.
fn with_values<const D: usize>(old: &Param<Tensor<D>>, values: Vec<f32>) -> Param<Tensor<D>> {
    let tensor = old.val();
    Param::from_data(TensorData::new(values, tensor.dims()), &tensor.device())
}

fn filled<const D: usize>(old: &Param<Tensor<D>>, value: f32) -> Param<Tensor<D>> {
    let count = old.val().dims().iter().product();
    with_values(old, vec![value; count])
}

/// Rows of the word table, `[vocab, width]` row-major; see [`teach_words`].
fn word_table(
    tokenizer: &TextTokenizer,
    pad: u32,
    teacher: &SentenceEncoder,
    projection: &Projection,
    ids: &[Vec<u32>],
    start: &StartConfig,
    batch_size: usize,
) -> Result<Vec<f32>, RunError> {
    let size = tokenizer.vocab_size();
    let pieces: Vec<String> = (0..size as u32)
        .map(|id| {
            let piece = tokenizer.token(id).unwrap_or_default();
            piece.strip_prefix("##").unwrap_or(&piece).to_owned()
        })
        .collect();
    let mut vectors = projection.apply(&teacher.encode(&pieces, batch_size)?)?;
    let weights: Vec<(f64, f64)> = shares(ids, size)
        .into_iter()
        .zip(0_u32..)
        .map(|(share, id)| match tokenizer.special_ids().contains(&id) {
            true => (share, start.special),
            false => (share, start.sif / (start.sif + share)),
        })
        .collect();
    let dim = vectors.dim;
    let mut centre = vec![0.0_f64; dim];
    let mut total = 0.0;
    for (row, (share, weight)) in vectors.values.chunks(dim).zip(&weights) {
        total += share * weight;
        for (sum, value) in centre.iter_mut().zip(row) {
            *sum += share * weight * f64::from(*value);
        }
    }
    let total = total.max(f64::MIN_POSITIVE);
    for (id, (row, (_, weight))) in (0_u32..).zip(vectors.values.chunks_mut(dim).zip(&weights)) {
        for (value, centre) in row.iter_mut().zip(&centre) {
            *value = (weight * (f64::from(*value) - centre / total)) as f32;
        }
        if let [first, second, ..] = row {
            (*first, *second) = (start.sink as f32, -start.sink as f32);
        }
        if id == pad {
            row.fill(0.0);
        }
    }
    Ok(vectors.values)
}

/// Share of each id among all tokens.
fn shares(ids: &[Vec<u32>], size: usize) -> Vec<f64> {
    let mut counts = vec![0_u64; size];
    for id in ids.iter().flatten() {
        if let Some(count) = counts.get_mut(*id as usize) {
            *count += 1;
        }
    }
    let total = counts.iter().sum::<u64>().max(1) as f64;
    counts.iter().map(|count| *count as f64 / total).collect()
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use encoder::WordPieceTraining;
    use metrics::spearman;

    use super::*;
    use crate::distill::DistillConfig;

    const WIDTH: usize = 64;

    fn student_config() -> StudentConfig {
        StudentConfig {
            hidden_size: WIDTH,
            heads: 2,
            intermediate_size: 32,
            positions: 32,
            ..DistillConfig::default().student
        }
    }

    /// Messages, their tokenizer, and a teacher for which a text is the mean of its words, which have
    /// random meanings.
    fn scene() -> (Vec<String>, TextTokenizer, SentenceEncoder) {
        let texts = datagen::utterances(300, 5).unwrap();
        let training = WordPieceTraining {
            vocab_size: 600,
            min_count: 2,
            alphabet: 100,
        };
        let tokenizer = training.fit(&texts).unwrap();
        let config = BertConfig::tiny(tokenizer.vocab_size());
        let device = Device::flex();
        let mut teacher =
            SentenceEncoder::random(config, tokenizer.clone(), Pooling::Mean, 9, &device).unwrap();
        let hidden = teacher.config.hidden_size;
        silence(&mut teacher.bert);
        let words = &mut teacher.bert.embeddings.word_embeddings.weight;
        let mut table: Vec<f32> = words.val().into_data().iter::<f32>().collect();
        table[..5 * hidden].fill(0.0);
        *words = with_values(words, table);
        (texts, tokenizer, teacher)
    }

    fn cosines(encoder: &SentenceEncoder, texts: &[String]) -> Vec<f64> {
        let vectors = encoder.encode(texts, 32).unwrap();
        (0..texts.len())
            .flat_map(|i| (0..i).map(move |j| (i, j)))
            .map(|(i, j)| {
                let products = vectors.row(i).iter().zip(vectors.row(j));
                products.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
            })
            .collect()
    }

    #[test]
    fn an_untrained_student_agrees_with_its_teacher() {
        let (texts, tokenizer, teacher) = scene();
        let vectors = teacher.encode(&texts, 32).unwrap();
        let projection = Projection::fit(&vectors, WIDTH).unwrap();
        let ids = tokenizer.encode(&texts, 32).unwrap();
        // This teacher makes no difference between frequent and rare words.
        let start = StartConfig {
            sif: 1.0,
            ..DistillConfig::default().start
        };
        let plain = random(&student_config(), tokenizer, 32, 1, &Device::flex()).unwrap();
        let mut taught = plain.clone();
        teach_words(&mut taught, &teacher, &projection, &ids, &start, 32).unwrap();
        let sample = &texts[..60];
        let wanted = cosines(&teacher, sample);
        let of = |student: &SentenceEncoder| spearman(&cosines(student, sample), &wanted).unwrap();
        let (before, after) = (of(&plain), of(&taught));
        assert!(after > 0.8 && after > before + 0.2, "{before} {after}");
        // The sinks are invisible, and padding is nothing.
        let vectors = taught.encode(sample, 32).unwrap();
        for row in 0..sample.len() {
            assert_eq!(vectors.row(row)[..SINKS], [0.0, 0.0]);
        }
    }

    #[test]
    fn rare_words_weigh_more_and_special_tokens_what_they_are_given() {
        let (texts, tokenizer, teacher) = scene();
        let vectors = teacher.encode(&texts, 32).unwrap();
        let projection = Projection::fit(&vectors, WIDTH).unwrap();
        let ids = tokenizer.encode(&texts, 32).unwrap();
        let start = DistillConfig::default().start;
        let table = word_table(&tokenizer, 0, &teacher, &projection, &ids, &start, 32).unwrap();
        let row = |id: usize| &table[id * WIDTH..(id + 1) * WIDTH];
        let length = |id: usize| -> f32 { row(id)[SINKS..].iter().map(|x| x * x).sum() };
        assert!(row(0).iter().all(|x| *x == 0.0));
        assert_eq!(row(7)[..SINKS], [1.0, -1.0]);
        let shares = shares(&ids, tokenizer.vocab_size());
        assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        let word = |text: &str| tokenizer.pieces(text).unwrap()[0] as usize;
        let (often, seldom) = (word("the"), word("kettle"));
        assert!(shares[often] > 5.0 * shares[seldom]);
        assert!(length(seldom) > 5.0 * length(often));
        // The weighted mean of all words is 0.
        for at in SINKS..WIDTH {
            let mean: f64 = shares
                .iter()
                .enumerate()
                .map(|(id, share)| share * f64::from(row(id)[at]))
                .sum();
            assert!(mean.abs() < 1e-7, "{at}: {mean}");
        }
    }
}
