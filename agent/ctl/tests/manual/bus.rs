//! org.variantd1(5) against the contract of the bus, from which it is written.

use std::fs;

use roxmltree::{Document, Node};

use super::{filled, page, root};

/// The interfaces in the order of the page, each with its object and what it is for.
const INTERFACES: [(&str, &str); 3] = [
    (
        "org.variantd1.Manager",
        "At `/org/variantd1`, which also has `org.freedesktop.DBus.ObjectManager`. polkit decides who may plan or change something.",
    ),
    (
        "org.variantd1.Device",
        "At `/org/variantd1/device/...`, one object for each device that a recipe covers, or that is bound or reserved. A property that changes is signalled.",
    ),
    (
        "org.variantd1.Job",
        "At `/org/variantd1_job/...`, one object for each call of `StartJob`, until a minute after its end; only for its owner and root. `PropertiesChanged` names the properties that changed, without values, and `Completed` goes to the connection that started the job.",
    ),
];

const HEAD: &str = "% ORG.VARIANTD1 5 \"\" variantd \"D-Bus interfaces\"

# NAME

org.variantd1 - the agent on the system bus

# DESCRIPTION

Any program may make the calls that variantctl(1) makes to variantd(8). The name has the version of the interface: under this name no
method, property or signal changes its meaning. An option that a method does not know is an error. The XML form of this page is
`/usr/share/dbus-1/interfaces/org.variantd1.xml`.
";

const TAIL: &str = "
# ACCESS

The list of devices and domains and their states, in properties and signals, are public: every user may read them, as every
user may read sysfs and, by default, libvirt's list of domains. polkit decides who may plan (`org.variantd1.plan`, by default every user)
and who may change something. A job is visible to the user who started it, and to root.

The bus sends signals to every user without asking polkit. Only the bus policy can hide these facts, and only all of them together. This policy in
`/etc/dbus-1/system.d/variantd-private.conf` still shows them to a group of users:

    <busconfig>
      <policy context=\"default\">
        <deny send_destination=\"org.variantd1\"/>
        <deny receive_sender=\"org.variantd1\" receive_type=\"signal\"/>
      </policy>
      <policy user=\"root\">
        <allow receive_sender=\"org.variantd1\" receive_type=\"signal\"/>
      </policy>
      <policy group=\"gpu\">
        <allow send_destination=\"org.variantd1\"/>
        <allow receive_sender=\"org.variantd1\" receive_type=\"signal\"/>
      </policy>
    </busconfig>

# LIMITS

The limits hold for users other than root, whatever the number of their connections:

`one user`
:   32 pending calls with 12 MiB, 8 pending jobs, 16 jobs within a minute, and 8 MiB of answers that it has not read.

`all users together`
:   128 pending calls with 32 MiB, 32 jobs, and 24 MiB of unread answers.

`one call`
:   64 KiB, `PrepareXml` and `PrepareDevice` 1 MiB more, `Prepare` and `StartJob` 8 MiB more.

An answer counts as read once the caller answers `Ping` of `org.freedesktop.DBus.Peer`, which the agent sends after 64 KiB of answers and
which GDBus and sd-bus answer by themselves, or once its connection is closed. A program whose library does not answer must close its
connection after 8 MiB of answers. No method takes or returns a file descriptor: dbus-daemon allows the agent 64 pending ones, for
all callers together.

# ERRORS

An error has one sentence for people. Its name ends with the code of the sentence, where it has one, with `_` for `-`:
`org.variantd1.Error.Refused.VD_TOP_002`. A program can get the parts of the sentence through the option `refusal` (b) of each method that asks polkit,
except `StartJob`: an error with a code is then an answer. The answer replaces the method's JSON (`findings` of `PrepareXml` and `PrepareDevice`) by
an object with the field `refusal`, which has `error` (the name below, without prefix and code), `code`, `device`, `path`, `reason`, `hint` and
`command`, each `null` where it does not exist. A job's error is in its properties.

`org.variantd1.Error.Refused`
:   The agent refuses: reason, code in parentheses, fix.

`org.variantd1.Error.Failed`
:   The host, libvirt or the agent failed.

`org.variantd1.Error.NotFound`
:   The domain or device was not found.

`org.variantd1.Error.NotAuthorized`
:   The caller has no permission; the sentence names the action of polkit.

`org.variantd1.Error.TimedOut`
:   The operation has not ended within the caller's timeout, and continues.

# EXAMPLES

List the devices, bind one as a job, and follow the signals:

    busctl call org.variantd1 /org/variantd1 org.variantd1.Manager ListDevices 'a{sv}' 0
    busctl call org.variantd1 /org/variantd1 org.variantd1.Manager StartJob 'ssa{sv}' bind 0009:01:00.0 0
    busctl monitor org.variantd1

# SEE ALSO

variantctl(1), variantd(8), variantd.codes(7), busctl(1)
";

#[test]
fn page_of_the_bus_equals_the_contract() {
    let path = root().join("packaging/dbus/org.variantd1.xml");
    let text = fs::read_to_string(path).expect("the contract");
    let options = roxmltree::ParsingOptions {
        allow_dtd: true,
        ..Default::default()
    };
    let contract = Document::parse_with_options(&text, options).expect("XML");
    let found = elements(contract.root_element(), "interface");
    assert_eq!(found.len(), INTERFACES.len());
    let sections: String = INTERFACES
        .iter()
        .map(|(name, what)| section(&found, name, what))
        .collect();
    let wanted = format!("{HEAD}{sections}{TAIL}");
    let path = page("org.variantd1.5.md");
    if std::env::var_os("VARIANTD_WRITE_MANUAL").is_some() {
        fs::write(&path, &wanted).expect("written");
    }
    let shipped = fs::read_to_string(path).expect("the page");
    assert!(
        shipped == wanted,
        "org.variantd1.5.md is old: run 'cargo xtask regen manual'"
    );
}

fn elements<'a>(parent: Node<'a, 'a>, name: &str) -> Vec<Node<'a, 'a>> {
    let children = parent.children();
    children.filter(|child| child.has_tag_name(name)).collect()
}

fn section(interfaces: &[Node<'_, '_>], name: &str, what: &str) -> String {
    let named = |node: &&Node<'_, '_>| node.attribute("name") == Some(name);
    let interface = interfaces.iter().find(named).expect(name);
    let parts = interface.children().filter(Node::is_element);
    let parts: String = parts.map(part).collect();
    format!("\n# {name}\n\n{what}\n{parts}")
}

/// A method, signal or property with what the comment before it says.
fn part(node: Node<'_, '_>) -> String {
    let before = node
        .prev_siblings()
        .skip(1)
        .find(|one| one.is_element() || one.is_comment());
    let comment = before.and_then(|one| one.text()).expect("a comment");
    let words: Vec<&str> = comment.split_whitespace().collect();
    let name = node.attribute("name").expect("name");
    let head = match node.tag_name().name() {
        "property" => format!("`{name}` ({})", node.attribute("type").expect("type")),
        "signal" => format!("`{name}` ({}) (signal)", arguments(node, None)),
        _ => match arguments(node, Some("out")).as_str() {
            "" => format!("`{name}` ({})", arguments(node, Some("in"))),
            out => format!("`{name}` ({}) → {out}", arguments(node, Some("in"))),
        },
    };
    format!("\n{head}\n{}", filled(&words.join(" ")))
}

/// Arguments of a direction, each as `name type`.
fn arguments(node: Node<'_, '_>, direction: Option<&str>) -> String {
    let all = elements(node, "arg").into_iter();
    let all = all.filter(|arg| arg.attribute("direction") == direction);
    let shown = all.map(|arg| match (arg.attribute("name"), arg.attribute("type")) {
        (Some(name), Some(kind)) => format!("{name} {kind}"),
        (_, kind) => kind.unwrap_or_default().to_owned(),
    });
    shown.collect::<Vec<_>>().join(", ")
}
