# The agent checks the start of a guest whose GPU appeared after the agent's start, or while the agent was stopped. A GPU that
# is removed while a guest has it leaves no record behind.
# deadline: 600
agent_settings 'prepare = "on-request"' 'repair = false'
trap 'forget p0; [ -e /sys/bus/pci/devices/$GPU0 ] || echo 1 >/sys/bus/pci/rescan; systemctl restart variantd; stand_in $GPU0' EXIT
forget p0
stand_in $GPU0 pci-stub
guest p0 $GPU0 >/tmp/p0.xml
virsh define /tmp/p0.xml >/dev/null

listed() { grep -qx "$GPU0" /run/variantd/devices; }
unlisted() { ! listed; }
is_there() { [ -e "/sys/bus/pci/devices/$GPU0" ]; }
remove() { echo 1 >"/sys/bus/pci/devices/$GPU0/remove"; }
rescan() { echo 1 >/sys/bus/pci/rescan; is_there || fail 'the GPU does not come back'; }

# refused WHEN: the start of the incomplete guest, by the agent
refused() {
    local said
    ! said=$(virsh start p0 --paused 2>&1) || fail "the guest starts unchecked: $1"
    contains "refusal $1" "$said" 'VD-'
    printf '= %s: %s\n' "$1" "$(sed -n 's/.*exit status 1: //p' <<<"$said" | head -1 | cut -c1-160)"
}

listed || fail 'the GPU is not on the list at first'

# The agent starts without the GPU, which appears later.
remove
systemctl restart variantd
within 20 is_connected
unlisted || fail 'the GPU is on the list while it is not there'
rescan
refused 'right after it appeared'
within 10 listed

# It disappears and appears again while the agent runs.
remove
within 10 unlisted
rescan
within 10 listed
refused 'after it went and came'

# It appears while the agent is stopped: the hook knows its id, and its call starts the agent.
remove
within 10 unlisted
systemctl stop variantd
rescan
unlisted || fail 'the stopped agent cannot have listed it'
refused 'while the agent did not run'
within 20 is_connected
within 10 listed

# It is removed while a guest has it: the kernel waits until QEMU has closed it, then removes it.
stand_in $GPU0 pci-stub
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
equal 'driver after it came back' "$(driver $GPU0)" $VARIANT
virsh destroy p0 >/dev/null
within 60 no_guest
echo '= removed under a guest: nothing is left behind, and the guest starts again when the GPU is back'
