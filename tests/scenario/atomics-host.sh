# For each kind of PCIe path to a device: the AtomicOps that VFIO_DEVICE_GET_INFO reports must equal those that
# `variantctl atomics` predicted for this kernel from config space alone.
# deadline: 600
. atomics/lib.sh
ALL="$OWN $PAIR0 $PAIR1 $SWITCHED $INTEGRATED $OLD"
trap 'clear; rebind_default $ALL' EXIT
clear() {
    local selector
    for selector in slot=11 slot=12 slot=13 slot=14 slot=16 $UPSTREAM $OWN $PAIR0 $PAIR1 $SWITCHED $INTEGRATED; do
        /lab/outside atomics "$selector" 0 >/dev/null || true
    done
}

# check NAME DEVICE: one cell. The prediction is made first, because the VFIO query enables AtomicOp requests in the device.
check() {
    local expected found printed
    expected=$(predicted host "$2")
    found=$(perl "$HERE/vfio-info.pl" "$2")
    cell "$1" "$expected" "$found"
    printed=$(predicted vfio "$2" --ask-vfio)
    equal "--ask-vfio, $1" "$((printed))" "$((found))"
}

bind_vfio $ALL
echo "= kernel $(uname -r)"
for pair in 000/380 080/380 100/380 180/380 380/380 380/000 380/080 380/180 380/200 100/080; do
    bits slot=11 ${pair%/*}; bits $OWN ${pair#*/}
    check "root port $(names ${pair%/*}), device $(names ${pair#*/})" $OWN
done

bits slot=12 380; bits $PAIR0 380; bits $PAIR1 180
check 'function 0 of two' $PAIR0
check 'function 1 of two' $PAIR1

# switch NAME ROOT UPSTREAM DOWNSTREAM: one cell for a path through the switch, with the bits of these ports
switch() {
    bits slot=13 "$2"; bits $UPSTREAM "$3"; bits slot=14 "$4"
    check "switch: $1" $SWITCHED
}
bits $SWITCHED 380
switch 'no port routes' 380 0 0
switch 'only the upstream port routes' 380 40 0
switch 'only the downstream port routes' 380 0 40
switch 'both route, root port does not' 380 40 40
switch 'all three route' 3c0 40 40
switch 'ports complete and do not route' 380 380 380
switch 'root port 32 and 64' 180 40 40
switch 'upstream port blocks egress' 380 40+blocked 40
switch 'downstream port blocks egress' 380 40 40+blocked
switch 'root port blocks egress' 380+blocked 40 40
bits slot=13 0; bits $UPSTREAM 0; bits slot=14 0
bits slot=11 380+blocked; bits $OWN 380
check 'own root port that blocks egress' $OWN
bits slot=11 0

bits $INTEGRATED 380
check 'integrated endpoint' $INTEGRATED
bits slot=16 380
check 'capability of version 1' $OLD
all_agree
