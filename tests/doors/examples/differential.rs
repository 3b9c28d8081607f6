//! Compares what variantd reads of a definition with what libvirt made of it: `differential FOLDER KNOWN`.
//!
//! FOLDER is what `tests/lab define` wrote. Every value that is written in NAME.given.xml must be read from NAME.dumped.xml
//! as the same; what libvirt adds by itself does not count. Definitions named `spelling-*` must also be refused by both or by
//! neither. KNOWN lists differences that have a reason, as `NAME<tab>VALUE<tab>REASON`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs};

use agent::domain::{Cell, Controller, Domain, GuestAddress, Hostdev};

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1).map(PathBuf::from);
    let (Some(folder), Some(known)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: differential FOLDER KNOWN");
        return ExitCode::from(2);
    };
    let mut tally = Tally::new(&fs::read_to_string(&known).expect("the list of known differences"));
    for name in names(&folder) {
        compare(&folder, &name, &mut tally);
    }
    tally.print();
    ExitCode::from(u8::from(!tally.is_good()))
}

fn names(folder: &Path) -> Vec<String> {
    let files = fs::read_dir(folder).expect("the folder").flatten();
    let names = files.map(|file| file.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names
        .filter_map(|name| Some(name.strip_suffix(".given.xml")?.to_owned()))
        .collect();
    names.sort();
    names
}

/// What came of all files.
#[derive(Default)]
struct Tally {
    known: BTreeMap<(String, String), String>,
    met: BTreeSet<(String, String)>,
    files: usize,
    /// Files that libvirt took, and all, by where they come from: the first word of their names.
    kinds: BTreeMap<String, (usize, usize)>,
    values: BTreeMap<&'static str, usize>,
    refused: BTreeMap<String, usize>,
    differences: Vec<String>,
}

impl Tally {
    fn new(known: &str) -> Self {
        let lines = known
            .lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty());
        let entry = |line: &str| {
            let mut fields = line.split('\t').map(str::to_owned);
            Some(((fields.next()?, fields.next()?), fields.next()?))
        };
        Self {
            known: lines.filter_map(entry).collect(),
            ..Self::default()
        }
    }

    /// A value that both read the same, or a difference.
    fn value(
        &mut self,
        file: &str,
        what: &'static str,
        same: bool,
        words: impl FnOnce() -> String,
    ) {
        *self.values.entry(what).or_default() += 1;
        if !same {
            self.difference(file, what, &words());
        }
    }

    fn difference(&mut self, file: &str, what: &str, words: &str) {
        let key = (file.to_owned(), what.to_owned());
        match self.known.contains_key(&key) {
            true => drop(self.met.insert(key)),
            false => self.differences.push(format!("{file}: {what}: {words}")),
        }
    }

    fn is_good(&self) -> bool {
        self.differences.is_empty()
    }

    fn print(&self) {
        let values: usize = self.values.values().sum();
        let compared: usize = self.kinds.values().map(|(compared, _)| compared).sum();
        for (what, count) in &self.values {
            println!("  {count:6} {what}");
        }
        for (kind, (compared, all)) in &self.kinds {
            println!("  {kind}: {compared} of {all} compared");
        }
        for (reason, count) in &self.refused {
            println!("  not compared: {count:4} {reason}");
        }
        for ((file, what), reason) in self.known.iter().filter(|(key, _)| self.met.contains(*key)) {
            println!("  known: {file}: {what}: {reason}");
        }
        for difference in &self.differences {
            println!("DIFFERS {difference}");
        }
        println!(
            "{} files, {compared} compared, {values} values, {} known differences, {} differences",
            self.files,
            self.met.len(),
            self.differences.len()
        );
    }
}

fn compare(folder: &Path, file: &str, tally: &mut Tally) {
    let read = |kind: &str| fs::read_to_string(folder.join(format!("{file}.{kind}")));
    let given = Domain::parse(&read("given.xml").unwrap_or_default());
    tally.files += 1;
    let kind = file.split('-').next().unwrap_or_default().to_owned();
    tally.kinds.entry(kind.clone()).or_default().1 += 1;
    let is_spelling = file.starts_with("spelling-");
    let Ok(dumped) = read("dumped.xml") else {
        let said = read("refused").unwrap_or_default();
        if is_spelling && given.is_ok() {
            tally.difference(
                file,
                "refusal",
                &format!("only libvirt refuses: {}", said.trim()),
            );
        }
        let reason = said.trim().trim_start_matches("error: ");
        let reason = reason.split(':').next().unwrap_or_default();
        *tally
            .refused
            .entry(format!("libvirt refuses: {}", shortened(reason)))
            .or_default() += 1;
        return;
    };
    tally.kinds.entry(kind).or_default().0 += 1;
    let given = match given {
        Ok(given) => given,
        Err(refusal) => {
            return tally.difference(
                file,
                "refusal",
                &format!("only variantd refuses: {refusal}"),
            );
        }
    };
    match Domain::parse(&dumped) {
        Ok(dumped) => domains(file, &given, &dumped, tally),
        Err(refusal) => {
            tally.difference(file, "refusal", &format!("libvirt's own text: {refusal}"))
        }
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}

/// `same!(tally, file, "what", given, dumped)`
macro_rules! same {
    ($tally:expr, $file:expr, $what:literal, $given:expr, $dumped:expr) => {{
        let (given, dumped) = (&$given, &$dumped);
        $tally.value($file, $what, given == dumped, || {
            format!("variantd reads {given:?}, libvirt {dumped:?}")
        });
    }};
}

fn domains(file: &str, given: &Domain, dumped: &Domain, tally: &mut Tally) {
    same!(tally, file, "name", given.name, dumped.name);
    if given.uuid.is_some() {
        same!(tally, file, "uuid", given.uuid, dumped.uuid);
    }
    if given.arch.is_some() {
        same!(tally, file, "arch", given.arch, dumped.arch);
        same!(tally, file, "machine", given.family(), dumped.family());
    }
    same!(tally, file, "memory", given.memory_kib, dumped.memory_kib);
    same!(
        tally,
        file,
        "memory devices",
        given.memory_devices_kib,
        dumped.memory_devices_kib
    );
    same!(tally, file, "vcpu", given.vcpus, dumped.vcpus);
    same!(tally, file, "cells", given.cells.len(), dumped.cells.len());
    for cell in &given.cells {
        cells(file, cell, dumped, tally);
    }
    let nodes = |domain: &Domain| {
        let nodes = domain
            .memory_nodes
            .iter()
            .map(|node| (node.cell, node.nodes.to_string()));
        nodes.collect::<BTreeMap<u32, String>>()
    };
    same!(tally, file, "memnode", nodes(given), nodes(dumped));
    for controller in &given.controllers {
        controllers(file, controller, dumped, tally);
    }
    let sources = |domain: &Domain| {
        domain
            .hostdevs
            .iter()
            .map(|one| one.source)
            .collect::<Vec<_>>()
    };
    same!(
        tally,
        file,
        "hostdev source",
        sources(given),
        sources(dumped)
    );
    for (given, dumped) in given.hostdevs.iter().zip(&dumped.hostdevs) {
        hostdevs(file, given, dumped, tally);
    }
    for address in &given.other_addresses {
        let same = dumped.other_addresses.contains(address)
            || dumped
                .other_addresses
                .iter()
                .any(|other| other.at == address.at && other.multifunction);
        tally.value(file, "device address", same, || {
            format!("libvirt has no device at {address}")
        });
    }
    platforms(file, given, dumped, tally);
}

fn cells(file: &str, given: &Cell, dumped: &Domain, tally: &mut Tally) {
    let Some(cell) = dumped.cells.iter().find(|cell| cell.id == given.id) else {
        return tally.difference(
            file,
            "cell id",
            &format!("libvirt has no cell {}", given.id),
        );
    };
    same!(
        tally,
        file,
        "cell cpus",
        given.cpus.to_string(),
        cell.cpus.to_string()
    );
    same!(
        tally,
        file,
        "cell memory",
        given.memory_kib,
        cell.memory_kib
    );
    for (to, distance) in &given.distances {
        same!(
            tally,
            file,
            "distance",
            Some(distance),
            cell.distances.get(to)
        );
    }
}

fn controllers(file: &str, given: &Controller, dumped: &Domain, tally: &mut Tally) {
    let found = dumped.controller(given.index);
    tally.value(file, "controller index", found.is_some(), || {
        format!("libvirt has no controller {}", given.index)
    });
    let Some(found) = found else { return };
    same!(tally, file, "controller model", given.model, found.model);
    if given.bus_number.is_some() {
        same!(tally, file, "busNr", given.bus_number, found.bus_number);
    }
    same!(tally, file, "controller node", given.cell, found.cell);
    same!(
        tally,
        file,
        "controller hotplug",
        given.hotplug,
        found.hotplug
    );
    let window = |one: &Controller| one.hole64_kib.filter(|size| *size > 0);
    same!(tally, file, "pcihole64", window(given), window(found));
    address(file, given.address, found.address, tally);
}

fn hostdevs(file: &str, given: &Hostdev, dumped: &Hostdev, tally: &mut Tally) {
    same!(
        tally,
        file,
        "hostdev managed",
        given.managed,
        dumped.managed
    );
    let model = |one: &Hostdev| one.driver.as_ref().and_then(|driver| driver.model.clone());
    same!(
        tally,
        file,
        "hostdev driver model",
        model(given),
        model(dumped)
    );
    let iommufd = |one: &Hostdev| one.driver.as_ref().and_then(|driver| driver.iommufd);
    same!(
        tally,
        file,
        "hostdev iommufd",
        iommufd(given),
        iommufd(dumped)
    );
    let nodeset = |one: &Hostdev| one.nodeset.as_ref().map(ToString::to_string);
    same!(
        tally,
        file,
        "hostdev nodeset",
        nodeset(given),
        nodeset(dumped)
    );
    address(file, given.address, dumped.address, tally);
}

/// libvirt sets multifunction='on' by itself where a slot has several functions, and gives an address where there is none.
fn address(
    file: &str,
    given: Option<GuestAddress>,
    dumped: Option<GuestAddress>,
    tally: &mut Tally,
) {
    let Some(given) = given else { return };
    let same = dumped.is_some_and(|dumped| {
        dumped.at == given.at && (dumped.multifunction || !given.multifunction)
    });
    tally.value(file, "guest address", same, || {
        format!("variantd reads {given:?}, libvirt {dumped:?}")
    });
}

fn platforms(file: &str, given: &Domain, dumped: &Domain, tally: &mut Tally) {
    let (ours, theirs) = (&given.platform, &dumped.platform);
    same!(tally, file, "type", ours.accelerator, theirs.accelerator);
    same!(tally, file, "acpi", ours.acpi, theirs.acpi);
    same!(
        tally,
        file,
        "maxphysaddr",
        ours.address_width,
        theirs.address_width
    );
    same!(
        tally,
        file,
        "hard_limit",
        ours.hard_limit_kib,
        theirs.hard_limit_kib
    );
    same!(tally, file, "hugepages", ours.hugepages, theirs.hugepages);
    let enabled = |domain: &Domain| {
        domain
            .platform
            .iommufd
            .as_ref()
            .is_some_and(|one| one.enabled)
    };
    same!(tally, file, "iommufd", enabled(given), enabled(dumped));
    for (ours, theirs) in ours.iommus.iter().zip(&theirs.iommus) {
        same!(
            tally,
            file,
            "iommu",
            (&ours.model, ours.bus, ours.accelerated),
            (&theirs.model, theirs.bus, theirs.accelerated)
        );
    }
    let arguments = |domain: &Domain| {
        let line = domain.command_line.iter().flat_map(|line| &line.arguments);
        line.map(|one| one.value.clone()).collect::<Vec<_>>()
    };
    same!(tally, file, "qemu:arg", arguments(given), arguments(dumped));
    let tables = |domain: &Domain| {
        domain
            .platform
            .acpi_tables
            .iter()
            .map(|one| one.path.clone())
            .collect::<Vec<_>>()
    };
    same!(tally, file, "acpi table", tables(given), tables(dumped));
}
