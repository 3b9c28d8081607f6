# deadline: 1500
# Kills the agent at each change of its records and of sysfs that the next agent can see, in a guest's start and in its end. Afterwards
# the GPU must be bound and recorded, or on its previous driver and not recorded, and every verb must work again. crash-every-step.sh
# also covers a manual bind and release, which make the same changes, and the other changes, before and after each of them.
settings=/run/systemd/system/variantd.service.d
step=/run/lab-step
agent_settings
trap 'unwatch_libvirt; rm -rf $settings $step; systemctl daemon-reload; systemctl restart variantd
    /lab/outside gpu 0 ready; remove_guests c0; set_driver $GPU0' EXIT
remove_guests c0
guest c0 $GPU0 >/tmp/c0.xml
virsh define /tmp/c0.xml >/dev/null
variantctl wait c0 >/dev/null
virsh dumpxml c0 >/tmp/c0-hook.xml

# step.so logs each step of the agent and kills it at the planned one. systemd restarts the agent after 50 ms.
mkdir -p $settings $step
cp step.so /usr/local/lib/lab-step.so
printf '%s\n' '[Unit]' StartLimitIntervalSec=0 '[Service]' RestartSec=50ms TimeoutStopSec=2 ReadWritePaths=$step \
    Environment=LD_PRELOAD=/usr/local/lib/lab-step.so >$settings/step.conf
: >$step/log
systemctl daemon-reload
systemctl restart variantd
within 20 is_connected
# The agent creates this folder once, at its first record: that is not a step of each start.
mkdir -p /run/variantd/records

watch_libvirt version 'list --all'
every=${every-}
bound=$VARIANT/$VARIANT
state() { echo "$(driver $GPU0)/$(override $GPU0)"; }
records() { find /run/variantd/records -name '*.json' 2>/dev/null; }
record_field() { sed -n "s/.*\"$1\": *\"\{0,1\}\([^\",]*\).*/\1/p" $(records) | tail -1; }
is_restored() { [ "$(state)" = pci-stub/pci-stub ] && [ -z "$(records)" ]; }
is_held() { [ "$(state)" = $bound ] && [ -n "$(domain_records)" ] && [ "$(record_field phase)" = bound ]; }
is_bound_manually() { [ "$(state)" = $bound ] && [ "$(record_field owner)" = admin ] && [ "$(record_field phase)" = bound ]; }
either() { local one; for one in "$@"; do ! "$one" || return 0; done; return 1; }
agent() { systemctl show -p MainPID --value variantd; }
# One call reads both properties: systemd may notice the end of the old process between two calls.
is_restarted() {
    local printed; printed=$(systemctl show -p ActiveState -p MainPID variantd)$'\n'
    [[ $printed == *ActiveState=active* && $printed != *MainPID=0$'\n'* && $printed != *MainPID=$1$'\n'* ]]
}
# An agent that connects to libvirt releases the devices of inactive guests; 'variantctl wait' returns after that.
is_settled() { variantctl wait c0; }

hook() { variantd-hook c0 "$@" </tmp/c0-hook.xml; }
bind() { variantctl bind $GPU0; }
release() { variantctl release $GPU0; }
prepare() { hook prepare begin -; }
unprepare() { hook release end destroyed; }
is_off() { [ "$(virsh domstate c0 | head -1)" = 'shut off' ]; }
start() { virsh start c0 --paused; }
destroy() { virsh destroy c0; }

# must VERB STATE: without a crash, the verb must succeed and lead to this state. The hook is called here without a start, so the
# agent must have settled before.
must() {
    local printed
    rm -f $step/plan
    [ "$1" != prepare ] || within 60 is_settled
    : >$step/log
    printed=$("$1" 2>&1) || fail "$1: $printed"
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
    within 30 is_restarted "$old"
    succeeds_within 60 either "$@" || fail "$verb killed $when step $number ($(sed -n "${number}p" $step/log)): $(state), $(tail -n +1 $(records))"
    points=$((points + 1))
}

# crashes VERB UNDO FROM TO STATE...: VERB leads from FROM to TO. Kills the agent at each of its steps; one of the STATEs must
# follow, and then VERB and UNDO must work.
crashes() {
    local verb=$1 undo=$2 from=$3 to=$4 total number when whens; shift 4
    points=0
    must "$verb" "$to"
    cp $step/log /tmp/steps
    total=$(wc -l </tmp/steps)
    must "$undo" "$from"
    for number in $(seq "$total"); do
        # "after" a step equals "before" the next one, except for the last step.
        case $(sed -n "${number}p" /tmp/steps) in
        *' /sys/'*) whens="meanwhile${every:+ before after}" ;;
        "$total "*) whens="after${every:+ before}" ;;
        *' rename '* | *' unlink '*) whens=before ;;
        *) whens=${every:+before} ;;
        esac
        for when in $whens; do
            crash "$verb" "$number" $when "$@"
            # What the new agent still does must not mix with the next steps.
            within 60 is_settled
            # Without 'every', the next crash already shows that the verb works again up to its step.
            [ -z "$every" ] && [ "$number" -lt "$total" ] || ! "$from" || must "$verb" "$to"
            "$from" || must "$undo" "$from"
        done
    done
    printf '= %s: %s steps, killed at %s points\n' "$verb" "$total" $points
}

set_driver $GPU0 pci-stub
[ -z "$every" ] || crashes bind release is_restored is_bound_manually is_restored is_bound_manually
crashes prepare unprepare is_restored is_held is_restored
must prepare is_held
crashes unprepare prepare is_held is_restored is_restored
must unprepare is_restored
must bind is_bound_manually
[ -z "$every" ] || crashes release bind is_bound_manually is_restored is_restored is_bound_manually
must release is_restored

libvirt_answered

# A real start and end by libvirt, with a crash at each write to sysfs.
watch_libvirt version nodedev-list
must start is_held
cp $step/log /tmp/start
must destroy is_restored
cp $step/log /tmp/destroy
for verb in start destroy; do
    points=0
    for number in $(sed -n 's/ .* \/sys\/.*//p' /tmp/$verb); do
        [ $verb = start ] || must start is_held
        crash $verb "$number" meanwhile is_restored
        within 20 is_off
    done
    printf '= virsh %s: killed at %s points\n' $verb $points
done
must start is_held
must destroy is_restored

libvirt_answered

# The write outlives the agent: the GPU's probe blocks until after the agent's restart. Below, a start waits for it for 3 s, and
# 'list --all' would wait for that start.
watch_libvirt version nodedev-list
is_under_way() { pgrep -f 'variantd-child write-attribute / bind' >/dev/null; }
outlived() {
    /lab/outside gpu 0 never
    crash "$1" "$(sed -n "s/ write .*$VARIANT\/bind\$//p" /tmp/steps)" meanwhile is_under_way
    [ -n "$(records)" ] || fail 'a write is under way and has no record'
}
must bind is_bound_manually
cp $step/log /tmp/steps
must release is_restored
outlived bind
/lab/outside gpu 0 ready
within 60 is_restored
must bind is_bound_manually
must release is_restored

# A start during the write waits for it, also if the agent has not connected to libvirt yet.
must prepare is_held
cp $step/log /tmp/steps
must unprepare is_restored
outlived prepare
(sleep 3; /lab/outside gpu 0 ready) &
must start is_held
must destroy is_restored

# The write fails.
outlived prepare
within 60 is_restored
/lab/outside gpu 0 ready
must prepare is_held
must unprepare is_restored
libvirt_answered
printf '= libvirt answered %s calls within %s s each\n' $answered $timeout_s
