#!/usr/bin/env bash
# Remakes requirements/cpu.lock and requirements/gpu.lock from pyproject.toml, and requirements/audit.lock, the tool of
# scripts/audit.sh: exact versions with hashes, for x86-64 Linux and Python 3.11. Needs the network. Versions already
# locked stay where they still fit; `--upgrade` takes the newest.
#
# Usage: scripts/update_locks.sh [--upgrade | --upgrade-package NAME]
set -euo pipefail

readonly uv_version=0.13.8 audit_version=2.10.1

CDPATH="" cd -- "$(dirname "${BASH_SOURCE[0]}")/.."
tools="$(mktemp -d)"
trap 'rm -rf "$tools"' EXIT
python3.11 -m venv "$tools"
"$tools/bin/python" -m pip install --quiet "uv==$uv_version"

# lock NAME ARGUMENTS...: makes requirements/NAME.lock of what uv is told in the arguments.
lock() {
    "$tools/bin/uv" pip compile --python-version 3.11 --python-platform x86_64-manylinux_2_28 --only-binary :all: \
        --generate-hashes --no-annotate --no-emit-index-url --no-emit-find-links --quiet \
        --custom-compile-command scripts/update_locks.sh --output-file "requirements/$1.lock" "${@:2}"
}

for variant in cpu gpu; do lock "$variant" pyproject.toml --extra "$variant" --extra dev "$@"; done
echo "pip-audit==$audit_version" >"$tools/audit.in"
lock audit "$tools/audit.in" "$@"
