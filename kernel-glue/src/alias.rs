//! VFIO variant drivers that `modules.alias` lists for a device.
//!
//! Follows libvirt's choice (src/util/virpci.c, since 10.0): of the `vfio_pci:` lines that match the device's modalias,
//! the one with the fewest wildcards, and the first of equals.

use serde::{Deserialize, Serialize};

/// Prefix of a relevant line. Other VFIO buses (`vfio_ap:`, ...) have other prefixes.
pub(crate) const LINE: &str = "alias vfio_pci:";

/// The letters before each field, in order: vendor, device, subsystem vendor and device, class.
const KEYS: [&str; 7] = ["v", "d", "sv", "sd", "bc", "sc", "i"];

/// One `alias vfio_pci:... module` line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// The pattern after `vfio_pci:`.
    pub pattern: String,
    /// The module's name, with underscores.
    pub module: String,
}

impl Variant {
    /// The number of wildcard fields of the pattern, 0 to 7, if it matches the device with this `modalias`
    /// (`pci:v...`); `None` otherwise. Case-sensitive.
    #[must_use]
    pub fn wildcards(&self, modalias: &str) -> Option<usize> {
        let pattern = fields(&self.pattern)?;
        let device = fields(modalias.strip_prefix("pci:")?)?;
        let mut pairs = pattern.iter().zip(device);
        let fits = pairs.all(|(wanted, found)| *wanted == "*" || *wanted == found);
        fits.then(|| pattern.iter().filter(|field| **field == "*").count())
    }
}

/// The `vfio_pci:` lines of a `modules.alias`, in file order; skips all others.
#[must_use]
pub fn parse(text: &str) -> Vec<Variant> {
    let variant = |line: &str| {
        let (pattern, module) = line.strip_prefix(LINE)?.split_once(' ')?;
        Some(Variant {
            pattern: pattern.to_owned(),
            // The last field of a line; depmod writes no trailing blanks, but the file may have been edited.
            module: module.trim().to_owned(),
        })
    };
    text.lines().filter_map(variant).collect()
}

/// The best variant for a device: fewest wildcards, the first of equals.
#[must_use]
pub fn best<'a>(variants: &'a [Variant], modalias: &str) -> Option<&'a Variant> {
    let fitting = variants
        .iter()
        .filter_map(|variant| variant.wildcards(modalias).map(|open| (open, variant)));
    fitting.min_by_key(|(open, _)| *open).map(|(_, v)| v)
}

/// Whether `modules.alias` lists one of `modules`, named with underscores, for the device with this `modalias`
/// (`pci:v...`): as a driver of its own bus, or as a VFIO driver.
pub(crate) fn lists(text: &str, modalias: &str, modules: &[String]) -> bool {
    text.lines().any(|line| {
        let named = line
            .strip_prefix("alias ")
            .and_then(|rest| rest.split_once(' '));
        named.is_some_and(|(pattern, module)| {
            is_one_of(modules, module.trim()) && fits(pattern, modalias)
        })
    })
}

/// Like [`lists`] for `modules.builtin.modinfo`: texts such as `ahci.alias=pci:v...`, each ended by a null character.
pub(crate) fn lists_built_in(text: &str, modalias: &str, modules: &[String]) -> bool {
    text.split('\0').any(|line| {
        let named = line.split_once(".alias=");
        named.is_some_and(|(module, pattern)| is_one_of(modules, module) && fits(pattern, modalias))
    })
}

fn is_one_of(modules: &[String], module: &str) -> bool {
    // modules.builtin.modinfo can have the name of the object file, with hyphens.
    let module = module.replace('-', "_");
    modules.contains(&module)
}

/// VFIO drivers have the same pattern after another prefix.
fn fits(pattern: &str, modalias: &str) -> bool {
    let pattern = pattern.strip_prefix("vfio_").unwrap_or(pattern);
    pattern.starts_with("pci:") && matches(pattern.as_bytes(), modalias.as_bytes())
}

/// Matches a pattern of fnmatch(3) with `*` as the only wildcard, as scripts/mod/file2alias.c writes them for PCI.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut from) = (0, 0);
    let mut star = None;
    while from < text.len() {
        if pattern.get(at) == Some(&b'*') {
            star = Some((at, from));
            at += 1;
        } else if pattern.get(at) == Some(&text[from]) {
            (at, from) = (at + 1, from + 1);
        } else if let Some((back, covered)) = star {
            star = Some((back, covered + 1));
            // Goes back to the last `*` only, so a long pattern takes quadratic and not exponential time.
            (at, from) = (back + 1, covered + 1);
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

/// Splits `v...d...sv...sd...bc...sc...i...` into the values after the letters. Hex digits are upper case, so the
/// lower-case letters end them.
pub(crate) fn fields(text: &str) -> Option<[&str; 7]> {
    let mut rest = text.strip_prefix(KEYS[0])?;
    let mut fields = [""; 7];
    for (field, next) in fields.iter_mut().zip(&KEYS[1..]) {
        (*field, rest) = rest.split_once(next)?;
    }
    fields[6] = rest;
    let shaped = |field: &&str| {
        let hex = |b: u8| b.is_ascii_digit() || (b'A'..=b'F').contains(&b);
        *field == "*" || (!field.is_empty() && field.bytes().all(hex))
    };
    fields.iter().all(shaped).then_some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = "\
# Aliases extracted from modules themselves.
alias pci:v000010DEd*sv*sd*bc03sc00i00* nouveau
alias vfio_pci:v*d*sv*sd*bc*sc*i* vfio_pci
alias vfio_pci:v000010DEd000031C2sv*sd*bc*sc*i* nvgrace_gpu_vfio_pci
alias vfio_pci:v000010DEd00002941sv*sd*bc*sc*i* nvgrace_gpu_vfio_pci
alias vfio_pci:v000010DEd00002348sv*sd*bc*sc*i* nvgrace_gpu_vfio_pci
alias vfio_pci:v000010DEd00002345sv*sd*bc*sc*i* nvgrace_gpu_vfio_pci
alias vfio_pci:v000010DEd00002342sv*sd*bc*sc*i* nvgrace_gpu_vfio_pci
alias vfio_pci:v000010DEd00002342sv*sd*bc*sc*i* second_of_equals
alias vfio_ap:t0A vfio_ap
alias vfio_pci:damaged
";

    fn choice(modalias: &str) -> Option<String> {
        best(&parse(LINES), modalias).map(|variant| variant.module.clone())
    }

    #[test]
    fn each_grace_id_gets_the_variant_driver() {
        for id in ["2342", "2345", "2348", "2941", "31C2"] {
            let modalias = format!("pci:v000010DEd0000{id}sv000010DEsd000016EBbc03sc02i00");
            assert_eq!(choice(&modalias).as_deref(), Some("nvgrace_gpu_vfio_pci"));
        }
    }

    #[test]
    fn another_device_gets_the_generic_driver() {
        let modalias = "pci:v00008086d000010D3sv00008086sd00000000bc02sc00i00";
        assert_eq!(choice(modalias).as_deref(), Some("vfio_pci"));
    }

    #[test]
    fn letter_case_counts() {
        let modalias = "pci:v000010ded00002342sv000010DEsd000016EBbc03sc02i00";
        assert_eq!(choice(modalias), None);
    }

    #[test]
    fn invalid_modalias_has_no_variant() {
        for text in [
            "",
            "pci:",
            "usb:v1d6Bp0002",
            "pci:v*",
            "pci:v1d2sv3sd4bc5sc6",
        ] {
            assert_eq!(choice(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_module_is_listed_for_the_devices_that_it_names_and_for_no_other() {
        let gpu = "pci:v000010DEd00002342sv000010DEsd000016EBbc03sc02i00";
        let display = "pci:v000010DEd00002342sv000010DEsd000016EBbc03sc00i00";
        let listed = |modalias: &str, module: &str| lists(LINES, modalias, &[module.to_owned()]);
        assert!(listed(gpu, "nvgrace_gpu_vfio_pci") && listed(gpu, "vfio_pci"));
        assert!(listed(display, "nouveau") && !listed(gpu, "nouveau"));
        assert!(!listed(gpu, "floppy") && !listed(gpu, "vfio_ap") && !listed(gpu, ""));
        let built_in = "ahci.description=x\0ahci.alias=pci:v*d*sv*sd*bc03sc02i00*\0";
        let ahci = ["ahci".to_owned()];
        assert!(lists_built_in(built_in, gpu, &ahci) && !lists_built_in(built_in, display, &ahci));
    }

    #[test]
    fn only_vfio_lines_of_pci_are_kept() {
        assert_eq!(parse(LINES).len(), 7);
    }
}
