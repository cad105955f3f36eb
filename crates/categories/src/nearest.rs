//! The nearest active categories of each active category.

use std::collections::BTreeSet;

use crate::catalogue::Catalogue;
use crate::category::{CategoryId, Near};
use crate::vector::cosine;

/// Entries of [`Category::nearest`](crate::Category::nearest).
const NEAREST: usize = 5;

impl Catalogue {
    /// Sets `nearest` of every category: the nearest five of the active ones, none for the others.
    pub(crate) fn fill_nearest(&mut self) {
        let all = self.categories.iter().map(|category| category.id).collect();
        self.refresh_nearest(&all);
    }

    /// Does what [`fill_nearest`](Self::fill_nearest) does, given the categories that came, went or
    /// moved since the lists were right.
    pub(crate) fn refresh_nearest(&mut self, moved: &BTreeSet<CategoryId>) {
        let lists: Vec<Vec<Near>> = self
            .categories
            .iter()
            .map(|category| {
                if !category.is_active() {
                    return Vec::new();
                }
                let near = |id: CategoryId| {
                    let other = self.get(id).filter(|other| other.is_active())?;
                    (id != category.id).then(|| Near {
                        id,
                        cosine: cosine(&category.centroid, &other.centroid),
                    })
                };
                let stale = moved.contains(&category.id)
                    || category.nearest.iter().any(|near| moved.contains(&near.id));
                let mut list: Vec<Near> = if stale {
                    self.active().filter_map(|other| near(other.id)).collect()
                } else {
                    let came = moved.iter().filter_map(|id| near(*id));
                    category.nearest.iter().copied().chain(came).collect()
                };
                list.sort_by(|a, b| b.cosine.total_cmp(&a.cosine).then(a.id.cmp(&b.id)));
                list.truncate(NEAREST);
                list
            })
            .collect();
        for (category, list) in self.categories.iter_mut().zip(lists) {
            category.nearest = list;
        }
    }
}
