# Shared functions. Each scenario runs inside the emulated host as root, under bash -eu. A line that begins with '= ' is a
# result: the lab shows it also when the scenario passes.

GPU0=0000:21:00.0
GPU1=0000:41:00.0
VARIANT=nvgrace_gpu_vfio_pci
GUEST=/root/scenario/guest.xml
LOG=/var/log/libvirt/qemu

fail() { printf 'failed: %s\n' "$*" >&2; exit 1; }

equal() { [ "$2" = "$3" ] || fail "$1: expected '$3', got '$2'"; }

# contains WHAT TEXT PART
contains() { case $2 in *"$3"*) ;; *) fail "$1: expected '$3' in: $2" ;; esac; }

# Waits without a new process: nothing is ever written into this pipe. In the emulated host each process costs about 50 ms.
exec {silent}<> <(:)
pause() { read -rt "$1" -u $silent || true; }

# succeeds_within SECONDS COMMAND...: repeats the command until it succeeds; status 1 after that time
succeeds_within() {
    local end=$((SECONDS + $1)); shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -le $end ] || return 1
        pause 0.1
    done
}

# within SECONDS COMMAND...: the same, but fails after that time
within() { succeeds_within "$@" || fail "not within $1 s: ${*:2}"; }

driver() { local path; path=$(readlink "/sys/bus/pci/devices/$1/driver" 2>/dev/null) || true; echo "${path##*/}"; }
override() { local text; read -r text <"/sys/bus/pci/devices/$1/driver_override"; echo "$text"; }

# domain_records: the record files of devices that a domain owns
domain_records() { grep -ls '"domain"' /run/variantd/records/*.json || true; }

# no_guest: no record names a domain
no_guest() { [ -z "$(domain_records)" ]; }

# without_initiators: installs a recipe for hosts whose QEMU has no generic initiators; the agent reads it at its next start.
# Kernels before 6.8 have no variant driver either: then VARIANT becomes vfio-pci.
without_initiators() {
    modinfo -n $VARIANT >/dev/null 2>&1 || VARIANT=vfio-pci
    mkdir -p /etc/variantd/recipes.d
    awk '/^\[initiators\]/ { out = 1; next } /^\[/ { out = 0 } !out' /usr/share/variantd/recipes.d/nvidia-grace.toml |
        sed "s/^driver = .*/driver = \"$VARIANT\"/" >/etc/variantd/recipes.d/nvidia-grace.toml
}

# without_smmu: installs a recipe that needs no SMMU; the agent reads it at its next start. 'with_smmu' removes it.
without_smmu() {
    mkdir -p /etc/variantd/recipes.d
    sed '/^\[smmu\]/,/^\[/s/^need = .*/need = "ignore"/' /usr/share/variantd/recipes.d/nvidia-grace.toml >/etc/variantd/recipes.d/nvidia-grace.toml
}
with_smmu() {
    rm -f /etc/variantd/recipes.d/nvidia-grace.toml
    systemctl restart variantd
}

# qemu_major: the first number of QEMU's version
qemu_major() { virsh version | sed -n 's/^Running hypervisor: QEMU \([0-9]*\).*/\1/p'; }

# set_driver DEVICE [DRIVER]: binds the device with driver_override, as an administrator would; without DRIVER it stays unbound
set_driver() {
    local dir=/sys/bus/pci/devices/$1
    [ ! -e "$dir/driver" ] || echo "$1" >"$dir/driver/unbind"
    printf '%s\n' "${2-}" >"$dir/driver_override"
    [ -n "${2-}" ] || return 0
    # A driver that registers now binds the device because of its override.
    modprobe -q "$2" || true
    [ "$(driver "$1")" = "$2" ] || echo "$1" >"/sys/bus/pci/drivers/$2/bind"
}

# guest NAME [ADDRESS...]: prints the definition of a guest with these GPUs and without any element of variantd. By default
# its processor is emulated (TCG inside the emulated host): only its firmware gets time to run. This avoids QEMU's emulation of
# nested virtualisation, which hangs occasionally. EMULATED=no: nested KVM, and the guest boots.
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

# has_booted NAME [TIMES]: the guest's kernel has written its report that often
has_booted() { [ "$(grep -ac '^L2-END' "$LOG/$1-serial.log")" -ge "${2-1}" ]; }

# boot NAME SECONDS: starts a guest that has a kernel, and waits for its report. QEMU's emulation of nested virtualisation damages the
# registers of a guest occasionally, also without devices: its kernel panics, or it resets. So a guest gets five tries.
boot() {
    local try
    for try in 1 2 3 4 5; do
        rm -f "$LOG/$1-serial.log"
        virsh start "$1" >/dev/null
        succeeds_within "$2" has_stopped_or_booted "$1" || true
        ! has_booted "$1" || return 0
        tail -n 5 "$LOG/$1-serial.log" | tr -d '\r'
        virsh destroy "$1" >/dev/null 2>&1 || true
        echo "= the guest did not boot at try $try"
    done
    fail 'the guest does not boot'
}

has_stopped_or_booted() { grep -Eaq '^L2-END|end Kernel panic' "$LOG/$1-serial.log" || [ ! -e "/run/libvirt/qemu/$1.pid" ]; }

# calibrate: sets timeout_s, the seconds that an answer of libvirt may take: ten times the slowest of three calls, at least 10. A hook
# that waits for a silent agent blocks a start for 20 s (hooks/src/agent.rs), so such a wait is found.
fastest_s=10
calibrate() {
    local began took slowest=0
    for _ in 1 2 3; do
        began=$(date +%s%N)
        virsh -q version >/dev/null
        took=$((($(date +%s%N) - began) / 100000000))
        [ $took -le $slowest ] || slowest=$took
    done
    timeout_s=$slowest
    [ "$timeout_s" -gt $fastest_s ] || timeout_s=$fastest_s
}

answers() { timeout "$timeout_s" "$@" >/dev/null || fail "no answer within $timeout_s s: $*"; }

# watch_libvirt VERB...: calls virsh with each of these every 3 s in the background. libvirt_answered stops that, and fails if
# one call had no answer in time. 'list --all' waits for the hook of each guest that libvirt starts or stops.
watched=/run/lab-watched
answered=0
watch_libvirt() {
    calibrate
    : >$watched
    while pause 3; do
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

# install_packages: copies the packages of the scenario's head into this host, for those that must be there when it boots
install_packages() {
    local part
    [ -e /dev/disk/by-label/packages ] || fail "the lab was started without these packages: run 'tests/lab down' first"
    mount -t ext4 -o ro /dev/disk/by-label/packages /mnt
    for part in usr etc var/lib; do [ ! -d /mnt/$part ] || cp -a /mnt/$part/. /$part/; done
    umount /mnt
}

# with_packages COMMAND...: runs it with the packages of the scenario's head (`# packages: NAME...`) below /usr
with_packages() {
    [ -e /dev/disk/by-label/packages ] || fail "the lab was started without these packages: run 'tests/lab down' first"
    unshare --mount sh -ec '
        mount -t ext4 -o ro /dev/disk/by-label/packages /mnt
        mount -t overlay -o ro,lowerdir=/mnt/usr:/usr overlay /usr
        exec "$@"' with_packages "$@"
}

inactive() { virsh dumpxml --inactive "$1"; }

remove_guests() {
    local name
    for name in "$@"; do
        virsh "destroy $name; undefine --nvram $name" >/dev/null 2>&1 || true
    done
}

# is_complete NAME: the inactive definition has the elements that variantd adds, or QEMU arguments if this libvirt has no
# elements for them
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

# agent_settings [LINE...]: restarts the agent with this configuration and waits until it is connected to libvirt
agent_settings() {
    printf '%s\n' "$@" >/etc/variantd/variantd.conf
    systemctl restart variantd
    within 20 is_connected
}

# Status 3 means "no such domain": only an agent that is connected to libvirt can answer that.
is_connected() {
    local status=0
    variantctl wait no-such-domain || status=$?
    [ $status = 3 ]
}

# devcap2 NAME: prints Device Capabilities 2 of the root port above the guest's hostdev, read from the guest's config space
# (pcie-root-port has its PCI Express capability at 0x54). The guest is paused meanwhile, and the address register 0xcf8 is
# restored.
devcap2() {
    local xml bus port slot function saved
    xml=$(virsh dumpxml "$1")
    bus=$(sed -n '/<hostdev /,/<\/hostdev>/s/.*<address type=.pci.* bus=.0x\([0-9a-f]*\).*/\1/p' <<<"$xml" | head -1)
    port=$(sed -n "/<controller type='pci' index='$((0x$bus))' /,/<\/controller>/s/.*<address \(.*\)\/>/\1/p" <<<"$xml")
    slot=$(sed "s/.* slot='\([^']*\)'.*/\1/" <<<"$port")
    function=$(sed "s/.* function='\([^']*\)'.*/\1/" <<<"$port")
    virsh suspend "$1" >/dev/null
    saved=$(port_in "$1" 0xcf8)
    port_out "$1" 0xcf8 "$(printf '%#x' $((0x80000000 | slot << 11 | function << 8 | 0x78)))"
    port_in "$1" 0xcfc
    port_out "$1" 0xcf8 "$saved"
    virsh resume "$1" >/dev/null
}

port_in() { virsh qemu-monitor-command "$1" --hmp "i /w $2" | sed -n 's/.*= //p' | tr -d '\r'; }
port_out() { virsh qemu-monitor-command "$1" --hmp "o /w $2 $3" >/dev/null; }

# Functions for 'variantctl doctor'.
# check_line CODE: prints the line of a check
check_line() { variantctl doctor --only "$1" | grep -F "$1: " | head -1; }

# found CODE PART: the check must fail, and its line must contain PART
found() {
    local printed line
    ! printed=$(variantctl doctor -q --only "$1") || fail "$1 does not fail: $(check_line "$1")"
    line=$(grep -F "$1: " <<<"$printed" | head -1)
    contains "$1" "$line" ' : FAIL ('
    contains "$1" "$line" "$2"
    printf '= %s\n' "$(sed 's/^ *//; s/  */ /g' <<<"$line")"
}

passes() { variantctl doctor -q --strict --only "$1" >/dev/null; }

# fixed CODE: runs the command of the hint; then the check must pass
fixed() {
    local command
    command=$(variantctl doctor --json --only "$1" | sed -n 's/^ *"command": "\(.*\)",$/\1/p' | head -1)
    [ -n "$command" ] || fail "$1 has no command"
    equal "next of $1" "$(variantctl doctor --only "$1" | sed -n 's/^next: //p')" "$command"
    bash -c "$command" >/dev/null || fail "the command of $1 fails: $command"
    within 30 passes "$1"
}

ready() { variantctl doctor -q --strict >/dev/null; }

# Removes guests that an aborted scenario left. After a reboot (PART 2) the guests belong to this scenario.
if [ "${PART-1}" = 1 ]; then
    leftovers=$(virsh list --all --name)
    [ -z "$leftovers" ] || remove_guests $leftovers
fi

# confined_crash GUEST LABEL_COMMAND LABEL: the agent crashes under a running guest; the next one has this label and releases the GPU
confined_crash() {
    virsh start "$1" --paused >/dev/null
    kill -9 "$(pid)"
    within 60 is_connected
    equal 'label of the next agent' "$($2 "$(pid)")" "$3"
    virsh destroy "$1" >/dev/null
    within 60 is_restored
}

# confined_units GUEST: the questions to QEMU, the shared transport, a bind, a reservation and udev's rule
confined_units() {
    systemctl restart variantd-probe
    [ -s /run/variantd-probe/answer.json ] || fail 'QEMU did not answer'
    systemctl start variantd-connect.socket
    virsh -c 'qemu+unix:///system?socket=/run/variantd/libvirt-sock' dumpxml "$1" >/dev/null || fail 'the shared socket does not serve'
    variantctl bind $GPU0 >/dev/null
    variantctl release $GPU0 >/dev/null
    variantctl reserve $GPU0 >/dev/null
    udevadm trigger --action=add --settle /sys/bus/pci/devices/$GPU0
    systemctl start variantd-reserve
    variantctl unreserve --now $GPU0 >/dev/null
    systemctl reload variantd
}

# qemu_capability set|remove: CAP_IPC_LOCK as a file capability of QEMU, as some administrators give it
qemu_capability() {
    perl -e '
        my ($verb, $file) = @ARGV;
        my ($name, $value, $size, $flags) = ("security.capability", pack("V5", 0x02000001, 1 << 14, 0, 0, 0), 20, 0);
        my $failed = $verb eq "set" ? syscall(188, $file, $name, $value, $size, $flags) : syscall(197, $file, $name);
        die "$file: $!\n" if $failed' "$1" /usr/bin/qemu-system-x86_64
}
