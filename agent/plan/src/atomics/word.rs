//! Names of PCI Express function types.

use kernel_glue::config::Port;

/// The type of a function.
#[must_use]
pub fn port(port: Port) -> &'static str {
    match port {
        Port::Endpoint => "endpoint",
        Port::LegacyEndpoint => "legacy endpoint",
        Port::RootPort => "root port",
        Port::UpstreamPort => "switch upstream port",
        Port::DownstreamPort => "switch downstream port",
        Port::PcieToPci | Port::PciToPcie => "bridge",
        Port::RootComplexEndpoint => "root complex endpoint",
        Port::RootComplexEventCollector => "event collector",
        Port::Other(_) => "other",
    }
}
