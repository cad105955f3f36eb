use categories::{Calibration, Catalogue, CategoryError, CategoryId, NameSource, Near, Status};

use crate::support::{catalogue, category, ids, unit};

fn problem(change: impl FnOnce(&mut Catalogue)) -> String {
    let mut catalogue = catalogue();
    change(&mut catalogue);
    catalogue.check().unwrap_err().to_string()
}

#[test]
fn every_rule_names_its_field() {
    catalogue().check().unwrap();
    type Change = Box<dyn FnOnce(&mut Catalogue)>;
    let cases: Vec<(&str, Change)> = vec![
        ("schema", Box::new(|c| c.schema = "x".into())),
        ("revision", Box::new(|c| c.revision = 0)),
        ("dim", Box::new(|c| c.dim = 0)),
        (
            "coarse_names[2]",
            Box::new(|c| c.coarse_names.push("bank".into())),
        ),
        (
            "categories[1].id",
            Box::new(|c| c.categories[1].id = CategoryId(0)),
        ),
        (
            "categories[0].name",
            Box::new(|c| c.categories[0].name.clear()),
        ),
        (
            "categories[0].name",
            Box::new(|c| c.categories[0].name = " a".into()),
        ),
        (
            "categories[0].name",
            Box::new(|c| c.categories[0].name = "a\u{1b}[2J".into()),
        ),
        (
            "categories[0].name",
            Box::new(|c| c.categories[0].name = "a".repeat(201)),
        ),
        (
            "categories[4].coarse",
            Box::new(|c| c.categories[4].coarse = Some("x".into())),
        ),
        (
            "categories[2].coherence",
            Box::new(|c| c.categories[2].coherence = f64::NAN),
        ),
        (
            "categories[2].keywords",
            Box::new(|c| c.categories[2].keywords[0].weight = f64::INFINITY),
        ),
        ("categories[3].born", Box::new(|c| c.categories[3].born = 2)),
        (
            "categories[3].nearest",
            Box::new(|c| {
                c.categories[3].nearest = vec![Near {
                    id: CategoryId(9),
                    cosine: 0.0,
                }];
            }),
        ),
        (
            "categories[3].nearest",
            Box::new(|c| {
                c.categories[3].nearest = vec![Near {
                    id: CategoryId(1),
                    cosine: f32::NAN,
                }];
            }),
        ),
        (
            "categories[1].centroid",
            Box::new(|c| c.categories[1].centroid.push(0.0)),
        ),
        (
            "categories[1].centroid",
            Box::new(|c| c.categories[1].centroid[0] = f32::NAN),
        ),
        (
            "categories[1].centroid",
            Box::new(|c| c.categories[1].centroid = vec![0.0; 3]),
        ),
        (
            "categories[1].centroid",
            Box::new(|c| c.categories[1].centroid = vec![2.0, 0.0, 0.0]),
        ),
        (
            "categories[1].status",
            Box::new(|c| {
                c.categories[1].status = Status::Merged {
                    into: CategoryId(7),
                };
            }),
        ),
        (
            "categories[1].status",
            Box::new(|c| {
                c.categories[1].status = Status::Split { into: vec![] };
            }),
        ),
        (
            "categories[1].status",
            Box::new(|c| {
                c.categories[1].status = Status::Merged {
                    into: CategoryId(2),
                };
                c.categories[2].status = Status::Split { into: ids(&[0, 1]) };
            }),
        ),
    ];
    for (field, change) in cases {
        let problem = problem(change);
        assert!(
            problem.starts_with(&format!("{field}: expected")),
            "{field}: {problem}"
        );
    }
    assert_eq!(
        problem(|c| c.categories[3].name = "Refund".into()),
        "the name `Refund` belongs to category 1"
    );
    for (field, change) in [
        ("threshold", [f32::NAN, 0.1, 0.5]),
        ("temperature", [0.5, 0.0, 0.5]),
        ("auroc", [0.5, 0.1, 1.5]),
    ] {
        let [threshold, temperature, auroc] = change;
        let problem = problem(|c| {
            c.calibration = Some(Calibration {
                threshold,
                temperature,
                accepts_known: 0.95,
                rejects_unknown: 0.9,
                auroc: auroc.into(),
                held_out: vec![],
                n_known: 1,
                n_unknown: 1,
            });
        });
        assert!(
            problem.starts_with(&format!("calibration.{field}")),
            "{problem}"
        );
    }
}

#[test]
fn a_retired_name_is_free_again() {
    let mut catalogue = catalogue();
    catalogue.categories[1].status = Status::Merged {
        into: CategoryId(0),
    };
    catalogue.categories[0].name = "refund".into();
    catalogue.check().unwrap();
    assert_eq!(catalogue.by_name("REFUND").unwrap().id, CategoryId(0));
}

#[test]
fn merges_and_splits_are_followed_to_the_end() {
    let mut catalogue = catalogue();
    let merged = |into| Status::Merged {
        into: CategoryId(into),
    };
    for id in 5..9 {
        catalogue
            .categories
            .push(category(id, &format!("name {id}"), &unit(id.into(), 3)));
    }
    // 0 and 1 went into 5, 5 was split into 6 and 7, 7 went into 8.
    catalogue.categories[0].status = merged(5);
    catalogue.categories[1].status = merged(5);
    catalogue.categories[5].status = Status::Split { into: ids(&[6, 7]) };
    catalogue.categories[7].status = merged(8);
    catalogue.categories[3].status = Status::Withdrawn;
    catalogue.check().unwrap();
    let resolve =
        |id, vector: Option<&[f32]>| catalogue.resolve(CategoryId(id), vector).map(|id| id.0);
    assert_eq!(resolve(2, None), Some(2));
    for (id, nearest) in [(6, 6), (7, 8)] {
        let vector: Vec<f32> = unit(id, 3).iter().map(|x| 20.0 * x).collect();
        for start in [0, 1, 5] {
            assert_eq!(resolve(start, Some(&vector)), Some(nearest));
        }
    }
    // Without a vector, or with one of another model, the larger part: 7 has 80 members, 6 has 70.
    assert_eq!(resolve(0, None), Some(8));
    assert_eq!(resolve(0, Some(&[1.0])), Some(8));
    assert_eq!(resolve(3, None), None);
    assert_eq!(resolve(99, None), None);
}

#[test]
fn a_long_chain_is_no_deep_recursion_and_a_circle_ends() {
    let n = 20_000_u32;
    let mut catalogue = catalogue();
    catalogue.categories = (0..n)
        .map(|id| {
            let mut category = category(id, "x", &[1.0, 0.0, 0.0]);
            if id + 1 < n {
                category.status = Status::Merged {
                    into: CategoryId(id + 1),
                };
            }
            category
        })
        .collect();
    catalogue.check().unwrap();
    assert_eq!(
        catalogue.resolve(CategoryId(0), None),
        Some(CategoryId(n - 1))
    );
    catalogue.categories[n as usize - 1].status = Status::Merged {
        into: CategoryId(0),
    };
    assert!(catalogue.check().is_err());
    assert_eq!(catalogue.resolve(CategoryId(0), None), None);
}

#[test]
fn categories_are_found_by_id_and_by_name() {
    let mut catalogue = catalogue();
    catalogue.categories[4].name = "2".into();
    catalogue.categories[3].name = "40".into();
    assert_eq!(catalogue.by_name("Card Lost").unwrap().id, CategoryId(0));
    // An id wins over a name of digits.
    assert_eq!(catalogue.by_name("2").unwrap().id, CategoryId(2));
    assert_eq!(catalogue.by_name("40").unwrap().id, CategoryId(3));
    assert_eq!(
        catalogue.by_name("refnud").unwrap_err().to_string(),
        "there is no category `refnud`; did you mean `refund`?"
    );
    assert_eq!(
        catalogue.by_name("zzz").unwrap_err(),
        CategoryError::UnknownName {
            name: "zzz".into(),
            nearest: None
        }
    );
    assert_eq!(
        catalogue.by_name("17").unwrap_err().to_string(),
        "there is no category 17; ids go up to 4"
    );
    assert!(catalogue.by_name("99999999999").is_err());
    assert!(catalogue.by_name("").is_err());
}

#[test]
fn the_file_is_one_category_a_line_and_reads_back_the_same() {
    let mut catalogue = catalogue();
    catalogue.categories[0].name = "quoted \" \\ é".into();
    catalogue.categories[0].name_source = NameSource::Human;
    catalogue.categories[0].status = Status::Split { into: ids(&[1, 2]) };
    let json = catalogue.to_json().unwrap();
    assert_eq!(json.lines().count(), 7 + 5 + 1);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("categories.json");
    std::fs::write(&path, &json).unwrap();
    let read = Catalogue::read(&path).unwrap();
    assert_eq!(read, catalogue);
    assert_eq!(read.to_json().unwrap(), json);
    // The same fields as the derived form.
    let plain: Catalogue =
        serde_json::from_str(&serde_json::to_string(&catalogue).unwrap()).unwrap();
    assert_eq!(plain, catalogue);
}
