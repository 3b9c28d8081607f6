//! The writes of a guest's start and end on the modelled kernel, by the previous state of its GPU.
//!
//! `tests/data/writes` has them, and the lab compares the same files with the writes to the real kernel
//! (`tests/scenario/writes.sh`); `cargo xtask regen writes` writes them.

use std::fs;
use std::path::Path;

use kernel_glue::driver::DriverName;
use kernel_glue::kernel::{Attribute, Kernel};
use kernel_glue::model::Model;

use super::*;
use crate::fixture::{GPU, UUID, VARIANT, address, context, definition, driver, guest};
use settings::config::Config;

/// The file names: the previous driver, which the override names, too.
const BEFORE: [&str; 3] = ["unbound", "pci-stub", "vfio-pci"];

fn kernel(before: &str) -> Arc<Model> {
    let model = Model::default();
    model.add_driver(driver("pci-stub"), []);
    model.add_driver(driver("vfio-pci"), []);
    model.add_driver(driver(VARIANT), []);
    let on = (before != "unbound").then(|| driver(before));
    let text = on.as_ref().map_or("", DriverName::as_str);
    let id = "10de:2342".parse().expect("id");
    model.add_device(address(GPU), id, on.clone());
    model
        .write(&Attribute::Override(address(GPU)), text)
        .expect("override");
    Arc::new(model)
}

/// A start and an end in the form of the files.
fn start_and_end(before: &str) -> String {
    let (directory, context) = context(Config::default());
    let kernel = kernel(before);
    let records = Records::new(directory.path().to_owned());
    let assigner = Assigner::new(kernel.clone(), context.clone(), records);
    let xml = context
        .look()
        .rewrite(&definition(&guest(GPU)), false)
        .expect("complete");
    let first = kernel.writes().len();
    assigner.prepare(&definition(&xml.text)).expect("prepare");
    assigner
        .start(definition(&xml.text).domain())
        .expect("start");
    let started = kernel.writes().len();
    assigner
        .release(&UUID.parse().expect("uuid"))
        .expect("release");
    let lines = |from: usize, to: usize| -> String {
        let writes = kernel.writes();
        let lines = writes[from..to].iter().map(|write| format!("{write}\n"));
        lines.collect::<String>().replace(GPU, "DEVICE")
    };
    let end = kernel.writes().len();
    format!(
        "start\n{}end\n{}",
        lines(first, started),
        lines(started, end)
    )
}

#[test]
fn the_writes_of_a_guests_start_and_end_are_those_of_the_lab() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/writes");
    for before in BEFORE {
        let path = folder.join(format!("{before}.txt"));
        let text = start_and_end(before);
        if std::env::var_os("VARIANTD_WRITE_GOLDEN").is_some() {
            fs::create_dir_all(&folder).expect("folder");
            fs::write(&path, &text).expect("written");
        }
        let golden = fs::read_to_string(&path).expect("golden file");
        assert_eq!(text, golden, "{}", path.display());
    }
}
