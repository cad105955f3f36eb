//! What is refused, and what is said about it.

use crate::place::NgcsePlace;

fn refuses(settings: &[(&str, &[&str])]) {
    let place = NgcsePlace::new();
    for (set, words) in settings {
        place.refuses(&["--set", set], words);
    }
}

#[test]
fn unknown_names() {
    let place = NgcsePlace::new();
    place.refuses(&["--setting", "sts-ht"], &["settings", "sts_ht", "sts-ht"]);
    place.refuses(&["--setting", "sts,sts"], &["settings", "sts twice"]);
    place.refuses(&["--setting", ""], &["settings"]);
    refuses(&[
        ("settings=[]", &["settings", "at least one"]),
        ("seting=a", &["did you mean `settings`"]),
        ("rfd.row=3", &["did you mean `rfd.rows`"]),
        ("sts_positive=first", &["sts_positive", "intermediate"]),
        ("ht_reduce=max", &["ht_reduce", "mean or sum"]),
        ("rfd.sentences=all", &["rfd.sentences", "aligned or own"]),
        ("pooling=max", &["pooling", "avg_top2"]),
        ("pooling=avg_top2", &["pooling", "model directory"]),
        ("stages=[\"sleep\"]", &["stages", "sleep"]),
    ]);
}

#[test]
fn values_out_of_range() {
    refuses(&[
        ("m1=-0.1", &["m1", "at least 0", "-0.1"]),
        ("m2=nan", &["m2", "NaN"]),
        ("beta=-1", &["beta", "at least 0"]),
        ("temperature=0", &["temperature", "above 0"]),
        ("lr=0", &["lr", "above 0"]),
        ("epochs=0", &["epochs", "at least 1"]),
        ("batch_size=1", &["batch_size", "at least 2"]),
        ("max_len=2", &["max_len", "at least 3"]),
        ("max_len=17", &["max_len", "16 positions"]),
        ("held_out=1", &["held_out", "below 1"]),
        ("held_out=nan", &["held_out", "NaN"]),
        ("head_std=0", &["head_std", "above 0"]),
        ("dropout=1", &["dropout", "below 1"]),
        ("train_layers=0", &["train_layers", "at least 1"]),
        ("train_layers=4", &["train_layers", "3 layers", "found 4"]),
        ("l2_to_initial=-1", &["l2_to_initial", "at least 0"]),
        ("rule_sentences=0", &["rule_sentences"]),
        ("rfd.max_len=2", &["rfd.max_len", "at least 3"]),
        ("selection.batch_size=0", &["selection.batch_size"]),
    ]);
    let place = NgcsePlace::new();
    let both = [
        "--set",
        "freeze_embeddings=false",
        "--set",
        "train_layers=1",
    ];
    place.refuses(&both, &["train_layers", "freeze_embeddings"]);
}

#[test]
fn sweeps_that_make_no_sense() {
    let place = NgcsePlace::new();
    for (sweep, words) in [
        ("m1", &["--sweep m1", "KEY=VALUE"][..]),
        ("data=a,b", &["sweep.key", "m1, m2", "data"]),
        ("m1=0.1,-1", &["m1", "at least 0", "-1"]),
        ("m1=0.1,word", &["sweep", "m1"]),
        ("m1=0.1,0.1", &["dropout m1=0.1 twice"]),
        ("epochs=1.5", &["epochs"]),
    ] {
        place.refuses(&["--sweep", sweep], words);
    }
    refuses(&[
        ("sweep.values=[1]", &["sweep.key"]),
        ("sweep.key=m1", &["sweep.values", "at least one"]),
    ]);
}

#[test]
fn data_that_a_setting_lacks() {
    let place = NgcsePlace::new();
    let sts = ["--setting", "sts_ht"];
    let with = |more: &[&'static str]| [&sts[..], more].concat();
    place.refuses(
        &with(&["--set", "sts_rows="]),
        &["sts_rows", "rules", "sts_ht"],
    );
    place.refuses(&with(&["--set", "sts_rows=none.jsonl"]), &["none.jsonl"]);
    place.refuses(
        &with(&["--set", "sts_rows=nli.jsonl"]),
        &["nli.jsonl", "keys 5, 4, 3", "found 5, 4"],
    );
    place.refuses(
        &["--setting", "sup", "--data", "sentences.txt"],
        &["sentences.txt", "three columns", "sup"],
    );
    place.refuses(&["--data", "nowhere.txt"], &["nowhere.txt"]);
    place.refuses(
        &["--data", "", "--set", "sts_rows=", "--set", "nli_rows="],
        &["data", "generated files"],
    );
    place
        .0
        .write("other.jsonl", "{\"sentence\":\"a\",\"split\":\"other\"}\n");
    place.refuses(
        &with(&["--set", "sts_rows=other.jsonl"]),
        &["other.jsonl", "split aigen", "found none"],
    );
    place.0.edit("sts.jsonl", "\"3\":", "\"2\":");
    place.refuses(&sts, &["sts.jsonl"]);
    let done = place.call(&NgcsePlace::arguments(&with(&[
        "--set",
        "lenient_keys=true",
    ])));
    // The first row decides, and it has the wrong keys.
    assert_eq!(done.code, 2, "{}", done.stderr);
}

#[test]
fn too_few_rows() {
    let place = NgcsePlace::new();
    place.refuses(
        &["--set", "held_out=0"],
        &[
            "held_out=0",
            "at least 2 held-out rows of dropout",
            "rfd.rows=0",
        ],
    );
    place.0.write("two.txt", "play the song\nturn on\n");
    let none = ["--set", "sts_rows=", "--set", "nli_rows="];
    place.refuses(
        &[&["--data", "two.txt"], &none[..]].concat(),
        &["held_out", "found 0"],
    );
    place.0.write("one.txt", "play the song\n");
    place.refuses(
        &[&["--data", "one.txt", "--set", "rfd.rows=0"], &none[..]].concat(),
        &["dropout", "at least 2 rows to train on", "found 1 ordinary"],
    );
    // Generated rows alone that never fill a batch.
    place.refuses(
        &[
            "--setting",
            "sts",
            "--set",
            "only_aigen=true",
            "--set",
            "aigen_batch_size=1000",
        ],
        &["sts", "1000 (aigen_batch_size)", "0 ordinary"],
    );
    // Probes of files without a common sentence.
    place.0.write(
        "far.jsonl",
        "{\"sentence\":\"off\",\"5\":\"on\",\"4\":\"now\",\"split\":\"aigen\"}\n",
    );
    place.refuses(
        &["--set", "nli_rows=far.jsonl"],
        &["at least 2 held-out rows", "rfd.sentences=own"],
    );
}

#[test]
fn a_run_that_diverges_fails_with_code_1() {
    let place = NgcsePlace::new();
    let done = place.call(&NgcsePlace::arguments(&["--set", "lr=1e30"]));
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.stderr.contains("step"), "{}", done.stderr);
}
