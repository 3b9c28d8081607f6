# 'variantctl doctor' passes on a ready host. The scenario makes faults; doctor finds each one's code, the printed command of
# its hint runs, and the check passes.
# deadline: 600
agent_settings
release=$(uname -r)
module=$(modinfo -n $VARIANT)
reset=/sys/bus/pci/devices/$GPU0/reset_method
node=/dev/vfio/$(basename "$(readlink "/sys/bus/pci/devices/$GPU0/iommu_group")")
blacklist=/etc/modprobe.d/doctor.conf

restore() {
    systemctl stop holder >/dev/null 2>&1 || true
    [ ! -e /tmp/aside.ko ] || { mv /tmp/aside.ko "$module"; depmod -a; }
    rm -f $blacklist
    echo default >$reset
    variantctl unreserve --now $GPU0 >/dev/null 2>&1 || true
    systemctl enable --quiet variantd variantd-reserve
    stand_in $GPU0
}
trap restore EXIT
stand_in $GPU0 vfio-pci

# A ready host.
within 30 ready
said=$(variantctl doctor)
equal 'what is quiet about a ready host' "$(variantctl doctor -q)" ''
equal 'next on a ready host' "$(tail -1 <<<"$said")" 'next: virsh define guest.xml'
printf '= %s\n' "$(tail -2 <<<"$said" | head -1)"
! grep -q 'UNKNOWN' <<<"$said" || fail "root does not see: $said"

# Without root it lists unknown facts, reports no failure, and names the command to run.
said=$(setpriv --reuid=65534 --regid=65534 --clear-groups variantctl doctor) || fail "without root: $said"
contains 'without root' "$said" 'UNKNOWN'
equal 'next without root' "$(tail -1 <<<"$said")" 'next: sudo variantctl doctor'

# The driver's module: a missing file, a stale index, a blacklist.
mv "$module" /tmp/aside.ko
found VD-DOC-011 'is gone'
depmod -a
found VD-DOC-010 "kernel $release offers no '$VARIANT'"
mv /tmp/aside.ko "$module"
found VD-DOC-010 'depmod -a'
fixed_by_hint VD-DOC-010
passes VD-DOC-011 || fail 'the module is not found again'
echo 'blacklist nvgrace-gpu-vfio-pci' >$blacklist
found VD-DOC-012 $blacklist
fixed_by_hint VD-DOC-012

# The device: a process holds it, and no reset method works.
systemd-run --quiet --unit=holder bash -c "exec 9<>$node; exec sleep infinity"
is_held() { ! passes VD-BND-005; }
within 10 is_held
found VD-BND-005 holder.service
fixed_by_hint VD-BND-005
echo >$reset
found VD-BND-008 'no way to reset it'
fixed_by_hint VD-BND-008

# A reserved device that is not bound, and the disabled unit that binds it at boot.
variantctl reserve $GPU0 >/dev/null
found VD-DOC-014 "instead of '$VARIANT'"
fixed_by_hint VD-DOC-014
systemctl disable --quiet variantd-reserve
found VD-DOC-049 variantd-reserve
fixed_by_hint VD-DOC-049
variantctl unreserve --now $GPU0 >/dev/null

# The record of an interrupted change of a device.
variantctl bind $GPU0 >/dev/null
sed -i 's/"phase": "bound"/"phase": "binding"/' /run/variantd/records/$GPU0.json
found VD-BND-004 'failed half-way'
fixed_by_hint VD-BND-004
equal 'driver once recovered' "$(driver $GPU0)" vfio-pci
within 30 ready
