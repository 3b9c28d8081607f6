//! `variantctl topology`: the host, on request with a guest, as a tree, a matrix, a drawing, a graph or NCCL's file.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use clap_complete::engine::ArgValueCandidates;
use kernel_glue::device::Device;
use kernel_glue::numa::{Node, RangeList};
use serde_json::{Value, json};

use super::completion;
use super::list::to_json;
use super::problem::Problem;
use super::{HostView, capacity, defined, egm, hint, input, output};
use crate::drawing::{Kind, Part, dot, guest, host, matrix, nccl, peer, svg, tree};
use domain::refusal::about;
use domain::{Definition, Domain, MAX_BYTES};
use planner::plan::{Note, PlanInput};
use planner::rewrite;
use planner::target::Target;

/// The form of the drawing, and the guest.
#[derive(Debug, Args)]
pub(super) struct Request {
    /// Print for each pair of devices the nearest element that they share, and their distance
    #[arg(long, group = "form", conflicts_with = "guest")]
    matrix: bool,
    /// Write a drawing as SVG to FILE ('-' for standard output)
    #[arg(long, group = "form", value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Print a graph for Graphviz
    #[arg(long, group = "form")]
    dot: bool,
    /// Print the topology file that NCCL reads (NCCL_TOPO_FILE)
    #[arg(long, group = "form")]
    nccl: bool,
    /// Draw also the guest of a domain in libvirt
    #[arg(long, group = "guest", value_name = "NAME")]
    #[arg(add = ArgValueCandidates::new(completion::domains))]
    domain: Option<String>,
    /// Draw also the guest of the domain XML in FILE ('-' for standard input), completed
    #[arg(long, group = "guest", value_name = "FILE")]
    file: Option<PathBuf>,
}

pub(super) fn run(host_view: &HostView, request: &Request) -> Result<(), Problem> {
    let domain = request.domain(host_view)?;
    let domain = domain.as_ref();
    match &request.svg {
        Some(file) => drawing(host_view, file, domain)?,
        None if request.dot => output::data(&dot::text(&machines(host_view, domain)))?,
        None if request.nccl => nccl(host_view, domain)?,
        None if host_view.json => return as_json(host_view, request.matrix),
        None if request.matrix => print_matrix(host_view)?,
        None => text(host_view, domain)?,
    }
    output::gaps(&host_view.host.gaps);
    Ok(())
}

impl Request {
    /// The guest to draw, from libvirt or a file.
    fn domain(&self, host_view: &HostView) -> Result<Option<Domain>, Problem> {
        let plan_input = PlanInput::newest(&host_view.host, &host_view.recipes);
        if let Some(file) = &self.file {
            let definition = Definition::parse(input::text(file, MAX_BYTES)?)?;
            let facts = capacity::Facts::of_file(host_view, definition.domain(), None)?;
            let plan_input = PlanInput {
                numa: facts.input(),
                ..plan_input
            };
            return completed(host_view, &definition, &plan_input).map(Some);
        }
        let Some(name) = &self.domain else {
            return Ok(None);
        };
        let found = defined::in_libvirt(host_view, name, None)?;
        let target = found.versions.map_or(plan_input.target, Target::from);
        let definition = Definition::parse(found.domain.xml.as_str())?;
        let facts = capacity::Facts::of_domain(host_view, definition.domain())?;
        let plan_input = PlanInput {
            target: Target {
                iommufd: found.domain.capabilities.iommufd,
                ..target
            },
            formatted: true,
            libvirt: &found.libvirt(),
            numa: facts.input(),
            ..plan_input
        };
        completed(host_view, &definition, &plan_input).map(Some)
    }
}

/// The completed definition; unchanged with a note when it cannot be completed.
fn completed(
    host_view: &HostView,
    definition: &Definition,
    plan_input: &PlanInput<'_>,
) -> Result<Domain, Problem> {
    defined::say_networks(plan_input.libvirt, definition.domain());
    match rewrite::rewrite(definition, plan_input) {
        Ok(completed) if completed.text == definition.text() => Ok(definition.domain().clone()),
        Ok(completed) => Ok(Domain::parse(&completed.text)?),
        Err(refusal) => {
            let refusal = hint::refusal_for_host(refusal, &host_view.root);
            output::say(&format!(
                "note: the definition is drawn unchanged, because it cannot be completed: {refusal}"
            ));
            Ok(definition.domain().clone())
        }
    }
}

fn text(host_view: &HostView, domain: Option<&Domain>) -> Result<(), Problem> {
    output::text(&tree::text(&host::parts(
        &host_view.host,
        &host_view.recipes,
    )))?;
    output::text(&nodes(host_view))?;
    output::text(&egm::lines(&host_view.host))?;
    match domain {
        Some(domain) => {
            let tree = tree::text(&guest::parts(&host_view.host, domain));
            let threads = match guest::threads(domain) {
                threads if threads.is_empty() => threads,
                threads => format!(": {threads}"),
            };
            output::text(&format!("\nguest {}{threads}\n{tree}", domain.name))
        }
        None => Ok(()),
    }
}

/// The host and the guest, without branches that lead to no covered or assigned device.
fn machines(host_view: &HostView, domain: Option<&Domain>) -> Vec<Part> {
    let host = host::parts(&host_view.host, &host_view.recipes);
    let assigned = |part: &Part| {
        let mut hostdevs = domain.iter().flat_map(|domain| &domain.hostdevs);
        hostdevs.any(|one| Some(one.source) == part.device)
    };
    let wanted = |part: &Part| part.kind == Kind::Covered || assigned(part);
    // A host without such a device is drawn as a whole.
    let ours = host
        .clone()
        .leading_to(&wanted)
        .filter(|host| !host.below.is_empty());
    let guest = domain.map(|domain| guest::parts(&host_view.host, domain));
    let device = |part: &Part| matches!(part.kind, Kind::Covered | Kind::Device);
    let guest = guest.and_then(|guest| guest.leading_to(&device));
    [Some(ours.unwrap_or(host)), guest]
        .into_iter()
        .flatten()
        .collect()
}

fn print_matrix(host_view: &HostView) -> Result<(), Problem> {
    let text = matrix::text(&host_view.host, &host_view.recipes);
    if text.is_empty() {
        output::none_covered(&host_view.root);
    }
    output::text(&text)
}

fn drawing(host_view: &HostView, file: &Path, domain: Option<&Domain>) -> Result<(), Problem> {
    let machines = machines(host_view, domain);
    let text = svg::drawing(&machines[0], machines.get(1));
    if file == Path::new("-") {
        return output::data(&text);
    }
    fs::write(file, text)
        .map_err(|why| Problem::Failed(format!("cannot write '{}': {why}", file.display())))
}

fn nccl(host_view: &HostView, domain: Option<&Domain>) -> Result<(), Problem> {
    let file = match domain {
        Some(domain) => nccl::guest(&host_view.host, domain),
        None => nccl::host(&host_view.host, &host_view.recipes),
    };
    output::data(&file.text)?;
    for Note { code, device, text } in &file.warnings {
        output::say(&format!("warning: {} ({code})", about(*device, text)));
    }
    Ok(())
}

fn as_json(host_view: &HostView, matrix: bool) -> Result<(), Problem> {
    let devices = host_view.host.devices.values();
    let devices: Value = devices.map(|device| with_path(host_view, device)).collect();
    let nodes: Value = host_view.host.numa.nodes.iter().map(node_json).collect();
    let gaps = output::gaps_json(&host_view.host.gaps);
    let mut object = json!({"devices": devices, "nodes": nodes, "gaps": gaps});
    if matrix {
        let host = &host_view.host;
        object["pairs"] = peer::json(host, &matrix::devices(host, &host_view.recipes));
    }
    output::object(object)
}

fn with_path(host_view: &HostView, device: &Device) -> Value {
    let mut value = to_json(host_view, device);
    value["path"] = json!(device.ancestors);
    let express = device.config.express();
    value["link_speed"] = json!(express.map(|express| express.link_speed()));
    value["link_width"] = json!(express.map(|express| express.link_width()));
    value["ats"] = json!(device.ats());
    value["relaxed_ordering"] = json!(host_view.host.relaxed_ordering(device));
    value["relaxed_ordering_erratum"] = json!(host_view.host.relaxed_ordering_erratum(device));
    value
}

/// The nodes without processors; a run of equal ones, such as a GPU's eight, is one line.
fn nodes(host_view: &HostView) -> String {
    let numa = &host_view.host.numa;
    let initiators = numa.generic_initiators.clone().unwrap_or_default();
    let kind = |node: &Node| {
        let initiator = match initiators.contains(node.id.into()) {
            true => ", generic initiator",
            false => "",
        };
        format!("no CPUs, {} MiB{initiator}", node.memory_kib / 1024)
    };
    let mut runs: Vec<(RangeList, String)> = Vec::new();
    for node in numa.nodes.iter().filter(|node| node.cpus.is_empty()) {
        let kind = kind(node);
        match runs.last_mut() {
            Some((ids, last)) if *last == kind => {
                *ids = ids.iter().chain([node.id.into()]).collect()
            }
            _ => runs.push(([u32::from(node.id)].into_iter().collect(), kind)),
        }
    }
    let lines = runs
        .into_iter()
        .map(|(ids, kind)| format!("NUMA node {ids}: {kind}\n"));
    lines.collect()
}

fn node_json(node: &Node) -> Value {
    json!({"id": node.id, "cpus": node.cpus.to_string(), "memory_kib": node.memory_kib, "distances": node.distances})
}
