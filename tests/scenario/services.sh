# A service holds a GPU. The agent may stop it only if the configuration or the request allows this: for a guest's start and for a
# manual bind. The service must run again after the release, also if the agent is killed between the stop and the bind.
unit=nvidia-persistenced.service
node=/dev/vfio/$(basename "$(readlink "/sys/bus/pci/devices/$GPU0/iommu_group")")
restore() {
    systemctl daemon-reload
    systemctl stop $unit >/dev/null 2>&1 || true
    remove_guests s0
    variantctl release $GPU0 >/dev/null 2>&1 || true
    rm -f /run/systemd/system/$unit
    systemctl daemon-reload
    agent_settings
    set_driver $GPU0
}
trap restore EXIT
remove_guests s0
set_driver $GPU0 vfio-pci
guest s0 $GPU0 >/tmp/s0.xml
virsh define /tmp/s0.xml >/dev/null
variantctl wait s0 >/dev/null

# The service needs 0.3 s to stop, as a daemon that closes GPUs does, and counts its starts.
cat >/run/systemd/system/$unit <<END
[Service]
ExecStart=/bin/bash -c 'echo >>/run/starts; exec 9<>$node; trap "sleep 0.3; exit 0" TERM; while :; do sleep 0.1; done'
Restart=on-failure
RestartSec=1
END
systemctl daemon-reload
rm -f /run/starts
holds() { variantctl show $GPU0 | grep -q "^held by .*$unit"; }
state() { systemctl show -p ActiveState --value $unit; }
is() { [ "$(state)" = "$1" ]; }
recorded() { grep -sho '"[^"]*\.service"' /run/variantd/records/*.json | tr -d '"' | sort -u; }
systemctl start $unit
within 10 holds

agent_settings
! printed=$(timeout 30 virsh start s0 --paused 2>&1) || fail 'the guest started'
for part in VD-BND-005 "systemctl stop $unit" --stop-services 'stop_services'; do contains 'refusal' "$printed" "$part"; done
equal 'the service without permission to stop it' "$(state)" active
printf '= %s\n' "$(grep -o "'$GPU0': .*" <<<"$printed" | head -1)"

agent_settings "stop_services = [\"$unit\"]"
before=$(date +%s%N)
virsh start s0 --paused >/dev/null
printf '= the start with a service to stop took %s ms\n' $((($(date +%s%N) - before) / 1000000))
equal 'driver' "$(driver $GPU0)" $VARIANT
equal 'the service while the guest has the GPU' "$(state)" inactive
equal 'its record' "$(recorded)" $unit
systemctl restart variantd
within 20 is_connected
equal 'the service after the agent restarted' "$(state)" inactive
virsh destroy s0 >/dev/null
within 10 is active
equal 'driver afterwards' "$(driver $GPU0)" vfio-pci
equal 'its record afterwards' "$(recorded)" ''
within 10 holds

# A bind that fails: the driver of PCIe ports does not bind a GPU.
! printed=$(variantctl bind $GPU0 --driver pcieport --stop-services 2>&1) || fail 'pcieport was bound to a GPU'
within 10 is active
equal 'driver after a bind that failed' "$(driver $GPU0)/$(override $GPU0)" vfio-pci/vfio-pci
within 10 holds

variantctl bind $GPU0 --stop-services >/dev/null
equal 'the service while the GPU is bound manually' "$(state)" inactive
variantctl release $GPU0 >/dev/null
within 10 is active
within 10 holds

# The agent is killed after it stopped the service. The caller gets no answer, and the next agent starts the service.
begun() { [ -n "$(recorded)" ]; }
variantctl bind $GPU0 --stop-services >/dev/null 2>&1 &
within 20 begun
systemctl kill -s KILL variantd
wait || true
within 20 is_connected
variantctl release $GPU0 >/dev/null 2>&1 || true
within 20 is active
equal 'records after a crash' "$(recorded)" ''
equal 'driver after a crash' "$(driver $GPU0)/$(override $GPU0)" vfio-pci/vfio-pci
printf '= the service was started %s times\n' "$(wc -l </run/starts)"
