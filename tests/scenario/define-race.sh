# Runs 'virsh define x.xml && virsh start x' in one line. The start must succeed, or be refused in one sentence and succeed at the
# second try. The scenario prints the counts. ROUNDS=100: more rounds.
# deadline: 1800 + 40 ROUNDS
agent_settings
trap 'remove_guests r0' EXIT
remove_guests r0
rounds=${ROUNDS:-5} first=0 second=0
before="$(driver $GPU0)/$(override $GPU0)"
guest r0 $GPU0 >/tmp/r0.xml
for round in $(seq "$rounds"); do
    if virsh define /tmp/r0.xml >/dev/null && virsh start r0 >/dev/null 2>/tmp/r0.err; then
        first=$((first + 1))
    else
        contains "round $round: refusal" "$(cat /tmp/r0.err)" "$GPU0"
        contains "round $round: hint" "$(cat /tmp/r0.err)" 'variantctl prepare r0'
        variantctl wait r0 >/dev/null 2>&1
        virsh start r0 >/dev/null
        second=$((second + 1))
    fi
    equal "round $round: driver" "$(driver $GPU0)" $VARIANT
    virsh destroy r0 >/dev/null
    equal "round $round: driver and override afterwards" "$(driver $GPU0)/$(override $GPU0)" "$before"
    virsh undefine r0 >/dev/null
done
echo "= $rounds rounds: $first started at once, $second refused and started at the second try"
