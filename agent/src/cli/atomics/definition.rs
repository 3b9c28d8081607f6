//! The guest's definition: of a file, or as virsh prints it.

use std::path::{Path, PathBuf};
use std::process::Command;

use kernel_glue::address::PciAddress;

use super::super::problem::Problem;
use super::super::{View, input};
use super::Request;
use crate::domain::{Domain, MAX_BYTES};
use crate::from_libvirt::Pool;
use crate::target::Version;

/// The system's libvirt, as the agent uses it; reading needs no rights there.
const VIRSH: [&str; 4] = ["--readonly", "--quiet", "--connect", "qemu:///system"];

/// A guest's definition.
pub(super) struct Definition {
    /// What it is called.
    pub(super) name: String,
    pub(super) text: String,
    pub(super) domain: Domain,
    /// What libvirt says of the networks of its interfaces, by name; `None` where it was not asked or did not answer.
    pub(super) networks: Vec<(String, Option<Pool>)>,
    /// The QEMU that libvirt would run it with.
    pub(super) qemu: Option<Version>,
    /// It is in libvirt.
    pub(super) defined: bool,
}

impl Definition {
    /// The one that is asked for, if one is.
    pub(super) fn of(view: &View, request: &Request) -> Result<Option<Self>, Problem> {
        match (&request.file, &request.domain) {
            (Some(file), _) => Self::in_file(file).map(Some),
            (None, Some(_)) if view.root != Path::new("/") => Err(Problem::Usage(
                "a recorded host has no libvirt: give the definition with --file".to_owned(),
            )),
            (None, Some(name)) => {
                let virsh = Virsh(PathBuf::from("virsh"));
                Self::in_libvirt(&virsh, name, request.device).map(Some)
            }
            (None, None) => Ok(None),
        }
    }

    fn in_file(file: &Path) -> Result<Self, Problem> {
        let text = input::text(file, MAX_BYTES)?;
        let domain = Domain::parse(&text)?;
        Ok(Self {
            name: file.display().to_string(),
            networks: domain
                .networks
                .keys()
                .map(|name| (name.clone(), None))
                .collect(),
            domain,
            text,
            qemu: None,
            defined: false,
        })
    }

    /// The definition for the next start; for a device that is not in it, the guest that runs.
    fn in_libvirt(virsh: &Virsh, name: &str, device: Option<PciAddress>) -> Result<Self, Problem> {
        let next = virsh.say(&["dumpxml", "--inactive", "--domain", name])?;
        let domain = Domain::parse(&next)?;
        let (text, domain) = match device {
            Some(address) if !domain.uses(address) => {
                let now = virsh.say(&["dumpxml", "--domain", name])?;
                let domain = Domain::parse(&now)?;
                (now, domain)
            }
            _ => (next, domain),
        };
        Ok(Self {
            name: name.to_owned(),
            text,
            qemu: virsh.say(&["version"]).ok().as_deref().and_then(running),
            networks: networks(virsh, domain.networks.keys()),
            domain,
            defined: true,
        })
    }
}

fn networks<'a>(
    virsh: &Virsh,
    names: impl Iterator<Item = &'a String>,
) -> Vec<(String, Option<Pool>)> {
    let ask = |name: &String| {
        let xml = virsh.say(&["net-dumpxml", "--network", name]).ok();
        (name.clone(), xml.as_deref().and_then(Pool::parse))
    };
    names.map(ask).collect()
}

/// From the line `Running hypervisor: QEMU 11.1.2`.
fn running(text: &str) -> Option<Version> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Running hypervisor: QEMU "))?;
    line.trim().parse().ok()
}

/// The program that asks libvirt: variantctl itself does without its library.
struct Virsh(PathBuf);

impl Virsh {
    fn say(&self, arguments: &[&str]) -> Result<String, Problem> {
        let output = Command::new(&self.0)
            .args(VIRSH)
            .args(arguments)
            .env("LC_ALL", "C")
            .output();
        let output = output.map_err(|error| {
            let text = format!(
                "cannot run virsh: {error}; give the definition with --file, or install libvirt's clients"
            );
            Problem::Failed(text)
        })?;
        if output.status.success() {
            return String::from_utf8(output.stdout)
                .map_err(|_| Problem::Failed("virsh prints no UTF-8 text".to_owned()));
        }
        Err(refused(&String::from_utf8_lossy(&output.stderr)))
    }
}

fn refused(said: &str) -> Problem {
    let lines = said.lines().map(|line| line.trim_start_matches("error: "));
    let said = lines.collect::<Vec<_>>().join(": ");
    match said.contains("failed to get domain") {
        true => Problem::NotFound(format!("virsh: {said}")),
        false => Problem::Failed(format!("virsh: {said}")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A program that answers as virsh does, for a guest that runs with a port more than its definition has.
    fn virsh(script: &str) -> (tempfile::TempDir, Virsh) {
        let directory = tempfile::tempdir().expect("directory");
        let program = directory.path().join("virsh");
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).expect("script");
        fs::set_permissions(&program, Permissions::from_mode(0o755)).expect("executable");
        (directory, Virsh(program))
    }

    const ANSWERS: &str = "case \"$*\" in
        *version) echo 'Running hypervisor: QEMU 10.0.2' ;;
        *--inactive*) echo '<domain><name>next</name><devices/></domain>' ;;
        *dumpxml*) echo '<domain><name>now</name><devices/></domain>' ;;
        *) exit 9 ;;
        esac";

    #[test]
    fn a_device_that_is_not_in_the_definition_is_for_the_guest_that_runs() {
        let (_directory, virsh) = virsh(ANSWERS);
        let read = |device| Definition::in_libvirt(&virsh, "d", device).expect("a definition");
        let next = read(None);
        assert_eq!((next.domain.name.as_str(), next.defined), ("next", true));
        assert_eq!(next.qemu, Some(Version::new(10, 0, 2)));
        let now = read("0000:01:00.0".parse().ok());
        assert_eq!(now.domain.name, "now");
    }

    #[test]
    fn what_virsh_says_is_passed_on() {
        let script =
            "printf 'error: failed to get domain x\\nerror: Domain not found\\n' >&2; exit 1";
        let (_directory, program) = virsh(script);
        let problem = Definition::in_libvirt(&program, "x", None).err();
        assert!(matches!(problem, Some(Problem::NotFound(_))), "{problem:?}");
        let text = problem.expect("a problem").to_string();
        assert_eq!(text, "virsh: failed to get domain x: Domain not found");
        let nowhere = Virsh(PathBuf::from("/nonexistent/virsh"));
        let problem = Definition::in_libvirt(&nowhere, "x", None).err();
        let text = problem.expect("no virsh").to_string();
        assert!(text.contains("--file"), "{text}");
    }

    #[test]
    fn the_qemu_that_runs_is_read_from_virsh() {
        let text = "Compiled against library: libvirt 12.8.0\nUsing library: libvirt 12.8.0\n\
                    Using API: QEMU 12.8.0\nRunning hypervisor: QEMU 11.1.2\n";
        assert_eq!(running(text), Some(Version::new(11, 1, 2)));
        assert_eq!(running("Using API: QEMU 12.8.0\n"), None);
    }
}
