//! Compares the structures and numbers of our ioctls with the kernel's own header, by the C compiler.

use std::fmt::Write;
use std::io::Write as _;
use std::mem::{offset_of, size_of};
use std::path::Path;
use std::process::{Command, Stdio};

use vfio_bindings::bindings::vfio::{
    vfio_device_bind_iommufd, vfio_device_info, vfio_group_status, vfio_info_cap_header,
    vfio_region_info,
};

const HEADER: &str = "/usr/include/linux/vfio.h";

/// Lines of C that compile only if each field has our offset and size.
macro_rules! layout {
    ($text:ident, $name:ident: $($field:ident)*) => {
        $(
            let ours = offset_of!($name, $field);
            writeln!($text, "_Static_assert(offsetof(struct {0}, {1}) == {ours}, \"{0}.{1}\");",
                stringify!($name), stringify!($field)).expect("a line");
        )*
        // A newer kernel's structure may be longer: `argsz` passes our size.
        writeln!($text, "_Static_assert(sizeof(struct {0}) % 4 == 0 && {1} % 4 == 0, \"{0}\");",
            stringify!($name), size_of::<$name>()).expect("a line");
    };
}

fn assertions(with_iommufd: bool) -> String {
    let mut text = format!("#include <stddef.h>\n#include \"{HEADER}\"\n");
    layout!(text, vfio_group_status: argsz flags);
    layout!(text, vfio_device_info: argsz flags num_regions num_irqs);
    layout!(text, vfio_region_info: argsz flags index cap_offset size offset);
    layout!(text, vfio_info_cap_header: id version next);
    let mut numbers = vec![
        ("VFIO_GROUP_GET_STATUS", 103),
        ("VFIO_GROUP_SET_CONTAINER", 104),
        ("VFIO_GROUP_GET_DEVICE_FD", 106),
        ("VFIO_SET_IOMMU", 102),
        ("VFIO_DEVICE_GET_INFO", 107),
        ("VFIO_DEVICE_GET_REGION_INFO", 108),
    ];
    if with_iommufd {
        layout!(text, vfio_device_bind_iommufd: argsz flags iommufd out_devid);
        numbers.push(("VFIO_DEVICE_BIND_IOMMUFD", 118));
    }
    for (name, number) in numbers {
        writeln!(
            text,
            "_Static_assert({name} == _IO(';', {number}), \"{name}\");"
        )
        .expect("a line");
    }
    text
}

/// The compiler's output for a text; `None` if there is no compiler.
fn compile(text: &str) -> Option<Result<(), String>> {
    let mut compiler = Command::new("cc");
    compiler.args(["-std=gnu11", "-fsyntax-only", "-x", "c", "-"]);
    let run = compiler
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut run = run.spawn().ok()?;
    let mut input = run.stdin.take()?;
    input.write_all(text.as_bytes()).ok()?;
    drop(input);
    let output = run.wait_with_output().ok()?;
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    Some(if output.status.success() {
        Ok(())
    } else {
        Err(printed)
    })
}

#[test]
fn the_layouts_are_those_of_the_kernels_header() {
    let Ok(header) = std::fs::read_to_string(Path::new(HEADER)) else {
        eprintln!("no {HEADER} (linux-libc-dev): nothing to compare with");
        return;
    };
    // Headers before Linux 6.6 do not have it.
    let text = assertions(header.contains("struct vfio_device_bind_iommufd"));
    let Some(printed) = compile(&text) else {
        eprintln!("no C compiler: nothing to compare with");
        return;
    };
    assert_eq!(printed, Ok(()));
    let wrong = text.replace("_IO(';', 107)", "_IO(';', 99)");
    let printed = compile(&wrong)
        .expect("a compiler")
        .expect_err("another number");
    assert!(printed.contains("VFIO_DEVICE_GET_INFO"), "{printed}");
}
