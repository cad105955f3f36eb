//! The categories a server predicts and edits.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use categories::{Assigner, Catalogue, CategoryError, Edit, Store, StoreError};

use crate::error::{ApiError, Kind};

/// Categories with what assigns texts to them. Readers keep the state they began with; an edit
/// replaces it as a whole.
#[derive(Debug)]
pub struct Taxonomy {
    /// `None`: nothing can be edited.
    store: Option<Mutex<Store>>,
    view: RwLock<Arc<View>>,
}

/// One state of the categories.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) catalogue: Catalogue,
    pub(crate) assigner: Assigner,
}

impl View {
    fn new(catalogue: &Catalogue) -> Result<Self, CategoryError> {
        Ok(Self {
            assigner: Assigner::new(catalogue)?,
            catalogue: catalogue.clone(),
        })
    }
}

/// Edits that clients can make.
pub(crate) enum Change {
    Edit(Edit),
    Undo,
}

impl Taxonomy {
    /// The categories of a run; edits go to its log.
    ///
    /// # Errors
    ///
    /// The catalogue has nothing to assign to.
    pub fn editable(store: Store) -> Result<Self, CategoryError> {
        Ok(Self {
            view: RwLock::new(Arc::new(View::new(store.catalogue())?)),
            store: Some(Mutex::new(store)),
        })
    }

    /// Categories that cannot be edited.
    ///
    /// # Errors
    ///
    /// The catalogue has nothing to assign to.
    pub fn fixed(catalogue: &Catalogue) -> Result<Self, CategoryError> {
        Ok(Self {
            store: None,
            view: RwLock::new(Arc::new(View::new(catalogue)?)),
        })
    }

    /// Dimensions of the centroids.
    pub fn dim(&self) -> usize {
        self.view().catalogue.dim
    }

    /// The present state.
    pub(crate) fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn is_editable(&self) -> bool {
        self.store.is_some()
    }

    /// Writes an edit to the disk and then shows it to everyone. Blocks.
    pub(crate) fn change(&self, change: Change) -> Result<Arc<View>, ApiError> {
        let Some(store) = &self.store else {
            return Err(ApiError::new(
                Kind::Conflict,
                "these categories cannot be edited: they are part of a model, or of a run that cannot \
                 be written",
            ));
        };
        let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = match change {
            Change::Edit(edit) => store.apply(edit),
            Change::Undo => store.undo(),
        };
        match outcome {
            Ok(_) => {}
            // The log has the edit, and so will everybody who opens the run.
            Err(error @ StoreError::Unpublished { .. }) => {
                tracing::warn!(%error, "an edit is in the log only");
            }
            Err(StoreError::Edit(error)) => return Err(refused(&error)),
            Err(error) => {
                tracing::error!(%error, "an edit was not stored");
                return Err(ApiError::new(Kind::Internal, "the edit was not stored"));
            }
        }
        let view = View::new(store.catalogue())
            .map(Arc::new)
            .map_err(|error| {
                tracing::error!(%error, "the edited categories cannot be used");
                ApiError::new(Kind::Internal, "the edited categories cannot be used")
            })?;
        // Still under the lock of the store, so that states appear in their order.
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&view);
        Ok(view)
    }
}

/// Says whose fault a refused edit is.
fn refused(error: &CategoryError) -> ApiError {
    let kind = match error {
        CategoryError::UnknownId { .. } => Kind::NotFound,
        CategoryError::Invalid { .. } => Kind::Invalid,
        _ => Kind::Conflict,
    };
    ApiError::new(kind, error.to_string())
}
