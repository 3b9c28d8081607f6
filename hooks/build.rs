//! Links the program statically, so that no limit of the caller (open files, address space) makes the dynamic loader fail.
//!
//! rustc links statically for a whole build only (`-C target-feature=+crt-static`), but the agent needs libvirt's shared library.
//! So the C compiler gets `-static-pie`, which overrides rustc's `-pie`, and a directory with linker scripts in the place of the
//! shared libraries that rustc names.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The libraries that rustc names for `*-linux-gnu`, and the static ones that replace them.
const SCRIPTS: [(&str, &str); 7] = [
    ("c", "GROUP(-l:libc.a -l:libgcc_eh.a -l:libgcc.a)"),
    ("gcc_s", "GROUP(-l:libgcc_eh.a -l:libc.a)"),
    ("m", "INPUT(-l:libm.a)"),
    ("rt", "INPUT(-l:librt.a)"),
    ("pthread", "INPUT(-l:libpthread.a)"),
    ("util", "INPUT(-l:libutil.a)"),
    ("dl", "INPUT(-l:libdl.a)"),
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var("CARGO_CFG_TARGET_ENV").as_deref() != Ok("gnu") {
        return;
    }
    if !has_static_libc() {
        println!(
            "cargo::error=libc.a is missing, and variantd-hook is linked statically: install libc6-dev (Debian) or \
             glibc-static (Fedora) for the target"
        );
        return;
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    let scripts = out.join("static");
    write(&scripts);
    println!("cargo::rustc-link-arg-bins=-static-pie");
    println!("cargo::rustc-link-arg-bins=-L{}", scripts.display());
}

/// gcc(1), `-print-file-name`: the bare name where there is no such file. A compiler that cannot be asked is left to the linking.
fn has_static_libc() -> bool {
    let compiler = env::var_os("RUSTC_LINKER").unwrap_or_else(|| "cc".into());
    let asked = Command::new(compiler)
        .arg("-print-file-name=libc.a")
        .output();
    asked.map_or(true, |output| output.stdout != b"libc.a\n")
}

fn write(scripts: &Path) {
    fs::create_dir_all(scripts).expect("a directory in OUT_DIR");
    for (name, script) in SCRIPTS {
        fs::write(scripts.join(format!("lib{name}.so")), script).expect("a file in OUT_DIR");
    }
}
