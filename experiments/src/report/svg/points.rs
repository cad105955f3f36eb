//! Labelled points over two axes.

use std::fmt::Write as _;

use super::{Axis, Frame, Svg, empty_note, escape, heading, legend_rows, number, palette, shorten};

/// Points over two linear axes, in groups.
#[derive(Debug, Clone, Default)]
pub struct PointChart {
    /// Heading.
    pub title: String,
    /// Name of the x axis.
    pub x_label: String,
    /// Name of the y axis.
    pub y_label: String,
    /// The groups, in the order of the legend.
    pub groups: Vec<PointGroup>,
}

/// Points of one colour.
#[derive(Debug, Clone, Default)]
pub struct PointGroup {
    /// Name in the legend.
    pub name: String,
    /// Drawn as open diamonds: figures to compare with.
    pub reference: bool,
    /// The points. One that is not finite is left out.
    pub points: Vec<LabelledPoint>,
}

/// One point.
#[derive(Debug, Clone, Default)]
pub struct LabelledPoint {
    /// Position on the x axis.
    pub x: f64,
    /// Position on the y axis.
    pub y: f64,
    /// Written beside the point; may be empty.
    pub label: String,
    /// Shown when the pointer rests on the point.
    pub hover: String,
}

impl PointChart {
    /// Draws the chart.
    pub fn render(&self) -> Svg {
        let (width, height) = (640.0, 420.0);
        let mut body = heading(&self.title, 16.0);
        let colours = palette(self.groups.len());
        let entries: Vec<(String, &str)> = self
            .groups
            .iter()
            .zip(&colours)
            .map(|(group, colour)| (group.name.clone(), colour.as_str()))
            .collect();
        let legend = legend_rows(&mut body, &entries, 64.0, 38.0, width - 16.0);
        let points = || {
            let grouped = self.groups.iter().zip(&colours);
            grouped
                .flat_map(|(group, colour)| group.points.iter().map(move |p| (group, colour, p)))
                .filter(|(_, _, point)| point.x.is_finite() && point.y.is_finite())
        };
        if points().next().is_none() {
            empty_note(&mut body, width, height);
        } else {
            let frame = Frame {
                left: 64.0,
                right: width - 18.0,
                top: 40.0 + legend,
                bottom: height - 46.0,
            };
            let x_axis = Axis::linear(points().map(|(_, _, point)| point.x), 8);
            let y_axis = Axis::linear(points().map(|(_, _, point)| point.y), 6);
            frame.draw(&mut body, &x_axis, &y_axis, &self.x_label, &self.y_label);
            for (group, colour, point) in points() {
                let (x, y) = (frame.x(&x_axis, point.x), frame.y(&y_axis, point.y));
                let mark = if group.reference {
                    format!(
                        "<path d=\"M{} {}l5 5l-5 5l-5 -5z\" fill=\"none\" stroke=\"{colour}\" \
                         stroke-width=\"1.5\">",
                        number(x),
                        number(y - 5.0),
                    )
                } else {
                    format!(
                        "<circle cx=\"{}\" cy=\"{}\" r=\"4.5\" fill=\"{colour}\" fill-opacity=\"0.85\">",
                        number(x),
                        number(y),
                    )
                };
                let close = if group.reference { "path" } else { "circle" };
                let _ = writeln!(
                    body,
                    "{mark}<title>{}</title></{close}>",
                    escape(&shorten(&point.hover, 160)),
                );
                if !point.label.is_empty() {
                    // Beside the point, on the side where there is room.
                    let right = x < frame.right - 100.0;
                    let (at, anchor) = if right {
                        (x + 8.0, "start")
                    } else {
                        (x - 8.0, "end")
                    };
                    let _ = writeln!(
                        body,
                        "<text class=\"soft\" font-size=\"10\" text-anchor=\"{anchor}\" x=\"{}\" \
                         y=\"{}\">{}</text>",
                        number(at),
                        number(y + 3.5),
                        escape(&shorten(&point.label, 28)),
                    );
                }
            }
        }
        Svg {
            width,
            height,
            title: self.title.clone(),
            body,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: &[(f64, f64)]) -> String {
        let point = |&(x, y): &(f64, f64)| LabelledPoint {
            x,
            y,
            label: "<b>".to_owned(),
            hover: "a & b".to_owned(),
        };
        let group = |reference| PointGroup {
            name: "\"group\"".to_owned(),
            reference,
            points: points.iter().map(point).collect(),
        };
        PointChart {
            title: "t".to_owned(),
            x_label: "x".to_owned(),
            y_label: "y".to_owned(),
            groups: vec![group(false), group(true)],
        }
        .render()
        .standalone()
    }

    #[test]
    fn every_finite_point_is_drawn_once_and_text_is_escaped() {
        let text = chart(&[(0.0, 1.0), (f64::NAN, 2.0), (0.5, 3.0)]);
        // The legend may have marks of its own.
        assert_eq!(text.matches("r=\"4.5\"").count(), 2);
        assert_eq!(text.matches("l5 5l-5 5l-5 -5z").count(), 2);
        assert_eq!(text.matches("&lt;b&gt;").count(), 4);
        assert!(!text.contains("<b>") && !text.contains("a & b"));
        assert!(!text.contains("NaN") && !text.contains("inf"));
    }

    #[test]
    fn nothing_to_draw_is_said() {
        let text = chart(&[(f64::NAN, 1.0)]);
        assert!(!text.contains("r=\"4.5\"") && text.contains("<text"));
        // One point, or all at one place.
        assert!(!chart(&[(2.0, 2.0)]).contains("NaN"));
    }
}
