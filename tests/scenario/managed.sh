# Starts and ends a guest with managed='yes' and 'no', with each release policy and from each driver. After the release the GPU
# must be on the driver that the policy names, independent of what libvirt does. Prints the driver at each hook call.
# deadline: 600
# by name
steps=/tmp/steps
hooks=/etc/libvirt/hooks/qemu.d
trap 'rm -f $hooks/00-state $hooks/zz-state; remove_guests m0; rm -f /etc/variantd/recipes.d/nvidia-grace.toml /etc/variantd/variantd.conf; systemctl restart variantd; set_driver $GPU0' EXIT
remove_guests m0

# If QEMU has no initiators or the kernel no variant driver, use a recipe without them.
qemu=$(virsh version | sed -n 's/^Running hypervisor: QEMU \([0-9]*\).*/\1/p')
modinfo -n $VARIANT >/dev/null 2>&1 || VARIANT=vfio-pci
if [ "$qemu" -lt 9 ] || [ $VARIANT = vfio-pci ]; then
    mkdir -p /etc/variantd/recipes.d
    awk '/^\[initiators\]/ { out = 1; next } /^\[/ { out = 0 } !out' /usr/share/variantd/recipes.d/nvidia-grace.toml |
        sed "s/^driver = .*/driver = \"$VARIANT\"/" >/etc/variantd/recipes.d/nvidia-grace.toml
fi

# Two more hooks log driver and override before and after variantd's hook, at each of libvirt's calls.
cat >$hooks/00-state <<EOF
#!/bin/sh
[ "\$1" = m0 ] || exit 0
driver=\$(readlink /sys/bus/pci/devices/$GPU0/driver) override=\$(cat /sys/bus/pci/devices/$GPU0/driver_override)
echo "\$2 \${0##*/} \${driver##*/}/\$override" >>$steps
EOF
chmod 755 $hooks/00-state
cp $hooks/00-state $hooks/zz-state

state() { echo "$(driver $GPU0)/$(override $GPU0)"; }
# logged OPERATION HOOK: the state that this hook logged
logged() { sed -n "s/^$1 $2-state //p" $steps | sed 's/(null)/-/' | tail -1; }

# wanted POLICY BEFORE: the driver and override that the GPU must have after a guest
wanted() {
    case $1 in
    previous) echo "$2" ;;
    keep) echo $VARIANT/$VARIANT ;;
    *) [ "${2%/*}" = "$1" ] && echo "$2" || echo "$1/$1" ;;
    esac
}

round() {
    local policy=$1 managed=$2 from=$3 before
    set_driver $GPU0 "$from"
    before=$(state)
    : >$steps
    virsh start m0 --paused >/dev/null
    equal "$policy, managed=$managed from $before: while running" "$(driver $GPU0)" $VARIANT
    virsh destroy m0 >/dev/null
    equal "$policy, managed=$managed from $before: afterwards" "$(state)" "$(wanted $policy "$before")"
    equal 'journal afterwards' "$(domain_records)" ''
    printf '= %s managed=%s: %s, bound %s, libvirt %s, stopped %s, libvirt %s, released %s\n' "$policy" $managed \
        "$(logged prepare 00)" "$(logged prepare zz)" "$(logged start 00)" "$(logged stopped zz)" "$(logged release 00)" "$(logged release zz)"
}

echo "= $(virsh version | sed -n 's/^Running hypervisor: //p'), libvirt $(virsh version | sed -n 's/^Using library: libvirt //p')"
for managed in yes no; do
    agent_settings
    guest m0 $GPU0 | sed "s/managed='yes'/managed='$managed'/" >/tmp/m0.xml
    virsh define /tmp/m0.xml >/dev/null
    variantctl wait m0 >/dev/null
    for policy in previous keep pci-stub; do
        agent_settings "release = \"$policy\""
        for from in '' pci-stub vfio-pci; do round $policy $managed "$from"; done
    done
    remove_guests m0
done
