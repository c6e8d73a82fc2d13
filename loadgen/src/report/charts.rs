//! The page's charts, as inline SVG.

use crate::outcome::Outcome;
use crate::summary::{duration, grouped};
use crate::tally::Interval;
use hdrhistogram::Histogram;
use plotters::prelude::*;

/// One line of a chart.
struct Line<'a> {
    name: &'a str,
    colour: RGBColor,
    points: Vec<(f64, f64)>,
}

/// How a chart's axes are written.
struct Axes<'a> {
    x: std::ops::Range<f64>,
    x_name: &'a str,
    x_labels: usize,
    x_words: &'a dyn Fn(f64) -> String,
    y_words: &'a dyn Fn(f64) -> String,
    /// Values of the y axis grow tenfold from step to step.
    is_log: bool,
}

/// PINs a second over time.
pub(super) fn throughput(outcome: &Outcome) -> String {
    let seconds = whole(outcome);
    let points = |of: fn(&Interval) -> u64| -> Vec<(f64, f64)> {
        seconds.iter().map(|interval| (interval.second as f64 + 0.5, of(interval) as f64)).collect()
    };
    let mut lines =
        vec![Line { name: "sold", colour: BLUE_INK, points: points(|interval| interval.counts.sold) }];
    let others: [(&str, RGBColor, Count); 2] = [
        ("later", AMBER, |interval| interval.counts.later.total()),
        ("declined", RED_INK, |interval| interval.counts.declined.total()),
    ];
    for (name, colour, of) in others {
        if seconds.iter().any(|interval| of(interval) > 0) {
            lines.push(Line { name, colour, points: points(of) });
        }
    }
    let y_words = |value: f64| grouped(value.round() as u64);
    draw(&lines, &over_time(outcome, &y_words, false))
}

/// Percentiles of each second over time.
pub(super) fn latency(outcome: &Outcome) -> String {
    let seconds = whole(outcome);
    let points = |quantile: f64| -> Vec<(f64, f64)> {
        let sold = seconds.iter().filter(|interval| !interval.latency.is_empty());
        sold.map(|interval| (interval.second as f64 + 0.5, nanos(&interval.latency, quantile))).collect()
    };
    let lines = [
        Line { name: "most", colour: RED_INK, points: points(1.0) },
        Line { name: "p99.9", colour: AMBER, points: points(0.999) },
        Line { name: "p99", colour: TEAL, points: points(0.99) },
        Line { name: "p50", colour: BLUE_INK, points: points(0.5) },
    ];
    let y_words = |value: f64| duration(value.round() as u64);
    draw(&lines, &over_time(outcome, &y_words, true))
}

/// Latency by percentile; the axis grows tenfold in rarity from step to step.
pub(super) fn percentiles(outcome: &Outcome) -> String {
    let depth = (outcome.latency.len().max(10) as f64).log10().clamp(1.0, 7.0);
    let points = |histogram: &Histogram<u64>| -> Vec<(f64, f64)> {
        let steps = 200;
        (0..=steps)
            .map(|step| {
                let rarity = depth * f64::from(step) / f64::from(steps);
                (rarity, nanos(histogram, 1.0 - 10f64.powf(-rarity)))
            })
            .collect()
    };
    let mut lines = Vec::new();
    if !outcome.latency.is_empty() {
        let name = if outcome.load.rate.is_some() { "from the intended send" } else { "from the send" };
        lines.push(Line { name, colour: BLUE_INK, points: points(&outcome.latency) });
        if outcome.load.rate.is_some() {
            lines.push(Line {
                name: "from the actual send",
                colour: AMBER,
                points: points(&outcome.service),
            });
        }
    }
    let x_words = |rarity: f64| match rarity.round() {
        0.0 => "0 %".to_owned(),
        1.0 => "90 %".to_owned(),
        nines => format!("99.{} %", "9".repeat(nines as usize - 2)).replace(". ", " "),
    };
    let axes = Axes {
        x: 0.0..depth,
        x_name: "percentile",
        x_labels: depth.floor() as usize + 1,
        x_words: &x_words,
        y_words: &|value| duration(value.round() as u64),
        is_log: true,
    };
    draw(&lines, &axes)
}

type Count = fn(&Interval) -> u64;

fn over_time<'a>(outcome: &Outcome, y_words: &'a dyn Fn(f64) -> String, is_log: bool) -> Axes<'a> {
    Axes {
        x: 0.0..outcome.load.duration_s.max(1.0),
        x_name: "seconds",
        x_labels: 11,
        x_words: &|second| format!("{second:.0}"),
        y_words,
        is_log,
    }
}

/// The seconds that were sold in from beginning to end.
fn whole(outcome: &Outcome) -> Vec<&Interval> {
    let whole = outcome.load.duration_s.floor().max(1.0) as u64;
    outcome.intervals.iter().filter(|interval| interval.second < whole).collect()
}

fn nanos(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    histogram.value_at_quantile(quantile) as f64
}

fn draw(lines: &[Line<'_>], axes: &Axes<'_>) -> String {
    let values = || lines.iter().flat_map(|line| line.points.iter().map(|(_, y)| *y));
    let most = values().fold(1.0, f64::max);
    let least = values().fold(most, f64::min);
    let mut svg = String::new();
    let drawn = {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut builder = ChartBuilder::on(&area);
        builder.margin(6).margin_right(22).x_label_area_size(44).y_label_area_size(86);
        if axes.is_log {
            let floor = 10f64.powf(least.max(1.0).log10().floor());
            let ceiling = 10f64.powf(most.max(floor * 10.0).log10().ceil());
            finish(builder.build_cartesian_2d(axes.x.clone(), (floor..ceiling).log_scale()), lines, axes)
        } else {
            finish(builder.build_cartesian_2d(axes.x.clone(), 0.0..most * 1.08), lines, axes)
        }
    };
    match drawn {
        Ok(()) => legend(lines) + &svg,
        Err(error) => format!("<p>This chart cannot be drawn: {error}</p>"),
    }
}

/// What the colours mean, beside the chart where it covers nothing.
fn legend(lines: &[Line<'_>]) -> String {
    let entry = |line: &Line<'_>| {
        let RGBColor(red, green, blue) = line.colour;
        format!("<span><i style=\"background:rgb({red},{green},{blue})\"></i>{}</span>", line.name)
    };
    let entries: String = lines.iter().map(entry).collect();
    format!("<figcaption>{entries}</figcaption>")
}

type Failed = DrawingAreaErrorKind<std::io::Error>;

fn finish<'a, 'b: 'a, Y>(
    chart: Result<
        ChartContext<'a, SVGBackend<'b>, Cartesian2d<plotters::coord::types::RangedCoordf64, Y>>,
        Failed,
    >,
    lines: &[Line<'_>],
    axes: &Axes<'_>,
) -> Result<(), Failed>
where
    Y: Ranged<ValueType = f64> + plotters::coord::ranged1d::ValueFormatter<f64>,
{
    let mut chart = chart?;
    let font = ("sans-serif", 15).into_font().color(&SOFT);
    chart
        .configure_mesh()
        .x_desc(axes.x_name)
        .x_labels(axes.x_labels)
        .y_labels(6)
        .x_label_formatter(&|x| (axes.x_words)(*x))
        .y_label_formatter(&|y| (axes.y_words)(*y))
        .label_style(font.clone())
        .axis_desc_style(font)
        .axis_style(SOFT)
        .bold_line_style(LINE)
        .light_line_style(WHITE)
        .draw()?;
    for line in lines {
        let style = line.colour.stroke_width(2);
        chart.draw_series(LineSeries::new(line.points.iter().copied(), style))?;
        if line.points.len() == 1 {
            let dots = line.points.iter().map(|point| Circle::new(*point, 3, line.colour.filled()));
            chart.draw_series(dots)?;
        }
    }
    Ok(())
}

const SIZE: (u32, u32) = (940, 300);
const BLUE_INK: RGBColor = RGBColor(31, 97, 179);
const TEAL: RGBColor = RGBColor(20, 140, 130);
const AMBER: RGBColor = RGBColor(217, 142, 4);
const RED_INK: RGBColor = RGBColor(198, 47, 59);
const SOFT: RGBColor = RGBColor(93, 107, 122);
const LINE: RGBColor = RGBColor(221, 227, 234);
