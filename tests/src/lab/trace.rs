//! The system calls of variantd's units while scenarios run: those that a unit's sandbox denied, and the groups of systemd that they used.
//!
//! systemd makes seccomp filters of `SystemCallFilter=`, `RestrictAddressFamilies=`, `MemoryDenyWriteExecute=` and its other restrictions.
//! With `SYSTEMD_LOG_SECCOMP=1` in the environment of systemd (src/shared/seccomp-util.c) the kernel logs what they deny, and
//! `SystemCallLog=` makes it log permitted calls.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::channel::Job;
use super::command;
use super::host::Lab;

/// For the kernel of the emulated host. The kernel gives an argument that it does not know, and that has a value, to systemd.
pub const KERNEL_ARGUMENTS: [&str; 5] = [
    "audit=1",
    "audit_backlog_limit=8192",
    "log_buf_len=16M",
    "sysctl.kernel.printk_ratelimit=0",
    "SYSTEMD_LOG_SECCOMP=1",
];

/// Calls that are not logged, as every program of the units makes many of them.
const FREQUENT: &str = "brk close epoll_pwait epoll_wait fcntl fstat futex getdents64 lseek madvise mmap mprotect munmap newfstatat \
    openat openat2 poll ppoll pread64 read readlink readlinkat recvfrom recvmsg rt_sigaction rt_sigprocmask sendmsg sendto stat statx \
    write writev";

/// Logs each pair of a program and a call once, and through the host's reboots.
const BEGIN: &str = r#"
for unit in variantd variantd-reserve variantd-probe variantd-connect@; do
    mkdir -p /etc/systemd/system/$unit.service.d
    printf '%s\n' '[Service]' "SystemCallLog=~$frequent" >/etc/systemd/system/$unit.service.d/trace.conf
done
cat >/usr/local/sbin/system-calls <<'END'
#!/bin/sh
dmesg --follow | mawk -W interactive '/ type=1326 / {
    for (i = 1; i <= NF; i++) { split($i, part, "="); value[part[1]] = part[2] }
    key = value["syscall"] " " value["code"] " " value["exe"]
    if (!seen[key]++) { print key; fflush() }
}' >>/var/log/system-calls
END
chmod 755 /usr/local/sbin/system-calls
printf '%s\n' '[Unit]' DefaultDependencies=no '[Service]' ExecStart=/usr/local/sbin/system-calls '[Install]' WantedBy=sysinit.target \
    >/etc/systemd/system/system-calls.service
systemctl daemon-reload
systemctl enable --now system-calls
systemctl restart variantd variantd-probe
"#;

/// Prints the logged pairs, and behind an empty line systemd's groups.
const END: &str = "sort -u /var/log/system-calls; echo; systemd-analyze --no-pager syscall-filter";

/// `SECCOMP_RET_LOG` of include/uapi/linux/seccomp.h: the call was permitted.
const LOGGED: &str = "0x7ffc0000";
/// Calls that systemd denies with ENOSYS because seccomp cannot read their arguments, and what follows. clone3(2) because of
/// `RestrictNamespaces=`: the C library uses clone(2) then. openat2(2) because of `RestrictSUIDSGID=`, which udev's own unit has, and
/// udev's rule runs variantd: the kernel's files are opened without it then (kernel-glue/src/sysfs.rs).
const EXPECTED: [&str; 2] = ["clone3", "openat2"];
/// Installs the filters and executes the program of the unit.
const EXECUTOR: &str = "/usr/lib/systemd/systemd-executor";

/// What the kernel logged.
#[derive(Debug, Default)]
pub struct Trace {
    /// By program of the units: denied calls.
    denied: BTreeMap<String, BTreeSet<String>>,
    /// By program: permitted calls, without the frequent ones, by the group of systemd.
    used: BTreeMap<String, BTreeMap<String, BTreeSet<String>>>,
}

/// Begins to log in the emulated host, whose kernel needs `KERNEL_ARGUMENTS`.
pub fn begin(lab: &Lab) -> Result<()> {
    let script = format!("set -eu\nfrequent='{FREQUENT}'\n{BEGIN}");
    let (status, text) = Job::new(script).collect(lab.state())?;
    if status != 0 {
        bail!("cannot log system calls in the emulated host:\n{text}");
    }
    Ok(())
}

/// What has been logged.
pub fn end(lab: &Lab) -> Result<Trace> {
    let (status, text) = Job::new(END).collect(lab.state())?;
    if status != 0 {
        bail!("cannot read the logged system calls of the emulated host:\n{text}");
    }
    let mut compiler = Command::new("gcc");
    compiler.args([
        "-E",
        "-dM",
        "-include",
        "sys/syscall.h",
        "-x",
        "c",
        "/dev/null",
    ]);
    let headers =
        command::output(&mut compiler).context("cannot read the numbers of system calls")?;
    Trace::of(&text, &names(&headers))
}

impl Trace {
    fn of(text: &str, names: &BTreeMap<u32, String>) -> Result<Self> {
        let (pairs, groups) = text
            .split_once("\n\n")
            .context("no list of systemd's groups")?;
        let groups = group_of_call(groups);
        let mut trace = Self::default();
        for line in pairs.lines() {
            let mut fields = line.splitn(3, ' ');
            let (Some(number), Some(code), Some(program)) =
                (fields.next(), fields.next(), fields.next())
            else {
                bail!("not a system call, its result and a program: '{line}'");
            };
            let number: u32 = number.parse().with_context(|| format!("'{line}'"))?;
            let name = names
                .get(&number)
                .cloned()
                .unwrap_or_else(|| number.to_string());
            let program = path(program);
            if program == EXECUTOR {
                continue;
            }
            if code == LOGGED {
                let group = groups.get(&name).cloned().unwrap_or_default();
                let used = trace.used.entry(program).or_default();
                used.entry(group).or_default().insert(name);
            } else if !EXPECTED.contains(&&*name) {
                trace.denied.entry(program).or_default().insert(name);
            }
        }
        // Only the calls of variantd's units are logged, and every unit's denials.
        let Self { denied, used } = &mut trace;
        denied.retain(|program, _| used.contains_key(program));
        Ok(trace)
    }

    /// Whether a call was denied.
    pub fn has_denied(&self) -> bool {
        !self.denied.is_empty()
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listed = |calls: &BTreeSet<String>| {
            let calls: Vec<&str> = calls.iter().map(String::as_str).collect();
            calls.join(" ")
        };
        for (program, groups) in &self.used {
            writeln!(f, "'{program}' used, beside frequent calls:")?;
            for (group, calls) in groups {
                writeln!(f, "    {group}: {}", listed(calls))?;
            }
        }
        for (program, calls) in &self.denied {
            writeln!(f, "'{program}' was denied: {}", listed(calls))?;
        }
        if self.denied.is_empty() {
            writeln!(
                f,
                "no system call was denied, except {}",
                EXPECTED.join(" and ")
            )?;
        }
        Ok(())
    }
}

/// A program's path as the kernel logs it: in quotes, or in hexadecimal where it has a space, as that of a replaced program
/// (`/usr/sbin/variantd (deleted)`; kernel/audit.c, audit_log_untrustedstring).
fn path(logged: &str) -> String {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Option<Vec<u8>> = logged.as_bytes().chunks(2).map(byte).collect();
    let plain = match bytes {
        Some(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        None => logged.trim_matches('"').to_owned(),
    };
    plain.trim_end_matches(" (deleted)").to_owned()
}

/// The names by number, from the C preprocessor's list of definitions.
fn names(headers: &str) -> BTreeMap<u32, String> {
    let definitions = headers
        .lines()
        .filter_map(|line| line.strip_prefix("#define __NR_"));
    let pairs = definitions.filter_map(|line| {
        let (name, number) = line.split_once(' ')?;
        Some((number.trim().parse().ok()?, name.to_owned()))
    });
    pairs.collect()
}

/// The smallest group of each call, from the list of `systemd-analyze syscall-filter`: groups without an indent, and their calls,
/// comments and other groups below them.
fn group_of_call(list: &str) -> BTreeMap<String, String> {
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in list.lines() {
        if line.starts_with('@') {
            groups.push((line.trim(), Vec::new()));
        } else if let Some((_, calls)) = groups.last_mut() {
            calls.push(line.trim());
        }
    }
    // of two groups the smaller one says more: '@chown' rather than '@privileged'
    groups.sort_by_key(|(_, calls)| std::cmp::Reverse(calls.len()));
    let known = groups.iter().filter(|(name, _)| *name != "@known");
    let pairs = known.flat_map(|(name, calls)| {
        calls
            .iter()
            .map(|call| ((*call).to_owned(), (*name).to_owned()))
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADERS: &str = "#define __GLIBC__ 2\n#define __NR_chown 92\n#define __NR_clone3 435\n#define __NR_mount 165\n#define SYS_chown __NR_chown\n";
    const GROUPS: &str = "@privileged\n    # All that need rights\n    @chown\n    bpf\n    chown\n\n@chown\n    # Owners\n    chown\n\
        \n@mount\n    mount\n\n@known\n    chown\n";

    fn trace(pairs: &str) -> Result<Trace> {
        Trace::of(&format!("{pairs}\n{GROUPS}"), &names(HEADERS))
    }

    #[test]
    fn a_call_is_named_with_its_smallest_group() {
        let printed =
            trace("92 0x7ffc0000 \"/usr/sbin/variantd\"\n999 0x7ffc0000 \"/usr/bin/a b\"\n")
                .expect("a trace");
        assert!(!printed.has_denied());
        let printed = printed.to_string();
        assert!(
            printed
                .contains("'/usr/sbin/variantd' used, beside frequent calls:\n    @chown: chown\n"),
            "{printed}"
        );
        assert!(
            printed.contains("'/usr/bin/a b' used, beside frequent calls:\n    : 999\n"),
            "{printed}"
        );
    }

    #[test]
    fn a_denied_call_is_a_fault_unless_systemd_denies_it_to_all() {
        let used = "92 0x7ffc0000 \"/usr/bin/kmod\"\n";
        let denied = trace(&format!("165 0x50000 \"/usr/bin/kmod\"\n{used}")).expect("a trace");
        assert!(denied.has_denied());
        let printed = denied.to_string();
        assert!(
            printed.ends_with("'/usr/bin/kmod' was denied: mount\n"),
            "{printed}"
        );
        let other = trace(&format!(
            "165 0x50000 \"/usr/lib/polkit-1/polkitd\"\n{used}"
        ));
        assert!(
            !other.expect("a trace").has_denied(),
            "a program of another unit"
        );
        let expected = trace(
            "435 0x50000 \"/usr/sbin/variantd\"\n165 0x50000 \"/usr/lib/systemd/systemd-executor\"\n",
        );
        assert!(!expected.expect("a trace").has_denied());
    }

    #[test]
    fn a_replaced_program_is_named_as_before() {
        let replaced = trace("92 0x7ffc0000 2F612F62202864656C6574656429\n").expect("a trace");
        let printed = replaced.to_string();
        assert!(
            printed.starts_with("'/a/b' used, beside frequent calls:\n    @chown: chown\n"),
            "{printed}"
        );
    }

    #[test]
    fn a_line_that_cannot_be_read_is_an_error() {
        for pairs in ["92 0x7ffc0000\n", "many 0x0 \"/a\"\n"] {
            assert!(trace(pairs).is_err(), "{pairs}");
        }
        assert!(Trace::of("", &names(HEADERS)).is_err());
    }
}
