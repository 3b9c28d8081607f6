# Binds and releases a GPU manually: the agent's writes must be those of the dry run. Reserves a GPU: its unit must bind it, and
# must not bind another device at the same address.
settings=/run/systemd/system/variantd.service.d
log=/run/variantd-writes.log
agent_settings
trap 'remove_guests b0; rm -rf $settings /etc/variantd/reserved.d/*; systemctl daemon-reload; systemctl restart variantd; set_driver $GPU0' EXIT
remove_guests b0
set_driver $GPU0 pci-stub
state() { echo "$(driver $GPU0)/$(override $GPU0)"; }
bound=$VARIANT/$VARIANT

# The agent's record of its writes, made at each write.
mkdir -p $settings
printf '[Service]\nEnvironment=VARIANTD_LOG=info,agent::child=debug\nStandardError=truncate:%s\n' $log >$settings/writes.conf
systemctl daemon-reload
systemctl restart variantd
within 20 is_connected
writes() { sed -n 's/^ *DEBUG \(\/sys\/.* <- .*\)/\1/p' $log; }

planned=$(variantctl bind --dry-run $GPU0)
equal 'state after a dry run' "$(state)" pci-stub/pci-stub
equal 'writes of a dry run' "$(writes)" ''
variantctl bind $GPU0
equal 'state once bound' "$(state)" $bound
equal 'writes' "$(writes)" "$planned"
printf '= %s\n' "writes as the dry run printed: $(wc -l <<<"$planned")"
contains 'second bind' "$(variantctl bind $GPU0)" already
equal 'writes of a second bind' "$(writes)" "$planned"

# A guest uses the bound GPU, which stays bound after its end.
guest b0 $GPU0 >/tmp/b0.xml
virsh define /tmp/b0.xml >/dev/null
variantctl wait b0 >/dev/null
virsh start b0 --paused >/dev/null
! printed=$(variantctl release $GPU0 2>&1) || fail 'a device of a running guest was released'
contains 'holder' "$printed" "domain 'b0' (VD-DEV-003)"
virsh destroy b0 >/dev/null
within 20 no_guest
equal 'state after the guest' "$(state)" $bound
variantctl release $GPU0
equal 'state once released' "$(state)" pci-stub/pci-stub
contains 'second release' "$(variantctl release $GPU0)" 'was not bound'
equal 'answer of recover' "$(variantctl recover)" 'no device has an interrupted change'

# The bind outlives the agent.
variantctl bind $GPU0 >/dev/null
kill -9 "$(systemctl show -p MainPID --value variantd)"
within 20 is_connected
equal 'state after a crash of the agent' "$(state)" $bound
variantctl release $GPU0 >/dev/null
equal 'state once released' "$(state)" pci-stub/pci-stub

# The udev rule sets the override of a reserved device that appears, so no other driver binds it before the unit does. A release
# must not restore this override.
set_driver $GPU0
variantctl reserve $GPU0
udevadm trigger --settle --action=add /sys/bus/pci/devices/$GPU0
equal 'state of a reserved device that appeared' "$(state)" /$VARIANT
systemctl restart variantd-reserve
equal 'its state once bound' "$(state)" $bound
variantctl unreserve --now $GPU0
equal 'its state after unreserve' "$(state)" '/(null)'
set_driver $GPU0 pci-stub

# At boot the unit binds reserved devices before the services that could open them.
variantctl reserve $GPU0
equal 'state of a device reserved for the next boot' "$(state)" pci-stub/pci-stub
contains 'list' "$(variantctl list 2>&1)" "'$GPU0' is reserved and on 'pci-stub'"
before=$(systemctl show -p Before --value variantd-reserve)
for unit in nvidia-persistenced virtqemud libvirtd variantd; do
    contains 'order' "$before" $unit.service
done
systemctl --quiet is-enabled variantd-reserve || fail 'the unit is not enabled'
for _ in 1 2; do
    systemctl restart variantd-reserve
    equal 'state of a reserved device' "$(state)" $bound
done
journalctl -q --sync
contains "the unit's message by the device's field" "$(journalctl -q -u variantd-reserve VARIANTD_DEVICE=$GPU0 -o cat)" "bound to '$VARIANT'"
printed=$(variantctl list 2>&1 >/dev/null)
contains 'list' "$printed" "reserved for guests: $GPU0"
! grep -q '^warning: ' <<<"$printed" || fail "a warning about a valid reservation: $printed"

# The unit must not bind another device at the reserved address.
variantctl release $GPU0 >/dev/null
sed -i 's/^id = .*/id = "10de:0001"/' /etc/variantd/reserved.d/$GPU0.toml
! systemctl restart variantd-reserve 2>/dev/null || fail 'the unit accepted a reservation of another device'
equal 'state of another device' "$(state)" pci-stub/pci-stub
contains 'list' "$(variantctl list 2>&1)" VD-BND-021

variantctl unreserve $GPU0
variantctl reserve --now $GPU0
equal 'state of a device reserved now' "$(state)" $bound
variantctl unreserve --now $GPU0
equal 'state of a device after unreserve' "$(state)" pci-stub/pci-stub
equal 'reservations' "$(ls /etc/variantd/reserved.d)" ''
systemctl restart variantd-reserve
