use approx::assert_relative_eq;
use categories::{
    Calibration, CategoryError, CategoryId, Edit, Evidence, NameSource, Status, Store, StoreError,
};

use crate::support::{Run, ids, names, newborn, part, unit};

fn rename(id: u32, name: &str) -> Edit {
    Edit::Rename {
        id: CategoryId(id),
        name: name.to_owned(),
        source: NameSource::Human,
    }
}

fn merge(list: &[u32], name: Option<&str>) -> Edit {
    Edit::Merge {
        ids: ids(list),
        name: name.map(str::to_owned),
    }
}

fn split(id: u32, names: &[&str]) -> Edit {
    let parts = (100..).zip(names).map(|(seed, name)| part(name, seed));
    Edit::Split {
        id: CategoryId(id),
        parts: parts.collect(),
    }
}

fn refused(store: &mut Store, edit: Edit) -> CategoryError {
    let before = store.catalogue().clone();
    let lines = store.log().len();
    let Err(StoreError::Edit(error)) = store.apply(edit) else {
        panic!("the edit was made")
    };
    assert_eq!((store.catalogue(), store.log().len()), (&before, lines));
    error
}

#[test]
fn a_merge_bears_a_category_with_all_that_is_known() {
    let (_run, mut store) = Run::new();
    let catalogue = store.apply(merge(&[1, 0], None)).unwrap();
    assert_eq!(
        names(catalogue),
        [(2, "transfer"), (3, "ticket"), (4, "delay"), (5, "refund")]
    );
    let into = CategoryId(5);
    for id in [0, 1] {
        let old = catalogue.get(CategoryId(id)).unwrap();
        assert_eq!(old.status, Status::Merged { into });
        assert!(old.nearest.is_empty());
    }
    let new = catalogue.get(into).unwrap();
    assert_eq!(
        (new.size, new.born, new.coarse.as_deref()),
        (30, 2, Some("bank"))
    );
    // 10 texts against 20.
    let (a, b) = (unit(0, 3), unit(1, 3));
    let sum: Vec<f64> = (0..3)
        .map(|i| f64::from(a[i]) + 2.0 * f64::from(b[i]))
        .collect();
    let length = sum.iter().map(|x| x * x).sum::<f64>().sqrt();
    for (x, sum) in new.centroid.iter().zip(&sum) {
        assert_relative_eq!(f64::from(*x), sum / length, epsilon = 1e-6);
    }
    // m . centroid is |m| = length / 3, and each category holds 0.8 of its part of it.
    assert_relative_eq!(new.coherence, 0.8 * length / 3.0, epsilon = 1e-6);
    // Weights 1 and 2, averaged over 10 and 20 texts.
    assert_eq!(new.keywords.len(), 1);
    assert_eq!(new.keywords[0].term, "refund");
    assert_relative_eq!(new.keywords[0].weight, 4.0 / 3.0, epsilon = 1e-12);
    assert_eq!(new.medoids, ["first of refund", "first of card lost"]);
    // The others see it, and none of the old ones.
    for category in catalogue.active() {
        let mut near: Vec<u32> = category.nearest.iter().map(|near| near.id.0).collect();
        assert!(category.nearest.is_sorted_by(|a, b| a.cosine >= b.cosine));
        near.push(category.id.0);
        near.sort_unstable();
        assert_eq!(near, [2, 3, 4, 5]);
    }
}

#[test]
fn a_merge_across_coarse_classes_belongs_to_none() {
    let (_run, mut store) = Run::new();
    let catalogue = store.apply(merge(&[2, 3], Some("transfers"))).unwrap();
    let new = catalogue.get(CategoryId(5)).unwrap();
    assert_eq!(
        (new.coarse.as_deref(), new.name_source),
        (None, NameSource::Human)
    );
}

#[test]
fn names_stay_unique_and_the_owner_is_named() {
    let (_run, mut store) = Run::new();
    for edit in [
        rename(1, "Delay"),
        merge(&[0, 1], Some("DELAY")),
        split(0, &["a", "delay"]),
        Edit::Update {
            changed: vec![],
            born: vec![newborn("delay", "bank", 50)],
            model_sha256: None,
        },
    ] {
        let error = refused(&mut store, edit).to_string();
        assert!(
            error
                .to_lowercase()
                .ends_with("the name `delay` belongs to category 4"),
            "{error}"
        );
    }
    // Its own name in another case, and names that leave with their categories.
    store.apply(rename(4, "DELAY")).unwrap();
    store.apply(merge(&[0, 1], Some("card lost"))).unwrap();
    store.apply(split(2, &["transfer", "receipt"])).unwrap();
    // Twice within one edit.
    assert!(matches!(
        refused(&mut store, split(3, &["same", "Same"])),
        CategoryError::NameTaken { .. }
    ));
}

#[test]
fn only_a_person_renames_what_a_person_named() {
    let (_run, mut store) = Run::new();
    store.apply(rename(1, "money back")).unwrap();
    let by_model = |name: &str| Edit::Rename {
        id: CategoryId(1),
        name: name.to_owned(),
        source: NameSource::Model,
    };
    assert_eq!(
        refused(&mut store, by_model("refunds")).to_string(),
        "category 1 is called `money back` by a person; only a person renames it"
    );
    assert_eq!(
        refused(&mut store, rename(1, "money back")).to_string(),
        "category 1 is called `money back` already"
    );
    store.apply(rename(1, "refunds")).unwrap();
}

#[test]
fn edits_that_cannot_be_made_change_nothing() {
    let (_run, mut store) = Run::new();
    store.apply(merge(&[0, 1], None)).unwrap();
    for (edit, message) in [
        (rename(0, "x"), "category 0 is retired: merged into 5"),
        (rename(77, "x"), "there is no category 77; ids go up to 5"),
        (rename(2, ""), "name: expected a name, found nothing"),
        (
            rename(2, "a\nb"),
            "name: expected no control characters, found '\\n'",
        ),
        (
            merge(&[2], None),
            "ids: expected at least two categories, found 1",
        ),
        (
            merge(&[2, 2], None),
            "ids: expected each id once, found an id twice",
        ),
        (merge(&[2, 1], None), "category 1 is retired: merged into 5"),
        (
            merge(&[2, 3], Some("\u{7}")),
            "name: expected no control characters, found '\\u{7}'",
        ),
        (split(2, &["one"]), "parts: expected at least two, found 1"),
        (
            split(0, &["a", "b"]),
            "category 0 is retired: merged into 5",
        ),
    ] {
        assert_eq!(refused(&mut store, edit).to_string(), message);
    }
    let mut short = part("a", 1);
    short.centroid.pop();
    let parts = vec![part("b", 2), short];
    let edit = Edit::Split {
        id: CategoryId(2),
        parts,
    };
    assert_eq!(
        refused(&mut store, edit).to_string(),
        "categories[7].centroid: expected 3 values, found 2"
    );
    store.apply(split(2, &["x", "y"])).unwrap();
    assert_eq!(
        refused(&mut store, rename(2, "z")).to_string(),
        "category 2 is retired: split into 6, 7"
    );
}

#[test]
fn opposite_categories_have_no_common_centre() {
    let (run, mut store) = Run::new();
    let mut opposite = newborn("opposite", "bank", 0);
    opposite.centroid.iter_mut().for_each(|x| *x = -*x);
    opposite.size = 10;
    let born = vec![opposite];
    store
        .apply(Edit::Update {
            changed: vec![],
            born,
            model_sha256: None,
        })
        .unwrap();
    assert!(
        refused(&mut store, merge(&[0, 5], None))
            .to_string()
            .contains("cancel")
    );
    drop(store);
    Store::open(run.path()).unwrap();
}

#[test]
fn an_update_brings_evidence_categories_and_coarse_classes() {
    let (_run, mut store) = Run::new();
    let evidence = |id: u32| Evidence {
        id: CategoryId(id),
        size: 99,
        coherence: 0.5,
        keywords: vec![],
        medoids: vec!["new".into()],
        centroid: unit(60, 3),
    };
    let update = |ids: &[u32]| Edit::Update {
        changed: ids.iter().copied().map(evidence).collect(),
        born: vec![newborn("parcel", "post", 61)],
        model_sha256: Some("ab".repeat(32)),
    };
    assert_eq!(
        refused(&mut store, update(&[1, 1])).to_string(),
        "changed: expected each id once, found 1 twice"
    );
    let catalogue = store.apply(update(&[1])).unwrap().clone();
    assert_eq!(catalogue.coarse_names, ["bank", "travel", "post"]);
    assert_eq!(catalogue.model_sha256, "ab".repeat(32));
    let changed = catalogue.get(CategoryId(1)).unwrap();
    assert_eq!(
        (changed.size, changed.name.as_str(), changed.born),
        (99, "refund", 1)
    );
    let born = catalogue.get(CategoryId(5)).unwrap();
    assert_eq!((born.born, born.nearest.len()), (2, 5));
    let undone = store.undo().unwrap();
    assert_eq!(undone.get(CategoryId(5)).unwrap().status, Status::Withdrawn);
    assert_eq!(undone.model_sha256, "");
    assert_eq!(undone.get(CategoryId(1)).unwrap().size, 20);
    let redone = store.redo().unwrap().clone();
    assert_eq!(redone.categories, catalogue.categories);
    assert_eq!(redone.coarse_names, catalogue.coarse_names);
}

#[test]
fn undo_goes_back_step_by_step_and_redo_forward() {
    let (_run, mut store) = Run::new();
    let edits = [
        rename(3, "train ticket"),
        merge(&[0, 1], Some("cards")),
        split(5, &["lost", "back"]),
        Edit::Calibrate(Calibration {
            threshold: 0.4,
            temperature: 0.1,
            accepts_known: 0.95,
            rejects_unknown: 0.8,
            auroc: 0.9,
            held_out: vec!["travel".into()],
            n_known: 10,
            n_unknown: 5,
        }),
    ];
    let same = |a: &categories::Catalogue, b: &categories::Catalogue| {
        assert_eq!(crate::support::view(a), crate::support::view(b));
        assert_eq!(a.calibration, b.calibration);
    };
    let mut states = vec![store.catalogue().clone()];
    for edit in edits {
        states.push(store.apply(edit).unwrap().clone());
    }
    for state in states.iter().rev().skip(1) {
        same(store.undo().unwrap(), state);
    }
    assert_eq!(store.undo().unwrap_err().to_string(), "nothing to undo");
    // Whatever was written down about undone categories leads somewhere.
    for id in [5, 6, 7] {
        let vector = unit(1, 3);
        let now = store.catalogue().resolve(CategoryId(id), Some(&vector));
        assert_eq!(now, Some(CategoryId(1)));
    }
    for state in states.iter().skip(1) {
        same(store.redo().unwrap(), state);
        // With the same ids and successors; what came later is kept, retired.
        let known = &store.catalogue().categories[..state.categories.len()];
        assert_eq!(known, state.categories);
    }
    assert!(matches!(
        store.redo(),
        Err(StoreError::Edit(CategoryError::NothingToRedo))
    ));
    // Back by two, another way, and the old way forward is gone.
    store.undo().unwrap();
    store.undo().unwrap();
    same(store.catalogue(), &states[2]);
    let catalogue = store.apply(split(5, &["one", "two"])).unwrap();
    assert_eq!(
        names(catalogue),
        [
            (2, "transfer"),
            (3, "train ticket"),
            (4, "delay"),
            (8, "one"),
            (9, "two")
        ]
    );
    assert!(store.redo().is_err());
    same(store.undo().unwrap(), &states[2]);
    same(store.undo().unwrap(), &states[1]);
    same(store.undo().unwrap(), &states[0]);
    assert_eq!(store.log().len(), 1 + 4 + 4 + 4 + 2 + 1 + 3);
    assert_eq!(&store.replay().unwrap(), store.catalogue());
}

#[test]
fn several_edits_are_made_together_or_not_at_all() {
    let (run, mut store) = Run::new();
    let error = store
        .apply_all(vec![
            rename(0, "lost"),
            merge(&[0, 1], None),
            rename(1, "x"),
        ])
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "edit 3: category 1 is retired: merged into 5"
    );
    assert_eq!((store.catalogue().revision, store.log().len()), (1, 1));
    let catalogue = store
        .apply_all(vec![
            rename(1, "back"),
            merge(&[0, 1], None),
            rename(5, "both"),
        ])
        .unwrap();
    assert_eq!(
        names(catalogue),
        [(2, "transfer"), (3, "ticket"), (4, "delay"), (5, "both")]
    );
    assert_eq!(store.apply_all(vec![]).unwrap().revision, 4);
    store.undo().unwrap();
    assert_eq!(names(store.catalogue())[3], (5, "back"));
    let now = store.catalogue().clone();
    drop(store);
    assert_eq!(Store::open(run.path()).unwrap().catalogue(), &now);
}
