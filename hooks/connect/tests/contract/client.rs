//! Real clients of libvirt print the same over the transport, over the shared socket, and without them: libvirt's Python binding,
//! `virt-install` and `virt-xml`; go-libvirt only over the shared socket, because it runs no program. A client that is not installed
//! is skipped, with its package's name.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::libvirt::{COMPLETED, GPU, Scene, guest};
use super::shared::Listener;

/// Expressions with libvirt's Python binding, each with its value or its error. Times of the test driver's processors are left out.
const PYTHON: &str = r#"
import libvirt, sys
libvirt.registerErrorHandler(lambda context, error: None, None)
c = libvirt.open(sys.argv[1])
xml = open(sys.argv[2]).read()
d = c.defineXML(xml)

def shown(value):
    if isinstance(value, list):
        return sorted(map(shown, value))
    if isinstance(value, libvirt.virDomainSnapshot):
        return value.getName()
    return value.name() if hasattr(value, 'name') else str(value)

count = 0
for call in """
    c.getType() c.getVersion() c.getLibVersion() c.getHostname() c.getInfo() c.getCapabilities() c.listDefinedDomains()
    c.listNetworks() c.listStoragePools() c.numOfDevices(None) c.isAlive() c.isEncrypted() c.getFreeMemory() c.listAllInterfaces()
    c.numOfSecrets() c.numOfNWFilters() c.getSysinfo() c.getCPUModelNames('x86_64') c.getMaxVcpus('test') c.getCellsFreeMemory(0,2)
    c.getDomainCapabilities() c.networkLookupByName('default').XMLDesc() c.storagePoolLookupByName('default-pool').XMLDesc()
    c.lookupByName('missing') c.defineXML('<domain/>') c.createXML('text',0) c.defineXML(xml) c.listAllDomains()
    d.name() d.UUIDString() d.XMLDesc() d.state() d.isPersistent() d.autostart() d.setAutostart(1) d.autostart() d.maxMemory()
    d.snapshotNum() d.hasManagedSaveImage() d.schedulerType() d.metadata(0,None) d.suspend() d.create() d.create() d.isActive()
    d.suspend() d.state() d.resume() d.setMemory(512) d.attachDevice('<disk/>') d.reboot() d.shutdown() d.destroy()
    d.snapshotCreateXML('<domainsnapshot><name>s</name></domainsnapshot>') d.listAllSnapshots() d.snapshotLookupByName('s').delete()
    d.blockInfo('vda') d.memoryStats() d.jobInfo() d.undefine() d.undefine()
""".split():
    count += 1
    try:
        print(call, shown(eval(call)))
    except libvirt.libvirtError as error:
        print(call, 'error', error.get_error_code(), error.get_error_domain(), error)
print(count, 'calls')
"#;

pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The output of a client with the transport, over the shared socket and directly.
fn three_ways(scene: &Scene, base: &str, run: impl Fn(&str) -> Output) -> [String; 3] {
    three_outputs(scene, base, |uri| {
        let output = run(uri);
        let printed = text(&output.stdout) + &text(&output.stderr);
        assert!(output.status.success(), "{uri}: {printed}");
        printed
    })
}

/// What a client gives with the transport, over the shared socket and directly.
pub(super) fn three_outputs<T>(scene: &Scene, base: &str, run: impl Fn(&str) -> T) -> [T; 3] {
    let listener = Listener::start(scene);
    let uris = [
        scene.uri(base, true),
        listener.uri(base),
        scene.uri(base, false),
    ];
    uris.map(|uri| run(&uri))
}

/// True if the program answers; else the test says what it lacks.
fn is_installed(program: &str, arguments: &[&str], package: &str) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    let found = command.output().is_ok_and(|output| output.status.success());
    if !found {
        eprintln!("skipped: no package '{package}'");
    }
    found
}

#[test]
fn python_binding_has_the_same_results() {
    if !is_installed(
        "/usr/bin/python3",
        &["-c", "import libvirt"],
        "python3-libvirt",
    ) {
        return;
    }
    let scene = Scene::start();
    let _served = scene.serve();
    let uuid = "<uuid>11111111-2222-3333-4444-555555555555</uuid>";
    let path = scene.file("g.xml", &guest("python", uuid));
    let run = |uri: &str| {
        let mut python = Command::new("/usr/bin/python3");
        python.args(["-c", PYTHON, uri, &path]).stdin(Stdio::null());
        python.output().expect("python3 runs")
    };
    let [transport, shared, direct] = three_ways(&scene, "test:///default", run);
    assert_eq!(transport, direct);
    assert_eq!(shared, direct);
    let count = direct.lines().last().expect("the count");
    assert_eq!(count, "61 calls");
    println!("libvirt-python: {count} with the same results");
    // A relevant guest differs only in what the agent added.
    let path = scene.file("r.xml", &guest("relevant", GPU));
    let script = "import libvirt, sys; c = libvirt.open(sys.argv[1]); print(c.defineXML(open(sys.argv[2]).read()).XMLDesc())";
    let mut python = Command::new("/usr/bin/python3");
    let uri = scene.uri("test:///default", true);
    let output = python.args(["-c", script, &uri, &path]).output();
    let output = output.expect("python3 runs");
    assert!(
        text(&output.stdout).contains(COMPLETED),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn virt_install_and_virt_xml_have_the_same_results() {
    if !is_installed("virt-install", &["--version"], "virtinst") {
        return;
    }
    let scene = Scene::start();
    let _served = scene.serve();
    let run = |program: &str, arguments: &[&str]| {
        let mut client = Command::new(program);
        client
            .args(arguments)
            .env("LC_ALL", "C")
            .env("HOME", scene.bus.path(""))
            .env("XDG_CACHE_HOME", scene.bus.path("cache"));
        client.stdin(Stdio::null()).output().expect("it runs")
    };
    let uuid = "11111111-2222-3333-4444-555555555555";
    let install = |uri: &str| {
        run(
            "virt-install",
            &[
                "--connect",
                uri,
                "--name",
                "installed",
                "--uuid",
                uuid,
                "--memory",
                "64",
                "--disk",
                "none",
                "--import",
                "--network",
                "none",
                "--osinfo",
                "detect=off,require=off",
                "--noautoconsole",
                "--graphics",
                "none",
                "--print-xml",
            ],
        )
    };
    let [transport, shared, direct] = three_ways(&scene, "test:///default", install);
    assert_eq!((&transport, &shared), (&direct, &direct));
    assert!(direct.contains("<name>installed</name>"), "{direct}");
    let path = scene.file("g.xml", &guest("edited", &format!("<uuid>{uuid}</uuid>")));
    let edit = |uri: &str| {
        let defined = scene.client(uri, &["define", &path]);
        assert!(defined.status.success(), "{}", text(&defined.stderr));
        let edited = run(
            "virt-xml",
            &[
                "--connect",
                uri,
                "edited",
                "--edit",
                "--metadata",
                "title=changed",
                "--define",
            ],
        );
        assert!(edited.status.success(), "{}", text(&edited.stderr));
        let printed = scene.client(uri, &["dumpxml", "edited"]);
        let removed = scene.client(uri, &["undefine", "edited"]);
        assert!(removed.status.success(), "{}", text(&removed.stderr));
        printed
    };
    let [transport, shared, direct] = three_ways(&scene, "test:///default", edit);
    assert_eq!((&transport, &shared), (&direct, &direct));
    assert!(direct.contains("<title>changed</title>"), "{direct}");
    println!("virt-install, virt-xml: the same results three times");
}

#[test]
fn go_libvirt_has_the_same_results_over_the_shared_socket() {
    let package = "golang-github-digitalocean-go-libvirt-dev";
    let library = "/usr/share/gocode/src/github.com/digitalocean/go-libvirt";
    if !is_installed("go", &["version"], "golang-go") || !is_installed("ls", &[library], package) {
        return;
    }
    let scene = Scene::start();
    let _served = scene.serve();
    let source = scene.file("client.go", include_str!("data/client.go"));
    let program = scene.bus.path("client");
    let mut go = Command::new("go");
    go.env("GO111MODULE", "off")
        .env("GOPATH", "/usr/share/gocode")
        .env("GOCACHE", scene.bus.path("cache"))
        .args(["build", "-o"])
        .arg(&program)
        .arg(&source);
    let built = go.output().expect("go runs");
    assert!(built.status.success(), "{}", text(&built.stderr));
    let listener = Listener::start(&scene);
    let uuid = "<uuid>11111111-2222-3333-4444-555555555555</uuid>";
    let path = scene.file("g.xml", &guest("go", uuid));
    let run = |socket: &Path, definition: &str| {
        let output = Command::new(&program).arg(socket).arg(definition).output();
        let output = output.expect("the client runs");
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let direct = run(&scene.socket(), &path);
    assert_eq!(run(listener.path(), &path), direct);
    let count = direct.lines().last().expect("the count");
    assert_eq!(count, "17 calls");
    println!("go-libvirt: {count} with the same results");
    let relevant = scene.file("r.xml", &guest("relevant", GPU));
    assert!(run(listener.path(), &relevant).contains(COMPLETED));
}
