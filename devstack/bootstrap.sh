#!/usr/bin/env bash
# From a bare machine to .venv: uv into .tools/, Python 3.13, the pinned packages, each by its hash.
# Needs a python3 (>= 3.9) with venv and pip to install uv, or a uv on the PATH.
set -euo pipefail
cd "$(dirname "$0")/.."
uv_version=0.13.9
python_version=$(cat .python-version)
uv=.tools/venv/bin/uv
log=.tools/setup.log
mkdir -p .tools

fail() { echo "setup: $1" >&2; exit 1; }

# A version manager has a shim for every version and most of them fail (.python-version asks for
# 3.13): what counts is that it runs and has what a venv needs.
works() { "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 9))' >/dev/null 2>&1; }

find_python() {
    local name
    for name in "python$python_version" python3 python3.14 python3.12 python3.11 python3.10 python3.9 \
        /usr/bin/python3 /usr/local/bin/python3 /opt/homebrew/bin/python3 python; do
        works "$name" && { echo "$name"; return; }
    done
    return 1
}

install_uv() {
    local python
    if python=$(find_python); then
        echo "setup: uv $uv_version into .tools/, with $("$python" -V)"
        rm -rf .tools/venv
        { "$python" -m venv .tools/venv &&
            .tools/venv/bin/python -m pip install -q --disable-pip-version-check "uv==$uv_version"; } \
            >"$log" 2>&1 ||
            fail "uv could not be installed ($(tail -n 1 "$log")): check the network, or PIP_INDEX_URL for a mirror, then run make again."
    elif command -v uv >/dev/null; then
        mkdir -p .tools/venv/bin
        ln -sf "$(command -v uv)" "$uv"
    else
        fail "no working python3 (>= 3.9, with venv) and no uv was found: install Python $python_version (apt install python$python_version-venv, dnf install python$python_version, brew install python@$python_version), then run make again."
    fi
}

make_venv() {
    .venv/bin/python -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$python_version')" \
        >/dev/null 2>&1 && return
    echo "setup: .venv with Python $python_version"
    # uv takes an installed one, else fetches one.
    "$uv" venv -q --clear --python "$python_version" .venv >"$log" 2>&1 ||
        fail "Python $python_version is not installed and uv could not fetch it: install it (apt install python$python_version-venv, dnf install python$python_version, brew install python@$python_version, pyenv install $python_version), then run make again."
}

"$uv" --version >/dev/null 2>&1 || install_uv
make_venv
echo "setup: the packages of requirements/dev.txt"
# Compiled now: where PYTHONDONTWRITEBYTECODE is set, every start of every process would do it again (3 s, not 1 s).
"$uv" pip sync --python .venv/bin/python --require-hashes --compile-bytecode requirements/dev.txt ||
    fail "the packages could not be installed (see above): check the network, or UV_INDEX_URL for a mirror, then run make again."
