# Cockpit's web server and bridge with the page of the package cockpit-variantd: the bridge lists the page, and each of its files arrives
# with its type and the page's content security policy. Cockpit itself is there for one command only.
# by name
# packages: cockpit-bridge cockpit-system cockpit-ws curl
# page
# deadline: 900
trap 'dpkg --purge cockpit-variantd >/dev/null 2>&1 || true' EXIT
# Cockpit itself is not in the host's package database.
dpkg -i --force-depends /root/cockpit-variantd.deb
for file in index.html manifest.json index.js.gz agent.js.gz index.css.gz; do
    [ -s /usr/share/cockpit/variantd/$file ] || fail "the package has no '$file'"
done

cat >/run/lab-cockpit.sh <<'INSIDE'
fail() { printf 'failed: %s\n' "$*" >&2; exit 1; }
contains() { case $2 in *"$3"*) ;; *) fail "$1: expected '$3' in: $2" ;; esac; }
url=http://127.0.0.1:9191/cockpit/@localhost/variantd
packages=$(cockpit-bridge --packages)
contains 'packages of the bridge' "$packages" 'GPU assignment'
contains 'packages of the bridge' "$packages" /usr/share/cockpit/variantd
server=/usr/lib/cockpit/cockpit-ws
[ -x $server ] || server=/usr/libexec/cockpit-ws
$server --no-tls --local-session=cockpit-bridge --address 127.0.0.1 --port 9191 &
trap 'kill $!' EXIT
end=$((SECONDS + 120))
until curl -s -o /dev/null $url/index.html; do
    [ $SECONDS -le $end ] || fail 'cockpit-ws does not answer'
    sleep 1
done
# fetch FILE TYPE: prints the header; fails unless the status is 200
fetch() {
    local header
    header=$(curl -s --compressed -D - -o /run/lab-cockpit.out $url/$1 | tr -d '\r')
    case $header in "HTTP/1.1 200"*) ;; *) fail "$1: $header" ;; esac
    contains "$1" "$header" "Content-Type: $2"
    printf '%s\n' "$header"
}
policy=$(fetch index.html text/html | sed -n 's/^Content-Security-Policy: //p')
for part in "default-src 'none'" "script-src 'self'" "style-src 'self'" "font-src 'self'"; do
    contains 'content security policy' "$policy" "$part"
done
case $policy in *unsafe*) fail "content security policy: $policy" ;; esac
contains index.html "$(cat /run/lab-cockpit.out)" 'src="agent.js"'
for script in index.js agent.js; do
    # A browser runs a module only if the server says that it is a script.
    case $(fetch $script '') in *'Content-Type: text/javascript'* | *'Content-Type: application/javascript'*) ;; *) fail "$script is no script" ;; esac
    grep -q '^/\* Licences: LICENSES.txt \*/' /run/lab-cockpit.out || fail "$script is not readable"
done
# The menu has the manifests of all packages.
fetch ../manifests.json application/json >/dev/null
grep -q '"GPU assignment"' /run/lab-cockpit.out || fail 'the menu does not have the page'
echo "= Cockpit: $(cockpit-bridge --version | sed -n 's/^Version: //p')"
INSIDE
with_packages bash -eu /run/lab-cockpit.sh
