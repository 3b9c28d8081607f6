//! Checks of the installation: libvirt's hook, the agent, the bus, settings, units, journal.

use std::time::Duration;

use super::check::Check;
use super::record;
use super::scene::{Agent, Daemon, Hook, Scene, Trouble, Unavailable};
use super::security;
use domain::code::Code;
use domain::hint::Hint;

/// The hook's program, and libvirt's path for it.
const PROGRAM: &str = "/usr/sbin/variantd-hook";
/// The largest difference between the clocks of file system and kernel.
const SLACK: Duration = Duration::from_millis(100);
/// Directories of programs that libvirtd's AppArmor profile may run (Debian, Ubuntu: usr.sbin.libvirtd).
const RUNNABLE: [&str; 6] = [
    "/usr/sbin/",
    "/usr/bin/",
    "/sbin/",
    "/bin/",
    "/usr/local/sbin/",
    "/etc/libvirt/hooks/",
];

pub(super) fn checks(scene: &Scene) -> Vec<Check> {
    let mut checks = vec![settings(scene)];
    checks.extend(hook(scene));
    checks.extend(agent(scene));
    checks.push(policy(scene));
    checks.extend(security::checks(scene));
    checks.extend(units(scene));
    checks.extend(record::journal(scene));
    checks
}

fn settings(scene: &Scene) -> Check {
    match &scene.settings {
        Ok(()) => Check::pass(
            Code::SettingsUnusable,
            "configuration and recipes can be read",
        ),
        Err(why) => Check::fail(
            Code::SettingsUnusable,
            why.clone(),
            "fix the named line; 'variantctl recipe check FILE' checks a recipe",
        ),
    }
}

fn hook(scene: &Scene) -> Vec<Check> {
    let hook = match &scene.hook {
        Ok(hook) => hook,
        Err(why) => {
            return vec![Check::unavailable(
                Code::HookMissing,
                "libvirt's hook is installed",
                why,
            )];
        }
    };
    // The two other checks are about a hook that can be run.
    if let Some(fault) = installed(scene, hook) {
        return vec![fault];
    }
    let fine = Check::pass(
        Code::HookMissing,
        "libvirt's hook is installed and can be run",
    );
    vec![
        fine.with(hook.path.clone()),
        called(scene, hook),
        confined(scene, hook),
    ]
}

fn installed(scene: &Scene, hook: &Hook) -> Option<Check> {
    let path = &hook.path;
    let restart = format!("systemctl restart {}", unit(scene));
    let dir = path.rsplit_once('/').map_or("/", |(dir, _)| dir);
    let link = match hook.program {
        Some(_) => Hint::run(format!(
            "mkdir -p {dir} && ln -sfn {PROGRAM} {path} && {restart}"
        )),
        None => "install the variantd package".into(),
    };
    Some(match &hook.state {
        Trouble::None => return None,
        Trouble::Missing => Check::fail(
            Code::HookMissing,
            format!("libvirt's hook '{path}' is not there, so guests start unchecked"),
            link,
        ),
        Trouble::Dangling(target) => Check::fail(
            Code::HookMissing,
            format!("'{path}' leads to '{target}', which is not there, so guests start unchecked"),
            "install the variantd package again",
        ),
        Trouble::NotExecutable(program) => Check::fail(
            Code::HookNotExecutable,
            format!(
                "'{program}' is not executable, and libvirt ignores such a hook without a message"
            ),
            Hint::run(format!("chmod 755 {program} && {restart}")),
        ),
        Trouble::Other(program) => Check::fail(
            Code::HookOther,
            format!("'{path}' is '{program}', not variantd's hook"),
            format!("move that program to another name in that directory, and {link}"),
        ),
    })
}

fn unit(scene: &Scene) -> &str {
    match &scene.daemon {
        Ok(Some(daemon)) => &daemon.unit,
        _ => "libvirtd",
    }
}

/// libvirt searches for hooks when its daemon starts, and never calls one that is added later (`virHookInitialize`).
fn called(scene: &Scene, hook: &Hook) -> Check {
    let fine = "libvirt calls its hook";
    let daemon = match &scene.daemon {
        Ok(Some(daemon)) => daemon,
        Ok(None) => {
            let why = Unavailable::because("libvirt's daemon does not run");
            return Check::unavailable(Code::HookNotCalled, fine, &why);
        }
        Err(why) => return Check::unavailable(Code::HookNotCalled, fine, why),
    };
    if hook.called.is_some_and(|at| at + SLACK >= daemon.started) {
        return Check::pass(Code::HookNotCalled, fine).with("it did since it started");
    }
    match hook.since {
        Some(since) if since <= daemon.started + SLACK => Check::pass(Code::HookNotCalled, fine),
        Some(_) => Check::fail(
            Code::HookNotCalled,
            format!(
                "the hook is newer than the running {}, which has not called it since it started",
                daemon.unit
            ),
            Hint::run(format!("systemctl restart {}", daemon.unit)).then("; guests keep running"),
        ),
        None => {
            let why = Unavailable::because("the file system does not report the age of the hook");
            Check::unavailable(Code::HookNotCalled, fine, &why)
        }
    }
}

fn confined(scene: &Scene, hook: &Hook) -> Check {
    let fine = "libvirt may run its hook";
    let program = hook.program.as_deref().unwrap_or(PROGRAM);
    let label = |daemon: &Daemon| daemon.label.clone();
    let label = scene
        .daemon
        .as_ref()
        .ok()
        .and_then(Option::as_ref)
        .and_then(label);
    // The profile of a daemon in complain mode, or without a profile, prevents nothing.
    let enforced = label
        .as_ref()
        .is_some_and(|label| label.ends_with("(enforce)"));
    if enforced && !RUNNABLE.iter().any(|dir| program.starts_with(dir)) {
        return Check::fail(
            Code::HookConfined,
            format!("AppArmor's profile of libvirt's daemon does not let it run '{program}'"),
            format!(
                "install the program as {PROGRAM} and run 'ln -sfn {PROGRAM} {}'",
                hook.path
            ),
        );
    }
    Check::pass(Code::HookConfined, fine)
}

fn agent(scene: &Scene) -> Vec<Check> {
    let fine = "the agent answers";
    let down = |text: &str, hint: Hint| vec![Check::fail(Code::AgentUnreachable, text, hint)];
    match &scene.agent {
        Err(why) => vec![Check::unavailable(Code::AgentUnreachable, fine, why)],
        Ok(Agent::NotInstalled) => down(
            "variantd is not installed",
            "install the variantd package; guests are not bound, checked or completed without it"
                .into(),
        ),
        Ok(Agent::Stopped) => down(
            "variantd does not run, so definitions are not completed and guests not checked",
            Hint::run("systemctl start variantd"),
        ),
        Ok(Agent::NoBus(why)) => down(
            &format!("there is no system bus: {why}"),
            Hint::run("systemctl start dbus").then(", then 'systemctl start variantd'"),
        ),
        Ok(Agent::Denied(why)) => vec![Check::fail(
            Code::PolicyMissing,
            format!("the bus does not allow calls of the agent: {why}"),
            "install the variantd package again, then run 'systemctl reload dbus'",
        )],
        Ok(Agent::Answers(version)) => {
            vec![Check::pass(Code::AgentUnreachable, fine), same(version)]
        }
    }
}

fn same(version: &str) -> Check {
    let own = env!("CARGO_PKG_VERSION");
    match version == own {
        true => Check::pass(
            Code::AgentVersion,
            "agent and variantctl are of one version",
        )
        .with(version),
        false => Check::warn(
            Code::AgentVersion,
            format!("the agent is {version} and variantctl {own}"),
            Hint::run("systemctl restart variantd"),
        ),
    }
}

fn policy(scene: &Scene) -> Check {
    let fine = "the bus policy is installed";
    match &scene.policy {
        Ok(true) => Check::pass(Code::PolicyMissing, fine),
        Ok(false) => Check::fail(
            Code::PolicyMissing,
            "no bus policy lets variantd own 'org.variantd1'",
            "install the variantd package again, then run 'systemctl reload dbus'",
        ),
        Err(why) => Check::unavailable(Code::PolicyMissing, fine, why),
    }
}

/// The agent starts with the host, and reservations are applied.
fn units(scene: &Scene) -> Vec<Check> {
    let fine = "its units start with the host";
    let enabled = match &scene.enabled {
        Ok(enabled) => enabled,
        Err(why) => return vec![Check::unavailable(Code::UnitDisabled, fine, why)],
    };
    // The unit of reservations has no work without one.
    let reserved = scene.reservations.as_ref().is_ok_and(|all| !all.is_empty());
    let wanted = [("variantd", true), ("variantd-reserve", reserved)];
    let off = wanted
        .into_iter()
        .filter(|(unit, wanted)| *wanted && !enabled.iter().any(|one| one == unit));
    let mut checks: Vec<Check> = off.map(|(unit, _)| disabled(unit)).collect();
    if checks.is_empty() {
        checks.push(Check::pass(Code::UnitDisabled, fine));
    }
    checks
}

fn disabled(unit: &str) -> Check {
    let hint = Hint::run(format!("systemctl enable {unit}"));
    match unit {
        "variantd" => Check::warn(
            Code::UnitDisabled,
            "variantd does not start with the host, so definitions are completed only after a first call",
            hint,
        ),
        _ => Check::fail(
            Code::UnitDisabled,
            "devices are reserved, and variantd-reserve does not bind them at boot",
            hint,
        ),
    }
}
