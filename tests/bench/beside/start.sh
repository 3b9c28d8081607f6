# Runs in the lab and measures `virsh start` of a prepared guest: with the package's hook, with an empty script as hook and without a
# hook, in turns. libvirt looks for hooks when it starts, so each turn restarts it. Prints 'hook NANOSECONDS', 'script' and 'none'.
. /root/scenario/lib.sh
link=/etc/libvirt/hooks/qemu.d/variantd
rounds=${ROUNDS:-20}
restore() { remove_guests d0; set_driver $GPU0; ln -sf /usr/sbin/variantd-hook $link; systemctl restart libvirtd; }
trap restore EXIT
agent_settings
remove_guests d0
guest d0 $GPU0 >/tmp/d0.xml
virsh define /tmp/d0.xml >/dev/null
variantctl wait d0 >/dev/null
is_complete d0 || fail 'the definition is not complete'
set_driver $GPU0 $VARIANT

# turn NAME RECORDS: measures one start, during which the journal must have this number of records
turn() {
    systemctl restart libvirtd
    within 30 virsh -q version
    local began ended
    began=$(date +%s%N)
    virsh start d0 >/dev/null
    ended=$(date +%s%N)
    equal 'driver while running' "$(driver $GPU0)" $VARIANT
    equal 'in the journal' "$(grep -ls '"domain"' /run/variantd/records/*.json | wc -l)" "$2"
    virsh destroy d0 >/dev/null
    # without the hook no agent rebinds the device after the end
    [ "$(driver $GPU0)" = $VARIANT ] || set_driver $GPU0 $VARIANT
    printf '%s %s\n' "$1" $((ended - began))
}

for _ in $(seq "$rounds"); do
    ln -sf /usr/sbin/variantd-hook $link
    turn hook 1
    rm $link
    turn none 0
    printf '#!/bin/bash\n' >$link
    chmod 755 $link
    turn script 0
    rm $link
done
