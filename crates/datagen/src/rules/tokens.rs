//! Words and punctuation marks of a text, with the white space between them.

/// A word or a punctuation mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    /// The characters, never empty, without white space.
    pub(super) text: String,
    /// Whether white space comes before it.
    pub(super) space: bool,
    /// Place in the sentence it was read from; `None` for a word that a rule wrote.
    pub(super) origin: Option<usize>,
}

impl Token {
    /// A word that a rule wrote, with a space before it.
    pub(super) fn new(text: &str) -> Self {
        Self {
            text: text.to_string(),
            space: true,
            origin: None,
        }
    }

    /// The token in lower case with straight apostrophes, for look-ups.
    pub(super) fn key(&self) -> String {
        self.text.to_lowercase().replace('\u{2019}', "'")
    }

    /// Whether there is a letter or digit in it.
    pub(super) fn is_word(&self) -> bool {
        self.text.chars().any(char::is_alphanumeric)
    }
}

/// Shortened words that keep their full stop inside a sentence.
const ABBREVIATIONS: &[&str] = &[
    "mr", "mrs", "ms", "dr", "prof", "st", "jr", "sr", "lt", "col", "gen", "capt", "rev", "hon",
    "no", "vs", "etc", "inc", "ltd", "co", "corp", "ca", "c", "approx", "e.g", "i.e", "jan", "feb",
    "mar", "apr", "jun", "jul", "aug", "sept", "sep", "oct", "nov", "dec",
];

/// Words before `'s` that make it a short form of `is` or `us`.
const CONTRACTED: &[&str] = &[
    "it", "that", "there", "he", "she", "what", "let", "who", "here", "where", "how",
];

/// Whether a full stop after `word` belongs to it.
fn keeps_stop(word: &str) -> bool {
    let mut letters = word.chars();
    let single = matches!((letters.next(), letters.next()), (Some(c), None) if c.is_uppercase());
    single || word.contains('.') || ABBREVIATIONS.contains(&word.to_lowercase().as_str())
}

/// Splits a text at white space and control characters, then punctuation off both ends of every
/// piece. Marks inside a word stay (`mid-1990s`, `3.5`, `don't`); `'s` becomes a token of its own
/// unless it stands for `is`.
pub(super) fn split(text: &str) -> Vec<Token> {
    let pieces: Vec<&str> = text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|p| !p.is_empty())
        .collect();
    let mut out = Vec::with_capacity(pieces.len() + 4);
    for (at, piece) in pieces.iter().enumerate() {
        split_piece(piece, at + 1 == pieces.len(), &mut out);
    }
    for (at, token) in out.iter_mut().enumerate() {
        token.origin = Some(at);
    }
    out
}

/// Splits one piece between white space.
fn split_piece(piece: &str, last: bool, out: &mut Vec<Token>) {
    let mut space = true;
    let mut push = |text: &str| {
        out.push(Token {
            text: text.to_string(),
            space: std::mem::replace(&mut space, false),
            origin: None,
        });
    };
    let inner = |c: char| c.is_alphanumeric() || matches!(c, '$' | '£' | '€' | '#' | '@' | '&');
    let lower = piece.to_lowercase();
    if matches!(
        lower.as_str(),
        "'s" | "\u{2019}s" | "n't" | "'m" | "'re" | "'ve" | "'ll" | "'d"
    ) {
        push(piece);
        return;
    }
    let Some(start) = piece.find(inner) else {
        // `...` and `--` are one mark, `(;` are two
        let mut marks = piece.chars();
        let first = marks.next();
        if marks.all(|c| Some(c) == first) || is_stop(piece) {
            push(piece);
        } else {
            for c in piece.chars() {
                push(c.encode_utf8(&mut [0; 4]));
            }
        }
        return;
    };
    for c in piece.get(..start).unwrap_or_default().chars() {
        push(c.encode_utf8(&mut [0; 4]));
    }
    let rest = piece.get(start..).unwrap_or_default();
    let end = rest
        .char_indices()
        .rev()
        .find(|&(_, c)| c.is_alphanumeric() || matches!(c, '%' | '°' | '+' | '$' | '#'))
        .map_or(rest.len(), |(at, c)| at + c.len_utf8());
    let (mut word, mut tail) = rest.split_at(end);
    // `U.S.` and `Dr.` keep their stop, at the very end of the text only where more marks follow
    if let Some(after) = tail.strip_prefix('.')
        && keeps_stop(word)
        && !(last && after.is_empty())
    {
        (word, tail) = rest.split_at(end + 1);
    }
    let cut = ["'s", "\u{2019}s"]
        .iter()
        .find_map(|s| word.strip_suffix(s))
        .filter(|stem| !stem.is_empty() && !CONTRACTED.contains(&stem.to_lowercase().as_str()));
    match cut {
        Some(stem) => {
            push(stem);
            push(word.get(stem.len()..).unwrap_or_default());
        }
        None => push(word),
    }
    for c in tail.chars() {
        push(c.encode_utf8(&mut [0; 4]));
    }
}

/// Whether `mark` ends a sentence.
pub(super) fn is_stop(mark: &str) -> bool {
    !mark.is_empty()
        && mark
            .chars()
            .all(|c| matches!(c, '.' | '?' | '!' | '\u{2026}'))
}

/// Whether `mark` opens a bracket.
pub(super) fn is_open(mark: &str) -> bool {
    matches!(mark, "(" | "[" | "{")
}

/// Whether `mark` closes a bracket.
pub(super) fn is_close(mark: &str) -> bool {
    matches!(mark, ")" | "]" | "}")
}

/// Makes the marks fit again after words were taken out or moved: no empty brackets, no doubled
/// commas, none at the start or before another mark, and `a` or `an` by the word that follows it now.
pub(super) fn tidy(tokens: &mut Vec<Token>) {
    loop {
        let before = tokens.len();
        let mut kept: Vec<Token> = Vec::with_capacity(tokens.len());
        for token in tokens.drain(..) {
            let mark = token.text.as_str();
            let soft = matches!(mark, "," | ";" | ":");
            match kept.last().map(|t| t.text.clone()) {
                None if soft || is_close(mark) => continue,
                Some(last) if is_open(&last) && is_close(mark) => {
                    kept.pop();
                    continue;
                }
                Some(last) if soft && (is_open(&last) || matches!(last.as_str(), "," | ";")) => {
                    continue;
                }
                Some(last)
                    if (is_stop(mark) || is_close(mark))
                        && matches!(last.as_str(), "," | ";" | ":") =>
                {
                    // the stray comma may have carried the space of detached marks
                    let space = kept.pop().is_some_and(|t| t.space) && token.space;
                    kept.push(Token { space, ..token });
                    continue;
                }
                _ => {}
            }
            kept.push(token);
        }
        *tokens = kept;
        if tokens.len() == before {
            break;
        }
    }
    while tokens
        .last()
        .is_some_and(|t| matches!(t.text.as_str(), "," | ";"))
    {
        tokens.pop();
    }
    for at in 1..tokens.len() {
        let [first, second] = &mut tokens[at - 1..=at] else {
            continue;
        };
        let together = matches!((first.origin, second.origin), (Some(a), Some(b)) if a + 1 == b);
        if !together && matches!(first.key().as_str(), "a" | "an") && second.is_word() {
            let article = if vowel_sound(&second.text) { "an" } else { "a" };
            let capital = first.text.starts_with('A');
            first.text = if capital {
                article.replacen('a', "A", 1)
            } else {
                article.to_string()
            };
        }
    }
}

/// Whether a word is spoken with a vowel at its start.
fn vowel_sound(word: &str) -> bool {
    let lower = word.to_lowercase();
    let silent_h = ["hour", "honest", "honor", "honour", "heir"];
    let consonant = ["uni", "use", "usu", "eu", "one", "once", "ut"];
    if word.len() > 1 && word.chars().all(|c| c.is_uppercase() || c == '.') {
        return lower.starts_with(['a', 'e', 'f', 'h', 'i', 'l', 'm', 'n', 'o', 'r', 's', 'x']);
    }
    if silent_h.iter().any(|p| lower.starts_with(p)) {
        return true;
    }
    if lower.starts_with("unin") || lower.starts_with("unim") {
        return true;
    }
    if consonant.iter().any(|p| lower.starts_with(p)) {
        return false;
    }
    lower.starts_with(['a', 'e', 'i', 'o', 'u', '8']) || lower.starts_with("11")
}

/// Writes the tokens out, one space at most between two of them, with a capital first letter where
/// `capital` is set.
pub(super) fn join(tokens: &[Token], capital: bool) -> String {
    let mut out = String::new();
    let mut first_word = capital;
    let mut glue = false;
    for token in tokens {
        let mark = token.text.as_str();
        let closing = matches!(mark, "," | ";") && !token.space;
        if token.space && !out.is_empty() && !glue && !closing {
            out.push(' ');
        }
        // a bracket takes no space after it, however the word in it was written before
        glue = is_open(mark);
        if first_word && token.is_word() {
            let mut letters = token.text.chars();
            if let Some(c) = letters.next() {
                out.extend(c.to_uppercase());
            }
            out.push_str(letters.as_str());
            first_word = false;
        } else {
            out.push_str(mark);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn words(text: &str) -> Vec<String> {
        split(text).into_iter().map(|t| t.text).collect()
    }

    #[test]
    fn marks_come_off_words() {
        assert_eq!(
            words("Hello, (big) world!"),
            ["Hello", ",", "(", "big", ")", "world", "!"]
        );
        assert_eq!(
            words("Anna's dog isn't 3.5 m tall."),
            ["Anna", "'s", "dog", "isn't", "3.5", "m", "tall", "."]
        );
        assert_eq!(
            words("Dr. Lee left the U.S. in May."),
            ["Dr.", "Lee", "left", "the", "U.S.", "in", "May", "."]
        );
    }

    #[test]
    fn joining_undoes_splitting() {
        for text in [
            "A b, c (d) e's f.",
            "He said: \"No!\"",
            "x - y",
            "5 % of $3",
            "\u{1F600} ok",
        ] {
            assert_eq!(join(&split(text), false), text);
        }
        assert_eq!(join(&split(" a\n\tb\u{0}c "), true), "A b c");
    }

    #[test]
    fn tidying_removes_stray_marks() {
        let mut tokens = split(", a b, , ( ) c, .");
        tidy(&mut tokens);
        assert_eq!(join(&tokens, false), "a b, c.");
    }

    #[test]
    fn articles_follow_the_next_word() {
        for (word, article) in [
            ("apple", "an"),
            ("hour", "an"),
            ("union", "a"),
            ("dog", "a"),
            ("MP", "an"),
            ("unimportant", "an"),
        ] {
            let mut tokens = vec![Token::new("a"), Token::new(word)];
            tidy(&mut tokens);
            assert_eq!(tokens[0].text, article, "{word}");
        }
    }
}
