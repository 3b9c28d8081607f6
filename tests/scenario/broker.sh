# The host reboots with dbus-broker as its system bus; a guest is completed, gets its GPU and gives it back. The host keeps dbus-broker
# until 'tests/lab down', so scenarios that run after this one use it (they run in the order of their names).
# by name
# packages: dbus-broker
# deadline: 900
agent_settings
kept=/root/dbus-broker
rm -rf $kept
mkdir $kept
with_packages sh -ec "cp /usr/bin/dbus-broker /usr/bin/dbus-broker-launch /usr/lib/systemd/system/dbus-broker.service $kept"
cp $kept/dbus-broker $kept/dbus-broker-launch /usr/bin
cp $kept/dbus-broker.service /usr/lib/systemd/system
ln -sf /usr/lib/systemd/system/dbus-broker.service /etc/systemd/system/dbus.service
sync
# reboot
trap 'remove_guests b0' EXIT
equal 'unit of the bus' "$(systemctl show -p Id --value dbus.service)/$(systemctl is-active dbus.service)" dbus-broker.service/active
! pgrep -x dbus-daemon >/dev/null || fail 'dbus-daemon runs'
within 60 is_connected
guest b0 $GPU0 >/tmp/b0.xml
virsh define /tmp/b0.xml >/dev/null
variantctl wait b0 >/dev/null
is_complete b0 || fail 'the definition is not complete'
virsh start b0 --paused >/dev/null
equal 'driver with the guest' "$(driver $GPU0)" $VARIANT
virsh destroy b0 >/dev/null
within 20 no_guest
echo "= the bus: $(dbus-broker --version | head -1)"
