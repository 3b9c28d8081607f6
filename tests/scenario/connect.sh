# Through the transport variantd-connect a definition is complete before libvirt sees it: 'define && start' in one line and in one
# process starts at the first try, 'create' works, and a refusal is libvirt's own error. '--set ROUNDS=100': more rounds.
# deadline: 900 + 40 ROUNDS
agent_settings
trap 'systemctl unmask variantd >/dev/null 2>&1; systemctl start variantd; remove_guests c1 c2 plain' EXIT
remove_guests c1 c2 plain
rounds=${ROUNDS:-3}
before="$(driver $GPU0)/$(override $GPU0)"
through() { virsh -c 'qemu+ext:///system?command=/usr/libexec/variantd/variantd-connect' "$@"; }
is_bound() { equal "$1: driver" "$(driver $GPU0)" $VARIANT; }
# The guest has no GPU any more when virsh returns.
is_released() { equal "$1: driver and override afterwards" "$(driver $GPU0)/$(override $GPU0)" "$before"; }
guest c1 $GPU0 >/tmp/c1.xml

for round in $(seq "$rounds"); do
    through define /tmp/c1.xml >/dev/null && through start c1 --paused >/tmp/c1.out 2>&1 || fail "round $round: $(cat /tmp/c1.out)"
    is_bound "round $round"
    virsh destroy c1 >/dev/null
    is_released "round $round"
    virsh undefine c1 >/dev/null
done
echo "= define && start in one line: $rounds of $rounds started at once"
for round in $(seq "$rounds"); do
    through "define /tmp/c1.xml; start c1 --paused" >/tmp/c1.out 2>&1 || fail "round $round: $(cat /tmp/c1.out)"
    is_bound "round $round"
    remove_guests c1
    is_released "round $round"
done
echo "= define and start in one process: $rounds of $rounds started at once"

through create /tmp/c1.xml --paused >/dev/null
is_bound 'create'
contains 'mark' "$(through dumpxml c1)" 'variantd:prepared'
through destroy c1 >/dev/null
is_released 'create'
# An edit changes the completed definition, and stays.
through define /tmp/c1.xml >/dev/null
EDITOR="sed -i 's|</name>|</name><title>edited</title>|'" through edit c1 >/dev/null
contains 'edited' "$(inactive c1)" '<title>edited</title>'
variantctl wait c1 >/dev/null
is_complete c1 || fail 'the edited guest is not complete'
remove_guests c1
echo '= create starts an unprepared guest, and an edited one stays complete'

# A GPU is attached to the definition, which is complete before the next start; a running guest gets no initiators. A complete device of a
# complete definition is attached again.
guest plain >/tmp/plain.xml
device() { virsh dumpxml --inactive "$1" | sed -n '/<hostdev /,/<\/hostdev>/p'; }
guest c2 $GPU0 >/tmp/c2.xml
virsh define /tmp/plain.xml >/dev/null
sed -n '/<hostdev /,/<\/hostdev>/p' /tmp/c2.xml >/tmp/device.xml
through attach-device plain /tmp/device.xml --config >/dev/null
through start plain --paused >/dev/null
is_bound 'attached, then started'
is_complete plain || fail 'the definition is not complete'
remove_guests plain
virsh define /tmp/plain.xml >/dev/null
through start plain --paused >/dev/null
! through attach-device plain /tmp/device.xml --live >/tmp/attach.out 2>&1 || fail 'a GPU was attached to a running guest'
contains 'attach --live' "$(cat /tmp/attach.out)" VD-NUM-016
printf '= %s\n' "$(grep -m1 VD-NUM-016 /tmp/attach.out)"
! inactive plain | grep -q '<hostdev' || fail 'a refused device is in the definition'
remove_guests plain
through define /tmp/c2.xml >/dev/null
device c2 >/tmp/c2-device.xml
through detach-device c2 /tmp/c2-device.xml --config >/dev/null
! inactive c2 | grep -q '<hostdev' || fail 'the device was not detached'
through attach-device c2 /tmp/c2-device.xml --config >/dev/null
contains 'attached again' "$(inactive c2)" '<hostdev'
through start c2 --paused >/dev/null
is_bound 'attached again'
remove_guests c2
echo '= a GPU attached to the definition: it is complete before the start'

# The sentence of a refusal is libvirt's error; nothing is defined.
guest c2 $GPU0 0000:77:00.0 >/tmp/c2.xml
! through define /tmp/c2.xml >/tmp/c2.out 2>&1 || fail 'a guest with a missing device was defined'
contains 'refusal' "$(cat /tmp/c2.out)" VD-DEV-001
! virsh dominfo c2 >/dev/null 2>&1 || fail 'the refused guest is defined'
printf '= %s\n' "$(grep -m1 VD-DEV-001 /tmp/c2.out)"

# Without the agent a guest with a GPU is refused, and an unrelated one is defined and starts. The bus starts a stopped agent.
systemctl stop variantd
systemctl mask variantd >/dev/null 2>&1
! through define /tmp/c1.xml >/tmp/c1.out 2>&1 || fail 'a guest was defined that no agent completed'
contains 'refusal' "$(cat /tmp/c1.out)" VD-AGT-001
contains 'hint' "$(cat /tmp/c1.out)" 'systemctl start variantd'
guest plain >/tmp/plain.xml
through define /tmp/plain.xml >/dev/null
through start plain --paused >/dev/null
through destroy plain >/dev/null
systemctl unmask variantd >/dev/null 2>&1
systemctl start variantd
within 20 is_connected
echo '= without the agent: a GPU guest is refused, an unrelated one starts'
