# Shared by the scenarios. Each runs inside the emulated host as root, under bash -eu. A line that begins
# with '= ' is a result; it is printed also when the scenario passes.

GPU0=0000:21:00.0
GPU1=0000:41:00.0
VARIANT=nvgrace_gpu_vfio_pci
GUEST=/root/scenario/guest.xml
LOG=/var/log/libvirt/qemu

fail() { printf 'failed: %s\n' "$*" >&2; exit 1; }

equal() { [ "$2" = "$3" ] || fail "$1: expected '$3', got '$2'"; }

# contains WHAT TEXT PART
contains() { case $2 in *"$3"*) ;; *) fail "$1: expected '$3' in: $2" ;; esac; }

# within SECONDS COMMAND...: until it succeeds
within() {
    local deadline=$(($(date +%s%N) + $1 * 1000000000)); shift
    until "$@" >/dev/null 2>&1; do
        [ "$(date +%s%N)" -lt $deadline ] || fail "not within time: $*"
        sleep 0.05
    done
}

driver() { basename "$(readlink "/sys/bus/pci/devices/$1/driver" 2>/dev/null)" 2>/dev/null || true; }
override() { cat "/sys/bus/pci/devices/$1/driver_override"; }

# held: the records of devices that guests have
held() { grep -ls '"domain"' /run/variantd/records/*.json || true; }

# no_guest: no guest has a device, by the records
no_guest() { [ -z "$(held)" ]; }

# without_initiators: from its next start on the agent uses a recipe for hosts whose QEMU has no initiators. A kernel before 6.8
# has no variant driver either: the recipe then has vfio-pci.
without_initiators() {
    modinfo -n $VARIANT >/dev/null 2>&1 || VARIANT=vfio-pci
    mkdir -p /etc/variantd/recipes.d
    awk '/^\[initiators\]/ { out = 1; next } /^\[/ { out = 0 } !out' /usr/share/variantd/recipes.d/nvidia-grace.toml |
        sed "s/^driver = .*/driver = \"$VARIANT\"/" >/etc/variantd/recipes.d/nvidia-grace.toml
}

# qemu_major: the first number of QEMU's version
qemu_major() { virsh version | sed -n 's/^Running hypervisor: QEMU \([0-9]*\).*/\1/p'; }

# stand_in DEVICE DRIVER: bind it by override, as an administrator would; no driver: leave it unbound
stand_in() {
    local dir=/sys/bus/pci/devices/$1
    [ ! -e "$dir/driver" ] || echo "$1" >"$dir/driver/unbind"
    printf '%s\n' "${2-}" >"$dir/driver_override"
    [ -n "${2-}" ] || return 0
    # A driver that registers now binds the device by its override.
    modprobe -q "$2" || true
    [ "$(driver "$1")" = "$2" ] || echo "$1" >"/sys/bus/pci/drivers/$2/bind"
}

# guest NAME [ADDRESS...]: the plain definition of a guest with these GPUs. Its processor is emulated by TCG inside the emulated
# host, so slow that only its firmware runs. That is enough for most scenarios, and safe: QEMU's emulation of nested
# virtualisation hangs sometimes. EMULATED=no: it boots.
guest() {
    local name=$1 devices='' address; shift
    for address in "$@"; do
        devices+="    <hostdev mode='subsystem' type='pci' managed='yes'>\n      <source>\n"
        devices+="        <address domain='0x${address:0:4}' bus='0x${address:5:2}' slot='0x${address:8:2}' function='0x${address:11:1}'/>\n"
        devices+="      </source>\n    </hostdev>\n"
    done
    awk -v name="$name" -v devices="$devices" '
        /<hostdev /, /<\/hostdev>/ { if (!done) printf "%s", devices; done = 1; next }
        { gsub("<name>guest</name>", "<name>" name "</name>"); gsub("guest-serial", name "-serial"); print }' $GUEST |
        if [ "${EMULATED-yes}" = yes ]; then sed "s/type='kvm'/type='qemu'/; s/<cpu mode=.*/<cpu mode='maximum'\/>/"; else cat; fi
}

# calibrate: sets timeout_s, the seconds that an answer may take: 5, or ten times the time of one call if that is more
calibrate() {
    local began
    began=$(date +%s%N)
    virsh -q version >/dev/null
    timeout_s=$((($(date +%s%N) - began) / 100000000))
    [ "$timeout_s" -gt 5 ] || timeout_s=5
}

answers() { timeout "$timeout_s" "$@" >/dev/null || fail "no answer within $timeout_s s: $*"; }

# watch_libvirt VERB...: calls virsh with these verbs every 3 s; libvirt_answered ends that, and fails if a call had no answer. A
# list of all guests waits for the hook of each guest that libvirt starts or ends.
watched=/run/lab-watched
answered=0
watch_libvirt() {
    calibrate
    : >$watched
    while sleep 3; do
        for verb in "$@"; do
            if timeout "$timeout_s" virsh -q $verb >/dev/null 2>&1; then echo answered; else echo "silent: $verb"; fi
        done
    done >>$watched &
    watcher=$!
}
unwatch_libvirt() { kill "${watcher-}" 2>/dev/null || true; }
libvirt_answered() {
    unwatch_libvirt
    ! grep -m1 silent $watched || fail "libvirt did not answer within $timeout_s s"
    answered=$((answered + $(wc -l <$watched)))
}

inactive() { virsh dumpxml --inactive "$1"; }

forget() {
    local name
    for name in "$@"; do
        virsh destroy "$name" >/dev/null 2>&1 || true
        virsh undefine --nvram "$name" >/dev/null 2>&1 || true
    done
}

# is_complete NAME: the inactive definition has what variantd adds, as elements or, for a libvirt without these
# elements, as arguments of QEMU
is_complete() {
    local xml; xml=$(inactive "$1")
    grep -q 'variantd:prepared' <<<"$xml" || return 1
    if grep -q '<qemu:commandline>' <<<"$xml"; then
        [ "$(grep -c "'acpi-generic-initiator,.*,pci-dev=ua-variantd-.*'" <<<"$xml")" = 8 ]
    else
        [ "$(grep -c "<cell id='[0-9]*' memory='0' unit='KiB'>" <<<"$xml")" = 8 ] &&
            grep -q "<acpi nodeset='1-8'/>" <<<"$xml"
    fi
}

# agent_settings [LINE...]: restarts the agent with this configuration, and waits for its connection to libvirt
agent_settings() {
    printf '%s\n' "$@" >/etc/variantd/variantd.conf
    systemctl restart variantd
    within 20 is_connected
}

# Only an agent with a connection to libvirt reports that a domain does not exist.
is_connected() {
    local status=0
    variantctl wait no-such-domain || status=$?
    [ $status = 3 ]
}

# devcap2 NAME: Device Capabilities 2 of the root port above the guest's hostdev, from the guest's config space (PCI
# Express capability of pcie-root-port at 0x54). The guest is suspended meanwhile, and its address register is restored.
devcap2() {
    local xml bus port slot function held
    xml=$(virsh dumpxml "$1")
    bus=$(sed -n '/<hostdev /,/<\/hostdev>/s/.*<address type=.pci.* bus=.0x\([0-9a-f]*\).*/\1/p' <<<"$xml" | head -1)
    port=$(sed -n "/<controller type='pci' index='$((0x$bus))' /,/<\/controller>/s/.*<address \(.*\)\/>/\1/p" <<<"$xml")
    slot=$(sed "s/.* slot='\([^']*\)'.*/\1/" <<<"$port")
    function=$(sed "s/.* function='\([^']*\)'.*/\1/" <<<"$port")
    virsh suspend "$1" >/dev/null
    held=$(port_in "$1" 0xcf8)
    port_out "$1" 0xcf8 "$(printf '%#x' $((0x80000000 | slot << 11 | function << 8 | 0x78)))"
    port_in "$1" 0xcfc
    port_out "$1" 0xcf8 "$held"
    virsh resume "$1" >/dev/null
}

port_in() { virsh qemu-monitor-command "$1" --hmp "i /w $2" | sed -n 's/.*= //p' | tr -d '\r'; }
port_out() { virsh qemu-monitor-command "$1" --hmp "o /w $2 $3" >/dev/null; }

# 'variantctl doctor'. one CODE: the line of a check
one() { variantctl doctor --only "$1" | grep -F "$1: " | head -1; }

# found CODE PART: the check fails with this in its line
found() {
    local line
    ! variantctl doctor -q --only "$1" >/dev/null || fail "$1 does not fail: $(one "$1")"
    line=$(variantctl doctor -q --only "$1" | grep -F "$1: " | head -1)
    contains "$1" "$line" ' : FAIL ('
    contains "$1" "$line" "$2"
    printf '= %s\n' "$(sed 's/^ *//; s/  */ /g' <<<"$line")"
}

passes() { variantctl doctor -q --strict --only "$1" >/dev/null; }

# fixed_by_hint CODE: the command in its hint fixes the check
fixed_by_hint() {
    local command
    command=$(variantctl doctor --json --only "$1" | sed -n 's/^ *"command": "\(.*\)",$/\1/p' | head -1)
    [ -n "$command" ] || fail "$1 has no command"
    equal "next of $1" "$(variantctl doctor --only "$1" | sed -n 's/^next: //p')" "$command"
    bash -c "$command" >/dev/null || fail "the command of $1 fails: $command"
    within 30 passes "$1"
}

ready() { variantctl doctor -q --strict >/dev/null; }

# Leftovers of an interrupted scenario must not fail the next one; after a reboot they are the scenario's own.
if [ "${PART-1}" = 1 ]; then
    leftovers=$(virsh list --all --name)
    [ -z "$leftovers" ] || forget $leftovers
fi
