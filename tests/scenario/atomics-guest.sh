# The position of a device in the guest's topology decides whether QEMU sets AtomicOp bits on the root port. Each cell starts
# a guest, and the bits on its root ports must equal those that `variantctl atomics` predicted for this version of QEMU.
# deadline: 600
. atomics/lib.sh
. atomics/guest.sh
QEMU=$(virsh version | sed -n 's/^Running hypervisor: QEMU \([0-9.]*\).*/\1/p')
trap 'remove_guests cell; rebind_default $OWN $PAIR0 $PAIR1 $SWITCHED' EXIT
remove_guests cell
bind_vfio $OWN $PAIR0 $PAIR1 $SWITCHED
# Only the bits of the endpoint and of the ports above it matter. The switch routes AtomicOps.
for selector in slot=11 slot=12 $OWN $PAIR0 $PAIR1 $SWITCHED; do bits "$selector" 380; done
for selector in slot=13 $UPSTREAM slot=14; do bits "$selector" 3c0; done

echo "= QEMU $QEMU, kernel $(uname -r)"
PORTS=$(port 1 2)$(port 2 3)$(port 3 4)
started "$PORTS$(hostdev $OWN 1 0 0)$(hostdev $SWITCHED 2 0 1)$(hostdev $PAIR0 3 0 0 "multifunction='on'")$(hostdev $PAIR1 0 9 0)" \
    "own root port=0:2=$OWN" "function 1=0:3=$SWITCHED" "multifunction flag alone=0:4=$PAIR0" "on the root bus==$PAIR1"
both="$(hostdev $OWN 1 0 0 "multifunction='on'")$(hostdev $SWITCHED 1 0 1)"
started "$PORTS$(upstream 4 2)$(downstream 5 4)$both$(hostdev $PAIR0 5 0 0)$(hostdev $PAIR1 3 0 0)" \
    "slot with two functions, the first=0:2=$OWN" "slot with two functions, the second=0:2=$SWITCHED" \
    "behind an emulated switch=0:3=$PAIR0" "function 1 of the host's slot, alone=0:4=$PAIR1"
both="$(hostdev $OWN 1 0 0)$(hostdev $PAIR0 1 0 1)"
started "$(port 1 2)$(expander 2 128 4)$(port 3 0 2)$(MODEL=ioh3420 port 4 3)$both$(hostdev $SWITCHED 3 0 0)$(hostdev $PAIR1 4 0 0)" \
    "two functions, the flag left to libvirt=0:2=$OWN" "an expander's root port, a switch of the host=128:0=$SWITCHED" \
    "root port of another model=0:3=$PAIR1"

bits $OWN 080; bits $SWITCHED 180; bits $PAIR0 200; bits $PAIR1 0
started "$PORTS$(port 4 5)$(hostdev $OWN 1 0 0)$(hostdev $SWITCHED 2 0 0)$(hostdev $PAIR0 3 0 0)$(hostdev $PAIR1 4 0 0)" \
    "host reports 32=0:2=$OWN" "host reports 32 and 64=0:3=$SWITCHED" "host reports 128=0:4=$PAIR0" "host reports none=0:5=$PAIR1"
bits $OWN 380; bits $SWITCHED 380; bits slot=14 380
started "$PORTS$(hostdev $OWN 1 0 0)$(hostdev $SWITCHED 2 0 0)" \
    "two devices on two ports=0:2=$OWN" "behind a switch of the host without routing=0:3=$SWITCHED" 'no device=0:4='

# A port gets its bits when a device is hot-plugged, and loses them when it is unplugged.
hostdev $OWN 1 0 0 >/tmp/device.xml
begin "$PORTS"
virsh attach-device cell /tmp/device.xml --live --config >/dev/null
inactive cell >/tmp/cell.xml
compare "hot-plugged=0:2=$OWN" 'other port=0:3='
virsh detach-device cell /tmp/device.xml --live >/dev/null &
within 60 eject cell
is_gone() { ! virsh dumpxml cell | grep -q '<hostdev'; }
within 60 is_gone
wait
compare 'hot-unplugged=0:2='
virsh destroy cell >/dev/null
all_agree
