//! A driver's probe does not run at a higher priority than guests, even if the agent does.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use agent::request::Request;
use kernel_glue::kernel::Attribute;
use nix::sys::stat::Mode;
use nix::unistd::{Uid, mkfifo};

/// The nice value of a process or thread, from -20 to 19 (proc_pid_stat(5), field 19).
fn nice(task: &Path) -> i32 {
    let stat = fs::read_to_string(task.join("stat")).expect("stat");
    let (_, behind_name) = stat.rsplit_once(')').expect("its name");
    let field = behind_name.split_whitespace().nth(16).expect("field 19");
    field.parse().expect("a number")
}

#[test]
fn write_for_the_hook_has_normal_priority() {
    if !Uid::effective().is_root() {
        return println!("not run: needs root, to come before others");
    }
    let root = tempfile::tempdir().expect("a root");
    let attribute = root.path().join("sys/bus/pci/drivers_probe");
    fs::create_dir_all(attribute.parent().expect("a folder")).expect("sysfs");
    // A writer's open blocks until there is a reader.
    mkfifo(&attribute, Mode::S_IRUSR | Mode::S_IWUSR).expect("pipe");
    let mut child = Command::new("nice")
        .args(["-n", "-10", env!("CARGO_BIN_EXE_variantd-child")])
        .stdin(Stdio::piped())
        .spawn()
        .expect("nice");
    let request = Request::Write {
        root: root.path().to_owned(),
        attribute: Attribute::Probe,
        value: "0009:01:00.0".to_owned(),
    };
    let request = serde_json::to_vec(&request).expect("a request");
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(&request).expect("written");
    drop(input);
    let process = format!("/proc/{}", child.id());
    let writes = || {
        let name = fs::read_to_string(format!("{process}/comm")).expect("comm");
        name.starts_with("variantd-child") && nice(Path::new(&process)) == 0
    };
    while !writes() {
        assert!(child.try_wait().expect("its status").is_none(), "it ended");
        std::thread::yield_now();
    }
    drop(File::open(&attribute).expect("pipe"));
    child.wait().expect("its status");
}
