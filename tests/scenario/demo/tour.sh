# The main job, shown: a guest with nothing but a plain <hostdev> gets what its GPU's driver needs.
. ../lib.sh
set -eu
show() { printf '\n$ %s\n' "$*"; "$@"; }
trap 'forget demo' EXIT
forget demo
guest demo $GPU0 >demo.xml

echo 'The GPUs of this host, and the one path that matters:'
show variantctl list
show variantctl show $GPU0
echo
echo 'A guest as a user writes it: one plain <hostdev>.'
show sed -n '/<hostdev/,/<\/hostdev>/p' demo.xml
echo
echo 'What is missing, and why:'
target="libvirt=$(virsh version | sed -n 's/^Using library: libvirt //p'),qemu=$(virsh version | sed -n 's/^Running hypervisor: QEMU //p')"
show sh -c "variantctl plan --target $target demo.xml 2>/dev/null | grep -v '^[ +-]'"
show virsh define demo.xml
show sh -c 'variantctl wait demo 2>/dev/null'
echo
echo 'The definition now:'
show sh -c "virsh dumpxml --inactive demo | grep -E 'variantd:|<cell |acpi nodeset|pcie-root-port'"
show virsh start demo
show sh -c "readlink /sys/bus/pci/devices/$GPU0/driver"
printf '\nDevice Capabilities 2 of the root port in the guest: %s (bits 7, 8, 9: AtomicOps of 32, 64, 128 bits)\n' "$(devcap2 demo)"
printf 'Generic initiators on the command line of QEMU: %s\n' "$(tr '\0' '\n' </proc/"$(cat /run/libvirt/qemu/demo.pid)"/cmdline | grep -c acpi-generic-initiator)"
show virsh destroy demo
echo
echo "And back to what the user wrote:"
show variantctl revert demo
printf '\nThe GPU is back: driver %s, driver_override %s\n' "$(driver $GPU0 | sed 's/^$/none/')" "$(override $GPU0)"
