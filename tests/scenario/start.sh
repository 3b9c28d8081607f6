# A started guest has its GPU on the variant driver, its initiators, and AtomicOps on its root port. After its end the
# GPU is on its previous driver.
agent_settings
trap 'forget d0; stand_in $GPU0' EXIT
forget d0

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
    equal 'journal afterwards' "$(held)" ''
}

forget d0
guest d0 $GPU0 >/tmp/d0.xml
virsh define /tmp/d0.xml >/dev/null
variantctl wait d0 >/dev/null
is_complete d0 || fail 'the definition is not complete'

stand_in $GPU0
round
stand_in $GPU0 pci-stub
round
stand_in $GPU0 vfio-pci
round
