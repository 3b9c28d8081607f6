# Starts a guest whose GPU is held by a service, and one whose GPU cannot be reset. The refusal must name the reason and the
# fix, libvirt must answer meanwhile, and the GPU must stay on its driver. Once the GPU is free the guest must start.
agent_settings
trap 'systemctl stop holder >/dev/null 2>&1 || true; remove_guests h0; echo default >$reset; set_driver $GPU0' EXIT
reset=/sys/bus/pci/devices/$GPU0/reset_method
node=/dev/vfio/$(basename "$(readlink "/sys/bus/pci/devices/$GPU0/iommu_group")")
remove_guests h0
set_driver $GPU0 vfio-pci
guest h0 $GPU0 >/tmp/h0.xml
virsh define /tmp/h0.xml >/dev/null
variantctl wait h0 >/dev/null

# refused PART...: the start must be refused with these texts, and the GPU must stay unchanged
refused() {
    local printed part
    ! printed=$(timeout 30 virsh start h0 2>&1) || fail 'the guest started'
    for part in "$@"; do contains 'refusal' "$printed" "$part"; done
    timeout 5 virsh list --all >/dev/null || fail 'libvirt does not answer'
    equal 'driver' "$(driver $GPU0)/$(override $GPU0)" vfio-pci/vfio-pci
    equal 'journal' "$(domain_records)" ''
    printf '= %s\n' "$(grep -o "'$GPU0': .*" <<<"$printed" | head -1)"
}

# A service has the VFIO node open.
systemd-run --quiet --unit=holder bash -c "exec 9<>$node; exec sleep infinity"
is_shown() { variantctl show $GPU0 | grep -q "^held by .*sleep (pid [0-9]*, holder.service, '$node' as fd 9)"; }
within 10 is_shown
contains 'JSON' "$(variantctl show --json $GPU0 | tr -d ' \n')" '"fd":9'
refused VD-BND-005 "sleep (pid $(systemctl show -p MainPID --value holder), holder.service" 'systemctl stop holder.service'
systemctl stop holder

# The GPU cannot be reset: the administrator wrote an empty list of reset methods.
echo >$reset
refused VD-BND-008 'needs_reset = false'
echo default >$reset

virsh start h0 --paused >/dev/null
equal 'driver while running' "$(driver $GPU0)" $VARIANT
contains 'holder while running' "$(variantctl show $GPU0)" 'held by          qemu-system'
virsh destroy h0 >/dev/null
equal 'driver afterwards' "$(driver $GPU0)" vfio-pci
