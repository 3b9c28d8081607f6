# What goes through the transport variantd-connect besides definitions: the console, a saved guest, a definition that moves to another
# host, a volume of 1 GiB, and events on a connection that stays open.
# by name
# deadline: 1800
agent_settings
connect=/usr/libexec/variantd/variantd-connect
through() { virsh -q -c "qemu+ext:///system?command=$connect" "$@"; }
directory=/var/tmp/lab-volumes
second=/run/lab-second
restored() {
    kill ${events-} 2>/dev/null || true
    [ ! -e $second/pid ] || kill "$(cat $second/pid)" 2>/dev/null || true
    remove_guests plain m1
    virsh -q pool-destroy lab >/dev/null 2>&1 || true
    rm -rf $directory /tmp/plain.saved
}
trap restored EXIT
remove_guests plain m1
mkdir -p $directory $second

# Events and keepalive: one connection reports what happens while this scenario runs.
timeout --foreground 1700 virsh -q -c "qemu+ext:///system?command=$connect" event --all --loop --timestamp >/tmp/events 2>&1 &
events=$!

# The firmware of the guest writes on its console.
guest plain | sed "s,<serial type='file'>,<serial type='pty'>,; /guest-serial.log\|plain-serial.log/d; s,</os>,<bios useserial='yes'/></os>," >/tmp/plain.xml
through define /tmp/plain.xml >/dev/null
through start plain --paused >/dev/null
(pause 3; virsh -q resume plain) &
timeout 60 script -qefc "virsh -q -c 'qemu+ext:///system?command=$connect' console plain" /dev/null < <(sleep 60) 2>/dev/null |
    grep -am1 SeaBIOS >/tmp/plain.console || fail 'nothing came from the console'
echo "= console: $(tr -d '\r' </tmp/plain.console | tail -c 40)"
virsh -q suspend plain

# A saved guest: its definition is edited in the file, and it is restored with another one.
through save plain /tmp/plain.saved >/dev/null
through save-image-dumpxml /tmp/plain.saved | sed 's,</name>,</name><title>saved</title>,' >/tmp/plain.changed
through save-image-define /tmp/plain.saved /tmp/plain.changed
contains 'saved definition' "$(through save-image-dumpxml /tmp/plain.saved)" '<title>saved</title>'
through restore /tmp/plain.saved --xml /tmp/plain.changed --paused >/dev/null
contains 'restored' "$(virsh dumpxml plain)" '<title>saved</title>'
equal 'state' "$(virsh domstate plain)" paused
through managedsave plain >/dev/null
through managedsave-dumpxml plain | sed 's,<title>saved,<title>managed,' >/tmp/plain.changed
through managedsave-define plain /tmp/plain.changed
through start plain --paused >/dev/null
contains 'started from the managed save' "$(virsh dumpxml plain)" '<title>managed</title>'
through destroy plain >/dev/null
echo '= save, edit of a saved definition, restore, managed save'

# A volume of 1 GiB there and back, and the time beside a direct connection.
head -c 64M /dev/urandom >$directory/block
for part in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do cat $directory/block; done >$directory/source
virsh -q pool-create-as lab dir --target $directory >/dev/null
volume() {
    local began=$EPOCHREALTIME name=$1; shift
    virsh -q vol-create-as lab "$name" 1GiB >/dev/null
    began=${EPOCHREALTIME/./}
    "$@" vol-upload "$name" $directory/source --pool lab
    "$@" vol-download "$name" $directory/back --pool lab
    echo $(((${EPOCHREALTIME/./} - began) / 1000))
    cmp $directory/source $directory/back
    virsh -q vol-delete "$name" --pool lab >/dev/null
}
direct=$(volume direct virsh -q)
through=$(volume through through)
echo "= 1 GiB up and down, intact: $through ms over the transport, $direct ms direct, throughput $((100 * direct / through)) %"

# A definition with a GPU moves to another host, here a second daemon with folders of its own.
guest m1 $GPU0 >/tmp/m1.xml
through define /tmp/m1.xml >/dev/null
is_complete m1 || fail 'the guest is not complete'
cat >$second/conf <<END
host_uuid = "$(cat /proc/sys/kernel/random/uuid)"
auth_unix_rw = "none"
unix_sock_dir = "$second"
log_outputs = "3:file:$second/log"
END
unshare -m bash -c "
    for folder in /etc/libvirt /var/lib/libvirt /var/cache/libvirt /run/libvirt; do
        cp -a \$folder $second/copy && mount -t tmpfs none \$folder && cp -a $second/copy/. \$folder/ && rm -rf $second/copy
    done
    rm -rf /etc/libvirt/qemu/m1.xml /run/libvirt/*-sock* /run/libvirt/qemu /etc/libvirt/hooks
    exec libvirtd -f $second/conf -p $second/pid" >$second/out 2>&1 &
within 120 virsh -q -c "qemu+unix:///system?socket=$second/libvirt-sock" version
printf '#!/bin/sh\nexec %s --socket %s\n' $connect $second/libvirt-sock >$second/connect
chmod 755 $second/connect
through migrate --offline --persistent m1 "qemu+ext:///system?command=$second/connect" >/tmp/m1.out 2>&1 ||
    fail "migrate: $(cat /tmp/m1.out) $(tail -3 $second/log)"
contains 'moved' "$(virsh -c "qemu+unix:///system?socket=$second/libvirt-sock" dumpxml m1)" variantd:prepared
echo '= migrate --offline: the definition arrived complete'

kill -0 $events || fail "the connection with the events ended: $(cat /tmp/events)"
contains 'events' "$(cat /tmp/events)" "event 'lifecycle' for domain 'm1'"
echo "= $(grep -c 'event ' /tmp/events) events on one connection, open for $SECONDS s"
