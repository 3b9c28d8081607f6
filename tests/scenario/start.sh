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

# variantd takes from two lists which nodes have no CPUs and no memory (kernel-glue/src/reader/node.rs); the files of the nodes must agree.
nodes=/sys/devices/system/node
members() {
    local list part number
    IFS=, read -ra list <"$nodes/$1"
    for part in "${list[@]}"; do
        for ((number = ${part%-*}; number <= ${part#*-}; number++)); do printf ' %s' "$number"; done
    done
}
with_cpus='' with_memory=''
for number in $(members online); do
    read -r cpus <$nodes/node$number/cpulist
    read -r _ _ _ kib _ <$nodes/node$number/meminfo
    [ -z "$cpus" ] || with_cpus+=" $number"
    [ "$kib" = 0 ] || with_memory+=" $number"
done
equal 'nodes with CPUs' "$(members has_cpu)" "$with_cpus"
equal 'nodes with memory' "$(members has_memory)" "$with_memory"
