//! The check of EGM: the kernel shows regions where a recipe or a guest asks for EGM memory.
//!
//! Three parts can be missing, and the kernel tells them apart only while a GPU is bound: the module, which makes the class
//! `egm` when it is loaded; the load of the module; and the firmware's properties, without which the class stays empty.

use kernel_glue::device::Device;

use super::check::Check;
use super::driver::module_name;
use super::scene::{Blocked, Guest, Libvirt, Module, Scene, Unavailable};
use domain::code::Code;
use domain::hint::Hint;
use planner::recipe::Need;

/// The module that shows regions (drivers/vfio/pci/nvgrace-gpu/egm.c of NVIDIA's kernels).
pub(super) const MODULE: &str = "nvgrace_egm";
/// The class of the regions.
const CLASS: &str = "/sys/class/egm";
/// Characters of a name in a message.
const NAME: usize = 40;

/// Who asks for EGM memory, and for which GPUs.
#[derive(Default)]
struct Demand<'a> {
    /// Recipes and domains, each once.
    askers: Vec<String>,
    gpus: Vec<&'a Device>,
    /// A guest does not start without it.
    required: bool,
}

/// The check; `None` if neither a recipe nor a guest asks.
pub(super) fn check(scene: &Scene) -> Option<Check> {
    let demand = demand(scene);
    let first = demand.askers.first()?;
    let fine = "the kernel shows EGM regions";
    if let Some(regions) = regions(scene) {
        let pass = Check::pass(Code::EgmAbsent, fine).with(regions);
        return Some(pass.read_from(CLASS));
    }
    let check = match absent(scene, &demand) {
        Err(why) => Check::unavailable(Code::EgmAbsent, fine, &why),
        Ok((reason, hint)) => {
            let text = format!("{first} asks for EGM, and {reason}");
            match demand.required {
                true => Check::fail(Code::EgmAbsent, text, hint),
                false => Check::warn(Code::EgmAbsent, text, hint),
            }
        }
    };
    let check = check.read_from(CLASS);
    Some(match demand.askers.len() {
        1 => check,
        _ => check.with(format!("asked for by {}", demand.askers.join(", "))),
    })
}

fn demand(scene: &Scene) -> Demand<'_> {
    let mut demand = Demand::default();
    for (device, recipe) in scene.covered() {
        let need = recipe.egm.as_ref().map_or(Need::Ignore, |egm| egm.need);
        if need != Need::Ignore {
            let asker = format!("recipe '{}'", recipe.name);
            demand.add(asker, need == Need::Require, [device]);
        }
    }
    let domains = match &scene.libvirt {
        Ok(Libvirt::Answers { domains, .. }) => domains.as_slice(),
        _ => &[],
    };
    for guest in domains.iter().filter(|guest| asks(guest)) {
        // libvirt limits no name, and the message is one line.
        let name: String = guest.name.chars().take(NAME).collect();
        let covered = scene.covered().map(|(device, _)| device);
        let own = covered.filter(|device| has(guest, device));
        demand.add(format!("domain '{name}'"), true, own);
    }
    demand
}

/// True for a guest with EGM memory, and for one whose options ask for it.
fn asks(guest: &Guest) -> bool {
    let definition = guest.definition.as_ref();
    definition.is_ok_and(|definition| definition.domain().wants_egm())
}

fn has(guest: &Guest, device: &Device) -> bool {
    let definition = guest.definition.as_ref();
    definition.is_ok_and(|definition| {
        let mut sources = definition.domain().sources();
        sources.any(|source| source == device.address)
    })
}

impl<'a> Demand<'a> {
    fn add(&mut self, asker: String, required: bool, gpus: impl IntoIterator<Item = &'a Device>) {
        if !self.askers.contains(&asker) {
            self.askers.push(asker);
        }
        self.required |= required;
        self.gpus.extend(gpus);
    }
}

/// The regions as text; `None` if the kernel shows none.
fn regions(scene: &Scene) -> Option<String> {
    let regions = scene.host.egm.iter();
    let texts: Vec<String> = regions
        .map(|region| match region.bytes {
            Some(bytes) => format!("{} of {} MiB", region.path(), bytes >> 20),
            None => format!("{} of unknown size", region.path()),
        })
        .collect();
    (!texts.is_empty()).then(|| texts.join(", "))
}

/// Why the kernel shows no region, with the fix; an error while that cannot be known.
fn absent(scene: &Scene, demand: &Demand<'_>) -> Result<(String, Hint), Unavailable> {
    let mut gaps = scene.host.gaps.iter();
    if let Some(gap) = gaps.find(|gap| gap.path == CLASS) {
        return Err(Unavailable::of_reason("/sys/class/egm: ", &gap.reason));
    }
    let module = scene.modules.get(MODULE);
    let is_loaded = scene.egm_class == Ok(true);
    // A module that cannot be loaded explains the missing region in any case, so it comes before the question whether a GPU is bound.
    if let Some(module) = module.filter(|_| !is_loaded)
        && let Some(fault) = unloadable(scene, module)
    {
        return Ok(fault);
    }
    let mut gpus = demand.gpus.iter();
    if !gpus.any(|gpu| is_bound(scene, gpu)) {
        return Err(Unavailable::because(
            "the kernel shows a region only while one of its GPUs is bound: see 'variantctl bind'",
        ));
    }
    Ok(match (&scene.egm_class, module) {
        (Ok(true), _) => (
            "/sys/class/egm is empty although its GPU is bound".to_owned(),
            "enable EGM in the firmware's setup, and boot again".into(),
        ),
        (Ok(false), Some(_)) => (
            format!("module '{MODULE}' is not loaded"),
            Hint::run(format!("modprobe {MODULE}")),
        ),
        (Ok(false), None) | (Err(_), _) => (
            "no region is in /sys/class/egm although its GPU is bound".to_owned(),
            "enable EGM in the firmware's setup, and boot a kernel with nvgrace_egm, such as Ubuntu's linux-nvidia 7.0".into(),
        ),
    })
}

/// Why the module cannot be loaded.
fn unloadable(scene: &Scene, module: &Module) -> Option<(String, Hint)> {
    let release = scene.host.kernel_release.as_deref().unwrap_or("unknown");
    if !module.built_in && module.indexed.is_none() {
        let reason = format!("kernel {release} has no '{MODULE}'");
        let hint = "boot a kernel with CONFIG_NVGRACE_EGM, such as Ubuntu's linux-nvidia-64k-hwe-24.04 (26.04: linux-nvidia-64k); \
            generic ones have none";
        return Some((reason, hint.into()));
    }
    let Blocked { file, line, .. } = module.blocked.as_ref()?;
    let reason = format!("'{line}' in {file} blocks module '{MODULE}'");
    let hint = Hint::naming(
        "remove that line, and run {}",
        &format!("modprobe {MODULE}"),
    );
    Some((reason, hint))
}

fn is_bound(scene: &Scene, gpu: &Device) -> bool {
    let recipe = scene.recipes.for_device(gpu);
    let wanted = recipe.map(|recipe| module_name(&recipe.driver));
    wanted.is_some() && gpu.driver.as_ref().map(module_name) == wanted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::check::Verdict;
    use crate::doctor::testing::{answers, asking_for_egm, check, module, ready, with_gpu};
    use crate::doctor::tests::Spoil;
    use crate::fixture::{GPU, VARIANT, address, driver};
    use kernel_glue::egm::EgmRegion;
    use planner::recipe::Recipes;

    /// A guest that asks for EGM, on a host whose GPU is bound.
    fn asking(change: Spoil) -> Scene {
        let mut scene = with_gpu(ready(), |gpu| gpu.driver = Some(driver(VARIANT)));
        scene.libvirt = Ok(answers(vec![asking_for_egm()]));
        change(&mut scene);
        scene
    }

    fn recipe(scene: &mut Scene, need: &str) {
        let text = include_str!("../../../recipes/nvidia-grace.toml");
        let own = format!("[egm]\nneed = \"{need}\"");
        let text = text.replacen("[egm]\nneed = \"ignore\"", &own, 1);
        scene.recipes = Recipes::of(&[&text]);
    }

    fn unbound(scene: &mut Scene) {
        let gpu = scene.host.devices.get_mut(&address(GPU)).expect("gpu");
        gpu.driver = Some(driver("nvidia"));
    }

    fn has_module(scene: &mut Scene) {
        scene.modules.insert(MODULE.to_owned(), module());
    }

    #[rustfmt::skip]
    const CASES: &[(Spoil, Verdict, &str, &str)] = &[
        (|s| s.egm_class = Ok(true), Verdict::Fail, "/sys/class/egm is empty", "enable EGM in the firmware"),
        (has_module, Verdict::Fail, "'nvgrace_egm' is not loaded", "'modprobe nvgrace_egm'"),
        (|s| { s.modules.insert(MODULE.to_owned(), Module::default()); unbound(s) }, Verdict::Fail, "kernel 7.2.12 has no 'nvgrace_egm'", "linux-nvidia"),
        (|s| { has_module(s); s.modules.get_mut(MODULE).expect("module").blocked = Some(Blocked { file: "/etc/modprobe.d/x.conf".into(), line: "blacklist nvgrace_egm".into(), number: Some(1) }) },
         Verdict::Fail, "'blacklist nvgrace_egm' in /etc/modprobe.d/x.conf", "remove that line"),
        (|s| s.egm_class = Err(Unavailable::because("not recorded")), Verdict::Fail, "no region is in", "nvgrace_egm"),
        (|s| { has_module(s); unbound(s) }, Verdict::Unavailable, "the kernel shows", "'variantctl bind'"),
        (|s| s.host.gaps = vec![kernel_glue::host::Gap { path: "/sys/class/egm".into(), reason: "permission denied".into() }],
         Verdict::Unavailable, "the kernel shows", "permission denied"),
        (|s| { s.libvirt = Ok(answers(Vec::new())); recipe(s, "prefer"); has_module(s) }, Verdict::Warn, "recipe 'nvidia-grace' asks", "modprobe"),
        (|s| { s.libvirt = Ok(answers(Vec::new())); recipe(s, "require"); has_module(s) }, Verdict::Fail, "recipe 'nvidia-grace' asks", "modprobe"),
    ];

    #[test]
    fn each_missing_part_of_egm_is_named_with_its_fix() {
        for (index, (change, verdict, text, hint)) in CASES.iter().enumerate() {
            let found = check(&asking(*change), Code::EgmAbsent);
            assert_eq!(found.verdict, *verdict, "{index}: {found:?}");
            let own = found.hint.clone().unwrap_or_default();
            assert!(found.text.contains(text), "{index}: {found:?}");
            assert!(own.as_str().contains(hint), "{index}: {found:?}");
            assert!(found.text.len() <= 160, "{index}: {found:?}");
        }
    }

    #[test]
    fn regions_pass_and_a_host_that_is_not_asked_has_no_such_check() {
        let scene = asking(|scene| {
            scene.host.egm = vec![EgmRegion {
                number: 4,
                bytes: Some(457_728 << 20),
                gpus: [address(GPU)].into(),
            }];
        });
        let found = check(&scene, Code::EgmAbsent);
        assert_eq!(found.verdict, Verdict::Pass);
        assert_eq!(found.detail.as_deref(), Some("/dev/egm4 of 457728 MiB"));
        let not_asked = check(&ready(), Code::EgmAbsent);
        assert_eq!(not_asked.text, "there is no such check");
    }
}
