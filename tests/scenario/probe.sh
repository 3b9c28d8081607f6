# deadline: 900
# Starts guests with a GPU that never becomes ready, or becomes ready slowly. The start must be refused after the driver's 30 s
# with the GPU on its previous driver, or succeed. Meanwhile libvirt must answer calls that do not concern this guest: libvirt
# keeps the guest locked while its hook runs, so 'list --all' may wait.
agent_settings
trap 'for gpu in 0 1; do /lab/outside gpu $gpu ready; done; remove_guests p1 p2; set_driver $GPU0; set_driver $GPU1' EXIT
remove_guests p1 p2
set_driver $GPU0 vfio-pci
set_driver $GPU1 pci-stub
guest p1 $GPU0 >/tmp/p1.xml
guest p2 $GPU0 $GPU1 >/tmp/p2.xml
for name in p1 p2; do
    virsh define /tmp/$name.xml >/dev/null
    variantctl wait $name >/dev/null
done
state() { echo "$(driver "$1")/$(override "$1")"; }
is_probed() { [ "$(state "$1")" = $VARIANT/$VARIANT ]; }

# as_before: both GPUs are on their previous drivers, and no record names a domain
as_before() {
    [ "$(state $GPU0) $(state $GPU1)" = 'vfio-pci/vfio-pci pci-stub/pci-stub' ] && no_guest
}

# refused GUEST OTHER: the start of GUEST must be refused in time; meanwhile libvirt and the agent must answer
refused() {
    local began=$SECONDS pid listed=waits
    virsh start "$1" --paused >/tmp/printed 2>&1 &
    pid=$!
    within 60 is_probed $GPU0
    ! timeout $timeout_s virsh -q list --all >/dev/null || listed=answers
    while kill -0 $pid 2>/dev/null; do
        answers virsh -q version
        answers virsh -q nodedev-list
        answers virsh -q dumpxml "$2"
        answers variantctl list
        [ $((SECONDS - began)) -lt 90 ] || fail 'the start is not refused in time'
        sleep 1
    done
    ! wait $pid || fail 'the guest started'
    printf '= refused after %s s, a list of all guests %s meanwhile: %s\n' $((SECONDS - began)) $listed \
        "$(grep -o "cannot bind .*" /tmp/printed | head -1)"
    contains 'refusal' "$(cat /tmp/printed)" 'VD-BND-030'
    contains 'refusal' "$(cat /tmp/printed)" "$GPU0"
    contains 'refusal' "$(cat /tmp/printed)" 'within the driver'
    answers virsh -q list --all
    as_before || fail "not as before: $(state $GPU0) $(state $GPU1) $(domain_records)"
}

calibrate
/lab/outside gpu 0 never
refused p1 p2
refused p2 p1

# The GPU becomes ready late, and the guest starts.
virsh start p1 --paused >/tmp/printed 2>&1 &
pid=$!
within 60 is_probed $GPU0
shown=$(variantctl show $GPU0)
listed=$(variantctl list 2>&1)
sleep 5
/lab/outside gpu 0 ready
wait $pid || fail "$(cat /tmp/printed)"
equal 'state while running' "$(state $GPU0)" $VARIANT/$VARIANT
virsh destroy p1 >/dev/null
within 20 as_before
printf '= shown meanwhile: %s\n' "$(grep -i '^driver' <<<"$shown" | head -1)" "$(grep "$GPU0" <<<"$listed" | head -1)"
