# libvirt's daemon and the agent end and restart at bad moments: no guest ends, and driver and override of the GPU
# are restored.
agent_settings
trap 'forget o0; systemctl unmask variantd >/dev/null 2>&1; systemctl start variantd; stand_in $GPU0' EXIT
forget o0
stand_in $GPU0 vfio-pci
guest o0 $GPU0 >/tmp/o0.xml
virsh define /tmp/o0.xml >/dev/null
variantctl wait o0 >/dev/null
pid() { systemctl show -p MainPID --value variantd; }
given_back() { [ "$(driver $GPU0)/$(override $GPU0)" = vfio-pci/vfio-pci ] && no_guest; }

# libvirt's daemon restarts under a running guest: its hook at reconnect must not fail.
virsh start o0 --paused >/dev/null
systemctl restart libvirtd
within 30 is_connected
equal 'guest after libvirt restarted' "$(virsh domstate o0 | head -1)" paused
equal 'driver' "$(driver $GPU0)" $VARIANT

# The agent is killed under a running guest, and reads the previous driver from its record.
kill -9 "$(pid)"
within 20 is_connected
virsh destroy o0 >/dev/null
within 20 given_back

# The guest ends while the agent is stopped.
virsh start o0 --paused >/dev/null
systemctl mask --now variantd >/dev/null 2>&1
virsh destroy o0 >/dev/null
equal 'driver without an agent' "$(driver $GPU0)" $VARIANT
! said=$(virsh start o0 2>&1) || fail 'a prepared guest started without its agent'
contains 'way out' "$said" 'systemctl start variantd'
systemctl unmask variantd >/dev/null 2>&1
systemctl start variantd
within 20 given_back

# The hook's call starts an agent that was stopped.
systemctl stop variantd
virsh start o0 --paused >/dev/null
systemctl --quiet is-active variantd || fail 'the hook did not start the agent'
virsh destroy o0 >/dev/null
within 20 given_back

# Every user may read; only root may change something.
as_nobody() { setpriv --reuid=nobody --regid=nogroup --clear-groups "$@"; }
manager='org.variantd1 /org/variantd1 org.variantd1.Manager'
contains 'list for everybody' "$(as_nobody busctl call $manager ListDomains 'a{sv}' 0)" '"o0"'
! as_nobody busctl call $manager Prepare 'sa{sv}' o0 0 2>/dev/null || fail "user 'nobody' may prepare"
equal 'owner and mode of the hook socket' "$(stat -c '%U %a' /run/variantd/hook)" 'root 600'
! as_nobody perl -MIO::Socket::UNIX -e 'exit !IO::Socket::UNIX->new("/run/variantd/hook")' 2>/dev/null ||
    fail "user 'nobody' may connect to the hook's socket"
! busctl --quiet call org.variantd1.Hook /org/variantd1/Hook org.freedesktop.DBus.Peer Ping 2>/dev/null ||
    fail 'the hook is on the bus'

# A hook that connects while the agent restarts waits for it: systemd holds the socket.
equal 'the socket is systemd'"'"'s' "$(systemctl is-active variantd-hook.socket)" active
systemctl stop variantd 2>/dev/null
(sleep 2; systemctl start variantd) &
/usr/sbin/variantd-hook o0 started begin - <<<"$(virsh dumpxml o0)" || fail 'the hook fails at started'
wait
systemctl --quiet is-active variantd || fail 'the agent is not there'
if command -v varlinkctl >/dev/null; then
    contains 'varlinkctl' "$(varlinkctl info /run/variantd/hook)" variantd
fi
