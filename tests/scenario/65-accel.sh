# Where the host's kernel has iommufd, the plan asks for an accelerated SMMUv3. Debian's kernel has the SMMU's driver
# built in, without its half of nesting (CONFIG_ARM_SMMU_V3_IOMMUFD): libvirt and iommufd do their part, and QEMU ends
# where it asks for the SMMU's registers. This says how far it gets; a kernel with that option would get farther.
# on: aarch64 iommufd
GUEST=/root/scenario/guest-arm.xml
trap 'forget s0' EXIT
modprobe iommufd
agent_settings
forget s0
stand_in $GPU0
before="$(driver $GPU0)/$(override $GPU0)"
EMULATED=no guest s0 $GPU0 >/tmp/s0.xml
virsh define /tmp/s0.xml >/dev/null
variantctl wait s0 >/dev/null
variantctl prepare --replace s0 >/dev/null
xml=$(inactive s0)
contains 'accelerated SMMU' "$xml" "accel='on'"
contains 'iommufd' "$xml" "<iommufd enabled='yes'/>"
! said=$(virsh start s0 2>&1) || fail 'the guest started: the kernel has the other half of nesting now, make this a test of it'
contains 'where QEMU ends' "$said" 'Wrong data type (0) for Host SMMUv3 device info'
echo '= QEMU takes iommufd and the character device, and ends at the host SMMU, whose driver has no nesting'
equal 'driver and override afterwards' "$(driver $GPU0)/$(override $GPU0)" "$before"
