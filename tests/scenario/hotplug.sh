# Removes and rescans a GPU before and after the agent's start, while the agent is stopped, and while a guest has it. The start of
# an incomplete guest must always be refused, and after a removal under a guest no record may be left.
# deadline: 600
agent_settings 'prepare = "on-request"' 'repair = false'
trap 'remove_guests p0; [ -e /sys/bus/pci/devices/$GPU0 ] || echo 1 >/sys/bus/pci/rescan; systemctl restart variantd; set_driver $GPU0' EXIT
remove_guests p0
set_driver $GPU0 pci-stub
guest p0 $GPU0 >/tmp/p0.xml
virsh define /tmp/p0.xml >/dev/null

listed() { grep -qx "$GPU0" /run/variantd/devices; }
unlisted() { ! listed; }
is_there() { [ -e "/sys/bus/pci/devices/$GPU0" ]; }
remove() { echo 1 >"/sys/bus/pci/devices/$GPU0/remove"; }
rescan() { echo 1 >/sys/bus/pci/rescan; is_there || fail 'the rescan does not find the GPU'; }

# refused WHEN: the agent must refuse the start of the incomplete guest
refused() {
    local printed
    ! printed=$(virsh start p0 --paused 2>&1) || fail "the guest starts unchecked: $1"
    contains "refusal $1" "$printed" 'VD-'
    printf '= %s: %s\n' "$1" "$(sed -n 's/.*exit status 1: //p' <<<"$printed" | head -1 | cut -c1-160)"
}

listed || fail 'the GPU is not on the list at first'

# The agent starts without the GPU, which appears later.
remove
systemctl restart variantd
within 20 is_connected
unlisted || fail 'the GPU is on the list although it is removed'
rescan
refused 'right after it appeared'
within 10 listed

# The GPU is removed and rescanned while the agent runs.
remove
within 10 unlisted
rescan
within 10 listed
refused 'after removal and rescan'

# The GPU appears while the agent is stopped: the hook knows its PCI id, and its call starts the agent.
remove
within 10 unlisted
systemctl stop variantd
rescan
unlisted || fail 'the GPU is on the list although the agent is stopped'
refused 'while the agent did not run'
within 20 is_connected
within 10 listed

# The GPU is removed while a guest has it: the kernel completes the removal after QEMU has closed the device.
set_driver $GPU0 pci-stub
variantctl prepare p0 >/dev/null
virsh start p0 --paused >/dev/null
equal 'driver of the guest' "$(driver $GPU0)" $VARIANT
remove &
removal=$!
sleep 1
virsh destroy p0 >/dev/null
wait $removal
settled() { no_guest && unlisted; }
within 60 settled
variantctl recover >/dev/null
rescan
within 10 listed
virsh start p0 --paused >/dev/null
equal 'driver after the rescan' "$(driver $GPU0)" $VARIANT
virsh destroy p0 >/dev/null
within 60 no_guest
echo '= removed under a guest: no record is left, and the guest starts again after a rescan'
