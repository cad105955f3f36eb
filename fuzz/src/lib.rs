//! What the fuzz targets share.
//!
//! Loaders read files by their paths, so a target writes its input to a file first. Point `TMPDIR` at
//! a file system in memory; `run.sh` does.

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("asterism-fuzz-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder for inputs");
    folder
});

/// Writes an input under a name of this process's folder.
pub fn file(name: &str, content: &[u8]) -> PathBuf {
    let path = FOLDER.join(name);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).expect("a folder for inputs");
    }
    fs::write(&path, content).expect("an input file");
    path
}

/// Small limits, so that the fuzzer reaches them.
pub fn limits() -> datasets::Limits {
    datasets::Limits {
        max_line_bytes: 300,
        max_file_bytes: 3000,
    }
}

/// Every loader that takes a file of this ending.
pub fn rows(ending: &str, content: &[u8]) {
    use datasets::{
        CategoryFiles, CoarseSource, LoadOptions, NgcseOptions, NliOptions, RowNeed, ScoredOptions,
        SentenceOptions, TextRule,
    };
    // The first byte chooses among options, and whether the file is compressed.
    let Some((&options, content)) = content.split_first() else {
        return;
    };
    let gz = if options & 0x80 == 0 { "" } else { ".gz" };
    let limits = if options & 0x40 == 0 {
        datasets::Limits::default()
    } else {
        limits()
    };
    let path = file(&format!("rows.{ending}{gz}"), content);

    let files = CategoryFiles {
        name: "fuzz".to_owned(),
        train: path.clone(),
        valid: None,
        test: path.clone(),
        coarse_map: None,
    };
    let load = LoadOptions {
        coarse: if options & 1 == 0 {
            CoarseSource::Auto
        } else {
            CoarseSource::Prefix
        },
        max_line_bytes: limits.max_line_bytes,
        max_file_bytes: limits.max_file_bytes,
        ..LoadOptions::default()
    };
    if let Ok(data) = datasets::category::load_category_files(&files, &load) {
        // Ids are dense and labels known.
        assert!(data.train.coarse.iter().all(|id| *id < data.n_coarse()));
        assert_eq!(data.train.texts.len(), data.train.coarse.len());
        // What has a form without quotes reads back as the same rows.
        let names = data
            .coarse_names
            .iter()
            .chain(data.fine_names.iter().flatten());
        if names
            .chain(&data.train.texts)
            .all(|text| !text.contains(['\t', '\n', '\r']))
        {
            let written = datasets::category::to_tsv(&data, &data.train);
            let again = file("again.tsv", written.as_bytes());
            let files = CategoryFiles {
                train: again.clone(),
                test: again,
                ..files
            };
            let again = datasets::category::load_category_files(&files, &LoadOptions::default());
            let again = again.expect("our own file").train;
            assert_eq!(
                (again.texts, again.coarse),
                (data.train.texts, data.train.coarse)
            );
        }
    }
    for need in [RowNeed::Sentences, RowNeed::Pairs] {
        if let Ok(rows) = datasets::load_sentences(&path, &SentenceOptions { need, limits }) {
            assert!((0..rows.len()).all(|row| rows.texts(row).is_some()));
        }
    }
    let _ = datasets::load_pairs(&path, limits);
    let scored = ScoredOptions {
        limits,
        ..ScoredOptions::default()
    };
    if let Ok(rows) = datasets::load_scored(std::slice::from_ref(&path), &scored) {
        assert!(
            rows.pairs
                .iter()
                .all(|pair| (0.0..=5.0).contains(&pair.score))
        );
    }
    let nli = NliOptions {
        limits,
        ..NliOptions::default()
    };
    let _ = datasets::load_nli(std::slice::from_ref(&path), &nli);
    let lenient_keys = options & 2 != 0;
    let _ = datasets::load_ngcse(
        &path,
        &NgcseOptions {
            lenient_keys,
            limits,
        },
    );
    let _ = datasets::kind::file_kind(&path, limits);
    if let Ok(texts) = datasets::load_texts(&path, None, limits) {
        let set = datasets::EvalSet {
            name: "fuzz".to_owned(),
            rows: texts.rows.clone(),
        };
        let index = datasets::LeakIndex::new(&[set], TextRule::default());
        index.check(&texts.rows);
    }
}

/// Three categories in two dimensions, the smallest catalogue on which every edit is possible.
pub fn catalogue() -> categories::Catalogue {
    use categories::{Catalogue, Category, CategoryId, Keyword, NameSource, Status};
    let category = |id: u32, name: &str, coarse: &str, centroid: [f32; 2]| Category {
        id: CategoryId(id),
        name: name.to_owned(),
        name_source: NameSource::Keywords,
        coarse: Some(coarse.to_owned()),
        keywords: vec![Keyword {
            term: name.to_owned(),
            weight: 1.5,
        }],
        medoids: vec![format!("a text about {name}")],
        size: 10,
        coherence: 0.8,
        nearest: vec![],
        born: 1,
        status: Status::Active,
        centroid: centroid.to_vec(),
    };
    let categories = vec![
        category(0, "card lost", "bank", [1.0, 0.0]),
        category(1, "lost card", "bank", [0.8, 0.6]),
        category(2, "door", "home", [0.0, 1.0]),
    ];
    let coarse = vec!["bank".to_owned(), "home".to_owned()];
    Catalogue::new(2, "", coarse, categories, None).expect("a catalogue")
}

/// An empty folder of this process.
pub fn folder(name: &str) -> PathBuf {
    let path = FOLDER.join(name);
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).expect("a folder");
    path
}
