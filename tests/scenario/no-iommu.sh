# on: x86_64 intel_iommu=off
# A host whose IOMMU is off: 'variantctl doctor' says so, names the word that did it, and no device is bound. The way out,
# a boot without that word, is every other lab: there doctor finds the check passed.
#   tests/lab check --name off --kernel-argument intel_iommu=off no-iommu
[ -z "$(ls /sys/kernel/iommu_groups)" ] || fail 'the IOMMU is on'
found VD-DOC-001 'the IOMMU is off'
contains 'the hint' "$(variantctl doctor --only VD-DOC-001 || true)" "remove 'intel_iommu=off' from the kernel's command line"
stand_in $GPU0
! said=$(variantctl bind $GPU0 2>&1) || fail 'a device without an IOMMU is bound'
equal 'driver after the refusal' "$(driver $GPU0)" ''
printf '= %s\n' "$said"
