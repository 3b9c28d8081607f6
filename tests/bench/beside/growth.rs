//! Plans for hosts with 1 to 64 GPUs and guests with 1 to 15 GPUs, and reports the growth of the time as text and as a plot.

use std::fmt::Write;
use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use kernel_glue::host::Host;
use planner::plan::PlanInput;
use planner::recipe::Recipes;
use planner::rewrite::rewrite;

use crate::measure::digits;
use crate::model;
use crate::row::Row;

const HOSTS: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];
/// With 16 a guest would have 130 cells, and QEMU supports 128.
const GUESTS: [usize; 5] = [1, 2, 4, 8, MOST];
const MOST: usize = 15;
const ROUNDS: usize = 15;

/// From this number of cells on, the matrix of distances dominates the time.
const FROM: usize = 4;
/// Tolerance of a measurement.
const SLACK: f64 = 1.2;

/// The results, as a plot.
static PLOT: OnceLock<String> = OnceLock::new();

/// A host's GPUs, a guest's GPUs, the guest's cells, and the shortest time in milliseconds.
struct Point {
    host: usize,
    guest: usize,
    cells: usize,
    time: f64,
}

pub(crate) fn rows() -> Vec<Row> {
    let work =
        "plan and complete a guest with 1 to 15 GPUs (QEMU takes 128 cells) on a host with 1 to 64";
    let found = points().map(|points| {
        let _ = PLOT.set(plot(&points));
        verdict(&points)
    });
    vec![Row::words(
        work,
        "-",
        "at most linear in cells squared",
        found,
    )]
}

/// Writes the plot beside the document.
pub(crate) fn write() -> Result<()> {
    match PLOT.get() {
        Some(plot) => Ok(fs::write(plot_path(), plot)?),
        None => Ok(()),
    }
}

fn points() -> Result<Vec<Point>> {
    let recipes = Recipes::shipped()?;
    let mut points = Vec::new();
    for host in HOSTS {
        let folder = tempfile::tempdir()?;
        model::gpus(folder.path(), host)?;
        let read = Host::read(folder.path())?;
        let input = PlanInput::newest(&read, &recipes);
        for guest in GUESTS.into_iter().filter(|guest| *guest <= host) {
            points.push(point(&input, host, guest)?);
        }
    }
    Ok(points)
}

fn point(input: &PlanInput<'_>, host: usize, guest: usize) -> Result<Point> {
    let text = model::guest(guest);
    let cells = 2 + 8 * guest;
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let definition = black_box(&text).parse();
        let done = definition.and_then(|definition| rewrite(&definition, input));
        times.push(start.elapsed().as_secs_f64() * 1e3);
        match done {
            Ok(done) => ensure!(
                done.text.matches("<cell id=").count() == cells,
                "not all cells are there"
            ),
            Err(refusal) => bail!("{guest} of {host} GPUs: {refusal}"),
        }
    }
    times.sort_by(f64::total_cmp);
    let time = times[0];
    Ok(Point {
        host,
        guest,
        cells,
        time,
    })
}

fn verdict(points: &[Point]) -> (String, bool) {
    let of = |host, guest| {
        points
            .iter()
            .find(|point| (point.host, point.guest) == (host, guest))
    };
    let (mut worst, mut text) = (0.0_f64, String::new());
    for host in HOSTS.into_iter().filter(|host| *host >= 16) {
        let (Some(small), Some(large)) = (of(host, FROM), of(host, MOST)) else {
            continue;
        };
        let squares = (large.cells as f64 / small.cells as f64).powi(2);
        let grown = large.time / small.time / squares;
        worst = worst.max(grown);
        let (from, to) = (digits(small.time), digits(large.time));
        let _ = write!(
            text,
            "{host} GPUs: {from} ms for 4, {to} ms for {MOST}, {} times as much as the squares; ",
            digits(grown)
        );
    }
    (text + "[plot](performance-plan.svg)", worst <= SLACK)
}

fn plot_path() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/doc/performance-plan.svg")
}

const COLOURS: [&str; 7] = [
    "#888888", "#4477aa", "#66ccee", "#228833", "#ccbb44", "#ee6677", "#aa3377",
];
const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 60.0;
const BOTTOM: f64 = 40.0;

/// Time over the square of cells; the expected curve is a straight line.
fn plot(points: &[Point]) -> String {
    let longest = points.iter().map(|point| point.time).fold(0.0, f64::max);
    let most = points
        .iter()
        .map(|point| point.cells.pow(2))
        .max()
        .unwrap_or(1) as f64;
    let x = |cells: usize| LEFT + (cells.pow(2) as f64 / most) * (WIDTH - LEFT - 20.0);
    let y = |time: f64| HEIGHT - BOTTOM - time / longest * (HEIGHT - BOTTOM - 20.0);
    let mut svg = format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {HEIGHT}' font-family='sans-serif' font-size='11'>\n\
         <rect width='{WIDTH}' height='{HEIGHT}' fill='white'/>\n\
         <path d='M{LEFT} 20V{base}H{right}' fill='none' stroke='black'/>\n\
         <text x='{LEFT}' y='14'>{} ms</text>\n<text x='{right}' y='{below}' text-anchor='end'>cells squared: {most}</text>\n",
        digits(longest),
        base = HEIGHT - BOTTOM,
        below = HEIGHT - BOTTOM + 16.0,
        right = WIDTH - 20.0,
    );
    for (index, host) in HOSTS.into_iter().enumerate() {
        let of_host: Vec<&Point> = points.iter().filter(|point| point.host == host).collect();
        let at: Vec<String> = of_host
            .iter()
            .map(|p| format!("{:.1},{:.1}", x(p.cells), y(p.time)))
            .collect();
        let (colour, row) = (COLOURS[index], 36.0 + 14.0 * index as f64);
        let _ = writeln!(
            svg,
            "<polyline points='{}' fill='none' stroke='{colour}' stroke-width='1.5'/>",
            at.join(" ")
        );
        let _ = writeln!(
            svg,
            "<text x='{}' y='{row}' fill='{colour}'>host with {host} GPUs</text>",
            LEFT + 14.0
        );
    }
    svg + "</svg>\n"
}
