//! Published figures of sentence embeddings, to stand beside ours.
//!
//! STS figures are Spearman x 100 on the test parts, all pairs of a task together; transfer figures
//! are accuracies x 100. Averages are as printed in the source, which for a few rows differs from
//! the mean of the printed scores by 0.01.

/// Where the figures were read, by letter.
pub const SOURCES: [(&str, &str); 3] = [
    ("S", "SimCSE, arXiv 2104.08821v4, table 5 and appendix E"),
    (
        "R",
        "regression STS, results images of its repository (arXiv 2406.05326, table 3)",
    ),
    ("D", "DistillCSE, as it quotes SimCSE for BERT-large"),
];

/// A row of a published table with seven tasks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PublishedRow {
    /// Name as printed.
    pub model: &'static str,
    /// Letter of [`SOURCES`].
    pub source: &'static str,
    /// Percentages in the order of the table's columns.
    pub scores: [f64; 7],
    /// The average as printed.
    pub average: f64,
}

const fn row(
    model: &'static str,
    source: &'static str,
    scores: [f64; 7],
    average: f64,
) -> PublishedRow {
    PublishedRow {
        model,
        source,
        scores,
        average,
    }
}

/// STS12, STS13, STS14, STS15, STS16, STS-B, SICK-R.
#[rustfmt::skip]
pub static STS: [PublishedRow; 36] = [
    row("GloVe avg", "S", [55.14, 70.66, 59.73, 68.25, 63.66, 58.02, 53.76], 61.32),
    row("BERT-base first-last avg", "S", [39.70, 59.38, 49.67, 66.03, 66.19, 53.87, 62.06], 56.70),
    row("BERT-base whitening", "S", [57.83, 66.90, 60.90, 75.08, 71.31, 68.24, 63.73], 66.28),
    row("CT-BERT-base", "S", [61.63, 76.80, 68.47, 77.50, 76.48, 74.31, 69.19], 72.05),
    row("SimCSE-BERT-base (unsup)", "S", [68.40, 82.41, 74.38, 80.91, 78.56, 76.85, 72.23], 76.25),
    row("SimCSE-BERT-large (unsup)", "D", [70.88, 84.16, 76.43, 84.50, 79.76, 79.26, 73.88], 78.41),
    row("SimCSE-RoBERTa-base (unsup)", "S", [70.16, 81.77, 73.24, 81.36, 80.65, 80.22, 68.56], 76.57),
    row("SimCSE-RoBERTa-large (unsup)", "S", [72.86, 83.99, 75.62, 84.77, 81.80, 81.98, 71.26], 78.90),
    row("SBERT-base", "S", [70.97, 76.53, 73.19, 79.09, 74.30, 77.03, 72.91], 74.89),
    row("CT-SBERT-base", "S", [74.84, 83.20, 78.07, 83.84, 77.93, 81.46, 76.42], 79.39),
    row("SimCSE-BERT-base (sup)", "S", [75.30, 84.67, 80.19, 85.40, 80.82, 84.25, 80.39], 81.57),
    row("SRoBERTa-base", "S", [71.54, 72.49, 70.80, 78.74, 73.69, 77.77, 74.46], 74.21),
    row("SimCSE-RoBERTa-base (sup)", "S", [76.53, 85.21, 80.95, 86.03, 82.57, 85.83, 80.50], 82.52),
    row("SimCSE-RoBERTa-large (sup)", "S", [77.46, 87.27, 82.36, 86.66, 83.93, 86.70, 81.95], 83.76),
    row("BERT-base + cross entropy (NLI)", "R", [70.01, 71.18, 70.10, 78.37, 72.92, 74.88, 73.58], 73.01),
    row("BERT-base + L1 (NLI)", "R", [69.76, 69.56, 68.13, 76.33, 70.96, 73.61, 70.28], 71.23),
    row("BERT-base + Translated ReLU (NLI)", "R", [72.51, 75.46, 72.34, 78.46, 72.64, 76.54, 72.02], 74.28),
    row("BERT-base + MSE (NLI)", "R", [72.38, 76.47, 74.35, 78.71, 72.95, 77.91, 70.67], 74.78),
    row("BERT-base + Smooth K2 (NLI)", "R", [72.39, 78.33, 75.28, 80.26, 74.52, 78.78, 72.65], 76.03),
    row("RoBERTa-base + cross entropy (NLI)", "R", [71.15, 74.29, 72.66, 79.44, 74.12, 76.56, 73.02], 74.46),
    row("RoBERTa-base + L1 (NLI)", "R", [68.12, 62.27, 64.20, 72.80, 67.28, 72.44, 66.82], 67.70),
    row("RoBERTa-base + Translated ReLU (NLI)", "R", [71.13, 76.07, 72.18, 78.13, 73.94, 77.59, 70.94], 74.28),
    row("RoBERTa-base + MSE (NLI)", "R", [72.67, 77.09, 72.93, 79.52, 74.12, 77.88, 69.85], 74.87),
    row("RoBERTa-base + Smooth K2 (NLI)", "R", [72.53, 78.28, 73.88, 80.88, 75.35, 77.44, 73.94], 76.04),
    row("PromptBERT-base (sup)", "R", [75.48, 85.59, 80.57, 85.99, 81.08, 84.56, 80.52], 81.97),
    row("PromCSE-BERT-base (sup)", "R", [75.58, 84.33, 79.67, 85.79, 81.24, 84.25, 80.79], 81.81),
    row("Nomic Embed v1", "R", [73.75, 85.03, 80.52, 87.40, 83.55, 83.90, 76.52], 81.52),
    row("Nomic v1 + contrastive tuning", "R", [76.10, 85.79, 80.58, 87.35, 83.54, 85.16, 72.33], 81.55),
    row("Nomic v1 + regression", "R", [73.06, 86.63, 81.06, 87.67, 83.43, 85.18, 82.75], 82.83),
    row("Jina v2 base", "R", [74.28, 84.18, 78.81, 87.55, 85.35, 84.85, 78.98], 82.00),
    row("Jina v2 + contrastive tuning", "R", [76.04, 86.37, 80.16, 86.53, 85.24, 84.31, 74.18], 81.83),
    row("Jina v2 + regression", "R", [75.17, 86.10, 79.96, 88.44, 85.01, 86.83, 83.34], 83.55),
    row("InferSent-GloVe", "S", [52.86, 66.75, 62.15, 72.77, 66.87, 68.03, 65.65], 65.01),
    row("Universal Sentence Encoder", "S", [64.49, 67.80, 64.61, 76.83, 73.18, 74.92, 76.69], 71.22),
    row("RoBERTa-base first-last avg", "S", [40.88, 58.74, 49.07, 65.63, 61.48, 58.55, 61.63], 56.57),
    row("DeCLUTR-RoBERTa-base", "S", [52.41, 75.19, 65.52, 77.12, 78.63, 72.41, 68.62], 69.99),
];

/// MR, CR, SUBJ, MPQA, SST, TREC, MRPC.
#[rustfmt::skip]
pub static TRANSFER: [PublishedRow; 12] = [
    row("GloVe avg", "S", [77.25, 78.30, 91.17, 87.85, 80.18, 83.00, 72.87], 81.52),
    row("BERT avg", "S", [78.66, 86.25, 94.37, 88.66, 84.40, 92.80, 69.54], 84.94),
    row("BERT CLS", "S", [78.68, 84.85, 94.21, 88.23, 84.13, 91.40, 71.13], 84.66),
    row("SimCSE-BERT-base (unsup)", "S", [81.18, 86.46, 94.45, 88.88, 85.50, 89.80, 74.43], 85.81),
    row("SimCSE-BERT-base + MLM (unsup)", "S", [82.92, 87.23, 95.71, 88.73, 86.81, 87.01, 78.07], 86.64),
    row("SimCSE-RoBERTa-base (unsup)", "S", [81.04, 87.74, 93.28, 86.94, 86.60, 84.60, 73.68], 84.84),
    row("SimCSE-RoBERTa-large (unsup)", "S", [82.74, 87.87, 93.66, 88.22, 88.58, 92.00, 69.68], 86.11),
    row("SBERT-base", "S", [83.64, 89.43, 94.39, 89.86, 88.96, 89.60, 76.00], 87.41),
    row("SimCSE-BERT-base (sup)", "S", [82.69, 89.25, 94.81, 89.59, 87.31, 88.40, 73.51], 86.51),
    row("SimCSE-BERT-base + MLM (sup)", "S", [82.68, 88.88, 94.52, 89.82, 88.41, 87.60, 76.12], 86.86),
    row("SimCSE-RoBERTa-base (sup)", "S", [84.92, 92.00, 94.11, 89.82, 91.27, 88.80, 75.65], 88.08),
    row("SimCSE-RoBERTa-large (sup)", "S", [88.12, 92.37, 95.11, 90.49, 92.75, 91.80, 76.64], 89.61),
];

/// Published STS rows that belong beside the results of an experiment.
pub fn beside(experiment: &str) -> impl Iterator<Item = &'static PublishedRow> {
    let models: &'static [&'static str] = match experiment {
        "simcse" => &[
            "BERT-base first-last avg",
            "SimCSE-BERT-base (unsup)",
            "SimCSE-RoBERTa-base (unsup)",
            "SBERT-base",
            "SimCSE-BERT-base (sup)",
            "SimCSE-RoBERTa-base (sup)",
        ],
        "regression_sts" => &[
            "BERT-base + cross entropy (NLI)",
            "BERT-base + Translated ReLU (NLI)",
            "BERT-base + Smooth K2 (NLI)",
            "RoBERTa-base + Smooth K2 (NLI)",
            "Nomic v1 + regression",
            "Jina v2 + regression",
        ],
        _ => &[],
    };
    models.iter().filter_map(|model| sts(model))
}

/// The published STS row of a name, as it stands in [`STS`].
pub fn sts(model: &str) -> Option<&'static PublishedRow> {
    STS.iter().find(|row| row.model == model)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn averages_are_those_of_the_scores() {
        for row in STS.iter().chain(&TRANSFER) {
            let mean = row.scores.iter().sum::<f64>() / 7.0;
            // These two are printed with another average than their scores have.
            if ["SBERT-base", "PromCSE-BERT-base (sup)"].contains(&row.model) {
                continue;
            }
            assert!((mean - row.average).abs() < 0.0151, "{row:?} {mean}");
        }
    }

    #[test]
    fn rows_beside_an_experiment_exist() {
        assert_eq!(beside("simcse").count(), 6);
        assert_eq!(beside("regression_sts").count(), 6);
        assert_eq!(beside("star_down").count(), 0);
    }

    #[test]
    fn names_and_sources_are_known() {
        for table in [&STS[..], &TRANSFER] {
            let names: BTreeSet<&str> = table.iter().map(|row| row.model).collect();
            assert_eq!(names.len(), table.len());
            for row in table {
                assert!(SOURCES.iter().any(|(letter, _)| *letter == row.source));
            }
        }
        assert_eq!(sts("SimCSE-BERT-base (unsup)").unwrap().average, 76.25);
        assert_eq!(sts("simcse"), None);
    }
}
