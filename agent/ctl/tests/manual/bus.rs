//! org.variantd1(5) against the contract of the bus, from which it is written.

use std::fs;

use roxmltree::{Document, Node};

use super::{filled, page, root};

/// The interfaces in the order of the page, each with its object and what it is for.
const INTERFACES: [(&str, &str); 3] = [
    (
        "org.variantd1.Manager",
        "At `/org/variantd1`, which also has `org.freedesktop.DBus.ObjectManager`. Who may plan or change something is decided by polkit.",
    ),
    (
        "org.variantd1.Device",
        "At `/org/variantd1/device/...`, one object for each device that a recipe covers, or that is bound or reserved. A property that changes is signalled.",
    ),
    (
        "org.variantd1.Job",
        "At `/org/variantd1_job/...`, one object for each call of `StartJob`, until a minute after its end; for its owner and root alone. `PropertiesChanged` names the properties that changed, without values, and `Completed` goes to the connection that started the job.",
    ),
];

const HEAD: &str = "% ORG.VARIANTD1 5 \"\" variantd \"D-Bus interfaces\"

# NAME

org.variantd1 - the agent on the system bus

# DESCRIPTION

What variantctl(1) asks of variantd(8), any program may ask. The name has the version of the interface: what is written here does
not change its meaning under it. An option that a method does not know is an error. The same as XML is in
`/usr/share/dbus-1/interfaces/org.variantd1.xml`.
";

const TAIL: &str = "
# ACCESS

Which devices and domains there are, and the states that their properties and signals tell, is public: every user may read it, as every
user may read sysfs and, by default, libvirt's list of domains. polkit decides who may plan (`org.variantd1.plan`, open to everybody by
default) and who may change something. A job is visible to the user who started it, and to root.

Signals reach every user without a question to polkit, so only the bus can hide these facts, and it hides all of them at once. As
`/etc/dbus-1/system.d/variantd-private.conf`, for a group of users who still may look:

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

Of one user but root, whatever the number of its connections: 32 calls with 12 MiB under way, 8 jobs under way, 16 jobs within a minute,
and 8 MiB of answers that it has not read. Of all such users together: 128 calls with 32 MiB, 32 jobs, and 24 MiB of unread answers, which
they share. A call has at most 64 KiB, `PrepareXml` 1 MiB more, `Prepare` and `StartJob` 8 MiB more.

An answer counts as read once the caller answers `Ping` of `org.freedesktop.DBus.Peer`, which the agent sends after 64 KiB of answers and
which GDBus and sd-bus answer by themselves, or once its connection is closed. A program whose library does not answer closes its
connection after 8 MiB of answers. No method takes or returns a file descriptor: dbus-daemon lets the agent have 64 of them under way, for
all callers together.

# ERRORS

An error has one sentence for people. Its name ends with the code of the sentence, where it has one, with `_` for `-`:
`org.variantd1.Error.Refused.VD_TOP_002`. A program that wants the other parts gives a method that polkit is asked about, other than
`StartJob`, the option `refusal` (b): an error with a code is then an answer. It is JSON with the field `refusal`, which has `error` (the
name below, without prefix and code), `code`, `device`, `path`, `reason`, `hint` and `command`, each `null` where there is none; in the
place of what the method says as JSON (`findings` of `PrepareXml`). A job's error is in its properties.

`org.variantd1.Error.Refused`
:   It will not be done: reason, code in parentheses, way out.

`org.variantd1.Error.Failed`
:   It could not be done, by the host, libvirt or the agent.

`org.variantd1.Error.NotFound`
:   There is no such domain or device.

`org.variantd1.Error.NotAuthorized`
:   The caller may not; the sentence names the action of polkit.

`org.variantd1.Error.TimedOut`
:   It is not done within the time that the caller gave, and goes on.

# EXAMPLES

    busctl call org.variantd1 /org/variantd1 org.variantd1.Manager ListDevices 'a{sv}' 0
    busctl call org.variantd1 /org/variantd1 org.variantd1.Manager StartJob 'ssa{sv}' bind 0009:01:00.0 0

# SEE ALSO

variantctl(1), variantd(8), variantd.codes(7), busctl(1)
";

#[test]
fn the_page_of_the_bus_is_what_the_contract_says() {
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
