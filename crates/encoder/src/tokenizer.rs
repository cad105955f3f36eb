//! Text to token ids, through the `tokenizers` library.

use std::cell::Cell;
use std::collections::{BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::path::Path;
use std::sync::Once;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use tokenizers::models::bpe::BPE;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::processors::bert::BertProcessing;
use tokenizers::processors::roberta::RobertaProcessing;
use tokenizers::{
    AddedToken, Tokenizer, TruncationDirection, TruncationParams, TruncationStrategy,
};

use crate::error::EncoderError;

/// Largest tokenizer file that is read, in bytes.
const MAX_FILE: u64 = 64 << 20;

/// Names of the special tokens of word-piece vocabularies: padding, unknown, first, last, mask.
const BRACKETS: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];

/// Names of the special tokens of RoBERTa's vocabulary, in the same order.
const ANGLES: [&str; 5] = ["<pad>", "<unk>", "<s>", "</s>", "<mask>"];

/// A tokenizer with the special tokens of a BERT-style encoder.
///
/// Texts become `[CLS] pieces [SEP]` (`<s> pieces </s>` with RoBERTa's names), cut to a length
/// given at each call; padding is left to [`TokenBatch`](crate::TokenBatch).
///
/// ```
/// let pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "play", "##ing", "music"];
/// let tokenizer = encoder::TextTokenizer::from_word_pieces(&pieces).unwrap();
/// assert_eq!(tokenizer.encode(&["Playing music"], 16).unwrap(), [[2, 5, 6, 7, 3]]);
/// ```
#[derive(Clone, Debug)]
pub struct TextTokenizer {
    inner: Tokenizer,
    pad: u32,
    cls: Option<u32>,
    sep: Option<u32>,
    mask: Option<u32>,
    special: BTreeSet<u32>,
    vocab_size: usize,
    /// The library's tokenizer set to the last length asked for: setting it copies the vocabulary.
    truncating: Arc<Mutex<Option<Truncating>>>,
}

/// A length, and the library's tokenizer that cuts to it.
type Truncating = (usize, Arc<Tokenizer>);

impl TextTokenizer {
    /// Reads the tokenizer of a model directory: `tokenizer.json`, or where there is none the older
    /// forms `vocab.json` with `merges.txt` (byte-level BPE of RoBERTa) and `vocab.txt`
    /// (WordPiece). The names of special tokens are taken from `tokenizer_config.json` and
    /// `special_tokens_map.json` if they are there.
    ///
    /// # Errors
    ///
    /// None of the files is there, one cannot be read or is larger than 64 MiB, or the library
    /// refuses it or panics on it.
    pub fn from_dir(dir: &Path) -> Result<Self, EncoderError> {
        let names = SpecialNames::read(dir)?;
        let path = dir.join("tokenizer.json");
        let (vocabulary, merges) = (dir.join("vocab.json"), dir.join("merges.txt"));
        let pieces = dir.join("vocab.txt");
        let origin = |path: &Path| path.display().to_string();
        if !path.exists() && vocabulary.exists() && merges.exists() {
            let vocab = read_vocabulary(&vocabulary)?;
            let merges = read_merges(&merges)?;
            return Self::byte_level(vocab, merges, &names, &origin(&vocabulary));
        }
        if !path.exists() && pieces.exists() {
            let text = read_text(&pieces)?;
            let lines: Vec<&str> = text.lines().map(|line| line.trim_end()).collect();
            return Self::word_pieces(&lines, &names, &origin(&pieces));
        }
        Self::parse(&read_limited(&path)?, &names, &origin(&path))
    }

    /// Reads `tokenizer.json`.
    ///
    /// # Errors
    ///
    /// The file cannot be read, is larger than 64 MiB, or the library refuses it or panics on it.
    pub fn from_file(path: &Path) -> Result<Self, EncoderError> {
        let bytes = read_limited(path)?;
        Self::from_bytes(&bytes, &path.display().to_string())
    }

    /// Parses the contents of a `tokenizer.json`; `origin` is named in errors.
    ///
    /// # Errors
    ///
    /// As [`from_file`](Self::from_file).
    pub fn from_bytes(bytes: &[u8], origin: &str) -> Result<Self, EncoderError> {
        Self::parse(bytes, &SpecialNames::default(), origin)
    }

    fn parse(bytes: &[u8], names: &SpecialNames, origin: &str) -> Result<Self, EncoderError> {
        let fail = |message: String| EncoderError::Tokenizer {
            origin: origin.to_owned(),
            message,
        };
        // Some malformed files make the library panic, a few of them only at the first text.
        let inner = guarded(|| {
            let mut inner = Tokenizer::from_bytes(bytes).map_err(|error| error.to_string())?;
            inner.with_padding(None);
            inner
                .with_truncation(None)
                .map_err(|error| error.to_string())?;
            inner
                .encode_fast("Probe text: naïve 12 ##x \u{4eca}\u{5929}.", true)
                .map_err(|error| error.to_string())?;
            Ok(inner)
        })
        .map_err(fail)?;
        Self::from_library(inner, names).map_err(fail)
    }

    /// Builds a lower-casing BERT WordPiece tokenizer from its vocabulary, id = position.
    ///
    /// # Errors
    ///
    /// A piece occurs twice, or one of `[PAD] [UNK] [CLS] [SEP] [MASK]` is missing.
    pub fn from_word_pieces<S: AsRef<str>>(pieces: &[S]) -> Result<Self, EncoderError> {
        Self::word_pieces(pieces, &SpecialNames::default(), "word piece list")
    }

    fn word_pieces<S: AsRef<str>>(
        pieces: &[S],
        names: &SpecialNames,
        origin: &str,
    ) -> Result<Self, EncoderError> {
        let fail = |message: String| EncoderError::Tokenizer {
            origin: origin.to_owned(),
            message,
        };
        let mut vocab: HashMap<String, u32> = HashMap::new();
        for (id, piece) in (0u32..).zip(pieces) {
            if vocab.insert(piece.as_ref().to_owned(), id).is_some() {
                return Err(fail(format!("piece `{}` occurs twice", piece.as_ref())));
            }
        }
        let specials = names.or(BRACKETS);
        let mut ids = [0; 5];
        for (id, token) in ids.iter_mut().zip(&specials) {
            *id = vocab
                .get(token.as_str())
                .copied()
                .ok_or_else(|| fail(format!("special token {token} is missing")))?;
        }
        let model = WordPiece::builder()
            .vocab(vocab.into_iter().collect::<ahash::AHashMap<_, _>>())
            .unk_token(specials[1].clone())
            .build()
            .map_err(|error| fail(error.to_string()))?;
        let mut inner = Tokenizer::new(model);
        inner
            .with_normalizer(Some(BertNormalizer::new(
                true,
                true,
                None,
                names.lower_case.unwrap_or(true),
            )))
            .map_err(|error| fail(error.to_string()))?;
        inner.with_pre_tokenizer(Some(BertPreTokenizer));
        inner.with_post_processor(Some(BertProcessing::new(
            (specials[3].clone(), ids[3]),
            (specials[2].clone(), ids[2]),
        )));
        inner
            .add_special_tokens(specials.map(|token| AddedToken::from(token, true)))
            .map_err(|error| fail(error.to_string()))?;
        Self::from_library(inner, names).map_err(fail)
    }

    /// RoBERTa's tokenizer from its vocabulary and merges, with the usual names of special tokens.
    #[cfg(test)]
    pub(crate) fn from_merges(
        vocab: HashMap<String, u32>,
        merges: Vec<(String, String)>,
    ) -> Result<Self, EncoderError> {
        Self::byte_level(vocab, merges, &SpecialNames::default(), "test")
    }

    /// RoBERTa's tokenizer from its vocabulary and merges.
    fn byte_level(
        vocab: HashMap<String, u32>,
        merges: Vec<(String, String)>,
        names: &SpecialNames,
        origin: &str,
    ) -> Result<Self, EncoderError> {
        let fail = |message: String| EncoderError::Tokenizer {
            origin: origin.to_owned(),
            message,
        };
        let specials = names.or(ANGLES);
        let mut ids = [0; 5];
        for (id, token) in ids.iter_mut().zip(&specials) {
            *id = vocab
                .get(token.as_str())
                .copied()
                .ok_or_else(|| fail(format!("special token {token} is missing")))?;
        }
        // The library panics on some vocabularies that no merge can reach.
        let inner = guarded(|| {
            let model = BPE::builder()
                .vocab_and_merges(vocab.into_iter().collect::<ahash::AHashMap<_, _>>(), merges)
                .build()
                .map_err(|error| error.to_string())?;
            let mut inner = Tokenizer::new(model);
            let space = names.prefix_space.unwrap_or(false);
            inner.with_pre_tokenizer(Some(ByteLevel::new(space, true, true)));
            inner.with_decoder(Some(ByteLevel::default()));
            inner.with_post_processor(Some(
                RobertaProcessing::new(
                    (specials[3].clone(), ids[3]),
                    (specials[2].clone(), ids[2]),
                )
                .add_prefix_space(space),
            ));
            let mask = specials[4].clone();
            let tokens = specials.clone().map(|token| {
                let is_mask = token == mask;
                AddedToken::from(token, true).lstrip(is_mask)
            });
            inner
                .add_special_tokens(tokens)
                .map_err(|error| error.to_string())?;
            Ok(inner)
        })
        .map_err(fail)?;
        Self::from_library(inner, names).map_err(fail)
    }

    fn from_library(inner: Tokenizer, names: &SpecialNames) -> Result<Self, String> {
        let find = |at: usize| {
            let told = names.tokens[at].iter().map(String::as_str);
            told.chain([BRACKETS[at], ANGLES[at]])
                .find_map(|token| inner.token_to_id(token))
        };
        let pad = find(0).ok_or("no padding token ([PAD] or <pad>)")?;
        let mut special: BTreeSet<u32> = inner
            .get_added_tokens_decoder()
            .into_iter()
            .filter(|(_, token)| token.special)
            .map(|(id, _)| id)
            .collect();
        // The unknown token belongs to the special set of the reference tokenizers even where the
        // file does not list it among the added tokens.
        let usual = match inner.token_to_id(BRACKETS[2]) {
            Some(_) => BRACKETS.as_slice(),
            None => ANGLES.as_slice(),
        };
        let told = names.tokens.iter().flatten().map(String::as_str);
        for token in told.chain(BRACKETS).chain(usual.iter().copied()) {
            special.extend(inner.token_to_id(token));
        }
        let vocab_size = inner.get_vocab_size(true);
        Ok(Self {
            pad,
            cls: find(2),
            sep: find(3),
            mask: find(4),
            special,
            vocab_size,
            inner,
            truncating: Arc::default(),
        })
    }

    /// Token ids of each text, special tokens included, at most `max_len` a text.
    ///
    /// # Errors
    ///
    /// `max_len` leaves no room for the special tokens, or the library fails on a text.
    pub fn encode<S: AsRef<str>>(
        &self,
        texts: &[S],
        max_len: usize,
    ) -> Result<Vec<Vec<u32>>, EncoderError> {
        if max_len < 3 {
            return Err(EncoderError::Config {
                origin: "tokenizer".to_owned(),
                field: "max_len",
                found: max_len.to_string(),
                expected: "at least 3 ([CLS], one piece, [SEP])".to_owned(),
            });
        }
        let inner = self.truncated(max_len)?;
        texts
            .iter()
            .enumerate()
            .map(|(index, text)| {
                guarded(|| {
                    inner
                        .encode_fast(text.as_ref(), true)
                        .map(|encoding| encoding.get_ids().to_vec())
                        .map_err(|error| error.to_string())
                })
                .map_err(|message| EncoderError::Tokenize { index, message })
            })
            .collect()
    }

    /// Token ids of a text without special tokens and without a limit.
    ///
    /// # Errors
    ///
    /// The library fails on the text.
    pub fn pieces(&self, text: &str) -> Result<Vec<u32>, EncoderError> {
        guarded(|| {
            self.inner
                .encode_fast(text, false)
                .map(|encoding| encoding.get_ids().to_vec())
                .map_err(|error| error.to_string())
        })
        .map_err(|message| EncoderError::Tokenize { index: 0, message })
    }

    fn truncated(&self, max_len: usize) -> Result<Arc<Tokenizer>, EncoderError> {
        let mut cached = self
            .truncating
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some((length, inner)) = cached.as_ref()
            && *length == max_len
        {
            return Ok(Arc::clone(inner));
        }
        let mut inner = self.inner.clone();
        inner
            .with_truncation(Some(TruncationParams {
                direction: TruncationDirection::Right,
                max_length: max_len,
                strategy: TruncationStrategy::LongestFirst,
                stride: 0,
            }))
            .map_err(|error| EncoderError::Tokenize {
                index: 0,
                message: error.to_string(),
            })?;
        let inner = Arc::new(inner);
        *cached = Some((max_len, Arc::clone(&inner)));
        Ok(inner)
    }

    /// Id of the padding token.
    pub fn pad_id(&self) -> u32 {
        self.pad
    }

    /// Id of the first token of every text, if the tokenizer has one.
    pub fn cls_id(&self) -> Option<u32> {
        self.cls
    }

    /// Id of the last token of every text, if the tokenizer has one.
    pub fn sep_id(&self) -> Option<u32> {
        self.sep
    }

    /// The token of an id.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// Id of the mask token, if there is one.
    pub fn mask_id(&self) -> Option<u32> {
        self.mask
    }

    /// Ids that are never masked or replaced: all special tokens, `[UNK]` among them.
    pub fn special_ids(&self) -> &BTreeSet<u32> {
        &self.special
    }

    /// Entries of the vocabulary, added tokens included.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// Contents of a `tokenizer.json` for this tokenizer.
    ///
    /// # Errors
    ///
    /// The library fails to serialise it.
    pub fn to_json(&self) -> Result<String, EncoderError> {
        self.inner
            .to_string(false)
            .map_err(|error| EncoderError::Tokenizer {
                origin: "tokenizer".to_owned(),
                message: error.to_string(),
            })
    }
}

/// What files beside the tokenizer say about it.
#[derive(Clone, Debug, Default)]
struct SpecialNames {
    /// Padding, unknown, first, last and mask token.
    tokens: [Option<String>; 5],
    lower_case: Option<bool>,
    prefix_space: Option<bool>,
}

impl SpecialNames {
    fn read(dir: &Path) -> Result<Self, EncoderError> {
        let mut names = Self::default();
        for file in ["tokenizer_config.json", "special_tokens_map.json"] {
            let path = dir.join(file);
            if !path.exists() {
                continue;
            }
            let value: Value =
                serde_json::from_str(&read_text(&path)?).map_err(|error| EncoderError::Json {
                    path: path.clone(),
                    message: error.to_string(),
                })?;
            let keys = [
                "pad_token",
                "unk_token",
                "cls_token",
                "sep_token",
                "mask_token",
            ];
            for (name, key) in names.tokens.iter_mut().zip(keys) {
                let Some(token) = value.get(key) else {
                    continue;
                };
                // A plain string, or an object with options.
                let content = token.as_str().or_else(|| token.get("content")?.as_str());
                if name.is_none() {
                    *name = content.map(str::to_owned);
                }
            }
            let flag = |key: &str| value.get(key).and_then(Value::as_bool);
            names.lower_case = names.lower_case.or(flag("do_lower_case"));
            names.prefix_space = names.prefix_space.or(flag("add_prefix_space"));
        }
        Ok(names)
    }

    /// The names told, and the usual ones where nothing was said.
    fn or(&self, usual: [&str; 5]) -> [String; 5] {
        let mut tokens = usual.map(str::to_owned);
        for (token, told) in tokens.iter_mut().zip(&self.tokens) {
            if let Some(told) = told {
                token.clone_from(told);
            }
        }
        tokens
    }
}

/// A file of at most [`MAX_FILE`] bytes.
fn read_limited(path: &Path) -> Result<Vec<u8>, EncoderError> {
    let size = std::fs::metadata(path)
        .map_err(EncoderError::io("read", path))?
        .len();
    if size > MAX_FILE {
        return Err(EncoderError::Tokenizer {
            origin: path.display().to_string(),
            message: format!("{size} bytes, expected at most {MAX_FILE}"),
        });
    }
    std::fs::read(path).map_err(EncoderError::io("read", path))
}

fn read_text(path: &Path) -> Result<String, EncoderError> {
    String::from_utf8(read_limited(path)?).map_err(|error| EncoderError::Tokenizer {
        origin: path.display().to_string(),
        message: error.to_string(),
    })
}

/// `vocab.json`: an object of token and id.
fn read_vocabulary(path: &Path) -> Result<HashMap<String, u32>, EncoderError> {
    serde_json::from_slice(&read_limited(path)?).map_err(|error| EncoderError::Json {
        path: path.to_owned(),
        message: error.to_string(),
    })
}

/// `merges.txt`: two tokens a line, perhaps behind a line with the version.
fn read_merges(path: &Path) -> Result<Vec<(String, String)>, EncoderError> {
    let text = read_text(path)?;
    (1..)
        .zip(text.lines())
        .filter(|(_, line)| !line.starts_with("#version") && !line.is_empty())
        .map(|(number, line)| match line.split_once(' ') {
            Some((left, right)) if !right.contains(' ') => Ok((left.to_owned(), right.to_owned())),
            _ => Err(EncoderError::Tokenizer {
                origin: path.display().to_string(),
                message: format!("line {number}: `{line}`, expected two tokens"),
            }),
        })
        .collect()
}

thread_local! {
    /// Whether this thread is inside [`guarded`].
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work` and turns a panic of the library into an error message. The message is all a user
/// sees: the hook that prints panics stays silent for this thread meanwhile.
fn guarded<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    static HOOK: Once = Once::new();
    // Replacing the hook while unwinding would abort the program.
    if !std::thread::panicking() {
        HOOK.call_once(|| {
            let previous = take_hook();
            set_hook(Box::new(move |panic| {
                if !GUARDED.get() {
                    previous(panic);
                }
            }));
        });
    }
    GUARDED.set(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(false);
    done.unwrap_or_else(|panic| {
        let message = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_else(|| "no message".to_owned());
        Err(format!("the tokenizer library panicked: {message}"))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const PIECES: [&str; 10] = [
        "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "play", "##ing", "music", "a", "##b",
    ];

    fn tokenizer() -> TextTokenizer {
        TextTokenizer::from_word_pieces(&PIECES).unwrap()
    }

    #[test]
    fn lower_cases_splits_and_truncates() {
        let t = tokenizer();
        let texts = ["PLAYING  ab zebra", "", "play play play play"];
        let ids = t.encode(&texts, 4).unwrap();
        assert_eq!(ids, vec![vec![2, 5, 6, 3], vec![2, 3], vec![2, 5, 5, 3]]);
        assert_eq!(t.encode(&["zebra"], 8).unwrap(), [[2, 1, 3]]);
    }

    #[test]
    fn json_round_trip_keeps_ids() {
        let t = tokenizer();
        let again = TextTokenizer::from_bytes(t.to_json().unwrap().as_bytes(), "again").unwrap();
        let texts = ["playing music ab", "[MASK] play"];
        assert_eq!(
            t.encode(&texts, 16).unwrap(),
            again.encode(&texts, 16).unwrap()
        );
        assert_eq!(again.special_ids(), t.special_ids());
        assert_eq!(again.mask_id(), Some(4));
    }

    #[test]
    fn no_room_for_a_piece_is_refused() {
        assert!(tokenizer().encode(&["play"], 2).is_err());
    }

    #[test]
    fn missing_and_repeated_pieces_are_named() {
        let error = TextTokenizer::from_word_pieces(&PIECES[1..]).unwrap_err();
        assert!(error.to_string().contains("[PAD]"), "{error}");
        let error = TextTokenizer::from_word_pieces(&["[PAD]", "[PAD]"]).unwrap_err();
        assert!(error.to_string().contains("twice"), "{error}");
    }

    /// Files on which version 0.23.2 of the library panics, or which are plain nonsense.
    #[test]
    fn hostile_files_are_errors_not_panics() {
        let deep = "[".repeat(100_000);
        let bpe = r#"{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":null,
            "pre_tokenizer":null,"post_processor":null,"decoder":null,
            "model":{"type":"BPE","vocab":{"[PAD]":0,"a":1,"b":2},"merges":["aaaaaaaa b"]}}"#;
        let charsmap = r#"{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],
            "normalizer":{"type":"Precompiled","precompiled_charsmap":"AAAA"},
            "pre_tokenizer":null,"post_processor":null,"decoder":null,
            "model":{"type":"WordPiece","unk_token":"[UNK]","continuing_subword_prefix":"\u0023\u0023","max_input_chars_per_word":100,"vocab":{"[PAD]":0,"[UNK]":1}}}"#;
        let null_charsmap = charsmap.replace("\"AAAA\"", "null");
        let template = r#"{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":null,"pre_tokenizer":null,
            "post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"[NOPE]","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],"pair":[],"special_tokens":{}},
            "decoder":null,"model":{"type":"WordPiece","unk_token":"[UNK]","continuing_subword_prefix":"\u0023\u0023","max_input_chars_per_word":100,"vocab":{"[PAD]":0,"[UNK]":1}}}"#;
        let no_unknown = r#"{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":null,"pre_tokenizer":null,
            "post_processor":null,"decoder":null,"model":{"type":"WordPiece","unk_token":"[UNK]","continuing_subword_prefix":"\u0023\u0023","max_input_chars_per_word":100,"vocab":{"[PAD]":0}}}"#;
        for (name, file) in [
            ("empty", ""),
            ("deep", deep.as_str()),
            ("bpe", bpe),
            ("charsmap", charsmap),
            ("null charsmap", null_charsmap.as_str()),
            ("template", template),
            ("no unknown token", no_unknown),
            ("not json", "\u{0}\u{1}"),
        ] {
            let error = TextTokenizer::from_bytes(file.as_bytes(), name);
            assert!(error.is_err(), "{name} was accepted");
            assert!(error.unwrap_err().to_string().contains(name));
        }
    }
}
