# A refusal names the process or setting that prevents the bind, and the fix. Meanwhile libvirt answers, and the GPU stays
# on its driver. When the GPU is free, the guest starts.
agent_settings
trap 'systemctl stop holder >/dev/null 2>&1 || true; forget h0; echo default >$reset; stand_in $GPU0' EXIT
reset=/sys/bus/pci/devices/$GPU0/reset_method
node=/dev/vfio/$(basename "$(readlink "/sys/bus/pci/devices/$GPU0/iommu_group")")
forget h0
stand_in $GPU0 vfio-pci
guest h0 $GPU0 >/tmp/h0.xml
virsh define /tmp/h0.xml >/dev/null
variantctl wait h0 >/dev/null

# refused PART...: the start is refused with these words, and no device changes
refused() {
    local said part
    ! said=$(timeout 30 virsh start h0 2>&1) || fail 'the guest started'
    for part in "$@"; do contains 'refusal' "$said" "$part"; done
    timeout 5 virsh list --all >/dev/null || fail 'libvirt does not answer'
    equal 'driver' "$(driver $GPU0)/$(override $GPU0)" vfio-pci/vfio-pci
    equal 'journal' "$(held)" ''
    printf '= %s\n' "$(grep -o "'$GPU0': .*" <<<"$said" | head -1)"
}

# A service has the VFIO node open.
systemd-run --quiet --unit=holder bash -c "exec 9<>$node; exec sleep infinity"
is_shown() { variantctl show $GPU0 | grep -q "^held by .*sleep (pid [0-9]*, holder.service, '$node' as fd 9)"; }
within 10 is_shown
contains 'JSON' "$(variantctl show --json $GPU0 | tr -d ' \n')" '"fd":9'
refused VD-BND-005 "sleep (pid $(systemctl show -p MainPID --value holder), holder.service" 'systemctl stop holder.service'
systemctl stop holder

# It cannot be reset: its list of reset methods is empty, as an administrator can write it.
echo >$reset
refused VD-BND-008 'needs_reset = false'
echo default >$reset

virsh start h0 --paused >/dev/null
equal 'driver while running' "$(driver $GPU0)" $VARIANT
contains 'holder while running' "$(variantctl show $GPU0)" 'held by          qemu-system'
virsh destroy h0 >/dev/null
equal 'driver afterwards' "$(driver $GPU0)" vfio-pci
