# Reads the regions of a GPU through VFIO, which shows the GPU memory as BAR 2 and 4; sysfs does not. The agent must not open a GPU
# that is in use.
trap 'remove_guests d0; set_driver $GPU0' EXIT
agent_settings
remove_guests d0

regions() { variantctl show "$GPU0" --regions; }

# fails CASE PART: 'show' must print the known values, exit 1, and give the reason for the missing ones
fails() {
    local text status=0
    text=$(regions 2>&1) || status=$?
    equal "$1: exit status" $status 1
    contains "$1: what is known" "$text" 10de:2342
    contains "$1" "$text" "$2"
}

set_driver $GPU0 pci-stub
fails 'on another driver' "it is bound to 'pci-stub'; only a VFIO driver reports regions (VD-REG-001)"

set_driver $GPU0 $VARIANT
# bar N: the BAR as VFIO shows it; own N: its size in sysfs
bar() { sed -n "s/^guest BAR $1  *//p" <<<"$shown"; }
own() { awk -v line=$(($1 + 1)) 'NR == line { print $1, $2 }' /sys/bus/pci/devices/$GPU0/resource | { read -r start end; echo $(((end - start + 1) >> 20)) MiB; }; }
shown=$(regions)
for number in 0 2 4; do echo "= BAR $number in sysfs: $(own $number); for the guest: $(bar $number)"; done
equal 'the registers' "$(bar 0)" "$(own 0), 64-bit prefetchable, mapped"
equal 'the memory that is not cached' "$(bar 2)" '1 GiB, 64-bit prefetchable, mapped'
contains 'the memory' "$(bar 4)" ', 64-bit prefetchable, mapped'
case $(bar 4) in "$(own 4),"*) fail 'BAR 4 is not larger than that of the device' ;; esac
contains 'second query' "$(regions)" 'guest BAR 4'
equal 'driver after the queries' "$(driver $GPU0)" $VARIANT
! variantctl show $GPU0 | grep -q '^guest BAR' || fail 'regions are shown without --regions'

guest d0 $GPU0 >/tmp/d0.xml
virsh define /tmp/d0.xml >/dev/null
variantctl wait d0 >/dev/null
variantctl prepare d0 >/dev/null
contains "the agent's cache" "$(cat /var/lib/variantd/regions)" "\"$GPU0\""
virsh start d0 >/dev/null
fails 'in use' "in use by pid $(cat /run/libvirt/qemu/d0.pid) (VD-BND-003)"
equal 'guest after the query' "$(virsh domstate d0)" running
variantctl prepare d0 >/dev/null
virsh destroy d0 >/dev/null
contains 'query after the end of the guest' "$(regions)" 'guest BAR 4'
