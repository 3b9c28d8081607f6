# Makes the agent hang, stop and crash, and restarts libvirt and the bus, while guests run. The start of a guest with variantd's
# mark must be refused within the hook's deadline and with a reason; other guests must start; a running guest must keep running.
# by name
# deadline: 1200
drop_in=/run/systemd/system/variantd.service.d
pid() { systemctl show -p MainPID --value variantd; }
trap 'kill -CONT "$(pid)" 2>/dev/null || true; rm -rf $drop_in; systemctl daemon-reload; systemctl restart variantd; remove_guests f0 f1 f2
    set_driver $GPU0; set_driver $GPU1' EXIT
# Without the watchdog, which would restart a hung agent before the hook's timeout.
mkdir -p $drop_in
printf '%s\n' '[Service]' WatchdogSec=0 >$drop_in/fail-closed.conf
systemctl daemon-reload
agent_settings
remove_guests f0 f1 f2
set_driver $GPU0 pci-stub
set_driver $GPU1 pci-stub
guest f0 $GPU0 >/tmp/f0.xml
guest f1 $GPU1 >/tmp/f1.xml
guest f2 >/tmp/f2.xml
for name in f0 f1 f2; do virsh define /tmp/$name.xml >/dev/null; done
variantctl wait f0 >/dev/null
variantctl wait f1 >/dev/null
virsh start f1 --paused >/dev/null
qemu=$(cat /run/libvirt/qemu/f1.pid)

# runs_on EVENT: f1 is the same process, and its GPU is on the variant driver
runs_on() {
    equal "f1 after $1" "$(virsh domstate f1 | head -1)" paused
    equal "process of f1 after $1" "$(cat /run/libvirt/qemu/f1.pid)" "$qemu"
    equal "driver of f1 after $1" "$(driver $GPU1)" $VARIANT
}
is_restored() { [ "$(driver $GPU0)/$(override $GPU0)" = pci-stub/pci-stub ] && [ "$(domain_records | wc -l)" = 1 ]; }
plain_starts() { virsh start f2 --paused >/dev/null || fail "a plain guest does not start: $1"; virsh destroy f2 >/dev/null; }

# refused FAULT CODE SECONDS: the start of f0 must be refused with this code within this time
refused() {
    local began printed
    began=$(date +%s)
    ! printed=$(virsh start f0 --paused 2>&1) || fail "f0 starts: $1"
    contains "reason of $1" "$printed" "$2"
    printf '= %s: refused after %d s: %s\n' "$1" $(($(date +%s) - began)) "$(sed -n 's/.*exit status 1: //p' <<<"$printed" | head -1)"
    [ $(($(date +%s) - began)) -le "$3" ] || fail "$1: refused after $(($(date +%s) - began)) s only"
}

# The agent hangs. The hook waits 20 s for progress, and so do the two calls after a refused start.
kill -STOP "$(pid)"
plain_starts 'the agent hangs'
refused 'the agent hangs' VD-BND-045 115
runs_on 'a hung agent'
# libvirt's daemon restarts while the agent hangs: the hook must exit 0 at 'reconnect'.
systemctl restart libvirtd
within 60 virsh -q version
runs_on 'a restart of libvirt with a hung agent'
kill -CONT "$(pid)"
within 60 is_restored
within 30 is_connected

# A guest ends while the agent hangs. The hook has exited by the time the agent continues, and the agent must release the GPU.
virsh start f0 --paused >/dev/null
kill -STOP "$(pid)"
virsh destroy f0 >/dev/null
equal 'driver of f0' "$(driver $GPU0)" $VARIANT
kill -CONT "$(pid)"
within 60 is_restored
runs_on 'a missed release'

# The agent cannot be started at all.
systemctl mask --now variantd >/dev/null 2>&1
plain_starts 'the agent is masked'
refused 'the agent is masked' VD-AGT-001 30
runs_on 'an end of the agent'
systemctl unmask variantd >/dev/null 2>&1
systemctl start variantd
within 30 is_connected

# The agent is killed during the hook's call.
/lab/outside gpu 0 '6000 asked'
(sleep 2; kill -9 "$(pid)") &
refused 'the agent is killed in the call' VD-HOK-004 90
/lab/outside gpu 0 ready
wait
within 30 is_connected
within 60 is_restored
runs_on 'a killed agent'

# A definition of over a megabyte, with the mark at its end.
virsh dumpxml f0 >/tmp/f0.big.xml
{ sed 's,</domain>,,' /tmp/f0.big.xml; head -c 1100000 /dev/zero | tr '\0' ' '; echo '</domain>'; } >/tmp/f0.large.xml
! printed=$(/usr/sbin/variantd-hook f0 prepare begin - </tmp/f0.large.xml 2>&1) || fail 'a large definition with the mark passes'
contains 'reason' "$printed" VD-HOK-001
/usr/sbin/variantd-hook f0 reconnect begin - </tmp/f0.large.xml 2>/dev/null || fail 'reconnect fails'

# The bus restarts and the package is installed again while a guest runs.
systemctl restart dbus.service
within 60 is_connected
runs_on 'a restart of the bus'
# systemd-logind does not reconnect to a new bus by itself, and libvirt waits 25 s for it at each start.
systemctl restart systemd-logind
dpkg -i --force-confold /root/variantd.deb >/dev/null 2>&1
within 60 is_connected
runs_on 'an upgrade of the package'
virsh start f0 --paused >/dev/null
equal 'driver of f0' "$(driver $GPU0)" $VARIANT
virsh destroy f0 >/dev/null
virsh destroy f1 >/dev/null
within 30 no_guest
equal 'driver after the end of f1' "$(driver $GPU1)" pci-stub
