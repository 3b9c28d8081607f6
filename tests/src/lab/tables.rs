//! The firmware tables of one machine: dumped in a first boot, changed, and stored in the cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::acpi;
use super::cache::{Cache, Key};
use super::command;
use super::machine::{Boot, Machine, last_lines};
use super::progress::Step;
use super::state::State;

const TIMEOUT: Duration = Duration::from_secs(120);

/// Makes the folder with `early.cpio` for this machine; the SRAT is sorted if `sort`.
pub fn build(cache: &Cache, machine: &Machine, image: &Path, sort: bool) -> Result<PathBuf> {
    let key = Key::new()
        .with(machine.tree.artefact.as_os_str().as_encoded_bytes())
        .with(machine.hardware().join("\n"))
        .with(machine.topology.asl())
        .with(include_str!("acpi.rs"))
        .with(include_str!("machine.rs"));
    let family = family(machine, sort);
    cache.artefact(&family, key, |folder| {
        let step = Step::begin("starting the machine once, to read its firmware tables");
        let console = dump(machine, image)?;
        let ssdt = acpi::compile(&machine.topology.asl())?;
        let tables = machine.topology.architecture.tables().iter();
        let tables = tables.map(|&name| Ok((name, table(&console, name)?)));
        let tables = tables.collect::<Result<Vec<acpi::Table>>>()?;
        let archive = acpi::upgrade(&tables, &ssdt, sort)?;
        fs::write(folder.join("early.cpio"), archive).context("cannot keep the tables")?;
        step.done();
        Ok(())
    })
}

/// One family per kind of machine, so that labs of different kinds do not replace each other's tables.
fn family(machine: &Machine, sort: bool) -> String {
    let gpus = &machine.topology.gpus;
    let memory = gpus
        .first()
        .map_or("none".to_owned(), |gpu| gpu.memory.to_string());
    let order = if sort { "sorted" } else { "unsorted" };
    let processor = machine.topology.architecture.suffix();
    format!("tables{processor}-{}x{memory}-{order}", gpus.len())
}

fn dump(machine: &Machine, image: &Path) -> Result<String> {
    let state = State::new(&format!("dump{}", machine.topology.architecture.suffix()))?;
    state.create()?;
    let boot = Boot {
        image: image.to_path_buf(),
        acpi: None,
        initrd: "dump.cpio",
        keep: false,
        paused: false,
    };
    let dumped = machine.start(&state, &boot).and_then(|qemu| {
        if !qemu.ends_within(TIMEOUT) {
            bail!("it does not power off:\n{}", last_lines(&state.console()));
        }
        let console = fs::read_to_string(state.console()).context("cannot read its console")?;
        if !console.contains("END-SRAT") {
            bail!("it printed none:\n{}", last_lines(&state.path("qemu.log")));
        }
        Ok(console)
    });
    state.stop()?;
    state.remove()?;
    dumped.context("cannot read the machine's firmware tables")
}

fn table(console: &str, name: &str) -> Result<Vec<u8>> {
    let text = between(console, &format!("BEGIN-{name}"), &format!("END-{name}"))
        .with_context(|| format!("the machine did not print its {name}"))?;
    let bytes = base64(text).with_context(|| format!("the {name} is garbled"))?;
    Ok(bytes)
}

fn between<'a>(text: &'a str, begin: &str, end: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(begin)?;
    Some(rest.split_once(end)?.0)
}

fn base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let (mut bits, mut width) = (0_u32, 0);
    for byte in text
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace() && *byte != b'=')
    {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        width += 6;
        if width >= 8 {
            width -= 8;
            bytes.push((bits >> width) as u8);
        }
    }
    Some(bytes)
}

/// Whether KVM with nested guests works on this machine; tried once per boot.
pub fn kvm_works(cache: &Cache, machine: &Machine, image: &Path) -> Result<bool> {
    if !Path::new("/dev/kvm").exists() {
        return Ok(false);
    }
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let key = Key::new()
        .with(boot)
        .with(machine.tree.artefact.as_os_str().as_encoded_bytes());
    let folder = cache.artefact("kvm", key, |folder| {
        let works =
            probe(&machine.tree.root(), image).is_ok_and(|text| text.contains("LAB-KVM-WORKS"));
        fs::write(folder.join("works"), if works { "yes" } else { "no" })
            .context("cannot keep the answer")
    })?;
    Ok(fs::read_to_string(folder.join("works")).is_ok_and(|text| text == "yes"))
}

const PROBE: &str = r#"
mount --bind "$1" "$1"
mount --rbind /dev "$1/dev"
mount -t proc proc "$1/proc"
mount --bind "$2" "$1/lab/image"
exec timeout --kill-after=1 8 chroot "$1" qemu-system-x86_64 -accel kvm -cpu host -machine q35 -m 256 -nodefaults \
    -display none -serial stdio -no-reboot -kernel /lab/image/vmlinuz -initrd /lab/image/probe.cpio \
    -append "console=ttyS0 quiet panic=-1"
"#;

fn probe(root: &Path, image: &Path) -> Result<String> {
    let step = Step::begin("trying whether /dev/kvm runs a guest");
    let output = command::output(command::in_namespace(PROBE).arg(root).arg(image));
    step.done();
    output
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_found_among_other_output() {
        let console = "boot\r\nBEGIN-DSDT\r\nRFNE\r\nVA==\r\nEND-DSDT\r\nend";
        assert_eq!(table(console, "DSDT").expect("a table"), b"DSDT");
        assert!(table(console, "SRAT").is_err());
    }

    #[test]
    fn garbled_text_is_not_a_table() {
        assert_eq!(base64("a!b"), None);
    }
}
