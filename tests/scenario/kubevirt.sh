# The node hook of KubeVirt's plugin with the real agent and driver, called as virt-handler does by the client of the crate's tests. It
# binds a guest's GPU before the start, records the guest, and releases the GPU after the stop. A killed, stopped or missing agent
# forgets no device.
# by name
# crates: kubevirt
# deadline: 900
here=$PWD
socket=/run/lab-node-hook/node.sock
pod=0b7c1f5e-1111-4222-8333-444455556666
slice=kubepods-pod${pod//-/_}.slice
drop_in=/run/systemd/system/variantd.service.d
restore() {
    # One unit that was not started would keep the others running.
    for unit in lab-node-hook lab-launcher lab-user; do systemctl stop $unit >/dev/null 2>&1 || true; done
    systemctl unmask variantd >/dev/null 2>&1 || true
    /lab/outside gpu 0 ready
    rm -rf /run/lab-node-hook $drop_in/kubevirt.conf /tmp/vmi-*.json
    systemctl daemon-reload
    systemctl restart variantd-hook.socket variantd
    within 30 is_connected
    variantctl release $GPU0 >/dev/null 2>&1
    variantctl recover >/dev/null 2>&1
    set_driver $GPU0
}
trap restore EXIT
mkdir -p /run/lab-node-hook
agent_settings 'prepare = "on-request"'
set_driver $GPU0 pci-stub
state() { echo "$(driver $GPU0)/$(override $GPU0)"; }
is_released() { [ "$(state)" = pci-stub/pci-stub ] && [ ! -e /run/variantd/records/$GPU0.json ]; }
is_bound() { [ "$(state)" = $VARIANT/$VARIANT ]; }
main() { systemctl show -p MainPID --value variantd; }
# has_guest NUMBER: the record names this guest
has_guest() {
    local record; record=$(cat /run/variantd/records/$GPU0.json)
    contains 'record' "$record" "\"uuid\": \"6f1f0b9e-3c1e-4b3a-9a39-0d0c7b9f6a0$1\""
    contains 'record' "$record" "\"name\": \"default/vmi-$1\""
}

# virt-launcher of the guest's pod, with what a device plugin has passed to it
systemd-run --quiet --unit=lab-launcher --slice=$slice --setenv=PCI_RESOURCE_NVIDIA_COM_GH200=$GPU0 sleep infinity
systemd-run --quiet --unit=lab-node-hook "$here/variantd-kubevirt" node-hook --socket $socket
for number in 1 2; do
    cat >/tmp/vmi-$number.json <<END
{"metadata":{"name":"vmi-$number","namespace":"default","uid":"6f1f0b9e-3c1e-4b3a-9a39-0d0c7b9f6a0$number"},
 "spec":{"domain":{"devices":{"gpus":[{"name":"gpu1","deviceName":"nvidia.com/GH200"}]}}},"status":{"activePods":{"$pod":"node1"}}}
END
done
listens() { [ -S $socket ]; }
within 30 listens

# call POINT NUMBER: sets 'answer' to the hook's answer
call() {
    answer=$(VARIANTD_NODE_HOOK=$socket VARIANTD_POINT=$1 VARIANTD_VMI=/tmp/vmi-$2.json VARIANTD_NODE=node1 \
        "$here/protocol" --ignored --exact --nocapture node::one_call_of_another_hook 2>&1 | sed -n 's/^.*answer: //p')
}
succeeds() { call "$@"; equal "$1 of vmi-$2" "$answer" done; }
is_done() { call "$@"; [ "$answer" = done ]; }

succeeds PreVMStart 1
is_bound || fail "not bound: $(state)"
has_guest 1
succeeds PreVMStart 1
contains 'state' "$(variantctl list)" $VARIANT
# QEMU in virt-launcher has the device open: no other guest gets it.
node=/dev/vfio/$(basename "$(readlink "/sys/bus/pci/devices/$GPU0/iommu_group")")
systemd-run --quiet --unit=lab-user bash -c "exec 9<>$node; exec sleep infinity"
within 10 systemctl is-active lab-user
call PreVMStart 2
contains 'another guest' "$answer" "vmi-1"
has_guest 1
echo "= another guest: $answer"

# A killed agent starts again and keeps the device, although libvirt knows no such guest.
kill -9 "$(main)"
within 60 is_connected
variantctl recover >/dev/null
is_bound || fail "an agent that was killed has released the device: $(state)"
has_guest 1
echo '= an agent that was killed keeps the device of a guest that libvirt does not know'

# The guest ends while no agent runs: the call fails, the repeated one releases.
systemctl stop lab-user
systemctl mask --now variantd >/dev/null 2>&1
call PostVMStop 1
contains 'release without an agent' "$answer" Unavailable
is_bound || fail 'the device was released without an agent'
echo "= no agent: $answer"
systemctl unmask variantd >/dev/null 2>&1
systemctl start variantd
within 60 is_done PostVMStop 1
is_released || fail "not released: $(state)"
succeeds PostVMStop 1

# The agent is killed during the bind, while the driver waits for the GPU.
/lab/outside gpu 0 never
is_under_way() { pgrep -f 'variantd-child write-attribute / bind' >/dev/null; }
(within 60 is_under_way; kill -9 "$(main)") &
call PreVMStart 1
wait
/lab/outside gpu 0 ready
[ "$answer" != done ] || fail 'a bind whose agent was killed is reported as done'
echo "= the agent is killed in the call: $answer"
within 90 is_done PreVMStart 1
is_bound || fail "not bound: $(state)"
has_guest 1

# The guest stops while the agent is killed; virt-handler calls again.
kill -9 "$(main)"
within 60 is_done PostVMStop 1
is_released || fail "not released: $(state)"
echo '= bound before the start and released after the stop, with the guest in the record, through three kills of the agent'
