# Sourced by tests/lab and tests/run: installs what they need on a bare Debian, and finds or installs cargo.

# need_packages PACKAGE...: installs those that are missing
need_packages() {
    local missing=() package
    for package in "$@"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    if [ "$(id -u)" != 0 ]; then
        echo "missing packages, and only root can install them: apt-get install ${missing[*]}" >&2
        return 1
    fi
    echo "installing ${missing[*]}" >&2
    apt_quietly update && DEBIAN_FRONTEND=noninteractive apt_quietly install -y --no-install-recommends "${missing[@]}"
}

# apt_quietly ARGUMENT...: apt-get, silent unless it fails
apt_quietly() {
    local log
    log=$(mktemp)
    if ! apt-get -q -o Acquire::Retries=3 -o Acquire::Check-Valid-Until=false "$@" >"$log" 2>&1; then
        cat "$log" >&2
        rm -f "$log"
        echo "'apt-get $1' failed" >&2
        return 1
    fi
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

# need_target TARGET: Rust's library for another processor; where it cannot be had, the lab says so once it needs it
need_target() {
    [ ! -d "$(rustc --print target-libdir --target "$1")" ] || return 0
    ! command -v rustup >/dev/null || rustup --quiet target add "$1"
}

# need_lints: leaves cargo's fmt and clippy in PATH; rustup has them as components, Debian 12 as packages
need_lints() {
    { cargo fmt --version && cargo clippy --version; } >/dev/null 2>&1 && return
    need_packages rustfmt-web rust-web-clippy
}
