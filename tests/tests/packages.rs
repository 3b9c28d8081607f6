//! The scripts of the packages in the order in which dpkg and rpm run them, at upgrades and downgrades from and to 0.1.0.
//!
//! dpkg installs packages that consist of the scripts into a folder (`--force-script-chrootless`); those of 0.1.0 are in
//! tests/data/packages, without some comments. Programs that the scripts call are shell scripts here: they log the call, and keep the states of units as files.
//! The lab's scenario `upgrade` does the same with the real packages.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const SCRIPTS: [&str; 4] = ["preinst", "postinst", "prerm", "postrm"];
/// What debhelper adds for the units, reduced to its effect on them.
const DEBHELPER: &str = r#"case $1 in configure | abort-upgrade)
    deb-systemd-invoke start variantd-hook.socket
    deb-systemd-invoke restart variantd.service ;;
esac
"#;
/// systemctl, and deb-systemd-invoke, which has the same verbs.
const SYSTEMCTL: &str = r#"
for word; do case $word in
    --*) ;;
    is-active | start | stop | restart | try-restart | mask | unmask) verb=$word ;;
    *)
        case ${verb-} in
        is-active) [ -e "$R/active/$word" ] || exit 3 ;;
        stop) rm -f "$R/active/$word" ;;
        start | restart)
            if [ -e "$R/masked/$word" ]; then exit 1; fi
            : >"$R/active/$word" ;;
        try-restart) if [ -e "$R/active/$word" ] && [ -e "$R/masked/$word" ]; then exit 1; fi ;;
        mask) : >"$R/masked/$word" ;;
        unmask) rm -f "$R/masked/$word" ;;
        esac ;;
    esac
done
exit 0
"#;
/// The agent's program: `$R/refuse` has the call that it refuses.
const VARIANTD: &str = r#"
if [ -e "$R/refuse" ] && [ "$(cat "$R/refuse")" = "$*" ]; then
    echo 'variantd: refused' >&2
    exit 1
fi
exit 0
"#;
const CHECK: &str = "variantd --downgrade 0.1.0 --check";
const CONVERT: &str = "variantd --downgrade 0.1.0";

struct Host(tempfile::TempDir);

impl Host {
    fn new() -> Self {
        let host = Self(tempfile::tempdir().expect("a folder"));
        for folder in [
            "run/systemd/system",
            "run/variantd",
            "active",
            "masked",
            "bin",
            "own",
            "fs/var/lib/dpkg/info",
            "fs/var/lib/dpkg/updates",
            "fs/var/lib/dpkg/triggers",
        ] {
            fs::create_dir_all(host.path(folder)).expect("a folder");
        }
        fs::write(host.path("fs/var/lib/dpkg/status"), "").expect("written");
        let programs = [
            ("systemctl", SYSTEMCTL),
            ("deb-systemd-invoke", SYSTEMCTL),
            ("deb-systemd-helper", "exit 0\n"),
            ("systemd-sysusers", "exit 0\n"),
            ("variantd", VARIANTD),
            (
                "variantctl",
                "[ \"$*\" != --version ] || cat \"$R/version\"\nexit 0\n",
            ),
        ];
        for (name, body) in programs {
            host.program(&format!("bin/{name}"), name, body);
        }
        for (name, body) in [("variantd", VARIANTD), ("variantctl", "exit 0\n")] {
            host.program(&format!("own/{name}"), name, body);
        }
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn program(&self, file: &str, name: &str, body: &str) {
        let root = self.0.path().display();
        let text = format!("#!/bin/sh\nR='{root}'\necho \"{name} $*\" >>\"$R/log\"\n{body}");
        executable(&self.path(file), &text);
    }

    /// The agent's program refuses the call with these arguments, as for state that cannot go back.
    fn refuses(&self, call: &str) {
        let arguments = call.trim_start_matches("variantd ");
        fs::write(self.path("refuse"), format!("{arguments}\n")).expect("written");
    }

    fn is_active(&self, unit: &str) -> bool {
        self.path("active").join(unit).exists()
    }

    fn is_masked(&self, unit: &str) -> bool {
        self.path("masked").join(unit).exists()
    }

    /// The calls of the last step, without queries.
    fn take_log(&self) -> Vec<String> {
        let log = self.path("log");
        let text = fs::read_to_string(&log).unwrap_or_default();
        let _ = fs::remove_file(log);
        let is_query = |line: &&str| line.contains("is-active") || line.contains("--version");
        let calls = text.lines().filter(|line| !is_query(line));
        calls.map(str::to_owned).collect()
    }

    /// A script for this host.
    fn here(&self, script: &str) -> String {
        script.replace("/run/", &format!("{}/", self.path("run").display()))
    }

    /// Builds a package of the scripts, and runs `dpkg --install`; true if that succeeds.
    fn installs(&self, version: &str, scripts: &[(&str, String)]) -> bool {
        let folder = self.path(&format!("package-{version}"));
        fs::create_dir_all(folder.join("DEBIAN")).expect("a folder");
        let control = format!(
            "Package: variantd\nVersion: {version}\nArchitecture: all\nMaintainer: Test <test@example.org>\nDescription: scripts\n"
        );
        fs::write(folder.join("DEBIAN/control"), control).expect("written");
        for (name, text) in scripts {
            executable(&folder.join("DEBIAN").join(name), &self.here(text));
        }
        let package = self.path("package.deb");
        let built = Command::new("dpkg-deb")
            .args(["--root-owner-group", "-Znone", "--build"])
            .args([&folder, &package])
            .output();
        assert!(built.expect("dpkg-deb runs").status.success());
        let path = std::env::var("PATH").expect("PATH");
        let output = Command::new("dpkg")
            .arg(format!("--root={}", self.path("fs").display()))
            .args([
                "--force-script-chrootless,not-root,bad-path",
                "--log=/dev/null",
                "--install",
            ])
            .arg(package)
            .env("PATH", format!("{}:{path}", self.path("bin").display()))
            .output()
            .expect("dpkg runs");
        println!("{}", String::from_utf8_lossy(&output.stderr));
        output.status.success()
    }

    fn installed(&self) -> String {
        let status = fs::read_to_string(self.path("fs/var/lib/dpkg/status")).expect("status");
        let version = status
            .lines()
            .find_map(|line| line.strip_prefix("Version: "));
        version.unwrap_or_default().to_owned()
    }

    /// Runs a scriptlet of the rpm.
    fn scriptlet(&self, name: &str, argument: u32) {
        let text = self
            .here(&scriptlet(name))
            .replace(
                "%{_prefix}/libexec/variantd/downgrade",
                &self.path("own").display().to_string(),
            )
            .replace("%{_prefix}", "/usr")
            .replace("%%", "%");
        assert!(!text.contains("%{"), "{text}");
        let path = std::env::var("PATH").expect("PATH");
        let output = Command::new("sh")
            .args(["-c", &text, "sh", &argument.to_string()])
            .env("PATH", format!("{}:{path}", self.path("bin").display()))
            .output()
            .expect("sh runs");
        assert!(output.status.success(), "%{name}: {output:?}");
    }
}

fn executable(path: &Path, text: &str) {
    fs::write(path, text).expect("written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("mode");
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The scripts of 0.1.0.
fn old() -> Vec<(&'static str, String)> {
    let folder = root().join("tests/data/packages/0.1.0");
    let read = |name| fs::read_to_string(folder.join(name)).expect("a script");
    SCRIPTS.map(|name| (name, read(name))).to_vec()
}

/// The scripts of this version.
fn new() -> Vec<(&'static str, String)> {
    let folder = root().join("packaging/debian");
    let read = |name| {
        let text = fs::read_to_string(folder.join(format!("variantd.{name}")));
        let added = if name == "postinst" { DEBHELPER } else { "" };
        text.expect("a script").replace("#DEBHELPER#", added)
    };
    SCRIPTS.map(|name| (name, read(name))).to_vec()
}

/// A section of the spec file.
fn scriptlet(name: &str) -> String {
    let spec = fs::read_to_string(root().join("packaging/rpm/variantd.spec")).expect("the spec");
    let (_, rest) = spec
        .split_once(&format!("\n%{name}\n"))
        .expect("the section");
    let lines = rest.lines().take_while(|line| {
        let mut words = line.split_whitespace();
        !matches!(
            words.next(),
            Some("%post" | "%preun" | "%postun" | "%files" | "%pre")
        )
    });
    lines.map(|line| format!("{line}\n")).collect()
}

fn has_dpkg() -> bool {
    let found = Command::new("dpkg").arg("--version").output().is_ok();
    if !found {
        eprintln!("skipped: no dpkg here");
    }
    found
}

/// The position of a call in a log.
fn at(log: &[String], call: &str) -> usize {
    let found = log.iter().position(|line| line == call);
    found.unwrap_or_else(|| unreachable!("no call {call} in {log:#?}"))
}

#[test]
fn deb_downgrade_converts_the_records_between_the_stop_of_the_agent_and_the_start_of_the_older_one()
{
    if !has_dpkg() {
        return;
    }
    let host = Host::new();
    assert!(host.installs("0.1.0", &old()));
    host.take_log();
    assert!(host.installs("0.2.0", &new()));
    let log = host.take_log();
    let stop = at(&log, "deb-systemd-invoke stop variantd.service");
    assert!(stop < at(&log, "deb-systemd-invoke start variantd-hook.socket"));
    assert!(
        !log.iter().any(|line| line.contains("--downgrade")),
        "{log:?}"
    );

    assert!(host.installs("0.2.0", &new()), "again");
    let log = host.take_log();
    assert!(
        !log.iter().any(|line| line.contains("--downgrade")),
        "{log:?}"
    );

    assert!(host.installs("0.1.0", &old()));
    let log = host.take_log();
    let stop = at(
        &log,
        "deb-systemd-invoke stop variantd-connect.socket variantd-hook.socket variantd.service",
    );
    let convert = at(&log, CONVERT);
    assert!(at(&log, CHECK) < stop && stop < convert);
    assert!(convert < at(&log, "deb-systemd-invoke restart variantd.service"));
    at(&log, "variantctl connect --disable");
    assert!(host.is_active("variantd.service") && !host.is_active("variantd-hook.socket"));
    assert!(!host.is_masked("variantd.service"));
    assert_eq!(host.installed(), "0.1.0");
}

#[test]
fn deb_downgrade_that_is_refused_starts_no_agent_until_this_version_is_back() {
    if !has_dpkg() {
        return;
    }
    for refused in [CHECK, CONVERT] {
        let host = Host::new();
        assert!(host.installs("0.2.0", &new()));
        host.refuses(refused);
        host.take_log();
        // dpkg asks the script of 0.1.0 whether to go on, and it does not fail.
        assert!(host.installs("0.1.0", &old()));
        let log = host.take_log();
        assert_eq!(
            log.iter().any(|line| line == CONVERT),
            refused == CONVERT,
            "{log:?}"
        );
        for unit in ["variantd.service", "variantd-hook.socket"] {
            assert!(!host.is_active(unit), "{unit} {refused}");
        }
        assert!(host.is_masked("variantd.service") && host.is_masked("variantd-reserve.service"));

        assert!(host.installs("0.2.0", &new()));
        assert!(host.is_active("variantd.service") && host.is_active("variantd-hook.socket"));
        assert!(!host.is_masked("variantd.service") && !host.is_masked("variantd-reserve.service"));
        assert!(!host.path("run/variantd/downgrade-refused").exists());
    }
}

#[test]
fn deb_of_this_version_is_not_installed_over_a_newer_one_that_refuses() {
    if !has_dpkg() {
        return;
    }
    let host = Host::new();
    let mut newer = new();
    let prerm = newer.iter_mut().find(|(name, _)| *name == "prerm");
    prerm.expect("a script").1 = "#!/bin/sh\nexit 1\n".to_owned();
    assert!(host.installs("0.3.0", &newer));
    assert!(!host.installs("0.2.0", &new()));
    assert_eq!(host.installed(), "0.3.0");
    assert!(host.is_active("variantd.service"));
}

#[test]
fn rpm_upgrade_from_an_agent_without_the_socket_starts_it() {
    let host = Host::new();
    fs::write(host.path("active/variantd.service"), "").expect("written");
    host.scriptlet("post", 2);
    let log = host.take_log();
    let stop = at(&log, "systemctl stop variantd.service");
    assert!(
        stop < at(
            &log,
            "systemctl start variantd-hook.socket variantd.service"
        )
    );
    assert!(host.is_active("variantd-hook.socket") && host.is_active("variantd.service"));
    host.scriptlet("post", 2);
    assert!(!host.take_log().iter().any(|line| line.contains(" stop ")));
}

#[test]
fn rpm_downgrade_converts_or_masks() {
    for refused in [None, Some(CHECK), Some(CONVERT)] {
        let host = Host::new();
        for unit in ["variantd.service", "variantd-hook.socket"] {
            fs::write(host.path("active").join(unit), "").expect("written");
        }
        if let Some(call) = refused {
            host.refuses(call);
        }
        for (version, is_downgrade) in [("0.2.0", false), ("0.3.0", false), ("0.1.0", true)] {
            fs::write(host.path("version"), format!("variantctl {version}\n")).expect("written");
            host.scriptlet("preun", 1);
            let log = host.take_log();
            assert_eq!(
                log.iter().any(|line| line == CHECK),
                is_downgrade,
                "{version}: {log:?}"
            );
        }
        assert!(!host.is_active("variantd.service") && !host.is_active("variantd-hook.socket"));
        host.scriptlet("postun", 1);
        assert_eq!(
            host.is_active("variantd.service"),
            refused.is_none(),
            "{refused:?}"
        );
        assert_eq!(
            host.is_masked("variantd.service"),
            refused.is_some(),
            "{refused:?}"
        );

        host.scriptlet("post", 2);
        assert!(host.is_active("variantd.service") && host.is_active("variantd-hook.socket"));
        assert!(!host.is_masked("variantd.service"));
    }
}
