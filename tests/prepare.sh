#!/bin/sh
# Makes this checkout ready to show (demo) or to test itself (test): installs what is missing from
# the distribution, saying what, and keeps .venv up to date. Asks nothing. Debian and Ubuntu.
#
# deb installs only what makes the chroot that the .deb is built in, where dpkg-buildpackage has
# what debian/control asks for; it needs no .venv, and prints the interpreter to call.
#
#   tests/prepare.sh demo|test|deb
set -eu
cd "$(dirname "$0")/.."

case ${1:-} in
    demo) extras=demo; modules=mcp,mcp_server_time,mcp_server_fetch,mcp_server_git ;;
    test) extras=demo,test,lint,site; modules=mcp,mcp_server_time,pytest,hypothesis,mypy,mkdocs ;;
    deb) extras=; modules=; exec 3>&1 >&2 ;;
    *) echo "usage: tests/prepare.sh demo|test|deb" >&2; exit 2 ;;
esac

say() { printf '%s\n' "prepare: $*"; }
fail() { printf '%s\n' "prepare: $*" >&2; exit 1; }
has() { command -v "$1" > /dev/null 2>&1; }
as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif has sudo; then sudo "$@"
    else fail "this needs root or sudo: $*"
    fi
}

install() {
    [ $# -gt 0 ] || return 0
    has apt-get || fail "missing: $*; install them, there is no apt-get here"
    say "installing with apt-get: $*"
    export DEBIAN_FRONTEND=noninteractive
    log=$(mktemp)
    as_root apt-get -q -y update > "$log" 2>&1 || say "apt-get update failed; going on"
    # env: sudo does not pass the variable on
    if ! as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get -q -y --no-install-recommends install "$@" >> "$log" 2>&1 < /dev/null; then
        tail -n 20 "$log" >&2
        fail "apt-get could not install: $*"
    fi
    rm -f "$log"
}

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; }

find_python() {
    for name in python3 python3.14 python3.13 python3.12 python3.11; do
        for path in $(has "$name" && command -v "$name") "/usr/bin/$name"; do
            if is_new_enough "$path"; then
                # what a shim stands for: a virtual environment must not depend on the shim
                "$path" -c 'import sys; print(sys.executable)'
                return
            fi
        done
    done
    return 1
}

# An interpreter that was named has everything, or is left alone.
if [ -n "${PYTHON:-}" ]; then
    [ "$1" = deb ] && { printf '%s\n' "$PYTHON" >&3; exit 0; }
    "$PYTHON" -c "import scopekeeper, $modules" ||
        fail "PYTHON=$PYTHON lacks some of: scopekeeper, $modules"
    exit 0
fi

missing=
need() { missing="$missing $*"; }
need_chroot() {
    has mmdebstrap || need mmdebstrap
    # an Ubuntu does not know by itself whom the lab's Debians are signed by
    [ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || need debian-archive-keyring
}

if [ "$1" = deb ]; then
    has git || need git
    need_chroot
    python=$(find_python) || need python3
    # shellcheck disable=SC2086  # a list of names
    install $missing
    python=$(find_python) || fail "no Python 3.11 or newer here; Debian 12 and Ubuntu 24.04 have one"
    printf '%s\n' "$python" >&3
    exit
fi

if ! python=$(find_python); then
    install python3 python3-venv python3-dev
    python=$(find_python) || fail "no Python 3.11 or newer here; Debian 12 and Ubuntu 24.04 have one"
fi

# .venv is made of an interpreter outside of it, also where it is active
python=$("$python" -c 'import os, sys
inner = "%s/bin/python%d.%d" % (sys.base_prefix, *sys.version_info[:2])
print(os.path.realpath(sys.executable if sys.base_prefix == sys.prefix else inner))')

# pystemd has no wheels: it is compiled, against libsystemd and the interpreter's headers.
has git || need git
has gcc || need gcc
[ -e /usr/include/stdio.h ] || need libc6-dev
has pkg-config || need pkg-config
{ has pkg-config && pkg-config --exists libsystemd; } || need libsystemd-dev
version=$("$python" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
case $python in
    /usr/bin/*)
        "$python" -c 'import ensurepip, venv' 2> /dev/null || need "$version-venv"
        "$python" -c 'import os, sysconfig as s; os.stat(s.get_path("include") + "/Python.h")' \
            2> /dev/null || need "$version-dev"
        ;;
esac
if [ "$1" = test ]; then
    need_chroot
    has qemu-system-x86_64 || need qemu-system-x86
    has qemu-img || need qemu-utils
    has systemd-nspawn || need systemd-container
    has mke2fs || [ -x /usr/sbin/mke2fs ] || need e2fsprogs
    has cpio || need cpio
    has zstd || need zstd
    # completions, man pages, scripts and the Vagrantfile are tested with what people have
    has zsh || need zsh
    has fish || need fish
    has groff || need groff-base
    has ruby || need ruby
    has shellcheck || need shellcheck
fi
# shellcheck disable=SC2086  # a list of names
install $missing
if [ "$1" = test ] && [ -n "${OPENCLAW:-}" ] && ! has npm; then
    (install npm) || say "there is no npm, so the real OpenClaw cannot be had; going on"
fi

# Made anew where its interpreter is gone, another one was chosen, or the checkout was moved.
mark="$python $(pwd)"
if [ "$(cat .venv/made-by 2> /dev/null)" != "$mark" ] || ! .venv/bin/python -c '' 2> /dev/null; then
    say "making .venv with $python"
    rm -rf .venv || fail "cannot remove .venv; if root made it: sudo rm -rf .venv"
    "$python" -m venv .venv
    printf '%s\n' "$mark" > .venv/made-by
fi

stamp=.venv/has-$extras
if [ ! -e "$stamp" ] || [ -n "$(find pyproject.toml scopekeeper units -newer "$stamp" \
    -type f ! -name '*.pyc' | head -n 1)" ]; then
    say "installing scopekeeper[$extras] into .venv"
    .venv/bin/python -m pip --disable-pip-version-check -qq install --no-compile ".[$extras]" ||
        fail "pip could not install scopekeeper[$extras]; see above"
    # on all processors; a package may hold files for another Python, which do not compile
    .venv/bin/python -m compileall -qq -j 0 .venv/lib || true
    .venv/bin/python -P -m scopekeeper.launcher.direct > /dev/null  # -P: not of this folder
    touch "$stamp"
fi
