//! Charts as SVG, and as tables.

use std::fmt::Write as _;

/// Distinct also to those who tell red from green badly (Okabe and Ito).
const COLOURS: [&str; 8] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#7f7f7f"];
const WIDTH: f64 = 840.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 560.0;
const TOP: f64 = 48.0;
const BOTTOM: f64 = 364.0;

/// What a number is of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Count,
    Bytes,
    Nanoseconds,
    NanosecondsPerByte,
    Percent,
}

impl Unit {
    pub(crate) fn show(self, value: f64) -> String {
        let (value, unit) = match self {
            Self::Count => return grouped(value),
            Self::Percent => (value, " %"),
            Self::NanosecondsPerByte => return format!("{value:.2}"),
            Self::Bytes if value >= 1e9 => (value / 1e9, " GB"),
            Self::Bytes if value >= 1e6 => (value / 1e6, " MB"),
            Self::Bytes if value >= 1e3 => (value / 1e3, " KB"),
            Self::Bytes => (value, " B"),
            Self::Nanoseconds if value >= 1e9 => (value / 1e9, " s"),
            Self::Nanoseconds if value >= 1e6 => (value / 1e6, " ms"),
            Self::Nanoseconds if value >= 1e3 => (value / 1e3, " µs"),
            Self::Nanoseconds => (value, " ns"),
        };
        let digits = if value < 9.95 && value.fract().abs() > 0.005 { 1 } else { 0 };
        format!("{value:.digits$}{unit}")
    }
}

fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

impl Series {
    /// The exponent of the power law that fits the last points best, over at least one decade. Fixed costs make it
    /// smaller at the beginning, so the end is what counts.
    pub(crate) fn exponent(&self) -> f64 {
        let end = self.points.last().map_or(0.0, |point| point.0);
        let from = self.points.iter().rposition(|point| point.0 <= end / 10.0).unwrap_or(0);
        let logs: Vec<(f64, f64)> = self.points[from..].iter().map(|(x, y)| (x.ln(), y.ln())).collect();
        let count = logs.len() as f64;
        let (x, y) = logs.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0 / count, sum.1 + point.1 / count));
        let across: f64 = logs.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
        across / logs.iter().map(|point| (point.0 - x).powi(2)).sum::<f64>()
    }
}

pub(crate) struct Chart {
    /// The name of the file.
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) x: (&'static str, Unit),
    pub(crate) y: (&'static str, Unit),
    /// Both axes are logarithmic, with a line of slope 1; else both are linear, from zero.
    pub(crate) is_log: bool,
    pub(crate) series: Vec<Series>,
}

impl Chart {
    pub(crate) fn table(&self) -> String {
        let mut xs: Vec<f64> =
            self.series.iter().flat_map(|series| series.points.iter().map(|point| point.0)).collect();
        xs.sort_by(f64::total_cmp);
        xs.dedup();
        let shared = self.series.iter().all(|series| series.points.len() == xs.len());
        let mut out = String::new();
        if shared {
            let heads: String = xs.iter().map(|x| format!(" {} |", self.x.1.show(*x))).collect();
            let exponent = if self.is_log { " exponent |" } else { "" };
            writeln!(out, "| {} |{heads}{exponent}", self.x.0).unwrap();
            let columns = xs.len() + usize::from(self.is_log);
            writeln!(out, "|---|{}", "---|".repeat(columns)).unwrap();
        } else {
            // Each series has sizes of its own.
            writeln!(out, "| | {} at {} | exponent |\n|---|---|---|", self.y.0, self.x.0).unwrap();
        }
        for series in &self.series {
            let cells: Vec<String> = series
                .points
                .iter()
                .map(|(x, y)| match shared {
                    true => self.y.1.show(*y),
                    false => format!("{} at {}", self.y.1.show(*y), self.x.1.show(*x)),
                })
                .collect();
            let cells = cells.join(if shared { " | " } else { ", " });
            let exponent = if self.is_log { format!(" {:.2} |", series.exponent()) } else { String::new() };
            writeln!(out, "| {} | {cells} |{exponent}", series.name).unwrap();
        }
        out
    }

    pub(crate) fn svg(&self) -> String {
        let all = || self.series.iter().flat_map(|series| &series.points);
        let range = |of: fn(&(f64, f64)) -> f64| {
            let (low, high) = all().map(of).fold((f64::MAX, 0.0_f64), |sum, v| (sum.0.min(v), sum.1.max(v)));
            match self.is_log {
                true => (10_f64.powf(low.log10().floor()), 10_f64.powf((high * 0.999).log10().ceil())),
                false => (0.0, nice(high)),
            }
        };
        let (x_range, y_range) = (range(|point| point.0), range(|point| point.1));
        let place = |value: f64, range: (f64, f64)| match self.is_log {
            true => (value / range.0).ln() / (range.1 / range.0).ln(),
            false => value / range.1,
        };
        let x = |value| LEFT + (RIGHT - LEFT) * place(value, x_range);
        let y = |value| BOTTOM - (BOTTOM - TOP) * place(value, y_range);
        let mut out = format!(
            r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12" fill="#222">
<rect width="{WIDTH}" height="{HEIGHT}" rx="6" fill="#fff"/>
<text x="{LEFT}" y="26" font-size="15" font-weight="bold">{}</text>
"##,
            self.title
        );
        for value in self.ticks(x_range) {
            let (at, label) = (x(value), self.x.1.show(value));
            writeln!(out, r##"<path d="M{at:.1} {TOP}V{BOTTOM}" stroke="#e4e4e4"/><text x="{at:.1}" y="{}" text-anchor="middle">{label}</text>"##, BOTTOM + 18.0).unwrap();
        }
        for value in self.ticks(y_range) {
            let (at, label) = (y(value), self.y.1.show(value));
            writeln!(out, r##"<path d="M{LEFT} {at:.1}H{RIGHT}" stroke="#e4e4e4"/><text x="{}" y="{:.1}" text-anchor="end">{label}</text>"##, LEFT - 6.0, at + 4.0).unwrap();
        }
        let middle = (TOP + BOTTOM) / 2.0;
        writeln!(
            out,
            r##"<path d="M{LEFT} {TOP}V{BOTTOM}H{RIGHT}" fill="none" stroke="#666"/>
<text x="{}" y="{}" text-anchor="middle">{}</text>
<text transform="translate(18 {middle})rotate(-90)" text-anchor="middle">{}</text>"##,
            (LEFT + RIGHT) / 2.0,
            HEIGHT - 18.0,
            self.x.0,
            self.y.0
        )
        .unwrap();
        if self.is_log && self.y.1 != Unit::NanosecondsPerByte {
            // As steep as what is proportional to x, through the end of the first series, as far as it fits.
            if let Some(&(end, height)) = self.series.first().and_then(|series| series.points.last()) {
                let from = (end * y_range.0 / height).max(x_range.0);
                let to = (end * y_range.1 / height).min(x_range.1);
                let (a, b) = (height * from / end, height * to / end);
                writeln!(
                    out,
                    r##"<path d="M{:.1} {:.1}L{:.1} {:.1}" stroke="#999" stroke-dasharray="5 5"/>"##,
                    x(from),
                    y(a),
                    x(to),
                    y(b)
                )
                .unwrap();
            }
        }
        let mut row = TOP + 6.0;
        for (at, series) in self.series.iter().enumerate() {
            let (colour, dash) = (COLOURS[at % 8], if at < 8 { "" } else { r#" stroke-dasharray="2 3""# });
            let line: Vec<String> =
                series.points.iter().map(|(px, py)| format!("{:.1},{:.1}", x(*px), y(*py))).collect();
            writeln!(
                out,
                r#"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>"#,
                line.join(" ")
            )
            .unwrap();
            for point in &line {
                let (px, py) = point.split_once(',').unwrap();
                write!(out, r#"<circle cx="{px}" cy="{py}" r="3" fill="{colour}"/>"#).unwrap();
            }
            let from = RIGHT + 14.0;
            writeln!(out, r#"<path d="M{from} {row}h18" stroke="{colour}" stroke-width="2"{dash}/><text x="{}" y="{}" font-size="11">{}</text>"#, from + 24.0, row + 4.0, series.name).unwrap();
            row += 17.0;
        }
        if self.is_log && self.y.1 != Unit::NanosecondsPerByte {
            writeln!(out, r##"<path d="M{} {row}h18" stroke="#999" stroke-dasharray="5 5"/><text x="{}" y="{}" font-size="11">proportional</text>"##, RIGHT + 14.0, RIGHT + 38.0, row + 4.0).unwrap();
        }
        out + "</svg>\n"
    }

    fn ticks(&self, (low, high): (f64, f64)) -> Vec<f64> {
        if !self.is_log {
            return (0..=5).map(|at| high * f64::from(at) / 5.0).collect();
        }
        let decades = (low.log10().round() as i32)..=(high.log10().round() as i32);
        decades.map(|decade| 10_f64.powi(decade)).collect()
    }
}

/// The next round number.
fn nice(value: f64) -> f64 {
    let decade = 10_f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|step| step * decade).find(|round| *round >= value * 0.999).unwrap_or(value)
}
