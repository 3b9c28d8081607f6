# Calls the agent as an unprivileged user with the real polkit and the real bus. The user may read, needs a polkit rule for a
# change, and must not reach the hook's socket.
agent_settings
user=jane
rules=/etc/polkit-1/rules.d/40-lab.rules
trap 'systemctl unmask polkit || true; virsh -q undefine --nvram j0 || true; rm -f $rules; systemctl try-restart polkit || true; userdel -r $user || true; variantctl release $GPU0 || true; set_driver $GPU0' EXIT
id -u $user >/dev/null 2>&1 || useradd --create-home $user
set_driver $GPU0 pci-stub
as_user() { runuser -u $user -- "$@" 2>&1; }
# refused PART COMMAND...: the agent must refuse the command of the user with this text
refused() {
    local part=$1 printed; shift
    ! printed=$(as_user "$@") || fail "a user may: $*"
    contains "$*" "$printed" "$part"
}
manager() { as_user busctl call org.variantd1 /org/variantd1 org.variantd1.Manager "$@"; }

contains 'list' "$(manager ListDevices 'a{sv}' 0)" $GPU0
contains 'a property' "$(as_user busctl get-property org.variantd1 \
    /org/variantd1/device/0000_21_00_0 org.variantd1.Device Driver)" pci-stub
refused 'no-such-domain' variantctl plan no-such-domain
refused "'org.variantd1.bind'" variantctl bind $GPU0
refused VD-AGT-006 variantctl bind $GPU0
refused 'no-such-domain' variantctl prepare no-such-domain
guest j0 >/tmp/j0.xml
virsh -q define /tmp/j0.xml
refused "'org.variantd1.prepare'" variantctl prepare j0
refused "'org.variantd1.recover'" variantctl recover
equal 'driver after refusals' "$(driver $GPU0)" pci-stub
printf '= without a rule: %s\n' "$(as_user variantctl bind $GPU0 | head -1)"

# Only root can connect to the hook's socket.
! as_user perl -MIO::Socket::UNIX -e 'exit !IO::Socket::UNIX->new("/run/variantd/hook")' || fail 'a user connected to the hook socket'

# A polkit rule for one device.
cat >$rules <<'RULE'
polkit.addRule(function(action, subject) {
    if (action.id == "org.variantd1.bind" && action.lookup("device") == "0000:21:00.0" && subject.user == "jane")
        return polkit.Result.YES;
});
RULE
systemctl restart polkit
within 20 as_user variantctl bind $GPU0
equal 'driver once allowed' "$(driver $GPU0)" $VARIANT
refused "'org.variantd1.bind'" variantctl bind $GPU1
refused "'org.variantd1.bind-in-use'" busctl call org.variantd1 /org/variantd1 org.variantd1.Manager \
    Bind 'sa{sv}' $GPU0 1 stop-services b true
as_user variantctl release $GPU0 >/dev/null
equal 'driver once released' "$(driver $GPU0)" pci-stub
printf '= with a rule: bound and released by %s\n' $user

# The user starts a job, and root reads its state.
job=$(manager StartJob 'ssa{sv}' bind $GPU0 0 | sed 's/.*"\(.*\)".*/\1/')
done_job() { busctl get-property org.variantd1 "$job" org.variantd1.Job State | grep -q done; }
within 30 done_job
equal 'driver after a job' "$(driver $GPU0)" $VARIANT
as_user variantctl release $GPU0 >/dev/null

# Without polkit the agent refuses the user, and root needs no polkit.
systemctl mask --now polkit >/dev/null 2>&1
refused VD-AGT-007 variantctl bind $GPU0
variantctl bind $GPU0 >/dev/null
equal 'driver bound by root' "$(driver $GPU0)" $VARIANT
variantctl release $GPU0 >/dev/null
