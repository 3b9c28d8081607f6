# Binds four GPUs, of which each needs 3 s to become ready, for one guest. This must take at most 1.3 times the time of one GPU.
# Also measures 'virsh nodedev-detach', which waits for one GPU after another.
# on: x86_64 gpus=4
# deadline: 600
agent_settings
GPUS=($GPU0 $GPU1 0000:61:00.0 0000:81:00.0)
waiter=/etc/libvirt/hooks/qemu.d/zz-ready
trap 'rm -f $waiter; remove_guests p1 p4; each ready; for gpu in ${GPUS[@]}; do set_driver $gpu; done' EXIT
remove_guests p1 p4

each() { local index; for index in 0 1 2 3; do /lab/outside gpu $index "$1"; done; }

# not_ready: unbinds and resets each GPU; its 3 s begin when a driver first reads its readiness
not_ready() {
    local gpu
    each ready
    for gpu in "${GPUS[@]}"; do
        set_driver "$gpu"
        echo 1 >"/sys/bus/pci/devices/$gpu/reset"
    done
    each '3000 asked'
}

# timed COMMAND...: runs the command and sets ms, its duration
timed() {
    local from; from=$(date +%s%N)
    "$@" >/dev/null
    ms=$((($(date +%s%N) - from) / 1000000))
}

on_variant() { local gpu; for gpu in "$@"; do equal 'driver' "$(driver "$gpu")" $VARIANT; done; }

for name in p1 p4; do
    [ $name = p1 ] && with=($GPU0) || with=("${GPUS[@]}")
    guest $name "${with[@]}" >/tmp/$name.xml
    virsh define /tmp/$name.xml >/dev/null
    variantctl wait $name >/dev/null
    inactive $name >/tmp/$name.complete.xml
done

# The duration of the bind in libvirt's hook alone.
hook() { /usr/sbin/variantd-hook "$1" "$2" "$3" - </tmp/$1.complete.xml; }
bind_one() { hook p1 prepare begin; }
bind_four() { hook p4 prepare begin; }
hook_one=99999 hook_four=99999
for _ in 1 2 3; do
    not_ready; timed bind_one; on_variant $GPU0; hook p1 release end
    # 2 s instead of 3 s: the GPU uses another clock than the emulated host
    [ $ms -ge 2000 ] || fail "one GPU was bound in $ms ms, before it was ready"
    [ $ms -ge $hook_one ] || hook_one=$ms
    not_ready; timed bind_four; on_variant "${GPUS[@]}"; hook p4 release end
    [ $ms -ge $hook_four ] || hook_four=$ms
done

# The duration of a whole start. QEMU resets each GPU when it opens it, and waits for one after another. Here the GPUs are ready
# at once after the bind, so that only variantd's part waits.
printf '#!/bin/sh\n[ "$2" != prepare ] || rm -f /share/gpu/[0-3]\n' >$waiter
chmod 755 $waiter
start_one=99999 start_four=99999
for _ in 1 2; do
    not_ready; timed virsh start p1 --paused; on_variant $GPU0; virsh destroy p1 >/dev/null
    [ $ms -ge $start_one ] || start_one=$ms
    not_ready; timed virsh start p4 --paused; on_variant "${GPUS[@]}"; virsh destroy p4 >/dev/null
    [ $ms -ge $start_four ] || start_four=$ms
done
rm -f $waiter

detach_all() { local gpu; for gpu in "${GPUS[@]}"; do virsh nodedev-detach "pci_$(tr ':.' '__' <<<"$gpu")"; done; }
not_ready; timed detach_all; detached=$ms
on_variant "${GPUS[@]}"

ratio() { printf '%d.%02d' $(($1 / $2)) $(($1 * 100 / $2 % 100)); }
printf '= the hook binds one GPU in %d ms, four in %d ms: %s times (best of 3)\n' $hook_one $hook_four "$(ratio $hook_four $hook_one)"
printf '= virsh start with one in %d ms, with four in %d ms: %s times (best of 2)\n' $start_one $start_four "$(ratio $start_four $start_one)"
printf '= virsh nodedev-detach of four in %d ms: %s times the hook with one\n' $detached "$(ratio $detached $hook_one)"
[ $((hook_four * 10)) -le $((hook_one * 13)) ] || fail 'four GPUs took more than 1.3 times the time of one'
