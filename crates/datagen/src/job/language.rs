//! Whether two texts are in different languages: a rough test that only speaks where it is sure.
//!
//! 1. The script of most letters. Latin against Cyrillic differs; the Han characters of Japanese do
//!    not differ from its kana, but a text without kana differs from a source with some.
//! 2. For Latin script, function words of seven languages. The language of a text is the one with
//!    the most of them, if there are at least 2 and no other language has as many. An answer differs
//!    if its language is another than the source's, with at least 3 such words, and it has at most
//!    half as many words of the source's language.
//!
//! Short texts without function words, languages of one script that are not listed, and names give
//! no evidence and pass.

/// Letters of other scripts that make a text foreign: more than half of at least this many.
const MIN_LETTERS: usize = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Script {
    Latin,
    Greek,
    Cyrillic,
    Armenian,
    Hebrew,
    Arabic,
    Indic,
    Thai,
    Georgian,
    Hangul,
    Kana,
    Han,
    Other,
}

const SCRIPTS: [(Script, &str); 13] = [
    (Script::Latin, "Latin"),
    (Script::Greek, "Greek"),
    (Script::Cyrillic, "Cyrillic"),
    (Script::Armenian, "Armenian"),
    (Script::Hebrew, "Hebrew"),
    (Script::Arabic, "Arabic"),
    (Script::Indic, "Indic"),
    (Script::Thai, "Thai"),
    (Script::Georgian, "Georgian"),
    (Script::Hangul, "Hangul"),
    (Script::Kana, "Japanese"),
    (Script::Han, "Han"),
    (Script::Other, "other"),
];

fn script(c: char) -> Option<Script> {
    if !c.is_alphabetic() {
        return None;
    }
    // Blocks of the Unicode standard.
    Some(match u32::from(c) {
        0..=0x24f | 0x1e00..=0x1eff | 0x2c60..=0x2c7f | 0xa720..=0xa7ff | 0xff21..=0xff5a => {
            Script::Latin
        }
        0x370..=0x3ff | 0x1f00..=0x1fff => Script::Greek,
        0x400..=0x52f | 0x1c80..=0x1c8f | 0x2de0..=0x2dff | 0xa640..=0xa69f => Script::Cyrillic,
        0x530..=0x58f => Script::Armenian,
        0x590..=0x5ff | 0xfb1d..=0xfb4f => Script::Hebrew,
        0x600..=0x6ff | 0x750..=0x77f | 0x8a0..=0x8ff | 0xfb50..=0xfdff | 0xfe70..=0xfeff => {
            Script::Arabic
        }
        0x900..=0xdff => Script::Indic,
        0xe00..=0xeff => Script::Thai,
        0x10a0..=0x10ff | 0x1c90..=0x1cbf => Script::Georgian,
        0x1100..=0x11ff | 0x3130..=0x318f | 0xac00..=0xd7af => Script::Hangul,
        0x3040..=0x30ff | 0x31f0..=0x31ff | 0xff66..=0xff9d => Script::Kana,
        0x2e80..=0x2fdf
        | 0x3005..=0x3007
        | 0x3400..=0x4dbf
        | 0x4e00..=0x9fff
        | 0xf900..=0xfaff
        | 0x20000..=0x3ffff => Script::Han,
        _ => Script::Other,
    })
}

/// Whether the script of this character puts no spaces between words.
pub(super) fn is_unspaced(c: char) -> bool {
    matches!(script(c), Some(Script::Kana | Script::Han | Script::Thai))
}

/// Letters by script, in the order of [`SCRIPTS`].
fn letters(text: &str) -> [usize; 13] {
    let mut counts = [0; 13];
    for script in text.chars().filter_map(script) {
        if let Some(count) = counts.get_mut(script as usize) {
            *count += 1;
        }
    }
    counts
}

/// The script of most letters; Japanese where there is any kana beside Han. `None` without enough
/// letters.
fn main_script(text: &str) -> Option<(Script, &'static str)> {
    let mut counts = letters(text);
    let (kana, han) = (Script::Kana as usize, Script::Han as usize);
    if counts[kana] > 0 {
        counts[kana] += std::mem::take(&mut counts[han]);
    }
    let all: usize = counts.iter().sum();
    let (most, script) = counts
        .into_iter()
        .zip(SCRIPTS)
        .max_by_key(|(count, _)| *count)?;
    // A Han character is a word, so fewer of them are enough.
    let enough = if matches!(script.0, Script::Kana | Script::Han) {
        2
    } else {
        MIN_LETTERS
    };
    (all >= enough && 2 * most > all).then_some(script)
}

/// Function words that are frequent in one of the languages and rare in the others.
const FUNCTION_WORDS: [(&str, &[&str]); 7] = [
    (
        "English",
        &[
            "the", "and", "is", "are", "of", "to", "with", "for", "this", "that", "was", "were",
            "not", "they", "he", "she", "it", "his", "her", "from", "has", "have", "by", "there",
            "their", "you", "my", "on", "at", "be", "who", "while", "an", "two", "into", "across",
            "its", "some", "or", "but", "which", "near", "as", "if", "in", "no", "do",
        ],
    ),
    (
        "German",
        &[
            "der", "die", "das", "und", "ist", "sind", "nicht", "ein", "eine", "einen", "einem",
            "einer", "mit", "auf", "für", "von", "dem", "den", "des", "sich", "auch", "wird",
            "werden", "hat", "haben", "ich", "sie", "im", "zu", "über", "bei", "wurde",
        ],
    ),
    (
        "French",
        &[
            "le", "la", "les", "et", "est", "sont", "une", "des", "du", "dans", "pour", "avec",
            "qui", "que", "pas", "sur", "il", "elle", "ils", "au", "aux", "ce", "cette", "ne",
            "je", "nous", "vous", "par", "sa", "son", "ses", "leur",
        ],
    ),
    (
        "Spanish",
        &[
            "el", "la", "los", "las", "y", "es", "son", "una", "un", "del", "en", "para", "con",
            "que", "por", "se", "su", "sus", "está", "están", "al", "lo", "pero", "como", "más",
            "este", "esta", "fue", "hay", "muy", "sobre", "yo",
        ],
    ),
    (
        "Italian",
        &[
            "il", "lo", "la", "gli", "le", "e", "è", "sono", "una", "un", "di", "del", "della",
            "che", "per", "con", "non", "si", "nel", "nella", "al", "alla", "dei", "delle", "sul",
            "sulla", "anche", "ha", "hanno", "questo", "questa", "da",
        ],
    ),
    (
        "Portuguese",
        &[
            "o", "os", "à", "e", "é", "são", "uma", "um", "até", "da", "dos", "das", "em", "já",
            "na", "para", "com", "que", "por", "não", "se", "seu", "sua", "está", "ao", "mais",
            "foi", "ele", "ela", "eu", "você", "pelo",
        ],
    ),
    (
        "Dutch",
        &[
            "de", "het", "een", "en", "is", "zijn", "niet", "van", "met", "voor", "op", "dat",
            "die", "er", "ook", "maar", "bij", "naar", "wordt", "worden", "heeft", "hebben", "ik",
            "hij", "zij", "ze", "aan", "uit", "te", "om", "werd", "deze",
        ],
    ),
];

/// Function words of each language in the text.
fn hits(text: &str) -> [usize; 7] {
    let mut hits = [0; 7];
    let lower = text.to_lowercase();
    for word in lower.split(|c: char| !c.is_alphabetic()) {
        for (hit, (_, words)) in hits.iter_mut().zip(FUNCTION_WORDS) {
            *hit += usize::from(words.contains(&word));
        }
    }
    hits
}

/// The language with most function words, if it stands out.
fn latin_language(hits: &[usize; 7]) -> Option<usize> {
    let most = *hits.iter().max()?;
    let mut best = (0..hits.len()).filter(|at| hits.get(*at) == Some(&most));
    let language = best.next()?;
    (most >= 2 && best.next().is_none()).then_some(language)
}

/// Says how the answer's language differs from the source's; `None` where it does not or where there
/// is no telling.
pub(super) fn differs(source: &str, answer: &str) -> Option<String> {
    let (from, to) = (main_script(source)?, main_script(answer)?);
    if from != to {
        return Some(format!("{} letters, the source has {}", to.1, from.1));
    }
    if from.0 != Script::Latin {
        return None;
    }
    let (source_hits, answer_hits) = (hits(source), hits(answer));
    let (from, to) = (latin_language(&source_hits)?, latin_language(&answer_hits)?);
    let of = |language: usize| answer_hits.get(language).copied().unwrap_or(0);
    let name = |language: usize| FUNCTION_WORDS.get(language).map_or("", |(name, _)| name);
    (from != to && of(to) >= 3 && 2 * of(from) <= of(to))
        .then(|| format!("{} words, the source has {}", name(to), name(from)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    const SENTENCES: [(&str, &str); 12] = [
        ("en", "The man is walking with his dog on the beach."),
        (
            "de",
            "Der Mann geht mit einem Hund auf dem Strand und ist müde.",
        ),
        (
            "fr",
            "Les enfants sont dans la maison et ils ne dorment pas.",
        ),
        (
            "es",
            "El perro está en la casa y los niños juegan con el gato.",
        ),
        (
            "it",
            "Il cane è nella casa e gli uomini non sono con il gatto.",
        ),
        (
            "pt",
            "O cachorro não está em casa e as crianças são muito felizes.",
        ),
        (
            "nl",
            "De man heeft een hond en het kind wordt niet ziek van de kat.",
        ),
        ("ru", "Мужчина гуляет с собакой по пляжу."),
        ("el", "Ο άνδρας περπατά με τον σκύλο του."),
        ("zh", "男人在海滩上遛狗。"),
        ("ja", "男の人が犬と海岸を歩いています。"),
        ("ko", "남자가 개와 함께 해변을 걷고 있다."),
    ];

    #[test]
    fn languages_differ_from_all_others_and_not_from_themselves() {
        for (one, source) in SENTENCES {
            for (other, answer) in SENTENCES {
                let found = differs(source, answer);
                assert_eq!(found.is_some(), one != other, "{one} {other} {found:?}");
            }
        }
    }

    #[test]
    fn no_evidence_passes() {
        for (source, answer) in [
            ("The dog is on the beach.", "Dogs bark."),
            ("Dogs bark.", "Der Hund ist auf dem Strand und bellt."),
            ("The dog is on the beach.", "12"),
            ("", "text"),
            (
                "The man is in the Café de la Paix.",
                "The man is at a café.",
            ),
            (
                "The man said die Welt.",
                "The man is in a pub named Das Boot.",
            ),
        ] {
            assert_eq!(differs(source, answer), None, "{source} {answer}");
        }
    }

    #[test]
    fn scripts_are_in_the_order_of_the_table() {
        for (place, (script, _)) in SCRIPTS.into_iter().enumerate() {
            assert_eq!(script as usize, place);
        }
    }
}
