//! Command queues of an SMMUv3 (Tegra241 CMDQ-Virtualization): whether they are asked for, and their conditions.
//!
//! The host's kernel gives them to guests since Linux 6.17 (IOMMU_HW_QUEUE_ALLOC), NVIDIA's kernels before. The hardware reads a
//! queue from guest memory as one contiguous range, which huge pages or EGM provide.

use super::left_out;
use crate::plan::{Assigned, Note, PlanInput, pair};
use crate::recipe::Smmu;
use crate::stack::Feature;
use domain::Domain;
use domain::code::Code;
use domain::refusal::Refusal;

/// The first Linux, as major and minor number, that gives command queues to guests.
const SINCE: (u32, u32) = (6, 17);

/// What the guest's memory is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::plan) enum Memory {
    /// Huge pages or EGM.
    Contiguous,
    /// Pages of the host's base size.
    Scattered,
}

/// What becomes of the attribute for command queues.
pub(super) enum Queues {
    /// Not asked for.
    Default,
    /// The attribute is written.
    Set(bool),
    /// It is asked for and cannot be written, or has no effect.
    Lacking(Code, String),
}

impl Memory {
    pub(in crate::plan) fn of(domain: &Domain, has_egm: bool) -> Self {
        match domain.platform.hugepages || has_egm {
            true => Self::Contiguous,
            false => Self::Scattered,
        }
    }
}

impl Queues {
    /// The domain's option decides before the recipe.
    pub(super) fn of(input: &PlanInput<'_>, domain: &Domain, rules: Smmu) -> Self {
        let Some(asked) = domain.options.cmdqv.or(rules.cmdqv) else {
            return Self::Default;
        };
        let stack = &input.target.stack;
        if let Some(lack) = pair::command_queues(stack) {
            return Self::Lacking(Code::SmmuPair, lack);
        }
        if !asked {
            // A libvirt without the attribute starts no queues: "off" needs no attribute there.
            return match stack.has(Feature::SmmuCmdqv) {
                true => Self::Set(false),
                false => Self::Default,
            };
        }
        lack(input).map_or(Self::Set(true), |lack| {
            Self::Lacking(Code::CommandQueues, lack)
        })
    }

    /// The value to write.
    pub(super) fn attribute(&self) -> Option<bool> {
        match self {
            Self::Set(value) => Some(*value),
            Self::Default | Self::Lacking(..) => None,
        }
    }

    /// A note on what is missing; a refusal if the recipe requires the SMMUv3, or the domain the queues.
    pub(super) fn note(
        self,
        one: &Assigned<'_>,
        rules: Smmu,
        memory: Memory,
    ) -> Result<Option<Note>, Refusal> {
        match self {
            Self::Lacking(code, lack) => {
                let piece = "command queues of its SMMUv3";
                left_out(one, code, piece, rules.need, lack).map(Some)
            }
            Self::Set(true) if memory == Memory::Scattered => Ok(Some(Note {
                code: Code::CommandQueues,
                device: Some(one.hostdev.source),
                text: "its SMMUv3 has command queues, which need the guest's memory in <hugepages/> or EGM"
                    .to_owned(),
            })),
            _ => Ok(None),
        }
    }
}

/// What the host, libvirt or QEMU lacks for command queues.
fn lack(input: &PlanInput<'_>) -> Option<String> {
    let stack = &input.target.stack;
    let release = input.host.kernel_release.as_deref();
    if !stack.has(Feature::SmmuCmdqv) {
        Some(format!("libvirt {} has no 'cmdqv'", stack.libvirt))
    } else if stack.answer(Feature::QemuSmmuCmdqv).is_some() && !stack.has(Feature::QemuSmmuCmdqv) {
        Some(format!("QEMU {} has none", stack.qemu))
    } else if input.host.command_queues == Some(false) {
        Some("the host's kernel is built without CONFIG_TEGRA241_CMDQV".to_owned())
    } else {
        let old = release.filter(|release| is_old(release))?;
        let (major, minor) = SINCE;
        Some(format!(
            "the host's Linux {old} gives guests none, {major}.{minor} and NVIDIA's do"
        ))
    }
}

/// True for a kernel before [`SINCE`] that is not NVIDIA's.
fn is_old(release: &str) -> bool {
    let mut numbers = release.split(['.', '-', '+']).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) < SINCE && !release.contains("nvidia"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_need_linux_6_17_or_a_kernel_of_nvidia() {
        for (release, old) in [
            ("6.17.0-1008-nvidia-64k", false),
            ("6.14.0-1005-nvidia", false),
            ("6.14.0-37-generic", true),
            ("6.8.0-138-generic", true),
            ("6.17", false),
            ("7.0.0-44-generic", false),
            ("5.99-rc1", true),
            ("unknown", false),
            ("99999999999.1", false),
        ] {
            assert_eq!(is_old(release), old, "{release}");
        }
    }
}
