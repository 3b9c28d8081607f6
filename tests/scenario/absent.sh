# Starts a guest without a GPU while the agent is stopped, masked and removed. Each start must succeed.
trap 'remove_guests plain; systemctl unmask variantd >/dev/null 2>&1; dpkg -i /root/variantd.deb >/dev/null 2>&1; systemctl restart variantd' EXIT
remove_guests plain
guest plain >/tmp/plain.xml
virsh define /tmp/plain.xml >/dev/null
starts() { virsh start plain >/dev/null || fail "a plain guest does not start with the agent $1"; virsh destroy plain >/dev/null; }

systemctl stop variantd
starts stopped
systemctl mask --now variantd >/dev/null 2>&1
starts masked
systemctl unmask variantd >/dev/null 2>&1
dpkg -r variantd >/dev/null
[ ! -e /usr/sbin/variantd ] || fail 'the package is still installed'
starts removed
