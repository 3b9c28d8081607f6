# Starts and destroys a guest. Running, it must have its GPU on the variant driver, its initiators, and AtomicOp bits on its root
# port. Afterwards the GPU must have the previous driver and override.
agent_settings
trap 'remove_guests d0; set_driver $GPU0' EXIT
remove_guests d0

round() {
    local before_driver before_override qemu
    before_driver=$(driver $GPU0); before_override=$(override $GPU0)
    virsh start d0 >/dev/null
    equal 'driver while running' "$(driver $GPU0)" $VARIANT
    qemu=$(cat /run/libvirt/qemu/d0.pid)
    equal 'initiator objects' "$(tr '\0' '\n' <"/proc/$qemu/cmdline" | grep -c 'acpi-generic-initiator')" 8
    equal 'AtomicOp completer bits' "$(($(devcap2 d0) & 0x380))" $((0x380))
    virsh destroy d0 >/dev/null
    equal 'driver afterwards' "$(driver $GPU0)" "$before_driver"
    equal 'override afterwards' "$(override $GPU0)" "$before_override"
    equal 'journal afterwards' "$(domain_records)" ''
}

remove_guests d0
guest d0 $GPU0 >/tmp/d0.xml
virsh define /tmp/d0.xml >/dev/null
variantctl wait d0 >/dev/null
is_complete d0 || fail 'the definition is not complete'

set_driver $GPU0
round
set_driver $GPU0 pci-stub
round
set_driver $GPU0 vfio-pci
round
