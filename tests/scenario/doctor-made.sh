# by name
# Faults that 'variantctl doctor' finds beyond doctor and doctor-installed: the scenario makes each fault, doctor finds its code, and the
# fault is gone after the hint. Where this host cannot have the fault, a file is mounted over the kernel's:
#
#   VD-DOC-018  firmware and kernel place every BAR of the emulated GPU: 'resource' has IORESOURCE_UNSET
#   VD-DOC-044  the host boots with 'apparmor=0': the daemon's label says that a profile is enforced
#   VD-DEV-005  the GPU has no SR-IOV capability: its folder has 'sriov_numvfs'
#   VD-BND-015  the tables are the firmware's, and in use: the one with the GPUs' memory is empty
#   VD-BND-009  no driver here adds GPU memory to the host: driver link, 'numa_status' and 'iomem' are replaced
#
# VD-DOC-001 needs another boot (no-iommu), VD-TGT-001 an older QEMU (older).
# deadline: 900
agent_settings
sys=/sys/bus/pci/devices/$GPU0
real=$(readlink -f $sys)
port=$(basename "$(dirname "$real")")
dropin=/etc/systemd/system/libvirtd.service.d
hook=/etc/libvirt/hooks/qemu.d/variantd
reserved=/etc/variantd/reserved.d
covered=''
# over FILE COMMAND...: mounts the command's output for the file over the file
over() {
    local file=$1 from to; shift
    from=$(mktemp) to=$(mktemp)
    cat "$file" >"$from" 2>/dev/null || true
    "$@" <"$from" >"$to"
    mount --bind "$to" "$file"
    covered+=" $file"
}
# over_folder LINE: mounts a copy of the GPU's folder, changed by the line, over it
over_folder() {
    local copy; copy=$(mktemp -d)
    cp -a $real/. "$copy" 2>/dev/null || true
    (cd "$copy" && eval "$1")
    mount --bind "$copy" $real
    covered+=" $real"
}
uncover() {
    local file
    for file in $covered; do umount "$file" || true; done
    covered=''
}
restore() {
    uncover
    echo 0000:00:1f.2 >/sys/bus/pci/drivers/ahci/bind 2>/dev/null || true
    [ -z "${bus-}" ] || secondary "$bus"
    rm -rf $dropin $reserved /run/variantd/records/ffff:* /etc/variantd/recipes.d
    rm -f $hook; ln -s /usr/sbin/variantd-hook $hook
    forget big pages turned
    echo 0 >/proc/sys/vm/nr_hugepages
    systemctl daemon-reload
    systemctl restart libvirtd
    agent_settings
    stand_in $GPU0
}
trap restore EXIT
forget big pages turned
stand_in $GPU0 vfio-pci
# gone CODE: the check passes without a fix
gone() { within 30 passes "$1"; }

# libvirt's daemon cannot raise its own limit.
mkdir -p $dropin
printf '[Service]\nLimitMEMLOCK=65536\nCapabilityBoundingSet=~CAP_SYS_RESOURCE\n' >$dropin/made.conf
systemctl daemon-reload
systemctl restart libvirtd
found VD-DOC-005 'cannot raise it'
printf '[Service]\nLimitMEMLOCK=infinity\n' >$dropin/made.conf
systemctl daemon-reload
systemctl restart libvirtd
gone VD-DOC-005

# Definitions: more memory than the host has, missing huge pages, an address that breaks a rule.
guest big $GPU0 | sed "s|<memory unit='MiB'>192</memory>|<memory unit='GiB'>900</memory>|" >/tmp/big.xml
virsh define /tmp/big.xml >/dev/null
found VD-DOC-006 'all locked at start'
contains 'the hint' "$(variantctl doctor --only VD-DOC-006 || true)" 'virsh edit big'
EDITOR="sed -i s/943718400/196608/" virsh edit big >/dev/null
gone VD-DOC-006
forget big
guest pages $GPU0 | sed "s|<vcpu>|<memoryBacking><hugepages/></memoryBacking><vcpu>|" >/tmp/pages.xml
virsh define /tmp/pages.xml >/dev/null
found VD-DOC-006 'huge pages of 2048 KiB'
fixed_by_hint VD-DOC-006
forget pages
echo 0 >/proc/sys/vm/nr_hugepages
guest turned $GPU0 | sed "s|</hostdev>|<address type='pci' domain='0' bus='1' slot='0' function='1'/></hostdev>|;
    s|<hostdev |<controller type='pci' index='1' model='pcie-root-port'/><hostdev |" >/tmp/turned.xml
virsh define /tmp/turned.xml >/dev/null
found VD-TOP-002 'function 1'
fixed_by_hint VD-TOP-002
forget turned

# The device does not answer: its port forwards to another bus.
secondary() { printf "\\x$1" | dd of=/sys/bus/pci/devices/$port/config bs=1 seek=25 conv=notrunc 2>/dev/null; }
number=$(od -An -tx1 -j25 -N1 /sys/bus/pci/devices/$port/config | tr -d ' ')
bus=$number
secondary fe
found VD-BND-012 'all ones'
secondary "$bus"
bus=''
gone VD-BND-012
over $sys/resource sed '3s/0x[0-9a-f]*$/0x0000000020000000/; 3s/^0x[0-9a-f]*/0x0000000000000000/; 3s/ 0x[0-9a-f]* / 0x00000000000fffff /'
found VD-DOC-018 'has no address'
uncover
gone VD-DOC-018

over_folder 'echo 2 >sriov_numvfs'
found VD-DEV-005 'virtual functions (2)'
uncover
gone VD-DEV-005
over_folder 'ln -sfn ../../../../bus/pci/drivers/nvidia driver'
over /proc/iomem sed '$a4080000000-40ffffffff : System RAM (NVIDIA)'
found VD-BND-009 "the host's own"
uncover
gone VD-BND-009
for table in /sys/firmware/acpi/tables/SSDT*; do
    ! grep -q nvidia,gpu-mem-size "$table" || over "$table" true
done
found VD-BND-015 'no GPU memory'
uncover
gone VD-BND-015

# Its group and its initiators: a recipe covers a function of the chipset.
chip=0000:00:1f.3
id=$(printf '%s:%s' "$(sed s/0x// /sys/bus/pci/devices/$chip/vendor)" "$(sed s/0x// /sys/bus/pci/devices/$chip/device)")
agent_settings '[[device]]' "id = \"$id\"" 'recipe = "nvidia-grace"'
found VD-NUM-001 ''
found VD-BND-007 0000:00:1f.2
fixed_by_hint VD-BND-007
agent_settings
gone VD-NUM-001

# A recipe requires a width that the path does not support.
mkdir -p /etc/variantd/recipes.d
{
    sed '/^\[\[atomics.otherwise\]\]/,$d' /usr/share/variantd/recipes.d/nvidia-grace.toml
    printf '[atomics]\nneed = "require"\nwidths = [32]\n'
} >/etc/variantd/recipes.d/nvidia-grace.toml
/lab/outside atomics $port 0 >/dev/null
found VD-ATM-021 ''
/lab/outside atomics $port 380 >/dev/null
gone VD-ATM-021
rm -r /etc/variantd/recipes.d
agent_settings

# Reservations: for another device, for a missing device, for a device without a driver.
mkdir -p $reserved
reserve() { printf 'device = "%s"\nid = "%s"\n' "$1" "$2" >$reserved/$1.toml; }
reserve $GPU0 10de:2941
found VD-BND-021 'reserved as 10de:2941'
fixed_by_hint VD-BND-021
reserve 0000:99:00.0 10de:2342
found VD-DEV-001 'no such PCI device'
fixed_by_hint VD-DEV-001
reserve $chip "$id"
found VD-BND-022 'names a driver'
fixed_by_hint VD-BND-022

# Damaged records.
made=/run/variantd/records/ffff:00:00.0.json
mkdir -p /run/variantd/records
echo nonsense >$made
found VD-BND-010 'cannot be used'
contains 'the hint' "$(variantctl doctor --only VD-BND-010 || true)" "mv $made $made.damaged"
mv $made $made.damaged
gone VD-BND-010
echo '{"version": 99, "device": "ffff:00:00.0", "owner": "none"}' >$made
found VD-BND-011 'version 99'
rm $made $made.damaged
gone VD-BND-011

# libvirt's hook: another program in its place, and one in a folder where a profile forbids execution.
ln -sfn /usr/bin/true $hook
found VD-DOC-043 "not variantd's hook"
mv $hook $hook-other
bash -c "$(variantctl doctor --only VD-DOC-040 --json | sed -n 's/^ *"command": "\(.*\)",$/\1/p' | head -1)"
gone VD-DOC-040
rm $hook-other
mkdir -p /opt
cp -a /usr/sbin/variantd-hook /opt/variantd-hook
ln -sfn /opt/variantd-hook $hook
over /proc/$(pidof libvirtd)/attr/current echo 'libvirtd (enforce)'
found VD-DOC-044 '/opt/variantd-hook'
ln -sfn /usr/sbin/variantd-hook $hook
passes VD-DOC-044 || fail 'the hook is where the profile lets it run'
uncover
rm /opt/variantd-hook
systemctl restart libvirtd
within 30 ready
