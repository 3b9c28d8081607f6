//! Describes the holders of a device, each with the command that frees it.

use std::borrow::Borrow;

use kernel_glue::address::PciAddress;
use kernel_glue::holder::{Holder, Holders};

use crate::service;
use domain::code::Code;
use domain::hint::{Hint, line};
use domain::refusal::Refusal;

/// Number of holders that a message names; the rest is counted.
const NAMED: usize = 3;

/// Programs known to hold GPUs and the units that distributions run them in, used if the cgroup has no unit.
const SERVICES: [(&str, &str); 5] = [
    ("nvidia-persistenced", "nvidia-persistenced.service"),
    ("nv-hostengine", "nvidia-dcgm.service"),
    ("nv-fabricmanager", "nvidia-fabricmanager.service"),
    ("nvidia-imex", "nvidia-imex.service"),
    ("rdcd", "rdc.service"),
];

/// Programs that use a GPU for a graphical session.
const DISPLAYS: [&str; 5] = [
    "Xorg",
    "Xwayland",
    "gnome-shell",
    "kwin_wayland",
    "systemd-logind",
];

/// Prefix of libvirt's scope of a guest, with systemd's escapes decoded.
const GUEST: &str = "machine-qemu-";

/// Refuses a device that a process certainly holds.
pub fn refuse(device: PciAddress, holders: &Holders) -> Result<(), Refusal> {
    let certain: Vec<&Holder> = holders.found.iter().filter(|h| h.is_certain()).collect();
    if certain.is_empty() {
        return Ok(());
    }
    let mut ways: Vec<Hint> = Vec::new();
    for holder in certain.iter().take(NAMED) {
        let way = way_out(device, holder);
        if !ways.contains(&way) {
            ways.push(way);
        }
    }
    let reason = format!("in use by {}", names(&certain));
    // A command is enough only if it ends every holder of the device.
    let is_enough = ways.len() == 1 && certain.len() <= NAMED;
    let hint = ways.into_iter().reduce(Hint::and).unwrap_or_default();
    let hint = match is_enough {
        true => hint,
        false => hint.to_string().into(),
    };
    Err(Refusal::new(Code::BindHeld, reason, hint))
}

/// The first processes, and the number of the others.
pub(super) fn names<H: Borrow<Holder>>(holders: &[H]) -> String {
    let first = holders.iter().take(NAMED);
    let mut names: Vec<String> = first.map(|holder| holder.borrow().to_string()).collect();
    if holders.len() > NAMED {
        names.push(format!("{} more", holders.len() - NAMED));
    }
    names.join(" and ")
}

/// Refuses a device whose holder may be a hidden process.
pub(super) fn refuse_hidden(holders: &Holders) -> Result<(), Refusal> {
    if holders.hidden == 0 {
        return Ok(());
    }
    let reason = format!(
        "cannot read which processes hold it: {} of {} processes are hidden",
        holders.hidden, holders.seen
    );
    let hint = "run variantd as root with CAP_SYS_PTRACE, as its unit does";
    Err(Refusal::new(Code::BindHolderHidden, reason, hint))
}

fn way_out(device: PciAddress, holder: &Holder) -> Hint {
    let command = holder.command.as_str();
    let known = SERVICES.iter().find(|(name, _)| *name == command);
    // The cgroup comes first: a distribution or an administrator may run the program in a unit of another name.
    let unit = holder.unit.as_deref().or(known.map(|(_, unit)| *unit));
    if let Some(guest) = unit.and_then(guest) {
        return Hint::with("shut it down: {}", line(["virsh", "shutdown", &guest]));
    }
    if DISPLAYS.contains(&command) {
        return Hint::with(
            "end the graphical session: {}",
            "systemctl stop display-manager",
        );
    }
    match unit.filter(|unit| is_own(unit)) {
        Some(unit) if command == "nvidia-persistenced" => {
            let way = Hint::run(line(["systemctl", "stop", unit]));
            way.then(&format!(" or 'nvidia-smi -i {device} -pm 0'"))
                .then(&by_itself(device, unit))
        }
        Some(unit) => Hint::run(line(["systemctl", "stop", unit])).then(&by_itself(device, unit)),
        None => Hint::with("stop it: {}", format!("kill {}", holder.process)),
    }
}

/// The commands that stop a known service and start it again.
fn by_itself(device: PciAddress, unit: &str) -> String {
    if !service::KNOWN.contains(&unit) {
        return String::new();
    }
    format!(
        ", or let variantd stop and start it: 'variantctl bind {device} --stop-services', for guests \
         'stop_services = [\"{unit}\"]' in variantd.conf"
    )
}

/// True for a unit that can be stopped without ending a user's session or the host.
fn is_own(unit: &str) -> bool {
    !["user@", "session-", "init."]
        .iter()
        .any(|start| unit.starts_with(start))
}

/// The guest whose QEMU the holder is.
pub fn guest_of(holder: &Holder) -> Option<String> {
    holder.unit.as_deref().and_then(guest)
}

/// The guest of a scope, by libvirt's `machine-qemu\x2dID\x2dNAME.scope`.
fn guest(unit: &str) -> Option<String> {
    let scope = unescaped(unit.strip_suffix(".scope")?);
    // `ID-NAME`: the id has only digits, so the first hyphen ends it; a name can have hyphens itself.
    let (_, name) = scope.strip_prefix(GUEST)?.split_once('-')?;
    (!name.is_empty()).then(|| name.to_owned())
}

/// Decodes systemd's `\xHH`.
fn unescaped(text: &str) -> String {
    let mut parts = text.split("\\x");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let number = part
            .get(..2)
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        // The text goes into a message and a command line: any other byte stays escaped.
        match number.filter(u8::is_ascii_graphic) {
            Some(byte) => {
                plain.push(char::from(byte));
                plain.push_str(&part[2..]);
            }
            None => {
                plain.push_str("\\x");
                plain.push_str(part);
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use kernel_glue::holder::HeldNode;

    fn way(command: &str, unit: Option<&str>) -> String {
        let holder = Holder {
            process: 9,
            command: command.into(),
            unit: unit.map(str::to_owned),
            nodes: Vec::new(),
        };
        let way = way_out("0009:01:00.0".parse().expect("address"), &holder);
        way.to_string()
    }

    #[test]
    fn each_kind_of_holder_has_the_command_that_ends_it() {
        let guest = "machine-qemu\\x2d12\\x2dred\\x2dhat.scope";
        let cases = [
            (
                "qemu-system-aarch64",
                Some(guest),
                "'virsh shutdown red-hat'",
            ),
            (
                "nv-hostengine",
                None,
                "'systemctl stop nvidia-dcgm.service'",
            ),
            (
                "dcgm",
                Some("docker-1f.scope"),
                "'systemctl stop docker-1f.scope'",
            ),
            (
                "nvidia-persistenced",
                None,
                "'nvidia-smi -i 0009:01:00.0 -pm 0'",
            ),
            (
                "Xorg",
                Some("gdm.service"),
                "'systemctl stop display-manager'",
            ),
            ("python3", Some("user@0.service"), "'kill 9'"),
            ("python3", Some("session-3.scope"), "'kill 9'"),
            ("python3", None, "'kill 9'"),
        ];
        for (command, unit, expected) in cases {
            let way = way(command, unit);
            assert!(way.contains(expected), "{command}: {way}");
        }
    }

    #[test]
    fn only_known_services_get_the_stop_services_hint() {
        let known = way("nv-hostengine", Some("nvidia-dcgm.service"));
        assert!(known.contains("--stop-services"), "{known}");
        assert!(
            known.contains("stop_services = [\"nvidia-dcgm.service\"]"),
            "{known}"
        );
        let other = way("python3", Some("train.service"));
        assert_eq!(other, "run 'systemctl stop train.service'");
    }

    #[test]
    fn other_scope_has_no_guest() {
        for unit in [
            "machine-qemu.scope",
            "machine-qemu\\x2d1.scope",
            "a\\x",
            "\\xzz.scope",
            "x.service",
        ] {
            assert_eq!(guest(unit), None, "{unit}");
        }
    }

    #[test]
    fn further_holders_are_counted_and_hints_are_not_repeated() {
        let holder = |process| Holder {
            process,
            command: "python3".into(),
            unit: Some("train.service".into()),
            nodes: vec![HeldNode {
                path: "/dev/nvidia0".into(),
                descriptor: Some(4),
                shared: false,
            }],
        };
        let holders = Holders {
            found: (1..=5).map(holder).collect(),
            ..Holders::default()
        };
        let gpu = "0009:01:00.0".parse().expect("address");
        let refusal = refuse(gpu, &holders).expect_err("held");
        assert!(refusal.reason.ends_with(" and 2 more"), "{refusal}");
        assert_eq!(refusal.hint.as_str(), "run 'systemctl stop train.service'");
        assert_eq!(
            refusal.hint.command(),
            None,
            "there are more than are named"
        );
        let holders = Holders {
            found: holders.found[..2].to_vec(),
            ..holders
        };
        let refusal = refuse(gpu, &holders).expect_err("held");
        let command = refusal.hint.command();
        assert_eq!(command, Some("systemctl stop train.service"));
    }
}
