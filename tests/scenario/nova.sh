# OpenStack Nova's own libvirt driver, unchanged, creates, stops, starts, reboots and destroys an instance with a Grace GPU over the transport.
# Each start succeeds at the first try, with a complete definition, and the GPU is released afterwards. nova-driver.py calls the driver;
# the instance's device is chosen by Nova's PCI tracker from [pci] of packaging/doc/openstack.md.
# by name
# packages: python3-libvirt python3-nova qemu-utils
# deadline: 1500
agent_settings
name=instance-0000002a
image=6a1c0a52-3f0e-4b7c-9a55-2b6c1d8e0a42
state=/var/lib/nova
log=/run/lab-nova.log
trap 'kill ${pid-} 2>/dev/null || true; remove_guests $name; rm -rf $state /run/lab-nova $log' EXIT
remove_guests $name
rm -rf $state $log
mkdir -p $state/instances/_base /run/lab-nova
drivers() { echo "$(driver $GPU0)/$(override $GPU0) $(driver $GPU1)/$(override $GPU1)"; }
before=$(drivers)

# The image is where Nova keeps it after its first download (nova/virt/libvirt/imagecache.py).
truncate -s 16M "$state/instances/_base/$(printf %s $image | sha1sum | cut -d' ' -f1)"

# configured MANAGED
configured() {
    cat <<END
[DEFAULT]
host = lab
my_ip = 127.0.0.1
compute_driver = libvirt.LibvirtDriver
state_path = $state
log_file = $log

[libvirt]
virt_type = qemu
cpu_mode = none
hw_machine_type = x86_64=q35
connection_uri = qemu+ext:///system?command=/usr/libexec/variantd/variantd-connect

[pci]
device_spec = { "vendor_id": "10de", "product_id": "2342", "managed": "$1" }
alias = { "vendor_id": "10de", "product_id": "2342", "device_type": "type-PCI", "name": "gh200" }

[vnc]
enabled = false

[oslo_concurrency]
lock_path = /run/lab-nova
END
}

# step NAME: waits until Nova has done it, and sets 'took' to the seconds
step() {
    local printed='' began=$SECONDS
    read -rt 600 -u "$from" printed || true
    [ "$printed" = "$1" ] || fail "Nova did not report '$1' but '$printed': $(tail -n 30 /run/lab-nova/error $log)"
    took=$((SECONDS - began))
}
next() { echo >&"$to"; }
assigned() { inactive $name | sed -n "/<hostdev /,/<\/hostdev>/s/.*<address domain='0x\(....\)' bus='0x\(..\)' slot='0x\(..\)' function='0x\(.\)'\/>.*/\1:\2:\3.\4/p" | head -1; }
# is_started WHAT: the instance runs with a complete definition, and its GPU is on the variant driver
is_started() {
    equal "$1: state" "$(virsh domstate $name)" running
    is_complete $name || fail "$1: the definition is not complete: $(inactive $name)"
    grep -q 'variantd:prepared' <(virsh dumpxml $name) || fail "$1: the instance runs with an incomplete definition"
    gpu=$(assigned)
    case $gpu in $GPU0 | $GPU1) ;; *) fail "$1: the instance has the device '$gpu'" ;; esac
    equal "$1: driver of $gpu" "$(driver "$gpu")" $VARIANT
}

# lives MANAGED: the life of an instance
lives() {
    configured "$1" >"/run/lab-nova/$1.conf"
    coproc nova { with_packages python3 nova-driver.py "/run/lab-nova/$1.conf" $image gh200 2>/run/lab-nova/error; }
    pid=$nova_PID
    exec {from}<&"${nova[0]}" {to}>&"${nova[1]}"
    step started; next
    times="ready $took s"
    step spawned
    is_started spawn
    times+=", spawn $took s"
    next; step stopped
    equal 'stopped' "$(virsh domstate $name)" 'shut off'
    equal 'driver and override after power off' "$(drivers)" "$before"
    next; step 'powered on'
    is_started 'power on'
    times+=", power on $took s"
    virsh -q desc $name --config --title edited >/dev/null
    next; step rebooted
    is_started 'hard reboot'
    ! inactive $name | grep -q '<title>edited' || fail 'the hard reboot did not generate the definition again'
    times+=", hard reboot $took s"
    next; step destroyed; next
    wait "$pid" || fail "Nova ended with an error: $(tail -n 30 /run/lab-nova/error $log)"
    ! virsh dominfo $name >/dev/null 2>&1 || fail 'the destroyed instance is defined'
    equal 'driver and override after destroy' "$(drivers)" "$before"
    ! grep ' ERROR ' $log || fail 'Nova logged an error'
    echo "= managed '$1': spawn, power off, power on, hard reboot and destroy of an instance with $gpu ($times)"
}

echo "= $(with_packages sh -c 'cd /usr/lib/python3/dist-packages && ls -d nova-*-info')"
lives yes
