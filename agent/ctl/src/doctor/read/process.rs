//! The process of libvirt's daemon: its start time, its confinement and its limit of locked memory. See proc(5).

use std::time::{Duration, SystemTime};

use kernel_glue::sysfs::Root;

use super::super::scene::{Daemon, Seen, Unavailable};

/// The monolithic daemon, and the one for QEMU of the modular ones.
const DAEMONS: [&str; 2] = ["libvirtd", "virtqemud"];
/// USER_HZ: the kernel shows clock ticks in this unit on every architecture that libvirt runs QEMU on.
const TICKS: u64 = 100;
/// CAP_SYS_RESOURCE (include/uapi/linux/capability.h).
const SYS_RESOURCE: u64 = 1 << 24;
/// CAP_IPC_LOCK, there.
const IPC_LOCK: u64 = 1 << 14;

/// The daemon that has run longest; `None` when none runs.
pub(super) fn daemon(root: &Root) -> Option<Daemon> {
    let names = root.list("proc").unwrap_or_default();
    let processes = names
        .iter()
        .filter(|name| name.bytes().all(|b| b.is_ascii_digit()));
    let found = processes.filter_map(|process| {
        let unit = root.text(&format!("proc/{process}/comm")).ok()?;
        DAEMONS.contains(&unit.as_str()).then_some(())?;
        Some((ticks(root, process)?, process, unit))
    });
    // A child that the daemon forks has its name until it executes another program, and is younger.
    let (ticks, process, unit) = found.min()?;
    Some(Daemon {
        unit,
        files: format!("/proc/{process}"),
        started: started(root, ticks)?,
        label: label(root, process),
        can_lock: can_lock(root, process),
        may_lock: may_lock(root, process),
    })
}

/// Clock ticks from boot to the start: field 22 of `stat`, whose second, the name, may have blanks.
fn ticks(root: &Root, process: &str) -> Option<u64> {
    let text = root.text(&format!("proc/{process}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    rest.split_whitespace().nth(19)?.parse().ok()
}

fn started(root: &Root, ticks: u64) -> Option<SystemTime> {
    let uptime = root.text("proc/uptime").ok()?;
    let uptime: f64 = uptime.split(' ').next()?.parse().ok()?;
    let age = Duration::try_from_secs_f64(uptime).ok()?;
    let age = age.saturating_sub(Duration::from_millis(ticks * 1000 / TICKS));
    SystemTime::now().checked_sub(age)
}

/// The label of the oldest process that runs a program of this name.
pub(super) fn label_of(root: &Root, program: &str) -> Option<String> {
    let names = root.list("proc").unwrap_or_default();
    let processes = names
        .iter()
        .filter(|name| name.bytes().all(|b| b.is_ascii_digit()));
    let found = processes.filter_map(|process| {
        let name = root.text(&format!("proc/{process}/comm")).ok()?;
        (name == program).then_some(())?;
        Some((ticks(root, process)?, process))
    });
    let (_, process) = found.min()?;
    label(root, process)
}

fn label(root: &Root, process: &str) -> Option<String> {
    let text = root.text(&format!("proc/{process}/attr/current")).ok()?;
    Some(text.trim_end_matches(['\0', '\n']).to_owned())
}

fn may_lock(root: &Root, process: &str) -> Seen<bool> {
    let status = root.text(&format!("proc/{process}/status"));
    let status = status.map_err(|failure| Unavailable::of(&failure))?;
    Ok(capabilities(&status, "CapBnd:").is_some_and(|set| set & IPC_LOCK != 0))
}

/// A set of capabilities of `/proc/PID/status`.
fn capabilities(status: &str, name: &str) -> Option<u64> {
    let hex = status.lines().find_map(|line| line.strip_prefix(name))?;
    u64::from_str_radix(hex.trim(), 16).ok()
}

/// It may raise QEMU's limit, or has none itself.
fn can_lock(root: &Root, process: &str) -> Seen<bool> {
    let read = |file: &str| {
        let text = root.text(&format!("proc/{process}/{file}"));
        text.map_err(|failure| Unavailable::of(&failure))
    };
    let (status, limits) = (read("status")?, read("limits")?);
    let capabilities = capabilities(&status, "CapEff:");
    let limit = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max locked memory"));
    let hard = limit.and_then(|rest| rest.split_whitespace().nth(1));
    Ok(capabilities.is_some_and(|set| set & SYS_RESOURCE != 0) || hard == Some("unlimited"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A process whose hostile name has a blank and a parenthesis, started `ticks` after boot.
    fn process(root: &std::path::Path, id: u32, name: &str, ticks: u64) {
        let dir = root.join(format!("proc/{id}"));
        fs::create_dir_all(dir.join("attr")).expect("directory");
        let put = |file: &str, text: &str| fs::write(dir.join(file), text).expect("file");
        put("comm", &format!("{name}\n"));
        let zeros = "0 ".repeat(18);
        put("stat", &format!("{id} ({name} ) x) S {zeros}{ticks} 0\n"));
        put(
            "status",
            "Name:\tx\nCapEff:\t0000000000000000\nCapBnd:\t0000000000004000\n",
        );
        put(
            "limits",
            "Max locked memory         67108864             67108864             bytes\n",
        );
        put("attr/current", "libvirtd (enforce)\n");
    }

    fn scene() -> (tempfile::TempDir, Root) {
        let directory = tempfile::tempdir().expect("directory");
        fs::create_dir_all(directory.path().join("proc")).expect("directory");
        fs::write(directory.path().join("proc/uptime"), "100.50 7.00\n").expect("file");
        let root = Root::new(directory.path().to_owned()).expect("root");
        (directory, root)
    }

    #[test]
    fn doctor_reads_start_time_label_and_limit_of_the_oldest_daemon() {
        let (directory, root) = scene();
        process(directory.path(), 41, "libvirtd", 9050);
        process(directory.path(), 42, "libvirtd", 5050);
        process(directory.path(), 43, "bash", 10);
        let daemon = daemon(&root).expect("a daemon");
        let age = SystemTime::now()
            .duration_since(daemon.started)
            .expect("the past");
        assert!((49..52).contains(&age.as_secs()), "{age:?}");
        assert_eq!(daemon.label.as_deref(), Some("libvirtd (enforce)"));
        assert_eq!(daemon.can_lock, Ok(false));
        assert_eq!(daemon.may_lock, Ok(true));
        let label = label_of(&root, "libvirtd");
        assert_eq!(label.as_deref(), Some("libvirtd (enforce)"));
        assert_eq!(label_of(&root, "variantd"), None);
    }

    #[test]
    fn a_capability_or_no_limit_lets_it_lock() {
        let (directory, root) = scene();
        process(directory.path(), 41, "virtqemud", 1);
        let dir = directory.path().join("proc/41");
        fs::write(dir.join("status"), "CapEff:\t000001ffffffffff\n").expect("file");
        assert_eq!(daemon(&root).expect("a daemon").can_lock, Ok(true));
        fs::write(dir.join("status"), "CapEff:\t0\n").expect("file");
        fs::write(
            dir.join("limits"),
            "Max locked memory  8388608  unlimited  bytes\n",
        )
        .expect("file");
        assert_eq!(daemon(&root).expect("a daemon").can_lock, Ok(true));
    }

    #[test]
    fn no_daemon_is_found_when_none_runs() {
        let (directory, root) = scene();
        process(directory.path(), 43, "bash", 10);
        assert_eq!(daemon(&root), None);
    }
}
