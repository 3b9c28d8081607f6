# Defines 200 domains at once. Then four guests start and end on four GPUs for MINUTES (30), while the scenario kills the agent at
# random times and edits the definitions. No edit may be lost, no device may be on the wrong driver, no descriptor may leak, and
# the journal must be empty at the end. MINUTES=5: shorter, with 'tests/lab run'.
# by name
# on: x86_64 gpus=4
# deadline: 5400
minutes=${MINUTES:-30}
GPUS=($GPU0 $GPU1 0000:61:00.0 0000:81:00.0)
drop_in=/run/systemd/system/variantd.service.d
log=/run/lab-endurance
mkdir -p $drop_in $log
rm -f $log/*
trap 'touch $log/end; rm -rf $drop_in; systemctl daemon-reload; wait; remove_guests e0 e1 e2 e3
    for gpu in ${GPUS[@]}; do set_driver $gpu; done' EXIT
printf '%s\n' '[Unit]' StartLimitIntervalSec=0 '[Service]' RestartSec=50ms >$drop_in/endurance.conf
systemctl daemon-reload
agent_settings
pid() { systemctl show -p MainPID --value variantd; }
count() { find "$1" -mindepth 1 -maxdepth 1 2>/dev/null | wc -l; }
descriptors() { count "/proc/$(pid)/fd"; }
is_marked() { grep -q variantd:prepared /etc/libvirt/qemu/"$1".xml; }

# 200 definitions from eight clients.
crowd=$(seq -f 'crowd%g' 200)
began=$(date +%s)
for name in $crowd; do guest $name "${GPUS[$((${name#crowd} % 4))]}" >$log/$name.xml; done
printf '%s\n' $crowd | xargs -P 8 -I{} virsh -q define $log/{}.xml >/dev/null
defined=$(($(date +%s) - began))
all_marked() { [ "$(grep -l variantd:prepared /etc/libvirt/qemu/crowd*.xml | wc -l)" = 200 ]; }
within 1800 all_marked
printf '= 200 domains were defined in %d s, and are complete after %d s\n' $defined $(($(date +%s) - began))
for name in $crowd; do virsh -q undefine $name >/dev/null; rm $log/$name.xml; done

for index in 0 1 2 3; do
    set_driver "${GPUS[$index]}" pci-stub
    guest e$index "${GPUS[$index]}" >$log/e$index.xml
    virsh define $log/e$index.xml >/dev/null
    variantctl wait e$index >/dev/null
done
settled=$(descriptors)
libvirt=$(systemctl show -p MainPID --value libvirtd)
opened=$(count /proc/$libvirt/fd)

is_over() { [ -e $log/end ]; }
finding() { printf '%s: %s\n' "$(date +%T)" "$*" >>$log/findings; }

# cycle INDEX: starts and destroys a guest until the end. A start may be refused while the agent restarts or completes an edit.
cycle() {
    local name=e$1 gpu=${GPUS[$1]} printed
    until is_over; do
        if printed=$(virsh start $name --paused 2>&1); then
            echo >>$log/rounds
            [ "$(driver $gpu)" = $VARIANT ] || finding "$name runs with $gpu on '$(driver $gpu)'"
            virsh -q destroy $name >/dev/null 2>&1 || finding "$name cannot be ended"
        else
            echo "$printed" | grep -o 'VD-[A-Z]*-[0-9]*' | head -1 >>$log/refused
            grep -q 'VD-[A-Z]*-[0-9]*' <<<"$printed" || finding "$name: a refusal without a code: $printed"
            sleep 1
        fi
    done
}

# edit: changes the description of a random definition as 'virsh edit' does, and checks some seconds later that it is kept.
edit() {
    local number=0 name xml
    until is_over; do
        number=$((number + 1)) name=e$((RANDOM % 4))
        xml=$(virsh dumpxml --inactive $name | grep -v '<description>')
        sed "s,</name>,&<description>edit $number</description>," <<<"$xml" >$log/edit.xml
        virsh -q define $log/edit.xml >/dev/null || { finding "$name cannot be edited"; continue; }
        echo >>$log/edits
        sleep $((1 + RANDOM % 4))
        virsh dumpxml --inactive $name | grep -q "<description>edit $number</description>" || finding "$name lost edit $number"
    done
}

# kill_at_random: kills the agent after random times.
kill_at_random() {
    local agent
    until is_over; do
        sleep $((2 + RANDOM % 8)).$((RANDOM % 10))
        agent=$(pid)
        # MainPID is 0 during a restart, and 'kill 0' would kill this process group.
        [ "$agent" = 0 ] || { kill -9 "$agent" 2>/dev/null && echo >>$log/kills; }
    done
}

for index in 0 1 2 3; do cycle $index & done
edit &
kill_at_random &
sleep $((minutes * 60))
touch $log/end
wait

# All guests are stopped and no change is pending.
lines() { cat "$log/$1" 2>/dev/null | wc -l; }
is_stable() {
    local gpu
    [ -z "$(ls /run/variantd/records 2>/dev/null | grep json$)" ] || return 1
    for gpu in "${GPUS[@]}"; do [ "$(driver $gpu)/$(override $gpu)" = pci-stub/pci-stub ] || return 1; done
}
within 60 is_connected
within 120 is_stable
for index in 0 1 2 3; do
    variantctl wait e$index >/dev/null
    is_marked e$index || finding "e$index is not complete at the end"
done
printf '= %d minutes: %d rounds, %d kills, %d edits, %d refused starts (%s), %d findings\n' "$minutes" "$(lines rounds)" \
    "$(lines kills)" "$(lines edits)" "$(lines refused)" "$(sort $log/refused 2>/dev/null | uniq -c | awk '{ printf "%s%s %s", sep, $1, $2; sep = ", " }')" "$(lines findings)"
[ "$(lines rounds)" -gt 0 ] && [ "$(lines kills)" -gt 0 ] && [ "$(lines edits)" -gt 0 ] || fail 'nothing happened'

# The same guests without kills and edits: the descriptors of the agent and of libvirt must not grow.
for round in 1 2 3; do
    for index in 0 1 2 3; do
        virsh start e$index --paused >/dev/null
        virsh destroy e$index >/dev/null
    done
done
within 60 is_stable
few() { [ "$(descriptors)" -le $((settled + 2)) ] && ! pgrep -x variantd-hook && ! pgrep -x variantd-child; }
within 60 few
printf '= descriptors of the agent %d and %d, of libvirt %d and %d\n' "$settled" "$(descriptors)" "$opened" "$(count /proc/$libvirt/fd)"
[ "$(count /proc/$libvirt/fd)" -le $((opened + 8)) ] || finding "libvirt's descriptors grew from $opened to $(count /proc/$libvirt/fd)"
sed 's/^/= /' $log/findings 2>/dev/null || true
[ ! -s $log/findings ] || fail "$(lines findings) findings"
