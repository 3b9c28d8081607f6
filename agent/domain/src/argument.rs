//! Host devices that QEMU arguments assign without libvirt: `-device vfio-pci,host=...`.

use kernel_glue::address::PciAddress;

/// Prefix of the driver names of such devices: `vfio-pci` and `vfio-pci-nohotplug`.
const DRIVER: &str = "vfio-pci";

/// Parses a value of `-device`, in QEMU's form or as JSON, and returns its host device; `None` for any other argument.
#[must_use]
pub fn host_device(value: &str) -> Option<PciAddress> {
    let value = value.trim();
    let property = |name: &str| match value.starts_with('{') {
        true => json(value, name),
        false => plain(value, name),
    };
    if !property("driver")?.starts_with(DRIVER) {
        return None;
    }
    let host = property("host").and_then(|host| host.parse().ok());
    host.or_else(|| last(property("sysfsdev")?).parse().ok())
}

/// Parses QEMU's form: `DRIVER,NAME=VALUE,...`; the driver may have its name, too.
fn plain<'a>(value: &'a str, name: &str) -> Option<&'a str> {
    let mut parts = value.split(',');
    if name == "driver" {
        let first = parts.next()?;
        return Some(first.strip_prefix("driver=").unwrap_or(first));
    }
    let mut properties = parts.filter_map(|part| part.split_once('='));
    properties.find_map(|(known, value)| (known == name).then_some(value))
}

/// Returns the value of a name in a flat JSON object: names and values of devices have no escapes.
fn json<'a>(value: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = value.split_once(&format!("\"{name}\""))?;
    let rest = rest.trim_start().strip_prefix(':')?.trim_start();
    rest.strip_prefix('"')?.split('"').next()
}

/// Returns the last component of a path such as `/sys/bus/pci/devices/0000:01:00.0`.
fn last(path: &str) -> &str {
    path.trim_end_matches('/')
        .rsplit('/')
        .next()
        .unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_device_is_parsed_from_each_form_of_the_argument() {
        for value in [
            "vfio-pci,host=0009:01:00.0,bus=pcie.port1",
            "vfio-pci,id=dev0,host=9:01:00.0",
            "driver=vfio-pci,host=0009:01:00.0",
            "vfio-pci-nohotplug,rombar=0,sysfsdev=/sys/bus/pci/devices/0009:01:00.0",
            "vfio-pci,sysfsdev=/sys/devices/pci0009:00/0009:00:00.0/0009:01:00.0/",
            "{\"driver\":\"vfio-pci\",\"host\":\"0009:01:00.0\",\"id\":\"d\"}",
            "{ \"id\" : \"d\", \"driver\" : \"vfio-pci\", \"host\" : \"0009:01:00.0\" }",
        ] {
            let device = host_device(value).map(|device| device.to_string());
            assert_eq!(device.as_deref(), Some("0009:01:00.0"), "{value}");
        }
    }

    #[test]
    fn other_arguments_assign_no_device() {
        for value in [
            "",
            "-device",
            "vfio-pci",
            "vfio-pci,host=",
            "vfio-pci,host=01:00",
            "vfio-pci,sysfsdev=/sys/bus/mdev/devices/6f1f0b9e-3c1e-4b3a-9a39-0d0c7b9f6a11",
            "vfio-user-pci,host=01:00.0",
            "virtio-net-pci,host=01:00.0",
            "{\"driver\":\"virtio-net-pci\",\"host\":\"0009:01:00.0\"}",
            "{\"driver\":",
            "{",
        ] {
            assert_eq!(host_device(value), None, "{value}");
        }
    }
}
