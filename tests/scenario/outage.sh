# Restarts libvirt's daemon and kills, masks and stops the agent around a guest's start and end. No guest may be lost, and the
# GPU must return to the driver and override that it had. Unprivileged users may only read.
agent_settings
trap 'remove_guests o0; systemctl unmask variantd >/dev/null 2>&1; systemctl start variantd; set_driver $GPU0' EXIT
remove_guests o0
set_driver $GPU0 vfio-pci
guest o0 $GPU0 >/tmp/o0.xml
virsh define /tmp/o0.xml >/dev/null
variantctl wait o0 >/dev/null
pid() { systemctl show -p MainPID --value variantd; }
is_restored() { [ "$(driver $GPU0)/$(override $GPU0)" = vfio-pci/vfio-pci ] && no_guest; }

# libvirt's daemon restarts under a running guest: its hook at reconnect must not fail.
virsh start o0 --paused >/dev/null
systemctl restart libvirtd
within 30 is_connected
equal 'guest after libvirt restarted' "$(virsh domstate o0 | head -1)" paused
equal 'driver' "$(driver $GPU0)" $VARIANT

# The agent is killed under a running guest. The next agent must read the previous driver from the record.
kill -9 "$(pid)"
within 20 is_connected
virsh destroy o0 >/dev/null
within 20 is_restored

# The guest ends while the agent is masked.
virsh start o0 --paused >/dev/null
systemctl mask --now variantd >/dev/null 2>&1
virsh destroy o0 >/dev/null
equal 'driver without an agent' "$(driver $GPU0)" $VARIANT
! printed=$(virsh start o0 2>&1) || fail 'a prepared guest started without its agent'
contains 'hint' "$printed" 'systemctl start variantd'
systemctl unmask variantd >/dev/null 2>&1
systemctl start variantd
within 20 is_restored

# The hook's call starts a stopped agent.
systemctl stop variantd
virsh start o0 --paused >/dev/null
systemctl --quiet is-active variantd || fail 'the hook did not start the agent'
virsh destroy o0 >/dev/null
within 20 is_restored

# Every user may read; only root may change state.
unprivileged() { setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; }
manager='org.variantd1 /org/variantd1 org.variantd1.Manager'
contains 'list for an unprivileged user' "$(unprivileged busctl call $manager ListDomains 'a{sv}' 0)" '"o0"'
! unprivileged busctl call $manager Prepare 'sa{sv}' o0 0 2>/dev/null || fail 'an unprivileged user may prepare'
equal 'owner and mode of the hook socket' "$(stat -c '%U %a' /run/variantd/hook)" 'root 600'
! unprivileged perl -MIO::Socket::UNIX -e 'exit !IO::Socket::UNIX->new("/run/variantd/hook")' 2>/dev/null ||
    fail 'an unprivileged user may connect to the hook socket'
! busctl --quiet call org.variantd1.Hook /org/variantd1/Hook org.freedesktop.DBus.Peer Ping 2>/dev/null ||
    fail 'the hook is on the bus'

# A hook call during the agent's restart waits for the agent: systemd keeps the socket open.
equal 'socket unit' "$(systemctl is-active variantd-hook.socket)" active
systemctl stop variantd 2>/dev/null
(sleep 2; systemctl start variantd) &
/usr/sbin/variantd-hook o0 started begin - <<<"$(virsh dumpxml o0)" || fail 'the hook fails at started'
wait
systemctl --quiet is-active variantd || fail 'the agent is not active'
if command -v varlinkctl >/dev/null; then
    contains 'varlinkctl' "$(varlinkctl info /run/variantd/hook)" variantd
fi
