//! Settings of a discovery.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::error::DiscoverError;
use crate::star_down::StarDownConfig;

/// Who makes the vectors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The encoder as it is.
    #[default]
    Frozen,
    /// The encoder after STAR-DOWN on the texts and their coarse labels.
    Trained,
}

/// How the number of categories is estimated where it is not given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Criterion {
    /// As `Silhouette`, among the K on which two halves of the texts agree.
    #[default]
    StableSilhouette,
    /// Smallest K whose mean silhouette is within one standard error of the best.
    Silhouette,
    /// Over-clustering, small clusters not counted.
    OverCluster,
}

impl Criterion {
    /// All, in the order of the documentation.
    pub const ALL: [Self; 3] = [Self::StableSilhouette, Self::Silhouette, Self::OverCluster];

    /// Name on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::StableSilhouette => "stable_silhouette",
            Self::Silhouette => "silhouette",
            Self::OverCluster => "over_cluster",
        }
    }
}

/// All settings of a discovery.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiscoverConfig {
    /// Files, directories or `pocket`.
    pub data: Vec<String>,
    /// Column of the text.
    pub text_column: String,
    /// Column of the coarse label.
    pub coarse_column: String,
    /// Column of the true fine label, for scores.
    pub fine_column: String,
    /// Model directory, or `pocket`.
    pub model: String,
    /// Who makes the vectors.
    pub mode: Mode,
    /// `flex`, `ndarray`, `wgpu[:i]`, `cuda[:i]` or `auto`.
    pub device: String,
    /// Seed of everything that is drawn.
    pub seed: u64,
    /// Cluster all texts together; otherwise inside each coarse class.
    pub across: bool,
    /// Categories in all; 0: not given.
    pub k: usize,
    /// How K is estimated where it is not given.
    pub estimate: Criterion,
    /// Largest K of an estimate in one class; 0: the root of its number of texts, at most 30
    /// (across classes at most 200).
    pub k_max: usize,
    /// Restarts of k-means.
    pub n_init: usize,
    /// Texts of an encoder batch.
    pub batch_size: usize,
    /// Keywords kept of each category.
    pub keywords: usize,
    /// Texts nearest the centre kept of each category.
    pub medoids: usize,
    /// Share of known texts that the unknown threshold has to keep.
    pub keep: f64,
    /// Smallest new category of an update.
    pub min_size: usize,
    /// Texts placed by t-SNE; the others stand beside their nearest neighbours. 0: no map.
    pub map_rows: usize,
    /// Categories of single coarse classes.
    pub k_of: BTreeMap<String, usize>,
    /// Settings of the training, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training: Option<StarDownConfig>,
}

impl Default for DiscoverConfig {
    fn default() -> Self {
        Self {
            data: Vec::new(),
            text_column: "text".to_owned(),
            coarse_column: "coarse".to_owned(),
            fine_column: "fine".to_owned(),
            model: "pocket".to_owned(),
            mode: Mode::Frozen,
            device: "auto".to_owned(),
            seed: 0,
            across: false,
            k: 0,
            estimate: Criterion::default(),
            k_max: 0,
            n_init: 10,
            batch_size: 64,
            keywords: 10,
            medoids: 8,
            keep: categories::DEFAULT_KEEP,
            min_size: 10,
            map_rows: 5000,
            k_of: BTreeMap::new(),
            training: None,
        }
    }
}

impl DiscoverConfig {
    /// Refuses settings that no discovery can have.
    ///
    /// # Errors
    /// [`DiscoverError::Option`].
    pub fn check(&self) -> Result<(), DiscoverError> {
        let bad = |option: &'static str, problem: String| DiscoverError::Option { option, problem };
        if self.k > 0 && !self.k_of.is_empty() {
            let problem = "either a number for all classes together, or numbers of single classes";
            return Err(bad("--k", problem.to_owned()));
        }
        if self.across && !self.k_of.is_empty() {
            let problem = "numbers of single classes mean nothing to --across";
            return Err(bad("--k", problem.to_owned()));
        }
        if let Some((name, _)) = self.k_of.iter().find(|(_, k)| **k == 0) {
            return Err(bad(
                "--k",
                format!("`{name}`: expected at least 1, found 0"),
            ));
        }
        if self.k_max == 1 {
            return Err(bad("--k-max", "expected at least 2, found 1".to_owned()));
        }
        if !(self.keep > 0.0 && self.keep <= 1.0) {
            let problem = format!(
                "expected a share above 0 and at most 1, found {}",
                self.keep
            );
            return Err(bad("--keep", problem));
        }
        if self.mode == Mode::Trained && self.training.is_none() {
            let problem = "settings of the training are missing";
            return Err(bad("--mode", problem.to_owned()));
        }
        for (option, value) in [
            ("--n-init", self.n_init),
            ("--batch-size", self.batch_size),
            ("--keywords", self.keywords),
            ("--medoids", self.medoids),
            ("--min-size", self.min_size),
        ] {
            if value == 0 {
                return Err(bad(option, "expected at least 1, found 0".to_owned()));
            }
        }
        Ok(())
    }
}

/// `--k` as given: a number for all, or `CLASS=N` several times or separated by commas.
///
/// ```
/// use experiments::discover::{DiscoverConfig, read_k};
/// let mut config = DiscoverConfig::default();
/// read_k(&mut config, &["banking=12,travel=9".to_owned()])?;
/// assert_eq!(config.k_of["travel"], 9);
/// read_k(&mut config, &["40".to_owned()])?;
/// assert_eq!(config.k, 40);
/// assert!(read_k(&mut config, &["many".to_owned()]).is_err());
/// # Ok::<(), experiments::discover::DiscoverError>(())
/// ```
///
/// # Errors
/// [`DiscoverError::Option`].
pub fn read_k(config: &mut DiscoverConfig, given: &[String]) -> Result<(), DiscoverError> {
    let bad = |found: &str| DiscoverError::Option {
        option: "--k",
        problem: format!("expected a number above 0 or CLASS=N, found `{found}`"),
    };
    let number = |text: &str| text.trim().parse::<usize>().ok().filter(|k| *k > 0);
    for part in given.iter().flat_map(|value| value.split(',')) {
        match part.rsplit_once('=') {
            Some((class, k)) => {
                let k = number(k).ok_or_else(|| bad(part))?;
                if config.k_of.insert(class.trim().to_owned(), k).is_some() {
                    return Err(DiscoverError::Option {
                        option: "--k",
                        problem: format!("`{}` twice", class.trim()),
                    });
                }
            }
            None if config.k > 0 => return Err(bad(part)),
            None => config.k = number(part).ok_or_else(|| bad(part))?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn problem(set: impl Fn(&mut DiscoverConfig)) -> String {
        let mut config = DiscoverConfig::default();
        assert!(config.check().is_ok());
        set(&mut config);
        config.check().unwrap_err().to_string()
    }

    #[test]
    fn settings_that_cannot_be_name_their_option() {
        let both = problem(|c| {
            c.k = 3;
            c.k_of.insert("a".to_owned(), 2);
        });
        assert!(both.starts_with("--k: either"), "{both}");
        let across = problem(|c| {
            c.across = true;
            c.k_of.insert("a".to_owned(), 2);
        });
        assert!(across.contains("--across"), "{across}");
        assert!(problem(|c| c.k_max = 1).starts_with("--k-max"));
        assert!(problem(|c| c.keep = f64::NAN).starts_with("--keep"));
        assert!(problem(|c| c.min_size = 0).starts_with("--min-size"));
    }

    #[test]
    fn numbers_of_classes_are_read_and_mistakes_refused() {
        let read = |given: &[&str]| {
            let mut config = DiscoverConfig::default();
            let given: Vec<String> = given.iter().map(|text| (*text).to_owned()).collect();
            read_k(&mut config, &given).map(|()| config)
        };
        let config = read(&["a b=3, c=x=4", "d=5"]).unwrap();
        let expected = [("a b", 3), ("c=x", 4), ("d", 5)];
        assert_eq!(
            config.k_of,
            expected.map(|(name, k)| (name.to_owned(), k)).into()
        );
        for wrong in [
            &["0"][..],
            &["a="],
            &["a=0"],
            &["a=b"],
            &["a=1,a=2"],
            &["3", "4"],
            &[""],
        ] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }
}
