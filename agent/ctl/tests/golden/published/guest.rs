//! The definition of a published guest before it is completed.

use std::fmt::Write;

use kernel_glue::address::PciAddress;
use kernel_glue::host::Host;

/// A guest as its user writes it.
#[derive(Clone, Copy)]
pub(super) struct Guest {
    /// A modelled host.
    pub(super) host: &'static str,
    pub(super) gpus: &'static [&'static str],
    /// CPUs and KiB of each cell with CPUs; cell N is bound to node N.
    pub(super) cells: &'static [(&'static str, u64)],
    /// Attributes of `<options>`.
    pub(super) options: &'static str,
    pub(super) hugepages: bool,
    /// libvirt binds the devices.
    pub(super) managed: bool,
}

impl Guest {
    pub(super) fn definition(&self, host: &Host) -> String {
        let mut text = "<domain type='kvm'>\n<name>published</name>\n".to_owned();
        write!(
            text,
            "<metadata><options xmlns='urn:variantd:options:1' {}/></metadata>\n<memory unit='KiB'>{}</memory>\n",
            self.options,
            self.cells.iter().map(|(_, kib)| kib).sum::<u64>()
        )
        .expect("text");
        if self.hugepages {
            text += "<memoryBacking><hugepages><page size='524288' unit='KiB'/></hugepages></memoryBacking>\n";
        }
        let last = self.cells.last().expect("a cell").0;
        let last: u32 = last
            .rsplit('-')
            .next()
            .and_then(|cpu| cpu.parse().ok())
            .expect("a CPU");
        writeln!(text, "<vcpu>{}</vcpu>", last + 1).expect("text");
        text += "<numatune>";
        for cell in 0..self.cells.len() {
            write!(
                text,
                "<memnode cellid='{cell}' mode='strict' nodeset='{cell}'/>"
            )
            .expect("text");
        }
        text +=
            "</numatune>\n<os firmware='efi'><type arch='aarch64' machine='virt'>hvm</type></os>\n";
        text += "<features><acpi/><gic version='3'/><ras state='on'/></features>\n<cpu mode='host-passthrough'><numa>";
        for (id, (cpus, kib)) in self.cells.iter().enumerate() {
            write!(
                text,
                "<cell id='{id}' cpus='{cpus}' memory='{kib}' unit='KiB'/>"
            )
            .expect("text");
        }
        text += "</numa></cpu>\n<devices>\n<controller type='pci' index='0' model='pcie-root'/>\n";
        let managed = if self.managed { "yes" } else { "no" };
        for gpu in self.gpus {
            let at: PciAddress = gpu.parse().expect("address");
            assert!(host.devices.contains_key(&at), "{gpu}");
            writeln!(
                text,
                "<hostdev mode='subsystem' type='pci' managed='{managed}'><source><address domain='{:#x}' bus='{:#x}' slot='0' function='0'/></source></hostdev>",
                at.domain(),
                at.bus()
            )
            .expect("text");
        }
        text + "</devices>\n</domain>\n"
    }
}
