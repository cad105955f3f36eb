//! Tokens and sentence vectors of a model directory.

use std::collections::BTreeMap;

use encoder::{Pooling, encode_ids};
use serde_json::Value;

use burn::module::Module;

use super::probe::{CaseError, CaseResult, Got, Probe, refused};

/// What the items with the first tokens of each text are called, before their number.
const FIRST_TOKENS: &str = "decoded_tokens_first";

/// `bert_tokens`: ids of every text, and the first of them as word pieces.
pub(super) fn tokens(probe: &mut Probe<'_>) -> CaseResult {
    if let Some(flag) = probe.param("add_special_tokens")
        && *flag != Value::Bool(true)
    {
        return Err(probe.unknown("add_special_tokens", flag));
    }
    let tokenizer = &probe.encoder()?.tokenizer;
    let texts = probe.texts("text")?;
    let ids = tokenizer
        .encode(texts, probe.count("max_len")?)
        .map_err(refused)?;
    let pieces = word_pieces(&tokenizer.to_json().map_err(refused)?)?;
    let items: Vec<&str> = probe.expected_items().collect();
    for item in items {
        let first = item
            .strip_prefix(FIRST_TOKENS)
            .and_then(|n| n.parse::<usize>().ok());
        for (text, ids) in ids.iter().enumerate() {
            let path = format!("{item}[{text}]");
            if item == "ids" {
                probe.put_numbers(path, ids.iter().map(|&id| f64::from(id)).collect());
            } else if let Some(first) = first {
                let pieces = ids.iter().take(first).map(|id| {
                    let piece = pieces.get(id).cloned();
                    piece.unwrap_or_else(|| format!("id {id} outside the vocabulary"))
                });
                probe.put(path, Got::Texts(pieces.collect()));
            }
        }
    }
    Ok(())
}

/// The word piece of every id of a `tokenizer.json`.
fn word_pieces(json: &str) -> CaseResult<BTreeMap<u32, String>> {
    let json: Value = serde_json::from_str(json).map_err(refused)?;
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    let mut pieces = BTreeMap::new();
    match json.pointer("/model/vocab") {
        Some(Value::Object(vocabulary)) => {
            let entries = vocabulary.iter();
            pieces.extend(entries.filter_map(|(piece, at)| Some((id(at)?, piece.clone()))));
        }
        // Unigram models list [piece, score] by id.
        Some(Value::Array(list)) => {
            let entries = (0_u32..).zip(list);
            pieces.extend(
                entries.filter_map(|(id, entry)| Some((id, entry.get(0)?.as_str()?.to_owned()))),
            );
        }
        _ => {
            let message = "tokenizer.json: expected a vocabulary at model.vocab";
            return Err(CaseError::Refused(message.into()));
        }
    }
    let added = json.get("added_tokens").and_then(Value::as_array);
    for token in added.into_iter().flatten() {
        let content = token.get("content").and_then(Value::as_str);
        if let (Some(id), Some(content)) = (token.get("id").and_then(id), content) {
            pieces.insert(id, content.to_owned());
        }
    }
    Ok(pieces)
}

/// `bert_*`: every expected item is named by its pooling, with `_norm` behind it for unit length.
pub(super) fn sentence_vectors(probe: &mut Probe<'_>) -> CaseResult {
    let items: Vec<&str> = probe.expected_items().collect();
    for item in items {
        let (pooling, normalize) = match item.strip_suffix("_norm") {
            Some(pooling) => (pooling, true),
            None => (item, false),
        };
        // An unknown pooling leaves a gap that is reported as such.
        if let Ok(pooling) = pooling.parse() {
            let (vectors, _) = vectors(probe, pooling, normalize, usize::MAX)?;
            probe.put_floats(item, vectors);
        }
    }
    Ok(())
}

/// `bert_cosine`: cosines of all pairs of mean-pooled vectors, however the texts are batched.
pub(super) fn cosine(probe: &mut Probe<'_>) -> CaseResult {
    for batch_size in [usize::MAX, 1, 5] {
        let (vectors, dim) = vectors(probe, Pooling::Mean, true, batch_size)?;
        let rows: Vec<&[f32]> = vectors.chunks(dim.max(1)).collect();
        let dot = |a: &[f32], b: &[f32]| -> f64 {
            a.iter()
                .zip(b)
                .map(|(a, b)| f64::from(*a) * f64::from(*b))
                .sum()
        };
        let cosines = rows
            .iter()
            .flat_map(|a| rows.iter().map(move |b| dot(a, b)))
            .collect();
        probe.put_numbers("cos", cosines);
    }
    Ok(())
}

/// Row-major vectors of the texts, and their dimension.
fn vectors(
    probe: &Probe<'_>,
    pooling: Pooling,
    normalize: bool,
    batch_size: usize,
) -> CaseResult<(Vec<f32>, usize)> {
    let encoder = probe.encoder()?;
    let ids = encoder
        .tokenizer
        .encode(probe.texts("text")?, probe.count("max_len")?)
        .map_err(refused)?;
    let bert = encoder.bert.valid();
    let found = encode_ids(&bert, pooling, normalize, &ids, batch_size, |_, _| {});
    let found = found.map_err(refused)?;
    Ok((found.values, found.dim))
}
