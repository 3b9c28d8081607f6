# by name
# The commands of packaging/doc/grace-guide.md on this host: its GPU and a guest of the lab stand for those of the page.
# deadline: 600
agent_settings
folder=$(mktemp -d)
trap 'forget grace; variantctl unreserve $GPU0 --now >/dev/null 2>&1 || true; rm -rf $folder /tmp/grace-host; stand_in $GPU0' EXIT
forget grace
stand_in $GPU0
rm -rf /tmp/grace-host
cd "$folder"

# dpkg leaves documentation out of this host; a package may compress it.
dpkg-deb --fsys-tarfile /root/variantd.deb | tar -x --wildcards './usr/share/doc/variantd/grace-guide.md*'
page=$(echo usr/share/doc/variantd/grace-guide.md*)
case $page in *.gz) gunzip "$page"; page=${page%.gz} ;; esac
guest grace $GPU0 >grace.xml

# The package is installed already.
awk '/^```sh$/ { inside = 1; next } /^```/ { inside = 0 } inside' "$page" |
    grep -v '^packaging/build ' | sed "s/0009:01:00\.0/$GPU0/g" >commands
count=0
while IFS= read -r command; do
    bash -c "$command" >said 2>&1 </dev/null || fail "'$command' ended with status $?: $(cat said)"
    count=$((count + 1))
done <commands
[ $count -ge 15 ] || fail "only $count commands"
equal 'driver of the running guest' "$(driver $GPU0)" $VARIANT
printf '= %s\n' "$count commands of the guide ran"
