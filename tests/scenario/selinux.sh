# The host boots with SELinux, which enforces Debian's policy 'default' with variantd's module. Definitions, starts, ends, doctor, a crash of
# the agent, the shared socket, the questions to QEMU, a reservation and udev's rule must work, each program in its own domain, and no
# denial may name a domain, file or socket of variantd. Debian's policy denies its own domains of libvirt and QEMU what they need, so these
# domains are permissive; the results show what it would deny them.
# by name
# on: x86_64 lsm=selinux
# kernel: lsm=selinux audit=1 audit_backlog_limit=8192 log_buf_len=8M sysctl.kernel.printk_ratelimit=0
# packages: policycoreutils selinux-policy-default selinux-utils
# deadline: 3600
install_packages
sed -i 's/^SELINUX=.*/SELINUX=enforcing/' /etc/selinux/config
/usr/libexec/variantd/variantd-selinux load
# libvirt's daemons, its guests with and without KVM, and systemd-machined, where libvirt registers them
for domain in virtd_t virtlogd_t svirt_t svirt_prot_exec_t systemd_machined_t; do echo "(typepermissive $domain)"; done >/root/permissive.cil
# The lab's own programs act as an administrator. systemd starts them, not a login. The folder that they share with the machine outside
# has no labels.
cat >>/root/permissive.cil <<'END'
(allow unlabeled_t unlabeled_t (filesystem (associate)))
(roletype system_r unconfined_mount_t)
(allow init_t unconfined_t (process (transition siginh rlimitinh noatsecure)))
(allow unconfined_t shell_exec_t (file (entrypoint)))
END
semodule -n -i /root/permissive.cil
# libvirt's driver for SELinux, which the lab does without elsewhere
sed -i '/^security_driver/d' /etc/libvirt/qemu.conf
for unit in lab-agent:agent lab-shell:shell; do
    mkdir -p /etc/systemd/system/${unit%:*}.service.d
    printf '[Service]\nExecStart=\nExecStart=/bin/bash /lab/%s\nSELinuxContext=system_u:system_r:unconfined_t:s0\n' ${unit#*:} \
        >/etc/systemd/system/${unit%:*}.service.d/selinux.conf
done
# Without a policy the kernel knows only contexts of its own and answers each other one with 'kernel', which libselinux would write. So it
# must not find the kernel's file system here. -m: without a policy the kernel does not say which mounts have labels.
unshare --mount sh -ec '
    umount /sys/fs/selinux
    exec setfiles -m -F -e /dev -e /proc -e /mnt -e /run -e /share -e /sys /etc/selinux/default/contexts/files/file_contexts /' >/root/setfiles.log 2>&1 ||
    fail "setfiles: $(tail -3 /root/setfiles.log)"
label() { stat -c %C "$1" | cut -d: -f3; }
equal 'label of bash' "$(label /usr/bin/bash)" shell_exec_t
equal 'label of the agent' "$(label /usr/sbin/variantd)" variantd_exec_t
sync
# reboot
trap 'remove_guests s0; qemu_capability remove 2>/dev/null || true; rm -f /etc/variantd/reserved.d/*; systemctl stop variantd-connect.socket; set_driver $GPU0' EXIT
context() { tr -d '\0' <"/proc/$1/attr/current"; }
# domain PROCESS: the type of its context
domain() { context "$1" | cut -d: -f3; }
label() { stat -c %C "$1" | cut -d: -f3; }
pid() { systemctl show -p MainPID --value variantd; }
denials() { dmesg | grep -E 'avc: +denied'; }
# no_denial WHEN: none names variantd
no_denial() { ! denials | grep variantd || fail "denied $1"; }
# The hook's process has the name of its link.
hook_waits() { pgrep -f '^/etc/libvirt/hooks/qemu.d/variantd '; }

equal 'mode' "$(cat /sys/fs/selinux/enforce)" 1
within 60 is_connected
equal 'domain of this scenario' "$(domain self)" unconfined_t
equal 'domain of the agent' "$(domain "$(pid)")" variantd_t
equal "domain of libvirt's daemon" "$(domain "$(pidof libvirtd)")" virtd_t
for file in variantd:variantd_exec_t variantd-hook:variantd_hook_exec_t; do equal "label of ${file%:*}" "$(label /usr/sbin/${file%:*})" ${file#*:}; done
equal 'label of the run folder' "$(label /run/variantd)" variantd_run_t
no_denial 'at the boot'

# The boolean of Debian's policy for guests with VFIO is off.
found VD-DOC-061 virt_use_vfio
fixed VD-DOC-061
passes VD-DOC-060 || fail "$(check_line VD-DOC-060)"

# A guest from its definition to its end. While the agent is stopped, its hook waits and shows its domain.
set_driver $GPU0 pci-stub
guest s0 $GPU0 >/tmp/s0.xml
virsh define /tmp/s0.xml >/dev/null
within 60 is_complete s0
kill -STOP "$(pid)"
virsh start s0 --paused >/dev/null &
starter=$!
within 60 hook_waits
for hook in $(hook_waits); do equal 'domain of the hook' "$(domain $hook)" variantd_hook_t; done
kill -CONT "$(pid)"
wait $starter || fail 'the guest does not start'
equal 'driver of the running guest' "$(driver $GPU0)" $VARIANT
contains 'domain of the guest' "$(context "$(cat /run/libvirt/qemu/s0.pid)")" svirt_
equal 'label of the file that notes a call' "$(label /run/variantd/called)" variantd_called_t
within 60 ready || fail "$(variantctl doctor -q --strict)"
virsh destroy s0 >/dev/null
is_restored() { [ "$(driver $GPU0)/$(override $GPU0)" = pci-stub/pci-stub ] && no_guest; }
within 60 is_restored
no_denial 'at a start and an end'

# The agent crashes under a running guest, and the next one releases its GPU.
confined_crash s0 domain variantd_t
no_denial 'at a crash of the agent'

# The other units and udev's rule.
confined_units s0
# QEMU with a file capability: systemd mounts file systems without nosuid for a unit here, so the kernel does not execute it for a unit that
# cannot have the capability.
knows_initiators() { grep -q acpi-generic-initiator /run/variantd-probe/answer.json; }
limit=/run/systemd/system/variantd-probe.service.d/limit.conf
qemu_capability set
rm /run/variantd-probe/answer.json
systemctl restart variantd-probe
knows_initiators || fail 'QEMU with a file capability did not answer'
mkdir -p ${limit%/*}
printf '[Service]\nCapabilityBoundingSet=\n' >$limit
systemctl daemon-reload
rm /run/variantd-probe/answer.json
systemctl restart variantd-probe || true
! knows_initiators || fail 'the unit does not need CAP_IPC_LOCK'
rm $limit
systemctl daemon-reload
qemu_capability remove
systemctl restart variantd-probe
knows_initiators || fail 'QEMU did not answer'
# A driver whose module is not loaded: modprobe runs in a domain of its own.
set_driver $GPU0
modprobe -r $VARIANT
variantctl bind $GPU0 >/dev/null
equal 'driver after its module was loaded' "$(driver $GPU0)" $VARIANT
variantctl release $GPU0 >/dev/null
variantctl reserve $GPU0 >/dev/null
equal 'label of a reservation' "$(label /etc/variantd/reserved.d/$GPU0.toml)" variantd_reserved_t
variantctl unreserve --now $GPU0 >/dev/null
no_denial 'at the other units'

echo "= policy version $(cat /sys/fs/selinux/policyvers), enforcing; no denial names variantd"
denials | sed -n 's/.*denied *\({[^}]*}\).*scontext=[^:]*:[^:]*:\([^:]*\).*tcontext=[^:]*:[^:]*:\([^:]*\).* tclass=\([a-z_0-9]*\) permissive=1.*/\2 \3 \4 \1/p' |
    sort | uniq -c | sort -rn | sed 's/^ */= Debian'"'"'s policy would deny: /' | head -12

# Without the module the agent serves the hook in a domain of Debian's, which may not answer clients of the bus. doctor names the module,
# and its command loads it again.
set_driver $GPU0 pci-stub
/usr/libexec/variantd/variantd-selinux unload
systemctl --quiet is-active variantd
! [[ $(domain "$(pid)") == variantd* ]] || fail "the agent is in $(domain "$(pid)")"
virsh start s0 --paused >/dev/null
virsh destroy s0 >/dev/null
within 60 is_restored
found VD-DOC-060 'no module for variantd'
fixed VD-DOC-060
within 60 is_connected
dmesg --clear
equal 'domain of the agent' "$(domain "$(pid)")" variantd_t
virsh start s0 --paused >/dev/null
virsh destroy s0 >/dev/null
within 60 is_restored
no_denial 'with the module loaded again'
