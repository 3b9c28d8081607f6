# First process of the namespaces in which a suite's libvirtd runs: mounts, starts it, and ends with its standard input.
#   init.sh ROOT
# Of the tree nothing changes but libvirt's cache of what its QEMUs can do, which makes the next start quick.
set -eu
root=$1

mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
for folder in run tmp var/lib/libvirt var/log dev/shm; do
    mkdir -p "$root/$folder"
    mount -t tmpfs tmpfs "$root/$folder"
done
mkdir -p "$root/run/libvirt" "$root/run/etc" "$root/run/vfio" "$root/var/log/libvirt" "$root/dev/vfio"
cp -a "$root/etc/libvirt/." "$root/run/etc"
mount --bind "$root/run/etc" "$root/etc/libvirt"

# libvirt takes a file of this name and any entry in this folder for a host that has VFIO
mount --bind "$root/run/vfio" "$root/dev/vfio"
touch "$root/dev/vfio/vfio"
mount -t tmpfs tmpfs "$root/sys/kernel/iommu_groups"
mkdir "$root/sys/kernel/iommu_groups/0"
# and a file of this name for a kernel that has iommufd
touch "$root/dev/iommu"

# definitions bind cells to the nodes of their own host, and libvirt asks whether such nodes exist
nodes=$root/sys/devices/system/node
mkdir "$root/run/node"
cp "$nodes/node0/cpulist" "$nodes/node0/cpumap" "$nodes/node0/meminfo" "$root/run/node"
mount -t tmpfs tmpfs "$nodes"
for node in $(seq 0 63); do
    mkdir "$nodes/node$node"
    cp "$root/run/node/meminfo" "$nodes/node$node"
    echo >"$nodes/node$node/cpulist"
    echo 0 >"$nodes/node$node/cpumap"
done
cp "$root/run/node/cpulist" "$root/run/node/cpumap" "$nodes/node0"
echo 0-63 | tee "$nodes/online" "$nodes/possible" "$nodes/has_memory" >"$nodes/has_normal_memory"

chroot "$root" /usr/sbin/libvirtd >"$root/var/log/libvirtd.log" 2>&1 &
echo started
cat >/dev/null
