//! Distinct texts, tokenised once.

use std::collections::HashMap;

use encoder::TextTokenizer;

use crate::error::RunError;

/// Token ids of distinct texts; rows refer to them by index.
#[derive(Clone, Debug)]
pub(crate) struct TextTable {
    ids: Vec<Vec<u32>>,
}

impl TextTable {
    /// Tokenises the distinct texts of `columns`; returns for every column the index of the text of
    /// each row.
    pub(crate) fn new(
        columns: &[&[String]],
        tokenizer: &TextTokenizer,
        max_len: usize,
    ) -> Result<(Self, Vec<Vec<usize>>), RunError> {
        let mut seen: HashMap<&str, usize> = HashMap::new();
        let mut texts: Vec<&str> = Vec::new();
        let indices = columns
            .iter()
            .map(|column| {
                column
                    .iter()
                    .map(|text| {
                        *seen.entry(text).or_insert_with(|| {
                            texts.push(text);
                            texts.len() - 1
                        })
                    })
                    .collect()
            })
            .collect();
        let ids = tokenizer.encode(&texts, max_len)?;
        Ok((Self { ids }, indices))
    }

    /// Token ids of all texts.
    pub(crate) fn all(&self) -> &[Vec<u32>] {
        &self.ids
    }

    /// Number of tokens of a text.
    pub(crate) fn tokens(&self, index: usize) -> usize {
        self.ids[index].len()
    }

    /// Token ids of the texts at `indices`.
    pub(crate) fn rows(&self, indices: &[usize]) -> Vec<&[u32]> {
        indices.iter().map(|at| self.ids[*at].as_slice()).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn equal_texts_are_tokenised_once() {
        let pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b"];
        let tokenizer = TextTokenizer::from_word_pieces(&pieces).unwrap();
        let first = ["a b", "b", "a b"].map(str::to_owned);
        let second = ["b", "a a a a a a", ""].map(str::to_owned);
        let (table, columns) = TextTable::new(&[&first, &second], &tokenizer, 5).unwrap();
        assert_eq!(columns, [vec![0, 1, 0], vec![1, 2, 3]]);
        assert_eq!(table.all().len(), 4);
        assert_eq!(
            table.rows(&[0, 1, 0]),
            [&[2, 5, 6, 3][..], &[2, 6, 3], &[2, 5, 6, 3]]
        );
        // Cut at five tokens, special ones included.
        assert_eq!((table.tokens(2), table.tokens(3)), (5, 2));
    }
}
