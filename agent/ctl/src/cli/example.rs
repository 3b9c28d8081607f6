//! The examples of each verb, which `--help` prints behind the options. variantctl(1) has each of these commands, too.

use clap::Command;

/// A command, and what it does.
type Example = (&'static str, &'static str);

/// For each verb at least two, in the order of `--help`.
const EXAMPLES: [(&str, &[Example]); 30] = [
    (
        "list",
        &[
            ("the devices that a recipe covers", "variantctl list"),
            (
                "every PCI function, as JSON",
                "variantctl list --all --json",
            ),
        ],
    ),
    (
        "show",
        &[
            (
                "driver, group, node, path and users of a GPU",
                "variantctl show 0009:01:00.0",
            ),
            (
                "also the BARs that a guest would see",
                "variantctl show 0009:01:00.0 --regions",
            ),
        ],
    ),
    (
        "doctor",
        &[
            ("every check", "variantctl doctor"),
            (
                "for a script: only what is wrong with the host and its devices",
                "variantctl doctor --quiet --only host,devices",
            ),
        ],
    ),
    (
        "topology",
        &[
            ("the host as a tree", "variantctl topology"),
            (
                "what each pair of devices shares",
                "variantctl topology --matrix",
            ),
            (
                "host and guest in one drawing",
                "variantctl topology --svg guest.svg --file guest.xml",
            ),
        ],
    ),
    (
        "atomics",
        &[
            (
                "each device of a guest",
                "variantctl atomics --file guest.xml",
            ),
            (
                "one device, for another QEMU",
                "variantctl atomics 0009:01:00.0 --qemu 11.1",
            ),
        ],
    ),
    (
        "layout",
        &[
            (
                "NUMA cells, pins and memory for a domain's devices",
                "variantctl layout guest",
            ),
            (
                "write them into a file that has none, beside another guest",
                "variantctl layout --beside other.xml --xml guest.xml > guest-layout.xml",
            ),
        ],
    ),
    (
        "plan",
        &[
            (
                "what a file lacks, on one screen",
                "variantctl plan guest.xml",
            ),
            (
                "the same as a diff, for patch(1)",
                "variantctl plan --diff guest.xml",
            ),
            (
                "the same for older versions of libvirt and QEMU",
                "variantctl plan --target libvirt=11.3,qemu=10.0 guest.xml",
            ),
            (
                "the same for NVIDIA's certified pair",
                "variantctl plan --target nvidia-10.1 guest.xml",
            ),
            (
                "on which of two hosts it fits",
                "variantctl plan --host host1.json --host host2 guest.xml",
            ),
        ],
    ),
    (
        "rewrite",
        &[
            (
                "complete a file",
                "variantctl rewrite guest.xml > completed.xml",
            ),
            (
                "for another host, from its snapshot",
                "variantctl --host host1.json rewrite guest.xml > completed.xml",
            ),
        ],
    ),
    (
        "recipe list",
        &[
            ("the recipes in force", "variantctl recipe list"),
            ("as JSON", "variantctl recipe list --json"),
        ],
    ),
    (
        "recipe show",
        &[
            (
                "a recipe as it is in force",
                "variantctl recipe show nvidia-grace",
            ),
            (
                "the one of the package",
                "variantctl recipe show nvidia-grace --shipped",
            ),
        ],
    ),
    (
        "recipe check",
        &[
            (
                "a file before it is installed",
                "variantctl recipe check my-gpu.toml",
            ),
            ("as JSON", "variantctl recipe check --json my-gpu.toml"),
        ],
    ),
    (
        "config show",
        &[
            (
                "every setting, with its file and line",
                "variantctl config show",
            ),
            ("as JSON", "variantctl config show --json"),
        ],
    ),
    (
        "config check",
        &[
            ("every mistake in the files", "variantctl config check"),
            ("as JSON", "variantctl config check --json"),
        ],
    ),
    (
        "connect",
        &[
            (
                "what each client of libvirt needs",
                "variantctl connect --how",
            ),
            (
                "root's clients use the transport from now on",
                "variantctl connect --enable",
            ),
            (
                "root's clients use libvirt's own default again",
                "variantctl connect --disable",
            ),
        ],
    ),
    (
        "stack",
        &[
            (
                "what the installed libvirt and QEMU can express",
                "variantctl stack",
            ),
            (
                "the pair that NVIDIA certified for Grace",
                "variantctl stack --target nvidia-10.1",
            ),
        ],
    ),
    (
        "explain",
        &[
            ("one code", "variantctl explain VD-TOP-002"),
            ("all codes, as JSON", "variantctl explain --json"),
        ],
    ),
    (
        "record-host",
        &[
            (
                "the files of this host that planning reads",
                "variantctl record-host host2",
            ),
            (
                "a plan for it on another machine",
                "variantctl --host host2 plan guest.xml",
            ),
        ],
    ),
    (
        "snapshot",
        &[
            ("this host as one file", "variantctl snapshot host1.json"),
            (
                "traits of this host for Nova's scheduler",
                "variantctl snapshot --nova provider provider.yaml",
            ),
            (
                "with versions of libvirt and QEMU that the agent does not know yet",
                "variantctl snapshot --target libvirt=12.8,qemu=11.1,arch=aarch64 host1.json",
            ),
        ],
    ),
    (
        "prepare",
        &[
            ("complete a domain", "variantctl prepare guest"),
            (
                "make exactly the edits of a saved plan",
                "variantctl prepare --plan p",
            ),
        ],
    ),
    (
        "create",
        &[
            ("start a transient guest", "variantctl create guest.xml"),
            (
                "leave it paused, with another connection",
                "variantctl create --paused --connect qemu:///system guest.xml",
            ),
        ],
    ),
    (
        "revert",
        &[
            ("a domain", "variantctl revert guest"),
            ("a file", "variantctl revert --file completed.xml"),
        ],
    ),
    (
        "bind",
        &[
            (
                "the writes, without making them",
                "variantctl bind 0009:01:00.0 --dry-run",
            ),
            (
                "stop services that use the GPU, then bind it",
                "variantctl bind 0009:01:00.0 --stop-services",
            ),
        ],
    ),
    (
        "release",
        &[
            (
                "restore the driver from before the bind",
                "variantctl release 0009:01:00.0",
            ),
            ("as JSON", "variantctl release --json 0009:01:00.0"),
        ],
    ),
    (
        "recover",
        &[
            (
                "every device with an interrupted change",
                "variantctl recover",
            ),
            ("one of them", "variantctl recover 0009:01:00.0"),
        ],
    ),
    (
        "reserve",
        &[
            ("from the next boot on", "variantctl reserve 0009:01:00.0"),
            ("from now on", "variantctl reserve 0009:01:00.0 --now"),
        ],
    ),
    (
        "unreserve",
        &[
            ("from the next boot on", "variantctl unreserve 0009:01:00.0"),
            (
                "release it now, too",
                "variantctl unreserve 0009:01:00.0 --now",
            ),
        ],
    ),
    (
        "monitor",
        &[
            ("a line for each change", "variantctl monitor"),
            ("a JSON object for each change", "variantctl monitor --json"),
        ],
    ),
    (
        "metrics",
        &[
            ("all metrics", "variantctl metrics"),
            ("as a field of a JSON object", "variantctl metrics --json"),
        ],
    ),
    (
        "completions",
        &[
            ("for bash", "variantctl completions bash"),
            ("for zsh", "variantctl completions zsh"),
        ],
    ),
    (
        "wait",
        &[
            ("10 seconds at most", "variantctl wait guest"),
            (
                "then start the guest",
                "variantctl wait guest --timeout 30 && virsh start guest",
            ),
        ],
    ),
];

/// Adds the examples of each verb to its help.
pub(super) fn add_to(verb: Command) -> Command {
    add_below(verb, "")
}

fn add_below(verb: Command, above: &str) -> Command {
    let path = format!("{above}{}", verb.get_name());
    if verb.has_subcommands() {
        let below = format!("{path} ");
        return verb.mut_subcommands(move |one| add_below(one, &below));
    }
    match EXAMPLES.iter().find(|(name, _)| *name == path) {
        Some((_, examples)) => verb.after_help(text(examples)),
        None => verb,
    }
}

fn text(examples: &[Example]) -> String {
    let one = |(what, command): &Example| format!("  # {what}\n  {command}");
    let all: Vec<String> = examples.iter().map(one).collect();
    format!("Examples:\n{}", all.join("\n"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use clap::{CommandFactory, Parser};

    use super::super::Cli;
    use super::*;

    /// Every verb without verbs below it, as `recipe list`.
    fn leaves(command: &Command, above: &str) -> Vec<String> {
        let verbs = command
            .get_subcommands()
            .filter(|verb| verb.get_name() != "help");
        let each = verbs.flat_map(|verb| {
            let path = format!("{above}{}", verb.get_name());
            match verb.has_subcommands() {
                true => leaves(verb, &format!("{path} ")),
                false => vec![path],
            }
        });
        each.collect()
    }

    fn commands() -> impl Iterator<Item = &'static str> {
        EXAMPLES
            .iter()
            .flat_map(|(_, examples)| examples.iter().map(|(_, command)| *command))
    }

    #[test]
    fn help_of_each_verb_has_two_examples_of_it() {
        let command = Cli::command();
        for path in leaves(&command, "") {
            let found = EXAMPLES.iter().find(|(name, _)| *name == path);
            assert!(found.is_some(), "no examples of '{path}'");
            let (_, examples) = found.expect("checked");
            let own = examples
                .iter()
                .filter(|(_, command)| command.contains(&path));
            assert!(own.count() >= 2 || path == "record-host", "'{path}'");
            let mut verb = command.clone();
            for name in path.split(' ') {
                verb = verb.find_subcommand(name).expect("a verb").clone();
            }
            let help = verb.render_help().to_string();
            assert!(help.contains("Examples:\n  # "), "{help}");
        }
        assert_eq!(EXAMPLES.len(), leaves(&command, "").len());
    }

    #[test]
    fn examples_are_command_lines_that_are_accepted() {
        for command in commands() {
            let own = command.split(" && ").next().expect("a command");
            let own = own.split(" > ").next().expect("a command");
            let parsed = Cli::try_parse_from(own.split(' '));
            assert!(parsed.is_ok(), "'{command}': {:?}", parsed.err());
        }
    }

    #[test]
    fn manual_page_has_each_example() {
        let page =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/man/variantctl.1.md");
        let page = fs::read_to_string(page).expect("the page");
        let (_, examples) = page.split_once("# EXAMPLES\n").expect("a section");
        let lines: Vec<&str> = examples
            .lines()
            .filter_map(|line| line.strip_prefix("    "))
            .collect();
        let shown = commands().filter(|command| !command.contains("completions"));
        let missing: Vec<&str> = shown.filter(|command| !lines.contains(command)).collect();
        assert!(missing.is_empty(), "not in variantctl(1): {missing:#?}");
    }
}
