//! Clustering and centroid inference on the test set.

use std::collections::{BTreeMap, BTreeSet};

use clustering::{Centroids, KMeansParams, TsneParams};
use datasets::TfIdf;
use encoder::{BertModel, Embeddings, Pooling};
use metrics::{
    accuracy_with_mapping, adjusted_rand_index, clustering_accuracy, normalized_mutual_information,
};
use ndarray::{Array2, ArrayView2};
use training::{Streams, stream};

use super::config::StarDownConfig;
use super::prepare::Prepared;
use crate::error::RunError;
use crate::report::{CategorySummary, Projection};
use crate::result::CategoryRow;

/// Most TF-IDF terms that are clustered; the most frequent ones are kept.
const TFIDF_TERMS: usize = 4096;

/// What an evaluation found.
pub(crate) struct Evaluation {
    pub(crate) rows: Vec<CategoryRow>,
    /// Category of every test text by clustering inference.
    pub(crate) found: Vec<usize>,
    /// Centroids of the training set.
    pub(crate) centroids: Centroids,
    test: Embeddings,
    train: Embeddings,
    train_found: Vec<usize>,
}

fn view(vectors: &Embeddings) -> Result<ArrayView2<'_, f32>, RunError> {
    ArrayView2::from_shape((vectors.rows(), vectors.dim), &vectors.values)
        .map_err(|error| RunError::Data(error.to_string()))
}

fn row(stage: &str, inference: &str, seed: u64) -> CategoryRow {
    CategoryRow {
        stage: stage.to_owned(),
        inference: inference.to_owned(),
        split: "test".to_owned(),
        seed,
        acc: None,
        ari: None,
        nmi: None,
        extra: BTreeMap::new(),
    }
}

fn scored(
    stage: &str,
    inference: &str,
    seed: u64,
    found: &[usize],
    gold: &[usize],
) -> Result<CategoryRow, RunError> {
    Ok(CategoryRow {
        acc: Some(clustering_accuracy(found, gold)?.accuracy),
        ari: Some(adjusted_rand_index(found, gold)?),
        nmi: Some(normalized_mutual_information(found, gold)?),
        ..row(stage, inference, seed)
    })
}

/// Embeds both splits and scores clustering and centroid inference.
///
/// ```text
/// cluster           k-means on the test vectors (the published protocol)
/// centroid          k-means on the training vectors, nearest centroid by cosine, matched on test
/// centroid_mapped   the same centroids, matched to classes on training labels: plain accuracy
/// centroid_oracle   means of the true training classes: an upper bound, plain accuracy
/// ```
pub(crate) fn evaluate(
    prepared: &Prepared,
    config: &StarDownConfig,
    backbone: &BertModel,
    pooling: Pooling,
    stage: &str,
    seed: u64,
) -> Result<Evaluation, RunError> {
    let embed = |ids: &[Vec<u32>]| {
        encoder::encode_ids(
            backbone,
            pooling,
            true,
            ids,
            config.eval.batch_size,
            |_, _| {},
        )
    };
    let test = embed(&prepared.test_ids)?;
    let train = embed(&prepared.train_ids)?;
    let kmeans = |vectors: &Embeddings, n_init: usize| -> Result<Vec<usize>, RunError> {
        Ok(KMeansParams::new(prepared.k)
            .n_init(n_init)
            .seed(seed)
            .fit(view(vectors)?)?
            .labels)
    };
    let found = kmeans(&test, config.eval.n_init)?;
    let restarts = match config.eval.centroid_n_init {
        0 => config.eval.n_init,
        given => given,
    };
    let train_found = kmeans(&train, restarts)?;
    let centroids = Centroids::from_clusters(view(&train)?, &train_found, prepared.k)?;
    let nearest: Vec<usize> = centroids
        .assign_all(view(&test)?)?
        .into_iter()
        .map(|a| a.id)
        .collect();

    let mut rows = Vec::new();
    if let Some(gold) = &prepared.data.test.fine {
        rows.push(scored(stage, "cluster", seed, &found, gold)?);
        rows.push(scored(stage, "centroid", seed, &nearest, gold)?);
        if let (Some(labels), Some(names)) = (&prepared.data.train.fine, &prepared.data.fine_names)
        {
            let mapping = clustering_accuracy(&train_found, labels)?.mapping;
            let mapped = accuracy_with_mapping(&mapping, &nearest, gold)?;
            rows.push(CategoryRow {
                acc: Some(mapped.accuracy),
                ..row(stage, "centroid_mapped", seed)
            });
            let means = Centroids::from_clusters(view(&train)?, labels, names.len())?;
            let oracle = means.assign_all(view(&test)?)?;
            let right = oracle
                .iter()
                .zip(gold)
                .filter(|(found, gold)| found.id == **gold)
                .count();
            rows.push(CategoryRow {
                acc: Some(right as f64 / gold.len() as f64),
                ..row(stage, "centroid_oracle", seed)
            });
        }
    }
    Ok(Evaluation {
        rows,
        found,
        centroids,
        test,
        train,
        train_found,
    })
}

/// TF-IDF + k-means on the test texts, vocabulary and weights from the training texts.
pub(crate) fn tfidf_floor(
    prepared: &Prepared,
    config: &StarDownConfig,
    seed: u64,
) -> Result<Vec<CategoryRow>, RunError> {
    let Some(gold) = &prepared.data.test.fine else {
        return Ok(Vec::new());
    };
    let model = TfIdf::fit(&prepared.data.train.texts);
    let sparse = model.transform(&prepared.data.test.texts);
    let mut use_of = vec![0usize; sparse.width()];
    for index in 0..sparse.rows() {
        for column in sparse.row(index).0 {
            use_of[*column] += 1;
        }
    }
    let mut columns: Vec<usize> = (0..sparse.width())
        .filter(|column| use_of[*column] > 0)
        .collect();
    columns.sort_by_key(|column| (std::cmp::Reverse(use_of[*column]), *column));
    columns.truncate(TFIDF_TERMS);
    let place: BTreeMap<usize, usize> = columns
        .iter()
        .enumerate()
        .map(|(at, column)| (*column, at))
        .collect();
    let mut dense = Array2::<f32>::zeros((sparse.rows(), columns.len().max(1)));
    for index in 0..sparse.rows() {
        let (terms, values) = sparse.row(index);
        for (term, value) in terms.iter().zip(values) {
            if let Some(at) = place.get(term) {
                dense[[index, *at]] = *value;
            }
        }
    }
    let found = KMeansParams::new(prepared.k)
        .n_init(config.eval.n_init)
        .seed(seed)
        .fit(dense.view())?
        .labels;
    Ok(vec![scored("tfidf", "cluster", seed, &found, gold)?])
}

impl Evaluation {
    /// t-SNE of (a sample of) the test texts with all three labellings.
    pub(crate) fn projection(
        &self,
        prepared: &Prepared,
        config: &StarDownConfig,
        streams: &Streams,
    ) -> Result<Option<Projection>, RunError> {
        let n = self.test.rows();
        let wanted = config.eval.tsne_points.min(n);
        if wanted < 10 {
            return Ok(None);
        }
        let mut rng = streams.rng(stream::PROJECTION, &[]);
        let mut picked: Vec<usize> = training::shuffle(n, &mut rng)
            .into_iter()
            .take(wanted)
            .collect();
        picked.sort_unstable();
        let all = view(&self.test)?;
        let points = all.select(ndarray::Axis(0), &picked);
        let mut params = TsneParams::for_points(wanted);
        params.seed = streams.seed(stream::PROJECTION, &[1]);
        let placed = params.fit(points.view())?;
        let pick = |labels: &[usize]| picked.iter().map(|at| labels[*at]).collect::<Vec<_>>();
        Ok(Some(Projection {
            xy: placed
                .embedding
                .rows()
                .into_iter()
                .map(|xy| [xy[0], xy[1]])
                .collect(),
            coarse: pick(&prepared.data.test.coarse),
            fine: prepared.data.test.fine.as_deref().map(pick),
            found: pick(&self.found),
            texts: picked
                .iter()
                .map(|at| prepared.data.test.texts[*at].clone())
                .collect(),
        }))
    }

    /// Categories of the test texts: size, coarse labels, ten texts nearest to the centre.
    pub(crate) fn categories(&self, prepared: &Prepared) -> Result<Vec<CategorySummary>, RunError> {
        let vectors = view(&self.test)?;
        let ids: BTreeSet<usize> = self.found.iter().copied().collect();
        let k = ids.last().map_or(0, |last| last + 1);
        let centres = Centroids::from_clusters(vectors, &self.found, k)?;
        let mut summaries = Vec::new();
        for id in ids {
            let mut members: Vec<(usize, f32)> = Vec::new();
            for (at, found) in self.found.iter().enumerate() {
                if *found == id {
                    let centre = centres.vectors();
                    members.push((at, centre.row(id).dot(&vectors.row(at))));
                }
            }
            members.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            let mut coarse_counts = vec![0; prepared.data.coarse_names.len()];
            for (at, _) in &members {
                coarse_counts[prepared.data.test.coarse[*at]] += 1;
            }
            summaries.push(CategorySummary {
                id,
                name: None,
                size: members.len(),
                coarse_counts,
                examples: members
                    .iter()
                    .take(10)
                    .map(|(at, _)| prepared.data.test.texts[*at].clone())
                    .collect(),
            });
        }
        Ok(summaries)
    }

    /// Majority coarse label of every training centroid.
    pub(crate) fn centroid_coarse(&self, prepared: &Prepared) -> Result<Vec<usize>, RunError> {
        Ok(clustering::majority(
            &self.train_found,
            &prepared.data.train.coarse,
            prepared.k,
        )?)
    }

    /// The training texts nearest to each centroid, as evidence for naming.
    pub(crate) fn centroid_examples(
        &self,
        prepared: &Prepared,
        count: usize,
    ) -> Result<Vec<Vec<String>>, RunError> {
        let vectors = view(&self.train)?;
        let centres = self.centroids.vectors();
        let mut examples = Vec::with_capacity(prepared.k);
        for id in 0..prepared.k {
            let mut members: Vec<(usize, f32)> = self
                .train_found
                .iter()
                .enumerate()
                .filter(|(_, found)| **found == id)
                .map(|(at, _)| (at, centres.row(id).dot(&vectors.row(at))))
                .collect();
            members.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            examples.push(
                members
                    .iter()
                    .take(count)
                    .map(|(at, _)| prepared.data.train.texts[*at].clone())
                    .collect(),
            );
        }
        Ok(examples)
    }
}
