//! The teacher's vectors of the corpus, computed once a run.

use burn::tensor::f16;
use encoder::{Embeddings, SentenceEncoder};
use sha2::{Digest, Sha256};

use crate::error::RunError;
use crate::session::Session;

/// Texts of a block: what is lost at most when a run is stopped.
const BLOCK: usize = 4096;
/// Bytes of the digest in front of a block.
const DIGEST: usize = 32;

/// What vectors depend on.
pub(crate) struct Origin<'o> {
    /// The teacher, cut to the length it encodes with.
    pub(crate) teacher: &'o SentenceEncoder,
    /// SHA-256 of its weights.
    pub(crate) model: &'o str,
    /// SHA-256 of the texts.
    pub(crate) corpus: &'o str,
    /// Texts encoded at a time.
    pub(crate) batch_size: usize,
}

/// Unit vectors of `texts`, in their order.
///
/// Blocks of them are kept in half precision as `teacher/NNNNN.f16` in the run directory, each behind a
/// SHA-256 over its values and over everything they depend on. A block that is there and whole is read,
/// any other is computed; either way the values are those of the file.
///
/// # Errors
///
/// The teacher refuses a text, a file cannot be written; [`RunError::Interrupted`] between blocks.
pub(crate) fn teacher_vectors(
    session: &mut Session<'_>,
    origin: &Origin<'_>,
    texts: &[String],
) -> Result<Embeddings, RunError> {
    let dim = origin.teacher.dim();
    let mut values: Vec<f32> = Vec::with_capacity(texts.len() * dim);
    let blocks = texts.len().div_ceil(BLOCK);
    for (index, block) in texts.chunks(BLOCK).enumerate() {
        let name = format!("teacher/{index:05}.f16");
        let digest = |bytes: &[u8]| origin.digest(index, bytes);
        let path = session.dir.path().join(&name);
        let known = std::fs::read(path)
            .ok()
            .and_then(|file| read_block(&file, block.len() * dim, digest));
        let bytes = match known {
            Some(bytes) => bytes,
            None => {
                session.heed_signals()?;
                let message = format!("teacher: block {} of {blocks}", index + 1);
                session.progress.message(&message);
                let bytes = half_bytes(&origin.teacher.encode(block, origin.batch_size)?);
                let mut file = digest(&bytes).to_vec();
                file.extend(&bytes);
                session.dir.write(&name, &file)?;
                bytes
            }
        };
        values.extend(
            bytes
                .chunks_exact(2)
                .map(|pair| f16::from_le_bytes([pair[0], pair[1]]).to_f32()),
        );
    }
    let mut vectors = Embeddings { values, dim };
    normalise(&mut vectors);
    Ok(vectors)
}

/// Scales rows to unit length; a row of zeros stays.
pub(crate) fn normalise(vectors: &mut Embeddings) {
    for row in vectors.values.chunks_mut(vectors.dim.max(1)) {
        let norm = row
            .iter()
            .map(|x| f64::from(*x).powi(2))
            .sum::<f64>()
            .sqrt();
        if norm > 0.0 {
            row.iter_mut()
                .for_each(|x| *x = (f64::from(*x) / norm) as f32);
        }
    }
}

impl Origin<'_> {
    fn digest(&self, block: usize, bytes: &[u8]) -> [u8; DIGEST] {
        let mut hash = Sha256::new();
        for part in [self.model, self.corpus] {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        for number in [block, self.teacher.max_len, self.batch_size] {
            hash.update((number as u64).to_le_bytes());
        }
        hash.update(bytes);
        hash.finalize().into()
    }
}

/// Values of a file, if there are as many as expected and they are what was written.
fn read_block(
    file: &[u8],
    count: usize,
    digest: impl Fn(&[u8]) -> [u8; DIGEST],
) -> Option<Vec<u8>> {
    let (found, bytes) = file.split_at_checked(DIGEST)?;
    (bytes.len() == 2 * count && found == digest(bytes)).then(|| bytes.to_vec())
}

fn half_bytes(vectors: &Embeddings) -> Vec<u8> {
    let values = vectors.values.iter();
    values
        .flat_map(|value| f16::from_f32(*value).to_le_bytes())
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_block_is_whole_or_nothing() {
        let digest = |bytes: &[u8]| -> [u8; DIGEST] { Sha256::digest(bytes).into() };
        let bytes = half_bytes(&Embeddings {
            values: vec![0.5, -1.0, 3.0],
            dim: 3,
        });
        let mut file = digest(&bytes).to_vec();
        file.extend(&bytes);
        assert_eq!(read_block(&file, 3, digest), Some(bytes));
        assert_eq!(read_block(&file, 4, digest), None);
        assert_eq!(read_block(&file[..20], 3, digest), None);
        for at in [0, DIGEST, DIGEST + 5] {
            let mut broken = file.clone();
            broken[at] ^= 1;
            assert_eq!(read_block(&broken, 3, digest), None, "byte {at}");
        }
    }

    #[test]
    fn rows_get_unit_length() {
        let mut vectors = Embeddings {
            values: vec![3.0, 4.0, 0.0, 0.0],
            dim: 2,
        };
        normalise(&mut vectors);
        assert_eq!(vectors.values, [0.6, 0.8, 0.0, 0.0]);
    }
}
