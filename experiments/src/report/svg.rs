//! Charts as SVG text: lines, points, a heat map, bars with error bars.
//!
//! The output depends on the input alone (coordinates have one decimal), loads nothing, carries no
//! script, names no font beyond the generic families, and follows the reader's light or dark
//! scheme. Colours come in two sets: up to eight categories take the palette of Okabe and Ito
//! ("Color Universal Design", 2008; blue lightened, yellow and black replaced, so that all of them
//! show on a light and on a dark ground), more take hues a golden angle apart with alternating lightness.

mod points;

use std::collections::BTreeMap;
use std::fmt::Write as _;

pub use points::{LabelledPoint, PointChart, PointGroup};

/// Colours, in order of use, for up to eight categories.
const FEW: [&str; 8] = [
    "#1f7fc0", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a7f00", "#7f7f7f",
];

/// Series longer than this are drawn as means of equal slices of the x axis.
const MAX_POINTS: usize = 400;

/// Longest hover text in characters.
const HOVER_LENGTH: usize = 160;

/// Most categories that get a legend; beyond it labels stand in the picture.
const MAX_LEGEND: usize = 24;

/// Rules for a stand-alone file; inside a page the page's own rules apply.
const STYLE: &str = "svg{font-family:system-ui,-apple-system,\"Segoe UI\",sans-serif}\
.ground{fill:#fff}.ink{fill:#1c2128}.soft{fill:#59636e}.line{stroke:#59636e}.grid{stroke:#e3e6ea}\
.frame{stroke:#c4cad1}.halo{stroke:#fff}.mark{stroke:#1c2128}\
@media (prefers-color-scheme:dark){.ground{fill:#14171c}.ink{fill:#e6e9ee}.soft{fill:#9aa4b0}\
.line{stroke:#9aa4b0}.grid{stroke:#2a3038}.frame{stroke:#464e59}.halo{stroke:#14171c}\
.mark{stroke:#e6e9ee}}";

/// A finished drawing.
#[derive(Debug, Clone, PartialEq)]
pub struct Svg {
    /// Width in pixels at natural size.
    pub width: f64,
    /// Height in pixels at natural size.
    pub height: f64,
    title: String,
    body: String,
}

impl Svg {
    /// A file of its own: XML declaration, style rules and ground included.
    pub fn standalone(&self) -> String {
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{w}\" height=\"{h}\" \
             viewBox=\"0 0 {w} {h}\" role=\"img\" aria-label=\"{title}\">\n\
             <style>{STYLE}</style>\n<rect class=\"ground\" width=\"{w}\" height=\"{h}\"/>\n\
             {body}</svg>\n",
            w = number(self.width),
            h = number(self.height),
            title = escape(&self.title),
            body = self.body,
        )
    }

    /// An element for a page that defines the classes `ink`, `soft`, `line`, `grid`, `frame`,
    /// `halo` and `mark`.
    pub fn inline(&self) -> String {
        format!(
            "<svg class=\"chart\" width=\"{w}\" height=\"{h}\" viewBox=\"0 0 {w} {h}\" \
             role=\"img\" aria-label=\"{title}\">\n{body}</svg>",
            w = number(self.width),
            h = number(self.height),
            title = escape(&self.title),
            body = self.body,
        )
    }
}

// ---------------------------------------------------------------------------------------------
// Lines

/// Curves over a common x axis.
#[derive(Debug, Clone, Default)]
pub struct LineChart {
    /// Heading.
    pub title: String,
    /// Name of the x axis.
    pub x_label: String,
    /// Name of the y axis.
    pub y_label: String,
    /// The curves. Curves of one name share a colour and a legend entry.
    pub series: Vec<Series>,
    /// Logarithmic y axis; values that are not positive are then left out.
    pub log_y: bool,
}

/// One curve.
#[derive(Debug, Clone, Default)]
pub struct Series {
    /// Name in the legend.
    pub name: String,
    /// Points in ascending x. A point that is not finite is left out.
    pub points: Vec<(f64, f64)>,
}

impl LineChart {
    /// Whether the positive values span so much that a logarithmic axis reads better.
    pub fn prefers_log(series: &[Series]) -> bool {
        let values = || series.iter().flat_map(|s| &s.points).map(|p| p.1);
        let low = values().filter(|y| y.is_finite()).fold(f64::MAX, f64::min);
        let high = values().filter(|y| y.is_finite()).fold(f64::MIN, f64::max);
        low > 0.0 && high / low > 100.0
    }

    /// Draws the chart.
    pub fn render(&self) -> Svg {
        let (width, height) = (640.0, 360.0);
        let mut body = heading(&self.title, 16.0);
        let series: Vec<(&str, Vec<(f64, f64)>)> =
            self.series
                .iter()
                .map(|s| {
                    let usable = s.points.iter().copied().filter(|(x, y)| {
                        x.is_finite() && y.is_finite() && (!self.log_y || *y > 0.0)
                    });
                    (s.name.as_str(), thin(usable.collect()))
                })
                .collect();
        let mut names: Vec<(&str, usize)> = Vec::new();
        for (name, _) in &series {
            match names.iter_mut().find(|(known, _)| known == name) {
                Some((_, count)) => *count += 1,
                None => names.push((name, 1)),
            }
        }
        let palette = palette(names.len());
        let entries: Vec<(String, &str)> = names
            .iter()
            .zip(&palette)
            .map(|((name, count), colour)| {
                let label = if *count > 1 {
                    format!("{name} ({count} seeds)")
                } else {
                    (*name).to_owned()
                };
                (label, colour.as_str())
            })
            .collect();
        let legend_height = legend_rows(&mut body, &entries, 64.0, 38.0, width - 16.0);
        let frame = Frame {
            left: 64.0,
            right: width - 18.0,
            top: 40.0 + legend_height,
            bottom: height - 46.0,
        };
        let all = || series.iter().flat_map(|(_, points)| points.iter());
        if all().next().is_none() {
            empty_note(&mut body, width, height);
            return self.finish(width, height, body);
        }
        let x_axis = Axis::linear(all().map(|p| p.0), 6).tight(all().map(|p| p.0));
        let y_axis = if self.log_y {
            Axis::log(all().map(|p| p.1))
        } else {
            Axis::linear(all().map(|p| p.1), 6)
        };
        frame.draw(&mut body, &x_axis, &y_axis, &self.x_label, &self.y_label);
        for (name, points) in &series {
            let index = names.iter().position(|(known, _)| known == name);
            let (colour, several) = index
                .and_then(|i| Some((palette.get(i)?, names.get(i)?.1 > 1)))
                .map_or(("#7f7f7f", false), |(c, several)| (c.as_str(), several));
            let (stroke, opacity) = if several { (1.3, 0.8) } else { (1.8, 1.0) };
            // From the ninth curve on hue alone is not enough to tell neighbours apart.
            let dash = match index {
                Some(i) if i >= FEW.len() => " stroke-dasharray=\"5 3\"",
                _ => "",
            };
            let path: String = points
                .iter()
                .enumerate()
                .map(|(i, (x, y))| {
                    format!(
                        "{}{} {}",
                        if i == 0 { "M" } else { "L" },
                        number(frame.x(&x_axis, *x)),
                        number(frame.y(&y_axis, *y)),
                    )
                })
                .collect();
            if let ([(x, y)], true) = (points.as_slice(), !path.is_empty()) {
                let _ = writeln!(
                    body,
                    "<circle cx=\"{}\" cy=\"{}\" r=\"3\" fill=\"{colour}\"/>",
                    number(frame.x(&x_axis, *x)),
                    number(frame.y(&y_axis, *y)),
                );
            } else if !path.is_empty() {
                let _ = writeln!(
                    body,
                    "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{stroke}\" \
                     stroke-opacity=\"{opacity}\" stroke-linejoin=\"round\"{dash}>\
                     <title>{}</title></path>",
                    escape(name),
                );
            }
        }
        self.finish(width, height, body)
    }

    fn finish(&self, width: f64, height: f64, body: String) -> Svg {
        Svg {
            width,
            height,
            title: self.title.clone(),
            body,
        }
    }
}

/// Means over equal slices of x where there are more points than the picture can show.
fn thin(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    if points.len() <= MAX_POINTS {
        return points;
    }
    let size = points.len().div_ceil(MAX_POINTS);
    points
        .chunks(size)
        .map(|chunk| {
            let n = chunk.len() as f64;
            (
                chunk.iter().map(|p| p.0).sum::<f64>() / n,
                chunk.iter().map(|p| p.1).sum::<f64>() / n,
            )
        })
        .collect()
}

// ---------------------------------------------------------------------------------------------
// Points

/// Points in the plane, coloured by one of several partitions.
#[derive(Debug, Clone, Default)]
pub struct Scatter {
    /// Heading.
    pub title: String,
    /// Positions; a point that is not finite is left out.
    pub points: Vec<[f32; 2]>,
    /// The partitions to colour by.
    pub colourings: Vec<Colouring>,
    /// Text shown when the pointer rests on a point; may be shorter than `points`.
    pub hover: Vec<String>,
}

/// One partition of the points.
#[derive(Debug, Clone, Default)]
pub struct Colouring {
    /// Short word for identifiers, lower-case letters only.
    pub key: String,
    /// Category of every point.
    pub ids: Vec<usize>,
    /// Name of every category.
    pub names: Vec<String>,
}

/// Width and height of the plane itself, and where it begins.
const PLANE: f64 = 820.0;
const PLANE_HEIGHT: f64 = 640.0;
const PLANE_LEFT: f64 = 12.0;
const PLANE_TOP: f64 = 36.0;

impl Scatter {
    /// Draws the points coloured by the partition with number `which`.
    pub fn render(&self, which: usize) -> Svg {
        let mut body = heading(&self.title, PLANE_LEFT);
        let colouring = self.colourings.get(which);
        let colours = palette(colouring.map_or(0, |c| c.names.len()));
        let radius = self.radius();
        for (i, x, y) in self.placed() {
            let colour = colouring
                .and_then(|c| colours.get(*c.ids.get(i)?))
                .map_or("#7f7f7f", String::as_str);
            let _ = writeln!(
                body,
                "<circle cx=\"{}\" cy=\"{}\" r=\"{radius}\" fill=\"{colour}\" \
                 fill-opacity=\"0.8\">{}</circle>",
                number(x),
                number(y),
                self.hover_title(i),
            );
        }
        let mut width = PLANE + 2.0 * PLANE_LEFT;
        if let Some(colouring) = colouring {
            width += self.annotate(&mut body, colouring, &colours);
        }
        self.finish(width, body)
    }

    /// Draws the points once, with a class per partition and category (`key` and category number,
    /// for example `found3`), and the style rules that colour them by partition `p` when an input
    /// with the identifier `by-KEY` that precedes `.map` is checked. Needs no script.
    pub fn render_switchable(&self) -> (Svg, String) {
        let mut body = heading(&self.title, PLANE_LEFT);
        let radius = self.radius();
        body.push_str("<g class=\"points\" fill-opacity=\"0.8\">\n");
        for (i, x, y) in self.placed() {
            let classes: Vec<String> = self
                .colourings
                .iter()
                .filter_map(|c| Some(format!("{}{}", c.key, c.ids.get(i)?)))
                .collect();
            let _ = writeln!(
                body,
                "<circle class=\"{}\" cx=\"{}\" cy=\"{}\" r=\"{radius}\">{}</circle>",
                escape(&classes.join(" ")),
                number(x),
                number(y),
                self.hover_title(i),
            );
        }
        body.push_str("</g>\n");
        let mut css = String::new();
        let mut extra_width: f64 = 0.0;
        for colouring in &self.colourings {
            let key = &colouring.key;
            let colours = palette(colouring.names.len());
            let _ = writeln!(body, "<g class=\"only only-{}\">", escape(key));
            extra_width = extra_width.max(self.annotate(&mut body, colouring, &colours));
            body.push_str("</g>\n");
            let _ = writeln!(css, "#by-{key}:checked~.map .only-{key}{{display:inline}}");
            let mut used: Vec<usize> = colouring.ids.clone();
            used.sort_unstable();
            used.dedup();
            for id in used {
                if let Some(colour) = colours.get(id) {
                    let _ = writeln!(css, "#by-{key}:checked~.map .{key}{id}{{fill:{colour}}}");
                }
            }
        }
        let width = PLANE + 2.0 * PLANE_LEFT + extra_width;
        (self.finish(width, body), css)
    }

    fn finish(&self, width: f64, mut body: String) -> Svg {
        let height = PLANE_TOP + PLANE_HEIGHT + 12.0;
        if self.placed().next().is_none() {
            empty_note(&mut body, width, height);
        }
        Svg {
            width,
            height,
            title: self.title.clone(),
            body,
        }
    }

    fn radius(&self) -> &'static str {
        match self.points.len() {
            0..1500 => "3.2",
            1500..5000 => "2.4",
            _ => "1.6",
        }
    }

    /// Number and position of every finite point; both axes have one scale, so that distances
    /// mean the same in every direction.
    fn placed(&self) -> impl Iterator<Item = (usize, f64, f64)> + '_ {
        let finite = || {
            self.points.iter().enumerate().filter_map(|(i, [x, y])| {
                (x.is_finite() && y.is_finite()).then_some((i, f64::from(*x), f64::from(*y)))
            })
        };
        let bounds = |pick: fn((usize, f64, f64)) -> f64| {
            let low = finite().map(pick).fold(f64::MAX, f64::min);
            let high = finite().map(pick).fold(f64::MIN, f64::max);
            (low / 2.0 + high / 2.0, high - low)
        };
        let (middle_x, span_x) = bounds(|p| p.1);
        let (middle_y, span_y) = bounds(|p| p.2);
        // The smallest positive span only matters where all points coincide.
        let tiny = f64::from(f32::MIN_POSITIVE);
        let scale =
            ((PLANE - 24.0) / span_x.max(tiny)).min((PLANE_HEIGHT - 24.0) / span_y.max(tiny));
        finite().map(move |(i, x, y)| {
            (
                i,
                PLANE_LEFT + PLANE / 2.0 + (x - middle_x) * scale,
                // Up is larger, as in every other chart.
                PLANE_TOP + PLANE_HEIGHT / 2.0 - (y - middle_y) * scale,
            )
        })
    }

    fn hover_title(&self, i: usize) -> String {
        match self.hover.get(i) {
            Some(text) => format!("<title>{}</title>", escape(&shorten(text, HOVER_LENGTH))),
            None => String::new(),
        }
    }

    /// Legend or labels of one partition; returns the width that the legend takes.
    fn annotate(&self, body: &mut String, colouring: &Colouring, colours: &[String]) -> f64 {
        if colouring.names.len() <= MAX_LEGEND {
            let left = PLANE_LEFT + PLANE + 14.0;
            for (i, (name, colour)) in colouring.names.iter().zip(colours).enumerate() {
                let y = PLANE_TOP + 20.0 + 22.0 * i as f64;
                let _ = writeln!(
                    body,
                    "<circle cx=\"{}\" cy=\"{}\" r=\"5\" fill=\"{colour}\"/>\
                     <text class=\"ink\" x=\"{}\" y=\"{}\" font-size=\"13\">{}{}</text>",
                    number(left + 5.0),
                    number(y - 4.5),
                    number(left + 17.0),
                    number(y),
                    escape(&fit(name, 13.0, 150.0)),
                    full_name(name, 13.0, 150.0),
                );
            }
            return 180.0;
        }
        let mut members: BTreeMap<usize, [Vec<f64>; 2]> = BTreeMap::new();
        for (i, x, y) in self.placed() {
            if let Some(id) = colouring.ids.get(i) {
                let [xs, ys] = members.entry(*id).or_default();
                xs.push(x);
                ys.push(y);
            }
        }
        // Large categories are labelled first; a label that would cover another is left out, the
        // points still tell on hover.
        let mut order: Vec<(usize, [Vec<f64>; 2])> = members.into_iter().collect();
        order.sort_by_key(|(id, [xs, _])| (std::cmp::Reverse(xs.len()), *id));
        let mut taken: Vec<[f64; 4]> = Vec::new();
        for (id, [mut xs, mut ys]) in order {
            let Some(name) = colouring.names.get(id) else {
                continue;
            };
            let label = fit(name, 11.0, 110.0);
            let half = text_width(&label, 11.0) / 2.0 + 2.0;
            let right = PLANE_LEFT + PLANE;
            let x = median(&mut xs).clamp(PLANE_LEFT + half, (right - half).max(PLANE_LEFT + half));
            let y = median(&mut ys).max(PLANE_TOP + 12.0);
            let place = [x - half, y - 8.0, x + half, y + 5.0];
            let covered = taken
                .iter()
                .any(|t| place[0] < t[2] && t[0] < place[2] && place[1] < t[3] && t[1] < place[3]);
            if covered {
                continue;
            }
            taken.push(place);
            let _ = writeln!(
                body,
                "<text class=\"ink halo\" x=\"{}\" y=\"{}\" font-size=\"11\" font-weight=\"600\" \
                 text-anchor=\"middle\" paint-order=\"stroke\" stroke-width=\"3\" \
                 stroke-linejoin=\"round\" pointer-events=\"none\">{}</text>",
                number(x),
                number(y + 4.0),
                escape(&label),
            );
        }
        0.0
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

// ---------------------------------------------------------------------------------------------
// Heat map

/// Counts of rows against columns, shaded by the share within the row.
#[derive(Debug, Clone, Default)]
pub struct HeatMap {
    /// Heading.
    pub title: String,
    /// Name of every row.
    pub row_names: Vec<String>,
    /// Name of every column.
    pub column_names: Vec<String>,
    /// `[rows, columns]`; a missing cell counts as 0.
    pub counts: Vec<Vec<usize>>,
}

impl HeatMap {
    /// Draws the map. A row of zeros stays blank.
    ///
    /// ```
    /// use experiments::report::svg::HeatMap;
    /// let map = HeatMap {
    ///     title: "found against coarse".into(),
    ///     row_names: vec!["#0".into(), "#1".into()],
    ///     column_names: vec!["banking".into(), "travel".into()],
    ///     counts: vec![vec![9, 1], vec![0, 4]],
    /// };
    /// assert!(map.render().standalone().contains("#0 / banking: 9 of 10 (90.0 %)"));
    /// ```
    pub fn render(&self) -> Svg {
        let widest = |names: &[String], size: f64, most: f64| {
            names
                .iter()
                .map(|name| text_width(name, size))
                .fold(30.0, f64::max)
                .min(most)
        };
        let (rows, columns) = (self.row_names.len(), self.column_names.len());
        let (cell_height, size) = if rows > 40 {
            (15.0, 10.0)
        } else {
            (21.0, 12.0)
        };
        let cell_width = (620.0 / columns.max(1) as f64).clamp(14.0, 62.0);
        let name_width = widest(&self.row_names, size, 190.0);
        let longest = widest(&self.column_names, 12.0, 150.0);
        let flat = self
            .column_names
            .iter()
            .all(|name| text_width(name, 12.0) <= cell_width - 4.0);
        // Column names that do not fit rise at 45 degrees, which needs sin(45) of their length.
        let slanted = if flat { 0.0 } else { longest * 0.71 };
        let left = 16.0 + name_width + 8.0;
        let top = 56.0 + slanted;
        let right = left + cell_width * columns as f64;
        let bottom = top + cell_height * rows as f64;
        let width = (right + slanted + 16.0).max(360.0);
        let height = bottom + 52.0;
        let mut body = heading(&self.title, 16.0);
        for (j, name) in self.column_names.iter().enumerate() {
            let x = number(left + cell_width * (j as f64 + 0.5));
            let y = number(top - 7.0);
            let place = if flat {
                format!("x=\"{x}\" y=\"{y}\" text-anchor=\"middle\"")
            } else {
                format!("transform=\"translate({x} {y}) rotate(-45)\"")
            };
            let _ = writeln!(
                body,
                "<text class=\"ink\" font-size=\"12\" {place}>{}{}</text>",
                escape(&fit(name, 12.0, 150.0)),
                full_name(name, 12.0, 150.0),
            );
        }
        for (i, name) in self.row_names.iter().enumerate() {
            let y = top + cell_height * i as f64;
            let _ = writeln!(
                body,
                "<text class=\"ink\" font-size=\"{size}\" text-anchor=\"end\" x=\"{}\" y=\"{}\">\
                 {}{}</text>",
                number(left - 8.0),
                number(y + cell_height / 2.0 + size * 0.36),
                escape(&fit(name, size, 190.0)),
                full_name(name, size, 190.0),
            );
            let counts = self.counts.get(i).map_or(&[][..], Vec::as_slice);
            let total: usize = counts.iter().sum();
            for (j, column) in self.column_names.iter().enumerate() {
                let count = counts.get(j).copied().unwrap_or(0);
                if count == 0 {
                    continue;
                }
                let share = count as f64 / total as f64;
                let x = left + cell_width * j as f64;
                let _ = writeln!(
                    body,
                    "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"#0072b2\" \
                     fill-opacity=\"{:.3}\"><title>{}</title></rect>",
                    number(x + 0.5),
                    number(y + 0.5),
                    number(cell_width - 1.0),
                    number(cell_height - 1.0),
                    0.06 + 0.94 * share,
                    escape(&format!(
                        "{} / {}: {count} of {total} ({:.1} %)",
                        shorten(name, 60),
                        shorten(column, 60),
                        100.0 * share
                    )),
                );
                if cell_width >= 24.0 {
                    // Only on the darkest cells white reads better than ink in the light scheme.
                    let fill = if share > 0.72 {
                        "fill=\"#fff\""
                    } else {
                        "class=\"ink\""
                    };
                    let _ = writeln!(
                        body,
                        "<text {fill} font-size=\"{}\" text-anchor=\"middle\" x=\"{}\" y=\"{}\" \
                         pointer-events=\"none\">{:.0}</text>",
                        number(size - 1.0),
                        number(x + cell_width / 2.0),
                        number(y + cell_height / 2.0 + (size - 1.0) * 0.36),
                        100.0 * share,
                    );
                }
            }
        }
        let _ = writeln!(
            body,
            "<rect class=\"frame\" fill=\"none\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"/>",
            number(left),
            number(top),
            number(right - left),
            number(bottom - top),
        );
        self.scale(&mut body, left, bottom + 16.0);
        if rows == 0 || columns == 0 {
            empty_note(&mut body, width, height);
        }
        Svg {
            width,
            height,
            title: self.title.clone(),
            body,
        }
    }

    fn scale(&self, body: &mut String, left: f64, top: f64) {
        for step in 0..=10 {
            let share = f64::from(step) / 10.0;
            let _ = writeln!(
                body,
                "<rect x=\"{}\" y=\"{}\" width=\"15.0\" height=\"9.0\" fill=\"#0072b2\" \
                 fill-opacity=\"{:.3}\"/>",
                number(left + 34.0 + 15.0 * f64::from(step)),
                number(top),
                0.06 + 0.94 * share,
            );
        }
        let y = number(top + 8.5);
        let _ = writeln!(
            body,
            "<text class=\"soft\" font-size=\"11\" text-anchor=\"end\" x=\"{}\" y=\"{y}\">0 %</text>\
             <text class=\"soft\" font-size=\"11\" x=\"{}\" y=\"{y}\">100 % of the row</text>",
            number(left + 28.0),
            number(left + 34.0 + 171.0),
        );
    }
}

// ---------------------------------------------------------------------------------------------
// Bars

/// Groups of bars with error bars.
#[derive(Debug, Clone, Default)]
pub struct BarChart {
    /// Heading.
    pub title: String,
    /// Name of the y axis.
    pub y_label: String,
    /// Name of every group along x.
    pub groups: Vec<String>,
    /// The bars of every group, one series a colour.
    pub series: Vec<BarSeries>,
}

/// The bars of one colour.
#[derive(Debug, Clone, Default)]
pub struct BarSeries {
    /// Name in the legend.
    pub name: String,
    /// One entry a group; `None` where there is nothing to draw.
    pub bars: Vec<Option<Bar>>,
}

/// One bar.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Bar {
    /// Height; a bar that is not finite is left out.
    pub mean: f64,
    /// Half length of the error bar.
    pub std: Option<f64>,
    /// A figure of others, drawn as a diamond.
    pub reference: Option<f64>,
}

impl BarChart {
    /// Draws the chart; the axis always includes 0.
    pub fn render(&self) -> Svg {
        let count = self.groups.len().max(1) as f64;
        let bars = self.series.len().max(1) as f64;
        let group_width = (558.0 / count).max(bars * 26.0 + 18.0);
        let left = 64.0;
        let width = (left + group_width * count + 18.0).max(420.0);
        let slanted = self
            .groups
            .iter()
            .any(|name| text_width(name, 12.0) > group_width - 6.0);
        let label_width = self
            .groups
            .iter()
            .map(|name| text_width(name, 12.0))
            .fold(0.0, f64::max)
            .min(150.0);
        let label_height = if slanted {
            label_width * 0.71 + 14.0
        } else {
            22.0
        };
        let height = 330.0 + label_height;
        let mut body = heading(&self.title, 16.0);
        let colours = palette(self.series.len());
        let entries: Vec<(String, &str)> = self
            .series
            .iter()
            .zip(&colours)
            .map(|(series, colour)| (series.name.clone(), colour.as_str()))
            .collect();
        let drawn = || {
            let bars = self.series.iter().flat_map(|s| s.bars.iter().flatten());
            bars.filter(|bar| bar.mean.is_finite())
        };
        let has_reference = drawn().any(|bar| bar.reference.is_some());
        let legend_height = legend_rows(&mut body, &entries, left, 38.0, width - 16.0)
            + if has_reference {
                let y = 38.0 + legend_extent(&entries, left, width - 16.0);
                diamond(&mut body, left + 6.0, y + 7.0, "published");
                let _ = writeln!(
                    body,
                    "<text class=\"ink\" font-size=\"12\" x=\"{}\" y=\"{}\">published</text>",
                    number(left + 17.0),
                    number(y + 11.0),
                );
                19.0
            } else {
                0.0
            };
        if drawn().next().is_none() {
            empty_note(&mut body, width, height);
            return self.finish(width, height, body);
        }
        let frame = Frame {
            left,
            right: width - 18.0,
            top: 44.0 + legend_height,
            bottom: height - label_height - 10.0,
        };
        let reach = drawn().flat_map(|bar| {
            let std = bar.std.filter(|s| s.is_finite()).unwrap_or(0.0);
            let reference = bar.reference.filter(|r| r.is_finite());
            [
                0.0,
                bar.mean - std,
                bar.mean + std,
                reference.unwrap_or(0.0),
            ]
        });
        let axis = Axis::linear(reach, 6);
        frame.draw_y(&mut body, &axis, &self.y_label);
        let slot = (group_width - 22.0) / bars;
        let bar_width = (slot - 5.0).clamp(6.0, 46.0);
        for (g, name) in self.groups.iter().enumerate() {
            let start = left + group_width * g as f64 + 11.0;
            for ((s, series), colour) in self.series.iter().enumerate().zip(&colours) {
                let Some(Some(bar)) = series.bars.get(g) else {
                    continue;
                };
                if !bar.mean.is_finite() {
                    continue;
                }
                let x = start + slot * (s as f64 + 0.5);
                self.draw_bar(
                    &mut body,
                    &frame,
                    &axis,
                    bar,
                    [x, bar_width],
                    colour,
                    (g, s),
                );
            }
            let x = start + (group_width - 22.0) / 2.0;
            let place = if slanted {
                format!(
                    "transform=\"translate({} {}) rotate(-45)\" text-anchor=\"end\"",
                    number(x + 4.0),
                    number(frame.bottom + 14.0)
                )
            } else {
                format!(
                    "x=\"{}\" y=\"{}\" text-anchor=\"middle\"",
                    number(x),
                    number(frame.bottom + 18.0)
                )
            };
            let _ = writeln!(
                body,
                "<text class=\"ink\" font-size=\"12\" {place}>{}{}</text>",
                escape(&fit(name, 12.0, 150.0)),
                full_name(name, 12.0, 150.0),
            );
        }
        self.finish(width, height, body)
    }

    #[allow(clippy::too_many_arguments)]
    fn draw_bar(
        &self,
        body: &mut String,
        frame: &Frame,
        axis: &Axis,
        bar: &Bar,
        [x, width]: [f64; 2],
        colour: &str,
        (group, series): (usize, usize),
    ) {
        let zero = frame.y(axis, 0.0);
        let tip = frame.y(axis, bar.mean);
        let std = bar.std.filter(|s| s.is_finite());
        let names = [
            self.groups.get(group).map_or("", String::as_str),
            self.series.get(series).map_or("", |s| s.name.as_str()),
        ];
        let hover = match std {
            Some(std) => format!("{} {}: {:.2} ± {std:.2}", names[0], names[1], bar.mean),
            None => format!("{} {}: {:.2}", names[0], names[1], bar.mean),
        };
        let _ = writeln!(
            body,
            "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"{colour}\" rx=\"1.5\">\
             <title>{}</title></rect>",
            number(x - width / 2.0),
            number(zero.min(tip)),
            number(width),
            number((zero - tip).abs()),
            escape(&hover),
        );
        let mut highest = tip.min(zero);
        if let Some(std) = std {
            let (low, high) = (frame.y(axis, bar.mean - std), frame.y(axis, bar.mean + std));
            highest = highest.min(high);
            let _ = writeln!(
                body,
                "<path class=\"mark\" d=\"M{x} {low}V{high}M{a} {low}H{b}M{a} {high}H{b}\" \
                 fill=\"none\" stroke-width=\"1.3\"/>",
                x = number(x),
                low = number(low),
                high = number(high),
                a = number(x - 4.0),
                b = number(x + 4.0),
            );
        }
        if let Some(reference) = bar.reference.filter(|r| r.is_finite()) {
            let y = frame.y(axis, reference);
            diamond(body, x, y, &format!("published: {reference:.2}"));
            if y - 6.0 < highest + 2.0 && y > highest - 20.0 {
                highest = y - 6.0;
            }
        }
        if width >= 20.0 {
            let _ = writeln!(
                body,
                "<text class=\"ink\" font-size=\"11\" text-anchor=\"middle\" x=\"{}\" y=\"{}\">\
                 {:.1}</text>",
                number(x),
                number(highest - 4.0),
                bar.mean,
            );
        }
    }

    fn finish(&self, width: f64, height: f64, body: String) -> Svg {
        Svg {
            width,
            height,
            title: self.title.clone(),
            body,
        }
    }
}

fn diamond(body: &mut String, x: f64, y: f64, hover: &str) {
    let _ = writeln!(
        body,
        "<path class=\"mark\" d=\"M{} {}l5 5l-5 5l-5 -5z\" fill=\"#fff\" \
         stroke-width=\"1.4\"><title>{}</title></path>",
        number(x),
        number(y - 5.0),
        escape(hover),
    );
}

// ---------------------------------------------------------------------------------------------
// Axes

struct Frame {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

impl Frame {
    fn x(&self, axis: &Axis, value: f64) -> f64 {
        self.left + (self.right - self.left) * axis.share(value)
    }

    fn y(&self, axis: &Axis, value: f64) -> f64 {
        self.bottom - (self.bottom - self.top) * axis.share(value)
    }

    fn draw(&self, body: &mut String, x: &Axis, y: &Axis, x_label: &str, y_label: &str) {
        self.draw_y(body, y, y_label);
        for (value, label) in &x.ticks {
            let at = number(self.x(x, *value));
            let _ = writeln!(
                body,
                "<path class=\"line\" d=\"M{at} {}v4\"/>\
                 <text class=\"soft\" font-size=\"11\" text-anchor=\"middle\" x=\"{at}\" \
                 y=\"{}\">{}</text>",
                number(self.bottom),
                number(self.bottom + 17.0),
                escape(label),
            );
        }
        let _ = writeln!(
            body,
            "<text class=\"soft\" font-size=\"12\" text-anchor=\"middle\" x=\"{}\" y=\"{}\">{}\
             </text>",
            number((self.left + self.right) / 2.0),
            number(self.bottom + 36.0),
            escape(x_label),
        );
    }

    fn draw_y(&self, body: &mut String, axis: &Axis, label: &str) {
        for (value, label) in &axis.ticks {
            let at = self.y(axis, *value);
            let _ = writeln!(
                body,
                "<path class=\"grid\" d=\"M{} {}H{}\"/>\
                 <text class=\"soft\" font-size=\"11\" text-anchor=\"end\" x=\"{}\" y=\"{}\">{}\
                 </text>",
                number(self.left),
                number(at),
                number(self.right),
                number(self.left - 7.0),
                number(at + 4.0),
                escape(label),
            );
        }
        let middle = (self.top + self.bottom) / 2.0;
        let base = if axis.log {
            axis.low
        } else {
            0.0_f64.clamp(axis.low, axis.high)
        };
        let _ = writeln!(
            body,
            "<path class=\"line\" d=\"M{} {}H{}\"/>\
             <text class=\"soft\" font-size=\"12\" text-anchor=\"middle\" \
             transform=\"translate(18 {}) rotate(-90)\">{}</text>",
            number(self.left),
            number(self.y(axis, base)),
            number(self.right),
            number(middle),
            escape(label),
        );
    }
}

struct Axis {
    low: f64,
    high: f64,
    log: bool,
    ticks: Vec<(f64, String)>,
}

impl Axis {
    /// A linear axis from tick to tick around the finite values.
    fn linear(values: impl Iterator<Item = f64>, about: u32) -> Self {
        let (mut low, mut high) = range(values);
        if low == high {
            let pad = if low == 0.0 { 1.0 } else { low.abs() * 0.1 };
            low -= pad;
            high += pad;
        }
        let step = nice_step((high / f64::from(about)) - (low / f64::from(about)));
        let first = (low / step).floor();
        let last = (high / step).ceil();
        let count = (last - first).round().clamp(1.0, 40.0) as u32;
        let decimals = (-step.log10().floor()).clamp(0.0, 9.0) as usize;
        let ticks = (0..=count)
            .map(|i| {
                let value = (first + f64::from(i)) * step;
                (value, tick_label(value, decimals))
            })
            .collect();
        Self {
            low: first * step,
            high: last * step,
            log: false,
            ticks,
        }
    }

    /// The same ticks over just the range of the values.
    fn tight(mut self, values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = range(values);
        if low < high {
            // Steps are averaged or begin at 1; the origin is still where a reader looks first.
            let low = if low > 0.0 && low < 0.05 * high {
                0.0
            } else {
                low
            };
            (self.low, self.high) = (low, high);
            self.ticks
                .retain(|(value, _)| *value >= low && *value <= high);
        }
        self
    }

    /// A logarithmic axis around the positive values, with ticks at 1, 2 and 5 where few decades
    /// are spanned.
    fn log(values: impl Iterator<Item = f64>) -> Self {
        // The bounds leave room for the air, so that every number below is finite.
        let (low, high) = range(values.filter(|y| *y > 0.0));
        let (mut low, mut high) = (low.clamp(1e-250, 1e250), high.clamp(1e-250, 1e250));
        // Air above and below, 4 % of the span, at least a fifth of the value.
        let air = (0.04 * (high.ln() - low.ln())).exp().max(1.2);
        low /= air;
        high *= air;
        let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
        let every = ((last - first) / 8).max(1);
        let factors: &[f64] = if (high / low).log10() <= 3.0 {
            &[1.0, 2.0, 5.0]
        } else {
            &[1.0]
        };
        let ticks = (first..=last)
            .filter(|decade| (decade - first) % every == 0)
            .flat_map(|decade| factors.iter().map(move |f| (decade, f)))
            .map(|(decade, factor)| (factor * 10f64.powi(decade), decade))
            .filter(|(value, _)| *value >= low * 0.999 && *value <= high * 1.001)
            .map(|(value, decade)| {
                let label = if (-4..6).contains(&decade) {
                    tick_label(value, (-decade).max(0) as usize)
                } else {
                    format!("{value:.0e}")
                };
                (value, label)
            })
            .collect();
        Self {
            low,
            high,
            log: true,
            ticks,
        }
    }

    fn share(&self, value: f64) -> f64 {
        let share = if self.log {
            (value.ln() - self.low.ln()) / (self.high.ln() - self.low.ln())
        } else {
            // Halves, so that the difference of the two largest numbers does not overflow.
            (value / 2.0 - self.low / 2.0) / (self.high / 2.0 - self.low / 2.0)
        };
        if share.is_finite() { share } else { 0.0 }
    }
}

fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values
        .filter(|v| v.is_finite())
        .fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(v), h.max(v)));
    if low > high { (0.0, 1.0) } else { (low, high) }
}

/// The smallest of 1, 2, 5 times a power of ten that is not below `rough`.
fn nice_step(rough: f64) -> f64 {
    let power = 10f64.powf(rough.max(f64::MIN_POSITIVE).log10().floor());
    let scaled = rough / power;
    let factor = [1.0, 2.0, 5.0]
        .into_iter()
        .find(|f| scaled <= f * 1.000_001)
        .unwrap_or(10.0);
    let step = factor * power;
    if step.is_finite() && step > 0.0 {
        step
    } else {
        1.0
    }
}

fn tick_label(value: f64, decimals: usize) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let size = value.abs();
    if !(1e-9..1e9).contains(&size) {
        format!("{value:.1e}")
    } else if size >= 1e6 {
        format!("{}M", trimmed(value / 1e6))
    } else if size >= 1e4 {
        format!("{}k", trimmed(value / 1e3))
    } else {
        format!("{value:.decimals$}")
    }
}

fn trimmed(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

// ---------------------------------------------------------------------------------------------
// Text and colour

/// Colours for `count` categories, as `#rrggbb`.
pub fn palette(count: usize) -> Vec<String> {
    if count <= FEW.len() {
        return FEW.iter().take(count).map(|c| (*c).to_owned()).collect();
    }
    /// Turn between neighbours in degrees; no two of a few hundred hues coincide.
    const GOLDEN_ANGLE: f64 = 137.507_764;
    /// Lightness and chroma in turn; all read on white and on near-black.
    const LEVELS: [(f64, f64); 3] = [(0.64, 0.15), (0.54, 0.13), (0.73, 0.12)];
    (0..count)
        .map(|i| {
            let (lightness, chroma) = LEVELS.get(i % LEVELS.len()).copied().unwrap_or(LEVELS[0]);
            oklch(lightness, chroma, 250.0 + GOLDEN_ANGLE * i as f64)
        })
        .collect()
}

/// sRGB of a colour in Oklch (B. Ottosson, "A perceptual color space for image processing", 2020),
/// clipped to the gamut. `hue` in degrees.
fn oklch(lightness: f64, chroma: f64, hue: f64) -> String {
    let (a, b) = (
        chroma * hue.to_radians().cos(),
        chroma * hue.to_radians().sin(),
    );
    let l = (lightness + 0.396_337_777_4 * a + 0.215_803_757_3 * b).powi(3);
    let m = (lightness - 0.105_561_345_8 * a - 0.063_854_172_8 * b).powi(3);
    let s = (lightness - 0.089_484_177_5 * a - 1.291_485_548_0 * b).powi(3);
    let channel = |linear: f64| {
        let value = if linear <= 0.003_130_8 {
            12.92 * linear
        } else {
            1.055 * linear.powf(1.0 / 2.4) - 0.055
        };
        (value.clamp(0.0, 1.0) * 255.0).round() as u8
    };
    format!(
        "#{:02x}{:02x}{:02x}",
        channel(4.076_741_662_1 * l - 3.307_711_591_3 * m + 0.230_969_929_2 * s),
        channel(-1.268_438_004_6 * l + 2.609_757_401_1 * m - 0.341_319_396_5 * s),
        channel(-0.004_196_086_3 * l - 0.703_418_614_7 * m + 1.707_614_701_0 * s),
    )
}

/// Text for an XML or HTML element or a quoted attribute. Characters that XML 1.0 forbids become
/// U+FFFD.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\t' | '\n' | '\r' => out.push(' '),
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            _ => out.push(c),
        }
    }
    out
}

/// The first `length` characters, with an ellipsis where something was cut.
pub fn shorten(text: &str, length: usize) -> String {
    match text.char_indices().nth(length) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or(text).trim_end()),
        None => text.to_owned(),
    }
}

/// Estimated width in pixels of a line in a common sans-serif face.
fn text_width(text: &str, size: f64) -> f64 {
    let units: f64 = text
        .chars()
        .map(|c| match c {
            'i' | 'j' | 'l' | '.' | ',' | '\'' | '|' | ' ' | 'I' | 'f' | 't' | 'r' => 0.36,
            'm' | 'w' | 'M' | 'W' | '@' => 0.92,
            'A'..='Z' => 0.68,
            '\u{2e80}'.. => 1.05,
            _ => 0.57,
        })
        .sum();
    units * size
}

/// `text` cut to an estimated width.
fn fit(text: &str, size: f64, most: f64) -> String {
    if text_width(text, size) <= most {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut width = text_width("…", size);
    for c in text.chars() {
        width += text_width(c.encode_utf8(&mut [0; 4]), size);
        if width > most {
            break;
        }
        out.push(c);
    }
    format!("{}…", out.trim_end())
}

/// A hover title with the whole of a name that [`fit`] cut.
fn full_name(text: &str, size: f64, most: f64) -> String {
    if text_width(text, size) <= most {
        String::new()
    } else {
        format!("<title>{}</title>", escape(&shorten(text, HOVER_LENGTH)))
    }
}

/// A coordinate with one decimal and no negative zero.
fn number(value: f64) -> String {
    let rounded = (value * 10.0).round() / 10.0;
    if rounded == 0.0 || !rounded.is_finite() {
        "0".to_owned()
    } else {
        format!("{rounded:.1}")
    }
}

fn heading(title: &str, left: f64) -> String {
    format!(
        "<text class=\"ink\" font-size=\"15\" font-weight=\"600\" x=\"{}\" y=\"24.0\">{}</text>\n",
        number(left),
        escape(&fit(title, 15.0, 600.0)),
    )
}

fn empty_note(body: &mut String, width: f64, height: f64) {
    let _ = writeln!(
        body,
        "<text class=\"soft\" font-size=\"13\" text-anchor=\"middle\" x=\"{}\" y=\"{}\">\
         nothing to draw</text>",
        number(width / 2.0),
        number(height / 2.0),
    );
}

/// Positions of legend entries in rows that wrap, and the height they take.
fn legend_places(entries: &[(String, &str)], left: f64, right: f64) -> (Vec<(f64, f64)>, f64) {
    let (mut x, mut y) = (left, 0.0);
    let mut places = Vec::with_capacity(entries.len());
    for (label, _) in entries {
        let wide = 17.0 + text_width(&fit(label, 12.0, 240.0), 12.0) + 18.0;
        if x > left && x + wide > right {
            x = left;
            y += 19.0;
        }
        places.push((x, y));
        x += wide;
    }
    let height = if entries.is_empty() { 0.0 } else { y + 19.0 };
    (places, height)
}

fn legend_extent(entries: &[(String, &str)], left: f64, right: f64) -> f64 {
    legend_places(entries, left, right).1
}

/// Draws a legend and returns its height.
fn legend_rows(
    body: &mut String,
    entries: &[(String, &str)],
    left: f64,
    top: f64,
    right: f64,
) -> f64 {
    let (places, height) = legend_places(entries, left, right);
    for ((label, colour), (x, y)) in entries.iter().zip(places) {
        let _ = writeln!(
            body,
            "<rect x=\"{}\" y=\"{}\" width=\"12.0\" height=\"12.0\" rx=\"2\" fill=\"{colour}\"/>\
             <text class=\"ink\" font-size=\"12\" x=\"{}\" y=\"{}\">{}</text>",
            number(x),
            number(top + y + 1.0),
            number(x + 17.0),
            number(top + y + 11.0),
            escape(&fit(label, 12.0, 240.0)),
        );
    }
    height
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    /// Fails unless tags nest, attributes are quoted and no reserved character stands alone.
    fn assert_well_formed(xml: &str) {
        let mut rest = xml
            .strip_prefix("<?xml version=\"1.0\" encoding=\"UTF-8\"?>")
            .unwrap();
        let mut open: Vec<String> = Vec::new();
        while let Some(start) = rest.find('<') {
            let text = &rest[..start];
            for part in text.split('&').skip(1) {
                let name = part.split_once(';').unwrap().0;
                assert!(["amp", "lt", "gt", "quot", "#39"].contains(&name), "{name}");
            }
            assert!(
                !text.contains('>') || open.last().unwrap() == "style",
                "{text}"
            );
            let end = start + rest[start..].find('>').unwrap();
            let tag = &rest[start + 1..end];
            rest = &rest[end + 1..];
            assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
            assert!(
                !tag.contains('<') && !tag.contains("NaN") && !tag.contains("inf"),
                "{tag}"
            );
            let name = |tag: &str| tag.split([' ', '/']).next().unwrap().to_owned();
            if let Some(closed) = tag.strip_prefix('/') {
                assert_eq!(open.pop().unwrap(), closed);
            } else if !tag.ends_with('/') {
                open.push(name(tag));
            }
        }
        assert!(open.is_empty() && rest.trim().is_empty(), "{open:?} {rest}");
    }

    fn line(points: Vec<(f64, f64)>, log_y: bool) -> String {
        let series = vec![Series {
            name: "loss".into(),
            points,
        }];
        let chart = LineChart {
            title: "t".into(),
            x_label: "step".into(),
            y_label: "value".into(),
            series,
            log_y,
        };
        chart.render().standalone()
    }

    #[test]
    fn hostile_names_are_escaped_everywhere() {
        let evil = "<script>alert(\"1\")</script> & 'x' \u{0}\u{b}".to_owned();
        let series = vec![Series {
            name: evil.clone(),
            points: vec![(0.0, 1.0), (1.0, 2.0)],
        }];
        let drawings = [
            LineChart {
                title: evil.clone(),
                x_label: evil.clone(),
                y_label: evil.clone(),
                series,
                log_y: false,
            }
            .render(),
            HeatMap {
                title: evil.clone(),
                row_names: vec![evil.clone()],
                column_names: vec![evil.clone()],
                counts: vec![vec![3]],
            }
            .render(),
            BarChart {
                title: evil.clone(),
                y_label: evil.clone(),
                groups: vec![evil.clone()],
                series: vec![BarSeries {
                    name: evil.clone(),
                    bars: vec![Some(Bar {
                        mean: 1.0,
                        std: Some(0.1),
                        reference: Some(2.0),
                    })],
                }],
            }
            .render(),
            Scatter {
                title: evil.clone(),
                points: vec![[0.0, 0.0]],
                colourings: vec![Colouring {
                    key: "coarse".into(),
                    ids: vec![0],
                    names: vec![evil.clone()],
                }],
                hover: vec![evil.clone()],
            }
            .render(0),
        ];
        for drawing in drawings {
            let text = drawing.standalone();
            assert!(!text.contains("<script") && !text.contains('\0') && !text.contains('\u{b}'));
            assert!(text.contains("&lt;script&gt;"));
            assert_well_formed(&text);
        }
    }

    #[test]
    fn extreme_numbers_give_finite_coordinates() {
        let extremes = [
            vec![],
            vec![(0.0, f64::NAN), (f64::INFINITY, 1.0)],
            vec![(3.0, 5.0)],
            vec![(0.0, 2.0), (1.0, 2.0)],
            vec![(0.0, f64::MAX), (1.0, f64::MIN)],
            vec![(f64::MIN, f64::MIN_POSITIVE), (f64::MAX, f64::MAX)],
            vec![(0.0, -3.0), (1.0, 0.0)],
            vec![(0.0, 1e-300), (1.0, 3e-300)],
            vec![(1e15, 1e15), (1e15 + 1.0, 1e15 + 1.0)],
        ];
        for points in extremes {
            for log_y in [false, true] {
                assert_well_formed(&line(points.clone(), log_y));
            }
        }
        for xy in [[f32::MAX, f32::MIN], [f32::NAN, 0.0], [0.0, 0.0]] {
            let scatter = Scatter {
                points: vec![xy, [f32::MIN, f32::MAX], xy],
                ..Scatter::default()
            };
            assert_well_formed(&scatter.render(0).standalone());
        }
        let bars = [f64::NAN, f64::MAX, -1.0, 0.0].map(|mean| {
            Some(Bar {
                mean,
                std: Some(f64::INFINITY),
                reference: Some(f64::NAN),
            })
        });
        let chart = BarChart {
            groups: vec![String::new(); 4],
            series: vec![BarSeries {
                name: String::new(),
                bars: bars.to_vec(),
            }],
            ..BarChart::default()
        };
        assert_well_formed(&chart.render().standalone());
        assert_well_formed(&HeatMap::default().render().standalone());
    }

    #[test]
    fn a_line_goes_through_the_corners_of_its_frame() {
        // Ticks of 0..10 are 0, 2, ..., 10, so both ends lie on the frame.
        let text = line(vec![(0.0, 0.0), (10.0, 10.0)], false);
        assert!(text.contains("d=\"M64.0 314.0L622.0 59.0\""), "{text}");
    }

    #[test]
    fn long_curves_are_averaged_without_losing_their_mean() {
        let points: Vec<(f64, f64)> = (0..4000)
            .map(|i| (f64::from(i), f64::from(i % 7)))
            .collect();
        let mean = |p: &[(f64, f64)]| p.iter().map(|p| p.1).sum::<f64>() / p.len() as f64;
        let thinned = thin(points.clone());
        assert_eq!(thinned.len(), 400);
        assert!((mean(&points) - mean(&thinned)).abs() < 1e-9);
        assert_eq!(thin(points[..5].to_vec()), &points[..5]);
    }

    #[test]
    fn ticks_are_round_and_enclose_the_values() {
        let axis = Axis::linear([0.13, 0.87].into_iter(), 6);
        let labels: Vec<&str> = axis.ticks.iter().map(|t| t.1.as_str()).collect();
        assert_eq!(labels, ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        let axis = Axis::log([0.03, 40.0].into_iter());
        assert!(axis.low < 0.03 && axis.high > 40.0);
        assert!(axis.ticks.iter().any(|t| t.1 == "10"));
        assert!((axis.share((axis.low * axis.high).sqrt()) - 0.5).abs() < 1e-12);
        assert_eq!(tick_label(25_000.0, 0), "25k");
        assert_eq!(tick_label(-1_500_000.0, 0), "-1.5M");
    }

    #[test]
    fn palettes_have_no_repeats_and_are_valid() {
        for count in [0, 1, 8, 9, 64, 150] {
            let mut colours = palette(count);
            assert_eq!(colours.len(), count);
            for colour in &colours {
                assert!(colour.len() == 7 && u32::from_str_radix(&colour[1..], 16).is_ok());
            }
            colours.sort();
            colours.dedup();
            assert_eq!(colours.len(), count);
        }
        // Grey has equal channels; white and black are the ends of the scale.
        assert_eq!(oklch(1.0, 0.0, 0.0), "#ffffff");
        assert_eq!(oklch(0.0, 0.0, 0.0), "#000000");
    }

    #[test]
    fn palettes_show_on_light_and_dark_ground() {
        let luminance = |colour: &str| {
            let channel = |at: usize| {
                let c = f64::from(u8::from_str_radix(&colour[at..at + 2], 16).unwrap()) / 255.0;
                if c <= 0.04045 {
                    c / 12.92
                } else {
                    ((c + 0.055) / 1.055).powf(2.4)
                }
            };
            0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5)
        };
        for colour in palette(8).iter().chain(&palette(150)) {
            let own = luminance(colour) + 0.05;
            let (light, dark) = (1.05 / own, own / (luminance("#14171c") + 0.05));
            assert!(light > 2.0 && dark > 2.5, "{colour} {light:.2} {dark:.2}");
        }
    }

    #[test]
    fn labels_of_many_categories_do_not_overlap() {
        let points: Vec<[f32; 2]> = (0..300)
            .map(|i| [(i % 17) as f32, (i % 19) as f32])
            .collect();
        let colouring = Colouring {
            key: "found".into(),
            ids: (0..300).map(|i| i / 2).collect(),
            names: (0..150).map(|i| format!("category number {i}")).collect(),
        };
        let scatter = Scatter {
            points,
            colourings: vec![colouring],
            ..Scatter::default()
        };
        let (drawing, css) = scatter.render_switchable();
        assert_well_formed(&drawing.standalone());
        assert_eq!(css.lines().count(), 151);
        let places: Vec<(f64, f64)> = drawing
            .body
            .lines()
            .filter(|line| line.contains("text-anchor=\"middle\""))
            .map(|line| {
                let value = |name: &str| {
                    let rest = line.split_once(&format!(" {name}=\"")).unwrap().1;
                    rest.split_once('"').unwrap().0.parse::<f64>().unwrap()
                };
                (value("x"), value("y"))
            })
            .collect();
        assert!(places.len() > 10);
        for (i, a) in places.iter().enumerate() {
            for b in &places[..i] {
                assert!(
                    (a.0 - b.0).abs() > 40.0 || (a.1 - b.1).abs() > 12.0,
                    "{a:?} {b:?}"
                );
            }
        }
    }

    #[test]
    fn missing_labels_and_hover_texts_are_tolerated() {
        let scatter = Scatter {
            points: vec![[0.0, 0.0], [1.0, 1.0]],
            colourings: vec![Colouring {
                key: "found".into(),
                ids: vec![7],
                names: vec!["only".into()],
            }],
            ..Scatter::default()
        };
        assert_well_formed(&scatter.render(0).standalone());
        assert_well_formed(&scatter.render(9).standalone());
        assert_well_formed(&scatter.render_switchable().0.standalone());
    }

    #[test]
    fn text_is_cut_at_characters() {
        assert_eq!(shorten("äöü", 2), "äö…");
        assert_eq!(shorten("äöü", 3), "äöü");
        assert_eq!(shorten("a b", 2), "a…");
        let cut = fit(&"長い".repeat(50), 12.0, 100.0);
        assert!(text_width(&cut, 12.0) <= 100.0 && cut.ends_with('…'));
        assert_eq!(number(-0.04), "0");
        assert_eq!(number(-0.06), "-0.1");
    }
}
