//! A score over time as an inline SVG: <https://www.w3.org/TR/SVG2/>.
//!
//! The chart carries its meaning in text as well: a title, a description, a label on every point.

use std::fmt::Write;

use super::html::Text;

/// One measured value.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// Day of the measurement, as days since 1970.
    pub day: i64,
    /// The same for people, for example `2 March 2026`.
    pub date: String,
    /// The value.
    pub value: f64,
}

/// A drawing of `points`, oldest first, on a scale from 0 to `top`. One point is drawn as a point;
/// no points give no drawing.
pub fn line_chart(label: &str, points: &[Point], top: f64) -> String {
    const WIDTH: f64 = 260.0;
    const HEIGHT: f64 = 96.0;
    const LEFT: f64 = 22.0;
    const RIGHT: f64 = 12.0;
    const TOP: f64 = 14.0;
    const BOTTOM: f64 = 20.0;
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return String::new() };
    let days = (last.day - first.day).max(1) as f64;
    let x = |point: &Point| {
        if points.len() == 1 {
            LEFT + (WIDTH - LEFT - RIGHT) / 2.0
        } else {
            LEFT + (point.day - first.day) as f64 / days * (WIDTH - LEFT - RIGHT)
        }
    };
    let y = |value: f64| TOP + (1.0 - value / top) * (HEIGHT - TOP - BOTTOM);
    let told: Vec<String> =
        points.iter().map(|point| format!("{} on {}", point.value, point.date)).collect();
    let mut svg = format!(
        r#"<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" xmlns="http://www.w3.org/2000/svg"><title>{}</title><desc>{}</desc>"#,
        Text(label),
        Text(&told.join(", ")),
    );
    for value in [0.0, top] {
        let at = y(value);
        let _ = write!(
            svg,
            r#"<line class="axis" x1="{LEFT}" y1="{at:.1}" x2="{:.1}" y2="{at:.1}"/><text class="tick" x="{:.1}" y="{:.1}">{value}</text>"#,
            WIDTH - RIGHT,
            LEFT - 5.0,
            at + 3.5,
        );
    }
    if points.len() > 1 {
        let line: Vec<String> =
            points.iter().map(|point| format!("{:.1},{:.1}", x(point), y(point.value))).collect();
        let _ = write!(svg, r#"<polyline class="line" points="{}"/>"#, line.join(" "));
    }
    for point in points {
        let (at_x, at_y) = (x(point), y(point.value));
        let _ = write!(
            svg,
            r#"<circle class="point" cx="{at_x:.1}" cy="{at_y:.1}" r="3.5"/><text class="value" x="{at_x:.1}" y="{:.1}">{}</text>"#,
            at_y - 6.5,
            point.value,
        );
    }
    let _ = write!(
        svg,
        r#"<text class="date first" x="{LEFT}" y="{0:.1}">{1}</text>"#,
        HEIGHT - 5.0,
        Text(&first.date),
    );
    if points.len() > 1 {
        let _ = write!(
            svg,
            r#"<text class="date last" x="{:.1}" y="{:.1}">{}</text>"#,
            WIDTH - RIGHT,
            HEIGHT - 5.0,
            Text(&last.date),
        );
    }
    svg.push_str("</svg>");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(day: i64, value: f64) -> Point {
        Point { day, date: format!("day {day}"), value }
    }

    #[test]
    fn every_point_is_drawn_and_told() {
        let svg = line_chart("Total <9>", &[point(0, 7.0), point(42, 3.0)], 9.0);
        assert_eq!(svg.matches("<circle").count(), 2);
        assert!(svg.contains("<desc>7 on day 0, 3 on day 42</desc>"), "{svg}");
        assert!(svg.contains("<title>Total &lt;9&gt;</title>"), "{svg}");
    }

    #[test]
    fn no_points_give_nothing_and_one_gives_no_line() {
        assert_eq!(line_chart("Total", &[], 9.0), "");
        assert!(!line_chart("Total", &[point(3, 0.0)], 9.0).contains("polyline"));
    }
}
