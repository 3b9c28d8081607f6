# The agent completes a plain hostdev right after 'virsh define', and changes nothing else.
agent_settings
trap 'kill $events 2>/dev/null; forget d0 d1 d2' EXIT
forget d0 d1 d2

# libvirt's time stamps: its 'Added' is this define, the next 'Updated' is the agent's.
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

# The agent is stopped, so libvirt keeps this definition as it was before completion.
systemctl stop variantd
guest d1 $GPU1 >/tmp/d1.xml
virsh define /tmp/d1.xml >/dev/null
inactive d1 >/tmp/before.xml
systemctl start variantd
within 20 is_complete d1
inactive d1 >/tmp/after.xml
awk '/<metadata>/, /<\/metadata>/ { next } /<numa>/, /<\/numa>/ { next } /<acpi nodeset=/ { next } /<driver name=.vfio. model=/ { next }
     { print }' /tmp/after.xml |
    awk '/<cpu .*[^\/]>$/ { held = $0; next }
         held != "" && /<\/cpu>/ { sub(/>$/, "/>", held); print held; held = ""; next }
         { print }' >/tmp/stripped.xml
diff /tmp/before.xml /tmp/stripped.xml || fail 'the rest of the definition changed'

# The definition of an unrelated guest does not change.
guest d2 >/tmp/d2.xml
virsh define /tmp/d2.xml >/dev/null
inactive d2 >/tmp/d2.before
variantctl wait d2
cmp /tmp/d2.before <(inactive d2)
