# Boots a guest, which must see its GPU, its initiator nodes and the AtomicOp bits on its root port.
# deadline: 700
agent_settings
trap 'remove_guests d0' EXIT
EMULATED=no guest d0 $GPU0 >/tmp/d0.xml
virsh define /tmp/d0.xml >/dev/null
variantctl wait d0 >/dev/null
boot d0 150
seen=$(tr -d '\r' <$LOG/d0-serial.log)
contains 'the GPU in the guest' "$seen" '0x10de 0x2342'
contains 'initiator nodes in the guest' "$seen" 'has_generic_initiator=1-8'
port=$(sed -n 's/^L2-PCIE .* type=4 .*DEVCAP2=\(0x[0-9a-f]*\) .*/\1/p' <<<"$seen")
for value in $port; do [ $((value & 0x380)) != $((0x380)) ] || found=yes; done
equal 'AtomicOp bits as the guest reads them' "${found-no}" yes
