#!/bin/sh
# Installs what the tests need of Debian's packages where it may, else names it; with the argument `images`, what builds
# and runs images as well; with `browser`, a Chromium and its driver. Starts no service.
set -eu
missing=
command -v promtool >/dev/null 2>&1 || missing="$missing prometheus"
command -v amtool >/dev/null 2>&1 || missing="$missing prometheus-alertmanager"
command -v mariadbd-safe >/dev/null 2>&1 || missing="$missing mariadb-server"
if [ "${1:-}" = images ]; then
    for program in buildah podman crun debootstrap; do
        command -v "$program" >/dev/null 2>&1 || missing="$missing $program"
    done
    for package in netavark aardvark-dns iptables; do
        dpkg-query --show "$package" >/dev/null 2>&1 || missing="$missing $package"
    done
fi
if [ "${1:-}" = browser ]; then
    command -v chromium >/dev/null 2>&1 || missing="$missing chromium fonts-dejavu-core"
    command -v chromedriver >/dev/null 2>&1 || missing="$missing chromium-driver"
fi
[ -z "$missing" ] && exit
if ! command -v apt-get >/dev/null 2>&1; then
    echo "The tests need what Debian's packages$missing hold, on the PATH; install that, and try again." >&2
    exit 1
fi
if [ "$(id -u)" = 0 ]; then
    sudo=
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    sudo=sudo
else
    echo "The tests need Debian packages. Run: sudo apt-get install --no-install-recommends $missing" >&2
    exit 1
fi
echo "Installing Debian packages: $missing ..." >&2
# A package's daemon must not start with it: the tests start their own, on ports of their own.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | $sudo tee "$policy" >/dev/null
    $sudo chmod 755 "$policy"
    trap '$sudo rm -f "$policy"' EXIT
fi
$sudo apt-get update -qq >&2
$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >&2
