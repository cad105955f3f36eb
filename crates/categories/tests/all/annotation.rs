//! Tasks for annotation tools, and what comes back.

use categories::annotation::review::{
    Disagreement, Moved, Placed, Review, ReviewOptions, Reviewer, Target, check_names,
};
use categories::annotation::{AnnotationError, Judgement, NONE, Suggestion, argilla, label_studio};
use categories::{Catalogue, CategoryId, Edit, NameSource};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::{catalogue, ids};

const NAMES: [&str; 5] = ["card lost", "refund", "transfer", "ticket", "delay"];
/// Texts of each category.
const EACH: usize = 20;

/// 20 texts of each of the five categories, in turns.
fn texts() -> Vec<String> {
    (0..5 * EACH).map(|row| format!("text {row}")).collect()
}

fn placed(texts: &[String]) -> Vec<Placed<'_>> {
    let category = |row: usize| CategoryId(row as u32 % 5);
    texts
        .iter()
        .enumerate()
        .map(|(row, text)| Placed {
            text,
            category: category(row),
        })
        .collect()
}

fn judgement(record: usize, row: usize, answers: &[&str]) -> Judgement {
    Judgement {
        record,
        row,
        text: format!("text {row}"),
        shown: Some((CategoryId(row as u32 % 5), NAMES[row % 5].to_owned())),
        answers: answers.iter().map(|&answer| answer.to_owned()).collect(),
    }
}

/// Reviews all texts, with one answer each.
fn review(answer: impl Fn(usize) -> String) -> Review {
    review_of(&catalogue(), ReviewOptions::default(), answer)
}

fn review_of(
    catalogue: &Catalogue,
    options: ReviewOptions,
    answer: impl Fn(usize) -> String,
) -> Review {
    let texts = texts();
    let placed = placed(&texts);
    let mut reviewer = Reviewer::new(catalogue, &placed, options);
    for row in 0..texts.len() {
        reviewer.add(judgement(row, row, &[&answer(row)])).unwrap();
    }
    reviewer.finish()
}

fn own(row: usize) -> String {
    NAMES[row % 5].to_owned()
}

fn suggestion<'a>(row: usize, text: &'a str, name: &'a str) -> Suggestion<'a> {
    Suggestion {
        row,
        text,
        coarse: Some("bank"),
        category: CategoryId(row as u32 % 5),
        name,
        cosine: 0.812_345,
        unknown: false,
    }
}

fn label_studio_read(text: &[u8]) -> Result<Vec<Judgement>, AnnotationError> {
    let mut found = Vec::new();
    label_studio::read(text, &mut |judgement| {
        found.push(judgement);
        Ok(())
    })?;
    Ok(found)
}

fn argilla_read(text: &[u8]) -> Result<Vec<Judgement>, AnnotationError> {
    let mut found = Vec::new();
    argilla::read(text, &mut |judgement| {
        found.push(judgement);
        Ok(())
    })?;
    Ok(found)
}

#[test]
fn label_studio_tasks_come_back_as_judgements() {
    let mut task = label_studio::task(&suggestion(6, "text 6", "refund"), "asterism r3");
    assert_eq!(
        task,
        json!({
            "data": {"row": 6, "text": "text 6", "coarse": "bank", "category": 1, "name": "refund",
                     "unknown": false},
            "predictions": [{"model_version": "asterism r3", "score": 0.8123, "result": [
                {"from_name": "category", "to_name": "text", "type": "choices",
                 "value": {"choices": ["refund"]}},
            ]}],
        })
    );
    // As the tool exports it, with fields of its own.
    let region = |choice: &str| {
        json!({"id": "x", "type": "choices", "value": {"choices": [choice]}, "origin": "manual",
               "to_name": "text", "from_name": "category"})
    };
    task["id"] = json!(17);
    task["annotations"] = json!([
        {"id": 1, "completed_by": 1, "was_cancelled": false, "result": [
            region("ticket"),
            {"type": "relation", "from_id": "a", "to_id": "b"},
            {"from_name": "remark", "type": "textarea", "value": {"text": ["why?"]}},
        ]},
        {"id": 2, "was_cancelled": true, "result": [region("delay")]},
        {"id": 3, "was_cancelled": false, "result": []},
        {"id": 4, "was_cancelled": false, "result": [region("refund")]},
    ]);
    let mut untouched = task.clone();
    untouched["annotations"] = json!([]);
    let found = label_studio_read(json!([task, untouched]).to_string().as_bytes()).unwrap();
    let expected = |record, answers: &[&str]| Judgement {
        record,
        ..judgement(record, 6, answers)
    };
    assert_eq!(
        found,
        [expected(0, &["ticket", "refund"]), expected(1, &[])]
    );
    assert_eq!(label_studio_read(b" [ ] ").unwrap(), []);
}

#[test]
fn argilla_records_come_back_as_judgements() {
    let mut record = argilla::record(&suggestion(6, "text 6", "refund"), "asterism");
    assert_eq!(
        record,
        json!({
            "id": "6",
            "fields": {"text": "text 6"},
            "metadata": {"row": 6, "category_id": 1, "coarse": "bank", "unknown": "no"},
            "suggestions": {"category": {"value": "refund", "score": 0.8123, "agent": "asterism"}},
            "responses": {},
            "vectors": {},
        })
    );
    record["status"] = json!("completed");
    record["_server_id"] = json!("0f");
    record["responses"] = json!({
        "category": [
            {"value": "ticket", "user_id": "1f"},
            {"value": null, "user_id": "2f", "status": "discarded"},
            {"value": "delay", "user_id": "3f", "status": "draft"},
            {"value": "refund", "user_id": "4f", "status": "submitted"},
        ],
        "other": [{"value": 5, "user_id": "1f"}],
    });
    let mut untouched = record.clone();
    untouched["responses"] = json!({});
    let found = argilla_read(json!([record, untouched]).to_string().as_bytes()).unwrap();
    let expected = |record, answers: &[&str]| Judgement {
        record,
        ..judgement(record, 6, answers)
    };
    assert_eq!(
        found,
        [expected(0, &["ticket", "refund"]), expected(1, &[])]
    );
}

#[test]
fn choices_are_the_categories_in_use() {
    let mut catalogue = catalogue();
    catalogue.categories[1].name = "a \"b\" & <c> 'd'".to_owned();
    let xml = label_studio::config(&catalogue);
    assert!(
        xml.contains(
            "<Choice value=\"a &quot;b&quot; &amp; &lt;c&gt; &apos;d&apos;\" hint=\"refund\"/>"
        ),
        "{xml}"
    );
    assert_eq!(xml.matches("<Choice ").count(), 6);
    assert!(xml.contains("<Choice value=\"none of these\"/>"), "{xml}");
    let settings = argilla::settings(&catalogue);
    let options = settings["questions"][0]["settings"]["options"]
        .as_array()
        .unwrap();
    let values: Vec<&str> = options
        .iter()
        .map(|option| option["value"].as_str().unwrap())
        .collect();
    assert_eq!(
        values,
        [
            "card lost",
            "a \"b\" & <c> 'd'",
            "transfer",
            "ticket",
            "delay",
            NONE
        ]
    );
    check_names(&catalogue).unwrap();
    catalogue.categories[2].name = "None of These".to_owned();
    let error = check_names(&catalogue).unwrap_err();
    assert!(error.to_string().contains("category 2"), "{error}");
}

#[test]
fn people_who_agree_change_nothing() {
    let review = review(own);
    assert_eq!(
        (review.records, review.judged, review.agreeing),
        (100, 100, 100)
    );
    assert_eq!(
        (
            review.agreement(),
            review.kappa,
            review.unanswered,
            review.contested
        ),
        (Some(1.0), Some(1.0), 0, 0)
    );
    assert_eq!(
        (review.edits, review.disagreements, review.moved),
        (vec![], vec![], vec![])
    );
}

#[test]
fn a_new_name_for_a_whole_category_is_a_rename() {
    // Two of the twenty keep the old name, and two spell the new one in their own way.
    let review = review(|row| match (row % 5, row / 5) {
        (1, 0..2) => own(row),
        (1, 2..4) => "Money Back ".to_owned(),
        (1, _) => "money back".to_owned(),
        _ => own(row),
    });
    assert_eq!(
        review.edits,
        [Edit::Rename {
            id: CategoryId(1),
            name: "Money Back".to_owned(),
            source: NameSource::Human,
        }]
    );
    assert_eq!(
        review.disagreements,
        [Disagreement {
            from: CategoryId(1),
            to: Target::New("Money Back".to_owned()),
            texts: 18,
            judged: 20,
            first_record: 11,
            edited: true,
        }]
    );
    assert_eq!(review.agreement(), Some(0.82));
    assert_eq!((review.moved.len(), review.moved[0].row), (18, 11));
}

#[test]
fn one_name_for_several_categories_is_a_merge() {
    // The name of one of them, and a new one.
    let review = review(|row| match row % 5 {
        0 | 1 => "refund".to_owned(),
        3 | 4 => "journeys".to_owned(),
        _ => own(row),
    });
    let merge = |numbers: &[u32], name: &str| Edit::Merge {
        ids: ids(numbers),
        name: Some(name.to_owned()),
    };
    assert_eq!(
        review.edits,
        [merge(&[0, 1], "refund"), merge(&[3, 4], "journeys")]
    );
    assert!(review.disagreements.iter().all(|row| row.edited));
    assert_eq!(review.disagreements.len(), 3);
}

#[test]
fn what_is_not_about_whole_categories_is_only_reported() {
    // Too few of one, two that change places, and texts that belong nowhere.
    let review = review(|row| match (row % 5, row / 5) {
        (0, 0..5) => "stolen card".to_owned(),
        (1, _) => "transfer".to_owned(),
        (2, _) => "refund".to_owned(),
        (3, _) => NONE.to_uppercase(),
        _ => own(row),
    });
    assert_eq!(review.edits, []);
    let rows: Vec<_> = review
        .disagreements
        .iter()
        .map(|row| (row.from.0, row.to.clone(), row.texts, row.edited))
        .collect();
    assert_eq!(
        rows,
        [
            (1, Target::Category(CategoryId(2)), 20, false),
            (2, Target::Category(CategoryId(1)), 20, false),
            (3, Target::Nothing, 20, false),
            (0, Target::New("stolen card".to_owned()), 5, false),
        ]
    );
    assert_eq!(
        review.moved[0],
        Moved {
            row: 0,
            from: CategoryId(0),
            to: Target::New("stolen card".to_owned()),
        }
    );
}

#[test]
fn few_texts_decide_only_about_small_categories() {
    let catalogue = catalogue();
    let texts = texts();
    let placed = placed(&texts);
    let judged = |count: usize, options: ReviewOptions| {
        let mut reviewer = Reviewer::new(&catalogue, &placed, options);
        for record in 0..count {
            let answer = judgement(record, 5 * record, &["stolen card"]);
            reviewer.add(answer).unwrap();
        }
        reviewer.finish().edits.len()
    };
    let standard = ReviewOptions::default();
    assert_eq!((judged(9, standard), judged(10, standard)), (0, 1));
    let all = ReviewOptions {
        min_texts: 1000,
        ..standard
    };
    assert_eq!((judged(19, all), judged(20, all)), (0, 1));
}

#[test]
fn people_who_disagree_with_each_other_count_apart() {
    let catalogue = catalogue();
    let texts = texts();
    let placed = placed(&texts);
    let mut reviewer = Reviewer::new(&catalogue, &placed, ReviewOptions::default());
    for (record, answers) in [
        &["card lost", "Card Lost"][..],
        &["refund", "delay"],
        &[],
        &["delay"],
    ]
    .into_iter()
    .enumerate()
    {
        reviewer.add(judgement(record, record, answers)).unwrap();
    }
    let review = reviewer.finish();
    assert_eq!(
        (
            review.records,
            review.unanswered,
            review.contested,
            review.judged,
            review.agreeing
        ),
        (4, 1, 1, 2, 1)
    );
    // p_o = 1/2; categories 0 and 3, answers 0 and 4: p_e = 1/4.
    assert_eq!(review.kappa, Some(1.0 / 3.0));
    let nothing = Reviewer::new(&catalogue, &placed, ReviewOptions::default()).finish();
    assert_eq!((nothing.agreement(), nothing.kappa), (None, None));
}

#[test]
fn names_mean_what_they_meant_when_the_tasks_were_made() {
    // Since then `refund` was renamed, and another category has its name.
    let mut catalogue = catalogue();
    catalogue.categories[1].name = "money back".to_owned();
    catalogue.categories[4].name = "refund".to_owned();
    let review = review_of(&catalogue, ReviewOptions::default(), own);
    assert_eq!(review.agreement(), Some(1.0));
    let review = review_of(&catalogue, ReviewOptions::default(), |row| match row % 5 {
        0 => "refund".to_owned(),
        _ => own(row),
    });
    assert_eq!(review.disagreements[0].to, Target::Category(CategoryId(1)));
}

#[test]
fn records_that_contradict_the_run_are_named() {
    let catalogue = catalogue();
    let texts = texts();
    let placed = placed(&texts);
    let refused = |bad: Judgement| {
        let mut reviewer = Reviewer::new(&catalogue, &placed, ReviewOptions::default());
        reviewer.add(judgement(0, 3, &["ticket"])).unwrap();
        reviewer.add(bad).unwrap_err().to_string()
    };
    let good = judgement(7, 4, &["delay"]);
    for (bad, problem) in [
        (
            Judgement {
                row: 100,
                ..good.clone()
            },
            "row: expected one of the 100 of the run, found 100",
        ),
        (
            Judgement {
                text: "other".to_owned(),
                ..good.clone()
            },
            "text: expected that of row 4",
        ),
        (judgement(7, 3, &["ticket"]), "row 3 stands in records[0]"),
        (judgement(7, 4, &["  "]), "answer: name: expected a name"),
        (judgement(7, 4, &["a\u{7}b"]), "no control characters"),
        (
            judgement(7, 4, &[&"x".repeat(201)]),
            "at most 200 characters",
        ),
    ] {
        let error = refused(bad);
        assert!(
            error.starts_with("records[7]: ") && error.contains(problem),
            "{error}"
        );
    }
}

#[test]
fn hostile_lists_are_refused_with_the_place() {
    let task = |annotations: &str| {
        format!("[{{\"data\": {{\"row\": 0, \"text\": \"a\"}}, \"annotations\": {annotations}}}]")
    };
    let result = |result: &str| task(&format!("[{{\"result\": [{result}]}}]"));
    let choices = |value: &str| {
        result(&format!(
            "{{\"from_name\": \"category\", \"value\": {value}}}"
        ))
    };
    let one = "{\"from_name\": \"category\", \"value\": {\"choices\": [\"a\"]}}";
    for (text, problem) in [
        (task("[{}]"), "missing field `result`"),
        (task("[{\"result\": null}]"), "invalid type: null"),
        (task("{}"), "invalid type: map"),
        (
            task("[{\"result\": [], \"result\": []}]"),
            "duplicate field",
        ),
        (
            choices("{\"choices\": []}"),
            "choices: expected one, found 0",
        ),
        (choices("{\"choices\": [\"a\", \"b\"]}"), "found 2"),
        (choices("{\"choices\": \"a\"}"), "invalid type: string"),
        (
            choices("{}"),
            "value.choices: expected a list, found nothing",
        ),
        (
            choices("null"),
            "value.choices: expected a list, found nothing",
        ),
        (
            result(&format!("{one}, {one}")),
            "expected one choice, found more",
        ),
        (
            "[{\"data\": {\"row\": 0}}]".to_owned(),
            "missing field `text`",
        ),
        (
            "[{\"data\": {\"row\": -1, \"text\": \"\"}}]".to_owned(),
            "invalid value: integer `-1`",
        ),
        (
            "[{\"data\": {\"row\": 0, \"row\": 1, \"text\": \"\"}}]".to_owned(),
            "duplicate field `row`",
        ),
        ("[{\"data\": {\"row\": 0".to_owned(), "EOF"),
        (format!("[{{\"data\": {}", "[".repeat(1_000_000)), "invalid"),
        (
            format!("[{{\"data\": {{\"text\": \"{}", "x".repeat(17 << 20)),
            "a record is larger than 16777216 bytes",
        ),
    ] {
        let error = label_studio_read(text.as_bytes()).unwrap_err().to_string();
        assert!(
            error.starts_with("records[0]: ") && error.contains(problem),
            "{problem}: {error}"
        );
    }
    let record = |rest: &str| format!("[{{\"fields\": {{\"text\": \"a\"}}, {rest}}}]");
    let response = |value: &str| {
        record(&format!(
            "\"metadata\": {{\"row\": 0}}, \"responses\": {{\"category\": [{value}]}}"
        ))
    };
    for (text, problem) in [
        (record("\"x\": 1"), "missing field `metadata`"),
        (record("\"metadata\": {}"), "missing field `row`"),
        (
            response("{\"value\": null}"),
            "responses.category[0]: value: expected a name",
        ),
        (response("{\"value\": [\"a\"]}"), "invalid type: sequence"),
        (
            response("{\"value\": \"a\", \"value\": \"b\"}"),
            "duplicate field",
        ),
        (
            record("\"metadata\": {\"row\": 0}, \"fields\": {\"text\": \"b\"}"),
            "duplicate field",
        ),
    ] {
        let error = argilla_read(text.as_bytes()).unwrap_err().to_string();
        assert!(
            error.starts_with("records[0]: ") && error.contains(problem),
            "{problem}: {error}"
        );
    }
    for text in [
        "",
        "{}",
        "{\"data\": {}}",
        "null",
        "\"a\"",
        "[] x",
        "[]]",
        &"{\"a\":".repeat(1_000_000),
        "\u{feff}[]",
    ] {
        for error in [
            label_studio_read(text.as_bytes()).unwrap_err(),
            argilla_read(text.as_bytes()).unwrap_err(),
        ] {
            assert!(matches!(error, AnnotationError::List { .. }), "{error}");
        }
    }
    let second = "[{\"data\": {\"row\": 0, \"text\": \"a\"}}, 5]";
    let error = label_studio_read(second.as_bytes()).unwrap_err();
    assert!(error.to_string().starts_with("records[1]: "), "{error}");
    assert!(label_studio_read(b"[{\"data\": {\"row\": 0, \"text\": \"\xff\"}}]").is_err());
}

/// Ends in an error of the system.
struct Broken;

impl std::io::Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        Err(std::io::Error::other("the disk is gone"))
    }
}

#[test]
fn errors_of_the_system_and_of_the_receiver_come_through() {
    let error = label_studio::read(Broken, &mut |_| Ok(())).unwrap_err();
    assert!(matches!(error, AnnotationError::Read(_)), "{error}");
    let task = label_studio::task(&suggestion(0, "a", "refund"), "x");
    let list = Value::from(vec![task.clone(), task]).to_string();
    let mut calls = 0;
    let error = label_studio::read(list.as_bytes(), &mut |_| {
        calls += 1;
        Err(AnnotationError::Record {
            record: 9,
            problem: "enough".to_owned(),
        })
    })
    .unwrap_err();
    assert_eq!(
        (calls, error.to_string()),
        (1, "records[9]: enough".to_owned())
    );
}

proptest! {
    #[test]
    fn no_list_panics(text in "[\\[\\]{}:,\"a-f0-9 ]{0,40}|\\PC{0,40}") {
        let _ = label_studio_read(text.as_bytes());
        let _ = argilla_read(text.as_bytes());
    }

    /// Whatever people say, the edits can all be made, and every judged text is counted once.
    #[test]
    fn edits_of_any_answers_can_be_made(
        answers in prop::collection::vec(0_usize..9, 5 * EACH),
        per_category in prop::collection::vec(prop::option::of(0_usize..9), 5),
    ) {
        let words = ["card lost", "refund", "transfer", "ticket", "delay", NONE, "new", "New", "other"];
        let review = review(|row| {
            let word = per_category[row % 5].unwrap_or(answers[row]);
            words[word].to_owned()
        });
        prop_assert_eq!(review.agreeing + review.moved.len(), review.judged);
        let counted: usize = review.disagreements.iter().map(|row| row.texts).sum();
        prop_assert_eq!(counted, review.moved.len());
        let (_run, mut store) = crate::support::Run::new();
        store.apply_all(review.edits).unwrap();
    }
}
