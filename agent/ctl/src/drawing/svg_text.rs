//! XML for a drawing: rectangles, lines and text, escaped.

/// Width of a character of the monospaced font at 12 pixels, rounded up (DejaVu Sans Mono has 7.23).
pub(super) const CHARACTER: usize = 8;
/// Height of a line of text.
pub(super) const LINE: usize = 16;

/// Text without what XML would read as markup.
pub(super) fn escaped(text: &str) -> String {
    // '&' comes first, because the other replacements contain it.
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.replace('>', "&gt;").replace('"', "&quot;")
}

/// One line of text with its left end at `x` and its base line at `y`.
pub(super) fn text(x: usize, y: usize, class: &str, text: &str) -> String {
    format!(
        "<text x=\"{x}\" y=\"{y}\" class=\"{class}\">{}</text>\n",
        escaped(text)
    )
}

/// A rectangle with round corners.
pub(super) fn rectangle(x: usize, y: usize, width: usize, height: usize, fill: &str) -> String {
    format!(
        "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"6\" fill=\"{fill}\" class=\"box\"/>\n"
    )
}

/// A line through points, with round turns where it has them.
pub(super) fn path(class: &str, description: &str) -> String {
    format!("<path d=\"{description}\" class=\"{class}\"/>\n")
}
