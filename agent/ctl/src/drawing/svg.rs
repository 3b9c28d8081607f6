//! Parts as an SVG drawing: the host from the left, the guest from the right, and a line between the two places of a device.
//!
//! A part is a box in the column of its depth, as high as its lines; the devices below it are stacked, so that no two
//! boxes overlap. Boxes are light with dark text and lines are grey, which reads on light and dark pages.

use kernel_glue::address::PciAddress;

use super::dot::fill;
use super::svg_text::{CHARACTER, LINE, escaped, path, rectangle, text};
use super::{Kind, Part};

/// Pixels between columns, between boxes, around text, and around all.
const GAP: usize = 36;
const SPACE: usize = 14;
const PADDING: usize = 8;
const MARGIN: usize = 24;
/// Pixels between host and guest, for the lines.
const BETWEEN: usize = 120;
/// Pixels above the boxes for the titles.
const TITLE: usize = 36;

const STYLE: &str = "text{font:12px 'DejaVu Sans Mono',Menlo,Consolas,monospace;fill:#212529}\
.name{font-weight:bold}.title{font-size:15px;font-weight:bold;fill:#868e96}\
.box{stroke:#868e96}.edge{stroke:#868e96;fill:none}\
.same{stroke:#2f9e44;stroke-width:2.5;fill:none;stroke-dasharray:7 4}";

/// A box in its place.
struct Placed {
    x: usize,
    y: usize,
    width: usize,
    height: usize,
    device: Option<PciAddress>,
}

/// One machine as it is laid out.
struct Layout {
    /// Left end and width of each column, by depth.
    columns: Vec<(usize, usize)>,
    /// Columns count from the right.
    mirrored: bool,
    body: String,
    placed: Vec<Placed>,
}

/// The drawing of a host, and of the guest beside it.
#[must_use]
pub(crate) fn drawing(host: &Part, guest: Option<&Part>) -> String {
    let left = Layout::of(host, MARGIN, false);
    let start = left.end() + BETWEEN;
    let right = guest.map(|guest| Layout::of(guest, start, true));
    let (left, right) = level(left, right, host, guest, start);
    let machines = [Some(&left), right.as_ref()];
    let machines: Vec<&Layout> = machines.into_iter().flatten().collect();
    let width = machines.iter().map(|one| one.end()).max().unwrap_or(0) + MARGIN;
    let height = machines.iter().map(|one| one.bottom()).max().unwrap_or(0) + MARGIN;
    let mut out = head(width, height, host, guest);
    out.push_str(&text(MARGIN, MARGIN + 4, "title", "host"));
    if let Some(guest) = guest {
        let title = format!("guest {}", guest.name);
        out.push_str(&text(start, MARGIN + 4, "title", &title));
    }
    // SVG paints in the order of the elements: the boxes cover the ends of these lines.
    out.push_str(
        &right
            .as_ref()
            .map_or(String::new(), |right| same(&left, right)),
    );
    machines.iter().for_each(|one| out.push_str(&one.body));
    out + "</svg>\n"
}

/// The same with the lower of the two in the middle of the higher.
fn level(
    left: Layout,
    right: Option<Layout>,
    host: &Part,
    guest: Option<&Part>,
    start: usize,
) -> (Layout, Option<Layout>) {
    let (Some(other), Some(guest)) = (&right, guest) else {
        return (left, right);
    };
    let (mine, its) = (left.bottom(), other.bottom());
    match mine < its {
        true => (Layout::below(host, MARGIN, false, (its - mine) / 2), right),
        false => (
            left,
            Some(Layout::below(guest, start, true, (mine - its) / 2)),
        ),
    }
}

fn head(width: usize, height: usize, host: &Part, guest: Option<&Part>) -> String {
    let facts = host.facts.join(", ");
    let title = match guest {
        Some(guest) => format!("host ({facts}) and guest {}", guest.name),
        None => format!("host ({facts})"),
    };
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         role=\"img\">\n<title>{}</title>\n<style>{STYLE}</style>\n",
        escaped(&title)
    )
}

/// Lines between a device of the host and the same in the guest.
fn same(host: &Layout, guest: &Layout) -> String {
    let assigned = guest.placed.iter().filter(|one| one.device.is_some());
    let pair = |one: &Placed| {
        let other = host
            .placed
            .iter()
            .find(|other| other.device == one.device)?;
        let (x1, y1) = (other.x + other.width, other.y + other.height / 2);
        let (x2, y2) = (one.x, one.y + one.height / 2);
        let middle = usize::midpoint(host.end(), guest.columns.last().map_or(x2, |last| last.0));
        Some(path(
            "same",
            &format!(
                "M{x1} {y1} H{} C{middle} {y1} {middle} {y2} {x2} {y2}",
                host.end()
            ),
        ))
    };
    assigned.filter_map(pair).collect()
}

impl Layout {
    fn of(machine: &Part, start: usize, mirrored: bool) -> Self {
        Self::below(machine, start, mirrored, 0)
    }

    /// The same, so many pixels lower.
    fn below(machine: &Part, start: usize, mirrored: bool, lower: usize) -> Self {
        let mut widths = Vec::new();
        measure(machine, 0, &mut widths);
        let mut layout = Self {
            columns: columns(&widths, start, mirrored),
            mirrored,
            body: String::new(),
            placed: Vec::new(),
        };
        layout.place(machine, 0, MARGIN + TITLE + lower);
        layout
    }

    fn end(&self) -> usize {
        self.columns
            .iter()
            .map(|(x, width)| x + width)
            .max()
            .unwrap_or(0)
    }

    fn bottom(&self) -> usize {
        self.placed
            .iter()
            .map(|one| one.y + one.height)
            .max()
            .unwrap_or(0)
    }

    /// Places what is below a part from `top` on, then the part in the middle of it; returns its own place and
    /// where the next may begin.
    fn place(&mut self, part: &Part, depth: usize, top: usize) -> (usize, usize) {
        let (height, room) = (height(part), room(part));
        let mut next = top + (room - stacked(&part.below)) / 2;
        let mut middles = Vec::new();
        for below in &part.below {
            let (middle, after) = self.place(below, depth + 1, next);
            middles.push(middle);
            next = after;
        }
        let middle = match (middles.first(), middles.last()) {
            (Some(first), Some(last)) => usize::midpoint(*first, *last).max(top + height / 2),
            _ => top + height / 2,
        };
        let y = middle - height / 2;
        self.draw(part, depth, y, height);
        middles
            .iter()
            .for_each(|below| self.edge(depth, middle, *below));
        (middle, (top + room).max(y + height) + SPACE)
    }

    fn draw(&mut self, part: &Part, depth: usize, y: usize, height: usize) {
        let (x, width) = self.columns[depth];
        self.body
            .push_str(&rectangle(x, y, width, height, fill(part.kind)));
        for (number, line) in lines(part).iter().enumerate() {
            let class = if number == 0 { "name" } else { "fact" };
            let base = y + PADDING / 2 + number * LINE + LINE - 4;
            self.body.push_str(&text(x + PADDING, base, class, line));
        }
        self.placed.push(Placed {
            x,
            y,
            width,
            height,
            device: part
                .device
                .filter(|_| matches!(part.kind, Kind::Covered | Kind::Device)),
        });
    }

    /// A line from a part to one below it.
    fn edge(&mut self, depth: usize, from: usize, to: usize) {
        let ((x, width), (below, below_width)) = (self.columns[depth], self.columns[depth + 1]);
        let (start, end) = match self.mirrored {
            false => (x + width, below),
            true => (x, below + below_width),
        };
        let middle = usize::midpoint(start, end);
        let line = format!("M{start} {from} H{middle} V{to} H{end}");
        self.body.push_str(&path("edge", &line));
    }
}

/// The height of a part's own box, in pixels.
fn height(part: &Part) -> usize {
    lines(part).len() * LINE + PADDING
}

/// Pixels of a part with what is below it.
fn room(part: &Part) -> usize {
    height(part).max(stacked(&part.below))
}

/// Pixels of parts below each other.
fn stacked(parts: &[Part]) -> usize {
    let rooms = parts.iter().map(|part| room(part) + SPACE);
    rooms.sum::<usize>().saturating_sub(SPACE)
}

/// The widest box of each depth.
fn measure(part: &Part, depth: usize, widths: &mut Vec<usize>) {
    if widths.len() == depth {
        widths.push(0);
    }
    let longest = lines(part).iter().map(|line| line.chars().count()).max();
    let width = longest.unwrap_or(0) * CHARACTER + 2 * PADDING;
    widths[depth] = widths[depth].max(width);
    for below in &part.below {
        measure(below, depth + 1, widths);
    }
}

fn columns(widths: &[usize], start: usize, mirrored: bool) -> Vec<(usize, usize)> {
    let mut columns = Vec::new();
    let mut x = start;
    let order: Vec<usize> = match mirrored {
        false => widths.to_vec(),
        true => widths.iter().rev().copied().collect(),
    };
    for width in order {
        columns.push((x, width));
        x += width + GAP;
    }
    if mirrored {
        columns.reverse();
    }
    columns
}

/// The lines in a box: name, label, then two facts a line.
fn lines(part: &Part) -> Vec<String> {
    let mut lines = vec![part.name.clone()];
    lines.extend(Some(part.label.clone()).filter(|label| !label.is_empty()));
    lines.extend(part.facts.chunks(2).map(|pair| pair.join(", ")));
    lines
}
