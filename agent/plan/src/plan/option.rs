//! The options that a caller asks for. They are written into the definition, where each later start finds them.

use super::fragment::Fragment;
use super::{Note, PlanInput};
use domain::code::Code;
use domain::edit::Edit;
use domain::{Domain, NumaMode, OPTIONS_NAMESPACE};

/// Writes the options of the input; nothing if the domain has them already.
pub(crate) fn edits(input: &PlanInput<'_>, domain: &Domain) -> Vec<Edit> {
    let (egm, numa) = changed(input, domain);
    if egm.is_none() && numa.is_none() {
        return Vec::new();
    }
    if let Some(options) = &domain.options_element {
        let egm = egm.map(|egm| options.with_egm(value(egm)));
        let numa = numa.map(|numa| options.with_numa(numa));
        return egm.into_iter().chain(numa).collect();
    }
    let mut options = Fragment::new("variantd:options").with("xmlns:variantd", OPTIONS_NAMESPACE);
    if let Some(egm) = egm {
        options = options.with("egm", value(egm));
    }
    if let Some(numa) = numa {
        options = options.with("numa", numa);
    }
    vec![match &domain.metadata {
        Some(metadata) => metadata.append(&options.print()),
        None => {
            let metadata = Fragment::new("metadata").child(options);
            domain.heading.insert_after(&metadata.print())
        }
    }]
}

/// The options of the input that the domain does not have yet.
fn changed(input: &PlanInput<'_>, domain: &Domain) -> (Option<bool>, Option<NumaMode>) {
    let has = domain.options;
    let egm = input.egm.filter(|wanted| has.egm != Some(*wanted));
    let numa = input.numa.wanted;
    (egm, numa.filter(|wanted| has.numa != Some(*wanted)))
}

/// Tells the user about the options that were written into `before`.
pub(crate) fn notes(input: &PlanInput<'_>, before: &Domain) -> Vec<Note> {
    let (egm, numa) = changed(input, before);
    let egm = egm.map(|egm| (Code::EgmOption, "egm", value(egm)));
    let numa = numa.map(|numa| (Code::NumaOption, "numa", numa.as_str()));
    let note = |(code, name, value)| {
        let text = format!("the domain's options get {name}='{value}'");
        Note::new(code, text)
    };
    egm.into_iter().chain(numa).map(note).collect()
}

fn value(is_on: bool) -> &'static str {
    if is_on { "on" } else { "off" }
}
