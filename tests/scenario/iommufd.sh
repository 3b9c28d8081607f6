# Starts a guest whose host device uses iommufd. QEMU must open the variant driver's VFIO character device and /dev/iommu, and not
# the legacy container.
# on: iommufd
own=/etc/variantd/recipes.d/nvidia-grace.toml
trap 'remove_guests i0; rm -f $own; systemctl restart variantd' EXIT
mkdir -p "${own%/*}"
sed 's/^prepare = .*/&\niommufd = "require"/; /^\[smmu\]/,/^\[/s/^need = .*/need = "ignore"/' \
    /usr/share/variantd/recipes.d/nvidia-grace.toml >$own
modprobe iommufd
agent_settings
remove_guests i0
set_driver $GPU0
before="$(driver $GPU0)/$(override $GPU0)"
EMULATED=yes
if [ "$(uname -m)" = aarch64 ]; then EMULATED=no GUEST=/root/scenario/guest-arm.xml; fi
guest i0 $GPU0 >/tmp/i0.xml
virsh define /tmp/i0.xml >/dev/null
variantctl wait i0 >/dev/null
contains 'iommufd in the definition' "$(inactive i0)" "iommufd='yes'"
virsh start i0 >/dev/null
equal 'driver' "$(driver $GPU0)" $VARIANT
qemu=$(cat /run/libvirt/qemu/i0.pid)
arguments=$(tr '\0' '\n' <"/proc/$qemu/cmdline")
contains 'iommufd object' "$arguments" '"qom-type":"iommufd"'
contains 'device on iommufd' "$arguments" '"iommufd":"iommufd0"'
files=$(ls -l "/proc/$qemu/fd" | sed -n 's/.* -> //p')
contains 'character device' "$files" /dev/vfio/devices/vfio
contains 'iommufd' "$files" /dev/iommu
case $files in *"/dev/vfio/vfio"*) fail 'the legacy VFIO container is open, too' ;; esac
virsh destroy i0 >/dev/null
equal 'driver and override afterwards' "$(driver $GPU0)/$(override $GPU0)" "$before"
