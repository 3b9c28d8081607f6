# Hot-unplugs a GPU. libvirt leaves its initiators in QEMU, and QEMU exits because of them at the guest's next reset. With the agent
# the guest must survive the reset: the agent deletes the initiators and returns the GPU to its previous driver.
# deadline: 900
. atomics/guest.sh
agent_settings
trap 'remove_guests d0; systemctl start variantd; set_driver $GPU0' EXIT
remove_guests d0
rm -f $LOG/d0.log
set_driver $GPU0 pci-stub

initiators() { virsh -q qemu-monitor-command d0 '{"execute":"qom-list","arguments":{"path":"/objects"}}' | grep -o 'child<acpi-generic-initiator>' | wc -l; }
has_no_device() { ! virsh dumpxml d0 | grep -q '<hostdev'; }
is_off() { [ "$(virsh domstate d0)" = 'shut off' ]; }
defined() {
    sed "s/<on_reboot>destroy/<on_reboot>restart/" >/tmp/d0.xml
    virsh define /tmp/d0.xml >/dev/null
    variantctl wait d0 >/dev/null
    inactive d0 | sed -n '/<hostdev /,/<\/hostdev>/p' >/tmp/device.xml
}

# Without the agent. Only firmware runs in this guest, so 'eject' acts for the guest.
guest d0 $GPU0 | defined
virsh start d0 >/dev/null
systemctl stop variantd
virsh detach-device d0 /tmp/device.xml --live >/dev/null &
within 60 eject d0
within 60 has_no_device
wait
equal 'initiators that libvirt leaves' "$(initiators)" 8
virsh reset d0 >/dev/null
within 180 is_off
printed=$(grep -a 'Specified device must be a PCI device' $LOG/d0.log | tail -1)
[ -n "$printed" ] || fail "QEMU ended for another reason: $(tail -3 $LOG/d0.log)"
echo "= without the agent QEMU exits: $printed"
# libvirt's hook has called the agent, which systemd starts for that call.
is_restored() { [ "$(driver $GPU0)" = pci-stub ] && no_guest; }
within 60 is_restored
remove_guests d0

# With the agent. A kernel runs in this guest and ejects the device.
agent_settings
EMULATED=no guest d0 $GPU0 | defined
boot d0 150
equal 'initiators at first' "$(initiators)" 8
virsh detach-device d0 /tmp/device.xml --live >/dev/null
within 60 has_no_device
has_none() { [ "$(initiators)" = 0 ]; }
within 30 has_none
within 60 is_restored
before=$(grep -ac '^L2-END' $LOG/d0-serial.log)
virsh reset d0 >/dev/null
within 150 has_booted d0 $((before + 1))
equal 'state after the reset' "$(virsh domstate d0)" running
contains 'nodes after the reset' "$(tr -d '\r' <$LOG/d0-serial.log | grep -a '^L2-NODES has_generic_initiator' | tail -1)$" 'has_generic_initiator=$'
virsh destroy d0 >/dev/null
equal 'driver at last' "$(driver $GPU0)" pci-stub
