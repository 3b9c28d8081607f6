//! Translates libvirt's qemu hook contract to the agent. Decides nothing.

fn main() {}
