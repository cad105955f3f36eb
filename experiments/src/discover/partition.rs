//! From vectors to categories: how many in each coarse class, and which text goes where.

use std::collections::{BTreeMap, BTreeSet};

use clustering::{KMeansParams, OverCluster, SilhouetteSearch, StableSilhouette};
use ndarray::ArrayView2;
use serde::Serialize;

use super::error::DiscoverError;
use super::settings::{Criterion, DiscoverConfig};
use super::vectors::select;

/// Fewest different texts of a class that are looked at for structure; fewer are one category.
const FEWEST: usize = 6;

/// How the K of a class was estimated.
#[derive(Debug, Clone, PartialEq)]
pub struct Estimate {
    /// By what.
    pub criterion: Criterion,
    /// The K chosen.
    pub k: usize,
    /// What it was read from.
    pub curves: Vec<Curve>,
}

/// Points that a K was read from.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Curve {
    /// What the points are.
    pub name: &'static str,
    /// K and score, or rank and size.
    pub points: Vec<(f64, f64)>,
}

impl Curve {
    fn new<V: Copy>(name: &'static str, points: &[(usize, V)], value: impl Fn(V) -> f64) -> Self {
        let points = points
            .iter()
            .map(|(k, score)| (*k as f64, value(*score)))
            .collect();
        Self { name, points }
    }
}

/// The texts that are clustered together.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Class {
    /// Coarse label; `None` for all texts together.
    pub(crate) coarse: Option<String>,
    /// Rows of the vectors, ascending.
    pub(crate) rows: Vec<usize>,
    /// Different texts among them.
    pub(crate) different: usize,
}

/// Categories of a class.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Partition {
    pub(crate) class: Class,
    /// Estimate of K, where it was not given.
    pub(crate) estimate: Option<Estimate>,
    /// Category of each row of the class, from 0; every number occurs.
    pub(crate) labels: Vec<usize>,
    /// Number of categories.
    pub(crate) k: usize,
}

/// Groups rows by coarse label, in byte order of the labels; with `across` all are one class.
pub(crate) fn classes<'a>(
    rows: impl Iterator<Item = (usize, &'a str, Option<&'a str>)>,
    across: bool,
) -> Vec<Class> {
    let mut groups: BTreeMap<Option<&str>, (Vec<usize>, BTreeSet<&str>)> = BTreeMap::new();
    for (row, text, coarse) in rows {
        let (members, different) = groups.entry(coarse.filter(|_| !across)).or_default();
        members.push(row);
        different.insert(text);
    }
    groups
        .into_iter()
        .map(|(coarse, (rows, different))| Class {
            coarse: coarse.map(str::to_owned),
            rows,
            different: different.len(),
        })
        .collect()
}

/// K of each class where it is given, `None` where it is to be estimated.
pub(crate) fn given_k(
    classes: &[Class],
    config: &DiscoverConfig,
) -> Result<Vec<Option<usize>>, DiscoverError> {
    let too_many = |k: usize, texts: usize, place: String| DiscoverError::TooManyCategories {
        k,
        texts,
        place,
    };
    if config.k > 0 {
        let texts: usize = classes.iter().map(|class| class.different).sum();
        if config.k > texts {
            return Err(too_many(config.k, texts, "the data".to_owned()));
        }
        if config.k < classes.len() {
            return Err(DiscoverError::Option {
                option: "--k",
                problem: format!(
                    "{} categories for {} coarse classes: each class has at least one (--across clusters them together)",
                    config.k,
                    classes.len()
                ),
            });
        }
        return Ok(share(config.k, classes).into_iter().map(Some).collect());
    }
    let names: Vec<&str> = classes
        .iter()
        .filter_map(|class| class.coarse.as_deref())
        .collect();
    for (name, k) in &config.k_of {
        let Some(class) = classes
            .iter()
            .find(|class| class.coarse.as_ref() == Some(name))
        else {
            return Err(unknown_coarse(name, &names));
        };
        if *k > class.different {
            return Err(too_many(*k, class.different, format!("`{name}`")));
        }
    }
    Ok(classes
        .iter()
        .map(|class| config.k_of.get(class.coarse.as_ref()?).copied())
        .collect())
}

fn unknown_coarse(name: &str, known: &[&str]) -> DiscoverError {
    let alike = |other: &str| strsim::jaro_winkler(other, name);
    let nearest = known.iter().max_by(|a, b| alike(a).total_cmp(&alike(b)));
    DiscoverError::UnknownCoarse {
        name: name.to_owned(),
        nearest: nearest.map_or("--k N", |name| name).to_owned(),
        known: if known.is_empty() {
            "no coarse labels".to_owned()
        } else {
            known.join(", ")
        },
    }
}

/// A total shared out by numbers of rows: every class one, then always one more to the class with the
/// most rows per `K + 1/2` (Sainte-Laguë), never more than it has different texts.
fn share(total: usize, classes: &[Class]) -> Vec<usize> {
    let mut k = vec![1; classes.len()];
    for _ in classes.len()..total {
        let quotient = |at: usize, class: &Class| class.rows.len() as f64 / (k[at] as f64 + 0.5);
        let next = classes
            .iter()
            .enumerate()
            .filter(|(at, class)| k[*at] < class.different)
            // The first of equals.
            .rev()
            .max_by(|(a, one), (b, other)| quotient(*a, one).total_cmp(&quotient(*b, other)))
            .map(|(at, _)| at);
        if let Some(at) = next {
            k[at] += 1;
        }
    }
    k
}

/// Clusters a class into `k` categories, or as many as the criterion says.
pub(crate) fn partition(
    vectors: ArrayView2<'_, f32>,
    class: Class,
    k: Option<usize>,
    config: &DiscoverConfig,
    seed: u64,
) -> Result<Partition, DiscoverError> {
    let points = select(vectors, &class.rows);
    let estimate = match k {
        Some(_) => None,
        None => estimate(points.view(), class.different, config, seed)?,
    };
    let k = k
        .or(estimate.as_ref().map(|estimate| estimate.k))
        .unwrap_or(1);
    if k == 1 {
        let labels = vec![0; class.rows.len()];
        return Ok(Partition {
            class,
            estimate,
            labels,
            k,
        });
    }
    let model = KMeansParams::new(k)
        .n_init(config.n_init)
        .seed(seed)
        .fit(points.view())?;
    // Texts that differ may have the same vector; the clusters nobody is in are the last.
    let k = model.sizes().iter().filter(|size| **size > 0).count();
    Ok(Partition {
        class,
        estimate,
        labels: model.labels,
        k,
    })
}

/// Largest K that an estimate looks at.
pub(crate) fn k_max(different: usize, config: &DiscoverConfig) -> usize {
    let most = different.saturating_sub(1);
    let automatic = ((different as f64).sqrt() as usize).min(if config.across { 200 } else { 30 });
    match config.k_max {
        0 => automatic.min(most),
        given => given.min(most),
    }
}

/// The K that the criterion of the settings finds in `points`; `None` for too few of them.
pub(crate) fn estimate(
    points: ArrayView2<'_, f32>,
    different: usize,
    config: &DiscoverConfig,
    seed: u64,
) -> Result<Option<Estimate>, DiscoverError> {
    let k_max = k_max(different, config);
    if different < FEWEST || k_max < 2 {
        return Ok(None);
    }
    let criterion = config.estimate;
    // Beyond a few dozen a step of one changes nothing but the time.
    let step = k_max.div_ceil(40);
    let (k, curves) = match criterion {
        Criterion::StableSilhouette => {
            let mut search = StableSilhouette::new(2, k_max).seed(seed);
            search.search.step = step;
            let found = search.run(points)?;
            let scores = Curve::new("silhouette", &found.silhouette.scores, |score| score);
            let agreements = Curve::new("agreement of halves", &found.agreements, |value| value);
            (found.k, vec![scores, agreements])
        }
        Criterion::Silhouette => {
            let mut search = SilhouetteSearch::new(2, k_max);
            (search.seed, search.step) = (seed, step);
            let found = search.run(points)?;
            let scores = Curve::new("silhouette", &found.scores, |score| score);
            (found.smallest_within_error(), vec![scores])
        }
        Criterion::OverCluster => {
            let search = OverCluster {
                seed,
                ..OverCluster::new(k_max)
            };
            let found = search.run(points)?;
            let ranked: Vec<(usize, usize)> = (1..).zip(found.sizes).collect();
            (
                found.k,
                vec![Curve::new("texts", &ranked, |size| size as f64)],
            )
        }
    };
    Ok(Some(Estimate {
        criterion,
        k,
        curves,
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use ndarray::Array2;

    use super::*;

    fn class(name: &str, rows: usize) -> Class {
        Class {
            coarse: Some(name.to_owned()),
            rows: (0..rows).collect(),
            different: rows,
        }
    }

    fn with_k(set: impl Fn(&mut DiscoverConfig)) -> Result<Vec<Option<usize>>, DiscoverError> {
        let mut config = DiscoverConfig::default();
        set(&mut config);
        given_k(
            &[class("bank", 60), class("travel", 20), class("zoo", 1)],
            &config,
        )
    }

    #[test]
    fn a_total_is_shared_out_by_texts() {
        let k = with_k(|config| config.k = 9).unwrap();
        assert_eq!(k, [Some(6), Some(2), Some(1)]);
        assert_eq!(with_k(|config| config.k = 3).unwrap(), [Some(1); 3]);
        // A class never gets more than it has texts.
        assert_eq!(
            with_k(|config| config.k = 81).unwrap(),
            [Some(60), Some(20), Some(1)]
        );
        let error = with_k(|config| config.k = 82).unwrap_err().to_string();
        assert!(
            error.contains("82 categories of 81 different texts"),
            "{error}"
        );
        let error = with_k(|config| config.k = 2).unwrap_err().to_string();
        assert!(error.contains("3 coarse classes"), "{error}");
    }

    #[test]
    fn numbers_of_classes_are_kept_and_the_others_estimated() {
        let of = |name: &'static str, k| {
            move |config: &mut DiscoverConfig| {
                config.k_of.insert(name.to_owned(), k);
            }
        };
        assert_eq!(with_k(of("travel", 4)).unwrap(), [None, Some(4), None]);
        assert_eq!(with_k(|_| ()).unwrap(), [None; 3]);
        let error = with_k(of("traval", 4)).unwrap_err();
        assert!(
            matches!(&error, DiscoverError::UnknownCoarse { nearest, .. } if nearest == "travel")
        );
        assert!(error.to_string().contains("bank, travel, zoo"));
        assert!(with_k(of("travel", 21)).is_err());
    }

    #[test]
    fn classes_come_in_the_order_of_their_names() {
        let rows = [
            (4, "a", Some("y")),
            (2, "b", Some("x")),
            (3, "a", Some("y")),
        ];
        let found = classes(rows.into_iter(), false);
        assert_eq!(found[0].coarse.as_deref(), Some("x"));
        assert_eq!((&found[1].rows[..], found[1].different), (&[4, 3][..], 1));
        let together = classes(rows.into_iter(), true);
        assert_eq!(together.len(), 1);
        assert_eq!((together[0].rows.len(), together[0].different), (3, 2));
    }

    /// Three groups on three axes.
    fn points(n: usize) -> Array2<f32> {
        Array2::from_shape_fn((n, 3), |(row, axis)| {
            let angle = (row / 3) as f32 * 0.01;
            match (row % 3 == axis, (row + 1) % 3 == axis) {
                (true, _) => angle.cos(),
                (_, true) => angle.sin(),
                _ => 0.0,
            }
        })
    }

    #[test]
    fn every_criterion_leaves_the_curve_it_was_read_from() {
        let points = points(60);
        for criterion in Criterion::ALL {
            let config = DiscoverConfig {
                estimate: criterion,
                ..DiscoverConfig::default()
            };
            let parts = partition(points.view(), class("a", 60), None, &config, 1).unwrap();
            let estimate = parts.estimate.unwrap();
            assert_eq!(estimate.criterion, criterion);
            assert!(!estimate.curves[0].points.is_empty(), "{criterion:?}");
            assert_eq!(parts.labels.len(), 60);
            assert_eq!(parts.labels.iter().max(), Some(&(parts.k - 1)));
            if criterion != Criterion::OverCluster {
                assert_eq!(parts.k, 3, "{criterion:?}");
            }
        }
    }

    #[test]
    fn few_texts_are_one_category_and_equal_ones_at_most_as_many_as_differ() {
        let config = DiscoverConfig::default();
        for rows in [1, 5] {
            let parts = partition(points(rows).view(), class("a", rows), None, &config, 0).unwrap();
            assert_eq!((parts.k, parts.estimate), (1, None));
        }
        let same = Array2::from_shape_fn((8, 2), |(_, axis)| axis as f32);
        let parts = partition(same.view(), class("a", 8), Some(3), &config, 0).unwrap();
        assert_eq!((parts.k, parts.labels), (1, vec![0; 8]));
    }
}
