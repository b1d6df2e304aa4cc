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
        echo "Python's venv module is needed (Debian and Ubuntu: apt install python3-venv), or uv itself." >&2
        exit 1
    }
    .tools/uv/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9' >&2
fi
echo "$uv"
