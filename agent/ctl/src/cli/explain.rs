//! `variantctl explain [CODE]`: the meaning of a code, with its source.

use serde_json::{Value, json};

use super::output;
use super::problem::Problem;
use domain::code::Code;

/// Columns that a paragraph is filled to.
const WIDTH: usize = 96;

pub(super) fn run(code: Option<Code>, as_json: bool) -> Result<(), Problem> {
    let codes: Vec<Code> = code.map_or_else(|| Code::ALL.to_vec(), |code| vec![code]);
    if as_json {
        let list: Value = codes.into_iter().map(entry).collect();
        return output::object(json!({"codes": list}));
    }
    output::text(&match code {
        Some(code) => format!(
            "{code} ({}): {}\n\n{}",
            code.severity(),
            code.title(),
            filled(code.explanation())
        ),
        None => codes
            .iter()
            .map(|code| format!("{code}  {:<7}  {}\n", code.severity(), code.title()))
            .collect(),
    })
}

fn entry(code: Code) -> Value {
    json!({"code": code.as_str(), "severity": code.severity().to_string(), "title": code.title(), "explanation": code.explanation()})
}

fn filled(paragraph: &str) -> String {
    let mut out = String::new();
    let mut column = 0;
    for word in paragraph.split_whitespace() {
        let width = word.chars().count();
        if column > 0 && column + 1 + width > WIDTH {
            out.push('\n');
            column = 0;
        }
        if column > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += width;
    }
    out + "\n"
}
