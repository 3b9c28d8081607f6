//! How the host was started: processor, command line, VFIO's switches, memory.

use kernel_glue::sysfs::MAX_TEXT;

use super::super::scene::{Boot, Memory, Seen, Vendor};
use super::Look;
use super::fact::Facts;

const COMMAND_LINE: &str = "proc/cmdline";
const MEMORY: &str = "proc/meminfo";
/// VFIO's parameters that weaken the host, by module.
const SWITCHES: [(&str, &str); 2] = [
    ("vfio", "enable_unsafe_noiommu_mode"),
    ("vfio_iommu_type1", "allow_unsafe_interrupts"),
];
/// The lines of [`MEMORY`] that are read.
const LINES: [&str; 4] = [
    "MemTotal",
    "HugePages_Total",
    "HugePages_Free",
    "Hugepagesize",
];
/// Arguments of the kernel that checks read, by their start. Others, such as keys and addresses, are not recorded.
const ARGUMENTS: [&str; 9] = [
    "intel_iommu=",
    "amd_iommu=",
    "iommu=",
    "iommu.",
    "pcie_acs_override",
    "module_blacklist=",
    "modprobe.blacklist=",
    "hugepages",
    "default_hugepagesz=",
];
/// Bytes of `/proc/cpuinfo` that contain the processor's vendor.
const HEAD: usize = 4096;

pub(super) fn read(look: &Look) -> Boot {
    Boot {
        vendor: vendor(look),
        command_line: look
            .text(COMMAND_LINE, COMMAND_LINE)
            .map(Option::unwrap_or_default),
        no_iommu: switch(look, SWITCHES[0]),
        unsafe_interrupts: switch(look, SWITCHES[1]),
        memory: look
            .text(MEMORY, MEMORY)
            .map(|text| memory(&text.unwrap_or_default())),
    }
}

fn vendor(look: &Look) -> Vendor {
    let head = look.root.head("proc/cpuinfo", HEAD).unwrap_or_default();
    let text = String::from_utf8_lossy(&head);
    let known = [
        ("GenuineIntel", Vendor::Intel),
        ("AuthenticAMD", Vendor::Amd),
        ("CPU implementer", Vendor::Arm),
    ];
    let found = known.into_iter().find(|(word, _)| text.contains(word));
    found.map_or(Vendor::Unknown, |(_, vendor)| vendor)
}

/// A module's parameter; off while the module is not loaded.
fn switch(look: &Look, parameter: (&str, &str)) -> Seen<bool> {
    let path = parameter_path(parameter);
    let text = look.text(&path, "sys/module")?;
    // The kernel prints bool parameters as Y and N (param_get_bool).
    Ok(text.is_some_and(|text| text.trim() == "Y"))
}

fn parameter_path((module, name): (&str, &str)) -> String {
    format!("sys/module/{module}/parameters/{name}")
}

/// What a recording keeps of these files.
pub(super) fn record(facts: &mut Facts<'_>) {
    facts.file(COMMAND_LINE, COMMAND_LINE, MAX_TEXT, |content| {
        let text = String::from_utf8_lossy(content);
        let is_read = |word: &&str| ARGUMENTS.iter().any(|start| word.starts_with(start));
        let words: Vec<&str> = text.split_whitespace().filter(is_read).collect();
        words.join(" ") + "\n"
    });
    facts.file(MEMORY, MEMORY, MAX_TEXT, |content| {
        let text = String::from_utf8_lossy(content);
        let is_read = |line: &&str| LINES.iter().any(|name| line.starts_with(name));
        let lines = text.lines().filter(is_read);
        lines.map(|line| format!("{line}\n")).collect::<String>()
    });
    for parameter in SWITCHES {
        facts.whole(&parameter_path(parameter), "sys/module", MAX_TEXT);
    }
}

fn memory(text: &str) -> Memory {
    let number = |name: &str| {
        let mut values = text.lines().filter_map(|line| line.strip_prefix(name));
        let value = values.next().and_then(|rest| rest.strip_prefix(':'));
        let digits = value.and_then(|value| value.split_whitespace().next());
        digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
    };
    Memory {
        total: number("MemTotal"),
        huge_pages: number("HugePages_Total"),
        free_pages: number("HugePages_Free"),
        page: number("Hugepagesize"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_meminfo() {
        let text = "MemTotal:  1024 kB\nMemFree: 1 kB\nHugePages_Total:    4\nHugePages_Free: 3\nHugepagesize:  2048 kB";
        let memory = memory(text);
        assert_eq!((memory.total, memory.huge_pages), (1024, 4));
        assert_eq!((memory.free_pages, memory.page), (3, 2048));
    }
}
