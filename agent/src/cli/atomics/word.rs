//! The words for kinds of functions and their AtomicOps, alike wherever they are printed.

use kernel_glue::atomics::Widths;
use kernel_glue::config::Port;

/// What kind of function it is.
pub(in crate::cli) fn port(port: Port) -> &'static str {
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

/// Widths that are completed, and what else is set.
pub(super) fn bits(completer: Widths, routing: bool, blocked: bool) -> String {
    let routing = if routing { ", routing" } else { "" };
    let blocked = if blocked { ", egress blocked" } else { "" };
    format!("{completer}{routing}{blocked}")
}
