# Reverts a completed definition. The text must equal the original byte for byte, and stay so until 'variantctl prepare'.
agent_settings
trap 'remove_guests v0; rm -f /etc/variantd/variantd.conf; systemctl restart variantd' EXIT
remove_guests v0
guest v0 $GPU0 >/tmp/v0.xml
systemctl stop variantd
virsh define /tmp/v0.xml >/dev/null
inactive v0 >/tmp/v0.before
systemctl start variantd
within 20 is_complete v0
variantctl revert v0
cmp /tmp/v0.before <(inactive v0)
variantctl wait v0 2>&1 | grep -q 'waits for a request' || fail 'a reverted domain must wait for a request'
cmp /tmp/v0.before <(inactive v0)
! printed=$(virsh start v0 2>&1) || fail 'a guest without its initiators started'
contains 'hint' "$printed" 'variantctl prepare v0'
sleep 2
cmp /tmp/v0.before <(inactive v0)
variantctl prepare v0 2>/dev/null
virsh start v0 >/dev/null
