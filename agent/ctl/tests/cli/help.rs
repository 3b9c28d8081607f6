//! What each verb says of itself, as golden files.

use clap::CommandFactory;

/// The help of each verb, and of each below it, under its name.
fn helps(command: &clap::Command, path: &str) -> Vec<String> {
    let mut all = Vec::new();
    let own = command.get_subcommands();
    for verb in own.filter(|verb| verb.get_name() != "help") {
        let name = format!("{path} {}", verb.get_name());
        let help = verb.clone().bin_name(&name).render_long_help();
        all.push(format!("== {name}\n\n{help}"));
        all.extend(helps(verb, &name));
    }
    all
}

#[test]
fn help_of_every_verb_equals_the_golden_file() {
    let mut command = ctl::cli::Cli::command().term_width(100);
    command.build();
    let own = command.render_long_help().to_string();
    let verbs = command.clone();
    let shown = verbs.get_subcommands().filter(|verb| !verb.is_hide_set());
    for verb in shown {
        assert!(own.contains(&format!("\n  {} ", verb.get_name())), "{own}");
    }
    let all: Vec<String> = std::iter::once(format!("== variantctl\n\n{own}"))
        .chain(helps(&verbs, "variantctl"))
        .collect();
    assert!(all.len() > 25, "{}", all.len());
    insta::with_settings!({snapshot_path => super::data("golden"), prepend_module_to_snapshot => false, omit_expression => true}, {
        insta::assert_snapshot!("help", all.join("\n"));
    });
}
