#!/usr/bin/env bash
# Asks a vulnerability service about all packages of requirements/cpu.lock, and says what is known. It stops nobody: the
# exit code is 0 whatever comes of it. A pip-audit on PATH is used; else the one of requirements/audit.lock is installed
# for the time of the question.
#
# Usage: scripts/audit.sh [LOCK]
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

# Seconds that all of it may take.
readonly patience="${TRIMFLOW_AUDIT_SECONDS:-60}"

say() { printf 'audit: %s\n' "$*"; }

# left: how many of the seconds are left, at least one.
left() { echo $((SECONDS < patience ? patience - SECONDS : 1)); }

# find_tool: sets `tool` to the words of a pip-audit that can be run; fails where there is none and none can be installed.
find_tool() {
    if command -v pip-audit >/dev/null; then
        tool=(pip-audit)
        return
    fi
    tool=(env "PYTHONPATH=$work/packages" "$python" -m pip_audit)
    timeout "$(left)" "$python" -m pip install --quiet --no-input --disable-pip-version-check --no-deps \
        --only-binary :all: --require-hashes --requirement "$repo_root/requirements/audit.lock" \
        --target "$work/packages"
}

main() {
    local lock="${1:-$repo_root/requirements/cpu.lock}" python="$venv_python" tool=()
    if [[ ! -x "$python" ]]; then python=python3; fi
    work="$(mktemp -d)"
    trap 'rm -rf -- "$work"' EXIT
    if ! find_tool >"$work/log" 2>&1; then
        local reason
        reason="$(tail -n 1 "$work/log")"
        say "pip-audit cannot be installed, so nothing was looked up: ${reason:-not done within $patience s}"
        return
    fi
    # Its exit code is 1 for a known vulnerability and for an error alike: the answer tells.
    timeout "$(left)" "${tool[@]}" --requirement "$lock" --disable-pip --no-deps --progress-spinner off --timeout 10 \
        --format json --output "$work/answer.json" >"$work/log" 2>&1 || true
    "$python" "$repo_root/scripts/say_vulnerabilities.py" "$work/answer.json" "$work/log" "${lock##*/}" "$patience"
}

main "$@"
