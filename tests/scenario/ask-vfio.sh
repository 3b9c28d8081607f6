# Compares the AtomicOp widths that variantctl computes from config space with those that VFIO reports and with those on the
# guest's root port. All must be equal.
trap 'remove_guests d0; set_driver $GPU0' EXIT
agent_settings
remove_guests d0

# widths COLUMN ARGUMENT...: the widths with "yes" in that column of the table
widths() {
    local column=$1; shift
    variantctl atomics $GPU0 "$@" 2>/dev/null |
        awk -v gpu=$GPU0 -v column="$column" '$1 == gpu && $column == "yes" { print $2 }' | xargs
}

# root_port_widths NAME: the widths on the root port of a running guest
root_port_widths() {
    local bits=$(($(devcap2 "$1"))) list=''
    [ $((bits & 0x080)) = 0 ] || list+=' 32'
    [ $((bits & 0x100)) = 0 ] || list+=' 64'
    [ $((bits & 0x200)) = 0 ] || list+=' 128'
    echo $list
}

set_driver $GPU0 pci-stub
text=$(variantctl atomics $GPU0 --ask-vfio 2>&1) && fail 'VFIO was asked although the device is on another driver' || true
contains 'on another driver' "$text" "it is bound to 'pci-stub'; only a VFIO driver reports regions (VD-ATM-010)"
computed=$(widths 3)
echo "= AtomicOps of $GPU0 by config space: ${computed:-none}"

set_driver $GPU0 $VARIANT
text=$(variantctl atomics $GPU0 --ask-vfio 2>/dev/null)
contains 'VFIO' "$text" "VFIO's answer: "
asked=$(sed -n "s/^ *VFIO's answer: //p" <<<"$text" | tr -d ,)
echo "= AtomicOps of $GPU0 by VFIO: $asked"
equal 'widths by VFIO' "$asked" "${computed:-none}"
equal 'config space afterwards' "$(widths 3)" "$computed"

guest d0 $GPU0 >/tmp/d0.xml
virsh define /tmp/d0.xml >/dev/null
variantctl wait d0 >/dev/null
judged=$(widths 6 --domain d0)
equal 'the verdict on the domain' "$judged" "$computed"
virsh start d0 >/dev/null
equal "the guest's root port" "$(root_port_widths d0)" "$judged"
text=$(variantctl atomics $GPU0 --ask-vfio 2>&1) && fail 'VFIO was asked although the device is in use' || true
contains 'in use' "$text" "in use by pid $(cat /run/libvirt/qemu/d0.pid) (VD-BND-003)"
equal 'guest after the query' "$(virsh domstate d0)" running
virsh destroy d0 >/dev/null
