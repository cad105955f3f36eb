//! Random histories keep every promise.

use std::collections::BTreeSet;

use categories::{Catalogue, Category, CategoryId, Edit, Evidence, NameSource, Store, StoreError};
use proptest::prelude::*;

use crate::support::{Quick, Run, newborn, part, unit, view};

#[derive(Debug, Clone)]
enum Step {
    Rename(usize, u8),
    Merge(usize, usize, Option<u8>),
    Split(usize, Vec<u8>),
    Update(Vec<usize>, Vec<u8>),
    Undo,
    Redo,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let at = 0_usize..12;
    let name = 0_u8..30;
    prop_oneof![
        3 => (at.clone(), name.clone()).prop_map(|(at, name)| Step::Rename(at, name)),
        3 => (at.clone(), at.clone(), prop::option::of(name.clone()))
            .prop_map(|(a, b, name)| Step::Merge(a, b, name)),
        3 => (at.clone(), prop::collection::vec(name.clone(), 1..4))
            .prop_map(|(at, names)| Step::Split(at, names)),
        2 => (prop::collection::vec(at, 0..3), prop::collection::vec(name, 0..2))
            .prop_map(|(changed, born)| Step::Update(changed, born)),
        4 => Just(Step::Undo),
        2 => Just(Step::Redo),
        1 => Just(Step::Reopen),
    ]
}

fn edit(step: &Step, store: &Store, seed: u64) -> Option<Edit> {
    let active: Vec<CategoryId> = store.catalogue().active().map(|c| c.id).collect();
    let id = |at: usize| active[at % active.len()];
    let name = |name: u8| format!("name {name}");
    Some(match step {
        Step::Rename(at, to) => Edit::Rename {
            id: id(*at),
            name: name(*to),
            source: NameSource::Human,
        },
        Step::Merge(a, b, to) => Edit::Merge {
            ids: vec![id(*a), id(*b)],
            name: to.map(name),
        },
        Step::Split(at, names) => Edit::Split {
            id: id(*at),
            parts: (seed..)
                .zip(names)
                .map(|(seed, to)| part(&name(*to), seed))
                .collect(),
        },
        Step::Update(changed, born) => Edit::Update {
            changed: changed
                .iter()
                .map(|at| Evidence {
                    id: id(*at),
                    size: seed as usize,
                    coherence: 0.25,
                    keywords: vec![],
                    medoids: vec![],
                    centroid: unit(seed, 3),
                })
                .collect(),
            born: (seed..)
                .zip(born)
                .map(|(seed, to)| {
                    newborn(&name(*to), if seed % 2 == 0 { "bank" } else { "new" }, seed)
                })
                .collect(),
            model_sha256: seed.is_multiple_of(3).then(|| format!("{seed:064}")),
        },
        Step::Undo | Step::Redo | Step::Reopen => return None,
    })
}

/// The lists that are kept up to date are those made from nothing.
fn nearest_are_right(catalogue: &Catalogue) {
    for category in catalogue.active() {
        let to = |other: &Category| -> f32 {
            let products = category
                .centroid
                .iter()
                .zip(&other.centroid)
                .map(|(x, y)| x * y);
            products.sum::<f32>().clamp(-1.0, 1.0)
        };
        let others = catalogue.active().filter(|other| other.id != category.id);
        let mut all: Vec<(f32, CategoryId)> = others.map(|other| (to(other), other.id)).collect();
        all.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        all.truncate(5);
        let kept: Vec<(f32, CategoryId)> =
            category.nearest.iter().map(|n| (n.cosine, n.id)).collect();
        assert_eq!(kept, all);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn undo_restores_ids_stay_and_the_log_tells_it_all(steps in prop::collection::vec(step(), 1..25)) {
        let (run, mut store) = Run::new();
        // What an editor would keep: the views to go back to and forward to.
        let mut past = Vec::new();
        let mut future = Vec::new();
        // What every id ever given meant.
        let mut given: BTreeSet<CategoryId> = store.catalogue().categories.iter().map(|c| c.id).collect();
        for (seed, step) in (1000_u64..).step_by(10).zip(&steps) {
            let before = view(store.catalogue());
            let (revision, last) = (store.catalogue().revision, given.last().copied());
            let outcome = match step {
                Step::Undo => store.undo().map(|_| ()),
                Step::Redo => store.redo().map(|_| ()),
                Step::Reopen => {
                    drop(store);
                    store = Store::open_with(Quick, run.path()).unwrap();
                    prop_assert!(store.healed().is_empty());
                    Ok(())
                }
                step => store.apply(edit(step, &store, seed).unwrap()).map(|_| ()),
            };
            let now = view(store.catalogue());
            match (step, outcome) {
                (Step::Reopen, outcome) => {
                    outcome.unwrap();
                    prop_assert_eq!(&now, &before);
                }
                (Step::Undo, Ok(())) => {
                    prop_assert_eq!(&now, &past.pop().unwrap());
                    future.push(before);
                }
                (Step::Redo, Ok(())) => {
                    prop_assert_eq!(&now, &future.pop().unwrap());
                    past.push(before);
                }
                (Step::Undo, Err(_)) => prop_assert!(past.is_empty()),
                (Step::Redo, Err(_)) => prop_assert!(future.is_empty()),
                (_, Ok(())) => {
                    past.push(before);
                    future.clear();
                }
                (_, Err(error)) => {
                    prop_assert!(matches!(error, StoreError::Edit(_)), "{}", error);
                    prop_assert_eq!(store.catalogue().revision, revision);
                    prop_assert_eq!(&now, &before);
                }
            }
            let catalogue = store.catalogue();
            catalogue.check().unwrap();
            nearest_are_right(catalogue);
            // New ids are higher than any before, unless a redo brought known ones back.
            for id in catalogue.categories.iter().map(|c| c.id) {
                prop_assert!(given.contains(&id) || Some(id) > last);
                given.insert(id);
            }
            prop_assert_eq!(catalogue.categories.len(), given.len());
            // Every id leads to a category in use or, born by an undone update, to none.
            for id in &given {
                if let Some(now) = catalogue.resolve(*id, Some(&[1.0, 0.0, 0.0])) {
                    prop_assert!(catalogue.get(now).unwrap().is_active());
                }
            }
            prop_assert_eq!(run.json(), catalogue.to_json().unwrap());
            prop_assert_eq!(store.replay().unwrap().to_json().unwrap(), run.json());
        }
    }
}
