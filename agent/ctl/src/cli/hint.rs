//! Commands in messages, as they have to be typed for the host that was asked about.

use std::path::Path;

/// Verbs that read the host which `--host` names; the others act on this one, or need none.
const VERBS: [&str; 7] = [
    "atomics", "doctor", "list", "plan", "rewrite", "show", "topology",
];

/// The text with `--host HOST` in each command that would otherwise look at this host.
pub(super) fn for_host(text: &str, host: &Path) -> String {
    if host == Path::new("/") {
        return text.to_owned();
    }
    let option = format!("variantctl --host {} ", quoted(&host.display().to_string()));
    let mut parts = text.split("variantctl ");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let word = part.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
        let reads = VERBS.contains(&word.clone().next().unwrap_or_default());
        out.push_str(if reads { &option } else { "variantctl " });
        out.push_str(part);
    }
    out
}

/// The word as a shell takes it for one.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@,=~".contains(c);
    match word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("\"{}\"", word.replace(['"', '$', '`', '\\'], "?")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_that_read_a_host_name_the_recorded_one() {
        let host = Path::new("/tmp/h");
        for (text, wanted) in [
            (
                "run 'variantctl list --all'",
                "run 'variantctl --host /tmp/h list --all'",
            ),
            (
                "sudo variantctl doctor",
                "sudo variantctl --host /tmp/h doctor",
            ),
            ("variantctl --host /x list", "variantctl --host /x list"),
            (
                "'variantctl bind X', see 'variantctl show X'",
                "'variantctl bind X', see 'variantctl --host /tmp/h show X'",
            ),
            ("variantctl prepare g", "variantctl prepare g"),
            (
                "variantctl explain VD-TOP-001",
                "variantctl explain VD-TOP-001",
            ),
            ("nothing", "nothing"),
        ] {
            assert_eq!(for_host(text, host), wanted);
            assert_eq!(for_host(text, Path::new("/")), text);
        }
        let spaced = for_host("variantctl list", Path::new("a b"));
        assert_eq!(spaced, "variantctl --host \"a b\" list");
    }
}
