# deadline: 1500
# The agent is killed at each change of its records and of sysfs that the next agent can see: of an administrator's bind and
# release, of a guest's start and of its end. Afterwards the GPU is bound and recorded, or on its previous driver and not
# recorded, and the same verb succeeds. crash-every-step.sh has every step, with a kill before, during and after each.
settings=/run/systemd/system/variantd.service.d
step=/run/lab-step
agent_settings
trap 'unwatch_libvirt; rm -rf $settings $step; systemctl daemon-reload; systemctl restart variantd
    /lab/outside gpu 0 ready; forget c0; stand_in $GPU0' EXIT
forget c0
guest c0 $GPU0 >/tmp/c0.xml
virsh define /tmp/c0.xml >/dev/null
variantctl wait c0 >/dev/null
virsh dumpxml c0 >/tmp/c0-hook.xml

# The agent logs its steps, and systemd restarts it at once.
mkdir -p $settings $step
cp step.so /usr/local/lib/lab-step.so
printf '%s\n' '[Unit]' StartLimitIntervalSec=0 '[Service]' RestartSec=50ms TimeoutStopSec=2 ReadWritePaths=$step \
    Environment=LD_PRELOAD=/usr/local/lib/lab-step.so >$settings/step.conf
: >$step/log
systemctl daemon-reload
systemctl restart variantd
within 20 is_connected

watch_libvirt version 'list --all'
every=${every-}
bound=$VARIANT/$VARIANT
state() { echo "$(driver $GPU0)/$(override $GPU0)"; }
records() { find /run/variantd/records -name '*.json' 2>/dev/null; }
said() { sed -n "s/.*\"$1\": *\"\{0,1\}\([^\",]*\).*/\1/p" $(records) | tail -1; }
is_back() { [ "$(state)" = pci-stub/pci-stub ] && [ -z "$(records)" ]; }
is_held() { [ "$(state)" = $bound ] && [ -n "$(held)" ] && [ "$(said phase)" = bound ]; }
is_bound_by_admin() { [ "$(state)" = $bound ] && [ "$(said owner)" = admin ] && [ "$(said phase)" = bound ]; }
either() { local one; for one in "$@"; do ! "$one" || return 0; done; return 1; }
agent() { systemctl show -p MainPID --value variantd; }
# One call reads state and process: between two calls systemd may notice that the old process has ended.
is_another() {
    sleep 0.2
    systemctl show -p ActiveState -p MainPID variantd | awk -F= -v old="$1" '
        $1 == "ActiveState" { active = $2 == "active" } $1 == "MainPID" { other = $2 != 0 && $2 != old } END { exit !(active && other) }'
}

hook() { variantd-hook c0 "$@" </tmp/c0-hook.xml; }
bind() { variantctl bind $GPU0; }
release() { variantctl release $GPU0; }
prepare() { hook prepare begin -; }
release_guest() { hook release end destroyed; }
is_off() { [ "$(virsh domstate c0 | head -1)" = 'shut off' ]; }
start() { virsh start c0 --paused; }
destroy() { virsh destroy c0; }

# must VERB STATE: without a kill the verb leads to that state. The scenario calls the hook without a start, and an agent that
# asks libvirt for the first time releases the devices of inactive guests. Its report on c0 comes after that.
must() {
    local said
    rm -f $step/plan
    [ "$1" != prepare ] || variantctl wait c0 >/dev/null
    : >$step/log
    said=$("$1" 2>&1) || fail "$1: $said"
    within 20 "$2"
}

# crash VERB NUMBER WHEN STATE...: kills the agent at that step; one of these states must follow
crash() {
    local verb=$1 number=$2 when=$3 old; shift 3
    old=$(agent)
    : >$step/log
    echo "$number $when" >$step/plan
    "$verb" >/dev/null 2>&1 || true
    [ "$(wc -l <$step/log)" -ge "$number" ] || fail "'$verb' has no step $number"
    within 30 is_another "$old"
    within 60 either "$@" || fail "$verb killed $when step $number ($(sed -n "${number}p" $step/log)): $(state), $(tail -n +1 $(records))"
    points=$((points + 1))
}

# crashes VERB UNDO FROM TO STATE...: the verb leads from one state to the other. For each of its steps: after a kill there one of
# the states follows, and then the verb and its undo succeed.
crashes() {
    local verb=$1 undo=$2 from=$3 to=$4 total number when whens; shift 4
    points=0
    must "$verb" "$to"
    cp $step/log /tmp/steps
    total=$(wc -l </tmp/steps)
    must "$undo" "$from"
    for number in $(seq "$total"); do
        # After a step is the same as before the next one, except for the last step.
        case $(sed -n "${number}p" /tmp/steps) in
        *' /sys/'*) whens="meanwhile${every:+ before after}" ;;
        "$total "*) whens="after${every:+ before}" ;;
        *' rename '* | *' unlink '*) whens=before ;;
        *) whens=${every:+before} ;;
        esac
        for when in $whens; do
            crash "$verb" "$number" $when "$@"
            # The next kill also shows that the verb succeeds up to that step.
            [ -z "$every" ] && [ "$number" -lt "$total" ] || ! "$from" || must "$verb" "$to"
            "$from" || must "$undo" "$from"
        done
    done
    printf '= %s: %s steps, killed at %s points\n' "$verb" "$total" $points
}

stand_in $GPU0 pci-stub
crashes bind release is_back is_bound_by_admin is_back is_bound_by_admin
crashes prepare release_guest is_back is_held is_back
must prepare is_held
crashes release_guest prepare is_held is_back is_back
must release_guest is_back
must bind is_bound_by_admin
crashes release bind is_bound_by_admin is_back is_back is_bound_by_admin
must release is_back

libvirt_answered

# virsh start and destroy, with a kill at each write to sysfs.
watch_libvirt version nodedev-list
must start is_held
cp $step/log /tmp/start
must destroy is_back
cp $step/log /tmp/destroy
for verb in start destroy; do
    points=0
    for number in $(sed -n 's/ .* \/sys\/.*//p' /tmp/$verb); do
        [ $verb = start ] || must start is_held
        crash $verb "$number" meanwhile is_back
        within 20 is_off
    done
    printf '= virsh %s: killed at %s points\n' $verb $points
done
must start is_held
must destroy is_back

libvirt_answered

# The write outlives the agent: the GPU's probe waits, and ends after the agent has restarted.
watch_libvirt version 'list --all'
is_under_way() { pgrep -f 'variantd-child write-knob / bind' >/dev/null; }
outlived() {
    /lab/outside gpu 0 never
    crash "$1" "$(sed -n "s/ write .*$VARIANT\/bind\$//p" /tmp/steps)" meanwhile is_under_way
    [ -n "$(records)" ] || fail 'nothing is recorded of a write under way'
}
must bind is_bound_by_admin
cp $step/log /tmp/steps
must release is_back
outlived bind
/lab/outside gpu 0 ready
within 60 is_back
must bind is_bound_by_admin
must release is_back

# A start during such a write waits for it. The agent may not have asked libvirt yet.
must prepare is_held
cp $step/log /tmp/steps
must release_guest is_back
outlived prepare
(sleep 3; /lab/outside gpu 0 ready) &
must start is_held
must destroy is_back

# The write fails in the end.
outlived prepare
within 60 is_back
/lab/outside gpu 0 ready
must prepare is_held
must release_guest is_back
libvirt_answered
printf '= libvirt answered %s calls within %s s each\n' $answered $timeout_s
