# by name
# Makes the faults that doctor.sh and doctor-installed.sh do not cover. 'variantctl doctor' must find each by its code, and pass
# once its hint was followed. Where this host cannot have the fault, a modified file is mounted over the kernel's file:
#
#   code        why the host cannot have the fault                     modified
#   VD-DOC-018  firmware and kernel find an address for every BAR      'resource' has IORESOURCE_UNSET
#   VD-DOC-044  this host boots without AppArmor                       the daemon's label names an enforced profile
#   VD-DEV-005  the GPU has no SR-IOV capability                       its folder has 'sriov_numvfs'
#   VD-BND-015  the ACPI tables are the firmware's, and in use         the table with the GPUs' memory is empty
#   VD-BND-009  no driver adds GPU memory to the host here             driver link, 'numa_status' and 'iomem'
#
# VD-DOC-001 needs another boot (no-iommu.sh), VD-TGT-001 an older QEMU (older.sh).
# deadline: 900
agent_settings
sys=/sys/bus/pci/devices/$GPU0
real=$(readlink -f $sys)
port=$(basename "$(dirname "$real")")
dropin=/etc/systemd/system/libvirtd.service.d
hook=/etc/libvirt/hooks/qemu.d/variantd
reserved=/etc/variantd/reserved.d
covered=''
# cover FILE COMMAND...: mounts the output of the command, which reads the file, over the file
cover() {
    local file=$1 from to; shift
    from=$(mktemp) to=$(mktemp)
    cat "$file" >"$from" 2>/dev/null || true
    "$@" <"$from" >"$to"
    mount --bind "$to" "$file"
    covered+=" $file"
}
# cover_folder LINE: runs the line in a copy of the GPU's folder, and mounts the copy over the folder
cover_folder() {
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
    remove_guests big pages extended turned
    echo 0 >/proc/sys/vm/nr_hugepages
    systemctl daemon-reload
    systemctl restart libvirtd
    agent_settings
    set_driver $GPU0
}
trap restore EXIT
remove_guests big pages extended turned
set_driver $GPU0 vfio-pci
# no_finding CODE: the check must pass again
no_finding() { within 30 passes "$1"; }

# libvirt's daemon may not raise its memory limit.
mkdir -p $dropin
printf '[Service]\nLimitMEMLOCK=65536\nCapabilityBoundingSet=~CAP_SYS_RESOURCE\n' >$dropin/made.conf
systemctl daemon-reload
systemctl restart libvirtd
found VD-DOC-005 'cannot raise it'
printf '[Service]\nLimitMEMLOCK=infinity\n' >$dropin/made.conf
systemctl daemon-reload
systemctl restart libvirtd
no_finding VD-DOC-005

# Definitions: more memory than the host has, missing huge pages, an address that breaks a rule.
guest big $GPU0 | sed "s|<memory unit='MiB'>192</memory>|<memory unit='GiB'>900</memory>|" >/tmp/big.xml
virsh define /tmp/big.xml >/dev/null
found VD-DOC-006 'all locked at start'
contains 'the hint' "$(variantctl doctor --only VD-DOC-006 || true)" 'virsh edit big'
EDITOR="sed -i s/943718400/196608/" virsh edit big >/dev/null
no_finding VD-DOC-006
remove_guests big
guest pages $GPU0 | sed "s|<vcpu>|<memoryBacking><hugepages/></memoryBacking><vcpu>|" >/tmp/pages.xml
virsh define /tmp/pages.xml >/dev/null
found VD-DOC-006 'huge pages of 2048 KiB'
fixed VD-DOC-006
remove_guests pages
echo 0 >/proc/sys/vm/nr_hugepages

# EGM is asked for, and the kernel has no nvgrace_egm.
guest extended $GPU0 | sed "s|<vcpu>|<metadata><v:options xmlns:v='urn:variantd:options:1' egm='on'/></metadata><vcpu>|" >/tmp/extended.xml
virsh define /tmp/extended.xml >/dev/null
found VD-DOC-056 "has no 'nvgrace_egm'"
remove_guests extended
no_finding VD-DOC-056
guest turned $GPU0 | sed "s|</hostdev>|<address type='pci' domain='0' bus='1' slot='0' function='1'/></hostdev>|;
    s|<hostdev |<controller type='pci' index='1' model='pcie-root-port'/><hostdev |" >/tmp/turned.xml
virsh define /tmp/turned.xml >/dev/null
found VD-TOP-002 'function 1'
fixed VD-TOP-002
remove_guests turned

# The device does not answer: its port has another secondary bus number.
secondary() { printf "\\x$1" | dd of=/sys/bus/pci/devices/$port/config bs=1 seek=25 conv=notrunc 2>/dev/null; }
number=$(od -An -tx1 -j25 -N1 /sys/bus/pci/devices/$port/config | tr -d ' ')
bus=$number
secondary fe
found VD-BND-012 'all ones'
secondary "$bus"
bus=''
no_finding VD-BND-012
cover $sys/resource sed '3s/0x[0-9a-f]*$/0x0000000020000000/; 3s/^0x[0-9a-f]*/0x0000000000000000/; 3s/ 0x[0-9a-f]* / 0x00000000000fffff /'
found VD-DOC-018 'has no address'
uncover
no_finding VD-DOC-018

cover_folder 'echo 2 >sriov_numvfs'
found VD-DEV-005 '2 virtual functions'
uncover
no_finding VD-DEV-005
cover_folder 'ln -sfn ../../../../bus/pci/drivers/nvidia driver'
cover /proc/iomem sed '$a4080000000-40ffffffff : System RAM (NVIDIA)'
found VD-BND-009 'as system memory'
uncover
no_finding VD-BND-009
for table in /sys/firmware/acpi/tables/SSDT*; do
    ! grep -q nvidia,gpu-mem-size "$table" || cover "$table" true
done
found VD-BND-015 'no GPU memory'
uncover
no_finding VD-BND-015

# IOMMU group and initiators: the configuration treats a function of the chipset as a GPU.
chip=0000:00:1f.3
id=$(printf '%s:%s' "$(sed s/0x// /sys/bus/pci/devices/$chip/vendor)" "$(sed s/0x// /sys/bus/pci/devices/$chip/device)")
agent_settings '[[device]]' "id = \"$id\"" 'recipe = "nvidia-grace"'
found VD-NUM-001 ''
found VD-BND-007 0000:00:1f.2
fixed VD-BND-007
agent_settings
no_finding VD-NUM-001

# A recipe requires AtomicOps that the path does not pass.
mkdir -p /etc/variantd/recipes.d
{
    sed '/^\[\[atomics.otherwise\]\]/,$d' /usr/share/variantd/recipes.d/nvidia-grace.toml
    printf '[atomics]\nneed = "require"\nwidths = [32]\n'
} >/etc/variantd/recipes.d/nvidia-grace.toml
/lab/outside atomics $port 0 >/dev/null
found VD-ATM-021 ''
/lab/outside atomics $port 380 >/dev/null
no_finding VD-ATM-021
rm -r /etc/variantd/recipes.d
agent_settings

# Reservations: of another device, of a missing device, of one without a driver.
mkdir -p $reserved
reserve() { printf 'device = "%s"\nid = "%s"\n' "$1" "$2" >$reserved/$1.toml; }
reserve $GPU0 10de:2941
found VD-BND-021 'reserved as 10de:2941'
fixed VD-BND-021
reserve 0000:99:00.0 10de:2342
found VD-DEV-001 'no PCI device at this address'
fixed VD-DEV-001
reserve $chip "$id"
found VD-BND-022 'names a driver'
fixed VD-BND-022

# Unusable records.
made=/run/variantd/records/ffff:00:00.0.json
mkdir -p /run/variantd/records
echo nonsense >$made
found VD-BND-010 'cannot be used'
contains 'the hint' "$(variantctl doctor --only VD-BND-010 || true)" "mv $made $made.damaged"
mv $made $made.damaged
no_finding VD-BND-010
echo '{"version": 99, "device": "ffff:00:00.0", "owner": "none"}' >$made
found VD-BND-011 'version 99'
rm $made $made.damaged
no_finding VD-BND-011

# libvirt's hook: replaced by another program, and installed where an AppArmor profile denies execution.
ln -sfn /usr/bin/true $hook
found VD-DOC-043 "not variantd's hook"
mv $hook $hook-other
bash -c "$(variantctl doctor --only VD-DOC-040 --json | sed -n 's/^ *"command": "\(.*\)",$/\1/p' | head -1)"
no_finding VD-DOC-040
rm $hook-other
mkdir -p /opt
cp -a /usr/sbin/variantd-hook /opt/variantd-hook
ln -sfn /opt/variantd-hook $hook
cover /proc/$(pidof libvirtd)/attr/current echo 'libvirtd (enforce)'
found VD-DOC-044 '/opt/variantd-hook'
ln -sfn /usr/sbin/variantd-hook $hook
passes VD-DOC-044 || fail 'the profile allows the hook, and the check fails'
uncover
rm /opt/variantd-hook
systemctl restart libvirtd
within 30 ready
