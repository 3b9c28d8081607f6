//! Where libvirt writes an SMMUv3 property that this QEMU does not have, or in a JSON type that it does not accept.
//!
//! QEMU's JSON `-device` is strict: a number or boolean for a string, or a string for a number, is "Invalid parameter type". The
//! comma form of `-device` suits both.

use super::answer::{How, Spelling, Value, ValueType};
use super::{Feature, Stack};

/// A property that libvirt and QEMU do not agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// The attribute in the definition.
    pub attribute: &'static str,
    /// libvirt's question; its answer is what libvirt writes.
    pub libvirt: Feature,
    /// QEMU's question; its answer is what QEMU takes.
    pub qemu: Feature,
}

/// Attributes of an SMMUv3, and the questions to both halves.
const PAIRS: [(&str, Feature, Feature); 5] = [
    ("ats", Feature::SmmuAtsType, Feature::QemuSmmuAtsType),
    ("ril", Feature::SmmuRilType, Feature::QemuSmmuRilType),
    ("oas", Feature::SmmuOasType, Feature::QemuSmmuOasType),
    ("ssidsize", Feature::SmmuSsid, Feature::QemuSmmuSsid),
    ("cmdqv", Feature::SmmuCmdqv, Feature::QemuSmmuCmdqv),
];

impl Stack {
    /// The properties that do not fit. An unknown answer fits.
    #[must_use]
    pub fn misfits(&self) -> Vec<Misfit> {
        let misfit = |(attribute, libvirt, qemu)| {
            let (writes, takes) = (self.value(libvirt)?, self.value(qemu)?);
            (!fits(writes, takes)).then_some(Misfit {
                attribute,
                libvirt,
                qemu,
            })
        };
        PAIRS.into_iter().filter_map(misfit).collect()
    }

    /// The properties that do not fit, where a guest could get them: none where one half does not accelerate an SMMUv3.
    #[must_use]
    pub fn misfits_in_use(&self) -> Vec<Misfit> {
        let accelerates = [Feature::SmmuAccel, Feature::QemuSmmuAccel];
        match accelerates.iter().all(|feature| self.has(*feature)) {
            true => self.misfits(),
            false => Vec::new(),
        }
    }
}

impl Misfit {
    /// True if neither of the two answers is assumed.
    #[must_use]
    pub fn is_sure(&self, stack: &Stack) -> bool {
        let is_known = |feature| {
            let answer = stack.answer(feature);
            answer.is_some_and(|answer| answer.how != How::Assumed)
        };
        is_known(self.libvirt) && is_known(self.qemu)
    }

    /// Both packages, and what each has.
    #[must_use]
    pub fn text(&self, stack: &Stack) -> String {
        let writes = match stack.value(self.libvirt) {
            Some(Value::Named(name)) => format!("'{}'", name.as_str()),
            value => format!("'{}' as {}", self.attribute, kind(value)),
        };
        let takes = match stack.value(self.qemu) {
            Some(Value::Named(name)) => format!("has '{}'", name.as_str()),
            Some(Value::Type(_)) => format!("takes {}", kind(stack.value(self.qemu))),
            _ => "has no such property".to_owned(),
        };
        format!(
            "libvirt {} writes {writes}, and QEMU {} {takes}",
            stack.libvirt, stack.qemu
        )
    }
}

fn kind(value: Option<Value>) -> &'static str {
    match value {
        Some(Value::Type(ValueType::Bool)) => "a boolean",
        Some(Value::Type(ValueType::Integer)) => "a number",
        _ => "a string",
    }
}

/// What libvirt does not write fits each QEMU.
fn fits(writes: Value, takes: Value) -> bool {
    match (writes, takes) {
        (Value::Has(false), _) => true,
        (Value::Type(ValueType::Text), Value::Type(takes)) => takes == ValueType::Auto,
        // Only the attribute has the other spelling: libvirt writes QEMU's property `ssidsize` for it.
        (Value::Named(Spelling::SsidSizeVendor), takes) => {
            takes == Value::Named(Spelling::SsidSize)
        }
        (writes, takes) => writes == takes,
    }
}
