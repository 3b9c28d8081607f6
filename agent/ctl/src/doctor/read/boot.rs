//! How the host was started: processor, command line, VFIO's switches, memory.

use super::super::scene::{Boot, Memory, Seen, Vendor};
use super::Look;

/// Bytes of `/proc/cpuinfo` that contain the processor's vendor.
const HEAD: usize = 4096;

pub(super) fn read(look: &Look) -> Boot {
    Boot {
        vendor: vendor(look),
        command_line: look
            .text("proc/cmdline", "proc/cmdline")
            .map(Option::unwrap_or_default),
        no_iommu: switch(look, "vfio", "enable_unsafe_noiommu_mode"),
        unsafe_interrupts: switch(look, "vfio_iommu_type1", "allow_unsafe_interrupts"),
        memory: look
            .text("proc/meminfo", "proc/meminfo")
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
fn switch(look: &Look, module: &str, name: &str) -> Seen<bool> {
    let path = format!("sys/module/{module}/parameters/{name}");
    let text = look.text(&path, "sys/module")?;
    Ok(text.is_some_and(|text| text.trim() == "Y"))
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
