//! Texts inside a sentence with a mask token, for the pooling [`mask`](crate::Pooling::Mask).

use crate::error::EncoderError;
use crate::tokenizer::TextTokenizer;

/// Where the text goes.
const PLACE: &str = "{s}";

/// Ways to write the mask token, whatever the tokenizer calls it.
const MASKS: [&str; 3] = ["[MASK]", "<mask>", "{mask}"];

/// Tokens around every text: `[CLS] before text after [SEP]`, the last of `after` the mask token.
///
/// The text is cut to the longest length first and wrapped then, so a wrapped text is longer by
/// [`added`](Self::added) tokens.
///
/// Source: PromptBERT (Jiang et al., arXiv 2201.04337), section 3.2, as NGCSE uses it: the text in
/// quotes, no full stop behind the mask.
///
/// ```
/// use encoder::{Template, TextTokenizer};
/// let pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "it", "means", "hello", "\""];
/// let tokenizer = TextTokenizer::from_word_pieces(&pieces).unwrap();
/// let template = Template::new("It: \"{s}\" means [MASK]", &tokenizer).unwrap();
/// let ids = tokenizer.encode(&["hello"], 8).unwrap();
/// assert_eq!(template.wrap(&ids[0]), [2, 5, 1, 8, 7, 8, 6, 4, 3]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    text: String,
    before: Vec<u32>,
    after: Vec<u32>,
}

impl Template {
    /// The template of NGCSE for anchors and for inference.
    pub const NGCSE: &str = "This sentence : \"{s}\" means [MASK]";

    /// The template of NGCSE for the second copy of a text.
    pub const NGCSE_POSITIVE: &str = "This sentence of \"{s}\" means [MASK]";

    /// Tokenises a template: text with `{s}` once, ending in the mask token, which may be written
    /// `[MASK]`, `<mask>` or `{mask}`.
    ///
    /// # Errors
    ///
    /// `{s}` does not occur exactly once, the mask token is not the last, or the tokenizer has no
    /// mask token or does not put one token on either side of a text.
    pub fn new(text: &str, tokenizer: &TextTokenizer) -> Result<Self, EncoderError> {
        let refuse = |expected: &str| EncoderError::Config {
            origin: "pooling".to_owned(),
            field: "template",
            found: text.to_owned(),
            expected: expected.to_owned(),
        };
        let (Some((before, after)), 1) = (text.split_once(PLACE), text.matches(PLACE).count())
        else {
            return Err(refuse("{s} once, for the text"));
        };
        let mask = tokenizer
            .mask_id()
            .and_then(|id| Some((id, tokenizer.token(id)?)));
        let Some((mask, token)) = mask else {
            return Err(refuse("a tokenizer with a mask token"));
        };
        let ids = |part: &str| {
            let part = MASKS
                .iter()
                .fold(part.to_owned(), |part, name| part.replace(name, &token));
            tokenizer.pieces(part.trim_end())
        };
        let (before, after) = (ids(before)?, ids(after)?);
        if after.last() != Some(&mask) || before.contains(&mask) {
            return Err(refuse("the mask token at the end, and nowhere else"));
        }
        if tokenizer.encode(&[""], 3)?.iter().any(|ids| ids.len() != 2) {
            return Err(refuse(
                "a tokenizer with one special token on either side of a text",
            ));
        }
        Ok(Self {
            text: text.to_owned(),
            before,
            after,
        })
    }

    /// The template as it was given.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Tokens that the template adds to a text.
    pub fn added(&self) -> usize {
        self.before.len() + self.after.len()
    }

    /// Wraps the ids of a text, first and last token included.
    pub fn wrap(&self, ids: &[u32]) -> Vec<u32> {
        let (first, rest) = ids.split_at(ids.len().min(1));
        let (middle, last) = rest.split_at(rest.len().saturating_sub(1));
        [first, &self.before, middle, &self.after, last].concat()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A vocabulary of fillers with the given pieces at the places they have in
    /// `bert-base-uncased`.
    fn bert() -> TextTokenizer {
        let mut pieces: Vec<String> = (0..7000).map(|id| format!("[unused{id}]")).collect();
        for (id, piece) in [
            (0, "[PAD]"),
            (100, "[UNK]"),
            (101, "[CLS]"),
            (102, "[SEP]"),
            (103, "[MASK]"),
            (1000, "\""),
            (1024, ":"),
            (1997, "of"),
            (2023, "this"),
            (2965, "means"),
            (6251, "sentence"),
        ] {
            pieces[id] = piece.to_owned();
        }
        TextTokenizer::from_word_pieces(&pieces).unwrap()
    }

    /// Ids that NGCSE's code holds for BERT.
    #[test]
    fn piece_ids_are_those_of_the_published_code() {
        let tokenizer = bert();
        let ids = tokenizer.encode(&["of"], 32).unwrap();
        let wrapped = |text: &str| Template::new(text, &tokenizer).unwrap().wrap(&ids[0]);
        assert_eq!(
            wrapped(Template::NGCSE),
            [101, 2023, 6251, 1024, 1000, 1997, 1000, 2965, 103, 102]
        );
        assert_eq!(
            wrapped(Template::NGCSE_POSITIVE),
            [101, 2023, 6251, 1997, 1000, 1997, 1000, 2965, 103, 102]
        );
    }

    /// As [`bert`], for `roberta-base`: each word is merged letter by letter.
    fn roberta() -> TextTokenizer {
        let words = [
            (0, "<s>"),
            (1, "<pad>"),
            (2, "</s>"),
            (3, "<unk>"),
            (9, "\u{120}of"),
            (22, "\u{120}\""),
            (113, "\""),
            (713, "This"),
            (839, "\u{120}means"),
            (3645, "\u{120}sentence"),
            (4832, "\u{120}:"),
            (50264, "<mask>"),
        ];
        let mut vocab: std::collections::HashMap<String, u32> = words
            .iter()
            .map(|(id, word)| ((*word).to_owned(), *id))
            .collect();
        let mut merges = Vec::new();
        let mut next = 10_000;
        let mut piece = |piece: &str| {
            vocab.entry(piece.to_owned()).or_insert_with(|| {
                next += 1;
                next
            });
        };
        for (_, word) in words.iter().filter(|(_, word)| !word.starts_with('<')) {
            let letters: Vec<String> = word.chars().map(String::from).collect();
            letters.iter().for_each(|letter| piece(letter));
            let mut joined = letters[0].clone();
            for letter in &letters[1..] {
                merges.push((joined.clone(), letter.clone()));
                joined += letter;
                piece(&joined);
            }
        }
        TextTokenizer::from_merges(vocab, merges).unwrap()
    }

    #[test]
    fn piece_ids_of_byte_level_tokenizers_are_those_of_the_published_code() {
        let tokenizer = roberta();
        let ids = tokenizer.encode(&["\""], 32).unwrap();
        let wrapped = |text: &str| Template::new(text, &tokenizer).unwrap().wrap(&ids[0]);
        assert_eq!(
            wrapped(Template::NGCSE),
            [0, 713, 3645, 4832, 22, 113, 113, 839, 50264, 2]
        );
        assert_eq!(
            wrapped(Template::NGCSE_POSITIVE),
            [0, 713, 3645, 9, 22, 113, 113, 839, 50264, 2]
        );
    }

    #[test]
    fn the_text_is_cut_before_it_is_wrapped() {
        let tokenizer = bert();
        let template = Template::new(Template::NGCSE, &tokenizer).unwrap();
        let ids = tokenizer.encode(&["this ".repeat(60)], 32).unwrap();
        let wrapped = template.wrap(&ids[0]);
        assert_eq!((ids[0].len(), template.added(), wrapped.len()), (32, 7, 39));
        assert_eq!(wrapped[wrapped.len() - 2], 103);
    }

    #[test]
    fn templates_without_place_or_mask_are_refused() {
        let tokenizer = bert();
        for text in [
            "this means [MASK]",
            "{s} {s} [MASK]",
            "{s} means",
            "{s} [MASK] .",
            "[MASK] {s} [MASK]",
        ] {
            let error = Template::new(text, &tokenizer).unwrap_err();
            assert!(error.to_string().contains(text), "{error}");
        }
    }
}
