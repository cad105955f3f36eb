//! Answers of language models: the structured parser, names of categories, texts of a corpus, and the
//! checks of single sentences.
#![no_main]

use std::sync::LazyLock;

use datagen::chat::structured::{parse_answer, validate};
use datagen::chat::{Answer, AnswerSource, Call, ChatError, Usage};
use datagen::job::{Job, JobConfig, Journal, TextChecks};
use datagen::naming::{CategoryTexts, Evidence, NamingConfig, name_by_model};
use datagen::taxonomy::{CorpusConfig, Taxonomy, write_corpus};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

static SCHEMAS: LazyLock<[Value; 3]> = LazyLock::new(|| {
    [
        json!({}),
        json!({
            "type": "object",
            "properties": {
                "name": {"type": "string", "minLength": 1, "maxLength": 40},
                "reason": {"type": ["string", "null"]},
            },
            "required": ["name"],
            "additionalProperties": false,
        }),
        json!({
            "type": "array", "minItems": 1, "maxItems": 9, "uniqueItems": true,
            "items": {"enum": [1, 2.5, "three", [4], {"five": 5}]},
        }),
    ]
});

static TAXONOMY: LazyLock<Taxonomy> = LazyLock::new(|| {
    let text = "texts = 2\n[[coarse]]\nname = 'shop'\n\
        [[coarse.fine]]\nname = 'hours'\ndescription = 'asks when the shop opens'\n\
        [[coarse.fine]]\nname = 'refund'\ndescription = 'wants a refund'\n";
    Taxonomy::parse(text, "shop.toml").expect("a taxonomy")
});

/// Says the same to everyone.
struct Parrot<'a>(&'a str);

impl AnswerSource for Parrot<'_> {
    fn name(&self) -> &str {
        "parrot"
    }

    fn answer(&self, _call: &Call, _attempt: u32) -> Result<Answer, ChatError> {
        Ok(Answer {
            text: self.0.to_owned(),
            usage: Usage::default(),
        })
    }
}

fuzz_target!(|text: &str| {
    for schema in SCHEMAS.iter() {
        if let Ok(value) = parse_answer(text, schema) {
            validate(&value, schema).expect("an accepted answer meets its schema");
        }
    }
    // A first line as source and the rest as answer.
    let (source, answer) = text
        .split_once('\n')
        .unwrap_or(("Two dogs run across a field.", text));
    if let Ok(kept) = TextChecks::default().check(source, answer) {
        assert!(!kept.is_empty() && !kept.contains('\n'), "{kept:?}");
    }
    let parrot = Parrot(text);
    let config = || JobConfig {
        concurrency: 1,
        retries: 0,
        ..JobConfig::default()
    };
    let evidence = |row, text: &str| Evidence {
        row,
        text: text.to_owned(),
    };
    let category = |id: &str, texts: &[&str]| CategoryTexts {
        id: id.to_owned(),
        texts: texts
            .iter()
            .enumerate()
            .map(|(row, text)| evidence(row, text))
            .collect(),
        ..CategoryTexts::default()
    };
    let categories = [
        category("1", &["open a jar", "open the door"]),
        category("2", &["lost card", answer]),
    ];
    let journal = Journal::nowhere();
    let naming = name_by_model(
        &categories,
        &NamingConfig::default(),
        "parrot",
        |calls, checks| {
            Job::new(&parrot, &journal)
                .config(config())
                .checks(checks)
                .run(calls)
        },
    );
    let names: Vec<_> = naming
        .expect("names")
        .categories
        .into_iter()
        .map(|named| named.name)
        .collect();
    assert!(names.len() == 2 && names[0] != names[1], "{names:?}");
    assert!(
        names.iter().all(|name| !name.contains(['\n', '\r'])),
        "{names:?}"
    );

    let settings = CorpusConfig {
        more_rounds: 1,
        ..CorpusConfig::default()
    };
    if let Ok(corpus) = write_corpus(&TAXONOMY, &settings, "parrot", |calls, checks| {
        Job::new(&parrot, &journal)
            .config(config())
            .checks(checks)
            .run(calls)
    }) {
        assert_eq!(corpus.train_tsv().lines().count(), corpus.train.len() + 1);
    }
});
