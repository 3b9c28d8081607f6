//! The parts of Markdown that the checks need: lines of code blocks, inline code, headings.

/// The lines of all code blocks: indented by four spaces after an empty line, or between fences (`sh` or no language).
pub(crate) fn code_lines(text: &str) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut fence: Option<&str> = None;
    let mut indented = false;
    let mut after_empty = true;
    for line in text.lines() {
        match (line.strip_prefix("```"), fence) {
            (Some(_), Some(_)) => fence = None,
            (Some(language), None) => fence = Some(language.trim()),
            (None, Some("sh" | "")) => lines.push(line.trim()),
            (None, Some(_)) => {}
            (None, None) => {
                indented = line.starts_with("    ") && (indented || after_empty);
                lines.extend(indented.then(|| line.trim()));
            }
        }
        after_empty = line.is_empty();
    }
    lines
}

/// The content of the fenced blocks of a language.
pub(crate) fn fenced<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let open = format!("```{language}\n");
    let blocks = text.split(open.as_str()).skip(1);
    blocks
        .filter_map(|rest| Some(rest.split_once("\n```")?.0))
        .collect()
}

/// Text without its fenced and indented code blocks. Indented lines of a definition list are text.
pub(crate) fn prose(text: &str) -> String {
    let mut inside = false;
    let mut kept = String::new();
    for line in text.lines() {
        if line.starts_with("```") {
            inside = !inside;
        } else if !inside {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

/// Inline code, each on one line.
pub(crate) fn inline_code(text: &str) -> Vec<String> {
    let text = prose(text);
    let paragraphs = text.split("\n\n");
    let code = paragraphs.flat_map(|one| one.split('`').skip(1).step_by(2));
    code.map(|one| one.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect()
}

/// The anchors of the headings, as hosting services make them.
pub(crate) fn anchors(text: &str) -> Vec<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchor = |line: &str| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title
            .chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn code_and_headings_are_found() {
    let text = "# A b: c\n\n    $ one\n\nterm\n:   text\n    more\n\n```sh\ntwo\n```\n\n```guest\nthree\n```\n\ntext `four\nfive` end\n";
    assert_eq!(code_lines(text), ["$ one", "two"]);
    assert_eq!(fenced(text, "guest"), ["three"]);
    assert_eq!(inline_code(text), ["four five"]);
    assert_eq!(anchors(text), ["a-b-c"]);
}
