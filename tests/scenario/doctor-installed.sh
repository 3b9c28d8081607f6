# Makes faults in definitions, hook, agent, libvirt, bus policy and configuration. 'variantctl doctor' must find each by its
# code, and the command in its hint must fix it.
# deadline: 600
agent_settings
hook=/etc/libvirt/hooks/qemu.d/variantd
program=/usr/sbin/variantd-hook
policy=/usr/share/dbus-1/system.d/org.variantd1.conf

restore() {
    remove_guests k0 plain
    [ ! -e /tmp/aside.conf ] || mv /tmp/aside.conf $policy
    rm -f /etc/variantd/variantd.conf /etc/variantd/recipes.d/nvidia-grace.toml
    chmod 755 $program
    [ -e $hook ] || ln -s $program $hook
    systemctl restart variantd libvirtd
    set_driver $GPU0
}
trap restore EXIT
remove_guests k0 plain
set_driver $GPU0 vfio-pci

# Definitions: not prepared, drifted.
agent_settings 'prepare = "on-request"'
guest k0 $GPU0 >/tmp/k0.xml
virsh define /tmp/k0.xml >/dev/null
found VD-DOC-031 VD-NUM-004
fixed VD-DOC-031
equal 'next with a complete guest' "$(variantctl doctor | tail -1)" 'next: virsh start k0'
mkdir -p /etc/variantd/recipes.d
variantctl recipe show nvidia-grace | sed 's/^raise_ten_to = .*/raise_ten_to = 12/' >/tmp/nvidia-grace.toml
cp /tmp/nvidia-grace.toml /etc/variantd/recipes.d/
systemctl reload variantd
is_drifted() { ! passes VD-MRK-002; }
within 20 is_drifted
found VD-MRK-002 'another recipe, host or version'
fixed VD-MRK-002
virsh start --paused k0 >/dev/null
contains 'a running guest' "$(check_line VD-BND-005)" 'a guest has it (k0)'
virsh destroy k0 >/dev/null
remove_guests k0
rm /etc/variantd/recipes.d/nvidia-grace.toml
agent_settings

# The hook: missing, not executable, newer than the running daemon.
rm $hook
found VD-DOC-040 'start unchecked'
fixed VD-DOC-040
chmod -x $program
found VD-DOC-041 'without a message'
fixed VD-DOC-041
rm -f $hook /run/variantd/called
systemctl restart libvirtd
sleep 1
ln -s $program $hook
within 20 virsh list
found VD-DOC-042 'newer than the running libvirtd'
guest plain >/tmp/plain.xml
virsh define /tmp/plain.xml >/dev/null
virsh start --paused plain >/dev/null
[ ! -e /run/variantd/called ] || fail 'libvirt calls a hook that did not exist when it started'
virsh destroy plain >/dev/null
# An upgrade installs a newer hook, and must keep the knowledge whether libvirt calls it.
upgraded() { sleep 2; dpkg -i --force-confold --force-confmiss /root/variantd.deb >/dev/null 2>&1; within 30 is_connected; }
upgraded
found VD-DOC-042 'newer than the running libvirtd'
fixed VD-DOC-042
within 20 virsh start --paused plain
[ -e /run/variantd/called ] || fail 'libvirt does not call its hook'
contains 'a hook that was called' "$(check_line VD-DOC-042)" 'it did since it started'
remove_guests plain
rm /run/variantd/called
upgraded
passes VD-DOC-042 || fail 'an upgrade forgets that libvirt calls its hook'

# The agent, libvirt, the bus policy, the configuration.
systemctl stop variantd
found VD-AGT-001 'does not run'
! systemctl --quiet is-active variantd || fail 'doctor started the agent'
fixed VD-AGT-001
systemctl stop libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket libvirtd 2>/dev/null || systemctl stop libvirtd
found VD-DOC-025 'does not answer'
fixed VD-DOC-025
mv $policy /tmp/aside.conf
# The bus watches its policy files, and denies the call once the file is removed.
found VD-DOC-047 'systemctl reload dbus'
mv /tmp/aside.conf $policy
within 20 passes VD-DOC-047
echo 'prepar = "on-define"' >/etc/variantd/variantd.conf
found VD-DOC-048 "did you mean 'prepare'?"
rm /etc/variantd/variantd.conf
passes VD-DOC-048 || fail 'the configuration is not read again'

# A warning changes the exit status only with --strict.
no_iommu=/sys/module/vfio/parameters/enable_unsafe_noiommu_mode
if [ -e $no_iommu ]; then
    echo Y >$no_iommu
    variantctl doctor --only VD-DOC-002 >/dev/null || fail 'a warning is a failure'
    ! passes VD-DOC-002 || fail '--strict accepts a warning'
    fixed VD-DOC-002
fi
within 30 ready
