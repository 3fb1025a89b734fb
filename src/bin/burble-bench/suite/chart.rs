//! A chart of lines as SVG. Pure: no I/O. Its colours can be read on light and on dark pages, and it has no background.

use std::fmt::Write;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 380.0;
/// Around the plot: for the labels of the axes, and for the legend on the right.
const LEFT: f64 = 70.0;
const RIGHT: f64 = 170.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;
const TEXT: &str = "#7d8590";
const GRID: &str = "#7d859055";
const COLOURS: [&str; 6] = ["#2f81f7", "#db6d28", "#3fa34d", "#a371f7", "#d1242f", "#9a6700"];
/// Marks on a linear axis.
const MARKS: u32 = 5;

/// What is drawn.
pub(crate) struct Chart {
    pub(crate) title: String,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) series: Vec<Series>,
}

/// What an axis shows.
pub(crate) struct Axis {
    pub(crate) label: &'static str,
    pub(crate) scale: AxisScale,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum AxisScale {
    /// From zero.
    Linear,
    /// What is not above zero is left out.
    Log,
}

/// A line, from left to right.
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

impl Chart {
    /// The document.
    pub(crate) fn svg(&self) -> String {
        let mut svg = String::new();
        let points = || self.series.iter().flat_map(|series| &series.points);
        let x = Ruler::new(self.x.scale, points().map(|(x, _)| *x), LEFT, WIDTH - RIGHT);
        let y = Ruler::new(self.y.scale, points().map(|(_, y)| *y), HEIGHT - BOTTOM, TOP);
        let _ = writeln!(
            svg,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
             font-family=\"sans-serif\" font-size=\"12\" fill=\"{TEXT}\">\n<title>{title}</title>\n\
             <text x=\"{LEFT}\" y=\"20\" font-size=\"15\">{title}</text>",
            title = escaped(&self.title)
        );
        self.axes(&mut svg, &x, &y);
        for (series, colour) in self.series.iter().zip(COLOURS.iter().cycle()) {
            series.draw(&mut svg, &x, &y, colour);
        }
        self.legend(&mut svg);
        svg.push_str("</svg>\n");
        svg
    }

    fn axes(&self, svg: &mut String, x: &Ruler, y: &Ruler) {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for mark in x.marks() {
            let (at, text) = (x.at(mark), short(mark));
            let _ = writeln!(svg, "<path d=\"M{at:.1} {TOP}V{bottom}\" stroke=\"{GRID}\"/>");
            let _ = writeln!(svg, "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{text}</text>", bottom + 18.0);
        }
        for mark in y.marks() {
            let (at, text) = (y.at(mark), short(mark));
            let _ = writeln!(svg, "<path d=\"M{LEFT} {at:.1}H{right}\" stroke=\"{GRID}\"/>");
            let (text_x, text_y) = (LEFT - 8.0, at + 4.0);
            let _ = writeln!(svg, "<text x=\"{text_x}\" y=\"{text_y:.1}\" text-anchor=\"end\">{text}</text>");
        }
        let (middle_x, middle_y) = (f64::midpoint(LEFT, right), f64::midpoint(TOP, bottom));
        let _ = writeln!(
            svg,
            "<text x=\"{middle_x}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n\
             <text transform=\"translate(16 {middle_y}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            HEIGHT - 12.0,
            escaped(self.x.label),
            escaped(self.y.label)
        );
    }

    fn legend(&self, svg: &mut String) {
        let x = WIDTH - RIGHT + 16.0;
        let mut y = TOP + 8.0;
        for (series, colour) in self.series.iter().zip(COLOURS.iter().cycle()) {
            let _ = writeln!(
                svg,
                "<path d=\"M{x} {y}h18\" stroke=\"{colour}\" stroke-width=\"2\"/>\
                 <text x=\"{}\" y=\"{}\">{}</text>",
                x + 24.0,
                y + 4.0,
                escaped(&series.name)
            );
            y += 20.0;
        }
    }
}

impl Series {
    fn draw(&self, svg: &mut String, x: &Ruler, y: &Ruler, colour: &str) {
        let shown = self.points.iter().filter(|(at_x, at_y)| x.shows(*at_x) && y.shows(*at_y));
        let places: Vec<(f64, f64)> = shown.map(|(at_x, at_y)| (x.at(*at_x), y.at(*at_y))).collect();
        let line: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            line.join(" ")
        );
        for (x, y) in places {
            let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>");
        }
    }
}

/// Where values stand along an axis.
struct Ruler {
    scale: AxisScale,
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Ruler {
    /// Over all of the values; a logarithmic one over whole decades.
    fn new(scale: AxisScale, values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let shown = values.filter(|value| value.is_finite() && (scale == AxisScale::Linear || *value > 0.0));
        let (low, high) = shown.fold((f64::INFINITY, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
        let (low, high) = match scale {
            AxisScale::Linear => (0.0, round_up(high)),
            AxisScale::Log if low.is_finite() => (10_f64.powf(low.log10().floor()), 10_f64.powf(high.log10().ceil())),
            AxisScale::Log => (1.0, 10.0),
        };
        let high = if high > low { high } else { low * 10.0 };
        Self { scale, low, high, from, to }
    }

    fn shows(&self, value: f64) -> bool {
        value.is_finite() && value >= self.low && value <= self.high
    }

    fn at(&self, value: f64) -> f64 {
        let part = match self.scale {
            AxisScale::Linear => (value - self.low) / (self.high - self.low),
            AxisScale::Log => (value / self.low).log10() / (self.high / self.low).log10(),
        };
        self.from + (self.to - self.from) * part
    }

    fn marks(&self) -> Vec<f64> {
        match self.scale {
            AxisScale::Linear => (0..=MARKS).map(|mark| self.high * f64::from(mark) / f64::from(MARKS)).collect(),
            AxisScale::Log => {
                let decades = std::iter::successors(Some(self.low), |mark| Some(mark * 10.0));
                decades.take_while(|mark| *mark <= self.high * 1.001).collect()
            }
        }
    }
}

/// To 1, 2, 2.5 or 5 times a power of ten.
fn round_up(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let decade = 10_f64.powf(value.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().find(|step| step * decade >= value);
    step.unwrap_or(10.0) * decade
}

/// `1500000` as `1.5 M`.
fn short(value: f64) -> String {
    let (value, unit) = match value {
        large if large >= 1e6 => (large / 1e6, " M"),
        middle if middle >= 1e4 => (middle / 1e3, " k"),
        small => (small, ""),
    };
    let text = format!("{value:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text}{unit}")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(scale: AxisScale, points: Vec<(f64, f64)>) -> Chart {
        let series = vec![Series { name: "a < b & c".into(), points }, Series { name: "none".into(), points: vec![] }];
        Chart { title: "p99 > p50".into(), x: Axis { label: "x", scale }, y: Axis { label: "y", scale }, series }
    }

    /// Every element is closed in its order, every attribute is quoted, and no text holds what is markup.
    fn assert_well_formed(svg: &str) {
        let mut open = Vec::new();
        for piece in svg.split('<').skip(1) {
            let (tag, text) = piece.split_once('>').expect("a tag ends");
            assert!(!text.contains('>'), "{piece}");
            assert!(
                text.split('&')
                    .skip(1)
                    .all(|rest| rest.starts_with("amp;") || rest.starts_with("lt;") || rest.starts_with("gt;"))
            );
            assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
            match tag.strip_prefix('/') {
                Some(name) => assert_eq!(open.pop(), Some(name)),
                None if tag.ends_with('/') => {}
                None => open.push(tag.split(' ').next().expect("a tag has a name")),
            }
        }
        assert!(open.is_empty(), "{open:?} is not closed");
    }

    #[test]
    fn a_chart_is_well_formed_whatever_it_shows() {
        for scale in [AxisScale::Linear, AxisScale::Log] {
            for points in
                [vec![], vec![(0.0, 0.0)], vec![(1.0, 1.0)], vec![(10.0, 0.5), (1000.0, 70.0), (5.0, f64::NAN)]]
            {
                let svg = chart(scale, points).svg();
                assert_well_formed(&svg);
                assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
            }
        }
    }

    #[test]
    fn larger_values_stand_higher_and_to_the_right() {
        let svg = chart(AxisScale::Log, vec![(10.0, 1.0), (1000.0, 100.0)]).svg();
        assert!(svg.contains("points=\"70.0,330.0 550.0,40.0\""), "{svg}");
    }

    #[test]
    fn axes_end_at_round_numbers() {
        assert_eq!([0.0, 3.0, 21.0, 260.0, 1.0].map(round_up), [1.0, 5.0, 25.0, 500.0, 1.0]);
        assert_eq!([1_500_000.0, 20_000.0, 0.5, 1000.0].map(short), ["1.5 M", "20 k", "0.5", "1000"]);
    }
}
