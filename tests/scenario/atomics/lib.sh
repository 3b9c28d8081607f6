# Shared by the AtomicOps scenarios: the plain devices of the emulated host, their bits, and the predictions.

HERE=/root/scenario/atomics
OWN=0000:01:00.0        # alone on a root port
PAIR0=0000:02:00.0      # two functions on one root port
PAIR1=0000:02:00.1
UPSTREAM=0000:03:00.0   # a switch, with SWITCHED below the first of its ports
SWITCHED=0000:05:00.0
INTEGRATED=0000:00:06.0 # on the root bus
OLD=0000:07:00.0        # its PCI Express capability is of version 1

WIDTHS='080=32 100=64 200=128'
wrong=0

# bind_vfio DEVICE...: binds them to vfio-pci
bind_vfio() {
    local device
    for device in "$@"; do set_driver "$device" vfio-pci; done
}

# rebind_default DEVICE...: rebinds them to the driver that the kernel chooses
rebind_default() {
    local device
    for device in "$@"; do
        set_driver "$device"
        echo "$device" >/sys/bus/pci/drivers_probe
    done
}

# bits SELECTOR HEX: sets the AtomicOp bits of a device or port of the emulated host
bits() { /lab/outside atomics "$1" "$2" >/dev/null || fail "cannot set the bits of $1"; }

# predicted WHAT DEVICE ARGUMENT...: prints the bits by `variantctl atomics`; WHAT is host, guest, verdict or vfio
predicted() {
    local what=$1 device=$2; shift 2
    variantctl atomics "$device" --json "$@" | perl "$HERE/predicted.pl" "$what" "$device"
}

# names BITS: the widths in decimal
names() {
    local pair found=''
    [ "$1" != open ] || { echo open; return; }
    for pair in $WIDTHS; do
        [ $((0x${1#0x} & 0x${pair%=*})) = 0 ] || found+="${found:+ }${pair#*=}"
    done
    echo "${found:-none}"
}

# cell NAME EXPECTED FOUND: prints a line of the table. A difference fails the scenario after the last cell.
cell() {
    local word=ok
    [ "$2" = open ] || [ $(($2)) = $(($3)) ] || { word='DIFFERS'; wrong=$((wrong + 1)); }
    printf '= %-46s predicted %-10s found %-10s %s\n' "$1" "$(names "$2")" "$(names "$3")" "$word"
}

all_agree() { [ $wrong = 0 ] || fail "$wrong cells differ"; }
