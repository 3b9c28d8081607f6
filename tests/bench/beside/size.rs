//! Sizes of release binaries, stripped as in a package.

use std::fs;

use anyhow::Result;

use crate::process::binary;
use crate::row::Row;

const MIB: u64 = 1 << 20;

pub(crate) fn rows() -> Vec<Row> {
    let row = |name: &str, limit: u64| {
        let work = format!("size of `{name}`, release, stripped");
        Row::words(
            &work,
            "-",
            &format!("at most {limit} MiB"),
            size(name, limit),
        )
    };
    vec![
        row("variantd-hook", 1),
        row("variantd", 8),
        row("variantctl", 8),
    ]
}

fn size(name: &str, limit: u64) -> Result<(String, bool)> {
    let bytes = fs::metadata(binary(name)?)?.len();
    let text = format!("{:.2} MiB", bytes as f64 / MIB as f64);
    Ok((text, bytes <= limit * MIB))
}
