# Prints packaging/doc/first-hour.md: the commands of a new user, from the package to a started guest and back, with their
# output. Runs in a fresh host. Letters replace process ids and times.
. ../lib.sh
set -eu
cd /root
trap 'remove_guests guest other; rm -f guest.xml other.xml' EXIT

say() { printf '\n%s\n' "$*"; }
tidy() {
    sed -E -e '/^\((Reading database|Lese Datenbank)/d; /^(Selecting|Preparing|Unpacking|Processing triggers)/d; /^Created symlink/d' \
        -e 's/\(pid [0-9]+/(pid N/; s/within [0-9]+ ms/within N ms/; s/[[:space:]]+$//' -e '/./,$!d'
}
# show COMMAND [STATUS]: runs the command, and prints it with its output; it must exit with STATUS (0)
show() {
    local status=0
    printf '\n    $ %s\n' "$1"
    bash -c "$1" >/tmp/said 2>&1 || status=$?
    tidy </tmp/said | sed 's/^./    &/'
    [ "$status" = "${2-0}" ] || fail "'$1' ended with status $status: $(cat /tmp/said)"
}

remove_guests guest other
dpkg -P variantd >/dev/null 2>&1 || true
systemctl restart libvirtd
set_driver $GPU0; set_driver $GPU1
guest guest $GPU0 >guest.xml
guest other $GPU0 >other.xml

echo '# The first hour'
say '`tests/lab demo --write` ran every command of this page in the emulated Grace host of the lab, which has two synthetic GPUs, and wrote
the output. [grace-guide.md](grace-guide.md) is for a real host.'

say '## Install'
show 'dpkg -i variantd.deb'
say 'The agent runs, and libvirt knows its hook. Check the host:'
show 'variantctl doctor'
show 'variantctl list'
show "variantctl show $GPU0"

say '## Define a guest'
say 'The definition has one plain `<hostdev>`:'
show "sed -n '/<hostdev/,/<\\/hostdev>/p' guest.xml"
say 'The plan shows what the definition lacks. It changes nothing:'
show "variantctl plan --diff guest.xml | grep '^#'"
show 'virsh define guest.xml'
say 'The agent completes the definition, which takes about as long as `virsh define` itself. A script waits for it:'
show 'variantctl wait guest'
show "virsh dumpxml --inactive guest | grep -E 'variantd:|<cell |acpi nodeset|pcie-root-port'"

say '## Start it'
show 'virsh start guest'
show 'variantctl list'
show "readlink /sys/bus/pci/devices/$GPU0/driver"
say "The guest's root port shows the AtomicOps that the GPU and its host port complete (bits 7, 8, 9 of Device Capabilities 2: $(devcap2 guest)),
and QEMU has $(tr '\0' '\n' </proc/"$(cat /run/libvirt/qemu/guest.pid)"/cmdline | grep -c acpi-generic-initiator) generic initiators on its command line."

say '## A refusal'
say 'Another guest has the same GPU:'
show 'virsh define other.xml >/dev/null && variantctl wait other' 
show 'virsh start other' 1
say 'Each refusal has a code:'
show 'variantctl explain VD-DEV-003'

say '## Stop it, and revert'
show 'virsh destroy guest'
show "ls /sys/bus/pci/devices/$GPU0/driver || echo 'no driver, as before'"
say '`revert` removes exactly what was added to the definition:'
show 'variantctl revert guest | head -1'
