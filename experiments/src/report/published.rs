//! Published figures of fine-grained category discovery, to stand beside ours.
//!
//! All values are percentages: Hungarian accuracy (ACC), adjusted Rand index (ARI) and normalised
//! mutual information (NMI) of k-means on the test set with the true number of categories. A figure
//! that no source gives is `None`; nothing here is filled in from memory.

/// Where the figures were read, by letter.
pub const SOURCES: [(&str, &str); 4] = [
    ("D", "results figure in the repository of DOWN"),
    ("N", "results figure in the repository of DNA"),
    (
        "W",
        "results figure in the repository of WSCL (Hierarchical Weighted SCL)",
    ),
    ("S", "article on STAR, arXiv 2406.13103"),
];

/// Encoder behind every trained row of the table.
pub const ENCODER: &str = "bert-base-uncased";

/// ACC, ARI and NMI in percent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scores {
    /// Hungarian accuracy.
    pub acc: Option<f64>,
    /// Adjusted Rand index.
    pub ari: Option<f64>,
    /// Normalised mutual information.
    pub nmi: Option<f64>,
}

impl Scores {
    /// Value of `acc`, `ari` or `nmi`.
    pub fn metric(&self, name: &str) -> Option<f64> {
        match name {
            "acc" => self.acc,
            "ari" => self.ari,
            "nmi" => self.nmi,
            _ => None,
        }
    }

    /// Whether any of the three is known.
    pub fn is_known(&self) -> bool {
        self.acc.is_some() || self.ari.is_some() || self.nmi.is_some()
    }
}

/// One method of the published table.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Published {
    /// Name as printed.
    pub method: &'static str,
    /// Family of the method.
    pub group: &'static str,
    /// Letters of [`SOURCES`].
    pub source: &'static str,
    clinc: Scores,
    wos: Scores,
    hwu64: Scores,
}

impl Published {
    /// The scores on one data set.
    pub fn scores(&self, data: PublishedData) -> Scores {
        match data {
            PublishedData::Clinc => self.clinc,
            PublishedData::Wos => self.wos,
            PublishedData::Hwu64 => self.hwu64,
        }
    }
}

/// A data set with published figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishedData {
    /// CLINC150, in-scope intents.
    Clinc,
    /// Web of Science abstracts.
    Wos,
    /// HWU64 home-assistant requests.
    Hwu64,
}

impl PublishedData {
    /// Chooses by the name of a data set, whatever its case and punctuation. A stand-in or subset
    /// with a longer name matches nothing, since its figures are not comparable.
    ///
    /// ```
    /// use experiments::report::PublishedData;
    /// assert_eq!(PublishedData::from_name("HWU-64"), Some(PublishedData::Hwu64));
    /// assert_eq!(PublishedData::from_name("wos_standin"), None);
    /// ```
    pub fn from_name(name: &str) -> Option<Self> {
        let plain: String = name
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .map(|c| c.to_ascii_lowercase())
            .collect();
        match plain.as_str() {
            "clinc" | "clinc150" => Some(Self::Clinc),
            "wos" => Some(Self::Wos),
            "hwu" | "hwu64" => Some(Self::Hwu64),
            _ => None,
        }
    }

    /// Test rows behind the published figures.
    pub fn test_rows(self) -> usize {
        match self {
            Self::Clinc => 2250,
            Self::Wos => 2420,
            Self::Hwu64 => 1031,
        }
    }
}

/// The published method that a stage of ours should be compared with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Counterpart {
    /// The row.
    pub row: &'static Published,
    /// False where the method is only the nearest one (another pre-training, for example).
    pub same_method: bool,
}

/// Finds the published row for a stage. `None` for stages that nobody published.
pub fn counterpart(stage: &str) -> Option<Counterpart> {
    let (method, same_method) = match stage.replace('-', "_").as_str() {
        "frozen" => ("BERT", false),
        // Published with cross-entropy only; ours adds the masked-language-model loss.
        "pretrain" => ("BERT + CE", false),
        "dna" => ("DNA", true),
        "down" => ("DOWN", true),
        "star_dna" => ("STAR-DNA", true),
        "star" | "star_down" => ("STAR-DOWN", true),
        "star_prototype" => ("STAR-PPNet", false),
        _ => return None,
    };
    let row = ROWS.iter().find(|row| row.method == method)?;
    Some(Counterpart { row, same_method })
}

const UNKNOWN: Scores = Scores {
    acc: None,
    ari: None,
    nmi: None,
};

const fn scores(acc: f64, ari: f64, nmi: f64) -> Scores {
    Scores {
        acc: Some(acc),
        ari: Some(ari),
        nmi: Some(nmi),
    }
}

const fn acc_only(acc: f64) -> Scores {
    Scores {
        acc: Some(acc),
        ..UNKNOWN
    }
}

const fn row(
    method: &'static str,
    group: &'static str,
    source: &'static str,
    clinc: Scores,
    wos: Scores,
    hwu64: Scores,
) -> Published {
    Published {
        method,
        group,
        source,
        clinc,
        wos,
        hwu64,
    }
}

const LANGUAGE_MODEL: &str = "language model";
const SELF_TRAINING: &str = "self-training";
const CONTRASTIVE: &str = "contrastive";
const STAR: &str = "STAR";

/// The table. DeepCluster follows sources N and W: in D the figures of WOS and HWU64 are
/// interchanged.
#[rustfmt::skip]
pub static ROWS: [Published; 25] = [
    row("BERT", LANGUAGE_MODEL, "D, N", scores(34.37, 17.61, 64.75), scores(31.97, 18.36, 45.15), scores(33.52, 17.04, 56.90)),
    row("BERT + CE", LANGUAGE_MODEL, "D, N", scores(43.85, 32.37, 78.58), scores(38.29, 36.94, 64.72), scores(37.89, 33.68, 74.63)),
    row("Llama 2", LANGUAGE_MODEL, "S", UNKNOWN, UNKNOWN, UNKNOWN),
    row("GPT-4", LANGUAGE_MODEL, "S", UNKNOWN, UNKNOWN, acc_only(10.77)),
    row("DeepCluster", SELF_TRAINING, "N, W", scores(26.40, 12.51, 61.26), scores(29.17, 18.05, 43.34), scores(29.74, 13.98, 53.27)),
    row("DeepAligned", SELF_TRAINING, "D, N, W", scores(29.16, 14.15, 62.78), scores(28.47, 15.94, 43.52), scores(29.14, 12.89, 52.99)),
    row("DeepCluster + CE", SELF_TRAINING, "D, N, W", scores(30.28, 13.56, 62.38), scores(38.76, 35.21, 60.30), scores(41.73, 27.81, 66.81)),
    row("DeepAligned + CE", SELF_TRAINING, "D, N, W", scores(42.09, 28.09, 72.78), scores(39.42, 33.67, 61.60), scores(42.19, 28.15, 66.50)),
    row("NNCL", CONTRASTIVE, "D, N", scores(17.42, 13.93, 67.56), scores(29.64, 28.51, 61.37), scores(32.98, 30.02, 73.24)),
    row("CLNN", CONTRASTIVE, "D, N", scores(19.96, 14.76, 68.30), scores(29.48, 28.42, 60.99), scores(37.21, 34.66, 75.27)),
    row("SimCSE", CONTRASTIVE, "D, N, W", scores(40.22, 23.57, 69.02), scores(25.87, 13.03, 38.53), scores(24.48, 8.42, 46.94)),
    row("Ancor + CE", CONTRASTIVE, "D, N, W", scores(44.44, 31.50, 74.67), scores(39.34, 26.14, 54.35), scores(32.90, 30.71, 74.73)),
    row("Ancor", CONTRASTIVE, "D, N, W", scores(45.60, 33.11, 75.23), scores(41.20, 37.00, 65.42), scores(37.34, 34.75, 74.99)),
    row("Delete", CONTRASTIVE, "D, N, W", scores(47.11, 31.28, 73.39), scores(24.50, 11.68, 35.47), scores(21.30, 6.52, 44.13)),
    row("Delete + CE", CONTRASTIVE, "D, N, W", scores(47.87, 33.79, 76.25), scores(41.53, 33.78, 61.01), scores(35.13, 31.84, 74.88)),
    row("SimCSE + CE", CONTRASTIVE, "D, N, W", scores(52.53, 37.03, 77.39), scores(41.28, 34.47, 61.62), scores(34.04, 31.81, 74.86)),
    row("SNCL", CONTRASTIVE, "D", scores(55.01, 45.64, 82.93), scores(36.27, 33.62, 62.35), scores(42.32, 38.17, 76.39)),
    row("WSCL (re-run by DNA and DOWN)", CONTRASTIVE, "D, N", scores(74.02, 62.98, 88.37), scores(65.27, 51.78, 72.46), scores(59.52, 49.34, 79.31)),
    row("WSCL (original)", CONTRASTIVE, "W", scores(74.67, 64.77, 89.14), scores(63.64, 51.55, 72.46), scores(58.45, 48.20, 78.66)),
    row("PPNet", CONTRASTIVE, "S", UNKNOWN, UNKNOWN, UNKNOWN),
    row("DNA", CONTRASTIVE, "D, N", scores(87.66, 81.82, 94.69), scores(74.57, 63.30, 76.86), scores(70.81, 59.66, 83.31)),
    row("DOWN", CONTRASTIVE, "D", scores(91.79, 86.70, 96.05), scores(80.00, 67.09, 78.87), scores(78.92, 68.17, 86.22)),
    row("STAR-PPNet", STAR, "S", UNKNOWN, UNKNOWN, UNKNOWN),
    row("STAR-DNA", STAR, "S", UNKNOWN, UNKNOWN, UNKNOWN),
    row("STAR-DOWN", STAR, "S", UNKNOWN, UNKNOWN, acc_only(80.31)),
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn find(method: &str) -> &'static Published {
        ROWS.iter().find(|row| row.method == method).unwrap()
    }

    /// Difference of two rows over CLINC, WOS, HWU64 x ACC, ARI, NMI.
    fn differences(better: &str, worse: &str) -> Vec<f64> {
        let (better, worse) = (find(better), find(worse));
        [
            PublishedData::Clinc,
            PublishedData::Wos,
            PublishedData::Hwu64,
        ]
        .into_iter()
        .flat_map(|data| {
            ["acc", "ari", "nmi"].map(|metric| {
                better.scores(data).metric(metric).unwrap()
                    - worse.scores(data).metric(metric).unwrap()
            })
        })
        .collect()
    }

    #[test]
    fn improvements_printed_by_the_sources_recompute() {
        let printed = [
            (
                "DNA",
                "WSCL (re-run by DNA and DOWN)",
                [13.64, 18.84, 6.32, 9.30, 11.52, 4.40, 11.29, 10.32, 4.00],
            ),
            (
                "DOWN",
                "DNA",
                [4.13, 4.88, 1.36, 5.43, 3.79, 2.01, 8.11, 8.51, 2.91],
            ),
        ];
        for (better, worse, expected) in printed {
            for (got, want) in differences(better, worse).into_iter().zip(expected) {
                assert!((got - want).abs() < 0.005, "{better}: {got} {want}");
            }
        }
        let star = find("STAR-DOWN").scores(PublishedData::Hwu64).acc.unwrap();
        let down = find("DOWN").scores(PublishedData::Hwu64).acc.unwrap();
        assert!((star - down - 1.39).abs() < 0.005);
    }

    #[test]
    fn rows_are_percentages_with_a_known_source_and_a_unique_name() {
        let mut names: Vec<&str> = ROWS.iter().map(|row| row.method).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ROWS.len());
        for row in &ROWS {
            for letter in row.source.split(", ") {
                assert!(SOURCES.iter().any(|(known, _)| *known == letter));
            }
            for data in [
                PublishedData::Clinc,
                PublishedData::Wos,
                PublishedData::Hwu64,
            ] {
                for metric in ["acc", "ari", "nmi"] {
                    if let Some(value) = row.scores(data).metric(metric) {
                        assert!(value > 1.0 && value < 100.0, "{}", row.method);
                    }
                }
            }
        }
    }

    #[test]
    fn unknown_cells_stay_unknown() {
        assert!(!find("STAR-DOWN").scores(PublishedData::Clinc).is_known());
        assert_eq!(find("STAR-DOWN").scores(PublishedData::Hwu64).ari, None);
        assert_eq!(find("DOWN").scores(PublishedData::Wos).metric("f1"), None);
    }

    #[test]
    fn stages_and_data_sets_are_matched_by_name() {
        assert_eq!(counterpart("star").unwrap().row.method, "STAR-DOWN");
        assert_eq!(counterpart("star-down").unwrap().row.method, "STAR-DOWN");
        assert!(counterpart("down").unwrap().same_method);
        assert!(!counterpart("pretrain").unwrap().same_method);
        assert!(counterpart("tfidf").is_none());
        assert_eq!(
            PublishedData::from_name("CLINC150"),
            Some(PublishedData::Clinc)
        );
        assert_eq!(PublishedData::from_name("hwu64 all rows"), None);
        assert_eq!(PublishedData::from_name(""), None);
    }
}
