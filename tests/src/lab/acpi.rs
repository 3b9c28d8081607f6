//! Changes ACPI tables of the outer machine, so that Linux reads the values of a Grace host's firmware.
//!
//! - DSDT: q35's has revision 1, with 32-bit integers in every table. Revision 2 has 64-bit integers.
//! - SRAT: QEMU writes the generic initiators in hash order. Sorted, node ids equal proximity domains.
//! - IORT: GPUs bypass the emulated SMMUv3, which cannot translate for a device in another process. The changed table puts
//!   them behind it, so Linux groups and attaches them. The synthetic GPU does no DMA, so the difference has no effect.
//!
//! The kernel reads the tables from an uncompressed archive before its initial file system ("ACPI table upgrade").

use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::command;
use super::cpio::Archive;

const HEADER: usize = 36;
const REVISION: usize = 8;
const CHECKSUM: usize = 9;
const OEM_REVISION: usize = 24;
/// Where the SRAT's entries begin.
const SRAT_ENTRIES: usize = 48;
const MEMORY_AFFINITY: u8 = 1;
const GENERIC_INITIATOR: u8 = 5;
const MEMORY_FLAGS: usize = 28;
const HOT_PLUGGABLE: u8 = 2;

const IORT_SMMU_V3: u8 = 4;
const IORT_ROOT_COMPLEX: u8 = 2;
const IORT_MAPPING: usize = 20;

/// One table of the firmware, and its name.
pub type Table = (&'static str, Vec<u8>);

/// An archive with the changed tables and `added`; `sort` sorts the SRAT.
pub fn upgrade(tables: &[Table], added: &[u8], sort: bool) -> Result<Vec<u8>> {
    let mut archive = Archive::new();
    for folder in ["kernel", "kernel/firmware", "kernel/firmware/acpi"] {
        archive.folder(folder);
    }
    for (name, table) in tables {
        let changed = match *name {
            "DSDT" => with_wide_integers(table)?,
            "IORT" => behind_smmu(table)?,
            _ if sort => sorted(table)?,
            _ => continue,
        };
        archive.file(&path(name), &changed);
    }
    archive.file(&path("SSDT"), added);
    Ok(archive.finish())
}

fn path(name: &str) -> String {
    format!("kernel/firmware/acpi/{}.aml", name.to_lowercase())
}

/// Compiles ACPI source.
pub fn compile(source: &str) -> Result<Vec<u8>> {
    let stem = std::env::temp_dir().join(format!("variantd-lab-{}", std::process::id()));
    let (asl, aml) = (stem.with_extension("asl"), stem.with_extension("aml"));
    std::fs::write(&asl, source).with_context(|| format!("cannot write '{}'", asl.display()))?;
    let compiled = command::run(Command::new("iasl").arg("-p").arg(&stem).arg(&asl))
        .and_then(|()| std::fs::read(&aml).context("the compiled table is missing"));
    for file in [asl, aml] {
        // absent after a failure
        let _ = std::fs::remove_file(file);
    }
    compiled
}

fn with_wide_integers(dsdt: &[u8]) -> Result<Vec<u8>> {
    check(dsdt, b"DSDT")?;
    let mut table = dsdt.to_vec();
    table[REVISION] = 2;
    Ok(renewed(table))
}

fn sorted(srat: &[u8]) -> Result<Vec<u8>> {
    check(srat, b"SRAT")?;
    let (mut initiators, others): (Vec<&[u8]>, Vec<&[u8]>) = entries(srat)?
        .into_iter()
        .partition(|entry| entry[0] == GENERIC_INITIATOR);
    initiators.sort_by_key(|entry| proximity(entry, 4));
    let mut table = srat[..SRAT_ENTRIES].to_vec();
    for entry in others {
        table.extend(without_late_memory(entry));
    }
    for entry in initiators {
        table.extend_from_slice(entry);
    }
    Ok(renewed(table))
}

/// Maps the ids of all root complexes to the SMMU.
fn behind_smmu(iort: &[u8]) -> Result<Vec<u8>> {
    check(iort, b"IORT")?;
    let nodes = iort_nodes(iort)?;
    let smmu = nodes.iter().find(|(_, kind)| *kind == IORT_SMMU_V3);
    let (smmu, _) = smmu.context("the IORT has no SMMUv3")?;
    let mut table = iort.to_vec();
    let complexes = nodes.iter().filter(|(_, kind)| *kind == IORT_ROOT_COMPLEX);
    for (at, _) in complexes {
        let (count, first) = (number(&table, at + 8)?, number(&table, at + 12)?);
        for mapping in 0..count {
            let target = at + first + mapping * IORT_MAPPING + 12;
            let field = table.get_mut(target..target + 4);
            field
                .context("the IORT is cut short")?
                .copy_from_slice(&(*smmu as u32).to_le_bytes());
        }
    }
    Ok(renewed(table))
}

/// Place and type of each node.
fn iort_nodes(iort: &[u8]) -> Result<Vec<(usize, u8)>> {
    let (count, mut at) = (number(iort, 36)?, number(iort, 40)?);
    let mut nodes = Vec::new();
    for _ in 0..count {
        let header = iort.get(at..at + 3).context("the IORT is cut short")?;
        nodes.push((at, header[0]));
        at += usize::from(u16::from_le_bytes([header[1], header[2]]));
    }
    Ok(nodes)
}

fn number(table: &[u8], at: usize) -> Result<usize> {
    ensure!(at + 4 <= table.len(), "the table is cut short");
    Ok(proximity(table, at) as usize)
}

/// QEMU assigns the range for memory hotplug to the last node, here a generic initiator. This assigns it to node 0.
fn without_late_memory(entry: &[u8]) -> Vec<u8> {
    let mut entry = entry.to_vec();
    let is_late = entry[0] == MEMORY_AFFINITY
        && entry
            .get(MEMORY_FLAGS)
            .is_some_and(|flags| flags & HOT_PLUGGABLE != 0);
    if is_late {
        entry[2..6].fill(0);
    }
    entry
}

fn entries(srat: &[u8]) -> Result<Vec<&[u8]>> {
    let mut found = Vec::new();
    let mut rest = &srat[SRAT_ENTRIES..];
    while let [_, length, ..] = rest {
        let length = usize::from(*length);
        ensure!(
            length >= 8 && length <= rest.len(),
            "the SRAT has an entry of length {length}"
        );
        let (entry, after) = rest.split_at(length);
        found.push(entry);
        rest = after;
    }
    Ok(found)
}

fn proximity(entry: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([entry[at], entry[at + 1], entry[at + 2], entry[at + 3]])
}

fn check(table: &[u8], signature: &[u8; 4]) -> Result<()> {
    let name = String::from_utf8_lossy(signature);
    ensure!(table.starts_with(signature), "this is not a {name}");
    ensure!(
        table.len() >= HEADER.max(SRAT_ENTRIES),
        "the {name} is cut short"
    );
    Ok(())
}

/// The kernel only accepts a table with a higher OEM revision than the replaced one.
fn renewed(mut table: Vec<u8>) -> Vec<u8> {
    let length = (table.len() as u32).to_le_bytes();
    table[4..8].copy_from_slice(&length);
    let revision = proximity(&table, OEM_REVISION).wrapping_add(1);
    table[OEM_REVISION..OEM_REVISION + 4].copy_from_slice(&revision.to_le_bytes());
    table[CHECKSUM] = 0;
    let sum = table.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    table[CHECKSUM] = sum.wrapping_neg();
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(signature: &[u8; 4], body: &[u8]) -> Vec<u8> {
        let mut table = vec![0; SRAT_ENTRIES];
        table[..4].copy_from_slice(signature);
        table[REVISION] = 1;
        table.extend_from_slice(body);
        table
    }

    fn initiator(node: u8) -> Vec<u8> {
        let mut entry = vec![0; 32];
        (entry[0], entry[1], entry[4]) = (GENERIC_INITIATOR, 32, node);
        entry
    }

    fn sum(table: &[u8]) -> u8 {
        table.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
    }

    #[test]
    fn the_dsdt_gets_revision_2_and_a_right_checksum() {
        let changed = with_wide_integers(&table(b"DSDT", &[1, 2, 3])).expect("a table");
        assert_eq!(changed[REVISION], 2);
        assert_eq!(changed[OEM_REVISION], 1);
        assert_eq!(sum(&changed), 0);
    }

    #[test]
    fn initiators_are_sorted_behind_the_rest() {
        let mut memory = vec![0; 40];
        (memory[0], memory[1], memory[2], memory[MEMORY_FLAGS]) = (MEMORY_AFFINITY, 40, 9, 3);
        let body = [initiator(9), memory, initiator(2), initiator(5)].concat();
        let changed = sorted(&table(b"SRAT", &body)).expect("a table");
        let entries = entries(&changed).expect("whole entries");
        let kinds: Vec<u8> = entries.iter().map(|entry| entry[0]).collect();
        assert_eq!(kinds, [1, 5, 5, 5]);
        assert_eq!(entries[0][2], 0);
        let nodes: Vec<u8> = entries[1..].iter().map(|entry| entry[4]).collect();
        assert_eq!(nodes, [2, 5, 9]);
        assert_eq!(sum(&changed), 0);
    }

    /// An ITS, an SMMU and a root complex with two mappings; `second` is the target of the second one.
    fn iort(second: u32) -> Vec<u8> {
        let node = |kind: u8, words: &[u32]| {
            let mut node = vec![kind, 0, 0, 0, 0, 0, 0, 0];
            node.extend(words.iter().flat_map(|word| word.to_le_bytes()));
            node[1] = node.len() as u8;
            node
        };
        let mut table = table(b"IORT", &[]);
        table[36..44].copy_from_slice(&[3, 0, 0, 0, 48, 0, 0, 0]);
        table.extend(node(0, &[0, 0]));
        table.extend(node(IORT_SMMU_V3, &[0, 0]));
        table.extend(node(
            IORT_ROOT_COMPLEX,
            &[2, 16, 0, 0xff, 0, 64, 0, 0x100, 0xfeff, 0x100, second, 0],
        ));
        table
    }

    #[test]
    fn ids_that_bypass_the_smmu_are_given_to_it() {
        let changed = behind_smmu(&iort(48)).expect("a table");
        let untouched = renewed(iort(64));
        assert_eq!(changed, untouched);
        assert_eq!(sum(&changed), 0);
        assert!(behind_smmu(&iort(48)[..70]).is_err());
    }

    #[test]
    fn an_archive_holds_changed_and_added_tables() {
        let tables: [Table; 2] = [("SRAT", table(b"SRAT", &[])), ("IORT", iort(48))];
        let text = |sort| {
            let bytes = upgrade(&tables, b"added", sort).expect("an archive");
            String::from_utf8_lossy(&bytes).into_owned()
        };
        assert!(text(true).contains("acpi/srat.aml") && !text(false).contains("acpi/srat.aml"));
        assert!(text(false).contains("acpi/iort.aml") && text(false).contains("acpi/ssdt.aml"));
    }

    #[test]
    fn broken_tables_are_refused() {
        assert!(with_wide_integers(b"DSDT").is_err());
        assert!(sorted(&table(b"DSDT", &[])).is_err());
        assert!(sorted(&table(b"SRAT", &[5, 0, 0, 0])).is_err());
        assert!(sorted(&table(b"SRAT", &[5, 32, 0, 0])).is_err());
    }
}
