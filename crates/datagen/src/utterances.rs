//! Short messages to an assistant: what people say to a bank, a calendar, a shop, a radio.
//!
//! They fill a gap of encyclopaedic text, in which nobody asks for anything, when a small encoder is
//! trained for short requests. An action is a verb and a thing; a message asks for an action or speaks
//! about a thing, and may open and close with a filler. The words come from everyday life, not from
//! any data set.

use std::collections::BTreeSet;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use thiserror::Error;

use crate::template::{Grammar, Template, TemplateError};

/// Draws allowed for one new message before the grammar counts as exhausted.
const MAX_DRAWS: usize = 10_000;

/// Why there are no messages.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum UtteranceError {
    /// A template of this file is wrong.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The grammar has hardly anything left to say.
    #[error(
        "asked for {asked} different messages, found {found} before {MAX_DRAWS} draws gave none that was new"
    )]
    Exhausted {
        /// Messages asked for.
        asked: usize,
        /// Messages found.
        found: usize,
    },
}

/// A message with its fillers; nothing is as likely as any four of the words.
const MESSAGE: &str =
    "[||||hey|hello ,|ok|um|so] {request} [||||please|today|for my wife|on friday|again|?]";

/// A message is about an action as often as about a thing.
const REQUESTS: &[&str] = &["{ask}", "{say}"];

/// Frames of an action.
const ASK: &[&str] = &[
    "how do i {action}",
    "how can i {action}",
    "can you {action}",
    "could you please {action}",
    "please {action}",
    "i need to {action}",
    "i want to {action}",
    "i would like to {action}",
    "help me {action}",
    "is it possible to {action}",
    "why can i not {action}",
    "where can i {action}",
    "when should i {action}",
    "remind me to {action}",
    "i forgot to {action}",
    "let 's {action}",
    "do not {action}",
    "what happens if i {action}",
    "will you {action} for me",
    "{action} now",
    "{action} tomorrow morning",
    "{action}",
];

/// Frames of a thing.
const SAY: &[&str] = &[
    "what is the {noun}",
    "where is my {noun}",
    "tell me about the {noun}",
    "how much does the {noun} cost",
    "show me the {noun}",
    "is there a {noun} near here",
    "i have a question about my {noun}",
    "who is in charge of the {noun}",
    "what time does the {noun} start",
    "i like this {noun}",
    "i do not like the {noun}",
    "my {noun} is not working",
    "i lost my {noun}",
    "any news on the {noun}",
    "give me more information on the {noun}",
    "which {noun} do you recommend",
    "how many of the {noun} are left",
    "list every {noun} i have",
    "did the {noun} arrive",
    "the {noun} is too expensive",
    "when is the next {noun}",
    "thanks for the {noun}",
];

const ACTION: &[&str] = &["{verb} [the|my|a|this|your] {noun}"];

const VERBS: &str = "[\
    open|close|cancel|change|check|find|start|stop|pay for|order|book|send|share|delete|\
    add|update|repair|return|track|rename|turn on|turn off|turn up|turn down|renew|report|\
    compare|buy|sell|schedule|play|pause|skip|save|print|translate|explain|clean|charge|\
    replace|set up|reset|move|copy|block|unlock|review|rate|describe|confirm]";

const NOUNS: &str = "[\
    bank account|credit card|debit card|loan|mortgage|salary|tax form|bill|invoice|refund|\
    receipt|discount code|gift card|insurance policy|claim|subscription|membership|\
    password|pin code|user name|email|text message|phone call|voicemail|contact list|\
    phone number|alarm|timer|reminder|meeting|appointment|calendar entry|birthday party|\
    holiday|vacation request|flight|boarding pass|suitcase|passport|visa|hotel room|\
    rental car|taxi|train ticket|bus stop|parking space|traffic report|road map|\
    engine oil|tire|fuel tank|battery|oven|fridge|kettle|coffee machine|coffee|tea|pizza|\
    sandwich|salad|soup|recipe|cake|breakfast|dinner table|restaurant|menu|grocery list|\
    shopping list|shopping cart|package|delivery|address|light|lamp|bedroom light|heater|\
    thermostat|air conditioner|vacuum cleaner|washing machine|window|front door|\
    garage door|camera|television|remote control|radio station|song|playlist|album|\
    podcast|audio book|movie|concert ticket|game|joke|story|quiz|weather forecast|\
    temperature outside|rain|snow storm|wind|umbrella|news headline|football match|score|\
    stock price|exchange rate|currency|dollar|euro|price|budget|savings plan|job offer|\
    interview|resume|boss|team|project|report|presentation|printer|computer|laptop|screen|\
    keyboard|app|software update|internet connection|wifi network|router|file|folder|\
    photo|video|website|social media post|comment|doctor|dentist|prescription|medicine|\
    headache|fever|diet|calorie count|workout|running shoes|bicycle|yoga class|gym|school|\
    homework|exam|teacher|language course|spanish word|dictionary entry|definition|\
    spelling|math problem|square root|percentage|distance|capital city|country|population|\
    president|famous singer|actor|scientist|history book|library|museum|park|beach|\
    mountain|river|dog|cat|horse|bird|fish|garden|flower|tree|plant|house|rent|apartment|\
    roof|kitchen|bathroom|water leak|electricity|gas meter|baby|child|mother|father|\
    sister|friend|neighbor|wedding|present|dress|shirt|jacket|shoe size|haircut|time zone|\
    clock|date|language setting|volume|ringtone|microphone|speaker|voice|name|age|company|\
    order status|warranty|contract|lawyer|police|accident|fire|emergency number|vaccine|\
    allergy|blood pressure|sleep|dream]";

fn grammar() -> Result<Grammar, TemplateError> {
    Grammar::new(&[
        ("request", REQUESTS),
        ("ask", ASK),
        ("say", SAY),
        ("action", ACTION),
        ("verb", &[VERBS]),
        ("noun", &[NOUNS]),
    ])
}

/// Different messages, in the order in which they are drawn: a pure function of the seed. A longer
/// list begins with the shorter one.
///
/// # Errors
/// [`UtteranceError::Exhausted`] if the grammar does not have as many.
///
/// ```
/// let messages = datagen::utterances(3, 1)?;
/// assert_eq!(messages.len(), 3);
/// assert_eq!(messages, datagen::utterances(3, 1)?);
/// # Ok::<(), datagen::UtteranceError>(())
/// ```
pub fn utterances(count: usize, seed: u64) -> Result<Vec<String>, UtteranceError> {
    let grammar = grammar()?;
    let message = Template::parse(MESSAGE)?;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut seen = BTreeSet::new();
    let mut out = Vec::new();
    let mut draws = 0;
    while out.len() < count {
        let text = grammar.expand(&message, &mut rng)?;
        draws += 1;
        if seen.insert(text.clone()) {
            out.push(text);
            draws = 0;
        } else if draws == MAX_DRAWS {
            return Err(UtteranceError::Exhausted {
                asked: count,
                found: out.len(),
            });
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn the_same_seed_says_the_same_and_nothing_twice() {
        let all = utterances(5000, 3).unwrap();
        assert_eq!(all, utterances(5000, 3).unwrap());
        assert_eq!(all[..100], utterances(100, 3).unwrap());
        assert_ne!(all, utterances(5000, 4).unwrap());
        let distinct: BTreeSet<&String> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
    }

    #[test]
    fn messages_are_short_plain_and_complete() {
        for text in utterances(3000, 9).unwrap() {
            let words = text.split_whitespace().count();
            assert!((2..=20).contains(&words), "{text}");
            assert!(
                text.chars()
                    .all(|c| c.is_ascii_lowercase() || " ,'?".contains(c)),
                "{text}"
            );
            assert!(!text.contains("  ") && text.trim() == text, "{text:?}");
        }
    }

    #[test]
    fn both_kinds_of_message_and_all_words_occur() {
        let all = utterances(20_000, 5).unwrap().join("\n");
        for verb in VERBS.trim_matches(['[', ']']).split('|') {
            assert!(all.contains(&format!("{verb} ")), "{verb}");
        }
        for noun in NOUNS.trim_matches(['[', ']']).split('|') {
            assert!(all.contains(noun), "{noun}");
        }
        for frame in SAY {
            let start = frame.split('{').next().unwrap();
            assert!(all.contains(start), "{frame}");
        }
    }

    #[test]
    fn no_more_is_promised_than_there_is() {
        let grammar = grammar().unwrap();
        let ways = grammar
            .expansions(&Template::parse(MESSAGE).unwrap())
            .unwrap();
        assert!(ways > 10_000_000, "{ways}");
        assert_eq!(utterances(0, 1).unwrap(), Vec::<String>::new());
    }
}
