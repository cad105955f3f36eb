use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use categories::{
    Calibration, Catalogue, Category, CategoryId, Edit, Keyword, NameSource, Status, Store,
};
use encoder::{WeightTensor, write_safetensors};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{asterism, failure, json_lines, success};

const DIM: usize = 8;
/// Category, coarse class, and the two kinds of texts in it.
const CATEGORIES: [(&str, &str, [&str; 2]); 8] = [
    (
        "card trouble",
        "bank",
        ["my card was stolen", "the pin is blocked"],
    ),
    ("refund", "bank", ["money back please", "refund my order"]),
    ("transfer", "bank", ["wire some cash", "send a transfer"]),
    ("ticket", "travel", ["buy a ticket", "train seat"]),
    (
        "delay",
        "travel",
        ["the flight is late", "delayed departure"],
    ),
    ("luggage", "travel", ["lost suitcase", "bag too heavy"]),
    ("parcel", "post", ["where is my parcel", "package missing"]),
    ("stamps", "post", ["buy stamps", "postage price"]),
];

/// A run directory as `discover` leaves it: 3 coarse classes, 8 categories, 60 texts.
struct Run {
    dir: TempDir,
}

impl Run {
    fn new() -> Self {
        let mut state = 5_u64;
        // Knuth's linear congruence; the upper bits, from -1 to 1.
        let mut random = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f64 / f64::from(1 << 23) - 1.0
        };
        let mut unit = |centre: &[f64], spread: f64| -> Vec<f64> {
            let noise = centre.iter().map(|x| x + spread * random());
            let vector: Vec<f64> = noise.collect();
            let length = vector.iter().map(|x| x * x).sum::<f64>().sqrt();
            vector.iter().map(|x| x / length).collect()
        };
        let dir = tempfile::tempdir().unwrap();
        let mut members = String::new();
        let mut vectors: Vec<f32> = Vec::new();
        let mut sums = vec![vec![0.0; DIM]; 8];
        let mut sizes = [0; 8];
        // Each kind of text has a direction of its own.
        let centres: Vec<Vec<f64>> = (0..16).map(|_| unit(&[0.0; DIM], 1.0)).collect();
        for row in 0..60 {
            let (category, kind) = (row % 8, row / 8 % 2);
            let vector = unit(&centres[2 * category + kind], 0.1);
            for (sum, x) in sums[category].iter_mut().zip(&vector) {
                *sum += x;
            }
            sizes[category] += 1;
            vectors.extend(vector.iter().map(|x| *x as f32));
            let (_, coarse, texts) = CATEGORIES[category];
            let member = json!({
                "row": row, "text": format!("{} {row}", texts[kind]), "coarse": coarse,
                "category": category, "cosine": 0.9, "split": "train",
            });
            members.push_str(&format!("{member}\n"));
        }
        let categories = (0_u32..)
            .zip(CATEGORIES)
            .zip(sums.iter().zip(sizes))
            .map(|((id, (name, coarse, texts)), (sum, size))| Category {
                id: CategoryId(id),
                name: name.to_owned(),
                name_source: NameSource::Keywords,
                coarse: Some(coarse.to_owned()),
                keywords: name
                    .split(' ')
                    .map(|term| Keyword {
                        term: term.to_owned(),
                        weight: 0.5,
                    })
                    .collect(),
                medoids: texts.map(str::to_owned).to_vec(),
                size,
                coherence: 0.75,
                nearest: vec![],
                born: 1,
                status: Status::Active,
                centroid: unit(sum, 0.0).iter().map(|x| *x as f32).collect(),
            })
            .collect();
        let coarse = ["bank", "travel", "post"].map(str::to_owned).to_vec();
        let catalogue = Catalogue::new(DIM, "", coarse, categories, None).unwrap();
        Store::create(dir.path(), catalogue).unwrap();
        fs::write(dir.path().join("members.jsonl"), members).unwrap();
        let shape = vec![60, DIM];
        let tensor = WeightTensor {
            shape,
            values: vectors,
        };
        let tensors = BTreeMap::from([("vectors".to_owned(), tensor)]);
        write_safetensors(&dir.path().join("vectors.safetensors"), &tensors, None).unwrap();
        Self { dir }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    fn command(&self, command: &str, more: &[&str]) -> Command {
        let mut asterism = asterism();
        asterism
            .args(["categories", command])
            .arg(self.path())
            .args(more);
        asterism
    }

    fn done(&self, command: &str, more: &[&str]) -> String {
        success(&mut self.command(command, more))
    }

    fn json(&self, command: &str, more: &[&str]) -> Value {
        let text = success(self.command(command, more).arg("--json"));
        serde_json::from_str(&text).unwrap()
    }

    fn refused(&self, command: &str, more: &[&str]) -> String {
        let log = fs::read(self.file("categories.log.jsonl")).ok();
        let error = failure(&mut self.command(command, more), 2);
        assert_eq!(fs::read(self.file("categories.log.jsonl")).ok(), log);
        // Long lines are wrapped.
        error.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Ids and names in use.
    fn names(&self) -> Vec<(u64, String)> {
        let list = self.json("list", &[]);
        let categories = list["categories"].as_array().unwrap().iter();
        categories
            .map(|c| {
                (
                    c["id"].as_u64().unwrap(),
                    c["name"].as_str().unwrap().to_owned(),
                )
            })
            .collect()
    }
}

#[test]
fn categories_are_listed_and_shown() {
    let run = Run::new();
    let text = run.done("list", &[]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 9, "{text}");
    assert_eq!(
        lines[0],
        "   id  name          coarse    size  coherence  keywords"
    );
    assert_eq!(
        lines[1],
        "    0  card trouble  bank         8      0.750  card, trouble"
    );
    let list = run.json("list", &[]);
    assert_eq!(
        (
            &list["revision"],
            list["categories"].as_array().unwrap().len()
        ),
        (&json!(1), 8)
    );
    assert!(list["categories"][0].get("centroid").is_none());
    for id in ["4", "Delay"] {
        let page = run.done("show", &[id]);
        assert!(
            page.starts_with("4  delay\n  name       made of keywords\n"),
            "{page}"
        );
        for part in [
            "coarse     travel",
            "the flight is late",
            "born       revision 1",
        ] {
            assert!(page.contains(part), "{page}");
        }
    }
    let shown = run.json("show", &["luggage"]);
    assert_eq!(
        (&shown["id"], shown["nearest"].as_array().unwrap().len()),
        (&json!(5), 5)
    );
    let error = run.refused("show", &["lugage"]);
    assert!(
        error.contains("did you mean `luggage`?") && error.contains("categories list"),
        "{error}"
    );
    assert!(run.refused("show", &["99"]).contains("ids go up to 7"));
}

#[test]
fn edits_are_made_undone_and_logged() {
    let run = Run::new();
    assert_eq!(
        run.done("rename", &["1", " money back "]),
        "renamed 1 `refund` to `money back`\n"
    );
    assert_eq!(
        run.done("merge", &["parcel", "7", "--name", "post office"]),
        "merged 6, 7 into 8 `post office`\n"
    );
    let merged = run.json("merge", &["0", "1"]);
    assert_eq!(merged["revision"], 4);
    assert_eq!(merged["events"][0]["event"], "merged");
    assert_eq!(merged["events"][0]["born"], json!([9]));
    let changed: Vec<&Value> = merged["changed"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| &c["id"])
        .collect();
    assert_eq!(changed, [&json!(0), &json!(1), &json!(9)]);
    assert_eq!(
        merged["changed"][0]["status"],
        json!({"merged": {"into": 9}})
    );
    // The same size: the lower id gives the name.
    assert_eq!(
        run.names()[4..],
        [(8, "post office".into()), (9, "card trouble".into())]
    );
    assert!(run.done("list", &["--all"]).contains("merged into 9"));

    assert_eq!(
        run.done("undo", &[]),
        "undid revision 4: merged 0, 1 into 9 `card trouble`\n"
    );
    assert_eq!(
        run.done("undo", &[]),
        "undid revision 3: merged 6, 7 into 8 `post office`\n"
    );
    assert_eq!(
        run.done("redo", &[]),
        "redid revision 3: merged 6, 7 into 8 `post office`\n"
    );
    assert_eq!(run.names().len(), 7);
    run.done("undo", &[]);
    run.done("undo", &[]);
    assert_eq!(run.names()[1], (1, "refund".to_owned()));
    let error = run.refused("undo", &[]);
    assert!(
        error.contains("nothing to undo") && error.contains("categories log"),
        "{error}"
    );

    let log = run.done("log", &[]);
    assert_eq!(log.lines().count(), 9, "{log}");
    assert!(log.starts_with("   1  20"), "{log}");
    assert!(
        log.lines()
            .last()
            .unwrap()
            .ends_with("undid revision 2: renamed 1 `refund` to `money back`")
    );
    let lines = json_lines(&success(run.command("log", &[]).arg("--json")));
    assert_eq!(
        (&lines[4]["event"], &lines[4]["undone"]),
        (&json!("undone"), &json!(4))
    );
    assert_eq!(
        run.done("replay", &[]),
        "categories.log.jsonl: 9 events, 8 categories in use; categories.json is what it gives\n"
    );
}

#[test]
fn a_category_is_split_where_its_texts_part() {
    let run = Run::new();
    let split = run.json("split", &["card trouble", "--into", "2", "--seed", "3"]);
    let parts: Vec<&Value> = split["changed"]
        .as_array()
        .unwrap()
        .iter()
        .skip(1)
        .collect();
    assert_eq!(
        split["changed"][0]["status"],
        json!({"split": {"into": [8, 9]}})
    );
    assert_eq!(
        parts
            .iter()
            .map(|part| part["size"].as_u64().unwrap())
            .collect::<Vec<_>>(),
        [4, 4]
    );
    for part in parts {
        let medoids: Vec<&str> = part["medoids"]
            .as_array()
            .unwrap()
            .iter()
            .map(|t| t.as_str().unwrap())
            .collect();
        let stolen = medoids
            .iter()
            .filter(|text| text.contains("stolen"))
            .count();
        assert!(
            medoids.len() == 4 && (stolen == 0 || stolen == 4),
            "{medoids:?}"
        );
        let name = part["name"].as_str().unwrap();
        assert!(
            name.contains(if stolen == 4 { "stolen" } else { "pin" }),
            "{name}"
        );
        assert_eq!(
            (&part["coarse"], &part["name_source"]),
            (&json!("bank"), &json!("keywords"))
        );
        assert!(part["coherence"].as_f64().unwrap() > 0.9);
    }
    // The same seed gives the same parts, and a part can be split again: its texts are those that
    // lead to it.
    let again = Run::new();
    again.done("split", &["0", "--into", "2", "--seed", "3"]);
    let read = |run: &Run| fs::read_to_string(run.file("categories.json")).unwrap();
    assert_eq!(read(&run), read(&again));
    let text = run.done("split", &["9", "--into", "4"]);
    assert!(text.starts_with("split 9 into 10 `"), "{text}");
    let error = run.refused("split", &["10", "--into", "2"]);
    assert!(
        error.contains("--into") && error.contains("2 for 1 in members.jsonl"),
        "{error}"
    );
    run.done("undo", &[]);
    run.done("undo", &[]);
    assert_eq!(run.names()[0], (0, "card trouble".to_owned()));
    // What an undone split left is not in use.
    let error = run.refused("split", &["8", "--into", "2"]);
    assert!(error.contains("category 8 is retired"), "{error}");
}

#[test]
fn edits_saved_from_a_page_are_made_together() {
    let run = Run::new();
    let list = |revision: u64, edits: Value| {
        let path = run.file("edits.json");
        let list = json!({"schema": "asterism/edits/1", "revision": revision, "edits": edits});
        fs::write(&path, list.to_string()).unwrap();
        path.display().to_string()
    };
    let rename = |id: u32, name: &str| json!({"rename": {"id": id, "name": name}});
    let merge = |into: u32| json!({"merge": {"ids": [2, 3], "name": "mixed", "into": into}});
    let error = run.refused(
        "apply",
        &[&list(1, json!([rename(0, "x"), rename(1, "X")]))],
    );
    assert!(
        error.contains("edit 2: the name `X` belongs to category 0"),
        "{error}"
    );
    let error = run.refused("apply", &[&list(1, json!([merge(9)]))]);
    assert!(
        error.contains("edits[0].merge.into: expected 8, found 9"),
        "{error}"
    );
    assert_eq!(
        run.done(
            "apply",
            &[&list(1, json!([rename(0, "x"), merge(8), rename(8, "y")]))]
        ),
        "renamed 0 `card trouble` to `x`\nmerged 2, 3 into 8 `mixed`\nrenamed 8 `mixed` to `y`\n"
    );
    let error = run.refused("apply", &[&list(1, json!([rename(0, "z")]))]);
    assert!(
        error.contains("revision: expected 4") && error.contains("found 1"),
        "{error}"
    );
    for (content, message) in [
        ("{", "edits.json:1:"),
        (
            r#"{"schema":"asterism/edits/9","revision":4,"edits":[]}"#,
            "schema: expected asterism/edits/1",
        ),
        (
            r#"{"schema":"asterism/edits/1","revision":4,"edits":[{"drop":{}}]}"#,
            "unknown variant `drop`",
        ),
    ] {
        let path = run.file("edits.json");
        fs::write(&path, content).unwrap();
        let error = run.refused("apply", &[&path.display().to_string()]);
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn refusals_say_what_to_do_next() {
    let run = Run::new();
    let error = run.refused("rename", &["0", "Delay"]);
    assert!(
        error.contains("the name `Delay` belongs to category 4"),
        "{error}"
    );
    assert!(
        error.contains("categories merge") && error.contains("4 ID"),
        "{error}"
    );
    assert!(
        run.refused("rename", &["0", "  "])
            .contains("expected a name")
    );
    assert!(
        run.refused("merge", &["0", "card trouble"])
            .contains("an id twice")
    );
    assert!(run.refused("merge", &["0"]).contains("--help"));
    assert!(
        run.refused("split", &["0", "--into", "1"])
            .contains("--into")
    );
    run.done("merge", &["0", "1"]);
    assert!(
        run.refused("rename", &["0", "x"])
            .contains("category 0 is retired: merged into 8")
    );

    // While another process has the run open.
    let store = Store::open(run.path()).unwrap();
    let error = failure(&mut run.command("undo", &[]), 1);
    assert!(
        error.contains("locked by") && error.contains("wait until it is done"),
        "{error}"
    );
    run.done("list", &[]);
    drop(store);

    let empty = tempfile::tempdir().unwrap();
    let error = failure(asterism().args(["categories", "list"]).arg(empty.path()), 2);
    assert!(
        error.contains("categories.json is missing") && error.contains("asterism discover"),
        "{error}"
    );
    fs::remove_file(run.file("members.jsonl")).unwrap();
    assert!(
        run.refused("split", &["2", "--into", "2"])
            .contains("members.jsonl")
    );
}

#[test]
fn what_a_crash_left_is_set_right_and_said() {
    let run = Run::new();
    let (json, log) = (
        run.file("categories.json"),
        run.file("categories.log.jsonl"),
    );
    let old = fs::read(&json).unwrap();
    run.done("rename", &["0", "cards"]);
    let new = fs::read(&json).unwrap();
    fs::write(&json, &old).unwrap();
    let torn = [fs::read(&log).unwrap(), b"{\"revision\":3,\"at\"".to_vec()].concat();
    fs::write(&log, &torn).unwrap();
    // Looking changes nothing and sees the edit.
    assert_eq!(run.names()[0].1, "cards");
    assert!(run.done("replay", &[]).contains("is behind it"));
    assert_eq!(
        (fs::read(&json).unwrap(), fs::read(&log).unwrap()),
        (old, torn)
    );
    let output = run
        .command("rename", &["1", "back"])
        .assert()
        .success()
        .get_output()
        .clone();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("18 bytes") && said.contains("brought to revision 2"),
        "{said}"
    );
    assert_eq!(run.names()[..2], [(0, "cards".into()), (1, "back".into())]);
    run.done("undo", &[]);

    // A file that was changed by hand.
    let text = String::from_utf8(new)
        .unwrap()
        .replace("\"cards\"", "\"by hand\"");
    fs::write(&json, text).unwrap();
    let error = run.refused("list", &[]);
    assert!(
        error.contains("is not what its log gives at revision 2"),
        "{error}"
    );
    assert!(error.contains("replay --write"), "{error}");
    assert!(
        run.done("replay", &["--write"])
            .contains("was written from it")
    );
    assert_eq!(run.names()[0].1, "cards");
}

/// A calibration with this threshold.
fn calibrated(threshold: f32) -> Calibration {
    Calibration {
        threshold,
        temperature: 0.1,
        accepts_known: 0.95,
        rejects_unknown: 0.8,
        auroc: 0.9,
        held_out: vec!["post".into()],
        n_known: 10,
        n_unknown: 5,
    }
}

#[test]
fn a_calibration_and_an_update_stand_in_the_log() {
    let run = Run::new();
    let mut store = Store::open(run.path()).unwrap();
    let calibration = calibrated(0.4567);
    store.apply(Edit::Calibrate(calibration)).unwrap();
    let (changed, born) = (vec![], vec![]);
    store
        .apply(Edit::Update {
            changed,
            born,
            model_sha256: None,
        })
        .unwrap();
    drop(store);
    let log = run.done("log", &[]);
    assert!(
        log.contains("calibrated: unknown below cosine 0.457\n"),
        "{log}"
    );
    assert!(log.ends_with("updated 0 categories\n"), "{log}");
}

impl Run {
    fn tool(&self, command: &str, format: &str, more: &[&str]) -> Command {
        let mut asterism = asterism();
        asterism
            .current_dir(self.path())
            .args(["categories", command, "--run", ".", "--format", format])
            .args(more);
        asterism
    }

    fn exported(&self, format: &str, more: &[&str]) -> Vec<Value> {
        let text = success(&mut self.tool("export", format, more));
        serde_json::from_str(&text).unwrap()
    }

    /// Writes `list.json` with an answer to every task, as the tool would export it.
    fn annotate(&self, format: &str, answer: impl Fn(usize, &str) -> Option<String>) {
        let mut list = self.exported(format, &[]);
        for task in &mut list {
            let (row, name) = match format {
                "argilla" => (
                    &task["metadata"]["row"],
                    &task["suggestions"]["category"]["value"],
                ),
                _ => (&task["data"]["row"], &task["data"]["name"]),
            };
            let row = row.as_u64().unwrap() as usize;
            let Some(answer) = answer(row, name.as_str().unwrap()) else {
                continue;
            };
            match format {
                "argilla" => {
                    task["responses"] = json!({"category": [{"value": answer, "user_id": "1"}]});
                }
                _ => {
                    let result = json!([{"from_name": "category", "to_name": "text",
                                         "type": "choices", "value": {"choices": [answer]}}]);
                    task["annotations"] = json!([{"was_cancelled": false, "result": result}]);
                }
            }
        }
        fs::write(self.file("list.json"), Value::from(list).to_string()).unwrap();
    }
}

#[test]
fn texts_are_exported_for_annotation_tools() {
    let run = Run::new();
    let tasks = run.exported("label-studio", &[]);
    assert_eq!(tasks.len(), 60);
    assert_eq!(
        tasks[13]["data"],
        json!({"row": 13, "text": "bag too heavy 13", "coarse": "travel", "category": 5,
               "name": "luggage", "unknown": false})
    );
    let prediction = &tasks[13]["predictions"][0];
    assert_eq!(prediction["model_version"], "asterism revision 1");
    assert_eq!(
        prediction["result"][0]["value"]["choices"],
        json!(["luggage"])
    );
    let score = prediction["score"].as_f64().unwrap();
    assert!(score > 0.0 && score <= 1.0, "{score}");

    let records = run.exported(
        "argilla",
        &[
            "--category",
            "delay",
            "5",
            "--label-config",
            "settings.json",
        ],
    );
    let rows: Vec<u64> = records
        .iter()
        .map(|record| record["metadata"]["row"].as_u64().unwrap())
        .collect();
    assert_eq!(rows, [4, 5, 12, 13, 20, 21, 28, 29, 36, 37, 44, 45, 52, 53]);
    let settings: Value =
        serde_json::from_slice(&fs::read(run.file("settings.json")).unwrap()).unwrap();
    let options = &settings["questions"][0]["settings"]["options"];
    assert_eq!(options.as_array().unwrap().len(), 9);

    let out = ["--out", "tasks.json", "--label-config", "config.xml"];
    assert_eq!(success(&mut run.tool("export", "label-studio", &out)), "");
    let written: Vec<Value> =
        serde_json::from_slice(&fs::read(run.file("tasks.json")).unwrap()).unwrap();
    assert_eq!(written, tasks);
    let config = fs::read_to_string(run.file("config.xml")).unwrap();
    assert!(
        config.contains("<Choice value=\"card trouble\" hint=\"card, trouble\"/>"),
        "{config}"
    );

    // Merged categories are seen as one.
    run.done("merge", &["1", "2", "--name", "money"]);
    assert_eq!(
        run.exported("label-studio", &["--category", "money"]).len(),
        16
    );
    let error = failure(
        &mut run.tool("export", "argilla", &["--category", "refund"]),
        2,
    );
    assert!(error.contains("no category `refund`"), "{error}");
    let error = failure(&mut run.tool("export", "argilla", &["--unknown-only"]), 2);
    assert!(error.contains("no threshold"), "{error}");
    failure(&mut run.tool("export", "csv", &[]), 2);
    run.done("rename", &["0", "None of these"]);
    let error = failure(&mut run.tool("export", "argilla", &[]), 2);
    assert!(error.contains("category 0 is called"), "{error}");
}

#[test]
fn only_unknown_texts_are_exported_on_demand() {
    let run = Run::new();
    let all = run.exported("label-studio", &[]);
    let mut scores: Vec<f64> = all
        .iter()
        .map(|task| task["predictions"][0]["score"].as_f64().unwrap())
        .collect();
    scores.sort_by(f64::total_cmp);
    let mut store = Store::open(run.path()).unwrap();
    let calibration = calibrated(((scores[9] + scores[10]) / 2.0) as f32);
    let threshold = f64::from(calibration.threshold);
    store.apply(Edit::Calibrate(calibration)).unwrap();
    drop(store);
    let unknown = run.exported("label-studio", &["--unknown-only"]);
    assert!(
        !unknown.is_empty() && unknown.len() < 60,
        "{}",
        unknown.len()
    );
    for task in &unknown {
        assert_eq!(task["data"]["unknown"], true);
        assert!(task["predictions"][0]["score"].as_f64().unwrap() < threshold + 1e-3);
    }
}

#[test]
fn annotated_texts_become_edits() {
    for format in ["label-studio", "argilla"] {
        let run = Run::new();
        // A new name, two of one name, three single texts, and one without an answer.
        run.annotate(format, |row, name| match (row, name) {
            (3, _) => None,
            (4 | 12 | 20, _) => Some("luggage".to_owned()),
            (_, "ticket") => Some("train ticket".to_owned()),
            (_, "refund" | "transfer") => Some("refund".to_owned()),
            (_, name) => Some(name.to_owned()),
        });
        let import = |more: &[&str]| {
            let mut command = run.tool("import", format, more);
            command.args(["--min-texts", "5", "list.json"]);
            command
        };
        let names = run.names();
        let text = success(&mut import(&["--dry-run"]));
        for part in [
            "60 records: 59 judged, 1 without an answer, 0 with different ones\n",
            "41 agree with the categories: 69.5 %, kappa 0.65",
            "would rename 3 `ticket` to `train ticket`\n",
            "would merge 1 `refund`, 2 `transfer` into `refund`\n",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(run.names(), names);

        let text = success(&mut import(&["--moved", "moved.jsonl"]));
        assert!(
            text.ends_with("merged 1, 2 into 8 `refund`\nrenamed 3 `ticket` to `train ticket`\n"),
            "{text}"
        );
        let moved = json_lines(&fs::read_to_string(run.file("moved.jsonl")).unwrap());
        assert_eq!(moved.len(), 18);
        assert_eq!(
            moved.iter().find(|line| line["row"] == 4).unwrap(),
            &json!({"row": 4, "text": "the flight is late 4", "from": 4,
                    "to": {"category": 5}})
        );
        let now = run.names();
        assert!(now.contains(&(3, "train ticket".to_owned())), "{now:?}");
        assert!(now.contains(&(8, "refund".to_owned())), "{now:?}");

        // The same list again finds everything done.
        let text = success(import(&[]).arg("--json"));
        let again: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&again["judged"], &again["agreeing"], &again["planned"]),
            (&json!(59), &json!(56), &json!([]))
        );
        assert_eq!(again["disagreements"].as_array().unwrap().len(), 1);
        assert_eq!(again["disagreements"][0]["texts"], 3);
        run.done("undo", &[]);
        run.done("undo", &[]);
        assert_eq!(run.names(), names);
    }
}

#[test]
fn annotated_lists_that_do_not_fit_are_refused() {
    let run = Run::new();
    let import = |content: &str, more: &[&str]| {
        fs::write(run.file("list.json"), content).unwrap();
        let log = fs::read(run.file("categories.log.jsonl")).unwrap();
        let mut command = run.tool("import", "label-studio", more);
        let error = failure(command.arg("list.json"), 2);
        assert_eq!(fs::read(run.file("categories.log.jsonl")).unwrap(), log);
        error.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    for (content, problem) in [
        ("{}", "list.json: expected a JSON list of records"),
        ("[5]", "list.json: records[0]: invalid type"),
        (
            "[{\"data\": {\"row\": 60, \"text\": \"a\"}}]",
            "records[0]: row: expected one of the 60 of the run, found 60",
        ),
        (
            "[{\"data\": {\"row\": 1, \"text\": \"a\"}}]",
            "records[0]: text: expected that of row 1",
        ),
    ] {
        let error = import(content, &[]);
        assert!(error.contains(problem), "{error}");
    }
    for share in ["0.5", "1.1", "nan"] {
        let error = import("[]", &["--min-share", share]);
        assert!(error.contains("above 0.5"), "{error}");
    }
    let error = failure(&mut run.tool("import", "argilla", &["no-such.json"]), 2);
    assert!(error.contains("cannot open no-such.json"), "{error}");
}
