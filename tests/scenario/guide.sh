# by name
# Runs the commands of packaging/doc/grace-guide.md with this host's GPUs and a guest of the lab. Each must succeed.
# deadline: 600
agent_settings
folder=$(mktemp -d)
trap 'remove_guests grace; variantctl unreserve $GPU0 --now >/dev/null 2>&1 || true; rm -rf $folder /tmp/grace-host; set_driver $GPU0; variantctl release $GPU1 >/dev/null 2>&1 || true' EXIT
remove_guests grace
set_driver $GPU0
rm -rf /tmp/grace-host
cd "$folder"

# dpkg does not install documentation on this host, so the page is read from the package, which may compress it.
dpkg-deb --fsys-tarfile /root/variantd.deb | tar -x --wildcards './usr/share/doc/variantd/grace-guide.md*'
page=$(echo usr/share/doc/variantd/grace-guide.md*)
case $page in *.gz) gunzip "$page"; page=${page%.gz} ;; esac
guest grace $GPU0 >grace.xml

# The package is already installed, so the build command is left out.
awk '/^```sh$/ { inside = 1; next } /^```/ { inside = 0 } inside' "$page" |
    grep -v '^packaging/build ' | sed "s/0009:01:00\.0/$GPU0/g; s/0008:01:00\.0/$GPU1/g" >commands
count=0
while IFS= read -r command; do
    bash -c "$command" >printed 2>&1 </dev/null || fail "'$command' ended with status $?: $(cat printed)"
    count=$((count + 1))
done <commands
[ $count -ge 15 ] || fail "only $count commands"
equal 'driver of the running guest' "$(driver $GPU0)" $VARIANT
printf '= %s\n' "$count commands of the guide ran"
