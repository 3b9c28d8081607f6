# Completes and starts a 'virt' guest with a plain hostdev on an aarch64 host. It must get an expander bus, initiators and an
# MMIO window, boot under nested KVM, and see its GPU and eight initiator nodes. accel.sh tests the SMMUv3.
# on: aarch64
# deadline: 900
GUEST=/root/scenario/guest-arm.xml
without_smmu
trap 'remove_guests a0; with_smmu' EXIT
agent_settings
remove_guests a0
set_driver $GPU0
before="$(driver $GPU0)/$(override $GPU0)"
EMULATED=no guest a0 $GPU0 >/tmp/a0.xml
virsh define /tmp/a0.xml >/dev/null
variantctl wait --timeout 120 a0 >/dev/null
is_complete a0 || fail 'the definition is not complete'
xml=$(inactive a0)
contains 'expander bus' "$xml" "model='pcie-expander-bus'"
contains 'no SMMU' "none$(grep '<iommu' <<<"$xml" || true)" none

began=$SECONDS
virsh start a0 >/dev/null
equal 'driver while running' "$(driver $GPU0)" $VARIANT
within 300 has_booted a0
echo "= the guest has booted after $((SECONDS - began)) s"
seen=$(tr -d '\r' <$LOG/a0-serial.log)
contains 'the GPU in the guest' "$seen" '0x10de 0x2342'
contains 'initiator nodes in the guest' "$seen" 'has_generic_initiator=1-8'
gpu=$(sed -n 's/^L2-PCI \([0-9a-f:.]*\) 0x10de .*/\1/p' <<<"$seen")
equal 'node of the GPU in the guest' "$(sed -n 's/^L2-PCI .* 0x10de .* node=//p' <<<"$seen")" 0
for bar in 0 2 4; do contains "BAR $bar of the GPU in the guest" "$seen" "L2-BAR $gpu $bar 0x"; done
equal 'AtomicOp bits as the guest reads them' "$(grep -c '^L2-PCIE .* type=4 .*DEVCAP2=0x003003a0' <<<"$seen")" 1
virsh destroy a0 >/dev/null
equal 'driver and override afterwards' "$(driver $GPU0)/$(override $GPU0)" "$before"
