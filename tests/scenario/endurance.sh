# Defines 200 domains at once. Then four guests start and end on four GPUs for MINUTES (30), while the scenario edits the definitions; in
# the first half it also kills the agent at random times. In the second half one agent lives, and its memory, descriptors and files must
# not grow. No edit may be lost, no device may be on the wrong driver, no descriptor may leak, and no record may be left at the end.
# by name
# on: x86_64 gpus=4
# deadline: 5400 + 60 MINUTES
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
lines() { cat "$log/$1" 2>/dev/null | wc -l; }
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

# kill_at_random: kills the agent after random times, until half of the time is over.
kill_at_random() {
    local agent
    until [ -e $log/half ] || is_over; do
        sleep $((2 + RANDOM % 8)).$((RANDOM % 10))
        agent=$(pid)
        # MainPID is 0 during a restart, and 'kill 0' would kill this process group.
        [ "$agent" = 0 ] || { kill -9 "$agent" 2>/dev/null && echo >>$log/kills; }
    done
}

private() { awk '/^Private_/ { sum += $2 } END { print sum }' "/proc/$1/smaps_rollup"; }
files() { du -sk --apparent-size /run/variantd /var/lib/variantd | awk '{ sum += $1 } END { print sum }'; }
logged() { journalctl -q --no-pager -u variantd -o cat | wc -c | awk '{ print int($1 / 1024) }'; }

# sample: twice a minute, what must not grow, and the size of the log, which grows
sample() {
    until is_over; do
        printf '%d %d %d %d %d %d %d\n' $SECONDS "$(private "$(pid)")" "$(descriptors)" "$(files)" "$(private $libvirt)" "$(count /proc/$libvirt/fd)" "$(logged)" >>$log/samples
        sleep 30
    done
}

for index in 0 1 2 3; do cycle $index & done
edit &
kill_at_random &
killer=$!
sleep $((minutes * 30))
touch $log/half
wait $killer
within 60 is_connected
survivor=$(pid)
# In the first minutes the agent fills its caches.
sleep $((minutes * 6))
sample &
sleep $((minutes * 24))
touch $log/end
wait
[ "$(pid)" = "$survivor" ] || finding 'the agent ended by itself'

# grows COLUMN NAME MOST: prints the slope of a straight line through the samples; what the line adds in all must be at most MOST
grows() {
    local first last slope added
    read -r first last slope added < <(awk -v column="$1" '
        NR == 1 { first = $column; start = $1 }
        { last = $column; n++; x = ($1 - start) / 3600; sx += x; sy += $column; sxx += x * x; sxy += x * $column }
        END { d = n * sxx - sx * sx; slope = d ? (n * sxy - sx * sy) / d : 0; printf "%d %d %.1f %.1f\n", first, last, slope, slope * x }' $log/samples)
    printf '= %s: %d to %d in %d samples, slope %s an hour\n' "$2" "$first" "$last" "$(lines samples)" "$slope"
    [ -z "${3-}" ] || awk -v added="$added" -v most="$3" 'BEGIN { exit added > most }' || finding "$2 grew by $added"
}

# All guests are stopped and no change is pending.
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
grows 2 'private memory of the agent in KiB' 512
grows 3 'descriptors of the agent' 4
grows 4 'files of the agent in KiB' 64
grows 5 'private memory of libvirtd in KiB'
grows 6 'descriptors of libvirtd' 8
grows 7 'log of the agent in KiB'
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
