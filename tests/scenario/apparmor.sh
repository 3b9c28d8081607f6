# The host boots with AppArmor, and guests have libvirt's own profiles. Definitions, starts, ends, doctor, a crash of the agent, the shared
# socket, the questions to QEMU, a reservation and udev's rule must work with each program in its enforced profile, without a denial of them.
# by name
# on: x86_64 lsm=apparmor
# kernel: apparmor=1 audit=1 audit_backlog_limit=8192 log_buf_len=8M lsm=apparmor sysctl.kernel.printk_ratelimit=0
# packages: apparmor
# deadline: 2400
install_packages
# Only the profiles of libvirt and variantd: to compile the others takes minutes under emulation.
for file in /etc/apparmor.d/*; do
    case ${file##*/} in
    variantd* | usr.sbin.libvirtd | usr.lib.libvirt.virt-aa-helper) ;;
    *) [ -d "$file" ] || rm "$file" ;;
    esac
done
# libvirt's driver for AppArmor, which the lab does without elsewhere
sed -i '/^security_driver/d' /etc/libvirt/qemu.conf
sync
# reboot
trap 'remove_guests a0; rm -f /etc/variantd/reserved.d/*; systemctl stop variantd-connect.socket; set_driver $GPU0' EXIT
label() { tr -d '\0' <"/proc/$1/attr/current"; }
pid() { systemctl show -p MainPID --value variantd; }
denials() { dmesg | grep -E 'apparmor="(DENIED|ALLOWED)"'; }
# no_denial WHEN: none of variantd's profiles
no_denial() { ! denials | grep 'profile="variantd' || fail "denied $1"; }
# The hook's process has the name of its link.
hook_waits() { pgrep -f '^/etc/libvirt/hooks/qemu.d/variantd '; }

equal 'AppArmor' "$(cat /sys/module/apparmor/parameters/enabled)" Y
within 60 is_connected
for profile in variantd variantd-connect variantd-hook variantd-probe libvirtd; do
    grep -qx "$profile (enforce)" /sys/kernel/security/apparmor/profiles || fail "'$profile' is not enforced"
done
equal 'label of the agent' "$(label "$(pid)")" 'variantd (enforce)'
equal "label of libvirt's daemon" "$(label "$(pidof libvirtd)")" 'libvirtd (enforce)'
no_denial 'at the boot'

set_driver $GPU0 pci-stub
guest a0 $GPU0 >/tmp/a0.xml
virsh define /tmp/a0.xml >/dev/null
within 60 is_complete a0
kill -STOP "$(pid)"
virsh start a0 --paused >/dev/null &
starter=$!
within 60 hook_waits
for hook in $(hook_waits); do equal 'label of the hook' "$(label $hook)" 'variantd-hook (enforce)'; done
kill -CONT "$(pid)"
wait $starter || fail 'the guest does not start'
equal 'driver of the running guest' "$(driver $GPU0)" $VARIANT
contains 'label of the guest' "$(label "$(cat /run/libvirt/qemu/a0.pid)")" libvirt-
within 60 ready || fail "$(variantctl doctor -q --strict)"
virsh destroy a0 >/dev/null
is_restored() { [ "$(driver $GPU0)/$(override $GPU0)" = pci-stub/pci-stub ] && no_guest; }
within 60 is_restored
no_denial 'at a start and an end'

# The agent crashes under a running guest, and the next one releases its GPU.
confined_crash a0 label 'variantd (enforce)'
no_denial 'at a crash of the agent'

# The other units and udev's rule.
confined_units a0
# A driver whose module is not loaded: modprobe runs in the agent's profile.
set_driver $GPU0
modprobe -r $VARIANT
variantctl bind $GPU0 >/dev/null
equal 'driver after its module was loaded' "$(driver $GPU0)" $VARIANT
variantctl release $GPU0 >/dev/null
no_denial 'at the other units'

# An agent without its profile is named, and the command of the hint confines it.
apparmor_parser -R /etc/apparmor.d/variantd
systemctl restart variantd
within 60 is_connected
! passes VD-DOC-062 || fail 'an unconfined agent is not named'
contains VD-DOC-062 "$(check_line VD-DOC-062)" "'unconfined'"
fixed VD-DOC-062
equal 'label of the agent' "$(label "$(pid)")" 'variantd (enforce)'
no_denial 'at all'
echo "= $(grep -c '(enforce)' /sys/kernel/security/apparmor/profiles) profiles enforced; no denial of a profile of variantd"
denials | sed -n 's/.*apparmor="\([A-Z]*\)" operation="\([^"]*\)".* profile="\([^"]*\)".*name="\([^"]*\)".*/\1 \3 \2 \4/p' |
    sed 's/libvirt-[0-9a-f-]*/libvirt-UUID/' | sort | uniq -c | sort -rn | sed 's/^ */= of libvirt: /' | head -8
