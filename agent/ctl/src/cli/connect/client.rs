//! What each client of libvirt needs to use the transport. packaging/man/variantd-connect.8.md has the same table.

use serde_json::{Value, json};

use super::super::output;
use super::{URI, block};

/// The socket of variantd-connect.socket, for clients that cannot run a program.
const SOCKET: &str = "/run/variantd/libvirt-sock";
/// What it needs.
const ENABLE: &str = "'systemctl enable --now variantd-connect.socket'";

/// A client, and its setting.
struct Client {
    name: &'static str,
    setting: String,
}

/// Those whose setting is known from their source or documentation.
fn all() -> Vec<Client> {
    let alias = block::ALIAS;
    let client = |name, setting| Client { name, setting };
    vec![
        client("virsh", format!("virsh -c {alias} define guest.xml")),
        client(
            "virt-install, virt-xml",
            format!("virt-install --connect {alias} ..."),
        ),
        client(
            "virt-manager",
            format!("virt-manager --connect '{URI}'"),
        ),
        client(
            "Python, Perl, Go with libvirt's library",
            "open the URI, or no URI for the default".to_owned(),
        ),
        client(
            "Ansible, community.libvirt.virt",
            format!("uri: {URI}"),
        ),
        client(
            "OpenStack Nova, nova.conf",
            format!("[libvirt] connection_uri = {URI}"),
        ),
        client(
            "Terraform, go-libvirt",
            format!("uri = \"qemu:///system?socket={SOCKET}\", after {ENABLE}"),
        ),
        client(
            "qemu+ssh",
            format!("qemu+ssh://root@HOST/system?proxy=netcat&socket={SOCKET}, after {ENABLE}"),
        ),
        client(
            "Cockpit",
            "none: it always opens qemu:///system, and the agent completes its guests after the define".to_owned(),
        ),
    ]
}

/// The text of `--how`.
pub(super) fn text(state: &str) -> String {
    let lines = block::statements(true);
    let lines: String = lines.lines().map(|line| format!("    {line}\n")).collect();
    let rows = all().into_iter();
    let rows: Vec<_> = rows
        .map(|client| vec![client.name.to_owned(), client.setting])
        .collect();
    format!(
        "{state}\n\n{lines}\nThe same lines are for another user in ~/.config/libvirt/libvirt.conf; \
         LIBVIRT_DEFAULT_URI overrides both.\nA client that names no URI then uses the transport; others need:\n\n{}",
        output::columns(&rows)
    )
}

/// The table as JSON.
pub(super) fn to_json() -> Value {
    let rows = all().into_iter();
    rows.map(|client| json!({"client": client.name, "setting": client.setting}))
        .collect()
}
