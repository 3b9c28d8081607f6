# Boots a guest, which must see its GPU, its initiator nodes and the AtomicOp bits on its root port.
agent_settings
trap 'remove_guests d0' EXIT
EMULATED=no guest d0 $GPU0 >/tmp/d0.xml
virsh define /tmp/d0.xml >/dev/null
variantctl wait d0 >/dev/null
has_booted() {
    local wait
    rm -f $LOG/d0-serial.log
    virsh start d0 >/dev/null
    for wait in $(seq 90); do
        ! grep -q '^L2-END' $LOG/d0-serial.log 2>/dev/null || return 0
        sleep 1
    done
    virsh destroy d0 >/dev/null
    return 1
}
# A nested guest in emulation resets itself occasionally, also without devices, so it gets a second try.
has_booted || { echo '= the guest did not boot and was started again'; has_booted; } || fail 'the guest does not boot'
seen=$(tr -d '\r' <$LOG/d0-serial.log)
contains 'the GPU in the guest' "$seen" '0x10de 0x2342'
contains 'initiator nodes in the guest' "$seen" 'has_generic_initiator=1-8'
port=$(sed -n 's/^L2-PCIE .* type=4 .*DEVCAP2=\(0x[0-9a-f]*\) .*/\1/p' <<<"$seen")
for value in $port; do [ $((value & 0x380)) != $((0x380)) ] || found=yes; done
equal 'AtomicOp bits as the guest reads them' "${found-no}" yes
