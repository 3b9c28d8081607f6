//! Checks of SELinux and AppArmor: variantd's policy is loaded, and lets guests have what they need.
//!
//! A host without such a module, or whose module is off, has no line for it.

use super::check::Check;
use super::scene::{AppArmor, Scene, Security, Selinux};
use domain::code::Code;
use domain::hint::Hint;

/// Loads the module, labels the files and restarts the agent.
const LOAD: &str = "/usr/libexec/variantd/variantd-selinux load";
/// The agent's domain, and its profile.
const DOMAIN: &str = "variantd_t";
const PROFILE: &str = "variantd";
/// Booleans that a host with VFIO guests needs, their value and the effect of the other one.
pub(super) const BOOLEANS: [(&str, bool, &str); 2] = [
    ("virt_use_vfio", true, "QEMU may not open devices of VFIO"),
    ("secure_mode_insmod", false, "no driver can be loaded"),
];

pub(super) fn checks(scene: &Scene) -> Vec<Check> {
    let security = match &scene.security {
        Ok(security) => security,
        Err(why) => {
            let fine = "variantd's security policy is loaded";
            return vec![Check::unavailable(Code::SelinuxModule, fine, why)];
        }
    };
    let mut checks = Vec::new();
    if let Some(selinux) = &security.selinux {
        checks.push(module(security, selinux));
        checks.push(booleans(selinux));
    }
    if let Some(apparmor) = &security.apparmor {
        checks.push(profile(security, apparmor));
        checks.extend(devices(scene, apparmor));
    }
    checks
}

/// A failure where SELinux enforces its policy, else a warning.
fn found(selinux: &Selinux, code: Code, text: String, hint: impl Into<Hint>) -> Check {
    match selinux.enforcing {
        true => Check::fail(code, text, hint),
        false => Check::warn(code, text, hint),
    }
}

fn module(security: &Security, selinux: &Selinux) -> Check {
    let fine = "SELinux has variantd's module";
    let fault = |text| found(selinux, Code::SelinuxModule, text, Hint::run(LOAD));
    match &selinux.module {
        Err(why) => return Check::unavailable(Code::SelinuxModule, fine, why),
        Ok(false) => {
            let policy = &selinux.policy;
            return fault(format!(
                "SELinux has no module for variantd in its policy '{policy}'"
            ));
        }
        Ok(true) => {}
    }
    if let Some((program, label)) = &selinux.mislabelled {
        return fault(format!(
            "'{program}' does not have the label of variantd's module: it has '{label}'"
        ));
    }
    match security.agent.as_deref().map(domain_of) {
        Some(domain) if domain != DOMAIN => fault(format!(
            "the agent runs in SELinux's domain '{domain}', not '{DOMAIN}'"
        )),
        _ => Check::pass(Code::SelinuxModule, fine).with(selinux.policy.clone()),
    }
}

/// The type of a context: `user:role:type:level`.
fn domain_of(label: &str) -> &str {
    label.split(':').nth(2).unwrap_or(label)
}

fn booleans(selinux: &Selinux) -> Check {
    let wrong = BOOLEANS
        .iter()
        .find(|(name, wanted, _)| selinux.booleans.get(*name) == Some(&!wanted));
    let Some((name, wanted, effect)) = wrong else {
        let fine = "SELinux's booleans permit VFIO and modules";
        return Check::pass(Code::SelinuxBoolean, fine);
    };
    let (is, set) = match wanted {
        true => ("off", "on"),
        false => ("on", "off"),
    };
    let text = format!("SELinux's boolean '{name}' is {is}, so {effect}");
    let hint = Hint::run(format!("setsebool -P {name} {set}"));
    found(selinux, Code::SelinuxBoolean, text, hint)
}

fn profile(security: &Security, apparmor: &AppArmor) -> Check {
    let fine = "AppArmor confines the agent";
    let warn = |text: String, hint: Hint| Check::warn(Code::AppArmorProfile, text, hint);
    if !apparmor.installed {
        return warn(
            "AppArmor is enabled, and variantd's profile '/etc/apparmor.d/variantd' is not there"
                .into(),
            "install the variantd package again".into(),
        );
    }
    let load =
        Hint::run("apparmor_parser -r /etc/apparmor.d/variantd && systemctl restart variantd");
    match security
        .agent
        .as_deref()
        .map(|label| (label, label.split_once(" (")))
    {
        // An agent that does not run is another check's finding.
        None => Check::pass(Code::AppArmorProfile, fine).with("the agent does not run"),
        Some((_, Some((PROFILE, "enforce)")))) => Check::pass(Code::AppArmorProfile, fine),
        Some((_, Some((PROFILE, mode)))) => warn(
            format!(
                "AppArmor does not enforce the agent's profile: its mode is '{}'",
                mode.trim_end_matches(')')
            ),
            load,
        ),
        Some((label, _)) => warn(
            format!("the agent runs with AppArmor's label '{label}', not in its profile"),
            load,
        ),
    }
}

/// Devices of the host that libvirt's rules for QEMU must name, since it does not add them for each guest in every version.
fn devices(scene: &Scene, apparmor: &AppArmor) -> Option<Check> {
    let fine = "AppArmor lets QEMU open the host's devices";
    let has_egm = scene.egm_class.as_ref().is_ok_and(|is_there| *is_there);
    let wanted = [(scene.host.iommufd, "/dev/iommu"), (has_egm, "/dev/egm")];
    let mut wanted = wanted.iter().filter(|(is_there, _)| *is_there).peekable();
    wanted.peek()?;
    let rules = match &apparmor.rules {
        Ok(rules) => rules.as_ref()?,
        Err(why) => return Some(Check::unavailable(Code::AppArmorDevice, fine, why)),
    };
    Some(match wanted.find(|(_, node)| !rules.contains(node)) {
        None => Check::pass(Code::AppArmorDevice, fine),
        Some((_, node)) => Check::warn(
            Code::AppArmorDevice,
            format!("AppArmor's rules for guests (abstractions/libvirt-qemu) do not name {node}"),
            format!(
                "install the variantd package again; or add '{node}* rw,' to /etc/apparmor.d/local/abstractions/libvirt-qemu"
            ),
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::super::check::Verdict;
    use super::super::scene::Unavailable;
    use super::super::testing::ready;
    use super::*;

    fn selinux() -> Selinux {
        Selinux {
            enforcing: true,
            policy: "default".into(),
            module: Ok(true),
            mislabelled: None,
            booleans: [
                ("virt_use_vfio".to_owned(), true),
                ("secure_mode_insmod".to_owned(), false),
            ]
            .into(),
        }
    }

    fn labelled(label: &str) -> Security {
        Security {
            agent: Some(label.into()),
            ..Security::default()
        }
    }

    fn with_selinux(change: impl FnOnce(&mut Selinux)) -> Security {
        let mut selinux = selinux();
        change(&mut selinux);
        Security {
            selinux: Some(selinux),
            ..labelled("system_u:system_r:variantd_t:s0")
        }
    }

    fn with_apparmor(label: Option<&str>, change: impl FnOnce(&mut AppArmor)) -> Security {
        let mut apparmor = AppArmor {
            installed: true,
            rules: Ok(Some("/dev/iommu rw,\n/dev/egm[0-9]* rw,\n".into())),
        };
        change(&mut apparmor);
        Security {
            apparmor: Some(apparmor),
            agent: label.map(str::to_owned),
            ..Security::default()
        }
    }

    fn found(security: Security) -> Vec<Check> {
        let mut scene = ready();
        scene.security = Ok(security);
        scene.host.iommufd = true;
        scene.egm_class = Ok(true);
        checks(&scene)
    }

    #[test]
    fn a_host_without_a_security_module_has_no_such_check() {
        assert_eq!(found(Security::default()), Vec::new());
    }

    #[test]
    fn variantd_s_module_and_profile_pass() {
        let enforced = with_apparmor(Some("variantd (enforce)"), |_| {});
        for security in [with_selinux(|_| {}), enforced, with_apparmor(None, |_| {})] {
            let checks = found(security);
            assert_eq!(checks.len(), 2, "{checks:?}");
            assert!(
                checks.iter().all(|check| check.verdict == Verdict::Pass),
                "{checks:?}"
            );
        }
    }

    /// What is wrong, its code, verdict, and words of the text and of the hint.
    type Fault = (Security, Code, Verdict, &'static str, &'static str);

    fn faults() -> Vec<Fault> {
        use Verdict::{Fail, Warn};
        let unconfined = Security {
            agent: Some("system_u:system_r:initrc_t:s0".into()),
            ..with_selinux(|_| {})
        };
        vec![
            (
                with_selinux(|s| s.module = Ok(false)),
                Code::SelinuxModule,
                Fail,
                "'default'",
                LOAD,
            ),
            (
                with_selinux(|s| (s.module, s.enforcing) = (Ok(false), false)),
                Code::SelinuxModule,
                Warn,
                "no module",
                LOAD,
            ),
            (
                with_selinux(|s| {
                    s.mislabelled = Some(("/usr/sbin/variantd-hook".into(), "bin_t".into()))
                }),
                Code::SelinuxModule,
                Fail,
                "it has 'bin_t'",
                LOAD,
            ),
            (unconfined, Code::SelinuxModule, Fail, "'initrc_t'", LOAD),
            (
                with_selinux(|s| {
                    s.booleans.insert("virt_use_vfio".into(), false);
                }),
                Code::SelinuxBoolean,
                Fail,
                "is off, so QEMU",
                "setsebool -P virt_use_vfio on",
            ),
            (
                with_selinux(|s| {
                    s.booleans.insert("secure_mode_insmod".into(), true);
                }),
                Code::SelinuxBoolean,
                Fail,
                "is on, so no driver",
                "setsebool -P secure_mode_insmod off",
            ),
            (
                with_apparmor(None, |a| a.installed = false),
                Code::AppArmorProfile,
                Warn,
                "not there",
                "install",
            ),
            (
                with_apparmor(Some("unconfined"), |_| {}),
                Code::AppArmorProfile,
                Warn,
                "'unconfined'",
                "apparmor_parser -r",
            ),
            (
                with_apparmor(Some("variantd (complain)"), |_| {}),
                Code::AppArmorProfile,
                Warn,
                "'complain'",
                "apparmor_parser -r",
            ),
            (
                with_apparmor(Some("variantd (enforce)"), |a| {
                    a.rules = Ok(Some("/dev/iommu rw,".into()))
                }),
                Code::AppArmorDevice,
                Warn,
                "/dev/egm",
                "local/abstractions",
            ),
            (
                with_apparmor(None, |a| a.rules = Ok(Some(String::new()))),
                Code::AppArmorDevice,
                Warn,
                "/dev/iommu",
                "install",
            ),
        ]
    }

    #[test]
    fn each_fault_has_its_code_and_a_hint() {
        for (index, (security, code, verdict, text, hint)) in faults().into_iter().enumerate() {
            let checks = found(security);
            let check = checks
                .iter()
                .find(|check| check.code == code)
                .expect("a check");
            assert_eq!(check.verdict, verdict, "{index}: {check:?}");
            assert!(check.text.contains(text), "{index}: {check:?}");
            let printed = check.hint.as_ref().expect("a hint");
            assert!(printed.as_str().contains(hint), "{index}: {check:?}");
            assert!(
                check.text.len() <= 160 && printed.as_str().len() <= 160,
                "{index}: {check:?}"
            );
        }
    }

    #[test]
    fn what_cannot_be_read_is_unknown() {
        let hidden = || Unavailable::to_others("run it as root");
        let module = with_selinux(|s| s.module = Err(hidden()));
        let rules = with_apparmor(None, |a| a.rules = Err(hidden()));
        for (security, code) in [(module, Code::SelinuxModule), (rules, Code::AppArmorDevice)] {
            let checks = found(security);
            let check = checks
                .iter()
                .find(|check| check.code == code)
                .expect("a check");
            assert_eq!(check.verdict, Verdict::Unavailable, "{check:?}");
        }
        let mut scene = ready();
        scene.security = Err(hidden());
        assert_eq!(checks(&scene)[0].verdict, Verdict::Unavailable);
    }

    #[test]
    fn a_device_that_the_host_does_not_have_needs_no_rule() {
        let mut scene = ready();
        scene.security = Ok(with_apparmor(None, |a| a.rules = Ok(Some(String::new()))));
        assert!(
            checks(&scene)
                .iter()
                .all(|check| check.code != Code::AppArmorDevice)
        );
    }
}
