//! Centroid inference: a vector goes to the active category with the largest cosine.

use rayon::prelude::*;
use serde::Serialize;

use crate::calibration::DEFAULT_TEMPERATURE;
use crate::catalogue::{Catalogue, most_similar};
use crate::category::{CategoryId, Near};
use crate::error::{CategoryError, invalid};
use crate::vector::{dot, dots, length};

/// Vectors that one thread takes at a time.
const BLOCK: usize = 256;
/// Centroids that a vector is compared with at a time.
const TILE: usize = 4;

/// Where a vector was assigned.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Assigned {
    /// The category with the largest cosine; the lowest id on ties.
    pub id: CategoryId,
    /// That cosine, -1 to 1; 0 for a vector without direction.
    pub cosine: f32,
    /// Softmax over cosines / temperature, at `id`; 0 to 1.
    pub confidence: f32,
    /// Whether the vector probably belongs to none of the categories: its cosine is below the
    /// threshold of the calibration (never without one), or it has no direction.
    pub unknown: bool,
    /// The second largest cosine; `None` if there is one candidate only.
    pub runner_up: Option<Near>,
}

/// A coarse class that limits the candidates, from [`Assigner::gate`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gate(usize);

/// Assigns vectors to the active categories of a catalogue.
///
/// ```text
/// cosine_k   = x . centroid_k / (|x| |centroid_k|)         0 if x = 0
/// id         = argmax_k cosine_k                           lowest id on ties
/// confidence = exp(cosine_id / T) / sum_k exp(cosine_k / T)
/// unknown    = cosine_id < threshold
/// ```
///
/// over the candidates `k`: all active categories or, behind a gate, those of a coarse class and
/// those that span several. A vector gets the same bits alone, among others, and on any number of
/// threads.
///
/// # Example
/// ```
/// use categories::{Assigner, Catalogue, Category, CategoryId, NameSource, Status};
/// # let category = |id: u32, name: &str, centroid: [f32; 2]| Category {
/// #     id: CategoryId(id), name: name.to_owned(), name_source: NameSource::Keywords,
/// #     coarse: None, keywords: vec![], medoids: vec![], size: 10, coherence: 0.8,
/// #     nearest: vec![], born: 1, status: Status::Active, centroid: centroid.to_vec(),
/// # };
/// let categories = vec![category(0, "refund", [1.0, 0.0]), category(1, "delivery", [0.0, 1.0])];
/// let assigner = Assigner::new(&Catalogue::new(2, "", vec![], categories, None)?)?;
/// let found = assigner.assign(&[0.5, 2.0])?;
/// assert_eq!(found.id, CategoryId(1));
/// assert!(found.cosine > 0.97 && found.confidence > 0.99);
/// # Ok::<(), categories::CategoryError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Assigner {
    dim: usize,
    ids: Vec<CategoryId>,
    /// Unit length. `[active, dim]`
    centroids: Vec<f32>,
    coarse_names: Vec<String>,
    /// Candidates of each coarse class, ascending.
    gates: Vec<Vec<usize>>,
    threshold: Option<f32>,
    temperature: f32,
}

impl Assigner {
    /// Takes the active categories and the calibration of a catalogue.
    ///
    /// # Errors
    /// A catalogue that breaks a rule or has no active category.
    pub fn new(catalogue: &Catalogue) -> Result<Self, CategoryError> {
        catalogue.check()?;
        let active: Vec<_> = catalogue.active().collect();
        if active.is_empty() {
            return Err(invalid("categories", "at least one in use", "none"));
        }
        let mut centroids = Vec::with_capacity(active.len() * catalogue.dim);
        for category in &active {
            let length = length(&category.centroid);
            let unit = |&x: &f32| (f64::from(x) / length) as f32;
            centroids.extend(category.centroid.iter().map(unit));
        }
        let candidates = |coarse: &String| -> Vec<usize> {
            (0..active.len())
                .filter(|at| active[*at].coarse.as_ref().is_none_or(|own| own == coarse))
                .collect()
        };
        let calibration = catalogue.calibration.as_ref();
        Ok(Self {
            dim: catalogue.dim,
            ids: active.iter().map(|category| category.id).collect(),
            centroids,
            gates: catalogue.coarse_names.iter().map(candidates).collect(),
            coarse_names: catalogue.coarse_names.clone(),
            threshold: calibration.map(|calibration| calibration.threshold),
            temperature: calibration.map_or(DEFAULT_TEMPERATURE, |c| c.temperature),
        })
    }

    /// The gate of a coarse class: its own categories and those that span several classes.
    ///
    /// # Errors
    /// No class of this name, or one without categories in use.
    pub fn gate(&self, coarse: &str) -> Result<Gate, CategoryError> {
        let at = self.coarse_names.iter().position(|name| name == coarse);
        let at = at.ok_or_else(|| CategoryError::UnknownCoarse {
            name: coarse.to_owned(),
            nearest: most_similar(coarse, self.coarse_names.iter().map(String::as_str)),
        })?;
        if self.gates[at].is_empty() {
            return Err(invalid(
                "coarse class",
                "one with categories in use",
                coarse,
            ));
        }
        Ok(Gate(at))
    }

    /// Length of the vectors.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// The active categories, in the order of the columns of [`cosines`](Self::cosines).
    #[must_use]
    pub fn ids(&self) -> &[CategoryId] {
        &self.ids
    }

    /// Assigns one vector, of any length. `[dim]`
    ///
    /// # Errors
    /// A wrong number of values or one that is not finite.
    pub fn assign(&self, vector: &[f32]) -> Result<Assigned, CategoryError> {
        self.one(vector, None)
    }

    /// Assigns one vector among the candidates of a coarse class. `[dim]`
    ///
    /// # Errors
    /// As [`assign`](Self::assign); a gate of another catalogue.
    pub fn assign_in(&self, vector: &[f32], gate: Gate) -> Result<Assigned, CategoryError> {
        self.one(vector, Some(gate))
    }

    fn one(&self, vector: &[f32], gate: Option<Gate>) -> Result<Assigned, CategoryError> {
        if vector.len() != self.dim {
            let expected = format!("{} values", self.dim);
            return Err(invalid("vector", expected, vector.len()));
        }
        self.check(vector, &[gate])?;
        Ok(self.row(vector, gate, &mut Scratch::default()))
    }

    /// Assigns many vectors, of any length. `[n, dim]`, row-major
    ///
    /// # Errors
    /// Values that do not fill the rows, or one that is not finite.
    pub fn assign_many(&self, vectors: &[f32]) -> Result<Vec<Assigned>, CategoryError> {
        self.assign_many_in(vectors, &vec![None; vectors.len() / self.dim])
    }

    /// Assigns many vectors, each with or without a gate. `[gates.len(), dim]`, row-major
    ///
    /// # Errors
    /// As [`assign_many`](Self::assign_many); a gate of another catalogue.
    pub fn assign_many_in(
        &self,
        vectors: &[f32],
        gates: &[Option<Gate>],
    ) -> Result<Vec<Assigned>, CategoryError> {
        self.check(vectors, gates)?;
        let block = |(vectors, gates): (&[f32], &[Option<Gate>])| -> Vec<Assigned> {
            let mut scratch = Scratch::default();
            vectors
                .chunks_exact(self.dim)
                .zip(gates)
                .map(|(vector, gate)| self.row(vector, *gate, &mut scratch))
                .collect()
        };
        Ok(vectors
            .par_chunks(BLOCK * self.dim)
            .zip(gates.par_chunks(BLOCK))
            .flat_map_iter(block)
            .collect())
    }

    /// Cosines to all active categories, in the order of [`ids`](Self::ids). `[n, active]`, row-major
    ///
    /// # Errors
    /// As [`assign_many`](Self::assign_many).
    pub fn cosines(&self, vectors: &[f32]) -> Result<Vec<f32>, CategoryError> {
        self.check(vectors, &vec![None; vectors.len() / self.dim])?;
        let block = |vectors: &[f32]| -> Vec<f32> {
            let mut scratch = Scratch::default();
            let mut cosines = Vec::new();
            for vector in vectors.chunks_exact(self.dim) {
                self.compare(vector, None, &mut scratch);
                cosines.extend_from_slice(&scratch.cosines);
            }
            cosines
        };
        Ok(vectors
            .par_chunks(BLOCK * self.dim)
            .flat_map_iter(block)
            .collect())
    }

    fn check(&self, vectors: &[f32], gates: &[Option<Gate>]) -> Result<(), CategoryError> {
        if gates.len().checked_mul(self.dim) != Some(vectors.len()) {
            let expected = format!("{} rows of {} values", gates.len(), self.dim);
            return Err(invalid("vectors", expected, vectors.len()));
        }
        if let Some((at, value)) = vectors.iter().enumerate().find(|(_, x)| !x.is_finite()) {
            let field = format!("vectors[{}][{}]", at / self.dim, at % self.dim);
            return Err(invalid(field, "a finite value", value));
        }
        let foreign = |gate: &Gate| self.gates.get(gate.0).is_none_or(Vec::is_empty);
        if let Some(row) = gates
            .iter()
            .position(|gate| gate.as_ref().is_some_and(foreign))
        {
            let field = format!("gates[{row}]");
            return Err(invalid(field, "a gate of this assigner", "another"));
        }
        Ok(())
    }

    /// Cosines to the candidates, in their order; whether the vector has a direction.
    fn compare(&self, vector: &[f32], candidates: Option<&[usize]>, scratch: &mut Scratch) -> bool {
        let length = length(vector);
        let Scratch { unit, cosines } = scratch;
        unit.clear();
        cosines.clear();
        let directed = length > 0.0;
        // First the length, then the products: no finite vector overflows.
        unit.extend(vector.iter().map(|&x| match directed {
            true => (f64::from(x) / length) as f32,
            false => 0.0,
        }));
        let unit = unit.as_slice();
        let centroid = |at: usize| &self.centroids[at * self.dim..(at + 1) * self.dim];
        match candidates {
            Some(candidates) => {
                cosines.extend(candidates.iter().map(|at| dot(unit, centroid(*at))));
            }
            None => {
                let whole = self.ids.len() / TILE * TILE;
                for first in (0..whole).step_by(TILE) {
                    let tile = std::array::from_fn::<_, TILE, _>(|k| centroid(first + k));
                    cosines.extend(dots(unit, tile));
                }
                cosines.extend((whole..self.ids.len()).map(|at| dot(unit, centroid(at))));
            }
        }
        for cosine in cosines {
            *cosine = cosine.clamp(-1.0, 1.0);
        }
        directed
    }

    /// Assigns a checked vector.
    fn row(&self, vector: &[f32], gate: Option<Gate>, scratch: &mut Scratch) -> Assigned {
        let candidates = gate.map(|gate| self.gates[gate.0].as_slice());
        let directed = self.compare(vector, candidates, scratch);
        let cosines = scratch.cosines.as_slice();
        let id = |at: usize| self.ids[candidates.map_or(at, |candidates| candidates[at])];
        // Places of the two largest; the first of equals stays.
        let (mut best, mut second) = (0, None::<usize>);
        for (at, &cosine) in cosines.iter().enumerate().skip(1) {
            if cosine > cosines[best] {
                second = Some(best);
                best = at;
            } else if second.is_none_or(|second| cosine > cosines[second]) {
                second = Some(at);
            }
        }
        let top = cosines[best];
        let temperature = f64::from(self.temperature);
        let sum: f64 = cosines
            .iter()
            .map(|&cosine| (f64::from(cosine - top) / temperature).exp())
            .sum();
        Assigned {
            id: id(best),
            cosine: top,
            confidence: (1.0 / sum) as f32,
            unknown: !directed || self.threshold.is_some_and(|threshold| top < threshold),
            runner_up: second.map(|at| Near {
                id: id(at),
                cosine: cosines[at],
            }),
        }
    }
}

/// Memory that the rows of a block share.
#[derive(Default)]
struct Scratch {
    /// The vector with length 1.
    unit: Vec<f32>,
    cosines: Vec<f32>,
}
