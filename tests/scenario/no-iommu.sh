# on: x86_64 intel_iommu=off
# A host whose IOMMU is off: 'variantctl doctor' reports it with the kernel argument, and no bind succeeds. Every other lab boots
# without that argument, and there the check passes.
#   tests/lab check --name off --kernel-argument intel_iommu=off no-iommu
[ -z "$(ls /sys/kernel/iommu_groups)" ] || fail 'the IOMMU is on'
found VD-DOC-001 'the IOMMU is off'
contains 'the hint' "$(variantctl doctor --only VD-DOC-001 || true)" "remove 'intel_iommu=off' from the kernel's command line"
stand_in $GPU0
! said=$(variantctl bind $GPU0 2>&1) || fail 'a device without an IOMMU is bound'
equal 'driver after the refusal' "$(driver $GPU0)" ''
printf '= %s\n' "$said"
