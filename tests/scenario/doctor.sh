# Runs 'variantctl doctor' on a ready host, where it must pass. Then makes faults of module, device and reservation: doctor must
# find each by its code, and pass after the printed command ran.
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
    set_driver $GPU0
}
trap restore EXIT
set_driver $GPU0 vfio-pci

# A ready host.
within 30 ready
printed=$(variantctl doctor)
equal 'quiet output on a ready host' "$(variantctl doctor -q)" ''
equal 'next on a ready host' "$(tail -1 <<<"$printed")" 'next: virsh define guest.xml'
printf '= %s\n' "$(tail -2 <<<"$printed" | head -1)"
! grep -q 'UNKNOWN' <<<"$printed" || fail "root does not see: $printed"

# Without root it prints UNKNOWN for checks without access, fails none, and names the command to run as root.
printed=$(setpriv --reuid=65534 --regid=65534 --clear-groups variantctl doctor) || fail "without root: $printed"
contains 'without root' "$printed" 'UNKNOWN'
equal 'next without root' "$(tail -1 <<<"$printed")" 'next: sudo variantctl doctor'

# The driver's module: missing file, outdated index, blacklist.
mv "$module" /tmp/aside.ko
found VD-DOC-011 'is gone'
depmod -a
found VD-DOC-010 "kernel $release offers no '$VARIANT'"
mv /tmp/aside.ko "$module"
found VD-DOC-010 'depmod -a'
fixed VD-DOC-010
passes VD-DOC-011 || fail 'doctor does not find the restored module'
echo 'blacklist nvgrace-gpu-vfio-pci' >$blacklist
found VD-DOC-012 $blacklist
fixed VD-DOC-012

# The device: a service has it open, and it has no reset method.
systemd-run --quiet --unit=holder bash -c "exec 9<>$node; exec sleep infinity"
is_held() { ! passes VD-BND-005; }
within 10 is_held
found VD-BND-005 holder.service
fixed VD-BND-005
echo >$reset
found VD-BND-008 'no reset method for it'
fixed VD-BND-008

# Reserved and not bound; then the unit that binds it at boot is disabled.
variantctl reserve $GPU0 >/dev/null
found VD-DOC-014 "instead of '$VARIANT'"
fixed VD-DOC-014
systemctl disable --quiet variantd-reserve
found VD-DOC-049 variantd-reserve
fixed VD-DOC-049
variantctl unreserve --now $GPU0 >/dev/null

# A record of an interrupted bind.
variantctl bind $GPU0 >/dev/null
sed -i 's/"phase": "bound"/"phase": "binding"/' /run/variantd/records/$GPU0.json
found VD-BND-004 'was interrupted'
fixed VD-BND-004
equal 'driver once recovered' "$(driver $GPU0)" vfio-pci
within 30 ready
