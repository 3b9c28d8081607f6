//! `variantctl list`: one line per device.

use kernel_glue::device::Device;
use serde_json::{Value, json};

use super::problem::Problem;
use super::{HostView, egm, output, reserve};

pub(super) fn run(host_view: &HostView, all: bool) -> Result<(), Problem> {
    let wanted = |device: &&Device| all || host_view.recipes.for_device(device).is_some();
    let devices: Vec<&Device> = host_view.host.devices.values().filter(wanted).collect();
    let reserved = reserve::found(host_view);
    if host_view.json {
        let list: Value = devices
            .iter()
            .map(|device| to_json(host_view, device))
            .collect();
        return output::object(
            json!({"devices": list, "reservations": reserve::to_json(&reserved), "gaps": output::gaps_json(&host_view.host.gaps)}),
        );
    }
    output::text(&table(host_view, &devices))?;
    output::text(&egm::lines(&host_view.host))?;
    if devices.is_empty() {
        output::none_covered(&host_view.root);
    }
    if devices
        .iter()
        .any(|device| device.driver_override.is_some())
    {
        output::say("* driver_override is set");
    }
    reserve::tell(&reserved);
    output::gaps(&host_view.host.gaps);
    Ok(())
}

fn table(host_view: &HostView, devices: &[&Device]) -> String {
    let has_egm = !host_view.host.egm.is_empty();
    let mut head = vec!["ADDRESS", "DRIVER", "ID", "NODE", "GROUP"];
    head.extend(has_egm.then_some("EGM"));
    head.extend(["RECIPE", "DEVICE"]);
    let head = head.into_iter().map(str::to_owned).collect();
    let rows: Vec<Vec<String>> = if devices.is_empty() {
        Vec::new()
    } else {
        std::iter::once(head)
            .chain(devices.iter().map(|d| row(host_view, d)))
            .collect()
    };
    output::columns(&rows)
}

fn row(host_view: &HostView, device: &Device) -> Vec<String> {
    let recipe = host_view.recipes.for_device(device);
    let label = recipe
        .and_then(|recipe| recipe.member(device))
        .map(|member| member.label.clone());
    let mut row = vec![
        device.address.to_string(),
        driver(device),
        device.id.to_string(),
        or_dash(device.numa_node),
        or_dash(device.iommu_group),
    ];
    let has_egm = !host_view.host.egm.is_empty();
    row.extend(has_egm.then(|| egm::name(&host_view.host, device)));
    row.extend([or_dash(recipe.map(|recipe| &recipe.name)), or_dash(label)]);
    row
}

/// The driver's name, `-` when unbound, with `*` when an override is set.
pub(super) fn driver(device: &Device) -> String {
    let mark = if device.driver_override.is_some() {
        " *"
    } else {
        ""
    };
    format!("{}{mark}", or_dash(device.driver.as_ref()))
}

pub(super) fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// The fields of a device in `list` and `show`.
pub(super) fn to_json(host_view: &HostView, device: &Device) -> Value {
    let recipe = host_view.recipes.for_device(device);
    json!({
        "address": device.address,
        "id": device.id,
        "class": format!("{:06x}", device.class),
        "driver": device.driver,
        "driver_override": device.driver_override,
        "numa_node": device.numa_node,
        "iommu_group": device.iommu_group,
        "egm": egm::to_json(&host_view.host, device),
        "recipe": recipe.map(|recipe| &recipe.name),
        "label": recipe.and_then(|recipe| recipe.member(device)).map(|member| &member.label),
    })
}
