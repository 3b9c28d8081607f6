# deadline: 900
# Reboots the host with a reserved GPU. The GPU must be bound before libvirt starts, an autostarted guest must have it, and no
# record from before the reboot may be left.
agent_settings
remove_guests r0
set_driver $GPU0 vfio-pci
guest r0 $GPU0 >/tmp/r0.xml
virsh define /tmp/r0.xml >/dev/null
variantctl wait r0 >/dev/null
variantctl reserve $GPU0
systemctl --quiet is-enabled variantd-reserve || fail 'the unit is not enabled'
virsh autostart r0 >/dev/null
systemctl --quiet enable libvirtd
virsh start r0 --paused >/dev/null
equal 'driver before the reboot' "$(driver $GPU0)" $VARIANT
cp /proc/sys/kernel/random/boot_id /root/boot
sync
# reboot
trap 'virsh autostart --disable r0 >/dev/null 2>&1 || true; remove_guests r0; rm -f /etc/variantd/reserved.d/*; set_driver $GPU0' EXIT
state() { echo "$(driver $GPU0)/$(override $GPU0)"; }
at() { systemctl show -p "$2" --value "$1"; }
bound=$VARIANT/$VARIANT
! cmp -s /proc/sys/kernel/random/boot_id /root/boot || fail 'the host was not rebooted'
within 60 is_connected
equal 'state after the reboot' "$(state)" $bound
equal 'reservations' "$(at variantd-reserve ActiveState)" active
[ "$(at variantd-reserve ActiveEnterTimestampMonotonic)" -lt "$(at libvirtd ExecMainStartTimestampMonotonic)" ] ||
    fail 'libvirt started before the GPU was bound'
! grep -q '^warning: ' <<<"$(variantctl list 2>&1)" || fail "$(variantctl list 2>&1)"

# libvirt has autostarted the guest; the record is from this start.
runs() { [ "$(virsh domstate r0 | head -1)" = running ]; }
within 60 runs
contains 'record' "$(cat $(domain_records))" '"bound"'
equal 'state with the guest' "$(state)" $bound
virsh autostart --disable r0 >/dev/null
virsh destroy r0 >/dev/null
within 20 no_guest
equal 'state after the guest' "$(state)" $bound
equal 'answer of recover' "$(variantctl recover)" 'no device has an interrupted change'
variantctl unreserve --now $GPU0
equal 'state after unreserve' "$(state)" '/(null)'
printf '= bound %s ms after the kernel began, libvirt started at %s ms\n' \
    $(($(at variantd-reserve ActiveEnterTimestampMonotonic) / 1000)) $(($(at libvirtd ExecMainStartTimestampMonotonic) / 1000))
