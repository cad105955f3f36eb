//! Texts compared without case and punctuation, made fit for one field, and filled into a prompt.

use minijinja::{Environment, UndefinedBehavior, Value};

/// Fills a prompt template and trims the ends. A variable that does not exist is an error.
pub(crate) fn filled(template: &str, variables: Value) -> Result<String, String> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment
        .render_str(template, variables)
        .map(|text| text.trim().to_owned())
        .map_err(|error| {
            let line = error.line().unwrap_or(1);
            match error.detail() {
                Some(detail) => format!("line {line}: {}: {detail}", error.kind()),
                None => format!("line {line}: {}", error.kind()),
            }
        })
}

/// Letters and digits only, lower-case, one space between runs of them: texts with the same key count
/// as the same. Joiners inside a word are no punctuation. A text without letters and digits (a smiley,
/// say) is its own key, lower-case and without white space.
pub(crate) fn text_key(text: &str) -> String {
    let lower: String = text
        .to_lowercase()
        .chars()
        .filter(|c| !is_invisible(*c))
        .collect();
    let key = lower
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ");
    if key.is_empty() {
        lower.split_whitespace().collect()
    } else {
        key
    }
}

/// Characters that show nothing and hide differences: soft hyphens, joiners, marks of writing
/// direction, byte order marks.
pub(crate) fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

/// One line: control characters and runs of white space become one space, marks of writing
/// direction and other invisible characters vanish (the joiners that some scripts and emoji need
/// stay), the ends are trimmed.
pub(crate) fn one_line(text: &str) -> String {
    let joiner = |c: char| matches!(c, '\u{200c}' | '\u{200d}');
    text.chars()
        .filter(|c| joiner(*c) || !is_invisible(*c))
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect::<String>()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

/// At most `limit` characters, cut between words where there is a space in the second half.
pub(crate) fn shortened(text: &str, limit: usize) -> String {
    let Some((end, _)) = text.char_indices().nth(limit) else {
        return text.to_owned();
    };
    let head = text.get(..end).unwrap_or_default();
    // The cut may fall between two words already.
    let whole = text.get(end..).is_some_and(|rest| rest.starts_with(' '));
    match head.rfind(' ') {
        Some(space) if !whole && space >= end / 2 => head.get(..space).unwrap_or_default(),
        _ => head,
    }
    .trim_end()
    .to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_ignore_case_punctuation_and_what_cannot_be_seen() {
        for same in [
            "Lost card",
            "lost_CARD!",
            " lo\u{200b}st\u{a0}card",
            "lost-card",
        ] {
            assert_eq!(text_key(same), "lost card", "{same}");
        }
        assert_ne!(text_key("lost cards"), text_key("lost card"));
        assert_ne!(text_key(":-)"), text_key(":-("));
        assert_eq!(text_key("\u{200b}"), "");
    }

    #[test]
    fn a_line_has_no_controls() {
        assert_eq!(one_line(" a\tb\r\n\u{202e}c\u{0}\u{a0} d "), "a b c d");
        assert_eq!(one_line("\u{1b}[31mred"), "[31mred");
        assert_eq!(
            one_line("\u{1f468}\u{200d}\u{1f469}"),
            "\u{1f468}\u{200d}\u{1f469}"
        );
    }

    #[test]
    fn cuts_fall_between_words_where_they_can() {
        assert_eq!(shortened("lost my card", 12), "lost my card");
        assert_eq!(shortened("lost my card", 11), "lost my");
        assert_eq!(shortened("lost my card", 7), "lost my");
        assert_eq!(shortened("incomprehensible", 5), "incom");
        assert_eq!(shortened("é é", 0), "");
    }

    #[test]
    fn prompts_are_filled_or_refused_with_a_line() {
        let one = || minijinja::context! { one => "<1>" };
        assert_eq!(filled("\na {{ one }}\n", one()).as_deref(), Ok("a <1>"));
        for (template, line) in [("a\n{{ two }}", "line 2: "), ("{% for", "line 1: ")] {
            assert!(filled(template, one()).is_err_and(|error| error.starts_with(line)));
        }
    }

    proptest! {
        #[test]
        fn any_text_becomes_a_line(text in any::<String>(), limit in 0_usize..20) {
            let line = one_line(&text);
            prop_assert!(!line.chars().any(char::is_control));
            prop_assert_eq!(one_line(&line), line.clone());
            prop_assert!(shortened(&line, limit).chars().count() <= limit);
            prop_assert_eq!(text_key(&text_key(&line)), text_key(&line));
        }
    }
}
