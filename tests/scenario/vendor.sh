# libvirt and QEMU answer as NVIDIA's builds do: the agent finds the spellings of this pair, and a plan has them. Then QEMU alone is
# upgraded: a definition with such a spelling is refused with the names of both packages.
# The schemas, the emulator's help, libvirt's cache entry about it and dpkg's list are changed, and a library in libvirt's daemon
# (vendor.c) changes the types that it writes. All else is Debian's own: libvirt's parser and translation, the unit and the agent.
# deadline: 300
schemas=/usr/share/libvirt/schemas
cache=/var/cache/libvirt/qemu/capabilities
emulator=/usr/bin/qemu-system-aarch64
entry=$cache/a013a09a30bf35fbea5b0236d43e579da4a041eaea677bc2f449290e5b7a5d5e.xml
dropin=/run/systemd/system/libvirtd.service.d/vendor.conf
saved=/run/lab-vendor
x86=$(printf /usr/bin/qemu-system-x86_64 | sha256sum | cut -d' ' -f1)

# libvirt before 12.7 has no attributes of an SMMUv3, so nothing of it could be another spelling.
grep -q ssidsize $schemas/domaincommon.rng || { echo "= this libvirt has no 'ssidsize': nothing to do"; exit 0; }
[ ! -e $emulator ] || fail "this host has an emulator for aarch64"

restored() {
    remove_guests n0
    rm -f $emulator $entry $dropin /var/lib/variantd/stack.json
    cp -a $saved/domaincommon.rng $schemas/
    cp -a $saved/status /var/lib/dpkg/status
    systemctl daemon-reload
    systemctl restart libvirtd variantd
    rm -rf $saved /tmp/vendor
}
mkdir -p $saved
cp -a $schemas/domaincommon.rng /var/lib/dpkg/status $saved/
trap restored EXIT
# No agent until libvirt's daemon has the library: a query before that would be an answer of Debian's own pair, and stay.
systemctl stop variantd
qemu-system-x86_64 -device help >$saved/devices
qemu-system-x86_64 -object help >$saved/objects

# install_qemu PACKAGE SMMU: an emulator for aarch64 with these properties of an SMMUv3. Its other lists are those of this host's QEMU.
# libvirt uses its entry instead of starting it; the entry is that of this host's QEMU with what the one for Arm has.
install_qemu() {
    cat >$emulator <<END
#!/bin/sh
case "\$*" in
-version) echo 'QEMU emulator version 10.1.0 ($1)' ;;
'-device help') cat $saved/devices && echo 'name "arm-smmuv3", bus System' ;;
'-object help') cat $saved/objects && echo '  acpi-egm-memory' ;;
'-device arm-smmuv3,help') printf 'arm-smmuv3 options:\\n'; printf '  %s\\n' $2 'primary-bus=<link<PCI>>' ;;
'-machine virt,help') printf 'virt-10.1-machine options:\\n  highmem-mmio-size=<size>\\n  ras=<bool>\\n' ;;
*) exit 1 ;;
esac
END
    chmod 755 $emulator
    awk -v ctime="$(stat -c %Z $emulator)" -v package="$1" '
        /<emulator>/ { sub("x86_64", "aarch64") }
        /<qemuctime>/ { print "  <qemuctime>" ctime "</qemuctime>"; next }
        /<version>/ {
            split("arm-max-cpu arm-smmuv3 arm-smmuv3.accel arm-smmuv3.cmdqv arm-smmuv3.smmu_per_bus machine.virt.highmem-mmio-size " \
                "machine.virt.iommu machine.virt.ras pl011", flags, " ")
            for (i in flags) print "  <flag name=\"" flags[i] "\"/>"
            print "  <version>10001000</version>\n  <microcodeVersion>0</microcodeVersion>"
            print "  <package>" package "</package>\n  <arch>aarch64</arch>"
            print "  <cpu type=\"tcg\" name=\"max\" typename=\"max-arm-cpu\"/>"
            print "  <machine type=\"tcg\" name=\"virt-10.1\" alias=\"virt\" maxCpus=\"512\" defaultRAMid=\"mach-virt.ram\" acpi=\"yes\"/>"
            print "  <gic version=\"3\" kernel=\"no\" emulated=\"yes\"/>\n</qemuCaps>"
            exit
        }
        !/<flag name=.kvm.\/>/' $cache/$x86.xml >$entry
    chmod 600 $entry
}

# The spelling of the pair in the schemas, and EGM.
sed -i "s/<attribute name=\"ssidsize\">/<attribute name=\"pasid\">/; s,<value>dimm</value>,&<value>egm</value>,
    s,<element name=\"block\">,<element name=\"pciDev\"><text/></element>&," $schemas/domaincommon.rng
awk '/^Package: / { ours = $2 == "libvirt0" } ours && /^Version: / { print "Version: 11.9.0+nvidia4-1"; next } 1' $saved/status \
    >/var/lib/dpkg/status
mkdir -p ${dropin%/*}
printf '[Service]\nEnvironment=LD_PRELOAD=/root/scenario/vendor.so\n' >$dropin
install_qemu 'Debian 1:10.1.0+nvidia5-1' "'accel=<bool>' 'ats=<bool>' 'ril=<bool>' 'pasid=<bool>' 'oas=<uint8>' 'tegra241-cmdqv=<bool>'"
rm -f /var/lib/variantd/stack.json
systemctl daemon-reload
systemctl restart libvirtd
agent_settings

# answer FEATURE: its value and how it is known
answer() { awk -v feature="$1" '$1 == feature { print $3, $4 }' /tmp/stack; }
is_asked() { variantctl stack >/tmp/stack 2>/tmp/stack.notes || true; [ "$(answer qemu_smmu_oas_type)" = "$1 asked" ]; }

within 150 is_asked integer
equal notes "$(cat /tmp/stack.notes)" ''
for line in 'smmu_ssid pasid translated' 'smmu_ats_type bool translated' 'smmu_oas_type integer translated' \
    'smmu_cmdqv tegra241-cmdqv translated' 'virt_window yes translated' 'egm yes grammar' 'qemu_egm yes asked' 'qemu_smmu_ssid pasid asked' \
    'qemu_smmu_cmdqv tegra241-cmdqv asked' 'generic_initiator yes asked'; do
    equal "${line%% *}" "${line%% *} $(answer "${line%% *}")" "$line"
done
contains 'packages' "$(cat /tmp/stack)" 11.9.0+nvidia4-1
contains 'packages' "$(cat /tmp/stack)" 'Debian 1:10.1.0+nvidia5-1'
contains 'the pair' "$(cat /tmp/stack)" 'fit each other'

# This host with the IOMMU of an Arm host, for a plan by the stack that was found.
rm -rf /tmp/vendor
variantctl record-host /tmp/vendor
find /tmp/vendor/sys/devices -name iommu -type l | while read -r link; do
    ln -sfn "$(readlink "$link" | sed 's/dmar[0-9]*/smmu3.0x0000000012000000/')" "$link"
done
for config in /tmp/vendor/boot/config-*; do echo CONFIG_ARM_SMMU_V3_IOMMUFD=y >>"$config"; done
mkdir -p /tmp/vendor/sys/class/misc/iommu
echo 10:127 >/tmp/vendor/sys/class/misc/iommu/dev
# planned: the SMMUv3 of a guest in a plan for that host
planned() {
    sed 's/^.*"stack":\({.*}\),"notes":.*/\1/' /var/lib/variantd/stack.json >/tmp/stack.json
    variantctl --host /tmp/vendor plan --diff --target /tmp/stack.json /tmp/n0.xml 2>&1
}
guest n0 $GPU0 | sed "/<kernel>/,/<cmdline>/d; s/arch='x86_64' machine='q35'/arch='aarch64' machine='virt'/; /<apic/d
    s,</os>,<loader readonly='yes' type='pflash'>/tmp/firmware</loader><nvram>/tmp/variables</nvram></os>,
    s,<cpu mode=.*,<cpu mode='maximum'/>,; s,<emulator>.*,<emulator>$emulator</emulator>," >/tmp/n0.emulated
sed "s/type='qemu'/type='kvm'/; s,<cpu mode=.*,<cpu mode='host-passthrough'/>," /tmp/n0.emulated >/tmp/n0.xml
contains 'plan' "$(planned)" "<driver pciBus='1' accel='on' ats='on' ril='off' pasid='on' oas='48'/>"
echo "= a plan has the pair's spelling: pasid='on'"

# A definition of the user's own, with this libvirt's spelling. Emulated guests get no SMMUv3 of variantd's.
own="<controller type='pci' index='0' model='pcie-root'/><controller type='pci' index='1' model='pcie-expander-bus'><target busNr='64'/>"
own+="</controller><iommu model='smmuv3'><driver pciBus='1' accel='on' oas='48'/></iommu>"
sed -i "s,</devices>,$own&," /tmp/n0.emulated
virsh define /tmp/n0.emulated >/dev/null
! grep VD-IOM-010 <(variantctl plan n0 2>&1) || fail 'a pair that fits is refused'

# QEMU alone is upgraded.
install_qemu 'Debian 1:11.0.0+nvidia7-1' "'accel=<bool>' 'ats=<OnOffAuto>' 'ril=<OnOffAuto>' 'ssidsize=<SsidSizeMode>' 'oas=<OasMode>' 'cmdqv=<OnOffAuto>'"
agent_settings
within 150 is_asked auto
! variantctl stack >/tmp/stack || fail 'half an upgrade fits'
verdict=$(tail -1 /tmp/stack)
contains 'verdict' "$verdict" 'libvirt 11.9.0+nvidia4-1 and QEMU Debian 1:11.0.0+nvidia7-1 do not fit each other'
printf '= %s\n' "$verdict"
! printed=$(variantctl prepare n0 2>&1) || fail 'half an upgrade is not refused'
contains 'refusal' "$printed" VD-IOM-010
contains 'refusal' "$printed" "libvirt 11.9.0+nvidia4-1 writes 'oas' as a number, and QEMU Debian 1:11.0.0+nvidia7-1 takes a string"
printf '= %s\n' "$(grep -m1 VD-IOM-010 <<<"$printed")"
