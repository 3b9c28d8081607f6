# Rights of a user who is not root, with the real polkit and the real bus: reading is open, a change needs authorization, and
# only root may use the hook's socket.
agent_settings
user=jane
rules=/etc/polkit-1/rules.d/40-lab.rules
trap 'systemctl unmask polkit || true; virsh -q undefine --nvram j0 || true; rm -f $rules; systemctl try-restart polkit || true; userdel -r $user || true; variantctl release $GPU0 || true; stand_in $GPU0' EXIT
id -u $user >/dev/null 2>&1 || useradd --create-home $user
stand_in $GPU0 pci-stub
as_user() { runuser -u $user -- "$@" 2>&1; }
# refused WORDS COMMAND...: by the agent, with these words
refused() {
    local words=$1 said; shift
    ! said=$(as_user "$@") || fail "a user may: $*"
    contains "$*" "$said" "$words"
}
manager() { as_user busctl call org.variantd1 /org/variantd1 org.variantd1.Manager "$@"; }

contains 'a look' "$(manager ListDevices 'a{sv}' 0)" $GPU0
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
printf '= without leave: %s\n' "$(as_user variantctl bind $GPU0 | head -1)"

# Only root may connect to the hook's socket.
! as_user perl -MIO::Socket::UNIX -e 'exit !IO::Socket::UNIX->new("/run/variantd/hook")' || fail 'a user connected to the hook socket'

# A rule for one device.
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

# The user starts a job, and root sees it.
job=$(manager StartJob 'ssa{sv}' bind $GPU0 0 | sed 's/.*"\(.*\)".*/\1/')
done_job() { busctl get-property org.variantd1 "$job" org.variantd1.Job State | grep -q done; }
within 30 done_job
equal 'driver after a job' "$(driver $GPU0)" $VARIANT
as_user variantctl release $GPU0 >/dev/null

# If polkit cannot start, users get no authorization, and root needs none.
systemctl mask --now polkit >/dev/null 2>&1
refused VD-AGT-007 variantctl bind $GPU0
variantctl bind $GPU0 >/dev/null
equal 'driver bound by root' "$(driver $GPU0)" $VARIANT
variantctl release $GPU0 >/dev/null
