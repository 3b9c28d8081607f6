//! What the node hook uses of a VirtualMachineInstance.

use std::collections::BTreeMap;

use domain::DomainUuid;
use domain::code::Code;
use domain::refusal::Refusal;
use serde::Deserialize;

/// Maximum size of a VMI as JSON in bytes; etcd stores at most 1.5 MiB.
pub const MAX_BYTES: usize = 2 << 20;
/// Maximum number of devices of a guest.
const DEVICES: usize = 256;

/// A guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vmi {
    /// Its uid in Kubernetes.
    pub uid: DomainUuid,
    /// Namespace and name, as `default/vmi-grace`.
    pub name: String,
    /// Its GPUs and other host devices.
    pub devices: Vec<Device>,
    /// The uids of its pods, each with its node.
    pub pods: BTreeMap<String, String>,
}

/// A device of a guest, before Kubernetes has chosen one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its name in the VMI.
    pub name: String,
    /// The resource of the device plugin; `None` for a device of a resource claim.
    pub resource: Option<String>,
}

#[derive(Deserialize)]
struct Object {
    metadata: Metadata,
    spec: Spec,
    status: Option<VmiStatus>,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    namespace: Option<String>,
    uid: String,
}

#[derive(Deserialize)]
struct Spec {
    domain: SpecDomain,
}

#[derive(Deserialize)]
struct SpecDomain {
    devices: Option<Devices>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Devices {
    gpus: Option<Vec<Listed>>,
    host_devices: Option<Vec<Listed>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    name: String,
    device_name: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct VmiStatus {
    active_pods: Option<BTreeMap<String, String>>,
}

impl Vmi {
    /// Reads a VMI.
    ///
    /// # Errors
    /// The text is too large, is no VMI, or its uid is no UUID.
    pub fn parse(text: &[u8]) -> Result<Self, Refusal> {
        if text.len() > MAX_BYTES {
            return Err(broken(&format!("it has more than {} MiB", MAX_BYTES >> 20)));
        }
        let object: Object =
            serde_json::from_slice(text).map_err(|error| broken(&error.to_string()))?;
        let Metadata {
            name,
            namespace,
            uid,
        } = object.metadata;
        let uid = uid.parse();
        let uid = uid.map_err(|_| broken("its metadata.uid is no UUID"))?;
        let listed = object.spec.domain.devices.map(|devices| {
            let gpus = devices.gpus.into_iter().flatten();
            gpus.chain(devices.host_devices.into_iter().flatten())
                .collect()
        });
        let listed: Vec<Listed> = listed.unwrap_or_default();
        if listed.len() > DEVICES {
            return Err(broken(&format!("it has more than {DEVICES} host devices")));
        }
        let status = object.status.and_then(|status| status.active_pods);
        Ok(Self {
            uid,
            name: format!("{}/{name}", namespace.as_deref().unwrap_or("default")),
            devices: listed.into_iter().map(Device::from).collect(),
            pods: status.unwrap_or_default(),
        })
    }
}

impl From<Listed> for Device {
    fn from(listed: Listed) -> Self {
        Self {
            name: listed.name,
            resource: listed.device_name.filter(|name| !name.is_empty()),
        }
    }
}

fn broken(why: &str) -> Refusal {
    let reason = format!("the VMI cannot be read: {why}");
    Refusal::new(
        Code::KubevirtVmi,
        reason,
        "pass the VMI as virt-handler does",
    )
}

/// A guest with two GPUs of a device plugin.
#[cfg(test)]
pub(crate) const EXAMPLE: &str = r#"{"apiVersion":"kubevirt.io/v1","kind":"VirtualMachineInstance",
    "metadata":{"name":"vmi-grace","namespace":"default","uid":"6f1f0b9e-3c1e-4b3a-9a39-0d0c7b9f6a11"},
    "spec":{"domain":{"devices":{"gpus":[{"name":"gpu1","deviceName":"nvidia.com/GH200"},
        {"name":"gpu2","deviceName":"nvidia.com/GH200"}],"hostDevices":null}}},
    "status":{"activePods":{"0b7c1f5e-1111-4222-8333-444455556666":"node1"}}}"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vmi_has_its_identity_its_devices_and_its_pods() {
        let vmi = Vmi::parse(EXAMPLE.as_bytes()).expect("a VMI");
        assert_eq!(vmi.name, "default/vmi-grace");
        let resource = Some("nvidia.com/GH200".to_owned());
        assert!(vmi.devices.iter().all(|one| one.resource == resource));
        assert_eq!(vmi.devices.len(), 2);
        assert_eq!(vmi.pods.values().collect::<Vec<_>>(), ["node1"]);
    }

    #[test]
    fn what_is_no_vmi_is_refused_with_the_reason() {
        let many = vec![r#"{"name":"g","deviceName":"a/b"}"#; 300].join(",");
        let many = EXAMPLE.replace(
            r#""hostDevices":null"#,
            &format!(r#""hostDevices":[{many}]"#),
        );
        for (text, why) in [
            ("[]".to_owned(), "the VMI cannot be read"),
            ("{}".to_owned(), "missing field"),
            (EXAMPLE.replace("6f1f0b9e-", "x"), "metadata.uid is no UUID"),
            (EXAMPLE.replace(r#""node1""#, "1"), "invalid type"),
            (many, "more than 256 host devices"),
            (" ".repeat(MAX_BYTES + 1), "more than 2 MiB"),
        ] {
            let refusal = Vmi::parse(text.as_bytes()).expect_err(why);
            assert_eq!(refusal.code, Code::KubevirtVmi);
            assert!(refusal.to_string().contains(why), "{refusal}");
        }
    }
}
