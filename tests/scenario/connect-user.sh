# Who may use libvirt through the transport and through the shared socket. Over the transport libvirt's polkit decides about the client.
# The shared socket is for the group libvirt, is off by default, and is refused beside access_drivers.
# by name
# deadline: 600
agent_settings
member=jane
outsider=joe
rules=/etc/polkit-1/rules.d/40-lab.rules
conf=/etc/libvirt/libvirtd.conf
[ -e /run/libvirt/libvirt-sock ] || conf=/etc/libvirt/virtqemud.conf
daemon=$(basename $conf .conf)
socket=/run/variantd/libvirt-sock
transport='qemu+ext:///system?command=/usr/libexec/variantd/variantd-connect'
shared="qemu+unix:///system?socket=$socket"
cp -a $conf /run/lab-conf
trap 'cp -a /run/lab-conf $conf; systemctl restart $daemon; systemctl disable --now variantd-connect.socket; variantctl connect --disable
    rm -f $rules; systemctl try-restart polkit; remove_guests u1; userdel -r $member; userdel -r $outsider; true' EXIT
remove_guests u1
for user in $member $outsider; do id -u $user >/dev/null 2>&1 || useradd --create-home $user; done
gpasswd -d $member libvirt >/dev/null 2>&1 || true
guest u1 $GPU0 >/tmp/u1.xml
chmod 644 /tmp/u1.xml
as() { local user=$1; shift; runuser -u "$user" -- "$@" 2>&1; }
# refused USER PART COMMAND...: the command of the user must fail with this text
refused() {
    local user=$1 part=$2 printed; shift 2
    ! printed=$(as "$user" "$@") || fail "$user may: $*"
    contains "$*" "$printed" "$part"
}

# Neither is in the group: polkit refuses both, directly and over the transport, with the same action.
for user in $member $outsider; do
    refused $user org.libvirt.unix.manage virsh -c qemu:///system list
    refused $user org.libvirt.unix.manage virsh -c "$transport" list
done
printf '= not in the group: %s\n' "$(as $outsider virsh -c "$transport" list | tail -1)"

# A rule for one user: polkit is asked about the client.
cat >$rules <<RULE
polkit.addRule(function(action, subject) {
    if (action.id == "org.libvirt.unix.manage" && subject.user == "$member")
        return polkit.Result.YES;
});
RULE
systemctl restart polkit
within 20 as $member virsh -c "$transport" list
refused $outsider org.libvirt.unix.manage virsh -c "$transport" list
rm $rules
systemctl restart polkit
refused $member org.libvirt.unix.manage virsh -c "$transport" list
echo "= a polkit rule for $member permits $member over the transport, and no other user"

# In the group: the transport completes the member's definition, without any right of variantd.
gpasswd -a $member libvirt >/dev/null
as $member virsh -c "$transport" define /tmp/u1.xml >/dev/null
is_complete u1 || fail 'the guest of a member is not complete'
as $member virsh -c "$transport" undefine u1 >/dev/null
echo '= in the group: defined and completed over the transport'

# The shared socket is off by default; then it is for the group.
[ ! -e $socket ] || fail 'the shared socket is on by default'
refused $member 'No such file' virsh -c "$shared" list
systemctl enable --now variantd-connect.socket 2>/dev/null
equal 'the socket' "$(stat -c '%U:%G %a' $socket)" 'root:libvirt 660'
refused $outsider 'Permission denied' virsh -c "$shared" list
as $member virsh -c "$shared" define /tmp/u1.xml >/dev/null
is_complete u1 || fail 'the guest of a member is not complete over the shared socket'
contains 'journal' "$(journalctl -b --no-pager -u 'variantd-connect@*')" "of user $(id -u $member)"
equal 'guests of the shared socket' "$(as $member virsh -q -c "$shared" list --all --name)" u1
as $member virsh -c "$shared" start u1 --paused >/dev/null
equal 'driver' "$(driver $GPU0)" $VARIANT
remove_guests u1
equal 'failed units' "$(systemctl list-units --failed --no-legend 'variantd-connect@*')" ''
echo '= shared socket: for the group only; defined, completed and started over it'

# With fine-grained access control each connection is refused with a sentence.
echo 'access_drivers = [ "polkit" ]' >>$conf
systemctl restart $daemon
refused $member VD-CON-002 virsh -c "$shared" list
printf '= %s\n' "$(as $member virsh -c "$shared" list | tail -1)"
cp -a /run/lab-conf $conf
systemctl restart $daemon
within 20 as $member virsh -c "$shared" list

# The default of root's clients.
cp -a /etc/libvirt/libvirt.conf /run/lab-client-conf
variantctl connect --enable >/dev/null
virsh define /tmp/u1.xml >/dev/null && virsh start u1 --paused >/dev/null
is_complete u1 || fail "the guest of root's default is not complete"
remove_guests u1
variantctl connect --disable >/dev/null
cmp /etc/libvirt/libvirt.conf /run/lab-client-conf
echo "= connect --enable: 'virsh define && virsh start' of root started at once; --disable restored libvirt.conf"
