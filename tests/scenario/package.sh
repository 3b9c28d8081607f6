# Upgrades, removes, reinstalls and purges the package while a guest runs. The guest must keep running with its GPU, and the agent
# that is installed when the guest ends, or is installed later, must release the GPU.
# deadline: 900
next=/tmp/variantd-next
restore() {
    remove_guests p0
    dpkg -i --force-confold --force-confmiss /root/variantd.deb >/dev/null 2>&1
    systemctl restart libvirtd variantd
    set_driver $GPU0
    rm -rf $next $next.deb
}
trap restore EXIT
remove_guests p0
# dpkg treats files of other scenarios as the administrator's and would keep them.
rm -rf /etc/variantd/recipes.d
[ "$(qemu_major)" -ge 9 ] || without_initiators
agent_settings 'release = "previous"'
set_driver $GPU0 pci-stub
state() { echo "$(driver $GPU0)/$(override $GPU0)"; }
process() { cat /run/libvirt/qemu/p0.pid; }
main() { systemctl show -p MainPID --value "$1"; }
# runs_on WHEN: the guest is the same process and has its GPU
runs_on() {
    kill -0 "$qemu" 2>/dev/null || fail "the guest ended: $1"
    equal "process of the guest $1" "$(process)" "$qemu"
    equal "state $1" "$(state)" $VARIANT/$VARIANT
    contains "guest $1" "$(virsh domstate p0)" paused
}

guest p0 $GPU0 >/tmp/p0.xml
virsh define /tmp/p0.xml >/dev/null
variantctl wait p0 >/dev/null
virsh start p0 --paused >/dev/null
qemu=$(process)
runs_on 'before the upgrade'

# A newer version of the same files; the administrator has changed the configuration.
rm -rf $next
dpkg-deb -R /root/variantd.deb $next
sed -i 's/^Version: .*/&+next/' $next/DEBIAN/control
echo '# newer' >>$next/etc/variantd/variantd.conf
dpkg-deb --root-owner-group -Znone -b $next $next.deb >/dev/null
libvirt=$(main libvirtd) agent=$(main variantd)
dpkg -i --force-confold $next.deb >/dev/null
within 20 is_connected
runs_on 'after an upgrade'
equal "libvirt's process" "$(main libvirtd)" "$libvirt"
[ "$(main variantd)" != "$agent" ] || fail 'the old agent still runs'
equal 'configuration' "$(cat /etc/variantd/variantd.conf)" 'release = "previous"'
contains 'holder' "$(variantctl release $GPU0 2>&1 || true)" "domain 'p0' (VD-DEV-003)"
virsh destroy p0 >/dev/null
within 20 no_guest
equal 'state after the guest' "$(state)" pci-stub/pci-stub
echo '= upgraded under a running guest, whose GPU the new agent released'

virsh start p0 --paused >/dev/null
qemu=$(process)
dpkg -r variantd >/dev/null 2>&1
[ ! -e /usr/sbin/variantd ] && [ ! -e /etc/libvirt/hooks/qemu.d/variantd ] || fail 'the package is still installed'
runs_on 'after the removal'
equal 'configuration after the removal' "$(cat /etc/variantd/variantd.conf)" 'release = "previous"'
virsh destroy p0 >/dev/null
dpkg -i --force-confold /root/variantd.deb >/dev/null 2>&1
within 20 is_connected
within 20 no_guest
equal 'state once installed again' "$(state)" pci-stub/pci-stub
echo '= removed under a running guest, whose GPU was released once the package was installed again'

variantctl reserve $GPU0 >/dev/null
# The recipe for an older QEMU is also an administrator's file.
rm -rf /etc/variantd/recipes.d
dpkg -P variantd >/dev/null 2>&1
for path in /etc/variantd /var/lib/variantd /run/variantd /etc/libvirt/hooks/qemu.d/variantd; do
    [ ! -e $path ] || fail "left after a purge: $(find $path | head -5)"
done
! systemctl list-unit-files --no-legend | grep variantd || fail 'units are left after a purge'
virsh start p0 --paused >/dev/null || fail 'a prepared guest does not start once the package is purged'
virsh destroy p0 >/dev/null
# libvirt's own release clears the override, and the kernel chooses a driver. 'virsh destroy' may return before that.
is_cleared() { [ "$(state)" = '/(null)' ]; }
within 20 is_cleared
echo '= purged: no file is left, and the prepared guest starts without variantd'
