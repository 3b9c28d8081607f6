//! QEMU arguments in a form that can be compared between runs: one option per line, without values that differ in each run.

use std::collections::BTreeMap;

use anyhow::Result;

use super::argument::Argument;

/// The text of a golden `.argv` file; `machine` is the machine type in the definition.
pub fn text(emulator: &str, arguments: &[Argument], machine: &str) -> Result<String> {
    let mut lines = vec![emulator.to_owned()];
    let mut rows: BTreeMap<u64, BTreeMap<u64, u64>> = BTreeMap::new();
    let mut initiators = 0;
    for argument in arguments {
        if let Some((from, to, value)) = distance(argument)? {
            rows.entry(from).or_default().insert(to, value);
            continue;
        }
        // one line per node instead of one per distance, for readable differences
        lines.extend(std::mem::take(&mut rows).into_iter().map(row));
        lines.push(line(argument, machine, &mut initiators));
    }
    lines.extend(rows.into_iter().map(row));
    lines.push(String::new());
    Ok(lines.join("\n"))
}

fn distance(argument: &Argument) -> Result<Option<(u64, u64, u64)>> {
    if argument.option != "-numa" || !argument.value.starts_with("dist,") {
        return Ok(None);
    }
    let read = argument.properties()?;
    Ok((|| {
        Some((
            read.number("src")?,
            read.number("dst")?,
            read.number("val")?,
        ))
    })())
}

fn row((from, row): (u64, BTreeMap<u64, u64>)) -> String {
    let values: Vec<String> = row
        .iter()
        .map(|(to, value)| format!("{to}={value}"))
        .collect();
    format!("-numa dist from {from} to {}", values.join(" "))
}

fn line(argument: &Argument, machine: &str, initiators: &mut u32) -> String {
    let Argument { option, value } = argument;
    let value = match option.as_str() {
        "-uuid" => "UUID".to_owned(),
        // the machine type's alias means another version in each release
        "-machine" => match value.split_once(',') {
            Some((versioned, rest)) if !versioned.contains('=') => format!("{machine},{rest}"),
            _ => value.clone(),
        },
        "-object" if value.contains("acpi-generic-initiator") => renumbered(value, initiators),
        _ => value.clone(),
    };
    format!("{option} {value}").trim_end().to_owned()
}

/// libvirt numbers initiators over the lifetime of its daemon: `gi16` becomes `gi0`.
fn renumbered(value: &str, initiators: &mut u32) -> String {
    let Some((before, rest)) = value.split_once(r#""id":"gi"#) else {
        return value.to_owned();
    };
    let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    let renumbered = format!(r#"{before}"id":"gi{initiators}{rest}"#);
    *initiators += 1;
    renumbered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_differ_in_each_run_are_left_out() {
        let arguments = [
            Argument::new("-S", ""),
            Argument::new("-machine", "virt-11.1,usb=off"),
            Argument::new("-machine", "highmem-mmio-size=1T,x=y"),
            Argument::new("-numa", "node,nodeid=0"),
            Argument::new("-numa", "dist,src=0,dst=0,val=10"),
            Argument::new("-numa", "dist,src=0,dst=1,val=80"),
            Argument::new("-numa", "dist,src=1,dst=0,val=80"),
            Argument::new("-uuid", "ae01ad01-0c7d-46ff-adec-d676d071a578"),
            Argument::new(
                "-object",
                r#"{"qom-type":"acpi-generic-initiator","id":"gi16","node":1}"#,
            ),
            Argument::new(
                "-object",
                r#"{"qom-type":"acpi-generic-initiator","id":"gi17","node":2}"#,
            ),
        ];
        let text = text("/usr/bin/qemu-system-aarch64", &arguments, "virt").expect("readable");
        let expected = r#"/usr/bin/qemu-system-aarch64
-S
-machine virt,usb=off
-machine highmem-mmio-size=1T,x=y
-numa node,nodeid=0
-numa dist from 0 to 0=10 1=80
-numa dist from 1 to 0=80
-uuid UUID
-object {"qom-type":"acpi-generic-initiator","id":"gi0","node":1}
-object {"qom-type":"acpi-generic-initiator","id":"gi1","node":2}
"#;
        assert_eq!(text, expected);
    }
}
