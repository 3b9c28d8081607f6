# deadline: 900
# The start of a guest whose GPU does not become ready is refused after the driver's 30 s, and the GPU is on its previous driver.
# A start with a slow GPU succeeds. libvirt answers meanwhile, except calls that need the starting guest, as 'virsh list'
# does: libvirt locks a guest while its hook runs.
agent_settings
trap 'for gpu in 0 1; do /lab/outside gpu $gpu ready; done; forget p1 p2; stand_in $GPU0; stand_in $GPU1' EXIT
forget p1 p2
stand_in $GPU0 vfio-pci
stand_in $GPU1 pci-stub
guest p1 $GPU0 >/tmp/p1.xml
guest p2 $GPU0 $GPU1 >/tmp/p2.xml
for name in p1 p2; do
    virsh define /tmp/$name.xml >/dev/null
    variantctl wait $name >/dev/null
done
state() { echo "$(driver "$1")/$(override "$1")"; }
is_probed() { [ "$(state "$1")" = $VARIANT/$VARIANT ]; }

# as_before: both GPUs are on their previous driver, and no record is left
as_before() {
    [ "$(state $GPU0) $(state $GPU1)" = 'vfio-pci/vfio-pci pci-stub/pci-stub' ] && no_guest
}

# refused GUEST: its start is refused in time, and libvirt and the agent answer meanwhile
refused() {
    local began=$SECONDS pid listed=waits
    virsh start "$1" --paused >/tmp/said 2>&1 &
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
        "$(grep -o "cannot bind .*" /tmp/said | head -1)"
    contains 'refusal' "$(cat /tmp/said)" 'VD-BND-030'
    contains 'refusal' "$(cat /tmp/said)" "$GPU0"
    contains 'refusal' "$(cat /tmp/said)" 'within the driver'
    answers virsh -q list --all
    as_before || fail "not as before: $(state $GPU0) $(state $GPU1) $(held)"
}

calibrate
/lab/outside gpu 0 never
refused p1 p2
refused p2 p1

# It becomes ready late, and the guest starts.
virsh start p1 --paused >/tmp/said 2>&1 &
pid=$!
within 60 is_probed $GPU0
shown=$(variantctl show $GPU0)
listed=$(variantctl list 2>&1)
sleep 5
/lab/outside gpu 0 ready
wait $pid || fail "$(cat /tmp/said)"
equal 'state while running' "$(state $GPU0)" $VARIANT/$VARIANT
virsh destroy p1 >/dev/null
within 20 as_before
printf '= shown meanwhile: %s\n' "$(grep -i '^driver' <<<"$shown" | head -1)" "$(grep "$GPU0" <<<"$listed" | head -1)"
