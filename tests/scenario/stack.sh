# The agent asks the installed libvirt and QEMU what they can express: QEMU by variantd-probe.service, without rights. It asks again
# after an upgrade of one of them, and not before.
probes() { journalctl -u variantd-probe --no-pager | grep -c 'Finished variantd-probe.service' || true; }
is_asked() { variantctl stack 2>/dev/null | grep -q '^qemu_egm .* asked$'; }

rm -f /var/lib/variantd/stack.json
agent_settings
within 150 is_asked
variantctl stack >/tmp/stack 2>/tmp/stack.notes || fail "the halves do not fit: $(tail -1 /tmp/stack)"
equal 'notes' "$(cat /tmp/stack.notes)" ''
contains 'hostdev iommufd' "$(grep '^hostdev_iommufd ' /tmp/stack)" grammar
contains "QEMU's package" "$(sed -n 2p /tmp/stack)" "$(qemu-system-x86_64 --version | sed -n '1s/.*(\(.*\)).*/\1/p')"
printf '= %s answers are not assumed by version\n' "$(grep -Ec ' (asked|grammar|translated)$' /tmp/stack)"

before=$(probes)
agent_settings
pause 5
equal 'probes after a restart' "$(probes)" "$before"
# As an upgrade does, this changes the time of the inode.
chmod --reference=/usr/bin/qemu-system-x86_64 /usr/bin/qemu-system-x86_64
agent_settings
was_asked_again() { [ "$(probes)" -gt "$before" ]; }
within 150 was_asked_again
within 150 is_asked
