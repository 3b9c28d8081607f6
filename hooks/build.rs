//! Puts the unwinder into the programs: to load it as a library of its own takes a quarter of a short program's time.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_ENV").as_deref() == Ok("gnu") {
        // Whole, for it stands before what needs it; the C compiler finds it among its own files.
        println!("cargo::rustc-link-lib=static:-bundle,+whole-archive=gcc_eh");
    }
}
