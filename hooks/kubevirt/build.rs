//! Generates messages and services from `proto`, without a protobuf compiler on the machine.

const FILES: [&str; 5] = [
    "info.proto",
    "plugins.proto",
    "v1alpha1.proto",
    "v1alpha2.proto",
    "v1alpha3.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let described = protox::compile(FILES, ["proto"])?;
    tonic_prost_build::configure()
        .build_transport(false)
        .compile_fds(described)?;
    Ok(())
}
