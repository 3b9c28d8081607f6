# If the host's kernel supports nested SMMUv3, the plan adds an accelerated SMMU. Debian's kernel lacks
# CONFIG_ARM_SMMU_V3_IOMMUFD, so the plan must omit it and name the reason. Then a kernel configuration file claims the option:
# the plan must add the SMMU, libvirt must accept it, and QEMU must exit when it reads the SMMU's registers through iommufd.
# A kernel with that option would get further.
# on: aarch64 iommufd
GUEST=/root/scenario/guest-arm.xml
config=/boot/config-$(uname -r)
cp "$config" /tmp/config 2>/dev/null || : >/tmp/config
trap 'remove_guests s0; cp /tmp/config "$config"; systemctl restart variantd' EXIT
modprobe iommufd
agent_settings
remove_guests s0
set_driver $GPU0
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
! printed=$(virsh start s0 2>&1) || fail 'the guest started: this kernel supports a nested SMMU, so extend this scenario'
contains 'error of QEMU' "$printed" 'Wrong data type (0) for Host SMMUv3 device info'
echo '= QEMU accepts iommufd and the character device, and exits because the driver of the host SMMU does not support nesting'
equal 'driver and override afterwards' "$(driver $GPU0)/$(override $GPU0)" "$before"
