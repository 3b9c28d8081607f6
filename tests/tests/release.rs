//! packaging/release: in a small repository whose `packaging/build` is a script, with a key of its own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Writes a package whose bytes are its name and the sources' time.
const BUILD: &str = r#"#!/bin/bash
set -e
for out in "$@"; do :; done
mkdir -p "$out"
case $* in
*--rpm*) name=variantd-1.2.3-1.x86_64.rpm policy=variantd-selinux-1.2.3-1.noarch.rpm ;;
*arm64*) name=variantd_1.2.3_arm64.deb ;;
*'--arch all'*) name=cockpit-variantd_1.2.3_all.deb ;;
*) name=variantd_1.2.3_amd64.deb ;;
esac
for one in ${policy-} "$name"; do
    echo "$one $SOURCE_DATE_EPOCH" >"$out/$one"
    echo "$out/$one"
done
"#;

/// As [`BUILD`], with the folder in the package.
const BUILD_WITH_FOLDER: &str = "#!/bin/bash\nfor out in \"$@\"; do :; done\nmkdir -p \"$out\"\necho \"$out\" >\"$out/variantd.deb\"\necho \"$out/variantd.deb\"\n";

struct Scene {
    dir: tempfile::TempDir,
}

impl Scene {
    /// A clean checkout of a repository with the tag `v1.2.3`, and a key.
    fn new(build: &str) -> Self {
        let scene = Self {
            dir: tempfile::tempdir().expect("scratch directory"),
        };
        let root = scene.root();
        fs::create_dir_all(root.join("packaging")).expect("folder");
        let real = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/release");
        tests::program::copy(&real, &root.join("packaging/release"));
        fs::create_dir(root.join("tests")).expect("folder");
        let setup = Path::new(env!("CARGO_MANIFEST_DIR")).join("setup.sh");
        fs::copy(setup, root.join("tests/setup.sh")).expect("a copy");
        scene.program("packaging/build", build);
        scene.program("packaging/sbom", "#!/bin/bash\necho '{}'\n");
        scene.put("packaging/NEWS.md", "# What changed\n\n## 1.2.3\n");
        scene.put(
            "Cargo.toml",
            "[workspace.package]\nversion = \"1.2.3\"\n\n[workspace]\n",
        );
        scene.put("Cargo.lock", "version = 4\n");
        let home = scene.home();
        fs::create_dir(&home).expect("folder");
        fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).expect("mode");
        scene.succeeds("git", &["init", "-q", "-b", "main"]);
        scene.succeeds("git", &["add", "."]);
        scene.succeeds("git", &["commit", "-qm", "all"]);
        scene.succeeds("git", &["tag", "v1.2.3"]);
        for name in ["maker", "other"] {
            let new = [
                "--batch",
                "--passphrase",
                "",
                "--quick-gen-key",
                name,
                "ed25519",
            ];
            scene.succeeds("gpg", &new);
            let file = scene.keyring(name);
            scene.succeeds(
                "gpg",
                &[
                    "--batch",
                    "--output",
                    file.to_str().expect("UTF-8"),
                    "--export",
                    name,
                ],
            );
        }
        scene
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("checkout")
    }

    fn home(&self) -> PathBuf {
        self.dir.path().join("keys")
    }

    fn keyring(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("{name}.gpg"))
    }

    fn out(&self) -> PathBuf {
        self.dir.path().join("out")
    }

    fn put(&self, path: &str, text: &str) {
        fs::write(self.root().join(path), text).expect("file");
    }

    fn program(&self, path: &str, text: &str) {
        tests::program::script(&self.root().join(path), text);
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.root())
            .env("GNUPGHOME", self.home())
            .env("HOME", self.dir.path())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_AUTHOR_NAME", "a")
            .env("GIT_AUTHOR_EMAIL", "a@example.org")
            .env("GIT_COMMITTER_NAME", "a")
            .env("GIT_COMMITTER_EMAIL", "a@example.org");
        command
    }

    fn succeeds(&self, program: &str, arguments: &[&str]) {
        let output = self.command(program).args(arguments).output();
        let output = output.expect("the program runs");
        assert!(
            output.status.success(),
            "{program} {arguments:?}: {output:?}"
        );
    }

    fn release(&self, arguments: &[&str]) -> Output {
        let mut command = self.command(self.root().join("packaging/release"));
        command.args(arguments).arg(self.out());
        command.output().expect("the script runs")
    }

    fn made(&self) -> Output {
        self.release(&["make", "--key", "maker"])
    }

    fn verified(&self, key: &str) -> Output {
        let keyring = self.keyring(key);
        self.release(&["verify", "--keyring", keyring.to_str().expect("UTF-8")])
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        // GnuPG's agent stays otherwise.
        let _ = self.command("gpgconf").args(["--kill", "all"]).output();
    }
}

fn refused(output: &Output, words: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for word in words {
        assert!(text.contains(word), "'{word}' is not in: {text}");
    }
}

#[test]
fn a_release_has_what_was_built_and_its_signature_verifies() {
    let scene = Scene::new(BUILD);
    let output = scene.made();
    assert!(output.status.success(), "{output:?}");
    let mut names: Vec<String> = fs::read_dir(scene.out())
        .expect("a release")
        .map(|entry| {
            entry
                .expect("entry")
                .file_name()
                .into_string()
                .expect("UTF-8")
        })
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "SHA256SUMS",
            "SHA256SUMS.asc",
            "cockpit-variantd_1.2.3_all.deb",
            "variantd-1.2.3-1.x86_64.rpm",
            "variantd-1.2.3.provenance.json",
            "variantd-1.2.3.sbom.cdx.json",
            "variantd-1.2.3.tar.gz",
            "variantd-selinux-1.2.3-1.noarch.rpm",
            "variantd_1.2.3_amd64.deb",
            "variantd_1.2.3_arm64.deb",
        ]
    );
    let text = fs::read_to_string(scene.out().join("variantd-1.2.3.provenance.json"));
    let statement: serde_json::Value =
        serde_json::from_str(&text.expect("the statement")).expect("JSON");
    assert_eq!(statement["subject"].as_array().map(Vec::len), Some(7));
    let output = scene.command("git").args(["rev-parse", "HEAD"]).output();
    let commit = String::from_utf8(output.expect("git").stdout).expect("UTF-8");
    let sources = &statement["predicate"]["buildDefinition"]["resolvedDependencies"];
    assert_eq!(sources[0]["digest"]["gitCommit"], commit.trim());
    let output = scene.verified("maker");
    assert!(output.status.success(), "{output:?}");
    refused(
        &scene.verified("other"),
        &["no valid signature", "other.gpg"],
    );
    // A second release does not go into the first.
    refused(&scene.made(), &["is not an empty folder"]);
    fs::write(scene.out().join("variantd_1.2.3_amd64.deb"), "another").expect("a file");
    refused(
        &scene.verified("maker"),
        &["not those that were signed", "amd64.deb"],
    );
    fs::write(scene.out().join("SHA256SUMS"), "").expect("a file");
    refused(&scene.verified("maker"), &["no valid signature"]);
}

#[test]
fn what_is_not_ready_is_refused_before_it_is_built() {
    let scene = Scene::new("#!/bin/bash\necho 'it was built' >&2\nexit 1\n");
    let unknown = scene.release(&["make", "--key", "stranger"]);
    refused(&unknown, &["no secret key 'stranger'"]);
    scene.put("packaging/NEWS.md", "# What changed\n");
    refused(&scene.made(), &["changes that are not committed"]);
    scene.succeeds("git", &["commit", "-qam", "no news"]);
    refused(
        &scene.made(),
        &["HEAD has no tag 'v1.2.3'", "git tag -s v1.2.3"],
    );
    scene.succeeds("git", &["tag", "-f", "v1.2.3"]);
    refused(&scene.made(), &["no section '## 1.2.3'"]);
    scene.put("packaging/NEWS.md", "## 1.2.3\n");
    scene.succeeds("git", &["commit", "-qam", "news"]);
    scene.succeeds("git", &["tag", "-f", "v1.2.3"]);
    refused(
        &scene.made(),
        &["'packaging/build --arch amd64' failed", "it was built"],
    );
    assert!(!scene.out().exists());
}

#[test]
fn two_builds_that_differ_are_no_release() {
    let scene = Scene::new(BUILD_WITH_FOLDER);
    refused(
        &scene.made(),
        &["two builds of 'variantd.deb' differ", "diffoscope"],
    );
    assert!(!scene.out().exists());
}

#[test]
fn wrong_arguments_print_the_usage() {
    let scene = Scene::new(BUILD);
    for arguments in [
        &["make"] as &[&str],
        &["verify", "--key", "maker"],
        &["sign"],
    ] {
        let output = scene.release(arguments);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(
            text.contains("usage: packaging/release make --key KEY"),
            "{text}"
        );
    }
}
