//! Plans for hosts with 1 to 64 GPUs and guests with 1 to 15 GPUs, and for 1 to 16 guests of a host with 64 GPUs, and reports the growth
//! of the time as text and as plots.

use std::fmt::Write;
use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
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

/// GPUs of the host with several guests, and of each guest.
const SHARED: usize = 64;
const EACH: usize = 4;
/// Numbers of guests on it.
const TENANTS: [usize; 5] = [1, 2, 4, 8, 16];

/// The plots, and the names of their files in packaging/doc.
static PLOTS: [(&str, OnceLock<String>); 2] = [
    ("performance-plan.svg", OnceLock::new()),
    ("performance-guests.svg", OnceLock::new()),
];

/// A line of a plot: its label, and its points from the left to the right.
struct Line {
    label: String,
    points: Vec<(f64, f64)>,
}

/// A host's GPUs, a guest's GPUs, the guest's cells, and the shortest time in milliseconds.
struct Point {
    host: usize,
    guest: usize,
    cells: usize,
    time: f64,
}

pub(crate) fn rows() -> Vec<Row> {
    let [(_, plan), (_, guests)] = &PLOTS;
    let by_cells = points().map(|points| {
        let _ = plan.set(plot("cells squared", &by_host(&points)));
        verdict(&points)
    });
    let by_guests = tenants().map(|line| {
        let found = is_linear(&line.points);
        let _ = guests.set(plot("guests", &[line]));
        found
    });
    vec![
        Row::words(
            "plan and complete a guest with 1 to 15 GPUs (QEMU takes 128 cells) on a host with 1 to 64",
            "-",
            "at most linear in cells squared",
            by_cells,
        ),
        Row::words(
            "plan and complete 1 to 16 guests with 4 GPUs each on a host with 64",
            "-",
            "at most linear in the guests",
            by_guests,
        ),
    ]
}

/// Writes the plots beside the document.
pub(crate) fn write() -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/doc");
    for (name, plot) in &PLOTS {
        if let Some(plot) = plot.get() {
            fs::write(folder.join(name), plot)?;
        }
    }
    Ok(())
}

/// The shortest time for each number of guests, in milliseconds. Their devices are different, so that all of them can run at once.
fn tenants() -> Result<Line> {
    let recipes = Recipes::shipped()?;
    let folder = tempfile::tempdir()?;
    model::gpus(folder.path(), SHARED)?;
    let host = Host::read(folder.path())?;
    let input = PlanInput::newest(&host, &recipes);
    let texts: Vec<String> = (0..SHARED / EACH)
        .map(|index| model::guest_with(index * EACH..(index + 1) * EACH))
        .collect();
    let mut points = Vec::new();
    for count in TENANTS {
        let mut times = Vec::new();
        for _ in 0..ROUNDS {
            let start = Instant::now();
            for text in &texts[..count] {
                complete(text, &input, 2 + 8 * EACH)?;
            }
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
        times.sort_by(f64::total_cmp);
        points.push((count as f64, times[0]));
    }
    Ok(Line {
        label: format!("host with {SHARED} GPUs, {EACH} for each guest"),
        points,
    })
}

/// The last number of guests must take that many times as long as one.
fn is_linear(points: &[(f64, f64)]) -> (String, bool) {
    let ((_, one), (count, all)) = (points[0], points[points.len() - 1]);
    let grown = all / one / count;
    let text = format!(
        "{} ms for one guest, {} ms for {count}: {} times as much as the guests; [plot](performance-guests.svg)",
        digits(one),
        digits(all),
        digits(grown)
    );
    (text, grown <= SLACK)
}

/// Plans a guest, which must have this number of cells then.
fn complete(text: &str, input: &PlanInput<'_>, cells: usize) -> Result<()> {
    let definition = black_box(text).parse();
    match definition.and_then(|definition| rewrite(&definition, input)) {
        Ok(done) => ensure!(
            done.text.matches("<cell id=").count() == cells,
            "not all cells are there"
        ),
        Err(refusal) => bail!("{refusal}"),
    }
    Ok(())
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
        let done = complete(&text, input, cells);
        times.push(start.elapsed().as_secs_f64() * 1e3);
        done.with_context(|| format!("{guest} of {host} GPUs"))?;
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

const COLOURS: [&str; 7] = [
    "#888888", "#4477aa", "#66ccee", "#228833", "#ccbb44", "#ee6677", "#aa3377",
];
const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 60.0;
const BOTTOM: f64 = 40.0;

/// A line for each host: time over the square of cells.
fn by_host(points: &[Point]) -> Vec<Line> {
    let line = |host| {
        let of_host = points.iter().filter(|point| point.host == host);
        Line {
            label: format!("host with {host} GPUs"),
            points: of_host
                .map(|point| (point.cells.pow(2) as f64, point.time))
                .collect(),
        }
    };
    HOSTS.map(line).into()
}

/// Milliseconds over `along`; linear growth is a straight line.
fn plot(along: &str, lines: &[Line]) -> String {
    let all = || lines.iter().flat_map(|line| &line.points);
    let longest = all().map(|(_, time)| *time).fold(0.0, f64::max);
    let most = all().map(|(place, _)| *place).fold(1.0, f64::max);
    let x = |place: f64| LEFT + place / most * (WIDTH - LEFT - 20.0);
    let y = |time: f64| HEIGHT - BOTTOM - time / longest * (HEIGHT - BOTTOM - 20.0);
    let mut svg = format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {HEIGHT}' font-family='sans-serif' font-size='11'>\n\
         <rect width='{WIDTH}' height='{HEIGHT}' fill='white'/>\n\
         <path d='M{LEFT} 20V{base}H{right}' fill='none' stroke='black'/>\n\
         <text x='{LEFT}' y='14'>{} ms</text>\n<text x='{right}' y='{below}' text-anchor='end'>{along}: {most}</text>\n",
        digits(longest),
        base = HEIGHT - BOTTOM,
        below = HEIGHT - BOTTOM + 16.0,
        right = WIDTH - 20.0,
    );
    for (index, line) in lines.iter().enumerate() {
        let at: Vec<String> = line
            .points
            .iter()
            .map(|(place, time)| format!("{:.1},{:.1}", x(*place), y(*time)))
            .collect();
        let (colour, row) = (COLOURS[index % COLOURS.len()], 36.0 + 14.0 * index as f64);
        let _ = writeln!(
            svg,
            "<polyline points='{}' fill='none' stroke='{colour}' stroke-width='1.5'/>",
            at.join(" ")
        );
        let _ = writeln!(
            svg,
            "<text x='{}' y='{row}' fill='{colour}'>{}</text>",
            LEFT + 14.0,
            line.label
        );
    }
    svg + "</svg>\n"
}
