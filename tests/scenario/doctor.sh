# 'variantctl doctor' passes on a ready host; each fault that is made here is found by its code, the command in its
# hint is run as it is printed, and the check passes.
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

# Without root it says what it did not see, fails nothing, and says what to run.
said=$(setpriv --reuid=65534 --regid=65534 --clear-groups variantctl doctor) || fail "without root: $said"
contains 'without root' "$said" 'UNKNOWN'
equal 'next without root' "$(tail -1 <<<"$said")" 'next: sudo variantctl doctor'

# The driver's module: its file, the index, a blacklist.
mv "$module" /tmp/aside.ko
found VD-DOC-011 'is gone'
depmod -a
found VD-DOC-010 "kernel $release offers no '$VARIANT'"
mv /tmp/aside.ko "$module"
found VD-DOC-010 'depmod -a'
mended VD-DOC-010
passes VD-DOC-011 || fail 'the module is not found again'
echo 'blacklist nvgrace-gpu-vfio-pci' >$blacklist
found VD-DOC-012 $blacklist
mended VD-DOC-012

# The device: somebody holds it, nothing resets it.
systemd-run --quiet --unit=holder bash -c "exec 9<>$node; exec sleep infinity"
is_held() { ! passes VD-BND-005; }
within 10 is_held
found VD-BND-005 holder.service
mended VD-BND-005
echo >$reset
found VD-BND-008 'no way to reset it'
mended VD-BND-008

# Reserved, and not bound; the unit that binds it at boot is off.
variantctl reserve $GPU0 >/dev/null
found VD-DOC-014 "instead of '$VARIANT'"
mended VD-DOC-014
systemctl disable --quiet variantd-reserve
found VD-DOC-049 variantd-reserve
mended VD-DOC-049
variantctl unreserve --now $GPU0 >/dev/null

# A change of a device that was cut off before its end, as the record of it says.
variantctl bind $GPU0 >/dev/null
sed -i 's/"phase": "bound"/"phase": "binding"/' /run/variantd/records/$GPU0.json
found VD-BND-004 'failed half-way'
mended VD-BND-004
equal 'driver once recovered' "$(driver $GPU0)" vfio-pci
within 30 ready
