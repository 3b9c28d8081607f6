//! Compares the speed of variantd with the tools that a user would use instead, in turns in one run, and writes the table of
//! `packaging/doc/performance.md`. Each round checks the result of the timed work. `tests/bench/run` runs it.

mod agent;
mod connect;
mod definition;
mod expected;
mod fleet;
mod growth;
mod hook;
mod host;
mod instructions;
mod lab;
mod libvirt;
mod libxml2;
mod many;
mod measure;
mod memory;
mod model;
mod process;
mod report;
mod row;
mod size;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use expected::Expected;
use row::Row;

#[derive(Parser)]
#[command(
    name = "tests/bench/run",
    about = "Measures variantd beside what a user would use instead"
)]
struct Arguments {
    /// Write packaging/doc/performance.md
    #[arg(long, conflicts_with = "groups")]
    write: bool,
    /// Exit with 1 if a result is worse than tests/bench/expected.toml, beyond a tolerance
    #[arg(long)]
    check: bool,
    /// Write the results to tests/bench/expected.toml
    #[arg(long, conflicts_with = "check")]
    expect: bool,
    /// Run a tenth of the rounds, for a trial
    #[arg(long, conflicts_with = "write")]
    quick: bool,
    /// Only these groups
    groups: Vec<String>,
}

/// Rows that share a measured object.
struct Group {
    name: &'static str,
    rows: fn() -> Vec<Row>,
}

const GROUPS: &[Group] = &[
    Group {
        name: "hook",
        rows: hook::rows,
    },
    Group {
        name: "host",
        rows: host::rows,
    },
    Group {
        name: "definition",
        rows: definition::rows,
    },
    Group {
        name: "instructions",
        rows: instructions::rows,
    },
    Group {
        name: "growth",
        rows: || growth::rows().into_iter().chain(fleet::rows()).collect(),
    },
    Group {
        name: "size",
        rows: size::rows,
    },
    Group {
        name: "libvirt",
        rows: libvirt::rows,
    },
    Group {
        name: "connect",
        rows: connect::rows,
    },
    Group {
        name: "lab",
        rows: lab::rows,
    },
];

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    if arguments.quick {
        measure::quick();
    }
    let wanted = |group: &&Group| {
        arguments.groups.is_empty() || arguments.groups.iter().any(|name| name == group.name)
    };
    let mut rows = Vec::new();
    for group in GROUPS.iter().filter(wanted) {
        eprintln!("measuring: {}", group.name);
        let measured = (group.rows)();
        for row in &measured {
            println!("{}", report::line(row));
        }
        rows.extend(measured);
    }
    if arguments.write {
        report::write(&rows)?;
        growth::write()?;
    }
    if arguments.expect {
        let mut expected = Expected::read()?;
        expected.replace(&rows);
        expected.write()?;
    }
    let mut status = ExitCode::SUCCESS;
    if arguments.check {
        let expected = Expected::read()?;
        for complaint in rows.iter().filter_map(|row| expected.complaint(row)) {
            eprintln!("worse than expected: {complaint}");
            status = ExitCode::FAILURE;
        }
    }
    Ok(status)
}
