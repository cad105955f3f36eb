//! Corpora and names over a journal on disk: interrupted, resumed, replayed, within a budget.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use datagen::chat::{Answer, AnswerSource, Budget, BudgetLimits, Call, ChatError, Usage};
use datagen::job::{Job, JobConfig, JobError, Journal, Replay};
use datagen::naming::{CategoryTexts, Evidence, Naming, NamingConfig, NamingError, name_by_model};
use datagen::taxonomy::{Corpus, CorpusConfig, CorpusError, Taxonomy, TaxonomyRules, write_corpus};

const COST: Usage = Usage {
    prompt_tokens: 7,
    completion_tokens: 3,
};

fn taxonomy() -> Taxonomy {
    Taxonomy::parse(include_str!("../examples/taxonomy.toml"), "taxonomy.toml").unwrap()
}

/// Rules with the moods of a model: some answers are no JSON, some repeat themselves. Each answer
/// costs something, and the budget may end.
struct Moody {
    rules: TaxonomyRules,
    budget: Budget,
    asked: AtomicU64,
}

impl Moody {
    fn new(max_calls: Option<u64>) -> Self {
        Self {
            rules: TaxonomyRules::new(&taxonomy(), 5, 10).unwrap(),
            budget: Budget::new(BudgetLimits {
                max_calls,
                max_tokens: None,
            }),
            asked: AtomicU64::new(0),
        }
    }
}

impl AnswerSource for Moody {
    fn name(&self) -> &str {
        "moody"
    }

    fn answer(&self, call: &Call, attempt: u32) -> Result<Answer, ChatError> {
        let reservation = self.budget.reserve(10)?;
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mood = call.request.user.len() as u32 + attempt;
        let text = match (call.kind.as_str(), mood % 4) {
            (_, 0) => "{\"texts\": [\"one, two".to_owned(),
            ("corpus", 1) => self.rules.answer(call, 0)?.text.replace("i need", "i want"),
            ("corpus", _) => self.rules.answer(call, attempt)?.text,
            (_, 1) => "{\"name\": \"The Same\", \"reason\": \"\"}".to_owned(),
            _ => format!("{{\"name\": \"N{}\", \"reason\": \"so\"}}", call.source),
        };
        self.budget.settle(reservation, COST);
        Ok(Answer { text, usage: COST })
    }
}

fn corpus(source: &dyn AnswerSource, journal: &Journal) -> Result<Corpus, CorpusError> {
    let job = JobConfig {
        concurrency: 3,
        ..JobConfig::default()
    };
    write_corpus(
        &taxonomy(),
        &CorpusConfig::default(),
        source.name(),
        |calls, checks| {
            Job::new(source, journal)
                .config(job)
                .checks(checks)
                .run(calls)
        },
    )
}

fn naming(source: &dyn AnswerSource, journal: &Journal) -> Result<Naming, NamingError> {
    let categories: Vec<CategoryTexts> = taxonomy()
        .fine()
        .enumerate()
        .map(|(id, (coarse, fine))| CategoryTexts {
            id: id.to_string(),
            coarse: Some(coarse.name.clone()),
            texts: fine
                .examples
                .iter()
                .enumerate()
                .map(|(row, text)| Evidence {
                    row,
                    text: text.clone(),
                })
                .collect(),
            keywords: Vec::new(),
        })
        .collect();
    name_by_model(
        &categories,
        &NamingConfig::default(),
        source.name(),
        |calls, checks| Job::new(source, journal).checks(checks).run(calls),
    )
}

/// Runs with budgets that end early until one suffices, on one journal; gives the result and the
/// number of runs.
fn in_pieces<T, E>(
    path: &Path,
    step: u64,
    work: impl Fn(&dyn AnswerSource, &Journal) -> Result<T, E>,
    interrupted: impl Fn(&E) -> bool,
) -> (T, u64, u64) {
    let mut asked = 0;
    for runs in 1.. {
        let source = Moody::new(Some(step));
        let journal = Journal::open(path).unwrap();
        let result = work(&source, &journal);
        asked += source.asked.load(Ordering::SeqCst);
        match result {
            Ok(result) => return (result, runs, asked),
            Err(error) => assert!(interrupted(&error)),
        }
        assert!(runs < 1000);
    }
    unreachable!()
}

fn ran_out(error: &JobError) -> bool {
    matches!(
        error,
        JobError::Fatal {
            error: ChatError::Budget { .. },
            ..
        }
    )
}

#[test]
fn a_corpus_in_pieces_is_the_corpus_in_one_go_and_nothing_is_paid_twice() {
    let dir = tempfile::tempdir().unwrap();
    let whole_path = dir.path().join("whole.jsonl");
    let source = Moody::new(None);
    let whole = corpus(&source, &Journal::open(&whole_path).unwrap()).unwrap();
    assert!(whole.report.rounds.len() > 1, "one round would test less");
    assert!(
        whole
            .report
            .rounds
            .iter()
            .any(|round| round.rejections() > 0)
    );
    let asked = source.asked.load(Ordering::SeqCst);
    assert_eq!(whole.report.spent.calls, asked);
    assert_eq!(whole.report.spent.tokens(), asked * 10);

    for step in [6, 25] {
        let path = dir.path().join(format!("{step}.jsonl"));
        let (pieces, runs, paid) = in_pieces(
            &path,
            step,
            corpus,
            |error| matches!(error, CorpusError::Job(error) if ran_out(error)),
        );
        assert!(runs > 1);
        assert_eq!(pieces, whole);
        assert_eq!(paid, asked);
    }

    // The same without anyone to ask; only the cost differs.
    let replay = Replay::open(&[&whole_path], None).unwrap();
    let mut again = corpus(&replay, &Journal::in_memory()).unwrap();
    assert_eq!(again.report.spent.tokens(), 0);
    again.report.spent = whole.report.spent;
    assert_eq!(again, whole);

    let out = dir.path().join("out");
    std::fs::create_dir(&out).unwrap();
    whole.write(&out).unwrap();
    assert_eq!(
        std::fs::read_to_string(out.join("train.tsv")).unwrap(),
        whole.train_tsv()
    );
    let report: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(out.join("report.json")).unwrap()).unwrap();
    assert_eq!(report["source"], "moody");
    assert_eq!(report["spent"]["calls"], asked);
}

#[test]
fn names_in_pieces_are_the_names_in_one_go() {
    let dir = tempfile::tempdir().unwrap();
    let whole_path = dir.path().join("whole.jsonl");
    let source = Moody::new(None);
    let whole = naming(&source, &Journal::open(&whole_path).unwrap()).unwrap();
    let asked = source.asked.load(Ordering::SeqCst);
    assert_eq!(whole.rounds.len(), 2, "nobody wanted a taken name");

    let path = dir.path().join("pieces.jsonl");
    let (pieces, runs, paid) = in_pieces(
        &path,
        2,
        naming,
        |error| matches!(error, NamingError::Job(error) if ran_out(error)),
    );
    assert!(runs > 1);
    assert_eq!((pieces.to_json(), paid), (whole.to_json(), asked));

    let replay = Replay::open(&[&whole_path], None).unwrap();
    let again = naming(&replay, &Journal::in_memory()).unwrap();
    assert_eq!(again.categories, whole.categories);
    assert_eq!(again.spent.tokens(), 0);
}
