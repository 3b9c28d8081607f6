//! The agent's AppArmor profile permits each write to a device.

use kernel_glue::address::PciAddress;
use kernel_glue::driver::DriverName;
use kernel_glue::kernel::Attribute;

const PROFILE: &str = include_str!("../../packaging/apparmor/variantd");

/// Paths of rules that permit writing.
fn writable() -> impl Iterator<Item = &'static str> {
    let rules = PROFILE.lines().map(str::trim);
    rules.filter_map(|rule| {
        let (path, access) = rule.strip_suffix(',')?.rsplit_once(' ')?;
        (access.contains('w') && path.starts_with('@')).then_some(path)
    })
}

#[test]
fn the_agents_profile_permits_each_write_to_a_device() {
    let device: PciAddress = "0009:01:00.0".parse().expect("an address");
    let driver: DriverName = "vfio-pci".parse().expect("a name");
    for attribute in [
        Attribute::Override(device),
        Attribute::Bind(driver.clone()),
        Attribute::Unbind(driver),
        Attribute::Probe,
        Attribute::Barrier(device),
        Attribute::UnbindLock(device),
    ] {
        let path = attribute.path();
        let name = path.file_name().expect("a name").to_string_lossy();
        // A file of a device is below /sys/devices, where the links of the bus lead.
        let file = |rule: &str| {
            let end = rule.rsplit('/').next().unwrap_or_default();
            let names = end.trim_matches(['{', '}']);
            names.split(',').any(|one| one == name)
        };
        assert!(writable().any(file), "{}", path.display());
    }
}
