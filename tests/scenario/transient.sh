# 'virsh create' starts a prepared guest and refuses an unprepared one with the command that starts it. Then define and start in one
# process, as OpenStack Nova does, without and with the call of packaging/doc/openstack.md. ROUNDS=10 runs more rounds of it.
# deadline: 900
agent_settings
trap 'forget t0 n0' EXIT
forget t0 n0
before="$(driver $GPU0)/$(override $GPU0)"
guest t0 $GPU0 >/tmp/t0.xml

# back WHAT: the guest has ended, and its GPU is on its previous driver
back() {
    virsh destroy t0 >/dev/null
    ! virsh dominfo t0 >/dev/null 2>&1 || fail "$1: the transient guest has a definition"
    equal "$1: driver and override afterwards" "$(driver $GPU0)/$(override $GPU0)" "$before"
}

! virsh create /tmp/t0.xml >/tmp/t0.out 2>&1 || fail 'an unprepared transient guest was started'
contains 'refusal' "$(cat /tmp/t0.out)" "$GPU0"
contains 'the command that helps' "$(cat /tmp/t0.out)" 'variantctl create FILE'
! grep -q 'variantctl prepare' /tmp/t0.out || fail "it is told to prepare what has no definition: $(cat /tmp/t0.out)"
equal 'driver and override after the refusal' "$(driver $GPU0)/$(override $GPU0)" "$before"
! variantctl prepare t0 >/tmp/t0.out 2>&1 || fail 'a guest that is not there was prepared'
contains 'prepare' "$(cat /tmp/t0.out)" 'variantctl create FILE'
echo '= virsh create of an unprepared guest is refused, and the refusal names variantctl create'

variantctl create /tmp/t0.xml >/tmp/t0.out
contains 'created' "$(cat /tmp/t0.out)" "domain 't0' was completed by"
equal 'driver' "$(driver $GPU0)" $VARIANT
! virsh list --all --persistent --name | grep -qx t0 || fail 'variantctl create left a definition'
contains 'mark' "$(virsh dumpxml t0)" 'variantd:prepared'
back 'variantctl create'
echo "= $(head -1 /tmp/t0.out)"

# The agent's D-Bus method: XML in, completed XML out, no change.
versions=$(sed 's/^/--target /' /var/lib/variantd/versions)
# shellcheck disable=SC2086 # two words
variantctl rewrite $versions /tmp/t0.xml >/tmp/t0.done 2>/dev/null
busctl call org.variantd1 /org/variantd1 org.variantd1.Manager PrepareXml 'sa{sv}' "$(cat /tmp/t0.xml)" 0 >/tmp/t0.answer
contains 'PrepareXml' "$(cat /tmp/t0.answer)" 'variantd:prepared'
virsh create /tmp/t0.done >/dev/null
equal 'driver of a prepared guest' "$(driver $GPU0)" $VARIANT
# The XML as libvirt formats it is still complete when it is created again.
virsh dumpxml --inactive t0 >/tmp/t0.again
back 'virsh create of a rewritten guest'
virsh create /tmp/t0.again >/dev/null
back 'virsh create of what libvirt printed'
echo '= virsh create starts the output of variantctl rewrite, and the XML that libvirt formats from it'

# One process, one connection, no pause between define and start: the agent's completion may come too late.
guest n0 $GPU0 >/tmp/n0.xml
first=0 second=0 rounds=${ROUNDS:-10}
for round in $(seq "$rounds"); do
    if virsh "define /tmp/n0.xml; start n0" >/tmp/n0.out 2>&1; then
        first=$((first + 1))
    else
        contains "round $round: way out" "$(cat /tmp/n0.out)" 'start '
        variantctl wait --timeout 120 n0 >/dev/null 2>&1
        virsh start n0 >/dev/null
        second=$((second + 1))
    fi
    equal "round $round: driver" "$(driver $GPU0)" $VARIANT
    forget n0
done
echo "= define and start in one process, $rounds rounds: $first started at once, $second at the second try"

# The same with that call, by an unprivileged user: completed before the define, from the agent's snapshot. It has no race, so few rounds are enough.
rounds=${ROUNDS:-3}
for round in $(seq "$rounds"); do
    setpriv --reuid 65534 --regid 65534 --clear-groups variantctl --host /run/variantd/host.json rewrite - \
        </tmp/n0.xml >/tmp/n0.done 2>/tmp/n0.out || fail "round $round: $(cat /tmp/n0.out)"
    virsh "define /tmp/n0.done; start n0" >/tmp/n0.out 2>&1 || fail "round $round: $(cat /tmp/n0.out)"
    equal "round $round: driver of a guest that was completed first" "$(driver $GPU0)" $VARIANT
    forget n0
done
echo "= completed first, then defined and started in one process: $rounds of $rounds started at once"
