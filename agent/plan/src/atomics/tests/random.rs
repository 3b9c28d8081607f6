//! Anything at random gets a verdict, and never one that hangs on what cannot be seen.

use kernel_glue::config::ConfigError;
use proptest::prelude::*;

use super::guest::{NEW, guest, placed};
use super::*;

/// The usual port types, from the root port down.
const USUAL: [u32; 4] = [4, 5, 6, 0];

proptest! {
    #[test]
    fn any_path_gets_a_verdict_that_agrees_with_its_bits(
        images in proptest::collection::vec((0_u8..4, 0_u32..11, any::<u32>(), any::<u16>(), 0_usize..300), 4),
        kernel in prop_oneof![Just("6.4"), Just("6.12"), Just("7.2")],
        physical: bool,
    ) {
        let path: Vec<(&str, Vec<u8>)> = [ROOT, UP, DOWN, GPU]
            .into_iter()
            .zip(&images)
            .zip(USUAL)
            .map(|((at, (version, port, devcap2, devctl2, length)), usual)| {
                let port = if *version > 1 { usual } else { *port };
                let mut bytes = image(*version, port, *devcap2, *devctl2);
                bytes.truncate((*length).max(40));
                (at, bytes)
            })
            .collect();
        let mut host = chain(&path);
        if physical {
            let gpu = host.devices.get_mut(&fixture::address(GPU)).expect("gpu");
            gpu.physical_function = Some(fixture::address(UP));
        }
        let report = judged(&host, GPU, kernel, None);
        for (width, answer) in report.host.iter() {
            let own = report.completer.map(|widths| widths.contains(width));
            prop_assert!(*answer != Answer::Yes || (own == Some(true) && kernel != "6.4"));
            prop_assert!(answer.ok() != Some(false) || answer.finding().is_some());
        }
        let hidden = report.path.iter().any(|element| element.hidden.is_some());
        let grants = !report.host.granted().is_empty();
        prop_assert!(!(hidden && grants), "a yes that hangs on what is hidden: {report:?}");
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600), place in 0_usize..4) {
        let mut path = good();
        path[place].1 = bytes;
        let host = chain(&path);
        let report = judged(&host, GPU, "7.2", None);
        let unreadable = host.devices.values().any(|d| matches!(d.config, Config::Unreadable(ConfigError::Short(_))));
        prop_assert!(!unreadable || report.host.granted().is_empty());
    }

    #[test]
    fn any_guest_gets_a_verdict(
        models in proptest::collection::vec(0_usize..7, 0..5),
        bus in 0_u8..8, slot in 0_u8..32, function in 0_u8..8, several: bool, addressed: bool, attach: bool,
    ) {
        const MODELS: [&str; 7] = ["pcie-root-port", "pcie-switch-upstream-port", "pcie-switch-downstream-port",
            "pcie-expander-bus", "pcie-to-pci-bridge", "pci-bridge", ""];
        let controllers: String = models.iter().enumerate().map(|(at, model)| {
            format!("<controller type='pci' index='{}' model='{}'/>", at + 1, MODELS[*model])
        }).collect();
        let flag = if several { "on" } else { "off" };
        let address = format!("<address type='pci' bus='{bus}' slot='{slot}' function='{function}' multifunction='{flag}'/>");
        let domain = guest(&controllers, if addressed { &address } else { "" });
        let (ok, code) = placed(&domain, attach, NEW);
        prop_assert_eq!(ok == Some(true), code.is_none());
        // Slot 0 of bus 0 is no address, but asks libvirt to choose one.
        let addressed = addressed && (bus, slot) != (0, 0);
        let given = addressed && !attach && ok == Some(true);
        prop_assert!(!given || (bus > 0 && (slot, function, several) == (0, 0, false)));
    }
}
