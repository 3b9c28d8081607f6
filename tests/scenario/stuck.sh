# deadline: 900
# A device that cannot be bound: the refusal names the process that has it open through VFIO. A write that waits in the kernel
# ends in a timeout, is never repeated, and is undone when the kernel returns. Other devices and libvirt are not affected.
agent_settings
trap 'unwatch_libvirt; systemctl stop holder >/dev/null 2>&1 || true; /lab/outside gpu 0 ready; forget s0
    within 60 variantctl recover; stand_in $GPU0; stand_in $GPU1' EXIT
forget s0
stand_in $GPU0 vfio-pci
stand_in $GPU1 pci-stub
guest s0 $GPU0 >/tmp/s0.xml
virsh define /tmp/s0.xml >/dev/null
variantctl wait s0 >/dev/null
state() { echo "$(driver "$1")/$(override "$1")"; }
group=$(basename "$(readlink "/sys/bus/pci/devices/$GPU0/iommu_group")")
watch_libvirt version nodedev-list
# On such a busy machine 30 s are too short for a probe.
is_busy() { [ $timeout_s -gt 5 ]; }

# A program has it open, with or without its group: an open device file blocks an unbind until it is closed.
for alone in '' alone; do
    systemd-run --quiet --unit=holder perl "$PWD/hold.pl" $GPU0 "$group" $alone
    is_held() { variantctl show $GPU0 | grep -q '^held by .*perl (pid [0-9]*, holder.service'; }
    within 20 is_held
    for verb in "variantctl bind $GPU0" 'virsh start s0 --paused'; do
        ! said=$(timeout $((timeout_s + 5)) $verb 2>&1) || fail "it was taken: $verb"
        contains 'refusal' "$said" VD-BND-005
        contains 'refusal' "$said" 'systemctl stop holder.service'
    done
    systemctl stop holder
    equal 'state' "$(state $GPU0)" vfio-pci/vfio-pci
    printf '= %s\n' "$(grep -o "held by perl.*fd [0-9]*" <<<"$said" | head -1)"
done

# An administrator binds it and its probe waits, so an unbind waits, too.
echo $GPU0 >/sys/bus/pci/drivers/vfio-pci/unbind
echo $VARIANT >/sys/bus/pci/devices/$GPU0/driver_override
modprobe $VARIANT
/lab/outside gpu 0 never
echo $GPU0 >/sys/bus/pci/drivers/$VARIANT/bind &
binder=$!
is_probed() { [ "$(driver $GPU0)" = $VARIANT ]; }
within 60 is_probed
began=$SECONDS
! said=$(variantctl bind --driver vfio-pci $GPU0 2>&1) || fail 'it was bound'
took=$((SECONDS - began))
contains 'stuck write' "$said" VD-BND-031
contains 'stuck write' "$said" 'may still be in progress'
contains 'way out' "$said" 'variantctl recover'
[ $took -lt 25 ] || is_busy || fail "given up only after $took s"
printf "= given up after %s s: %s\n" $took "$(tail -1 <<<"$said")"

# The agent writes nothing else to it, the other device is not affected, and no guest gets this one.
writers() { pgrep -fc "variantd-child .* $GPU0"; }
for verb in "variantctl bind $GPU0" "variantctl recover $GPU0" 'virsh start s0 --paused'; do
    # The driver's 30 s may end before the last attempt.
    status=0
    said=$(timeout $((timeout_s + 5)) $verb 2>&1) || status=$?
    if [ "$(writers)" = 0 ] && is_busy; then break; fi
    equal 'writes under way' "$(writers)" 1
    [ $status != 0 ] || fail "it was taken: $verb"
    contains "$verb" "$said" VD-BND-0
    printf '= while it is under way, %s: %s\n' "$verb" "$(grep -o "'$GPU0'.*" <<<"$said" | head -1)"
done
variantctl bind $GPU1 >/dev/null
equal 'other device' "$(state $GPU1)" $VARIANT/$VARIANT
variantctl release $GPU1 >/dev/null
equal 'other device' "$(state $GPU1)" pci-stub/pci-stub

# The kernel returns, and the agent undoes its change.
/lab/outside gpu 0 ready
wait $binder || true
is_settled() { [ "$(writers)" = 0 ] && [ "$(variantctl recover 2>&1)" = 'no device was left half-way' ]; }
within 90 is_settled
equal 'state' "$(state $GPU0)" $VARIANT/$VARIANT
virsh start s0 --paused >/dev/null
virsh destroy s0 >/dev/null
libvirt_answered
