//! packaging/kubevirt against the programs: each file and option that it names exists, and its files agree.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use kernel_glue::id::PciId;
use kubevirt::node_hook;
use planner::target::Target;
use serde::Deserialize;
use serde_json::Value;
use settings::config::{self, Config};
use settings::snapshot;

const RUN: &str = "/run/variantd";

/// One of `hooks.kubevirt.io/hookSidecars`: the fields of KubeVirt's pkg/hooks/hooks.go.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[allow(dead_code)]
struct Sidecar {
    image: String,
    image_pull_policy: Option<String>,
    #[serde(default)]
    command: Vec<String>,
    #[serde(default)]
    args: Vec<String>,
    config_map: Option<BTreeMap<String, String>>,
    pvc: Option<Claim>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Claim {
    name: String,
    volume_path: String,
    shared_compute_path: String,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/kubevirt")
}

fn text(name: &str) -> String {
    fs::read_to_string(folder().join(name)).expect(name)
}

/// The objects of a file, by their kinds.
fn objects(name: &str) -> BTreeMap<String, Value> {
    let objects: Vec<Value> = serde_saphyr::from_multiple(&text(name)).expect(name);
    let kind = |object: Value| (word(&object["kind"]), object);
    objects.into_iter().map(kind).collect()
}

fn word(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

fn rows(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().expect("a list").iter()
}

/// The pod of the DaemonSet, and the agent's container.
fn pod() -> (Value, Value) {
    let pod = objects("daemonset.yaml")["DaemonSet"]["spec"]["template"]["spec"].clone();
    let names: Vec<String> = rows(&pod["containers"])
        .map(|one| word(&one["name"]))
        .collect();
    assert_eq!(names, ["agent", "node-hook"]);
    let container = pod["containers"][0].clone();
    (pod, container)
}

/// The default of a hook's option `--socket`.
fn socket_of(hook: &str) -> String {
    let mut program = Command::new(env!("CARGO_BIN_EXE_variantd-kubevirt"));
    let help = program.args([hook, "--help"]).output().expect("it runs");
    let help = String::from_utf8(help.stdout).expect("text");
    let (_, rest) = help.split_once("[default: /var/run").expect(hook);
    let (path, _) = rest.split_once(']').expect(hook);
    format!("/var/run{path}")
}

fn sidecar() -> Sidecar {
    let vmi = &objects("vmi.yaml")["VirtualMachineInstance"];
    let annotation = word(&vmi["metadata"]["annotations"]["hooks.kubevirt.io/hookSidecars"]);
    let mut sidecars: Vec<Sidecar> = serde_json::from_str(&annotation).expect("sidecars");
    assert_eq!(sidecars.len(), 1);
    sidecars.remove(0)
}

/// The paths of the image's files.
fn image() -> BTreeSet<String> {
    let file = text("Containerfile");
    let (_, last) = file.rsplit_once("\nFROM ").expect("two stages");
    let copies = last.lines().filter_map(|line| line.strip_prefix("COPY "));
    copies
        .flat_map(|line| {
            let words: Vec<&str> = line
                .split(' ')
                .filter(|word| !word.starts_with("--"))
                .collect();
            let (to, from) = words.split_last().expect("a destination");
            let at = |from: &&str| match to.strip_suffix('/') {
                Some(folder) => format!("{folder}/{}", from.rsplit('/').next().expect("a name")),
                None => (*to).to_owned(),
            };
            from.iter().map(at).collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn agent_and_sidecar_are_of_the_image_that_the_recipe_builds() {
    let (_, container) = pod();
    let tag = format!("-t {} .", word(&container["image"]));
    assert!(text("Containerfile").contains(&tag), "{tag}");
    assert_eq!(sidecar().image, word(&container["image"]));
    let has = image();
    let entry = text("Containerfile");
    let entry = entry
        .lines()
        .find_map(|line| line.strip_prefix("ENTRYPOINT "));
    let entry: Vec<String> = serde_json::from_str(entry.expect("an entry")).expect("its form");
    assert!(has.contains(&entry[0]), "{has:?}");
    assert!(has.contains(&word(&container["command"][0])), "{has:?}");
    let mode = fs::metadata(folder().join("agent"))
        .expect("the agent's script")
        .permissions();
    assert_eq!(mode.mode() & 0o555, 0o555);
}

#[test]
fn each_mount_has_its_volume() {
    let (pod, _) = pod();
    let names = |list: &Value| rows(list).map(|one| word(&one["name"])).collect::<Vec<_>>();
    let mounts = rows(&pod["containers"]).flat_map(|one| names(&one["volumeMounts"]));
    let volumes: BTreeSet<String> = names(&pod["volumes"]).into_iter().collect();
    assert_eq!(mounts.collect::<BTreeSet<_>>(), volumes);
}

#[test]
fn the_plugin_names_the_sockets_at_which_its_hooks_serve() {
    let objects = objects("plugin.yaml");
    let plugin = &objects["Plugin"];
    let folder = format!(
        "/var/run/kubevirt-plugin/{}/",
        word(&plugin["metadata"]["name"])
    );
    let domain_hook = &plugin["spec"]["domainHooks"][0]["sidecar"]["socketPath"];
    let node_hook = &plugin["spec"]["nodeHooks"][0];
    for (path, hook) in [
        (domain_hook, "domain-hook"),
        (&node_hook["socket"], "node-hook"),
    ] {
        assert_eq!(word(path), socket_of(hook));
        assert!(
            word(path).starts_with(&folder),
            "KubeVirt refuses another folder"
        );
    }
    let timeout = word(&node_hook["timeout"]);
    let timeout: u64 = timeout.trim_end_matches('s').parse().expect("seconds");
    assert!(
        timeout > node_hook::LIMIT.as_secs(),
        "the agent's answer comes first"
    );
    let policy = &objects["MutatingAdmissionPolicy"]["spec"];
    let mutation = word(&policy["mutations"][0]["jsonPatch"]["expression"]);
    assert!(
        mutation.contains(&format!("mountPath: \"{folder}\"")),
        "{mutation}"
    );
    assert!(mutation.contains("\"domain-hook\"]") && mutation.contains("runAsUser: 107"));
    let vmi = &self::objects("vmi.yaml")["VirtualMachineInstance"];
    let resource = word(&vmi["spec"]["domain"]["devices"]["gpus"][0]["deviceName"]);
    let conditions = policy["matchConditions"].to_string();
    assert!(conditions.contains(&resource), "{conditions}");
    let binding = &objects["MutatingAdmissionPolicyBinding"]["spec"]["policyName"];
    assert_eq!(
        *binding,
        objects["MutatingAdmissionPolicy"]["metadata"]["name"]
    );
}

#[test]
fn the_node_hook_is_where_the_plugin_looks_and_sees_the_agents_bus() {
    let (pod, agent) = pod();
    let hook = &pod["containers"][1];
    assert_eq!(hook["image"], agent["image"]);
    let command: Vec<String> = rows(&hook["command"]).map(word).collect();
    assert!(image().contains(&command[0]), "{command:?}");
    assert_eq!(command[1], "node-hook");
    assert_eq!(pod["hostPID"], true);
    let at = |container: &Value, name: &str| {
        let mut mounts = rows(&container["volumeMounts"]);
        let mount = mounts.find(|mount| mount["name"] == name).expect(name);
        word(&mount["mountPath"])
    };
    assert_eq!(at(hook, "bus"), at(&agent, "bus"));
    let socket = PathBuf::from(socket_of("node-hook"));
    assert_eq!(socket.parent(), Some(Path::new(&at(hook, "plugin"))));
}

#[test]
fn the_snapshot_is_where_the_agent_keeps_it_and_the_sidecar_looks() {
    let (pod, container) = pod();
    let named = |list: &Value, name: &str| {
        let found = rows(list).find(|one| one["name"] == name);
        found.expect(name).clone()
    };
    assert_eq!(named(&container["volumeMounts"], "run")["mountPath"], RUN);
    assert_eq!(named(&pod["volumes"], "run")["hostPath"]["path"], RUN);
    let objects = objects("vmi.yaml");
    let (volume, claim) = (
        &objects["PersistentVolume"],
        &objects["PersistentVolumeClaim"],
    );
    assert_eq!(volume["spec"]["hostPath"]["path"], RUN);
    assert_eq!(claim["spec"]["volumeName"], volume["metadata"]["name"]);
    for key in ["name", "namespace"] {
        assert_eq!(volume["spec"]["claimRef"][key], claim["metadata"][key]);
    }
    assert_eq!(
        objects["VirtualMachineInstance"]["metadata"]["namespace"],
        claim["metadata"]["namespace"]
    );
    let pvc = sidecar().pvc.expect("a claim");
    assert_eq!(pvc.name, word(&claim["metadata"]["name"]));
    assert_eq!((&*pvc.volume_path, &*pvc.shared_compute_path), (RUN, RUN));
    let page = include_str!("../../../packaging/man/variantd-kubevirt.8.md");
    assert!(page.contains(&format!("default `{RUN}/{}`", snapshot::FILE)));
}

#[test]
fn the_configuration_is_the_agents_and_lets_the_sidecar_read() {
    let objects = objects("daemonset.yaml");
    let data = objects["ConfigMap"]["data"].as_object().expect("data");
    let (_, container) = pod();
    let mut mounts = rows(&container["volumeMounts"]);
    let mount = mounts
        .find(|mount| mount["name"] == "config")
        .expect("config");
    assert_eq!(mount["mountPath"], config::PATH);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("variantd.conf");
    fs::write(&path, word(&data[&word(&mount["subPath"])])).expect("written");
    let config = Config::read(&path).expect("no key that the agent does not know");
    assert_eq!(config.snapshot_mode.bits() & 0o004, 0o004);
}

#[test]
fn the_sidecars_arguments_are_its_programs() {
    let arguments = sidecar().args;
    assert_eq!(arguments[0], "--target");
    arguments[1].parse::<Target>().expect("versions");
    assert_eq!(arguments.len(), 2);
}

#[test]
fn the_guest_asks_for_what_the_readme_permits_and_a_recipe_covers() {
    let readme = text("README.md");
    let block: Vec<&str> = readme
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .collect();
    let block = &block[block
        .iter()
        .position(|line| *line == "spec:")
        .expect("a configuration")..];
    let cluster: Value = serde_saphyr::from_str(&block.join("\n")).expect("YAML");
    let permitted = &cluster["spec"]["configuration"]["permittedHostDevices"]["pciHostDevices"][0];
    assert_eq!(permitted["externalResourceProvider"], true);
    let vmi = &objects("vmi.yaml")["VirtualMachineInstance"];
    let gpu = &vmi["spec"]["domain"]["devices"]["gpus"][0];
    assert_eq!(permitted["resourceName"], gpu["deviceName"]);
    let recipes = planner::recipe::Recipes::shipped().expect("recipes");
    let id = word(&permitted["pciVendorSelector"]).to_lowercase();
    let id: PciId = id.parse().expect("an id");
    assert!(recipes.iter().any(|recipe| recipe.names(id)), "{id}");
}
