# Installs 0.1.0, which was the first version, starts a guest, upgrades, goes back and upgrades again while the guest runs. It must keep
# running with its GPU, and the agent that is installed when it ends must restore the GPU. Settings, reservations, devices that are bound
# manually and the previous drivers survive each step. A downgrade that would lose state is refused, and loses none.
# by name
# commit: 7a80747
# deadline: 1800
old=/root/variantd-7a80747.deb
new=/root/variantd.deb
records=/run/variantd/records
restore() {
    remove_guests u0
    rm -rf /etc/variantd/recipes.d /etc/variantd/variantd.conf.d/upgrade.conf
    systemctl --runtime unmask variantd variantd-reserve >/dev/null 2>&1
    dpkg -i --force-confold --force-confmiss $new >/dev/null 2>&1
    systemctl restart libvirtd variantd
    variantctl release $GPU1 >/dev/null 2>&1
    variantctl unreserve $GPU1 >/dev/null 2>&1
    set_driver $GPU0
    set_driver $GPU1
}
trap restore EXIT
remove_guests u0
state() { echo "$(driver "$1")/$(override "$1")"; }
main() { systemctl show -p MainPID --value "$1"; }
version() { dpkg-query -W -f '${Version}' variantd; }
# runs_on WHEN: the guest is the same process and has its GPU; libvirt was not restarted
runs_on() {
    kill -0 "$qemu" 2>/dev/null || fail "the guest ended: $1"
    equal "process of the guest $1" "$(cat /run/libvirt/qemu/u0.pid)" "$qemu"
    equal "GPU of the guest $1" "$(state $GPU0)" $VARIANT/$VARIANT
    equal "GPU that is bound manually $1" "$(state $GPU1)" $VARIANT/$VARIANT
    contains "guest $1" "$(virsh domstate u0)" paused
    equal "libvirt's process $1" "$(main libvirtd)" "$libvirt"
}
# installs PACKAGE: installs it over the other, and waits for its agent
installs() {
    printed=$(dpkg -i --force-confold "$1" 2>&1) || fail "dpkg failed: $printed"
    within 60 is_connected
}
is_released() { [ "$(state $GPU0)" = pci-stub/pci-stub ]; }

# Nothing of the version that is installed now is left.
dpkg -P variantd >/dev/null 2>&1
set_driver $GPU0 pci-stub
set_driver $GPU1 pci-stub
dpkg -i $old >/dev/null 2>&1
within 60 is_connected
equal 'version' "$(version)" 0.1.0
mkdir -p /etc/variantd/recipes.d /etc/variantd/variantd.conf.d
cp /usr/share/variantd/recipes.d/mlx5.toml /etc/variantd/recipes.d/mlx5.toml
echo 'release = "previous"' >/etc/variantd/variantd.conf
echo 'allow_group = true' >/etc/variantd/variantd.conf.d/upgrade.conf
systemctl reload variantd
variantctl reserve $GPU1 >/dev/null
variantctl bind $GPU1 >/dev/null
variantctl snapshot /tmp/old.json >/dev/null
guest u0 $GPU0 >/tmp/u0.xml
virsh define /tmp/u0.xml >/dev/null
variantctl wait u0 >/dev/null
virsh start u0 --paused >/dev/null
qemu=$(cat /run/libvirt/qemu/u0.pid) libvirt=$(main libvirtd)
runs_on 'with 0.1.0'
[ -n "$(ls /run/variantd/journal)" ] && [ -n "$(ls /run/variantd/bound)" ] || fail '0.1.0 has other files'

installs $new
runs_on 'after the upgrade'
equal 'hook socket' "$(systemctl is-active variantd-hook.socket)" active
for file in /run/variantd/journal /run/variantd/bound; do
    [ -z "$(ls $file 2>/dev/null | grep json)" ] || fail "left in $file: $(ls $file)"
done
contains 'record of the guest' "$(cat $records/$GPU0.json)" '"driver": "pci-stub"'
contains 'record of the manual bind' "$(cat $records/$GPU1.json)" '"owner": "admin"'
contains 'settings' "$(variantctl config show)" upgrade.conf
contains 'reservations' "$(variantctl list 2>&1)" "reserved for guests: $GPU1"
[ -e /etc/variantd/reserved.d/$GPU1.toml ] || fail 'the reservation is gone'
variantctl wait u0 >/dev/null || fail 'the definition of 0.1.0 is not complete'
contains 'holder' "$(variantctl release $GPU0 2>&1 || true)" "domain 'u0' (VD-DEV-003)"
variantctl plan --host /tmp/old.json /tmp/u0.xml >/tmp/plan 2>&1 || contains 'snapshot of 0.1.0' "$(cat /tmp/plan)" 'variantctl snapshot'
virsh destroy u0 >/dev/null
within 30 is_released
echo '= upgraded under a running guest: the records are migrated, and the GPU has its previous driver after the guest'

virsh start u0 --paused >/dev/null
qemu=$(cat /run/libvirt/qemu/u0.pid)
variantd --downgrade 0.1.0 --check || fail 'the check refuses'
installs $old
equal 'version' "$(version)" 0.1.0
runs_on 'after the downgrade'
contains 'journal of 0.1.0' "$(cat /run/variantd/journal/*.json)" '"driver": "pci-stub"'
[ -z "$(ls $records | grep json)" ] || fail "records are left: $(ls $records)"
[ ! -S /run/variantd/hook ] || ! systemctl --quiet is-active variantd-hook.socket || fail 'the socket of the newer version is left'
virsh destroy u0 >/dev/null
within 30 is_released
virsh start u0 --paused >/dev/null || fail '0.1.0 does not start the guest that the newer version completed'
qemu=$(cat /run/libvirt/qemu/u0.pid)
runs_on 'with 0.1.0 again'
echo '= back at 0.1.0 under a running guest: its agent has restored the GPU, and starts the completed guest again'

installs $new
runs_on 'after the second upgrade'
printf '\n[egm]\nneed = "ignore"\n' >>/etc/variantd/recipes.d/mlx5.toml
systemctl reload variantd
before=$(cat $records/*.json)
! printed=$(variantd --downgrade 0.1.0 --check 2>&1) || fail 'the check accepts a newer key'
contains 'check' "$printed" "does not know 'egm'"
# dpkg installs 0.1.0 nevertheless, since it asks the scripts of 0.1.0 too.
printed=$(dpkg -i --force-confold $old 2>&1) || true
contains 'dpkg' "$printed" 'the downgrade to 0.1.0 is refused'
runs_on 'after the refused downgrade'
equal 'records' "$(cat $records/*.json)" "$before"
equal 'unit' "$(systemctl is-enabled variantd 2>/dev/null || true)" masked-runtime
! systemctl --quiet is-active variantd || fail 'an agent runs'
virsh destroy u0 >/dev/null
! refusal=$(virsh start u0 --paused 2>&1) || fail 'a prepared guest starts without an agent'
contains 'start without an agent' "$refusal" variantd
echo "= $(grep -o "variantd: '.*" <<<"$printed" | head -1)"

installs $new
within 30 is_released
virsh start u0 --paused >/dev/null
virsh destroy u0 >/dev/null
within 30 is_released
variantctl release $GPU1 >/dev/null
equal 'GPU that was bound manually' "$(state $GPU1)" pci-stub/pci-stub
echo '= installed again after the refusal: the GPUs have their previous drivers'
