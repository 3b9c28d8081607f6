# on: x86_64 intel_iommu=off
# On a host with the IOMMU off 'variantctl doctor' must fail and name the kernel argument that disabled it, and the agent must
# refuse to bind. Every other lab boots without that argument; there this check passes.
#   tests/lab check --name off --kernel-argument intel_iommu=off no-iommu
[ -z "$(ls /sys/kernel/iommu_groups)" ] || fail 'the IOMMU is on'
found VD-DOC-001 'the IOMMU is off'
contains 'the hint' "$(variantctl doctor --only VD-DOC-001 || true)" "remove 'intel_iommu=off' from the kernel's command line"
set_driver $GPU0
! printed=$(variantctl bind $GPU0 2>&1) || fail 'a device without an IOMMU is bound'
equal 'driver after the refusal' "$(driver $GPU0)" ''
printf '= %s\n' "$printed"
