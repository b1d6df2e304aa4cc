#!/bin/sh
# Unpacks programs of Debian's testing suite into .tools/newer/, from the mirror that the machine's own apt uses, with its
# keys: receivers that are newer than the machine's suite. Installs nothing and needs no rights.
set -eu
cd "$(dirname "$0")/.."
newer="$PWD/.tools/newer"
[ -x "$newer/usr/bin/prometheus" ] && [ -x "$newer/usr/bin/vmagent" ] && exit
if ! command -v apt-get >/dev/null 2>&1; then
    echo "The tests of receivers need newer Debian packages, and there is no apt-get: run them on Debian." >&2
    exit 1
fi
echo "Getting newer receivers into .tools/ ..." >&2
apt="$PWD/.tools/newer-apt"
rm -rf "$newer" "$apt"
mkdir -p "$newer" "$apt/state/lists/partial" "$apt/cache/archives/partial"
trap 'rm -rf "$apt"' EXIT
if [ ! -e /usr/share/keyrings/debian-archive-keyring.gpg ] || ! grep -qx 'ID=debian' /etc/os-release; then
    echo "This is not Debian: the tests of receivers newer than this system's are skipped." >&2
    exit
fi
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep '/debian/*$' | head -n 1)
: > "$apt/status"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror testing main" > "$apt/sources.list"
set -- -qq -o "Dir::State=$apt/state" -o "Dir::State::status=$apt/status" -o "Dir::Cache=$apt/cache" \
    -o "Dir::Etc::sourcelist=$apt/sources.list" -o Dir::Etc::sourceparts=/dev/null -o "APT::Sandbox::User=$(id -un)"
apt-get "$@" update >&2
(cd "$apt" && apt-get "$@" download prometheus victoria-metrics >&2)
for package in "$apt"/*.deb; do
    dpkg-deb --extract "$package" "$newer"
done
