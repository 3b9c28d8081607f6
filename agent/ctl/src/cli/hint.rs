//! Commands in messages, completed with the `--host` of this command line.

use std::path::Path;

use domain::hint::line;
use domain::refusal::Refusal;

/// Verbs that read the host of `--host`; the others act on this host, or need none.
const VERBS: [&str; 8] = [
    "atomics", "doctor", "layout", "list", "plan", "rewrite", "show", "topology",
];

/// The command line with `--host HOST`, if its verb reads a host.
pub(super) fn for_host(command: &str, host: &Path) -> String {
    const OURS: &str = "variantctl ";
    let (user, ours) = match command.strip_prefix("sudo ") {
        Some(ours) => ("sudo ", ours),
        None => ("", command),
    };
    let verb = |rest: &&str| VERBS.contains(&rest.split(' ').next().unwrap_or_default());
    let rest = ours.strip_prefix(OURS).filter(verb);
    match rest.filter(|_| host != Path::new("/")) {
        Some(rest) => {
            let host = host.display().to_string();
            format!("{user}{} {rest}", line(["variantctl", "--host", &host]))
        }
        None => command.to_owned(),
    }
}

/// The refusal with `--host HOST` in the commands of its hint.
pub(super) fn refusal_for_host(refusal: Refusal, host: &Path) -> Refusal {
    Refusal {
        hint: refusal.hint.map_commands(|command| for_host(command, host)),
        ..refusal
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_that_read_a_host_name_the_recorded_one() {
        let host = Path::new("/tmp/h");
        for (command, wanted) in [
            (
                "variantctl list --all",
                "variantctl --host /tmp/h list --all",
            ),
            (
                "sudo variantctl doctor",
                "sudo variantctl --host /tmp/h doctor",
            ),
            ("variantctl --host /x list", "variantctl --host /x list"),
            ("variantctl bind X", "variantctl bind X"),
            ("variantctl prepare list", "variantctl prepare list"),
            (
                "variantctl explain VD-TOP-001",
                "variantctl explain VD-TOP-001",
            ),
            ("virsh list", "virsh list"),
        ] {
            assert_eq!(for_host(command, host), wanted);
            assert_eq!(for_host(command, Path::new("/")), command);
        }
        let spaced = for_host("variantctl list", Path::new("a b"));
        assert_eq!(spaced, "variantctl --host 'a b' list");
    }
}
