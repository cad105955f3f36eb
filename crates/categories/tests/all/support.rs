//! Small catalogues.

use std::path::{Path, PathBuf};
use std::{fs, io};

use categories::file_layer::{DiskLayer, FileLayer};
use categories::{
    Catalogue, Category, CategoryId, Keyword, NameSource, NewCategory, SplitPart, Status, Store,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;

pub(crate) const DIM: usize = 3;

/// A random direction.
pub(crate) fn unit(seed: u64, dim: usize) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let vector: Vec<f64> = (0..dim).map(|_| rng.random_range(-1.0..1.0)).collect();
    let length = vector.iter().map(|x| x * x).sum::<f64>().sqrt();
    vector.iter().map(|x| (x / length) as f32).collect()
}

pub(crate) fn ids(ids: &[u32]) -> Vec<CategoryId> {
    ids.iter().copied().map(CategoryId).collect()
}

pub(crate) fn category(id: u32, name: &str, centroid: &[f32]) -> Category {
    Category {
        id: CategoryId(id),
        name: name.to_owned(),
        name_source: NameSource::Keywords,
        coarse: Some(if id < 3 { "bank" } else { "travel" }.to_owned()),
        keywords: vec![Keyword {
            term: name.to_owned(),
            weight: 1.0 + f64::from(id),
        }],
        medoids: vec![format!("first of {name}"), format!("second of {name}")],
        size: 10 * (id as usize + 1),
        coherence: 0.8,
        nearest: vec![],
        born: 1,
        status: Status::Active,
        centroid: centroid.to_vec(),
    }
}

/// `card lost`, `refund`, `transfer` in `bank`; `ticket`, `delay` in `travel`.
pub(crate) fn catalogue() -> Catalogue {
    let names = ["card lost", "refund", "transfer", "ticket", "delay"];
    let categories = (0_u32..).zip(names);
    let categories = categories
        .map(|(id, name)| category(id, name, &unit(u64::from(id), DIM)))
        .collect();
    let coarse = vec!["bank".to_owned(), "travel".to_owned()];
    Catalogue::new(DIM, "", coarse, categories, None).unwrap()
}

pub(crate) fn part(name: &str, seed: u64) -> SplitPart {
    SplitPart {
        size: 7,
        centroid: unit(seed, DIM),
        keywords: vec![],
        medoids: vec![format!("text of {name}")],
        coherence: 0.9,
        name: name.to_owned(),
        name_source: NameSource::Keywords,
    }
}

pub(crate) fn newborn(name: &str, coarse: &str, seed: u64) -> NewCategory {
    NewCategory {
        name: name.to_owned(),
        name_source: NameSource::Model,
        coarse: Some(coarse.to_owned()),
        keywords: vec![],
        medoids: vec![],
        size: 3,
        coherence: 0.7,
        centroid: unit(seed, DIM),
    }
}

/// The disk, without waiting for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quick;

impl FileLayer for Quick {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        DiskLayer.create_dir_all(path)
    }
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        DiskLayer.read(path)
    }
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        DiskLayer.write(path, bytes)
    }
    fn append(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        DiskLayer.append(path, bytes)
    }
    fn truncate(&self, path: &Path, length: u64) -> io::Result<()> {
        DiskLayer.truncate(path, length)
    }
    fn sync_file(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        DiskLayer.rename(from, to)
    }
}

/// A run directory with [`catalogue`].
pub(crate) struct Run(TempDir);

impl Run {
    pub(crate) fn new() -> (Self, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::create_with(Quick, dir.path(), catalogue()).unwrap();
        (Self(dir), store)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub(crate) fn log(&self) -> Vec<u8> {
        fs::read(self.file(categories::LOG_FILE)).unwrap()
    }

    pub(crate) fn json(&self) -> String {
        fs::read_to_string(self.file(categories::CATALOGUE_FILE)).unwrap()
    }
}

/// What a user sees: ids, names and evidence of the active categories.
pub(crate) fn view(catalogue: &Catalogue) -> Vec<Category> {
    catalogue.active().cloned().collect()
}

pub(crate) fn names(catalogue: &Catalogue) -> Vec<(u32, &str)> {
    catalogue
        .active()
        .map(|c| (c.id.0, c.name.as_str()))
        .collect()
}
