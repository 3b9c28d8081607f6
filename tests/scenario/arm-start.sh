# Completes, starts and ends a 'virt' guest with a plain hostdev on an aarch64 host, and doctor looks at that host. The guest's processor is
# emulated, so only its firmware runs; arm.sh boots one.
# on: aarch64
# deadline: 600
GUEST=/root/scenario/guest-arm.xml
without_smmu
trap 'remove_guests a1; with_smmu' EXIT
agent_settings
remove_guests a1
set_driver $GPU0
before="$(driver $GPU0)/$(override $GPU0)"
# The kernel of the emulated host has pages of 4 KiB, and that of Debian 13 is too old for P2P with iommufd.
expected='VD-DOC-050 '
[ "$(qemu_major)" -ge 11 ] || expected='VD-DOC-050 VD-DOC-052 '
healthy() {
    local printed
    printed=$(variantctl doctor -q) || fail "doctor: $printed"
    equal 'warnings of doctor' "$(grep -o 'VD-[A-Z]*-[0-9]*: ' <<<"$printed" | sort -u | tr -d ':\n')" "$expected"
}
guest a1 $GPU0 >/tmp/a1.xml
virsh define /tmp/a1.xml >/dev/null
variantctl wait --timeout 120 a1 >/dev/null
is_complete a1 || fail 'the definition is not complete'
virsh start a1 >/dev/null
equal 'driver while running' "$(driver $GPU0)" $VARIANT
equal 'QEMU of the guest' "$(basename "$(readlink "/proc/$(cat /run/libvirt/qemu/a1.pid)/exe")")" qemu-system-aarch64
healthy
virsh destroy a1 >/dev/null
is_restored() { [ "$(driver $GPU0)/$(override $GPU0)" = "$before" ] && no_guest; }
within 60 is_restored
healthy
echo "= doctor: $(variantctl doctor | tail -1)"
