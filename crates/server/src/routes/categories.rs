//! Looking at categories and correcting them.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use categories::{Category, CategoryId, Edit, NameSource, Status};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::predict::taxonomy;
use crate::app::App;
use crate::body::JsonBody;
use crate::error::{ApiError, Kind};
use crate::taxonomy::{Change, View};

/// All categories at one revision.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CategoriesBody {
    /// Grows by one with every edit.
    revision: u64,
    /// Whether the routes for edits work.
    editable: bool,
    /// Coarse classes.
    coarse_names: Vec<String>,
    /// By id; retired ones keep their place.
    categories: Vec<CategoryBody>,
}

/// A category with its evidence.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CategoryBody {
    /// Never changes its meaning.
    id: u32,
    name: String,
    /// Who named it.
    #[schema(value_type = String, example = "keywords")]
    name_source: NameSource,
    /// Coarse class, if it belongs to one.
    coarse: Option<String>,
    /// Terms that set it apart, best first.
    keywords: Vec<KeywordBody>,
    /// Texts nearest to the centre.
    medoids: Vec<String>,
    /// Number of texts.
    size: usize,
    /// Mean cosine between its texts and the centroid.
    coherence: f64,
    /// Nearest other categories.
    nearest: Vec<NearBody>,
    /// Revision at which it came up.
    born: u64,
    /// `active`, or what became of it: `{"merged": {"into": 9}}`, `{"split": {"into": [7, 8]}}`.
    #[schema(value_type = Object)]
    status: Status,
}

/// A term of a category.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KeywordBody {
    term: String,
    weight: f64,
}

/// A category nearby.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct NearBody {
    id: u32,
    /// Between the centroids.
    cosine: f32,
}

impl From<&Category> for CategoryBody {
    fn from(category: &Category) -> Self {
        Self {
            id: category.id.0,
            name: category.name.clone(),
            name_source: category.name_source,
            coarse: category.coarse.clone(),
            keywords: category
                .keywords
                .iter()
                .map(|keyword| KeywordBody {
                    term: keyword.term.clone(),
                    weight: keyword.weight,
                })
                .collect(),
            medoids: category.medoids.clone(),
            size: category.size,
            coherence: category.coherence,
            nearest: category
                .nearest
                .iter()
                .map(|near| NearBody {
                    id: near.id.0,
                    cosine: near.cosine,
                })
                .collect(),
            born: category.born,
            status: category.status.clone(),
        }
    }
}

/// All categories, the retired ones included.
#[utoipa::path(
    get, path = "/categories", tag = "categories",
    responses((status = 200, description = "Categories by id", body = CategoriesBody))
)]
pub(crate) async fn list(State(app): State<Arc<App>>) -> Result<Json<CategoriesBody>, ApiError> {
    let taxonomy = taxonomy(&app)?;
    let view = taxonomy.view();
    Ok(Json(CategoriesBody {
        revision: view.catalogue.revision,
        editable: taxonomy.is_editable(),
        coarse_names: view.catalogue.coarse_names.clone(),
        categories: view
            .catalogue
            .categories
            .iter()
            .map(CategoryBody::from)
            .collect(),
    }))
}

/// An id in a path. Anything else is no category.
fn parse(id: &str) -> Result<CategoryId, ApiError> {
    id.parse().map(CategoryId).map_err(|_| {
        let message = "a category is named by its id, a whole number";
        ApiError::new(Kind::NotFound, message)
    })
}

fn find(view: &View, id: CategoryId) -> Result<CategoryBody, ApiError> {
    let message = || format!("there is no category {}", id.0);
    let category = view.catalogue.get(id);
    category
        .map(CategoryBody::from)
        .ok_or_else(|| ApiError::new(Kind::NotFound, message()))
}

/// One category.
#[utoipa::path(
    get, path = "/categories/{id}", tag = "categories",
    params(("id" = u32, Path, description = "Id of the category")),
    responses((status = 200, description = "The category", body = CategoryBody))
)]
pub(crate) async fn one(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Json<CategoryBody>, ApiError> {
    let view = taxonomy(&app)?.view();
    find(&view, parse(&id)?).map(Json)
}

/// Request of a new name. Unknown fields are ignored.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct RenameRequest {
    /// Not the name of another active category.
    name: String,
}

/// Request of a merge. Unknown fields are ignored.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct MergeRequest {
    /// At least two active categories.
    ids: Vec<u32>,
    /// Name of the new category (default: that of the largest).
    #[serde(default)]
    name: Option<String>,
}

/// Request of an undo: an empty object.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct UndoRequest {}

/// What an edit led to.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EditBody {
    /// Revision after the edit.
    revision: u64,
    /// The category that the edit is about; null after an undo.
    category: Option<CategoryBody>,
}

async fn change(app: &Arc<App>, change: Change) -> Result<Arc<View>, ApiError> {
    let taxonomy = Arc::clone(taxonomy(app)?);
    // An edit waits for the disk. It is finished even if the client goes away.
    app.heavy(move || taxonomy.change(change)).await?
}

/// Gives a category another name.
#[utoipa::path(
    post, path = "/categories/{id}/rename", tag = "edits", request_body = RenameRequest,
    params(("id" = u32, Path, description = "Id of the category")),
    responses((status = 200, description = "Renamed", body = EditBody))
)]
pub(crate) async fn rename(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    body: JsonBody<RenameRequest, false>,
) -> Result<Json<EditBody>, ApiError> {
    let id = parse(&id)?;
    let edit = Edit::Rename {
        id,
        name: body.value.name,
        source: NameSource::Human,
    };
    let view = change(&app, Change::Edit(edit)).await?;
    Ok(Json(EditBody {
        revision: view.catalogue.revision,
        category: Some(find(&view, id)?),
    }))
}

/// Joins categories into a new one.
#[utoipa::path(
    post, path = "/categories/merge", tag = "edits", request_body = MergeRequest,
    responses((status = 200, description = "Merged; the new category", body = EditBody))
)]
pub(crate) async fn merge(
    State(app): State<Arc<App>>,
    body: JsonBody<MergeRequest, false>,
) -> Result<Json<EditBody>, ApiError> {
    let MergeRequest { ids, name } = body.value;
    let edit = Edit::Merge {
        ids: ids.into_iter().map(CategoryId).collect(),
        name,
    };
    let view = change(&app, Change::Edit(edit)).await?;
    // Ids grow, and this one is new.
    let category = view.catalogue.categories.last().map(CategoryBody::from);
    Ok(Json(EditBody {
        revision: view.catalogue.revision,
        category,
    }))
}

/// Takes the last edit back.
#[utoipa::path(
    post, path = "/categories/undo", tag = "edits", request_body = UndoRequest,
    responses((status = 200, description = "Undone", body = EditBody))
)]
pub(crate) async fn undo(
    State(app): State<Arc<App>>,
    _body: JsonBody<UndoRequest, false>,
) -> Result<Json<EditBody>, ApiError> {
    let view = change(&app, Change::Undo).await?;
    Ok(Json(EditBody {
        revision: view.catalogue.revision,
        category: None,
    }))
}
