//! Checks of a device's driver: its module exists and can be loaded, and the driver gets the GPU's memory.

use kernel_glue::device::Device;
use kernel_glue::driver::DriverName;
use kernel_glue::firmware::TABLES;

use super::check::Check;
use super::device::attribute;
use super::scene::{Blocked, Module, Scene, Seen, Unavailable};
use domain::code::Code;
use domain::hint::Hint;
use planner::recipe::Recipe;

/// The driver that reads the size of the GPU's memory from the firmware.
pub(super) const NVGRACE: &str = "nvgrace_gpu_vfio_pci";

pub(super) fn checks(scene: &Scene, device: &Device, recipe: &Recipe) -> Vec<Check> {
    let name = module_name(&recipe.driver);
    let module = scene.modules.get(&name);
    let release = scene.host.kernel_release.as_deref().unwrap_or("*");
    let index = |name: &str| format!("/lib/modules/{release}/modules.{name}");
    let mut checks = vec![
        offered(scene, device, &name, module).read_from(index("alias")),
        file(&name, module).read_from(index("dep")),
        blocked(&name, module)
            .read_from("/etc/modprobe.d")
            .read_from("/proc/cmdline"),
        state(device, &name).read_from(attribute(device, "driver_override")),
    ];
    checks.extend(dynamic_id(device, &name));
    if name == NVGRACE {
        checks.push(memory(scene).read_from(format!("/{TABLES}")));
    }
    checks
}

/// A module's name has underscores; its driver and file may have hyphens.
pub(super) fn module_name(driver: &DriverName) -> String {
    driver.as_str().replace('-', "_")
}

fn offered(scene: &Scene, device: &Device, name: &str, module: Option<&Module>) -> Check {
    let fine = "the kernel has its VFIO driver";
    let mut own = scene.host.variants.iter().filter(|one| one.module == name);
    let fits = |one: &kernel_glue::alias::Variant| one.wildcards(&device.modalias).is_some();
    if own.clone().any(fits) {
        return Check::pass(Code::ModuleMissing, fine).with(name);
    }
    if let Some(why) = unindexed(scene) {
        return Check::unavailable(Code::ModuleMissing, fine, &why);
    }
    let release = scene.host.kernel_release.as_deref().unwrap_or("unknown");
    // Only a warning: with a driver_override the kernel binds a driver also to an id that it does not list (pci_match_device).
    if own.next().is_some() {
        return Check::warn(
            Code::ModuleMissing,
            format!("'{name}' of kernel {release} does not list {}", device.id),
            "install a kernel whose driver lists it: this one may show no GPU memory",
        );
    }
    let text = format!("kernel {release} offers no '{name}'");
    match module.and_then(|module| module.file.as_ref()) {
        Some(file) => Check::fail(
            Code::ModuleMissing,
            format!("{text}, although '{file}' is there"),
            Hint::run("depmod -a"),
        ),
        None => Check::fail(Code::ModuleMissing, text, installing(name, release)),
    }
}

/// Why `modules.alias` has no entry.
fn unindexed(scene: &Scene) -> Option<Unavailable> {
    let alias = |gap: &&kernel_glue::host::Gap| gap.path.ends_with("/modules.alias");
    let gap = scene.host.gaps.iter().find(alias)?;
    Some(Unavailable::of_reason("modules.alias: ", &gap.reason))
}

/// Of Ubuntu's kernels, linux-nvidia 6.17 and 7.0 and the generic 7.0 have NVIDIA's variant driver; linux-nvidia 6.8 has not.
fn installing(name: &str, release: &str) -> String {
    let ubuntu = ["-generic", "-generic-64k", "-nvidia", "-nvidia-64k"];
    match name {
        NVGRACE if ubuntu.iter().any(|end| release.ends_with(end)) => {
            "install linux-nvidia-64k-hwe-24.04 (on 26.04: linux-nvidia-64k) and boot it: linux-nvidia 6.8 has no such driver, 6.17 and \
             7.0 have, and so has the generic 7.0"
                .to_owned()
        }
        NVGRACE => "install a kernel with CONFIG_NVGRACE_GPU_VFIO_PCI (Linux 6.8), or its module, and run 'depmod -a'"
            .to_owned(),
        _ => format!("install a kernel that has '{name}', or its module, and run 'depmod -a'"),
    }
}

fn file(name: &str, module: Option<&Module>) -> Check {
    let fine = "its module can be found";
    let indexed = |module: &Module| module.indexed.clone();
    match module {
        None => not_recorded(Code::ModuleFile, fine),
        Some(module) if module.built_in => Check::pass(Code::ModuleFile, fine).with("built in"),
        Some(module) => match (indexed(module), &module.file) {
            (Some(path), Some(file)) if *file == path => {
                Check::pass(Code::ModuleFile, fine).with(path)
            }
            (Some(path), Some(file)) => Check::fail(
                Code::ModuleFile,
                format!("'{path}' is gone, and '{file}' is not in the index"),
                Hint::run("depmod -a"),
            ),
            (Some(path), None) => Check::fail(
                Code::ModuleFile,
                format!("'{path}' of module '{name}' is gone"),
                "reinstall its package, or restore the file and run 'depmod -a'",
            ),
            (None, _) => {
                let why = Unavailable::because("no module of that name is indexed");
                Check::unavailable(Code::ModuleFile, fine, &why)
            }
        },
    }
}

fn blocked(name: &str, module: Option<&Module>) -> Check {
    let fine = "its module is not blocked";
    let Some(module) = module else {
        return not_recorded(Code::ModuleBlocked, fine);
    };
    let Some(Blocked { file, line, number }) = &module.blocked else {
        return Check::pass(Code::ModuleBlocked, fine);
    };
    let text = format!("'{line}' in {file} blocks module '{name}'");
    let hint = match number {
        Some(number) => {
            Hint::run(format!("sed -i {number}s/^/#/ {file}")).then(", which comments it out")
        }
        None => format!("remove '{line}' from the kernel's command line and boot again").into(),
    };
    Check::fail(Code::ModuleBlocked, text, hint)
}

fn state(device: &Device, name: &str) -> Check {
    let fine = "its driver can be changed";
    let own = |text: &str| text.replace('-', "_") == name;
    let on = device
        .driver
        .as_ref()
        .map_or("no driver", DriverName::as_str);
    match (&device.driver, &device.driver_override) {
        (Some(_), _) => Check::pass(Code::OverrideStray, fine).with(format!("on {on}")),
        // An administrator writes 'none' to keep the device without a driver (Linux, Documentation/ABI/testing/sysfs-bus-pci).
        (None, Some(text)) if !own(text) && text != "none" => Check::warn(
            Code::OverrideStray,
            format!("it has no driver, and its driver_override '{text}' excludes all others"),
            Hint::with(
                "load that driver, or run {}",
                format!(
                    "echo > /sys/bus/pci/devices/{}/driver_override",
                    device.address
                ),
            ),
        ),
        (None, _) => Check::pass(Code::OverrideStray, fine).with("on no driver"),
    }
}

/// A variant driver's ids are only for devices whose override names it, so a binding without that comes from `new_id`.
fn dynamic_id(device: &Device, name: &str) -> Option<Check> {
    let driver = device.driver.as_ref()?;
    // The plain vfio-pci has no ids of its own; 'vfio-pci.ids=' is the usual way to bind it.
    let is_own = module_name(driver) == name && name != "vfio_pci";
    if !is_own || device.driver_override.is_some() {
        return None;
    }
    let (vendor, id) = (device.id.vendor, device.id.device);
    let file = format!("/sys/bus/pci/drivers/{driver}/remove_id");
    Some(Check::warn(
        Code::DynamicId,
        format!(
            "it is on '{driver}' without a driver_override: 'new_id' makes that driver claim every later such device"
        ),
        Hint::with(
            "run {}, and reserve the device instead",
            format!("echo {vendor:04x} {id:04x} > {file}"),
        ),
    )
    .read_from(attribute(device, "driver_override")))
}

/// Does not open the device: with a bug of Linux 7.2, one open of a GPU without these properties makes
/// all later opens fail.
fn memory(scene: &Scene) -> Check {
    let fine = "the firmware names GPU memory";
    let named: &Seen<bool> = &scene.memory_named;
    match named {
        Ok(true) => Check::pass(Code::MemoryNotShown, fine),
        Ok(false) => {
            let release = scene.host.kernel_release.as_deref().unwrap_or_default();
            let fault = match release.starts_with("7.2") {
                true => {
                    "; with this kernel, after one guest opens such a GPU every later open fails (busy) until the next boot"
                }
                false => "",
            };
            Check::fail(
                Code::MemoryNotShown,
                format!(
                    "no ACPI table has 'nvidia,gpu-mem-size', so a guest sees no GPU memory{fault}"
                ),
                "start no guest with it; update the firmware or enable its coherent memory there, and boot again",
            )
        }
        Err(why) => Check::unavailable(Code::MemoryNotShown, fine, why),
    }
}

fn not_recorded(code: Code, text: &str) -> Check {
    Check::unavailable(code, text, &Unavailable::because("not recorded"))
}
