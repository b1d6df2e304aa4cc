#!/bin/sh
# Prints the path of a uv, getting one into .tools/ if there is none. The system's Python stays as it is.
set -eu
cd "$(dirname "$0")/.."
if command -v uv >/dev/null 2>&1; then
    command -v uv
    exit
fi
uv=.tools/uv/bin/uv
if [ ! -x "$uv" ]; then
    python=$(command -v python3 || command -v python) || {
        echo "Python 3 is needed to get uv. Install Python, or uv itself, and try again." >&2
        exit 1
    }
    echo "Getting uv into .tools/ ..." >&2
    "$python" -m venv .tools/uv >&2 || {
        rm -rf .tools/uv
        echo "Python's venv module is needed (Debian and Ubuntu: apt install python3-venv), or uv itself." >&2
        exit 1
    }
    # Where the machine has certificate authorities of its own, pip's bundle does not know them.
    for bundle in /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/ca-bundle.pem; do
        if [ -z "${PIP_CERT:-}" ] && [ -f "$bundle" ]; then export PIP_CERT="$bundle"; fi
    done
    .tools/uv/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9' >&2
fi
echo "$uv"
