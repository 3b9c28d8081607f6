# Damages a completed definition and starts the guest. The hook must refuse the start, and the message must name the device, the
# rule and the fix.
agent_settings 'prepare = "on-request"' 'repair = false'
trap 'remove_guests d0; rm -f /etc/variantd/variantd.conf; systemctl restart variantd' EXIT
remove_guests d0
guest d0 $GPU0 >/tmp/d0.xml
virsh define /tmp/d0.xml >/dev/null
variantctl prepare d0 >/dev/null
is_complete d0 || fail 'prepare did not complete the definition'
inactive d0 >/tmp/good.xml
before="$(driver $GPU0)/$(override $GPU0)"

# refused CODE PART: the start must be refused with this code and PART, and the device must stay unchanged
refused() {
    local printed
    ! printed=$(virsh start d0 2>&1) || fail "the damaged guest started: $1"
    contains 'device' "$printed" "$GPU0"
    contains 'rule' "$printed" "$1"
    contains 'fix' "$printed" "$2"
    equal 'sentences' "$(grep -c . <<<"$printed")" 2
    equal 'device afterwards' "$(driver $GPU0)/$(override $GPU0)" "$before"
    echo "$printed"
}

grep -v '<acpi nodeset=' /tmp/good.xml >/tmp/damaged.xml
virsh define /tmp/damaged.xml >/dev/null
refused VD-NUM-005 'variantctl prepare d0'

awk '/<hostdev /, /<\/hostdev>/ { if (/<address type=/) sub("function=.0x0.", "function=\"0x1\"") }
     !/<acpi nodeset=/ { print }' /tmp/good.xml >/tmp/damaged.xml
virsh define /tmp/damaged.xml >/dev/null
refused VD-TOP-002 'variantctl prepare --replace d0'

# The command in the message fixes the definition.
variantctl prepare --replace d0 >/dev/null
virsh start d0 >/dev/null
equal 'driver' "$(driver $GPU0)" $VARIANT
