//! The published description of the routes, and the page made from it.

use std::fmt::Write as _;

use axum::http::HeaderValue;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};
use utoipa::OpenApi;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, ResponseBuilder};

use crate::error::{ErrorBody, Kind, OpenAiError, OpenAiErrorBody};
use crate::routes::{categories, inference, openai, predict, search, system};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Asterism",
        description = "Vectors and categories of texts. Unknown fields of requests are ignored. \
            Paths that do not exist answer 404."
    ),
    paths(
        openai::embeddings,
        openai::models,
        inference::embed,
        inference::similarity,
        predict::predict,
        search::search,
        categories::list,
        categories::one,
        categories::rename,
        categories::merge,
        categories::undo,
        system::live,
        system::ready,
        system::info,
        system::metrics,
        system::openapi,
        system::docs,
        system::explorer,
    ),
    components(schemas(ErrorBody, OpenAiErrorBody, OpenAiError))
)]
struct Description;

/// The description with the errors of every route.
pub(crate) fn document() -> utoipa::openapi::OpenApi {
    let mut document = Description::openapi();
    document.info.version = env!("CARGO_PKG_VERSION").to_owned();
    document.info.license = None;
    document.info.contact = None;
    let components = document.components.get_or_insert_default();
    components.add_security_scheme(
        "bearer",
        SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build()),
    );
    components.add_security_scheme(
        "x_api_key",
        SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("X-Api-Key"))),
    );
    for (path, item) in &mut document.paths.paths {
        if let Some(operation) = &mut item.get {
            add_errors(path, false, operation);
        }
        if let Some(operation) = &mut item.post {
            add_errors(path, true, operation);
        }
    }
    document
}

fn add_errors(path: &str, post: bool, operation: &mut Operation) {
    let mut errors = vec![
        (Kind::Forbidden, "Host or Origin of another site"),
        (Kind::Method, "Another method than the path has"),
        (Kind::HeadTooLarge, "The head is larger than 16 KiB"),
    ];
    let health = path.starts_with("/health/");
    if !health {
        errors.push((
            Kind::Unauthorized,
            "The server has a key and the request has not",
        ));
        operation.security = Some(vec![
            SecurityRequirement::default(),
            SecurityRequirement::new::<_, _, String>("bearer", []),
            SecurityRequirement::new::<_, _, String>("x_api_key", []),
        ]);
    }
    if post {
        errors.extend([
            (
                Kind::BadJson,
                "Not JSON, cut off, or nested more than 32 deep",
            ),
            (Kind::Timeout, "The body took longer than 10 s"),
            (Kind::MediaType, "Not application/json, or compressed"),
            (Kind::Invalid, "JSON, but not such a request"),
            (Kind::Overloaded, "Too many requests; see Retry-After"),
        ]);
    }
    let edit = post && path.starts_with("/categories");
    if edit {
        errors.extend([
            (Kind::TooLarge, "The body is larger than 2 MiB"),
            (
                Kind::Conflict,
                "The edit does not fit the categories as they are",
            ),
            (
                Kind::Internal,
                "The edit could not be stored and was not made",
            ),
        ]);
    } else if post {
        errors.extend([
            (
                Kind::TooLarge,
                "A body over 2 MiB, too many texts, or a text that is too long",
            ),
            (Kind::Internal, "The model failed"),
            (Kind::Unavailable, "The model is not ready; see Retry-After"),
        ]);
    }
    match path {
        "/predict" | "/search" | "/categories" | "/categories/merge" | "/categories/undo" => {
            errors.push((Kind::NotFound, "The server was started without a run"));
        }
        "/categories/{id}" | "/categories/{id}/rename" => {
            errors.push((Kind::NotFound, "No such category, or no run"));
        }
        "/explorer" => errors.extend([
            (Kind::NotFound, "The server was started without a run"),
            (Kind::Internal, "The page cannot be made"),
        ]),
        "/health/ready" => errors.push((Kind::Unavailable, "New requests should go elsewhere")),
        _ => {}
    }
    let schema = if path.starts_with("/v1/") {
        "OpenAiErrorBody"
    } else {
        "ErrorBody"
    };
    for (kind, description) in errors {
        let content = ContentBuilder::new()
            .schema(Some(Ref::from_schema_name(schema)))
            .build();
        let response = ResponseBuilder::new()
            .description(description)
            .content("application/json", content)
            .build();
        let status = kind.status().as_str().to_owned();
        operation
            .responses
            .responses
            .insert(status, RefOr::T(response));
    }
}

/// The document as clients get it.
pub(crate) fn json(document: &utoipa::openapi::OpenApi) -> String {
    document.to_json().unwrap_or_default()
}

const STYLE: &str = "\
:root{color-scheme:light dark}\
body{font:16px/1.5 system-ui,sans-serif;max-width:56rem;margin:2rem auto;padding:0 1rem}\
h2{margin-top:2.5rem;font-size:1.1rem}\
code{font-family:ui-monospace,monospace}\
.method{border:1px solid currentColor;border-radius:.3rem;padding:0 .4rem;margin-right:.5rem}\
table{border-collapse:collapse}\
td,th{text-align:left;padding:.15rem .8rem .15rem 0;vertical-align:top}";

/// A page about the routes: plain HTML, no script, nothing from elsewhere.
pub(crate) struct DocsPage {
    pub(crate) html: String,
    /// Content policy that allows the style of the page and nothing else.
    pub(crate) policy: HeaderValue,
}

impl DocsPage {
    pub(crate) fn new(document: &utoipa::openapi::OpenApi) -> Self {
        let mut html = format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title>\
             <style>{STYLE}</style></head><body>\n<h1>{title}</h1>\n<p>{about}</p>\n\
             <p>The same for programs: <a href=\"openapi.json\">openapi.json</a></p>\n",
            title = escaped(&document.info.title),
            about = escaped(document.info.description.as_deref().unwrap_or_default()),
        );
        for (path, item) in &document.paths.paths {
            for (method, operation) in [("GET", &item.get), ("POST", &item.post)] {
                if let Some(operation) = operation {
                    section(&mut html, method, path, operation);
                }
            }
        }
        html.push_str("</body></html>\n");
        let hash = STANDARD.encode(Sha256::digest(STYLE));
        let policy = format!(
            "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'; \
             frame-ancestors 'none'"
        );
        Self {
            html,
            policy: HeaderValue::try_from(policy)
                .unwrap_or(HeaderValue::from_static("default-src 'none'")),
        }
    }
}

fn section(html: &mut String, method: &str, path: &str, operation: &Operation) {
    let text = |text: &Option<String>| text.as_deref().unwrap_or_default().to_owned();
    let about = format!(
        "{} {}",
        text(&operation.summary),
        text(&operation.description)
    );
    let mut rows = String::new();
    for (status, response) in &operation.responses.responses {
        let description = match response {
            RefOr::T(response) => response.description.as_str(),
            RefOr::Ref(_) => "",
        };
        // Writing to a string cannot fail.
        let _ = write!(
            rows,
            "<tr><th>{}</th><td>{}</td></tr>",
            escaped(status),
            escaped(description)
        );
    }
    let _ = write!(
        html,
        "<h2><span class=\"method\">{method}</span><code>{}</code></h2>\n<p>{}</p>\n\
         <table>{rows}</table>\n",
        escaped(path),
        escaped(about.trim()),
    );
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_every_route_and_asks_for_nothing() {
        let document = document();
        let page = DocsPage::new(&document);
        for path in document.paths.paths.keys() {
            assert!(
                page.html.contains(&format!("<code>{path}</code>")),
                "{path}"
            );
        }
        for outside in [
            "http:", "https:", "<script", "<img", "<link", "@import", "url(",
        ] {
            assert!(!page.html.contains(outside), "{outside}");
        }
        assert!(
            page.policy
                .to_str()
                .is_ok_and(|text| text.contains("'sha256-"))
        );
    }
}
