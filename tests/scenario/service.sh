# 'variantctl monitor' must print events, also for changes by other programs. The configuration's errors must be named, the sandbox
# must match its page, and systemd's watchdog must restart an agent that hangs.
agent_settings
settings=/run/systemd/system/variantd.service.d
events=/tmp/events
trap 'kill $monitor 2>/dev/null || true; rm -rf $settings /etc/variantd/variantd.conf.d/*; systemctl daemon-reload; systemctl restart variantd; set_driver $GPU0' EXIT
set_driver $GPU0
variantctl --json monitor >$events &
monitor=$!
# event PART...: one line of the events contains all of them
event() { local part lines; lines=$(cat $events); for part in "$@"; do lines=$(grep -F "$part" <<<"$lines") || return 1; done; }
within 20 event '"kind":"device"' "\"subject\":\"$GPU0\"" '"state":"free"'
set_driver $GPU0 pci-stub
within 20 event "\"subject\":\"$GPU0\"" '"driver":"pci-stub"'
echo '= monitor printed a bind by another program'
variantctl bind $GPU0 >/dev/null
within 20 event "\"subject\":\"$GPU0\"" "\"driver\":\"$VARIANT\""
within 20 event "\"subject\":\"$GPU0\"" '"state":"bound"'
variantctl release $GPU0 >/dev/null

# 'config show' names the file and line of a key in a drop-in.
mkdir -p /etc/variantd/variantd.conf.d
printf '# ours\nrepair = false\n' >/etc/variantd/variantd.conf.d/10-lab.conf
contains 'config show' "$(variantctl config show)" 'variantd.conf.d/10-lab.conf:2'
systemctl reload variantd
is_reloaded() { [ "$(systemctl is-active variantd)" = active ]; }
within 20 is_reloaded
printf 'repairs = false\n' >/etc/variantd/variantd.conf.d/10-lab.conf
! printed=$(variantctl config check 2>&1) || fail 'config check accepts an unknown key'
contains 'config check' "$printed" "line 1: unknown key 'repairs'; did you mean 'repair'? (VD-CFG-001)"
rm /etc/variantd/variantd.conf.d/10-lab.conf

# The permissions that the sandbox leaves must be those of the page in the package. dpkg does not install documentation here.
page=$(mktemp)
dpkg-deb --fsys-tarfile /root/variantd.deb | tar -xO ./usr/share/doc/variantd/sandbox.md >$page
for unit in variantd variantd-reserve; do
    rows=$(grep -E "^\| \`.*\` \| (both|$unit) \| " $page)
    open=$(systemd-analyze security --json=short $unit.service | tr '{' '\n' | grep '"set":false' | sed 's/.*"name":"\([^"]*\)".*/\1/' | sort)
    equal "permissions of $unit" "$open" "$(sed 's/^| `\(.*\)` | [a-z-]* | .*/\1/; s/\\|/|/g' <<<"$rows" | sort)"
done
printf '= the sandbox: %s\n' "$(systemd-analyze security --no-pager variantd.service | tail -1)"

# An agent that hangs.
equal 'type' "$(systemctl show -p Type --value variantd)" notify
mkdir -p $settings
printf '[Service]\nWatchdogSec=5\n' >$settings/watchdog.conf
systemctl daemon-reload
systemctl restart variantd
within 20 is_connected
restarts() { systemctl show -p NRestarts --value variantd; }
before=$(restarts)
sleep 12
equal 'restarts of an agent that answers' "$(restarts)" "$before"
pid=$(systemctl show -p MainPID --value variantd)
kill -STOP "$pid"
restarted() { [ "$(restarts)" -gt "$before" ]; }
within 60 restarted
within 20 is_connected
within 20 event '"kind":"agent"' 'serves again'
echo '= the watchdog restarted an agent that hung'
kill -INT $monitor
wait $monitor || fail 'monitor did not end cleanly'
