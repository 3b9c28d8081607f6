# The plan adds an SMMUv3 where the host's kernel supports nested translation. Debian's kernel builds the SMMU driver without
# CONFIG_ARM_SMMU_V3_IOMMUFD, so the plan leaves the SMMUv3 out and names the reason. A forged kernel configuration makes the
# plan add it: libvirt and iommufd then accept the guest, and QEMU ends when it reads the registers of the host's SMMU.
# on: aarch64 iommufd
GUEST=/root/scenario/guest-arm.xml
config=/boot/config-$(uname -r)
cp "$config" /tmp/config 2>/dev/null || : >/tmp/config
trap 'forget s0; cp /tmp/config "$config"; systemctl restart variantd' EXIT
modprobe iommufd
agent_settings
forget s0
stand_in $GPU0
before="$(driver $GPU0)/$(override $GPU0)"
EMULATED=no guest s0 $GPU0 >/tmp/s0.xml
grep -v CONFIG_ARM_SMMU_V3_IOMMUFD /tmp/config >"$config" || true
virsh define /tmp/s0.xml >/dev/null
contains 'why there is no SMMU' "$(variantctl wait s0 2>&1)" CONFIG_ARM_SMMU_V3_IOMMUFD
contains 'no SMMU' "none$(inactive s0 | grep '<iommu ' || true)" none
echo CONFIG_ARM_SMMU_V3_IOMMUFD=y >>"$config"
variantctl prepare s0 >/dev/null
xml=$(inactive s0)
contains 'accelerated SMMU' "$xml" "accel='on'"
contains 'iommufd' "$xml" "iommufd='yes'"
! said=$(virsh start s0 2>&1) || fail 'the guest started: the kernel supports nesting now; test a running guest here'
contains 'where QEMU ends' "$said" 'Wrong data type (0) for Host SMMUv3 device info'
echo '= QEMU takes iommufd and the character device, and ends at the host SMMU, whose driver has no nesting'
equal 'driver and override afterwards' "$(driver $GPU0)/$(override $GPU0)" "$before"
