# deadline: 900
# Logs the agent's writes to the host in a guest's start and end. They must equal, step by step, the files in tests/data/writes; a
# test of the agent compares the same files with its writes to the modelled kernel.
agent_settings
settings=/run/systemd/system/variantd.service.d
log=/run/variantd-writes.log
trap 'rm -rf $settings; systemctl daemon-reload; systemctl restart variantd; remove_guests w0; set_driver $GPU0' EXIT
remove_guests w0
guest w0 $GPU0 >/tmp/w0.xml
virsh define /tmp/w0.xml >/dev/null
variantctl wait w0 >/dev/null

# The agent's record of its writes, made at each write.
mkdir -p $settings
printf '[Service]\nEnvironment=VARIANTD_LOG=info,agent::child=debug\nStandardError=append:%s\n' $log >$settings/writes.conf
systemctl daemon-reload
systemctl restart variantd
within 20 is_connected
writes() { sed -n "s/$GPU0/DEVICE/g; s/^ *DEBUG \(\/sys\/.* <- .*\)/\1/p" $log; }

for file in writes/*.txt; do
    before=$(basename "$file" .txt)
    on=${before/unbound/}
    set_driver $GPU0 $on
    : >$log
    virsh start w0 --paused >/dev/null
    started=$(writes)
    : >$log
    virsh destroy w0 >/dev/null
    within 20 no_guest
    ended=$(writes)
    equal "writes of a start and an end, $before before" "$(printf 'start\n%s\nend\n%s' "$started" "$ended")" "$(cat "$file")"
    equal 'state afterwards' "$(driver $GPU0)/$(override $GPU0)" "$on/${on:-(null)}"
    printf '= %s before: %s writes, as on the modelled kernel\n' "$before" "$(grep -c ' <- ' "$file")"
done
