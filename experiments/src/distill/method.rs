//! Batches of the corpus and what the student has to agree with.

use std::collections::BTreeMap;

use burn::module::Module;
use burn::tensor::{Tensor, TensorData};
use encoder::{Embeddings, unit_rows};
use losses::EmbeddingDistillation;

use super::projection::Projection;
use crate::embedding::{BatchOrder, Method};
use crate::error::RunError;

/// There are no parameters beside the student.
#[derive(Module, Debug)]
pub(crate) struct NoHead;

/// The objective over a batch of `n` texts with student vectors `s`, teacher vectors `t` (unit length)
/// and projected teacher vectors `z`:
///
/// ```text
/// L = w_v 1/n sum_i (1 - cos(s_i, z_i)) + w_s 1/(n (n-1)) sum_{i != j} (cos(s_i, s_j) - t_i . t_j)^2
/// ```
///
/// The second part is left out for a single text.
pub(crate) struct Distillation {
    pub(crate) batches: BatchOrder,
    /// Unit vectors of the teacher, row by row of the corpus.
    pub(crate) teacher: Embeddings,
    pub(crate) projection: Projection,
    pub(crate) vectors: EmbeddingDistillation,
    pub(crate) vector_weight: f64,
    pub(crate) similarity_weight: f64,
}

impl Method for Distillation {
    type Head = NoHead;
    /// Rows of the batch.
    type Batch = Vec<usize>;

    fn batch(&mut self, step: u64) -> Result<(Vec<usize>, Vec<usize>), RunError> {
        let rows = self.batches.rows(step)?.to_vec();
        Ok((rows.clone(), rows))
    }

    fn rows(&self, step: u64) -> Result<BTreeMap<String, Vec<usize>>, RunError> {
        let rows = self.batches.rows(step)?.to_vec();
        Ok(BTreeMap::from([("rows".to_owned(), rows)]))
    }

    fn loss(
        &self,
        _: &NoHead,
        student: Tensor<2>,
        rows: &Vec<usize>,
    ) -> Result<Tensor<1>, RunError> {
        let device = student.device();
        let values: Vec<f32> = rows
            .iter()
            .flat_map(|row| self.teacher.row(*row).to_vec())
            .collect();
        let shape = [rows.len(), self.teacher.dim];
        let teacher = Tensor::<2>::from_data(TensorData::new(values, shape), &device);
        let target = unit_rows(teacher.clone().matmul(self.projection.tensor(&device)));
        let loss = self
            .vectors
            .forward(student.clone(), target)?
            .mul_scalar(self.vector_weight);
        if rows.len() < 2 {
            return Ok(loss);
        }
        // On the diagonal both are 1 but for rounding, and a unit vector's product with itself has no
        // gradient: nothing has to be masked.
        let student = unit_rows(student);
        let difference = student.clone().matmul(student.transpose())
            - teacher.clone().matmul(teacher.transpose());
        let pairs = (rows.len() * (rows.len() - 1)) as f64;
        let similarities = difference.square().sum();
        Ok(loss + similarities.mul_scalar(self.similarity_weight / pairs))
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use burn::tensor::Device;
    use encoder::BertConfig;
    use losses::{EmbeddingDistance, EmbeddingDistillationConfig};

    use super::*;
    use crate::distill::teacher::normalise;
    use crate::embedding::{BatchRules, Column, TextTable};

    const DIM: usize = 3;
    const WIDTH: usize = 5;

    fn method() -> Distillation {
        let mut teacher = Embeddings {
            values: vec![1.0, 0.2, 0.1, 0.3, 1.0, -0.4, 0.2, 0.1, 1.0, 1.0, 1.0, 0.3],
            dim: DIM,
        };
        normalise(&mut teacher);
        let pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"];
        assert_eq!(BertConfig::tiny(pieces.len()).vocab_size, 6);
        let tokenizer = encoder::TextTokenizer::from_word_pieces(&pieces).unwrap();
        let texts: Vec<String> = (1..5).map(|count| "a ".repeat(count)).collect();
        let (texts, columns) = TextTable::new(&[Column::plain(&texts)], &tokenizer, 8).unwrap();
        let rules = BatchRules {
            size: 4,
            epochs: 1,
            max_steps: 0,
            same_order: false,
            bucket_batches: 0,
            no_duplicates: None,
            file: "",
            key: 0,
        };
        let distance = EmbeddingDistillationConfig::new().with_distance(EmbeddingDistance::Cosine);
        Distillation {
            batches: BatchOrder::new(&rules, &columns, &texts, &training::Streams::new(1)).unwrap(),
            projection: Projection::fit(&teacher, WIDTH).unwrap(),
            teacher,
            vectors: distance.init(),
            vector_weight: 1.0,
            similarity_weight: 20.0,
        }
    }

    fn loss(method: &Distillation, student: &[f32], rows: &[usize]) -> f64 {
        let data = TensorData::new(student.to_vec(), [rows.len(), WIDTH]);
        let student = Tensor::<2>::from_data(data, &Device::flex());
        let loss = method.loss(&NoHead, student, &rows.to_vec()).unwrap();
        f64::from(loss.into_scalar::<f32>())
    }

    #[test]
    fn the_loss_is_what_its_formula_says() {
        let method = method();
        let rows = [2, 0, 3];
        let student: Vec<f32> = (0..rows.len() * WIDTH)
            .map(|at| ((at * 7 % 11) as f32 - 4.0) / 5.0)
            .collect();
        let unit = |values: &[f32]| {
            let mut rows = Embeddings {
                values: values.to_vec(),
                dim: values.len(),
            };
            normalise(&mut rows);
            rows.values
        };
        let dot = |a: &[f32], b: &[f32]| -> f64 {
            let products = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b));
            products.sum()
        };
        let targets = method.projection.apply(&method.teacher).unwrap();
        let s: Vec<Vec<f32>> = student.chunks(WIDTH).map(unit).collect();
        let (mut vectors, mut similarities) = (0.0, 0.0);
        for (i, a) in rows.iter().enumerate() {
            vectors += (1.0 - dot(&s[i], targets.row(*a))) / 3.0;
            for (j, b) in rows.iter().enumerate().filter(|(j, _)| *j != i) {
                let wanted = dot(method.teacher.row(*a), method.teacher.row(*b));
                similarities += (dot(&s[i], &s[j]) - wanted).powi(2) / 6.0;
            }
        }
        let expected = vectors + 20.0 * similarities;
        let found = loss(&method, &student, &rows);
        assert!((found - expected).abs() < 1e-4, "{found} {expected}");
        // A single text has vectors only.
        let found = loss(&method, &student[..WIDTH], &rows[..1]);
        assert!((found - (1.0 - dot(&s[0], targets.row(2)))).abs() < 1e-5);
    }

    #[test]
    fn a_student_that_says_what_the_teacher_says_has_no_loss() {
        let method = method();
        let targets = method.projection.apply(&method.teacher).unwrap();
        // All three dimensions of the teacher fit, so similarities agree as well.
        let found = loss(&method, &targets.values, &[0, 1, 2, 3]);
        assert!(found.abs() < 1e-5, "{found}");
    }
}
