//! Input from kernel and firmware: config space, SRAT, `modules.alias`.

use kernel_glue::alias;
use kernel_glue::config::Config;
use kernel_glue::numa::MAX_NODES;
use kernel_glue::srat::Srat;

/// The reader stays within any bytes, and each of its functions returns.
pub(crate) fn config_space(bytes: &[u8]) {
    let config = Config::parse(bytes);
    if let Some(express) = config.express() {
        let flags = [
            express.routes_atomics(),
            express.requester_enabled(),
            express.egress_blocked(),
            express.relaxed_ordering(),
            express.redirects_peers(),
            express.no_relaxed_peer_passing(),
            express.function_level_reset(),
        ];
        assert!(
            express.link_width() < 64 && express.link_speed() < 16,
            "{flags:?}"
        );
        assert!(express.completer().iter().count() <= 3);
    }
}

/// A table assigns each node to at most one device.
pub(crate) fn srat(bytes: &[u8]) {
    let Ok(srat) = Srat::parse(bytes) else {
        return;
    };
    let nodes = srat.initiators.values().map(Vec::len).sum::<usize>();
    assert!(nodes <= bytes.len() / 32, "more initiators than entries");
    let known = |node: &kernel_glue::numa::NumaNode| u32::from(*node) < MAX_NODES;
    assert!(srat.initiators.values().flatten().all(known));
}

/// The best variant matches the device.
pub(crate) fn alias(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (modalias, file) = text.split_once('\n').unwrap_or((&text, ""));
    let variants = alias::parse(file);
    assert!(variants.len() <= file.lines().count());
    if let Some(best) = alias::best(&variants, modalias) {
        assert!(best.wildcards(modalias).is_some_and(|open| open <= 7));
    }
}
