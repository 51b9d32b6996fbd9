#!/usr/bin/env bash
# Makes .venv from requirements/cpu.lock, or gpu.lock where there is an NVIDIA GPU; does nothing where it is up to date.
# run_local.sh and run_tests.sh call it. An interrupted installation is completed by the next call: the stamp that marks
# .venv as finished is written last. Deleting .venv starts anew.
#
# Usage: scripts/setup_venv.sh [cpu | gpu]
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

# MiB of disk that .venv and its downloads take.
readonly cpu_mebibytes=2900 gpu_mebibytes=9400

say() { printf 'setup: %s\n' "$*" >&2; }

# is_python_311 COMMAND: whether it runs and is Python 3.11.
is_python_311() {
    "$1" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null
}

# find_python: prints the command of a Python 3.11 that can make virtual environments.
find_python() {
    local candidate
    for candidate in python3.11 python3 python; do
        is_python_311 "$candidate" || continue
        "$candidate" -c 'import ensurepip, venv' 2>/dev/null ||
            fail "$candidate cannot make virtual environments: ensurepip is missing." \
                "On Debian 12: sudo apt-get install python3.11-venv"
        echo "$candidate"
        return
    done
    fail "Python 3.11 was not found on PATH. On Debian 12: sudo apt-get install python3.11 python3.11-venv"
}

# check_disk MEBIBYTES: fails where the disk has less free than .venv still needs.
check_disk() {
    local needed="$1" there=0 free
    if [[ -d .venv ]]; then there="$(du --summarize --block-size=M .venv | grep -oE '^[0-9]+')"; fi
    free="$(df --output=avail --block-size=M . | grep -oE '[0-9]+')"
    ((free + there >= needed)) ||
        fail "the disk of $repo_root is too full: .venv needs $((needed - there)) MiB. Received: $free MiB free"
}

# make_venv VARIANT: an empty .venv with pip, unless one of the same variant is there. The two TensorFlow wheels write
# the same files, so another variant starts anew. A .venv without our mark is the user's own: it is added to.
make_venv() {
    local mark=.venv/trimflow-variant marked="$1" python
    if [[ -f "$mark" ]]; then
        marked="$(<"$mark")"
    elif [[ -x "$venv_python" ]] && ! is_python_311 "$venv_python"; then
        fail "$repo_root/.venv was not made by this script and is not of Python 3.11: move it away"
    fi
    if [[ "$marked" == "$1" ]] && "$venv_python" -m pip --version >/dev/null 2>&1; then
        say "completing .venv"
    else
        python="$(find_python)"
        say "making .venv with $("$python" --version)"
        "$python" -m venv --clear .venv || fail "$python could not make .venv; its message is above"
    fi
    echo "$1" >"$mark"
}

# install_packages VARIANT: all packages of the lock, wheels only, hashes checked. What pip says goes to a log, its
# downloads to the terminal as well.
install_packages() {
    local log=.venv/install.log
    "$venv_python" -m pip install --no-user --no-deps --only-binary :all: --require-hashes --no-input \
        --disable-pip-version-check --progress-bar off --requirement "requirements/$1.lock" 2>&1 | tee "$log" |
        sed --unbuffered --quiet --regexp-extended \
            -e 's#^ *(Downloading|Using cached) (.*/)?([^ /]+\.whl.* [MG]B.*)#setup:   \1 \3#p' \
            -e 's#^Installing collected packages.*#setup:   Installing (a minute or so)#p' >&2 || {
        grep '^ERROR' "$log" | tail -n 3 >&2 || true
        fail "pip could not install requirements/$1.lock: is the network down, a package index out of reach or the" \
            "disk full? All that pip said is in .venv/install.log; the next start goes on from here"
    }
}

main() {
    local variant="${1:-}"
    (($# <= 1)) || fail "at most one argument, cpu or gpu. Received: $*"
    if (($# == 0)); then variant="$(venv_variant "$(list_gpus)")"; fi
    [[ "$variant" == cpu || "$variant" == gpu ]] || fail "the argument must be cpu or gpu. Received: $variant"
    if is_venv_ready "$variant"; then return; fi

    cd -- "$repo_root"
    # One at a time: the others wait here and then find it done.
    exec 9>>.venv.lock
    if ! flock --nonblock 9; then
        say "waiting for another start that is making .venv"
        flock 9
    fi
    if is_venv_ready "$variant"; then return; fi

    local began=$SECONDS mebibytes="$cpu_mebibytes"
    if [[ "$variant" == gpu ]]; then mebibytes="$gpu_mebibytes"; fi
    check_disk "$mebibytes"
    say "installing TensorFlow ($variant build) and all else into .venv: up to $mebibytes MiB, a few minutes, only once"
    make_venv "$variant"
    install_packages "$variant"
    venv_stamp "$variant" >.venv/trimflow-stamp
    say "done in $((SECONDS - began)) s"
}

main "$@"
