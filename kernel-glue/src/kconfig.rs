//! The options that the running kernel was built with.
//!
//! Distributions install them as `/boot/config-RELEASE`. Where that file is missing, the kernel itself shows them as
//! `/proc/config.gz`, if it has CONFIG_IKCONFIG_PROC (kernel/configs.c).

use std::io::{self, Read, Write};
use std::path::Path;

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

use crate::failure::Failure;
use crate::sysfs::{Root, Tree};

/// The path below the root of the configuration that the kernel shows.
pub const SHOWN: &str = "proc/config.gz";
/// Maximum size of a configuration, compressed or not: they have about 300 KiB as text.
pub const MAX_BYTES: usize = 2 << 20;

/// Options for BARs as dma-buf (drivers/vfio/pci/Kconfig, drivers/pci/Kconfig).
pub const FOR_PEERS: [&str; 2] = ["CONFIG_VFIO_PCI_DMABUF", "CONFIG_PCI_P2PDMA"];

/// A kernel's configuration as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kconfig {
    /// The path below the root of the file that was read.
    pub path: String,
    text: String,
}

impl Kconfig {
    /// Reads the configuration that distributions install for `release`, or the one that the kernel shows if there is no such
    /// file or the release is unknown.
    ///
    /// # Errors
    /// The file cannot be read, is larger than 2 MiB, is not gzip, or is not UTF-8. If neither file exists, the failure names the first.
    pub fn read(root: &Root, release: Option<&str>) -> Result<Self, Failure> {
        let (path, text) = first(release, |path| text(root, path));
        text.map(|text| Self { path, text })
    }

    /// Whether the option is `=y`; `None` if no line names it.
    #[must_use]
    pub fn has(&self, option: &str) -> Option<bool> {
        let set = format!("{option}=");
        let unset = format!("# {option} is not set");
        self.text.lines().find_map(|line| match line {
            line if line == unset => Some(false),
            // `=m` counts as no: these options are boolean, and a module would have to be loaded first.
            line => line.strip_prefix(&set).map(|value| value == "y"),
        })
    }
}

/// Reads with `read` the first of the two files that exists, and returns its path, too; that of the first if neither exists.
pub(crate) fn first<T>(
    release: Option<&str>,
    read: impl Fn(&str) -> Result<T, Failure>,
) -> (String, Result<T, Failure>) {
    let is_absent = |read: &Result<T, Failure>| read.as_ref().is_err_and(Failure::is_absent);
    let installed = release.map(|release| {
        let path = format!("boot/config-{release}");
        let found = read(&path);
        (path, found)
    });
    match installed {
        Some((path, found)) if !is_absent(&found) => (path, found),
        other => {
            let shown = (SHOWN.to_owned(), read(SHOWN));
            // If neither exists, the message names the file that an administrator can install.
            other.filter(|_| is_absent(&shown.1)).unwrap_or(shown)
        }
    }
}

/// The text of one of the two files.
pub(crate) fn text(tree: &dyn Tree, path: &str) -> Result<String, Failure> {
    let bytes = tree.bytes(path, MAX_BYTES)?;
    let failure = |source| Failure::io("read", Path::new(path), source);
    let bytes = match path {
        SHOWN => unpacked(&bytes).map_err(failure)?,
        _ => bytes,
    };
    String::from_utf8(bytes)
        .map_err(|_| failure(io::Error::new(io::ErrorKind::InvalidData, "not UTF-8 text")))
}

/// Unpacks gzip of at most [`MAX_BYTES`] of text.
pub(crate) fn unpacked(packed: &[u8]) -> io::Result<Vec<u8>> {
    let limit = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX);
    let mut content = Vec::new();
    // One byte more than the limit tells a text that is too large from one that just fits.
    let mut decoder = GzDecoder::new(packed).take(limit + 1);
    decoder.read_to_end(&mut content)?;
    if content.len() > MAX_BYTES {
        let why = format!("larger than {MAX_BYTES} bytes when unpacked");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    Ok(content)
}

/// Packs a text as the kernel does.
pub(crate) fn packed(content: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(content)?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;

    const TEXT: &str =
        "# Linux/arm64 7.0.0\nCONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=m\nCONFIG_AB=y\n";

    fn root(files: &[(&str, Vec<u8>)]) -> (tempfile::TempDir, Root) {
        let directory = tempfile::tempdir().expect("scratch directory");
        for (path, content) in files {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().expect("parent")).expect("directory");
            fs::write(path, content).expect("file");
        }
        let root = Root::new(directory.path().to_owned()).expect("root");
        (directory, root)
    }

    fn shown(content: Vec<u8>) -> Result<Kconfig, Failure> {
        let (_directory, root) = root(&[(SHOWN, content)]);
        Kconfig::read(&root, Some("7.0.0"))
    }

    #[test]
    fn the_installed_file_counts_before_the_one_that_the_kernel_shows() {
        let other = packed(b"CONFIG_A=m\n").expect("packed");
        let (directory, root) = root(&[("boot/config-7.0.0", TEXT.into()), (SHOWN, other)]);
        let read = |release| Kconfig::read(&root, release).expect("a configuration");
        let installed = read(Some("7.0.0"));
        assert_eq!(
            (installed.path.as_str(), installed.has("CONFIG_A")),
            ("boot/config-7.0.0", Some(true))
        );
        for release in [Some("6.8.0"), None] {
            let shown = read(release);
            assert_eq!(
                (shown.path.as_str(), shown.has("CONFIG_A")),
                (SHOWN, Some(false))
            );
        }
        fs::remove_file(directory.path().join(SHOWN)).expect("removed");
        let failure = Kconfig::read(&root, Some("6.8.0")).expect_err("absent");
        assert!(failure.is_absent() && failure.to_string().contains("boot/config-6.8.0"));
    }

    #[test]
    fn an_option_is_set_unset_or_not_named() {
        let config = shown(packed(TEXT.as_bytes()).expect("packed")).expect("a configuration");
        for (option, wanted) in [
            ("CONFIG_A", Some(true)),
            ("CONFIG_B", Some(false)),
            ("CONFIG_C", Some(false)),
            ("CONFIG_D", None),
        ] {
            assert_eq!(config.has(option), wanted, "{option}");
        }
    }

    #[test]
    fn a_damaged_or_too_large_file_is_a_failure_with_its_reason() {
        let bomb = packed(&vec![b'#'; 64 << 20]).expect("packed");
        assert!(
            bomb.len() < MAX_BYTES,
            "the compressed size is not what is refused"
        );
        let mut cut = packed(TEXT.as_bytes()).expect("packed");
        cut.truncate(20);
        for (content, words) in [
            (bomb, "larger than 2097152 bytes when unpacked"),
            (b"CONFIG_A=y\n".to_vec(), "invalid gzip header"),
            (cut, ""),
            (packed(b"\xff\xfe").expect("packed"), "not UTF-8 text"),
        ] {
            let failure = shown(content).expect_err(words);
            assert!(!failure.is_absent(), "{failure}");
            assert!(
                failure.reason().contains(words),
                "{words}: {}",
                failure.reason()
            );
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), is_gzip: bool) {
            let start: &[u8] = if is_gzip { &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 3] } else { &[] };
            let _ = unpacked(&[start, &bytes].concat());
        }
    }
}
