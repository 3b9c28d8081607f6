# Starts transient guests: a prepared one must start, an unprepared one must be refused with the command to use, and that command
# must work. Then defines and starts a guest in one process, as OpenStack Nova does, with and without the call of
# packaging/doc/openstack.md. ROUNDS=100: more rounds.
# deadline: 900 + 40 ROUNDS
agent_settings
trap 'remove_guests t0 n0' EXIT
remove_guests t0 n0
before="$(driver $GPU0)/$(override $GPU0)"
guest t0 $GPU0 >/tmp/t0.xml

# ended WHAT: destroys the guest; no definition may be left, and its GPU must have its previous driver
ended() {
    virsh destroy t0 >/dev/null
    ! virsh dominfo t0 >/dev/null 2>&1 || fail "$1: the transient guest has a definition"
    equal "$1: driver and override afterwards" "$(driver $GPU0)/$(override $GPU0)" "$before"
}

! virsh create /tmp/t0.xml >/tmp/t0.out 2>&1 || fail 'an unprepared transient guest was started'
contains 'refusal' "$(cat /tmp/t0.out)" "$GPU0"
contains 'the hint' "$(cat /tmp/t0.out)" 'variantctl create FILE'
! grep -q 'variantctl prepare' /tmp/t0.out || fail "the hint names 'prepare' for a guest without a definition: $(cat /tmp/t0.out)"
equal 'driver and override after the refusal' "$(driver $GPU0)/$(override $GPU0)" "$before"
! variantctl prepare t0 >/tmp/t0.out 2>&1 || fail 'a guest that does not exist was prepared'
contains 'prepare' "$(cat /tmp/t0.out)" 'variantctl create FILE'
echo '= virsh create of an unprepared guest is refused, and the refusal names variantctl create'

variantctl create /tmp/t0.xml >/tmp/t0.out
contains 'created' "$(cat /tmp/t0.out)" "domain 't0' is created; "
equal 'driver' "$(driver $GPU0)" $VARIANT
! virsh list --all --persistent --name | grep -qx t0 || fail 'variantctl create left a definition'
contains 'mark' "$(virsh dumpxml t0)" 'variantd:prepared'
ended 'variantctl create'
echo "= $(head -1 /tmp/t0.out)"

# The method PrepareXml takes XML and returns completed XML. It changes nothing on the host.
versions=$(sed 's/^/--target /' /var/lib/variantd/versions)
# shellcheck disable=SC2086 # two words
variantctl rewrite $versions /tmp/t0.xml >/tmp/t0.done 2>/dev/null
busctl call org.variantd1 /org/variantd1 org.variantd1.Manager PrepareXml 'sa{sv}' "$(cat /tmp/t0.xml)" 0 >/tmp/t0.answer
contains 'PrepareXml' "$(cat /tmp/t0.answer)" 'variantd:prepared'
virsh create /tmp/t0.done >/dev/null
equal 'driver of a prepared guest' "$(driver $GPU0)" $VARIANT
# The definition as libvirt formats it must also be complete.
virsh dumpxml --inactive t0 >/tmp/t0.again
ended 'virsh create of a rewritten guest'
virsh create /tmp/t0.again >/dev/null
ended "virsh create of libvirt's format"
echo '= virsh create starts the output of variantctl rewrite, and the same in the format of libvirt'

# One process and one connection without a pause: the start can precede the agent's completion of the definition.
guest n0 $GPU0 >/tmp/n0.xml
first=0 second=0 rounds=${ROUNDS:-3}
for round in $(seq "$rounds"); do
    if virsh "define /tmp/n0.xml; start n0" >/tmp/n0.out 2>&1; then
        first=$((first + 1))
    else
        contains "round $round: hint" "$(cat /tmp/n0.out)" 'start '
        variantctl wait --timeout 120 n0 >/dev/null 2>&1
        virsh start n0 >/dev/null
        second=$((second + 1))
    fi
    equal "round $round: driver" "$(driver $GPU0)" $VARIANT
    remove_guests n0
done
echo "= define and start in one process, $rounds rounds: $first started at once, $second at the second try"

# The call of openstack.md by an unprivileged user: it completes the definition from the agent's snapshot before the define. There
# is no race, so three rounds are enough.
rounds=${ROUNDS:-3}
for round in $(seq "$rounds"); do
    setpriv --reuid 65534 --regid 65534 --clear-groups variantctl --host /run/variantd/host.json rewrite - \
        </tmp/n0.xml >/tmp/n0.done 2>/tmp/n0.out || fail "round $round: $(cat /tmp/n0.out)"
    virsh "define /tmp/n0.done; start n0" >/tmp/n0.out 2>&1 || fail "round $round: $(cat /tmp/n0.out)"
    equal "round $round: driver of a guest that was completed first" "$(driver $GPU0)" $VARIANT
    remove_guests n0
done
echo "= completed first, then defined and started in one process: $rounds of $rounds started at once"
