//! Objectives over sentence embeddings at the sizes of their papers.
//!
//! `benches/peers/sentence_peer.py` has the same in PyTorch.

use burn::tensor::{Device, Tensor};
use losses::{
    AlignmentConfig, AngleConfig, CosentConfig, EmbeddingDistillationConfig, EnergyHingeConfig,
    GeneratedRows, GistColumns, GistConfig, HierarchicalTripletConfig, InfoNceConfig, L1Config,
    LossError, MatryoshkaConfig, MseConfig, MultipleNegativesConfig, NgcseConfig, OrdinaryRows,
    Partition, RankingDistillationConfig, SiameseHead, SmoothK2Config, TranslatedReluConfig,
    UniformityConfig,
};

use crate::inputs::{indices, scaled};

/// Width of BERT-base, on which the papers report.
const HIDDEN: usize = 768;
/// Width of the small encoders: teachers, guides and distilled students.
const SMALL: usize = 384;

/// The names that [`SentenceObjective::new`] knows.
pub const NAMES: [&str; 17] = [
    "siamese_mse",
    "siamese_l1",
    "translated_relu",
    "smooth_k2",
    "cosent",
    "angle",
    "simcse",
    "simcse_supervised",
    "multiple_negatives",
    "gist",
    "energy_hinge",
    "hierarchical_triplet",
    "ngcse",
    "embedding_distillation",
    "ranking_distillation",
    "matryoshka",
    "alignment_uniformity",
];

type Loss = dyn Fn(&[Tensor<2>]) -> Result<Tensor<1>, LossError>;

/// An objective and what it is computed from.
pub struct SentenceObjective {
    /// Sizes: rows x candidates x width, or as the name asks for.
    pub sizes: String,
    /// Trainable inputs.
    pub leaves: Vec<Tensor<2>>,
    loss: Box<Loss>,
}

impl SentenceObjective {
    /// The objective called `name`, one of [`NAMES`], on a device with autodiff; `None` for another
    /// name.
    ///
    /// # Errors
    ///
    /// Those of the objective's configuration.
    pub fn new(name: &str, device: &Device) -> Result<Option<Self>, LossError> {
        let rows = |count: u32, batch: usize, dim: usize| -> Vec<Tensor<2>> {
            (20..20 + count)
                .map(|seed| scaled(seed, batch, dim, 1.0, device).require_grad())
                .collect()
        };
        let labels = |batch: usize| -> Tensor<1> {
            let labels: Vec<f32> = indices(40, batch, 6).iter().map(|x| *x as f32).collect();
            Tensor::from_floats(labels.as_slice(), device)
        };
        Ok(Some(match name {
            "siamese_mse" | "siamese_l1" | "translated_relu" | "smooth_k2" => {
                let (batch, labels) = (64, labels(64));
                let mut leaves = rows(2, batch, HIDDEN);
                leaves.push(scaled(30, 3 * HIDDEN, 1, 0.05, device).require_grad());
                type OfScores = dyn Fn(Tensor<1>, Tensor<1>) -> Result<Tensor<1>, LossError>;
                let regression: Box<OfScores> = match name {
                    "siamese_mse" => {
                        let loss = MseConfig::new().init()?;
                        Box::new(move |s, y| loss.forward(s, y))
                    }
                    "siamese_l1" => {
                        let loss = L1Config::new().init()?;
                        Box::new(move |s, y| loss.forward(s, y))
                    }
                    "translated_relu" => {
                        let loss = TranslatedReluConfig::new().init()?;
                        Box::new(move |s, y| loss.forward(s, y))
                    }
                    _ => {
                        let loss = SmoothK2Config::new().init()?;
                        Box::new(move |s, y| loss.forward(s, y))
                    }
                };
                let bias = Tensor::zeros([1], device);
                Self::of(format!("{batch}x{HIDDEN}"), leaves, move |x| {
                    let head = SiameseHead::from_tensors(x[2].clone(), bias.clone())?;
                    regression(head.scores(x[0].clone(), x[1].clone())?, labels.clone())
                })
            }
            "cosent" => {
                let (loss, labels) = (CosentConfig::new().init()?, labels(64));
                Self::of(format!("64x{HIDDEN}"), rows(2, 64, HIDDEN), move |x| {
                    loss.forward(x[0].clone(), x[1].clone(), labels.clone())
                })
            }
            "angle" => {
                let (loss, labels) = (AngleConfig::new().init()?, labels(64));
                Self::of(format!("64x{HIDDEN}"), rows(2, 64, HIDDEN), move |x| {
                    loss.forward(x[0].clone(), x[1].clone(), labels.clone())
                })
            }
            "simcse" | "simcse_supervised" => {
                let loss = InfoNceConfig::new().init()?;
                let supervised = name == "simcse_supervised";
                let (batch, columns) = if supervised { (512, 3) } else { (64, 2) };
                let candidates = (columns as usize - 1) * batch;
                let sizes = format!("{batch}x{candidates}x{HIDDEN}");
                Self::of(sizes, rows(columns, batch, HIDDEN), move |x| {
                    loss.forward(x[0].clone(), x[1].clone(), x.get(2).cloned())
                })
            }
            "multiple_negatives" => {
                let loss = MultipleNegativesConfig::new()
                    .with_document_to_query(true)
                    .with_partition(Partition::PerDirection)
                    .init()?;
                Self::of(format!("64x64x{HIDDEN}"), rows(2, 64, HIDDEN), move |x| {
                    loss.forward(x[0].clone(), x[1].clone(), &[])
                })
            }
            "gist" => {
                let loss = GistConfig::new().init()?;
                let guide = [31, 32].map(|seed| scaled(seed, 64, SMALL, 1.0, device));
                let columns = |x: &[Tensor<2>]| GistColumns {
                    anchors: x[0].clone(),
                    positives: x[1].clone(),
                    hard_negatives: None,
                };
                Self::of(format!("64x64x{HIDDEN}"), rows(2, 64, HIDDEN), move |x| {
                    loss.forward(columns(x), columns(&guide))
                })
            }
            "energy_hinge" => {
                let loss = EnergyHingeConfig::new().init()?;
                let sizes = format!("512x1024x{HIDDEN}");
                Self::of(sizes, rows(3, 512, HIDDEN), move |x| {
                    loss.forward(x[0].clone(), x[1].clone(), Some(x[2].clone()))
                })
            }
            "hierarchical_triplet" => {
                let loss = HierarchicalTripletConfig::new().init()?;
                Self::of(format!("48x3x{HIDDEN}"), rows(4, 48, HIDDEN), move |x| {
                    loss.forward(x[0].clone(), &x[1..])
                })
            }
            "ngcse" => {
                let triplet = HierarchicalTripletConfig::new();
                let loss = NgcseConfig::new().with_triplet(Some(triplet)).init()?;
                let mut leaves = rows(4, 48, HIDDEN);
                leaves.extend(
                    [28, 29].map(|seed| scaled(seed, 208, HIDDEN, 1.0, device).require_grad()),
                );
                Self::of(format!("256x256x{HIDDEN}"), leaves, move |x| {
                    let ordinary = OrdinaryRows {
                        anchors: x[4].clone(),
                        positives: x[5].clone(),
                        hard_negatives: None,
                    };
                    let generated = GeneratedRows {
                        anchors: x[0].clone(),
                        levels: x[1..4].to_vec(),
                    };
                    Ok(loss.forward(Some(ordinary), Some(generated))?.loss)
                })
            }
            "embedding_distillation" => {
                let loss = EmbeddingDistillationConfig::new().init();
                let teacher = scaled(31, 256, SMALL, 1.0, device);
                Self::of(format!("256x{SMALL}"), rows(1, 256, SMALL), move |x| {
                    loss.forward(x[0].clone(), teacher.clone())
                })
            }
            "ranking_distillation" => {
                let loss = RankingDistillationConfig::new().init()?;
                let teacher = [31, 32].map(|seed| scaled(seed, 128, SMALL, 1.0, device));
                let sizes = format!("128x128x{HIDDEN}");
                Self::of(sizes, rows(2, 128, HIDDEN), move |x| {
                    loss.forward([x[0].clone(), x[1].clone()], teacher.clone())
                })
            }
            "matryoshka" => {
                let inner = InfoNceConfig::new().init()?;
                let loss = MatryoshkaConfig::new(vec![768, 512, 256, 128, 64]).init()?;
                Self::of(format!("64x64x{HIDDEN}"), rows(2, 64, HIDDEN), move |x| {
                    loss.forward([x[0].clone(), x[1].clone()], |[a, b]| {
                        inner.forward(a, b, None)
                    })
                })
            }
            "alignment_uniformity" => {
                let alignment = AlignmentConfig::new().init()?;
                let uniformity = UniformityConfig::new().init()?;
                Self::of(format!("256x{HIDDEN}"), rows(2, 256, HIDDEN), move |x| {
                    let near = alignment.forward(x[0].clone(), x[1].clone())?;
                    Ok(near + uniformity.forward(x[0].clone())?)
                })
            }
            _ => return Ok(None),
        }))
    }

    fn of(
        sizes: String,
        leaves: Vec<Tensor<2>>,
        loss: impl Fn(&[Tensor<2>]) -> Result<Tensor<1>, LossError> + 'static,
    ) -> Self {
        Self {
            sizes,
            leaves,
            loss: Box::new(loss),
        }
    }

    /// The loss, `[1]`.
    ///
    /// # Errors
    ///
    /// Those of the objective.
    pub fn loss(&self) -> Result<Tensor<1>, LossError> {
        (self.loss)(&self.leaves)
    }
}
