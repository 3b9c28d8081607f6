# deadline: 1500
# The agent is killed at each change of its records and of sysfs that the next agent can see: by hand, for a guest's
# start and for its end. Afterwards the GPU is bound and recorded, or on its previous driver and not recorded, and all
# works again. crash-every-step.sh has the changes that nobody sees as well, and sees to each from both sides.
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

# An agent that notes its steps, and comes back at once.
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
is_by_hand() { [ "$(state)" = $bound ] && [ "$(said owner)" = admin ] && [ "$(said phase)" = bound ]; }
either() { local one; for one in "$@"; do ! "$one" || return 0; done; return 1; }
agent() { systemctl show -p MainPID --value variantd; }
# State and process of one moment: systemd may see that the old process has ended between two questions.
is_another() {
    sleep 0.2
    systemctl show -p ActiveState -p MainPID variantd | awk -F= -v old="$1" '
        $1 == "ActiveState" { active = $2 == "active" } $1 == "MainPID" { other = $2 != 0 && $2 != old } END { exit !(active && other) }'
}

hook() { variantd-hook c0 "$@" </tmp/c0-hook.xml; }
bind() { variantctl bind $GPU0; }
release() { variantctl release $GPU0; }
prepare() { hook prepare begin -; }
give_back() { hook release end destroyed; }
is_off() { [ "$(virsh domstate c0 | head -1)" = 'shut off' ]; }
start() { virsh start c0 --paused; }
destroy() { virsh destroy c0; }

# must VERB STATE: undisturbed, it leads there. The hook is called without a start here, and an agent that asks libvirt for the
# first time releases what it finds in the records of a guest that is not active: its report on c0 comes after that.
must() {
    local said
    rm -f $step/plan
    [ "$1" != prepare ] || variantctl wait c0 >/dev/null
    : >$step/log
    said=$("$1" 2>&1) || fail "$1: $said"
    within 20 "$2"
}

# crash VERB NUMBER WHEN STATE...: the agent is killed at that step, and one of these comes of it
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

# crashes VERB UNDO FROM TO STATE...: at each step of a verb that leads from one state to the other, killed there it
# leads to one of those; after it the verb works, and what undoes it
crashes() {
    local verb=$1 undo=$2 from=$3 to=$4 total number when whens; shift 4
    points=0
    must "$verb" "$to"
    cp $step/log /tmp/steps
    total=$(wc -l </tmp/steps)
    must "$undo" "$from"
    for number in $(seq "$total"); do
        # Behind a step is before the next one, but for the last one.
        case $(sed -n "${number}p" /tmp/steps) in
        *' /sys/'*) whens="meanwhile${every:+ before after}" ;;
        "$total "*) whens="after${every:+ before}" ;;
        *' rename '* | *' unlink '*) whens=before ;;
        *) whens=${every:+before} ;;
        esac
        for when in $whens; do
            crash "$verb" "$number" $when "$@"
            # The next one shows as well that the verb works again, up to where it is killed.
            [ -z "$every" ] && [ "$number" -lt "$total" ] || ! "$from" || must "$verb" "$to"
            "$from" || must "$undo" "$from"
        done
    done
    printf '= %s: %s steps, killed at %s points\n' "$verb" "$total" $points
}

stand_in $GPU0 pci-stub
crashes bind release is_back is_by_hand is_back is_by_hand
crashes prepare give_back is_back is_held is_back
must prepare is_held
crashes give_back prepare is_held is_back is_back
must give_back is_back
must bind is_by_hand
crashes release bind is_by_hand is_back is_back is_by_hand
must release is_back

libvirt_answered

# The real thing, at each write to sysfs.
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

# The write lives on: the GPU's probe waits, and its end comes behind the agent's return.
watch_libvirt version 'list --all'
is_under_way() { pgrep -f 'variantd-child write-knob / bind' >/dev/null; }
outlived() {
    /lab/outside gpu 0 never
    crash "$1" "$(sed -n "s/ write .*$VARIANT\/bind\$//p" /tmp/steps)" meanwhile is_under_way
    [ -n "$(records)" ] || fail 'nothing is recorded of a write under way'
}
must bind is_by_hand
cp $step/log /tmp/steps
must release is_back
outlived bind
/lab/outside gpu 0 ready
within 60 is_back
must bind is_by_hand
must release is_back

# A start that comes while the write is under way waits for it. The agent may not have asked libvirt yet.
must prepare is_held
cp $step/log /tmp/steps
must give_back is_back
outlived prepare
(sleep 3; /lab/outside gpu 0 ready) &
must start is_held
must destroy is_back

# It ends in a failure.
outlived prepare
within 60 is_back
/lab/outside gpu 0 ready
must prepare is_held
must give_back is_back
libvirt_answered
printf '= libvirt answered %s calls within %s s each\n' $answered $patience
