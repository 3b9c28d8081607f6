//! A network's definition, as libvirt prints it.

use domain::MAX_BYTES;
use domain::network::{MAX_DEVICES, host_devices};
use kernel_glue::address::PciAddress;

/// Any definition is refused, or has host devices within the limits, each once, that parse to the same again.
pub(crate) fn host_devices_of(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let Some(devices) = host_devices(text) else {
        return;
    };
    assert!(text.len() <= MAX_BYTES, "an oversized text was read");
    assert!(devices.len() <= MAX_DEVICES, "{} devices", devices.len());
    assert!(devices.is_sorted_by(|a, b| a < b), "a device twice");
    let addresses: String = devices.iter().map(address).collect();
    let written = format!("<network><forward mode='hostdev'>{addresses}</forward></network>");
    if written.len() <= MAX_BYTES {
        assert_eq!(host_devices(&written), Some(devices));
    }
}

fn address(device: &PciAddress) -> String {
    format!(
        "<address type='pci' domain='{:#06x}' bus='{:#04x}' slot='{:#04x}' function='{:#x}'/>",
        device.domain(),
        device.bus(),
        device.device(),
        device.function()
    )
}
