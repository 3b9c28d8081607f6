//! The option for EGM that a caller asks for. It is written into the definition, where each later start finds it.

use super::Note;
use super::fragment::Fragment;
use domain::code::Code;
use domain::edit::Edit;
use domain::{Domain, OPTIONS_NAMESPACE};

/// Writes the option; `None` if the domain has it already.
pub(crate) fn with_egm(domain: &Domain, wanted: Option<bool>) -> Option<Edit> {
    let value = value(wanted.filter(|wanted| domain.options.egm != Some(*wanted))?);
    if let Some(options) = &domain.options_element {
        return Some(options.with_egm(value));
    }
    let options = Fragment::new("variantd:options")
        .with("xmlns:variantd", OPTIONS_NAMESPACE)
        .with("egm", value);
    Some(match &domain.metadata {
        Some(metadata) => metadata.append(&options.print()),
        None => {
            let metadata = Fragment::new("metadata").child(options);
            domain.heading.insert_after(&metadata.print())
        }
    })
}

/// Tells the user about the option that was written.
pub(crate) fn note(wanted: bool) -> Note {
    Note {
        code: Code::EgmOption,
        device: None,
        text: format!("the domain's options get egm='{}'", value(wanted)),
    }
}

fn value(is_on: bool) -> &'static str {
    if is_on { "on" } else { "off" }
}
