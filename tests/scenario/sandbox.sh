# Starts each unit without one of its permissions at a time. The first step of the unit that then fails must be the one that sandbox.md
# names, so no permission is there that nothing needs. With all permissions each step must succeed.
# by name
# deadline: 5400
page=$(mktemp)
printed=$(mktemp)
other=vfio-pci
agent_settings
trap 'restore >/dev/null 2>&1 || true' EXIT
dpkg-deb --fsys-tarfile /root/variantd.deb | tar -xO ./usr/share/doc/variantd/sandbox.md >$page

# A program of another user has the VFIO node open.
hold() {
    set_driver $GPU0 $other
    local node=/dev/vfio/$(basename "$(readlink "/sys/bus/pci/devices/$GPU0/iommu_group")")
    within 10 test -e $node
    chmod 666 $node
    systemd-run --quiet --unit=holder --uid=daemon bash -c "exec 9<>$node; exec sleep infinity"
    within 10 is_open $node
}
is_open() { ls -l "/proc/$(systemctl show -p MainPID --value holder)/fd" | grep -q "$1"; }
unload() { set_driver $GPU0; modprobe -r $VARIANT; }
is_bound() { [ "$(driver $GPU0)" = $VARIANT ]; }
is_restored() { [ "$(driver $GPU0)" = pci-stub ] && no_guest; }
restart() { timeout 40 systemctl restart "$1"; }

# The steps of each unit. A step makes what it needs, so it does not depend on the one before it.
variantd='serve load-module name-holder read-path see-change run-guest'
serve() { restart variantd && succeeds_within 20 is_connected; }
load-module() { unload; variantctl bind $GPU0 && is_bound && variantctl release $GPU0; }
name-holder() {
    hold
    ! variantctl bind $GPU0 >$printed.holder 2>&1 || return 1
    grep -q 'sleep (pid.*VD-BND-005' $printed.holder
}
# The recipe asks for the link of the device's path, which config space beyond its first 64 bytes has.
read-path() {
    local own=/etc/variantd/recipes.d/nvidia-grace.toml
    mkdir -p ${own%/*}
    sed '/^\[placement\]/a link = true' /usr/share/variantd/recipes.d/nvidia-grace.toml >$own
    systemctl reload variantd
    virsh undefine p0 && virsh define /tmp/p0.xml && succeeds_within 60 is_complete p0 && inactive p0 | grep -q x-speed
}
see-change() {
    local watcher seen=1
    variantctl --json monitor >$printed.events &
    watcher=$!
    ! succeeds_within 20 grep -q "\"subject\":\"$GPU0\"" $printed.events || { set_driver $GPU0 pci-stub; seen=0; }
    [ $seen = 1 ] || succeeds_within 10 grep -q '"driver":"pci-stub"' $printed.events || seen=1
    kill -INT $watcher
    wait $watcher || true
    return $seen
}
run-guest() {
    set_driver $GPU0 pci-stub
    virsh start p0 --paused && is_bound && virsh destroy p0 && succeeds_within 30 is_restored
}

variantd_reserve='load-module-at-boot name-holder-at-boot log-at-boot'
load-module-at-boot() { unload; variantctl reserve $GPU0; restart variantd-reserve && is_bound; }
name-holder-at-boot() {
    local since=$(date +%s)
    hold
    variantctl reserve $GPU0
    restart variantd-reserve || true
    journalctl -q -u variantd-reserve --since "@$since" -o cat | grep 'sleep (pid.*VD-BND-005'
}

# The message that a device was bound has its id (packaging/journal/variantd.catalog).
log-at-boot() {
    local since=$(date +%s)
    set_driver $GPU0
    variantctl reserve $GPU0
    restart variantd-reserve
    journalctl -q -u variantd-reserve --since "@$since" -o cat MESSAGE_ID=b9a1c3de5f0742d8a6c41e8f7d2b9350 | grep $GPU0
}

variantd_probe='ask-qemu'
ask-qemu() {
    rm -f /run/variantd-probe/answer.json
    qemu_capability set
    restart variantd-probe && grep acpi-generic-initiator /run/variantd-probe/answer.json
}

variantd_connect='forward'
forward() { systemctl restart variantd-connect.socket; virsh -c 'qemu+unix:///system?socket=/run/variantd/libvirt-sock' dumpxml p0; }

# restore: undoes what the steps did, with a unit that has all permissions
restore() {
    local unit
    systemctl stop holder >/dev/null 2>&1 || true
    for unit in variantd variantd-reserve variantd-probe variantd-connect@; do rm -rf /run/systemd/system/$unit.service.d; done
    rm -f /etc/variantd/reserved.d/* /etc/variantd/recipes.d/nvidia-grace.toml
    qemu_capability remove 2>/dev/null || true
    systemctl daemon-reload
    systemctl reset-failed
    systemctl restart variantd
    systemctl stop variantd-connect.socket
    within 30 is_connected
    virsh destroy p0 >/dev/null 2>&1 || true
    variantctl release $GPU0 >/dev/null 2>&1 || true
    set_driver $GPU0
}

# first_failure UNIT [PERMISSION]: prints the first step that fails without this permission, or 'none'
first_failure() {
    local setting='' steps=${1//-/_} step folder=/run/systemd/system/${1/%connect/connect@}.service.d
    case ${2-} in
    CAP_*) setting=CapabilityBoundingSet=~$2 ;;
    @*) setting=SystemCallFilter=~$2 ;;
    AF_*) setting=RestrictAddressFamilies=~$2 ;;
    esac
    restore
    mkdir -p $folder
    printf '%s\n' '[Service]' Restart=no "$setting" >$folder/without.conf
    systemctl daemon-reload
    [ $1 != variantd ] || restart variantd || true
    for step in ${!steps}; do
        if ! ($step) >$printed 2>&1 </dev/null; then
            echo $step
            return
        fi
        systemctl stop holder 2>/dev/null || true
    done
    echo none
}

guest p0 $GPU0 >/tmp/p0.xml
virsh define /tmp/p0.xml >/dev/null
within 60 is_complete p0
for unit in variantd variantd-reserve variantd-probe variantd-connect; do
    failed=$(first_failure $unit)
    [ "$failed" = none ] || fail "$unit with all permissions: '$failed' fails: $(cat $printed)"
done

# The rows `| PERMISSION | UNIT, UNIT | REASON | STEP, STEP |` of the page
rows=$(awk '/^## Permissions of each unit/ { inside = 1; next } /^## / { inside = 0 } inside && /^\| (CAP_|@|AF_)/' $page)
count=0
while IFS='|' read -r _ permission names _ expected _; do
    expected=(${expected//,/ })
    for unit in ${names//,/ }; do
        failed=$(first_failure $unit ${permission// /})
        [ "$failed" = "${expected[0]-}" ] || wrong+="$unit without $permission: expected '${expected[0]-}', got '$failed': $(tail -3 $printed | cut -c1-400)"$'\n'
        expected=("${expected[@]:1}")
        count=$((count + 1))
        echo "= $unit without ${permission// /}: $failed"
    done
done <<<"$rows"
[ -z "${wrong-}" ] || fail "$wrong"
[ $count -ge 15 ] || fail "only $count permissions"
