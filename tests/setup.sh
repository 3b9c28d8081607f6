# Sourced by tests/lab and tests/run: installs what they need on a bare Debian, and finds or installs cargo.

# need_packages PACKAGE...: installs those that are missing
need_packages() {
    local missing=() package
    for package in "$@"; do
        is_installed "$package" || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    if [ "$(id -u)" != 0 ]; then
        echo "missing packages, and only root can install them: apt-get install ${missing[*]}" >&2
        return 1
    fi
    echo "installing ${missing[*]}" >&2
    apt_quietly update && apt_quietly install -y --no-install-recommends "${missing[@]}"
}

# is_installed PACKAGE[:ARCHITECTURE]: for this machine's architecture if none is named
is_installed() {
    local architecture=${1#*:}
    [ "$architecture" != "$1" ] || architecture=$(dpkg --print-architecture)
    dpkg-query -W -f '${Architecture} ${db:Status-Status}\n' "$1" 2>/dev/null | grep -Eqx "(all|$architecture) installed"
}

# apt_quietly ARGUMENT...: apt-get, silent unless it fails. While another apt-get or dpkg holds a lock it waits, for at most
# APT_WAIT seconds: DPkg::Lock::Timeout covers dpkg's two locks, but apt-get (2.6) fails at once when the lock of the package
# lists or of the download directory is held, so that failure is tried again.
apt_quietly() {
    local log limit=${APT_WAIT:-600} started=$SECONDS
    log=$(mktemp)
    until LC_ALL=C DEBIAN_FRONTEND=noninteractive apt-get -q -o "DPkg::Lock::Timeout=$limit" \
        -o Acquire::Retries=3 -o Acquire::Check-Valid-Until=false "$@" >"$log" 2>&1; do
        if ! grep -q '^E: Could not get lock' "$log" || [ $((SECONDS - started)) -ge "$limit" ]; then
            cat "$log" >&2
            rm -f "$log"
            echo "'apt-get $*' failed" >&2
            return 1
        fi
        echo "waiting: $(sed -n 's/^E: \(Could not get lock.*\)/\1/p' "$log" | head -1)" >&2
        sleep 2
    done
    rm -f "$log"
}

# need_cargo: leaves a cargo of at least 1.89 in PATH; Debian 12 has one in cargo-web and rustc-web
need_cargo() {
    has_cargo || { PATH=$PATH:$HOME/.cargo/bin && has_cargo; } && return
    need_packages cargo-web rustc-web gcc libc6-dev || return
    has_cargo && return
    echo "no cargo of at least 1.89 is to be had here: let apt know Debian's security archive, or install Rust 1.89 or newer" >&2
    return 1
}

has_cargo() {
    local minor
    minor=$(cargo --version 2>/dev/null | sed -n 's/^cargo 1\.\([0-9]*\).*/\1/p')
    [ "${minor:-0}" -ge 89 ]
}

# compile_quickly: packages under test are built in less than half of the time of those for hosts; what they do is the same
compile_quickly() {
    export VARIANTD_PACKAGE_PROFILE=release CARGO_PROFILE_RELEASE_OPT_LEVEL=1
    # Packages of earlier commits, which the lab upgrades, have these settings in 'release'.
    export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16
}

# need_lints: leaves cargo's fmt and clippy in PATH; rustup has them as components, Debian 12 as packages
need_lints() {
    { cargo fmt --version && cargo clippy --version; } >/dev/null 2>&1 && return
    need_packages rustfmt-web rust-web-clippy
}

# two_clones WORK: two clones of this repository's HEAD, in folders of different length
two_clones() {
    git clone --quiet . "$1/one"
    git clone --quiet "$1/one" "$1/another/place/with a longer name"
}

# built_twice WORK OPTION...: runs packaging/build with these options in both clones; prints the path of each package if both are equal
built_twice() {
    local work=$1 clone names='' name
    shift
    for clone in "$work/one" "$work/another/place/with a longer name"; do
        if ! CARGO_TARGET_DIR=$clone/target "$clone/packaging/build" "$@" "$clone/out" >"$work/log" 2>&1; then
            tail -40 "$work/log" >&2
            echo "'packaging/build${*:+ $*}' failed; its last lines are above" >&2
            return 1
        fi
        names=$(awk -v out="$clone/out/" 'index($0, out) == 1 { print substr($0, length(out) + 1) }' "$work/log")
        [ -n "$names" ] || { echo "'packaging/build${*:+ $*}' named no package" >&2; return 1; }
    done
    for name in $names; do
        if ! cmp "$work/one/out/$name" "$clone/out/$name" >&2; then
            echo "two builds of '$name' differ; compare them with diffoscope" >&2
            return 1
        fi
        echo "$clone/out/$name"
    done
}

# need_npm: leaves a node of at least 18 and npm in PATH
need_npm() {
    { node --version && npm --version; } >/dev/null 2>&1 || need_packages nodejs npm
}

# npm_modules [--omit=dev]: installs what package-lock.json names into node_modules, unless that is done; no package runs a script.
# What a developer has installed stays: --omit=dev is for a folder without node_modules, and one that has all packages keeps all.
npm_modules() {
    local of_lock=node_modules/.of-lock wanted option=${1-}
    wanted=$(sha256sum package-lock.json)
    [ ! -d node_modules ] || grep -qs '^--omit=dev$' "$of_lock" || option=''
    [ "$(head -1 "$of_lock" 2>/dev/null)" != "$wanted" ] || [ "$(tail -n +2 "$of_lock")" != "$option" ] || return 0
    npm ci --ignore-scripts --no-audit --no-fund --loglevel=error ${option:+"$option"} >&2
    printf '%s\n' "$wanted" ${option:+"$option"} >"$of_lock"
}
