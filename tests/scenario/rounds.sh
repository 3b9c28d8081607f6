# Starts and ends a guest many times. After each round driver, override, records, descriptors and children must be those after the
# first round; at the end threads and memory must not have grown. ROUNDS=100: more rounds.
# deadline: 1200 + 30 ROUNDS
agent_settings
trap 'remove_guests n0; set_driver $GPU0' EXIT
remove_guests n0
set_driver $GPU0 pci-stub
guest n0 $GPU0 >/tmp/n0.xml
virsh define /tmp/n0.xml >/dev/null
variantctl wait n0 >/dev/null
rounds=${ROUNDS:-6}
# KiB that memory may grow: on a busy machine more threads work at the same time, and each keeps some memory.
spare=4096
pid=$(systemctl show -p MainPID --value variantd)

count() { find "$1" -mindepth 1 -maxdepth 1 2>/dev/null | wc -l; }
memory() { awk '/^VmRSS:/ { print $2 }' /proc/$pid/status; }
records() { find /run/variantd/records -name '*.json' 2>/dev/null | sort | tr '\n' ' '; }
children() { cat /proc/$pid/task/*/children 2>/dev/null || true; }
agent_state() { printf '%s/%s [%s] fd %s children [%s]' "$(driver $GPU0)" "$(override $GPU0)" "$(records)" "$(count /proc/$pid/fd)" "$(children)"; }
is_as_first() { [ "$(agent_state)" = "$first" ]; }
few_threads() { [ "$(count /proc/$pid/task)" -le $threads ]; }

began=$(date +%s%N)
for round in $(seq $rounds); do
    virsh start n0 --paused >/dev/null
    equal "round $round: driver" "$(driver $GPU0)" $VARIANT
    virsh destroy n0 >/dev/null
    if [ $round = 1 ]; then
        # Idle threads of a pool end after some seconds.
        sleep 12
        first=$(agent_state) threads=$(count /proc/$pid/task) kilobytes=$(memory)
        contains 'device after the first round' "$first" 'pci-stub/pci-stub [] fd '
        contains 'children after the first round' "$first" 'children []'
    elif ! is_as_first; then
        (within 60 is_as_first) || fail "state after round $round: '$(agent_state)', after the first: '$first'"
    fi
    case $round in 1 | 10 | $rounds) printf '= round %d: %s, %d threads, %d KiB\n' $round "$(agent_state)" "$(count /proc/$pid/task)" "$(memory)" ;; esac
done
time=$(($(date +%s%N) - began - 12000000000))
printf '= %d ms a round\n' $((time / 1000000 / rounds))
within 20 few_threads
equal 'process' "$(systemctl show -p MainPID --value variantd)" "$pid"
[ "$(memory)" -le $((kilobytes + spare)) ] || fail "the agent grew from $kilobytes to $(memory) KiB in $rounds rounds"
