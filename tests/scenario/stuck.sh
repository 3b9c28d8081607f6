# deadline: 900
# Binds a device that a program has open through VFIO, and one whose probe blocks in the kernel. The refusal must name the program.
# The agent must stop waiting for a blocked write in time, never repeat it, and undo its own steps once the kernel answers. Other
# devices and libvirt must keep working.
agent_settings
trap 'unwatch_libvirt; systemctl stop holder >/dev/null 2>&1 || true; /lab/outside gpu 0 ready; remove_guests s0
    within 60 variantctl recover; set_driver $GPU0; set_driver $GPU1' EXIT
remove_guests s0
set_driver $GPU0 vfio-pci
set_driver $GPU1 pci-stub
guest s0 $GPU0 >/tmp/s0.xml
virsh define /tmp/s0.xml >/dev/null
variantctl wait s0 >/dev/null
state() { echo "$(driver "$1")/$(override "$1")"; }
group=$(basename "$(readlink "/sys/bus/pci/devices/$GPU0/iommu_group")")
watch_libvirt version nodedev-list
# On a very busy machine the probe's 30 s may end before all is tried.
is_busy() { [ $timeout_s -gt $fastest_s ]; }

# A program has the device open, with its group or without: an open device file alone blocks an unbind.
for alone in '' alone; do
    systemd-run --quiet --unit=holder perl "$PWD/hold.pl" $GPU0 "$group" $alone
    is_held() { variantctl show $GPU0 | grep -q '^held by .*perl (pid [0-9]*, holder.service'; }
    within 20 is_held
    for verb in "variantctl bind $GPU0" 'virsh start s0 --paused'; do
        ! printed=$(timeout $((timeout_s + 5)) $verb 2>&1) || fail "the device was bound: $verb"
        contains 'refusal' "$printed" VD-BND-005
        contains 'refusal' "$printed" 'systemctl stop holder.service'
    done
    systemctl stop holder
    equal 'state' "$(state $GPU0)" vfio-pci/vfio-pci
    printf '= %s\n' "$(grep -o "in use by perl.*fd [0-9]*" <<<"$printed" | head -1)"
done

# An administrator binds the device and its probe blocks, so an unbind blocks, too.
echo $GPU0 >/sys/bus/pci/drivers/vfio-pci/unbind
echo $VARIANT >/sys/bus/pci/devices/$GPU0/driver_override
modprobe $VARIANT
/lab/outside gpu 0 never
echo $GPU0 >/sys/bus/pci/drivers/$VARIANT/bind &
binder=$!
is_probed() { [ "$(driver $GPU0)" = $VARIANT ]; }
within 60 is_probed
began=$SECONDS
! printed=$(variantctl bind --driver vfio-pci $GPU0 2>&1) || fail 'the device was bound'
took=$((SECONDS - began))
contains 'stuck write' "$printed" VD-BND-031
contains 'stuck write' "$printed" 'may still be in progress'
contains 'hint' "$printed" 'variantctl recover'
[ $took -lt 25 ] || is_busy || fail "the agent answered only after $took s"
printf "= answered after %s s: %s\n" $took "$(tail -1 <<<"$printed")"

# The agent starts no second write. Other devices keep working, and no guest gets this one.
writers() { pgrep -fc "variantd-child .* $GPU0"; }
for verb in "variantctl bind $GPU0" "variantctl recover $GPU0" 'virsh start s0 --paused'; do
    # The driver's 30 s may end before all verbs are tried.
    status=0
    printed=$(timeout $((timeout_s + 5)) $verb 2>&1) || status=$?
    if [ "$(writers)" = 0 ] && is_busy; then break; fi
    equal 'writes under way' "$(writers)" 1
    [ $status != 0 ] || fail "the device was bound: $verb"
    contains "$verb" "$printed" VD-BND-0
    printf '= while it is under way, %s: %s\n' "$verb" "$(grep -o "'$GPU0'.*" <<<"$printed" | head -1)"
done
variantctl bind $GPU1 >/dev/null
equal 'other device' "$(state $GPU1)" $VARIANT/$VARIANT
variantctl release $GPU1 >/dev/null
equal 'other device' "$(state $GPU1)" pci-stub/pci-stub

# The kernel answers, and the agent undoes its incomplete steps.
/lab/outside gpu 0 ready
wait $binder || true
is_settled() { [ "$(writers)" = 0 ] && [ "$(variantctl recover 2>&1)" = 'no device has an interrupted change' ]; }
within 90 is_settled
equal 'state' "$(state $GPU0)" $VARIANT/$VARIANT
virsh start s0 --paused >/dev/null
virsh destroy s0 >/dev/null
libvirt_answered
