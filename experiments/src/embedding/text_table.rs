//! Distinct texts, tokenised once.

use std::collections::HashMap;

use encoder::{Template, TextTokenizer};

use crate::error::RunError;

/// Token ids of distinct texts; rows refer to them by index.
#[derive(Clone, Debug)]
pub(crate) struct TextTable {
    ids: Vec<Vec<u32>>,
}

/// Texts with what they are wrapped in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column<'t> {
    pub(crate) texts: &'t [String],
    /// Goes around every text after it is cut.
    pub(crate) template: Option<&'t Template>,
}

impl<'t> Column<'t> {
    /// Texts as they are.
    pub(crate) fn plain(texts: &'t [String]) -> Self {
        Self {
            texts,
            template: None,
        }
    }
}

impl TextTable {
    /// Tokenises the distinct texts of `columns`, cut to `max_len` tokens before they are wrapped;
    /// returns for every column the index of the text of each row. A text in two templates is two texts.
    pub(crate) fn new(
        columns: &[Column<'_>],
        tokenizer: &TextTokenizer,
        max_len: usize,
    ) -> Result<(Self, Vec<Vec<usize>>), RunError> {
        let mut seen: HashMap<(Option<&str>, &str), usize> = HashMap::new();
        let mut texts: Vec<(Option<&Template>, &str)> = Vec::new();
        let indices = columns
            .iter()
            .map(|column| {
                let name = column.template.map(Template::text);
                column
                    .texts
                    .iter()
                    .map(|text| {
                        *seen.entry((name, text)).or_insert_with(|| {
                            texts.push((column.template, text));
                            texts.len() - 1
                        })
                    })
                    .collect()
            })
            .collect();
        let plain: Vec<&str> = texts.iter().map(|(_, text)| *text).collect();
        let mut ids = tokenizer.encode(&plain, max_len)?;
        for (ids, (template, _)) in ids.iter_mut().zip(&texts) {
            if let Some(template) = template {
                *ids = template.wrap(ids);
            }
        }
        Ok((Self { ids }, indices))
    }

    /// Adds a text that is given as ids, special tokens and all; returns its index.
    pub(crate) fn add(&mut self, ids: Vec<u32>) -> usize {
        self.ids.push(ids);
        self.ids.len() - 1
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

    const PIECES: [&str; 8] = [
        "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "means",
    ];

    #[test]
    fn equal_texts_are_tokenised_once() {
        let tokenizer = TextTokenizer::from_word_pieces(&PIECES).unwrap();
        let first = ["a b", "b", "a b"].map(str::to_owned);
        let second = ["b", "a a a a a a", ""].map(str::to_owned);
        let both = [Column::plain(&first), Column::plain(&second)];
        let (table, columns) = TextTable::new(&both, &tokenizer, 5).unwrap();
        assert_eq!(columns, [vec![0, 1, 0], vec![1, 2, 3]]);
        assert_eq!(table.all().len(), 4);
        assert_eq!(
            table.rows(&[0, 1, 0]),
            [&[2, 5, 6, 3][..], &[2, 6, 3], &[2, 5, 6, 3]]
        );
        // Cut at five tokens, special ones included.
        assert_eq!((table.tokens(2), table.tokens(3)), (5, 2));
    }

    #[test]
    fn texts_are_cut_and_then_wrapped_by_their_column() {
        let tokenizer = TextTokenizer::from_word_pieces(&PIECES).unwrap();
        let texts = ["a b", "a a a a"].map(str::to_owned);
        let [short, long] = ["{s} [MASK]", "b {s} means [MASK]"]
            .map(|text| Template::new(text, &tokenizer).unwrap());
        let column = |template| Column {
            texts: &texts,
            template,
        };
        let columns = [
            column(Some(&short)),
            column(Some(&long)),
            column(None),
            column(Some(&short)),
        ];
        let (table, columns) = TextTable::new(&columns, &tokenizer, 5).unwrap();
        assert_eq!(columns, [vec![0, 1], vec![2, 3], vec![4, 5], vec![0, 1]]);
        assert_eq!(
            table.rows(&[0, 1, 2, 3, 4, 5]),
            [
                &[2, 5, 6, 4, 3][..],
                &[2, 5, 5, 5, 4, 3],
                &[2, 6, 5, 6, 7, 4, 3],
                &[2, 6, 5, 5, 5, 7, 4, 3],
                &[2, 5, 6, 3],
                &[2, 5, 5, 5, 3],
            ]
        );
    }
}
