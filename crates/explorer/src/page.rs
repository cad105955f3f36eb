//! The page: template, script, style, data, content policy.
//!
//! Script and style are plain files in `src/page/`, joined here. The data stands in a script element of
//! type `application/json`, which no browser runs; numbers are base64 of little-endian arrays.
//!
//! The content policy starts from nothing: it allows the one script and the one style by their
//! SHA-256, an icon in the page itself, and, for a page from a server, requests to that server. Trusted
//! types are required and none is defined, so that a browser that knows them refuses every attempt to
//! turn text into markup.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::error::ExplorerError;
use crate::explorer::{Category, Explorer, NONE, Names, Point};

const TEMPLATE: &str = include_str!("page/page.html");

/// Joined with line breaks, in this order.
const STYLES: [&str; 4] = [
    include_str!("page/theme.css"),
    include_str!("page/layout.css"),
    include_str!("page/controls.css"),
    include_str!("page/panel.css"),
];

/// Joined with line breaks, in this order; one module, so that all share one scope.
const SCRIPTS: [&str; 16] = [
    include_str!("page/dom.js"),
    include_str!("page/data.js"),
    include_str!("page/colour.js"),
    include_str!("page/catalogue.js"),
    include_str!("page/state.js"),
    include_str!("page/camera.js"),
    include_str!("page/points.js"),
    include_str!("page/legend.js"),
    include_str!("page/labels.js"),
    include_str!("page/map.js"),
    include_str!("page/list.js"),
    include_str!("page/panel.js"),
    include_str!("page/search.js"),
    include_str!("page/edit.js"),
    include_str!("page/compare.js"),
    include_str!("page/main.js"),
];

/// Characters of a text on the page.
const TEXT_LIMIT: usize = 2000;

/// Where the page will be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// From a file: edits stay in the page until they are saved as a list.
    File,
    /// From a server: edits go to its `categories` routes.
    Server,
}

impl Explorer {
    /// The page as one HTML document. Same data, same bytes.
    ///
    /// # Errors
    /// Those of [`check`](Explorer::check).
    pub fn page(&self, place: Place) -> Result<String, ExplorerError> {
        self.check()?;
        let style = STYLES.join("\n");
        let script = SCRIPTS.join("\n");
        let policy = policy(&style, &script, place);
        let title = escape_html(&self.title);
        let data = escape_json(&serde_json::to_string(&Data::new(self, place))?);
        let capacity = TEMPLATE.len() + style.len() + script.len() + data.len() + 1024;
        let mut page = String::with_capacity(capacity);
        // One pass from the left: what was filled in is never looked at again.
        let mut rest = TEMPLATE;
        while let Some((before, after)) = rest.split_once("{{") {
            page.push_str(before);
            let (name, after) = after.split_once("}}").unwrap_or((after, ""));
            page.push_str(match name {
                "policy" => &policy,
                "title" => &title,
                "style" => &style,
                "script" => &script,
                _ => &data,
            });
            rest = after;
        }
        page.push_str(rest);
        Ok(page)
    }
}

/// The content policy of a page with this style and script.
fn policy(style: &str, script: &str, place: Place) -> String {
    let hash = |content: &str| STANDARD.encode(Sha256::digest(content.as_bytes()));
    let connect = match place {
        Place::File => "'none'",
        Place::Server => "'self'",
    };
    format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; img-src data:; \
         connect-src {connect}; base-uri 'none'; form-action 'none'; \
         require-trusted-types-for 'script'; trusted-types 'none'",
        hash(script),
        hash(style),
    )
}

/// For text and double-quoted attributes.
fn escape_html(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // The one character that no HTML document may contain.
            '\0' => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Valid JSON stays the same value and can stand in a script element: outside strings JSON has none of
/// these characters.
fn escape_json(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' => escaped.push_str("\\u003c"),
            '>' => escaped.push_str("\\u003e"),
            '&' => escaped.push_str("\\u0026"),
            '\u{2028}' => escaped.push_str("\\u2028"),
            '\u{2029}' => escaped.push_str("\\u2029"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// What the script reads.
#[derive(Serialize)]
struct Data<'a> {
    schema: &'static str,
    title: &'a str,
    served: bool,
    revision: u64,
    next_id: u32,
    total: usize,
    coarse_names: Vec<&'a str>,
    fine_names: Vec<&'a str>,
    split_names: Vec<&'a str>,
    categories: Vec<CategoryData<'a>>,
    texts: Vec<&'a str>,
    x: String,
    y: String,
    category: String,
    coarse: String,
    fine: String,
    split: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    comparison: Option<ComparisonData<'a>>,
}

#[derive(Serialize)]
struct CategoryData<'a> {
    id: u32,
    name: &'a str,
    by_hand: bool,
    coarse: Option<&'a str>,
    keywords: &'a [(String, f64)],
    medoids: Vec<&'a str>,
    size: usize,
    coherence: Option<f64>,
    nearest: &'a [(u32, f32)],
}

#[derive(Serialize)]
struct ComparisonData<'a> {
    title: &'a str,
    categories: Vec<CounterpartData<'a>>,
    category: String,
}

#[derive(Serialize)]
struct CounterpartData<'a> {
    id: u32,
    name: &'a str,
    coarse: Option<&'a str>,
}

impl<'a> Data<'a> {
    fn new(explorer: &'a Explorer, place: Place) -> Self {
        let points = || explorer.points.iter();
        let coarse = Names::new(
            points()
                .map(|point| point.coarse.as_deref())
                .chain(explorer.categories.iter().map(|c| c.coarse.as_deref())),
        );
        let fine = Names::new(points().map(|point| point.fine.as_deref()));
        let split = Names::new(points().map(|point| point.split.as_deref()));
        let numbers = |of: &dyn Fn(&Point) -> u32| base64(points().map(|p| of(p).to_le_bytes()));
        Self {
            schema: "asterism/explorer/1",
            title: &explorer.title,
            served: place == Place::Server,
            revision: explorer.revision,
            next_id: explorer
                .categories
                .iter()
                .map(|category| category.id.saturating_add(1))
                .fold(explorer.next_id, u32::max),
            total: explorer.total.max(explorer.points.len()),
            categories: explorer.categories.iter().map(CategoryData::new).collect(),
            texts: points().map(|point| start(&point.text)).collect(),
            x: base64(points().map(|point| point.x.to_le_bytes())),
            y: base64(points().map(|point| point.y.to_le_bytes())),
            category: numbers(&|point| point.category),
            coarse: numbers(&|point| coarse.at(point.coarse.as_deref())),
            fine: numbers(&|point| fine.at(point.fine.as_deref())),
            split: numbers(&|point| split.at(point.split.as_deref())),
            coarse_names: coarse.list(),
            fine_names: fine.list(),
            split_names: split.list(),
            comparison: explorer.comparison.as_ref().map(|other| ComparisonData {
                title: &other.title,
                categories: other
                    .categories
                    .iter()
                    .map(|category| CounterpartData {
                        id: category.id,
                        name: &category.name,
                        coarse: category.coarse.as_deref(),
                    })
                    .collect(),
                category: base64(
                    other
                        .category
                        .iter()
                        .map(|id| id.unwrap_or(NONE).to_le_bytes()),
                ),
            }),
        }
    }
}

impl<'a> CategoryData<'a> {
    fn new(category: &'a Category) -> Self {
        Self {
            id: category.id,
            name: &category.name,
            by_hand: category.named_by_hand,
            coarse: category.coarse.as_deref(),
            keywords: &category.keywords,
            medoids: category.medoids.iter().map(|text| start(text)).collect(),
            size: category.size,
            coherence: category.coherence,
            nearest: &category.nearest,
        }
    }
}

/// The first characters of a text.
fn start(text: &str) -> &str {
    match text.char_indices().nth(TEXT_LIMIT) {
        Some((end, _)) => &text[..end],
        None => text,
    }
}

fn base64(values: impl Iterator<Item = [u8; 4]>) -> String {
    let bytes: Vec<u8> = values.flatten().collect();
    STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::comparison::{Comparison, Counterpart};
    use crate::error::ExplorerError;

    const HOSTILE: &str =
        "</script><script>x</script><!-- {{data}} {{script}} & \u{2028}\u{2029} \u{0} \"'";

    fn explorer() -> Explorer {
        Explorer {
            title: "runs <b>".to_owned(),
            revision: 4,
            next_id: 12,
            total: 9,
            points: vec![
                Point {
                    coarse: Some("b".to_owned()),
                    fine: Some("f".to_owned()),
                    split: Some("update-1".to_owned()),
                    ..Point::new(-1.5, 2.0, HOSTILE, 7)
                },
                Point::new(3.0, 0.25, "plain", 9),
            ],
            categories: vec![
                Category {
                    coarse: Some("a".to_owned()),
                    keywords: vec![(HOSTILE.to_owned(), 0.5)],
                    medoids: vec!["m".repeat(3000)],
                    size: 5,
                    coherence: Some(0.75),
                    nearest: vec![(9, 0.5)],
                    ..Category::new(7, HOSTILE)
                },
                Category::new(9, "nine"),
            ],
            comparison: Some(Comparison {
                title: "before".to_owned(),
                categories: vec![Counterpart {
                    id: 1,
                    name: "one".to_owned(),
                    coarse: None,
                }],
                category: vec![Some(1), None],
            }),
        }
    }

    fn between<'a>(page: &'a str, start: &str, end: &str) -> &'a str {
        let (_, rest) = page.split_once(start).unwrap();
        rest.split_once(end).unwrap().0
    }

    fn data(page: &str) -> Value {
        let json = between(
            page,
            "<script type=\"application/json\" id=\"data\">",
            "</script>",
        );
        serde_json::from_str(json).unwrap()
    }

    fn floats(value: &Value) -> Vec<f32> {
        let bytes = STANDARD.decode(value.as_str().unwrap()).unwrap();
        let chunks = bytes.chunks_exact(4);
        chunks
            .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
            .collect()
    }

    fn integers(value: &Value) -> Vec<u32> {
        floats(value).into_iter().map(f32::to_bits).collect()
    }

    #[test]
    fn the_data_of_the_page_are_the_data_given() {
        let data = data(&explorer().page(Place::File).unwrap());
        assert_eq!(data["texts"][0], HOSTILE);
        assert_eq!(data["title"], "runs <b>");
        assert_eq!((&data["revision"], &data["total"]), (&4.into(), &9.into()));
        assert_eq!(data["next_id"], 12);
        assert_eq!(floats(&data["x"]), [-1.5, 3.0]);
        assert_eq!(floats(&data["y"]), [2.0, 0.25]);
        assert_eq!(integers(&data["category"]), [7, 9]);
        // `a` is the coarse category of a category only.
        assert_eq!(data["coarse_names"], serde_json::json!(["a", "b"]));
        assert_eq!(integers(&data["coarse"]), [1, NONE]);
        assert_eq!(integers(&data["fine"]), [0, NONE]);
        assert_eq!(data["split_names"][0], "update-1");
        assert_eq!(data["categories"][0]["name"], HOSTILE);
        assert_eq!(data["categories"][0]["keywords"][0][0], HOSTILE);
        assert_eq!(
            data["categories"][0]["medoids"][0].as_str().unwrap().len(),
            TEXT_LIMIT
        );
        assert_eq!(integers(&data["comparison"]["category"]), [1, NONE]);
        let mut explorer = explorer();
        (explorer.comparison, explorer.total, explorer.next_id) = (None, 0, 0);
        let data = super::tests::data(&explorer.page(Place::File).unwrap());
        assert_eq!((&data["next_id"], &data["total"]), (&10.into(), &2.into()));
        assert_eq!(data["comparison"], Value::Null);
    }

    #[test]
    fn no_text_becomes_markup() {
        let page = explorer().page(Place::File).unwrap();
        assert_eq!(page.matches("<script").count(), 2);
        assert_eq!(page.matches("</script").count(), 2);
        assert!(!page.contains("<!--") && !page.contains("<b>") && !page.contains('\0'));
        assert!(!page.contains('\u{2028}') && !page.contains('\u{2029}'));
        assert!(page.contains("<title>runs &lt;b&gt; · Asterism</title>"));
        // Nothing of the template is left, and what texts say about it is not filled in.
        assert_eq!(
            page.matches("{{").count(),
            2 * page.matches("{{data}} {{script}}").count()
        );
    }

    #[test]
    fn the_policy_allows_this_script_and_this_style_only() {
        for (place, connect) in [(Place::File, "'none'"), (Place::Server, "'self'")] {
            let page = explorer().page(place).unwrap();
            let policy = between(&page, "Content-Security-Policy\" content=\"", "\"");
            let hash = |content: &str| STANDARD.encode(Sha256::digest(content));
            let script = hash(between(&page, "<script type=\"module\">", "</script>"));
            let style = hash(between(&page, "<style>", "</style>"));
            let rules: Vec<&str> = policy.split("; ").collect();
            assert!(rules.contains(&"default-src 'none'"));
            assert!(rules.contains(&format!("script-src 'sha256-{script}'").as_str()));
            assert!(rules.contains(&format!("style-src 'sha256-{style}'").as_str()));
            assert!(rules.contains(&format!("connect-src {connect}").as_str()));
            assert!(rules.contains(&"require-trusted-types-for 'script'"));
            assert!(
                !policy.contains("unsafe") && !policy.contains('*') && !policy.contains("http")
            );
            assert_eq!(data(&page)["served"], place == Place::Server);
        }
    }

    #[test]
    fn script_and_style_can_stand_in_a_page_and_name_no_other_place() {
        for content in STYLES.iter().chain(&SCRIPTS) {
            let low = content.to_lowercase();
            for word in [
                "</script",
                "</style",
                "<!--",
                "<script",
                "http:",
                "https:",
                "innerhtml",
                "eval(",
            ] {
                assert!(!low.contains(word), "{word}");
            }
        }
        // The name of the SVG format is not an address that is asked.
        assert!(
            !TEMPLATE
                .replace("http://www.w3.org/2000/svg", "")
                .contains("http:")
        );
        assert!(!TEMPLATE.contains(" style=") && !TEMPLATE.contains(" onclick="));
    }

    #[test]
    fn the_same_data_give_the_same_bytes() {
        let explorer = explorer();
        let page = explorer.page(Place::File).unwrap();
        assert_eq!(explorer.page(Place::File).unwrap(), page);
        // Around the data, script and style stay small.
        assert!(page.len() < 130_000, "{}", page.len());
    }

    #[test]
    fn what_cannot_be_shown_is_refused() {
        let error = |spoil: &dyn Fn(&mut Explorer)| {
            let mut explorer = explorer();
            spoil(&mut explorer);
            explorer.page(Place::File).unwrap_err()
        };
        let found = error(&|e| e.points.clear());
        assert!(matches!(found, ExplorerError::Empty), "{found}");
        let found = error(&|e| e.points[1].y = f32::NAN);
        assert!(
            matches!(found, ExplorerError::NotFinite { row: 1, .. }),
            "{found}"
        );
        let found = error(&|e| e.points[1].category = 8);
        assert!(
            matches!(found, ExplorerError::UnknownCategory { row: 1, id: 8 }),
            "{found}"
        );
        let found = error(&|e| e.categories[1].id = 7);
        assert!(matches!(found, ExplorerError::Twice { id: 7 }), "{found}");
        let found = error(&|e| e.comparison.as_mut().unwrap().category.push(None));
        assert!(
            matches!(
                found,
                ExplorerError::Comparison {
                    expected: 2,
                    found: 3
                }
            ),
            "{found}"
        );
        let found = error(&|e| e.comparison.as_mut().unwrap().category[1] = Some(5));
        assert!(
            matches!(found, ExplorerError::UnknownCounterpart { row: 1, id: 5 }),
            "{found}"
        );
    }

    proptest! {
        #[test]
        fn any_text_survives_and_stays_inside_its_element(text in any::<String>(), title in any::<String>()) {
            let mut explorer = explorer();
            explorer.points[1].text = text.clone();
            explorer.title = title.clone();
            let page = explorer.page(Place::File).unwrap();
            prop_assert_eq!(page.matches("<script").count(), 2);
            let data = data(&page);
            prop_assert_eq!(data["texts"][1].as_str(), Some(text.as_str()));
            prop_assert_eq!(data["title"].as_str(), Some(title.as_str()));
        }
    }
}
