# Defines a guest with a plain hostdev. The agent must complete the definition right after 'virsh define' and change nothing
# else; the definition of an unrelated guest must stay unchanged.
agent_settings
trap 'kill $events 2>/dev/null; remove_guests d0 d1 d2' EXIT
remove_guests d0 d1 d2

# Time stamps of libvirt's events: 'Added' is the user's define, the 'Updated' after it is the agent's.
virsh event --event lifecycle --loop --timestamp >/tmp/events 2>&1 &
events=$!
sleep 1
guest d0 $GPU0 >/tmp/d0.xml
virsh define /tmp/d0.xml >/dev/null
within 20 is_complete d0
sed -n "s/^\([0-9-]*\) \([0-9:.]*\)[+0-9]*: event 'lifecycle' for domain 'd0': Defined \(.*\)/\2 \3/p" /tmp/events |
    awk '{ split($1, t, ":"); at = t[1] * 3600 + t[2] * 60 + t[3]
           if ($2 == "Added") added = at
           else if (added) { printf "= completed %d ms after it was defined\n", (at - added) * 1000; exit } }'
xml=$(inactive d0)
equal 'cells with CPUs' "$(grep -c "<cell id='[0-9]*' cpus=" <<<"$xml")" 1
equal 'distances' "$(grep -c '<sibling id=' <<<"$xml")" 81
contains 'own root port' "$(sed -n '/<hostdev /,/<\/hostdev>/p' <<<"$xml")" "slot='0x00' function='0x0'/>"
contains 'mark' "$(tr '"' "'" <<<"$xml")" "<variantd:device address='$GPU0' recipe='nvidia-grace' cells='1-8' added='driver nodeset'/>"

# A definition made while the agent is stopped shows the text without the added elements.
systemctl stop variantd
guest d1 $GPU1 >/tmp/d1.xml
virsh define /tmp/d1.xml >/dev/null
inactive d1 >/tmp/before.xml
systemctl start variantd
within 20 is_complete d1
inactive d1 >/tmp/after.xml
awk '/<metadata>/, /<\/metadata>/ { next } /<numa>/, /<\/numa>/ { next } /<acpi nodeset=/ { next } /<driver name=.vfio. model=/ { next }
     { print }' /tmp/after.xml |
    awk '/<cpu .*[^\/]>$/ { open = $0; next }
         open != "" && /<\/cpu>/ { sub(/>$/, "/>", open); print open; open = ""; next }
         { print }' >/tmp/stripped.xml
diff /tmp/before.xml /tmp/stripped.xml || fail 'the rest of the definition changed'

# An unrelated guest stays unchanged.
guest d2 >/tmp/d2.xml
virsh define /tmp/d2.xml >/dev/null
inactive d2 >/tmp/d2.before
variantctl wait d2
cmp /tmp/d2.before <(inactive d2)
