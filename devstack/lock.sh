#!/usr/bin/env bash
# Recompiles both hash-pinned requirement files from pyproject.toml. `UPGRADE=1` takes newer versions.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=.tools/venv/bin/uv
[ -x "$uv" ] || { echo "lock: run \`make setup\` first: uv is missing in .tools/" >&2; exit 1; }

compile() { # target, then further options
    local target=$1; shift
    "$uv" pip compile pyproject.toml "$@" --universal --python-version 3.12 --generate-hashes \
        --no-header ${UPGRADE:+--upgrade} -q -o "requirements/$target"
    echo "requirements/$target: $(grep -c '^[a-z0-9].*==' "requirements/$target") packages"
}

compile app.txt
compile dev.txt --group dev
