//! Removes from a file what identifies one machine, and what the reader does not use.
//!
//! Follows PCIe base specification 7.9.3 (Device Serial Number) and PCI 3.0 appendix I (VPD).

use crate::kconfig::{self, FOR_PEERS};
use crate::reader::{COMMAND_QUEUES, NESTED_SMMU};

/// Id of the vital product data capability; its data register may hold four bytes of the data.
const VITAL_PRODUCT_DATA: u8 = 0x03;
/// Id of the Device Serial Number extended capability.
const SERIAL_NUMBER: u32 = 0x0003;
/// Start of extended capabilities, and their maximum number at 8 bytes each.
const EXTENDED: usize = 0x100;
const MAX_EXTENDED: usize = (4096 - EXTENDED) / 8;

/// The recorded part of a file's content.
pub(super) fn without_serials(path: &str, mut content: Vec<u8>) -> Vec<u8> {
    match path.rsplit('/').next().unwrap_or_default() {
        "config" => {
            clear_product_data(&mut content);
            clear_serial_number(&mut content);
            content
        }
        "modules.alias" => lines_with(&content, crate::alias::LINE),
        "config.gz" => {
            // The reader unpacked it before, so an error is that of a file that it could not use either.
            let unpacked = kconfig::unpacked(&content).map(|text| options(&text));
            let packed = unpacked.and_then(|text| kconfig::packed(&text));
            packed.unwrap_or_default()
        }
        name if name.starts_with("config-") => options(&content),
        "cpuinfo" => [crate::reader::ADDRESS_SIZES, "vendor_id", "CPU implementer"]
            .map(|wanted| lines_with(&content, wanted))
            .concat(),
        "meminfo" => lines_with(&content, " MemTotal:"),
        _ => content,
    }
}

/// The lines of a kernel's configuration with options that are read. An option for peers that it does not name is not set there;
/// in a recording without the line it is unknown.
fn options(content: &[u8]) -> Vec<u8> {
    let [first, second] = FOR_PEERS.map(|option| {
        let own = lines_with(content, &format!("{option}="));
        match own.is_empty() {
            true => format!("# {option} is not set\n").into_bytes(),
            false => own,
        }
    });
    let nested = lines_with(content, NESTED_SMMU);
    let queues = lines_with(content, COMMAND_QUEUES);
    [nested, queues, first, second].concat()
}

fn lines_with(content: &[u8], wanted: &str) -> Vec<u8> {
    let holds = |line: &&[u8]| line.windows(wanted.len()).any(|w| w == wanted.as_bytes());
    let lines = content.split_inclusive(|b| *b == b'\n').filter(holds);
    lines.flatten().copied().collect()
}

/// Zeroes the serial number at each place in the list of extended capabilities.
fn clear_serial_number(config: &mut [u8]) {
    let mut at = EXTENDED;
    for _ in 0..MAX_EXTENDED {
        let header = config.get(at..at + 4).and_then(|h| h.try_into().ok());
        let Some(header) = header.map(u32::from_le_bytes) else {
            return;
        };
        if header & 0xffff == SERIAL_NUMBER {
            // The search goes on, because a damaged list can have the capability twice.
            zero(config, at + 4, 8);
        }
        at = (header >> 20) as usize & !3;
        if at < EXTENDED {
            return;
        }
    }
}

/// Zeroes the data register of the vital product data capability.
fn clear_product_data(config: &mut [u8]) {
    let mut at = usize::from(config.get(0x34).copied().unwrap_or_default() & !3);
    // As PCI_FIND_CAP_TTL: a damaged list may be a loop.
    for _ in 0..48 {
        let (Some(id), Some(next)) = (config.get(at).copied(), config.get(at + 1).copied()) else {
            return;
        };
        if at < 0x40 {
            return;
        }
        if id == VITAL_PRODUCT_DATA {
            zero(config, at + 4, 4);
        }
        at = usize::from(next & !3);
    }
}

fn zero(config: &mut [u8], start: usize, count: usize) {
    config
        .iter_mut()
        .skip(start)
        .take(count)
        .for_each(|b| *b = 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn config() -> Vec<u8> {
        let mut config = vec![0xaa; 4096];
        config[0x34] = 0x50;
        config[0x50..0x54].copy_from_slice(&[VITAL_PRODUCT_DATA, 0, 0, 0]);
        let next: u32 = 0x1 | 1 << 16 | 0x148 << 20;
        config[0x100..0x104].copy_from_slice(&next.to_le_bytes());
        let serial: u32 = 0x3 | 1 << 16;
        config[0x148..0x14c].copy_from_slice(&serial.to_le_bytes());
        config
    }

    #[test]
    fn a_serial_number_is_zeroed_and_nothing_beside_it() {
        let before = config();
        let after = without_serials("sys/x/config", before.clone());
        let changed: Vec<usize> = (0..4096).filter(|at| before[*at] != after[*at]).collect();
        let expected: Vec<usize> = (0x54..0x58).chain(0x14c..0x154).collect();
        assert_eq!(changed, expected);
    }

    #[test]
    fn scrub_keeps_only_vfio_aliases() {
        let text = "alias pci:v1 a\nalias vfio_pci:v2 b\nalias usb:v3 c\n";
        let kept = without_serials("lib/modules/7/modules.alias", text.into());
        assert_eq!(kept, b"alias vfio_pci:v2 b\n");
    }

    #[test]
    fn a_kernels_configuration_keeps_only_options_that_are_read() {
        let text = "CONFIG_LOCALVERSION=\"-secret\"\nCONFIG_ARM_SMMU_V3_IOMMUFD=y\n# CONFIG_TEGRA241_CMDQV is not set\nCONFIG_PCI_P2PDMA=y\n";
        let wanted = "CONFIG_ARM_SMMU_V3_IOMMUFD=y\n# CONFIG_TEGRA241_CMDQV is not set\n# CONFIG_VFIO_PCI_DMABUF is not set\nCONFIG_PCI_P2PDMA=y\n";
        let kept = without_serials("boot/config-7", text.into());
        assert_eq!(String::from_utf8_lossy(&kept), wanted);
        let packed = kconfig::packed(text.as_bytes()).expect("packed");
        let kept = kconfig::unpacked(&without_serials(kconfig::SHOWN, packed)).expect("gzip");
        assert_eq!(String::from_utf8_lossy(&kept), wanted);
        assert!(without_serials(kconfig::SHOWN, b"no gzip".into()).is_empty());
    }

    proptest! {
        #[test]
        fn arbitrary_config_space_does_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let length = bytes.len();
            prop_assert_eq!(without_serials("config", bytes).len(), length);
        }
    }
}
